/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a session keeps (handles, stages), launch checks, and answers as bytes: P6, P14, P19, P26,
 * P27 of docs/protocol.md. */
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "vgpu_test.h"
#include "worker/answer.h"
#include "worker/check.h"
#include "worker/handles.h"
#include "worker/session.h"

static void p27_handles_name_one_thing_once(void **state)
{
    struct vgpu_handles h;
    int objects[3];
    (void)state;
    vgpu_handles_init(&h, 'M', 1024);
    assert_null(vgpu_handles_get(&h, 0));
    uint64_t a = vgpu_handles_add(&h, &objects[0]), b = vgpu_handles_add(&h, &objects[1]);
    assert_true(a && b && a != b);
    assert_ptr_equal(vgpu_handles_get(&h, a), &objects[0]);
    assert_ptr_equal(vgpu_handles_get(&h, b), &objects[1]);
    assert_ptr_equal(vgpu_handles_remove(&h, a), &objects[0]);
    assert_null(vgpu_handles_get(&h, a)); /* freed */
    assert_null(vgpu_handles_remove(&h, a));
    uint64_t c = vgpu_handles_add(&h, &objects[2]); /* the same slot */
    assert_int_equal(c & 0xFFFF, a & 0xFFFF);
    assert_true(c != a);
    assert_null(vgpu_handles_get(&h, a));
    /* Forged: every bit of a good one turned. */
    for (int bit = 0; bit < 64; bit++)
        assert_null(vgpu_handles_get(&h, b ^ 1ull << bit));
    assert_null(vgpu_handles_get(&h, UINT64_MAX));
    vgpu_handles_destroy(&h);
}

static void p27_handles_of_another_kind_or_session(void **state)
{
    struct vgpu_handles a, b, other;
    int object;
    (void)state;
    vgpu_handles_init(&a, 'M', 16);
    vgpu_handles_init(&b, 'M', 16);
    vgpu_handles_init(&other, 'F', 16);
    other.tags = a.tags; /* even if the rest agrees */
    uint64_t in_a = vgpu_handles_add(&a, &object);
    uint64_t in_b = vgpu_handles_add(&b, &object);
    uint64_t of_other = vgpu_handles_add(&other, &object);
    assert_true(in_a != in_b);
    assert_null(vgpu_handles_get(&a, in_b));
    assert_null(vgpu_handles_get(&b, in_a));
    assert_null(vgpu_handles_get(&a, of_other));
    assert_null(vgpu_handles_get(&other, in_a));
    vgpu_handles_destroy(&a);
    vgpu_handles_destroy(&b);
    vgpu_handles_destroy(&other);
}

static void handles_are_bounded(void **state)
{
    struct vgpu_handles h;
    int object;
    uint64_t last = 0;
    (void)state;
    vgpu_handles_init(&h, 'F', VGPU_HANDLES_MAX);
    for (uint32_t i = 0; i < VGPU_HANDLES_MAX; i++) {
        last = vgpu_handles_add(&h, &object);
        assert_true(last != 0);
    }
    assert_int_equal(vgpu_handles_add(&h, &object), 0);
    assert_ptr_equal(vgpu_handles_remove(&h, last), &object);
    assert_true(vgpu_handles_add(&h, &object) != 0);
    assert_int_equal(vgpu_handles_add(&h, &object), 0);
    vgpu_handles_destroy(&h);
}

/* Functions go with their module; asking twice gives the same one. */
static void p27_functions_of_a_module(void **state)
{
    struct vgpu_session s;
    struct vgpu_kernel_limits limits = {.param_bytes = 12};
    int module_object, kernels[2];
    (void)state;
    vgpu_session_init(&s, 0);
    uint64_t handle =
        vgpu_session_add_module(&s, (struct vgpu_backend_module *)(void *)&module_object);
    struct vgpu_module *m = vgpu_session_module(&s, handle);
    assert_non_null(m);
    struct vgpu_function *f = vgpu_session_add_function(
        &s, m, (struct vgpu_backend_kernel *)(void *)&kernels[0], &limits);
    struct vgpu_function *g = vgpu_session_add_function(
        &s, m, (struct vgpu_backend_kernel *)(void *)&kernels[1], &limits);
    assert_true(f && g && f != g);
    assert_ptr_equal(vgpu_session_add_function(
                         &s, m, (struct vgpu_backend_kernel *)(void *)&kernels[0], &limits),
                     f);
    uint64_t first = f->handle;
    assert_ptr_equal(vgpu_session_function(&s, first), f);
    assert_null(vgpu_session_module(&s, first));
    assert_null(vgpu_session_function(&s, handle));
    assert_ptr_equal(vgpu_session_remove_module(&s, handle), &module_object);
    assert_null(vgpu_session_function(&s, first));
    assert_null(vgpu_session_remove_module(&s, handle));
    vgpu_session_destroy(&s);
}

