/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing transactions, and the audit log; see registry.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "registry/file.h"

static const char put_vm_sql[] =
    "INSERT OR REPLACE INTO vms (vm, registered, name, pool, priority, weight, rate, burst_ms, "
    "memory, sessions, queue, quarantine_until, quarantine_reason, drain_until, drain_reason) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/* 0 and "" mean that nothing is said, which is NULL. */
static void bind_number(sqlite3_stmt *s, int at, uint64_t value)
{
    if (value)
        sqlite3_bind_int64(s, at, (int64_t)value);
}

static void bind_text(sqlite3_stmt *s, int at, const char *value)
{
    if (value[0])
        sqlite3_bind_text(s, at, value, -1, SQLITE_TRANSIENT);
}

static void bind_aside(sqlite3_stmt *s, int at, const struct vgpu_registry_aside *aside)
{
    bind_number(s, at, (uint64_t)aside->until_ms);
    if (aside->until_ms)
        sqlite3_bind_text(s, at + 1, aside->reason, -1, SQLITE_TRANSIENT);
}

static sqlite3_stmt *prepare(struct vgpu_registry *r, const char *sql, int *rc, char *why)
{
    sqlite3_stmt *s = NULL;
    if (!*rc && sqlite3_prepare_v2(r->db, sql, -1, &s, NULL) != SQLITE_OK)
        *rc = vgpu_registry_failed(r, "write it", why);
    return s;
}

/* Runs it once, ready to be bound anew. */
static int run(struct vgpu_registry *r, sqlite3_stmt *s, char *why)
{
    int rc = sqlite3_step(s) == SQLITE_DONE ? 0 : vgpu_registry_failed(r, "write it", why);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return rc;
}

static int write_vms(struct vgpu_registry *r, const struct vgpu_registry_txn *txn, char *why)
{
    int rc = 0;
    sqlite3_stmt *put = prepare(r, put_vm_sql, &rc, why);
    sqlite3_stmt *drop = prepare(r, "DELETE FROM vms WHERE vm = ?", &rc, why);
    for (uint32_t i = 0; !rc && i < txn->vm_count; i++) {
        const struct vgpu_registry_vm *vm = &txn->vms[i].row;
        sqlite3_stmt *s = txn->vms[i].drop ? drop : put;
        sqlite3_bind_int64(s, 1, vm->vm);
        if (s == put) {
            char pool[2] = {vm->pool, 0};
            sqlite3_bind_int(s, 2, vm->registered);
            bind_text(s, 3, vm->name);
            bind_text(s, 4, pool);
            if (vm->priority >= 0)
                sqlite3_bind_int(s, 5, vm->priority);
            bind_number(s, 6, vm->weight);
            bind_number(s, 7, vm->rate);
            bind_number(s, 8, vm->burst_ms);
            bind_number(s, 9, vm->memory);
            bind_number(s, 10, vm->sessions);
            bind_number(s, 11, vm->queue);
            bind_aside(s, 12, &vm->quarantine);
            bind_aside(s, 14, &vm->drain);
        }
        rc = run(r, s, why);
    }
    sqlite3_finalize(put);
    sqlite3_finalize(drop);
    return rc;
}

static int write_pool(struct vgpu_registry *r, const struct vgpu_registry_pool *pool,
                      sqlite3_stmt *put, sqlite3_stmt *put_gpu, char *why)
{
    char letter[2] = {pool->pool, 0};
    bind_text(put, 1, letter);
    sqlite3_bind_int(put, 2, pool->has_gpus);
    bind_aside(put, 3, &pool->drain);
    int rc = run(r, put, why);
    for (uint32_t i = 0; !rc && i < pool->gpu_count; i++) {
        bind_text(put_gpu, 1, letter);
        sqlite3_bind_int64(put_gpu, 2, i);
        bind_text(put_gpu, 3, pool->gpus[i]);
        rc = run(r, put_gpu, why);
    }
    return rc;
}

/* First all go and then all come: a GPU may go from one to another. */
static int write_pools(struct vgpu_registry *r, const struct vgpu_registry_txn *txn, char *why)
{
    int rc = 0;
    sqlite3_stmt *drop = prepare(r, "DELETE FROM pools WHERE pool = ?", &rc, why);
    sqlite3_stmt *put = prepare(r, "INSERT INTO pools VALUES (?, ?, ?, ?)", &rc, why);
    sqlite3_stmt *put_gpu = prepare(r, "INSERT INTO pool_gpus VALUES (?, ?, ?)", &rc, why);
    for (uint32_t p = 0; !rc && p < VGPU_REGISTRY_POOLS; p++) {
        char letter[2] = {(char)('A' + p), 0};
        if (!txn->put_pool[p])
            continue;
        bind_text(drop, 1, letter);
        rc = run(r, drop, why);
    }
    for (uint32_t p = 0; !rc && p < VGPU_REGISTRY_POOLS; p++)
        if (txn->put_pool[p] && txn->pools[p].pool)
            rc = write_pool(r, &txn->pools[p], put, put_gpu, why);
    sqlite3_finalize(drop);
    sqlite3_finalize(put);
    sqlite3_finalize(put_gpu);
    return rc;
}

