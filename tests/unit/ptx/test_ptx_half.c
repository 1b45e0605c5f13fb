/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PTX ISA, "Half Precision Floating Point Instructions", "Half Precision Comparison Instructions"
 * and the half forms of cvt: each against integer arithmetic (half_ref.h), bit for bit; ex2 and
 * tanh within the bounds the ISA gives.
 */
#include "ptx_rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "half_ref.h"

#define EDGES   96u
#define TRIPLES (EDGES * EDGES + 16384u)

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Zeros, the smallest and largest of each kind, both sides of one and of powers of two, NaNs. */
static uint32_t edge(unsigned i)
{
    static const uint16_t mags[] = {0x0000, 0x0001, 0x0002, 0x0003, 0x01ff, 0x0200, 0x03fe, 0x03ff,
                                    0x0400, 0x0401, 0x0402, 0x07ff, 0x0800, 0x0801, 0x0c00, 0x1000,
                                    0x13ff, 0x1400, 0x1401, 0x2c00, 0x2fff, 0x3400, 0x37ff, 0x3800,
                                    0x3801, 0x3bff, 0x3c00, 0x3c01, 0x3c02, 0x3fff, 0x4000, 0x4001,
                                    0x4200, 0x43ff, 0x4400, 0x5000, 0x53ff, 0x5400, 0x63ff, 0x6400,
                                    0x6401, 0x7000, 0x77ff, 0x7800, 0x7bff, 0x7c00, 0x7c01, 0x7e00};
    return (uint32_t)(mags[i / 2] | (i & 1 ? 0x8000 : 0));
}

/* Each lane also carries other bits above the half, which nothing may look at, and for the packed
 * forms a second triple there. */
static uint64_t (*triples(void))[3]
{
    static uint64_t abc[TRIPLES][3];
    uint64_t x = 0x9e3779b97f4a7c15ull;
    for (unsigned i = 0; i < EDGES * EDGES; i++) {
        abc[i][0] = edge(i / EDGES);
        abc[i][1] = edge(i % EDGES);
        abc[i][2] = edge((i * 7 + i / EDGES) % EDGES);
    }
    for (unsigned i = EDGES * EDGES; i < TRIPLES; i++) {
        for (unsigned k = 0; k < 3; k++)
            abc[i][k] = next(&x) & 0xffff;
        /* Products and addends that meet: like exponents, or an addend that only breaks a tie. */
        if (i % 4 == 0)
            for (unsigned k = 0; k < 3; k++)
                abc[i][k] = (abc[i][k] & 0x87ff) | 0x3800;
        if (i % 4 == 1) {
            abc[i][0] = (abc[i][0] & 0x83f0) | 0x3c00;
            abc[i][1] = (abc[i][1] & 0x83f0) | 0x3c00;
            abc[i][2] &= i & 4 ? 0x8001 : 0x83ff;
        }
    }
    for (unsigned i = 0; i < TRIPLES; i++)
        for (unsigned k = 0; k < 3; k++)
            abc[i][k] |= (abc[(i * 31 + 17) % TRIPLES][k] & 0xffff) << 16 | next(&x) << 32;
    return abc;
}

static void check(const char *text, char kind, rig_ref ref)
{
    rig_op_on(text, kind, ref, (const uint64_t(*)[3])triples(), TRIPLES);
}

static uint32_t fin(uint32_t h, bool ftz, bool sat)
{
    h = ftz ? half_ref_flush(h) : h;
    return sat ? half_ref_sat(h) : h;
}

/* name, what it makes of x, y, z, and its flags; the packed form does it to both halves */
#define HALF(name, ftz, sat, expr)                                                                 \
    static uint32_t name##_1(uint32_t x, uint32_t y, uint32_t z)                                   \
    {                                                                                              \
        x = (ftz) ? half_ref_flush(x) : x & 0xffff;                                                \
        y = (ftz) ? half_ref_flush(y) : y & 0xffff;                                                \
        z = (ftz) ? half_ref_flush(z) : z & 0xffff;                                                \
        return fin((expr), ftz, sat);                                                              \
    }                                                                                              \
    static uint64_t name(uint64_t a, uint64_t b, uint64_t c)                                       \
    {                                                                                              \
        return name##_1((uint32_t)a, (uint32_t)b, (uint32_t)c);                                    \
    }                                                                                              \
    static uint64_t name##_x2(uint64_t a, uint64_t b, uint64_t c)                                  \
    {                                                                                              \
        uint32_t x = (uint32_t)a, y = (uint32_t)b, z = (uint32_t)c;                                \
        return name##_1(x, y, z) | name##_1(x >> 16, y >> 16, z >> 16) << 16;                      \
    }

