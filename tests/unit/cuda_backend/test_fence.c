/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fences of the backend `cuda` (backend/driver.h, struct vgpu_fence_ops): a mark passes when what a
 * synchronization at its time would wait for is done; not before, and not later either. */
#include <stdlib.h>

#include "fake_gpu.h"
#include "stream.h"
#include "vgpu_test.h"

struct rig {
    struct vgpu_backend *b;
    struct vgpu_driver *d;
    const struct vgpu_driver_ops *o;
    const struct vgpu_fence_ops *f;
    struct vgpu_driver_context *c;
};

enum { BLOCKING = 0, NON_BLOCKING = 1 };

#define OK(call) assert_int_equal((call), CUDA_SUCCESS)

static int set_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->b = fake_open();
    r->d = vgpu_backend_cuda.driver(r->b);
    r->o = r->d->ops;
    r->f = r->d->fences;
    OK(r->o->primary_retain(r->d, &r->c, 0));
    OK(r->o->context_use(r->d, r->c));
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    fake.broken = CUDA_SUCCESS;
    fake_close(r->b);
    free(r);
    return 0;
}

static struct vgpu_driver_stream *stream(struct rig *r, uint32_t flags)
{
    struct vgpu_driver_stream *s = NULL;
    OK(r->o->stream_create(r->d, &s, flags, 0));
    return s;
}

static struct vgpu_driver_event *event(struct rig *r)
{
    struct vgpu_driver_event *e = NULL;
    OK(r->o->event_create(r->d, &e, 0));
    return e;
}

static struct vgpu_driver_fence *mark_stream(struct rig *r, struct vgpu_driver_stream *s)
{
    struct vgpu_driver_fence *f = NULL;
    OK(r->f->mark_stream(r->d, s, &f));
    return f;
}

static struct vgpu_driver_fence *mark_context(struct rig *r)
{
    struct vgpu_driver_fence *f = NULL;
    OK(r->f->mark_context(r->d, &f));
    return f;
}

static void expect_waiting(struct rig *r, struct vgpu_driver_fence *f)
{
    assert_non_null(f);
    assert_int_equal(r->f->query(r->d, f), CUDA_ERROR_NOT_READY);
}

static void expect_passed(struct rig *r, struct vgpu_driver_fence *f)
{
    OK(r->f->query(r->d, f));
    OK(r->f->query(r->d, f)); /* for good */
    r->f->end(r->d, f);
}

static void test_nothing_to_wait_for(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    struct vgpu_driver_event *e = event(r);
    struct vgpu_driver_fence *f = (void *)1;
    assert_null(mark_stream(r, s));
    assert_null(mark_stream(r, NULL));
    assert_null(mark_context(r));
    OK(r->f->mark_event(r->d, e, &f)); /* never recorded */
    assert_null(f);
    fake_work(r->b, s);
    assert_true(fake_finish(s));
    assert_null(mark_stream(r, s));
    assert_null(mark_context(r));
}

/* Launch, wait, launch, wait: no event goes through the card for that. */
static void test_the_common_case_costs_no_event(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    for (int i = 0; i < 100; i++) {
        fake_work(r->b, s);
        struct vgpu_driver_fence *f = i & 1 ? mark_context(r) : mark_stream(r, s);
        expect_waiting(r, f);
        assert_true(fake_finish(s));
        unsigned before = fake.queries;
        OK(r->f->query(r->d, f));
        assert_int_equal(fake.queries, before + 1);
        expect_passed(r, f);
    }
    assert_int_equal(fake.records, 0);
    assert_int_equal(fake.events, 0);
}

static void test_what_comes_behind_does_not_matter(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    struct vgpu_driver_fence *f[3];
    for (int i = 0; i < 3; i++) {
        fake_work(r->b, s);
        f[i] = mark_stream(r, s);
    }
    struct vgpu_driver_fence *same = mark_stream(r, s);
    fake_work(r->b, s);
    for (int i = 0; i < 3; i++) {
        expect_waiting(r, f[i]);
        assert_true(fake_finish(s));
        expect_passed(r, f[i]);
    }
    expect_passed(r, same);
    assert_int_equal(r->o->stream_query(r->d, s, &(uint32_t){0}), CUDA_SUCCESS);
    assert_true(fake.records <= 3);
}

