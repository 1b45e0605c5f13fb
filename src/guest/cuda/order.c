/* SPDX-License-Identifier: MIT */
/*
 * Order around host callbacks. The GPU never waits for a guest, so what comes after a callback on a
 * stream stays here until the callback has returned: each stream has a list of what is held back,
 * calls already encoded. What depends on a stream that is held is held too:
 *
 * - on the same stream, everything;
 * - the legacy stream waits for all blocking streams of its context, and they for it;
 * - a wait for an event whose record is held back.
 *
 * One thread sends what has become free, in the order of each list; another runs the callbacks, one
 * at a time, so that one that blocks holds up callbacks only. Numbers grow over all lists: "has
 * that been sent?" is "is the oldest of its list newer?".
 */
#include <stdlib.h>
#include <time.h>

#include "guest/cuda/internal.h"
#include "guest/cuda/thread.h"

#define LOOK_FIRST_NS 50000u   /* between two looks at whether a stream came to its callback, */
#define LOOK_LAST_NS  2000000u /* growing to this */

enum kind { KEPT_CALL, KEPT_CALLBACK, KEPT_FUNCTION };
enum state { WAITING, RUNNABLE, DONE }; /* of a callback */

struct vgpu_deferred {
    struct vgpu_deferred *next;
    struct vgpu_deferred *next_runnable;
    uint64_t sequence;
    enum kind kind;
    enum state state;
    bool after_all; /* waits for everything older, on whatever stream */
    /* Waits until this stream has sent what it held back up to the number. */
    const struct vgpu_stream *after;
    uint64_t after_sequence;

    const struct vgpu_call_info *info;
    uint64_t context;
    uint64_t in[VGPU_CALL_SLOTS_MAX];
    uint32_t length;
    CUhostFn host;
    CUstreamCallback callback;
    CUstream handle;
    CUresult status; /* what the callback is told */
    void *data;
    CUresult (*run)(struct vgpu_stream *stream, void *data);
    uint8_t payload[];
};

static struct {
    pthread_mutex_t lock; /* guards what follows, and the lists in streams */
    pthread_cond_t moved; /* something was added, sent or run */
    pthread_cond_t runnable_moved;
    bool started;
    uint64_t last_sequence;
    struct vgpu_stream *held; /* streams whose list is not empty */
    struct vgpu_deferred *runnable_first, *runnable_last;
    struct vgpu_stream rest; /* a list of what belongs to no stream */
} order = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .moved = PTHREAD_COND_INITIALIZER,
           .runnable_moved = PTHREAD_COND_INITIALIZER};

/* How many are held back; without any, nothing of this costs more than reading it. */
static _Atomic unsigned held_count;

/* ---- Who waits for whom. The caller holds order.lock. ---- */

static bool is_older(const struct vgpu_stream *stream, uint64_t sequence)
{
    return stream->first && stream->first->sequence <= sequence;
}

static bool is_blocking(const struct vgpu_stream *stream)
{
    return !stream->legacy && !(stream->flags & CU_STREAM_NON_BLOCKING) && stream != &order.rest;
}

/* Whether anything up to the number is held back that work on the stream comes after. */
static bool waits(const struct vgpu_stream *stream, uint64_t sequence, bool itself)
{
    for (const struct vgpu_stream *s = order.held; s; s = s->next_held) {
        if (!is_older(s, sequence))
            continue;
        if (s == stream) {
            if (itself)
                return true;
            continue;
        }
        if (s->base.context != stream->base.context)
            continue;
        if ((stream->legacy && is_blocking(s)) || (s->legacy && is_blocking(stream)))
            return true;
    }
    return false;
}

static bool waits_for_any(const struct vgpu_context *context, uint64_t sequence)
{
    for (const struct vgpu_stream *s = order.held; s; s = s->next_held)
        if ((!context || s->base.context == context || s == &order.rest) && is_older(s, sequence))
            return true;
    return false;
}

static bool may_go(const struct vgpu_stream *stream, const struct vgpu_deferred *kept)
{
    if (kept->sequence && waits(stream, kept->sequence - 1, false))
        return false;
    if (kept->after && is_older(kept->after, kept->after_sequence))
        return false;
    if (kept->after_all && waits_for_any(NULL, kept->sequence - 1))
        return false;
    return true;
}

/* ---- Adding ---- */

static void *send_freed(void *unused);
static void *run_callbacks(void *unused);

