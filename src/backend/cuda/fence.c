/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fences (backend/driver.h). Mostly one thread waits and nothing is enqueued behind what it waits
 * for: then the stream itself says when it is done, and no event has to go through the card. Only
 * when something comes behind it (cuda_stream_use) does the fence get a mark of its own.
 */
#include "stream.h"

#include <stdlib.h>

/* Streams with work that a fence of the context asks one by one; more are joined. */
#define PARTS_MAX 2u

struct vgpu_driver_fence {
    LIST_ENTRY(vgpu_driver_fence) link;  /* of its context's */
    struct vgpu_driver_context *context; /* NULL: it is gone */
    CUresult result;                     /* NOT_READY: not known yet */
    unsigned count;                      /* of the parts that did not pass yet */
    struct cuda_fence_part part[PARTS_MAX];
};

static struct vgpu_driver_fence *make_fence(struct vgpu_driver_context *c)
{
    struct vgpu_driver_fence *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->context = c;
    f->result = CUDA_ERROR_NOT_READY;
    LIST_INSERT_HEAD(&c->streams.fences, f, link);
    return f;
}

static void add_stream(struct vgpu_driver_fence *f, struct vgpu_driver_stream *stream)
{
    struct cuda_fence_part *p = &f->part[f->count++];
    p->stream = stream;
    LIST_INSERT_HEAD(&stream->parts, p, link);
    stream->context->streams.parts++;
}

/* The last part. */
static void drop_part(struct vgpu_backend *b, struct vgpu_driver_fence *f)
{
    struct cuda_fence_part *p = &f->part[--f->count];
    if (p->stream) {
        LIST_REMOVE(p, link);
        p->stream->context->streams.parts--;
    }
    if (p->mark)
        cuda_mark_release(b, f->context, p->mark);
    *p = (struct cuda_fence_part){0};
}

void cuda_fences_settle(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    struct cuda_fence_part *p;
    struct cuda_mark *mark = NULL;
    if (LIST_EMPTY(&stream->parts))
        return;
    CUresult r = cuda_mark_record(b, stream, &mark);
    while ((p = LIST_FIRST(&stream->parts))) {
        LIST_REMOVE(p, link);
        stream->context->streams.parts--;
        p->stream = NULL;
        p->mark = mark;
        p->lost = r;
        if (mark)
            mark->users++;
    }
    if (mark)
        cuda_mark_release(b, stream->context, mark);
}

void cuda_fences_lose(struct vgpu_backend *b, struct vgpu_driver_context *c)
{
    struct vgpu_driver_fence *f;
    while ((f = LIST_FIRST(&c->streams.fences))) {
        while (f->count)
            drop_part(b, f);
        LIST_REMOVE(f, link);
        f->context = NULL;
        if (f->result == CUDA_ERROR_NOT_READY)
            f->result = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
}

/* ---- Making one ---- */

static CUresult mark_stream(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                            struct vgpu_driver_fence **fence)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    *fence = NULL;
    stream = cuda_stream_or_default(b, stream);
    CUresult r = cuda_stream_ask(b, stream);
    if (r != CUDA_ERROR_NOT_READY)
        return r;
    struct vgpu_driver_fence *f = make_fence(stream->context);
    if (!f)
        return CUDA_ERROR_OUT_OF_MEMORY;
    add_stream(f, stream);
    *fence = f;
    return CUDA_SUCCESS;
}

/* Has `join` wait for all that are busy. */
static CUresult join_all(struct vgpu_backend *b, struct vgpu_driver_context *c)
{
    struct vgpu_driver_stream *s, *next;
    for (s = LIST_FIRST(&c->streams.busy); s; s = next) {
        next = LIST_NEXT(s, busy_link); /* join may come to the front of the list */
        CUresult r = s == &c->streams.join ? CUDA_SUCCESS : cuda_stream_join(b, s);
        if (r != CUDA_SUCCESS)
            return r;
    }
    return CUDA_SUCCESS;
}

static CUresult mark_context(struct vgpu_driver *driver, struct vgpu_driver_fence **fence)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    struct vgpu_driver_context *c = b->current;
    struct vgpu_driver_stream *s, *next, *found[PARTS_MAX];
    unsigned count = 0;
    *fence = NULL;
    if (LIST_EMPTY(&c->streams.busy)) /* nothing to wait for, but an error to hear of */
        return cuda_stream_ask(b, &c->streams.legacy);
    for (s = LIST_FIRST(&c->streams.busy); s; s = next) {
        next = LIST_NEXT(s, busy_link);
        CUresult r = cuda_stream_ask(b, s);
        if (r == CUDA_SUCCESS)
            continue;
        if (r != CUDA_ERROR_NOT_READY)
            return r;
        if (count < PARTS_MAX)
            found[count] = s;
        count++;
    }
    if (!count)
        return CUDA_SUCCESS;
    if (count > PARTS_MAX) {
        CUresult r = join_all(b, c);
        if (r != CUDA_SUCCESS)
            return r;
        found[0] = &c->streams.join;
        count = 1;
    }
    struct vgpu_driver_fence *f = make_fence(c);
    if (!f)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (unsigned i = 0; i < count; i++)
        add_stream(f, found[i]);
    *fence = f;
    return CUDA_SUCCESS;
}

static CUresult mark_event(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                           struct vgpu_driver_fence **fence)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    *fence = NULL;
    CUresult r = b->api.cuEventQuery(event->mark->cuda);
    if (r != CUDA_ERROR_NOT_READY)
        return r;
    struct vgpu_driver_fence *f = make_fence(event->context);
    if (!f)
        return CUDA_ERROR_OUT_OF_MEMORY;
    f->part[f->count++].mark = event->mark;
    event->mark->users++; /* another record takes another mark */
    *fence = f;
    return CUDA_SUCCESS;
}

/* ---- Asking and waiting ---- */

static CUresult part_state(struct vgpu_backend *b, const struct cuda_fence_part *p, bool wait)
{
    if (p->stream)
        return wait ? cuda_stream_wait(b, p->stream) : cuda_stream_ask(b, p->stream);
    if (p->mark)
        return wait ? b->api.cuEventSynchronize(p->mark->cuda) : b->api.cuEventQuery(p->mark->cuda);
    return p->lost; /* mostly CUDA_SUCCESS: the stream was seen idle */
}

static CUresult fence_state(struct vgpu_backend *b, struct vgpu_driver_fence *f, bool wait)
{
    if (f->result != CUDA_ERROR_NOT_READY)
        return f->result;
    CUresult r = cuda_select(b, f->context->cuda);
    while (r == CUDA_SUCCESS && f->count) {
        r = part_state(b, &f->part[f->count - 1], wait);
        if (r == CUDA_SUCCESS)
            drop_part(b, f);
    }
    f->result = r;
    return r;
}

static CUresult fence_query(struct vgpu_driver *driver, struct vgpu_driver_fence *fence)
{
    return fence_state(cuda_of_driver(driver), fence, false);
}

static CUresult fence_wait(struct vgpu_driver *driver, struct vgpu_driver_fence *fence)
{
    return fence_state(cuda_of_driver(driver), fence, true);
}

static void fence_end(struct vgpu_driver *driver, struct vgpu_driver_fence *fence)
{
    while (fence->count)
        drop_part(cuda_of_driver(driver), fence);
    if (fence->context)
        LIST_REMOVE(fence, link);
    free(fence);
}

const struct vgpu_fence_ops vgpu_cuda_fence_ops = {
    .mark_stream = mark_stream,
    .mark_context = mark_context,
    .mark_event = mark_event,
    .query = fence_query,
    .wait = fence_wait,
    .end = fence_end,
};
