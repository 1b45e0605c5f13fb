/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker gives up before it reads a guest's byte (W8). In two steps, because some of it does
 * not reach threads that exist already and some of it would keep a backend from opening. Knows
 * nothing of what the worker does.
 */
#ifndef VGPU_WORKER_CONFINE_H
#define VGPU_WORKER_CONFINE_H

#include <stdbool.h>
#include <sys/types.h>

#define VGPU_WORKER_FD 3 /* where the mediator's socket ends up */

/*
 * First thing in main, with one thread: moves `socket` to VGPU_WORKER_FD, closes every other
 * descriptor over 2, fills missing ones of 0-2 with /dev/null, forbids new privileges and core
 * dumps, leaves the directory it was started in. Returns 0 or a negative errno; *what names the
 * step that failed.
 */
int vgpu_confine_early(int socket, const char **what);

struct vgpu_identity {
    bool given;
    uid_t uid;
    gid_t gid;
};

/*
 * Last thing before READY, when the backend is open and the threads run: no supplementary groups,
 * the uid and gid for good, few descriptors. A process that is not root can only keep its own uid
 * and gid. Returns 0 or a negative errno; *what names the step that failed.
 */
int vgpu_confine(const struct vgpu_identity *identity, const char **what);

#endif
