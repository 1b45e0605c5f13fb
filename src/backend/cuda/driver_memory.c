/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory, copies and pools; see driver.c. */
#include <stdlib.h>
#include <string.h>

#include "driver_calls.h"

CUresult cuda_call_memory_alloc(struct vgpu_driver *driver, CUdeviceptr *address, size_t size)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    uint64_t got = 0;
    CUresult r = cuda_memory_alloc(b, size, b->current, &got);
    *address = got;
    return r;
}

CUresult cuda_call_memory_free(struct vgpu_driver *driver, CUdeviceptr address)
{
    return cuda_memory_free(cuda_of_driver(driver), address);
}

CUresult cuda_call_memory_info(struct vgpu_driver *driver, size_t *free_bytes, size_t *total_bytes)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    size_t card_free = 0, card_total = 0;
    CUresult r = b->api.cuMemGetInfo_v2(&card_free, &card_total);
    *total_bytes = b->quota_bytes;
    *free_bytes = cuda_left_bytes(b);
    if (*free_bytes > card_free)
        *free_bytes = card_free;
    return r;
}

CUresult cuda_call_memory_alloc_async(struct vgpu_driver *driver, CUdeviceptr *address, size_t size,
                                      struct vgpu_driver_pool *pool,
                                      struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    *address = 0;
    if (!size)
        return CUDA_ERROR_INVALID_VALUE;
    if (!cuda_quota_allows(b, size) || !cuda_ranges_reserve(&b->ranges))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUdeviceptr got = 0;
    CUresult r = pool ? b->api.cuMemAllocFromPoolAsync(&got, size, (CUmemoryPool)(void *)pool,
                                                       cuda_stream_use(b, stream))
                      : b->api.cuMemAllocAsync(&got, size, cuda_stream_use(b, stream));
    if (r != CUDA_SUCCESS)
        return r;
    r = b->api.cuMemsetD8Async(got, 0, size, cuda_stream_use(b, stream));
    if (r == CUDA_SUCCESS && !cuda_ranges_add(&b->ranges, got, size, b->current, false))
        r = CUDA_ERROR_UNKNOWN;
    if (r != CUDA_SUCCESS) {
        (void)b->api.cuMemFreeAsync(got, cuda_stream_use(b, stream));
        return r;
    }
    *address = got;
    return CUDA_SUCCESS;
}

CUresult cuda_call_memory_free_async(struct vgpu_driver *driver, CUdeviceptr address,
                                     struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!cuda_ranges_allocation(&b->ranges, address))
        return CUDA_ERROR_INVALID_VALUE;
    CUresult r = b->api.cuMemFreeAsync(address, cuda_stream_use(b, stream));
    if (r == CUDA_SUCCESS)
        cuda_ranges_remove(&b->ranges, address);
    return r;
}

CUresult cuda_call_copy_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                  struct vgpu_driver_stream *stream, const void *data,
                                  size_t data_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!data_length)
        return CUDA_SUCCESS;
    if (!cuda_ranges_hold(&b->ranges, destination, data_length))
        return CUDA_ERROR_INVALID_VALUE;
    /* From pageable memory: the driver has staged the bytes when it returns. */
    return b->api.cuMemcpyHtoDAsync_v2(destination, data, data_length, cuda_stream_use(b, stream));
}

CUresult cuda_call_copy_from_device(struct vgpu_driver *driver, CUdeviceptr source, uint32_t size,
                                    struct vgpu_driver_stream *stream, void *data,
                                    uint32_t data_capacity, uint32_t *data_length)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (size > data_capacity)
        return CUDA_ERROR_INVALID_VALUE;
    if (size) {
        if (!cuda_ranges_hold(&b->ranges, source, size))
            return CUDA_ERROR_INVALID_VALUE;
        CUresult r = b->api.cuMemcpyDtoHAsync_v2(data, source, size, cuda_stream_use(b, stream));
        if (r == CUDA_SUCCESS)
            r = cuda_stream_wait(b, cuda_stream_or_default(b, stream));
        if (r != CUDA_SUCCESS)
            return r;
    }
    *data_length = size;
    return CUDA_SUCCESS;
}

CUresult cuda_call_copy_on_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                  CUdeviceptr source, size_t size,
                                  struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!size)
        return CUDA_SUCCESS;
    if (!cuda_ranges_hold(&b->ranges, destination, size) ||
        !cuda_ranges_hold(&b->ranges, source, size))
        return CUDA_ERROR_INVALID_VALUE;
    return b->api.cuMemcpyDtoDAsync_v2(destination, source, size, cuda_stream_use(b, stream));
}

CUresult cuda_call_copy_window_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                         size_t size, const void *source,
                                         struct vgpu_driver_stream *stream)
{
    return cuda_call_copy_to_device(driver, destination, stream, source, size);
}

