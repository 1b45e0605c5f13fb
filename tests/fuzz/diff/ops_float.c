/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Floating point, comparison and conversion (PTX ISA 9.7.3 to 9.7.6, cvt in 9.7.9). */
#include "diff.h"

#define PUBLIC(name) uint64_t name(const struct insn *in, const uint64_t *s, struct lane *l)
#define EVAL(name)   static uint64_t name(const struct insn *in, const uint64_t *s, struct lane *l)

/* Subnormals to zero of their sign, where .ftz is and applies: single and half precision. */
uint64_t diff_flush(const struct insn *in, enum type t, uint64_t bits)
{
    const struct soft_format *f = diff_format(t);
    struct soft x = soft_unpack(f, bits);
    bool subnormal = x.kind == SOFT_NUMBER && x.m >> (f->precision - 1) == 0;
    return in->ftz && t != F64 && subnormal ? bits & (uint64_t)1 << (f->bits - 1) : bits;
}

static struct soft operand(const struct insn *in, uint64_t bits)
{
    return soft_unpack(diff_format(in->t), diff_flush(in, in->t, bits));
}

static uint64_t finish(const struct insn *in, enum type t, struct soft x)
{
    const struct soft_format *f = diff_format(t);
    uint64_t r =
        diff_flush(in, t, soft_pack(f, x, in->mode < 0 ? SOFT_RN : (enum soft_mode)in->mode));
    if (in->sat) { /* to [0, 1], a NaN to 0 */
        struct soft one = soft_from_integer(1), v = soft_unpack(f, r);
        if (v.kind == SOFT_NAN || v.kind == SOFT_ZERO || v.negative)
            return 0;
        if (soft_compare(v, one) > 0)
            return soft_pack(f, one, SOFT_RN);
    }
    return r;
}

static enum soft_mode sum_mode(const struct insn *in)
{
    return in->mode < 0 ? SOFT_RN : (enum soft_mode)in->mode;
}

PUBLIC(diff_add)
{
    return finish(in, in->t, soft_add(operand(in, s[0]), operand(in, s[1]), sum_mode(in)));
}
PUBLIC(diff_sub)
{
    struct soft b = soft_negate(operand(in, s[1]));
    return finish(in, in->t, soft_add(operand(in, s[0]), b, sum_mode(in)));
}
PUBLIC(diff_mul)
{
    return finish(in, in->t, soft_mul(operand(in, s[0]), operand(in, s[1])));
}
PUBLIC(diff_fma)
{
    struct soft p = soft_mul(operand(in, s[0]), operand(in, s[1]));
    return finish(in, in->t, soft_add(p, operand(in, s[2]), sum_mode(in)));
}
EVAL(fdiv)
{
    return finish(in, in->t, soft_div(operand(in, s[0]), operand(in, s[1])));
}
EVAL(frcp)
{
    return finish(in, in->t, soft_div(soft_from_integer(1), operand(in, s[0])));
}
EVAL(fsqrt)
{
    return finish(in, in->t, soft_sqrt(operand(in, s[0])));
}

/* A number beats a NaN, and +0 is above -0. */
static uint64_t extreme(const struct insn *in, const uint64_t *s, int sign)
{
    struct soft a = operand(in, s[0]), b = operand(in, s[1]);
    if (a.kind == SOFT_NAN || b.kind == SOFT_NAN)
        return finish(in, in->t, a.kind == SOFT_NAN ? b : a);
    int order = soft_compare(a, b);
    if (order == 0)
        order = (int)b.negative - (int)a.negative;
    return finish(in, in->t, order * sign > 0 ? a : b);
}
EVAL(lesser)
{
    return extreme(in, s, -1);
}
EVAL(greater)
{
    return extreme(in, s, 1);
}
static uint64_t sign_bit(enum type t)
{
    return (uint64_t)1 << (type_bits(t) - 1);
}
PUBLIC(diff_abs)
{
    return diff_flush(in, in->t, s[0]) & ~sign_bit(in->t);
}
PUBLIC(diff_neg)
{
    return diff_flush(in, in->t, s[0]) ^ sign_bit(in->t);
}
EVAL(copysign_)
{
    return (s[1] & ~sign_bit(in->t)) | (s[0] & sign_bit(in->t));
}

/* finite, infinite, number, notanumber, normal, subnormal; zeroes count as normal */
EVAL(testp)
{
    const struct soft_format *f = diff_format(in->t);
    struct soft x = soft_unpack(f, s[0]);
    bool small = x.kind == SOFT_NUMBER && x.m >> (f->precision - 1) == 0;
    bool normal = x.kind == SOFT_ZERO || (x.kind == SOFT_NUMBER && !small);
    const bool answer[] = {x.kind <= SOFT_NUMBER,
                           x.kind == SOFT_INFINITE,
                           x.kind != SOFT_NAN,
                           x.kind == SOFT_NAN,
                           normal,
                           small};
    return answer[in->sub];
}

enum comparison { EQ, NE, LT, LE, GT, GE, LO, LS, HI, HS, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NAN_ };

