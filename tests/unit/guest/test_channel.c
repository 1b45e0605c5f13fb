/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A channel's guest end (src/guest/channel.h) against a worker's end in a thread: docs/ring.md from
 * the guest's side, with many threads, full rings, and what comes back too late. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel_rig.h"
#include "guest/deadline.h"
#include "vgpu_test.h"

#define OPCODE VGPU_RING_CALL_FIRST

static int post(struct rig *rig, const void *body, uint32_t length)
{
    struct vgpu_ring_part part = {body, length};
    struct vgpu_channel_record record = {.opcode = OPCODE, .parts = &part, .count = 1};
    return vgpu_channel_post(rig->channel, &record);
}

static int start(struct rig *rig, const void *body, uint32_t length, struct vgpu_ticket *ticket)
{
    struct vgpu_ring_part part = {body, length};
    struct vgpu_channel_record record = {.opcode = OPCODE, .parts = &part, .count = 1};
    return vgpu_channel_start(rig->channel, &record, ticket);
}

static int call(struct rig *rig, const void *body, uint32_t length, struct vgpu_ticket *ticket)
{
    int err = start(rig, body, length, ticket);
    return err < 0 ? err : vgpu_channel_finish(rig->channel, ticket);
}

static void hold(struct rig *rig, const struct vgpu_ring_record *record, const uint8_t *body)
{
    (void)body;
    if (record->token)
        rig_hold(rig, record);
}

/* ---- Sending ---- */

struct numbered {
    uint32_t thread;
    uint32_t number;
    uint8_t bytes[12 * 1024];
};

static uint32_t length_of(uint32_t thread, uint32_t number, uint32_t most)
{
    return 8 + (thread * 7919u + number * 104729u) % (most - 8);
}

static uint8_t byte_of(uint32_t thread, uint32_t number, uint32_t at)
{
    return (uint8_t)(thread * 31u + number * 7u + at);
}

static void fill(struct numbered *body, uint32_t thread, uint32_t number, uint32_t length)
{
    body->thread = thread;
    body->number = number;
    for (uint32_t i = 8; i < length; i++)
        body->bytes[i - 8] = byte_of(thread, number, i);
}

/* Of each thread, in its order, whole, whatever came between (G7, G8). */
static void check_numbered(struct rig *rig, const struct vgpu_ring_record *record,
                           const uint8_t *body)
{
    struct numbered head;
    memcpy(&head, body, 8);
    if (head.thread >= 64 || head.number != rig->next[head.thread]++) {
        atomic_fetch_add(&rig->wrong, 1);
        return;
    }
    for (uint32_t i = 8; i < record->length; i++)
        if (body[i] != byte_of(head.thread, head.number, i)) {
            atomic_fetch_add(&rig->wrong, 1);
            return;
        }
    rig_echo(rig, record, body);
}

struct worker {
    pthread_t thread;
    struct rig *rig;
    uint32_t number;
    unsigned rounds;
    unsigned failures;
};

static void run(struct rig *rig, void *(*what)(void *), unsigned threads, unsigned rounds)
{
    struct worker workers[16];
    assert_true(threads <= 16);
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.rig = rig, .number = i, .rounds = rounds};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, what, &workers[i]), 0);
    }
    unsigned failures = 0;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        failures += workers[i].failures;
    }
    assert_int_equal(failures, 0);
}

static void *post_many(void *opaque)
{
    struct worker *w = opaque;
    static _Thread_local struct numbered body;
    for (uint32_t i = 0; i < w->rounds; i++) {
        uint32_t length = length_of(w->number, i, i % 16 == 0 ? 12000 : 200);
        fill(&body, w->number, i, length);
        w->failures += post(w->rig, &body, length) != 0;
    }
    return NULL;
}

static void *call_many(void *opaque)
{
    struct worker *w = opaque;
    static _Thread_local struct numbered body;
    static _Thread_local uint8_t answer[12 * 1024];
    for (uint32_t i = 0; i < w->rounds; i++) {
        uint32_t most = i % 3 == 0 ? 49 : i % 3 == 1 ? 1024 : 8000;
        uint32_t length = length_of(w->number, i, most);
        struct vgpu_ticket ticket = {.bytes = answer, .capacity = length - 8};
        fill(&body, w->number, i, length);
        if (i % 5 == 4) { /* posts between */
            w->failures += post(w->rig, &body, length) != 0;
            continue;
        }
        w->failures += call(w->rig, &body, length, &ticket) != 0 || ticket.status != 0 ||
                       ticket.error_code != 0 || ticket.length != length - 8 ||
                       memcmp(answer, body.bytes, length - 8) != 0;
    }
    return NULL;
}

