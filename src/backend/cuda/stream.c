/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Streams and events; see stream.h. */
#include "stream.h"

#include <stdlib.h>

/* Of cuEventCreate. */
#define EVENT_DISABLE_TIMING 2u
#define EVENT_INTERPROCESS   4u
/* Of cuStreamCreate. */
#define STREAM_NON_BLOCKING  1u

static void begin_stream(struct vgpu_driver_stream *s, struct vgpu_driver_context *c, bool blocking)
{
    s->context = c;
    s->blocking = blocking;
    LIST_INIT(&s->parts);
}

void cuda_streams_begin(struct vgpu_driver_context *c)
{
    struct cuda_streams *s = &c->streams;
    LIST_INIT(&s->made);
    LIST_INIT(&s->busy);
    LIST_INIT(&s->events);
    LIST_INIT(&s->fences);
    begin_stream(&s->legacy, c, true);
    begin_stream(&s->join, c, false);
    begin_stream(&s->side, c, false);
}

/* ---- Busy or not ---- */

/* Before anything is put on the default stream: what blocking streams get from then on is behind
 * it, their fences' marks too. */
static void settle_blocking(struct vgpu_backend *b, struct cuda_streams *all)
{
    struct vgpu_driver_stream *s;
    for (s = LIST_FIRST(&all->busy); s && all->parts; s = LIST_NEXT(s, busy_link)) {
        if (s->blocking && s != &all->legacy)
            cuda_fences_settle(b, s);
    }
}

void cuda_stream_touch(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    struct cuda_streams *all = &stream->context->streams;
    if (!stream->busy) {
        stream->busy = true;
        LIST_INSERT_HEAD(&all->busy, stream, busy_link);
    }
    if (!all->parts)
        return;
    if (stream == &all->legacy)
        settle_blocking(b, all);
    cuda_fences_settle(b, stream);
    /* Waiting for the default stream is waiting for the blocking ones. */
    if (stream->blocking)
        cuda_fences_settle(b, &all->legacy);
}

void cuda_stream_idle(struct vgpu_driver_stream *stream)
{
    struct cuda_fence_part *p;
    while ((p = LIST_FIRST(&stream->parts))) {
        LIST_REMOVE(p, link);
        p->stream = NULL;
        stream->context->streams.parts--;
    }
    if (stream->busy)
        LIST_REMOVE(stream, busy_link);
    stream->busy = false;
}

void cuda_streams_idle(struct vgpu_driver_context *c)
{
    struct vgpu_driver_stream *s;
    while ((s = LIST_FIRST(&c->streams.busy)))
        cuda_stream_idle(s);
}

CUresult cuda_stream_ask(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    CUresult r = b->api.cuStreamQuery(stream->cuda);
    if (r == CUDA_SUCCESS)
        cuda_stream_idle(stream);
    return r;
}

CUresult cuda_stream_wait(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    CUresult r = b->api.cuStreamSynchronize(stream->cuda);
    if (r == CUDA_SUCCESS)
        cuda_stream_idle(stream);
    return r;
}

/* ---- Streams of our own ---- */

static CUresult join_selected(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    struct vgpu_driver_stream *join = &stream->context->streams.join;
    struct cuda_mark *mark;
    CUresult r = CUDA_SUCCESS;
    if (!join->cuda)
        r = b->api.cuStreamCreateWithPriority(&join->cuda, STREAM_NON_BLOCKING, 0);
    if (r == CUDA_SUCCESS)
        r = cuda_mark_record(b, stream, &mark);
    if (r != CUDA_SUCCESS)
        return r;
    /* A stream that waits for an event waits for the record there is now: the event is free. */
    r = b->api.cuStreamWaitEvent(cuda_stream_use(b, join), mark->cuda, 0);
    cuda_mark_release(b, stream->context, mark);
    return r;
}

CUresult cuda_stream_join(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    CUcontext was = b->selected;
    CUresult r = cuda_select(b, stream->context->cuda);
    if (r == CUDA_SUCCESS)
        r = join_selected(b, stream);
    (void)cuda_select(b, was);
    return r;
}

CUresult cuda_side_stream(struct vgpu_backend *b, struct vgpu_driver_context *c, CUstream *side)
{
    CUresult r = CUDA_SUCCESS;
    if (!c->streams.side.cuda)
        r = b->api.cuStreamCreateWithPriority(&c->streams.side.cuda, STREAM_NON_BLOCKING, 0);
    *side = c->streams.side.cuda;
    return r;
}

/* Asking whether something is done does not have printed text written, waiting does, for whatever
 * it is. */
