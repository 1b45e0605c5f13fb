/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stages; see stage.h. */
#include "worker/stage.h"

#include <string.h>

static struct vgpu_stage *find_stage(struct vgpu_stages *s, uint32_t id)
{
    for (unsigned i = 0; i < VGPU_STAGE_COUNT; i++) {
        if (s->stage[i].id == id)
            return &s->stage[i];
    }
    return NULL;
}

static void free_stage(struct vgpu_stage *stage)
{
    vgpu_blob_free(&stage->blob);
    stage->id = 0;
    stage->filled = 0;
}

CUresult vgpu_stage_write(struct vgpu_stages *s, uint32_t id, uint32_t total_bytes, uint32_t offset,
                          const uint8_t *bytes, uint32_t length, const char **why)
{
    if (!id) {
        *why = "stage 0 is no stage: choose another number";
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!total_bytes || total_bytes > VGPU_STAGE_MAX_BYTES) {
        *why = "the total of a stage is 1 byte to 64 MiB";
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (offset > total_bytes || length > total_bytes - offset) {
        *why = "the piece goes past the total of its stage";
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct vgpu_stage *stage = find_stage(s, id);
    if (offset) {
        if (!stage || offset != stage->filled) {
            *why = "pieces of a stage come in order, the first at offset 0";
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (total_bytes != stage->blob.size) {
            *why = "the total of a stage is the same in each piece";
            return CUDA_ERROR_INVALID_VALUE;
        }
    } else {
        if (!stage)
            stage = find_stage(s, 0);
        if (!stage) {
            *why = "a session has at most 4 stages at once: use or drop one";
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        free_stage(stage);
        if (vgpu_blob_make(&stage->blob, total_bytes)) {
            *why = "the host has no memory for the stage";
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        stage->id = id;
    }
    memcpy(stage->blob.bytes + offset, bytes, length);
    stage->filled = offset + length;
    return CUDA_SUCCESS;
}

CUresult vgpu_stage_drop(struct vgpu_stages *s, uint32_t id, const char **why)
{
    struct vgpu_stage *stage = id ? find_stage(s, id) : NULL;
    if (!stage) {
        *why = "there is no such stage";
        return CUDA_ERROR_INVALID_HANDLE;
    }
    free_stage(stage);
    return CUDA_SUCCESS;
}

CUresult vgpu_stage_take(struct vgpu_stages *s, uint32_t id, struct vgpu_blob *out,
                         const char **why)
{
    struct vgpu_stage *stage = id ? find_stage(s, id) : NULL;
    if (!stage) {
        *why = "there is no such stage";
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (stage->filled != stage->blob.size) {
        *why = "the stage is not complete";
        free_stage(stage);
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = stage->blob;
    stage->blob = (struct vgpu_blob){0};
    free_stage(stage);
    return CUDA_SUCCESS;
}

void vgpu_stages_clear(struct vgpu_stages *s)
{
    for (unsigned i = 0; i < VGPU_STAGE_COUNT; i++)
        free_stage(&s->stage[i]);
}
