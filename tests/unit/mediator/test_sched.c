/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The strict scheduler: named cases, and a property test that drives it with random events and
 * checks every decision against a model written from sched.h's promises.
 */
#include <stdlib.h>
#include <string.h>

#include "mediator/sched/sched.h"
#include "vgpu_test.h"

#define MS 1000000ull

static const struct vgpu_sched_policy *const policy = &vgpu_sched_strict;

static const struct vgpu_sched_config config = {
    .tenants = 12,
    .gpus = 3,
    .quantum_ns = 20 * MS,
    .yield_ns = 1000 * MS,
    .watchdog_ns = 10000 * MS,
};

static void expect(struct vgpu_sched *s, uint64_t now, enum vgpu_sched_action action,
                   uint32_t tenant, uint64_t grace)
{
    struct vgpu_sched_decision d;
    assert_true(policy->next(s, now, &d));
    assert_int_equal(d.action, action);
    assert_int_equal(d.tenant, tenant);
    if (action == VGPU_SCHED_RECALL)
        assert_true(d.grace_ns == grace);
}

static void expect_nothing(struct vgpu_sched *s, uint64_t now)
{
    struct vgpu_sched_decision d;
    assert_false(policy->next(s, now, &d));
}

static struct vgpu_sched *make(uint32_t a, uint32_t b, uint32_t c)
{
    struct vgpu_sched *s = policy->create(&config);
    assert_non_null(s);
    assert_int_equal(policy->tenant_add(s, 0, 0, a), 0);
    assert_int_equal(policy->tenant_add(s, 1, 0, b), 0);
    assert_int_equal(policy->tenant_add(s, 2, 0, c), 0);
    return s;
}

/* The holder keeps the lease while nobody waits. */
static void test_alone(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    expect_nothing(s, 3600000 * MS);
    assert_true(policy->deadline(s) == UINT64_MAX);
    policy->returned(s, 0, 0);
    expect_nothing(s, 0);
    policy->destroy(s);
}

/* An equal waits for the rest of the quantum; then the queue goes round in order. */
static void test_equal(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 5 * MS);
    expect(s, 5 * MS, VGPU_SCHED_RECALL, 0, 15 * MS);
    policy->want(s, 2, 6 * MS);
    expect_nothing(s, 6 * MS);
    assert_true(policy->deadline(s) == 20 * MS + config.watchdog_ns);
    policy->want(s, 0, 7 * MS); /* the holder wants its next one */
    policy->returned(s, 0, 19 * MS);
    expect(s, 19 * MS, VGPU_SCHED_GRANT, 1, 0);
    expect(s, 19 * MS, VGPU_SCHED_RECALL, 1, 20 * MS);
    policy->returned(s, 1, 20 * MS);
    expect(s, 20 * MS, VGPU_SCHED_GRANT, 2, 0);
    policy->destroy(s);
}

/* A quantum that is over leaves no grace. */
static void test_quantum_over(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 500 * MS);
    expect(s, 500 * MS, VGPU_SCHED_RECALL, 0, 0);
    policy->destroy(s);
}

/* A higher one waits for nothing but what is in flight, and is granted before those who waited. */
static void test_higher(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 2);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 1 * MS);
    expect(s, 1 * MS, VGPU_SCHED_RECALL, 0, 19 * MS);
    policy->want(s, 2, 2 * MS);
    expect(s, 2 * MS, VGPU_SCHED_RECALL, 0, 0); /* the grace becomes shorter */
    policy->returned(s, 0, 3 * MS);
    expect(s, 3 * MS, VGPU_SCHED_GRANT, 2, 0);
    expect(s, 3 * MS, VGPU_SCHED_RECALL, 2, config.yield_ns); /* for 1, which is lower */
    policy->destroy(s);
}

