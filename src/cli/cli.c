/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the command-line programs of the guest share. See cli.h. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu/registers.h"

bool cli_option(int argc, char **argv, int *at, const char *name, const char **value)
{
    const char *word = argv[*at];
    size_t length = strlen(name);
    if (strncmp(word, name, length) != 0)
        return false;
    if (word[length] == '=') {
        *value = word + length + 1;
        return true;
    }
    if (word[length] != 0)
        return false;
    *value = *at + 1 < argc ? argv[++*at] : NULL;
    return true;
}

bool cli_number(const char *text, uint64_t low, uint64_t high, uint64_t *number)
{
    char *end;
    if (!text || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || value < low || value > high)
        return false;
    *number = value;
    return true;
}

bool cli_text_option(int argc, char **argv, int *at, const char *name, const char **value)
{
    if (!cli_option(argc, argv, at, name, value))
        return false;
    if (*value && !**value)
        *value = NULL;
    return true;
}

/* Bytes of the UTF-8 character at `c`, 0 when there is no valid one. *point is its number. */
static unsigned utf8_length(const unsigned char *c, uint32_t *point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned length = *c < 0x80 ? 1 : *c >> 5 == 6 ? 2 : *c >> 4 == 14 ? 3 : *c >> 3 == 30 ? 4 : 0;
    if (length <= 1) {
        *point = *c;
        return length;
    }
    *point = *c & (0x7Fu >> length);
    for (unsigned i = 1; i < length; i++) {
        if (c[i] >> 6 != 2) /* the string's end, too */
            return 0;
        *point = *point << 6 | (c[i] & 0x3Fu);
    }
    bool surrogate = *point >= 0xD800 && *point <= 0xDFFF;
    return *point >= least[length] && *point <= 0x10FFFF && !surrogate ? length : 0;
}

static bool is_control(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0);
}

void cli_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        uint32_t point;
        unsigned length = utf8_length(c, &point);
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if (length == 0 || is_control(point))
            fprintf(out, "\\u%04x", length ? (unsigned)point : *c);
        else
            fwrite(c, 1, length, out);
        c += length ? length : 1;
    }
    fputc('"', out);
}

void cli_harmless(char *out, size_t capacity, const char *text, char quote)
{
    size_t at = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        uint32_t point;
        unsigned length = utf8_length(c, &point);
        bool bad = length == 0 || is_control(point) || (quote && *c == (unsigned char)quote);
        if (length == 0)
            length = 1;
        if ((bad ? 1 : length) >= capacity - at)
            break;
        if (bad) {
            out[at++] = '?';
        } else {
            memmove(out + at, c, length);
            at += length;
        }
        c += length;
    }
    out[at] = 0;
}

int cli_finish(const char *program, int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "%s: the output could not be written: %s\n", program, strerror(errno));
    return status ? status : VGPU_EXIT_NO_DEVICE;
}

const char *cli_priority_name(uint32_t priority)
{
    static const char *const names[] = {"low", "medium", "high"};
    return priority < VGPU_PRIORITY_COUNT ? names[priority] : "unknown";
}

void cli_format_bytes(char *text, size_t capacity, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(text, capacity, "%" PRIu64 " bytes", bytes);
    else
        snprintf(text, capacity, "%.1f %s", value, units[unit]);
}
