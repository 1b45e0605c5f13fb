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
    /* `forked`: this is a child's copy, so nothing outside this process may be touched. */
    void (*close)(struct vgpu_transport *transport, bool forked);
};

/* The first member of every transport. */
struct vgpu_transport {
    const struct vgpu_transport_ops *ops;
};

/* `device_dir` is the device's directory in sysfs (NULL with `resource0`), for messages and files.
 */
int vgpu_transport_mailbox_open(const char *device_dir, const char *resource0,
                                struct vgpu_transport **transport);
int vgpu_transport_local_open(const char *path, const struct vgpu_options *options,
                              struct vgpu_transport **transport);

#endif
