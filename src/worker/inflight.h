/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many launches may be in the GPU's queue: a lease can be given back no sooner than they are
 * done. Counts them for each context, sets a mark behind every 64, and says no when 256, or a lower
 * limit, are not known to be done. For drivers with fences; with others nothing is in flight. The
 * engine thread's.
 */
#ifndef VGPU_WORKER_INFLIGHT_H
#define VGPU_WORKER_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/calls.h"

#define VGPU_INFLIGHT_MAX        256u
#define VGPU_INFLIGHT_MARK_EVERY 64u
#define VGPU_INFLIGHT_MARKS      16u

struct vgpu_inflight {
    struct vgpu_inflight_context {
        struct vgpu_driver_context *object; /* NULL: free */
        uint32_t unmarked;                  /* launches behind its last mark */
    } context[VGPU_CALLS_CONTEXTS_MAX];
    unsigned last; /* context used last */
    struct vgpu_inflight_mark {
        struct vgpu_driver_context *object;
        struct vgpu_driver_fence *fence;
        uint32_t launches;
    } mark[VGPU_INFLIGHT_MARKS]; /* oldest first */
    unsigned marks;
    uint32_t total; /* not known to be done */
    uint32_t limit; /* no more than this, and VGPU_INFLIGHT_MAX; 0: that */
};

uint32_t vgpu_inflight_limit(const struct vgpu_inflight *f);
/* Whether one more launch may go. NOT_READY: ask again later, unless `wait`. Another status: what
 * the GPU did meanwhile failed with it. */
CUresult vgpu_inflight_admit(struct vgpu_inflight *f, struct vgpu_calls *calls, bool wait);
/* One went, in the context that is current. */
void vgpu_inflight_count(struct vgpu_inflight *f, struct vgpu_calls *calls);
/* This context ends, NULL: all is done. */
void vgpu_inflight_forget(struct vgpu_inflight *f, struct vgpu_calls *calls,
                          const struct vgpu_driver_context *object);

#endif
