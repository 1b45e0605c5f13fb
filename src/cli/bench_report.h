/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a run of vgpu-bench says: rows of figures, each with its goal, as a table for people, as
 * JSON for programs and as a picture. Knows nothing of how a figure came about.
 */
#ifndef VGPU_CLI_BENCH_REPORT_H
#define VGPU_CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/bench.h"

enum bench_unit {
    BENCH_TIME,  /* ns */
    BENCH_RATE,  /* things a second */
    BENCH_BYTES, /* bytes a second */
};

enum bench_goal_kind { BENCH_NO_GOAL, BENCH_AT_MOST, BENCH_AT_LEAST };

struct bench_row {
    const char *key, *title; /* static */
    enum bench_unit unit;
    double value;    /* of samples: the median */
    double min, p99; /* for rates: the smallest, and the one that 99 % do not exceed */
    size_t count;    /* of samples; 0: one figure, min and p99 mean nothing */
    double *samples; /* sorted; the report's */
    enum bench_goal_kind kind;
    double goal;
    char goal_text[96]; /* where it comes from: "1.5 x an eventfd round trip" */
    double beside;      /* the figure that it is compared with; 0: none */
    char beside_text[48];
};

#define BENCH_ROWS_MAX 40u
struct bench_report {
    char title[160];
    char notes[8][160]; /* printed under the table */
    unsigned note_count;
    struct bench_row rows[BENCH_ROWS_MAX];
    unsigned count;
};

/* Adds a row of samples: times in ns, or, when `amount` is not 0, the rate of so many things in
 * each. Without samples there is no row, and NULL. */
struct bench_row *bench_report_samples(struct bench_report *report, const char *key,
                                       const char *title, enum bench_unit unit, const uint64_t *ns,
                                       size_t count, double amount);
/* Adds one figure. */
struct bench_row *bench_report_value(struct bench_report *report, const char *key,
                                     const char *title, enum bench_unit unit, double value);
/* What the row should be; NULL is allowed for the row. */
void bench_row_goal(struct bench_row *row, enum bench_goal_kind kind, double goal,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
/* What it is to be seen beside. */
void bench_row_beside(struct bench_row *row, double value, const char *text);
void bench_report_note(struct bench_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool bench_row_met(const struct bench_row *row);
/* "1.23 us", "8.1 M/s", "6.20 GB/s". */
void bench_format(char *text, size_t capacity, enum bench_unit unit, double value);

void bench_report_print(const struct bench_report *report);
/* One object: "benchmark": name, then the rows. */
void bench_report_json(const struct bench_report *report, const char *name);
/* A picture; false with a text on stderr when the file could not be written. */
bool bench_report_svg(const struct bench_report *report, const char *path);
void bench_report_free(struct bench_report *report);

#endif
