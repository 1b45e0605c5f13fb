/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of module images share: the fixtures, copies that end where they end, and fatbins
 * built field by field. */
#ifndef VGPU_TEST_IMAGE_RIG_H
#define VGPU_TEST_IMAGE_RIG_H

#include "vgpu_test.h"

#include <stdbool.h>

#include "image/image.h"

/* tests/fixtures/images/NAME in memory of exactly its size, so that a sanitizer sees any byte read
 * behind it. The caller frees it. */
uint8_t *image_read(const char *name, size_t *bytes);

/* The same for bytes in hand; of no bytes, too. */
uint8_t *image_copy(const void *bytes, size_t size);

static inline void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

static inline void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint64_t get64(const uint8_t *p)
{
    uint64_t v = 0;
    for (unsigned i = 8; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

/* A fatbin that grows: entries are appended with good lengths; a test then spoils what it wants. */
struct fatbin {
    uint8_t bytes[8192];
    size_t size;
};

void fatbin_begin(struct fatbin *f);
/* An entry; returns where its header is. packed 0: plain. */
size_t fatbin_add(struct fatbin *f, unsigned kind, uint32_t sm, uint64_t flags, const void *data,
                  size_t bytes, uint64_t unpacked);
/* An empty module whose kernel is called `name`, for sm_`sm`. */
size_t fatbin_add_ptx(struct fatbin *f, uint32_t sm, uint64_t flags, const char *name);

/* Where the fields are (docs/cuda-images.md). */
enum {
    AT_FATBIN_VERSION = 4,
    AT_FATBIN_HEADER = 6,
    AT_FATBIN_BODY = 8,
    AT_KIND = 0,
    AT_HEADER = 4,
    AT_STORED = 8,
    AT_PACKED = 16,
    AT_OPTIONS = 20,
    AT_SM = 28,
    AT_NAME = 32,
    AT_NAME_BYTES = 36,
    AT_FLAGS = 40,
    AT_UNPACKED = 56,
    FIRST = 16, /* the first entry */
};

#endif
