/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One instruction set level's handlers, by operation. Nothing else. */
#include "exec.h"

const ptx_exec_fn PTX_CAT(vgpu_ptx_handlers, , VGPU_PTX_LEVEL)[PTX_OP_COUNT] = {
#define PTX_ENTRY(op) [PTX_OP_##op] = PTX_X(op),
    PTX_OPS(PTX_ENTRY)
#undef PTX_ENTRY
};
