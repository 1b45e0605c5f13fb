/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes in a mapping of their own: what a stage collects and a job takes over. The pages come when
 * they are written, so an announced size costs nothing. Freeing gives the memory back at once.
 */
#ifndef VGPU_WORKER_BLOB_H
#define VGPU_WORKER_BLOB_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

struct vgpu_blob {
    uint8_t *bytes; /* NULL: none */
    size_t size;
};

/* Returns 0 or -ENOMEM. */
static inline int vgpu_blob_make(struct vgpu_blob *b, size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    b->bytes = p;
    b->size = size;
    return 0;
}

static inline void vgpu_blob_free(struct vgpu_blob *b)
{
    if (b->bytes)
        munmap(b->bytes, b->size);
    b->bytes = NULL;
    b->size = 0;
}

#endif