CUresult cuda_call_copy_device_to_window(struct vgpu_driver *driver, void *destination,
                                         CUdeviceptr source, size_t size,
                                         struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (!size)
        return CUDA_SUCCESS;
    if (!cuda_ranges_hold(&b->ranges, source, size))
        return CUDA_ERROR_INVALID_VALUE;
    return b->api.cuMemcpyDtoHAsync_v2(destination, source, size, cuda_stream_use(b, stream));
}

/* One side of a copy of boxes: in device memory, or in `bytes` bytes of the window. */
struct side {
    CUdeviceptr address;
    void *window; /* only read, when it is the source */
    size_t bytes;
    bool in_window;
    size_t pitch, slice;
};

static bool side_holds(const struct vgpu_backend *b, const struct side *s, size_t width,
                       size_t height, size_t depth)
{
    uint64_t bytes;
    if (!cuda_ranges_extent(width, s->pitch, height, s->slice, depth, &bytes))
        return false;
    return s->in_window ? bytes <= s->bytes : cuda_ranges_hold(&b->ranges, s->address, bytes);
}

/* How many calls of the driver one copy may become. */
#define SLICES_MAX 65536u
/* CU_DEVICE_ATTRIBUTE_MAX_PITCH of every GPU. */
#define PITCH_MAX  0x7fffffffu

static CUresult copy_box(struct vgpu_backend *b, const struct side *to, const struct side *from,
                         size_t width, size_t height, size_t depth,
                         struct vgpu_driver_stream *stream)
{
    if (!width || !height || !depth)
        return CUDA_SUCCESS;
    if (!side_holds(b, to, width, height, depth) || !side_holds(b, from, width, height, depth))
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D copy = {
        .srcMemoryType = from->in_window ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE,
        .srcHost = from->window,
        .srcDevice = from->address,
        .srcPitch = from->pitch,
        .srcHeight = height,
        .dstMemoryType = to->in_window ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE,
        .dstHost = to->window,
        .dstDevice = to->address,
        .dstPitch = to->pitch,
        .dstHeight = height,
        .WidthInBytes = width,
        .Height = height,
        .Depth = 1,
    };
    if (height == 1 && from->slice <= PITCH_MAX && to->slice <= PITCH_MAX) {
        /* Slices of one row are rows. */
        copy.srcPitch = depth > 1 ? from->slice : width;
        copy.dstPitch = depth > 1 ? to->slice : width;
        copy.srcHeight = copy.dstHeight = copy.Height = depth;
        depth = 1;
    } else if (depth > 1 && from->slice % from->pitch == 0 && to->slice % to->pitch == 0) {
        copy.srcHeight = from->slice / from->pitch;
        copy.dstHeight = to->slice / to->pitch;
        copy.Depth = depth;
        depth = 1;
    }
    /* CUDA has slices as numbers of rows. Where they are none, slice by slice. */
    if (depth > SLICES_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    CUstream s = cuda_stream_use(b, stream);
    for (size_t z = 0; z < depth; z++) {
        CUresult r = b->api.cuMemcpy3DAsync_v2(&copy, s);
        if (r != CUDA_SUCCESS)
            return r;
        copy.srcDevice += from->in_window ? 0 : from->slice;
        copy.dstDevice += to->in_window ? 0 : to->slice;
        if (z + 1 < depth && from->in_window)
            copy.srcHost = (const uint8_t *)copy.srcHost + from->slice;
        if (z + 1 < depth && to->in_window)
            copy.dstHost = (uint8_t *)copy.dstHost + to->slice;
    }
    return CUDA_SUCCESS;
}

CUresult cuda_call_copy_rect(struct vgpu_driver *driver, CUdeviceptr destination,
                             size_t destination_pitch, size_t destination_slice, CUdeviceptr source,
                             size_t source_pitch, size_t source_slice, size_t width, size_t height,
                             size_t depth, struct vgpu_driver_stream *stream)
{
    struct side to = {
        .address = destination, .pitch = destination_pitch, .slice = destination_slice};
    struct side from = {.address = source, .pitch = source_pitch, .slice = source_slice};
    return copy_box(cuda_of_driver(driver), &to, &from, width, height, depth, stream);
}

CUresult cuda_call_copy_rect_window_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                              size_t destination_pitch, size_t destination_slice,
                                              const void *source, size_t source_bytes,
                                              size_t source_pitch, size_t source_slice,
                                              size_t width, size_t height, size_t depth,
                                              struct vgpu_driver_stream *stream)
{
    struct side to = {
        .address = destination, .pitch = destination_pitch, .slice = destination_slice};
    struct side from = {.window = (void *)(uintptr_t)source,
                        .bytes = source_bytes,
                        .in_window = true,
                        .pitch = source_pitch,
                        .slice = source_slice};
    return copy_box(cuda_of_driver(driver), &to, &from, width, height, depth, stream);
}

