/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control thread; see control.h. */
#define _GNU_SOURCE /* ppoll */
#include "worker/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/net.h"
#include "worker/attach.h"
#include "worker/dispatch.h"
#include "worker/engine.h"
#include "worker/lease.h"
#include "worker/mailbox.h"
#include "worker/packet.h"

struct vgpu_worker {
    int fd;
    struct vgpu_lease lease;
    struct vgpu_engine *engine;
    struct vgpu_dispatcher dispatcher;
    struct vgpu_mailbox mailbox;
    struct vgpu_packet_queue out;
    struct vgpu_attach attach;
};

static void respond(void *context, uint64_t seq, uint32_t error_code, const uint8_t *bytes,
                    uint32_t length)
{
    struct vgpu_worker *w = context;
    vgpu_log(VGPU_LOG_DEBUG, "response", "seq=%llu error=%u bytes=%u", (unsigned long long)seq,
             error_code, length);
    vgpu_packet_send_response(&w->out, seq, error_code, bytes, length);
}

static uint64_t now_ns(void *context)
{
    (void)context;
    return vgpu_clock_ns();
}

int vgpu_worker_create(const struct vgpu_worker_config *config, struct vgpu_worker **out)
{
    int rc = vgpu_fd_set_nonblock(config->fd);
    if (rc)
        return rc;
    struct vgpu_worker *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->fd = config->fd;
    vgpu_lease_init(&w->lease);
    struct vgpu_device_info info = {.name = ""};
    config->ops->device_info(config->backend, &info);
    rc = vgpu_engine_create(config->ops, config->backend, config->account, &w->lease, &w->engine);
    if (rc) {
        free(w);
        return rc;
    }
    vgpu_engine_set_queue(w->engine, config->queue);
    vgpu_dispatch_init(&w->dispatcher, w->engine, &info, config->session_id);
    vgpu_mailbox_init(&w->mailbox, &(struct vgpu_mailbox_config){.dispatcher = &w->dispatcher,
                                                                 .respond = respond,
                                                                 .now_ns = now_ns,
                                                                 .context = w});
    vgpu_packet_queue_init(&w->out, config->fd);
    vgpu_attach_init(&w->attach, w->engine, &w->dispatcher, &w->out);
    *out = w;
    return 0;
}

void vgpu_worker_destroy(struct vgpu_worker *w)
{
    vgpu_engine_destroy(w->engine);
    vgpu_attach_destroy(&w->attach);
    vgpu_mailbox_destroy(&w->mailbox);
    vgpu_dispatch_destroy(&w->dispatcher);
    vgpu_packet_queue_destroy(&w->out);
    free(w);
}

/* Answers 0, or -EPROTO with *why. Takes the descriptors it sets to -1. */
static int handle(struct vgpu_worker *w, const struct vgpu_packet *p, int *fds, const char **why)
{
    uint64_t seq = p->header.seq;
    switch (p->header.type) {
    case VGPU_WORKER_REQUEST:
        vgpu_log(VGPU_LOG_DEBUG, "request", "request=%u seq=%llu bytes=%u", p->request_id,
                 (unsigned long long)seq, p->length);
        vgpu_mailbox_request(&w->mailbox, seq, p->request_id, p->bytes, p->length);
        return 0;
    case VGPU_WORKER_CANCEL:
        vgpu_mailbox_cancel(&w->mailbox, seq);
        return 0;
    case VGPU_WORKER_GRANT:
        /* The engine may have released without our having said so yet: the mediator cannot grant
         * before it has read that. */
        if (vgpu_lease_grant(&w->lease, seq)) {
            *why = "GRANT while a lease is held";
            return -EPROTO;
        }
        vgpu_engine_wake(w->engine);
        return 0;
    case VGPU_WORKER_RECALL:
        if (vgpu_lease_recall(&w->lease, seq, vgpu_clock_ns(), p->grace_us, p->linger_us))
            vgpu_engine_wake(w->engine);
        return 0;
    case VGPU_WORKER_ATTACH:
        return vgpu_attach_channel(&w->attach, &p->attach, fds, why);
    case VGPU_WORKER_DETACH:
        return vgpu_attach_detach(&w->attach, &p->channel, why);
    case VGPU_WORKER_EXTENT:
        return vgpu_attach_extent(&w->attach, seq, &p->extent, why);
    default:
        return -EPROTO; /* parse lets nothing else through */
    }
}

