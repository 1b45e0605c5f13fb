/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections of the control socket; see control.h. Requests are not done where their bytes arrive
 * but in turn, a little in each round of the loop, so that no number of clients keeps VMs waiting.
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
#include "mediator/control_ops.h"
#include "mediator/events.h"

#define CLIENTS_MAX   64u
#define READERS_MAX   32u
#define GROUPS_MAX    256 /* of a peer; one in more is taken for one in none */
#define LINE_LIMIT_NS (5 * VGPU_NS_PER_S)
#define TAKE_LIMIT_NS (30 * VGPU_NS_PER_S)
#define REST_NS       (100 * VGPU_NS_PER_MS)
#define UNREAD_MAX    65536u         /* answers; then no more requests are read */
#define ROUND_NS      VGPU_NS_PER_MS /* for requests, in one round of the loop */
#define ACCEPT_BUDGET 16

#ifndef SO_PEERGROUPS /* Linux 4.13; old headers lack it */
#define SO_PEERGROUPS 59
#endif

struct vgpu_control {
    struct vgpu_mediator *m;
    struct vgpu_source listener;
    struct vgpu_timer rest; /* the listener rests until then */
    struct vgpu_timer turn; /* requests that wait, and events that are followed */
    struct vgpu_list clients;
    struct vgpu_list ready;  /* those that have a whole request */
    uint32_t count, readers; /* connections; those that may only read */
    uint64_t last_number;
    bool has_group;
    gid_t group;
};

struct vgpu_control_client {
    struct vgpu_list node, ready;
    struct vgpu_control *control;
    uint64_t number; /* never used twice */
    struct vgpu_source source;
    struct vgpu_timer line_timer, take_timer;
    uid_t uid;
    pid_t pid;
    bool may_change;
    bool doing;   /* a request, right now */
    bool waits;   /* an answer is to come */
    bool ended;   /* it will send no more */
    bool closing; /* when everything is sent */
    bool has_id;
    uint64_t id; /* of the request that is being done */
    bool follows, follow_has_id;
    uint64_t follow_id, since;
    char *in; /* VGPU_CONTROL_LINE bytes, from the first on that came */
    size_t in_used, scanned;
    struct vgpu_text out;
    size_t sent;
};

static void settle(struct vgpu_control_client *c);

/* --- the end of one --- */

static void drop(struct vgpu_control_client *c)
{
    struct vgpu_control *control = c->control;
    struct vgpu_loop *loop = control->m->loop;
    vgpu_loop_timer_cancel(loop, &c->line_timer);
    vgpu_loop_timer_cancel(loop, &c->take_timer);
    vgpu_loop_remove(loop, &c->source);
    vgpu_fd_close(&c->source.fd);
    vgpu_list_remove(&c->node);
    vgpu_list_remove(&c->ready);
    control->count--;
    control->readers -= !c->may_change;
    vgpu_text_free(&c->out);
    free(c->in);
    free(c);
}

/* --- answers --- */

static size_t unsent(const struct vgpu_control_client *c)
{
    return c->out.length - c->sent;
}

/* false: the client is gone. */
static bool flush(struct vgpu_control_client *c)
{
    bool some = false;
    while (unsent(c)) {
        ssize_t n = vgpu_net_send(c->source.fd, c->out.bytes + c->sent, unsent(c), NULL, 0);
        if (n == -EAGAIN || n == -ENOBUFS)
            break;
        if (n <= 0) {
            drop(c);
            return false;
        }
        c->sent += (size_t)n;
        some = true;
    }
    struct vgpu_loop *loop = c->control->m->loop;
    if (!unsent(c)) {
        vgpu_text_free(&c->out); /* a long answer's memory does not stay */
        c->sent = 0;
        vgpu_loop_timer_cancel(loop, &c->take_timer);
    } else if (some || !c->take_timer.place) {
        vgpu_loop_timer_set(loop, &c->take_timer, vgpu_loop_now(loop) + TAKE_LIMIT_NS);
    }
    return true;
}

static void begin(struct vgpu_control_client *c, bool has_id, uint64_t id)
{
    if (has_id)
        vgpu_text_printf(&c->out, "{\"id\": %llu", (unsigned long long)id);
    else
        vgpu_text_printf(&c->out, "{\"id\": null");
}

/* The request is through. The bytes go when its turn is over. */
static void end(struct vgpu_control_client *c)
{
    vgpu_text_printf(&c->out, "}\n");
    if (c->out.failed)
        c->closing = true; /* half an answer is none */
    bool waited = c->waits;
    c->waits = false;
    if (waited && !c->doing)
        settle(c);
}

