/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The states of a channel (docs/ring.md G2 to G4, G6): the course of things and each crossing by
 * name, then every order of events that there is.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/channel.h"
#include "vgpu_test.h"

enum { DETACH = VGPU_CHANNEL_DETACH, ATTACH = VGPU_CHANNEL_ATTACH, TELL = VGPU_CHANNEL_TELL };
enum { SESSION = 5, WORKER = 77 };

static int said(struct vgpu_channel *c, uint64_t worker, uint32_t channel_state, uint32_t error)
{
    const char *why = NULL;
    int deeds = vgpu_channel_said(c, worker, channel_state, error, &why);
    if (deeds < 0)
        assert_non_null(why);
    return deeds;
}

/* Bound, enabled, attached. */
static struct vgpu_channel active(void)
{
    struct vgpu_channel c = {.state = VGPU_CHANNEL_FREE};
    assert_true(vgpu_channel_bind(&c, SESSION));
    assert_int_equal(vgpu_channel_enable(&c, 1), ATTACH);
    assert_true(vgpu_channel_wants_attach(&c));
    vgpu_channel_attaching(&c, WORKER);
    assert_false(vgpu_channel_wants_attach(&c));
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_ACTIVE, 0), TELL);
    assert_int_equal(c.state, VGPU_CHANNEL_ACTIVE);
    return c;
}

static void test_g3_course(void **state)
{
    (void)state;
    struct vgpu_channel c = active();
    assert_int_equal(vgpu_channel_reset(&c, 2), DETACH);
    assert_int_equal(c.state, VGPU_CHANNEL_ACTIVE); /* until nobody touches it any more */
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 0), TELL);
    assert_int_equal(c.state, VGPU_CHANNEL_FREE);
    assert_int_equal(c.serial, 2);
    assert_true(vgpu_channel_bind(&c, SESSION + 1));
}

static void test_g2_bound_once(void **state)
{
    (void)state;
    struct vgpu_channel c = {.state = VGPU_CHANNEL_FREE};
    assert_true(vgpu_channel_bind(&c, SESSION));
    assert_false(vgpu_channel_bind(&c, SESSION));
    assert_false(vgpu_channel_bind(&c, SESSION + 1));
    assert_int_equal(vgpu_channel_reset(&c, 1), TELL); /* a reset unbinds */
    assert_true(vgpu_channel_bind(&c, SESSION + 1));
    vgpu_channel_unbind(&c, SESSION); /* not its own */
    assert_false(vgpu_channel_bind(&c, SESSION));
    vgpu_channel_unbind(&c, SESSION + 1);
    assert_true(vgpu_channel_bind(&c, SESSION));
    assert_int_equal(vgpu_channel_enable(&c, 2), ATTACH);
    vgpu_channel_unbind(&c, SESSION); /* used by now */
    assert_true(c.bound);
}

static void test_g3_not_bound(void **state)
{
    (void)state;
    struct vgpu_channel c = {.state = VGPU_CHANNEL_FREE};
    assert_int_equal(vgpu_channel_enable(&c, 1), TELL);
    assert_int_equal(c.state, VGPU_CHANNEL_FATAL);
    assert_int_equal(c.error, VGPU_CHANNEL_NOT_BOUND);
    assert_int_equal(vgpu_channel_enable(&c, 2), TELL); /* does nothing, and is answered */
    assert_int_equal(c.error, VGPU_CHANNEL_NOT_BOUND);
    assert_int_equal(vgpu_channel_reset(&c, 3), TELL);
    assert_int_equal(c.state, VGPU_CHANNEL_FREE);
    assert_int_equal(c.error, 0);
}

/* L18 */
static void test_serials(void **state)
{
    (void)state;
    struct vgpu_channel c = {.state = VGPU_CHANNEL_FREE};
    assert_int_equal(vgpu_channel_enable(&c, 0), -EPROTO);
    assert_int_equal(vgpu_channel_reset(&c, 0), -EPROTO);
    assert_int_equal(vgpu_channel_reset(&c, 2), -EPROTO);
    assert_int_equal(vgpu_channel_reset(&c, 1), TELL);
    assert_int_equal(vgpu_channel_enable(&c, 1), -EPROTO);
    assert_int_equal(vgpu_channel_reset(&c, 3), -EPROTO);
    assert_int_equal(vgpu_channel_reset(&c, 0), -EPROTO);
    c.serial = UINT32_MAX;
    assert_int_equal(vgpu_channel_reset(&c, 0), TELL);
    assert_int_equal(vgpu_channel_reset(&c, UINT32_MAX), -EPROTO);
}

