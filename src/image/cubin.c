/* SPDX-License-Identifier: MIT */
/* Cubins: the ELF around them, and the attributes that say how a kernel's parameters lie. */
#include <errno.h>
#include <string.h>

#include "image/elf.h"

#define CLASS_64      2u
#define DATA_LITTLE   1u
#define ABI_SINCE_13  8u /* EI_ABIVERSION of nvcc 13 and later; 7 before */
#define NV_INFO       0x70000000u
#define ATTR_HEADER   4u
#define MAX_ORDINALS  (VGPU_KERNEL_PARAM_BYTES_MAX + 1)
#define ORDINAL_WORDS ((MAX_ORDINALS + 63) / 64)

/* Attributes of .nv.info.KERNEL that tell of parameters, and how an attribute's value is kept. */
enum {
    ATTR_PARAM_CBANK = 0x0a,
    ATTR_KPARAM_INFO = 0x17,
    ATTR_CBANK_PARAM_SIZE = 0x19,
    ATTR_KPARAM_INFO_V2 = 0x45,
};
enum { FORMAT_NONE = 1, FORMAT_BYTE = 2, FORMAT_HALF = 3, FORMAT_SIZED = 4 };

int vgpu_elf_tables(const uint8_t *p, struct vgpu_elf_tables *t)
{
    if (vgpu_le32(p) != 0x464c457f || p[4] != CLASS_64 || p[5] != DATA_LITTLE)
        return -EINVAL;
    t->segments_at = vgpu_le64(p + 32);
    t->sections_at = vgpu_le64(p + 40);
    t->segments = vgpu_le16(p + 56);
    t->sections = vgpu_le16(p + 60);
    t->names_section = vgpu_le16(p + 62);
    if ((t->segments && vgpu_le16(p + 54) != ELF_SEGMENT_BYTES) ||
        (t->sections_at && vgpu_le16(p + 58) != ELF_SECTION_BYTES) ||
        (t->sections && !t->sections_at))
        return -EINVAL;
    return 0;
}

struct vgpu_elf_section vgpu_elf_section(const uint8_t *p)
{
    return (struct vgpu_elf_section){.name = vgpu_le32(p),
                                     .type = vgpu_le32(p + 4),
                                     .offset = vgpu_le64(p + 24),
                                     .size = vgpu_le64(p + 32),
                                     .link = vgpu_le32(p + 40)};
}

/* A cubin whose header and tables lie within the bytes. */
struct elf {
    const uint8_t *bytes;
    size_t size;
    struct vgpu_elf_tables t;
    struct vgpu_elf_section names;
};

static struct vgpu_elf_section section(const struct elf *f, uint64_t i)
{
    return vgpu_elf_section(f->bytes + f->t.sections_at + i * ELF_SECTION_BYTES);
}

/* -EINVAL when a table, or a section that takes room in the file, does not lie in it. */
static int open_elf(struct elf *f, const void *image, size_t bytes)
{
    f->bytes = image;
    f->size = bytes;
    if (bytes < ELF_HEADER_BYTES || vgpu_elf_tables(f->bytes, &f->t) < 0 ||
        vgpu_le16(f->bytes + 18) != ELF_MACHINE_CUDA)
        return -EINVAL;
    struct vgpu_elf_tables *t = &f->t;
    if (t->sections_at) {
        if (!vgpu_in_bounds(t->sections_at, ELF_SECTION_BYTES, bytes))
            return -EINVAL;
        struct vgpu_elf_section zero = section(f, 0);
        if (t->sections == 0)
            t->sections = zero.size;
        if (t->names_section == ELF_NO_INDEX)
            t->names_section = zero.link;
    }
    if (t->sections > bytes / ELF_SECTION_BYTES ||
        !vgpu_in_bounds(t->sections_at, t->sections * ELF_SECTION_BYTES, bytes) ||
        !vgpu_in_bounds(t->segments_at, (uint64_t)t->segments * ELF_SEGMENT_BYTES, bytes))
        return -EINVAL;
    for (uint64_t i = 1; i < t->sections; i++) {
        struct vgpu_elf_section s = section(f, i);
        if (s.type != ELF_NOBITS && !vgpu_in_bounds(s.offset, s.size, bytes))
            return -EINVAL;
    }
    for (uint32_t i = 0; i < t->segments; i++) {
        const uint8_t *s = f->bytes + t->segments_at + (uint64_t)i * ELF_SEGMENT_BYTES;
        if (!vgpu_in_bounds(vgpu_le64(s + 8), vgpu_le64(s + 32), bytes))
            return -EINVAL;
    }
    if (t->sections) {
        if (t->names_section == 0 || t->names_section >= t->sections)
            return -EINVAL;
        f->names = section(f, t->names_section);
        if (f->names.type == ELF_NOBITS)
            return -EINVAL;
    }
    return 0;
}

