/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Floating point, round to nearest even. Single-precision results that are NaN are the canonical
 * one, 0x7fffffff, as on the hardware; double precision keeps the host's NaN, which is the
 * hardware's, too. .ftz and .sat are done on the values, never by the host's control register.
 *
 * Compiled with contraction off: a multiply and an add stay two roundings unless PTX says fma.
 */
#include <math.h>

#include "exec_fp.h"

/*
 * A handler with a fast body when neither .ftz nor .sat is asked for. OP sees x, y, z.
 */
#define F32_OP(op, LOAD, EXPR)                                                                     \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        row_f32 *d = ptx_dst(w, in->d);                                                            \
        LOAD;                                                                                      \
        if (!(in->flags & (PTX_F_FTZ | PTX_F_SAT))) {                                              \
            PTX_LANE_LOOP(float, ptx_nan32(EXPR(AS_IS)))                                           \
        } else {                                                                                   \
            bool ftz = in->flags & PTX_F_FTZ, sat = in->flags & PTX_F_SAT;                         \
            PTX_LANE_LOOP(float, ptx_finish32(EXPR(FLUSH), ftz, sat))                              \
        }                                                                                          \
    }
#define AS_IS(x) (x)
#define FLUSH(x) (ftz ? ptx_ftz32(x) : (x))

#define LOAD1 const row_f32 *a = ptx_src(w, in->a)
#define LOAD2                                                                                      \
    LOAD1;                                                                                         \
    const row_f32 *b = ptx_src(w, in->b)
#define LOAD3                                                                                      \
    LOAD2;                                                                                         \
    const row_f32 *c = ptx_src(w, in->c)

#define E_ADD(F)  (F(a[i]) + F(b[i]))
#define E_SUB(F)  (F(a[i]) - F(b[i]))
#define E_MUL(F)  (F(a[i]) * F(b[i]))
#define E_FMA(F)  ptx_fma32(F(a[i]), F(b[i]), F(c[i]))
#define E_DIV(F)  (F(a[i]) / F(b[i]))
#define E_SQRT(F) __builtin_sqrtf(F(a[i]))
#define E_RCP(F)  (1.0f / F(a[i]))
F32_OP(ADD_F32, LOAD2, E_ADD)
F32_OP(SUB_F32, LOAD2, E_SUB)
F32_OP(MUL_F32, LOAD2, E_MUL)
F32_OP(FMA_F32, LOAD3, E_FMA)
F32_OP(DIV_F32, LOAD2, E_DIV)
F32_OP(SQRT_F32, LOAD1, E_SQRT)
F32_OP(RCP_F32, LOAD1, E_RCP)

/* min and max give the number when the other is a NaN, and -0 counts as below +0. */
static inline float min32(float x, float y)
{
    float r = x < y ? x : y;
    if (x == y)
        r = ptx_bits_f32(ptx_f32_bits(x) | ptx_f32_bits(y));
    r = x != x ? y : r;
    return y != y ? x : r;
}
static inline float max32(float x, float y)
{
    float r = x > y ? x : y;
    if (x == y)
        r = ptx_bits_f32(ptx_f32_bits(x) & ptx_f32_bits(y));
    r = x != x ? y : r;
    return y != y ? x : r;
}
static inline double min64(double x, double y)
{
    double r = x < y ? x : y;
    if (x == y)
        r = ptx_bits_f64(ptx_f64_bits(x) | ptx_f64_bits(y));
    r = x != x ? y : r;
    return y != y ? x : r;
}
static inline double max64(double x, double y)
{
    double r = x > y ? x : y;
    if (x == y)
        r = ptx_bits_f64(ptx_f64_bits(x) & ptx_f64_bits(y));
    r = x != x ? y : r;
    return y != y ? x : r;
}
#define E_MIN(F) min32(F(a[i]), F(b[i]))
#define E_MAX(F) max32(F(a[i]), F(b[i]))
F32_OP(MIN_F32, LOAD2, E_MIN)
F32_OP(MAX_F32, LOAD2, E_MAX)

/* abs and neg touch the sign only, NaN or not; .ftz flushes. */
#define E_ABS(F) ptx_bits_f32(ptx_f32_bits(F(a[i])) & 0x7fffffffu)
#define E_NEG(F) ptx_bits_f32(ptx_f32_bits(F(a[i])) ^ 0x80000000u)
#define SIGN_OP(op, EXPR)                                                                          \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        row_f32 *d = ptx_dst(w, in->d);                                                            \
        LOAD1;                                                                                     \
        bool ftz = in->flags & PTX_F_FTZ;                                                          \
        PTX_LANE_LOOP(float, EXPR(FLUSH))                                                          \
    }
