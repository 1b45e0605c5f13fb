/* SPDX-License-Identifier: MIT */
/*
 * Channels: who owns one, and what it goes through between the guest's words and the mediator's
 * (R20 to R26, docs/ring.md G1 to G4). It refuses to know what is in the window, and how a message
 * is sent.
 *
 *      IDLE --1--> ENABLING --active--> ENABLED --fatal--> BROKEN
 *       ^              |                   |                  |
 *       |              0                   0                  0     (written to CTRL, or OWNER)
 *       |              v                   v                  v
 *       +---free---  RESETTING  <----------+------------------+
 *
 * A token is taken in IDLE only, and IDLE is reached by the mediator's word alone, which it gives
 * when no worker touches the channel: so no two owners overlap. The exceptions are those in which
 * nobody of before is left to overlap with: the mediator is lost, or the whole guest is new, and
 * then the mediator does not enable a channel before the worker that had it let go (L18).
 */
#include "internal.h"

static uint32_t channel_of(uint32_t offset)
{
    return (offset - VGPU_REG_CHANNEL_OWNER(0)) / (4u * VGPU_DEVICE_CHANNEL_WORDS);
}

bool vgpu_device_is_channel(const struct vgpu_device *dev, uint32_t offset)
{
    return offset >= VGPU_REG_CHANNEL_OWNER(0) && channel_of(offset) < dev->config.channel_count;
}

uint32_t vgpu_device_channel_read(const struct vgpu_device *dev, uint32_t offset)
{
    uint32_t n = channel_of(offset);
    const struct vgpu_device_channel *ch = &dev->channels[n];
    if (offset == VGPU_REG_CHANNEL_OWNER(n))
        return ch->owner;
    if (offset == VGPU_REG_CHANNEL_CTRL(n))
        return ch->shown;
    if (offset == VGPU_REG_CHANNEL_ERROR(n))
        return ch->error;
    return 0; /* CHANNEL_DOORBELL */
}

static bool has_mediator(const struct vgpu_device *dev)
{
    return vgpu_device_attached(dev) && dev->link.channels;
}

static void become_idle(struct vgpu_device_channel *ch)
{
    ch->phase = VGPU_DEVICE_CHANNEL_IDLE;
    ch->shown = VGPU_CHANNEL_FREE;
    ch->error = VGPU_CHANNEL_OK;
}

static void become_broken(struct vgpu_device *dev, uint32_t n, uint32_t error)
{
    struct vgpu_device_channel *ch = &dev->channels[n];
    ch->phase = VGPU_DEVICE_CHANNEL_BROKEN;
    ch->shown = VGPU_CHANNEL_FATAL;
    ch->error = error;
    dev->stats.channels_lost++;
    vgpu_device_emit(dev, (struct vgpu_device_event){
                              .kind = VGPU_DEVICE_CHANNEL_FATAL, .code = n, .value = error});
}

/* R22 */
static void enable(struct vgpu_device *dev, uint32_t n, uint64_t now_ns)
{
    struct vgpu_device_channel *ch = &dev->channels[n];
    if (ch->owner == 0) {
        /* Or a process that slept through a reset would make a channel busy that nobody has. */
        vgpu_device_guest_error(dev, "a channel without an owner is enabled",
                                VGPU_REG_CHANNEL_CTRL(n), 1, now_ns);
        return;
    }
    if (ch->phase != VGPU_DEVICE_CHANNEL_IDLE)
        return;
    if (!has_mediator(dev)) {
        become_broken(dev, n, VGPU_CHANNEL_HOST);
        return;
    }
    ch->phase = VGPU_DEVICE_CHANNEL_ENABLING;
    ch->error = VGPU_CHANNEL_OK;
    dev->stats.channel_enables++;
    vgpu_device_link_channel_enable(dev, n);
    vgpu_device_link_flush(dev, now_ns);
}

/* R23 */
static void reset(struct vgpu_device *dev, uint32_t n, uint64_t now_ns)
{
    struct vgpu_device_channel *ch = &dev->channels[n];
    if (!has_mediator(dev)) {
        become_idle(ch);
        return;
    }
    if (ch->phase == VGPU_DEVICE_CHANNEL_ENABLING)
        ch->shown = VGPU_CHANNEL_FATAL; /* not 0: a worker may be at work on it already */
    /* A free channel stays free, and yet the mediator hears of it: a session may be bound to it. */
    if (ch->phase != VGPU_DEVICE_CHANNEL_IDLE)
        ch->phase = VGPU_DEVICE_CHANNEL_RESETTING;
    dev->stats.channel_resets++;
    vgpu_device_link_channel_reset(dev, n);
    vgpu_device_link_flush(dev, now_ns);
}