static void modules_are_bounded(void **state)
{
    struct vgpu_session s;
    int object;
    (void)state;
    vgpu_session_init(&s, 0);
    for (uint32_t i = 0; i < VGPU_SESSION_MODULES; i++)
        assert_true(vgpu_session_add_module(&s, (struct vgpu_backend_module *)(void *)&object) !=
                    0);
    assert_int_equal(vgpu_session_add_module(&s, (struct vgpu_backend_module *)(void *)&object), 0);
    vgpu_session_destroy(&s);
}

#define MIB (1u << 20)

static CUresult put(struct vgpu_stages *s, uint32_t id, uint32_t total, uint32_t offset,
                    uint32_t length)
{
    static const uint8_t bytes[4096] = "stage";
    const char *why = NULL;
    assert_true(length <= sizeof(bytes));
    CUresult status = vgpu_stage_write(s, id, total, offset, bytes, length, &why);
    assert_true(status == CUDA_SUCCESS || why);
    return status;
}

static void p26_pieces_in_order(void **state)
{
    struct vgpu_stages s = {0};
    struct vgpu_blob blob;
    const char *why;
    (void)state;
    assert_int_equal(put(&s, 7, 10, 0, 4), 0);
    assert_int_equal(put(&s, 7, 10, 5, 2), 1);  /* a gap */
    assert_int_equal(put(&s, 7, 10, 3, 2), 1);  /* an overlap */
    assert_int_equal(put(&s, 7, 11, 4, 2), 1);  /* a total that changes */
    assert_int_equal(put(&s, 7, 10, 4, 7), 1);  /* past the total */
    assert_int_equal(put(&s, 7, 10, 11, 1), 1); /* beyond it */
    assert_int_equal(put(&s, 7, 10, UINT32_MAX, 2), 1);
    assert_int_equal(put(&s, 8, 10, 4, 2), 1); /* a first piece that is none */
    assert_int_equal(put(&s, 7, 10, 4, 6), 0); /* none of which did harm */
    assert_int_equal(vgpu_stage_take(&s, 7, &blob, &why), 0);
    assert_int_equal(blob.size, 10);
    assert_memory_equal(blob.bytes, "stagstage\0", 10);
    vgpu_blob_free(&blob);
    assert_int_equal(vgpu_stage_take(&s, 7, &blob, &why), 400); /* used up */
    vgpu_stages_clear(&s);
}

static void p26_limits(void **state)
{
    struct vgpu_stages s = {0};
    (void)state;
    assert_int_equal(put(&s, 0, 10, 0, 4), 1);
    assert_int_equal(put(&s, 1, 0, 0, 1), 1);
    assert_int_equal(put(&s, 1, 64 * MIB + 1, 0, 1), 1);
    assert_int_equal(put(&s, 1, UINT32_MAX, 0, 1), 1);
    for (uint32_t id = 1; id <= 4; id++)
        assert_int_equal(put(&s, id, 64 * MIB, 0, 1), 0);
    assert_int_equal(put(&s, 5, 1, 0, 1), 2);
    assert_int_equal(put(&s, 4, 1, 0, 1), 0); /* starting one again needs no place */
    const char *why;
    assert_int_equal(vgpu_stage_drop(&s, 2, &why), 0);
    assert_int_equal(vgpu_stage_drop(&s, 2, &why), 400);
    assert_int_equal(vgpu_stage_drop(&s, 0, &why), 400);
    assert_int_equal(put(&s, 5, 1, 0, 1), 0);
    vgpu_stages_clear(&s);
}

