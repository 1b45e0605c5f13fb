/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software backend as a driver (backend/driver.h): what its files share. A context here is a
 * list of what was made in it; device memory, modules and launches are the backend's own, so the
 * CUDA calls and the typed requests of a session stand beside each other on one quota.
 *
 * Work has been done when a call returns, so streams and events order nothing: they are checked,
 * remembered and dated.
 */
#ifndef VGPU_SOFTWARE_DRIVER_H
#define VGPU_SOFTWARE_DRIVER_H

#include <stdbool.h>
#include <sys/queue.h>

#include "backend/driver.h"
#include "ptx.h"
#include "ptx_memory.h"

#define SW_CONTEXTS_MAX 4u    /* beside the primary one */
#define SW_DRIVER_CUDA  12040 /* the CUDA version that its answers are those of: 12.4 */
#define SW_LIMITS       3     /* CUlimit 0 to 2 */

/* Whoever device memory belongs to, the `owner` of its region: a context, or one of its pools. */
struct vgpu_driver_pool {
    LIST_ENTRY(vgpu_driver_pool) link;
    struct vgpu_driver_context *context;
    bool named;         /* pool_create made it */
    bool destroyed;     /* goes with the last of its allocations */
    uint64_t max_bytes; /* 0: the quota alone */
    uint64_t used_bytes, used_high, reserved_high;
    uint64_t reuse[3];  /* attributes 1 to 3 and */
    uint64_t threshold; /* 4: kept; memory goes back at once whatever they say */
};

struct vgpu_driver_function {
    LIST_ENTRY(vgpu_driver_function) link;
    struct vgpu_driver_module *module;
    struct vgpu_backend_kernel *kernel;
    const struct vgpu_kernel_info *info;
    uint32_t registers;
    uint32_t max_dynamic_bytes;
    int32_t carveout;
};

struct vgpu_driver_module {
    LIST_ENTRY(vgpu_driver_module) link;
    struct vgpu_driver_context *context;
    struct vgpu_backend_module *backend;
    LIST_HEAD(sw_function_list, vgpu_driver_function) functions;
};

struct vgpu_driver_stream {
    LIST_ENTRY(vgpu_driver_stream) link;
    struct vgpu_driver_context *context;
};

struct vgpu_driver_event {
    LIST_ENTRY(vgpu_driver_event) link;
    struct vgpu_driver_context *context;
    bool timed, recorded;
    uint64_t ns; /* CLOCK_MONOTONIC, when recorded */
};

struct vgpu_driver_array {
    LIST_ENTRY(vgpu_driver_array) link;
    uint64_t handle; /* software.h's */
    bool surface;    /* made for them, too */
};

/* A texture or surface: the guest has software.h's own handle. */
struct sw_object {
    LIST_ENTRY(sw_object) link;
    uint64_t handle;
    bool surface;
};

struct vgpu_driver_context {
    LIST_ENTRY(vgpu_driver_context) link;
    bool primary;
    unsigned references; /* of the primary one: it is retained by name */
    size_t limits[SW_LIMITS];
    struct vgpu_driver_pool memory;       /* memory_alloc */
    struct vgpu_driver_pool default_pool; /* memory_alloc_async without a pool */
    LIST_HEAD(sw_pool_list, vgpu_driver_pool) pools;
    LIST_HEAD(sw_module_list, vgpu_driver_module) modules;
    LIST_HEAD(sw_stream_list, vgpu_driver_stream) streams;
    LIST_HEAD(sw_event_list, vgpu_driver_event) events;
    LIST_HEAD(sw_array_list, vgpu_driver_array) arrays;
    LIST_HEAD(sw_object_list, sw_object) objects;
};

struct sw_driver {
    struct vgpu_driver base; /* first */
    struct vgpu_backend *backend;
    struct ptx_memory *memory;
    struct vgpu_device_info info;
    struct vgpu_driver_context *current;
    LIST_HEAD(sw_context_list, vgpu_driver_context) contexts;
    unsigned context_count; /* without the primary one */
};

static inline struct sw_driver *sw_of(struct vgpu_driver *driver)
{
    return (struct sw_driver *)(void *)driver;
}

/* What each call asks first: the sticky error, and a context. */
CUresult sw_ready(struct sw_driver *d);

