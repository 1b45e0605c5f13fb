/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that take long, are asked for again, or are given up: P11 to P13 of docs/protocol.md, W2
 * and W3 of docs/worker.md. The clock is the test's. */
#include <string.h>

#include "rig.h"
#include "vgpu_test.h"

#define MS 1000000ull
#define S  1000000000ull

static void p11_put_off_and_asked_again(void **state)
{
    struct rig *rig = *state;
    struct request q = req_alloc(100);
    fake_hold(rig->backend, FAKE_ALLOC);
    uint64_t first = rig_submit_as(rig, &q, 42);
    assert_true(fake_wait_held(rig->backend));
    assert_int_equal(vgpu_mailbox_deadline(&rig->mailbox), rig->now_ns + 80 * MS);
    rig_advance(rig, 80 * MS - 1);
    assert_null(rig_response(rig, first));
    rig_advance(rig, 1);
    expect_not_ready(rig_response(rig, first));
    assert_int_equal(vgpu_mailbox_deadline(&rig->mailbox), UINT64_MAX);
    /* Again, and 600 again. */
    uint64_t second = rig_submit_as(rig, &q, 42);
    rig_advance(rig, 80 * MS);
    expect_not_ready(rig_response(rig, second));
    /* The answer comes while somebody waits. */
    uint64_t third = rig_submit_as(rig, &q, 42);
    fake_release(rig->backend);
    const struct response *r = rig_wait(rig, third);
    expect_ok(r);
    assert_int_equal(r->exec_time_us, 160000);
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 1); /* done once */
    /* Answered: the same bytes are a new request now. */
    expect_ok(rig_wait(rig, rig_submit_as(rig, &q, 42)));
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 2);
}

/* The answer comes while nobody waits, and is kept. */
static void p11_kept_answer(void **state)
{
    struct rig *rig = *state;
    struct request q = req_alloc(100);
    fake_hold(rig->backend, FAKE_ALLOC);
    uint64_t first = rig_submit_as(rig, &q, 42);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    expect_not_ready(rig_response(rig, first));
    fake_release(rig->backend);
    rig_settle(rig);
    uint64_t again = rig_submit_as(rig, &q, 42);
    const struct response *r = rig_response(rig, again); /* at once */
    assert_non_null(r);
    expect_ok(r);
    expect_ok(rig_call(rig, req_free(result64(r, 0))));
}

/* Another id, other bytes or another length are another request. */
static void p11_only_the_same_attaches(void **state)
{
    struct rig *rig = *state;
    struct request q = req_alloc(100);
    fake_hold(rig->backend, FAKE_ALLOC);
    rig_submit_as(rig, &q, 42);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    struct request other = req_alloc(101), longer = with_length(q, q.length + 4);
    uint64_t a = rig_submit_as(rig, &q, 43), b = rig_submit_as(rig, &other, 42);
    uint64_t c = rig_submit_as(rig, &longer, 42);
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, a));
    expect_ok(rig_wait(rig, b));
    expect_ok(rig_wait(rig, c));
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 4);
    expect_ok(rig_wait(rig, rig_submit_as(rig, &q, 42))); /* the first one's, kept */
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 4);
}

/* The same bytes before 600 was answered are a new request, too. */
static void p11_nothing_to_attach_to_yet(void **state)
{
    struct rig *rig = *state;
    struct request q = req_alloc(100);
    fake_hold(rig->backend, FAKE_ALLOC);
    uint64_t a = rig_submit_as(rig, &q, 42), b = rig_submit_as(rig, &q, 42);
    assert_true(fake_wait_held(rig->backend));
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, a));
    expect_ok(rig_wait(rig, b));
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 2);
}

/* W2: when two ask for the same one, each gets exactly one response. */
static void w2_two_attached(void **state)
{
    struct rig *rig = *state;
    struct request q = req_alloc(100);
    fake_hold(rig->backend, FAKE_ALLOC);
    rig_submit_as(rig, &q, 42);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    uint64_t a = rig_submit_as(rig, &q, 42), b = rig_submit_as(rig, &q, 42);
    expect_not_ready(rig_response(rig, a));
    assert_null(rig_response(rig, b));
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, b));
}

