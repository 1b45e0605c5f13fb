/* SPDX-License-Identifier: GPL-2.0-or-later */
/* posix_spawn of a worker; see launch.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/net.h"
#include "common/parse.h"
#include "config.h"

/* Where a worker finds what it was given (docs/worker.md); 0 to 2 are as usual. */
enum { WORKER_FD = 3, ACCOUNT_FD = 4, GIVEN = 5 };

#define PAGEABLE         "--allow-pageable-access"
#define DEFAULT_UID_BASE 1900000000u /* a range that neither distributions nor systemd hand out */
#define NOBODY_UID       65534u

char *vgpu_launch_find_worker(const char *said, char *why)
{
    char own[PATH_MAX], beside[PATH_MAX + 64] = "";
    if (said) {
        if (!access(said, X_OK))
            return strdup(said);
        snprintf(why, 512, "cannot run the worker %.400s: %s", said, strerror(errno));
        return NULL;
    }
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (n > 0) {
        own[n] = 0;
        char *slash = strrchr(own, '/');
        if (slash)
            *slash = 0;
        snprintf(beside, sizeof(beside), "%s/../worker/vgpu-worker", own);
        if (!access(beside, X_OK))
            return realpath(beside, NULL);
    }
    if (!access(VGPU_LIBEXECDIR "/vgpu-worker", X_OK))
        return strdup(VGPU_LIBEXECDIR "/vgpu-worker");
    snprintf(why, 512, "cannot find vgpu-worker, neither as %.200s nor as %s: give --worker PATH",
             beside, VGPU_LIBEXECDIR "/vgpu-worker");
    return NULL;
}

/* Whether this user namespace has the uids from first to last. */
static bool uids_are_mapped(uint32_t first, uint32_t last)
{
    FILE *f = fopen("/proc/self/uid_map", "re");
    if (!f)
        return true; /* no user namespaces here */
    bool found = false;
    char line[128];
    while (!found && fgets(line, sizeof(line), f)) {
        uint32_t inside, outside, count;
        if (sscanf(line, "%" SCNu32 " %" SCNu32 " %" SCNu32, &inside, &outside, &count) == 3)
            found = first >= inside && (uint64_t)last < (uint64_t)inside + count;
    }
    fclose(f);
    return found;
}

int vgpu_launch_decide_uids(struct vgpu_mediator *m, char *why)
{
    const struct vgpu_settings *s = m->settings;
    m->root = geteuid() == 0;
    m->uid_base = s->has_worker_uid_base ? s->worker_uid_base : DEFAULT_UID_BASE;
    if (!m->root || uids_are_mapped(m->uid_base, m->uid_base + m->slot_count - 1))
        return 0;
    if (s->has_worker_uid_base) {
        snprintf(why, 512, "worker_uid_base = %u: this user namespace has no uids %u to %u",
                 m->uid_base, m->uid_base, m->uid_base + m->slot_count - 1);
        return -EINVAL;
    }
    m->one_uid = true;
    vgpu_log(VGPU_LOG_WARN, "worker-uid",
             "uid=%u reason=\"this user namespace has no range for workers: all share one uid; "
             "set worker_uid_base\"",
             NOBODY_UID);
    return 0;
}

static uint32_t tenant_uid(const struct vgpu_mediator *m, const struct vgpu_tenant *tenant)
{
    if (tenant->uid != VGPU_SETTINGS_NO_UID)
        return tenant->uid;
    return m->one_uid ? NOBODY_UID : m->uid_base + tenant->slot;
}

/* Descriptors that a process is to have as 0 to 4; -1: none (in: /dev/null, out: as err). */
struct vgpu_launch {
    int in, out, err, socket, account;
};

struct arguments {
    char *list[32];
    char numbers[12][24];
    char uuid[VGPU_UUID_TEXT];
    char pageable[sizeof(PAGEABLE)];
    unsigned count, number_count;
};

