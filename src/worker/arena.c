/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents of the arena (G14): asked for from the mediator, cleared in pieces, registered with the
 * GPU; and given back once nothing uses them. See channel_parts.h.
 */
#include <string.h>

#include "common/log.h"
#include "worker/channel_parts.h"

#define LOOKS 8u /* at ARENA_FREEs, in one turn */

static void report(struct vgpu_channel_server *c, enum vgpu_report_kind kind, uint64_t seq,
                   uint64_t offset, uint64_t bytes)
{
    struct vgpu_report r = {.kind = kind, .seq = seq, .offset = offset, .bytes = bytes};
    if (!vgpu_reports_put(c->reports, &r))
        vgpu_log(VGPU_LOG_ERROR, "report-lost", "kind=%d offset=%llu", (int)kind,
                 (unsigned long long)offset);
}

static void give_back(struct vgpu_channel_server *c, uint64_t offset, uint64_t bytes)
{
    report(c, VGPU_REPORT_RETURN_EXTENT, 0, offset, bytes);
}

static void ask(struct vgpu_channel_server *c)
{
    struct vgpu_pending *p;
    while (c->asked_count < VGPU_CHANNEL_ASKED_MAX && (p = TAILQ_FIRST(&c->waiting))) {
        TAILQ_REMOVE(&c->waiting, p, link);
        TAILQ_INSERT_TAIL(&c->asked, p, link);
        c->asked_count++;
        p->seq = ++c->last_seq;
        report(c, VGPU_REPORT_WANT_EXTENT, p->seq, 0, p->bytes);
    }
}

enum vgpu_channel_hold vgpu_arena_alloc(struct vgpu_channel_server *c,
                                        const struct vgpu_ring_record *record, uint64_t bytes)
{
    const uint64_t granule = VGPU_ARENA_GRANULE;
    if (!bytes) {
        vgpu_channel_fail(c, record, CUDA_ERROR_INVALID_VALUE,
                          "ARENA_ALLOC: 0 bytes, ask for at least 1");
        return VGPU_HOLD_NOTHING;
    }
    if (bytes > c->at.window_bytes) {
        vgpu_channel_fail(c, record, CUDA_ERROR_OUT_OF_MEMORY,
                          "ARENA_ALLOC: %llu bytes, the whole window has %llu",
                          (unsigned long long)bytes, (unsigned long long)c->at.window_bytes);
        return VGPU_HOLD_NOTHING;
    }
    if (c->extents.count + c->allocs >= VGPU_WORKER_EXTENTS_MAX) {
        vgpu_channel_fail(c, record, CUDA_ERROR_OUT_OF_MEMORY,
                          "ARENA_ALLOC: a session has at most %u extents", VGPU_WORKER_EXTENTS_MAX);
        return VGPU_HOLD_NOTHING;
    }
    struct vgpu_pending *p = vgpu_pending_new(c, record, &c->waiting);
    if (!p)
        return VGPU_HOLD_GPU;
    c->allocs++;
    p->bytes = (bytes + granule - 1) & ~(granule - 1);
    ask(c);
    return VGPU_HOLD_NOTHING;
}

/* An ARENA_ALLOC that is answered, or that nobody waits for. */
static void drop_alloc(struct vgpu_channel_server *c, struct vgpu_pending_list *list,
                       struct vgpu_pending *p)
{
    c->allocs--;
    vgpu_pending_drop(c, list, p);
}

void vgpu_channel_extent(struct vgpu_channel_server *c, uint64_t seq,
                         const struct vgpu_worker_extent *extent)
{
    struct vgpu_pending *p = TAILQ_FIRST(&c->asked);
    while (p && p->seq != seq)
        p = TAILQ_NEXT(p, link);
    if (!p)
        return; /* control.c lets none through that was not asked for */
    c->asked_count--;
    if (!p->record.token) {
        /* Nobody waits for it any more. */
        if (extent->bytes)
            give_back(c, extent->offset, extent->bytes);
        drop_alloc(c, &c->asked, p);
    } else if (!extent->bytes) {
        vgpu_channel_fail(c, &p->record, CUDA_ERROR_OUT_OF_MEMORY,
                          "ARENA_ALLOC: no %llu bytes in one piece, %llu are free in all",
                          (unsigned long long)p->bytes, (unsigned long long)extent->free_bytes);
        drop_alloc(c, &c->asked, p);
    } else {
        TAILQ_REMOVE(&c->asked, p, link);
        TAILQ_INSERT_TAIL(&c->extents_under, p, link);
        p->offset = extent->offset;
        p->extent = extent->dirty ? VGPU_EXTENT_CLEAR : VGPU_EXTENT_READY;
    }
    ask(c);
}

static bool can_register(const struct vgpu_channel_server *c)
{
    return c->executor->ops->host_register != NULL;
}

/* The last step: from now on the session may name it. */
static void finish_alloc(struct vgpu_channel_server *c, struct vgpu_pending *p)
{
    struct vgpu_executor *x = c->executor;
    bool registered =
        can_register(c) &&
        x->ops->host_register(x->backend, c->extents.window + p->offset, p->bytes) == CUDA_SUCCESS;
    uint64_t offset = p->offset; /* little-endian, as everything here */
    if (vgpu_extents_add(&c->extents, p->offset, p->bytes, registered))
        vgpu_channel_answer(c, &p->record, CUDA_SUCCESS, 0, &offset, sizeof(offset));
    else
        vgpu_channel_fail(c, &p->record, CUDA_ERROR_OUT_OF_MEMORY,
                          "ARENA_ALLOC: the mediator gave what the session has already");
    drop_alloc(c, &c->extents_under, p);
}