int vgpu_cubin_check(const void *image, size_t bytes, uint32_t *sm)
{
    struct elf f;
    int err = open_elf(&f, image, bytes);
    if (err == 0 && sm) {
        uint32_t flags = vgpu_le32(f.bytes + 48);
        *sm = f.bytes[8] >= ABI_SINCE_13 ? flags >> 8 & 0xffff : flags & 0xff;
    }
    return err;
}

/* Whether section `s` is called `prefix` + `name`. */
static bool is_called(const struct elf *f, const struct vgpu_elf_section *s, const char *prefix,
                      const char *name)
{
    size_t prefix_bytes = strlen(prefix), name_bytes = strlen(name);
    size_t want = prefix_bytes + name_bytes + 1;
    if (!vgpu_in_bounds(s->name, want, f->names.size))
        return false;
    const uint8_t *at = f->bytes + f->names.offset + s->name;
    return memcmp(at, prefix, prefix_bytes) == 0 &&
           memcmp(at + prefix_bytes, name, name_bytes + 1) == 0;
}

struct found {
    struct vgpu_param_layout *layout;
    uint32_t capacity;
    uint32_t params, highest; /* how many, and the highest ordinal + 1 */
    uint32_t end;             /* of the parameter that ends last */
    uint32_t total;
    bool has_total;
    uint64_t seen[ORDINAL_WORDS];
};

static int add_param(struct found *d, uint32_t ordinal, uint32_t offset, uint32_t size)
{
    if (ordinal >= MAX_ORDINALS || !vgpu_in_bounds(offset, size, VGPU_KERNEL_PARAM_BYTES_MAX) ||
        d->seen[ordinal / 64] >> ordinal % 64 & 1)
        return -EINVAL;
    d->seen[ordinal / 64] |= (uint64_t)1 << ordinal % 64;
    d->params++;
    if (ordinal + 1 > d->highest)
        d->highest = ordinal + 1;
    if (offset + size > d->end)
        d->end = offset + size;
    if (ordinal < d->capacity)
        d->layout[ordinal] = (struct vgpu_param_layout){.offset = offset, .size = size};
    return 0;
}

static int take_attribute(struct found *d, uint8_t format, uint8_t attribute, const uint8_t *value,
                          uint32_t bytes)
{
    switch (attribute) {
    case ATTR_CBANK_PARAM_SIZE:
        if (format != FORMAT_HALF)
            return -EINVAL;
        d->total = vgpu_le16(value);
        d->has_total = true;
        return 0;
    case ATTR_PARAM_CBANK:
        if (format != FORMAT_SIZED || bytes < 8)
            return -EINVAL;
        if (!d->has_total)
            d->total = vgpu_le16(value + 6);
        d->has_total = true;
        return 0;
    case ATTR_KPARAM_INFO: /* 14 bits of size are the highest of the third word */
    case ATTR_KPARAM_INFO_V2:
        if (format != FORMAT_SIZED || bytes < 12)
            return -EINVAL;
        return add_param(d, vgpu_le16(value + 4), vgpu_le16(value + 6),
                         attribute == ATTR_KPARAM_INFO ? vgpu_le32(value + 8) >> 18
                                                       : vgpu_le32(value + 8));
    default:
        return 0;
    }
}

static int read_attributes(struct found *d, const uint8_t *p, uint64_t size)
{
    uint64_t at = 0;
    while (at < size) {
        if (size - at < ATTR_HEADER)
            return -EINVAL;
        uint8_t format = p[at], attribute = p[at + 1];
        const uint8_t *value = p + at + 2;
        uint32_t bytes = 2;
        at += ATTR_HEADER;
        if (format < FORMAT_NONE || format > FORMAT_SIZED)
            return -EINVAL;
        if (format == FORMAT_SIZED) {
            bytes = vgpu_le16(value);
            value += 2;
            if (bytes > size - at)
                return -EINVAL;
            at += bytes;
        }
        int err = take_attribute(d, format, attribute, value, bytes);
        if (err < 0)
            return err;
    }
    return 0;
}

int vgpu_cubin_kernel_params(const void *image, size_t bytes, const char *name,
                             struct vgpu_param_layout *layout, uint32_t capacity, uint32_t *count,
                             uint32_t *total_bytes)
{
    struct elf f;
    struct found d = {.layout = layout, .capacity = capacity};
    *count = *total_bytes = 0;
    int err = open_elf(&f, image, bytes);
    if (err < 0)
        return err;
    uint64_t i = 1;
    struct vgpu_elf_section s = {0};
    for (; i < f.t.sections; i++) {
        s = section(&f, i);
        if (s.type == NV_INFO && is_called(&f, &s, ".nv.info.", name))
            break;
    }
    if (i >= f.t.sections)
        return -ENOENT;
    err = read_attributes(&d, f.bytes + s.offset, s.size);
    /* Ordinals without a gap, all within the buffer. */
    if (err < 0 || d.params != d.highest || d.end > d.total ||
        d.total > VGPU_KERNEL_PARAM_BYTES_MAX)
        return -EINVAL;
    *count = d.params;
    *total_bytes = d.total;
    return 0;
}
