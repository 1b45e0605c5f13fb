/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker's end of a channel against a guest that writes anything anywhere (docs/ring.md G9,
 * G16, G19), and the guest's end against such a worker.
 *
 * Input: steps. Each begins with a byte that says what happens: its low four bits which step, its
 * high four a small number for it. Stores take their place and value from the bytes that follow;
 * places are the words that matter, wherever the ends have got to by now, or any.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ring/barrier.h"
#include "ring/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

#define STEPS_MAX    4096u
#define GUARD        0x1000u
#define RECORD_BYTES ((size_t)VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT)

struct fuzz {
    const uint8_t *data;
    size_t size;
    uint8_t *channel;
    uint8_t *record; /* exactly as large as it must be */
    struct vgpu_ring_server server;
    struct vgpu_ring_client client;
    uint32_t sum; /* of what was read: all of it is used */
};

static uint64_t take_bytes(struct fuzz *f, size_t count)
{
    uint64_t value = 0;
    if (count > f->size)
        count = f->size;
    if (count)
        memcpy(&value, f->data, count);
    f->data += count;
    f->size -= count;
    return value;
}

/* A page that traps on either side, mapped once. */
static uint8_t *map_channel(void)
{
    uint8_t *all =
        mmap(NULL, VGPU_CHANNEL_BYTES + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(all != MAP_FAILED);
    MUST(mprotect(all + GUARD, VGPU_CHANNEL_BYTES, PROT_READ | PROT_WRITE) == 0);
    return all + GUARD;
}

/* ---- What the other side writes ---- */

static void store(struct fuzz *f, size_t offset, uint64_t value, size_t bytes)
{
    if (offset <= VGPU_CHANNEL_BYTES - bytes)
        memcpy(f->channel + offset, &value, bytes);
}

/* Relative to where the ends are, so that small inputs get far. */
static void store_counter(struct fuzz *f, unsigned which)
{
    int64_t by = (int16_t)take_bytes(f, 2);
    size_t entry =
        VGPU_CHANNEL_COMPLETIONS + f->client.consumed % VGPU_RING_COMPLETIONS * VGPU_RING_UNIT;
    switch (which % 8) {
    case 0:
        store(f, VGPU_CHANNEL_GUEST_PAGE, f->server.tail + (uint64_t)by, 8);
        break;
    case 1:
        store(f, VGPU_CHANNEL_GUEST_PAGE + 64, f->server.completed + (uint64_t)by, 8);
        break;
    case 2:
        store(f, VGPU_CHANNEL_GUEST_PAGE + 128, (uint64_t)by, 4);
        break;
    case 3:
        store(f, VGPU_CHANNEL_WORKER_PAGE, f->client.tail + (uint64_t)by, 8);
        break;
    case 4:
        store(f, entry + 56, f->client.consumed + (uint64_t)by, 8);
        break;
    case 5:
        store(f, entry + 12, (uint64_t)by, 4);
        break;
    case 6:
        store(f, VGPU_CHANNEL_GUEST_PAGE + 64 * (by & 1), take_bytes(f, 8), 8);
        break;
    default:
        store(f, VGPU_CHANNEL_WORKER_PAGE + 64, (uint64_t)by, 8);
    }
}

/* A header where the worker reads next, or a few units on. */
static void store_record(struct fuzz *f, unsigned units_on)
{
    uint64_t unit = f->server.head + units_on;
    size_t at = VGPU_CHANNEL_SUBMISSIONS + unit % VGPU_RING_UNITS * VGPU_RING_UNIT;
    store(f, at, take_bytes(f, 8), 8);
    store(f, at + 8, take_bytes(f, 8), 8);
}

/* ---- The worker ---- */

static void use(struct fuzz *f, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        f->sum += bytes[i];
}

static void answer(struct fuzz *f, const struct vgpu_ring_record *header, uint32_t length)
{
    static uint8_t bytes[VGPU_CHANNEL_ANSWERS_BYTES + 4096];
    struct vgpu_ring_answer a = {.token = header->token, .length = length, .bytes = bytes};
    uint64_t before = f->server.completed;
    bool room = vgpu_ring_server_has_room(&f->server, 1);
    vgpu_ring_server_complete(&f->server, &a, header->answer_unit, header->answer_units);
    MUST(f->server.completed == before + room);
}

static void serve(struct fuzz *f, unsigned records, bool answers)
{
    for (unsigned i = 0; i <= records; i++) {
        const struct vgpu_ring_record *h = vgpu_ring_server_take(&f->server, f->record);
        uint32_t room;
        if (!h)
            return;
        MUST(h->length <= VGPU_RING_RECORD_BYTES_MAX);
        MUST(!(h->flags & ~VGPU_RING_FLAGS_KNOWN));
        use(f, f->record, sizeof(*h) + h->length);
        uint8_t *area = vgpu_ring_server_answer_area(&f->server, h, &room);
        if (area)
            memset(area, 1, room);
        *vgpu_ring_server_hint(&f->server, h->token) = h->token;
        if (answers && h->token)
            answer(f, h, (h->opcode & 1 ? room : 0) + h->opcode % 256);
    }
}

static void many_answers(struct fuzz *f, unsigned count)
{
    const struct vgpu_ring_record nothing = {.token = 1};
    for (unsigned i = 0; i < count && vgpu_ring_server_has_room(&f->server, 1); i++)
        answer(f, &nothing, 0);
}

/* ---- The guest ---- */

static void guest_write(struct fuzz *f, unsigned size)
{
    static const uint8_t body[8192];
    struct vgpu_ring_part parts[] = {{body, size * 13}, {body, (uint32_t)take_bytes(f, 1) * 16}};
    struct vgpu_ring_record header = {.token = size};
    if (vgpu_ring_client_write(&f->client, &header, parts, 2))
        vgpu_ring_client_publish(&f->client);
}

static void guest_take(struct fuzz *f)
{
    struct vgpu_ring_completion c;
    uint32_t length, unit = (uint32_t)take_bytes(f, 2), units = (uint32_t)take_bytes(f, 2);
    if (!vgpu_ring_client_take(&f->client, &c)) {
        if (vgpu_ring_client_sleep(&f->client))
            vgpu_ring_client_woke(&f->client);
        return;
    }
    const uint8_t *bytes =
        vgpu_ring_client_answer(&f->client, &c, (uint16_t)unit, (uint16_t)units, &length);
    use(f, bytes, length);
}

static void check(const struct fuzz *f)
{
    const struct vgpu_ring_server *s = &f->server;
    const struct vgpu_ring_client *c = &f->client;
    MUST(s->shown <= s->head && s->head <= s->tail && s->tail - s->shown <= VGPU_RING_UNITS);
    MUST(s->acknowledged <= s->completed);
    MUST(s->completed - s->acknowledged <= VGPU_RING_COMPLETIONS);
    MUST(s->error <= VGPU_CHANNEL_BAD_HEAD);
    MUST(c->head <= c->tail && c->tail - c->head <= VGPU_RING_UNITS);
}

static void step(struct fuzz *f)
{
    uint8_t what = (uint8_t)take_bytes(f, 1), n = what >> 4;
    struct vgpu_ring_server before = f->server;
    switch (what & 15) {
    case 0:
    case 1:
        store_counter(f, n);
        break;
    case 2:
    case 3:
        store_record(f, n);
        break;
    case 4: /* anything, anywhere */
        store(f, take_bytes(f, 3) % VGPU_CHANNEL_BYTES, take_bytes(f, 8), 8);
        break;
    case 5:
    case 6:
        serve(f, n, true);
        break;
    case 7:
        serve(f, n * 16u, false);
        break;
    case 8:
        vgpu_ring_server_show(&f->server);
        break;
    case 9:
        if (vgpu_ring_server_sleep(&f->server))
            vgpu_ring_server_woke(&f->server);
        break;
    case 10:
        many_answers(f, n * 80u);
        break;
    case 11:
        vgpu_ring_server_has_room(&f->server, n * 100u);
        break;
    case 12:
        guest_write(f, n);
        break;
    case 13:
        guest_take(f);
        break;
    case 14:
        vgpu_ring_client_init(&f->client, f->channel);
        return;
    default:
        if (n) /* costly: rarely */
            return;
        vgpu_ring_server_init(&f->server, f->channel);
        MUST(!f->server.error);
        return;
    }
    /* Fatal is for good. */
    MUST(!before.error || memcmp(&before, &f->server, sizeof(before)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz f;
    if (!f.channel) {
        f.channel = map_channel();
        f.record = malloc(RECORD_BYTES);
        MUST(f.record);
    }
    f.data = data;
    f.size = size;
    vgpu_ring_server_init(&f.server, f.channel);
    vgpu_ring_client_init(&f.client, f.channel);
    for (unsigned i = 0; i < STEPS_MAX && f.size; i++) {
        step(&f);
        check(&f);
    }
    return 0;
}
