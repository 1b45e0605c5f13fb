/* SPDX-License-Identifier: MIT */
/* The calls that copy and set memory, each as a box for copy.c. */
#include "guest/cuda/internal.h"

static struct vgpu_place host_place(const void *address)
{
    return (struct vgpu_place){.type = VGPU_PLACE_HOST, .host = (uint8_t *)(uintptr_t)address};
}

static struct vgpu_place device_place(CUdeviceptr address)
{
    return (struct vgpu_place){.type = VGPU_PLACE_DEVICE, .device = address};
}

/* What an address is: the device's, when it is in one of its ranges; else the host's. */
static struct vgpu_place unified_place(CUdeviceptr address)
{
    vgpu_cuda_lock();
    bool device = vgpu_ranges_find(&vgpu_device_ranges, address) != NULL;
    vgpu_cuda_unlock();
    return device ? device_place(address) : host_place((const void *)(uintptr_t)address);
}

static CUresult linear(struct vgpu_place to, struct vgpu_place from, size_t bytes, CUstream handle,
                       bool async)
{
    struct vgpu_stream *stream;
    struct vgpu_copy copy = {to, from, bytes, 1, 1};
    CUresult result = vgpu_stream_find(handle, &stream);
    return result == CUDA_SUCCESS ? vgpu_copy_run(stream, &copy, async) : result;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
    return linear(device_place(dstDevice), host_place(srcHost), ByteCount, NULL, false);
}

CUresult cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
    return linear(host_place(dstHost), device_place(srcDevice), ByteCount, NULL, false);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount)
{
    return linear(device_place(dstDevice), device_place(srcDevice), ByteCount, NULL, false);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount,
                              CUstream hStream)
{
    return linear(device_place(dstDevice), host_place(srcHost), ByteCount, hStream, true);
}

CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                              CUstream hStream)
{
    return linear(host_place(dstHost), device_place(srcDevice), ByteCount, hStream, true);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
                              CUstream hStream)
{
    return linear(device_place(dstDevice), device_place(srcDevice), ByteCount, hStream, true);
}

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
{
    return linear(unified_place(dst), unified_place(src), ByteCount, NULL, false);
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream)
{
    return linear(unified_place(dst), unified_place(src), ByteCount, hStream, true);
}

/* Between contexts of the one device: addresses are good in all of them. */
CUresult cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                           CUcontext srcContext, size_t ByteCount, CUstream hStream)
{
    struct vgpu_context *context;
    CUresult result = vgpu_context_find(dstContext, &context);
    if (result == CUDA_SUCCESS)
        result = vgpu_context_find(srcContext, &context);
    return result == CUDA_SUCCESS
               ? linear(device_place(dstDevice), device_place(srcDevice), ByteCount, hStream, true)
               : result;
}

CUresult cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                      CUcontext srcContext, size_t ByteCount)
{
    return cuMemcpyPeerAsync(dstDevice, dstContext, srcDevice, srcContext, ByteCount, NULL);
}

/* ---- Boxes ---- */

/* One side of a described copy. */
struct side {
    CUmemorytype type;
    const void *host;
    CUdeviceptr device;
    CUarray array;
    size_t x, y, z, lod, pitch, height;
};

