/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions and their signatures (PTX ISA, "Kernel and Function Directives"): what a caller needs
 * to know of a function before its body is read, and the table of all of them. A function's
 * parameters are rows of its frame, placed by the signature alone, so that a call through a pointer
 * finds them, too; a signature is the list of the parameters' sizes.
 */
#include <string.h>

#include "ptx_parse.h"

static int shown(uint32_t len)
{
    return (int)(len > 100 ? 100 : len);
}

/* Up to three numbers of a performance directive; missing ones are 1. */
static bool parse_dims(struct ptx_parser *p, uint32_t d[3])
{
    d[0] = d[1] = d[2] = 1;
    for (unsigned i = 0; i < 3; i++) {
        if (p->tok.kind != PTX_TOK_INT || p->tok.u > UINT32_MAX)
            return vgpu_ptx_unexpected(p, "a number belongs here");
        d[i] = (uint32_t)p->tok.u;
        vgpu_ptx_next(p);
        if (i == 2 || !vgpu_ptx_accept(p, ','))
            break;
    }
    return true;
}

static bool parse_performance(struct ptx_parser *p, struct ptx_function *fn)
{
    uint32_t d[3];
    while (p->tok.kind == PTX_TOK_DOT) {
        uint32_t line = p->tok.line;
        if (vgpu_ptx_is_dot(p, "maxntid") || vgpu_ptx_is_dot(p, "reqntid")) {
            bool exact = vgpu_ptx_is_dot(p, "reqntid");
            vgpu_ptx_next(p);
            if (!parse_dims(p, d))
                return false;
            uint64_t n = (uint64_t)d[0] * d[1];
            n = n > PTX_MAX_THREADS ? n : n * d[2];
            if (n == 0 || n > PTX_MAX_THREADS)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, line,
                                     "a block of %ux%ux%u: 1 to %u threads are possible", d[0],
                                     d[1], d[2], PTX_MAX_THREADS);
            if (fn->info)
                fn->info->max_threads_per_block = (uint32_t)n;
            if (exact)
                memcpy(fn->reqntid, d, sizeof(d));
        } else if (vgpu_ptx_is_dot(p, "minnctapersm") || vgpu_ptx_is_dot(p, "maxnctapersm") ||
                   vgpu_ptx_is_dot(p, "maxnreg")) {
            vgpu_ptx_next(p);
            if (!parse_dims(p, d))
                return false;
        } else if (vgpu_ptx_is_dot(p, "noreturn")) {
            vgpu_ptx_next(p);
        } else if (vgpu_ptx_is_dot(p, "pragma")) {
            if (!vgpu_ptx_skip_to_semicolon(p, ".pragma"))
                return false;
        } else {
            return vgpu_ptx_unexpected(p, "function header");
        }
    }
    return true;
}

static bool begin_function(struct ptx_parser *p, bool is_entry)
{
    struct ptx_function *fn = vgpu_ptx_arena_alloc(&p->module->arena, sizeof(*fn));
    if (!fn)
        return vgpu_ptx_fail_memory(p);
    fn->module = p->module;
    fn->is_entry = is_entry;
    fn->line = p->tok.line;
    fn->slots = is_entry ? PTX_FIRST_ROW : PTX_FRAME_PARAMS;
    fn->preds = PTX_FIRST_PRED;
    fn->signature = PTX_NONE;
    fn->local_row = -1;
    fn->local_align = 1;
    if (is_entry) {
        fn->info = vgpu_ptx_arena_alloc(&p->module->arena, sizeof(*fn->info));
        if (!fn->info)
            return vgpu_ptx_fail_memory(p);
        fn->info->max_threads_per_block = PTX_MAX_THREADS;
    }
    *p->fn_tail = fn;
    p->fn_tail = &fn->next;
    p->fn = fn;
    p->fn_stamp++;
    p->const_count = 0;
    vgpu_ptx_symbols_pop(&p->members, 0);
    for (unsigned i = 0; i < PTX_SR_ROWS; i++)
        p->sreg_rows[i] = -1;
    p->local_used = 0;
    p->param_bytes = 0;
    p->pending.count = p->sizes.count = p->free_rows.count = 0;
    memset(p->free_row, 0, sizeof(p->free_row));
    return true;
}