/* A lower one gets the GPU when the holder is idle, or after yield_ns. */
static void test_lower(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(2, 0, 2);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 1 * MS);
    expect(s, 1 * MS, VGPU_SCHED_RECALL, 0, config.yield_ns);
    policy->want(s, 2, 2 * MS); /* an equal comes: the quantum counts again */
    expect(s, 2 * MS, VGPU_SCHED_RECALL, 0, 18 * MS);
    policy->returned(s, 0, 3 * MS);
    expect(s, 3 * MS, VGPU_SCHED_GRANT, 2, 0);
    policy->destroy(s);
}

/* No return by the end of the grace and the watchdog's limit: KILL, once; the lease stays taken. */
static void test_watchdog(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 0);
    expect(s, 0, VGPU_SCHED_RECALL, 0, 20 * MS);
    uint64_t deadline = policy->deadline(s);
    expect_nothing(s, deadline - 1);
    expect(s, deadline, VGPU_SCHED_KILL, 0, 0);
    assert_true(policy->deadline(s) == UINT64_MAX);
    expect_nothing(s, deadline + 3600000 * MS);
    policy->returned(s, 0, deadline + MS);
    expect(s, deadline + MS, VGPU_SCHED_GRANT, 1, 0);
    policy->destroy(s);
}

/* Nobody waits any more: no KILL and no deadline; who comes then waits as long as anybody. */
static void test_watchdog_for_nobody(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 0);
    expect(s, 0, VGPU_SCHED_RECALL, 0, 20 * MS);
    policy->unwant(s, 1, 5 * MS);
    assert_true(policy->deadline(s) == UINT64_MAX);
    expect_nothing(s, 60000 * MS);
    assert_true(policy->deadline(s) == UINT64_MAX);
    policy->want(s, 2, 70000 * MS);
    expect_nothing(s, 70000 * MS);
    assert_true(policy->deadline(s) == 70000 * MS + config.watchdog_ns);
    expect(s, 70000 * MS + config.watchdog_ns, VGPU_SCHED_KILL, 0, 0);
    policy->destroy(s);
}

/* A new priority counts for who waits and for who holds. */
static void test_priority(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    policy->want(s, 0, 0);
    expect(s, 0, VGPU_SCHED_GRANT, 0, 0);
    policy->want(s, 1, 0);
    expect(s, 0, VGPU_SCHED_RECALL, 0, 20 * MS);
    policy->want(s, 2, 0);
    policy->tenant_priority(s, 2, 2, 1 * MS);
    expect(s, 1 * MS, VGPU_SCHED_RECALL, 0, 0);
    policy->returned(s, 0, 2 * MS);
    expect(s, 2 * MS, VGPU_SCHED_GRANT, 2, 0);
    policy->destroy(s);
}

/* Numbers out of range or in use are refused; those nobody added do nothing. */
static void test_bad_numbers(void **state)
{
    (void)state;
    struct vgpu_sched *s = make(1, 1, 1);
    assert_true(policy->tenant_add(s, 0, 0, 1) < 0);
    assert_true(policy->tenant_add(s, config.tenants, 0, 1) < 0);
    assert_true(policy->tenant_add(s, 5, config.gpus, 1) < 0);
    assert_true(policy->tenant_add(s, 5, 0, 3) < 0);
    policy->want(s, 7, 0);
    policy->want(s, UINT32_MAX, 0);
    policy->returned(s, UINT32_MAX, 0);
    policy->unwant(s, UINT32_MAX, 0);
    policy->tenant_remove(s, UINT32_MAX, 0);
    expect_nothing(s, 0);
    policy->destroy(s);
}

/* --- the property test --- */

struct model_tenant {
    bool present, waiting;
    uint32_t gpu, priority;
    uint64_t ticket; /* order of coming into its queue */
};

struct model_gpu {
    int holder;
    bool recalled, killed, awaited;
    uint64_t start, end, since; /* since: somebody waits */
};

struct model {
    struct model_tenant tenants[12];
    struct model_gpu gpus[3];
    uint64_t tickets;
};

static uint64_t random_state;

