/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a channel's two rings (docs/ring.md). A guest owns a vgpu_ring_client, a worker a
 * vgpu_ring_server; each keeps its own counters in private memory and believes no others.
 *
 * Knows nothing of opcodes' meaning, doorbells' and interrupts' ways, sessions or threads: every
 * function of one end is called by one thread at a time (the two directions of one end may be two
 * threads). No allocation, no system call.
 */
#ifndef VGPU_RING_RING_H
#define VGPU_RING_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "vgpu/ring.h"

/* ---- Guest ---- */

struct vgpu_ring_client {
    uint8_t *channel;  /* VGPU_CHANNEL_BYTES of shared memory */
    uint64_t tail;     /* units written; more than was published while a batch is open */
    uint64_t head;     /* submit_head as last seen */
    uint64_t consumed; /* completions */
    bool broken;       /* the other side's counter made no sense */
};

/* A record's parts, put together in the ring. The parts may be any memory of the caller's. */
struct vgpu_ring_part {
    const void *bytes;
    uint32_t length;
};

/* A channel that has just become active. */
void vgpu_ring_client_init(struct vgpu_ring_client *c, void *channel);

/* Units that a record with a body of so many bytes takes; more than VGPU_RING_RECORD_UNITS_MAX: too
 * long. */
uint32_t vgpu_ring_units(uint32_t body_bytes);

/*
 * Writes a record whose body is the parts one after the other; header->length is set here. Not seen
 * by the worker before vgpu_ring_client_publish. False: no room now, nothing was written. The body
 * is at most VGPU_RING_RECORD_BYTES_MAX.
 */
bool vgpu_ring_client_write(struct vgpu_ring_client *c, struct vgpu_ring_record *header,
                            const struct vgpu_ring_part *parts, unsigned count);

/* Shows the worker everything written. True: it sleeps, ring the doorbell (G10). */
bool vgpu_ring_client_publish(struct vgpu_ring_client *c);

/*
 * The next completion, if there is one (G15): copied to *out, of which `length` is bounded by what
 * can be. Its long answer, if any, stands where the record said. The entry is free again when this
 * returns.
 */
bool vgpu_ring_client_take(struct vgpu_ring_client *c, struct vgpu_ring_completion *out);

/* Before sleeping until an interrupt (G17): false when there is a completion already, and the wish
 * is withdrawn. */
bool vgpu_ring_client_sleep(struct vgpu_ring_client *c);
void vgpu_ring_client_woke(struct vgpu_ring_client *c);

/* The worker's page, for one who waits: enum vgpu_channel_state, and why. */
uint32_t vgpu_ring_client_state(const struct vgpu_ring_client *c, uint32_t *error);

/* ---- Worker ---- */

struct vgpu_ring_server {
    uint8_t *channel;
    uint64_t head;         /* units consumed */
    uint64_t shown;        /* of these, published */
    uint64_t tail;         /* submit_tail as last taken and checked */
    uint64_t completed;    /* entries written */
    uint64_t acknowledged; /* complete_head as last taken and checked */
    uint32_t error;        /* enum vgpu_channel_error: not 0: fatal, nothing is taken any more */
};

/* Clears the channel and says that it is active. */
void vgpu_ring_server_init(struct vgpu_ring_server *s, void *channel);

/* Whether there may be a record, as a poller asks. Fatal channels have none. */
bool vgpu_ring_server_pending(struct vgpu_ring_server *s);

/*
 * Copies the next record to `record` (VGPU_RING_RECORD_UNITS_MAX units), checked as G9 says but for
 * opcode and body, and consumes it. Answers its header, which is in `record`; NULL: none, or the
 * channel is fatal (s->error). The units are free for the guest after vgpu_ring_server_show.
 */
const struct vgpu_ring_record *vgpu_ring_server_take(struct vgpu_ring_server *s, uint8_t *record);

/* Gives back the units of what was taken. Costs a cache line's way: once for several records. */
void vgpu_ring_server_show(struct vgpu_ring_server *s);

/* Whether `count` more answers have room (G16). Looks at complete_head only when it must. */
bool vgpu_ring_server_has_room(struct vgpu_ring_server *s, uint32_t count);

/* Where a long answer to this record goes, and how many bytes fit there; NULL: nowhere, an answer
 * is cut to the entry. The header was checked by take. */
uint8_t *vgpu_ring_server_answer_area(struct vgpu_ring_server *s,
                                      const struct vgpu_ring_record *header, uint32_t *bytes);

/* What an answer says. */
struct vgpu_ring_answer {
    uint32_t token, status, error_code;
    uint32_t length;   /* of bytes */
    const void *bytes; /* private memory */
};
/* Writes it; there must be room. `answer_unit` and `answer_units` are the record's. True: the guest
 * sleeps, raise the interrupt (G17). */
bool vgpu_ring_server_complete(struct vgpu_ring_server *s, const struct vgpu_ring_answer *answer,
                               uint16_t answer_unit, uint16_t answer_units);

/* The hint for this token, to be written by whoever finishes first (G18). */
uint32_t *vgpu_ring_server_hint(struct vgpu_ring_server *s, uint32_t token);

/* Before sleeping until a doorbell (G10): false when there is a record already, or the channel
 * broke, and the wish is withdrawn. */
bool vgpu_ring_server_sleep(struct vgpu_ring_server *s);
void vgpu_ring_server_woke(struct vgpu_ring_server *s);

/* Ends the channel for this reason, and tells the guest's page. The first reason stays. */
void vgpu_ring_server_fail(struct vgpu_ring_server *s, enum vgpu_channel_error error);

/* ---- Both ---- */

const char *vgpu_channel_error_text(uint32_t error);

#endif
