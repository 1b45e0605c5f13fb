/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock files: one mediator for what they stand beside, and none that begins before the last worker
 * of the one before has gone (docs/worker.md W8). A mediator and each of its workers hold the file
 * through a description of their own, so that the lock falls with the last of them however they
 * end, and a worker can give up nothing but its own part. It knows nothing of what it guards.
 */
#ifndef VGPU_COMMON_LOCK_H
#define VGPU_COMMON_LOCK_H

#include <stddef.h>

struct vgpu_lock {
    int fd; /* -1: not held */
    char *path;
};

/*
 * Takes the lock at path, waiting up to wait_ms while others have it (start-up only: it sleeps).
 * 0; -EBUSY, with the pid of who has it in why (512 bytes); or another negative errno when there
 * can be no such file, with a text in why. `held` is what the text says is in use.
 */
int vgpu_lock_take(struct vgpu_lock *lock, const char *path, const char *held, unsigned wait_ms,
                   char *why);

/*
 * *fd: a descriptor for a worker to inherit, close-on-exec until then; -1 when the lock is not
 * held. 0 or a negative errno.
 */
int vgpu_lock_share(const struct vgpu_lock *lock, int *fd);

/* Lets go. The file goes too, unless others (workers that do not die) still have it. */
void vgpu_lock_drop(struct vgpu_lock *lock);

#endif
