/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection; see link.h. */
#include "mediator/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/net.h"
#include "mediator/broker.h"
#include "mediator/endpoint.h"
#include "mediator/events.h"
#include "mediator/local.h"
#include "mediator/stats.h"
#include "mediator/tenant_window.h"

#define HELLO_LIMIT_NS (5 * VGPU_NS_PER_S) /* L3 */

static void log_end(struct vgpu_link *link, const char *reason)
{
    struct vgpu_mediator *m = link->mediator;
    char name[200], why[200];
    bool bad = link->end == VGPU_LINK_VIOLATION;
    uint32_t suppressed = 0;
    uint64_t now = vgpu_loop_now(m->loop);
    m->stats->violations += bad;
    struct vgpu_log_limit *limit = &m->stranger_limit;
    if (link->tenant)
        limit = &vgpu_ledger_account(&m->ledger, link->tenant->account, now)->ends;
    if (!vgpu_log_limit_take(limit, now, &suppressed))
        return;
    if (bad)
        vgpu_events_add(m->events, "violation",
                        link->tenant ? (int64_t)link->tenant->vm_id : VGPU_EVENT_NO_VM,
                        VGPU_EVENT_NONE, "%s", reason);
    vgpu_log_quote(name, sizeof(name), link->name, strlen(link->name));
    vgpu_log_quote(why, sizeof(why), reason, strlen(reason));
    if (link->tenant)
        vgpu_log(bad ? VGPU_LOG_WARN : VGPU_LOG_DEBUG, bad ? "violation" : "link-end",
                 "vm=%u socket=%s reason=%s suppressed=%u", link->tenant->vm_id, name, why,
                 suppressed);
    else
        vgpu_log(bad ? VGPU_LOG_WARN : VGPU_LOG_DEBUG, bad ? "violation" : "link-end",
                 "socket=%s reason=%s suppressed=%u", name, why, suppressed);
}

void vgpu_link_greets(struct vgpu_link *link, uint32_t *count)
{
    link->greeting = count;
    ++*count;
}

static void has_greeted(struct vgpu_link *link)
{
    if (link->greeting)
        --*link->greeting;
    link->greeting = NULL;
}

static void finish(struct vgpu_timer *timer)
{
    struct vgpu_link *link = vgpu_list_entry(timer, struct vgpu_link, timer);
    struct vgpu_mediator *m = link->mediator;
    /* Worth a quick retry: it was attached and went in order, or was attached for long. */
    bool good = link->tenant && (link->end == VGPU_LINK_LOST ||
                                 vgpu_loop_now(m->loop) - link->attached_ns >= 10 * VGPU_NS_PER_S);
    if (link->tenant)
        vgpu_broker_detach(link);
    if (link->endpoint)
        vgpu_endpoint_link_gone(link->endpoint, good);
    else
        vgpu_local_gone(m);
    vgpu_list_remove(&link->node);
    free(link->out);
    free(link);
    vgpu_mediator_stop_if_done(m);
}

void vgpu_link_close(struct vgpu_link *link, enum vgpu_link_end end, const char *reason)
{
    if (link->closing)
        return;
    link->closing = true;
    link->end = end;
    while (link->fd_count)
        vgpu_fd_close(&link->fds[--link->fd_count]);
    has_greeted(link);
    log_end(link, reason);
    vgpu_loop_remove(link->mediator->loop, &link->source);
    vgpu_fd_close(&link->source.fd);
    link->timer.call = finish;
    vgpu_loop_timer_set(link->mediator->loop, &link->timer, vgpu_loop_now(link->mediator->loop));
}

static void on_hello_limit(struct vgpu_timer *timer)
{
    struct vgpu_link *link = vgpu_list_entry(timer, struct vgpu_link, timer);
    vgpu_link_close(link, VGPU_LINK_VIOLATION, "no HELLO in 5 s");
}

/* Hands over the descriptors that came with the message. */
static const char *take_window(struct vgpu_link *link, const struct vgpu_frame *frame)
{
    uint32_t count = frame->fd_count;
    if (count > link->fd_count)
        return "fewer descriptors came than fd_count says";
    link->fd_count -= count;
    const char *reason = vgpu_tenant_window_take(link->tenant, &frame->u.window, link->fds, count);
    memmove(link->fds, link->fds + count, link->fd_count * sizeof(link->fds[0]));
    link->order.window = vgpu_window_complete(link->tenant->window);
    return reason;
}

