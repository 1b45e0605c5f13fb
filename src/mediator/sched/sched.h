/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler's interface: who has the lease of a GPU. A policy is a pure state machine over
 * (event, time) -> decisions: it does no I/O, reads no clock, starts no timer and allocates nothing
 * after create. The daemon drives it live; a simulator or a test drives the same code in virtual
 * time. It knows tenants and GPUs by number only, and nothing of workers, sessions or requests.
 *
 * Times are ns of one clock that never goes back. One thread.
 */
#ifndef VGPU_SCHED_H
#define VGPU_SCHED_H

#include <stdbool.h>
#include <stdint.h>

struct vgpu_sched; /* a policy's state */

enum vgpu_sched_action {
    VGPU_SCHED_GRANT,  /* the GPU's lease is the tenant's */
    VGPU_SCHED_RECALL, /* the tenant is to return it: at once when idle, else within grace_ns; a
                          later one with a shorter grace may follow */
    VGPU_SCHED_KILL, /* it did not, and somebody still waits: what holds the lease must be ended; a
                        return is still awaited */
};

struct vgpu_sched_decision {
    enum vgpu_sched_action action;
    uint32_t tenant;
    uint32_t gpu;
    uint64_t grace_ns; /* RECALL */
};

struct vgpu_sched_config {
    uint32_t tenants;     /* tenant numbers are 0 to tenants - 1 */
    uint32_t gpus;        /* GPU numbers are 0 to gpus - 1 */
    uint64_t quantum_ns;  /* a lease's length while an equal waits */
    uint64_t yield_ns;    /* a busy lease's length after which even a lower priority gets a turn */
    uint64_t watchdog_ns; /* from the end of the grace, or since somebody waits again, to KILL */
};

struct vgpu_sched_policy {
    const char *name;

    /* NULL when there is no memory. tenants and gpus are fixed for life. */
    struct vgpu_sched *(*create)(const struct vgpu_sched_config *config);
    void (*destroy)(struct vgpu_sched *s);
    /* New times from now on; tenants and gpus are ignored. */
    void (*configure)(struct vgpu_sched *s, const struct vgpu_sched_config *config);

    /* The tenant must not be there yet; 0, or -EINVAL for a number out of range or in use. */
    int (*tenant_add)(struct vgpu_sched *s, uint32_t tenant, uint32_t gpu, uint32_t priority);
    /* Also returns its lease and forgets its wish. */
    void (*tenant_remove)(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);
    void (*tenant_priority)(struct vgpu_sched *s, uint32_t tenant, uint32_t priority,
                            uint64_t now_ns);

    /*
     * WANT: the tenant waits for a lease; a second one changes nothing. The holder may want too: it
     * then waits for its next lease. UNWANT: it no longer waits. RETURN: it holds no more.
     */
    void (*want)(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);
    void (*unwant)(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);
    void (*returned)(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);

    /*
     * TICK, and what follows from every event before: true and one decision, which is in force from
     * then on, or false when there is none now. Call until false after each event and at deadline.
     */
    bool (*next)(struct vgpu_sched *s, uint64_t now_ns, struct vgpu_sched_decision *out);
    /* When next has something to say although nothing happened; UINT64_MAX: never. */
    uint64_t (*deadline)(const struct vgpu_sched *s);
};

/*
 * Strict priority, FIFO within a priority, one lease for each GPU. The holder keeps it while nobody
 * waits; an equal waits for the rest of its quantum, a higher one for what is in flight, a lower
 * one until it is idle or yield_ns have passed.
 */
extern const struct vgpu_sched_policy vgpu_sched_strict;

#endif
