/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The run directory: who may be swept away, who may not, and the races between the two. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/guest.h"
#include "vgpu_test.h"

struct fixture {
    char directory[96];
    int dir;
    unsigned asked;
    uint64_t last;
    int answer; /* of what ends a session */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const char *tmp = getenv("TMPDIR");
    snprintf(f->directory, sizeof(f->directory), "%.60s/record-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->directory));
    f->dir = vgpu_record_open_dir(f->directory, "dev");
    assert_true(f->dir >= 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[160];
    close(f->dir);
    snprintf(command, sizeof(command), "rm -rf '%s'", f->directory);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static int end(void *context, uint64_t number)
{
    struct fixture *f = context;
    f->asked++;
    f->last = number;
    return f->answer;
}

static bool exists(struct fixture *f, const char *name)
{
    struct stat info;
    return fstatat(f->dir, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A record whose program is gone: closed without being removed. */
static void leave_behind(struct fixture *f, uint64_t number, uint32_t generation)
{
    struct vgpu_record record;
    assert_int_equal(vgpu_record_create(f->dir, number, generation, &record), 0);
    vgpu_record_release(&record);
}

static void test_group_may_work(void **state)
{
    struct fixture *f = *state;
    struct vgpu_record record;
    struct stat info;
    mode_t before = umask(077);
    assert_int_equal(vgpu_record_create(f->dir, 0xabc, 1, &record), 0);
    assert_int_equal(fstatat(f->dir, "0000000000000abc", &info, 0), 0);
    assert_int_equal(info.st_mode & 0777, 0660);
    int dir = vgpu_record_open_dir(f->directory, "other");
    assert_int_equal(fstat(dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0770);
    close(dir);
    umask(before);
    vgpu_record_remove(&record, 0xabc);
    assert_false(exists(f, "0000000000000abc"));
}

static void test_taken_number(void **state)
{
    struct fixture *f = *state;
    struct vgpu_record a, b;
    assert_int_equal(vgpu_record_create(f->dir, 7, 1, &a), 0);
    assert_int_equal(vgpu_record_create(f->dir, 7, 1, &b), -EEXIST);
    vgpu_record_remove(&a, 7);
}

static void test_sweep(void **state)
{
    struct fixture *f = *state;
    struct vgpu_record alive;
    assert_int_equal(vgpu_record_create(f->dir, 1, 5, &alive), 0);
    leave_behind(f, 2, 5);
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 1);
    assert_int_equal(f->asked, 1);
    assert_int_equal(f->last, 2);
    assert_true(exists(f, "0000000000000001"));
    assert_false(exists(f, "0000000000000002"));
    vgpu_record_remove(&alive, 1);
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 0);
}

/* When the session could not be ended its record stays for the next. */
static void test_sweep_fails(void **state)
{
    struct fixture *f = *state;
    leave_behind(f, 2, 5);
    f->answer = 201;
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 0);
    assert_true(exists(f, "0000000000000002"));
    f->answer = 0;
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 1);
    assert_int_equal(f->asked, 2);
}

/* A host that says no is asked about the others too; one that does not answer is not. */
static void test_sweep_stops(void **state)
{
    struct fixture *f = *state;
    for (uint64_t number = 1; number <= 5; number++)
        leave_behind(f, number, 5);
    f->answer = 201;
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 0);
    assert_int_equal(f->asked, 5);
    f->answer = -ETIMEDOUT;
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 0);
    assert_int_equal(f->asked, 6);
    f->answer = 0;
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 5);
}

