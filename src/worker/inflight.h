/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many launches may be in the GPU's queue: a lease can be given back no sooner than they are
 * done. Counts them for each context, sets marks behind some of them, and learns from these how
 * long kernels take: as many may be in flight as take VGPU_INFLIGHT_TARGET_NS together, 2 at least,
 * and 256, or a lower limit, at most. For drivers with fences; with others nothing is in flight.
 * The engine thread's.
 */
#ifndef VGPU_WORKER_INFLIGHT_H
#define VGPU_WORKER_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/calls.h"

#define VGPU_INFLIGHT_MAX        256u
#define VGPU_INFLIGHT_MARK_EVERY 64u
/* Less than half of a default quantum, so that a lease which is called back is soon back; and far
 * longer than it takes the worker to see that there is room again, so that the GPU has work. */
#define VGPU_INFLIGHT_TARGET_NS  2000000u
#define VGPU_INFLIGHT_FIRST      8u /* of a program of which nothing is known yet */
#define VGPU_INFLIGHT_MARKS      16u

struct vgpu_inflight {
    struct vgpu_inflight_context {
        struct vgpu_driver_context *object; /* NULL: free */
        uint32_t unmarked;                  /* launches behind its last mark, */
        uint64_t begin_ns;                  /* the first of them at */
    } context[VGPU_CALLS_CONTEXTS_MAX];
    unsigned last; /* context used last */
    struct vgpu_inflight_mark {
        struct vgpu_driver_context *object;
        struct vgpu_driver_fence *fence;
        uint32_t launches;
        uint64_t begin_ns;
    } mark[VGPU_INFLIGHT_MARKS]; /* oldest first */
    unsigned marks;
    uint32_t total; /* not known to be done */
    uint32_t limit; /* no more than this, and VGPU_INFLIGHT_MAX; 0: that */
    uint32_t
        window; /* no more than this either, as long as kernels are as they were; 0: the first */
    uint64_t seen_ns; /* when the last mark was seen to be done */
    bool waited;      /* the oldest mark was looked at before, and was not done */
};

/* How many may be in flight now. */
uint32_t vgpu_inflight_window(const struct vgpu_inflight *f);
/* So many launches were done so long after the first of them, or sooner unless `waited`: somebody
 * has waited for just that. */
void vgpu_inflight_learn(struct vgpu_inflight *f, uint32_t launches, uint64_t ns, bool waited);
/* Whether one more launch may go. NOT_READY: ask again later, unless `wait`. Another status: what
 * the GPU did meanwhile failed with it. */
CUresult vgpu_inflight_admit(struct vgpu_inflight *f, struct vgpu_calls *calls, bool wait);
/* One went, in the context that is current. */
void vgpu_inflight_count(struct vgpu_inflight *f, struct vgpu_calls *calls);
/* This context ends, NULL: all is done. */
void vgpu_inflight_forget(struct vgpu_inflight *f, struct vgpu_calls *calls,
                          const struct vgpu_driver_context *object);

#endif
