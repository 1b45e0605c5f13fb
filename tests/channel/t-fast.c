/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-fast STAGE [--seconds N] [--count N] [--wait]
 *
 * A CUDA driver program for tests of channels, on a host or in a VM. It counts on the GPU what it
 * launches, so that one that was lost or run twice is seen.
 *
 *     count    launches the counting kernel for some seconds (or --count times), copies patterns
 *              there and back in between, and compares. Prints "RESULT posted=... counter=...
 *              copies=... seconds=... verdict=ok".
 *     idle     does nothing until a line comes on stdin, then synchronizes
 *     posting  launches without waiting, for ever
 *     sync     waits for a kernel that never ends
 *     copy     copies 32 MiB there and back, over and over
 *     arena    allocates and frees pinned memory, over and over
 *
 * With --wait it prints "READY" first and waits for a line. The stages but `count` print "STAGE
 * name" and go on until a call fails, then print "SAW call=... result=N name=... value=N", where
 * `value` is the counter as it was last read, and exit with 0. A bus error, as a device that was
 * unplugged makes, is "SAW call=signal result=-1".
 */
#include <cuda.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATTERN_BYTES (96u << 10) /* more than one piece of any staging */
#define COPY_BYTES    (32u << 20)
#define ROUND         500u /* launches between two looks */

static const char ptx[] =
    ".version 6.0\n.target sm_50\n.address_size 64\n"
    ".visible .global .align 4 .u32 counter;\n"
    ".visible .entry bump()\n{\n"
    "    .reg .b64 %rd<2>;\n    .reg .b32 %r<2>;\n"
    "    mov.u64 %rd1, counter;\n    atom.global.add.u32 %r1, [%rd1], 1;\n    ret;\n}\n"
    ".visible .entry endless(.param .u64 flag)\n{\n"
    "    .reg .pred %p<2>;\n    .reg .b32 %r<2>;\n    .reg .b64 %rd<2>;\n"
    "    ld.param.u64 %rd1, [flag];\n"
    "LOOP:\n    ld.volatile.global.u32 %r1, [%rd1];\n    setp.eq.s32 %p1, %r1, 0;\n"
    "    @%p1 bra LOOP;\n    ret;\n}\n";

static CUfunction bump, endless;
static CUdeviceptr counter, memory;
static const char *last_call = "";

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static CUresult note(CUresult result, const char *call)
{
    last_call = call;
    return result;
}
#define CALL(name, ...) note(name(__VA_ARGS__), #name)

static void need(CUresult result)
{
    const char *name = "?";
    if (result == CUDA_SUCCESS)
        return;
    cuGetErrorName(result, &name);
    printf("FAILED %s %s\n", last_call, name);
    exit(1);
}

static void wait_line(void)
{
    char c;
    while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
        ;
}

static void set_up(void)
{
    CUdevice device;
    CUcontext context;
    CUmodule module;
    size_t bytes;
    need(CALL(cuInit, 0));
    need(CALL(cuDeviceGet, &device, 0));
    need(CALL(cuDevicePrimaryCtxRetain, &context, device));
    need(CALL(cuCtxSetCurrent, context));
    need(CALL(cuModuleLoadData, &module, ptx));
    need(CALL(cuModuleGetFunction, &bump, module, "bump"));
    need(CALL(cuModuleGetFunction, &endless, module, "endless"));
    need(CALL(cuModuleGetGlobal, &counter, &bytes, module, "counter"));
    need(CALL(cuMemAlloc, &memory, 1u << 20));
    need(CALL(cuMemsetD8, memory, 0, 1u << 20));
    need(CALL(cuCtxSynchronize));
}

