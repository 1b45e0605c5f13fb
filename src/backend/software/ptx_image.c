/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of arrays, textures and surfaces; see ptx_image.h. */
#include "ptx_image.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_BITS 16

static bool grow(struct ptx_images *t)
{
    uint32_t cap = t->cap ? t->cap * 2 : 64;
    if (cap > PTX_MAX_IMAGES)
        return false;
    struct ptx_image *slot = realloc(t->slot, cap * sizeof(*slot));
    if (!slot)
        return false;
    t->slot = slot;
    t->cap = cap;
    return true;
}

struct ptx_image *vgpu_ptx_image_add(struct ptx_memory *m, enum ptx_image_kind kind)
{
    if (!m->images) {
        m->images = calloc(1, sizeof(*m->images));
        if (!m->images)
            return NULL;
        m->images->free = UINT32_MAX;
    }
    struct ptx_images *t = m->images;
    uint32_t index = t->free;
    if (index != UINT32_MAX)
        t->free = t->slot[index].next_free;
    else if (t->count < t->cap || grow(t))
        index = t->count++;
    else
        return NULL;
    struct ptx_image *image = &t->slot[index];
    memset(image, 0, sizeof(*image));
    image->handle = ++t->stamp << INDEX_BITS | index;
    image->kind = (uint8_t)kind;
    return image;
}

struct ptx_image *vgpu_ptx_image_find(const struct ptx_memory *m, uint64_t handle,
                                      enum ptx_image_kind kind)
{
    const struct ptx_images *t = m->images;
    uint64_t index = handle & ((1u << INDEX_BITS) - 1);
    if (!t || index >= t->count || t->slot[index].handle != handle || t->slot[index].kind != kind)
        return NULL;
    return &t->slot[index];
}

void vgpu_ptx_image_drop(struct ptx_memory *m, struct ptx_image *image)
{
    struct ptx_images *t = m->images;
    if (image->kind == PTX_IMAGE_ARRAY)
        vgpu_ptx_memory_release(m, image->address, true);
    memset(image, 0, sizeof(*image));
    image->next_free = t->free;
    t->free = (uint32_t)(image - t->slot);
}

void vgpu_ptx_images_free(struct ptx_images *images)
{
    if (images)
        free(images->slot);
    free(images);
}

bool vgpu_ptx_image_texture(const struct ptx_memory *m, uint64_t handle, struct ptx_view *view,
                            struct ptx_sampler *sampler)
{
    const struct ptx_image *ref = vgpu_ptx_image_find(m, handle, PTX_IMAGE_TEXREF);
    const struct ptx_image *t =
        vgpu_ptx_image_find(m, ref ? ref->other : handle, PTX_IMAGE_TEXTURE);
    if (!t)
        return false;
    *sampler = t->sampler;
    if (t->source == VGPU_TEXTURE_ARRAY) {
        const struct ptx_image *array = vgpu_ptx_image_find(m, t->other, PTX_IMAGE_ARRAY);
        if (!array)
            return false;
        *view = array->view;
        return true;
    }
    *view = t->view;
    /* Up to the last element of the last row, which need not be a whole pitch. */
    uint64_t row = (uint64_t)view->width * view->channels * view->channel_bytes;
    view->host = vgpu_ptx_memory_range(m, t->address, (view->height - 1) * view->pitch_bytes + row);
    return view->host != NULL;
}

bool vgpu_ptx_image_surface(const struct ptx_memory *m, uint64_t handle, struct ptx_view *view)
{
    const struct ptx_image *ref = vgpu_ptx_image_find(m, handle, PTX_IMAGE_SURFREF);
    const struct ptx_image *s =
        vgpu_ptx_image_find(m, ref ? ref->other : handle, PTX_IMAGE_SURFACE);
    const struct ptx_image *array = s ? vgpu_ptx_image_find(m, s->other, PTX_IMAGE_ARRAY) : NULL;
    if (!array)
        return false;
    *view = array->view;
    return true;
}
