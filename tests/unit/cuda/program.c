/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver-API program for test_end_to_end.py. What it is told to do:
 *
 *     threads   four threads launch with 2400 bytes of arguments, copy, and have host functions
 * called order     a host function makes what the next kernel reads replay    a graph that was
 * captured is launched a thousand times fault     a kernel writes where it may not; what comes then
 * says so hold      says "ready", waits for a line, then says what a call answers, twice leave
 * allocates and exits without giving anything back
 *
 * Exit status 0: all was right.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda.h>

#define MUST(call)                                                                                 \
    do {                                                                                           \
        CUresult must_ = (call);                                                                   \
        const char *name_ = NULL;                                                                  \
        if (must_ != CUDA_SUCCESS) {                                                               \
            cuGetErrorName(must_, &name_);                                                         \
            printf("FAIL %s: %s\n", #call, name_ ? name_ : "?");                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("FAIL line %d: %s\n", __LINE__, #condition);                                    \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* out[i] = 2 * values[i]; values come with the launch. */
static const char ptx[] =
    ".version 6.4\n.target sm_70\n.address_size 64\n"
    ".visible .entry twice(.param .align 4 .b8 values[2400], .param .u64 out)\n{\n"
    ".reg .b32 %r<5>; .reg .b64 %rd<6>;\n"
    "mov.u32 %r1, %tid.x; mul.wide.u32 %rd1, %r1, 4;\n"
    "mov.b64 %rd2, values; add.s64 %rd3, %rd2, %rd1; ld.param.u32 %r2, [%rd3];\n"
    "add.s32 %r3, %r2, %r2; ld.param.u64 %rd4, [out]; add.s64 %rd5, %rd4, %rd1;\n"
    "st.global.u32 [%rd5], %r3;\nret;\n}\n"
    ".visible .entry add(.param .u64 to, .param .u32 by)\n{\n"
    ".reg .b32 %r<4>; .reg .b64 %rd<2>;\n"
    "ld.param.u64 %rd1, [to]; ld.param.u32 %r1, [by]; ld.global.u32 %r2, [%rd1];\n"
    "add.s32 %r3, %r1, %r2; st.global.u32 [%rd1], %r3;\nret;\n}\n";

static CUcontext context;
static CUmodule module;

static void begin(void)
{
    CUdevice device;
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleLoadData(&module, ptx));
}

static void count(void *data)
{
    ++*(int *)data; /* only this stream's callbacks touch it, and they come one after the other */
}

static void *use(void *which)
{
    int id = *(const int *)which, values[600], back[600], calls = 0;
    CUfunction twice;
    CUdeviceptr out;
    CUstream stream;
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleGetFunction(&twice, module, "twice"));
    MUST(cuMemAlloc(&out, sizeof(back)));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 600; i++)
            values[i] = id * 100000 + round * 1000 + i;
        void *arguments[] = {values, &out};
        MUST(cuLaunchKernel(twice, 1, 1, 1, 600, 1, 1, 0, stream, arguments, NULL));
        MUST(cuLaunchHostFunc(stream, count, &calls));
        MUST(cuMemcpyDtoHAsync(back, out, sizeof(back), stream));
        MUST(cuStreamSynchronize(stream));
        CHECK(calls == round + 1);
        for (int i = 0; i < 600; i++)
            CHECK(back[i] == 2 * values[i]);
    }
    MUST(cuStreamDestroy(stream));
    MUST(cuMemFree(out));
    return NULL;
}

static void do_threads(void)
{
    pthread_t threads[4];
    int ids[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, use, &ids[i]) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void make_forty(void *data)
{
    *(int *)data = 40;
}

static void do_order(void)
{
    CUfunction add;
    CUdeviceptr word;
    CUstream one, two;
    CUevent event;
    int *host, by = 2, seen = 0;
    MUST(cuModuleGetFunction(&add, module, "add"));
    MUST(cuMemAlloc(&word, 4));
    MUST(cuMemAllocHost((void **)&host, 4));
    MUST(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    *host = 0;
    void *arguments[] = {&word, &by};
    MUST(cuLaunchHostFunc(one, make_forty, host));
    MUST(cuMemcpyHtoDAsync(word, host, 4, one));
    MUST(cuEventRecord(event, one));
    MUST(cuStreamWaitEvent(two, event, 0));
    MUST(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, two, arguments, NULL));
    MUST(cuMemcpyDtoHAsync(&seen, word, 4, two));
    MUST(cuStreamSynchronize(two));
    CHECK(seen == 42);
}

static void do_replay(void)
{
    CUfunction add;
    CUdeviceptr word;
    CUstream stream;
    CUgraph graph;
    CUgraphExec exec;
    int by = 3, seen = 0;
    MUST(cuModuleGetFunction(&add, module, "add"));
    MUST(cuMemAlloc(&word, 4));
    MUST(cuMemsetD32(word, 0, 1));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    MUST(cuCtxSynchronize());
    void *arguments[] = {&word, &by};
    MUST(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    MUST(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL));
    MUST(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL));
    MUST(cuStreamEndCapture(stream, &graph));
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int i = 0; i < 1000; i++)
        MUST(cuGraphLaunch(exec, stream));
    MUST(cuStreamSynchronize(stream));
    MUST(cuMemcpyDtoH(&seen, word, 4));
    CHECK(seen == 6000);
}

static void do_fault(void)
{
    CUfunction add;
    CUdeviceptr wild = 16, word;
    int by = 1;
    MUST(cuModuleGetFunction(&add, module, "add"));
    void *arguments[] = {&wild, &by};
    MUST(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL));
    CHECK(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK(cuMemAlloc(&word, 4) == CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
}

static void do_hold(void)
{
    CUdeviceptr word;
    char line[16];
    MUST(cuMemAlloc(&word, 4));
    printf("ready\n");
    fflush(stdout);
    CHECK(fgets(line, sizeof(line), stdin) != NULL);
    /* A posted call may not know yet. */
    int first = (int)cuCtxSynchronize(), second = (int)cuMemsetD32(word, 0, 1);
    printf("%d %d\n", first, second);
}

static void do_fork(void)
{
    CUdeviceptr word;
    int status = -1;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(cuMemAlloc(&word, 4) == CUDA_ERROR_NOT_INITIALIZED);
        CHECK(cuInit(0) == CUDA_ERROR_NOT_INITIALIZED);
        exit(0); /* with all that programs do at their end */
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    do_order();
}

static void do_leave(void)
{
    CUdeviceptr memory;
    MUST(cuMemAlloc(&memory, 1 << 20));
}

int main(int argc, char **argv)
{
    const struct {
        const char *name;
        void (*run)(void);
    } what[] = {{"threads", do_threads}, {"order", do_order}, {"replay", do_replay},
                {"fault", do_fault},     {"hold", do_hold},   {"fork", do_fork},
                {"leave", do_leave}};
    for (size_t i = 0; argc == 2 && i < sizeof(what) / sizeof(what[0]); i++) {
        if (strcmp(argv[1], what[i].name) == 0) {
            begin();
            what[i].run();
            printf("done\n");
            return 0;
        }
    }
    return 2;
}
