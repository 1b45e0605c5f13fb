/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long a worker looks for work before it sleeps (docs/worker.md, W17), in made-up time. */
#include "vgpu_test.h"
#include "worker/spin.h"

static void gaps(struct vgpu_spin *s, uint64_t *now, unsigned count, uint64_t ns)
{
    for (unsigned i = 0; i < count; i++) {
        vgpu_spin_idle(s, *now);
        vgpu_spin_idle(s, *now + ns / 2); /* idle still: counts from the first */
        *now += ns;
        vgpu_spin_work(s, *now);
    }
}

static void it_looks_somewhat_longer_than_work_takes_to_come(void **state)
{
    struct vgpu_spin s;
    uint64_t now = 1;
    vgpu_spin_init(&s);
    gaps(&s, &now, 100, 3000);
    assert_in_range(vgpu_spin_budget(&s), 6000, 15000);
    gaps(&s, &now, 100, 100);
    assert_in_range(vgpu_spin_budget(&s), VGPU_SPIN_MIN_NS, 3000);
    gaps(&s, &now, 100, 40000);
    assert_int_equal(vgpu_spin_budget(&s), VGPU_SPIN_MAX_NS);
}

static void it_does_not_look_for_what_takes_long(void **state)
{
    struct vgpu_spin s;
    uint64_t now = 1;
    vgpu_spin_init(&s);
    gaps(&s, &now, 100, 1000000);
    assert_int_equal(vgpu_spin_budget(&s), 0);
    /* and begins again soon after work comes fast. */
    gaps(&s, &now, 20, 1000);
    assert_true(vgpu_spin_budget(&s) > 1000);
}

static void one_pause_changes_little(void **state)
{
    struct vgpu_spin s;
    uint64_t now = 1;
    vgpu_spin_init(&s);
    gaps(&s, &now, 100, 2000);
    gaps(&s, &now, 1, 3600 * 1000000000ull);
    assert_true(vgpu_spin_budget(&s) > 10000);
    assert_true(vgpu_spin_budget(&s) <= VGPU_SPIN_MAX_NS);
}

static void it_looks_less_where_others_want_the_processor(void **state)
{
    struct vgpu_spin s;
    uint64_t now = 1;
    vgpu_spin_init(&s);
    gaps(&s, &now, 100, 9000);
    assert_true(vgpu_spin_budget(&s) > VGPU_SPIN_CAP_MIN_NS);
    for (unsigned i = 0; i < 10; i++)
        vgpu_spin_looked(&s, 3000000);
    assert_int_equal(vgpu_spin_budget(&s), VGPU_SPIN_CAP_MIN_NS);
    for (unsigned i = 0; i < 1000; i++)
        vgpu_spin_looked(&s, 300);
    assert_true(vgpu_spin_budget(&s) > VGPU_SPIN_CAP_MIN_NS);
    assert_true(s.cap_ns < 2 * VGPU_SPIN_MAX_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(it_looks_somewhat_longer_than_work_takes_to_come),
        VGPU_TEST(it_does_not_look_for_what_takes_long),
        VGPU_TEST(one_pause_changes_little),
        VGPU_TEST(it_looks_less_where_others_want_the_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
