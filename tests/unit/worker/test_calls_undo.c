/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUDA driver calls that wait, that nobody waits for, and that are too many: P10 to P13, P19, P31
 * and P32 of docs/protocol.md, W4 of docs/worker.md. */
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "calls_rig.h"
#include "vgpu_test.h"
#include "worker/call_job.h"
#include "worker/calls.h"

enum { MODULE = 1, FUNCTION = 2, STREAM = 3, EVENT = 4, POOL = 5, OTHER = 0x77 };

/* A driver that waits: entered says that somebody is inside, open lets them go on. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open, entered;
} door = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void pass_door(void)
{
    pthread_mutex_lock(&door.lock);
    door.entered = true;
    pthread_cond_broadcast(&door.changed);
    while (!door.open)
        pthread_cond_wait(&door.changed, &door.lock);
    pthread_mutex_unlock(&door.lock);
}

static void shut_door(void)
{
    door.open = door.entered = false;
}

static void wait_entered(void)
{
    pthread_mutex_lock(&door.lock);
    while (!door.entered)
        pthread_cond_wait(&door.changed, &door.lock);
    pthread_mutex_unlock(&door.lock);
}

static void open_door(void)
{
    pthread_mutex_lock(&door.lock);
    door.open = true;
    pthread_cond_broadcast(&door.changed);
    pthread_mutex_unlock(&door.lock);
}

static CUresult slow_alloc(struct vgpu_driver *driver, CUdeviceptr *address, size_t size)
{
    pass_door();
    return calls_real->memory_alloc(driver, address, size);
}

static CUresult slow_pool(struct vgpu_driver *driver, struct vgpu_driver_pool **pool, uint64_t max)
{
    pass_door();
    return calls_real->pool_create(driver, pool, max);
}

static CUresult slow_stream(struct vgpu_driver *driver, struct vgpu_driver_stream *stream)
{
    pass_door();
    return calls_real->stream_synchronize(driver, stream);
}

static unsigned pools_destroyed, contexts_destroyed, modules_unloaded;

static CUresult count_pool(struct vgpu_driver *driver, struct vgpu_driver_pool *pool)
{
    pools_destroyed++;
    return calls_real->pool_destroy(driver, pool);
}

static CUresult count_context(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    contexts_destroyed++;
    return calls_real->context_destroy(driver, context);
}

static CUresult count_module(struct vgpu_driver *driver, struct vgpu_driver_module *module)
{
    modules_unloaded++;
    return calls_real->module_unload(driver, module);
}

static void count_ends(void)
{
    pools_destroyed = contexts_destroyed = modules_unloaded = 0;
    calls_ops.pool_destroy = count_pool;
    calls_ops.context_destroy = count_context;
    calls_ops.module_unload = count_module;
}

static uint64_t free_bytes(struct rig *r)
{
    return calls_out(CALL(r, CUMEMGETINFO_V2), 0);
}

static uint64_t submit(struct rig *r, uint32_t opcode, const uint64_t *slots)
{
    struct request q = calls_request(opcode, slots, NULL, 0);
    return rig_submit(r, &q);
}

/* P11: a call that waits is answered 600, goes on, and is asked for again. */
static void p11_a_call_that_waits(void **state)
{
    struct rig *r = *state;
    shut_door();
    calls_ops.stream_synchronize = slow_stream;
    struct request q = calls_request(VGPU_CALL_STREAM_SYNCHRONIZE, SLOTS(0), NULL, 0);
    uint64_t first = rig_submit_as(r, &q, 4711);
    wait_entered();
    rig_advance(r, 100000000);
    expect_not_ready(rig_response(r, first));
    uint64_t second = rig_submit_as(r, &q, 4711);
    open_door();
    expect_ok(rig_wait(r, second));
}

/* P32: device memory of an answer that nobody wants is freed. */
static void p32_memory_goes_back(void **state)
{
    struct rig *r = *state;
    uint64_t before = free_bytes(r);
    uint64_t seq = submit(r, VGPU_CALL_MEMORY_ALLOC, SLOTS(1 << 20));
    expect_ok(rig_wait(r, seq));
    assert_int_equal(free_bytes(r), before - (1 << 20));
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    assert_int_equal(free_bytes(r), before);
    seq = submit(r, VGPU_CALL_MEMORY_ALLOC_ASYNC, SLOTS(1 << 20, 0, 0));
    expect_ok(rig_wait(r, seq));
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    assert_int_equal(free_bytes(r), before);
    assert_int_equal(calls_deferred(r), 0);
}