static CUresult place_of(const struct side *side, size_t width, size_t height, size_t depth,
                         struct vgpu_place *place)
{
    switch ((int)side->type) {
    case CU_MEMORYTYPE_HOST:
        *place = host_place(side->host);
        break;
    case CU_MEMORYTYPE_DEVICE:
        *place = device_place(side->device);
        break;
    case CU_MEMORYTYPE_UNIFIED:
        *place = unified_place(side->device);
        break;
    case CU_MEMORYTYPE_ARRAY:
        *place = (struct vgpu_place){.type = VGPU_PLACE_ARRAY,
                                     .array = vgpu_object_find(side->array, VGPU_KIND_ARRAY),
                                     .x = side->x,
                                     .y = side->y,
                                     .z = side->z};
        if (!place->array)
            return CUDA_ERROR_INVALID_HANDLE;
        return side->lod ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    /* Limits that keep the sums below from wrapping: no memory is that large. */
    const size_t most = (size_t)1 << 47;
    size_t pitch = side->pitch ? side->pitch : side->x + width;
    size_t rows = side->height ? side->height : side->y + height;
    if (side->x > most || side->y > most || side->z > most || width > most || height > most ||
        depth > most || pitch > most || rows > most || side->lod ||
        ((height > 1 || side->y) && pitch < side->x + width) ||
        ((depth > 1 || side->z) && rows < side->y + height) ||
        (side->y && pitch > most / side->y) || (rows && pitch > most / rows) ||
        (side->z && pitch * rows > most / side->z))
        return CUDA_ERROR_INVALID_VALUE;
    place->pitch = pitch;
    place->slice = pitch * rows;
    uint64_t skip = side->z * place->slice + side->y * pitch + side->x;
    if (place->type == VGPU_PLACE_DEVICE)
        place->device += skip;
    else if (place->host)
        place->host += skip;
    return CUDA_SUCCESS;
}

CUresult vgpu_copy_of_3d(const CUDA_MEMCPY3D *from, struct vgpu_copy *copy)
{
    if (!from || from->reserved0 || from->reserved1)
        return CUDA_ERROR_INVALID_VALUE;
    const struct side source = {
        from->srcMemoryType, from->srcHost, from->srcDevice, from->srcArray, from->srcXInBytes,
        from->srcY,          from->srcZ,    from->srcLOD,    from->srcPitch, from->srcHeight};
    const struct side destination = {
        from->dstMemoryType, from->dstHost, from->dstDevice, from->dstArray, from->dstXInBytes,
        from->dstY,          from->dstZ,    from->dstLOD,    from->dstPitch, from->dstHeight};
    copy->width = from->WidthInBytes;
    copy->height = from->Height;
    copy->depth = from->Depth;
    CUresult result = place_of(&source, copy->width, copy->height, copy->depth, &copy->from);
    if (result == CUDA_SUCCESS)
        result = place_of(&destination, copy->width, copy->height, copy->depth, &copy->to);
    return result;
}

static CUresult box(const CUDA_MEMCPY3D *described, CUstream handle, bool async)
{
    struct vgpu_stream *stream;
    struct vgpu_copy copy;
    CUresult result = vgpu_stream_find(handle, &stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_copy_of_3d(described, &copy);
    return result == CUDA_SUCCESS ? vgpu_copy_run(stream, &copy, async) : result;
}

static CUresult plane(const CUDA_MEMCPY2D *p, CUstream handle, bool async)
{
    if (!p)
        return CUDA_ERROR_INVALID_VALUE;
    const CUDA_MEMCPY3D described = {.srcXInBytes = p->srcXInBytes,
                                     .srcY = p->srcY,
                                     .srcMemoryType = p->srcMemoryType,
                                     .srcHost = p->srcHost,
                                     .srcDevice = p->srcDevice,
                                     .srcArray = p->srcArray,
                                     .srcPitch = p->srcPitch,
                                     .dstXInBytes = p->dstXInBytes,
                                     .dstY = p->dstY,
                                     .dstMemoryType = p->dstMemoryType,
                                     .dstHost = p->dstHost,
                                     .dstDevice = p->dstDevice,
                                     .dstArray = p->dstArray,
                                     .dstPitch = p->dstPitch,
                                     .WidthInBytes = p->WidthInBytes,
                                     .Height = p->Height,
                                     .Depth = 1};
    return box(&described, handle, async);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy)
{
    return plane(pCopy, NULL, false);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy)
{
    return plane(pCopy, NULL, false);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
    return plane(pCopy, hStream, true);
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy)
{
    return box(pCopy, NULL, false);
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
    return box(pCopy, hStream, true);
}

/* ---- Setting ---- */

CUresult vgpu_set_check(struct vgpu_context *context, const struct vgpu_set *set)
{
    uint32_t element = set->element_bytes;
    const size_t most = (size_t)1 << 47;
    if (element != 1 && element != 2 && element != 4)
        return CUDA_ERROR_INVALID_VALUE;
    if (set->width == 0 || set->height == 0)
        return CUDA_SUCCESS;
    if (set->destination % element || set->width > most / 4 || set->height > most ||
        (set->height > 1 && (set->pitch % element || set->pitch < set->width * element ||
                             set->pitch > most / set->height)))
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t bytes =
        (set->height > 1 ? (set->height - 1) * set->pitch : 0) + (uint64_t)set->width * element;
    return vgpu_memory_check(context, set->destination, bytes);
}

CUresult vgpu_set_run(struct vgpu_stream *stream, const struct vgpu_set *set)
{
    CUresult result = vgpu_set_check(stream->base.context, set);
    if (result != CUDA_SUCCESS || set->width == 0 || set->height == 0)
        return result;
    if (vgpu_capture_set(stream, set, &result))
        return result;
    result = vgpu_order_begin(stream);
    if (result != CUDA_SUCCESS)
        return result;
    result = vgpu_call_memory_set(stream->base.context->base.name, set->destination, set->pitch,
                                  set->value, set->element_bytes, set->width, set->height,
                                  stream->base.name);
    vgpu_order_end();
    return result;
}

static CUresult set_memory(CUdeviceptr destination, size_t pitch, uint32_t value,
                           uint32_t element_bytes, size_t width, size_t height, CUstream handle)
{
    struct vgpu_stream *stream;
    const struct vgpu_set set = {destination, height > 1 ? pitch : width * element_bytes,
                                 width,       height,
                                 value,       element_bytes};
    CUresult result = vgpu_stream_find(handle, &stream);
    return result == CUDA_SUCCESS ? vgpu_set_run(stream, &set) : result;
}

CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N)
{
    return set_memory(dstDevice, 0, uc, 1, N, 1, NULL);
}

CUresult cuMemsetD16_v2(CUdeviceptr dstDevice, unsigned short us, size_t N)
{
    return set_memory(dstDevice, 0, us, 2, N, 1, NULL);
}

CUresult cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned int ui, size_t N)
{
    return set_memory(dstDevice, 0, ui, 4, N, 1, NULL);
}

