/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vprintf of the device: a format and a buffer of packed arguments, both in device memory, become
 * text. An argument is as large as what the format says it is, at a multiple of its size; nothing
 * says how many there are, so every read is checked as a load of the kernel's would be. Widths and
 * precisions are bounded, and so is a message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builtin.h"

#define DEFAULT_TEXT_BYTES ((uint64_t)1 << 20)
#define DEFAULT_HEAP_BYTES ((uint64_t)8 << 20)
#define MAX_WIDTH          1024
#define MAX_FORMAT_BYTES   65536u
#define MAX_NUMBER_BYTES   2048 /* the longest double with the largest precision and width */

void vgpu_ptx_runtime_init(struct ptx_runtime *r, uint64_t text_limit, uint64_t heap_limit)
{
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    r->text_limit = (size_t)(text_limit ? text_limit : DEFAULT_TEXT_BYTES);
    r->heap_limit = heap_limit ? heap_limit : DEFAULT_HEAP_BYTES;
}

void vgpu_ptx_runtime_free(struct ptx_runtime *r)
{
    pthread_mutex_destroy(&r->lock);
    free(r->text);
    free(r->taken);
    free(r->last);
}

void vgpu_ptx_text_append(struct ptx_runtime *r, const char *text, size_t bytes)
{
    pthread_mutex_lock(&r->lock);
    bool fits = bytes <= r->text_limit - r->text_used;
    if (fits && bytes > r->text_cap - r->text_used) {
        size_t cap = r->text_cap ? r->text_cap : 4096;
        while (cap - r->text_used < bytes)
            cap *= 2;
        char *more = realloc(r->text, cap < r->text_limit ? cap : r->text_limit);
        fits = more;
        if (more) {
            r->text = more;
            r->text_cap = cap < r->text_limit ? cap : r->text_limit;
        }
    }
    if (fits) {
        memcpy(r->text + r->text_used, text, bytes);
        r->text_used += bytes;
    } else {
        r->lost++;
    }
    pthread_mutex_unlock(&r->lock);
}

/* A message while it grows; what does not fit is cut off. */
struct message {
    size_t used;
    char text[PTX_MAX_MESSAGE_BYTES];
};

static void put(struct message *m, const char *s, size_t n)
{
    size_t room = sizeof(m->text) - m->used;
    n = n < room ? n : room;
    memcpy(m->text + m->used, s, n);
    m->used += n;
}

static void put_fill(struct message *m, size_t n)
{
    while (n-- && m->used < sizeof(m->text))
        m->text[m->used++] = ' ';
}

/* One conversion: what stands between the % and the letter. */
struct spec {
    bool left, sign, space, alt, zero;
    int width, precision; /* precision -1: none */
    char length;          /* h, H (hh), l (also ll, j, z, t), or 0 */
};

/* A reader of one lane's argument buffer. */
struct args {
    struct ptx_caller *c;
    uint64_t at;
    unsigned count;
};

static bool next_arg(struct args *a, unsigned bytes, uint64_t *value)
{
    a->at = (a->at + bytes - 1) & ~(uint64_t)(bytes - 1);
    *value = 0;
    if (!vgpu_ptx_caller_read(a->c, a->at, bytes, value))
        return false;
    a->at += bytes;
    a->count++;
    return true;
}

/* A text of the guest's. It ends at its NUL or after so many bytes, since it may be endless and
 * print nothing. */
struct source {
    struct ptx_caller *c;
    uint64_t at;
    uint32_t left;
};

static bool next_char(struct source *s, char *out)
{
    uint64_t v = 0;
    if (s->left && !vgpu_ptx_caller_read(s->c, s->at, 1, &v))
        return false;
    s->left -= s->left > 0;
    s->at++;
    *out = (char)v;
    return true;
}

/* A number or `*`; the character behind it ends up in *c. */
static bool parse_number(struct source *s, struct args *a, char *c, int *value, bool *negative)
{
    *negative = false;
    *value = 0;
    if (*c == '*') {
        uint64_t v;
        if (!next_arg(a, 4, &v))
            return false;
        int64_t n = (int32_t)v;
        *negative = n < 0;
        n = n < 0 ? -n : n;
        *value = (int)(n < MAX_WIDTH ? n : MAX_WIDTH);
        return next_char(s, c);
    }
    while (*c >= '0' && *c <= '9') {
        *value = *value * 10 + (*c - '0');
        *value = *value < MAX_WIDTH ? *value : MAX_WIDTH;
        if (!next_char(s, c))
            return false;
    }
    return true;
}

static bool parse_spec(struct source *s, struct args *a, struct spec *f, char *c)
{
    bool negative;
    memset(f, 0, sizeof(*f));
    f->precision = -1;
    for (;;) {
        if (!next_char(s, c))
            return false;
        bool *flag = *c == '-'   ? &f->left
                     : *c == '+' ? &f->sign
                     : *c == ' ' ? &f->space
                     : *c == '#' ? &f->alt
                     : *c == '0' ? &f->zero
                                 : NULL;
        if (!flag)
            break;
        *flag = true;
    }
    if (!parse_number(s, a, c, &f->width, &negative))
        return false;
    f->left |= negative;
    if (*c == '.') {
        if (!next_char(s, c) || !parse_number(s, a, c, &f->precision, &negative))
            return false;
        if (negative)
            f->precision = -1;
    }
    while (*c == 'h' || *c == 'l' || *c == 'j' || *c == 'z' || *c == 't' || *c == 'L') {
        if (*c == 'h')
            f->length = f->length == 'h' ? 'H' : 'h';
        else if (*c != 'L') /* there are no long doubles here */
            f->length = 'l';
        if (!next_char(s, c))
            return false;
    }
    return true;
}

