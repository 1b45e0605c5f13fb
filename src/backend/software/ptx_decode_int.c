/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer arithmetic, logic, shifts and bit fields; add, sub, mul, div, min, max, abs and neg of
 * every type. */
#include "ptx_decode.h"

static bool no_variant(struct ptx_dec *d)
{
    return vgpu_ptx_refuse(d, "not for this type");
}

/* add, sub (arg 1) */
bool vgpu_ptx_dec_addsub(struct ptx_dec *d)
{
    enum ptx_type t;
    bool sub = d->arg == 1;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) >= 0)
        return vgpu_ptx_dec_float2(d, sub ? PTX_OP_SUB_F32 : PTX_OP_ADD_F32,
                                   sub ? PTX_OP_RND_SUB_F32 : PTX_OP_RND_ADD_F32, t, 2);
    if (vgpu_ptx_is_half(t))
        return vgpu_ptx_dec_half(d, sub ? PTX_OP_SUB_F16 : PTX_OP_ADD_F16, t, 2);
    if (vgpu_ptx_variant_int(t) < 0)
        return no_variant(d);
    unsigned wide = (unsigned)vgpu_ptx_variant_width(t);
    if (vgpu_ptx_mod(d, "cc")) {
        d->in.flags |= PTX_F_CCOUT;
        if (vgpu_ptx_type_bytes(t) == 2)
            return no_variant(d);
        return vgpu_ptx_emit_alu(d, (sub ? PTX_OP_SUBC_32 : PTX_OP_ADDC_32) + wide, t, 2);
    }
    if (vgpu_ptx_mod(d, "sat"))
        return t == PTX_S32
                   ? vgpu_ptx_emit_alu(d, sub ? PTX_OP_SUBSAT_S32 : PTX_OP_ADDSAT_S32, t, 2)
                   : no_variant(d);
    return vgpu_ptx_emit_alu(d, (sub ? PTX_OP_SUB_32 : PTX_OP_ADD_32) + wide, t, 2);
}

/* addc, subc */
bool vgpu_ptx_dec_carry(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_int(t) < 2)
        return no_variant(d);
    d->in.flags |= PTX_F_CCIN;
    if (vgpu_ptx_mod(d, "cc"))
        d->in.flags |= PTX_F_CCOUT;
    return vgpu_ptx_emit_alu(d, d->arg + (unsigned)vgpu_ptx_variant_width(t), t, 2);
}

/* The wide forms: two narrow sources, one wide destination (and addend). */
static bool emit_wide(struct ptx_dec *d, unsigned op, enum ptx_type t, bool addend)
{
    int v = vgpu_ptx_variant_int(t);
    if (v < 0 || v > 3)
        return no_variant(d);
    enum ptx_type wide = v < 2 ? PTX_B32 : PTX_B64;
    return vgpu_ptx_want(d, addend ? 4 : 3) && vgpu_ptx_dst(d, 0, wide, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_src(d, 2, t, &d->in.b) &&
           (!addend || vgpu_ptx_src(d, 3, wide, &d->in.c)) && vgpu_ptx_emit(d, op + (unsigned)v);
}

bool vgpu_ptx_dec_mul(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) >= 0)
        return vgpu_ptx_dec_float2(d, PTX_OP_MUL_F32, PTX_OP_RND_MUL_F32, t, 2);
    if (vgpu_ptx_is_half(t))
        return vgpu_ptx_dec_half(d, PTX_OP_MUL_F16, t, 2);
    int v = vgpu_ptx_variant_int(t);
    if (v < 0)
        return no_variant(d);
    if (vgpu_ptx_mod(d, "wide"))
        return emit_wide(d, PTX_OP_MULWIDE_U16, t, false);
    if (vgpu_ptx_mod(d, "hi"))
        return vgpu_ptx_emit_alu(d, PTX_OP_MULHI_U16 + (unsigned)v, t, 2);
    if (!vgpu_ptx_mod(d, "lo"))
        return vgpu_ptx_refuse(d, "wants .lo, .hi or .wide");
    return vgpu_ptx_emit_alu(d, PTX_OP_MULLO_32 + (unsigned)vgpu_ptx_variant_width(t), t, 2);
}

