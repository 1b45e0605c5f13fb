/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler against tenants that would win something by how they come, go, and are changed:
 * docs/scheduling.md, S2 to S11. Whole workloads of that kind are in tests/sim.
 */
#include <errno.h>
#include <stdlib.h>

#include "mediator/sched/sched.h"
#include "vgpu_test.h"

#define MS 1000000ull
#define US 1000ull

static struct vgpu_sched *make(enum vgpu_sched_mode mode, uint32_t slots, uint32_t factor)
{
    const struct vgpu_sched_config c = {.tenants = 8,
                                        .gpus = 2,
                                        .mode = mode,
                                        .slots = slots,
                                        .quantum_ns = 5 * MS,
                                        .watchdog_ns = 10000 * MS,
                                        .aging_ns = 2000 * MS,
                                        .linger_ns = 50 * US,
                                        .factor = {1, 4, factor}};
    struct vgpu_sched *s = vgpu_sched_create(&c);
    assert_non_null(s);
    return s;
}

static void add(struct vgpu_sched *s, uint32_t number, uint32_t priority, uint32_t weight,
                uint64_t now)
{
    struct vgpu_sched_tenant t = {.priority = priority, .weight = weight};
    assert_int_equal(vgpu_sched_tenant_add(s, number, &t, now), 0);
}

/* Everything that is decided now; the last one granted, or UINT32_MAX. */
static uint32_t decide(struct vgpu_sched *s, uint64_t now)
{
    struct vgpu_sched_decision d;
    uint32_t granted = UINT32_MAX;
    while (vgpu_sched_next(s, now, &d))
        if (d.action == VGPU_SCHED_GRANT)
            granted = d.tenant;
    return granted;
}

static struct vgpu_sched_view look(struct vgpu_sched *s, uint32_t number, uint64_t now)
{
    struct vgpu_sched_view v;
    vgpu_sched_look(s, number, now, &v);
    return v;
}

/* S5: a large weight's time counts to the last ns, however often somebody makes it be counted. */
static void test_charges_are_exact(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, VGPU_SCHED_FACTOR_MAX);
    add(s, 0, 2, VGPU_SCHED_WEIGHT_MAX, 0);
    add(s, 1, 2, VGPU_SCHED_WEIGHT_MAX, 0);
    uint64_t now = 0;
    vgpu_sched_want(s, 0, now);
    assert_int_equal(decide(s, now), 0);
    vgpu_sched_want(s, 1, now);
    for (unsigned i = 0; i < 20000; i++) {
        now += 100; /* less than a unit of its virtual time, which is 153 ns */
        (void)look(s, 0, now);
    }
    struct vgpu_sched_view v = look(s, 1, now);
    assert_in_range(v.lag_ns, (int64_t)now / 2 - 1000, (int64_t)now / 2 + 1000);
    vgpu_sched_destroy(s);
}

/* S10: what somebody had too much of is not forgotten, and does not grow, with his weight. */
static void test_a_debt_is_lease_time(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 16);
    add(s, 0, 1, 100, 0);
    add(s, 1, 1, 100, 0);
    vgpu_sched_want(s, 0, 0);
    assert_int_equal(decide(s, 0), 0);
    vgpu_sched_want(s, 1, 0);
    vgpu_sched_want(s, 0, 0);
    vgpu_sched_returned(s, 0, 1000 * MS); /* a kernel of a second */
    assert_in_range(-look(s, 0, 1000 * MS).lag_ns, 499 * MS, 501 * MS);
    struct vgpu_sched_tenant t = {.priority = 1, .weight = 10000};
    assert_int_equal(vgpu_sched_tenant_change(s, 0, &t, 1000 * MS), 0);
    int64_t debt = -look(s, 0, 1000 * MS).lag_ns;
    /* A hundredth of the weight in the class is the other's now: it lacks that much less. */
    assert_in_range(debt, 4 * MS, 501 * MS);
    assert_int_equal(decide(s, 1000 * MS), 1);
    vgpu_sched_destroy(s);
}

