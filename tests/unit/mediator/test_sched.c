/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler: named cases for each promise of docs/scheduling.md (S1 to S12). What has to hold
 * whatever happens is in test_sched_random.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/sched/place.h"
#include "mediator/sched/sched.h"
#include "vgpu_test.h"

#define MS 1000000ull
#define US 1000ull

static struct vgpu_sched_config config(enum vgpu_sched_mode mode)
{
    return (struct vgpu_sched_config){.tenants = 12,
                                      .gpus = 3,
                                      .mode = mode,
                                      .slots = 1,
                                      .quantum_ns = 20 * MS,
                                      .watchdog_ns = 10000 * MS,
                                      .aging_ns = 2000 * MS,
                                      .linger_ns = 50 * US,
                                      .factor = {1, 4, 16}};
}

static struct vgpu_sched_tenant share(uint32_t priority, uint32_t weight)
{
    return (struct vgpu_sched_tenant){.priority = priority, .weight = weight};
}

static void expect(struct vgpu_sched *s, uint64_t now, enum vgpu_sched_action action,
                   uint32_t tenant, uint64_t grace, uint64_t linger)
{
    struct vgpu_sched_decision d;
    assert_true(vgpu_sched_next(s, now, &d));
    assert_int_equal(d.action, action);
    assert_int_equal(d.tenant, tenant);
    assert_true(d.grace_ns == grace);
    assert_true(d.linger_ns == linger);
}

static void grant(struct vgpu_sched *s, uint64_t now, uint32_t tenant)
{
    expect(s, now, VGPU_SCHED_GRANT, tenant, 0, 0);
}

static void quiet(struct vgpu_sched *s, uint64_t now)
{
    struct vgpu_sched_decision d;
    assert_false(vgpu_sched_next(s, now, &d));
}

/* Three tenants on GPU 0 with these priorities. */
static struct vgpu_sched *make(enum vgpu_sched_mode mode, uint32_t a, uint32_t b, uint32_t c)
{
    struct vgpu_sched_config cfg = config(mode);
    struct vgpu_sched *s = vgpu_sched_create(&cfg);
    const uint32_t priorities[] = {a, b, c};
    assert_non_null(s);
    for (uint32_t i = 0; i < 3; i++) {
        struct vgpu_sched_tenant t = share(priorities[i], 100);
        assert_int_equal(vgpu_sched_tenant_add(s, i, &t, 0), 0);
    }
    return s;
}

/* S1: who holds a lease keeps it while nobody waits; there is nothing to do meanwhile. */
static void test_alone(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    vgpu_sched_want(s, 0, 0);
    grant(s, 0, 0);
    quiet(s, 100000 * MS);
    assert_true(vgpu_sched_deadline(s, 100000 * MS) == UINT64_MAX);
    vgpu_sched_returned(s, 0, 100001 * MS);
    quiet(s, 100001 * MS);
    vgpu_sched_destroy(s);
}

/* S2: an equal waits for the rest of the quantum, which may be over. */
static void test_equal(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    vgpu_sched_want(s, 0, 0);
    grant(s, 0, 0);
    vgpu_sched_want(s, 1, 5 * MS);
    expect(s, 5 * MS, VGPU_SCHED_RECALL, 0, 15 * MS, 0);
    quiet(s, 5 * MS);
    vgpu_sched_want(s, 0, 6 * MS); /* for its next one */
    vgpu_sched_returned(s, 0, 20 * MS);
    grant(s, 20 * MS, 1);
    expect(s, 20 * MS, VGPU_SCHED_RECALL, 1, 20 * MS, 0);
    vgpu_sched_returned(s, 1, 21 * MS); /* idle early */
    grant(s, 21 * MS, 0);
    vgpu_sched_want(s, 1, 100 * MS);
    expect(s, 100 * MS, VGPU_SCHED_RECALL, 0, 0, 0);
    vgpu_sched_destroy(s);
}

/* S3: a higher priority waits only for what runs; S4: towards a lower one the lease outlasts gaps.
 */
static void test_priorities(void **state)
{
    (void)state;
    for (int mode = VGPU_SCHED_WEIGHTED; mode <= VGPU_SCHED_STRICT; mode++) {
        struct vgpu_sched *s = make((enum vgpu_sched_mode)mode, 0, 1, 2);
        vgpu_sched_want(s, 0, 0);
        grant(s, 0, 0);
        vgpu_sched_want(s, 2, MS);
        expect(s, MS, VGPU_SCHED_RECALL, 0, 0, 0);
        vgpu_sched_want(s, 0, MS);
        vgpu_sched_returned(s, 0, 2 * MS);
        grant(s, 2 * MS, 2);
        if (mode == VGPU_SCHED_WEIGHTED)
            expect(s, 2 * MS, VGPU_SCHED_RECALL, 2, 20 * MS, 50 * US);
        else /* until the low one has waited too long */
            expect(s, 2 * MS, VGPU_SCHED_RECALL, 2, 2000 * MS, 50 * US);
        vgpu_sched_destroy(s);
    }
}

