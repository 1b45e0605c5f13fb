/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hogs and an interactive program, each a process; see bench_share.h. */
#define _GNU_SOURCE
#include "cli/bench_share.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/bench_cuda.h"
#include "cli/bench_library.h"
#include "guest/deadline.h"
#include "guest/vgpu_mmio_client.h"

#define SAMPLES    200000u
#define WARM_UP    50u
#define HOG_QUEUED 64u /* kernels that a hog launches before it waits */
#define START_S    60u
#define RATIO_GOAL 2.0 /* of a high priority beside hogs, to being alone */

/* Kernels last by the GPU's clock of ns, so a length means the same everywhere. */
static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry spin(.param .u64 ns)\n{\n"
                          "    .reg .pred %p<2>;\n    .reg .b64 %rd<5>;\n"
                          "    ld.param.u64 %rd1, [ns];\n    mov.u64 %rd2, %globaltimer;\n"
                          "AGAIN:\n    mov.u64 %rd3, %globaltimer;\n    sub.u64 %rd4, %rd3, %rd2;\n"
                          "    setp.lt.u64 %p1, %rd4, %rd1;\n    @%p1 bra AGAIN;\n    ret;\n}\n";

/* What the children and we share. */
struct shared {
    _Atomic uint32_t ready;         /* hogs that are set up */
    _Atomic bool stop;              /* hogs: end */
    _Atomic uint64_t kernels;       /* of all hogs */
    _Atomic uint64_t hog_kernel_ns; /* what a hog found one of its kernels to take, alone */
    uint32_t count;
    uint64_t ns[SAMPLES]; /* of the interactive one */
    char device[256];
};

struct gpu {
    CUfunction spin;
    CUstream stream;
};

static bool set_up(struct gpu *gpu, struct shared *shared, const char *library)
{
    CUdevice device;
    CUcontext context;
    CUmodule module;
    if (!bench_library_load(library))
        return false;
    BENCH_TRY(cuInit, 0);
    BENCH_TRY(cuDeviceGet, &device, 0);
    BENCH_TRY(cuDeviceGetName, shared->device, sizeof(shared->device), device);
    BENCH_TRY(cuDevicePrimaryCtxRetain, &context, device);
    BENCH_TRY(cuCtxSetCurrent, context);
    BENCH_TRY(cuModuleLoadData, &module, ptx);
    BENCH_TRY(cuModuleGetFunction, &gpu->spin, module, "spin");
    BENCH_TRY(cuStreamCreate, &gpu->stream, CU_STREAM_NON_BLOCKING);
    return true;
}

static bool launch(const struct gpu *gpu, uint64_t ns)
{
    void *arguments[] = {&ns};
    BENCH_TRY(cuLaunchKernel, gpu->spin, 1, 1, 1, 1, 1, 1, 0, gpu->stream, arguments, NULL);
    return true;
}

/* ---- What children do ---- */

static bool be_hog(const struct bench_settings *settings, struct shared *shared)
{
    struct gpu gpu;
    uint64_t kernel_ns = settings->kernel_us * 1000;
    if (!set_up(&gpu, shared, settings->library) || !launch(&gpu, kernel_ns))
        return false;
    BENCH_TRY(cuStreamSynchronize, gpu.stream);
    uint64_t begin = vgpu_now_ns();
    if (!launch(&gpu, kernel_ns))
        return false;
    BENCH_TRY(cuStreamSynchronize, gpu.stream);
    uint64_t none = 0; /* the first hog's, which had the GPU for itself */
    atomic_compare_exchange_strong(&shared->hog_kernel_ns, &none, vgpu_now_ns() - begin);
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load(&shared->stop)) {
        for (unsigned i = 0; i < HOG_QUEUED; i++)
            if (!launch(&gpu, kernel_ns))
                return false;
        BENCH_TRY(cuStreamSynchronize, gpu.stream);
        atomic_fetch_add(&shared->kernels, HOG_QUEUED);
    }
    return true;
}

static bool be_interactive(const struct bench_settings *settings, struct shared *shared)
{
    struct gpu gpu;
    const struct timespec gap = {.tv_sec = (time_t)(settings->gap_us / 1000000),
                                 .tv_nsec = (long)(settings->gap_us % 1000000) * 1000};
    if (!set_up(&gpu, shared, settings->library))
        return false;
    uint64_t end = 0;
    for (uint64_t i = 0;; i++) {
        if (i == WARM_UP)
            end = vgpu_now_ns() + settings->seconds * 1000000000u;
        uint64_t begin = vgpu_now_ns();
        if (!launch(&gpu, 0))
            return false;
        BENCH_TRY(cuStreamSynchronize, gpu.stream);
        uint64_t now = vgpu_now_ns();
        if (i >= WARM_UP && shared->count < SAMPLES)
            shared->ns[shared->count++] = now - begin;
        if (i >= WARM_UP && (now >= end || shared->count == SAMPLES ||
                             (settings->count && shared->count >= settings->count)))
            return true;
        if (settings->gap_us)
            nanosleep(&gap, NULL);
    }
}

/* ---- The parent ---- */

static pid_t start(const struct bench_settings *settings, const char *address, const char *priority,
                   bool (*be)(const struct bench_settings *, struct shared *),
                   struct shared *shared)
{
    pid_t parent = getpid();
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        fprintf(stderr, "vgpu-bench: fork: %s\n", strerror(errno));
    if (child)
        return child;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setenv("VGPU_DEVICE", address, 1);
    setenv("VGPU_PRIORITY", priority, 1);
    exit(be(settings, shared) ? 0 : 1); /* runs what the library does at an exit */
}

