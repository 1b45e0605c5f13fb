/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the dispatcher answers to a request, before it is bytes, and the only place where it becomes
 * bytes. Knows the shape of a response (docs/protocol.md), nothing of opcodes or transports.
 */
#ifndef VGPU_WORKER_ANSWER_H
#define VGPU_WORKER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/curesult.h"
#include "vgpu/protocol.h"

#define VGPU_ANSWER_RESULTS    7u
#define VGPU_ANSWER_DATA_BYTES (VGPU_MAILBOX_BYTES - 32u)

/*
 * How to take back what a request made. Opaque to a transport: it keeps the record beside the
 * answer and hands it to vgpu_dispatch_undo when nobody wants the answer any more.
 */
struct vgpu_undo {
    enum vgpu_undo_kind {
        VGPU_UNDO_NOTHING = 0,
        VGPU_UNDO_ALLOC,    /* value: device address */
        VGPU_UNDO_MODULE,   /* value: module handle */
        VGPU_UNDO_DEFERRED, /* value: the CUresult that was reported, and must be again */
        VGPU_UNDO_NAME, /* value: the name that a CUDA call made; what: its kind; other: serial */
        VGPU_UNDO_CALL, /* value: the only slot of the CUDA call `what`, in context `other` */
    } kind;
    uint64_t value;
    uint32_t what;
    uint64_t other;
};

struct vgpu_answer {
    uint32_t error_code; /* enum vgpu_error */
    bool bare;           /* no response at all: RESPONSE_LEN 0 (P10) */
    uint32_t status;     /* CUresult */
    uint32_t result_count;
    uint32_t results[VGPU_ANSWER_RESULTS];
    uint32_t data_length;
    uint8_t data[VGPU_ANSWER_DATA_BYTES];
    struct vgpu_undo undo;
};

/* Success with no results yet. */
void vgpu_answer_init(struct vgpu_answer *a);

/* A request that could not be understood or carried: error_code is 1, 7, 8 or 9 (P6). */
void vgpu_answer_reject(struct vgpu_answer *a, uint32_t error_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * A CUDA failure. `named` says that the request names its session, so that the CUresult travels
 * with error code 0 (P8); else it comes with error 5 (P7). The text is made valid UTF-8 and cut to
 * fit; an empty one becomes the CUresult's own.
 */
void vgpu_answer_fail(struct vgpu_answer *a, bool named, CUresult status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Status 600: not yet (P9, P11). */
void vgpu_answer_not_ready(struct vgpu_answer *a);

/* Writes the response into out (VGPU_MAILBOX_BYTES) and answers its length; 0 when bare. */
size_t vgpu_answer_encode(const struct vgpu_answer *a, uint64_t exec_time_us, uint8_t *out);

/* Makes `text` valid UTF-8 without control characters other than newline and tab, in place, never
 * longer than it was. Answers its new length. */
size_t vgpu_text_clean(char *text, size_t length);

#endif
