/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker processes: starting, talking to, ending and reaping them (docs/worker.md). It checks every
 * packet and ends who breaks the rules; it knows nothing of requests but their number.
 */
#ifndef VGPU_MEDIATOR_WORKER_H
#define VGPU_MEDIATOR_WORKER_H

#include "mediator/arena.h"
#include "mediator/mediator.h"
#include "mediator/stats.h"
#include "mediator/voice.h"

struct vgpu_worker {
    struct vgpu_list node; /* in the mediator's workers */
    struct vgpu_mediator *mediator;
    struct vgpu_tenant *tenant;
    struct vgpu_seat *seat;       /* of the tenant: where it was started */
    struct vgpu_session *session; /* NULL: nobody waits for it, it is ending */
    uint64_t id;                  /* never used twice */
    uint64_t session_id;          /* for logs */
    pid_t pid;
    struct vgpu_source source;   /* fd -1: closed */
    struct vgpu_voice voice;     /* its stderr */
    uint32_t slot;               /* in its tenant's account */
    struct vgpu_stats_seen seen; /* of what it says that it did */
    bool ready;
    bool killed;
    bool stuck;         /* it does not die */
    bool fault;         /* one of its was counted (K31) */
    bool gone;          /* reaped: its pid is no longer its own */
    uint64_t pending;   /* the request whose answer is owed, 0: none */
    uint64_t asked_ns;  /* since when it is owed */
    uint64_t silent_ns; /* waited for answers that were cancelled, since it last said anything */
    struct vgpu_timer timer; /* for READY, an answer, its end: whichever is owed */
    struct vgpu_lease_member lease;
    struct vgpu_window *window; /* that it was given part of; NULL: of none */
    struct vgpu_arena_holder extents;
    bool channel_owed; /* the answer to ATTACH or DETACH */
    struct vgpu_timer channel_timer;
};

/*
 * Starts one for a session of the tenant. 0 or a negative errno with a text in why (128 bytes).
 */
int vgpu_worker_start(struct vgpu_mediator *m, struct vgpu_tenant *tenant, uint64_t session_id,
                      struct vgpu_worker **out, char *why);

/* 0, or -EAGAIN: it does not read, nothing was sent. */
int vgpu_worker_request(struct vgpu_worker *worker, uint64_t seq, uint32_t request_id,
                        const uint8_t *bytes, uint32_t length);
void vgpu_worker_cancel(struct vgpu_worker *worker, uint64_t seq);

/* Any other packet, with descriptors that stay the caller's. One that does not read is killed. */
void vgpu_worker_send(struct vgpu_worker *worker, uint32_t type, uint64_t seq, const void *payload,
                      uint32_t length, const int *fds, uint32_t fd_count);
/* It owes the answer to an ATTACH or DETACH, from now on (again), or does so no more. */
void vgpu_worker_owes_channel(struct vgpu_worker *worker, bool owes);

/* Its session ends: closes the socket, which ends the process (W6); kills it if it does not. */
void vgpu_worker_end(struct vgpu_worker *worker);

/* SIGKILL, now; its session answers `status` from now on. reason goes to the log and the guest. */
void vgpu_worker_kill(struct vgpu_worker *worker, uint32_t status, const char *reason);

/* After SIGCHLD: takes leave of all that are gone. */
void vgpu_worker_reap(struct vgpu_mediator *m);

extern const struct vgpu_lease_ops vgpu_worker_lease_ops;

#endif
