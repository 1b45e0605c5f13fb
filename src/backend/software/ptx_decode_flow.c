/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Branches, exits, barriers, fences, and what lanes of a warp do together. */
#include "ptx_decode.h"

bool vgpu_ptx_dec_bra(struct ptx_dec *d)
{
    vgpu_ptx_mod(d, "uni");
    const struct ptx_operand *o = &d->s->opds[0];
    if (!vgpu_ptx_want(d, 1))
        return false;
    if (o->kind != PTX_OPD_NAME)
        return vgpu_ptx_refuse(d, "a label belongs here");
    struct ptx_pending *pending = vgpu_ptx_vec_push(d->p->budget, &d->p->pending, sizeof(*pending));
    if (!pending)
        return vgpu_ptx_fail_memory(d->p);
    pending->name = o->text;
    pending->len = o->len;
    pending->line = d->s->line;
    pending->at = (uint32_t)d->p->module->code.count;
    d->in.kind = PTX_KIND_BRA;
    return vgpu_ptx_emit(d, PTX_OP_NOP);
}

/* exit, ret (arg 1): in an entry they are the same */
bool vgpu_ptx_dec_exit(struct ptx_dec *d)
{
    vgpu_ptx_mod(d, "uni");
    d->in.kind = d->arg == 1 && !d->p->fn->is_entry ? PTX_KIND_RET : PTX_KIND_EXIT;
    return vgpu_ptx_want(d, 0) && vgpu_ptx_emit(d, PTX_OP_NOP);
}

bool vgpu_ptx_dec_trap(struct ptx_dec *d)
{
    d->in.kind = PTX_KIND_TRAP;
    return vgpu_ptx_want(d, 0) && vgpu_ptx_emit(d, PTX_OP_NOP);
}

/* A member mask, and the wait for its lanes. */
static bool take_members(struct ptx_dec *d, unsigned i, bool sync)
{
    if (!sync)
        return vgpu_ptx_const_row(d->p, UINT32_MAX, false, &d->in.e);
    d->in.kind = PTX_KIND_WARPSYNC;
    return vgpu_ptx_src(d, i, PTX_B32, &d->in.e);
}

static bool take_barrier(struct ptx_dec *d, unsigned i)
{
    const struct ptx_operand *o = &d->s->opds[i];
    if (i < d->s->opd_count && o->kind == PTX_OPD_INT && o->value >= PTX_MAX_BARRIERS)
        return vgpu_ptx_refuse(d, "barriers are numbered 0 to 15");
    return vgpu_ptx_src(d, i, PTX_B32, &d->in.a);
}

/* bar, barrier (arg 1): a barrier, b thread count if flags say so, c predicate, sub enum ptx_bar */
bool vgpu_ptx_dec_bar(struct ptx_dec *d)
{
    enum ptx_type t = PTX_NOTYPE;
    unsigned at = 0, n = d->s->opd_count;
    if (d->arg == 0 && vgpu_ptx_mod(d, "warp")) {
        if (!vgpu_ptx_mod(d, "sync"))
            return vgpu_ptx_refuse(d, "bar.warp wants .sync");
        return vgpu_ptx_want(d, 1) && take_members(d, 0, true) && vgpu_ptx_emit(d, PTX_OP_FENCE);
    }
    vgpu_ptx_mod(d, "cta");
    vgpu_ptx_mod(d, "aligned");
    d->in.kind = PTX_KIND_BAR;
    d->in.d = PTX_SINK_ROW;
    if (vgpu_ptx_mod(d, "sync")) {
        d->in.sub = PTX_BAR_SYNC;
    } else if (vgpu_ptx_mod(d, "arrive")) {
        d->in.sub = PTX_BAR_ARRIVE;
        if (n != 2)
            return vgpu_ptx_refuse(d, "arrive wants a barrier and a thread count");
    } else if (vgpu_ptx_mod(d, "red")) {
        d->in.sub = vgpu_ptx_mod(d, "popc")  ? PTX_BAR_POPC
                    : vgpu_ptx_mod(d, "and") ? PTX_BAR_AND
                    : vgpu_ptx_mod(d, "or")  ? PTX_BAR_OR
                                             : PTX_BAR_SYNC;
        if (d->in.sub == PTX_BAR_SYNC || !vgpu_ptx_mod_type(d, &t))
            return vgpu_ptx_refuse(d, "wants .popc.u32, .and.pred or .or.pred");
        if (d->in.sub == PTX_BAR_POPC ? t != PTX_U32 || !vgpu_ptx_dst(d, 0, PTX_U32, &d->in.d)
                                      : t != PTX_PRED || !vgpu_ptx_dst_pred(d, 0, &d->in.d))
            return vgpu_ptx_refuse(d, "not for this type");
        if (n < 3 || !vgpu_ptx_src_pred(d, --n, &d->in.c))
            return vgpu_ptx_refuse(d, "a predicate belongs at the end");
        at = 1;
    } else {
        return vgpu_ptx_refuse(d, "wants .sync, .arrive or .red");
    }
    if (n < at + 1 || n > at + 2)
        return vgpu_ptx_refuse(d, "wrong number of operands");
    if (!take_barrier(d, at))
        return false;
    if (n == at + 2) {
        d->in.flags |= PTX_F_CCIN;
        if (!vgpu_ptx_src(d, at + 1, PTX_B32, &d->in.b))
            return false;
    }
    return vgpu_ptx_emit(d, PTX_OP_NOP);
}

