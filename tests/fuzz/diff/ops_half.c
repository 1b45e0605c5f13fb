/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Half precision (PTX ISA 9.7.4, 9.7.7) and the newer integer forms: bmsk, szext, fns, saturating
 * mad, cvt.pack (9.7.1, 9.7.9).
 */
#include "diff.h"

#define EVAL(name) static uint64_t name(const struct insn *in, const uint64_t *s, struct lane *l)

/* Each half compared on its own; the predicate goes into both. */
static void halves(const struct insn *in, const uint64_t *s, bool *low, bool *high)
{
    struct insn half = *in;
    uint64_t l[2] = {s[0] & 0xffff, s[1] & 0xffff}, h[2] = {s[0] >> 16, s[1] >> 16};
    half.t = F16;
    *low = diff_combine(in, diff_compare(&half, l), s[2]);
    *high = diff_combine(in, diff_compare(&half, h), s[2]);
}
EVAL(setp_f16)
{
    return diff_combine(in, diff_compare(in, s), s[2]);
}
EVAL(setp_f16x2)
{
    bool low, high;
    halves(in, s, &low, &high);
    l->second = high;
    return low;
}
EVAL(set_f16)
{
    bool r = diff_combine(in, diff_compare(in, s), s[2]);
    return !r ? 0 : in->t2 == F16 ? 0x3c00 : UINT32_MAX;
}
EVAL(set_f16x2)
{
    bool low, high;
    uint64_t one = in->t2 == F16X2 ? 0x3c00 : 0xffff;
    halves(in, s, &low, &high);
    return (low ? one : 0) | (high ? one << 16 : 0);
}

EVAL(bmsk) /* variants: clamp, wrap */
{
    uint64_t from = s[0], count = s[1], r = 0;
    if (in->sub == 1) {
        from %= 32;
        count %= 32;
    }
    for (uint64_t i = 0; i < 32; i++)
        r |= (uint64_t)(i >= from && i - from < count) << i;
    return r;
}
EVAL(szext)
{
    unsigned count = (unsigned)(in->sub == 1 ? s[1] % 32 : s[1] > 32 ? 32 : s[1]);
    uint64_t field = s[0] & diff_mask(count);
    bool negative = in->t == S32 && count && (field >> (count - 1) & 1);
    return count == 0 ? 0 : negative ? field | ~diff_mask(count) : field;
}
/* Position of the n-th set bit from bit s[1] on, upwards or, when n is negative, downwards. */
EVAL(fns)
{
    int n = (int)diff_value(s[2], S32);
    if (n == 0)
        return s[0] >> s[1] & 1 ? s[1] : UINT32_MAX;
    int64_t left = n < 0 ? -(int64_t)n : n;
    for (int at = (int)s[1]; at >= 0 && at < 32; at += n < 0 ? -1 : 1)
        if ((s[0] >> at & 1) && --left == 0)
            return (uint64_t)at;
    return UINT32_MAX;
}

static int64_t limit(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}
static int64_t s32(uint64_t v)
{
    return (int64_t)diff_value(v, S32);
}
EVAL(mad_hi_sat)
{
    return (uint64_t)limit(((s32(s[0]) * s32(s[1])) >> 32) + s32(s[2]), INT32_MIN, INT32_MAX);
}
static int64_t low_24(uint64_t v)
{
    int64_t low = (int64_t)(v & 0xffffff);
    return low >= 0x800000 ? low - 0x1000000 : low;
}
EVAL(mad24_hi_sat)
{
    int64_t high = (int64_t)(int32_t)(uint32_t)((low_24(s[0]) * low_24(s[1])) >> 16);
    return (uint64_t)limit(high + s32(s[2]), INT32_MIN, INT32_MAX);
}

