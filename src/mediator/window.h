/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows (docs/ring.md): the memory file and the eventfds, made here for a local client or taken
 * from a device and checked. The mediator never maps one and never reads it. A window lives as long
 * as its link and the workers that were given it. One thread.
 */
#ifndef VGPU_MEDIATOR_WINDOW_H
#define VGPU_MEDIATOR_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mediator/arena.h"
#include "mediator/channel.h"
#include "vgpu/link.h"

#define VGPU_WINDOW_LOCAL_CHANNELS     4u  /* of a local client that does not say */
#define VGPU_WINDOW_LOCAL_CHANNELS_MAX 16u /* of one that does */

/* One channel's: the guest rings the doorbell, the worker the interrupt. */
struct vgpu_window_channel {
    int doorbell, interrupt; /* eventfds; -1: not there yet */
    struct vgpu_channel channel;
};

struct vgpu_window {
    uint32_t users;
    uint64_t bytes;
    uint32_t channel_count;
    uint32_t arrived; /* channels whose descriptors are there */
    uint32_t
        *counted; /* where its descriptors are counted, from create to the end; NULL: nowhere */
    bool clean;   /* we made the memory */
    int memory;   /* the memory file; -1: not there yet */
    uint64_t device, inode; /* which file that is */
    struct vgpu_arena *arena;
    uint64_t refused_extents; /* for want of room */
    struct vgpu_window_channel channels[];
};

/* --- pure --- */

/*
 * What a local client gets that wishes for so much (0: says nothing), when it may have `most` bytes
 * (a power of two, at least VGPU_WINDOW_BYTES_MIN).
 */
void vgpu_window_choose(uint64_t wish_bytes, uint32_t wish_channels, uint64_t most, uint64_t *bytes,
                        uint32_t *channels);

/* Whether a window can have this shape. NULL, or what is wrong with it. */
const char *vgpu_window_shape(uint64_t bytes, uint32_t channels, uint32_t channel_bytes);

/* Descriptors that a window has when it is complete. */
uint32_t vgpu_window_descriptors(uint32_t channels);

/* --- with descriptors --- */

/* One without descriptors, of a shape that is right. NULL: no memory. One user. */
struct vgpu_window *vgpu_window_create(uint64_t bytes, uint32_t channels);
struct vgpu_window *vgpu_window_use(struct vgpu_window *window);
/* The last one closes everything. NULL does nothing. */
void vgpu_window_drop(struct vgpu_window *window);

/* Makes the descriptors of one for a local client. 0 or a negative errno. */
int vgpu_window_make(struct vgpu_window *window);

/*
 * Takes the descriptors of a WINDOW message from a device: they are the window's, or closed, in any
 * case. NULL, or why it is a violation.
 */
const char *vgpu_window_take(struct vgpu_window *window, const struct vgpu_link_window *message,
                             const int *fds, uint32_t fd_count);

/* All of it is there. */
bool vgpu_window_complete(const struct vgpu_window *window);

/* Whether both are the same memory, which a device may bring again on its next connection. */
bool vgpu_window_same_memory(const struct vgpu_window *a, const struct vgpu_window *b);

/* The WINDOW message that has the channels from `first` on (nothing yet: the memory file, when
 * `memory`), and its descriptors: fds has VGPU_LINK_MAX_FDS places. Returns how many there are. */
uint32_t vgpu_window_message(const struct vgpu_window *window, bool memory, uint32_t first,
                             struct vgpu_link_window *message, int *fds);

#endif
