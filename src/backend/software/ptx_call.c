/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leaving a function's straight text: call (PTX ISA, "call"), brx.idx, the tables they name, and
 * the stack instructions. Who is called may not have been read yet; that it is there in the end is
 * ptx_link.c's.
 */
#include <string.h>

#include "ptx_decode.h"

static int shown(uint32_t len)
{
    return (int)(len > 100 ? 100 : len);
}

/* One value of a list: a .param variable, a register, a number. */
static bool parse_item(struct ptx_dec *d, bool returned)
{
    struct ptx_parser *p = d->p;
    d->s->opd_count = 0;
    if (!vgpu_ptx_parse_plain(p, d->s))
        return false;
    const struct ptx_operand *o = &d->s->opds[0];
    struct ptx_item *item = vgpu_ptx_vec_push(p->budget, &p->items, sizeof(*item));
    if (!item)
        return vgpu_ptx_fail_memory(p);
    item->kind = o->kind;
    item->value = o->value;
    switch (o->kind) {
    case PTX_OPD_SYM:
        if (o->sym->space != PTX_SPACE_PARAM || o->sym->index < 0 || o->value)
            return vgpu_ptx_refuse(d, "a call takes .param variables and registers");
        item->row = o->sym->index;
        item->bytes = (uint32_t)o->sym->size;
        return true;
    case PTX_OPD_REG:
        item->row = o->index;
        item->bytes = vgpu_ptx_type_bytes(o->type);
        return true;
    case PTX_OPD_SINK:
        return returned || vgpu_ptx_refuse(d, "'_' is no value to pass");
    case PTX_OPD_INT:
    case PTX_OPD_F32:
    case PTX_OPD_F64:
        return !returned || vgpu_ptx_refuse(d, "a number cannot be returned into");
    case PTX_OPD_NAME:
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, d->s->line, "'%.*s' is not declared",
                             shown(o->len), o->text);
    default:
        return vgpu_ptx_refuse(d, "a call takes .param variables and registers");
    }
}

/* Behind the '('; counts into *count. */
static bool parse_list(struct ptx_dec *d, bool returned, uint32_t *count)
{
    if (vgpu_ptx_accept(d->p, ')'))
        return true;
    do {
        if (!parse_item(d, returned))
            return false;
        ++*count;
    } while (vgpu_ptx_accept(d->p, ','));
    return vgpu_ptx_expect(d->p, ')', "call");
}

/* What `item` hands over where a parameter of `bytes` bytes is wanted. */
static bool match_item(struct ptx_dec *d, const struct ptx_item *item, uint32_t bytes,
                       struct ptx_copy *copy)
{
    const bool wide = bytes > 4;
    uint64_t value = item->value;
    copy->slots = ptx_param_slots(bytes);
    copy->row = item->row;
    switch (item->kind) {
    case PTX_OPD_SINK:
        copy->row = -1;
        return true;
    case PTX_OPD_SYM:
        return item->bytes == bytes ||
               vgpu_ptx_refuse(d, "a parameter of another size than the function's");
    case PTX_OPD_REG:
        return (bytes <= 8 && item->bytes >= bytes && (item->bytes == 8) == wide) ||
               vgpu_ptx_refuse(d, "a register of another size than the function's parameter");
    case PTX_OPD_F32:
        if (bytes != 4)
            break;
        return vgpu_ptx_const_row(d->p, value, false, &copy->row);
    case PTX_OPD_F64:
        if (bytes != 8)
            break;
        return vgpu_ptx_const_row(d->p, value, true, &copy->row);
    default:
        if (bytes > 8)
            break;
        return vgpu_ptx_const_row(d->p, value, wide, &copy->row);
    }
    return vgpu_ptx_refuse(d, "a number of another size than the function's parameter");
}

static bool add_call(struct ptx_dec *d, uint32_t signature, uint32_t returned, uint32_t passed)
{
    struct ptx_parser *p = d->p;
    uint32_t want_returned, want_passed;
    const uint32_t *sizes = vgpu_ptx_signature(p, signature, &want_returned, &want_passed);
    if (returned != want_returned)
        return vgpu_ptx_refuse(d, "takes another number of results than the function returns");
    if (passed != want_passed)
        return vgpu_ptx_refuse(d, "passes another number of parameters than the function takes");
    struct ptx_call *call = vgpu_ptx_vec_push(p->budget, &p->module->calls, sizeof(*call));
    if (!call)
        return vgpu_ptx_fail_memory(p);
    *call = (struct ptx_call){signature, (uint32_t)p->module->copies.count, returned, passed};
    d->in.imm = (int64_t)p->module->calls.count - 1;
    for (uint32_t i = 0; i < returned + passed; i++) {
        const struct ptx_item *items = p->items.data;
        struct ptx_copy *copy = vgpu_ptx_vec_push(p->budget, &p->module->copies, sizeof(*copy));
        if (!copy)
            return vgpu_ptx_fail_memory(p);
        if (!match_item(d, &items[i], sizes[i], copy))
            return false;
    }
    return true;
}

