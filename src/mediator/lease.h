/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leases: between the scheduler, which knows tenants, and the workers, of which a tenant has
 * several. All workers of a tenant share its lease: a grant goes to each that wants it, and the
 * lease is returned when all have returned it or are gone. Keeps the account of lease time.
 *
 * It does no I/O and reads no clock: it calls back to have something sent or killed. The callbacks
 * must not call in here again. One thread.
 */
#ifndef VGPU_MEDIATOR_LEASE_H
#define VGPU_MEDIATOR_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "mediator/list.h"
#include "mediator/sched/sched.h"

struct vgpu_leases;
struct vgpu_lease_tenant;
struct vgpu_stats;
struct vgpu_stats_vm;

/* One worker's part; lives in the worker. */
struct vgpu_lease_member {
    struct vgpu_list node; /* in the tenant's members */
    struct vgpu_lease_tenant *tenant;
    bool wants;
    uint64_t lease; /* the number of the lease it holds, 0: none */
};

struct vgpu_lease_tenant {
    struct vgpu_list members;
    uint32_t number; /* the scheduler's */
    struct vgpu_sched_tenant is;
    bool waiting;                /* the scheduler knows that it wants */
    uint64_t lease;              /* held, 0: none */
    bool recalled;               /* nobody is let in any more */
    uint64_t granted_ns;         /* of the lease: when, and */
    uint64_t start_ns;           /* from when on it counts in total_ns */
    uint64_t total_ns;           /* of the leases before */
    uint64_t leases;             /* how many it has had */
    uint64_t recalls;            /* how many of them were recalled */
    uint64_t messages;           /* WANT, GRANT, RECALL and RETURN of its workers, together */
    uint64_t wish_ns;            /* waiting: since when */
    struct vgpu_stats_vm *stats; /* counted for, from add to remove */
};

struct vgpu_lease_ops {
    void (*grant)(struct vgpu_lease_member *member, uint64_t lease);
    void (*recall)(struct vgpu_lease_member *member, uint64_t lease, uint32_t grace_us,
                   uint32_t linger_us);
    void (*kill)(struct vgpu_lease_member *member); /* the watchdog's; removed later, when gone */
};

/* NULL when there is no memory, or the configuration is out of range. ops must stay valid. */
struct vgpu_leases *vgpu_leases_create(const struct vgpu_sched_config *config,
                                       const struct vgpu_lease_ops *ops);
void vgpu_leases_destroy(struct vgpu_leases *leases);
/* Leases are counted there from now on; NULL, as in the beginning: nowhere. */
void vgpu_leases_count(struct vgpu_leases *leases, struct vgpu_stats *stats);
/* 0 or -EINVAL. */
int vgpu_leases_configure(struct vgpu_leases *leases, const struct vgpu_sched_config *config,
                          uint64_t now_ns);

/* Decides and calls back until nothing is left to do now. After events, and at the deadline. */
void vgpu_leases_run(struct vgpu_leases *leases, uint64_t now_ns);
uint64_t vgpu_leases_deadline(struct vgpu_leases *leases, uint64_t now_ns);

/* 0 or -EINVAL. stats: the record that it is counted in, or NULL. remove: when no member is left.
 */
int vgpu_lease_tenant_add(struct vgpu_leases *leases, struct vgpu_lease_tenant *tenant,
                          uint32_t number, const struct vgpu_sched_tenant *what,
                          struct vgpu_stats_vm *stats, uint64_t now_ns);
/* GPU time that it had beyond its share: what it goes with, and what it came back with. */
void vgpu_lease_tenant_debt(struct vgpu_leases *leases, const struct vgpu_lease_tenant *tenant,
                            struct vgpu_sched_debt *debt, uint64_t now_ns);
void vgpu_lease_tenant_owe(struct vgpu_leases *leases, const struct vgpu_lease_tenant *tenant,
                           const struct vgpu_sched_debt *debt, uint64_t now_ns);
void vgpu_lease_tenant_remove(struct vgpu_leases *leases, struct vgpu_lease_tenant *tenant,
                              uint64_t now_ns);
/* 0, -EINVAL, or -EBUSY: it holds a lease of another GPU. */
int vgpu_lease_tenant_change(struct vgpu_leases *leases, struct vgpu_lease_tenant *tenant,
                             const struct vgpu_sched_tenant *what, uint64_t now_ns);
/* Lease time so far, the running lease included, since the account was opened. */
uint64_t vgpu_lease_tenant_total_ns(const struct vgpu_lease_tenant *tenant, uint64_t now_ns);
/* How often it had to wait for its rate, since it was added. */
uint64_t vgpu_lease_tenant_throttles(struct vgpu_leases *leases,
                                     const struct vgpu_lease_tenant *tenant, uint64_t now_ns);
/* Opens a new account: counts from now. */
void vgpu_lease_tenant_restart(struct vgpu_lease_tenant *tenant, uint64_t now_ns);

void vgpu_lease_member_add(struct vgpu_lease_tenant *tenant, struct vgpu_lease_member *member);
/* The process is gone: what it held is free. */
void vgpu_lease_member_remove(struct vgpu_leases *leases, struct vgpu_lease_member *member,
                              uint64_t now_ns);
/* It will want nothing more, but holds what it holds until it is removed. */
void vgpu_lease_member_end(struct vgpu_leases *leases, struct vgpu_lease_member *member,
                           uint64_t now_ns);

/* What a worker said. 0, or -EPROTO when the rules do not allow it (W4). */
int vgpu_lease_member_want(struct vgpu_leases *leases, struct vgpu_lease_member *member,
                           uint64_t now_ns);
int vgpu_lease_member_return(struct vgpu_leases *leases, struct vgpu_lease_member *member,
                             uint64_t lease, uint64_t now_ns);

#endif
