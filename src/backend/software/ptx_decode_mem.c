/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mov, ld, st, atom, red, cvta, isspacep, prefetch. */
#include "ptx_decode.h"

#include <string.h>

static bool mov_clock(struct ptx_dec *d, enum ptx_type t, unsigned sreg)
{
    bool wide = sreg == PTX_SR_CLOCK64 || sreg == PTX_SR_GLOBALTIMER;
    if (wide != (vgpu_ptx_type_bytes(t) == 8))
        return vgpu_ptx_refuse(d, "a special register of another width");
    d->in.flags = wide ? PTX_F_WIDE : 0;
    d->in.sub = sreg == PTX_SR_CLOCK_HI || sreg == PTX_SR_GLOBALTIMER_HI;
    return vgpu_ptx_dst(d, 0, t, &d->in.d) && vgpu_ptx_emit(d, PTX_OP_CLOCK);
}

/* mov.b64 d, {a, b} and mov.b64 {a, b}, d */
static bool mov_vector(struct ptx_dec *d, enum ptx_type t)
{
    const struct ptx_operand *o = d->s->opds;
    bool pack = o[0].kind != PTX_OPD_VEC;
    unsigned at = pack ? 1 : 0, n = o[at].count, first = at + 1;
    if (d->s->opd_count != n + 2 || (n != 2 && n != 4) || (pack ? 0u : n + 1) >= d->s->opd_count)
        return vgpu_ptx_refuse(d, "vectors of 2 or 4 elements only");
    uint32_t bytes = vgpu_ptx_type_bytes(t), each = bytes / n;
    enum ptx_type et = each == 4 ? PTX_B32 : each == 2 ? PTX_B16 : PTX_B8;
    if (each == 0 || each > 4)
        return vgpu_ptx_refuse(d, "this type has no such elements");
    d->in.size = (uint8_t)each;
    d->in.vec = (uint8_t)n;
    d->in.flags = bytes == 8 ? PTX_F_WIDE : 0;
    int32_t *const pack_rows[] = {&d->in.a, &d->in.b, &d->in.c, &d->in.e};
    int32_t *const unpack_rows[] = {&d->in.d, &d->in.b, &d->in.c, &d->in.e};
    for (unsigned i = 0; i < n; i++)
        if (pack ? !vgpu_ptx_src(d, first + i, et, pack_rows[i])
                 : !vgpu_ptx_dst(d, first + i, et, unpack_rows[i]))
            return false;
    if (pack ? !vgpu_ptx_dst(d, 0, t, &d->in.d) : !vgpu_ptx_src(d, n + 1, t, &d->in.a))
        return false;
    return vgpu_ptx_emit(d, pack ? PTX_OP_PACK : PTX_OP_UNPACK);
}

bool vgpu_ptx_dec_mov(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    const struct ptx_operand *o = d->s->opds;
    if (t == PTX_PRED)
        return vgpu_ptx_want(d, 2) && vgpu_ptx_dst_pred(d, 0, &d->in.d) &&
               vgpu_ptx_src_pred(d, 1, &d->in.a) && vgpu_ptx_emit(d, PTX_OP_PMOV);
    if (d->s->opd_count > 2 || (d->s->opd_count == 2 && (o[0].kind == PTX_OPD_VEC)))
        return mov_vector(d, t);
    if (!vgpu_ptx_want(d, 2))
        return false;
    if (o[1].kind == PTX_OPD_SREG && o[1].index >= PTX_SR_ROWS)
        return mov_clock(d, t, (unsigned)o[1].index);
    if (vgpu_ptx_type_bytes(t) < 2)
        return vgpu_ptx_refuse(d, "not for this type");
    if (!vgpu_ptx_dst(d, 0, t, &d->in.d))
        return false;
    /* mov.u16 may read a 32-bit special register, mov.u64 too: the value is zero-extended. */
    if (o[1].kind == PTX_OPD_SREG && o[1].index < PTX_SR_GRIDID) {
        if (!vgpu_ptx_sreg_row(d->p, (enum ptx_sreg)o[1].index, &d->in.a))
            return false;
        return vgpu_ptx_emit(d, vgpu_ptx_type_bytes(t) == 8 ? PTX_OP_CVT_64_U32 : PTX_OP_MOV_32);
    }
    if (o[1].kind == PTX_OPD_SREG && vgpu_ptx_type_bytes(t) == 4)
        return vgpu_ptx_sreg_row(d->p, (enum ptx_sreg)o[1].index, &d->in.a) &&
               vgpu_ptx_emit(d, PTX_OP_CVT_32_U64);
    return vgpu_ptx_src(d, 1, t, &d->in.a) &&
           vgpu_ptx_emit(d, PTX_OP_MOV_32 + (unsigned)vgpu_ptx_variant_width(t));
}