struct ptx_function *vgpu_ptx_function_of(const struct ptx_parser *p, const struct ptx_symbol *s)
{
    struct ptx_function **table = p->module->table.data;
    return table[s->index];
}

/* The name of the function being read, which gets a number when it is new. */
static bool name_function(struct ptx_parser *p, const struct ptx_tok *name)
{
    struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->symbols, name->text, name->len);
    struct ptx_function *fn = p->fn;
    if (s &&
        (s->kind != PTX_SYM_FUNCTION || vgpu_ptx_function_of(p, s)->is_entry != p->fn->is_entry))
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name->line,
                             "'%.*s' is already declared on line %u", shown(name->len), name->text,
                             s->line);
    fn->name = vgpu_ptx_arena_strndup(&p->module->arena, name->text, name->len);
    if (!fn->name)
        return vgpu_ptx_fail_memory(p);
    if (fn->info)
        fn->info->name = fn->name;
    if (!s) {
        struct ptx_vec *table = &p->module->table;
        if (table->count >= PTX_MAX_FUNCTIONS)
            return vgpu_ptx_fail(p, CUDA_ERROR_OUT_OF_MEMORY, name->line,
                                 "more than %u functions in one module", PTX_MAX_FUNCTIONS);
        struct ptx_function **entry = vgpu_ptx_vec_push(p->budget, table, sizeof(*entry));
        s = entry ? vgpu_ptx_symbol_add(&p->symbols, name->text, name->len, 0) : NULL;
        if (!s)
            return vgpu_ptx_fail_memory(p);
        *entry = fn;
        s->kind = PTX_SYM_FUNCTION;
        s->line = name->line;
        s->index = (int32_t)table->count - 1;
    }
    fn->index = (uint32_t)s->index;
    return true;
}

static bool add_size(struct ptx_parser *p, uint64_t bytes, uint32_t line)
{
    if (bytes == 0 || bytes > PTX_MAX_PARAM_BYTES)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, line,
                             "a function's parameter has 1 to %u bytes", PTX_MAX_PARAM_BYTES);
    if (p->sizes.count >= PTX_MAX_PARAM_BYTES / 4)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, line, "more than %u parameters",
                             PTX_MAX_PARAM_BYTES / 4);
    uint32_t *size = vgpu_ptx_vec_push(p->budget, &p->sizes, sizeof(*size));
    if (!size)
        return vgpu_ptx_fail_memory(p);
    *size = (uint32_t)bytes;
    return true;
}

/* Behind the '(' of a list; `fn`: they become its symbols. */
static bool parse_params(struct ptx_parser *p, struct ptx_function *fn)
{
    if (vgpu_ptx_accept(p, ')'))
        return true;
    do {
        struct ptx_formal f;
        bool is_reg = vgpu_ptx_is_dot(p, "reg");
        if ((!is_reg && !vgpu_ptx_is_dot(p, "param")) || (is_reg && fn && fn->is_entry))
            return vgpu_ptx_unexpected(p, "a parameter list wants .param");
        vgpu_ptx_next(p);
        if (!vgpu_ptx_parse_formal(p, is_reg, &f) || (fn && !vgpu_ptx_declare_formal(p, &f)))
            return false;
        if (!(fn && fn->is_entry) && !add_size(p, f.size, f.name.line))
            return false;
    } while (vgpu_ptx_accept(p, ','));
    return vgpu_ptx_expect(p, ')', "parameter list");
}

/* The number of the signature whose sizes are in p->sizes, the first `returned` of them returned.
 */
static bool intern_signature(struct ptx_parser *p, uint32_t returned, uint32_t *signature)
{
    const uint32_t passed = (uint32_t)p->sizes.count - returned;
    uint32_t *last = vgpu_ptx_vec_push(p->budget, &p->sizes, sizeof(*last));
    if (!last)
        return vgpu_ptx_fail_memory(p);
    *last = returned;
    const char *key = p->sizes.data;
    uint32_t len = (uint32_t)(p->sizes.count * sizeof(*last));
    struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->signatures, key, len);
    if (!s) {
        char *copy = vgpu_ptx_arena_strndup(&p->signatures.arena, key, len);
        s = copy ? vgpu_ptx_symbol_add(&p->signatures, copy, len, 0) : NULL;
        if (!s)
            return vgpu_ptx_fail_memory(p);
        s->index = (int32_t)p->formals.count;
        for (uint32_t i = 0; i < returned + passed + 2; i++) {
            uint32_t *at = vgpu_ptx_vec_push(p->budget, &p->formals, sizeof(*at));
            if (!at)
                return vgpu_ptx_fail_memory(p);
            const uint32_t *sizes = p->sizes.data;
            *at = i == 0 ? returned : i == 1 ? passed : sizes[i - 2];
        }
    }
    p->sizes.count = 0;
    *signature = (uint32_t)s->index;
    return true;
}

