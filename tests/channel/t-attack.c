/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-attack channel|window [--device D] [--seconds N] [--seed N]
 *
 * A guest that does to its window what no library of ours would: one thread sends records, good and
 * bad, on a channel of its own, and another scribbles over memory that the worker reads.
 *
 *     channel  over that channel; a session beside it, on its own channel of the same window, goes
 *              on computing and must stay right
 *     window   over all channels and the arena, and nobody beside it
 *
 * Resets its channel whenever it has become fatal, and each time looks whether the channel works
 * again (G19). Prints "RESULT key=value ..." and exits 0 when all was right.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "channel_test.h"
#include "cli/cli.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "guest/vgpu_mmio_client.h"
#include "ring/barrier.h"
#include "ring/ring.h"
#include "vgpu/curesult.h"
#include "vgpu_cuda_calls.h"

#define FRIEND_BYTES  5000u
#define REOPEN_ROUNDS 40u /* a new session: what the old one was tricked into holding is freed */

static atomic_bool stop_scribbling, stop_friend;

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
    bool open, claimed, spoilt;
    struct vgpu_channel_port port;
    struct vgpu_ring_client ring;
    struct dice dice;
    uint8_t *base;
    uint32_t next_token;
    int manners; /* enum manners */
    uint64_t rounds, resets, fatal[8], sessions, answers;
};

static bool open_session(struct attacker *a)
{
    a->session = roll(&a->dice) | 1;
    a->sessions++;
    a->open = channel_test_request(a->session, VGPU_OP_SESSION_OPEN, NULL, 0) == 0;
    return a->open || !channel_test_fail("SESSION_OPEN");
}

static void close_session(struct attacker *a)
{
    if (a->open && vgpu_session_end(channel_test_gpu, a->session,
                                    vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS)) != 0)
        channel_test_fail("SESSION_CLOSE");
    a->open = false;
}

static bool take_channel(struct attacker *a)
{
    const struct vgpu_transport_ops *ops = channel_test_gpu->transport->ops;
    if (!ops->claim) {
        printf("FAILED no channels here\n");
        return false;
    }
    a->port = (struct vgpu_channel_port){0};
    if (ops->claim(channel_test_gpu->transport, &a->port) != 0)
        return !channel_test_fail("claim");
    a->claimed = true;
    const uint32_t which[2] = {a->port.number, 0};
    /* The one before is the session's until the worker has let go of it (G2, G3). */
    uint64_t deadline_ns = vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS);
    int err;
    while ((err = channel_test_request(a->session, VGPU_OP_SESSION_CHANNEL, which,
                                       sizeof(which))) == CUDA_ERROR_ILLEGAL_STATE &&
           vgpu_now_ns() < deadline_ns)
        usleep(1000);
    if (err != 0)
        return !channel_test_fail("SESSION_CHANNEL");
    if (ops->enable(&a->port, vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS)) != 0)
        return !channel_test_fail("enable");
    a->base = a->port.window + (uint64_t)a->port.number * VGPU_CHANNEL_BYTES;
    vgpu_ring_client_init(&a->ring, a->base);
    a->spoilt = false;
    return true;
}

static void drop_channel(struct attacker *a)
{
    if (a->claimed)
        channel_test_gpu->transport->ops->release(&a->port, false);
    a->claimed = false;
}

static void ring_doorbell(struct attacker *a)
{
    channel_test_gpu->transport->ops->ring(&a->port);
}

/* A NOP that is answered: the channel works. */
static bool channel_works(struct attacker *a)
{
    struct vgpu_ring_record nop = {.opcode = VGPU_RING_NOP, .token = ++a->next_token * 2 + 1};
    struct vgpu_ring_completion answer;
    uint64_t deadline_ns = vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS);
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

/* How a channel's life is spent. What breaks a rule ends it soon, so most of each is left out. */
enum manners {
    POLITE,    /* records of the right shape, with values of all sorts: deep into the worker */
    BAD_TAILS, /* the same, and now and then a submit_tail that cannot be */
    BAD_HEADS, /* a complete_head that cannot be */
    RUDE,      /* anything, and a scribbler beside it */
    MANNERS,
};

static void write_record(struct attacker *a, uint16_t opcode, uint16_t flags, const void *body,
                         uint32_t length)
{
    struct vgpu_ring_record header = {.opcode = opcode, .flags = flags};
    struct vgpu_ring_part part = {body, length};
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    bool may_be_silent = opcode == VGPU_RING_NOP || (info && info->posted);
    if (!may_be_silent || below(&a->dice, 2)) {
        header.token = ++a->next_token * 2 + 1;
        header.answer_unit = (uint16_t)below(&a->dice, VGPU_RING_ANSWER_UNITS - 8);
        header.answer_units = (uint16_t)below(&a->dice, 8);
    }
    if (a->manners == RUDE && below(&a->dice, 8) == 0) {
        header.token = (uint32_t)any_number(&a->dice);
        header.answer_unit = (uint16_t)any_number(&a->dice);
        header.answer_units = (uint16_t)any_number(&a->dice);
    }
    vgpu_ring_client_write(&a->ring, &header, &part, 1);
}

