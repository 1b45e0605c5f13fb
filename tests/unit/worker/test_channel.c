/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker and its channel: the worker's side of docs/ring.md, G5 to G17. */
#include <string.h>

#include "channel_rig.h"
#include "vgpu_test.h"

static void g11_a_nop_with_a_token_is_answered_without_it_is_not(void **state)
{
    struct channel_rig *r = *state;
    guest_write(r, VGPU_RING_NOP, false, (struct answer_place){0, 0}, NULL, 0);
    struct guest_answer a = guest_record(r, VGPU_RING_NOP, NULL, 0);
    guest_expect(a, 0);
    assert_int_equal(a.length, 0);
    guest_expect_silence(r, 5);
}

static void calls_run_and_answer(void **state)
{
    struct channel_rig *r = *state;
    guest_load(r);
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    POST(r, MEMORY_SET, address, 0, 0, 4, 16, 1, 0);
    for (unsigned i = 0; i < 1000; i++)
        guest_launch_add(r, address, 3);
    guest_expect(guest_synchronize(r), 0);
    struct guest_answer a = DO(r, COPY_FROM_DEVICE, address, 64, 0);
    guest_expect(a, 0);
    assert_int_equal(a.length, 64);
    assert_int_equal(get32(a.bytes), 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(g11_a_nop_with_a_token_is_answered_without_it_is_not, channel_setup,
                    channel_teardown),
        VGPU_TEST_F(calls_run_and_answer, channel_setup, channel_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