static void test_posts(void **state)
{
    (void)state;
    struct rig *rig = rig_start(check_numbered, true);
    run(rig, post_many, 1, 3000);
    rig_wait(&rig->taken, 3000);
    rig_stop(rig);
}

static void test_posts_of_threads(void **state)
{
    (void)state;
    struct rig *rig = rig_start(check_numbered, true);
    run(rig, post_many, 8, 1500);
    rig_wait(&rig->taken, 8 * 1500);
    struct vgpu_channel_statistics statistics;
    vgpu_channel_read_statistics(rig->channel, &statistics);
    assert_int_equal(statistics.posts, 8 * 1500);
    rig_stop(rig);
}

static void test_calls_of_threads(void **state)
{
    (void)state;
    for (int interrupt = 0; interrupt < 2; interrupt++) {
        struct rig *rig = rig_start(check_numbered, interrupt);
        rig->sleepy = interrupt;
        run(rig, call_many, 8, 600);
        rig_wait(&rig->taken, 8 * 600);
        rig_stop(rig);
    }
}

/* G10: a worker that sleeps after each record is woken for each. */
static void test_doorbell(void **state)
{
    (void)state;
    struct rig *rig = rig_start(check_numbered, true);
    rig->sleepy = true;
    for (uint32_t i = 0; i < 300; i++) {
        struct numbered body;
        fill(&body, 0, i, 64);
        assert_int_equal(post(rig, &body, 64), 0);
        rig_wait(&rig->taken, i + 1);
    }
    assert_true(atomic_load(&rig->bells) > 0);
    rig_stop(rig);
}

/* A full ring is waited for, and the worker never sees more than 2048 units (else BAD_TAIL). */
static void test_ring_full(void **state)
{
    (void)state;
    struct rig *rig = rig_start(check_numbered, true);
    struct worker w = {.rig = rig, .rounds = 4000};
    atomic_store(&rig->paused, true);
    assert_int_equal(pthread_create(&w.thread, NULL, post_many, &w), 0);
    uint64_t deadline_ns = vgpu_deadline_ns(20000);
    while (atomic_load(&rig->looks) == 0 && vgpu_now_ns() < deadline_ns)
        usleep(1000); /* it looks at the state: so it waits */
    assert_true(atomic_load(&rig->looks) > 0);
    assert_int_equal(atomic_load(&rig->taken), 0);
    atomic_store(&rig->paused, false);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failures, 0);
    rig_wait(&rig->taken, 4000);
    rig_stop(rig);
}

/* ---- Answers ---- */

/* G11: in any order; each to its own ticket. */
static void test_out_of_order(void **state)
{
    (void)state;
    struct rig *rig = rig_start(hold, true);
    static struct vgpu_ticket tickets[100];
    uint32_t answers[100];
    for (int i = 0; i < 100; i++) {
        tickets[i] = (struct vgpu_ticket){.bytes = &answers[i], .capacity = 4};
        assert_int_equal(start(rig, "", 0, &tickets[i]), 0);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(tickets[k].token, tickets[i].token);
        assert_false(vgpu_channel_done(rig->channel, &tickets[i]));
    }
    rig_wait_held(rig, 100);
    rig_let_go(rig);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(vgpu_channel_finish(rig->channel, &tickets[i]), 0);
        assert_int_equal(tickets[i].length, 4);
        assert_int_equal(answers[i], tickets[i].token);
        assert_true(vgpu_channel_done(rig->channel, &tickets[i]));
    }
    rig_stop(rig);
}

struct starter {
    struct rig *rig;
    struct vgpu_ticket ticket;
    uint8_t answer[VGPU_CHANNEL_ANSWERS_BYTES / 4];
    uint32_t capacity;
    int result;
    _Atomic uint64_t started;
};

static void *start_one(void *opaque)
{
    struct starter *s = opaque;
    s->ticket = (struct vgpu_ticket){.bytes = s->answer, .capacity = s->capacity};
    s->result = start(s->rig, "", 0, &s->ticket);
    atomic_store(&s->started, 1);
    if (s->result == 0)
        s->result = vgpu_channel_finish(s->rig->channel, &s->ticket);
    return NULL;
}