/* The default stream and blocking ones are ordered with each other; others are not. */
static void test_the_default_stream(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *blocking = stream(r, BLOCKING), *free_one = stream(r, NON_BLOCKING);
    fake_work(r->b, free_one);
    assert_null(mark_stream(r, NULL));
    fake_work(r->b, blocking);
    struct vgpu_driver_fence *f = mark_stream(r, NULL);
    expect_waiting(r, f);
    fake_work(r->b, blocking); /* behind the mark */
    assert_true(fake_finish(blocking));
    expect_passed(r, f);
    /* And the other way round. */
    struct vgpu_driver_fence *g = mark_stream(r, blocking);
    fake_work(r->b, NULL);
    expect_waiting(r, g);
    assert_true(fake_finish(blocking));
    expect_passed(r, g);
    assert_null(mark_stream(r, blocking));
    assert_non_null(f = mark_stream(r, NULL));
    fake_finish_default(r->c->cuda);
    expect_passed(r, f);
    assert_true(fake_finish(free_one));
}

/* A mark that goes to the default stream comes between a blocking stream and what it gets later:
 * the blocking one's fences have theirs before. */
static void test_a_mark_on_the_default_stream(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, BLOCKING), *t = stream(r, BLOCKING);
    fake_work(r->b, s);
    fake_work(r->b, t);
    struct vgpu_driver_fence *of_all = mark_stream(r, NULL), *of_s = mark_stream(r, s);
    fake_work(r->b, t); /* of_all is marked */
    fake_work(r->b, s); /* of_s would be */
    expect_waiting(r, of_s);
    assert_true(fake_finish(s));
    expect_passed(r, of_s);
    expect_waiting(r, of_all);
    assert_true(fake_finish(t));
    expect_passed(r, of_all);
}

/* The record that a synchronization would have waited for, whatever becomes of the event. */
static void test_events(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    struct vgpu_driver_event *e = event(r);
    struct vgpu_driver_fence *f = NULL, *g = NULL, *h = NULL;
    uint32_t answer;
    fake_work(r->b, s);
    OK(r->o->event_record(r->d, e, s, 0));
    OK(r->f->mark_event(r->d, e, &f));
    OK(r->f->mark_event(r->d, e, &g));
    fake_work(r->b, s);
    OK(r->o->event_record(r->d, e, s, 0)); /* once more: not the fences' record */
    OK(r->f->mark_event(r->d, e, &h));
    expect_waiting(r, f);
    assert_true(fake_finish(s));
    expect_passed(r, f);
    expect_passed(r, g);
    expect_waiting(r, h);
    OK(r->o->event_query(r->d, e, &answer));
    assert_int_equal(answer, CUDA_ERROR_NOT_READY);
    OK(r->o->event_destroy(r->d, e));
    expect_waiting(r, h);
    assert_true(fake_finish(s));
    expect_passed(r, h);
    assert_int_equal(fake.events, 0);
}

