/* SPDX-License-Identifier: MIT */
/*
 * Launches: arguments laid out and dimensions checked here, because CUDA reports a bad launch at
 * once and a launch is posted. Occupancy, which is asked of the host once for each question.
 */
#include <stdlib.h>

#include "guest/cuda/internal.h"

#define LAUNCH_COOPERATIVE 1u
#define BLOCK_SIZE_MAX     65536 /* threads; any device's limit is far below */

/* ---- Checks ---- */

static CUresult check_dimensions(const struct vgpu_kernel_launch *launch)
{
    uint64_t threads = 1;
    for (int i = 0; i < 3; i++) {
        if (launch->grid[i] == 0 ||
            launch->grid[i] > (unsigned)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i))
            return CUDA_ERROR_INVALID_VALUE;
        if (launch->block[i] == 0 ||
            launch->block[i] >
                (unsigned)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i))
            return CUDA_ERROR_INVALID_VALUE;
        threads *= launch->block[i];
    }
    if (threads > (unsigned)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK))
        return CUDA_ERROR_INVALID_VALUE;
    if (launch->function->max_threads && threads > launch->function->max_threads)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (launch->shared_bytes > atomic_load(&launch->function->max_dynamic_shared_bytes))
        return CUDA_ERROR_INVALID_VALUE;
    if (!(launch->flags & LAUNCH_COOPERATIVE))
        return CUDA_SUCCESS;
    if (!vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH))
        return CUDA_ERROR_NOT_SUPPORTED;
    int blocks = 0;
    CUresult result = vgpu_occupancy(launch->function, (int)threads, launch->shared_bytes, &blocks);
    if (result != CUDA_SUCCESS)
        return result;
    uint64_t fit = (uint64_t)(blocks > 0 ? blocks : 0) *
                   (uint64_t)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    /* No GPU runs as many as that at a time; below it the products cannot wrap. */
    if (fit > UINT32_MAX)
        fit = UINT32_MAX;
    uint64_t plane = (uint64_t)launch->grid[0] * launch->grid[1];
    return plane > fit || plane * launch->grid[2] > fit ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
                                                        : CUDA_SUCCESS;
}

/* The buffer that `extra` describes. */
static CUresult read_extra(void **extra, const void **buffer, size_t *bytes)
{
    const size_t *size = NULL;
    *buffer = NULL;
    for (unsigned i = 0; extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            *buffer = extra[i + 1];
        else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
            size = extra[i + 1];
        else
            return CUDA_ERROR_INVALID_VALUE;
        if (i > 8)
            return CUDA_ERROR_INVALID_VALUE; /* there are two things to say */
    }
    *bytes = size ? *size : 0;
    return CUDA_SUCCESS;
}

static CUresult lay_out(struct vgpu_kernel_launch *launch, void **params, void **extra,
                        uint8_t *scratch)
{
    const struct vgpu_function_object *function = launch->function;
    const void *buffer = NULL;
    size_t bytes = 0;
    if (params && extra)
        return CUDA_ERROR_INVALID_VALUE;
    if (extra) {
        CUresult result = read_extra(extra, &buffer, &bytes);
        if (result != CUDA_SUCCESS)
            return result;
        /* A struct may end in padding that the kernel's buffer has not. */
        if (bytes < function->param_bytes || (function->param_bytes && !buffer))
            return CUDA_ERROR_INVALID_VALUE;
    } else if (function->param_count && !params) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    launch->argument_bytes = function->param_bytes;
    if (function->param_bytes > VGPU_LAUNCH_SCRATCH_BYTES) {
        launch->own = malloc(function->param_bytes);
        if (!launch->own)
            return CUDA_ERROR_OUT_OF_MEMORY;
    }
    uint8_t *arguments = launch->own ? launch->own : scratch;
    launch->arguments = arguments;
    if (buffer && function->param_bytes) {
        memcpy(arguments, buffer, function->param_bytes);
        return CUDA_SUCCESS;
    }
    uint32_t end = 0;
    for (uint32_t i = 0; params && i < function->param_count; i++) {
        const struct vgpu_param_layout *p = &function->layout[i];
        if (!params[i])
            return CUDA_ERROR_INVALID_VALUE;
        if (p->offset > end) /* what lies between two parameters is nobody's, least of all ours */
            memset(arguments + end, 0, p->offset - end);
        /* Most are of these two sizes, for which a copy is one instruction. */
        if (p->size == 8)
            memcpy(arguments + p->offset, params[i], 8);
        else if (p->size == 4)
            memcpy(arguments + p->offset, params[i], 4);
        else
            memcpy(arguments + p->offset, params[i], p->size);
        if (p->offset + p->size > end)
            end = p->offset + p->size;
    }
    if (end < function->param_bytes)
        memset(arguments + end, 0, function->param_bytes - end);
    return CUDA_SUCCESS;
}