static int write_gpu(struct vgpu_registry *r, const struct vgpu_registry_gpu *gpu, char *why)
{
    int rc = 0;
    sqlite3_stmt *s = prepare(r,
                              gpu->drain.until_ms ? "INSERT OR REPLACE INTO gpus VALUES (?, ?, ?)"
                                                  : "DELETE FROM gpus WHERE gpu = ?",
                              &rc, why);
    if (rc)
        return rc;
    bind_text(s, 1, gpu->name);
    if (gpu->drain.until_ms)
        bind_aside(s, 2, &gpu->drain);
    rc = run(r, s, why);
    sqlite3_finalize(s);
    return rc;
}

static int write_audit(struct vgpu_registry *r, const struct vgpu_registry_txn *txn, char *why)
{
    int rc = 0;
    sqlite3_stmt *s = prepare(r,
                              "INSERT INTO audit (time_ms, uid, pid, op, target, old, new) "
                              "VALUES (?, ?, ?, ?, ?, ?, ?)",
                              &rc, why);
    for (uint32_t i = 0; !rc && i < txn->audit_count; i++) {
        const struct vgpu_registry_audit *a = &txn->audit[i];
        sqlite3_bind_int64(s, 1, a->time_ms);
        if (a->uid >= 0)
            sqlite3_bind_int64(s, 2, a->uid);
        if (a->pid >= 0)
            sqlite3_bind_int64(s, 3, a->pid);
        sqlite3_bind_text(s, 4, a->op, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(s, 5, a->target, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(s, 6, a->before, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(s, 7, a->after, -1, SQLITE_TRANSIENT);
        rc = run(r, s, why);
    }
    sqlite3_finalize(s);
    if (rc || !txn->audit_count)
        return rc;
    char prune[96];
    snprintf(prune, sizeof(prune),
             "DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - %u",
             VGPU_REGISTRY_AUDIT_KEPT);
    return vgpu_registry_exec(r, "write it", prune, why);
}

static bool puts_a_pool(const struct vgpu_registry_txn *txn)
{
    for (uint32_t p = 0; p < VGPU_REGISTRY_POOLS; p++)
        if (txn->put_pool[p])
            return true;
    return false;
}

int vgpu_registry_commit(struct vgpu_registry *r, const struct vgpu_registry_txn *txn, char *why)
{
    int rc = vgpu_registry_exec(r, "write it", "BEGIN IMMEDIATE", why);
    if (rc)
        return rc;
    if (txn->vm_count)
        rc = write_vms(r, txn, why);
    if (!rc && puts_a_pool(txn))
        rc = write_pools(r, txn, why);
    if (!rc && txn->put_gpu)
        rc = write_gpu(r, &txn->gpu, why);
    if (!rc)
        rc = write_audit(r, txn, why);
    return vgpu_registry_end(r, rc, "write it", why);
}

static void take_text(sqlite3_stmt *s, int column, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    snprintf(out, size, "%s", text ? text : "");
}

int vgpu_registry_audit(struct vgpu_registry *r, uint64_t before, uint32_t limit,
                        struct vgpu_registry_audit **out, uint32_t *count, char *why)
{
    int rc = 0, step = SQLITE_DONE;
    *count = 0;
    *out = calloc(limit ? limit : 1, sizeof(**out));
    if (!*out) {
        snprintf(why, VGPU_REGISTRY_WHY, "out of memory");
        return -ENOMEM;
    }
    sqlite3_stmt *s = prepare(r,
                              "SELECT seq, time_ms, uid, pid, op, target, old, new FROM audit "
                              "WHERE seq < ? ORDER BY seq DESC LIMIT ?",
                              &rc, why);
    if (!rc) {
        sqlite3_bind_int64(s, 1, before > INT64_MAX ? INT64_MAX : (int64_t)before);
        sqlite3_bind_int64(s, 2, limit);
    }
    while (!rc && *count < limit && (step = sqlite3_step(s)) == SQLITE_ROW) {
        struct vgpu_registry_audit *a = &(*out)[(*count)++];
        bool own = sqlite3_column_type(s, 2) == SQLITE_NULL;
        a->seq = (uint64_t)sqlite3_column_int64(s, 0);
        a->time_ms = sqlite3_column_int64(s, 1);
        a->uid = own ? -1 : sqlite3_column_int64(s, 2);
        a->pid = own ? -1 : sqlite3_column_int64(s, 3);
        take_text(s, 4, a->op, sizeof(a->op));
        take_text(s, 5, a->target, sizeof(a->target));
        take_text(s, 6, a->before, sizeof(a->before));
        take_text(s, 7, a->after, sizeof(a->after));
    }
    if (!rc && step != SQLITE_DONE && step != SQLITE_ROW)
        rc = vgpu_registry_failed(r, "read it", why);
    sqlite3_finalize(s);
    if (rc) {
        free(*out);
        *out = NULL;
        *count = 0;
    }
    return rc;
}
