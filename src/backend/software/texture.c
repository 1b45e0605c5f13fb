/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texture and surface objects of the software backend, and references in modules; see software.h.
 */
#include <string.h>

#include "ptx.h"
#include "ptx_image.h"
#include "vgpu/array_format.h"

#define MAX_LINEAR    (1u << 28) /* elements of a texture on linear memory */
#define MAX_PITCH2D   131072u
#define ADDRESS_ALIGN 32u

/* What the texture looks at, without the memory's host address, which is found at each use. */
static bool plain_view(const struct vgpu_texture_desc *d, struct ptx_view *v)
{
    bool flat = d->source == VGPU_TEXTURE_LINEAR;
    if (!vgpu_array_format_bytes(d->format) ||
        (d->channels != 1 && d->channels != 2 && d->channels != 4) || d->width == 0 ||
        d->width > (flat ? MAX_LINEAR : MAX_PITCH2D) || d->address % ADDRESS_ALIGN)
        return false;
    v->format = (uint8_t)d->format;
    v->channels = (uint8_t)d->channels;
    v->channel_bytes = (uint8_t)vgpu_array_format_bytes(d->format);
    v->dimensions = flat ? 1 : 2;
    v->width = (uint32_t)d->width;
    v->height = v->depth = 1;
    uint64_t row = (uint64_t)v->width * v->channels * v->channel_bytes;
    v->pitch_bytes = row;
    if (!flat) {
        if (d->height == 0 || d->height > MAX_PITCH2D || d->pitch_bytes % ADDRESS_ALIGN ||
            d->pitch_bytes < row || d->pitch_bytes > UINT32_MAX)
            return false;
        v->height = (uint32_t)d->height;
        v->pitch_bytes = d->pitch_bytes;
    }
    v->slice_bytes = v->pitch_bytes * v->height;
    return true;
}

static bool fill_sampler(const struct vgpu_texture_desc *d, const struct ptx_view *v,
                         struct ptx_sampler *s)
{
    bool is_float = v->format == VGPU_ARRAY_FLOAT || v->format == VGPU_ARRAY_HALF;
    s->normalized = d->normalized;
    s->linear = d->linear_filter;
    s->to_float = !d->element_type && !is_float && v->channel_bytes < 4;
    /* "Linear filtering is only for textures that return floating-point data." */
    if (s->linear && !is_float && !s->to_float)
        return false;
    for (unsigned i = 0; i < 3; i++) {
        if (d->address_mode[i] > VGPU_ADDRESS_BORDER)
            return false;
        /* "wrap and mirror are only for normalized coordinates; otherwise it is clamp" */
        bool folds =
            d->address_mode[i] == VGPU_ADDRESS_WRAP || d->address_mode[i] == VGPU_ADDRESS_MIRROR;
        s->address[i] =
            (uint8_t)(folds && !d->normalized ? VGPU_ADDRESS_CLAMP : d->address_mode[i]);
    }
    memcpy(s->border, d->border, sizeof(s->border));
    if (d->source == VGPU_TEXTURE_LINEAR) {
        /* Neither filter nor address mode hold there, and what lies outside is zero. */
        s->linear = s->normalized = false;
        memset(s->address, VGPU_ADDRESS_BORDER, sizeof(s->address));
        memset(s->border, 0, sizeof(s->border));
    }
    return true;
}

CUresult vgpu_software_texture_create(struct vgpu_backend *b, const struct vgpu_texture_desc *desc,
                                      uint64_t *texture)
{
    struct ptx_memory *m;
    struct ptx_view view = {0};
    struct ptx_sampler sampler = {0};
    CUresult r = vgpu_software_memory(b, &m);
    *texture = 0;
    if (r != CUDA_SUCCESS)
        return r;
    if (desc->source == VGPU_TEXTURE_ARRAY) {
        const struct ptx_image *array = vgpu_ptx_image_find(m, desc->array, PTX_IMAGE_ARRAY);
        if (!array)
            return CUDA_ERROR_INVALID_HANDLE;
        view = array->view;
    } else if (desc->source > VGPU_TEXTURE_PITCH2D || !plain_view(desc, &view) ||
               !vgpu_ptx_memory_range(m, desc->address, 1)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!fill_sampler(desc, &view, &sampler))
        return CUDA_ERROR_INVALID_VALUE;
    struct ptx_image *image = vgpu_ptx_image_add(m, PTX_IMAGE_TEXTURE);
    if (!image)
        return CUDA_ERROR_OUT_OF_MEMORY;
    image->source = (uint8_t)desc->source;
    image->sampler = sampler;
    if (desc->source == VGPU_TEXTURE_ARRAY) {
        image->other = desc->array;
    } else {
        image->view = view;
        image->address = desc->address;
    }
    *texture = image->handle;
    return CUDA_SUCCESS;
}

static CUresult destroy(struct vgpu_backend *b, uint64_t handle, enum ptx_image_kind kind)
{
    struct ptx_memory *m;
    CUresult r = vgpu_software_memory(b, &m);
    if (r != CUDA_SUCCESS)
        return r;
    struct ptx_image *image = vgpu_ptx_image_find(m, handle, kind);
    if (!image)
        return CUDA_ERROR_INVALID_HANDLE;
    vgpu_ptx_image_drop(m, image);
    return CUDA_SUCCESS;
}

CUresult vgpu_software_texture_destroy(struct vgpu_backend *b, uint64_t texture)
{
    return destroy(b, texture, PTX_IMAGE_TEXTURE);
}

CUresult vgpu_software_surface_create(struct vgpu_backend *b, uint64_t array, uint64_t *surface)
{
    struct ptx_memory *m;
    CUresult r = vgpu_software_memory(b, &m);
    *surface = 0;
    if (r != CUDA_SUCCESS)
        return r;
    if (!vgpu_ptx_image_find(m, array, PTX_IMAGE_ARRAY))
        return CUDA_ERROR_INVALID_HANDLE;
    struct ptx_image *image = vgpu_ptx_image_add(m, PTX_IMAGE_SURFACE);
    if (!image)
        return CUDA_ERROR_OUT_OF_MEMORY;
    image->other = array;
    *surface = image->handle;
    return CUDA_SUCCESS;
}

CUresult vgpu_software_surface_destroy(struct vgpu_backend *b, uint64_t surface)
{
    return destroy(b, surface, PTX_IMAGE_SURFACE);
}

CUresult vgpu_software_reference_bind(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                      const char *name, uint64_t object)
{
    struct ptx_memory *memory;
    CUresult r = vgpu_software_memory(b, &memory);
    if (r != CUDA_SUCCESS)
        return r;
    const struct ptx_module *module = vgpu_software_module(b, m);
    if (!module)
        return CUDA_ERROR_INVALID_HANDLE;
    for (const struct ptx_reference *ref = module->references; ref; ref = ref->next) {
        if (strcmp(ref->name, name) != 0)
            continue;
        struct ptx_image *at = vgpu_ptx_image_find(memory, ref->handle, PTX_IMAGE_TEXREF);
        enum ptx_image_kind want = PTX_IMAGE_TEXTURE;
        if (!at) {
            at = vgpu_ptx_image_find(memory, ref->handle, PTX_IMAGE_SURFREF);
            want = PTX_IMAGE_SURFACE;
        }
        if (!at || (object && !vgpu_ptx_image_find(memory, object, want)))
            return CUDA_ERROR_INVALID_HANDLE;
        at->other = object;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
}
