/* SPDX-License-Identifier: MIT */
/* See staging.h. The extent is asked for once, for both ways together: what a session does one way,
 * it mostly does the other way, too. It ends with the session. */
#include "guest/staging.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "guest/channel_parts.h"
#include "guest/guest.h"

enum extent { EXTENT_NOT_ASKED, EXTENT_THERE, EXTENT_REFUSED };

struct vgpu_staging_pair {
    struct way {
        pthread_mutex_t lock; /* from acquire to release */
        bool ready, large;
        struct vgpu_staging staging;
    } way[2];
    pthread_mutex_t extent_lock; /* guards what follows */
    enum extent extent;
    uint64_t extent_offset;
};

struct vgpu_staging_pair *vgpu_staging_create(void)
{
    struct vgpu_staging_pair *pair = calloc(1, sizeof(*pair));
    if (!pair)
        return NULL;
    /* With default attributes none of these fails on Linux. */
    pthread_mutex_init(&pair->way[VGPU_STAGING_UP].lock, NULL);
    pthread_mutex_init(&pair->way[VGPU_STAGING_DOWN].lock, NULL);
    pthread_mutex_init(&pair->extent_lock, NULL);
    return pair;
}

void vgpu_staging_destroy(struct vgpu_staging_pair *pair)
{
    free(pair); /* in a forked child the locks may be held by a thread that is not there */
}

int vgpu_staging_wait(struct vgpu_channel *channel, struct vgpu_staging *staging, unsigned i)
{
    struct vgpu_staging_piece *piece = &staging->piece[i];
    if (!piece->busy)
        return 0;
    int err = vgpu_channel_finish(channel, &piece->ticket);
    piece->busy = false;
    if (err < 0)
        return err;
    if (piece->ticket.error_code)
        return vgpu_fail_error_code("a copy through staging", piece->ticket.error_code, NULL);
    if (piece->ticket.status) {
        struct vgpu_answer answer = {.status = piece->ticket.status};
        return vgpu_fail_status("a copy through staging", &answer);
    }
    return 0;
}

int vgpu_staging_wait_all(struct vgpu_channel *channel, struct vgpu_staging *staging)
{
    int first = 0;
    for (unsigned i = 0; i < VGPU_STAGING_PIECES; i++) {
        int err = vgpu_staging_wait(channel, staging, i);
        if (first == 0)
            first = err;
    }
    return first;
}

/* Whether there is an extent, asking for it when nobody has. */
static bool have_extent(struct vgpu_channel *channel, struct vgpu_staging_pair *pair)
{
    pthread_mutex_lock(&pair->extent_lock);
    if (pair->extent == EXTENT_NOT_ASKED) {
        int err = vgpu_channel_arena_alloc(
            channel, 2ull * VGPU_STAGING_PIECES * VGPU_STAGING_LARGE_BYTES, &pair->extent_offset);
        pair->extent = err == 0 ? EXTENT_THERE : EXTENT_REFUSED;
    }
    bool there = pair->extent == EXTENT_THERE;
    pthread_mutex_unlock(&pair->extent_lock);
    return there;
}

static void set_up(struct vgpu_channel *channel, struct way *way, uint64_t offset,
                   uint32_t piece_bytes)
{
    way->staging.base = vgpu_channel_window(channel) + offset;
    way->staging.offset = offset;
    way->staging.piece_bytes = piece_bytes;
    way->staging.pieces = VGPU_STAGING_PIECES;
    way->staging.next = 0;
    way->ready = true;
    way->large = piece_bytes == VGPU_STAGING_LARGE_BYTES;
}

int vgpu_staging_acquire(struct vgpu_channel *channel, enum vgpu_staging_way which, uint64_t bytes,
                         struct vgpu_staging **staging)
{
    int err = vgpu_channel_check(channel);
    if (err < 0)
        return err;
    struct vgpu_staging_pair *pair = vgpu_channel_staging(channel);
    struct way *way = &pair->way[which];
    pthread_mutex_lock(&way->lock);
    if (!way->ready)
        set_up(channel, way,
               which == VGPU_STAGING_UP ? vgpu_channel_upload(channel)
                                        : vgpu_channel_download(channel),
               VGPU_STAGING_SMALL_BYTES);
    if (!way->large && bytes > VGPU_STAGING_EXTENT_ABOVE && have_extent(channel, pair)) {
        /* The tickets move with the pieces: those of the small ones first. What they say is not
         * for this user. */
        (void)vgpu_staging_wait_all(channel, &way->staging);
        uint64_t half = (uint64_t)VGPU_STAGING_PIECES * VGPU_STAGING_LARGE_BYTES;
        set_up(channel, way, pair->extent_offset + (which == VGPU_STAGING_UP ? 0 : half),
               VGPU_STAGING_LARGE_BYTES);
    }
    if ((err = vgpu_channel_check(channel)) < 0) {
        pthread_mutex_unlock(&way->lock);
        return err;
    }
    *staging = &way->staging;
    return 0;
}

void vgpu_staging_release(struct vgpu_channel *channel, enum vgpu_staging_way which)
{
    pthread_mutex_unlock(&vgpu_channel_staging(channel)->way[which].lock);
}
