/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of vgpu-admin as data: their options, what those become in a request, and who shows
 * the answer. Usage texts and checks come from it; the manual, the completion and the tests are
 * held against it.
 */
#ifndef VGPU_CLI_ADMIN_COMMAND_H
#define VGPU_CLI_ADMIN_COMMAND_H

#include "cli/admin/admin.h"

#define ADMIN_COMMAND_OPTIONS 12u
#define ADMIN_COMMAND_WORDS   3u

/* How the text of an option becomes a value of the request. */
enum admin_kind {
    ADMIN_KIND_END,      /* of the options */
    ADMIN_KIND_VMS,      /* ranges: an array of numbers */
    ADMIN_KIND_NUMBER,   /* low to high */
    ADMIN_KIND_SIZE,     /* bytes, with K, M, G, T; low to high */
    ADMIN_KIND_SECONDS,  /* with s, m, h, d; low to high */
    ADMIN_KIND_POOL,     /* a letter */
    ADMIN_KIND_PRIORITY, /* low, medium, high */
    ADMIN_KIND_RATE,     /* "30%" */
    ADMIN_KIND_BACKEND,  /* software, cuda */
    ADMIN_KIND_GPU,      /* a number, or a name */
    ADMIN_KIND_GPUS,     /* some of them with commas: an array */
    ADMIN_KIND_TEXT,     /* up to `high` bytes */
    ADMIN_KIND_FLAG,     /* no value: true */
    ADMIN_KIND_OWN,      /* no field: the command reads it itself */
};

struct admin_option {
    const char *name; /* without the dashes */
    enum admin_kind kind;
    const char *field; /* of the request; NULL: the name */
    const char *value; /* what stands for it in the usage */
    const char *help;
    uint64_t low, high;
    bool required;
    const char *null; /* a word that means null, or NULL */
};

struct admin_command {
    const char *name;
    const char *summary;
    const char *op;                         /* NULL: the name */
    const char *words[ADMIN_COMMAND_WORDS]; /* options that may stand without their name */
    struct admin_option options[ADMIN_COMMAND_OPTIONS + 1];
    const char *one_of;  /* options of which exactly one is wanted: "gpu pool vm-id" */
    const char *any_of;  /* options of which at least one is wanted */
    const char *explain; /* more for --help; NULL */
    void (*show)(struct json_object *result, FILE *out); /* NULL: the command does it all itself */
};

extern const struct admin_command admin_commands[]; /* ended by one without a name */

/* NULL when there is none. */
const struct admin_command *admin_command_find(const char *name);
void admin_command_usage(const struct admin_command *command, FILE *out);

/*
 * The request's arguments from the words of a command line, or NULL and *e. Values of own options
 * are strings under their names (flags: true).
 */
struct json_object *admin_command_read(const struct admin_command *command, int argc, char **argv,
                                       struct admin_error *e);

#endif