static uint32_t pick(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % below;
}

/* The highest priority, and the first ticket within it. */
static int best_waiter(const struct model *m, uint32_t gpu, int except)
{
    int best = -1;
    for (int i = 0; i < 12; i++) {
        const struct model_tenant *t = &m->tenants[i];
        if (!t->present || !t->waiting || t->gpu != gpu || i == except)
            continue;
        if (best < 0 || t->priority > m->tenants[best].priority ||
            (t->priority == m->tenants[best].priority && t->ticket < m->tenants[best].ticket))
            best = i;
    }
    return best;
}

static uint64_t kill_time(const struct model_gpu *g)
{
    return (g->since > g->end ? g->since : g->end) + config.watchdog_ns;
}

/* Whether, and since when, somebody waits for what each holder has. */
static void note_waiting(struct model *m, uint64_t now)
{
    for (uint32_t gpu = 0; gpu < 3; gpu++) {
        struct model_gpu *g = &m->gpus[gpu];
        bool awaited = g->holder >= 0 && best_waiter(m, gpu, g->holder) >= 0;
        if (awaited && !g->awaited)
            g->since = now;
        g->awaited = awaited;
    }
}

static void check_decision(struct model *m, const struct vgpu_sched_decision *d, uint64_t now)
{
    assert_true(d->gpu < 3 && d->tenant < 12);
    struct model_gpu *g = &m->gpus[d->gpu];
    switch (d->action) {
    case VGPU_SCHED_GRANT:
        assert_int_equal(g->holder, -1); /* one lease for each GPU */
        assert_int_equal(best_waiter(m, d->gpu, -1), (int)d->tenant);
        *g = (struct model_gpu){.holder = (int)d->tenant, .start = now};
        m->tenants[d->tenant].waiting = false;
        break;
    case VGPU_SCHED_RECALL: {
        assert_int_equal(g->holder, (int)d->tenant);
        assert_false(g->killed);
        int waiter = best_waiter(m, d->gpu, g->holder);
        assert_true(waiter >= 0); /* never recalled for nobody */
        uint32_t theirs = m->tenants[waiter].priority, own = m->tenants[d->tenant].priority;
        uint64_t end = now + d->grace_ns;
        if (theirs > own)
            assert_true(d->grace_ns == 0);
        else if (theirs == own)
            assert_true(end == now || end == g->start + config.quantum_ns);
        else
            assert_true(!g->recalled && d->grace_ns == config.yield_ns);
        assert_true(!g->recalled || end < g->end); /* only ever shorter */
        g->recalled = true;
        g->end = end;
        break;
    }
    case VGPU_SCHED_KILL:
        assert_int_equal(g->holder, (int)d->tenant);
        assert_true(g->recalled && !g->killed && g->awaited);
        assert_true(best_waiter(m, d->gpu, g->holder) >= 0); /* never for nobody */
        assert_true(now >= kill_time(g));
        g->killed = true;
        break;
    }
}

/* What has to hold when the scheduler has nothing to say. */
static void check_rest(const struct model *m, const struct vgpu_sched *s, uint64_t now)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t gpu = 0; gpu < 3; gpu++) {
        const struct model_gpu *g = &m->gpus[gpu];
        int waiter = best_waiter(m, gpu, g->holder);
        if (g->holder < 0) {
            assert_int_equal(waiter, -1); /* work-conserving */
            continue;
        }
        if (waiter >= 0 && !g->killed) {
            assert_true(g->recalled); /* nobody waits for a lease that is not recalled */
            if (m->tenants[waiter].priority > m->tenants[g->holder].priority)
                assert_true(g->end <= now);
        }
        if (g->recalled && !g->killed && g->awaited) {
            assert_true(now < kill_time(g)); /* the watchdog does not sleep */
            if (kill_time(g) < deadline)
                deadline = kill_time(g);
        }
    }
    assert_true(policy->deadline(s) == deadline);
}

