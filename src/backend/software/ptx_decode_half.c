/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Half precision: what its instructions allow beside the type (PTX ISA, "Half Precision Floating
 * Point Instructions" and "Half Precision Comparison Instructions"). */
#include "ptx_decode.h"

bool vgpu_ptx_is_half(enum ptx_type t)
{
    return t == PTX_F16 || t == PTX_F16X2;
}

bool vgpu_ptx_dec_half(struct ptx_dec *d, unsigned op, enum ptx_type t, unsigned n)
{
    bool approx = op >= PTX_OP_EX2_F16 && op <= PTX_OP_TANH_F16X2;
    unsigned round = n > 1 ? vgpu_ptx_mod_round(d) : PTX_RND_NONE;
    if (round > PTX_RND_N)
        return vgpu_ptx_refuse(d, "halves are rounded to nearest even only");
    if (n == 3 && round != PTX_RND_N)
        return vgpu_ptx_refuse(d, "fma wants .rn");
    if (!approx && vgpu_ptx_mod(d, "ftz"))
        d->in.flags |= PTX_F_FTZ;
    if (n > 1 && vgpu_ptx_mod(d, "sat"))
        d->in.flags |= PTX_F_SAT;
    return vgpu_ptx_emit_alu(d, op + (t == PTX_F16X2), t, n);
}

/*
 * set's destination (PTX ISA, "set"): 1.0 or all ones in in.imm. For .f16x2 that is each half's, in
 * a destination of 32 bits.
 */
bool vgpu_ptx_dec_set_type(struct ptx_dec *d, enum ptx_type to, enum ptx_type from)
{
    bool packed = from == PTX_F16X2;
    bool ok = to == PTX_U32 || to == PTX_S32;
    d->in.imm = packed ? 0xffff : UINT32_MAX;
    if (to == PTX_F32) {
        ok = !vgpu_ptx_is_half(from);
        d->in.imm = 0x3f800000;
    } else if (to == PTX_F16 || to == PTX_F16X2) {
        ok = packed == (to == PTX_F16X2);
        d->in.imm = 0x3c00;
    } else if (to == PTX_U16 || to == PTX_S16) {
        ok = from == PTX_F16;
    }
    return ok || vgpu_ptx_refuse(d, "not for this type");
}
