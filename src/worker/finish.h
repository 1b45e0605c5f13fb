/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dispatcher's way back: answers that both halves of it make. Private to dispatch.c and
 * finish.c. */
#ifndef VGPU_WORKER_FINISH_H
#define VGPU_WORKER_FINISH_H

#include "worker/answer.h"
#include "worker/job.h"

/* P16. */
void vgpu_answer_sticky(struct vgpu_answer *a, bool named, CUresult sticky);

/* P10, P19: the answer to a job that is queued. */
void vgpu_answer_early(struct vgpu_answer *a, const struct vgpu_job *job);

#endif
