/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Device memory of the software backend; see ptx_memory.h. */
#include "ptx_memory.h"
#include "ptx_image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANULE     256u
#define SMALL_BYTES (32u << 10) /* below this a mapping of its own would waste a page and a VMA */
#define HUGE_PAGE   ((size_t)2 << 20)
#define HUGE_BYTES  (2 * HUGE_PAGE) /* from this on a mapping holds whole huge pages */

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
    for (size_t c = 0; c < m->piece_count; c++) {
        for (uint32_t i = 0; i < m->pieces[c]->count; i++)
            release_host(&m->pieces[c]->region[i]);
        free(m->pieces[c]);
    }
    free(m->pieces);
    vgpu_ptx_images_free(m->images);
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

/* The last region that begins at or before `address`: number *i of piece *c. */
static bool locate(const struct ptx_memory *m, uint64_t address, size_t *c, uint32_t *i)
{
    size_t lo = 0, hi = m->piece_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (m->pieces[mid]->region[0].base <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return false;
    *c = lo - 1;
    const struct ptx_piece *p = m->pieces[*c];
    uint32_t first = 1, end = p->count;
    while (first < end) {
        uint32_t mid = first + (end - first) / 2;
        if (p->region[mid].base <= address)
            first = mid + 1;
        else
            end = mid;
    }
    *i = first - 1;
    return true;
}

/* Where the next region behind number i of piece c begins. */
static uint64_t next_base(const struct ptx_memory *m, size_t c, uint32_t i)
{
    if (i + 1 < m->pieces[c]->count)
        return m->pieces[c]->region[i + 1].base;
    return c + 1 < m->piece_count ? m->pieces[c + 1]->region[0].base : PTX_MEMORY_END;
}

static uint64_t end_of(const struct ptx_region *r)
{
    return r->base + span(r->size_bytes);
}

/* After a change to piece c: its room, and that of the one before it, whose last gap ends there. */
static void measure(struct ptx_memory *m, size_t c)
{
    for (size_t k = c ? c - 1 : 0; k <= c && k < m->piece_count; k++) {
        struct ptx_piece *p = m->pieces[k];
        p->room = 0;
        for (uint32_t i = 0; i < p->count; i++) {
            uint64_t gap = next_base(m, k, i) - end_of(&p->region[i]);
            p->room = gap > p->room ? gap : p->room;
        }
    }
}

/* The first room of `need` bytes from `from` on. */
static bool room_from(const struct ptx_memory *m, uint64_t from, uint64_t need, uint64_t *at)
{
    size_t c = 0;
    uint32_t i = 0;
    uint64_t end = m->piece_count ? m->pieces[0]->region[0].base : PTX_MEMORY_END;
    *at = from;
    if (locate(m, from, &c, &i)) {
        uint64_t behind = end_of(&m->pieces[c]->region[i]);
        *at = behind > from ? behind : from;
        end = next_base(m, c, i++);
    }
    if (*at <= end && need <= end - *at)
        return true;
    for (; c < m->piece_count; c++, i = 0) {
        const struct ptx_piece *p = m->pieces[c];
        for (; p->room >= need && i < p->count; i++) {
            *at = end_of(&p->region[i]);
            if (need <= next_base(m, c, i) - *at)
                return true;
        }
    }
    return false;
}

/* Next fit: from m->next to the end of the address space, then once more from its base. */
static bool find_room(const struct ptx_memory *m, uint64_t need, uint64_t *at)
{
    return room_from(m, m->next, need, at) || room_from(m, PTX_MEMORY_BASE, need, at);
}

/* An empty piece at place c. */
static bool add_piece(struct ptx_memory *m, size_t c)
{
    if (m->piece_count == m->piece_cap) {
        size_t cap = m->piece_cap ? m->piece_cap * 2 : 16;
        struct ptx_piece **pieces = realloc(m->pieces, cap * sizeof(*pieces));
        if (!pieces)
            return false;
        m->pieces = pieces;
        m->piece_cap = cap;
    }
    struct ptx_piece *p = malloc(sizeof(*p));
    if (!p)
        return false;
    p->count = 0;
    memmove(m->pieces + c + 1, m->pieces + c, (m->piece_count - c) * sizeof(*m->pieces));
    m->pieces[c] = p;
    m->piece_count++;
    return true;
}

static bool insert(struct ptx_memory *m, const struct ptx_region *region)
{
    size_t c = 0;
    uint32_t i = 0;
    if (locate(m, region->base, &c, &i))
        i++;
    else if (m->piece_count == 0 && !add_piece(m, 0))
        return false;
    if (m->pieces[c]->count == PTX_PIECE_REGIONS) {
        const uint32_t half = PTX_PIECE_REGIONS / 2;
        if (!add_piece(m, c + 1))
            return false;
        struct ptx_piece *low = m->pieces[c], *high = m->pieces[c + 1];
        memcpy(high->region, low->region + half, half * sizeof(*region));
        low->count = high->count = half;
        measure(m, c + 1);
        if (i > half) {
            c++;
            i -= half;
        }
    }
    struct ptx_piece *p = m->pieces[c];
    memmove(p->region + i + 1, p->region + i, (p->count - i) * sizeof(*region));
    p->region[i] = *region;
    p->count++;
    m->count++;
    measure(m, c);
    return true;
}

/* Moves what piece c + 1 holds to piece c, if both are there and it leaves room to grow. */
static bool join(struct ptx_memory *m, size_t c)
{
    if (c + 1 >= m->piece_count)
        return false;
    struct ptx_piece *low = m->pieces[c], *high = m->pieces[c + 1];
    if (low->count && high->count && low->count + high->count > PTX_PIECE_REGIONS / 2)
        return false;
    memcpy(low->region + low->count, high->region, high->count * sizeof(low->region[0]));
    low->count += high->count;
    free(high);
    m->piece_count--;
    memmove(m->pieces + c + 1, m->pieces + c + 2, (m->piece_count - c - 1) * sizeof(*m->pieces));
    return true;
}

static void drop(struct ptx_memory *m, size_t c, uint32_t i)
{
    struct ptx_piece *p = m->pieces[c];
    p->count--;
    m->count--;
    memmove(p->region + i, p->region + i + 1, (p->count - i) * sizeof(p->region[0]));
    if (m->count == 0) {
        free(p);
        m->piece_count = 0;
        return;
    }
    join(m, c);
    if (c && join(m, c - 1))
        c--;
    measure(m, c);
}

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Memory that reads as zero. The first copy into a large one would take a fault for each 4 KiB, and
 * several times as long as the next: it is made of huge pages where the system has them. */
static uint8_t *map_zeros(size_t bytes)
{
    if (bytes < HUGE_BYTES)
        return map(bytes);
    uint8_t *all = map(bytes + HUGE_PAGE);
    if (!all)
        return map(bytes);
    uint8_t *at = all + (-(uintptr_t)all & (HUGE_PAGE - 1));
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *end = at + ((bytes + page - 1) & ~(page - 1));
    if (at > all)
        (void)munmap(all, (size_t)(at - all));
    if (end < all + bytes + HUGE_PAGE)
        (void)munmap(end, (size_t)(all + bytes + HUGE_PAGE - end));
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

CUresult vgpu_ptx_memory_alloc(struct ptx_memory *m, uint64_t size_bytes, bool internal,
                               uint64_t *address)
{
    if (size_bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (size_bytes > m->quota_bytes || charged(size_bytes) > m->quota_bytes - m->used_bytes ||
        size_bytes > SIZE_MAX / 2 || m->count >= PTX_MAX_ALLOCATIONS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct ptx_region region = {.size_bytes = size_bytes, .internal = internal};
    if (!find_room(m, span(size_bytes), &region.base))
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (size_bytes < SMALL_BYTES) {
        region.host = calloc(1, (size_t)charged(size_bytes));
    } else {
        region.host = map_zeros((size_t)size_bytes);
        region.mapped = true;
    }
    if (!region.host)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!insert(m, &region)) {
        release_host(&region);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    m->used_bytes += charged(size_bytes);
    m->next = region.base + span(size_bytes);
    *address = region.base;
    return CUDA_SUCCESS;
}

/* The region that begins exactly there, or NULL. */
static struct ptx_region *exactly(const struct ptx_memory *m, uint64_t address, size_t *c,
                                  uint32_t *i)
{
    if (!locate(m, address, c, i) || m->pieces[*c]->region[*i].base != address)
        return NULL;
    return &m->pieces[*c]->region[*i];
}

const struct ptx_region *vgpu_ptx_memory_find(const struct ptx_memory *m, uint64_t address)
{
    size_t c;
    uint32_t i;
    if (!locate(m, address, &c, &i))
        return NULL;
    const struct ptx_region *r = &m->pieces[c]->region[i];
    return address - r->base < r->size_bytes ? r : NULL;
}

CUresult vgpu_ptx_memory_release(struct ptx_memory *m, uint64_t address, bool internal)
{
    size_t c;
    uint32_t i;
    struct ptx_region *r = exactly(m, address, &c, &i);
    if (!r || r->internal != internal)
        return CUDA_ERROR_INVALID_VALUE;
    m->used_bytes -= charged(r->size_bytes);
    release_host(r);
    drop(m, c, i);
    return CUDA_SUCCESS;
}

uint8_t *vgpu_ptx_memory_range(const struct ptx_memory *m, uint64_t address, uint64_t size_bytes)
{
    const struct ptx_region *r = vgpu_ptx_memory_find(m, address);
    if (!r || size_bytes > r->size_bytes - (address - r->base))
        return NULL;
    return r->host + (address - r->base);
}

const struct ptx_region *vgpu_ptx_memory_from(const struct ptx_memory *m, uint64_t address)
{
    size_t c = 0;
    uint32_t i = 0;
    if (locate(m, address, &c, &i) && m->pieces[c]->region[i].base < address)
        i++;
    if (c < m->piece_count && i == m->pieces[c]->count) {
        c++;
        i = 0;
    }
    return c < m->piece_count ? &m->pieces[c]->region[i] : NULL;
}

void vgpu_ptx_memory_set_owner(struct ptx_memory *m, uint64_t address, void *owner)
{
    size_t c;
    uint32_t i;
    struct ptx_region *r = exactly(m, address, &c, &i);
    if (r)
        r->owner = owner;
}

void vgpu_ptx_memory_set_read_only(struct ptx_memory *m, uint64_t address)
{
    size_t c;
    uint32_t i;
    struct ptx_region *r = exactly(m, address, &c, &i);
    if (r)
        r->read_only = true;
}
