/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a process's stderr; see voice.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/voice.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"

#define READ_BYTES   4096u
#define WINDOW_NS    (100 * VGPU_NS_PER_MS)
#define WINDOW_BYTES (4 * READ_BYTES) /* in that time; who says more waits for its next turn */
#define LAST_BYTES   (64u << 10)      /* what a pipe holds, read when its writer has gone */
#define QUOTED_BYTES (VGPU_LINE_BYTES + 200u)

static void write_out(struct vgpu_voice *v, const struct vgpu_lines *line)
{
    enum vgpu_log_level level;
    char quoted[QUOTED_BYTES];
    size_t at = vgpu_lines_message(line->text, line->length, &level);
    vgpu_log(level, "worker-says", "%s line=%s cut=%s suppressed=%llu", v->who,
             vgpu_log_quote(quoted, sizeof(quoted), line->text + at, line->length - at),
             line->cut ? "yes" : "no", (unsigned long long)v->suppressed);
    v->suppressed = 0;
    v->last.length = 0;
}

static void end_line(struct vgpu_voice *v)
{
    struct vgpu_mediator *m = v->mediator;
    enum vgpu_log_level level;
    vgpu_lines_message(v->line.text, v->line.length, &level);
    if (v->line.length && vgpu_log_enabled(level)) {
        if (vgpu_ledger_say(&m->ledger, v->account, vgpu_loop_now(m->loop))) {
            write_out(v, &v->line);
        } else {
            v->suppressed++;
            v->last = v->line;
        }
    }
    v->line.length = 0;
    v->line.cut = false;
}

static void hear(struct vgpu_voice *v, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        bool whole;
        at += vgpu_lines_take(&v->line, bytes + at, size - at, &whole);
        if (whole)
            end_line(v);
    }
}

/* The bytes of one read, 0 at the end, or a negative errno. */
static ssize_t read_some(struct vgpu_voice *v)
{
    char bytes[READ_BYTES];
    ssize_t n = read(v->source.fd, bytes, sizeof(bytes));
    if (n < 0)
        return -errno;
    hear(v, bytes, (size_t)n);
    return n;
}

static void hang_up(struct vgpu_voice *v)
{
    vgpu_loop_timer_cancel(v->mediator->loop, &v->rest);
    vgpu_loop_remove(v->mediator->loop, &v->source);
    vgpu_fd_close(&v->source.fd);
}

static void on_event(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_voice *v = vgpu_list_entry(source, struct vgpu_voice, source);
    struct vgpu_loop *loop = v->mediator->loop;
    (void)events;
    ssize_t n = read_some(v);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n <= 0) {
        hang_up(v);
        return;
    }
    uint64_t now = vgpu_loop_now(loop);
    if (now - v->window_ns >= WINDOW_NS) {
        v->window_ns = now;
        v->window_bytes = 0;
    }
    v->window_bytes += (uint32_t)n;
    if (v->window_bytes < WINDOW_BYTES)
        return;
    /* It is its own time that it loses when the pipe is full. */
    if (!vgpu_loop_timer_set(loop, &v->rest, v->window_ns + WINDOW_NS))
        vgpu_loop_remove(loop, source);
}

static void on_rest(struct vgpu_timer *timer)
{
    struct vgpu_voice *v = vgpu_list_entry(timer, struct vgpu_voice, rest);
    struct vgpu_loop *loop = v->mediator->loop;
    if (vgpu_loop_add(loop, &v->source, EPOLLIN))
        vgpu_loop_timer_set(loop, &v->rest, vgpu_loop_now(loop) + WINDOW_NS);
}

int vgpu_voice_open(struct vgpu_voice *v, struct vgpu_mediator *m, uint64_t account, int *write_fd)
{
    int fds[2];
    *write_fd = -1;
    v->mediator = m;
    v->account = account;
    v->source.fd = -1;
    v->source.call = on_event;
    v->rest.call = on_rest;
    if (pipe2(fds, O_CLOEXEC))
        return -errno;
    v->source.fd = fds[0];
    /* Only our end: a program does not expect a stderr that says EAGAIN. */
    int rc = vgpu_fd_set_nonblock(fds[0]);
    if (!rc)
        rc = vgpu_loop_add(m->loop, &v->source, EPOLLIN);
    if (rc) {
        vgpu_fd_close(&v->source.fd);
        vgpu_fd_close(&fds[1]);
        return rc;
    }
    *write_fd = fds[1];
    return 0;
}

void vgpu_voice_close(struct vgpu_voice *v)
{
    for (size_t left = LAST_BYTES; v->source.fd >= 0 && left;) {
        ssize_t n = read_some(v);
        if (n <= 0)
            break;
        left = (size_t)n < left ? left - (size_t)n : 0;
    }
    hang_up(v);
    end_line(v);
    /* What it said last is logged whatever it said before: it may be why it is gone. How many
     * processes there are is bounded elsewhere. */
    if (v->last.length)
        write_out(v, &v->last);
}
