/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stages (P26): images and argument buffers that come in pieces. Bounded: VGPU_STAGE_COUNT of
 * VGPU_STAGE_MAX_BYTES. Knows nothing of who uses them. The control thread's.
 */
#ifndef VGPU_WORKER_STAGE_H
#define VGPU_WORKER_STAGE_H

#include <stdint.h>

#include "vgpu/curesult.h"
#include "vgpu/protocol.h"
#include "worker/blob.h"

struct vgpu_stages {
    struct vgpu_stage {
        uint32_t id;     /* 0: free */
        uint32_t filled; /* bytes, at most blob.size */
        struct vgpu_blob blob;
    } stage[VGPU_STAGE_COUNT];
};

/*
 * Each answers a CUresult and, when it is not 0, points *why at a sentence for a person.
 * write: a piece of `length` bytes (at least 1) at `offset`.
 */
CUresult vgpu_stage_write(struct vgpu_stages *s, uint32_t id, uint32_t total_bytes, uint32_t offset,
                          const uint8_t *bytes, uint32_t length, const char **why);
CUresult vgpu_stage_drop(struct vgpu_stages *s, uint32_t id, const char **why);

/* Uses the stage up: it is gone afterwards in any case, and *out is the caller's when 0 is
 * answered. */
CUresult vgpu_stage_take(struct vgpu_stages *s, uint32_t id, struct vgpu_blob *out,
                         const char **why);

void vgpu_stages_clear(struct vgpu_stages *s);

#endif
