/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One channel as the mediator sees it (docs/ring.md G2 to G4, G6): what the guest asked for, which
 * session it is bound to, which worker has it, and what CHANNEL_CTRL reads. Pure: events in, what
 * to do out. It knows sessions and workers as numbers, and no message.
 *
 * Two things are kept apart. What the guest sees is free, active or fatal. Who may touch the memory
 * is the holder: a worker from the moment that ATTACH was sent to it until it said that it let go,
 * or was reaped. A holder that goes slowly makes the next one wait, whatever the guest sees.
 */
#ifndef VGPU_MEDIATOR_CHANNEL_H
#define VGPU_MEDIATOR_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "vgpu/ring.h"

enum vgpu_channel_hold {
    VGPU_HOLD_NONE,
    VGPU_HOLD_ATTACHING, /* ATTACH was sent, and has no answer yet */
    VGPU_HOLD_ATTACHED,  /* it serves the channel, or said that it is fatal */
    VGPU_HOLD_DETACHING, /* DETACH was sent, and has no answer yet */
    VGPU_HOLD_LEAVING,   /* its worker is ending: what it says counts no more */
};

/* A zeroed one is free. */
struct vgpu_channel {
    uint32_t state;  /* enum vgpu_channel_state: what was last told, or is to be told */
    uint32_t error;  /* enum vgpu_channel_error */
    uint32_t serial; /* of the last ENABLE or RESET */
    bool enabling;   /* the guest waits for it to be active */
    bool freeing;    /* the guest waits for it to be free */
    bool bound;
    uint64_t session; /* bound to */
    enum vgpu_channel_hold hold;
    uint64_t holder;  /* a worker */
    bool active_owed; /* the holder has not answered ATTACH */
    bool fatal_said;  /* by the holder, since ATTACH */
};

/* What is to be done now, in this order. */
enum vgpu_channel_deed {
    VGPU_CHANNEL_DETACH = 1 << 0, /* send DETACH to the holder */
    VGPU_CHANNEL_ATTACH = 1 << 1, /* the session's worker is to have it: then vgpu_channel_attaching
                                     or vgpu_channel_failed, now or later */
    VGPU_CHANNEL_TELL = 1 << 2,   /* send CHANNEL_STATE */
};

/* SESSION_CHANNEL. false: it is bound. That the session has no other is the caller's to know. */
bool vgpu_channel_bind(struct vgpu_channel *c, uint64_t session);
/* Nobody waits for the answer to that any more: as if it had not been, unless it was used. */
void vgpu_channel_unbind(struct vgpu_channel *c, uint64_t session);

/* CHANNEL_ENABLE and CHANNEL_RESET. Deeds, or -EPROTO: the serial is not the next one. */
int vgpu_channel_enable(struct vgpu_channel *c, uint32_t serial);
int vgpu_channel_reset(struct vgpu_channel *c, uint32_t serial);
/* The guest is new (RESET): it sees a free channel at once. All sessions have ended before. */
void vgpu_channel_renew(struct vgpu_channel *c);

/* ATTACH was sent to this worker. */
void vgpu_channel_attaching(struct vgpu_channel *c, uint64_t worker);
/* It could not be. Returns deeds. */
int vgpu_channel_failed(struct vgpu_channel *c, uint32_t error);

/* CHANNEL from the worker. Deeds, or -EPROTO with *why: it was not asked, or does not have it. */
int vgpu_channel_said(struct vgpu_channel *c, uint64_t worker, uint32_t state, uint32_t error,
                      const char **why);

/* The session ended, or lost its worker and has its channel still. One that was not enabled does
 * not become fatal: nobody has used it. Returns deeds. */
int vgpu_channel_session_lost(struct vgpu_channel *c, bool ended, uint32_t error);
/* The worker is ending, whoever wanted that; it holds what it holds. After session_lost. */
void vgpu_channel_worker_leaving(struct vgpu_channel *c, uint64_t worker);
/* It was reaped: neither it nor its GPU touches the channel any more. Returns deeds. */
int vgpu_channel_worker_gone(struct vgpu_channel *c, uint64_t worker);

/* Whether the guest waits for ATTACH, and nothing but the caller stands in the way. */
bool vgpu_channel_wants_attach(const struct vgpu_channel *c);

#endif