CUresult cuMemsetD2D8_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width,
                         size_t Height)
{
    return set_memory(dstDevice, dstPitch, uc, 1, Width, Height, NULL);
}

CUresult cuMemsetD2D16_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width,
                          size_t Height)
{
    return set_memory(dstDevice, dstPitch, us, 2, Width, Height, NULL);
}

CUresult cuMemsetD2D32_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width,
                          size_t Height)
{
    return set_memory(dstDevice, dstPitch, ui, 4, Width, Height, NULL);
}

CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream)
{
    return set_memory(dstDevice, 0, uc, 1, N, 1, hStream);
}

CUresult cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream)
{
    return set_memory(dstDevice, 0, us, 2, N, 1, hStream);
}

CUresult cuMemsetD32Async(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream)
{
    return set_memory(dstDevice, 0, ui, 4, N, 1, hStream);
}

CUresult cuMemsetD2D8Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width,
                           size_t Height, CUstream hStream)
{
    return set_memory(dstDevice, dstPitch, uc, 1, Width, Height, hStream);
}

CUresult cuMemsetD2D16Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width,
                            size_t Height, CUstream hStream)
{
    return set_memory(dstDevice, dstPitch, us, 2, Width, Height, hStream);
}

CUresult cuMemsetD2D32Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width,
                            size_t Height, CUstream hStream)
{
    return set_memory(dstDevice, dstPitch, ui, 4, Width, Height, hStream);
}

/* ---- One-dimensional copies of arrays ---- */

static CUresult array_place(CUarray handle, size_t offset, struct vgpu_place *place)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    *place = (struct vgpu_place){
        .type = VGPU_PLACE_ARRAY, .array = vgpu_object_find(handle, VGPU_KIND_ARRAY), .x = offset};
    return place->array ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult to_array(CUarray array, size_t offset, struct vgpu_place from, size_t bytes,
                         CUstream handle, bool async)
{
    struct vgpu_place to;
    CUresult result = array_place(array, offset, &to);
    return result == CUDA_SUCCESS ? linear(to, from, bytes, handle, async) : result;
}

static CUresult from_array(struct vgpu_place to, CUarray array, size_t offset, size_t bytes,
                           CUstream handle, bool async)
{
    struct vgpu_place from;
    CUresult result = array_place(array, offset, &from);
    return result == CUDA_SUCCESS ? linear(to, from, bytes, handle, async) : result;
}

CUresult cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
                         size_t ByteCount)
{
    return to_array(dstArray, dstOffset, device_place(srcDevice), ByteCount, NULL, false);
}

CUresult cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
                         size_t ByteCount)
{
    return from_array(device_place(dstDevice), srcArray, srcOffset, ByteCount, NULL, false);
}

CUresult cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount)
{
    return to_array(dstArray, dstOffset, host_place(srcHost), ByteCount, NULL, false);
}

CUresult cuMemcpyAtoH_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount)
{
    return from_array(host_place(dstHost), srcArray, srcOffset, ByteCount, NULL, false);
}

CUresult cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void *srcHost,
                              size_t ByteCount, CUstream hStream)
{
    return to_array(dstArray, dstOffset, host_place(srcHost), ByteCount, hStream, true);
}

CUresult cuMemcpyAtoHAsync_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount,
                              CUstream hStream)
{
    return from_array(host_place(dstHost), srcArray, srcOffset, ByteCount, hStream, true);
}

CUresult cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
                         size_t ByteCount)
{
    struct vgpu_place from;
    CUresult result = array_place(srcArray, srcOffset, &from);
    return result == CUDA_SUCCESS ? to_array(dstArray, dstOffset, from, ByteCount, NULL, false)
                                  : result;
}
