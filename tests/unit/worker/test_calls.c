/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUDA driver calls through the worker: P28 to P30 of docs/protocol.md, on the software backend.
 * What needs a driver that waits or a mediator that gives up is in test_calls_undo.c. */
#include <string.h>

#include "calls_rig.h"
#include "vgpu/account.h"
#include "vgpu_test.h"
#include "worker/calls.h"

enum { MODULE = 1, FUNCTION = 2, STREAM = 3, EVENT = 4, POOL = 5, OTHER = 0x77 };

static void launch_add(struct rig *r, uint64_t address, uint32_t n)
{
    uint8_t arguments[12];
    memcpy(arguments, &address, 8);
    memcpy(arguments + 8, &n, 4);
    expect_done(calls_do(r, VGPU_CALL_LAUNCH, SLOTS(FUNCTION, STREAM, 1, 1, 1, 1, 1, 1, 0, 0, 0),
                         arguments, sizeof(arguments)));
}

static uint32_t word_at(struct rig *r, uint64_t address)
{
    const struct response *got = CALL(r, COPY_FROM_DEVICE, address, 4, 0);
    expect_ok(got);
    assert_int_equal(got->data_length, 4);
    return get32(got->data);
}

/* P28, P29: the whole way of a program. */
static void p28_a_program_runs(void **state)
{
    struct rig *r = *state;
    uint32_t word = 40;
    calls_load(r, MODULE, calls_ptx);
    calls_function(r, MODULE, FUNCTION, "add");
    expect_done(CALL(r, STREAM_CREATE, STREAM, 1, 0));
    expect_done(CALL(r, EVENT_CREATE, EVENT, 0));
    uint64_t address = calls_alloc(r, 4096);
    expect_done(calls_do(r, VGPU_CALL_COPY_TO_DEVICE, SLOTS(address, STREAM, 0), &word, 4));
    launch_add(r, address, 2);
    expect_done(CALL(r, EVENT_RECORD, EVENT, STREAM, 0));
    expect_done(CALL(r, STREAM_SYNCHRONIZE, STREAM));
    assert_int_equal(calls_out(CALL(r, EVENT_QUERY, EVENT), 0), 0);
    assert_int_equal(word_at(r, address), 42);
    expect_done(CALL(r, MEMORY_FREE, address));
    expect_done(CALL(r, EVENT_DESTROY, EVENT));
    expect_done(CALL(r, STREAM_DESTROY, STREAM));
    expect_done(CALL(r, MODULE_UNLOAD, MODULE));
    assert_int_equal(calls_deferred(r), 0);
}

/* P28: what function_get says of a kernel. */
static void p28_the_layout_of_a_kernel(void **state)
{
    struct rig *r = *state;
    calls_load(r, MODULE, calls_ptx);
    const struct response *f =
        calls_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(MODULE, FUNCTION), "add", 3);
    expect_ok(f);
    assert_int_equal(f->data_length, 10 * 8 + 2 * 8);
    assert_int_equal(calls_out(f, 0), 2);
    assert_int_equal(calls_out(f, 1), 12);
    assert_int_equal(calls_out(f, 2), 1024);
    assert_int_equal(calls_out(f, 7), 70); /* .target sm_70, */
    assert_int_equal(calls_out(f, 8), 75); /* run by a device of 7.5 */
    static const uint32_t layout[] = {0, 8, 8, 4};
    for (int i = 0; i < 4; i++)
        assert_int_equal(get32(f->data + 80 + 4 * i), layout[i]);
    const struct response *rest = CALL(r, FUNCTION_PARAMS, FUNCTION, 1);
    expect_ok(rest);
    assert_int_equal(rest->data_length, 8);
    assert_int_equal(get32(rest->data), 8);
}

/* P28: the text of a failure is the driver's. */
static void p28_a_log_comes_as_text(void **state)
{
    struct rig *r = *state;
    static const char ptx[] = ".version 6.4\n.target sm_70\n.address_size 64\nbroken";
    const struct response *load =
        calls_do(r, VGPU_CALL_MODULE_LOAD, SLOTS(MODULE, 0), ptx, sizeof(ptx) - 1);
    expect_status(load, 0, CUDA_ERROR_INVALID_PTX);
    assert_non_null(strstr(load->text, "module_load: "));
    assert_non_null(strstr(load->text, "broken"));
    /* The text of one call does not become that of the next. */
    const struct response *unload = CALL(r, FUNCTION_GET_ATTRIBUTE, 0, FUNCTION);
    expect_status(unload, 0, CUDA_ERROR_INVALID_HANDLE);
    assert_null(strstr(unload->text, "broken"));
}

