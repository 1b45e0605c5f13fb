/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Modules, functions, launches and occupancy of the software driver; see sw_driver.h. */
#include <stdlib.h>

#include "common/wire.h"
#include "software.h"
#include "sw_driver.h"
#include "vgpu/protocol.h"

/* What a multiprocessor of compute capability 7.5 holds at a time. */
#define SM_THREADS         1024u
#define SM_BLOCKS          16u
#define SM_REGISTERS       65536u
#define SM_SHARED_BYTES    65536u
#define SHARED_GRANULE     256u
#define REGISTERS_PER_WARP 256u /* their granule */
#define LEAST_REGISTERS    16u
#define MOST_REGISTERS     64u /* so many let 1024 threads run */
#define TARGET             75

/* CUfunction_attribute */
enum {
    FUNC_MAX_THREADS = 0,
    FUNC_SHARED_BYTES,
    FUNC_CONST_BYTES,
    FUNC_LOCAL_BYTES,
    FUNC_REGISTERS,
    FUNC_PTX_VERSION,
    FUNC_BINARY_VERSION,
    FUNC_CACHE_MODE_CA,
    FUNC_MAX_DYNAMIC_SHARED,
    FUNC_CARVEOUT,
    FUNC_CLUSTER_FIRST, /* clusters: of later architectures */
    FUNC_CLUSTER_LAST = 15
};

static const struct ptx_function *ptx_of(const struct vgpu_driver_function *f)
{
    return (const struct ptx_function *)(const void *)f->kernel;
}

CUresult sw_module_load(struct vgpu_driver *driver, struct vgpu_driver_module **module,
                        const void *image, size_t image_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_driver_module *m = calloc(1, sizeof(*m));
    if (!m)
        return CUDA_ERROR_OUT_OF_MEMORY;
    status = vgpu_backend_software.module_load(d->backend, image, image_length, &m->backend,
                                               d->base.text, sizeof(d->base.text));
    if (status != CUDA_SUCCESS) {
        free(m);
        return status;
    }
    m->context = d->current;
    LIST_INIT(&m->functions);
    LIST_INSERT_HEAD(&d->current->modules, m, link);
    *module = m;
    return CUDA_SUCCESS;
}

static CUresult end_module(struct sw_driver *d, struct vgpu_driver_module *m)
{
    struct vgpu_driver_function *f;
    while ((f = LIST_FIRST(&m->functions))) {
        LIST_REMOVE(f, link);
        free(f);
    }
    LIST_REMOVE(m, link);
    CUresult status = vgpu_backend_software.module_unload(d->backend, m->backend);
    free(m);
    return status;
}

CUresult sw_module_unload(struct vgpu_driver *driver, struct vgpu_driver_module *module)
{
    return end_module(sw_of(driver), module);
}

void sw_modules_end(struct sw_driver *d, struct vgpu_driver_context *context)
{
    struct vgpu_driver_module *next;
    /* After a sticky error the backend keeps the module until it closes. */
    for (struct vgpu_driver_module *m = LIST_FIRST(&context->modules); m; m = next) {
        next = LIST_NEXT(m, link);
        (void)end_module(d, m);
    }
}

/* The kernel's registers are an interpreter's rows, of which a card would need some at a time. */
static uint32_t registers_of(const struct ptx_function *f)
{
    uint32_t rows = f->slots > PTX_SR_ROWS ? f->slots - PTX_SR_ROWS : 0;
    return rows < LEAST_REGISTERS ? LEAST_REGISTERS : rows > MOST_REGISTERS ? MOST_REGISTERS : rows;
}

static struct vgpu_driver_function *find_function(struct vgpu_driver_module *m,
                                                  struct vgpu_backend_kernel *kernel,
                                                  const struct vgpu_kernel_info *info)
{
    struct vgpu_driver_function *f;
    for (f = LIST_FIRST(&m->functions); f; f = LIST_NEXT(f, link)) {
        if (f->kernel == kernel)
            return f;
    }
    f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->module = m;
    f->kernel = kernel;
    f->info = info;
    f->registers = registers_of(ptx_of(f));
    f->max_dynamic_bytes = info->static_shared_bytes > PTX_MAX_SHARED_BYTES
                               ? 0
                               : PTX_MAX_SHARED_BYTES - info->static_shared_bytes;
    f->carveout = -1; /* no preference */
    LIST_INSERT_HEAD(&m->functions, f, link);
    return f;
}

