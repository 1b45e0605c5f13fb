/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One block on one host thread: its memory, its special registers, its warps taking turns until all
 * have exited. Memory is mapped once per launch size and used again for every block the thread
 * runs.
 */
#include "run.h"

#include <sys/mman.h>

/* Mappings up to this size stay from launch to launch; larger ones are given back after each. */
#define KEEP_BYTES ((size_t)1 << 20)

/* One warp's special registers as called functions get them: 32-bit rows, then 64-bit ones. */
#define SPECIALS_BYTES                                                                             \
    ((size_t)(PTX_SR_GRIDID + 2 * (PTX_SR_ROWS - PTX_SR_GRIDID)) * PTX_SLOT_BYTES)

/* What one block takes of the host, in bytes. */
struct parts {
    size_t regs, specials, shared, local, warps;
};

static size_t in_pages(size_t bytes)
{
    return (bytes + 65535) & ~(size_t)65535;
}

/* The factors are bounded (ptx.h), so nothing here overflows. */
static struct parts parts_of(const struct ptx_grid *g)
{
    struct parts n = {
        .regs = in_pages((size_t)g->stack_slots * PTX_SLOT_BYTES * g->warps),
        .specials = g->fn->calls ? in_pages(SPECIALS_BYTES * g->warps) : 0,
        .shared = in_pages(g->shared_bytes + 16),
        .local = in_pages((size_t)g->local_bytes * PTX_LANES * g->warps),
        .warps = in_pages(sizeof(struct ptx_warp) * g->warps),
    };
    return n;
}

size_t vgpu_ptx_block_bytes(const struct ptx_grid *g)
{
    struct parts n = parts_of(g);
    return n.regs + n.specials + n.shared + n.local + n.warps;
}

/* The mapping at `at`, of *have bytes, or a new one, all zeros, where it is smaller than `need`.
 * *have tells whether there was room. */
static void *map_part(void *at, size_t *have, size_t need)
{
    if (need <= *have)
        return at;
    if (*have)
        munmap(at, *have);
    at = mmap(NULL, need, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
              0);
    *have = at == MAP_FAILED ? 0 : need;
    return *have ? at : NULL;
}

static void *trim_part(void *at, size_t *have)
{
    if (*have <= KEEP_BYTES)
        return at;
    munmap(at, *have);
    *have = 0;
    return NULL;
}

void vgpu_ptx_block_trim(struct ptx_block *b)
{
    b->regs = trim_part(b->regs, &b->regs_bytes);
    b->specials = trim_part(b->specials, &b->specials_bytes);
    b->shared = trim_part(b->shared, &b->shared_bytes);
    b->local = trim_part(b->local, &b->local_bytes);
    b->warps = trim_part(b->warps, &b->warps_bytes);
}

void vgpu_ptx_block_release(struct ptx_block *b)
{
    if (b->regs_bytes)
        munmap(b->regs, b->regs_bytes);
    if (b->specials_bytes)
        munmap(b->specials, b->specials_bytes);
    if (b->shared_bytes)
        munmap(b->shared, b->shared_bytes);
    if (b->local_bytes)
        munmap(b->local, b->local_bytes);
    if (b->warps_bytes)
        munmap(b->warps, b->warps_bytes);
    memset(b, 0, sizeof(*b));
}

static void fill_32(void *row, uint32_t v)
{
    row_u32 *r = row;
    for (unsigned i = 0; i < PTX_LANES; i++)
        r[i] = v;
}

static void fill_64(void *row, uint64_t v)
{
    row_u64 *r = row;
    for (unsigned i = 0; i < PTX_LANES; i++)
        r[i] = v;
}

/* What a special register holds in lane `lane` of warp `warp`, but for those that change with the
 * block. */
static uint32_t sreg_value(const struct ptx_block *b, uint32_t sreg, uint32_t warp, uint32_t lane)
{
    const struct ptx_grid *g = b->grid;
    uint32_t thread = warp * PTX_LANES + lane, bit = 1u << lane;
    switch (sreg) {
    case PTX_SR_TID_X:
        return thread % g->block[0];
    case PTX_SR_TID_Y:
        return thread / g->block[0] % g->block[1];
    case PTX_SR_TID_Z:
        return thread / g->block[0] / g->block[1];
    case PTX_SR_NTID_X:
    case PTX_SR_NTID_Y:
    case PTX_SR_NTID_Z:
        return g->block[sreg - PTX_SR_NTID_X];
    case PTX_SR_NCTAID_X:
    case PTX_SR_NCTAID_Y:
    case PTX_SR_NCTAID_Z:
        return g->grid[sreg - PTX_SR_NCTAID_X];
    case PTX_SR_LANEID:
        return lane;
    case PTX_SR_WARPID:
        return warp;
    case PTX_SR_NWARPID:
        return PTX_MAX_THREADS / PTX_LANES;
    case PTX_SR_SMID:
        return b->sm;
    case PTX_SR_NSMID:
        return g->sm_count;
    case PTX_SR_LANEMASK_EQ:
        return bit;
    case PTX_SR_LANEMASK_LE:
        return bit | (bit - 1);
    case PTX_SR_LANEMASK_LT:
        return bit - 1;
    case PTX_SR_LANEMASK_GE:
        return ~(bit - 1);
    case PTX_SR_LANEMASK_GT:
        return ~(bit | (bit - 1));
    case PTX_SR_TOTAL_SMEM:
        return g->shared_bytes;
    case PTX_SR_DYNAMIC_SMEM:
        return g->dynamic_bytes;
    case PTX_SR_ENVREG1:
        return (uint32_t)(g->workspace >> 32);
    case PTX_SR_ENVREG2:
        return (uint32_t)g->workspace;
    default:
        return 0;
    }
}

