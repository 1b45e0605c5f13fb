/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What calls of the CUDA driver API cost, from a program's side. The same binary runs on NVIDIA's
 * library and on ours (LD_LIBRARY_PATH), so that the two can be put side by side.
 *
 *     driver_bench [--json] [--mib N] [--only NAME] [SCALE]
 *
 * SCALE (default 1) multiplies the counts; N (default 256) is the size of large copies. Each figure
 * is the median of many times, with the least and the 99th percentile. A figure that cannot be
 * taken says why and the others are; the exit status is then 1.
 */
#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry nop(.param .u64 p) { ret; }\n";

#define SAMPLES_MAX   65536
/* Launches between two synchronizations: what a card queues without making the program wait. */
#define QUEUE         512
/* Launches that are timed together: a look at the clock would be part of one's cost. */
#define GROUP         16
#define LARGE_ROUNDS  9
#define THROUGHPUT_US 500e3

static struct {
    bool json, any;
    int scale, failures;
    size_t large;
    const char *only;
} options;

static struct {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction nop;
    CUstream stream;
    CUdeviceptr small;
} gpu;

static double sample[SAMPLES_MAX];
static int samples;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void fail(const char *figure, const char *what, CUresult r)
{
    const char *name = "?";
    cuGetErrorName(r, &name);
    fprintf(stderr, "driver_bench: %s: %s: %s\n", figure, what, name);
    options.failures++;
}

/* In a function that is one figure: says what failed, and is done with it. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        CUresult try_ = (call);                                                                    \
        if (try_ != CUDA_SUCCESS) {                                                                \
            fail(figure, #call, try_);                                                             \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add(double us)
{
    if (samples < SAMPLES_MAX)
        sample[samples++] = us;
}

/* The samples, and forgets them. bytes: of one sample, 0 for what is no copy. */
static void report(const char *figure, size_t bytes)
{
    int n = samples;
    samples = 0;
    if (!n)
        return;
    qsort(sample, (size_t)n, sizeof(sample[0]), compare);
    double median = sample[n / 2], least = sample[0], p99 = sample[(n - 1) * 99 / 100];
    if (options.json) {
        printf("%s\"%s\": {\"median_us\": %.4f, \"min_us\": %.4f, \"p99_us\": %.4f, \"count\": %d",
               options.any ? ",\n " : "{", figure, median, least, p99, n);
        if (bytes)
            printf(", \"bytes\": %zu", bytes);
        printf("}");
    } else if (bytes >= 65536) {
        printf("%-26s %10.2f GB/s   best %10.2f   p99 %10.2f\n", figure,
               (double)bytes / median / 1e3, (double)bytes / least / 1e3,
               (double)bytes / p99 / 1e3);
    } else {
        printf("%-26s %10.3f us     min  %10.3f   p99 %10.3f\n", figure, median, least, p99);
    }
    options.any = true;
    fflush(stdout);
}

static void report_rate(const char *figure, double per_second)
{
    if (options.json)
        printf("%s\"%s\": {\"per_second\": %.1f}", options.any ? ",\n " : "{", figure, per_second);
    else
        printf("%-26s %10.0f /s\n", figure, per_second);
    options.any = true;
    fflush(stdout);
}

static bool wanted(const char *figure)
{
    samples = 0;
    return !options.only || strstr(figure, options.only);
}

static CUresult launch(CUstream stream)
{
    void *arguments[] = {&gpu.small};
    return cuLaunchKernel(gpu.nop, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL);
}

/* ---- Figures ---- */

