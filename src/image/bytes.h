/* SPDX-License-Identifier: MIT */
/* Little-endian numbers at any alignment, and the one test that a range lies in a buffer. */
#ifndef VGPU_IMAGE_BYTES_H
#define VGPU_IMAGE_BYTES_H

#include <stdbool.h>
#include <stdint.h>

static inline uint16_t vgpu_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t vgpu_le32(const uint8_t *p)
{
    return vgpu_le16(p) | (uint32_t)vgpu_le16(p + 2) << 16;
}

static inline uint64_t vgpu_le64(const uint8_t *p)
{
    return vgpu_le32(p) | (uint64_t)vgpu_le32(p + 4) << 32;
}

static inline bool vgpu_in_bounds(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

#endif