void cuda_side_flush(struct vgpu_backend *b, struct vgpu_driver_context *c)
{
    CUstream side;
    struct cuda_mark *mark;
    if (cuda_side_stream(b, c, &side) != CUDA_SUCCESS ||
        cuda_mark_record(b, &c->streams.side, &mark) != CUDA_SUCCESS)
        return;
    (void)b->api.cuEventSynchronize(mark->cuda);
    cuda_mark_release(b, c, mark);
}

/* ---- Marks ---- */

void cuda_mark_release(struct vgpu_backend *b, struct vgpu_driver_context *c,
                       struct cuda_mark *mark)
{
    if (--mark->users)
        return;
    if (mark->own && c->streams.spare_count < CUDA_SPARE_MARKS_MAX) {
        mark->next = c->streams.spare;
        c->streams.spare = mark;
        c->streams.spare_count++;
        return;
    }
    (void)b->api.cuEventDestroy_v2(mark->cuda);
    free(mark);
}

/* In that context, whichever is selected. */
static CUresult make_mark(struct vgpu_backend *b, struct vgpu_driver_context *c, uint32_t flags,
                          struct cuda_mark **out)
{
    struct cuda_mark *mark = calloc(1, sizeof(*mark));
    if (!mark)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUcontext was = b->selected;
    CUresult r = cuda_select(b, c->cuda);
    if (r == CUDA_SUCCESS)
        r = b->api.cuEventCreate(&mark->cuda, flags);
    (void)cuda_select(b, was);
    if (r != CUDA_SUCCESS) {
        free(mark);
        return r;
    }
    mark->users = 1;
    *out = mark;
    return CUDA_SUCCESS;
}

CUresult cuda_mark_record(struct vgpu_backend *b, struct vgpu_driver_stream *stream,
                          struct cuda_mark **out)
{
    struct vgpu_driver_context *c = stream->context;
    if (stream == &c->streams.legacy)
        settle_blocking(b, &c->streams);
    struct cuda_mark *mark = c->streams.spare;
    CUresult r = CUDA_SUCCESS;
    if (mark) {
        c->streams.spare = mark->next;
        c->streams.spare_count--;
        mark->users = 1;
    } else {
        r = make_mark(b, c, EVENT_DISABLE_TIMING, &mark);
        if (r != CUDA_SUCCESS)
            return r;
        mark->own = true;
    }
    CUcontext was = b->selected; /* a default stream is the selected context's */
    r = cuda_select(b, c->cuda);
    if (r == CUDA_SUCCESS)
        r = b->api.cuEventRecordWithFlags(mark->cuda, stream->cuda, 0);
    (void)cuda_select(b, was);
    if (r != CUDA_SUCCESS)
        cuda_mark_release(b, c, mark);
    else
        *out = mark;
    return r;
}

/* ---- The end of a context ---- */

static void end_stream(struct vgpu_backend *b, struct vgpu_driver_stream *s)
{
    cuda_stream_idle(s);
    if (s->cuda)
        (void)b->api.cuStreamDestroy_v2(s->cuda);
    s->cuda = NULL;
}

static void end_event(struct vgpu_backend *b, struct vgpu_driver_event *e)
{
    LIST_REMOVE(e, link);
    cuda_mark_release(b, e->context, e->mark);
    free(e);
}

void cuda_streams_end(struct vgpu_backend *b, struct vgpu_driver_context *c)
{
    struct cuda_streams *all = &c->streams;
    struct vgpu_driver_stream *s;
    struct vgpu_driver_event *e;
    cuda_fences_lose(b, c);
    while ((s = LIST_FIRST(&all->made))) {
        LIST_REMOVE(s, link);
        end_stream(b, s);
        free(s);
    }
    end_stream(b, &all->legacy);
    end_stream(b, &all->join);
    end_stream(b, &all->side);
    for (e = LIST_FIRST(&all->events); e;) {
        struct vgpu_driver_event *next = LIST_NEXT(e, link);
        end_event(b, e);
        e = next;
    }
    while (all->spare) {
        struct cuda_mark *mark = all->spare;
        all->spare = mark->next;
        (void)b->api.cuEventDestroy_v2(mark->cuda);
        free(mark);
    }
    all->spare_count = 0;
}

/* ---- Calls on streams ---- */

