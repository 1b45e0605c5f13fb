/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that waits for the disk, so that the loop does not: it takes jobs in order, and says
 * through an eventfd that some are done. It knows nothing of what a job is for.
 */
#ifndef VGPU_REGISTRY_WRITER_H
#define VGPU_REGISTRY_WRITER_H

#include "registry/registry.h"

#define VGPU_WRITER_QUEUE 128u /* jobs that wait, at most */

struct vgpu_writer;

enum vgpu_writer_kind { VGPU_WRITER_COMMIT, VGPU_WRITER_AUDIT };

/* The submitter's; between submit and done the writer's alone. */
struct vgpu_writer_job {
    enum vgpu_writer_kind kind;
    struct vgpu_registry_txn txn; /* COMMIT */
    uint64_t before;              /* AUDIT */
    uint32_t limit;
    struct vgpu_registry_audit *lines; /* AUDIT: found; the submitter frees them */
    uint32_t line_count;
    int rc;
    char why[VGPU_REGISTRY_WHY];
    void *asker; /* the submitter's */
    struct vgpu_writer_job *next;
};

/* Starts it with an open registry, which it alone uses until stop. NULL with errno. */
struct vgpu_writer *vgpu_writer_start(struct vgpu_registry *registry);
/* Finishes what was submitted, and ends; `left` is called with each job that nobody has collected.
 * NULL does nothing. */
void vgpu_writer_stop(struct vgpu_writer *writer, void (*left)(struct vgpu_writer_job *job));

/* Readable when a job is done. */
int vgpu_writer_fd(const struct vgpu_writer *writer);
/* 0, or -EAGAIN: VGPU_WRITER_QUEUE wait already. The loop's thread. */
int vgpu_writer_submit(struct vgpu_writer *writer, struct vgpu_writer_job *job);
/* The next that is done, in the order of submit; NULL: none is. The loop's thread. */
struct vgpu_writer_job *vgpu_writer_done(struct vgpu_writer *writer);

#endif
