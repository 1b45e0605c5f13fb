/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The book of a window's arena (docs/ring.md G6, G14): which extents there are, whose they are, and
 * what was never used. Pure: it sees numbers and never the memory. One thread.
 *
 * Every operation takes O(log n) steps for n extents; the memory is one small node for each extent
 * and each gap.
 */
#ifndef VGPU_MEDIATOR_ARENA_H
#define VGPU_MEDIATOR_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "mediator/list.h"

struct vgpu_arena;

/* What one worker holds; lives in the worker. Init it, and release it before it goes. */
struct vgpu_arena_holder {
    struct vgpu_list extents;
    uint32_t count; /* at most VGPU_WORKER_EXTENTS_MAX */
    uint64_t bytes;
};

void vgpu_arena_holder_init(struct vgpu_arena_holder *holder);

/*
 * A book for the bytes from `first` to `end` of a window; what is not a whole granule is left out.
 * clean: nobody has written there since the memory was made. NULL: no memory.
 */
struct vgpu_arena *vgpu_arena_create(uint64_t first, uint64_t end, bool clean);
/* All holders have been released. NULL does nothing. */
void vgpu_arena_destroy(struct vgpu_arena *arena);

/*
 * Takes the first gap that `bytes`, a multiple of VGPU_ARENA_GRANULE and not 0, fit into. 0 with
 * *offset, and *dirty: some of it was handed out before, or nobody knows. -ENOSPC: no gap is that
 * long; -EDQUOT: the holder has as many extents as one may have; -ENOMEM.
 */
int vgpu_arena_take(struct vgpu_arena *arena, struct vgpu_arena_holder *holder, uint64_t bytes,
                    uint64_t *offset, bool *dirty);

/* Gives one back, as it was taken. -ENOENT: the holder has none there, or of another length. */
int vgpu_arena_return(struct vgpu_arena *arena, struct vgpu_arena_holder *holder, uint64_t offset,
                      uint64_t bytes);

/* Gives back all: the process that had them was reaped. */
void vgpu_arena_release(struct vgpu_arena *arena, struct vgpu_arena_holder *holder);

/* What is in no extent, all gaps together; and the longest of them. */
uint64_t vgpu_arena_free_bytes(const struct vgpu_arena *arena);
uint64_t vgpu_arena_longest_gap(const struct vgpu_arena *arena);

#endif
