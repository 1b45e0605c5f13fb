/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the CUDA driver API answers, call by call, as a transcript: the same program is run on
 * NVIDIA's driver and on ours, and the two outputs must be equal. It includes <cuda.h>, NVIDIA's or
 * ours, links with -lcuda, and prints nothing that depends on the card.
 *
 *     conformance KERNELS.ptx [SECTION...]
 *
 * Exit status 0: it ran to its end. tests/cuda/expected.txt is what NVIDIA's driver said.
 */
#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *ptx;
static CUdevice device;
static CUcontext context;
static CUmodule module;

static const char *name_of(CUresult r)
{
    const char *name = NULL;
    return cuGetErrorName(r, &name) == CUDA_SUCCESS && name ? name : "?";
}

static CUresult say(const char *what, CUresult r)
{
    printf("  %s: %s\n", what, name_of(r));
    return r;
}

#define SAY(call) say(#call, call)
/* What must work for the rest to make sense. */
#define MUST(call)                                                                                 \
    do {                                                                                           \
        CUresult must_ = (call);                                                                   \
        if (must_ != CUDA_SUCCESS) {                                                               \
            printf("  FAILED %s: %s\n", #call, name_of(must_));                                    \
            fflush(stdout);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define TRUE(condition) printf("  %s: %s\n", #condition, (condition) ? "yes" : "no")

static CUfunction function(const char *name)
{
    CUfunction f = NULL;
    MUST(cuModuleGetFunction(&f, module, name));
    return f;
}

static void section_errors(void)
{
    const char *text = "x";
    SAY(cuGetErrorName((CUresult)123456, &text));
    TRUE(text == NULL);
    SAY(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
    TRUE(text && !strcmp(text, "out of memory"));
}

static void section_device(void)
{
    CUdevice d = -7;
    int count = 0, value = 0, major = 0, warp = 0, threads = 0;
    char text[256] = "";
    size_t bytes = 0;
    CUuuid uuid;
    SAY(cuDeviceGetCount(&count));
    TRUE(count >= 1);
    SAY(cuDeviceGetCount(NULL));
    SAY(cuDeviceGet(&d, 0));
    TRUE(d == 0);
    SAY(cuDeviceGet(&d, -1));
    SAY(cuDeviceGet(&d, count));
    SAY(cuDeviceGet(NULL, 0));
    SAY(cuDeviceGetName(text, sizeof(text), device));
    TRUE(text[0] != 0);
    SAY(cuDeviceGetName(text, 4, device));
    TRUE(strlen(text) == 3);
    SAY(cuDeviceGetName(text, sizeof(text), 77));
    SAY(cuDeviceTotalMem(&bytes, device));
    TRUE(bytes > (64u << 20));
    SAY(cuDeviceTotalMem(&bytes, 77));
    SAY(cuDeviceTotalMem(NULL, device));
    SAY(cuDeviceGetUuid(&uuid, device));
    SAY(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
    TRUE(major >= 7);
    SAY(cuDeviceGetAttribute(&warp, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device));
    TRUE(warp == 32);
    SAY(cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, device));
    TRUE(threads == 1024);
    SAY(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, device));
    TRUE(value == 1);
    SAY(cuDeviceGetAttribute(&value, (CUdevice_attribute)0, device));
    SAY(cuDeviceGetAttribute(&value, (CUdevice_attribute)100000, device));
    SAY(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 77));
    SAY(cuDeviceGetAttribute(NULL, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device));
    SAY(cuDriverGetVersion(&value));
    TRUE(value >= 12000);
    SAY(cuDriverGetVersion(NULL));
    SAY(cuDeviceCanAccessPeer(&value, device, device));
    TRUE(value == 0);
}

static void section_contexts(void)
{
    CUcontext c = (CUcontext)1, second = NULL, popped = NULL;
    CUdeviceptr p = 0;
    CUdevice d = -1;
    unsigned flags = 9, version = 0;
    int active = -1;
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == NULL);
    SAY(cuMemAlloc(&p, 64));
    SAY(cuCtxSynchronize());
    SAY(cuCtxGetDevice(&d));
    SAY(cuCtxPopCurrent(&popped));
    SAY(cuDevicePrimaryCtxGetState(device, &flags, &active));
    TRUE(active == 0);
    SAY(cuDevicePrimaryCtxRelease(device));
    SAY(cuDevicePrimaryCtxRetain(&context, device));
    SAY(cuDevicePrimaryCtxGetState(device, &flags, &active));
    TRUE(active == 1);
    SAY(cuDevicePrimaryCtxRetain(&c, device));
    TRUE(c == context);
    SAY(cuDevicePrimaryCtxRelease(device));
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == NULL);
    SAY(cuCtxPushCurrent(context));
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == context);
    SAY(cuCtxGetDevice(&d));
    TRUE(d == device);
    SAY(cuCtxGetApiVersion(context, &version));
    TRUE(version >= 3020);
#if CUDA_VERSION >= 13000
    say("cuCtxCreate", cuCtxCreate(&second, NULL, 0, device));
#else
    say("cuCtxCreate", cuCtxCreate(&second, 0, device));
#endif
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == second);
    SAY(cuMemAlloc(&p, 64));
    SAY(cuCtxPopCurrent(&popped));
    TRUE(popped == second);
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == context);
    SAY(cuCtxPushCurrent(second));
    SAY(cuCtxDestroy(second));
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == context);
    SAY(cuCtxPushCurrent(NULL));
    SAY(cuCtxPopCurrent(&popped));
    TRUE(popped == context);
    SAY(cuCtxSetCurrent(context));
    SAY(cuCtxSetCurrent(NULL));
    SAY(cuCtxGetCurrent(&c));
    TRUE(c == NULL);
    MUST(cuCtxSetCurrent(context));
    size_t limit = 0;
    SAY(cuCtxGetLimit(&limit, CU_LIMIT_STACK_SIZE));
    TRUE(limit > 0);
    SAY(cuCtxGetLimit(&limit, (CUlimit)1000));
    int least = 1, greatest = 1;
    SAY(cuCtxGetStreamPriorityRange(&least, &greatest));
    TRUE(least == 0 && greatest <= 0);
}

