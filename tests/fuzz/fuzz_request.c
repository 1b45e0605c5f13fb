/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request decoder against arbitrary bytes. Beyond not crashing: what is rejected has a code and
 * a text of P6, what is understood keeps the promises that the dispatcher relies on.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void check_rejection(const struct vgpu_answer *a)
{
    uint8_t out[VGPU_MAILBOX_BYTES];
    MUST(a->error_code == 1 || a->error_code == 8 || a->error_code == 9);
    MUST(a->status == (a->error_code == 8 ? 801u : 1u));
    MUST(a->data_length > 0 && !memchr(a->data, 0, a->data_length));
    size_t n = vgpu_answer_encode(a, 0, out);
    MUST(n >= 32 && n <= sizeof(out));
}

/* P28, P30, P31. */
static void check_driver_call(const struct vgpu_call *c, const uint8_t *data)
{
    const struct vgpu_call_info *info = c->info;
    MUST(info == vgpu_call_info(c->opcode) && c->opcode >= 0x1000 && c->opcode <= 0x1FFF);
    MUST(c->named && (info->posted || !c->async));
    /* Header, session and context are before the slots, and what follows is right behind them. */
    MUST(c->slots >= data + 48 && c->data == c->slots + 8 * (size_t)info->in_count);
    MUST(info->payload != VGPU_PAYLOAD_NONE || !c->data_length);
    if (info->payload == VGPU_PAYLOAD_TEXT)
        MUST(c->data_length >= 1 && c->data_length <= VGPU_CALL_TEXT_MAX &&
             !memchr(c->data, 0, c->data_length));
    if (info->stage_slot >= 0 && c->data_length) {
        static const uint8_t zero[8];
        MUST(!memcmp(c->slots + 8 * (size_t)info->stage_slot, zero, 8));
    }
}

static void check_call(const struct vgpu_call *c, const uint8_t *data, size_t size)
{
    MUST(c->opcode != VGPU_OP_SESSION_REQUEST);
    MUST(c->named || !c->session);
    MUST(c->named || c->opcode < VGPU_OP_SESSION_FIRST);
    MUST(c->data >= data && c->data_length <= size && c->data <= data + size - c->data_length);
    if (c->info) {
        check_driver_call(c, data);
        return;
    }
    switch (c->opcode) {
    case VGPU_OP_STAGE_WRITE:
        MUST(c->data_length >= 1);
        break;
    case VGPU_OP_MODULE_LOAD:
        MUST(c->stage ? !c->data_length : c->data_length > 0);
        break;
    case VGPU_OP_MODULE_KERNEL:
    case VGPU_OP_MODULE_GLOBAL:
        MUST(c->data_length >= 1 && c->data_length <= VGPU_NAME_MAX);
        MUST(!memchr(c->data, 0, c->data_length));
        break;
    case VGPU_OP_CUDA_KERNEL:
        MUST(!c->params[VGPU_KERNEL_ARGS_STAGE] || !c->data_length);
        break;
    case VGPU_OP_MEMORY_COPY:
        if (c->params[VGPU_COPY_DIRECTION] == VGPU_COPY_DTOH)
            MUST(!c->params[VGPU_COPY_SIZE_LO + 1] &&
                 c->params[VGPU_COPY_SIZE_LO] <= VGPU_COPY_DTOH_MAX);
        MUST(c->params[VGPU_COPY_DIRECTION] == VGPU_COPY_HTOD
                 ? c->data_length == c->params[VGPU_COPY_SIZE_LO]
                 : !c->data_length);
        break;
    default:
        MUST(!c->data_length);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vgpu_call call;
    struct vgpu_answer answer;
    if (size > VGPU_MAILBOX_BYTES)
        return 0;
    if (vgpu_request_decode(data, size, &call, &answer))
        check_rejection(&answer);
    else
        check_call(&call, data, size);
    /* The same bytes as a text from a driver. */
    char text[VGPU_MAILBOX_BYTES];
    memcpy(text, data, size);
    size_t n = vgpu_text_clean(text, size);
    MUST(n <= size && !memchr(text, 0, n));
    return 0;
}
