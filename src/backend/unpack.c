/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See unpack.h. */
#include "backend/unpack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef VGPU_HAVE_LZ4
#include <lz4.h>
#endif
#ifdef VGPU_HAVE_ZSTD
#include <zstd.h>
#endif

#define RATIO_FREE_BYTES ((uint64_t)1 << 20)

static CUresult __attribute__((format(printf, 4, 5)))
say(CUresult result, char *log, size_t log_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (log_size)
        vsnprintf(log, log_size, format, args);
    va_end(args);
    return result;
}

static bool unpack_lz4(const struct vgpu_fatbin_entry *e, void *out, size_t size)
{
#ifdef VGPU_HAVE_LZ4
    /* Both are at most VGPU_UNPACK_MAX_BYTES. */
    return LZ4_decompress_safe((const char *)e->data, out, (int)e->data_bytes, (int)size) ==
           (int)size;
#else
    return false;
#endif
}

static bool unpack_zstd(const struct vgpu_fatbin_entry *e, void *out, size_t size)
{
#ifdef VGPU_HAVE_ZSTD
    /* In one go: no window is allocated, whatever the frame asks for. */
    return ZSTD_decompress(out, size, e->data, e->data_bytes) == size;
#else
    return false;
#endif
}

static bool can_unpack(enum vgpu_fatbin_packing packing)
{
#ifndef VGPU_HAVE_LZ4
    if (packing == VGPU_FATBIN_LZ4)
        return false;
#endif
#ifndef VGPU_HAVE_ZSTD
    if (packing == VGPU_FATBIN_ZSTD)
        return false;
#endif
    return true;
}

static const char *packing_name(enum vgpu_fatbin_packing packing)
{
    return packing == VGPU_FATBIN_LZ4 ? "LZ4" : "zstd";
}

CUresult vgpu_fatbin_unpack(const struct vgpu_fatbin_entry *e, size_t most_bytes,
                            struct vgpu_unpacked *out, char *log, size_t log_size)
{
    *out = (struct vgpu_unpacked){0};
    if (e->packing == VGPU_FATBIN_PLAIN) {
        *out = (struct vgpu_unpacked){.bytes = e->data, .size = e->data_bytes};
        return CUDA_SUCCESS;
    }
    if (e->packing == VGPU_FATBIN_OPAQUE)
        return say(CUDA_ERROR_NOT_SUPPORTED, log, log_size,
                   "the image is packed in a way that vgpu does not know (flags 0x%" PRIx64
                   "): compile with --compress-mode=none",
                   e->flags);
    const char *how = packing_name(e->packing);
    if (!can_unpack(e->packing))
        return say(CUDA_ERROR_NOT_SUPPORTED, log, log_size,
                   "the image is compressed with %s, which this build of vgpu cannot read: compile "
                   "with --compress-mode=none, or build vgpu with the %s library",
                   how, how);
    if (e->unpacked_bytes > VGPU_UNPACK_MAX_BYTES || e->data_bytes > VGPU_UNPACK_MAX_BYTES)
        return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
                   "the image says that it unpacks to %" PRIu64 " bytes, the most is %zu",
                   e->unpacked_bytes, VGPU_UNPACK_MAX_BYTES);
    if (e->unpacked_bytes > RATIO_FREE_BYTES &&
        e->unpacked_bytes / VGPU_UNPACK_RATIO > e->data_bytes)
        return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
                   "the image says that %zu bytes unpack to %" PRIu64
                   ", which is more than %u times as much",
                   e->data_bytes, e->unpacked_bytes, VGPU_UNPACK_RATIO);
    if (e->unpacked_bytes > most_bytes)
        return say(CUDA_ERROR_OUT_OF_MEMORY, log, log_size,
                   "the image unpacks to %" PRIu64 " bytes, room is left for %zu",
                   e->unpacked_bytes, most_bytes);
    size_t size = (size_t)e->unpacked_bytes;
    uint8_t *bytes = malloc(size);
    if (!bytes)
        return say(CUDA_ERROR_OUT_OF_MEMORY, log, log_size,
                   "the host has no %zu bytes to unpack the image into", size);
    bool whole =
        e->packing == VGPU_FATBIN_LZ4 ? unpack_lz4(e, bytes, size) : unpack_zstd(e, bytes, size);
    if (!whole) {
        free(bytes);
        return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
                   "the image is damaged: its %s data does not unpack to the %zu bytes it declares",
                   how, size);
    }
    *out = (struct vgpu_unpacked){.bytes = bytes, .size = size, .owned = bytes};
    return CUDA_SUCCESS;
}

