/* SPDX-License-Identifier: MIT */
/*
 * The CUDA driver API's binary interface, as far as this project speaks it: types only. The
 * functions are in api/cuda.calls, which makes their prototypes. Written from the public reference;
 * never included beside NVIDIA's cuda.h.
 *
 * Source: CUDA Driver API reference manual, "Data types used by CUDA driver".
 */
#ifndef VGPU_CUDA_H
#define VGPU_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "vgpu/curesult.h"

typedef unsigned long long CUdeviceptr;
typedef int CUdevice;
typedef uint32_t cuuint32_t;
typedef uint64_t cuuint64_t;

typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUlib_st *CUlibrary;
typedef struct CUkern_st *CUkernel;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUarray_st *CUarray;
typedef struct CUmemPoolHandle_st *CUmemoryPool;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;
typedef unsigned long long CUtexObject;
typedef unsigned long long CUsurfObject;

#endif