/* The caller holds order.lock. */
static bool start_threads(void)
{
    if (order.started)
        return true;
    /* A sender without a runner does no harm: it finds nothing to do. */
    bool good =
        vgpu_cuda_thread_start(send_freed, NULL) && vgpu_cuda_thread_start(run_callbacks, NULL);
    order.started = good;
    return good;
}

/* The caller holds order.lock. */
static void append(struct vgpu_stream *stream, struct vgpu_deferred *kept)
{
    kept->sequence = ++order.last_sequence;
    if (stream->last)
        stream->last->next = kept;
    else
        stream->first = kept;
    stream->last = kept;
    if (!stream->held) {
        stream->held = true;
        stream->next_held = order.held;
        order.held = stream;
    }
    atomic_fetch_add(&held_count, 1);
    pthread_cond_broadcast(&order.moved);
}

static struct vgpu_deferred *new_call(const struct vgpu_call_info *info, uint64_t context,
                                      const uint64_t *in, const void *payload, uint32_t length)
{
    struct vgpu_deferred *kept = calloc(1, sizeof(*kept) + length);
    if (!kept)
        return NULL;
    kept->kind = KEPT_CALL;
    kept->info = info;
    kept->context = context;
    if (info->in_count)
        memcpy(kept->in, in, info->in_count * sizeof(in[0]));
    if (length)
        memcpy(kept->payload, payload, length);
    kept->length = length;
    return kept;
}

CUresult vgpu_order_keep(struct vgpu_stream *stream, const struct vgpu_call_info *info,
                         uint64_t context, const uint64_t *in, const void *payload, uint32_t length)
{
    struct vgpu_deferred *kept = new_call(info, context, in, payload, length);
    if (!kept)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&order.lock);
    append(stream, kept);
    pthread_mutex_unlock(&order.lock);
    return CUDA_SUCCESS;
}

bool vgpu_order_holds(struct vgpu_stream *stream)
{
    if (atomic_load(&held_count) == 0)
        return false;
    pthread_mutex_lock(&order.lock);
    bool holds = waits(stream, UINT64_MAX, true);
    pthread_mutex_unlock(&order.lock);
    return holds;
}

void vgpu_order_retire(struct vgpu_stream *stream)
{
    if (!vgpu_object_retire(&stream->base))
        return;
    pthread_mutex_lock(&order.lock);
    stream->retired = true;
    bool now = !stream->held;
    pthread_mutex_unlock(&order.lock);
    if (now)
        vgpu_object_bury(&stream->base);
}

CUresult vgpu_order_begin(struct vgpu_stream *stream)
{
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    thread->defer = vgpu_order_holds(stream) ? stream : NULL;
    return CUDA_SUCCESS;
}

void vgpu_order_end(void)
{
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (thread)
        thread->defer = NULL;
}

