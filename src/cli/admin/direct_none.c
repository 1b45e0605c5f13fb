/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In place of direct.c in a build without SQLite. */
#include "cli/admin/direct.h"

struct json_object *admin_direct(const char *path, const char *op, struct json_object *arguments,
                                 struct admin_error *e)
{
    admin_fail(e, ADMIN_UNSUPPORTED, "unsupported",
               "--registry %s: this build has no registry: install libsqlite3-dev and build again",
               path);
    return NULL;
}

bool admin_registry_check(const char *path, char *why, size_t size)
{
    snprintf(why, size, "not looked into: this build has no registry");
    return true;
}

const char *admin_registry_setting(const struct vgpu_settings *settings)
{
    return NULL;
}