static uint32_t write_layout(const struct vgpu_kernel_info *info, uint32_t first, uint8_t *layout,
                             uint32_t capacity)
{
    uint32_t length = 0;
    for (uint32_t i = first;
         i < info->param_count && capacity - length >= (uint32_t)sizeof(struct vgpu_param_layout);
         i++) {
        vgpu_store_le32(layout + length, info->params[i].offset);
        vgpu_store_le32(layout + length + 4, info->params[i].size);
        length += (uint32_t)sizeof(struct vgpu_param_layout);
    }
    return length;
}

static uint32_t const_bytes_of(const struct vgpu_driver_function *f)
{
    return (uint32_t)ptx_of(f)->module->const_bytes;
}

CUresult sw_function_get(struct vgpu_driver *driver, struct vgpu_driver_module *module,
                         struct vgpu_driver_function **function, const char *name,
                         uint32_t *param_count, uint32_t *param_bytes, uint32_t *max_threads,
                         uint32_t *static_shared_bytes, uint32_t *const_bytes,
                         uint32_t *local_bytes, uint32_t *registers, int32_t *ptx_version,
                         int32_t *binary_version, uint32_t *max_dynamic_shared_bytes, void *layout,
                         uint32_t layout_capacity, uint32_t *layout_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_backend_kernel *kernel;
    const struct vgpu_kernel_info *info;
    status = vgpu_backend_software.module_kernel(d->backend, module->backend, name, &kernel, &info);
    if (status == CUDA_ERROR_NOT_FOUND)
        return sw_refuse(d, status, "the module has no kernel '%s'", name);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_driver_function *f = find_function(module, kernel, info);
    if (!f)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *param_count = info->param_count;
    *param_bytes = info->param_bytes;
    *max_threads = info->max_threads_per_block;
    *static_shared_bytes = info->static_shared_bytes;
    *const_bytes = const_bytes_of(f);
    *local_bytes = info->local_bytes;
    *registers = f->registers;
    *ptx_version = (int32_t)ptx_of(f)->module->target_sm;
    *binary_version = TARGET;
    *max_dynamic_shared_bytes = f->max_dynamic_bytes;
    *layout_length = write_layout(info, 0, layout, layout_capacity);
    *function = f;
    return CUDA_SUCCESS;
}

CUresult sw_function_params(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                            uint32_t first, void *layout, uint32_t layout_capacity,
                            uint32_t *layout_length)
{
    CUresult status = sw_ready(sw_of(driver));
    if (status == CUDA_SUCCESS)
        *layout_length = write_layout(function->info, first, layout, layout_capacity);
    return status;
}

CUresult sw_module_global(struct vgpu_driver *driver, struct vgpu_driver_module *module,
                          const char *name, CUdeviceptr *address, size_t *bytes)
{
    struct sw_driver *d = sw_of(driver);
    uint64_t at, size;
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    status = vgpu_backend_software.module_global(d->backend, module->backend, name, &at, &size);
    if (status == CUDA_ERROR_NOT_FOUND)
        return sw_refuse(d, status, "the module has no variable '%s'", name);
    if (status != CUDA_SUCCESS)
        return status;
    *address = at;
    *bytes = (size_t)size;
    return CUDA_SUCCESS;
}