/* P29: one space of names for each kind. */
static void p29_kinds_have_their_own_names(void **state)
{
    struct rig *r = *state;
    expect_done(CALL(r, STREAM_CREATE, OTHER, 0, 0));
    expect_done(CALL(r, EVENT_CREATE, OTHER, 0));
    expect_done(CALL(r, POOL_CREATE, OTHER, 0));
    expect_done(CALL(r, STREAM_DESTROY, OTHER));
    assert_int_equal(calls_out(CALL(r, EVENT_QUERY, OTHER), 0), 0);
    assert_int_equal(calls_deferred(r), 0);
    expect_done(CALL(r, STREAM_DESTROY, OTHER));
    assert_int_equal(calls_deferred(r), CUDA_ERROR_INVALID_HANDLE);
}

/* P29: 131072 names, and each finds its own thing. */
static void p29_names_are_bounded(void **state)
{
    struct rig *r = *state;
    for (uint32_t i = 1; i < VGPU_CALLS_NAMES_MAX; i++) {
        /* Far apart and side by side: a hash must not mind. */
        expect_done(CALL(r, EVENT_CREATE, i & 1 ? i : (uint64_t)i << 40, 0));
        if (i % 1024 == 0) {
            assert_int_equal(calls_deferred(r), 0);
            rig_forget(r);
        }
    }
    assert_int_equal(calls_deferred(r), 0);
    for (int i = 0; i < 2; i++) {
        expect_done(CALL(r, STREAM_CREATE, 1, 0, 0));
        assert_int_equal(calls_deferred(r), CUDA_ERROR_OUT_OF_MEMORY);
    }
    rig_forget(r);
    expect_status(CALL(r, POOL_CREATE, 1, 0), 0, CUDA_ERROR_OUT_OF_MEMORY);
    expect_done(CALL(r, EVENT_DESTROY, 1));
    expect_done(CALL(r, STREAM_CREATE, 1, 0, 0));
    assert_int_equal(calls_deferred(r), 0);
    assert_int_equal(calls_out(CALL(r, EVENT_QUERY, (uint64_t)4096 << 40), 0), 0);
    expect_status(CALL(r, EVENT_QUERY, 4096), 0, CUDA_ERROR_INVALID_HANDLE);
}

/* P29: functions end with their module, and only they. */
static void p29_functions_end_with_their_module(void **state)
{
    struct rig *r = *state;
    calls_load(r, MODULE, calls_ptx);
    calls_load(r, OTHER, calls_ptx);
    calls_function(r, MODULE, FUNCTION, "add");
    calls_function(r, MODULE, FUNCTION + 100, "add");
    calls_function(r, OTHER, OTHER, "wild");
    expect_done(CALL(r, STREAM_CREATE, STREAM, 0, 0));
    expect_done(CALL(r, MODULE_UNLOAD, MODULE));
    launch_add(r, 0, 0);
    assert_int_equal(calls_deferred(r), CUDA_ERROR_INVALID_HANDLE);
    expect_status(CALL(r, FUNCTION_PARAMS, FUNCTION + 100, 0), 0, CUDA_ERROR_INVALID_HANDLE);
    expect_done(CALL(r, FUNCTION_PARAMS, OTHER, 0));
}

/* The name of a function that went with its module can be given again. */
static void p29_names_come_free_with_their_owner(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 3; i++) {
        calls_load(r, MODULE, calls_ptx);
        calls_function(r, MODULE, FUNCTION, "add");
        expect_done(CALL(r, MODULE_UNLOAD, MODULE));
    }
    calls_load(r, OTHER, calls_ptx);
    calls_function(r, OTHER, FUNCTION, "wild");
    expect_done(CALL(r, FUNCTION_PARAMS, FUNCTION, 0));
    assert_int_equal(calls_deferred(r), 0);
}

static uint64_t free_bytes(struct rig *r)
{
    return calls_out(CALL(r, CUMEMGETINFO_V2), 0);
}

static struct request in_context(uint64_t context, uint32_t opcode, const uint64_t *slots,
                                 const void *rest, uint32_t length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    struct request q = req_call(RIG_SESSION, opcode, context, slots, info->in_count, rest, length);
    return info->posted ? async(q) : q;
}

