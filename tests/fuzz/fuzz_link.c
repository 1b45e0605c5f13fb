/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both ends of the link against arbitrary bytes (docs/link.md L1): the mediator's framing, and the
 * device model with a guest that submits while a hostile mediator talks to it.
 *
 * Input: one byte that chooses the end, and whether the device has a window, then the stream. For
 * the device each piece starts with a byte that says what happens: bytes of the stream, a doorbell,
 * a word to a channel, a reset, the end of the link, time.
 */
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "mediator/channel.h"
#include "mediator/frame.h"
#include "mediator/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHANNELS 4

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

/* ---- The mediator's end ---- */

/* What HELLO wishes for is granted; half of those who come bring a window, which is there at once.
 */
static void welcome(struct vgpu_frame_order *order, const struct vgpu_link_hello *hello)
{
    order->welcomed = true;
    order->channels = hello->features & VGPU_LINK_FEATURE_CHANNELS;
    order->brings = order->channels && hello->vm_id & 1;
    order->window = order->channels;
}

/* A worker that answers at once. */
static void on_channel(struct vgpu_channel *c, const struct vgpu_frame *frame)
{
    const char *why = NULL;
    uint32_t serial = frame->u.channel.serial;
    int deeds = frame->type == VGPU_LINK_CHANNEL_ENABLE ? vgpu_channel_enable(c, serial)
                                                        : vgpu_channel_reset(c, serial);
    if (deeds >= 0 && deeds & VGPU_CHANNEL_ATTACH) {
        vgpu_channel_attaching(c, 1);
        MUST(vgpu_channel_said(c, 1, VGPU_CHANNEL_ACTIVE, 0, &why) == VGPU_CHANNEL_TELL);
    }
    if (deeds >= 0 && deeds & VGPU_CHANNEL_DETACH)
        MUST(vgpu_channel_said(c, 1, VGPU_CHANNEL_FREE, 0, &why) == VGPU_CHANNEL_TELL);
    MUST(!c->enabling && !c->freeing);
    vgpu_channel_bind(c, serial);
}

static void as_mediator(const uint8_t *data, size_t size)
{
    struct vgpu_frame_order order = {.greeted = false};
    struct vgpu_channel channels[4] = {{.state = VGPU_CHANNEL_FREE}};
    for (size_t at = 0; at < size;) {
        struct vgpu_frame frame;
        struct vgpu_route route;
        const char *reason = NULL;
        int rc = vgpu_frame_parse(data + at, size - at, &frame, &reason);
        MUST(rc == 1 || rc == 0 || (rc < 0 && reason));
        if (rc != 1)
            return;
        MUST(frame.size >= sizeof(struct vgpu_link_header) && frame.size <= size - at);
        if (vgpu_frame_order_check(&order, &frame))
            return;
        MUST(frame.fd_count <= VGPU_LINK_MAX_FDS);
        if (frame.type == VGPU_LINK_HELLO)
            welcome(&order, &frame.u.hello);
        if (frame.type == VGPU_LINK_CHANNEL_ENABLE || frame.type == VGPU_LINK_CHANNEL_RESET)
            on_channel(&channels[frame.u.channel.channel % 4], &frame);
        if (frame.type == VGPU_LINK_REQUEST) {
            uint8_t answer[VGPU_MAILBOX_BYTES];
            uint32_t error =
                vgpu_request_route(frame.u.request.bytes, frame.u.request.length, &route, &reason);
            MUST(!error || reason);
            uint32_t n =
                error ? vgpu_request_answer(answer, vgpu_request_error_status(error), reason) : 32;
            MUST(n >= 32 && n <= sizeof(answer));
            order.outstanding = false;
        }
        at += frame.size;
    }
}

/* ---- The device's end ---- */

struct host {
    unsigned sent;
    bool open;
};

static ssize_t take_all(void *opaque, const void *bytes, size_t length)
{
    struct host *host = opaque;
    MUST(bytes && length && length <= VGPU_DEVICE_TX_BYTES);
    /* Now and then the socket is full, or takes a part. */
    if (++host->sent % 5 == 0)
        return 0;
    return host->sent % 3 == 0 && length > 1 ? (ssize_t)(length / 2) : (ssize_t)length;
}

static ssize_t take_fds(void *opaque, const void *bytes, size_t length, const int *fds,
                        unsigned count)
{
    struct host *host = opaque;
    MUST(host->open && count >= 1 && count <= VGPU_LINK_MAX_FDS);
    for (unsigned i = 0; i < count; i++)
        MUST(fds[i] >= 100);
    return take_all(opaque, bytes, length);
}

