/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks `vgpu-worker --probe` what GPUs this host has, beside the loop, and logs what it says. No
 * driver is ever loaded here. It does not know what the answer is for.
 */
#ifndef VGPU_MEDIATOR_PROBE_H
#define VGPU_MEDIATOR_PROBE_H

#include "mediator/inventory.h"
#include "mediator/mediator.h"

/*
 * Starts it; `done` is called from the loop, once, with what was found: nothing when it failed or
 * took longer than limit_ms, and the log says why. 0, or a negative errno and no call.
 */
int vgpu_probe_start(struct vgpu_mediator *m, uint32_t limit_ms,
                     void (*done)(struct vgpu_mediator *m, const struct vgpu_inventory *inventory));

/* A child has gone that is no worker's: the probe's, or nobody's. */
void vgpu_probe_gone(struct vgpu_mediator *m, pid_t pid, int status);

/* Ends it without waiting for an answer. */
void vgpu_probe_abandon(struct vgpu_mediator *m);

#endif
