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
 *   - a RESET cancels everything before it, so it replaces a CANCEL, a REQUEST, a RESET and what is
 *     said of channels, when those wait;
 *   - of one channel a CHANNEL_RESET makes what waits before it needless, so a CHANNEL_RESET and a
 *     CHANNEL_ENABLE behind it can wait, and no more.
 * What waits goes out in the order WINDOW, RESET, CANCEL (a CANCEL and a RESET never wait
 * together), then what the guest did last comes last: a REQUEST that binds a channel, say, after
 * the CHANNEL_RESET that unbinds it, if that is how the guest wrote them.
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
    link->tx_fd_count = 0;
    return h + HEADER_BYTES;
}

static uint64_t features(const struct vgpu_device *dev)
{
    return VGPU_LINK_FEATURE_MAILBOX | (dev->config.window_bytes ? VGPU_LINK_FEATURE_CHANNELS : 0u);
}

static void put_hello(struct vgpu_device *dev)
{
    uint8_t *p = start_message(dev, VGPU_LINK_HELLO, 0, sizeof(struct vgpu_link_hello));
    vgpu_device_put64(p + offsetof(struct vgpu_link_hello, features), features(dev));
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, protocol), VGPU_PROTOCOL_VERSION);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, vm_id), dev->config.vm_id);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, pool_id), dev->config.pool_id);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, priority), dev->config.priority);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, timeout_ms), dev->config.timeout_ms);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, generation), dev->generation);
    if (dev->config.window_bytes == 0)
        return;
    vgpu_device_put64(p + offsetof(struct vgpu_link_hello, window_bytes), dev->config.window_bytes);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, channel_count),
                      dev->config.channel_count);
    vgpu_device_put32(p + offsetof(struct vgpu_link_hello, channel_bytes), VGPU_CHANNEL_BYTES);
}

/* The WINDOW message that is next: step 1 has the memory, each after it eight channels. */
static void put_window(struct vgpu_device *dev)
{
    struct vgpu_device_link *link = &dev->link;
    uint8_t *p = start_message(dev, VGPU_LINK_WINDOW, 0, sizeof(struct vgpu_link_window));
    uint32_t count = dev->config.channel_count, first = 0, channels = 0;
    if (link->window_step == 1) {
        link->tx_fds[link->tx_fd_count++] = dev->window.memory;
    } else {
        first = (link->window_step - 2) * VGPU_LINK_WINDOW_CHANNELS;
        channels = count - first;
        if (channels > VGPU_LINK_WINDOW_CHANNELS)
            channels = VGPU_LINK_WINDOW_CHANNELS;
        for (uint32_t n = first; n < first + channels; n++) {
            link->tx_fds[link->tx_fd_count++] = dev->window.doorbell[n];
            link->tx_fds[link->tx_fd_count++] = dev->window.interrupt[n];
        }
    }
    link->window_step = first + channels < count ? link->window_step + 1 : 0;
    vgpu_device_put16(link->tx + offsetof(struct vgpu_link_header, fd_count), link->tx_fd_count);
    vgpu_device_put64(p + offsetof(struct vgpu_link_window, window_bytes),
                      dev->config.window_bytes);
    vgpu_device_put32(p + offsetof(struct vgpu_link_window, channel_count), count);
    vgpu_device_put32(p + offsetof(struct vgpu_link_window, channel_bytes), VGPU_CHANNEL_BYTES);
    vgpu_device_put32(p + offsetof(struct vgpu_link_window, first), first);
    vgpu_device_put32(p + offsetof(struct vgpu_link_window, channels), channels);
}

