/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md C17: our header's sizes, offsets and values are those of NVIDIA's cuda.h,
 * where that is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "abi.h"

static void test_abi(void **state)
{
    (void)state;
    assert_int_equal(abi_ours_count, abi_theirs_count);
    unsigned different = 0;
    for (unsigned i = 0; i < abi_ours_count; i++) {
        assert_string_equal(abi_ours[i].what, abi_theirs[i].what);
        if (abi_ours[i].value != abi_theirs[i].value) {
            print_error("%s: %llu, theirs %llu\n", abi_ours[i].what, abi_ours[i].value,
                        abi_theirs[i].value);
            different++;
        }
    }
    assert_int_equal(different, 0);
    assert_true(abi_ours_count > 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_abi)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