static void section_modules(void)
{
    CUmodule m = NULL;
    CUfunction f = NULL;
    CUdeviceptr p = 0;
    size_t bytes = 0, offset = 0, size = 0;
    int value = 0;
    char log[4096] = "";
    SAY(cuModuleLoadData(&m, "this is no image of any kind"));
    SAY(cuModuleLoadData(&m, ".version 6.0\n.target sm_50\n.address_size 64\n.visible .entry f() { "
                             "this_is_no_instruction; }\n"));
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof(log)};
    SAY(cuModuleLoadDataEx(&m,
                           ".version 6.0\n.target sm_50\n.address_size 64\n.visible .entry f() { "
                           "this_is_no_instruction; }\n",
                           2, options, values));
    TRUE(log[0] != 0);
    SAY(cuModuleLoad(&m, "/does/not/exist.ptx"));
    SAY(cuModuleLoadData(&module, ptx));
    SAY(cuModuleGetFunction(&f, module, "no_such_kernel"));
    SAY(cuModuleGetFunction(&f, module, "mixed"));
    SAY(cuModuleGetFunction(NULL, module, "mixed"));
    SAY(cuModuleGetFunction(&f, module, NULL));
    SAY(cuModuleGetFunction(&f, module, "mixed"));
    for (size_t i = 0; i < 5; i++) {
        CUresult r = cuFuncGetParamInfo(f, i, &offset, &size);
        printf("  parameter %zu: %s", i, name_of(r));
        if (r == CUDA_SUCCESS)
            printf(" %zu %zu", offset, size);
        printf("\n");
    }
    SAY(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
    TRUE(value == 1024);
    SAY(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, f));
    TRUE(value == 0);
    SAY(cuFuncGetAttribute(&value, (CUfunction_attribute)1000, f));
    SAY(cuModuleGetGlobal(&p, &bytes, module, "counter"));
    TRUE(bytes == 4);
    SAY(cuMemcpyDtoH(&value, p, 4));
    TRUE(value == 5);
    SAY(cuModuleGetGlobal(NULL, &bytes, module, "offsets"));
    TRUE(bytes == 16);
    SAY(cuModuleGetGlobal(&p, NULL, module, "no_such_variable"));
    SAY(cuModuleLoadData(&m, ptx));
    SAY(cuModuleUnload(m));
    SAY(cuModuleUnload(NULL));
}