bool vgpu_ptx_dec_fence(struct ptx_dec *d)
{
    static const char *const names[] = {"sc",  "acq_rel", "acquire", "release", "cta",  "cluster",
                                        "gpu", "gl",      "sys",     "proxy",   "alias"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        vgpu_ptx_mod(d, names[i]);
    return vgpu_ptx_want(d, 0) && vgpu_ptx_emit(d, PTX_OP_FENCE);
}

/* nanosleep may return at once; pmevent counts for a profiler there is not. */
bool vgpu_ptx_dec_nanosleep(struct ptx_dec *d)
{
    (void)(vgpu_ptx_mod(d, "u32") || vgpu_ptx_mod(d, "mask"));
    return vgpu_ptx_want(d, 1) && vgpu_ptx_src(d, 0, PTX_B32, &d->in.a) &&
           vgpu_ptx_emit(d, PTX_OP_NOP);
}

bool vgpu_ptx_dec_vote(struct ptx_dec *d)
{
    static const char *const names[] = {"all", "any", "uni", "ballot"};
    enum ptx_type t;
    unsigned mode;
    bool sync = vgpu_ptx_mod(d, "sync");
    for (mode = 0; mode < 4 && !vgpu_ptx_mod(d, names[mode]); mode++)
        ;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (mode == 4 || t != (mode == PTX_VOTE_BALLOT ? PTX_B32 : PTX_PRED))
        return vgpu_ptx_refuse(d, "not for this type");
    d->in.sub = (uint8_t)mode;
    if (!vgpu_ptx_want(d, sync ? 3 : 2))
        return false;
    if (mode == PTX_VOTE_BALLOT ? !vgpu_ptx_dst(d, 0, PTX_B32, &d->in.d)
                                : !vgpu_ptx_dst_pred(d, 0, &d->in.d))
        return false;
    return vgpu_ptx_src_pred(d, 1, &d->in.c) && take_members(d, 2, sync) &&
           vgpu_ptx_emit(d, PTX_OP_VOTE);
}

bool vgpu_ptx_dec_shfl(struct ptx_dec *d)
{
    static const char *const names[] = {"up", "down", "bfly", "idx"};
    enum ptx_type t;
    unsigned mode, at = 1;
    int32_t p = PTX_PRED_SINK;
    bool sync = vgpu_ptx_mod(d, "sync");
    for (mode = 0; mode < 4 && !vgpu_ptx_mod(d, names[mode]); mode++)
        ;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (mode == 4 || t != PTX_B32)
        return vgpu_ptx_refuse(d, "not for this type");
    d->in.sub = (uint8_t)mode;
    if (!vgpu_ptx_dst(d, 0, PTX_B32, &d->in.d))
        return false;
    if (d->s->opds[0].paired && !vgpu_ptx_dst_pred(d, at++, &p))
        return false;
    d->in.imm = p;
    return vgpu_ptx_want(d, at + (sync ? 4 : 3)) && vgpu_ptx_src(d, at, PTX_B32, &d->in.a) &&
           vgpu_ptx_src(d, at + 1, PTX_B32, &d->in.b) &&
           vgpu_ptx_src(d, at + 2, PTX_B32, &d->in.c) && take_members(d, at + 3, sync) &&
           vgpu_ptx_emit(d, PTX_OP_SHFL);
}

bool vgpu_ptx_dec_match(struct ptx_dec *d)
{
    enum ptx_type t;
    unsigned at = 1;
    int32_t p = PTX_PRED_SINK;
    bool all = vgpu_ptx_mod(d, "all");
    if (!all && !vgpu_ptx_mod(d, "any"))
        return vgpu_ptx_refuse(d, "wants .any or .all");
    if (!vgpu_ptx_mod(d, "sync") || !vgpu_ptx_mod_type(d, &t))
        return vgpu_ptx_refuse(d, "wants .sync and a type");
    if (t != PTX_B32 && t != PTX_B64)
        return vgpu_ptx_refuse(d, "not for this type");
    d->in.sub = all ? PTX_MATCH_ALL : PTX_MATCH_ANY;
    if (!vgpu_ptx_dst(d, 0, PTX_B32, &d->in.d))
        return false;
    if (all && d->s->opds[0].paired && !vgpu_ptx_dst_pred(d, at++, &p))
        return false;
    d->in.imm = p;
    return vgpu_ptx_want(d, at + 2) && vgpu_ptx_src(d, at, t, &d->in.a) &&
           take_members(d, at + 1, true) && vgpu_ptx_emit(d, PTX_OP_MATCH_32 + (t == PTX_B64));
}

bool vgpu_ptx_dec_activemask(struct ptx_dec *d)
{
    vgpu_ptx_mod(d, "b32");
    return vgpu_ptx_want(d, 1) && vgpu_ptx_dst(d, 0, PTX_B32, &d->in.d) &&
           vgpu_ptx_emit(d, PTX_OP_ACTIVEMASK);
}
