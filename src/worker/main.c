/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-worker: serves one session of one VM (docs/worker.md). Here are the order in which it comes
 * up and its exit statuses; what it does is in control.c and below.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "worker/account.h"
#include "worker/control.h"
#include "worker/options.h"
#include "worker/probe.h"

/* Exit statuses. */
enum {
    EXIT_CLOSED = 0,    /* the mediator closed the socket: the end of the session */
    EXIT_SET_UP = 1,    /* never got as far as READY */
    EXIT_USAGE = 2,     /* the command line */
    EXIT_VIOLATION = 3, /* the mediator broke the rules (W7) */
    EXIT_PEER = 4,      /* the mediator does not read any more, or the system failed */
};

static const struct worker_backend {
    const struct vgpu_backend_ops *ops;
    enum vgpu_profile profile;
    bool on_host_memory; /* its device memory is the host's, so the host's has a bound */
} backends[] = {
    {&vgpu_backend_software, VGPU_PROFILE_SOFTWARE, true},
    {&vgpu_backend_cuda, VGPU_PROFILE_CUDA, false},
};
#define BACKEND_COUNT (sizeof(backends) / sizeof(backends[0]))

static const struct worker_backend *find_backend(const char *name)
{
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        if (!strcmp(backends[i].ops->name, name))
            return &backends[i];
    }
    fprintf(stderr, "vgpu-worker: backend '%s' is not known (known:", name);
    for (size_t i = 0; i < BACKEND_COUNT; i++)
        fprintf(stderr, " %s", backends[i].ops->name);
    fprintf(stderr, ")\n");
    return NULL;
}

static int probe(const struct vgpu_worker_options *o)
{
    const struct worker_backend *only = NULL;
    if (o->backend && !(only = find_backend(o->backend)))
        return EXIT_USAGE;
    int found = 0;
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        char why[256] = "no reason given";
        if (only && &backends[i] != only)
            continue;
        int usable = vgpu_probe(backends[i].ops, &o->config, stdout, why, sizeof(why));
        if (usable > 0)
            found++;
        else if (usable < 0)
            fprintf(stderr, "vgpu-worker: backend %s: %s\n", backends[i].ops->name, why);
    }
    return found && !fflush(stdout) ? 0 : EXIT_SET_UP;
}

/* Device memory, and as much again for what the blocks that run at a time take; a stack and what it
 * keeps for each thread; modules, stages, jobs and what the C library makes of them. Only a worker
 * that does what it should not comes near it. */
static uint64_t host_memory_bound(const struct vgpu_backend_ops *ops, struct vgpu_backend *backend)
{
    const uint64_t mib = 1u << 20, rest = 1024 * mib, thread = 16 * mib;
    struct vgpu_device_info info = {.name = ""};
    ops->device_info(backend, &info);
    uint64_t threads = thread * info.multiprocessors;
    uint64_t memory = info.total_memory_bytes;
    return memory < UINT64_MAX / 4 ? 2 * memory + threads + rest : 0;
}

static int fail_to_confine(const struct vgpu_worker_options *o, const char *what, int rc)
{
    vgpu_log(VGPU_LOG_ERROR, "confine", "vm=%u step=\"%s\" reason=\"%s\"", o->vm, what,
             strerror(-rc));
    return EXIT_SET_UP;
}

static void say_confinement(const struct vgpu_worker_options *o, const struct vgpu_confinement *c)
{
    if (!o->identity.given && geteuid() == 0)
        vgpu_log(VGPU_LOG_WARN, "confine", "vm=%u reason=\"runs as root: no --uid was given\"",
                 o->vm);
    if (!c->seccomp)
        vgpu_log(VGPU_LOG_WARN, "confine", "vm=%u reason=\"runs without seccomp: built so\"",
                 o->vm);
    /* With the tight profile seccomp keeps it from all files anyway. */
    bool fenced = c->landlock_abi || (c->seccomp && c->profile == VGPU_PROFILE_SOFTWARE);
    vgpu_log(fenced ? VGPU_LOG_DEBUG : VGPU_LOG_WARN, "confined",
             "vm=%u seccomp=%s landlock_abi=%d memory_limit_bytes=%llu", o->vm,
             c->seccomp ? "yes" : "no", c->landlock_abi, (unsigned long long)c->host_memory_bytes);
}