static void test_a_record_that_fails(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    struct vgpu_driver_event *e = event(r);
    struct vgpu_driver_fence *f = NULL;
    fake_work(r->b, s);
    OK(r->o->event_record(r->d, e, s, 0));
    OK(r->f->mark_event(r->d, e, &f));
    fake.broken = CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_int_equal(r->o->event_record(r->d, e, s, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_int_equal(r->f->query(r->d, f), CUDA_ERROR_ILLEGAL_ADDRESS);
    fake.broken = CUDA_SUCCESS;
    assert_int_equal(r->f->query(r->d, f), CUDA_ERROR_ILLEGAL_ADDRESS); /* for good */
    r->f->end(r->d, f);
    assert_int_equal(fake.events, 1);
}

/* Of a context, by numbers of streams: asked one by one, or joined. */
static void test_contexts(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s[6];
    for (unsigned i = 0; i < 6; i++)
        s[i] = stream(r, i & 1 ? NON_BLOCKING : BLOCKING);
    for (unsigned n = 1; n <= 6; n++) {
        for (unsigned i = 0; i < n; i++)
            fake_work(r->b, s[i]);
        struct vgpu_driver_fence *f = mark_context(r);
        for (unsigned i = 0; i < n; i++)
            fake_work(r->b, s[i]); /* behind it */
        for (unsigned i = 0; i < n; i++) {
            expect_waiting(r, f);
            assert_true(fake_finish(s[i]));
        }
        expect_passed(r, f);
        fake_finish_all();
        assert_null(mark_context(r));
    }
    assert_true(fake.events <= CUDA_SPARE_MARKS_MAX);
}

/* A stream that was destroyed has work all the same; a thousand take no more than a few. */
static void test_streams_that_are_gone(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 40; i++) {
        struct vgpu_driver_stream *s = stream(r, i & 1 ? NON_BLOCKING : BLOCKING);
        fake_work(r->b, s);
        OK(r->o->stream_destroy(r->d, s));
    }
    assert_int_equal(fake.streams, 1);
    assert_true(fake.events <= 2);
    struct vgpu_driver_fence *f = mark_context(r);
    expect_waiting(r, f);
    fake_finish_all();
    expect_passed(r, f);
    /* The fence of a stream that goes. */
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    fake_work(r->b, s);
    f = mark_stream(r, s);
    OK(r->o->stream_destroy(r->d, s));
    expect_waiting(r, f);
    fake_finish_all();
    expect_passed(r, f);
    for (int i = 0; i < 1000; i++) {
        s = stream(r, NON_BLOCKING);
        fake_work(r->b, s);
        OK(r->o->stream_destroy(r->d, s));
        fake_finish_all();
    }
    assert_int_equal(fake.streams, 1);
    assert_true(fake.events <= 2);
}

static void test_waiting(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    struct vgpu_driver_event *e = event(r);
    struct vgpu_driver_fence *f[4];
    fake_work(r->b, s);
    OK(r->o->event_record(r->d, e, s, 0));
    OK(r->f->mark_event(r->d, e, &f[0]));
    f[1] = mark_stream(r, s);
    fake_work(r->b, s);
    f[2] = mark_stream(r, s);
    f[3] = mark_context(r);
    for (int i = 0; i < 4; i++) {
        assert_non_null(f[i]);
        OK(r->f->wait(r->d, f[i]));
        expect_passed(r, f[i]);
    }
    assert_null(mark_stream(r, s));
}

/* Ended before they pass: nothing of them is left in the way. */
static void test_ended_early(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    for (int i = 0; i < 200; i++) {
        fake_work(r->b, s);
        struct vgpu_driver_fence *f = mark_stream(r, s);
        if (i & 1)
            fake_work(r->b, s);
        r->f->end(r->d, f);
    }
    assert_true(fake.events <= 1);
    assert_int_equal(r->c->streams.parts, 0);
    fake_finish_all();
}

static void test_sticky_errors(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    struct vgpu_driver_fence *f, *g, *none = (void *)1;
    fake_work(r->b, s);
    f = mark_stream(r, s);
    g = mark_stream(r, s);
    fake.broken = CUDA_ERROR_LAUNCH_FAILED;
    fake_work(r->b, s); /* g gets no mark any more */
    assert_int_equal(r->f->query(r->d, f), CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(r->f->wait(r->d, g), CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(r->f->mark_stream(r->d, s, &none), CUDA_ERROR_LAUNCH_FAILED);
    assert_null(none);
    assert_int_equal(r->f->mark_context(r->d, &none), CUDA_ERROR_LAUNCH_FAILED);
    assert_null(none);
    r->f->end(r->d, f);
    r->f->end(r->d, g);
    /* With nothing in flight the context still tells. */
    fake.broken = CUDA_SUCCESS;
    fake_finish_all();
    assert_null(mark_context(r));
    fake.broken = CUDA_ERROR_LAUNCH_FAILED;
    assert_int_equal(r->f->mark_context(r->d, &none), CUDA_ERROR_LAUNCH_FAILED);
}

/* A fence is asked whatever context is current, and the next call finds its own. */
static void test_two_contexts(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_context *other;
    fake_work(r->b, NULL);
    struct vgpu_driver_fence *f = mark_stream(r, NULL);
    OK(r->o->context_create(r->d, &other, 0));
    OK(r->o->context_use(r->d, other));
    fake_work(r->b, NULL);
    struct vgpu_driver_fence *g = mark_context(r);
    expect_waiting(r, f);
    OK(r->o->context_use(r->d, other));
    fake_work(r->b, NULL);
    fake_finish_default(r->c->cuda);
    expect_passed(r, f);
    expect_waiting(r, g);
    fake_finish_default(other->cuda);
    expect_passed(r, g);
    OK(r->o->context_use(r->d, other));
    g = mark_context(r);
    struct vgpu_driver_event *e = event(r);
    OK(r->o->event_record(r->d, e, NULL, 0));
    OK(r->f->mark_event(r->d, e, &f));
    /* Not what the contract allows, and no reason to fall over: the fences are lost. */
    OK(r->o->context_destroy(r->d, other));
    assert_int_equal(r->f->query(r->d, f), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    assert_int_equal(r->f->wait(r->d, g), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    r->f->end(r->d, f);
    r->f->end(r->d, g);
    OK(r->o->context_use(r->d, r->c));
    assert_null(mark_context(r));
}

/* The primary context is as many names' as retained it. */
static void test_the_primary_context_has_many_names(void **state)
{
    struct rig *r = *state;
    struct vgpu_driver_context *again;
    OK(r->o->primary_retain(r->d, &again, 0));
    assert_ptr_equal(again, r->c);
    struct vgpu_driver_stream *s = stream(r, NON_BLOCKING);
    OK(r->o->context_destroy(r->d, again));
    OK(r->o->context_use(r->d, r->c));
    fake_work(r->b, s);
    assert_true(fake_finish(s));
    OK(r->o->context_destroy(r->d, r->c));
    assert_int_equal(fake.contexts, 0);
}

/*
 * Many operations, and many fences at a time, each compared with what it has to wait for, and with
 * what it waits for at most: the mark of a stream that is ordered with the default one is behind
 * what that one was given before, too.
 */
static void test_at_random(void **state)
{
    enum { STREAMS = 6, EVENTS = 3, FENCES = 12, STEPS = 6000 };
    struct rig *r = *state;
    struct vgpu_driver_stream *s[STREAMS + 1]; /* the last: the default one */
    struct vgpu_driver_event *e[EVENTS];
    struct {
        struct vgpu_driver_fence *fence;
        struct fake_snapshot wants, most;
    } held[FENCES] = {{NULL, {{0}}, {{0}}}};
    unsigned passed = 0;
    srand(7);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < STREAMS; i++)
            s[i] = stream(r, i & 1 ? NON_BLOCKING : BLOCKING);
        s[STREAMS] = NULL;
        for (int i = 0; i < EVENTS; i++)
            e[i] = event(r);
        for (int step = 0; step < STEPS / 4; step++) {
            int what = rand() % 12, k = rand() % FENCES;
            struct vgpu_driver_stream *on = s[rand() % (STREAMS + 1)];
            struct vgpu_driver_event *ev = e[rand() % EVENTS];
            if (what < 3) {
                fake_work(r->b, on);
            } else if (what < 7) {
                if (on)
                    (void)fake_finish(on);
                else
                    fake_finish_default(r->c->cuda);
            } else if (what == 7) {
                OK(r->o->event_record(r->d, ev, on, 0));
            } else if (what == 8) {
                OK(r->o->stream_wait_event(r->d, on, ev, 0));
            } else if (!held[k].fence) {
                held[k].wants = what == 9    ? fake_snapshot_stream(on)
                                : what == 10 ? fake_snapshot_context(r->c->cuda)
                                             : fake_snapshot_event(ev->mark->cuda);
                held[k].most = what == 9 && (!on || on->blocking)
                                   ? fake_snapshot_context(r->c->cuda)
                                   : held[k].wants;
                if (what == 9)
                    held[k].fence = mark_stream(r, on);
                else if (what == 10)
                    held[k].fence = mark_context(r);
                else
                    OK(r->f->mark_event(r->d, ev, &held[k].fence));
                assert_int_equal(!held[k].fence, fake_passed(&held[k].wants));
            }
            for (k = 0; k < FENCES; k++) {
                if (!held[k].fence || rand() % 3)
                    continue;
                CUresult got = r->f->query(r->d, held[k].fence);
                if (got == CUDA_SUCCESS)
                    assert_true(fake_passed(&held[k].wants));
                else
                    assert_false(fake_passed(&held[k].most));
                if (got == CUDA_SUCCESS) {
                    r->f->end(r->d, held[k].fence);
                    held[k].fence = NULL;
                    passed++;
                }
            }
        }
        for (int i = 0; i < STREAMS; i++)
            OK(r->o->stream_destroy(r->d, s[i]));
        for (int i = 0; i < EVENTS; i++)
            OK(r->o->event_destroy(r->d, e[i]));
        fake_finish_all();
    }
    for (int k = 0; k < FENCES; k++) {
        if (held[k].fence)
            expect_passed(r, held[k].fence);
    }
    assert_true(passed > 200);
    assert_int_equal(r->c->streams.parts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_nothing_to_wait_for, set_up, tear_down),
        VGPU_TEST_F(test_the_common_case_costs_no_event, set_up, tear_down),
        VGPU_TEST_F(test_what_comes_behind_does_not_matter, set_up, tear_down),
        VGPU_TEST_F(test_the_default_stream, set_up, tear_down),
        VGPU_TEST_F(test_a_mark_on_the_default_stream, set_up, tear_down),
        VGPU_TEST_F(test_events, set_up, tear_down),
        VGPU_TEST_F(test_a_record_that_fails, set_up, tear_down),
        VGPU_TEST_F(test_contexts, set_up, tear_down),
        VGPU_TEST_F(test_streams_that_are_gone, set_up, tear_down),
        VGPU_TEST_F(test_waiting, set_up, tear_down),
        VGPU_TEST_F(test_ended_early, set_up, tear_down),
        VGPU_TEST_F(test_sticky_errors, set_up, tear_down),
        VGPU_TEST_F(test_two_contexts, set_up, tear_down),
        VGPU_TEST_F(test_the_primary_context_has_many_names, set_up, tear_down),
        VGPU_TEST_F(test_at_random, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
