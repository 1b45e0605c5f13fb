/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both ends of the link against arbitrary bytes (docs/link.md L1): the mediator's framing, and the
 * device model with a guest that submits while a hostile mediator talks to it.
 *
 * Input: one byte that chooses the end, then the stream. For the device each piece starts with a
 * byte that says what happens: bytes of the stream, a doorbell, a reset, the end of the link, time.
 */
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "mediator/channel.h"
#include "mediator/frame.h"
#include "mediator/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static ssize_t take_all(void *opaque, const void *bytes, size_t length)
{
    unsigned *sent = opaque;
    MUST(bytes && length && length <= VGPU_DEVICE_TX_BYTES);
    /* Now and then the socket is full, or takes a part. */
    if (++*sent % 5 == 0)
        return 0;
    return *sent % 3 == 0 && length > 1 ? (ssize_t)(length / 2) : (ssize_t)length;
}

static void as_device(const uint8_t *data, size_t size)
{
    static const struct vgpu_device_ops ops = {.link_send = take_all};
    const struct vgpu_device_config config = {
        .pool_id = 'A', .priority = VGPU_PRIORITY_LOW, .vm_id = 1, .timeout_ms = 1000};
    struct vgpu_device dev;
    unsigned sent = 0;
    uint64_t now = 1;
    MUST(vgpu_device_init(&dev, &config, &ops, &sent) == 0);
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
            vgpu_device_write(&dev, VGPU_REG_REQUEST_LEN, length, 4, now);
            vgpu_device_write(&dev, VGPU_REG_DOORBELL, 1, 4, now);
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
    }
    /* R18: whatever happened, time ends a request. */
    vgpu_device_timer(&dev, now + 3600000000000ull);
    MUST(vgpu_device_read(&dev, VGPU_REG_STATUS, 4, now) != VGPU_STATUS_BUSY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && (data[0] & 1))
        as_device(data + 1, size - 1);
    else if (size)
        as_mediator(data + 1, size - 1);
    return 0;
}
