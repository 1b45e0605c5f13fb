/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the software backend offers beyond struct vgpu_backend_ops: a text for people, and a knob
 * for tests. */
#ifndef VGPU_BACKEND_SOFTWARE_H
#define VGPU_BACKEND_SOFTWARE_H

#include "backend/backend.h"

/*
 * Which kernel failed where: kernel, line of the PTX text, address. Empty while nothing has failed.
 * Valid until the next call on `b`; to be called from the thread that calls the ops.
 */
const char *vgpu_software_last_error(struct vgpu_backend *b);

/*
 * Runs modules loaded from now on with the handlers of one instruction set level, "base" or "avx2".
 * INVALID_VALUE for a level this host or this build lacks. By default the best one is used; results
 * are the same.
 */
CUresult vgpu_software_set_level(struct vgpu_backend *b, const char *level);

/* The driver of the session (backend/driver.h), made when first asked for; NULL: no host memory. It
 * ends with the backend. */
struct vgpu_driver *vgpu_software_driver(struct vgpu_backend *b);

/* Between software.c and driver.c. */
struct ptx_memory;
struct vgpu_driver *vgpu_software_driver_create(struct vgpu_backend *b, struct ptx_memory *memory);
void vgpu_software_driver_destroy(struct vgpu_driver *driver);

#endif
