/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-window MODE [--device D] [--seconds N] [--seed N]
 *
 * A guest that does to its window what no library of ours would. Modes:
 *
 *     attack      one thread sends records, good and bad, on a channel of its own, while another
 *                 scribbles over that channel; a session beside it, on its own channel of the same
 *                 window, goes on computing and must stay right
 *     attack-all  the same over the whole window, all channels and the arena, and nobody beside it
 *     fill        fills all of the arena and staging that it can have with 0xA5, prints "FILLED"
 *                 and waits for a line; the session is not closed
 *     check       what a new session can have of the arena, and its channel, hold nothing of
 * anybody scrub       fill, then check, one session after the other on one window
 *
 * attack resets its channel whenever it has become fatal, and each time looks whether the channel
 * works again (G19). Prints "RESULT key=value ..." and exits 0 when all was right.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "guest/channel.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "guest/vgpu_mmio_client.h"
#include "ring/barrier.h"

#define PATIENCE_MS   60000u
#define PATTERN       0xA5
#define EXTENT_MAX    256u
#define FRIEND_BYTES  5000u
#define REOPEN_ROUNDS 40u /* a new session: what the old one was tricked into holding is freed */

static struct vgpu *gpu;
static atomic_bool stop_scribbling, stop_friend;

static int fail(const char *what)
{
    printf("FAILED %s: %s\n", what, vgpu_last_error_text());
    return 1;
}

/* ---- Random numbers that make sense often enough ---- */

struct dice {
    uint64_t state;
};

static uint64_t roll(struct dice *dice)
{
    dice->state ^= dice->state << 13;
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return dice->state * 0x2545F4914F6CDD1Du;
}

static uint64_t below(struct dice *dice, uint64_t limit)
{
    return (roll(dice) >> 11) % limit;
}

static uint64_t any_number(struct dice *dice)
{
    switch (below(dice, 6)) {
    case 0:
        return below(dice, 4);
    case 1:
        return below(dice, 4096);
    case 2:
        return (uint64_t)1 << below(dice, 64);
    case 3:
        return ((uint64_t)1 << below(dice, 64)) - 1;
    case 4:
        return (uint64_t)0 - below(dice, 4096);
    default:
        return roll(dice);
    }
}

/* ---- A session and a channel, by hand ---- */

struct attacker {
    uint64_t session;
    bool open, claimed;
    struct vgpu_channel_port port;
    struct vgpu_ring_client ring;
    struct dice dice;
    uint8_t *base;
    uint32_t next_token;
    uint64_t rounds, resets, fatal[8], sessions;
};

static int session_request(uint64_t session, uint32_t opcode, const void *prefix, uint32_t length)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_call call = {
        .what = "a session", .opcode = opcode, .prefix = prefix, .prefix_length = length};
    return vgpu_mailbox_call(gpu, session, &call, vgpu_deadline_ns(PATIENCE_MS), &response,
                             &answer);
}

static bool open_session(struct attacker *a)
{
    a->session = roll(&a->dice) | 1;
    a->sessions++;
    a->open = session_request(a->session, VGPU_OP_SESSION_OPEN, NULL, 0) == 0;
    return a->open || !fail("SESSION_OPEN");
}

static void close_session(struct attacker *a)
{
    if (a->open && vgpu_session_end(gpu, a->session, vgpu_deadline_ns(PATIENCE_MS)) != 0)
        fail("SESSION_CLOSE");
    a->open = false;
}

static bool take_channel(struct attacker *a)
{
    const struct vgpu_transport_ops *ops = gpu->transport->ops;
    if (!ops->claim) {
        printf("FAILED no channels here\n");
        return false;
    }
    a->port = (struct vgpu_channel_port){0};
    if (ops->claim(gpu->transport, &a->port) != 0)
        return !fail("claim");
    a->claimed = true;
    const uint32_t which[2] = {a->port.number, 0};
    if (session_request(a->session, VGPU_OP_SESSION_CHANNEL, which, sizeof(which)) != 0)
        return !fail("SESSION_CHANNEL");
    if (ops->enable(&a->port, vgpu_deadline_ns(PATIENCE_MS)) != 0)
        return !fail("enable");
    a->base = a->port.window + (uint64_t)a->port.number * VGPU_CHANNEL_BYTES;
    vgpu_ring_client_init(&a->ring, a->base);
    return true;
}

