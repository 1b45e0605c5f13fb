/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mediator/sched/place.h"

uint32_t vgpu_place(const struct vgpu_place_gpu *gpus, uint32_t count, uint64_t bytes)
{
    uint32_t best = VGPU_PLACE_NONE;
    for (uint32_t i = 0; i < count; i++) {
        const struct vgpu_place_gpu *g = &gpus[i], *b;
        if (!g->usable)
            continue;
        if (best == VGPU_PLACE_NONE) {
            best = i;
            continue;
        }
        b = &gpus[best];
        bool fits = g->free_bytes >= bytes, best_fits = b->free_bytes >= bytes;
        bool better = fits != best_fits    ? fits
                      : !fits              ? g->free_bytes > b->free_bytes
                      : g->load != b->load ? g->load < b->load
                                           : g->free_bytes > b->free_bytes;
        if (better)
            best = i;
    }
    return best;
}
