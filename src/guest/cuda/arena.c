/* SPDX-License-Identifier: MIT */
/*
 * Pinned memory: pieces of the window's arena (docs/ring.md, G14). What is large has an extent of
 * its own; small ones share extents in whole pages, since a session has 1024 extents at most and
 * getting one is a way to the mediator and back. Knows nothing of who uses the memory.
 */
#include <stdlib.h>

#include "guest/channel.h"
#include "guest/cuda/internal.h"

#define PAGE_BYTES   4096u
#define SHARED_BYTES 0x200000u /* an extent that is shared out in pages; less when the arena is */
#define LARGE_BYTES  0x80000u  /* from so many on: an extent of its own */
#define SHARED_PAGES (SHARED_BYTES / PAGE_BYTES)

/* An extent that is shared out. */
struct shared {
    struct shared *next;
    uint64_t offset;
    uint32_t pages, used;
    uint64_t taken[SHARED_PAGES / 64]; /* bits of pages */
};

static struct shared *all_shared; /* guarded by the driver's lock */

static bool is_taken(const struct shared *s, uint32_t page)
{
    return s->taken[page / 64] >> page % 64 & 1;
}

static void mark(struct shared *s, uint32_t first, uint32_t count, bool taken)
{
    for (uint32_t page = first; page < first + count; page++) {
        uint64_t bit = (uint64_t)1 << page % 64;
        s->taken[page / 64] = taken ? s->taken[page / 64] | bit : s->taken[page / 64] & ~bit;
    }
    s->used = taken ? s->used + count : s->used - count;
}

/* The first free run of so many pages; false: there is none. */
static bool find_run(const struct shared *s, uint32_t count, uint32_t *first)
{
    uint32_t run = 0;
    if (s->pages - s->used < count)
        return false;
    for (uint32_t page = 0; page < s->pages; page++) {
        run = is_taken(s, page) ? 0 : run + 1;
        if (run == count) {
            *first = page + 1 - count;
            return true;
        }
    }
    return false;
}

static bool take_shared(uint32_t count, uint64_t *offset)
{
    bool found = false;
    vgpu_cuda_lock();
    for (struct shared *s = all_shared; s && !found; s = s->next) {
        uint32_t first;
        found = find_run(s, count, &first);
        if (found) {
            mark(s, first, count, true);
            *offset = s->offset + (uint64_t)first * PAGE_BYTES;
        }
    }
    vgpu_cuda_unlock();
    return found;
}

/* A new extent to share out, its first pages taken: as large as usual, or what they need. */
static bool add_shared(struct vgpu_channel *channel, uint32_t count, uint64_t *offset)
{
    struct shared *s = calloc(1, sizeof(*s));
    if (!s)
        return false;
    s->pages = SHARED_PAGES;
    int err = vgpu_channel_arena_alloc(channel, SHARED_BYTES, &s->offset);
    if (err > 0) {
        const uint32_t granule = VGPU_ARENA_GRANULE / PAGE_BYTES;
        s->pages = (count + granule - 1) / granule * granule;
        err = vgpu_channel_arena_alloc(channel, (uint64_t)s->pages * PAGE_BYTES, &s->offset);
    }
    if (err != 0) {
        free(s);
        return false;
    }
    mark(s, 0, count, true);
    *offset = s->offset;
    vgpu_cuda_lock();
    s->next = all_shared;
    all_shared = s;
    vgpu_cuda_unlock();
    return true;
}

bool vgpu_arena_is_shared(uint64_t bytes)
{
    return bytes < LARGE_BYTES;
}

bool vgpu_arena_alloc(uint64_t bytes, uint64_t *offset)
{
    struct vgpu_channel *channel = vgpu_cuda.channel;
    if (!channel)
        return false;
    if (!vgpu_arena_is_shared(bytes))
        return vgpu_channel_arena_alloc(channel, bytes, offset) == 0;
    uint32_t count = (uint32_t)((bytes + PAGE_BYTES - 1) / PAGE_BYTES);
    return take_shared(count, offset) || add_shared(channel, count, offset);
}

/* The extent that the offset lies in, without its pages; taken out of the list when it is empty
 * and another one is, too: one is kept, for a program that allocates and frees in turns. */
static struct shared *give_shared(uint64_t offset, uint32_t count)
{
    struct shared *empty = NULL;
    bool another = false;
    vgpu_cuda_lock();
    for (struct shared *s = all_shared; s; s = s->next) {
        if (offset >= s->offset && offset - s->offset < (uint64_t)s->pages * PAGE_BYTES) {
            mark(s, (uint32_t)((offset - s->offset) / PAGE_BYTES), count, false);
            empty = s->used == 0 ? s : NULL;
        } else if (s->used == 0) {
            another = true;
        }
    }
    if (!another)
        empty = NULL;
    for (struct shared **at = &all_shared; empty && *at; at = &(*at)->next) {
        if (*at == empty) {
            *at = empty->next;
            break;
        }
    }
    vgpu_cuda_unlock();
    return empty;
}

void vgpu_arena_free(uint64_t offset, uint64_t bytes)
{
    struct vgpu_channel *channel = vgpu_cuda.channel;
    if (!channel)
        return;
    if (!vgpu_arena_is_shared(bytes)) {
        (void)vgpu_channel_arena_free(channel, offset); /* it goes with the session at the latest */
        return;
    }
    struct shared *empty = give_shared(offset, (uint32_t)((bytes + PAGE_BYTES - 1) / PAGE_BYTES));
    if (empty)
        (void)vgpu_channel_arena_free(channel, empty->offset);
    free(empty);
}

uint8_t *vgpu_arena_at(uint64_t offset)
{
    return vgpu_channel_window(vgpu_cuda.channel) + offset;
}
