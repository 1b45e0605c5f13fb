/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: a module image of unknown origin, through everything that looks at one before
 * it is parsed or handed to a driver. Whatever is accepted must be what it claims: entries within
 * the image, unpacked text of the declared size, parameters within their buffer. Seeds: the images
 * of tests/fixtures/images.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLAIM(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

/* Every byte is read, so that a sanitizer sees one that is not there. */
static unsigned touch(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += p[i];
    return sum;
}

static void check_layout(const struct vgpu_param_layout *layout, uint32_t capacity, uint32_t count,
                         uint32_t total)
{
    CLAIM(total <= VGPU_KERNEL_PARAM_BYTES_MAX);
    for (uint32_t i = 0; i < count && i < capacity; i++)
        CLAIM(layout[i].offset <= total && layout[i].size <= total - layout[i].offset);
}

static void try_params(const void *image, size_t size)
{
    static const char *const names[] = {"scale", "none", "mixed", "vectors", "tiny", "large", "k"};
    struct vgpu_param_layout layout[8];
    uint32_t count, total;
    char why[200];
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        memset(layout, 0, sizeof(layout));
        if (vgpu_image_kernel_params(image, size, names[i], layout, 8, &count, &total) == 0)
            check_layout(layout, 8, count, total);
    }
    memset(layout, 0, sizeof(layout));
    if (vgpu_image_find_params(image, size, 90, "large", layout, 8, &count, &total, why,
                               sizeof(why)) == CUDA_SUCCESS)
        check_layout(layout, 8, count, total);
}

static void walk(const uint8_t *data, size_t size)
{
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry e;
    size_t entries = 0;
    vgpu_fatbin_walk_start(&w, data, size);
    while (vgpu_fatbin_walk_next(&w, &e) > 0) {
        struct vgpu_unpacked u;
        CLAIM(++entries <= size / 64);
        CLAIM(e.data >= data && e.data_bytes <= size - (size_t)(e.data - data));
        touch(e.options, e.options_bytes);
        touch(e.name, e.name_bytes);
        if (vgpu_fatbin_unpack(&e, 1u << 20, &u, NULL, 0) == CUDA_SUCCESS) {
            CLAIM(u.size == e.unpacked_bytes);
            touch(u.bytes, u.size);
            try_params(u.bytes, u.size);
        }
        vgpu_unpacked_free(&u);
    }
}

/* The same bytes as a program would pass them, by address alone: at most `size` of them are read,
 * since no claim of theirs may lead further. */
static void measure(const uint8_t *data, size_t size)
{
    struct vgpu_image_span span;
    if (vgpu_image_form_of(data, size) == VGPU_IMAGE_WRAPPER)
        return; /* its pointer is trusted, and here it would be the fuzzer's */
    if (vgpu_image_extent(data, size, &span) == 0) {
        CLAIM(span.bytes == data && span.size_bytes <= size);
        if (span.form == VGPU_IMAGE_ELF && span.size_bytes == size)
            (void)vgpu_cubin_check(data, size, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vgpu_unpacked u;
    char why[200];
    measure(data, size);
    walk(data, size);
    try_params(data, size);
    if (vgpu_image_find_ptx(data, size, 75, 1u << 20, &u, why, sizeof(why)) == CUDA_SUCCESS)
        touch(u.bytes, u.size);
    else
        CLAIM(memchr(why, 0, sizeof(why)));
    vgpu_unpacked_free(&u);
    (void)vgpu_image_check(data, size, why, sizeof(why));
    return 0;
}
