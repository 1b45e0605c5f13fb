/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counting in the worker (docs/worker.md W9, Figures). */
#include <string.h>

#include "vgpu_test.h"
#include "worker/usage.h"

static void add_call(struct vgpu_tally *t, uint32_t opcode, const uint64_t *in, size_t payload,
                     uint32_t fill, CUresult status)
{
    struct vgpu_call_frame frame = {
        .info = vgpu_call_info(opcode), .in = in, .payload_length = payload, .fill_length = fill};
    assert_non_null(frame.info);
    vgpu_tally_call(t, &frame, status);
}

/* Every call that moves bytes between host and device, with the slots of api/cuda.calls; and some
 * that do not. */
static void test_w9_bytes(void **state)
{
    (void)state;
    static const uint64_t none[16];
    static const uint64_t window_to[16] = {0, 1000}, to_window[16] = {0, 0, 300};
    static const uint64_t box[16] = {[7] = 10, [8] = 5, [9] = 2};
    static const uint64_t array[16] = {0, 0, 0, 0, 64, 4};
    static const struct {
        uint32_t opcode;
        const uint64_t *in;
        size_t payload;
        uint32_t fill;
        uint64_t to, from;
    } cases[] = {
        {VGPU_CALL_COPY_TO_DEVICE, none, 77, 0, 77, 0},
        {VGPU_CALL_COPY_FROM_DEVICE, none, 0, 88, 0, 88},
        {VGPU_CALL_COPY_WINDOW_TO_DEVICE, window_to, 0, 0, 1000, 0},
        {VGPU_CALL_COPY_DEVICE_TO_WINDOW, to_window, 0, 0, 0, 300},
        {VGPU_CALL_COPY_RECT_WINDOW_TO_DEVICE, box, 0, 0, 100, 0},
        {VGPU_CALL_COPY_RECT_DEVICE_TO_WINDOW, box, 0, 0, 0, 100},
        {VGPU_CALL_ARRAY_WRITE, none, 55, 0, 55, 0},
        {VGPU_CALL_ARRAY_READ, none, 0, 66, 0, 66},
        {VGPU_CALL_ARRAY_WRITE_WINDOW, array, 0, 0, 256, 0},
        {VGPU_CALL_ARRAY_READ_WINDOW, array, 0, 0, 0, 256},
        {VGPU_CALL_COPY_ON_DEVICE, box, 0, 0, 0, 0},
        {VGPU_CALL_COPY_RECT, box, 0, 0, 0, 0},
        {VGPU_CALL_MODULE_LOAD, none, 5000, 0, 0, 0},
        {VGPU_CALL_LAUNCH, box, 500, 0, 0, 0},
        {VGPU_CALL_PRINTF_READ, none, 0, 99, 0, 0},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgpu_tally t;
        vgpu_tally_init(&t, NULL);
        add_call(&t, cases[i].opcode, cases[i].in, cases[i].payload, cases[i].fill, CUDA_SUCCESS);
        assert_int_equal(t.at->bytes_to_device, cases[i].to);
        assert_int_equal(t.at->bytes_from_device, cases[i].from);
        assert_int_equal(t.at->calls, 1);
        assert_int_equal(t.at->launches, cases[i].opcode == VGPU_CALL_LAUNCH);
        assert_int_equal(t.at->posts, vgpu_call_info(cases[i].opcode)->posted);
        /* One that fails has moved nothing. */
        add_call(&t, cases[i].opcode, cases[i].in, cases[i].payload, cases[i].fill,
                 CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(t.at->bytes_to_device, cases[i].to);
        assert_int_equal(t.at->bytes_from_device, cases[i].from);
        assert_int_equal(t.at->calls, 2);
        assert_int_equal(t.at->errors[0].status, CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(t.at->errors[0].count, 1);
    }
}

static void test_w9_errors(void **state)
{
    (void)state;
    struct vgpu_tally t;
    vgpu_tally_init(&t, NULL);
    for (uint32_t status = 1; status <= VGPU_USAGE_ERRORS + 3; status++)
        for (uint32_t i = 0; i < status; i++)
            vgpu_tally_error(&t, status);
    for (uint32_t i = 0; i < VGPU_USAGE_ERRORS; i++) {
        assert_int_equal(t.at->errors[i].status, i + 1);
        assert_int_equal(t.at->errors[i].count, i + 1);
    }
    assert_int_equal(t.at->errors_other, 3 * VGPU_USAGE_ERRORS + 1 + 2 + 3);
    vgpu_tally_refused(&t, 2);
    assert_int_equal(t.at->calls, 1);
    assert_int_equal(t.at->errors[1].count, 3);
}

/* About one call in 32 is measured, and no call of a program that repeats itself is left out. */
static void test_w9_samples(void **state)
{
    (void)state;
    struct vgpu_tally t;
    uint64_t measured[32] = {0}, all = 0;
    vgpu_tally_init(&t, NULL);
    for (unsigned i = 0; i < 320000; i++) {
        uint64_t begin = vgpu_tally_begin(&t);
        measured[i % 32] += begin != 0;
        all += begin != 0;
        vgpu_tally_end(&t, begin);
    }
    assert_in_range(all, 320000 / 36, 320000 / 29);
    for (unsigned i = 0; i < 32; i++)
        assert_in_range(measured[i], all / 32 / 2, all / 32 * 2);
    uint64_t counted = 0;
    for (unsigned i = 0; i < VGPU_HISTOGRAM_BUCKETS; i++)
        counted += t.at->call_time[i];
    assert_int_equal(counted, all);
    assert_true(t.at->sampled_ns > 0);
}

static void test_w9_busy(void **state)
{
    (void)state;
    struct vgpu_tally t;
    vgpu_tally_init(&t, NULL);
    vgpu_tally_idle(&t, 50);
    assert_int_equal(t.at->busy_ns, 0);
    vgpu_tally_busy(&t, 100);
    assert_int_equal(t.at->busy_since_ns, 100);
    vgpu_tally_idle(&t, 130);
    vgpu_tally_idle(&t, 190);
    assert_int_equal(t.at->busy_since_ns, 0);
    vgpu_tally_busy(&t, 200);
    vgpu_tally_idle(&t, 205);
    assert_int_equal(t.at->busy_ns, 35);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_w9_bytes),
        VGPU_TEST(test_w9_errors),
        VGPU_TEST(test_w9_samples),
        VGPU_TEST(test_w9_busy),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