/* The 1025th outstanding answer waits, and so does one whose place in the answer area is taken. */
static void out_of_places(unsigned count, uint32_t capacity)
{
    struct rig *rig = rig_start(hold, true);
    static struct vgpu_ticket tickets[1024];
    static uint8_t answers[4][VGPU_CHANNEL_ANSWERS_BYTES / 4];
    static uint32_t words[1024];
    static struct starter last;
    pthread_t thread;
    for (unsigned i = 0; i < count; i++) {
        tickets[i] = (struct vgpu_ticket){.bytes = count <= 4 ? (void *)answers[i] : &words[i],
                                          .capacity = capacity};
        assert_int_equal(start(rig, "", 0, &tickets[i]), 0);
    }
    rig_wait_held(rig, count);
    last = (struct starter){.rig = rig, .capacity = capacity};
    assert_int_equal(pthread_create(&thread, NULL, start_one, &last), 0);
    uint64_t looks = atomic_load(&rig->looks);
    rig_wait(&rig->looks, looks + 1); /* it waits */
    assert_int_equal(atomic_load(&last.started), 0);
    atomic_store(&rig->let_go, 1); /* one place */
    rig_wait(&last.started, 1);
    rig_wait_held(rig, count);
    rig_let_go(rig);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(vgpu_channel_finish(rig->channel, &tickets[i]), 0);
    pthread_join(thread, NULL);
    assert_int_equal(last.result, 0);
    assert_int_equal(last.ticket.length, 4);
    rig_stop(rig);
}

static void test_tokens_full(void **state)
{
    (void)state;
    out_of_places(1024, 4);
}

static void test_answers_full(void **state)
{
    (void)state;
    out_of_places(4, VGPU_CHANNEL_ANSWERS_BYTES / 4);
}

/* Sleeping until an interrupt, or without one: one thread for all, and nobody is forgotten. */
static void test_sleep(void **state)
{
    (void)state;
    for (int interrupt = 0; interrupt < 2; interrupt++) {
        struct rig *rig = rig_start(hold, interrupt);
        static struct starter starters[8];
        pthread_t threads[8];
        struct vgpu_channel_statistics statistics;
        for (int i = 0; i < 8; i++) {
            starters[i] = (struct starter){.rig = rig, .capacity = 4};
            assert_int_equal(pthread_create(&threads[i], NULL, start_one, &starters[i]), 0);
        }
        rig_wait_held(rig, 8);
        uint64_t looks = atomic_load(&rig->looks);
        rig_wait(&rig->looks, looks + 3); /* they sleep */
        for (int i = 8; i > 0; i--) {     /* the one that leads is among them */
            atomic_store(&rig->let_go, 1);
            rig_wait_held(rig, (unsigned)i - 1);
            usleep(2000);
        }
        for (int i = 0; i < 8; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(starters[i].result, 0);
        }
        vgpu_channel_read_statistics(rig->channel, &statistics);
        assert_true(statistics.sleeps > 0);
        rig_stop(rig);
    }
}

/* Who stops waiting gets its memory back, and the answer goes nowhere. */
static void *give_up_many(void *opaque)
{
    struct worker *w = opaque;
    for (uint32_t i = 0; i < w->rounds; i++) {
        struct vgpu_ticket *ticket = malloc(sizeof(*ticket));
        uint32_t *answer = malloc(sizeof(*answer));
        *ticket = (struct vgpu_ticket){.bytes = answer, .capacity = sizeof(*answer)};
        w->failures += start(w->rig, "", 0, ticket) != 0;
        int err = vgpu_channel_finish_until(w->rig->channel, ticket,
                                            vgpu_now_ns() + (i * 7919u + w->number) % 40000);
        if (err == -ETIMEDOUT)
            vgpu_channel_abandon(w->rig->channel, ticket);
        else
            w->failures += err != 0;
        /* Completed or not, nobody touches it any more. */
        memset(answer, 0, sizeof(*answer));
        free(answer);
        free(ticket);
    }
    return NULL;
}

static void answer_late(struct rig *rig, const struct vgpu_ring_record *record, const uint8_t *body)
{
    (void)body;
    if (record->token == 0)
        return;
    rig_hold(rig, record);
    if (rig->held_count >= 8)
        atomic_store(&rig->let_go, rig->held_count);
}