/* Whether it ended well. */
static bool wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        if (bench_stopped())
            kill(child, SIGTERM);
    if (WIFSIGNALED(status) && !bench_stopped())
        fprintf(stderr, "vgpu-bench: a program ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* An interactive program of this priority, with what the hogs do meanwhile. */
static bool measure(const struct bench_settings *settings, const char *address,
                    const char *priority, struct shared *shared, double *hogs_per_s)
{
    shared->count = 0;
    pid_t child = start(settings, address, priority, be_interactive, shared);
    uint64_t begin = vgpu_now_ns(), before = atomic_load(&shared->kernels);
    if (child < 0 || !wait_for(child) || bench_stopped())
        return false;
    *hogs_per_s =
        (double)(atomic_load(&shared->kernels) - before) * 1e9 / (double)(vgpu_now_ns() - begin);
    return shared->count > 0;
}

static bool start_hogs(const struct bench_settings *settings, const char *address,
                       struct shared *shared, pid_t *hogs)
{
    for (uint64_t i = 0; i < settings->hogs; i++) {
        hogs[i] = start(settings, address, "medium", be_hog, shared);
        if (hogs[i] < 0)
            return false;
        uint64_t deadline = vgpu_now_ns() + START_S * 1000000000ull;
        while (atomic_load(&shared->ready) <= i) {
            if (waitpid(hogs[i], NULL, WNOHANG) == hogs[i]) {
                hogs[i] = 0; /* it has said why */
                return false;
            }
            if (bench_stopped())
                return false;
            if (vgpu_now_ns() > deadline) {
                fprintf(stderr, "vgpu-bench: a hog was not set up in %u s\n", START_S);
                return false;
            }
            usleep(1000);
        }
    }
    return true;
}

static bool stop_hogs(struct shared *shared, const pid_t *hogs, uint64_t count, bool good)
{
    atomic_store(&shared->stop, true);
    for (uint64_t i = 0; i < count; i++) {
        if (hogs[i] <= 0)
            continue;
        if (!good)
            kill(hogs[i], SIGKILL);
        good &= wait_for(hogs[i]) || !good;
    }
    return good;
}

/* What the mediator makes of a wish for a high priority; its configuration has the last word. */
static bool is_high_granted(const char *address)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu *gpu;
    uint32_t priority = 0;
    options.device = address;
    options.local_priority = VGPU_PRIORITY_HIGH;
    if (vgpu_init(&options, &gpu) != 0)
        return false;
    bool high = vgpu_priority(gpu, &priority) == 0 && priority == VGPU_PRIORITY_HIGH;
    vgpu_cleanup(gpu);
    return high;
}

static struct bench_row *add(struct bench_report *report, const struct shared *shared,
                             const char *key, const char *title)
{
    return bench_report_samples(report, key, title, BENCH_TIME, shared->ns, shared->count, 0);
}

static bool measure_all(const struct bench_settings *settings, const char *address,
                        struct shared *shared, pid_t *hogs, struct bench_report *report)
{
    double rate;
    if (!measure(settings, address, "medium", shared, &rate))
        return false;
    struct bench_row *row = add(report, shared, "alone", "launch + synchronize, alone");
    double alone = row ? row->value : 0;
    if (!start_hogs(settings, address, shared, hogs))
        return false;
    uint64_t begin = vgpu_now_ns(), before = atomic_load(&shared->kernels);
    while (vgpu_now_ns() - begin < settings->seconds * 1000000000u && !bench_stopped())
        usleep(10000);
    rate = (double)(atomic_load(&shared->kernels) - before) * 1e9 / (double)(vgpu_now_ns() - begin);
    bench_report_value(report, "hogs_alone", "kernels a second of the hogs, alone", BENCH_RATE,
                       rate);
    if (!measure(settings, address, "medium", shared, &rate))
        return false;
    row = add(report, shared, "equal", "beside the hogs, equal priority");
    bench_row_beside(row, alone, "alone");
    bench_report_value(report, "hogs_equal", "  kernels a second of the hogs", BENCH_RATE, rate);
    if (!measure(settings, address, "high", shared, &rate))
        return false;
    row = add(report, shared, "high", "beside the hogs, high priority");
    bench_row_beside(row, alone, "alone");
    bench_row_goal(row, BENCH_AT_MOST, RATIO_GOAL * alone, "%.0f x alone", RATIO_GOAL);
    bench_report_value(report, "hogs_high", "  kernels a second of the hogs", BENCH_RATE, rate);
    return true;
}

bool bench_share_measure(const struct bench_settings *settings, const char *address,
                         struct bench_report *report)
{
    pid_t hogs[BENCH_SHARE_HOGS_MAX] = {0};
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "vgpu-bench: no memory: %s\n", strerror(errno));
        return false;
    }
    bool good = measure_all(settings, address, shared, hogs, report);
    good = stop_hogs(shared, hogs, settings->hogs, good && !bench_stopped()) && good;
    if (good) {
        bench_report_note(report, "%s; %" PRIu64 " hogs, kernels of %" PRIu64 " us (%.0f measured)",
                          shared->device, settings->hogs, settings->kernel_us,
                          (double)atomic_load(&shared->hog_kernel_ns) / 1000);
        if (!is_high_granted(address))
            bench_report_note(report, "the mediator's configuration does not let this user have "
                                      "a high priority: see [local]");
    }
    munmap(shared, sizeof(*shared));
    return good;
}
