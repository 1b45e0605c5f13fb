/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cursor over bytes that somebody else wrote, and u64s in two words: what the decoder adds to
 * common/wire.h. A read past the end answers false and moves nothing. Knows no message.
 */
#ifndef VGPU_WORKER_READER_H
#define VGPU_WORKER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"

struct vgpu_reader {
    const uint8_t *at;
    size_t left;
};

static inline bool vgpu_read_u32(struct vgpu_reader *r, uint32_t *out)
{
    if (r->left < 4)
        return false;
    *out = vgpu_load_le32(r->at);
    r->at += 4;
    r->left -= 4;
    return true;
}

static inline bool vgpu_read_u64(struct vgpu_reader *r, uint64_t *out)
{
    if (r->left < 8)
        return false;
    *out = vgpu_load_le64(r->at);
    r->at += 8;
    r->left -= 8;
    return true;
}

/* Two words of params or results, low word first. */
static inline uint64_t vgpu_words_get_u64(const uint32_t *words)
{
    return (uint64_t)words[1] << 32 | words[0];
}

static inline void vgpu_words_put_u64(uint32_t *words, uint64_t v)
{
    words[0] = (uint32_t)v;
    words[1] = (uint32_t)(v >> 32);
}

#endif
