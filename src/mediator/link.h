/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection that speaks the link protocol, dialled by us or accepted from a local client: its
 * bytes, its time-outs, its end. It checks framing and order, hands whole messages to the broker,
 * and knows nothing of what they ask for.
 */
#ifndef VGPU_MEDIATOR_LINK_H
#define VGPU_MEDIATOR_LINK_H

#include "mediator/frame.h"
#include "mediator/mediator.h"

#define VGPU_LINK_UNSENT_MAX (64u << 10) /* L2 */

struct vgpu_endpoint;

enum vgpu_link_end {
    VGPU_LINK_LOST,      /* the other side closed */
    VGPU_LINK_VIOLATION, /* it broke the rules, or does not read, or does not greet */
    VGPU_LINK_REFUSED,
    VGPU_LINK_STOPPED, /* we are ending */
};

struct vgpu_link {
    struct vgpu_list node; /* in the mediator's links */
    struct vgpu_mediator *mediator;
    struct vgpu_source source;
    struct vgpu_timer timer; /* for HELLO; later for the end */
    struct vgpu_frame_order order;
    struct vgpu_endpoint *endpoint; /* that dialled it; NULL: a local client */
    uint32_t local_uid;
    struct vgpu_tenant *tenant; /* NULL: not attached */
    uint64_t attached_ns;
    uint32_t *greeting; /* counts those that have not said HELLO; NULL: it has */
    bool closing;
    enum vgpu_link_end end;
    char name[160];             /* the socket's path, or "local uid=N pid=N"; for logs */
    int fds[VGPU_LINK_MAX_FDS]; /* came with bytes whose message is not whole yet */
    uint32_t fd_count;
    size_t in_used;
    uint8_t in[2 * VGPU_FRAME_MAX];
    uint8_t *out; /* what could not be sent yet */
    size_t out_start, out_end, out_room;
};

/* Takes over fd, which is connected. NULL when there is no room: fd is closed then. */
struct vgpu_link *vgpu_link_create(struct vgpu_mediator *m, int fd, const char *name);

/* It counts in *count until it says HELLO or ends. */
void vgpu_link_greets(struct vgpu_link *link, uint32_t *count);

/* Send; what breaks L2 closes the link. They do nothing to one that is closing. */
void vgpu_link_send(struct vgpu_link *link, const uint8_t *bytes, size_t length);
/* With descriptors, which stay the caller's. Only while nothing waits to be sent: who does not take
 * its first messages is closed. */
void vgpu_link_send_fds(struct vgpu_link *link, const uint8_t *bytes, size_t length, const int *fds,
                        uint32_t fd_count);
void vgpu_link_respond(struct vgpu_link *link, uint64_t seq, uint32_t error_code,
                       const void *response, uint32_t length);
void vgpu_link_refuse(struct vgpu_link *link, uint32_t reason, const char *text);

/*
 * Closes the connection now; the broker and the endpoint hear of it, and the link is freed, at the
 * end of this round of the loop. reason goes to the log.
 */
void vgpu_link_close(struct vgpu_link *link, enum vgpu_link_end end, const char *reason);

#endif
