/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Function bodies: scopes, labels, and instructions as written. What an instruction means is
 * ptx_decode.c's.
 */
#include <string.h>

#include "ptx_parse.h"

static int shown(uint32_t len)
{
    return (int)(len > 100 ? 100 : len);
}

static bool bad(struct ptx_parser *p, const char *what)
{
    if (p->tok.kind == PTX_TOK_END)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line, "the text ends where %s",
                             what);
    return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line, "'%.*s' where %s",
                         shown(p->tok.len), p->tok.text, what);
}

static struct ptx_operand *new_operand(struct ptx_parser *p, struct ptx_stmt *s)
{
    if (s->opd_count == PTX_MAX_OPERANDS) {
        vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line, "more than %u operands",
                      PTX_MAX_OPERANDS);
        return NULL;
    }
    struct ptx_operand *o = &s->opds[s->opd_count++];
    memset(o, 0, sizeof(*o));
    return o;
}

/* `+4`, `-4`, `+-4` behind a name, if there; into *value. */
static bool parse_offset(struct ptx_parser *p, uint64_t *value)
{
    bool minus = false, plus = vgpu_ptx_accept(p, '+');
    if (vgpu_ptx_accept(p, '-'))
        minus = true;
    if (!plus && !minus)
        return true;
    if (p->tok.kind != PTX_TOK_INT)
        return bad(p, "an offset belongs");
    *value = minus ? 0 - p->tok.u : p->tok.u;
    vgpu_ptx_next(p);
    return true;
}

/* A name: special register, register, variable, or something only the instruction knows. */
static bool parse_name(struct ptx_parser *p, struct ptx_operand *o)
{
    struct ptx_tok t = p->tok;
    vgpu_ptx_next(p);
    o->text = t.text;
    o->len = t.len;
    if (t.len == 1 && t.text[0] == '_') {
        o->kind = PTX_OPD_SINK;
        return true;
    }
    const struct ptx_symbol *s = vgpu_ptx_lookup(p, t.text, t.len);
    if (p->failed)
        return false;
    if (s && s->kind == PTX_SYM_REG) {
        o->kind = s->type == PTX_PRED ? PTX_OPD_PRED : PTX_OPD_REG;
        o->type = s->type;
        o->index = s->index;
        return true;
    }
    if (s && s->kind == PTX_SYM_VAR) {
        o->kind = PTX_OPD_SYM;
        o->sym = s;
        return parse_offset(p, &o->value);
    }
    if (t.text[0] == '%') {
        /* %tid.x arrives as two tokens that touch. */
        uint32_t len = t.len - 1;
        if (p->tok.kind == PTX_TOK_DOT && p->tok.text == t.text + t.len + 1) {
            len += 1 + p->tok.len;
            vgpu_ptx_next(p);
        }
        enum ptx_sreg r;
        if (!vgpu_ptx_sreg_by_name(t.text + 1, len, &r))
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t.line,
                                 "'%.*s' is neither a declared register nor a special register "
                                 "this device has",
                                 shown(len + 1), t.text);
        o->kind = PTX_OPD_SREG;
        o->index = (int32_t)r;
        return true;
    }
    if (vgpu_ptx_tok_text(&t, "WARP_SZ")) {
        o->kind = PTX_OPD_INT;
        o->value = PTX_LANES;
        return true;
    }
    o->kind = PTX_OPD_NAME;
    return true;
}

bool vgpu_ptx_parse_plain(struct ptx_parser *p, struct ptx_stmt *s)
{
    struct ptx_operand *o = new_operand(p, s);
    if (!o)
        return false;
    bool negated = vgpu_ptx_accept(p, '!');
    bool minus = !negated && vgpu_ptx_accept(p, '-');
    const struct ptx_tok *t = &p->tok;
    if (!negated && (t->kind == PTX_TOK_INT || t->kind == PTX_TOK_F32 || t->kind == PTX_TOK_F64)) {
        o->kind = t->kind == PTX_TOK_INT   ? PTX_OPD_INT
                  : t->kind == PTX_TOK_F32 ? PTX_OPD_F32
                                           : PTX_OPD_F64;
        o->value = t->u;
        if (minus)
            o->value = o->kind == PTX_OPD_INT   ? 0 - t->u
                       : o->kind == PTX_OPD_F32 ? t->u ^ 1ull << 31
                                                : t->u ^ 1ull << 63;
        vgpu_ptx_next(p);
        return true;
    }
    if (minus || t->kind != PTX_TOK_IDENT)
        return bad(p, "an operand belongs");
    if (!parse_name(p, o))
        return false;
    if (negated) {
        if (o->kind != PTX_OPD_PRED)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                 "'!' stands before something that is no predicate");
        o->index |= (int32_t)PTX_PRED_NOT;
        o->negated = true;
    }
    return true;
}

