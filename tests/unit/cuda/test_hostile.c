/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * docs/cuda-calls.md C5: a host whose answers are made of chance. Whatever it says, the library
 * crashes nowhere, leaks nothing and ends; under the sanitizers that is what is tested. The program
 * does no wrong here, so a success always means that its outputs were written.
 */
#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 2000, STEPS = 60 };

static const uint32_t answered[] = {
    VGPU_CALL_FUNCTION_GET,
    VGPU_CALL_FUNCTION_PARAMS,
    VGPU_CALL_MODULE_GLOBAL,
    VGPU_CALL_MEMORY_ALLOC,
    VGPU_CALL_COPY_FROM_DEVICE,
    VGPU_CALL_PRINTF_READ,
    VGPU_CALL_EVENT_ELAPSED,
    VGPU_CALL_STREAM_QUERY,
    VGPU_CALL_ARRAY_READ,
    VGPU_CALL_TEXTURE_CREATE,
    VGPU_CALL_CUMEMGETINFO_V2,
    VGPU_CALL_MEMORY_ALLOC_ASYNC,
    VGPU_CALL_DEVICE_ATTRIBUTES,
    VGPU_CALL_STREAM_PRIORITY_RANGE,
    VGPU_CALL_CUOCCUPANCYMAXACTIVEBLOCKSPERMULTIPROCESSORWITHFLAGS,
};

static uint32_t pick(uint32_t n)
{
    return (uint32_t)random() % n;
}

/* One answer of the next calls becomes something else: bytes of chance, or a failure. */
static void lie(void)
{
    static const int failures[] = {1,   2,   200,    218,     400,      500,     719,
                                   801, 999, 123456, -EPROTO, -EBADMSG, -ESTALE, -ENOMEM};
    static const uint64_t words[] = {
        0, 1, UINT64_MAX, UINT32_MAX, (uint64_t)1 << 47, FAKE_BASE, FAKE_BASE + 7, 600};
    uint32_t opcode = answered[pick(sizeof(answered) / sizeof(answered[0]))];
    if (pick(4) == 0) {
        fake_fail(opcode, failures[pick(sizeof(failures) / sizeof(failures[0]))], "chance", 1);
        return;
    }
    uint64_t bytes[124];
    for (size_t i = 0; i < 124; i++)
        bytes[i] = pick(2) ? words[pick(8)] : (uint64_t)random() << 32 | (uint64_t)random();
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint32_t length =
        pick(3) ? 8u * info->out_count + pick(info->fill_bytes + 1u) : pick(sizeof(bytes));
    fake_answer(opcode, bytes, length < sizeof(bytes) ? length : sizeof(bytes));
}

static void count(void *data)
{
    (void)data;
}

static void one_round(void)
{
    CUcontext context = NULL;
    CUmodule module = NULL;
    CUfunction f = NULL;
    CUdeviceptr memory = 0, other = 0;
    CUstream stream = NULL;
    CUevent start = NULL, end = NULL;
    CUarray array = NULL;
    CUtexObject texture = 0;
    static uint8_t buffer[32768]; /* what a host may say that a parameter is long */
    void *params[256];
    size_t a, b;
    int n, m;
    float ms;
    for (size_t i = 0; i < 256; i++)
        params[i] = buffer;
    if (pick(8) == 0)
        lie();
    if (cuInit(0) != CUDA_SUCCESS || cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS)
        return;
    (void)cuCtxSetCurrent(context);
    for (int step = 0; step < STEPS; step++) {
        if (pick(2) == 0)
            lie();
        switch (pick(20)) {
        case 0:
            (void)cuModuleLoadData(&module, ".version 7.0 vprintf");
            break;
        case 1:
            (void)cuModuleGetFunction(&f, module, pick(2) ? "f" : "g");
            break;
        case 2:
            if (cuMemAlloc_v2(&memory, 1 + pick(8192)) == CUDA_SUCCESS)
                assert_int_not_equal(memory, 0);
            break;
        case 3:
            (void)cuMemFree_v2(memory);
            break;
        case 4:
            (void)cuMemcpyDtoH_v2(buffer, memory, pick(sizeof(buffer)));
            break;
        case 5:
            (void)cuMemcpyHtoD_v2(memory, buffer, pick(sizeof(buffer)));
            break;
        case 6:
            (void)cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
            break;
        case 7:
            (void)cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL);
            break;
        case 8:
            (void)cuEventCreate(&start, 0);
            (void)cuEventCreate(&end, 0);
            (void)cuEventRecord(start, stream);
            (void)cuEventRecord(end, stream);
            (void)cuEventElapsedTime(&ms, start, end);
            break;
        case 9:
            (void)cuCtxSynchronize();
            break;
        case 10:
            (void)cuStreamQuery(stream);
            break;
        case 11: {
            const CUDA_ARRAY_DESCRIPTOR d = {16, 16, CU_AD_FORMAT_FLOAT, 1};
            (void)cuArrayCreate_v2(&array, &d);
            (void)cuMemcpyAtoH_v2(buffer, array, 0, 64);
            break;
        }
        case 12: {
            const CUDA_RESOURCE_DESC d = {.res.array.hArray = array};
            const CUDA_TEXTURE_DESC t = {.flags = 0};
            (void)cuTexObjectCreate(&texture, &d, &t, NULL);
            break;
        }
        case 13:
            (void)cuTexObjectDestroy(texture);
            (void)cuArrayDestroy(array);
            break;
        case 14:
            (void)cuModuleGetGlobal_v2(&other, &a, module, "g");
            (void)cuMemsetD8_v2(other, 0, 4);
            break;
        case 15:
            (void)cuMemGetInfo_v2(&a, &b);
            (void)cuCtxGetStreamPriorityRange(&n, &m);
            break;
        case 16:
            (void)cuOccupancyMaxPotentialBlockSize(&n, &m, f, NULL, 0, 0);
            break;
        case 17:
            (void)cuLaunchHostFunc(stream, count, NULL);
            (void)cuMemsetD8Async(memory, 1, 1, stream);
            break;
        case 18:
            if (cuMemAllocAsync(&other, 64, stream) == CUDA_SUCCESS)
                (void)cuMemFreeAsync(other, stream);
            break;
        default:
            (void)cuModuleUnload(module);
        }
    }
    (void)cuCtxSynchronize();
}

static void test_chance(void **state)
{
    (void)state;
    /* What kernels "print" goes to nobody. */
    FILE *nowhere = freopen("/dev/null", "w", stdout);
    assert_non_null(nowhere);
    srandom(20);
    for (int round = 0; round < ROUNDS; round++) {
        fake_setup(NULL);
        one_round();
    }
    fake_setup(NULL); /* gives back what the last round had */
    assert_true(fake_count(0) == 0 || fake_count(VGPU_CALL_CONTEXT_DESTROY) <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
