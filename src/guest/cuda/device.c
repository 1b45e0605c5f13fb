/* SPDX-License-Identifier: MIT */
/*
 * The device: one, number 0, answered from what was asked once at cuInit. A VM sees its share as
 * its card. What this library does not do is not there, whatever the card can.
 */
#include <stdio.h>
#include <strings.h>

#include "guest/cuda/internal.h"

/* Attributes that say what this library does, not what the card can. */
static const struct {
    int attribute;
    int value;
} overridden[] = {
    {15, 0},                       /* overlap of copies with kernels: not through the mailbox */
    {18, 0},                       /* integrated */
    {19, 0},                       /* mapped host memory */
    {20, 0},                       /* compute mode: default */
    {41, 1},                       /* unified addressing: addresses are told apart */
    {83, 0},                       /* managed memory */
    {84, 0},                       /* multi-GPU board */
    {86, 0},                       /* native atomics on host memory */
    {88, 0},                       /* pageable memory */
    {89, 0},                       /* concurrent managed access */
    {91, 0},                       /* host pointers in kernels */
    {92, 0},                       /* stream memory operations */
    {93, 0},   {94, 0},  {96, 0},  /* cooperative launch over devices */
    {98, 0},                       /* flush of remote writes */
    {99, 1},                       /* cuMemHostRegister */
    {100, 0},                      /* host page tables */
    {101, 0},                      /* direct managed access from the host */
    {102, 0},                      /* virtual memory management */
    {103, 0},                      /* shareable handles */
    {104, 0},  {105, 0}, {107, 0}, /* compression */
    {110, 0},                      /* RDMA */
    {112, 0},                      /* sparse arrays */
    {113, 0},                      /* read-only registration */
    {114, 0},                      /* timeline semaphores */
    {116, 0},                      /* RDMA */
    {119, 0},                      /* handles of pools */
    {120, 0},                      /* clusters */
    {121, 0},                      /* deferred mapping of arrays */
    {122, 0},                      /* stream memory operations */
    {123, 0},  {124, 0},           /* dma-buf */
    {125, 0},                      /* events between processes */
    {127, 0},                      /* tensor maps */
    {128, 0},                      /* fabric handles */
    {129, 0},                      /* unified function pointers */
    {130, 0},                      /* NUMA */
    {131, -1}, {132, 0},           /* multicast */
    {134, -1}, {135, 0},           /* graphics */
    {136, 0},                      /* decompression */
    {138, 0},  {141, 0},           /* host memory management */
    {142, 0},  {143, 0}, {144, 0}, {145, 0}, {146, 0},
};

void vgpu_cuda_settle_attributes(void)
{
    for (size_t i = 0; i < sizeof(overridden) / sizeof(overridden[0]); i++)
        vgpu_cuda.attributes[overridden[i].attribute] = overridden[i].value;
}

CUresult vgpu_cuda_check_device(CUdevice device)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    CUresult result = vgpu_cuda_check_device(ordinal);
    if (result != CUDA_SUCCESS)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
    CUresult result = vgpu_cuda_check_device(0);
    if (result != CUDA_SUCCESS)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!name || len <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, (size_t)len, "%s", vgpu_cuda.info.name);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!uuid)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(uuid->bytes, vgpu_cuda.info.uuid, sizeof(uuid->bytes));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
    return cuDeviceGetUuid(uuid, dev);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    *bytes = (size_t)vgpu_cuda.info.total_memory_bytes;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pi || (int)attrib <= 0 || (int)attrib >= VGPU_CUDA_DEVICE_ATTRIBUTE_END)
        return CUDA_ERROR_INVALID_VALUE;
    *pi = vgpu_cuda_attribute((int)attrib);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *prop, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!prop)
        return CUDA_ERROR_INVALID_VALUE;
    *prop = (CUdevprop){
        .maxThreadsPerBlock = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
        .sharedMemPerBlock = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
        .totalConstantMemory = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY),
        .SIMDWidth = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE),
        .memPitch = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH),
        .regsPerBlock = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
        .clockRate = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
        .textureAlign = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT),
    };
    for (int i = 0; i < 3; i++) {
        prop->maxThreadsDim[i] = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i);
        prop->maxGridSize[i] = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i);
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!major || !minor)
        return CUDA_ERROR_INVALID_VALUE;
    *major = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    *minor = vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    return CUDA_SUCCESS;
}

static void format_bus_id(char text[16])
{
    snprintf(text, 16, "%04x:%02x:%02x.0",
             (unsigned)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID) & 0xffffu,
             (unsigned)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID) & 0xffu,
             (unsigned)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID) & 0xffu);
}

CUresult cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    char text[16];
    format_bus_id(text);
    if (!pciBusId || len <= (int)strlen(text))
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(pciBusId, (size_t)len, "%s", text);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId)
{
    CUresult result = vgpu_cuda_check_device(0);
    if (result != CUDA_SUCCESS)
        return result;
    if (!dev || !pciBusId)
        return CUDA_ERROR_INVALID_VALUE;
    char text[16];
    format_bus_id(text);
    /* The domain and the function may be left out. */
    const char *asked = pciBusId, *ours = text;
    if (strlen(asked) < 10)
        ours += 5;
    if (strncasecmp(asked, ours, strlen(ours) - 2) != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *dev = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *canAccessPeer, CUdevice dev, CUdevice peerDev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result == CUDA_SUCCESS)
        result = vgpu_cuda_check_device(peerDev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!canAccessPeer)
        return CUDA_ERROR_INVALID_VALUE;
    *canAccessPeer = 0; /* a device is no peer of itself */
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                 CUdevice dstDevice)
{
    CUresult result = vgpu_cuda_check_device(srcDevice);
    if (result == CUDA_SUCCESS)
        result = vgpu_cuda_check_device(dstDevice);
    if (result != CUDA_SUCCESS)
        return result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_ERROR_INVALID_DEVICE; /* source and destination are the same */
}
