/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection; see control_client.h. */
#include "mediator/control_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/net.h"
#include "mediator/control_ops.h"
#include "mediator/events.h"

#define LINE_LIMIT_NS (5 * VGPU_NS_PER_S)
#define TAKE_LIMIT_NS (30 * VGPU_NS_PER_S)
#define UNREAD_MAX    65536u /* bytes of answers; then no more requests are read */

/* --- the end of one --- */

void vgpu_control_client_drop(struct vgpu_control_client *c)
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
            vgpu_control_client_drop(c);
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
        return true;
    }
    if (c->sent >= UNREAD_MAX) { /* who follows may never have read all */
        c->out.length -= c->sent;
        memmove(c->out.bytes, c->out.bytes + c->sent, c->out.length);
        c->sent = 0;
    }
    if (some || !c->take_timer.place)
        vgpu_loop_timer_set(loop, &c->take_timer, vgpu_loop_now(loop) + TAKE_LIMIT_NS);
    return true;
}

static void begin(struct vgpu_control_client *c, bool has_id, uint64_t id)
{
    if (has_id)
        vgpu_text_printf(&c->out, "{\"id\": %llu", (unsigned long long)id);
    else
        vgpu_text_printf(&c->out, "{\"id\": null");
}

/* It gets a turn: to do a request, or only to send what there is. */
static void wake(struct vgpu_control_client *c)
{
    struct vgpu_control *control = c->control;
    struct vgpu_loop *loop = control->m->loop;
    if (vgpu_list_empty(&c->ready))
        vgpu_list_append(&control->ready, &c->ready);
    if (!control->turn.place)
        vgpu_loop_timer_set(loop, &control->turn, vgpu_loop_now(loop));
}

/* The request is through. The bytes go when its turn is over. */
static void end(struct vgpu_control_client *c)
{
    vgpu_text_printf(&c->out, "}\n");
    if (c->out.failed)
        c->closing = true; /* half an answer is none */
    if (c->waits)
        wake(c);
    c->waits = false;
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
    if (length && strspn(c->in, " \t\r") < length)
        do_line(c, c->in, length);
    c->in_used -= length + 1;
    memmove(c->in, found + 1, c->in_used);
    c->scanned = 0;
}

/* After anything: what is to be waited for now. */
void vgpu_control_client_settle(struct vgpu_control_client *c)
{
    struct vgpu_loop *loop = c->control->m->loop;
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
        vgpu_control_client_drop(c);
        return;
    }
    if (line && may_read(c))
        wake(c);
    bool half = c->in_used && !line && !c->ended && may_read(c);
    if (!half)
        vgpu_loop_timer_cancel(loop, &c->line_timer);
    else if (!c->line_timer.place)
        vgpu_loop_timer_set(loop, &c->line_timer, vgpu_loop_now(loop) + LINE_LIMIT_NS);
    uint32_t events =
        (unsent(c) ? EPOLLOUT : 0) | (!c->ended && !line && may_read(c) ? EPOLLIN : 0);
    vgpu_loop_change(loop, &c->source, events);
}

/* --- bytes --- */

static void on_line_limit(struct vgpu_timer *timer)
{
    vgpu_control_client_drop(vgpu_list_entry(timer, struct vgpu_control_client, line_timer));
}

static void on_take_limit(struct vgpu_timer *timer)
{
    vgpu_control_client_drop(vgpu_list_entry(timer, struct vgpu_control_client, take_timer));
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
        vgpu_control_client_drop(c);
        return;
    }
    vgpu_control_client_settle(c);
}

void vgpu_control_client_turn(struct vgpu_control_client *c)
{
    do_one(c);
    vgpu_control_client_settle(c);
}

struct vgpu_control_client *vgpu_control_client_create(struct vgpu_control *control, int fd,
                                                       uid_t uid, pid_t pid, bool may_change)
{
    struct vgpu_control_client *c = calloc(1, sizeof(*c));
    if (!c) {
        vgpu_fd_close(&fd);
        return NULL;
    }
    c->control = control;
    c->number = ++control->last_number;
    c->uid = uid;
    c->pid = pid;
    c->may_change = may_change;
    c->source.fd = fd;
    c->source.call = on_client;
    c->line_timer.call = on_line_limit;
    c->take_timer.call = on_take_limit;
    vgpu_list_append(&control->clients, &c->node);
    vgpu_list_init(&c->ready);
    control->count++;
    control->readers += !may_change;
    if (!vgpu_loop_add(control->m->loop, &c->source, EPOLLIN))
        return c;
    vgpu_control_client_drop(c);
    return NULL;
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