CUresult cuda_call_copy_rect_device_to_window(struct vgpu_driver *driver, void *destination,
                                              size_t destination_bytes, size_t destination_pitch,
                                              size_t destination_slice, CUdeviceptr source,
                                              size_t source_pitch, size_t source_slice,
                                              size_t width, size_t height, size_t depth,
                                              struct vgpu_driver_stream *stream)
{
    struct side to = {.window = destination,
                      .bytes = destination_bytes,
                      .in_window = true,
                      .pitch = destination_pitch,
                      .slice = destination_slice};
    struct side from = {.address = source, .pitch = source_pitch, .slice = source_slice};
    return copy_box(cuda_of_driver(driver), &to, &from, width, height, depth, stream);
}

CUresult cuda_call_memory_set(struct vgpu_driver *driver, CUdeviceptr destination, size_t pitch,
                              uint32_t value, uint32_t element_bytes, size_t width, size_t height,
                              struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUstream s = cuda_stream_use(b, stream);
    uint64_t row, bytes;
    if (!width || !height)
        return CUDA_SUCCESS;
    if ((element_bytes != 1 && element_bytes != 2 && element_bytes != 4) ||
        destination % element_bytes || (height > 1 && pitch % element_bytes) ||
        __builtin_mul_overflow((uint64_t)width, element_bytes, &row))
        return CUDA_ERROR_INVALID_VALUE;
    if (height == 1)
        pitch = row;
    if (!cuda_ranges_extent(row, pitch, height, 0, 1, &bytes) ||
        !cuda_ranges_hold(&b->ranges, destination, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    switch (element_bytes) {
    case 1:
        return b->api.cuMemsetD2D8Async(destination, pitch, (unsigned char)value, width, height, s);
    case 2:
        return b->api.cuMemsetD2D16Async(destination, pitch, (unsigned short)value, width, height,
                                         s);
    default:
        return b->api.cuMemsetD2D32Async(destination, pitch, value, width, height, s);
    }
}

/* ---- Pools ---- */

enum { POOL_ATTRIBUTE_RELEASE_THRESHOLD = 4 }; /* CUmemPool_attribute */

/* NULL is the default pool. */
static CUresult find_pool(struct vgpu_backend *b, struct vgpu_driver_pool *pool, CUmemoryPool *out)
{
    CUresult r = CUDA_SUCCESS;
    if (!pool && !b->default_pool)
        r = b->api.cuDeviceGetDefaultMemPool(&b->default_pool, b->device);
    *out = pool ? (CUmemoryPool)(void *)pool : b->default_pool;
    return r;
}

CUresult cuda_call_pool_create(struct vgpu_driver *driver, struct vgpu_driver_pool **pool,
                               uint64_t max_bytes)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUmemPoolProps properties = {
        .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = b->device},
        .maxSize = max_bytes,
    };
    CUmemoryPool made = NULL;
    CUresult r = b->api.cuMemPoolCreate(&made, &properties);
    *pool = (struct vgpu_driver_pool *)(void *)made;
    return r;
}

CUresult cuda_call_pool_destroy(struct vgpu_driver *driver, struct vgpu_driver_pool *pool)
{
    return cuda_of_driver(driver)->api.cuMemPoolDestroy((CUmemoryPool)(void *)pool);
}

CUresult cuda_call_pool_trim(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                             size_t keep_bytes)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUmemoryPool p;
    CUresult r = find_pool(b, pool, &p);
    return r == CUDA_SUCCESS ? b->api.cuMemPoolTrimTo(p, keep_bytes) : r;
}

CUresult cuda_call_pool_get_attribute(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                                      int attribute, uint64_t *value)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUmemoryPool p;
    uint64_t got = 0; /* the reuse switches are ints, the sizes 64 bits */
    CUresult r = find_pool(b, pool, &p);
    if (r == CUDA_SUCCESS)
        r = b->api.cuMemPoolGetAttribute(p, attribute, &got);
    *value = got;
    return r;
}

CUresult cuda_call_pool_set_attribute(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                                      int attribute, uint64_t value)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    CUmemoryPool p;
    CUresult r = find_pool(b, pool, &p);
    /* Memory that a pool keeps for later counts against the card, but is in no range: so the
     * quota's size is the most that may be kept. */
    if (attribute == POOL_ATTRIBUTE_RELEASE_THRESHOLD && value > b->quota_bytes)
        value = b->quota_bytes;
    return r == CUDA_SUCCESS ? b->api.cuMemPoolSetAttribute(p, attribute, &value) : r;
}