/* P32: also of a call that runs when it is given up. */
static void p32_memory_of_a_call_that_runs(void **state)
{
    struct rig *r = *state;
    uint64_t before = free_bytes(r);
    shut_door();
    calls_ops.memory_alloc = slow_alloc;
    uint64_t seq = submit(r, VGPU_CALL_MEMORY_ALLOC, SLOTS(1 << 20));
    wait_entered();
    vgpu_mailbox_cancel(&r->mailbox, seq);
    open_door();
    rig_settle(r);
    assert_null(rig_response(r, seq));
    assert_int_equal(free_bytes(r), before);
}

/* P12: and of an answer that nobody fetched within 60 s. */
static void p12_an_answer_that_nobody_fetched(void **state)
{
    struct rig *r = *state;
    shut_door();
    count_ends();
    calls_ops.pool_create = slow_pool;
    uint64_t seq = submit(r, VGPU_CALL_POOL_CREATE, SLOTS(POOL, 0));
    wait_entered();
    rig_advance(r, 100000000);
    expect_not_ready(rig_response(r, seq));
    open_door();
    rig_settle(r);
    expect_status(CALL(r, POOL_CREATE, POOL, 0), 0, CUDA_ERROR_INVALID_VALUE); /* still kept */
    rig_advance(r, 61ull * 1000000000);
    rig_settle(r);
    assert_int_equal(pools_destroyed, 1);
    expect_done(CALL(r, POOL_CREATE, POOL, 0));
}

/* P32: new names are dropped, with what they named. */
static void p32_names_go_back(void **state)
{
    struct rig *r = *state;
    count_ends();
    uint64_t seq = submit(r, VGPU_CALL_POOL_CREATE, SLOTS(POOL, 0));
    expect_ok(rig_wait(r, seq));
    vgpu_mailbox_cancel(&r->mailbox, seq);
    seq = submit(r, VGPU_CALL_CONTEXT_CREATE, SLOTS(OTHER, 0));
    expect_ok(rig_wait(r, seq));
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    assert_int_equal(pools_destroyed, 1);
    assert_int_equal(contexts_destroyed, 1);
    expect_status(CALL(r, POOL_GET_ATTRIBUTE, POOL, 4), 0, CUDA_ERROR_INVALID_HANDLE);
    expect_done(CALL(r, POOL_CREATE, POOL, 0));

    calls_load(r, MODULE, calls_ptx);
    struct request q = calls_request(VGPU_CALL_FUNCTION_GET, SLOTS(MODULE, FUNCTION), "add", 3);
    seq = rig_submit(r, &q);
    expect_ok(rig_wait(r, seq));
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    expect_status(CALL(r, FUNCTION_PARAMS, FUNCTION, 0), 0, CUDA_ERROR_INVALID_HANDLE);
    calls_function(r, MODULE, FUNCTION, "add");
    assert_int_equal(modules_unloaded, 0);
}

/* P32: what the guest ended itself, and a thing that has the name since, are left alone. */
static void p32_a_name_that_was_given_again(void **state)
{
    struct rig *r = *state;
    uint64_t seq = submit(r, VGPU_CALL_POOL_CREATE, SLOTS(POOL, 0));
    expect_ok(rig_wait(r, seq));
    expect_done(CALL(r, POOL_DESTROY, POOL));
    expect_done(CALL(r, POOL_CREATE, POOL, 0));
    count_ends();
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    assert_int_equal(pools_destroyed, 0);
    expect_ok(CALL(r, POOL_GET_ATTRIBUTE, POOL, 4));
    /* With the context that held it, the name is gone as well. */
    seq = submit(r, VGPU_CALL_POOL_CREATE, SLOTS(OTHER, 0));
    expect_ok(rig_wait(r, seq));
    expect_done(CALL(r, CONTEXT_DESTROY, CALLS_CONTEXT));
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    assert_int_equal(pools_destroyed, 0);
}

