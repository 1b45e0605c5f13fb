/* SPDX-License-Identifier: MIT */
/*
 * Streams and events, the default streams among them. Their names are chosen here, so making one
 * costs no round trip.
 */
#include <stdlib.h>

#include "guest/cuda/internal.h"

/* ---- Which stream a handle names ---- */

static void free_stream(struct vgpu_object *object)
{
    vgpu_capture_forget_stream((struct vgpu_stream *)object);
}

static CUresult make_stream(struct vgpu_context *context, unsigned flags, int priority,
                            struct vgpu_stream **result)
{
    struct vgpu_stream *stream = vgpu_object_new(VGPU_KIND_STREAM, context);
    if (!stream)
        return CUDA_ERROR_OUT_OF_MEMORY;
    stream->base.finish = free_stream;
    stream->flags = flags;
    stream->priority = priority;
    CUresult err = vgpu_call_stream_create(context->base.name, stream->base.name, flags, priority);
    if (err != CUDA_SUCCESS) {
        vgpu_object_free(&stream->base);
        return err;
    }
    *result = stream;
    return CUDA_SUCCESS;
}

/* This thread's own default stream in a context; made when it is first used. */
static CUresult thread_stream(struct vgpu_context *context, struct vgpu_stream **stream)
{
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (struct vgpu_thread_stream **at = &thread->streams; *at;) {
        struct vgpu_thread_stream *own = *at;
        if (own->context == context && own->context_name == context->base.name) {
            *stream = own->stream;
            return CUDA_SUCCESS;
        }
        if (own->context == context) { /* of the primary context's earlier life */
            *at = own->next;
            free(own);
        } else {
            at = &own->next;
        }
    }
    struct vgpu_thread_stream *own = calloc(1, sizeof(*own));
    if (!own)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = make_stream(context, CU_STREAM_DEFAULT, 0, &own->stream);
    if (result != CUDA_SUCCESS) {
        free(own);
        return result;
    }
    own->context = context;
    own->context_name = context->base.name;
    own->stream_name = own->stream->base.name;
    own->next = thread->streams;
    thread->streams = own;
    *stream = own->stream;
    return CUDA_SUCCESS;
}

void vgpu_thread_streams_free(struct vgpu_thread *thread)
{
    while (thread->streams) {
        struct vgpu_thread_stream *own = thread->streams;
        thread->streams = own->next;
        struct vgpu_stream *stream = vgpu_object_find(own->stream, VGPU_KIND_STREAM);
        /* It went with its context, or the process is going. */
        if (stream && stream->base.name == own->stream_name && !atomic_load(&vgpu_cuda.ended) &&
            !atomic_load(&vgpu_cuda.forked) && vgpu_order_begin(stream) == CUDA_SUCCESS) {
            (void)vgpu_call_stream_destroy(own->context_name, own->stream_name);
            vgpu_order_end();
            vgpu_order_retire(stream);
        }
        free(own);
    }
}

CUresult vgpu_stream_find(CUstream handle, struct vgpu_stream **stream)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    const struct vgpu_thread *thread = vgpu_cuda_thread(); /* there is one: it has a context */
    if (!handle && thread && thread->own_default)
        handle = CU_STREAM_PER_THREAD;
    if (!handle || handle == CU_STREAM_LEGACY) {
        *stream = context->legacy;
        return *stream ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    if (handle == CU_STREAM_PER_THREAD)
        return thread_stream(context, stream);
    *stream = vgpu_object_find(handle, VGPU_KIND_STREAM);
    return *stream && !(*stream)->legacy ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static uint64_t context_of(const struct vgpu_stream *stream)
{
    return stream->base.context->base.name;
}

/* ---- Streams ---- */

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
    struct vgpu_context *context;
    struct vgpu_stream *stream;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!phStream || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING))
        return CUDA_ERROR_INVALID_VALUE;
    result = make_stream(context, flags, priority, &stream);
    if (result == CUDA_SUCCESS)
        *phStream = (CUstream)stream;
    return result;
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
    return cuStreamCreateWithPriority(phStream, Flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream hStream)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (!hStream || hStream == CU_STREAM_LEGACY || hStream == CU_STREAM_PER_THREAD)
        return CUDA_ERROR_INVALID_HANDLE;
    result = vgpu_order_begin(stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_call_stream_destroy(context_of(stream), stream->base.name);
    vgpu_order_end();
    vgpu_order_retire(stream);
    return result;
}

CUresult cuStreamSynchronize(CUstream hStream)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_capture_refuse(stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_order_wait(stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_call_stream_synchronize(context_of(stream), stream->base.name);
    if (result == CUDA_SUCCESS)
        vgpu_print_read(stream->base.context);
    return result;
}

CUresult cuStreamQuery(CUstream hStream)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_capture_refuse(stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (vgpu_order_holds(stream))
        return CUDA_ERROR_NOT_READY;
    uint32_t done = 0;
    result = vgpu_call_stream_query(context_of(stream), stream->base.name, &done);
    return result == CUDA_SUCCESS ? (CUresult)done : result;
}

CUresult cuStreamGetFlags(CUstream hStream, unsigned int *flags)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS && !flags)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *flags = stream->flags;
    return result;
}

CUresult cuStreamGetPriority(CUstream hStream, int *priority)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS && !priority)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *priority = stream->priority;
    return result;
}

CUresult cuStreamGetId(CUstream hStream, unsigned long long *streamId)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS && !streamId)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) /* the legacy stream has no name of its own, its context has */
        *streamId = stream->legacy ? context_of(stream) : stream->base.name;
    return result;
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext *pctx)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS && !pctx)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *pctx = (CUcontext)stream->base.context;
    return result;
}

