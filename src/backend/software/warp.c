/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One warp: which lanes run together and where.
 *
 * Lanes that have parted run in groups; the group that is deepest in calls, and of those the one
 * with the lowest program counter, goes first, so that the others are waiting at the join when it
 * gets there. `stop_pc` is the lowest counter above it that another group waits at: while all lanes
 * are together it is out of reach, and the loop pays one comparison per instruction for divergence.
 * A group that spins at a low counter waiting for a higher one to move (a lock) would starve it, so
 * after a slice of backward branches a higher group is let ahead for a while, which gives every
 * lane progress as sm_70 and later promise.
 */
#include "run.h"

#define NO_STOP UINT32_MAX
#define NOWHERE UINT64_MAX

/* Instructions of a loop that is short enough not to end a slice unseen. */
#define PTX_LONG_LOOP 1024u

uint32_t vgpu_ptx_warp_runnable(const struct ptx_warp *w)
{
    uint32_t may = w->live & ~w->bar_wait, free = may & ~w->sync_wait;
    /* Lanes in .sync instructions may wait for lanes at a barrier, which other warps complete. */
    return free ? free : w->bar_wait && !w->sync_alone ? 0 : may;
}

/* Writes where the running group is to its lanes. */
void vgpu_ptx_warp_park(struct ptx_warp *w)
{
    const uint64_t at = ptx_place(w->base, w->pc);
    for (uint32_t m = w->active; m; m &= m - 1)
        w->lane_at[__builtin_ctz(m)] = at;
}

/* The first place of `lanes` that is not before `from`; NOWHERE if there is none. */
static uint64_t first_of(const struct ptx_warp *w, uint32_t lanes, uint64_t from)
{
    uint64_t first = NOWHERE;
    for (uint32_t m = lanes; m; m &= m - 1) {
        uint64_t at = w->lane_at[__builtin_ctz(m)];
        if (at >= from && at < first)
            first = at;
    }
    return first;
}

/*
 * Chooses the next group from parked lanes; false when none can run. Lanes waiting in a .sync
 * instruction do not run until their members are there. When only such lanes are left, and no
 * barrier can bring others, they would wait for ever: the lowest of them go on, which the ISA
 * leaves undefined.
 */
static bool choose(struct ptx_warp *w, uint64_t from)
{
    uint32_t may = vgpu_ptx_warp_runnable(w), group = 0;
    uint64_t at = first_of(w, may, from), next;
    if (at == NOWHERE && from)
        at = first_of(w, may, 0);
    if (at == NOWHERE) {
        w->active = 0;
        return false;
    }
    for (uint32_t m = may; m; m &= m - 1) {
        unsigned i = (unsigned)__builtin_ctz(m);
        group |= (uint32_t)(w->lane_at[i] == at) << i;
    }
    if (group & w->sync_wait) {
        w->sync_go |= group;
        w->sync_wait &= ~group;
        w->sync_alone = false;
        may = group;
    }
    w->pc = (uint32_t)at;
    w->active = group;
    if (w->base | ptx_place_base(at))
        vgpu_ptx_set_frame(w, ptx_place_base(at), w->functions[w->code[w->pc].function]);
    next = from ? NOWHERE : first_of(w, may & ~group, at + 1);
    /* One in another frame is behind this one whatever its counter. */
    w->stop_pc = next >> 32 == at >> 32 ? (uint32_t)next : NO_STOP;
    return true;
}

bool vgpu_ptx_warp_reschedule(struct ptx_warp *w)
{
    vgpu_ptx_warp_park(w);
    w->boost = 0;
    return choose(w, 0);
}

/*
 * Lets another group run for a slice: the one behind the group that was let ahead last time, in the
 * order of places, and after the last one the first behind the present one, so that each gets its
 * turn.
 */
static void boost(struct ptx_warp *w)
{
    const uint64_t here = ptx_place(w->base, w->pc);
    uint32_t may = vgpu_ptx_warp_runnable(w);
    uint64_t from = (w->boost_at > here ? w->boost_at : here) + 1;
    vgpu_ptx_warp_park(w);
    w->boost = 0;
    if (first_of(w, may, from) == NOWHERE)
        from = here + 1;
    if (first_of(w, may, from) != NOWHERE && choose(w, from)) {
        w->boost = PTX_SLICE_COST / 4;
        w->boost_at = ptx_place(w->base, w->pc);
    } else {
        choose(w, 0);
    }
}

