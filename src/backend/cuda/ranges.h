/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which device addresses a session may name in copies: its allocations and the variables of its
 * modules, each with the context or module it ends with. The driver itself would take more: in its
 * unified address space the worker's own pinned memory has addresses, too.
 *
 * One thread at a time.
 */
#ifndef VGPU_BACKEND_CUDA_RANGES_H
#define VGPU_BACKEND_CUDA_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUDA_RANGES_MAX 262144u

struct cuda_range {
    uint64_t base, bytes;
    const void *owner; /* what it ends with */
    bool variable;     /* a module's: not for memory_free */
};

struct cuda_ranges {
    struct cuda_range *at; /* by base, none overlaps another */
    size_t count, room;
    uint64_t allocated_bytes; /* of those that are no variables */
};

void cuda_ranges_free(struct cuda_ranges *r);
/* Makes room for one more, so that an add after it cannot fail. False: no memory, or too many. */
bool cuda_ranges_reserve(struct cuda_ranges *r);
/* Adds; the same range again is no change. False: it overlaps another, or there was no room. */
bool cuda_ranges_add(struct cuda_ranges *r, uint64_t base, uint64_t bytes, const void *owner,
                     bool variable);
/* Whether [address, address + bytes) lies in one of them. 0 bytes: in none. */
bool cuda_ranges_hold(const struct cuda_ranges *r, uint64_t address, uint64_t bytes);
/* The allocation that begins here, or NULL. */
const struct cuda_range *cuda_ranges_allocation(const struct cuda_ranges *r, uint64_t base);
void cuda_ranges_remove(struct cuda_ranges *r, uint64_t base);
void cuda_ranges_remove_owner(struct cuda_ranges *r, const void *owner);

/*
 * The bytes from the first to behind the last of `slices` slices of `rows` rows of `width` bytes,
 * `pitch` and `slice` apart. False: pitch < width with more than one row, the same for slices, or
 * more than 64 bits.
 */
bool cuda_ranges_extent(uint64_t width, uint64_t pitch, uint64_t rows, uint64_t slice,
                        uint64_t slices, uint64_t *bytes);

#endif