static void drop_channel(struct attacker *a)
{
    if (a->claimed)
        gpu->transport->ops->release(&a->port, false);
    a->claimed = false;
}

static void ring_doorbell(struct attacker *a)
{
    gpu->transport->ops->ring(&a->port);
}

/* A NOP that is answered: the channel works. */
static bool channel_works(struct attacker *a)
{
    struct vgpu_ring_record nop = {.opcode = VGPU_RING_NOP, .token = ++a->next_token | 1};
    struct vgpu_ring_completion answer;
    uint64_t deadline_ns = vgpu_deadline_ns(PATIENCE_MS);
    if (!vgpu_ring_client_write(&a->ring, &nop, NULL, 0))
        return false;
    vgpu_ring_client_publish(&a->ring);
    ring_doorbell(a);
    while (!vgpu_ring_client_take(&a->ring, &answer)) {
        if (vgpu_now_ns() > deadline_ns)
            return false;
        usleep(100);
    }
    return answer.token == nop.token && answer.status == 0;
}

/* ---- Attacks ---- */

static void write_record(struct attacker *a, uint16_t opcode, uint16_t flags, const void *body,
                         uint32_t length)
{
    struct vgpu_ring_record header = {.opcode = opcode, .flags = flags};
    struct vgpu_ring_part part = {body, length};
    if (below(&a->dice, 4)) {
        header.token = (uint32_t)any_number(&a->dice) | 1;
        header.answer_unit = (uint16_t)below(&a->dice, VGPU_RING_ANSWER_UNITS);
        header.answer_units = (uint16_t)below(&a->dice, 8);
        if (header.answer_unit + header.answer_units > VGPU_RING_ANSWER_UNITS && below(&a->dice, 8))
            header.answer_units = 0;
    }
    vgpu_ring_client_write(&a->ring, &header, &part, 1);
}

static void send_junk_body(struct attacker *a, uint16_t opcode, uint32_t most)
{
    uint64_t body[128];
    uint32_t words = (uint32_t)below(&a->dice, most + 1);
    for (uint32_t i = 0; i < words; i++)
        body[i] = any_number(&a->dice);
    write_record(a, opcode, below(&a->dice, 8) ? 0 : (uint16_t)below(&a->dice, 4), body, words * 8);
}

static void send_stage_copy(struct attacker *a)
{
    struct vgpu_ring_stage_copy copy = {
        .stage = (uint32_t)below(&a->dice, 6),
        .total_bytes = (uint32_t)any_number(&a->dice),
        .offset = (uint32_t)any_number(&a->dice),
        .bytes = (uint32_t)any_number(&a->dice),
        .window_offset = below(&a->dice, 2) ? any_number(&a->dice)
                                            : (uint64_t)(a->base - a->port.window) +
                                                  VGPU_CHANNEL_UPLOAD + below(&a->dice, 0x20000)};
    write_record(a, VGPU_RING_STAGE_COPY, 0, &copy, sizeof(copy));
}

static void send_request(struct attacker *a)
{
    struct {
        struct vgpu_request_header header;
        uint64_t words[40];
    } request = {.header = {.version = VGPU_PROTOCOL_VERSION,
                            .opcode = VGPU_OP_SESSION_REQUEST,
                            .data_offset = sizeof(request.header),
                            .data_length = 200}};
    struct vgpu_request_header inner = {.version = VGPU_PROTOCOL_VERSION,
                                        .opcode = (uint32_t)below(&a->dice, 8),
                                        .param_count = (uint32_t)below(&a->dice, 9)};
    for (unsigned i = 0; i < 40; i++)
        request.words[i] = any_number(&a->dice);
    request.words[0] = below(&a->dice, 8) ? a->session : roll(&a->dice);
    memcpy(&request.words[1], &inner, sizeof(inner));
    if (below(&a->dice, 4) == 0)
        request.header.opcode = 0x2000 + (uint32_t)below(&a->dice, 0x40);
    if (request.header.opcode == VGPU_OP_SESSION_CLOSE)
        request.words[0] = roll(&a->dice); /* not our own: the session is to live on */
    write_record(a, VGPU_RING_REQUEST, 0, &request, (uint32_t)sizeof(request));
}

