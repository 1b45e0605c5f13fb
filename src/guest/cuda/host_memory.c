/* SPDX-License-Identifier: MIT */
/*
 * Host memory that CUDA knows: allocated by it or registered with it. What it allocates is memory
 * of the window while there is a channel and room in the arena: the GPU's copies go straight there.
 * Without, and what is registered, is ordinary memory, through which copies go by the library. To
 * know that still matters: an asynchronous copy reads such memory when its turn comes, other memory
 * before it returns. Kernels cannot reach any of it, so mapping is refused. And what an address is
 * (cuPointerGetAttribute).
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "guest/cuda/internal.h"

struct vgpu_ranges vgpu_host_ranges;
static uint64_t last_host_id = (uint64_t)1 << 62; /* apart from those of device memory */

/* Ranges of the window: without any, no copy has to look for one. */
static _Atomic unsigned in_window_count;

/* Takes over a copy of `wanted`. */
static CUresult enter(const struct vgpu_range *wanted)
{
    struct vgpu_range *range = malloc(sizeof(*range));
    if (!range)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *range = *wanted;
    vgpu_cuda_lock();
    range->id = ++last_host_id;
    bool good = vgpu_ranges_insert(&vgpu_host_ranges, range);
    vgpu_cuda_unlock();
    if (good && range->in_window)
        atomic_fetch_add(&in_window_count, 1);
    if (good)
        return CUDA_SUCCESS;
    free(range);
    return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}

/* Takes the range that starts there and is of the kind out; NULL: there is none. */
static struct vgpu_range *take(const void *address, int kind)
{
    vgpu_cuda_lock();
    struct vgpu_range *range = vgpu_ranges_find(&vgpu_host_ranges, (uintptr_t)address);
    if (range && (range->start != (uintptr_t)address || (int)range->kind != kind))
        range = NULL;
    if (range)
        vgpu_ranges_remove(&vgpu_host_ranges, range);
    vgpu_cuda_unlock();
    return range;
}

bool vgpu_host_is_pinned(const void *address)
{
    vgpu_cuda_lock();
    bool pinned = vgpu_ranges_find(&vgpu_host_ranges, (uintptr_t)address) != NULL;
    vgpu_cuda_unlock();
    return pinned;
}

/* Notes the use; a context that has to go from the list for it is answered, 0: none. The caller
 * holds the driver's lock. */
static uint64_t note_use(struct vgpu_range *range, uint64_t context)
{
    uint64_t *by = range->used_by;
    if (by[0] == context || by[1] == context)
        return 0;
    for (int i = 0; i < 2; i++) {
        if (by[i] == 0) {
            by[i] = context;
            return 0;
        }
    }
    uint64_t old = by[0];
    by[0] = by[1];
    by[1] = context;
    return old;
}

bool vgpu_host_in_window(const void *address, uint64_t bytes, const struct vgpu_context *context,
                         uint64_t *offset)
{
    uint64_t start = (uintptr_t)address, old = 0;
    if (atomic_load_explicit(&in_window_count, memory_order_relaxed) == 0)
        return false;
    vgpu_cuda_lock();
    struct vgpu_range *range = vgpu_ranges_find(&vgpu_host_ranges, start);
    bool inside = range && range->in_window && bytes <= range->size - (start - range->start);
    if (inside) {
        *offset = range->window_offset + (start - range->start);
        old = note_use(range, context->base.name);
    }
    vgpu_cuda_unlock();
    /* Rare enough, memory that three contexts copy from and to: the first has to be done. */
    if (old)
        vgpu_cuda_tell_late(vgpu_cuda_drain(old));
    return inside;
}

/* Memory for a range that has its size: the window's, or ordinary. */
static bool find_memory(struct vgpu_range *range)
{
    if (vgpu_arena_alloc(range->size, &range->window_offset)) {
        range->in_window = true;
        range->start = (uintptr_t)vgpu_arena_at(range->window_offset);
        return true;
    }
    if (vgpu_cuda.channel)
        vgpu_cuda_debug("%llu bytes of pinned memory: the window's arena has no room, so this is "
                        "ordinary memory, which copies go through staging for",
                        (unsigned long long)range->size);
    void *address =
        mmap(NULL, range->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    range->start = (uintptr_t)address;
    return address != MAP_FAILED;
}

static void free_memory(const struct vgpu_range *range)
{
    if (!range->in_window) {
        munmap((void *)(uintptr_t)range->start, (size_t)range->size);
        return;
    }
    /* Failures that were to be told are not this call's. */
    for (int i = 0; i < 2 && vgpu_arena_is_shared(range->size); i++)
        if (range->used_by[i])
            vgpu_cuda_tell_late(vgpu_cuda_drain(range->used_by[i]));
    vgpu_arena_free(range->window_offset, range->size);
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pp || bytesize == 0 ||
        (Flags &
         ~(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)))
        return CUDA_ERROR_INVALID_VALUE;
    if (Flags & CU_MEMHOSTALLOC_DEVICEMAP)
        return vgpu_cuda_not_supported("host memory mapped into the device");
    struct vgpu_range range = {
        .size = bytesize, .kind = VGPU_RANGE_HOST, .flags = Flags, .context = context};
    if (!find_memory(&range))
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = enter(&range);
    if (result != CUDA_SUCCESS) {
        free_memory(&range);
        return result;
    }
    *pp = (void *)(uintptr_t)range.start;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{
    return cuMemHostAlloc(pp, bytesize, 0);
}

CUresult cuMemFreeHost(void *p)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS || !p)
        return result;
    /* A copy that is held back may still read or write it. */
    result = vgpu_order_wait_context(NULL);
    if (result != CUDA_SUCCESS)
        return result;
    struct vgpu_range *range = take(p, VGPU_RANGE_HOST);
    if (!range)
        return CUDA_ERROR_INVALID_VALUE;
    if (range->in_window)
        atomic_fetch_sub(&in_window_count, 1);
    free_memory(range);
    free(range);
    return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!p || bytesize == 0 || (uintptr_t)p + bytesize < (uintptr_t)p || (Flags & ~15u))
        return CUDA_ERROR_INVALID_VALUE;
    if (Flags & ~CU_MEMHOSTREGISTER_PORTABLE)
        return vgpu_cuda_not_supported("host memory mapped into the device");
    const struct vgpu_range range = {.start = (uintptr_t)p,
                                     .size = bytesize,
                                     .kind = VGPU_RANGE_REGISTERED,
                                     .flags = Flags,
                                     .context = context};
    return enter(&range);
}