/* Says why in the driver's text; answers `status`. */
CUresult sw_refuse(struct sw_driver *d, CUresult status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether a stream can be used with what belongs to `context` (NULL: the context's own). */
bool sw_stream_fits(const struct vgpu_driver_stream *stream,
                    const struct vgpu_driver_context *context);

/* driver_memory.c: begins a context's memory; frees all of it. */
void sw_memory_begin(struct vgpu_driver_context *context);
void sw_memory_end(struct sw_driver *d, struct vgpu_driver_context *context);
/* driver_module.c, driver_stream.c: free what a context has of theirs. */
void sw_modules_end(struct sw_driver *d, struct vgpu_driver_context *context);
void sw_streams_end(struct vgpu_driver_context *context);
/* driver_array.c: with the textures and surfaces. */
void sw_arrays_end(struct sw_driver *d, struct vgpu_driver_context *context);

/* Members of struct vgpu_driver_ops, by file. */
extern const struct vgpu_driver_ops vgpu_software_driver_ops;

#define SW_ARGS struct vgpu_driver *driver
/* driver_module.c */
CUresult sw_module_load(SW_ARGS, struct vgpu_driver_module **module, const void *image,
                        size_t image_length);
CUresult sw_module_unload(SW_ARGS, struct vgpu_driver_module *module);
CUresult sw_function_get(SW_ARGS, struct vgpu_driver_module *module,
                         struct vgpu_driver_function **function, const char *name,
                         uint32_t *param_count, uint32_t *param_bytes, uint32_t *max_threads,
                         uint32_t *static_shared_bytes, uint32_t *const_bytes,
                         uint32_t *local_bytes, uint32_t *registers, int32_t *ptx_version,
                         int32_t *binary_version, uint32_t *max_dynamic_shared_bytes, void *layout,
                         uint32_t layout_capacity, uint32_t *layout_length);
CUresult sw_function_params(SW_ARGS, struct vgpu_driver_function *function, uint32_t first,
                            void *layout, uint32_t layout_capacity, uint32_t *layout_length);
CUresult sw_module_global(SW_ARGS, struct vgpu_driver_module *module, const char *name,
                          CUdeviceptr *address, size_t *bytes);
CUresult sw_function_get_attribute(SW_ARGS, int32_t *value, int attribute,
                                   struct vgpu_driver_function *function);
CUresult sw_function_set_attribute(SW_ARGS, struct vgpu_driver_function *function, int attribute,
                                   int32_t value);
CUresult sw_launch(SW_ARGS, struct vgpu_driver_function *function,
                   struct vgpu_driver_stream *stream, uint32_t grid_x, uint32_t grid_y,
                   uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z,
                   uint32_t shared_bytes, uint32_t flags, const void *arguments,
                   size_t arguments_length);
CUresult sw_occupancy_blocks(SW_ARGS, int *blocks, struct vgpu_driver_function *function,
                             int block_size, size_t dynamic_bytes, uint32_t flags);
CUresult sw_occupancy_shared(SW_ARGS, size_t *dynamic_bytes, struct vgpu_driver_function *function,
                             int blocks, int block_size);
/* driver_memory.c */
CUresult sw_memory_alloc(SW_ARGS, CUdeviceptr *address, size_t size);
CUresult sw_memory_free(SW_ARGS, CUdeviceptr address);
CUresult sw_memory_info(SW_ARGS, size_t *free_bytes, size_t *total_bytes);
CUresult sw_memory_alloc_async(SW_ARGS, CUdeviceptr *address, size_t size,
                               struct vgpu_driver_pool *pool, struct vgpu_driver_stream *stream);
CUresult sw_memory_free_async(SW_ARGS, CUdeviceptr address, struct vgpu_driver_stream *stream);
CUresult sw_pool_create(SW_ARGS, struct vgpu_driver_pool **pool, uint64_t max_bytes);
CUresult sw_pool_destroy(SW_ARGS, struct vgpu_driver_pool *pool);
CUresult sw_pool_trim(SW_ARGS, struct vgpu_driver_pool *pool, size_t keep_bytes);
CUresult sw_pool_get_attribute(SW_ARGS, struct vgpu_driver_pool *pool, int attribute,
                               uint64_t *value);
CUresult sw_pool_set_attribute(SW_ARGS, struct vgpu_driver_pool *pool, int attribute,
                               uint64_t value);
/* driver_copy.c */
CUresult sw_copy_to_device(SW_ARGS, CUdeviceptr destination, struct vgpu_driver_stream *stream,
                           const void *data, size_t data_length);
CUresult sw_copy_from_device(SW_ARGS, CUdeviceptr source, uint32_t size,
                             struct vgpu_driver_stream *stream, void *data, uint32_t data_capacity,
                             uint32_t *data_length);
CUresult sw_copy_on_device(SW_ARGS, CUdeviceptr destination, CUdeviceptr source, size_t size,
                           struct vgpu_driver_stream *stream);
CUresult sw_copy_rect(SW_ARGS, CUdeviceptr destination, size_t destination_pitch,
                      size_t destination_slice, CUdeviceptr source, size_t source_pitch,
                      size_t source_slice, size_t width, size_t height, size_t depth,
                      struct vgpu_driver_stream *stream);
CUresult sw_copy_window_to_device(SW_ARGS, CUdeviceptr destination, size_t size, const void *source,
                                  struct vgpu_driver_stream *stream);
CUresult sw_copy_device_to_window(SW_ARGS, void *destination, CUdeviceptr source, size_t size,
                                  struct vgpu_driver_stream *stream);
CUresult sw_copy_rect_window_to_device(SW_ARGS, CUdeviceptr destination, size_t destination_pitch,
                                       size_t destination_slice, const void *source,
                                       size_t source_bytes, size_t source_pitch,
                                       size_t source_slice, size_t width, size_t height,
                                       size_t depth, struct vgpu_driver_stream *stream);
CUresult sw_copy_rect_device_to_window(SW_ARGS, void *destination, size_t destination_bytes,
                                       size_t destination_pitch, size_t destination_slice,
                                       CUdeviceptr source, size_t source_pitch, size_t source_slice,
                                       size_t width, size_t height, size_t depth,
                                       struct vgpu_driver_stream *stream);
CUresult sw_memory_set(SW_ARGS, CUdeviceptr destination, size_t pitch, uint32_t value,
                       uint32_t element_bytes, size_t width, size_t height,
                       struct vgpu_driver_stream *stream);
/* driver_stream.c */
CUresult sw_stream_create(SW_ARGS, struct vgpu_driver_stream **stream, uint32_t flags,
                          int32_t priority);
CUresult sw_stream_destroy(SW_ARGS, struct vgpu_driver_stream *stream);
CUresult sw_stream_synchronize(SW_ARGS, struct vgpu_driver_stream *stream);
CUresult sw_stream_query(SW_ARGS, struct vgpu_driver_stream *stream, uint32_t *result);
CUresult sw_stream_wait_event(SW_ARGS, struct vgpu_driver_stream *stream,
                              struct vgpu_driver_event *event, uint32_t flags);
CUresult sw_event_create(SW_ARGS, struct vgpu_driver_event **event, uint32_t flags);
CUresult sw_event_destroy(SW_ARGS, struct vgpu_driver_event *event);
CUresult sw_event_record(SW_ARGS, struct vgpu_driver_event *event,
                         struct vgpu_driver_stream *stream, uint32_t flags);
CUresult sw_event_query(SW_ARGS, struct vgpu_driver_event *event, uint32_t *result);
CUresult sw_event_synchronize(SW_ARGS, struct vgpu_driver_event *event);
CUresult sw_event_elapsed(SW_ARGS, float *milliseconds, struct vgpu_driver_event *start,
                          struct vgpu_driver_event *end);
/* driver_array.c */
CUresult sw_array_create(SW_ARGS, struct vgpu_driver_array **array, size_t width, size_t height,
                         size_t depth, uint32_t format, uint32_t channels, uint32_t flags);
CUresult sw_array_destroy(SW_ARGS, struct vgpu_driver_array *array);
CUresult sw_array_write(SW_ARGS, struct vgpu_driver_array *array, size_t x_bytes, size_t y,
                        size_t z, size_t row_bytes, size_t rows, struct vgpu_driver_stream *stream,
                        const void *data, size_t data_length);
CUresult sw_array_read(SW_ARGS, struct vgpu_driver_array *array, size_t x_bytes, size_t y, size_t z,
                       size_t row_bytes, size_t rows, uint32_t size,
                       struct vgpu_driver_stream *stream, void *data, uint32_t data_capacity,
                       uint32_t *data_length);
CUresult sw_array_write_window(SW_ARGS, struct vgpu_driver_array *array, size_t x_bytes, size_t y,
                               size_t z, size_t row_bytes, size_t rows, const void *data,
                               size_t size, size_t pitch, struct vgpu_driver_stream *stream);
CUresult sw_array_read_window(SW_ARGS, struct vgpu_driver_array *array, size_t x_bytes, size_t y,
                              size_t z, size_t row_bytes, size_t rows, void *data, size_t size,
                              size_t pitch, struct vgpu_driver_stream *stream);
CUresult sw_array_copy(SW_ARGS, struct vgpu_driver_array *destination_array,
                       CUdeviceptr destination, size_t destination_pitch, size_t destination_slice,
                       size_t destination_x_bytes, size_t destination_y, size_t destination_z,
                       struct vgpu_driver_array *source_array, CUdeviceptr source,
                       size_t source_pitch, size_t source_slice, size_t source_x_bytes,
                       size_t source_y, size_t source_z, size_t row_bytes, size_t rows,
                       size_t depth, struct vgpu_driver_stream *stream);
CUresult sw_texture_create(SW_ARGS, uint64_t *texture, uint32_t resource_type,
                           struct vgpu_driver_array *array, CUdeviceptr address, uint32_t format,
                           uint32_t channels, size_t width, size_t height, size_t pitch,
                           uint32_t address_mode_0, uint32_t address_mode_1,
                           uint32_t address_mode_2, uint32_t filter_mode, uint32_t flags,
                           float border_0, float border_1, float border_2, float border_3);
CUresult sw_texture_destroy(SW_ARGS, uint64_t texture);
CUresult sw_surface_create(SW_ARGS, uint64_t *surface, struct vgpu_driver_array *array);
CUresult sw_surface_destroy(SW_ARGS, uint64_t surface);
/* driver_device.c */
CUresult sw_device_attributes(SW_ARGS, uint32_t first, void *values, uint32_t values_capacity,
                              uint32_t *values_length);
#undef SW_ARGS

#endif