static uint32_t members_of(const struct ptx_warp *w, unsigned lane)
{
    const struct ptx_insn *in = &w->code[(uint32_t)w->lane_at[lane]];
    const struct ptx_function *fn = w->functions[in->function];
    const uint8_t *base =
        in->e < 0 ? fn->consts.data
                  : w->stack + (size_t)ptx_place_base(w->lane_at[lane]) * PTX_SLOT_BYTES;
    const row_u32 *members =
        (const void *)(base + (size_t)((uint32_t)in->e & INT32_MAX) * PTX_SLOT_BYTES);
    return members[lane];
}

/*
 * Lets go the waiting lanes whose members have all come (PTX ISA, "bar.warp.sync", "shfl.sync",
 * "vote.sync", "match.sync": until all threads of membermask that have not exited have executed the
 * instruction with the same mask). bar.warp.sync meets itself wherever it stands in the text; lanes
 * that exchange values must be at the same instruction, whose rows are what they exchange.
 */
static void settle(struct ptx_warp *w)
{
    for (uint32_t left = w->sync_wait; left;) {
        unsigned first = (unsigned)__builtin_ctz(left);
        const struct ptx_insn *in = &w->code[(uint32_t)w->lane_at[first]];
        uint32_t members = members_of(w, first), group = 0;
        for (uint32_t m = left; m; m &= m - 1) {
            unsigned i = (unsigned)__builtin_ctz(m);
            const struct ptx_insn *other = &w->code[(uint32_t)w->lane_at[i]];
            bool same = w->lane_at[i] == w->lane_at[first];
            if ((same || (other->op == PTX_OP_FENCE && in->op == PTX_OP_FENCE)) &&
                members_of(w, i) == members)
                group |= 1u << i;
        }
        left &= ~group;
        if (members & w->live & ~group)
            continue;
        w->sync_wait &= ~group;
        if (in->op != PTX_OP_FENCE) {
            w->sync_go |= group; /* they execute it together when their turn comes */
            continue;
        }
        in->fn(w, in, group);
        for (uint32_t m = group; m; m &= m - 1)
            w->lane_at[__builtin_ctz(m)]++;
    }
}

/* A .sync instruction for lanes `mask` of the running group: executes it for those whose members
 * are there; false when the warp must look again who can run. */
static bool run_sync(struct ptx_warp *w, const struct ptx_insn *in, uint32_t mask)
{
    uint32_t go = mask;
    if (mask != w->live) {
        const row_u32 *members = ptx_src(w, in->e);
        uint32_t want = 0;
        for (uint32_t m = mask; m; m &= m - 1)
            want |= members[__builtin_ctz(m)];
        if (want & w->live & ~mask)
            go = mask & w->sync_go;
    }
    if (go)
        in->fn(w, in, go);
    w->sync_go &= ~go;
    if (go == mask) {
        w->pc++; /* lanes that the guard keeps out of it come along */
        return true;
    }
    uint32_t wait = mask & ~go;
    vgpu_ptx_warp_park(w);
    for (uint32_t m = w->active & ~wait; m; m &= m - 1)
        w->lane_at[__builtin_ctz(m)]++;
    w->active = 0;
    w->sync_wait |= wait;
    settle(w);
    return false;
}

static void exit_lanes(struct ptx_block *b, struct ptx_warp *w, uint32_t mask)
{
    w->pc++;
    w->live &= ~mask;
    w->active &= ~mask;
    w->sync_go &= ~mask;
    b->live_threads -= (uint32_t)__builtin_popcount(mask);
    if (!w->active || w->sync_wait)
        w->stop_pc = 0;
    settle(w); /* those who waited for these lanes only */
    vgpu_ptx_barrier_exit(b);
}

/* Lanes `mask` go to `target`, the rest of the group on; whoever is lower runs. */
void vgpu_ptx_warp_diverge(struct ptx_warp *w, uint32_t mask, uint32_t target)
{
    for (uint32_t m = mask; m; m &= m - 1)
        w->lane_at[__builtin_ctz(m)] = ptx_place(w->base, target);
    w->active &= ~mask;
    w->pc++;
    if (!w->boost)
        vgpu_ptx_warp_reschedule(w);
}

/*
 * Backward branches and calls are where a warp can stay for ever. A slice is counted in what they
 * cost: the instructions that one leads through, as far as that is known. True when it is used up
 * and the warp must pause.
 */
