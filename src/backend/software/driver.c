/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The software driver: its table, its contexts and their limits; see sw_driver.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "software.h"
#include "sw_driver.h"

#define DEFAULT_STACK_BYTES  1024u
#define DEFAULT_PRINTF_BYTES (1u << 20)
#define MAX_PRINTF_BYTES     (64u << 20)

/* Flags of a context: how the host waits (one of 0, 1, 2, 4), map host memory, keep local memory,
 * and what debuggers ask for. All of it is about a driver in the caller's process. */
#define CONTEXT_SCHEDULING 0x07u
#define CONTEXT_FLAGS      0xffu

enum { LIMIT_STACK, LIMIT_PRINTF, LIMIT_HEAP, LIMIT_LAST = 6 };

CUresult sw_refuse(struct sw_driver *d, CUresult status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(d->base.text, sizeof(d->base.text), format, args);
    va_end(args);
    return status;
}

static CUresult sticky(struct sw_driver *d)
{
    CUresult status = vgpu_backend_software.synchronize(d->backend);
    if (status != CUDA_SUCCESS)
        snprintf(d->base.text, sizeof(d->base.text), "%s", vgpu_software_last_error(d->backend));
    return status;
}

CUresult sw_ready(struct sw_driver *d)
{
    CUresult status = sticky(d);
    return status == CUDA_SUCCESS && !d->current ? CUDA_ERROR_INVALID_CONTEXT : status;
}

static CUresult context_use(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    sw_of(driver)->current = context;
    return CUDA_SUCCESS;
}

static CUresult driver_version(struct vgpu_driver *driver, int32_t *version)
{
    *version = SW_DRIVER_CUDA;
    return CUDA_SUCCESS;
}

static CUresult make_context(struct sw_driver *d, struct vgpu_driver_context **context,
                             bool primary)
{
    struct vgpu_driver_context *c = calloc(1, sizeof(*c));
    if (!c)
        return CUDA_ERROR_OUT_OF_MEMORY;
    c->primary = primary;
    c->references = 1;
    c->limits[LIMIT_STACK] = DEFAULT_STACK_BYTES;
    c->limits[LIMIT_PRINTF] = DEFAULT_PRINTF_BYTES;
    sw_memory_begin(c);
    LIST_INIT(&c->modules);
    LIST_INIT(&c->streams);
    LIST_INIT(&c->events);
    LIST_INIT(&c->arrays);
    LIST_INIT(&c->objects);
    LIST_INSERT_HEAD(&d->contexts, c, link);
    d->context_count += !primary;
    *context = c;
    return CUDA_SUCCESS;
}

static CUresult check_context_flags(struct sw_driver *d, uint32_t flags)
{
    uint32_t how = flags & CONTEXT_SCHEDULING;
    if ((flags & ~CONTEXT_FLAGS) || (how & (how - 1)))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "context flags 0x%x", flags);
    return sticky(d);
}

static CUresult primary_retain(struct vgpu_driver *driver, struct vgpu_driver_context **context,
                               uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = check_context_flags(d, flags);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_driver_context *c;
    for (c = LIST_FIRST(&d->contexts); c; c = LIST_NEXT(c, link)) {
        if (c->primary) {
            c->references++;
            *context = c;
            return CUDA_SUCCESS;
        }
    }
    return make_context(d, context, true);
}

static CUresult context_create(struct vgpu_driver *driver, struct vgpu_driver_context **context,
                               uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = check_context_flags(d, flags);
    if (status != CUDA_SUCCESS)
        return status;
    if (d->context_count >= SW_CONTEXTS_MAX)
        return sw_refuse(d, CUDA_ERROR_OUT_OF_MEMORY,
                         "a session has at most %u contexts beside the primary one",
                         SW_CONTEXTS_MAX);
    return make_context(d, context, false);
}

static void end_context(struct sw_driver *d, struct vgpu_driver_context *c)
{
    if (d->current == c)
        d->current = NULL;
    sw_arrays_end(d, c);
    sw_modules_end(d, c);
    sw_streams_end(c);
    sw_memory_end(d, c);
    d->context_count -= !c->primary;
    LIST_REMOVE(c, link);
    free(c);
}

static CUresult context_destroy(struct vgpu_driver *driver, struct vgpu_driver_context *context)
{
    struct sw_driver *d = sw_of(driver);
    if (--context->references == 0)
        end_context(d, context);
    return sticky(d);
}

static CUresult context_synchronize(struct vgpu_driver *driver)
{
    return sw_ready(sw_of(driver));
}

static CUresult check_limit(struct sw_driver *d, int limit)
{
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (limit < 0 || limit > LIMIT_LAST)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "limit %d is none", limit);
    if (limit != LIMIT_STACK && limit != LIMIT_PRINTF)
        return sw_refuse(d, CUDA_ERROR_NOT_SUPPORTED, "limit %d has no meaning on this device",
                         limit);
    return CUDA_SUCCESS;
}