CUresult sw_function_get_attribute(struct vgpu_driver *driver, int32_t *value, int attribute,
                                   struct vgpu_driver_function *function)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    switch (attribute) {
    case FUNC_MAX_THREADS:
        *value = (int32_t)function->info->max_threads_per_block;
        return CUDA_SUCCESS;
    case FUNC_SHARED_BYTES:
        *value = (int32_t)function->info->static_shared_bytes;
        return CUDA_SUCCESS;
    case FUNC_CONST_BYTES:
        *value = (int32_t)const_bytes_of(function);
        return CUDA_SUCCESS;
    case FUNC_LOCAL_BYTES:
        *value = (int32_t)function->info->local_bytes;
        return CUDA_SUCCESS;
    case FUNC_REGISTERS:
        *value = (int32_t)function->registers;
        return CUDA_SUCCESS;
    case FUNC_PTX_VERSION:
        *value = (int32_t)ptx_of(function)->module->target_sm;
        return CUDA_SUCCESS;
    case FUNC_BINARY_VERSION:
        *value = TARGET;
        return CUDA_SUCCESS;
    case FUNC_CACHE_MODE_CA:
        *value = 0;
        return CUDA_SUCCESS;
    case FUNC_MAX_DYNAMIC_SHARED:
        *value = (int32_t)function->max_dynamic_bytes;
        return CUDA_SUCCESS;
    case FUNC_CARVEOUT:
        *value = function->carveout;
        return CUDA_SUCCESS;
    default:
        if (attribute < FUNC_CLUSTER_FIRST || attribute > FUNC_CLUSTER_LAST)
            return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "function attribute %d is none",
                             attribute);
        *value = 0;
        return CUDA_SUCCESS;
    }
}

CUresult sw_function_set_attribute(struct vgpu_driver *driver,
                                   struct vgpu_driver_function *function, int attribute,
                                   int32_t value)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (attribute == FUNC_MAX_DYNAMIC_SHARED) {
        uint32_t own = function->info->static_shared_bytes;
        if (value < 0 || own > PTX_MAX_SHARED_BYTES || (uint32_t)value > PTX_MAX_SHARED_BYTES - own)
            return sw_refuse(d, CUDA_ERROR_INVALID_VALUE,
                             "%d bytes of dynamic shared memory: a block has %u, the kernel takes "
                             "%u of its own",
                             value, PTX_MAX_SHARED_BYTES, own);
        function->max_dynamic_bytes = (uint32_t)value;
        return CUDA_SUCCESS;
    }
    if (attribute == FUNC_CARVEOUT) { /* a hint about a cache that is not there */
        if (value < -1 || value > 100)
            return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "a carve-out of %d: -1 to 100", value);
        function->carveout = value;
        return CUDA_SUCCESS;
    }
    if (attribute >= FUNC_CLUSTER_FIRST && attribute <= FUNC_CLUSTER_LAST)
        return sw_refuse(d, CUDA_ERROR_NOT_SUPPORTED, "clusters are of later architectures");
    return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "function attribute %d cannot be set", attribute);
}

CUresult sw_launch(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                   struct vgpu_driver_stream *stream, uint32_t grid_x, uint32_t grid_y,
                   uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z,
                   uint32_t shared_bytes, uint32_t flags, const void *arguments,
                   size_t arguments_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (function->module->context != d->current || !sw_stream_fits(stream, d->current))
        return sw_refuse(d, CUDA_ERROR_INVALID_HANDLE,
                         "the function or the stream is of another context");
    if (flags & ~VGPU_LAUNCH_FLAGS_KNOWN)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "launch flags 0x%x", flags);
    if (shared_bytes > function->max_dynamic_bytes)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE,
                         "%u bytes of dynamic shared memory, the kernel may have %u", shared_bytes,
                         function->max_dynamic_bytes);
    uint64_t threads = (uint64_t)block_x * block_y;
    if (threads <= PTX_MAX_THREADS)
        threads *= block_z;
    if (threads <= PTX_MAX_THREADS && threads > function->info->max_threads_per_block)
        return sw_refuse(d, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                         "%u threads a block, the kernel runs at most %u", (unsigned)threads,
                         function->info->max_threads_per_block);
    struct vgpu_launch launch = {
        .kernel = function->kernel,
        .grid = {grid_x, grid_y, grid_z},
        .block = {block_x, block_y, block_z},
        .shared_bytes = shared_bytes,
        .params = arguments,
        .params_bytes = arguments_length,
        .cooperative = flags & VGPU_LAUNCH_COOPERATIVE,
        .stack_bytes = (uint32_t)d->current->limits[0], /* at most PTX_MAX_LOCAL_BYTES */
    };
    status = vgpu_backend_software.launch(d->backend, &launch);
    if (status == CUDA_ERROR_INVALID_VALUE)
        return sw_refuse(d, status,
                         "grid %ux%ux%u, block %ux%ux%u, %u shared bytes, %zu bytes of arguments "
                         "(the kernel takes %u)",
                         grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                         arguments_length, function->info->param_bytes);
    return status;
}

