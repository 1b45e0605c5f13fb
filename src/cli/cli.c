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

void cli_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if (*c >= 0x20 && *c < 0x7F)
            fputc(*c, out);
        else
            fprintf(out, "\\u%04x", *c);
    }
    fputc('"', out);
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