static CUresult get_limit(struct vgpu_driver *driver, size_t *value, int limit)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = check_limit(d, limit);
    if (status == CUDA_SUCCESS)
        *value = d->current->limits[limit];
    return status;
}

static CUresult set_limit(struct vgpu_driver *driver, int limit, size_t value)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = check_limit(d, limit);
    if (status != CUDA_SUCCESS)
        return status;
    size_t most = limit == LIMIT_STACK ? PTX_MAX_LOCAL_BYTES : MAX_PRINTF_BYTES;
    if (value > most)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "limit %d is at most %zu bytes here", limit,
                         most);
    d->current->limits[limit] = value;
    return CUDA_SUCCESS;
}

/* Everything has run when a call returns: no stream goes before another. */
static CUresult stream_priority_range(struct vgpu_driver *driver, int32_t *least, int32_t *greatest)
{
    *least = 0;
    *greatest = 0;
    return sw_ready(sw_of(driver));
}

static CUresult printf_read(struct vgpu_driver *driver, uint32_t size, uint64_t *lost, void *text,
                            uint32_t text_capacity, uint32_t *text_length)
{
    *text_length = (uint32_t)vgpu_software_take_printf(
        sw_of(driver)->backend, text, size < text_capacity ? size : text_capacity, lost);
    return CUDA_SUCCESS;
}

const struct vgpu_driver_ops vgpu_software_driver_ops = {
    .context_use = context_use,
    .device_attributes = sw_device_attributes,
    .driver_version = driver_version,
    .primary_retain = primary_retain,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .context_synchronize = context_synchronize,
    .cuCtxGetLimit = get_limit,
    .cuCtxSetLimit = set_limit,
    .stream_priority_range = stream_priority_range,
    .printf_read = printf_read,
    .module_load = sw_module_load,
    .module_unload = sw_module_unload,
    .function_get = sw_function_get,
    .function_params = sw_function_params,
    .module_global = sw_module_global,
    .function_get_attribute = sw_function_get_attribute,
    .function_set_attribute = sw_function_set_attribute,
    .launch = sw_launch,
    .cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags = sw_occupancy_blocks,
    .cuOccupancyAvailableDynamicSMemPerBlock = sw_occupancy_shared,
    .memory_alloc = sw_memory_alloc,
    .memory_free = sw_memory_free,
    .cuMemGetInfo_v2 = sw_memory_info,
    .memory_alloc_async = sw_memory_alloc_async,
    .memory_free_async = sw_memory_free_async,
    .copy_to_device = sw_copy_to_device,
    .copy_from_device = sw_copy_from_device,
    .copy_on_device = sw_copy_on_device,
    .copy_rect = sw_copy_rect,
    .copy_window_to_device = sw_copy_window_to_device,
    .copy_device_to_window = sw_copy_device_to_window,
    .copy_rect_window_to_device = sw_copy_rect_window_to_device,
    .copy_rect_device_to_window = sw_copy_rect_device_to_window,
    .memory_set = sw_memory_set,
    .pool_create = sw_pool_create,
    .pool_destroy = sw_pool_destroy,
    .pool_trim = sw_pool_trim,
    .pool_get_attribute = sw_pool_get_attribute,
    .pool_set_attribute = sw_pool_set_attribute,
    .stream_create = sw_stream_create,
    .stream_destroy = sw_stream_destroy,
    .stream_synchronize = sw_stream_synchronize,
    .stream_fence = sw_stream_synchronize,
    .stream_query = sw_stream_query,
    .stream_wait_event = sw_stream_wait_event,
    .event_create = sw_event_create,
    .event_destroy = sw_event_destroy,
    .event_record = sw_event_record,
    .event_query = sw_event_query,
    .event_synchronize = sw_event_synchronize,
    .event_elapsed = sw_event_elapsed,
    .array_create = sw_array_create,
    .array_destroy = sw_array_destroy,
    .array_write = sw_array_write,
    .array_read = sw_array_read,
    .array_copy = sw_array_copy,
    .array_write_window = sw_array_write_window,
    .array_read_window = sw_array_read_window,
    .texture_create = sw_texture_create,
    .texture_destroy = sw_texture_destroy,
    .surface_create = sw_surface_create,
    .surface_destroy = sw_surface_destroy,
};

struct vgpu_driver *vgpu_software_driver_create(struct vgpu_backend *b, struct ptx_memory *memory)
{
    struct sw_driver *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->base.ops = &vgpu_software_driver_ops;
    d->backend = b;
    d->memory = memory;
    vgpu_backend_software.device_info(b, &d->info);
    LIST_INIT(&d->contexts);
    return &d->base;
}

void vgpu_software_driver_destroy(struct vgpu_driver *driver)
{
    if (!driver)
        return;
    struct sw_driver *d = sw_of(driver);
    struct vgpu_driver_context *c;
    while ((c = LIST_FIRST(&d->contexts)))
        end_context(d, c);
    free(d);
}
