/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Channels as the control thread sees them: ATTACH, DETACH and EXTENT in, checked against what came
 * before; CHANNEL, WANT_EXTENT and RETURN_EXTENT out, from the engine's reports. Maps the window.
 * Knows nothing of what is in it.
 */
#ifndef VGPU_WORKER_ATTACH_H
#define VGPU_WORKER_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/channel.h"
#include "worker/dispatch.h"
#include "worker/engine.h"
#include "worker/packet.h"

struct vgpu_attach {
    struct vgpu_engine *engine;
    struct vgpu_dispatcher *dispatcher;
    struct vgpu_packet_queue *out;
    uint8_t *window; /* NULL: no ATTACH yet */
    uint64_t window_bytes;
    dev_t device; /* the window's file */
    ino_t inode;
    bool attached;  /* from ATTACH until FREE is said */
    bool served;    /* the engine has it */
    bool detaching; /* DETACH is not answered */
    uint32_t channel;
    unsigned wanted_count;
    struct vgpu_attach_wanted {
        uint64_t seq, bytes;
    } wanted[VGPU_CHANNEL_ASKED_MAX];
};

/* Everything must outlive it. */
void vgpu_attach_init(struct vgpu_attach *a, struct vgpu_engine *engine,
                      struct vgpu_dispatcher *dispatcher, struct vgpu_packet_queue *out);
/* After the engine. */
void vgpu_attach_destroy(struct vgpu_attach *a);

/*
 * Each answers 0, or -EPROTO with *why when the mediator broke the rules (W7).
 * `fds` are window, doorbell and interrupt, and are taken; a window that cannot be used makes the
 * channel fatal.
 */
int vgpu_attach_channel(struct vgpu_attach *a, const struct vgpu_worker_attach *attach, int fds[3],
                        const char **why);
int vgpu_attach_detach(struct vgpu_attach *a, const struct vgpu_worker_channel *channel,
                       const char **why);
int vgpu_attach_extent(struct vgpu_attach *a, uint64_t seq, const struct vgpu_worker_extent *extent,
                       const char **why);

/* Sends what the engine reports, as much as the socket's queue has room for. */
void vgpu_attach_report(struct vgpu_attach *a);

#endif