bool diff_compare(const struct insn *in, const uint64_t *s)
{
    int order;
    bool unordered = false;
    if (type_float(in->t)) {
        struct soft a = operand(in, s[0]), b = operand(in, s[1]);
        unordered = a.kind == SOFT_NAN || b.kind == SOFT_NAN;
        order = unordered ? 0 : soft_compare(a, b);
    } else {
        __int128 a = diff_value(s[0], in->t), b = diff_value(s[1], in->t);
        order = a < b ? -1 : a > b;
    }
    switch ((enum comparison)in->cmp) {
    case EQ:
        return !unordered && order == 0;
    case NE:
        return !unordered && order != 0;
    case LT:
    case LO:
        return !unordered && order < 0;
    case LE:
    case LS:
        return !unordered && order <= 0;
    case GT:
    case HI:
        return !unordered && order > 0;
    case GE:
    case HS:
        return !unordered && order >= 0;
    case EQU:
        return unordered || order == 0;
    case NEU:
        return unordered || order != 0;
    case LTU:
        return unordered || order < 0;
    case LEU:
        return unordered || order <= 0;
    case GTU:
        return unordered || order > 0;
    case GEU:
        return unordered || order >= 0;
    case NUM:
        return !unordered;
    default:
        return unordered;
    }
}
bool diff_combine(const struct insn *in, bool r, uint64_t c)
{
    return in->logic == 0 ? r : in->logic == 1 ? r && c : in->logic == 2 ? r || c : r != (c != 0);
}
EVAL(setp)
{
    bool r = diff_compare(in, s);
    l->second = diff_combine(in, !r, s[2]);
    return diff_combine(in, r, s[2]);
}
EVAL(set) /* u: the type of the result */
{
    bool r = diff_combine(in, diff_compare(in, s), s[2]);
    return !r ? 0 : in->t2 == F32 ? 0x3f800000 : UINT32_MAX;
}
EVAL(slct_f32)
{
    struct soft c = soft_unpack(&soft_f32, diff_flush(in, F32, s[2]));
    return c.kind == SOFT_ZERO || (c.kind != SOFT_NAN && !c.negative) ? s[0] : s[1];
}

static __int128 lowest(enum type t)
{
    return type_signed(t) ? -((__int128)1 << (type_bits(t) - 1)) : 0;
}
static __int128 highest(enum type t)
{
    return ((__int128)1 << (type_bits(t) - type_signed(t))) - 1;
}

/* From t2 to t; .ftz means single precision only. */
EVAL(cvt)
{
    struct insn unflushed = *in;
    unflushed.ftz = in->ftz && in->t == F32;
    bool to_float = type_float(in->t), from_float = type_float(in->t2);
    uint64_t raw = s[0] & diff_mask(type_bits(in->t2));
    if (!from_float) {
        __int128 v = diff_value(raw, in->t2);
        if (to_float)
            return finish(&unflushed, in->t, soft_from_integer(v));
        if (in->sat && v < lowest(in->t))
            v = lowest(in->t);
        if (in->sat && v > highest(in->t))
            v = highest(in->t);
        return (uint64_t)diff_value((uint64_t)v & diff_mask(type_bits(in->t)), in->t);
    }
    uint64_t source = in->t2 == F32 ? diff_flush(in, F32, raw) : raw;
    struct soft x = soft_unpack(diff_format(in->t2), source);
    if (in->integral)
        x = soft_to_integral(x, (enum soft_mode)in->mode);
    if (to_float)
        return finish(&unflushed, in->t, x);
    if (x.kind == SOFT_NAN)
        return in->t2 == F64 || type_bits(in->t) == 64
                   ? (uint64_t)diff_value((uint64_t)1 << (type_bits(in->t) - 1), in->t)
                   : 0;
    return (uint64_t)soft_to_integer(x, lowest(in->t), highest(in->t));
}

