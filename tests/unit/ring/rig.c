/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memfd_create */
#include "rig.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD 0x1000u

uint8_t *rig_channel_map(void)
{
    uint8_t *all =
        mmap(NULL, VGPU_CHANNEL_BYTES + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("channel", MFD_CLOEXEC);
    uint8_t *channel = NULL;
    if (all != MAP_FAILED && fd >= 0 && ftruncate(fd, VGPU_CHANNEL_BYTES) == 0)
        channel = mmap(all + GUARD, VGPU_CHANNEL_BYTES, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (channel == MAP_FAILED)
        channel = NULL;
    if (!channel && all != MAP_FAILED)
        munmap(all, VGPU_CHANNEL_BYTES + 2 * GUARD);
    return channel;
}

void rig_channel_unmap(uint8_t *channel)
{
    munmap(channel - GUARD, VGPU_CHANNEL_BYTES + 2 * GUARD);
}

void rig_reset(struct ring_rig *r)
{
    vgpu_ring_server_init(&r->server, r->channel);
    vgpu_ring_client_init(&r->client, r->channel);
}

int rig_setup(void **state)
{
    struct ring_rig *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->channel = rig_channel_map();
    r->record = malloc(RECORD_BYTES);
    assert_non_null(r->channel);
    assert_non_null(r->record);
    memset(r->channel, 0xA5, VGPU_CHANNEL_BYTES); /* what an owner before left */
    rig_reset(r);
    *state = r;
    return 0;
}

int rig_teardown(void **state)
{
    struct ring_rig *r = *state;
    rig_channel_unmap(r->channel);
    free(r->record);
    free(r);
    return 0;
}

struct vgpu_ring_guest *rig_guest_page(struct ring_rig *r)
{
    return (struct vgpu_ring_guest *)(void *)(r->channel + VGPU_CHANNEL_GUEST_PAGE);
}

struct vgpu_ring_worker *rig_worker_page(struct ring_rig *r)
{
    return (struct vgpu_ring_worker *)(void *)(r->channel + VGPU_CHANNEL_WORKER_PAGE);
}

struct vgpu_ring_completion *rig_entry(struct ring_rig *r, uint64_t count)
{
    return (struct vgpu_ring_completion *)(void *)(r->channel + VGPU_CHANNEL_COMPLETIONS) +
           count % VGPU_RING_COMPLETIONS;
}

struct vgpu_ring_record *rig_next_record(struct ring_rig *r)
{
    return (struct vgpu_ring_record *)(void *)(r->channel + VGPU_CHANNEL_SUBMISSIONS +
                                               r->server.head % VGPU_RING_UNITS * VGPU_RING_UNIT);
}

uint32_t rig_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

uint8_t rig_byte(uint32_t token, uint32_t at)
{
    return (uint8_t)(token * 29 + at * 7 + (at >> 8));
}

bool rig_write(struct ring_rig *r, uint32_t token, uint32_t length)
{
    static uint8_t body[VGPU_RING_RECORD_BYTES_MAX];
    for (uint32_t i = 0; i < length && i < sizeof(body); i++)
        body[i] = rig_byte(token, i);
    /* In three parts, one of them empty. */
    uint32_t first = length / 3;
    struct vgpu_ring_part parts[] = {{body, first}, {NULL, 0}, {body + first, length - first}};
    struct vgpu_ring_record header = {.opcode = VGPU_RING_CALL_FIRST, .token = token};
    return vgpu_ring_client_write(&r->client, &header, parts, 3);
}

void rig_post(struct ring_rig *r, uint32_t token, uint32_t length)
{
    assert_true(rig_write(r, token, length));
    vgpu_ring_client_publish(&r->client);
}

void rig_expect(struct ring_rig *r, uint32_t token, uint32_t length)
{
    const struct vgpu_ring_record *header = vgpu_ring_server_take(&r->server, r->record);
    assert_non_null(header);
    assert_ptr_equal(header, r->record);
    assert_int_equal(header->opcode, VGPU_RING_CALL_FIRST);
    assert_int_equal(header->token, token);
    assert_int_equal(header->length, length);
    for (uint32_t i = 0; i < length; i++)
        assert_int_equal(r->record[sizeof(*header) + i], rig_byte(token, i));
}

void rig_expect_fatal(struct ring_rig *r, enum vgpu_channel_error error)
{
    struct vgpu_ring_server *s = &r->server;
    uint32_t why = 0;
    assert_int_equal(s->error, error);
    assert_int_equal(vgpu_ring_client_state(&r->client, &why), VGPU_CHANNEL_FATAL);
    assert_int_equal(why, error);

    /* Nothing that the worker may still try shows in its pages. */
    uint8_t *before = malloc(VGPU_CHANNEL_SUBMISSIONS);
    assert_non_null(before);
    memcpy(before, r->channel, VGPU_CHANNEL_SUBMISSIONS);
    assert_false(vgpu_ring_server_pending(s));
    assert_null(vgpu_ring_server_take(s, r->record));
    assert_false(vgpu_ring_server_has_room(s, 0));
    assert_false(vgpu_ring_server_has_room(s, 1));
    vgpu_ring_server_show(s);
    assert_false(vgpu_ring_server_complete(
        s, &(struct vgpu_ring_answer){.token = 9, .bytes = "x", .length = 1}, 0, 0));
    assert_true(vgpu_ring_server_sleep(s)); /* nothing will come: who is fatal need not spin */
    vgpu_ring_server_fail(s, VGPU_CHANNEL_HOST);
    assert_int_equal(s->error, error); /* the first reason stays */
    assert_memory_equal(before, r->channel, VGPU_CHANNEL_SUBMISSIONS);
    free(before);
}
