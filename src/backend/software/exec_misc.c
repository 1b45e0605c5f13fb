/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integer instructions that few programs use: bmsk, szext, fns, lop3 with a predicate, the
 * saturating multiply-adds and cvt.pack (PTX ISA, "Integer Arithmetic", "Logic and Shift" and "Data
 * Movement Instructions").
 */
#include "exec.h"

/* bmsk a, b: b ones from bit a on. sub 1 clamps position and width, 0 takes them modulo 32. */
static inline uint32_t bit_mask(uint32_t pos, uint32_t width, bool clamp)
{
    if (clamp) {
        pos = pos > 32 ? 32 : pos;
        width = width > 32 ? 32 : width;
    } else {
        pos &= 31;
        width &= 31;
    }
    uint64_t ones = ((uint64_t)1 << width) - 1;
    return (uint32_t)(ones << pos);
}
PTX_HANDLER(BMSK)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);
    bool clamp = in->sub != 0;
    PTX_LANE_LOOP(uint32_t, bit_mask(a[i], b[i], clamp))
}

/* szext: the low b bits of a, extended by their sign or by zeros. sub bit 0: clamp, bit 1: signed.
 */
static inline uint32_t extend(uint32_t a, uint32_t bits, unsigned sub)
{
    if (sub & 1 && bits > 31)
        return a;
    bits &= 31;
    uint32_t above = UINT32_MAX << bits;
    bool sign = sub & 2 && bits && a >> (bits - 1) & 1;
    return sign ? a | above : a & ~above;
}
PTX_HANDLER(SZEXT)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);
    unsigned sub = in->sub;
    PTX_LANE_LOOP(uint32_t, extend(a[i], b[i], sub))
}

/* fns mask, base, offset: where the offset-th one from bit base on is, up or down; all ones: none.
 */
static uint32_t find_nth(uint32_t mask, uint32_t base, int32_t offset)
{
    if (base > 31)
        return UINT32_MAX;
    if (offset == 0)
        return mask >> base & 1 ? base : UINT32_MAX;
    uint32_t left = offset < 0 ? 0u - (uint32_t)offset : (uint32_t)offset;
    for (uint32_t pos = base; pos<32; pos += offset> 0 ? 1u : UINT32_MAX)
        if (mask >> pos & 1 && --left == 0)
            return pos;
    return UINT32_MAX;
}
PTX_HANDLER(FNS)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);
    const row_s32 *c = ptx_src(w, in->c);
    for (unsigned i = 0; i < PTX_LANES; i++)
        if (mask >> i & 1)
            d[i] = find_nth(a[i], b[i], c[i]);
}

/* lop3 d|p: sub is the table, imm the predicate p, e the predicate q; vec enum ptx_bool says how q
 * combines with "the result is not zero". */
PTX_HANDLER(LOP3P)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    uint32_t q = ptx_pred(w, in->e), some = 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        uint32_t r = 0;
        for (unsigned k = 0; k < 8; k++)
            if (in->sub >> k & 1)
                r |= (k & 4 ? a[i] : ~a[i]) & (k & 2 ? b[i] : ~b[i]) & (k & 1 ? c[i] : ~c[i]);
        some |= (uint32_t)(r != 0) << i;
        if (mask >> i & 1)
            d[i] = r;
    }
    ptx_set_pred(w, (int32_t)in->imm, in->vec == PTX_BOOL_AND ? some & q : some | q, mask);
}

static inline int32_t clamp_s32(int64_t v)
{
    return (int32_t)(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v);
}
static inline int64_t low24(int32_t x)
{
    return (int32_t)((uint32_t)x << 8) >> 8;
}
PTX_OP3(MADHISAT_S32, row_s32, row_s32, int32_t, row_s32, int32_t, row_s32, int32_t,
        clamp_s32(((int64_t)x * y >> 32) + z))
PTX_OP3(MAD24HISAT_S32, row_s32, row_s32, int32_t, row_s32, int32_t, row_s32, int32_t,
        clamp_s32((low24(x) * low24(y) >> 16) + z))

/* cvt.pack: a above b, each clamped to `size` bits (sub: signed), and what is left of c above both.
 */
static inline uint32_t narrow(int32_t v, unsigned bits, bool is_signed)
{
    int32_t max = (int32_t)((1u << (is_signed ? bits - 1 : bits)) - 1);
    int32_t min = is_signed ? -max - 1 : 0;
    v = v > max ? max : v < min ? min : v;
    return (uint32_t)v & ((1u << bits) - 1);
}
PTX_HANDLER(CVT_PACK)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_s32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);
    const row_u32 *c = ptx_src(w, in->c);
    unsigned bits = in->size;
    bool is_signed = in->sub != 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        uint32_t r = narrow(a[i], bits, is_signed) << bits | narrow(b[i], bits, is_signed);
        if (bits < 16)
            r |= c[i] << 2 * bits;
        if (mask >> i & 1)
            d[i] = r;
    }
}
