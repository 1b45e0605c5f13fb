/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arithmetic with directed rounding (.rz .rm .rp). The host's rounding mode is changed around a
 * plain loop; rows are memory, so nothing of the loop can move across the two calls. Compiled with
 * -frounding-math.
 */
#include <fenv.h>

#include "exec_fp.h"

static int host_mode(unsigned round)
{
    switch (round) {
    case PTX_RND_Z:
        return FE_TOWARDZERO;
    case PTX_RND_M:
        return FE_DOWNWARD;
    case PTX_RND_P:
        return FE_UPWARD;
    default:
        return FE_TONEAREST;
    }
}

#define ROUNDED(op, T, R, FIN, EXPR)                                                               \
    static __attribute__((noinline)) void PTX_CAT(lanes_, op, VGPU_PTX_LEVEL)(                     \
        struct ptx_warp * w, const struct ptx_insn *in, T *out)                                    \
    {                                                                                              \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);            \
        bool ftz = in->flags & PTX_F_FTZ;                                                          \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            T x = a[i], y = b[i], z = c[i];                                                        \
            (void)y;                                                                               \
            (void)z;                                                                               \
            (void)ftz;                                                                             \
            out[i] = EXPR;                                                                         \
        }                                                                                          \
    }                                                                                              \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        T out[PTX_LANES];                                                                          \
        R *d = ptx_dst(w, in->d);                                                                  \
        fesetround(host_mode(in->sub));                                                            \
        PTX_CAT(lanes_, op, VGPU_PTX_LEVEL)(w, in, out);                                           \
        fesetround(FE_TONEAREST);                                                                  \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            if (mask >> i & 1)                                                                     \
                d[i] = FIN;                                                                        \
    }

#define FIN32         ptx_finish32(out[i], in->flags &PTX_F_FTZ, in->flags &PTX_F_SAT)
#define F(v)          (ftz ? ptx_ftz32(v) : (v))
#define R32(op, EXPR) ROUNDED(op##_F32, float, row_f32, FIN32, EXPR)
#define R64(op, EXPR) ROUNDED(op##_F64, double, row_f64, out[i], EXPR)
R32(RND_ADD, F(x) + F(y))
R32(RND_SUB, F(x) - F(y))
R32(RND_MUL, F(x) * F(y))
R32(RND_FMA, ptx_fma32(F(x), F(y), F(z)))
R32(RND_DIV, F(x) / F(y))
R32(RND_SQRT, __builtin_sqrtf(F(x)))
R32(RND_RCP, 1.0f / F(x))
R64(RND_ADD, x + y)
R64(RND_SUB, x - y)
R64(RND_MUL, x *y)
R64(RND_FMA, ptx_fma64(x, y, z))
R64(RND_DIV, x / y)
R64(RND_SQRT, __builtin_sqrt(x))
R64(RND_RCP, 1.0 / x)
