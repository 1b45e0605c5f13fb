/* SPDX-License-Identifier: MIT */
/*
 * Sending by a channel (docs/ring.md, G7 to G14), and its beginning and end. Answers and all
 * waiting for them are channel_wait.c's.
 *
 * What a post costs is what a launch costs its program, so nothing here makes a system call unless
 * the ring is full, the lock is taken or the worker sleeps.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/channel_parts.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "ring/barrier.h"
#include "vgpu/curesult.h"

#define SPIN_NS          40000u
#define LOCK_SPINS       64u
#define LOCK_SLEEP_NS    5000000u /* then it is looked whether the channel still lives */
#define ENABLE_LIMIT_MS  10000u
#define ROOM_UNITS       (VGPU_RING_UNITS / 8) /* to wait for when the ring was full */
#define TOKEN_GENERATION (1u << 22)            /* how many tokens a slot has */

/* ---- Checks ---- */

static bool is_ours(const struct vgpu_channel *channel)
{
    uint32_t mark = __atomic_load_n(channel->ours, __ATOMIC_RELAXED);
    return channel->ours_wiped ? mark != 0 : mark == (uint32_t)getpid();
}

static int fail_check(const struct vgpu_channel *channel)
{
    if (!is_ours(channel))
        return vgpu_fail(-ECHILD, "the channel was opened before a fork: a child opens a session "
                                  "of its own");
    return vgpu_channel_fail_dead(channel);
}

static inline bool is_usable(const struct vgpu_channel *channel)
{
    return is_ours(channel) && atomic_load_explicit(&channel->death, memory_order_acquire) == 0;
}

int vgpu_channel_check(const struct vgpu_channel *channel)
{
    return is_usable(channel) ? 0 : fail_check(channel);
}

/* ---- The lock of those who send ---- */

