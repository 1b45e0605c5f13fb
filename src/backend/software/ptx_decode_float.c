/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Floating point, comparison, selection and conversion. */
#include "ptx_decode.h"

#include <string.h>

static bool no_variant(struct ptx_dec *d)
{
    return vgpu_ptx_refuse(d, "not for this type");
}

static void take_ftz_sat(struct ptx_dec *d)
{
    if (vgpu_ptx_mod(d, "ftz"))
        d->in.flags |= PTX_F_FTZ;
    if (vgpu_ptx_mod(d, "sat"))
        d->in.flags |= PTX_F_SAT;
}

/* An operation of `n` sources with rounding; `op` and `rounded_op` are the F32 ones, F64 follows
 * each. */
bool vgpu_ptx_dec_float2(struct ptx_dec *d, unsigned op, unsigned rounded_op, enum ptx_type t,
                         unsigned n)
{
    unsigned round = vgpu_ptx_mod_round(d);
    if (round > PTX_RND_P)
        return vgpu_ptx_refuse(d, "this rounding is for cvt");
    if (t == PTX_F32)
        take_ftz_sat(d);
    d->in.sub = (uint8_t)round;
    return vgpu_ptx_emit_alu(d, (round > PTX_RND_N ? rounded_op : op) + (t == PTX_F64), t, n);
}

bool vgpu_ptx_dec_fma(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_is_half(t))
        return vgpu_ptx_dec_half(d, PTX_OP_FMA_F16, t, 3);
    return vgpu_ptx_variant_float(t) < 0
               ? no_variant(d)
               : vgpu_ptx_dec_float2(d, PTX_OP_FMA_F32, PTX_OP_RND_FMA_F32, t, 3);
}

/* rcp, sqrt, rsqrt: arg is the F32 operation. The exact result serves .approx, too. */
bool vgpu_ptx_dec_unary(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) < 0)
        return no_variant(d);
    if (vgpu_ptx_mod(d, "approx")) {
        /* rcp.approx.ftz.f64 and rsqrt.approx.ftz.f64 flush their input; done on the exact value,
         * see the docs. */
        if (t == PTX_F64)
            vgpu_ptx_mod(d, "ftz");
    }
    unsigned rounded = d->arg == PTX_OP_RCP_F32 ? PTX_OP_RND_RCP_F32 : PTX_OP_RND_SQRT_F32;
    if (d->arg == PTX_OP_RSQRT_F32) {
        if (t == PTX_F32)
            take_ftz_sat(d);
        return vgpu_ptx_emit_alu(d, d->arg + (t == PTX_F64), t, 1);
    }
    return vgpu_ptx_dec_float2(d, d->arg, rounded, t, 1);
}

/* sin, cos, lg2, ex2, tanh */
bool vgpu_ptx_dec_approx(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (!vgpu_ptx_mod(d, "approx"))
        return no_variant(d);
    if (vgpu_ptx_is_half(t) && (d->arg == PTX_OP_EX2_F32 || d->arg == PTX_OP_TANH_F32))
        return vgpu_ptx_dec_half(d, d->arg == PTX_OP_EX2_F32 ? PTX_OP_EX2_F16 : PTX_OP_TANH_F16, t,
                                 1);
    if (t != PTX_F32)
        return no_variant(d);
    if (vgpu_ptx_mod(d, "ftz"))
        d->in.flags |= PTX_F_FTZ;
    return vgpu_ptx_emit_alu(d, d->arg, t, 1);
}

bool vgpu_ptx_dec_copysign(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    return vgpu_ptx_variant_float(t) < 0
               ? no_variant(d)
               : vgpu_ptx_emit_alu(d, PTX_OP_COPYSIGN_F32 + (t == PTX_F64), t, 2);
}

bool vgpu_ptx_dec_testp(struct ptx_dec *d)
{
    static const char *const names[] = {"finite",     "infinite", "number",
                                        "notanumber", "normal",   "subnormal"};
    enum ptx_type t;
    unsigned i;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    for (i = 0; i < 6 && !vgpu_ptx_mod(d, names[i]); i++)
        ;
    if (i == 6 || vgpu_ptx_variant_float(t) < 0)
        return no_variant(d);
    d->in.sub = (uint8_t)i;
    return vgpu_ptx_want(d, 2) && vgpu_ptx_dst_pred(d, 0, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_emit(d, PTX_OP_TESTP_F32 + (t == PTX_F64));
}

static bool take_compare(struct ptx_dec *d, enum ptx_type t)
{
    static const struct {
        const char *name;
        uint8_t cmp;
    } names[] = {
        {"eq", PTX_CMP_EQ},   {"ne", PTX_CMP_NE},   {"lt", PTX_CMP_LT},   {"le", PTX_CMP_LE},
        {"gt", PTX_CMP_GT},   {"ge", PTX_CMP_GE},   {"lo", PTX_CMP_LT},   {"ls", PTX_CMP_LE},
        {"hi", PTX_CMP_GT},   {"hs", PTX_CMP_GE},   {"equ", PTX_CMP_EQU}, {"neu", PTX_CMP_NEU},
        {"ltu", PTX_CMP_LTU}, {"leu", PTX_CMP_LEU}, {"gtu", PTX_CMP_GTU}, {"geu", PTX_CMP_GEU},
        {"num", PTX_CMP_NUM}, {"nan", PTX_CMP_NAN},
    };
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!vgpu_ptx_mod(d, names[i].name))
            continue;
        bool is_float = vgpu_ptx_variant_float(t) >= 0 || vgpu_ptx_is_half(t);
        bool is_unsigned = t == PTX_U16 || t == PTX_U32 || t == PTX_U64;
        bool is_bits = t == PTX_B16 || t == PTX_B32 || t == PTX_B64;
        if ((i >= 10 && !is_float) || (i >= 6 && i < 10 && !is_unsigned) || (i > 1 && is_bits))
            return vgpu_ptx_refuse(d, "this comparison is not for this type");
        d->in.sub = names[i].cmp;
        return true;
    }
    return vgpu_ptx_refuse(d, "no comparison that this device knows");
}

