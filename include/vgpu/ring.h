/* SPDX-License-Identifier: MIT */
/*
 * A channel: rings and staging of one guest process in the memory that guest, hypervisor and worker
 * share (the window). The prose is docs/ring.md; where the two differ, that page is right.
 * Little-endian. No code here: src/ring has it for both sides.
 *
 * Every page is written by one side only. What the other side wrote is copied once, checked, then
 * used; a side trusts only its own counters.
 */
#ifndef VGPU_RING_H
#define VGPU_RING_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define VGPU_CHANNEL_BYTES                                                                         \
    0x80000u /* CHANNEL_SIZE: of each channel; channel n begins at n times that */
#define VGPU_CHANNELS_MAX         64u
#define VGPU_CHANNELS_DEFAULT     16u
#define VGPU_WINDOW_BYTES_DEFAULT ((uint64_t)256 << 20)
#define VGPU_WINDOW_BYTES_MIN     ((uint64_t)1 << 20)
#define VGPU_WINDOW_BYTES_MAX     ((uint64_t)1 << 40)
#define VGPU_ARENA_GRANULE        0x10000u /* extents of the arena begin at and have multiples of it */

/* Where things are in a channel. */
#define VGPU_CHANNEL_GUEST_PAGE  0x00000u /* struct vgpu_ring_guest; written by the guest */
#define VGPU_CHANNEL_WORKER_PAGE 0x01000u /* struct vgpu_ring_worker; written by the worker */
#define VGPU_CHANNEL_HINTS       0x02000u /* u32[VGPU_RING_HINTS]; written by worker and GPU */
#define VGPU_CHANNEL_COMPLETIONS                                                                   \
    0x04000u /* struct vgpu_ring_completion[]; written by the worker                               \
              */
#define VGPU_CHANNEL_ANSWERS        0x14000u /* long answers; written by the worker */
#define VGPU_CHANNEL_ANSWERS_BYTES  0x0C000u
#define VGPU_CHANNEL_SUBMISSIONS    0x20000u /* the submission ring; written by the guest */
#define VGPU_CHANNEL_UPLOAD         0x40000u /* staging to the device; written by the guest */
#define VGPU_CHANNEL_UPLOAD_BYTES   0x20000u
#define VGPU_CHANNEL_DOWNLOAD       0x60000u /* staging from the device; written by worker and GPU */
#define VGPU_CHANNEL_DOWNLOAD_BYTES 0x20000u

#define VGPU_RING_UNIT             64u
#define VGPU_RING_UNITS            2048u /* of the submission ring, a power of two */
#define VGPU_RING_RECORD_UNITS_MAX 256u  /* of one record: 16 KiB */
#define VGPU_RING_COMPLETIONS      1024u /* entries, a power of two */
#define VGPU_RING_HINTS            1024u
#define VGPU_RING_ANSWER_UNITS     (VGPU_CHANNEL_ANSWERS_BYTES / VGPU_RING_UNIT)

/* Counters run freely from 0 and never wrap in practice (2^64); each has a cache line of its own.
 */
struct vgpu_ring_guest {
    uint64_t submit_tail; /* units written */
    uint64_t reserved0[7];
    uint64_t complete_head; /* completions consumed */
    uint64_t reserved1[7];
    uint32_t interrupt_wanted; /* 1: the guest sleeps, or is about to */
    uint32_t reserved2[15];
};
static_assert(sizeof(struct vgpu_ring_guest) == 192, "shared memory");

struct vgpu_ring_worker {
    uint64_t submit_head; /* units consumed */
    uint64_t reserved0[7];
    uint32_t doorbell_wanted; /* 1: the worker sleeps, or is about to */
    uint32_t state;           /* enum vgpu_channel_state, for a guest that waits: CTRL decides */
    uint32_t error;           /* enum vgpu_channel_error */
    uint32_t reserved1[13];
};
static_assert(sizeof(struct vgpu_ring_worker) == 128, "shared memory");

/* A record: this header, then `length` bytes, then nothing up to the next unit. It may wrap. */
struct vgpu_ring_record {
    uint16_t opcode;       /* enum vgpu_ring_opcode */
    uint16_t flags;        /* VGPU_RING_FLAG_* */
    uint32_t length;       /* bytes after this header */
    uint32_t token;        /* 0: no completion is wanted; else the guest's name for it */
    uint16_t answer_unit;  /* where a long answer goes: a unit of the answer area, */
    uint16_t answer_units; /* and how many; 0: a long answer is cut down to what fits the entry */
};
static_assert(sizeof(struct vgpu_ring_record) == 16, "shared memory");

