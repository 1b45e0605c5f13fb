/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel with a worker's end in a thread of this process: the real ring server, whose answers
 * the test decides. ThreadSanitizer sees both sides.
 */
#ifndef VGPU_TEST_CHANNEL_RIG_H
#define VGPU_TEST_CHANNEL_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/channel_parts.h"
#include "guest/guest.h"

#define RIG_WINDOW_BYTES ((uint64_t)20 << 20)
#define RIG_HELD         2048

struct rig;
/* What to do with a record, in the server's thread: answer it now with rig_answer, keep it with
 * rig_hold, or neither. `record` is the whole of it. */
typedef void (*rig_handler)(struct rig *rig, const struct vgpu_ring_record *record,
                            const uint8_t *body);

struct rig {
    uint8_t *window;
    int bell, interrupt; /* eventfds */
    struct vgpu gpu;
    struct vgpu_transport transport;
    struct vgpu_channel *channel;
    struct vgpu_ring_server server; /* the server's thread's */
    pthread_t thread;
    rig_handler handler;
    _Atomic bool stop, paused; /* paused: takes no records */
    _Atomic bool sleepy;       /* sleeps on its doorbell when there is nothing */
    _Atomic uint32_t state, error, generation;
    _Atomic uint64_t taken, looks, bells, released;
    _Atomic uint64_t wrong; /* what the handler found */
    uint64_t next[64];      /* the handler's */
    struct vgpu_ring_record held[RIG_HELD];
    unsigned held_count;
    _Atomic unsigned held_shown;
    _Atomic unsigned let_go; /* how many held ones are to be answered; last ones first */
    bool lies;               /* strange completions before each answer */
    uint32_t random;
};

/* With or without an interrupt to sleep on. */
struct rig *rig_start(rig_handler handler, bool interrupt);
void rig_stop(struct rig *rig);

/* In the handler. */
void rig_answer(struct rig *rig, const struct vgpu_ring_record *record, uint32_t status,
                const void *bytes, uint32_t length);
void rig_hold(struct rig *rig, const struct vgpu_ring_record *record);
/* In the test: the held ones are answered (status 0, the token's bytes), the last one first. */
void rig_let_go(struct rig *rig);
/* Waits until the server has so many; fails the test after 20 s. */
void rig_wait(_Atomic uint64_t *counter, uint64_t value);
void rig_wait_held(struct rig *rig, unsigned count);
/* Answers with what follows the first eight bytes of the body. */
void rig_echo(struct rig *rig, const struct vgpu_ring_record *record, const uint8_t *body);

#endif
