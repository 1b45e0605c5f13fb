/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which device addresses a copy may name (src/backend/cuda/ranges.h), against a plain list. */
#include <stdlib.h>

#include "ranges.h"
#include "vgpu_test.h"

static int owners[3];

static void test_holds_what_was_added(void **state)
{
    struct cuda_ranges r = {0};
    (void)state;
    assert_false(cuda_ranges_hold(&r, 0, 1));
    assert_true(cuda_ranges_add(&r, 0x1000, 0x100, &owners[0], false));
    assert_true(cuda_ranges_hold(&r, 0x1000, 0x100));
    assert_true(cuda_ranges_hold(&r, 0x10ff, 1));
    assert_false(cuda_ranges_hold(&r, 0x10ff, 2));
    assert_false(cuda_ranges_hold(&r, 0xfff, 1));
    assert_false(cuda_ranges_hold(&r, 0x1100, 1));
    assert_false(cuda_ranges_hold(&r, 0x1000, 0));
    assert_false(cuda_ranges_hold(&r, 0x1001, UINT64_MAX));
    assert_false(cuda_ranges_hold(&r, UINT64_MAX, UINT64_MAX));
    cuda_ranges_free(&r);
}

/* Two that touch are still two: what lies across both is in none. */
static void test_neighbours(void **state)
{
    struct cuda_ranges r = {0};
    (void)state;
    assert_true(cuda_ranges_add(&r, 0x2000, 0x1000, &owners[0], false));
    assert_true(cuda_ranges_add(&r, 0x1000, 0x1000, &owners[0], false));
    assert_true(cuda_ranges_hold(&r, 0x1800, 0x800));
    assert_false(cuda_ranges_hold(&r, 0x1800, 0x801));
    assert_false(cuda_ranges_add(&r, 0x1fff, 2, &owners[1], false));
    assert_false(cuda_ranges_add(&r, 0x800, 0x801, &owners[1], false));
    assert_false(cuda_ranges_add(&r, UINT64_MAX, 2, &owners[1], false));
    assert_false(cuda_ranges_add(&r, 0x9000, 0, &owners[1], false));
    assert_int_equal(r.allocated_bytes, 0x2000);
    cuda_ranges_free(&r);
}

/* A module's variable may be copied, not freed, and goes with its module. */
static void test_owners_and_variables(void **state)
{
    struct cuda_ranges r = {0};
    (void)state;
    assert_true(cuda_ranges_add(&r, 0x1000, 0x10, &owners[0], false));
    assert_true(cuda_ranges_add(&r, 0x2000, 0x10, &owners[1], true));
    assert_true(cuda_ranges_add(&r, 0x2000, 0x10, &owners[1], true)); /* asked for again */
    assert_true(cuda_ranges_add(&r, 0x3000, 0x10, &owners[1], false));
    assert_int_equal(r.count, 3);
    assert_int_equal(r.allocated_bytes, 0x20);
    assert_null(cuda_ranges_allocation(&r, 0x2000));
    assert_null(cuda_ranges_allocation(&r, 0x1001));
    assert_non_null(cuda_ranges_allocation(&r, 0x1000));
    cuda_ranges_remove_owner(&r, &owners[1]);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.allocated_bytes, 0x10);
    assert_false(cuda_ranges_hold(&r, 0x2000, 1));
    cuda_ranges_remove(&r, 0x1001); /* none */
    cuda_ranges_remove(&r, 0x1000);
    assert_int_equal(r.count, 0);
    assert_int_equal(r.allocated_bytes, 0);
    cuda_ranges_free(&r);
}

static void test_against_a_list(void **state)
{
    enum { SLOTS = 512 };
    struct cuda_ranges r = {0};
    uint64_t bytes[SLOTS] = {0}; /* slot i begins at (i + 1) << 12 */
    uint64_t total = 0;
    (void)state;
    srand(1);
    for (int step = 0; step < 20000; step++) {
        unsigned i = (unsigned)rand() % SLOTS;
        uint64_t base = ((uint64_t)i + 1) << 12, size = 1 + (uint64_t)rand() % 4096;
        if (bytes[i]) {
            assert_true(cuda_ranges_hold(&r, base + bytes[i] - 1, 1));
            assert_false(cuda_ranges_hold(&r, base, bytes[i] + 1));
            cuda_ranges_remove(&r, base);
            total -= bytes[i];
            bytes[i] = 0;
        } else {
            assert_false(cuda_ranges_hold(&r, base, 1));
            assert_true(cuda_ranges_add(&r, base, size, &owners[0], false));
            bytes[i] = size;
            total += size;
        }
        assert_int_equal(r.allocated_bytes, total);
    }
    cuda_ranges_free(&r);
}

static void test_extent(void **state)
{
    uint64_t bytes = 0;
    (void)state;
    assert_true(cuda_ranges_extent(16, 32, 4, 0, 1, &bytes));
    assert_int_equal(bytes, 3 * 32 + 16);
    assert_true(cuda_ranges_extent(16, 16, 4, 64, 3, &bytes));
    assert_int_equal(bytes, 2 * 64 + 64);
    assert_true(cuda_ranges_extent(16, 0, 1, 0, 1, &bytes)); /* one row needs no pitch */
    assert_int_equal(bytes, 16);
    assert_false(cuda_ranges_extent(16, 15, 2, 0, 1, &bytes));
    assert_false(cuda_ranges_extent(16, 16, 4, 63, 2, &bytes));
    assert_false(cuda_ranges_extent(0, 16, 1, 0, 1, &bytes));
    assert_false(cuda_ranges_extent(1, 1ull << 40, 1ull << 40, 0, 1, &bytes));
    assert_false(cuda_ranges_extent(1, 1, UINT64_MAX, UINT64_MAX, UINT64_MAX, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_what_was_added),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_owners_and_variables),
        cmocka_unit_test(test_against_a_list),
        cmocka_unit_test(test_extent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
