/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software backend against a second evaluator (tests/fuzz/diff) on random straight-line
 * programs: each opcode form's clause of the PTX ISA, in combination. The seeds are fixed, so a
 * failure comes again; VGPU_DIFF_SEEDS=FIRST:COUNT tries others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "vgpu_test.h"

static void test_random_programs(void **state)
{
    (void)state;
    unsigned long long first = 1, count = 1500;
    const char *other = getenv("VGPU_DIFF_SEEDS");
    if (other)
        assert_int_equal(sscanf(other, "%llu:%llu", &first, &count), 2);
    struct diff *d = diff_open(&vgpu_backend_software);
    unsigned wrong = 0;
    assert_non_null(d);
    for (unsigned long long seed = first; seed - first < count && wrong < 5; seed++)
        if (!diff_run(d, NULL, 0, seed, stderr)) {
            print_error("seed %llu\n", seed);
            wrong++;
        }
    diff_close(d);
    assert_int_equal(wrong, 0);
}

/* Every family of instructions is in what the seeds above make, and in several types. */
static void test_coverage(void **state)
{
    (void)state;
    static struct program p;
    static const struct family *const lists[] = {diff_integer, diff_bits, diff_float, diff_half,
                                                 diff_warp};
    const size_t counts[] = {diff_integer_count, diff_bits_count, diff_float_count, diff_half_count,
                             diff_warp_count};
    static uint32_t seen[5][64];
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct choices c = {.state = seed * 0x9e3779b97f4a7c15ull};
        diff_generate(&p, &c, true);
        for (unsigned i = 0; i < p.count; i++)
            for (unsigned k = 0; k < 5; k++)
                if (p.insns[i].family >= lists[k] && p.insns[i].family < lists[k] + counts[k])
                    seen[k][p.insns[i].family - lists[k]] |= T(p.insns[i].t);
    }
    for (unsigned k = 0; k < 5; k++) {
        assert_true(counts[k] <= 64);
        for (size_t i = 0; i < counts[k]; i++)
            assert_int_equal(seen[k][i], lists[k][i].types);
    }
}

/* The evaluator's own arithmetic, on values worked out by hand. */
static void test_soft(void **state)
{
    (void)state;
    struct soft one = soft_from_integer(1), three = soft_from_integer(3);
    assert_int_equal(soft_pack(&soft_f32, soft_div(one, three), SOFT_RN), 0x3eaaaaab);
    assert_int_equal(soft_pack(&soft_f32, soft_div(one, three), SOFT_RZ), 0x3eaaaaaa);
    assert_int_equal(soft_pack(&soft_f64, soft_sqrt(three), SOFT_RN), 0x3ffbb67ae8584caa);
    assert_int_equal(soft_pack(&soft_f16, soft_from_integer(65520), SOFT_RN), 0x7c00);
    assert_int_equal(soft_pack(&soft_f16, soft_from_integer(65519), SOFT_RN), 0x7bff);
    assert_int_equal(soft_pack(&soft_f16, soft_from_integer(65520), SOFT_RZ), 0x7bff);
    struct soft least = soft_unpack(&soft_f32, 1), half = soft_div(one, soft_from_integer(2));
    assert_int_equal(soft_pack(&soft_f32, soft_mul(least, half), SOFT_RN), 0);
    assert_int_equal(soft_pack(&soft_f32, soft_mul(least, half), SOFT_RP), 1);
    assert_int_equal(soft_pack(&soft_f32, soft_add(one, soft_negate(one), SOFT_RM), SOFT_RM),
                     0x80000000);
    /* 1 - 2^-149 is below 1 only where rounding goes down. */
    struct soft less = soft_add(one, soft_negate(least), SOFT_RN);
    assert_int_equal(soft_pack(&soft_f32, less, SOFT_RN), 0x3f800000);
    assert_int_equal(soft_pack(&soft_f32, less, SOFT_RM), 0x3f7fffff);
    assert_true(soft_to_integer(soft_from_integer(-5), 0, 9) == 0);
    assert_true(soft_to_integer(soft_from_integer(50), 0, 9) == 9);
    assert_int_equal(soft_compare(less, one), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_soft),
        VGPU_TEST(test_coverage),
        VGPU_TEST(test_random_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