/* S5: beyond its share a high priority does not preempt: in weighted mode it is no more than a
 * bigger share. */
static void test_share_bounds_priority(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 0, 1, 2);
    uint64_t low = 0, high = 0, now = 0;
    vgpu_sched_want(s, 0, 0);
    vgpu_sched_want(s, 2, 0);
    for (unsigned n = 0; n < 4000; n++) {
        struct vgpu_sched_decision d;
        uint32_t holder = UINT32_MAX;
        while (vgpu_sched_next(s, now, &d))
            if (d.action == VGPU_SCHED_GRANT)
                holder = d.tenant;
        assert_true(holder == 0 || holder == 2);
        now += 20 * MS;
        *(holder == 0 ? &low : &high) += 20;
        vgpu_sched_returned(s, holder, now);
        vgpu_sched_want(s, holder, now);
    }
    assert_in_range(high * 1000 / (high + low), 931, 951); /* 16 of 17 */
    vgpu_sched_destroy(s);
}

/* S6: in strict mode a low priority runs when it has waited for aging_ns, and then for a quantum.
 */
static void test_aging(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_STRICT, 0, 2, 2);
    uint64_t now = 0, waited = 0, longest = 0, low = 0;
    for (uint32_t i = 0; i < 3; i++)
        vgpu_sched_want(s, i, 0);
    while (now < 60000 * MS) {
        struct vgpu_sched_decision d;
        uint32_t holder = UINT32_MAX;
        uint64_t grace = 20 * MS;
        while (vgpu_sched_next(s, now, &d)) {
            if (d.action == VGPU_SCHED_GRANT)
                holder = d.tenant;
            else
                grace = d.grace_ns;
        }
        if (holder == 0) {
            low++;
            longest = now - waited > longest ? now - waited : longest;
            assert_true(grace == 20 * MS); /* not cut short by the high ones who wait */
        }
        now += grace > 20 * MS ? 20 * MS : grace;
        vgpu_sched_returned(s, holder, now);
        if (holder == 0)
            waited = now;
        vgpu_sched_want(s, holder, now);
    }
    assert_in_range(low, 28, 30);
    assert_true(longest <= 2000 * MS + 20 * MS);
    vgpu_sched_destroy(s);
}

/* S7: the watchdog: from the end of the grace, or since somebody waits again; never for nobody. */
static void test_watchdog(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    vgpu_sched_want(s, 0, 0);
    grant(s, 0, 0);
    vgpu_sched_want(s, 1, 0);
    expect(s, 0, VGPU_SCHED_RECALL, 0, 20 * MS, 0);
    assert_true(vgpu_sched_deadline(s, 0) <= 10020 * MS);
    quiet(s, 10020 * MS - 1);
    vgpu_sched_unwant(s, 1, 10020 * MS - 1);
    quiet(s, 20000 * MS);
    vgpu_sched_want(s, 2, 20000 * MS);
    quiet(s, 30000 * MS - 1);
    assert_true(vgpu_sched_deadline(s, 30000 * MS - 1) == 30000 * MS);
    expect(s, 30000 * MS, VGPU_SCHED_KILL, 0, 0, 0);
    quiet(s, 50000 * MS); /* once */
    vgpu_sched_tenant_remove(s, 0, 50000 * MS);
    grant(s, 50000 * MS, 2);
    vgpu_sched_destroy(s);
}

/* S9: a holder that is a quantum late is not counted on: of two slots the other is asked for, too,
 * and who keeps one for ever is ended although the queue is empty in between. */
