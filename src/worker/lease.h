/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lease gate: may this worker touch the GPU now (docs/worker.md, W4). A state machine over
 * events and times handed in; no clock, no socket, no threads of its own.
 *
 *   CLOSED --grant--> OPEN --recall--> RECALLED --grace over--> STOPPING
 *     ^                                    |                       |
 *     +---- return sent ---- RETURNED <----+------ released -------+
 *
 * Two threads share it and share nothing but `gate` and `linger_ns`: the control thread moves it
 * towards STOPPING, the engine thread alone releases. So the engine's question before each job is
 * one atomic read, and a lease that it has seen open cannot go while the job runs.
 */
#ifndef VGPU_WORKER_LEASE_H
#define VGPU_WORKER_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum vgpu_gate {
    VGPU_GATE_CLOSED = 0, /* no lease */
    VGPU_GATE_OPEN,       /* run */
    VGPU_GATE_RECALLED,   /* run what is queued; with nothing queued drain and release */
    VGPU_GATE_STOPPING,   /* start nothing; drain and release */
    VGPU_GATE_RETURNED,   /* drained and released; the control thread has yet to say so */
};

struct vgpu_lease {
    _Atomic uint32_t gate; /* enum vgpu_gate */
    /* Set by the control thread before it moves the gate to RECALLED: gaps in the work of up to
     * this long are no reason to release. */
    _Atomic uint64_t linger_ns;
    /* The control thread's. */
    uint64_t number;      /* of the lease, while the gate is not CLOSED */
    bool wanted;          /* WANT is sent and not yet granted */
    uint64_t deadline_ns; /* while RECALLED: when the grace is over */
};

void vgpu_lease_init(struct vgpu_lease *l);

/* Control thread. GRANT came: 0, or -EPROTO when there is a lease already. */
int vgpu_lease_grant(struct vgpu_lease *l, uint64_t number);

/* Control thread. RECALL came. One for a lease that is not held any more crossed with its RETURN
 * and is ignored; a second one can only shorten the grace, and what it says of gaps holds. Answers
 * whether the engine must look. */
bool vgpu_lease_recall(struct vgpu_lease *l, uint64_t number, uint64_t now_ns, uint32_t grace_us,
                       uint32_t linger_us);

/* Control thread. Ends the grace when it is time. Answers whether the engine must look. */
bool vgpu_lease_tick(struct vgpu_lease *l, uint64_t now_ns);

/* Control thread. Nanoseconds at which tick has something to do; UINT64_MAX for never. */
uint64_t vgpu_lease_deadline(const struct vgpu_lease *l);

/* Control thread. There is work: answers whether WANT is to be sent now (at most once until the
 * grant). */
bool vgpu_lease_want(struct vgpu_lease *l);

/* Control thread. Whether the engine released the lease; then *number is the one to RETURN and the
 * gate is closed. */
bool vgpu_lease_take_return(struct vgpu_lease *l, uint64_t *number);

/* Any thread. */
static inline enum vgpu_gate vgpu_lease_gate(struct vgpu_lease *l)
{
    return (enum vgpu_gate)atomic_load_explicit(&l->gate, memory_order_acquire);
}

/* Engine thread, with nothing in flight, while RECALLED or STOPPING. */
void vgpu_lease_release(struct vgpu_lease *l);

#endif
