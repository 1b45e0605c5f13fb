/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which bytes of the window a session may name (docs/ring.md, G13): its extents of the arena, and
 * the staging of the channel that is served. A sorted table and a search; knows neither requests
 * nor who gives extents. The engine thread's.
 */
#ifndef VGPU_WORKER_EXTENTS_H
#define VGPU_WORKER_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vgpu/worker.h"
#include "worker/calls.h"

struct vgpu_extents {
    struct vgpu_window_view view; /* first */
    uint8_t *window;              /* NULL: there is none yet */
    uint64_t window_bytes;
    bool has_channel;
    uint64_t channel; /* where it begins */
    uint32_t count;
    struct vgpu_extent {
        uint64_t offset, bytes;
        bool registered; /* with the GPU */
    } extent[VGPU_WORKER_EXTENTS_MAX];
};

void vgpu_extents_init(struct vgpu_extents *e);

/* The bytes, if they are inside the window and all the session's; `write`: for the GPU to write. */
void *vgpu_extents_find(const struct vgpu_extents *e, uint64_t offset, uint64_t bytes, bool write);

/* False: it is outside the window, overlaps another, or there is no room. */
bool vgpu_extents_add(struct vgpu_extents *e, uint64_t offset, uint64_t bytes, bool registered);
/* Takes out the one that begins there. */
bool vgpu_extents_remove(struct vgpu_extents *e, uint64_t offset, struct vgpu_extent *out);

#endif
