/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Local clients; see local.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "mediator/link.h"
#include "mediator/tenant.h"

#define ACCEPT_BUDGET 16
#define BACKLOG       64
#define REST_NS       (100 * VGPU_NS_PER_MS) /* without descriptors for those who connect */

/* Who may: a [local] section says; without one root and the mediator's own user. */
static bool is_allowed(const struct vgpu_mediator *m, uid_t uid)
{
    const struct vgpu_vm_setting *local = vgpu_settings_local(m->settings, uid);
    if (local)
        return !local->deny;
    return uid == 0 || uid == geteuid();
}

/* Says no to somebody who has not said hello: REFUSE is the only thing it can expect (L5). */
static void turn_away(struct vgpu_mediator *m, int fd, uid_t uid, uint32_t reason, const char *text)
{
    uint8_t message[VGPU_FRAME_MAX];
    uint32_t suppressed;
    if (vgpu_log_limit_take(&m->stranger_limit, vgpu_loop_now(m->loop), &suppressed))
        vgpu_log(VGPU_LOG_WARN, "refused", "uid=%u refusal=%u reason=\"%s\" suppressed=%u",
                 (unsigned)uid, reason, text, suppressed);
    size_t length = vgpu_frame_refuse(message, reason, text);
    vgpu_net_send(fd, message, length, NULL, 0);
    vgpu_fd_close(&fd);
}

static uint32_t clients_of(const struct vgpu_mediator *m, uid_t uid)
{
    uint32_t count = 0;
    vgpu_list_each(node, &m->links)
    {
        const struct vgpu_link *link = vgpu_list_entry(node, struct vgpu_link, node);
        count += !link->endpoint && link->local_uid == uid;
    }
    return count;
}

static void welcome(struct vgpu_mediator *m, int fd)
{
    uid_t uid;
    pid_t pid;
    char name[96];
    if (vgpu_net_peer(fd, &uid, &pid)) {
        vgpu_fd_close(&fd);
        return;
    }
    if (!is_allowed(m, uid)) {
        snprintf(name, sizeof(name), "uid %u is not allowed here: [local %u] would say who is",
                 (unsigned)uid, (unsigned)uid);
        turn_away(m, fd, uid, VGPU_REFUSE_UNKNOWN_VM, name);
        return;
    }
    if (m->local_count >= m->max_vms || m->local_greeting >= VGPU_GREETING_MAX) {
        turn_away(m, fd, uid, VGPU_REFUSE_FULL, "too many local clients are connected");
        return;
    }
    if (clients_of(m, uid) >= m->settings->local_clients) {
        snprintf(name, sizeof(name), "uid %u has %u clients connected, the most it may have",
                 (unsigned)uid, m->settings->local_clients);
        turn_away(m, fd, uid, VGPU_REFUSE_FULL, name);
        return;
    }
    snprintf(name, sizeof(name), "local uid=%u pid=%d", (unsigned)uid, (int)pid);
    struct vgpu_link *link = vgpu_link_create(m, fd, name);
    if (!link)
        return;
    link->local_uid = uid;
    m->local_count++;
    vgpu_link_greets(link, &m->local_greeting);
}

static void on_rested(struct vgpu_timer *timer)
{
    struct vgpu_mediator *m = vgpu_list_entry(timer, struct vgpu_mediator, accept_timer);
    vgpu_loop_change(m->loop, &m->listener, EPOLLIN);
}

static void on_event(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_mediator *m = vgpu_list_entry(source, struct vgpu_mediator, listener);
    (void)events;
    for (unsigned i = 0; i < ACCEPT_BUDGET; i++) {
        int fd = vgpu_net_accept(source->fd);
        if (fd >= 0) {
            welcome(m, fd);
            continue;
        }
        /* They wait for us in the queue, and would have us called again at once and for ever. */
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
            vgpu_loop_change(m->loop, source, 0);
            vgpu_loop_timer_set(m->loop, &m->accept_timer, vgpu_loop_now(m->loop) + REST_NS);
        }
        uint32_t suppressed;
        if (fd != -EAGAIN && fd != -ECONNABORTED &&
            vgpu_log_limit_take(&m->stranger_limit, vgpu_loop_now(m->loop), &suppressed))
            vgpu_log(VGPU_LOG_ERROR, "accept", "reason=\"%s\" suppressed=%u", strerror(-fd),
                     suppressed);
        return;
    }
}

int vgpu_local_listen(struct vgpu_mediator *m, char *why)
{
    const char *path = m->settings->listen;
    struct stat st;
    /* The lock is ours (mediator.c): a socket that is there is nobody's any more. */
    if (!lstat(path, &st) && !S_ISSOCK(st.st_mode)) {
        snprintf(why, 512, "cannot listen on %.300s: it exists and is not a socket", path);
        return -EEXIST;
    }
    unlink(path);
    int fd = vgpu_net_listen(path, BACKLOG);
    if (fd < 0) {
        snprintf(why, 512, "cannot listen on %.300s: %s", path, strerror(-fd));
        return fd;
    }
    m->listener.fd = fd;
    m->listener.call = on_event;
    m->accept_timer.call = on_rested;
    /* Anybody may connect; SO_PEERCRED decides who stays. */
    if (chmod(path, 0666))
        vgpu_log(VGPU_LOG_WARN, "listen-mode", "reason=\"%s\"", strerror(errno));
    int rc = vgpu_loop_add(m->loop, &m->listener, EPOLLIN);
    if (rc) {
        snprintf(why, 512, "cannot listen on %.300s: %s", path, strerror(-rc));
        vgpu_local_close(m);
    }
    return rc;
}

void vgpu_local_close(struct vgpu_mediator *m)
{
    if (m->listener.fd < 0)
        return;
    vgpu_loop_timer_cancel(m->loop, &m->accept_timer);
    vgpu_loop_remove(m->loop, &m->listener);
    vgpu_fd_close(&m->listener.fd);
    unlink(m->settings->listen);
}

void vgpu_local_gone(struct vgpu_mediator *m)
{
    m->local_count--;
}

uint32_t vgpu_local_vm(struct vgpu_mediator *m, uint32_t uid)
{
    const struct vgpu_vm_setting *local = vgpu_settings_local(m->settings, uid);
    if (local && local->has_vm)
        return local->vm_id;
    uint32_t vm_id = m->settings->local_vm_base;
    while (vgpu_tenant_find(m, vm_id))
        vm_id++;
    return vm_id;
}
