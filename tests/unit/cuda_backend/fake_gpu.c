/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A GPU's queues; see fake_gpu.h. */
#include "fake_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "vgpu_test.h"

#define CONTEXTS 8
#define ITEMS    4096

struct fake_gpu fake;

/* A piece of work, a wait or a record. */
struct item {
    bool work; /* ends when it is told to; else as soon as it may */
    struct fake_snapshot after;
};

/* Number 0 to CONTEXTS - 1: default streams. */
static struct queue {
    bool alive, blocking;
    unsigned context;
    unsigned count, done, allowed; /* items; those done; work that may end */
    struct item *item;
} queue[FAKE_STREAMS];

struct CUevent_st {
    bool alive, recorded;
    unsigned context, queue, position;
    struct CUevent_st *next;
};
static struct CUevent_st *all_events;

static bool context_alive[CONTEXTS];
static bool primary_alive;
static unsigned current; /* number + 1; 0: none */
static struct region {
    void *base;
    size_t bytes;
    unsigned context;
} regions[8];

static char context_handle[CONTEXTS], stream_handle[FAKE_STREAMS];

static CUcontext context_of(unsigned i)
{
    return (CUcontext)(void *)&context_handle[i];
}

static unsigned context_number(CUcontext c)
{
    return (unsigned)((char *)(void *)c - context_handle);
}

/* The queue of a handle; NULL: the current context's default stream. */
static unsigned queue_of(CUstream s)
{
    if (!s) {
        assert_true(current > 0);
        return current - 1;
    }
    unsigned i = (unsigned)((char *)(void *)s - stream_handle);
    assert_true(i < FAKE_STREAMS && i >= CONTEXTS);
    if (!queue[i].alive)
        fail_msg("a stream that was destroyed is used");
    return i;
}

static CUevent live(CUevent e)
{
    assert_non_null(e);
    if (!e->alive)
        fail_msg("an event that was destroyed is used");
    return e;
}

bool fake_passed(const struct fake_snapshot *s)
{
    for (unsigned i = 0; i < FAKE_STREAMS; i++) {
        if (queue[i].done < s->position[i])
            return false;
    }
    return true;
}

static void pump(void)
{
    bool moved = true;
    while (moved) {
        moved = false;
        for (unsigned i = 0; i < FAKE_STREAMS; i++) {
            struct queue *q = &queue[i];
            while (q->done < q->count) {
                const struct item *item = &q->item[q->done];
                if (!fake_passed(&item->after) || (item->work && !q->allowed))
                    break;
                q->allowed -= item->work;
                q->done++;
                moved = true;
            }
        }
    }
}

/* Behind what is on the queue, and on those that it is ordered with. */
static unsigned enqueue(unsigned i, bool work, const struct fake_snapshot *after)
{
    struct queue *q = &queue[i];
    if (!q->item) {
        q->item = calloc(ITEMS, sizeof(*q->item));
        assert_non_null(q->item);
    }
    assert_true(q->count < ITEMS);
    struct item *item = &q->item[q->count];
    *item = (struct item){.work = work};
    if (after)
        item->after = *after;
    for (unsigned k = 0; k < FAKE_STREAMS; k++) {
        bool ordered = queue[k].context == q->context && queue[k].blocking && q->blocking &&
                       (i < CONTEXTS) != (k < CONTEXTS);
        if (ordered && queue[k].count > item->after.position[k])
            item->after.position[k] = queue[k].count;
    }
    q->count++;
    pump();
    return q->count;
}

static struct fake_snapshot snapshot_queue(unsigned i)
{
    struct fake_snapshot s = {{0}};
    for (unsigned k = 0; k < FAKE_STREAMS; k++) {
        bool with = i < CONTEXTS && queue[k].context == queue[i].context && queue[k].blocking;
        if (k == i || with)
            s.position[k] = queue[k].count;
    }
    return s;
}

struct fake_snapshot fake_snapshot_stream(struct vgpu_driver_stream *stream)
{
    return snapshot_queue(queue_of(stream ? stream->cuda : NULL));
}

struct fake_snapshot fake_snapshot_context(CUcontext context)
{
    struct fake_snapshot s = {{0}};
    for (unsigned k = 0; k < FAKE_STREAMS; k++) {
        if (queue[k].context == context_number(context))
            s.position[k] = queue[k].count;
    }
    return s;
}

struct fake_snapshot fake_snapshot_event(CUevent e)
{
    struct fake_snapshot s = {{0}};
    if (e->recorded)
        s.position[e->queue] = e->position;
    return s;
}

void fake_work(struct vgpu_backend *b, struct vgpu_driver_stream *stream)
{
    (void)enqueue(queue_of(cuda_stream_use(b, stream)), true, NULL);
}