/* Behind '{': a vector, its elements behind it. */
static bool parse_vector(struct ptx_parser *p, struct ptx_stmt *s)
{
    unsigned at = s->opd_count;
    struct ptx_operand *o = new_operand(p, s);
    if (!o)
        return false;
    o->kind = PTX_OPD_VEC;
    do {
        if (!vgpu_ptx_parse_plain(p, s))
            return false;
    } while (vgpu_ptx_accept(p, ','));
    s->opds[at].count = (uint8_t)(s->opd_count - at - 1);
    return vgpu_ptx_expect(p, '}', "vector");
}

static bool parse_address(struct ptx_parser *p, struct ptx_stmt *s)
{
    struct ptx_operand *o = new_operand(p, s);
    if (!o)
        return false;
    if (p->tok.kind == PTX_TOK_INT) {
        o->kind = PTX_OPD_INT;
        o->value = p->tok.u;
        vgpu_ptx_next(p);
    } else if (p->tok.kind == PTX_TOK_IDENT) {
        if (!parse_name(p, o))
            return false;
        if (o->kind == PTX_OPD_REG && !parse_offset(p, &o->value))
            return false;
        if (o->kind != PTX_OPD_REG && o->kind != PTX_OPD_SYM)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                 "'%.*s' is no declared register or variable to address with",
                                 shown(o->len), o->text);
    } else {
        return bad(p, "an address belongs");
    }
    o->inner = o->kind;
    o->kind = PTX_OPD_ADDR;
    if (vgpu_ptx_accept(p, ',')) {
        o->count = 1;
        if (vgpu_ptx_accept(p, '{') ? !parse_vector(p, s) : !vgpu_ptx_parse_plain(p, s))
            return false;
    }
    return vgpu_ptx_expect(p, ']', "address");
}

static bool parse_operand(struct ptx_parser *p, struct ptx_stmt *s)
{
    if (vgpu_ptx_accept(p, '['))
        return parse_address(p, s);
    return vgpu_ptx_accept(p, '{') ? parse_vector(p, s) : vgpu_ptx_parse_plain(p, s);
}

/* `@%p op.mods operands;`, the token on the `@` or behind the opcode (whose token is `op`). */
static bool parse_instruction(struct ptx_parser *p, struct ptx_stmt *s, const struct ptx_tok *op)
{
    s->op = s->text = op->text;
    s->op_len = op->len;
    s->line = op->line;
    s->mod_count = s->opd_count = 0;
    for (; p->tok.kind == PTX_TOK_DOT; vgpu_ptx_next(p)) {
        if (s->mod_count == PTX_MAX_MODS)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, s->line, "more than %u modifiers",
                                 PTX_MAX_MODS);
        s->mods[s->mod_count++] = (struct ptx_mod){p->tok.text, p->tok.len, false};
    }
    if (s->op_len == 4 && memcmp(s->op, "call", 4) == 0)
        return vgpu_ptx_parse_call(p, s);
    if (vgpu_ptx_accept(p, ';'))
        return vgpu_ptx_decode(p, s);
    for (;;) {
        if (!parse_operand(p, s))
            return false;
        if (vgpu_ptx_accept(p, '|'))
            s->opds[s->opd_count - 1].paired = true;
        else if (!vgpu_ptx_accept(p, ','))
            break;
    }
    return vgpu_ptx_expect(p, ';', "instruction") && vgpu_ptx_decode(p, s);
}

static bool define_label(struct ptx_parser *p, const struct ptx_tok *name)
{
    const struct ptx_symbol *old = vgpu_ptx_symbol_find(&p->symbols, name->text, name->len);
    if (old && old->scope == p->scope)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name->line,
                             "'%.*s' is already declared on line %u", shown(name->len), name->text,
                             old->line);
    struct ptx_symbol *s = vgpu_ptx_symbol_add(&p->symbols, name->text, name->len, p->scope);
    if (!s)
        return vgpu_ptx_fail_memory(p);
    s->kind = PTX_SYM_LABEL;
    s->line = name->line;
    s->index = (int32_t)p->module->code.count;
    return true;
}

/* At the end of a scope: branches to its labels find them, the others wait for the scope around it.
 */
static bool resolve_pending(struct ptx_parser *p, size_t from, bool last)
{
    struct ptx_pending *list = p->pending.data;
    struct ptx_insn *code = p->module->code.data;
    uint32_t *targets = p->module->targets.data;
    size_t kept = from;
    for (size_t i = from; i < p->pending.count; i++) {
        const struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->symbols, list[i].name, list[i].len);
        if (s && s->kind == PTX_SYM_LABEL && (s->scope == p->scope || last))
            *(list[i].is_table ? &targets[list[i].at] : &code[list[i].at].target) =
                (uint32_t)s->index;
        else if (last)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, list[i].line,
                                 "label '%.*s' is not defined", shown(list[i].len), list[i].name);
        else
            list[kept++] = list[i];
    }
    p->pending.count = last ? 0 : kept;
    return true;
}

