/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arrays, textures and surfaces; see driver.c. An array is opaque memory of the card: CUDA checks
 * what is copied to and from it, and its size counts under the quota. */
#include <stdlib.h>
#include <string.h>

#include "driver_calls.h"
#include "vgpu/array_format.h"

/* What it takes at the least; 0: more than 64 bits, or no such format. */
static uint64_t array_bytes(size_t width, size_t height, size_t depth, uint32_t format,
                            uint32_t channels)
{
    uint64_t bytes = vgpu_array_format_bytes(format) * (uint64_t)channels;
    if (__builtin_mul_overflow(bytes, (uint64_t)width, &bytes) ||
        __builtin_mul_overflow(bytes, (uint64_t)(height ? height : 1), &bytes) ||
        __builtin_mul_overflow(bytes, (uint64_t)(depth ? depth : 1), &bytes))
        return 0;
    return bytes;
}

/* Arrays have no addresses that copies name: they are counted, not in the ranges. */
CUresult cuda_call_array_create(struct vgpu_driver *driver, struct vgpu_driver_array **array,
                                size_t width, size_t height, size_t depth, uint32_t format,
                                uint32_t channels, uint32_t flags)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUDA_ARRAY3D_DESCRIPTOR d = {
        .Width = width,
        .Height = height,
        .Depth = depth,
        .Format = (CUarray_format)format,
        .NumChannels = channels,
        .Flags = flags,
    };
    if (channels != 1 && channels != 2 && channels != 4)
        return CUDA_ERROR_INVALID_VALUE;
    if (flags & ~CUDA_ARRAY3D_SURFACE_LDST)
        return CUDA_ERROR_NOT_SUPPORTED;
    uint64_t bytes = array_bytes(width, height, depth, format, channels);
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (!cuda_quota_allows(b, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct vgpu_driver_array *a = calloc(1, sizeof(*a));
    if (!a)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult r = b->api.cuArray3DCreate_v2(&a->cuda, &d);
    if (r != CUDA_SUCCESS) {
        free(a);
        return r;
    }
    a->bytes = bytes;
    a->context = b->current;
    a->next = b->arrays;
    b->arrays = a;
    b->array_bytes += bytes;
    *array = a;
    return CUDA_SUCCESS;
}

void cuda_array_forget(struct vgpu_backend *b, struct vgpu_driver_array *array)
{
    struct vgpu_driver_array **at = &b->arrays;
    while (*at && *at != array)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = array->next;
    b->array_bytes -= array->bytes;
    free(array);
}

CUresult cuda_call_array_destroy(struct vgpu_driver *driver, struct vgpu_driver_array *array)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUresult r = b->api.cuArrayDestroy(array->cuda);
    cuda_array_forget(b, array);
    return r;
}

/* Rows of bytes, one behind the other, to or from an array. */
static CUDA_MEMCPY3D row_copy(size_t row_bytes, size_t rows)
{
    return (CUDA_MEMCPY3D){.WidthInBytes = row_bytes, .Height = rows, .Depth = 1};
}

static bool rows_are(size_t row_bytes, size_t rows, size_t length)
{
    uint64_t bytes;
    return !__builtin_mul_overflow((uint64_t)row_bytes, (uint64_t)rows, &bytes) && bytes == length;
}

CUresult cuda_call_array_write(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                               size_t x_bytes, size_t y, size_t z, size_t row_bytes, size_t rows,
                               struct vgpu_driver_stream *stream, const void *data,
                               size_t data_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!rows_are(row_bytes, rows, data_length))
        return CUDA_ERROR_INVALID_VALUE;
    if (!data_length)
        return CUDA_SUCCESS;
    CUDA_MEMCPY3D copy = row_copy(row_bytes, rows);
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = data;
    copy.srcPitch = row_bytes;
    copy.srcHeight = rows;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = array->cuda;
    copy.dstXInBytes = x_bytes;
    copy.dstY = y;
    copy.dstZ = z;
    CUresult r = b->api.cuMemcpy3DAsync_v2(&copy, cuda_stream_use(b, stream));
    /* Unlike a plain copy, one to an array may read pageable memory later. */
    return r == CUDA_SUCCESS ? cuda_stream_wait(b, cuda_stream_or_default(b, stream)) : r;
}

CUresult cuda_call_array_read(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                              size_t x_bytes, size_t y, size_t z, size_t row_bytes, size_t rows,
                              uint32_t size, struct vgpu_driver_stream *stream, void *data,
                              uint32_t data_capacity, uint32_t *data_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (size > data_capacity || !rows_are(row_bytes, rows, size))
        return CUDA_ERROR_INVALID_VALUE;
    if (size) {
        CUDA_MEMCPY3D copy = row_copy(row_bytes, rows);
        copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
        copy.srcArray = array->cuda;
        copy.srcXInBytes = x_bytes;
        copy.srcY = y;
        copy.srcZ = z;
        copy.dstMemoryType = CU_MEMORYTYPE_HOST;
        copy.dstHost = data;
        copy.dstPitch = row_bytes;
        copy.dstHeight = rows;
        CUresult r = b->api.cuMemcpy3DAsync_v2(&copy, cuda_stream_use(b, stream));
        if (r == CUDA_SUCCESS)
            r = cuda_stream_wait(b, cuda_stream_or_default(b, stream));
        if (r != CUDA_SUCCESS)
            return r;
    }
    *data_length = size;
    return CUDA_SUCCESS;
}