CUresult cuMemHostUnregister(void *p)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_order_wait_context(NULL);
    if (result != CUDA_SUCCESS)
        return result;
    if (!p)
        return CUDA_ERROR_INVALID_VALUE;
    struct vgpu_range *range = take(p, VGPU_RANGE_REGISTERED);
    free(range);
    return range ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pdptr || !p || Flags || !vgpu_host_is_pinned(p))
        return CUDA_ERROR_INVALID_VALUE;
    return vgpu_cuda_not_supported("host memory mapped into the device");
}

CUresult cuMemHostGetFlags(unsigned int *pFlags, void *p)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    vgpu_cuda_lock();
    const struct vgpu_range *range = vgpu_ranges_find(&vgpu_host_ranges, (uintptr_t)p);
    bool good = pFlags && range && range->kind == VGPU_RANGE_HOST;
    if (good)
        *pFlags = range->flags;
    vgpu_cuda_unlock();
    return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- What an address is ---- */

/* One attribute of a known address; a copy of the range, so that no lock is needed. */
static CUresult attribute_of(const struct vgpu_range *range, uint64_t address, bool device,
                             int attribute, void *data)
{
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        *(CUcontext *)data = (CUcontext)range->context;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned *)data = device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        if (!device)
            return CUDA_ERROR_INVALID_VALUE; /* kernels cannot reach it */
        *(CUdeviceptr *)data = address;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (device)
            return CUDA_ERROR_INVALID_VALUE;
        *(void **)data = (void *)(uintptr_t)address;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        *(unsigned *)data = 0;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        *(unsigned long long *)data = range->id;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = 0;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *(CUdeviceptr *)data = range->start;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(size_t *)data = (size_t)range->size;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MAPPED:
        *(int *)data = device;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        *(cuuint64_t *)data = 0;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        *(unsigned *)data = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *(CUmemoryPool *)data = NULL;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

/* What of an address nobody owns is left, for cuPointerGetAttributes. */
static void attribute_of_nothing(int attribute, void *data)
{
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *(void **)data = NULL;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(cuuint64_t *)data = 0;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = -2;
        break;
    default:
        *(unsigned *)data = 0;
    }
}

/* A copy of what is known of an address; false: nothing. */
static bool look_up(CUdeviceptr address, struct vgpu_range *range, bool *device)
{
    vgpu_cuda_lock();
    const struct vgpu_range *found = vgpu_ranges_find(&vgpu_device_ranges, address);
    *device = found != NULL;
    if (!found)
        found = vgpu_ranges_find(&vgpu_host_ranges, address);
    if (found)
        *range = *found;
    vgpu_cuda_unlock();
    return found != NULL;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr)
{
    struct vgpu_context *context;
    struct vgpu_range range;
    bool device;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!data || !look_up(ptr, &range, &device))
        return CUDA_ERROR_INVALID_VALUE;
    return attribute_of(&range, ptr, device, (int)attribute, data);
}

CUresult cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute *attributes,
                                void **data, CUdeviceptr ptr)
{
    struct vgpu_context *context;
    struct vgpu_range range;
    bool device;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (numAttributes && (!attributes || !data))
        return CUDA_ERROR_INVALID_VALUE;
    bool known = look_up(ptr, &range, &device);
    for (unsigned i = 0; i < numAttributes; i++) {
        if (!data[i])
            return CUDA_ERROR_INVALID_VALUE;
        if (!known ||
            attribute_of(&range, ptr, device, (int)attributes[i], data[i]) != CUDA_SUCCESS)
            attribute_of_nothing((int)attributes[i], data[i]);
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr ptr)
{
    struct vgpu_context *context;
    struct vgpu_range range;
    bool device;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!value || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || !look_up(ptr, &range, &device))
        return CUDA_ERROR_INVALID_VALUE;
    if (*(const unsigned *)value == 0)
        return CUDA_SUCCESS; /* as it is */
    return vgpu_cuda_not_supported("synchronous memory operations of a range");
}