/* P11: a SYNCHRONIZE behind an endless kernel; P22: its answer once the kernel is through. */
static void p22_synchronize_not_yet(void **state)
{
    struct rig *rig = *state;
    uint64_t spin = rig_kernel(rig, rig_load(rig), "spin");
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    assert_true(fake_wait_held(rig->backend));
    struct request q = req_sync();
    for (int i = 0; i < 5; i++) {
        uint64_t seq = rig_submit_as(rig, &q, 42);
        assert_null(rig_response(rig, seq));
        rig_advance(rig, 80 * MS);
        expect_not_ready(rig_response(rig, seq));
    }
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, rig_submit_as(rig, &q, 42)));
}

/* P12: 64 go on; the 65th fails with error 7, without effect. */
static void p12_sixty_fifth(void **state)
{
    struct rig *rig = *state;
    uint64_t seqs[65];
    struct request q = req_alloc(100);
    uint64_t before = fake_free_bytes(rig->backend);
    fake_hold(rig->backend, FAKE_ALLOC);
    for (uint32_t i = 0; i < 64; i++)
        seqs[i] = rig_submit_as(rig, &q, 1000 + i);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    for (uint32_t i = 0; i < 64; i++)
        expect_not_ready(rig_response(rig, seqs[i]));
    seqs[64] = rig_submit_as(rig, &q, 2000);
    assert_null(rig_response(rig, seqs[64])); /* it may yet be quick enough */
    rig_advance(rig, 80 * MS);
    expect_reject(rig_response(rig, seqs[64]), 7);
    /* Those that go on can still be asked for at that moment. */
    uint64_t again = rig_submit_as(rig, &q, 1000);
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, again));
    rig_settle(rig);
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 64);
    for (uint32_t i = 1; i < 64; i++) {
        const struct response *r = rig_wait(rig, rig_submit_as(rig, &q, 1000 + i));
        expect_ok(r);
        expect_ok(rig_call(rig, req_free(result64(r, 0))));
    }
    expect_ok(rig_call(rig, req_free(result64(rig_response(rig, again), 0))));
    assert_int_equal(fake_free_bytes(rig->backend), before);
    /* And there is room again. */
    fake_hold(rig->backend, FAKE_ALLOC);
    uint64_t late = rig_submit_as(rig, &q, 3000);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    expect_not_ready(rig_response(rig, late));
    fake_release(rig->backend);
}

/* P12: kept 60 s, then dropped and freed. */
static void p12_expiry_frees(void **state)
{
    struct rig *rig = *state;
    uint64_t before = fake_free_bytes(rig->backend);
    struct request alloc = req_alloc(100), load = req_load(0, 0, "ok");
    fake_hold(rig->backend, FAKE_ALLOC);
    rig_submit_as(rig, &alloc, 1);
    rig_submit_as(rig, &load, 2);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    rig_advance(rig, 3600 * S); /* what goes on is not dropped, however long it takes */
    fake_release(rig->backend);
    rig_settle(rig);
    assert_true(fake_free_bytes(rig->backend) < before);
    assert_int_equal(fake_modules(rig->backend), 1);
    assert_int_equal(vgpu_mailbox_deadline(&rig->mailbox), rig->now_ns + 60 * S);
    rig_advance(rig, 60 * S - 1);
    rig_settle(rig);
    assert_int_equal(fake_modules(rig->backend), 1);
    rig_advance(rig, 1);
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before);
    assert_int_equal(fake_modules(rig->backend), 0);
    assert_int_equal(vgpu_mailbox_deadline(&rig->mailbox), UINT64_MAX);
    /* Asked for too late: a new request. */
    expect_ok(rig_wait(rig, rig_submit_as(rig, &alloc, 1)));
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), 2);
}

/* P13, W3: CANCEL before the job has started, while it runs, when its answer is kept, and when it
 * was answered; of an allocation and of a module. Memory ends where it began. */
