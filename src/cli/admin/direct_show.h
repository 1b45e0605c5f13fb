/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the registry says, in the shapes of docs/control.md (K11, K12, K15, K23). What the registry
 * does not say is null: it depends on the configuration file, and on the device. Pure.
 */
#ifndef VGPU_CLI_ADMIN_DIRECT_SHOW_H
#define VGPU_CLI_ADMIN_DIRECT_SHOW_H

#include <json-c/json.h>

#include "registry/model.h"

/* All return a new object, or NULL: out of memory. */

/* `count` of them, or with NULL all. */
struct json_object *direct_vms(const struct vgpu_registry_state *state, const uint32_t *vms,
                               uint32_t count, int64_t now_ms);
/* NULL also when the registry knows nothing of it. */
struct json_object *direct_vm(const struct vgpu_registry_state *state, uint32_t vm, int64_t now_ms);
struct json_object *direct_pools(const struct vgpu_registry_state *state, int64_t now_ms);
struct json_object *direct_audit(const struct vgpu_registry_audit *lines, uint32_t count);
struct json_object *direct_removed(const uint32_t *vms, uint32_t count);

#endif