void diff_choose_flush(struct insn *in, uint32_t random)
{
    in->ftz = in->t != F64 && random % 4 == 0;
}
void diff_choose_rounded(struct insn *in, uint32_t random)
{
    in->ftz = in->t != F64 && random % 4 == 0;
    in->sat = in->t != F64 && random / 4 % 8 == 0;
    in->mode = random / 32 % 2 || in->t == F16 || in->t == F16X2 ? SOFT_RN : (int)(random / 64 % 4);
}
/* Where the rounding may be left out. */
void diff_choose_free(struct insn *in, uint32_t random)
{
    diff_choose_rounded(in, random);
    if (random / 256 % 2)
        in->mode = MODE_NONE;
}
/* div, rcp, sqrt have no .sat */
static void choose_root(struct insn *in, uint32_t random)
{
    diff_choose_rounded(in, random);
    in->sat = false;
}
void diff_choose_compare(struct insn *in, uint32_t random)
{
    static const uint8_t for_float[] = {EQ,  NE,  LT,  LE,  GT,  GE,  EQU,
                                        NEU, LTU, LEU, GTU, GEU, NUM, NAN_};
    static const uint8_t for_unsigned[] = {EQ, NE, LT, LE, GT, GE, LO, LS, HI, HS};
    uint32_t pick = random / 16;
    in->ftz = (in->t == F16X2 || (type_float(in->t) && in->t != F64)) && random % 4 == 0;
    in->logic = random / 4 % 4;
    if (type_float(in->t) || in->t == F16X2)
        in->cmp = for_float[pick % 14];
    else if (in->t == B16 || in->t == B32 || in->t == B64)
        in->cmp = pick % 2;
    else
        in->cmp = type_signed(in->t) ? pick % 6 : for_unsigned[pick % 10];
}
static void choose_slct(struct insn *in, uint32_t random)
{
    in->ftz = random % 2;
}
static void choose_cvt(struct insn *in, uint32_t random)
{
    bool to_float = type_float(in->t), from_float = type_float(in->t2);
    unsigned to = type_bits(in->t), from = type_bits(in->t2);
    int mode = (int)(random / 64 % 4);
    in->ftz = (in->t == F32 || in->t2 == F32) && random % 4 == 0;
    if (to_float)
        in->sat = random / 4 % 8 == 0;
    else if (!from_float) /* allowed where the result may not fit */
        in->sat =
            random / 4 % 2 && (lowest(in->t) > lowest(in->t2) || highest(in->t) < highest(in->t2));
    if (to_float && (!from_float || to < from)) {
        in->mode = mode;
    } else if (!to_float && from_float) {
        in->mode = mode;
        in->integral = true;
    } else if (to_float && to == from && random / 256 % 2) {
        in->mode = mode;
        in->integral = true;
    }
}

#define T_ANY (T(U8) | T(S8) | T_INT | T(F16) | T_FLOAT)
const struct family diff_float[] = {
    {.text = "add%m%z%s.%t",
     .types = T_FLOAT,
     .operands = "ttt",
     .eval = diff_add,
     .choose = diff_choose_free,
     .any_nan = true},
    {.text = "sub%m%z%s.%t",
     .types = T_FLOAT,
     .operands = "ttt",
     .eval = diff_sub,
     .choose = diff_choose_free,
     .any_nan = true},
    {.text = "mul%m%z%s.%t",
     .types = T_FLOAT,
     .operands = "ttt",
     .eval = diff_mul,
     .choose = diff_choose_free,
     .any_nan = true},
    {.text = "fma%m%z%s.%t",
     .types = T_FLOAT,
     .operands = "tttt",
     .eval = diff_fma,
     .choose = diff_choose_rounded,
     .any_nan = true},
    {.text = "mad%m%z%s.%t",
     .types = T_FLOAT,
     .operands = "tttt",
     .eval = diff_fma,
     .choose = diff_choose_rounded,
     .any_nan = true},
    {.text = "div%m%z.%t",
     .types = T_FLOAT,
     .operands = "ttt",
     .eval = fdiv,
     .choose = choose_root,
     .any_nan = true},
    {.text = "rcp%m%z.%t",
     .types = T_FLOAT,
     .operands = "tt",
     .eval = frcp,
     .choose = choose_root,
     .any_nan = true},
    {.text = "sqrt%m%z.%t",
     .types = T_FLOAT,
     .operands = "tt",
     .eval = fsqrt,
     .choose = choose_root,
     .any_nan = true},
    {.text = "min%z.%t",
     .types = T_FLOAT,
     .operands = "ttt",
     .eval = lesser,
     .choose = diff_choose_flush,
     .any_nan = true},
    {.text = "max%z.%t",
     .types = T_FLOAT,
     .operands = "ttt",
     .eval = greater,
     .choose = diff_choose_flush,
     .any_nan = true},
    {.text = "abs%z.%t",
     .types = T_FLOAT,
     .operands = "tt",
     .eval = diff_abs,
     .choose = diff_choose_flush,
     .any_nan = true},
    {.text = "neg%z.%t",
     .types = T_FLOAT,
     .operands = "tt",
     .eval = diff_neg,
     .choose = diff_choose_flush,
     .any_nan = true},
    {.text = "copysign.%t", .types = T_FLOAT, .operands = "ttt", .eval = copysign_},
    {.text = "testp%v.%t",
     .types = T_FLOAT,
     .operands = "pt",
     .eval = testp,
     .variants = {".finite", ".infinite", ".number", ".notanumber", ".normal", ".subnormal"}},
    {.text = "setp%c%b%z.%t",
     .types = T_INT | T_BITS | T_FLOAT,
     .operands = "p|ttb",
     .eval = setp,
     .choose = diff_choose_compare},
    {.text = "set%c%b%z.%u.%t",
     .types = T_INT | T_BITS | T_FLOAT,
     .types2 = T(U32) | T(S32) | T(F32),
     .operands = "uttb",
     .eval = set,
     .choose = diff_choose_compare},
    {.text = "slct%z.%t.f32",
     .types = T_BITS | T_INT | T_FLOAT,
     .operands = "tttf",
     .eval = slct_f32,
     .choose = choose_slct},
    {.text = "cvt%m%z%s.%t.%u",
     .types = T_ANY,
     .types2 = T_ANY,
     .operands = "><",
     .eval = cvt,
     .choose = choose_cvt,
     .any_nan = true},
};
const size_t diff_float_count = sizeof(diff_float) / sizeof(diff_float[0]);
