/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Video instructions on whole words, halves and bytes. Selections of parts (a.b0, d.h1) and vshl,
 * vshr and vmad are refused: no compiler emits them for this device.
 */
#include "ptx_decode.h"

static bool take_sign(struct ptx_dec *d, unsigned flag)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t != PTX_U32 && t != PTX_S32)
        return vgpu_ptx_refuse(d, "not for this type");
    if (t == PTX_S32)
        d->in.flags |= (uint8_t)flag;
    return true;
}

/* arg: enum ptx_video, and the number of parts above it */
bool vgpu_ptx_dec_video(struct ptx_dec *d)
{
    static const char *const compare[] = {"eq", "ne", "lt", "le", "gt", "ge"};
    unsigned parts = d->arg >> 4, n = parts > 1 ? 3 : 2;
    d->in.sub = d->arg & 15;
    d->in.size = (uint8_t)parts;
    if (d->in.sub != PTX_VIDEO_SET && !take_sign(d, PTX_F_WIDE))
        return false;
    if (!take_sign(d, PTX_F_CCIN) || !take_sign(d, PTX_F_CCOUT))
        return false;
    if (d->in.sub == PTX_VIDEO_SET) {
        unsigned i = 0;
        while (i < 6 && !vgpu_ptx_mod(d, compare[i]))
            i++;
        if (i == 6)
            return vgpu_ptx_refuse(d, "no comparison that this device knows");
        d->in.imm = PTX_CMP_EQ + i;
    } else if (vgpu_ptx_mod(d, "sat")) {
        d->in.flags |= PTX_F_SAT;
    }
    if (vgpu_ptx_mod(d, "add"))
        d->in.vec = PTX_VIDEO_THEN_ADD;
    else
        d->in.vec = parts > 1                ? PTX_VIDEO_ALONE
                    : vgpu_ptx_mod(d, "min") ? PTX_VIDEO_THEN_MIN
                    : vgpu_ptx_mod(d, "max") ? PTX_VIDEO_THEN_MAX
                                             : PTX_VIDEO_ALONE;
    if (parts > 1 && d->in.vec && (d->in.flags & PTX_F_SAT))
        return vgpu_ptx_refuse(d, "what is added is not saturated");
    return vgpu_ptx_emit_alu(d, PTX_OP_VIDEO, PTX_B32, d->in.vec == PTX_VIDEO_ALONE ? n : 3);
}
