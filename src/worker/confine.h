/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker gives up before it reads a guest's byte (W8). In two steps, because some of it does
 * not reach threads that exist already and some of it would keep a backend from opening. Knows
 * nothing of what the worker does.
 */
#ifndef VGPU_WORKER_CONFINE_H
#define VGPU_WORKER_CONFINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define VGPU_WORKER_FD 3 /* where the mediator's socket ends up */

/* What a worker still needs once it serves, by its backend. */
enum vgpu_profile {
    VGPU_PROFILE_SOFTWARE, /* memory, threads and the descriptors it has */
    VGPU_PROFILE_CUDA,     /* besides: the driver's files and devices, and code loaded late */
};

struct vgpu_identity {
    bool given;
    uid_t uid;
    gid_t gid;
};

struct vgpu_confinement {
    enum vgpu_profile profile;
    struct vgpu_identity identity;
    /* Most host memory that is private and writable, in bytes; 0: no limit (a GPU driver reserves
     * far more than it uses). A build with ASan or TSan, which do so too, makes it 0. */
    uint64_t host_memory_bytes;

    /* What is in force, filled in as it comes about. */
    int landlock_abi; /* 0: the kernel has no Landlock */
    bool seccomp;     /* false: built without libseccomp */
};

/*
 * First thing in main, with one thread: moves `socket` to VGPU_WORKER_FD, closes every other
 * descriptor over 2, fills missing ones of 0-2 with /dev/null, forbids new privileges and core
 * dumps, leaves the directory it was started in, and restricts the files that can be opened: those
 * a backend needs to open must be among them. Returns 0 or a negative errno; *what names the step
 * that failed.
 */
int vgpu_confine_early(int socket, struct vgpu_confinement *c, const char **what);

/*
 * Last thing before READY, when the backend is open and the threads run: no supplementary groups,
 * the uid and gid for good, few descriptors, bounded memory, the end when the parent ends, and for
 * all threads only the system calls of the profile. A process that is not root can only keep its
 * own uid and gid. Returns 0 or a negative errno; *what names the step that failed, and the process
 * is of no use then.
 */
int vgpu_confine(struct vgpu_confinement *c, const char **what);

#endif
