/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One job on the backend, and what its failure means for the session: deferred (reported once,
 * P10) or sticky (reported for ever, P16). The engine thread's, but for the two atomics, which any
 * thread may read. Knows nothing of queues, leases or requests.
 */
#ifndef VGPU_WORKER_EXECUTE_H
#define VGPU_WORKER_EXECUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "worker/account.h"
#include "worker/calls.h"
#include "worker/inflight.h"
#include "worker/job.h"
#include "worker/request.h"
#include "worker/usage.h"

struct vgpu_executor {
    const struct vgpu_backend_ops *ops;
    struct vgpu_backend *backend;
    struct vgpu_account *account; /* what the tenant's sessions share; NULL: nothing */
    struct vgpu_calls calls;
    struct vgpu_inflight inflight;
    struct vgpu_tally tally;
    uint32_t contexts; /* as the account was told */
    CUresult deferred; /* the first that was not reported yet; 0: none */
    /* For logs and texts: what runs, or is answered, now; whose error is deferred, or was reported
     * last; who learned that the session is lost. */
    vgpu_request_name request, deferred_request, lost_request;
    uint32_t in_flight; /* launches that no synchronize has waited for, but the driver's, */
    uint64_t begin_ns;  /* the first of them at */

    _Atomic uint32_t sticky;     /* CUresult; 0: none. Never goes back to 0 */
    _Atomic uint64_t free_bytes; /* of device memory */
};

/* Before there is an engine thread. The backend and the account stay the caller's. */
void vgpu_executor_init(struct vgpu_executor *x, const struct vgpu_backend_ops *ops,
                        struct vgpu_backend *backend, struct vgpu_account *account);

/* After the engine thread; of the backend only fences are ended. */
void vgpu_executor_destroy(struct vgpu_executor *x);

/* Runs the job; sets its status and output. */
void vgpu_execute(struct vgpu_executor *x, struct vgpu_job *job);

/*
 * Runs a CUDA call by itself, as a record of a channel has it, and sees to what its failure means:
 * a posted one's is deferred. *earlier: the status is not this call's, which has not run, but the
 * deferred error that it hands out (P30).
 */
CUresult vgpu_execute_call(struct vgpu_executor *x, uint64_t context, struct vgpu_call_frame *frame,
                           bool *earlier);

/* The same for one that vgpu_calls_can_begin, up to its fence (vgpu_calls_begin). *begin_ns: for
 * vgpu_tally_end, once it is answered. */
CUresult vgpu_execute_begin(struct vgpu_executor *x, uint64_t context,
                            struct vgpu_call_frame *frame, struct vgpu_driver_fence **fence,
                            uint64_t *begin_ns, bool *earlier);

/* What became of something that went on by itself: sticky, or deferred when it is early, or its own
 * affair. Answers the status. */
CUresult vgpu_execute_note(struct vgpu_executor *x, CUresult status, bool early);

/* Waits until nothing is in flight: before a lease goes back. */
void vgpu_execute_drain(struct vgpu_executor *x);

#endif