static void section_memory(void)
{
    CUdeviceptr p = 0, q = 0, base = 0;
    size_t size = 0, pitch = 0, free_bytes = 0, total = 0;
    unsigned char host[4096], back[4096];
    for (size_t i = 0; i < sizeof(host); i++)
        host[i] = (unsigned char)(i * 7 + i / 256);
    SAY(cuMemAlloc(&p, 0));
    SAY(cuMemAlloc(NULL, 16));
    SAY(cuMemAlloc(&p, (size_t)1 << 60));
    SAY(cuMemAlloc(&p, 4096));
    TRUE(p % 256 == 0);
    SAY(cuMemAlloc(&q, 4096));
    SAY(cuMemcpyHtoD(p, host, sizeof(host)));
    SAY(cuMemcpyDtoH(back, p, sizeof(back)));
    TRUE(!memcmp(host, back, sizeof(host)));
    SAY(cuMemcpyHtoD(p, host, 0));
    SAY(cuMemcpyDtoD(q, p, 4096));
    memset(back, 0, sizeof(back));
    SAY(cuMemcpyDtoH(back, q + 1024, 1024));
    TRUE(!memcmp(host + 1024, back, 1024));
    SAY(cuMemcpy((CUdeviceptr)(uintptr_t)back, p, 64));
    TRUE(!memcmp(host, back, 64));
    SAY(cuMemcpyHtoD(0, host, 16));
    SAY(cuMemcpyDtoH(back, 0, 16));
    SAY(cuMemsetD8(p, 0xa5, 100));
    SAY(cuMemsetD16(p + 100, 0x1234, 10));
    SAY(cuMemsetD32(p + 120, 0xdeadbeef, 5));
    SAY(cuMemsetD16(p + 1, 1, 1));
    SAY(cuMemsetD32(p + 2, 1, 1));
    SAY(cuMemcpyDtoH(back, p, 140));
    uint16_t half;
    uint32_t word;
    memcpy(&half, back + 118, 2);
    memcpy(&word, back + 136, 4);
    TRUE(back[99] == 0xa5 && half == 0x1234 && word == 0xdeadbeef);
    SAY(cuMemsetD2D8(p, 64, 7, 16, 4));
    SAY(cuMemcpyDtoH(back, p, 256));
    TRUE(back[15] == 7 && back[16] == 0xa5 && back[64 + 15] == 7 && back[192 + 15] == 7);
    SAY(cuMemGetAddressRange(&base, &size, p + 100));
    TRUE(base == p && size == 4096);
    SAY(cuMemGetAddressRange(&base, &size, 16));
    SAY(cuMemGetInfo(&free_bytes, &total));
    TRUE(free_bytes > 0 && free_bytes <= total);
    SAY(cuMemFree(p));
    SAY(cuMemFree(p));
    SAY(cuMemFree(q + 256));
    SAY(cuMemFree(q));
    SAY(cuMemFree(0));
    SAY(cuMemAllocPitch(&p, &pitch, 100, 8, 4));
    TRUE(pitch >= 100 && pitch % 32 == 0);
    CUDA_MEMCPY2D copy;
    memset(&copy, 0, sizeof(copy));
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = host;
    copy.srcPitch = 128;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = p;
    copy.dstPitch = pitch;
    copy.WidthInBytes = 100;
    copy.Height = 8;
    SAY(cuMemcpy2D(&copy));
    memset(&copy, 0, sizeof(copy));
    copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = p;
    copy.srcPitch = pitch;
    copy.srcXInBytes = 10;
    copy.srcY = 2;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = back;
    copy.dstPitch = 50;
    copy.WidthInBytes = 50;
    copy.Height = 3;
    SAY(cuMemcpy2D(&copy));
    TRUE(!memcmp(back, host + 2 * 128 + 10, 50) && !memcmp(back + 100, host + 4 * 128 + 10, 50));
    copy.srcPitch = 10;
    SAY(cuMemcpy2D(&copy));
    MUST(cuMemFree(p));
}