CUresult vgpu_launch_prepare(struct vgpu_kernel_launch *launch, void **params, void **extra,
                             uint8_t *scratch)
{
    launch->arguments = NULL;
    launch->own = NULL;
    CUresult result = check_dimensions(launch);
    return result == CUDA_SUCCESS ? lay_out(launch, params, extra, scratch) : result;
}

/* ---- Launching ---- */

CUresult vgpu_launch_send(struct vgpu_stream *stream, const struct vgpu_kernel_launch *launch)
{
    CUresult result = vgpu_order_begin(stream);
    if (result != CUDA_SUCCESS)
        return result;
    result = vgpu_call_launch(
        stream->base.context->base.name, launch->function->base.name, stream->base.name,
        launch->grid[0], launch->grid[1], launch->grid[2], launch->block[0], launch->block[1],
        launch->block[2], launch->shared_bytes, launch->flags, 0,
        launch->argument_bytes ? launch->arguments : NULL, launch->argument_bytes);
    vgpu_order_end();
    return result;
}

static CUresult launch_kernel(struct vgpu_kernel_launch *launch, CUfunction handle,
                              CUstream stream_handle, void **params, void **extra)
{
    struct vgpu_stream *stream;
    uint8_t scratch[VGPU_LAUNCH_SCRATCH_BYTES];
    CUresult result = vgpu_function_find(handle, &launch->function);
    if (result == CUDA_SUCCESS)
        result = vgpu_stream_find(stream_handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (stream->base.context != launch->function->base.context)
        return CUDA_ERROR_INVALID_HANDLE;
    result = vgpu_launch_prepare(launch, params, extra, scratch);
    if (result == CUDA_SUCCESS && !vgpu_capture_launch(stream, launch, &result))
        result = vgpu_launch_send(stream, launch);
    if (launch->own)
        free(launch->own);
    launch->own = NULL;
    launch->arguments = NULL; /* were in scratch */
    return result;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                        unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                        unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                        void **kernelParams, void **extra)
{
    struct vgpu_kernel_launch launch = {.grid = {gridDimX, gridDimY, gridDimZ},
                                        .block = {blockDimX, blockDimY, blockDimZ},
                                        .shared_bytes = sharedMemBytes};
    return launch_kernel(&launch, f, hStream, kernelParams, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                   unsigned int gridDimZ, unsigned int blockDimX,
                                   unsigned int blockDimY, unsigned int blockDimZ,
                                   unsigned int sharedMemBytes, CUstream hStream,
                                   void **kernelParams)
{
    struct vgpu_kernel_launch launch = {.grid = {gridDimX, gridDimY, gridDimZ},
                                        .block = {blockDimX, blockDimY, blockDimZ},
                                        .shared_bytes = sharedMemBytes,
                                        .flags = LAUNCH_COOPERATIVE};
    return launch_kernel(&launch, f, hStream, kernelParams, NULL);
}

/* Attributes that change what a launch does are refused unless they are done. */
static CUresult read_attributes(const CUlaunchConfig *config, unsigned *flags)
{
    if (config->numAttrs && !config->attrs)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const CUlaunchAttributeValue *value = &config->attrs[i].value;
        switch ((int)config->attrs[i].id) {
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
            break;
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
            if (value->cooperative)
                *flags |= LAUNCH_COOPERATIVE;
            break;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
            /* A cluster of one block is none. */
            if (value->clusterDim.x > 1 || value->clusterDim.y > 1 || value->clusterDim.z > 1)
                return vgpu_cuda_not_supported("a launch in clusters");
            break;
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: /* allows overlap, no more */
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:                          /* a hint */
            break;
        default:
            return vgpu_cuda_not_supported("a launch attribute");
        }
    }
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams,
                          void **extra)
{
    if (!config)
        return CUDA_ERROR_INVALID_VALUE;
    struct vgpu_kernel_launch launch = {
        .grid = {config->gridDimX, config->gridDimY, config->gridDimZ},
        .block = {config->blockDimX, config->blockDimY, config->blockDimZ},
        .shared_bytes = config->sharedMemBytes};
    CUresult result = read_attributes(config, &launch.flags);
    return result == CUDA_SUCCESS ? launch_kernel(&launch, f, config->hStream, kernelParams, extra)
                                  : result;
}

CUresult vgpu_cuda_on_thread_stream_cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f,
                                                     void **kernelParams, void **extra)
{
    if (!config)
        return CUDA_ERROR_INVALID_VALUE;
    CUlaunchConfig own = *config;
    own.hStream = vgpu_cuda_thread_stream(config->hStream);
    return cuLaunchKernelEx(&own, f, kernelParams, extra);
}

