/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The figures that others are compared with (src/cli/floors.h) are there, and in order. */
#include "vgpu_test.h"

#include <errno.h>

#include "cli/floors.h"

static void check_spread(int rc, const struct vgpu_floor_spread *s)
{
    assert_int_equal(rc, 0);
    assert_true(s->min > 0);
    assert_true(s->min <= s->median);
    assert_true(s->median <= s->p99);
}

static void test_each(void **state)
{
    struct vgpu_floor_spread s = {0};
    uint32_t piece = 0;
    check_spread(vgpu_floor_post(&s), &s);
    check_spread(vgpu_floor_take(&s), &s);
    check_spread(vgpu_floor_pingpong(&s), &s);
    check_spread(vgpu_floor_eventfd(&s), &s);
    /* Not a multiple of any piece. */
    check_spread(vgpu_floor_staged_copy((5u << 20) + 12345, &s, &piece), &s);
    assert_true(piece >= 64u << 10 && piece <= 2u << 20);
    assert_int_equal(vgpu_floor_staged_copy(0, &s, &piece), -EINVAL);
}

static void test_all(void **state)
{
    struct vgpu_floors f;
    assert_int_equal(vgpu_floors_measure(&f, 1u << 20), 0);
    assert_true(f.post_ns > 0 && f.pingpong_ns > 0 && f.eventfd_roundtrip_ns > 0);
    assert_true(f.records_per_s > 0 && f.staged_copy_bytes_per_s > 0);
    assert_int_equal(vgpu_floors_measure(&f, 0), 0);
    assert_true(f.staged_copy_bytes_per_s == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_each), VGPU_TEST(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
