/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System calls that an old C library (glibc 2.17) has no function for. Each returns a negative
 * errno and -ENOSYS where the kernel lacks the call and no substitute exists. Any thread.
 */
#ifndef VGPU_COMMON_SYS_H
#define VGPU_COMMON_SYS_H

#include <stddef.h>
#include <sys/types.h>

#define VGPU_MFD_CLOEXEC       0x1u
#define VGPU_MFD_ALLOW_SEALING 0x2u

/* A memory file; returns a descriptor. */
int vgpu_memfd_create(const char *name, unsigned flags);

/* A descriptor for a process (close-on-exec), and a signal through it. */
int vgpu_pidfd_open(pid_t pid);
int vgpu_pidfd_send_signal(int pidfd, int signal);

/* Fills length bytes with random ones, from /dev/urandom where getrandom is missing. */
int vgpu_random(void *buffer, size_t length);

/*
 * Every open descriptor from first on: closes it, or sets close-on-exec. Falls back to
 * /proc/self/fd, then to RLIMIT_NOFILE. Closing is for a process that has no other thread.
 */
int vgpu_close_from(int first);
int vgpu_cloexec_from(int first);

#endif