/* A module with functions goes back whole. */
static void p32_a_module_goes_back(void **state)
{
    struct rig *r = *state;
    static const char tiny[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
                               ".visible .entry k() { ret; }\n";
    count_ends();
    struct request q =
        calls_request(VGPU_CALL_MODULE_LOAD, SLOTS(MODULE, 0), tiny, sizeof(tiny) - 1);
    uint64_t seq = rig_submit(r, &q);
    expect_ok(rig_wait(r, seq));
    calls_function(r, MODULE, FUNCTION, "k");
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    assert_int_equal(modules_unloaded, 1);
    expect_status(CALL(r, FUNCTION_PARAMS, FUNCTION, 0), 0, CUDA_ERROR_INVALID_HANDLE);
}

/* P13: a deferred error that was told to nobody is told again. */
static void p13_a_told_error_that_nobody_read(void **state)
{
    struct rig *r = *state;
    expect_done(CALL(r, MEMORY_FREE, 12345));
    uint64_t seq = submit(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, NULL);
    expect_status(rig_wait(r, seq), 0, CUDA_ERROR_INVALID_VALUE);
    vgpu_mailbox_cancel(&r->mailbox, seq);
    rig_settle(r);
    /* rig_settle sends typed copies that fail by themselves and defer nothing. */
    assert_int_equal(calls_deferred(r), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(calls_deferred(r), 0);
}

/* P19, P30: 256 posted calls wait, the next is answered 600 until there is room. */
static void p19_posted_calls_are_bounded(void **state)
{
    struct rig *r = *state;
    shut_door();
    calls_ops.stream_synchronize = slow_stream;
    uint64_t blocker = submit(r, VGPU_CALL_STREAM_SYNCHRONIZE, SLOTS(0));
    wait_entered();
    for (unsigned i = 0; i < VGPU_ENGINE_EARLY_MAX; i++) {
        uint64_t seq = submit(r, VGPU_CALL_EVENT_CREATE, SLOTS(i + 1, 0));
        assert_non_null(rig_response(r, seq));
        assert_int_equal(rig_response(r, seq)->length, 0);
    }
    struct request q = calls_request(VGPU_CALL_EVENT_CREATE, SLOTS(OTHER << 20, 0), NULL, 0);
    uint64_t late = rig_submit_as(r, &q, 4711);
    assert_null(rig_response(r, late));
    rig_advance(r, 100000000);
    expect_not_ready(rig_response(r, late));
    open_door();
    assert_int_equal(rig_wait(r, rig_submit_as(r, &q, 4711))->length, 0);
    expect_not_ready(rig_response(r, blocker));
    assert_int_equal(calls_deferred(r), 0);
}

/* P31: staged bytes in the queue are bounded; a call over it leaves its stage alone. */
static void p31_staged_bytes_are_bounded(void **state)
{
    struct rig *r = *state;
    uint64_t address = calls_alloc(r, 64);
    expect_ok(rig_call(r, req_stage(RIG_SESSION, 5, 4, 0, "abcd", 4)));
    r->dispatcher.staged_bytes += VGPU_DISPATCH_STAGED_BYTES;
    expect_reject(CALL(r, COPY_TO_DEVICE, address, 0, 5), 7);
    r->dispatcher.staged_bytes -= VGPU_DISPATCH_STAGED_BYTES;
    expect_done(CALL(r, COPY_TO_DEVICE, address, 0, 5));
    rig_settle(r);
    assert_int_equal(r->dispatcher.staged_bytes, 0);
    const struct response *got = CALL(r, COPY_FROM_DEVICE, address, 4, 0);
    expect_ok(got);
    assert_memory_equal(got->data, "abcd", 4);
}

/* ... and of those that were answered already, there are fewer. */
static void p31_staged_bytes_of_answered_calls(void **state)
{
    struct rig *r = *state;
    struct vgpu_job *jobs[4];
    static const uint64_t held[] = {VGPU_ENGINE_EARLY_BYTES + 1, 1, 0, VGPU_ENGINE_EARLY_BYTES};
    shut_door();
    calls_ops.stream_synchronize = slow_stream;
    uint64_t blocker = submit(r, VGPU_CALL_STREAM_SYNCHRONIZE, SLOTS(0));
    wait_entered();
    for (int i = 0; i < 4; i++) {
        jobs[i] = vgpu_dispatch_new_job(&r->dispatcher, VGPU_JOB_CALL);
        jobs[i]->early = true;
        jobs[i]->staged_bytes = held[i];
        vgpu_engine_push(r->engine, jobs[i]);
    }
    assert_true(vgpu_engine_admit(r->engine, jobs[0])); /* alone */
    assert_false(vgpu_engine_admit(r->engine, jobs[1]));
    assert_false(vgpu_engine_admit(r->engine, jobs[2]));
    assert_true(vgpu_engine_remove(r->engine, jobs[0]));
    assert_true(vgpu_engine_admit(r->engine, jobs[1]));
    assert_true(vgpu_engine_admit(r->engine, jobs[2]));
    assert_false(vgpu_engine_admit(r->engine, jobs[3]));
    for (int i = 1; i < 4; i++)
        assert_true(vgpu_engine_remove(r->engine, jobs[i]));
    for (int i = 0; i < 4; i++)
        vgpu_job_free(jobs[i]);
    open_door();
    expect_ok(rig_wait(r, blocker));
}

static unsigned synchronized;
static struct vgpu_driver_context *used, *synchronized_in[2];

static CUresult note_use(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    used = context;
    return calls_real->context_use(driver, context);
}

static CUresult note_synchronize(struct vgpu_driver *driver)
{
    if (synchronized < 2)
        synchronized_in[synchronized] = used;
    synchronized++;
    return calls_real->context_synchronize(driver);
}

/* W4: before a lease goes back each context that was used is waited for, once. */
static void w4_contexts_are_drained(void **state)
{
    struct rig *r = *state;
    uint64_t number;
    calls_ops.context_use = note_use;
    calls_ops.context_synchronize = note_synchronize;
    synchronized = 0;
    expect_done(CALL(r, CONTEXT_CREATE, OTHER, 0));
    struct request in_other =
        async(req_call(RIG_SESSION, VGPU_CALL_EVENT_CREATE, OTHER, SLOTS(EVENT, 0), 2, NULL, 0));
    expect_done(rig_call(r, in_other));
    expect_done(CALL(r, EVENT_CREATE, EVENT + 1, 0));
    rig_settle(r);
    for (int round = 0; round < 2; round++) {
        assert_true(vgpu_lease_recall(&r->lease, (uint64_t)round + 1, 0, 1000, 0));
        vgpu_engine_wake(r->engine);
        while (!vgpu_lease_take_return(&r->lease, &number)) {
            struct pollfd p = {.fd = vgpu_engine_fd(r->engine), .events = POLLIN};
            assert_int_equal(poll(&p, 1, 20000), 1);
            vgpu_engine_clear(r->engine);
        }
        assert_int_equal(synchronized, 2); /* the second time nothing had been used */
        assert_ptr_not_equal(synchronized_in[0], synchronized_in[1]);
        assert_int_equal(vgpu_lease_grant(&r->lease, (uint64_t)round + 2), 0);
        vgpu_engine_wake(r->engine);
    }
    assert_int_equal(calls_deferred(r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(p11_a_call_that_waits, calls_setup, rig_teardown),
        VGPU_TEST_F(p32_memory_goes_back, calls_setup, rig_teardown),
        VGPU_TEST_F(p32_memory_of_a_call_that_runs, calls_setup, rig_teardown),
        VGPU_TEST_F(p12_an_answer_that_nobody_fetched, calls_setup, rig_teardown),
        VGPU_TEST_F(p32_names_go_back, calls_setup, rig_teardown),
        VGPU_TEST_F(p32_a_name_that_was_given_again, calls_setup, rig_teardown),
        VGPU_TEST_F(p32_a_module_goes_back, calls_setup, rig_teardown),
        VGPU_TEST_F(p13_a_told_error_that_nobody_read, calls_setup, rig_teardown),
        VGPU_TEST_F(p19_posted_calls_are_bounded, calls_setup, rig_teardown),
        VGPU_TEST_F(p31_staged_bytes_are_bounded, calls_setup, rig_teardown),
        VGPU_TEST_F(p31_staged_bytes_of_answered_calls, calls_setup, rig_teardown),
        VGPU_TEST_F(w4_contexts_are_drained, calls_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
