/* SPDX-License-Identifier: MIT */
/* Which form an image has, and how long one is that came as an address. */
#include "image/image.h"

#include <errno.h>
#include <string.h>

#include "image/elf.h"

#define WRAPPER_BYTES       24u /* magic, version, pointer to the fatbin, one more pointer */
#define FATBIN_HEADER_BYTES 16u

static const uint8_t wrapper_magic[4] = {0xb1, 0x43, 0x62, 0x46};
static const uint8_t fatbin_magic[4] = {0x50, 0xed, 0x55, 0xba};
static const uint8_t elf_magic[4] = {0x7f, 'E', 'L', 'F'};

/* Byte by byte and no further than the first that differs: what is there may be a shorter string.
 */
static bool begins(const uint8_t *p, size_t bytes, const void *what, size_t length)
{
    const uint8_t *want = what;
    for (size_t i = 0; i < length; i++)
        if (i >= bytes || p[i] != want[i])
            return false;
    return true;
}

/* Stops at the first NUL at the latest. */
static bool begins_like_ptx(const uint8_t *p, size_t bytes)
{
    size_t i = 0;
    for (;;) {
        while (i < bytes && (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')))
            i++;
        if (begins(p + i, bytes - i, "//", 2)) {
            while (i < bytes && p[i] && p[i] != '\n')
                i++;
        } else if (begins(p + i, bytes - i, "/*", 2)) {
            i += 2;
            while (i < bytes && p[i] && !begins(p + i, bytes - i, "*/", 2))
                i++;
            if (i >= bytes || !p[i])
                return false;
            i += 2;
        } else {
            return begins(p + i, bytes - i, ".version", 8);
        }
    }
}

enum vgpu_image_form vgpu_image_form_of(const void *image, size_t bytes)
{
    if (bytes == 0)
        return VGPU_IMAGE_NONE;
    if (begins(image, bytes, fatbin_magic, sizeof(fatbin_magic)))
        return VGPU_IMAGE_FATBIN;
    if (begins(image, bytes, elf_magic, sizeof(elf_magic)))
        return VGPU_IMAGE_ELF;
    if (begins(image, bytes, wrapper_magic, sizeof(wrapper_magic)))
        return VGPU_IMAGE_WRAPPER;
    return begins_like_ptx(image, bytes) ? VGPU_IMAGE_PTX : VGPU_IMAGE_NONE;
}

static int measure_fatbin(const uint8_t *p, size_t most, size_t *size)
{
    if (most < FATBIN_HEADER_BYTES)
        return -E2BIG;
    uint64_t header = vgpu_le16(p + 6), body = vgpu_le64(p + 8);
    if (vgpu_le16(p + 4) != 1 || header < FATBIN_HEADER_BYTES)
        return -EINVAL;
    if (!vgpu_in_bounds(header, body, most))
        return -E2BIG;
    *size = (size_t)(header + body);
    return 0;
}

static int reach(uint64_t offset, uint64_t length, size_t most, size_t *size)
{
    if (!vgpu_in_bounds(offset, length, most))
        return -E2BIG;
    if (offset + length > *size)
        *size = (size_t)(offset + length);
    return 0;
}

/* The end of the last of: header, tables, sections, segments. A table is read when the header says
 * that it is there. */
static int measure_elf(const uint8_t *p, size_t most, size_t *size)
{
    struct vgpu_elf_tables t;
    if (most < ELF_HEADER_BYTES)
        return -E2BIG;
    int err = vgpu_elf_tables(p, &t);
    *size = ELF_HEADER_BYTES;
    if (err == 0 && t.sections_at && t.sections == 0) {
        err = reach(t.sections_at, ELF_SECTION_BYTES, most, size);
        if (err == 0)
            t.sections = vgpu_elf_section(p + t.sections_at).size;
        if (err == 0 && t.sections > most / ELF_SECTION_BYTES)
            err = -E2BIG;
    }
    if (err == 0)
        err = reach(t.sections_at, t.sections * ELF_SECTION_BYTES, most, size);
    if (err == 0)
        err = reach(t.segments_at, (uint64_t)t.segments * ELF_SEGMENT_BYTES, most, size);
    for (uint64_t i = 0; err == 0 && i < t.sections; i++) {
        struct vgpu_elf_section s = vgpu_elf_section(p + t.sections_at + i * ELF_SECTION_BYTES);
        /* What section 0 holds is numbers that did not fit elsewhere. */
        if (i > 0 && s.type != ELF_NOBITS)
            err = reach(s.offset, s.size, most, size);
    }
    for (uint32_t i = 0; err == 0 && i < t.segments; i++) {
        const uint8_t *s = p + t.segments_at + (uint64_t)i * ELF_SEGMENT_BYTES;
        err = reach(vgpu_le64(s + 8), vgpu_le64(s + 32), most, size);
    }
    return err;
}

/* To the NUL. */
static int measure_text(const uint8_t *p, size_t most, size_t *size)
{
    *size = strnlen((const char *)p, most);
    return *size < most ? 0 : -E2BIG;
}

int vgpu_image_extent(const void *image, size_t most_bytes, struct vgpu_image_span *out)
{
    const uint8_t *p = image;
    int err;
    memset(out, 0, sizeof(*out));
    if (!p)
        return -EINVAL;
    enum vgpu_image_form form = vgpu_image_form_of(p, most_bytes);
    if (form == VGPU_IMAGE_WRAPPER) {
        uint32_t version = vgpu_le32(p + 4);
        const void *inner;
        _Static_assert(sizeof(inner) == 8, "a wrapper's pointer is 64 bits wide");
        memcpy(&inner, p + 8, sizeof(inner));
        /* Version 2 has, behind that pointer, one to a list of fatbins to link: not needed, the
         * first is the linked one. */
        if ((version != 1 && version != 2) || !inner ||
            vgpu_image_form_of(inner, sizeof(fatbin_magic)) != VGPU_IMAGE_FATBIN)
            return -EINVAL;
        p = inner;
        form = VGPU_IMAGE_FATBIN;
        out->wrapped = true;
    }
    size_t size = 0;
    if (form == VGPU_IMAGE_FATBIN)
        err = measure_fatbin(p, most_bytes, &size);
    else if (form == VGPU_IMAGE_ELF)
        err = measure_elf(p, most_bytes, &size);
    else if (form == VGPU_IMAGE_PTX)
        err = measure_text(p, most_bytes, &size);
    else
        err = -EINVAL;
    if (err == 0) {
        out->bytes = p;
        out->size_bytes = size;
        out->form = form;
    }
    return err;
}

int vgpu_image_kernel_params(const void *image, size_t bytes, const char *name,
                             struct vgpu_param_layout *layout, uint32_t capacity, uint32_t *count,
                             uint32_t *total_bytes)
{
    switch (vgpu_image_form_of(image, bytes)) {
    case VGPU_IMAGE_ELF:
        return vgpu_cubin_kernel_params(image, bytes, name, layout, capacity, count, total_bytes);
    case VGPU_IMAGE_PTX:
        return vgpu_ptx_kernel_params(image, bytes, name, layout, capacity, count, total_bytes);
    default:
        *count = *total_bytes = 0;
        return -ENOTSUP;
    }
}