/* Rows of the window, `pitch` apart, hold the box. */
static bool rows_hold(size_t row_bytes, size_t rows, size_t pitch, size_t size)
{
    uint64_t bytes;
    return cuda_ranges_extent(row_bytes, pitch, rows, 0, 1, &bytes) && bytes <= size;
}

CUresult cuda_call_array_write_window(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                                      size_t x_bytes, size_t y, size_t z, size_t row_bytes,
                                      size_t rows, const void *data, size_t size, size_t pitch,
                                      struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!row_bytes || !rows)
        return CUDA_SUCCESS;
    if (!rows_hold(row_bytes, rows, pitch, size))
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D copy = row_copy(row_bytes, rows);
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = data;
    copy.srcPitch = rows > 1 ? pitch : row_bytes;
    copy.srcHeight = rows;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = array->cuda;
    copy.dstXInBytes = x_bytes;
    copy.dstY = y;
    copy.dstZ = z;
    return b->api.cuMemcpy3DAsync_v2(&copy, cuda_stream_use(b, stream));
}

CUresult cuda_call_array_read_window(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                                     size_t x_bytes, size_t y, size_t z, size_t row_bytes,
                                     size_t rows, void *data, size_t size, size_t pitch,
                                     struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!row_bytes || !rows)
        return CUDA_SUCCESS;
    if (!rows_hold(row_bytes, rows, pitch, size))
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D copy = row_copy(row_bytes, rows);
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.srcArray = array->cuda;
    copy.srcXInBytes = x_bytes;
    copy.srcY = y;
    copy.srcZ = z;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = data;
    copy.dstPitch = rows > 1 ? pitch : row_bytes;
    copy.dstHeight = rows;
    return b->api.cuMemcpy3DAsync_v2(&copy, cuda_stream_use(b, stream));
}

/* One end of array_copy: an array, or device memory that must hold all of it. `z` steps in
 * slices. */
struct end {
    struct vgpu_driver_array *array;
    CUdeviceptr address;
    size_t pitch, slice, x_bytes, y, z;
};

static bool end_holds(const struct vgpu_backend *b, const struct end *e, size_t row_bytes,
                      size_t rows, size_t depth)
{
    uint64_t bytes;
    if (e->array)
        return true; /* CUDA checks */
    return !e->x_bytes && !e->y && !e->z &&
           cuda_ranges_extent(row_bytes, e->pitch, rows, e->slice, depth, &bytes) &&
           cuda_ranges_hold(&b->ranges, e->address, bytes);
}

CUresult cuda_call_array_copy(struct vgpu_driver *driver,
                              struct vgpu_driver_array *destination_array, CUdeviceptr destination,
                              size_t destination_pitch, size_t destination_slice,
                              size_t destination_x_bytes, size_t destination_y,
                              size_t destination_z, struct vgpu_driver_array *source_array,
                              CUdeviceptr source, size_t source_pitch, size_t source_slice,
                              size_t source_x_bytes, size_t source_y, size_t source_z,
                              size_t row_bytes, size_t rows, size_t depth,
                              struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    struct end to = {destination_array,   destination,   destination_pitch, destination_slice,
                     destination_x_bytes, destination_y, destination_z};
    struct end from = {source_array,   source,   source_pitch, source_slice,
                       source_x_bytes, source_y, source_z};
    if (!row_bytes || !rows || !depth)
        return CUDA_SUCCESS;
    if ((!to.array && !from.array) || !end_holds(b, &to, row_bytes, rows, depth) ||
        !end_holds(b, &from, row_bytes, rows, depth))
        return CUDA_ERROR_INVALID_VALUE;
    /* More slices than any array has: nothing for a loop to find out. */
    if (depth > 16384)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t z = 0; z < depth; z++) {
        CUDA_MEMCPY3D copy = row_copy(row_bytes, rows);
        copy.dstMemoryType = to.array ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_DEVICE;
        copy.dstArray = to.array ? to.array->cuda : NULL;
        copy.dstDevice = to.array ? 0 : to.address + z * to.slice;
        copy.dstPitch = to.pitch;
        copy.dstHeight = rows;
        copy.dstXInBytes = to.x_bytes;
        copy.dstY = to.y;
        copy.dstZ = to.array ? to.z + z : 0;
        copy.srcMemoryType = from.array ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_DEVICE;
        copy.srcArray = from.array ? from.array->cuda : NULL;
        copy.srcDevice = from.array ? 0 : from.address + z * from.slice;
        copy.srcPitch = from.pitch;
        copy.srcHeight = rows;
        copy.srcXInBytes = from.x_bytes;
        copy.srcY = from.y;
        copy.srcZ = from.array ? from.z + z : 0;
        CUresult r = b->api.cuMemcpy3DAsync_v2(&copy, cuda_stream_use(b, stream));
        if (r != CUDA_SUCCESS)
            return r;
    }
    return CUDA_SUCCESS;
}

