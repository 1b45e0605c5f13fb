/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cooperative launches (CUDA Driver API, "cuLaunchCooperativeKernel"): all blocks are there at a
 * time, more than fit are refused, and what ends a launch ends one whose blocks wait for each
 * other.
 */
#include "ptx_rig.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "software.h"

/* Each block counts itself in the workspace and spins until all have; then says where it is. */
#define BARRIER(wait_for)                                                                          \
    ".visible .entry k(.param .u64 out) { .reg .b64 %o, %w, %l; .reg .b32 %a, %b, %n;\n"           \
    ".reg .pred %p; ld.param.u64 %o, [out]; mov.u32 %a, %envreg1; mov.u32 %b, %envreg2;\n"         \
    "mov.b64 %w, {%b, %a}; setp.eq.u64 %p, %w, 0; @%p trap; mov.u32 %n, %nctaid.x;\n"              \
    "mov.u32 %a, %tid.x; setp.ne.u32 %p, %a, 0; @%p bra join;\n"                                   \
    "atom.add.release.gpu.u32 %a, [%w+4], 1; add.u32 %n, %n, " wait_for ";\n"                      \
    "spin: ld.acquire.gpu.u32 %a, [%w+4]; setp.lt.u32 %p, %a, %n; @%p bra spin;\n"                 \
    "join: bar.sync 0; mov.u32 %b, %ctaid.x; mul.wide.u32 %l, %b, 4; add.u64 %o, %o, %l;\n"        \
    "mov.u32 %a, %tid.x; setp.ne.u32 %p, %a, 0; @%p ret; ld.u32 %a, [%w+4];\n"                     \
    "st.global.u32 [%o], %a; ret; }\n"

static CUresult launch(struct rig *r, uint32_t grid, uint32_t block, uint32_t shared, bool together,
                       uint64_t out)
{
    const struct vgpu_kernel_info *info;
    struct vgpu_launch l = {.grid = {grid, 1, 1},
                            .block = {block, 1, 1},
                            .shared_bytes = shared,
                            .params = &out,
                            .params_bytes = 8,
                            .cooperative = together};
    assert_int_equal(r->o->module_kernel(r->b, r->m, "k", &l.kernel, &info), CUDA_SUCCESS);
    CUresult rc = r->o->launch(r->b, &l);
    return rc ? rc : r->o->synchronize(r->b);
}

static uint64_t limit_of(struct rig *r, uint32_t block, uint32_t shared)
{
    const struct vgpu_kernel_info *info;
    struct vgpu_backend_kernel *k;
    uint64_t blocks = 0;
    assert_int_equal(r->o->module_kernel(r->b, r->m, "k", &k, &info), CUDA_SUCCESS);
    assert_int_equal(vgpu_software_max_blocks(r->b, k, block, shared, &blocks), CUDA_SUCCESS);
    return blocks;
}

/* On one thread and on several, with blocks of several warps, again and again: the workspace is
 * zero at the beginning of each launch. */
static void test_barrier(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct rig r;
        uint32_t got[48];
        uint64_t out;
        rig_open(&r, threads);
        rig_load(&r, BARRIER("0"), CUDA_SUCCESS);
        assert_int_equal(r.o->mem_alloc(r.b, sizeof(got), &out), CUDA_SUCCESS);
        for (unsigned round = 0; round < 3; round++) {
            uint32_t blocks = 16 * threads;
            assert_int_equal(launch(&r, blocks, 40, 0, true, out), CUDA_SUCCESS);
            assert_int_equal(r.o->copy_dtoh(r.b, got, out, blocks * 4), CUDA_SUCCESS);
            for (unsigned i = 0; i < blocks; i++)
                assert_int_equal(got[i], blocks);
        }
        rig_close(&r);
    }
}

/* "more than fit": as a 7.5 card counts, and by the host memory that blocks may take; a refusal
 * changes nothing. */