/* The token is behind the dot word `t`. */
static bool parse_body_directive(struct ptx_parser *p, const struct ptx_tok *t)
{
    if (vgpu_ptx_tok_text(t, "reg"))
        return vgpu_ptx_declare_reg(p);
    if (vgpu_ptx_tok_text(t, "shared"))
        return vgpu_ptx_declare(p, PTX_SPACE_SHARED, PTX_LINK_NONE);
    if (vgpu_ptx_tok_text(t, "local"))
        return vgpu_ptx_declare(p, PTX_SPACE_LOCAL, PTX_LINK_NONE);
    if (vgpu_ptx_tok_text(t, "param"))
        return vgpu_ptx_declare_call_param(p);
    if (vgpu_ptx_tok_text(t, "global"))
        return vgpu_ptx_declare(p, PTX_SPACE_GLOBAL, PTX_LINK_NONE);
    if (vgpu_ptx_tok_text(t, "const"))
        return vgpu_ptx_declare(p, PTX_SPACE_CONST, PTX_LINK_NONE);
    if (vgpu_ptx_tok_text(t, "pragma")) {
        while (!ptx_tok_is(&p->tok, ';')) {
            if (p->tok.kind != PTX_TOK_STRING && !ptx_tok_is(&p->tok, ','))
                return bad(p, ".pragma wants strings");
            vgpu_ptx_next(p);
        }
        vgpu_ptx_next(p);
        return true;
    }
    return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                         "directive '.%.*s' is not supported in a function", shown(t->len),
                         t->text);
}

static bool parse_guard(struct ptx_parser *p, struct ptx_stmt *s)
{
    s->guard = 0;
    if (!vgpu_ptx_accept(p, '@'))
        return true;
    s->opd_count = 0;
    if (!vgpu_ptx_parse_plain(p, s))
        return false;
    if (s->opds[0].kind != PTX_OPD_PRED)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "'@' wants a predicate register");
    s->guard = (uint16_t)s->opds[0].index;
    return true;
}

/* Running off the end of a body is a return. */
static bool end_body(struct ptx_parser *p)
{
    static const struct ptx_tok ret = {.kind = PTX_TOK_IDENT, .text = "ret", .len = 3};
    struct ptx_stmt s = {.op = ret.text, .text = "ret;", .op_len = 3, .line = p->tok.line};
    return resolve_pending(p, 0, true) && vgpu_ptx_decode(p, &s);
}

bool vgpu_ptx_parse_body(struct ptx_parser *p)
{
    struct {
        size_t symbols, pending;
    } scopes[PTX_MAX_SCOPES];
    uint32_t depth = 0;
    struct ptx_stmt s;
    scopes[0].symbols = p->symbols.order.count;
    scopes[0].pending = 0;
    p->scope = 2;
    for (;;) {
        struct ptx_tok t = p->tok;
        if (ptx_tok_is(&t, '{')) {
            if (++depth == PTX_MAX_SCOPES)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t.line,
                                     "blocks nested more than %d deep", PTX_MAX_SCOPES);
            scopes[depth].symbols = p->symbols.order.count;
            scopes[depth].pending = p->pending.count;
            p->scope++;
            vgpu_ptx_next(p);
        } else if (ptx_tok_is(&t, '}')) {
            if (depth == 0 ? !end_body(p) : !resolve_pending(p, scopes[depth].pending, false))
                return false;
            if (depth && !vgpu_ptx_release_params(p, scopes[depth].symbols))
                return false;
            vgpu_ptx_symbols_pop(&p->symbols, scopes[depth].symbols);
            p->scope--;
            vgpu_ptx_next(p);
            if (depth-- == 0)
                return true;
        } else if (t.kind == PTX_TOK_DOT) {
            if (vgpu_ptx_tok_text(&t, "loc") || vgpu_ptx_tok_text(&t, "file")) {
                vgpu_ptx_lex_skip_line(&p->lx);
                vgpu_ptx_next(p);
                continue;
            }
            vgpu_ptx_next(p);
            if (!parse_body_directive(p, &t))
                return false;
        } else if (t.kind == PTX_TOK_IDENT || ptx_tok_is(&t, '@')) {
            if (!parse_guard(p, &s))
                return false;
            struct ptx_tok op = p->tok;
            if (op.kind != PTX_TOK_IDENT)
                return bad(p, "an instruction belongs");
            vgpu_ptx_next(p);
            if (ptx_tok_is(&t, '@') || !vgpu_ptx_accept(p, ':')) {
                if (!parse_instruction(p, &s, &op))
                    return false;
            } else if (vgpu_ptx_is_dot(p, "branchtargets") || vgpu_ptx_is_dot(p, "calltargets") ||
                       vgpu_ptx_is_dot(p, "callprototype")) {
                if (!vgpu_ptx_parse_label_directive(p, &op))
                    return false;
            } else if (!define_label(p, &op)) {
                return false;
            }
        } else if (!vgpu_ptx_accept(p, ';')) {
            return bad(p, "an instruction belongs");
        }
    }
}
