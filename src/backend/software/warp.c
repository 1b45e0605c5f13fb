/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One warp: which lanes run together and where.
 *
 * Lanes that have parted run in groups; the group with the lowest program counter goes first, so
 * that the others are waiting at the join when it gets there. `stop_pc` is the lowest counter above
 * it that another group waits at: while all lanes are together it is out of reach, and the loop
 * pays one comparison per instruction for divergence. A group that spins at a low counter waiting
 * for a higher one to move (a lock) would starve it, so after a slice of backward branches a higher
 * group is let ahead for a while, which gives every lane progress as sm_70 and later promise.
 */
#include "run.h"

#define NO_STOP UINT32_MAX

uint32_t vgpu_ptx_warp_runnable(const struct ptx_warp *w)
{
    uint32_t may = w->live & ~w->bar_wait, free = may & ~w->sync_wait;
    /* Lanes in .sync instructions may wait for lanes at a barrier, which other warps complete. */
    return free ? free : w->bar_wait && !w->sync_alone ? 0 : may;
}

/* Writes the running group's counter to its lanes. */
static void park(struct ptx_warp *w)
{
    for (uint32_t m = w->active; m; m &= m - 1)
        w->lane_pc[__builtin_ctz(m)] = w->pc;
}

/* The lowest counter of `lanes` that is at least `from`; NO_STOP if there is none. */
static uint32_t lowest(const struct ptx_warp *w, uint32_t lanes, uint32_t from)
{
    uint32_t low = NO_STOP;
    for (uint32_t m = lanes; m; m &= m - 1) {
        uint32_t pc = w->lane_pc[__builtin_ctz(m)];
        if (pc >= from && pc < low)
            low = pc;
    }
    return low;
}

/*
 * Chooses the next group from parked lanes; false when none can run. Lanes waiting in a .sync
 * instruction do not run until their members are there. When only such lanes are left, and no
 * barrier can bring others, they would wait for ever: the lowest of them go on, which the ISA
 * leaves undefined.
 */
static bool choose(struct ptx_warp *w, uint32_t from)
{
    uint32_t may = vgpu_ptx_warp_runnable(w), group = 0;
    uint32_t pc = lowest(w, may, from);
    if (pc == NO_STOP && from)
        pc = lowest(w, may, 0);
    if (pc == NO_STOP) {
        w->active = 0;
        return false;
    }
    for (uint32_t m = may; m; m &= m - 1) {
        unsigned i = (unsigned)__builtin_ctz(m);
        group |= (uint32_t)(w->lane_pc[i] == pc) << i;
    }
    if (group & w->sync_wait) {
        w->sync_go |= group;
        w->sync_wait &= ~group;
        w->sync_alone = false;
        may = group;
    }
    w->pc = pc;
    w->active = group;
    w->stop_pc = from ? NO_STOP : lowest(w, may & ~group, pc + 1);
    return true;
}

static bool reschedule(struct ptx_warp *w)
{
    park(w);
    w->boost = 0;
    return choose(w, 0);
}

/*
 * Lets another group run for a slice: the one behind the group that was let ahead last time, in the
 * order of counters, and after the last one the first behind the present one, so that each gets its
 * turn.
 */
static void boost(struct ptx_warp *w)
{
    uint32_t may = vgpu_ptx_warp_runnable(w), last = w->boost_pc > w->pc ? w->boost_pc : w->pc;
    uint32_t from = last + 1;
    park(w);
    w->boost = 0;
    if (lowest(w, may, from) == NO_STOP)
        from = w->pc + 1;
    if (lowest(w, may, from) != NO_STOP && choose(w, from)) {
        w->boost = PTX_SLICE_BRANCHES / 4;
        w->boost_pc = w->pc;
    } else {
        choose(w, 0);
    }
}