static bool finish(unsigned i)
{
    unsigned pieces = 0;
    for (unsigned k = queue[i].done; k < queue[i].count; k++)
        pieces += queue[i].item[k].work;
    if (pieces <= queue[i].allowed)
        return false;
    queue[i].allowed++;
    pump();
    return true;
}

bool fake_finish(struct vgpu_driver_stream *stream)
{
    return finish(queue_of(stream->cuda));
}

void fake_finish_default(CUcontext context)
{
    (void)finish(context_number(context));
}

void fake_finish_all(void)
{
    for (unsigned i = 0; i < FAKE_STREAMS; i++) {
        while (finish(i))
            ;
    }
}

/* ---- The driver's functions ---- */

#define ANSWER_IF_BROKEN()                                                                         \
    do {                                                                                           \
        if (fake.broken != CUDA_SUCCESS)                                                           \
            return fake.broken;                                                                    \
    } while (0)

static CUresult set_current(CUcontext c)
{
    current = c ? context_number(c) + 1 : 0;
    return CUDA_SUCCESS;
}

static unsigned new_context(void)
{
    for (unsigned i = 0; i < CONTEXTS; i++) {
        if (context_alive[i] || queue[i].count)
            continue;
        context_alive[i] = true;
        queue[i].alive = queue[i].blocking = true;
        queue[i].context = i;
        current = i + 1;
        fake.contexts++;
        return i;
    }
    fail_msg("too many contexts");
    return 0;
}

static void end_context(unsigned i)
{
    assert_true(context_alive[i]);
    for (unsigned k = 0; k < sizeof(regions) / sizeof(regions[0]); k++) {
        if (regions[k].base && regions[k].context == i)
            fail_msg("a context ends with memory that it pinned");
    }
    context_alive[i] = false;
    fake.contexts--;
    if (current == i + 1)
        current = 0;
}

static CUresult context_create(CUcontext *out, unsigned flags, CUdevice device)
{
    (void)flags;
    (void)device;
    ANSWER_IF_BROKEN();
    *out = context_of(new_context());
    return CUDA_SUCCESS;
}

static unsigned primary;

static CUresult primary_retain(CUcontext *out, CUdevice device)
{
    unsigned was = current;
    (void)device;
    ANSWER_IF_BROKEN();
    assert_false(primary_alive);
    primary = new_context();
    current = was;
    primary_alive = true;
    *out = context_of(primary);
    return CUDA_SUCCESS;
}

static CUresult primary_release(CUdevice device)
{
    (void)device;
    assert_true(primary_alive);
    primary_alive = false;
    end_context(primary);
    return fake.broken;
}

static CUresult context_destroy(CUcontext c)
{
    end_context(context_number(c));
    return fake.broken;
}

static CUresult context_synchronize(void)
{
    ANSWER_IF_BROKEN();
    assert_true(current > 0);
    fake.waits++;
    fake_finish_all();
    return CUDA_SUCCESS;
}

