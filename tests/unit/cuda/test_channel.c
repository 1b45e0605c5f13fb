/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md with a channel (docs/ring.md): C5, C8, C12, C13, C16 and C18, against a host
 * that lags behind like a GPU. */
#include <string.h>

#include "bytes.h"
#include "fake_channel.h"

/* ---- Calls ---- */

static CUfunction get_function(void)
{
    CUmodule module;
    CUfunction function;
    assert_ok(cuModuleLoadData(&module, ".version 7.0\n.target sm_70\n.address_size 64\n"));
    assert_ok(cuModuleGetFunction(&function, module, "f"));
    return function;
}

/* C8: a launch is one record that nobody waits for, the same as by the mailbox. */
static void test_launch(void **state)
{
    (void)state;
    struct vgpu_channel_statistics before, after;
    CUfunction f = get_function();
    uint64_t x = 0x1122334455667788u;
    uint32_t n = 77;
    void *params[] = {&x, &n};
    fake_channel_stop(true); /* so it cannot be waiting for anybody */
    vgpu_channel_read_statistics(vgpu_cuda.channel, &before);
    for (int i = 0; i < 100; i++)
        assert_ok(cuLaunchKernel(f, 3, 2, 1, 64, 1, 1, 128, NULL, params, NULL));
    vgpu_channel_read_statistics(vgpu_cuda.channel, &after);
    assert_int_equal(after.posts - before.posts, 100);
    assert_int_equal(after.calls, before.calls);
    fake_channel_stop(false);
    assert_ok(cuCtxSynchronize());
    assert_int_equal(fake_count(VGPU_CALL_LAUNCH), 100);
    struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
    const uint64_t want[] = {3, 2, 1, 64, 1, 1, 128, 0, 0};
    assert_memory_equal(r.in + 2, want, sizeof(want));
    assert_int_equal(r.length, 12);
    assert_memory_equal(r.data, &x, 8);
    assert_memory_equal(r.data + 8, &n, 4);
}

/* C2: copies and kernels overlap on a channel, if the card's do. */
static void test_overlap(void **state)
{
    (void)state;
    int overlap = 0, mapped = 1;
    assert_ok(cuDeviceGetAttribute(&overlap, (CUdevice_attribute)15, 0));
    assert_int_equal(overlap, 1024); /* as the fake card says */
    assert_ok(cuDeviceGetAttribute(&mapped, (CUdevice_attribute)19, 0));
    assert_int_equal(mapped, 0);
}

/* C8: gaps between parameters are zero, whatever was on the stack. */
static void test_argument_gaps(void **state)
{
    (void)state;
    const struct vgpu_param_layout layout[] = {{0, 1}, {16, 8}, {40, 3}};
    static const uint8_t zero[64];
    uint8_t a = 1, c[3] = {3, 3, 3};
    uint64_t b = 2;
    void *params[] = {&a, &b, c};
    fake_set_function(3, layout, 64, 1024, 49152);
    CUfunction f = get_function();
    uint8_t dirt[8192];
    memset(dirt, 0xff, sizeof(dirt));
    __asm__ volatile("" : : "r"(dirt) : "memory");
    assert_ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
    assert_ok(cuCtxSynchronize());
    struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
    assert_int_equal(r.length, 64);
    assert_memory_equal(r.data + 1, zero, 15);
    assert_memory_equal(r.data + 24, zero, 16);
    assert_memory_equal(r.data + 43, zero, 21);
    assert_int_equal(r.data[42], 3);
}

