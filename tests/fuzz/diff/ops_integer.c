/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer arithmetic (PTX ISA 9.7.1, 9.7.2), by numbers wider than any operand. */
#include "diff.h"

typedef __int128 wide;

#define EVAL(name) static uint64_t name(const struct insn *in, const uint64_t *s, struct lane *l)
#define V(i)       diff_value(s[i], in->t)

EVAL(add)
{
    return (uint64_t)(V(0) + V(1));
}
EVAL(sub)
{
    return (uint64_t)(V(0) - V(1));
}
static uint64_t saturate(wide v)
{
    return (uint64_t)(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v);
}
EVAL(add_sat)
{
    return saturate(V(0) + V(1));
}
EVAL(sub_sat)
{
    return saturate(V(0) - V(1));
}

/* The product modulo 2^128, of which the operations take a piece. */
static unsigned __int128 product(const struct insn *in, const uint64_t *s)
{
    return (unsigned __int128)V(0) * (unsigned __int128)V(1);
}
EVAL(mul_lo)
{
    return (uint64_t)product(in, s);
}
EVAL(mul_hi)
{
    return (uint64_t)(product(in, s) >> type_bits(in->t));
}
EVAL(mad_lo)
{
    return mul_lo(in, s, l) + s[2];
}
EVAL(mad_hi)
{
    return mul_hi(in, s, l) + s[2];
}

static wide low_24(uint64_t x, enum type t)
{
    wide v = (wide)(x & 0xffffff);
    return t == S32 && (v & 0x800000) ? v - 0x1000000 : v;
}
EVAL(mul24_lo)
{
    return (uint64_t)(low_24(s[0], in->t) * low_24(s[1], in->t));
}
EVAL(mul24_hi)
{
    return (uint64_t)((low_24(s[0], in->t) * low_24(s[1], in->t)) >> 16);
}
EVAL(mad24_lo)
{
    return mul24_lo(in, s, l) + s[2];
}
EVAL(mad24_hi)
{
    return mul24_hi(in, s, l) + s[2];
}

EVAL(sad)
{
    wide d = V(0) - V(1);
    return s[2] + (uint64_t)(d < 0 ? -d : d);
}
EVAL(quotient)
{
    return V(1) == 0 ? UINT64_MAX : (uint64_t)(V(0) / V(1));
}
EVAL(rest)
{
    return V(1) == 0 ? UINT64_MAX : (uint64_t)(V(0) % V(1));
}
EVAL(absolute)
{
    return (uint64_t)(V(0) < 0 ? -V(0) : V(0));
}
EVAL(negative)
{
    return (uint64_t)-V(0);
}
EVAL(minimum)
{
    return V(0) < V(1) ? s[0] : s[1];
}
EVAL(maximum)
{
    return V(0) > V(1) ? s[0] : s[1];
}

/* The carry chains: CC.CF is what does not fit, a borrow for subtractions. */
static uint64_t carry_out(const struct insn *in, struct lane *l, unsigned __int128 v)
{
    l->carry = v >> type_bits(in->t) & 1;
    return (uint64_t)v;
}
EVAL(add_cc)
{
    return carry_out(in, l, (unsigned __int128)s[0] + s[1]);
}
EVAL(addc)
{
    return s[0] + s[1] + l->carry;
}
EVAL(addc_cc)
{
    return carry_out(in, l, (unsigned __int128)s[0] + s[1] + l->carry);
}
EVAL(sub_cc)
{
    return carry_out(in, l, (unsigned __int128)s[0] - s[1]);
}
EVAL(subc)
{
    return s[0] - s[1] - l->carry;
}
EVAL(subc_cc)
{
    return carry_out(in, l, (unsigned __int128)s[0] - s[1] - l->carry);
}
static uint64_t piece(const struct insn *in, const uint64_t *s)
{
    uint64_t v = (uint64_t)(in->sub & 1 ? product(in, s) >> type_bits(in->t) : product(in, s));
    return v & diff_mask(type_bits(in->t));
}
EVAL(mad_cc) /* variants: lo, hi */
{
    return carry_out(in, l, (unsigned __int128)piece(in, s) + s[2]);
}
EVAL(madc)
{
    return piece(in, s) + s[2] + l->carry;
}
EVAL(madc_cc)
{
    return carry_out(in, l, (unsigned __int128)piece(in, s) + s[2] + l->carry);
}

