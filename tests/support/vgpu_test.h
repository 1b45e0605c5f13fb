/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every C test runs between vgpu_test_setup and vgpu_test_teardown: the second fails the test when
 * it left an open descriptor or a child process behind. Use VGPU_TEST(f) where cmocka has
 * cmocka_unit_test(f); a test that wants a fixture uses VGPU_TEST_F(f, setup, teardown), whose own
 * setup and teardown run inside the leak check.
 */
#ifndef VGPU_TEST_H
#define VGPU_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct vgpu_test_fixture {
    int (*setup)(void **state);
    int (*teardown)(void **state);
};

int vgpu_test_setup(void **state);
int vgpu_test_teardown(void **state);

#define VGPU_TEST(f)                                                                               \
    {                                                                                              \
#f, f, vgpu_test_setup, vgpu_test_teardown, NULL                                           \
    }
#define VGPU_TEST_F(f, s, t)                                                                       \
    {                                                                                              \
#f, f, vgpu_test_setup, vgpu_test_teardown, &(struct vgpu_test_fixture)                    \
        {                                                                                          \
            s, t                                                                                   \
        }                                                                                          \
    }

#endif
