/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pieces of PTX that the tests of calls are made of. */
#ifndef VGPU_TEST_PTX_CALL_TEXT_H
#define VGPU_TEST_PTX_CALL_TEXT_H

#include "ptx_rig.h"

#define KERNEL(regs, body)                                                                         \
    ".visible .entry k(.param .u64 out) {\n"                                                       \
    ".reg .pred %p, %q; .reg .b32 %t, %v, %w, %x, %y; .reg .b64 %o, %l, %g; " regs "\n"            \
    "mov.u32 %t, %tid.x; ld.param.u64 %o, [out]; mul.wide.u32 %l, %t, 4; add.u64 %o, %o, "         \
    "%l;\n" body "\nst.global.u32 [%o], %v; ret;\n}\n"

/* A call as compilers write it: one word in, one word out. */
#define CALL1(out, name, in)                                                                       \
    "{ .param .b32 a; st.param.b32 [a+0], " in "; .param .b32 r; call.uni (r), " name              \
    ", (a); ld.param.b32 " out ", [r+0]; }\n"

#define SQUARE                                                                                     \
    ".func (.param .b32 r) square(.param .b32 x) { .reg .b32 %a; ld.param.u32 %a, [x];\n"          \
    "mul.lo.u32 %a, %a, %a; st.param.b32 [r], %a; ret; }\n"

/* PTX text, indented as PTX. */
/* clang-format off */
#define FIB                                                                                        \
    ".func (.param .b32 r) fib(.param .b32 n) {\n"                                                 \
    "  .reg .b32 %n, %a, %b; .reg .pred %p;\n"                                                     \
    "  ld.param.u32 %n, [n]; setp.lt.s32 %p, %n, 2; @%p bra done; sub.u32 %a, %n, 1;\n"            \
    "  " CALL1("%b", "fib", "%a")                                                                  \
    "  sub.u32 %a, %n, 2;\n"                                                                       \
    "  " CALL1("%a", "fib", "%a")                                                                  \
    "  add.u32 %n, %a, %b;\n"                                                                      \
    "done: st.param.b32 [r], %n; ret; }\n"

/* clang-format on */

#endif
