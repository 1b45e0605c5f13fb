/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One piece of work for the backend, and its result. The dispatcher makes it and gets it back; in
 * between it is the engine's and nobody else may look at it (but for vgpu_engine_remove). Knows
 * nothing of handles, stages or requests: those were looked up before.
 */
#ifndef VGPU_WORKER_JOB_H
#define VGPU_WORKER_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>

#include "backend/backend.h"
#include "vgpu/protocol.h"
#include "vgpu_cuda_calls.h"
#include "worker/answer.h"
#include "worker/blob.h"
#include "worker/request.h"

enum vgpu_job_kind {
    VGPU_JOB_LAUNCH,
    VGPU_JOB_ALLOC,
    VGPU_JOB_FREE,
    VGPU_JOB_HTOD,
    VGPU_JOB_DTOH,
    VGPU_JOB_DTOD,
    VGPU_JOB_SYNCHRONIZE,
    VGPU_JOB_MODULE_LOAD,
    VGPU_JOB_MODULE_UNLOAD,
    VGPU_JOB_MODULE_KERNEL,
    VGPU_JOB_MODULE_GLOBAL,
    VGPU_JOB_RESTORE_ERROR, /* a reported deferred error that reached nobody */
    VGPU_JOB_CALL,          /* a CUDA driver call */
    VGPU_JOB_CALL_UNDO,     /* what a call made under a name that nobody wants */
};

/* What a kernel is, as far as a launch has to be checked against it; a copy, so that the session
 * may keep it whatever becomes of the module. */
struct vgpu_kernel_limits {
    uint32_t param_count;
    uint32_t param_bytes;
    uint32_t max_threads_per_block;
    uint32_t static_shared_bytes;
    uint32_t local_bytes;
};

TAILQ_HEAD(vgpu_job_list, vgpu_job);

struct vgpu_sink;

struct vgpu_job {
    TAILQ_ENTRY(vgpu_job) link;
    enum vgpu_job_kind kind;

    /* The dispatcher's. */
    struct vgpu_sink *sink; /* who waits; NULL: nobody */
    void *tag;
    vgpu_request_name request;  /* for logs */
    uint64_t staged_bytes;      /* CALL: what its stage held, for the bounds on all of them */
    TAILQ_ENTRY(vgpu_job) room; /* early jobs that wait to be admitted, */
    bool waits_for_room;        /* if it is one of them */
    bool named;                 /* the request named its session (P8) */
    bool async;                 /* answered bare (P10) */
    bool staged;                /* holds a stage's image */
    bool dropped;               /* nobody wants the answer: undo at the end */
    bool here;                  /* a channel's: the engine thread finishes it */

    /* The engine's. */
    bool early;    /* answered before it runs: its failure is deferred (P10, P19) */
    bool queued;   /* under the engine's lock */
    bool admitted; /* one of the 256 that were answered and wait; under the engine's lock */

    /* Input, by kind. */
    struct vgpu_launch launch;          /* LAUNCH; params points into data or blob */
    struct vgpu_backend_module *module; /* MODULE_* */
    uint64_t module_handle;             /* MODULE_*: for the dispatcher */
    uint64_t address, source;           /* FREE; copies: destination, source */
    uint64_t size;                      /* ALLOC, copies */
    struct vgpu_blob blob; /* MODULE_LOAD: the image; LAUNCH, CALL: what a stage held */

    /* CALL. The slots stand at the beginning of data, in host order, what follows them behind. Its
     * answer, or the text of its failure, is in `answer`. */
    const struct vgpu_call_info *info;
    uint64_t context;
    /* CALL: out, what it made. CALL_UNDO: in. */
    uint64_t made_name, made_serial;
    enum vgpu_kind made_kind;

    uint32_t first_param; /* MODULE_KERNEL: in */

    /* Output. status is set when the job comes back. */
    CUresult status;
    CUresult deferred_reported; /* SYNCHRONIZE, DTOH: the deferred error that is in status */
    struct vgpu_backend_kernel *kernel;
    struct vgpu_kernel_limits limits;

    /* In: name (with NUL), bytes to the device, inline arguments, an image. Out: bytes to the
     * host, parameter layouts, a text for a person when status is not 0. */
    uint32_t data_length;
    uint32_t answer_length;
    /* What is not used of the two is not written either: a job costs what its request does. */
    _Alignas(8) uint8_t data[VGPU_MAILBOX_BYTES + 8];
    _Alignas(8) uint8_t answer[VGPU_ANSWER_DATA_BYTES + 8]; /* CALL */
};

/* Makes a job that is all zero but for `data` and `answer`, which stay as they are. */
static inline void vgpu_job_init(struct vgpu_job *job, enum vgpu_job_kind kind)
{
    memset(job, 0, offsetof(struct vgpu_job, data));
    job->kind = kind;
}

#endif