static void test_give_up(void **state)
{
    (void)state;
    struct rig *rig = rig_start(answer_late, true);
    run(rig, give_up_many, 4, 1500);
    rig_wait(&rig->taken, 4 * 1500);
    rig_let_go(rig);
    rig_wait_held(rig, 0);
    /* Every token and every unit came back. */
    for (unsigned i = 0; i < VGPU_CHANNEL_SLOTS; i++)
        vgpu_channel_drain(rig->channel);
    for (unsigned i = 0; i < VGPU_CHANNEL_SLOT_WORDS; i++)
        assert_true(atomic_load(&rig->channel->free_slots[i]) == UINT64_MAX);
    for (unsigned i = 0; i < VGPU_CHANNEL_UNIT_WORDS; i++)
        assert_true(atomic_load(&rig->channel->free_units[i]) == UINT64_MAX);
    rig_stop(rig);
}

/* An answer is cut to what its ticket holds, and the rest of the ticket's memory is untouched. */
static void answer_too_much(struct rig *rig, const struct vgpu_ring_record *record,
                            const uint8_t *body)
{
    static uint8_t much[1024];
    (void)body;
    memset(much, 0xAB, sizeof(much));
    rig_answer(rig, record, 7, much, sizeof(much));
}

static void test_cut(void **state)
{
    (void)state;
    struct rig *rig = rig_start(answer_too_much, true);
    for (uint32_t capacity = 0; capacity <= 200; capacity += 5) {
        uint8_t answer[256] = {0};
        struct vgpu_ticket ticket = {.bytes = answer, .capacity = capacity};
        assert_int_equal(call(rig, "", 0, &ticket), 0);
        assert_int_equal(ticket.status, 7);
        assert_int_equal(ticket.length, capacity);
        for (uint32_t i = 0; i < sizeof(answer); i++)
            assert_int_equal(answer[i], i < capacity ? 0xAB : 0);
    }
    rig_stop(rig);
}

/* ---- A host that lies ---- */

/* Completions under tokens that are nobody's, twice, of any length: none of it reaches a ticket. */
static void test_lies(void **state)
{
    (void)state;
    struct rig *rig = rig_start(check_numbered, true);
    rig->lies = true;
    run(rig, call_many, 4, 500);
    rig_stop(rig);
}

/* A submit_head that makes no sense ends the channel. */
static void test_bad_head(void **state)
{
    (void)state;
    static const uint64_t heads[] = {5000, UINT64_MAX};
    for (int i = 0; i < 2; i++) {
        struct rig *rig = rig_start(check_numbered, true);
        atomic_store(&rig->paused, true);
        uint64_t *head = (uint64_t *)(void *)(rig->window + VGPU_CHANNEL_WORKER_PAGE);
        __atomic_store_n(head, heads[i], __ATOMIC_RELEASE);
        int err = 0;
        for (int k = 0; k < 3000 && err == 0; k++)
            err = post(rig, "12345678", 8);
        assert_int_equal(err, -ESTALE);
        assert_non_null(strstr(vgpu_last_error_text(), "makes no sense"));
        rig_stop(rig);
    }
}

/* Every byte that the worker may write, rewritten all the time: the guest may fail, not fall. */
static void *scribble(void *opaque)
{
    struct rig *rig = opaque;
    uint32_t x = 1;
    while (!atomic_load(&rig->stop)) {
        x = x * 1664525u + 1013904223u;
        uint32_t at = VGPU_CHANNEL_WORKER_PAGE + (x >> 4) % 0x1F000u / 4 * 4;
        if (at < VGPU_CHANNEL_SUBMISSIONS)
            __atomic_store_n((uint32_t *)(void *)(rig->window + at), x >> 9 & 1 ? x : x >> 22,
                             __ATOMIC_RELAXED);
    }
    return NULL;
}

/* Until the end: what never comes is waited for as long as the channel lives. */
static void *try_many(void *opaque)
{
    struct worker *w = opaque;
    for (uint32_t i = 0;; i++) {
        uint8_t answer[300];
        struct vgpu_ticket ticket = {.bytes = answer, .capacity = i % 2 ? 4 : sizeof(answer)};
        int err = start(w->rig, "12345678", 8, &ticket);
        if (err == 0)
            err = vgpu_channel_finish_until(w->rig->channel, &ticket, vgpu_now_ns() + 200000);
        if (err == -ETIMEDOUT)
            vgpu_channel_abandon(w->rig->channel, &ticket);
        else if (err == -ESTALE)
            return NULL;
        w->failures += err > 0;
    }
}

