/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes a worker process: its arguments, descriptors, signals. It knows nothing of its later life.
 */
#ifndef VGPU_MEDIATOR_LAUNCH_H
#define VGPU_MEDIATOR_LAUNCH_H

#include "mediator/mediator.h"

/* Finds the worker's program: `said` if not NULL, else beside the mediator in a build tree, else
 * where it is installed. malloced, or NULL with a text in why (512 bytes). */
char *vgpu_launch_find_worker(const char *said, char *why);

/* Decides which uids workers get (m->root, uid_base, one_uid). 0 or -EINVAL with a text in why. */
int vgpu_launch_decide_uids(struct vgpu_mediator *m, char *why);

/* Starts one with the ends of its socket and of the pipe for its stderr, and with the tenant's
 * account, in which it has this slot. The descriptors stay the caller's. 0 or a negative errno. */
int vgpu_launch_worker(struct vgpu_mediator *m, const struct vgpu_tenant *tenant,
                       uint64_t session_id, uint32_t slot, int socket, int err, pid_t *pid);

/* Starts one that only says what GPUs there are. */
int vgpu_launch_probe(struct vgpu_mediator *m, int out, int err, pid_t *pid);

#endif
