/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of vgpu-admin share: errors and their exit statuses, a connection to the
 * mediator's control socket (docs/control.md), tables for a terminal, JSON. One thread.
 *
 * What comes from the mediator may hold names and reasons that others made up: nothing of it
 * reaches a terminal but through admin_clean or admin_json_print.
 */
#ifndef VGPU_CLI_ADMIN_H
#define VGPU_CLI_ADMIN_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ADMIN_PROGRAM         "vgpu-admin"
#define ADMIN_CONTROL_DEFAULT "/run/vgpu-mediator/control.sock"
#define ADMIN_PATIENCE_MS     30000  /* for an answer: a change may wait for a locked registry */
#define ADMIN_REQUEST_BYTES   65536u /* K2, with the newline */
#define ADMIN_MAX_VMS         4096u  /* in one request */
#define ADMIN_ANSWER_BYTES    (64u << 20) /* far above what 4096 VMs take; then it is no mediator */
#define ADMIN_TEXT            1024u

/* Exit statuses, stable: scripts depend on them. man vgpu-admin lists them. */
enum admin_status {
    ADMIN_OK = 0,
    ADMIN_FAILED = 1,      /* anything else; doctor: something is wrong */
    ADMIN_USAGE = 2,       /* wrong arguments, or values that the mediator takes for invalid */
    ADMIN_NOT_FOUND = 3,   /* no such VM, pool or GPU */
    ADMIN_DENIED = 4,      /* this user may not */
    ADMIN_NO_MEDIATOR = 5, /* nobody answers on the control socket */
    ADMIN_CONFLICT = 6,    /* it exists already, or does not go with how things are */
    ADMIN_BUSY = 7,        /* in use now; later it may work */
    ADMIN_STORAGE = 8,     /* the registry could not be read or written; nothing was changed */
    ADMIN_UNSUPPORTED = 9, /* the mediator, or this build, cannot do that */
};

/* What went wrong. `code` is a word of K6, or "usage", "no-mediator", "failed". */
struct admin_error {
    enum admin_status status;
    char code[24];
    char text[ADMIN_TEXT];
};

