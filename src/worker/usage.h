/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting what the session does (vgpu/usage.h), for the mediator to read when it likes. It stands
 * in the way of every call, so it is a few plain stores: no lock, no fence, and the clock only for
 * one call in about 32. The engine thread's alone.
 */
#ifndef VGPU_WORKER_USAGE_H
#define VGPU_WORKER_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/clock.h"
#include "vgpu/usage.h"
#include "vgpu_cuda_calls.h"
#include "worker/calls.h"

struct vgpu_tally {
    struct vgpu_usage *at; /* where it counts */
    uint32_t until_sample; /* calls up to the next one that is measured */
    uint32_t random;
    uint64_t busy_since_ns; /* as it was told; 0: not busy */
    struct vgpu_usage own;  /* without an account */
};

/* NULL: it counts for nobody. */
void vgpu_tally_init(struct vgpu_tally *t, struct vgpu_usage *at);

/* The only writer: a load and a store do, and a reader never sees half of it. */
static inline void vgpu_tally_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* When the next call is measured. */
void vgpu_tally_draw(struct vgpu_tally *t);

/* Before a call: when it began, or 0 if nobody measures it. */
static inline uint64_t vgpu_tally_begin(struct vgpu_tally *t)
{
    if (--t->until_sample)
        return 0;
    vgpu_tally_draw(t);
    return vgpu_clock_ns();
}

/* It is done, and its answer is there. */
void vgpu_tally_took(struct vgpu_tally *t, uint64_t begin_ns);

static inline void vgpu_tally_end(struct vgpu_tally *t, uint64_t begin_ns)
{
    if (begin_ns)
        vgpu_tally_took(t, begin_ns);
}

void vgpu_tally_error(struct vgpu_tally *t, uint32_t status);

/* Bytes that a call moved between host and device. */
void vgpu_tally_bytes(struct vgpu_tally *t, const struct vgpu_call_frame *frame);

/* A call was run, or begun. */
static inline void vgpu_tally_call(struct vgpu_tally *t, const struct vgpu_call_frame *frame,
                                   CUresult status)
{
    const struct vgpu_call_info *info = frame->info;
    vgpu_tally_add(&t->at->calls, 1);
    if (info->posted)
        vgpu_tally_add(&t->at->posts, 1);
    if (status != CUDA_SUCCESS)
        vgpu_tally_error(t, (uint32_t)status);
    else if (info->opcode == VGPU_CALL_LAUNCH)
        vgpu_tally_add(&t->at->launches, 1);
    else if (info->payload || info->window || info->fill_slot >= 0)
        vgpu_tally_bytes(t, frame);
}

/* A call that never got so far. */
static inline void vgpu_tally_refused(struct vgpu_tally *t, uint32_t status)
{
    vgpu_tally_add(&t->at->calls, 1);
    vgpu_tally_error(t, status);
}

/* There is something to do since then; there is nothing any more. */
static inline void vgpu_tally_busy(struct vgpu_tally *t, uint64_t now_ns)
{
    t->busy_since_ns = now_ns;
    __atomic_store_n(&t->at->busy_since_ns, now_ns, __ATOMIC_RELEASE);
}

static inline void vgpu_tally_idle(struct vgpu_tally *t, uint64_t now_ns)
{
    if (!t->busy_since_ns)
        return;
    __atomic_store_n(&t->at->busy_since_ns, 0, __ATOMIC_RELEASE);
    uint64_t busy_ns = __atomic_load_n(&t->at->busy_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&t->at->busy_ns, busy_ns + (now_ns - t->busy_since_ns), __ATOMIC_RELEASE);
    t->busy_since_ns = 0;
}

#endif
