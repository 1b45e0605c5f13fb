/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mediator/sched/heap.h"

static bool before(const struct vgpu_heap_entry *a, const struct vgpu_heap_entry *b)
{
    return a->key != b->key ? a->key < b->key : a->number < b->number;
}

static void put(struct vgpu_heap *h, uint32_t index, const struct vgpu_heap_entry *entry)
{
    h->entry[index] = *entry;
    h->place[entry->number] = index;
}

static void rise(struct vgpu_heap *h, uint32_t index)
{
    struct vgpu_heap_entry entry = h->entry[index];
    while (index) {
        uint32_t parent = (index - 1) / 2;
        if (!before(&entry, &h->entry[parent]))
            break;
        put(h, index, &h->entry[parent]);
        index = parent;
    }
    put(h, index, &entry);
}

static void sink(struct vgpu_heap *h, uint32_t index)
{
    struct vgpu_heap_entry entry = h->entry[index];
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && before(&h->entry[child + 1], &h->entry[child]))
            child++;
        if (!before(&h->entry[child], &entry))
            break;
        put(h, index, &h->entry[child]);
        index = child;
    }
    put(h, index, &entry);
}

void vgpu_heap_add(struct vgpu_heap *h, uint32_t number, __int128 key)
{
    h->entry[h->count] = (struct vgpu_heap_entry){.key = key, .number = number};
    h->place[number] = h->count++;
    rise(h, h->count - 1);
}

void vgpu_heap_remove(struct vgpu_heap *h, uint32_t number)
{
    uint32_t index = h->place[number];
    h->place[number] = VGPU_HEAP_NOWHERE;
    if (index == --h->count)
        return;
    uint32_t moved = h->entry[h->count].number;
    put(h, index, &h->entry[h->count]);
    rise(h, index);
    sink(h, h->place[moved]);
}
