/* SPDX-License-Identifier: MIT */
/*
 * The parameters of one kernel from PTX text, by its signature alone:
 *
 *     .visible .entry name( .param .u64 .ptr .global .align 16 a, .param .align 4 .b8 b[20] )
 *
 * Knows tokens, braces and parameter declarations; everything else is stepped over, right or wrong.
 */
#include <errno.h>
#include <string.h>

#include "image/image.h"

struct scanner {
    const char *p, *end;
    const char *text; /* the token */
    size_t length;    /* 0: the text is at its end */
};

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c == '$' || c == '%' || c == '.';
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_string(struct scanner *s)
{
    for (s->p++; s->p < s->end && *s->p != '"'; s->p++)
        if (*s->p == '\\' && s->p + 1 < s->end)
            s->p++;
    if (s->p < s->end)
        s->p++;
}

static void skip_comment(struct scanner *s)
{
    if (s->p[1] == '/') {
        while (s->p < s->end && *s->p != '\n')
            s->p++;
        return;
    }
    for (s->p += 2; s->p < s->end; s->p++) {
        if (*s->p == '*' && s->p + 1 < s->end && s->p[1] == '/') {
            s->p += 2;
            return;
        }
    }
}

/* A token: a word with its dots (`.visible`, `.u64`, `foo`, `12`), or one character. Comments,
 * strings and white space are none. The text ends at a NUL. */
static void next(struct scanner *s)
{
    for (;;) {
        while (s->p < s->end && is_space(*s->p))
            s->p++;
        if (s->p < s->end && *s->p == '"')
            skip_string(s);
        else if (s->p + 1 < s->end && *s->p == '/' && (s->p[1] == '/' || s->p[1] == '*'))
            skip_comment(s);
        else
            break;
    }
    s->text = s->p;
    s->length = 0;
    if (s->p >= s->end || *s->p == 0) {
        s->end = s->p;
        return;
    }
    /* `.param.u64`: a word ends where the next dot begins one of its own. */
    do
        s->p++;
    while (s->p < s->end && is_word(*s->text) && is_word(*s->p) && *s->p != '.');
    s->length = (size_t)(s->p - s->text);
}

static bool is(const struct scanner *s, const char *what)
{
    return strlen(what) == s->length && memcmp(s->text, what, s->length) == 0;
}

/* A whole number up to the size of a parameter buffer: decimal, octal, hexadecimal or binary. */
static bool read_number(const struct scanner *s, uint64_t *value)
{
    unsigned base = 10;
    size_t i = 0;
    size_t length = s->length;
    if (length > 1 && (s->text[length - 1] == 'U' || s->text[length - 1] == 'u'))
        length--;
    if (length > 2 && s->text[0] == '0' && (s->text[1] == 'x' || s->text[1] == 'X'))
        base = 16, i = 2;
    else if (length > 2 && s->text[0] == '0' && (s->text[1] == 'b' || s->text[1] == 'B'))
        base = 2, i = 2;
    else if (length > 1 && s->text[0] == '0')
        base = 8, i = 1;
    *value = 0;
    if (i >= length)
        return false;
    for (; i < length; i++) {
        char c = s->text[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 99;
        if (digit >= base)
            return false;
        *value = *value * base + digit;
        if (*value > VGPU_KERNEL_PARAM_BYTES_MAX)
            return false;
    }
    return true;
}

/* Bytes of `.u64`, 0 for what is no type. Textures, samplers and surfaces are passed as handles. */
static uint32_t type_bytes(const struct scanner *s)
{
    static const struct {
        const char *name;
        uint32_t bytes;
    } types[] = {
        {".b8", 1},      {".u8", 1},         {".s8", 1},    {".b16", 2},    {".u16", 2},
        {".s16", 2},     {".f16", 2},        {".bf16", 2},  {".b32", 4},    {".u32", 4},
        {".s32", 4},     {".f32", 4},        {".f16x2", 4}, {".bf16x2", 4}, {".b64", 8},
        {".u64", 8},     {".s64", 8},        {".f64", 8},   {".b128", 16},  {".texref", 8},
        {".surfref", 8}, {".samplerref", 8},
    };
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (is(s, types[i].name))
            return types[i].bytes;
    return 0;
}

/* From behind `.param` up to ',' or ')'. */
static int read_param(struct scanner *s, uint64_t *size, uint64_t *align)
{
    uint64_t elements = 1, number;
    uint32_t type = 0, vector = 1;
    bool pointee = false;
    *align = 0;
    for (; s->length && s->text[0] == '.'; next(s)) {
        if (is(s, ".ptr")) {
            pointee = true; /* a later .align is that of what it points to */
        } else if (is(s, ".v2")) {
            vector = 2;
        } else if (is(s, ".v4")) {
            vector = 4;
        } else if (is(s, ".align")) {
            next(s);
            if (!read_number(s, &number) || number == 0 || number & (number - 1))
                return -EINVAL;
            if (!pointee)
                *align = number;
        } else if (type_bytes(s)) {
            if (type)
                return -EINVAL;
            type = type_bytes(s);
        }
    }
    if (!type || !s->length || !is_word(s->text[0]))
        return -EINVAL;
    for (next(s); is(s, "["); next(s)) {
        next(s);
        if (!read_number(s, &number) || number == 0)
            return -EINVAL;
        elements *= number; /* both at most 2^15 */
        next(s);
        if (!is(s, "]") || elements > VGPU_KERNEL_PARAM_BYTES_MAX)
            return -EINVAL;
    }
    *size = elements * type * vector;
    if (*align < (uint64_t)type * vector)
        *align = (uint64_t)type * vector;
    return 0;
}

/* From behind the kernel's name. */
static int read_signature(struct scanner *s, struct vgpu_param_layout *layout, uint32_t capacity,
                          uint32_t *count, uint32_t *total_bytes)
{
    uint64_t end = 0;
    uint32_t params = 0;
    next(s);
    if (is(s, "("))
        next(s);
    else
        return s->length ? 0 : -EINVAL;
    while (!is(s, ")")) {
        uint64_t size, align;
        if (!is(s, ".param"))
            return -EINVAL;
        next(s);
        int err = read_param(s, &size, &align);
        if (err < 0)
            return err;
        uint64_t offset = (end + align - 1) & ~(align - 1);
        end = offset + size;
        if (end > VGPU_KERNEL_PARAM_BYTES_MAX)
            return -EINVAL;
        if (params < capacity)
            layout[params] =
                (struct vgpu_param_layout){.offset = (uint32_t)offset, .size = (uint32_t)size};
        params++;
        if (is(s, ","))
            next(s);
        else if (!is(s, ")"))
            return -EINVAL;
    }
    *count = params;
    *total_bytes = (uint32_t)end;
    return 0;
}

int vgpu_ptx_kernel_params(const void *text, size_t bytes, const char *name,
                           struct vgpu_param_layout *layout, uint32_t capacity, uint32_t *count,
                           uint32_t *total_bytes)
{
    struct scanner s = {.p = text, .end = (const char *)text + bytes};
    unsigned depth = 0;
    *count = *total_bytes = 0;
    for (next(&s); s.length; next(&s)) {
        if (is(&s, "{")) {
            depth++;
        } else if (is(&s, "}")) {
            depth -= depth > 0;
        } else if (depth == 0 && is(&s, ".entry")) {
            next(&s);
            if (is(&s, name))
                return read_signature(&s, layout, capacity, count, total_bytes);
        }
    }
    return -ENOENT;
}