/* setp, set (arg 1) */
bool vgpu_ptx_dec_setp(struct ptx_dec *d)
{
    enum ptx_type t, to = PTX_PRED;
    if (d->arg == 1 && !vgpu_ptx_mod_type(d, &to))
        return false;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (!take_compare(d, t))
        return false;
    d->in.vec = vgpu_ptx_mod(d, "and")   ? PTX_BOOL_AND
                : vgpu_ptx_mod(d, "or")  ? PTX_BOOL_OR
                : vgpu_ptx_mod(d, "xor") ? PTX_BOOL_XOR
                                         : PTX_BOOL_NONE;
    unsigned op;
    if (vgpu_ptx_variant_float(t) >= 0)
        op = (d->arg ? PTX_OP_SET_F32 : PTX_OP_SETP_F32) + (t == PTX_F64);
    else if (vgpu_ptx_is_half(t))
        op = (d->arg ? PTX_OP_SET_F16 : PTX_OP_SETP_F16) + (t == PTX_F16X2);
    else if (vgpu_ptx_variant_int(t) >= 0)
        op = (d->arg ? PTX_OP_SET_U16 : PTX_OP_SETP_U16) + (unsigned)vgpu_ptx_variant_int(t);
    else
        return no_variant(d);
    if ((t == PTX_F32 || vgpu_ptx_is_half(t)) && vgpu_ptx_mod(d, "ftz"))
        d->in.flags |= PTX_F_FTZ;

    unsigned at = 1;
    d->in.e = PTX_PRED_SINK;
    if (d->arg == 1) {
        if (!vgpu_ptx_dec_set_type(d, to, t) || !vgpu_ptx_dst(d, 0, to, &d->in.d))
            return false;
    } else {
        if (!vgpu_ptx_dst_pred(d, 0, &d->in.d))
            return false;
        if (d->s->opds[0].paired && t == PTX_F16)
            return vgpu_ptx_refuse(d, "setp of .f16 has one destination");
        if (d->s->opds[0].paired && !vgpu_ptx_dst_pred(d, at++, &d->in.e))
            return false;
    }
    bool combined = d->in.vec != PTX_BOOL_NONE;
    return vgpu_ptx_want(d, at + 2 + combined) && vgpu_ptx_src(d, at, t, &d->in.a) &&
           vgpu_ptx_src(d, at + 1, t, &d->in.b) &&
           (!combined || vgpu_ptx_src_pred(d, at + 2, &d->in.c)) && vgpu_ptx_emit(d, op);
}

bool vgpu_ptx_dec_selp(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_type_bytes(t) < 2)
        return no_variant(d);
    return vgpu_ptx_want(d, 4) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_src(d, 2, t, &d->in.b) &&
           vgpu_ptx_src_pred(d, 3, &d->in.c) &&
           vgpu_ptx_emit(d, PTX_OP_SELP_32 + (unsigned)vgpu_ptx_variant_width(t));
}

bool vgpu_ptx_dec_slct(struct ptx_dec *d)
{
    enum ptx_type t, by;
    bool ftz = vgpu_ptx_mod(d, "ftz");
    if (!vgpu_ptx_mod_type(d, &t) || !vgpu_ptx_mod_type(d, &by))
        return false;
    if (ftz)
        d->in.flags |= PTX_F_FTZ;
    if (vgpu_ptx_type_bytes(t) < 2 || (by != PTX_F32 && (ftz || by != PTX_S32)))
        return no_variant(d);
    d->in.sub = by == PTX_F32;
    return vgpu_ptx_want(d, 4) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_src(d, 2, t, &d->in.b) &&
           vgpu_ptx_src(d, 3, by, &d->in.c) &&
           vgpu_ptx_emit(d, PTX_OP_SLCT_32 + (unsigned)vgpu_ptx_variant_width(t));
}

static bool cvt_float(enum ptx_type t)
{
    return t == PTX_F16 || t == PTX_F32 || t == PTX_F64;
}

