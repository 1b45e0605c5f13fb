/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine: a bounded FIFO of jobs, the session's channel, and the one thread that calls the
 * backend, under the lease (W4). Every function here is the control thread's; push, remove and
 * admit may be called by the engine thread, too. A job belongs to the engine from push until remove
 * or collect gives it back; a channel's own (job->here) never comes back.
 *
 * The thread serves the ring by itself: no record passes the control thread. It looks at the gate
 * between any two records, so a recall has its way however fast the guest posts.
 */
#ifndef VGPU_WORKER_ENGINE_H
#define VGPU_WORKER_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/execute.h"
#include "worker/job.h"
#include "worker/lease.h"

#define VGPU_ENGINE_EARLY_MAX   256u /* answered jobs that may wait (P19) */
#define VGPU_ENGINE_JOBS_MAX    512u /* jobs of every kind that may wait */
/* Staged bytes of answered jobs that may wait: a job that goes over it is admitted alone. */
#define VGPU_ENGINE_EARLY_BYTES ((uint64_t)128 << 20)

struct vgpu_engine;

/* Starts the thread. The lease, the backend and the account (NULL: none) must outlive the engine.
 * Returns 0 or a negative errno. */
int vgpu_engine_create(const struct vgpu_backend_ops *ops, struct vgpu_backend *backend,
                       struct vgpu_account *account, struct vgpu_lease *lease,
                       struct vgpu_engine **out);

/* Interrupts what runs, ends the thread, frees every job. Not for a backend that ignores
 * interrupt: it waits for the thread. */
void vgpu_engine_destroy(struct vgpu_engine *e);

/* Readable when there is something to collect, to admit, or a lease to return. */
int vgpu_engine_fd(const struct vgpu_engine *e);
/* Before looking: makes the descriptor unreadable until the next event. */
void vgpu_engine_clear(struct vgpu_engine *e);

/* Before anything is pushed: the tenant's limit on what may wait (W19), instead of
 * VGPU_ENGINE_JOBS_MAX, if it is lower; and on launches in flight. */
void vgpu_engine_set_queue(struct vgpu_engine *e, uint32_t queue);
/* How many may wait, and whether a further job would be one too many. */
uint32_t vgpu_engine_queue(const struct vgpu_engine *e);
bool vgpu_engine_full(struct vgpu_engine *e);

/* Appends. Never fails; who pushes what a guest asked for asks vgpu_engine_full first. */
void vgpu_engine_push(struct vgpu_engine *e, struct vgpu_job *job);

/* Takes a job out that has not started: true, and it is the caller's again. */
bool vgpu_engine_remove(struct vgpu_engine *e, struct vgpu_job *job);

/* Whether an early job may be answered now: it has a place among the VGPU_ENGINE_EARLY_MAX, or has
 * started. When not, the descriptor becomes readable once it is worth asking again. */
bool vgpu_engine_admit(struct vgpu_engine *e, struct vgpu_job *job);

/* Moves every finished job to the end of `done`. */
void vgpu_engine_collect(struct vgpu_engine *e, struct vgpu_job_list *done);

/* Serves this channel from now on, until detach. The descriptors are the engine's. */
struct vgpu_attachment;
void vgpu_engine_attach(struct vgpu_engine *e, const struct vgpu_attachment *at);
void vgpu_engine_detach(struct vgpu_engine *e);
/* The answer to a WANT_EXTENT: whole, aligned, inside the window, and asked for. */
struct vgpu_worker_extent;
void vgpu_engine_extent(struct vgpu_engine *e, uint64_t seq,
                        const struct vgpu_worker_extent *extent);
/* What is to be said to the mediator, if there is something; the descriptor says when. */
struct vgpu_report;
bool vgpu_engine_report(struct vgpu_engine *e, struct vgpu_report *report);

/* Whether a job waits, or the channel has something to do under the lease. */
bool vgpu_engine_has_work(struct vgpu_engine *e);

/* The lease's gate moved: the thread must look. */
void vgpu_engine_wake(struct vgpu_engine *e);

/* The sticky error (0: none), and free device memory: of the session as of the last job that
 * changed it, and no more than its tenant has left now. */
CUresult vgpu_engine_sticky(const struct vgpu_engine *e);
uint64_t vgpu_engine_free_bytes(const struct vgpu_engine *e);

/* Whether VGPU_JOB_CALL may be pushed. */
bool vgpu_engine_has_driver(const struct vgpu_engine *e);

const char *vgpu_engine_backend_name(const struct vgpu_engine *e);

/* Frees a job that is the caller's. */
void vgpu_job_free(struct vgpu_job *job);

#endif
