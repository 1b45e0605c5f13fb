/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The broker: what a device's messages mean for its tenant. Who is attached, which session a
 * request is for, what CANCEL, RESET and the end of a link undo, and what a guest is told when a
 * worker dies. It knows no socket and no process; link.c and worker.c carry for it.
 */
#ifndef VGPU_MEDIATOR_BROKER_H
#define VGPU_MEDIATOR_BROKER_H

#include "mediator/mediator.h"
#include "vgpu/link.h"

/* From a link, in the order that frame.h lets through. */
void vgpu_broker_hello(struct vgpu_link *link, const struct vgpu_link_hello *hello);
void vgpu_broker_request(struct vgpu_tenant *tenant, uint64_t seq, uint32_t request_id,
                         const uint8_t *bytes, uint32_t length);
void vgpu_broker_cancel(struct vgpu_tenant *tenant, uint64_t seq);
void vgpu_broker_reset(struct vgpu_tenant *tenant, uint32_t generation);
void vgpu_broker_detach(struct vgpu_link *link);

/* Ends all sessions of an attached tenant, and whatever it waits for: with this error, or with
 * status 719 when it is 0. */
void vgpu_broker_expel(struct vgpu_tenant *tenant, uint32_t error_code);

/* Why a session gets no worker. */
struct vgpu_broker_refusal {
    uint32_t error_code; /* enum vgpu_error; 0: it is the status */
    uint32_t status;     /* CUresult */
    char text[128];
};

/* Makes sure that a session of an attached tenant has a worker, which may not be ready yet. */
bool vgpu_broker_start_worker(struct vgpu_tenant *tenant, struct vgpu_session *session,
                              struct vgpu_broker_refusal *refusal);

/* A worker's answer; one that nobody waits for is dropped and counted. */
void vgpu_broker_answer(struct vgpu_worker *worker, uint64_t seq, uint32_t error_code,
                        const uint8_t *response, uint32_t length);

/*
 * A worker that served its session will do so no more. status is what its session answers from now
 * on; 0: it never started, the next request may try again. Calls nothing of the lease layer.
 */
void vgpu_broker_worker_lost(struct vgpu_worker *worker, uint32_t status, const char *why);
void vgpu_broker_worker_ready(struct vgpu_worker *worker);

/* Frees a tenant that is detached and has no worker left. */
void vgpu_broker_release(struct vgpu_mediator *m, struct vgpu_tenant *tenant);

/* SIGUSR1: one line for each tenant. SIGHUP: priorities of the attached as the settings say. */
void vgpu_broker_log_status(struct vgpu_mediator *m);
void vgpu_broker_apply_settings(struct vgpu_mediator *m);

#endif
