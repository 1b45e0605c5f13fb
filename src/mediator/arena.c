/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents of the arena; see arena.h. Gaps and extents are nodes of one list in the order of their
 * addresses, so that a gap finds its neighbours; and of one of two treaps by offset: the gaps',
 * where each node knows the longest gap below it, and the extents'.
 */
#include "mediator/arena.h"

#include <errno.h>
#include <stdlib.h>

#include "vgpu/ring.h"
#include "vgpu/worker.h"

struct node {
    struct vgpu_list address;         /* all of an arena, in order */
    struct vgpu_list held;            /* the holder's extents; of a gap: a list of its own */
    struct vgpu_arena_holder *holder; /* NULL: a gap */
    struct node *left, *right;
    uint64_t rank; /* random; that of a parent is not less */
    uint64_t offset, bytes;
    uint64_t longest; /* bytes of the longest in this subtree */
};

struct vgpu_arena {
    struct vgpu_list nodes; /* by address */
    struct node *gaps, *extents;
    uint64_t free_bytes;
    /*
     * All that lies below was handed out once, or was never known to be clean. The last gap begins
     * at or below it, and only what is taken from the last gap moves it: so nothing clean is below,
     * and nothing used above.
     */
    uint64_t clean_from;
    uint64_t random;
};

void vgpu_arena_holder_init(struct vgpu_arena_holder *holder)
{
    vgpu_list_init(&holder->extents);
    holder->count = 0;
    holder->bytes = 0;
}

/* --- treaps --- */