static void fill_special(const struct ptx_block *b, void *row, uint32_t sreg, uint32_t warp)
{
    if (sreg == PTX_SR_GRIDID) {
        fill_64(row, b->grid->grid_id);
    } else if (sreg == PTX_SR_DYN_BASE) {
        fill_64(row, b->grid->dynamic_base);
    } else {
        row_u32 *r = row;
        for (unsigned i = 0; i < PTX_LANES; i++)
            r[i] = sreg_value(b, sreg, warp, i);
    }
}

/* Once per launch: everything that does not change with the block. */
static void fill_specials(struct ptx_block *b, struct ptx_warp *w, uint32_t warp)
{
    const struct ptx_vec *v = &b->grid->fn->specials;
    const struct ptx_special_use *use = v->data;
    for (size_t k = 0; k < v->count; k++)
        fill_special(b, ptx_dst(w, use[k].row), use[k].sreg, warp);
}

/* The row that called functions get a special register from. */
static uint8_t *special_row(const struct ptx_block *b, uint32_t warp, unsigned sreg)
{
    unsigned slot = sreg < PTX_SR_GRIDID ? sreg : PTX_SR_GRIDID + 2 * (sreg - PTX_SR_GRIDID);
    return b->specials + SPECIALS_BYTES * warp + (size_t)slot * PTX_SLOT_BYTES;
}

static void fill_callee_specials(struct ptx_block *b, struct ptx_warp *w, uint32_t warp)
{
    w->specials = b->specials + SPECIALS_BYTES * warp;
    for (uint64_t left = b->grid->module->callee_specials; left; left &= left - 1)
        fill_special(b, special_row(b, warp, (unsigned)__builtin_ctzll(left)),
                     (unsigned)__builtin_ctzll(left), warp);
}

CUresult vgpu_ptx_block_prepare(struct ptx_block *b, struct ptx_grid *g, unsigned sm)
{
    const struct ptx_function *fn = g->fn;
    size_t warp_stack = (size_t)g->stack_slots * PTX_SLOT_BYTES;
    size_t warp_local = (size_t)g->local_bytes * PTX_LANES;
    struct parts n = parts_of(g);
    b->grid = g;
    b->sm = sm;
    b->regs = map_part(b->regs, &b->regs_bytes, n.regs);
    b->specials = map_part(b->specials, &b->specials_bytes, n.specials);
    b->shared = map_part(b->shared, &b->shared_bytes, n.shared);
    b->local = map_part(b->local, &b->local_bytes, n.local);
    b->warps = map_part(b->warps, &b->warps_bytes, n.warps);
    if (b->regs_bytes < n.regs || b->specials_bytes < n.specials || b->shared_bytes < n.shared ||
        b->local_bytes < n.local || b->warps_bytes < n.warps)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    for (uint32_t k = 0; k < g->warps; k++) {
        struct ptx_warp *w = &b->warps[k];
        memset(w, 0, sizeof(*w));
        w->stack = b->regs + warp_stack * k;
        w->stack_slots = g->stack_slots;
        w->functions = g->module->table.data;
        vgpu_ptx_set_frame(w, 0, fn);
        w->local = b->local ? b->local + warp_local * k : NULL;
        w->local_bytes = g->local_bytes;
        w->shared = b->shared;
        w->shared_bytes = g->shared_bytes;
        w->code = g->code;
        w->params = g->params;
        w->param_bytes = fn->info->param_bytes;
        w->memory = g->memory;
        uint32_t left = g->threads - k * PTX_LANES;
        w->all = left >= PTX_LANES ? UINT32_MAX : (1u << left) - 1;
        w->preds[PTX_PRED_TRUE] = UINT32_MAX;
        fill_specials(b, w, k);
        if (fn->calls)
            fill_callee_specials(b, w, k);
    }
    return CUDA_SUCCESS;
}