/* Bytes of shared memory that a block takes of a multiprocessor. */
static uint64_t shared_of(const struct vgpu_driver_function *f, uint64_t dynamic_bytes)
{
    uint64_t bytes = f->info->static_shared_bytes + dynamic_bytes;
    return (bytes + SHARED_GRANULE - 1) & ~(uint64_t)(SHARED_GRANULE - 1);
}

/* Blocks that fit by everything but shared memory. */
static uint32_t blocks_by_threads(const struct vgpu_driver_function *f, uint32_t block_size)
{
    uint32_t warps = (block_size + PTX_LANES - 1) / PTX_LANES;
    uint32_t per_warp = f->registers * PTX_LANES;
    per_warp = (per_warp + REGISTERS_PER_WARP - 1) & ~(REGISTERS_PER_WARP - 1);
    uint32_t blocks = SM_THREADS / PTX_LANES / warps;
    uint32_t by_registers = SM_REGISTERS / per_warp / warps;
    if (blocks > by_registers)
        blocks = by_registers;
    return blocks > SM_BLOCKS ? SM_BLOCKS : blocks;
}

static CUresult check_block_size(struct sw_driver *d, int block_size)
{
    CUresult status = sw_ready(d);
    if (status == CUDA_SUCCESS && (block_size < 1 || block_size > (int)PTX_MAX_THREADS))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%d threads a block: 1 to %u", block_size,
                         PTX_MAX_THREADS);
    return status;
}

CUresult sw_occupancy_blocks(struct vgpu_driver *driver, int *blocks,
                             struct vgpu_driver_function *function, int block_size,
                             size_t dynamic_bytes, uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = check_block_size(d, block_size);
    if (status != CUDA_SUCCESS)
        return status;
    if (flags & ~1u) /* 1: without the caching override, which is not there */
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "occupancy flags 0x%x", flags);
    *blocks = 0;
    if ((uint32_t)block_size > function->info->max_threads_per_block ||
        dynamic_bytes > function->max_dynamic_bytes)
        return CUDA_SUCCESS; /* it cannot be launched so */
    uint32_t fit = blocks_by_threads(function, (uint32_t)block_size);
    uint64_t shared = shared_of(function, dynamic_bytes);
    if (shared && SM_SHARED_BYTES / shared < fit)
        fit = (uint32_t)(SM_SHARED_BYTES / shared);
    *blocks = (int)fit;
    return CUDA_SUCCESS;
}

CUresult sw_occupancy_shared(struct vgpu_driver *driver, size_t *dynamic_bytes,
                             struct vgpu_driver_function *function, int blocks, int block_size)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = check_block_size(d, block_size);
    if (status != CUDA_SUCCESS)
        return status;
    if (blocks < 1 || (uint32_t)blocks > blocks_by_threads(function, (uint32_t)block_size))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%d blocks of %d threads do not fit", blocks,
                         block_size);
    uint32_t each = SM_SHARED_BYTES / (uint32_t)blocks & ~(SHARED_GRANULE - 1);
    uint32_t own = function->info->static_shared_bytes;
    uint32_t left = each > own ? each - own : 0;
    *dynamic_bytes = left < function->max_dynamic_bytes ? left : function->max_dynamic_bytes;
    return CUDA_SUCCESS;
}
