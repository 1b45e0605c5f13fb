/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dispatcher: from a request's bytes to an answer, at once or later. It decodes, checks against
 * the session, makes jobs for the engine and turns finished jobs into answers. It knows nothing of
 * transports: whoever submits hands in a sink, and is told there.
 *
 * The control thread submits for the mailbox, and gets what comes later from vgpu_dispatch_collect
 * only, never from inside submit or drop. The engine thread submits for a channel, with the
 * functions that say so. A lock keeps the two apart; neither waits for the backend under it.
 */
#ifndef VGPU_WORKER_DISPATCH_H
#define VGPU_WORKER_DISPATCH_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "worker/answer.h"
#include "worker/engine.h"
#include "worker/job.h"
#include "worker/session.h"

/* Where a transport gets its answers. `tag` is what it gave to submit; `request` what the request
 * that it submits next is called. */
struct vgpu_sink {
    void (*answer)(struct vgpu_sink *sink, void *tag, const struct vgpu_answer *answer);
    vgpu_request_name request;
};

/* A staged image is up to 64 MiB: so many may wait in MODULE_LOADs, besides those in stages. */
#define VGPU_DISPATCH_STAGED_IMAGES VGPU_STAGE_COUNT

/* What CUDA calls that are not done may hold of staged bytes: the last one may go over it. */
#define VGPU_DISPATCH_STAGED_BYTES ((uint64_t)256 << 20)

struct vgpu_dispatcher {
    pthread_mutex_t lock; /* for all of it but the engine */
    struct vgpu_engine *engine;
    struct vgpu_device_info info;
    struct vgpu_session session;
    struct vgpu_job_list room; /* early jobs that wait for one of the 256 places, in order */
    unsigned staged_images;    /* held by MODULE_LOADs that are not done */
    uint64_t staged_bytes;     /* held by CUDA calls that are not done */
    /* Jobs that are done with. An allocator would give their pages back after each burst and have
     * them faulted in for the next, which costs more than all the rest of a call. */
    struct vgpu_job_list spare;
    unsigned spare_count;
};

/* Spare jobs kept. */
#define VGPU_DISPATCH_SPARE_JOBS VGPU_ENGINE_JOBS_MAX

/* A job as vgpu_job_init makes it; NULL: no memory. release_job in finish.c takes it back. */
struct vgpu_job *vgpu_dispatch_new_job(struct vgpu_dispatcher *d, enum vgpu_job_kind kind);

/* The engine must outlive the dispatcher's use, and must be destroyed before its last jobs' owner
 * forgets them: destroy the engine first, then the dispatcher. */
void vgpu_dispatch_init(struct vgpu_dispatcher *d, struct vgpu_engine *engine,
                        const struct vgpu_device_info *info, uint64_t session_id);
void vgpu_dispatch_destroy(struct vgpu_dispatcher *d);

/*
 * Takes one request; the bytes may change afterwards. Returns NULL when *answer is filled, else the
 * job that will end in sink->answer(tag), until then good for vgpu_dispatch_drop.
 */
struct vgpu_job *vgpu_dispatch_submit(struct vgpu_dispatcher *d, const uint8_t *bytes,
                                      size_t length, struct vgpu_sink *sink, void *tag,
                                      struct vgpu_answer *answer);

/* Nobody waits for this job any more (P12, P13): it is not started, or undone when it ends. The job
 * is not the caller's afterwards. */
void vgpu_dispatch_drop(struct vgpu_dispatcher *d, struct vgpu_job *job);

/* Takes back what an answer says it made. */
void vgpu_dispatch_undo(struct vgpu_dispatcher *d, const struct vgpu_undo *undo);

/* The engine's descriptor was readable: delivers what has come. */
void vgpu_dispatch_collect(struct vgpu_dispatcher *d);

/* ---- Engine thread, for a channel ---- */

/*
 * The same as vgpu_dispatch_submit, but for the bounds on what waits: who submits here takes
 * nothing else before this is answered. The job is in the engine's queue like any other; when it is
 * done, vgpu_dispatch_finish has sink->answer called.
 */
struct vgpu_job *vgpu_dispatch_submit_here(struct vgpu_dispatcher *d, const uint8_t *bytes,
                                           size_t length, struct vgpu_sink *sink, void *tag,
                                           struct vgpu_answer *answer);
void vgpu_dispatch_finish(struct vgpu_dispatcher *d, struct vgpu_job *job);

/* A piece of a stage from memory that others may write to: it is read once. Answers a CUresult and
 * says why not, as stage.h. */
CUresult vgpu_dispatch_write_stage(struct vgpu_dispatcher *d, uint32_t stage, uint32_t total_bytes,
                                   uint32_t offset, const uint8_t *bytes, uint32_t length,
                                   const char **why);
/* What a stage holds, used up (P31). */
CUresult vgpu_dispatch_take_stage(struct vgpu_dispatcher *d, uint32_t stage, struct vgpu_blob *out,
                                  const char **why);

#endif