static void deliver(struct vgpu_link *link, const struct vgpu_frame *frame)
{
    const char *reason = vgpu_frame_order_check(&link->order, frame);
    if (reason) {
        vgpu_link_close(link, VGPU_LINK_VIOLATION, reason);
        return;
    }
    switch (frame->type) {
    case VGPU_LINK_HELLO:
        has_greeted(link);
        vgpu_loop_timer_cancel(link->mediator->loop, &link->timer);
        vgpu_broker_hello(link, &frame->u.hello);
        break;
    case VGPU_LINK_REQUEST:
        vgpu_broker_request(link->tenant, frame->seq, frame->u.request.request_id,
                            frame->u.request.bytes, frame->u.request.length);
        break;
    case VGPU_LINK_CANCEL:
        vgpu_broker_cancel(link->tenant, frame->seq);
        break;
    case VGPU_LINK_RESET:
        vgpu_broker_reset(link->tenant, frame->u.reset.generation);
        break;
    case VGPU_LINK_WINDOW:
        reason = take_window(link, frame);
        break;
    case VGPU_LINK_CHANNEL_ENABLE:
        reason = vgpu_tenant_channel_enable(link->tenant, frame->u.channel.channel,
                                            frame->u.channel.serial);
        break;
    case VGPU_LINK_CHANNEL_RESET:
        reason = vgpu_tenant_channel_reset(link->tenant, frame->u.channel.channel,
                                           frame->u.channel.serial);
        break;
    }
    if (reason)
        vgpu_link_close(link, VGPU_LINK_VIOLATION, reason);
}

/* Nobody but a device whose window is not complete has a reason to send any. */
static unsigned takes_fds(const struct vgpu_link *link)
{
    return link->order.brings && !link->order.window ? VGPU_LINK_MAX_FDS : 0;
}

/* Descriptors stand beside the first byte of their message, so they are there when it is whole. */
static bool keep_fds(struct vgpu_link *link, struct vgpu_net_ancillary *ancillary)
{
    if (ancillary->excess || ancillary->fd_count > VGPU_LINK_MAX_FDS - link->fd_count) {
        vgpu_net_close_fds(ancillary);
        vgpu_link_close(link, VGPU_LINK_VIOLATION,
                        takes_fds(link) ? "more descriptors came than there is room for"
                                        : "descriptors came with a message");
        return false;
    }
    memcpy(link->fds + link->fd_count, ancillary->fds, ancillary->fd_count * sizeof(link->fds[0]));
    link->fd_count += ancillary->fd_count;
    return true;
}

static void on_readable(struct vgpu_link *link)
{
    struct vgpu_net_ancillary ancillary;
    ssize_t n = vgpu_net_recv(link->source.fd, link->in + link->in_used,
                              sizeof(link->in) - link->in_used, takes_fds(link), &ancillary);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        vgpu_link_close(link, VGPU_LINK_LOST, n ? strerror((int)-n) : "closed by the other side");
        return;
    }
    if (!keep_fds(link, &ancillary))
        return;
    link->in_used += (size_t)n;
    size_t at = 0;
    while (!link->closing) {
        struct vgpu_frame frame;
        const char *reason;
        int rc = vgpu_frame_parse(link->in + at, link->in_used - at, &frame, &reason);
        if (rc < 0)
            vgpu_link_close(link, VGPU_LINK_VIOLATION, reason);
        if (rc <= 0)
            break;
        deliver(link, &frame);
        at += frame.size;
    }
    if (!link->closing && link->fd_count && at == link->in_used)
        vgpu_link_close(link, VGPU_LINK_VIOLATION, "descriptors came that no message speaks of");
    /* What is left is less than one message, and the buffer holds two. */
    memmove(link->in, link->in + at, link->in_used - at);
    link->in_used -= at;
}

static void flush(struct vgpu_link *link)
{
    while (link->out_start < link->out_end) {
        ssize_t n = vgpu_net_send(link->source.fd, link->out + link->out_start,
                                  link->out_end - link->out_start, NULL, 0);
        if (n == -EAGAIN)
            return;
        if (n < 0) {
            vgpu_link_close(link, VGPU_LINK_LOST, strerror((int)-n));
            return;
        }
        link->out_start += (size_t)n;
    }
    link->out_start = link->out_end = 0;
    vgpu_loop_change(link->mediator->loop, &link->source, EPOLLIN);
}

