/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From an instruction as written to one that runs: the opcode table and what all decoders share. An
 * opcode, modifier or operand that is not understood is refused here, at load, never skipped.
 */
#include "ptx_decode.h"

#include <string.h>

static const struct {
    const char *name;
    ptx_decoder decode;
    unsigned arg;
} opcodes[] = {
    {"abs", vgpu_ptx_dec_sign, 0},
    {"activemask", vgpu_ptx_dec_activemask, 0},
    {"add", vgpu_ptx_dec_addsub, 0},
    {"addc", vgpu_ptx_dec_carry, PTX_OP_ADDC_32},
    {"alloca", vgpu_ptx_dec_stack, PTX_OP_ALLOCA},
    {"and", vgpu_ptx_dec_logic, PTX_OP_AND_32},
    {"atom", vgpu_ptx_dec_atom, 1},
    {"bar", vgpu_ptx_dec_bar, 0},
    {"barrier", vgpu_ptx_dec_bar, 1},
    {"bfe", vgpu_ptx_dec_bfield, 0},
    {"bfi", vgpu_ptx_dec_bfield, 1},
    {"bfind", vgpu_ptx_dec_bits, 0},
    {"bmsk", vgpu_ptx_dec_bmsk, 0},
    {"bra", vgpu_ptx_dec_bra, 0},
    {"brev", vgpu_ptx_dec_bits, PTX_OP_BREV_32},
    {"brkpt", vgpu_ptx_dec_trap, 0},
    {"brx", vgpu_ptx_dec_brx, 0},
    {"clz", vgpu_ptx_dec_bits, PTX_OP_CLZ_32},
    {"cnot", vgpu_ptx_dec_not, PTX_OP_CNOT_32},
    {"copysign", vgpu_ptx_dec_copysign, 0},
    {"cos", vgpu_ptx_dec_approx, PTX_OP_COS_F32},
    {"cvt", vgpu_ptx_dec_cvt, 0},
    {"cvta", vgpu_ptx_dec_cvta, 0},
    {"div", vgpu_ptx_dec_divrem, 0},
    {"dp2a", vgpu_ptx_dec_dp, PTX_OP_DP2A},
    {"dp4a", vgpu_ptx_dec_dp, PTX_OP_DP4A},
    {"ex2", vgpu_ptx_dec_approx, PTX_OP_EX2_F32},
    {"exit", vgpu_ptx_dec_exit, 0},
    {"fence", vgpu_ptx_dec_fence, 0},
    {"fma", vgpu_ptx_dec_fma, 0},
    {"fns", vgpu_ptx_dec_fns, 0},
    {"isspacep", vgpu_ptx_dec_isspacep, 0},
    {"ld", vgpu_ptx_dec_ld, 0},
    {"ldu", vgpu_ptx_dec_ld, 0},
    {"lg2", vgpu_ptx_dec_approx, PTX_OP_LG2_F32},
    {"lop3", vgpu_ptx_dec_lop3, 0},
    {"mad", vgpu_ptx_dec_mad, 0},
    {"mad24", vgpu_ptx_dec_mul24, 1},
    {"madc", vgpu_ptx_dec_mad, 1},
    {"match", vgpu_ptx_dec_match, 0},
    {"max", vgpu_ptx_dec_minmax, 1},
    {"membar", vgpu_ptx_dec_fence, 0},
    {"min", vgpu_ptx_dec_minmax, 0},
    {"mov", vgpu_ptx_dec_mov, 0},
    {"mul", vgpu_ptx_dec_mul, 0},
    {"mul24", vgpu_ptx_dec_mul24, 0},
    {"nanosleep", vgpu_ptx_dec_nanosleep, 0},
    {"neg", vgpu_ptx_dec_sign, 1},
    {"not", vgpu_ptx_dec_not, PTX_OP_NOT_32},
    {"or", vgpu_ptx_dec_logic, PTX_OP_OR_32},
    {"pmevent", vgpu_ptx_dec_nanosleep, 0},
    {"popc", vgpu_ptx_dec_bits, PTX_OP_POPC_32},
    {"prefetch", vgpu_ptx_dec_prefetch, 0},
    {"prefetchu", vgpu_ptx_dec_prefetch, 0},
    {"prmt", vgpu_ptx_dec_prmt, 0},
    {"rcp", vgpu_ptx_dec_unary, PTX_OP_RCP_F32},
    {"red", vgpu_ptx_dec_atom, 0},
    {"rem", vgpu_ptx_dec_divrem, 1},
    {"ret", vgpu_ptx_dec_exit, 1},
    {"rsqrt", vgpu_ptx_dec_unary, PTX_OP_RSQRT_F32},
    {"sad", vgpu_ptx_dec_sad, 0},
    {"selp", vgpu_ptx_dec_selp, 0},
    {"set", vgpu_ptx_dec_setp, 1},
    {"setp", vgpu_ptx_dec_setp, 0},
    {"shf", vgpu_ptx_dec_shf, 0},
    {"shfl", vgpu_ptx_dec_shfl, 0},
    {"shl", vgpu_ptx_dec_shift, 0},
    {"shr", vgpu_ptx_dec_shift, 1},
    {"sin", vgpu_ptx_dec_approx, PTX_OP_SIN_F32},
    {"slct", vgpu_ptx_dec_slct, 0},
    {"sqrt", vgpu_ptx_dec_unary, PTX_OP_SQRT_F32},
    {"st", vgpu_ptx_dec_st, 0},
    {"stackrestore", vgpu_ptx_dec_stack, PTX_OP_STACKRESTORE},
    {"stacksave", vgpu_ptx_dec_stack, PTX_OP_STACKSAVE},
    {"sub", vgpu_ptx_dec_addsub, 1},
    {"subc", vgpu_ptx_dec_carry, PTX_OP_SUBC_32},
    {"suld", vgpu_ptx_dec_suld, 0},
    {"suq", vgpu_ptx_dec_txq, 1},
    {"sust", vgpu_ptx_dec_sust, 0},
    {"szext", vgpu_ptx_dec_szext, 0},
    {"tanh", vgpu_ptx_dec_approx, PTX_OP_TANH_F32},
    {"testp", vgpu_ptx_dec_testp, 0},
    {"tex", vgpu_ptx_dec_tex, 0},
    {"tld4", vgpu_ptx_dec_tex, 1},
    {"trap", vgpu_ptx_dec_trap, 0},
    {"txq", vgpu_ptx_dec_txq, 0},
    {"vabsdiff", vgpu_ptx_dec_video, PTX_VIDEO_ABSDIFF | 1 << 4},
    {"vabsdiff2", vgpu_ptx_dec_video, PTX_VIDEO_ABSDIFF | 2 << 4},
    {"vabsdiff4", vgpu_ptx_dec_video, PTX_VIDEO_ABSDIFF | 4 << 4},
    {"vadd", vgpu_ptx_dec_video, PTX_VIDEO_ADD | 1 << 4},
    {"vadd2", vgpu_ptx_dec_video, PTX_VIDEO_ADD | 2 << 4},
    {"vadd4", vgpu_ptx_dec_video, PTX_VIDEO_ADD | 4 << 4},
    {"vavrg2", vgpu_ptx_dec_video, PTX_VIDEO_AVRG | 2 << 4},
    {"vavrg4", vgpu_ptx_dec_video, PTX_VIDEO_AVRG | 4 << 4},
    {"vmax", vgpu_ptx_dec_video, PTX_VIDEO_MAX | 1 << 4},
    {"vmax2", vgpu_ptx_dec_video, PTX_VIDEO_MAX | 2 << 4},
    {"vmax4", vgpu_ptx_dec_video, PTX_VIDEO_MAX | 4 << 4},
    {"vmin", vgpu_ptx_dec_video, PTX_VIDEO_MIN | 1 << 4},
    {"vmin2", vgpu_ptx_dec_video, PTX_VIDEO_MIN | 2 << 4},
    {"vmin4", vgpu_ptx_dec_video, PTX_VIDEO_MIN | 4 << 4},
    {"vote", vgpu_ptx_dec_vote, 0},
    {"vset", vgpu_ptx_dec_video, PTX_VIDEO_SET | 1 << 4},
    {"vset2", vgpu_ptx_dec_video, PTX_VIDEO_SET | 2 << 4},
    {"vset4", vgpu_ptx_dec_video, PTX_VIDEO_SET | 4 << 4},
    {"vsub", vgpu_ptx_dec_video, PTX_VIDEO_SUB | 1 << 4},
    {"vsub2", vgpu_ptx_dec_video, PTX_VIDEO_SUB | 2 << 4},
    {"vsub4", vgpu_ptx_dec_video, PTX_VIDEO_SUB | 4 << 4},
    {"xor", vgpu_ptx_dec_logic, PTX_OP_XOR_32},
};

