/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Variables (PTX ISA, "State Spaces, Types, and Variables"): registers, parameters, shared, local,
 * global and constant memory with initialisers. Global and constant variables get their device
 * memory as soon as they are declared, so that an address is a plain number for everything after.
 */
#include <string.h>

#include "ptx_memory.h"
#include "ptx_parse.h"

static const struct {
    const char *name;
    uint8_t bytes;
} type_table[PTX_TYPES] = {
    [PTX_NOTYPE] = {"", 0}, [PTX_PRED] = {"pred", 0},   [PTX_B8] = {"b8", 1},
    [PTX_U8] = {"u8", 1},   [PTX_S8] = {"s8", 1},       [PTX_B16] = {"b16", 2},
    [PTX_U16] = {"u16", 2}, [PTX_S16] = {"s16", 2},     [PTX_F16] = {"f16", 2},
    [PTX_B32] = {"b32", 4}, [PTX_U32] = {"u32", 4},     [PTX_S32] = {"s32", 4},
    [PTX_F32] = {"f32", 4}, [PTX_F16X2] = {"f16x2", 4}, [PTX_B64] = {"b64", 8},
    [PTX_U64] = {"u64", 8}, [PTX_S64] = {"s64", 8},     [PTX_F64] = {"f64", 8},
};

uint32_t vgpu_ptx_type_bytes(enum ptx_type t)
{
    return type_table[t].bytes;
}

bool vgpu_ptx_type_by_name(const char *s, uint32_t len, enum ptx_type *t)
{
    for (unsigned i = PTX_PRED; i < PTX_TYPES; i++) {
        if (strlen(type_table[i].name) == len && memcmp(type_table[i].name, s, len) == 0) {
            *t = (enum ptx_type)i;
            return true;
        }
    }
    return false;
}

static int shown(uint32_t len)
{
    return (int)(len > 100 ? 100 : len);
}

struct ptx_symbol *vgpu_ptx_declare_name(struct ptx_parser *p, const struct ptx_tok *name)
{
    const struct ptx_symbol *old = vgpu_ptx_symbol_find(&p->symbols, name->text, name->len);
    if (old && old->scope == p->scope) {
        vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name->line,
                      "'%.*s' is already declared on line %u", shown(name->len), name->text,
                      old->line);
        return NULL;
    }
    struct ptx_symbol *s = vgpu_ptx_symbol_add(&p->symbols, name->text, name->len, p->scope);
    if (!s) {
        vgpu_ptx_fail_memory(p);
        return NULL;
    }
    s->line = name->line;
    return s;
}

static bool want_name(struct ptx_parser *p, struct ptx_tok *name)
{
    if (p->tok.kind != PTX_TOK_IDENT)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "'%.*s' where a variable's name belongs", shown(p->tok.len),
                             p->tok.text);
    *name = p->tok;
    vgpu_ptx_next(p);
    return true;
}

bool vgpu_ptx_declare_reg(struct ptx_parser *p)
{
    enum ptx_type type = PTX_B32;
    if (p->tok.kind == PTX_TOK_DOT && p->tok.text[0] == 'v' && p->tok.len == 2)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "vector registers are not supported");
    if (p->tok.kind != PTX_TOK_DOT || !vgpu_ptx_type_by_name(p->tok.text, p->tok.len, &type))
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "register type '.%.*s' is not supported", shown(p->tok.len),
                             p->tok.text);
    vgpu_ptx_next(p);
    do {
        struct ptx_tok name = {0};
        if (!want_name(p, &name))
            return false;
        struct ptx_symbol *s = vgpu_ptx_declare_name(p, &name);
        if (!s)
            return false;
        s->type = (uint8_t)type;
        s->kind = PTX_SYM_REG;
        s->index = -1; /* a row on first use */
        if (vgpu_ptx_accept(p, '<')) {
            s->kind = PTX_SYM_REG_FAMILY;
            if (p->tok.kind != PTX_TOK_INT)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                     "a register count belongs here");
            s->size = p->tok.u;
            vgpu_ptx_next(p);
            if (!vgpu_ptx_expect(p, '>', ".reg"))
                return false;
        }
    } while (vgpu_ptx_accept(p, ','));
    return vgpu_ptx_expect(p, ';', ".reg");
}

/* Gives a register symbol its row or predicate number. */
static bool place_register(struct ptx_parser *p, struct ptx_symbol *s)
{
    if (s->index >= 0)
        return true;
    if (s->type == PTX_PRED) {
        if (p->fn->preds >= PTX_MAX_PREDS)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                 "more than %u predicate registers in one function", PTX_MAX_PREDS);
        s->index = (int32_t)p->fn->preds++;
        return true;
    }
    return vgpu_ptx_new_row(p, type_table[s->type].bytes == 8, &s->index);
}

