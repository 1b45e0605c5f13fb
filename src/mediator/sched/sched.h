/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler: who has the lease of a GPU, and for how long (docs/scheduling.md has the policy
 * and its reasons). A pure state machine over (event, time) -> decisions: it does no I/O, reads no
 * clock, starts no timer and allocates nothing after create. The daemon drives it live; a simulator
 * or a test drives the same code in virtual time. It knows tenants and GPUs by number only, and
 * nothing of workers, sessions or requests.
 *
 * Times are ns of one clock that never goes back. One thread. Every event costs O(log tenants).
 */
#ifndef VGPU_SCHED_H
#define VGPU_SCHED_H

#include <stdbool.h>
#include <stdint.h>

struct vgpu_sched;

enum vgpu_sched_action {
    VGPU_SCHED_GRANT,  /* a lease of the GPU is the tenant's */
    VGPU_SCHED_RECALL, /* the tenant is to return it: when it has been idle for linger_ns, and in
                          any case within grace_ns; a later one with a shorter grace may follow */
    VGPU_SCHED_KILL, /* it did not, and somebody still waits: what holds the lease must be ended; a
                        return is still awaited */
};

struct vgpu_sched_decision {
    enum vgpu_sched_action action;
    uint32_t tenant;
    uint32_t gpu;
    uint64_t grace_ns;  /* RECALL */
    uint64_t linger_ns; /* RECALL: 0: return it as soon as there is nothing to do */
};

/* How priorities relate. */
enum vgpu_sched_mode {
    VGPU_SCHED_WEIGHTED, /* each has a share by its factor, and goes first as long as it is within
                            it */
    VGPU_SCHED_STRICT,   /* a lower one runs when no higher one waits, or has waited for aging_ns */
};

#define VGPU_SCHED_PRIORITIES     3u /* of enum vgpu_priority */
#define VGPU_SCHED_WEIGHT_DEFAULT 100u
#define VGPU_SCHED_WEIGHT_MAX     10000u
#define VGPU_SCHED_FACTOR_MAX     1000u
#define VGPU_SCHED_SLOTS_MAX      16u

struct vgpu_sched_config {
    uint32_t tenants; /* tenant numbers are 0 to tenants - 1; fixed for life */
    uint32_t gpus;    /* GPU numbers are 0 to gpus - 1; fixed for life */
    enum vgpu_sched_mode mode;
    uint32_t slots;       /* leases of a GPU at a time, 1 to VGPU_SCHED_SLOTS_MAX */
    uint64_t quantum_ns;  /* a lease's length while others wait */
    uint64_t watchdog_ns; /* from the end of the grace, or since somebody waits again, to KILL */
    uint64_t aging_ns;    /* who has waited so long goes next, whatever its priority or share */
    uint64_t linger_ns; /* a lease outlasts gaps of its holder so long, towards lower priorities */
    uint32_t factor[VGPU_SCHED_PRIORITIES]; /* of a weight, by priority; WEIGHTED */
};

struct vgpu_sched_tenant {
    uint32_t gpu;
    uint32_t priority; /* enum vgpu_priority */
    uint32_t weight;   /* 1 to VGPU_SCHED_WEIGHT_MAX */
    uint32_t rate;     /* lease time it may have, in thousandths of the time; 0: all there is */
    uint64_t burst_ns; /* what of that it may save up; at least 1 with a rate */
};

/* NULL when there is no memory, or a value is out of range. */
struct vgpu_sched *vgpu_sched_create(const struct vgpu_sched_config *config);
void vgpu_sched_destroy(struct vgpu_sched *s);
/* New times, slots and factors from now on; tenants, gpus and mode are ignored. 0 or -EINVAL. */
int vgpu_sched_configure(struct vgpu_sched *s, const struct vgpu_sched_config *config,
                         uint64_t now_ns);

/* The tenant must not be there yet; 0, or -EINVAL for a number out of range or in use. */
int vgpu_sched_tenant_add(struct vgpu_sched *s, uint32_t tenant,
                          const struct vgpu_sched_tenant *what, uint64_t now_ns);
/* Also returns its lease and forgets its wish. */
void vgpu_sched_tenant_remove(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);
/* 0, -EINVAL, or -EBUSY: it holds a lease of the GPU that it would leave. */
int vgpu_sched_tenant_change(struct vgpu_sched *s, uint32_t tenant,
                             const struct vgpu_sched_tenant *what, uint64_t now_ns);

/*
 * What a tenant had too much of when it goes, for when it comes back, so that going is no way out
 * of a debt: take it before remove, and hand it in after add. Nobody else looks inside.
 */
struct vgpu_sched_debt {
    bool known;
    uint32_t gpu, priority;
    __int128 v;
    int64_t ahead_ns; /* lease time beyond its share */
    int64_t spent_ns; /* of its rate's burst, and beyond it */
    uint64_t at_ns;
};
void vgpu_sched_debt(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns,
                     struct vgpu_sched_debt *debt);
void vgpu_sched_owe(struct vgpu_sched *s, uint32_t tenant, const struct vgpu_sched_debt *debt,
                    uint64_t now_ns);

/*
 * WANT: the tenant waits for a lease; a second one changes nothing. The holder may want too: it
 * then waits for its next lease. UNWANT: it no longer waits. RETURNED: it holds no more.
 */
void vgpu_sched_want(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);
void vgpu_sched_unwant(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);
void vgpu_sched_returned(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns);

/*
 * TICK, and what follows from every event before: true and one decision, which is in force from
 * then on, or false when there is none now. Call until false after each event and at deadline.
 */
bool vgpu_sched_next(struct vgpu_sched *s, uint64_t now_ns, struct vgpu_sched_decision *out);
/* When next has something to say although nothing happened; UINT64_MAX: never. */
uint64_t vgpu_sched_deadline(struct vgpu_sched *s, uint64_t now_ns);

/* ---- To look inside: for figures, the simulator and tests ---- */

struct vgpu_sched_view {
    bool present, waiting, holding, recalled;
    bool throttled;     /* its rate is used up */
    uint64_t since_ns;  /* waiting: since when */
    uint64_t throttles; /* times at which it waited for its rate */
    int64_t lag_ns;     /* while active: lease time it is owed (below 0: had too much) against its
                           share of what was given since all of now were active */
    int64_t tokens_ns;  /* of its rate */
};
void vgpu_sched_look(struct vgpu_sched *s, uint32_t tenant, uint64_t now_ns,
                     struct vgpu_sched_view *view);
/* Leases out on that GPU, and tenants that wait and could be served at once. */
void vgpu_sched_look_gpu(struct vgpu_sched *s, uint32_t gpu, uint64_t now_ns, uint32_t *held,
                         uint32_t *admissible);

#endif
