/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mailbox transport: requests that come one by one with a sequence number and a REQUEST_ID, and
 * must be answered within 100 ms. What takes longer is answered "not yet" and parked until it is
 * asked for again with the same bytes (P11, P12); what nobody wants any more is undone (P13, W3).
 *
 * It knows nothing of what requests say: it compares bytes, and keeps undo records unread. It has
 * no socket and no clock of its own. The control thread's.
 */
#ifndef VGPU_WORKER_MAILBOX_H
#define VGPU_WORKER_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "worker/dispatch.h"

#define VGPU_MAILBOX_WAIT_NS    80000000ull /* then 600; leaves 20 of the 100 ms for the way back */
#define VGPU_MAILBOX_PARKED_MAX 64u
#define VGPU_MAILBOX_KEEP_NS    60000000000ull /* a parked answer that nobody fetches */
#define VGPU_MAILBOX_HISTORY    16u            /* answered requests that can still be undone (W3) */

struct vgpu_mailbox_config {
    struct vgpu_dispatcher *dispatcher;
    /* Sends one response; length 0 to VGPU_MAILBOX_BYTES. */
    void (*respond)(void *context, uint64_t seq, uint32_t error_code, const uint8_t *bytes,
                    uint32_t length);
    uint64_t (*now_ns)(void *context);
    void *context;
};

struct vgpu_mailbox_entry;

struct vgpu_mailbox {
    struct vgpu_sink sink; /* first: the dispatcher hands it back */
    struct vgpu_mailbox_config config;
    TAILQ_HEAD(vgpu_mailbox_list, vgpu_mailbox_entry) entries;
    unsigned parked;
    struct vgpu_mailbox_answered {
        bool used;
        uint64_t seq;
        struct vgpu_undo undo;
    } history[VGPU_MAILBOX_HISTORY];
    unsigned next; /* in history */
};

void vgpu_mailbox_init(struct vgpu_mailbox *m, const struct vgpu_mailbox_config *config);
/* Forgets everything without undoing it. After the engine is gone. */
void vgpu_mailbox_destroy(struct vgpu_mailbox *m);

/* A request of at most VGPU_MAILBOX_BYTES. Responds at once, or later from tick or collect. */
void vgpu_mailbox_request(struct vgpu_mailbox *m, uint64_t seq, uint32_t request_id,
                          const uint8_t *bytes, uint32_t length);

/* Nobody waits for request `seq` (W3). One that was never seen, or too long ago, is ignored. */
void vgpu_mailbox_cancel(struct vgpu_mailbox *m, uint64_t seq);

/* Does what is due; call at the deadline or any time. */
void vgpu_mailbox_tick(struct vgpu_mailbox *m);
uint64_t vgpu_mailbox_deadline(const struct vgpu_mailbox *m);

#endif
