/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * W8 with NVIDIA's driver: what it opens and calls fits the cuda profile. Loads the driver inside
 * the fence, confines as vgpu-worker does, and only then makes a context, compiles a kernel from
 * PTX, runs it and reads its answer, from a thread that was there before. 77: no GPU here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/confine.h"

#define NOBODY 65534
#define COUNT  4096u

static const char scale[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
                            ".visible .entry scale(.param .u64 p0)\n{\n"
                            ".reg .b32 %r<6>;\n.reg .b64 %rd<4>;\n"
                            "ld.param.u64 %rd1, [p0];\ncvta.to.global.u64 %rd1, %rd1;\n"
                            "mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r3, %tid.x;\n"
                            "mad.lo.u32 %r4, %r1, %r2, %r3;\nmul.wide.u32 %rd2, %r4, 4;\n"
                            "add.u64 %rd3, %rd1, %rd2;\nld.global.u32 %r5, [%rd3];\n"
                            "mad.lo.u32 %r5, %r5, 3, %r4;\nst.global.u32 [%rd3], %r5;\nret;\n}\n";

/* The driver's functions, by the names it exports them under. */
static struct {
    int (*init)(unsigned flags);
    int (*device_get)(int *device, int ordinal);
    int (*context_retain)(void **context, int device);
    int (*context_set)(void *context);
    int (*context_release)(int device);
    int (*alloc)(uint64_t *address, size_t bytes);
    int (*release)(uint64_t address);
    int (*alloc_host)(void **p, size_t bytes, unsigned flags);
    int (*release_host)(void *p);
    int (*htod)(uint64_t dst, const void *src, size_t bytes);
    int (*dtoh_async)(void *dst, uint64_t src, size_t bytes, void *stream);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_synchronize)(void *stream);
    int (*event_create)(void **event, unsigned flags);
    int (*event_record)(void *event, void *stream);
    int (*event_synchronize)(void *event);
    int (*load)(void **module, const void *image);
    int (*unload)(void *module);
    int (*get_function)(void **function, void *module, const char *name);
    int (*launch)(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                  unsigned bz, unsigned shared, void *stream, void **params, void **extra);
} cu;

static const struct {
    void *where;
    const char *name;
} symbols[] = {
    {&cu.init, "cuInit"},
    {&cu.device_get, "cuDeviceGet"},
    {&cu.context_retain, "cuDevicePrimaryCtxRetain"},
    {&cu.context_set, "cuCtxSetCurrent"},
    {&cu.context_release, "cuDevicePrimaryCtxRelease_v2"},
    {&cu.alloc, "cuMemAlloc_v2"},
    {&cu.release, "cuMemFree_v2"},
    {&cu.alloc_host, "cuMemHostAlloc"},
    {&cu.release_host, "cuMemFreeHost"},
    {&cu.htod, "cuMemcpyHtoD_v2"},
    {&cu.dtoh_async, "cuMemcpyDtoHAsync_v2"},
    {&cu.stream_create, "cuStreamCreate"},
    {&cu.stream_synchronize, "cuStreamSynchronize"},
    {&cu.event_create, "cuEventCreate"},
    {&cu.event_record, "cuEventRecord"},
    {&cu.event_synchronize, "cuEventSynchronize"},
    {&cu.load, "cuModuleLoadData"},
    {&cu.unload, "cuModuleUnload"},
    {&cu.get_function, "cuModuleGetFunction"},
    {&cu.launch, "cuLaunchKernel"},
};

static bool find_symbols(void *driver)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(driver, symbols[i].name);
        if (!symbol) {
            fprintf(stderr, "the driver has no %s\n", symbols[i].name);
            return false;
        }
        memcpy(symbols[i].where, &symbol, sizeof(symbol));
    }
    return true;
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int status_ = (call);                                                                      \
        if (status_) {                                                                             \
            fprintf(stderr, "%s: %d\n", #call, status_);                                           \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int compute(int device)
{
    void *context, *stream, *event, *module, *function, *pinned;
    uint64_t address;
    uint32_t in[COUNT];
    TRY(cu.context_retain(&context, device));
    TRY(cu.context_set(context));
    TRY(cu.load(&module, scale));
    TRY(cu.get_function(&function, module, "scale"));
    TRY(cu.alloc(&address, sizeof(in)));
    TRY(cu.alloc_host(&pinned, sizeof(in), 0));
    TRY(cu.stream_create(&stream, 1));
    TRY(cu.event_create(&event, 1 /* blocking */));
    for (uint32_t i = 0; i < COUNT; i++)
        in[i] = i * 7919;
    TRY(cu.htod(address, in, sizeof(in)));
    void *params[] = {&address};
    TRY(cu.launch(function, COUNT / 256, 1, 1, 256, 1, 1, 0, stream, params, NULL));
    TRY(cu.dtoh_async(pinned, address, sizeof(in), stream));
    TRY(cu.event_record(event, stream));
    TRY(cu.event_synchronize(event));
    TRY(cu.stream_synchronize(stream));
    const uint32_t *out = pinned;
    for (uint32_t i = 0; i < COUNT; i++) {
        if (out[i] != in[i] * 3 + i) {
            fprintf(stderr, "element %u is %u\n", i, out[i]);
            return 1;
        }
    }
    TRY(cu.release_host(pinned));
    TRY(cu.release(address));
    TRY(cu.unload(module));
    TRY(cu.context_release(device));
    return 0;
}

struct early {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool go;
    int device, result;
};

static void *early_main(void *arg)
{
    struct early *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->go)
        pthread_cond_wait(&e->cond, &e->lock);
    pthread_mutex_unlock(&e->lock);
    e->result = compute(e->device);
    return NULL;
}

static int not_here(const char *why)
{
    fprintf(stderr, "skipped: %s\n", why);
    return 77;
}

int main(void)
{
    struct early e = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct vgpu_confinement c = {.profile = VGPU_PROFILE_CUDA};
    const char *what = NULL;
    if (geteuid() == 0)
        c.identity = (struct vgpu_identity){true, NOBODY, NOBODY};
    int rc = vgpu_confine_early(open("/dev/null", O_RDWR), &c, &what);
    if (rc) {
        fprintf(stderr, "%s: %s\n", what, strerror(-rc));
        return 1;
    }
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver)
        return not_here("no NVIDIA driver");
    if (!find_symbols(driver))
        return 1;
    if (cu.init(0) || cu.device_get(&e.device, 0))
        return not_here("the NVIDIA driver finds no GPU");
    rc = -pthread_create(&e.thread, NULL, early_main, &e);
    if (!rc)
        rc = vgpu_confine(&c, &what);
    if (rc) {
        fprintf(stderr, "%s: %s\n", what, strerror(-rc));
        return 1;
    }
    fprintf(stderr, "confined: seccomp %d, Landlock ABI %d\n", c.seccomp, c.landlock_abi);
    pthread_mutex_lock(&e.lock);
    e.go = true;
    pthread_cond_signal(&e.cond);
    pthread_mutex_unlock(&e.lock);
    pthread_join(e.thread, NULL);
    _exit(e.result);
}