/* S6, S11: who waits has waited, whatever is changed meanwhile. */
static void test_a_change_does_not_make_younger(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_STRICT, 1, 16);
    add(s, 0, 2, 100, 0);
    add(s, 1, 0, 100, 0);
    vgpu_sched_want(s, 0, 0);
    assert_int_equal(decide(s, 0), 0);
    vgpu_sched_want(s, 1, 0);
    (void)decide(s, 0);
    struct vgpu_sched_tenant t = {.priority = 0, .weight = 200};
    for (uint64_t now = 100 * MS; now < 2000 * MS; now += 100 * MS) {
        assert_int_equal(vgpu_sched_tenant_change(s, 1, &t, now), 0);
        assert_true(look(s, 1, now).since_ns == 0);
    }
    vgpu_sched_want(s, 0, 2000 * MS);
    vgpu_sched_returned(s, 0, 2000 * MS);
    assert_int_equal(decide(s, 2000 * MS), 1);
    vgpu_sched_destroy(s);
}

/* S10, S8: who leaves with a debt comes back with it, and with a rate that is used up. */
static void test_coming_back_is_no_way_out(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 16);
    uint64_t now = 0;
    add(s, 1, 1, 100, 0);
    uint64_t used[2] = {0};
    struct vgpu_sched_debt debt = {.known = false};
    vgpu_sched_want(s, 1, now);
    while (now < 60000 * MS) {
        /* A kernel of 300 ms each time, and then it is another connection. */
        struct vgpu_sched_tenant t = {.priority = 1, .weight = 100};
        if (!look(s, 0, now).present) {
            assert_int_equal(vgpu_sched_tenant_add(s, 0, &t, now), 0);
            vgpu_sched_owe(s, 0, &debt, now);
            vgpu_sched_want(s, 0, now);
        }
        uint32_t holder = decide(s, now);
        assert_true(holder < 2);
        uint64_t length = holder ? 5 * MS : 300 * MS;
        now += length;
        used[holder] += length;
        vgpu_sched_returned(s, holder, now);
        if (holder) {
            vgpu_sched_want(s, holder, now);
        } else {
            vgpu_sched_debt(s, 0, now, &debt);
            vgpu_sched_tenant_remove(s, 0, now);
        }
    }
    assert_in_range(used[0] * 100 / (used[0] + used[1]), 45, 53);
    vgpu_sched_destroy(s);

    s = make(VGPU_SCHED_WEIGHTED, 1, 16);
    struct vgpu_sched_tenant limited = {
        .priority = 1, .weight = 100, .rate = 300, .burst_ns = 10 * MS};
    assert_int_equal(vgpu_sched_tenant_add(s, 0, &limited, 0), 0);
    vgpu_sched_want(s, 0, 0);
    assert_int_equal(decide(s, 0), 0);
    vgpu_sched_returned(s, 0, 1000 * MS);
    vgpu_sched_debt(s, 0, 1000 * MS, &debt);
    vgpu_sched_tenant_remove(s, 0, 1000 * MS);
    assert_int_equal(vgpu_sched_tenant_add(s, 0, &limited, 1100 * MS), 0);
    vgpu_sched_owe(s, 0, &debt, 1100 * MS);
    vgpu_sched_want(s, 0, 1100 * MS);
    assert_int_equal(decide(s, 1100 * MS), UINT32_MAX);
    assert_true(look(s, 0, 1100 * MS).throttled);
    /* One second less 10 ms saved, at 30 %: from 3.3 s on. */
    assert_in_range(vgpu_sched_deadline(s, 1100 * MS), 3200 * MS, 3400 * MS);
    vgpu_sched_destroy(s);
}