/* mad, madc (arg 1) */
bool vgpu_ptx_dec_mad(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) >= 0 && d->arg == 0)
        return vgpu_ptx_dec_float2(d, PTX_OP_FMA_F32, PTX_OP_RND_FMA_F32, t, 3);
    int v = vgpu_ptx_variant_int(t);
    if (v < 0)
        return no_variant(d);
    if (vgpu_ptx_mod(d, "wide"))
        return emit_wide(d, PTX_OP_MADWIDE_U16, t, true);
    bool hi = vgpu_ptx_mod(d, "hi");
    if (!hi && !vgpu_ptx_mod(d, "lo"))
        return vgpu_ptx_refuse(d, "wants .lo, .hi or .wide");
    unsigned wide = (unsigned)vgpu_ptx_variant_width(t);
    bool cc = vgpu_ptx_mod(d, "cc");
    if (cc || d->arg == 1) {
        d->in.flags |= (uint8_t)((cc ? PTX_F_CCOUT : 0) | (d->arg == 1 ? PTX_F_CCIN : 0));
        if (v < 2)
            return no_variant(d);
        return vgpu_ptx_emit_alu(
            d, hi ? PTX_OP_MADCHI_U32 + (unsigned)v - 2 : PTX_OP_MADCLO_32 + wide, t, 3);
    }
    if (hi && t == PTX_S32 && vgpu_ptx_mod(d, "sat"))
        return vgpu_ptx_emit_alu(d, PTX_OP_MADHISAT_S32, t, 3);
    return vgpu_ptx_emit_alu(d, hi ? PTX_OP_MADHI_U16 + (unsigned)v : PTX_OP_MADLO_32 + wide, t, 3);
}

/* div, rem (arg 1) */
bool vgpu_ptx_dec_divrem(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) >= 0 && d->arg == 0) {
        /* .approx and .full may be less exact; the exact quotient is within their bounds. */
        if (t == PTX_F32 && !vgpu_ptx_mod(d, "approx"))
            vgpu_ptx_mod(d, "full");
        return vgpu_ptx_dec_float2(d, PTX_OP_DIV_F32, PTX_OP_RND_DIV_F32, t, 2);
    }
    int v = vgpu_ptx_variant_int(t);
    if (v < 0)
        return no_variant(d);
    return vgpu_ptx_emit_alu(d, (d->arg ? PTX_OP_REM_U16 : PTX_OP_DIV_U16) + (unsigned)v, t, 2);
}

/* min, max (arg 1) */
bool vgpu_ptx_dec_minmax(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) >= 0) {
        if (t == PTX_F32 && vgpu_ptx_mod(d, "ftz"))
            d->in.flags |= PTX_F_FTZ;
        return vgpu_ptx_emit_alu(d, (d->arg ? PTX_OP_MAX_F32 : PTX_OP_MIN_F32) + (t == PTX_F64), t,
                                 2);
    }
    int v = vgpu_ptx_variant_int(t);
    if (v < 0)
        return no_variant(d);
    return vgpu_ptx_emit_alu(d, (d->arg ? PTX_OP_MAX_U16 : PTX_OP_MIN_U16) + (unsigned)v, t, 2);
}

/* abs, neg (arg 1) */
bool vgpu_ptx_dec_sign(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (vgpu_ptx_variant_float(t) >= 0) {
        if (t == PTX_F32 && vgpu_ptx_mod(d, "ftz"))
            d->in.flags |= PTX_F_FTZ;
        return vgpu_ptx_emit_alu(d, (d->arg ? PTX_OP_NEG_F32 : PTX_OP_ABS_F32) + (t == PTX_F64), t,
                                 1);
    }
    if (vgpu_ptx_is_half(t))
        return vgpu_ptx_dec_half(d, d->arg ? PTX_OP_NEG_F16 : PTX_OP_ABS_F16, t, 1);
    int v = vgpu_ptx_variant_int(t);
    if (v < 0 || v % 2 == 0)
        return no_variant(d);
    if (d->arg)
        return vgpu_ptx_emit_alu(d, PTX_OP_NEG_32 + (unsigned)vgpu_ptx_variant_width(t), t, 1);
    return vgpu_ptx_emit_alu(d, PTX_OP_ABS_S16 + (unsigned)v / 2, t, 1);
}

