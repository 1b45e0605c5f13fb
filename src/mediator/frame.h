/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link's framing and the order of its messages, as the mediator sees them (docs/link.md L1, L3,
 * L8, L9 and what it says of channels). Pure: bytes in, message or reason out. It knows no socket
 * and no VM.
 */
#ifndef VGPU_MEDIATOR_FRAME_H
#define VGPU_MEDIATOR_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/link.h"

#define VGPU_FRAME_MAX (sizeof(struct vgpu_link_header) + VGPU_LINK_MAX_PAYLOAD)

/* A message from a device, checked; `bytes` points into the buffer it was read from. */
struct vgpu_frame {
    uint16_t type;     /* enum vgpu_link_type */
    uint16_t fd_count; /* descriptors that come with it */
    uint64_t seq;
    size_t size; /* header and payload */
    union {
        struct vgpu_link_hello hello;
        struct {
            uint32_t request_id;
            const uint8_t *bytes;
            uint32_t length;
        } request;
        struct vgpu_link_reset reset;
        struct vgpu_link_window window;
        struct vgpu_link_channel channel; /* ENABLE and RESET of one */
    } u;
};

/*
 * Looks for one message at the start of data. 1: *frame is it. 0: it is not complete yet, but right
 * so far. -EPROTO: a violation, *reason says which.
 */
int vgpu_frame_parse(const uint8_t *data, size_t size, struct vgpu_frame *frame,
                     const char **reason);

/* What a device may send next. Starts zeroed. */
struct vgpu_frame_order {
    bool greeted;      /* HELLO has come */
    bool welcomed;     /* and was answered */
    bool channels;     /* ... with channels */
    bool brings;       /* ... and a window of its own, by WINDOW: it is a device */
    bool window;       /* the window is there, whoever made it */
    bool outstanding;  /* a request is */
    uint64_t last_seq; /* of a REQUEST */
    uint64_t outstanding_seq;
};

/* Whether this message may come now; takes note of it. NULL, or why it is a violation. */
const char *vgpu_frame_order_check(struct vgpu_frame_order *order, const struct vgpu_frame *frame);

/* Writes a header and the payload behind it; out has room. Returns the bytes written. */
size_t vgpu_frame_welcome(uint8_t *out, uint16_t type, uint64_t features, uint32_t vm_id,
                          uint32_t pool_id, uint32_t priority);
/* text is cut to VGPU_LINK_REFUSE_TEXT_MAX bytes. */
size_t vgpu_frame_refuse(uint8_t *out, uint32_t reason, const char *text);
/* fd_count descriptors are sent with it. */
size_t vgpu_frame_window(uint8_t *out, const struct vgpu_link_window *window, uint16_t fd_count);
size_t vgpu_frame_state(uint8_t *out, const struct vgpu_link_channel *channel);
/* length is at most VGPU_MAILBOX_BYTES. */
size_t vgpu_frame_response(uint8_t *out, uint64_t seq, uint32_t error_code, const void *response,
                           uint32_t length);

#endif
