/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CUDA driver API as a program sees it: a library is loaded in a child, and timed there. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/bench_cuda.h"
#include "cli/bench_library.h"
#include "guest/deadline.h"

#define BURST       256u /* launches that any driver queues without waiting for the GPU */
#define BATCH       16u  /* calls of one sample where the clock itself would show */
#define LAUNCHES    20000u
#define SMALL_COPY  4u
#define MIDDLE_COPY (64u << 10)

static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry nop(.param .u64 p) { ret; }\n";

/* ---- Figures ---- */

struct job {
    const struct bench_cuda_settings *settings;
    struct bench_cuda_result *result;
    CUfunction function;
    CUstream stream;
    CUdeviceptr memory;
    uint32_t first; /* samples of this figure before this run */
    uint64_t end_ns;
};

static void add(struct bench_cuda_series *series, uint64_t ns)
{
    if (series->count < BENCH_CUDA_SAMPLES)
        series->ns[series->count++] = ns;
}

static struct bench_cuda_series *begin(struct job *job, enum bench_cuda_figure figure,
                                       uint64_t amount)
{
    struct bench_cuda_series *series = &job->result->series[figure];
    series->amount = amount;
    job->first = series->count;
    job->end_ns = vgpu_now_ns() + job->settings->seconds * 1000000000u;
    return series;
}

/* At least one sample, then as long as there is time. */
static bool goes_on(const struct job *job, const struct bench_cuda_series *series)
{
    uint32_t mine = series->count - job->first;
    if (series->count >= BENCH_CUDA_SAMPLES) /* full: of this round there would be none */
        return false;
    if (mine == 0)
        return true;
    if (mine >= BENCH_CUDA_SAMPLES / BENCH_CUDA_ROUNDS ||
        (job->settings->count && mine >= job->settings->count))
        return false;
    return vgpu_now_ns() < job->end_ns;
}

static bool launch(const struct job *job)
{
    CUdeviceptr argument = job->memory;
    void *arguments[] = {&argument};
    BENCH_TRY(cuLaunchKernel, job->function, 1, 1, 1, 1, 1, 1, 0, job->stream, arguments, NULL);
    return true;
}

static bool measure_rate(struct job *job)
{
    const uint32_t launches = job->settings->launches ? job->settings->launches : LAUNCHES;
    struct bench_cuda_series *series = begin(job, BENCH_LAUNCHES, launches);
    while (goes_on(job, series)) {
        uint64_t start = vgpu_now_ns();
        for (unsigned i = 0; i < launches; i++)
            if (!launch(job))
                return false;
        BENCH_TRY(cuStreamSynchronize, job->stream);
        add(series, vgpu_now_ns() - start);
    }
    return true;
}

static bool measure_launches(struct job *job)
{
    struct bench_cuda_series *series = begin(job, BENCH_LAUNCH_ENQUEUE, 0);
    while (goes_on(job, series)) {
        for (unsigned done = 0; done < BURST; done += BATCH) {
            uint64_t start = vgpu_now_ns();
            for (unsigned i = 0; i < BATCH; i++)
                if (!launch(job))
                    return false;
            add(series, (vgpu_now_ns() - start) / BATCH);
        }
        BENCH_TRY(cuStreamSynchronize, job->stream);
    }
    if (!measure_rate(job))
        return false;
    series = begin(job, BENCH_LAUNCH_SYNC, 0);
    while (goes_on(job, series)) {
        uint64_t start = vgpu_now_ns();
        if (!launch(job))
            return false;
        BENCH_TRY(cuStreamSynchronize, job->stream);
        add(series, vgpu_now_ns() - start);
    }
    return true;
}

