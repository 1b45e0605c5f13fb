/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker as the mediator sees it: packets in, packets out, the lease (docs/worker.md). One
 * thread, which never waits for the backend: that is the engine's. Knows no opcode.
 */
#ifndef VGPU_WORKER_CONTROL_H
#define VGPU_WORKER_CONTROL_H

#include <stdint.h>

#include "backend/backend.h"

struct vgpu_account;
struct vgpu_worker;

struct vgpu_worker_config {
    int fd; /* SOCK_SEQPACKET to the mediator; stays the caller's; becomes non-blocking */
    uint64_t session_id;
    const struct vgpu_backend_ops *ops;
    struct vgpu_backend *backend; /* open; stays the caller's, must outlive the worker */
    struct vgpu_account *account; /* the same; NULL: none */
    uint32_t queue; /* requests that may wait, and launches in flight (W19); 0: as many as can be */
};

/* Starts the engine thread; says nothing to the mediator yet. Returns 0 or a negative errno. */
int vgpu_worker_create(const struct vgpu_worker_config *config, struct vgpu_worker **out);

/*
 * Sends READY and serves until the end: 0 when the mediator closed the socket (W6), -EPROTO when it
 * broke the rules (W7), -ENOBUFS when it stopped reading, another negative errno when the system
 * failed. Returns at once whatever a kernel is doing; a program exits then
 * without waiting for it.
 */
int vgpu_worker_run(struct vgpu_worker *w);

/* Ends the engine, which interrupts what runs, and frees everything. For tests: a program exits. */
void vgpu_worker_destroy(struct vgpu_worker *w);

#endif