static bool slice_over(struct ptx_warp *w, uint32_t insns, uint32_t *slice)
{
    uint32_t cost = insns < PTX_LEAST_COST ? PTX_LEAST_COST : insns;
    if (w->boost) {
        w->boost = w->boost > cost ? w->boost - cost : 0;
        if (!w->boost) {
            w->boost_at = ptx_place(w->base, w->pc);
            vgpu_ptx_warp_reschedule(w);
        }
    }
    if (*slice > cost) {
        *slice -= cost;
        return false;
    }
    *slice = 0;
    if (!w->boost && w->active != vgpu_ptx_warp_runnable(w))
        boost(w);
    return true;
}

static enum ptx_warp_state idle_state(const struct ptx_warp *w)
{
    return w->live ? PTX_WARP_BLOCKED : PTX_WARP_DONE;
}

/* What is more than a handler; false when the warp's slice is used up. */
static bool run_flow(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                     uint32_t mask, uint32_t *slice)
{
    uint32_t from = w->pc, insns;
    switch ((enum ptx_kind)in->kind) {
    case PTX_KIND_BRA:
        if (mask == w->active)
            w->pc = in->target;
        else
            vgpu_ptx_warp_diverge(w, mask, in->target);
        return in->target > from || !slice_over(w, from - in->target + 1, slice);
    case PTX_KIND_CALL:
        insns = vgpu_ptx_call(b, w, in, mask);
        return w->fault.result != CUDA_SUCCESS || !slice_over(w, insns, slice);
    case PTX_KIND_RET:
        vgpu_ptx_return(w, mask);
        return true;
    case PTX_KIND_BRX:
        insns = vgpu_ptx_branch_indexed(w, in, mask);
        return !insns || !slice_over(w, insns, slice);
    case PTX_KIND_EXIT:
        exit_lanes(b, w, mask);
        return true;
    case PTX_KIND_BAR:
        w->pc++;
        vgpu_ptx_warp_park(w);
        if (!vgpu_ptx_barrier_arrive(b, w, in, mask)) {
            w->active &= ~w->bar_wait;
            w->stop_pc = 0;
        }
        return true;
    case PTX_KIND_WARPSYNC:
        if (!run_sync(w, in, mask))
            w->stop_pc = 0;
        return true;
    case PTX_KIND_TRAP:
        ptx_warp_fault(w, in, CUDA_ERROR_LAUNCH_FAILED, 0, false);
        return true;
    case PTX_KIND_PLAIN:
        break; /* not here */
    }
    return true;
}

static enum ptx_warp_state run_slice(struct ptx_block *b, struct ptx_warp *w, uint32_t *slice)
{
    const struct ptx_insn *code = w->code;
    if (!w->active && !vgpu_ptx_warp_reschedule(w))
        return idle_state(w);
    for (;;) {
        const struct ptx_insn *in = &code[w->pc];
        uint32_t mask = w->active & ptx_pred(w, in->guard);
        if (mask && in->kind == PTX_KIND_PLAIN) {
            in->fn(w, in, mask);
            w->pc++;
        } else if (!mask) {
            w->pc++;
        } else if (in->kind == PTX_KIND_BRA && mask == w->active && *slice > PTX_LONG_LOOP &&
                   w->pc - in->target < PTX_LONG_LOOP && !w->boost) {
            /* The short way through the most frequent one: a loop of all lanes. */
            uint32_t cost = w->pc - in->target + 1;
            *slice -= cost < PTX_LEAST_COST ? PTX_LEAST_COST : cost;
            w->pc = in->target;
        } else if (!run_flow(b, w, in, mask, slice)) {
            return PTX_WARP_YIELDED;
        }
        if (w->pc >= w->stop_pc) {
            if (w->fault.result != CUDA_SUCCESS)
                return PTX_WARP_STOPPED;
            if (!vgpu_ptx_warp_reschedule(w))
                return idle_state(w);
        }
    }
}

enum ptx_warp_state vgpu_ptx_warp_run(struct ptx_block *b, struct ptx_warp *w)
{
    struct ptx_grid *g = b->grid;
    uint32_t slice = g->slice_cost;
    if (__atomic_load_n(g->stop, __ATOMIC_RELAXED) != PTX_GO)
        return PTX_WARP_STOPPED;
    enum ptx_warp_state state = run_slice(b, w, &slice);
    if (g->budget)
        vgpu_ptx_grid_spend(g, g->slice_cost - slice + PTX_LEAST_COST);
    return state;
}