/* `.global`, `.shared::cta` ...; GENERIC when none is named. */
static enum ptx_space take_space(struct ptx_dec *d)
{
    static const struct {
        const char *name;
        uint8_t space;
    } names[] = {
        {"global", PTX_SPACE_GLOBAL},      {"shared", PTX_SPACE_SHARED},
        {"shared::cta", PTX_SPACE_SHARED}, {"local", PTX_SPACE_LOCAL},
        {"param", PTX_SPACE_PARAM},        {"param::entry", PTX_SPACE_PARAM},
        {"param::func", PTX_SPACE_PARAM},  {"const", PTX_SPACE_CONST},
    };
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (vgpu_ptx_mod(d, names[i].name))
            return (enum ptx_space)names[i].space;
    return PTX_SPACE_GENERIC;
}

/* Ordering: what it asks of other threads is met by x86 loads and stores; the rest takes a fence.
 */
struct ordering {
    bool acquire, release;
};

static void take_ordering(struct ptx_dec *d, struct ordering *o)
{
    static const char *const scopes[] = {"cta", "cluster", "gpu", "sys"};
    o->acquire = vgpu_ptx_mod(d, "acquire");
    o->release = vgpu_ptx_mod(d, "release");
    if (vgpu_ptx_mod(d, "acq_rel"))
        o->acquire = o->release = true;
    vgpu_ptx_mod(d, "mmio"); /* every access here happens once, as written */
    (void)(vgpu_ptx_mod(d, "relaxed") || vgpu_ptx_mod(d, "volatile") || vgpu_ptx_mod(d, "weak"));
    for (unsigned i = 0; i < 4; i++)
        if (vgpu_ptx_mod(d, scopes[i]))
            break;
}

