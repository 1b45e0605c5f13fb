/* SPDX-License-Identifier: MIT */
/*
 * Window memory through which bytes of ordinary memory go to the device and come from it: for
 * stages (module.c) and for pageable copies (guest/cuda/copy.c). One user at a time each way. Knows
 * which piece is still in use by whom it was given to; nothing of what the pieces are used for.
 *
 * A user acquires a way, uses pieces round and round, and releases it. A piece that the worker may
 * still read or write when its user goes on carries the ticket of the call whose answer frees it
 * (G13): the STAGE_COPY itself, or a synchronization behind a copy. Whoever needs the piece next
 * waits for that ticket, be it in the same use or a later one.
 */
#ifndef VGPU_GUEST_STAGING_H
#define VGPU_GUEST_STAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/channel.h"

enum vgpu_staging_way { VGPU_STAGING_UP, VGPU_STAGING_DOWN };

#define VGPU_STAGING_PIECES       4u
#define VGPU_STAGING_SMALL_BYTES  (VGPU_CHANNEL_UPLOAD_BYTES / VGPU_STAGING_PIECES)
#define VGPU_STAGING_LARGE_BYTES  0x200000u /* of a piece in the arena */
/* A use of more bytes than this is worth an extent of the arena, which is asked for once. */
#define VGPU_STAGING_EXTENT_ABOVE VGPU_CHANNEL_UPLOAD_BYTES

struct vgpu_staging {
    /* Constant from acquire to release. Piece i has piece_bytes at base + i * piece_bytes, which is
     * window offset `offset` + i * piece_bytes. */
    uint8_t *base;
    uint64_t offset;
    uint32_t piece_bytes;
    unsigned pieces; /* VGPU_STAGING_PIECES */
    /* The user's, also across uses: */
    unsigned next; /* piece to use next, so that uses go on round the ring */
    struct vgpu_staging_piece {
        bool busy; /* `ticket` was started, and frees the piece */
        struct vgpu_ticket ticket;
        uint64_t answer; /* a place for the few bytes that its answer may have */
    } piece[VGPU_STAGING_PIECES];
};

/*
 * Waits until nobody else uses that way. `bytes`: how many are to go through in all, which decides
 * about the size of the pieces. Never fails on a channel that lives: without room in the arena the
 * pieces are small. -ESTALE: the channel is gone, nothing is held; -ECHILD.
 */
int vgpu_staging_acquire(struct vgpu_channel *channel, enum vgpu_staging_way way, uint64_t bytes,
                         struct vgpu_staging **staging);
/* Busy pieces may stay busy. */
void vgpu_staging_release(struct vgpu_channel *channel, enum vgpu_staging_way way);

/*
 * Waits until piece `i` is free, and takes its ticket's result: 0, a CUresult of the answer, or
 * -ESTALE. Afterwards it is not busy, whatever is returned.
 */
int vgpu_staging_wait(struct vgpu_channel *channel, struct vgpu_staging *staging, unsigned i);
/* All of them; the first failure. */
int vgpu_staging_wait_all(struct vgpu_channel *channel, struct vgpu_staging *staging);

/* channel.c's: before the channel is closed. */
struct vgpu_staging_pair *vgpu_staging_create(void);
void vgpu_staging_destroy(struct vgpu_staging_pair *pair);

#endif