void vgpu_unpacked_free(struct vgpu_unpacked *u)
{
    free(u->owned);
    *u = (struct vgpu_unpacked){0};
}

static CUresult say_malformed(char *log, size_t log_size)
{
    return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
               "the image is malformed: it is cut off, or a length in it is wrong");
}

static CUresult say_no_image(char *log, size_t log_size)
{
    return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
               "not a CUDA module: neither PTX text (which begins with .version), nor a fatbin, "
               "nor a cubin");
}

static CUresult say_wrapper(char *log, size_t log_size)
{
    return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
               "a fatbin wrapper holds an address in the program that made it: send the fatbin "
               "that it points to");
}

/* Why no entry of a fatbin will do. */
static CUresult say_none_fits(const struct vgpu_fatbin_census *census, uint32_t sm, char *log,
                              size_t log_size)
{
    if (census->ptx)
        return say(CUDA_ERROR_NO_BINARY_FOR_GPU, log, log_size,
                   "the image has PTX for sm_%" PRIu32 " and later only, this device is sm_%" PRIu32
                   ": compile with -gencode arch=compute_%" PRIu32 ",code=compute_%" PRIu32,
                   census->lowest_ptx_sm, sm, sm, sm);
    return say(CUDA_ERROR_NO_BINARY_FOR_GPU, log, log_size,
               "the image has no PTX (machine code: %u, other: %u), this device is sm_%" PRIu32
               " and runs PTX: compile with -gencode arch=compute_%" PRIu32
               ",code=compute_%" PRIu32,
               census->elf, census->other, sm, sm, sm);
}

static CUresult find_ptx_in_fatbin(const void *image, size_t bytes, uint32_t sm, size_t most_bytes,
                                   struct vgpu_unpacked *out, char *log, size_t log_size)
{
    struct vgpu_fatbin_entry e;
    struct vgpu_fatbin_census census;
    int err = vgpu_fatbin_choose(image, bytes, sm, 1u << VGPU_FATBIN_PTX, &e, &census);
    if (err == -ENOEXEC)
        return say_none_fits(&census, sm, log, log_size);
    if (err < 0)
        return say_malformed(log, log_size);
    CUresult r = vgpu_fatbin_unpack(&e, most_bytes, out, log, log_size);
    if (r == CUDA_SUCCESS)
        out->size = strnlen((const char *)out->bytes, out->size);
    return r;
}

CUresult vgpu_image_find_ptx(const void *image, size_t bytes, uint32_t sm, size_t most_bytes,
                             struct vgpu_unpacked *out, char *log, size_t log_size)
{
    uint32_t made_for;
    *out = (struct vgpu_unpacked){0};
    switch (vgpu_image_form_of(image, bytes)) {
    case VGPU_IMAGE_PTX:
        *out = (struct vgpu_unpacked){.bytes = image, .size = bytes};
        return CUDA_SUCCESS;
    case VGPU_IMAGE_FATBIN:
        return find_ptx_in_fatbin(image, bytes, sm, most_bytes, out, log, log_size);
    case VGPU_IMAGE_ELF:
        if (vgpu_cubin_check(image, bytes, &made_for) < 0)
            return say_malformed(log, log_size);
        return say(CUDA_ERROR_NO_BINARY_FOR_GPU, log, log_size,
                   "the image is machine code for sm_%" PRIu32 ", this device is sm_%" PRIu32
                   " and runs PTX: compile with -gencode arch=compute_%" PRIu32
                   ",code=compute_%" PRIu32,
                   made_for, sm, sm, sm);
    case VGPU_IMAGE_WRAPPER:
        return say_wrapper(log, log_size);
    default:
        return say_no_image(log, log_size);
    }
}