static void section_pointers(void)
{
    CUdeviceptr p = 0, mapped = 0;
    void *host = NULL;
    unsigned type = 0, flags = 77;
    CUcontext c = NULL;
    CUdeviceptr range = 0;
    size_t bytes = 0;
    int plain = 0;
    MUST(cuMemAlloc(&p, 1000));
    SAY(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + 10));
    TRUE(type == CU_MEMORYTYPE_DEVICE);
    SAY(cuPointerGetAttribute(&c, CU_POINTER_ATTRIBUTE_CONTEXT, p));
    TRUE(c == context);
    SAY(cuPointerGetAttribute(&range, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, p + 10));
    TRUE(range == p);
    SAY(cuPointerGetAttribute(&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, p + 10));
    TRUE(bytes == 1000);
    SAY(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                              (CUdeviceptr)(uintptr_t)&plain));
    SAY(cuMemAllocHost(&host, 4096));
    TRUE(host != NULL);
    memset(host, 1, 4096);
    SAY(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                              (CUdeviceptr)(uintptr_t)host));
    TRUE(type == CU_MEMORYTYPE_HOST);
    SAY(cuMemHostGetFlags(&flags, host));
    SAY(cuMemHostGetFlags(&flags, &plain));
    SAY(cuMemcpyHtoD(p, host, 1000));
    SAY(cuMemFreeHost(host));
    SAY(cuMemFreeHost(&plain));
    void *own = NULL;
    if (posix_memalign(&own, 4096, 8192))
        exit(1);
    SAY(cuMemHostRegister(own, 8192, 0));
    SAY(cuMemHostRegister(own, 8192, 0));
    SAY(cuMemHostUnregister(own));
    SAY(cuMemHostUnregister(own));
    free(own);
    (void)mapped;
    MUST(cuMemFree(p));
}

static void section_launch(void)
{
    enum { N = 1000 };
    int x[N], y[N], z[N];
    CUdeviceptr dx, dy, dz;
    unsigned n = N;
    CUfunction add = function("add");
    for (int i = 0; i < N; i++) {
        x[i] = i;
        y[i] = 3 * i;
    }
    MUST(cuMemAlloc(&dx, sizeof(x)));
    MUST(cuMemAlloc(&dy, sizeof(x)));
    MUST(cuMemAlloc(&dz, sizeof(x)));
    MUST(cuMemcpyHtoD(dx, x, sizeof(x)));
    MUST(cuMemcpyHtoD(dy, y, sizeof(x)));
    void *arguments[] = {&dx, &dy, &dz, &n};
    SAY(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuCtxSynchronize());
    SAY(cuMemcpyDtoH(z, dz, sizeof(z)));
    int wrong = 0;
    for (int i = 0; i < N; i++)
        wrong += z[i] != 4 * i;
    TRUE(wrong == 0);
    SAY(cuLaunchKernel(add, 0, 1, 1, 128, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 1, 1, 0, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 1, 1, 1025, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 1, 1, 32, 32, 2, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 1, 1, 1, 1, 65, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 65536, 1, 1, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 1u << 30, NULL, arguments, NULL));
    SAY(cuLaunchKernel(NULL, 1, 1, 1, 32, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL));
    /* The same launch with the arguments in a buffer. */
    struct {
        CUdeviceptr x, y, z;
        unsigned n;
    } buffer = {dx, dx, dz, N};
    size_t bytes = 28;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                     CU_LAUNCH_PARAM_END};
    SAY(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, NULL, NULL, extra));
    SAY(cuMemcpyDtoH(z, dz, sizeof(z)));
    TRUE(z[999] == 2 * 999);
    SAY(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, NULL, arguments, extra));
    /* Holes between parameters. */
    char a = -3;
    double b = 41.0;
    short c = -700;
    long long three[3] = {0};
    void *mixed[] = {&a, &b, &c, &dz};
    SAY(cuLaunchKernel(function("mixed"), 1, 1, 1, 1, 1, 1, 0, NULL, mixed, NULL));
    SAY(cuMemcpyDtoH(three, dz, sizeof(three)));
    TRUE(three[0] == -3 && three[1] == 41 && three[2] == -700);
    /* Variables, constants, dynamic shared memory. */
    int by = 37, value = 0, four[4];
    CUdeviceptr counter;
    void *bump[] = {&by};
    SAY(cuLaunchKernel(function("bump"), 2, 1, 1, 3, 1, 1, 0, NULL, bump, NULL));
    MUST(cuModuleGetGlobal(&counter, NULL, module, "counter"));
    SAY(cuMemcpyDtoH(&value, counter, 4));
    TRUE(value == 5 + 6 * 37);
    void *out[] = {&dz};
    SAY(cuLaunchKernel(function("constants"), 1, 1, 1, 4, 1, 1, 0, NULL, out, NULL));
    SAY(cuMemcpyDtoH(four, dz, sizeof(four)));
    TRUE(four[0] == 10 && four[3] == 40);
    void *data[] = {&dx};
    SAY(cuLaunchKernel(function("reverse_shared"), 1, 1, 1, 256, 1, 1, 1024, NULL, data, NULL));
    SAY(cuMemcpyDtoH(z, dx, 1024));
    TRUE(z[0] == 255 && z[255] == 0);
    CUlaunchConfig config;
    memset(&config, 0, sizeof(config));
    config.gridDimX = 8;
    config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1;
    config.blockDimX = 128;
    SAY(cuLaunchKernelEx(&config, add, arguments, NULL));
    SAY(cuLaunchCooperativeKernel(add, 1, 1, 1, 128, 1, 1, 0, NULL, arguments));
    SAY(cuLaunchCooperativeKernel(add, 1u << 30, 1, 1, 128, 1, 1, 0, NULL, arguments));
    SAY(cuCtxSynchronize());
    int blocks = 0, grid = 0, block = 0;
    SAY(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 128, 0));
    TRUE(blocks >= 8);
    SAY(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 0, 0));
    SAY(cuOccupancyMaxPotentialBlockSize(&grid, &block, add, NULL, 0, 0));
    TRUE(grid >= 1 && block >= 32 && block % 32 == 0);
    MUST(cuMemFree(dx));
    MUST(cuMemFree(dy));
    MUST(cuMemFree(dz));
}

