/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sorted array; see ranges.h. */
#include "ranges.h"

#include <stdlib.h>
#include <string.h>

void cuda_ranges_free(struct cuda_ranges *r)
{
    free(r->at);
    *r = (struct cuda_ranges){0};
}

bool cuda_ranges_reserve(struct cuda_ranges *r)
{
    if (r->count < r->room)
        return true;
    if (r->count >= CUDA_RANGES_MAX)
        return false;
    size_t room = r->room ? r->room * 2 : 64;
    struct cuda_range *at = realloc(r->at, room * sizeof(*at));
    if (!at)
        return false;
    r->at = at;
    r->room = room;
    return true;
}

/* How many begin at or before `address`. */
static size_t count_up_to(const struct cuda_ranges *r, uint64_t address)
{
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->at[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool cuda_ranges_add(struct cuda_ranges *r, uint64_t base, uint64_t bytes, const void *owner,
                     bool variable)
{
    if (!bytes || bytes > UINT64_MAX - base)
        return false;
    size_t i = count_up_to(r, base);
    if (i && r->at[i - 1].base == base && r->at[i - 1].bytes == bytes)
        return true;
    if (i && base - r->at[i - 1].base < r->at[i - 1].bytes)
        return false;
    if (i < r->count && r->at[i].base - base < bytes)
        return false;
    if (!cuda_ranges_reserve(r))
        return false;
    memmove(&r->at[i + 1], &r->at[i], (r->count - i) * sizeof(r->at[0]));
    r->at[i] = (struct cuda_range){base, bytes, owner, variable};
    r->count++;
    if (!variable)
        r->allocated_bytes += bytes;
    return true;
}

bool cuda_ranges_hold(const struct cuda_ranges *r, uint64_t address, uint64_t bytes)
{
    size_t i = count_up_to(r, address);
    if (!i || !bytes)
        return false;
    uint64_t offset = address - r->at[i - 1].base;
    return offset <= r->at[i - 1].bytes && bytes <= r->at[i - 1].bytes - offset;
}

const struct cuda_range *cuda_ranges_allocation(const struct cuda_ranges *r, uint64_t base)
{
    size_t i = count_up_to(r, base);
    if (!i || r->at[i - 1].base != base || r->at[i - 1].variable)
        return NULL;
    return &r->at[i - 1];
}

void cuda_ranges_remove(struct cuda_ranges *r, uint64_t base)
{
    size_t i = count_up_to(r, base);
    if (!i || r->at[i - 1].base != base)
        return;
    if (!r->at[i - 1].variable)
        r->allocated_bytes -= r->at[i - 1].bytes;
    memmove(&r->at[i - 1], &r->at[i], (r->count - i) * sizeof(r->at[0]));
    r->count--;
}

void cuda_ranges_remove_owner(struct cuda_ranges *r, const void *owner)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->count; i++) {
        if (r->at[i].owner != owner)
            r->at[kept++] = r->at[i];
        else if (!r->at[i].variable)
            r->allocated_bytes -= r->at[i].bytes;
    }
    r->count = kept;
}

bool cuda_ranges_extent(uint64_t width, uint64_t pitch, uint64_t rows, uint64_t slice,
                        uint64_t slices, uint64_t *bytes)
{
    uint64_t row_part, slice_part, sum;
    if (!width || !rows || !slices || (rows > 1 && pitch < width))
        return false;
    if (__builtin_mul_overflow(pitch, rows - 1, &row_part) ||
        __builtin_add_overflow(row_part, width, &sum))
        return false;
    if (slices > 1 && slice < sum)
        return false;
    if (__builtin_mul_overflow(slice, slices - 1, &slice_part) ||
        __builtin_add_overflow(sum, slice_part, &sum))
        return false;
    *bytes = sum;
    return true;
}
