/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Puts the parts together, runs them, takes them apart; see mediator.h. Signals are here. */
#include "mediator/mediator.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "common/notify.h"
#include "config.h"
#include "mediator/broker.h"
#include "mediator/control.h"
#include "mediator/daemon.h"
#include "mediator/endpoint.h"
#include "mediator/events.h"
#include "mediator/launch.h"
#include "mediator/link.h"
#include "mediator/local.h"
#include "mediator/policy.h"
#include "mediator/pools.h"
#include "mediator/probe.h"
#include "mediator/stats.h"
#include "mediator/watch.h"
#include "mediator/worker.h"

#define STOP_LIMIT_NS (5 * VGPU_NS_PER_S) /* for workers to end; then we go without them */
#define LOCK_WAIT_MS  5000                /* for another mediator's workers to end */

struct daemon {
    struct vgpu_mediator m;
    struct vgpu_source signals;
    const struct vgpu_daemon_options *options;
    bool serving; /* all is up; false: it is not known yet what GPUs there are */
    int failure;  /* why it could not get up, as a negative errno, with a text in why */
    char *why;
};

/* --- leases --- */

void vgpu_mediator_schedule(struct vgpu_mediator *m)
{
    vgpu_leases_run(m->leases, vgpu_loop_now(m->loop));
    vgpu_loop_timer_set(m->loop, &m->lease_timer,
                        vgpu_leases_deadline(m->leases, vgpu_loop_now(m->loop)));
}

static void on_lease_timer(struct vgpu_timer *timer)
{
    vgpu_mediator_schedule(vgpu_list_entry(timer, struct vgpu_mediator, lease_timer));
}

static struct vgpu_sched_config sched_config(const struct vgpu_mediator *m)
{
    struct vgpu_sched_config config = {
        .tenants = VGPU_SEATS * m->slot_count,
        .gpus = m->gpu_room,
        .mode = m->settings->mode,
        .slots = m->settings->leases,
        .quantum_ns = m->settings->quantum_ms * VGPU_NS_PER_MS,
        .watchdog_ns = m->settings->watchdog_ms * VGPU_NS_PER_MS,
        .aging_ns = m->settings->aging_ms * VGPU_NS_PER_MS,
        .linger_ns = m->settings->linger_us * VGPU_NS_PER_US,
    };
    memcpy(config.factor, m->settings->factor, sizeof(config.factor));
    return config;
}

/* --- the end --- */

void vgpu_mediator_stop_if_done(struct vgpu_mediator *m)
{
    if (m->stopping && vgpu_list_empty(&m->links) && vgpu_list_empty(&m->workers))
        vgpu_loop_stop(m->loop);
}

static void on_stop_limit(struct vgpu_timer *timer)
{
    struct vgpu_mediator *m = vgpu_list_entry(timer, struct vgpu_mediator, stop_timer);
    vgpu_log(VGPU_LOG_ERROR, "stop", "reason=\"workers are left that do not die\"");
    vgpu_loop_stop(m->loop);
}

void vgpu_mediator_stop(struct vgpu_mediator *m, const char *why)
{
    if (m->stopping)
        return;
    m->stopping = true;
    vgpu_log(VGPU_LOG_INFO, "stopping", "reason=\"%s\"", why);
    vgpu_notify("STOPPING=1");
    vgpu_control_close(m);
    vgpu_local_close(m);
    vgpu_watch_free_all(m);
    vgpu_list_each(node, &m->links)
    {
        vgpu_link_close(vgpu_list_entry(node, struct vgpu_link, node), VGPU_LINK_STOPPED,
                        "the mediator ends");
    }
    m->stop_timer.call = on_stop_limit;
    vgpu_loop_timer_set(m->loop, &m->stop_timer, vgpu_loop_now(m->loop) + STOP_LIMIT_NS);
    vgpu_mediator_stop_if_done(m);
}

/* --- configuration --- */

/* A [vm] section's socket is dialled as long as the mediator lives. One that cannot be is no reason
 * to leave out those behind it: why says which was the first. */
