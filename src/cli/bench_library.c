/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See bench_library.h. */
#include "cli/bench_library.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#define EXPANDED(name) #name
#define SYMBOL(name)   EXPANDED(name) /* cuda.h gives some names a version */

struct bench_library bench_cu;

bool bench_library_load(const char *path)
{
    bench_cu.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!bench_cu.handle) {
        fprintf(stderr, "vgpu-bench: %s\n", dlerror());
        return false;
    }
#define CALL_FIND(name)                                                                            \
    bench_cu.name##_ = (__typeof__(&(name)))(uintptr_t)dlsym(bench_cu.handle, SYMBOL(name));       \
    if (!bench_cu.name##_) {                                                                       \
        fprintf(stderr, "vgpu-bench: %s has no %s\n", path, SYMBOL(name));                         \
        return false;                                                                              \
    }
    BENCH_LIBRARY_CALLS(CALL_FIND)
#undef CALL_FIND
    return true;
}

bool bench_library_good(CUresult result, const char *call)
{
    const char *name = "?";
    if (result == CUDA_SUCCESS)
        return true;
    if (bench_cu.cuGetErrorName_)
        bench_cu.cuGetErrorName_(result, &name);
    fprintf(stderr, "vgpu-bench: %s: %s\n", call, name);
    return false;
}