HALF(add, false, false, half_ref_add(x, y))
HALF(add_ftz, true, false, half_ref_add(x, y))
HALF(add_sat, false, true, half_ref_add(x, y))
HALF(sub, false, false, half_ref_add(x, y ^ 0x8000))
HALF(sub_ftz_sat, true, true, half_ref_add(x, y ^ 0x8000))
HALF(mul, false, false, half_ref_mul(x, y))
HALF(mul_ftz, true, false, half_ref_mul(x, y))
HALF(mul_ftz_sat, true, true, half_ref_mul(x, y))
HALF(fused, false, false, half_ref_fma(x, y, z))
HALF(fma_ftz, true, false, half_ref_fma(x, y, z))
HALF(fma_sat, false, true, half_ref_fma(x, y, z))
HALF(neg, false, false, x ^ 0x8000)
HALF(neg_ftz, true, false, x ^ 0x8000)
HALF(absolute, false, false, x & 0x7fff)
HALF(abs_ftz, true, false, x & 0x7fff)

static void test_arithmetic(void **state)
{
    (void)state;
    check("add.f16 %hx, %ha, %hb;", 'h', add);
    check("add.rn.ftz.f16 %hx, %ha, %hb;", 'h', add_ftz);
    check("add.sat.f16 %hx, %ha, %hb;", 'h', add_sat);
    check("add.f16x2 %rx, %ra, %rb;", 'r', add_x2);
    check("add.ftz.f16x2 %rx, %ra, %rb;", 'r', add_ftz_x2);
    check("add.rn.sat.f16x2 %rx, %ra, %rb;", 'r', add_sat_x2);
    check("sub.f16 %hx, %ha, %hb;", 'h', sub);
    check("sub.ftz.sat.f16 %hx, %ha, %hb;", 'h', sub_ftz_sat);
    check("sub.rn.f16x2 %rx, %ra, %rb;", 'r', sub_x2);
    check("sub.ftz.sat.f16x2 %rx, %ra, %rb;", 'r', sub_ftz_sat_x2);
    check("mul.f16 %hx, %ha, %hb;", 'h', mul);
    check("mul.rn.ftz.f16 %hx, %ha, %hb;", 'h', mul_ftz);
    check("mul.ftz.sat.f16 %hx, %ha, %hb;", 'h', mul_ftz_sat);
    check("mul.f16x2 %rx, %ra, %rb;", 'r', mul_x2);
    check("mul.ftz.f16x2 %rx, %ra, %rb;", 'r', mul_ftz_x2);
    check("mul.ftz.sat.f16x2 %rx, %ra, %rb;", 'r', mul_ftz_sat_x2);
}

/* "fma performs a fused multiply-add with no loss of precision in the intermediate product and
 * addition" */
static void test_fma(void **state)
{
    (void)state;
    check("fma.rn.f16 %hx, %ha, %hb, %hc;", 'h', fused);
    check("fma.rn.ftz.f16 %hx, %ha, %hb, %hc;", 'h', fma_ftz);
    check("fma.rn.sat.f16 %hx, %ha, %hb, %hc;", 'h', fma_sat);
    check("fma.rn.f16x2 %rx, %ra, %rb, %rc;", 'r', fused_x2);
    check("fma.rn.ftz.f16x2 %rx, %ra, %rb, %rc;", 'r', fma_ftz_x2);
    check("fma.rn.sat.f16x2 %rx, %ra, %rb, %rc;", 'r', fma_sat_x2);
}

static void test_sign(void **state)
{
    (void)state;
    check("neg.f16 %hx, %ha;", 'h', neg);
    check("neg.ftz.f16 %hx, %ha;", 'h', neg_ftz);
    check("neg.f16x2 %rx, %ra;", 'r', neg_x2);
    check("neg.ftz.f16x2 %rx, %ra;", 'r', neg_ftz_x2);
    check("abs.f16 %hx, %ha;", 'h', absolute);
    check("abs.ftz.f16 %hx, %ha;", 'h', abs_ftz);
    check("abs.f16x2 %rx, %ra;", 'r', absolute_x2);
    check("abs.ftz.f16x2 %rx, %ra;", 'r', abs_ftz_x2);
}

/* -1, 0, 1, or 2 when one is a NaN */
static int order(uint32_t x, uint32_t y, bool ftz)
{
    if (half_is_nan(x) || half_is_nan(y))
        return 2;
    x = ftz ? half_ref_flush(x) : x;
    y = ftz ? half_ref_flush(y) : y;
    int64_t a = half_signed_units(x), b = half_signed_units(y);
    return (a > b) - (a < b);
}