static void test_late_holder(void **state)
{
    (void)state;
    struct vgpu_sched_config cfg = config(VGPU_SCHED_WEIGHTED);
    cfg.slots = 2;
    struct vgpu_sched *s = vgpu_sched_create(&cfg);
    assert_non_null(s);
    for (uint32_t i = 0; i < 3; i++) {
        struct vgpu_sched_tenant t = share(1, 100);
        assert_int_equal(vgpu_sched_tenant_add(s, i, &t, 0), 0);
    }
    vgpu_sched_want(s, 0, 0);
    grant(s, 0, 0);
    vgpu_sched_want(s, 1, 0);
    grant(s, 0, 1);
    vgpu_sched_want(s, 2, 1 * MS);
    expect(s, 1 * MS, VGPU_SCHED_RECALL, 0, 19 * MS, 0);
    quiet(s, 40 * MS - 1); /* one waits, one is asked */
    assert_true(vgpu_sched_deadline(s, 40 * MS - 1) == 40 * MS);
    expect(s, 40 * MS, VGPU_SCHED_RECALL, 1, 0, 0);
    vgpu_sched_returned(s, 1, 41 * MS);
    grant(s, 41 * MS, 2); /* and nobody waits */
    uint32_t holder = 2;
    for (uint64_t now = 100 * MS; now < 10000 * MS; now += 100 * MS) {
        uint32_t other = 3 - holder;
        vgpu_sched_want(s, other, now);
        expect(s, now, VGPU_SCHED_RECALL, holder, 0, 0);
        vgpu_sched_returned(s, holder, now + 1 * MS);
        grant(s, now + 1 * MS, other);
        quiet(s, now + 50 * MS);
        holder = other;
    }
    assert_true(vgpu_sched_deadline(s, 10000 * MS) == 10020 * MS);
    expect(s, 10020 * MS, VGPU_SCHED_KILL, 0, 0, 0);
    vgpu_sched_destroy(s);
}

/* S8: a rate is a limit, also when nobody else wants the GPU: over any 5 s, 30 % within a point. */
static void test_rate(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    struct vgpu_sched_tenant t = {.priority = 1, .weight = 100, .rate = 300, .burst_ns = 10 * MS};
    assert_int_equal(vgpu_sched_tenant_change(s, 0, &t, 0), 0);
    uint64_t now = 0, used = 0, second = 0, start = 0;
    bool holds = false, recalled = false;
    vgpu_sched_want(s, 0, 0);
    while (now < 20000 * MS) {
        struct vgpu_sched_decision d;
        while (vgpu_sched_next(s, now, &d)) {
            if (d.action == VGPU_SCHED_GRANT) {
                holds = true;
                recalled = false;
                start = now;
            } else {
                recalled = true;
            }
        }
        if (holds && recalled) { /* a kernel of 700 us may overrun */
            now += 300 * US;
            used += now - start;
            holds = false;
            vgpu_sched_returned(s, 0, now);
            vgpu_sched_want(s, 0, now);
            continue;
        }
        uint64_t next = vgpu_sched_deadline(s, now);
        assert_true(next != UINT64_MAX && next > now);
        now = next;
        if (now / (5000 * MS) != second) {
            second = now / (5000 * MS);
            assert_in_range(used / US, (uint64_t)(second * 1500000) - 50000,
                            (uint64_t)(second * 1500000) + 50000);
        }
    }
    struct vgpu_sched_view view;
    vgpu_sched_look(s, 0, now, &view);
    assert_true(view.throttles > 100);
    vgpu_sched_destroy(s);
}

/* S9: several leases of a GPU at a time. */
static void test_slots(void **state)
{
    (void)state;
    struct vgpu_sched_config cfg = config(VGPU_SCHED_WEIGHTED);
    cfg.slots = 2;
    struct vgpu_sched *s = vgpu_sched_create(&cfg);
    for (uint32_t i = 0; i < 4; i++) {
        struct vgpu_sched_tenant t = share(1, 100);
        assert_int_equal(vgpu_sched_tenant_add(s, i, &t, 0), 0);
        vgpu_sched_want(s, i, 0);
    }
    grant(s, 0, 0);
    grant(s, 0, 1);
    expect(s, 0, VGPU_SCHED_RECALL, 0, 20 * MS, 0);
    expect(s, 0, VGPU_SCHED_RECALL, 1, 20 * MS, 0);
    quiet(s, 0);
    uint32_t held, admissible;
    vgpu_sched_look_gpu(s, 0, 0, &held, &admissible);
    assert_true(held == 2 && admissible == 2);
    vgpu_sched_returned(s, 1, 20 * MS);
    grant(s, 20 * MS, 2);
    vgpu_sched_destroy(s);
}

/* S10: nobody saves up turns by staying away; and what somebody had too much stays with him. */
static void test_no_credit(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    uint64_t now = 0;
    vgpu_sched_want(s, 0, 0);
    grant(s, 0, 0);
    now = 100000 * MS; /* alone for long, while 1 was away */
    vgpu_sched_want(s, 1, now);
    expect(s, now, VGPU_SCHED_RECALL, 0, 0, 0);
    vgpu_sched_want(s, 0, now);
    vgpu_sched_returned(s, 0, now);
    unsigned turns[2] = {0};
    for (unsigned n = 0; n < 100; n++) {
        struct vgpu_sched_decision d;
        uint32_t holder = UINT32_MAX;
        while (vgpu_sched_next(s, now, &d))
            if (d.action == VGPU_SCHED_GRANT)
                holder = d.tenant;
        turns[holder]++;
        now += 20 * MS;
        vgpu_sched_returned(s, holder, now);
        vgpu_sched_want(s, holder, now);
    }
    assert_in_range(turns[0], 49, 51);
    vgpu_sched_destroy(s);
}

