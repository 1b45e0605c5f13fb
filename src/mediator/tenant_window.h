/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tenant's window: which of its sessions has which channel, what is said about that to its link
 * and to its workers, and the extents of its arena (docs/ring.md G2 to G6, docs/worker.md). Part of
 * the broker; the states of a channel are channel.c's, the book of extents is arena.c's.
 */
#ifndef VGPU_MEDIATOR_TENANT_WINDOW_H
#define VGPU_MEDIATOR_TENANT_WINDOW_H

#include "mediator/mediator.h"
#include "mediator/window.h"

/* --- a link's --- */

/* Whether the hello of a device speaks of a window that there can be. NULL, or why not. */
const char *vgpu_tenant_window_refusal(const struct vgpu_link_hello *hello);
/* A window for a tenant whose hello wishes for channels: to come from a device, made for a local
 * client. It may get none; the log says why then, and it has its mailbox all the same. */
void vgpu_tenant_window_open(struct vgpu_tenant *t, struct vgpu_link *link,
                             const struct vgpu_link_hello *hello);
/* Sends a local client its window, after WELCOME. */
void vgpu_tenant_window_send(struct vgpu_tenant *t);
/* Its link has gone, and its sessions. */
void vgpu_tenant_window_close(struct vgpu_tenant *t);

/* WINDOW: fds are this function's. NULL, or why it is a violation. */
const char *vgpu_tenant_window_take(struct vgpu_tenant *t, const struct vgpu_link_window *message,
                                    const int *fds, uint32_t fd_count);
/* CHANNEL_ENABLE and CHANNEL_RESET. NULL, or why it is a violation. */
const char *vgpu_tenant_channel_enable(struct vgpu_tenant *t, uint32_t channel, uint32_t serial);
const char *vgpu_tenant_channel_reset(struct vgpu_tenant *t, uint32_t channel, uint32_t serial);
/* RESET: before the sessions end, so that the new guest hears nothing of them. */
void vgpu_tenant_window_renew(struct vgpu_tenant *t);

/* --- a session's --- */

/* SESSION_CHANNEL (G2). 0, or a CUresult with a text in why (128 bytes). The window is complete. */
uint32_t vgpu_tenant_channel_bind(struct vgpu_tenant *t, const struct vgpu_session *s,
                                  uint32_t channel, char *why);
/* It was cancelled. */
void vgpu_tenant_channel_unbind(struct vgpu_tenant *t, const struct vgpu_session *s);
/* The session ended, or has no worker any more; error is what its channel shows. */
void vgpu_tenant_channel_lost(struct vgpu_tenant *t, const struct vgpu_session *s, bool ended,
                              uint32_t error);

/* --- a worker's --- */

/* Its session has ended or given it up; it runs still. */
void vgpu_tenant_worker_leaving(struct vgpu_worker *w);
/* It was reaped. May start other workers. */
void vgpu_tenant_worker_gone(struct vgpu_worker *w);

/* Its packets. NULL, or which rule was broken (W7). */
const char *vgpu_tenant_worker_channel(struct vgpu_worker *w, const uint8_t *payload);
const char *vgpu_tenant_worker_want(struct vgpu_worker *w, uint64_t seq, const uint8_t *payload);
const char *vgpu_tenant_worker_return(struct vgpu_worker *w, const uint8_t *payload);

/* " channels=... arena=..." for the line about a tenant's state; "" when it has no window. */
void vgpu_tenant_window_status(const struct vgpu_tenant *t, char *out, size_t size);

#endif
