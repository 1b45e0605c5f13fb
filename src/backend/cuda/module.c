/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images on an NVIDIA GPU, their kernels and variables; see cuda.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/unpack.h"
#include "cuda.h"
#include "vgpu/protocol.h"

/* Behind the image, so that a reader of text finds its end, whatever the guest left out. */
#define IMAGE_TAIL_BYTES 64u

CUresult cuda_module_load(struct vgpu_backend *b, const struct vgpu_driver_context *context,
                          const void *image, size_t bytes, struct cuda_module **out, char *log,
                          size_t log_size)
{
    *out = NULL;
    /* The driver is told no length and believes every one that it reads. */
    CUresult r = vgpu_image_check(image, bytes, log, log_size);
    if (r != CUDA_SUCCESS)
        return r;
    struct cuda_module *m = calloc(1, sizeof(*m));
    char *copy = bytes <= SIZE_MAX - IMAGE_TAIL_BYTES ? malloc(bytes + IMAGE_TAIL_BYTES) : NULL;
    if (!m || !copy) {
        free(m);
        free(copy);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memcpy(copy, image, bytes);
    memset(copy + bytes, 0, IMAGE_TAIL_BYTES);
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)log_size};
    r = b->api.cuModuleLoadDataEx(&m->cuda, copy, log_size ? 2 : 0, (int *)options, values);
    if (log_size)
        log[log_size - 1] = 0;
    if (r != CUDA_SUCCESS) {
        free(copy);
        free(m);
        return r;
    }
    if (b->api.cuFuncGetParamInfo) {
        free(copy);
    } else {
        m->image = copy;
        m->image_bytes = bytes;
    }
    m->context = context;
    m->next = b->modules;
    b->modules = m;
    *out = m;
    return CUDA_SUCCESS;
}

void cuda_module_forget(struct vgpu_backend *b, struct cuda_module *m)
{
    struct cuda_module **at = &b->modules;
    while (*at && *at != m)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = m->next;
    cuda_ranges_remove_owner(&b->ranges, m);
    while (m->kernels) {
        struct vgpu_backend_kernel *k = m->kernels;
        m->kernels = k->next;
        free(k);
    }
    free(m->image);
    free(m);
}

CUresult cuda_module_unload(struct vgpu_backend *b, struct cuda_module *m)
{
    CUresult r = b->api.cuModuleUnload(m->cuda);
    cuda_module_forget(b, m);
    return r;
}

/* Parameters as the driver knows them, from 12.4 on. */
static CUresult driver_params(struct vgpu_backend *b, CUfunction function,
                              struct vgpu_kernel_info *info)
{
    for (size_t i = 0; i < VGPU_KERNEL_MAX_PARAMS; i++) {
        size_t offset = 0, size = 0;
        CUresult r = b->api.cuFuncGetParamInfo(function, i, &offset, &size);
        if (r == CUDA_ERROR_INVALID_VALUE) /* there is no such parameter: they are all there */
            return CUDA_SUCCESS;
        if (r != CUDA_SUCCESS)
            return r;
        if (offset > VGPU_PARAM_BUFFER_MAX || size > VGPU_PARAM_BUFFER_MAX - offset)
            return CUDA_ERROR_NOT_SUPPORTED;
        info->params[i].offset = (uint32_t)offset;
        info->params[i].size = (uint32_t)size;
        info->param_count = (uint32_t)i + 1;
        if (offset + size > info->param_bytes)
            info->param_bytes = (uint32_t)(offset + size);
    }
    return CUDA_ERROR_NOT_SUPPORTED; /* more than a launch can carry */
}

/* From the image itself, for older drivers. */
static CUresult image_params(struct vgpu_backend *b, const struct cuda_module *m, const char *name,
                             struct vgpu_kernel_info *info)
{
    struct vgpu_param_layout layout[VGPU_KERNEL_MAX_PARAMS];
    char log[128];
    CUresult r = vgpu_image_find_params(
        m->image, m->image_bytes, b->info.compute_major * 10 + b->info.compute_minor, name, layout,
        VGPU_KERNEL_MAX_PARAMS, &info->param_count, &info->param_bytes, log, sizeof(log));
    if (r != CUDA_SUCCESS)
        return r;
    if (info->param_count > VGPU_KERNEL_MAX_PARAMS || info->param_bytes > VGPU_PARAM_BUFFER_MAX)
        return CUDA_ERROR_NOT_SUPPORTED;
    for (uint32_t i = 0; i < info->param_count; i++) {
        info->params[i].offset = layout[i].offset;
        info->params[i].size = layout[i].size;
    }
    return CUDA_SUCCESS;
}

static CUresult attribute(struct vgpu_backend *b, CUfunction function, CUfunction_attribute number,
                          uint32_t *value)
{
    int got = 0;
    CUresult r = b->api.cuFuncGetAttribute(&got, (int)number, function);
    *value = got > 0 ? (uint32_t)got : 0;
    return r;
}

CUresult cuda_kernel_find(struct vgpu_backend *b, struct cuda_module *m, const char *name,
                          struct vgpu_backend_kernel **out)
{
    for (struct vgpu_backend_kernel *k = m->kernels; k; k = k->next) {
        if (!strcmp(k->name, name)) {
            *out = k;
            return CUDA_SUCCESS;
        }
    }
    CUfunction function = NULL;
    CUresult r = b->api.cuModuleGetFunction(&function, m->cuda, name);
    if (r != CUDA_SUCCESS)
        return r;
    size_t length = strlen(name) + 1;
    struct vgpu_backend_kernel *k = calloc(1, sizeof(*k) + length);
    if (!k)
        return CUDA_ERROR_OUT_OF_MEMORY;
    k->cuda = function;
    memcpy(k->name, name, length);
    k->info.name = k->name;
    r = b->api.cuFuncGetParamInfo ? driver_params(b, function, &k->info)
                                  : image_params(b, m, name, &k->info);
    if (r == CUDA_SUCCESS)
        r = attribute(b, function, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
                      &k->info.max_threads_per_block);
    if (r == CUDA_SUCCESS)
        r = attribute(b, function, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
                      &k->info.static_shared_bytes);
    if (r == CUDA_SUCCESS)
        r = attribute(b, function, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &k->info.local_bytes);
    if (r != CUDA_SUCCESS) {
        free(k);
        return r;
    }
    k->next = m->kernels;
    m->kernels = k;
    *out = k;
    return CUDA_SUCCESS;
}

CUresult cuda_module_variable(struct vgpu_backend *b, struct cuda_module *m, const char *name,
                              uint64_t *address, uint64_t *bytes)
{
    CUdeviceptr base = 0;
    size_t size = 0;
    CUresult r = b->api.cuModuleGetGlobal_v2(&base, &size, m->cuda, name);
    if (r != CUDA_SUCCESS)
        return r;
    /* A variable of no bytes has an address, but there is nothing to copy. */
    if (size && !cuda_ranges_add(&b->ranges, base, size, m, true))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *address = base;
    *bytes = size;
    return CUDA_SUCCESS;
}
