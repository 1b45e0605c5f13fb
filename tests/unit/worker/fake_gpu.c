/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fake_gpu.h. */
#include "fake_gpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "backend/driver.h"
#include "software.h"
#include "vgpu_test.h"

struct vgpu_driver_fence {
    uint64_t behind; /* launches */
    bool ended;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hold, block;
    uint64_t launched, done, most, waits;
    unsigned fences, registered, violations;
    CUresult fail, refuse;
} gpu = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct vgpu_driver_ops ops;
static const struct vgpu_driver_ops *real;

static CUresult queue_launch(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                             struct vgpu_driver_stream *stream, uint32_t grid_x, uint32_t grid_y,
                             uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z,
                             uint32_t shared_bytes, uint32_t flags, const void *arguments,
                             size_t arguments_length)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.launched++;
    if (!gpu.hold)
        gpu.done = gpu.launched;
    if (gpu.launched - gpu.done > gpu.most)
        gpu.most = gpu.launched - gpu.done;
    while (gpu.block)
        pthread_cond_wait(&gpu.changed, &gpu.lock);
    pthread_mutex_unlock(&gpu.lock);
    return CUDA_SUCCESS;
}

static CUresult wait_behind(uint64_t launches)
{
    pthread_mutex_lock(&gpu.lock);
    if (gpu.done < launches)
        gpu.waits++;
    while (gpu.done < launches)
        pthread_cond_wait(&gpu.changed, &gpu.lock);
    CUresult status = gpu.fail;
    pthread_mutex_unlock(&gpu.lock);
    return status;
}

static CUresult synchronize(struct vgpu_driver *driver)
{
    return wait_behind(fake_gpu_launched());
}

static CUresult mark(struct vgpu_driver_fence **fence)
{
    pthread_mutex_lock(&gpu.lock);
    *fence = NULL;
    if (gpu.done < gpu.launched) {
        *fence = calloc(1, sizeof(**fence));
        (*fence)->behind = gpu.launched;
        gpu.fences++;
    }
    CUresult status = *fence ? CUDA_SUCCESS : gpu.fail;
    pthread_mutex_unlock(&gpu.lock);
    return status;
}

static CUresult mark_stream(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                            struct vgpu_driver_fence **fence)
{
    return mark(fence);
}

static CUresult mark_context(struct vgpu_driver *driver, struct vgpu_driver_fence **fence)
{
    return mark(fence);
}

static CUresult mark_event(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                           struct vgpu_driver_fence **fence)
{
    return mark(fence);
}

static CUresult query(struct vgpu_driver *driver, struct vgpu_driver_fence *fence)
{
    pthread_mutex_lock(&gpu.lock);
    CUresult status = gpu.done >= fence->behind ? gpu.fail : CUDA_ERROR_NOT_READY;
    pthread_mutex_unlock(&gpu.lock);
    return status;
}

static CUresult wait_fence(struct vgpu_driver *driver, struct vgpu_driver_fence *fence)
{
    return wait_behind(fence->behind);
}

static void end_fence(struct vgpu_driver *driver, struct vgpu_driver_fence *fence)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.fences--;
    pthread_mutex_unlock(&gpu.lock);
    free(fence);
}

/* A context whose fences live is not to be destroyed (driver.h). */
static CUresult destroy_context(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    if (fake_gpu_fences())
        gpu.violations++;
    return real->context_destroy(driver, context);
}

static CUresult register_host(struct vgpu_backend *b, void *base, size_t size)
{
    pthread_mutex_lock(&gpu.lock);
    CUresult status = gpu.refuse;
    gpu.registered += status == CUDA_SUCCESS;
    pthread_mutex_unlock(&gpu.lock);
    return status;
}

static void forget_host(struct vgpu_backend *b, void *base)
{
    pthread_mutex_lock(&gpu.lock);
    if (gpu.registered)
        gpu.registered--;
    pthread_mutex_unlock(&gpu.lock);
}

static struct vgpu_driver *fenced_driver(struct vgpu_backend *b)
{
    static const struct vgpu_fence_ops fences = {.mark_stream = mark_stream,
                                                 .mark_context = mark_context,
                                                 .mark_event = mark_event,
                                                 .query = query,
                                                 .wait = wait_fence,
                                                 .end = end_fence};
    struct vgpu_driver *driver = vgpu_software_driver(b);
    assert_non_null(driver);
    real = driver->ops;
    ops = *driver->ops;
    ops.launch = queue_launch;
    ops.context_synchronize = synchronize;
    ops.context_destroy = destroy_context;
    driver->ops = &ops;
    driver->fences = &fences;
    return driver;
}

static CUresult open_backend(const struct vgpu_backend_config *config, struct vgpu_backend **out,
                             char *why, size_t why_size)
{
    gpu.hold = gpu.block = false;
    gpu.launched = gpu.done = gpu.most = gpu.waits = 0;
    gpu.fences = gpu.registered = gpu.violations = 0;
    gpu.fail = gpu.refuse = CUDA_SUCCESS;
    return vgpu_backend_software.open(config, out, why, why_size);
}

/* What ends everything ends what is queued, too. */
static void interrupt(struct vgpu_backend *b)
{
    fake_gpu_block(false);
    fake_gpu_hold(false);
    vgpu_backend_software.interrupt(b);
}

const struct vgpu_backend_ops *fake_gpu_ops(void)
{
    static struct vgpu_backend_ops backend;
    backend = vgpu_backend_software;
    backend.open = open_backend;
    backend.driver = fenced_driver;
    backend.host_register = register_host;
    backend.host_forget = forget_host;
    backend.interrupt = interrupt;
    return &backend;
}

void fake_gpu_hold(bool on)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.hold = on;
    if (!on)
        gpu.done = gpu.launched;
    pthread_cond_broadcast(&gpu.changed);
    pthread_mutex_unlock(&gpu.lock);
}

void fake_gpu_block(bool on)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.block = on;
    pthread_cond_broadcast(&gpu.changed);
    pthread_mutex_unlock(&gpu.lock);
}

void fake_gpu_finish(uint64_t launches)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.done = gpu.done + launches < gpu.launched ? gpu.done + launches : gpu.launched;
    pthread_cond_broadcast(&gpu.changed);
    pthread_mutex_unlock(&gpu.lock);
}

void fake_gpu_fail(CUresult status)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.fail = status;
    pthread_mutex_unlock(&gpu.lock);
}

void fake_gpu_refuse_register(CUresult status)
{
    pthread_mutex_lock(&gpu.lock);
    gpu.refuse = status;
    pthread_mutex_unlock(&gpu.lock);
}

#define READ(type, name, field)                                                                    \
    type name(void)                                                                                \
    {                                                                                              \
        pthread_mutex_lock(&gpu.lock);                                                             \
        type value = gpu.field;                                                                    \
        pthread_mutex_unlock(&gpu.lock);                                                           \
        return value;                                                                              \
    }
READ(uint64_t, fake_gpu_launched, launched)
READ(uint64_t, fake_gpu_most_in_flight, most)
READ(uint64_t, fake_gpu_waits, waits)
READ(unsigned, fake_gpu_fences, fences)
READ(unsigned, fake_gpu_registered, registered)

int fake_gpu_check(void)
{
    if (gpu.violations)
        print_error("a context was destroyed under a fence\n");
    return gpu.violations ? -1 : 0;
}
