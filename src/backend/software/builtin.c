/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions the device has: from a call's rows to each lane's arguments and back. What they do is
 * in printf.c and heap.c.
 */
#include "builtin.h"

#include <inttypes.h>
#include <stdio.h>

#include "exec_mem.h"

bool vgpu_ptx_caller_read(struct ptx_caller *c, uint64_t at, unsigned bytes, uint64_t *value)
{
    const uint8_t *p = ptx_resolve_lane(c->w, c->in, c->lane, PTX_SPACE_GENERIC, at, bytes, false);
    if (!p)
        return false;
    /* Other blocks may write there; as for any load, that is the guest's affair and not a race. */
    if (bytes == 8)
        *value = __atomic_load_n((const row_u64 *)(const void *)p, __ATOMIC_RELAXED);
    else if (bytes == 4)
        *value = __atomic_load_n((const row_u32 *)(const void *)p, __ATOMIC_RELAXED);
    else
        *value = __atomic_load_n(p, __ATOMIC_RELAXED);
    return true;
}

/* A NUL-terminated text of the guest's, cut to fit. */
static bool read_text(struct ptx_caller *c, uint64_t at, char *out, size_t size)
{
    size_t n = 0;
    for (uint64_t v = 1; at && n + 1 < size; n++) {
        if (!vgpu_ptx_caller_read(c, at + n, 1, &v))
            return false;
        if (!v)
            break;
        out[n] = (char)v;
    }
    out[n] = 0;
    return true;
}

/* __assertfail(message, file, line, function, size of a character) */
static void fail_assertion(struct ptx_block *b, struct ptx_caller *c, const uint64_t arg[5])
{
    const struct ptx_grid *g = b->grid;
    char what[512], file[256], function[256], text[1280];
    if (!read_text(c, arg[0], what, sizeof(what)) || !read_text(c, arg[1], file, sizeof(file)) ||
        !read_text(c, arg[3], function, sizeof(function)))
        return;
    uint32_t thread = (uint32_t)(c->w - b->warps) * PTX_LANES + c->lane;
    int n = snprintf(text, sizeof(text),
                     "%s:%" PRIu32 ": %s: block: [%" PRIu32 ",%" PRIu32 ",%" PRIu32
                     "], thread: [%" PRIu32 ",%" PRIu32 ",%" PRIu32 "] Assertion `%s` failed.\n",
                     file, (uint32_t)arg[2], function, b->ctaid[0], b->ctaid[1], b->ctaid[2],
                     thread % g->block[0], thread / g->block[0] % g->block[1],
                     thread / g->block[0] / g->block[1], what);
    if (n > 0)
        vgpu_ptx_text_append(c->runtime, text,
                             (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
    ptx_warp_fault(c->w, c->in, CUDA_ERROR_ASSERT, 0, false);
}

static uint64_t lane_value(const struct ptx_warp *w, const struct ptx_copy *copy, unsigned lane)
{
    const void *row = ptx_src(w, copy->row);
    return copy->slots == 1 ? ((const row_u32 *)row)[lane] : ((const row_u64 *)row)[lane];
}

void vgpu_ptx_call_builtin(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                           const struct ptx_function *callee, uint32_t mask)
{
    struct ptx_grid *g = b->grid;
    const struct ptx_call *call = (const struct ptx_call *)callee->module->calls.data + in->imm;
    const struct ptx_copy *returned =
        (const struct ptx_copy *)callee->module->copies.data + call->first;
    const struct ptx_copy *passed = returned + call->returned;
    /* Each lane may take long; the launch may be ended in between. */
    for (uint32_t m = mask; m && __atomic_load_n(g->stop, __ATOMIC_RELAXED) == PTX_GO; m &= m - 1) {
        unsigned i = (unsigned)__builtin_ctz(m);
        struct ptx_caller c = {g->runtime, w, in, i};
        uint64_t arg[5] = {0}, result = 0;
        int32_t printed = 0;
        for (uint32_t k = 0; k < call->passed && k < 5; k++)
            arg[k] = lane_value(w, &passed[k], i);
        switch ((enum ptx_builtin)callee->builtin) {
        case PTX_BUILTIN_PRINTF:
            if (!vgpu_ptx_printf(&c, arg[0], arg[1], &printed))
                return;
            result = (uint32_t)printed;
            break;
        case PTX_BUILTIN_MALLOC:
            result = vgpu_ptx_heap_alloc(g->runtime, arg[0]);
            break;
        case PTX_BUILTIN_FREE:
            if (!vgpu_ptx_heap_free(g->runtime, arg[0])) {
                ptx_warp_fault(w, in, CUDA_ERROR_ILLEGAL_ADDRESS, arg[0], true);
                return;
            }
            break;
        case PTX_BUILTIN_ASSERT:
            fail_assertion(b, &c, arg);
            return;
        case PTX_BUILTIN_NONE:
            return;
        }
        if (!call->returned || returned->row < 0)
            continue;
        void *row = ptx_dst(w, returned->row);
        if (returned->slots == 1)
            ((row_u32 *)row)[i] = (uint32_t)result;
        else
            ((row_u64 *)row)[i] = result;
    }
}
