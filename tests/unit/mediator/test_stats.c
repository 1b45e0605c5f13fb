/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the mediator counts, whatever a worker says (docs/metrics.md, docs/worker.md W9). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/lease.h"
#include "mediator/stats_json.h"
#include "vgpu_test.h"

#define MS 1000000ull

static void test_histogram_buckets(void **state)
{
    (void)state;
    assert_int_equal(vgpu_histogram_bucket(0), 0);
    assert_int_equal(vgpu_histogram_bucket(UINT64_MAX), VGPU_HISTOGRAM_BUCKETS - 1);
    for (unsigned i = 0; i < VGPU_HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t limit = vgpu_histogram_limit_ns(i);
        assert_int_equal(vgpu_histogram_bucket(limit), i);
        assert_int_equal(vgpu_histogram_bucket(limit + 1), i + 1);
    }
    assert_true(vgpu_histogram_limit_ns(VGPU_HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
    struct vgpu_histogram h = {0};
    vgpu_histogram_add(&h, 300);
    vgpu_histogram_add(&h, 256);
    assert_int_equal(h.sum_ns, 556);
    assert_int_equal(h.counts[0], 1);
    assert_int_equal(h.counts[1], 1);
}

/* What a worker counted is there once, however often it is looked at and whenever it ends. */
static void test_take_adds_what_is_new(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(4);
    struct vgpu_stats_vm *vm = vgpu_stats_join(s, 7);
    struct vgpu_stats_seen first = {0}, second = {0};
    struct vgpu_usage a = {.calls = 5, .launches = 2, .bytes_to_device = 100, .sampled_ns = 9},
                      b = {.calls = 1};
    a.call_time[3] = 4;
    a.errors[0] = (struct vgpu_usage_error){.status = 1, .count = 2};
    vgpu_stats_take(s, vm, 0, &first, &a, 0);
    vgpu_stats_take(s, vm, 0, &first, &a, 0);
    vgpu_stats_take(s, vm, 0, &second, &b, 0);
    assert_int_equal(vm->calls, 6);
    a.calls = 8;
    a.errors[0].count = 3;
    a.errors[1] = (struct vgpu_usage_error){.status = 700, .count = 1};
    vgpu_stats_take(s, vm, 0, &first, &a, 0);
    assert_int_equal(vm->calls, 9);
    assert_int_equal(vm->launches, 2);
    assert_int_equal(vm->bytes_to_device, 100);
    assert_int_equal(vm->call.counts[3], 4);
    assert_int_equal(vm->call.sum_ns, 9);
    assert_int_equal(vm->error_count, 2);
    assert_int_equal(vm->errors[0].count, 3);
    assert_int_equal(vm->errors[1].status, 700);
    vgpu_stats_destroy(s);
}

static uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* All that counts of a record, in a row. */
static unsigned counters(const struct vgpu_stats_vm *vm, uint64_t out[128])
{
    unsigned n = 0;
    const uint64_t some[] = {vm->records, vm->calls,           vm->launches,
                             vm->posts,   vm->bytes_to_device, vm->bytes_from_device,
                             vm->busy_ns, vm->call.sum_ns,     vm->errors_other};
    for (unsigned i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        out[n++] = some[i];
    for (unsigned i = 0; i < VGPU_HISTOGRAM_BUCKETS; i++)
        out[n++] = vm->call.counts[i];
    for (unsigned i = 0; i < VGPU_USAGE_ERRORS; i++)
        out[n++] = vm->errors[i].count;
    return n;
}

/* A worker writes rubbish: nothing goes back, nothing overflows, and no other VM's record moves. */
static void test_rubbish(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(4);
    struct vgpu_stats_vm *bad = vgpu_stats_join(s, 1), *good = vgpu_stats_join(s, 2), was = *good;
    struct vgpu_stats_seen seen = {0};
    struct vgpu_usage usage;
    uint64_t seed = 88172645463325252ull, before[128] = {0}, after[128];
    for (unsigned round = 0; round < 20000; round++) {
        uint64_t *words = (uint64_t *)(void *)&usage;
        for (unsigned i = 0; i < sizeof(usage) / 8; i++)
            words[i] = draw(&seed) >> (draw(&seed) & 63);
        if (round % 100 == 0)
            memset(&usage, round % 200 ? 0xff : 0, sizeof(usage));
        if (round % 50 == 0) /* the next worker */
            memset(&seen, 0, sizeof(seen));
        vgpu_stats_take(s, bad, 0, &seen, &usage, round * MS);
        unsigned n = counters(bad, after);
        for (unsigned i = 0; i < n; i++) {
            assert_true(after[i] >= before[i]);
            assert_true(after[i] <= VGPU_STATS_MAX);
        }
        memcpy(before, after, sizeof(before));
    }
    assert_true(bad->calls > UINT32_MAX);
    assert_int_equal(bad->busy_ns, 0); /* it had no lease */
    assert_int_equal(s->gpus[0].busy_ns, 0);
    assert_true(bad->error_count <= VGPU_USAGE_ERRORS);
    assert_memory_equal(good, &was, sizeof(was));
    char *json = vgpu_stats_json(s, &(struct vgpu_stats_now){.version = "x"}, 0);
    assert_non_null(json);
    free(json);
    vgpu_stats_destroy(s);
}

/* Numbers that are no CUresult, and more different ones than there is room for, are "other". */
static void test_errors_are_bounded(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(1);
    struct vgpu_stats_vm *vm = vgpu_stats_join(s, 1);
    struct vgpu_usage usage = {0};
    for (unsigned i = 0; i < VGPU_USAGE_ERRORS; i++)
        usage.errors[i] = (struct vgpu_usage_error){.status = 5000 + i, .count = 1};
    vgpu_stats_take(s, vm, 0, &(struct vgpu_stats_seen){0}, &usage, 0);
    assert_int_equal(vm->error_count, 0);
    assert_int_equal(vm->errors_other, VGPU_USAGE_ERRORS);
    static const uint32_t known[] = {1,   2,   3,   4,   5,   6,   7,   8,   100, 101,
                                     200, 201, 202, 205, 206, 207, 208, 209, 210, 211,
                                     212, 214, 215, 216, 217, 218, 219, 220};
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        usage = (struct vgpu_usage){.errors[0] = {.status = known[i], .count = 1}};
        vgpu_stats_take(s, vm, 0, &(struct vgpu_stats_seen){0}, &usage, 0);
    }
    assert_int_equal(vm->error_count, VGPU_USAGE_ERRORS);
    assert_int_equal(vm->errors_other,
                     VGPU_USAGE_ERRORS + sizeof(known) / sizeof(known[0]) - VGPU_USAGE_ERRORS);
    vgpu_stats_destroy(s);
}

/* Busy time is a worker's word, and no more of it is believed than it had leases. */
static void test_busy_within_leases(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(4);
    struct vgpu_stats_vm *a = vgpu_stats_join(s, 1), *b = vgpu_stats_join(s, 2);
    struct vgpu_stats_seen seen = {0}, other = {0};
    struct vgpu_usage usage = {.busy_ns = 900 * MS};
    vgpu_stats_granted(s, a, 3, 0, 100 * MS);
    vgpu_stats_take(s, a, 3, &seen, &usage, 150 * MS);
    assert_int_equal(a->busy_ns, 50 * MS);
    vgpu_stats_returned(s, a, 3, 100 * MS, 200 * MS);
    vgpu_stats_take(s, a, 3, &seen, &usage, 1000 * MS);
    assert_int_equal(a->busy_ns, 100 * MS);
    assert_int_equal(s->gpus[3].busy_ns, 100 * MS);
    /* An honest one: busy half of its time, and still. */
    vgpu_stats_granted(s, b, 3, 0, 1000 * MS);
    usage = (struct vgpu_usage){.busy_ns = 40 * MS, .busy_since_ns = 1090 * MS};
    vgpu_stats_take(s, b, 3, &other, &usage, 1100 * MS);
    assert_int_equal(b->busy_ns, 50 * MS);
    /* A time that is yet to come is none. */
    usage.busy_since_ns = UINT64_MAX;
    vgpu_stats_take(s, b, 3, &other, &usage, 1200 * MS);
    assert_int_equal(b->busy_ns, 50 * MS);
    assert_int_equal(s->gpus[3].busy_ns, 150 * MS);
    vgpu_stats_destroy(s);
}

/* A record outlives its tenant; when there is no room, who left first is forgotten. */
static void test_records(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(3);
    struct vgpu_stats_vm *vm = vgpu_stats_join(s, 7);
    vm->calls = 42;
    vgpu_stats_leave(vm, 10);
    assert_ptr_equal(vgpu_stats_join(s, 7), vm);
    assert_ptr_equal(vgpu_stats_join(s, 7), vm); /* a second client of the user */
    vgpu_stats_leave(vm, 20);
    struct vgpu_stats_vm *b = vgpu_stats_join(s, 8), *c = vgpu_stats_join(s, 9);
    assert_int_equal(c->index, 2);
    assert_ptr_equal(vgpu_stats_join(s, 10), &s->nobody); /* all three are here */
    vgpu_stats_leave(b, 30);
    vgpu_stats_leave(vm, 40);
    struct vgpu_stats_vm *d = vgpu_stats_join(s, 11);
    assert_int_equal(d->index, 1);
    assert_int_equal(d->key, 11);
    assert_int_equal(d->calls, 0);
    assert_int_equal(s->forgotten, 1);
    assert_int_equal(vgpu_stats_join(s, 7)->calls, 42);
    vgpu_stats_destroy(s);
}

/* ---- With the lease layer ---- */

static void on_lease(struct vgpu_lease_member *member, uint64_t lease)
{
    (void)member;
    (void)lease;
}

static void on_recall(struct vgpu_lease_member *member, uint64_t lease, uint32_t grace_us,
                      uint32_t linger_us)
{
    (void)member;
    (void)lease;
    (void)grace_us;
    (void)linger_us;
}

static void on_kill(struct vgpu_lease_member *member)
{
    (void)member;
}

/* Lease time, waits and leases are counted by the mediator's clock, for the VM and for the GPU, and
 * stay when the tenant is gone. */
static void test_leases_are_counted(void **state)
{
    (void)state;
    static const struct vgpu_lease_ops ops = {on_lease, on_recall, on_kill};
    static const struct vgpu_sched_config config = {.tenants = 2,
                                                    .gpus = 2,
                                                    .slots = 1,
                                                    .quantum_ns = 20 * MS,
                                                    .watchdog_ns = 100 * MS,
                                                    .aging_ns = 10000 * MS,
                                                    .factor = {1, 4, 16}};
    static const struct vgpu_sched_tenant what = {.gpu = 1, .priority = 1, .weight = 100};
    struct vgpu_stats *s = vgpu_stats_create(4);
    struct vgpu_leases *l = vgpu_leases_create(&config, &ops);
    struct vgpu_stats_vm *vm[2] = {vgpu_stats_join(s, 1), vgpu_stats_join(s, 2)};
    struct vgpu_lease_tenant t[2];
    struct vgpu_lease_member m[2];
    vgpu_leases_count(l, s);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(vgpu_lease_tenant_add(l, &t[i], i, &what, vm[i], 0), 0);
        vgpu_lease_member_add(&t[i], &m[i]);
    }
    vgpu_lease_member_want(l, &m[0], 10 * MS);
    vgpu_leases_run(l, 10 * MS);
    vgpu_lease_member_want(l, &m[1], 15 * MS);
    vgpu_leases_run(l, 15 * MS);
    assert_int_equal(vgpu_stats_meter_ns(&vm[0]->lease, 20 * MS), 10 * MS);
    assert_int_equal(vm[0]->recalls, 1);
    /* A new account of the tenant's does not touch the record. */
    vgpu_lease_tenant_restart(&t[0], 25 * MS);
    vgpu_lease_member_return(l, &m[0], m[0].lease, 30 * MS);
    vgpu_leases_run(l, 30 * MS);
    assert_int_equal(vgpu_stats_meter_ns(&vm[0]->lease, 99 * MS), 20 * MS);
    assert_int_equal(vm[1]->lease.leases, 1);
    assert_int_equal(vm[1]->wait.sum_ns, 15 * MS);
    assert_int_equal(vm[1]->wait.counts[vgpu_histogram_bucket(15 * MS)], 1);
    /* Its worker dies, and the tenant goes. */
    vgpu_lease_member_remove(l, &m[1], 70 * MS);
    vgpu_lease_tenant_remove(l, &t[1], 70 * MS);
    assert_int_equal(vgpu_stats_meter_ns(&vm[1]->lease, 500 * MS), 40 * MS);
    const struct vgpu_stats_gpu *gpu = &s->gpus[1];
    assert_int_equal(gpu->lease.leases, 2);
    assert_int_equal(vgpu_stats_meter_ns(&gpu->lease, 500 * MS), 60 * MS);
    assert_int_equal(vgpu_stats_leased_ns(gpu, 500 * MS), 60 * MS);
    assert_int_equal(s->gpus[0].lease.leases, 0);
    vgpu_lease_member_remove(l, &m[0], 80 * MS);
    vgpu_lease_tenant_remove(l, &t[0], 80 * MS);
    vgpu_leases_destroy(l);
    vgpu_stats_destroy(s);
}

/* Two leases of a GPU at a time: their times add up, the GPU was leased once. */
static void test_meter_of_two(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(1);
    struct vgpu_stats_gpu *gpu = &s->gpus[0];
    vgpu_stats_granted(s, NULL, 0, 0, 10);
    vgpu_stats_granted(s, NULL, 0, 0, 20);
    assert_int_equal(vgpu_stats_meter_ns(&gpu->lease, 30), 30);
    assert_int_equal(vgpu_stats_leased_ns(gpu, 30), 20);
    vgpu_stats_returned(s, NULL, 0, 10, 40);
    assert_int_equal(vgpu_stats_meter_ns(&gpu->lease, 50), 60);
    vgpu_stats_returned(s, NULL, 0, 20, 50);
    vgpu_stats_granted(s, NULL, 0, 0, 100);
    assert_int_equal(vgpu_stats_meter_ns(&gpu->lease, 101), 61);
    assert_int_equal(vgpu_stats_leased_ns(gpu, 101), 41);
    vgpu_stats_granted(s, NULL, VGPU_STATS_GPUS, 0, 0); /* no such GPU: nothing happens */
    vgpu_stats_destroy(s);
}

/* ---- JSON ---- */

static void test_json(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(2);
    struct vgpu_stats_vm *vm = vgpu_stats_join(s, 7);
    vm->number = 7;
    vm->pool = 'B';
    vm->priority = 2;
    vm->calls = 12;
    vm->error_count = 1;
    vm->errors[0] = (struct vgpu_stats_error){.status = 2, .count = 3};
    vgpu_histogram_add(&vm->wait, 300);
    struct vgpu_stats_now now = {.version = "1\"2",
                                 .gpu_count = 1,
                                 .gpus[0] = {.backend = "software", .name = "software:0"}};
    now.vms_now[0].memory_used = 4096;
    char *json = vgpu_stats_json(s, &now, 0);
    assert_non_null(json);
    static const char *const parts[] = {
        "{\"vms\":[{\"vm\":7,\"pool\":\"B\",\"gpu\":0,\"priority\":\"high\",",
        ",\"memory_used\":4096,",
        ",\"calls\":12,",
        ",\"errors\":{\"other\":0,\"CUDA_ERROR_OUT_OF_MEMORY\":3}",
        ",\"wait\":{\"sum_ns\":300,\"counts\":[0,1]}",
        ",\"call\":{\"sum_ns\":0,\"counts\":[]}}]",
        ",\"gpus\":[{\"gpu\":0,\"name\":\"software:0\",\"backend\":\"software\",\"pool\":\"\"",
        ",\"version\":\"1\\\"2\"",
        ",\"next\":null}",
    };
    const char *at = json;
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        at = strstr(at, parts[i]);
        if (!at)
            fail_msg("%s is not in %s", parts[i], json);
        at++;
    }
    free(json);
    vgpu_stats_destroy(s);
}

