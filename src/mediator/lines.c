/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Splitting into lines; see lines.h. */
#include "mediator/lines.h"

#include <string.h>

#define TIME_BYTES 27u /* 2026-01-01T00:00:00.000000Z */

size_t vgpu_lines_take(struct vgpu_lines *l, const char *bytes, size_t size, bool *whole)
{
    const char *end = memchr(bytes, '\n', size);
    size_t taken = end ? (size_t)(end - bytes) : size;
    size_t room = sizeof(l->text) - l->length;
    size_t kept = taken < room ? taken : room;
    memcpy(l->text + l->length, bytes, kept);
    l->length += (uint32_t)kept;
    l->cut |= kept < taken;
    *whole = end != NULL;
    return taken + (end != NULL);
}

/* The word behind `name` at *at, and the blank behind that. */
static bool take_word(const char *text, size_t length, size_t *at, const char *name,
                      const char **word, size_t *word_length)
{
    size_t n = strlen(name);
    if (length - *at < n || memcmp(text + *at, name, n))
        return false;
    const char *begin = text + *at + n;
    const char *end = memchr(begin, ' ', length - *at - n);
    if (!end)
        return false;
    *word = begin;
    *word_length = (size_t)(end - begin);
    *at = (size_t)(end - text) + 1;
    return true;
}

size_t vgpu_lines_message(const char *text, size_t length, enum vgpu_log_level *level)
{
    const char *word;
    size_t n, at = TIME_BYTES;
    *level = VGPU_LOG_WARN;
    if (length < TIME_BYTES || text[10] != 'T' || text[TIME_BYTES - 1] != 'Z')
        return 0;
    if (!take_word(text, length, &at, " level=", &word, &n))
        return 0;
    char name[8] = "";
    enum vgpu_log_level said;
    memcpy(name, word, n < sizeof(name) ? n : sizeof(name) - 1);
    if (vgpu_log_level_parse(name, &said) || !take_word(text, length, &at, "prog=", &word, &n))
        return 0;
    *level = said;
    return at;
}