CUresult cuStreamGetDevice(CUstream hStream, CUdevice *device)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS && !device)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *device = 0;
    return result;
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (!fn)
        return CUDA_ERROR_INVALID_VALUE;
    if (vgpu_capture_host(stream, fn, userData, &result))
        return result;
    return vgpu_order_callback(stream, fn, NULL, hStream, userData);
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData,
                             unsigned int flags)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_capture_refuse(stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (!callback || flags)
        return CUDA_ERROR_INVALID_VALUE;
    return vgpu_order_callback(stream, NULL, callback, hStream, userData);
}

/* ---- Events ---- */

static void free_event(struct vgpu_object *object)
{
    vgpu_capture_forget_event((struct vgpu_event *)object);
}

static CUresult find_event(CUevent handle, struct vgpu_event **event)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    *event = vgpu_object_find(handle, VGPU_KIND_EVENT);
    return *event ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!phEvent || (Flags & ~7u))
        return CUDA_ERROR_INVALID_VALUE;
    if (Flags & CU_EVENT_INTERPROCESS)
        return vgpu_cuda_not_supported("an event between processes");
    struct vgpu_event *event = vgpu_object_new(VGPU_KIND_EVENT, context);
    if (!event)
        return CUDA_ERROR_OUT_OF_MEMORY;
    event->base.finish = free_event;
    event->flags = Flags;
    result = vgpu_call_event_create(context->base.name, event->base.name, Flags);
    if (result != CUDA_SUCCESS) {
        vgpu_object_free(&event->base);
        return result;
    }
    *phEvent = (CUevent)event;
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent hEvent)
{
    struct vgpu_event *event;
    CUresult result = find_event(hEvent, &event);
    if (result != CUDA_SUCCESS)
        return result;
    result = vgpu_order_event_destroy(event->base.context, event->base.name);
    vgpu_object_free(&event->base);
    return result;
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags)
{
    struct vgpu_event *event;
    struct vgpu_stream *stream;
    CUresult result = find_event(hEvent, &event);
    if (result == CUDA_SUCCESS)
        result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (flags & ~(unsigned)CU_EVENT_RECORD_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    if (event->base.context != stream->base.context)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!(flags & CU_EVENT_RECORD_EXTERNAL) && vgpu_capture_record(stream, event, &result))
        return result;
    if ((result = vgpu_capture_refuse(stream)) != CUDA_SUCCESS)
        return result;
    vgpu_capture_forget_event(event);
    result = vgpu_order_record(stream, event, 0);
    if (result == CUDA_SUCCESS)
        event->recorded = true;
    return result;
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{
    return cuEventRecordWithFlags(hEvent, hStream, CU_EVENT_RECORD_DEFAULT);
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)
{
    struct vgpu_event *event;
    struct vgpu_stream *stream;
    CUresult result = find_event(hEvent, &event);
    if (result == CUDA_SUCCESS)
        result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (Flags & ~(unsigned)CU_EVENT_WAIT_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    if (vgpu_capture_wait(stream, event, &result))
        return result;
    if (!event->recorded)
        return CUDA_SUCCESS; /* nothing to wait for, as CUDA says */
    return vgpu_order_wait_event(stream, event, 0);
}

CUresult cuEventQuery(CUevent hEvent)
{
    struct vgpu_event *event;
    CUresult result = find_event(hEvent, &event);
    if (result != CUDA_SUCCESS)
        return result;
    if (event->capture_id)
        return CUDA_ERROR_CAPTURED_EVENT;
    if (!event->recorded)
        return CUDA_SUCCESS;
    if (vgpu_order_record_held(event))
        return CUDA_ERROR_NOT_READY;
    uint32_t done = 0;
    result = vgpu_call_event_query(event->base.context->base.name, event->base.name, &done);
    return result == CUDA_SUCCESS ? (CUresult)done : result;
}

CUresult cuEventSynchronize(CUevent hEvent)
{
    struct vgpu_event *event;
    CUresult result = find_event(hEvent, &event);
    if (result != CUDA_SUCCESS)
        return result;
    if (event->capture_id)
        return CUDA_ERROR_CAPTURED_EVENT;
    if (!event->recorded)
        return CUDA_SUCCESS;
    result = vgpu_order_wait_record(event);
    if (result == CUDA_SUCCESS)
        result = vgpu_call_event_synchronize(event->base.context->base.name, event->base.name);
    if (result == CUDA_SUCCESS)
        vgpu_print_read(event->base.context);
    return result;
}

CUresult cuEventElapsedTime(float *pMilliseconds, CUevent hStart, CUevent hEnd)
{
    struct vgpu_event *start, *end;
    CUresult result = find_event(hStart, &start);
    if (result == CUDA_SUCCESS)
        result = find_event(hEnd, &end);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pMilliseconds || !start->recorded || !end->recorded ||
        start->base.context != end->base.context ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
        return CUDA_ERROR_INVALID_HANDLE;
    /* An answer of 600 would mean "ask again" to us, so whether both are done is asked first. */
    result = cuEventQuery(hEnd);
    if (result == CUDA_SUCCESS)
        result = cuEventQuery(hStart);
    if (result != CUDA_SUCCESS)
        return result;
    return vgpu_call_event_elapsed(start->base.context->base.name, pMilliseconds, start->base.name,
                                   end->base.name);
}

CUresult cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd)
{
    return cuEventElapsedTime(pMilliseconds, hStart, hEnd);
}
