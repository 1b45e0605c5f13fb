/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls and returns. A frame is a function's rows in the warp's stack, behind its caller's; what a
 * call keeps of its caller is in rows of the frame, so each lane has its own and lanes that have
 * parted call and return as they like. Rows are of 32 or 64 bits, and predicates a word of all
 * lanes: two functions' frames at one place would share bytes between lanes, so they never are. The
 * host's stack is never used: a call that does not fit the warp's stack is a fault of the guest's.
 */
#include "builtin.h"

static uint8_t *frame_at(const struct ptx_warp *w, uint32_t base)
{
    return w->stack + (size_t)base * PTX_SLOT_BYTES;
}

/* Where a row of the frame `regs` of `fn` is. */
static const uint8_t *row_of(const uint8_t *regs, const struct ptx_function *fn, int32_t row)
{
    const uint8_t *base = row >= 0 ? regs : fn->consts.data;
    return base + (size_t)((uint32_t)row & INT32_MAX) * PTX_SLOT_BYTES;
}

static void put_32(uint8_t *row, uint32_t value, uint32_t mask)
{
    row_u32 *d = (void *)row;
    PTX_LANE_LOOP(uint32_t, value)
}

/* A parameter's rows, lanes `mask`: of 32 bits if there is one, else pairs that make 64. */
static void copy_rows(uint8_t *to, const uint8_t *from, uint32_t slots, uint32_t mask)
{
    if (mask == UINT32_MAX) {
        memcpy(to, from, (size_t)slots * PTX_SLOT_BYTES);
        return;
    }
    if (slots == 1) {
        row_u32 *d = (void *)to;
        const row_u32 *s = (const void *)from;
        PTX_LANE_LOOP(uint32_t, s[i])
        return;
    }
    for (uint32_t k = 0; k < slots; k += 2) {
        row_u64 *d = (void *)(to + (size_t)k * PTX_SLOT_BYTES);
        const row_u64 *s = (const void *)(from + (size_t)k * PTX_SLOT_BYTES);
        PTX_LANE_LOOP(uint64_t, s[i])
    }
}

/* The callee's own .local memory, on top of what each lane has in use. */
static bool enter_local(struct ptx_warp *w, const struct ptx_function *callee, uint8_t *frame,
                        uint32_t mask)
{
    row_u32 *saved = (void *)(frame + (size_t)PTX_FRAME_SP * PTX_SLOT_BYTES);
    row_u64 *begin = callee->local_row < 0
                         ? NULL
                         : (void *)(frame + (size_t)(uint32_t)callee->local_row * PTX_SLOT_BYTES);
    for (uint32_t m = mask; m; m &= m - 1) {
        unsigned i = (unsigned)__builtin_ctz(m);
        /* sp <= local_bytes <= PTX_MAX_LOCAL_BYTES, so none of this overflows. */
        uint32_t at = (w->sp[i] + callee->local_align - 1) & ~(callee->local_align - 1);
        if (at > w->local_bytes || callee->local_bytes > w->local_bytes - at)
            return false;
        saved[i] = w->sp[i];
        w->sp[i] = at + callee->local_bytes;
        if (begin)
            begin[i] = at;
    }
    return true;
}

static uint32_t saved_in(const struct ptx_warp *w, uint32_t base, unsigned row, unsigned lane)
{
    return (
        (const row_u32 *)(const void *)(frame_at(w, base) + (size_t)row * PTX_SLOT_BYTES))[lane];
}

/*
 * Where a frame of `callee` begins, called from the running group's: behind that, where no lane
 * that does not run has a frame; else where such a lane has one of the same function, called from
 * the same frame, so that the two may run together; else behind the frames of all.
 */
static uint32_t place_frame(const struct ptx_warp *w, const struct ptx_function *callee)
{
    const uint32_t behind = w->base + w->fn->frame_slots;
    uint32_t top = behind, last = 0;
    for (uint32_t m = w->live & ~w->active; m; m &= m - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(m);
        uint32_t base = ptx_place_base(w->lane_at[lane]);
        const struct ptx_function *fn = w->functions[w->code[(uint32_t)w->lane_at[lane]].function];
        if (base == last || base + fn->frame_slots <= behind)
            continue;
        last = base;
        top = base + fn->frame_slots > top ? base + fn->frame_slots : top;
        /* Each frame begins behind its caller's, so this ends. */
        while (base > w->base) {
            const uint32_t caller = saved_in(w, base, PTX_FRAME_BASE, lane);
            if (fn == callee && caller == w->base)
                return base;
            fn = w->functions[w->code[saved_in(w, base, PTX_FRAME_PC, lane) - 1].function];
            base = caller;
        }
    }
    return top;
}

