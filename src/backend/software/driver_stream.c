/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Streams and events of the software driver; see sw_driver.h. */
#include <stdlib.h>

#include "common/clock.h"
#include "sw_driver.h"

#define STREAM_FLAGS 0x1u /* non-blocking */

enum {
    EVENT_BLOCKING_SYNC = 0x1, /* how the host waits: nothing here */
    EVENT_DISABLE_TIMING = 0x2,
    EVENT_INTERPROCESS = 0x4,
    EVENT_FLAGS = 0x7
};

bool sw_stream_fits(const struct vgpu_driver_stream *stream,
                    const struct vgpu_driver_context *context)
{
    return !stream || stream->context == context;
}

CUresult sw_stream_create(struct vgpu_driver *driver, struct vgpu_driver_stream **stream,
                          uint32_t flags, int32_t priority)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (flags & ~STREAM_FLAGS)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "stream flags 0x%x", flags);
    /* The priority is clamped to the range there is: 0 alone. */
    struct vgpu_driver_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return CUDA_ERROR_OUT_OF_MEMORY;
    s->context = d->current;
    LIST_INSERT_HEAD(&d->current->streams, s, link);
    *stream = s;
    return CUDA_SUCCESS;
}

CUresult sw_stream_destroy(struct vgpu_driver *driver, struct vgpu_driver_stream *stream)
{
    LIST_REMOVE(stream, link);
    free(stream);
    return sw_ready(sw_of(driver));
}

CUresult sw_stream_synchronize(struct vgpu_driver *driver, struct vgpu_driver_stream *stream)
{
    return sw_ready(sw_of(driver));
}

CUresult sw_stream_query(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                         uint32_t *result)
{
    *result = CUDA_SUCCESS;
    return sw_ready(sw_of(driver));
}

CUresult sw_stream_wait_event(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                              struct vgpu_driver_event *event, uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status == CUDA_SUCCESS && flags)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "flags 0x%x of a wait", flags);
    return status;
}

CUresult sw_event_create(struct vgpu_driver *driver, struct vgpu_driver_event **event,
                         uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (flags & ~(uint32_t)EVENT_FLAGS ||
        ((flags & EVENT_INTERPROCESS) && !(flags & EVENT_DISABLE_TIMING)))
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "event flags 0x%x", flags);
    if (flags & EVENT_INTERPROCESS)
        return sw_refuse(d, CUDA_ERROR_NOT_SUPPORTED, "events are not shared between processes");
    struct vgpu_driver_event *e = calloc(1, sizeof(*e));
    if (!e)
        return CUDA_ERROR_OUT_OF_MEMORY;
    e->context = d->current;
    e->timed = !(flags & EVENT_DISABLE_TIMING);
    LIST_INSERT_HEAD(&d->current->events, e, link);
    *event = e;
    return CUDA_SUCCESS;
}

CUresult sw_event_destroy(struct vgpu_driver *driver, struct vgpu_driver_event *event)
{
    LIST_REMOVE(event, link);
    free(event);
    return sw_ready(sw_of(driver));
}

CUresult sw_event_record(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                         struct vgpu_driver_stream *stream, uint32_t flags)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (flags)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "flags 0x%x of a record", flags);
    if (event->context != (stream ? stream->context : d->current))
        return sw_refuse(d, CUDA_ERROR_INVALID_HANDLE,
                         "the event and the stream are of different contexts");
    event->recorded = true;
    event->ns = vgpu_clock_ns();
    return CUDA_SUCCESS;
}

/* One that was never recorded has nothing to wait for. */
CUresult sw_event_query(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                        uint32_t *result)
{
    *result = CUDA_SUCCESS;
    return sw_ready(sw_of(driver));
}

CUresult sw_event_synchronize(struct vgpu_driver *driver, struct vgpu_driver_event *event)
{
    return sw_ready(sw_of(driver));
}

CUresult sw_event_elapsed(struct vgpu_driver *driver, float *milliseconds,
                          struct vgpu_driver_event *start, struct vgpu_driver_event *end)
{
    struct sw_driver *d = sw_of(driver);
    CUresult status = sw_ready(d);
    if (status != CUDA_SUCCESS)
        return status;
    if (!start->timed || !end->timed || !start->recorded || !end->recorded ||
        start->context != end->context)
        return sw_refuse(d, CUDA_ERROR_INVALID_HANDLE,
                         "both events have to be recorded, with timing, in one context");
    int64_t ns = (int64_t)(end->ns - start->ns);
    *milliseconds = (float)((double)ns / 1e6);
    return CUDA_SUCCESS;
}

void sw_streams_end(struct vgpu_driver_context *context)
{
    struct vgpu_driver_stream *s;
    while ((s = LIST_FIRST(&context->streams))) {
        LIST_REMOVE(s, link);
        free(s);
    }
    struct vgpu_driver_event *e;
    while ((e = LIST_FIRST(&context->events))) {
        LIST_REMOVE(e, link);
        free(e);
    }
}
