/* SPDX-License-Identifier: MIT */
/*
 * Copies of much memory that is not looked at again soon. A processor's own block copy is at half
 * speed where source and destination do not lie alike within a cache line, as a page of the window
 * and what malloc gave do; stores that go past the cache do not care, and push nothing out of it.
 */
#ifndef VGPU_GUEST_CUDA_BULK_H
#define VGPU_GUEST_CUDA_BULK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "ring/barrier.h"

/* To be followed by vgpu_bulk_end before anybody is told that the bytes are there. */
static inline void vgpu_bulk_copy(uint8_t *to, const uint8_t *from, size_t bytes)
{
#ifdef __SSE2__
    size_t head = -(uintptr_t)to % 64;
    if (head < bytes) {
        memcpy(to, from, head);
        to += head, from += head, bytes -= head;
        for (; bytes >= 64; to += 64, from += 64, bytes -= 64) {
            __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
            __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
            __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
            __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
            _mm_stream_si128((__m128i *)(void *)to, a);
            _mm_stream_si128((__m128i *)(void *)(to + 16), b);
            _mm_stream_si128((__m128i *)(void *)(to + 32), c);
            _mm_stream_si128((__m128i *)(void *)(to + 48), d);
        }
    }
#endif
    memcpy(to, from, bytes);
}

/* Such stores are in no order with others, which the program may use to tell another thread. */
static inline void vgpu_bulk_end(void)
{
    vgpu_shared_streamed();
}

#endif
