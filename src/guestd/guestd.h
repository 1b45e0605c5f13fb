/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-guestd: ends what programs of this VM left when they died, at once. It knows which have died
 * from the locks of their records (guest/record.h), and when to look from the kernel's notices
 * about those files; without it the next program that opens a session does the same.
 */
#ifndef VGPU_GUESTD_GUESTD_H
#define VGPU_GUESTD_GUESTD_H

#include <stdint.h>

struct vgpu_guestd_options {
    const char *run_dir;    /* where sessions are recorded */
    const char *sysfs_root; /* NULL: /sys/bus/pci/devices */
    const char *resource0;  /* for tests: what the device "test" is mapped from; NULL: none */
    const char *resource2;
    uint32_t timeout_ms; /* for the host to answer */
};

/* Runs until a byte or an end comes on stop_fd. 0, or a negative errno that was logged: -EBUSY,
 * another one runs. */
int vgpu_guestd_run(const struct vgpu_guestd_options *options, int stop_fd);

#endif