/*
 * A family's member outlives the scope it is first used in, so members are in a table of their own,
 * which only the end of the function clears. Its names are family and number in binary.
 */
static const struct ptx_symbol *find_member(struct ptx_parser *p, const struct ptx_symbol *family,
                                            uint32_t n)
{
    char key[sizeof(family) + sizeof(n)];
    memcpy(key, &family, sizeof(family));
    memcpy(key + sizeof(family), &n, sizeof(n));
    struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->members, key, sizeof(key));
    if (s)
        return s;
    char *copy = vgpu_ptx_arena_strndup(&p->members.arena, key, sizeof(key));
    s = copy ? vgpu_ptx_symbol_add(&p->members, copy, sizeof(key), 1) : NULL;
    if (!s) {
        vgpu_ptx_fail_memory(p);
        return NULL;
    }
    s->kind = PTX_SYM_REG;
    s->type = family->type;
    s->line = family->line;
    s->index = -1;
    return place_register(p, s) ? s : NULL;
}

const struct ptx_symbol *vgpu_ptx_lookup(struct ptx_parser *p, const char *name, uint32_t len)
{
    struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->symbols, name, len);
    if (s) {
        if (s->kind == PTX_SYM_REG && !place_register(p, s))
            return NULL;
        return s;
    }
    uint32_t stem = len;
    while (stem > 1 && name[stem - 1] >= '0' && name[stem - 1] <= '9')
        stem--;
    if (stem == len || (name[stem] == '0' && len - stem > 1) || len - stem > 10)
        return NULL;
    struct ptx_symbol *family = vgpu_ptx_symbol_find(&p->symbols, name, stem);
    if (!family || family->kind != PTX_SYM_REG_FAMILY)
        return NULL;
    uint64_t n = 0;
    for (uint32_t i = stem; i < len; i++)
        n = n * 10 + (uint64_t)(name[i] - '0');
    if (n >= family->size)
        return NULL;
    return find_member(p, family, (uint32_t)n);
}

bool vgpu_ptx_parse_type(struct ptx_parser *p, enum ptx_type *type, uint32_t *align,
                         uint32_t *elems)
{
    *align = 0;
    *elems = 1;
    for (;;) {
        const struct ptx_tok *t = &p->tok;
        if (t->kind != PTX_TOK_DOT)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                                 "'%.*s' where a variable's type belongs", shown(t->len), t->text);
        if (vgpu_ptx_tok_text(t, "align")) {
            vgpu_ptx_next(p);
            if (t->kind != PTX_TOK_INT || t->u == 0 || t->u > 4096 || (t->u & (t->u - 1)))
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                                     "an alignment is a power of two up to 4096");
            *align = (uint32_t)t->u;
        } else if (vgpu_ptx_tok_text(t, "v2") || vgpu_ptx_tok_text(t, "v4")) {
            *elems = (uint32_t)(t->text[1] - '0');
        } else if (vgpu_ptx_tok_text(t, "attribute")) {
            /* .attribute(.managed): on one device managed memory is device memory. */
            vgpu_ptx_next(p);
            if (!vgpu_ptx_expect(p, '(', ".attribute"))
                return false;
            while (!ptx_tok_is(t, ')')) {
                if (t->kind == PTX_TOK_END || t->kind == PTX_TOK_BAD)
                    return vgpu_ptx_expect(p, ')', ".attribute");
                vgpu_ptx_next(p);
            }
        } else {
            if (!vgpu_ptx_type_by_name(t->text, t->len, type) || *type == PTX_PRED)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                                     "variable type '.%.*s' is not supported", shown(t->len),
                                     t->text);
            vgpu_ptx_next(p);
            uint32_t natural = type_table[*type].bytes * *elems;
            if (*align < natural)
                *align = natural;
            return true;
        }
        vgpu_ptx_next(p);
    }
}

bool vgpu_ptx_parse_dimensions(struct ptx_parser *p, uint64_t *count, bool *open)
{
    *open = false;
    for (bool first = true; vgpu_ptx_accept(p, '['); first = false) {
        if (first && vgpu_ptx_accept(p, ']')) {
            *open = true;
            continue;
        }
        if (p->tok.kind != PTX_TOK_INT)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                 "an array's size belongs here");
        if (p->tok.u && *count > (UINT64_MAX >> 8) / p->tok.u)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                 "an array beyond all memory");
        *count *= p->tok.u;
        vgpu_ptx_next(p);
        if (!vgpu_ptx_expect(p, ']', "array"))
            return false;
    }
    return true;
}

