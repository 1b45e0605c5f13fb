/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the software backend offers beyond struct vgpu_backend_ops: a text for people, a knob for
 * tests, and arrays, textures and surfaces. */
#ifndef VGPU_BACKEND_SOFTWARE_H
#define VGPU_BACKEND_SOFTWARE_H

#include <stdbool.h>

#include "backend/backend.h"

/*
 * Which kernel failed where: kernel, line of the PTX text, address. Empty while nothing has failed.
 * Valid until the next call on `b`; to be called from the thread that calls the ops.
 */
const char *vgpu_software_last_error(struct vgpu_backend *b);

/*
 * What kernels have printed (printf, failed assertions) since it was last taken, at most
 * `out_bytes` bytes of it, oldest first; the number of bytes, 0 when nothing is left. Text waits
 * until it is taken, up to the configured `printf_bytes`; *lost is how many messages since the last
 * call found no room. A sticky error changes nothing about it. To be called from the thread that
 * calls the ops.
 */
size_t vgpu_software_take_printf(struct vgpu_backend *b, char *out, size_t out_bytes,
                                 uint64_t *lost);

/*
 * How many blocks of that many threads and bytes of dynamic shared memory can be there at a time,
 * over all multiprocessors: what a cooperative launch of `kernel` may have. INVALID_VALUE for a
 * block that no launch takes.
 */
CUresult vgpu_software_max_blocks(struct vgpu_backend *b, struct vgpu_backend_kernel *kernel,
                                  uint32_t block_threads, uint32_t shared_bytes, uint64_t *blocks);

/*
 * Runs modules loaded from now on with the handlers of one instruction set level, "base" or "avx2".
 * INVALID_VALUE for a level this host or this build lacks. By default the best one is used; results
 * are the same.
 */
CUresult vgpu_software_set_level(struct vgpu_backend *b, const char *level);

/* The driver of the session (backend/driver.h), made when first asked for; NULL: no host memory. It
 * ends with the backend. */
struct vgpu_driver *vgpu_software_driver(struct vgpu_backend *b);

/* Between software.c and driver.c. */
struct ptx_memory;
struct vgpu_driver *vgpu_software_driver_create(struct vgpu_backend *b, struct ptx_memory *memory);
void vgpu_software_driver_destroy(struct vgpu_driver *driver);
/*
 * Arrays, texture and surface objects. All calls are for the thread that calls the ops, and answer
 * the session's sticky error once there is one. Handles are opaque and never 0; one that is not
 * there, or is of another kind, is INVALID_HANDLE here and a sticky ILLEGAL_ADDRESS when a kernel
 * uses it. Objects of a session end with it. All kinds together are at most 65536
 * (OUT_OF_MEMORY).
 */

/* Values are those of CUarray_format. */
enum vgpu_array_format {
    VGPU_ARRAY_U8 = 0x01,
    VGPU_ARRAY_U16 = 0x02,
    VGPU_ARRAY_U32 = 0x03,
    VGPU_ARRAY_S8 = 0x08,
    VGPU_ARRAY_S16 = 0x09,
    VGPU_ARRAY_S32 = 0x0a,
    VGPU_ARRAY_HALF = 0x10,
    VGPU_ARRAY_FLOAT = 0x20
};

/* A missing dimension is 0: width alone is 1D, width and height 2D. With `layered`, depth is the
 * number of layers, and height may be 0. */
struct vgpu_array_desc {
    uint64_t width, height, depth; /* elements; at most 131072, 65536, 16384 (2048 layers) */
    uint32_t format;               /* enum vgpu_array_format */
    uint32_t channels;             /* 1, 2 or 4 */
    bool layered;
};

/* INVALID_VALUE for what `desc` may not say; OUT_OF_MEMORY over the device memory quota. Rows are
 * padded to 16 bytes. Reads as zero. */
CUresult vgpu_software_array_create(struct vgpu_backend *b, const struct vgpu_array_desc *desc,
                                    uint64_t *array);
/* Textures and surfaces on it may stay; using them is an error from now on. */
CUresult vgpu_software_array_destroy(struct vgpu_backend *b, uint64_t array);
CUresult vgpu_software_array_desc(struct vgpu_backend *b, uint64_t array,
                                  struct vgpu_array_desc *desc);

enum vgpu_place_kind { VGPU_PLACE_HOST, VGPU_PLACE_DEVICE, VGPU_PLACE_ARRAY };

/* One side of a copy. Host memory is touched within [host, host + host_bytes) only. */
struct vgpu_place {
    uint32_t kind; /* enum vgpu_place_kind */
    void *host;    /* read only, if it is the source */
    uint64_t host_bytes;
    uint64_t address; /* device memory */
    uint64_t array;
    uint64_t x_bytes, y, z; /* where the box begins; z is the layer of a layered array */
    uint64_t pitch_bytes;   /* of a row, host and device memory; 0: width_bytes */
    uint64_t height;        /* rows of a slice, host and device memory; 0: the copy's height */
};

struct vgpu_copy {
    struct vgpu_place src, dst;
    uint64_t width_bytes, height, depth; /* of the box; 0 anywhere: nothing is copied */
};

/* INVALID_VALUE, and nothing is copied, unless the whole box lies within both sides and its rows
 * begin and end at elements of the arrays. */
CUresult vgpu_software_copy(struct vgpu_backend *b, const struct vgpu_copy *copy);

enum vgpu_texture_source { VGPU_TEXTURE_ARRAY, VGPU_TEXTURE_LINEAR, VGPU_TEXTURE_PITCH2D };

/* Values are those of CUaddress_mode. */
enum vgpu_address_mode {
    VGPU_ADDRESS_WRAP,
    VGPU_ADDRESS_CLAMP,
    VGPU_ADDRESS_MIRROR,
    VGPU_ADDRESS_BORDER
};

struct vgpu_texture_desc {
    uint32_t source;           /* enum vgpu_texture_source */
    uint64_t array;            /* ARRAY */
    uint64_t address;          /* LINEAR, PITCH2D: device memory, a multiple of 32 */
    uint32_t format, channels; /* LINEAR, PITCH2D */
    uint64_t width, height;    /* elements; height: PITCH2D only */
    uint64_t pitch_bytes;      /* PITCH2D, a multiple of 32 */
    uint32_t address_mode[3];  /* enum vgpu_address_mode; WRAP and MIRROR need `normalized` */
    bool linear_filter;        /* values must be floating point, or made so */
    bool normalized;           /* coordinates from 0 to 1 */
    bool element_type;         /* integers as they are; else 8 and 16 bits become [0, 1] or
                                  [-1, 1] */
    uint32_t border[4];        /* BORDER: bits of the value outside */
};

/* INVALID_VALUE for what `desc` may not say. The memory is looked up when a kernel reads it: the
 * texture does not keep it alive. */
CUresult vgpu_software_texture_create(struct vgpu_backend *b, const struct vgpu_texture_desc *desc,
                                      uint64_t *texture);
CUresult vgpu_software_texture_destroy(struct vgpu_backend *b, uint64_t texture);
CUresult vgpu_software_surface_create(struct vgpu_backend *b, uint64_t array, uint64_t *surface);
CUresult vgpu_software_surface_destroy(struct vgpu_backend *b, uint64_t surface);

/* Binds `object`, a texture or a surface as the reference wants, or 0 for none, to the .texref or
 * .surfref `name` of `m`. NOT_FOUND: no such reference. */
CUresult vgpu_software_reference_bind(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                      const char *name, uint64_t object);

#endif
