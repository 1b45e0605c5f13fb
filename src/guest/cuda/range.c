/* SPDX-License-Identifier: MIT */
/*
 * Ranges of addresses that somebody owns, in a treap: a search tree by address that random weights
 * keep shallow, so that a program with a hundred thousand allocations pays for each what one with
 * ten pays. Ranges never overlap. Knows nothing of what they mean.
 */
#include "guest/cuda/internal.h"

static uint32_t next_weight(struct vgpu_ranges *ranges)
{
    /* xorshift: the shape of the tree is all that hangs on it. */
    uint32_t x = ranges->seed ? ranges->seed : 0x9e3779b9u;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return ranges->seed = x;
}

struct vgpu_range *vgpu_ranges_find(const struct vgpu_ranges *ranges, uint64_t address)
{
    struct vgpu_range *at = ranges->root;
    while (at && !(address >= at->start && address - at->start < at->size))
        at = address < at->start ? at->left : at->right;
    return at;
}

/* Splits a tree: what starts below the address, and the rest. */
static void split(struct vgpu_range *tree, uint64_t address, struct vgpu_range **low,
                  struct vgpu_range **high)
{
    while (tree) {
        if (tree->start < address) {
            *low = tree;
            low = &tree->right;
            tree = tree->right;
        } else {
            *high = tree;
            high = &tree->left;
            tree = tree->left;
        }
    }
    *low = NULL;
    *high = NULL;
}

static struct vgpu_range *join(struct vgpu_range *low, struct vgpu_range *high)
{
    struct vgpu_range *root = NULL, **at = &root;
    while (low && high) {
        if (low->weight > high->weight) {
            *at = low;
            at = &low->right;
            low = low->right;
        } else {
            *at = high;
            at = &high->left;
            high = high->left;
        }
    }
    *at = low ? low : high;
    return root;
}

/* The first range that starts at the address or above. */
static const struct vgpu_range *first_from(const struct vgpu_range *tree, uint64_t address)
{
    const struct vgpu_range *best = NULL;
    while (tree) {
        if (tree->start >= address) {
            best = tree;
            tree = tree->left;
        } else {
            tree = tree->right;
        }
    }
    return best;
}

bool vgpu_ranges_insert(struct vgpu_ranges *ranges, struct vgpu_range *range)
{
    if (range->size == 0 || range->start + range->size < range->start ||
        vgpu_ranges_find(ranges, range->start))
        return false;
    const struct vgpu_range *next = first_from(ranges->root, range->start);
    if (next && next->start - range->start < range->size)
        return false;
    range->weight = next_weight(ranges);
    struct vgpu_range **at = &ranges->root;
    while (*at && (*at)->weight >= range->weight)
        at = range->start < (*at)->start ? &(*at)->left : &(*at)->right;
    struct vgpu_range *rest = *at;
    *at = range;
    split(rest, range->start, &range->left, &range->right);
    return true;
}

void vgpu_ranges_remove(struct vgpu_ranges *ranges, struct vgpu_range *range)
{
    struct vgpu_range **at = &ranges->root;
    while (*at && *at != range)
        at = range->start < (*at)->start ? &(*at)->left : &(*at)->right;
    if (*at)
        *at = join(range->left, range->right);
}

/* The first in order of address at or after `from` that matches. */
static struct vgpu_range *first_match(struct vgpu_range *tree,
                                      bool (*match)(const struct vgpu_range *, const void *),
                                      const void *with)
{
    uint64_t from = 0;
    for (;;) {
        const struct vgpu_range *range = first_from(tree, from);
        if (!range)
            return NULL;
        if (match(range, with))
            return (struct vgpu_range *)(uintptr_t)range;
        from = range->start + 1;
    }
}

struct vgpu_range *vgpu_ranges_take(struct vgpu_ranges *ranges,
                                    bool (*match)(const struct vgpu_range *range, const void *with),
                                    const void *with)
{
    struct vgpu_range *range = first_match(ranges->root, match, with);
    if (range)
        vgpu_ranges_remove(ranges, range);
    return range;
}
