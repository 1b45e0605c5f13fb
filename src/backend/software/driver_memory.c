/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device memory of the software driver: what a context and its pools hold. The memory is the
 * backend's; each region knows its owner, so that it ends with its context. Pools keep nothing in
 * reserve: what is freed is free.
 */
#include <stdlib.h>

#include "software.h"
#include "sw_driver.h"

/* CUmemPool_attribute */
enum {
    POOL_REUSE_FIRST = 1,
    POOL_REUSE_LAST = 3,
    POOL_RELEASE_THRESHOLD = 4,
    POOL_RESERVED_CURRENT = 5,
    POOL_RESERVED_HIGH = 6,
    POOL_USED_CURRENT = 7,
    POOL_USED_HIGH = 8
};

static void begin_pool(struct vgpu_driver_pool *pool, struct vgpu_driver_context *context)
{
    *pool = (struct vgpu_driver_pool){.context = context, .reuse = {1, 1, 1}};
}

void sw_memory_begin(struct vgpu_driver_context *context)
{
    begin_pool(&context->memory, context);
    begin_pool(&context->default_pool, context);
    LIST_INIT(&context->pools);
}

void sw_memory_end(struct sw_driver *d, struct vgpu_driver_context *context)
{
    uint64_t from = 0;
    const struct ptx_region *r;
    while ((r = vgpu_ptx_memory_from(d->memory, from))) {
        const struct vgpu_driver_pool *owner = r->owner;
        from = r->base + 1;
        if (owner && owner->context == context)
            (void)vgpu_ptx_memory_release(d->memory, r->base, false);
    }
    struct vgpu_driver_pool *pool;
    while ((pool = LIST_FIRST(&context->pools))) {
        LIST_REMOVE(pool, link);
        free(pool);
    }
}

static CUresult allocate(struct sw_driver *d, CUdeviceptr *address, size_t size,
                         struct vgpu_driver_pool *pool)
{
    uint64_t at;
    if (pool->max_bytes && (size > pool->max_bytes || pool->used_bytes > pool->max_bytes - size))
        return sw_refuse(d, CUDA_ERROR_OUT_OF_MEMORY, "the pool holds at most %llu bytes",
                         (unsigned long long)pool->max_bytes);
    CUresult status = vgpu_ptx_memory_alloc(d->memory, size, false, &at);
    if (status == CUDA_ERROR_OUT_OF_MEMORY)
        return sw_refuse(d, status, "%zu bytes: %llu are free", size,
                         (unsigned long long)(d->memory->quota_bytes - d->memory->used_bytes));
    if (status != CUDA_SUCCESS)
        return status;
    vgpu_ptx_memory_set_owner(d->memory, at, pool);
    pool->used_bytes += size;
    if (pool->used_bytes > pool->used_high)
        pool->used_high = pool->used_bytes;
    if (pool->used_bytes > pool->reserved_high)
        pool->reserved_high = pool->used_bytes;
    *address = at;
    return CUDA_SUCCESS;
}

static CUresult release(struct sw_driver *d, CUdeviceptr address)
{
    const struct ptx_region *r = vgpu_ptx_memory_find(d->memory, address);
    if (!r || r->base != address || !r->owner)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "0x%llx is not the address of an allocation",
                         address);
    struct vgpu_driver_pool *pool = r->owner;
    pool->used_bytes -= r->size_bytes;
    (void)vgpu_ptx_memory_release(d->memory, address, false);
    if (pool->destroyed && !pool->used_bytes) {
        LIST_REMOVE(pool, link);
        free(pool);
    }
    return CUDA_SUCCESS;
}

CUresult sw_memory_alloc(struct vgpu_driver *driver, CUdeviceptr *address, size_t size)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    return status == CUDA_SUCCESS ? allocate(d, address, size, &d->current->memory) : status;
}

CUresult sw_memory_free(struct vgpu_driver *driver, CUdeviceptr address)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !address)
        return status; /* freeing 0 does nothing */
    return release(d, address);
}