#define COMPARE(name, expr, ftz)                                                                   \
    static uint64_t name##_at(uint64_t a, uint64_t b, unsigned shift)                              \
    {                                                                                              \
        int o = order((uint32_t)a >> shift & 0xffff, (uint32_t)b >> shift & 0xffff, ftz);          \
        return (expr);                                                                             \
    }
COMPARE(eq, o == 0, false)
COMPARE(ne, o == -1 || o == 1, false)
COMPARE(lt, o == -1, false)
COMPARE(le_ftz, o == -1 || o == 0, true)
COMPARE(gt, o == 1, false)
COMPARE(ge, o == 1 || o == 0, false)
COMPARE(equ_ftz, o == 0 || o == 2, true)
COMPARE(neu, o != 0, false)
COMPARE(ltu, o == -1 || o == 2, false)
COMPARE(leu, o != 1, false)
COMPARE(gtu, o == 1 || o == 2, false)
COMPARE(geu, o != -1, false)
COMPARE(num, o != 2, false)
COMPARE(is_nan, o == 2, false)

#define SCALAR(name)                                                                               \
    static uint64_t name##_p(uint64_t a, uint64_t b, uint64_t c)                                   \
    {                                                                                              \
        (void)c;                                                                                   \
        return name##_at(a, b, 0);                                                                 \
    }
SCALAR(eq)
SCALAR(ne)
SCALAR(lt)
SCALAR(le_ftz)
SCALAR(gt)
SCALAR(ge)
SCALAR(equ_ftz)
SCALAR(neu)
SCALAR(ltu)
SCALAR(leu)
SCALAR(gtu)
SCALAR(geu)
SCALAR(num)
SCALAR(is_nan)

#define REF(name, expr)                                                                            \
    static uint64_t name(uint64_t a, uint64_t b, uint64_t c)                                       \
    {                                                                                              \
        (void)a, (void)b, (void)c;                                                                 \
        return (expr);                                                                             \
    }
/* %pa is "the low word of a is not zero"; two predicates come back as bits 0 and 1 */
REF(pair_lt, lt_at(a, b, 0) | lt_at(a, b, 16) << 1)
REF(pair_gtu_and, ((uint32_t)a != 0) * (gtu_at(a, b, 0) | gtu_at(a, b, 16) << 1))
REF(pair_ne_xor, ((uint32_t)a != 0 ? 3 : 0) ^ (ne_at(a, b, 0) | ne_at(a, b, 16) << 1))
REF(set_f16, lt_at(a, b, 0) ? 0x3c00 : 0)
REF(set_u16, lt_at(a, b, 0) ? 0xffff : 0)
REF(set_u32, lt_at(a, b, 0) ? 0xffffffff : 0)
REF(set_f16x2, (lt_at(a, b, 0) ? 0x3c00 : 0) | (lt_at(a, b, 16) ? 0x3c000000 : 0))
REF(set_u32x2, (lt_at(a, b, 0) ? 0xffff : 0) | (lt_at(a, b, 16) ? 0xffff0000 : 0))
REF(set_and_x2, (uint32_t)a ? set_u32x2(a, b, c) : 0)
REF(set_f16_s32, (int32_t)a < (int32_t)b ? 0x3c00 : 0)
REF(set_f16_f32, f32_of(a) < f32_of(b) ? 0x3c00 : 0)

