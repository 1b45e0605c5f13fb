/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables, version by version. What was released is never edited: a new version is a further
 * step. Only what SQLite 3.8 knows, which is what old hosts have.
 */
#include "registry/file.h"

#include <stdio.h>

/* What is not said is NULL. Times are ms since 1970. */
static const char version_1[] =
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);"
    "CREATE TABLE pools ("
    " pool TEXT PRIMARY KEY NOT NULL CHECK (pool GLOB '[A-Z]'),"
    " has_gpus INTEGER NOT NULL CHECK (has_gpus IN (0, 1)));"
    "CREATE TABLE pool_gpus ("
    " pool TEXT NOT NULL REFERENCES pools (pool) ON DELETE CASCADE,"
    " position INTEGER NOT NULL CHECK (position BETWEEN 0 AND 15),"
    " gpu TEXT NOT NULL CHECK (length(gpu) BETWEEN 1 AND 47),"
    " PRIMARY KEY (pool, position));"
    "CREATE UNIQUE INDEX pool_of_gpu ON pool_gpus (gpu) WHERE gpu <> 'software';"
    "CREATE TABLE vms ("
    " vm INTEGER PRIMARY KEY CHECK (vm BETWEEN 0 AND 4294967295),"
    " registered INTEGER NOT NULL CHECK (registered IN (0, 1)),"
    " name TEXT CHECK (length(CAST(name AS BLOB)) <= 64),"
    " pool TEXT CHECK (pool GLOB '[A-Z]'),"
    " priority INTEGER CHECK (priority BETWEEN 0 AND 2),"
    " weight INTEGER CHECK (weight BETWEEN 1 AND 10000),"
    " rate INTEGER CHECK (rate BETWEEN 1 AND 1000),"
    " burst_ms INTEGER CHECK (burst_ms BETWEEN 1 AND 60000),"
    " memory INTEGER CHECK (memory BETWEEN 1 AND 70368744177664),"
    " sessions INTEGER CHECK (sessions BETWEEN 1 AND 1024),"
    " quarantine_until INTEGER, quarantine_reason TEXT);"
    "CREATE TABLE audit ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " time_ms INTEGER NOT NULL, uid INTEGER, pid INTEGER,"
    " op TEXT NOT NULL, target TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL);"
    "INSERT INTO meta VALUES ('starts', '0');";

/* Queue limits, and draining. */
static const char version_2[] =
    "ALTER TABLE vms ADD COLUMN queue INTEGER CHECK (queue BETWEEN 1 AND 65536);"
    "ALTER TABLE vms ADD COLUMN drain_until INTEGER;"
    "ALTER TABLE vms ADD COLUMN drain_reason TEXT;"
    "ALTER TABLE pools ADD COLUMN drain_until INTEGER;"
    "ALTER TABLE pools ADD COLUMN drain_reason TEXT;"
    "CREATE TABLE gpus ("
    " gpu TEXT PRIMARY KEY NOT NULL CHECK (length(gpu) BETWEEN 1 AND 47),"
    " drain_until INTEGER NOT NULL, drain_reason TEXT NOT NULL);";

static const char *const steps[VGPU_REGISTRY_SCHEMA] = {version_1, version_2};

int vgpu_registry_migrate(struct vgpu_registry *r, int64_t version, char *why)
{
    char what[64], sql[96];
    snprintf(what, sizeof(what), "bring it from schema %lld to %u", (long long)version,
             VGPU_REGISTRY_SCHEMA);
    int rc = vgpu_registry_exec(r, what, "BEGIN IMMEDIATE", why);
    if (rc)
        return rc;
    for (int64_t i = version; !rc && i < (int64_t)VGPU_REGISTRY_SCHEMA; i++)
        rc = vgpu_registry_exec(r, what, steps[i], why);
    snprintf(sql, sizeof(sql), "PRAGMA application_id = %u; PRAGMA user_version = %u",
             VGPU_REGISTRY_APPLICATION_ID, VGPU_REGISTRY_SCHEMA);
    if (!rc)
        rc = vgpu_registry_exec(r, what, sql, why);
    return vgpu_registry_end(r, rc, what, why);
}