static void put_channel(struct vgpu_device *dev, enum vgpu_link_type type, uint32_t channel)
{
    uint8_t *p = start_message(dev, type, 0, sizeof(struct vgpu_link_channel));
    vgpu_device_put32(p + offsetof(struct vgpu_link_channel, channel), channel);
    vgpu_device_put32(p + offsetof(struct vgpu_link_channel, serial),
                      ++dev->channels[channel].serial);
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

/* Of what the guest did to the mailbox and to channels, the oldest thing that waits. */
static bool next_in_order(struct vgpu_device *dev)
{
    struct vgpu_device_link *link = &dev->link;
    uint64_t *oldest = link->request_waits ? &link->request_waits : NULL;
    uint32_t channel = 0;
    bool enables = false;
    for (uint32_t n = 0; n < dev->config.channel_count; n++) {
        struct vgpu_device_channel *ch = &dev->channels[n];
        bool reset = ch->reset_waits != 0; /* always older than the enable beside it */
        uint64_t *waits = reset ? &ch->reset_waits : &ch->enable_waits;
        if (*waits == 0 || (oldest && *oldest < *waits))
            continue;
        oldest = waits;
        channel = n;
        enables = !reset;
    }
    if (!oldest)
        return false;
    bool request = oldest == &link->request_waits;
    *oldest = 0;
    if (request)
        put_request(dev);
    else
        put_channel(dev, enables ? VGPU_LINK_CHANNEL_ENABLE : VGPU_LINK_CHANNEL_RESET, channel);
    return true;
}

/* Puts what waits into the empty tx. False: nothing waits. */
static bool next_message(struct vgpu_device *dev)
{
    struct vgpu_device_link *link = &dev->link;
    if (link->window_step) {
        put_window(dev);
    } else if (link->reset_waits) {
        link->reset_waits = false;
        put_reset(dev);
    } else if (link->cancel_waits) {
        link->cancel_waits = false;
        (void)start_message(dev, VGPU_LINK_CANCEL, link->cancel_seq, 0);
    } else {
        return next_in_order(dev);
    }
    return true;
}

/* Takes back a REQUEST of which no byte has gone out. True: the mediator will never hear of it. */
static bool withdraw_request(struct vgpu_device_link *link)
{
    if (link->request_waits) {
        link->request_waits = 0;
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
    link->request_waits = ++link->last_order;
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
    for (uint32_t n = 0; n < dev->config.channel_count; n++) {
        dev->channels[n].reset_waits = 0;
        dev->channels[n].enable_waits = 0;
    }
    link->reset_waits = true;
}

void vgpu_device_link_channel_enable(struct vgpu_device *dev, uint32_t channel)
{
    dev->channels[channel].enable_waits = ++dev->link.last_order;
}

void vgpu_device_link_channel_reset(struct vgpu_device *dev, uint32_t channel)
{
    struct vgpu_device_channel *ch = &dev->channels[channel];
    ch->enable_waits = 0;
    ch->reset_waits = ++dev->link.last_order;
}

static void close_window(struct vgpu_device *dev)
{
    if (!dev->link.window_opened)
        return;
    dev->link.window_opened = false;
    if (dev->ops->window_close)
        dev->ops->window_close(dev->opaque);
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
    link->request_waits = 0;
    link->tx_fd_count = 0;
    link->window_step = 0;
    link->channels = false;
    if (!attached)
        return;
    dev->generation++;
    vgpu_device_show_properties(dev);
    vgpu_device_channels_lost(dev);
    close_window(dev);
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

bool vgpu_device_link_open_window(struct vgpu_device *dev, uint64_t said, uint64_t now_ns)
{
    if (!(said & features(dev) & VGPU_LINK_FEATURE_CHANNELS))
        return true;
    int ret = dev->ops->window_open(dev->opaque, &dev->window);
    if (ret < 0) {
        vgpu_device_emit(dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_LINK_FAILED,
                                                         .code = (uint32_t)-ret});
        give_up(dev, now_ns);
        return false;
    }
    dev->link.window_opened = true;
    dev->link.channels = true;
    dev->link.window_step = 1;
    return true;
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
    if (!tx_empty(link) || link->window_step || link->reset_waits || link->cancel_waits ||
        link->request_waits)
        return true;
    for (uint32_t n = 0; n < dev->config.channel_count; n++)
        if (dev->channels[n].reset_waits || dev->channels[n].enable_waits)
            return true;
    return false;
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
        ssize_t taken = link->tx_fd_count && link->tx_sent == 0
                            ? dev->ops->link_send_fds(dev->opaque, link->tx, left, link->tx_fds,
                                                      link->tx_fd_count)
                            : dev->ops->link_send(dev->opaque, link->tx + link->tx_sent, left);
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
