/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CUDA calls on an NVIDIA GPU: their table, contexts, modules and launches. What
 * needs no check here is handed to the driver as it is; device addresses are looked up in the
 * session's ranges before a copy, see ranges.h. Copies and memory are in driver_memory.c, arrays
 * and textures in driver_array.c, streams and events in stream.c.
 */
#include "driver_calls.h"

#include <stdlib.h>
#include <string.h>

#include "common/wire.h"
#include "vgpu/protocol.h"

/* What a vgpu does not do, whatever the card can: CUdevice_attribute and what to answer. */
static const struct {
    int attribute, value;
} overrides[] = {
    {19, 0},   /* CAN_MAP_HOST_MEMORY: host memory is another machine's */
    {40, 0},   /* ASYNC_ENGINE_COUNT: copies come through the guest's device */
    {83, 0},   /* MANAGED_MEMORY */
    {88, 0},   /* PAGEABLE_MEMORY_ACCESS */
    {89, 0},   /* CONCURRENT_MANAGED_ACCESS */
    {91, 0},   /* CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM */
    {92, 0},   /* CAN_USE_STREAM_MEM_OPS_V1 */
    {93, 0},   /* CAN_USE_64_BIT_STREAM_MEM_OPS_V1 */
    {94, 0},   /* CAN_USE_STREAM_WAIT_VALUE_NOR_V1 */
    {96, 0},   /* COOPERATIVE_MULTI_DEVICE_LAUNCH */
    {98, 0},   /* CAN_FLUSH_REMOTE_WRITES */
    {99, 0},   /* HOST_REGISTER_SUPPORTED: with the GPU */
    {100, 0},  /* PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES */
    {101, 0},  /* DIRECT_MANAGED_MEM_ACCESS_FROM_HOST */
    {102, 0},  /* VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
    {103, 0},  /* HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED */
    {104, 0},  /* HANDLE_TYPE_WIN32_HANDLE_SUPPORTED */
    {105, 0},  /* HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED */
    {110, 0},  /* GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED */
    {113, 0},  /* READ_ONLY_HOST_REGISTER_SUPPORTED */
    {114, 0},  /* TIMELINE_SEMAPHORE_INTEROP_SUPPORTED */
    {116, 0},  /* GPU_DIRECT_RDMA_SUPPORTED */
    {117, 0},  /* GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS */
    {119, 0},  /* MEMPOOL_SUPPORTED_HANDLE_TYPES */
    {120, 0},  /* CLUSTER_LAUNCH */
    {121, 0},  /* DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED */
    {122, 0},  /* CAN_USE_64_BIT_STREAM_MEM_OPS */
    {123, 0},  /* CAN_USE_STREAM_WAIT_VALUE_NOR */
    {124, 0},  /* DMA_BUF_SUPPORTED */
    {125, 0},  /* IPC_EVENT_SUPPORTED */
    {127, 0},  /* TENSOR_MAP_ACCESS_SUPPORTED: there is no call to make one */
    {128, 0},  /* HANDLE_TYPE_FABRIC_SUPPORTED */
    {132, 0},  /* MULTICAST_SUPPORTED */
    {134, -1}, /* HOST_NUMA_ID */
};

static CUresult device_attributes(struct vgpu_driver *driver, uint32_t first, void *values,
                                  uint32_t values_capacity, uint32_t *values_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (first > 4096)
        return CUDA_ERROR_INVALID_VALUE;
    for (uint32_t i = 0; i < values_capacity / 4; i++) {
        int value = 0, number = (int)(first + i);
        /* A driver says no to a number that it does not know: 0, like a feature that is absent. */
        if (b->api.cuDeviceGetAttribute(&value, number, b->device) != CUDA_SUCCESS)
            value = 0;
        for (size_t k = 0; k < sizeof(overrides) / sizeof(overrides[0]); k++) {
            if (overrides[k].attribute == number)
                value = overrides[k].value;
        }
        vgpu_store_le32((uint8_t *)values + 4u * i, (uint32_t)value);
    }
    *values_length = values_capacity / 4 * 4;
    return CUDA_SUCCESS;
}

static CUresult driver_version(struct vgpu_driver *driver, int32_t *version)
{
    int got = 0;
    CUresult r = cuda_of_driver(driver)->api.cuDriverGetVersion(&got);
    *version = got;
    return r;
}

/* ---- Contexts ---- */

static CUresult context_use(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    b->current = context;
    return context ? cuda_select(b, context->cuda) : CUDA_SUCCESS;
}

