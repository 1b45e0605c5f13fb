/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The states of a channel; see channel.h. */
#include "mediator/channel.h"

#include <errno.h>

static int protocol(const char **why, const char *text)
{
    *why = text;
    return -EPROTO;
}

static int fatal(struct vgpu_channel *c, uint32_t error)
{
    c->enabling = false;
    c->state = VGPU_CHANNEL_FATAL;
    c->error = error;
    return VGPU_CHANNEL_TELL;
}

/* Nobody has it now: goes on with what the guest waits for. */
static int settle(struct vgpu_channel *c)
{
    int deeds = 0;
    if (c->hold != VGPU_HOLD_NONE)
        return 0;
    if (c->freeing) {
        c->freeing = false;
        c->state = VGPU_CHANNEL_FREE;
        c->error = VGPU_CHANNEL_OK;
        deeds = VGPU_CHANNEL_TELL;
    }
    if (!c->enabling)
        return deeds;
    /* What comes of the last thing that the guest asked for is told, not what was in between. */
    return c->bound ? VGPU_CHANNEL_ATTACH : fatal(c, VGPU_CHANNEL_NOT_BOUND);
}

static bool next_serial(struct vgpu_channel *c, uint32_t serial)
{
    if (serial != c->serial + 1) /* L18; it may wrap in a long life */
        return false;
    c->serial = serial;
    return true;
}

bool vgpu_channel_bind(struct vgpu_channel *c, uint64_t session)
{
    if (c->bound)
        return false;
    c->bound = true;
    c->session = session;
    return true;
}

void vgpu_channel_unbind(struct vgpu_channel *c, uint64_t session)
{
    if (c->bound && c->session == session && c->state == VGPU_CHANNEL_FREE && !c->enabling)
        c->bound = false;
}

int vgpu_channel_enable(struct vgpu_channel *c, uint32_t serial)
{
    if (!next_serial(c, serial))
        return -EPROTO;
    if (c->enabling)
        return 0; /* the answer to it will do for both */
    if (!c->freeing && c->state != VGPU_CHANNEL_FREE)
        return VGPU_CHANNEL_TELL;
    c->enabling = true;
    return settle(c);
}

int vgpu_channel_reset(struct vgpu_channel *c, uint32_t serial)
{
    if (!next_serial(c, serial))
        return -EPROTO;
    c->enabling = false;
    c->bound = false;
    c->freeing = true;
    if (c->hold == VGPU_HOLD_ATTACHING || c->hold == VGPU_HOLD_ATTACHED) {
        c->hold = VGPU_HOLD_DETACHING;
        return VGPU_CHANNEL_DETACH;
    }
    return settle(c);
}

void vgpu_channel_renew(struct vgpu_channel *c)
{
    c->enabling = c->freeing = c->bound = false;
    c->state = VGPU_CHANNEL_FREE;
    c->error = VGPU_CHANNEL_OK;
}

void vgpu_channel_attaching(struct vgpu_channel *c, uint64_t worker)
{
    c->hold = VGPU_HOLD_ATTACHING;
    c->holder = worker;
    c->active_owed = true;
    c->fatal_said = false;
}

int vgpu_channel_failed(struct vgpu_channel *c, uint32_t error)
{
    return fatal(c, error);
}

/* What a worker may find wrong with a channel. */
static bool is_workers_error(uint32_t error)
{
    return error == VGPU_CHANNEL_BAD_TAIL || error == VGPU_CHANNEL_BAD_RECORD ||
           error == VGPU_CHANNEL_BAD_HEAD || error == VGPU_CHANNEL_HOST;
}

static int said_active(struct vgpu_channel *c, uint32_t error, const char **why)
{
    if (!c->active_owed)
        return protocol(why, "CHANNEL says active, and nobody asked");
    if (error)
        return protocol(why, "CHANNEL says active, with an error");
    c->active_owed = false;
    if (c->hold == VGPU_HOLD_DETACHING)
        return 0; /* it crossed with DETACH */
    c->hold = VGPU_HOLD_ATTACHED;
    c->enabling = false;
    c->state = VGPU_CHANNEL_ACTIVE;
    c->error = VGPU_CHANNEL_OK;
    return VGPU_CHANNEL_TELL;
}

static int said_fatal(struct vgpu_channel *c, uint32_t error, const char **why)
{
    if (c->fatal_said)
        return protocol(why, "CHANNEL says fatal a second time");
    if (!is_workers_error(error))
        return protocol(why, "CHANNEL says fatal with an error that is not a worker's");
    c->fatal_said = true;
    c->active_owed = false;
    if (c->hold == VGPU_HOLD_DETACHING)
        return 0; /* it crossed with DETACH */
    c->hold = VGPU_HOLD_ATTACHED;
    return fatal(c, error);
}

int vgpu_channel_said(struct vgpu_channel *c, uint64_t worker, uint32_t state, uint32_t error,
                      const char **why)
{
    bool has = c->hold == VGPU_HOLD_ATTACHING || c->hold == VGPU_HOLD_ATTACHED ||
               c->hold == VGPU_HOLD_DETACHING;
    if (!has || c->holder != worker)
        return protocol(why, "CHANNEL about a channel that it does not have");
    switch (state) {
    case VGPU_CHANNEL_ACTIVE:
        return said_active(c, error, why);
    case VGPU_CHANNEL_FATAL:
        return said_fatal(c, error, why);
    case VGPU_CHANNEL_FREE:
        if (c->hold != VGPU_HOLD_DETACHING)
            return protocol(why, "CHANNEL says free, and nobody asked");
        if (error)
            return protocol(why, "CHANNEL says free, with an error");
        c->hold = VGPU_HOLD_NONE;
        return settle(c);
    }
    return protocol(why, "CHANNEL with an unknown state");
}

int vgpu_channel_session_lost(struct vgpu_channel *c, bool ended, uint32_t error)
{
    bool in_use = c->enabling || c->state == VGPU_CHANNEL_ACTIVE;
    if (ended)
        c->bound = false;
    if (c->freeing) { /* it was the next one's: the reset ends as it would have */
        c->enabling = false;
        return 0;
    }
    return in_use ? fatal(c, error) : 0;
}

void vgpu_channel_worker_leaving(struct vgpu_channel *c, uint64_t worker)
{
    if (c->hold != VGPU_HOLD_NONE && c->holder == worker)
        c->hold = VGPU_HOLD_LEAVING;
}

int vgpu_channel_worker_gone(struct vgpu_channel *c, uint64_t worker)
{
    if (c->hold == VGPU_HOLD_NONE || c->holder != worker)
        return 0;
    c->hold = VGPU_HOLD_NONE;
    return settle(c);
}

bool vgpu_channel_wants_attach(const struct vgpu_channel *c)
{
    return c->enabling && c->bound && c->hold == VGPU_HOLD_NONE;
}
