/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry laid over the configuration: what it says of a VM wins over the VM's section, field
 * by field, and its pools have the GPUs that it says (docs/control.md K8). Pure.
 */
#ifndef VGPU_MEDIATOR_OVERLAY_H
#define VGPU_MEDIATOR_OVERLAY_H

#include "mediator/settings.h"
#include "registry/model.h"

/* Makes room, and lays all of it over settings that were just read. 0, or -ENOMEM. */
int vgpu_overlay_all(struct vgpu_settings *settings, const struct vgpu_registry_state *state);

/* The row of one VM as it is now; NULL: there is none. It cannot fail. */
void vgpu_overlay_vm(struct vgpu_settings *settings, uint32_t vm,
                     const struct vgpu_registry_vm *row);

/* A GPU as the registry names it: "software", "cuda:0" or "GPU-...". 0 or -EINVAL. */
int vgpu_overlay_gpu_read(const char *name, struct vgpu_gpu_setting *gpu);
void vgpu_overlay_gpu_name(const struct vgpu_gpu_setting *gpu, char name[VGPU_REGISTRY_GPU_NAME]);

#endif