#define CONTEXT_FLAGS_KNOWN 0x1fu /* scheduling, map host, local memory stays */

static CUresult primary_retain(struct vgpu_driver *driver, struct vgpu_driver_context **context,
                               uint32_t flags)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (flags & ~CONTEXT_FLAGS_KNOWN)
        return CUDA_ERROR_INVALID_VALUE;
    /* Flags are for the guest's waiting, which is the guest's own matter. */
    CUresult r = cuda_need_primary(b);
    if (r != CUDA_SUCCESS)
        return r;
    b->primary->references++;
    *context = b->primary;
    return CUDA_SUCCESS;
}

static CUresult context_create(struct vgpu_driver *driver, struct vgpu_driver_context **context,
                               uint32_t flags)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (flags & ~CONTEXT_FLAGS_KNOWN)
        return CUDA_ERROR_INVALID_VALUE;
    unsigned count = 0;
    for (struct vgpu_driver_context *c = b->contexts; c; c = c->next)
        count += !c->primary;
    if (count >= CUDA_CONTEXTS_MAX)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUcontext made = NULL;
    CUresult r = b->api.cuCtxCreate_v2(&made, 0, b->device);
    if (r != CUDA_SUCCESS)
        return r;
    b->selected = made; /* making it made it current */
    struct vgpu_driver_context *c = cuda_context_add(b, made, false);
    if (!c) {
        (void)b->api.cuCtxDestroy_v2(made);
        b->selected = NULL;
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    c->references = 1;
    *context = c;
    return CUDA_SUCCESS;
}

/* The primary one has a name for each time it was retained, and the typed requests may hold it. */
static CUresult context_destroy(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    return --context->references ? CUDA_SUCCESS : cuda_context_end(cuda_of_driver(driver), context);
}

static CUresult context_synchronize(struct vgpu_driver *driver)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUresult r = b->api.cuCtxSynchronize();
    if (r == CUDA_SUCCESS)
        cuda_streams_idle(b->current);
    return r;
}

static CUresult context_get_limit(struct vgpu_driver *driver, size_t *pvalue, int limit)
{
    return cuda_of_driver(driver)->api.cuCtxGetLimit(pvalue, limit);
}

static CUresult context_set_limit(struct vgpu_driver *driver, int limit, size_t value)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    /* Stack, printf buffer and heap are made of the card's memory, which the quota does not see:
     * so each is bounded by what the quota leaves. */
    if (!cuda_quota_allows(b, value))
        return CUDA_ERROR_OUT_OF_MEMORY;
    return b->api.cuCtxSetLimit(limit, value);
}

static CUresult stream_priority_range(struct vgpu_driver *driver, int32_t *least, int32_t *greatest)
{
    int l = 0, g = 0;
    CUresult r = cuda_of_driver(driver)->api.cuCtxGetStreamPriorityRange(&l, &g);
    *least = l;
    *greatest = g;
    return r;
}

static CUresult printf_read(struct vgpu_driver *driver, uint32_t size, uint64_t *lost, void *text,
                            uint32_t text_capacity, uint32_t *text_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    *lost = 0; /* CUDA does not tell */
    cuda_side_flush(b, b->current);
    *text_length = cuda_output_read(b, text, size < text_capacity ? size : text_capacity);
    return CUDA_SUCCESS;
}

/* ---- Modules and launches ---- */

static struct cuda_module *module_of(struct vgpu_driver_module *m)
{
    return (struct cuda_module *)(void *)m;
}

static struct vgpu_backend_kernel *kernel_of(struct vgpu_driver_function *f)
{
    return (struct vgpu_backend_kernel *)(void *)f;
}

static CUfunction function_of(struct vgpu_driver_function *f)
{
    return kernel_of(f)->cuda;
}

static CUresult module_load(struct vgpu_driver *driver, struct vgpu_driver_module **module,
                            const void *image, size_t image_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    struct cuda_module *m = NULL;
    CUresult r = cuda_module_load(b, b->current, image, image_length, &m, driver->text,
                                  sizeof(driver->text));
    *module = (struct vgpu_driver_module *)(void *)m;
    return r;
}

static CUresult module_unload(struct vgpu_driver *driver, struct vgpu_driver_module *module)
{
    return cuda_module_unload(cuda_of_driver(driver), module_of(module));
}

