/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The instruction budget of a launch (backend.h, launch_instructions): what has an end gets there,
 * what has none ends with LAUNCH_TIMEOUT, sticky, however it goes on for ever.
 */
#include "ptx_rig.h"

#include <string.h>

#include "software.h"

#define ENDLESS(regs, body)                                                                        \
    ".visible .entry k() { .reg .pred %p; .reg .b32 %t, %v; " regs "\n" body "\nret; }\n"

static CUresult run(const char *text, uint32_t grid, uint32_t block, uint64_t budget)
{
    struct vgpu_backend_config config = {.threads = 2, .launch_instructions = budget};
    struct rig r;
    uint64_t at;
    rig_open_config(&r, &config);
    rig_load(&r, text, CUDA_SUCCESS);
    CUresult rc = rig_launch(&r, "k", grid, block, 0, 0, NULL);
    assert_int_equal(r.o->mem_alloc(r.b, 1, &at), rc);
    if (rc != CUDA_SUCCESS)
        assert_non_null(strstr(vgpu_software_last_error(r.b), "budget"));
    rig_close(&r);
    return rc;
}

static void test_endless(void **state)
{
    (void)state;
    static const char *const endless[] = {
        ENDLESS("", "x: bra x;"),
        ENDLESS("", "mov.u32 %t, %tid.x; and.b32 %t, %t, 1; setp.eq.u32 %p, %t, 0; x: @%p bra x;"),
        ENDLESS("", "mov.u32 %t, 0; list: .branchtargets x; x: brx.idx %t, list;"),
        ENDLESS("", "x: bar.sync 0; bra x;"),
        ENDLESS("", "x: bar.warp.sync -1; bra x;"),
        ".func f() { ret; }" ENDLESS("", "x: call f; bra x;"),
        ".func f(.param .b32 n) { .reg .b32 %n; .reg .pred %p; ld.param.u32 %n, [n];\n"
        "setp.eq.u32 %p, %n, 0; @%p ret; sub.u32 %n, %n, 1; call f, (%n); call f, (%n); ret; "
        "}" ENDLESS("", "call f, (100);"),
    };
    for (unsigned i = 0; i < sizeof(endless) / sizeof(endless[0]); i++)
        assert_int_equal(run(endless[i], 3, 64, 1000000), CUDA_ERROR_LAUNCH_TIMEOUT);
    /* Blocks that do nothing cost something, too: this grid would take hours. */
    assert_int_equal(run(ENDLESS("", ""), INT32_MAX, 1, 1000000), CUDA_ERROR_LAUNCH_TIMEOUT);
}

/* The budget counts about instructions of a warp, so what takes a tenth of it must not end, and
 * what takes ten times as much must. 0 is no limit. */
static void test_measure(void **state)
{
    (void)state;
    static const char loop[] = ENDLESS(
        "", "mov.u32 %v, 0; x: add.u32 %v, %v, 1; add.u32 %t, %v, %v; add.u32 %t, %t, 1;\n"
            "xor.b32 %t, %t, 1; xor.b32 %t, %t, 3; xor.b32 %t, %t, 5; mul.lo.u32 %t, %t, 7;\n"
            "xor.b32 %t, %t, 1; xor.b32 %t, %t, 3; xor.b32 %t, %t, 5; mul.lo.u32 %t, %t, 7;\n"
            "xor.b32 %t, %t, 1; xor.b32 %t, %t, 3; xor.b32 %t, %t, 5; mul.lo.u32 %t, %t, 7;\n"
            "xor.b32 %t, %t, 9; setp.lt.u32 %p, %v, 1000; @%p bra x;");
    const uint64_t insns = 18 * 1000 * 4; /* per warp; four warps */
    assert_int_equal(run(loop, 2, 64, insns * 10), CUDA_SUCCESS);
    assert_int_equal(run(loop, 2, 64, insns / 10), CUDA_ERROR_LAUNCH_TIMEOUT);
    assert_int_equal(run(loop, 2, 64, 0), CUDA_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_endless),
        VGPU_TEST(test_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
