/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Logic, shifts, bit fields, moves (PTX ISA 9.7.1, 9.7.8, 9.7.9), bit by bit. */
#include "diff.h"

#define EVAL(name) static uint64_t name(const struct insn *in, const uint64_t *s, struct lane *l)

EVAL(bit_and)
{
    return s[0] & s[1];
}
EVAL(bit_or)
{
    return s[0] | s[1];
}
EVAL(bit_xor)
{
    return s[0] ^ s[1];
}
EVAL(bit_not)
{
    return ~s[0];
}
EVAL(cnot)
{
    return s[0] == 0;
}
EVAL(copy)
{
    return s[0];
}
EVAL(lop3)
{
    uint64_t r = 0;
    for (unsigned i = 0; i < 32; i++) {
        unsigned row = (unsigned)((s[0] >> i & 1) << 2 | (s[1] >> i & 1) << 1 | (s[2] >> i & 1));
        r |= (s[3] >> row & 1) << i;
    }
    return r;
}

/* Amounts are clamped to the width. */
EVAL(shl)
{
    return s[1] >= type_bits(in->t) ? 0 : s[0] << s[1];
}
EVAL(shr)
{
    __int128 v = diff_value(s[0], in->t);
    return (uint64_t)(v >> (s[1] >= type_bits(in->t) ? type_bits(in->t) : s[1]));
}
/* variants: l.wrap, l.clamp, r.wrap, r.clamp */
EVAL(shf)
{
    unsigned __int128 both = (unsigned __int128)(s[1] << 32 | s[0]);
    unsigned n = (unsigned)(in->sub & 1 ? (s[2] > 32 ? 32 : s[2]) : s[2] % 32);
    return (uint64_t)(in->sub < 2 ? both << n >> 32 : both >> n);
}

EVAL(bfe)
{
    unsigned position = s[1] & 255, count = s[2] & 255, top = type_bits(in->t) - 1;
    uint64_t r = 0, sign = 0;
    if (type_signed(in->t) && count)
        sign = s[0] >> (position + count - 1 < top ? position + count - 1 : top) & 1;
    for (unsigned i = 0; i <= top; i++)
        r |= (i < count && position + i <= top ? s[0] >> (position + i) & 1 : sign) << i;
    return r;
}
EVAL(bfi)
{
    unsigned position = s[2] & 255, count = s[3] & 255, top = type_bits(in->t) - 1;
    uint64_t r = s[1];
    for (unsigned i = 0; i < count && position + i <= top; i++) {
        r &= ~((uint64_t)1 << (position + i));
        r |= (s[0] >> i & 1) << (position + i);
    }
    return r;
}
EVAL(bfind) /* variants: none, shiftamt */
{
    unsigned top = type_bits(in->t) - 1;
    uint64_t dull = type_signed(in->t) ? s[0] >> top & 1 : 0; /* what the sign repeats */
    for (unsigned i = top + 1; i-- > 0;)
        if ((s[0] >> i & 1) != dull)
            return in->sub ? top - i : i;
    return UINT32_MAX;
}
EVAL(brev)
{
    uint64_t r = 0;
    for (unsigned i = 0; i < type_bits(in->t); i++)
        r |= (s[0] >> i & 1) << (type_bits(in->t) - 1 - i);
    return r;
}
EVAL(popc)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 64; i++)
        n += s[0] >> i & 1;
    return n;
}
EVAL(clz)
{
    uint64_t n = 0;
    while (n < type_bits(in->t) && !(s[0] >> (type_bits(in->t) - 1 - n) & 1))
        n++;
    return n;
}

/* variants: default, f4e, b4e, rc8, ecl, ecr, rc16 */
EVAL(prmt)
{
    uint64_t both = s[1] << 32 | s[0], r = 0;
    unsigned c = s[2] & 3;
    for (unsigned i = 0; i < 4; i++) {
        unsigned from = 0;
        bool sign = false;
        switch (in->sub) {
        case 0:
            from = s[2] >> (4 * i) & 7;
            sign = s[2] >> (4 * i + 3) & 1;
            break;
        case 1: /* four from byte c on */
            from = c + i;
            break;
        case 2: /* four backwards from byte c */
            from = (c + 8 - i) % 8;
            break;
        case 3:
            from = c;
            break;
        case 4: /* the edge to the left: never below c */
            from = i < c ? c : i;
            break;
        case 5:
            from = i < c ? i : c;
            break;
        default:
            from = (s[2] & 1) * 2 + i % 2;
        }
        uint64_t byte = both >> (8 * from) & 255;
        r |= (sign ? (byte >> 7) * 255 : byte) << (8 * i);
    }
    return r;
}

