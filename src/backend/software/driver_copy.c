/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies and fills of the software driver; see sw_driver.h. A range that is not wholly inside one
 * allocation is INVALID_VALUE, and nothing is written. */
#include <string.h>

#include "software.h"
#include "sw_driver.h"

static CUresult outside(struct sw_driver *d, const char *what, CUdeviceptr address)
{
    return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%s 0x%llx: not inside one allocation", what,
                     address);
}

CUresult sw_copy_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                           struct vgpu_driver_stream *stream, const void *data, size_t data_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !data_length)
        return status;
    uint8_t *to = vgpu_ptx_memory_range(d->memory, destination, data_length);
    if (!to)
        return outside(d, "destination", destination);
    memcpy(to, data, data_length);
    return CUDA_SUCCESS;
}

CUresult sw_copy_from_device(struct vgpu_driver *driver, CUdeviceptr source, uint32_t size,
                             struct vgpu_driver_stream *stream, void *data, uint32_t data_capacity,
                             uint32_t *data_length)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !size)
        return status;
    if (size > data_capacity)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%u bytes at once, at most %u", size,
                         data_capacity);
    const uint8_t *from = vgpu_ptx_memory_range(d->memory, source, size);
    if (!from)
        return outside(d, "source", source);
    memcpy(data, from, size);
    *data_length = size;
    return CUDA_SUCCESS;
}

CUresult sw_copy_on_device(struct vgpu_driver *driver, CUdeviceptr destination, CUdeviceptr source,
                           size_t size, struct vgpu_driver_stream *stream)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !size)
        return status;
    uint8_t *to = vgpu_ptx_memory_range(d->memory, destination, size);
    const uint8_t *from = vgpu_ptx_memory_range(d->memory, source, size);
    if (!to || !from)
        return to ? outside(d, "source", source) : outside(d, "destination", destination);
    memmove(to, from, size);
    return CUDA_SUCCESS;
}

/* One side of a copy of boxes: rows of `width` bytes, `pitch` apart, in slices `slice` apart. */
struct box {
    size_t pitch, slice;
};

/* Bytes from the first to behind the last; false: rows would overlap, or no number is that large.
 */
static bool box_bytes(const struct box *b, size_t width, size_t height, size_t depth, size_t *bytes)
{
    size_t rows, slices = 0;
    if (height > 1 && b->pitch < width)
        return false;
    if (__builtin_mul_overflow(height - 1, height > 1 ? b->pitch : 0, &rows) ||
        __builtin_add_overflow(rows, width, &rows))
        return false;
    if (depth > 1 && (b->slice < rows || __builtin_mul_overflow(depth - 1, b->slice, &slices)))
        return false;
    return !__builtin_add_overflow(slices, rows, bytes);
}

/* Where one side of a copy of boxes may be touched, for a message when it would not do. */
struct side {
    const char *what;
    CUdeviceptr address; /* of the device; 0: in the window, */
    void *window;        /* which is only read, when it is the source, */
    size_t window_bytes;
    struct box box;
};

static CUresult find_side(struct sw_driver *d, const struct side *s, size_t width, size_t height,
                          size_t depth, uint8_t **at)
{
    size_t bytes;
    if (!box_bytes(&s->box, width, height, depth, &bytes))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%s: rows or slices that overlap", s->what);
    if (s->window) {
        if (bytes > s->window_bytes)
            return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "%s: the box is %zu bytes, there are %zu",
                             s->what, bytes, s->window_bytes);
        *at = s->window;
        return CUDA_SUCCESS;
    }
    *at = vgpu_ptx_memory_range(d->memory, s->address, bytes);
    return *at ? CUDA_SUCCESS : outside(d, s->what, s->address);
}

static CUresult copy_box(struct sw_driver *d, const struct side *to, const struct side *from,
                         size_t width, size_t height, size_t depth)
{
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !width || !height || !depth)
        return status;
    uint8_t *t = NULL, *f = NULL;
    status = find_side(d, to, width, height, depth, &t);
    if (status == CUDA_SUCCESS)
        status = find_side(d, from, width, height, depth, &f);
    if (status != CUDA_SUCCESS || !t || !f)
        return status;
    for (size_t z = 0; z < depth; z++) {
        for (size_t y = 0; y < height; y++)
            memmove(t + z * to->box.slice + y * to->box.pitch,
                    f + z * from->box.slice + y * from->box.pitch, width);
    }
    return CUDA_SUCCESS;
}