CUresult vgpu_order_callback(struct vgpu_stream *stream, CUhostFn host, CUstreamCallback callback,
                             CUstream handle, void *data)
{
    struct vgpu_deferred *kept = calloc(1, sizeof(*kept));
    if (!kept)
        return CUDA_ERROR_OUT_OF_MEMORY;
    kept->kind = KEPT_CALLBACK;
    kept->host = host;
    kept->callback = callback;
    kept->handle = handle;
    kept->data = data;
    pthread_mutex_lock(&order.lock);
    bool good = start_threads();
    if (good)
        append(stream, kept);
    pthread_mutex_unlock(&order.lock);
    if (!good)
        free(kept);
    return good ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult vgpu_order_later(struct vgpu_stream *stream,
                          CUresult (*run)(struct vgpu_stream *stream, void *data), void *data)
{
    struct vgpu_deferred *kept = calloc(1, sizeof(*kept));
    if (!kept) {
        free(data);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    kept->kind = KEPT_FUNCTION;
    kept->run = run;
    kept->data = data;
    pthread_mutex_lock(&order.lock);
    append(stream, kept);
    pthread_mutex_unlock(&order.lock);
    return CUDA_SUCCESS;
}

/* ---- Waiting ---- */

static CUresult wait_until_sent(struct vgpu_stream *stream, struct vgpu_context *context)
{
    if (atomic_load(&held_count) == 0)
        return CUDA_SUCCESS;
    pthread_mutex_lock(&order.lock);
    uint64_t sequence = order.last_sequence;
    while (stream ? waits(stream, sequence, true) : waits_for_any(context, sequence))
        pthread_cond_wait(&order.moved, &order.lock);
    pthread_mutex_unlock(&order.lock);
    return (CUresult)atomic_load(&vgpu_cuda.sticky);
}

CUresult vgpu_order_wait(struct vgpu_stream *stream)
{
    return wait_until_sent(stream, NULL);
}

CUresult vgpu_order_wait_context(struct vgpu_context *context)
{
    return wait_until_sent(NULL, context);
}

/* ---- Events ---- */

CUresult vgpu_order_record(struct vgpu_stream *stream, struct vgpu_event *event, unsigned flags)
{
    if (!vgpu_order_holds(stream)) {
        event->record_sequence = 0;
        return vgpu_call_event_record(stream->base.context->base.name, event->base.name,
                                      stream->base.name, flags);
    }
    const uint64_t in[] = {event->base.name, stream->base.name, flags};
    struct vgpu_deferred *kept = new_call(vgpu_call_info(VGPU_CALL_EVENT_RECORD),
                                          stream->base.context->base.name, in, NULL, 0);
    if (!kept)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&order.lock);
    append(stream, kept);
    event->record_stream = stream;
    event->record_sequence = kept->sequence;
    pthread_mutex_unlock(&order.lock);
    return CUDA_SUCCESS;
}

/* The caller holds order.lock. */
static bool record_held(const struct vgpu_event *event)
{
    return event->record_sequence && is_older(event->record_stream, event->record_sequence);
}

bool vgpu_order_record_held(struct vgpu_event *event)
{
    if (atomic_load(&held_count) == 0)
        return false;
    pthread_mutex_lock(&order.lock);
    bool held = record_held(event);
    pthread_mutex_unlock(&order.lock);
    return held;
}

CUresult vgpu_order_wait_record(struct vgpu_event *event)
{
    if (atomic_load(&held_count) == 0)
        return CUDA_SUCCESS;
    pthread_mutex_lock(&order.lock);
    while (record_held(event))
        pthread_cond_wait(&order.moved, &order.lock);
    pthread_mutex_unlock(&order.lock);
    return (CUresult)atomic_load(&vgpu_cuda.sticky);
}

CUresult vgpu_order_wait_event(struct vgpu_stream *stream, struct vgpu_event *event, unsigned flags)
{
    uint64_t context = stream->base.context->base.name;
    if (!vgpu_order_record_held(event) && !vgpu_order_holds(stream))
        return vgpu_call_stream_wait_event(context, stream->base.name, event->base.name, flags);
    const uint64_t in[] = {stream->base.name, event->base.name, flags};
    struct vgpu_deferred *kept =
        new_call(vgpu_call_info(VGPU_CALL_STREAM_WAIT_EVENT), context, in, NULL, 0);
    if (!kept)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&order.lock);
    if (record_held(event)) {
        kept->after = event->record_stream;
        kept->after_sequence = event->record_sequence;
    }
    append(stream, kept);
    pthread_mutex_unlock(&order.lock);
    return CUDA_SUCCESS;
}

CUresult vgpu_order_event_destroy(struct vgpu_context *context, uint64_t name)
{
    if (atomic_load(&held_count) == 0)
        return vgpu_call_event_destroy(context->base.name, name);
    const uint64_t in[] = {name};
    struct vgpu_deferred *kept =
        new_call(vgpu_call_info(VGPU_CALL_EVENT_DESTROY), context->base.name, in, NULL, 0);
    if (!kept)
        return CUDA_ERROR_OUT_OF_MEMORY;
    kept->after_all = true;
    pthread_mutex_lock(&order.lock);
    order.rest.flags = CU_STREAM_NON_BLOCKING;
    append(&order.rest, kept);
    pthread_mutex_unlock(&order.lock);
    return CUDA_SUCCESS;
}

/* ---- Sending ---- */

/* Takes the oldest of a list out. The caller holds order.lock. */
static void remove_first(struct vgpu_stream *stream)
{
    struct vgpu_deferred *kept = stream->first;
    stream->first = kept->next;
    if (!stream->first) {
        stream->last = NULL;
        stream->held = false;
        for (struct vgpu_stream **at = &order.held; *at; at = &(*at)->next_held) {
            if (*at == stream) {
                *at = stream->next_held;
                break;
            }
        }
        if (stream->retired)
            vgpu_object_bury(&stream->base);
    }
    atomic_fetch_sub(&held_count, 1);
    pthread_cond_broadcast(&order.moved);
    if (kept->kind == KEPT_FUNCTION)
        free(kept->data);
    free(kept);
}