/* S11: a change takes effect at once: the next decision is made under it. */
static void test_change(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    vgpu_sched_want(s, 0, 0);
    grant(s, 0, 0);
    vgpu_sched_want(s, 1, MS);
    vgpu_sched_want(s, 2, 2 * MS);
    expect(s, 2 * MS, VGPU_SCHED_RECALL, 0, 18 * MS, 0);
    struct vgpu_sched_tenant t = share(2, 100);
    assert_int_equal(vgpu_sched_tenant_change(s, 2, &t, 3 * MS), 0);
    expect(s, 3 * MS, VGPU_SCHED_RECALL, 0, 0, 0);
    t.gpu = 1;
    assert_int_equal(vgpu_sched_tenant_change(s, 0, &t, 3 * MS), -EBUSY);
    assert_int_equal(vgpu_sched_tenant_change(s, 1, &t, 3 * MS), 0);
    grant(s, 3 * MS, 1); /* another GPU, which is free */
    vgpu_sched_returned(s, 0, 4 * MS);
    grant(s, 4 * MS, 2);
    vgpu_sched_destroy(s);
}

/* Numbers out of range change nothing. */
static void test_bad_numbers(void **state)
{
    (void)state;
    struct vgpu_sched_config bad = config(VGPU_SCHED_WEIGHTED);
    bad.slots = 0;
    assert_null(vgpu_sched_create(&bad));
    bad = config(VGPU_SCHED_WEIGHTED);
    bad.factor[1] = 0;
    assert_null(vgpu_sched_create(&bad));
    struct vgpu_sched *s = make(VGPU_SCHED_WEIGHTED, 1, 1, 1);
    assert_int_equal(vgpu_sched_configure(s, &bad, 0), -EINVAL);
    struct vgpu_sched_tenant t = share(1, 100);
    assert_int_equal(vgpu_sched_tenant_add(s, 0, &t, 0), -EINVAL);
    assert_int_equal(vgpu_sched_tenant_add(s, 12, &t, 0), -EINVAL);
    struct vgpu_sched_tenant wrong[] = {t, t, t, t, t, t};
    wrong[0].gpu = 3;
    wrong[1].priority = 3;
    wrong[2].weight = 0;
    wrong[3].weight = VGPU_SCHED_WEIGHT_MAX + 1;
    wrong[4].rate = 1001;
    wrong[5].rate = 300; /* without a burst */
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(vgpu_sched_tenant_add(s, 5, &wrong[i], 0), -EINVAL);
        assert_int_equal(vgpu_sched_tenant_change(s, 0, &wrong[i], 0), -EINVAL);
    }
    vgpu_sched_want(s, 7, 0);
    vgpu_sched_want(s, UINT32_MAX, 0);
    vgpu_sched_returned(s, UINT32_MAX, 0);
    vgpu_sched_unwant(s, UINT32_MAX, 0);
    vgpu_sched_tenant_remove(s, UINT32_MAX, 0);
    quiet(s, 0);
    vgpu_sched_destroy(s);
}

/* S12: a GPU that is usable, has room, and the least load. */
static void test_place(void **state)
{
    (void)state;
    struct vgpu_place_gpu gpus[] = {
        {.usable = true, .load = 3, .free_bytes = 100},
        {.usable = true, .load = 1, .free_bytes = 10},
        {.usable = true, .load = 2, .free_bytes = 50},
        {.usable = false, .load = 0, .free_bytes = 1000},
    };
    assert_int_equal(vgpu_place(gpus, 4, 5), 1);
    assert_int_equal(vgpu_place(gpus, 4, 20), 2);
    assert_int_equal(vgpu_place(gpus, 4, 70), 0);
    assert_int_equal(vgpu_place(gpus, 4, 500), 0); /* nobody has it: the most there is */
    gpus[0].load = 2;
    assert_int_equal(vgpu_place(gpus, 4, 20), 0); /* equal load: more room */
    for (int i = 0; i < 4; i++)
        gpus[i].usable = false;
    assert_int_equal(vgpu_place(gpus, 4, 1), VGPU_PLACE_NONE);
    assert_int_equal(vgpu_place(gpus, 0, 1), VGPU_PLACE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_alone),       VGPU_TEST(test_equal),
        VGPU_TEST(test_priorities),  VGPU_TEST(test_share_bounds_priority),
        VGPU_TEST(test_aging),       VGPU_TEST(test_watchdog),
        VGPU_TEST(test_late_holder), VGPU_TEST(test_rate),
        VGPU_TEST(test_slots),       VGPU_TEST(test_no_credit),
        VGPU_TEST(test_change),      VGPU_TEST(test_bad_numbers),
        VGPU_TEST(test_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
