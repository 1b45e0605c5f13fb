/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VMs, pools and GPUs as they are, as JSON objects (docs/control.md K11, K12). */
#ifndef VGPU_MEDIATOR_CONTROL_SHOW_H
#define VGPU_MEDIATOR_CONTROL_SHOW_H

#include "common/text.h"
#include "mediator/mediator.h"

/* One VM; false: there is nothing to say of it. */
bool vgpu_show_vm(const struct vgpu_mediator *m, uint32_t vm, struct vgpu_text *text);
/* A list of all that there is something to say of, separated by commas. */
void vgpu_show_vms(const struct vgpu_mediator *m, struct vgpu_text *text);
/* How many of them are registered, attached, quarantined, draining. -ENOMEM, or 0. */
int vgpu_show_count(const struct vgpu_mediator *m, uint32_t counts[4]);

void vgpu_show_pool(const struct vgpu_mediator *m, char pool, struct vgpu_text *text);
void vgpu_show_pools(const struct vgpu_mediator *m, struct vgpu_text *text);
void vgpu_show_gpu(const struct vgpu_mediator *m, uint32_t gpu, struct vgpu_text *text);
void vgpu_show_gpus(const struct vgpu_mediator *m, struct vgpu_text *text);

/* "until": 1234.5, or null. */
void vgpu_show_until(struct vgpu_text *text, const struct vgpu_registry_aside *aside);

#endif