static void add(struct arguments *a, const char *name, const char *value)
{
    /* posix_spawn takes char *const[] and does not write through it. */
    a->list[a->count++] = (char *)(uintptr_t)name;
    a->list[a->count++] = (char *)(uintptr_t)value;
}

static void add_number(struct arguments *a, const char *name, uint64_t value)
{
    char *text = a->numbers[a->number_count++];
    snprintf(text, sizeof(a->numbers[0]), "%" PRIu64, value);
    add(a, name, text);
}

/* As the configuration named it; the one that was found for it, when it named none. */
static void add_gpu(struct arguments *a, const struct vgpu_gpu_setting *gpu)
{
    if (!gpu->by_uuid) {
        add_number(a, "--gpu", gpu->ordinal);
        return;
    }
    vgpu_uuid_write(a->uuid, gpu->uuid);
    add(a, "--gpu", a->uuid);
}

static void make_arguments(struct vgpu_mediator *m, const struct vgpu_tenant *tenant,
                           uint64_t session_id, uint32_t slot, struct arguments *a)
{
    const struct vgpu_gpu *gpu = &m->gpus[tenant->seat->gpu];
    memset(a, 0, sizeof(*a));
    memcpy(a->pageable, PAGEABLE, sizeof(PAGEABLE));
    a->list[a->count++] = m->worker_path;
    add(a, "--fd", "3");
    add_number(a, "--vm", tenant->vm_id);
    add_number(a, "--session", session_id);
    add(a, "--backend", vgpu_backend_name(gpu->setting.backend));
    if (gpu->setting.backend == VGPU_GPU_CUDA)
        add_gpu(a, &gpu->setting);
    if (gpu->setting.backend == VGPU_GPU_CUDA && m->settings->allow_pageable_access)
        a->list[a->count++] = a->pageable;
    add_number(a, "--memory", tenant->seat->quota->quota_bytes);
    add_number(a, "--account-fd", ACCOUNT_FD);
    add_number(a, "--account-slot", slot);
    add_number(a, "--queue", tenant->queue);
    if (gpu->threads)
        add_number(a, "--threads", gpu->threads);
    if (gpu->launch_instructions && gpu->setting.backend == VGPU_GPU_SOFTWARE)
        add_number(a, "--launch-instructions", gpu->launch_instructions);
    if (m->root) {
        add_number(a, "--uid", tenant_uid(m, tenant));
        add_number(a, "--gid", tenant_uid(m, tenant));
    }
    add(a, "--log-level", vgpu_log_level_name(m->settings->log_level));
}

/* What a worker needs to run and to say what went wrong; the rest of ours is not a guest's. */
static bool is_for_workers(const char *variable)
{
    static const char *const names[] = {"PATH", "LANG", "LANGUAGE", "TMPDIR"};
    size_t length = strcspn(variable, "=");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (length == strlen(names[i]) && !strncmp(variable, names[i], length))
            return true;
    static const char options[] = "SAN_OPTIONS";
    return !strncmp(variable, "LC_", 3) ||
           (length >= sizeof(options) - 1 &&
            !strncmp(variable + length - (sizeof(options) - 1), options, sizeof(options) - 1));
}

/* NULL: no memory. */
static char **make_environment(void)
{
    size_t count = 0, kept = 0;
    while (environ[count])
        count++;
    char **list = calloc(count + 1, sizeof(*list));
    for (size_t i = 0; list && i < count; i++)
        if (is_for_workers(environ[i]))
            list[kept++] = environ[i];
    return list;
}

/* Copies above what the process is given: a dup2 onto itself would leave close-on-exec set, and one
 * onto another source would lose that. */
static int lift(const struct vgpu_launch *l, int from[GIVEN])
{
    const int given[GIVEN] = {l->in, l->out, l->err, l->socket, l->account};
    int rc = 0;
    for (unsigned i = 0; i < GIVEN; i++) {
        from[i] = -1;
        if (rc || given[i] < 0)
            continue;
        from[i] = fcntl(given[i], F_DUPFD_CLOEXEC, GIVEN);
        if (from[i] < 0)
            rc = -errno;
    }
    return rc;
}

