/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: who gets in, and whose turn it is; see control.h. Requests are not done where
 * their bytes arrive but in turn, a little in each round of the loop, so that no number of clients
 * keeps VMs waiting.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/control.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "mediator/control_client.h"
#include "mediator/events.h"

#define CLIENTS_MAX   64u
#define READERS_MAX   32u
#define BACKLOG       256 /* more than can be let in: each of them is told so */
#define GROUPS_MAX    256 /* of a peer; one in more is taken for one in none */
#define REST_NS       (100 * VGPU_NS_PER_MS)
#define ROUND_NS      VGPU_NS_PER_MS /* for requests, in one round of the loop */
#define ACCEPT_BUDGET 16

#ifndef SO_PEERGROUPS /* Linux 4.13; old headers lack it */
#define SO_PEERGROUPS 59
#endif

/* --- turns --- */

static void on_turn(struct vgpu_timer *timer)
{
    struct vgpu_control *control = vgpu_list_entry(timer, struct vgpu_control, turn);
    struct vgpu_loop *loop = control->m->loop;
    uint64_t until = vgpu_clock_ns() + ROUND_NS;
    while (!vgpu_list_empty(&control->ready) && vgpu_clock_ns() < until) {
        struct vgpu_control_client *c =
            vgpu_list_entry(control->ready.next, struct vgpu_control_client, ready);
        vgpu_list_remove(&c->ready);
        vgpu_control_client_turn(c);
    }
    vgpu_list_each(node, &control->clients)
    {
        struct vgpu_control_client *c = vgpu_list_entry(node, struct vgpu_control_client, node);
        if (c->follows)
            vgpu_control_client_settle(c);
    }
    if (!vgpu_list_empty(&control->ready))
        vgpu_loop_timer_set(loop, &control->turn, vgpu_loop_now(loop));
}

static void on_told(void *context)
{
    struct vgpu_control *control = context;
    struct vgpu_loop *loop = control->m->loop;
    if (!control->turn.place)
        vgpu_loop_timer_set(loop, &control->turn, vgpu_loop_now(loop));
}

/* --- who comes --- */

/* Its groups as they were when it connected. */
static bool is_member(const struct vgpu_control *control, int fd, gid_t own)
{
    gid_t groups[GROUPS_MAX];
    socklen_t length = sizeof(groups);
    if (!control->has_group)
        return false;
    if (own == control->group)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length))
        return false;
    for (size_t i = 0; i < length / sizeof(groups[0]); i++)
        if (groups[i] == control->group)
            return true;
    return false;
}

static void turn_away(int fd, const char *code, const char *message)
{
    char line[256];
    int n = snprintf(
        line, sizeof(line),
        "{\"id\": null, \"ok\": false, \"error\": {\"code\": \"%s\", \"message\": \"%s\"}}\n", code,
        message);
    vgpu_net_send(fd, line, (size_t)n, NULL, 0);
    /* What it said already would make its end a reset, which comes before our line. */
    shutdown(fd, SHUT_RD);
    while (recv(fd, line, sizeof(line), MSG_DONTWAIT) > 0)
        ;
    vgpu_fd_close(&fd);
}

static void welcome(struct vgpu_control *control, int fd)
{
    struct vgpu_mediator *m = control->m;
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length)) {
        vgpu_fd_close(&fd);
        return;
    }
    bool may_change = peer.uid == 0 || peer.uid == geteuid() || is_member(control, fd, peer.gid);
    if (!may_change && !m->settings->readers) {
        turn_away(fd, "denied",
                  "you are neither root nor in the mediator's admin_group, and readers = no");
        return;
    }
    if (control->count >= CLIENTS_MAX || (!may_change && control->readers >= READERS_MAX)) {
        turn_away(fd, "busy", "too many clients are connected: try again");
        return;
    }
    (void)vgpu_control_client_create(control, fd, peer.uid, peer.pid, may_change);
}

