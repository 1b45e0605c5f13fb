/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CUDA driver program that does exactly what lines on stdin ask for, waits for it, and says
 * "DONE": `launch N`, `to N BYTES` and `back N BYTES` (copies), `fail N` (allocations over any
 * quota), `end`. "READY" comes first, after one synchronization.
 */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_BYTES (1u << 20)

static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry nothing()\n{\n    ret;\n}\n";

static void need(CUresult result, const char *what)
{
    if (result == CUDA_SUCCESS)
        return;
    printf("FAILED %s: %d\n", what, (int)result);
    exit(1);
}

int main(void)
{
    static unsigned char bytes[MEMORY_BYTES];
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction nothing;
    CUdeviceptr memory, too_much;
    char line[80], what[16];
    setvbuf(stdout, NULL, _IOLBF, 0);
    need(cuInit(0), "cuInit");
    need(cuDeviceGet(&device, 0), "cuDeviceGet");
    need(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    need(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    need(cuModuleLoadData(&module, ptx), "cuModuleLoadData");
    need(cuModuleGetFunction(&nothing, module, "nothing"), "cuModuleGetFunction");
    need(cuMemAlloc(&memory, MEMORY_BYTES), "cuMemAlloc");
    need(cuCtxSynchronize(), "cuCtxSynchronize");
    puts("READY");
    while (fgets(line, sizeof(line), stdin)) {
        unsigned long count = 0, size = 0;
        int fields = sscanf(line, "%15s %lu %lu", what, &count, &size);
        if (fields < 1 || !strcmp(what, "end"))
            break;
        for (unsigned long i = 0; i < count && size <= MEMORY_BYTES; i++) {
            if (!strcmp(what, "launch"))
                need(cuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), what);
            else if (!strcmp(what, "to"))
                need(cuMemcpyHtoD(memory, bytes, size), what);
            else if (!strcmp(what, "back"))
                need(cuMemcpyDtoH(bytes, memory, size), what);
            else if (cuMemAlloc(&too_much, (size_t)1 << 40) != CUDA_ERROR_OUT_OF_MEMORY)
                need(CUDA_ERROR_UNKNOWN, what);
        }
        need(cuCtxSynchronize(), "cuCtxSynchronize");
        puts("DONE");
    }
    return 0;
}