/* The handler made for exactly this pair, or CVT_ANY. Bytes are the registers'. */
static unsigned pick_cvt(const struct ptx_dec *d, enum ptx_type dt, enum ptx_type st,
                         unsigned round, unsigned d_bytes, unsigned s_bytes)
{
    uint32_t to = vgpu_ptx_type_bytes(dt), from = vgpu_ptx_type_bytes(st);
    bool plain = !(d->in.flags & (PTX_F_FTZ | PTX_F_SAT)) && s_bytes == from;
    if (!plain)
        return PTX_OP_CVT_ANY;
    if (!cvt_float(dt) && !cvt_float(st)) {
        static const uint8_t index[PTX_TYPES] = {
            [PTX_U8] = 1, [PTX_S8] = 2, [PTX_U16] = 3, [PTX_S16] = 4, [PTX_U32] = 5, [PTX_S32] = 6};
        if (to == d_bytes && to > from && index[st] && to == 8)
            return PTX_OP_CVT_64_U8 + index[st] - 1u;
        if (to == d_bytes && to > from && index[st] && index[st] <= 4 && to == 4)
            return PTX_OP_CVT_32_U8 + index[st] - 1u;
        if (to == d_bytes && to == from)
            return to == 8 ? PTX_OP_MOV_64 : PTX_OP_MOV_32;
        if (from == 8 && to == d_bytes && to < 8 && to > 1)
            return PTX_OP_CVT_32_U64;
        if (from == 4 && to == d_bytes && to == 2)
            return PTX_OP_MOV_32; /* readers of a 16-bit register look at its low half */
        return PTX_OP_CVT_ANY;
    }
    if (to != d_bytes)
        return PTX_OP_CVT_ANY;
    if (dt == PTX_F32 && st == PTX_S32 && round <= PTX_RND_N)
        return PTX_OP_CVT_F32_S32;
    if (dt == PTX_F32 && st == PTX_U32 && round <= PTX_RND_N)
        return PTX_OP_CVT_F32_U32;
    if (dt == PTX_F64 && st == PTX_S32)
        return PTX_OP_CVT_F64_S32;
    if (dt == PTX_F64 && st == PTX_F32 && round == PTX_RND_NONE)
        return PTX_OP_CVT_F64_F32;
    if (dt == PTX_F32 && st == PTX_F64 && round == PTX_RND_N)
        return PTX_OP_CVT_F32_F64;
    if (dt == PTX_F32 && st == PTX_F16 && round == PTX_RND_NONE)
        return PTX_OP_CVT_F32_F16;
    if (dt == PTX_F16 && st == PTX_F32 && round == PTX_RND_N)
        return PTX_OP_CVT_F16_F32;
    return PTX_OP_CVT_ANY;
}

bool vgpu_ptx_dec_cvt(struct ptx_dec *d)
{
    enum ptx_type dt, st;
    unsigned d_bytes, s_bytes;
    if (vgpu_ptx_mod(d, "pack"))
        return vgpu_ptx_dec_cvt_pack(d);
    unsigned round = vgpu_ptx_mod_round(d);
    take_ftz_sat(d);
    if (!vgpu_ptx_mod_type(d, &dt) || !vgpu_ptx_mod_type(d, &st))
        return false;
    static const bool bits[PTX_TYPES] = {[PTX_PRED] = true, [PTX_B8] = true,    [PTX_B16] = true,
                                         [PTX_B32] = true,  [PTX_F16X2] = true, [PTX_B64] = true};
    if (bits[dt] || bits[st])
        return no_variant(d);
    bool to_int = !cvt_float(dt), from_int = !cvt_float(st);
    if (round && to_int && from_int)
        return vgpu_ptx_refuse(d, "an integer conversion does not round");
    if (to_int && !from_int && round < PTX_RND_NI)
        return vgpu_ptx_refuse(d, "floating point to integer wants .rni, .rzi, .rmi or .rpi");
    if (from_int && !to_int && (round == PTX_RND_NONE || round > PTX_RND_P))
        return vgpu_ptx_refuse(d, "integer to floating point wants .rn, .rz, .rm or .rp");
    if (!vgpu_ptx_want(d, 2) || !vgpu_ptx_dst_relaxed(d, 0, dt, &d->in.d, &d_bytes) ||
        !vgpu_ptx_src_relaxed(d, 1, st, &d->in.a, &s_bytes))
        return false;
    if (!to_int && d_bytes != vgpu_ptx_type_bytes(dt))
        return vgpu_ptx_refuse(d, "a floating-point result in a register of another width");
    unsigned op = pick_cvt(d, dt, st, round, d_bytes, s_bytes);
    if (op == PTX_OP_CVT_ANY) {
        d->in.sub = (uint8_t)st;
        d->in.size = (uint8_t)dt;
        d->in.vec = (uint8_t)round;
        d->in.flags |=
            (uint8_t)((d_bytes == 8 ? PTX_F_WIDE : 0) | (s_bytes == 8 ? PTX_F_ADDR32 : 0));
    }
    return vgpu_ptx_emit(d, op);
}
