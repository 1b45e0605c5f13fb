/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cvt (PTX ISA, "Data Movement and Conversion Instructions: cvt"). The pairs that loops are full of
 * have handlers of their own; CVT_ANY does the rest: sub is the source type, size the destination
 * type, vec the rounding.
 *
 * Floating point to integer clamps to the destination's range. A destination narrower than its
 * register is extended to 32 bits.
 */
#include <fenv.h>
#include <math.h>

#include "exec_fp.h"

PTX_OP1(CVT_32_U8, row_u32, row_u32, uint8_t, x)
PTX_OP1(CVT_32_S8, row_u32, row_u32, int8_t, (uint32_t)x)
PTX_OP1(CVT_32_U16, row_u32, row_u32, uint16_t, x)
PTX_OP1(CVT_32_S16, row_u32, row_u32, int16_t, (uint32_t)x)
PTX_OP1(CVT_64_U8, row_u64, row_u32, uint8_t, x)
PTX_OP1(CVT_64_S8, row_u64, row_u32, int8_t, (uint64_t)x)
PTX_OP1(CVT_64_U16, row_u64, row_u32, uint16_t, x)
PTX_OP1(CVT_64_S16, row_u64, row_u32, int16_t, (uint64_t)x)
PTX_OP1(CVT_64_U32, row_u64, row_u32, uint32_t, x)
PTX_OP1(CVT_64_S32, row_s64, row_s32, int32_t, x)
PTX_OP1(CVT_32_U64, row_u32, row_u64, uint64_t, x)
PTX_OP1(CVT_F32_S32, row_f32, row_s32, int32_t, x)
PTX_OP1(CVT_F32_U32, row_f32, row_u32, uint32_t, x)
PTX_OP1(CVT_F64_S32, row_f64, row_s32, int32_t, x)
PTX_OP1(CVT_F64_F32, row_f64, row_f32, float, x)
PTX_OP1(CVT_F32_F64, row_f32, row_f64, double, ptx_nan32((float)x))

static double half_to_double(uint16_t h)
{
    int exp = h >> 10 & 0x1f;
    double m = h & 0x3ff;
    double v = exp == 0    ? ldexp(m, -24)
               : exp == 31 ? (m != 0 ? (double)NAN : (double)INFINITY)
                           : ldexp(m + 1024, exp - 25);
    return h & 0x8000 ? -v : v;
}

static double round_integral(double x, unsigned round)
{
    switch (round) {
    case PTX_RND_ZI:
    case PTX_RND_Z:
        return trunc(x);
    case PTX_RND_MI:
    case PTX_RND_M:
        return floor(x);
    case PTX_RND_PI:
    case PTX_RND_P:
        return ceil(x);
    default:
        return nearbyint(x);
    }
}

/* To half with the given rounding; the value is exact in double, so this is the only rounding. */
static uint16_t double_to_half(double x, unsigned round)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x))
        return 0x7fff;
    if (isinf(x))
        return (uint16_t)(sign | 0x7c00);
    double mag = fabs(x);
    if (mag == 0)
        return sign;
    int exp;
    frexp(mag, &exp); /* mag in [2^(exp-1), 2^exp) */
    int scale = exp - 1 < -14 ? 24 : 10 - (exp - 1);
    double m = ldexp(sign ? -mag : mag, scale);
    double r = fabs(round_integral(m, round == PTX_RND_NONE ? PTX_RND_N : round));
    double v = ldexp(r, -scale);
    if (v >= 65536.0) {
        bool inf = round == PTX_RND_N || round == PTX_RND_NONE || (round == PTX_RND_P && !sign) ||
                   (round == PTX_RND_M && sign);
        return (uint16_t)(sign | (inf ? 0x7c00 : 0x7bff));
    }
    uint32_t bits;
    if (v < ldexp(1, -14)) {
        bits = (uint32_t)ldexp(v, 24);
    } else {
        frexp(v, &exp);
        bits = (uint32_t)(exp - 1 + 15) << 10 | ((uint32_t)ldexp(v, 10 - (exp - 1)) & 0x3ff);
    }
    return (uint16_t)(sign | bits);
}

static bool is_float(unsigned t)
{
    return t == PTX_F16 || t == PTX_F32 || t == PTX_F64;
}

static unsigned width_of(unsigned t)
{
    return t <= PTX_S8 ? 8 : t <= PTX_F16 ? 16 : t <= PTX_F16X2 ? 32 : 64;
}

static bool is_signed(unsigned t)
{
    return t == PTX_S8 || t == PTX_S16 || t == PTX_S32 || t == PTX_S64;
}

/* The source as a sign- or zero-extended 64-bit integer. */
static int64_t extend(uint64_t raw, unsigned t)
{
    unsigned shift = 64 - width_of(t);
    return is_signed(t) ? (int64_t)(raw << shift) >> shift : (int64_t)(raw << shift >> shift);
}