CUresult sw_memory_info(struct vgpu_driver *driver, size_t *free_bytes, size_t *total_bytes)
{
    struct sw_driver *d = sw_of(driver);
    uint64_t free_now, total;
    CUresult status = sw_ready(d);
    if (status == CUDA_SUCCESS)
        status = vgpu_backend_software.mem_info(d->backend, &free_now, &total);
    if (status != CUDA_SUCCESS)
        return status;
    *free_bytes = (size_t)free_now;
    *total_bytes = (size_t)total;
    return CUDA_SUCCESS;
}

static struct vgpu_driver_pool *pool_or_default(struct sw_driver *d, struct vgpu_driver_pool *pool)
{
    return pool ? pool : &d->current->default_pool;
}

CUresult sw_memory_alloc_async(struct vgpu_driver *driver, CUdeviceptr *address, size_t size,
                               struct vgpu_driver_pool *pool, struct vgpu_driver_stream *stream)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    return status == CUDA_SUCCESS ? allocate(d, address, size, pool_or_default(d, pool)) : status;
}

CUresult sw_memory_free_async(struct vgpu_driver *driver, CUdeviceptr address,
                              struct vgpu_driver_stream *stream)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    return status == CUDA_SUCCESS ? release(d, address) : status;
}

CUresult sw_pool_create(struct vgpu_driver *driver, struct vgpu_driver_pool **pool,
                        uint64_t max_bytes)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_driver_pool *p = malloc(sizeof(*p));
    if (!p)
        return CUDA_ERROR_OUT_OF_MEMORY;
    begin_pool(p, d->current);
    p->max_bytes = max_bytes;
    LIST_INSERT_HEAD(&d->current->pools, p, link);
    *pool = p;
    return CUDA_SUCCESS;
}

CUresult sw_pool_destroy(struct vgpu_driver *driver, struct vgpu_driver_pool *pool)
{
    struct sw_driver *d = sw_of(driver);
    pool->destroyed = true;
    if (!pool->used_bytes) {
        LIST_REMOVE(pool, link);
        free(pool);
    }
    return sw_ready(d);
}

CUresult sw_pool_trim(struct vgpu_driver *driver, struct vgpu_driver_pool *pool, size_t keep_bytes)
{
    return sw_ready(sw_of(driver)); /* a pool never holds more than what is used */
}

CUresult sw_pool_get_attribute(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                               int attribute, uint64_t *value)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    pool = pool_or_default(d, pool);
    if (attribute >= POOL_REUSE_FIRST && attribute <= POOL_REUSE_LAST)
        *value = pool->reuse[attribute - POOL_REUSE_FIRST];
    else if (attribute == POOL_RELEASE_THRESHOLD)
        *value = pool->threshold;
    else if (attribute == POOL_RESERVED_CURRENT || attribute == POOL_USED_CURRENT)
        *value = pool->used_bytes;
    else if (attribute == POOL_RESERVED_HIGH)
        *value = pool->reserved_high;
    else if (attribute == POOL_USED_HIGH)
        *value = pool->used_high;
    else
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "pool attribute %d is none", attribute);
    return CUDA_SUCCESS;
}

CUresult sw_pool_set_attribute(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                               int attribute, uint64_t value)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    pool = pool_or_default(d, pool);
    if (attribute >= POOL_REUSE_FIRST && attribute <= POOL_REUSE_LAST && value <= 1)
        pool->reuse[attribute - POOL_REUSE_FIRST] = value;
    else if (attribute == POOL_RELEASE_THRESHOLD)
        pool->threshold = value;
    else if (attribute == POOL_RESERVED_HIGH && !value)
        pool->reserved_high = pool->used_bytes; /* 0 begins anew, no other number can be set */
    else if (attribute == POOL_USED_HIGH && !value)
        pool->used_high = pool->used_bytes;
    else
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "pool attribute %d cannot be %llu", attribute,
                         (unsigned long long)value);
    return CUDA_SUCCESS;
}
