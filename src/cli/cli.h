/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the command-line programs of the guest share: option parsing, JSON on stdout, words for
 * registers. Knows nothing of what a program does.
 */
#ifndef VGPU_CLI_CLI_H
#define VGPU_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses of all of them. */
enum {
    VGPU_EXIT_OK = 0,
    VGPU_EXIT_NO_DEVICE = 1, /* or, where a program computes something: it failed */
    VGPU_EXIT_USAGE = 2,
    VGPU_EXIT_NO_MEDIATOR = 3,
};

/*
 * Whether argv[*at] is the option `name`, as "--name VALUE" or "--name=VALUE". Then *value is its
 * value and *at stands on the last word used; NULL when the value is missing.
 */
bool cli_option(int argc, char **argv, int *at, const char *name, const char **value);

/* A decimal number from low to high; false when `text` is anything else. */
bool cli_number(const char *text, uint64_t low, uint64_t high, uint64_t *number);

/* As cli_option, for options whose value may not be empty: then *value is NULL too. */
bool cli_text_option(int argc, char **argv, int *at, const char *name, const char **value);

/* Puts a string, quotes included, escaped for JSON. UTF-8 passes through; control characters are
 * escaped, C1 and DEL too; a byte that is no part of valid UTF-8 becomes \u00XX. */
void cli_json_string(FILE *out, const char *text);

/*
 * Puts a text that is not ours fit for a terminal: what may move the cursor or change the screen
 * (control characters, C1, bytes that are no UTF-8) becomes '?', and so does `quote` unless it is
 * 0. `capacity` is at least 1; what does not fit is cut. `out` may be `text`.
 */
void cli_harmless(char *out, size_t capacity, const char *text, char quote);

/* The exit status `status`, or 1 with a text on stderr when what went to stdout did not arrive. */
int cli_finish(const char *program, int status);

/* "low", "medium", "high", or "unknown". */
const char *cli_priority_name(uint32_t priority);

/* Bytes as a person reads them: "2.0 GiB". `text` has room for `capacity`. */
void cli_format_bytes(char *text, size_t capacity, uint64_t bytes);

#endif