/* P29: everything made in a context ends with it, memory too; the others keep what they have. */
static void p29_everything_ends_with_its_context(void **state)
{
    struct rig *r = *state;
    expect_done(CALL(r, EVENT_CREATE, EVENT, 0));
    calls_alloc(r, 4096);
    uint64_t before = free_bytes(r);
    for (int round = 0; round < 3; round++) {
        expect_done(CALL(r, CONTEXT_CREATE, OTHER, 0));
        static const char tiny[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
                                   ".visible .entry add() { ret; }\n";
        expect_done(
            rig_call(r, in_context(OTHER, VGPU_CALL_STREAM_CREATE, SLOTS(STREAM, 0, 0), NULL, 0)));
        expect_done(
            rig_call(r, in_context(OTHER, VGPU_CALL_EVENT_CREATE, SLOTS(OTHER, 0), NULL, 0)));
        expect_done(rig_call(r, in_context(OTHER, VGPU_CALL_POOL_CREATE, SLOTS(POOL, 0), NULL, 0)));
        expect_done(rig_call(
            r, in_context(OTHER, VGPU_CALL_MODULE_LOAD, SLOTS(MODULE, 0), tiny, sizeof(tiny) - 1)));
        expect_done(rig_call(
            r, in_context(OTHER, VGPU_CALL_FUNCTION_GET, SLOTS(MODULE, FUNCTION), "add", 3)));
        expect_done(
            rig_call(r, in_context(OTHER, VGPU_CALL_MEMORY_ALLOC, SLOTS(1 << 20), NULL, 0)));
        expect_done(rig_call(r, in_context(OTHER, VGPU_CALL_MEMORY_ALLOC_ASYNC,
                                           SLOTS(1 << 20, POOL, STREAM), NULL, 0)));
        assert_true(free_bytes(r) <= before - (2 << 20));
        expect_done(CALL(r, CONTEXT_DESTROY, OTHER));
        assert_int_equal(calls_deferred(r), 0);
        assert_int_equal(free_bytes(r), before);
        expect_status(CALL(r, STREAM_QUERY, STREAM), 0, CUDA_ERROR_INVALID_HANDLE);
        expect_status(CALL(r, EVENT_QUERY, OTHER), 0, CUDA_ERROR_INVALID_HANDLE);
        expect_status(CALL(r, POOL_GET_ATTRIBUTE, POOL, 4), 0, CUDA_ERROR_INVALID_HANDLE);
        expect_status(CALL(r, FUNCTION_PARAMS, FUNCTION, 0), 0, CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(calls_out(CALL(r, EVENT_QUERY, EVENT), 0), 0);
    }
}

/* A context with two names lives as long as one of them, and so do the names made under either. */
static void p29_two_names_for_one_context(void **state)
{
    struct rig *r = *state;
    expect_done(CALL(r, EVENT_CREATE, EVENT, 0));
    expect_done(CALL(r, PRIMARY_RETAIN, OTHER, 0));
    expect_done(CALL(r, CONTEXT_DESTROY, CALLS_CONTEXT));
    struct request query = in_context(OTHER, VGPU_CALL_EVENT_QUERY, SLOTS(EVENT), NULL, 0);
    assert_int_equal(calls_out(rig_call(r, query), 0), 0);
    expect_status(CALL(r, EVENT_QUERY, EVENT), 0, CUDA_ERROR_INVALID_CONTEXT);
    expect_done(CALL(r, CONTEXT_DESTROY, OTHER));
    expect_done(CALL(r, PRIMARY_RETAIN, OTHER, 0));
    expect_status(rig_call(r, query), 0, CUDA_ERROR_INVALID_HANDLE);
    /* So many names at most: whoever keeps them all makes the host keep nothing more. */
    for (uint64_t i = 1; i < VGPU_CALLS_CONTEXTS_MAX; i++)
        expect_done(CALL(r, PRIMARY_RETAIN, OTHER + i, 0));
    expect_status(CALL(r, PRIMARY_RETAIN, 1, 0), 0, CUDA_ERROR_OUT_OF_MEMORY);
}

static unsigned synchronized;

static CUresult count_synchronize(struct vgpu_driver *driver)
{
    synchronized++;
    return calls_real->context_synchronize(driver);
}

/* P30: the first failure is told once, by a call that reports, which has not run then. */
static void p30_a_failure_is_told_once(void **state)
{
    struct rig *r = *state;
    uint64_t address = calls_alloc(r, 64);
    synchronized = 0;
    calls_ops.context_synchronize = count_synchronize;
    expect_done(CALL(r, MEMORY_FREE, 12345)); /* 1 */
    expect_done(CALL(r, EVENT_DESTROY, 999)); /* 400 comes too late */
    expect_ok(CALL(r, STREAM_QUERY, 0));      /* does not report */
    calls_out(CALL(r, CUMEMGETINFO_V2), 0);   /* neither */
    const struct response *told = calls_do(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, NULL, NULL, 0);
    expect_status(told, 0, CUDA_ERROR_INVALID_VALUE);
    assert_non_null(strstr(told->text, "earlier"));
    assert_int_equal(synchronized, 0);
    assert_int_equal(calls_deferred(r), 0);
    assert_int_equal(synchronized, 1);
    /* By a copy to the host as well. */
    expect_done(CALL(r, MEMORY_FREE, 12345));
    expect_status(CALL(r, COPY_FROM_DEVICE, address, 4, 0), 0, CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(word_at(r, address), 0);
    /* A posted call without ASYNC defers in the same way. */
    expect_ok(rig_call(
        r, req_call(RIG_SESSION, VGPU_CALL_MEMORY_FREE, CALLS_CONTEXT, SLOTS(12345), 1, NULL, 0)));
    assert_int_equal(calls_deferred(r), CUDA_ERROR_INVALID_VALUE);
}

/* P10, P30: typed requests and calls share one deferred error. */
static void p30_typed_requests_share_the_error(void **state)
{
    struct rig *r = *state;
    struct request sync = req_sync(), bad = async(req_free(12345));
    expect_done(CALL(r, MEMORY_FREE, 12345));
    expect_status(rig_call(r, req_wrap(RIG_SESSION, &sync)), 0, CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(calls_deferred(r), 0);
    assert_int_equal(rig_call(r, req_wrap(RIG_SESSION, &bad))->length, 0);
    assert_int_equal(calls_deferred(r), CUDA_ERROR_INVALID_VALUE);
}

/* P16: a fault is told to every later call. */
static void p16_a_fault_is_sticky(void **state)
{
    struct rig *r = *state;
    calls_load(r, MODULE, calls_ptx);
    calls_function(r, MODULE, FUNCTION, "wild");
    expect_done(CALL(r, STREAM_CREATE, STREAM, 0, 0));
    expect_done(CALL(r, LAUNCH, FUNCTION, STREAM, 1, 1, 1, 1, 1, 1, 0, 0, 0));
    assert_int_equal(calls_deferred(r), CUDA_ERROR_ILLEGAL_ADDRESS);
    for (uint32_t opcode = 0x1000; opcode < 0x2000; opcode++) {
        const struct vgpu_call_info *info = vgpu_call_info(opcode);
        static const uint64_t none[VGPU_CALL_SLOTS_MAX];
        if (!info)
            continue;
        const struct response *got = rig_call(
            r, calls_request(opcode, none, "x", info->payload == VGPU_PAYLOAD_NONE ? 0 : 1));
        expect_status(got, 0, CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}

/* Memory of typed requests and of calls is one session's: both see it, neither frees the other's.
 */
static void typed_requests_beside_calls(void **state)
{
    struct rig *r = *state;
    uint64_t typed = rig_alloc(r, 4096), called = calls_alloc(r, 4096);
    uint32_t word = 7;
    expect_done(calls_do(r, VGPU_CALL_COPY_TO_DEVICE, SLOTS(typed, 0, 0), &word, 4));
    assert_int_equal(word_at(r, typed), 7);
    struct request copy = req_dtoh(called, 4), release = req_free(called);
    expect_ok(rig_call(r, req_wrap(RIG_SESSION, &copy)));
    expect_status(rig_call(r, req_wrap(RIG_SESSION, &release)), 0, CUDA_ERROR_INVALID_VALUE);
    expect_done(CALL(r, MEMORY_FREE, typed));
    assert_int_equal(calls_deferred(r), CUDA_ERROR_INVALID_VALUE);
    expect_done(CALL(r, MEMORY_FREE, called));
    release = req_free(typed);
    expect_ok(rig_call(r, req_wrap(RIG_SESSION, &release)));
    assert_int_equal(calls_deferred(r), 0);
    /* P22: what GET_DEVICE_INFO says of free memory follows the calls. */
    struct request info = req_info();
    const struct response *got = rig_call(r, req_wrap(RIG_SESSION, &info));
    uint64_t before = get64(got->data + 104);
    calls_alloc(r, 1 << 20);
    got = rig_call(r, req_wrap(RIG_SESSION, &info));
    assert_int_equal(get64(got->data + 104), before - (1 << 20));
}

/* P3: a backend without a driver has no such calls. */
static void p3_a_backend_without_a_driver(void **state)
{
    struct rig *r = *state;
    expect_reject(rig_call(r, req_call(RIG_SESSION, VGPU_CALL_DRIVER_VERSION, 0, NULL, 0, NULL, 0)),
                  8);
    /* Whatever session it names. */
    expect_reject(rig_call(r, req_call(1, VGPU_CALL_MEMORY_FREE, 0, SLOTS(0), 1, NULL, 0)), 8);
}

static uint64_t free_memory(struct rig *r)
{
    const struct response *got = CALL(r, CUMEMGETINFO_V2, 0);
    expect_ok(got);
    return calls_out(got, 0);
}

/* W9: what the tenant's sessions may hold together bounds every call that takes device memory. */
static void w9_the_account(void **state)
{
    struct rig *r = *state;
    assert_true(free_memory(r) == RIG_QUOTA);
    uint64_t a = calls_alloc(r, 2000); /* takes 2048 */
    assert_true(vgpu_account_free_bytes(r->neighbour) == RIG_QUOTA - 2048);
    assert_int_equal(vgpu_account_reserve(r->neighbour, 1024), 0);
    assert_true(free_memory(r) == 1024);
    const struct response *refused = CALL(r, MEMORY_ALLOC, 1025);
    expect_status(refused, 0, CUDA_ERROR_OUT_OF_MEMORY);
    assert_non_null(strstr(refused->text, "4096 bytes together, of which 1024 are free"));
    expect_status(CALL(r, MEMORY_ALLOC, UINT64_MAX), 0, CUDA_ERROR_OUT_OF_MEMORY);
    uint64_t b = calls_alloc(r, 1024);
    assert_true(free_memory(r) == 0);
    /* It is seen only afterwards what a module takes: it is gone again. */
    expect_ok(rig_call(r, req_stage(RIG_SESSION, 77, (uint32_t)strlen(calls_ptx), 0, calls_ptx,
                                    (uint32_t)strlen(calls_ptx))));
    expect_status(CALL(r, MODULE_LOAD, MODULE, 77), 0, CUDA_ERROR_OUT_OF_MEMORY);
    assert_true(free_memory(r) == 0);
    expect_done(CALL(r, MEMORY_FREE, b));
    calls_load(r, MODULE, calls_ptx); /* the name is free, and so is the memory */
    assert_true(free_memory(r) == 1024 - 256);
    expect_done(CALL(r, MEMORY_FREE, a));
    expect_done(CALL(r, MODULE_UNLOAD, MODULE));
    assert_true(free_memory(r) == RIG_QUOTA - 1024);
    assert_true(vgpu_account_held_bytes(r->account) == 0);
}

/* W9: contexts are counted, for the card. */
static void w9_contexts(void **state)
{
    struct rig *r = *state;
    assert_int_equal(r->page->slots[0].contexts, 1);
    expect_done(CALL(r, CONTEXT_CREATE, OTHER, 0));
    assert_int_equal(r->page->slots[0].contexts, 2);
    expect_done(CALL(r, CONTEXT_DESTROY, OTHER));
    expect_ok(CALL(r, CONTEXT_SYNCHRONIZE, 0)); /* that was posted */
    assert_int_equal(r->page->slots[0].contexts, 1);
    assert_int_equal(r->page->slots[1].contexts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(p28_a_program_runs, calls_setup, rig_teardown),
        VGPU_TEST_F(p28_the_layout_of_a_kernel, calls_setup, rig_teardown),
        VGPU_TEST_F(p28_a_log_comes_as_text, calls_setup, rig_teardown),
        VGPU_TEST_F(p29_kinds_have_their_own_names, calls_setup, rig_teardown),
        VGPU_TEST_F(p29_names_are_bounded, calls_setup, rig_teardown),
        VGPU_TEST_F(p29_functions_end_with_their_module, calls_setup, rig_teardown),
        VGPU_TEST_F(p29_names_come_free_with_their_owner, calls_setup, rig_teardown),
        VGPU_TEST_F(p29_everything_ends_with_its_context, calls_setup, rig_teardown),
        VGPU_TEST_F(p29_two_names_for_one_context, calls_setup, rig_teardown),
        VGPU_TEST_F(p30_a_failure_is_told_once, calls_setup, rig_teardown),
        VGPU_TEST_F(p30_typed_requests_share_the_error, calls_setup, rig_teardown),
        VGPU_TEST_F(p16_a_fault_is_sticky, calls_setup, rig_teardown),
        VGPU_TEST_F(typed_requests_beside_calls, calls_setup, rig_teardown),
        VGPU_TEST_F(w9_the_account, calls_setup_account, rig_teardown),
        VGPU_TEST_F(w9_contexts, calls_setup_account, rig_teardown),
        VGPU_TEST_F(p3_a_backend_without_a_driver, rig_setup_session, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