/* mul24, mad24 (arg 1) */
bool vgpu_ptx_dec_mul24(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t != PTX_U32 && t != PTX_S32)
        return no_variant(d);
    bool hi = vgpu_ptx_mod(d, "hi");
    if (!hi && !vgpu_ptx_mod(d, "lo"))
        return vgpu_ptx_refuse(d, "wants .lo or .hi");
    if (d->arg && hi && t == PTX_S32 && vgpu_ptx_mod(d, "sat"))
        return vgpu_ptx_emit_alu(d, PTX_OP_MAD24HISAT_S32, t, 3);
    unsigned op = d->arg ? (hi ? PTX_OP_MAD24HI_U32 : PTX_OP_MAD24LO_U32)
                         : (hi ? PTX_OP_MUL24HI_U32 : PTX_OP_MUL24LO_U32);
    return vgpu_ptx_emit_alu(d, op + (t == PTX_S32), t, d->arg ? 3 : 2);
}

bool vgpu_ptx_dec_sad(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    int v = vgpu_ptx_variant_int(t);
    return v < 0 ? no_variant(d) : vgpu_ptx_emit_alu(d, PTX_OP_SAD_U16 + (unsigned)v, t, 3);
}

/* and, or, xor: arg is the 32-bit operation */
bool vgpu_ptx_dec_logic(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t == PTX_PRED) {
        unsigned op = d->arg == PTX_OP_AND_32  ? PTX_OP_PAND
                      : d->arg == PTX_OP_OR_32 ? PTX_OP_POR
                                               : PTX_OP_PXOR;
        return vgpu_ptx_want(d, 3) && vgpu_ptx_dst_pred(d, 0, &d->in.d) &&
               vgpu_ptx_src_pred(d, 1, &d->in.a) && vgpu_ptx_src_pred(d, 2, &d->in.b) &&
               vgpu_ptx_emit(d, op);
    }
    if (t != PTX_B16 && t != PTX_B32 && t != PTX_B64)
        return no_variant(d);
    return vgpu_ptx_emit_alu(d, d->arg + (t == PTX_B64), t, 2);
}

/* not, cnot: arg is the 32-bit operation */
bool vgpu_ptx_dec_not(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t == PTX_PRED && d->arg == PTX_OP_NOT_32)
        return vgpu_ptx_want(d, 2) && vgpu_ptx_dst_pred(d, 0, &d->in.d) &&
               vgpu_ptx_src_pred(d, 1, &d->in.a) && vgpu_ptx_emit(d, PTX_OP_PNOT);
    if (t != PTX_B16 && t != PTX_B32 && t != PTX_B64)
        return no_variant(d);
    if (d->arg == PTX_OP_CNOT_32 && t == PTX_B16)
        return vgpu_ptx_emit_alu(d, PTX_OP_CNOT_16, t, 1);
    return vgpu_ptx_emit_alu(d, d->arg + (t == PTX_B64), t, 1);
}

/* shl, shr (arg 1): the amount is 32 bits whatever the type */
bool vgpu_ptx_dec_shift(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    int v = vgpu_ptx_variant_int(t);
    if (v < 0)
        return no_variant(d);
    unsigned op = d->arg ? PTX_OP_SHR_U16 + (unsigned)v : PTX_OP_SHL_32 + (v > 3);
    return vgpu_ptx_want(d, 3) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_src(d, 2, PTX_B32, &d->in.b) &&
           vgpu_ptx_emit(d, op);
}

bool vgpu_ptx_dec_shf(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    bool left = vgpu_ptx_mod(d, "l");
    if (t != PTX_B32 || (!left && !vgpu_ptx_mod(d, "r")))
        return no_variant(d);
    bool clamp = vgpu_ptx_mod(d, "clamp");
    if (!clamp && !vgpu_ptx_mod(d, "wrap"))
        return vgpu_ptx_refuse(d, "wants .clamp or .wrap");
    unsigned op = left ? (clamp ? PTX_OP_SHF_L_CLAMP : PTX_OP_SHF_L_WRAP)
                       : (clamp ? PTX_OP_SHF_R_CLAMP : PTX_OP_SHF_R_WRAP);
    return vgpu_ptx_emit_alu(d, op, t, 3);
}