void vgpu_control_answer(struct vgpu_control_client *c, struct vgpu_text *result)
{
    if (result->failed || !result->bytes) {
        struct vgpu_change_error error;
        vgpu_change_fail(&error, VGPU_CODE_INTERNAL, "out of memory");
        vgpu_text_free(result);
        vgpu_control_fail(c, &error);
        return;
    }
    begin(c, c->has_id, c->id);
    vgpu_text_printf(&c->out, ", \"ok\": true, \"result\": ");
    vgpu_text_append(&c->out, result->bytes, result->length);
    vgpu_text_free(result);
    end(c);
}

void vgpu_control_fail(struct vgpu_control_client *c, const struct vgpu_change_error *error)
{
    begin(c, c->has_id, c->id);
    vgpu_text_printf(&c->out, ", \"ok\": false, \"error\": {\"code\": \"%s\", \"message\": ",
                     vgpu_change_code_name(error->code));
    vgpu_text_json(&c->out, error->message);
    vgpu_text_printf(&c->out, "}");
    end(c);
}

void vgpu_control_wait(struct vgpu_control_client *c)
{
    c->waits = true;
}

/* --- following events --- */

bool vgpu_control_follow(struct vgpu_control_client *c, uint64_t since)
{
    if (c->follows)
        return false;
    c->follows = true;
    c->follow_has_id = c->has_id;
    c->follow_id = c->id;
    c->since = since;
    return true;
}

static bool has_events(const struct vgpu_control_client *c)
{
    return c->follows && !c->waits && !c->closing && c->control->m->events->last > c->since;
}

/* What is new, as far as the client reads. */
static void push_events(struct vgpu_control_client *c)
{
    const struct vgpu_events *events = c->control->m->events;
    while (has_events(c) && unsent(c) < UNREAD_MAX) {
        uint64_t lost;
        const struct vgpu_event *e = vgpu_events_after(events, c->since, &lost);
        if (!e)
            return;
        if (lost) {
            begin(c, c->follow_has_id, c->follow_id);
            vgpu_text_printf(&c->out, ", \"lost\": %llu}\n", (unsigned long long)lost);
        }
        begin(c, c->follow_has_id, c->follow_id);
        vgpu_text_printf(&c->out, ", \"event\": ");
        vgpu_control_event(&c->out, e);
        vgpu_text_printf(&c->out, "}\n");
        c->since = e->seq;
        c->closing |= c->out.failed;
    }
}

static void on_told(void *context)
{
    struct vgpu_control *control = context;
    struct vgpu_loop *loop = control->m->loop;
    if (!control->turn.place)
        vgpu_loop_timer_set(loop, &control->turn, vgpu_loop_now(loop));
}

/* --- requests --- */

static void fail(struct vgpu_control_client *c, enum vgpu_change_code code, const char *message)
{
    struct vgpu_change_error error;
    vgpu_change_fail(&error, code, "%s", message);
    vgpu_control_fail(c, &error);
}

static void do_line(struct vgpu_control_client *c, const char *line, size_t length)
{
    struct vgpu_control_request request;
    struct vgpu_change_error error;
    int rc = vgpu_control_request_read(&request, line, length, &error);
    c->has_id = request.has_id;
    c->id = request.id;
    if (rc)
        vgpu_control_fail(c, &error);
    else
        vgpu_control_do(c, &request);
    vgpu_control_request_free(&request);
}

/* Where the first line ends; NULL: it is not whole. Looks at each byte once. */
static char *line_end(struct vgpu_control_client *c)
{
    char *found = memchr(c->in + c->scanned, '\n', c->in_used - c->scanned);
    c->scanned = found ? (size_t)(found - c->in) : c->in_used;
    return found;
}

static bool may_read(const struct vgpu_control_client *c)
{
    return !c->waits && !c->closing && unsent(c) < UNREAD_MAX;
}

/* Does one request, if there is one. */
static void do_one(struct vgpu_control_client *c)
{
    char *found = may_read(c) ? line_end(c) : NULL;
    if (!found)
        return;
    size_t length = (size_t)(found - c->in);
    if (length && strspn(c->in, " \t\r") < length) {
        c->doing = true;
        do_line(c, c->in, length);
        c->doing = false;
    }
    c->in_used -= length + 1;
    memmove(c->in, found + 1, c->in_used);
    c->scanned = 0;
}

