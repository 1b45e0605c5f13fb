/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What posted CUDA calls cost their program: libcuda's half alone, over a channel whose host does
 * not look at it meanwhile. One line for each call: least and median ns of a call, over bursts that
 * fit the ring. No test; for a profile, run it under a profiler with a large count.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../unit/cuda/fake_channel.h"

#define BURST 400u /* calls whose records fit the ring */

static CUfunction function;
static CUdeviceptr device;
static CUstream stream;
static CUevent event;
static uint8_t *pinned;
static uint8_t bytes[8192];

static void launch(void)
{
    uint64_t x = device, y = device;
    uint32_t n = 5;
    float f = 1;
    void *params[] = {&x, &y, &n, &f};
    assert_ok(cuLaunchKernel(function, 16, 1, 1, 256, 1, 1, 0, stream, params, NULL));
}

static void launch_on_default(void)
{
    uint64_t x = device, y = device;
    uint32_t n = 5;
    float f = 1;
    void *params[] = {&x, &y, &n, &f};
    assert_ok(cuLaunchKernel(function, 16, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
}

static void record_event(void)
{
    assert_ok(cuEventRecord(event, stream));
}

static void set_memory(void)
{
    assert_ok(cuMemsetD32Async(device, 7, 1000, stream));
}

static void copy_4(void)
{
    assert_ok(cuMemcpyHtoDAsync_v2(device, bytes, 4, stream));
}

static void copy_pinned(void)
{
    assert_ok(cuMemcpyHtoDAsync_v2(device, pinned, 4096, stream));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *name, void (*call)(void), unsigned bursts)
{
    double *ns = calloc(bursts, sizeof(ns[0]));
    assert_non_null(ns);
    for (unsigned i = 0; i < bursts; i++) {
        struct timespec start, end;
        fake_channel_stop(true);
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (unsigned k = 0; k < BURST; k++)
            call();
        clock_gettime(CLOCK_MONOTONIC, &end);
        fake_channel_stop(false);
        assert_ok(cuCtxSynchronize());
        ns[i] =
            ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
            BURST;
    }
    qsort(ns, bursts, sizeof(ns[0]), compare);
    printf("%-22s least %6.0f ns, median %6.0f ns\n", name, ns[0], ns[bursts / 2]);
    free(ns);
}

static void run(void **state)
{
    (void)state;
    const char *count = getenv("BURSTS");
    unsigned bursts = count ? (unsigned)strtoul(count, NULL, 10) : 200;
    const struct vgpu_param_layout layout[] = {{0, 8}, {8, 8}, {16, 4}, {20, 4}};
    CUmodule module;
    CUdeviceptr others[100];
    fake_set_function(4, layout, 24, 1024, 49152);
    assert_ok(cuModuleLoadData(&module, ".version 7.0\n.target sm_70\n.address_size 64\n"));
    assert_ok(cuModuleGetFunction(&function, module, "f"));
    for (int i = 0; i < 100; i++) /* a program has a few */
        assert_ok(cuMemAlloc_v2(&others[i], 4096));
    assert_ok(cuMemAlloc_v2(&device, 65536));
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 1 << 20));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuEventCreate(&event, 0));
    measure("launch, 4 parameters", launch, bursts);
    measure("the same, stream NULL", launch_on_default, bursts);
    measure("event record", record_event, bursts);
    measure("memset", set_memory, bursts);
    measure("4 bytes to the device", copy_4, bursts);
    measure("4 KiB, pinned", copy_pinned, bursts);
    assert_ok(cuMemFreeHost(pinned));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(run, fake_channel_setup, fake_channel_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
