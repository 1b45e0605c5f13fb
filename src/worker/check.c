/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Launch checks; see check.h. */
#include "worker/check.h"

#include <stdio.h>

static CUresult check_dim(const char *what, const uint32_t dim[3], const uint32_t max[3], char *why,
                          size_t why_size)
{
    if (!dim[0] || !dim[1] || !dim[2]) {
        snprintf(why, why_size, "%s %ux%ux%u: each dimension must be at least 1", what, dim[0],
                 dim[1], dim[2]);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (dim[0] > max[0] || dim[1] > max[1] || dim[2] > max[2]) {
        snprintf(why, why_size, "%s %ux%ux%u: at most %ux%ux%u", what, dim[0], dim[1], dim[2],
                 max[0], max[1], max[2]);
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult vgpu_check_launch(const struct vgpu_device_info *info,
                           const struct vgpu_kernel_limits *kernel, const uint32_t grid[3],
                           const uint32_t block[3], uint32_t shared_bytes, size_t params_bytes,
                           char *why, size_t why_size)
{
    if (params_bytes != kernel->param_bytes) {
        snprintf(why, why_size, "%zu bytes of arguments, the kernel takes %u", params_bytes,
                 kernel->param_bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    CUresult status = check_dim("grid", grid, info->max_grid_dim, why, why_size);
    if (status == CUDA_SUCCESS)
        status = check_dim("block", block, info->max_block_dim, why, why_size);
    if (status != CUDA_SUCCESS)
        return status;
    /* Three factors below 2^32 each can overflow 64 bits; two cannot, and are bounded first. */
    uint64_t threads = (uint64_t)block[0] * block[1];
    if (threads <= info->max_threads_per_block)
        threads *= block[2];
    if (threads > info->max_threads_per_block) {
        snprintf(why, why_size, "block %ux%ux%u: at most %u threads", block[0], block[1], block[2],
                 info->max_threads_per_block);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (threads > kernel->max_threads_per_block) {
        snprintf(why, why_size, "block %ux%ux%u: this kernel runs at most %u threads", block[0],
                 block[1], block[2], kernel->max_threads_per_block);
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    }
    if (kernel->static_shared_bytes > info->max_shared_per_block_bytes ||
        shared_bytes > info->max_shared_per_block_bytes - kernel->static_shared_bytes) {
        snprintf(why, why_size, "%u bytes of shared memory and the kernel's own %u: at most %u",
                 shared_bytes, kernel->static_shared_bytes, info->max_shared_per_block_bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
