/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See soft.h. */
#include "soft.h"

const struct soft_format soft_f16 = {16, 11, -14, 0x7fff};
const struct soft_format soft_f32 = {32, 24, -126, 0x7fffffff};
const struct soft_format soft_f64 = {64, 53, -1022, 0x7fffffffffffffff};

static int length(unsigned __int128 m)
{
    uint64_t high = (uint64_t)(m >> 64), low = (uint64_t)m;
    return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

struct soft soft_unpack(const struct soft_format *f, uint64_t bits)
{
    uint64_t mantissa = bits & (((uint64_t)1 << (f->precision - 1)) - 1);
    int field = (int)(bits >> (f->precision - 1) &
                      (((uint64_t)1 << (f->bits - (unsigned)f->precision)) - 1));
    int full = (1 << (f->bits - (unsigned)f->precision)) - 1;
    struct soft x = {.negative = bits >> (f->bits - 1) & 1};
    if (field == full) {
        x.kind = mantissa ? SOFT_NAN : SOFT_INFINITE;
        return x;
    }
    x.m = field ? mantissa | (uint64_t)1 << (f->precision - 1) : mantissa;
    x.e = f->emin - (f->precision - 1) + (field ? field - 1 : 0);
    x.kind = x.m ? SOFT_NUMBER : SOFT_ZERO;
    return x;
}

/* m / 2^shift to an integer, as the mode says. */
static unsigned __int128 shift_round(unsigned __int128 m, int shift, bool more, bool negative,
                                     enum soft_mode mode)
{
    if (shift <= 0)
        return m << -shift;
    unsigned __int128 kept = shift < 128 ? m >> shift : 0;
    bool half = shift <= 128 && (m >> (shift - 1) & 1);
    bool rest =
        more || (shift > 128 ? m != 0 : (m & (((unsigned __int128)1 << (shift - 1)) - 1)) != 0);
    bool up = mode == SOFT_RN   ? half && (rest || (kept & 1))
              : mode == SOFT_RM ? negative && (half || rest)
              : mode == SOFT_RP ? !negative && (half || rest)
                                : false;
    return kept + up;
}

uint64_t soft_pack(const struct soft_format *f, struct soft x, enum soft_mode mode)
{
    uint64_t sign = (uint64_t)x.negative << (f->bits - 1);
    uint64_t infinity = (((uint64_t)1 << (f->bits - (unsigned)f->precision)) - 1)
                        << (f->precision - 1);
    if (x.kind == SOFT_NAN)
        return f->nan;
    if (x.kind == SOFT_INFINITE)
        return sign | infinity;
    if (x.kind == SOFT_ZERO)
        return sign;
    int top = x.e + length(x.m) - 1, lowest = f->emin - (f->precision - 1);
    int last = (top < f->emin ? f->emin : top) - (f->precision - 1); /* exponent of the last bit */
    uint64_t kept = (uint64_t)shift_round(x.m, last - x.e, x.more, x.negative, mode);
    bool over = top >= 2 - f->emin; /* beyond the largest exponent, 1 - emin */
    uint64_t packed = over ? infinity : ((uint64_t)(last - lowest) << (f->precision - 1)) + kept;
    if (packed >= infinity) {
        bool away =
            mode == SOFT_RN || (mode == SOFT_RM && x.negative) || (mode == SOFT_RP && !x.negative);
        packed = away ? infinity : infinity - 1;
    }
    return sign | packed;
}

struct soft soft_negate(struct soft a)
{
    a.negative = !a.negative;
    return a;
}

/* 256 bits, low word first. */
struct wide {
    uint64_t w[4];
};

/* m * 2^shift, shift below 256; what falls off below is kept as a lowest bit of 1. */
static struct wide place(unsigned __int128 m, int shift)
{
    struct wide r = {{0}};
    bool lost = false;
    if (shift < 0) {
        unsigned __int128 kept = shift > -128 ? m >> -shift : 0;
        lost = shift <= -128 || kept << -shift != m;
        m = kept;
        shift = 0;
    }
    int word = shift / 64, bit = shift % 64;
    uint64_t high = (uint64_t)(m >> 64);
    const uint64_t parts[3] = {(uint64_t)(m << bit), (uint64_t)(m << bit >> 64),
                               bit ? high >> (64 - bit) : 0};
    for (int i = 0; i < 3 && word + i < 4; i++)
        r.w[word + i] = parts[i];
    r.w[0] |= lost;
    return r;
}

static bool below(const struct wide *a, const struct wide *b)
{
    for (int i = 3; i >= 0; i--)
        if (a->w[i] != b->w[i])
            return a->w[i] < b->w[i];
    return false;
}

struct soft soft_add(struct soft a, struct soft b, enum soft_mode mode)
{
    struct soft r = {.kind = SOFT_NAN};
    if (a.kind == SOFT_NAN || b.kind == SOFT_NAN)
        return r;
    if (a.kind == SOFT_INFINITE && b.kind == SOFT_INFINITE && a.negative != b.negative)
        return r;
    if (a.kind == SOFT_INFINITE || b.kind == SOFT_INFINITE)
        return a.kind == SOFT_INFINITE ? a : b;
    if (a.kind == SOFT_ZERO && b.kind == SOFT_ZERO) {
        if (a.negative != b.negative)
            a.negative = mode == SOFT_RM;
        return a;
    }
    if (a.kind == SOFT_ZERO || b.kind == SOFT_ZERO)
        return a.kind == SOFT_ZERO ? b : a;

    int top_a = a.e + length(a.m), top_b = b.e + length(b.m);
    int base = (top_a > top_b ? top_a : top_b) - 252; /* exponent of bit 0 */
    struct wide x = place(a.m, a.e - base), y = place(b.m, b.e - base);
    struct wide sum = x;
    r.negative = a.negative;
    if (a.negative == b.negative) {
        unsigned carry = 0;
        for (int i = 0; i < 4; i++) {
            unsigned __int128 s = (unsigned __int128)x.w[i] + y.w[i] + carry;
            sum.w[i] = (uint64_t)s;
            carry = (unsigned)(s >> 64);
        }
    } else {
        if (below(&x, &y)) {
            struct wide t = x;
            x = y;
            y = t;
            r.negative = b.negative;
        }
        unsigned borrow = 0;
        for (int i = 0; i < 4; i++) {
            unsigned __int128 s = (unsigned __int128)x.w[i] - y.w[i] - borrow;
            sum.w[i] = (uint64_t)s;
            borrow = (unsigned)(s >> 127);
        }
    }
    r.kind = SOFT_NUMBER;
    r.m = (unsigned __int128)sum.w[3] << 64 | sum.w[2];
    r.e = base + 128;
    r.more = sum.w[1] || sum.w[0];
    if (!sum.w[3] && (sum.w[2] >> 60) == 0) { /* cancelled: all that is left is exact, and lower */
        r.m = (unsigned __int128)sum.w[2] << 64 | sum.w[1];
        r.e = base + 64;
        r.more = sum.w[0] != 0;
        if (!r.m) {
            r.m = sum.w[0];
            r.e = base;
            r.more = false;
        }
    }
    if (!r.m) {
        r.kind = SOFT_ZERO;
        r.negative = mode == SOFT_RM;
    }
    return r;
}

struct soft soft_mul(struct soft a, struct soft b)
{
    struct soft r = {.kind = SOFT_NAN, .negative = a.negative != b.negative};
    if (a.kind == SOFT_NAN || b.kind == SOFT_NAN)
        return r;
    if (a.kind == SOFT_INFINITE || b.kind == SOFT_INFINITE) {
        r.kind = a.kind == SOFT_ZERO || b.kind == SOFT_ZERO ? SOFT_NAN : SOFT_INFINITE;
        return r;
    }
    r.kind = a.kind == SOFT_ZERO || b.kind == SOFT_ZERO ? SOFT_ZERO : SOFT_NUMBER;
    r.m = a.m * b.m;
    r.e = a.e + b.e;
    return r;
}

struct soft soft_div(struct soft a, struct soft b)
{
    struct soft r = {.kind = SOFT_NAN, .negative = a.negative != b.negative};
    if (a.kind == SOFT_NAN || b.kind == SOFT_NAN || (a.kind == b.kind && a.kind != SOFT_NUMBER))
        return r; /* 0/0 and infinity/infinity among them */
    if (a.kind == SOFT_INFINITE || b.kind == SOFT_ZERO) {
        r.kind = SOFT_INFINITE;
        return r;
    }
    if (a.kind == SOFT_ZERO || b.kind == SOFT_INFINITE) {
        r.kind = SOFT_ZERO;
        return r;
    }
    int shift = 126 - length(a.m);
    unsigned __int128 dividend = a.m << shift;
    r.kind = SOFT_NUMBER;
    r.m = dividend / b.m;
    r.more = dividend % b.m != 0;
    r.e = a.e - shift - b.e;
    return r;
}

struct soft soft_sqrt(struct soft a)
{
    struct soft r = {.kind = SOFT_NAN};
    if (a.kind == SOFT_NAN || (a.negative && a.kind != SOFT_ZERO))
        return r;
    if (a.kind != SOFT_NUMBER)
        return a;
    int shift = 124 - length(a.m);
    shift += (a.e - shift) & 1; /* an even exponent halves */
    unsigned __int128 m = a.m << shift, root = 0;
    for (int bit = 63; bit >= 0; bit--) {
        unsigned __int128 trial = root | (unsigned __int128)1 << bit;
        if (trial * trial <= m)
            root = trial;
    }
    r.kind = SOFT_NUMBER;
    r.m = root;
    r.more = root * root != m;
    r.e = (a.e - shift) / 2;
    return r;
}

int soft_compare(struct soft a, struct soft b)
{
    struct soft d;
    if (a.kind == SOFT_INFINITE && b.kind == SOFT_INFINITE && a.negative == b.negative)
        return 0;
    d = soft_add(a, soft_negate(b), SOFT_RN);
    return d.kind == SOFT_ZERO ? 0 : d.negative ? -1 : 1;
}

struct soft soft_from_integer(__int128 v)
{
    struct soft r = {.kind = v ? SOFT_NUMBER : SOFT_ZERO, .negative = v < 0};
    r.m = v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
    return r;
}

struct soft soft_to_integral(struct soft x, enum soft_mode mode)
{
    if (x.kind != SOFT_NUMBER || x.e >= 0)
        return x;
    x.m = shift_round(x.m, -x.e, false, x.negative, mode);
    x.e = 0;
    x.kind = x.m ? SOFT_NUMBER : SOFT_ZERO;
    return x;
}

__int128 soft_to_integer(struct soft x, __int128 low, __int128 high)
{
    if (x.kind == SOFT_ZERO)
        return 0;
    if (x.kind == SOFT_INFINITE || x.e + length(x.m) > 100)
        return x.negative ? low : high;
    __int128 v = (__int128)(x.m << x.e);
    v = x.negative ? -v : v;
    return v < low ? low : v > high ? high : v;
}
