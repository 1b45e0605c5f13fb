/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registry's file (registry.h): what is written comes back, whole or not at all; old files. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "registry/registry.h"
#include "vgpu_test.h"

static char path[128], why[VGPU_REGISTRY_WHY];
static struct vgpu_registry_state state;

static int setup(void **s)
{
    static unsigned number;
    (void)s;
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%.90s/registry-%d-%u.db", folder ? folder : "/tmp", (int)getpid(),
             number++);
    return 0;
}

static int teardown(void **s)
{
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    char name[160];
    (void)s;
    vgpu_registry_state_free(&state);
    for (unsigned i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        unlink(name);
    }
    return 0;
}

static struct vgpu_registry *open_again(struct vgpu_registry *old)
{
    int rc;
    vgpu_registry_close(old);
    vgpu_registry_state_free(&state);
    struct vgpu_registry *r = vgpu_registry_open(path, 0, &state, &rc, why);
    if (!r)
        fail_msg("%d: %s", rc, why);
    assert_int_equal(rc, 0);
    return r;
}

static int refused(void)
{
    int rc;
    struct vgpu_registry_state none = {0};
    assert_null(vgpu_registry_open(path, 0, &none, &rc, why));
    assert_null(none.vms);
    assert_non_null(strstr(why, path));
    return rc;
}

static void sql(const char *text)
{
    sqlite3 *db;
    char *error = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s", error);
    sqlite3_close(db);
}

static struct vgpu_registry_vm some_vm(uint32_t vm)
{
    struct vgpu_registry_vm row;
    vgpu_registry_vm_init(&row, vm);
    row.registered = true;
    strcpy(row.name, "name 'of' \"it\"; --");
    row.pool = 'Q';
    row.priority = 0;
    row.weight = 10000;
    row.rate = 1;
    row.burst_ms = 60000;
    row.memory = 1ull << 46;
    row.sessions = 1024;
    row.queue = 65536;
    row.quarantine = (struct vgpu_registry_aside){VGPU_REGISTRY_FOREVER, "why\n\"not\""};
    row.drain = (struct vgpu_registry_aside){1790000000123, ""};
    return row;
}

static void same_vm(const struct vgpu_registry_vm *a, const struct vgpu_registry_vm *b)
{
    char x[600], y[600];
    assert_non_null(a);
    assert_int_equal(a->vm, b->vm);
    vgpu_registry_vm_differ(a, b, x, y, sizeof(x));
    assert_string_equal(x, "");
    assert_string_equal(y, "");
}

/* Every field, at both ends of its range, and what says nothing. */
static void test_vms_come_back(void **s)
{
    struct vgpu_registry_txn txn = {0};
    struct vgpu_registry_vm full = some_vm(UINT32_MAX), bare, last = some_vm(1);
    (void)s;
    vgpu_registry_vm_init(&bare, 0);
    bare.registered = true;
    last.registered = false;
    last.quarantine.until_ms = 0;
    last.quarantine.reason[0] = 0;
    struct vgpu_registry *r = open_again(NULL);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &full), 0);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &bare), 0);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &last), 0);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    r = open_again(r);
    assert_int_equal(state.vm_count, 3);
    same_vm(vgpu_registry_find_vm(&state, UINT32_MAX), &full);
    same_vm(vgpu_registry_find_vm(&state, 0), &bare);
    same_vm(vgpu_registry_find_vm(&state, 1), &last);
    assert_null(vgpu_registry_find_vm(&state, 2));
    /* A row that says nothing any more goes. */
    vgpu_registry_vm_init(&bare, 0);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &bare), 0);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    r = open_again(r);
    assert_int_equal(state.vm_count, 2);
    assert_true(vgpu_registry_starts(r) == 3);
    vgpu_registry_close(r);
}

static void put_pool(struct vgpu_registry_txn *txn, char pool, const char *first,
                     const char *second)
{
    struct vgpu_registry_pool row = {.pool = pool, .has_gpus = true};
    if (first)
        strcpy(row.gpus[row.gpu_count++], first);
    if (second)
        strcpy(row.gpus[row.gpu_count++], second);
    vgpu_registry_txn_pool(txn, &row);
}

