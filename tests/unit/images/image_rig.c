/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t *image_copy(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size)
        memcpy(copy, bytes, size);

    return copy;
}

uint8_t *image_read(const char *name, size_t *bytes)
{
    char path[512];
    static uint8_t buffer[1 << 20];
    const char *source = getenv("VGPU_SOURCE");
    snprintf(path, sizeof(path), "%s/tests/fixtures/images/%s", source ? source : ".", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        print_error("%s is missing\n", path);
    assert_non_null(f);
    *bytes = fread(buffer, 1, sizeof(buffer), f);
    fclose(f);
    assert_in_range(*bytes, 1, sizeof(buffer) - 1);
    return image_copy(buffer, *bytes);
}

void fatbin_begin(struct fatbin *f)
{
    memset(f, 0, sizeof(*f));
    put32(f->bytes, 0xba55ed50);
    put16(f->bytes + AT_FATBIN_VERSION, 1);
    put16(f->bytes + AT_FATBIN_HEADER, 16);
    f->size = 16;
}

size_t fatbin_add(struct fatbin *f, unsigned kind, uint32_t sm, uint64_t flags, const void *data,
                  size_t bytes, uint64_t unpacked)
{
    size_t at = f->size, header = kind == VGPU_FATBIN_PTX ? 80 : 64, stored = (bytes + 7) & ~7ul;
    uint8_t *p = f->bytes + at;
    assert_true(at + header + stored <= sizeof(f->bytes));
    put16(p + AT_KIND, (uint16_t)kind);
    put16(p + 2, 0x101);
    put32(p + AT_HEADER, (uint32_t)header);
    put64(p + AT_STORED, stored);
    if (flags & (VGPU_FATBIN_F_LZ4 | VGPU_FATBIN_F_ZSTD)) {
        put32(p + AT_PACKED, (uint32_t)bytes);
        put64(p + AT_UNPACKED, unpacked);
    }
    if (kind == VGPU_FATBIN_PTX) {
        put32(p + AT_OPTIONS, 64);
        put32(p + 64, 72);
    }
    put32(p + AT_SM, sm);
    put64(p + AT_FLAGS, flags | VGPU_FATBIN_64BIT | VGPU_FATBIN_LINUX);
    memcpy(p + header, data, bytes);
    f->size += header + stored;
    put64(f->bytes + AT_FATBIN_BODY, f->size - 16);
    return at;
}

size_t fatbin_add_ptx(struct fatbin *f, uint32_t sm, uint64_t flags, const char *name)
{
    char text[256];
    int n =
        snprintf(text, sizeof(text),
                 ".version 7.0\n.target sm_%u\n.address_size 64\n.visible .entry %s() { ret; }\n",
                 (unsigned)sm, name);
    return fatbin_add(f, VGPU_FATBIN_PTX, sm, flags, text, (size_t)n + 1, 0);
}