/* From parameter `first` on, as many as fit. */
static uint32_t write_layout(const struct vgpu_kernel_info *info, uint32_t first, uint8_t *layout,
                             uint32_t capacity)
{
    uint32_t length = 0;
    for (uint32_t i = first; i < info->param_count && capacity - length >= 8; i++) {
        vgpu_store_le32(layout + length, info->params[i].offset);
        vgpu_store_le32(layout + length + 4, info->params[i].size);
        length += 8;
    }
    return length;
}

static CUresult function_get(struct vgpu_driver *driver, struct vgpu_driver_module *module,
                             struct vgpu_driver_function **function, const char *name,
                             uint32_t *param_count, uint32_t *param_bytes, uint32_t *max_threads,
                             uint32_t *static_shared_bytes, uint32_t *const_bytes,
                             uint32_t *local_bytes, uint32_t *registers, int32_t *ptx_version,
                             int32_t *binary_version, uint32_t *max_dynamic_shared_bytes,
                             void *layout, uint32_t layout_capacity, uint32_t *layout_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    struct vgpu_backend_kernel *k = NULL;
    int values[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES + 1] = {0};
    CUresult r = cuda_kernel_find(b, module_of(module), name, &k);
    for (int i = 0; r == CUDA_SUCCESS && i <= CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES; i++)
        r = b->api.cuFuncGetAttribute(&values[i], i, k->cuda);
    if (r != CUDA_SUCCESS)
        return r;
    *param_count = k->info.param_count;
    *param_bytes = k->info.param_bytes;
    *max_threads = k->info.max_threads_per_block;
    *static_shared_bytes = k->info.static_shared_bytes;
    *const_bytes = (uint32_t)values[CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES];
    *local_bytes = k->info.local_bytes;
    *registers = (uint32_t)values[CU_FUNC_ATTRIBUTE_NUM_REGS];
    *ptx_version = values[CU_FUNC_ATTRIBUTE_PTX_VERSION];
    *binary_version = values[CU_FUNC_ATTRIBUTE_BINARY_VERSION];
    *max_dynamic_shared_bytes = (uint32_t)values[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES];
    *layout_length = write_layout(&k->info, 0, layout, layout_capacity);
    *function = (struct vgpu_driver_function *)(void *)k;
    return CUDA_SUCCESS;
}

static CUresult function_params(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                                uint32_t first, void *layout, uint32_t layout_capacity,
                                uint32_t *layout_length)
{
    (void)driver;
    *layout_length = write_layout(&kernel_of(function)->info, first, layout, layout_capacity);
    return CUDA_SUCCESS;
}

static CUresult module_global(struct vgpu_driver *driver, struct vgpu_driver_module *module,
                              const char *name, CUdeviceptr *address, size_t *bytes)
{
    uint64_t at = 0, size = 0;
    CUresult r = cuda_module_variable(cuda_of_driver(driver), module_of(module), name, &at, &size);
    *address = at;
    *bytes = size;
    return r;
}

static CUresult function_get_attribute(struct vgpu_driver *driver, int32_t *value, int attribute,
                                       struct vgpu_driver_function *function)
{
    int got = 0;
    CUresult r =
        cuda_of_driver(driver)->api.cuFuncGetAttribute(&got, attribute, function_of(function));
    *value = got;
    return r;
}

static CUresult function_set_attribute(struct vgpu_driver *driver,
                                       struct vgpu_driver_function *function, int attribute,
                                       int32_t value)
{
    return cuda_of_driver(driver)->api.cuFuncSetAttribute(function_of(function), attribute, value);
}

static CUresult launch(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                       struct vgpu_driver_stream *stream, uint32_t grid_x, uint32_t grid_y,
                       uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z,
                       uint32_t shared_bytes, uint32_t flags, const void *arguments,
                       size_t arguments_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (flags & ~VGPU_LAUNCH_FLAGS_KNOWN || arguments_length > VGPU_PARAM_BUFFER_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    struct vgpu_backend_kernel *k = kernel_of(function);
    if (arguments_length != k->info.param_bytes) /* the driver must not read behind the guest's */
        return CUDA_ERROR_INVALID_VALUE;
    if (flags & VGPU_LAUNCH_COOPERATIVE) {
        /* Takes no buffer, only a pointer to each argument. */
        void *pointers[VGPU_KERNEL_MAX_PARAMS];
        for (uint32_t i = 0; i < k->info.param_count; i++)
            pointers[i] = (uint8_t *)(uintptr_t)arguments + k->info.params[i].offset;
        return b->api.cuLaunchCooperativeKernel(k->cuda, grid_x, grid_y, grid_z, block_x, block_y,
                                                block_z, shared_bytes, cuda_stream_use(b, stream),
                                                pointers);
    }
    size_t bytes = arguments_length;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, (void *)(uintptr_t)arguments,
                     CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    return b->api.cuLaunchKernel(k->cuda, grid_x, grid_y, grid_z, block_x, block_y, block_z,
                                 shared_bytes, cuda_stream_use(b, stream), NULL,
                                 bytes ? extra : NULL);
}

static CUresult occupancy_blocks(struct vgpu_driver *driver, int *numBlocks,
                                 struct vgpu_driver_function *func, int blockSize,
                                 size_t dynamicSMemSize, uint32_t flags)
{
    return cuda_of_driver(driver)->api.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        numBlocks, function_of(func), blockSize, dynamicSMemSize, flags);
}