/* Builds the frame of `callee` for lanes `mask` at *at; false when the stack has no room for it. */
static bool enter(struct ptx_warp *w, const struct ptx_insn *in, const struct ptx_function *callee,
                  uint32_t mask, uint32_t *at_base)
{
    const struct ptx_module *m = callee->module;
    const struct ptx_call *call = (const struct ptx_call *)m->calls.data + in->imm;
    const struct ptx_copy *copy = (const struct ptx_copy *)m->copies.data + call->first;
    const struct ptx_special_use *use = callee->specials.data;
    const uint32_t base = place_frame(w, callee);
    *at_base = base;
    if (base > w->stack_slots || callee->frame_slots > w->stack_slots - base)
        return false;
    uint8_t *frame = frame_at(w, base), *to = frame + PTX_FRAME_PARAMS * PTX_SLOT_BYTES;
    put_32(frame + PTX_FRAME_PC * PTX_SLOT_BYTES, w->pc + 1, mask);
    put_32(frame + PTX_FRAME_BASE * PTX_SLOT_BYTES, w->base, mask);
    for (uint32_t i = 0; i < call->returned; i++)
        to += (size_t)copy[i].slots * PTX_SLOT_BYTES;
    for (uint32_t i = call->returned; i < call->returned + call->passed; i++) {
        copy_rows(to, row_of(w->regs, w->fn, copy[i].row), copy[i].slots, mask);
        to += (size_t)copy[i].slots * PTX_SLOT_BYTES;
    }
    for (size_t i = 0; i < callee->specials.count; i++) {
        uint32_t wide = use[i].sreg >= PTX_SR_GRIDID;
        uint32_t at = wide ? PTX_SR_GRIDID + 2 * (use[i].sreg - PTX_SR_GRIDID) : use[i].sreg;
        copy_rows(frame + (size_t)(uint32_t)use[i].row * PTX_SLOT_BYTES,
                  w->specials + (size_t)at * PTX_SLOT_BYTES, 1 + wide, mask);
    }
    ((row_u32 *)(void *)(frame + (size_t)callee->slots * PTX_SLOT_BYTES))[PTX_PRED_TRUE] |= mask;
    return !callee->moves_sp || enter_local(w, callee, frame, mask);
}

/* The function a pointer means to this call, or NULL. */
static const struct ptx_function *function_at(const struct ptx_block *b, const struct ptx_insn *in,
                                              uint64_t address)
{
    const struct ptx_module *m = b->grid->module;
    const uint64_t offset = address - m->code_base;
    if (offset % PTX_CODE_STEP || offset / PTX_CODE_STEP >= m->table.count)
        return NULL;
    const struct ptx_function *fn =
        ((struct ptx_function *const *)m->table.data)[offset / PTX_CODE_STEP];
    return (fn->has_body || fn->builtin) && fn->signature == (uint32_t)in->c ? fn : NULL;
}

/* Lanes `mask` go into `callee`, whose frame begins at *base; a built-in one they have left again.
 */
static bool call_one(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                     const struct ptx_function *callee, uint32_t mask, uint32_t *base)
{
    if (callee->builtin) {
        vgpu_ptx_call_builtin(b, w, in, callee, mask);
        return w->fault.result == CUDA_SUCCESS;
    }
    if (enter(w, in, callee, mask, base))
        return true;
    ptx_warp_fault(w, in, CUDA_ERROR_HARDWARE_STACK_ERROR, 0, false);
    return false;
}

static uint32_t call_pointer(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                             uint32_t mask, const struct ptx_function **only)
{
    const row_u64 *pointers = ptx_src(w, in->a);
    uint32_t insns = 0, base = 0;
    *only = NULL;
    for (uint32_t left = mask; left;) {
        const uint64_t address = pointers[__builtin_ctz(left)];
        uint32_t group = 0;
        for (uint32_t m = left; m; m &= m - 1) {
            unsigned i = (unsigned)__builtin_ctz(m);
            group |= (uint32_t)(pointers[i] == address) << i;
        }
        const struct ptx_function *callee = function_at(b, in, address);
        if (!callee) {
            ptx_warp_fault(w, in, CUDA_ERROR_INVALID_PC, address, true);
            return 0;
        }
        if (group == mask) {
            *only = callee;
            return 0;
        }
        if (!call_one(b, w, in, callee, group, &base))
            return 0;
        insns += callee->insn_count;
        left &= ~group;
        if (callee->builtin)
            continue;
        /* At once: the next group's frame is placed by where these are. */
        w->active &= ~group;
        for (uint32_t m = group; m; m &= m - 1)
            w->lane_at[__builtin_ctz(m)] = ptx_place(base, callee->first);
    }
    w->pc++;
    vgpu_ptx_warp_reschedule(w);
    return insns;
}

