/* SPDX-License-Identifier: MIT */
/*
 * See copy_team.h. The order of things:
 *
 *   caller    stores `claim` = (job, CLOSED); writes the fields; stores `claim` = (job + 1, 0)
 *   all       load `claim`, read the fields, then take chunk n by compare and swap from (job, n) to
 *             (job, n + 1); copy it; add 1 to `done`
 *   caller    waits until `done` is the number of chunks: then nobody has one of this job any more
 *
 * Nobody takes a chunk with fields of another job: who has read a field of the next one also sees
 * that `claim` was closed before (the fields are written with release and read with acquire), so
 * the swap fails.
 */
#define _GNU_SOURCE /* sched_getaffinity, secure_getenv */
#include "guest/cuda/copy_team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest/cuda/bulk.h"
#include "guest/cuda/thread.h"
#include "ring/barrier.h"

#define CHUNK_BYTES 0x20000u /* small enough that nobody waits long for the last one */
#define LEAST_BYTES (4u * CHUNK_BYTES)
#define LOOK_NS     50000u /* for the next piece of a copy, before a helper sleeps */
#define CLOSED      UINT32_MAX

static struct {
    unsigned threads;     /* constant after set_up */
    pthread_mutex_t user; /* whose copy it is; guards `started` */
    bool started;

    _Atomic uintptr_t to, from; /* the job */
    _Atomic size_t bytes;
    atomic_bool past_cache;
    _Atomic uint64_t claim; /* job << 32 | next chunk, or CLOSED */
    _Atomic uint32_t done;

    pthread_mutex_t park_lock;
    pthread_cond_t work;
    atomic_uint parked; /* written with park_lock */
} team = {.threads = 1,
          .user = PTHREAD_MUTEX_INITIALIZER,
          .park_lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER};

void vgpu_copy_team_set_up(void)
{
    cpu_set_t mine;
    CPU_ZERO(&mine);
    unsigned threads = 1;
    if (sched_getaffinity(0, sizeof(mine), &mine) == 0)
        threads = (unsigned)CPU_COUNT(&mine) / 2;
    const char *word = secure_getenv("VGPU_COPY_THREADS");
    if (word && word[0] >= '1' && word[0] <= '9' && !word[1])
        threads = (unsigned)(word[0] - '0');
    if (threads > VGPU_COPY_TEAM_MOST)
        threads = VGPU_COPY_TEAM_MOST;
    team.threads = threads ? threads : 1;
}

static void copy(uint8_t *to, const uint8_t *from, size_t bytes, bool past_cache)
{
    if (!past_cache) {
        memcpy(to, from, bytes);
        return;
    }
    vgpu_bulk_copy(to, from, bytes);
    vgpu_bulk_end();
}

static uint32_t chunks_of(size_t bytes)
{
    return (uint32_t)((bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
}

static bool is_open(uint64_t claim)
{
    return (uint32_t)claim < chunks_of(atomic_load_explicit(&team.bytes, memory_order_relaxed));
}

/* Takes a chunk and copies it. False: none is left. */
static bool help(void)
{
    uint64_t claim = atomic_load_explicit(&team.claim, memory_order_acquire);
    for (;;) {
        uintptr_t to = atomic_load_explicit(&team.to, memory_order_acquire);
        uintptr_t from = atomic_load_explicit(&team.from, memory_order_acquire);
        size_t bytes = atomic_load_explicit(&team.bytes, memory_order_acquire);
        bool past_cache = atomic_load_explicit(&team.past_cache, memory_order_acquire);
        uint32_t chunk = (uint32_t)claim;
        if (chunk >= chunks_of(bytes))
            return false;
        if (!atomic_compare_exchange_weak_explicit(&team.claim, &claim, claim + 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        size_t at = (size_t)chunk * CHUNK_BYTES;
        size_t n = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;
        copy((uint8_t *)to + at, (const uint8_t *)from + at, n, past_cache); /* NOLINT */
        atomic_fetch_add_explicit(&team.done, 1, memory_order_release);
        return true;
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *run_helper(void *unused)
{
    (void)unused;
    for (;;) {
        uint64_t idle_since = now_ns();
        while (now_ns() - idle_since < LOOK_NS) {
            if (help())
                idle_since = now_ns();
            else
                vgpu_shared_pause();
        }
        pthread_mutex_lock(&team.park_lock);
        /* In this order, or a job published between the two would wake nobody. */
        atomic_fetch_add(&team.parked, 1);
        while (!is_open(atomic_load(&team.claim)))
            pthread_cond_wait(&team.work, &team.park_lock);
        atomic_fetch_sub(&team.parked, 1);
        pthread_mutex_unlock(&team.park_lock);
    }
    return NULL;
}

/* The caller is the team's user. */
static void start(void)
{
    if (team.started)
        return;
    team.started = true;
    for (unsigned i = 1; i < team.threads; i++)
        if (!vgpu_cuda_thread_start(run_helper, NULL))
            break; /* the fewer do it */
}

void vgpu_copy_team_copy(void *to, const void *from, size_t bytes, bool past_cache)
{
    if (team.threads == 1 || bytes < LEAST_BYTES || bytes / CHUNK_BYTES >= CLOSED - 1 ||
        pthread_mutex_trylock(&team.user)) {
        copy(to, from, bytes, past_cache);
        return;
    }
    start();
    uint64_t job = atomic_load_explicit(&team.claim, memory_order_relaxed) >> 32;
    atomic_store(&team.claim, job << 32 | CLOSED);
    atomic_store_explicit(&team.to, (uintptr_t)to, memory_order_release);
    atomic_store_explicit(&team.from, (uintptr_t)from, memory_order_release);
    atomic_store_explicit(&team.bytes, bytes, memory_order_release);
    atomic_store_explicit(&team.past_cache, past_cache, memory_order_release);
    atomic_store_explicit(&team.done, 0, memory_order_relaxed);
    atomic_store(&team.claim, (job + 1) << 32);
    if (atomic_load(&team.parked)) {
        pthread_mutex_lock(&team.park_lock);
        pthread_cond_broadcast(&team.work);
        pthread_mutex_unlock(&team.park_lock);
    }
    while (help())
        ;
    /* At most one chunk for each helper; sleeping for less than that is not worth it. */
    for (unsigned looks = 0;
         atomic_load_explicit(&team.done, memory_order_acquire) != chunks_of(bytes); looks++) {
        if (looks % 64 == 63)
            sched_yield();
        else
            vgpu_shared_pause();
    }
    pthread_mutex_unlock(&team.user);
}