/* Reads one packet: a mailbox has one request at a time, so looking for a second would mostly be a
 * wasted call. Returns 1 to go on, 0 at the end of the socket, a negative errno. */
static int read_packet(struct vgpu_worker *w)
{
    uint8_t buffer[VGPU_WORKER_MAX_MESSAGE];
    struct vgpu_net_ancillary ancillary;
    ssize_t n = vgpu_net_recv(w->fd, buffer, sizeof(buffer), VGPU_PACKET_ATTACH_FDS, &ancillary);
    if (n == -EAGAIN || n == -EWOULDBLOCK)
        return 1;
    if (n == -ECONNRESET)
        return 0; /* closed with our packets unread */
    if (n < 0)
        return (int)n;
    if (n == 0)
        return 0;
    struct vgpu_packet packet;
    const char *why = "too many descriptors, or a packet that is too long";
    int rc = ancillary.excess || ancillary.truncated ? -EPROTO : 0;
    if (!rc)
        rc = vgpu_packet_parse(buffer, (size_t)n, ancillary.fd_count, &packet, &why);
    if (!rc)
        rc = handle(w, &packet, ancillary.fds, &why);
    for (unsigned i = 0; i < ancillary.fd_count; i++)
        vgpu_fd_close(&ancillary.fds[i]); /* what nobody took */
    if (rc)
        vgpu_log(VGPU_LOG_ERROR, "violation", "reason=\"%s\" bytes=%zd", why, n);
    return rc ? rc : 1;
}

/* Says WANT and RETURN, in this order: who hears of the return must know already that the lease is
 * wanted again, or the next one goes to another each time, whatever the shares (W4). */
static void settle_lease(struct vgpu_worker *w)
{
    uint64_t number;
    if (vgpu_lease_tick(&w->lease, vgpu_clock_ns()))
        vgpu_engine_wake(w->engine);
    bool returned = vgpu_lease_take_return(&w->lease, &number);
    if (vgpu_engine_has_work(w->engine) && vgpu_lease_want(&w->lease))
        vgpu_packet_send(&w->out, VGPU_WORKER_WANT, 0);
    if (returned)
        vgpu_packet_send(&w->out, VGPU_WORKER_RETURN, number);
}

static struct timespec time_left(uint64_t deadline_ns)
{
    uint64_t now = vgpu_clock_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    return (struct timespec){.tv_sec = (time_t)(left / VGPU_NS_PER_S),
                             .tv_nsec = (long)(left % VGPU_NS_PER_S)};
}

int vgpu_worker_run(struct vgpu_worker *w)
{
    vgpu_packet_send(&w->out, VGPU_WORKER_READY, 0);
    while (!w->out.error) {
        uint64_t deadline = vgpu_mailbox_deadline(&w->mailbox);
        uint64_t grace = vgpu_lease_deadline(&w->lease);
        if (grace < deadline)
            deadline = grace;
        struct timespec left = time_left(deadline);
        struct pollfd fds[] = {
            {.fd = w->fd, .events = (short)(POLLIN | (w->out.count ? POLLOUT : 0))},
            {.fd = vgpu_engine_fd(w->engine), .events = POLLIN},
        };
        if (ppoll(fds, 2, deadline == VGPU_NS_NEVER ? NULL : &left, NULL) < 0 && errno != EINTR)
            return -errno;
        /* W6: at once, without a look at what may still be in the socket. */
        if (fds[0].revents & (POLLHUP | POLLERR))
            return 0;
        if (fds[0].revents & POLLOUT)
            vgpu_packet_flush(&w->out);
        if (fds[1].revents)
            vgpu_dispatch_collect(&w->dispatcher);
        if (fds[0].revents & (POLLIN | POLLNVAL)) {
            int rc = read_packet(w);
            if (rc <= 0)
                return rc;
        }
        vgpu_attach_report(&w->attach);
        vgpu_mailbox_tick(&w->mailbox);
        settle_lease(w);
    }
    return w->out.error == -EPIPE ? 0 : w->out.error;
}