#define VGPU_RING_RECORD_BYTES_MAX                                                                 \
    (VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT - (uint32_t)sizeof(struct vgpu_ring_record))

#define VGPU_RING_FLAG_HINT   (1u << 0) /* hints[token % HINTS] = token is welcome (G18) */
#define VGPU_RING_FLAGS_KNOWN VGPU_RING_FLAG_HINT

enum vgpu_ring_opcode {
    VGPU_RING_NOP = 0x0000,         /* nothing follows; with a token it is answered */
    VGPU_RING_CALL_FIRST = 0x1000,  /* to 0x1FFF: a CUDA driver call: u64 context, slots, bytes */
    VGPU_RING_REQUEST = 0x2002,     /* a whole request of docs/protocol.md; wants a token */
    VGPU_RING_STAGE_COPY = 0x2012,  /* struct vgpu_ring_stage_copy */
    VGPU_RING_ARENA_ALLOC = 0x2030, /* u64 bytes; wants a token; answers u64 offset */
    VGPU_RING_ARENA_FREE = 0x2031,  /* u64 offset; wants a token */
};

/* STAGE_COPY: a piece of a stage (P26) from the window. */
struct vgpu_ring_stage_copy {
    uint32_t stage, total_bytes, offset, bytes;
    uint64_t window_offset;
};
static_assert(sizeof(struct vgpu_ring_stage_copy) == 24, "shared memory");

/* One completion. An answer of up to VGPU_RING_INLINE_BYTES is in the entry, else in the answer
 * area. */
#define VGPU_RING_INLINE_BYTES 40u
struct vgpu_ring_completion {
    uint32_t token;
    uint32_t status;     /* CUresult */
    uint32_t error_code; /* enum vgpu_error: not 0: the record could not be understood or carried */
    uint32_t length;     /* bytes of the answer */
    uint8_t bytes[VGPU_RING_INLINE_BYTES];
    uint64_t sequence; /* 1 + how many completions came before: written last */
};
static_assert(sizeof(struct vgpu_ring_completion) == VGPU_RING_UNIT, "shared memory");

/* CHANNEL_CTRL, as it reads. */
enum vgpu_channel_state {
    VGPU_CHANNEL_FREE = 0,
    VGPU_CHANNEL_ACTIVE = 1,
    VGPU_CHANNEL_FATAL = 2,
};

/* CHANNEL_ERROR. X(value, name, text) */
#define VGPU_CHANNEL_ERROR_LIST(X)                                                                 \
    X(0, VGPU_CHANNEL_OK, "no error")                                                              \
    X(1, VGPU_CHANNEL_BAD_TAIL, "submit_tail went back, or further than the ring is long")         \
    X(2, VGPU_CHANNEL_BAD_RECORD, "a record is malformed or was not written whole")                \
    X(3, VGPU_CHANNEL_BAD_HEAD, "complete_head went back, or past what was written")               \
    X(4, VGPU_CHANNEL_NOT_BOUND, "no session was bound to the channel before it was enabled")      \
    X(5, VGPU_CHANNEL_SESSION_LOST, "the session ended, or the process that served it did")        \
    X(6, VGPU_CHANNEL_HOST, "the host could not map or serve it")

enum vgpu_channel_error {
#define VGPU_CHANNEL_ERROR_ENUM(value, name, text) name = value,
    VGPU_CHANNEL_ERROR_LIST(VGPU_CHANNEL_ERROR_ENUM)
#undef VGPU_CHANNEL_ERROR_ENUM
};

static_assert(VGPU_CHANNEL_COMPLETIONS + VGPU_RING_COMPLETIONS * VGPU_RING_UNIT ==
                  VGPU_CHANNEL_ANSWERS,
              "neighbours");
static_assert(VGPU_CHANNEL_ANSWERS + VGPU_CHANNEL_ANSWERS_BYTES == VGPU_CHANNEL_SUBMISSIONS,
              "neighbours");
static_assert(VGPU_CHANNEL_SUBMISSIONS + VGPU_RING_UNITS * VGPU_RING_UNIT == VGPU_CHANNEL_UPLOAD,
              "neighbours");
static_assert(VGPU_CHANNEL_DOWNLOAD + VGPU_CHANNEL_DOWNLOAD_BYTES == VGPU_CHANNEL_BYTES, "the end");

#endif