static CUresult stream_create(CUstream *out, unsigned flags, int priority)
{
    (void)priority;
    ANSWER_IF_BROKEN();
    assert_true(current > 0);
    for (unsigned i = CONTEXTS; i < FAKE_STREAMS; i++) {
        struct queue *q = &queue[i];
        if (q->alive || q->done < q->count)
            continue;
        q->alive = true;
        q->blocking = !(flags & 1);
        q->context = current - 1;
        fake.streams++;
        *out = (CUstream)(void *)&stream_handle[i];
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult stream_destroy(CUstream s)
{
    queue[queue_of(s)].alive = false; /* what it has goes on */
    fake.streams--;
    return fake.broken;
}

static CUresult stream_query(CUstream s)
{
    struct fake_snapshot all = snapshot_queue(queue_of(s));
    fake.queries++;
    ANSWER_IF_BROKEN();
    return fake_passed(&all) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

static CUresult stream_synchronize(CUstream s)
{
    struct fake_snapshot all = snapshot_queue(queue_of(s));
    fake.waits++;
    ANSWER_IF_BROKEN();
    if (!fake_passed(&all))
        fake_finish_all();
    return CUDA_SUCCESS;
}

static CUresult event_create(CUevent *out, unsigned flags)
{
    (void)flags;
    ANSWER_IF_BROKEN();
    assert_true(current > 0);
    struct CUevent_st *e = calloc(1, sizeof(*e));
    assert_non_null(e);
    e->alive = true;
    e->context = current - 1;
    e->next = all_events;
    all_events = e;
    fake.events++;
    *out = e;
    return CUDA_SUCCESS;
}

/* The memory stays until the end, so that a later use is seen. */
static CUresult event_destroy(CUevent e)
{
    live(e)->alive = false;
    fake.events--;
    return fake.broken;
}

static CUresult event_record(CUevent e, CUstream s, unsigned flags)
{
    unsigned i = queue_of(s);
    (void)flags;
    ANSWER_IF_BROKEN();
    if (live(e)->context != queue[i].context)
        fail_msg("an event is recorded on another context's stream");
    e->recorded = true;
    e->queue = i;
    e->position = enqueue(i, false, NULL);
    fake.records++;
    return CUDA_SUCCESS;
}

static bool event_passed(CUevent e)
{
    return !e->recorded || queue[e->queue].done >= e->position;
}

static CUresult event_query(CUevent e)
{
    fake.queries++;
    (void)live(e);
    ANSWER_IF_BROKEN();
    return event_passed(e) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

static CUresult event_synchronize(CUevent e)
{
    (void)live(e);
    fake.waits++;
    ANSWER_IF_BROKEN();
    if (!event_passed(e))
        fake_finish_all();
    return CUDA_SUCCESS;
}

static CUresult stream_wait_event(CUstream s, CUevent e, unsigned flags)
{
    struct fake_snapshot after = fake_snapshot_event(live(e));
    (void)flags;
    ANSWER_IF_BROKEN();
    (void)enqueue(queue_of(s), false, &after);
    return CUDA_SUCCESS;
}

static CUresult host_register(void *base, size_t bytes, unsigned flags)
{
    assert_int_equal(flags, 1); /* for all contexts */
    if (fake.refuse_register != CUDA_SUCCESS)
        return fake.refuse_register;
    ANSWER_IF_BROKEN();
    assert_true(current > 0);
    unsigned at = sizeof(regions) / sizeof(regions[0]);
    for (unsigned k = 0; k < sizeof(regions) / sizeof(regions[0]); k++) {
        assert_true(regions[k].base != base); /* twice is an error of CUDA's */
        if (!regions[k].base)
            at = k;
    }
    assert_true(at < sizeof(regions) / sizeof(regions[0]));
    regions[at] = (struct region){base, bytes, current - 1};
    fake.registered++;
    fake.registrations++;
    fake.registered_by = context_of(current - 1);
    return CUDA_SUCCESS;
}

static CUresult host_unregister(void *base)
{
    for (unsigned i = 0; i < FAKE_STREAMS; i++) {
        if (queue[i].done < queue[i].count)
            fail_msg("memory is unpinned under work");
    }
    for (unsigned k = 0; k < sizeof(regions) / sizeof(regions[0]); k++) {
        if (regions[k].base == base) {
            regions[k].base = NULL;
            fake.registered--;
            return CUDA_SUCCESS;
        }
    }
    fail_msg("memory is unpinned that is not pinned");
    return CUDA_ERROR_INVALID_VALUE;
}

struct vgpu_backend *fake_open(void)
{
    struct vgpu_backend *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    for (unsigned i = 0; i < FAKE_STREAMS; i++)
        queue[i] = (struct queue){.item = NULL};
    memset(context_alive, 0, sizeof(context_alive));
    memset(regions, 0, sizeof(regions));
    fake = (struct fake_gpu){.broken = CUDA_SUCCESS};
    current = 0;
    b->driver.ops = &vgpu_cuda_driver_ops;
    b->driver.fences = &vgpu_cuda_fence_ops;
    b->quota_bytes = 1u << 30;
    b->output[0] = b->output[1] = -1;
    b->api.cuCtxSetCurrent = set_current;
    b->api.cuCtxCreate_v2 = context_create;
    b->api.cuCtxDestroy_v2 = context_destroy;
    b->api.cuDevicePrimaryCtxRetain = primary_retain;
    b->api.cuDevicePrimaryCtxRelease_v2 = primary_release;
    b->api.cuCtxSynchronize = context_synchronize;
    b->api.cuStreamCreateWithPriority = stream_create;
    b->api.cuStreamDestroy_v2 = stream_destroy;
    b->api.cuStreamQuery = stream_query;
    b->api.cuStreamSynchronize = stream_synchronize;
    b->api.cuStreamWaitEvent = stream_wait_event;
    b->api.cuEventCreate = event_create;
    b->api.cuEventDestroy_v2 = event_destroy;
    b->api.cuEventRecordWithFlags = event_record;
    b->api.cuEventQuery = event_query;
    b->api.cuEventSynchronize = event_synchronize;
    b->api.cuMemHostRegister_v2 = host_register;
    b->api.cuMemHostUnregister = host_unregister;
    return b;
}

void fake_close(struct vgpu_backend *b)
{
    fake_finish_all();
    vgpu_backend_cuda.close(b);
    assert_int_equal(fake.events, 0);
    assert_int_equal(fake.streams, 0);
    assert_int_equal(fake.contexts, 0);
    assert_int_equal(fake.registered, 0);
    for (unsigned i = 0; i < FAKE_STREAMS; i++)
        free(queue[i].item);
    while (all_events) {
        struct CUevent_st *e = all_events;
        all_events = e->next;
        free(e);
    }
}
