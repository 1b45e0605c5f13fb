/* SPDX-License-Identifier: MIT */
/*
 * What a worker has done, in numbers: written by its engine thread (but for one field), read by the
 * mediator when somebody asks. The prose is docs/worker.md (W9) and docs/metrics.md. One for each
 * slot of the tenant's account (vgpu/account.h), behind its page in the same memory file. Native
 * endianness: both are one host's.
 *
 * Every field is stored as a whole, relaxed but where a line says otherwise; a reader sees each at
 * some moment, not all at the same one. Counters start at 0 with the worker and only grow. That is
 * a promise, not something to rely on: a worker that was taken over may write anything. It can
 * mislead about its own tenant only.
 */
#ifndef VGPU_USAGE_H
#define VGPU_USAGE_H

#include <assert.h>
#include <stdint.h>

/*
 * Bucket i of a histogram counts times of at most VGPU_HISTOGRAM_FIRST_NS << i that are in no
 * bucket before; the last one has no limit.
 */
#define VGPU_HISTOGRAM_BUCKETS  32u
#define VGPU_HISTOGRAM_FIRST_NS 256u

#define VGPU_USAGE_BYTES  1024u
#define VGPU_USAGE_ERRORS 24u

struct vgpu_usage {
    uint64_t records;           /* of the channel, whatever they were */
    uint64_t calls;             /* CUDA calls that were run or refused, by channel or mailbox */
    uint64_t launches;          /* of these, launches of kernels */
    uint64_t posts;             /* of these, such that nobody waits for (no reply) */
    uint64_t bytes_to_device;   /* of copies between host and device that succeeded */
    uint64_t bytes_from_device; /* or, where the GPU goes on by itself, were begun */
    uint64_t busy_ns;           /* for which there was something to do; up to busy_since_ns */
    uint64_t busy_since_ns;     /* CLOCK_MONOTONIC; 0: there is nothing to do. Written with release
                                   order: to 0 before busy_ns grows, read after it */
    uint64_t jobs;              /* a gauge: requests that wait in the queue; written by whoever adds
                                   or removes one, under the queue's lock */
    uint64_t pending;           /* a gauge: calls of the channel that are begun and not answered */
    uint64_t sampled_ns;        /* the sum of all times in call_time */
    uint64_t call_time[VGPU_HISTOGRAM_BUCKETS]; /* of calls that were measured: about one in 32 */
    /* Failed calls by CUresult; entries in use come first, others have count 0. */
    struct vgpu_usage_error {
        uint32_t status;
        uint32_t reserved; /* 0 */
        uint64_t count;
    } errors[VGPU_USAGE_ERRORS];
    uint64_t errors_other; /* whose CUresult found no place */
    uint64_t reserved[36]; /* 0 */
};
static_assert(sizeof(struct vgpu_usage) == VGPU_USAGE_BYTES, "shared");

#endif