/* A GPU goes from one pool to the other in one transaction; pools stay in order; GPUs' drains. */
static void test_pools_and_gpus_come_back(void **s)
{
    struct vgpu_registry_txn txn = {0};
    (void)s;
    struct vgpu_registry *r = open_again(NULL);
    put_pool(&txn, 'A', "software", "cuda:1");
    put_pool(&txn, 'B', NULL, NULL);
    txn.put_gpu = true;
    txn.gpu = (struct vgpu_registry_gpu){.name = "cuda:1", .drain = {5, "fan"}};
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    r = open_again(r);
    assert_int_equal(state.pools[0].gpu_count, 2);
    assert_string_equal(state.pools[0].gpus[1], "cuda:1");
    assert_true(state.pools[1].has_gpus && !state.pools[1].gpu_count && state.pools[1].pool == 'B');
    assert_false(state.pools[2].pool);
    assert_int_equal(vgpu_registry_find_gpu(&state, "cuda:1")->drain.until_ms, 5);
    txn = (struct vgpu_registry_txn){0};
    put_pool(&txn, 'A', "software", NULL);
    put_pool(&txn, 'B', "cuda:1", "software");
    txn.put_gpu = true;
    strcpy(txn.gpu.name, "cuda:1");
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    r = open_again(r);
    assert_int_equal(state.pools[0].gpu_count, 1);
    assert_string_equal(state.pools[1].gpus[0], "cuda:1");
    assert_int_equal(state.gpu_count, 0);
    /* One GPU in two pools is what the file itself refuses. */
    txn = (struct vgpu_registry_txn){0};
    put_pool(&txn, 'C', "cuda:1", NULL);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), -EINVAL);
    r = open_again(r);
    assert_false(state.pools[2].pool);
    vgpu_registry_close(r);
}

/* K7: all or nothing; what the memory has after apply is what the file has. */
static void test_nothing_of_a_change_that_fails(void **s)
{
    struct vgpu_registry_txn txn = {0};
    struct vgpu_registry_vm good = some_vm(7), bad = some_vm(8);
    struct vgpu_registry_audit line = {.uid = 1, .pid = 2, .op = "test"};
    (void)s;
    bad.rate = 5000; /* the file's own checks do not let it through */
    struct vgpu_registry *r = open_again(NULL);
    assert_int_equal(vgpu_registry_txn_audit(&txn, &line), 0);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &good), 0);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &bad), 0);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), -EINVAL);
    assert_non_null(strstr(why, "out of range"));
    r = open_again(r);
    struct vgpu_registry_audit *lines;
    uint32_t count;
    assert_int_equal(state.vm_count, 0);
    assert_int_equal(vgpu_registry_audit(r, INT64_MAX, 10, &lines, &count, why), 0);
    assert_int_equal(count, 0);
    free(lines);
    txn.vm_count = 1;
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    vgpu_registry_close(r);
}

static void test_audit(void **s)
{
    struct vgpu_registry_audit *lines;
    uint32_t count;
    struct vgpu_registry_txn txn = {0};
    (void)s;
    struct vgpu_registry *r = open_again(NULL);
    for (int i = 0; i < 5; i++) {
        struct vgpu_registry_audit line = {
            .time_ms = 1000 + i, .uid = i ? i : -1, .pid = 7, .op = "op", .target = "vm 7"};
        snprintf(line.after, sizeof(line.after), "%d", i);
        assert_int_equal(vgpu_registry_txn_audit(&txn, &line), 0);
    }
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    assert_int_equal(vgpu_registry_audit(r, UINT64_MAX, 2, &lines, &count, why), 0);
    assert_int_equal(count, 2);
    assert_string_equal(lines[0].after, "4");
    assert_int_equal(lines[1].uid, 3);
    uint64_t before = lines[1].seq;
    free(lines);
    assert_int_equal(vgpu_registry_audit(r, before, 100, &lines, &count, why), 0);
    assert_int_equal(count, 3);
    assert_int_equal(lines[2].uid, -1);
    assert_int_equal(lines[2].pid, -1);
    free(lines);
    vgpu_registry_close(r);
    /* Old ones go when newer ones come. */
    sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
        "INSERT INTO audit (time_ms, op, target, old, new) SELECT i, 'x', '', '', '' FROM n");
    r = open_again(NULL);
    struct vgpu_registry_audit line = {.op = "newest"};
    assert_int_equal(vgpu_registry_txn_audit(&txn, &line), 0);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    assert_int_equal(vgpu_registry_audit(r, 8, 10, &lines, &count, why), 0);
    assert_int_equal(count, 1); /* 7 of 100006: the 100000 newest begin there */
    free(lines);
    vgpu_registry_close(r);
}

