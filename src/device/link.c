/* SPDX-License-Identifier: MIT */
/*
 * The link's connection and everything the device says on it (docs/link.md). It refuses to know
 * what a message from the mediator means: that is link_receive.c.
 *
 * Nothing can overflow here, however slowly the mediator reads. A message of which a byte has gone
 * out is finished, for the framing's sake; behind it each kind of message waits at most once:
 *   - a REQUEST that is given up before its first byte is simply not sent, so only one can wait;
 *   - a CANCEL is needed only for a REQUEST that was begun, and the next REQUEST is not begun
 *     before that CANCEL has gone out, so only one can wait;
 *   - a RESET cancels everything before it, so it replaces a CANCEL, a REQUEST or a RESET that
 *     waits.
 * What waits goes out in the order RESET, CANCEL, REQUEST: a CANCEL and a RESET never wait
 * together.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define HEADER_BYTES sizeof(struct vgpu_link_header)

/* Puts a message into tx: the header, and room for length bytes, zeroed. Returns the payload. */
static uint8_t *start_message(struct vgpu_device *dev, enum vgpu_link_type type, uint64_t seq,
                              uint32_t length)
{
    struct vgpu_device_link *link = &dev->link;
    uint8_t *h = link->tx;
    memset(h, 0, HEADER_BYTES + length);
    vgpu_device_put32(h + offsetof(struct vgpu_link_header, magic), VGPU_LINK_MAGIC);
    vgpu_device_put16(h + offsetof(struct vgpu_link_header, type), (uint32_t)type);
    vgpu_device_put32(h + offsetof(struct vgpu_link_header, length), length);
    vgpu_device_put64(h + offsetof(struct vgpu_link_header, seq), seq);
    link->tx_length = (uint32_t)HEADER_BYTES + length;
    link->tx_sent = 0;
    link->tx_request_seq = type == VGPU_LINK_REQUEST ? seq : 0;
    return h + HEADER_BYTES;
}

static void put_hello(struct vgpu_device *dev)
{
    uint8_t *p = start_message(dev, VGPU_LINK_HELLO, 0, sizeof(struct vgpu_link_hello));
    vgpu_device_put64(p + offsetof(struct vgpu_link_hello, features), VGPU_LINK_FEATURES_KNOWN);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, protocol), VGPU_PROTOCOL_VERSION);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, vm_id), dev->config.vm_id);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, pool_id), dev->config.pool_id);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, priority), dev->config.priority);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, timeout_ms), dev->config.timeout_ms);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, generation), dev->generation);
}

static void put_reset(struct vgpu_device *dev)
{
    uint8_t *p = start_message(dev, VGPU_LINK_RESET, 0, sizeof(struct vgpu_link_reset));
    vgpu_device_put32(p + offsetof(struct vgpu_link_reset, generation), dev->generation);
}

static void put_request(struct vgpu_device *dev)
{
    const struct vgpu_device_link *link = &dev->link;
    uint8_t *p = start_message(dev, VGPU_LINK_REQUEST, link->request_seq,
                               (uint32_t)sizeof(struct vgpu_link_request) + link->request_length);
    vgpu_device_put32(p + offsetof(struct vgpu_link_request, request_id), link->request_id);
    vgpu_device_put32(p + offsetof(struct vgpu_link_request, request_length), link->request_length);
    memcpy(p + sizeof(struct vgpu_link_request), link->request, link->request_length);
}

static bool tx_empty(const struct vgpu_device_link *link)
{
    return link->tx_sent == link->tx_length;
}

/* Puts what waits into the empty tx. False: nothing waits. */
static bool next_message(struct vgpu_device *dev)
{
    struct vgpu_device_link *link = &dev->link;
    if (link->reset_waits) {
        link->reset_waits = false;
        put_reset(dev);
    } else if (link->cancel_waits) {
        link->cancel_waits = false;
        (void)start_message(dev, VGPU_LINK_CANCEL, link->cancel_seq, 0);
    } else if (link->request_waits) {
        link->request_waits = false;
        put_request(dev);
    } else {
        return false;
    }
    return true;
}

/* Takes back a REQUEST of which no byte has gone out. True: the mediator will never hear of it. */
static bool withdraw_request(struct vgpu_device_link *link)
{
    if (link->request_waits) {
        link->request_waits = false;
        return true;
    }
    /* While flushing, link_send may have taken bytes that are not counted yet. */
    if (link->tx_request_seq && link->tx_sent == 0 && link->tx_length && !link->flushing) {
        link->tx_length = 0;
        link->tx_request_seq = 0;
        return true;
    }
    return false;
}

void vgpu_device_link_request(struct vgpu_device *dev, uint64_t seq)
{
    struct vgpu_device_link *link = &dev->link;
    link->request_waits = true;
    link->request_seq = seq;
    link->request_id = dev->request_id;
    link->request_length = dev->request_len;
    memcpy(link->request, dev->request_buf, dev->request_len);
}

