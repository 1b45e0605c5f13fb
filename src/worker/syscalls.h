/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The system calls a worker can make (W8). It knows their names, and nothing of what else a worker
 * gives up.
 */
#ifndef VGPU_WORKER_SYSCALLS_H
#define VGPU_WORKER_SYSCALLS_H

#include "worker/confine.h"

/*
 * Filters every thread of the process, for good; needs no_new_privs. Returns 1, 0 when this program
 * was built without libseccomp (nothing is filtered then), or a negative errno.
 */
int vgpu_syscalls_restrict(enum vgpu_profile profile);

#endif
