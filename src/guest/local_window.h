/* SPDX-License-Identifier: MIT */
/*
 * The window that a mediator gave a local client: its memory, and for each channel two eventfds and
 * what the mediator says about it. Owns the checks of what came (docs/link.md); knows nothing of
 * how it came. One for each connection; ports keep the one they are of. The transport's lock is
 * held.
 */
#ifndef VGPU_GUEST_LOCAL_WINDOW_H
#define VGPU_GUEST_LOCAL_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "vgpu/link.h"

struct vgpu_local_channel {
    int doorbell, interrupt; /* eventfds, -1: not there yet */
    bool claimed;
    uint32_t serial; /* of the last ENABLE or RESET */
    uint32_t state;  /* as of the last STATE with that serial; what was sent since is not in it */
    uint32_t error;
    bool answered; /* such a STATE has come */
};

struct vgpu_local_window {
    unsigned users;
    uint8_t *memory; /* NULL: it could not be mapped, and the mailbox has to do */
    uint64_t bytes;
    bool kept_from_child; /* the kernel leaves the mapping out of forked children */
    uint32_t channel_count;
    uint32_t known; /* channels whose eventfds have come: usable when all have */
    struct vgpu_local_channel channel[VGPU_CHANNELS_MAX];
};

/* The first WINDOW message, with the memory's descriptor, which stays the caller's. NULL, with a
 * text: it breaks the rules, or there is no memory for it. */
struct vgpu_local_window *vgpu_local_window_create(const struct vgpu_link_window *message, int fd);
/* Another one. Takes the descriptors over (sets them to -1), unless the result is false. */
bool vgpu_local_window_add(struct vgpu_local_window *window, const struct vgpu_link_window *message,
                           int *fds, uint32_t count);
/* CHANNEL_STATE. False: it breaks the rules. */
bool vgpu_local_window_state(struct vgpu_local_window *window,
                             const struct vgpu_link_channel *message);
static inline bool vgpu_local_window_complete(const struct vgpu_local_window *window)
{
    return window->known == window->channel_count;
}

/* Lets go; the last user unmaps it. */
void vgpu_local_window_put(struct vgpu_local_window *window, bool forked);

#endif
