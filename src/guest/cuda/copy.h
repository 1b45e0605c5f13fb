/* SPDX-License-Identifier: MIT */
/* What the files of copies share: copy.c decides, the others carry the bytes. */
#ifndef VGPU_GUEST_CUDA_COPY_H
#define VGPU_GUEST_CUDA_COPY_H

#include "guest/cuda/internal.h"

static inline uint8_t *vgpu_host_row(const struct vgpu_place *place, size_t y, size_t z)
{
    return place->host + z * place->slice + y * place->pitch;
}

static inline uint64_t vgpu_device_row(const struct vgpu_place *place, size_t y, size_t z)
{
    return place->device + z * place->slice + y * place->pitch;
}

/* Bytes from a box's first to its last; false: more than there are addresses. */
bool vgpu_copy_extent(const struct vgpu_place *place, const struct vgpu_copy *copy,
                      uint64_t *bytes);

/* Copies between host memory on one side, and device memory or an array on the other: inside of
 * requests (copy_request.c), */
CUresult vgpu_copy_by_request(struct vgpu_stream *stream, const struct vgpu_copy *copy);
/*
 * or by the window (copy_window.c), for sessions with a channel. Pinned memory, which begins at
 * `offset` there, is copied from and to by the host alone: this only posts it. Other memory goes
 * through staging: this returns when the source has been read, or the destination written.
 */
CUresult vgpu_copy_pinned(struct vgpu_stream *stream, const struct vgpu_copy *copy,
                          uint64_t offset);
CUresult vgpu_copy_staged(struct vgpu_stream *stream, const struct vgpu_copy *copy);

#endif
