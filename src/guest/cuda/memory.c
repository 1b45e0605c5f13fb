/* SPDX-License-Identifier: MIT */
/*
 * Device memory as the guest keeps it: which ranges there are, so that a bad free or copy fails at
 * once, and the same ranges reserved in our own address space, so that no host pointer ever looks
 * like a device pointer. Pools, whose memory comes and goes in stream order.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/cuda/internal.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17; before that the address is only a wish */
#endif

struct vgpu_ranges vgpu_device_ranges;
static uint64_t last_id;

/* ---- Ranges ---- */

/*
 * Reserves the whole pages of a range: two allocations may share one, and the first would keep the
 * second from it. A part that the process uses already stays as it is: addresses are looked up
 * among the device's first, so that costs only the telling apart.
 */
static void reserve(struct vgpu_range *range)
{
    const uint64_t page = 4096;
    uint64_t start = (range->start + page - 1) & ~(page - 1);
    uint64_t end = (range->start + range->size) & ~(page - 1);
    if (start < range->start || end <= start || end > (uint64_t)1 << 47)
        return;
    /* Past the C library, and so past sanitizers, which have views of their own on what may lie
     * where; nobody ever touches this memory. */
    long got = syscall(SYS_mmap, start, (size_t)(end - start), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1L, 0L);
    if (got != -1 && (uint64_t)got == start) {
        range->reserved_start = start;
        range->reserved_size = end - start;
        return;
    }
    if (got != -1)
        syscall(SYS_munmap, got, (size_t)(end - start));
    vgpu_cuda_debug("0x%llx, %llu bytes of device memory, is in use in this process",
                    (unsigned long long)range->start, (unsigned long long)range->size);
}

static void free_range(struct vgpu_range *range)
{
    if (range->reserved_size)
        syscall(SYS_munmap, range->reserved_start, (size_t)range->reserved_size);
    free(range);
}

bool vgpu_memory_enter(struct vgpu_context *context, uint64_t address, uint64_t size, int kind,
                       const void *owner)
{
    struct vgpu_range *range = calloc(1, sizeof(*range));
    if (!range)
        return false;
    range->start = address;
    range->size = size;
    range->kind = kind;
    range->context = context;
    range->owner = owner;
    vgpu_cuda_lock();
    range->id = ++last_id;
    const struct vgpu_range *known = vgpu_ranges_find(&vgpu_device_ranges, address);
    /* A global is asked for again and again. */
    bool again = kind == VGPU_RANGE_GLOBAL && known && known->kind == VGPU_RANGE_GLOBAL &&
                 known->start == address && known->size == size;
    bool good = again || (address != 0 && vgpu_ranges_insert(&vgpu_device_ranges, range));
    vgpu_cuda_unlock();
    if (!good || again)
        free(range);
    else
        reserve(range);
    if (!good)
        vgpu_cuda_debug("the host gave us 0x%llx, %llu bytes, which cannot be",
                        (unsigned long long)address, (unsigned long long)size);
    return good;
}

struct owned {
    const struct vgpu_context *context;
    const void *owner;
};

static bool is_owned(const struct vgpu_range *range, const void *with)
{
    const struct owned *by = with;
    return by->owner ? range->owner == by->owner : range->context == by->context;
}

void vgpu_memory_forget(const struct vgpu_context *context, const void *owner)
{
    const struct owned by = {context, owner};
    for (;;) {
        vgpu_cuda_lock();
        struct vgpu_range *range = vgpu_ranges_take(&vgpu_device_ranges, is_owned, &by);
        vgpu_cuda_unlock();
        if (!range)
            return;
        free_range(range);
    }
}

CUresult vgpu_memory_check(struct vgpu_context *context, uint64_t address, uint64_t size)
{
    if (size == 0)
        return CUDA_SUCCESS;
    if (address + size < address)
        return CUDA_ERROR_INVALID_VALUE;
    vgpu_cuda_lock();
    const struct vgpu_range *range = vgpu_ranges_find(&vgpu_device_ranges, address);
    bool inside = range && size <= range->size - (address - range->start);
    bool known = range != NULL;
    vgpu_cuda_unlock();
    if (inside)
        return CUDA_SUCCESS;
    /* A global of a module that was never asked for by name? Only the host knows. */
    uint8_t byte;
    uint32_t length = 0;
    if (known)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result =
        vgpu_call_copy_from_device(context->base.name, address, 1, 0, &byte, 1, &length);
    if (result == CUDA_SUCCESS && size > 1)
        result = vgpu_call_copy_from_device(context->base.name, address + size - 1, 1, 0, &byte, 1,
                                            &length);
    return result;
}