bool vgpu_ptx_refuse(struct ptx_dec *d, const char *why)
{
    const char *text = d->s->text;
    int len = 0;
    while (len < 80 && text + len < d->p->lx.end && text[len] && text[len] != ';' &&
           text[len] != '\n')
        len++;
    return vgpu_ptx_fail(d->p, CUDA_ERROR_INVALID_PTX, d->s->line, "'%.*s': %s", len, text, why);
}

static bool is_name(const struct ptx_mod *m, const char *name)
{
    return strncmp(m->text, name, m->len) == 0 && name[m->len] == 0;
}

bool vgpu_ptx_mod(struct ptx_dec *d, const char *name)
{
    for (unsigned i = 0; i < d->s->mod_count; i++) {
        struct ptx_mod *m = &d->s->mods[i];
        if (!m->used && is_name(m, name)) {
            m->used = true;
            return true;
        }
    }
    return false;
}

bool vgpu_ptx_mod_type(struct ptx_dec *d, enum ptx_type *t)
{
    for (unsigned i = 0; i < d->s->mod_count; i++) {
        struct ptx_mod *m = &d->s->mods[i];
        if (!m->used && vgpu_ptx_type_by_name(m->text, m->len, t)) {
            m->used = true;
            return true;
        }
    }
    for (unsigned i = 0; i < d->s->mod_count; i++)
        if (is_name(&d->s->mods[i], "bf16") || is_name(&d->s->mods[i], "bf16x2") ||
            is_name(&d->s->mods[i], "tf32"))
            return vgpu_ptx_refuse(d, "this type comes with sm_80, and this device is sm_75");
    return vgpu_ptx_refuse(d, "no type that this device knows");
}