CUresult cuda_call_stream_create(struct vgpu_driver *driver, struct vgpu_driver_stream **stream,
                                 uint32_t flags, int32_t priority)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    struct vgpu_driver_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult r = b->api.cuStreamCreateWithPriority(&s->cuda, flags, priority);
    if (r != CUDA_SUCCESS) {
        free(s);
        return r;
    }
    begin_stream(s, b->current, !(flags & STREAM_NON_BLOCKING));
    LIST_INSERT_HEAD(&b->current->streams.made, s, link);
    *stream = s;
    return CUDA_SUCCESS;
}

/* Its work goes on, and the context has to be waited for with it. */
CUresult cuda_call_stream_destroy(struct vgpu_driver *driver, struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (stream->busy && cuda_stream_ask(b, stream) != CUDA_SUCCESS) {
        cuda_fences_settle(b, stream);
        if (cuda_stream_join(b, stream) != CUDA_SUCCESS)
            (void)cuda_stream_wait(b, stream);
    }
    cuda_stream_idle(stream);
    CUresult r = b->api.cuStreamDestroy_v2(stream->cuda);
    LIST_REMOVE(stream, link);
    free(stream);
    return r;
}

CUresult cuda_call_stream_synchronize(struct vgpu_driver *driver, struct vgpu_driver_stream *stream)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    return cuda_stream_wait(b, cuda_stream_or_default(b, stream));
}

/* NOT_READY is an answer here, no failure: it travels in a slot. */
static CUresult query_result(CUresult r, uint32_t *result)
{
    *result = (uint32_t)r;
    return r == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : r;
}

CUresult cuda_call_stream_query(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                                uint32_t *result)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    return query_result(cuda_stream_ask(b, cuda_stream_or_default(b, stream)), result);
}

CUresult cuda_call_stream_wait_event(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                                     struct vgpu_driver_event *event, uint32_t flags)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    return b->api.cuStreamWaitEvent(cuda_stream_use(b, stream), event->mark->cuda, flags);
}

/* ---- Calls on events ---- */

CUresult cuda_call_event_create(struct vgpu_driver *driver, struct vgpu_driver_event **event,
                                uint32_t flags)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    if (flags & EVENT_INTERPROCESS) /* the processes are in a guest, the event is not */
        return CUDA_ERROR_NOT_SUPPORTED;
    struct vgpu_driver_event *e = calloc(1, sizeof(*e));
    if (!e)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult r = make_mark(b, b->current, flags, &e->mark);
    if (r != CUDA_SUCCESS) {
        free(e);
        return r;
    }
    e->context = b->current;
    e->flags = flags;
    LIST_INSERT_HEAD(&b->current->streams.events, e, link);
    *event = e;
    return CUDA_SUCCESS;
}

CUresult cuda_call_event_destroy(struct vgpu_driver *driver, struct vgpu_driver_event *event)
{
    end_event(cuda_of_driver(driver), event);
    return CUDA_SUCCESS;
}

CUresult cuda_call_event_record(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                                struct vgpu_driver_stream *stream, uint32_t flags)
{
    struct vgpu_backend *b = cuda_of_driver(driver);
    struct cuda_mark *mark = event->mark;
    if (mark->users > 1) { /* fences wait for the record there is */
        CUresult r = make_mark(b, event->context, event->flags, &mark);
        if (r != CUDA_SUCCESS)
            return r;
    }
    CUresult r = b->api.cuEventRecordWithFlags(mark->cuda, cuda_stream_use(b, stream), flags);
    if (mark != event->mark) {
        struct cuda_mark *other = mark;
        if (r == CUDA_SUCCESS) {
            other = event->mark;
            event->mark = mark;
        }
        cuda_mark_release(b, event->context, other);
    }
    return r;
}

CUresult cuda_call_event_query(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                               uint32_t *result)
{
    return query_result(cuda_of_driver(driver)->api.cuEventQuery(event->mark->cuda), result);
}

CUresult cuda_call_event_synchronize(struct vgpu_driver *driver, struct vgpu_driver_event *event)
{
    return cuda_of_driver(driver)->api.cuEventSynchronize(event->mark->cuda);
}

/* NOT_READY is CUDA's own answer here, but 600 means "ask again" on the way to the guest: the guest
 * asks event_query of both events first. */
CUresult cuda_call_event_elapsed(struct vgpu_driver *driver, float *milliseconds,
                                 struct vgpu_driver_event *start, struct vgpu_driver_event *end)
{
    CUresult r = cuda_of_driver(driver)->api.cuEventElapsedTime(milliseconds, start->mark->cuda,
                                                                end->mark->cuda);
    return r == CUDA_ERROR_NOT_READY ? CUDA_ERROR_ILLEGAL_STATE : r;
}
