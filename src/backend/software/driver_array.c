/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrays, textures and surfaces of the software driver: the calls' slots to what software.h offers.
 * Texture and surface objects have no names, but end with their context like all else.
 */
#include <stdlib.h>
#include <string.h>

#include "software.h"
#include "sw_driver.h"
#include "vgpu/array_format.h"
#include "vgpu/cuda.h"

CUresult sw_array_create(struct vgpu_driver *driver, struct vgpu_driver_array **array, size_t width,
                         size_t height, size_t depth, uint32_t format, uint32_t channels,
                         uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (flags & ~(CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST))
        return sw_refuse(d, CUDA_ERROR_NOT_SUPPORTED, "array flags 0x%x", flags);
    struct vgpu_driver_array *a = calloc(1, sizeof(*a));
    if (!a)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct vgpu_array_desc desc = {.width = width,
                                   .height = height,
                                   .depth = depth,
                                   .format = format,
                                   .channels = channels,
                                   .layered = flags & CUDA_ARRAY3D_LAYERED};
    status = vgpu_software_array_create(d->backend, &desc, &a->handle);
    if (status != CUDA_SUCCESS) {
        free(a);
        return sw_refuse(d, status, "an array of %zux%zux%zu, format 0x%x, %u channels", width,
                         height, depth, format, channels);
    }
    a->surface = flags & CUDA_ARRAY3D_SURFACE_LDST;
    LIST_INSERT_HEAD(&d->current->arrays, a, link);
    *array = a;
    return CUDA_SUCCESS;
}

static CUresult end_array(struct sw_driver *d, struct vgpu_driver_array *array)
{
    LIST_REMOVE(array, link);
    CUresult status = vgpu_software_array_destroy(d->backend, array->handle);
    free(array);
    return status;
}

CUresult sw_array_destroy(struct vgpu_driver *driver, struct vgpu_driver_array *array)
{
    return end_array(sw_of(driver), array);
}

static CUresult copy(struct sw_driver *d, const struct vgpu_copy *c)
{
    CUresult status = vgpu_software_copy(d->backend, c);
    if (status == CUDA_ERROR_INVALID_VALUE)
        return sw_refuse(d, status,
                         "a box of %llu bytes x %llu x %llu is not inside both sides, or does not "
                         "begin and end at elements",
                         (unsigned long long)c->width_bytes, (unsigned long long)c->height,
                         (unsigned long long)c->depth);
    return status;
}

/* Rows without gaps: exactly `length` bytes. */
static bool rows_are(size_t row_bytes, size_t rows, size_t length)
{
    size_t bytes;
    return !__builtin_mul_overflow(row_bytes, rows, &bytes) && bytes == length;
}

static struct vgpu_place array_place(const struct vgpu_driver_array *array, size_t x_bytes,
                                     size_t y, size_t z)
{
    return (struct vgpu_place){
        .kind = VGPU_PLACE_ARRAY, .array = array->handle, .x_bytes = x_bytes, .y = y, .z = z};
}

CUresult sw_array_write(struct vgpu_driver *driver, struct vgpu_driver_array *array, size_t x_bytes,
                        size_t y, size_t z, size_t row_bytes, size_t rows,
                        struct vgpu_driver_stream *stream, const void *data, size_t data_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (!rows_are(row_bytes, rows, data_length))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%zu bytes for %zu rows of %zu", data_length,
                         rows, row_bytes);
    if (!data_length)
        return CUDA_SUCCESS;
    /* A source is only read: vgpu_place has one member for both ways. */
    struct vgpu_copy c = {.src = {.kind = VGPU_PLACE_HOST,
                                  .host = (void *)(uintptr_t)data,
                                  .host_bytes = data_length},
                          .dst = array_place(array, x_bytes, y, z),
                          .width_bytes = row_bytes,
                          .height = rows,
                          .depth = 1};
    return copy(d, &c);
}

CUresult sw_array_read(struct vgpu_driver *driver, struct vgpu_driver_array *array, size_t x_bytes,
                       size_t y, size_t z, size_t row_bytes, size_t rows, uint32_t size,
                       struct vgpu_driver_stream *stream, void *data, uint32_t data_capacity,
                       uint32_t *data_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (size > data_capacity || !rows_are(row_bytes, rows, size))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%u bytes for %zu rows of %zu, at most %u",
                         size, rows, row_bytes, data_capacity);
    if (!size)
        return CUDA_SUCCESS;
    struct vgpu_copy c = {.src = array_place(array, x_bytes, y, z),
                          .dst = {.kind = VGPU_PLACE_HOST, .host = data, .host_bytes = size},
                          .width_bytes = row_bytes,
                          .height = rows,
                          .depth = 1};
    status = copy(d, &c);
    if (status == CUDA_SUCCESS)
        *data_length = size;
    return status;
}

