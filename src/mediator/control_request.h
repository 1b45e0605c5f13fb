/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line of a control client (docs/control.md K2, K3): from bytes to an operation with its
 * fields. Pure.
 */
#ifndef VGPU_MEDIATOR_CONTROL_REQUEST_H
#define VGPU_MEDIATOR_CONTROL_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/change.h"

#define VGPU_CONTROL_LINE  65536u /* bytes with the newline */
#define VGPU_CONTROL_DEPTH 16

struct json_object;

struct vgpu_control_request {
    struct json_object *json; /* the whole, the caller's to release; NULL: it was none */
    bool has_id;
    uint64_t id;
    const char *op; /* in json */
};

/* A line without its newline. 0, or -EINVAL with an error; has_id and id are set as far as they
 * could be read. */
int vgpu_control_request_read(struct vgpu_control_request *request, const char *line, size_t length,
                              struct vgpu_change_error *error);
void vgpu_control_request_free(struct vgpu_control_request *request);

/* Whether all fields beside id and op are among these (names, then NULL). 0 or -EINVAL. */
int vgpu_control_request_only(const struct vgpu_control_request *request, const char *const *names,
                              struct vgpu_change_error *error);
/* A whole number; missing: as *out is. 0, or -EINVAL with an error. */
int vgpu_control_request_number(const struct vgpu_control_request *request, const char *name,
                                uint64_t min, uint64_t max, uint64_t *out,
                                struct vgpu_change_error *error);
int vgpu_control_request_bool(const struct vgpu_control_request *request, const char *name,
                              bool *out, struct vgpu_change_error *error);

#endif
