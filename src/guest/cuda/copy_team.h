/* SPDX-License-Identifier: MIT */
/*
 * Copies of much ordinary memory by several threads. One thread moves 6 to 15 GB/s, which is less
 * than the bus to a GPU; what is staged through the window is therefore copied by a few, where
 * there are processors to spare.
 *
 * Nobody ever waits for a helper to begin: the caller and the helpers take chunks of the same copy
 * until none is left, so without a processor for the helpers the caller does it all. Helpers are
 * started by the first large copy, look for work for a moment after the last, and then sleep.
 */
#ifndef VGPU_GUEST_CUDA_COPY_TEAM_H
#define VGPU_GUEST_CUDA_COPY_TEAM_H

#include <stdbool.h>
#include <stddef.h>

/* More than these do not help: the memory is what is slow then. */
#define VGPU_COPY_TEAM_MOST 4u

/*
 * How many threads copy, the caller among them: VGPU_COPY_THREADS (1 to VGPU_COPY_TEAM_MOST), or
 * half of the processors that this process may use. To be called once, before the first copy.
 */
void vgpu_copy_team_set_up(void);

/*
 * Copies `bytes` bytes, which must not overlap. `past_cache`: with stores that go past the cache,
 * as bulk.h has them. Afterwards all of it is there for who acquires from this thread. Any thread
 * may call it; while one copies with the team, others copy alone. Not in a forked child.
 */
void vgpu_copy_team_copy(void *to, const void *from, size_t bytes, bool past_cache);

#endif