static bool lock_slowly(struct vgpu_channel *channel)
{
    for (unsigned i = 0; channel->spin_ns && i < LOCK_SPINS; i++) {
        uint32_t none = 0;
        if (atomic_load_explicit(&channel->lock, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&channel->lock, &none, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return true;
        vgpu_shared_pause();
    }
    while (atomic_exchange_explicit(&channel->lock, 2, memory_order_acquire) != 0) {
        vgpu_futex_wait(&channel->lock, 2, LOCK_SLEEP_NS);
        if (atomic_load_explicit(&channel->death, memory_order_acquire))
            return false;
    }
    return true;
}

/* False: the channel died meanwhile, and the lock is not taken. */
static inline bool lock(struct vgpu_channel *channel)
{
    uint32_t none = 0;
    if (atomic_compare_exchange_strong_explicit(&channel->lock, &none, 1, memory_order_acquire,
                                                memory_order_relaxed))
        return true;
    return lock_slowly(channel);
}

static inline void unlock(struct vgpu_channel *channel)
{
    if (atomic_exchange_explicit(&channel->lock, 0, memory_order_release) == 2)
        vgpu_futex_wake(&channel->lock, 1);
}

/* ---- Sending ---- */

static int check_record(const struct vgpu_channel_record *record)
{
    uint64_t length = 0;
    for (unsigned i = 0; i < record->count; i++)
        length += record->parts[i].length;
    if (length > VGPU_RING_RECORD_BYTES_MAX)
        return vgpu_fail(-EINVAL, "a record of %" PRIu64 " bytes, the most is %" PRIu32, length,
                         (uint32_t)VGPU_RING_RECORD_BYTES_MAX);
    return 0;
}

static_assert(ROOM_UNITS >= VGPU_RING_RECORD_UNITS_MAX, "then any record fits");

/*
 * Waits until an eighth of the ring is free. Who writes faster than the worker runs would find it
 * full at each record, and look for room all the time, at a line that the worker writes and on a
 * processor that it may share. So it sleeps while there is enough to run, and then writes many.
 */
static bool wait_for_room(struct vgpu_channel *channel)
{
    struct vgpu_channel_pause pause = {0};
    while (vgpu_ring_client_room(&channel->submit) < ROOM_UNITS) {
        if (atomic_load_explicit(&channel->death, memory_order_acquire))
            return false;
        channel->full_waits++;
        vgpu_channel_wait_room(channel, &pause);
    }
    if (channel->submit.broken)
        vgpu_channel_kill(channel, VGPU_DEATH_COUNTER, 0);
    return !channel->submit.broken;
}

/* Writes the record, waits for room. The lock is held. False: the channel died. */
static bool write_record(struct vgpu_channel *channel, struct vgpu_ring_record *header,
                         const struct vgpu_channel_record *record)
{
    while (!vgpu_ring_client_write(&channel->submit, header, record->parts, record->count))
        if (!wait_for_room(channel))
            return false;
    return true;
}

/* Shows it to the worker, gives the lock back, wakes the worker when it sleeps. */
static inline void publish(struct vgpu_channel *channel)
{
    bool asleep = vgpu_ring_client_publish(&channel->submit);
    channel->doorbells += asleep;
    unlock(channel);
    if (asleep)
        channel->port.transport->ops->ring(&channel->port);
}

int vgpu_channel_post(struct vgpu_channel *channel, const struct vgpu_channel_record *record)
{
    int err = check_record(record);
    if (err < 0)
        return err;
    if (!is_usable(channel) || !lock(channel))
        return fail_check(channel);
    struct vgpu_ring_record header = {.opcode = record->opcode, .flags = record->flags};
    if (!write_record(channel, &header, record)) {
        unlock(channel);
        return vgpu_channel_fail_dead(channel);
    }
    channel->posts++;
    publish(channel);
    return 0;
}

/* ---- Tokens and places for answers ---- */

/* Only this side takes bits, under the lock; the drainer gives them back. */
static bool take_slot(struct vgpu_channel *channel, uint32_t *slot)
{
    for (uint32_t word = 0; word < VGPU_CHANNEL_SLOT_WORDS; word++) {
        uint64_t free_bits = atomic_load_explicit(&channel->free_slots[word], memory_order_acquire);
        if (free_bits == 0)
            continue;
        uint64_t bit = free_bits & -free_bits;
        atomic_fetch_and_explicit(&channel->free_slots[word], ~bit, memory_order_relaxed);
        *slot = word * 64 + (uint32_t)__builtin_ctzll(bit);
        return true;
    }
    return false;
}

/* The first free unit from `at` on, or the first taken one; VGPU_RING_ANSWER_UNITS: none. */
static uint32_t next_unit(const uint64_t *bits, uint32_t at, bool want_free)
{
    for (uint32_t word = at / 64; word < VGPU_CHANNEL_UNIT_WORDS; word++) {
        uint64_t found = want_free ? bits[word] : ~bits[word];
        if (word == at / 64)
            found &= UINT64_MAX << at % 64;
        if (found)
            return word * 64 + (uint32_t)__builtin_ctzll(found);
    }
    return VGPU_RING_ANSWER_UNITS;
}

/* First fit: answers live for microseconds, and most are of one size. 0 units are always to be had.
 */
static bool take_units(struct vgpu_channel *channel, uint32_t count, uint32_t *first)
{
    uint64_t bits[VGPU_CHANNEL_UNIT_WORDS];
    *first = 0;
    if (count == 0)
        return true;
    for (uint32_t i = 0; i < VGPU_CHANNEL_UNIT_WORDS; i++)
        bits[i] = atomic_load_explicit(&channel->free_units[i], memory_order_acquire);
    uint32_t at = next_unit(bits, 0, true);
    while (at < VGPU_RING_ANSWER_UNITS) {
        uint32_t end = next_unit(bits, at, false);
        if (end - at >= count)
            break;
        at = end < VGPU_RING_ANSWER_UNITS ? next_unit(bits, end, true) : end;
    }
    if (at >= VGPU_RING_ANSWER_UNITS)
        return false;
    *first = at;
    for (uint32_t left = count; left;) {
        uint32_t bit = at % 64, n = 64 - bit < left ? 64 - bit : left;
        uint64_t mask = (n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1) << bit;
        atomic_fetch_and_explicit(&channel->free_units[at / 64], ~mask, memory_order_relaxed);
        at += n;
        left -= n;
    }
    return true;
}

/* A slot and the units; waits for both. The lock is held. False: the channel died. */
static bool take_place(struct vgpu_channel *channel, uint32_t units, uint32_t *slot,
                       uint32_t *first)
{
    struct vgpu_channel_pause pause = {0};
    bool have_slot = false;
    for (;;) {
        have_slot = have_slot || take_slot(channel, slot);
        if (have_slot && take_units(channel, units, first))
            return true;
        if (atomic_load_explicit(&channel->death, memory_order_acquire))
            return false;
        channel->full_waits++;
        vgpu_channel_wait_room(channel, &pause);
    }
}

static uint32_t next_token(struct vgpu_channel *channel, uint32_t slot)
{
    uint32_t generation = (channel->generations[slot] + 1) % TOKEN_GENERATION;
    if (generation == 0)
        generation = 1;
    channel->generations[slot] = generation;
    return generation * VGPU_CHANNEL_SLOTS + slot;
}

int vgpu_channel_start(struct vgpu_channel *channel, const struct vgpu_channel_record *record,
                       struct vgpu_ticket *ticket)
{
    int err = check_record(record);
    if (err < 0)
        return err;
    if (ticket->capacity > VGPU_CHANNEL_ANSWERS_BYTES / 4)
        return vgpu_fail(-EINVAL, "an answer of up to %" PRIu32 " bytes, the most is %" PRIu32,
                         ticket->capacity, (uint32_t)VGPU_CHANNEL_ANSWERS_BYTES / 4);
    if (!is_usable(channel) || !lock(channel))
        return fail_check(channel);
    uint32_t units = ticket->capacity > VGPU_RING_INLINE_BYTES
                         ? (ticket->capacity + VGPU_RING_UNIT - 1) / VGPU_RING_UNIT
                         : 0;
    uint32_t number, first;
    if (!take_place(channel, units, &number, &first)) {
        unlock(channel);
        return vgpu_channel_fail_dead(channel);
    }
    struct vgpu_ring_record header = {
        .opcode = record->opcode,
        .flags = record->flags,
        .token = next_token(channel, number),
        .answer_unit = (uint16_t)first,
        .answer_units = (uint16_t)units,
    };
    ticket->length = 0;
    ticket->token = header.token;
    atomic_store_explicit(&ticket->done, 0, memory_order_relaxed);
    if (!write_record(channel, &header, record)) {
        unlock(channel); /* the place is lost with the channel */
        return vgpu_channel_fail_dead(channel);
    }
    /* Before it is published: the answer may be faster than we are. */
    struct vgpu_channel_slot *slot = &channel->slot[number];
    slot->answer_unit = (uint16_t)first;
    slot->answer_units = (uint16_t)units;
    atomic_store_explicit(&channel->asleep[number], 0, memory_order_relaxed);
    atomic_store_explicit(&slot->ticket, ticket, memory_order_relaxed);
    atomic_store_explicit(&slot->token, header.token, memory_order_release);
    channel->calls++;
    publish(channel);
    return 0;
}

int vgpu_channel_call(struct vgpu_channel *channel, const struct vgpu_channel_record *record,
                      struct vgpu_ticket *ticket)
{
    int err = vgpu_channel_start(channel, record, ticket);
    return err < 0 ? err : vgpu_channel_finish(channel, ticket);
}

/* ---- The arena ---- */

static int arena_call(struct vgpu_channel *channel, const char *what, uint16_t opcode,
                      uint64_t value, void *answer, uint32_t capacity)
{
    char text[256];
    struct vgpu_ring_part part = {&value, sizeof(value)};
    struct vgpu_channel_record record = {.opcode = opcode, .parts = &part, .count = 1};
    struct vgpu_ticket ticket = {.bytes = text, .capacity = sizeof(text)};
    int err = vgpu_channel_call(channel, &record, &ticket);
    if (err < 0)
        return err;
    if (ticket.error_code)
        return vgpu_fail_error_code(what, ticket.error_code, NULL);
    if (ticket.status) {
        struct vgpu_answer why = {
            .status = ticket.status, .data = (const uint8_t *)text, .data_length = ticket.length};
        return vgpu_fail_status(what, &why);
    }
    if (ticket.length != capacity)
        return vgpu_fail(-EBADMSG, "%s: an answer of %" PRIu32 " bytes, want %" PRIu32, what,
                         ticket.length, capacity);
    memcpy(answer, text, capacity);
    return 0;
}

int vgpu_channel_arena_alloc(struct vgpu_channel *channel, uint64_t bytes, uint64_t *offset)
{
    static const char *const what = "ARENA_ALLOC";
    uint64_t at = 0;
    int err = arena_call(channel, what, VGPU_RING_ARENA_ALLOC, bytes, &at, sizeof(at));
    if (err != 0)
        return err;
    /* Everything the caller does with it, it does with a pointer. */
    const struct vgpu_channel_port *port = &channel->port;
    uint64_t arena = (uint64_t)port->channel_count * VGPU_CHANNEL_BYTES;
    if (at % VGPU_ARENA_GRANULE || at < arena || at > port->window_bytes ||
        bytes > port->window_bytes - at)
        return vgpu_fail(-EBADMSG, "%s: the host says offset 0x%" PRIx64 ", where no extent can be",
                         what, at);
    *offset = at;
    return 0;
}

int vgpu_channel_arena_free(struct vgpu_channel *channel, uint64_t offset)
{
    uint8_t nothing;
    return arena_call(channel, "ARENA_FREE", VGPU_RING_ARENA_FREE, offset, &nothing, 0);
}

/* ---- Where things are ---- */

uint8_t *vgpu_channel_window(struct vgpu_channel *channel)
{
    return channel->port.window;
}

static uint64_t start_of(const struct vgpu_channel *channel)
{
    return (uint64_t)channel->port.number * VGPU_CHANNEL_BYTES;
}

uint64_t vgpu_channel_upload(const struct vgpu_channel *channel)
{
    return start_of(channel) + VGPU_CHANNEL_UPLOAD;
}

uint64_t vgpu_channel_download(const struct vgpu_channel *channel)
{
    return start_of(channel) + VGPU_CHANNEL_DOWNLOAD;
}

const struct vgpu_channel_port *vgpu_channel_port(const struct vgpu_channel *channel)
{
    return &channel->port;
}

struct vgpu_staging_pair *vgpu_channel_staging(struct vgpu_channel *channel)
{
    return channel->staging;
}

void vgpu_channel_read_statistics(struct vgpu_channel *channel,
                                  struct vgpu_channel_statistics *statistics)
{
    *statistics = (struct vgpu_channel_statistics){0};
    if (!is_ours(channel) || !lock(channel))
        return;
    statistics->posts = channel->posts;
    statistics->calls = channel->calls;
    statistics->doorbells = channel->doorbells;
    statistics->full_waits = channel->full_waits;
    unlock(channel);
    statistics->sleeps = atomic_load_explicit(&channel->sleeps, memory_order_relaxed);
}

/* ---- Beginning and end ---- */

/* A page that the kernel clears in children, so that being one costs a look at memory. */
static int make_mark(struct vgpu_channel *channel)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint32_t *mark = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mark == MAP_FAILED)
        return vgpu_fail(-ENOMEM, "out of memory");
#ifdef MADV_WIPEONFORK
    channel->ours_wiped = madvise(mark, page, MADV_WIPEONFORK) == 0;
#endif
    *mark = channel->ours_wiped ? 1 : (uint32_t)getpid();
    channel->ours = mark;
    return 0;
}

