/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and calls; see calls.h. */
#include "worker/calls.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/sys.h"
#include "vgpu_worker_calls.h"

#define FIRST_BUCKETS 16u

static const char *const kind_names[VGPU_KIND_COUNT] = {
    [VGPU_KIND_NONE] = "nothing",  [VGPU_KIND_CONTEXT] = "context",
    [VGPU_KIND_MODULE] = "module", [VGPU_KIND_FUNCTION] = "function",
    [VGPU_KIND_STREAM] = "stream", [VGPU_KIND_EVENT] = "event",
    [VGPU_KIND_ARRAY] = "array",   [VGPU_KIND_POOL] = "memory pool",
};

static void say(struct vgpu_call_frame *frame, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct vgpu_call_frame *frame, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(frame->text, frame->text_size, format, args);
    va_end(args);
}

void vgpu_calls_init(struct vgpu_calls *calls, struct vgpu_driver *driver)
{
    memset(calls, 0, sizeof(*calls));
    LIST_INIT(&calls->contexts);
    if (!driver)
        return;
    calls->driver = driver;
    calls->ops = driver->ops;
    /* Without random bytes a guest can make its own names share a bucket: it waits longer. */
    if (vgpu_random(calls->seed, sizeof(calls->seed)))
        calls->seed[0] = calls->seed[1] = (uint64_t)(uintptr_t)calls;
    calls->seed[1] |= 1;
}

void vgpu_calls_destroy(struct vgpu_calls *calls)
{
    for (int kind = 0; kind < VGPU_KIND_COUNT; kind++) {
        struct vgpu_calls_table *t = &calls->table[kind];
        for (uint32_t i = 0; i < t->size; i++) {
            struct vgpu_calls_entry *next;
            for (struct vgpu_calls_entry *e = t->bucket[i]; e; e = next) {
                next = e->next;
                free(e);
            }
        }
        free(t->bucket);
    }
    memset(calls, 0, sizeof(*calls));
}

/* ---- The table ---- */

static uint32_t bucket_of(const struct vgpu_calls *calls, uint32_t size, uint64_t name)
{
    return (uint32_t)(((name ^ calls->seed[0]) * calls->seed[1]) >> 32) & (size - 1);
}

static struct vgpu_calls_entry *look_up(const struct vgpu_calls *calls, enum vgpu_kind kind,
                                        uint64_t name)
{
    const struct vgpu_calls_table *t = &calls->table[kind];
    struct vgpu_calls_entry *e = t->size ? t->bucket[bucket_of(calls, t->size, name)] : NULL;
    while (e && e->name != name)
        e = e->next;
    return e;
}

/* Twice as many buckets. Fails only when there are none at all: else the chains get longer. */
static bool grow(struct vgpu_calls *calls, struct vgpu_calls_table *t)
{
    uint32_t size = t->size ? t->size * 2 : FIRST_BUCKETS;
    struct vgpu_calls_entry **bucket = calloc(size, sizeof(struct vgpu_calls_entry *));
    if (!bucket)
        return t->size > 0;
    for (uint32_t i = 0; i < t->size; i++) {
        struct vgpu_calls_entry *next;
        for (struct vgpu_calls_entry *e = t->bucket[i]; e; e = next) {
            next = e->next;
            uint32_t to = bucket_of(calls, size, e->name);
            e->next = bucket[to];
            bucket[to] = e;
        }
    }
    free(t->bucket);
    t->bucket = bucket;
    t->size = size;
    return true;
}

/* One name less. What it owns was dealt with. */
static void drop_entry(struct vgpu_calls *calls, struct vgpu_calls_entry *entry)
{
    struct vgpu_calls_table *t = &calls->table[entry->kind];
    struct vgpu_calls_entry **at = &t->bucket[bucket_of(calls, t->size, entry->name)];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    t->count--;
    calls->count--;
    if (calls->current == entry)
        calls->current = NULL;
    if (calls->module == entry)
        calls->module = NULL;
    LIST_REMOVE(entry, link);
    free(entry);
}

/* The other name of a context's object, if it has one. */
static struct vgpu_calls_entry *alias_of(const struct vgpu_calls *calls,
                                         const struct vgpu_calls_entry *entry)
{
    struct vgpu_calls_entry *e;
    if (entry->kind != VGPU_KIND_CONTEXT || !entry->object)
        return NULL;
    for (e = LIST_FIRST(&calls->contexts); e; e = LIST_NEXT(e, link)) {
        if (e != entry && e->object == entry->object)
            return e;
    }
    return NULL;
}

