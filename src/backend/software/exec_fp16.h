/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Half precision as the handlers see it: 16 bits in the low or high half of a 32-bit lane. Owns the
 * two exact conversions and the one rounding. All of it is straight-line code that the compiler can
 * vectorise.
 */
#ifndef VGPU_PTX_EXEC_FP16_H
#define VGPU_PTX_EXEC_FP16_H

#include "exec_fp.h"

#define PTX_HALF_NAN 0x7fffu

/* Exact. A NaN gives some NaN. */
static inline float ptx_half_f32(uint32_t h)
{
    uint32_t mag = (h & 0x7fffu) << 13, exp = mag & 0x0f800000u;
    uint32_t normal = mag + (112u << 23);
    uint32_t special = mag + (224u << 23); /* infinity, NaN */
    /* A subnormal is its mantissa over 2^24: put it behind a leading one and take that away. */
    uint32_t small = ptx_f32_bits(ptx_bits_f32(mag + (113u << 23)) - ptx_bits_f32(113u << 23));
    uint32_t r = exp == 0x0f800000u ? special : exp == 0 ? small : normal;
    return ptx_bits_f32(r | (h & 0x8000u) << 16);
}

/* To nearest even; NaN is PTX_HALF_NAN. */
static inline uint32_t ptx_f32_half(float x)
{
    uint32_t u = ptx_f32_bits(x), mag = u & 0x7fffffffu, sign = u >> 16 & 0x8000u;
    /* Rebias, and round by what is cut off: a carry goes into the exponent, up to infinity. */
    uint32_t normal = (mag - (112u << 23) + 0xfffu + (mag >> 13 & 1)) >> 13;
    /* 0.5f has the weight of the smallest half in its last place, so the addition rounds there. */
    uint32_t small = ptx_f32_bits(ptx_bits_f32(mag) + 0.5f) - 0x3f000000u;
    uint32_t r = mag < 0x38800000u ? small : normal;
    r = mag >= 0x47800000u ? 0x7c00u : r;
    return mag > 0x7f800000u ? PTX_HALF_NAN : r | sign;
}

/* Subnormal to zero of the same sign. */
static inline uint32_t ptx_half_ftz(uint32_t h)
{
    return h & 0x7c00u ? h & 0xffffu : h & 0x8000u;
}

/*
 * One rounding each. Sums, differences and products of halves rounded to single and then to half
 * are the same as rounded once, because 24 bits are at least twice 11 and two.
 */
static inline uint32_t ptx_half_add(uint32_t x, uint32_t y)
{
    return ptx_f32_half(ptx_half_f32(x) + ptx_half_f32(y));
}
static inline uint32_t ptx_half_sub(uint32_t x, uint32_t y)
{
    return ptx_f32_half(ptx_half_f32(x) - ptx_half_f32(y));
}
static inline uint32_t ptx_half_mul(uint32_t x, uint32_t y)
{
    return ptx_f32_half(ptx_half_f32(x) * ptx_half_f32(y));
}

/*
 * The product is exact in double; the sum is rounded there, and what that lost is exact, too (it is
 * the error of a two-term sum). Narrowed to single, the value is made odd where anything was lost,
 * so that the rounding to half sees on which side of a tie the exact value lies.
 */
static inline uint32_t ptx_half_fma(uint32_t x, uint32_t y, uint32_t z)
{
    double p = (double)ptx_half_f32(x) * (double)ptx_half_f32(y), c = (double)ptx_half_f32(z);
    double s = p + c, back = s - p;
    double lost = (p - (s - back)) + (c - back);
    float f = (float)s;
    double left = (s - (double)f) + lost; /* its sign is right; NaN for what is not finite */
    uint32_t u = ptx_f32_bits(f), away = (uint32_t)((left > 0) == (f > 0));
    uint32_t inexact = (uint32_t)((left > 0) | (left < 0)) & ~u & 1;
    u += inexact ? away * 2 - 1 : 0;
    return ptx_f32_half(ptx_bits_f32(u));
}

#endif
