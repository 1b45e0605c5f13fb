/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that a guest gets for things of the worker: a table of slots, and u64 handles that say
 * which slot, of which kind, and a tag that is new each time the slot is used. So a handle that was
 * freed, made up, of another kind or another session's names nothing. Knows not what it names.
 *
 * Handle: kind in bits 56-63, tag in bits 16-55, slot in bits 0-15; never 0.
 */
#ifndef VGPU_WORKER_HANDLES_H
#define VGPU_WORKER_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

#define VGPU_HANDLES_MAX 65536u

struct vgpu_handles {
    struct vgpu_handle_slot {
        void *object; /* NULL: free */
        uint64_t tag;
        uint32_t next_free;
    } * slot;
    uint32_t size;  /* slots made */
    uint32_t limit; /* slots at most */
    uint32_t free;  /* first of the list of free slots; limit: none */
    uint8_t kind;
    uint64_t tags; /* state of the generator of tags */
};

/* limit is at most VGPU_HANDLES_MAX, kind is not 0. */
void vgpu_handles_init(struct vgpu_handles *h, uint8_t kind, uint32_t limit);
/* Frees the table; the objects are the caller's. */
void vgpu_handles_destroy(struct vgpu_handles *h);

/* Returns the handle of object (not NULL), or 0 when the table is full or there is no memory. */
uint64_t vgpu_handles_add(struct vgpu_handles *h, void *object);
/* Returns the object, or NULL. */
void *vgpu_handles_get(const struct vgpu_handles *h, uint64_t handle);
/* Takes the handle out of the table and returns its object, or NULL. */
void *vgpu_handles_remove(struct vgpu_handles *h, uint64_t handle);

#endif