/* The device's directory is never somebody's link to another place, whose mode would be changed. */
static void test_directory_is_a_link(void **state)
{
    struct fixture *f = *state;
    struct stat info;
    char path[160];
    snprintf(path, sizeof(path), "%s/elsewhere", f->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/link", f->directory);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_true(vgpu_record_open_dir(f->directory, "link") < 0);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
}

/* Other generations, other boots, and files without content need no SESSION_CLOSE. */
static void test_sweep_old(void **state)
{
    struct fixture *f = *state;
    leave_behind(f, 2, 4);
    int fd = openat(f->dir, "0000000000000003", O_WRONLY | O_CREAT | O_CLOEXEC, 0660);
    assert_true(fd >= 0);
    assert_int_equal(dprintf(fd, "generation=5 boot=of-another-time\n"), 34);
    close(fd);
    fd = openat(f->dir, "0000000000000004", O_WRONLY | O_CREAT | O_CLOEXEC, 0660);
    close(fd);
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 3);
    assert_int_equal(f->asked, 0);
}

/* What is no record is left alone: names, links, pipes, directories. */
static void test_sweep_strangers(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"README",           "12",
                                        "000000000000000G", "00000000000000001",
                                        "0000000000000000", "000000000000000A"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        close(openat(f->dir, names[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0660));
    assert_int_equal(symlinkat("README", f->dir, "0000000000000011"), 0);
    assert_int_equal(mkfifoat(f->dir, "0000000000000012", 0660), 0);
    assert_int_equal(mkdirat(f->dir, "0000000000000013", 0770), 0);
    assert_int_equal(vgpu_record_sweep(f->dir, 5, end, f), 0);
    assert_int_equal(f->asked, 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_true(exists(f, names[i]));
}

/* A record that was swept and whose number was taken again is not removed by its old owner. */
static void test_remove_after_replacement(void **state)
{
    struct fixture *f = *state;
    struct vgpu_record old, new;
    assert_int_equal(vgpu_record_create(f->dir, 9, 1, &old), 0);
    assert_int_equal(unlinkat(f->dir, "0000000000000009", 0), 0);
    assert_int_equal(vgpu_record_create(f->dir, 9, 1, &new), 0);
    vgpu_record_remove(&old, 9);
    assert_true(exists(f, "0000000000000009"));
    vgpu_record_remove(&new, 9);
    assert_false(exists(f, "0000000000000009"));
}

/* Creating and sweeping at the same time: whoever got a record keeps it until it lets go. */
static int create_for_a_while(struct fixture *f, uint64_t base)
{
    int got = 0;
    for (int i = 0; i < 1500; i++) {
        struct vgpu_record record;
        char name[20];
        uint64_t number = base + (uint64_t)(i % 7);
        int err = vgpu_record_create(f->dir, number, 5, &record);
        if (err == -EEXIST)
            continue; /* a sweep came between birth and lock: allowed, and noticed */
        if (err != 0)
            return -1;
        got++;
        snprintf(name, sizeof(name), "%016" PRIx64, number);
        if (!exists(f, name))
            return -1;
        if (i % 3)
            vgpu_record_remove(&record, number);
        else
            vgpu_record_release(&record);
    }
    return got;
}

static void test_race(void **state)
{
    struct fixture *f = *state;
    pid_t sweeper = fork();
    if (sweeper == 0) {
        for (int i = 0; i < 3000; i++)
            if (vgpu_record_sweep(f->dir, 5, end, f) < 0)
                _exit(1);
        _exit(0);
    }
    assert_true(create_for_a_while(f, 0x1000) > 0);
    int status;
    assert_int_equal(waitpid(sweeper, &status, 0), sweeper);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_group_may_work, setup, teardown),
        VGPU_TEST_F(test_taken_number, setup, teardown),
        VGPU_TEST_F(test_sweep, setup, teardown),
        VGPU_TEST_F(test_sweep_fails, setup, teardown),
        VGPU_TEST_F(test_sweep_stops, setup, teardown),
        VGPU_TEST_F(test_directory_is_a_link, setup, teardown),
        VGPU_TEST_F(test_sweep_old, setup, teardown),
        VGPU_TEST_F(test_sweep_strangers, setup, teardown),
        VGPU_TEST_F(test_remove_after_replacement, setup, teardown),
        VGPU_TEST_F(test_race, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