static int dial_configured(struct vgpu_mediator *m, const struct vgpu_settings *known, char *why)
{
    int rc = 0;
    for (uint32_t i = 0; i < m->settings->vm_count; i++) {
        const struct vgpu_vm_setting *vm = &m->settings->vms[i];
        const struct vgpu_vm_setting *old = known ? vgpu_settings_vm(known, vm->key) : NULL;
        if (!vm->socket || (old && old->socket && !strcmp(old->socket, vm->socket)))
            continue;
        char directory[PATH_MAX];
        snprintf(directory, sizeof(directory), "%s", vm->socket);
        char *slash = strrchr(directory, '/'); /* the settings insist on one */
        *slash = 0;
        if (!slash[1] || !vgpu_endpoint_create(m, vm->key, slash == directory ? "/" : directory,
                                               slash + 1, -1, VGPU_CONFIGURED)) {
            if (!rc)
                snprintf(why, 512, "[vm %u] cannot use the socket %.300s", vm->key, vm->socket);
            rc = -EINVAL;
        }
    }
    return rc;
}

static bool same_text(const char *a, const char *b)
{
    return !a == !b && (!a || !strcmp(a, b));
}

static void swap(char **a, char **b)
{
    char *text = *a;
    *a = *b;
    *b = text;
}

/* What was fixed at the start stays as it was, and the log says so. */
static void keep_fixed(struct vgpu_settings *fresh, struct vgpu_settings *old)
{
    bool same_listen =
        !fresh->listen == !old->listen && (!fresh->listen || !strcmp(fresh->listen, old->listen));
    bool same_watch = true;
    for (uint32_t i = 0; i < fresh->watch_count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < old->watch_count; j++)
            found |= !strcmp(fresh->watch[i], old->watch[j]);
        same_watch &= found;
    }
    bool same_worker = !fresh->worker || (old->worker && !strcmp(fresh->worker, old->worker));
    bool same_pools = true;
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        const struct vgpu_pool_setting *a = &fresh->pools[p], *b = &old->pools[p];
        same_pools &= vgpu_settings_same_pool(a, b);
    }
    bool same_control = same_text(fresh->control, old->control) &&
                        same_text(fresh->registry, old->registry) &&
                        same_text(fresh->admin_group, old->admin_group);
    if ((fresh->listen && !same_listen) || !same_control || !same_watch || !same_pools ||
        !same_worker || fresh->max_vms != old->max_vms ||
        fresh->has_worker_uid_base != old->has_worker_uid_base ||
        fresh->worker_uid_base != old->worker_uid_base || fresh->mode != old->mode)
        vgpu_log(VGPU_LOG_WARN, "reload",
                 "reason=\"listen, watch, control, registry, admin_group, pools, max_vms, worker, "
                 "worker_uid_base and mode change only when the mediator starts again\"");
    swap(&fresh->listen, &old->listen);
    swap(&fresh->worker, &old->worker);
    swap(&fresh->control, &old->control);
    swap(&fresh->registry, &old->registry);
    swap(&fresh->admin_group, &old->admin_group);
    memcpy(fresh->pools, old->pools, sizeof(fresh->pools));
    fresh->max_vms = old->max_vms;
    fresh->mode = old->mode;
    fresh->has_worker_uid_base = old->has_worker_uid_base;
    fresh->worker_uid_base = old->worker_uid_base;
}