static void test_compare(void **state)
{
    (void)state;
    check("setp.eq.f16 %px, %ha, %hb;", 'p', eq_p);
    check("setp.ne.f16 %px, %ha, %hb;", 'p', ne_p);
    check("setp.lt.f16 %px, %ha, %hb;", 'p', lt_p);
    check("setp.le.ftz.f16 %px, %ha, %hb;", 'p', le_ftz_p);
    check("setp.gt.f16 %px, %ha, %hb;", 'p', gt_p);
    check("setp.ge.f16 %px, %ha, %hb;", 'p', ge_p);
    check("setp.equ.ftz.f16 %px, %ha, %hb;", 'p', equ_ftz_p);
    check("setp.neu.f16 %px, %ha, %hb;", 'p', neu_p);
    check("setp.ltu.f16 %px, %ha, %hb;", 'p', ltu_p);
    check("setp.leu.f16 %px, %ha, %hb;", 'p', leu_p);
    check("setp.gtu.f16 %px, %ha, %hb;", 'p', gtu_p);
    check("setp.geu.f16 %px, %ha, %hb;", 'p', geu_p);
    check("setp.num.f16 %px, %ha, %hb;", 'p', num_p);
    check("setp.nan.f16 %px, %ha, %hb;", 'p', is_nan_p);
    /* "p is the result for the low halves, q for the high ones" */
    check("setp.lt.f16x2 %px|%py, %ra, %rb; selp.u32 %rx, 1, 0, %px; @%py or.b32 %rx, %rx, 2;", 'r',
          pair_lt);
    check("setp.gtu.and.f16x2 %px|%py, %ra, %rb, %pa; selp.u32 %rx, 1, 0, %px; @%py or.b32 %rx, "
          "%rx, 2;",
          'r', pair_gtu_and);
    check("setp.ne.xor.f16x2 %px|%py, %ra, %rb, %pa; selp.u32 %rx, 1, 0, %px; @%py or.b32 %rx, "
          "%rx, 2;",
          'r', pair_ne_xor);
    check("set.lt.f16.f16 %hx, %ha, %hb;", 'h', set_f16);
    check("set.lt.u16.f16 %hx, %ha, %hb;", 'h', set_u16);
    check("set.lt.s32.f16 %rx, %ha, %hb;", 'r', set_u32);
    check("set.lt.f16x2.f16x2 %rx, %ra, %rb;", 'r', set_f16x2);
    check("set.lt.u32.f16x2 %rx, %ra, %rb;", 'r', set_u32x2);
    check("set.lt.and.u32.f16x2 %rx, %ra, %rb, %pa;", 'r', set_and_x2);
    check("set.lt.f16.s32 %hx, %ra, %rb;", 'h', set_f16_s32);
    check("set.lt.f16.f32 %hx, %fa, %fb;", 'h', set_f16_f32);
}

/* cvt to half: a float's or a double's own integers, rounded once */
static uint32_t from_double(double x, char mode)
{
    int exp;
    if (isnan(x))
        return HALF_NAN;
    if (isinf(x))
        return HALF_INF | (signbit(x) ? 0x8000u : 0);
    double m = frexp(fabs(x), &exp); /* m has at most 53 bits */
    return half_round(signbit(x), (half_mag)(uint64_t)ldexp(m, 53), exp - 53, mode);
}
static uint32_t from_int(bool negative, uint64_t mag, char mode)
{
    return half_round(negative, mag, 0, mode);
}
static uint32_t from_s64(int64_t v, char mode)
{
    return from_int(v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, mode);
}
/* x has a half's range more often than not */
static double d_in(uint64_t a)
{
    return f64_of((a & 0x800fffffffffffffull) | (uint64_t)(1023 - 27 + (a >> 52) % 46) << 52);
}
static float f_in(uint64_t a)
{
    uint32_t u = (uint32_t)a;
    return f32_of((u & 0x807fffff) | (127 - 27 + (u >> 23 & 255) % 46) << 23);
}
static float flush32(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}
REF(f32_rn, from_double((double)f32_of(a), 'n'))
REF(f32_rz, from_double((double)f32_of(a), 'z'))
REF(f32_rm, from_double((double)f32_of(a), 'm'))
REF(f32_rp, from_double((double)f32_of(a), 'p'))
REF(f32_rn_sat, half_ref_sat(from_double((double)f32_of(a), 'n')))
/* .ftz is about singles, not about halves. */
REF(f32_rp_ftz, from_double((double)flush32(f32_of(a)), 'p'))
REF(f64_rn, from_double(f64_of(a), 'n'))
REF(f64_rz, from_double(f64_of(a), 'z'))
REF(f64_rm, from_double(f64_of(a), 'm'))
REF(f64_rp_sat, half_ref_sat(from_double(f64_of(a), 'p')))
REF(s32_rn, from_s64((int32_t)a, 'n'))
REF(s32_rz, from_s64((int32_t)a, 'z'))
REF(s32_rm, from_s64((int32_t)a, 'm'))
REF(u32_rp, from_int(false, (uint32_t)a, 'p'))
REF(s16_rn, from_s64((int16_t)a, 'n'))
REF(u16_rp, from_int(false, (uint16_t)a, 'p'))
REF(s8_rn, from_s64((int8_t)a, 'n'))
REF(u8_rz, from_int(false, (uint8_t)a, 'z'))
REF(s64_rn, from_s64((int64_t)a, 'n'))
REF(u64_rz, from_int(false, a, 'z'))

