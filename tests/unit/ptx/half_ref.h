/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Half precision by integers alone, for tests: a value is a sign and a whole number of units of a
 * power of two, exact until the one rounding. Shares nothing with the executor's way of computing.
 */
#ifndef VGPU_TEST_HALF_REF_H
#define VGPU_TEST_HALF_REF_H

#include <stdbool.h>
#include <stdint.h>

typedef unsigned __int128 half_mag;

#define HALF_NAN 0x7fffu
#define HALF_INF 0x7c00u
#define HALF_ONE 0x3c00u

static inline bool half_is_nan(uint32_t h)
{
    return (h & 0x7fff) > HALF_INF;
}
static inline bool half_is_inf(uint32_t h)
{
    return (h & 0x7fff) == HALF_INF;
}
static inline bool half_negative(uint32_t h)
{
    return h >> 15 & 1;
}

/* A finite half's magnitude in units of 2^-24. */
static inline uint64_t half_units(uint32_t h)
{
    uint32_t e = h >> 10 & 31, m = h & 0x3ff;
    return e ? (uint64_t)(m | 0x400) << (e - 1) : m;
}
static inline int64_t half_signed_units(uint32_t h)
{
    int64_t u = (int64_t)half_units(h);
    return half_negative(h) ? -u : u;
}

static inline int top_bit(half_mag m)
{
    int n = -1;
    for (; m; m >>= 1)
        n++;
    return n;
}

/* mag * 2^shift, cut at the binary point and rounded as mode ('n' 'z' 'm' 'p') says. */
static inline half_mag round_shift(bool negative, half_mag mag, int shift, char mode)
{
    if (shift >= 0)
        return mag << shift;
    half_mag whole = -shift > 127 ? 0 : mag >> -shift;
    half_mag rest = -shift > 127 ? mag : mag - (whole << -shift);
    bool above = -shift > 127 ? false : rest > (half_mag)1 << (-shift - 1);
    bool tie = -shift > 127 ? false : rest == (half_mag)1 << (-shift - 1);
    bool up = mode == 'n'   ? above || (tie && (whole & 1))
              : mode == 'm' ? negative && rest
              : mode == 'p' ? !negative && rest
                            : false;
    return whole + up;
}

/* The half nearest to mag * 2^unit in the sense of mode. */
static inline uint32_t half_round(bool negative, half_mag mag, int unit, char mode)
{
    uint32_t sign = negative ? 0x8000u : 0;
    if (mag == 0)
        return sign;
    int exp = top_bit(mag) + unit;
    int place = exp < -14 ? -24 : exp - 10; /* weight of the last bit kept */
    half_mag m = exp > 16 ? 4096 : round_shift(negative, mag, unit - place, mode);
    /* From here on it is an integer in the last place; a carry may have made it one bit longer. */
    if (m > 0x7ff || exp > 15) {
        exp++;
        m >>= 1;
    }
    if (exp > 15) {
        bool infinite = mode == 'n' || (mode == 'p' && !negative) || (mode == 'm' && negative);
        return sign | (infinite ? HALF_INF : HALF_INF - 1);
    }
    if (exp < -14)
        return sign | (uint32_t)m; /* a carry to 0x400 is the smallest normal number as it stands */
    return sign + ((uint32_t)(exp + 14) << 10) + (uint32_t)m;
}

static inline uint32_t half_ref_flush(uint32_t h)
{
    return h & 0x7c00 ? h & 0xffff : h & 0x8000;
}
static inline uint32_t half_ref_sat(uint32_t h)
{
    if (half_is_nan(h) || half_negative(h))
        return 0;
    return half_units(h) > half_units(HALF_ONE) ? HALF_ONE : h;
}

/* x * y + z with one rounding; a product or a sum is that with 1 or a zero of the right sign. */
static inline uint32_t half_ref_fma(uint32_t x, uint32_t y, uint32_t z)
{
    bool sign = half_negative(x) != half_negative(y);
    if (half_is_nan(x) || half_is_nan(y) || half_is_nan(z))
        return HALF_NAN;
    if (half_is_inf(x) || half_is_inf(y)) {
        if (half_units(half_is_inf(x) ? y : x) == 0 || (half_is_inf(z) && half_negative(z) != sign))
            return HALF_NAN;
        return HALF_INF | (sign ? 0x8000u : 0);
    }
    if (half_is_inf(z))
        return z & 0xffff;
    __int128 p = (__int128)half_units(x) * (__int128)half_units(y); /* units of 2^-48 */
    __int128 c = (__int128)half_units(z) << 24;
    if (p == 0 && c == 0)
        return sign && half_negative(z) ? 0x8000 : 0;
    __int128 sum = (sign ? -p : p) + (half_negative(z) ? -c : c);
    return half_round(sum < 0, (half_mag)(sum < 0 ? -sum : sum), -48, 'n');
}
static inline uint32_t half_ref_add(uint32_t x, uint32_t y)
{
    return half_ref_fma(x, HALF_ONE, y);
}
static inline uint32_t half_ref_mul(uint32_t x, uint32_t y)
{
    /* Adding a zero of the product's sign changes nothing. */
    bool sign = half_negative(x) != half_negative(y);
    return half_ref_fma(x, y, sign ? 0x8000 : 0);
}

#endif
