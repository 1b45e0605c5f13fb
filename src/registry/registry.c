/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening and closing; see registry.h. What a file was opened for is decided here once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "registry/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/file.h"

#define BUSY_MS 5000 /* for somebody with sqlite3 at the file */

int vgpu_registry_failed(const struct vgpu_registry *r, const char *what, char *why)
{
    int code = sqlite3_errcode(r->db), rc = -EIO;
    const char *hint = "see to the disk";
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        rc = -EBUSY;
        hint = "another program has it locked, sqlite3 for example: end it";
        break;
    case SQLITE_READONLY:
        rc = -EROFS;
        hint = "it, its folder or its file system can only be read: mend that and restart";
        break;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        rc = -EACCES;
        hint = "see that the folder is there and may be written to";
        break;
    case SQLITE_FULL:
        rc = -ENOSPC;
        hint = "make room on the disk";
        break;
    case SQLITE_NOTADB:
        rc = -EINVAL;
        hint = "it is no SQLite file: name another one, or put it aside";
        break;
    case SQLITE_CORRUPT:
        rc = -EUCLEAN;
        hint = "it is damaged: put a copy back, or put it aside and register anew";
        break;
    case SQLITE_NOMEM:
        rc = -ENOMEM;
        hint = "memory is out";
        break;
    case SQLITE_CONSTRAINT:
        rc = -EINVAL;
        hint = "a value is out of range";
        break;
    }
    snprintf(why, VGPU_REGISTRY_WHY, "cannot %.60s: the registry %.180s: %.100s (%s)", what,
             r->path, sqlite3_errmsg(r->db), hint);
    return rc;
}