/* Fills *e; the text is a sentence for a person. Returns `status`. */
enum admin_status admin_fail(struct admin_error *e, enum admin_status status, const char *code,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The options that every command has. */
struct admin_options {
    const char *control;  /* path of the socket; never NULL */
    bool control_said;    /* by the command line or the environment */
    const char *registry; /* NULL, or the file to use without a mediator */
    bool json;
};

/* ---- link.c: a connection ---- */

struct admin_link;

/* Connects. NULL and *e when nobody is there or may not. */
struct admin_link *admin_link_open(const char *path, struct admin_error *e);
void admin_link_close(struct admin_link *link);
/* For poll(2). */
int admin_link_fd(const struct admin_link *link);

/* Sends {"id": ..., "op": op, ...arguments}; arguments may be NULL and stays the caller's. */
bool admin_link_send(struct admin_link *link, const char *op, struct json_object *arguments,
                     struct admin_error *e);

/*
 * The next line of the mediator's, whatever it is, waiting up to wait_ms for it (0: only what is
 * there). NULL when there is none: with e->status ADMIN_OK none has come yet, else it is over.
 */
struct json_object *admin_link_line(struct admin_link *link, int wait_ms, struct admin_error *e);

/* The result in an answer (a new reference), or NULL with *e as the answer says. */
struct json_object *admin_link_result(struct json_object *line, struct admin_error *e);

/* Sends, waits for the answer, returns its result; NULL and *e. The caller's to put. */
struct json_object *admin_link_call(struct admin_link *link, const char *op,
                                    struct json_object *arguments, struct admin_error *e);

/* ---- json.c: reading and printing JSON ---- */

/* A member, or what stands for a missing one or one of another type. */
const char *admin_text(struct json_object *object, const char *name, const char *otherwise);
int64_t admin_number(struct json_object *object, const char *name, int64_t otherwise);
double admin_real(struct json_object *object, const char *name, double otherwise);
bool admin_flag(struct json_object *object, const char *name);
/* NULL unless it is an object or array, as the name says. */
struct json_object *admin_object(struct json_object *object, const char *name);
struct json_object *admin_array(struct json_object *object, const char *name);
/* Whether the member is there and not null. */
bool admin_has(struct json_object *object, const char *name);

/* One line, fit for a terminal: control characters stand as escapes. */
void admin_json_print(struct json_object *value, FILE *out);

/* ---- text.c: for people ---- */

/* Text as it may stand on a terminal, in at most `capacity` bytes; returns `out`. */
const char *admin_clean(char *out, size_t capacity, const char *text);
/* "1.5G", "512M", "0": bytes in powers of 1024, for a column. */
const char *admin_size(char out[16], uint64_t bytes);
/* "3d 4h", "5h 12m", "42s". */
const char *admin_span(char out[32], double seconds);
/* "2026-05-04 12:30:05" of this machine's time zone; "-" for 0. */
const char *admin_time(char out[32], double seconds_1970);
/* Columns that a terminal has for `text`, and the bytes of it that fit into `columns`. */
size_t admin_width(const char *text);
size_t admin_fit(const char *text, size_t columns);
/* Columns of the terminal on standard output; 0 when it is none: then nothing is cut. */
unsigned admin_terminal_columns(void);

/* ---- table.c ---- */

struct admin_column {
    const char *title;
    bool right;     /* numbers stand to the right */
    unsigned least; /* columns it may be cut to, 0: it may not */
    unsigned drop;  /* 0: always there; else the highest goes first when there is no room */
    unsigned wide;  /* columns it has at least, so that what changes does not move the rest */
};

struct admin_table;

/* `columns` has to live as long. NULL: out of memory. */
struct admin_table *admin_table_new(const struct admin_column *columns, unsigned count);
/* The next cell, left to right and row by row; the text is cleaned. */
void admin_table_add(struct admin_table *table, const char *text);
void admin_table_printf(struct admin_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* In at most `width` columns; 0: as wide as it is. */
void admin_table_print(const struct admin_table *table, FILE *out, unsigned width);
void admin_table_free(struct admin_table *table);

/* ---- range.c ---- */

/* "8-20,25" as a JSON array of at most ADMIN_MAX_VMS different numbers; NULL and *e. */
struct json_object *admin_ranges(const char *what, const char *text, struct admin_error *e);

/* ---- show.c: answers as people read them ---- */

void admin_show_vms(struct json_object *result, FILE *out);
void admin_show_vm(struct json_object *result, FILE *out);
void admin_show_pools(struct json_object *result, FILE *out);
void admin_show_gpus(struct json_object *result, FILE *out);
void admin_show_status(struct json_object *result, FILE *out);
void admin_show_events(struct json_object *result, FILE *out);
void admin_show_event(struct json_object *event, FILE *out);
void admin_show_audit(struct json_object *result, FILE *out);
/* What a change answered: the VMs, pool, GPU or numbers that it concerned. */
void admin_show_change(struct json_object *result, FILE *out);

/* ---- commands with more than one request; options as the command's own ---- */

enum admin_status admin_events(const struct admin_options *options, struct json_object *arguments,
                               bool follow, struct admin_error *e);

struct admin_top_options {
    uint64_t interval_ms; /* 100 to 3600000 */
    uint64_t batch;       /* frames as plain text; 0: on the terminal until somebody quits */
    const char *sort;     /* a column's word; NULL: share */
    const char *filter;   /* NULL: all */
};
enum admin_status admin_top(const struct admin_options *options,
                            const struct admin_top_options *top, struct admin_error *e);

struct admin_doctor_options {
    const char *root;   /* the host's files are looked for below it; "" */
    const char *config; /* of the mediator */
    const char *worker; /* NULL: looked for */
};
enum admin_status admin_doctor(const struct admin_options *options,
                               const struct admin_doctor_options *doctor, struct admin_error *e);

#endif
