/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host memory that is pinned for the GPU (vgpu_backend_ops.host_register). CUDA pins it for all
 * contexts, but through one, with which it would end: so regions are remembered, pinned when there
 * is a context, and again when theirs goes.
 *
 * One thread at a time.
 */
#ifndef VGPU_BACKEND_CUDA_HOST_H
#define VGPU_BACKEND_CUDA_HOST_H

#include "cuda.h"

CUresult cuda_host_register(struct vgpu_backend *b, void *base, size_t size_bytes);
void cuda_host_forget(struct vgpu_backend *b, void *base);

/* A context is there, and selected: pins through it what is not pinned. */
void cuda_host_pin(struct vgpu_backend *b, const struct vgpu_driver_context *c);
/* That context is going to end, and is selected: what is pinned through it is not any more. */
void cuda_host_unpin(struct vgpu_backend *b, const struct vgpu_driver_context *c);
/* Forgets all; no context is left. */
void cuda_host_free(struct vgpu_backend *b);

#endif
