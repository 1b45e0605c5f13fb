/* SPDX-License-Identifier: MIT */
/* The entries of a fatbin, and which one a device takes. */
#include <errno.h>
#include <string.h>

#include "image/bytes.h"
#include "image/image.h"

#define FATBIN_MAGIC        0xba55ed50u
#define FATBIN_HEADER_BYTES 16u
#define ENTRY_HEADER_BYTES  64u

void vgpu_fatbin_walk_start(struct vgpu_fatbin_walk *w, const void *image, size_t bytes)
{
    *w = (struct vgpu_fatbin_walk){.bytes = image, .size = bytes};
}

static int fail(struct vgpu_fatbin_walk *w)
{
    w->broken = true;
    return -EINVAL;
}

/* Steps into the fatbin at `at`: 1, or 0 when there is none. */
static int enter_fatbin(struct vgpu_fatbin_walk *w)
{
    size_t left = w->size - w->at;
    const uint8_t *p = w->bytes + w->at;
    if (left < FATBIN_HEADER_BYTES || vgpu_le32(p) != FATBIN_MAGIC)
        return w->fatbins ? 0 : fail(w);
    uint64_t header = vgpu_le16(p + 6), body = vgpu_le64(p + 8);
    if (vgpu_le16(p + 4) != 1 || header < FATBIN_HEADER_BYTES ||
        !vgpu_in_bounds(header, body, left))
        return fail(w);
    w->end = w->at + (size_t)(header + body);
    w->at += (size_t)header;
    w->fatbins++;
    return 1;
}

/* A text in the entry's own header, with a NUL behind it that is there, too: a driver looks for it
 * even where the text has no bytes. */
static bool find_text(const uint8_t *entry, size_t header, uint32_t offset, uint32_t length,
                      const char **text, size_t *text_bytes)
{
    if (offset < ENTRY_HEADER_BYTES || !vgpu_in_bounds(offset, (uint64_t)length + 1, header) ||
        entry[offset + length] != 0)
        return false;
    *text = (const char *)entry + offset;
    *text_bytes = length;
    return true;
}

static bool find_name(const uint8_t *p, size_t header, struct vgpu_fatbin_entry *e)
{
    uint32_t at = vgpu_le32(p + 32), length = vgpu_le32(p + 36);
    return (at == 0 && length == 0) || find_text(p, header, at, length, &e->name, &e->name_bytes);
}

/*
 * The compiler's options: at `at`, the offset and the length of their text, both in the header. For
 * PTX NVIDIA's driver follows `at` even when it is 0, and falls over; so it must be right.
 */
static bool find_options(const uint8_t *p, size_t header, struct vgpu_fatbin_entry *e)
{
    uint32_t at = vgpu_le32(p + 20);
    if (at == 0)
        return e->kind != VGPU_FATBIN_PTX;
    if (at < ENTRY_HEADER_BYTES || !vgpu_in_bounds(at, 8, header))
        return false;
    return find_text(p, header, vgpu_le32(p + at), vgpu_le32(p + at + 4), &e->options,
                     &e->options_bytes);
}

static bool find_packing(const uint8_t *p, size_t stored, struct vgpu_fatbin_entry *e)
{
    uint64_t packed = vgpu_le32(p + 16);
    bool lz4 = e->flags & VGPU_FATBIN_F_LZ4, zstd = e->flags & VGPU_FATBIN_F_ZSTD;
    e->data_bytes = stored;
    e->unpacked_bytes = stored;
    if (e->flags & VGPU_FATBIN_F_OPAQUE) {
        e->packing = VGPU_FATBIN_OPAQUE;
        return true;
    }
    if (!lz4 && !zstd)
        return true;
    if ((lz4 && zstd) || packed == 0 || packed > stored)
        return false;
    e->packing = lz4 ? VGPU_FATBIN_LZ4 : VGPU_FATBIN_ZSTD;
    e->data_bytes = (size_t)packed;
    e->unpacked_bytes = vgpu_le64(p + 56);
    return e->unpacked_bytes != 0;
}

int vgpu_fatbin_walk_next(struct vgpu_fatbin_walk *w, struct vgpu_fatbin_entry *e)
{
    memset(e, 0, sizeof(*e));
    if (w->broken)
        return -EINVAL;
    while (w->at == w->end) {
        int r = enter_fatbin(w);
        if (r <= 0)
            return r;
    }
    size_t left = w->end - w->at;
    const uint8_t *p = w->bytes + w->at;
    if (left < ENTRY_HEADER_BYTES)
        return fail(w);
    uint64_t header = vgpu_le32(p + 4), stored = vgpu_le64(p + 8);
    if (header < ENTRY_HEADER_BYTES || !vgpu_in_bounds(header, stored, left))
        return fail(w);
    e->kind = vgpu_le16(p);
    e->version_minor = vgpu_le16(p + 24);
    e->version_major = vgpu_le16(p + 26);
    e->sm = vgpu_le32(p + 28);
    e->flags = vgpu_le64(p + 40);
    e->data = p + header;
    e->fatbin = w->fatbins - 1;
    if (!find_packing(p, (size_t)stored, e) || !find_options(p, (size_t)header, e) ||
        !find_name(p, (size_t)header, e))
        return fail(w);
    w->at += (size_t)(header + stored);
    return 1;
}

/* 0: of no use on `sm`; else the greater, the better. */
static uint64_t fitness(const struct vgpu_fatbin_entry *e, uint32_t sm)
{
    bool same_major = e->sm / 10 == sm / 10, exact = e->flags & VGPU_FATBIN_F_ARCH;
    bool is_elf = e->kind == VGPU_FATBIN_ELF;
    if (e->sm > sm || e->sm == 0 || (exact && e->sm != sm))
        return 0;
    if (!same_major && (is_elf || e->flags & VGPU_FATBIN_F_FAMILY))
        return 0;
    return (uint64_t)is_elf << 40 | (uint64_t)e->sm << 1 | exact;
}

int vgpu_fatbin_choose(const void *image, size_t bytes, uint32_t sm, unsigned kinds,
                       struct vgpu_fatbin_entry *e, struct vgpu_fatbin_census *census)
{
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry next;
    struct vgpu_fatbin_census seen = {0};
    uint64_t best = 0;
    memset(e, 0, sizeof(*e));
    vgpu_fatbin_walk_start(&w, image, bytes);
    /* Ends before the walk looks behind the first fatbin. */
    while (w.fatbins == 0 || w.at != w.end) {
        int r = vgpu_fatbin_walk_next(&w, &next);
        if (r < 0)
            return r;
        if (r == 0 || next.fatbin != 0)
            break;
        if (next.kind == VGPU_FATBIN_PTX) {
            seen.ptx++;
            if (seen.lowest_ptx_sm == 0 || next.sm < seen.lowest_ptx_sm)
                seen.lowest_ptx_sm = next.sm;
        } else if (next.kind == VGPU_FATBIN_ELF) {
            seen.elf++;
        } else {
            seen.other++;
            continue;
        }
        uint64_t fit = kinds & 1u << next.kind ? fitness(&next, sm) : 0;
        bool replaces_equal =
            next.kind == VGPU_FATBIN_PTX && next.sm == sm && !(next.flags & VGPU_FATBIN_F_ARCH);
        if (fit > best || (fit && fit == best && replaces_equal)) {
            best = fit;
            *e = next;
        }
    }
    if (census)
        *census = seen;
    return best ? 0 : -ENOEXEC;
}