/* Both ways, in turns. A copy to the device has ended when the device has it. */
static bool measure_copies(struct job *job, enum bench_cuda_figure to, void *host, uint64_t bytes,
                           bool rate)
{
    struct bench_cuda_series *there = begin(job, to, rate ? bytes : 0);
    struct bench_cuda_series *back = &job->result->series[to + 1];
    back->amount = rate ? bytes : 0;
    BENCH_TRY(cuMemcpyHtoD, job->memory, host, bytes); /* the first one touches all pages */
    BENCH_TRY(cuMemcpyDtoH, host, job->memory, bytes);
    while (goes_on(job, there)) {
        uint64_t start = vgpu_now_ns();
        BENCH_TRY(cuMemcpyHtoD, job->memory, host, bytes);
        if (rate)
            BENCH_TRY(cuCtxSynchronize);
        uint64_t middle = vgpu_now_ns();
        BENCH_TRY(cuMemcpyDtoH, host, job->memory, bytes);
        add(back, vgpu_now_ns() - middle);
        add(there, middle - start);
    }
    return true;
}

/* Copies with the program's access to the memory taken away: whoever copies, it is not us. */
static bool prove_no_copy(struct job *job, void *host, uint64_t bytes)
{
    job->result->pinned_proof = BENCH_PINNED_TRYING;
    memset(host, 0x6B, bytes);
    BENCH_TRY(cuMemcpyHtoD, job->memory, host, bytes);
    memset(host, 0, bytes);
    if (mprotect(host, bytes, PROT_NONE) < 0) {
        fprintf(stderr, "vgpu-bench: mprotect: %s\n", strerror(errno));
        return false;
    }
    bool right =
        bench_library_good(bench_cu.cuMemcpyDtoH_(host, job->memory, bytes), "cuMemcpyDtoH") &&
        bench_library_good(bench_cu.cuMemcpyHtoD_(job->memory, host, bytes), "cuMemcpyHtoD") &&
        bench_library_good(bench_cu.cuCtxSynchronize_(), "cuCtxSynchronize");
    mprotect(host, bytes, PROT_READ | PROT_WRITE);
    for (uint64_t i = 0; right && i < bytes; i++)
        right = ((const uint8_t *)host)[i] == 0x6B;
    if (right)
        job->result->pinned_proof = BENCH_PINNED_NO_COPY;
    return right;
}

static bool measure_pageable(struct job *job, bool brief)
{
    uint64_t pageable = job->settings->pageable_bytes;
    uint8_t *host = malloc(pageable);
    if (!host) {
        fprintf(stderr, "vgpu-bench: no memory for %" PRIu64 " bytes\n", pageable);
        return false;
    }
    memset(host, 0x5A, pageable);
    job->result->pageable_bytes = pageable;
    bool ok = (brief || (measure_copies(job, BENCH_COPY4_TO, host, SMALL_COPY, false) &&
                         measure_copies(job, BENCH_COPY64K_TO, host, MIDDLE_COPY, false))) &&
              measure_copies(job, BENCH_PAGEABLE_TO, host, pageable, true);
    free(host);
    return ok;
}

static bool measure_pinned(struct job *job)
{
    uint64_t pinned = job->settings->pinned_bytes;
    void *locked = NULL;
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    for (; pinned >= MIDDLE_COPY; pinned /= 2)
        if ((result = bench_cu.cuMemAllocHost_(&locked, pinned)) != CUDA_ERROR_OUT_OF_MEMORY)
            break;
    if (!bench_library_good(result, "cuMemAllocHost") || !locked)
        return false;
    memset(locked, 0x5A, pinned);
    job->result->pinned_bytes = pinned;
    bool ok = job->settings->prove ? prove_no_copy(job, locked, pinned)
                                   : measure_copies(job, BENCH_PINNED_TO, locked, pinned, true);
    if (ok)
        BENCH_TRY(cuMemFreeHost, locked);
    return ok;
}

