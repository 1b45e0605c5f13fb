/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From pairs to JSON and to the journal's fields; see log_form.h. */
#include "common/log_form.h"

#include <stdio.h>
#include <string.h>

#define NUMBER_MAX 15u /* digits that any reader of JSON takes without loss */

static bool is_key(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static size_t key_length(const char *text, size_t length)
{
    size_t n = 0;
    while (n < length && is_key(text[n]))
        n++;
    return n && n <= VGPU_LOG_KEY_MAX && n < length && text[n] == '=' ? n : 0;
}

/* Where a value ends that begins here; quoted: behind its first quote. */
static size_t value_length(const char *text, size_t length, bool quoted)
{
    size_t n = 0;
    while (n < length && text[n] != (quoted ? '"' : ' '))
        n += quoted && text[n] == '\\' && n + 1 < length ? 2 : 1;
    return n;
}

bool vgpu_log_next_pair(const char *text, size_t length, size_t *at, struct vgpu_log_pair *out)
{
    while (*at < length) {
        size_t begin = *at, key = key_length(text + begin, length - begin);
        if (key) {
            size_t value = begin + key + 1;
            bool quoted = value < length && text[value] == '"';
            value += quoted;
            size_t n = value_length(text + value, length - value, quoted);
            *out = (struct vgpu_log_pair){text + begin, key, text + value, n, quoted};
            *at = value + n + quoted + 1; /* behind the quote, and the space */
            return true;
        }
        const char *space = memchr(text + begin, ' ', length - begin);
        *at = space ? (size_t)(space - text) + 1 : length;
    }
    return false;
}

/* ---- Writing, up to a bound ---- */

struct out {
    char *bytes;
    size_t used, size;
    bool full;
};

static void put(struct out *o, const char *bytes, size_t length)
{
    if (o->full || length > o->size - o->used) {
        o->full = true;
        return;
    }
    memcpy(o->bytes + o->used, bytes, length);
    o->used += length;
}

static void put_text(struct out *o, const char *text)
{
    put(o, text, strlen(text));
}

/* A string of JSON. `escaped`: its \" and \\ are escapes already, which JSON has too; anything
 * else behind a backslash cannot be, and is passed on as two. */
static void put_string(struct out *o, const char *text, size_t length, bool escaped)
{
    put(o, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (escaped && c == '\\' && i + 1 < length && (text[i + 1] == '"' || text[i + 1] == '\\')) {
            put(o, text + i++, 2);
        } else if (c == '"' || c == '\\') {
            put(o, "\\", 1);
            put(o, &c, 1);
        } else {
            put(o, c >= 0x20 && c < 0x7f ? &c : "?", 1);
        }
    }
    put(o, "\"", 1);
}

static bool is_number(const struct vgpu_log_pair *p)
{
    if (p->quoted || !p->value_length || p->value_length > NUMBER_MAX ||
        (p->value[0] == '0' && p->value_length > 1))
        return false;
    for (size_t i = 0; i < p->value_length; i++)
        if (p->value[i] < '0' || p->value[i] > '9')
            return false;
    return true;
}

/* The line has these already; a second one would make an object that not everybody can read. */
static bool is_reserved(const struct vgpu_log_pair *p)
{
    static const char *const names[] = {"time", "level", "prog", "event", "truncated"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (p->key_length == strlen(names[i]) && !memcmp(p->key, names[i], p->key_length))
            return true;
    return false;
}

static void put_pair(struct out *o, const struct vgpu_log_pair *p)
{
    put(o, ",", 1);
    put_string(o, p->key, p->key_length, false);
    put(o, ":", 1);
    if (is_number(p))
        put(o, p->value, p->value_length);
    else
        put_string(o, p->value, p->value_length, p->quoted);
}

size_t vgpu_log_json(char *bytes, size_t size, const char *time, const char *level,
                     const char *program, const char *event, const char *text, size_t length)
{
    static const char end[] = ",\"truncated\":true}";
    struct out o = {.bytes = bytes, .size = size - (sizeof(end) - 1)};
    const char *const head[][2] = {{"{\"time\":", time},
                                   {",\"level\":", level},
                                   {",\"prog\":", program},
                                   {",\"event\":", event}};
    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++) {
        put_text(&o, head[i][0]);
        put_string(&o, head[i][1], strlen(head[i][1]), false);
    }
    struct vgpu_log_pair pair;
    bool cut = false;
    for (size_t at = 0; !cut && vgpu_log_next_pair(text, length, &at, &pair);) {
        size_t before = o.used;
        if (is_reserved(&pair))
            continue;
        put_pair(&o, &pair);
        cut = o.full;
        if (cut)
            o.used = before;
    }
    o.full = false;
    o.size = size;
    put_text(&o, cut ? end : "}");
    return o.used;
}

static void put_field(struct out *o, const char *prefix, const char *name, size_t name_length,
                      const char *value, size_t length, bool escaped)
{
    size_t before = o->used;
    put_text(o, prefix);
    for (size_t i = 0; i < name_length; i++) {
        char c = name[i];
        c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
        put(o, &c, 1);
    }
    put(o, "=", 1);
    for (size_t i = 0; i < length; i++) {
        if (escaped && value[i] == '\\' && i + 1 < length)
            i++;
        put(o, (unsigned char)value[i] >= 0x20 ? &value[i] : "?", 1);
    }
    put(o, "\n", 1);
    if (o->full)
        o->used = before;
}

size_t vgpu_log_journal(char *bytes, size_t size, int priority, const char *program,
                        const char *event, const char *text, size_t length)
{
    struct out o = {.bytes = bytes, .size = size};
    char number[12];
    int n = snprintf(number, sizeof(number), "%d", priority);
    put_text(&o, "MESSAGE=");
    put_text(&o, event);
    put(&o, length ? " " : "", length ? 1 : 0);
    put(&o, text, length);
    put(&o, "\n", 1);
    put_field(&o, "PRIORITY", "", 0, number, (size_t)n, false);
    put_field(&o, "SYSLOG_IDENTIFIER", "", 0, program, strlen(program), false);
    put_field(&o, "VGPU_EVENT", "", 0, event, strlen(event), false);
    struct vgpu_log_pair p;
    for (size_t at = 0; !o.full && vgpu_log_next_pair(text, length, &at, &p);)
        put_field(&o, "VGPU_", p.key, p.key_length, p.value, p.value_length, p.quoted);
    return o.used;
}
