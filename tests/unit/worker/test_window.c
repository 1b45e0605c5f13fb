/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUDA calls that name bytes of the window (docs/protocol.md, P28; docs/ring.md, G13): what the
 * worker looks up before its driver hears of them. */
#include <stdlib.h>
#include <string.h>

#include "software.h"
#include "vgpu_cuda_calls.h"
#include "vgpu_test.h"
#include "worker/calls.h"

#define OK(call)    assert_int_equal((call), CUDA_SUCCESS)
#define SLOTS(...)  ((const uint64_t[]){__VA_ARGS__})
#define WINDOW_SIZE 0x100000u
/* Bytes of the window that the session may name. */
#define READABLE    0x20000u
#define WRITABLE    0x60000u
#define EACH        0x1000u

struct rig {
    struct vgpu_window_view view; /* first */
    struct vgpu_backend *b;
    struct vgpu_calls calls;
    uint64_t device;
    unsigned asked;
    uint64_t offset, bytes;
    bool write;
    char text[256];
    uint8_t window[WINDOW_SIZE];
};

enum { CONTEXT = 5, ARRAY = 6, STREAM = 7 };

static void *find(struct vgpu_window_view *view, uint64_t offset, uint64_t bytes, bool write)
{
    struct rig *r = (struct rig *)(void *)view;
    r->asked++;
    r->offset = offset;
    r->bytes = bytes;
    r->write = write;
    uint64_t base = write ? WRITABLE : READABLE;
    if (offset < base || offset - base > EACH || bytes > EACH - (offset - base))
        return NULL;
    return r->window + offset;
}

static CUresult run(struct rig *r, uint32_t opcode, const uint64_t *slots)
{
    uint64_t out[VGPU_CALL_SLOTS_MAX];
    struct vgpu_call_frame frame = {.info = vgpu_call_info(opcode),
                                    .in = slots,
                                    .out = out,
                                    .text = r->text,
                                    .text_size = sizeof(r->text)};
    CUresult status = vgpu_calls_run(&r->calls, frame.info->context_free ? 0 : CONTEXT, &frame);
    if (status == CUDA_SUCCESS && opcode == VGPU_CALL_MEMORY_ALLOC)
        r->device = out[0];
    return status;
}

static int set_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct vgpu_backend_config config = {.memory_bytes = 16u << 20, .threads = 1};
    char why[200];
    assert_non_null(r);
    OK(vgpu_backend_software.open(&config, &r->b, why, sizeof(why)));
    vgpu_calls_init(&r->calls, vgpu_software_driver(r->b));
    r->view.find = find;
    r->calls.window = &r->view;
    OK(run(r, VGPU_CALL_PRIMARY_RETAIN, SLOTS(CONTEXT, 0)));
    OK(run(r, VGPU_CALL_MEMORY_ALLOC, SLOTS(0x10000)));
    OK(run(r, VGPU_CALL_ARRAY_CREATE, SLOTS(ARRAY, 64, 8, 0, 0x20, 1, 0)));
    OK(run(r, VGPU_CALL_STREAM_CREATE, SLOTS(STREAM, 0, 0)));
    r->asked = 0;
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    vgpu_calls_destroy(&r->calls);
    vgpu_backend_software.close(r->b);
    free(r);
    return 0;
}

static void g13_there_and_back(void **state)
{
    struct rig *r = *state;
    memset(r->window + READABLE, 0x5a, EACH);
    OK(run(r, VGPU_CALL_COPY_WINDOW_TO_DEVICE, SLOTS(r->device, EACH, READABLE, STREAM)));
    assert_true(r->offset == READABLE && r->bytes == EACH && !r->write);
    OK(run(r, VGPU_CALL_COPY_DEVICE_TO_WINDOW, SLOTS(WRITABLE + 1, r->device + 1, EACH - 1, 0)));
    assert_true(r->offset == WRITABLE + 1 && r->bytes == EACH - 1 && r->write);
    assert_int_equal(r->asked, 2);
    assert_int_equal(r->window[WRITABLE], 0);
    for (unsigned i = 1; i < EACH; i++)
        assert_int_equal(r->window[WRITABLE + i], 0x5a);
    assert_int_equal(r->window[WRITABLE + EACH], 0);
}

/* The slot that says how many bytes there are bounds what the driver touches. */
static void g13_boxes_and_arrays(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < EACH; i++)
        r->window[READABLE + i] = (uint8_t)(i * 7);
    /* Three rows of 16, 100 apart. */
    OK(run(r, VGPU_CALL_COPY_RECT_WINDOW_TO_DEVICE,
           SLOTS(r->device, 16, 0, READABLE + 8, 216, 100, 0, 16, 3, 1, STREAM)));
    assert_true(r->offset == READABLE + 8 && r->bytes == 216 && !r->write);
    OK(run(r, VGPU_CALL_COPY_RECT_DEVICE_TO_WINDOW,
           SLOTS(WRITABLE, 216, 100, 0, r->device, 16, 0, 16, 3, 1, 0)));
    assert_true(r->offset == WRITABLE && r->bytes == 216 && r->write);
    for (unsigned row = 0; row < 3; row++)
        assert_memory_equal(r->window + WRITABLE + 100 * row, r->window + READABLE + 8 + 100 * row,
                            16);
    assert_int_equal(r->window[WRITABLE + 16], 0);
    assert_int_equal(run(r, VGPU_CALL_COPY_RECT_WINDOW_TO_DEVICE,
                         SLOTS(r->device, 16, 0, READABLE + 8, 215, 100, 0, 16, 3, 1, 0)),
                     CUDA_ERROR_INVALID_VALUE);
    OK(run(r, VGPU_CALL_ARRAY_WRITE_WINDOW,
           SLOTS(ARRAY, 0, 1, 0, 64, 2, READABLE, 164, 100, STREAM)));
    assert_true(r->offset == READABLE && r->bytes == 164 && !r->write);
    OK(run(r, VGPU_CALL_ARRAY_READ_WINDOW, SLOTS(ARRAY, 4, 2, 0, 8, 1, WRITABLE + 900, 8, 0, 0)));
    assert_true(r->offset == WRITABLE + 900 && r->bytes == 8 && r->write);
    assert_memory_equal(r->window + WRITABLE + 900, r->window + READABLE + 104, 8);
    assert_int_equal(
        run(r, VGPU_CALL_ARRAY_READ_WINDOW, SLOTS(ARRAY, 4, 2, 0, 8, 1, WRITABLE, 7, 0, 0)),
        CUDA_ERROR_INVALID_VALUE);
}