static void model_return(struct model *m, uint32_t tenant)
{
    struct model_gpu *g = &m->gpus[m->tenants[tenant].gpu];
    if (m->tenants[tenant].present && g->holder == (int)tenant)
        *g = (struct model_gpu){.holder = -1};
}

static void random_event(struct model *m, struct vgpu_sched *s, uint64_t now)
{
    uint32_t i = pick(12);
    struct model_tenant *t = &m->tenants[i];
    switch (pick(12)) {
    case 0:
        if (!t->present) {
            *t = (struct model_tenant){.present = true, .gpu = pick(3), .priority = pick(3)};
            assert_int_equal(policy->tenant_add(s, i, t->gpu, t->priority), 0);
        }
        break;
    case 1:
        if (pick(8) == 0) {
            policy->tenant_remove(s, i, now);
            model_return(m, i);
            t->present = t->waiting = false;
        }
        break;
    case 2: {
        uint32_t priority = pick(3);
        policy->tenant_priority(s, i, priority, now);
        if (t->present && t->priority != priority) {
            t->priority = priority;
            t->ticket = ++m->tickets;
        }
        break;
    }
    case 3:
        policy->unwant(s, i, now);
        t->waiting = false;
        break;
    case 4:
    case 5:
    case 6:
        policy->returned(s, i, now);
        model_return(m, i);
        break;
    default:
        policy->want(s, i, now);
        if (t->present && !t->waiting) {
            t->waiting = true;
            t->ticket = ++m->tickets;
        }
    }
}

static uint64_t run_random(uint64_t seed, unsigned events, unsigned kinds[3])
{
    struct model m = {.gpus = {{.holder = -1}, {.holder = -1}, {.holder = -1}}};
    struct vgpu_sched *s = policy->create(&config);
    assert_non_null(s);
    random_state = seed;
    uint64_t now = 0, digest = 1469598103934665603ull;
    for (unsigned n = 0; n < events; n++) {
        /* Mostly small steps; sometimes exactly to the deadline, or far. */
        uint32_t step = pick(100);
        uint64_t deadline = policy->deadline(s);
        if (step < 2 && deadline != UINT64_MAX && deadline > now)
            now = deadline;
        else if (step < 4)
            now += pick(2000) * MS;
        else
            now += pick(3000) * 1000ull;
        random_event(&m, s, now);
        struct vgpu_sched_decision d;
        unsigned said = 0;
        note_waiting(&m, now);
        while (policy->next(s, now, &d)) {
            assert_true(++said < 100);
            check_decision(&m, &d, now);
            note_waiting(&m, now);
            kinds[d.action]++;
            digest = (digest ^ (d.action + 4 * d.tenant + 64 * d.gpu + 256 * d.grace_ns + now)) *
                     1099511628211ull;
        }
        check_rest(&m, s, now);
    }
    policy->destroy(s);
    return digest;
}

/* No double and no lost lease, FIFO within a priority, work-conserving, the watchdog fires; and the
 * same events give the same decisions. */
static void test_random(void **state)
{
    (void)state;
    unsigned kinds[3] = {0}, again[3] = {0};
    uint64_t first = run_random(0x9e3779b97f4a7c15ull, 200000, kinds);
    assert_true(run_random(0x9e3779b97f4a7c15ull, 200000, again) == first);
    for (int i = 0; i < 3; i++)
        assert_true(kinds[i] > 100 && kinds[i] == again[i]);
    for (uint64_t seed = 1; seed <= 20; seed++)
        run_random(seed * 0xd1342543de82ef95ull, 10000, kinds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_alone),
        VGPU_TEST(test_equal),
        VGPU_TEST(test_quantum_over),
        VGPU_TEST(test_higher),
        VGPU_TEST(test_lower),
        VGPU_TEST(test_watchdog),
        VGPU_TEST(test_watchdog_for_nobody),
        VGPU_TEST(test_priority),
        VGPU_TEST(test_bad_numbers),
        VGPU_TEST(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