static CUresult launch(void)
{
    return CALL(cuLaunchKernel, bump, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
}

static CUresult read_counter(uint32_t *value)
{
    return CALL(cuMemcpyDtoH, value, counter, sizeof(*value));
}

/* A pattern that no other round has, there and back. */
static bool check_copy(uint32_t round)
{
    static uint32_t there[PATTERN_BYTES / 4], back[PATTERN_BYTES / 4];
    uint32_t seed = round * 2654435761u + (uint32_t)getpid();
    for (uint32_t i = 0; i < PATTERN_BYTES / 4; i++)
        there[i] = seed + i * 40503u;
    memset(back, 0, sizeof(back));
    need(CALL(cuMemcpyHtoD, memory, there, PATTERN_BYTES));
    need(CALL(cuMemcpyDtoH, back, memory, PATTERN_BYTES));
    return memcmp(there, back, PATTERN_BYTES) == 0;
}

static int run_count(double seconds, uint32_t count)
{
    uint32_t posted = 0, value = 0, copies = 0;
    bool good = true;
    double start = now_s();
    while (good && (count ? posted < count : now_s() - start < seconds)) {
        for (unsigned i = 0; i < ROUND; i++, posted++)
            need(launch());
        good = check_copy(++copies);
        if (!good)
            printf("WRONG copy %" PRIu32 "\n", copies);
        need(read_counter(&value));
        if (value != posted) {
            printf("WRONG counter %" PRIu32 " after %" PRIu32 " launches\n", value, posted);
            good = false;
        }
    }
    printf("RESULT posted=%" PRIu32 " counter=%" PRIu32 " copies=%" PRIu32
           " seconds=%.3f verdict=%s\n",
           posted, value, copies, now_s() - start, good ? "ok" : "failed");
    return good ? 0 : 1;
}

/* ---- Stages that end with an error ---- */

static uint32_t last_value;

static CUresult stage_idle(void)
{
    wait_line();
    CUresult result = CALL(cuCtxSynchronize);
    return result ? result : read_counter(&last_value);
}

static CUresult stage_posting(void)
{
    CUresult result = CUDA_SUCCESS;
    for (uint32_t i = 0; result == CUDA_SUCCESS; i++)
        result = launch();
    return result;
}

static CUresult stage_sync(void)
{
    void *arguments[] = {&memory}; /* zero there: it never ends */
    need(CALL(cuLaunchKernel, endless, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL));
    return CALL(cuCtxSynchronize);
}

static CUresult stage_copy(void)
{
    CUdeviceptr there;
    void *bytes = malloc(COPY_BYTES);
    CUresult result = CALL(cuMemAlloc, &there, COPY_BYTES);
    if (!bytes)
        exit(1);
    memset(bytes, 0x3C, COPY_BYTES);
    while (result == CUDA_SUCCESS) {
        result = CALL(cuMemcpyHtoD, there, bytes, COPY_BYTES);
        if (result == CUDA_SUCCESS)
            result = CALL(cuMemcpyDtoH, bytes, there, COPY_BYTES);
    }
    free(bytes);
    return result;
}

/* Its last extent is left behind, full of this. */
static CUresult stage_arena(void)
{
    CUresult result = CUDA_SUCCESS;
    while (result == CUDA_SUCCESS) {
        void *held[4] = {0};
        for (unsigned i = 0; i < 4 && result == CUDA_SUCCESS; i++) {
            result = CALL(cuMemAllocHost, &held[i], (i + 1) * (200u << 10));
            if (result == CUDA_SUCCESS)
                memset(held[i], 0xA5, (i + 1) * (200u << 10));
        }
        for (unsigned i = 0; i < 4 && result == CUDA_SUCCESS; i++)
            result = CALL(cuMemFreeHost, held[i]);
        /* Pinned memory may be had without the host, a synchronization may not. */
        if (result == CUDA_SUCCESS)
            result = CALL(cuCtxSynchronize);
    }
    return result;
}

static const struct {
    const char *name;
    CUresult (*run)(void);
} stages[] = {{"idle", stage_idle},
              {"posting", stage_posting},
              {"sync", stage_sync},
              {"copy", stage_copy},
              {"arena", stage_arena}};

static const char *stage_name;

static void on_bus_error(int number)
{
    static const char text[] = "SAW call=signal result=-1 name=SIGBUS value=0\n";
    ssize_t n = write(STDOUT_FILENO, text, sizeof(text) - 1);
    _exit(n > 0 ? 0 : 1);
}

static int run_stage(CUresult (*run)(void))
{
    const char *name = "?";
    signal(SIGBUS, on_bus_error);
    printf("STAGE %s\n", stage_name);
    CUresult result = run();
    cuGetErrorName(result, &name);
    printf("SAW call=%s result=%d name=%s value=%" PRIu32 "\n", last_call, (int)result, name,
           last_value);
    fflush(stdout);
    _exit(0); /* the library's farewell is not what is tested, and its host is gone */
}

int main(int argc, char **argv)
{
    double seconds = 2;
    uint32_t count = 0;
    bool wait = false;
    stage_name = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--wait") == 0)
            wait = true;
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            count = (uint32_t)strtoul(argv[++i], NULL, 10);
        else
            stage_name = "";
    }
    CUresult (*run)(void) = NULL;
    for (unsigned i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
        if (strcmp(stage_name, stages[i].name) == 0)
            run = stages[i].run;
    if (!run && strcmp(stage_name, "count") != 0) {
        fprintf(stderr, "usage: t-fast count|idle|posting|sync|copy|arena [--seconds N] "
                        "[--count N] [--wait]\n");
        return 2;
    }
    set_up();
    if (wait) {
        puts("READY");
        wait_line();
    }
    return run ? run_stage(run) : run_count(seconds, count);
}