static void clear_step(struct vgpu_channel_server *c, struct vgpu_pending *p)
{
    uint64_t left = p->bytes - p->cleared;
    uint64_t step = left < VGPU_CHANNEL_CLEAR_BYTES ? left : VGPU_CHANNEL_CLEAR_BYTES;
    memset(c->extents.window + p->offset + p->cleared, 0, step);
    p->cleared += step;
    if (p->cleared == p->bytes)
        p->extent = VGPU_EXTENT_READY;
}

/* Nothing uses it any more. */
static void finish_free(struct vgpu_channel_server *c, struct vgpu_pending *p)
{
    struct vgpu_executor *x = c->executor;
    if (p->registered)
        x->ops->host_forget(x->backend, c->extents.window + p->offset);
    give_back(c, p->offset, p->bytes);
    vgpu_channel_answer(c, &p->record, CUDA_SUCCESS, 0, NULL, 0);
    c->frees--;
    vgpu_pending_drop(c, &c->extents_under, p);
}

enum vgpu_channel_hold vgpu_arena_free(struct vgpu_channel_server *c,
                                       const struct vgpu_ring_record *record, uint64_t offset)
{
    struct vgpu_extent extent;
    if (TAILQ_EMPTY(&c->spare))
        return VGPU_HOLD_GPU;
    if (!vgpu_extents_remove(&c->extents, offset, &extent)) {
        vgpu_channel_fail(c, record, CUDA_ERROR_INVALID_VALUE,
                          "ARENA_FREE: 0x%llx is not where an extent of the session begins",
                          (unsigned long long)offset);
        return VGPU_HOLD_NOTHING;
    }
    struct vgpu_pending *p = vgpu_pending_new(c, record, &c->extents_under);
    p->extent = VGPU_EXTENT_FREE;
    p->offset = extent.offset;
    p->bytes = extent.bytes;
    p->registered = extent.registered;
    c->frees++;
    /* What cannot be marked because the session is lost uses nothing any more. */
    if (!atomic_load_explicit(&c->executor->sticky, memory_order_relaxed))
        vgpu_execute_note(c->executor, vgpu_calls_mark_all(&c->executor->calls, &p->marks), true);
    if (!p->marks.count)
        finish_free(c, p);
    return VGPU_HOLD_NOTHING;
}

static bool step(struct vgpu_channel_server *c, struct vgpu_pending *p, bool lease, bool wait)
{
    switch (p->extent) {
    case VGPU_EXTENT_CLEAR:
        clear_step(c, p);
        return true;
    case VGPU_EXTENT_READY:
        if (!lease && can_register(c))
            return false;
        finish_alloc(c, p);
        return true;
    case VGPU_EXTENT_FREE:
        break;
    }
    if (!lease)
        return false;
    struct vgpu_calls *calls = &c->executor->calls;
    CUresult status = (CUresult)atomic_load_explicit(&c->executor->sticky, memory_order_relaxed);
    if (status == CUDA_SUCCESS)
        status = vgpu_calls_query(calls, &p->marks, wait);
    if (status == CUDA_ERROR_NOT_READY)
        return false;
    vgpu_execute_note(c->executor, status, true);
    vgpu_calls_end_marks(calls, &p->marks);
    finish_free(c, p);
    return true;
}

bool vgpu_arena_poll(struct vgpu_channel_server *c, bool lease, bool wait)
{
    struct vgpu_pending *p, *next;
    unsigned looks = 0;
    for (p = TAILQ_FIRST(&c->extents_under); p && looks < LOOKS; p = next, looks++) {
        next = TAILQ_NEXT(p, link);
        /* One step: there is other work, too. */
        if (step(c, p, lease, wait))
            return true;
    }
    for (; p && looks; looks--) {
        struct vgpu_pending *first = TAILQ_FIRST(&c->extents_under);
        TAILQ_REMOVE(&c->extents_under, first, link);
        TAILQ_INSERT_TAIL(&c->extents_under, first, link);
    }
    return false;
}

bool vgpu_arena_wants_lease(const struct vgpu_channel_server *c)
{
    const struct vgpu_pending *p = TAILQ_FIRST(&c->extents_under);
    while (p && p->extent != VGPU_EXTENT_READY)
        p = TAILQ_NEXT(p, link);
    return p != NULL;
}

void vgpu_arena_detach(struct vgpu_channel_server *c)
{
    struct vgpu_pending *p;
    while ((p = TAILQ_FIRST(&c->waiting)))
        drop_alloc(c, &c->waiting, p);
    for (p = TAILQ_FIRST(&c->asked); p; p = TAILQ_NEXT(p, link))
        p->record.token = 0;
    while ((p = TAILQ_FIRST(&c->extents_under))) {
        p->record.token = 0;
        if (p->extent == VGPU_EXTENT_FREE) {
            vgpu_calls_end_marks(&c->executor->calls, &p->marks);
            finish_free(c, p);
        } else {
            give_back(c, p->offset, p->bytes);
            drop_alloc(c, &c->extents_under, p);
        }
    }
}