static void cancel_everywhere(struct rig *rig, const struct request *q, enum fake_op op)
{
    uint64_t before = fake_free_bytes(rig->backend);
    /* Before it starts: behind another that is held. */
    fake_hold(rig->backend, op);
    uint64_t holder = rig_submit(rig, q);
    assert_true(fake_wait_held(rig->backend));
    unsigned calls = fake_calls(rig->backend, op);
    uint64_t waiting = rig_submit(rig, q);
    vgpu_mailbox_cancel(&rig->mailbox, waiting);
    /* While it runs. */
    vgpu_mailbox_cancel(&rig->mailbox, holder);
    fake_release(rig->backend);
    rig_settle(rig);
    assert_int_equal(fake_calls(rig->backend, op), calls);
    assert_null(rig_response(rig, waiting)); /* W3: none is owed */
    assert_null(rig_response(rig, holder));
    assert_int_equal(fake_free_bytes(rig->backend), before);
    assert_int_equal(fake_modules(rig->backend), 0);

    /* Put off, and cancelled while it runs. */
    fake_hold(rig->backend, op);
    uint64_t put_off = rig_submit_as(rig, q, 77);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    expect_not_ready(rig_response(rig, put_off));
    vgpu_mailbox_cancel(&rig->mailbox, put_off);
    fake_release(rig->backend);
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before);
    assert_int_equal(fake_modules(rig->backend), 0);

    /* Put off, done, kept. */
    fake_hold(rig->backend, op);
    put_off = rig_submit_as(rig, q, 78);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    fake_release(rig->backend);
    rig_settle(rig);
    assert_true(fake_free_bytes(rig->backend) < before);
    vgpu_mailbox_cancel(&rig->mailbox, put_off);
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before);
    assert_int_equal(fake_modules(rig->backend), 0);
    calls = fake_calls(rig->backend, op);

    /* Put off, asked for again, cancelled while that waits: by the second's number. */
    fake_hold(rig->backend, op);
    rig_submit_as(rig, q, 79);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    uint64_t again = rig_submit_as(rig, q, 79);
    vgpu_mailbox_cancel(&rig->mailbox, again);
    fake_release(rig->backend);
    rig_settle(rig);
    assert_null(rig_response(rig, again));
    assert_int_equal(fake_free_bytes(rig->backend), before);

    /* Answered. */
    uint64_t answered = rig_submit(rig, q);
    expect_ok(rig_wait(rig, answered));
    assert_true(fake_free_bytes(rig->backend) < before);
    vgpu_mailbox_cancel(&rig->mailbox, answered);
    rig_settle(rig);
    unsigned undone = fake_calls(rig->backend, FAKE_FREE) + fake_calls(rig->backend, FAKE_UNLOAD);
    vgpu_mailbox_cancel(&rig->mailbox, answered); /* twice is once */
    rig_settle(rig);
    assert_int_equal(fake_calls(rig->backend, FAKE_FREE) + fake_calls(rig->backend, FAKE_UNLOAD),
                     undone);
    assert_int_equal(fake_free_bytes(rig->backend), before);
    assert_int_equal(fake_modules(rig->backend), 0);

    /* Kept, fetched, cancelled by the number of who fetched it. */
    fake_hold(rig->backend, op);
    rig_submit_as(rig, q, 80);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 80 * MS);
    fake_release(rig->backend);
    rig_settle(rig);
    uint64_t fetched = rig_submit_as(rig, q, 80);
    expect_ok(rig_response(rig, fetched));
    vgpu_mailbox_cancel(&rig->mailbox, fetched);
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before);
}

static void p13_cancel_of_an_allocation(void **state)
{
    struct request q = req_alloc(100);
    cancel_everywhere(*state, &q, FAKE_ALLOC);
}

static void p13_cancel_of_a_module(void **state)
{
    struct request q = req_load(0, 0, "ok");
    cancel_everywhere(*state, &q, FAKE_LOAD);
}

/* The handles of a module that was taken back are gone, too. */
static void p13_cancelled_module_has_no_handles(void **state)
{
    struct rig *rig = *state;
    struct request q = req_load(0, 0, "ok");
    uint64_t seq = rig_submit(rig, &q);
    uint64_t module = result64(rig_wait(rig, seq), 0);
    uint64_t function = rig_kernel(rig, module, "empty");
    vgpu_mailbox_cancel(&rig->mailbox, seq);
    expect_status(rig_call(rig, req_unload(0, module)), 0, 400);
    expect_cuda(rig_call(rig, req_launch(function, NULL, 0)), 400);
    rig_settle(rig);
    assert_int_equal(fake_modules(rig->backend), 0);
}