/* One of the counters and flags of our page, or anything at all. */
static void poke(struct attacker *a)
{
    struct vgpu_ring_guest *page = (struct vgpu_ring_guest *)(void *)a->base;
    switch (below(&a->dice, 4)) {
    case 0:
        vgpu_shared_release64(&page->submit_tail, a->ring.tail + any_number(&a->dice));
        break;
    case 1:
        vgpu_shared_release64(&page->complete_head, a->ring.consumed + any_number(&a->dice));
        break;
    case 2:
        vgpu_shared_release32(&page->interrupt_wanted, (uint32_t)any_number(&a->dice));
        break;
    default:
        for (unsigned i = 0; i < 64; i++)
            vgpu_shared_release64(
                (uint64_t *)(void *)(a->base + below(&a->dice, VGPU_CHANNEL_BYTES / 8) * 8),
                any_number(&a->dice));
    }
}

static void attack_once(struct attacker *a)
{
    struct vgpu_ring_completion answer;
    for (unsigned n = 1 + (unsigned)below(&a->dice, 40); n > 0; n--) {
        switch (below(&a->dice, 8)) {
        case 0:
            send_junk_body(a, (uint16_t)any_number(&a->dice), 64);
            break;
        case 1:
            send_stage_copy(a);
            break;
        case 2:
            send_request(a);
            break;
        case 3:
            send_junk_body(a, VGPU_RING_ARENA_ALLOC + (uint16_t)below(&a->dice, 2), 1);
            break;
        case 4:
            write_record(a, VGPU_RING_NOP, 0, NULL, 0);
            break;
        default:
            send_junk_body(a, VGPU_RING_CALL_FIRST + (uint16_t)below(&a->dice, 260), 24);
        }
    }
    if (below(&a->dice, 3) == 0)
        poke(a);
    vgpu_ring_client_publish(&a->ring);
    ring_doorbell(a);
    if (below(&a->dice, 3) == 0)
        usleep((useconds_t)below(&a->dice, 500));
    while (vgpu_ring_client_take(&a->ring, &answer))
        ;
    a->rounds++;
}

struct scribbler {
    uint8_t *base;
    uint64_t bytes, seed;
};

/* What a second processor of a hostile guest does while the worker reads. Bytes race on purpose. */
static void *scribble(void *opaque)
{
    struct scribbler *s = opaque;
    struct dice dice = {s->seed | 1};
    while (!atomic_load(&stop_scribbling)) {
        uint64_t at = below(&dice, s->bytes / 8) * 8;
        if (below(&dice, 3) == 0) /* where records are */
            at = VGPU_CHANNEL_SUBMISSIONS + below(&dice, VGPU_RING_UNITS * 8) * 8;
        vgpu_shared_release64((uint64_t *)(void *)(s->base + at), any_number(&dice));
        if (below(&dice, 64) == 0)
            usleep(50);
    }
    return NULL;
}

/* ---- A session beside it ---- */

struct friend
{
    uint64_t rounds;
    bool good;
};

static void *compute(void *opaque)
{
    struct friend *f = opaque;
    struct vgpu_session *session;
    uint8_t there[FRIEND_BYTES], back[FRIEND_BYTES];
    uint64_t address;
    f->good = vgpu_session_open(gpu, &session) == 0 || !fail("friend");
    if (!f->good)
        return NULL;
    f->good =
        vgpu_memory_alloc(session, FRIEND_BYTES, &address) == 0 || !fail("friend's allocation");
    while (f->good && !atomic_load(&stop_friend)) {
        for (unsigned i = 0; i < FRIEND_BYTES; i++)
            there[i] = (uint8_t)(i * 7 + f->rounds);
        memset(back, 0, sizeof(back));
        f->good = (vgpu_copy_to_device(session, address, there, FRIEND_BYTES) == 0 &&
                   vgpu_copy_from_device(session, back, address, FRIEND_BYTES) == 0) ||
                  !fail("friend's copy");
        if (f->good && memcmp(there, back, FRIEND_BYTES) != 0) {
            printf("FAILED friend: wrong bytes in round %" PRIu64 "\n", f->rounds);
            f->good = false;
        }
        f->rounds++;
    }
    vgpu_session_close(session);
    return NULL;
}

