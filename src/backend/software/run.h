/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running kernels: a block on one thread (block.c), its warps (warp.c), a grid over a pool of
 * threads (launch.c). Knows decoded functions and device memory; nothing of PTX text or of the
 * backend interface above it.
 */
#ifndef VGPU_PTX_RUN_H
#define VGPU_PTX_RUN_H

#include <pthread.h>

#include "exec.h"

struct ptx_runtime;

struct ptx_barrier {
    uint32_t arrived;  /* threads */
    uint32_t again;    /* of them, those that had arrived before and did not wait */
    uint32_t expected; /* 0: every thread that has not exited */
    uint32_t popc;     /* bar.red: threads whose predicate was true, */
    uint32_t voted;    /* of so many */
};

/* What the blocks of one launch share. */
struct ptx_grid {
    const struct ptx_function *fn;
    const struct ptx_insn *code;
    const struct ptx_module *module;
    uint32_t stack_slots; /* of a warp */
    uint32_t local_bytes; /* of a thread */
    const struct ptx_memory *memory;
    struct ptx_runtime *runtime; /* has a lock of its own */
    uint32_t grid[3], block[3];
    uint32_t threads, warps; /* of a block */
    uint32_t shared_bytes, dynamic_base, dynamic_bytes;
    uint64_t grid_id;
    const uint8_t *params;
    uint64_t blocks, next_block; /* next_block: atomic */
    unsigned sm_count;
    uint64_t workspace;         /* of a cooperative launch, a device address; 0: it is none */
    struct ptx_block *resident; /* all of its blocks */
    uint64_t host_bytes;        /* what all blocks that run at a time may take of the host */
    uint32_t *stop;             /* atomic, enum ptx_stop */
    uint32_t slice_cost;        /* PTX_SLICE_COST, or less where blocks wait for each other */
    uint64_t budget; /* what the launch may cost, in instructions of a warp; 0: no limit */
    uint64_t spent;  /* of it; atomic */
    pthread_mutex_t fault_lock;
    struct ptx_fault fault; /* the first; under fault_lock while blocks run */
};

/* One thread's workshop: memory for one block at a time, kept from launch to launch. */
struct ptx_block {
    struct ptx_grid *grid;
    unsigned sm; /* which thread */
    bool done;   /* of a cooperative launch */
    uint32_t ctaid[3];
    struct ptx_warp *warps;
    struct ptx_barrier barriers[PTX_MAX_BARRIERS];
    uint32_t live_threads;
    uint8_t *regs, *shared, *local, *specials;
    size_t regs_bytes, shared_bytes, local_bytes, specials_bytes, warps_bytes; /* mapped */
};

/* STOPPED: the launch must end. */
enum ptx_block_state { PTX_BLOCK_RUNNING, PTX_BLOCK_DONE, PTX_BLOCK_STOPPED };
enum ptx_warp_state { PTX_WARP_YIELDED, PTX_WARP_BLOCKED, PTX_WARP_DONE, PTX_WARP_STOPPED };

/* What backward branches and calls may cost before a warp looks at the stop flag and lets the next
 * warp run; about instructions. */
#define PTX_SLICE_COST   65536u
#define PTX_LEAST_COST   16u /* of the shortest loop or call */
#define PTX_BUILTIN_COST 256u

/* warp.c: runs until the warp waits, exits, faults, is stopped or has used its slice. */
enum ptx_warp_state vgpu_ptx_warp_run(struct ptx_block *b, struct ptx_warp *w);
/* Lanes that could run now. */
uint32_t vgpu_ptx_warp_runnable(const struct ptx_warp *w);
/* For call.c: writes where the running group is to its lanes; does that and chooses who runs next;
 * sends lanes `mask` of the running group to `target` and the rest on. */
void vgpu_ptx_warp_park(struct ptx_warp *w);
bool vgpu_ptx_warp_reschedule(struct ptx_warp *w);
void vgpu_ptx_warp_diverge(struct ptx_warp *w, uint32_t mask, uint32_t target);

/* Counts `insns` against the launch's budget, which there is; ends the launch when it is used up.
 */
void vgpu_ptx_grid_spend(struct ptx_grid *g, uint64_t insns);

/* call.c: lanes `mask` of the running group call, return, branch by table. What that costs, in
 * instructions; 0 from a branch that goes forward. */
uint32_t vgpu_ptx_call(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                       uint32_t mask);
void vgpu_ptx_return(struct ptx_warp *w, uint32_t mask);
uint32_t vgpu_ptx_branch_indexed(struct ptx_warp *w, const struct ptx_insn *in, uint32_t mask);
/* Makes the frame of `fn` at slot `base` the running group's. */
static inline void vgpu_ptx_set_frame(struct ptx_warp *w, uint32_t base,
                                      const struct ptx_function *fn)
{
    w->base = base;
    w->fn = fn;
    w->regs = w->stack + (size_t)base * PTX_SLOT_BYTES;
    w->preds = (void *)(w->regs + (size_t)fn->slots * PTX_SLOT_BYTES);
    w->consts = fn->consts.data;
}

/* barrier.c: lanes `mask` of `w` arrive at in; true when they may go on at once. */
bool vgpu_ptx_barrier_arrive(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                             uint32_t mask);
/* Threads have exited and are no longer live: barriers that waited only for them are complete. */
void vgpu_ptx_barrier_exit(struct ptx_block *b);

/* block.c. A block's memory is mapped by prepare, touched as the kernel uses it and kept for the
 * next launch; trim gives back what is large. */
size_t vgpu_ptx_block_bytes(const struct ptx_grid *g);
CUresult vgpu_ptx_block_prepare(struct ptx_block *b, struct ptx_grid *g, unsigned sm);
/* Makes it block number `index`, then lets each of its warps that can run have a slice. */
void vgpu_ptx_block_begin(struct ptx_block *b, uint64_t index);
enum ptx_block_state vgpu_ptx_block_step(struct ptx_block *b);
void vgpu_ptx_block_trim(struct ptx_block *b);
void vgpu_ptx_block_release(struct ptx_block *b);

/* launch.c */
struct ptx_pool;
/* `threads` in all, the caller of vgpu_ptx_pool_run included. NULL when the host has none to give.
 */
struct ptx_pool *vgpu_ptx_pool_create(unsigned threads);
void vgpu_ptx_pool_destroy(struct ptx_pool *pool);
/* How many blocks of the grid can be there at a time: what a cooperative launch may have. */
uint64_t vgpu_ptx_max_resident(const struct ptx_grid *g);
/* Runs the grid to its end on the pool, on fewer threads if host_bytes or the host has no room for
 * more blocks. OUT_OF_RESOURCES, before anything ran, if not for one; otherwise the first fault. */
CUresult vgpu_ptx_pool_run(struct ptx_pool *pool, struct ptx_grid *g);

#endif
