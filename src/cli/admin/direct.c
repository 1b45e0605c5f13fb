/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry without a mediator: opens it, does one operation, closes it. The checks are those of
 * src/registry; what only a mediator can know (GPUs, who is attached) speaks against nothing here.
 */
#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/admin/direct.h"
#include "cli/admin/direct_show.h"
#include "registry/plan.h"
#include "registry/registry.h"

#define WAIT_MS            2000 /* for another vgpu-admin */
#define QUARANTINE_SECONDS 300  /* docs/mediator.md, quarantine_s */

struct direct {
    const char *path, *op;
    struct json_object *arguments;
    struct vgpu_registry *registry;
    struct vgpu_registry_state state;
    int64_t now_ms;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void fail_change(const struct vgpu_change_error *error, struct admin_error *e)
{
    static const enum admin_status statuses[] = {
        [VGPU_CODE_INVALID] = ADMIN_USAGE,   [VGPU_CODE_NOT_FOUND] = ADMIN_NOT_FOUND,
        [VGPU_CODE_EXISTS] = ADMIN_CONFLICT, [VGPU_CODE_DENIED] = ADMIN_DENIED,
        [VGPU_CODE_BUSY] = ADMIN_BUSY,       [VGPU_CODE_CONFLICT] = ADMIN_CONFLICT,
        [VGPU_CODE_STORAGE] = ADMIN_STORAGE, [VGPU_CODE_UNSUPPORTED] = ADMIN_UNSUPPORTED,
        [VGPU_CODE_INTERNAL] = ADMIN_FAILED,
    };
    admin_fail(e, statuses[error->code], vgpu_change_code_name(error->code), "%s", error->message);
}

static struct json_object *audit(const struct direct *d, struct admin_error *e)
{
    char why[VGPU_REGISTRY_WHY] = "";
    struct vgpu_registry_audit *lines = NULL;
    uint32_t count = 0;
    int rc = vgpu_registry_audit(
        d->registry, (uint64_t)admin_number(d->arguments, "before", INT64_MAX),
        (uint32_t)admin_number(d->arguments, "limit", 100), &lines, &count, why);
    if (rc) {
        admin_fail(e, ADMIN_STORAGE, "storage", "%s", why);
        return NULL;
    }
    struct json_object *result = direct_audit(lines, count);
    free(lines);
    return result;
}

/* A change of VMs: read, checked, written, and how they are now. */
static struct json_object *change(struct direct *d, struct admin_error *e)
{
    struct vgpu_change c = {0};
    struct vgpu_registry_txn txn = {0};
    struct vgpu_change_error error = {0};
    struct json_object *result = NULL;
    const struct vgpu_plan_facts facts = {0};
    const struct vgpu_plan_who who = {d->now_ms, (int64_t)getuid(), (int64_t)getpid(),
                                      QUARANTINE_SECONDS};
    char why[VGPU_REGISTRY_WHY] = "";
    enum vgpu_change_op op;
    int rc;
    if (!vgpu_change_find(d->op, &op) || op > VGPU_CHANGE_UNDRAIN ||
        !admin_array(d->arguments, "vms")) {
        admin_fail(e, ADMIN_UNSUPPORTED, "unsupported",
                   "%s: only a running mediator can do that; --registry is for VMs: register, "
                   "remove, set, quarantine, release, drain and list them, and audit",
                   d->op);
        return NULL;
    }
    if (vgpu_change_read(&c, op, d->arguments, &error) ||
        vgpu_plan(&d->state, &c, &facts, &who, &txn, &error)) {
        fail_change(&error, e);
    } else if ((rc = vgpu_registry_reserve(&d->state, &txn))) {
        admin_fail(e, rc == -ENOSPC ? ADMIN_CONFLICT : ADMIN_FAILED,
                   rc == -ENOSPC ? "conflict" : "internal", "%s: %s", d->op,
                   rc == -ENOSPC ? "the registry is full: remove VMs that are no more"
                                 : "out of memory");
    } else if (vgpu_registry_commit(d->registry, &txn, why)) {
        admin_fail(e, ADMIN_STORAGE, "storage", "%s: %s", d->op, why);
    } else {
        vgpu_registry_apply(&d->state, &txn);
        result = op == VGPU_CHANGE_REMOVE ? direct_removed(c.vms, c.vm_count)
                                          : direct_vms(&d->state, c.vms, c.vm_count, d->now_ms);
    }
    vgpu_registry_txn_free(&txn);
    vgpu_change_free(&c);
    return result;
}

static struct json_object *dispatch(struct direct *d, struct admin_error *e)
{
    if (!strcmp(d->op, "list-vms"))
        return direct_vms(&d->state, NULL, 0, d->now_ms);
    if (!strcmp(d->op, "list-pools"))
        return direct_pools(&d->state, d->now_ms);
    if (!strcmp(d->op, "audit"))
        return audit(d, e);
    if (!strcmp(d->op, "show-vm")) {
        uint32_t vm = (uint32_t)admin_number(d->arguments, "vm", 0);
        struct json_object *result = direct_vm(&d->state, vm, d->now_ms);
        if (!result)
            admin_fail(e, ADMIN_NOT_FOUND, "not-found",
                       "vm %u: the registry knows nothing of it (list-vms shows those it does)",
                       vm);
        return result;
    }
    return change(d, e);
}

static void fail_open(const char *path, int rc, const char *why, struct admin_error *e)
{
    if (rc == -EBUSY)
        admin_fail(e, ADMIN_BUSY, "busy",
                   "%s; while a mediator runs ask it: leave --registry out, or say --control PATH",
                   why);
    else if (rc == -EACCES || rc == -EPERM)
        admin_fail(e, ADMIN_DENIED, "denied", "%s", why);
    else
        admin_fail(e, ADMIN_STORAGE, "storage", "%s", *why ? why : path);
}

struct json_object *admin_direct(const char *path, const char *op, struct json_object *arguments,
                                 struct admin_error *e)
{
    struct direct d = {.path = path, .op = op, .arguments = arguments, .now_ms = now_ms()};
    char why[VGPU_REGISTRY_WHY] = "";
    int rc = 0;
    /* A slip of the path must not make a registry that nobody reads. */
    if (strcmp(op, "register-vm") != 0 && access(path, F_OK)) {
        admin_fail(e, ADMIN_NOT_FOUND, "not-found",
                   "--registry %s: %s (register-vm makes a registry, if there is none)", path,
                   strerror(errno));
        return NULL;
    }
    d.registry = vgpu_registry_open(path, WAIT_MS, &d.state, &rc, why);
    if (!d.registry) {
        fail_open(path, rc, why, e);
        vgpu_registry_state_free(&d.state);
        return NULL;
    }
    struct json_object *result = dispatch(&d, e);
    if (!result && e->status == ADMIN_OK)
        admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
    vgpu_registry_close(d.registry);
    vgpu_registry_state_free(&d.state);
    return result;
}

/* A number or text that a statement gives; false: it gives none. */
static bool ask_file(sqlite3 *db, const char *sql, char *out, size_t size)
{
    sqlite3_stmt *statement = NULL;
    bool good = sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
                sqlite3_step(statement) == SQLITE_ROW;
    if (good) {
        const unsigned char *text = sqlite3_column_text(statement, 0);
        snprintf(out, size, "%s", text ? (const char *)text : "");
    }
    sqlite3_finalize(statement);
    return good;
}

/*
 * Opens it to be read only. A file that nobody has open is taken as it stands: SQLite would put its
 * -wal and -shm beside it otherwise, and a doctor leaves nothing behind.
 */
static sqlite3 *open_to_look(const char *path, char *why, size_t size)
{
    sqlite3 *db = NULL;
    char wal[PATH_MAX], uri[3 * PATH_MAX + 32] = "file:";
    size_t at = strlen(uri);
    snprintf(wal, sizeof(wal), "%s-wal", path);
    for (const char *c = path; *c && at + 32 < sizeof(uri); c++)
        at += (size_t)snprintf(uri + at, sizeof(uri) - at, strchr("%?#", *c) ? "%%%02x" : "%c", *c);
    snprintf(uri + at, sizeof(uri) - at, access(wal, F_OK) ? "?immutable=1" : "?mode=ro");
    if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) == SQLITE_OK) {
        sqlite3_busy_timeout(db, WAIT_MS);
        return db;
    }
    snprintf(why, size, "it cannot be read: %s", db ? sqlite3_errmsg(db) : "out of memory");
    sqlite3_close(db);
    return NULL;
}