/* C8: arguments of more bytes than the stack has for them, and than a record holds. */
static void test_large_arguments(void **state)
{
    (void)state;
    const uint32_t sizes[] = {4096, 4097, 12000, 32764};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct vgpu_param_layout layout[] = {{0, sizes[i]}};
        uint8_t *argument = new_bytes(sizes[i]);
        void *params[] = {argument};
        scramble(argument, sizes[i]);
        fake_set_function(1, layout, sizes[i], 1024, 49152);
        CUmodule module;
        CUfunction f;
        assert_ok(cuModuleLoadData(&module, ".version 7.0\n.target sm_70\n.address_size 64\n"));
        assert_ok(cuModuleGetFunction(&f, module, "f"));
        assert_ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
        assert_ok(cuCtxSynchronize());
        struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
        bool staged = sizes[i] > 16000;
        assert_int_equal(r.length, staged ? 0 : sizes[i]);
        assert_int_equal(r.staged, 0);
        if (staged)
            assert_int_not_equal(r.in[10], 0);
        else
            assert_memory_equal(r.data, argument, sizeof(r.data));
        free(argument);
    }
}

/* C5: a status and its text, and an answer's slots. */
static void test_answers(void **state)
{
    (void)state;
    size_t free_bytes, total;
    CUmodule module;
    char log[64] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof(log)};
    assert_ok(cuMemGetInfo_v2(&free_bytes, &total));
    fake_fail(VGPU_CALL_MODULE_LOAD, CUDA_ERROR_INVALID_PTX, "line 3: no", 1);
    assert_result(cuModuleLoadDataEx(&module, ".version 7.0\n.target sm_70\n", 2, options, values),
                  CUDA_ERROR_INVALID_PTX);
    assert_string_equal(log, "line 3: no");
    /* C5: a posted call's failure is told once, by a call that reports. */
    fake_fail(VGPU_CALL_MEMORY_SET, CUDA_ERROR_INVALID_VALUE, "", 1);
    CUdeviceptr a;
    assert_ok(cuMemAlloc_v2(&a, 4096));
    assert_ok(cuMemsetD8_v2(a, 1, 100));
    assert_result(cuCtxSynchronize(), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuCtxSynchronize());
    assert_ok(cuMemFree_v2(a));
}

/* C5: a host whose answers are not what the call has. */
static void test_strange_answers(void **state)
{
    (void)state;
    static const uint8_t zeros[1024];
    CUdeviceptr a, b;
    uint8_t bytes[2000] = {1};
    assert_ok(cuMemAlloc_v2(&a, 4096));
    for (uint32_t length = 0; length <= 960; length += 60) { /* but for 120 they are wrong */
        fake_answer(VGPU_CALL_COPY_FROM_DEVICE, zeros, length);
        assert_result(cuMemcpyDtoH_v2(bytes, a, 120),
                      length == 120 ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN);
        fake_answer(VGPU_CALL_MEMORY_ALLOC, zeros, length);
        assert_result(cuMemAlloc_v2(&b, 8), CUDA_ERROR_UNKNOWN);
        fake_answer(VGPU_CALL_CONTEXT_SYNCHRONIZE, zeros, length);
        assert_result(cuCtxSynchronize(), length ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS);
    }
    /* An answer that says more than there was room for is cut, and then not what the call has. */
    fake_answer(VGPU_CALL_STREAM_FENCE, zeros, 1024);
    uint8_t *many = new_bytes(MIB);
    CUdeviceptr device;
    assert_ok(cuMemAlloc_v2(&device, MIB));
    scramble(many, MIB);
    assert_ok(cuMemcpyHtoD_v2(device, many, MIB));
    assert_ok(cuCtxSynchronize());
    assert_memory_equal(fake_memory(device), many, MIB);
    free(many);
}

/* ---- Order ---- */

static _Atomic int gate;

static void wait_for_gate(void *data)
{
    while (!atomic_load(&gate))
        ;
    *(volatile uint8_t *)data = 0x42;
}

/* C12: behind a callback, pinned memory is read when its turn comes, other memory at once; also
 * when the copy goes through staging. */
