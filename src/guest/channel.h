/* SPDX-License-Identifier: MIT */
/*
 * A session's channel on the guest's side (docs/ring.md): records in, answers out, for any number
 * of threads. Made over a port of a transport. Knows the ring and its waits; nothing of what a call
 * means, and nothing of registers or sockets.
 *
 * Every function may be called by any thread, but close: nobody may be inside then. Negative
 * results are -errno with vgpu_last_error_text set: -ESTALE, the channel, its worker or the
 * mediator is gone and the session with it; -ECHILD, a forked child; -EINVAL.
 */
#ifndef VGPU_GUEST_CHANNEL_H
#define VGPU_GUEST_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/transport.h"
#include "ring/ring.h"

struct vgpu;
struct vgpu_channel;

/*
 * Claims a channel, binds it to the session (SESSION_CHANNEL by the mailbox) and enables it. 0, or
 * -EOPNOTSUPP / -EBUSY when the session has to do with the mailbox, or another error.
 */
int vgpu_channel_open(struct vgpu *gpu, uint64_t session, struct vgpu_channel **channel);
/* Gives the channel back. */
void vgpu_channel_close(struct vgpu_channel *channel, bool forked);
/* Gives it back when the process exits, after its session has ended. Frees nothing: other threads
 * may still be inside, and find it dead. */
void vgpu_channel_farewell(struct vgpu_channel *channel);

/* A record to be sent: `parts` one after the other are its body. */
struct vgpu_channel_record {
    uint16_t opcode;
    uint16_t flags;
    const struct vgpu_ring_part *parts;
    unsigned count;
};

/* Sends what wants no answer. Waits while the ring is full. */
int vgpu_channel_post(struct vgpu_channel *channel, const struct vgpu_channel_record *record);

/* An answer that is waited for. The caller's memory, untouched by others once it is done. */
struct vgpu_ticket {
    void *bytes;         /* in: where the answer's bytes go, up to capacity of them */
    uint32_t capacity;   /* at most VGPU_CHANNEL_ANSWERS_BYTES / 4 */
    uint32_t length;     /* out: how many there are; cut to capacity */
    uint32_t status;     /* out: CUresult */
    uint32_t error_code; /* out: enum vgpu_error */
    /* channel.c's */
    uint32_t token;
    _Atomic uint32_t done;
};

/* Sends, and returns at once: the answer is to be had with finish. Waits while the ring is full. */
int vgpu_channel_start(struct vgpu_channel *channel, const struct vgpu_channel_record *record,
                       struct vgpu_ticket *ticket);
/* Whether it has come; never waits. A channel that is gone counts as come: finish says so. */
bool vgpu_channel_done(struct vgpu_channel *channel, struct vgpu_ticket *ticket);
/* Waits for it, as long as the channel lives. After 0 or an error the ticket is the caller's again.
 */
int vgpu_channel_finish(struct vgpu_channel *channel, struct vgpu_ticket *ticket);
/*
 * The same up to a time (vgpu_now_ns; 0: no limit). -ETIMEDOUT: the ticket is still the channel's:
 * wait once more, or abandon it.
 */
int vgpu_channel_finish_until(struct vgpu_channel *channel, struct vgpu_ticket *ticket,
                              uint64_t deadline_ns);
/* Nobody waits for the answer any more: the ticket is the caller's again when this returns. What
 * was asked for is done all the same. */
void vgpu_channel_abandon(struct vgpu_channel *channel, struct vgpu_ticket *ticket);
/* Both. */
int vgpu_channel_call(struct vgpu_channel *channel, const struct vgpu_channel_record *record,
                      struct vgpu_ticket *ticket);

/* Window memory by its offset, as records name it. */
uint8_t *vgpu_channel_window(struct vgpu_channel *channel);
/* Where this channel's upload and download staging begin. Who uses which part of it is the caller's
 * affair (guest/staging.h). */
uint64_t vgpu_channel_upload(const struct vgpu_channel *channel);
uint64_t vgpu_channel_download(const struct vgpu_channel *channel);

/* Which one it is, and of how many; for messages. */
const struct vgpu_channel_port *vgpu_channel_port(const struct vgpu_channel *channel);

/* ARENA_ALLOC and ARENA_FREE: a positive result is a CUresult. */
int vgpu_channel_arena_alloc(struct vgpu_channel *channel, uint64_t bytes, uint64_t *offset);
int vgpu_channel_arena_free(struct vgpu_channel *channel, uint64_t offset);

/* Counters since it was opened, for vgpu_read_statistics and tests. */
struct vgpu_channel_statistics {
    uint64_t posts, calls, doorbells, full_waits, sleeps;
};
void vgpu_channel_read_statistics(struct vgpu_channel *channel,
                                  struct vgpu_channel_statistics *statistics);

#endif