/* Rows of the window, `pitch` apart. */
static CUresult copy_rows(struct sw_driver *d, const struct vgpu_place *array, void *data,
                          size_t size, size_t pitch, size_t row_bytes, size_t rows, bool write)
{
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !row_bytes || !rows)
        return status;
    if (rows > 1 && pitch < row_bytes)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "rows of %zu bytes, %zu apart", row_bytes,
                         pitch);
    struct vgpu_place window = {.kind = VGPU_PLACE_HOST,
                                .host = data,
                                .host_bytes = size,
                                .pitch_bytes = rows > 1 ? pitch : 0};
    struct vgpu_copy c = {.src = write ? window : *array,
                          .dst = write ? *array : window,
                          .width_bytes = row_bytes,
                          .height = rows,
                          .depth = 1};
    return copy(d, &c);
}

CUresult sw_array_write_window(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                               size_t x_bytes, size_t y, size_t z, size_t row_bytes, size_t rows,
                               const void *data, size_t size, size_t pitch,
                               struct vgpu_driver_stream *stream)
{
    struct vgpu_place to = array_place(array, x_bytes, y, z);
    return copy_rows(sw_of(driver), &to, (void *)(uintptr_t)data, size, pitch, row_bytes, rows,
                     true);
}

CUresult sw_array_read_window(struct vgpu_driver *driver, struct vgpu_driver_array *array,
                              size_t x_bytes, size_t y, size_t z, size_t row_bytes, size_t rows,
                              void *data, size_t size, size_t pitch,
                              struct vgpu_driver_stream *stream)
{
    struct vgpu_place from = array_place(array, x_bytes, y, z);
    return copy_rows(sw_of(driver), &from, data, size, pitch, row_bytes, rows, false);
}

/* One side of array_copy. Device memory begins at its address and is a whole number of rows to a
 * slice. */
static bool place_of(struct vgpu_place *place, const struct vgpu_driver_array *array,
                     CUdeviceptr address, size_t pitch, size_t slice, size_t x_bytes, size_t y,
                     size_t z, const struct vgpu_copy *c)
{
    if (array) {
        *place = array_place(array, x_bytes, y, z);
        return true;
    }
    if (x_bytes || y || z || (c->height > 1 && pitch < c->width_bytes))
        return false;
    *place = (struct vgpu_place){
        .kind = VGPU_PLACE_DEVICE, .address = address, .pitch_bytes = c->height > 1 ? pitch : 0};
    if (c->depth == 1)
        return true;
    /* Between slices of one row there may be anything: then a slice is the pitch. */
    place->pitch_bytes = pitch && slice % pitch == 0 ? pitch : c->height > 1 ? 0 : slice;
    place->height = place->pitch_bytes ? slice / place->pitch_bytes : 0;
    return place->height >= c->height && place->pitch_bytes >= c->width_bytes;
}

CUresult sw_array_copy(struct vgpu_driver *driver, struct vgpu_driver_array *destination_array,
                       CUdeviceptr destination, size_t destination_pitch, size_t destination_slice,
                       size_t destination_x_bytes, size_t destination_y, size_t destination_z,
                       struct vgpu_driver_array *source_array, CUdeviceptr source,
                       size_t source_pitch, size_t source_slice, size_t source_x_bytes,
                       size_t source_y, size_t source_z, size_t row_bytes, size_t rows,
                       size_t depth, struct vgpu_driver_stream *stream)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !row_bytes || !rows || !depth)
        return status;
    struct vgpu_copy c = {.width_bytes = row_bytes, .height = rows, .depth = depth};
    if ((!destination_array && !source_array) ||
        !place_of(&c.dst, destination_array, destination, destination_pitch, destination_slice,
                  destination_x_bytes, destination_y, destination_z, &c) ||
        !place_of(&c.src, source_array, source, source_pitch, source_slice, source_x_bytes,
                  source_y, source_z, &c))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE,
                         "one side is an array at least; rows and slices of the other do not "
                         "overlap and slices are whole rows");
    return copy(d, &c);
}

/* ---- Textures and surfaces ---- */