/* ---- Occupancy ---- */

CUresult vgpu_occupancy(struct vgpu_function_object *function, int block_size, size_t shared_bytes,
                        int *blocks)
{
    vgpu_cuda_lock();
    bool known =
        function->fit_block_size == block_size && function->fit_shared_bytes == shared_bytes;
    if (known)
        *blocks = function->fit_blocks;
    vgpu_cuda_unlock();
    if (known)
        return CUDA_SUCCESS;
    CUresult result = vgpu_call_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        function->base.context->base.name, blocks, function->base.name, block_size, shared_bytes,
        0);
    if (result != CUDA_SUCCESS)
        return result;
    vgpu_cuda_lock();
    function->fit_block_size = block_size;
    function->fit_shared_bytes = shared_bytes;
    function->fit_blocks = *blocks;
    vgpu_cuda_unlock();
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func, int blockSize,
                                                     size_t dynamicSMemSize)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(func, &function);
    if (result != CUDA_SUCCESS)
        return result;
    if (!numBlocks || blockSize <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    return vgpu_occupancy(function, blockSize, dynamicSMemSize, numBlocks);
}

/*
 * The block size, a multiple of the warp, that puts the most threads on a multiprocessor; of equal
 * ones the largest.
 */
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize,
                                                   CUfunction func,
                                                   CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                   size_t dynamicSMemSize, int blockSizeLimit,
                                                   unsigned int flags)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(func, &function);
    if (result != CUDA_SUCCESS)
        return result;
    if (!minGridSize || !blockSize || blockSizeLimit < 0 || flags > 1)
        return CUDA_ERROR_INVALID_VALUE;
    int warp = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    int limit = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (function->max_threads && (int)function->max_threads < limit)
        limit = (int)function->max_threads;
    if (blockSizeLimit && blockSizeLimit < limit)
        limit = blockSizeLimit;
    if (warp <= 0 || warp > BLOCK_SIZE_MAX || limit <= 0 || limit > BLOCK_SIZE_MAX)
        return CUDA_ERROR_UNKNOWN; /* of no device: the host is not to be believed */
    int best_size = 0, best_blocks = 0, best_threads = 0;
    for (int size = (limit + warp - 1) / warp * warp; size > 0; size -= warp) {
        int tried = size < limit ? size : limit, blocks = 0;
        size_t shared =
            blockSizeToDynamicSMemSize ? blockSizeToDynamicSMemSize(tried) : dynamicSMemSize;
        result = vgpu_occupancy(function, tried, shared, &blocks);
        if (result != CUDA_SUCCESS)
            return result;
        if (blocks > 0 && blocks <= 1024 && tried * blocks > best_threads) {
            best_threads = tried * blocks;
            best_size = tried;
            best_blocks = blocks;
        }
        if (best_threads >= vgpu_cuda_attribute(39)) /* threads of a multiprocessor: it is full */
            break;
    }
    *blockSize = best_size;
    int64_t grid =
        (int64_t)best_blocks * vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    *minGridSize = grid < 0 || grid > INT32_MAX ? INT32_MAX : (int)grid;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
                                          CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                          size_t dynamicSMemSize, int blockSizeLimit)
{
    return cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func,
                                                     blockSizeToDynamicSMemSize, dynamicSMemSize,
                                                     blockSizeLimit, 0);
}
