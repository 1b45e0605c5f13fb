/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUDA driver calls through the worker: P28 to P32 of docs/protocol.md, on the software backend. */
#include <string.h>

#include "calls_rig.h"
#include "vgpu_test.h"

enum { MODULE = 1, FUNCTION = 2, STREAM = 3, EVENT = 4 };

static void launch_add(struct rig *r, uint64_t address, uint32_t n)
{
    uint8_t arguments[12];
    memcpy(arguments, &address, 8);
    memcpy(arguments + 8, &n, 4);
    expect_done(calls_do(r, VGPU_CALL_LAUNCH, SLOTS(FUNCTION, STREAM, 1, 1, 1, 1, 1, 1, 0, 0, 0),
                         arguments, sizeof(arguments)));
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
    const struct response *got = CALL(r, COPY_FROM_DEVICE, address, 4, STREAM);
    expect_ok(got);
    assert_int_equal(got->data_length, 4);
    assert_int_equal(get32(got->data), 42);
    expect_done(CALL(r, MEMORY_FREE, address));
    expect_done(CALL(r, EVENT_DESTROY, EVENT));
    expect_done(CALL(r, STREAM_DESTROY, STREAM));
    expect_done(CALL(r, MODULE_UNLOAD, MODULE));
    assert_int_equal(calls_deferred(r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(p28_a_program_runs, calls_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
