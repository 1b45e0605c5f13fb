/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pinned host memory of the backend `cuda` (backend/backend.h, host_register): through every
 * context that there is or will be. */
#include <stdlib.h>

#include "fake_gpu.h"
#include "host.h"
#include "stream.h"
#include "vgpu_test.h"

#define OK(call) assert_int_equal((call), CUDA_SUCCESS)

static char window[4096], extent[4096];

static int set_up(void **state)
{
    *state = fake_open();
    return 0;
}

static int tear_down(void **state)
{
    fake_close(*state);
    return 0;
}

static struct vgpu_driver_context *retain(struct vgpu_backend *b)
{
    struct vgpu_driver_context *c = NULL;
    OK(b->driver.ops->primary_retain(&b->driver, &c, 0));
    OK(b->driver.ops->context_use(&b->driver, c));
    return c;
}

static void test_before_there_is_a_context(void **state)
{
    struct vgpu_backend *b = *state;
    OK(cuda_host_register(b, window, sizeof(window)));
    OK(cuda_host_register(b, extent, sizeof(extent)));
    cuda_host_forget(b, extent);
    assert_int_equal(fake.registrations, 0);
    (void)retain(b);
    assert_int_equal(fake.registered, 1);
    OK(cuda_host_register(b, extent, sizeof(extent)));
    assert_int_equal(fake.registered, 2);
    cuda_host_forget(b, window);
    cuda_host_forget(b, window); /* not there: nothing */
    assert_int_equal(fake.registered, 1);
}

/* A second context does not pin it again; when the first one ends, the second one has to. */
static void test_contexts_come_and_go(void **state)
{
    struct vgpu_backend *b = *state;
    const struct vgpu_driver_ops *o = b->driver.ops;
    struct vgpu_driver_context *first = retain(b), *second;
    OK(cuda_host_register(b, window, sizeof(window)));
    OK(o->context_create(&b->driver, &second, 0));
    OK(o->context_use(&b->driver, second));
    assert_int_equal(fake.registrations, 1);
    CUcontext survivor = second->cuda;
    fake_work(b, NULL); /* of the one that stays: may be a copy from there */
    OK(o->context_destroy(&b->driver, first));
    assert_int_equal(fake.registered, 1);
    assert_int_equal(fake.registrations, 2);
    assert_ptr_equal(fake.registered_by, survivor);
    OK(o->context_destroy(&b->driver, second));
    assert_int_equal(fake.registered, 0);
    (void)retain(b);
    assert_int_equal(fake.registered, 1);
}

/* Nothing is unpinned under a copy (the fake fails the test otherwise). */
static void test_forgetting_waits(void **state)
{
    struct vgpu_backend *b = *state;
    (void)retain(b);
    OK(cuda_host_register(b, window, sizeof(window)));
    fake_work(b, NULL);
    cuda_host_forget(b, window);
    assert_int_equal(fake.registered, 0);
    unsigned waits = fake.waits;
    OK(cuda_host_register(b, window, sizeof(window)));
    cuda_host_forget(b, window); /* idle: not asked */
    assert_int_equal(fake.waits, waits);
}

/* It costs speed: the session goes on, and tries again with the next context. */
static void test_a_refusal(void **state)
{
    struct vgpu_backend *b = *state;
    struct vgpu_driver_context *c = retain(b);
    fake.refuse_register = CUDA_ERROR_OUT_OF_MEMORY;
    assert_int_equal(cuda_host_register(b, window, sizeof(window)), CUDA_ERROR_OUT_OF_MEMORY);
    assert_true(b->host_refused);
    assert_int_equal(cuda_host_register(b, NULL, 1), CUDA_ERROR_INVALID_VALUE);
    OK(b->driver.ops->context_destroy(&b->driver, c));
    fake.refuse_register = CUDA_SUCCESS;
    (void)retain(b);
    assert_int_equal(fake.registered, 1);
    cuda_host_forget(b, window);
    assert_int_equal(fake.registered, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_before_there_is_a_context, set_up, tear_down),
        VGPU_TEST_F(test_contexts_come_and_go, set_up, tear_down),
        VGPU_TEST_F(test_forgetting_waits, set_up, tear_down),
        VGPU_TEST_F(test_a_refusal, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
