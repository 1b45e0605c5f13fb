/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engine thread wants said to the mediator, for the control thread to send: a bounded
 * queue that wakes who reads it by a descriptor. Knows no packet.
 */
#ifndef VGPU_WORKER_REPORTS_H
#define VGPU_WORKER_REPORTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vgpu/worker.h"

struct vgpu_report {
    enum vgpu_report_kind {
        VGPU_REPORT_CHANNEL,       /* state, error */
        VGPU_REPORT_WANT_EXTENT,   /* seq, bytes */
        VGPU_REPORT_RETURN_EXTENT, /* offset, bytes */
    } kind;
    uint32_t state, error;
    uint64_t seq, offset, bytes;
};

/* At most one for each extent, and one for each that is asked for, and what a channel goes through
 * between two packets of the mediator. */
#define VGPU_REPORTS_MAX (2 * VGPU_WORKER_EXTENTS_MAX)

struct vgpu_reports {
    pthread_mutex_t lock;
    int fd; /* an eventfd of the owner's */
    uint32_t first, count;
    struct vgpu_report report[VGPU_REPORTS_MAX];
};

void vgpu_reports_init(struct vgpu_reports *r, int fd);
void vgpu_reports_destroy(struct vgpu_reports *r);
/* Engine thread. False: there is no room, which says that nobody reads. */
bool vgpu_reports_put(struct vgpu_reports *r, const struct vgpu_report *report);
/* Control thread. False: there is none. */
bool vgpu_reports_take(struct vgpu_reports *r, struct vgpu_report *report);

#endif
