/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device heap: one allocation of device memory, handed out in units of 16 bytes. Two bits a
 * unit, in host memory, say what is taken; a kernel that writes where it should not cannot harm
 * them.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

#define WORD_BITS 64u

static bool bit(const uint64_t *map, uint64_t i)
{
    return map[i / WORD_BITS] >> i % WORD_BITS & 1;
}

CUresult vgpu_ptx_heap_create(struct ptx_runtime *r, struct ptx_memory *m)
{
    if (r->heap_bytes)
        return CUDA_SUCCESS;
    uint64_t words = (r->heap_limit / PTX_HEAP_UNIT + WORD_BITS - 1) / WORD_BITS;
    uint64_t *taken = calloc((size_t)words, sizeof(*taken));
    uint64_t *last = calloc((size_t)words, sizeof(*last));
    CUresult rc = CUDA_ERROR_OUT_OF_MEMORY;
    if (taken && last)
        rc = vgpu_ptx_memory_alloc(m, r->heap_limit, true, &r->heap_base);
    if (rc != CUDA_SUCCESS) {
        free(taken);
        free(last);
        return rc;
    }
    r->taken = taken;
    r->last = last;
    r->heap_bytes = r->heap_limit;
    return CUDA_SUCCESS;
}

/* The first of `need` free units in a row in [from, end); end if there are none. */
static uint64_t find_units(const struct ptx_runtime *r, uint64_t from, uint64_t end, uint64_t need)
{
    uint64_t start = from;
    for (uint64_t i = from; i < end;) {
        uint64_t word = r->taken[i / WORD_BITS];
        if (i % WORD_BITS == 0 && word == UINT64_MAX) {
            i += WORD_BITS;
            start = i;
        } else if (i % WORD_BITS == 0 && word == 0) {
            i += WORD_BITS;
        } else if (bit(r->taken, i)) {
            start = ++i;
        } else {
            i++;
        }
        if (i - start >= need)
            return start + need <= end ? start : end;
    }
    return end;
}

uint64_t vgpu_ptx_heap_alloc(struct ptx_runtime *r, uint64_t bytes)
{
    uint64_t address = 0;
    if (bytes == 0 || bytes > r->heap_bytes)
        return 0;
    const uint64_t need = (bytes + PTX_HEAP_UNIT - 1) / PTX_HEAP_UNIT;
    pthread_mutex_lock(&r->lock);
    const uint64_t units = r->heap_bytes / PTX_HEAP_UNIT;
    uint64_t at = find_units(r, r->next, units, need);
    if (at == units)
        at = find_units(r, 0, units, need);
    if (at < units) {
        for (uint64_t i = at; i < at + need; i++)
            r->taken[i / WORD_BITS] |= (uint64_t)1 << i % WORD_BITS;
        r->last[(at + need - 1) / WORD_BITS] |= (uint64_t)1 << (at + need - 1) % WORD_BITS;
        r->next = at + need;
        address = r->heap_base + at * PTX_HEAP_UNIT;
    }
    pthread_mutex_unlock(&r->lock);
    return address;
}

bool vgpu_ptx_heap_free(struct ptx_runtime *r, uint64_t address)
{
    const uint64_t offset = address - r->heap_base;
    if (address == 0)
        return true;
    if (offset >= r->heap_bytes || offset % PTX_HEAP_UNIT)
        return false;
    uint64_t i = offset / PTX_HEAP_UNIT;
    pthread_mutex_lock(&r->lock);
    /* It begins an allocation if it is taken and what is before it does not go on. */
    bool ok = bit(r->taken, i) && (i == 0 || !bit(r->taken, i - 1) || bit(r->last, i - 1));
    if (ok) {
        r->next = r->next < i ? r->next : i;
        for (bool end = false; !end; i++) {
            const uint64_t mask = (uint64_t)1 << i % WORD_BITS;
            end = bit(r->last, i);
            r->taken[i / WORD_BITS] &= ~mask;
            r->last[i / WORD_BITS] &= ~mask;
        }
    }
    pthread_mutex_unlock(&r->lock);
    return ok;
}