/* The depth does not depend on the order in which a guest takes and returns: only on these. */
static uint64_t next_rank(struct vgpu_arena *a)
{
    a->random += 0x9E3779B97F4A7C15u;
    uint64_t z = a->random;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t longest(const struct node *n)
{
    return n ? n->longest : 0;
}

static void update(struct node *n)
{
    n->longest = n->bytes;
    if (longest(n->left) > n->longest)
        n->longest = longest(n->left);
    if (longest(n->right) > n->longest)
        n->longest = longest(n->right);
}

/* Into what lies below offset and the rest. */
static void split(struct node *n, uint64_t offset, struct node **low, struct node **high)
{
    if (!n) {
        *low = *high = NULL;
    } else if (n->offset < offset) {
        split(n->right, offset, &n->right, high);
        *low = n;
        update(n);
    } else {
        split(n->left, offset, low, &n->left);
        *high = n;
        update(n);
    }
}

/* All of low lies below all of high. */
static struct node *merge(struct node *low, struct node *high)
{
    if (!low || !high)
        return low ? low : high;
    if (low->rank > high->rank) {
        low->right = merge(low->right, high);
        update(low);
        return low;
    }
    high->left = merge(low, high->left);
    update(high);
    return high;
}

static void insert(struct node **root, struct node *n)
{
    struct node *low, *high;
    n->left = n->right = NULL;
    update(n);
    split(*root, n->offset, &low, &high);
    *root = merge(merge(low, n), high);
}

static void extract(struct node **root, struct node *n)
{
    struct node *low, *rest, *high;
    split(*root, n->offset, &low, &rest);
    split(rest, n->offset + 1, &rest, &high); /* n alone: no two begin at the same place */
    *root = merge(low, high);
}

static struct node *find(struct node *n, uint64_t offset)
{
    while (n && n->offset != offset)
        n = offset < n->offset ? n->left : n->right;
    return n;
}

/* The gap of the lowest address that is long enough. */
static struct node *first_fit(struct node *n, uint64_t bytes)
{
    while (n && n->longest >= bytes) {
        if (longest(n->left) >= bytes)
            n = n->left;
        else if (n->bytes >= bytes)
            return n;
        else
            n = n->right;
    }
    return NULL;
}

/* --- the book --- */

static struct node *make_node(struct vgpu_arena *a, uint64_t offset, uint64_t bytes)
{
    struct node *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->offset = offset;
    n->bytes = bytes;
    n->rank = next_rank(a);
    vgpu_list_init(&n->address);
    vgpu_list_init(&n->held);
    return n;
}

struct vgpu_arena *vgpu_arena_create(uint64_t first, uint64_t end, bool clean)
{
    const uint64_t granule = VGPU_ARENA_GRANULE;
    struct vgpu_arena *a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    vgpu_list_init(&a->nodes);
    a->random = (uint64_t)(uintptr_t)a;
    end -= end % granule;
    first = first > UINT64_MAX - granule ? end : (first + granule - 1) / granule * granule;
    a->clean_from = clean ? first : end;
    if (first >= end)
        return a;
    struct node *n = make_node(a, first, end - first);
    if (!n) {
        free(a);
        return NULL;
    }
    vgpu_list_append(&a->nodes, &n->address);
    insert(&a->gaps, n);
    a->free_bytes = n->bytes;
    return a;
}

void vgpu_arena_destroy(struct vgpu_arena *a)
{
    if (!a)
        return;
    vgpu_list_each(at, &a->nodes)
    {
        struct node *n = vgpu_list_entry(at, struct node, address);
        vgpu_list_remove(&n->held);
        free(n);
    }
    free(a);
}

int vgpu_arena_take(struct vgpu_arena *a, struct vgpu_arena_holder *holder, uint64_t bytes,
                    uint64_t *offset, bool *dirty)
{
    if (!bytes || bytes % VGPU_ARENA_GRANULE)
        return -EINVAL;
    if (holder->count >= VGPU_WORKER_EXTENTS_MAX)
        return -EDQUOT;
    struct node *gap = first_fit(a->gaps, bytes);
    if (!gap)
        return -ENOSPC;
    struct node *n = gap;
    if (gap->bytes > bytes) {
        n = make_node(a, gap->offset, bytes);
        if (!n)
            return -ENOMEM;
        vgpu_list_append(&gap->address, &n->address); /* right before the gap */
    }
    extract(&a->gaps, gap);
    if (n != gap) {
        gap->offset += bytes;
        gap->bytes -= bytes;
        insert(&a->gaps, gap);
    }
    insert(&a->extents, n);
    n->holder = holder;
    vgpu_list_append(&holder->extents, &n->held);
    holder->count++;
    holder->bytes += bytes;
    a->free_bytes -= bytes;
    *offset = n->offset;
    *dirty = n->offset < a->clean_from;
    if (n->offset + bytes > a->clean_from)
        a->clean_from = n->offset + bytes;
    return 0;
}

/* The neighbour, when it is a gap; NULL otherwise, and at the end of the list. */
static struct node *gap_at(struct vgpu_arena *a, struct vgpu_list *at)
{
    struct node *n = at == &a->nodes ? NULL : vgpu_list_entry(at, struct node, address);
    return n && !n->holder ? n : NULL;
}

/* Makes an extent a gap, one with the gaps beside it. */
static void give_back(struct vgpu_arena *a, struct node *n)
{
    struct vgpu_arena_holder *holder = n->holder;
    extract(&a->extents, n);
    vgpu_list_remove(&n->held);
    holder->count--;
    holder->bytes -= n->bytes;
    a->free_bytes += n->bytes;
    n->holder = NULL;
    struct node *before = gap_at(a, n->address.previous), *after = gap_at(a, n->address.next);
    if (before) {
        extract(&a->gaps, before);
        n->offset = before->offset;
        n->bytes += before->bytes;
        vgpu_list_remove(&before->address);
        free(before);
    }
    if (after) {
        extract(&a->gaps, after);
        n->bytes += after->bytes;
        vgpu_list_remove(&after->address);
        free(after);
    }
    insert(&a->gaps, n);
}

int vgpu_arena_return(struct vgpu_arena *a, struct vgpu_arena_holder *holder, uint64_t offset,
                      uint64_t bytes)
{
    struct node *n = find(a->extents, offset);
    if (!n || n->holder != holder || n->bytes != bytes)
        return -ENOENT;
    give_back(a, n);
    return 0;
}

void vgpu_arena_release(struct vgpu_arena *a, struct vgpu_arena_holder *holder)
{
    while (!vgpu_list_empty(&holder->extents))
        give_back(a, vgpu_list_entry(holder->extents.next, struct node, held));
}

uint64_t vgpu_arena_free_bytes(const struct vgpu_arena *a)
{
    return a->free_bytes;
}

uint64_t vgpu_arena_longest_gap(const struct vgpu_arena *a)
{
    return longest(a->gaps);
}