/* R21 */
static void write_owner(struct vgpu_device *dev, uint32_t n, uint32_t token, uint64_t now_ns)
{
    struct vgpu_device_channel *ch = &dev->channels[n];
    if (token == 0) {
        /* First: a flush in reset may end in a lost link, and none of that concerns the owner. */
        ch->owner = 0;
        reset(dev, n, now_ns);
    } else if (ch->owner == 0 && ch->phase == VGPU_DEVICE_CHANNEL_IDLE) {
        ch->owner = token;
        dev->stats.claims++;
    } else {
        dev->stats.claims_refused++; /* no guest error: two processes met */
    }
}

void vgpu_device_channel_write(struct vgpu_device *dev, uint32_t offset, uint32_t value,
                               uint64_t now_ns)
{
    uint32_t n = channel_of(offset);
    if (offset == VGPU_REG_CHANNEL_OWNER(n)) {
        write_owner(dev, n, value, now_ns);
    } else if (offset == VGPU_REG_CHANNEL_CTRL(n) && value <= 1) {
        if (value)
            enable(dev, n, now_ns);
        else
            reset(dev, n, now_ns);
    } else if (offset == VGPU_REG_CHANNEL_CTRL(n)) {
        vgpu_device_guest_error(dev, "CHANNEL_CTRL takes 0 and 1", offset, value, now_ns);
    } else if (offset == VGPU_REG_CHANNEL_DOORBELL(n)) {
        if (dev->link.window_opened && dev->ops->ring_doorbell)
            dev->ops->ring_doorbell(dev->opaque, n);
    } else {
        vgpu_device_guest_error(dev, "write to CHANNEL_ERROR, which is read-only", offset, value,
                                now_ns);
    }
}

/* What is said has come true; false: it does not fit what the channel is going through. */
static bool obey(struct vgpu_device *dev, uint32_t n, uint32_t state, uint32_t error)
{
    struct vgpu_device_channel *ch = &dev->channels[n];
    bool enabling = ch->phase == VGPU_DEVICE_CHANNEL_ENABLING;
    if (state == VGPU_CHANNEL_ACTIVE && enabling) {
        ch->phase = VGPU_DEVICE_CHANNEL_ENABLED;
        ch->shown = VGPU_CHANNEL_ACTIVE;
        vgpu_device_emit(dev,
                         (struct vgpu_device_event){.kind = VGPU_DEVICE_CHANNEL_ACTIVE, .code = n});
        return true;
    }
    if (state == VGPU_CHANNEL_FATAL && (enabling || ch->phase == VGPU_DEVICE_CHANNEL_ENABLED)) {
        become_broken(dev, n, error);
        return true;
    }
    if (state == VGPU_CHANNEL_FREE && ch->phase == VGPU_DEVICE_CHANNEL_RESETTING) {
        become_idle(ch);
        vgpu_device_emit(dev,
                         (struct vgpu_device_event){.kind = VGPU_DEVICE_CHANNEL_FREE, .code = n});
        return true;
    }
    /* The answer to a reset of a free channel. */
    return state == VGPU_CHANNEL_FREE && ch->phase == VGPU_DEVICE_CHANNEL_IDLE;
}

const char *vgpu_device_channel_state(struct vgpu_device *dev, const struct vgpu_link_channel *said,
                                      uint64_t *value)
{
    *value = said->channel;
    if (said->channel >= dev->config.channel_count)
        return "there is no such channel";
    struct vgpu_device_channel *ch = &dev->channels[said->channel];
    *value = said->state;
    if (said->state > VGPU_CHANNEL_FATAL)
        return "the state of a channel is out of range";
    *value = said->error;
    if (said->error > VGPU_CHANNEL_HOST)
        return "the error of a channel is out of range";
    if ((said->error != VGPU_CHANNEL_OK) != (said->state == VGPU_CHANNEL_FATAL))
        return "a channel has an error and is not fatal, or is fatal without one";
    *value = said->serial;
    if ((int32_t)(said->serial - ch->serial) > 0)
        return "the serial of a channel is of a message that was never sent";
    /* L19: what crossed with a newer word of the guest's says nothing any more. */
    if (said->serial != ch->serial || ch->reset_waits || ch->enable_waits ||
        !obey(dev, said->channel, said->state, said->error))
        dev->stats.states_dropped++;
    return NULL;
}

void vgpu_device_channels_reset(struct vgpu_device *dev)
{
    for (uint32_t n = 0; n < dev->config.channel_count; n++) {
        dev->channels[n].owner = 0;
        become_idle(&dev->channels[n]);
    }
}

void vgpu_device_channels_lost(struct vgpu_device *dev)
{
    for (uint32_t n = 0; n < dev->config.channel_count; n++) {
        struct vgpu_device_channel *ch = &dev->channels[n];
        become_idle(ch);
        ch->serial = 0;
        ch->reset_waits = 0;
        ch->enable_waits = 0;
    }
}
