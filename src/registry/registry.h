/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry's file: SQLite, in WAL mode, with every commit synced. It is opened by one program
 * at a time, the mediator or, when none runs, vgpu-admin: a lock file beside it keeps the second
 * one away. It knows no socket and no thread; the calls wait for the disk. One thread at a time.
 *
 * Texts name the file, what is wrong with it and what to do.
 */
#ifndef VGPU_REGISTRY_H
#define VGPU_REGISTRY_H

#include "registry/model.h"

#define VGPU_REGISTRY_SCHEMA         2u
#define VGPU_REGISTRY_APPLICATION_ID 0x76677075u /* "vgpu" */
#define VGPU_REGISTRY_AUDIT_KEPT     100000u
#define VGPU_REGISTRY_WHY            512u /* bytes for a text */

struct vgpu_registry;

/*
 * Opens the file, or makes it, checks all of it, and brings it up to this schema. Waits up to
 * wait_ms for another program's lock. Into state (zeroed before) goes what it says. NULL with a
 * text in why and *rc: -EBUSY, another has it; -EUCLEAN, it is damaged; -EPROTONOSUPPORT, it is of
 * a newer schema; -EINVAL, it is no registry; or another negative errno.
 *
 * A file that can only be read opens: vgpu_registry_read_only says so, and commits fail.
 */
struct vgpu_registry *vgpu_registry_open(const char *path, unsigned wait_ms,
                                         struct vgpu_registry_state *state, int *rc, char *why);
void vgpu_registry_close(struct vgpu_registry *registry);

bool vgpu_registry_read_only(const struct vgpu_registry *registry);
/* How often it was opened to be written. */
uint64_t vgpu_registry_starts(const struct vgpu_registry *registry);

/* Writes all of it or nothing. 0, or a negative errno with a text in why. */
int vgpu_registry_commit(struct vgpu_registry *registry, const struct vgpu_registry_txn *txn,
                         char *why);

/*
 * The newest `limit` lines of the audit log whose numbers are below `before`, newest first. *out is
 * malloced, for the caller to free. 0, or a negative errno with a text in why.
 */
int vgpu_registry_audit(struct vgpu_registry *registry, uint64_t before, uint32_t limit,
                        struct vgpu_registry_audit **out, uint32_t *count, char *why);

#endif
