/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module: version, target, and what stands at its outermost level (PTX ISA, "Directives").
 * Functions are ptx_func.c's, their bodies ptx_stmt.c's, variables ptx_decl.c's. One pass, no
 * recursion; nesting is a counter.
 */
#include "ptx_parse.h"
#include "ptx_memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGET_SM      75u
#define NEWEST_VERSION 9u
#define MODULE_BYTES   (sizeof(struct ptx_module) + 64) /* with what the host's allocator adds */

bool vgpu_ptx_fail(struct ptx_parser *p, CUresult result, uint32_t line, const char *format, ...)
{
    if (p->failed)
        return false;
    p->failed = true;
    p->result = result;
    if (p->log_size) {
        int n = snprintf(p->log, p->log_size, "line %u: ", (unsigned)line);
        if (n > 0 && (size_t)n < p->log_size) {
            va_list ap;
            va_start(ap, format);
            vsnprintf(p->log + n, p->log_size - (size_t)n, format, ap);
            va_end(ap);
        }
        /* The text quotes the guest: keep it printable. */
        for (char *c = p->log; *c; c++)
            if ((unsigned char)*c < ' ' || *c == 127)
                *c = ' ';
    }
    return false;
}

bool vgpu_ptx_fail_memory(struct ptx_parser *p)
{
    return vgpu_ptx_fail(p, CUDA_ERROR_OUT_OF_MEMORY, p->tok.line,
                         "the module needs more than the %llu bytes of host memory this session "
                         "may use for decoded modules",
                         (unsigned long long)p->budget->limit_bytes);
}

/* Everything a load does goes from token to token, each of them cheap: here it can be ended. */
void vgpu_ptx_next(struct ptx_parser *p)
{
    vgpu_ptx_lex_next(&p->lx, &p->tok);
    if (__atomic_load_n(p->stop, __ATOMIC_RELAXED) != PTX_GO) {
        vgpu_ptx_fail(p, CUDA_ERROR_LAUNCH_TIMEOUT, p->tok.line, "the load was interrupted here");
        p->lx.p = p->lx.end;
        p->tok = (struct ptx_tok){.kind = PTX_TOK_END, .text = p->lx.end, .line = p->tok.line};
    }
}

bool vgpu_ptx_accept(struct ptx_parser *p, char c)
{
    if (!ptx_tok_is(&p->tok, c))
        return false;
    vgpu_ptx_next(p);
    return true;
}

bool vgpu_ptx_expect(struct ptx_parser *p, char c, const char *where)
{
    if (vgpu_ptx_accept(p, c))
        return true;
    if (p->tok.kind == PTX_TOK_END)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "the text ends where '%c' should follow (%s)", c, where);
    return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                         "'%.*s' where '%c' should follow (%s)",
                         (int)(p->tok.len > 60 ? 60 : p->tok.len), p->tok.text, c, where);
}

bool vgpu_ptx_tok_text(const struct ptx_tok *t, const char *s)
{
    return t->len == strlen(s) && memcmp(t->text, s, t->len) == 0;
}

bool vgpu_ptx_is_dot(const struct ptx_parser *p, const char *s)
{
    return p->tok.kind == PTX_TOK_DOT && vgpu_ptx_tok_text(&p->tok, s);
}

bool vgpu_ptx_unexpected(struct ptx_parser *p, const char *where)
{
    return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line, "unexpected %s'%.*s' (%s)",
                         p->tok.kind == PTX_TOK_END ? "end of text " : "",
                         (int)(p->tok.len > 60 ? 60 : p->tok.len), p->tok.text, where);
}

/* `.version 9.0`: the lexer makes a floating-point number of it. */
static bool parse_version(struct ptx_parser *p)
{
    double v;
    if (p->saw_version)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line, "a second .version");
    if (p->tok.kind == PTX_TOK_F64)
        memcpy(&v, &p->tok.u, sizeof(v));
    else
        return vgpu_ptx_unexpected(p, ".version wants major.minor");
    if (!(v >= 1.0 && v < NEWEST_VERSION + 1.0))
        return vgpu_ptx_fail(p, CUDA_ERROR_UNSUPPORTED_PTX_VERSION, p->tok.line,
                             ".version %.*s: versions up to %u.x are understood; compile with an "
                             "older toolchain",
                             (int)(p->tok.len > 16 ? 16 : p->tok.len), p->tok.text, NEWEST_VERSION);
    p->saw_version = true;
    vgpu_ptx_next(p);
    return true;
}

/* `.target sm_75, debug`: a later architecture is refused as NVIDIA's driver refuses text for a
 * later card. (NO_BINARY_FOR_GPU is what it answers to a fatbin without anything that fits.) */