/* The symbol a token names, or NULL. */
static const struct ptx_symbol *find(struct ptx_parser *p, const struct ptx_tok *t)
{
    return t->kind == PTX_TOK_IDENT ? vgpu_ptx_lookup(p, t->text, t->len) : NULL;
}

static bool take_target(struct ptx_dec *d, const struct ptx_tok *t, uint32_t *signature)
{
    struct ptx_parser *p = d->p;
    const struct ptx_symbol *s = find(p, t);
    if (p->failed)
        return false;
    d->in.target = PTX_NONE;
    if (s && s->kind == PTX_SYM_REG && vgpu_ptx_type_bytes(s->type) == 8) {
        d->in.a = s->index;
        p->fn->indirect = p->fn->calls = true;
        return true;
    }
    if (!s || s->kind != PTX_SYM_FUNCTION || vgpu_ptx_function_of(p, s)->is_entry)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                             "'%.*s' is neither a function declared before nor a 64-bit register "
                             "to call",
                             shown(t->len), t->text);
    d->in.target = (uint32_t)s->index;
    *signature = vgpu_ptx_function_of(p, s)->signature;
    return vgpu_ptx_use_function(p, s, d->s->line);
}

bool vgpu_ptx_parse_call(struct ptx_parser *p, struct ptx_stmt *s)
{
    struct ptx_dec d = {.p = p, .s = s};
    uint32_t returned = 0, passed = 0, signature = PTX_NONE;
    p->items.count = 0;
    vgpu_ptx_mod(&d, "uni");
    if (vgpu_ptx_accept(p, '(') &&
        (!parse_list(&d, true, &returned) || !vgpu_ptx_expect(p, ',', "call")))
        return false;
    struct ptx_tok target = p->tok;
    vgpu_ptx_next(p);
    if (!take_target(&d, &target, &signature))
        return false;
    bool more = vgpu_ptx_accept(p, ',');
    if (more && vgpu_ptx_accept(p, '(')) {
        if (!parse_list(&d, false, &passed))
            return false;
        more = vgpu_ptx_accept(p, ',');
    }
    if (more) {
        const struct ptx_symbol *proto = find(p, &p->tok);
        if (p->failed)
            return false;
        if (!proto || proto->kind != PTX_SYM_PROTOTYPE)
            return vgpu_ptx_refuse(&d, "a .callprototype or .calltargets belongs behind the list");
        if (signature != PTX_NONE && signature != (uint32_t)proto->index)
            return vgpu_ptx_refuse(&d, "the prototype is not the function's");
        signature = (uint32_t)proto->index;
        vgpu_ptx_next(p);
    }
    if (signature == PTX_NONE)
        return vgpu_ptx_refuse(&d, "a call through a register wants a prototype");
    d.in.kind = PTX_KIND_CALL;
    d.in.vec = 1;
    d.in.c = (int32_t)signature;
    return vgpu_ptx_expect(p, ';', "call") && add_call(&d, signature, returned, passed) &&
           vgpu_ptx_emit(&d, PTX_OP_NOP);
}

static bool parse_branch_targets(struct ptx_parser *p, struct ptx_symbol *s)
{
    struct ptx_vec *targets = &p->module->targets;
    s->kind = PTX_SYM_TARGETS;
    s->index = (int32_t)targets->count;
    do {
        const struct ptx_tok *t = &p->tok;
        if (t->kind != PTX_TOK_IDENT)
            return vgpu_ptx_unexpected(p, ".branchtargets wants labels");
        uint32_t *place = vgpu_ptx_vec_push(p->budget, targets, sizeof(*place));
        struct ptx_pending *pending =
            place ? vgpu_ptx_vec_push(p->budget, &p->pending, sizeof(*pending)) : NULL;
        if (!pending)
            return vgpu_ptx_fail_memory(p);
        *pending = (struct ptx_pending){.name = t->text,
                                        .len = t->len,
                                        .line = t->line,
                                        .at = (uint32_t)targets->count - 1,
                                        .is_table = true};
        vgpu_ptx_next(p);
    } while (vgpu_ptx_accept(p, ','));
    s->size = targets->count - (size_t)s->index;
    return vgpu_ptx_expect(p, ';', ".branchtargets");
}

