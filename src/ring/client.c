/* SPDX-License-Identifier: MIT */
/* The guest's end; see ring.h. */
#include <string.h>

#include "ring/barrier.h"
#include "ring/ring.h"

static struct vgpu_ring_guest *own_page(const struct vgpu_ring_client *c)
{
    return (struct vgpu_ring_guest *)(void *)(c->channel + VGPU_CHANNEL_GUEST_PAGE);
}

static const struct vgpu_ring_worker *their_page(const struct vgpu_ring_client *c)
{
    return (const struct vgpu_ring_worker *)(void *)(c->channel + VGPU_CHANNEL_WORKER_PAGE);
}

void vgpu_ring_client_init(struct vgpu_ring_client *c, void *channel)
{
    *c = (struct vgpu_ring_client){.channel = channel};
}

uint32_t vgpu_ring_units(uint32_t body_bytes)
{
    uint64_t bytes = (uint64_t)body_bytes + sizeof(struct vgpu_ring_record);
    return (uint32_t)((bytes + VGPU_RING_UNIT - 1) / VGPU_RING_UNIT);
}

/* Copies to the ring from byte `at` of it on, over its end. */
static uint32_t put(uint8_t *ring, uint32_t at, const void *bytes, uint32_t length)
{
    const uint32_t size = VGPU_RING_UNITS * VGPU_RING_UNIT;
    uint32_t first = size - at < length ? size - at : length;
    memcpy(ring + at, bytes, first);
    if (length > first)
        memcpy(ring, (const uint8_t *)bytes + first, length - first);
    return (at + length) % size;
}

/* Takes submit_head over, if it makes sense. */
static void take_head(struct vgpu_ring_client *c)
{
    uint64_t head = vgpu_shared_acquire64(&their_page(c)->submit_head);
    if (head < c->head || head > c->tail)
        c->broken = true;
    else
        c->head = head;
}

uint32_t vgpu_ring_client_room(struct vgpu_ring_client *c)
{
    if (!c->broken)
        take_head(c);
    return c->broken ? VGPU_RING_UNITS : VGPU_RING_UNITS - (uint32_t)(c->tail - c->head);
}

bool vgpu_ring_client_write(struct vgpu_ring_client *c, struct vgpu_ring_record *header,
                            const struct vgpu_ring_part *parts, unsigned count)
{
    uint64_t length = 0; /* in 64 bits: the parts' sum may be beyond 32 */
    for (unsigned i = 0; i < count; i++)
        length += parts[i].length;
    if (c->broken || length > VGPU_RING_RECORD_BYTES_MAX)
        return false;
    uint32_t units = vgpu_ring_units((uint32_t)length);
    if (c->tail + units - c->head > VGPU_RING_UNITS) {
        take_head(c);
        if (c->broken || c->tail + units - c->head > VGPU_RING_UNITS)
            return false;
    }
    header->length = (uint32_t)length;
    uint8_t *ring = c->channel + VGPU_CHANNEL_SUBMISSIONS;
    uint32_t at = (uint32_t)(c->tail % VGPU_RING_UNITS) * VGPU_RING_UNIT;
    at = put(ring, at, header, sizeof(*header));
    for (unsigned i = 0; i < count; i++)
        if (parts[i].length)
            at = put(ring, at, parts[i].bytes, parts[i].length);
    c->tail += units;
    return true;
}

bool vgpu_ring_client_publish(struct vgpu_ring_client *c)
{
    vgpu_shared_publish64(&own_page(c)->submit_tail, c->tail);
    if (!vgpu_shared_look32(&their_page(c)->doorbell_wanted))
        return false;
    /* A worker shows what it has consumed before it sleeps (G10): one that has not consumed yet
     * what was rung for is waking up, and will see this, too. */
    if (vgpu_shared_acquire64(&their_page(c)->submit_head) < c->rung)
        return false;
    c->rung = c->tail;
    return true;
}

static const struct vgpu_ring_completion *next_entry(const struct vgpu_ring_client *c)
{
    return (const struct vgpu_ring_completion *)(void *)(c->channel + VGPU_CHANNEL_COMPLETIONS) +
           c->consumed % VGPU_RING_COMPLETIONS;
}

bool vgpu_ring_client_take(struct vgpu_ring_client *c, struct vgpu_ring_completion *out)
{
    const struct vgpu_ring_completion *entry = next_entry(c);
    if (vgpu_shared_acquire64(&entry->sequence) != c->consumed + 1)
        return false;
    memcpy(out, entry, sizeof(*out));
    vgpu_shared_copied();
    if (out->length > VGPU_CHANNEL_ANSWERS_BYTES)
        out->length = VGPU_CHANNEL_ANSWERS_BYTES;
    c->consumed++;
    vgpu_shared_release64(&own_page(c)->complete_head, c->consumed);
    return true;
}

const uint8_t *vgpu_ring_client_answer(const struct vgpu_ring_client *c,
                                       const struct vgpu_ring_completion *taken,
                                       uint16_t answer_unit, uint16_t answer_units,
                                       uint32_t *length)
{
    uint32_t room = VGPU_RING_INLINE_BYTES;
    if (answer_units && (uint32_t)answer_unit + answer_units <= VGPU_RING_ANSWER_UNITS)
        room = (uint32_t)answer_units * VGPU_RING_UNIT;
    *length = taken->length < room ? taken->length : room;
    if (*length <= VGPU_RING_INLINE_BYTES)
        return taken->bytes;
    return c->channel + VGPU_CHANNEL_ANSWERS + (size_t)answer_unit * VGPU_RING_UNIT;
}

bool vgpu_ring_client_sleep(struct vgpu_ring_client *c)
{
    vgpu_shared_publish32(&own_page(c)->interrupt_wanted, 1);
    if (vgpu_shared_look64(&next_entry(c)->sequence) != c->consumed + 1)
        return true;
    vgpu_ring_client_woke(c);
    return false;
}

void vgpu_ring_client_woke(struct vgpu_ring_client *c)
{
    vgpu_shared_release32(&own_page(c)->interrupt_wanted, 0);
}

uint32_t vgpu_ring_client_state(const struct vgpu_ring_client *c, uint32_t *error)
{
    uint32_t state = vgpu_shared_acquire32(&their_page(c)->state);
    if (error)
        *error = vgpu_shared_acquire32(&their_page(c)->error);
    return state;
}

const char *vgpu_channel_error_text(uint32_t error)
{
    switch (error) {
#define VGPU_CHANNEL_ERROR_TEXT(value, name, text)                                                 \
    case name:                                                                                     \
        return text;
        VGPU_CHANNEL_ERROR_LIST(VGPU_CHANNEL_ERROR_TEXT)
#undef VGPU_CHANNEL_ERROR_TEXT
    default:
        return "an error this version does not know";
    }
}
