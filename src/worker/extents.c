/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window's bytes of a session; see extents.h. */
#include "worker/extents.h"

#include <string.h>

#include "common/wire.h"

static void *find_in_view(struct vgpu_window_view *view, uint64_t offset, uint64_t bytes,
                          bool write)
{
    return vgpu_extents_find((const struct vgpu_extents *)view, offset, bytes, write);
}

void vgpu_extents_init(struct vgpu_extents *e)
{
    e->view.find = find_in_view;
    e->window = NULL;
    e->window_bytes = 0;
    e->has_channel = false;
    e->count = 0;
}

/* How many begin at or before this offset. */
static uint32_t rank(const struct vgpu_extents *e, uint64_t offset)
{
    uint32_t low = 0, high = e->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (e->extent[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t begin, uint64_t size)
{
    return offset >= begin && vgpu_range_inside(offset - begin, bytes, size);
}

void *vgpu_extents_find(const struct vgpu_extents *e, uint64_t offset, uint64_t bytes, bool write)
{
    uint32_t n = rank(e, offset);
    if (n && inside(offset, bytes, e->extent[n - 1].offset, e->extent[n - 1].bytes))
        return e->window + offset;
    if (!e->has_channel)
        return NULL;
    uint64_t begin = e->channel + (write ? VGPU_CHANNEL_DOWNLOAD : VGPU_CHANNEL_UPLOAD);
    static_assert(VGPU_CHANNEL_DOWNLOAD_BYTES == VGPU_CHANNEL_UPLOAD_BYTES, "one size for both");
    return inside(offset, bytes, begin, VGPU_CHANNEL_UPLOAD_BYTES) ? e->window + offset : NULL;
}

bool vgpu_extents_add(struct vgpu_extents *e, uint64_t offset, uint64_t bytes, bool registered)
{
    uint32_t n = rank(e, offset);
    if (!bytes || e->count == VGPU_WORKER_EXTENTS_MAX ||
        !vgpu_range_inside(offset, bytes, e->window_bytes) ||
        (n && e->extent[n - 1].offset + e->extent[n - 1].bytes > offset) ||
        (n < e->count && e->extent[n].offset - offset < bytes))
        return false;
    memmove(&e->extent[n + 1], &e->extent[n], (e->count - n) * sizeof(e->extent[0]));
    e->extent[n] = (struct vgpu_extent){offset, bytes, registered};
    e->count++;
    return true;
}

bool vgpu_extents_remove(struct vgpu_extents *e, uint64_t offset, struct vgpu_extent *out)
{
    uint32_t n = rank(e, offset);
    if (!n || e->extent[n - 1].offset != offset)
        return false;
    *out = e->extent[n - 1];
    e->count--;
    memmove(&e->extent[n - 1], &e->extent[n], (e->count - (n - 1)) * sizeof(e->extent[0]));
    return true;
}