/* W3: of the last 16, and no more. */
static void w3_sixteen_back(void **state)
{
    struct rig *rig = *state;
    uint64_t before = fake_free_bytes(rig->backend);
    struct request q = req_alloc(100);
    uint64_t oldest = rig_submit(rig, &q);
    expect_ok(rig_wait(rig, oldest));
    uint64_t old = rig_submit(rig, &q);
    expect_ok(rig_wait(rig, old));
    for (int i = 0; i < 15; i++)
        expect_ok(rig_call(rig, req_nop()));
    vgpu_mailbox_cancel(&rig->mailbox, oldest); /* the 17th: too long ago */
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before - 200);
    vgpu_mailbox_cancel(&rig->mailbox, old); /* the 16th */
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before - 100);
    vgpu_mailbox_cancel(&rig->mailbox, 0);
    vgpu_mailbox_cancel(&rig->mailbox, UINT64_MAX);
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before - 100);
}

/* P13: a launch or copy that has not started is not started; an unload goes on, for its handle is
 * gone. */
static void p13_cancel_of_what_has_not_started(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), a = rig_alloc(rig, 64);
    fake_hold(rig->backend, FAKE_HTOD);
    struct request q = req_htod(a, "first", 5);
    uint64_t first = rig_submit(rig, &q);
    assert_true(fake_wait_held(rig->backend));
    q = req_htod(a, "never", 5);
    uint64_t second = rig_submit(rig, &q);
    q = req_free(a);
    uint64_t third = rig_submit(rig, &q);
    q = req_unload(0, module);
    uint64_t fourth = rig_submit(rig, &q);
    vgpu_mailbox_cancel(&rig->mailbox, second);
    vgpu_mailbox_cancel(&rig->mailbox, third);
    vgpu_mailbox_cancel(&rig->mailbox, fourth);
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, first));
    const struct response *r = rig_call(rig, req_dtoh(a, 5));
    expect_ok(r);
    assert_memory_equal(r->data, "first", 5);
    assert_int_equal(fake_modules(rig->backend), 0);
    assert_null(rig_response(rig, fourth));
}

/* P13, P19: a launch that waits for room and is given up never runs, and gives its turn away. */
static void p13_cancel_while_waiting_for_room(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), spin = rig_kernel(rig, module, "spin");
    uint64_t empty = rig_kernel(rig, module, "empty");
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    assert_true(fake_wait_held(rig->backend));
    struct request q = req_launch(empty, NULL, 0);
    for (int i = 0; i < 256; i++)
        expect_ok(rig_response(rig, rig_submit(rig, &q)));
    uint64_t a = rig_submit(rig, &q), b = rig_submit(rig, &q);
    assert_null(rig_response(rig, a));
    vgpu_mailbox_cancel(&rig->mailbox, a);
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, b));
    expect_ok(rig_call(rig, req_sync()));
    assert_null(rig_response(rig, a));
    assert_int_equal(fake_calls(rig->backend, FAKE_LAUNCH), 258);
}

/* P10, P13: a deferred error whose report reached nobody is reported again. */
static void p10_lost_report(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_call(rig, async(req_free(1)))->length, 0);
    struct request q = req_sync();
    uint64_t seq = rig_submit(rig, &q);
    expect_cuda(rig_wait(rig, seq), 1);
    vgpu_mailbox_cancel(&rig->mailbox, seq);
    expect_cuda(rig_call(rig, req_sync()), 1);
    expect_ok(rig_call(rig, req_sync()));
    /* While it runs. */
    assert_int_equal(rig_call(rig, async(req_free(1)))->length, 0);
    fake_hold(rig->backend, FAKE_SYNC);
    seq = rig_submit(rig, &q);
    assert_true(fake_wait_held(rig->backend));
    vgpu_mailbox_cancel(&rig->mailbox, seq);
    fake_release(rig->backend);
    rig_settle(rig);
    expect_cuda(rig_call(rig, req_sync()), 1);
    expect_ok(rig_call(rig, req_sync()));
}

