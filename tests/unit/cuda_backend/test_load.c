/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host whose driver is missing or too old gets a sentence, not a crash; and every CUDA call has
 * something that serves it. */
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "vgpu_test.h"

static void expect_refusal(const char *library, const char *words)
{
    struct vgpu_backend *b = (void *)1;
    char why[512] = "";
    setenv("VGPU_LIBCUDA", library, 1);
    CUresult r = vgpu_backend_cuda.open(&(struct vgpu_backend_config){0}, &b, why, sizeof(why));
    unsetenv("VGPU_LIBCUDA");
    assert_int_equal(r, CUDA_ERROR_NO_DEVICE);
    assert_null(b);
    if (!strstr(why, words))
        fail_msg("'%s' is not in: %s", words, why);
}

static void test_no_driver(void **state)
{
    (void)state;
    expect_refusal("/does/not/exist/libcuda.so.1", "no NVIDIA driver");
}

static void test_a_library_without_the_functions(void **state)
{
    (void)state;
    expect_refusal("libc.so.6", "cuInit");
}

/* A structure of nothing but pointers has no NULL. */
static void expect_full(const char *what, const void *ops, size_t bytes)
{
    void (*member)(void);
    for (size_t at = 0; at < bytes; at += sizeof(member)) {
        memcpy(&member, (const char *)ops + at, sizeof(member));
        if (!member)
            fail_msg("member %zu of the %s is NULL", at / sizeof(member), what);
    }
}

/* backend/backend.h and backend/driver.h: no member is missing. */
static void test_every_call_is_served(void **state)
{
    (void)state;
    assert_true(sizeof(vgpu_cuda_driver_ops) > 50 * sizeof(void *));
    expect_full("driver", &vgpu_cuda_driver_ops, sizeof(vgpu_cuda_driver_ops));
    expect_full("backend", &vgpu_backend_cuda, sizeof(vgpu_backend_cuda));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_driver),
        cmocka_unit_test(test_a_library_without_the_functions),
        cmocka_unit_test(test_every_call_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