static int add_files(posix_spawn_file_actions_t *actions, const int from[GIVEN])
{
    int rc = 0;
    if (from[STDIN_FILENO] < 0)
        rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!rc && from[STDOUT_FILENO] < 0)
        rc = posix_spawn_file_actions_adddup2(actions, from[STDERR_FILENO], STDOUT_FILENO);
    for (int i = 0; !rc && i < GIVEN; i++)
        if (from[i] >= 0)
            rc = posix_spawn_file_actions_adddup2(actions, from[i], i);
    return rc;
}

/* Everything else that is open here is close-on-exec. Its own process group: a ^C in the terminal
 * is for the mediator, which then ends its workers in order. */
static int add_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    int rc = posix_spawnattr_setsigmask(attributes, &none);
    if (!rc)
        rc = posix_spawnattr_setsigdefault(attributes, &all);
    if (!rc)
        rc = posix_spawnattr_setpgroup(attributes, 0);
    if (!rc)
        rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                      POSIX_SPAWN_SETPGROUP);
    return rc;
}

static int spawn(const char *path, char *const *list, const int from[GIVEN], pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char **environment = make_environment();
    if (!environment)
        return -ENOMEM;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc)
        goto no_actions;
    rc = posix_spawnattr_init(&attributes);
    if (rc)
        goto no_attributes;
    rc = add_files(&actions, from);
    if (!rc)
        rc = add_attributes(&attributes);
    if (!rc)
        rc = posix_spawn(pid, path, &actions, &attributes, list, environment);
    posix_spawnattr_destroy(&attributes);
no_attributes:
    posix_spawn_file_actions_destroy(&actions);
no_actions:
    free(environment);
    return -rc;
}

static int launch(struct vgpu_mediator *m, char *const *list, const struct vgpu_launch *l,
                  pid_t *pid)
{
    int from[GIVEN];
    int rc = lift(l, from);
    /* What a driver makes of a very high limit is not known: it gets the one that we were given. */
    struct rlimit own, first;
    bool limited = !getrlimit(RLIMIT_NOFILE, &own) && own.rlim_cur != m->files_soft;
    if (limited) {
        first = (struct rlimit){.rlim_cur = m->files_soft, .rlim_max = own.rlim_max};
        limited = !setrlimit(RLIMIT_NOFILE, &first);
    }
    if (!rc)
        rc = spawn(m->worker_path, list, from, pid);
    if (limited)
        setrlimit(RLIMIT_NOFILE, &own);
    for (unsigned i = 0; i < GIVEN; i++)
        vgpu_fd_close(&from[i]);
    return rc;
}

int vgpu_launch_worker(struct vgpu_mediator *m, const struct vgpu_tenant *tenant,
                       uint64_t session_id, uint32_t slot, int socket, int err, pid_t *pid)
{
    struct arguments a;
    make_arguments(m, tenant, session_id, slot, &a);
    struct vgpu_launch l = {
        .out = -1, .err = err, .socket = socket, .account = tenant->seat->quota->fd};
    int rc = vgpu_lock_share(m->watch_lock.fd >= 0 ? &m->watch_lock : &m->listen_lock, &l.in);
    if (rc)
        return rc;
    rc = launch(m, a.list, &l, pid);
    vgpu_fd_close(&l.in);
    return rc;
}

int vgpu_launch_probe(struct vgpu_mediator *m, int out, int err, pid_t *pid)
{
    char probe[] = "--probe", pageable[] = PAGEABLE;
    char *const list[] = {m->worker_path, probe,
                          m->settings->allow_pageable_access ? pageable : NULL, NULL};
    return launch(
        m, list,
        &(struct vgpu_launch){.in = -1, .out = out, .err = err, .socket = -1, .account = -1}, pid);
}
