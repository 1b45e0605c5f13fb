/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Video instructions (PTX ISA, "Video Instructions"): one operation on whole words, two halves or
 * four bytes, saturated if asked, then added to c, compared with it or merged into it. sub is enum
 * ptx_video, size the number of parts, vec the second operation, imm the comparison of vset. Of the
 * flags SAT saturates, and CCIN, CCOUT and WIDE say that a, b and d are signed.
 */
#include "exec.h"

static int64_t part(uint32_t word, unsigned bits, unsigned k, bool is_signed)
{
    uint32_t v = bits == 32 ? word : word >> bits * k & ((1u << bits) - 1);
    int64_t sign = (int64_t)1 << (bits - 1);
    return is_signed ? ((int64_t)v ^ sign) - sign : (int64_t)v;
}

static int64_t operate(const struct ptx_insn *in, int64_t x, int64_t y)
{
    switch (in->sub) {
    case PTX_VIDEO_ADD:
        return x + y;
    case PTX_VIDEO_SUB:
        return x - y;
    case PTX_VIDEO_AVRG: /* rounded away from zero above it, down below it */
        return (x + y + (x + y >= 0)) >> 1;
    case PTX_VIDEO_ABSDIFF:
        return x > y ? x - y : y - x;
    case PTX_VIDEO_MIN:
        return x < y ? x : y;
    case PTX_VIDEO_MAX:
        return x > y ? x : y;
    default:
        switch (in->imm) {
        case PTX_CMP_EQ:
            return x == y;
        case PTX_CMP_NE:
            return x != y;
        case PTX_CMP_LT:
            return x < y;
        case PTX_CMP_LE:
            return x <= y;
        case PTX_CMP_GT:
            return x > y;
        default:
            return x >= y;
        }
    }
}

static int64_t saturate(int64_t v, unsigned bits, bool is_signed)
{
    int64_t max = ((int64_t)1 << (is_signed ? bits - 1 : bits)) - 1, min = is_signed ? -max - 1 : 0;
    return v > max ? max : v < min ? min : v;
}

static uint32_t second(const struct ptx_insn *in, uint32_t v, uint32_t c)
{
    bool is_signed = in->flags & PTX_F_WIDE;
    bool less = is_signed ? (int32_t)v < (int32_t)c : v < c;
    switch (in->vec) {
    case PTX_VIDEO_THEN_ADD:
        return v + c;
    case PTX_VIDEO_THEN_MIN:
        return less ? v : c;
    case PTX_VIDEO_THEN_MAX:
        return less ? c : v;
    default:
        return v;
    }
}

static uint32_t video(const struct ptx_insn *in, uint32_t a, uint32_t b, uint32_t c)
{
    unsigned parts = in->size, bits = 32 / parts;
    uint32_t merged = 0, sum = 0;
    for (unsigned k = 0; k < parts; k++) {
        int64_t v = operate(in, part(a, bits, k, in->flags & PTX_F_CCIN),
                            part(b, bits, k, in->flags & PTX_F_CCOUT));
        if (in->flags & PTX_F_SAT)
            v = saturate(v, bits, in->flags & PTX_F_WIDE);
        sum += (uint32_t)v;
        merged |= ((uint32_t)v & (UINT32_MAX >> (32 - bits))) << bits * k;
    }
    if (parts > 1) /* what is added is not cut to the parts' width */
        return in->vec == PTX_VIDEO_THEN_ADD ? sum + c : merged;
    return second(in, merged, c);
}

PTX_HANDLER(VIDEO)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    for (unsigned i = 0; i < PTX_LANES; i++)
        if (mask >> i & 1)
            d[i] = video(in, a[i], b[i], c[i]);
}