static void reload(struct daemon *d)
{
    struct vgpu_mediator *m = &d->m;
    char error[VGPU_SETTINGS_ERROR], quoted[600];
    if (!d->options->config_path) {
        vgpu_log(VGPU_LOG_WARN, "reload", "reason=\"there is no configuration file\"");
        return;
    }
    if (!d->serving) {
        vgpu_log(VGPU_LOG_WARN, "reload", "reason=\"still starting: ask again when it is ready\"");
        return;
    }
    struct vgpu_settings *fresh = vgpu_settings_load(d->options->config_path, error);
    if (!fresh) {
        vgpu_log(VGPU_LOG_ERROR, "reload", "reason=%s kept=old",
                 vgpu_log_quote(quoted, sizeof(quoted), error, strlen(error)));
        return;
    }
    struct vgpu_settings *old = m->settings;
    if (vgpu_policy_overlay(m, fresh)) {
        vgpu_log(VGPU_LOG_ERROR, "reload", "reason=\"out of memory\" kept=old");
        vgpu_settings_free(fresh);
        return;
    }
    if (d->options->log_level_said)
        fresh->log_level = old->log_level;
    keep_fixed(fresh, old);
    m->settings = fresh;
    vgpu_log_set_level(fresh->log_level);
    vgpu_log_set_format(fresh->log_format);
    struct vgpu_sched_config config = sched_config(m);
    (void)vgpu_leases_configure(m->leases, &config, vgpu_loop_now(m->loop));
    if (dial_configured(m, old, error))
        vgpu_log(VGPU_LOG_ERROR, "reload", "reason=%s",
                 vgpu_log_quote(quoted, sizeof(quoted), error, strlen(error)));
    vgpu_settings_free(old);
    vgpu_log(VGPU_LOG_INFO, "reload", "vms=%u locals=%u", fresh->vm_count, fresh->local_count);
    vgpu_events_add(m->events, "reload", VGPU_EVENT_NO_VM, VGPU_EVENT_NONE,
                    "the configuration file was read again");
    vgpu_broker_apply_settings(m);
}

/* --- signals --- */

static void on_signal(struct vgpu_source *source, uint32_t events)
{
    struct daemon *d = vgpu_list_entry(source, struct daemon, signals);
    struct signalfd_siginfo info;
    (void)events;
    while (read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            vgpu_worker_reap(&d->m);
            break;
        case SIGHUP:
            reload(d);
            break;
        case SIGUSR1:
            vgpu_broker_log_status(&d->m);
            break;
        default:
            vgpu_mediator_stop(&d->m, info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        }
    }
}

static int catch_signals(struct daemon *d)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would reap behind our back */
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return -errno;
    d->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (d->signals.fd < 0)
        return -errno;
    d->signals.call = on_signal;
    return vgpu_loop_add(d->m.loop, &d->signals, EPOLLIN);
}

/* --- limits and locks --- */

/* Every VM costs descriptors, and the usual soft limit of 1024 is for programs that use select. */
static void raise_limits(struct vgpu_mediator *m)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    m->files_soft = m->files_limit = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        vgpu_log(VGPU_LOG_WARN, "limits", "reason=\"%s\"", strerror(errno));
    else
        m->files_limit = limit.rlim_max;
}

/* One that cannot be made (a read-only or a stranger's directory) costs the guard, not the service.
 */
static int take_lock(struct vgpu_lock *lock, const char *path, const char *held, bool needed,
                     char *why)
{
    char quoted[600];
    int rc = vgpu_lock_take(lock, path, held, LOCK_WAIT_MS, why);
    if (!rc || rc == -EBUSY || needed)
        return rc;
    if (rc == -ENOENT || rc == -ENOTDIR) /* who watches the directory says so */
        return 0;
    vgpu_log(VGPU_LOG_WARN, "no-lock", "reason=%s",
             vgpu_log_quote(quoted, sizeof(quoted), why, strlen(why)));
    return 0;
}

/* Workers of a mediator that was killed may still have a GPU: nothing begins before they end. */
static int take_locks(struct vgpu_mediator *m, char *why)
{
    char path[PATH_MAX];
    const struct vgpu_settings *s = m->settings;
    int rc = 0;
    if (s->watch_count) {
        snprintf(path, sizeof(path), "%s/vgpu-mediator.lock", s->watch[0]);
        rc = take_lock(&m->watch_lock, path, s->watch[0], false, why);
    }
    if (!rc && s->listen) {
        snprintf(path, sizeof(path), "%s.lock", s->listen);
        rc = take_lock(&m->listen_lock, path, s->listen, true, why);
    }
    if (!rc && s->control) {
        snprintf(path, sizeof(path), "%s.lock", s->control);
        rc = take_lock(&m->control_lock, path, s->control, true, why);
    }
    return rc;
}