void vgpu_ptx_block_begin(struct ptx_block *b, uint64_t index)
{
    const struct ptx_grid *g = b->grid;
    const struct ptx_vec *v = &g->fn->specials;
    const struct ptx_special_use *use = v->data;
    b->ctaid[0] = (uint32_t)(index % g->grid[0]);
    b->ctaid[1] = (uint32_t)(index / g->grid[0] % g->grid[1]);
    b->ctaid[2] = (uint32_t)(index / g->grid[0] / g->grid[1]);
    memset(b->barriers, 0, sizeof(b->barriers));
    b->live_threads = g->threads;
    if (g->budget) /* what is neither in loops nor in called functions */
        vgpu_ptx_grid_spend(b->grid, (uint64_t)g->fn->insn_count * g->warps);
    for (uint32_t k = 0; k < g->warps; k++) {
        struct ptx_warp *w = &b->warps[k];
        vgpu_ptx_set_frame(w, 0, g->fn);
        w->pc = g->fn->first;
        for (unsigned i = 0; i < PTX_LANES; i++)
            w->sp[i] = g->fn->local_bytes;
        w->active = w->live = w->all;
        w->stop_pc = UINT32_MAX;
        w->bar_wait = w->sync_wait = w->sync_go = w->cc = w->boost = 0;
        w->boost_at = 0;
        w->sync_alone = false;
        memset(w->bar_lanes, 0, sizeof(w->bar_lanes));
        for (size_t s = 0; s < v->count; s++)
            if (use[s].sreg >= PTX_SR_CTAID_X && use[s].sreg <= PTX_SR_CTAID_Z)
                fill_32(ptx_dst(w, use[s].row), b->ctaid[use[s].sreg - PTX_SR_CTAID_X]);
        for (unsigned i = 0; i < 3 && g->fn->calls; i++)
            fill_32(special_row(b, k, PTX_SR_CTAID_X + i), b->ctaid[i]);
    }
}

static void stop_grid(struct ptx_grid *g, uint32_t why)
{
    uint32_t go = PTX_GO;
    __atomic_compare_exchange_n(g->stop, &go, why, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void vgpu_ptx_grid_spend(struct ptx_grid *g, uint64_t insns)
{
    /* Each thread adds a slice at a time, so the sum does not come near its end. */
    if (__atomic_add_fetch(&g->spent, insns, __ATOMIC_RELAXED) > g->budget)
        stop_grid(g, PTX_STOP_BUDGET);
}

/* The launch's first fault; the others stop because of it. */
static void report(struct ptx_grid *g, const struct ptx_fault *f)
{
    pthread_mutex_lock(&g->fault_lock);
    if (g->fault.result == CUDA_SUCCESS)
        g->fault = *f;
    pthread_mutex_unlock(&g->fault_lock);
    stop_grid(g, PTX_STOP_FAULT);
}

/* Nothing can run. Lanes that wait in .sync instructions for lanes that wait at barriers go on
 * without them, which the ISA leaves undefined; false when there are none. */
static bool abandon_syncs(struct ptx_block *b)
{
    for (uint32_t k = 0; k < b->grid->warps; k++) {
        struct ptx_warp *w = &b->warps[k];
        if (w->sync_wait) {
            w->sync_alone = true; /* it is the only one that can run, so it takes note at once */
            return true;
        }
    }
    return false;
}

enum ptx_block_state vgpu_ptx_block_step(struct ptx_block *b)
{
    struct ptx_grid *g = b->grid;
    bool ran = false, alive = false;
    for (uint32_t k = 0; k < g->warps; k++) {
        struct ptx_warp *w = &b->warps[k];
        if (!w->live)
            continue;
        alive = true;
        if (!vgpu_ptx_warp_runnable(w))
            continue;
        ran = true;
        if (vgpu_ptx_warp_run(b, w) == PTX_WARP_STOPPED) {
            if (w->fault.result != CUDA_SUCCESS)
                report(g, &w->fault);
            return PTX_BLOCK_STOPPED;
        }
    }
    if (!alive)
        return PTX_BLOCK_DONE;
    if (!ran && !abandon_syncs(b)) {
        /* Every thread that is left waits at a barrier that cannot complete. */
        struct ptx_fault f = {.result = CUDA_ERROR_LAUNCH_FAILED};
        for (uint32_t k = 0; k < g->warps && !f.line; k++) {
            struct ptx_warp *w = &b->warps[k];
            if (w->bar_wait)
                f.line = w->code[(uint32_t)w->lane_at[__builtin_ctz(w->bar_wait)] - 1].line;
        }
        f.deadlock = true;
        report(g, &f);
        return PTX_BLOCK_STOPPED;
    }
    return PTX_BLOCK_RUNNING;
}