static int order[8], order_count;

static void note(void *user)
{
    order[order_count++] = (int)(intptr_t)user;
}

static void note_callback(CUstream stream, CUresult status, void *user)
{
    (void)stream;
    order[order_count++] = status == CUDA_SUCCESS ? (int)(intptr_t)user : -1;
}

static void section_streams(void)
{
    CUstream s = NULL, t = NULL;
    CUevent e = NULL, f = NULL, silent = NULL;
    CUdeviceptr p;
    float ms = -1;
    int value = 0;
    unsigned flags = 9;
    int priority = 9;
    MUST(cuMemAlloc(&p, 4));
    SAY(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    SAY(cuStreamCreate(&t, CU_STREAM_DEFAULT));
    SAY(cuStreamCreate(&t, 0x100));
    SAY(cuStreamCreate(NULL, 0));
    SAY(cuStreamGetFlags(s, &flags));
    TRUE(flags == CU_STREAM_NON_BLOCKING);
    SAY(cuStreamGetPriority(s, &priority));
    TRUE(priority == 0);
    CUcontext c = NULL;
    SAY(cuStreamGetCtx(s, &c));
    TRUE(c == context);
    SAY(cuStreamQuery(s));
    SAY(cuStreamSynchronize(s));
    SAY(cuStreamQuery(NULL));
    SAY(cuEventCreate(&e, 0));
    SAY(cuEventCreate(&f, 0));
    SAY(cuEventCreate(&silent, CU_EVENT_DISABLE_TIMING));
    SAY(cuEventCreate(&silent, 0x1000));
    SAY(cuEventQuery(e));
    SAY(cuEventSynchronize(e));
    SAY(cuEventElapsedTime(&ms, e, f));
    SAY(cuEventRecord(e, s));
    long long clocks = 2000000;
    void *arguments[] = {&clocks, &p};
    MUST(cuMemsetD32(p, 0, 1));
    SAY(cuLaunchKernel(function("spin"), 1, 1, 1, 1, 1, 1, 0, s, arguments, NULL));
    SAY(cuEventRecord(f, s));
    SAY(cuStreamWaitEvent(t, f, 0));
    SAY(cuMemcpyDtoHAsync(&value, p, 4, t));
    SAY(cuStreamSynchronize(t));
    TRUE(value == 1);
    SAY(cuEventQuery(f));
    SAY(cuEventElapsedTime(&ms, e, f));
    TRUE(ms > 0.1f && ms < 10000.0f);
    SAY(cuEventRecord(silent, s));
    SAY(cuEventSynchronize(silent));
    SAY(cuEventElapsedTime(&ms, e, silent));
    SAY(cuEventElapsedTime(NULL, e, f));
    SAY(cuEventRecord(NULL, s));
    SAY(cuStreamWaitEvent(s, NULL, 0));
    order_count = 0;
    SAY(cuLaunchHostFunc(s, note, (void *)1));
    SAY(cuLaunchKernel(function("spin"), 1, 1, 1, 1, 1, 1, 0, s, arguments, NULL));
    SAY(cuStreamAddCallback(s, note_callback, (void *)2, 0));
    SAY(cuLaunchHostFunc(s, note, (void *)3));
    SAY(cuStreamSynchronize(s));
    TRUE(order_count == 3 && order[0] == 1 && order[1] == 2 && order[2] == 3);
    SAY(cuLaunchHostFunc(s, NULL, NULL));
    CUstreamCaptureStatus capturing = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    SAY(cuStreamIsCapturing(s, &capturing));
    TRUE(capturing == CU_STREAM_CAPTURE_STATUS_NONE);
    SAY(cuEventDestroy(e));
    SAY(cuEventDestroy(f));
    SAY(cuEventDestroy(silent));
    SAY(cuEventDestroy(NULL));
    SAY(cuStreamDestroy(s));
    SAY(cuStreamDestroy(t));
    SAY(cuStreamDestroy(NULL));
    MUST(cuMemFree(p));
}

static void section_pools(void)
{
    CUstream s;
    CUdeviceptr p = 0;
    CUmemoryPool pool = NULL, own = NULL;
    CUmemPoolProps properties;
    cuuint64_t value = 77;
    MUST(cuStreamCreate(&s, 0));
    SAY(cuMemAllocAsync(&p, 1000, s));
    SAY(cuMemsetD8Async(p, 1, 1000, s));
    SAY(cuMemFreeAsync(p, s));
    SAY(cuMemAllocAsync(&p, 0, s));
    SAY(cuStreamSynchronize(s));
    SAY(cuDeviceGetDefaultMemPool(&pool, device));
    SAY(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
    TRUE(value == 0);
    SAY(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value));
    TRUE(value == 0);
    value = 1u << 20;
    SAY(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
    value = 0;
    SAY(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
    TRUE(value == 1u << 20);
    SAY(cuMemPoolTrimTo(pool, 0));
    memset(&properties, 0, sizeof(properties));
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = device;
    SAY(cuMemPoolCreate(&own, &properties));
    SAY(cuMemAllocFromPoolAsync(&p, 4096, own, s));
    SAY(cuMemFreeAsync(p, s));
    SAY(cuStreamSynchronize(s));
    SAY(cuMemPoolDestroy(own));
    MUST(cuStreamDestroy(s));
}

static void section_arrays(void)
{
    enum { W = 16, H = 4 };
    CUarray array = NULL;
    CUDA_ARRAY_DESCRIPTOR d = {W, H, CU_AD_FORMAT_FLOAT, 1}, got;
    CUDA_ARRAY_DESCRIPTOR bad = {W, H, CU_AD_FORMAT_FLOAT, 3};
    float texels[W * H], back[W * H];
    CUdeviceptr out;
    CUtexObject texture = 0;
    CUsurfObject surface = 0;
    for (int i = 0; i < W * H; i++)
        texels[i] = (float)i * 0.5f;
    SAY(cuArrayCreate(&array, &bad));
    SAY(cuArrayCreate(&array, &d));
    memset(&got, 0, sizeof(got));
    SAY(cuArrayGetDescriptor(&got, array));
    TRUE(got.Width == W && got.Height == H && got.NumChannels == 1);
    CUDA_MEMCPY2D copy;
    memset(&copy, 0, sizeof(copy));
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = texels;
    copy.srcPitch = W * sizeof(float);
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = array;
    copy.WidthInBytes = W * sizeof(float);
    copy.Height = H;
    SAY(cuMemcpy2D(&copy));
    CUDA_RESOURCE_DESC resource;
    CUDA_TEXTURE_DESC how;
    memset(&resource, 0, sizeof(resource));
    memset(&how, 0, sizeof(how));
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    how.addressMode[0] = how.addressMode[1] = how.addressMode[2] = CU_TR_ADDRESS_MODE_CLAMP;
    SAY(cuTexObjectCreate(&texture, &resource, &how, NULL));
    MUST(cuMemAlloc(&out, sizeof(back)));
    int w = W, h = H;
    void *arguments[] = {&texture, &out, &w, &h};
    SAY(cuLaunchKernel(function("sample"), H, 1, 1, W, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuMemcpyDtoH(back, out, sizeof(back)));
    TRUE(!memcmp(back, texels, sizeof(back)));
    SAY(cuTexObjectDestroy(texture));
    SAY(cuArrayDestroy(array));
    CUDA_ARRAY3D_DESCRIPTOR d3 = {W, H, 0, CU_AD_FORMAT_SIGNED_INT32, 1, CUDA_ARRAY3D_SURFACE_LDST};
    SAY(cuArray3DCreate(&array, &d3));
    resource.res.array.hArray = array;
    SAY(cuSurfObjectCreate(&surface, &resource));
    int value = 100, rows[W * H];
    void *store[] = {&surface, &value};
    SAY(cuLaunchKernel(function("store_surface"), H, 1, 1, W, 1, 1, 0, NULL, store, NULL));
    memset(&copy, 0, sizeof(copy));
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.srcArray = array;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = rows;
    copy.dstPitch = W * sizeof(int);
    copy.WidthInBytes = W * sizeof(int);
    copy.Height = H;
    SAY(cuMemcpy2D(&copy));
    TRUE(rows[0] == 100 && rows[15] == 115 && rows[63] == 115);
    SAY(cuSurfObjectDestroy(surface));
    SAY(cuArrayDestroy(array));
    MUST(cuMemFree(out));
}

static void section_graphs(void)
{
    CUgraph graph = NULL, captured = NULL;
    CUgraphExec exec = NULL;
    CUgraphNode first = NULL, second = NULL;
    CUstream s;
    CUdeviceptr counter;
    int by = 1, value = -1;
    void *bump[] = {&by};
    size_t count = 0;
    MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    MUST(cuModuleGetGlobal(&counter, NULL, module, "counter"));
    MUST(cuMemsetD32(counter, 0, 1));
    SAY(cuGraphCreate(&graph, 0));
    CUDA_MEMSET_NODE_PARAMS set;
    memset(&set, 0, sizeof(set));
    set.dst = counter;
    set.value = 50;
    set.elementSize = 4;
    set.width = 1;
    set.height = 1;
    SAY(cuGraphAddMemsetNode(&first, graph, NULL, 0, &set, context));
    CUDA_KERNEL_NODE_PARAMS launch;
    memset(&launch, 0, sizeof(launch));
    launch.func = function("bump");
    launch.gridDimX = launch.gridDimY = launch.gridDimZ = 1;
    launch.blockDimX = 4;
    launch.blockDimY = launch.blockDimZ = 1;
    launch.kernelParams = bump;
    SAY(cuGraphAddKernelNode(&second, graph, &first, 1, &launch));
    SAY(cuGraphGetNodes(graph, NULL, &count));
    TRUE(count == 2);
    SAY(cuGraphInstantiateWithFlags(&exec, graph, 0));
    SAY(cuGraphLaunch(exec, s));
    SAY(cuGraphLaunch(exec, s));
    SAY(cuStreamSynchronize(s));
    SAY(cuMemcpyDtoH(&value, counter, 4));
    TRUE(value == 54);
    SAY(cuGraphExecDestroy(exec));
    SAY(cuGraphDestroy(graph));
    SAY(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
    SAY(cuMemsetD32Async(counter, 7, 1, s));
    SAY(cuLaunchKernel(launch.func, 1, 1, 1, 2, 1, 1, 0, s, bump, NULL));
    SAY(cuStreamSynchronize(s));
    SAY(cuStreamEndCapture(s, &captured));
    SAY(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
    SAY(cuMemsetD32Async(counter, 7, 1, s));
    SAY(cuLaunchKernel(launch.func, 1, 1, 1, 2, 1, 1, 0, s, bump, NULL));
    SAY(cuStreamEndCapture(s, &captured));
    SAY(cuMemcpyDtoH(&value, counter, 4));
    TRUE(value == 54);
    SAY(cuGraphInstantiateWithFlags(&exec, captured, 0));
    SAY(cuGraphLaunch(exec, s));
    SAY(cuStreamSynchronize(s));
    SAY(cuMemcpyDtoH(&value, counter, 4));
    TRUE(value == 9);
    SAY(cuGraphExecDestroy(exec));
    SAY(cuGraphDestroy(captured));
    MUST(cuStreamDestroy(s));
}

static void *thread_main(void *arg)
{
    CUcontext c = (CUcontext)1;
    int *ok = arg;
    CUdeviceptr p = 0;
    int value = 0;
    if (cuCtxGetCurrent(&c) != CUDA_SUCCESS || c || cuCtxSetCurrent(context) != CUDA_SUCCESS)
        return NULL;
    for (int i = 0; i < 20; i++) {
        if (cuMemAlloc(&p, 256) != CUDA_SUCCESS ||
            cuMemsetD32(p, (unsigned)i, 64) != CUDA_SUCCESS ||
            cuMemcpyDtoH(&value, p + 252, 4) != CUDA_SUCCESS || value != i ||
            cuMemFree(p) != CUDA_SUCCESS)
            return NULL;
    }
    *ok = 1;
    return NULL;
}

static void section_threads(void)
{
    pthread_t threads[4];
    int ok[4] = {0};
    for (int i = 0; i < 4; i++) {
        if (pthread_create(&threads[i], NULL, thread_main, &ok[i]))
            exit(1);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    TRUE(ok[0] && ok[1] && ok[2] && ok[3]);
}

static void section_symbols(void)
{
    void *f = NULL, *g = NULL;
    CUdriverProcAddressQueryResult status = (CUdriverProcAddressQueryResult)77;
    SAY(cuGetProcAddress("cuMemAlloc", &f, 12000, CU_GET_PROC_ADDRESS_DEFAULT, &status));
    TRUE(f != NULL && status == CU_GET_PROC_ADDRESS_SUCCESS);
    SAY(cuGetProcAddress("cuNoSuchThing", &f, 12000, CU_GET_PROC_ADDRESS_DEFAULT, &status));
    TRUE(f == NULL && status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    SAY(cuGetProcAddress("cuLaunchKernelEx", &f, 11000, CU_GET_PROC_ADDRESS_DEFAULT, &status));
    TRUE(f == NULL && status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    SAY(cuGetProcAddress("cuStreamSynchronize", &f, 12000,
                         CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &status));
    SAY(cuGetProcAddress("cuStreamSynchronize", &g, 12000, CU_GET_PROC_ADDRESS_DEFAULT, &status));
    TRUE(f && g && f != g);
}

/* The last one: the context is lost afterwards. */
static void section_sticky(void)
{
    CUdeviceptr p = 0x10;
    int value;
    void *arguments[] = {&p};
    SAY(cuLaunchKernel(function("wild"), 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL));
    SAY(cuCtxSynchronize());
    SAY(cuMemAlloc(&p, 16));
    SAY(cuMemcpyDtoH(&value, p, 4));
    SAY(cuCtxSynchronize());
    SAY(cuStreamSynchronize(NULL));
}

static const struct {
    const char *name;
    void (*run)(void);
} sections[] = {
    {"errors", section_errors},   {"device", section_device},   {"contexts", section_contexts},
    {"modules", section_modules}, {"memory", section_memory},   {"pointers", section_pointers},
    {"launch", section_launch},   {"streams", section_streams}, {"pools", section_pools},
    {"arrays", section_arrays},   {"graphs", section_graphs},   {"threads", section_threads},
    {"symbols", section_symbols}, {"sticky", section_sticky},
};

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) {
        perror(path);
        exit(2);
    }
    long size = ftell(f);
    char *text = calloc(1, (size_t)size + 1);
    rewind(f);
    if (size < 0 || !text || fread(text, 1, (size_t)size, f) != (size_t)size) {
        perror(path);
        exit(2);
    }
    fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    int count = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: conformance KERNELS.ptx [SECTION...]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was said before a crash is worth having */
    ptx = read_file(argv[1]);
    printf("before cuInit\n");
    SAY(cuDeviceGetCount(&count));
    SAY(cuCtxSynchronize());
    SAY(cuInit(1));
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        bool wanted = argc == 2;
        for (int k = 2; k < argc; k++)
            wanted |= !strcmp(argv[k], sections[i].name);
        if (!wanted) /* what the others stand on */
            wanted = !strcmp(sections[i].name, "contexts") || !strcmp(sections[i].name, "modules");
        if (!wanted)
            continue;
        printf("%s\n", sections[i].name);
        sections[i].run();
        fflush(stdout);
    }
    free(ptx);
    printf("end\n");
    return 0;
}