/* --- the whole --- */

/* What can be said before it is known what GPUs there are. */
static int prepare(struct daemon *d, char *why)
{
    struct vgpu_mediator *m = &d->m;
    int rc;
    raise_limits(m);
    m->loop = vgpu_loop_create();
    m->tenants = calloc(m->slot_count, sizeof(*m->tenants));
    /* Twice as many as can be there: who left is remembered for a while. */
    m->stats = vgpu_stats_create(2 * m->slot_count);
    if (!m->loop || !m->tenants || !m->stats) {
        snprintf(why, 512, "cannot make the event loop: %s", strerror(errno));
        return -ENOMEM;
    }
    m->worker_path = vgpu_launch_find_worker(m->settings->worker, why);
    if (!m->worker_path)
        return -ENOENT;
    rc = vgpu_launch_decide_uids(m, why);
    if (rc)
        return rc;
    m->lease_timer.call = on_lease_timer;
    /* Before signals are ours: one that comes while this waits simply ends us. */
    rc = take_locks(m, why);
    if (rc)
        return rc;
    rc = vgpu_policy_open(m, why);
    if (rc)
        return rc;
    rc = catch_signals(d);
    if (rc)
        snprintf(why, 512, "cannot catch signals: %s", strerror(-rc));
    return rc;
}

/* Lets VMs and local clients in. */
static int serve(struct daemon *d, const struct vgpu_inventory *inventory, char *why)
{
    struct vgpu_mediator *m = &d->m;
    int rc;
    vgpu_pools_make(m, inventory);
    struct vgpu_sched_config config = sched_config(m);
    m->leases = vgpu_leases_create(&config, &vgpu_worker_lease_ops);
    if (!m->leases) {
        snprintf(why, 512, "out of memory");
        return -ENOMEM;
    }
    vgpu_leases_count(m->leases, m->stats);
    rc = vgpu_policy_serve(m, why);
    if (rc)
        return rc;
    d->serving = true;
    if (m->settings->control) {
        rc = vgpu_control_listen(m, why);
        if (rc)
            return rc;
    }
    if (m->settings->listen) {
        rc = vgpu_local_listen(m, why);
        if (rc)
            return rc;
    }
    for (uint32_t i = 0; i < m->settings->watch_count; i++) {
        rc = vgpu_watch_add(m, i, m->settings->watch[i]);
        if (rc) {
            snprintf(why, 512, "cannot watch the directory %.300s: %s%s", m->settings->watch[i],
                     strerror(-rc), rc == -ENOENT ? " (make it first)" : "");
            return rc;
        }
    }
    return dial_configured(m, NULL, why);
}