unsigned vgpu_ptx_mod_round(struct ptx_dec *d)
{
    static const char *const names[] = {"rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi"};
    for (unsigned i = 0; i < 8; i++)
        if (vgpu_ptx_mod(d, names[i]))
            return PTX_RND_N + i;
    return PTX_RND_NONE;
}

int vgpu_ptx_variant_int(enum ptx_type t)
{
    switch (t) {
    case PTX_U16:
    case PTX_B16:
        return 0;
    case PTX_S16:
        return 1;
    case PTX_U32:
    case PTX_B32:
        return 2;
    case PTX_S32:
        return 3;
    case PTX_U64:
    case PTX_B64:
        return 4;
    case PTX_S64:
        return 5;
    default:
        return -1;
    }
}

int vgpu_ptx_variant_width(enum ptx_type t)
{
    uint32_t bytes = vgpu_ptx_type_bytes(t);
    return bytes == 2 || bytes == 4 ? 0 : bytes == 8 ? 1 : -1;
}

int vgpu_ptx_variant_float(enum ptx_type t)
{
    return t == PTX_F32 ? 0 : t == PTX_F64 ? 1 : -1;
}

bool vgpu_ptx_want(struct ptx_dec *d, unsigned operands)
{
    return d->s->opd_count == operands || vgpu_ptx_refuse(d, "wrong number of operands");
}

