/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session's device memory: allocations at virtual device addresses, each backed by host memory of
 * its own. Owns the address space, the quota and look-up; knows nothing of kernels. A device
 * address is never a host pointer, and between two allocations there is always an unmapped gap, so
 * an access that leaves one is caught.
 *
 * Threads: look-ups may run on many threads while nobody allocates or frees; the backend sees to
 * that.
 */
#ifndef VGPU_PTX_MEMORY_H
#define VGPU_PTX_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/curesult.h"

#define PTX_MEMORY_BASE 0x0000007000000000ull
#define PTX_MEMORY_END  0x0000107000000000ull
#define PTX_MEMORY_STEP                                                                            \
    0x10000ull /* allocations begin at its multiples; a gap of one step follows each */
#define PTX_MAX_ALLOCATIONS 65536u

struct ptx_region {
    uint64_t base, size_bytes;
    uint8_t *host;
    bool read_only; /* to kernels */
    bool internal;  /* a module's variable: not for mem_free */
    bool mapped;    /* mmap, not calloc */
    void *owner;    /* set_owner; NULL at first */
};

/*
 * Regions by address, in pieces: making or dropping one moves at most a piece, and the search for
 * room looks only into pieces that have it, however many regions a session has strewn about.
 */
#define PTX_PIECE_REGIONS 128u
struct ptx_piece {
    uint64_t room;  /* the largest gap behind one of its regions */
    uint32_t count; /* never 0 */
    struct ptx_region region[PTX_PIECE_REGIONS];
};

struct ptx_images; /* ptx_image.h */

struct ptx_memory {
    struct ptx_piece **pieces; /* any two neighbours hold more than half a piece together */
    size_t piece_count, piece_cap;
    size_t count; /* of regions */
    uint64_t used_bytes, quota_bytes;
    struct ptx_images *images; /* NULL until there is one */
    uint64_t
        next; /* where the search for room begins: freed addresses come back as late as possible */
};

void vgpu_ptx_memory_init(struct ptx_memory *m, uint64_t quota_bytes);
void vgpu_ptx_memory_free_all(struct ptx_memory *m);

/* Sizes count in multiples of 256 bytes. INVALID_VALUE for 0; OUT_OF_MEMORY over the quota or out
 * of host memory. */
CUresult vgpu_ptx_memory_alloc(struct ptx_memory *m, uint64_t size_bytes, bool internal,
                               uint64_t *address);
/* INVALID_VALUE unless `address` is the start of a live allocation of that kind. */
CUresult vgpu_ptx_memory_release(struct ptx_memory *m, uint64_t address, bool internal);

/* The allocation that holds `address`, or NULL. */
const struct ptx_region *vgpu_ptx_memory_find(const struct ptx_memory *m, uint64_t address);
/* Host bytes of [address, address + size), or NULL unless all of it lies in one allocation. */
uint8_t *vgpu_ptx_memory_range(const struct ptx_memory *m, uint64_t address, uint64_t size_bytes);
/* The first allocation that begins at `address` or behind it, or NULL. */
const struct ptx_region *vgpu_ptx_memory_from(const struct ptx_memory *m, uint64_t address);
/* Both: of the allocation that begins exactly there. */
void vgpu_ptx_memory_set_owner(struct ptx_memory *m, uint64_t address, void *owner);
void vgpu_ptx_memory_set_read_only(struct ptx_memory *m, uint64_t address);

#endif
