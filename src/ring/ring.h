/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a channel's two rings (docs/ring.md). A guest owns a vgpu_ring_client, a worker a
 * vgpu_ring_server; each keeps its own counters in private memory and believes no others.
 *
 * Knows nothing of opcodes' meaning, doorbells' and interrupts' ways, sessions or threads. A server
 * is called by one thread at a time. Of a client, write and publish may be one thread's and take,
 * sleep and woke another's. No allocation, no system call.
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
    uint64_t rung;     /* units written when the doorbell was wanted last */
    bool broken;       /* submit_head made no sense: nothing can be written any more */
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
 * by the worker before vgpu_ring_client_publish. False, and nothing was written: no room now (there
 * will be, once what was published has been taken: publish before waiting for it), the body is
 * longer than VGPU_RING_RECORD_BYTES_MAX, or c->broken.
 */
bool vgpu_ring_client_write(struct vgpu_ring_client *c, struct vgpu_ring_record *header,
                            const struct vgpu_ring_part *parts, unsigned count);

/* Units that are free now, as the worker shows them; all of them when c->broken (then there is
 * nothing to wait for). */
uint32_t vgpu_ring_client_room(struct vgpu_ring_client *c);

/* Shows the worker everything written. True: it sleeps, ring the doorbell (G10). Once for each
 * time that it sleeps: a ring costs an exit in a VM, and waking up takes as long as ten posts. */
bool vgpu_ring_client_publish(struct vgpu_ring_client *c);

/*
 * The next completion, if there is one (G15): copied to *out. The entry is free again when this
 * returns. What it says is the worker's word: a token may be any number, and `length` is not yet
 * what the record had room for; vgpu_ring_client_answer knows that.
 */
bool vgpu_ring_client_take(struct vgpu_ring_client *c, struct vgpu_ring_completion *out);

/*
 * The answer in a completion that was taken, to a record with this answer range: in `taken`, or in
 * shared memory, where a hostile worker may go on changing it. *length is what may be read there,
 * never more than the record had room for.
 */
const uint8_t *vgpu_ring_client_answer(const struct vgpu_ring_client *c,
                                       const struct vgpu_ring_completion *taken,
                                       uint16_t answer_unit, uint16_t answer_units,
                                       uint32_t *length);

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
    uint64_t taken;        /* where the record that was taken last begins, in units */
    uint64_t shown;        /* of these, published */
    uint64_t tail;         /* submit_tail as last taken and checked */
    uint64_t completed;    /* entries written */
    uint64_t acknowledged; /* complete_head as last taken and checked */
    uint32_t error;        /* enum vgpu_channel_error: not 0: fatal, nothing is taken any more */
};

/* Clears the channel and says that it is active. */
void vgpu_ring_server_init(struct vgpu_ring_server *s, void *channel);

/* Whether there is something to take, as a poller asks. When there is not, what was taken is shown.
 * Fatal channels have nothing. */
bool vgpu_ring_server_pending(struct vgpu_ring_server *s);

/*
 * Copies the next record to `record` (VGPU_RING_RECORD_UNITS_MAX units, aligned to 8), checked as
 * G9 says but for opcode and body, and consumes it. Answers its header, which is in `record`; NULL:
 * none, or the channel is fatal (s->error). The units are free for the guest after
 * vgpu_ring_server_show, or when there is nothing to take.
 */
const struct vgpu_ring_record *vgpu_ring_server_take(struct vgpu_ring_server *s, uint8_t *record);

/* Gives back the units of what was taken. Costs a cache line's way: once for several records. */
void vgpu_ring_server_show(struct vgpu_ring_server *s);

/*
 * Whether `count` more answers have room (G16): ask with 1 + how many are owed already before
 * taking a record. Looks at complete_head only when it must. False is a guest that broke G11 (or a
 * fatal channel): nobody rings when there is room again, so look again after some ms, not at once.
 */
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
 * sleeps, raise the interrupt (G17). Of a fatal channel nothing is written. */
bool vgpu_ring_server_complete(struct vgpu_ring_server *s, const struct vgpu_ring_answer *answer,
                               uint16_t answer_unit, uint16_t answer_units);

/* The hint for this token, to be written by whoever finishes first (G18). */
uint32_t *vgpu_ring_server_hint(struct vgpu_ring_server *s, uint32_t token);

/*
 * Before sleeping until a doorbell (G10); shows what was taken. False: there is a record already,
 * or the channel broke just now (s->error); the wish is withdrawn. A channel that was fatal before
 * brings nothing any more: true, so that nobody spins on it.
 */
bool vgpu_ring_server_sleep(struct vgpu_ring_server *s);
void vgpu_ring_server_woke(struct vgpu_ring_server *s);

/* Ends the channel for this reason, and tells the guest's page. The first reason stays. */
void vgpu_ring_server_fail(struct vgpu_ring_server *s, enum vgpu_channel_error error);

/* ---- Both ---- */

const char *vgpu_channel_error_text(uint32_t error);

#endif