/* One initial value, as the bits of `type`. */
static bool parse_value(struct ptx_parser *p, enum ptx_type type, uint64_t *bits)
{
    bool minus = vgpu_ptx_accept(p, '-');
    const struct ptx_tok *t = &p->tok;
    bool generic = t->kind == PTX_TOK_IDENT && vgpu_ptx_tok_text(t, "generic");
    if (generic) {
        vgpu_ptx_next(p);
        if (!vgpu_ptx_expect(p, '(', "generic()"))
            return false;
    }
    if (t->kind == PTX_TOK_INT) {
        *bits = minus ? 0 - t->u : t->u;
        if (type == PTX_F32 || type == PTX_F64 || type == PTX_F16) {
            double v = minus ? -(double)t->u : (double)t->u;
            float f = (float)v;
            uint32_t u;
            memcpy(&u, &f, sizeof(u));
            memcpy(bits, &v, sizeof(v));
            if (type == PTX_F32)
                *bits = u;
        }
    } else if (t->kind == PTX_TOK_F32 || t->kind == PTX_TOK_F64) {
        uint64_t u = t->u;
        if (t->kind == PTX_TOK_F32) {
            uint32_t u32 = (uint32_t)u;
            float f;
            memcpy(&f, &u32, sizeof(f));
            double v = (double)f;
            if (type == PTX_F64)
                memcpy(&u, &v, sizeof(u));
        } else if (type == PTX_F32) {
            double v;
            memcpy(&v, &u, sizeof(v));
            float f = (float)v;
            uint32_t u32;
            memcpy(&u32, &f, sizeof(f));
            u = u32;
        }
        *bits = minus ? u ^ (type == PTX_F64 ? 1ull << 63 : 1ull << 31) : u;
    } else if (t->kind == PTX_TOK_IDENT && type_table[type].bytes == 8) {
        const struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->symbols, t->text, t->len);
        if (s && s->kind == PTX_SYM_VAR && !s->is_extern &&
            (s->space == PTX_SPACE_GLOBAL || s->space == PTX_SPACE_CONST))
            *bits = s->value;
        else if (!vgpu_ptx_function_address(p, t->text, t->len, t->line, bits))
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                                 "'%.*s' is nothing whose address is known here", shown(t->len),
                                 t->text);
        vgpu_ptx_next(p);
        if (generic && !vgpu_ptx_expect(p, ')', "generic()"))
            return false;
        if (vgpu_ptx_accept(p, '+')) {
            if (t->kind != PTX_TOK_INT)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line, "an offset belongs here");
            *bits += t->u;
            vgpu_ptx_next(p);
        }
        return true;
    } else {
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                             "'%.*s' is no initial value this loader understands", shown(t->len),
                             t->text);
    }
    vgpu_ptx_next(p);
    return !generic || vgpu_ptx_expect(p, ')', "generic()");
}

/* `= value` or `= {..}`, nested braces flattened, into a growing byte vector. */
static bool parse_initialiser(struct ptx_parser *p, enum ptx_type type, uint64_t max_bytes,
                              struct ptx_vec *bytes)
{
    uint32_t depth = 0, size = type_table[type].bytes;
    for (;;) {
        while (vgpu_ptx_accept(p, '{'))
            depth++;
        if (!(depth && ptx_tok_is(&p->tok, '}'))) {
            uint64_t bits = 0;
            uint32_t line = p->tok.line;
            if (!parse_value(p, type, &bits))
                return false;
            if (bytes->count + size > max_bytes)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, line,
                                     "more initial values than the variable holds");
            for (uint32_t i = 0; i < size; i++) {
                uint8_t *b = vgpu_ptx_vec_push(p->budget, bytes, 1);
                if (!b)
                    return vgpu_ptx_fail_memory(p);
                *b = (uint8_t)(bits >> 8 * i);
            }
        }
        while (depth && vgpu_ptx_accept(p, '}'))
            depth--;
        if (depth == 0)
            return true;
        if (!vgpu_ptx_expect(p, ',', "initialiser"))
            return false;
    }
}

/* Device memory for a .global or .const variable. */
static bool make_global(struct ptx_parser *p, struct ptx_symbol *s, const struct ptx_vec *init)
{
    struct ptx_module *m = p->module;
    if (m->global_count >= PTX_MAX_VARS)
        return vgpu_ptx_fail(p, CUDA_ERROR_OUT_OF_MEMORY, s->line,
                             "more than %u variables in one module", PTX_MAX_VARS);
    if (s->space == PTX_SPACE_CONST) {
        if (s->size > PTX_MAX_CONST_BYTES || m->const_bytes > PTX_MAX_CONST_BYTES - s->size)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, s->line, "more than %u bytes of .const",
                                 PTX_MAX_CONST_BYTES);
        m->const_bytes += s->size;
    }
    struct ptx_global *g = vgpu_ptx_arena_alloc(&m->arena, sizeof(*g));
    char *name = g ? vgpu_ptx_arena_strndup(&m->arena, s->name, s->len) : NULL;
    if (!name)
        return vgpu_ptx_fail_memory(p);
    CUresult r = vgpu_ptx_memory_alloc(m->memory, s->size, true, &g->address);
    if (r != CUDA_SUCCESS)
        return vgpu_ptx_fail(p, r, s->line, "no device memory for '%.100s', %llu bytes", name,
                             (unsigned long long)s->size);
    g->name = name;
    g->size_bytes = s->size;
    g->next = m->globals;
    m->globals = g;
    m->global_count++;
    s->value = g->address;
    if (init->count)
        memcpy(vgpu_ptx_memory_range(m->memory, g->address, init->count), init->data, init->count);
    if (s->space == PTX_SPACE_CONST)
        vgpu_ptx_memory_set_read_only(m->memory, g->address);
    return true;
}