/* Handles are small numbers, so that what one call made another finds. */
static uint64_t any_value(struct dice *dice)
{
    return below(dice, 2) ? below(dice, 6) : any_number(dice);
}

static void send_call(struct attacker *a)
{
    static const uint16_t makers[] = {VGPU_CALL_PRIMARY_RETAIN, VGPU_CALL_CONTEXT_CREATE,
                                      VGPU_CALL_MEMORY_ALLOC, VGPU_CALL_STREAM_CREATE,
                                      VGPU_CALL_EVENT_CREATE};
    uint64_t body[1 + VGPU_CALL_SLOTS_MAX + 16];
    uint16_t opcode = VGPU_RING_CALL_FIRST + (uint16_t)below(&a->dice, 0x8B);
    if (below(&a->dice, 5) == 0)
        opcode = makers[below(&a->dice, sizeof(makers) / sizeof(makers[0]))];
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint32_t words = 1 + (info ? info->in_count : 0);
    if (info && info->payload != VGPU_PAYLOAD_NONE)
        words += (uint32_t)below(&a->dice, 16);
    if (!info)
        words += (uint32_t)below(&a->dice, 8);
    if (a->manners == RUDE && below(&a->dice, 8) == 0)
        words = (uint32_t)below(&a->dice, sizeof(body) / sizeof(body[0]));
    for (uint32_t i = 0; i < words; i++)
        body[i] = any_value(&a->dice);
    if (info && info->window && words > 4 && below(&a->dice, 2)) /* some of it is ours */
        body[1 + below(&a->dice, 4)] =
            (uint64_t)(a->base - a->port.window) +
            (below(&a->dice, 2) ? VGPU_CHANNEL_UPLOAD : VGPU_CHANNEL_DOWNLOAD);
    write_record(a, opcode, below(&a->dice, 8) ? 0 : VGPU_RING_FLAG_HINT, body, words * 8);
}

static void send_stage_copy(struct attacker *a)
{
    uint64_t upload = (uint64_t)(a->base - a->port.window) + VGPU_CHANNEL_UPLOAD;
    struct vgpu_ring_stage_copy copy = {.stage = (uint32_t)any_value(&a->dice),
                                        .total_bytes = (uint32_t)any_number(&a->dice),
                                        .offset = (uint32_t)any_value(&a->dice),
                                        .bytes = (uint32_t)any_number(&a->dice),
                                        .window_offset = below(&a->dice, 2)
                                                             ? any_number(&a->dice)
                                                             : upload + below(&a->dice, 0x20000)};
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
        request.words[i] = any_value(&a->dice);
    request.words[0] = below(&a->dice, 8) ? a->session : roll(&a->dice);
    memcpy(&request.words[1], &inner, sizeof(inner));
    if (below(&a->dice, 4) == 0)
        request.header.opcode = 0x2000 + (uint32_t)below(&a->dice, 0x40);
    if (request.header.opcode == VGPU_OP_SESSION_CLOSE)
        request.words[0] = roll(&a->dice); /* not our own: the session is to live on */
    write_record(a, VGPU_RING_REQUEST, 0, &request, (uint32_t)sizeof(request));
}

static void send_arena(struct attacker *a)
{
    bool takes = below(&a->dice, 3) != 0;
    uint64_t value = takes ? below(&a->dice, 1 << 20)
                           : (uint64_t)a->port.channel_count * VGPU_CHANNEL_BYTES +
                                 below(&a->dice, 64) * VGPU_ARENA_GRANULE;
    if (below(&a->dice, 4) == 0)
        value = any_number(&a->dice);
    write_record(a, takes ? VGPU_RING_ARENA_ALLOC : VGPU_RING_ARENA_FREE, 0, &value, sizeof(value));
}

/* A record that says to be longer than any may be, and everything it says was published. */
static void send_liar(struct attacker *a)
{
    uint64_t first = a->ring.tail;
    unsigned units = 300 + (unsigned)below(&a->dice, 600);
    for (unsigned i = 0; i < units; i++)
        write_record(a, VGPU_RING_NOP, 0, NULL, 0);
    struct vgpu_ring_record header = {
        .length = (uint32_t)(below(&a->dice, 2) ? any_number(&a->dice)
                                                : below(&a->dice, units * VGPU_RING_UNIT))};
    if (a->ring.tail > first)
        memcpy(a->base + VGPU_CHANNEL_SUBMISSIONS + first % VGPU_RING_UNITS * VGPU_RING_UNIT,
               &header, sizeof(header));
}

