/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running the probe; see probe.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "common/parse.h"
#include "mediator/launch.h"
#include "mediator/voice.h"

#define ANSWER_BYTES (64u << 10) /* of what it says, in all */
#define ACCOUNT      UINT64_MAX  /* in the ledger: nobody's number */

struct vgpu_probe {
    struct vgpu_mediator *mediator;
    void (*done)(struct vgpu_mediator *m, const struct vgpu_inventory *inventory);
    pid_t pid;
    struct vgpu_source answer; /* a pipe from its stdout; fd -1: closed */
    struct vgpu_voice voice;   /* its stderr */
    struct vgpu_timer timer;
    uint32_t bytes;
    struct vgpu_lines line;
    struct vgpu_inventory inventory;
};

static void complain(const char *reason)
{
    vgpu_log(VGPU_LOG_ERROR, "probe", "reason=\"%s\"", reason);
}

static void end_line(struct vgpu_probe *p)
{
    int rc =
        p->line.cut ? -EINVAL : vgpu_inventory_add(&p->inventory, p->line.text, p->line.length);
    if (p->line.length && rc)
        complain(rc == -ENOSPC ? "more GPUs than this mediator can tell apart"
                               : "a line of vgpu-worker --probe is not as it should be");
    p->line.length = 0;
    p->line.cut = false;
}

static void hang_up(struct vgpu_probe *p)
{
    vgpu_loop_remove(p->mediator->loop, &p->answer);
    vgpu_fd_close(&p->answer.fd);
}

/* Whether there may be more. */
static bool read_some(struct vgpu_probe *p)
{
    char bytes[4096];
    ssize_t n = p->answer.fd < 0 ? 0 : read(p->answer.fd, bytes, sizeof(bytes));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0 || p->bytes + (uint32_t)n > ANSWER_BYTES) {
        hang_up(p);
        return false;
    }
    p->bytes += (uint32_t)n;
    for (size_t at = 0; at < (size_t)n;) {
        bool whole;
        at += vgpu_lines_take(&p->line, bytes + at, (size_t)n - at, &whole);
        if (whole)
            end_line(p);
    }
    return true;
}

static void on_answer(struct vgpu_source *source, uint32_t events)
{
    (void)events;
    read_some(vgpu_list_entry(source, struct vgpu_probe, answer));
}

static void on_timer(struct vgpu_timer *timer)
{
    struct vgpu_probe *p = vgpu_list_entry(timer, struct vgpu_probe, timer);
    complain("vgpu-worker --probe does not end: it is killed (start_ms)");
    kill(p->pid, SIGKILL); /* not reaped yet, so the pid is still its own */
}

static void log_gpu(const struct vgpu_found_gpu *g)
{
    char uuid[VGPU_UUID_TEXT] = "none", name[80], why[200];
    if (g->has_uuid)
        vgpu_uuid_write(uuid, g->uuid);
    vgpu_log(g->unusable[0] ? VGPU_LOG_WARN : VGPU_LOG_INFO, "gpu",
             "backend=%s index=%u uuid=%s name=%s memory_mib=%llu usable=%s reason=%s", g->backend,
             g->ordinal, uuid, vgpu_log_quote(name, sizeof(name), g->name, strlen(g->name)),
             (unsigned long long)(g->memory_bytes >> 20), g->unusable[0] ? "no" : "yes",
             vgpu_log_quote(why, sizeof(why), g->unusable, strlen(g->unusable)));
}

static void free_probe(struct vgpu_probe *p)
{
    vgpu_loop_timer_cancel(p->mediator->loop, &p->timer);
    hang_up(p);
    vgpu_voice_close(&p->voice);
    p->mediator->probe = NULL;
    free(p);
}

void vgpu_probe_gone(struct vgpu_mediator *m, pid_t pid, int status)
{
    struct vgpu_probe *p = m->probe;
    if (!p || p->pid != pid)
        return;
    while (read_some(p))
        ;
    end_line(p);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        char how[96];
        snprintf(how, sizeof(how), "vgpu-worker --probe %s %d",
                 WIFSIGNALED(status) ? "was killed by signal" : "exited with status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        complain(how);
    }
    struct vgpu_inventory inventory = p->inventory;
    void (*done)(struct vgpu_mediator *, const struct vgpu_inventory *) = p->done;
    free_probe(p);
    for (uint32_t i = 0; i < inventory.count; i++)
        log_gpu(&inventory.gpus[i]);
    done(m, &inventory);
}

void vgpu_probe_abandon(struct vgpu_mediator *m)
{
    if (!m->probe)
        return;
    kill(m->probe->pid, SIGKILL);
    free_probe(m->probe);
}

int vgpu_probe_start(struct vgpu_mediator *m, uint32_t limit_ms,
                     void (*done)(struct vgpu_mediator *m, const struct vgpu_inventory *inventory))
{
    int fds[2] = {-1, -1}, err = -1;
    struct vgpu_probe *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->mediator = m;
    p->done = done;
    p->timer.call = on_timer;
    p->answer.call = on_answer;
    p->answer.fd = p->voice.source.fd = -1;
    p->voice.mediator = m;
    int rc = pipe2(fds, O_CLOEXEC) ? -errno : vgpu_fd_set_nonblock(fds[0]);
    p->answer.fd = fds[0];
    if (!rc)
        rc = vgpu_loop_add(m->loop, &p->answer, EPOLLIN);
    if (!rc)
        rc = vgpu_voice_open(&p->voice, m, ACCOUNT, &err);
    if (!rc)
        rc = vgpu_launch_probe(m, fds[1], err, &p->pid);
    vgpu_fd_close(&fds[1]);
    vgpu_fd_close(&err);
    if (rc) {
        free_probe(p);
        return rc;
    }
    snprintf(p->voice.who, sizeof(p->voice.who), "probe=yes pid=%d", (int)p->pid);
    vgpu_loop_timer_set(m->loop, &p->timer, vgpu_loop_now(m->loop) + limit_ms * VGPU_NS_PER_MS);
    m->probe = p;
    return 0;
}
