/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the mediator reads of a request: enough to know which session it is for (docs/protocol.md P1
 * to P5, P23), and the responses that it makes itself. Pure. It knows no opcode's parameters.
 */
#ifndef VGPU_MEDIATOR_REQUEST_H
#define VGPU_MEDIATOR_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/protocol.h"

struct vgpu_route {
    uint32_t opcode;
    bool typed;       /* below 0x1000: a CUresult that is not 0 is error 5 (P7) */
    uint64_t session; /* 0 for typed requests */
    uint32_t channel; /* SESSION_CHANNEL */
};

/*
 * Reads a request of `length` bytes. Returns 0 with *route, or enum vgpu_error with *reason: a text
 * for a person. *route says what is known of it in both cases.
 */
uint32_t vgpu_request_route(const uint8_t *bytes, uint32_t length, struct vgpu_route *route,
                            const char **reason);

/*
 * Makes a response with this status, no results, and text (may be NULL; cut to fit) as its data.
 * out has VGPU_MAILBOX_BYTES. Returns its length.
 */
uint32_t vgpu_request_answer(uint8_t *out, uint32_t status, const char *text);

/* The status that goes with an error code (P6); 0: the response is to be empty. */
uint32_t vgpu_request_error_status(uint32_t error_code);

#endif
