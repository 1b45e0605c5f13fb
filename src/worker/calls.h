/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CUDA driver calls on the worker's side of the driver: the session's names for the driver's
 * objects (P29), and one call from its slots to the driver and back (P28 to P32). What each call
 * does with its slots is generated (vgpu_worker_calls.h). It knows nothing of queues, answers or
 * transports.
 *
 * Everything here is the engine thread's alone.
 */
#ifndef VGPU_WORKER_CALLS_TABLE_H
#define VGPU_WORKER_CALLS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>

#include "backend/driver.h"

#define VGPU_CALLS_NAMES_MAX    131072u /* of all kinds (P29) */
#define VGPU_CALLS_CONTEXTS_MAX 8u      /* of these, contexts */

LIST_HEAD(vgpu_calls_list, vgpu_calls_entry);

/* One name. It ends with its owner: a function with its module, everything else with its context.
 */
struct vgpu_calls_entry {
    struct vgpu_calls_entry *next; /* of the same bucket */
    uint64_t name;
    uint64_t serial; /* never used twice, unlike a name */
    void *object;    /* NULL: reserved, its call runs */
    enum vgpu_kind kind;
    bool busy;                         /* a context: something may be in flight */
    struct vgpu_calls_entry *owner;    /* NULL: a context */
    LIST_ENTRY(vgpu_calls_entry) link; /* in owner->owned; contexts: in vgpu_calls.contexts */
    struct vgpu_calls_list owned;
};

/* Which bytes of the window a session may name (docs/ring.md, G13). Made by whoever serves its
 * channel. */
struct vgpu_window_view {
    /* NULL: not these. `write`: the GPU is to write there. */
    void *(*find)(struct vgpu_window_view *view, uint64_t offset, uint64_t bytes, bool write);
};

struct vgpu_calls {
    const struct vgpu_driver_ops
        *ops; /* NULL: the backend has no driver, and nothing below is used */
    struct vgpu_driver *driver;

    struct vgpu_calls_table {
        struct vgpu_calls_entry **bucket; /* size of them, a power of two; NULL: 0 */
        uint32_t size, count;
    } table[VGPU_KIND_COUNT];
    uint32_t count; /* names of all kinds */
    struct vgpu_calls_list contexts;
    uint64_t seed[2]; /* of the hash: names are the guest's choice, who shares a bucket is not */
    uint64_t serial;

    struct vgpu_calls_entry *current; /* the context that the driver uses; NULL: none, or gone */
    struct vgpu_calls_entry *module;  /* the last one looked up in this call */
    struct vgpu_window_view *window;  /* NULL: there is none */
};

/* One call, as the generated code sees it. */
struct vgpu_call_frame {
    const struct vgpu_call_info *info;
    const uint64_t *in;  /* info->in_count slots, host order */
    const void *payload; /* bytes; or a text, and then a NUL is behind it */
    size_t payload_length;

    uint64_t *out; /* info->out_count slots, host order; set on success */
    void *fill;
    uint32_t fill_capacity;
    uint32_t fill_length; /* 0 before the call */

    char *text; /* text_size bytes, at least 1: what a person should read about a failure */
    size_t text_size;

    /* The new name, for whoever has to take it back (P32); NONE: there is none. */
    enum vgpu_kind made_kind;
    uint64_t made_name, made_serial;
};

/* driver NULL: there are no calls. */
void vgpu_calls_init(struct vgpu_calls *calls, struct vgpu_driver *driver);
/* Forgets all names. The objects are the driver's, and end with it. */
void vgpu_calls_destroy(struct vgpu_calls *calls);

/*
 * Runs one call in the context of that name (0: none, for those that need none). Answers a CUresult
 * and fills the frame's outputs; when it is not 0, the text. fill_capacity is set here.
 */
CUresult vgpu_calls_run(struct vgpu_calls *calls, uint64_t context, struct vgpu_call_frame *frame);

/* Whether the call waits for the GPU and can be begun instead. */
bool vgpu_calls_can_begin(const struct vgpu_calls *calls, const struct vgpu_call_info *info);
/*
 * The same as vgpu_calls_run for such a call, but for waiting: what it waits for is behind *fence,
 * which is the caller's to end; NULL: it is done. The fence belongs to the context that is current
 * then. Bytes that the call answers are there, in frame->fill, once the fence has passed; until
 * then that memory is the GPU's.
 */
CUresult vgpu_calls_begin(struct vgpu_calls *calls, uint64_t context, struct vgpu_call_frame *frame,
                          struct vgpu_driver_fence **fence);

/* All that was begun up to now in any context. */
struct vgpu_calls_marks {
    struct vgpu_driver_fence *fence[VGPU_CALLS_CONTEXTS_MAX];
    unsigned count;
};
/* Sets marks behind it: none where it is done. Answers the first error; the marks count then, too.
 */
CUresult vgpu_calls_mark_all(struct vgpu_calls *calls, struct vgpu_calls_marks *marks);
/* Whether they have passed: NOT_READY, or the first error of those that have since the last time.
 * `wait`: waits until they have. */
CUresult vgpu_calls_query(struct vgpu_calls *calls, struct vgpu_calls_marks *marks, bool wait);
/* Forgets them, passed or not. */
void vgpu_calls_end_marks(struct vgpu_calls *calls, struct vgpu_calls_marks *marks);

/* Ends what a call made, unless the guest did already, and has its name free again. */
void vgpu_calls_undo(struct vgpu_calls *calls, enum vgpu_kind kind, uint64_t name, uint64_t serial);

/* Waits for every context with something in flight; answers the first error. */
CUresult vgpu_calls_drain(struct vgpu_calls *calls);

/* ---- For the generated code ---- */

/* NULL: no such name of that kind. */
void *vgpu_calls_find(struct vgpu_calls *calls, enum vgpu_kind kind, uint64_t name);
/* Takes a name for what is about to be made. */
CUresult vgpu_calls_reserve(struct vgpu_calls *calls, struct vgpu_call_frame *frame,
                            enum vgpu_kind kind, uint64_t name);
/* Gives a reserved name its object. */
void vgpu_calls_name(struct vgpu_calls *calls, struct vgpu_call_frame *frame, enum vgpu_kind kind,
                     uint64_t name, void *object);
/* Frees a name, and the names of all that ends with it. */
void vgpu_calls_forget(struct vgpu_calls *calls, enum vgpu_kind kind, uint64_t name);
CUresult vgpu_calls_bad_handle(struct vgpu_call_frame *frame, enum vgpu_kind kind,
                               const char *what);
CUresult vgpu_calls_bad_value(struct vgpu_call_frame *frame, const char *what);
/*
 * The `bytes` bytes of the window from `offset` on, for a call that reads them or, with `write`,
 * has them written (docs/ring.md, G13). NULL when they are 0, whatever the offset; else: they are
 * not the session's to name, and the frame's text says so.
 */
void *vgpu_calls_window(struct vgpu_calls *calls, struct vgpu_call_frame *frame, uint64_t offset,
                        uint64_t bytes, bool write);
/* Generated: ends an object by its kind's own call. */
void vgpu_calls_end(struct vgpu_calls *calls, enum vgpu_kind kind, void *object);

static inline uint64_t vgpu_slot_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float vgpu_float_of_slot(uint64_t slot)
{
    uint32_t bits = (uint32_t)slot;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
