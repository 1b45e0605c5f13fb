/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the parts of `doctor`. Each check says one line or more: what it looked at, how that is,
 * and, unless it is ok, what to do. No check changes anything, and none asks a device or a driver
 * anything in this process.
 */
#ifndef VGPU_CLI_ADMIN_DOCTOR_H
#define VGPU_CLI_ADMIN_DOCTOR_H

#include <sys/types.h>

#include "cli/admin/admin.h"
#include "mediator/settings.h"

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD };

struct doctor {
    const struct admin_options *options;
    const struct admin_doctor_options *asked;
    struct json_object *checks;     /* for --json; NULL: printed as they come */
    unsigned counts[3];             /* by level */
    struct vgpu_settings *settings; /* of the mediator; its defaults if there is no file */
    struct json_object *status;     /* of the running mediator, or NULL */
    bool nvidia;                    /* the host has an NVIDIA GPU */
};

/* `remedy` is NULL for what is ok. */
void doctor_say(struct doctor *d, enum doctor_level level, const char *check, const char *remedy,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A path of the host's, below --root. */
const char *doctor_path(const struct doctor *d, char out[4096], const char *path);
/* The first line of a file of the host's, without its newline; NULL when it cannot be read. */
const char *doctor_line(const struct doctor *d, char *out, size_t size, const char *path);

/* doctor_files.c */
void doctor_check_config(struct doctor *d);  /* first: it fills settings */
void doctor_check_control(struct doctor *d); /* and this one status */
void doctor_check_watch(struct doctor *d);
void doctor_check_registry(struct doctor *d);
/* doctor_host.c */
void doctor_check_kernel(struct doctor *d);
void doctor_check_limits(struct doctor *d);
void doctor_check_kvm(struct doctor *d);
/* doctor_gpu.c */
void doctor_check_nvidia(struct doctor *d); /* fills nvidia */
void doctor_check_worker(struct doctor *d);

#endif
