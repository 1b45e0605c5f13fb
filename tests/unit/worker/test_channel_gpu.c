/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel on a GPU that takes its time (fake_gpu.h): calls that wait hold nothing up, launches in
 * flight are bounded, and whatever ends something waits for what it concerns.
 */
#define _GNU_SOURCE /* memmem */
#include <string.h>
#include <unistd.h>

#include "channel_rig.h"
#include "fake_gpu.h"
#include "vgpu_test.h"

static const struct answer_place nowhere = {0, 0};

static void launch(struct channel_rig *r)
{
    POST(r, LAUNCH, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0);
}

static void wait_launched(uint64_t count)
{
    for (unsigned i = 0; fake_gpu_launched() < count; i++) {
        assert_true(i < 100000);
        usleep(100);
    }
}

/* What is known of the fake GPU's kernels is how fast they come, which is slow under a sanitizer.
 */
#define FULL_LEAST 32u

static void wait_full(uint64_t before)
{
    wait_launched(before + FULL_LEAST);
}

/* Kernels that take no time: from now on as many as there can be are let in at once. */
static void warm_up(struct channel_rig *r)
{
    for (unsigned i = 0; i < 3000; i++)
        launch(r);
    guest_expect(guest_synchronize(r), 0);
}

/* A launch that is in flight until the test says so. */
static void start(struct channel_rig *r)
{
    uint64_t before = fake_gpu_launched();
    fake_gpu_hold(true);
    launch(r);
    wait_launched(before + 1);
}

static int prepare(void **state)
{
    struct channel_rig *r = *state;
    guest_load(r);
    POST(r, STREAM_CREATE, 5, 0, 0);
    POST(r, EVENT_CREATE, 6, 0);
    return 0;
}

static int setup(void **state)
{
    return channel_setup_gpu(state) ? -1 : prepare(state);
}

static int setup_queue(void **state)
{
    return channel_setup_gpu_queue(state) ? -1 : prepare(state);
}

static int teardown(void **state)
{
    fake_gpu_block(false);
    fake_gpu_hold(false);
    return channel_teardown(state);
}

static void synchronizing_calls_hold_nothing_up(void **state)
{
    struct channel_rig *r = *state;
    uint64_t waits = fake_gpu_waits();
    start(r);
    uint32_t tokens[] = {
        guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0),
        BEGIN(r, STREAM_SYNCHRONIZE, 5),
        BEGIN(r, STREAM_SYNCHRONIZE, 0),
        BEGIN(r, EVENT_SYNCHRONIZE, 6),
    };
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    for (unsigned i = 0; i < 200; i++)
        guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    guest_expect(DO(r, CUMEMGETINFO_V2, 0), 0);
    POST(r, MEMORY_FREE, address);
    guest_expect_silence(r, 5);
    fake_gpu_finish(1);
    unsigned seen = 0;
    for (unsigned i = 0; i < 4; i++) {
        struct vgpu_ring_completion c = guest_take(r);
        assert_int_equal(c.status, 0);
        for (unsigned k = 0; k < 4; k++)
            seen |= (c.token == tokens[k]) << k;
    }
    assert_int_equal(seen, 15);
    assert_int_equal(fake_gpu_waits(), waits);
    assert_int_equal(fake_gpu_fences(), 0);
}

static void copies_to_the_host_are_begun_too(void **state)
{
    struct channel_rig *r = *state;
    uint8_t bytes[960];
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i / 8);
    guest_call(r, VGPU_CALL_COPY_TO_DEVICE, false, SLOTS(address, 0, 0), bytes, sizeof(bytes));
    guest_expect(guest_synchronize(r), 0);
    start(r);
    /* More than there are places for at once: the rest waits in the ring. Each has bytes of its
     * own. */
    const unsigned copies = 100;
    uint32_t first = r->token + 1;
    for (unsigned i = 0; i < copies; i++)
        BEGIN(r, COPY_FROM_DEVICE, address + 8ull * i, 8 + i % 8, 0);
    guest_expect_silence(r, 5);
    fake_gpu_hold(false);
    for (unsigned i = 0; i < copies; i++) {
        struct vgpu_ring_completion c = guest_take(r);
        unsigned which = c.token - first;
        assert_true(which < copies);
        assert_int_equal(c.status, 0);
        assert_int_equal(c.length, 8 + which % 8);
        assert_memory_equal(c.bytes, bytes + 8ull * which, c.length);
    }
    /* As large as it gets. */
    start(r);
    uint64_t context = CHANNEL_CONTEXT, slots[] = {address, 960, 0};
    const struct vgpu_ring_part parts[] = {PART(&context, 8), PART(slots, 24)};
    guest_write(r, VGPU_CALL_COPY_FROM_DEVICE, true, (struct answer_place){7, 15}, parts, 2);
    guest_publish(r);
    guest_expect_silence(r, 2);
    fake_gpu_hold(false);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.length, 960);
    assert_memory_equal(r->channel + VGPU_CHANNEL_ANSWERS + 7 * 64, bytes, 960);
    guest_expect(DO(r, COPY_FROM_DEVICE, address, 961, 0), CUDA_ERROR_INVALID_VALUE);
    guest_expect(DO(r, COPY_FROM_DEVICE, 1234, 4, 0), CUDA_ERROR_INVALID_VALUE);
}