/* The same conversion for the host's printf, whose letters take a 64-bit integer or a double. */
static void host_format(const struct spec *f, const char *letters, char out[32])
{
    snprintf(out, 32, "%%%s%s%s%s%s*.*%s", f->left ? "-" : "", f->sign ? "+" : "",
             f->space ? " " : "", f->alt ? "#" : "", f->zero ? "0" : "", letters);
}

/* The formats are made by host_format from a fixed set of parts, not by the guest. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void put_integer(struct message *m, const struct spec *f, char c, uint64_t v)
{
    char format[32], number[MAX_NUMBER_BYTES], letters[4] = {'l', 'l', c, 0};
    host_format(f, letters, format);
    int n = c == 'd'
                ? snprintf(number, sizeof(number), format, f->width, f->precision, (long long)v)
                : snprintf(number, sizeof(number), format, f->width, f->precision,
                           (unsigned long long)v);
    put(m, number, n < 0 ? 0 : (size_t)n < sizeof(number) ? (size_t)n : sizeof(number) - 1);
}

static void put_double(struct message *m, const struct spec *f, char c, uint64_t bits)
{
    char format[32], number[MAX_NUMBER_BYTES], letters[2] = {c, 0};
    double v;
    memcpy(&v, &bits, sizeof(v));
    host_format(f, letters, format);
    int n = snprintf(number, sizeof(number), format, f->width, f->precision, v);
    put(m, number, n < 0 ? 0 : (size_t)n < sizeof(number) ? (size_t)n : sizeof(number) - 1);
}

#pragma GCC diagnostic pop

static bool put_string(struct message *m, const struct spec *f, struct ptx_caller *caller,
                       uint64_t address)
{
    static const char null[] = "(null)";
    size_t limit = f->precision >= 0 ? (size_t)f->precision : sizeof(m->text), n = 0;
    char text[PTX_MAX_MESSAGE_BYTES];
    if (limit > sizeof(text))
        limit = sizeof(text);
    struct source s = {caller, address, MAX_FORMAT_BYTES};
    if (address == 0) {
        n = sizeof(null) - 1 < limit ? sizeof(null) - 1 : limit;
        memcpy(text, null, n);
    }
    for (; address && n < limit; n++) {
        if (!next_char(&s, &text[n]))
            return false;
        if (!text[n])
            break;
    }
    size_t fill = (size_t)f->width > n ? (size_t)f->width - n : 0;
    if (!f->left)
        put_fill(m, fill);
    put(m, text, n);
    if (f->left)
        put_fill(m, fill);
    return true;
}

/* Behind a %: false when a read was none a kernel may make. */
static bool convert(struct message *m, struct source *s, struct args *a)
{
    struct spec f;
    uint64_t v, from = s->at;
    char c;
    if (!parse_spec(s, a, &f, &c))
        return false;
    switch (c) {
    case 'd':
    case 'i':
        if (!next_arg(a, f.length == 'l' ? 8 : 4, &v))
            return false;
        v = f.length == 'l'   ? v
            : f.length == 'h' ? (uint64_t)(int64_t)(int16_t)v
            : f.length == 'H' ? (uint64_t)(int64_t)(int8_t)v
                              : (uint64_t)(int64_t)(int32_t)v;
        put_integer(m, &f, 'd', v);
        return true;
    case 'u':
    case 'o':
    case 'x':
    case 'X':
        if (!next_arg(a, f.length == 'l' ? 8 : 4, &v))
            return false;
        v = f.length == 'h' ? (uint16_t)v : f.length == 'H' ? (uint8_t)v : v;
        put_integer(m, &f, c, v);
        return true;
    case 'p':
        if (!next_arg(a, 8, &v))
            return false;
        f.alt = true;
        put_integer(m, &f, 'x', v);
        return true;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'a':
    case 'A':
        if (!next_arg(a, 8, &v))
            return false;
        put_double(m, &f, c, v);
        return true;
    case 'c': {
        if (!next_arg(a, 4, &v))
            return false;
        char letter = (char)v;
        size_t fill = f.width > 1 ? (size_t)f.width - 1 : 0;
        put_fill(m, f.left ? 0 : fill);
        put(m, &letter, 1);
        put_fill(m, f.left ? fill : 0);
        return true;
    }
    case 's':
        return next_arg(a, 8, &v) && put_string(m, &f, s->c, v);
    case '%':
        put(m, "%", 1);
        return true;
    default: /* %n among them: as it stands; the format's end is for the caller to see */
        put(m, "%", 1);
        s->at = from;
        return true;
    }
}

bool vgpu_ptx_printf(struct ptx_caller *caller, uint64_t format, uint64_t buffer, int32_t *result)
{
    struct message m;
    struct source s = {caller, format, MAX_FORMAT_BYTES};
    struct args a = {.c = caller, .at = buffer};
    char c;
    *result = -1;
    if (format == 0)
        return true;
    m.used = 0;
    while (m.used < sizeof(m.text)) {
        if (!next_char(&s, &c))
            return false;
        if (!c)
            break;
        if (c != '%')
            put(&m, &c, 1);
        else if (!convert(&m, &s, &a))
            return false;
    }
    *result = (int32_t)a.count;
    vgpu_ptx_text_append(caller->runtime, m.text, m.used);
    return true;
}