static void free_channel(struct vgpu_channel *channel)
{
    if (channel->ours)
        munmap((void *)(uintptr_t)channel->ours, (size_t)sysconf(_SC_PAGESIZE));
    vgpu_staging_destroy(channel->staging);
    free(channel);
}

static struct vgpu_channel *make_channel(struct vgpu *gpu)
{
    struct vgpu_channel *channel = aligned_alloc(alignof(struct vgpu_channel), sizeof(*channel));
    if (!channel)
        return NULL;
    memset(channel, 0, sizeof(*channel));
    channel->gpu = gpu;
    channel->spin_ns = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SPIN_NS : 0;
    for (unsigned i = 0; i < VGPU_CHANNEL_SLOT_WORDS; i++)
        atomic_init(&channel->free_slots[i], UINT64_MAX);
    for (unsigned i = 0; i < VGPU_CHANNEL_UNIT_WORDS; i++)
        atomic_init(&channel->free_units[i], UINT64_MAX);
    channel->staging = vgpu_staging_create();
    if (!channel->staging || make_mark(channel) < 0) {
        free_channel(channel);
        return NULL;
    }
    return channel;
}

int vgpu_channel_attach(struct vgpu *gpu, const struct vgpu_channel_port *port, uint32_t generation,
                        struct vgpu_channel **result)
{
    struct vgpu_channel *channel = make_channel(gpu);
    if (!channel)
        return vgpu_fail(-ENOMEM, "out of memory");
    channel->port = *port;
    channel->generation = generation;
    uint8_t *base = port->window + start_of(channel);
    vgpu_ring_client_init(&channel->submit, base);
    vgpu_ring_client_init(&channel->drain, base);
    *result = channel;
    return 0;
}

