/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tokens of PTX text. Owns what a token is; knows nothing of directives or instructions.
 *
 * The text comes from a guest and may hold anything, NULs included; nothing is read beyond its
 * length, and a token is a slice of it (never NUL-terminated). Lexing is linear and allocates
 * nothing.
 */
#ifndef VGPU_PTX_LEX_H
#define VGPU_PTX_LEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ptx_tok_kind {
    PTX_TOK_END,
    PTX_TOK_IDENT,  /* foo, %r1, $L1, _x */
    PTX_TOK_DOT,    /* .global, .u32, .L2::128B (text without the first dot) */
    PTX_TOK_INT,    /* value in `u` */
    PTX_TOK_F32,    /* 0f3F800000: bits in `u` */
    PTX_TOK_F64,    /* 0d..., 1.5: bits in `u` */
    PTX_TOK_STRING, /* text between the quotes */
    PTX_TOK_PUNCT,  /* one character, in `u` */
    PTX_TOK_BAD     /* no token of PTX begins here */
};

struct ptx_tok {
    enum ptx_tok_kind kind;
    const char *text;
    uint32_t len;
    uint32_t line;
    uint64_t u;
};

struct ptx_lexer {
    const char *p, *end;
    uint32_t line;
};

void vgpu_ptx_lex_init(struct ptx_lexer *lx, const char *text, size_t bytes);

/* The next token; at the end of the text PTX_TOK_END, for ever. */
void vgpu_ptx_lex_next(struct ptx_lexer *lx, struct ptx_tok *tok);

/* Drops the rest of the line: .file and .loc have no terminator. */
void vgpu_ptx_lex_skip_line(struct ptx_lexer *lx);

static inline bool ptx_tok_is(const struct ptx_tok *t, char c)
{
    return t->kind == PTX_TOK_PUNCT && t->u == (uint64_t)(unsigned char)c;
}

#endif