static void p26_restart_and_incomplete(void **state)
{
    struct vgpu_stages s = {0};
    struct vgpu_blob blob = {0};
    const char *why;
    (void)state;
    assert_int_equal(put(&s, 3, 8, 0, 5), 0);
    assert_int_equal(put(&s, 3, 6, 0, 5), 0); /* again, with another total */
    assert_int_equal(put(&s, 3, 6, 5, 1), 0);
    assert_int_equal(vgpu_stage_take(&s, 3, &blob, &why), 0);
    assert_int_equal(blob.size, 6);
    vgpu_blob_free(&blob);
    assert_int_equal(put(&s, 3, 8, 0, 5), 0);
    assert_int_equal(vgpu_stage_take(&s, 3, &blob, &why), 1);   /* not complete */
    assert_int_equal(vgpu_stage_take(&s, 3, &blob, &why), 400); /* and used up by that */
    assert_int_equal(vgpu_stage_take(&s, 0, &blob, &why), 400);
    assert_null(blob.bytes);
    vgpu_stages_clear(&s);
}

static CUresult check(const uint32_t grid[3], const uint32_t block[3], uint32_t shared,
                      uint32_t params, char why[160])
{
    static const struct vgpu_device_info info = {.max_threads_per_block = 1024,
                                                 .max_block_dim = {1024, 1024, 64},
                                                 .max_grid_dim = {0x7fffffff, 65535, 65535},
                                                 .max_shared_per_block_bytes = 49152};
    static const struct vgpu_kernel_limits kernel = {
        .param_bytes = 20, .max_threads_per_block = 256, .static_shared_bytes = 1024};
    why[0] = 0;
    return vgpu_check_launch(&info, &kernel, grid, block, shared, params, why, 160);
}

#define DIM(x, y, z)                                                                               \
    (const uint32_t[3])                                                                            \
    {                                                                                              \
        x, y, z                                                                                    \
    }

static void p19_launch_limits(void **state)
{
    char why[160];
    (void)state;
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 1), 0, 20, why), 0);
    assert_int_equal(check(DIM(0x7fffffff, 65535, 65535), DIM(256, 1, 1), 48128, 20, why), 0);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 1), 0, 19, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 1), 0, 21, why), 1);
    assert_int_equal(check(DIM(0, 1, 1), DIM(1, 1, 1), 0, 20, why), 1);
    assert_string_equal(why, "grid 0x1x1: each dimension must be at least 1");
    assert_int_equal(check(DIM(1, 0, 1), DIM(1, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 0), DIM(1, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(0, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 0, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 0), 0, 20, why), 1);
    assert_int_equal(check(DIM(0x80000000, 1, 1), DIM(1, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 65536, 1), DIM(1, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, UINT32_MAX), DIM(1, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1025, 1, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 65), 0, 20, why), 1);
    /* Each dimension is fine, the product is not, and would wrap in 32 and 64 bits. */
    assert_int_equal(check(DIM(1, 1, 1), DIM(1024, 1024, 64), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1024, 2, 1), 0, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(257, 1, 1), 0, 20, why), 701);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 1), 48129, 20, why), 1);
    assert_int_equal(check(DIM(1, 1, 1), DIM(1, 1, 1), UINT32_MAX, 20, why), 1);
}

/* A device whose limits bound nothing: the product of the dimensions is 2^64 and looks like 0. */
static void p19_threads_that_overflow(void **state)
{
    const struct vgpu_device_info info = {
        .max_threads_per_block = 1024,
        .max_block_dim = {UINT32_MAX, UINT32_MAX, UINT32_MAX},
        .max_grid_dim = {UINT32_MAX, UINT32_MAX, UINT32_MAX},
    };
    const struct vgpu_kernel_limits kernel = {.max_threads_per_block = 1024};
    char why[160];
    (void)state;
    assert_int_equal(vgpu_check_launch(&info, &kernel, DIM(1, 1, 1), DIM(1u << 31, 1u << 31, 4), 0,
                                       0, why, sizeof(why)),
                     1);
}

