/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket (docs/control.md K1 to K5): connections, who is on the other side, lines in,
 * answers out, limits. What an operation does is control_ops.c's. The loop's thread.
 */
#ifndef VGPU_MEDIATOR_CONTROL_H
#define VGPU_MEDIATOR_CONTROL_H

#include "common/text.h"
#include "mediator/control_request.h"
#include "mediator/mediator.h"

struct vgpu_control_client;

/* Listens on settings->control, whose lock is held. 0, or a negative errno with a text in why (512
 * bytes). */
int vgpu_control_listen(struct vgpu_mediator *m, char *why);
/* Stops listening, closes all connections and removes the socket. Does nothing without one. */
void vgpu_control_close(struct vgpu_mediator *m);

/* --- for operations --- */

struct vgpu_mediator *vgpu_control_mediator(const struct vgpu_control_client *client);
bool vgpu_control_may_change(const struct vgpu_control_client *client);
void vgpu_control_peer(const struct vgpu_control_client *client, int64_t *uid, int64_t *pid);
uint32_t vgpu_control_count(const struct vgpu_control_client *client); /* connections */

/* The answer to the request that the client waits for. result: a JSON object, whose bytes are
 * taken; a failed text is answered as no memory. */
void vgpu_control_answer(struct vgpu_control_client *client, struct vgpu_text *result);
void vgpu_control_fail(struct vgpu_control_client *client, const struct vgpu_change_error *error);
/* The answer comes later: until then no further request of this client is read. */
void vgpu_control_wait(struct vgpu_control_client *client);
/* From now on events above `since` are sent as they come. false: it follows already. */
bool vgpu_control_follow(struct vgpu_control_client *client, uint64_t since);

/* What a client that waits, and may go meanwhile, is known by. */
struct vgpu_control_ticket {
    struct vgpu_mediator *m;
    uint64_t client;
};
struct vgpu_control_ticket vgpu_control_ticket(const struct vgpu_control_client *client);
/* NULL: it has gone. */
struct vgpu_control_client *vgpu_control_find(const struct vgpu_control_ticket *ticket);

#endif