void vgpu_device_link_cancel(struct vgpu_device *dev, uint64_t seq)
{
    struct vgpu_device_link *link = &dev->link;
    if (withdraw_request(link))
        return;
    link->cancel_waits = true;
    link->cancel_seq = seq;
}

void vgpu_device_link_reset(struct vgpu_device *dev)
{
    struct vgpu_device_link *link = &dev->link;
    if (link->state != VGPU_DEVICE_LINK_UP)
        return; /* nothing but HELLO before WELCOME (L3), and there is nothing to free */
    (void)withdraw_request(link);
    link->cancel_waits = false;
    link->reset_waits = true;
}

/* R14, in its order. state: DOWN or CLOSING. */
static void lose_link(struct vgpu_device *dev, enum vgpu_device_link_state state, uint64_t now_ns)
{
    struct vgpu_device_link *link = &dev->link;
    bool attached = link->state == VGPU_DEVICE_LINK_UP;
    link->state = state;
    link->epoch++;
    link->rx_length = 0;
    link->tx_length = 0;
    link->tx_sent = 0;
    link->tx_request_seq = 0;
    link->cancel_waits = false;
    link->reset_waits = false;
    link->request_waits = false;
    if (!attached)
        return;
    dev->generation++;
    vgpu_device_show_properties(dev);
    if (dev->status == VGPU_STATUS_BUSY)
        vgpu_device_complete(dev, VGPU_ERR_MEDIATOR_UNAVAILABLE, NULL, 0, now_ns);
}

/* The device gives the connection up. */
static void give_up(struct vgpu_device *dev, uint64_t now_ns)
{
    lose_link(dev, VGPU_DEVICE_LINK_CLOSING, now_ns);
    /* An interrupt in there may have made the embedder close it already. */
    if (dev->link.state == VGPU_DEVICE_LINK_CLOSING && dev->ops->link_close)
        dev->ops->link_close(dev->opaque);
}

void vgpu_device_link_violation(struct vgpu_device *dev, const char *text, uint64_t value,
                                uint64_t now_ns)
{
    dev->stats.violations++;
    vgpu_device_emit(dev, (struct vgpu_device_event){
                              .kind = VGPU_DEVICE_LINK_VIOLATION, .text = text, .value = value});
    give_up(dev, now_ns);
}

bool vgpu_device_link_hello_sent(const struct vgpu_device *dev)
{
    /* In state HELLO tx holds the HELLO and nothing else. */
    return tx_empty(&dev->link);
}

enum vgpu_device_link_state vgpu_device_link_state(const struct vgpu_device *dev)
{
    return dev->link.state;
}

bool vgpu_device_link_wants_write(const struct vgpu_device *dev)
{
    const struct vgpu_device_link *link = &dev->link;
    return !tx_empty(link) || link->reset_waits || link->cancel_waits || link->request_waits;
}

void vgpu_device_link_flush(struct vgpu_device *dev, uint64_t now_ns)
{
    struct vgpu_device_link *link = &dev->link;
    if (link->flushing)
        return; /* the loop that is running will see what has been added */
    link->flushing = true;
    while (!tx_empty(link) || next_message(dev)) {
        uint32_t epoch = link->epoch;
        size_t left = link->tx_length - link->tx_sent;
        ssize_t taken = dev->ops->link_send(dev->opaque, link->tx + link->tx_sent, left);
        if (link->epoch != epoch)
            continue; /* lost in there; what is in tx now belongs to another connection */
        if (taken == 0 || taken == -EAGAIN)
            break;
        if (taken < 0 || (size_t)taken > left) {
            vgpu_device_emit(dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_LINK_FAILED,
                                                             .code = taken < 0 ? (uint32_t)-taken
                                                                               : (uint32_t)EPROTO});
            give_up(dev, now_ns);
            continue;
        }
        link->tx_sent += (uint32_t)taken;
        if (tx_empty(link) && link->tx_request_seq && link->tx_request_seq == dev->inflight_seq)
            dev->inflight_sent = true;
    }
    link->flushing = false;
}

void vgpu_device_link_opened(struct vgpu_device *dev, uint64_t now_ns)
{
    vgpu_device_link_closed(dev, now_ns);
    dev->link.state = VGPU_DEVICE_LINK_HELLO;
    dev->link.epoch++;
    vgpu_device_emit(dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_LINK_OPENED});
    put_hello(dev);
    vgpu_device_link_flush(dev, now_ns);
}

void vgpu_device_link_writable(struct vgpu_device *dev, uint64_t now_ns)
{
    vgpu_device_link_flush(dev, now_ns);
}

void vgpu_device_link_closed(struct vgpu_device *dev, uint64_t now_ns)
{
    if (dev->link.state == VGPU_DEVICE_LINK_DOWN)
        return;
    lose_link(dev, VGPU_DEVICE_LINK_DOWN, now_ns);
    vgpu_device_emit(
        dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_LINK_CLOSED, .code = dev->generation});
}
