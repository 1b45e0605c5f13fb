/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A million random events against what has to hold whatever happens: no lost and no double lease,
 * nobody served who does not wait, recalls and kills only of holders and only for somebody, no GPU
 * idle while somebody may be served, no tokens beyond the burst, lags that add up to nothing, the
 * same events giving the same decisions. A sequence that breaks one is made smaller before it is
 * shown.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/sched/sched.h"
#include "vgpu_test.h"

#define MS       1000000ull
#define TENANTS  24u
#define GPUS     3u
/* A debt makes a wait, and who waits so long beside one that never returns makes a larger one. */
#define JUMP_MAX (20000 * MS)

enum kind { ADD, REMOVE, CHANGE, WANT, UNWANT, RETURN, TICK, CONFIGURE, KINDS };

struct event {
    uint8_t kind, tenant, gpu, priority;
    uint16_t weight, rate;
    uint32_t step_us; /* time that passes before it; UINT32_MAX: to the deadline */
};

struct shadow {
    bool present, waiting, holding, recalled, killed, lingers;
    struct vgpu_sched_tenant is;
    uint64_t grace_end_ns;
};

struct state {
    struct vgpu_sched *s;
    struct vgpu_sched_config config;
    struct shadow t[TENANTS];
    uint64_t now_ns, digest, decisions[3];
    char why[120]; /* empty: all is well */
};

static void wrong(struct state *x, const char *what, uint32_t tenant)
{
    if (!x->why[0])
        snprintf(x->why, sizeof(x->why), "%s (tenant %u)", what, tenant);
}

static struct vgpu_sched_config config_of(enum vgpu_sched_mode mode, uint32_t slots)
{
    return (struct vgpu_sched_config){.tenants = TENANTS,
                                      .gpus = GPUS,
                                      .mode = mode,
                                      .slots = slots,
                                      .quantum_ns = 5 * MS,
                                      .watchdog_ns = 100 * MS,
                                      .aging_ns = 200 * MS,
                                      .linger_ns = MS / 20,
                                      .factor = {1, 4, 16}};
}

static struct vgpu_sched_tenant share_of(const struct event *e)
{
    return (struct vgpu_sched_tenant){.gpu = e->gpu % GPUS,
                                      .priority = e->priority % VGPU_SCHED_PRIORITIES,
                                      .weight = e->weight % VGPU_SCHED_WEIGHT_MAX + 1,
                                      .rate = e->rate % 4 ? 0 : e->rate % 1001,
                                      .burst_ns = 10 * MS};
}

static void apply(struct state *x, const struct event *e)
{
    uint32_t i = e->tenant % TENANTS;
    struct shadow *t = &x->t[i];
    struct vgpu_sched_tenant what = share_of(e);
    int rc;
    switch (e->kind) {
    case ADD:
        rc = vgpu_sched_tenant_add(x->s, i, &what, x->now_ns);
        if ((rc == 0) == t->present)
            wrong(x, "added twice, or not at all", i);
        if (!rc)
            *t = (struct shadow){.present = true, .is = what};
        break;
    case REMOVE:
        vgpu_sched_tenant_remove(x->s, i, x->now_ns);
        *t = (struct shadow){.present = false};
        break;
    case CHANGE:
        rc = vgpu_sched_tenant_change(x->s, i, &what, x->now_ns);
        if ((rc == 0) != (t->present && !(t->holding && what.gpu != t->is.gpu)))
            wrong(x, "a change was taken, or refused, wrongly", i);
        if (!rc)
            t->is = what;
        break;
    case WANT:
        vgpu_sched_want(x->s, i, x->now_ns);
        t->waiting = t->present;
        break;
    case UNWANT:
        vgpu_sched_unwant(x->s, i, x->now_ns);
        t->waiting = false;
        break;
    case RETURN:
        vgpu_sched_returned(x->s, i, x->now_ns);
        t->holding = t->recalled = t->killed = false;
        break;
    case CONFIGURE:
        x->config.quantum_ns = (e->weight % 20 + 1) * MS;
        x->config.slots = e->rate % 3 + 1;
        if (vgpu_sched_configure(x->s, &x->config, x->now_ns))
            wrong(x, "a configuration was refused", i);
        break;
    default:
        break;
    }
}

static uint32_t held(const struct state *x, uint32_t gpu)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < TENANTS; i++)
        n += x->t[i].holding && x->t[i].is.gpu == gpu;
    return n;
}

static bool others_wait(const struct state *x, uint32_t gpu, uint32_t but)
{
    for (uint32_t i = 0; i < TENANTS; i++)
        if (i != but && x->t[i].waiting && !x->t[i].holding && x->t[i].is.gpu == gpu)
            return true;
    return false;
}

