/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of floors.h share. */
#ifndef VGPU_CLI_FLOORS_INTERNAL_H
#define VGPU_CLI_FLOORS_INTERNAL_H

#include <stddef.h>

#include "cli/floors.h"

/* Sorts the samples; there is at least one. */
void vgpu_floor_summarize(double *samples, size_t count, struct vgpu_floor_spread *out);

/* Between two looks at what another thread writes; now and then lets that thread have this
 * processor, should it be the only one. */
void vgpu_floor_relax(unsigned *spins);

#endif