static void test_to_half(void **state)
{
    (void)state;
    static uint64_t f[32768][3], d[32768][3], i[32768][3];
    uint64_t x = 0x2545f4914f6cdd1dull;
    for (unsigned k = 0; k < 32768; k++) {
        uint64_t r = next(&x);
        f[k][0] = k % 8 == 0 ? (uint32_t)r : bits_of(f_in(r)) & (k % 4 == 1 ? ~0xfffu : ~0u);
        d[k][0] = k % 8 == 0 ? r : bits64_of(d_in(r)) & (k % 4 == 1 ? ~0xffffffffffull : ~0ull);
        i[k][0] = (r >> (r >> 58)) & (k % 4 == 1 ? ~0xfull : ~0ull);
        i[k][0] = k % 2 ? i[k][0] : 0 - i[k][0];
    }
#define ON(text, in, ref) rig_op_on(text, 'h', ref, (const uint64_t(*)[3])in, 32768)
    ON("cvt.rn.f16.f32 %hx, %fa;", f, f32_rn);
    ON("cvt.rz.f16.f32 %hx, %fa;", f, f32_rz);
    ON("cvt.rm.f16.f32 %hx, %fa;", f, f32_rm);
    ON("cvt.rp.f16.f32 %hx, %fa;", f, f32_rp);
    ON("cvt.rn.sat.f16.f32 %hx, %fa;", f, f32_rn_sat);
    ON("cvt.rn.f16.f64 %hx, %da;", d, f64_rn);
    ON("cvt.rz.f16.f64 %hx, %da;", d, f64_rz);
    ON("cvt.rm.f16.f64 %hx, %da;", d, f64_rm);
    ON("cvt.rp.sat.f16.f64 %hx, %da;", d, f64_rp_sat);
    ON("cvt.rn.f16.s32 %hx, %ra;", i, s32_rn);
    ON("cvt.rz.f16.s32 %hx, %ra;", i, s32_rz);
    ON("cvt.rm.f16.s32 %hx, %ra;", i, s32_rm);
    ON("cvt.rp.f16.u32 %hx, %ra;", i, u32_rp);
    ON("cvt.rn.f16.s16 %hx, %ha;", i, s16_rn);
    ON("cvt.rp.f16.u16 %hx, %ha;", i, u16_rp);
    ON("cvt.rn.f16.s8 %hx, %ra;", i, s8_rn);
    ON("cvt.rz.f16.u8 %hx, %ra;", i, u8_rz);
    ON("cvt.rn.f16.s64 %hx, %la;", i, s64_rn);
    ON("cvt.rz.f16.u64 %hx, %la;", i, u64_rz);
    /* The inputs' subnormals are far below any half: only the directed roundings see them. */
    static const uint64_t tiny[][3] = {{1}, {0x80000001}, {0x007fffff}, {0x00800000}, {0x387fffff}};
    rig_op_on("cvt.rp.ftz.f16.f32 %hx, %fa;", 'h', f32_rp_ftz, tiny, 5);
    rig_op_on("cvt.rp.f16.f32 %hx, %fa;", 'h', f32_rp, tiny, 5);
#undef ON
}

static uint64_t all[65536][3];

static void check_all(const char *text, char kind, rig_ref ref)
{
    for (uint32_t i = 0; i < 65536; i++)
        all[i][0] = i | 0xabcd0000u;
    rig_op_on(text, kind, ref, (const uint64_t(*)[3])all, 65536);
}

/* A half to an integer of `bits` bits; NaN is 0, or the integer's top bit alone when it has 64. */
static uint64_t to_int(uint64_t a, unsigned bits, bool is_signed, char mode)
{
    uint32_t h = (uint16_t)a;
    bool neg = half_negative(h);
    if (half_is_nan(h))
        return bits == 64 ? 1ull << 63 : 0;
    uint64_t top = is_signed ? (1ull << (bits - 1)) - !neg : UINT64_MAX >> (64 - bits);
    uint64_t m = half_is_inf(h) ? UINT64_MAX : (uint64_t)round_shift(neg, half_units(h), -24, mode);
    if (neg && !is_signed)
        return 0;
    m = m > top ? top : m;
    return neg ? 0 - m : m;
}
REF(to_s32_rn, (uint32_t)to_int(a, 32, true, 'n'))
REF(to_s32_rz, (uint32_t)to_int(a, 32, true, 'z'))
REF(to_u32_rm, (uint32_t)to_int(a, 32, false, 'm'))
REF(to_u32_rp, (uint32_t)to_int(a, 32, false, 'p'))
REF(to_s16_rp, (uint16_t)to_int(a, 16, true, 'p'))
REF(to_u16_rn, (uint16_t)to_int(a, 16, false, 'n'))
REF(to_s64_rm, to_int(a, 64, true, 'm'))
REF(to_u64_rz, to_int(a, 64, false, 'z'))
REF(to_s8_rn, (uint32_t)to_int(a, 8, true, 'n'))
REF(to_u8_rz, (uint32_t)to_int(a, 8, false, 'z'))

