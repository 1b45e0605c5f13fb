/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backend on an NVIDIA GPU: opening it, and the typed requests, which run in its primary
 * context on the default stream. The context is made when something first needs it: it takes half a
 * gigabyte of the card.
 */
#include "cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "stream.h"

static uint32_t attribute(struct vgpu_backend *b, int number)
{
    int value = 0;
    return b->api.cuDeviceGetAttribute(&value, number, b->device) == CUDA_SUCCESS && value > 0
               ? (uint32_t)value
               : 0;
}

static CUresult read_info(struct vgpu_backend *b)
{
    struct vgpu_device_info *info = &b->info;
    size_t total = 0;
    CUresult r = b->api.cuDeviceGetName(info->name, sizeof(info->name), b->device);
    if (r == CUDA_SUCCESS)
        r = b->api.cuDeviceGetUuid_v2(info->uuid, b->device);
    if (r == CUDA_SUCCESS)
        r = b->api.cuDeviceTotalMem_v2(&total, b->device);
    if (r != CUDA_SUCCESS)
        return r;
    info->name[sizeof(info->name) - 1] = 0;
    info->total_memory_bytes =
        b->quota_bytes && b->quota_bytes < total ? b->quota_bytes : (uint64_t)total;
    info->compute_major = attribute(b, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    info->compute_minor = attribute(b, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    info->multiprocessors = attribute(b, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    info->warp_size = attribute(b, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    info->max_threads_per_block = attribute(b, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    for (int i = 0; i < 3; i++) {
        info->max_block_dim[i] = attribute(b, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i);
        info->max_grid_dim[i] = attribute(b, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i);
    }
    info->max_shared_per_block_bytes =
        attribute(b, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    info->max_registers_per_block = attribute(b, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    info->clock_khz = attribute(b, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    b->quota_bytes = info->total_memory_bytes;
    return CUDA_SUCCESS;
}

/* The ordinal of the GPU that is asked for; -1: there is none, and why says so. */
static int find_device(struct vgpu_backend *b, const struct vgpu_backend_config *config, int count,
                       char *why, size_t why_size)
{
    if (!config->has_gpu_uuid) {
        if (config->gpu < (unsigned)count)
            return (int)config->gpu;
        snprintf(why, why_size, "there is no GPU %u: the driver has %d, counted from 0",
                 config->gpu, count);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        uint8_t uuid[16];
        CUdevice device;
        if (b->api.cuDeviceGet(&device, i) == CUDA_SUCCESS &&
            b->api.cuDeviceGetUuid_v2(uuid, device) == CUDA_SUCCESS &&
            !memcmp(uuid, config->gpu_uuid, sizeof(uuid)))
            return i;
    }
    snprintf(why, why_size, "none of the driver's %d GPUs has the UUID that is asked for", count);
    return -1;
}

/* Finds the GPU; why says what is the matter with it. */
static CUresult open_device(struct vgpu_backend *b, const struct vgpu_backend_config *config,
                            char *why, size_t why_size)
{
    int count = 0;
    CUresult r = b->api.cuInit(0);
    if (r == CUDA_SUCCESS)
        r = b->api.cuDeviceGetCount(&count);
    if (r != CUDA_SUCCESS) {
        snprintf(why, why_size,
                 "the NVIDIA driver does not start (CUresult %d): see what nvidia-smi says, and "
                 "whether /dev/nvidia* may be opened",
                 (int)r);
        return r;
    }
    int gpu = find_device(b, config, count, why, why_size);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    r = b->api.cuDeviceGet(&b->device, gpu);
    if (r == CUDA_SUCCESS)
        r = read_info(b);
    if (r != CUDA_SUCCESS) {
        snprintf(why, why_size, "GPU %d cannot be asked what it is (CUresult %d)", gpu, (int)r);
        return r;
    }
    if (attribute(b, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS) &&
        !config->allow_pageable_access) {
        snprintf(why, why_size,
                 "GPU %d (%s) can reach pageable host memory: a guest's kernel could write this "
                 "worker's own memory. Load nvidia-uvm with uvm_disable_hmm=1, or give "
                 "--allow-pageable-access if you trust every guest",
                 gpu, b->info.name);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

static CUresult cuda_open(const struct vgpu_backend_config *config, struct vgpu_backend **out,
                          char *why, size_t why_size)
{
    *out = NULL;
    struct vgpu_backend *b = calloc(1, sizeof(*b));
    if (!b) {
        snprintf(why, why_size, "cuda backend: the host has no memory for a session");
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    b->driver.ops = &vgpu_cuda_driver_ops;
    b->driver.fences = &vgpu_cuda_fence_ops;
    b->quota_bytes = config->memory_bytes;
    /* Read by the driver when it starts. GPUs are counted as nvidia-smi counts them, and compiled
     * kernels are not kept in files. */
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
    setenv("CUDA_CACHE_DISABLE", "1", 1);
    cuda_output_take(b);
    CUresult r = CUDA_ERROR_NO_DEVICE;
    if (!cuda_api_load(&b->api, why, why_size))
        r = open_device(b, config, why, why_size);
    if (r != CUDA_SUCCESS) {
        cuda_output_give_back(b);
        free(b);
        return r;
    }
    /* The compiler of PTX is a library of its own, which the driver loads when it first needs it:
     * too late for a worker that may not open files any more. Not there: images in machine code. */
    (void)dlopen("libnvidia-ptxjitcompiler.so.1", RTLD_NOW | RTLD_LOCAL);
    *out = b;
    return CUDA_SUCCESS;
}

static void cuda_close(struct vgpu_backend *b)
{
    if (!b)
        return;
    /* What was made in a context ends with it. */
    while (b->modules) {
        struct cuda_module *m = b->modules;
        (void)cuda_select(b, m->context->cuda);
        (void)cuda_module_unload(b, m);
    }
    while (b->contexts)
        (void)cuda_context_end(b, b->contexts);
    while (b->arrays)
        cuda_array_forget(b, b->arrays);
    cuda_host_free(b);
    cuda_ranges_free(&b->ranges);
    cuda_output_give_back(b);
    free(b);
}

static void cuda_device_info(struct vgpu_backend *b, struct vgpu_device_info *out)
{
    *out = b->info;
}

uint64_t cuda_used_bytes(const struct vgpu_backend *b)
{
    return b->ranges.allocated_bytes + b->array_bytes;
}

uint64_t cuda_left_bytes(const struct vgpu_backend *b)
{
    uint64_t used = cuda_used_bytes(b);
    return used < b->quota_bytes ? b->quota_bytes - used : 0;
}

bool cuda_quota_allows(const struct vgpu_backend *b, uint64_t bytes)
{
    return bytes <= cuda_left_bytes(b);
}

CUresult cuda_memory_alloc(struct vgpu_backend *b, uint64_t bytes,
                           struct vgpu_driver_context *owner, uint64_t *address)
{
    *address = 0;
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (!cuda_quota_allows(b, bytes) || !cuda_ranges_reserve(&b->ranges))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUdeviceptr got = 0;
    CUresult r = b->api.cuMemAlloc_v2(&got, bytes);
    if (r != CUDA_SUCCESS)
        return r;
    /* What another process left there is nobody's business. Waited for: no stream of the guest's
     * would wait for it by itself, and on the default one it would wait for others. */
    CUstream side;
    r = cuda_side_stream(b, owner, &side);
    if (r == CUDA_SUCCESS)
        r = b->api.cuMemsetD8Async(got, 0, bytes, side);
    if (r == CUDA_SUCCESS)
        r = b->api.cuStreamSynchronize(side);
    if (r == CUDA_SUCCESS && !cuda_ranges_add(&b->ranges, got, bytes, owner, false))
        r = CUDA_ERROR_UNKNOWN; /* the driver handed out what it has handed out already */
    if (r != CUDA_SUCCESS) {
        (void)b->api.cuMemFree_v2(got);
        return r;
    }
    *address = got;
    return CUDA_SUCCESS;
}

CUresult cuda_memory_free(struct vgpu_backend *b, uint64_t address)
{
    if (!cuda_ranges_allocation(&b->ranges, address))
        return CUDA_ERROR_INVALID_VALUE;
    CUresult r = b->api.cuMemFree_v2(address);
    if (r == CUDA_SUCCESS)
        cuda_ranges_remove(&b->ranges, address);
    return r;
}

/* The typed requests' context: theirs until the session ends, whatever the calls end. */
static CUresult typed_enter(struct vgpu_backend *b)
{
    CUresult r = cuda_need_primary(b);
    if (r == CUDA_SUCCESS && !b->typed) {
        b->typed = true;
        b->primary->references++;
    }
    return r;
}

/* The same for what has work done on the default stream. */
static CUresult typed_begin(struct vgpu_backend *b)
{
    CUresult r = typed_enter(b);
    if (r == CUDA_SUCCESS)
        (void)cuda_stream_use(b, &b->primary->streams.legacy);
    return r;
}

static CUresult typed_alloc(struct vgpu_backend *b, uint64_t size_bytes, uint64_t *address)
{
    *address = 0;
    CUresult r = typed_enter(b);
    return r == CUDA_SUCCESS ? cuda_memory_alloc(b, size_bytes, b->primary, address) : r;
}

static CUresult typed_free(struct vgpu_backend *b, uint64_t address)
{
    CUresult r = typed_enter(b);
    return r == CUDA_SUCCESS ? cuda_memory_free(b, address) : r;
}

/* The session's own: how full the card is besides says cuMemGetInfo. */
static CUresult typed_info(struct vgpu_backend *b, uint64_t *free_bytes, uint64_t *total_bytes)
{
    *total_bytes = b->quota_bytes;
    *free_bytes = cuda_left_bytes(b);
    return CUDA_SUCCESS;
}

static uint64_t typed_held(struct vgpu_backend *b)
{
    return cuda_used_bytes(b);
}

static CUresult typed_htod(struct vgpu_backend *b, uint64_t dst, const void *src, size_t size_bytes)
{
    CUresult r = typed_begin(b);
    if (r != CUDA_SUCCESS || !size_bytes)
        return r;
    if (!cuda_ranges_hold(&b->ranges, dst, size_bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return b->api.cuMemcpyHtoD_v2(dst, src, size_bytes);
}

static CUresult typed_dtoh(struct vgpu_backend *b, void *dst, uint64_t src, size_t size_bytes)
{
    CUresult r = typed_begin(b);
    if (r != CUDA_SUCCESS || !size_bytes)
        return r;
    if (!cuda_ranges_hold(&b->ranges, src, size_bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return b->api.cuMemcpyDtoH_v2(dst, src, size_bytes);
}

static CUresult typed_dtod(struct vgpu_backend *b, uint64_t dst, uint64_t src, uint64_t size_bytes)
{
    CUresult r = typed_begin(b);
    if (r != CUDA_SUCCESS || !size_bytes)
        return r;
    if (!cuda_ranges_hold(&b->ranges, dst, size_bytes) ||
        !cuda_ranges_hold(&b->ranges, src, size_bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return b->api.cuMemcpyDtoD_v2(dst, src, size_bytes);
}

static CUresult typed_set(struct vgpu_backend *b, uint64_t dst, uint8_t value, uint64_t size_bytes)
{
    CUresult r = typed_begin(b);
    if (r != CUDA_SUCCESS || !size_bytes)
        return r;
    if (!cuda_ranges_hold(&b->ranges, dst, size_bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return b->api.cuMemsetD8_v2(dst, value, size_bytes);
}

/* The opaque types of backend.h are this backend's own. */
static struct cuda_module *module_of(struct vgpu_backend_module *m)
{
    return (struct cuda_module *)(void *)m;
}

static CUresult typed_module_load(struct vgpu_backend *b, const void *image, size_t image_bytes,
                                  struct vgpu_backend_module **out, char *log, size_t log_size)
{
    struct cuda_module *m = NULL;
    *out = NULL;
    if (log_size)
        log[0] = 0;
    CUresult r = typed_enter(b);
    if (r == CUDA_SUCCESS)
        r = cuda_module_load(b, b->primary, image, image_bytes, &m, log, log_size);
    *out = (struct vgpu_backend_module *)(void *)m;
    return r;
}

static CUresult typed_module_unload(struct vgpu_backend *b, struct vgpu_backend_module *m)
{
    CUresult r = typed_enter(b);
    return r == CUDA_SUCCESS ? cuda_module_unload(b, module_of(m)) : r;
}

static CUresult typed_module_kernel(struct vgpu_backend *b, struct vgpu_backend_module *module,
                                    const char *name, struct vgpu_backend_kernel **out,
                                    const struct vgpu_kernel_info **info)
{
    *out = NULL;
    CUresult r = typed_enter(b);
    if (r == CUDA_SUCCESS)
        r = cuda_kernel_find(b, module_of(module), name, out);
    if (r == CUDA_SUCCESS)
        *info = &(*out)->info;
    return r;
}

static CUresult typed_module_global(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                    const char *name, uint64_t *address, uint64_t *size_bytes)
{
    CUresult r = typed_enter(b);
    return r == CUDA_SUCCESS ? cuda_module_variable(b, module_of(m), name, address, size_bytes) : r;
}

static CUresult typed_launch(struct vgpu_backend *b, const struct vgpu_launch *l)
{
    CUresult r = typed_begin(b);
    if (r != CUDA_SUCCESS)
        return r;
    if (l->params_bytes != l->kernel->info.param_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    size_t bytes = l->params_bytes; /* the driver copies the buffer */
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, (void *)(uintptr_t)l->params,
                     CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    return b->api.cuLaunchKernel(l->kernel->cuda, l->grid[0], l->grid[1], l->grid[2], l->block[0],
                                 l->block[1], l->block[2], l->shared_bytes, NULL, NULL,
                                 bytes ? extra : NULL);
}

static CUresult typed_synchronize(struct vgpu_backend *b)
{
    if (!b->primary)
        return CUDA_SUCCESS;
    CUresult r = cuda_select(b, b->primary->cuda);
    if (r == CUDA_SUCCESS)
        r = b->api.cuCtxSynchronize();
    if (r == CUDA_SUCCESS)
        cuda_streams_idle(b->primary);
    return r;
}

static void typed_interrupt(struct vgpu_backend *b)
{
    /* A kernel on the card cannot be stopped from here: the mediator's watchdog kills the worker,
     * and the driver ends its kernels then. */
    (void)b;
}

static struct vgpu_driver *typed_driver(struct vgpu_backend *b)
{
    return &b->driver;
}

const struct vgpu_backend_ops vgpu_backend_cuda = {
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .device_info = cuda_device_info,
    .mem_alloc = typed_alloc,
    .mem_free = typed_free,
    .mem_info = typed_info,
    .held_bytes = typed_held,
    .copy_htod = typed_htod,
    .copy_dtoh = typed_dtoh,
    .copy_dtod = typed_dtod,
    .mem_set = typed_set,
    .module_load = typed_module_load,
    .module_unload = typed_module_unload,
    .module_kernel = typed_module_kernel,
    .module_global = typed_module_global,
    .launch = typed_launch,
    .synchronize = typed_synchronize,
    .interrupt = typed_interrupt,
    .host_register = cuda_host_register,
    .host_forget = cuda_host_forget,
    .driver = typed_driver,
};