const uint32_t *vgpu_ptx_signature(const struct ptx_parser *p, uint32_t signature,
                                   uint32_t *returned, uint32_t *passed)
{
    const uint32_t *at = (const uint32_t *)p->formals.data + signature;
    *returned = at[0];
    *passed = at[1];
    return at + 2;
}

/* Behind `.callprototype`: `(.param .b32 _) _ (.param .b64 _)`. */
bool vgpu_ptx_parse_prototype(struct ptx_parser *p, uint32_t *signature)
{
    p->sizes.count = 0;
    if (vgpu_ptx_accept(p, '(') && !parse_params(p, NULL))
        return false;
    uint32_t returned = (uint32_t)p->sizes.count;
    if (p->tok.kind != PTX_TOK_IDENT)
        return vgpu_ptx_unexpected(p, ".callprototype wants _");
    vgpu_ptx_next(p);
    if (vgpu_ptx_accept(p, '(') && !parse_params(p, NULL))
        return false;
    if (vgpu_ptx_is_dot(p, "noreturn"))
        vgpu_ptx_next(p);
    return vgpu_ptx_expect(p, ';', ".callprototype") && intern_signature(p, returned, signature);
}

/*
 * The returned parameters come before the name, which is outside their scope and may be called in
 * the body: so they are skipped, and read when the name is known. *behind is where the text goes on
 * then.
 */
static bool parse_name_and_returned(struct ptx_parser *p, size_t *mark)
{
    struct ptx_lexer lx = p->lx;
    struct ptx_tok open = p->tok, name;
    const bool returns = !p->fn->is_entry && ptx_tok_is(&p->tok, '(');
    while (returns && !ptx_tok_is(&p->tok, ')')) {
        if (p->tok.kind == PTX_TOK_END || p->tok.kind == PTX_TOK_BAD)
            return vgpu_ptx_expect(p, ')', "parameter list");
        vgpu_ptx_next(p);
    }
    if (returns)
        vgpu_ptx_next(p);
    name = p->tok;
    if (name.kind != PTX_TOK_IDENT)
        return vgpu_ptx_unexpected(p, "a function's name belongs here");
    if (!name_function(p, &name))
        return false;
    *mark = p->symbols.order.count;
    vgpu_ptx_next(p);
    if (!returns || p->failed)
        return !p->failed;
    struct ptx_lexer behind_lx = p->lx;
    struct ptx_tok behind = p->tok;
    p->lx = lx;
    p->tok = open;
    if (!vgpu_ptx_expect(p, '(', "parameter list") || !parse_params(p, p->fn))
        return false;
    p->lx = behind_lx;
    p->tok = behind;
    return true;
}

static bool finish_function(struct ptx_parser *p)
{
    struct ptx_function *fn = p->fn;
    fn->insn_count = (uint32_t)p->module->code.count - fn->first;
    fn->frame_slots = fn->slots + (fn->preds + PTX_LANES - 1) / PTX_LANES;
    fn->local_bytes = (uint32_t)((p->local_used + 15) & ~(uint64_t)15);
    fn->local_row = p->sreg_rows[PTX_SR_LOCAL_BASE];
    fn->moves_sp = fn->local_bytes || fn->has_alloca;
    if (fn->info)
        fn->info->param_bytes = p->param_bytes;
    return true;
}

