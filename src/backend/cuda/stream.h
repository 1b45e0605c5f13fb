/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams and events on an NVIDIA GPU, and which streams have work: whoever wants to know when
 * everything of a context is done asks those, not all that there are. Fences stand on both
 * (fence.c).
 *
 * The rule for all files of this backend: what enqueues work takes its stream from
 * cuda_stream_use, so that the stream counts as busy and fences on it learn that something comes
 * behind them.
 *
 * One thread at a time, like the driver.
 */
#ifndef VGPU_BACKEND_CUDA_STREAM_H
#define VGPU_BACKEND_CUDA_STREAM_H

#include <sys/queue.h>

#include "cuda.h"

/*
 * An event of CUDA's, as long as somebody wants it: the event that the guest named, and fences that
 * wait for its record. A record while fences wait takes another mark, so that theirs stays what it
 * was.
 */
struct cuda_mark {
    struct cuda_mark *next; /* of the context's spare ones */
    CUevent cuda;
    uint32_t users;
    bool own; /* not a guest's: becomes spare */
};

struct vgpu_driver_event {
    LIST_ENTRY(vgpu_driver_event) link; /* of its context's */
    struct vgpu_driver_context *context;
    struct cuda_mark *mark; /* a user of it */
    uint32_t flags;
};

/* What a fence waits for: a mark, or, as long as nothing comes behind it, a stream as a whole. Both
 * NULL: passed. */
struct cuda_fence_part {
    LIST_ENTRY(cuda_fence_part) link; /* of stream->parts, while there is a stream */
    struct vgpu_driver_stream *stream;
    struct cuda_mark *mark;
    CUresult lost; /* neither could be had: what CUDA said */
};

struct vgpu_driver_stream {
    LIST_ENTRY(vgpu_driver_stream) link; /* of its context's: those the guest made */
    LIST_ENTRY(vgpu_driver_stream) busy_link;
    struct vgpu_driver_context *context;
    CUstream cuda; /* NULL: the context's default stream; or, of `join` and `side`, not made yet */
    bool blocking; /* ordered with the default stream */
    bool busy;     /* had work, and was not seen without since */
    LIST_HEAD(cuda_parts, cuda_fence_part) parts;
};

/* The streams, events and fences of a context: a member of it. */
struct cuda_streams {
    LIST_HEAD(cuda_made, vgpu_driver_stream) made;
    LIST_HEAD(cuda_busy, vgpu_driver_stream) busy;
    LIST_HEAD(cuda_events, vgpu_driver_event) events;
    LIST_HEAD(cuda_fences, vgpu_driver_fence) fences;
    struct vgpu_driver_stream legacy; /* the default stream */
    struct vgpu_driver_stream join;   /* waits for streams that are too many, or gone */
    struct vgpu_driver_stream side;   /* of our own: empty but while we wait for it */
    struct cuda_mark *spare;
    uint32_t spare_count;
    uint32_t parts; /* in all streams' lists */
};

#define CUDA_SPARE_MARKS_MAX 64u

/* A context, as the calls name it. */
struct vgpu_driver_context {
    struct vgpu_driver_context *next;
    CUcontext cuda;
    bool primary;
    unsigned references; /* names, and one for typed requests, which run in the primary one */
    struct cuda_streams streams;
};

void cuda_streams_begin(struct vgpu_driver_context *c);
/* Ends them all: before CUDA ends the context, which is selected. Fences stay, lost. */
void cuda_streams_end(struct vgpu_backend *b, struct vgpu_driver_context *c);

/* The slow half of cuda_stream_use. */
void cuda_stream_touch(struct vgpu_backend *b, struct vgpu_driver_stream *stream);

/* The stream that work is about to be enqueued on; NULL: the current context's default one. */
static inline CUstream cuda_stream_use(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    if (!stream)
        stream = &b->current->streams.legacy;
    if (!stream->busy || stream->context->streams.parts)
        cuda_stream_touch(b, stream);
    return stream->cuda;
}

/* The stream to ask or to wait for. */
static inline struct vgpu_driver_stream *cuda_stream_or_default(struct vgpu_backend *b,
                                                                struct vgpu_driver_stream *stream)
{
    return stream ? stream : &b->current->streams.legacy;
}

/* It was seen without work: fences on it have passed. */
void cuda_stream_idle(struct vgpu_driver_stream *stream);
/* All of them were. */
void cuda_streams_idle(struct vgpu_driver_context *c);
/* cuStreamQuery, and what follows from the answer. The stream's context is selected. */
CUresult cuda_stream_ask(struct vgpu_backend *b, struct vgpu_driver_stream *stream);
/* The same with cuStreamSynchronize. */
CUresult cuda_stream_wait(struct vgpu_backend *b, struct vgpu_driver_stream *stream);
/* Has `join` wait for what `stream` has to do by now. */
CUresult cuda_stream_join(struct vgpu_backend *b, struct vgpu_driver_stream *stream);

/* Work of our own that nothing else has to wait for, and that is waited for at once: the stream
 * for it in the selected context. */
CUresult cuda_side_stream(struct vgpu_backend *b, struct vgpu_driver_context *c, CUstream *side);
/* Has the driver write what finished kernels printed; waits for no kernel. */
void cuda_side_flush(struct vgpu_backend *b, struct vgpu_driver_context *c);

/* A mark behind what the stream has to do now, whatever context is selected; its user is the
 * caller. */
CUresult cuda_mark_record(struct vgpu_backend *b, struct vgpu_driver_stream *stream,
                          struct cuda_mark **mark);
/* One user less. */
void cuda_mark_release(struct vgpu_backend *b, struct vgpu_driver_context *c,
                       struct cuda_mark *mark);

/* fence.c */
extern const struct vgpu_fence_ops vgpu_cuda_fence_ops;
/* What waits for the stream as a whole gets a mark: something is about to come behind it. */
void cuda_fences_settle(struct vgpu_backend *b, struct vgpu_driver_stream *stream);
/* The context goes, and its fences with it, but for their names. */
void cuda_fences_lose(struct vgpu_backend *b, struct vgpu_driver_context *c);

/* Members of struct vgpu_driver_ops. */
CUresult cuda_call_stream_create(struct vgpu_driver *driver, struct vgpu_driver_stream **stream,
                                 uint32_t flags, int32_t priority);
CUresult cuda_call_stream_destroy(struct vgpu_driver *driver, struct vgpu_driver_stream *stream);
CUresult cuda_call_stream_synchronize(struct vgpu_driver *driver,
                                      struct vgpu_driver_stream *stream);
CUresult cuda_call_stream_query(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                                uint32_t *result);
CUresult cuda_call_stream_wait_event(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                                     struct vgpu_driver_event *event, uint32_t flags);
CUresult cuda_call_event_create(struct vgpu_driver *driver, struct vgpu_driver_event **event,
                                uint32_t flags);
CUresult cuda_call_event_destroy(struct vgpu_driver *driver, struct vgpu_driver_event *event);
CUresult cuda_call_event_record(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                                struct vgpu_driver_stream *stream, uint32_t flags);
CUresult cuda_call_event_query(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                               uint32_t *result);
CUresult cuda_call_event_synchronize(struct vgpu_driver *driver, struct vgpu_driver_event *event);
CUresult cuda_call_event_elapsed(struct vgpu_driver *driver, float *milliseconds,
                                 struct vgpu_driver_event *start, struct vgpu_driver_event *end);

#endif
