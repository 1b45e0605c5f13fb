/* SPDX-License-Identifier: MIT */
/*
 * A session's requests and stages over its channel: what request.c and module.c use where there is
 * one. Knows how a request is asked for there, and what becomes of one that nobody waits for any
 * more; nothing of what it says.
 */
#ifndef VGPU_GUEST_CARRY_H
#define VGPU_GUEST_CARRY_H

#include "guest/channel.h"
#include "guest/guest.h"

/*
 * Sends the request as a REQUEST record, and waits for the response until the deadline. There is no
 * "not yet" on a channel (G12). 0: an answer, as vgpu_execute_request gives it; *status is the
 * completion's, for an answer without bytes. -ESTALE: the channel is gone. -ETIMEDOUT: with
 * `kept_as` not 0 the answer can still be had by a call with the same number; with 0 it is dropped
 * when it comes.
 */
int vgpu_carry_request(struct vgpu_session *session, const void *bytes, uint32_t length,
                       uint32_t kept_as, uint64_t deadline_ns, struct vgpu_response *response,
                       uint32_t *status);
/*
 * The same in two halves, for who has many in flight: `response` is where the answer goes, and must
 * stay with the ticket. finish: after any result, -ETIMEDOUT too, both are the caller's again.
 */
int vgpu_carry_start(struct vgpu_session *session, const void *bytes, uint32_t length,
                     struct vgpu_response *response, struct vgpu_ticket *ticket);
int vgpu_carry_finish(struct vgpu_session *session, uint64_t deadline_ns,
                      struct vgpu_response *response, struct vgpu_ticket *ticket, uint32_t *status);
/* STAGE_COPY of everything. As vgpu_stage_fill, but for the number and for what a failure leaves:
 * *made says whether there may be a stage. */
int vgpu_carry_stage(struct vgpu_session *session, const char *what, uint32_t stage,
                     const void *bytes, uint32_t length, bool *made);
/*
 * After a channel said -ESTALE: what that means to the session. A CUresult when the host says that
 * the process which served the session died, or was ended (P16); else -ESTALE, with the channel's
 * text. From then on every call of the session answers the same.
 */
int vgpu_carry_lost(struct vgpu_session *session, const char *what);
/* Before the channel is closed. */
void vgpu_carry_forget(struct vgpu_session *session);

#endif