/* From the start to READY and the end of the session. Threads may be running a guest's kernel when
 * this returns, so what it answers goes to _exit. */
static int serve(const struct vgpu_worker_options *o, const struct worker_backend *chosen)
{
    const struct vgpu_backend_ops *ops = chosen->ops;
    const char *what = NULL;
    struct vgpu_confinement confinement = {.profile = chosen->profile, .identity = o->identity};
    struct vgpu_account *account = NULL;
    int rc = 0;
    /* Before all descriptors but the socket go: the mapping stays. */
    if (o->account_fd >= 0)
        rc = vgpu_account_open(o->account_fd, o->account_slot, o->config.memory_bytes, &account);
    if (rc) {
        vgpu_log(VGPU_LOG_ERROR, "account", "vm=%u fd=%d reason=\"%s\"", o->vm, o->account_fd,
                 strerror(-rc));
        return EXIT_SET_UP;
    }
    rc = vgpu_confine_early(o->fd, &confinement, &what);
    if (rc)
        return fail_to_confine(o, what, rc);
    /* The driver first, the privileges after: a driver may need them to find its device. */
    struct vgpu_backend *backend = NULL;
    char why[256] = "no reason given";
    CUresult status = ops->open(&o->config, &backend, why, sizeof(why));
    if (status != CUDA_SUCCESS) {
        char quoted[300];
        vgpu_log(VGPU_LOG_ERROR, "backend", "vm=%u backend=%s status=%d reason=%s", o->vm,
                 ops->name, (int)status, vgpu_log_quote(quoted, sizeof(quoted), why, strlen(why)));
        return EXIT_SET_UP;
    }
    struct vgpu_worker *worker;
    rc = vgpu_worker_create(&(struct vgpu_worker_config){.fd = VGPU_WORKER_FD,
                                                         .session_id = o->session,
                                                         .ops = ops,
                                                         .backend = backend,
                                                         .account = account,
                                                         .queue = o->queue},
                            &worker);
    if (rc) {
        vgpu_log(VGPU_LOG_ERROR, "start", "vm=%u reason=\"%s\"", o->vm, strerror(-rc));
        return EXIT_SET_UP;
    }
    if (chosen->on_host_memory)
        confinement.host_memory_bytes = host_memory_bound(ops, backend);
    rc = vgpu_confine(&confinement, &what);
    if (rc)
        return fail_to_confine(o, what, rc);
    say_confinement(o, &confinement);
    vgpu_log(VGPU_LOG_DEBUG, "ready", "vm=%u session=0x%llx backend=%s pid=%d", o->vm,
             (unsigned long long)o->session, ops->name, (int)getpid());
    rc = vgpu_worker_run(worker);
    if (!rc) {
        vgpu_log(VGPU_LOG_DEBUG, "closed", "vm=%u session=0x%llx", o->vm,
                 (unsigned long long)o->session);
        return EXIT_CLOSED;
    }
    vgpu_log(VGPU_LOG_ERROR, "end", "vm=%u session=0x%llx reason=\"%s\"", o->vm,
             (unsigned long long)o->session, strerror(-rc));
    return rc == -EPROTO ? EXIT_VIOLATION : EXIT_PEER;
}

int main(int argc, char **argv)
{
    struct vgpu_worker_options o;
    char why[256];
    if (vgpu_worker_options_parse(argc, argv, &o, why, sizeof(why))) {
        fprintf(stderr, "vgpu-worker: %s\n%s", why, vgpu_worker_usage());
        return EXIT_USAGE;
    }
    if (o.help || o.version) {
        if (o.help)
            fputs(vgpu_worker_usage(), stdout);
        else
            printf("vgpu-worker %s\n", VGPU_VERSION);
        return 0;
    }
    vgpu_log_open("vgpu-worker", o.log_level);
    if (o.probe)
        return probe(&o);
    const struct worker_backend *chosen = find_backend(o.backend);
    if (!chosen)
        return EXIT_USAGE;
    /* W6: no destructor, no joining of threads, nothing that a kernel could hold up. */
    _exit(serve(&o, chosen));
}