SIGN_OP(ABS_F32, E_ABS)
SIGN_OP(NEG_F32, E_NEG)

#define ALL2(op, EXPR) PTX_OP2(op, row_f64, row_f64, double, row_f64, double, EXPR)
ALL2(ADD_F64, x + y)
ALL2(SUB_F64, x - y)
ALL2(MUL_F64, x *y)
ALL2(DIV_F64, x / y)
ALL2(MIN_F64, min64(x, y))
ALL2(MAX_F64, max64(x, y))
PTX_OP3(FMA_F64, row_f64, row_f64, double, row_f64, double, row_f64, double, ptx_fma64(x, y, z))
PTX_OP1(SQRT_F64, row_f64, row_f64, double, __builtin_sqrt(x))
PTX_OP1(RCP_F64, row_f64, row_f64, double, 1.0 / x)
PTX_OP1(RSQRT_F64, row_f64, row_f64, double, 1.0 / __builtin_sqrt(x))
PTX_OP1(ABS_F64, row_u64, row_u64, uint64_t, x & 0x7fffffffffffffffull)
PTX_OP1(NEG_F64, row_u64, row_u64, uint64_t, x ^ 0x8000000000000000ull)

/* copysign a, b: the magnitude of b with the sign of a. */
PTX_OP2(COPYSIGN_F32, row_u32, row_u32, uint32_t, row_u32, uint32_t,
        (y & 0x7fffffffu) | (x & 0x80000000u))
PTX_OP2(COPYSIGN_F64, row_u64, row_u64, uint64_t, row_u64, uint64_t,
        (y & 0x7fffffffffffffffull) | (x & 0x8000000000000000ull))

static bool test_property(unsigned what, bool exp_full, bool exp_zero, bool mantissa_zero)
{
    switch (what) {
    case PTX_TESTP_FINITE:
        return !exp_full;
    case PTX_TESTP_INFINITE:
        return exp_full && mantissa_zero;
    case PTX_TESTP_NUMBER:
        return !exp_full || mantissa_zero;
    case PTX_TESTP_NOTANUMBER:
        return exp_full && !mantissa_zero;
    case PTX_TESTP_NORMAL: /* zeroes count as normal */
        return !exp_full && (!exp_zero || mantissa_zero);
    default:
        return exp_zero && !mantissa_zero;
    }
}
PTX_HANDLER(TESTP_F32)
{
    const row_u32 *a = ptx_src(w, in->a);
    uint32_t r = 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        uint32_t e = a[i] >> 23 & 0xff;
        r |= (uint32_t)test_property(in->sub, e == 0xff, e == 0, (a[i] & 0x7fffff) == 0) << i;
    }
    ptx_set_pred(w, in->d, r, mask);
}
PTX_HANDLER(TESTP_F64)
{
    const row_u64 *a = ptx_src(w, in->a);
    uint32_t r = 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        uint64_t e = a[i] >> 52 & 0x7ff;
        r |= (uint32_t)test_property(in->sub, e == 0x7ff, e == 0, (a[i] << 12) == 0) << i;
    }
    ptx_set_pred(w, in->d, r, mask);
}

/*
 * The .approx functions: computed in double and rounded once, so closer to the truth than the
 * bounds the ISA gives.
 */
#define APPROX(op, CALL)                                                                           \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        row_f32 *d = ptx_dst(w, in->d);                                                            \
        const row_f32 *a = ptx_src(w, in->a);                                                      \
        bool ftz = in->flags & PTX_F_FTZ;                                                          \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            if (!(mask >> i & 1))                                                                  \
                continue;                                                                          \
            double x = (double)FLUSH(a[i]);                                                        \
            d[i] = ptx_finish32((float)(CALL), ftz, false);                                        \
        }                                                                                          \
    }
APPROX(RSQRT_F32, 1.0 / sqrt(x))
APPROX(SIN_F32, sin(x))
APPROX(COS_F32, cos(x))
APPROX(LG2_F32, log2(x))
APPROX(EX2_F32, exp2(x))
APPROX(TANH_F32, tanh(x))