/* to an integral half, the sign kept */
static uint32_t integral(uint64_t a, char mode)
{
    uint32_t h = (uint16_t)a;
    if (half_is_nan(h))
        return HALF_NAN;
    if (half_is_inf(h))
        return h;
    return half_round(half_negative(h), round_shift(half_negative(h), half_units(h), -24, mode), 0,
                      'n');
}
REF(half_rni, integral(a, 'n'))
REF(half_rzi, integral(a, 'z'))
REF(half_rmi, integral(a, 'm'))
REF(half_rpi_sat, half_ref_sat(integral(a, 'p')))
REF(half_sat, half_ref_sat((uint16_t)a))
static uint64_t value32(uint64_t a)
{
    uint32_t h = (uint16_t)a;
    float v = half_is_inf(h) ? INFINITY : ldexpf((float)half_units(h), -24);
    return half_is_nan(h) ? 0x7fffffff : bits_of(v) | (h & 0x8000) << 16;
}
REF(to_f32, value32(a))
REF(to_f32_sat, half_is_nan((uint16_t)a) || half_negative((uint16_t)a) ? 0
                : f32_of(value32(a)) > 1                               ? bits_of(1)
                                                                       : value32(a))
REF(to_f64, half_is_nan((uint16_t)a) ? 0 : bits64_of((double)f32_of(value32(a))))

static void test_from_half(void **state)
{
    (void)state;
    check_all("cvt.rni.s32.f16 %rx, %ha;", 'r', to_s32_rn);
    check_all("cvt.rzi.sat.s32.f16 %rx, %ha;", 'r', to_s32_rz);
    check_all("cvt.rmi.u32.f16 %rx, %ha;", 'r', to_u32_rm);
    check_all("cvt.rpi.u32.f16 %rx, %ha;", 'r', to_u32_rp);
    check_all("cvt.rpi.s16.f16 %hx, %ha;", 'h', to_s16_rp);
    check_all("cvt.rni.u16.f16 %hx, %ha;", 'h', to_u16_rn);
    check_all("cvt.rmi.s64.f16 %lx, %ha;", 'l', to_s64_rm);
    check_all("cvt.rzi.u64.f16 %lx, %ha;", 'l', to_u64_rz);
    check_all("cvt.rni.s8.f16 %rx, %ha;", 'r', to_s8_rn);
    check_all("cvt.rzi.u8.f16 %rx, %ha;", 'r', to_u8_rz);
    check_all("cvt.rni.f16.f16 %hx, %ha;", 'h', half_rni);
    check_all("cvt.rzi.f16.f16 %hx, %ha;", 'h', half_rzi);
    check_all("cvt.rmi.f16.f16 %hx, %ha;", 'h', half_rmi);
    check_all("cvt.rpi.sat.f16.f16 %hx, %ha;", 'h', half_rpi_sat);
    check_all("cvt.sat.f16.f16 %hx, %ha;", 'h', half_sat);
    check_all("cvt.f32.f16 %fx, %ha;", 'f', to_f32);
    check_all("cvt.sat.f32.f16 %fx, %ha;", 'f', to_f32_sat);
    check_all(
        "cvt.f64.f16 %dx, %ha; setp.nan.f64 %py, %dx, %dx; @%py mov.f64 %dx, 0d0000000000000000;",
        'd', to_f64);
}

/* PTX ISA, "ex2": at most 2^-9.9 relative error; "tanh": 2^-10.987 absolute. The reference answers
 * the executor's own bits where they are within it, and something else where they are not. */
static bool near_ex2(uint32_t h, uint32_t got)
{
    if (half_is_nan(h))
        return got == HALF_NAN;
    double x = half_is_inf(h) ? (double)INFINITY : ldexp((double)half_units(h), -24);
    double want = exp2(half_negative(h) ? -x : x);
    if (half_is_nan(got) || half_negative(got))
        return false;
    if (want >= 65520)
        return got == HALF_INF;
    double v = ldexp((double)half_units(got), -24);
    return fabs(v - want) <= want * 0x1p-9 * 0.5359 || fabs(v - want) <= 0x1p-25;
}
static bool near_tanh(uint32_t h, uint32_t got)
{
    if (half_is_nan(h))
        return got == HALF_NAN;
    double x = half_is_inf(h) ? (double)INFINITY : ldexp((double)half_units(h), -24);
    double want = tanh(half_negative(h) ? -x : x);
    double v = ldexp((double)half_signed_units(got), -24);
    return !half_is_nan(got) && fabs(v - want) <= 0x1p-10 * 0.5045;
}