static CUresult keep_object(struct sw_driver *d, uint64_t handle, bool surface)
{
    struct sw_object *o = malloc(sizeof(*o));
    if (!o) {
        if (surface)
            (void)vgpu_software_surface_destroy(d->backend, handle);
        else
            (void)vgpu_software_texture_destroy(d->backend, handle);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *o = (struct sw_object){.handle = handle, .surface = surface};
    LIST_INSERT_HEAD(&d->current->objects, o, link);
    return CUDA_SUCCESS;
}

/* The record goes; the object itself is the caller's. */
static void drop_object(struct sw_driver *d, uint64_t handle)
{
    struct vgpu_driver_context *c;
    for (c = LIST_FIRST(&d->contexts); c; c = LIST_NEXT(c, link)) {
        struct sw_object *o = LIST_FIRST(&c->objects);
        while (o && o->handle != handle)
            o = LIST_NEXT(o, link);
        if (o) {
            LIST_REMOVE(o, link);
            free(o);
            return;
        }
    }
}

/* Where a texture reads; true: *desc says so. */
static CUresult set_source(struct sw_driver *d, struct vgpu_texture_desc *desc,
                           uint32_t resource_type, const struct vgpu_driver_array *array,
                           CUdeviceptr address, uint32_t format, uint32_t channels, size_t width,
                           size_t height, size_t pitch)
{
    uint32_t element = vgpu_array_format_bytes(format) * channels;
    switch (resource_type) {
    case CU_RESOURCE_TYPE_ARRAY:
        if (!array)
            return sw_refuse(d, CUDA_ERROR_INVALID_HANDLE, "no array");
        desc->source = VGPU_TEXTURE_ARRAY;
        desc->array = array->handle;
        return CUDA_SUCCESS;
    case CU_RESOURCE_TYPE_LINEAR: /* width is in bytes, in this one case */
        if (!element || channels > 4)
            return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "format 0x%x, %u channels", format,
                             channels);
        desc->source = VGPU_TEXTURE_LINEAR;
        desc->width = width / element;
        break;
    case CU_RESOURCE_TYPE_PITCH2D:
        desc->source = VGPU_TEXTURE_PITCH2D;
        desc->width = width;
        desc->height = height;
        desc->pitch_bytes = pitch;
        break;
    default:
        return sw_refuse(d, CUDA_ERROR_NOT_SUPPORTED, "resource type %u", resource_type);
    }
    desc->address = address;
    desc->format = format;
    desc->channels = channels;
    return CUDA_SUCCESS;
}

CUresult sw_texture_create(struct vgpu_driver *driver, uint64_t *texture, uint32_t resource_type,
                           struct vgpu_driver_array *array, CUdeviceptr address, uint32_t format,
                           uint32_t channels, size_t width, size_t height, size_t pitch,
                           uint32_t address_mode_0, uint32_t address_mode_1,
                           uint32_t address_mode_2, uint32_t filter_mode, uint32_t flags,
                           float border_0, float border_1, float border_2, float border_3)
{
    struct sw_driver *d = sw_of(driver);
    const float border[4] = {border_0, border_1, border_2, border_3};
    struct vgpu_texture_desc desc;
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    /* Without mipmaps there is no trilinear filter to be quick about. */
    if (flags & ~(CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES |
                  CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION))
        return sw_refuse(d, CUDA_ERROR_NOT_SUPPORTED, "texture flags 0x%x", flags);
    if (filter_mode > CU_TR_FILTER_MODE_LINEAR)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "filter mode %u", filter_mode);
    memset(&desc, 0, sizeof(desc));
    status =
        set_source(d, &desc, resource_type, array, address, format, channels, width, height, pitch);
    if (status != CUDA_SUCCESS)
        return status;
    desc.address_mode[0] = address_mode_0;
    desc.address_mode[1] = address_mode_1;
    desc.address_mode[2] = address_mode_2;
    desc.linear_filter = filter_mode == CU_TR_FILTER_MODE_LINEAR;
    desc.normalized = flags & CU_TRSF_NORMALIZED_COORDINATES;
    desc.element_type = flags & CU_TRSF_READ_AS_INTEGER;
    memcpy(desc.border, border, sizeof(desc.border));
    status = vgpu_software_texture_create(d->backend, &desc, texture);
    if (status == CUDA_ERROR_INVALID_VALUE)
        return sw_refuse(d, status, "a texture that this device cannot read so");
    return status == CUDA_SUCCESS ? keep_object(d, *texture, false) : status;
}

CUresult sw_texture_destroy(struct vgpu_driver *driver, uint64_t texture)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = vgpu_software_texture_destroy(d->backend, texture);
    if (status == CUDA_SUCCESS)
        drop_object(d, texture);
    return status;
}

CUresult sw_surface_create(struct vgpu_driver *driver, uint64_t *surface,
                           struct vgpu_driver_array *array)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (!array->surface)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "the array was not made for surfaces");
    status = vgpu_software_surface_create(d->backend, array->handle, surface);
    return status == CUDA_SUCCESS ? keep_object(d, *surface, true) : status;
}

CUresult sw_surface_destroy(struct vgpu_driver *driver, uint64_t surface)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = vgpu_software_surface_destroy(d->backend, surface);
    if (status == CUDA_SUCCESS)
        drop_object(d, surface);
    return status;
}

void sw_arrays_end(struct sw_driver *d, struct vgpu_driver_context *context)
{
    struct sw_object *o;
    while ((o = LIST_FIRST(&context->objects))) {
        LIST_REMOVE(o, link);
        /* After a sticky error the backend keeps it until it closes. */
        if (o->surface)
            (void)vgpu_software_surface_destroy(d->backend, o->handle);
        else
            (void)vgpu_software_texture_destroy(d->backend, o->handle);
        free(o);
    }
    struct vgpu_driver_array *next;
    for (struct vgpu_driver_array *a = LIST_FIRST(&context->arrays); a; a = next) {
        next = LIST_NEXT(a, link);
        (void)end_array(d, a);
    }
}