static void on_event(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_link *link = vgpu_list_entry(source, struct vgpu_link, source);
    if (events & EPOLLOUT)
        flush(link);
    if (!link->closing && (events & ~(uint32_t)EPOLLOUT))
        on_readable(link);
}

struct vgpu_link *vgpu_link_create(struct vgpu_mediator *m, int fd, const char *name)
{
    struct vgpu_link *link = calloc(1, sizeof(*link));
    if (!link) {
        vgpu_fd_close(&fd);
        return NULL;
    }
    link->mediator = m;
    link->source.fd = fd;
    link->source.call = on_event;
    link->timer.call = on_hello_limit;
    snprintf(link->name, sizeof(link->name), "%s", name);
    if (vgpu_loop_add(m->loop, &link->source, EPOLLIN) ||
        vgpu_loop_timer_set(m->loop, &link->timer, vgpu_loop_now(m->loop) + HELLO_LIMIT_NS)) {
        vgpu_loop_remove(m->loop, &link->source);
        vgpu_fd_close(&fd);
        free(link);
        return NULL;
    }
    vgpu_list_append(&m->links, &link->node);
    return link;
}

/* Keeps what the socket did not take; false when that would be over the limit. */
static bool keep(struct vgpu_link *link, const uint8_t *bytes, size_t length)
{
    size_t unsent = link->out_end - link->out_start;
    if (length > VGPU_LINK_UNSENT_MAX - unsent)
        return false;
    if (link->out_start) {
        memmove(link->out, link->out + link->out_start, unsent);
        link->out_start = 0;
        link->out_end = unsent;
    }
    if (link->out_room - unsent < length) {
        size_t room = unsent + length < VGPU_LINK_UNSENT_MAX / 8 ? VGPU_LINK_UNSENT_MAX / 8
                                                                 : VGPU_LINK_UNSENT_MAX;
        uint8_t *out = realloc(link->out, room);
        if (!out)
            return false;
        link->out = out;
        link->out_room = room;
    }
    memcpy(link->out + unsent, bytes, length);
    link->out_end += length;
    return true;
}

void vgpu_link_send(struct vgpu_link *link, const uint8_t *bytes, size_t length)
{
    if (link->closing)
        return;
    if (link->out_start == link->out_end) {
        ssize_t n = vgpu_net_send(link->source.fd, bytes, length, NULL, 0);
        if (n < 0 && n != -EAGAIN) {
            vgpu_link_close(link, VGPU_LINK_LOST, strerror((int)-n));
            return;
        }
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
        }
        if (!length)
            return;
    }
    if (!keep(link, bytes, length)) {
        vgpu_link_close(link, VGPU_LINK_VIOLATION, "it does not read: over 64 KiB are unsent");
        return;
    }
    vgpu_loop_change(link->mediator->loop, &link->source, EPOLLIN | EPOLLOUT);
}

void vgpu_link_send_fds(struct vgpu_link *link, const uint8_t *bytes, size_t length, const int *fds,
                        uint32_t fd_count)
{
    if (link->closing)
        return;
    ssize_t n = -EAGAIN;
    if (link->out_start == link->out_end)
        n = vgpu_net_send(link->source.fd, bytes, length, fds, fd_count);
    if (n < 0 && n != -EAGAIN)
        vgpu_link_close(link, VGPU_LINK_LOST, strerror((int)-n));
    else if (n != (ssize_t)length)
        vgpu_link_close(link, VGPU_LINK_VIOLATION, "it does not take its window");
}

void vgpu_link_respond(struct vgpu_link *link, uint64_t seq, uint32_t error_code,
                       const void *response, uint32_t length)
{
    uint8_t message[VGPU_FRAME_MAX];
    link->order.outstanding = false;
    vgpu_link_send(link, message, vgpu_frame_response(message, seq, error_code, response, length));
}

void vgpu_link_refuse(struct vgpu_link *link, uint32_t reason, const char *text)
{
    uint8_t message[VGPU_FRAME_MAX];
    vgpu_link_send(link, message, vgpu_frame_refuse(message, reason, text));
    vgpu_link_close(link, VGPU_LINK_REFUSED, "refused");
}
