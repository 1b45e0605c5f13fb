/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "8-20,25" as the numbers that it means. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admin/admin.h"

/* A number of up to 32 bits without sign or blanks; *at goes behind it. */
static bool read_number(const char **at, uint32_t *number)
{
    const char *c = *at;
    uint64_t value = 0;
    if (*c < '0' || *c > '9')
        return false;
    for (; *c >= '0' && *c <= '9'; c++) {
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *at = c;
    *number = (uint32_t)value;
    return true;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The first number that stands in it twice. */
static bool find_double(const uint32_t *numbers, size_t count, uint32_t *twice)
{
    uint32_t *sorted = malloc((count + 1) * sizeof(*sorted));
    bool found = false;
    if (!sorted)
        return false; /* the mediator looks as well */
    memcpy(sorted, numbers, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare);
    for (size_t i = 1; i < count && !found; i++) {
        found = sorted[i] == sorted[i - 1];
        *twice = sorted[i];
    }
    free(sorted);
    return found;
}

static bool read_ranges(const char *what, const char *text, uint32_t *numbers, size_t *count,
                        struct admin_error *e)
{
    const char *at = text;
    do {
        uint32_t first, last;
        if (!read_number(&at, &first)) {
            admin_fail(e, ADMIN_USAGE, "usage",
                       "%s '%s': a VM number from 0 to %" PRIu32 " is missing at '%.20s' (write "
                       "7, 8-20 or 7,8-20)",
                       what, text, UINT32_MAX, at);
            return false;
        }
        last = first;
        if (*at == '-') {
            at++;
            if (!read_number(&at, &last)) {
                admin_fail(e, ADMIN_USAGE, "usage",
                           "%s '%s': the range from %" PRIu32 " on has no end (write %" PRIu32
                           "-20)",
                           what, text, first, first);
                return false;
            }
        }
        if (last < first) {
            admin_fail(e, ADMIN_USAGE, "usage",
                       "%s '%s': the range %" PRIu32 "-%" PRIu32
                       " is empty (write the smaller number first)",
                       what, text, first, last);
            return false;
        }
        if (last - first >= ADMIN_MAX_VMS - *count) {
            admin_fail(e, ADMIN_USAGE, "usage",
                       "%s '%s': more than %u VMs; ask in several commands", what, text,
                       ADMIN_MAX_VMS);
            return false;
        }
        for (uint32_t i = 0; i <= last - first; i++)
            numbers[(*count)++] = first + i;
        if (*at && *at != ',') {
            admin_fail(e, ADMIN_USAGE, "usage",
                       "%s '%s': '%.20s' is no part of a list of VMs (write 7, 8-20 or 7,8-20)",
                       what, text, at);
            return false;
        }
    } while (*at++ == ',');
    return true;
}

struct json_object *admin_ranges(const char *what, const char *text, struct admin_error *e)
{
    static uint32_t numbers[ADMIN_MAX_VMS];
    size_t count = 0;
    uint32_t twice = 0;
    if (!read_ranges(what, text, numbers, &count, e))
        return NULL;
    if (find_double(numbers, count, &twice)) {
        admin_fail(e, ADMIN_USAGE, "usage", "%s '%s': VM %" PRIu32 " stands in it twice", what,
                   text, twice);
        return NULL;
    }
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; array && i < count; i++)
        json_object_array_add(array, json_object_new_int64(numbers[i]));
    if (!array)
        admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
    return array;
}