static bool parse_target(struct ptx_parser *p)
{
    do {
        const struct ptx_tok *t = &p->tok;
        if (t->kind != PTX_TOK_IDENT)
            return vgpu_ptx_unexpected(p, ".target wants sm_NN");
        if (t->len > 3 && memcmp(t->text, "sm_", 3) == 0) {
            unsigned sm = 0;
            uint32_t i = 3;
            for (; i < t->len && t->text[i] >= '0' && t->text[i] <= '9' && sm < 1000; i++)
                sm = sm * 10 + (unsigned)(t->text[i] - '0');
            if (i == 3)
                return vgpu_ptx_unexpected(p, ".target wants sm_NN");
            if (sm > TARGET_SM)
                return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t->line,
                                     ".target %.*s: this device is sm_%u; compile with "
                                     "-arch=compute_%u or lower",
                                     (int)(t->len > 16 ? 16 : t->len), t->text, TARGET_SM,
                                     TARGET_SM);
            p->saw_target = true;
            p->module->target_sm = sm;
        } else if (!vgpu_ptx_tok_text(t, "debug") && !vgpu_ptx_tok_text(t, "texmode_unified") &&
                   !vgpu_ptx_tok_text(t, "texmode_independent") &&
                   !vgpu_ptx_tok_text(t, "map_f64_to_f32")) {
            return vgpu_ptx_unexpected(p, ".target wants sm_NN");
        }
        vgpu_ptx_next(p);
    } while (vgpu_ptx_accept(p, ','));
    return true;
}

/* A braced block of no interest, `.section .debug_str { ... }`: skipped token by token, nested or
 * not. */
static bool skip_section(struct ptx_parser *p)
{
    while (p->tok.kind == PTX_TOK_DOT || p->tok.kind == PTX_TOK_IDENT)
        vgpu_ptx_next(p);
    if (!vgpu_ptx_expect(p, '{', ".section"))
        return false;
    for (uint32_t depth = 1; depth;) {
        if (p->tok.kind == PTX_TOK_END || p->tok.kind == PTX_TOK_BAD)
            return vgpu_ptx_unexpected(p, ".section");
        if (ptx_tok_is(&p->tok, '{'))
            depth++;
        else if (ptx_tok_is(&p->tok, '}'))
            depth--;
        vgpu_ptx_next(p);
    }
    return true;
}

bool vgpu_ptx_skip_to_semicolon(struct ptx_parser *p, const char *where)
{
    while (!ptx_tok_is(&p->tok, ';')) {
        if (p->tok.kind == PTX_TOK_END || p->tok.kind == PTX_TOK_BAD)
            return vgpu_ptx_unexpected(p, where);
        vgpu_ptx_next(p);
    }
    vgpu_ptx_next(p);
    return true;
}

static bool parse_directive(struct ptx_parser *p)
{
    enum ptx_linkage linkage = PTX_LINK_NONE;
    for (;;) {
        if (p->tok.kind != PTX_TOK_DOT)
            return vgpu_ptx_unexpected(p, "a directive belongs here");
        if (vgpu_ptx_is_dot(p, "file") || vgpu_ptx_is_dot(p, "loc")) {
            vgpu_ptx_lex_skip_line(&p->lx);
            vgpu_ptx_next(p);
            return true;
        }
        struct ptx_tok t = p->tok;
        vgpu_ptx_next(p);
        if (vgpu_ptx_tok_text(&t, "version"))
            return parse_version(p);
        if (!p->saw_version)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t.line,
                                 "the module must begin with .version");
        if (vgpu_ptx_tok_text(&t, "target"))
            return parse_target(p);
        if (vgpu_ptx_tok_text(&t, "address_size")) {
            if (p->tok.kind != PTX_TOK_INT || p->tok.u != 64)
                return vgpu_ptx_unexpected(p, ".address_size must be 64");
            vgpu_ptx_next(p);
            return true;
        }
        if (vgpu_ptx_tok_text(&t, "section"))
            return skip_section(p);
        if (vgpu_ptx_tok_text(&t, "pragma"))
            return vgpu_ptx_skip_to_semicolon(p, ".pragma");
        if (!p->saw_target)
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t.line,
                                 ".target must come before '.%.*s'", (int)(t.len > 60 ? 60 : t.len),
                                 t.text);
        if (vgpu_ptx_tok_text(&t, "visible"))
            linkage = PTX_LINK_VISIBLE;
        else if (vgpu_ptx_tok_text(&t, "extern"))
            linkage = PTX_LINK_EXTERN;
        else if (vgpu_ptx_tok_text(&t, "weak") || vgpu_ptx_tok_text(&t, "common"))
            linkage = PTX_LINK_WEAK;
        else if (vgpu_ptx_tok_text(&t, "entry") || vgpu_ptx_tok_text(&t, "func"))
            return vgpu_ptx_parse_function(p, t.text[0] == 'e');
        else if (vgpu_ptx_tok_text(&t, "alias"))
            return vgpu_ptx_parse_alias(p);
        else if (vgpu_ptx_tok_text(&t, "global"))
            return vgpu_ptx_declare(p, PTX_SPACE_GLOBAL, linkage);
        else if (vgpu_ptx_tok_text(&t, "const"))
            return vgpu_ptx_declare(p, PTX_SPACE_CONST, linkage);
        else if (vgpu_ptx_tok_text(&t, "shared"))
            return vgpu_ptx_declare(p, PTX_SPACE_SHARED, linkage);
        else if (vgpu_ptx_tok_text(&t, "local"))
            return vgpu_ptx_declare(p, PTX_SPACE_LOCAL, linkage);
        else
            return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, t.line,
                                 "directive '.%.*s' is not supported",
                                 (int)(t.len > 60 ? 60 : t.len), t.text);
    }
}

