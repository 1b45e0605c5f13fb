/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A grid over a pool of host threads. The threads are made once and sleep between launches; the
 * caller is one of them, so a pool of one makes none. Blocks are taken from a shared counter, one
 * at a time; those of a cooperative launch are all there from the beginning.
 */
#include "run.h"

#include <signal.h>
#include <stdlib.h>

struct pool_thread {
    struct ptx_pool *pool;
    struct ptx_block block;
    pthread_t thread;
};

struct ptx_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct ptx_grid *grid; /* being run; under lock */
    uint64_t generation;   /* of launches; under lock */
    unsigned threads;      /* with the caller; threads[0] is the caller's */
    unsigned used;         /* taking part in this launch; under lock */
    unsigned busy;         /* of them, still running; under lock */
    bool quit;
    struct pool_thread thread[];
};

/* As a card of compute capability 7.5 has them, per multiprocessor. */
#define SM_MAX_BLOCKS   16u
#define SM_MAX_WARPS    32u
#define SM_SHARED_BYTES (64u << 10)

uint64_t vgpu_ptx_max_resident(const struct ptx_grid *g)
{
    uint64_t each = SM_MAX_WARPS / g->warps;
    each = each < SM_MAX_BLOCKS ? each : SM_MAX_BLOCKS;
    if (g->shared_bytes && each > SM_SHARED_BYTES / g->shared_bytes)
        each = SM_SHARED_BYTES / g->shared_bytes;
    uint64_t room = g->host_bytes / vgpu_ptx_block_bytes(g);
    return each * g->sm_count < room ? each * g->sm_count : room;
}

/*
 * Blocks that wait for each other: all of them are there, each thread has its share, and lets one
 * after the other run for a slice.
 */
static void run_resident(struct ptx_grid *g, unsigned first, unsigned step)
{
    for (bool running = true; running;) {
        running = false;
        for (uint64_t i = first; i < g->blocks; i += step) {
            struct ptx_block *b = &g->resident[i];
            if (b->done)
                continue;
            switch (vgpu_ptx_block_step(b)) {
            case PTX_BLOCK_STOPPED:
                return;
            case PTX_BLOCK_DONE:
                b->done = true;
                break;
            case PTX_BLOCK_RUNNING:
                running = true;
                break;
            }
        }
    }
}

static void release_resident(struct ptx_grid *g, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        vgpu_ptx_block_release(&g->resident[i]);
    free(g->resident);
    g->resident = NULL;
}

static CUresult prepare_resident(struct ptx_grid *g, unsigned used)
{
    g->resident = calloc((size_t)g->blocks, sizeof(*g->resident));
    if (!g->resident)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    for (uint64_t i = 0; i < g->blocks; i++) {
        struct ptx_block *b = &g->resident[i];
        if (vgpu_ptx_block_prepare(b, g, (unsigned)(i % used)) != CUDA_SUCCESS) {
            release_resident(g, i + 1);
            return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
        }
        vgpu_ptx_block_begin(b, i);
    }
    return CUDA_SUCCESS;
}

static void run_blocks(struct ptx_block *b, struct ptx_grid *g, unsigned number, unsigned used)
{
    if (g->resident) {
        run_resident(g, number, used);
        return;
    }
    for (;;) {
        uint64_t index = __atomic_fetch_add(&g->next_block, 1, __ATOMIC_RELAXED);
        if (index >= g->blocks || __atomic_load_n(g->stop, __ATOMIC_RELAXED) != PTX_GO)
            return;
        vgpu_ptx_block_begin(b, index);
        enum ptx_block_state state;
        do {
            state = vgpu_ptx_block_step(b);
        } while (state == PTX_BLOCK_RUNNING);
        if (state == PTX_BLOCK_STOPPED)
            return;
    }
}

static void *pool_main(void *arg)
{
    struct pool_thread *t = arg;
    struct ptx_pool *pool = t->pool;
    unsigned number = (unsigned)(t - pool->thread);
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    while (!pool->quit) {
        if (pool->generation == seen || number >= pool->used) {
            seen = pool->generation;
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        seen = pool->generation;
        struct ptx_grid *g = pool->grid;
        unsigned used = pool->used;
        pthread_mutex_unlock(&pool->lock);
        run_blocks(&t->block, g, number, used);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct ptx_pool *vgpu_ptx_pool_create(unsigned threads)
{
    struct ptx_pool *pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->thread[0]));
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->threads = 1;
    /* Signals are for the threads of whoever called. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (unsigned i = 0; i < threads; i++) {
        pool->thread[i].pool = pool;
        if (i == 0)
            continue;
        /* Fewer threads than asked for are slower, not wrong. */
        if (pthread_create(&pool->thread[i].thread, NULL, pool_main, &pool->thread[i]) != 0)
            break;
        pool->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pool;
}

void vgpu_ptx_pool_destroy(struct ptx_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads; i++) {
        if (i)
            pthread_join(pool->thread[i].thread, NULL);
        vgpu_ptx_block_release(&pool->thread[i].block);
    }
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

CUresult vgpu_ptx_pool_run(struct ptx_pool *pool, struct ptx_grid *g)
{
    unsigned used = g->blocks < pool->threads ? (unsigned)g->blocks : pool->threads, ready = 0;
    if (g->workspace) {
        CUresult r = prepare_resident(g, used);
        if (r != CUDA_SUCCESS)
            return r;
    } else {
        uint64_t room = g->host_bytes / vgpu_ptx_block_bytes(g);
        used = room < used ? (unsigned)room : used;
        while (ready < used &&
               vgpu_ptx_block_prepare(&pool->thread[ready].block, g, ready) == CUDA_SUCCESS)
            ready++;
        if (ready < used)
            vgpu_ptx_block_trim(&pool->thread[ready].block);
        used = ready;
        if (!used)
            return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    }
    pthread_mutex_init(&g->fault_lock, NULL);
    pthread_mutex_lock(&pool->lock);
    pool->grid = g;
    pool->used = used;
    pool->busy = used - 1;
    pool->generation++;
    if (used > 1)
        pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);

    run_blocks(&pool->thread[0].block, g, 0, used);

    pthread_mutex_lock(&pool->lock);
    while (pool->busy)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pool->used = 0;
    pool->grid = NULL;
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_destroy(&g->fault_lock);
    if (g->resident)
        release_resident(g, g->blocks);
    for (unsigned i = 0; i < ready; i++)
        vgpu_ptx_block_trim(&pool->thread[i].block);
    return g->fault.result;
}