static void check_decision(struct state *x, const struct vgpu_sched_decision *d)
{
    if (d->tenant >= TENANTS || d->gpu >= GPUS || !x->t[d->tenant].present ||
        x->t[d->tenant].is.gpu != d->gpu) {
        wrong(x, "a decision about nobody", d->tenant);
        return;
    }
    struct shadow *t = &x->t[d->tenant];
    x->decisions[d->action]++;
    x->digest = (x->digest ^ (d->action + 4 * d->tenant + 256 * d->gpu + 1024 * d->grace_ns +
                              d->linger_ns + x->now_ns)) *
                1099511628211ull;
    switch (d->action) {
    case VGPU_SCHED_GRANT:
        if (!t->waiting || t->holding)
            wrong(x, "a lease for one who does not wait, or a second one", d->tenant);
        if (held(x, d->gpu) >= x->config.slots)
            wrong(x, "more leases than slots", d->tenant);
        t->holding = true;
        t->waiting = t->recalled = t->killed = false;
        break;
    case VGPU_SCHED_RECALL:
        if (!t->holding || t->killed)
            wrong(x, "a recall of one who holds nothing", d->tenant);
        if (!others_wait(x, d->gpu, d->tenant) && !(t->is.rate && t->is.rate < 1000))
            wrong(x, "a recall for nobody", d->tenant);
        if (t->recalled &&
            (x->now_ns + d->grace_ns > t->grace_end_ns ||
             (x->now_ns + d->grace_ns == t->grace_end_ns && !(t->lingers && !d->linger_ns))))
            wrong(x, "a second recall that is not shorter", d->tenant);
        t->recalled = true;
        t->lingers = d->linger_ns != 0;
        t->grace_end_ns = x->now_ns + d->grace_ns;
        break;
    case VGPU_SCHED_KILL:
        if (!t->holding || !t->recalled || t->killed)
            wrong(x, "a kill of one who was not recalled", d->tenant);
        if (!others_wait(x, d->gpu, d->tenant) && held(x, d->gpu) < 2)
            wrong(x, "a kill for nobody", d->tenant);
        if (x->now_ns < t->grace_end_ns + x->config.watchdog_ns)
            wrong(x, "a kill before its time", d->tenant);
        t->killed = true;
        break;
    }
}

/* What has to hold when the scheduler has nothing to say. */
static void check_rest(struct state *x)
{
    for (uint32_t gpu = 0; gpu < GPUS; gpu++) {
        uint32_t out, admissible;
        vgpu_sched_look_gpu(x->s, gpu, x->now_ns, &out, &admissible);
        if (out != held(x, gpu))
            wrong(x, "a lease was lost", gpu);
        if (admissible && out < x->config.slots)
            wrong(x, "a GPU idles while somebody may be served", gpu);
        bool recalled = false;
        for (uint32_t i = 0; i < TENANTS; i++)
            recalled = recalled || (x->t[i].holding && x->t[i].is.gpu == gpu && x->t[i].recalled);
        if (admissible && !recalled)
            wrong(x, "somebody waits and nobody was asked", gpu);
    }
    for (uint32_t i = 0; i < TENANTS; i++) {
        struct vgpu_sched_view v;
        struct shadow *t = &x->t[i];
        vgpu_sched_look(x->s, i, x->now_ns, &v);
        if (v.present != t->present || v.holding != t->holding || v.waiting != t->waiting)
            wrong(x, "it is not as the events say", i);
        if (!t->present)
            continue;
        if (t->is.rate && v.tokens_ns > (int64_t)t->is.burst_ns)
            wrong(x, "more tokens than the burst", i);
        if (v.throttled && (!t->waiting || !t->is.rate || t->holding))
            wrong(x, "throttled without a rate", i);
        /* Who waits without a rate may be served: with a free slot he would have been. */
        if (t->waiting && !t->holding && !t->is.rate && held(x, t->is.gpu) < x->config.slots)
            wrong(x, "passed over", i);
    }
}

/* Everybody's lag in a class adds up to nothing: what one had too much others lack. */
static void check_lags(struct state *x)
{
    for (uint32_t gpu = 0; gpu < GPUS; gpu++) {
        for (uint32_t p = 0; p < VGPU_SCHED_PRIORITIES; p++) {
            int64_t sum = 0;
            uint32_t count = 0;
            for (uint32_t i = 0; i < TENANTS; i++) {
                struct vgpu_sched_view v;
                if (!x->t[i].present || x->t[i].is.gpu != gpu ||
                    (x->config.mode == VGPU_SCHED_STRICT && x->t[i].is.priority != p))
                    continue;
                vgpu_sched_look(x->s, i, x->now_ns, &v);
                sum += v.lag_ns;
                count++;
            }
            /* Rounding: less than the weight in units of virtual time, each. */
            if (sum > 1000 * (int64_t)count + 1000 || sum < -1000 * (int64_t)count - 1000)
                wrong(x, "lags do not add up", gpu);
        }
    }
}