/* After anything: what is to be waited for now. */
static void settle(struct vgpu_control_client *c)
{
    struct vgpu_control *control = c->control;
    struct vgpu_loop *loop = control->m->loop;
    bool line = c->in && line_end(c);
    if (!line && c->in_used == VGPU_CONTROL_LINE && may_read(c)) {
        c->has_id = false;
        fail(c, VGPU_CODE_INVALID, "the line is longer than 65536 bytes");
        c->closing = true;
    }
    do {
        push_events(c);
        if (!flush(c))
            return;
    } while (!unsent(c) && has_events(c));
    if (!unsent(c) && !c->waits && (c->closing || (c->ended && !line && !c->follows))) {
        drop(c);
        return;
    }
    if (line && may_read(c) && vgpu_list_empty(&c->ready)) {
        vgpu_list_append(&control->ready, &c->ready);
        if (!control->turn.place)
            vgpu_loop_timer_set(loop, &control->turn, vgpu_loop_now(loop));
    }
    bool half = c->in_used && !line && !c->ended && may_read(c);
    if (!half)
        vgpu_loop_timer_cancel(loop, &c->line_timer);
    else if (!c->line_timer.place)
        vgpu_loop_timer_set(loop, &c->line_timer, vgpu_loop_now(loop) + LINE_LIMIT_NS);
    uint32_t events =
        (unsent(c) ? EPOLLOUT : 0) | (!c->ended && !line && may_read(c) ? EPOLLIN : 0);
    vgpu_loop_change(loop, &c->source, events);
}

static void on_turn(struct vgpu_timer *timer)
{
    struct vgpu_control *control = vgpu_list_entry(timer, struct vgpu_control, turn);
    struct vgpu_loop *loop = control->m->loop;
    uint64_t until = vgpu_clock_ns() + ROUND_NS;
    while (!vgpu_list_empty(&control->ready) && vgpu_clock_ns() < until) {
        struct vgpu_control_client *c =
            vgpu_list_entry(control->ready.next, struct vgpu_control_client, ready);
        vgpu_list_remove(&c->ready);
        do_one(c);
        settle(c);
    }
    vgpu_list_each(node, &control->clients)
    {
        struct vgpu_control_client *c = vgpu_list_entry(node, struct vgpu_control_client, node);
        if (c->follows)
            settle(c);
    }
    if (!vgpu_list_empty(&control->ready))
        vgpu_loop_timer_set(loop, &control->turn, vgpu_loop_now(loop));
}

/* --- bytes --- */

static void on_line_limit(struct vgpu_timer *timer)
{
    drop(vgpu_list_entry(timer, struct vgpu_control_client, line_timer));
}

static void on_take_limit(struct vgpu_timer *timer)
{
    drop(vgpu_list_entry(timer, struct vgpu_control_client, take_timer));
}

static bool receive(struct vgpu_control_client *c)
{
    struct vgpu_net_ancillary ancillary;
    if (!c->in) {
        c->in = malloc(VGPU_CONTROL_LINE);
        if (!c->in)
            return false;
    }
    ssize_t n = vgpu_net_recv(c->source.fd, c->in + c->in_used, VGPU_CONTROL_LINE - c->in_used, 0,
                              &ancillary);
    if (n == -EAGAIN || n == -EINTR)
        return true;
    if (n < 0)
        return false;
    c->ended = n == 0;
    c->in_used += (size_t)n;
    return true;
}

static void on_client(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_control_client *c = vgpu_list_entry(source, struct vgpu_control_client, source);
    /* Gone for good: nobody would get an answer. */
    bool gone = events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN && may_read(c));
    if (gone || (events & EPOLLIN && c->in_used < VGPU_CONTROL_LINE && !receive(c))) {
        drop(c);
        return;
    }
    settle(c);
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
    struct vgpu_control_client *c = calloc(1, sizeof(*c));
    if (!c) {
        vgpu_fd_close(&fd);
        return;
    }
    c->control = control;
    c->number = ++control->last_number;
    c->uid = peer.uid;
    c->pid = peer.pid;
    c->may_change = may_change;
    c->source.fd = fd;
    c->source.call = on_client;
    c->line_timer.call = on_line_limit;
    c->take_timer.call = on_take_limit;
    vgpu_list_append(&control->clients, &c->node);
    vgpu_list_init(&c->ready);
    control->count++;
    control->readers += !may_change;
    if (vgpu_loop_add(m->loop, &c->source, EPOLLIN))
        drop(c);
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
    rc = vgpu_net_listen(path, CLIENTS_MAX);
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
        drop(vgpu_list_entry(node, struct vgpu_control_client, node));
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

/* --- for operations --- */

struct vgpu_mediator *vgpu_control_mediator(const struct vgpu_control_client *c)
{
    return c->control->m;
}

bool vgpu_control_may_change(const struct vgpu_control_client *c)
{
    return c->may_change;
}

void vgpu_control_peer(const struct vgpu_control_client *c, int64_t *uid, int64_t *pid)
{
    *uid = c->uid;
    *pid = c->pid;
}

uint32_t vgpu_control_count(const struct vgpu_control_client *c)
{
    return c->control->count;
}

struct vgpu_control_ticket vgpu_control_ticket(const struct vgpu_control_client *c)
{
    return (struct vgpu_control_ticket){.m = c->control->m, .client = c->number};
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