/* RESET before ATTACH was answered: both answers come, and only the second is told. */
static void test_reset_crosses_active(void **state)
{
    (void)state;
    struct vgpu_channel c = {.state = VGPU_CHANNEL_FREE};
    vgpu_channel_bind(&c, SESSION);
    vgpu_channel_enable(&c, 1);
    vgpu_channel_attaching(&c, WORKER);
    assert_int_equal(vgpu_channel_reset(&c, 2), DETACH);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_ACTIVE, 0), 0);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_ACTIVE, 0), -EPROTO);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_BAD_TAIL), 0);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_BAD_TAIL), -EPROTO);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 0), TELL);
    assert_int_equal(c.state, VGPU_CHANNEL_FREE);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 0), -EPROTO);
}

static void test_g19_fatal(void **state)
{
    (void)state;
    static const uint32_t errors[] = {VGPU_CHANNEL_BAD_TAIL, VGPU_CHANNEL_BAD_RECORD,
                                      VGPU_CHANNEL_BAD_HEAD, VGPU_CHANNEL_HOST};
    for (unsigned i = 0; i < 4; i++) {
        struct vgpu_channel c = active();
        assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FATAL, errors[i]), TELL);
        assert_int_equal(c.error, errors[i]);
        assert_true(c.bound);
        assert_int_equal(vgpu_channel_reset(&c, 2), DETACH); /* it has the channel until then */
        assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 0), TELL);
        assert_int_equal(c.error, 0);
    }
    for (uint32_t error = 0; error < 12; error++) {
        struct vgpu_channel c = active();
        bool right = (error >= 1 && error <= 3) || error == 6;
        assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FATAL, error), right ? TELL : -EPROTO);
    }
}

/* W7: what a worker says of a channel that it does not have, or was not asked. */
static void test_w7_lies(void **state)
{
    (void)state;
    struct vgpu_channel none = {.state = VGPU_CHANNEL_FREE}, c = active();
    for (uint32_t s = 0; s < 5; s++) {
        assert_int_equal(said(&none, 0, s, 0), -EPROTO);
        assert_int_equal(said(&c, WORKER + 1, s, s == 2), -EPROTO);
    }
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 0), -EPROTO);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_ACTIVE, 0), -EPROTO);
    assert_int_equal(said(&c, WORKER, 3, 0), -EPROTO);
    assert_int_equal(vgpu_channel_reset(&c, 2), DETACH);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 1), -EPROTO);
    vgpu_channel_worker_leaving(&c, WORKER);
    assert_int_equal(said(&c, WORKER, VGPU_CHANNEL_FREE, 0), -EPROTO);
    struct vgpu_channel d = {.state = VGPU_CHANNEL_FREE};
    vgpu_channel_bind(&d, SESSION);
    vgpu_channel_enable(&d, 1);
    vgpu_channel_attaching(&d, WORKER);
    assert_int_equal(said(&d, WORKER, VGPU_CHANNEL_ACTIVE, 1), -EPROTO);
}

/* G4, G6: fatal at once, free when the worker was reaped. */
static void test_g6_reaped(void **state)
{
    (void)state;
    struct vgpu_channel c = active();
    assert_int_equal(vgpu_channel_session_lost(&c, true, VGPU_CHANNEL_SESSION_LOST), TELL);
    vgpu_channel_worker_leaving(&c, WORKER);
    assert_int_equal(c.state, VGPU_CHANNEL_FATAL);
    assert_false(c.bound);
    assert_int_equal(vgpu_channel_reset(&c, 2), 0);
    assert_true(vgpu_channel_bind(&c, SESSION + 1));
    assert_int_equal(vgpu_channel_enable(&c, 3), 0);
    assert_int_equal(vgpu_channel_worker_gone(&c, WORKER + 1), 0); /* somebody else */
    assert_int_equal(vgpu_channel_worker_gone(&c, WORKER), ATTACH);
    assert_true(c.enabling);
}