static char *read_file(const char *name)
{
    FILE *f = fopen(name, "r");
    assert_non_null(f);
    char *text = calloc(1, 65536);
    assert_true(fread(text, 1, 65535, f) > 0);
    fclose(f);
    return text;
}

/* A stored file of schema 1 is brought up, with everything in it. */
static void test_from_schema_1(void **s)
{
    char *old = read_file(SCHEMA_1);
    struct vgpu_registry_audit *lines;
    uint32_t count;
    (void)s;
    sql(old);
    free(old);
    struct vgpu_registry *r = open_again(NULL);
    const struct vgpu_registry_vm *seven = vgpu_registry_find_vm(&state, 7);
    assert_int_equal(state.vm_count, 2);
    assert_string_equal(seven->name, "seven");
    assert_int_equal(seven->rate, 125);
    assert_int_equal(seven->queue, 0);
    assert_int_equal(seven->drain.until_ms, 0);
    assert_true(vgpu_registry_find_vm(&state, 8)->quarantine.until_ms == VGPU_REGISTRY_FOREVER);
    assert_int_equal(state.pools[1].gpu_count, 2);
    assert_true(vgpu_registry_starts(r) == 4);
    assert_int_equal(vgpu_registry_audit(r, INT64_MAX, 10, &lines, &count, why), 0);
    assert_int_equal(count, 1);
    assert_string_equal(lines[0].target, "vm 7");
    free(lines);
    /* And has what the new schema has. */
    struct vgpu_registry_txn txn = {0};
    struct vgpu_registry_vm row = *seven;
    row.queue = 9;
    row.drain = (struct vgpu_registry_aside){77, "later"};
    assert_int_equal(vgpu_registry_txn_vm(&txn, &row), 0);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    r = open_again(r);
    same_vm(vgpu_registry_find_vm(&state, 7), &row);
    vgpu_registry_close(r);
}

/* A step that fails leaves the old file as it was. */
static void test_migration_is_whole(void **s)
{
    char *old = read_file(SCHEMA_1);
    (void)s;
    sql(old);
    free(old);
    sql("CREATE TABLE gpus (in_the_way TEXT)");
    assert_true(refused() < 0);
    assert_non_null(strstr(why, "from schema 1 to 2"));
    sql("INSERT INTO vms VALUES (9, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);"
        "DROP TABLE gpus");
    struct vgpu_registry *r = open_again(NULL);
    assert_int_equal(state.vm_count, 3);
    vgpu_registry_close(r);
}

static void test_newer_and_foreign(void **s)
{
    (void)s;
    vgpu_registry_close(open_again(NULL));
    sql("PRAGMA user_version = 3");
    assert_int_equal(refused(), -EPROTONOSUPPORT);
    assert_non_null(strstr(why, "has schema 3, this program knows 2"));
    sql("PRAGMA user_version = 2; PRAGMA application_id = 1");
    assert_int_equal(refused(), -EINVAL);
    assert_non_null(strstr(why, "no registry"));
}

