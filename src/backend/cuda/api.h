/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVIDIA's driver library, loaded when the program runs: the functions this backend calls, by the
 * names the library exports. Nothing here is needed to build, and no version is guessed: a function
 * is there or it is not.
 *
 * Source: CUDA Driver API reference manual.
 */
#ifndef VGPU_BACKEND_CUDA_API_H
#define VGPU_BACKEND_CUDA_API_H

#include <stddef.h>

#include "vgpu/cuda.h"

/* X(name, parameters): without these the backend does not work (drivers from 12.2 have them all).
 */
#define CUDA_API_REQUIRED(X)                                                                       \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuDriverGetVersion, (int *version))                                                          \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGet, (CUdevice * device, int ordinal))                                               \
    X(cuDeviceGetName, (char *name, int length, CUdevice device))                                  \
    X(cuDeviceGetUuid_v2, (void *uuid, CUdevice device))                                           \
    X(cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device))                                      \
    X(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                          \
    X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                            \
    X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                             \
    X(cuCtxCreate_v2, (CUcontext * context, unsigned flags, CUdevice device))                      \
    X(cuCtxDestroy_v2, (CUcontext context))                                                        \
    X(cuCtxSetCurrent, (CUcontext context))                                                        \
    X(cuCtxSynchronize, (void))                                                                    \
    X(cuCtxGetLimit, (size_t * value, int limit))                                                  \
    X(cuCtxSetLimit, (int limit, size_t value))                                                    \
    X(cuCtxGetStreamPriorityRange, (int *least, int *greatest))                                    \
    X(cuModuleLoadDataEx,                                                                          \
      (CUmodule * module, const void *image, unsigned count, int *options, void **values))         \
    X(cuModuleUnload, (CUmodule module))                                                           \
    X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))             \
    X(cuModuleGetGlobal_v2,                                                                        \
      (CUdeviceptr * address, size_t * bytes, CUmodule module, const char *name))                  \
    X(cuFuncGetAttribute, (int *value, int attribute, CUfunction function))                        \
    X(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                         \
    X(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,     \
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,      \
                       CUstream stream, void **parameters, void **extra))                          \
    X(cuLaunchCooperativeKernel,                                                                   \
      (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,   \
       unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void **parameters))   \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,                                        \
      (int *blocks, CUfunction function, int block_size, size_t shared, unsigned flags))           \
    X(cuOccupancyAvailableDynamicSMemPerBlock,                                                     \
      (size_t * bytes, CUfunction function, int blocks, int block_size))                           \
    X(cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes))                                        \
    X(cuMemFree_v2, (CUdeviceptr address))                                                         \
    X(cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))                                \
    X(cuMemAllocAsync, (CUdeviceptr * address, size_t bytes, CUstream stream))                     \
    X(cuMemAllocFromPoolAsync,                                                                     \
      (CUdeviceptr * address, size_t bytes, CUmemoryPool pool, CUstream stream))                   \
    X(cuMemFreeAsync, (CUdeviceptr address, CUstream stream))                                      \
    X(cuMemPoolCreate, (CUmemoryPool * pool, const void *properties))                              \
    X(cuMemPoolDestroy, (CUmemoryPool pool))                                                       \
    X(cuMemPoolTrimTo, (CUmemoryPool pool, size_t keep))                                           \
    X(cuMemPoolGetAttribute, (CUmemoryPool pool, int attribute, void *value))                      \
    X(cuMemPoolSetAttribute, (CUmemoryPool pool, int attribute, void *value))                      \
    X(cuDeviceGetDefaultMemPool, (CUmemoryPool * pool, CUdevice device))                           \
    X(cuMemcpyHtoD_v2, (CUdeviceptr destination, const void *source, size_t bytes))                \
    X(cuMemcpyDtoH_v2, (void *destination, CUdeviceptr source, size_t bytes))                      \
    X(cuMemcpyDtoD_v2, (CUdeviceptr destination, CUdeviceptr source, size_t bytes))                \
    X(cuMemcpyHtoDAsync_v2,                                                                        \
      (CUdeviceptr destination, const void *source, size_t bytes, CUstream stream))                \
    X(cuMemcpyDtoHAsync_v2,                                                                        \
      (void *destination, CUdeviceptr source, size_t bytes, CUstream stream))                      \
    X(cuMemcpyDtoDAsync_v2,                                                                        \
      (CUdeviceptr destination, CUdeviceptr source, size_t bytes, CUstream stream))                \
    X(cuMemHostRegister_v2, (void *base, size_t bytes, unsigned flags))                            \
    X(cuMemHostUnregister, (void *base))                                                           \
    X(cuMemcpy3DAsync_v2, (const void *copy, CUstream stream))                                     \
    X(cuMemsetD8_v2, (CUdeviceptr address, unsigned char value, size_t count))                     \
    X(cuMemsetD8Async, (CUdeviceptr address, unsigned char value, size_t count, CUstream stream))  \
    X(cuMemsetD2D8Async, (CUdeviceptr address, size_t pitch, unsigned char value, size_t width,    \
                          size_t height, CUstream stream))                                         \
    X(cuMemsetD2D16Async, (CUdeviceptr address, size_t pitch, unsigned short value, size_t width,  \
                           size_t height, CUstream stream))                                        \
    X(cuMemsetD2D32Async, (CUdeviceptr address, size_t pitch, unsigned value, size_t width,        \
                           size_t height, CUstream stream))                                        \
    X(cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority))               \
    X(cuStreamDestroy_v2, (CUstream stream))                                                       \
    X(cuStreamSynchronize, (CUstream stream))                                                      \
    X(cuStreamQuery, (CUstream stream))                                                            \
    X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                         \
    X(cuEventCreate, (CUevent * event, unsigned flags))                                            \
    X(cuEventDestroy_v2, (CUevent event))                                                          \
    X(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned flags))                    \
    X(cuEventQuery, (CUevent event))                                                               \
    X(cuEventSynchronize, (CUevent event))                                                         \
    X(cuEventElapsedTime, (float *milliseconds, CUevent start, CUevent end))                       \
    X(cuArray3DCreate_v2, (CUarray * array, const void *descriptor))                               \
    X(cuArrayDestroy, (CUarray array))                                                             \
    X(cuTexObjectCreate,                                                                           \
      (CUtexObject * texture, const void *resource, const void *description, const void *view))    \
    X(cuTexObjectDestroy, (CUtexObject texture))                                                   \
    X(cuSurfObjectCreate, (CUsurfObject * surface, const void *resource))                          \
    X(cuSurfObjectDestroy, (CUsurfObject surface))

/* NULL where the driver has none. */
#define CUDA_API_OPTIONAL(X)                                                                       \
    X(cuFuncGetParamInfo, /* from 12.4 */                                                          \
      (CUfunction function, size_t index, size_t * offset, size_t * bytes))

struct cuda_api {
#define CUDA_API_MEMBER(name, parameters) CUresult(*name) parameters;
    CUDA_API_REQUIRED(CUDA_API_MEMBER)
    CUDA_API_OPTIONAL(CUDA_API_MEMBER)
#undef CUDA_API_MEMBER
};

/*
 * Loads the library and fills *api. Returns 0, or -ENOENT with a sentence in why: no library, or
 * the name of the function that it lacks. The library stays loaded: a driver cannot be unloaded
 * safely. VGPU_LIBCUDA in the environment names another file, for tests.
 */
int cuda_api_load(struct cuda_api *api, char *why, size_t why_size);

#endif