/* Has everything before a callback been done? It is made runnable then. Without order.lock. */
static bool came_to_callback(struct vgpu_stream *stream, struct vgpu_deferred *kept)
{
    uint32_t done = 0;
    const struct vgpu_call_info *info = vgpu_call_info(VGPU_CALL_STREAM_QUERY);
    const uint64_t in[] = {stream->base.name};
    uint64_t out[1] = {0};
    CUresult result = (CUresult)atomic_load(&vgpu_cuda.sticky);
    if (result == CUDA_SUCCESS)
        result =
            vgpu_cuda_send(info, stream->base.context->base.name, in, NULL, 0, out, NULL, 0, NULL);
    done = (uint32_t)out[0];
    if (result == CUDA_SUCCESS && done == CUDA_ERROR_NOT_READY)
        return false;
    kept->status = result != CUDA_SUCCESS ? result : (CUresult)done;
    return true;
}

/* The first list whose oldest may go now, and is no callback that waits or runs. */
static struct vgpu_stream *find_free(struct vgpu_stream *from)
{
    for (struct vgpu_stream *s = from; s; s = s->next_held)
        if (may_go(s, s->first) &&
            !(s->first->kind == KEPT_CALLBACK && s->first->state == RUNNABLE))
            return s;
    return NULL;
}

/* One round over all lists; true when anything went. The caller holds order.lock. */
static bool send_round(void)
{
    bool went = false;
    uint64_t newest = order.last_sequence;
    for (struct vgpu_stream *stream = find_free(order.held); stream;) {
        struct vgpu_deferred *kept = stream->first;
        if (kept->sequence > newest)
            break;
        if (kept->kind == KEPT_CALLBACK && kept->state == WAITING) {
            pthread_mutex_unlock(&order.lock);
            bool came = came_to_callback(stream, kept);
            pthread_mutex_lock(&order.lock);
            if (!came) {
                stream = find_free(stream->next_held);
                continue;
            }
            kept->state = RUNNABLE;
            kept->next_runnable = NULL;
            if (order.runnable_last)
                order.runnable_last->next_runnable = kept;
            else
                order.runnable_first = kept;
            order.runnable_last = kept;
            pthread_cond_signal(&order.runnable_moved);
        } else if (kept->kind == KEPT_CALLBACK) {
            remove_first(stream); /* it returned */
        } else {
            /* It stays first meanwhile, so that nothing overtakes it. */
            pthread_mutex_unlock(&order.lock);
            CUresult result = (CUresult)atomic_load(&vgpu_cuda.sticky);
            if (result == CUDA_SUCCESS && kept->kind == KEPT_CALL)
                result = vgpu_cuda_send(kept->info, kept->context, kept->in,
                                        kept->length ? kept->payload : NULL, kept->length, NULL,
                                        NULL, 0, NULL);
            else if (result == CUDA_SUCCESS)
                result = kept->run(stream, kept->data);
            vgpu_cuda_tell_late(result);
            pthread_mutex_lock(&order.lock);
            remove_first(stream);
        }
        went = true;
        stream = find_free(order.held);
    }
    return went;
}

static void *send_freed(void *unused)
{
    (void)unused;
    uint32_t look_ns = LOOK_FIRST_NS;
    pthread_mutex_lock(&order.lock);
    for (;;) {
        bool went = send_round();
        if (went)
            look_ns = LOOK_FIRST_NS;
        if (went)
            continue;
        if (!find_free(order.held)) {
            pthread_cond_wait(&order.moved, &order.lock);
            look_ns = LOOK_FIRST_NS;
            continue;
        }
        /* Some stream has not come to its callback yet. Nobody tells us: look again. */
        pthread_mutex_unlock(&order.lock);
        nanosleep(&(struct timespec){.tv_nsec = (long)look_ns}, NULL);
        look_ns = look_ns < LOOK_LAST_NS ? look_ns * 2 : look_ns;
        pthread_mutex_lock(&order.lock);
    }
    return NULL;
}

static void *run_callbacks(void *unused)
{
    (void)unused;
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (thread)
        thread->in_callback = true;
    pthread_mutex_lock(&order.lock);
    for (;;) {
        struct vgpu_deferred *kept = order.runnable_first;
        if (!kept) {
            pthread_cond_wait(&order.runnable_moved, &order.lock);
            continue;
        }
        order.runnable_first = kept->next_runnable;
        if (!order.runnable_first)
            order.runnable_last = NULL;
        pthread_mutex_unlock(&order.lock);
        if (kept->callback)
            kept->callback(kept->handle, kept->status, kept->data);
        else if (kept->status == CUDA_SUCCESS) /* a host function is not run after an error */
            kept->host(kept->data);
        pthread_mutex_lock(&order.lock);
        kept->state = DONE;
        pthread_cond_broadcast(&order.moved);
    }
    return NULL;
}
