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

/* backend/driver.h: no member is NULL. */
static void test_every_call_is_served(void **state)
{
    (void)state;
    void (*member)(void);
    const char *ops = (const char *)&vgpu_cuda_driver_ops;
    assert_true(sizeof(vgpu_cuda_driver_ops) > 50 * sizeof(member));
    for (size_t at = 0; at < sizeof(vgpu_cuda_driver_ops); at += sizeof(member)) {
        memcpy(&member, ops + at, sizeof(member));
        if (!member)
            fail_msg("member %zu of the driver is NULL", at / sizeof(member));
    }
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
