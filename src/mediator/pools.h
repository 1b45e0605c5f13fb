/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of GPUs and which pool each is in, and changes of that while VMs run (docs/control.md
 * K25 to K27, K32). The loop's thread.
 */
#ifndef VGPU_MEDIATOR_POOLS_H
#define VGPU_MEDIATOR_POOLS_H

#include "mediator/policy.h"

/* Makes the table from the settings' pools and, when somebody can ask, of the rest of what the host
 * has. inventory may be NULL. */
void vgpu_pools_make(struct vgpu_mediator *m, const struct vgpu_inventory *inventory);

/* Whether the GPU is one that somebody may see: in a pool, or the host's. */
bool vgpu_pools_shown(const struct vgpu_gpu *gpu);
/* Its name: the UUID, "cuda:N" or "software:N"; of VGPU_REGISTRY_GPU_NAME bytes. */
void vgpu_pools_gpu_name(const struct vgpu_mediator *m, uint32_t gpu, char *name);
/* The number of one that somebody named; UINT32_MAX: there is none. */
uint32_t vgpu_pools_find_gpu(const struct vgpu_mediator *m, const struct vgpu_change_gpu *gpu);
/* Drained, by itself. */
bool vgpu_pools_gpu_drained(const struct vgpu_mediator *m, uint32_t gpu);
bool vgpu_pools_drained(const struct vgpu_mediator *m, char pool);

/* What vgpu_plan is for VMs. 0, or -EINVAL with an error. */
int vgpu_pools_plan(struct vgpu_mediator *m, struct vgpu_policy_change *change,
                    const struct vgpu_plan_who *who, struct vgpu_registry_txn *out,
                    struct vgpu_change_error *error);
/* It was committed. */
void vgpu_pools_apply(struct vgpu_mediator *m, struct vgpu_policy_change *change,
                      const struct vgpu_registry_txn *txn);

#endif