static void on_rested(struct vgpu_timer *timer)
{
    struct vgpu_control *control = vgpu_list_entry(timer, struct vgpu_control, rest);
    vgpu_loop_change(control->m->loop, &control->listener, EPOLLIN);
}

static void on_connection(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_control *control = vgpu_list_entry(source, struct vgpu_control, listener);
    struct vgpu_mediator *m = control->m;
    (void)events;
    for (unsigned i = 0; i < ACCEPT_BUDGET; i++) {
        int fd = vgpu_net_accept(source->fd);
        if (fd >= 0) {
            welcome(control, fd);
            continue;
        }
        /* They wait in the queue, and would have us called again at once and for ever. */
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
            vgpu_loop_change(m->loop, source, 0);
            vgpu_loop_timer_set(m->loop, &control->rest, vgpu_loop_now(m->loop) + REST_NS);
        }
        return;
    }
}

static int find_group(struct vgpu_control *control, char *why)
{
    const char *name = control->m->settings->admin_group;
    if (!name)
        return 0;
    errno = 0;
    const struct group *group = getgrnam(name);
    if (!group) {
        snprintf(why, 512, "admin_group = '%.100s': there is no such group on this host", name);
        return errno ? -errno : -ENOENT;
    }
    control->has_group = true;
    control->group = group->gr_gid;
    return 0;
}

int vgpu_control_listen(struct vgpu_mediator *m, char *why)
{
    const char *path = m->settings->control;
    struct stat st;
    struct vgpu_control *control = calloc(1, sizeof(*control));
    m->events = calloc(1, sizeof(*m->events));
    if (!control || !m->events) {
        free(control);
        snprintf(why, 512, "out of memory");
        return -ENOMEM;
    }
    m->control = control;
    control->m = m;
    control->listener.fd = -1;
    control->listener.call = on_connection;
    control->rest.call = on_rested;
    control->turn.call = on_turn;
    vgpu_list_init(&control->clients);
    vgpu_list_init(&control->ready);
    m->events->told = on_told;
    m->events->context = control;
    int rc = find_group(control, why);
    if (rc)
        return rc;
    if (!lstat(path, &st) && !S_ISSOCK(st.st_mode)) {
        snprintf(why, 512, "cannot listen on %.300s: it exists and is not a socket", path);
        return -EEXIST;
    }
    unlink(path); /* the lock is ours: a socket that is there is nobody's */
    rc = vgpu_net_listen(path, BACKLOG);
    if (rc >= 0) {
        control->listener.fd = rc;
        /* Anybody may connect; who it is decides who stays. */
        if (chmod(path, 0666))
            vgpu_log(VGPU_LOG_WARN, "control-mode", "reason=\"%s\"", strerror(errno));
        rc = vgpu_loop_add(m->loop, &control->listener, EPOLLIN);
    }
    if (rc)
        snprintf(why, 512, "cannot listen on %.300s: %s", path, strerror(-rc));
    return rc;
}

void vgpu_control_close(struct vgpu_mediator *m)
{
    struct vgpu_control *control = m->control;
    if (!control)
        return;
    vgpu_list_each(node, &control->clients)
    {
        vgpu_control_client_drop(vgpu_list_entry(node, struct vgpu_control_client, node));
    }
    vgpu_loop_timer_cancel(m->loop, &control->rest);
    vgpu_loop_timer_cancel(m->loop, &control->turn);
    vgpu_loop_remove(m->loop, &control->listener);
    if (control->listener.fd >= 0)
        unlink(m->settings->control);
    vgpu_fd_close(&control->listener.fd);
    free(m->events);
    m->events = NULL;
    m->control = NULL;
    free(control);
}

struct vgpu_control_client *vgpu_control_find(const struct vgpu_control_ticket *ticket)
{
    struct vgpu_control *control = ticket->m->control;
    if (!control)
        return NULL;
    vgpu_list_each(node, &control->clients)
    {
        struct vgpu_control_client *c = vgpu_list_entry(node, struct vgpu_control_client, node);
        if (c->number == ticket->client)
            return c;
    }
    return NULL;
}
