/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Marks; see mark.h. */
#include "mediator/mark.h"

#include <stdlib.h>
#include <string.h>

struct vgpu_mark *vgpu_mark_find(const struct vgpu_list *marks, uint64_t key)
{
    vgpu_list_each(node, marks)
    {
        struct vgpu_mark *mark = vgpu_list_entry(node, struct vgpu_mark, node);
        if (mark->key == key)
            return mark;
    }
    return NULL;
}

struct vgpu_mark *vgpu_mark_get(struct vgpu_list *marks, uint64_t key)
{
    struct vgpu_mark *mark = vgpu_mark_find(marks, key);
    if (!mark) {
        mark = calloc(1, sizeof(*mark));
        if (!mark)
            return NULL;
        mark->key = key;
        vgpu_list_append(marks, &mark->node);
    }
    mark->users++;
    return mark;
}

void vgpu_mark_put(struct vgpu_mark *mark)
{
    mark->users--;
    vgpu_mark_tidy(mark);
}

/* Faults are not worth a mark of their own: who goes away and comes back has workers to start, and
 * those are limited. */
void vgpu_mark_tidy(struct vgpu_mark *mark)
{
    if (mark->users || mark->due || vgpu_mark_quarantined(mark) || vgpu_mark_drained(mark))
        return;
    vgpu_list_remove(&mark->node);
    free(mark);
}

void vgpu_mark_free_all(struct vgpu_list *marks)
{
    vgpu_list_each(node, marks)
    {
        vgpu_list_remove(node);
        free(vgpu_list_entry(node, struct vgpu_mark, node));
    }
}

bool vgpu_mark_fault(struct vgpu_mark *mark, uint32_t count, uint32_t most, uint64_t window_ns,
                     uint64_t now_ns)
{
    mark->faults++;
    for (uint32_t i = 0; i < count; i++) {
        mark->recent[mark->recent_next] = now_ns;
        mark->recent_next = (mark->recent_next + 1) % VGPU_SETTINGS_FAULTS;
    }
    if (!most)
        return false;
    /* The one that was `most` places ago: if it is that young, so are all after it. */
    uint32_t place = (mark->recent_next + VGPU_SETTINGS_FAULTS - most) % VGPU_SETTINGS_FAULTS;
    uint64_t at = mark->recent[place];
    return at && now_ns - at < window_ns;
}

void vgpu_mark_forgive(struct vgpu_mark *mark)
{
    memset(mark->recent, 0, sizeof(mark->recent));
}

bool vgpu_aside_over(struct vgpu_registry_aside *aside, int64_t now_ms, int64_t *next_ms)
{
    if (!aside->until_ms || aside->until_ms == VGPU_REGISTRY_FOREVER)
        return false;
    if (aside->until_ms <= now_ms)
        return true;
    if (aside->until_ms < *next_ms)
        *next_ms = aside->until_ms;
    return false;
}
