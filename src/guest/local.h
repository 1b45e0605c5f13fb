/* SPDX-License-Identifier: MIT */
/*
 * What transport_local.c (states, requests) and local_channel.c (channels) share: the transport
 * over a mediator's socket.
 *
 * Threads: `lock` guards everything. It is let go while a thread sleeps on the socket, and only one
 * thread does so to read: it takes what comes in for all, and wakes them.
 */
#ifndef VGPU_GUEST_LOCAL_H
#define VGPU_GUEST_LOCAL_H

#include <pthread.h>
#include <sys/un.h>

#include "guest/local_link.h"
#include "guest/local_window.h"
#include "guest/transport.h"

struct vgpu_local {
    struct vgpu_transport base;
    struct sockaddr_un peer;
    struct vgpu_link_hello hello;

    pthread_mutex_t lock;         /* guards what follows: registers may be read by any thread */
    pthread_cond_t moved;         /* something came in, or the link may be read or written again */
    struct vgpu_local_link *link; /* NULL: not connected */
    uint64_t connection;          /* counts links, so that a new one is not taken for the old */
    bool attached;
    uint32_t generation;
    struct vgpu_link_welcome shown;   /* what the registers show while attached */
    struct vgpu_local_window *window; /* of this connection; NULL: none came yet */
    uint64_t last_seq;
    uint64_t outstanding; /* seq of the request in flight, 0: none, or it has completed */
    uint32_t status;      /* STATUS of that request */
    struct vgpu_response response;
};

/* All of these want the lock, and may let it go for a time. */

/* Waits until something came in, by whoever read it, and takes it. -ETIMEDOUT, or another negative
 * errno: the link is gone. The caller looks whether it was what it waits for. */
int vgpu_local_wait_input(struct vgpu_local *local, uint64_t deadline_ns);
/* Takes what has come in, unless another thread is about to. */
void vgpu_local_refresh(struct vgpu_local *local);
/*
 * All of a message. -ETIMEDOUT: the peer took none of it, and the link is as good as before. After
 * any other error, also a peer that takes one half, the link is gone.
 */
int vgpu_local_send(struct vgpu_local *local, uint16_t type, uint64_t seq, const void *head,
                    size_t head_length, const void *body, size_t body_length, uint64_t deadline_ns);

/* local_channel.c */
int vgpu_local_claim(struct vgpu_transport *transport, struct vgpu_channel_port *port);
int vgpu_local_enable(struct vgpu_channel_port *port, uint64_t deadline_ns);
void vgpu_local_ring(struct vgpu_channel_port *port);
int vgpu_local_state(struct vgpu_channel_port *port, uint32_t *state, uint32_t *error,
                     uint32_t *generation);
void vgpu_local_release(struct vgpu_channel_port *port, bool forked);

#endif
