/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Half-precision arithmetic (PTX ISA, "Half Precision Floating Point Instructions"): .f16 in the
 * low half of a lane, .f16x2 in both. Subnormals count unless .ftz says otherwise; NaN results are
 * 0x7fff.
 */
#include <math.h>

#include "exec_fp16.h"
#include "exec_mem.h"

/* .sat: to [0, 1], NaN and what is below to +0. Halves that are not negative order as integers. */
static inline uint32_t saturate(uint32_t h)
{
    h = h & 0x8000u || h > 0x7c00u ? 0 : h;
    return h < 0x3c00u ? h : 0x3c00u;
}

static inline uint32_t finish(uint32_t h, bool ftz, bool sat)
{
    h = ftz ? ptx_half_ftz(h) : h;
    return sat ? saturate(h) : h;
}

/*
 * EXPR sees the halves x, y, z as numbers of 16 bits. The packed form runs it on both halves of
 * each lane.
 */
#define HALF_OP(op, FN, CALL)                                                                      \
    static inline uint32_t FN##_of(uint32_t x, uint32_t y, uint32_t z, bool ftz, bool sat)         \
    {                                                                                              \
        x = ftz ? ptx_half_ftz(x) : x & 0xffffu;                                                   \
        y = ftz ? ptx_half_ftz(y) : y & 0xffffu;                                                   \
        z = ftz ? ptx_half_ftz(z) : z & 0xffffu;                                                   \
        return finish(CALL, ftz, sat);                                                             \
    }                                                                                              \
    static inline uint32_t FN##_both(uint32_t x, uint32_t y, uint32_t z, bool ftz, bool sat)       \
    {                                                                                              \
        return FN##_of(x, y, z, ftz, sat) | FN##_of(x >> 16, y >> 16, z >> 16, ftz, sat) << 16;    \
    }                                                                                              \
    HALF_HANDLER(op##_F16, FN##_of)                                                                \
    HALF_HANDLER(op##_F16X2, FN##_both)

/* Two bodies, so that the common one has no flags to look at. */
#define HALF_HANDLER(op, FN)                                                                       \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        row_u32 *d = ptx_dst(w, in->d);                                                            \
        const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);      \
        if (!(in->flags & (PTX_F_FTZ | PTX_F_SAT))) {                                              \
            PTX_LANE_LOOP(uint32_t, FN(a[i], b[i], c[i], false, false))                            \
        } else {                                                                                   \
            bool ftz = in->flags & PTX_F_FTZ, sat = in->flags & PTX_F_SAT;                         \
            PTX_LANE_LOOP(uint32_t, FN(a[i], b[i], c[i], ftz, sat))                                \
        }                                                                                          \
    }

HALF_OP(ADD, add, ptx_half_add(x, y))
HALF_OP(SUB, sub, ptx_half_sub(x, y))
HALF_OP(MUL, mul, ptx_half_mul(x, y))
HALF_OP(FMA, fma, ptx_half_fma(x, y, z))
/* The sign only, NaN or not, as for the other types. */
HALF_OP(NEG, neg, x ^ 0x8000u)
HALF_OP(ABS, abs, x & 0x7fffu)

/* ex2 and tanh: computed in double and rounded once, closer to the truth than the ISA asks. */
static uint32_t ex2(uint32_t h)
{
    return ptx_f32_half((float)exp2((double)ptx_half_f32(h)));
}
static uint32_t tanh_half(uint32_t h)
{
    return ptx_f32_half((float)tanh((double)ptx_half_f32(h)));
}
#define APPROX(op, FN)                                                                             \
    PTX_HANDLER(op##_F16)                                                                          \
    {                                                                                              \
        row_u32 *d = ptx_dst(w, in->d);                                                            \
        const row_u32 *a = ptx_src(w, in->a);                                                      \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            if (mask >> i & 1)                                                                     \
                d[i] = FN(a[i]);                                                                   \
    }                                                                                              \
    PTX_HANDLER(op##_F16X2)                                                                        \
    {                                                                                              \
        row_u32 *d = ptx_dst(w, in->d);                                                            \
        const row_u32 *a = ptx_src(w, in->a);                                                      \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            if (mask >> i & 1)                                                                     \
                d[i] = FN(a[i]) | FN(a[i] >> 16) << 16;                                            \
    }
APPROX(EX2, ex2)
APPROX(TANH, tanh_half)

/* The two conversions that half-precision code is full of; cvt's other forms are CVT_ANY's. */
PTX_OP1(CVT_F32_F16, row_f32, row_u32, uint32_t, ptx_nan32(ptx_half_f32(x)))
PTX_OP1(CVT_F16_F32, row_u32, row_f32, float, ptx_f32_half(x))

typedef uint16_t __attribute__((may_alias)) mem_u16;

/* atom.cas.b16 and atom.add.noftz.f16; the packed add is ATOM_32's. */
PTX_HANDLER(ATOM_16)
{
    uint8_t *at[PTX_LANES];
    if (!ptx_resolve(w, in, mask, true, at))
        return;
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        mem_u16 *p = (mem_u16 *)(void *)at[i], old = __atomic_load_n(p, __ATOMIC_SEQ_CST), r;
        do {
            if (in->sub == PTX_ATOM_CAS)
                r = old == (uint16_t)b[i] ? (uint16_t)c[i] : old;
            else
                r = (uint16_t)ptx_half_add(old, b[i]);
        } while (
            !__atomic_compare_exchange_n(p, &old, r, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
        d[i] = old;
    }
}