static bool begin(void)
{
    const char *figure = "init";
    double start = now_us();
    TRY(cuInit(0));
    TRY(cuDeviceGet(&gpu.device, 0));
    add(now_us() - start);
    report(figure, 0);
    figure = "context";
    start = now_us();
    TRY(cuDevicePrimaryCtxRetain(&gpu.context, gpu.device));
    TRY(cuCtxSetCurrent(gpu.context));
    add(now_us() - start);
    report(figure, 0);
    figure = "module";
    start = now_us();
    TRY(cuModuleLoadData(&gpu.module, ptx));
    TRY(cuModuleGetFunction(&gpu.nop, gpu.module, "nop"));
    add(now_us() - start);
    report(figure, 0);
    figure = "begin";
    TRY(cuStreamCreate(&gpu.stream, CU_STREAM_NON_BLOCKING));
    TRY(cuMemAlloc(&gpu.small, 1u << 20));
    for (int i = 0; i < QUEUE; i++) /* the first ones pay for what is made once */
        TRY(launch(gpu.stream));
    TRY(cuCtxSynchronize());
    return true;
out:
    return false;
}

static void alloc_and_free(void)
{
    static double release[SAMPLES_MAX];
    const char *figure = "alloc_1MiB";
    int n = 0;
    if (!wanted(figure))
        return;
    for (int i = 0; i < 1000 * options.scale && i < SAMPLES_MAX; i++) {
        CUdeviceptr p;
        double start = now_us();
        TRY(cuMemAlloc(&p, 1u << 20));
        double middle = now_us();
        TRY(cuMemFree(p));
        add(middle - start);
        release[n++] = now_us() - middle;
    }
out:
    report(figure, 0);
    memcpy(sample, release, (size_t)n * sizeof(release[0]));
    samples = n;
    report("free_1MiB", 0);
}

static void launch_enqueue(void)
{
    const char *figure = "launch_enqueue";
    if (!wanted(figure))
        return;
    for (int round = 0; round < 40 * options.scale; round++) {
        for (int i = 0; i < QUEUE / GROUP; i++) {
            double start = now_us();
            for (int k = 0; k < GROUP; k++)
                TRY(launch(gpu.stream));
            add((now_us() - start) / GROUP);
        }
        TRY(cuStreamSynchronize(gpu.stream));
    }
out:
    report(figure, 0);
}

static void launch_throughput(void)
{
    const char *figure = "launches_per_second";
    double start = now_us(), end = start;
    long count = 0;
    if (!wanted(figure))
        return;
    while (end - start < THROUGHPUT_US * options.scale) {
        for (int i = 0; i < 1000; i++)
            TRY(launch(gpu.stream));
        count += 1000;
        end = now_us();
    }
    TRY(cuStreamSynchronize(gpu.stream));
    report_rate(figure, (double)count * 1e6 / (now_us() - start));
out:
    return;
}

static void launch_synchronize(bool of_context)
{
    const char *figure = of_context ? "launch_context_sync" : "launch_stream_sync";
    if (!wanted(figure))
        return;
    for (int i = 0; i < 2000 * options.scale; i++) {
        double start = now_us();
        TRY(launch(of_context ? NULL : gpu.stream));
        TRY(of_context ? cuCtxSynchronize() : cuStreamSynchronize(gpu.stream));
        add(now_us() - start);
    }
out:
    report(figure, 0);
}

static void event_round(void)
{
    const char *figure = "event_record_sync";
    CUevent event = NULL;
    if (!wanted(figure))
        return;
    TRY(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    for (int i = 0; i < 1000 * options.scale; i++) {
        double start = now_us();
        TRY(cuEventRecord(event, gpu.stream));
        TRY(cuEventSynchronize(event));
        add(now_us() - start);
    }
out:
    report(figure, 0);
    if (event)
        cuEventDestroy(event);
}

static void small_copy(bool back)
{
    const char *figure = back ? "copy_4B_to_host" : "copy_4B_to_device";
    uint32_t word = 0, want = 0;
    if (!wanted(figure))
        return;
    for (int i = 0; i < 2000 * options.scale; i++) {
        want = (uint32_t)i * 2654435761u;
        if (back) {
            TRY(cuMemcpyHtoD(gpu.small, &want, 4));
            TRY(cuCtxSynchronize());
        } else {
            word = want;
        }
        double start = now_us();
        TRY(back ? cuMemcpyDtoH(&word, gpu.small, 4) : cuMemcpyHtoD(gpu.small, &word, 4));
        add(now_us() - start);
        if (!back)
            TRY(cuMemcpyDtoH(&word, gpu.small, 4));
        if (word != want) {
            fprintf(stderr, "driver_bench: %s: 0x%x came for 0x%x\n", figure, word, want);
            options.failures++;
            goto out;
        }
    }
out:
    report(figure, 0);
}

/* What cannot be told from what was there before. */
static void pattern(uint64_t *words, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes / 8; i++)
        words[i] = (i + seed) * 0x9e3779b97f4a7c15u;
}

