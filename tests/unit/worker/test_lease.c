/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lease gate alone: W4 of docs/worker.md, event by event. */
#include <errno.h>

#include "vgpu_test.h"
#include "worker/lease.h"

static struct vgpu_lease fresh(void)
{
    struct vgpu_lease l;
    vgpu_lease_init(&l);
    return l;
}

static void w4_want_once_until_the_grant(void **state)
{
    struct vgpu_lease l = fresh();
    (void)state;
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_CLOSED);
    assert_true(vgpu_lease_want(&l));
    assert_false(vgpu_lease_want(&l));
    assert_int_equal(vgpu_lease_grant(&l, 5), 0);
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_OPEN);
    assert_false(vgpu_lease_want(&l)); /* it is here */
}

static void w4_grant_twice(void **state)
{
    struct vgpu_lease l = fresh();
    (void)state;
    assert_int_equal(vgpu_lease_grant(&l, 5), 0); /* unasked: taken */
    assert_int_equal(vgpu_lease_grant(&l, 6), -EPROTO);
    assert_int_equal(l.number, 5);
}

static void w4_recall_lets_work_go_on_until_the_grace_is_over(void **state)
{
    struct vgpu_lease l = fresh();
    uint64_t number = 0;
    (void)state;
    vgpu_lease_grant(&l, 5);
    assert_int_equal(vgpu_lease_deadline(&l), UINT64_MAX);
    assert_true(vgpu_lease_recall(&l, 5, 1000000, 2, 0));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_RECALLED);
    assert_int_equal(vgpu_lease_deadline(&l), 1002000);
    assert_false(vgpu_lease_tick(&l, 1001999));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_RECALLED);
    assert_true(vgpu_lease_tick(&l, 1002000));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_STOPPING);
    assert_false(vgpu_lease_tick(&l, 1003000)); /* said already */
    assert_int_equal(vgpu_lease_deadline(&l), UINT64_MAX);
    assert_false(vgpu_lease_take_return(&l, &number));
    vgpu_lease_release(&l);
    assert_true(vgpu_lease_take_return(&l, &number));
    assert_int_equal(number, 5);
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_CLOSED);
    assert_false(vgpu_lease_take_return(&l, &number)); /* once */
    assert_true(vgpu_lease_want(&l));
}

static void w4_no_grace(void **state)
{
    struct vgpu_lease l = fresh();
    (void)state;
    vgpu_lease_grant(&l, 5);
    assert_true(vgpu_lease_recall(&l, 5, 77, 0, 0));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_STOPPING);
}

static void w4_release_inside_the_grace(void **state)
{
    struct vgpu_lease l = fresh();
    uint64_t number = 0;
    (void)state;
    vgpu_lease_grant(&l, 5);
    vgpu_lease_recall(&l, 5, 0, 1000, 0);
    vgpu_lease_release(&l);
    /* The grace's end comes when the engine has let go already: nothing moves. */
    assert_false(vgpu_lease_tick(&l, UINT64_MAX));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_RETURNED);
    assert_int_equal(vgpu_lease_deadline(&l), UINT64_MAX);
    assert_false(vgpu_lease_want(&l)); /* RETURN first */
    assert_true(vgpu_lease_take_return(&l, &number));
}

static void w4_recall_of_what_is_not_held(void **state)
{
    struct vgpu_lease l = fresh();
    uint64_t number = 0;
    (void)state;
    assert_false(vgpu_lease_recall(&l, 0, 0, 0, 0));
    vgpu_lease_grant(&l, 5);
    assert_false(vgpu_lease_recall(&l, 4, 0, 0, 0));
    assert_false(vgpu_lease_recall(&l, 6, 0, 0, 0));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_OPEN);
    vgpu_lease_recall(&l, 5, 0, 0, 0);
    vgpu_lease_release(&l);
    assert_false(vgpu_lease_recall(&l, 5, 0, 0, 0)); /* crossed with the RETURN */
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_RETURNED);
    vgpu_lease_take_return(&l, &number);
    assert_false(vgpu_lease_recall(&l, 5, 0, 0, 0));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_CLOSED);
}

static void w4_second_recall_only_shortens(void **state)
{
    struct vgpu_lease l = fresh();
    (void)state;
    vgpu_lease_grant(&l, 5);
    vgpu_lease_recall(&l, 5, 0, 1000, 0);
    vgpu_lease_recall(&l, 5, 0, 5000, 0);
    assert_int_equal(vgpu_lease_deadline(&l), 1000000);
    vgpu_lease_recall(&l, 5, 0, 10, 0);
    assert_int_equal(vgpu_lease_deadline(&l), 10000);
    assert_true(vgpu_lease_recall(&l, 5, 10, 0, 0));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_STOPPING);
}

static void w4_grace_that_overflows(void **state)
{
    struct vgpu_lease l = fresh();
    (void)state;
    vgpu_lease_grant(&l, 5);
    vgpu_lease_recall(&l, 5, UINT64_MAX - 10, UINT32_MAX, 0);
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_RECALLED);
    assert_int_equal(vgpu_lease_deadline(&l), UINT64_MAX);
}

static void w4_a_new_lease_forgets_the_old_recall(void **state)
{
    struct vgpu_lease l = fresh();
    uint64_t number = 0;
    (void)state;
    vgpu_lease_grant(&l, 5);
    vgpu_lease_recall(&l, 5, 0, 1, 0);
    vgpu_lease_release(&l);
    vgpu_lease_take_return(&l, &number);
    vgpu_lease_grant(&l, 6);
    assert_false(vgpu_lease_tick(&l, 1u << 30));
    assert_int_equal(vgpu_lease_gate(&l), VGPU_GATE_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(w4_want_once_until_the_grant),
        VGPU_TEST(w4_grant_twice),
        VGPU_TEST(w4_recall_lets_work_go_on_until_the_grace_is_over),
        VGPU_TEST(w4_no_grace),
        VGPU_TEST(w4_release_inside_the_grace),
        VGPU_TEST(w4_recall_of_what_is_not_held),
        VGPU_TEST(w4_second_recall_only_shortens),
        VGPU_TEST(w4_grace_that_overflows),
        VGPU_TEST(w4_a_new_lease_forgets_the_old_recall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