/* S10: to come, wait, and go again a thousand times does not bring a turn nearer. */
static void test_flapping_wins_nothing(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 16);
    uint64_t now = 0, used[3] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        add(s, i, 1, 100, 0);
        vgpu_sched_want(s, i, now);
    }
    for (unsigned n = 0; n < 3000; n++) {
        for (unsigned k = 0; k < 10; k++) {
            vgpu_sched_unwant(s, 0, now);
            vgpu_sched_want(s, 0, now);
        }
        uint32_t holder = decide(s, now);
        now += 5 * MS;
        used[holder] += 5;
        vgpu_sched_returned(s, holder, now);
        vgpu_sched_want(s, holder, now);
    }
    assert_in_range(used[0] * 100 / (used[0] + used[1] + used[2]), 32, 34);
    vgpu_sched_destroy(s);
}

/* S3, S9: of several holders the lowest has to go. */
static void test_the_lowest_goes(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 2, 16);
    add(s, 0, 1, 100, 0);
    add(s, 1, 0, 100, 0);
    add(s, 2, 2, 100, 0);
    vgpu_sched_want(s, 0, 0);
    vgpu_sched_want(s, 1, 0);
    (void)decide(s, 0);
    vgpu_sched_want(s, 2, MS);
    struct vgpu_sched_decision d;
    assert_true(vgpu_sched_next(s, MS, &d));
    assert_int_equal(d.action, VGPU_SCHED_RECALL);
    assert_int_equal(d.tenant, 1);
    assert_true(d.grace_ns == 0);
    assert_false(vgpu_sched_next(s, MS, &d));
    vgpu_sched_destroy(s);
}

/* S2, S4: no gap is waited out any more once an equal waits, too. */
static void test_no_linger_for_equals(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 16);
    add(s, 0, 1, 100, 0);
    add(s, 1, 0, 100, 0);
    add(s, 2, 1, 100, 0);
    vgpu_sched_want(s, 0, 0);
    (void)decide(s, 0);
    struct vgpu_sched_decision d;
    vgpu_sched_want(s, 1, MS);
    assert_true(vgpu_sched_next(s, MS, &d));
    assert_true(d.action == VGPU_SCHED_RECALL && d.linger_ns == 50 * US && d.grace_ns == 4 * MS);
    vgpu_sched_want(s, 2, 2 * MS);
    assert_true(vgpu_sched_next(s, 2 * MS, &d));
    assert_true(d.action == VGPU_SCHED_RECALL && d.linger_ns == 0 && d.grace_ns == 3 * MS);
    assert_false(vgpu_sched_next(s, 2 * MS, &d));
    vgpu_sched_destroy(s);
}

/* S6: turns for age take a quarter of the time, the others go by share. Each has kernels so long
 * that a round of all takes longer than aging_ns. */
static void test_age_has_a_quarter(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_STRICT, 1, 16);
    uint64_t now = 0, low = 0, longest = 0, since[8] = {0};
    for (uint32_t i = 0; i < 8; i++) {
        add(s, i, i < 4 ? 0 : 2, 100, 0);
        vgpu_sched_want(s, i, 0);
    }
    while (now < 400000 * MS) {
        uint32_t holder = decide(s, now);
        assert_true(holder < 8);
        if (holder < 4) {
            uint64_t waited = now - since[holder];
            longest = waited > longest ? waited : longest;
            low += 100 * MS;
        }
        now += 100 * MS;
        vgpu_sched_returned(s, holder, now);
        since[holder] = now;
        vgpu_sched_want(s, holder, now);
    }
    assert_in_range(low * 100 / now, 15, 26);
    /* aging_ms, and four turns for each of the three that have waited longer, and what runs. */
    assert_true(longest <= 2000 * MS + 4 * 4 * 100 * MS + 100 * MS);
    vgpu_sched_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_charges_are_exact),
        VGPU_TEST(test_a_debt_is_lease_time),
        VGPU_TEST(test_a_change_does_not_make_younger),
        VGPU_TEST(test_coming_back_is_no_way_out),
        VGPU_TEST(test_flapping_wins_nothing),
        VGPU_TEST(test_the_lowest_goes),
        VGPU_TEST(test_no_linger_for_equals),
        VGPU_TEST(test_age_has_a_quarter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
