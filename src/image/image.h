/* SPDX-License-Identifier: MIT */
/*
 * CUDA module images as bytes: which of the four forms one is, how long it is, what is in it, and
 * how a kernel's parameters lie. The formats are in docs/cuda-images.md.
 *
 * Knows no driver, no backend and no compression library. Nothing here allocates, keeps state or
 * logs; every function may be called from any thread. All but vgpu_image_extent work on bytes of
 * unknown origin: no length or offset in them is believed before it is checked, nothing is read
 * outside [image, image + bytes), and the time taken is linear in `bytes`.
 *
 * Errors are negative errno.
 */
#ifndef VGPU_IMAGE_H
#define VGPU_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/protocol.h"

enum vgpu_image_form {
    VGPU_IMAGE_NONE,    /* nothing that CUDA loads */
    VGPU_IMAGE_WRAPPER, /* magic, version and a pointer to a fatbin: for one address space only */
    VGPU_IMAGE_FATBIN,
    VGPU_IMAGE_ELF, /* a cubin */
    VGPU_IMAGE_PTX, /* text, with or without a NUL at its end */
};

/*
 * Which form `bytes` bytes begin like. PTX is what begins, after white space and comments, with
 * ".version": the rule by which NVIDIA's driver tells bad PTX from no image.
 */
enum vgpu_image_form vgpu_image_form_of(const void *image, size_t bytes);

/* An image in the caller's own memory. */
struct vgpu_image_span {
    const void *bytes;         /* of a wrapper: the fatbin it points to */
    size_t size_bytes;         /* PTX: without its NUL */
    enum vgpu_image_form form; /* never NONE or WRAPPER */
    bool wrapped;              /* it was given as a wrapper */
};

/*
 * The length of an image that a program passed by address alone, as cuModuleLoadData has it. The
 * address is trusted as much as the program that gave it; still no more is read than what is read
 * so far says is there, and the result is at most `most_bytes`, which also bounds the reading.
 *
 * -EINVAL: not an image, or one that contradicts itself (CUDA_ERROR_INVALID_IMAGE); -E2BIG: longer
 * than most_bytes. An ELF may be for another machine: that is for vgpu_cubin_check to say.
 */
int vgpu_image_extent(const void *image, size_t most_bytes, struct vgpu_image_span *out);

/* ---- Fatbins ---- */

enum vgpu_fatbin_kind { /* others exist and are walked over */
                        VGPU_FATBIN_PTX = 1,
                        VGPU_FATBIN_ELF = 2,
                        VGPU_FATBIN_LTO_IR = 8,
};

enum vgpu_fatbin_packing {
    VGPU_FATBIN_PLAIN,
    VGPU_FATBIN_LZ4,
    VGPU_FATBIN_ZSTD,
    VGPU_FATBIN_OPAQUE, /* in a way that is not known, as LTO IR is */
};

/* Bits of vgpu_fatbin_entry.flags. */
#define VGPU_FATBIN_64BIT    0x0001u
#define VGPU_FATBIN_DEBUG    0x0002u
#define VGPU_FATBIN_LINUX    0x0010u
#define VGPU_FATBIN_F_LZ4    0x2000u
#define VGPU_FATBIN_F_ZSTD   0x8000u
#define VGPU_FATBIN_F_OPAQUE (0x1000u | 0x4000u | 0x10000u)
#define VGPU_FATBIN_F_ARCH   0x100000u /* sm_90a: this architecture and no other */
#define VGPU_FATBIN_F_FAMILY 0x200000u /* sm_100f: later ones of the same major number */

struct vgpu_fatbin_entry {
    uint16_t kind; /* enum vgpu_fatbin_kind, or another number */
    uint32_t sm;   /* 75: compute capability 7.5 */
    enum vgpu_fatbin_packing packing;
    uint64_t flags;
    uint16_t version_major, version_minor; /* of the PTX ISA, or of the cubin's ABI */
    const uint8_t *data;                   /* in the image */
    size_t data_bytes;                     /* as stored; PTX may have NULs at its end */
    uint64_t unpacked_bytes;               /* as declared; data_bytes when plain or opaque */
    const char *options; /* for ptxas; in the image, a NUL behind it; NULL: none */
    size_t options_bytes;
    const char *name; /* of the source file; as `options` */
    size_t name_bytes;
    unsigned fatbin; /* counts fatbins that stand one behind the other, from 0 */
};

