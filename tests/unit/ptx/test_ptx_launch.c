/* SPDX-License-Identifier: GPL-2.0-or-later */
/* backend.h's clauses on launches: limits, parameters, interruption, threads, the device's own
 * description. */
#include "ptx_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const module_text =
    ".visible .entry k(.param .u32 a, .param .align 16 .b8 s[20], .param .u8 c, .param .u64 d) { "
    "ret; }\n"
    ".visible .entry small() .maxntid 64, 2, 1 { ret; }\n"
    ".visible .entry exact() .reqntid 8, 4 { ret; }\n"
    ".visible .entry sh() { .shared .align 4 .b8 x[40960]; .reg .b32 %r; mov.u32 %r, x; ret; }\n"
    ".extern .shared .align 16 .b8 dyn[];\n"
    ".visible .entry dynamic(.param .u64 out) { .reg .b64 %o, %a; .reg .b32 %v, %n; .shared .b8 "
    "pad[5];\n"
    "mov.u32 %v, pad; mov.u64 %a, dyn; st.shared.u32 [dyn+60], 77; add.u64 %a, %a, 60;\n"
    "ld.shared.u32 %v, [%a]; mov.u32 %n, %dynamic_smem_size; add.u32 %v, %v, %n;\n"
    "ld.param.u64 %o, [out]; st.global.u32 [%o], %v; ret; }\n"
    ".visible .entry endless() { L: bra L; }\n"
    ".visible .entry endless_diverged() { .reg .b32 %t; .reg .pred %p; mov.u32 %t, %tid.x; "
    "setp.lt.u32 %p, %t, 7;\n"
    "@%p bra A; B: bra B; A: bra A; }\n"
    ".visible .entry count(.param .u64 out) { .reg .b64 %o; .reg .b32 %v; ld.param.u64 %o, [out];\n"
    "atom.global.add.u32 %v, [%o], 1; ret; }\n";

static CUresult launch(struct rig *r, const char *name, const uint32_t grid[3],
                       const uint32_t block[3], uint32_t shared, const void *params, size_t bytes)
{
    const struct vgpu_kernel_info *info;
    struct vgpu_launch l = {.shared_bytes = shared, .params = params, .params_bytes = bytes};
    assert_int_equal(r->o->module_kernel(r->b, r->m, name, &l.kernel, &info), CUDA_SUCCESS);
    memcpy(l.grid, grid, sizeof(l.grid));
    memcpy(l.block, block, sizeof(l.block));
    return r->o->launch(r->b, &l);
}

#define DIM(x, y, z)                                                                               \
    (const uint32_t[3])                                                                            \
    {                                                                                              \
        x, y, z                                                                                    \
    }

/* Offsets follow PTX alignment; sizes are the parameters'. */
static void test_kernel_info(void **state)
{
    (void)state;
    struct rig r;
    struct vgpu_backend_kernel *k;
    const struct vgpu_kernel_info *info;
    rig_open(&r, 1);
    rig_load(&r, module_text, CUDA_SUCCESS);
    assert_int_equal(r.o->module_kernel(r.b, r.m, "none", &k, &info), CUDA_ERROR_NOT_FOUND);
    assert_int_equal(r.o->module_kernel(r.b, r.m, "k", &k, &info), CUDA_SUCCESS);
    assert_string_equal(info->name, "k");
    assert_int_equal(info->param_count, 4);
    const uint32_t want[4][2] = {{0, 4}, {16, 20}, {36, 1}, {40, 8}};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(info->params[i].offset, want[i][0]);
        assert_int_equal(info->params[i].size, want[i][1]);
    }
    assert_int_equal(info->param_bytes, 48);
    assert_int_equal(info->max_threads_per_block, 1024);
    assert_int_equal(r.o->module_kernel(r.b, r.m, "small", &k, &info), CUDA_SUCCESS);
    assert_int_equal(info->max_threads_per_block, 128);
    assert_int_equal(r.o->module_kernel(r.b, r.m, "sh", &k, &info), CUDA_SUCCESS);
    assert_int_equal(info->static_shared_bytes, 40960);
    rig_close(&r);
}

