/* SPDX-License-Identifier: MIT */
/*
 * What channel.c (sending, opening) and channel_wait.c (answers, waiting, the end) share.
 *
 * Who owns what:
 * - `lock` serializes those who send: the ring's tail, the counters, taking from the two bitmaps.
 * - `drain_lock` serializes those who take completions. Only tried for, never waited for, but by a
 *   thread that is about to sleep, or was.
 * - A slot's ticket is whoever's takes it out with a compare-and-exchange: the drainer to hand the
 *   answer over, or the waiter that gives up. So a ticket is never touched after it was given back.
 */
#ifndef VGPU_GUEST_CHANNEL_PARTS_H
#define VGPU_GUEST_CHANNEL_PARTS_H

#include <stdalign.h>
#include <stdatomic.h>

#include "guest/channel.h"
#include "guest/staging.h"
#include "ring/ring.h"

#define VGPU_CHANNEL_SLOTS      VGPU_RING_COMPLETIONS /* answers outstanding at once (G11) */
#define VGPU_CHANNEL_SLOT_WORDS (VGPU_CHANNEL_SLOTS / 64u)
#define VGPU_CHANNEL_UNIT_WORDS (VGPU_RING_ANSWER_UNITS / 64u)

/* Why a channel is dead. */
enum vgpu_channel_death {
    VGPU_DEATH_NONE = 0,
    VGPU_DEATH_GENERATION, /* reset, or the mediator restarted */
    VGPU_DEATH_FATAL,      /* death_error says which enum vgpu_channel_error */
    VGPU_DEATH_FREE,       /* it is not active any more, and not by us */
    VGPU_DEATH_COUNTER,    /* submit_head made no sense */
    VGPU_DEATH_TRANSPORT,  /* its state cannot be read */
};

struct vgpu_channel_slot {
    _Atomic(struct vgpu_ticket *) ticket; /* NULL: nobody waits */
    _Atomic uint32_t token;               /* 0: no answer is outstanding */
    uint16_t answer_unit, answer_units;   /* written before token */
};

/* Padded on purpose: what different threads write is in different cache lines. */
struct vgpu_channel { // NOLINT(clang-analyzer-optin.performance.Padding)
    struct vgpu *gpu;
    struct vgpu_channel_port port;
    uint32_t generation;          /* in which it was opened */
    const uint32_t *ours;         /* 1; a forked child sees 0 there, or another pid */
    bool ours_wiped;              /* the kernel clears it in children: no need to ask for the pid */
    uint64_t spin_ns;             /* a lone waiter's; 0 with one processor */
    _Atomic uint32_t death;       /* enum vgpu_channel_death */
    _Atomic uint32_t death_error; /* written before death */
    struct vgpu_staging_pair *staging;

    alignas(64) _Atomic uint32_t lock; /* 0 free, 1 taken, 2 taken and somebody sleeps */
    struct vgpu_ring_client submit;
    uint32_t generations[VGPU_CHANNEL_SLOTS]; /* upper bits of each slot's last token */
    uint64_t posts, calls, doorbells, full_waits;

    alignas(64) _Atomic uint64_t free_slots[VGPU_CHANNEL_SLOT_WORDS];
    _Atomic uint64_t free_units[VGPU_CHANNEL_UNIT_WORDS];

    alignas(64) _Atomic uint32_t drain_lock;
    struct vgpu_ring_client drain;
    uint64_t strange; /* completions that answer nothing */

    alignas(64) _Atomic uint32_t waiters; /* inside finish */
    _Atomic uint32_t leader;              /* 1: one thread sleeps for all */
    _Atomic uint32_t followers;           /* sleep on their slot's word */
    _Atomic uint64_t sleeps;
    _Atomic uint64_t looked_ns; /* when the state was last asked for */
    _Atomic uint32_t idle_looks;

    alignas(64) struct vgpu_channel_slot slot[VGPU_CHANNEL_SLOTS];
    /* Not in the slot, so that the leader finds a sleeper quickly, and not in the ticket, which
     * may be gone when it is woken. 1: its thread sleeps on this word. */
    _Atomic uint32_t asleep[VGPU_CHANNEL_SLOTS];
};

static inline uint32_t vgpu_slot_of(uint32_t token)
{
    return token % VGPU_CHANNEL_SLOTS;
}

/* A channel over a port that is active already. */
int vgpu_channel_attach(struct vgpu *gpu, const struct vgpu_channel_port *port, uint32_t generation,
                        struct vgpu_channel **result);
struct vgpu_staging_pair *vgpu_channel_staging(struct vgpu_channel *channel);

/* 0, or -ECHILD / -EINVAL / -ESTALE with a text. */
int vgpu_channel_check(const struct vgpu_channel *channel);
/* -ESTALE with the reason as text. */
int vgpu_channel_fail_dead(const struct vgpu_channel *channel);
/* The channel is dead from now on, and everybody who waits is woken. The first reason stays. */
void vgpu_channel_kill(struct vgpu_channel *channel, enum vgpu_channel_death death, uint32_t error);
/* Takes what completions there are, unless another thread is at it. */
void vgpu_channel_drain(struct vgpu_channel *channel);
/* Looks whether the channel still lives, not
 * more often than once in so long, and of many threads one. */
void vgpu_channel_look(struct vgpu_channel *channel, uint64_t interval_ns);

/* Sleeping and waking on a word in private memory. */
void vgpu_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns);
void vgpu_futex_wake(_Atomic uint32_t *word, int count);

/* For one who waits for room: spins, then sleeps growing times, drains and looks meanwhile. */
struct vgpu_channel_pause {
    uint64_t start_ns;
    uint32_t sleep_ns;
};
void vgpu_channel_wait_room(struct vgpu_channel *channel, struct vgpu_channel_pause *pause);

#endif