/* bfind (arg 0), and popc, clz, brev: arg is the 32-bit operation */
bool vgpu_ptx_dec_bits(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    int v = vgpu_ptx_variant_int(t);
    unsigned op = d->arg;
    if (v < 2 || (op && t != PTX_B32 && t != PTX_B64))
        return no_variant(d);
    if (op == 0) {
        d->in.sub = vgpu_ptx_mod(d, "shiftamt");
        op = PTX_OP_BFIND_U32 + (unsigned)v - 2;
    } else {
        op += t == PTX_B64;
    }
    enum ptx_type to = d->arg == PTX_OP_BREV_32 ? t : PTX_B32;
    return vgpu_ptx_want(d, 2) && vgpu_ptx_dst(d, 0, to, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_emit(d, op);
}

/* bfe, bfi (arg 1) */
bool vgpu_ptx_dec_bfield(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    int v = vgpu_ptx_variant_int(t);
    if (v < 2)
        return no_variant(d);
    if (d->arg)
        return vgpu_ptx_want(d, 5) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
               vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_src(d, 2, t, &d->in.b) &&
               vgpu_ptx_src(d, 3, PTX_B32, &d->in.c) && vgpu_ptx_src(d, 4, PTX_B32, &d->in.e) &&
               vgpu_ptx_emit(d, PTX_OP_BFI_32 + (v > 3));
    return vgpu_ptx_want(d, 4) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_src(d, 2, PTX_B32, &d->in.b) &&
           vgpu_ptx_src(d, 3, PTX_B32, &d->in.c) &&
           vgpu_ptx_emit(d, PTX_OP_BFE_U32 + (unsigned)v - 2);
}

bool vgpu_ptx_dec_prmt(struct ptx_dec *d)
{
    static const char *const modes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    for (unsigned i = 0; i < 6; i++)
        if (vgpu_ptx_mod(d, modes[i]))
            d->in.sub = (uint8_t)(i + 1);
    return t == PTX_B32 ? vgpu_ptx_emit_alu(d, PTX_OP_PRMT, t, 3) : no_variant(d);
}

bool vgpu_ptx_dec_lop3(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t != PTX_B32)
        return no_variant(d);
    if (vgpu_ptx_mod(d, "and"))
        return vgpu_ptx_dec_lop3_pred(d, PTX_BOOL_AND);
    if (vgpu_ptx_mod(d, "or"))
        return vgpu_ptx_dec_lop3_pred(d, PTX_BOOL_OR);
    if (!vgpu_ptx_want(d, 5))
        return false;
    const struct ptx_operand *lut = &d->s->opds[4];
    if (lut->kind != PTX_OPD_INT || lut->value > 255)
        return vgpu_ptx_refuse(d, "the look-up table is a number from 0 to 255");
    d->in.sub = (uint8_t)lut->value;
    return vgpu_ptx_dst(d, 0, t, &d->in.d) && vgpu_ptx_src(d, 1, t, &d->in.a) &&
           vgpu_ptx_src(d, 2, t, &d->in.b) && vgpu_ptx_src(d, 3, t, &d->in.c) &&
           vgpu_ptx_emit(d, PTX_OP_LOP3);
}

/* dp4a, dp2a: arg is the operation */
bool vgpu_ptx_dec_dp(struct ptx_dec *d)
{
    enum ptx_type ta, tb;
    if (d->arg == PTX_OP_DP2A) {
        d->in.vec = vgpu_ptx_mod(d, "hi");
        if (!d->in.vec && !vgpu_ptx_mod(d, "lo"))
            return vgpu_ptx_refuse(d, "wants .lo or .hi");
    }
    if (!vgpu_ptx_mod_type(d, &ta) || !vgpu_ptx_mod_type(d, &tb))
        return false;
    if ((ta != PTX_U32 && ta != PTX_S32) || (tb != PTX_U32 && tb != PTX_S32))
        return no_variant(d);
    d->in.sub = (uint8_t)((ta == PTX_S32) | (tb == PTX_S32) << 1);
    return vgpu_ptx_emit_alu(d, d->arg, PTX_B32, 3);
}