CUresult sw_copy_rect(struct vgpu_driver *driver, CUdeviceptr destination, size_t destination_pitch,
                      size_t destination_slice, CUdeviceptr source, size_t source_pitch,
                      size_t source_slice, size_t width, size_t height, size_t depth,
                      struct vgpu_driver_stream *stream)
{
    struct side to = {.what = "destination",
                      .address = destination,
                      .box = {destination_pitch, destination_slice}};
    struct side from = {.what = "source", .address = source, .box = {source_pitch, source_slice}};
    return copy_box(sw_of(driver), &to, &from, width, height, depth);
}

/* ---- By the window: done when the call returns, as everything here ---- */

/* What the window may name was looked up. A box of no bytes there is too small for any copy. */
static char nothing_there;

CUresult sw_copy_window_to_device(struct vgpu_driver *driver, CUdeviceptr destination, size_t size,
                                  const void *source, struct vgpu_driver_stream *stream)
{
    return sw_copy_to_device(driver, destination, stream, source, size);
}

CUresult sw_copy_device_to_window(struct vgpu_driver *driver, void *destination, CUdeviceptr source,
                                  size_t size, struct vgpu_driver_stream *stream)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS || !size)
        return status;
    const uint8_t *from = vgpu_ptx_memory_range(d->memory, source, size);
    if (!from)
        return outside(d, "source", source);
    memcpy(destination, from, size);
    return CUDA_SUCCESS;
}

CUresult sw_copy_rect_window_to_device(struct vgpu_driver *driver, CUdeviceptr destination,
                                       size_t destination_pitch, size_t destination_slice,
                                       const void *source, size_t source_bytes, size_t source_pitch,
                                       size_t source_slice, size_t width, size_t height,
                                       size_t depth, struct vgpu_driver_stream *stream)
{
    struct side to = {.what = "destination",
                      .address = destination,
                      .box = {destination_pitch, destination_slice}};
    struct side from = {.what = "source",
                        .window = source ? (void *)(uintptr_t)source : &nothing_there,
                        .window_bytes = source_bytes,
                        .box = {source_pitch, source_slice}};
    return copy_box(sw_of(driver), &to, &from, width, height, depth);
}

CUresult sw_copy_rect_device_to_window(struct vgpu_driver *driver, void *destination,
                                       size_t destination_bytes, size_t destination_pitch,
                                       size_t destination_slice, CUdeviceptr source,
                                       size_t source_pitch, size_t source_slice, size_t width,
                                       size_t height, size_t depth,
                                       struct vgpu_driver_stream *stream)
{
    struct side to = {.what = "destination",
                      .window = destination ? destination : &nothing_there,
                      .window_bytes = destination_bytes,
                      .box = {destination_pitch, destination_slice}};
    struct side from = {.what = "source", .address = source, .box = {source_pitch, source_slice}};
    return copy_box(sw_of(driver), &to, &from, width, height, depth);
}

static void fill_row(uint8_t *row, uint32_t value, uint32_t element_bytes, size_t count)
{
    if (element_bytes == 1) {
        memset(row, (int)(value & 0xff), count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        memcpy(row + i * element_bytes, &value, element_bytes); /* little-endian, as the device */
}

CUresult sw_memory_set(struct vgpu_driver *driver, CUdeviceptr destination, size_t pitch,
                       uint32_t value, uint32_t element_bytes, size_t width, size_t height,
                       struct vgpu_driver_stream *stream)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "elements of %u bytes: 1, 2 or 4",
                         element_bytes);
    if (!width || !height)
        return CUDA_SUCCESS;
    if (destination % element_bytes || (height > 1 && pitch % element_bytes))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE,
                         "address and pitch have to be multiples of the element's %u bytes",
                         element_bytes);
    size_t row_bytes, bytes;
    struct box box = {pitch, 0};
    if (__builtin_mul_overflow(width, (size_t)element_bytes, &row_bytes) ||
        !box_bytes(&box, row_bytes, height, 1, &bytes))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "rows that overlap");
    uint8_t *to = vgpu_ptx_memory_range(d->memory, destination, bytes);
    if (!to)
        return outside(d, "destination", destination);
    for (size_t y = 0; y < height; y++)
        fill_row(to + y * pitch, value, element_bytes, width);
    return CUDA_SUCCESS;
}
