/* SPDX-License-Identifier: MIT */
/*
 * What the mediator and a worker say to each other: messages on a SOCK_SEQPACKET pair, one message
 * a packet, made by the mediator before it starts the worker. The prose is docs/worker.md. Native
 * endianness: both ends are one host.
 *
 * The mediator trusts a worker as little as a guest: it bounds every length, drops answers that it
 * did not ask for, and ends a worker that breaks the rules.
 */
#ifndef VGPU_WORKER_H
#define VGPU_WORKER_H

#include <assert.h>
#include <stdint.h>

#include "vgpu/registers.h"
#include "vgpu/ring.h"

struct vgpu_worker_header {
    uint32_t type;   /* enum vgpu_worker_type */
    uint32_t length; /* bytes after this header */
    uint64_t seq;    /* REQUEST, RESPONSE, CANCEL: the request; GRANT, RECALL, RETURN: the lease;
                        WANT_EXTENT, EXTENT: the worker's number for the question; else 0 */
};
static_assert(sizeof(struct vgpu_worker_header) == 16, "wire");

enum vgpu_worker_type {
    /* mediator -> worker */
    VGPU_WORKER_REQUEST = 1,
    VGPU_WORKER_CANCEL = 2, /* nobody waits for this request any more; undo what it made */
    VGPU_WORKER_GRANT = 3,  /* the lease `seq` is yours */
    VGPU_WORKER_RECALL = 4, /* give the lease `seq` back: see struct vgpu_worker_recall */
    VGPU_WORKER_ATTACH = 5, /* serve this channel: struct vgpu_worker_attach, three descriptors */
    VGPU_WORKER_DETACH = 6, /* let go of it: struct vgpu_worker_channel */
    VGPU_WORKER_EXTENT = 7, /* the answer to WANT_EXTENT `seq`: struct vgpu_worker_extent */
    /* worker -> mediator */
    VGPU_WORKER_READY = 16, /* once, when the worker takes requests */
    VGPU_WORKER_RESPONSE = 17,
    VGPU_WORKER_WANT = 18,          /* a lease, please; at most one WANT until GRANT */
    VGPU_WORKER_RETURN = 19,        /* nothing of lease `seq` is in flight any more */
    VGPU_WORKER_CHANNEL = 20,       /* what became of the channel: struct vgpu_worker_channel */
    VGPU_WORKER_WANT_EXTENT = 21,   /* an extent of `bytes`, please: struct vgpu_worker_extent */
    VGPU_WORKER_RETURN_EXTENT = 22, /* nothing uses it any more: struct vgpu_worker_extent */
};

/* REQUEST: the request follows. */
struct vgpu_worker_request {
    uint32_t request_id; /* the guest's name for it: a repeated one asks for a parked answer */
    uint32_t length;     /* bytes */
};
static_assert(sizeof(struct vgpu_worker_request) == 8, "wire");

/* RESPONSE: the response follows. */
struct vgpu_worker_response {
    uint32_t error_code; /* enum vgpu_error */
    uint32_t length;     /* bytes */
};
static_assert(sizeof(struct vgpu_worker_response) == 8, "wire");

/*
 * RECALL: somebody else waits. The worker returns the lease when it has had nothing to do for
 * linger_us, and
 * starts nothing new once grace_us have passed; what is in flight then is finished first.
 */
struct vgpu_worker_recall {
    uint32_t grace_us;
    uint32_t linger_us; /* the lease outlasts gaps in the work of up to this long */
};
static_assert(sizeof(struct vgpu_worker_recall) == 8, "wire");

/*
 * ATTACH. With it come the window's memory file, the channel's doorbell and its interrupt, in this
 * order. A worker has at most one channel at a time, and one window for its life: the memory file
 * of a later ATTACH is the same.
 */
struct vgpu_worker_attach {
    uint64_t window_bytes;
    uint32_t channel;  /* begins at channel * VGPU_CHANNEL_BYTES */
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_worker_attach) == 16, "wire");

/* DETACH: state and error are 0. CHANNEL: ACTIVE answers ATTACH, FATAL may come at any time after
 * it (instead, too), FREE answers DETACH: nothing of the worker or its GPU touches the channel any
 * more. */
struct vgpu_worker_channel {
    uint32_t channel;
    uint32_t state;    /* enum vgpu_channel_state */
    uint32_t error;    /* enum vgpu_channel_error */
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_worker_channel) == 16, "wire");

/* WANT_EXTENT: offset 0, bytes a multiple of VGPU_ARENA_GRANULE. EXTENT: bytes 0 when there is no
 * room; `dirty` when somebody may have written there before. RETURN_EXTENT: as granted. */
struct vgpu_worker_extent {
    uint64_t offset, bytes;
    uint64_t free_bytes; /* EXTENT: what the arena has left, for the text of a refusal; else 0 */
    uint32_t dirty;
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_worker_extent) == 32, "wire");
#define VGPU_WORKER_EXTENTS_MAX 1024u /* of a worker */

#define VGPU_WORKER_MAX_MESSAGE                                                                    \
    (sizeof(struct vgpu_worker_header) + sizeof(struct vgpu_worker_request) + VGPU_MAILBOX_BYTES)

#endif
