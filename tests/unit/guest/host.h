/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small honest host for the library's tests: sessions, one megabyte of memory, stages, one module
 * with one kernel. It checks what it is asked as strictly as docs/protocol.md says, and notes what
 * it saw. Tests that want a lying host put their own handler in front.
 */
#ifndef VGPU_TEST_HOST_H
#define VGPU_TEST_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"

#define HOST_SESSIONS     32
#define HOST_MEMORY_BASE  0x700000000000ull
#define HOST_MEMORY_BYTES (1u << 20)
#define HOST_MODULE       0x1100000011ull
#define HOST_FUNCTION     0x2200000022ull

struct host {
    uint64_t sessions[HOST_SESSIONS]; /* open numbers, 0: free */
    unsigned session_limit;
    uint64_t closed[64]; /* numbers that were closed, in order */
    unsigned closed_count;
    uint8_t memory[HOST_MEMORY_BYTES];
    bool allocated;
    uint8_t *stage; /* being filled */
    uint32_t stage_number, stage_total, stage_used;
    uint8_t *image; /* last MODULE_LOAD's */
    uint32_t image_bytes;
    uint8_t arguments[VGPU_PARAM_BUFFER_MAX]; /* last CUDA_KERNEL's */
    uint32_t argument_bytes;
    uint32_t launch[VGPU_KERNEL_PARAM_COUNT];
    uint32_t param_count;           /* of the kernel, 8 bytes each */
    unsigned posted;                /* requests with ASYNC */
    unsigned bound;                 /* SESSION_CHANNELs */
    uint64_t arena_next;            /* offset of the next extent, 0: none is given */
    unsigned stage_copies, extents; /* STAGE_COPYs, extents given */
    bool hold_sync;                 /* SYNCHRONIZE gets no answer before host_let_go */
    uint64_t held_seq;              /* of one that waits */
    unsigned not_yet;               /* answers of 600 still to give to SYNCHRONIZE */
    unsigned full;                  /* answers of error 7 still to give to MEMORY_COPY */
    uint32_t sync_status;           /* what SYNCHRONIZE answers then */
    unsigned violations;            /* requests that docs/protocol.md forbids */
};

void host_init(struct host *host);
void host_free(struct host *host);
/* The model_handler; model->context is the struct host. */
void host_handle(struct model *model, const struct model_request *request);
/* The model_record_handler. */
void host_handle_record(struct model *model, uint32_t channel,
                        const struct vgpu_ring_record *record, const uint8_t *body);
/* Answers a SYNCHRONIZE that is held, with that status. Takes the model's lock. */
void host_let_go(struct model *model, uint32_t status);
bool host_has_session(const struct host *host, uint64_t number);

#endif