static bool parse_call_targets(struct ptx_parser *p, struct ptx_symbol *s)
{
    uint32_t signature = PTX_NONE;
    do {
        const struct ptx_symbol *f = find(p, &p->tok);
        if (!f || f->kind != PTX_SYM_FUNCTION || vgpu_ptx_function_of(p, f)->is_entry)
            return vgpu_ptx_unexpected(p, ".calltargets wants functions declared before");
        uint32_t theirs = vgpu_ptx_function_of(p, f)->signature;
        if (signature != PTX_NONE && signature != theirs)
            return vgpu_ptx_unexpected(p, ".calltargets wants functions of one signature");
        signature = theirs;
        if (!vgpu_ptx_use_function(p, f, p->tok.line))
            return false;
        vgpu_ptx_next(p);
    } while (vgpu_ptx_accept(p, ','));
    s->index = (int32_t)signature;
    return vgpu_ptx_expect(p, ';', ".calltargets");
}

bool vgpu_ptx_parse_label_directive(struct ptx_parser *p, const struct ptx_tok *label)
{
    struct ptx_tok what = p->tok;
    struct ptx_symbol *s = vgpu_ptx_declare_name(p, label);
    if (!s)
        return false;
    vgpu_ptx_next(p);
    /* Until the directive has been read its name means nothing. */
    s->kind = PTX_SYM_PROTOTYPE;
    s->index = (int32_t)PTX_NONE;
    if (vgpu_ptx_tok_text(&what, "branchtargets"))
        return parse_branch_targets(p, s);
    if (vgpu_ptx_tok_text(&what, "calltargets"))
        return parse_call_targets(p, s);
    uint32_t signature = PTX_NONE;
    if (!vgpu_ptx_parse_prototype(p, &signature))
        return false;
    s->index = (int32_t)signature;
    return true;
}

/* brx.idx index, table */
bool vgpu_ptx_dec_brx(struct ptx_dec *d)
{
    const struct ptx_operand *o = &d->s->opds[1];
    if (!vgpu_ptx_mod(d, "idx"))
        return vgpu_ptx_refuse(d, "wants .idx");
    vgpu_ptx_mod(d, "uni");
    if (!vgpu_ptx_want(d, 2) || !vgpu_ptx_src(d, 0, PTX_U32, &d->in.a))
        return false;
    const struct ptx_symbol *s =
        o->kind == PTX_OPD_NAME ? vgpu_ptx_symbol_find(&d->p->symbols, o->text, o->len) : NULL;
    if (!s || s->kind != PTX_SYM_TARGETS)
        return vgpu_ptx_refuse(d, "a .branchtargets list belongs behind the index");
    d->in.kind = PTX_KIND_BRX;
    d->in.target = (uint32_t)s->index;
    d->in.imm = (int64_t)s->size;
    return vgpu_ptx_emit(d, PTX_OP_NOP);
}

/* alloca d, size, align: d is an address in .local; stacksave d; stackrestore a */
bool vgpu_ptx_dec_stack(struct ptx_dec *d)
{
    enum ptx_type t;
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    unsigned bytes = vgpu_ptx_type_bytes(t);
    if (t != PTX_U32 && t != PTX_U64)
        return vgpu_ptx_refuse(d, "not for this type");
    d->in.flags = bytes == 8 ? PTX_F_WIDE : 0;
    d->p->fn->has_alloca = true;
    if (d->arg == PTX_OP_STACKSAVE)
        return vgpu_ptx_want(d, 1) && vgpu_ptx_dst(d, 0, t, &d->in.d) && vgpu_ptx_emit(d, d->arg);
    if (d->arg == PTX_OP_STACKRESTORE)
        return vgpu_ptx_want(d, 1) && vgpu_ptx_src(d, 0, t, &d->in.a) && vgpu_ptx_emit(d, d->arg);
    d->in.imm = 16;
    if (d->s->opd_count == 3) {
        const struct ptx_operand *o = &d->s->opds[2];
        if (o->kind != PTX_OPD_INT || o->value == 0 || o->value > 4096 ||
            (o->value & (o->value - 1)))
            return vgpu_ptx_refuse(d, "an alignment is a power of two up to 4096");
        d->in.imm = (int64_t)(o->value < 16 ? 16 : o->value);
        d->s->opd_count = 2;
    }
    return vgpu_ptx_want(d, 2) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
           vgpu_ptx_src(d, 1, t, &d->in.a) && vgpu_ptx_emit(d, PTX_OP_ALLOCA);
}
