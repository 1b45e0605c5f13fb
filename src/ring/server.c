/* SPDX-License-Identifier: MIT */
/* The worker's end; see ring.h. What the guest's page and ring say is taken once and checked. */
#include <string.h>

#include "ring/barrier.h"
#include "ring/ring.h"

static struct vgpu_ring_worker *own_page(const struct vgpu_ring_server *s)
{
    return (struct vgpu_ring_worker *)(void *)(s->channel + VGPU_CHANNEL_WORKER_PAGE);
}

static const struct vgpu_ring_guest *their_page(const struct vgpu_ring_server *s)
{
    return (const struct vgpu_ring_guest *)(void *)(s->channel + VGPU_CHANNEL_GUEST_PAGE);
}

void vgpu_ring_server_init(struct vgpu_ring_server *s, void *channel)
{
    *s = (struct vgpu_ring_server){.channel = channel};
    memset(channel, 0, VGPU_CHANNEL_BYTES);
    vgpu_shared_release32(&own_page(s)->state, VGPU_CHANNEL_ACTIVE);
}

void vgpu_ring_server_fail(struct vgpu_ring_server *s, enum vgpu_channel_error error)
{
    if (s->error)
        return;
    s->error = error;
    vgpu_shared_release32(&own_page(s)->error, error);
    vgpu_shared_release32(&own_page(s)->state, VGPU_CHANNEL_FATAL);
}

/* Takes submit_tail over, if it makes sense. */
static void take_tail(struct vgpu_ring_server *s, uint64_t tail)
{
    if (tail < s->tail || tail - s->shown > VGPU_RING_UNITS)
        vgpu_ring_server_fail(s, VGPU_CHANNEL_BAD_TAIL);
    else
        s->tail = tail;
}

bool vgpu_ring_server_pending(struct vgpu_ring_server *s)
{
    if (s->error)
        return false;
    if (s->head != s->tail)
        return true;
    take_tail(s, vgpu_shared_acquire64(&their_page(s)->submit_tail));
    if (s->error)
        return false;
    if (s->head != s->tail)
        return true;
    /* The guest may be waiting for exactly these. */
    vgpu_ring_server_show(s);
    return false;
}

/* Copies units out of the ring, over its end. */
static void get(const struct vgpu_ring_server *s, uint64_t unit, uint8_t *to, uint32_t units)
{
    const uint8_t *ring = s->channel + VGPU_CHANNEL_SUBMISSIONS;
    uint32_t at = (uint32_t)(unit % VGPU_RING_UNITS);
    uint32_t first = VGPU_RING_UNITS - at < units ? VGPU_RING_UNITS - at : units;
    memcpy(to, ring + (size_t)at * VGPU_RING_UNIT, (size_t)first * VGPU_RING_UNIT);
    if (units > first)
        memcpy(to + (size_t)first * VGPU_RING_UNIT, ring, (size_t)(units - first) * VGPU_RING_UNIT);
}

const struct vgpu_ring_record *vgpu_ring_server_take(struct vgpu_ring_server *s, uint8_t *record)
{
    if (!vgpu_ring_server_pending(s))
        return NULL;
    get(s, s->head, record, 1);
    vgpu_shared_copied();
    const struct vgpu_ring_record *header = (const struct vgpu_ring_record *)(void *)record;
    /* In 64 bits: length is the guest's. */
    uint64_t units =
        ((uint64_t)header->length + sizeof(*header) + VGPU_RING_UNIT - 1) / VGPU_RING_UNIT;
    if (units > VGPU_RING_RECORD_UNITS_MAX || units > s->tail - s->head ||
        (header->flags & ~VGPU_RING_FLAGS_KNOWN) ||
        (uint32_t)header->answer_unit + header->answer_units > VGPU_RING_ANSWER_UNITS) {
        vgpu_ring_server_fail(s, VGPU_CHANNEL_BAD_RECORD);
        return NULL;
    }
    if (units > 1)
        get(s, s->head + 1, record + VGPU_RING_UNIT, (uint32_t)units - 1);
    s->taken = s->head;
    s->head += units;
    return header;
}

void vgpu_ring_server_show(struct vgpu_ring_server *s)
{
    if (s->error || s->shown == s->head)
        return;
    s->shown = s->head;
    vgpu_shared_release64(&own_page(s)->submit_head, s->head);
}

bool vgpu_ring_server_has_room(struct vgpu_ring_server *s, uint32_t count)
{
    if (s->error)
        return false;
    if (s->completed + count - s->acknowledged <= VGPU_RING_COMPLETIONS)
        return true;
    uint64_t head = vgpu_shared_acquire64(&their_page(s)->complete_head);
    if (head < s->acknowledged || head > s->completed) {
        vgpu_ring_server_fail(s, VGPU_CHANNEL_BAD_HEAD);
        return false;
    }
    s->acknowledged = head;
    return s->completed + count - head <= VGPU_RING_COMPLETIONS;
}

uint8_t *vgpu_ring_server_answer_area(struct vgpu_ring_server *s,
                                      const struct vgpu_ring_record *header, uint32_t *bytes)
{
    *bytes = (uint32_t)header->answer_units * VGPU_RING_UNIT;
    if (!*bytes)
        return NULL;
    return s->channel + VGPU_CHANNEL_ANSWERS + (size_t)header->answer_unit * VGPU_RING_UNIT;
}

bool vgpu_ring_server_complete(struct vgpu_ring_server *s, const struct vgpu_ring_answer *answer,
                               uint16_t answer_unit, uint16_t answer_units)
{
    /* The caller has made sure of room. It is gone all the same when the channel turned fatal, and
     * then nothing is written (G19). */
    if (!vgpu_ring_server_has_room(s, 1))
        return false;
    struct vgpu_ring_completion *entry =
        (struct vgpu_ring_completion *)(void *)(s->channel + VGPU_CHANNEL_COMPLETIONS) +
        s->completed % VGPU_RING_COMPLETIONS;
    uint32_t room = answer_units ? (uint32_t)answer_units * VGPU_RING_UNIT : VGPU_RING_INLINE_BYTES;
    uint32_t length = answer->length < room ? answer->length : room;
    if (length) {
        uint8_t *to = length <= VGPU_RING_INLINE_BYTES ? entry->bytes
                                                       : s->channel + VGPU_CHANNEL_ANSWERS +
                                                             (size_t)answer_unit * VGPU_RING_UNIT;
        memcpy(to, answer->bytes, length);
    }
    entry->token = answer->token;
    entry->status = answer->status;
    entry->error_code = answer->error_code;
    entry->length = length;
    s->completed++;
    vgpu_shared_publish64(&entry->sequence, s->completed);
    return vgpu_shared_look32(&their_page(s)->interrupt_wanted) != 0;
}

uint32_t *vgpu_ring_server_hint(struct vgpu_ring_server *s, uint32_t token)
{
    return (uint32_t *)(void *)(s->channel + VGPU_CHANNEL_HINTS) + token % VGPU_RING_HINTS;
}

bool vgpu_ring_server_sleep(struct vgpu_ring_server *s)
{
    if (s->error)
        return true;
    vgpu_ring_server_show(s);
    vgpu_shared_publish32(&own_page(s)->doorbell_wanted, 1);
    if (s->head == s->tail)
        take_tail(s, vgpu_shared_look64(&their_page(s)->submit_tail));
    if (!s->error && s->head == s->tail)
        return true;
    vgpu_ring_server_woke(s);
    return false;
}

void vgpu_ring_server_woke(struct vgpu_ring_server *s)
{
    vgpu_shared_release32(&own_page(s)->doorbell_wanted, 0);
}