/* A prototype may come before the definition, a definition only once; all must agree. */
static bool enter_function(struct ptx_parser *p, bool has_body)
{
    struct ptx_function *fn = p->fn;
    struct ptx_function **table = p->module->table.data;
    struct ptx_function *old = table[fn->index];
    if (old == fn)
        return true;
    if (old->signature != fn->signature)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, fn->line,
                             "function '%.100s' has other parameters than on line %u", fn->name,
                             old->line);
    if (has_body && old->has_body)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, fn->line,
                             "function '%.100s' is defined twice", fn->name);
    if (has_body)
        table[fn->index] = fn;
    return true;
}

bool vgpu_ptx_parse_function(struct ptx_parser *p, bool is_entry)
{
    if (!begin_function(p, is_entry))
        return false;
    struct ptx_function *fn = p->fn;
    size_t mark = 0;
    /* The parameters are in the function's own scope, its name is not. */
    p->scope = 1;
    if (!is_entry && vgpu_ptx_is_dot(p, "noreturn"))
        vgpu_ptx_next(p);
    if (!parse_name_and_returned(p, &mark))
        return false;
    uint32_t returned = (uint32_t)p->sizes.count;
    if (vgpu_ptx_accept(p, '(') && !parse_params(p, fn))
        return false;
    if (!is_entry && !intern_signature(p, returned, &fn->signature))
        return false;
    if (!parse_performance(p, fn) || !enter_function(p, !ptx_tok_is(&p->tok, ';')))
        return false;
    if (!vgpu_ptx_accept(p, ';')) {
        if (!vgpu_ptx_expect(p, '{', "function body"))
            return false;
        fn->has_body = true;
        fn->first = (uint32_t)p->module->code.count;
        fn->first_edge = (uint32_t)p->uses.count;
        if (!vgpu_ptx_parse_body(p) || !finish_function(p))
            return false;
        fn->edge_count = (uint32_t)p->uses.count - fn->first_edge;
    }
    vgpu_ptx_symbols_pop(&p->symbols, mark);
    p->scope = 0;
    p->fn = NULL;
    return true;
}

/* `.alias name, of;`: both are known; the one becomes the other. */
bool vgpu_ptx_parse_alias(struct ptx_parser *p)
{
    struct ptx_symbol *s[2];
    for (unsigned i = 0; i < 2; i++) {
        const struct ptx_tok *t = &p->tok;
        s[i] = t->kind == PTX_TOK_IDENT ? vgpu_ptx_symbol_find(&p->symbols, t->text, t->len) : NULL;
        if (!s[i] || s[i]->kind != PTX_SYM_FUNCTION)
            return vgpu_ptx_unexpected(p, ".alias wants two functions declared before");
        vgpu_ptx_next(p);
        if (!vgpu_ptx_expect(p, i ? ';' : ',', ".alias"))
            return false;
    }
    struct ptx_function **table = p->module->table.data;
    const struct ptx_function *name = table[s[0]->index], *of = table[s[1]->index];
    if (name->is_entry || name->has_body || !of->has_body || name->signature != of->signature)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name->line,
                             "'%.100s' cannot be an alias of '%.100s'", name->name, of->name);
    table[s[0]->index] = table[s[1]->index];
    return true;
}

bool vgpu_ptx_use_function(struct ptx_parser *p, const struct ptx_symbol *s, uint32_t line)
{
    /* Calls of the same function in a row are one edge of the graph. */
    struct ptx_use *last = p->uses.data;
    last = p->uses.count ? last + p->uses.count - 1 : NULL;
    if (p->fn && p->uses.count > p->fn->first_edge && last && last->function == (uint32_t)s->index)
        return true;
    struct ptx_use *use = vgpu_ptx_vec_push(p->budget, &p->uses, sizeof(*use));
    if (!use)
        return vgpu_ptx_fail_memory(p);
    use->function = (uint32_t)s->index;
    use->line = line;
    return true;
}

bool vgpu_ptx_function_address(struct ptx_parser *p, const char *name, uint32_t len, uint32_t line,
                               uint64_t *address)
{
    const struct ptx_symbol *s = vgpu_ptx_symbol_find(&p->symbols, name, len);
    if (!s || s->kind != PTX_SYM_FUNCTION || vgpu_ptx_function_of(p, s)->is_entry)
        return false;
    *address = p->module->code_base + (uint64_t)(uint32_t)s->index * PTX_CODE_STEP;
    return vgpu_ptx_use_function(p, s, line);
}