/* "A refusal is answered here and changes nothing": none of these is sticky. */
static void test_limits(void **state)
{
    (void)state;
    struct rig r;
    const CUresult bad = CUDA_ERROR_INVALID_VALUE;
    uint8_t p[64] = {0};
    rig_open(&r, 1);
    rig_load(&r, module_text, CUDA_SUCCESS);
    const uint32_t *one = DIM(1, 1, 1);
    assert_int_equal(launch(&r, "small", DIM(0, 1, 1), one, 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", DIM(1, 1, 0), one, 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", DIM(0x80000000u, 1, 1), one, 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", DIM(1, 65536, 1), one, 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", DIM(1, 1, 65536), one, 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", one, DIM(0, 1, 1), 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", one, DIM(129, 1, 1), 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "small", one, DIM(64, 2, 1), 0, NULL, 0), CUDA_SUCCESS);
    assert_int_equal(launch(&r, "k", one, DIM(1025, 1, 1), 0, p, 48), bad);
    assert_int_equal(launch(&r, "k", one, DIM(33, 32, 1), 0, p, 48), bad);
    assert_int_equal(launch(&r, "k", one, DIM(1, 1, 65), 0, p, 48), bad);
    assert_int_equal(launch(&r, "k", one, DIM(0x10001, 0x10001, 1), 0, p, 48), bad);
    assert_int_equal(launch(&r, "k", one, DIM(4, 4, 64), 0, p, 48), CUDA_SUCCESS);
    assert_int_equal(launch(&r, "exact", one, DIM(8, 4, 1), 0, NULL, 0), CUDA_SUCCESS);
    assert_int_equal(launch(&r, "exact", one, DIM(4, 8, 1), 0, NULL, 0), bad);
    assert_int_equal(launch(&r, "k", one, one, 0, p, 47), bad);
    assert_int_equal(launch(&r, "k", one, one, 0, p, 49), bad);
    assert_int_equal(launch(&r, "k", one, one, 0, NULL, 48), bad);
    assert_int_equal(launch(&r, "sh", one, one, 8192, NULL, 0), CUDA_SUCCESS);
    assert_int_equal(launch(&r, "sh", one, one, 8193, NULL, 0), bad);
    assert_int_equal(launch(&r, "sh", one, one, UINT32_MAX, NULL, 0), bad);
    assert_int_equal(r.o->synchronize(r.b), CUDA_SUCCESS);
    rig_close(&r);
}

/* .extern .shared lies behind the static part, as large as the launch says, aligned as declared. */
static void test_dynamic_shared(void **state)
{
    (void)state;
    struct rig r;
    uint64_t out;
    uint32_t got;
    rig_open(&r, 1);
    rig_load(&r, module_text, CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4, &out), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "dynamic", 1, 1, 64, 1, &out), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, &got, out, 4), CUDA_SUCCESS);
    assert_int_equal(got, 77 + 64);
    assert_int_equal(rig_launch(&r, "dynamic", 1, 1, 63, 1, &out), CUDA_ERROR_ILLEGAL_ADDRESS);
    rig_close(&r);
}

/* Every block and thread of a three-dimensional launch runs exactly once, on however many threads.
 */
static void test_every_thread_once(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 8; threads *= 2) {
        struct rig r;
        uint64_t out;
        uint32_t got;
        rig_open(&r, threads);
        rig_load(&r, module_text, CUDA_SUCCESS);
        assert_int_equal(r.o->mem_alloc(r.b, 4, &out), CUDA_SUCCESS);
        for (unsigned k = 0; k < 20; k++)
            assert_int_equal(launch(&r, "count", DIM(3, 5, 7), DIM(5, 3, 3), 0, &out, 8),
                             CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, &got, out, 4), CUDA_SUCCESS);
        assert_int_equal(got, 20 * 3 * 5 * 7 * 45);
        rig_close(&r);
    }
}

struct interrupter {
    struct rig *r;
    int done; /* atomic */
};

/* An interrupt that meets no running launch does nothing, so it is repeated until the launch is
 * over. */
static void *interrupt_until_done(void *arg)
{
    struct interrupter *it = arg;
    while (!__atomic_load_n(&it->done, __ATOMIC_ACQUIRE)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        it->r->o->interrupt(it->r->b);
    }
    return NULL;
}

static void interrupted(const char *kernel, unsigned threads)
{
    struct rig r;
    struct interrupter it = {.r = &r};
    pthread_t thread;
    uint64_t at;
    rig_open(&r, threads);
    rig_load(&r, module_text, CUDA_SUCCESS);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_until_done, &it), 0);
    CUresult rc = rig_launch(&r, kernel, 64, 128, 0, 0, NULL);
    __atomic_store_n(&it.done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(rc, CUDA_ERROR_LAUNCH_TIMEOUT);
    assert_int_equal(r.o->mem_alloc(r.b, 4, &at), CUDA_ERROR_LAUNCH_TIMEOUT);
    assert_int_equal(r.o->module_unload(r.b, r.m), CUDA_ERROR_LAUNCH_TIMEOUT);
    rig_close(&r);
}

/* "Ends running kernels as soon as possible with LAUNCH_TIMEOUT (sticky)" */
static void test_interrupt(void **state)
{
    (void)state;
    interrupted("endless", 1);
    interrupted("endless", 3);
    interrupted("endless_diverged", 2);
}