EVAL(selp)
{
    return s[2] ? s[0] : s[1];
}
EVAL(slct_s32)
{
    return diff_value(s[2], S32) >= 0 ? s[0] : s[1];
}

EVAL(pack_2)
{
    return s[0] | s[1] << kind_bits(in->s[0].kind);
}
EVAL(pack_4)
{
    return s[0] | s[1] << 16 | s[2] << 32 | s[3] << 48;
}
EVAL(unpack_2)
{
    unsigned half = kind_bits(in->d.kind);
    l->second = s[0] >> half;
    return s[0];
}

const struct family diff_bits[] = {
    {.text = "and.%t", .types = T_BITS | T(PRED), .operands = "ttt", .eval = bit_and},
    {.text = "or.%t", .types = T_BITS | T(PRED), .operands = "ttt", .eval = bit_or},
    {.text = "xor.%t", .types = T_BITS | T(PRED), .operands = "ttt", .eval = bit_xor},
    {.text = "not.%t", .types = T_BITS | T(PRED), .operands = "tt", .eval = bit_not},
    {.text = "cnot.%t", .types = T_BITS, .operands = "tt", .eval = cnot},
    {.text = "mov.%t", .types = T_INT | T_BITS | T_FLOAT | T(PRED), .operands = "tt", .eval = copy},
    {.text = "lop3.%t", .types = T(B32), .operands = "tttti", .eval = lop3},
    {.text = "shl.%t", .types = T_BITS, .operands = "ttr", .eval = shl},
    {.text = "shr.%t", .types = T_BITS | T_INT, .operands = "ttr", .eval = shr},
    {.text = "shf%v.%t",
     .types = T(B32),
     .operands = "tttr",
     .eval = shf,
     .variants = {".l.wrap", ".l.clamp", ".r.wrap", ".r.clamp"}},
    {.text = "bfe.%t", .types = T_INT32, .operands = "ttnn", .eval = bfe},
    {.text = "bfi.%t", .types = T(B32) | T(B64), .operands = "tttnn", .eval = bfi},
    {.text = "bfind%v.%t",
     .types = T_INT32,
     .operands = "rt",
     .eval = bfind,
     .variants = {"", ".shiftamt"}},
    {.text = "brev.%t", .types = T(B32) | T(B64), .operands = "tt", .eval = brev},
    {.text = "popc.%t", .types = T(B32) | T(B64), .operands = "rt", .eval = popc},
    {.text = "clz.%t", .types = T(B32) | T(B64), .operands = "rt", .eval = clz},
    {.text = "prmt.b32%v",
     .types = T(B32),
     .operands = "tttr",
     .eval = prmt,
     .variants = {"", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"}},
    {.text = "selp.%t", .types = T_BITS | T_INT | T_FLOAT, .operands = "tttp", .eval = selp},
    {.text = "slct.%t.s32",
     .types = T_BITS | T_INT | T_FLOAT,
     .operands = "tttr",
     .eval = slct_s32},
    {.text = "mov.b32 {2", .types = T(B32), .operands = "thh", .eval = pack_2},
    {.text = "mov.b64 {2", .types = T(B64), .operands = "trr", .eval = pack_2},
    {.text = "mov.b64 {4", .types = T(B64), .operands = "thhhh", .eval = pack_4},
    {.text = "mov.b32 }2", .types = T(B32), .operands = "ht", .eval = unpack_2},
    {.text = "mov.b64 }2", .types = T(B64), .operands = "rt", .eval = unpack_2},
};
const size_t diff_bits_count = sizeof(diff_bits) / sizeof(diff_bits[0]);