/* a and b, clamped to the small type, beside each other; above them the low bits of c. */
static uint64_t pack(const struct insn *in, const uint64_t *s, unsigned bits)
{
    bool is_signed = in->sub & 1;
    int64_t low = is_signed ? -((int64_t)1 << (bits - 1)) : 0;
    int64_t high = ((int64_t)1 << (bits - is_signed)) - 1;
    uint64_t a = (uint64_t)limit(s32(s[0]), low, high) & diff_mask(bits);
    uint64_t b = (uint64_t)limit(s32(s[1]), low, high) & diff_mask(bits);
    return b | a << bits | s[2] << (2 * bits);
}
EVAL(pack_16) /* u16, s16 */
{
    return pack(in, s, 16);
}
EVAL(pack_small) /* u8, s8, u4, s4, u2, s2 */
{
    static const uint8_t bits[] = {8, 8, 4, 4, 2, 2};
    return pack(in, s, bits[in->sub]);
}

#define T_HALF (T(F16) | T(F16X2))
const struct family diff_half[] = {
    {.text = "add%m%z%s.%t",
     .types = T_HALF,
     .operands = "ttt",
     .eval = diff_add,
     .choose = diff_choose_free,
     .later = true},
    {.text = "sub%m%z%s.%t",
     .types = T_HALF,
     .operands = "ttt",
     .eval = diff_sub,
     .choose = diff_choose_free,
     .later = true},
    {.text = "mul%m%z%s.%t",
     .types = T_HALF,
     .operands = "ttt",
     .eval = diff_mul,
     .choose = diff_choose_free,
     .later = true},
    {.text = "fma%m%z%s.%t",
     .types = T_HALF,
     .operands = "tttt",
     .eval = diff_fma,
     .choose = diff_choose_rounded,
     .later = true},
    {.text = "abs%z.%t",
     .types = T_HALF,
     .operands = "tt",
     .eval = diff_abs,
     .choose = diff_choose_flush,
     .later = true},
    {.text = "neg%z.%t",
     .types = T_HALF,
     .operands = "tt",
     .eval = diff_neg,
     .choose = diff_choose_flush,
     .later = true},
    {.text = "setp%c%b%z.f16",
     .types = T(F16),
     .operands = "pttb",
     .eval = setp_f16,
     .choose = diff_choose_compare,
     .later = true},
    {.text = "setp%c%b%z.f16x2",
     .types = T(F16X2),
     .operands = "p&ttb",
     .eval = setp_f16x2,
     .choose = diff_choose_compare,
     .later = true,
     .whole = true},
    {.text = "set%c%b%z.%u.f16",
     .types = T(F16),
     .types2 = T(F16) | T(U16) | T(S16) | T(U32) | T(S32),
     .operands = "uttb",
     .eval = set_f16,
     .choose = diff_choose_compare,
     .later = true},
    {.text = "set%c%b%z.%u.f16x2",
     .types = T(F16X2),
     .types2 = T(F16X2) | T(U32) | T(S32),
     .operands = "uttb",
     .eval = set_f16x2,
     .choose = diff_choose_compare,
     .later = true,
     .whole = true},
    {.text = "bmsk%v.b32",
     .types = T(B32),
     .operands = "ttt",
     .eval = bmsk,
     .variants = {".clamp", ".wrap"},
     .later = true},
    {.text = "szext%v.%t",
     .types = T(U32) | T(S32),
     .operands = "ttr",
     .eval = szext,
     .variants = {".clamp", ".wrap"},
     .later = true},
    {.text = "fns.b32", .types = T(B32), .operands = "ttjr", .eval = fns, .later = true},
    {.text = "mad.hi.sat.s32",
     .types = T(S32),
     .operands = "tttt",
     .eval = mad_hi_sat,
     .later = true},
    {.text = "mad24.hi.sat.s32",
     .types = T(S32),
     .operands = "tttt",
     .eval = mad24_hi_sat,
     .later = true},
    {.text = "cvt.pack.sat%v.s32",
     .types = T(S32),
     .operands = "ttt",
     .eval = pack_16,
     .variants = {".u16", ".s16"},
     .later = true},
    {.text = "cvt.pack.sat%v.s32.b32",
     .types = T(S32),
     .operands = "tttr",
     .eval = pack_small,
     .variants = {".u8", ".s8", ".u4", ".s4", ".u2", ".s2"},
     .later = true},
};
const size_t diff_half_count = sizeof(diff_half) / sizeof(diff_half[0]);
