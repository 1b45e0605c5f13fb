/* SPDX-License-Identifier: MIT */
/*
 * Channels of a local client (docs/ring.md, docs/link.md): the window is this process's own, so
 * claiming one is a matter of its threads only. States come by the link's CHANNEL_STATE.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "guest/guest.h"
#include "guest/local.h"
#include "ring/ring.h"

#define WINDOW_TIMEOUT_MS 2000u /* for a window that was promised, */
#define FREE_TIMEOUT_MS   500u  /* for a channel that is being given back, */
#define RESET_TIMEOUT_MS  250u  /* and for a link that takes nothing */

static struct vgpu_local *local_of(struct vgpu_transport *transport)
{
    return (struct vgpu_local *)transport;
}

/* The port's channel, or NULL when its connection is over: its memory is there, and nobody behind
 * it. */
static struct vgpu_local_channel *channel_of(struct vgpu_local *local,
                                             const struct vgpu_channel_port *port)
{
    return local->window == port->own ? &local->window->channel[port->number] : NULL;
}

static int fail_over(void)
{
    return vgpu_fail(-ESTALE, "the connection to the mediator ended, and the window with it: close "
                              "the session and open another");
}

/* Sends ENABLE or RESET: from here on only a STATE that knows of it counts. */
static int tell(struct vgpu_local *local, struct vgpu_local_channel *channel, uint32_t number,
                uint16_t type, uint64_t deadline_ns)
{
    channel->serial++;
    channel->answered = false;
    struct vgpu_link_channel message = {.channel = number, .serial = channel->serial};
    return vgpu_local_send(local, type, 0, &message, sizeof(message), NULL, 0, deadline_ns);
}

/* A window, once it is there. */
static int wait_window(struct vgpu_local *local)
{
    uint64_t deadline_ns = vgpu_deadline_ns(WINDOW_TIMEOUT_MS);
    if (local->hello.window_bytes == 0)
        return vgpu_fail(-EOPNOTSUPP, "no window was asked for (VGPU_WINDOW)");
    if (!local->attached)
        return vgpu_fail(-EOPNOTSUPP, "there is no mediator now");
    if (!(local->shown.features & VGPU_LINK_FEATURE_CHANNELS))
        return vgpu_fail(-EOPNOTSUPP, "the mediator gives no windows: it is of an older version, "
                                      "or is told not to");
    while (!local->window || !vgpu_local_window_complete(local->window)) {
        int err = vgpu_local_wait_input(local, deadline_ns);
        if (err < 0)
            return vgpu_fail(-EOPNOTSUPP, "the mediator promised a window and gave none");
    }
    if (!local->window->memory)
        return vgpu_fail(-EOPNOTSUPP,
                         "the window of %" PRIu64 " MiB cannot be mapped: the "
                         "process has no room for it (VGPU_WINDOW=BYTES asks for "
                         "another size)",
                         local->window->bytes >> 20);
    return 0;
}

/* A free one; UINT32_MAX: none. *leaving: one is being given back. */
static uint32_t find_free(const struct vgpu_local_window *window, bool *leaving)
{
    *leaving = false;
    for (uint32_t i = 0; i < window->channel_count; i++) {
        const struct vgpu_local_channel *channel = &window->channel[i];
        if (channel->claimed)
            continue;
        if (channel->serial == 0 || (channel->answered && channel->state == VGPU_CHANNEL_FREE))
            return i;
        *leaving = true;
    }
    return UINT32_MAX;
}

