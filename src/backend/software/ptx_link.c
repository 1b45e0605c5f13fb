/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can only be said of a module as a whole: that every function it calls is there, how much
 * stack its kernels take, and where shared variables lie. The graph of calls is walked without
 * recursion and in time linear in the text.
 */
#include <string.h>

#include "ptx_parse.h"

static const struct {
    const char *name;
    uint8_t builtin, returned, passed;
    uint8_t bytes[5];
} builtins[] = {
    {"vprintf", PTX_BUILTIN_PRINTF, 1, 2, {4, 8, 8}},
    {"malloc", PTX_BUILTIN_MALLOC, 1, 1, {8, 8}},
    {"free", PTX_BUILTIN_FREE, 0, 1, {8}},
    {"__assertfail", PTX_BUILTIN_ASSERT, 0, 5, {8, 8, 4, 8, 8}},
};

/* A function without a body: one that the device has, or none at all. */
static bool find_builtin(struct ptx_parser *p, struct ptx_function *fn, uint32_t line)
{
    for (unsigned i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
        if (strcmp(builtins[i].name, fn->name) != 0)
            continue;
        uint32_t returned, passed;
        const uint32_t *sizes = vgpu_ptx_signature(p, fn->signature, &returned, &passed);
        bool same = returned == builtins[i].returned && passed == builtins[i].passed;
        for (uint32_t k = 0; same && k < returned + passed; k++)
            same = sizes[k] == builtins[i].bytes[k];
        if (!same)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, fn->line,
                                 "this device's '%s' has other parameters", builtins[i].name);
        fn->builtin = builtins[i].builtin;
        p->module->uses_heap |=
            fn->builtin == PTX_BUILTIN_MALLOC || fn->builtin == PTX_BUILTIN_FREE;
        return true;
    }
    return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, line,
                         "function '%.100s' is used, but neither the module nor this device has it",
                         fn->name);
}

static bool resolve_uses(struct ptx_parser *p)
{
    struct ptx_function **table = p->module->table.data;
    const struct ptx_use *uses = p->uses.data;
    for (size_t i = 0; i < p->uses.count; i++) {
        struct ptx_function *fn = table[uses[i].function];
        if (!fn->has_body && !fn->builtin && !find_builtin(p, fn, uses[i].line))
            return false;
    }
    return true;
}

static uint32_t least(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

/* What the callee's needs add to those of its caller. */
static void add_callee(struct ptx_function *fn, const struct ptx_function *callee)
{
    if (callee->builtin)
        return;
    fn->calls = true;
    fn->deep |= callee->deep || callee->visit == PTX_VISIT_OPEN; /* it calls itself */
    fn->has_alloca |= callee->has_alloca;
    fn->uses_shared |= callee->uses_shared;
    if (fn->shared_align_bytes < callee->shared_align_bytes)
        fn->shared_align_bytes = callee->shared_align_bytes;
    if (fn->callee_slots < callee->need_slots)
        fn->callee_slots = callee->need_slots;
    if (fn->callee_local_bytes < callee->need_local_bytes)
        fn->callee_local_bytes = callee->need_local_bytes;
}

static void close_function(struct ptx_function *fn)
{
    uint64_t slack = fn->local_align > 16 ? fn->local_align - 16 : 0;
    fn->visit = PTX_VISIT_DONE;
    fn->deep |= fn->indirect;
    fn->need_slots = least((uint64_t)fn->frame_slots + fn->callee_slots, PTX_MAX_STACK_SLOTS);
    fn->need_local_bytes =
        least(fn->local_bytes + slack + fn->callee_local_bytes, PTX_MAX_LOCAL_BYTES);
}

/* Depth first from `root`; the way back is in the functions themselves. */
static void walk_calls(struct ptx_parser *p, struct ptx_function *root)
{
    struct ptx_function **table = p->module->table.data, *fn = root;
    const struct ptx_use *uses = p->uses.data;
    if (root->visit != PTX_VISIT_NEW)
        return;
    root->visit = PTX_VISIT_OPEN;
    while (fn) {
        if (fn->next_edge == fn->edge_count) {
            struct ptx_function *caller = fn->caller;
            close_function(fn);
            if (caller)
                add_callee(caller, fn);
            fn = caller;
            continue;
        }
        struct ptx_function *callee = table[uses[fn->first_edge + fn->next_edge++].function];
        if (callee->visit == PTX_VISIT_NEW && callee->has_body) {
            callee->visit = PTX_VISIT_OPEN;
            callee->caller = fn;
            fn = callee;
        } else {
            add_callee(fn, callee);
        }
    }
}

static void measure_stacks(struct ptx_parser *p)
{
    struct ptx_module *m = p->module;
    for (struct ptx_function *f = m->functions; f; f = f->next)
        if (f->has_body)
            walk_calls(p, f);
    /* A function that calls through pointers may call any other. */
    uint32_t align = 0;
    bool alloca = false;
    for (const struct ptx_function *f = m->functions; f; f = f->next) {
        if (f->is_entry)
            continue;
        const struct ptx_special_use *use = f->specials.data;
        for (size_t i = 0; i < f->specials.count; i++)
            m->callee_specials |= (uint64_t)1 << use[i].sreg;
        if (m->deep_slots < f->need_slots)
            m->deep_slots = f->need_slots;
        if (m->deep_local_bytes < f->need_local_bytes)
            m->deep_local_bytes = f->need_local_bytes;
        if (align < f->shared_align_bytes)
            align = f->shared_align_bytes;
        alloca |= f->has_alloca;
    }
    for (struct ptx_function *f = m->functions; f; f = f->next) {
        if (f->deep && f->shared_align_bytes < align)
            f->shared_align_bytes = align;
        f->has_alloca |= f->deep && alloca;
    }
}

static bool place_shared(struct ptx_parser *p, const struct ptx_shared_use *use, uint64_t *used,
                         uint32_t stamp)
{
    struct ptx_shared_var *v = (struct ptx_shared_var *)p->shared_vars.data + use->var;
    if (v->stamp == stamp || (v->common && stamp))
        return true;
    uint64_t at = (*used + v->align - 1) & ~(uint64_t)(v->align - 1);
    if (v->size_bytes > PTX_MAX_SHARED_BYTES || at > PTX_MAX_SHARED_BYTES - v->size_bytes)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, use->line,
                             "function '%.100s' uses more than %u bytes of .shared memory",
                             use->fn->name, PTX_MAX_SHARED_BYTES);
    v->stamp = stamp;
    v->offset = at;
    *used = at + v->size_bytes;
    return true;
}

