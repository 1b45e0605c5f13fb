/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registry's thread (writer.h): order, bounds, the end. Under TSan, too. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "registry/writer.h"
#include "vgpu_test.h"

#define JOBS 400u

static char path[128], why[VGPU_REGISTRY_WHY];
static struct vgpu_registry_state state;

static struct vgpu_registry *open_registry(void)
{
    int rc;
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%.90s/writer-%d.db", folder ? folder : "/tmp", (int)getpid());
    struct vgpu_registry *r = vgpu_registry_open(path, 0, &state, &rc, why);
    if (!r)
        fail_msg("%s", why);
    return r;
}

static void close_registry(struct vgpu_registry *r)
{
    vgpu_registry_close(r);
    vgpu_registry_state_free(&state);
    unlink(path);
}

static struct vgpu_writer_job *make_job(uint32_t vm)
{
    struct vgpu_writer_job *job = calloc(1, sizeof(*job));
    struct vgpu_registry_vm row;
    assert_non_null(job);
    vgpu_registry_vm_init(&row, vm);
    row.registered = true;
    assert_int_equal(vgpu_registry_txn_vm(&job->txn, &row), 0);
    return job;
}

static void free_job(struct vgpu_writer_job *job)
{
    vgpu_registry_txn_free(&job->txn);
    free(job->lines);
    free(job);
}

static unsigned left;

static void count_left(struct vgpu_writer_job *job)
{
    assert_int_equal(job->rc, 0);
    left++;
    free_job(job);
}

static void wait_readable(const struct vgpu_writer *w)
{
    struct pollfd p = {.fd = vgpu_writer_fd(w), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
}

/* All are done, in order; the eventfd is readable exactly as long as something is to be had. */
static void test_order(void **s)
{
    struct vgpu_registry *r = open_registry();
    struct vgpu_writer *w = vgpu_writer_start(r);
    uint32_t submitted = 0, done = 0;
    (void)s;
    assert_non_null(w);
    while (done < JOBS) {
        while (submitted < JOBS) {
            struct vgpu_writer_job *job = make_job(submitted);
            int rc = vgpu_writer_submit(w, job);
            if (rc) {
                assert_int_equal(rc, -EAGAIN); /* bounded */
                free_job(job);
                break;
            }
            submitted++;
        }
        wait_readable(w);
        for (struct vgpu_writer_job *job; (job = vgpu_writer_done(w)); done++) {
            assert_int_equal(job->rc, 0);
            assert_int_equal(job->txn.vms[0].row.vm, done);
            free_job(job);
        }
    }
    struct pollfd p = {.fd = vgpu_writer_fd(w), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    vgpu_writer_stop(w, count_left);
    assert_int_equal(left, 0);
    close_registry(r);
}

/* What was submitted before the end is done, and nothing of it is lost. */
static void test_end(void **s)
{
    struct vgpu_registry *r = open_registry();
    struct vgpu_writer *w = vgpu_writer_start(r);
    uint32_t submitted = 0;
    (void)s;
    left = 0;
    while (submitted < 50) {
        struct vgpu_writer_job *job = make_job(submitted);
        assert_int_equal(vgpu_writer_submit(w, job), 0);
        submitted++;
    }
    struct vgpu_writer_job *audit = calloc(1, sizeof(*audit));
    audit->kind = VGPU_WRITER_AUDIT;
    audit->before = INT64_MAX;
    audit->limit = 5;
    assert_int_equal(vgpu_writer_submit(w, audit), 0);
    vgpu_writer_stop(w, count_left);
    assert_int_equal(left, 51);
    vgpu_registry_close(r);
    vgpu_registry_state_free(&state);
    r = open_registry();
    assert_int_equal(state.vm_count, 50);
    close_registry(r);
    vgpu_writer_stop(NULL, count_left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_order), VGPU_TEST(test_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