static void serve_nothing(struct rig *rig, const struct vgpu_ring_record *record,
                          const uint8_t *body)
{
    (void)rig;
    (void)record;
    (void)body;
}

static void test_scribble(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    const int rounds = 0; /* the bytes of completions race by design */
#else
    const int rounds = 5;
#endif
    for (int i = 0; i < rounds; i++) {
        struct rig *rig = rig_start(rig_echo, i % 2);
        struct worker workers[4];
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, scribble, rig), 0);
        for (unsigned k = 0; k < 4; k++) {
            workers[k] = (struct worker){.rig = rig};
            assert_int_equal(pthread_create(&workers[k].thread, NULL, try_many, &workers[k]), 0);
        }
        usleep(100000);
        atomic_store(&rig->generation, 77);
        for (unsigned k = 0; k < 4; k++) {
            pthread_join(workers[k].thread, NULL);
            assert_int_equal(workers[k].failures, 0);
        }
        atomic_store(&rig->stop, true);
        pthread_join(thread, NULL);
        atomic_store(&rig->wrong, 0); /* the server saw its own words rewritten, too */
        rig_stop(rig);
    }
}

/* ---- The end ---- */

static void *wait_for_the_end(void *opaque)
{
    struct starter *s = opaque;
    s->ticket = (struct vgpu_ticket){.bytes = s->answer, .capacity = s->capacity};
    s->result = start(s->rig, "", 0, &s->ticket);
    atomic_store(&s->started, 1);
    if (s->result == 0)
        s->result = vgpu_channel_finish(s->rig->channel, &s->ticket);
    if (s->result == -ESTALE && !strstr(vgpu_last_error_text(), "open another"))
        s->result = -ENOMSG;
    return NULL;
}

static void *post_until_the_end(void *opaque)
{
    struct starter *s = opaque;
    static const uint8_t body[4096];
    while ((s->result = post(s->rig, body, sizeof(body))) == 0)
        atomic_fetch_add(&s->started, 1);
    return NULL;
}

/* G19, G20: whoever waits, for an answer, for room or for the lock, is told, and why. */
static void the_end(bool interrupt, uint32_t state, uint32_t error, uint32_t generation,
                    const char *why)
{
    struct rig *rig = rig_start(hold, interrupt);
    static struct starter starters[6];
    pthread_t threads[6];
    for (int i = 0; i < 4; i++) {
        starters[i] = (struct starter){.rig = rig, .capacity = 4};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_the_end, &starters[i]), 0);
        rig_wait(&starters[i].started, 1);
    }
    rig_wait_held(rig, 4);
    atomic_store(&rig->paused, true);
    for (int i = 4; i < 6; i++) {
        starters[i] = (struct starter){.rig = rig};
        assert_int_equal(pthread_create(&threads[i], NULL, post_until_the_end, &starters[i]), 0);
    }
    uint64_t looks = atomic_load(&rig->looks);
    rig_wait(&rig->looks, looks + 10);
    atomic_store(&rig->error, error);
    atomic_store(&rig->generation, generation);
    atomic_store(&rig->state, state);
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(starters[i].result, -ESTALE);
    }
    struct vgpu_ticket ticket = {0};
    assert_int_equal(post(rig, "", 0), -ESTALE);
    assert_non_null(strstr(vgpu_last_error_text(), why));
    assert_int_equal(start(rig, "", 0, &ticket), -ESTALE);
    rig_stop(rig);
}

static void test_fatal(void **state)
{
    (void)state;
    the_end(true, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_BAD_RECORD, 3, "a record is malformed");
    the_end(false, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_SESSION_LOST, 3, "the session ended");
}

static void test_generation(void **state)
{
    (void)state;
    the_end(true, VGPU_CHANNEL_ACTIVE, 0, 4, "GENERATION");
    the_end(false, VGPU_CHANNEL_FREE, 0, 3, "taken back");
}