/* The counters and flags of our page, and what nobody but the worker should write. */
static void poke(struct attacker *a)
{
    struct vgpu_ring_guest *page = (struct vgpu_ring_guest *)(void *)a->base;
    uint64_t wrong = any_number(&a->dice);
    if (a->manners == BAD_TAILS) {
        vgpu_shared_release64(&page->submit_tail, a->ring.tail + wrong);
    } else if (a->manners == BAD_HEADS) {
        vgpu_shared_release64(&page->complete_head, a->ring.consumed + wrong);
        a->spoilt = true; /* nothing is taken any more, or it would be right again */
    } else if (a->manners == RUDE) {
        for (unsigned i = 0; i < 64; i++)
            vgpu_shared_release64(
                (uint64_t *)(void *)(a->base + below(&a->dice, VGPU_CHANNEL_BYTES / 8) * 8),
                any_number(&a->dice));
    }
    vgpu_shared_release32(&page->interrupt_wanted, (uint32_t)wrong);
}

static void attack_once(struct attacker *a)
{
    struct vgpu_ring_completion answer;
    uint8_t junk[256];
    for (unsigned n = 1 + (unsigned)below(&a->dice, 40); n > 0; n--) {
        switch (below(&a->dice, 8)) {
        case 0:
            send_stage_copy(a);
            break;
        case 1:
            send_request(a);
            break;
        case 2:
            send_arena(a);
            break;
        case 3:
            write_record(a, VGPU_RING_NOP, 0, NULL, 0);
            break;
        case 4:
            for (unsigned i = 0; i < sizeof(junk); i++)
                junk[i] = (uint8_t)roll(&a->dice);
            if (a->manners == RUDE && below(&a->dice, 16) == 0)
                send_liar(a);
            else if (a->manners == RUDE)
                write_record(a, (uint16_t)any_number(&a->dice), (uint16_t)any_value(&a->dice), junk,
                             (uint32_t)below(&a->dice, sizeof(junk) + 1));
            break;
        default:
            send_call(a);
        }
    }
    bool pokes = a->manners != POLITE && below(&a->dice, 8) == 0;
    vgpu_ring_client_publish(&a->ring);
    if (pokes)
        poke(a);
    ring_doorbell(a);
    if (below(&a->dice, 3) == 0)
        usleep((useconds_t)below(&a->dice, 500));
    while (!a->spoilt && vgpu_ring_client_take(&a->ring, &answer))
        a->answers++;
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
    f->good = vgpu_session_open(channel_test_gpu, &session) == 0 || !channel_test_fail("friend");
    if (!f->good)
        return NULL;
    f->good = vgpu_memory_alloc(session, FRIEND_BYTES, &address) == 0 ||
              !channel_test_fail("friend's allocation");
    while (f->good && !atomic_load(&stop_friend)) {
        for (unsigned i = 0; i < FRIEND_BYTES; i++)
            there[i] = (uint8_t)(i * 7 + f->rounds);
        memset(back, 0, sizeof(back));
        f->good = (vgpu_copy_to_device(session, address, there, FRIEND_BYTES) == 0 &&
                   vgpu_copy_from_device(session, back, address, FRIEND_BYTES) == 0) ||
                  !channel_test_fail("friend's copy");
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
        a->manners = (int)below(&a->dice, MANNERS);
        bool scribbles = a->manners == RUDE && below(&a->dice, 2);
        atomic_store(&stop_scribbling, false);
        if (scribbles && pthread_create(&thread, NULL, scribble, &scribbler) != 0)
            return false;
        uint32_t state = VGPU_CHANNEL_ACTIVE, error = 0, generation;
        const unsigned most = a->manners == BAD_HEADS ? 200 : 50;
        for (unsigned i = 0; i < most && state == VGPU_CHANNEL_ACTIVE; i++) {
            attack_once(a);
            if (channel_test_gpu->transport->ops->state(&a->port, &state, &error, &generation) != 0)
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
           " friend_rounds=%" PRIu64 " answers=%" PRIu64 " verdict=%s\n",
           a.rounds, a.resets, a.sessions, a.fatal[0], a.fatal[1], a.fatal[2], a.fatal[3], f.rounds,
           a.answers, good ? "ok" : "failed");
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    struct channel_test_options options;
    bool all = strcmp(mode, "window") == 0;
    if ((!all && strcmp(mode, "channel") != 0) || !channel_test_options(argc, argv, &options)) {
        fprintf(stderr, "usage: t-attack channel|window [--device D] [--seconds N] [--seed N]\n");
        return 2;
    }
    if (!channel_test_open(&options))
        return 1;
    int status = run_attack(all, options.seconds, options.seed);
    vgpu_cleanup(channel_test_gpu);
    return status;
}