static CUresult occupancy_shared(struct vgpu_driver *driver, size_t *dynamicSmemSize,
                                 struct vgpu_driver_function *func, int numBlocks, int blockSize)
{
    return cuda_of_driver(driver)->api.cuOccupancyAvailableDynamicSMemPerBlock(
        dynamicSmemSize, function_of(func), numBlocks, blockSize);
}

const struct vgpu_driver_ops vgpu_cuda_driver_ops = {
    .context_use = context_use,
    .device_attributes = device_attributes,
    .driver_version = driver_version,
    .primary_retain = primary_retain,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .context_synchronize = context_synchronize,
    .cuCtxGetLimit = context_get_limit,
    .cuCtxSetLimit = context_set_limit,
    .stream_priority_range = stream_priority_range,
    .printf_read = printf_read,
    .module_load = module_load,
    .module_unload = module_unload,
    .function_get = function_get,
    .function_params = function_params,
    .module_global = module_global,
    .function_get_attribute = function_get_attribute,
    .function_set_attribute = function_set_attribute,
    .launch = launch,
    .cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags = occupancy_blocks,
    .cuOccupancyAvailableDynamicSMemPerBlock = occupancy_shared,
    .memory_alloc = cuda_call_memory_alloc,
    .memory_free = cuda_call_memory_free,
    .cuMemGetInfo_v2 = cuda_call_memory_info,
    .memory_alloc_async = cuda_call_memory_alloc_async,
    .memory_free_async = cuda_call_memory_free_async,
    .copy_to_device = cuda_call_copy_to_device,
    .copy_from_device = cuda_call_copy_from_device,
    .copy_on_device = cuda_call_copy_on_device,
    .copy_rect = cuda_call_copy_rect,
    .copy_window_to_device = cuda_call_copy_window_to_device,
    .copy_device_to_window = cuda_call_copy_device_to_window,
    .copy_rect_window_to_device = cuda_call_copy_rect_window_to_device,
    .copy_rect_device_to_window = cuda_call_copy_rect_device_to_window,
    .memory_set = cuda_call_memory_set,
    .pool_create = cuda_call_pool_create,
    .pool_destroy = cuda_call_pool_destroy,
    .pool_trim = cuda_call_pool_trim,
    .pool_get_attribute = cuda_call_pool_get_attribute,
    .pool_set_attribute = cuda_call_pool_set_attribute,
    .stream_create = cuda_call_stream_create,
    .stream_destroy = cuda_call_stream_destroy,
    .stream_synchronize = cuda_call_stream_synchronize,
    .stream_fence = cuda_call_stream_synchronize,
    .stream_query = cuda_call_stream_query,
    .stream_wait_event = cuda_call_stream_wait_event,
    .event_create = cuda_call_event_create,
    .event_destroy = cuda_call_event_destroy,
    .event_record = cuda_call_event_record,
    .event_query = cuda_call_event_query,
    .event_synchronize = cuda_call_event_synchronize,
    .event_elapsed = cuda_call_event_elapsed,
    .array_create = cuda_call_array_create,
    .array_destroy = cuda_call_array_destroy,
    .array_write = cuda_call_array_write,
    .array_read = cuda_call_array_read,
    .array_copy = cuda_call_array_copy,
    .array_write_window = cuda_call_array_write_window,
    .array_read_window = cuda_call_array_read_window,
    .texture_create = cuda_call_texture_create,
    .texture_destroy = cuda_call_texture_destroy,
    .surface_create = cuda_call_surface_create,
    .surface_destroy = cuda_call_surface_destroy,
};