CUresult vgpu_image_find_params(const void *image, size_t bytes, uint32_t sm, const char *kernel,
                                struct vgpu_param_layout *layout, uint32_t capacity,
                                uint32_t *count, uint32_t *total_bytes, char *log, size_t log_size)
{
    struct vgpu_unpacked u = {.bytes = image, .size = bytes};
    *count = *total_bytes = 0;
    if (vgpu_image_form_of(image, bytes) == VGPU_IMAGE_FATBIN) {
        struct vgpu_fatbin_entry e;
        struct vgpu_fatbin_census census;
        int err = vgpu_fatbin_choose(image, bytes, sm,
                                     1u << VGPU_FATBIN_PTX | 1u << VGPU_FATBIN_ELF, &e, &census);
        if (err == -ENOEXEC)
            return say(CUDA_ERROR_NO_BINARY_FOR_GPU, log, log_size,
                       "the image has nothing for sm_%" PRIu32, sm);
        if (err < 0)
            return say_malformed(log, log_size);
        CUresult r = vgpu_fatbin_unpack(&e, VGPU_UNPACK_MAX_BYTES, &u, log, log_size);
        if (r != CUDA_SUCCESS)
            return r;
    }
    int err =
        vgpu_image_kernel_params(u.bytes, u.size, kernel, layout, capacity, count, total_bytes);
    vgpu_unpacked_free(&u);
    if (err == -ENOENT)
        return say(CUDA_ERROR_NOT_FOUND, log, log_size, "the image has no kernel '%.200s'", kernel);
    if (err == -ENOTSUP)
        return say_no_image(log, log_size);
    return err < 0 ? say_malformed(log, log_size) : CUDA_SUCCESS;
}

static CUresult check_fatbin(const void *image, size_t bytes, char *log, size_t log_size)
{
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry e;
    uint64_t total = 0;
    int more;
    vgpu_fatbin_walk_start(&w, image, bytes);
    while ((more = vgpu_fatbin_walk_next(&w, &e)) > 0) {
        struct vgpu_unpacked u;
        /* What LTO IR is packed with is not known; a driver steps over it when it is opaque. With
         * other entries it does things that cannot be foreseen. */
        if (e.kind == VGPU_FATBIN_LTO_IR && e.packing == VGPU_FATBIN_OPAQUE)
            continue;
        if (e.kind != VGPU_FATBIN_PTX && e.kind != VGPU_FATBIN_ELF)
            return say(CUDA_ERROR_NOT_SUPPORTED, log, log_size,
                       "the image has an entry of kind %u (flags 0x%" PRIx64
                       "), which vgpu cannot check: compile it to PTX or machine code",
                       e.kind, e.flags);
        total += e.unpacked_bytes;
        if (e.unpacked_bytes > VGPU_UNPACK_TOTAL_BYTES || total > VGPU_UNPACK_TOTAL_BYTES)
            return say(CUDA_ERROR_INVALID_IMAGE, log, log_size,
                       "the image says that it unpacks to more than %" PRIu64 " bytes in all",
                       VGPU_UNPACK_TOTAL_BYTES);
        CUresult r = vgpu_fatbin_unpack(&e, VGPU_UNPACK_MAX_BYTES, &u, log, log_size);
        if (r != CUDA_SUCCESS)
            return r;
        bool sound = true;
        if (e.kind == VGPU_FATBIN_ELF)
            sound = vgpu_cubin_check(u.bytes, u.size, NULL) == 0;
        else if (e.kind == VGPU_FATBIN_PTX) /* a driver looks for the NUL */
            sound = u.bytes && strnlen((const char *)u.bytes, u.size) < u.size;
        vgpu_unpacked_free(&u);
        if (!sound)
            return say_malformed(log, log_size);
    }
    return more < 0 ? say_malformed(log, log_size) : CUDA_SUCCESS;
}

CUresult vgpu_image_check(const void *image, size_t bytes, char *log, size_t log_size)
{
    switch (vgpu_image_form_of(image, bytes)) {
    case VGPU_IMAGE_PTX:
        return CUDA_SUCCESS;
    case VGPU_IMAGE_FATBIN:
        return check_fatbin(image, bytes, log, log_size);
    case VGPU_IMAGE_ELF:
        return vgpu_cubin_check(image, bytes, NULL) == 0 ? CUDA_SUCCESS
                                                         : say_malformed(log, log_size);
    case VGPU_IMAGE_WRAPPER:
        return say_wrapper(log, log_size);
    default:
        return say_no_image(log, log_size);
    }
}
