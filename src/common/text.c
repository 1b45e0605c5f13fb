/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growing text; see text.h. */
#include "common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for so many more bytes and a NUL. */
static bool make_room(struct vgpu_text *t, size_t more)
{
    if (t->failed)
        return false;
    if (more < t->room - t->length)
        return true;
    size_t room = t->room ? t->room : 512;
    while (room - t->length <= more)
        room *= 2;
    char *bytes = realloc(t->bytes, room);
    if (!bytes) {
        t->failed = true;
        return false;
    }
    t->bytes = bytes;
    t->room = room;
    return true;
}

void vgpu_text_printf(struct vgpu_text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int wanted =
        vsnprintf(t->bytes ? t->bytes + t->length : NULL, t->room - t->length, format, args);
    va_end(args);
    if (wanted < 0 || !make_room(t, (size_t)wanted))
        return;
    va_start(args, format);
    vsnprintf(t->bytes + t->length, t->room - t->length, format, args);
    va_end(args);
    t->length += (size_t)wanted;
}

void vgpu_text_append(struct vgpu_text *t, const char *bytes, size_t length)
{
    if (!make_room(t, length))
        return;
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
    t->bytes[t->length] = 0;
}

/* How many bytes of UTF-8 begin here; 0: it is none, or longer than it has to be. */
static size_t utf8_length(const unsigned char *c)
{
    size_t length = *c >= 0xf0 ? 4 : *c >= 0xe0 ? 3 : 2;
    if (*c < 0xc2 || *c > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    bool wrong = (*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f) ||
                 (*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] > 0x8f);
    return wrong ? 0 : length;
}

void vgpu_text_json(struct vgpu_text *t, const char *string)
{
    vgpu_text_append(t, "\"", 1);
    for (const unsigned char *c = (const unsigned char *)string; *c; c++) {
        size_t length = utf8_length(c);
        if (length) {
            vgpu_text_append(t, (const char *)c, length);
            c += length - 1;
        } else if (*c == '"' || *c == '\\')
            vgpu_text_printf(t, "\\%c", *c);
        else if (*c < 0x20 || *c > 0x7e)
            vgpu_text_printf(t, "\\u%04x", *c);
        else
            vgpu_text_append(t, (const char *)c, 1);
    }
    vgpu_text_append(t, "\"", 1);
}

char *vgpu_text_take(struct vgpu_text *t)
{
    char *bytes = t->failed ? NULL : t->bytes;
    if (t->failed)
        free(t->bytes);
    *t = (struct vgpu_text){0};
    return bytes;
}

void vgpu_text_free(struct vgpu_text *t)
{
    free(t->bytes);
    *t = (struct vgpu_text){0};
}
