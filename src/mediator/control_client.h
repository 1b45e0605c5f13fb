/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection of the control socket: lines in, answers out, and what bounds both
 * (docs/control.md K2 to K4). control.c says who gets one, and when it is its turn.
 */
#ifndef VGPU_MEDIATOR_CONTROL_CLIENT_H
#define VGPU_MEDIATOR_CONTROL_CLIENT_H

#include <sys/socket.h>

#include "mediator/control.h"

struct vgpu_control {
    struct vgpu_mediator *m;
    struct vgpu_source listener;
    struct vgpu_timer rest; /* the listener rests until then */
    struct vgpu_timer turn; /* requests that wait, and events that are followed */
    struct vgpu_list clients;
    struct vgpu_list ready;  /* those that have a whole request */
    uint32_t count, readers; /* connections; those that may only read */
    uint64_t last_number;
    bool has_group;
    gid_t group;
};

struct vgpu_control_client {
    struct vgpu_list node, ready;
    struct vgpu_control *control;
    uint64_t number; /* never used twice */
    struct vgpu_source source;
    struct vgpu_timer line_timer, take_timer;
    uid_t uid;
    pid_t pid;
    bool may_change;
    bool waits;   /* an answer is to come */
    bool ended;   /* it will send no more */
    bool closing; /* when everything is sent */
    bool has_id;
    uint64_t id; /* of the request that is being done */
    bool follows, follow_has_id;
    uint64_t follow_id, since;
    char *in; /* VGPU_CONTROL_LINE bytes, from the first on that came */
    size_t in_used, scanned;
    struct vgpu_text out;
    size_t sent;
};

/* Takes over fd. NULL: no memory, and fd is closed. */
struct vgpu_control_client *vgpu_control_client_create(struct vgpu_control *control, int fd,
                                                       uid_t uid, pid_t pid, bool may_change);
/* Its turn: does one request. It may be gone after that. */
void vgpu_control_client_turn(struct vgpu_control_client *client);
/* After anything: sends what can be sent, and decides what is to be waited for. It may be gone
 * after that. */
void vgpu_control_client_settle(struct vgpu_control_client *client);
void vgpu_control_client_drop(struct vgpu_control_client *client);

#endif
