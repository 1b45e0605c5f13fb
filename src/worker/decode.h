/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the bytes of a request to a checked call: clauses P1 to P5, P23, P25 and the shape of each
 * opcode's params and data. Pure: no state, no memory, no knowledge of handles or of a GPU. What
 * passes here was "understood"; whether it makes sense is the dispatcher's matter.
 */
#ifndef VGPU_WORKER_DECODE_H
#define VGPU_WORKER_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/protocol.h"
#include "vgpu_cuda_calls.h"
#include "worker/answer.h"

struct vgpu_call {
    uint32_t opcode; /* never SESSION_REQUEST: that is unwrapped, and `named` is set */
    bool named;      /* the request named its session: CUresults travel as P8 says */
    bool async;      /* P10 */
    uint64_t session;

    uint32_t params[VGPU_KERNEL_PARAM_COUNT]; /* as many as the opcode takes */

    /* Fields of the opcodes that name their session; 0 where the opcode has none. */
    uint32_t stage, total_bytes, offset;
    uint64_t module;
    uint32_t first_param;

    /* The CUDA driver calls (P28); NULL for the others. `slots` are info->in_count little-endian
     * u64s at any alignment, inside the request. */
    const struct vgpu_call_info *info;
    uint64_t context;
    const uint8_t *slots;

    /* What follows the fields or slots: the piece, the image, the name, the bytes. Points into the
     * request. */
    const uint8_t *data;
    uint32_t data_length;
};

/*
 * Decodes `length` bytes, which must not change meanwhile. Answers 0 and fills *call, or -EBADMSG
 * and fills *answer with the rejection. Any thread.
 */
int vgpu_request_decode(const uint8_t *bytes, size_t length, struct vgpu_call *call,
                        struct vgpu_answer *answer);

/* A CUDA driver call from its context on, as requests and records of a channel have it. Points into
 * the bytes. */
struct vgpu_call_body {
    uint64_t context;
    const uint8_t *slots; /* info->in_count little-endian u64s at any alignment */
    const uint8_t *data;
    uint32_t data_length;
};

/*
 * The shape of one (P28, P31): 0 and *body; -EMSGSIZE when its length cannot be this call's,
 * -EBADMSG when what follows its slots cannot; then *answer is the rejection. Any thread.
 */
int vgpu_call_body_decode(const struct vgpu_call_info *info, const uint8_t *bytes, uint32_t length,
                          struct vgpu_call_body *body, struct vgpu_answer *answer);

/* The opcode's name for a log or a text; "opcode" for one that is not in the tables. */
const char *vgpu_opcode_name(uint32_t opcode);

#endif
