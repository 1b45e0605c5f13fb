/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lease of a tenant among its workers (docs/worker.md W4, W5), with the scheduler. */
#include <errno.h>
#include <string.h>

#include "mediator/lease.h"
#include "vgpu_test.h"

#define MS 1000000ull

static const struct vgpu_sched_config config = {.tenants = 4,
                                                .gpus = 1,
                                                .slots = 1,
                                                .quantum_ns = 20 * MS,
                                                .watchdog_ns = 100 * MS,
                                                .aging_ns = 10000 * MS,
                                                .factor = {1, 4, 16}};
static const struct vgpu_sched_tenant equal = {.priority = 1, .weight = 100};

struct rig {
    struct vgpu_leases *leases;
    struct vgpu_lease_tenant tenants[2];
    struct vgpu_lease_member a1, a2, b;
};

static struct {
    struct vgpu_lease_member *member;
    uint64_t lease;
    uint32_t grace_us;
    char what;
} said[32];
static unsigned said_count;

static void note(struct vgpu_lease_member *member, char what, uint64_t lease, uint32_t grace_us)
{
    assert_true(said_count < 32);
    said[said_count].member = member;
    said[said_count].what = what;
    said[said_count].lease = lease;
    said[said_count++].grace_us = grace_us;
}

static void on_grant(struct vgpu_lease_member *member, uint64_t lease)
{
    note(member, 'g', lease, 0);
}

static void on_recall(struct vgpu_lease_member *member, uint64_t lease, uint32_t grace_us,
                      uint32_t linger_us)
{
    note(member, 'r', lease, grace_us);
}

static void on_kill(struct vgpu_lease_member *member)
{
    note(member, 'k', member->lease, 0);
}

static const struct vgpu_lease_ops ops = {.grant = on_grant, .recall = on_recall, .kill = on_kill};

static void setup(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    said_count = 0;
    r->leases = vgpu_leases_create(&config, &ops);
    assert_non_null(r->leases);
    assert_int_equal(vgpu_lease_tenant_add(r->leases, &r->tenants[0], 0, &equal, NULL, 0), 0);
    assert_int_equal(vgpu_lease_tenant_add(r->leases, &r->tenants[1], 1, &equal, NULL, 0), 0);
    assert_true(vgpu_lease_tenant_add(r->leases, &r->tenants[1], 1, &equal, NULL, 0) < 0);
    vgpu_lease_member_add(&r->tenants[0], &r->a1);
    vgpu_lease_member_add(&r->tenants[0], &r->a2);
    vgpu_lease_member_add(&r->tenants[1], &r->b);
}

static void expect(unsigned i, struct vgpu_lease_member *member, char what, uint64_t lease)
{
    assert_true(i < said_count);
    assert_ptr_equal(said[i].member, member);
    assert_int_equal(said[i].what, what);
    assert_int_equal(said[i].lease, lease);
}

/* A second worker of the holder is let in at once; the lease is back when both have returned. */
static void test_shared(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 0), 0);
    vgpu_leases_run(r.leases, 0);
    assert_int_equal(said_count, 1);
    expect(0, &r.a1, 'g', 1);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a2, 1 * MS), 0);
    assert_int_equal(said_count, 2);
    expect(1, &r.a2, 'g', 1);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.b, 2 * MS), 0);
    vgpu_leases_run(r.leases, 2 * MS);
    assert_int_equal(said_count, 4);
    expect(2, &r.a1, 'r', 1);
    expect(3, &r.a2, 'r', 1);
    assert_int_equal(said[2].grace_us, 18000);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 1, 3 * MS), 0);
    vgpu_leases_run(r.leases, 3 * MS);
    assert_int_equal(said_count, 4);
    /* It wants again while the other still holds: that is for its next lease. */
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 3 * MS), 0);
    vgpu_leases_run(r.leases, 3 * MS);
    assert_int_equal(said_count, 4);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a2, 1, 4 * MS), 0);
    vgpu_leases_run(r.leases, 4 * MS);
    expect(4, &r.b, 'g', 2);
    expect(5, &r.b, 'r', 2); /* for a1 */
    assert_true(vgpu_lease_tenant_total_ns(&r.tenants[0], 9 * MS) == 4 * MS);
    assert_true(vgpu_lease_tenant_total_ns(&r.tenants[1], 9 * MS) == 5 * MS);
    vgpu_leases_destroy(r.leases);
}

/* W4: one WANT until the GRANT, none under a lease that is not recalled; RETURN names the lease. */
static void test_rules(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 0, 0), -EPROTO);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 1, 0), -EPROTO);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 0), 0);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 0), -EPROTO);
    vgpu_leases_run(r.leases, 0);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 0), -EPROTO);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 2, 0), -EPROTO);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a2, 1, 0), -EPROTO);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.b, 0), 0);
    vgpu_leases_run(r.leases, 0); /* recalled: now it may ask for the next one */
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 0), 0);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 1, 0), 0);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 1, 0), -EPROTO);
    vgpu_leases_destroy(r.leases);
}