static void test_approx(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at;
    static uint32_t h[65536], got[4][65536];
    rig_open(&r, 1);
    rig_load(
        &r,
        ".visible .entry k(.param .u64 p, .param .u64 o) { .reg .b64 %p, %o, %l; .reg .b32 %t, "
        "%a, %x; .reg .b16 %h, %y;\n"
        "ld.param.u64 %p, [p]; ld.param.u64 %o, [o]; mov.u32 %t, %ctaid.x; mov.u32 %x, "
        "%tid.x; mad.lo.u32 %t, %t, 256, %x;\n"
        "mul.wide.u32 %l, %t, 4; add.u64 %p, %p, %l; add.u64 %o, %o, %l; ld.global.u32 %a, "
        "[%p]; cvt.u16.u32 %h, %a;\n"
        "ex2.approx.f16 %y, %h; cvt.u32.u16 %x, %y; st.global.u32 [%o], %x;\n"
        "ex2.approx.f16x2 %x, %a; st.global.u32 [%o+262144], %x;\n"
        "tanh.approx.f16 %y, %h; cvt.u32.u16 %x, %y; st.global.u32 [%o+524288], %x;\n"
        "tanh.approx.f16x2 %x, %a; st.global.u32 [%o+786432], %x; ret; }",
        CUDA_SUCCESS);
    for (uint32_t i = 0; i < 65536; i++)
        h[i] = i | (65535 - i) << 16;
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(h) + sizeof(got), &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_htod(r.b, at, h, sizeof(h)), CUDA_SUCCESS);
    uint64_t params[] = {at, at + sizeof(h)};
    assert_int_equal(rig_launch(&r, "k", 256, 256, 0, 2, params), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, at + sizeof(h), sizeof(got)), CUDA_SUCCESS);
    rig_close(&r);
    for (uint32_t i = 0; i < 65536; i++) {
        assert_true(near_ex2(i, got[0][i]));
        assert_true(near_tanh(i, got[2][i]));
        /* Both halves of the packed form are what the plain one gives. */
        assert_int_equal(got[1][i], got[0][i] | got[0][65535 - i] << 16);
        assert_int_equal(got[3][i], got[2][i] | got[2][65535 - i] << 16);
    }
}

REF(pack, (uint16_t)a | (uint32_t)(uint16_t)b << 16)
REF(unpack_low, (uint16_t)a)
REF(unpack_high, (uint16_t)(a >> 16))
REF(swap, ((uint32_t)a >> 16) | (uint32_t)a << 16)
REF(pack64, a & 0xffff ? (a & 0xffff) | (b & 0xffff) << 16 | (c & 0xffff) << 32 | (a & 0xffff) << 48
                       : (b & 0xffff) << 16 | (c & 0xffff) << 32)
REF(third, (uint16_t)(a >> 32))
REF(select16, (uint32_t)a ? (uint16_t)a : (uint16_t)b)

/* "mov: packs and unpacks vectors of .b16 and .b32" */
static void test_packing(void **state)
{
    (void)state;
    check("mov.b32 %rx, {%ha, %hb};", 'r', pack);
    check("mov.b32 {%hx, _}, %ra;", 'h', unpack_low);
    check("mov.b32 {_, %hx}, %ra;", 'h', unpack_high);
    check("{ .reg .b16 %lo, %hi; mov.b32 {%lo, %hi}, %ra; mov.b32 %rx, {%hi, %lo}; }", 'r', swap);
    check("{ .reg .f16 %lo, %hi; .reg .f16x2 %v; mov.b32 %v, %ra; mov.b32 {%lo, %hi}, %v; mov.b32 "
          "%rx, {%hi, %lo}; }",
          'r', swap);
    check("mov.b64 %lx, {%ha, %hb, %hc, %ha};", 'l', pack64);
    check("mov.b64 {_, _, %hx, _}, %la;", 'h', third);
    check("selp.b16 %hx, %ha, %hb, %pa;", 'h', select16);
}

