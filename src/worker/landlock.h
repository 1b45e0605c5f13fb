/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files a worker can reach, fenced by the kernel's Landlock (W8). It knows paths and rights,
 * and nothing of what else a worker gives up.
 */
#ifndef VGPU_WORKER_LANDLOCK_H
#define VGPU_WORKER_LANDLOCK_H

#include "worker/confine.h"

/*
 * Restricts the calling thread and the threads it will start: so it belongs before the first of
 * them, and needs no_new_privs. What is open already stays usable. Returns the kernel's ABI number,
 * 0 where it has no Landlock (nothing is restricted then), or a negative errno.
 */
int vgpu_landlock_restrict(enum vgpu_profile profile);

#endif