/* Without a running launch an interrupt is lost, not kept for the next one. */
static void test_interrupt_idle(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2);
    rig_load(&r, module_text, CUDA_SUCCESS);
    r.o->interrupt(r.b);
    assert_int_equal(rig_launch(&r, "small", 4, 32, 0, 0, NULL), CUDA_SUCCESS);
    r.o->interrupt(r.b);
    assert_int_equal(r.o->synchronize(r.b), CUDA_SUCCESS);
    rig_close(&r);
}

/* More local memory or registers than a host should give: refused, nothing sticky. */
static void test_out_of_resources(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    rig_load(
        &r,
        ".visible .entry k() { .local .align 8 .b8 big[524288]; .reg .b64 %a; mov.u64 %a, big;\n"
        "st.local.u64 [%a+524280], %a; ret; }",
        CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 1024, 0, 0, NULL), CUDA_SUCCESS);
    rig_unload(&r);
    rig_load(&r,
             ".visible .entry k() { .local .align 8 .b8 big[524289]; .reg .b64 %a; mov.u64 %a, "
             "big; ret; }",
             CUDA_ERROR_INVALID_PTX);
    rig_close(&r);
}

static long resident_mib(void)
{
    long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &resident), 2);
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) >> 10) >> 10;
}

/*
 * docs/software-backend.md, "Errors": what the blocks that run at a time take of the host is
 * bounded by memory_bytes (at least 64 MiB) over all threads, and is given back after the launch.
 * Each block touches 128 MiB of local memory.
 */
static void test_block_memory(void **state)
{
    (void)state;
    static const char text[] =
        ".visible .entry k(.param .u64 out) { .local .align 8 .b8 l[131072]; .reg .b32 %r<3>;\n"
        ".reg .b64 %d<3>; .reg .pred %p; mov.u64 %d1, l; mov.u32 %r1, 0;\n"
        "L: st.local.u32 [%d1], %r1; add.u64 %d1, %d1, 4096; add.u32 %r1, %r1, 1;\n"
        "setp.lt.u32 %p, %r1, 32; @%p bra L;\n"
        "ld.param.u64 %d2, [out]; mov.u32 %r1, %smid; red.global.max.u32 [%d2], %r1; ret; }\n";
    struct vgpu_backend_config config = {.threads = 4, .memory_bytes = 200u << 20};
    struct rig r;
    uint64_t out;
    uint32_t sm = 99;
    rig_open_config(&r, &config);
    rig_load(&r, text, CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4, &out), CUDA_SUCCESS);
    long before = resident_mib();
    assert_int_equal(rig_launch(&r, "k", 4, 1024, 0, 1, &out), CUDA_SUCCESS);
    /* There is room for one block at a time, so one thread ran them all. */
    assert_int_equal(r.o->copy_dtoh(r.b, &sm, out, sizeof(sm)), CUDA_SUCCESS);
    assert_int_equal(sm, 0);
    assert_true(resident_mib() - before < 100);
    rig_close(&r);
    /* No room for one: refused, and nothing is sticky. */
    config.memory_bytes = 1 << 20;
    rig_open_config(&r, &config);
    rig_load(&r, text, CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4, &out), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 1024, 0, 1, &out), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    assert_int_equal(rig_launch(&r, "k", 4, 64, 0, 1, &out), CUDA_SUCCESS);
    rig_close(&r);
}

static void test_device_info(void **state)
{
    (void)state;
    struct rig r;
    struct vgpu_device_info info, again;
    rig_open(&r, 3);
    r.o->device_info(r.b, &info);
    rig_close(&r);
    rig_open(&r, 3);
    r.o->device_info(r.b, &again);
    assert_memory_equal(info.uuid, again.uuid, 16);
    assert_string_equal(info.name, "vgpu software GPU");
    assert_int_equal(info.compute_major * 10 + info.compute_minor, 75);
    assert_int_equal(info.multiprocessors, 3);
    assert_int_equal(info.warp_size, 32);
    assert_int_equal(info.max_threads_per_block, 1024);
    assert_int_equal(info.max_block_dim[2], 64);
    assert_int_equal(info.max_grid_dim[0], 0x7fffffff);
    assert_int_equal(info.max_shared_per_block_bytes, 48 * 1024);
    assert_int_equal(info.total_memory_bytes, 1ull << 30);
    assert_int_equal(r.o->module_unload(r.b, (struct vgpu_backend_module *)&r),
                     CUDA_ERROR_INVALID_HANDLE);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_kernel_info),      VGPU_TEST(test_limits),
        VGPU_TEST(test_dynamic_shared),   VGPU_TEST(test_every_thread_once),
        VGPU_TEST(test_interrupt),        VGPU_TEST(test_interrupt_idle),
        VGPU_TEST(test_out_of_resources), VGPU_TEST(test_device_info),
        VGPU_TEST(test_block_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