uint32_t vgpu_ptx_call(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                       uint32_t mask)
{
    const struct ptx_function *callee;
    uint32_t base = 0;
    if (in->target != PTX_NONE) {
        callee = w->functions[in->target];
    } else {
        uint32_t insns = call_pointer(b, w, in, mask, &callee);
        if (!callee)
            return insns;
    }
    if (!call_one(b, w, in, callee, mask, &base))
        return 0;
    if (callee->builtin) {
        w->pc++;
        return PTX_BUILTIN_COST;
    }
    if (mask != w->active) {
        w->active &= ~mask;
        w->pc++;
        vgpu_ptx_warp_park(w);
        w->active = mask;
    }
    vgpu_ptx_set_frame(w, base, callee);
    w->pc = callee->first;
    w->stop_pc = UINT32_MAX; /* nobody that can run is in as deep a frame */
    return callee->insn_count;
}

/* What lanes `mask` of the running group give back to the call they came from, at `pc`. Returns
 * where the caller's frame begins. */
static uint32_t leave(struct ptx_warp *w, uint32_t pc, uint32_t mask)
{
    const struct ptx_insn *in = &w->code[pc - 1];
    const struct ptx_function *caller = w->functions[in->function];
    const struct ptx_module *m = caller->module;
    const struct ptx_call *call = (const struct ptx_call *)m->calls.data + in->imm;
    const struct ptx_copy *copy = (const struct ptx_copy *)m->copies.data + call->first;
    const uint32_t base = saved_in(w, w->base, PTX_FRAME_BASE, (unsigned)__builtin_ctz(mask));
    const uint8_t *from = w->regs + PTX_FRAME_PARAMS * PTX_SLOT_BYTES;
    uint8_t *frame = frame_at(w, base);
    for (uint32_t i = 0; i < call->returned; i++) {
        if (copy[i].row >= 0)
            copy_rows(frame + (size_t)(uint32_t)copy[i].row * PTX_SLOT_BYTES, from, copy[i].slots,
                      mask);
        from += (size_t)copy[i].slots * PTX_SLOT_BYTES;
    }
    if (w->fn->moves_sp) {
        const row_u32 *saved = (const void *)(w->regs + PTX_FRAME_SP * PTX_SLOT_BYTES);
        for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
            unsigned i = (unsigned)__builtin_ctz(lanes);
            w->sp[i] = saved[i];
        }
    }
    return base;
}

void vgpu_ptx_return(struct ptx_warp *w, uint32_t mask)
{
    const row_u32 *pcs = (const void *)(w->regs + PTX_FRAME_PC * PTX_SLOT_BYTES);
    const uint32_t stay = w->active & ~mask;
    for (uint32_t left = mask; left;) {
        const uint32_t pc = pcs[__builtin_ctz(left)];
        uint32_t group = 0;
        for (unsigned i = 0; i < PTX_LANES; i++)
            group |= (uint32_t)(pcs[i] == pc) << i;
        group &= left;
        const uint32_t base = leave(w, pc, group);
        if (group == w->active) {
            vgpu_ptx_set_frame(w, base, w->functions[w->code[pc - 1].function]);
            w->pc = pc;
            if (w->active != w->live && !w->boost)
                vgpu_ptx_warp_reschedule(w);
            return;
        }
        for (uint32_t m = group; m; m &= m - 1)
            w->lane_at[__builtin_ctz(m)] = ptx_place(base, pc);
        left &= ~group;
    }
    w->active = stay;
    w->pc++;
    vgpu_ptx_warp_reschedule(w);
}

uint32_t vgpu_ptx_branch_indexed(struct ptx_warp *w, const struct ptx_insn *in, uint32_t mask)
{
    const struct ptx_module *m = w->fn->module;
    const uint32_t *targets = (const uint32_t *)m->targets.data + in->target;
    const row_u32 *index = ptx_src(w, in->a);
    const uint32_t from = w->pc;
    uint32_t insns = 0;
    for (uint32_t left = mask; left;) {
        unsigned first = (unsigned)__builtin_ctz(left);
        if (index[first] >= (uint64_t)in->imm) {
            ptx_warp_fault(w, in, CUDA_ERROR_INVALID_PC, index[first], true);
            return 0;
        }
        const uint32_t target = targets[index[first]];
        uint32_t group = 0;
        for (uint32_t k = left; k; k &= k - 1) {
            unsigned i = (unsigned)__builtin_ctz(k);
            group |= (uint32_t)(index[i] == index[first]) << i;
        }
        if (target <= from && insns < from - target + 1)
            insns = from - target + 1;
        if (group == w->active) {
            w->pc = target;
            return insns;
        }
        for (uint32_t k = group; k; k &= k - 1)
            w->lane_at[__builtin_ctz(k)] = ptx_place(w->base, target);
        left &= ~group;
    }
    w->active &= ~mask;
    w->pc++;
    vgpu_ptx_warp_reschedule(w);
    return insns;
}
