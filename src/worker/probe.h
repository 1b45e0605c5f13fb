/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `vgpu-worker --probe`: what a GPU is, for those who must not load a driver themselves. */
#ifndef VGPU_WORKER_PROBE_H
#define VGPU_WORKER_PROBE_H

#include <stdio.h>

#include "backend/backend.h"

/* Opens GPU `config->gpu` of the backend, prints its line of JSON, closes it. Returns 0, or -ENODEV
 * with a sentence in why when it cannot be opened. */
int vgpu_probe(const struct vgpu_backend_ops *ops, const struct vgpu_backend_config *config,
               FILE *out, char *why, size_t why_size);

#endif