static bool is_pattern(const uint64_t *words, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes / 8; i++) {
        if (words[i] != (i + seed) * 0x9e3779b97f4a7c15u)
            return false;
    }
    return true;
}

/* Both ways, and that what comes back is what went. */
static void large_copies(bool pinned)
{
    const char *figure = pinned ? "copy_pinned_to_device" : "copy_pageable_to_device";
    const char *other = pinned ? "copy_pinned_to_host" : "copy_pageable_to_host";
    CUdeviceptr p = 0;
    void *host = NULL;
    if (!wanted(figure) && !wanted(other))
        return;
    TRY(cuMemAlloc(&p, options.large));
    if (pinned)
        TRY(cuMemAllocHost(&host, options.large));
    else
        host = malloc(options.large);
    if (!host) {
        fail(figure, "malloc", CUDA_ERROR_OUT_OF_MEMORY);
        goto out;
    }
    pattern(host, options.large, 1);
    for (int i = 0; i < LARGE_ROUNDS; i++) {
        double start = now_us();
        TRY(cuMemcpyHtoD(p, host, options.large));
        TRY(cuCtxSynchronize());
        add(now_us() - start);
    }
    report(figure, options.large);
    figure = other;
    memset(host, 0, options.large);
    for (int i = 0; i < LARGE_ROUNDS; i++) {
        double start = now_us();
        TRY(cuMemcpyDtoH(host, p, options.large));
        add(now_us() - start);
    }
    report(figure, options.large);
    if (!is_pattern(host, options.large, 1)) {
        fprintf(stderr, "driver_bench: %s: other bytes came back than went\n", figure);
        options.failures++;
    }
out:
    samples = 0;
    if (host && pinned)
        cuMemFreeHost(host);
    else
        free(host);
    if (p)
        cuMemFree(p);
}

static void pinned_alloc(void)
{
    const char *figure = "host_alloc_1MiB";
    if (!wanted(figure))
        return;
    for (int i = 0; i < 100 * options.scale; i++) {
        void *host = NULL;
        double start = now_us();
        TRY(cuMemAllocHost(&host, 1u << 20));
        add(now_us() - start);
        TRY(cuMemFreeHost(host));
    }
out:
    report(figure, 0);
}

static void end(void)
{
    const char *figure = "end";
    TRY(cuMemFree(gpu.small));
    TRY(cuStreamDestroy(gpu.stream));
    TRY(cuModuleUnload(gpu.module));
    TRY(cuDevicePrimaryCtxRelease(gpu.device));
out:
    return;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: driver_bench [--json] [--mib 1 to 4096] [--only FIGURE] [SCALE from 1 to "
            "100]\n");
    return 2;
}

int main(int argc, char **argv)
{
    long mib = 256;
    options.scale = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            options.json = true;
        else if (!strcmp(argv[i], "--mib") && i + 1 < argc)
            mib = atol(argv[++i]);
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            options.only = argv[++i];
        else
            options.scale = atoi(argv[i]);
    }
    if (options.scale < 1 || options.scale > 100 || mib < 1 || mib > 4096)
        return usage();
    options.large = (size_t)mib << 20;
    if (begin()) {
        launch_enqueue();
        launch_throughput();
        launch_synchronize(false);
        launch_synchronize(true);
        event_round();
        small_copy(false);
        small_copy(true);
        large_copies(true);
        large_copies(false);
        alloc_and_free();
        pinned_alloc();
        end();
    }
    if (options.json)
        printf("%s\n", options.any ? "}" : "{}");
    return options.failures ? 1 : 0;
}
