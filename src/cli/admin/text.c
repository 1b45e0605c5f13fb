/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, times and other people's words for a terminal. See admin.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/admin/admin.h"
#include "cli/cli.h"

const char *admin_clean(char *out, size_t capacity, const char *text)
{
    cli_harmless(out, capacity, text, 0);
    return out;
}

const char *admin_size(char out[16], uint64_t bytes)
{
    static const char units[] = " KMGTPE";
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1023.95 && unit + 2 < sizeof(units)) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(out, 16, "%" PRIu64, bytes);
    else
        snprintf(out, 16, value == (double)(uint64_t)value ? "%.0f%c" : "%.1f%c", value,
                 units[unit]);
    return out;
}

const char *admin_span(char out[32], double seconds)
{
    uint64_t s = seconds > 0 && seconds < 1e15 ? (uint64_t)seconds : 0;
    if (s < 60)
        snprintf(out, 32, "%us", (unsigned)s);
    else if (s < 3600)
        snprintf(out, 32, "%um %us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(out, 32, "%uh %um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(out, 32, "%" PRIu64 "d %uh", s / 86400, (unsigned)(s / 3600 % 24));
    return out;
}

const char *admin_time(char out[32], double seconds_1970)
{
    struct tm local;
    time_t t = seconds_1970 > 0 && seconds_1970 < 1e11 ? (time_t)seconds_1970 : 0;
    if (!t || !localtime_r(&t, &local) || !strftime(out, 32, "%Y-%m-%d %H:%M:%S", &local))
        snprintf(out, 32, "-");
    return out;
}

/* The number of a character of valid UTF-8 (admin_clean has seen to it) and its bytes. */
static size_t character(const char *text, wchar_t *point)
{
    const unsigned char *c = (const unsigned char *)text;
    size_t length = *c < 0x80 ? 1 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : 4;
    uint32_t value = length == 1 ? *c : *c & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (!c[i]) {
            length = i;
            break;
        }
        value = value << 6 | (c[i] & 0x3Fu);
    }
    *point = (wchar_t)value;
    return length;
}

static size_t columns_of(wchar_t point)
{
    int width = wcwidth(point);
    return width < 0 ? 1 : (size_t)width; /* a locale without it: some sign stands there */
}

size_t admin_width(const char *text)
{
    size_t columns = 0;
    for (wchar_t point; *text;) {
        text += character(text, &point);
        columns += columns_of(point);
    }
    return columns;
}

size_t admin_fit(const char *text, size_t columns)
{
    size_t bytes = 0;
    for (wchar_t point; text[bytes];) {
        size_t length = character(text + bytes, &point);
        size_t width = columns_of(point);
        if (width > columns)
            break;
        columns -= width;
        bytes += length;
    }
    return bytes;
}

unsigned admin_terminal_columns(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO))
        return 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
        return size.ws_col;
    const char *said = getenv("COLUMNS");
    uint64_t columns;
    return said && cli_number(said, 20, 10000, &columns) ? (unsigned)columns : 80;
}