static void tell_ready(struct daemon *d)
{
    struct vgpu_mediator *m = &d->m;
    char pools[2 * VGPU_POOL_COUNT], worker[300];
    vgpu_events_add(m->events, "started", VGPU_EVENT_NO_VM, VGPU_EVENT_NONE, "version %s, pid %d",
                    VGPU_VERSION, (int)getpid());
    vgpu_log(VGPU_LOG_INFO, "ready", "version=%s pid=%d pools=\"%s\" watch=%u worker=%s",
             VGPU_VERSION, (int)getpid(), vgpu_settings_pools(m->settings, pools),
             m->settings->watch_count,
             vgpu_log_quote(worker, sizeof(worker), m->worker_path, strlen(m->worker_path)));
    if (d->options->ready_fd >= 0) {
        static const char text[] = "ready\n";
        if (write(d->options->ready_fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1)
            vgpu_log(VGPU_LOG_WARN, "ready-fd", "reason=\"%s\"", strerror(errno));
        close(d->options->ready_fd);
    }
    int rc = vgpu_notify("READY=1");
    if (rc < 0)
        vgpu_log(VGPU_LOG_WARN, "notify", "reason=\"%s\"", strerror(-rc));
}

/* A GPU that is not there is no reason to leave those without service that use another. */
static void say_pool(void *context, const char *text)
{
    char quoted[920];
    (void)context;
    vgpu_log(VGPU_LOG_ERROR, "pool", "reason=%s",
             vgpu_log_quote(quoted, sizeof(quoted), text, strlen(text)));
}

static void on_inventory(struct vgpu_mediator *m, const struct vgpu_inventory *inventory)
{
    struct daemon *d = vgpu_list_entry(m, struct daemon, m);
    if (m->stopping)
        return;
    vgpu_inventory_resolve(inventory, m->settings, say_pool, NULL);
    d->failure = serve(d, inventory, d->why);
    if (d->failure)
        vgpu_loop_stop(m->loop);
    else
        tell_ready(d);
}

static int start(struct daemon *d)
{
    struct vgpu_mediator *m = &d->m;
    int rc = prepare(d, d->why);
    if (rc)
        return rc;
    /* Who can add GPUs has to see what there are. */
    if (vgpu_settings_need_gpus(m->settings) || m->settings->control) {
        rc = vgpu_probe_start(m, m->settings->start_ms, on_inventory);
        if (rc)
            snprintf(d->why, 512, "cannot run %.300s --probe: %s", m->worker_path, strerror(-rc));
        return rc;
    }
    rc = serve(d, NULL, d->why);
    if (!rc)
        tell_ready(d);
    return rc;
}

static void take_apart(struct daemon *d)
{
    struct vgpu_mediator *m = &d->m;
    if (m->loop) {
        vgpu_probe_abandon(m);
        vgpu_control_close(m);
        vgpu_local_close(m);
        vgpu_watch_free_all(m);
        vgpu_endpoint_free_all(m);
        vgpu_loop_remove(m->loop, &d->signals);
    }
    vgpu_fd_close(&d->signals.fd);
    vgpu_lock_drop(&m->listen_lock);
    vgpu_lock_drop(&m->watch_lock);
    vgpu_policy_close(m);
    vgpu_lock_drop(&m->control_lock);
    vgpu_leases_destroy(m->leases);
    vgpu_stats_destroy(m->stats);
    vgpu_loop_destroy(m->loop);
    vgpu_settings_free(m->settings);
    free(m->tenants);
    free(m->worker_path);
}

int vgpu_daemon_run(struct vgpu_settings *settings, const struct vgpu_daemon_options *options,
                    char *why)
{
    struct daemon *d = calloc(1, sizeof(*d));
    if (!d) {
        vgpu_settings_free(settings);
        snprintf(why, 512, "out of memory");
        return -ENOMEM;
    }
    struct timespec started;
    clock_gettime(CLOCK_REALTIME, &started);
    d->m.start_time_s = (double)started.tv_sec + (double)started.tv_nsec / 1e9;
    d->options = options;
    d->signals.fd = d->m.listener.fd = -1;
    d->m.watch_lock.fd = d->m.listen_lock.fd = d->m.control_lock.fd = -1;
    d->m.settings = settings;
    d->m.max_vms = settings->max_vms;
    d->m.slot_count = 2 * settings->max_vms;
    vgpu_list_init(&d->m.links);
    vgpu_list_init(&d->m.workers);
    vgpu_list_init(&d->m.endpoints);
    for (uint32_t i = 0; i < VGPU_ENDPOINT_HASH; i++)
        vgpu_list_init(&d->m.endpoint_hash[i]);
    vgpu_list_init(&d->m.watches);
    vgpu_list_init(&d->m.quotas);
    vgpu_list_init(&d->m.marks);
    d->why = why;
    int rc = start(d);
    if (!rc) {
        rc = vgpu_loop_run(d->m.loop);
        if (rc)
            snprintf(why, 512, "the event loop failed: %s", strerror(-rc));
        else
            rc = d->failure;
    }
    if (!rc) {
        vgpu_log(VGPU_LOG_INFO, "stopped", "log_dropped=%llu",
                 (unsigned long long)vgpu_log_dropped());
    }
    take_apart(d);
    free(d);
    return rc;
}