static void patch_address(struct ptx_parser *p, const struct ptx_shared_use *use)
{
    const struct ptx_shared_var *v = (struct ptx_shared_var *)p->shared_vars.data + use->var;
    uint8_t *row = (uint8_t *)use->fn->consts.data + (size_t)(uint32_t)use->slot * PTX_SLOT_BYTES;
    uint64_t value = v->offset + (uint64_t)(int64_t)use->addend;
    uint32_t low = (uint32_t)value;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (use->wide)
            memcpy(row + i * sizeof(value), &value, sizeof(value));
        else
            memcpy(row + i * sizeof(low), &low, sizeof(low));
    }
}

/*
 * A shared variable that a called function uses lies at one place in every kernel: such variables
 * come first, in each kernel that may get to one. A kernel's own come behind them.
 */
static bool lay_out_shared(struct ptx_parser *p)
{
    const struct ptx_shared_use *uses = p->shared_uses.data;
    struct ptx_shared_var *vars = p->shared_vars.data;
    const size_t count = p->shared_uses.count;
    uint64_t common = 0;
    for (size_t i = 0; i < count; i++) {
        if (uses[i].fn->is_entry || vars[uses[i].var].common)
            continue;
        if (!place_shared(p, &uses[i], &common, PTX_NONE))
            return false;
        vars[uses[i].var].common = true;
    }
    for (struct ptx_function *f = p->module->functions; f; f = f->next)
        f->shared_bytes = f->uses_shared || f->deep ? (uint32_t)common : 0;
    for (size_t i = 0; i < count; i++)
        if (vars[uses[i].var].common)
            uses[i].fn->shared_bytes = (uint32_t)common;
    for (size_t i = 0; i < count; i++) {
        struct ptx_function *fn = uses[i].fn;
        uint64_t used = fn->shared_bytes;
        if (fn->is_entry && !place_shared(p, &uses[i], &used, fn->index + 1))
            return false;
        fn->shared_bytes = (uint32_t)used;
        patch_address(p, &uses[i]);
    }
    return true;
}

bool vgpu_ptx_link(struct ptx_parser *p)
{
    const struct ptx_shared_use *uses = p->shared_uses.data;
    for (size_t i = 0; i < p->shared_uses.count; i++)
        uses[i].fn->uses_shared |= !uses[i].fn->is_entry;
    if (!resolve_uses(p))
        return false;
    measure_stacks(p);
    if (!lay_out_shared(p))
        return false;
    for (struct ptx_function *f = p->module->functions; f; f = f->next) {
        if (f->info) {
            f->info->static_shared_bytes = f->shared_bytes;
            f->info->local_bytes = f->need_local_bytes;
        }
    }
    return true;
}