/* "atom.add.noftz.f16x2: each half is added atomically"; every count is exact up to 2048. */
static void test_atomics(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at;
    uint16_t got[16] = {0}, before[16] = {0};
    rig_open(&r, 4);
    rig_load(
        &r,
        ".visible .entry k(.param .u64 p) { .reg .b64 %p; .reg .b16 %h<4>; .reg .b32 %r<4>; .reg "
        ".pred %q;\n"
        ".shared .align 4 .b16 s[2];\n"
        "ld.param.u64 %p, [p]; mov.b16 %h0, 0x3c00; mov.b32 %r0, {%h0, %h0};\n"
        "atom.add.noftz.f16 %h1, [%p+2], %h0;\n"
        "red.global.add.noftz.f16 [%p+6], %h0;\n"
        "atom.global.relaxed.gpu.add.noftz.f16x2 %r1, [%p+8], %r0;\n"
        "red.global.add.noftz.f16x2 [%p+12], %r0;\n"
        "ld.global.b16 %h1, [%p+18];\n"
        "again: add.u16 %h2, %h1, 1; mov.b16 %h3, %h1; atom.global.cas.b16 %h1, [%p+18], %h3, "
        "%h2;\n"
        "setp.ne.b16 %q, %h1, %h3; @%q bra again;\n"
        "mov.u32 %r2, 0; st.shared.b32 [s], %r2; bar.sync 0;\n"
        "atom.shared.add.noftz.f16 %h1, [s+2], %h0; bar.sync 0; ld.shared.b16 %h1, [s+2]; "
        "st.global.b16 [%p+22], %h1; ld.shared.b16 %h1, [s]; st.global.b16 [%p+24], %h1; ret; }",
        CUDA_SUCCESS);
    before[0] = before[2] = before[8] = before[10] = before[13] = 0xdead;
    before[12] = 0xbeef;
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(got), &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_htod(r.b, at, before, sizeof(before)), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 8, 128, 0, 1, &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, at, sizeof(got)), CUDA_SUCCESS);
    const uint16_t n = 0x6400; /* 1024 */
    const uint16_t want[16] = {0xdead, n,    0xdead, n,      n, n,      n, n,
                               0xdead, 1024, 0xdead, 0x5800, 0, 0xdead, 0, 0};
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(got[i], want[i]);
    /* A subnormal counts: noftz. */
    memset(before, 0, sizeof(before));
    before[1] = 0x0001;
    assert_int_equal(r.o->copy_htod(r.b, at, before, sizeof(before)), CUDA_SUCCESS);
    rig_unload(&r);
    rig_load(&r,
             ".visible .entry k(.param .u64 p) { .reg .b64 %p; .reg .b16 %h<2>; ld.param.u64 %p, "
             "[p]; mov.b16 %h0, 2; atom.add.noftz.f16 %h1, [%p+2], %h0; st.global.b16 [%p], %h1; "
             "ret; }",
             CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 1, 0, 1, &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, at, 4), CUDA_SUCCESS);
    assert_int_equal(got[0], 1);
    assert_int_equal(got[1], 3);
    rig_close(&r);
}

/* What sm_75 does not have is refused when loaded, with the instruction and why. */
static void test_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "add.bf16 %h0, %h1, %h1;",
        "fma.rn.bf16x2 %r0, %r1, %r1, %r1;",
        "min.f16 %h0, %h1, %h1;",
        "max.f16x2 %r0, %r1, %r1;",
        "add.rz.f16 %h0, %h1, %h1;",
        "fma.f16 %h0, %h1, %h1, %h1;",
        "fma.rn.relu.f16 %h0, %h1, %h1, %h1;",
        "ex2.approx.ftz.f16 %h0, %h1;",
        "sin.approx.f16 %h0, %h1;",
        "neg.sat.f16 %h0, %h1;",
        "add.f16 %h0, %h1, 0x3c00;",
        "cvt.rn.bf16.f32 %h0, %f0;",
        "cvt.rn.f16x2.f32 %r0, %f0, %f0;",
        "setp.eq.f16 %p0|%p1, %h0, %h1;",
        "set.eq.f32.f16 %f0, %h0, %h1;",
        "set.eq.u16.f32 %h0, %f0, %f0;",
        "set.eq.f16.f16x2 %h0, %r0, %r1;",
        "atom.add.f16 %h0, [%l0], %h1;",
        "atom.add.noftz.u32 %r0, [%l0], %r1;",
        "atom.exch.b16 %h0, [%l0], %h1;",
        "atom.min.noftz.f16 %h0, [%l0], %h1;",
        "atom.add.noftz.bf16 %h0, [%l0], %h1;",
        "tanh.approx.bf16 %h0, %h1;",
    };
    struct rig r;
    rig_open(&r, 1);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char module[512];
        snprintf(
            module, sizeof(module),
            ".visible .entry k() { .reg .pred %%p<2>; .reg .b16 %%h<2>; .reg .b32 %%r<2>; .reg "
            ".b64 %%l<2>; .reg .f32 %%f<2>;\n%s\nret; }",
            texts[i]);
        rig_load(&r, module, CUDA_ERROR_INVALID_PTX);
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(texts[i], " "), texts[i]);
        assert_non_null(strstr(r.log, name));
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_arithmetic), VGPU_TEST(test_fma),     VGPU_TEST(test_sign),
        VGPU_TEST(test_compare),    VGPU_TEST(test_to_half), VGPU_TEST(test_from_half),
        VGPU_TEST(test_approx),     VGPU_TEST(test_packing), VGPU_TEST(test_atomics),
        VGPU_TEST(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
