/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the device does for kernels that call it: vprintf, malloc, free, __assertfail. Owns the
 * text that waits to be fetched and the heap's bookkeeping, which is in host memory no kernel can
 * reach; knows nothing of how functions are called.
 *
 * Threads: the pool's threads call in at the same time; each call is one piece under the lock.
 */
#ifndef VGPU_PTX_RUNTIME_H
#define VGPU_PTX_RUNTIME_H

#include <pthread.h>

#include "ptx_memory.h"

#define PTX_HEAP_UNIT         16u    /* bytes; also the alignment of what malloc returns */
#define PTX_MAX_MESSAGE_BYTES 16384u /* of one printf: the rest is cut off */

struct ptx_runtime {
    pthread_mutex_t lock;
    /* printf: bytes in order, until taken */
    char *text;
    size_t text_used, text_cap, text_limit;
    uint64_t lost; /* messages that found no room */
    /* heap: which units are taken, and which are the last of what they belong to */
    uint64_t heap_base, heap_bytes, heap_limit;
    uint64_t *taken, *last;
    uint64_t next; /* unit the search begins at */
};

/* 0: the default, 1 MiB of text, 8 MiB of heap. */
void vgpu_ptx_runtime_init(struct ptx_runtime *r, uint64_t text_limit, uint64_t heap_limit);
void vgpu_ptx_runtime_free(struct ptx_runtime *r);

/* Makes the heap, once: device memory, counted like any other. OUT_OF_MEMORY when there is none. */
CUresult vgpu_ptx_heap_create(struct ptx_runtime *r, struct ptx_memory *m);
/* The address of `bytes` bytes, 0 if there are no such or `bytes` is 0. */
uint64_t vgpu_ptx_heap_alloc(struct ptx_runtime *r, uint64_t bytes);
/* False unless `address` is 0 or what vgpu_ptx_heap_alloc gave and nobody has freed. */
bool vgpu_ptx_heap_free(struct ptx_runtime *r, uint64_t address);

/* Appends a whole message, or counts it as lost. */
void vgpu_ptx_text_append(struct ptx_runtime *r, const char *text, size_t bytes);

#endif
