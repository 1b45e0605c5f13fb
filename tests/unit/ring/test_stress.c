/* SPDX-License-Identifier: MIT */
/*
 * Two guest threads that post, one that collects, and a worker: records of random sizes through one
 * channel, answered out of order, with both sides asleep on eventfds again and again. Every byte is
 * looked at. ThreadSanitizer sees both sides, since they use one mapping.
 *
 * Docs/ring.md G7 to G11 and G15 to G17.
 */
#include "rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ring/barrier.h"

#define POSTERS  2u
#define RECORDS  40000u /* of each poster */
#define SLOTS    96u    /* answers outstanding; half of them with room for a long one */
#define PLACES   48u    /* in the answer area, */
#define PLACE    16u    /* units each */
#define HELD     24u    /* records that the worker keeps for later */
#define NAP      700u   /* records between two moments at which everyone is asleep */
#define LONG_MAX (PLACE * VGPU_RING_UNIT)

/* What the guest knows of a token. */
struct slot {
    bool used;
    uint32_t seed, length; /* of the answer */
};

struct stress {
    struct ring_rig *rig;
    int doorbell, interrupt;
    uint32_t worker_slept, guest_slept; /* how often; with the ring's own operations */
    uint32_t worker_wrong, guest_wrong;
    uint32_t quit;

    pthread_mutex_t lock; /* the guest's: client and all below */
    pthread_cond_t freed;
    struct slot slots[SLOTS];
    uint32_t posted, with_token, answered, posters_left;
};

static void notify(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

static void wait_for(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof(count)) != sizeof(count))
        abort();
}

/* ---- Guest ---- */

/* Mostly short ones. */
static uint32_t random_length(uint32_t *random, uint32_t most)
{
    uint32_t r = rig_random(random);
    if (r % 16)
        return (r >> 8) % 200;
    return (r >> 8) % (most + 1);
}

/* A token is a slot and some bits that make it a new one; the body says which answer is wanted. */
static uint32_t begin_call(struct stress *s, uint32_t random, uint32_t *wanted)
{
    for (;;) {
        for (uint32_t i = 0; i < SLOTS; i++) {
            struct slot *slot = &s->slots[(random + i) % SLOTS];
            if (slot->used)
                continue;
            uint32_t n = (random + i) % SLOTS;
            *slot =
                (struct slot){true, random >> 7 | 1, *wanted % (n < PLACES ? LONG_MAX + 1 : 41)};
            *wanted = slot->length;
            return slot->seed << 7 | n;
        }
        pthread_cond_wait(&s->freed, &s->lock);
    }
}

static void post_one(struct stress *s, uint32_t *random)
{
    uint8_t body[VGPU_RING_RECORD_BYTES_MAX];
    uint32_t wanted = random_length(random, LONG_MAX), token = 0, seed = rig_random(random);
    uint32_t length = 8 + random_length(random, VGPU_RING_RECORD_BYTES_MAX - 8);
    pthread_mutex_lock(&s->lock);
    if (rig_random(random) % 3)
        token = begin_call(s, rig_random(random), &wanted);
    uint32_t slot = token & 127;
    struct vgpu_ring_record header = {.opcode = VGPU_RING_CALL_FIRST, .token = token};
    if (token && slot < PLACES) {
        header.answer_unit = (uint16_t)(slot * PLACE);
        header.answer_units = PLACE;
    }
    memcpy(body, &seed, 4);
    memcpy(body + 4, &wanted, 4);
    for (uint32_t i = 8; i < length; i++)
        body[i] = rig_byte(seed, i);
    uint32_t first = rig_random(random) % (length + 1);
    struct vgpu_ring_part parts[] = {{body, first}, {body + first, length - first}};
    while (!vgpu_ring_client_write(&s->rig->client, &header, parts, 2)) {
        /* Full: what was written must be seen before it can become less. */
        if (vgpu_ring_client_publish(&s->rig->client))
            notify(s->doorbell);
        s->guest_wrong += s->rig->client.broken;
        pthread_mutex_unlock(&s->lock);
        sched_yield();
        pthread_mutex_lock(&s->lock);
    }
    s->posted++;
    s->with_token += token != 0;
    /* Now and then several with one addition. */
    if (rig_random(random) % 4 || token)
        if (vgpu_ring_client_publish(&s->rig->client))
            notify(s->doorbell);
    pthread_mutex_unlock(&s->lock);
}

/* Until the worker has run out of records once more, and therefore slept. */
static void nap(struct stress *s)
{
    pthread_mutex_lock(&s->lock);
    if (vgpu_ring_client_publish(&s->rig->client))
        notify(s->doorbell);
    pthread_mutex_unlock(&s->lock);
    uint32_t before = vgpu_shared_acquire32(&s->worker_slept);
    for (unsigned i = 0; i < 2000 && vgpu_shared_acquire32(&s->worker_slept) == before; i++)
        usleep(50);
}

static void *post_all(void *arg)
{
    struct stress *s = arg;
    pthread_mutex_lock(&s->lock);
    uint32_t random = 0x12345 + s->posters_left++ * 77;
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 1; i <= RECORDS; i++) {
        post_one(s, &random);
        if (i % NAP == 0)
            nap(s);
    }
    nap(s);
    return NULL;
}

