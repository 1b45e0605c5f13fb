/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A binary heap of tenant numbers that knows where each stands, so that one in the middle can leave
 * in O(log n). Keys are pairs, smallest first; the number breaks ties, so that the same events give
 * the same order. Memory is the caller's: one array of entries for the heap, one of places for all
 * tenants.
 */
#ifndef VGPU_SCHED_HEAP_H
#define VGPU_SCHED_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#define VGPU_HEAP_NOWHERE UINT32_MAX

struct vgpu_heap_entry {
    __int128 key;
    uint32_t number;
};

struct vgpu_heap {
    struct vgpu_heap_entry *entry; /* room for every number that may be in it at a time */
    uint32_t *place;               /* by number: its index, or VGPU_HEAP_NOWHERE */
    uint32_t count;
};

void vgpu_heap_add(struct vgpu_heap *h, uint32_t number, __int128 key);
void vgpu_heap_remove(struct vgpu_heap *h, uint32_t number); /* one that is in it */
static inline bool vgpu_heap_has(const struct vgpu_heap *h, uint32_t number)
{
    return h->place[number] != VGPU_HEAP_NOWHERE;
}

#endif