static void test_session_lost(void **state)
{
    (void)state;
    struct vgpu_channel c = {.state = VGPU_CHANNEL_FREE};
    vgpu_channel_bind(&c, SESSION);
    assert_int_equal(vgpu_channel_session_lost(&c, true, VGPU_CHANNEL_SESSION_LOST), 0);
    assert_int_equal(c.state, VGPU_CHANNEL_FREE); /* nobody used it */
    assert_false(c.bound);
    c = active();
    assert_int_equal(vgpu_channel_session_lost(&c, false, VGPU_CHANNEL_SESSION_LOST), TELL);
    assert_true(c.bound); /* the session is open still */
    assert_int_equal(vgpu_channel_session_lost(&c, true, VGPU_CHANNEL_SESSION_LOST), 0);
    assert_false(c.bound);
}

static void test_renewed(void **state)
{
    (void)state;
    struct vgpu_channel c = active();
    vgpu_channel_renew(&c);
    vgpu_channel_worker_leaving(&c, WORKER);
    assert_int_equal(c.state, VGPU_CHANNEL_FREE);
    assert_true(vgpu_channel_bind(&c, SESSION));
    assert_int_equal(vgpu_channel_enable(&c, 2), 0); /* the old worker is not gone */
    assert_int_equal(vgpu_channel_worker_gone(&c, WORKER), ATTACH);
}

/* --- every order of events --- */

/* Two sessions, each with a worker of its own number, that share one channel. */
struct world {
    struct vgpu_channel c;
    uint32_t told;     /* the state that was told last */
    bool told_current; /* ... after the last ENABLE or RESET */
    bool open[2];
    enum { NO_WORKER, RUNS, LEAVES } worker[2];
};

enum event {
    OPEN,
    BIND,
    UNBIND,
    END,
    DIE,
    REAPED,
    ENABLE,
    RESET,
    RENEW,
    SERVE,
    CANNOT_SERVE,
    SAY_ACTIVE,
    SAY_FATAL,
    SAY_FREE,
    EVENTS,
};

static void leave(struct world *w, unsigned s)
{
    if (w->worker[s] == RUNS) {
        vgpu_channel_worker_leaving(&w->c, s + 1);
        w->worker[s] = LEAVES;
    }
}

static int end(struct world *w, unsigned s, bool ended)
{
    int deeds = 0;
    if (w->c.bound && w->c.session == s)
        deeds = vgpu_channel_session_lost(&w->c, ended, VGPU_CHANNEL_SESSION_LOST);
    leave(w, s);
    w->open[s] &= !ended;
    return deeds;
}

/* What it says; a lie ends it, and its session hears. */
static int speak(struct world *w, unsigned s, uint32_t channel_state, uint32_t error)
{
    const char *why;
    if (w->worker[s] != RUNS)
        return 0;
    int deeds = vgpu_channel_said(&w->c, s + 1, channel_state, error, &why);
    return deeds < 0 ? end(w, s, false) : deeds;
}

/* Lets it happen to session s, if it can. Returns deeds. */
static int happen(struct world *w, enum event what, unsigned s)
{
    struct vgpu_channel *c = &w->c;
    int deeds = 0;
    switch (what) {
    case OPEN:
        w->open[s] |= w->worker[s] == NO_WORKER;
        break;
    case BIND:
        if (w->open[s] && !(c->hold != VGPU_HOLD_NONE && c->holder == s + 1))
            vgpu_channel_bind(c, s);
        break;
    case UNBIND:
        vgpu_channel_unbind(c, s);
        break;
    case END:
    case DIE:
        if (w->open[s])
            deeds = end(w, s, what == END);
        break;
    case REAPED:
        if (w->worker[s] == LEAVES) {
            w->worker[s] = NO_WORKER;
            deeds = vgpu_channel_worker_gone(c, s + 1);
        }
        break;
    case ENABLE:
    case RESET:
        w->told_current = false;
        deeds = what == ENABLE ? vgpu_channel_enable(c, 1) : vgpu_channel_reset(c, 1);
        c->serial = 0;
        break;
    case RENEW:
        vgpu_channel_renew(c);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(end(w, i, true), 0); /* the new guest hears nothing of it */
        w->told = VGPU_CHANNEL_FREE;
        w->told_current = true;
        break;
    case SERVE:
        if (vgpu_channel_wants_attach(c) && w->worker[c->session] != LEAVES) {
            w->worker[c->session] = RUNS;
            vgpu_channel_attaching(c, c->session + 1);
        }
        break;
    case CANNOT_SERVE:
        if (vgpu_channel_wants_attach(c))
            deeds = vgpu_channel_failed(c, VGPU_CHANNEL_HOST);
        break;
    case SAY_ACTIVE:
        return speak(w, s, VGPU_CHANNEL_ACTIVE, 0);
    case SAY_FATAL:
        return speak(w, s, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_BAD_TAIL);
    case SAY_FREE:
        return speak(w, s, VGPU_CHANNEL_FREE, 0);
    case EVENTS:
        break;
    }
    assert_true(deeds >= 0);
    return deeds;
}

