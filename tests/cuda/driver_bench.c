/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What calls of the CUDA driver API cost, from a program's side. The same binary runs on NVIDIA's
 * library and on ours (LD_LIBRARY_PATH), so that the two can be put side by side.
 *
 *     driver_bench [--json] [SCALE]
 *
 * SCALE (default 1) multiplies the counts. Figures are medians, times in microseconds.
 */
#include <cuda.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry nop(.param .u64 p) { ret; }\n";

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void check(CUresult r, const char *what)
{
    const char *name = "?";
    if (r == CUDA_SUCCESS)
        return;
    cuGetErrorName(r, &name);
    fprintf(stderr, "driver_bench: %s: %s\n", what, name);
    exit(1);
}
#define CK(call) check(call, #call)

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sample[4096];
static int samples;
static bool json, first = true;

static void begin(void)
{
    samples = 0;
}

static void add(double us)
{
    if (samples < 4096)
        sample[samples++] = us;
}

static void report(const char *name, double value, const char *unit)
{
    if (json)
        printf("%s\"%s\": %.3f", first ? "{" : ", ", name, value);
    else
        printf("%-28s %12.2f %s\n", name, value, unit);
    first = false;
    fflush(stdout);
}

static double median(void)
{
    qsort(sample, (size_t)samples, sizeof(sample[0]), compare);
    return samples ? sample[samples / 2] : 0;
}

static void copies(const char *name, CUdeviceptr p, void *host, size_t bytes, int count)
{
    char label[64];
    for (int back = 0; back < 2; back++) {
        begin();
        for (int i = 0; i < count; i++) {
            double start = now_us();
            if (back)
                CK(cuMemcpyDtoH(host, p, bytes));
            else {
                CK(cuMemcpyHtoD(p, host, bytes));
                CK(cuCtxSynchronize());
            }
            add(now_us() - start);
        }
        snprintf(label, sizeof(label), "%s_%s", name, back ? "to_host" : "to_device");
        if (bytes < 4096)
            report(label, median(), "us");
        else
            report(label, (double)bytes / median(), "MB/s");
    }
}

int main(int argc, char **argv)
{
    int scale = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            json = true;
        else
            scale = atoi(argv[i]);
    }
    if (scale < 1 || scale > 100) {
        fprintf(stderr, "usage: driver_bench [--json] [SCALE from 1 to 100]\n");
        return 2;
    }
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction nop;
    CUdeviceptr p;
    CUstream stream;
    int count = 1000 * scale, posts = 2000 * scale;
    if (count > 4096)
        count = 4096;
    double start = now_us();
    CK(cuInit(0));
    CK(cuDeviceGet(&device, 0));
    report("init", now_us() - start, "us");
    start = now_us();
    CK(cuDevicePrimaryCtxRetain(&context, device));
    CK(cuCtxSetCurrent(context));
    report("context", now_us() - start, "us");
    CK(cuModuleLoadData(&module, ptx));
    CK(cuModuleGetFunction(&nop, module, "nop"));
    CK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    begin();
    for (int i = 0; i < count; i++) {
        start = now_us();
        CK(cuMemAlloc(&p, 1u << 20));
        add(now_us() - start);
        CK(cuMemFree(p));
    }
    report("alloc_1MiB", median(), "us");
    CK(cuMemAlloc(&p, 16u << 20));
    void *arguments[] = {&p};
    begin();
    for (int i = 0; i < count; i++) {
        start = now_us();
        CK(cuLaunchKernel(nop, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL));
        CK(cuStreamSynchronize(stream));
        add(now_us() - start);
    }
    report("launch_and_synchronize", median(), "us");
    begin();
    for (int i = 0; i < 100; i++) {
        start = now_us();
        CK(cuLaunchKernel(nop, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL));
        add(now_us() - start);
    }
    CK(cuStreamSynchronize(stream));
    report("launch_enqueue", median(), "us");
    start = now_us();
    for (int i = 0; i < posts; i++)
        CK(cuLaunchKernel(nop, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL));
    CK(cuStreamSynchronize(stream));
    report("launches_per_second", (double)posts * 1e6 / (now_us() - start), "/s");
    void *host = calloc(1, 16u << 20);
    if (!host)
        return 1;
    copies("copy_4B", p, host, 4, count);
    copies("copy_64KiB", p, host, 64u << 10, 20 * scale);
    copies("copy_4MiB", p, host, 4u << 20, 3 * scale);
    free(host);
    CK(cuMemFree(p));
    CK(cuStreamDestroy(stream));
    CK(cuModuleUnload(module));
    CK(cuDevicePrimaryCtxRelease(device));
    if (json)
        printf("}\n");
    return 0;
}
