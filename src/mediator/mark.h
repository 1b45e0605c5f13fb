/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is held against a VM or a local user beyond its connection: quarantine, draining, faults
 * (docs/control.md K30 to K32). Pure: it is told the time, and acts on nobody. There is one for who
 * is attached, and for as long as there is something to remember.
 */
#ifndef VGPU_MEDIATOR_MARK_H
#define VGPU_MEDIATOR_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "mediator/list.h"
#include "mediator/settings.h"
#include "registry/model.h"

#define VGPU_MARK_WATCHDOG 10u /* faults that one of the watchdog's counts for: others waited */

struct vgpu_mark {
    struct vgpu_list node;
    uint64_t key;   /* the ledger's: a VM's or a local user's */
    uint32_t users; /* tenants that have it */
    struct vgpu_registry_aside quarantine, drain;
    uint64_t faults;                       /* so far */
    uint64_t recent[VGPU_SETTINGS_FAULTS]; /* when, in ns; a ring */
    uint32_t recent_next;
    bool due; /* to be put into quarantine, as soon as nothing else is being done */
    uint32_t due_vm;
    char due_reason[VGPU_REGISTRY_REASON];
};

/* The mark of that key, from the list or new in it. NULL: no memory. Each get needs a put. */
struct vgpu_mark *vgpu_mark_get(struct vgpu_list *marks, uint64_t key);
void vgpu_mark_put(struct vgpu_mark *mark);
/* NULL: there is none. */
struct vgpu_mark *vgpu_mark_find(const struct vgpu_list *marks, uint64_t key);
/* Frees it if there is nothing left to remember and nobody has it. */
void vgpu_mark_tidy(struct vgpu_mark *mark);
void vgpu_mark_free_all(struct vgpu_list *marks);

static inline bool vgpu_mark_quarantined(const struct vgpu_mark *mark)
{
    return mark->quarantine.until_ms != 0;
}
static inline bool vgpu_mark_drained(const struct vgpu_mark *mark)
{
    return mark->drain.until_ms != 0;
}

/* Counts a fault, for so many. Whether that was one too many, with `most` of them in window_ns. */
bool vgpu_mark_fault(struct vgpu_mark *mark, uint32_t count, uint32_t most, uint64_t window_ns,
                     uint64_t now_ns);
/* Forgets those of the window: after a release they begin anew. */
void vgpu_mark_forgive(struct vgpu_mark *mark);

/* Whether it is over; the nearest end goes into *next_ms. An aside that is not set does nothing. */
bool vgpu_aside_over(struct vgpu_registry_aside *aside, int64_t now_ms, int64_t *next_ms);

#endif