static void parse_module(struct ptx_parser *p)
{
    vgpu_ptx_next(p);
    while (!p->failed && p->tok.kind != PTX_TOK_END)
        parse_directive(p);
    if (!p->failed && !p->saw_version)
        vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, 1, "no .version: this is not a PTX module");
    if (!p->failed && !p->saw_target)
        vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line, "no .target");
    if (!p->failed)
        vgpu_ptx_link(p);
}

/* What only the loader needs. */
static void free_parser(struct ptx_parser *p)
{
    vgpu_ptx_symbols_free(&p->symbols);
    vgpu_ptx_symbols_free(&p->members);
    vgpu_ptx_symbols_free(&p->signatures);
    vgpu_ptx_vec_free(p->budget, &p->pending, sizeof(struct ptx_pending));
    vgpu_ptx_vec_free(p->budget, &p->sizes, sizeof(uint32_t));
    vgpu_ptx_vec_free(p->budget, &p->formals, sizeof(uint32_t));
    vgpu_ptx_vec_free(p->budget, &p->items, sizeof(struct ptx_item));
    vgpu_ptx_vec_free(p->budget, &p->uses, sizeof(struct ptx_use));
    vgpu_ptx_vec_free(p->budget, &p->free_rows, sizeof(struct ptx_free_row));
    vgpu_ptx_vec_free(p->budget, &p->shared_vars, sizeof(struct ptx_shared_var));
    vgpu_ptx_vec_free(p->budget, &p->shared_uses, sizeof(struct ptx_shared_use));
    p->budget->used_bytes -= p->const_cap * sizeof(*p->const_keys);
    free(p->const_keys);
}

CUresult vgpu_ptx_module_load(const char *text, size_t bytes, struct ptx_budget *budget,
                              struct ptx_memory *memory, const ptx_exec_fn *handlers,
                              const uint32_t *stop, uint32_t serial, struct ptx_module **out,
                              char *log, size_t log_size)
{
    *out = NULL;
    if (log_size)
        log[0] = 0;
    struct ptx_parser p = {
        .budget = budget, .handlers = handlers, .stop = stop, .log = log, .log_size = log_size};
    p.const_seed = vgpu_ptx_hash_seed(&p);
    if (bytes > PTX_MAX_IMAGE_BYTES) {
        vgpu_ptx_fail(&p, CUDA_ERROR_OUT_OF_MEMORY, 0,
                      "an image of %zu bytes; at most %u are taken", bytes, PTX_MAX_IMAGE_BYTES);
        return p.result;
    }
    if (budget->limit_bytes - budget->used_bytes < MODULE_BYTES) {
        vgpu_ptx_fail_memory(&p);
        return p.result;
    }
    p.module = calloc(1, sizeof(*p.module));
    if (!p.module || !vgpu_ptx_symbols_init(&p.symbols, budget) ||
        !vgpu_ptx_symbols_init(&p.members, budget) ||
        !vgpu_ptx_symbols_init(&p.signatures, budget)) {
        vgpu_ptx_symbols_free(&p.symbols);
        vgpu_ptx_symbols_free(&p.members);
        free(p.module);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    budget->used_bytes += MODULE_BYTES;
    p.module->arena.budget = budget;
    p.module->memory = memory;
    p.module->code_base = PTX_CODE_WINDOW + (uint64_t)serial * (PTX_MAX_FUNCTIONS + 1) *
                                                PTX_CODE_STEP % PTX_CODE_BYTES;
    p.fn_tail = &p.module->functions;
    vgpu_ptx_lex_init(&p.lx, text, bytes);
    parse_module(&p);

    free_parser(&p);
    if (p.failed) {
        vgpu_ptx_module_free(p.module);
        return p.result;
    }
    *out = p.module;
    return CUDA_SUCCESS;
}

void vgpu_ptx_module_free(struct ptx_module *m)
{
    struct ptx_budget *b = m->arena.budget;
    for (struct ptx_function *f = m->functions; f; f = f->next) {
        vgpu_ptx_vec_free(b, &f->consts, PTX_SLOT_BYTES);
        vgpu_ptx_vec_free(b, &f->specials, sizeof(struct ptx_special_use));
    }
    vgpu_ptx_vec_free(b, &m->code, sizeof(struct ptx_insn));
    vgpu_ptx_vec_free(b, &m->table, sizeof(struct ptx_function *));
    vgpu_ptx_vec_free(b, &m->calls, sizeof(struct ptx_call));
    vgpu_ptx_vec_free(b, &m->copies, sizeof(struct ptx_copy));
    vgpu_ptx_vec_free(b, &m->targets, sizeof(uint32_t));
    for (struct ptx_global *g = m->globals; g; g = g->next)
        vgpu_ptx_memory_release(m->memory, g->address, true);
    vgpu_ptx_drop_references(m);
    vgpu_ptx_arena_free(&m->arena);
    b->used_bytes -= MODULE_BYTES;
    free(m);
}
