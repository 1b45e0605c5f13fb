/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Launches in flight; see inflight.h. */
#include "worker/inflight.h"

#include "common/clock.h"

uint32_t vgpu_inflight_window(const struct vgpu_inflight *f)
{
    uint32_t window = f->window ? f->window : VGPU_INFLIGHT_FIRST;
    return f->limit && f->limit < window ? f->limit : window;
}

void vgpu_inflight_learn(struct vgpu_inflight *f, uint32_t launches, uint64_t ns, bool waited)
{
    if (!launches)
        return;
    uint32_t window = f->window ? f->window : VGPU_INFLIGHT_FIRST;
    uint64_t fits = ns ? (uint64_t)VGPU_INFLIGHT_TARGET_NS * launches / ns : VGPU_INFLIGHT_MAX;
    if (fits < 2)
        fits = 2;
    if (fits > VGPU_INFLIGHT_MAX)
        fits = VGPU_INFLIGHT_MAX;
    /* Step by step: what comes next may be longer. */
    if (fits > window)
        window = fits > 2ull * window ? 2 * window : (uint32_t)fits;
    else if (waited)
        window = (uint32_t)fits;
    f->window = window;
}

/* Four marks at least below the limit, so that it is not reached with none. */
static uint32_t mark_every(const struct vgpu_inflight *f)
{
    uint32_t quarter = vgpu_inflight_window(f) / 4;
    return !quarter ? 1 : quarter < VGPU_INFLIGHT_MARK_EVERY ? quarter : VGPU_INFLIGHT_MARK_EVERY;
}

static struct vgpu_inflight_context *slot_of(struct vgpu_inflight *f,
                                             struct vgpu_driver_context *object)
{
    if (f->context[f->last].object == object)
        return &f->context[f->last];
    unsigned unused = VGPU_CALLS_CONTEXTS_MAX;
    for (unsigned i = 0; i < VGPU_CALLS_CONTEXTS_MAX; i++) {
        if (f->context[i].object == object) {
            f->last = i;
            return &f->context[i];
        }
        if (!f->context[i].unmarked)
            unused = i;
    }
    /* There are no more contexts than that, and one that is gone was forgotten. */
    if (unused == VGPU_CALLS_CONTEXTS_MAX)
        return NULL;
    f->last = unused;
    f->context[unused] = (struct vgpu_inflight_context){.object = object};
    return &f->context[unused];
}

/* A mark behind what this context, which is current, has launched. */
static CUresult set_mark(struct vgpu_inflight *f, struct vgpu_calls *calls,
                         struct vgpu_inflight_context *c)
{
    struct vgpu_driver_fence *fence = NULL;
    CUresult status = calls->driver->fences->mark_context(calls->driver, &fence);
    if (status != CUDA_SUCCESS)
        return status;
    if (fence) {
        f->mark[f->marks++] =
            (struct vgpu_inflight_mark){c->object, fence, c->unmarked, c->begin_ns};
    } else { /* all done */
        vgpu_inflight_learn(f, c->unmarked, vgpu_clock_ns() - c->begin_ns, false);
        f->total -= c->unmarked;
    }
    c->unmarked = 0;
    return CUDA_SUCCESS;
}

static void drop_mark(struct vgpu_inflight *f, struct vgpu_calls *calls, unsigned i)
{
    calls->driver->fences->end(calls->driver, f->mark[i].fence);
    f->total -= f->mark[i].launches;
    f->marks--;
    for (; i < f->marks; i++)
        f->mark[i] = f->mark[i + 1];
}

/* Marks where there is none, in whatever context: the limit is reached without. */
static CUresult mark_everywhere(struct vgpu_inflight *f, struct vgpu_calls *calls)
{
    CUresult status = CUDA_SUCCESS;
    for (unsigned i = 0; i < VGPU_CALLS_CONTEXTS_MAX && status == CUDA_SUCCESS; i++) {
        struct vgpu_inflight_context *c = &f->context[i];
        if (!c->unmarked || f->marks == VGPU_INFLIGHT_MARKS)
            continue;
        calls->current = NULL; /* the next call makes its own context current again */
        status = calls->ops->context_use(calls->driver, c->object);
        if (status == CUDA_SUCCESS)
            status = set_mark(f, calls, c);
    }
    return status;
}

CUresult vgpu_inflight_admit(struct vgpu_inflight *f, struct vgpu_calls *calls, bool wait)
{
    const struct vgpu_fence_ops *fences = calls->driver->fences;
    CUresult status = CUDA_SUCCESS;
    if (!fences || f->total < vgpu_inflight_window(f))
        return CUDA_SUCCESS;
    uint64_t begin_ns = 0;
    uint32_t done = 0;
    if (!f->marks && (status = mark_everywhere(f, calls)) != CUDA_SUCCESS)
        return status;
    while (f->marks && status == CUDA_SUCCESS) {
        bool must = wait && f->total >= vgpu_inflight_window(f);
        status = must ? fences->wait(calls->driver, f->mark[0].fence)
                      : fences->query(calls->driver, f->mark[0].fence);
        f->waited |= must || (status == CUDA_ERROR_NOT_READY && !done);
        if (status == CUDA_ERROR_NOT_READY && !must)
            break;
        if (!done)
            begin_ns = f->mark[0].begin_ns > f->seen_ns ? f->mark[0].begin_ns : f->seen_ns;
        done += f->mark[0].launches;
        drop_mark(f, calls, 0);
    }
    if (done) {
        f->seen_ns = vgpu_clock_ns();
        vgpu_inflight_learn(f, done, f->seen_ns - begin_ns, f->waited);
        f->waited = false;
    }
    if (status != CUDA_SUCCESS && status != CUDA_ERROR_NOT_READY)
        return status;
    return f->total < vgpu_inflight_window(f) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

void vgpu_inflight_count(struct vgpu_inflight *f, struct vgpu_calls *calls)
{
    if (!calls->driver->fences)
        return;
    struct vgpu_inflight_context *c = calls->current ? slot_of(f, calls->current->object) : NULL;
    if (!c)
        return;
    f->total++;
    if (!c->unmarked)
        c->begin_ns = vgpu_clock_ns();
    if (++c->unmarked >= mark_every(f) && f->marks < VGPU_INFLIGHT_MARKS)
        (void)set_mark(f, calls, c); /* what failed says the next call */
}

void vgpu_inflight_forget(struct vgpu_inflight *f, struct vgpu_calls *calls,
                          const struct vgpu_driver_context *object)
{
    for (unsigned i = f->marks; i-- > 0;) {
        if (!object || f->mark[i].object == object)
            drop_mark(f, calls, i);
    }
    for (unsigned i = 0; i < VGPU_CALLS_CONTEXTS_MAX; i++) {
        struct vgpu_inflight_context *c = &f->context[i];
        if (c->object && (!object || c->object == object)) {
            f->total -= c->unmarked;
            *c = (struct vgpu_inflight_context){0};
        }
    }
}