/* `offset` from where the frame of a called function begins, which each lane knows for itself. */
static bool frame_row(struct ptx_dec *d, uint64_t offset, bool wide, int32_t *row)
{
    struct ptx_insn saved = d->in;
    int32_t sum = 0, base = 0; /* `row` may point into d->in */
    if (!vgpu_ptx_sreg_row(d->p, PTX_SR_LOCAL_BASE, &base) || !vgpu_ptx_new_row(d->p, true, &sum))
        return false;
    memset(&d->in, 0, sizeof(d->in));
    d->in.d = sum;
    d->in.a = base;
    bool ok = vgpu_ptx_const_row(d->p, offset, true, &d->in.b) && vgpu_ptx_append(d, PTX_OP_ADD_64);
    if (ok && !wide) {
        memset(&d->in, 0, sizeof(d->in));
        d->in.a = sum;
        ok = vgpu_ptx_new_row(d->p, false, &d->in.d);
        sum = d->in.d;
        ok = ok && vgpu_ptx_append(d, PTX_OP_CVT_32_U64);
    }
    d->in = saved;
    *row = sum;
    return ok;
}

bool vgpu_ptx_sym_row(struct ptx_dec *d, const struct ptx_operand *o, bool wide, int32_t *row)
{
    const struct ptx_symbol *s = o->sym;
    uint64_t at = s->value;
    if (s->space == PTX_SPACE_SHARED && s->is_extern) {
        int32_t base;
        if (d->p->fn->shared_align_bytes < s->align)
            d->p->fn->shared_align_bytes = s->align;
        if (!vgpu_ptx_sreg_row(d->p, PTX_SR_DYN_BASE, &base))
            return false;
        /* The row is 64 bits wide; a 32-bit reader needs one of its own. */
        struct ptx_insn saved = d->in;
        int32_t sum; /* `row` may point into d->in */
        memset(&d->in, 0, sizeof(d->in));
        if (!vgpu_ptx_new_row(d->p, wide, &sum) ||
            !vgpu_ptx_const_row(d->p, o->value, true, &d->in.b))
            return false;
        d->in.d = sum;
        d->in.a = base;
        bool ok;
        if (wide)
            ok = vgpu_ptx_append(d, PTX_OP_ADD_64);
        else if (o->value == 0)
            ok = vgpu_ptx_append(d, PTX_OP_CVT_32_U64);
        else
            ok = vgpu_ptx_refuse(d, "an offset from .extern .shared in a 32-bit register");
        d->in = saved;
        *row = sum;
        return ok;
    }
    if (s->is_extern)
        return vgpu_ptx_refuse(d, "an .extern variable that no module defines");
    if (s->space == PTX_SPACE_SHARED) {
        if ((o->value + ((uint64_t)1 << 31)) >> 32)
            return vgpu_ptx_refuse(d, "an offset beyond all shared memory");
        return vgpu_ptx_shared_row(d->p, (uint32_t)s->index, (int32_t)o->value, wide, row);
    }
    if (s->space == PTX_SPACE_PARAM && s->index >= 0)
        return vgpu_ptx_param_on_stack(d, s, &at) && frame_row(d, at + o->value, wide, row);
    if (s->space == PTX_SPACE_LOCAL) {
        if (!vgpu_ptx_place(d->p, s, &at))
            return false;
        if (!d->p->fn->is_entry)
            return frame_row(d, at + o->value, wide, row);
    }
    return vgpu_ptx_const_row(d->p, at + o->value, wide, row);
}

