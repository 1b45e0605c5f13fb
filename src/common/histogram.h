/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Histograms of times whose buckets double (vgpu/usage.h). Pure; who counts owns the storage. */
#ifndef VGPU_COMMON_HISTOGRAM_H
#define VGPU_COMMON_HISTOGRAM_H

#include <stdint.h>

#include "vgpu/usage.h"

/* The bucket that this time is counted in. */
static inline unsigned vgpu_histogram_bucket(uint64_t ns)
{
    if (ns <= VGPU_HISTOGRAM_FIRST_NS)
        return 0;
    unsigned bucket = 64u - (unsigned)__builtin_clzll((ns - 1) / VGPU_HISTOGRAM_FIRST_NS);
    return bucket < VGPU_HISTOGRAM_BUCKETS ? bucket : VGPU_HISTOGRAM_BUCKETS - 1;
}

/* The longest time that is in this bucket or one before; UINT64_MAX: there is no limit. */
static inline uint64_t vgpu_histogram_limit_ns(unsigned bucket)
{
    return bucket < VGPU_HISTOGRAM_BUCKETS - 1 ? (uint64_t)VGPU_HISTOGRAM_FIRST_NS << bucket
                                               : UINT64_MAX;
}

struct vgpu_histogram {
    uint64_t sum_ns;
    uint64_t counts[VGPU_HISTOGRAM_BUCKETS];
};

static inline void vgpu_histogram_add(struct vgpu_histogram *h, uint64_t ns)
{
    h->sum_ns += ns;
    h->counts[vgpu_histogram_bucket(ns)]++;
}

#endif
