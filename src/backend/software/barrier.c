/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block's sixteen barriers (PTX ISA, "bar, barrier"). Threads arrive one by one, whatever warp
 * they are in and whether or not its lanes are together; a thread that has exited is not waited
 * for. Waiting costs no thread of the host: a waiting lane is merely not chosen by its warp.
 */
#include "run.h"

/* What bar.red tells a lane. The lane is behind the instruction, so that is where its destination
 * is found, in the frame it was in. */
static void deliver(struct ptx_warp *w, unsigned lane, const struct ptx_barrier *bar)
{
    const struct ptx_insn *in = &w->code[(uint32_t)w->lane_at[lane] - 1];
    const struct ptx_function *fn = w->functions[in->function];
    uint8_t *regs = w->stack + (size_t)ptx_place_base(w->lane_at[lane]) * PTX_SLOT_BYTES;
    row_u32 *preds = (void *)(regs + (size_t)fn->slots * PTX_SLOT_BYTES);
    bool yes = in->sub == PTX_BAR_AND ? bar->popc == bar->voted : bar->popc != 0;
    if (in->sub == PTX_BAR_POPC)
        ((row_u32 *)(void *)(regs + (size_t)(uint32_t)in->d * PTX_SLOT_BYTES))[lane] = bar->popc;
    else if (in->sub == PTX_BAR_AND || in->sub == PTX_BAR_OR)
        preds[in->d] = (preds[in->d] & ~(1u << lane)) | (yes ? 1u << lane : 0);
}

static void release(struct ptx_block *b, unsigned id)
{
    struct ptx_barrier *bar = &b->barriers[id];
    for (uint32_t k = 0; k < b->grid->warps; k++) {
        struct ptx_warp *w = &b->warps[k];
        uint32_t freed = 0;
        w->bar_lanes[id] = 0;
        for (uint32_t m = w->bar_wait; m; m &= m - 1) {
            unsigned lane = (unsigned)__builtin_ctz(m);
            if (w->lane_bar[lane] != id)
                continue;
            freed |= 1u << lane;
            if (bar->voted)
                deliver(w, lane, bar);
        }
        if (freed) {
            w->bar_wait &= ~freed;
            w->stop_pc = 0; /* the warp must look again */
        }
    }
    *bar = (struct ptx_barrier){0};
}

/*
 * Threads that count as arrived at a barrier with a thread count. The count is in whole warps, so a
 * warp of which every lane has arrived or exited counts as a full one, however many lanes it began
 * with; one of which none has arrived does not count.
 */
static uint32_t counted(const struct ptx_block *b, unsigned id)
{
    uint32_t sum = b->barriers[id].again;
    for (uint32_t k = 0; k < b->grid->warps; k++) {
        const struct ptx_warp *w = &b->warps[k];
        uint32_t lanes = w->bar_lanes[id];
        if (lanes)
            sum += w->live & ~lanes ? (uint32_t)__builtin_popcount(lanes) : PTX_LANES;
    }
    return sum;
}

static bool complete(const struct ptx_block *b, unsigned id)
{
    const struct ptx_barrier *bar = &b->barriers[id];
    if (!bar->arrived)
        return false;
    return bar->expected ? counted(b, id) >= bar->expected : bar->arrived >= b->live_threads;
}

/* Lanes `mask`, all at barrier `id` with the same thread count (0: all threads). */
static void arrive(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                   uint32_t mask, unsigned id, uint32_t expected)
{
    struct ptx_barrier *bar = &b->barriers[id];
    bar->arrived += (uint32_t)__builtin_popcount(mask);
    bar->again += (uint32_t)__builtin_popcount(mask & w->bar_lanes[id]);
    bar->expected = expected;
    w->bar_lanes[id] |= mask;
    if (in->sub >= PTX_BAR_POPC) {
        bar->popc += (uint32_t)__builtin_popcount(ptx_pred(w, in->c) & mask);
        bar->voted += (uint32_t)__builtin_popcount(mask);
    }
    if (in->sub != PTX_BAR_ARRIVE) {
        w->bar_wait |= mask;
        for (uint32_t m = mask; m; m &= m - 1)
            w->lane_bar[__builtin_ctz(m)] = (uint8_t)id;
    }
    if (complete(b, id))
        release(b, id);
}

bool vgpu_ptx_barrier_arrive(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                             uint32_t mask)
{
    const row_u32 *ids = ptx_src(w, in->a), *counts = ptx_src(w, in->b);
    bool counted = in->flags & PTX_F_CCIN;
    for (uint32_t left = mask; left;) {
        unsigned first = (unsigned)__builtin_ctz(left);
        uint32_t id = ids[first], count = counted ? counts[first] : 0, group = 0;
        for (uint32_t m = left; m; m &= m - 1) {
            unsigned lane = (unsigned)__builtin_ctz(m);
            if (ids[lane] == id && (!counted || counts[lane] == count))
                group |= 1u << lane;
        }
        left &= ~group;
        if (id >= PTX_MAX_BARRIERS || (counted && (count == 0 || count % PTX_LANES != 0))) {
            ptx_warp_fault(w, in, CUDA_ERROR_ILLEGAL_INSTRUCTION, 0, false);
            return true;
        }
        arrive(b, w, in, group, id, count);
    }
    return (w->bar_wait & mask) == 0;
}

void vgpu_ptx_barrier_exit(struct ptx_block *b)
{
    for (unsigned id = 0; id < PTX_MAX_BARRIERS; id++)
        if (complete(b, id))
            release(b, id);
}
