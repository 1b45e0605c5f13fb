/* SPDX-License-Identifier: MIT */
/*
 * What carries requests: one at a time, as bytes, to whoever answers. The mailbox of a PCI device
 * is one transport, a mediator's socket another. A transport knows nothing of sessions, handles or
 * CUDA; the library above it knows nothing of registers or sockets.
 *
 * Threads: the caller makes sure that send, wait, read and abandon of one transport never run at
 * the same time (client.c); read_register may be called by any thread at any time.
 */
#ifndef VGPU_GUEST_TRANSPORT_H
#define VGPU_GUEST_TRANSPORT_H

#include <stdint.h>

#include "guest/vgpu_mmio_client.h"

struct vgpu_transport;

/*
 * A channel of a window (docs/ring.md) as the transport gives it: claimed for this process, mapped,
 * and a way to wake who serves it. The transport fills it; channel.c uses it.
 */
struct vgpu_channel_port {
    struct vgpu_transport *transport;
    uint8_t *window; /* the whole of it, mapped */
    uint64_t window_bytes;
    uint32_t number;        /* of the channel */
    uint32_t channel_count; /* of the window: the arena begins behind the last */
    int interrupt_fd;       /* an eventfd to sleep on; -1: there is none, wait by looking */
    void *own;              /* the transport's */
};

struct vgpu_transport_ops {
    /* Makes a request the one in flight. Waits for whoever else uses the way there. */
    int (*send)(struct vgpu_transport *transport, const void *request, uint32_t length,
                uint32_t request_id, uint64_t deadline_ns);
    /*
     * Waits until it has completed: 0 and STATUS in *status. -ETIMEDOUT leaves it in flight; any
     * other error ends it as abandon would.
     */
    int (*wait)(struct vgpu_transport *transport, uint64_t deadline_ns, uint32_t *status);
    /* The response of a completed request. Frees the way for others, also on error. */
    int (*read)(struct vgpu_transport *transport, struct vgpu_response *response);
    /* Lets go of the request in flight. */
    void (*abandon)(struct vgpu_transport *transport);
    /* A word of docs/register-map.md. */
    int (*read_register)(struct vgpu_transport *transport, uint32_t offset, uint32_t *value);
    /*
     * Channels. All five NULL: this transport has none. Any thread, also beside the functions
     * above. claim: takes a free channel, or one whose owner died. 0; -EOPNOTSUPP: there is no
     * window; -EBUSY: all channels are taken; another negative errno with a text. The port is
     * usable after enable, until release. enable: after SESSION_CHANNEL was answered. Waits until
     * the channel is active. ring: its doorbell. Cheap, never waits. state: what CHANNEL_CTRL,
     * CHANNEL_ERROR and GENERATION say now. Costs an exit in a VM: for one who has waited a while.
     * release: resets the channel, gives it back. `forked` as in close.
     */
    int (*claim)(struct vgpu_transport *transport, struct vgpu_channel_port *port);
    int (*enable)(struct vgpu_channel_port *port, uint64_t deadline_ns);
    void (*ring)(struct vgpu_channel_port *port);
    int (*state)(struct vgpu_channel_port *port, uint32_t *state, uint32_t *error,
                 uint32_t *generation);
    void (*release)(struct vgpu_channel_port *port, bool forked);
    /* What release does outside of this process, when the process exits: other threads may still
     * use the port. NULL: the exit does it. */
    void (*farewell)(struct vgpu_channel_port *port);
    /* `forked`: this is a child's copy, so nothing outside this process may be touched. */
    void (*close)(struct vgpu_transport *transport, bool forked);
};

/* The first member of every transport. */
struct vgpu_transport {
    const struct vgpu_transport_ops *ops;
};

/* `device_dir` is the device's directory in sysfs (not used with options->resource0), for messages
 * and files; `name` the device's in the run directory, where locks of channels are. */
int vgpu_transport_mailbox_open(const char *device_dir, const struct vgpu_options *options,
                                const char *name, struct vgpu_transport **transport);
/* Frees the channels of programs that died (pci_window.h). Only for that transport. */
int vgpu_transport_mailbox_sweep(struct vgpu_transport *transport);
int vgpu_transport_local_open(const char *path, const struct vgpu_options *options,
                              struct vgpu_transport **transport);

#endif
