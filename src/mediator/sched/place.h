/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which GPU of a pool a tenant gets: pure, like the scheduler. A tenant is placed when it comes and
 * when its GPU is lost, and stays there in between, since its memory does.
 */
#ifndef VGPU_SCHED_PLACE_H
#define VGPU_SCHED_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#define VGPU_PLACE_NONE UINT32_MAX

struct vgpu_place_gpu {
    bool usable;         /* in the pool, there, and healthy */
    uint64_t load;       /* what shares it already: the tenants' number, or the sum of weights */
    uint64_t free_bytes; /* of its memory, as far as it is promised to nobody */
};

/*
 * The usable GPU of the least load among those with `bytes` free; if none has so much, the one with
 * the most free: who asks for more memory than there is learns it when he allocates. Ties go to the
 * more free bytes, then to the lower number. VGPU_PLACE_NONE: none is usable.
 */
uint32_t vgpu_place(const struct vgpu_place_gpu *gpus, uint32_t count, uint64_t bytes);

#endif