static void test_held(void **state)
{
    (void)state;
    CUdeviceptr device;
    CUstream stream;
    uint8_t *pinned, *back, *ordinary = new_bytes(MIB);
    assert_ok(cuMemAllocHost_v2((void **)&pinned, MIB));
    assert_ok(cuMemAllocHost_v2((void **)&back, MIB));
    assert_ok(cuMemAlloc_v2(&device, 2 * MIB));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    atomic_store(&gate, 0);
    memset(pinned, 1, MIB);
    memset(ordinary, 2, MIB);
    assert_ok(cuLaunchHostFunc(stream, wait_for_gate, pinned));
    assert_ok(cuMemcpyHtoDAsync_v2(device, pinned, MIB, stream));
    assert_ok(cuMemcpyHtoDAsync_v2(device + MIB, ordinary, MIB, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back, device, MIB, stream));
    memset(ordinary, 3, MIB);
    assert_result(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    atomic_store(&gate, 1);
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(back[0], 0x42);
    assert_int_equal(back[MIB - 1], 1);
    assert_int_equal(*fake_memory(device + MIB), 2);
    assert_int_equal(*fake_memory(device + 2 * MIB - 1), 2);
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuMemFreeHost(back));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_ok(cuMemFree_v2(device));
    free(ordinary);
}

/* C16: a captured copy of pinned memory is a node that reads it when it is launched. */
static void test_captured(void **state)
{
    (void)state;
    CUdeviceptr device;
    CUstream stream;
    CUgraph graph;
    CUgraphExec exec;
    uint8_t *pinned, *back;
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 20000));
    assert_ok(cuMemAllocHost_v2((void **)&back, 20000));
    assert_ok(cuMemAlloc_v2(&device, 20000));
    assert_ok(cuStreamCreate(&stream, 0));
    assert_ok(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    assert_ok(cuMemcpyHtoDAsync_v2(device, pinned, 20000, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back, device, 20000, stream));
    assert_ok(cuStreamEndCapture(stream, &graph));
    assert_ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int i = 1; i < 5; i++) {
        memset(pinned, i, 20000);
        assert_ok(cuGraphLaunch(exec, stream));
        assert_ok(cuStreamSynchronize(stream));
        assert_int_equal(back[0], i);
        assert_int_equal(back[19999], i);
    }
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuGraphDestroy(graph));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuMemFreeHost(back));
    assert_ok(cuMemFree_v2(device));
}

/* ---- Threads ---- */

struct worker {
    CUcontext context;
    CUfunction function;
    CUdeviceptr device;
    unsigned number;
    unsigned bad;
};

enum { THREADS = 4, ROUNDS = 40, THREAD_BYTES = 700 * 1024 };

static void *copy_and_launch(void *data)
{
    struct worker *w = data;
    CUstream stream;
    uint8_t *ordinary = malloc(THREAD_BYTES), *back = malloc(THREAD_BYTES), *pinned = NULL;
    uint64_t x = 1;
    uint32_t n = 2;
    void *params[] = {&x, &n};
    w->bad += !ordinary || !back || cuCtxSetCurrent(w->context) != CUDA_SUCCESS ||
              cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
              cuMemAllocHost_v2((void **)&pinned, THREAD_BYTES) != CUDA_SUCCESS;
    for (unsigned i = 0; i < ROUNDS && !w->bad; i++) {
        size_t bytes = i % 4 == 0 ? 900 : i % 4 == 1 ? 9000 : i % 4 == 2 ? 60000 : THREAD_BYTES;
        uint8_t *from = i % 3 ? ordinary : pinned;
        memset(from, (int)(w->number * 50 + i), bytes);
        w->bad += cuMemcpyHtoDAsync_v2(w->device, from, bytes, stream) != CUDA_SUCCESS;
        w->bad +=
            cuLaunchKernel(w->function, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL) != CUDA_SUCCESS;
        w->bad += cuMemcpyDtoHAsync_v2(back, w->device, bytes, stream) != CUDA_SUCCESS;
        w->bad += cuStreamSynchronize(stream) != CUDA_SUCCESS;
        memset(ordinary, (int)(w->number * 50 + i), bytes);
        w->bad += memcmp(back, ordinary, bytes) != 0;
    }
    if (!w->bad)
        w->bad +=
            cuMemFreeHost(pinned) != CUDA_SUCCESS || cuStreamDestroy_v2(stream) != CUDA_SUCCESS;
    free(ordinary);
    free(back);
    return NULL;
}