static uint64_t int_to_int(int64_t v, unsigned st, unsigned dt, bool sat)
{
    unsigned width = width_of(dt);
    if (sat) {
        bool big = !is_signed(st) && v < 0; /* an unsigned 64-bit value beyond INT64_MAX */
        if (is_signed(dt)) {
            int64_t max = INT64_MAX >> (64 - width), min = -max - 1;
            v = big || v > max ? max : v < min ? min : v;
        } else {
            uint64_t max = UINT64_MAX >> (64 - width);
            if (is_signed(st) && v < 0)
                v = 0;
            else if ((uint64_t)v > max)
                v = (int64_t)max;
        }
    }
    return (uint64_t)extend((uint64_t)v, dt);
}

static uint64_t float_to_int(double x, unsigned st, unsigned dt, unsigned round)
{
    unsigned width = width_of(dt);
    /* PTX ISA, "cvt", integer notes: NaN gives 0 when the source is not .f64 and the destination
     * neither .s64 nor .u64, and 1 << (BitWidth(dst) - 1) otherwise. */
    if (isnan(x))
        return st == PTX_F64 || width == 64 ? (uint64_t)extend((uint64_t)1 << (width - 1), dt) : 0;
    x = round_integral(x, round);
    if (is_signed(dt)) {
        double top = ldexp(1, (int)width - 1);
        int64_t max = INT64_MAX >> (64 - width);
        return (uint64_t)(x >= top ? max : x < -top ? -max - 1 : (int64_t)x);
    }
    double top = ldexp(1, (int)width);
    return x >= top ? UINT64_MAX >> (64 - width) : x < 0 ? 0 : (uint64_t)x;
}

/* Rounding of the final conversion is the host's: the caller has set its mode. */
static float to_f32(bool from_int, int64_t v, bool v_signed, volatile double x)
{
    if (from_int)
        return v_signed ? (float)v : (float)(uint64_t)v;
    return (float)x;
}

static int fe_mode(unsigned round)
{
    return round == PTX_RND_Z   ? FE_TOWARDZERO
           : round == PTX_RND_M ? FE_DOWNWARD
           : round == PTX_RND_P ? FE_UPWARD
                                : FE_TONEAREST;
}

static uint64_t convert(uint64_t raw, const struct ptx_insn *in)
{
    unsigned st = in->sub, dt = in->size, round = in->vec;
    bool ftz = in->flags & PTX_F_FTZ, sat = in->flags & PTX_F_SAT;
    bool from_int = !is_float(st), from_signed = is_signed(st);
    int64_t v = from_int ? extend(raw, st) : 0;
    if (from_int && !is_float(dt))
        return int_to_int(v, st, dt, sat);
    /* +0 in every rounding. A compiler may convert an unsigned number by a subtraction from itself,
     * which towards minus infinity leaves -0. */
    if (from_int && v == 0)
        return 0;

    double x = 0;
    if (st == PTX_F32) {
        float f = ptx_bits_f32((uint32_t)raw);
        x = (double)(ftz ? ptx_ftz32(f) : f);
    } else if (st == PTX_F64) {
        x = ptx_bits_f64(raw);
    } else if (st == PTX_F16) {
        x = half_to_double((uint16_t)raw);
    }
    if (!is_float(dt))
        return float_to_int(x, st, dt, round);
    if (round >= PTX_RND_NI && !from_int)
        x = round_integral(x, round);
    if (dt == PTX_F16) {
        /* Any integer beyond 2^53 is infinite or the largest half anyway. */
        if (from_int)
            x = from_signed ? (double)v : (double)(uint64_t)v;
        if (sat)
            x = x > 0 ? (x < 1 ? x : 1.0) : 0.0;
        return double_to_half(x, round);
    }
    if (dt == PTX_F32) {
        volatile float f = 0; /* computed between the two mode changes */
        fesetround(fe_mode(round));
        f = to_f32(from_int, v, from_signed, x);
        fesetround(FE_TONEAREST);
        return ptx_f32_bits(ptx_finish32(f, ftz, sat));
    }
    if (from_int) {
        volatile double r = 0;
        volatile int64_t vv = v;
        fesetround(fe_mode(round));
        r = from_signed ? (double)vv : (double)(uint64_t)vv;
        fesetround(FE_TONEAREST);
        x = r;
    }
    if (sat)
        x = x > 0 ? (x < 1 ? x : 1.0) : 0.0;
    return ptx_f64_bits(x);
}

PTX_HANDLER(CVT_ANY)
{
    bool wide_in = width_of(in->sub) == 64 || (in->flags & PTX_F_ADDR32);
    bool wide_out = in->flags & PTX_F_WIDE;
    const row_u32 *a32 = ptx_src(w, in->a);
    const row_u64 *a64 = ptx_src(w, in->a);
    row_u32 *d32 = ptx_dst(w, in->d);
    row_u64 *d64 = ptx_dst(w, in->d);
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        uint64_t r = convert(wide_in ? a64[i] : a32[i], in);
        if (wide_out)
            d64[i] = r;
        else
            d32[i] = (uint32_t)r;
    }
}