/* ---- Textures and surfaces: their numbers are CUDA's own, since kernels carry them ---- */

#define TEXTURE_FLAGS_KNOWN                                                                        \
    (CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_SRGB |                     \
     CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION)

/* The memory a texture reads must be the session's: its kernels would read it unchecked. */
static CUresult texture_resource(const struct vgpu_backend *b, CUDA_RESOURCE_DESC *resource,
                                 uint32_t type, const struct vgpu_driver_array *array,
                                 CUdeviceptr address, uint32_t format, uint32_t channels,
                                 size_t width, size_t height, size_t pitch)
{
    memset(resource, 0, sizeof(*resource));
    resource->resType = (CUresourcetype)type;
    uint64_t texel = vgpu_array_format_bytes(format) * (uint64_t)channels, bytes;
    switch (type) {
    case CU_RESOURCE_TYPE_ARRAY:
        if (!array)
            return CUDA_ERROR_INVALID_HANDLE;
        resource->res.array.hArray = array->cuda;
        return CUDA_SUCCESS;
    case CU_RESOURCE_TYPE_LINEAR: /* width is in bytes */
        if (!cuda_ranges_hold(&b->ranges, address, width))
            return CUDA_ERROR_INVALID_VALUE;
        resource->res.linear.devPtr = address;
        resource->res.linear.format = (CUarray_format)format;
        resource->res.linear.numChannels = channels;
        resource->res.linear.sizeInBytes = width;
        return CUDA_SUCCESS;
    case CU_RESOURCE_TYPE_PITCH2D:
        if (!texel || __builtin_mul_overflow(texel, (uint64_t)width, &bytes) ||
            !cuda_ranges_extent(bytes, pitch, height, 0, 1, &bytes) ||
            !cuda_ranges_hold(&b->ranges, address, bytes))
            return CUDA_ERROR_INVALID_VALUE;
        resource->res.pitch2D.devPtr = address;
        resource->res.pitch2D.format = (CUarray_format)format;
        resource->res.pitch2D.numChannels = channels;
        resource->res.pitch2D.width = width;
        resource->res.pitch2D.height = height;
        resource->res.pitch2D.pitchInBytes = pitch;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult cuda_call_texture_create(struct vgpu_driver *driver, uint64_t *texture,
                                  uint32_t resource_type, struct vgpu_driver_array *array,
                                  CUdeviceptr address, uint32_t format, uint32_t channels,
                                  size_t width, size_t height, size_t pitch,
                                  uint32_t address_mode_0, uint32_t address_mode_1,
                                  uint32_t address_mode_2, uint32_t filter_mode, uint32_t flags,
                                  float border_0, float border_1, float border_2, float border_3)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUDA_RESOURCE_DESC resource;
    if (flags & ~TEXTURE_FLAGS_KNOWN || address_mode_0 > 3 || address_mode_1 > 3 ||
        address_mode_2 > 3 || filter_mode > 1)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult r = texture_resource(b, &resource, resource_type, array, address, format, channels,
                                  width, height, pitch);
    if (r != CUDA_SUCCESS)
        return r;
    CUDA_TEXTURE_DESC d = {
        .addressMode = {(CUaddress_mode)address_mode_0, (CUaddress_mode)address_mode_1,
                        (CUaddress_mode)address_mode_2},
        .filterMode = (CUfilter_mode)filter_mode,
        .flags = flags,
        .borderColor = {border_0, border_1, border_2, border_3},
    };
    CUtexObject made = 0;
    r = b->api.cuTexObjectCreate(&made, &resource, &d, NULL);
    *texture = made;
    return r;
}

CUresult cuda_call_texture_destroy(struct vgpu_driver *driver, uint64_t texture)
{
    return cuda_of_driver(driver)->api.cuTexObjectDestroy(texture);
}

CUresult cuda_call_surface_create(struct vgpu_driver *driver, uint64_t *surface,
                                  struct vgpu_driver_array *array)
{
    CUDA_RESOURCE_DESC resource;
    memset(&resource, 0, sizeof(resource));
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array->cuda;
    CUsurfObject made = 0;
    CUresult r = cuda_of_driver(driver)->api.cuSurfObjectCreate(&made, &resource);
    *surface = made;
    return r;
}

CUresult cuda_call_surface_destroy(struct vgpu_driver *driver, uint64_t surface)
{
    return cuda_of_driver(driver)->api.cuSurfObjectDestroy(surface);
}