/* A question whose failing means damage. */
static bool ask_or_say(sqlite3 *db, const char *sql, char out[256], char *why, size_t size)
{
    if (ask_file(db, sql, out, 256))
        return true;
    snprintf(why, size, "it cannot be read: %s", sqlite3_errmsg(db));
    return false;
}

static bool check_file(sqlite3 *db, char *why, size_t size)
{
    char application[256], check[256], version[256], vms[256];
    if (!ask_or_say(db, "PRAGMA application_id", application, why, size))
        return false;
    if (strtoul(application, NULL, 10) != VGPU_REGISTRY_APPLICATION_ID) {
        snprintf(why, size, "it is no registry of vgpu");
        return false;
    }
    if (!ask_or_say(db, "PRAGMA quick_check(1)", check, why, size))
        return false;
    if (strcmp(check, "ok") != 0) {
        snprintf(why, size, "it is damaged: %s", check);
        return false;
    }
    if (!ask_or_say(db, "PRAGMA user_version", version, why, size))
        return false;
    if (strtoul(version, NULL, 10) > VGPU_REGISTRY_SCHEMA) {
        snprintf(why, size,
                 "it has schema %s, and this program knows up to %u: a newer vgpu has used it",
                 version, VGPU_REGISTRY_SCHEMA);
        return false;
    }
    if (!ask_or_say(db, "SELECT count(*) FROM vms", vms, why, size))
        return false;
    snprintf(why, size, "schema %s, %s VMs, quick_check ok", version, vms);
    return true;
}

bool admin_registry_check(const char *path, char *why, size_t size)
{
    /* Not by vgpu_registry_open, which takes the lock and may bring an old file up to date. */
    sqlite3 *db = open_to_look(path, why, size);
    bool good = db && check_file(db, why, size);
    sqlite3_close(db);
    return good;
}

const char *admin_registry_setting(const struct vgpu_settings *settings)
{
    return settings->registry;
}