/* Pages: every record once, GPUs and mediator behind the last. */
static void test_json_pages(void **state)
{
    (void)state;
    struct vgpu_stats *s = vgpu_stats_create(2 * VGPU_STATS_PAGE + 1);
    struct vgpu_stats_now now = {.version = "x"};
    for (uint32_t i = 0; i < 2 * VGPU_STATS_PAGE + 1; i++)
        vgpu_stats_join(s, i)->number = i;
    for (uint32_t page = 0; page < 3; page++) {
        char *json = vgpu_stats_json(s, &now, page * VGPU_STATS_PAGE), text[32];
        assert_non_null(json);
        unsigned vms = 0;
        for (const char *at = json; (at = strstr(at, "\"vm\":")); at++)
            vms++;
        assert_int_equal(vms, page < 2 ? VGPU_STATS_PAGE : 1);
        snprintf(text, sizeof(text), "\"next\":%u}", (page + 1) * VGPU_STATS_PAGE);
        assert_int_equal(strstr(json, text) != NULL, page < 2);
        assert_int_equal(strstr(json, "\"mediator\"") != NULL, page == 2);
        free(json);
    }
    char *json = vgpu_stats_json(s, &now, UINT32_MAX); /* behind the end */
    assert_non_null(strstr(json, "{\"vms\":[],"));
    free(json);
    vgpu_stats_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_histogram_buckets),
        VGPU_TEST(test_take_adds_what_is_new),
        VGPU_TEST(test_rubbish),
        VGPU_TEST(test_errors_are_bounded),
        VGPU_TEST(test_busy_within_leases),
        VGPU_TEST(test_records),
        VGPU_TEST(test_leases_are_counted),
        VGPU_TEST(test_meter_of_two),
        VGPU_TEST(test_json),
        VGPU_TEST(test_json_pages),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