/* Runs a sequence. Answers its digest; `why` says what broke. */
static uint64_t run(const struct event *events, size_t count, enum vgpu_sched_mode mode,
                    uint64_t kinds[3], char why[120])
{
    struct state x = {.digest = 1469598103934665603ull, .config = config_of(mode, 1)};
    x.s = vgpu_sched_create(&x.config);
    if (!x.s)
        wrong(&x, "not made", 0);
    for (size_t n = 0; n < count && !x.why[0]; n++) {
        uint64_t deadline = vgpu_sched_deadline(x.s, x.now_ns);
        if (events[n].step_us != UINT32_MAX)
            x.now_ns += events[n].step_us * 1000ull;
        else if (deadline != UINT64_MAX && deadline > x.now_ns) /* or a good part of the way */
            x.now_ns += deadline - x.now_ns < JUMP_MAX ? deadline - x.now_ns : JUMP_MAX;
        apply(&x, &events[n]);
        struct vgpu_sched_decision d;
        unsigned said = 0;
        while (!x.why[0] && vgpu_sched_next(x.s, x.now_ns, &d)) {
            check_decision(&x, &d);
            if (++said > 200)
                wrong(&x, "decisions without end", d.tenant);
        }
        check_rest(&x);
        if (n % 16 == 0)
            check_lags(&x);
    }
    vgpu_sched_destroy(x.s);
    for (int i = 0; kinds && i < 3; i++)
        kinds[i] += x.decisions[i];
    memcpy(why, x.why, sizeof(x.why));
    return x.digest;
}

static uint64_t random_state;

static uint32_t draw(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static struct event make_event(void)
{
    static const uint8_t often[] = {WANT, WANT, WANT, WANT, RETURN, RETURN, RETURN, TICK, UNWANT};
    uint32_t r = draw() % 100;
    struct event e = {.tenant = (uint8_t)(draw() % TENANTS),
                      .gpu = (uint8_t)draw(),
                      .priority = (uint8_t)draw(),
                      .weight = (uint16_t)draw(),
                      .rate = (uint16_t)draw()};
    e.kind = r < 6    ? ADD
             : r < 7  ? REMOVE
             : r < 11 ? CHANGE
             : r < 12 ? CONFIGURE
                      : often[draw() % sizeof(often)];
    uint32_t step = draw() % 100;
    e.step_us = step < 10 ? UINT32_MAX : step < 13 ? draw() % 300000 : draw() % 3000;
    return e;
}

static const char *const kind_names[KINDS] = {"add",    "remove", "change", "want",
                                              "unwant", "return", "tick",   "configure"};

/* Leaves out what is not needed to break it (Zeller and Hildebrandt, "Simplifying and Isolating
 * Failure-Inducing Input", 2002), and shows the rest. */
static void shrink(struct event *events, size_t count, enum vgpu_sched_mode mode)
{
    char why[120];
    struct event *smaller = malloc((count ? count : 1) * sizeof(*smaller));
    assert_non_null(smaller);
    for (size_t part = count / 2; part; part /= 2) {
        for (size_t at = 0; at + part <= count;) {
            memcpy(smaller, events, at * sizeof(*events));
            memcpy(smaller + at, events + at + part, (count - at - part) * sizeof(*events));
            run(smaller, count - part, mode, NULL, why);
            if (why[0]) {
                count -= part;
                memcpy(events, smaller, count * sizeof(*events));
            } else {
                at += part;
            }
        }
    }
    run(events, count, mode, NULL, why);
    print_error("mode %d, %zu events: %s\n", mode, count, why);
    for (size_t n = 0; n < count && n < 60; n++)
        print_error("  +%" PRId64 " us %s tenant %u gpu %u priority %u weight %u rate %u\n",
                    events[n].step_us == UINT32_MAX ? -1 : (int64_t)events[n].step_us,
                    kind_names[events[n].kind], events[n].tenant, events[n].gpu % GPUS,
                    events[n].priority % 3, share_of(&events[n]).weight, share_of(&events[n]).rate);
    free(smaller);
}

static void run_many(enum vgpu_sched_mode mode, uint64_t seed, size_t sequences, size_t length)
{
    struct event *events = malloc(length * sizeof(*events));
    uint64_t kinds[3] = {0};
    assert_non_null(events);
    random_state = seed;
    for (size_t k = 0; k < sequences; k++) {
        char why[120], again[120];
        for (size_t n = 0; n < length; n++)
            events[n] = make_event();
        uint64_t digest = run(events, length, mode, kinds, why);
        if (why[0])
            shrink(events, length, mode);
        assert_string_equal(why, "");
        if (k == 0)
            assert_true(run(events, length, mode, NULL, again) == digest);
    }
    for (int i = 0; i < 3; i++)
        assert_true(kinds[i] > 100); /* or this tested nothing */
    free(events);
}

static void test_weighted(void **state)
{
    (void)state;
    run_many(VGPU_SCHED_WEIGHTED, 0x9e3779b97f4a7c15ull, 50, 10000);
}

static void test_strict(void **state)
{
    (void)state;
    run_many(VGPU_SCHED_STRICT, 0xd1342543de82ef95ull, 50, 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_weighted),
        VGPU_TEST(test_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