/* An immediate as the bits of `t`. */
static bool immediate(struct ptx_dec *d, const struct ptx_operand *o, enum ptx_type t,
                      uint64_t *bits)
{
    *bits = o->value;
    if (o->kind == PTX_OPD_INT) {
        if (t == PTX_F32 || t == PTX_F64 || vgpu_ptx_is_half(t))
            return vgpu_ptx_refuse(d, "an integer where a floating-point value belongs");
        return true;
    }
    if (o->kind == PTX_OPD_F32) {
        if (t == PTX_F64) {
            uint32_t u = (uint32_t)o->value;
            float f;
            memcpy(&f, &u, sizeof(f));
            double v = (double)f;
            memcpy(bits, &v, sizeof(v));
        }
        return vgpu_ptx_type_bytes(t) >= 4 ||
               vgpu_ptx_refuse(d, "a 32-bit value for a narrower type");
    }
    if (t == PTX_F32) {
        double v;
        memcpy(&v, &o->value, sizeof(v));
        float f = (float)v;
        uint32_t u;
        memcpy(&u, &f, sizeof(u));
        *bits = u;
        return true;
    }
    return vgpu_ptx_type_bytes(t) == 8 || vgpu_ptx_refuse(d, "a 64-bit value for a narrower type");
}

bool vgpu_ptx_src_relaxed(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row,
                          unsigned *bytes)
{
    const struct ptx_operand *o = &d->s->opds[i];
    uint32_t want = vgpu_ptx_type_bytes(t);
    uint64_t bits;
    *bytes = want;
    switch (i < d->s->opd_count ? o->kind : PTX_OPD_NONE) {
    case PTX_OPD_REG:
        *row = o->index;
        *bytes = vgpu_ptx_type_bytes(o->type);
        return *bytes >= want || vgpu_ptx_refuse(d, "a register narrower than the type");
    case PTX_OPD_INT:
    case PTX_OPD_F32:
    case PTX_OPD_F64:
        return immediate(d, o, t, &bits) && vgpu_ptx_const_row(d->p, bits, want == 8, row);
    case PTX_OPD_SYM:
        if (want < 4)
            return vgpu_ptx_refuse(d, "an address does not fit the type");
        return vgpu_ptx_sym_row(d, o, want == 8, row);
    case PTX_OPD_SREG:
        if (o->index >= PTX_SR_ROWS)
            return vgpu_ptx_refuse(d, "clocks can only be moved");
        *bytes = o->index >= PTX_SR_GRIDID ? 8 : 4;
        if (*bytes < want)
            return vgpu_ptx_refuse(d, "a special register narrower than the type");
        return vgpu_ptx_sreg_row(d->p, (enum ptx_sreg)o->index, row);
    case PTX_OPD_NAME:
        if (want == 8 && vgpu_ptx_function_address(d->p, o->text, o->len, d->s->line, &bits))
            return vgpu_ptx_const_row(d->p, bits, true, row);
        return d->p->failed ? false
                            : vgpu_ptx_fail(d->p, CUDA_ERROR_INVALID_PTX, d->s->line,
                                            "'%.*s' is not declared",
                                            (int)(o->len > 100 ? 100 : o->len), o->text);
    default:
        return vgpu_ptx_refuse(d, "an operand that this instruction cannot read");
    }
}

bool vgpu_ptx_src(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row)
{
    unsigned bytes;
    if (!vgpu_ptx_src_relaxed(d, i, t, row, &bytes))
        return false;
    if (d->s->opds[i].kind == PTX_OPD_SREG)
        return (bytes == 8) == (vgpu_ptx_type_bytes(t) == 8) ||
               vgpu_ptx_refuse(d, "a special register of another width");
    return bytes == vgpu_ptx_type_bytes(t) ||
           vgpu_ptx_refuse(d, "a register of another width than the type");
}

bool vgpu_ptx_dst_relaxed(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row,
                          unsigned *bytes)
{
    const struct ptx_operand *o = &d->s->opds[i];
    *bytes = vgpu_ptx_type_bytes(t);
    if (i < d->s->opd_count && o->kind == PTX_OPD_SINK) {
        *row = PTX_SINK_ROW;
        return true;
    }
    if (i >= d->s->opd_count || o->kind != PTX_OPD_REG)
        return vgpu_ptx_refuse(d, "the destination is no declared register");
    *row = o->index;
    *bytes = vgpu_ptx_type_bytes(o->type);
    return *bytes >= vgpu_ptx_type_bytes(t) ||
           vgpu_ptx_refuse(d, "a register narrower than the type");
}

