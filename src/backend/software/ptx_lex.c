/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PTX text to tokens (PTX ISA, "Syntax"). See ptx_lex.h for what it refuses to know. */
#include "ptx_lex.h"

#include <stdlib.h>
#include <string.h>

/* ASCII only, whatever the locale says. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_ident(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '$';
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void vgpu_ptx_lex_init(struct ptx_lexer *lx, const char *text, size_t bytes)
{
    /* The image may or may not end in NULs; what follows the first one is not text. */
    const char *nul = bytes ? memchr(text, 0, bytes) : NULL;
    lx->p = text;
    lx->end = nul ? nul : text + bytes;
    lx->line = 1;
}

void vgpu_ptx_lex_skip_line(struct ptx_lexer *lx)
{
    while (lx->p < lx->end && *lx->p != '\n')
        lx->p++;
}

/* False when a comment has no end. */
static bool skip_blank(struct ptx_lexer *lx)
{
    while (lx->p < lx->end) {
        char c = *lx->p;
        if (c == '\n') {
            lx->line++;
            lx->p++;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
            lx->p++;
        } else if (c == '/' && lx->end - lx->p > 1 && lx->p[1] == '/') {
            vgpu_ptx_lex_skip_line(lx);
        } else if (c == '/' && lx->end - lx->p > 1 && lx->p[1] == '*') {
            lx->p += 2;
            for (;;) {
                if (lx->end - lx->p < 2) {
                    lx->p = lx->end;
                    return false;
                }
                if (lx->p[0] == '*' && lx->p[1] == '/')
                    break;
                if (*lx->p == '\n')
                    lx->line++;
                lx->p++;
            }
            lx->p += 2;
        } else {
            return true;
        }
    }
    return true;
}

/* Exactly `digits` hex digits after the two-character prefix, as 0f and 0d want. */
static bool lex_hex_float(struct ptx_lexer *lx, struct ptx_tok *t, int digits)
{
    if (lx->end - lx->p < 2 + digits)
        return false;
    uint64_t v = 0;
    for (int i = 0; i < digits; i++) {
        int h = hex_digit(lx->p[2 + i]);
        if (h < 0)
            return false;
        v = v << 4 | (uint64_t)h;
    }
    lx->p += 2 + digits;
    t->u = v;
    return true;
}

/* Decimal floating point such as 1.5 or 2e3; parsed in a bounded private copy because strtod wants
 * a NUL. */
static bool lex_decimal_float(struct ptx_lexer *lx, struct ptx_tok *t)
{
    char buf[64];
    size_t n = 0;
    const char *p = lx->p;
    while (p < lx->end && n < sizeof(buf) - 1 &&
           (is_digit(*p) || *p == '.' || *p == 'e' || *p == 'E' ||
            ((*p == '+' || *p == '-') && (p[-1] == 'e' || p[-1] == 'E'))))
        buf[n++] = *p++;
    buf[n] = 0;
    char *stop;
    double v = strtod(buf, &stop);
    if (*stop || n == sizeof(buf) - 1)
        return false;
    memcpy(&t->u, &v, sizeof(v));
    lx->p = p;
    return true;
}

static void lex_number(struct ptx_lexer *lx, struct ptx_tok *t)
{
    const char *p = lx->p, *end = lx->end;
    t->kind = PTX_TOK_BAD;
    unsigned base = 10;
    if (*p == '0' && end - p > 1) {
        char x = p[1];
        if (x == 'f' || x == 'F') {
            if (lex_hex_float(lx, t, 8))
                t->kind = PTX_TOK_F32;
            return;
        }
        if (x == 'd' || x == 'D') {
            if (lex_hex_float(lx, t, 16))
                t->kind = PTX_TOK_F64;
            return;
        }
        if (x == 'x' || x == 'X') {
            base = 16;
            p += 2;
        } else if (x == 'b' || x == 'B') {
            base = 2;
            p += 2;
        } else if (is_digit(x)) {
            base = 8;
        }
    }
    if (base == 10) {
        const char *q = p;
        while (q < end && is_digit(*q))
            q++;
        if (q < end && (*q == '.' || *q == 'e' || *q == 'E')) {
            if (lex_decimal_float(lx, t))
                t->kind = PTX_TOK_F64;
            return;
        }
    }
    uint64_t v = 0;
    const char *first = p;
    for (; p < end; p++) {
        int h = hex_digit(*p);
        if (h < 0 || (unsigned)h >= base)
            break;
        if (v > (UINT64_MAX - (unsigned)h) / base)
            return;
        v = v * base + (unsigned)h;
    }
    if (p == first)
        return;
    if (p < end && *p == 'U')
        p++;
    lx->p = p;
    t->u = v;
    t->kind = PTX_TOK_INT;
}

void vgpu_ptx_lex_next(struct ptx_lexer *lx, struct ptx_tok *t)
{
    bool ok = skip_blank(lx);
    t->text = lx->p;
    t->line = lx->line;
    t->len = 0;
    t->u = 0;
    t->kind = ok ? PTX_TOK_END : PTX_TOK_BAD;
    if (!ok || lx->p == lx->end)
        return;

    const char *p = lx->p, *end = lx->end;
    if (is_digit(*p)) {
        lex_number(lx, t);
        if (t->kind == PTX_TOK_BAD)
            lx->p = p + 1;
    } else if (is_ident(*p) || (*p == '%' && end - p > 1 && is_ident(p[1]))) {
        p++;
        while (p < end && is_ident(*p))
            p++;
        t->kind = PTX_TOK_IDENT;
        lx->p = p;
    } else if (*p == '.' && end - p > 1 && is_ident(p[1])) {
        t->text = ++p;
        for (;;) {
            while (p < end && is_ident(*p))
                p++;
            if (end - p > 2 && p[0] == ':' && p[1] == ':' && is_ident(p[2]))
                p += 2;
            else
                break;
        }
        t->kind = PTX_TOK_DOT;
        lx->p = p;
    } else if (*p == '"') {
        t->text = ++p;
        while (p < end && *p != '"' && *p != '\n')
            p++;
        t->len = (uint32_t)(p - t->text);
        t->kind = p < end && *p == '"' ? PTX_TOK_STRING : PTX_TOK_BAD;
        lx->p = p < end ? p + 1 : p;
        return;
    } else {
        t->kind = *p > ' ' && *p < 127 ? PTX_TOK_PUNCT : PTX_TOK_BAD;
        t->u = (unsigned char)*p;
        lx->p = p + 1;
    }
    t->len = (uint32_t)(lx->p - t->text);
}
