/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Built-in functions as call.c sees them, and what they see of the lane that calls. */
#ifndef VGPU_PTX_BUILTIN_H
#define VGPU_PTX_BUILTIN_H

#include "run.h"
#include "runtime.h"

struct ptx_caller {
    struct ptx_runtime *runtime;
    struct ptx_warp *w;
    const struct ptx_insn *in;
    unsigned lane;
};

/* `bytes` (1, 4, 8) at generic address `at`, as a load by that lane; false: the fault is recorded.
 */
bool vgpu_ptx_caller_read(struct ptx_caller *c, uint64_t at, unsigned bytes, uint64_t *value);

/* printf.c: *result is what the function returns: how many arguments it took, -1 for no format. */
bool vgpu_ptx_printf(struct ptx_caller *caller, uint64_t format, uint64_t buffer, int32_t *result);

/* builtin.c: lanes `mask` call `callee`, one after the other. A fault is recorded in w. */
void vgpu_ptx_call_builtin(struct ptx_block *b, struct ptx_warp *w, const struct ptx_insn *in,
                           const struct ptx_function *callee, uint32_t mask);

#endif
