/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arrays of the software backend and copies of boxes between them, device and host memory; see
 * software.h. */
#include <string.h>

#include "ptx_image.h"
#include "vgpu/array_format.h"

#define MAX_WIDTH  131072u
#define MAX_HEIGHT 65536u
#define MAX_DEPTH  16384u
#define MAX_LAYERS 2048u
#define ROW_ALIGN  16u

static bool may_be(const struct vgpu_array_desc *d)
{
    if (!vgpu_array_format_bytes(d->format) ||
        (d->channels != 1 && d->channels != 2 && d->channels != 4))
        return false;
    if (d->width == 0 || d->width > MAX_WIDTH || d->height > MAX_HEIGHT)
        return false;
    if (d->layered)
        return d->depth >= 1 && d->depth <= MAX_LAYERS;
    return d->depth <= MAX_DEPTH && (d->depth == 0 || d->height != 0);
}

CUresult vgpu_software_array_create(struct vgpu_backend *b, const struct vgpu_array_desc *desc,
                                    uint64_t *array)
{
    struct ptx_memory *m;
    CUresult r = vgpu_software_memory(b, &m);
    *array = 0;
    if (r != CUDA_SUCCESS)
        return r;
    if (!may_be(desc))
        return CUDA_ERROR_INVALID_VALUE;
    struct ptx_view v = {
        .width = (uint32_t)desc->width,
        .height = desc->height ? (uint32_t)desc->height : 1,
        .depth = desc->depth ? (uint32_t)desc->depth : 1,
        .format = (uint8_t)desc->format,
        .channels = (uint8_t)desc->channels,
        .channel_bytes = (uint8_t)vgpu_array_format_bytes(desc->format),
        .layered = desc->layered,
        .dimensions = (uint8_t)(desc->height == 0                   ? 1
                                : desc->depth == 0 || desc->layered ? 2
                                                                    : 3),
    };
    /* At most 2^17 elements of 16 bytes in 2^16 rows of 2^14 slices: no overflow. */
    v.pitch_bytes = ((uint64_t)v.width * v.channels * v.channel_bytes + ROW_ALIGN - 1) &
                    ~(uint64_t)(ROW_ALIGN - 1);
    v.slice_bytes = v.pitch_bytes * v.height;
    uint64_t address;
    r = vgpu_ptx_memory_alloc(m, v.slice_bytes * v.depth, true, &address);
    if (r != CUDA_SUCCESS)
        return r;
    struct ptx_image *image = vgpu_ptx_image_add(m, PTX_IMAGE_ARRAY);
    if (!image) {
        vgpu_ptx_memory_release(m, address, true);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    v.host = vgpu_ptx_memory_range(m, address, v.slice_bytes * v.depth);
    image->address = address;
    image->view = v;
    *array = image->handle;
    return CUDA_SUCCESS;
}

CUresult vgpu_software_array_destroy(struct vgpu_backend *b, uint64_t array)
{
    struct ptx_memory *m;
    CUresult r = vgpu_software_memory(b, &m);
    if (r != CUDA_SUCCESS)
        return r;
    struct ptx_image *image = vgpu_ptx_image_find(m, array, PTX_IMAGE_ARRAY);
    if (!image)
        return CUDA_ERROR_INVALID_HANDLE;
    vgpu_ptx_image_drop(m, image);
    return CUDA_SUCCESS;
}

CUresult vgpu_software_array_desc(struct vgpu_backend *b, uint64_t array,
                                  struct vgpu_array_desc *desc)
{
    struct ptx_memory *m;
    CUresult r = vgpu_software_memory(b, &m);
    memset(desc, 0, sizeof(*desc));
    if (r != CUDA_SUCCESS)
        return r;
    const struct ptx_image *image = vgpu_ptx_image_find(m, array, PTX_IMAGE_ARRAY);
    if (!image)
        return CUDA_ERROR_INVALID_HANDLE;
    const struct ptx_view *v = &image->view;
    desc->width = v->width;
    desc->height = v->dimensions > 1 ? v->height : 0;
    desc->depth = v->dimensions > 2 || v->layered ? v->depth : 0;
    desc->format = v->format;
    desc->channels = v->channels;
    desc->layered = v->layered;
    return CUDA_SUCCESS;
}

/* Where a side's box begins, and the steps to its next row and slice. */
struct side {
    uint8_t *at;
    uint64_t pitch, slice;
};

/* [at, at + n) within [0, size) */
static bool within(uint64_t at, uint64_t n, uint64_t size)
{
    return at <= size && n <= size - at;
}

static CUresult array_side(const struct ptx_memory *m, const struct vgpu_place *p,
                           const struct vgpu_copy *c, struct side *s)
{
    const struct ptx_image *image = vgpu_ptx_image_find(m, p->array, PTX_IMAGE_ARRAY);
    if (!image)
        return CUDA_ERROR_INVALID_HANDLE;
    const struct ptx_view *v = &image->view;
    uint64_t element = (uint64_t)v->channels * v->channel_bytes;
    if (!within(p->x_bytes, c->width_bytes, v->width * element) || p->x_bytes % element ||
        c->width_bytes % element || !within(p->y, c->height, v->height) ||
        !within(p->z, c->depth, v->depth))
        return CUDA_ERROR_INVALID_VALUE;
    *s = (struct side){v->host + p->z * v->slice_bytes + p->y * v->pitch_bytes + p->x_bytes,
                       v->pitch_bytes, v->slice_bytes};
    return CUDA_SUCCESS;
}

static CUresult plain_side(const struct ptx_memory *m, const struct vgpu_place *p,
                           const struct vgpu_copy *c, struct side *s)
{
    uint64_t pitch = p->pitch_bytes ? p->pitch_bytes : c->width_bytes;
    uint64_t rows = p->height ? p->height : c->height, slice, first, last, row, more;
    if (!within(p->x_bytes, c->width_bytes, pitch))
        return CUDA_ERROR_INVALID_VALUE;
    /* first: the box's beginning; last: its last row's. Both from the place's beginning. */
    if (__builtin_mul_overflow(pitch, rows, &slice) ||
        __builtin_mul_overflow(slice, p->z, &first) || __builtin_mul_overflow(pitch, p->y, &row) ||
        __builtin_add_overflow(first, row, &first) ||
        __builtin_add_overflow(first, p->x_bytes, &first) ||
        __builtin_mul_overflow(slice, c->depth - 1, &last) ||
        __builtin_mul_overflow(pitch, c->height - 1, &row) ||
        __builtin_add_overflow(last, row, &last) || __builtin_add_overflow(first, last, &last) ||
        __builtin_add_overflow(last, c->width_bytes, &more))
        return CUDA_ERROR_INVALID_VALUE;
    s->pitch = pitch;
    s->slice = slice;
    if (p->kind == VGPU_PLACE_HOST) {
        if (!p->host || more > p->host_bytes)
            return CUDA_ERROR_INVALID_VALUE;
        s->at = (uint8_t *)p->host + first;
        return CUDA_SUCCESS;
    }
    uint8_t *at = p->address + first < first
                      ? NULL
                      : vgpu_ptx_memory_range(m, p->address + first, more - first);
    s->at = at;
    return at ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult find_side(const struct ptx_memory *m, const struct vgpu_place *p,
                          const struct vgpu_copy *c, struct side *s)
{
    if (p->kind > VGPU_PLACE_ARRAY)
        return CUDA_ERROR_INVALID_VALUE;
    return p->kind == VGPU_PLACE_ARRAY ? array_side(m, p, c, s) : plain_side(m, p, c, s);
}

CUresult vgpu_software_copy(struct vgpu_backend *b, const struct vgpu_copy *copy)
{
    struct ptx_memory *m;
    struct side src, dst;
    CUresult r = vgpu_software_memory(b, &m);
    if (r != CUDA_SUCCESS || copy->width_bytes == 0 || copy->height == 0 || copy->depth == 0)
        return r;
    r = find_side(m, &copy->src, copy, &src);
    if (r == CUDA_SUCCESS)
        r = find_side(m, &copy->dst, copy, &dst);
    if (r != CUDA_SUCCESS)
        return r;
    for (uint64_t z = 0; z < copy->depth; z++)
        for (uint64_t y = 0; y < copy->height; y++)
            memmove(dst.at + z * dst.slice + y * dst.pitch, src.at + z * src.slice + y * src.pitch,
                    (size_t)copy->width_bytes);
    return CUDA_SUCCESS;
}