/* A walk over all entries of all fatbins in `bytes` bytes. The fields are the walk's own. */
struct vgpu_fatbin_walk {
    const uint8_t *bytes;
    size_t size, at, end; /* of the image; of the fatbin that `at` is in */
    unsigned fatbins;
    bool broken;
};

/* `image` must stay as it is until the walk ends. */
void vgpu_fatbin_walk_start(struct vgpu_fatbin_walk *w, const void *image, size_t bytes);

/*
 * The next entry: 1 and *e, 0 at the end, -EINVAL when the image is malformed there (and for ever
 * after). What stands behind the first fatbin and is no other is not looked at.
 */
int vgpu_fatbin_walk_next(struct vgpu_fatbin_walk *w, struct vgpu_fatbin_entry *e);

/* What a fatbin has to offer, for the sentence that says why nothing fits. */
struct vgpu_fatbin_census {
    unsigned ptx, elf, other; /* entries */
    uint32_t lowest_ptx_sm;   /* 0: none */
};

/*
 * The entry that NVIDIA's driver takes for a device of compute capability `sm` (75: 7.5), out of
 * the kinds in `kinds` (bits 1 << enum vgpu_fatbin_kind): machine code of the same major and no
 * higher minor number, the highest first; else the PTX with the highest target not above `sm`.
 * "a" entries fit their own number only and go before others; "f" entries fit their own major
 * number only. Between equals the first, but for plain PTX of exactly `sm` the last. Only the first
 * fatbin counts.
 *
 * 0 and *e; -ENOEXEC: none fits; -EINVAL: malformed. *census, if not NULL, is filled for 0 and
 * -ENOEXEC.
 */
int vgpu_fatbin_choose(const void *image, size_t bytes, uint32_t sm, unsigned kinds,
                       struct vgpu_fatbin_entry *e, struct vgpu_fatbin_census *census);

/* ---- Cubins ---- */

/*
 * Whether `bytes` bytes are a 64-bit little-endian ELF for NVIDIA GPUs whose section and program
 * headers, and everything they point to, lie within the bytes: 0 or -EINVAL. *sm, if not NULL, is
 * the architecture it was made for.
 */
int vgpu_cubin_check(const void *image, size_t bytes, uint32_t *sm);

/* ---- Kernels ---- */

#define VGPU_KERNEL_PARAM_BYTES_MAX 32764u /* CUDA 12.1 and later, sm_70 and later */

/*
 * The parameters of kernel `name` (NUL-terminated) in a cubin or PTX text: the first `capacity` of
 * them into `layout` in their order, how many there are into *count, and the size of the whole
 * parameter buffer into *total_bytes (at most VGPU_KERNEL_PARAM_BYTES_MAX). Each lies within the
 * buffer; those of hostile images may overlap.
 *
 * -ENOENT: no such kernel; -EINVAL: malformed; -ENOTSUP: neither form (of a fatbin, unpack an entry
 * first: backend/unpack.h).
 */
int vgpu_image_kernel_params(const void *image, size_t bytes, const char *name,
                             struct vgpu_param_layout *layout, uint32_t capacity, uint32_t *count,
                             uint32_t *total_bytes);

/* What that is made of; the same contract for one form. */
int vgpu_cubin_kernel_params(const void *image, size_t bytes, const char *name,
                             struct vgpu_param_layout *layout, uint32_t capacity, uint32_t *count,
                             uint32_t *total_bytes);
int vgpu_ptx_kernel_params(const void *text, size_t bytes, const char *name,
                           struct vgpu_param_layout *layout, uint32_t capacity, uint32_t *count,
                           uint32_t *total_bytes);

#endif
