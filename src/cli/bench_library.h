/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A library with the CUDA driver API's names, ours or NVIDIA's, loaded into a process that does
 * nothing else: children of the benchmark.
 */
#ifndef VGPU_CLI_BENCH_LIBRARY_H
#define VGPU_CLI_BENCH_LIBRARY_H

#include <cuda.h>
#include <stdbool.h>

#define BENCH_LIBRARY_CALLS(X)                                                                     \
    X(cuInit)                                                                                      \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetName)                                                                             \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDevicePrimaryCtxRelease)                                                                   \
    X(cuCtxSetCurrent)                                                                             \
    X(cuCtxSynchronize)                                                                            \
    X(cuModuleLoadData)                                                                            \
    X(cuModuleGetFunction)                                                                         \
    X(cuStreamCreate)                                                                              \
    X(cuStreamSynchronize)                                                                         \
    X(cuLaunchKernel)                                                                              \
    X(cuMemAlloc)                                                                                  \
    X(cuMemFree)                                                                                   \
    X(cuMemAllocHost)                                                                              \
    X(cuMemFreeHost)                                                                               \
    X(cuMemcpyHtoD)                                                                                \
    X(cuMemcpyDtoH)                                                                                \
    X(cuGetErrorName)

struct bench_library {
    void *handle;
#define BENCH_LIBRARY_POINTER(name) __typeof__(&(name)) name##_;
    BENCH_LIBRARY_CALLS(BENCH_LIBRARY_POINTER)
#undef BENCH_LIBRARY_POINTER
};

/* The process's own; false with a text on stderr. */
extern struct bench_library bench_cu;
bool bench_library_load(const char *path);
/* False with a text on stderr when a call failed. */
bool bench_library_good(CUresult result, const char *call);

/* Makes a call, or returns false from the function that it stands in. */
#define BENCH_TRY(name, ...)                                                                       \
    do {                                                                                           \
        if (!bench_library_good(bench_cu.name##_(__VA_ARGS__), #name))                             \
            return false;                                                                          \
    } while (0)

#endif
