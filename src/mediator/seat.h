/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a tenant is: its place on a GPU, in the schedule and in the account of memory. One that
 * moves has a second place until the last worker on the first has gone (docs/control.md K24). It
 * knows nothing of why somebody moves.
 */
#ifndef VGPU_MEDIATOR_SEAT_H
#define VGPU_MEDIATOR_SEAT_H

#include "mediator/mediator.h"
#include "mediator/sched/place.h"

/* The pool's GPU for a tenant with this quota that comes or moves (S12). VGPU_SEAT_NONE: none takes
 * new ones. */
#define VGPU_SEAT_NONE VGPU_PLACE_NONE
uint32_t vgpu_seat_choose(const struct vgpu_mediator *m, char pool, uint64_t memory);

/* The first place of a tenant that comes. 0 or a negative errno. */
int vgpu_seat_join(struct vgpu_mediator *m, struct vgpu_tenant *t, uint32_t gpu,
                   const struct vgpu_sched_tenant *share, uint64_t memory);

/*
 * From now on the tenant's workers are started on that GPU, with this share and quota, which hold
 * where it was, too. 0; -EBUSY: workers run on two other GPUs already; or another negative errno.
 * Nothing changes unless 0. vgpu_mediator_schedule has to follow.
 */
int vgpu_seat_move(struct vgpu_mediator *m, struct vgpu_tenant *t, uint32_t gpu,
                   const struct vgpu_sched_tenant *share, uint64_t memory);
/* The same without moving. */
void vgpu_seat_change(struct vgpu_mediator *m, struct vgpu_tenant *t,
                      const struct vgpu_sched_tenant *share, uint64_t memory);

/* A worker that was on the seat has gone. true: that was the last one of a seat that it has left */
bool vgpu_seat_worker_gone(struct vgpu_mediator *m, struct vgpu_tenant *t, struct vgpu_seat *seat);
/* The end: no worker is left on any. */
void vgpu_seat_leave_all(struct vgpu_mediator *m, struct vgpu_tenant *t);

/* Over all seats, and those that were left. */
bool vgpu_seat_moving(const struct vgpu_tenant *t);
uint64_t vgpu_seat_lease_ns(const struct vgpu_tenant *t, uint64_t now_ns);
uint64_t vgpu_seat_leases(const struct vgpu_tenant *t);
uint64_t vgpu_seat_recalls(const struct vgpu_tenant *t);
uint64_t vgpu_seat_messages(const struct vgpu_tenant *t); /* about leases, both ways */
bool vgpu_seat_holding(const struct vgpu_tenant *t);
uint64_t vgpu_seat_memory(const struct vgpu_tenant *t);
/* Counts from now. */
void vgpu_seat_restart(struct vgpu_tenant *t, uint64_t now_ns);

#endif
