/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Device memory of the software backend; see ptx_memory.h. */
#include "ptx_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GRANULE     256u
#define SMALL_BYTES (32u << 10) /* below this a mapping of its own would waste a page and a VMA */

void vgpu_ptx_memory_init(struct ptx_memory *m, uint64_t quota_bytes)
{
    memset(m, 0, sizeof(*m));
    m->quota_bytes = quota_bytes;
    m->next = PTX_MEMORY_BASE;
}

static void release_host(struct ptx_region *r)
{
    if (r->mapped)
        munmap(r->host, (size_t)r->size_bytes);
    else
        free(r->host);
}

void vgpu_ptx_memory_free_all(struct ptx_memory *m)
{
    for (size_t i = 0; i < m->count; i++)
        release_host(&m->regions[i]);
    free(m->regions);
    memset(m, 0, sizeof(*m));
}

static uint64_t charged(uint64_t size_bytes)
{
    return (size_bytes + GRANULE - 1) & ~(uint64_t)(GRANULE - 1);
}

/* Address space taken by an allocation: whole steps and the gap behind it. */
static uint64_t span(uint64_t size_bytes)
{
    return ((size_bytes + PTX_MEMORY_STEP - 1) & ~(PTX_MEMORY_STEP - 1)) + PTX_MEMORY_STEP;
}

/* Index of the first region that begins after `address`. */
static size_t upper_bound(const struct ptx_memory *m, uint64_t address)
{
    size_t lo = 0, hi = m->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (m->regions[mid].base <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Next fit: from m->next to the end of the address space, then once more from its base. */
static bool find_room(const struct ptx_memory *m, uint64_t need, uint64_t *at, size_t *index)
{
    for (int pass = 0; pass < 2; pass++) {
        uint64_t addr = pass ? PTX_MEMORY_BASE : m->next;
        size_t i = upper_bound(m, addr);
        if (i > 0) {
            const struct ptx_region *prev = &m->regions[i - 1];
            if (prev->base + span(prev->size_bytes) > addr)
                addr = prev->base + span(prev->size_bytes);
        }
        for (;; i++) {
            uint64_t end = i < m->count ? m->regions[i].base : PTX_MEMORY_END;
            if (addr <= end && need <= end - addr) {
                *at = addr;
                *index = i;
                return true;
            }
            if (i >= m->count)
                break;
            addr = m->regions[i].base + span(m->regions[i].size_bytes);
        }
    }
    return false;
}

CUresult vgpu_ptx_memory_alloc(struct ptx_memory *m, uint64_t size_bytes, bool internal,
                               uint64_t *address)
{
    if (size_bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (size_bytes > m->quota_bytes || charged(size_bytes) > m->quota_bytes - m->used_bytes ||
        size_bytes > SIZE_MAX / 2 || m->count >= PTX_MAX_ALLOCATIONS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (m->count == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 64;
        struct ptx_region *r = realloc(m->regions, cap * sizeof(*r));
        if (!r)
            return CUDA_ERROR_OUT_OF_MEMORY;
        m->regions = r;
        m->cap = cap;
    }
    struct ptx_region region = {.size_bytes = size_bytes, .internal = internal};
    size_t index;
    if (!find_room(m, span(size_bytes), &region.base, &index))
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (size_bytes < SMALL_BYTES) {
        region.host = calloc(1, (size_t)charged(size_bytes));
    } else {
        void *p = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        region.host = p == MAP_FAILED ? NULL : p;
        region.mapped = true;
    }
    if (!region.host)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memmove(m->regions + index + 1, m->regions + index, (m->count - index) * sizeof(region));
    m->regions[index] = region;
    m->count++;
    m->used_bytes += charged(size_bytes);
    m->next = region.base + span(size_bytes);
    *address = region.base;
    return CUDA_SUCCESS;
}

const struct ptx_region *vgpu_ptx_memory_find(const struct ptx_memory *m, uint64_t address)
{
    size_t i = upper_bound(m, address);
    if (i == 0 || address - m->regions[i - 1].base >= m->regions[i - 1].size_bytes)
        return NULL;
    return &m->regions[i - 1];
}

CUresult vgpu_ptx_memory_release(struct ptx_memory *m, uint64_t address, bool internal)
{
    size_t i = upper_bound(m, address);
    if (i == 0 || m->regions[i - 1].base != address || m->regions[i - 1].internal != internal)
        return CUDA_ERROR_INVALID_VALUE;
    struct ptx_region *r = &m->regions[i - 1];
    m->used_bytes -= charged(r->size_bytes);
    release_host(r);
    memmove(r, r + 1, (m->count - i) * sizeof(*r));
    m->count--;
    return CUDA_SUCCESS;
}

uint8_t *vgpu_ptx_memory_range(const struct ptx_memory *m, uint64_t address, uint64_t size_bytes)
{
    const struct ptx_region *r = vgpu_ptx_memory_find(m, address);
    if (!r || size_bytes > r->size_bytes - (address - r->base))
        return NULL;
    return r->host + (address - r->base);
}

void vgpu_ptx_memory_set_read_only(struct ptx_memory *m, uint64_t address)
{
    size_t i = upper_bound(m, address);
    if (i > 0 && m->regions[i - 1].base == address)
        m->regions[i - 1].read_only = true;
}