static void check(struct world *w, int deeds)
{
    const struct vgpu_channel *c = &w->c;
    bool held = c->hold != VGPU_HOLD_NONE;
    /* G6: nobody gets it before the one before has let go. */
    if (deeds & ATTACH)
        assert_true(vgpu_channel_wants_attach(c) && !held);
    if (deeds & DETACH)
        assert_int_equal(c->hold, VGPU_HOLD_DETACHING);
    if (deeds & TELL) {
        assert_false(c->freeing); /* who resets hears of nothing else any more */
        w->told = c->state;
        w->told_current = true;
        assert_true((c->state == VGPU_CHANNEL_FATAL) == (c->error != 0));
        /* G3: free is said when no worker touches it, active when one serves it. */
        if (c->state == VGPU_CHANNEL_FREE)
            assert_false(held);
        if (c->state == VGPU_CHANNEL_ACTIVE)
            assert_true(c->hold == VGPU_HOLD_ATTACHED && c->bound && !c->fatal_said);
    }
    /* Nobody waits for what does not come: for a worker, or for the caller. */
    if (c->freeing)
        assert_true(held);
    if (c->enabling && !held)
        assert_true(vgpu_channel_wants_attach(c));
    /* Nothing is left unsaid. */
    if (!c->enabling && !c->freeing)
        assert_true(w->told_current && w->told == c->state);
    if (held)
        assert_int_equal(w->worker[c->holder - 1], c->hold == VGPU_HOLD_LEAVING ? LEAVES : RUNS);
}

static void test_every_order(void **state)
{
    (void)state;
    enum { WORLDS = 20000 };
    struct world *worlds = calloc(WORLDS, sizeof(*worlds));
    assert_non_null(worlds);
    unsigned count = 1;
    worlds[0].told_current = true;
    for (unsigned at = 0; at < count; at++)
        for (unsigned what = 0; what < 2 * EVENTS; what++) {
            struct world w;
            memcpy(&w, &worlds[at], sizeof(w)); /* with what lies between its fields */
            check(&w, happen(&w, what / 2, what % 2));
            /* What says nothing any more makes no other world. */
            if (!w.c.bound)
                w.c.session = 0;
            if (w.c.hold == VGPU_HOLD_NONE || w.c.hold == VGPU_HOLD_LEAVING) {
                w.c.holder = w.c.hold == VGPU_HOLD_NONE ? 0 : w.c.holder;
                w.c.active_owed = w.c.fatal_said = false;
            }
            unsigned i = 0;
            while (i < count && memcmp(&worlds[i], &w, sizeof(w)) != 0)
                i++;
            if (i < count)
                continue;
            assert_true(count < WORLDS);
            memcpy(&worlds[count++], &w, sizeof(w));
        }
    assert_true(count > 200); /* the events do reach something */
    free(worlds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_g3_course),    VGPU_TEST(test_g2_bound_once),
        VGPU_TEST(test_g3_not_bound), VGPU_TEST(test_serials),
        VGPU_TEST(test_g19_fatal),    VGPU_TEST(test_reset_crosses_active),
        VGPU_TEST(test_w7_lies),      VGPU_TEST(test_g6_reaped),
        VGPU_TEST(test_session_lost), VGPU_TEST(test_renewed),
        VGPU_TEST(test_every_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