/* Who only asks whether it is done learns it, too. */
static void test_done_at_the_end(void **state)
{
    (void)state;
    struct rig *rig = rig_start(hold, true);
    uint32_t answer;
    struct vgpu_ticket ticket = {.bytes = &answer, .capacity = 4};
    assert_int_equal(start(rig, "", 0, &ticket), 0);
    rig_wait_held(rig, 1);
    assert_false(vgpu_channel_done(rig->channel, &ticket));
    atomic_store(&rig->generation, 9);
    uint64_t deadline_ns = vgpu_deadline_ns(20000);
    while (!vgpu_channel_done(rig->channel, &ticket) && vgpu_now_ns() < deadline_ns)
        sched_yield();
    assert_true(vgpu_channel_done(rig->channel, &ticket));
    assert_int_equal(vgpu_channel_finish(rig->channel, &ticket), -ESTALE);
    rig_stop(rig);
}

/* What was answered before the end counts. */
static void test_answer_before_the_end(void **state)
{
    (void)state;
    struct rig *rig = rig_start(hold, true);
    uint32_t answer = 0;
    struct vgpu_ticket ticket = {.bytes = &answer, .capacity = 4};
    assert_int_equal(start(rig, "", 0, &ticket), 0);
    rig_wait_held(rig, 1);
    rig_let_go(rig);
    rig_wait_held(rig, 0);
    vgpu_channel_kill(rig->channel, VGPU_DEATH_GENERATION, 0);
    assert_int_equal(vgpu_channel_finish(rig->channel, &ticket), 0);
    assert_int_equal(answer, ticket.token);
    rig_stop(rig);
}

/* ---- fork ---- */

static void test_fork(void **state)
{
    (void)state;
    struct rig *rig = rig_start(check_numbered, true);
    struct numbered body;
    fill(&body, 0, 0, 64);
    assert_int_equal(post(rig, &body, 64), 0);
    pid_t child = fork();
    if (child == 0) {
        struct vgpu_ticket ticket = {0};
        struct vgpu_channel_statistics statistics;
        if (post(rig, &body, 64) != -ECHILD || start(rig, &body, 64, &ticket) != -ECHILD ||
            !strstr(vgpu_last_error_text(), "fork"))
            _exit(1);
        vgpu_channel_read_statistics(rig->channel, &statistics);
        vgpu_channel_close(rig->channel, true);
        _exit(statistics.posts != 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    fill(&body, 0, 1, 64);
    assert_int_equal(post(rig, &body, 64), 0);
    rig_wait(&rig->taken, 2);
    rig_stop(rig);
}

/* ---- What cannot be ---- */

static void test_limits(void **state)
{
    (void)state;
    static uint8_t body[VGPU_RING_RECORD_BYTES_MAX + 1];
    struct rig *rig = rig_start(serve_nothing, true);
    assert_int_equal(post(rig, body, sizeof(body)), -EINVAL);
    struct vgpu_ring_part parts[2] = {{body, UINT32_MAX}, {body, 2}};
    struct vgpu_channel_record record = {.opcode = OPCODE, .parts = parts, .count = 2};
    assert_int_equal(vgpu_channel_post(rig->channel, &record), -EINVAL); /* the sum wraps */
    assert_int_equal(post(rig, body, VGPU_RING_RECORD_BYTES_MAX), 0);
    struct vgpu_ticket ticket = {.capacity = VGPU_CHANNEL_ANSWERS_BYTES / 4 + 1};
    assert_int_equal(start(rig, body, 8, &ticket), -EINVAL);
    rig_wait(&rig->taken, 1);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_posts),
        VGPU_TEST(test_posts_of_threads),
        VGPU_TEST(test_calls_of_threads),
        VGPU_TEST(test_doorbell),
        VGPU_TEST(test_ring_full),
        VGPU_TEST(test_out_of_order),
        VGPU_TEST(test_tokens_full),
        VGPU_TEST(test_answers_full),
        VGPU_TEST(test_sleep),
        VGPU_TEST(test_give_up),
        VGPU_TEST(test_cut),
        VGPU_TEST(test_lies),
        VGPU_TEST(test_bad_head),
        VGPU_TEST(test_scribble),
        VGPU_TEST(test_fatal),
        VGPU_TEST(test_generation),
        VGPU_TEST(test_done_at_the_end),
        VGPU_TEST(test_answer_before_the_end),
        VGPU_TEST(test_fork),
        VGPU_TEST(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
