/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrays, texture and surface objects of a session, and the handles kernels carry. Owns the table
 * of objects and how a handle becomes memory to look at; what a kernel reads there is
 * ptx_sample.c's and exec_tex.c's.
 *
 * A handle is a slot's number and a stamp that no other object ever had, so that one that was made
 * up, or whose object is gone, finds nothing. Whatever an object refers to (an array, device
 * memory) is looked up again each time it is used: nothing here outlives what it points to.
 *
 * Threads: as for device memory, look-ups may run on many threads while nobody changes anything.
 */
#ifndef VGPU_PTX_IMAGE_H
#define VGPU_PTX_IMAGE_H

#include "ptx_memory.h"
#include "software.h"

#define PTX_MAX_IMAGES 65536u /* objects of one session, of all kinds together */

enum ptx_image_kind {
    PTX_IMAGE_FREE,
    PTX_IMAGE_ARRAY,
    PTX_IMAGE_TEXTURE,
    PTX_IMAGE_SURFACE,
    PTX_IMAGE_TEXREF, /* a module's .texref or .surfref: another object's handle, or 0 */
    PTX_IMAGE_SURFREF
};

/* Elements in host memory. A missing dimension counts 1. */
struct ptx_view {
    uint8_t *host;
    uint32_t width, height, depth; /* depth: of a volume, or layers */
    uint64_t pitch_bytes, slice_bytes;
    uint8_t format, channels, channel_bytes; /* format: enum vgpu_array_format */
    uint8_t dimensions;                      /* of a layer: 1, 2 or 3 */
    bool layered;
};

/* How to look at them. */
struct ptx_sampler {
    uint8_t address[3]; /* enum vgpu_address_mode */
    bool linear, normalized, to_float;
    uint32_t border[4]; /* bits of what lies outside */
};

struct ptx_image {
    uint64_t handle;
    uint8_t kind, source; /* source: enum vgpu_texture_source, of a texture */
    uint32_t next_free;
    uint64_t address; /* an array's memory, or what a texture looks at */
    uint64_t
        other; /* the array a texture or surface looks at; the object a reference is bound to */
    struct ptx_view view; /* host: arrays only */
    struct ptx_sampler sampler;
};

struct ptx_images {
    struct ptx_image *slot;
    uint32_t count, cap, free;
    uint64_t stamp;
};

/* A new object, zeroed but for handle and kind; NULL when there are too many. Valid until the next
 * one is made. */
struct ptx_image *vgpu_ptx_image_add(struct ptx_memory *m, enum ptx_image_kind kind);
/* The object of that handle, or NULL unless it lives and is of that kind. */
struct ptx_image *vgpu_ptx_image_find(const struct ptx_memory *m, uint64_t handle,
                                      enum ptx_image_kind kind);
void vgpu_ptx_image_drop(struct ptx_memory *m, struct ptx_image *image);
void vgpu_ptx_images_free(struct ptx_images *images);

/* What a kernel's handle stands for, through a reference if it is one. False: nothing it may use.
 */
bool vgpu_ptx_image_texture(const struct ptx_memory *m, uint64_t handle, struct ptx_view *view,
                            struct ptx_sampler *sampler);
bool vgpu_ptx_image_surface(const struct ptx_memory *m, uint64_t handle, struct ptx_view *view);

/* ptx_sample.c. Coordinates in x, y, z, only as many as the view has dimensions; `layer` for
 * layered ones. out: four values of 32 bits. */
struct ptx_coordinates {
    double at[3];
    bool whole; /* numbers of texels, not places between them */
    int64_t layer;
};
void vgpu_ptx_sample(const struct ptx_view *v, const struct ptx_sampler *s,
                     const struct ptx_coordinates *c, uint32_t out[4]);
/* tld4: component `channel` of the four texels around. */
void vgpu_ptx_gather(const struct ptx_view *v, const struct ptx_sampler *s,
                     const struct ptx_coordinates *c, unsigned channel, uint32_t out[4]);

/* software.c: the session's memory, or its sticky error; a loaded module, or NULL. */
CUresult vgpu_software_memory(struct vgpu_backend *b, struct ptx_memory **memory);
struct ptx_module;
const struct ptx_module *vgpu_software_module(struct vgpu_backend *b,
                                              struct vgpu_backend_module *m);

#endif