static void what_is_begun_is_checked(void **state)
{
    struct channel_rig *r = *state;
    start(r);
    guest_expect(DO(r, STREAM_SYNCHRONIZE, 99), CUDA_ERROR_INVALID_HANDLE);
    guest_expect(DO(r, EVENT_SYNCHRONIZE, 99), CUDA_ERROR_INVALID_HANDLE);
    guest_expect(DO(r, COPY_FROM_DEVICE, 4096, 4, 99), CUDA_ERROR_INVALID_HANDLE);
    guest_expect(DO(r, COPY_FROM_DEVICE, 4096, UINT64_MAX, 0), CUDA_ERROR_INVALID_VALUE);
    uint64_t context = 0xbad;
    guest_expect(guest_record(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, &context, 8),
                 CUDA_ERROR_INVALID_CONTEXT);
    /* P30: the deferred error comes at once, and nothing is waited for. */
    POST(r, MEMORY_FREE, 12345);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
}

static void at_most_256_launches_are_in_flight(void **state)
{
    struct channel_rig *r = *state;
    warm_up(r);
    uint64_t before = fake_gpu_launched();
    fake_gpu_hold(true);
    for (unsigned i = 0; i < 2000; i++) {
        launch(r);
        if (i == 700) { /* far more than may be, in the ring */
            wait_full(before);
            usleep(5000);
            assert_in_range(fake_gpu_launched() - before, FULL_LEAST, 256);
            fake_gpu_hold(false);
        }
    }
    guest_expect(guest_synchronize(r), 0);
    assert_int_equal(fake_gpu_launched() - before, 2000);
    assert_true(fake_gpu_most_in_flight() <= 256);
}

/* W19: a tenant's limit on what may wait bounds its launches in flight, too; the ring is not kept
 * from filling up. */
static void w19_fewer_launches_are_in_flight(void **state)
{
    struct channel_rig *r = *state;
    warm_up(r);
    uint64_t before = fake_gpu_launched();
    fake_gpu_hold(true);
    for (unsigned i = 0; i < 300; i++)
        launch(r);
    wait_launched(before + CHANNEL_QUEUE - 2);
    usleep(5000);
    assert_in_range(fake_gpu_launched() - before, CHANNEL_QUEUE - 2, CHANNEL_QUEUE);
    fake_gpu_hold(false);
    guest_expect(guest_synchronize(r), 0);
    assert_int_equal(fake_gpu_launched() - before, 300);
}

/* W16: of kernels that take long only few wait in the GPU's queue, or a lease could not come back
 * soon; and many again once they are short. */
static void w16_long_kernels_are_few_in_flight(void **state)
{
    struct channel_rig *r = *state;
    warm_up(r);
    uint64_t before = fake_gpu_launched(), finished = 0;
    fake_gpu_hold(true);
    for (unsigned i = 0; i < 500; i++)
        launch(r);
    wait_full(before);
    while (finished <
           300) { /* those of the first burst quickly, then never sooner than 2 ms each */
        usleep(finished < 256 ? 100 : 2000);
        if (fake_gpu_launched() - before <= finished)
            continue; /* there is none to finish */
        fake_gpu_finish(1);
        finished++;
    }
    wait_launched(before + finished + 1);
    usleep(20000);
    assert_in_range(fake_gpu_launched() - before - finished, 1, 4);
    fake_gpu_hold(false);
    guest_expect(guest_synchronize(r), 0);
    for (unsigned i = 0; i < 1000; i++)
        launch(r);
    guest_expect(guest_synchronize(r), 0);
    before = fake_gpu_launched();
    fake_gpu_hold(true);
    for (unsigned i = 0; i < 300; i++)
        launch(r);
    wait_full(before);
    fake_gpu_hold(false);
    guest_expect(guest_synchronize(r), 0);
}