static bool finish_variable(struct ptx_parser *p, struct ptx_symbol *s, const struct ptx_vec *init)
{
    switch (s->space) {
    case PTX_SPACE_GLOBAL:
    case PTX_SPACE_CONST:
        if (s->is_extern)
            return true; /* refused when used: there is no linker to find it */
        if (s->size == 0)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, s->line, "a variable without a size");
        return make_global(p, s, init);
    default:
        break;
    }
    if (init->count)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, s->line,
                             "only .global and .const variables may have initial values");
    if (s->space == PTX_SPACE_SHARED && s->is_extern)
        return true;
    if (s->size == 0)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, s->line, "a variable without a size");
    if (s->space == PTX_SPACE_SHARED) {
        struct ptx_shared_var *v = vgpu_ptx_vec_push(p->budget, &p->shared_vars, sizeof(*v));
        if (!v)
            return vgpu_ptx_fail_memory(p);
        v->size_bytes = s->size;
        v->align = s->align;
        s->index = (int32_t)p->shared_vars.count - 1;
    }
    return true;
}

bool vgpu_ptx_declare(struct ptx_parser *p, enum ptx_space space, enum ptx_linkage linkage)
{
    enum ptx_type type = PTX_B32;
    uint32_t align, elems;
    bool texref = p->tok.kind == PTX_TOK_DOT && vgpu_ptx_tok_text(&p->tok, "texref");
    if (space == PTX_SPACE_GLOBAL &&
        (texref || (p->tok.kind == PTX_TOK_DOT && vgpu_ptx_tok_text(&p->tok, "surfref")))) {
        vgpu_ptx_next(p);
        return vgpu_ptx_declare_reference(p, texref, linkage);
    }
    if (!vgpu_ptx_parse_type(p, &type, &align, &elems))
        return false;
    do {
        struct ptx_tok name = {0};
        struct ptx_vec init = {0};
        uint64_t count = elems;
        bool open, ok = true;
        if (!want_name(p, &name) || !vgpu_ptx_parse_dimensions(p, &count, &open))
            return false;
        struct ptx_symbol *s = vgpu_ptx_declare_name(p, &name);
        if (!s)
            return false;
        s->kind = PTX_SYM_VAR;
        s->type = (uint8_t)type;
        s->space = (uint8_t)space;
        s->align = align;
        s->is_extern = linkage == PTX_LINK_EXTERN;
        s->size = open ? 0 : count * type_table[type].bytes;
        if (vgpu_ptx_accept(p, '='))
            ok = parse_initialiser(p, type, open ? PTX_MAX_IMAGE_BYTES : s->size, &init);
        if (ok && open)
            s->size = init.count;
        ok = ok && finish_variable(p, s, &init);
        vgpu_ptx_vec_free(p->budget, &init, 1);
        if (!ok)
            return false;
    } while (vgpu_ptx_accept(p, ','));
    return vgpu_ptx_expect(p, ';', "declaration");
}

bool vgpu_ptx_place(struct ptx_parser *p, const struct ptx_symbol *sym, uint64_t *offset)
{
    /* The table is ours; only the present function's view of the symbol changes. */
    struct ptx_symbol *s = (struct ptx_symbol *)(uintptr_t)sym;
    if (s->stamp != p->fn_stamp) {
        uint64_t at = (p->local_used + s->align - 1) & ~(uint64_t)(s->align - 1);
        if (s->size > PTX_MAX_LOCAL_BYTES || at > PTX_MAX_LOCAL_BYTES - s->size)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                                 "function '%.100s' uses more than %u bytes of .local memory",
                                 p->fn->name, PTX_MAX_LOCAL_BYTES);
        s->stamp = p->fn_stamp;
        s->value = at;
        p->local_used = at + s->size;
        if (p->fn->local_align < s->align)
            p->fn->local_align = s->align;
    }
    *offset = s->value;
    return true;
}