/* Cache hints change nothing here. */
static void take_cache(struct ptx_dec *d)
{
    static const char *const names[] = {"ca",
                                        "cg",
                                        "cs",
                                        "lu",
                                        "cv",
                                        "wb",
                                        "wt",
                                        "nc",
                                        "L1::evict_normal",
                                        "L1::evict_unchanged",
                                        "L1::evict_first",
                                        "L1::evict_last",
                                        "L1::no_allocate",
                                        "L2::64B",
                                        "L2::128B",
                                        "L2::256B"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        vgpu_ptx_mod(d, names[i]);
}

/* Operand `i`, an address, into in.a, in.imm and in.space. */
static bool take_address(struct ptx_dec *d, unsigned i, enum ptx_space space)
{
    struct ptx_operand o = d->s->opds[i];
    if (i >= d->s->opd_count || o.kind != PTX_OPD_ADDR || o.count)
        return vgpu_ptx_refuse(d, "an address in brackets belongs here");
    if (space == PTX_SPACE_CONST)
        space = PTX_SPACE_GLOBAL;
    d->in.space = (uint8_t)space;
    if (o.inner == PTX_OPD_REG) {
        unsigned bytes = vgpu_ptx_type_bytes(o.type);
        if (bytes != 4 && bytes != 8)
            return vgpu_ptx_refuse(d, "an address is 32 or 64 bits wide");
        if (bytes == 4)
            d->in.flags |= PTX_F_ADDR32;
        d->in.a = o.index;
        d->in.imm = (int64_t)o.value;
        return true;
    }
    if (o.inner == PTX_OPD_INT)
        return vgpu_ptx_const_row(d->p, o.value, true, &d->in.a);
    unsigned own = o.sym->space == PTX_SPACE_CONST ? PTX_SPACE_GLOBAL : o.sym->space;
    if (space != PTX_SPACE_GENERIC && space != own)
        return vgpu_ptx_refuse(d, "the variable is in another state space");
    d->in.space = (uint8_t)own;
    uint64_t at;
    if (own == PTX_SPACE_LOCAL && !d->p->fn->is_entry && !o.sym->is_extern) {
        /* In a called function the frame's beginning is a row, the rest an offset. */
        if (!vgpu_ptx_place(d->p, o.sym, &at))
            return false;
        d->in.imm = (int64_t)(at + o.value);
        return vgpu_ptx_sreg_row(d->p, PTX_SR_LOCAL_BASE, &d->in.a);
    }
    return vgpu_ptx_sym_row(d, &o, true, &d->in.a);
}

/* The data operand at `i`, a register or a vector of them: where elements begin, and how many. */
static bool take_elements(struct ptx_dec *d, unsigned i, unsigned vec, unsigned *first)
{
    const struct ptx_operand *o = &d->s->opds[i];
    if (i < d->s->opd_count && o->kind == PTX_OPD_VEC) {
        *first = i + 1;
        return o->count == vec ||
               vgpu_ptx_refuse(d, "as many registers as .v says belong in braces");
    }
    *first = i;
    return vec == 1 || vgpu_ptx_refuse(d, "a vector of registers belongs here");
}

static unsigned take_vec(struct ptx_dec *d)
{
    return vgpu_ptx_mod(d, "v2") ? 2 : vgpu_ptx_mod(d, "v4") ? 4 : 1;
}

static bool emit_fence(struct ptx_dec *d)
{
    struct ptx_insn saved = d->in;
    memset(&d->in, 0, sizeof(d->in));
    bool ok = vgpu_ptx_append(d, PTX_OP_FENCE);
    d->in = saved;
    return ok;
}

/* Which of the LD handlers: by type in memory, then register width. */
static int pick_ld(enum ptx_type t, unsigned reg_bytes)
{
    uint32_t bytes = vgpu_ptx_type_bytes(t);
    bool s = t == PTX_S8 || t == PTX_S16 || t == PTX_S32;
    if (reg_bytes == 8) {
        switch (bytes) {
        case 1:
            return s ? PTX_OP_LD_S8_64 : PTX_OP_LD_U8_64;
        case 2:
            return s ? PTX_OP_LD_S16_64 : PTX_OP_LD_U16_64;
        case 4:
            return s ? PTX_OP_LD_S32_64 : PTX_OP_LD_U32_64;
        default:
            return PTX_OP_LD_U64_64;
        }
    }
    return bytes == 1   ? (s ? PTX_OP_LD_S8_32 : PTX_OP_LD_U8_32)
           : bytes == 2 ? (s ? PTX_OP_LD_S16_32 : PTX_OP_LD_U16_32)
                        : PTX_OP_LD_U32_32;
}

/* ld.param of a named parameter: the place in the buffer is known now. */
static bool param_offset(struct ptx_dec *d, const struct ptx_operand *o, uint64_t bytes)
{
    uint64_t at = o->sym->value + o->value;
    if (at > d->p->param_bytes || bytes > d->p->param_bytes - at)
        return vgpu_ptx_refuse(d, "beyond the parameters");
    if (at & (bytes - 1))
        return vgpu_ptx_refuse(d, "a misaligned parameter");
    d->in.imm = (int64_t)at;
    return true;
}

bool vgpu_ptx_dec_ld(struct ptx_dec *d)
{
    enum ptx_type t;
    struct ordering order;
    unsigned first, reg_bytes = 0;
    enum ptx_space space = take_space(d);
    take_ordering(d, &order);
    take_cache(d);
    unsigned vec = take_vec(d);
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t == PTX_PRED)
        return vgpu_ptx_refuse(d, "not for this type");
    d->in.size = (uint8_t)vgpu_ptx_type_bytes(t);
    d->in.vec = (uint8_t)vec;
    if (d->in.size * vec > 16)
        return vgpu_ptx_refuse(d, "more than 16 bytes");
    if (!take_elements(d, 0, vec, &first))
        return false;
    int32_t *const rows[] = {&d->in.d, &d->in.b, &d->in.c, &d->in.e};
    unsigned widest = 0;
    for (unsigned i = 0; i < vec; i++) {
        if (!vgpu_ptx_dst_relaxed(d, first + i, t, rows[i], &reg_bytes))
            return false;
        if (d->s->opds[first + i].kind == PTX_OPD_SINK)
            continue; /* either width fits the sink's two slots */
        if (widest && (widest == 8) != (reg_bytes == 8))
            return vgpu_ptx_refuse(d, "registers of different widths");
        widest = reg_bytes;
    }
    if (!widest)
        widest = vgpu_ptx_type_bytes(t);
    unsigned at = first + vec;
    if (!vgpu_ptx_want(d, at + 1))
        return false;
    int op = pick_ld(t, widest);
    const struct ptx_operand *o = &d->s->opds[at];
    if (o->kind == PTX_OPD_ADDR && o->inner == PTX_OPD_SYM && o->sym->space == PTX_SPACE_PARAM &&
        (space == PTX_SPACE_PARAM || space == PTX_SPACE_GENERIC) && o->sym->index >= 0)
        return vgpu_ptx_param_access(d, o, (const int32_t[]){d->in.d, d->in.b, d->in.c, d->in.e},
                                     widest, (unsigned)(op - PTX_OP_LD_U8_32 + PTX_OP_LDA_U8_32),
                                     false);
    if (o->kind == PTX_OPD_ADDR && o->inner == PTX_OPD_SYM && o->sym->space == PTX_SPACE_PARAM &&
        (space == PTX_SPACE_PARAM || space == PTX_SPACE_GENERIC))
        return param_offset(d, o, (uint64_t)d->in.size * vec) &&
               vgpu_ptx_emit(d, (unsigned)(op - PTX_OP_LD_U8_32 + PTX_OP_LDP_U8_32));
    return take_address(d, at, space) && vgpu_ptx_emit(d, (unsigned)op) &&
           (!order.acquire || emit_fence(d));
}

