/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bmsk, szext, fns, lop3 with a predicate and cvt.pack. */
#include "ptx_decode.h"

#include <string.h>

/* `.clamp` or `.wrap` */
static bool take_clamp(struct ptx_dec *d, bool *clamp)
{
    *clamp = vgpu_ptx_mod(d, "clamp");
    return *clamp || vgpu_ptx_mod(d, "wrap") || vgpu_ptx_refuse(d, "wants .clamp or .wrap");
}

bool vgpu_ptx_dec_bmsk(struct ptx_dec *d)
{
    enum ptx_type t;
    bool clamp;
    if (!take_clamp(d, &clamp) || !vgpu_ptx_mod_type(d, &t))
        return false;
    d->in.sub = clamp;
    return t == PTX_B32 ? vgpu_ptx_emit_alu(d, PTX_OP_BMSK, t, 2)
                        : vgpu_ptx_refuse(d, "not for this type");
}

bool vgpu_ptx_dec_szext(struct ptx_dec *d)
{
    enum ptx_type t;
    bool clamp;
    if (!take_clamp(d, &clamp) || !vgpu_ptx_mod_type(d, &t))
        return false;
    d->in.sub = (uint8_t)(clamp | (t == PTX_S32) << 1);
    return t == PTX_U32 || t == PTX_S32 ? vgpu_ptx_emit_alu(d, PTX_OP_SZEXT, t, 2)
                                        : vgpu_ptx_refuse(d, "not for this type");
}

bool vgpu_ptx_dec_fns(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    return t == PTX_B32 ? vgpu_ptx_emit_alu(d, PTX_OP_FNS, t, 3)
                        : vgpu_ptx_refuse(d, "not for this type");
}

/* lop3.and.b32 d|p, a, b, c, table, q; the token of the type has been taken, in.sub is the table */
bool vgpu_ptx_dec_lop3_pred(struct ptx_dec *d, enum ptx_bool with)
{
    int32_t p;
    d->in.vec = (uint8_t)with;
    if (!d->s->opds[0].paired)
        return vgpu_ptx_refuse(d, "wants two destinations, d|p");
    if (!vgpu_ptx_want(d, 7) || !vgpu_ptx_dst_pred(d, 1, &p))
        return false;
    d->in.imm = p;
    const struct ptx_operand *lut = &d->s->opds[5];
    if (lut->kind != PTX_OPD_INT || lut->value > 255)
        return vgpu_ptx_refuse(d, "the look-up table is a number from 0 to 255");
    d->in.sub = (uint8_t)lut->value;
    return vgpu_ptx_dst(d, 0, PTX_B32, &d->in.d) && vgpu_ptx_src(d, 2, PTX_B32, &d->in.a) &&
           vgpu_ptx_src(d, 3, PTX_B32, &d->in.b) && vgpu_ptx_src(d, 4, PTX_B32, &d->in.c) &&
           vgpu_ptx_src_pred(d, 6, &d->in.e) && vgpu_ptx_emit(d, PTX_OP_LOP3P);
}

/* cvt.pack.sat.TYPE.s32 d, a, b, and with a third source behind .b32 for the narrow types */
bool vgpu_ptx_dec_cvt_pack(struct ptx_dec *d)
{
    static const struct {
        const char *name;
        uint8_t bits, is_signed;
    } to[] = {{"u16", 16, 0}, {"s16", 16, 1}, {"u8", 8, 0}, {"s8", 8, 1},
              {"u4", 4, 0},   {"s4", 4, 1},   {"u2", 2, 0}, {"s2", 2, 1}};
    unsigned i;
    if (!vgpu_ptx_mod(d, "sat"))
        return vgpu_ptx_refuse(d, "wants .sat");
    for (i = 0; i < 8 && !vgpu_ptx_mod(d, to[i].name); i++)
        ;
    if (i == 8 || !vgpu_ptx_mod(d, "s32") || (to[i].bits < 16 && !vgpu_ptx_mod(d, "b32")))
        return vgpu_ptx_refuse(d, "not for these types");
    d->in.size = to[i].bits;
    d->in.sub = to[i].is_signed;
    return vgpu_ptx_emit_alu(d, PTX_OP_CVT_PACK, PTX_B32, to[i].bits < 16 ? 3 : 2);
}