/* C13 */
static void test_threads(void **state)
{
    (void)state;
    struct worker worker[THREADS] = {0};
    pthread_t thread[THREADS];
    CUcontext context;
    assert_ok(cuCtxGetCurrent(&context));
    CUfunction function = get_function();
    fake_channel_set_lag(10);
    for (unsigned i = 0; i < THREADS; i++) {
        worker[i].context = context;
        worker[i].function = function;
        worker[i].number = i;
        assert_ok(cuMemAlloc_v2(&worker[i].device, THREAD_BYTES));
        assert_int_equal(pthread_create(&thread[i], NULL, copy_and_launch, &worker[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(worker[i].bad, 0);
    }
    assert_int_equal(fake_count(VGPU_CALL_LAUNCH), THREADS * ROUNDS);
    assert_int_equal(fake_channel_strays(), 0);
}

/* ---- The end ---- */

static void *kill_soon(void *unused)
{
    (void)unused;
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    fake_channel_kill();
    return NULL;
}

/* C5, G20: a channel that dies under copies ends them, and every later call says so at once. */
static void test_death(void **state)
{
    (void)state;
    pthread_t killer;
    CUdeviceptr device;
    void *pinned;
    uint8_t *host = new_bytes(4 * MIB);
    scramble(host, 4 * MIB);
    assert_ok(cuMemAlloc_v2(&device, 4 * MIB));
    assert_ok(cuMemAllocHost_v2(&pinned, MIB));
    assert_int_equal(pthread_create(&killer, NULL, kill_soon, NULL), 0);
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < 1000000 && result == CUDA_SUCCESS; i++) {
        result = cuMemcpyHtoD_v2(device, host, 4 * MIB);
        if (result == CUDA_SUCCESS)
            result = cuMemcpyDtoH_v2(host, device, 4 * MIB);
    }
    assert_int_equal(pthread_join(killer, NULL), 0);
    assert_result(result, CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_result(cuMemcpyHtoD_v2(device, host, 4), CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_result(cuMemcpyDtoH_v2(host, device, 4 * MIB), CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_result(cuCtxSynchronize(), CUDA_ERROR_DEVICE_UNAVAILABLE);
    ((uint8_t *)pinned)[5] = 1; /* still the program's to touch */
    free(host);
}

/* C5: a session whose worker died says what of, in every call from then on. */
static void test_cause_of_death(void **state)
{
    (void)state;
    CUdeviceptr device;
    assert_ok(cuMemAlloc_v2(&device, 4096));
    fake_set_lost(CUDA_ERROR_LAUNCH_FAILED);
    fake_channel_kill();
    assert_result(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
    assert_result(cuMemcpyHtoD_v2(device, &device, 8), CUDA_ERROR_LAUNCH_FAILED);
}

int main(void)
{
#define CHANNEL_TEST(f)                                                                            \
    cmocka_unit_test_setup_teardown(f, fake_channel_setup, fake_channel_teardown)
    const struct CMUnitTest tests[] = {
        CHANNEL_TEST(test_launch),         CHANNEL_TEST(test_overlap),
        CHANNEL_TEST(test_argument_gaps),  CHANNEL_TEST(test_large_arguments),
        CHANNEL_TEST(test_answers),        CHANNEL_TEST(test_strange_answers),
        CHANNEL_TEST(test_held),           CHANNEL_TEST(test_captured),
        CHANNEL_TEST(test_threads),        CHANNEL_TEST(test_death),
        CHANNEL_TEST(test_cause_of_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