int vgpu_local_claim(struct vgpu_transport *transport, struct vgpu_channel_port *port)
{
    struct vgpu_local *local = local_of(transport);
    pthread_mutex_lock(&local->lock);
    vgpu_local_refresh(local);
    int err = wait_window(local);
    uint64_t deadline_ns = vgpu_deadline_ns(FREE_TIMEOUT_MS);
    uint32_t number = UINT32_MAX;
    while (err == 0 && number == UINT32_MAX) {
        bool leaving;
        if (!local->window) {
            err = fail_over();
            break;
        }
        number = find_free(local->window, &leaving);
        if (number != UINT32_MAX)
            break;
        if (!leaving || vgpu_local_wait_input(local, deadline_ns) == -ETIMEDOUT)
            err =
                vgpu_fail(-EBUSY, "all %" PRIu32 " channels are taken by sessions of this process",
                          local->window ? local->window->channel_count : 0);
    }
    if (err == 0) {
        struct vgpu_local_window *window = local->window;
        uint64_t count;
        window->channel[number].claimed = true;
        window->users++;
        *port = (struct vgpu_channel_port){
            .transport = transport,
            .window = window->memory,
            .window_bytes = window->bytes,
            .number = number,
            .channel_count = window->channel_count,
            .interrupt_fd = window->channel[number].interrupt,
            .own = window,
        };
        /* What it was signalled for is over. */
        ssize_t n = read(port->interrupt_fd, &count, sizeof(count));
        (void)n;
    }
    pthread_mutex_unlock(&local->lock);
    return err;
}

int vgpu_local_enable(struct vgpu_channel_port *port, uint64_t deadline_ns)
{
    struct vgpu_local *local = local_of(port->transport);
    pthread_mutex_lock(&local->lock);
    struct vgpu_local_channel *channel = channel_of(local, port);
    int err = channel ? tell(local, channel, port->number, VGPU_LINK_CHANNEL_ENABLE, deadline_ns)
                      : fail_over();
    while (err == 0) {
        channel = channel_of(local, port);
        if (!channel)
            err = fail_over();
        else if (channel->answered && channel->state == VGPU_CHANNEL_ACTIVE)
            break;
        else if (channel->answered && channel->state == VGPU_CHANNEL_FATAL)
            err = vgpu_fail(-EIO, "the mediator cannot enable channel %" PRIu32 ": %s",
                            port->number, vgpu_channel_error_text(channel->error));
        else if (vgpu_local_wait_input(local, deadline_ns) == -ETIMEDOUT)
            err = vgpu_fail(-ETIMEDOUT, "the mediator did not enable channel %" PRIu32 " in time",
                            port->number);
    }
    pthread_mutex_unlock(&local->lock);
    return err;
}

void vgpu_local_ring(struct vgpu_channel_port *port)
{
    const struct vgpu_local_window *window = port->own;
    uint64_t one = 1;
    /* It does not wait, and when it is full the worker is woken all the same. */
    ssize_t n = write(window->channel[port->number].doorbell, &one, sizeof(one));
    (void)n;
}

int vgpu_local_state(struct vgpu_channel_port *port, uint32_t *state, uint32_t *error,
                     uint32_t *generation)
{
    struct vgpu_local *local = local_of(port->transport);
    pthread_mutex_lock(&local->lock);
    vgpu_local_refresh(local);
    const struct vgpu_local_channel *channel = channel_of(local, port);
    *state = channel ? channel->state : (uint32_t)VGPU_CHANNEL_FREE;
    *error = channel ? channel->error : 0;
    *generation = local->generation;
    pthread_mutex_unlock(&local->lock);
    return 0;
}

void vgpu_local_release(struct vgpu_channel_port *port, bool forked)
{
    struct vgpu_local *local = local_of(port->transport);
    if (forked) { /* the lock may be held by a thread that is not there */
        vgpu_local_window_put(port->own, true);
        return;
    }
    pthread_mutex_lock(&local->lock);
    struct vgpu_local_channel *channel = channel_of(local, port);
    if (channel) {
        /* Nobody waits for the answer but the next who claims it. */
        (void)tell(local, channel, port->number, VGPU_LINK_CHANNEL_RESET,
                   vgpu_deadline_ns(RESET_TIMEOUT_MS));
        if ((channel = channel_of(local, port)))
            channel->claimed = false;
    }
    vgpu_local_window_put(port->own, false);
    pthread_mutex_unlock(&local->lock);
}