static void launches_are_counted_in_all_contexts(void **state)
{
    struct channel_rig *r = *state;
    warm_up(r);
    guest_expect(DO(r, CONTEXT_CREATE, 0x2222, 0), 0);
    const uint64_t contexts[] = {CHANNEL_CONTEXT, 0x2222};
    uint64_t before = fake_gpu_launched();
    uint64_t slots[] = {1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0};
    fake_gpu_hold(true);
    for (unsigned i = 0; i < 300; i++) {
        const struct vgpu_ring_part parts[] = {PART(&contexts[i % 2], 8),
                                               PART(slots, sizeof(slots))};
        guest_write(r, VGPU_CALL_LAUNCH, false, nowhere, parts, 2);
        guest_publish(r);
    }
    wait_full(before);
    usleep(5000);
    assert_in_range(fake_gpu_launched() - before, FULL_LEAST, 256);
    fake_gpu_hold(false);
    guest_expect(guest_synchronize(r), 0);
    assert_int_equal(fake_gpu_launched() - before, 300);
}

static void a_context_ends_when_what_waits_in_it_is_answered(void **state)
{
    struct channel_rig *r = *state;
    for (unsigned i = 0; i < 70; i++)
        launch(r);
    start(r);
    uint32_t sync = guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0);
    uint32_t end = BEGIN(r, CONTEXT_DESTROY, CHANNEL_CONTEXT);
    guest_expect_silence(r, 10);
    fake_gpu_hold(false);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, sync);
    assert_int_equal(c.status, 0);
    c = guest_take(r);
    assert_int_equal(c.token, end);
    assert_int_equal(c.status, 0);
    assert_int_equal(fake_gpu_fences(), 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_CONTEXT);
}

static void a_fault_answers_everything_that_waits(void **state)
{
    struct channel_rig *r = *state;
    start(r);
    for (unsigned i = 0; i < 100; i++)
        (void)guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0);
    guest_expect_silence(r, 5);
    fake_gpu_fail(CUDA_ERROR_ILLEGAL_ADDRESS);
    fake_gpu_finish(1);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(guest_take(r).status, CUDA_ERROR_ILLEGAL_ADDRESS);
    struct guest_answer a = DO(r, MEMORY_ALLOC, 4096);
    guest_expect(a, CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_non_null(memmem(a.bytes, a.length, "lost", 4));
    assert_int_equal(fake_gpu_fences(), 0);
}

/* G16: answers that are pending count. */
static void a_thousand_calls_wait(void **state)
{
    struct channel_rig *r = *state;
    start(r);
    for (unsigned i = 0; i < 1500; i++)
        (void)guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0);
    for (unsigned i = 0; fake_gpu_fences() < VGPU_RING_COMPLETIONS; i++) {
        assert_true(i < 100000);
        usleep(100);
    }
    guest_expect_silence(r, 10);
    assert_int_equal(fake_gpu_fences(), VGPU_RING_COMPLETIONS);
    fake_gpu_hold(false);
    for (unsigned i = 0; i < 1500; i++)
        assert_int_equal(guest_take(r).status, 0);
    assert_int_equal(fake_gpu_fences(), 0);
}

/* ---- The lease ---- */

static void a_lease_goes_back_when_what_was_begun_is_done(void **state)
{
    struct channel_rig *r = *state;
    start(r);
    uint32_t sync = guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0);
    guest_expect_silence(r, 2);
    unsigned returns = r->returns;
    rig_grants(r, false);
    rig_recall_only(r, 1000, 0);
    usleep(20000);
    assert_int_equal(r->returns, returns); /* it runs on the GPU */
    fake_gpu_finish(1);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, sync);
    assert_int_equal(c.status, 0);
    for (unsigned i = 0; r->returns == returns; i++) {
        assert_true(i < 100000);
        usleep(100);
    }
    assert_int_equal(fake_gpu_fences(), 0);
    /* W4: nothing runs without it, */
    uint64_t launched = fake_gpu_launched();
    launch(r);
    sync = guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0);
    guest_expect_silence(r, 20);
    assert_int_equal(fake_gpu_launched(), launched);
    /* and everything when it comes back. */
    fake_gpu_hold(false);
    rig_grants(r, true);
    assert_int_equal(guest_take(r).token, sync);
    assert_int_equal(fake_gpu_launched(), launched + 1);
}

