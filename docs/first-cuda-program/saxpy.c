/* SPDX-License-Identifier: MIT */
/* A program of the CUDA driver API: loads saxpy.ptx, runs it on a million floats, checks them. */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>

#define N (1u << 20)

static void check(CUresult result, const char *what)
{
    const char *name = "?";
    if (result == CUDA_SUCCESS)
        return;
    cuGetErrorName(result, &name);
    fprintf(stderr, "%s: %s\n", what, name);
    exit(1);
}

int main(int argc, char **argv)
{
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction saxpy;
    CUstream stream;
    CUdeviceptr x, y;
    char name[128];
    size_t memory;
    float *host_x = malloc(N * sizeof(float)), *host_y = malloc(N * sizeof(float));
    float a = 2.0f;
    unsigned n = N, wrong = 0;

    if (argc != 2 || !host_x || !host_y) {
        fprintf(stderr, "usage: saxpy FILE.ptx\n");
        return 2;
    }
    check(cuInit(0), "cuInit");
    check(cuDeviceGet(&device, 0), "cuDeviceGet");
    check(cuDeviceGetName(name, sizeof(name), device), "cuDeviceGetName");
    check(cuDeviceTotalMem(&memory, device), "cuDeviceTotalMem");
    check(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    check(cuModuleLoad(&module, argv[1]), "cuModuleLoad");
    check(cuModuleGetFunction(&saxpy, module, "saxpy"), "cuModuleGetFunction");
    check(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    check(cuMemAlloc(&x, N * sizeof(float)), "cuMemAlloc");
    check(cuMemAlloc(&y, N * sizeof(float)), "cuMemAlloc");
    for (unsigned i = 0; i < N; i++) {
        host_x[i] = (float)(i % 1000);
        host_y[i] = 1.0f;
    }
    check(cuMemcpyHtoDAsync(x, host_x, N * sizeof(float), stream), "cuMemcpyHtoDAsync");
    check(cuMemcpyHtoDAsync(y, host_y, N * sizeof(float), stream), "cuMemcpyHtoDAsync");
    void *arguments[] = {&n, &a, &x, &y};
    check(cuLaunchKernel(saxpy, (N + 255) / 256, 1, 1, 256, 1, 1, 0, stream, arguments, NULL),
          "cuLaunchKernel");
    check(cuMemcpyDtoHAsync(host_y, y, N * sizeof(float), stream), "cuMemcpyDtoHAsync");
    check(cuStreamSynchronize(stream), "cuStreamSynchronize");
    for (unsigned i = 0; i < N; i++)
        wrong += host_y[i] != 2.0f * (float)(i % 1000) + 1.0f;
    check(cuMemFree(x), "cuMemFree");
    check(cuMemFree(y), "cuMemFree");
    check(cuStreamDestroy(stream), "cuStreamDestroy");
    check(cuModuleUnload(module), "cuModuleUnload");
    check(cuDevicePrimaryCtxRelease(device), "cuDevicePrimaryCtxRelease");
    printf("%s, %zu MiB: %u of %u right\n", name, memory >> 20, N - wrong, N);
    free(host_x);
    free(host_y);
    return wrong != 0;
}