/* ---- Allocations ---- */

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
    struct vgpu_context *context;
    CUdeviceptr address = 0;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!dptr || bytesize == 0)
        return CUDA_ERROR_INVALID_VALUE;
    result = vgpu_call_memory_alloc(context->base.name, &address, bytesize);
    if (result != CUDA_SUCCESS)
        return result;
    if (!vgpu_memory_enter(context, address, bytesize, VGPU_RANGE_ALLOC, NULL)) {
        if (address)
            (void)vgpu_call_memory_free(context->base.name, address);
        return CUDA_ERROR_UNKNOWN;
    }
    *dptr = address;
    return CUDA_SUCCESS;
}

/* Rows begin where textures may begin, which is also where accesses coalesce. */
CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
                            unsigned int ElementSizeBytes)
{
    if (!dptr || !pPitch || WidthInBytes == 0 || Height == 0 ||
        (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16))
        return CUDA_ERROR_INVALID_VALUE;
    size_t align = (size_t)vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
    if (align == 0 || (align & (align - 1)) != 0 || align < 512)
        align = 512;
    size_t pitch = (WidthInBytes + align - 1) & ~(align - 1);
    if (pitch < WidthInBytes || pitch > SIZE_MAX / Height)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = cuMemAlloc_v2(dptr, pitch * Height);
    if (result == CUDA_SUCCESS)
        *pPitch = pitch;
    return result;
}

/* Takes the allocation that starts at the address out of the table, and says whose it was. */
static CUresult take_allocation(CUdeviceptr address, uint64_t *context_name)
{
    vgpu_cuda_lock();
    struct vgpu_range *range = vgpu_ranges_find(&vgpu_device_ranges, address);
    bool good = range && range->start == address && range->kind == VGPU_RANGE_ALLOC;
    if (good) {
        *context_name = range->context->base.name;
        vgpu_ranges_remove(&vgpu_device_ranges, range);
    }
    vgpu_cuda_unlock();
    if (!good)
        return CUDA_ERROR_INVALID_VALUE;
    free_range(range);
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
    struct vgpu_context *context;
    uint64_t owner;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS || dptr == 0)
        return result;
    /* What is held back may still use it. */
    result = vgpu_order_wait_context(NULL);
    if (result == CUDA_SUCCESS)
        result = take_allocation(dptr, &owner);
    return result == CUDA_SUCCESS ? vgpu_call_memory_free(owner, dptr) : result;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    vgpu_cuda_lock();
    const struct vgpu_range *range = vgpu_ranges_find(&vgpu_device_ranges, dptr);
    if (range && pbase)
        *pbase = range->start;
    if (range && psize)
        *psize = (size_t)range->size;
    vgpu_cuda_unlock();
    return range ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* ---- Pools ---- */

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

/* The device's own pool: the host knows it as 0. */
static CUresult default_pool(struct vgpu_memory_pool **pool)
{
    if (!vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED))
        return CUDA_ERROR_NOT_SUPPORTED;
    pthread_mutex_lock(&pool_lock);
    if (!vgpu_cuda.default_pool) {
        struct vgpu_memory_pool *made = vgpu_object_new(VGPU_KIND_POOL, NULL);
        if (made) {
            made->base.name = 0;
            made->is_default = true;
        }
        vgpu_cuda.default_pool = made;
    }
    *pool = vgpu_cuda.default_pool;
    pthread_mutex_unlock(&pool_lock);
    return *pool ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* The one cuMemAllocAsync takes from. */
static CUresult current_pool(struct vgpu_memory_pool **pool)
{
    pthread_mutex_lock(&pool_lock);
    *pool = vgpu_object_find(vgpu_cuda.current_pool, VGPU_KIND_POOL);
    pthread_mutex_unlock(&pool_lock);
    return *pool ? CUDA_SUCCESS : default_pool(pool);
}

static CUresult find_pool(CUmemoryPool handle, struct vgpu_context **context,
                          struct vgpu_memory_pool **pool)
{
    CUresult result = vgpu_cuda_enter_context(context);
    if (result != CUDA_SUCCESS)
        return result;
    *pool = vgpu_object_find(handle, VGPU_KIND_POOL);
    return *pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
    struct vgpu_memory_pool *pool;
    CUresult result = vgpu_cuda_check_device(dev);
    if (result == CUDA_SUCCESS)
        result = pool_out ? default_pool(&pool) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *pool_out = (CUmemoryPool)pool;
    return result;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
    struct vgpu_memory_pool *found;
    CUresult result = vgpu_cuda_check_device(dev);
    if (result == CUDA_SUCCESS)
        result = pool ? current_pool(&found) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *pool = (CUmemoryPool)found;
    return result;
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!vgpu_object_find(pool, VGPU_KIND_POOL))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&pool_lock);
    vgpu_cuda.current_pool = pool;
    pthread_mutex_unlock(&pool_lock);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pool || !poolProps || poolProps->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE || poolProps->location.id != 0)
        return vgpu_cuda_not_supported("a pool that is not on the device");
    if (poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE || poolProps->usage)
        return vgpu_cuda_not_supported("a pool with shareable handles");
    if (!vgpu_cuda_attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED))
        return CUDA_ERROR_NOT_SUPPORTED;
    struct vgpu_memory_pool *made = vgpu_object_new(VGPU_KIND_POOL, context);
    if (!made)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = vgpu_call_pool_create(context->base.name, made->base.name, poolProps->maxSize);
    if (result != CUDA_SUCCESS) {
        vgpu_object_free(&made->base);
        return result;
    }
    *pool = (CUmemoryPool)made;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool handle)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = find_pool(handle, &context, &pool);
    if (result != CUDA_SUCCESS)
        return result;
    if (pool->is_default)
        return CUDA_ERROR_INVALID_VALUE;
    result = vgpu_order_wait_context(NULL);
    if (result != CUDA_SUCCESS)
        return result;
    /* Its allocations live on until each is freed, as CUDA says. */
    result = vgpu_call_pool_destroy(pool->base.context->base.name, pool->base.name);
    vgpu_object_free(&pool->base);
    return result;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t minBytesToKeep)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = find_pool(handle, &context, &pool);
    return result == CUDA_SUCCESS
               ? vgpu_call_pool_trim(context->base.name, pool->base.name, minBytesToKeep)
               : result;
}