/* ---- Putting the attack together ---- */

static bool start_over(struct attacker *a)
{
    drop_channel(a);
    if (a->resets++ % REOPEN_ROUNDS == REOPEN_ROUNDS - 1) {
        close_session(a);
        if (!open_session(a))
            return false;
    }
    return take_channel(a);
}

/* Attacks until the time is over; between two rests of the scribbler the channel has to work. */
static bool attack(struct attacker *a, bool all, uint64_t end_ns)
{
    while (vgpu_now_ns() < end_ns) {
        struct scribbler scribbler = {.base = all ? a->port.window : a->base,
                                      .bytes = all ? a->port.window_bytes : VGPU_CHANNEL_BYTES,
                                      .seed = roll(&a->dice)};
        pthread_t thread;
        bool scribbles = below(&a->dice, 2);
        atomic_store(&stop_scribbling, false);
        if (scribbles && pthread_create(&thread, NULL, scribble, &scribbler) != 0)
            return false;
        uint32_t state = VGPU_CHANNEL_ACTIVE, error = 0, generation;
        for (unsigned i = 0; i < 50 && state == VGPU_CHANNEL_ACTIVE; i++) {
            attack_once(a);
            if (gpu->transport->ops->state(&a->port, &state, &error, &generation) != 0)
                break;
        }
        atomic_store(&stop_scribbling, true);
        if (scribbles)
            pthread_join(thread, NULL);
        a->fatal[state == VGPU_CHANNEL_FATAL && error < 8 ? error : 0]++;
        if (error == VGPU_CHANNEL_SESSION_LOST) {
            printf("FAILED the session was lost in round %" PRIu64 "\n", a->rounds);
            return false;
        }
        if (!start_over(a))
            return false;
        if (!channel_works(a)) {
            printf("FAILED the channel does not work after reset %" PRIu64 "\n", a->resets);
            return false;
        }
    }
    return true;
}

static int run_attack(bool all, uint64_t seconds, uint64_t seed)
{
    struct attacker a = {.dice = {seed * 2654435761u | 1}};
    struct friend f = {.good = true};
    pthread_t thread;
    bool beside = !all;
    if (beside && pthread_create(&thread, NULL, compute, &f) != 0)
        return 1;
    bool good = open_session(&a) && take_channel(&a) && channel_works(&a) &&
                attack(&a, all, vgpu_now_ns() + seconds * 1000000000u);
    drop_channel(&a);
    close_session(&a);
    atomic_store(&stop_friend, true);
    if (beside)
        pthread_join(thread, NULL);
    good = good && f.good;
    printf("RESULT rounds=%" PRIu64 " resets=%" PRIu64 " sessions=%" PRIu64 " survived=%" PRIu64
           " bad_tail=%" PRIu64 " bad_record=%" PRIu64 " bad_head=%" PRIu64
           " friend_rounds=%" PRIu64 " verdict=%s\n",
           a.rounds, a.resets, a.sessions, a.fatal[0], a.fatal[1], a.fatal[2], a.fatal[3], f.rounds,
           good ? "ok" : "failed");
    return good ? 0 : 1;
}

/* ---- Scrubbing ---- */

/* Everything the arena has, in as many extents as it takes. Bytes of them. */
static uint64_t take_arena(struct vgpu_channel *channel, uint64_t *offsets, uint64_t *sizes,
                           unsigned *count)
{
    uint64_t total = 0;
    uint64_t bytes = (uint64_t)64 << 20;
    *count = 0;
    while (bytes >= VGPU_ARENA_GRANULE && *count < EXTENT_MAX) {
        if (vgpu_channel_arena_alloc(channel, bytes, &offsets[*count]) != 0) {
            bytes /= 2;
            continue;
        }
        sizes[(*count)++] = bytes;
        total += bytes;
    }
    return total;
}

static int open_channel(uint64_t session, struct vgpu_channel **channel)
{
    if (session_request(session, VGPU_OP_SESSION_OPEN, NULL, 0) != 0)
        return fail("SESSION_OPEN");
    if (vgpu_channel_open(gpu, session, channel) != 0)
        return fail("vgpu_channel_open");
    return 0;
}