/* Bytes of a with bytes of b (dp4a), 16-bit halves of a with two bytes of b (dp2a). */
static wide part(uint64_t x, unsigned at, unsigned bits, enum type t)
{
    wide v = (wide)(x >> at & diff_mask(bits));
    return t == S32 && (v >> (bits - 1) & 1) ? v - ((wide)1 << bits) : v;
}
EVAL(dp4a)
{
    wide sum = (wide)s[2];
    for (unsigned i = 0; i < 4; i++)
        sum += part(s[0], 8 * i, 8, in->t) * part(s[1], 8 * i, 8, in->t2);
    return (uint64_t)sum;
}
EVAL(dp2a) /* variants: lo, hi */
{
    wide sum = (wide)s[2];
    for (unsigned i = 0; i < 2; i++)
        sum += part(s[0], 16 * i, 16, in->t) * part(s[1], 8 * i + 16 * in->sub, 8, in->t2);
    return (uint64_t)sum;
}

#define T_WIDENS (T(U16) | T(S16) | T(U32) | T(S32))
#define T_24     (T(U32) | T(S32))
#define T_SIGNED (T(S16) | T(S32) | T(S64))
const struct family diff_integer[] = {
    {.text = "add.%t", .types = T_INT, .operands = "ttt", .eval = add},
    {.text = "sub.%t", .types = T_INT, .operands = "ttt", .eval = sub},
    {.text = "add.sat.%t", .types = T(S32), .operands = "ttt", .eval = add_sat},
    {.text = "sub.sat.%t", .types = T(S32), .operands = "ttt", .eval = sub_sat},
    {.text = "mul.lo.%t", .types = T_INT, .operands = "ttt", .eval = mul_lo},
    {.text = "mul.hi.%t", .types = T_INT, .operands = "ttt", .eval = mul_hi},
    {.text = "mul.wide.%t", .types = T_WIDENS, .operands = "wtt", .eval = mul_lo},
    {.text = "mad.lo.%t", .types = T_INT, .operands = "tttt", .eval = mad_lo},
    {.text = "mad.hi.%t", .types = T_INT, .operands = "tttt", .eval = mad_hi},
    {.text = "mad.wide.%t", .types = T_WIDENS, .operands = "wttw", .eval = mad_lo},
    {.text = "mul24.lo.%t", .types = T_24, .operands = "ttt", .eval = mul24_lo},
    {.text = "mul24.hi.%t", .types = T_24, .operands = "ttt", .eval = mul24_hi},
    {.text = "mad24.lo.%t", .types = T_24, .operands = "tttt", .eval = mad24_lo},
    {.text = "mad24.hi.%t", .types = T_24, .operands = "tttt", .eval = mad24_hi},
    {.text = "sad.%t", .types = T_INT, .operands = "tttt", .eval = sad},
    {.text = "div.%t", .types = T_INT, .operands = "ttt", .eval = quotient},
    {.text = "rem.%t", .types = T_INT, .operands = "ttt", .eval = rest},
    {.text = "abs.%t", .types = T_SIGNED, .operands = "tt", .eval = absolute},
    {.text = "neg.%t", .types = T_SIGNED, .operands = "tt", .eval = negative},
    {.text = "min.%t", .types = T_INT, .operands = "ttt", .eval = minimum},
    {.text = "max.%t", .types = T_INT, .operands = "ttt", .eval = maximum},
    {.text = "add.cc.%t", .types = T_INT32, .operands = "ttt", .eval = add_cc},
    {.text = "addc.%t", .types = T_INT32, .operands = "ttt", .eval = addc},
    {.text = "addc.cc.%t", .types = T_INT32, .operands = "ttt", .eval = addc_cc},
    {.text = "sub.cc.%t", .types = T_INT32, .operands = "ttt", .eval = sub_cc},
    {.text = "subc.%t", .types = T_INT32, .operands = "ttt", .eval = subc},
    {.text = "subc.cc.%t", .types = T_INT32, .operands = "ttt", .eval = subc_cc},
    {.text = "mad%v.cc.%t",
     .types = T_INT32,
     .operands = "tttt",
     .eval = mad_cc,
     .variants = {".lo", ".hi"}},
    {.text = "madc%v.%t",
     .types = T_INT32,
     .operands = "tttt",
     .eval = madc,
     .variants = {".lo", ".hi"}},
    {.text = "madc%v.cc.%t",
     .types = T_INT32,
     .operands = "tttt",
     .eval = madc_cc,
     .variants = {".lo", ".hi"}},
    {.text = "dp4a.%t.%u", .types = T_24, .types2 = T_24, .operands = "rttr", .eval = dp4a},
    {.text = "dp2a%v.%t.%u",
     .types = T_24,
     .types2 = T_24,
     .operands = "rttr",
     .eval = dp2a,
     .variants = {".lo", ".hi"}},
};
const size_t diff_integer_count = sizeof(diff_integer) / sizeof(diff_integer[0]);
