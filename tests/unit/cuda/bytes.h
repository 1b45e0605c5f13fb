/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of copies fill memory with. */
#ifndef VGPU_TEST_CUDA_BYTES_H
#define VGPU_TEST_CUDA_BYTES_H

#include <stdint.h>
#include <stdlib.h>

#include "fake.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static uint64_t seed = 88172645463325252u;

static inline uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static inline void scramble(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)next_random();
}

static inline uint8_t *new_bytes(size_t length)
{
    uint8_t *bytes = malloc(length);
    assert_non_null(bytes);
    return bytes;
}

#endif
