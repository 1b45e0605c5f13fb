/* SPDX-License-Identifier: MIT */
/*
 * Memory that another party writes at the same time: the only accesses to its counters and flags
 * that this tree makes, with the reason for each ordering. Words in shared memory are plain
 * integers there (vgpu/ring.h); an address is aligned because the layout is.
 *
 * Only x86-64 and other machines with coherent caches: the other side of BAR2 sees what is stored
 * here as another processor would, since guests map it write-back (resource2, never resource2_wc:
 * write-combining would let the counter overtake what it counts).
 *
 * Operations, not stand-alone fences (but for one): a fence orders everything around it, an
 * operation says what it is for, and ThreadSanitizer understands it.
 */
#ifndef VGPU_RING_BARRIER_H
#define VGPU_RING_BARRIER_H

#include <stdint.h>

/* The other side's counter: everything that it wrote before it counted is seen afterwards. */
static inline uint64_t vgpu_shared_acquire64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint32_t vgpu_shared_acquire32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Our own counter: who sees it sees everything written before. */
static inline void vgpu_shared_release64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline void vgpu_shared_release32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/*
 * Sleep and wake (G10, G17). One side stores its counter and then looks whether the other sleeps;
 * the other stores that it sleeps and then looks at the counter. With release and acquire alone
 * both could miss the other, as each store may still wait in its processor's store buffer while the
 * load behind it is done. Sequential consistency forbids exactly that. tests/model/ring.pml shows
 * both.
 */
static inline void vgpu_shared_publish64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline void vgpu_shared_publish32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline uint64_t vgpu_shared_look64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline uint32_t vgpu_shared_look32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

/*
 * After copying out of shared memory, before looking at the copy: from here on the compiler may not
 * go back to the original for a value that it has not kept, and find another one there than was
 * checked.
 */
static inline void vgpu_shared_copied(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * After stores that go past the cache (guest/cuda/bulk.h), before anybody is told that the bytes
 * are there: these are in no order with any store, a release among them does not hold them back.
 * The one stand-alone fence, as there is no operation that says this. Other machines have no such
 * stores in this tree.
 */
static inline void vgpu_shared_streamed(void)
{
#ifdef __SSE2__
    __builtin_ia32_sfence();
#endif
}

/*
 * Between two looks of one who spins. Each look takes the line away from the one who writes there,
 * who then waits for it: with some 90 ns between two looks (four times, on the processor this was
 * measured on) posting costs half of what it does with 20.
 */
static inline void vgpu_shared_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
    __builtin_ia32_pause();
    __builtin_ia32_pause();
    __builtin_ia32_pause();
#else
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

#endif