static int open_window(void *opaque, struct vgpu_device_window *window)
{
    struct host *host = opaque;
    MUST(!host->open);
    host->open = true;
    window->memory = 100;
    for (int n = 0; n < FUZZ_CHANNELS; n++)
        window->doorbell[n] = window->interrupt[n] = 101 + n;
    return 0;
}

static void close_window(void *opaque)
{
    struct host *host = opaque;
    MUST(host->open);
    host->open = false;
}

static void ring(void *opaque, uint32_t channel)
{
    struct host *host = opaque;
    MUST(host->open && channel < FUZZ_CHANNELS);
}

static void guest_acts(struct vgpu_device *dev, uint32_t what, uint64_t now)
{
    uint32_t n = what & 3, v = what >> 2 & 7;
    if (!(what & 0x20)) {
        vgpu_device_write(dev, VGPU_REG_REQUEST_LEN, what, 4, now);
        vgpu_device_write(dev, VGPU_REG_DOORBELL, 1, 4, now);
    } else if (v < 2) {
        vgpu_device_write(dev, VGPU_REG_CHANNEL_OWNER(n), v, 4, now);
    } else if (v < 4) {
        vgpu_device_write(dev, VGPU_REG_CHANNEL_CTRL(n), v - 2, 4, now);
    } else {
        vgpu_device_write(dev, VGPU_REG_CHANNEL_OWNER(n) + 2 * (v - 4), v, 8, now);
    }
}

static void as_device(const uint8_t *data, size_t size, bool window)
{
    static const struct vgpu_device_ops ops = {.link_send = take_all,
                                               .link_send_fds = take_fds,
                                               .window_open = open_window,
                                               .window_close = close_window,
                                               .ring_doorbell = ring};
    const struct vgpu_device_config config = {.pool_id = 'A',
                                              .priority = VGPU_PRIORITY_LOW,
                                              .vm_id = 1,
                                              .timeout_ms = 1000,
                                              .window_bytes = window ? 4u << 20 : 0,
                                              .channel_count = FUZZ_CHANNELS};
    struct vgpu_device dev;
    struct host host = {0};
    uint64_t now = 1;
    MUST(vgpu_device_init(&dev, &config, &ops, &host) == 0);
    vgpu_device_link_opened(&dev, now);
    for (size_t at = 0; at < size;) {
        uint8_t what = data[at++];
        size_t length = what & 0x3f;
        now += 1000000;
        switch (what >> 6) {
        case 0: /* a few bytes from the mediator */
        case 1: /* many */
            length = what >> 6 ? length * 32 : length;
            length = length > size - at ? size - at : length;
            vgpu_device_link_received(&dev, data + at, length, 0, now);
            at += length;
            break;
        case 2: /* the guest */
            guest_acts(&dev, (uint32_t)length, now);
            break;
        default:
            if (length & 1)
                vgpu_device_reset(&dev, now);
            if (length & 2)
                vgpu_device_link_closed(&dev, now);
            if (length & 4)
                vgpu_device_link_opened(&dev, now);
            if (length & 8)
                vgpu_device_timer(&dev, now += 2000000000);
            vgpu_device_link_writable(&dev, now);
        }
        MUST(vgpu_device_read(&dev, VGPU_REG_STATUS, 4, now) <= VGPU_STATUS_ERROR);
        MUST(vgpu_device_read(&dev, VGPU_REG_RESPONSE_LEN, 4, now) <= VGPU_MAILBOX_BYTES);
        MUST(!host.open || vgpu_device_attached(&dev));
        for (uint32_t n = 0; n < FUZZ_CHANNELS; n++)
            MUST(vgpu_device_read(&dev, VGPU_REG_CHANNEL_CTRL(n), 4, now) <= VGPU_CHANNEL_FATAL);
    }
    /* R18: whatever happened, time ends a request. */
    vgpu_device_timer(&dev, now + 3600000000000ull);
    MUST(vgpu_device_read(&dev, VGPU_REG_STATUS, 4, now) != VGPU_STATUS_BUSY);
    vgpu_device_link_closed(&dev, now);
    MUST(!host.open);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && (data[0] & 1))
        as_device(data + 1, size - 1, data[0] & 2);
    else if (size)
        as_mediator(data + 1, size - 1);
    return 0;
}
