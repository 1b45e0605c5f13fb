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

/* Puts a string, quotes included, escaped for JSON. Bytes that are no printable ASCII become
 * \u00XX. */
void cli_json_string(FILE *out, const char *text);

/* "low", "medium", "high", or "unknown". */
const char *cli_priority_name(uint32_t priority);

/* Bytes as a person reads them: "2.0 GiB". `text` has room for `capacity`. */
void cli_format_bytes(char *text, size_t capacity, uint64_t bytes);

#endif
