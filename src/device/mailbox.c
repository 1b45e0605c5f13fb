/* SPDX-License-Identifier: MIT */
/*
 * The mailbox: one request from doorbell to completion (R6 to R12). It refuses to know how bytes
 * travel, and what is in a request.
 */
#include <string.h>

#include "internal.h"

#define NS_PER_MS 1000000u

static void set_timer(struct vgpu_device *dev, uint64_t deadline_ns)
{
    dev->deadline_ns = deadline_ns;
    if (dev->ops->set_timer)
        dev->ops->set_timer(dev->opaque, deadline_ns);
}

/* Everything of the request before, except STATUS (R6). */
static void forget_result(struct vgpu_device *dev)
{
    dev->error_code = VGPU_ERR_NONE;
    dev->response_len = 0;
    dev->timestamp_ns = 0;
    dev->timestamp_hi_latched = 0;
    memset(dev->response_buf, 0, sizeof(dev->response_buf));
}

/* Nobody waits for the request in flight any more; STATUS is the caller's. */
static void end_flight(struct vgpu_device *dev)
{
    if (dev->inflight_seq)
        set_timer(dev, 0);
    dev->inflight_seq = 0;
    dev->inflight_sent = false;
}

void vgpu_device_mailbox_reset(struct vgpu_device *dev)
{
    end_flight(dev);
    forget_result(dev);
    dev->status = VGPU_STATUS_IDLE;
}

void vgpu_device_acknowledge(struct vgpu_device *dev)
{
    if (dev->status == VGPU_STATUS_DONE || dev->status == VGPU_STATUS_ERROR)
        dev->status = VGPU_STATUS_IDLE;
}

void vgpu_device_complete(struct vgpu_device *dev, uint32_t error_code, const uint8_t *response,
                          uint32_t length, uint64_t now_ns)
{
    uint64_t seq = dev->inflight_seq;
    end_flight(dev);
    memset(dev->response_buf, 0, sizeof(dev->response_buf));
    if (length)
        memcpy(dev->response_buf, response, length);
    dev->response_len = length;
    dev->error_code = error_code;
    dev->timestamp_ns = now_ns;
    dev->status = error_code == VGPU_ERR_NONE ? VGPU_STATUS_DONE : VGPU_STATUS_ERROR;
    dev->interrupt_status = 1;
    dev->stats.completions++;
    if (error_code != VGPU_ERR_NONE)
        dev->stats.errors++;
    vgpu_device_emit(
        dev, (struct vgpu_device_event){
                 .kind = VGPU_DEVICE_COMPLETED, .seq = seq, .code = error_code, .value = length});
    if (dev->interrupt_ctrl && dev->config.msix && dev->ops->raise_interrupt) {
        /* Never nested: no doorbell is taken in there, so there is nothing to complete. */
        dev->raising = true;
        dev->ops->raise_interrupt(dev->opaque);
        dev->raising = false;
    }
}

static void submit(struct vgpu_device *dev, uint64_t now_ns)
{
    dev->status = VGPU_STATUS_BUSY;
    dev->inflight_seq = ++dev->last_seq;
    dev->inflight_sent = false;
    dev->stats.requests++;
    vgpu_device_emit(dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_SUBMITTED,
                                                     .seq = dev->inflight_seq,
                                                     .code = dev->request_id,
                                                     .value = dev->request_len});
    set_timer(dev, now_ns + (uint64_t)dev->config.timeout_ms * NS_PER_MS);
    vgpu_device_link_request(dev, dev->inflight_seq);
    /* Last: a send that finds the link dead completes the request in here. */
    vgpu_device_link_flush(dev, now_ns);
}

void vgpu_device_doorbell(struct vgpu_device *dev, uint32_t value, uint64_t now_ns)
{
    if (!(value & 1u)) {
        vgpu_device_acknowledge(dev); /* BUSY stays BUSY (R9) */
        return;
    }
    if (dev->status == VGPU_STATUS_BUSY) {
        dev->stats.doorbells_ignored++;
        vgpu_device_guest_error(dev, "doorbell while busy", VGPU_REG_DOORBELL, value, now_ns);
        return;
    }
    dev->status = VGPU_STATUS_IDLE;
    forget_result(dev);
    if (dev->request_len == 0)
        vgpu_device_complete(dev, VGPU_ERR_INVALID_LENGTH, NULL, 0, now_ns);
    else if (dev->request_len > VGPU_MAILBOX_BYTES)
        vgpu_device_complete(dev, VGPU_ERR_REQUEST_TOO_LARGE, NULL, 0, now_ns);
    else if (!vgpu_device_attached(dev))
        vgpu_device_complete(dev, VGPU_ERR_MEDIATOR_UNAVAILABLE, NULL, 0, now_ns);
    else
        submit(dev, now_ns);
}

void vgpu_device_timer(struct vgpu_device *dev, uint64_t now_ns)
{
    if (dev->status != VGPU_STATUS_BUSY)
        return;
    if (now_ns < dev->deadline_ns) {
        set_timer(dev, dev->deadline_ns);
        return;
    }
    dev->stats.timeouts++;
    vgpu_device_emit(
        dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_TIMED_OUT, .seq = dev->inflight_seq});
    /* Noted before the completion, whose interrupt may lead back into the device. */
    vgpu_device_link_cancel(dev, dev->inflight_seq);
    vgpu_device_complete(dev, VGPU_ERR_TIMEOUT, NULL, 0, now_ns);
    vgpu_device_link_flush(dev, now_ns);
}