/* A lease may come back without a recall, and be granted again under another number. */
static void test_voluntary(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 0), 0);
    vgpu_leases_run(r.leases, 0);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a1, 1, 1 * MS), 0);
    assert_int_equal(vgpu_lease_member_want(r.leases, &r.a1, 2 * MS), 0);
    vgpu_leases_run(r.leases, 2 * MS);
    expect(1, &r.a1, 'g', 2);
    assert_true(vgpu_lease_tenant_total_ns(&r.tenants[0], 2 * MS) == 1 * MS);
    vgpu_leases_destroy(r.leases);
}

/* W5: no return in time: those that hold are killed; the lease is free when they are gone. */
static void test_watchdog(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    vgpu_lease_member_want(r.leases, &r.a1, 0);
    vgpu_lease_member_want(r.leases, &r.a2, 0);
    vgpu_leases_run(r.leases, 0);
    vgpu_lease_member_want(r.leases, &r.b, 0);
    vgpu_leases_run(r.leases, 0);
    assert_int_equal(vgpu_lease_member_return(r.leases, &r.a2, 1, 10 * MS), 0);
    uint64_t deadline = vgpu_leases_deadline(r.leases, 10 * MS);
    assert_true(deadline == 120 * MS);
    said_count = 0;
    vgpu_leases_run(r.leases, deadline - 1);
    assert_int_equal(said_count, 0);
    vgpu_leases_run(r.leases, deadline);
    assert_int_equal(said_count, 1);
    expect(0, &r.a1, 'k', 1); /* a2 had returned and lives */
    vgpu_leases_run(r.leases, deadline + MS);
    assert_int_equal(said_count, 1);
    vgpu_lease_member_remove(r.leases, &r.a1, deadline + 2 * MS);
    vgpu_leases_run(r.leases, deadline + 2 * MS);
    expect(1, &r.b, 'g', 2);
    vgpu_leases_destroy(r.leases);
}

/* Who died while waiting is not waited for; a grant that finds nobody goes on to the next. */
static void test_gone_while_waiting(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    vgpu_lease_member_want(r.leases, &r.a1, 0);
    vgpu_leases_run(r.leases, 0);
    vgpu_lease_member_want(r.leases, &r.b, 0);
    r.b.wants = false; /* as vgpu_worker_kill does */
    vgpu_leases_run(r.leases, 0);
    vgpu_lease_member_return(r.leases, &r.a1, 1, MS);
    said_count = 0;
    vgpu_lease_member_want(r.leases, &r.a1, MS);
    vgpu_leases_run(r.leases, MS);
    assert_int_equal(said_count, 1);
    expect(0, &r.a1, 'g', 3); /* 2 went to b, which had nobody left */
    vgpu_lease_member_remove(r.leases, &r.b, MS);
    vgpu_leases_run(r.leases, 2 * MS);
    assert_int_equal(said_count, 1);
    vgpu_leases_destroy(r.leases);
}

/* A worker whose session ended holds until it is gone, and wants nothing. */
static void test_end(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    vgpu_lease_member_want(r.leases, &r.a1, 0);
    vgpu_leases_run(r.leases, 0);
    vgpu_lease_member_want(r.leases, &r.b, 0);
    vgpu_lease_member_end(r.leases, &r.b, 0);
    vgpu_lease_member_end(r.leases, &r.a1, 0);
    vgpu_leases_run(r.leases, 0);
    assert_int_equal(said_count, 1); /* nobody waits: nothing is recalled */
    vgpu_lease_member_remove(r.leases, &r.a1, 5 * MS);
    vgpu_lease_member_remove(r.leases, &r.a2, 5 * MS);
    vgpu_lease_tenant_remove(r.leases, &r.tenants[0], 5 * MS);
    vgpu_leases_run(r.leases, 5 * MS);
    assert_int_equal(said_count, 1);
    assert_true(r.tenants[0].total_ns == 5 * MS);
    vgpu_leases_destroy(r.leases);
}

/* A new account starts at 0 under a lease that runs on. */
static void test_account(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    vgpu_lease_member_want(r.leases, &r.a1, 0);
    vgpu_leases_run(r.leases, 0);
    vgpu_lease_tenant_restart(&r.tenants[0], 7 * MS);
    assert_true(vgpu_lease_tenant_total_ns(&r.tenants[0], 9 * MS) == 2 * MS);
    vgpu_leases_destroy(r.leases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_shared),
        VGPU_TEST(test_rules),
        VGPU_TEST(test_voluntary),
        VGPU_TEST(test_watchdog),
        VGPU_TEST(test_gone_while_waiting),
        VGPU_TEST(test_end),
        VGPU_TEST(test_account),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