static void end_call(struct stress *s, const struct vgpu_ring_completion *c)
{
    uint32_t n = c->token & 127, length;
    struct slot *slot = &s->slots[n % SLOTS];
    if (n >= SLOTS || !slot->used || (slot->seed << 7 | n) != c->token || c->status != ~c->token) {
        s->guest_wrong++;
        return;
    }
    const uint8_t *bytes =
        vgpu_ring_client_answer(&s->rig->client, c, (uint16_t)(n < PLACES ? n * PLACE : 0),
                                n < PLACES ? PLACE : 0, &length);
    s->guest_wrong += length != slot->length;
    for (uint32_t i = 0; i < length; i++)
        s->guest_wrong += bytes[i] != rig_byte(c->token, i);
    slot->used = false;
    s->answered++;
    pthread_cond_broadcast(&s->freed);
}

/* Sleeps without the lock: taking and writing are two directions. */
static void *collect(void *arg)
{
    struct stress *s = arg;
    struct vgpu_ring_client *c = &s->rig->client;
    while (!vgpu_shared_acquire32(&s->quit)) {
        struct vgpu_ring_completion done;
        if (vgpu_ring_client_take(c, &done)) {
            pthread_mutex_lock(&s->lock);
            end_call(s, &done);
            pthread_mutex_unlock(&s->lock);
        } else if (vgpu_ring_client_sleep(c)) {
            vgpu_shared_release32(&s->guest_slept, s->guest_slept + 1);
            wait_for(s->interrupt);
            vgpu_ring_client_woke(c);
        }
    }
    return NULL;
}

/* ---- Worker ---- */

struct held {
    uint32_t token, wanted;
    uint16_t unit, units;
};

static void give_answer(struct stress *s, const struct held *h)
{
    static uint8_t bytes[LONG_MAX];
    for (uint32_t i = 0; i < h->wanted; i++)
        bytes[i] = rig_byte(h->token, i);
    struct vgpu_ring_answer answer = {
        .token = h->token, .status = ~h->token, .length = h->wanted, .bytes = bytes};
    if (vgpu_ring_server_complete(&s->rig->server, &answer, h->unit, h->units))
        notify(s->interrupt);
}

static void check_record(struct stress *s, const struct vgpu_ring_record *header, struct held *h)
{
    const uint8_t *body = (const uint8_t *)(header + 1);
    uint32_t seed = 0, wanted = UINT32_MAX;
    if (header->length >= 8) {
        memcpy(&seed, body, 4);
        memcpy(&wanted, body + 4, 4);
    }
    s->worker_wrong += header->length < 8 || wanted > LONG_MAX;
    for (uint32_t i = 8; i < header->length; i++)
        s->worker_wrong += body[i] != rig_byte(seed, i);
    *h = (struct held){header->token, wanted, header->answer_unit, header->answer_units};
}

static void *serve(void *arg)
{
    struct stress *s = arg;
    struct vgpu_ring_server *server = &s->rig->server;
    struct held held[HELD];
    uint32_t count = 0, random = 4242, taken = 0;
    while (!server->error && !vgpu_shared_acquire32(&s->quit)) {
        const struct vgpu_ring_record *header = NULL;
        if (vgpu_ring_server_has_room(server, count + 1))
            header = vgpu_ring_server_take(server, s->rig->record);
        if (header) {
            struct held h;
            check_record(s, header, &h);
            if (++taken % 16 == 0)
                vgpu_ring_server_show(server);
            if (h.token)
                held[count++] = h;
        }
        /* Any of those that wait; all of them before sleeping. */
        if (count == HELD || (count && (!header || rig_random(&random) % 2))) {
            uint32_t which = rig_random(&random) % count;
            give_answer(s, &held[which]);
            held[which] = held[--count];
        } else if (!header && !count && vgpu_ring_server_sleep(server)) {
            vgpu_shared_release32(&s->worker_slept, s->worker_slept + 1);
            wait_for(s->doorbell);
            vgpu_ring_server_woke(server);
        }
    }
    return NULL;
}

static void test_stress(void **state)
{
    struct stress s = {
        .rig = *state, .doorbell = eventfd(0, EFD_CLOEXEC), .interrupt = eventfd(0, EFD_CLOEXEC)};
    pthread_t posters[POSTERS], collector, worker;
    assert_true(s.doorbell >= 0 && s.interrupt >= 0);
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.freed, NULL);
    assert_int_equal(pthread_create(&worker, NULL, serve, &s), 0);
    assert_int_equal(pthread_create(&collector, NULL, collect, &s), 0);
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&posters[i], NULL, post_all, &s), 0);
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(posters[i], NULL);

    /* Everything was published; every answer comes without anybody being woken from here. */
    pthread_mutex_lock(&s.lock);
    while (s.answered + s.guest_wrong < s.with_token)
        pthread_cond_wait(&s.freed, &s.lock);
    pthread_mutex_unlock(&s.lock);
    vgpu_shared_release32(&s.quit, 1);
    notify(s.doorbell);
    notify(s.interrupt);
    pthread_join(collector, NULL);
    pthread_join(worker, NULL);

    print_message("%u records, %u with an answer; slept: worker %u times, guest %u times\n",
                  s.posted, s.with_token, s.worker_slept, s.guest_slept);
    assert_int_equal(s.posted, POSTERS * RECORDS);
    assert_int_equal(s.answered, s.with_token);
    assert_int_equal(s.guest_wrong, 0);
    assert_int_equal(s.worker_wrong, 0);
    assert_int_equal(s.rig->server.error, VGPU_CHANNEL_OK);
    assert_int_equal(s.rig->server.head, s.rig->client.tail);
    assert_true(s.worker_slept > 1);
    assert_true(s.guest_slept > 1);
    pthread_mutex_destroy(&s.lock);
    pthread_cond_destroy(&s.freed);
    close(s.doorbell);
    close(s.interrupt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {RING_TEST(test_stress)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
