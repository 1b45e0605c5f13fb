/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The functions of the driver that are not in driver.c; what each does is in backend/driver.h. */
#ifndef VGPU_BACKEND_CUDA_DRIVER_CALLS_H
#define VGPU_BACKEND_CUDA_DRIVER_CALLS_H

#include "cuda.h"
#include "stream.h"

/* driver_memory.c */
CUresult cuda_call_memory_alloc(struct vgpu_driver *driver, CUdeviceptr *address, size_t size);
CUresult cuda_call_memory_free(struct vgpu_driver *driver, CUdeviceptr address);
CUresult cuda_call_memory_info(struct vgpu_driver *driver, size_t *free_bytes, size_t *total_bytes);
CUresult cuda_call_memory_alloc_async(struct vgpu_driver *driver, CUdeviceptr *address, size_t size,
                                      struct vgpu_driver_pool *pool,
                                      struct vgpu_driver_stream *stream);
CUresult cuda_call_memory_free_async(struct vgpu_driver *driver, CUdeviceptr address,
                                     struct vgpu_driver_stream *stream);
CUresult cuda_call_copy_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                  struct vgpu_driver_stream *stream, const void *data,
                                  size_t data_length);
CUresult cuda_call_copy_from_device(struct vgpu_driver *driver, CUdeviceptr source, uint32_t size,
                                    struct vgpu_driver_stream *stream, void *data,
                                    uint32_t data_capacity, uint32_t *data_length);
CUresult cuda_call_copy_on_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                  CUdeviceptr source, size_t size,
                                  struct vgpu_driver_stream *stream);
CUresult cuda_call_copy_rect(struct vgpu_driver *driver, CUdeviceptr destination,
                             size_t destination_pitch, size_t destination_slice, CUdeviceptr source,
                             size_t source_pitch, size_t source_slice, size_t width, size_t height,
                             size_t depth, struct vgpu_driver_stream *stream);
CUresult cuda_call_copy_window_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                         size_t size, const void *source,
                                         struct vgpu_driver_stream *stream);
CUresult cuda_call_copy_device_to_window(struct vgpu_driver *driver, void *destination,
                                         CUdeviceptr source, size_t size,
                                         struct vgpu_driver_stream *stream);
CUresult cuda_call_copy_rect_window_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                              size_t destination_pitch, size_t destination_slice,
                                              const void *source, size_t source_bytes,
                                              size_t source_pitch, size_t source_slice,
                                              size_t width, size_t height, size_t depth,
                                              struct vgpu_driver_stream *stream);
CUresult cuda_call_copy_rect_device_to_window(struct vgpu_driver *driver, void *destination,
                                              size_t destination_bytes, size_t destination_pitch,
                                              size_t destination_slice, CUdeviceptr source,
                                              size_t source_pitch, size_t source_slice,
                                              size_t width, size_t height, size_t depth,
                                              struct vgpu_driver_stream *stream);
CUresult cuda_call_memory_set(struct vgpu_driver *driver, CUdeviceptr destination, size_t pitch,
                              uint32_t value, uint32_t element_bytes, size_t width, size_t height,
                              struct vgpu_driver_stream *stream);
CUresult cuda_call_pool_create(struct vgpu_driver *driver, struct vgpu_driver_pool **pool,
                               uint64_t max_bytes);
CUresult cuda_call_pool_destroy(struct vgpu_driver *driver, struct vgpu_driver_pool *pool);
CUresult cuda_call_pool_trim(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                             size_t keep_bytes);
CUresult cuda_call_pool_get_attribute(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                                      int attribute, uint64_t *value);
CUresult cuda_call_pool_set_attribute(struct vgpu_driver *driver, struct vgpu_driver_pool *pool,
                                      int attribute, uint64_t value);

/* driver_array.c */
CUresult cuda_call_array_create(struct vgpu_driver *driver, struct vgpu_driver_array **array,
                                size_t width, size_t height, size_t depth, uint32_t format,
                                uint32_t channels, uint32_t flags);
CUresult cuda_call_array_destroy(struct vgpu_driver *driver, struct vgpu_driver_array *array);
CUresult cuda_call_array_write(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                               size_t x_bytes, size_t y, size_t z, size_t row_bytes, size_t rows,
                               struct vgpu_driver_stream *stream, const void *data,
                               size_t data_length);
CUresult cuda_call_array_read(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                              size_t x_bytes, size_t y, size_t z, size_t row_bytes, size_t rows,
                              uint32_t size, struct vgpu_driver_stream *stream, void *data,
                              uint32_t data_capacity, uint32_t *data_length);
CUresult cuda_call_array_write_window(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                                      size_t x_bytes, size_t y, size_t z, size_t row_bytes,
                                      size_t rows, const void *data, size_t size, size_t pitch,
                                      struct vgpu_driver_stream *stream);
CUresult cuda_call_array_read_window(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                                     size_t x_bytes, size_t y, size_t z, size_t row_bytes,
                                     size_t rows, void *data, size_t size, size_t pitch,
                                     struct vgpu_driver_stream *stream);
CUresult cuda_call_array_copy(struct vgpu_driver *driver,
                              struct vgpu_driver_array *destination_array, CUdeviceptr destination,
                              size_t destination_pitch, size_t destination_slice,
                              size_t destination_x_bytes, size_t destination_y,
                              size_t destination_z, struct vgpu_driver_array *source_array,
                              CUdeviceptr source, size_t source_pitch, size_t source_slice,
                              size_t source_x_bytes, size_t source_y, size_t source_z,
                              size_t row_bytes, size_t rows, size_t depth,
                              struct vgpu_driver_stream *stream);
CUresult cuda_call_texture_create(struct vgpu_driver *driver, uint64_t *texture,
                                  uint32_t resource_type, struct vgpu_driver_array *array,
                                  CUdeviceptr address, uint32_t format, uint32_t channels,
                                  size_t width, size_t height, size_t pitch,
                                  uint32_t address_mode_0, uint32_t address_mode_1,
                                  uint32_t address_mode_2, uint32_t filter_mode, uint32_t flags,
                                  float border_0, float border_1, float border_2, float border_3);
CUresult cuda_call_texture_destroy(struct vgpu_driver *driver, uint64_t texture);
CUresult cuda_call_surface_create(struct vgpu_driver *driver, uint64_t *surface,
                                  struct vgpu_driver_array *array);
CUresult cuda_call_surface_destroy(struct vgpu_driver *driver, uint64_t surface);

#endif
