/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names; see change.h. */
#include "registry/change.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ops[VGPU_CHANGE_OPS] = {
    [VGPU_CHANGE_REGISTER] = "register-vm",  [VGPU_CHANGE_REMOVE] = "remove-vm",
    [VGPU_CHANGE_SET_POOL] = "set-pool",     [VGPU_CHANGE_SET_PRIORITY] = "set-priority",
    [VGPU_CHANGE_SET_WEIGHT] = "set-weight", [VGPU_CHANGE_SET_RATE] = "set-rate",
    [VGPU_CHANGE_SET_QUOTA] = "set-quota",   [VGPU_CHANGE_SET_NAME] = "set-name",
    [VGPU_CHANGE_QUARANTINE] = "quarantine", [VGPU_CHANGE_RELEASE] = "release",
    [VGPU_CHANGE_DRAIN] = "drain",           [VGPU_CHANGE_UNDRAIN] = "undrain",
    [VGPU_CHANGE_ADD_POOL] = "add-pool",     [VGPU_CHANGE_REMOVE_POOL] = "remove-pool",
    [VGPU_CHANGE_ASSIGN_GPU] = "assign-gpu",
};

static const char *const codes[] = {
    [VGPU_CODE_INVALID] = "invalid",   [VGPU_CODE_NOT_FOUND] = "not-found",
    [VGPU_CODE_EXISTS] = "exists",     [VGPU_CODE_DENIED] = "denied",
    [VGPU_CODE_BUSY] = "busy",         [VGPU_CODE_CONFLICT] = "conflict",
    [VGPU_CODE_STORAGE] = "storage",   [VGPU_CODE_UNSUPPORTED] = "unsupported",
    [VGPU_CODE_INTERNAL] = "internal",
};

const char *vgpu_change_op_name(enum vgpu_change_op op)
{
    return op < VGPU_CHANGE_OPS ? ops[op] : "?";
}

bool vgpu_change_find(const char *name, enum vgpu_change_op *op)
{
    for (unsigned i = 0; i < VGPU_CHANGE_OPS; i++) {
        if (!strcmp(ops[i], name)) {
            *op = (enum vgpu_change_op)i;
            return true;
        }
    }
    return false;
}

const char *vgpu_change_code_name(enum vgpu_change_code code)
{
    return code < sizeof(codes) / sizeof(codes[0]) ? codes[code] : "internal";
}

int vgpu_change_fail(struct vgpu_change_error *error, enum vgpu_change_code code,
                     const char *format, ...)
{
    va_list args;
    error->code = code;
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    return -EINVAL;
}

void vgpu_change_free(struct vgpu_change *change)
{
    free(change->vms);
    change->vms = NULL;
    change->vm_count = 0;
}