static void answers_as_bytes(void **state)
{
    struct vgpu_answer a;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    struct response r;
    (void)state;
    vgpu_answer_init(&a);
    parse_response(1, 0, bytes, (uint32_t)vgpu_answer_encode(&a, 5, bytes), &r);
    assert_int_equal(r.length, 32);
    assert_int_equal(r.exec_time_us, 5);
    a.result_count = 7;
    a.results[6] = 0xAABBCCDD;
    a.data_length = 960;
    a.data[959] = 0x5A;
    parse_response(1, 0, bytes, (uint32_t)vgpu_answer_encode(&a, 0x100000005, bytes), &r);
    assert_int_equal(r.length, 1024);
    assert_int_equal(r.exec_time_us, UINT32_MAX); /* saturates */
    assert_int_equal(r.results[6], 0xAABBCCDD);
    assert_int_equal(r.data[959], 0x5A);
    a.data_length = 992; /* more than fits behind 7 results: cut, never overrun */
    parse_response(1, 0, bytes, (uint32_t)vgpu_answer_encode(&a, 0, bytes), &r);
    assert_int_equal(r.length, 1024);
    a.bare = true;
    assert_int_equal(vgpu_answer_encode(&a, 0, bytes), 0);
    /* P9 */
    vgpu_answer_not_ready(&a);
    parse_response(1, 0, bytes, (uint32_t)vgpu_answer_encode(&a, 0, bytes), &r);
    expect_not_ready(&r);
    assert_int_equal(r.length, 32);
}

static void p7_p8_where_a_cuda_failure_travels(void **state)
{
    struct vgpu_answer a;
    (void)state;
    vgpu_answer_fail(&a, false, CUDA_ERROR_NOT_FOUND, "%s", "");
    assert_int_equal(a.error_code, 5);
    assert_int_equal(a.status, 500);
    assert_memory_equal(a.data, "named symbol not found", 22); /* the CUresult's own words */
    vgpu_answer_fail(&a, true, CUDA_ERROR_NOT_FOUND, "no kernel '%s'", "x");
    assert_int_equal(a.error_code, 0);
    assert_int_equal(a.data_length, 13);
    vgpu_answer_fail(&a, false, CUDA_ERROR_NOT_READY, "%s", "");
    assert_int_equal(a.error_code, 0);
    assert_int_equal(a.data_length, 0);
}

static void p6_texts_are_utf8_and_cut(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain\ttext\nhere\n", "plain\ttext\nhere"},
        {"bell\a esc\033[31m", "bell? esc?[31m"},
        {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},
        {"\xe2\x82\xac 5", "\xe2\x82\xac 5"},
        {"\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!"},
        {"\xc0\x80 overlong", "?? overlong"},
        {"\xe0\x80\x80 overlong", "??? overlong"},
        {"\xed\xa0\x80 surrogate", "??? surrogate"},
        {"\xf4\x90\x80\x80 high", "???? high"},
        {"\xff\xfe no", "?? no"},
        {"\x80 lone", "? lone"},
        {"cut \xe2\x82", "cut"},
        {"cut \xf0\x9f\x98", "cut"},
        {"\x7f", "?"},
        {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64] = {0};
        strcpy(text, cases[i].in);
        size_t n = vgpu_text_clean(text, strlen(text));
        assert_int_equal(n, strlen(cases[i].out));
        assert_memory_equal(text, cases[i].out, n);
    }
    struct vgpu_answer a;
    char *much = malloc(5000);
    assert_non_null(much);
    memset(much, 'm', 4999);
    much[4999] = 0;
    vgpu_answer_reject(&a, 1, "%s", much);
    assert_int_equal(a.data_length, 992);
    free(much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(p27_handles_name_one_thing_once),
        VGPU_TEST(p27_handles_of_another_kind_or_session),
        VGPU_TEST(handles_are_bounded),
        VGPU_TEST(p27_functions_of_a_module),
        VGPU_TEST(modules_are_bounded),
        VGPU_TEST(p26_pieces_in_order),
        VGPU_TEST(p26_limits),
        VGPU_TEST(p26_restart_and_incomplete),
        VGPU_TEST(p19_launch_limits),
        VGPU_TEST(p19_threads_that_overflow),
        VGPU_TEST(answers_as_bytes),
        VGPU_TEST(p7_p8_where_a_cuda_failure_travels),
        VGPU_TEST(p6_texts_are_utf8_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
