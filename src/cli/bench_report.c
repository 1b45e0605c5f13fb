/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of figures, in words and as JSON. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_report.h"
#include "cli/cli.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct bench_row *new_row(struct bench_report *report, const char *key, const char *title,
                                 enum bench_unit unit)
{
    if (report->count == BENCH_ROWS_MAX)
        return NULL;
    struct bench_row *row = &report->rows[report->count++];
    *row = (struct bench_row){.key = key, .title = title, .unit = unit};
    return row;
}

struct bench_row *bench_report_samples(struct bench_report *report, const char *key,
                                       const char *title, enum bench_unit unit, const uint64_t *ns,
                                       size_t count, double amount)
{
    if (count == 0)
        return NULL;
    double *samples = calloc(count, sizeof(*samples));
    struct bench_row *row = samples ? new_row(report, key, title, unit) : NULL;
    if (!row) {
        free(samples);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        double time = ns[i] ? (double)ns[i] : 1;
        samples[i] = amount > 0 ? amount * 1e9 / time : time;
    }
    qsort(samples, count, sizeof(*samples), compare);
    size_t last = (size_t)(0.99 * (double)count);
    row->samples = samples;
    row->count = count;
    row->min = samples[0];
    row->value = samples[count / 2];
    row->p99 = samples[last < count ? last : count - 1];
    return row;
}

struct bench_row *bench_report_value(struct bench_report *report, const char *key,
                                     const char *title, enum bench_unit unit, double value)
{
    struct bench_row *row = new_row(report, key, title, unit);
    if (row)
        row->value = value;
    return row;
}

void bench_row_goal(struct bench_row *row, enum bench_goal_kind kind, double goal,
                    const char *format, ...)
{
    va_list arguments;
    if (!row || goal <= 0)
        return;
    row->kind = kind;
    row->goal = goal;
    va_start(arguments, format);
    vsnprintf(row->goal_text, sizeof(row->goal_text), format, arguments);
    va_end(arguments);
}

void bench_row_beside(struct bench_row *row, double value, const char *text)
{
    if (!row || value <= 0)
        return;
    row->beside = value;
    snprintf(row->beside_text, sizeof(row->beside_text), "%s", text);
}

void bench_report_note(struct bench_report *report, const char *format, ...)
{
    const unsigned capacity = sizeof(report->notes) / sizeof(report->notes[0]);
    va_list arguments;
    if (report->note_count == capacity)
        return;
    va_start(arguments, format);
    vsnprintf(report->notes[report->note_count++], sizeof(report->notes[0]), format, arguments);
    va_end(arguments);
}

bool bench_row_met(const struct bench_row *row)
{
    return row->kind == BENCH_AT_MOST ? row->value <= row->goal : row->value >= row->goal;
}

void bench_format(char *text, size_t capacity, enum bench_unit unit, double value)
{
    static const struct {
        double from;
        const char *words[3]; /* by unit */
    } steps[] = {
        {1e9, {"s", "G/s", "GB/s"}},
        {1e6, {"ms", "M/s", "MB/s"}},
        {1e3, {"us", "k/s", "kB/s"}},
        {0, {"ns", "/s", "B/s"}},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (value < steps[i].from)
            continue;
        double shown = steps[i].from > 0 ? value / steps[i].from : value;
        snprintf(text, capacity, "%.*f %s",
                 shown < 10    ? 2
                 : shown < 100 ? 1
                               : 0,
                 shown, steps[i].words[unit]);
        return;
    }
    snprintf(text, capacity, "?");
}

void bench_report_print(const struct bench_report *report)
{
    char value[32], low[32], high[32], goal[160], beside[96];
    printf("%s\n\n%-34s %10s %10s %10s   %-8s %s\n", report->title, "figure", "min", "median",
           "p99", "goal", "");
    for (unsigned i = 0; i < report->count; i++) {
        const struct bench_row *row = &report->rows[i];
        bench_format(value, sizeof(value), row->unit, row->value);
        snprintf(low, sizeof(low), "-");
        snprintf(high, sizeof(high), "-");
        if (row->count) {
            bench_format(low, sizeof(low), row->unit, row->min);
            bench_format(high, sizeof(high), row->unit, row->p99);
        }
        goal[0] = beside[0] = 0;
        if (row->kind != BENCH_NO_GOAL) {
            char text[32];
            bench_format(text, sizeof(text), row->unit, row->goal);
            snprintf(goal, sizeof(goal), "%s %s%s%s%s",
                     row->kind == BENCH_AT_MOST ? "<=" : ">=", text, *row->goal_text ? " (" : "",
                     row->goal_text, *row->goal_text ? ")" : "");
        }
        if (row->beside > 0) {
            char text[32];
            bench_format(text, sizeof(text), row->unit, row->beside);
            snprintf(beside, sizeof(beside), "%s: %s, ratio %.2f", row->beside_text, text,
                     row->value / row->beside);
        }
        printf("%-34s %10s %10s %10s   %-8s %s%s%s\n", row->title, low, value, high,
               row->kind == BENCH_NO_GOAL ? ""
               : bench_row_met(row)       ? "met"
                                          : "NOT MET",
               goal, *goal && *beside ? "; " : "", beside);
    }
    for (unsigned i = 0; i < report->note_count; i++)
        printf("%s%s\n", i ? "" : "\n", report->notes[i]);
}

static const char *unit_name(enum bench_unit unit)
{
    static const char *const names[] = {"ns", "per_s", "bytes_per_s"};
    return names[unit];
}

void bench_report_json(const struct bench_report *report, const char *name)
{
    printf("{\"benchmark\": \"%s\", \"title\": ", name);
    cli_json_string(stdout, report->title);
    printf(", \"rows\": {");
    for (unsigned i = 0; i < report->count; i++) {
        const struct bench_row *row = &report->rows[i];
        printf("%s\"%s\": {\"unit\": \"%s\", \"value\": %.3f", i ? ", " : "", row->key,
               unit_name(row->unit), row->value);
        if (row->count)
            printf(", \"count\": %zu, \"min\": %.3f, \"p99\": %.3f", row->count, row->min,
                   row->p99);
        if (row->kind != BENCH_NO_GOAL) {
            printf(", \"%s\": %.3f, \"met\": %s, \"goal\": ",
                   row->kind == BENCH_AT_MOST ? "at_most" : "at_least", row->goal,
                   bench_row_met(row) ? "true" : "false");
            cli_json_string(stdout, row->goal_text);
        }
        if (row->beside > 0) {
            printf(", \"beside\": %.3f, \"ratio\": %.4f, \"beside_what\": ", row->beside,
                   row->value / row->beside);
            cli_json_string(stdout, row->beside_text);
        }
        putchar('}');
    }
    printf("}, \"notes\": [");
    for (unsigned i = 0; i < report->note_count; i++) {
        printf("%s", i ? ", " : "");
        cli_json_string(stdout, report->notes[i]);
    }
    printf("]}\n");
}

void bench_report_free(struct bench_report *report)
{
    for (unsigned i = 0; i < report->count; i++)
        free(report->rows[i].samples);
    report->count = 0;
}
