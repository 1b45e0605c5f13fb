/* SPDX-License-Identifier: MIT */
/*
 * Two small programs over shared words, run in every order that their accesses can take. The ring's
 * own code is what they call: this header stands in for ring/barrier.h (include it first), so that
 * each access to a counter or flag comes here.
 *
 * Two machines: sequentially consistent, where a store is seen at once, and total store order
 * (x86), where a store waits in its processor's buffer until some moment, which is explored like
 * any other step. A sequentially consistent store is an exchange there: it goes to memory at once,
 * after all that the buffer held. Weak machines are not modelled; there the compiler's operations
 * give the same guarantee.
 *
 * A program is run from its beginning for each step, with the results of the steps before, up to
 * its next access: it must do the same whenever the results are the same, and what it stores
 * without coming here must be the same each time.
 */
#ifndef RING_INTERLEAVE_H
#define RING_INTERLEAVE_H

#define VGPU_RING_BARRIER_H /* instead of it */

#include <stdbool.h>
#include <stdint.h>

enum access_kind {
    ACCESS_LOAD,
    ACCESS_STORE,    /* release */
    ACCESS_EXCHANGE, /* sequentially consistent store */
    ACCESS_SIGNAL,   /* a system call: after all that the buffer held, as ACCESS_EXCHANGE */
    ACCESS_WAIT,     /* sleeps until signalled; takes the signal */
};

/* One access by the program that runs; answers what was loaded. */
uint64_t interleave_access(enum access_kind kind, const void *word, uint64_t value);

/* What makes the publishing or the sleeping side's sequentially consistent stores plain ones. */
struct interleave_weakness {
    bool publish64, publish32;
};
extern struct interleave_weakness interleave_weak;

static inline uint64_t vgpu_shared_acquire64(const uint64_t *word)
{
    return interleave_access(ACCESS_LOAD, word, 0);
}

static inline uint32_t vgpu_shared_acquire32(const uint32_t *word)
{
    return (uint32_t)interleave_access(ACCESS_LOAD, word, 0);
}

static inline void vgpu_shared_release64(uint64_t *word, uint64_t value)
{
    interleave_access(ACCESS_STORE, word, value);
}

static inline void vgpu_shared_release32(uint32_t *word, uint32_t value)
{
    interleave_access(ACCESS_STORE, word, value);
}

static inline void vgpu_shared_publish64(uint64_t *word, uint64_t value)
{
    interleave_access(interleave_weak.publish64 ? ACCESS_STORE : ACCESS_EXCHANGE, word, value);
}

static inline void vgpu_shared_publish32(uint32_t *word, uint32_t value)
{
    interleave_access(interleave_weak.publish32 ? ACCESS_STORE : ACCESS_EXCHANGE, word, value);
}

static inline uint64_t vgpu_shared_look64(const uint64_t *word)
{
    return interleave_access(ACCESS_LOAD, word, 0);
}

static inline uint32_t vgpu_shared_look32(const uint32_t *word)
{
    return (uint32_t)interleave_access(ACCESS_LOAD, word, 0);
}

static inline void vgpu_shared_copied(void)
{
}

/* ---- Exploring ---- */

enum machine { SEQUENTIAL, TOTAL_STORE_ORDER };

typedef void (*interleave_program)(void);

struct interleave_result {
    unsigned long states; /* different ones */
    unsigned long stuck;  /* of these, where neither program can go on and one has not ended */
    unsigned long wrong;  /* where a program said so */
};

/* Explores everything. With `tell`, prints the first way to a state that is stuck or wrong. */
struct interleave_result interleave_explore(enum machine machine, interleave_program first,
                                            interleave_program second, bool tell);

/* A program found something that must not be. */
void interleave_wrong(void);

#endif
