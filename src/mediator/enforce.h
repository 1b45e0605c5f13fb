/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was decided about a VM, done to one that is attached: it moves, gets another share, loses
 * its sessions, or gets no new ones. Part of the broker; who decides is policy.c. The loop's
 * thread.
 */
#ifndef VGPU_MEDIATOR_ENFORCE_H
#define VGPU_MEDIATOR_ENFORCE_H

#include "mediator/mediator.h"

/* Brings an attached tenant to what the settings say of it now. */
void vgpu_enforce_settings(struct vgpu_mediator *m, struct vgpu_tenant *t);

/* Moves a tenant that sits on a GPU where it should start nothing to a better one, if there is one.
 */
void vgpu_enforce_seat(struct vgpu_mediator *m, struct vgpu_tenant *t);
/* All that are on that GPU, or in that pool (0: any). */
void vgpu_enforce_seats(struct vgpu_mediator *m, uint32_t gpu, char pool);

/* Whether a worker may be started for it now; else why not (128 bytes). May move it. */
bool vgpu_enforce_start(struct vgpu_tenant *t, char *why);

/* Sets both asides of a VM or user, and does what follows. how: "by hand", "by time" ... */
void vgpu_enforce_quarantine(struct vgpu_mediator *m, uint64_t key,
                             const struct vgpu_registry_aside *aside, const char *how);
void vgpu_enforce_drain(struct vgpu_mediator *m, uint64_t key,
                        const struct vgpu_registry_aside *aside, const char *how);

/* A worker of the tenant had a fault (K31). */
void vgpu_enforce_fault(struct vgpu_mediator *m, struct vgpu_tenant *t, bool watchdog,
                        const char *reason);
/* Whether this CUresult says that the GPU context is lost. */
bool vgpu_enforce_is_fault(uint32_t status);

#endif