static int run_fill(uint64_t session, struct vgpu_channel **channel)
{
    static uint64_t offsets[EXTENT_MAX], sizes[EXTENT_MAX];
    unsigned count;
    if (open_channel(session, channel) != 0)
        return 1;
    uint8_t *window = vgpu_channel_window(*channel);
    uint64_t total = take_arena(*channel, offsets, sizes, &count);
    for (unsigned i = 0; i < count; i++)
        memset(window + offsets[i], PATTERN, sizes[i]);
    memset(window + vgpu_channel_upload(*channel), PATTERN, VGPU_CHANNEL_UPLOAD_BYTES);
    memset(window + vgpu_channel_download(*channel), PATTERN, VGPU_CHANNEL_DOWNLOAD_BYTES);
    printf("FILLED extents=%u bytes=%" PRIu64 "\n", count, total);
    return total ? 0 : 1;
}

static uint64_t count_pattern(const uint8_t *bytes, uint64_t length)
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < length; i++)
        found += bytes[i] != 0;
    return found;
}

static int run_check(uint64_t session)
{
    static uint64_t offsets[EXTENT_MAX], sizes[EXTENT_MAX];
    struct vgpu_channel *channel;
    unsigned count;
    uint64_t left = 0;
    if (open_channel(session, &channel) != 0)
        return 1;
    uint8_t *window = vgpu_channel_window(channel);
    /* Before anything was sent: all but the two pages of counters is as the worker cleared it. */
    uint64_t first = vgpu_channel_upload(channel) - VGPU_CHANNEL_UPLOAD;
    left +=
        count_pattern(window + first + VGPU_CHANNEL_HINTS, VGPU_CHANNEL_BYTES - VGPU_CHANNEL_HINTS);
    uint64_t total = take_arena(channel, offsets, sizes, &count);
    for (unsigned i = 0; i < count; i++)
        left += count_pattern(window + offsets[i], sizes[i]);
    vgpu_channel_close(channel, false);
    if (vgpu_session_end(gpu, session, vgpu_deadline_ns(PATIENCE_MS)) != 0)
        return fail("SESSION_CLOSE");
    printf("RESULT extents=%u bytes=%" PRIu64 " left=%" PRIu64 " verdict=%s\n", count, total, left,
           total && !left ? "ok" : "failed");
    return total && !left ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu_channel *channel = NULL;
    uint64_t seconds = 5, seed = 1;
    const char *mode = argc > 1 ? argv[1] : "", *value;
    int status = 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 2; i < argc; i++) {
        bool good = false;
        if (cli_text_option(argc, argv, &i, "--device", &value))
            good = (options.device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--seconds", &value))
            good = cli_number(value, 1, 3600, &seconds);
        else if (cli_option(argc, argv, &i, "--seed", &value))
            good = cli_number(value, 1, UINT32_MAX, &seed);
        if (!good) {
            fprintf(stderr, "t-window: wrong argument '%s'\n", argv[i < argc ? i : argc - 1]);
            return 2;
        }
    }
    if (vgpu_init(&options, &gpu) != 0)
        return fail("vgpu_init");
    uint64_t session = (uint64_t)vgpu_next_request_id(gpu) << 32 | 77;
    if (strcmp(mode, "attack") == 0 || strcmp(mode, "attack-all") == 0) {
        status = run_attack(strcmp(mode, "attack-all") == 0, seconds, seed);
    } else if (strcmp(mode, "fill") == 0) {
        status = run_fill(session, &channel);
        char c;
        while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
            ;
    } else if (strcmp(mode, "check") == 0) {
        status = run_check(session);
    } else if (strcmp(mode, "scrub") == 0) {
        status = run_fill(session, &channel);
        if (channel)
            vgpu_channel_close(channel, false);
        if (vgpu_session_end(gpu, session, vgpu_deadline_ns(PATIENCE_MS)) != 0)
            status = fail("SESSION_CLOSE");
        status = status ? status : run_check(session + 1);
    } else {
        fprintf(stderr, "usage: t-window attack|attack-all|fill|check|scrub [--device D] "
                        "[--seconds N] [--seed N]\n");
    }
    vgpu_cleanup(gpu);
    return status;
}
