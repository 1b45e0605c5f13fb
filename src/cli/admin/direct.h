/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry without a mediator: the same operations, as far as they concern the file alone.
 * src/registry keeps a mediator and this program from having it open at the same time.
 */
#ifndef VGPU_CLI_ADMIN_DIRECT_H
#define VGPU_CLI_ADMIN_DIRECT_H

#include "cli/admin/admin.h"
#include "mediator/settings.h"

/* The result of an operation as docs/control.md has it, or NULL and *e. */
struct json_object *admin_direct(const char *path, const char *op, struct json_object *arguments,
                                 struct admin_error *e);

/* Reads the file and checks it, changing nothing. Whether it is good; `why` says what it is. */
bool admin_registry_check(const char *path, char *why, size_t size);

/* The registry's path in the configuration; NULL: none. */
const char *admin_registry_setting(const struct vgpu_settings *settings);

#endif