bool vgpu_ptx_dst(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row)
{
    unsigned bytes;
    return vgpu_ptx_dst_relaxed(d, i, t, row, &bytes) &&
           (bytes == vgpu_ptx_type_bytes(t) ||
            vgpu_ptx_refuse(d, "a register of another width than the type"));
}

bool vgpu_ptx_src_pred(struct ptx_dec *d, unsigned i, int32_t *ref)
{
    const struct ptx_operand *o = &d->s->opds[i];
    if (i < d->s->opd_count && o->kind == PTX_OPD_PRED) {
        *ref = o->index;
        return true;
    }
    if (i < d->s->opd_count && o->kind == PTX_OPD_INT) {
        *ref = (int32_t)(o->value ? PTX_PRED_TRUE : PTX_PRED_TRUE | PTX_PRED_NOT);
        return true;
    }
    return vgpu_ptx_refuse(d, "a predicate belongs here");
}

bool vgpu_ptx_dst_pred(struct ptx_dec *d, unsigned i, int32_t *pred)
{
    const struct ptx_operand *o = &d->s->opds[i];
    if (i < d->s->opd_count && o->kind == PTX_OPD_SINK) {
        *pred = PTX_PRED_SINK;
        return true;
    }
    if (i < d->s->opd_count && o->kind == PTX_OPD_PRED && !o->negated) {
        *pred = o->index;
        return true;
    }
    return vgpu_ptx_refuse(d, "the destination is no declared predicate");
}

bool vgpu_ptx_append(struct ptx_dec *d, unsigned op)
{
    struct ptx_vec *code = &d->p->module->code;
    if (code->count >= PTX_MAX_INSNS)
        return vgpu_ptx_refuse(d, "more instructions than one module may have");
    struct ptx_insn *in = vgpu_ptx_vec_push(d->p->budget, code, sizeof(*in));
    if (!in)
        return vgpu_ptx_fail_memory(d->p);
    d->in.fn = d->p->handlers[op];
    d->in.op = (uint16_t)op;
    d->in.guard = d->s->guard;
    d->in.line = d->s->line;
    d->in.function = (uint16_t)d->p->fn->index;
    *in = d->in;
    return true;
}

bool vgpu_ptx_emit(struct ptx_dec *d, unsigned op)
{
    for (unsigned i = 0; i < d->s->mod_count; i++) {
        const struct ptx_mod *m = &d->s->mods[i];
        if (!m->used) {
            vgpu_ptx_refuse(d, "a modifier or type that is not supported here");
            return false;
        }
    }
    return vgpu_ptx_append(d, op);
}

bool vgpu_ptx_emit_alu(struct ptx_dec *d, unsigned op, enum ptx_type t, unsigned sources)
{
    int32_t *const rows[] = {&d->in.a, &d->in.b, &d->in.c};
    if (!vgpu_ptx_want(d, sources + 1) || !vgpu_ptx_dst(d, 0, t, &d->in.d))
        return false;
    for (unsigned i = 0; i < sources && i < 3; i++)
        if (!vgpu_ptx_src(d, i + 1, t, rows[i]))
            return false;
    return vgpu_ptx_emit(d, op);
}

bool vgpu_ptx_decode(struct ptx_parser *p, struct ptx_stmt *s)
{
    struct ptx_dec d = {.p = p, .s = s};
    d.in.vec = 1;
    size_t lo = 0, hi = sizeof(opcodes) / sizeof(opcodes[0]);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        size_t len = strlen(opcodes[mid].name);
        int order = memcmp(s->op, opcodes[mid].name, len < s->op_len ? len : s->op_len);
        if (order == 0)
            order = s->op_len < len ? -1 : s->op_len > len;
        if (order == 0) {
            d.arg = opcodes[mid].arg;
            return opcodes[mid].decode(&d);
        }
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return vgpu_ptx_refuse(&d, "this device does not know the instruction");
}