int vgpu_registry_exec(struct vgpu_registry *r, const char *what, const char *sql, char *why)
{
    if (sqlite3_exec(r->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return vgpu_registry_failed(r, what, why);
    return 0;
}

int vgpu_registry_number(struct vgpu_registry *r, const char *sql, int64_t *out, char *why)
{
    sqlite3_stmt *statement;
    int rc = 0;
    *out = 0;
    if (sqlite3_prepare_v2(r->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return vgpu_registry_failed(r, "read it", why);
    int step = sqlite3_step(statement);
    if (step == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    else if (step != SQLITE_DONE)
        rc = vgpu_registry_failed(r, "read it", why);
    sqlite3_finalize(statement);
    return rc;
}

int vgpu_registry_end(struct vgpu_registry *r, int rc, const char *what, char *why)
{
    if (!rc)
        rc = vgpu_registry_exec(r, what, "COMMIT", why);
    /* Some errors have undone it already; then this does nothing but say so. */
    if (rc && !sqlite3_get_autocommit(r->db))
        (void)sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* --- opening --- */

/* A file whose folder cannot be written to has no room for the files that WAL needs beside it; if
 * there is nothing left to be read from those, it can be read as one that nobody changes. */
static int open_immutable(struct vgpu_registry *r, char *why)
{
    char wal[PATH_MAX], uri[3 * PATH_MAX + 32];
    struct stat st;
    snprintf(wal, sizeof(wal), "%s-wal", r->path);
    if (!stat(wal, &st) && st.st_size)
        return vgpu_registry_failed(r, "open it", why);
    size_t used = (size_t)snprintf(uri, sizeof(uri), "file:");
    for (const char *c = r->path; *c; c++)
        used += (size_t)snprintf(uri + used, sizeof(uri) - used,
                                 strchr("%?#", *c) ? "%%%02X" : "%c", (unsigned char)*c);
    snprintf(uri + used, sizeof(uri) - used, "?immutable=1");
    sqlite3_close(r->db);
    r->db = NULL;
    if (sqlite3_open_v2(uri, &r->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                        NULL) != SQLITE_OK)
        return vgpu_registry_failed(r, "open it", why);
    return 0;
}

/* Nobody else's to read: names of VMs, and who did what. SQLite's other files get the same mode. */
static void make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        close(fd);
}

static int open_file(struct vgpu_registry *r, char *why)
{
    int64_t tables;
    make_file(r->path);
    if (sqlite3_open_v2(r->path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return vgpu_registry_failed(r, "open it", why);
    sqlite3_busy_timeout(r->db, BUSY_MS);
#ifdef SQLITE_DBCONFIG_DEFENSIVE
    sqlite3_db_config(r->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
#endif
    r->read_only = sqlite3_db_readonly(r->db, "main") == 1;
    int rc = vgpu_registry_number(r, "SELECT count(*) FROM sqlite_master", &tables, why);
    if (rc && r->read_only && (rc == -EACCES || rc == -EROFS)) {
        rc = open_immutable(r, why);
        if (!rc)
            rc = vgpu_registry_number(r, "SELECT count(*) FROM sqlite_master", &tables, why);
    }
    return rc;
}

static int check_whole(struct vgpu_registry *r, char *why)
{
    sqlite3_stmt *statement;
    int rc = 0;
    if (sqlite3_prepare_v2(r->db, "PRAGMA quick_check(1)", -1, &statement, NULL) != SQLITE_OK)
        return vgpu_registry_failed(r, "check it", why);
    int step = sqlite3_step(statement);
    const char *text = step == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (step != SQLITE_ROW) {
        rc = vgpu_registry_failed(r, "check it", why);
    } else if (!text || strcmp(text, "ok") != 0) {
        rc = -EUCLEAN;
        snprintf(why, VGPU_REGISTRY_WHY,
                 "the registry %.180s is damaged: %.120s; put a copy back, or put it aside and "
                 "register anew",
                 r->path, text ? text : "?");
    }
    sqlite3_finalize(statement);
    return rc;
}

/* Whose file it is, and of which version. */
static int identify(struct vgpu_registry *r, int64_t *version, char *why)
{
    int64_t application, tables;
    int rc = vgpu_registry_number(r, "PRAGMA application_id", &application, why);
    if (!rc)
        rc = vgpu_registry_number(r, "PRAGMA user_version", version, why);
    if (!rc)
        rc = vgpu_registry_number(r, "SELECT count(*) FROM sqlite_master", &tables, why);
    if (rc)
        return rc;
    bool fresh = !application && !*version && !tables;
    if (!fresh && (application != (int64_t)VGPU_REGISTRY_APPLICATION_ID || *version < 1)) {
        snprintf(why, VGPU_REGISTRY_WHY,
                 "%.300s is a SQLite file, but no registry: name another one", r->path);
        return -EINVAL;
    }
    if (*version > (int64_t)VGPU_REGISTRY_SCHEMA) {
        snprintf(why, VGPU_REGISTRY_WHY,
                 "the registry %.200s has schema %lld, this program knows %u at most: a newer one "
                 "wrote it; use that, or put back the copy from before",
                 r->path, (long long)*version, VGPU_REGISTRY_SCHEMA);
        return -EPROTONOSUPPORT;
    }
    if (r->read_only && *version != (int64_t)VGPU_REGISTRY_SCHEMA) {
        snprintf(why, VGPU_REGISTRY_WHY,
                 "the registry %.200s has schema %lld and would have to be brought up to %u, but "
                 "can only be read",
                 r->path, (long long)*version, VGPU_REGISTRY_SCHEMA);
        return -EROFS;
    }
    return 0;
}

/*
 * WAL, so that who looks in with sqlite3 stops nobody. FULL, because an answer promises that a
 * change survives: NORMAL would lose the last ones with the power. It costs a sync a commit, which
 * the writer's thread waits for and nobody else.
 */
static int set_up(struct vgpu_registry *r, char *why)
{
    if (r->read_only)
        return 0;
    return vgpu_registry_exec(r, "set it up",
                              "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                              "PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 4194304",
                              why);
}

static int bring_up(struct vgpu_registry *r, struct vgpu_registry_state *state, char *why)
{
    int64_t version = 0, starts;
    char ignored[VGPU_REGISTRY_WHY];
    int rc = open_file(r, why);
    if (!rc)
        rc = identify(r, &version, why);
    if (!rc)
        rc = check_whole(r, why);
    if (!rc)
        rc = set_up(r, why);
    if (!rc && version != (int64_t)VGPU_REGISTRY_SCHEMA)
        rc = vgpu_registry_migrate(r, version, why);
    if (!rc)
        rc = vgpu_registry_load(r, state, why);
    if (rc)
        return rc;
    /* A disk that is full must not keep the VMs from running: changes will say so. */
    if (!r->read_only)
        (void)vgpu_registry_exec(
            r, "count", "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'starts'",
            ignored);
    if (!vgpu_registry_number(r,
                              "SELECT CAST(value AS INTEGER) FROM meta "
                              "WHERE key = 'starts'",
                              &starts, ignored))
        r->starts = (uint64_t)starts;
    return 0;
}

struct vgpu_registry *vgpu_registry_open(const char *path, unsigned wait_ms,
                                         struct vgpu_registry_state *state, int *rc, char *why)
{
    struct vgpu_registry *r = calloc(1, sizeof(*r));
    char lock[PATH_MAX];
    *rc = -ENOMEM;
    snprintf(why, VGPU_REGISTRY_WHY, "out of memory");
    if (!r)
        return NULL;
    r->lock.fd = -1;
    r->path = strdup(path);
    if (!r->path)
        goto fail;
    if (snprintf(lock, sizeof(lock), "%s.lock", path) >= (int)sizeof(lock) - 8) {
        *rc = -ENAMETOOLONG;
        snprintf(why, VGPU_REGISTRY_WHY, "the registry's path is too long");
        goto fail;
    }
    *rc = vgpu_lock_take(&r->lock, lock, path, wait_ms, why);
    /* Where nothing can be written nobody can do harm, and there is no place for a lock. */
    if (*rc && (*rc != -EROFS || access(path, R_OK)))
        goto fail;
    *rc = bring_up(r, state, why);
    if (!*rc)
        return r;
fail:
    vgpu_registry_state_free(state);
    vgpu_registry_close(r);
    return NULL;
}

void vgpu_registry_close(struct vgpu_registry *r)
{
    if (!r)
        return;
    sqlite3_close(r->db);
    if (r->lock.path)
        vgpu_lock_drop(&r->lock);
    free(r->path);
    free(r);
}

bool vgpu_registry_read_only(const struct vgpu_registry *r)
{
    return r->read_only;
}

uint64_t vgpu_registry_starts(const struct vgpu_registry *r)
{
    return r->starts;
}
