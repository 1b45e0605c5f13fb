/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of text. Where a terminal is too narrow, columns that may be cut are cut, then those that
 * may be left out go, and what is still too wide ends at the edge.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admin/admin.h"

#define GAP 2u /* blanks between columns */

struct admin_table {
    const struct admin_column *columns;
    unsigned count;
    char **cells;
    size_t used, capacity;
    bool failed; /* out of memory: what is there is printed, and a line says so */
};

struct admin_table *admin_table_new(const struct admin_column *columns, unsigned count)
{
    struct admin_table *table = calloc(1, sizeof(*table));
    if (table) {
        table->columns = columns;
        table->count = count;
    }
    return table;
}

void admin_table_free(struct admin_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->used; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table);
}

void admin_table_add(struct admin_table *table, const char *text)
{
    if (!table || table->failed)
        return;
    if (table->used == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 64;
        char **cells = realloc(table->cells, capacity * sizeof(*cells));
        if (!cells) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    size_t size = strlen(text) + 1;
    char *cell = malloc(size);
    if (!cell) {
        table->failed = true;
        return;
    }
    table->cells[table->used++] = cell;
    admin_clean(cell, size, text);
}

void admin_table_printf(struct admin_table *table, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    admin_table_add(table, text);
}

/* Columns of a line; hidden ones have width 0. */
static unsigned line_width(const unsigned *widths, unsigned count)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += widths[i] ? widths[i] + (sum ? GAP : 0) : 0;
    return sum;
}

static void fit_widths(const struct admin_table *table, unsigned *widths, unsigned limit)
{
    unsigned count = table->count;
    /* The widest that may shrink gives a column, as often as it takes. */
    while (line_width(widths, count) > limit) {
        unsigned widest = count;
        for (unsigned i = 0; i < count; i++)
            if (table->columns[i].least && widths[i] > table->columns[i].least &&
                (widest == count || widths[i] > widths[widest]))
                widest = i;
        if (widest == count)
            break;
        widths[widest]--;
    }
    while (line_width(widths, count) > limit) {
        unsigned last = count;
        for (unsigned i = 0; i < count; i++)
            if (widths[i] && table->columns[i].drop &&
                (last == count || table->columns[i].drop > table->columns[last].drop))
                last = i;
        if (last == count)
            break;
        widths[last] = 0;
    }
}

static void pad(FILE *out, size_t blanks)
{
    while (blanks--)
        fputc(' ', out);
}

/* One line of `count` cells (or titles); blanks at its end are left out. */
static void print_line(const struct admin_table *table, char **cells, const unsigned *widths,
                       FILE *out, unsigned limit)
{
    size_t at = 0;     /* columns used */
    size_t blanks = 0; /* owed before the next cell */
    for (unsigned i = 0; i < table->count; i++) {
        if (!widths[i])
            continue;
        const char *text = cells ? cells[i] : table->columns[i].title;
        size_t room = widths[i];
        blanks += at || blanks ? GAP : 0;
        if (limit && at + blanks + room > limit) {
            if (at + blanks >= limit)
                break;
            room = limit - at - blanks;
        }
        size_t bytes = admin_fit(text, room);
        size_t width = admin_width(text);
        if (text[bytes]) { /* cut: recount what is left of it */
            char part[512];
            snprintf(part, sizeof(part), "%.*s", (int)bytes, text);
            width = admin_width(part);
        }
        size_t rest = room > width ? room - width : 0;
        if (table->columns[i].right) {
            blanks += rest;
            rest = 0;
        }
        if (bytes) {
            pad(out, blanks);
            fwrite(text, 1, bytes, out);
            at += blanks + width;
            blanks = rest;
        } else {
            blanks += width + rest;
        }
    }
    fputc('\n', out);
}

void admin_table_print(const struct admin_table *table, FILE *out, unsigned width)
{
    if (!table) {
        fputs("(out of memory)\n", out);
        return;
    }
    unsigned *widths = calloc(table->count, sizeof(*widths));
    size_t rows = table->used / table->count;
    if (!widths) {
        fputs("(out of memory)\n", out);
        return;
    }
    for (unsigned i = 0; i < table->count; i++) {
        widths[i] = (unsigned)admin_width(table->columns[i].title);
        if (widths[i] < table->columns[i].wide)
            widths[i] = table->columns[i].wide;
        for (size_t row = 0; row < rows; row++) {
            size_t cell = admin_width(table->cells[row * table->count + i]);
            if (cell > widths[i])
                widths[i] = cell < 400 ? (unsigned)cell : 400;
        }
    }
    if (width)
        fit_widths(table, widths, width);
    print_line(table, NULL, widths, out, width);
    for (size_t row = 0; row < rows; row++)
        print_line(table, table->cells + row * table->count, widths, out, width);
    if (table->failed)
        fputs("(out of memory)\n", out);
    free(widths);
}
