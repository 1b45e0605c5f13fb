/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this machine does with nothing of ours in the way: the figures that the fast path is
 * compared with, measured in the same run. No session, no mediator, no device.
 *
 * Each function starts and ends what it needs (a thread, a process, memory). Call them from one
 * thread, while nothing else of the program computes: they want two processors for themselves.
 */
#ifndef VGPU_CLI_FLOORS_H
#define VGPU_CLI_FLOORS_H

#include <stdint.h>

struct vgpu_floors {
    double post_ns;                 /* writes and publishes a 64-byte record; a consumer polls */
    double records_per_s;           /* 64-byte records through a bare ring, thread to thread */
    double pingpong_ns;             /* a cache line to another processor and back */
    double eventfd_roundtrip_ns;    /* wakes a process that sleeps, which wakes us */
    double staged_copy_bytes_per_s; /* source, staging, destination: one thread for each half */
};

/*
 * Measures all of them: the medians, which takes about two seconds. `copy_bytes` is how much the
 * staged copy moves; it needs twice as much memory; 0 leaves it out, and its figure 0.
 * 0 or a negative errno: no memory, thread or process to be had.
 */
int vgpu_floors_measure(struct vgpu_floors *out, uint64_t copy_bytes);

/* ---- One at a time, with their spread ---- */

/* Of many samples. For rates, too, `min` is the smallest and `p99` the one that 99 % do not exceed.
 */
struct vgpu_floor_spread {
    double min, median, p99;
};

/* A sample is the mean of 64 posts, each published on its own, into a ring that the consumer has
 * emptied before. */
int vgpu_floor_post(struct vgpu_floor_spread *ns);
/* A sample is 16384 records. */
int vgpu_floor_records(struct vgpu_floor_spread *per_s);
/* Taken out of the ring and checked by a consumer, with the records there already: the mean of 512.
 */
int vgpu_floor_take(struct vgpu_floor_spread *ns);
int vgpu_floor_pingpong(struct vgpu_floor_spread *ns);
int vgpu_floor_eventfd(struct vgpu_floor_spread *ns);
/* Tries staging in pieces of 64 KiB to 2 MiB and says which was best. */
int vgpu_floor_staged_copy(uint64_t copy_bytes, struct vgpu_floor_spread *bytes_per_s,
                           uint32_t *piece_bytes);

#endif
