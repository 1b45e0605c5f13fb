/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-share MODE [--kernel-us N] [--gap-us N] [--count N] [--queued N] [--memory-mib N]
 *
 * A CUDA driver program that uses the GPU in one of several ways, for tests of who gets it. It
 * prints "READY", and goes on at a line on stdin.
 *
 *     busy         kernels of about N us without pause, N of them (4) queued at a time
 *     interactive  a kernel of N us, a synchronization, a gap of N us, over and over
 *     endless      one kernel that never ends
 *     post         --count event records, posted, at each line; "POSTED seconds=..." after each
 *
 * The first two say "RESULT requests=N p50_us=N p99_us=N max_us=N" at a line "mark", and begin
 * anew; at another line, or at the end of stdin, they say it and end. A call that fails is "SAW
 * call=... result=N", and the exit status is 0 then too. Kernels last by the clock, so that they
 * last as long on a loaded machine. --memory-mib holds that much device memory besides.
 */
#include <cuda.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES 100000u

static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry spin(.param .u64 ns)\n{\n"
                          "    .reg .pred %p<2>;\n    .reg .b64 %rd<5>;\n"
                          "    ld.param.u64 %rd1, [ns];\n    mov.u64 %rd2, %globaltimer;\n"
                          "AGAIN:\n    mov.u64 %rd3, %globaltimer;\n    sub.u64 %rd4, %rd3, %rd2;\n"
                          "    setp.lt.u64 %p1, %rd4, %rd1;\n    @%p1 bra AGAIN;\n    ret;\n}\n";

static CUfunction spin;
static uint64_t samples[SAMPLES];
static size_t sample_count;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void need(CUresult result, const char *call)
{
    if (result == CUDA_SUCCESS)
        return;
    printf("SAW call=%s result=%d\n", call, (int)result);
    exit(0);
}
#define NEED(name, ...) need(name(__VA_ARGS__), #name)

/* False at the end of stdin. */
static bool wait_line(void)
{
    char c = 0;
    while (c != '\n')
        if (read(STDIN_FILENO, &c, 1) != 1)
            return false;
    return true;
}

enum order { GO_ON, MARK, END };
static enum order told(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char c = 0;
    if (poll(&in, 1, 0) <= 0)
        return GO_ON;
    if (read(STDIN_FILENO, &c, 1) != 1 || c != 'm')
        return END;
    return wait_line() ? MARK : END;
}

static void set_up(void)
{
    CUdevice device;
    CUcontext context;
    CUmodule module;
    NEED(cuInit, 0);
    NEED(cuDeviceGet, &device, 0);
    NEED(cuDevicePrimaryCtxRetain, &context, device);
    NEED(cuCtxSetCurrent, context);
    NEED(cuModuleLoadData, &module, ptx);
    NEED(cuModuleGetFunction, &spin, module, "spin");
    NEED(cuCtxSynchronize);
}

static void launch(uint64_t ns)
{
    void *arguments[] = {&ns};
    NEED(cuLaunchKernel, spin, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(uint64_t requests)
{
    qsort(samples, sample_count, sizeof(*samples), compare);
    uint64_t p50 = sample_count ? samples[sample_count / 2] : 0;
    uint64_t p99 = sample_count ? samples[sample_count * 99 / 100] : 0;
    uint64_t most = sample_count ? samples[sample_count - 1] : 0;
    printf("RESULT requests=%" PRIu64 " p50_us=%" PRIu64 " p99_us=%" PRIu64 " max_us=%" PRIu64 "\n",
           requests, p50 / 1000, p99 / 1000, most / 1000);
    sample_count = 0;
}

static void run(uint64_t kernel_ns, uint64_t gap_ns, uint64_t queued)
{
    uint64_t requests = 0;
    const struct timespec gap = {.tv_sec = 0, .tv_nsec = (long)gap_ns};
    for (enum order order; (order = told()) != END;) {
        if (order == MARK) {
            report(requests);
            requests = 0;
        }
        uint64_t begin = now_ns();
        for (uint64_t i = 0; i < queued; i++)
            launch(kernel_ns);
        NEED(cuCtxSynchronize);
        if (sample_count < SAMPLES)
            samples[sample_count++] = now_ns() - begin;
        requests += queued;
        if (gap_ns)
            nanosleep(&gap, NULL);
    }
    report(requests);
}

static void post(uint64_t count)
{
    CUevent event;
    NEED(cuEventCreate, &event, 0);
    NEED(cuCtxSynchronize);
    printf("PREPARED\n");
    while (wait_line()) {
        uint64_t begin = now_ns();
        for (uint64_t i = 0; i < count; i++)
            NEED(cuEventRecord, event, NULL);
        NEED(cuCtxSynchronize);
        printf("POSTED seconds=%.3f\n", (double)(now_ns() - begin) / 1e9);
    }
}

int main(int argc, char **argv)
{
    uint64_t kernel_us = 1000, gap_us = 0, count = 1, queued = 4, memory_mib = 0;
    const char *mode = argc > 1 ? argv[1] : "";
    for (int i = 2; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--kernel-us"))
            kernel_us = value;
        else if (!strcmp(argv[i], "--gap-us"))
            gap_us = value < 999999 ? value : 999999;
        else if (!strcmp(argv[i], "--count"))
            count = value;
        else if (!strcmp(argv[i], "--queued"))
            queued = value;
        else if (!strcmp(argv[i], "--memory-mib"))
            memory_mib = value;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    set_up();
    CUdeviceptr memory; /* goes with the context */
    if (memory_mib)
        NEED(cuMemAlloc, &memory, memory_mib << 20);
    printf("READY\n");
    if (!wait_line())
        return 0;
    if (!strcmp(mode, "busy")) {
        run(kernel_us * 1000, 0, queued);
    } else if (!strcmp(mode, "interactive")) {
        run(kernel_us * 1000, gap_us * 1000, 1);
    } else if (!strcmp(mode, "endless")) {
        launch(UINT64_MAX);
        NEED(cuCtxSynchronize);
    } else if (!strcmp(mode, "post")) {
        post(count);
    } else {
        fprintf(stderr, "t-share: unknown mode '%s'\n", mode);
        return 2;
    }
    return 0;
}