static void launches_in_flight_are_waited_for_before_it_goes_back(void **state)
{
    struct channel_rig *r = *state;
    warm_up(r);
    fake_gpu_hold(true);
    uint64_t before = fake_gpu_launched();
    for (unsigned i = 0; i < 400; i++)
        launch(r);
    wait_full(before);
    unsigned returns = r->returns;
    rig_grants(r, false);
    rig_recall_only(r, 1000, 0);
    usleep(20000);
    assert_int_equal(r->returns, returns);
    assert_in_range(fake_gpu_launched() - before, FULL_LEAST,
                    256); /* the grace is over: none starts */
    fake_gpu_hold(false);
    for (unsigned i = 0; r->returns == returns; i++) {
        assert_true(i < 100000);
        usleep(100);
    }
    assert_in_range(fake_gpu_launched() - before, FULL_LEAST, 256);
    assert_int_equal(fake_gpu_fences(), 0);
    rig_grants(r, true);
    guest_expect(guest_synchronize(r), 0);
    assert_int_equal(fake_gpu_launched() - before, 400);
}

/* The gate is looked at before each record, not now and then. */
static void after_the_grace_no_record_is_run(void **state)
{
    struct channel_rig *r = *state;
    uint64_t before = fake_gpu_launched();
    unsigned returns = r->returns;
    fake_gpu_block(true);
    for (unsigned i = 0; i < 10; i++)
        launch(r);
    wait_launched(before + 1);
    rig_grants(r, false);
    rig_recall_only(r, 0, 0);
    usleep(20000);
    fake_gpu_block(false);
    for (unsigned i = 0; r->returns == returns; i++) {
        assert_true(i < 100000);
        usleep(100);
    }
    assert_int_equal(fake_gpu_launched(), before + 1);
    rig_grants(r, true);
    guest_expect(guest_synchronize(r), 0);
    assert_int_equal(fake_gpu_launched(), before + 10);
}

/* G11: what is posted is answered when it is queued, however long the backend takes over it. */
static void g11_a_posted_call_is_answered_before_it_has_run(void **state)
{
    struct channel_rig *r = *state;
    fake_gpu_block(true);
    guest_expect(DO(r, LAUNCH, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0), 0);
    fake_gpu_block(false);
}

/* ---- Detaching ---- */

static void g3_a_channel_is_let_go_of_when_the_gpu_is_done_with_it(void **state)
{
    struct channel_rig *r = *state;
    start(r);
    for (unsigned i = 0; i < 10; i++)
        (void)guest_call(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, true, NULL, NULL, 0);
    guest_expect_silence(r, 5);
    struct vgpu_worker_channel c = {.channel = CHANNEL_NUMBER};
    unsigned seen = r->channels;
    rig_send(r, VGPU_WORKER_DETACH, 0, &c, sizeof(c), NULL, 0);
    usleep(20000);
    assert_int_equal(r->channels, seen);
    fake_gpu_hold(false);
    assert_int_equal(rig_channel_state(r, seen, NULL), VGPU_CHANNEL_FREE);
    assert_int_equal(fake_gpu_fences(), 0);
    assert_int_equal(fake_gpu_registered(), 0);
    guest_expect_silence(r, 2); /* without an answer */
    rig_attach(r);
    guest_expect(guest_synchronize(r), 0);
}

/* ... and looks for it between any two records, however long they take. */
static void g3_detaching_comes_before_the_next_record(void **state)
{
    struct channel_rig *r = *state;
    uint64_t before = fake_gpu_launched();
    struct vgpu_worker_channel c = {.channel = CHANNEL_NUMBER};
    fake_gpu_block(true);
    for (unsigned i = 0; i < 10; i++)
        launch(r);
    wait_launched(before + 1);
    unsigned seen = r->channels;
    rig_send(r, VGPU_WORKER_DETACH, 0, &c, sizeof(c), NULL, 0);
    usleep(20000);
    fake_gpu_block(false);
    assert_int_equal(rig_channel_state(r, seen, NULL), VGPU_CHANNEL_FREE);
    assert_int_equal(fake_gpu_launched(), before + 1);
}

int main(void)
{
#define ON(f) VGPU_TEST_F(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        ON(synchronizing_calls_hold_nothing_up),
        ON(copies_to_the_host_are_begun_too),
        ON(what_is_begun_is_checked),
        ON(at_most_256_launches_are_in_flight),
        VGPU_TEST_F(w19_fewer_launches_are_in_flight, setup_queue, teardown),
        ON(w16_long_kernels_are_few_in_flight),
        ON(launches_are_counted_in_all_contexts),
        ON(a_context_ends_when_what_waits_in_it_is_answered),
        ON(a_fault_answers_everything_that_waits),
        ON(a_thousand_calls_wait),
        ON(a_lease_goes_back_when_what_was_begun_is_done),
        ON(launches_in_flight_are_waited_for_before_it_goes_back),
        ON(after_the_grace_no_record_is_run),
        ON(g11_a_posted_call_is_answered_before_it_has_run),
        ON(g3_a_channel_is_let_go_of_when_the_gpu_is_done_with_it),
        ON(g3_detaching_comes_before_the_next_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
