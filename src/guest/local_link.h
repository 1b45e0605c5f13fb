/* SPDX-License-Identifier: MIT */
/*
 * One connection to a mediator: whole messages out of a stream of bytes and descriptors. Owns the
 * link's framing (docs/link.md, L1); knows nothing of what the messages say. Not for threads: the
 * transport's lock is held.
 */
#ifndef VGPU_GUEST_LOCAL_LINK_H
#define VGPU_GUEST_LOCAL_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/link.h"

struct vgpu_local_link {
    int fd;
    unsigned users;        /* who keeps it: the transport, and threads that sleep on it */
    bool lost;             /* given up: its last user closes it */
    bool reading, writing; /* a thread sleeps until it may: no other reads, or writes, meanwhile */
    /* What has come in and is not a whole message yet. */
    size_t length;
    uint8_t input[sizeof(struct vgpu_link_header) + VGPU_LINK_MAX_PAYLOAD];
    bool wants_fds; /* descriptors may come now; else they end the link at once */
    unsigned fd_count;
    int fds[2 * VGPU_LINK_MAX_FDS];
};

/* A whole message. The pointers lead into the link, until its drop. */
struct vgpu_local_message {
    struct vgpu_link_header header;
    const uint8_t *payload;
    int *fds; /* header.fd_count of them; one that is taken is set to -1 */
};

/* With a socket that is not connected yet; NULL with a text. */
struct vgpu_local_link *vgpu_local_link_create(void);
/* Lets go; the last user frees it. */
void vgpu_local_link_put(struct vgpu_local_link *link);

/* Reads what there is. 1: something; 0: nothing now; negative errno with a text: it is over. */
int vgpu_local_link_fill(struct vgpu_local_link *link);
/* 1: a message; 0: none that is whole; negative: the framing is broken. */
int vgpu_local_link_next(struct vgpu_local_link *link, struct vgpu_local_message *message);
/* Done with it: closes descriptors that were not taken. */
void vgpu_local_link_drop(struct vgpu_local_link *link, struct vgpu_local_message *message);

#endif