/* The first three attributes are ints, the others 64 bits. */
static bool is_small(int attribute)
{
    return attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
}

static bool is_pool_attribute(int attribute)
{
    return attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
           attribute <= CU_MEMPOOL_ATTR_USED_MEM_HIGH;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attr, void *value)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    uint64_t found = 0;
    CUresult result = find_pool(handle, &context, &pool);
    if (result == CUDA_SUCCESS && (!value || !is_pool_attribute((int)attr)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result =
            vgpu_call_pool_get_attribute(context->base.name, pool->base.name, (int)attr, &found);
    if (result != CUDA_SUCCESS)
        return result;
    if (is_small((int)attr))
        *(int *)value = (int)found;
    else
        *(cuuint64_t *)value = found;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attr, void *value)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = find_pool(handle, &context, &pool);
    if (result == CUDA_SUCCESS && (!value || !is_pool_attribute((int)attr)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    uint64_t wanted =
        is_small((int)attr) ? (uint64_t)(unsigned)*(const int *)value : *(const cuuint64_t *)value;
    return vgpu_call_pool_set_attribute(context->base.name, pool->base.name, (int)attr, wanted);
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool, CUmemLocation *location)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = find_pool(memPool, &context, &pool);
    if (result != CUDA_SUCCESS)
        return result;
    if (!flags || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE || location->id != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return CUDA_SUCCESS;
}

/* The only device has access to its memory, and that cannot be taken away. */
CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc *map, size_t count)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = find_pool(handle, &context, &pool);
    if (result != CUDA_SUCCESS)
        return result;
    if (!map && count)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || map[i].location.id != 0)
            return CUDA_ERROR_INVALID_DEVICE;
        if (map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
            return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

static CUresult alloc_async(CUdeviceptr *dptr, size_t size, struct vgpu_memory_pool *pool,
                            CUstream handle)
{
    struct vgpu_stream *stream;
    CUdeviceptr address = 0;
    CUresult result = vgpu_stream_find(handle, &stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_capture_refuse(stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (!dptr)
        return CUDA_ERROR_INVALID_VALUE;
    if (size == 0) { /* unlike cuMemAlloc's, that is no error */
        *dptr = 0;
        return CUDA_SUCCESS;
    }
    struct vgpu_context *context = stream->base.context;
    /* Also when the stream is held: memory that is there too early is there in time. */
    result = vgpu_call_memory_alloc_async(context->base.name, &address, size, pool->base.name,
                                          stream->base.name);
    if (result != CUDA_SUCCESS)
        return result;
    if (!vgpu_memory_enter(context, address, size, VGPU_RANGE_ALLOC, NULL))
        return CUDA_ERROR_UNKNOWN;
    *dptr = address;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = current_pool(&pool);
    return result == CUDA_SUCCESS ? alloc_async(dptr, bytesize, pool, hStream) : result;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool handle,
                                 CUstream hStream)
{
    struct vgpu_context *context;
    struct vgpu_memory_pool *pool;
    CUresult result = find_pool(handle, &context, &pool);
    return result == CUDA_SUCCESS ? alloc_async(dptr, bytesize, pool, hStream) : result;
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)
{
    struct vgpu_stream *stream;
    uint64_t owner;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_capture_refuse(stream);
    if (result != CUDA_SUCCESS || dptr == 0)
        return result;
    result = take_allocation(dptr, &owner);
    if (result == CUDA_SUCCESS)
        result = vgpu_order_begin(stream);
    if (result != CUDA_SUCCESS)
        return result;
    result = vgpu_call_memory_free_async(stream->base.context->base.name, dptr, stream->base.name);
    vgpu_order_end();
    return result;
}