/* However fast somebody submits and gives up, what waits is bounded: then error 7. */
static void queue_is_bounded(void **state)
{
    struct rig *rig = *state;
    fake_hold(rig->backend, FAKE_ALLOC);
    struct request q = req_alloc(1);
    rig_submit(rig, &q);
    assert_true(fake_wait_held(rig->backend));
    for (int i = 0; i < 512; i++)
        assert_null(rig_response(rig, rig_submit(rig, &q)));
    expect_reject(rig_response(rig, rig_submit(rig, &q)), 7);
    expect_ok(rig_call(rig, req_nop())); /* needs no place */
    /* Nothing was done for what was refused: a stage is still there. */
    expect_ok(rig_call(rig, req_stage(0, 1, 2, 0, "ok", 2)));
    struct request load = req_load(0, 1, NULL);
    expect_reject(rig_response(rig, rig_submit(rig, &load)), 7);
    expect_ok(rig_call(rig, req_stage_drop(0, 1)));
    fake_release(rig->backend);
}

/* Staged images that wait to be loaded hold up to 64 MiB each: four of them, then error 7, and the
 * stage stays. Given up, they make room at once. */
static void staged_images_are_bounded(void **state)
{
    struct rig *rig = *state;
    uint64_t seqs[4];
    struct request load = req_load(0, 1, NULL), alloc = req_alloc(1);
    fake_hold(rig->backend, FAKE_ALLOC);
    rig_submit(rig, &alloc);
    assert_true(fake_wait_held(rig->backend));
    for (int i = 0; i < 4; i++) {
        expect_ok(rig_call(rig, req_stage(0, 1, 2, 0, "ok", 2)));
        seqs[i] = rig_submit(rig, &load);
        assert_null(rig_response(rig, seqs[i]));
    }
    expect_ok(rig_call(rig, req_stage(0, 1, 2, 0, "ok", 2)));
    expect_reject(rig_response(rig, rig_submit(rig, &load)), 7);
    vgpu_mailbox_cancel(&rig->mailbox, seqs[0]);
    uint64_t last = rig_submit(rig, &load);
    assert_null(rig_response(rig, last));
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, last));
    assert_int_equal(fake_modules(rig->backend), 4);
    for (int i = 0; i < 6; i++) { /* and when they are loaded */
        expect_ok(rig_call(rig, req_stage(0, 1, 2, 0, "ok", 2)));
        expect_ok(rig_call(rig, load));
    }
}

/* Everything at once, cancelled at once: only what ran is there, and it is undone. */
static void p13_cancel_of_many(void **state)
{
    struct rig *rig = *state;
    uint64_t before = fake_free_bytes(rig->backend), seqs[60];
    struct request alloc = req_alloc(10), load = req_load(0, 0, "ok");
    for (int i = 0; i < 60; i++)
        seqs[i] = rig_submit(rig, i % 2 ? &alloc : &load);
    for (int i = 0; i < 60; i++)
        vgpu_mailbox_cancel(&rig->mailbox, seqs[i]);
    rig_settle(rig);
    rig_settle(rig);
    assert_int_equal(fake_free_bytes(rig->backend), before);
    assert_int_equal(fake_modules(rig->backend), 0);
}

#define T(f) VGPU_TEST_F(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(p11_put_off_and_asked_again),
        T(p11_kept_answer),
        T(p11_only_the_same_attaches),
        T(p11_nothing_to_attach_to_yet),
        T(w2_two_attached),
        T(p22_synchronize_not_yet),
        T(p12_sixty_fifth),
        T(p12_expiry_frees),
        T(p13_cancel_of_an_allocation),
        T(p13_cancel_of_a_module),
        T(p13_cancelled_module_has_no_handles),
        T(w3_sixteen_back),
        T(p13_cancel_of_what_has_not_started),
        T(p13_cancel_while_waiting_for_room),
        T(p10_lost_report),
        T(queue_is_bounded),
        T(staged_images_are_bounded),
        T(p13_cancel_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
