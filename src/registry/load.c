/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the tables. Somebody may have edited them by hand, so each value is checked as if it came
 * from a stranger; a row that makes no sense is damage, and says where.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "registry/file.h"

struct row {
    struct vgpu_registry *r;
    sqlite3_stmt *statement;
    char where[96];
    char *why;
    int rc;
};

static void bad(struct row *row, const char *column)
{
    if (row->rc)
        return;
    row->rc = -EUCLEAN;
    snprintf(row->why, VGPU_REGISTRY_WHY,
             "the registry %.200s is damaged: %s: %s makes no sense; mend the row with sqlite3, or "
             "put a copy of the file back",
             row->r->path, row->where, column);
}

static int64_t number(struct row *row, int column, int64_t min, int64_t max, int64_t missing)
{
    int type = sqlite3_column_type(row->statement, column);
    int64_t value = sqlite3_column_int64(row->statement, column);
    if (type == SQLITE_NULL)
        return missing;
    if (type != SQLITE_INTEGER || value < min || value > max) {
        bad(row, sqlite3_column_name(row->statement, column));
        return missing;
    }
    return value;
}

static void text(struct row *row, int column, char *out, size_t size)
{
    const unsigned char *value = sqlite3_column_text(row->statement, column);
    size_t length = (size_t)sqlite3_column_bytes(row->statement, column);
    out[0] = 0;
    if (!value)
        return;
    if (length >= size || memchr(value, 0, length)) {
        bad(row, sqlite3_column_name(row->statement, column));
        return;
    }
    memcpy(out, value, length);
    out[length] = 0;
}

static char letter(struct row *row, int column)
{
    char value[2];
    text(row, column, value, sizeof(value));
    if (value[0] && (value[0] < 'A' || value[0] > 'Z')) {
        bad(row, sqlite3_column_name(row->statement, column));
        return 0;
    }
    return value[0];
}

/* Two columns from this one on. */
static void aside(struct row *row, int column, struct vgpu_registry_aside *out)
{
    out->until_ms = number(row, column, 1, VGPU_REGISTRY_FOREVER, 0);
    text(row, column + 1, out->reason, sizeof(out->reason));
    if (!out->until_ms)
        out->reason[0] = 0;
}

static void take_vm(struct row *row, struct vgpu_registry_state *state)
{
    struct vgpu_registry_vm vm;
    snprintf(row->where, sizeof(row->where), "vms, vm = %lld",
             (long long)sqlite3_column_int64(row->statement, 0));
    vgpu_registry_vm_init(&vm, (uint32_t)number(row, 0, 0, UINT32_MAX, 0));
    vm.registered = number(row, 1, 0, 1, 0);
    text(row, 2, vm.name, sizeof(vm.name));
    vm.pool = letter(row, 3);
    vm.priority = (int32_t)number(row, 4, 0, 2, -1);
    vm.weight = (uint32_t)number(row, 5, 1, 10000, 0);
    vm.rate = (uint32_t)number(row, 6, 1, 1000, 0);
    vm.burst_ms = (uint32_t)number(row, 7, 1, 60000, 0);
    vm.memory = (uint64_t)number(row, 8, 1, 1ll << 46, 0);
    vm.sessions = (uint32_t)number(row, 9, 1, 1024, 0);
    vm.queue = (uint32_t)number(row, 10, 1, 65536, 0);
    aside(row, 11, &vm.quarantine);
    aside(row, 13, &vm.drain);
    if (row->rc)
        return;
    row->rc = vgpu_registry_add_vm(state, &vm);
    if (row->rc)
        snprintf(row->why, VGPU_REGISTRY_WHY, "the registry %.200s has more than %u VMs%s",
                 row->r->path, VGPU_REGISTRY_VMS_MAX,
                 row->rc == -ENOMEM ? ", or memory is out" : "");
}

static void take_pool(struct row *row, struct vgpu_registry_state *state)
{
    snprintf(row->where, sizeof(row->where), "pools");
    char pool = letter(row, 0);
    if (!pool)
        bad(row, "pool");
    if (row->rc)
        return;
    struct vgpu_registry_pool *out = &state->pools[pool - 'A'];
    out->pool = pool;
    out->has_gpus = number(row, 1, 0, 1, 0);
    aside(row, 2, &out->drain);
}

static void take_pool_gpu(struct row *row, struct vgpu_registry_state *state)
{
    snprintf(row->where, sizeof(row->where), "pool_gpus");
    char pool = letter(row, 0);
    struct vgpu_registry_pool *out = pool ? &state->pools[pool - 'A'] : NULL;
    if (!out || out->pool != pool || out->gpu_count == VGPU_REGISTRY_GPUS) {
        bad(row, "pool");
        return;
    }
    text(row, 1, out->gpus[out->gpu_count], VGPU_REGISTRY_GPU_NAME);
    if (!out->gpus[out->gpu_count++][0])
        bad(row, "gpu");
}

static void take_gpu(struct row *row, struct vgpu_registry_state *state)
{
    snprintf(row->where, sizeof(row->where), "gpus");
    if (state->gpu_count == VGPU_REGISTRY_CARDS) {
        bad(row, "that there are so many");
        return;
    }
    struct vgpu_registry_gpu *out = &state->gpus[state->gpu_count];
    text(row, 0, out->name, sizeof(out->name));
    aside(row, 1, &out->drain);
    state->gpu_count += out->drain.until_ms != 0;
}

static int each(struct vgpu_registry *r, const char *sql,
                void (*take)(struct row *, struct vgpu_registry_state *),
                struct vgpu_registry_state *state, char *why)
{
    struct row row = {.r = r, .why = why};
    if (sqlite3_prepare_v2(r->db, sql, -1, &row.statement, NULL) != SQLITE_OK)
        return vgpu_registry_failed(r, "read it", why);
    int step = SQLITE_DONE;
    while (!row.rc && (step = sqlite3_step(row.statement)) == SQLITE_ROW)
        take(&row, state);
    if (!row.rc && step != SQLITE_DONE)
        row.rc = vgpu_registry_failed(r, "read it", why);
    sqlite3_finalize(row.statement);
    return row.rc;
}

int vgpu_registry_load(struct vgpu_registry *r, struct vgpu_registry_state *state, char *why)
{
    int rc = each(r, "SELECT pool, has_gpus, drain_until, drain_reason FROM pools", take_pool,
                  state, why);
    if (!rc)
        rc = each(r, "SELECT pool, gpu FROM pool_gpus ORDER BY pool, position", take_pool_gpu,
                  state, why);
    if (!rc)
        rc = each(r, "SELECT gpu, drain_until, drain_reason FROM gpus", take_gpu, state, why);
    if (!rc)
        rc = each(r,
                  "SELECT vm, registered, name, pool, priority, weight, rate, burst_ms, memory, "
                  "sessions, queue, quarantine_until, quarantine_reason, drain_until, drain_reason "
                  "FROM vms ORDER BY vm",
                  take_vm, state, why);
    return rc;
}