bool vgpu_ptx_dec_st(struct ptx_dec *d)
{
    enum ptx_type t;
    struct ordering order;
    unsigned first, reg_bytes = 0, widest = 0;
    enum ptx_space space = take_space(d);
    take_ordering(d, &order);
    take_cache(d);
    unsigned vec = take_vec(d);
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (t == PTX_PRED)
        return vgpu_ptx_refuse(d, "not for this type");
    const struct ptx_operand *o = &d->s->opds[0];
    bool to_call = space == PTX_SPACE_PARAM && d->s->opd_count && o->kind == PTX_OPD_ADDR &&
                   o->inner == PTX_OPD_SYM && o->sym->space == PTX_SPACE_PARAM &&
                   o->sym->index >= 0;
    if ((space == PTX_SPACE_PARAM && !to_call) || space == PTX_SPACE_CONST)
        return vgpu_ptx_refuse(d, "a kernel cannot store there");
    d->in.size = (uint8_t)vgpu_ptx_type_bytes(t);
    d->in.vec = (uint8_t)vec;
    if (d->in.size * vec > 16)
        return vgpu_ptx_refuse(d, "more than 16 bytes");
    if ((!to_call && !take_address(d, 0, space)) || !take_elements(d, 1, vec, &first) ||
        !vgpu_ptx_want(d, first + vec))
        return false;
    int32_t *const rows[] = {&d->in.d, &d->in.b, &d->in.c, &d->in.e};
    for (unsigned i = 0; i < vec; i++) {
        if (!vgpu_ptx_src_relaxed(d, first + i, t, rows[i], &reg_bytes))
            return false;
        if (i && (widest == 8) != (reg_bytes == 8))
            return vgpu_ptx_refuse(d, "registers of different widths");
        widest = reg_bytes;
    }
    unsigned log = d->in.size == 1 ? 0 : d->in.size == 2 ? 1 : d->in.size == 4 ? 2 : 3;
    unsigned op = (widest == 8 ? PTX_OP_ST_8_64 : PTX_OP_ST_8_32) + log;
    if (to_call)
        return vgpu_ptx_param_access(d, o, (const int32_t[]){d->in.d, d->in.b, d->in.c, d->in.e},
                                     widest, op - PTX_OP_ST_8_32 + PTX_OP_STA_8_32, true);
    return (!order.release || emit_fence(d)) && vgpu_ptx_emit(d, op);
}

static bool atom_op(struct ptx_dec *d, enum ptx_type t, unsigned *op)
{
    static const struct {
        const char *name;
        uint8_t op;
    } names[] = {{"add", PTX_ATOM_ADD},   {"min", PTX_ATOM_MIN_U}, {"max", PTX_ATOM_MAX_U},
                 {"and", PTX_ATOM_AND},   {"or", PTX_ATOM_OR},     {"xor", PTX_ATOM_XOR},
                 {"exch", PTX_ATOM_EXCH}, {"cas", PTX_ATOM_CAS},   {"inc", PTX_ATOM_INC},
                 {"dec", PTX_ATOM_DEC}};
    bool is_bits = t == PTX_B32 || t == PTX_B64;
    bool is_signed = t == PTX_S32 || t == PTX_S64;
    bool is_unsigned = t == PTX_U32 || t == PTX_U64;
    bool is_float = vgpu_ptx_variant_float(t) >= 0, is_half = vgpu_ptx_is_half(t);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!vgpu_ptx_mod(d, names[i].name))
            continue;
        *op = names[i].op;
        bool ok;
        switch (*op) {
        case PTX_ATOM_ADD:
            ok = is_signed || is_unsigned || is_float || is_half;
            *op = t == PTX_F16X2        ? PTX_ATOM_ADD_F16X2
                  : is_float || is_half ? PTX_ATOM_ADD_F
                                        : PTX_ATOM_ADD;
            break;
        case PTX_ATOM_MIN_U:
        case PTX_ATOM_MAX_U:
            ok = is_signed || is_unsigned;
            *op += is_signed;
            break;
        case PTX_ATOM_INC:
        case PTX_ATOM_DEC:
            ok = t == PTX_U32;
            break;
        case PTX_ATOM_CAS:
            ok = is_bits || t == PTX_B16;
            break;
        default:
            ok = is_bits;
        }
        return ok || vgpu_ptx_refuse(d, "this operation is not for this type");
    }
    return vgpu_ptx_refuse(d, "no atomic operation that this device knows");
}