static void drop_tree(struct vgpu_calls *calls, struct vgpu_calls_entry *entry)
{
    struct vgpu_calls_entry *alias = alias_of(calls, entry);
    if (alias)
        alias->busy |= entry->busy;
    struct vgpu_calls_entry *e;
    /* At most two levels below a context: modules, and their functions. */
    while ((e = LIST_FIRST(&entry->owned))) {
        if (alias) {
            LIST_REMOVE(e, link);
            LIST_INSERT_HEAD(&alias->owned, e, link);
            e->owner = alias;
            continue;
        }
        struct vgpu_calls_entry *next;
        for (struct vgpu_calls_entry *f = LIST_FIRST(&e->owned); f; f = next) {
            next = LIST_NEXT(f, link);
            drop_entry(calls, f);
        }
        drop_entry(calls, e);
    }
    drop_entry(calls, entry);
}

void *vgpu_calls_find(struct vgpu_calls *calls, enum vgpu_kind kind, uint64_t name)
{
    struct vgpu_calls_entry *e = look_up(calls, kind, name);
    if (!e)
        return NULL;
    if (kind == VGPU_KIND_MODULE)
        calls->module = e;
    return e->object;
}

static CUresult make_room(struct vgpu_calls *calls, struct vgpu_call_frame *frame,
                          enum vgpu_kind kind)
{
    struct vgpu_calls_table *t = &calls->table[kind];
    if (calls->count >= VGPU_CALLS_NAMES_MAX) {
        say(frame, "a session has at most %u handles", VGPU_CALLS_NAMES_MAX);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (kind == VGPU_KIND_CONTEXT && t->count >= VGPU_CALLS_CONTEXTS_MAX) {
        say(frame, "a session has at most %u names for contexts", VGPU_CALLS_CONTEXTS_MAX);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (t->count >= t->size && !grow(calls, t)) {
        say(frame, "the host has no memory for another handle");
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    return CUDA_SUCCESS;
}

CUresult vgpu_calls_reserve(struct vgpu_calls *calls, struct vgpu_call_frame *frame,
                            enum vgpu_kind kind, uint64_t name)
{
    if (!name) {
        say(frame, "0 is no name for a %s", kind_names[kind]);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (look_up(calls, kind, name)) {
        say(frame, "the name 0x%llx for a %s is in use", (unsigned long long)name,
            kind_names[kind]);
        return CUDA_ERROR_INVALID_VALUE;
    }
    CUresult status = make_room(calls, frame, kind);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_calls_entry *owner = kind == VGPU_KIND_FUNCTION ? calls->module : calls->current;
    if (kind != VGPU_KIND_CONTEXT && !owner) {
        say(frame, "a %s needs a context", kind_names[kind]);
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    struct vgpu_calls_entry *e = malloc(sizeof(*e));
    if (!e) {
        say(frame, "the host has no memory for another handle");
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    struct vgpu_calls_entry **bucket =
        &calls->table[kind].bucket[bucket_of(calls, calls->table[kind].size, name)];
    *e = (struct vgpu_calls_entry){
        .next = *bucket, .name = name, .serial = ++calls->serial, .kind = kind};
    LIST_INIT(&e->owned);
    *bucket = e;
    calls->table[kind].count++;
    calls->count++;
    e->owner = kind == VGPU_KIND_CONTEXT ? NULL : owner;
    LIST_INSERT_HEAD(e->owner ? &owner->owned : &calls->contexts, e, link);
    return CUDA_SUCCESS;
}

void vgpu_calls_name(struct vgpu_calls *calls, struct vgpu_call_frame *frame, enum vgpu_kind kind,
                     uint64_t name, void *object)
{
    struct vgpu_calls_entry *e = look_up(calls, kind, name);
    e->object = object;
    frame->made_kind = kind;
    frame->made_name = name;
    frame->made_serial = e->serial;
}

void vgpu_calls_forget(struct vgpu_calls *calls, enum vgpu_kind kind, uint64_t name)
{
    struct vgpu_calls_entry *e = look_up(calls, kind, name);
    if (e)
        drop_tree(calls, e);
}

CUresult vgpu_calls_bad_handle(struct vgpu_call_frame *frame, enum vgpu_kind kind, const char *what)
{
    say(frame, "%s names no %s", what, kind_names[kind]);
    return kind == VGPU_KIND_CONTEXT ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_HANDLE;
}

CUresult vgpu_calls_bad_value(struct vgpu_call_frame *frame, const char *what)
{
    say(frame, "%s is outside its type's range", what);
    return CUDA_ERROR_INVALID_VALUE;
}

void *vgpu_calls_window(struct vgpu_calls *calls, struct vgpu_call_frame *frame, uint64_t offset,
                        uint64_t bytes, bool write)
{
    if (!bytes)
        return NULL;
    if (!calls->window) {
        say(frame, "bytes of the window can be named by a session with a channel only");
        return NULL;
    }
    /* Nobody behind this has to think of an end that is beyond 64 bits. */
    void *at = bytes <= UINT64_MAX - offset
                   ? calls->window->find(calls->window, offset, bytes, write)
                   : NULL;
    if (!at)
        say(frame, "%llu bytes of the window at 0x%llx are not the session's to %s",
            (unsigned long long)bytes, (unsigned long long)offset, write ? "have written" : "read");
    return at;
}

/* ---- Running ---- */

/* Each time: typed requests, fences and the end of other contexts move the driver's own. */
static CUresult use(struct vgpu_calls *calls, struct vgpu_calls_entry *context)
{
    CUresult status = calls->ops->context_use(calls->driver, context->object);
    calls->current = status == CUDA_SUCCESS ? context : NULL;
    return status;
}

/* P29: the context the call is made in. */
static CUresult enter(struct vgpu_calls *calls, uint64_t name, struct vgpu_call_frame *frame)
{
    if (!name && frame->info->context_free)
        return CUDA_SUCCESS;
    struct vgpu_calls_entry *context = look_up(calls, VGPU_KIND_CONTEXT, name);
    if (!context) {
        say(frame, "there is no context of the name 0x%llx", (unsigned long long)name);
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return use(calls, context);
}

/* P28: how much may follow the slots of the answer. */
static CUresult measure_fill(struct vgpu_call_frame *frame)
{
    const struct vgpu_call_info *info = frame->info;
    frame->fill_capacity = info->fill_bytes;
    frame->fill_length = 0;
    if (info->fill_slot < 0)
        return CUDA_SUCCESS;
    if (frame->in[info->fill_slot] > info->fill_bytes) {
        say(frame, "an answer has room for %u bytes", info->fill_bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    frame->fill_capacity = (uint32_t)frame->in[info->fill_slot];
    return CUDA_SUCCESS;
}

/* What every call begins with: bounds, and its context. */
static CUresult prepare(struct vgpu_calls *calls, uint64_t context, struct vgpu_call_frame *frame)
{
    frame->made_kind = VGPU_KIND_NONE;
    frame->text[0] = 0;
    calls->module = NULL;
    calls->driver->text[0] = 0;
    CUresult status = measure_fill(frame);
    return status == CUDA_SUCCESS ? enter(calls, context, frame) : status;
}

static CUresult conclude(struct vgpu_calls *calls, struct vgpu_call_frame *frame, CUresult status)
{
    if (frame->fill_length > frame->fill_capacity)
        frame->fill_length = frame->fill_capacity;
    if (status != CUDA_SUCCESS && !frame->text[0] && calls->driver->text[0])
        say(frame, "%s", calls->driver->text);
    return status;
}

CUresult vgpu_calls_run(struct vgpu_calls *calls, uint64_t context, struct vgpu_call_frame *frame)
{
    CUresult status = prepare(calls, context, frame);
    if (status != CUDA_SUCCESS)
        return status;
    /* Device memory that a call takes or gives back passes here and nowhere else: memory_alloc,
     * memory_alloc_async, memory_free, memory_free_async, array_*, pool_*, module_*. */
    status = vgpu_calls_execute(calls, frame);
    if (calls->current)
        calls->current->busy = frame->info->opcode != VGPU_CALL_CONTEXT_SYNCHRONIZE;
    return conclude(calls, frame, status);
}

bool vgpu_calls_can_begin(const struct vgpu_calls *calls, const struct vgpu_call_info *info)
{
    if (!calls->driver->fences)
        return false;
    switch (info->opcode) {
    case VGPU_CALL_CONTEXT_SYNCHRONIZE:
    case VGPU_CALL_STREAM_SYNCHRONIZE:
    case VGPU_CALL_STREAM_FENCE:
    case VGPU_CALL_EVENT_SYNCHRONIZE:
    case VGPU_CALL_COPY_FROM_DEVICE:
        return true;
    default:
        return false;
    }
}

/* A stream by its name, 0 for the default one; false: there is none. */
static bool find_stream(struct vgpu_calls *calls, struct vgpu_call_frame *frame, uint64_t name,
                        struct vgpu_driver_stream **stream)
{
    *stream = name ? vgpu_calls_find(calls, VGPU_KIND_STREAM, name) : NULL;
    if (name && !*stream)
        (void)vgpu_calls_bad_handle(frame, VGPU_KIND_STREAM, "stream");
    return !name || *stream;
}

static CUresult begin(struct vgpu_calls *calls, struct vgpu_call_frame *frame,
                      struct vgpu_driver_fence **fence)
{
    const struct vgpu_fence_ops *fences = calls->driver->fences;
    const uint64_t *in = frame->in;
    struct vgpu_driver_stream *stream;
    struct vgpu_driver_event *event;
    CUresult status;
    switch (frame->info->opcode) {
    case VGPU_CALL_CONTEXT_SYNCHRONIZE:
        return fences->mark_context(calls->driver, fence);
    case VGPU_CALL_STREAM_SYNCHRONIZE:
    case VGPU_CALL_STREAM_FENCE:
        if (!find_stream(calls, frame, in[0], &stream))
            return CUDA_ERROR_INVALID_HANDLE;
        return fences->mark_stream(calls->driver, stream, fence);
    case VGPU_CALL_EVENT_SYNCHRONIZE:
        event = vgpu_calls_find(calls, VGPU_KIND_EVENT, in[0]);
        if (!event)
            return vgpu_calls_bad_handle(frame, VGPU_KIND_EVENT, "event");
        return fences->mark_event(calls->driver, event, fence);
    case VGPU_CALL_COPY_FROM_DEVICE: /* source, size, stream; size is bounded by fill_capacity */
        if (!find_stream(calls, frame, in[2], &stream))
            return CUDA_ERROR_INVALID_HANDLE;
        frame->fill_length = frame->fill_capacity;
        status = calls->ops->copy_device_to_window(calls->driver, frame->fill, in[0],
                                                   frame->fill_length, stream);
        return status == CUDA_SUCCESS ? fences->mark_stream(calls->driver, stream, fence) : status;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult vgpu_calls_begin(struct vgpu_calls *calls, uint64_t context, struct vgpu_call_frame *frame,
                          struct vgpu_driver_fence **fence)
{
    *fence = NULL;
    CUresult status = prepare(calls, context, frame);
    if (status != CUDA_SUCCESS)
        return status;
    if (calls->current)
        calls->current->busy = true;
    return conclude(calls, frame, begin(calls, frame, fence));
}

CUresult vgpu_calls_mark_all(struct vgpu_calls *calls, struct vgpu_calls_marks *marks)
{
    CUresult first = CUDA_SUCCESS;
    struct vgpu_calls_entry *e;
    marks->count = 0;
    if (!calls->ops || !calls->driver->fences)
        return CUDA_SUCCESS;
    for (e = LIST_FIRST(&calls->contexts); e; e = LIST_NEXT(e, link)) {
        struct vgpu_driver_fence *fence = NULL;
        if (!e->busy || !e->object)
            continue;
        CUresult status = use(calls, e);
        if (status == CUDA_SUCCESS)
            status = calls->driver->fences->mark_context(calls->driver, &fence);
        if (fence)
            marks->fence[marks->count++] = fence;
        if (first == CUDA_SUCCESS)
            first = status;
    }
    return first;
}

CUresult vgpu_calls_query(struct vgpu_calls *calls, struct vgpu_calls_marks *marks, bool wait)
{
    CUresult first = CUDA_SUCCESS;
    if (!marks->count)
        return first;
    const struct vgpu_fence_ops *fences = calls->driver->fences;
    while (marks->count) {
        struct vgpu_driver_fence *fence = marks->fence[marks->count - 1];
        CUresult status =
            wait ? fences->wait(calls->driver, fence) : fences->query(calls->driver, fence);
        if (status == CUDA_ERROR_NOT_READY && !wait)
            return status;
        fences->end(calls->driver, fence);
        marks->count--;
        if (first == CUDA_SUCCESS)
            first = status;
    }
    return first;
}

void vgpu_calls_end_marks(struct vgpu_calls *calls, struct vgpu_calls_marks *marks)
{
    while (marks->count)
        calls->driver->fences->end(calls->driver, marks->fence[--marks->count]);
}

void vgpu_calls_undo(struct vgpu_calls *calls, enum vgpu_kind kind, uint64_t name, uint64_t serial)
{
    struct vgpu_calls_entry *e = look_up(calls, kind, name);
    /* The guest may have ended it and given the name to something that it does want. */
    if (!e || e->serial != serial)
        return;
    void *object = e->object;
    bool usable = !e->owner || kind == VGPU_KIND_FUNCTION || use(calls, e->owner) == CUDA_SUCCESS;
    drop_tree(calls, e);
    if (usable)
        vgpu_calls_end(calls, kind, object);
}

CUresult vgpu_calls_drain(struct vgpu_calls *calls)
{
    CUresult first = CUDA_SUCCESS;
    struct vgpu_calls_entry *e;
    for (e = LIST_FIRST(&calls->contexts); e; e = LIST_NEXT(e, link)) {
        if (!e->busy)
            continue;
        CUresult status = use(calls, e);
        if (status == CUDA_SUCCESS)
            status = calls->ops->context_synchronize(calls->driver);
        e->busy = false;
        if (first == CUDA_SUCCESS)
            first = status;
    }
    return first;
}
