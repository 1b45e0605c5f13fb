/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `vgpu-worker --probe`: what a GPU is, for those who must not load a driver themselves. */
#ifndef VGPU_WORKER_PROBE_H
#define VGPU_WORKER_PROBE_H

#include <stdio.h>

#include "backend/backend.h"

#define VGPU_PROBE_GPUS 64u /* of one backend, at most */

/* Opens each GPU of the backend, prints its line of JSON (with "unusable" and the reason when it is
 * there but may not be used), closes it. Returns how many are usable, or -ENODEV with a sentence in
 * why when there is none at all. */
int vgpu_probe(const struct vgpu_backend_ops *ops, const struct vgpu_backend_config *config,
               FILE *out, char *why, size_t why_size);

#endif
