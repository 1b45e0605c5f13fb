/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls of a channel that wait for the GPU; see channel_parts.h. */
#include <string.h>

#include "common/names.h"
#include "worker/channel_parts.h"
#include "worker/finish.h"

/* Looked at in one turn: asking the GPU costs a fraction of a microsecond each. */
#define LOOKS 16u

struct vgpu_pending *vgpu_pending_new(struct vgpu_channel_server *c,
                                      const struct vgpu_ring_record *record,
                                      struct vgpu_pending_list *list)
{
    struct vgpu_pending *p = TAILQ_FIRST(&c->spare);
    if (!p)
        return NULL;
    TAILQ_REMOVE(&c->spare, p, link);
    memset(p, 0, sizeof(*p));
    p->record = *record;
    p->request = c->executor->request;
    TAILQ_INSERT_TAIL(list, p, link);
    c->outstanding++;
    return p;
}

void vgpu_pending_drop(struct vgpu_channel_server *c, struct vgpu_pending_list *list,
                       struct vgpu_pending *p)
{
    TAILQ_REMOVE(list, p, link);
    TAILQ_INSERT_HEAD(&c->spare, p, link);
    c->outstanding--;
}

void vgpu_pending_fail(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                       const struct vgpu_call_info *info, CUresult status, bool earlier,
                       const char *text)
{
    const struct vgpu_executor *x = c->executor;
    struct vgpu_answer a;
    if (!record->token)
        return;
    const char *meaning = vgpu_curesult_text((uint32_t)status);
    vgpu_request_name of = x->request;
    if (earlier) {
        vgpu_answer_fail(&a, true, status, "an earlier request failed: %s", meaning);
        of = x->deferred_request;
    } else if (atomic_load_explicit(&x->sticky, memory_order_relaxed) == (uint32_t)status) {
        vgpu_answer_sticky(&a, true, status);
        of = x->lost_request;
    } else {
        vgpu_answer_fail(&a, true, status, "%s: %s", info->name, *text ? text : meaning);
    }
    vgpu_channel_answer_failure(c, record, &a, of);
}

static uint8_t *bounce_of(const struct vgpu_channel_server *c, uint32_t bounce)
{
    return c->bounce + (size_t)(bounce - 1) * VGPU_CHANNEL_BOUNCE_BYTES;
}

enum vgpu_channel_hold vgpu_pending_begin(struct vgpu_channel_server *c,
                                          const struct vgpu_ring_record *record, uint64_t context,
                                          struct vgpu_call_frame *frame)
{
    struct vgpu_executor *x = c->executor;
    struct vgpu_driver_fence *fence;
    uint64_t begin_ns;
    bool earlier, copies = frame->info->opcode == VGPU_CALL_COPY_FROM_DEVICE;
    uint32_t bounce = 0;
    if (TAILQ_EMPTY(&c->spare) || (copies && !~c->bounces_used))
        return VGPU_HOLD_GPU;
    if (copies) {
        bounce = 1 + (uint32_t)__builtin_ctzll(~c->bounces_used);
        frame->fill = bounce_of(c, bounce);
    }
    CUresult status = vgpu_execute_begin(x, context, frame, &fence, &begin_ns, &earlier);
    /* A copy that failed half-way may be under way all the same: its bytes go nowhere then, and
     * the next copy to the same place is behind it or does not care. */
    if (status != CUDA_SUCCESS) {
        vgpu_pending_fail(c, record, frame->info, status, earlier, frame->text);
        return VGPU_HOLD_NOTHING;
    }
    if (!fence) {
        vgpu_tally_end(&x->tally, begin_ns);
        vgpu_channel_answer(c, record, CUDA_SUCCESS, 0, bounce ? frame->fill : NULL,
                            frame->fill_length);
        return VGPU_HOLD_NOTHING;
    }
    struct vgpu_pending *p = vgpu_pending_new(c, record, &c->calls);
    p->info = frame->info;
    p->object = x->calls.current ? x->calls.current->object : NULL;
    p->fence = fence;
    p->begin_ns = begin_ns;
    p->bounce = bounce;
    p->length = frame->fill_length;
    if (bounce)
        c->bounces_used |= 1ull << (bounce - 1);
    return VGPU_HOLD_NOTHING;
}

static void drop(struct vgpu_channel_server *c, struct vgpu_pending *p)
{
    c->executor->calls.driver->fences->end(c->executor->calls.driver, p->fence);
    if (p->bounce)
        c->bounces_used &= ~(1ull << (p->bounce - 1));
    vgpu_pending_drop(c, &c->calls, p);
}

static void answer(struct vgpu_channel_server *c, struct vgpu_pending *p, CUresult status)
{
    c->executor->request = p->request;
    vgpu_execute_note(c->executor, status, false);
    vgpu_tally_end(&c->executor->tally, p->begin_ns);
    if (status != CUDA_SUCCESS)
        vgpu_tally_error(&c->executor->tally, (uint32_t)status);
    if (status == CUDA_SUCCESS)
        vgpu_channel_answer(c, &p->record, CUDA_SUCCESS, 0,
                            p->bounce ? bounce_of(c, p->bounce) : NULL, p->length);
    else
        vgpu_pending_fail(c, &p->record, p->info, status, false, "");
    drop(c, p);
}

bool vgpu_pending_poll(struct vgpu_channel_server *c, bool wait)
{
    struct vgpu_executor *x = c->executor;
    struct vgpu_driver *driver = x->calls.driver;
    struct vgpu_pending *p, *next;
    bool did = false;
    unsigned looks = 0;
    for (p = TAILQ_FIRST(&c->calls); p && (wait || looks < LOOKS); p = next, looks++) {
        next = TAILQ_NEXT(p, link);
        CUresult status = (CUresult)atomic_load_explicit(&x->sticky, memory_order_relaxed);
        if (status == CUDA_SUCCESS)
            status = wait ? driver->fences->wait(driver, p->fence)
                          : driver->fences->query(driver, p->fence);
        if (status == CUDA_ERROR_NOT_READY && !wait)
            continue;
        answer(c, p, status);
        did = true;
    }
    /* Others are behind those that are not done: they are next. */
    for (; p && !did && looks; looks--) {
        struct vgpu_pending *first = TAILQ_FIRST(&c->calls);
        TAILQ_REMOVE(&c->calls, first, link);
        TAILQ_INSERT_TAIL(&c->calls, first, link);
    }
    return did;
}

void vgpu_pending_forget(struct vgpu_channel_server *c)
{
    struct vgpu_pending *p;
    while ((p = TAILQ_FIRST(&c->calls)))
        drop(c, p);
}
