/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session's channel on the worker's side (docs/ring.md): from records to the executor, and
 * answers back. Everything here is the engine thread's, and nothing waits but where it says so.
 * Calls that wait for the GPU are begun and kept (pending.c), and so are those that wait for the
 * mediator (arena.c); the ring goes on meanwhile.
 *
 * Knows the ring and the shape of records; nothing of threads, of sleeping or of the lease but its
 * gate.
 */
#ifndef VGPU_WORKER_CHANNEL_H
#define VGPU_WORKER_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ring/ring.h"
#include "vgpu/worker.h"
#include "worker/dispatch.h"
#include "worker/execute.h"
#include "worker/extents.h"
#include "worker/lease.h"
#include "worker/reports.h"

/* What a channel is served with. The window stays mapped as long as the worker lives; the
 * descriptors, which do not block, become the channel's. */
struct vgpu_attachment {
    uint8_t *window;
    uint64_t window_bytes;
    uint32_t number; /* of the channel */
    int doorbell, interrupt;
    struct vgpu_dispatcher *dispatcher; /* for whole requests */
};

#define VGPU_CHANNEL_TURN_RECORDS 32u          /* between two looks at everything else */
#define VGPU_CHANNEL_BOUNCES      64u          /* copies to the host that are under way at once */
#define VGPU_CHANNEL_BOUNCE_BYTES 1024u        /* of each; VGPU_CALL_FILL_MAX fits */
#define VGPU_CHANNEL_ASKED_MAX    16u          /* extents that the mediator is asked for at once */
#define VGPU_CHANNEL_CLEAR_BYTES  (512u << 10) /* cleared between two looks at everything else */

/* A record whose answer comes later. */
struct vgpu_pending {
    TAILQ_ENTRY(vgpu_pending) link;
    struct vgpu_ring_record record; /* token 0: nobody wants it any more */
    vgpu_request_name request;
    /* A call that was begun. */
    const struct vgpu_call_info *info;
    struct vgpu_driver_context *object;
    struct vgpu_driver_fence *fence;
    uint64_t begin_ns; /* 0: it is not measured */
    uint32_t bounce;   /* 1 + which holds its bytes; 0: none */
    uint32_t length;
    /* ARENA_ALLOC, ARENA_FREE. */
    enum vgpu_pending_extent { VGPU_EXTENT_CLEAR, VGPU_EXTENT_READY, VGPU_EXTENT_FREE } extent;
    uint64_t seq, offset, bytes, cleared;
    bool registered;
    struct vgpu_calls_marks marks;
};
TAILQ_HEAD(vgpu_pending_list, vgpu_pending);

/* Why the record that was taken last is not done yet. */
enum vgpu_channel_hold {
    VGPU_HOLD_NOTHING, /* it is */
    VGPU_HOLD_GPU,     /* the GPU has to get on first */
    VGPU_HOLD_ROOM,    /* the guest has to take answers first */
    VGPU_HOLD_JOB,     /* its job is in the queue */
};

struct vgpu_channel_server {
    /* What was taken last, and what is made of it: private memory. */
    _Alignas(64) uint8_t record[VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT + VGPU_RING_UNIT];
    _Alignas(64) uint8_t answer[VGPU_CALL_SLOTS_MAX * 8 + VGPU_CALL_FILL_MAX];
    char text[VGPU_ANSWER_DATA_BYTES];

    struct vgpu_sink sink; /* the dispatcher hands it back */
    struct vgpu_executor *executor;
    struct vgpu_lease *lease;
    struct vgpu_reports *reports;
    const _Atomic uint32_t *jobs, *orders; /* how many wait: they come before the next record */

    struct vgpu_attachment at;
    struct vgpu_ring_server ring;
    struct vgpu_job *job; /* HOLD_JOB */
    uint64_t taken_ns;    /* the same: when */
    enum vgpu_channel_hold hold;
    bool told;       /* HOLD_JOB: it was answered before it runs */
    bool attached;   /* from attach to detach */
    bool fatal;      /* the mediator was told */
    bool registered; /* the staging, with the GPU */
    bool traces;     /* calls are logged */

    struct vgpu_pending *pool;
    struct vgpu_pending_list spare;
    struct vgpu_pending_list calls;         /* begun, oldest first */
    struct vgpu_pending_list waiting;       /* ARENA_ALLOC: not asked for yet, */
    struct vgpu_pending_list asked;         /* asked for, */
    struct vgpu_pending_list extents_under; /* to be cleared or registered; ARENA_FREE */
    uint32_t outstanding;                   /* answers owed by all of these */
    uint32_t asked_count, allocs, frees;
    uint64_t last_seq;
    uint8_t *bounce; /* VGPU_CHANNEL_BOUNCES of them */
    uint64_t bounces_used;
    struct vgpu_extents extents;
};

void vgpu_channel_init(struct vgpu_channel_server *c, struct vgpu_executor *executor,
                       struct vgpu_lease *lease, struct vgpu_reports *reports,
                       const _Atomic uint32_t *jobs, const _Atomic uint32_t *orders);
/* Closes descriptors; calls no backend. */
void vgpu_channel_destroy(struct vgpu_channel_server *c);

/* G6: clears the channel and says that it is active, or why not. */
void vgpu_channel_attach(struct vgpu_channel_server *c, const struct vgpu_attachment *at);
/* Lets go of it: waits for what the GPU does, if the lease is held; else it does nothing. */
void vgpu_channel_detach(struct vgpu_channel_server *c);
/* An answer to WANT_EXTENT, which control.c has checked. */
void vgpu_channel_extent(struct vgpu_channel_server *c, uint64_t seq,
                         const struct vgpu_worker_extent *extent);

/* Under the lease: runs records, a few at most; `one`: the first one also when the grace is over.
 * Answers whether it did anything. */
bool vgpu_channel_turn(struct vgpu_channel_server *c, bool one);
/* Gets on with what is pending, the same way; `lease`: is it held? */
bool vgpu_channel_poll(struct vgpu_channel_server *c, bool lease);
/* Waits for all that the GPU does for pending calls, and answers them. Under the lease. */
void vgpu_channel_settle(struct vgpu_channel_server *c);
/* The job of this channel is done. */
void vgpu_channel_job_done(struct vgpu_channel_server *c, struct vgpu_job *job);

/* Something waits that only goes on under the lease. */
bool vgpu_channel_wants_lease(struct vgpu_channel_server *c);
/* Calls that were begun are not answered: they have to be before the lease goes back. */
bool vgpu_channel_in_flight(const struct vgpu_channel_server *c);
/* These, or a record that cannot run before the GPU has got on. */
bool vgpu_channel_awaits_gpu(const struct vgpu_channel_server *c);
/* Whether there may be a record that can go on now. */
bool vgpu_channel_has_record(struct vgpu_channel_server *c);

/* Before sleeping (G10): false when there is something to do already. Afterwards: woke. */
bool vgpu_channel_sleep(struct vgpu_channel_server *c);
void vgpu_channel_woke(struct vgpu_channel_server *c);
/* The doorbell's descriptor; -1: there is nothing to wait for there. */
int vgpu_channel_doorbell(const struct vgpu_channel_server *c);
/* It can not be waited for. */
void vgpu_channel_doorbell_broke(struct vgpu_channel_server *c);

#endif