/* SESSION_CHANNEL: from here on the host serves the session by that channel. */
static int bind_channel(struct vgpu *gpu, uint64_t session, uint32_t number, uint64_t deadline_ns)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    const uint32_t which[2] = {number, 0};
    struct vgpu_call call = {.what = "SESSION_CHANNEL",
                             .opcode = VGPU_OP_SESSION_CHANNEL,
                             .prefix = which,
                             .prefix_length = sizeof(which)};
    return vgpu_mailbox_call(gpu, session, &call, deadline_ns, &response, &answer);
}

int vgpu_channel_open(struct vgpu *gpu, uint64_t session, struct vgpu_channel **result)
{
    const struct vgpu_transport_ops *ops = gpu->transport->ops;
    *result = NULL;
    if (!ops->claim)
        return vgpu_fail(-EOPNOTSUPP, "this kind of device has no channels");
    uint64_t deadline_ns =
        vgpu_deadline_ns(gpu->timeout_ms < ENABLE_LIMIT_MS ? gpu->timeout_ms : ENABLE_LIMIT_MS);
    struct vgpu_channel_port port = {0};
    uint32_t generation;
    /* Before the claim: should it move later, the channel is found dead. */
    int err = vgpu_generation(gpu, &generation);
    if (err == 0)
        err = ops->claim(gpu->transport, &port);
    if (err < 0)
        return err;
    err = bind_channel(gpu, session, port.number, deadline_ns);
    if (err == 0)
        err = ops->enable(&port, deadline_ns);
    if (err == 0)
        err = vgpu_channel_attach(gpu, &port, generation, result);
    if (err != 0) {
        char why[512];
        snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
        ops->release(&port, false);
        return vgpu_fail(err, "%s", why);
    }
    return 0;
}

void vgpu_channel_close(struct vgpu_channel *channel, bool forked)
{
    if (!channel)
        return;
    channel->port.transport->ops->release(&channel->port, forked);
    free_channel(channel);
}

void vgpu_channel_farewell(struct vgpu_channel *channel)
{
    const struct vgpu_transport_ops *ops = channel->port.transport->ops;
    vgpu_channel_kill(channel, VGPU_DEATH_FREE, 0);
    if (ops->farewell)
        ops->farewell(&channel->port);
}