/* No bytes are none, wherever they are: nobody is asked. */
static void g13_no_bytes(void **state)
{
    struct rig *r = *state;
    static const uint64_t offsets[] = {0, READABLE, WINDOW_SIZE, UINT64_MAX};
    for (int with = 1; with >= 0; with--) {
        r->calls.window = with ? &r->view : NULL;
        for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
            OK(run(r, VGPU_CALL_COPY_WINDOW_TO_DEVICE, SLOTS(r->device, 0, offsets[i], 0)));
            OK(run(r, VGPU_CALL_COPY_DEVICE_TO_WINDOW, SLOTS(offsets[i], r->device, 0, 0)));
            OK(run(r, VGPU_CALL_ARRAY_READ_WINDOW,
                   SLOTS(ARRAY, 0, 0, 0, 0, 1, offsets[i], 0, 0, 0)));
        }
        /* A box that needs some has none. */
        assert_int_equal(run(r, VGPU_CALL_COPY_RECT_DEVICE_TO_WINDOW,
                             SLOTS(WRITABLE, 0, 16, 0, r->device, 16, 0, 16, 1, 1, 0)),
                         CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(
            run(r, VGPU_CALL_ARRAY_WRITE_WINDOW, SLOTS(ARRAY, 0, 0, 0, 4, 1, READABLE, 0, 4, 0)),
            CUDA_ERROR_INVALID_VALUE);
    }
    assert_int_equal(r->asked, 0);
}

static void expect_refused(struct rig *r, uint64_t offset, uint64_t bytes)
{
    assert_int_equal(
        run(r, VGPU_CALL_COPY_WINDOW_TO_DEVICE, SLOTS(r->device, bytes, offset, STREAM)),
        CUDA_ERROR_INVALID_VALUE);
    assert_non_null(strstr(r->text, "window"));
    assert_int_equal(
        run(r, VGPU_CALL_COPY_DEVICE_TO_WINDOW, SLOTS(offset, r->device, bytes, STREAM)),
        CUDA_ERROR_INVALID_VALUE);
    assert_non_null(strstr(r->text, "window"));
}

static void g13_outside(void **state)
{
    struct rig *r = *state;
    static const uint64_t edge[] = {0,           1,          READABLE - 1, WRITABLE - 1,
                                    WINDOW_SIZE, UINT64_MAX, 1ull << 63};
    for (unsigned i = 0; i < sizeof(edge) / sizeof(edge[0]); i++) {
        expect_refused(r, edge[i], 2);
        expect_refused(r, edge[i], UINT64_MAX);
        expect_refused(r, edge[i], UINT64_MAX - edge[i] + (edge[i] != 0));
    }
    /* Each direction has its own. */
    assert_int_equal(run(r, VGPU_CALL_COPY_WINDOW_TO_DEVICE, SLOTS(r->device, 4, WRITABLE, 0)),
                     CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(run(r, VGPU_CALL_COPY_DEVICE_TO_WINDOW, SLOTS(READABLE, r->device, 4, 0)),
                     CUDA_ERROR_INVALID_VALUE);
    /* An end beyond 64 bits is nobody's question. */
    r->asked = 0;
    expect_refused(r, UINT64_MAX, 2);
    expect_refused(r, READABLE, UINT64_MAX - READABLE + 1);
    assert_int_equal(r->asked, 0);
}

static void g13_without_a_window(void **state)
{
    struct rig *r = *state;
    r->calls.window = NULL;
    expect_refused(r, READABLE, 4);
    assert_non_null(strstr(r->text, "channel"));
    /* The driver did not hear of it: nothing was written. */
    r->calls.window = &r->view;
    OK(run(r, VGPU_CALL_COPY_DEVICE_TO_WINDOW, SLOTS(WRITABLE, r->device, 4, 0)));
    assert_int_equal(r->window[WRITABLE], 0);
}

/* What stands in the table for whoever carries calls. */
static void the_table_says_which(void **state)
{
    unsigned count = 0;
    (void)state;
    for (uint32_t opcode = 0x1000; opcode < 0x2000; opcode++) {
        const struct vgpu_call_info *info = vgpu_call_info(opcode);
        count += info && info->window;
    }
    assert_int_equal(count, 6);
    assert_true(vgpu_call_info(VGPU_CALL_COPY_WINDOW_TO_DEVICE)->window);
    assert_false(vgpu_call_info(VGPU_CALL_COPY_TO_DEVICE)->window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(g13_there_and_back, set_up, tear_down),
        VGPU_TEST_F(g13_boxes_and_arrays, set_up, tear_down),
        VGPU_TEST_F(g13_no_bytes, set_up, tear_down),
        VGPU_TEST_F(g13_outside, set_up, tear_down),
        VGPU_TEST_F(g13_without_a_window, set_up, tear_down),
        VGPU_TEST(the_table_says_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
