/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handle table; see handles.h. */
#include "worker/handles.h"

#include <stdlib.h>

#include "common/sys.h"

#define TAG_MASK ((UINT64_C(1) << 40) - 1)

void vgpu_handles_init(struct vgpu_handles *h, uint8_t kind, uint32_t limit)
{
    *h = (struct vgpu_handles){.kind = kind, .limit = limit, .free = limit};
    /* Two sessions must not agree on their handles. Without random bytes they would, and no more
     * than that: each looks only into its own table. */
    if (vgpu_random(&h->tags, sizeof(h->tags)))
        h->tags = (uint64_t)(uintptr_t)h;
}

void vgpu_handles_destroy(struct vgpu_handles *h)
{
    free(h->slot);
    h->slot = NULL;
    h->size = 0;
    h->free = h->limit;
}

/* An odd step visits every tag before one comes again. */
static uint64_t next_tag(struct vgpu_handles *h)
{
    h->tags += UINT64_C(0x9E3779B97F4A7C15);
    return (h->tags >> 24) & TAG_MASK;
}

/* More slots, twice as many as there were. */
static bool grow(struct vgpu_handles *h)
{
    if (h->size >= h->limit)
        return false;
    uint32_t size = h->size ? h->size * 2 : 16;
    if (size > h->limit)
        size = h->limit;
    struct vgpu_handle_slot *slot = realloc(h->slot, size * sizeof(*slot));
    if (!slot)
        return false;
    for (uint32_t i = size; i-- > h->size;) {
        slot[i] = (struct vgpu_handle_slot){.next_free = h->free};
        h->free = i;
    }
    h->slot = slot;
    h->size = size;
    return true;
}

uint64_t vgpu_handles_add(struct vgpu_handles *h, void *object)
{
    if (h->free == h->limit && !grow(h))
        return 0;
    uint32_t i = h->free;
    h->free = h->slot[i].next_free;
    h->slot[i].object = object;
    h->slot[i].tag = next_tag(h);
    return (uint64_t)h->kind << 56 | h->slot[i].tag << 16 | i;
}

void *vgpu_handles_get(const struct vgpu_handles *h, uint64_t handle)
{
    uint32_t i = (uint32_t)(handle & 0xFFFF);
    if (handle >> 56 != h->kind || i >= h->size || !h->slot[i].object ||
        h->slot[i].tag != ((handle >> 16) & TAG_MASK))
        return NULL;
    return h->slot[i].object;
}

void *vgpu_handles_remove(struct vgpu_handles *h, uint64_t handle)
{
    void *object = vgpu_handles_get(h, handle);
    if (object) {
        uint32_t i = (uint32_t)(handle & 0xFFFF);
        h->slot[i].object = NULL;
        h->slot[i].next_free = h->free;
        h->free = i;
    }
    return object;
}