/* One program at a time; another process, since locks are a process's. */
static void test_lock(void **s)
{
    (void)s;
    struct vgpu_registry *r = open_again(NULL);
    pid_t child = fork();
    if (!child) {
        int rc;
        struct vgpu_registry_state none = {0};
        _exit(!vgpu_registry_open(path, 0, &none, &rc, why) && rc == -EBUSY &&
                      strstr(why, "another vgpu-mediator")
                  ? 0
                  : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(refused(), -EBUSY);
    r = open_again(r);
    vgpu_registry_close(r);
}

static void damage(off_t at, size_t length)
{
    int fd = open(path, O_RDWR);
    char bytes[8192];
    memset(bytes, 0xa5, sizeof(bytes));
    assert_true(fd >= 0);
    assert_true(pwrite(fd, bytes, length, at) == (ssize_t)length);
    close(fd);
}

/* Wherever it is damaged: an error that says so, and no crash. */
static void test_damage_anywhere(void **s)
{
    struct stat st;
    char *whole;
    (void)s;
    struct vgpu_registry *r = open_again(NULL);
    struct vgpu_registry_txn txn = {0};
    for (uint32_t i = 0; i < 100; i++) {
        struct vgpu_registry_vm row = some_vm(i);
        assert_int_equal(vgpu_registry_txn_vm(&txn, &row), 0);
    }
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_txn_free(&txn);
    vgpu_registry_close(r);
    assert_int_equal(stat(path, &st), 0);
    whole = malloc((size_t)st.st_size);
    int fd = open(path, O_RDONLY);
    assert_true(read(fd, whole, (size_t)st.st_size) == st.st_size);
    close(fd);
    unsigned found = 0;
    for (off_t at = 0; at < st.st_size; at += 1777) {
        int rc;
        struct vgpu_registry_state got = {0};
        damage(at, (size_t)(at + 64 < st.st_size ? 64 : st.st_size - at));
        r = vgpu_registry_open(path, 0, &got, &rc, why);
        if (!r) {
            found++;
            assert_true(rc == -EUCLEAN || rc == -EINVAL || rc == -EPROTONOSUPPORT || rc == -EIO);
            assert_non_null(strstr(why, path));
        }
        vgpu_registry_close(r);
        vgpu_registry_state_free(&got);
        fd = open(path, O_RDWR | O_TRUNC);
        assert_true(write(fd, whole, (size_t)st.st_size) == st.st_size);
        close(fd);
        char wal[160];
        snprintf(wal, sizeof(wal), "%s-wal", path);
        unlink(wal);
    }
    assert_true(found > 5);
    free(whole);
    r = open_again(NULL);
    assert_int_equal(state.vm_count, 100);
    vgpu_registry_close(r);
}

/* What can only be read opens, and is not written. */
static void test_read_only(void **s)
{
    (void)s;
    if (geteuid() == 0)
        skip(); /* nothing keeps root from writing; tests/control mounts a file system for that */
    struct vgpu_registry *r = open_again(NULL);
    struct vgpu_registry_txn txn = {0};
    struct vgpu_registry_vm row = some_vm(7);
    assert_int_equal(vgpu_registry_txn_vm(&txn, &row), 0);
    assert_int_equal(vgpu_registry_commit(r, &txn, why), 0);
    vgpu_registry_close(r);
    assert_int_equal(chmod(path, 0400), 0);
    r = open_again(NULL);
    assert_true(vgpu_registry_read_only(r));
    assert_int_equal(vgpu_registry_commit(r, &txn, why), -EROFS);
    vgpu_registry_txn_free(&txn);
    vgpu_registry_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_vms_come_back, setup, teardown),
        VGPU_TEST_F(test_pools_and_gpus_come_back, setup, teardown),
        VGPU_TEST_F(test_nothing_of_a_change_that_fails, setup, teardown),
        VGPU_TEST_F(test_audit, setup, teardown),
        VGPU_TEST_F(test_from_schema_1, setup, teardown),
        VGPU_TEST_F(test_migration_is_whole, setup, teardown),
        VGPU_TEST_F(test_newer_and_foreign, setup, teardown),
        VGPU_TEST_F(test_lock, setup, teardown),
        VGPU_TEST_F(test_damage_anywhere, setup, teardown),
        VGPU_TEST_F(test_read_only, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