static uint32_t members_of(const struct ptx_warp *w, unsigned lane)
{
    const row_u32 *members = ptx_src(w, w->code[w->lane_pc[lane]].e);
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
        const struct ptx_insn *in = &w->code[w->lane_pc[first]];
        uint32_t members = members_of(w, first), group = 0;
        for (uint32_t m = left; m; m &= m - 1) {
            unsigned i = (unsigned)__builtin_ctz(m);
            const struct ptx_insn *other = &w->code[w->lane_pc[i]];
            if ((other == in || (other->op == PTX_OP_FENCE && in->op == PTX_OP_FENCE)) &&
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
            w->lane_pc[__builtin_ctz(m)]++;
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
    park(w);
    for (uint32_t m = w->active & ~wait; m; m &= m - 1)
        w->lane_pc[__builtin_ctz(m)]++;
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
static void diverge(struct ptx_warp *w, uint32_t mask, uint32_t target)
{
    for (uint32_t m = mask; m; m &= m - 1)
        w->lane_pc[__builtin_ctz(m)] = target;
    w->active &= ~mask;
    w->pc++;
    if (!w->boost)
        reschedule(w);
}

/*
 * Backward branches are where a warp can stay for ever. A slice is counted in them, longer bodies
 * for more; true when it is used up and the warp must pause.
 */
static bool slice_over(struct ptx_warp *w, uint32_t body, uint32_t *slice)
{
    uint32_t cost = 1 + (body >> 6);
    if (w->boost) {
        w->boost = w->boost > cost ? w->boost - cost : 0;
        if (!w->boost) {
            w->boost_pc = w->pc;
            reschedule(w);
        }
    }
    if (*slice > cost) {
        *slice -= cost;
        return false;
    }
    if (!w->boost && w->active != vgpu_ptx_warp_runnable(w))
        boost(w);
    return true;
}

static enum ptx_warp_state idle_state(const struct ptx_warp *w)
{
    return w->live ? PTX_WARP_BLOCKED : PTX_WARP_DONE;
}

enum ptx_warp_state vgpu_ptx_warp_run(struct ptx_block *b, struct ptx_warp *w)
{
    const struct ptx_insn *code = w->code;
    uint32_t slice = PTX_SLICE_BRANCHES;
    if (__atomic_load_n(b->grid->stop, __ATOMIC_RELAXED) != PTX_GO)
        return PTX_WARP_STOPPED;
    if (!w->active && !reschedule(w))
        return idle_state(w);
    for (;;) {
        const struct ptx_insn *in = &code[w->pc];
        uint32_t mask = w->active & ptx_pred(w, in->guard);
        switch (mask ? (enum ptx_kind)in->kind : PTX_KIND_SKIPPED) {
        case PTX_KIND_PLAIN:
            in->fn(w, in, mask);
            w->pc++;
            break;
        case PTX_KIND_SKIPPED:
            w->pc++;
            break;
        case PTX_KIND_BRA: {
            uint32_t from = w->pc;
            if (mask == w->active)
                w->pc = in->target;
            else
                diverge(w, mask, in->target);
            if (in->target <= from && slice_over(w, from - in->target, &slice))
                return PTX_WARP_YIELDED;
            break;
        }
        case PTX_KIND_EXIT:
            exit_lanes(b, w, mask);
            break;
        case PTX_KIND_BAR:
            w->pc++;
            park(w);
            if (!vgpu_ptx_barrier_arrive(b, w, in, mask)) {
                w->active &= ~w->bar_wait;
                w->stop_pc = 0;
            }
            break;
        case PTX_KIND_WARPSYNC:
            if (!run_sync(w, in, mask))
                w->stop_pc = 0;
            break;
        case PTX_KIND_TRAP:
            ptx_warp_fault(w, in, CUDA_ERROR_LAUNCH_FAILED, 0, false);
            break;
        }
        if (w->pc >= w->stop_pc) {
            if (w->fault.result != CUDA_SUCCESS)
                return PTX_WARP_STOPPED;
            if (!reschedule(w))
                return idle_state(w);
        }
    }
}
