/* SPDX-License-Identifier: MIT */
/* See carry.h. */
#include "guest/carry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/deadline.h"
#include "guest/staging.h"

#define ASK_WHY_MS 1000u /* a mediator says at once what became of a worker */

/* A request whose caller stopped waiting and may come back. */
struct vgpu_kept {
    struct vgpu_kept *next;
    uint32_t number;
    struct vgpu_ticket ticket;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
};

static struct vgpu_kept *take_kept(struct vgpu_session *session, uint32_t number)
{
    struct vgpu_kept *found = NULL;
    pthread_mutex_lock(&session->lock);
    for (struct vgpu_kept **at = &session->kept; *at; at = &(*at)->next) {
        if ((*at)->number == number) {
            found = *at;
            *at = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&session->lock);
    return found;
}

static void keep(struct vgpu_session *session, struct vgpu_kept *kept)
{
    pthread_mutex_lock(&session->lock);
    kept->next = session->kept;
    session->kept = kept;
    pthread_mutex_unlock(&session->lock);
}

void vgpu_carry_forget(struct vgpu_session *session)
{
    while (session->kept) {
        struct vgpu_kept *kept = session->kept;
        session->kept = kept->next;
        vgpu_channel_abandon(session->channel, &kept->ticket);
        free(kept);
    }
}

static void count(struct vgpu *gpu, uint32_t sent, uint32_t received)
{
    pthread_mutex_lock(&gpu->lock);
    gpu->statistics.requests += sent != 0;
    gpu->statistics.request_bytes += sent;
    gpu->statistics.response_bytes += received;
    pthread_mutex_unlock(&gpu->lock);
}

static int start(struct vgpu_session *session, const void *bytes, uint32_t length,
                 struct vgpu_ticket *ticket)
{
    struct vgpu_ring_part part = {bytes, length};
    struct vgpu_channel_record record = {.opcode = VGPU_RING_REQUEST, .parts = &part, .count = 1};
    int err = vgpu_channel_start(session->channel, &record, ticket);
    if (err == 0)
        count(session->gpu, length, 0);
    return err;
}

/* As the mailbox shows an answer. */
static void show(struct vgpu_session *session, const struct vgpu_ticket *ticket,
                 struct vgpu_response *response, uint32_t *status)
{
    response->status = ticket->error_code ? VGPU_STATUS_ERROR : VGPU_STATUS_DONE;
    response->error_code = ticket->error_code;
    response->generation = session->generation; /* or the channel would be dead */
    response->length = ticket->length;
    *status = ticket->status;
    count(session->gpu, 0, ticket->length);
}

static int carry_kept(struct vgpu_session *session, const void *bytes, uint32_t length,
                      uint32_t number, uint64_t deadline_ns, struct vgpu_response *response,
                      uint32_t *status)
{
    int err = 0;
    struct vgpu_kept *kept = take_kept(session, number);
    if (!kept) {
        kept = malloc(sizeof(*kept));
        if (!kept)
            return vgpu_fail(-ENOMEM, "out of memory");
        kept->number = number;
        kept->ticket = (struct vgpu_ticket){.bytes = kept->bytes, .capacity = sizeof(kept->bytes)};
        err = start(session, bytes, length, &kept->ticket);
    }
    if (err == 0)
        err = vgpu_channel_finish_until(session->channel, &kept->ticket, deadline_ns);
    if (err == -ETIMEDOUT) {
        keep(session, kept);
        return err;
    }
    if (err == 0) {
        memcpy(response->bytes, kept->bytes, kept->ticket.length);
        show(session, &kept->ticket, response, status);
    }
    free(kept);
    return err;
}

int vgpu_carry_request(struct vgpu_session *session, const void *bytes, uint32_t length,
                       uint32_t kept_as, uint64_t deadline_ns, struct vgpu_response *response,
                       uint32_t *status)
{
    if (kept_as)
        return carry_kept(session, bytes, length, kept_as, deadline_ns, response, status);
    struct vgpu_ticket ticket;
    int err = vgpu_carry_start(session, bytes, length, response, &ticket);
    return err < 0 ? err : vgpu_carry_finish(session, deadline_ns, response, &ticket, status);
}

int vgpu_carry_start(struct vgpu_session *session, const void *bytes, uint32_t length,
                     struct vgpu_response *response, struct vgpu_ticket *ticket)
{
    *ticket = (struct vgpu_ticket){.bytes = response->bytes, .capacity = sizeof(response->bytes)};
    return start(session, bytes, length, ticket);
}

int vgpu_carry_finish(struct vgpu_session *session, uint64_t deadline_ns,
                      struct vgpu_response *response, struct vgpu_ticket *ticket, uint32_t *status)
{
    int err = vgpu_channel_finish_until(session->channel, ticket, deadline_ns);
    if (err == -ETIMEDOUT)
        vgpu_channel_abandon(session->channel, ticket);
    if (err == 0)
        show(session, ticket, response, status);
    return err;
}

int vgpu_carry_stage(struct vgpu_session *session, const char *what, uint32_t stage,
                     const void *bytes, uint32_t length, bool *made)
{
    struct vgpu_channel *channel = session->channel;
    struct vgpu_staging *staging;
    *made = false;
    int err = vgpu_staging_acquire(channel, VGPU_STAGING_UP, length, &staging);
    if (err < 0)
        return err;
    /* What others left in the pieces is theirs to be told. */
    (void)vgpu_staging_wait_all(channel, staging);
    for (uint32_t done = 0; done < length && err == 0;) {
        unsigned i = staging->next;
        struct vgpu_staging_piece *piece = &staging->piece[i];
        /* Of an earlier piece of ours: its failure is ours. */
        if ((err = vgpu_staging_wait(channel, staging, i)) != 0)
            break;
        uint32_t left = length - done;
        uint32_t n = left < staging->piece_bytes ? left : staging->piece_bytes;
        uint64_t at = (uint64_t)i * staging->piece_bytes;
        struct vgpu_ring_stage_copy copy = {.stage = stage,
                                            .total_bytes = length,
                                            .offset = done,
                                            .bytes = n,
                                            .window_offset = staging->offset + at};
        struct vgpu_ring_part part = {&copy, sizeof(copy)};
        struct vgpu_channel_record record = {
            .opcode = VGPU_RING_STAGE_COPY, .parts = &part, .count = 1};
        memcpy(staging->base + at, (const uint8_t *)bytes + done, n);
        piece->ticket =
            (struct vgpu_ticket){.bytes = &piece->answer, .capacity = sizeof(piece->answer)};
        if ((err = vgpu_channel_start(channel, &record, &piece->ticket)) < 0)
            break;
        piece->busy = *made = true;
        staging->next = (i + 1) % staging->pieces;
        done += n;
    }
    int last = vgpu_staging_wait_all(channel, staging);
    vgpu_staging_release(channel, VGPU_STAGING_UP);
    if (err == 0)
        err = last;
    return err > 0 ? vgpu_fail(err, "%s: the image could not be staged: %s (%d)", what,
                               vgpu_result_name((uint32_t)err), err)
                   : err;
}

int vgpu_carry_lost(struct vgpu_session *session, const char *what)
{
    char why[512];
    snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
    uint32_t generation = session->generation;
    int err = vgpu_generation(session->gpu, &generation);
    pthread_mutex_lock(&session->lock);
    if (err == 0 && generation != session->generation)
        session->dead = true;
    int known = session->lost;
    bool dead = session->dead;
    pthread_mutex_unlock(&session->lock);
    if (known == 0 && !dead) {
        struct vgpu_response response;
        struct vgpu_answer answer;
        struct vgpu_call nop = {.what = what, .opcode = VGPU_OP_NOP};
        err = vgpu_mailbox_call(session->gpu, session->number, &nop, vgpu_deadline_ns(ASK_WHY_MS),
                                &response, &answer);
        known = err > 0 ? err : -ESTALE;
        pthread_mutex_lock(&session->lock);
        session->lost = known;
        pthread_mutex_unlock(&session->lock);
    }
    if (!dead && known > 0)
        return vgpu_fail(known, "%s: %s (%d): %s", what, vgpu_result_name((uint32_t)known), known,
                         vgpu_result_text((uint32_t)known));
    return vgpu_fail(-ESTALE, "%s: %s", what, why);
}