static bool measure(const struct bench_cuda_settings *settings, struct bench_cuda_result *result)
{
    struct job job = {.settings = settings, .result = result};
    CUdevice device;
    CUcontext context;
    CUmodule module;
    if (!bench_library_load(settings->library))
        return false;
    result->loaded = true;
    BENCH_TRY(cuInit, 0);
    BENCH_TRY(cuDeviceGet, &device, 0);
    BENCH_TRY(cuDeviceGetName, result->device, sizeof(result->device), device);
    BENCH_TRY(cuDevicePrimaryCtxRetain, &context, device);
    BENCH_TRY(cuCtxSetCurrent, context);
    BENCH_TRY(cuModuleLoadData, &module, ptx);
    BENCH_TRY(cuModuleGetFunction, &job.function, module, "nop");
    BENCH_TRY(cuStreamCreate, &job.stream, CU_STREAM_NON_BLOCKING);
    uint64_t bytes = settings->pageable_bytes > settings->pinned_bytes ? settings->pageable_bytes
                                                                       : settings->pinned_bytes;
    BENCH_TRY(cuMemAlloc, &job.memory, bytes);
    if (!launch(&job))
        return false;
    BENCH_TRY(cuCtxSynchronize);
    bool ok = true;
    if (settings->brief)
        ok = measure_rate(&job) && measure_pageable(&job, true);
    else if (!settings->prove)
        ok = measure_launches(&job) && measure_pageable(&job, false);
    if (!ok || (!settings->brief && !measure_pinned(&job)))
        return false;
    BENCH_TRY(cuMemFree, job.memory);
    BENCH_TRY(cuDevicePrimaryCtxRelease, device);
    return true;
}

/* ---- The child ---- */

bool bench_cuda_measure(const struct bench_cuda_settings *settings,
                        struct bench_cuda_result *result)
{
    int status = 0;
    pid_t parent = getpid();
    result->done = false;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "vgpu-bench: fork: %s\n", strerror(errno));
        return false;
    }
    if (child == 0) {
        /* A signal to the group ends it as usual: only the parent has things to clean up. */
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        if (settings->device)
            setenv("VGPU_DEVICE", settings->device, 1);
        if (settings->transport)
            setenv("VGPU_TRANSPORT", settings->transport, 1);
        result->done = measure(settings, result);
        exit(result->done ? 0 : 1); /* runs what the library does at an exit */
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        if (bench_stopped())
            kill(child, SIGTERM);
    if (result->pinned_proof == BENCH_PINNED_TRYING && WIFSIGNALED(status) &&
        (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS)) {
        result->pinned_proof = BENCH_PINNED_COPIED;
        return true;
    }
    if (WIFSIGNALED(status) && !bench_stopped())
        fprintf(stderr, "vgpu-bench: measuring %s ended by signal %d\n", settings->library,
                WTERMSIG(status));
    return result->done && WIFEXITED(status);
}

struct bench_cuda_result *bench_cuda_result_new(void)
{
    void *memory = mmap(NULL, sizeof(struct bench_cuda_result), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "vgpu-bench: no memory: %s\n", strerror(errno));
        return NULL;
    }
    return memory;
}

void bench_cuda_result_free(struct bench_cuda_result *result)
{
    if (result)
        munmap(result, sizeof(*result));
}

void bench_cuda_find(char *path, size_t capacity)
{
    const char *named = getenv("VGPU_LIBCUDA_GUEST");
    char self[512];
    if (named && *named) {
        snprintf(path, capacity, "%s", named);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n > 0) {
        self[n] = 0;
        char *slash = strrchr(self, '/');
        if (slash) {
            *slash = 0;
            snprintf(path, capacity, "%.400s/../guest/cuda/libcuda.so.1", self);
            if (access(path, R_OK) == 0)
                return;
        }
    }
    snprintf(path, capacity, "libcuda.so.1");
}

const char *bench_cuda_key(enum bench_cuda_figure figure)
{
#define KEY(name, key, title) key,
    static const char *const keys[] = {BENCH_CUDA_LIST(KEY)};
#undef KEY
    return keys[figure];
}

const char *bench_cuda_title(enum bench_cuda_figure figure)
{
#define TITLE(name, key, title) title,
    static const char *const titles[] = {BENCH_CUDA_LIST(TITLE)};
#undef TITLE
    return titles[figure];
}
