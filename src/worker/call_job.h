/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dispatcher's part for the CUDA driver calls: from a decoded call to its job, and from the job
 * to its answer. Private to the dispatcher (dispatch.h); the control thread's. */
#ifndef VGPU_WORKER_CALL_JOB_H
#define VGPU_WORKER_CALL_JOB_H

#include "worker/answer.h"
#include "worker/decode.h"
#include "worker/dispatch.h"
#include "worker/job.h"

/* The job for a call that was understood, with its stage's bytes; NULL: the answer says why not. */
struct vgpu_job *vgpu_call_job_make(struct vgpu_dispatcher *d, const struct vgpu_call *call,
                                    struct vgpu_answer *answer);

/* The answer of a call that succeeded, and how it is taken back (P32). */
void vgpu_call_job_answer(const struct vgpu_job *job, struct vgpu_answer *answer);
/* Of one that failed by itself. */
void vgpu_call_job_answer_failure(const struct vgpu_job *job, struct vgpu_answer *answer);

/* A job that takes back what an undo record of a call says; NULL: no memory. */
struct vgpu_job *vgpu_call_job_undo(struct vgpu_dispatcher *d, const struct vgpu_undo *undo);

#endif