/* atom (arg 1), red */
bool vgpu_ptx_dec_atom(struct ptx_dec *d)
{
    enum ptx_type t;
    struct ordering order;
    unsigned op = 0, at = 0;
    enum ptx_space space = take_space(d);
    take_ordering(d, &order); /* every atomic here is sequentially consistent */
    bool noftz = vgpu_ptx_mod(d, "noftz");
    if (!vgpu_ptx_mod_type(d, &t) || !atom_op(d, t, &op))
        return false;
    if (noftz != vgpu_ptx_is_half(t))
        return vgpu_ptx_refuse(d, ".noftz goes with .f16 and .f16x2, and they with it");
    if (space == PTX_SPACE_PARAM || space == PTX_SPACE_CONST || space == PTX_SPACE_LOCAL)
        return vgpu_ptx_refuse(d, "atomics are for global and shared memory");
    d->in.size = (uint8_t)vgpu_ptx_type_bytes(t);
    d->in.sub = (uint8_t)op;
    d->in.d = PTX_SINK_ROW;
    if (d->arg == 1 && !vgpu_ptx_dst(d, at++, t, &d->in.d))
        return false;
    if (d->arg == 0 && op >= PTX_ATOM_EXCH && op <= PTX_ATOM_CAS)
        return vgpu_ptx_refuse(d, "red has no such operation");
    if (!vgpu_ptx_want(d, at + (op == PTX_ATOM_CAS ? 3 : 2)) || !take_address(d, at, space) ||
        !vgpu_ptx_src(d, at + 1, t, &d->in.b))
        return false;
    d->in.c = d->in.b;
    if (op == PTX_ATOM_CAS && !vgpu_ptx_src(d, at + 2, t, &d->in.c))
        return false;
    if (d->in.size == 2)
        return vgpu_ptx_emit(d, PTX_OP_ATOM_16);
    return vgpu_ptx_emit(d, PTX_OP_ATOM_32 + (unsigned)vgpu_ptx_variant_width(t));
}

static uint64_t window(enum ptx_space space)
{
    return space == PTX_SPACE_SHARED  ? PTX_SHARED_WINDOW
           : space == PTX_SPACE_LOCAL ? PTX_LOCAL_WINDOW
           : space == PTX_SPACE_PARAM ? PTX_PARAM_WINDOW
                                      : 0;
}

/* Between a space's own addresses and generic ones: global and constant ones are the same, the
 * windows add a base. */
bool vgpu_ptx_dec_cvta(struct ptx_dec *d)
{
    enum ptx_type t;
    bool to = vgpu_ptx_mod(d, "to");
    enum ptx_space space = take_space(d);
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    if (space == PTX_SPACE_GENERIC || t != PTX_U64)
        return vgpu_ptx_refuse(d, "wants a state space and .u64");
    uint64_t base = window(space);
    return vgpu_ptx_want(d, 2) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) &&
           vgpu_ptx_const_row(d->p, to ? 0 - base : base, true, &d->in.b) &&
           vgpu_ptx_emit(d, base ? PTX_OP_ADD_64 : PTX_OP_MOV_64);
}

bool vgpu_ptx_dec_isspacep(struct ptx_dec *d)
{
    enum ptx_space space = take_space(d);
    if (space == PTX_SPACE_GENERIC)
        return vgpu_ptx_refuse(d, "wants .const, .global, .shared, .local or .param");
    d->in.space = (uint8_t)space;
    return vgpu_ptx_want(d, 2) && vgpu_ptx_dst_pred(d, 0, &d->in.d) &&
           vgpu_ptx_src(d, 1, PTX_B64, &d->in.a) && vgpu_ptx_emit(d, PTX_OP_ISSPACEP);
}

/* A hint; the address need not even be valid. */
bool vgpu_ptx_dec_prefetch(struct ptx_dec *d)
{
    enum ptx_space space = take_space(d);
    (void)(vgpu_ptx_mod(d, "L1") || vgpu_ptx_mod(d, "L2"));
    return vgpu_ptx_want(d, 1) && take_address(d, 0, space) && vgpu_ptx_emit(d, PTX_OP_NOP);
}
