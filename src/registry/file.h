/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Of the registry's own files: the open file, and the helpers around SQLite. See registry.h. */
#ifndef VGPU_REGISTRY_FILE_H
#define VGPU_REGISTRY_FILE_H

#include <sqlite3.h>

#include "common/lock.h"
#include "registry/registry.h"

struct vgpu_registry {
    sqlite3 *db;
    char *path;
    struct vgpu_lock lock;
    bool read_only;
    uint64_t starts;
};

/* SQLite's last error as an errno; the text says which file, what, and what to do. */
int vgpu_registry_failed(const struct vgpu_registry *r, const char *what, char *why);

/* Runs statements that give nothing back. 0 or as vgpu_registry_failed. */
int vgpu_registry_exec(struct vgpu_registry *r, const char *what, const char *sql, char *why);
/* One number; a statement without a row is 0. */
int vgpu_registry_number(struct vgpu_registry *r, const char *sql, int64_t *out, char *why);

/* A transaction's end: commits if rc is 0, else undoes it. Returns what became of it. */
int vgpu_registry_end(struct vgpu_registry *r, int rc, const char *what, char *why);

/* schema.c: makes the tables, or brings them up from `version`, in one transaction. */
int vgpu_registry_migrate(struct vgpu_registry *r, int64_t version, char *why);

/* load.c: reads all rows and checks each. */
int vgpu_registry_load(struct vgpu_registry *r, struct vgpu_registry_state *state, char *why);

#endif