static void test_limits(void **state)
{
    (void)state;
    struct rig r;
    uint64_t out;
    rig_open(&r, 2);
    rig_load(&r, BARRIER("0"), CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &out), CUDA_SUCCESS);
    assert_int_equal(limit_of(&r, 1, 0), 32);
    assert_int_equal(limit_of(&r, 64, 0), 32);
    assert_int_equal(limit_of(&r, 65, 0), 20); /* three warps each */
    assert_int_equal(limit_of(&r, 1024, 0), 2);
    assert_int_equal(limit_of(&r, 32, 20000), 6);
    assert_int_equal(limit_of(&r, 32, 49152), 2);
    assert_int_equal(launch(&r, 33, 32, 0, true, out), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(launch(&r, 3, 1024, 0, true, out), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(launch(&r, INT32_MAX, 1, 0, true, out),
                     CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(launch(&r, 7, 32, 20000, true, out), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(launch(&r, 6, 32, 20000, true, out), CUDA_SUCCESS);
    assert_int_equal(launch(&r, 2, 1024, 0, true, out), CUDA_SUCCESS);
    rig_close(&r);
    /* 512 KiB of .local memory for each of 1024 threads: 512 MiB a block, of 1 GiB. */
    rig_open(&r, 4);
    rig_load(&r,
             ".visible .entry k(.param .u64 x) { .local .b8 big[524288]; .reg .b64 %a;\n"
             "mov.u64 %a, big; ret; }",
             CUDA_SUCCESS);
    assert_int_equal(limit_of(&r, 1024, 0), 1);
    assert_int_equal(launch(&r, 2, 1024, 0, true, 0), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(launch(&r, 1, 1024, 0, true, 0), CUDA_SUCCESS);
    rig_close(&r);
}

/* Without the flag there is no workspace. */
static void test_not_cooperative(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    rig_load(&r, BARRIER("0"), CUDA_SUCCESS);
    assert_int_equal(launch(&r, 2, 32, 0, false, 0), CUDA_ERROR_LAUNCH_FAILED);
    rig_close(&r);
    rig_open(&r, 1);
    rig_load(&r,
             ".visible .entry k(.param .u64 x) { .reg .b32 %a, %b; .reg .pred %p;\n"
             "mov.u32 %a, %envreg0; mov.u32 %b, %envreg31; or.b32 %a, %a, %b;\n"
             "mov.u32 %b, %envreg1; or.b32 %a, %a, %b; setp.ne.u32 %p, %a, 0; @%p trap; ret; }",
             CUDA_SUCCESS);
    assert_int_equal(launch(&r, 2, 32, 0, false, 0), CUDA_SUCCESS);
    rig_unload(&r);
    rig_load(&r, ".visible .entry k() { .reg .b32 %a; mov.u32 %a, %envreg32; ret; }",
             CUDA_ERROR_INVALID_PTX);
    rig_close(&r);
}

static int done;

static void *interrupt_soon(void *arg)
{
    struct rig *r = arg;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        r->o->interrupt(r->b);
    }
    return NULL;
}

/* Blocks that wait for one that never comes end by interrupt, by budget, and by another's fault. */
static void test_endings(void **state)
{
    (void)state;
    struct rig r;
    uint64_t out;
    pthread_t thread;
    rig_open(&r, 2);
    rig_load(&r, BARRIER("1"), CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &out), CUDA_SUCCESS);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, &r), 0);
    CUresult rc = launch(&r, 8, 64, 0, true, out);
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(rc, CUDA_ERROR_LAUNCH_TIMEOUT);
    rig_close(&r);

    struct vgpu_backend_config config = {.threads = 2, .launch_instructions = 1000000};
    rig_open_config(&r, &config);
    rig_load(&r, BARRIER("1"), CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &out), CUDA_SUCCESS);
    assert_int_equal(launch(&r, 8, 64, 0, true, out), CUDA_ERROR_LAUNCH_TIMEOUT);
    rig_close(&r);

    rig_open(&r, 2);
    rig_load(
        &r,
        ".visible .entry k(.param .u64 x) { .reg .b32 %a; .reg .pred %p; mov.u32 %a, %ctaid.x;\n"
        "setp.eq.u32 %p, %a, 7; @%p trap; spin: bra spin; }",
        CUDA_SUCCESS);
    assert_int_equal(launch(&r, 8, 64, 0, true, 0), CUDA_ERROR_LAUNCH_FAILED);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_barrier),
        VGPU_TEST(test_limits),
        VGPU_TEST(test_not_cooperative),
        VGPU_TEST(test_endings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
