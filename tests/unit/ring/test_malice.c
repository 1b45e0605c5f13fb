/* SPDX-License-Identifier: MIT */
/*
 * Another process writes all over the channel, the pages that are not its own included, while this
 * one goes on as if the other were honest (docs/ring.md G9, G16, G19): first as the worker, then as
 * the guest. Whatever is there, nothing outside of the channel and the buffers is touched (there
 * are guards and sanitizers), every rule that breaks makes the channel fatal, fatal it stays, and a
 * reset brings it back.
 */
#include "rig.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring/barrier.h"

#define ROUNDS 300000u /* at least; until every kind of error was seen, and answers, too */

/* ---- The one who writes ---- */

static uint64_t random64(uint32_t *random)
{
    return (uint64_t)rig_random(random) << 32 | rig_random(random);
}

/* Values near one that makes sense, mostly. */
static uint64_t near_value(uint64_t value, uint32_t *random)
{
    switch (rig_random(random) % 16) {
    case 0:
        return random64(random);
    case 1:
        return value - rig_random(random) % 4;
    case 2:
        return value + 2047 + rig_random(random) % 3;
    default:
        return value + rig_random(random) % 300;
    }
}

/* A header that is right in most fields, at a unit near the worker's. */
static void write_record(uint8_t *channel, uint64_t unit, uint32_t *random)
{
    struct vgpu_ring_record record = {
        .opcode = (uint16_t)rig_random(random),
        .flags = rig_random(random) % 64 ? rig_random(random) & 1 : rig_random(random) & 0xFFFF,
        .length = rig_random(random) % 64 ? rig_random(random) % 400 : rig_random(random),
        .token = rig_random(random),
        .answer_unit = (uint16_t)(rig_random(random) % 769),
        .answer_units = rig_random(random) % 64 ? 0 : (uint16_t)rig_random(random),
    };
    memcpy(channel + VGPU_CHANNEL_SUBMISSIONS + unit % VGPU_RING_UNITS * VGPU_RING_UNIT, &record,
           sizeof(record));
}

static void store64(uint8_t *channel, size_t offset, uint64_t value)
{
    __atomic_store_n((uint64_t *)(void *)(channel + offset), value, __ATOMIC_RELEASE);
}

#define TAIL        (VGPU_CHANNEL_GUEST_PAGE + offsetof(struct vgpu_ring_guest, submit_tail))
#define HEAD        (VGPU_CHANNEL_GUEST_PAGE + offsetof(struct vgpu_ring_guest, complete_head))
#define SUBMIT_HEAD (VGPU_CHANNEL_WORKER_PAGE + offsetof(struct vgpu_ring_worker, submit_head))

static void spoil_once(uint8_t *channel, uint64_t units, uint64_t completions, uint32_t *random)
{
    struct vgpu_ring_completion *entry;
    uint32_t page;
    switch (rig_random(random) % 8) {
    case 0: /* any word anywhere */
        store64(channel, rig_random(random) % (VGPU_CHANNEL_BYTES / 8) * 8, random64(random));
        break;
    case 1: /* a whole page, or what it looks like half written */
        if (rig_random(random) % 256)
            break;
        page = rig_random(random) % (VGPU_CHANNEL_BYTES / 4096);
        memset(channel + (size_t)page * 4096, (int)rig_random(random),
               rig_random(random) % 4096 + 1);
        break;
    case 2: /* what the worker looks at when room is short, and the entry the guest looks at */
        store64(channel, HEAD, near_value(completions, random));
        entry = (struct vgpu_ring_completion *)(void *)(channel + VGPU_CHANNEL_COMPLETIONS) +
                completions % VGPU_RING_COMPLETIONS;
        entry->length = rig_random(random) % 2 ? rig_random(random) : rig_random(random) % 500;
        vgpu_shared_release64(&entry->sequence, completions + 1);
        break;
    case 3:
        store64(channel, SUBMIT_HEAD, near_value(units, random) - 200);
        break;
    default: /* records that come and change */
        for (unsigned i = rig_random(random) % 40; i; i--)
            write_record(channel, units + rig_random(random) % 64, random);
        store64(channel, TAIL, near_value(units, random));
    }
}

/* Where the one who goes on is, so that what is written hurts. */
struct aim {
    uint64_t units, completions;
};

static void __attribute__((noreturn)) spoil(uint8_t *channel, const struct aim *aim, pid_t parent)
{
    uint32_t random = 31337;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    for (;;)
        spoil_once(channel, vgpu_shared_acquire64(&aim->units),
                   vgpu_shared_acquire64(&aim->completions), &random);
}

struct malice {
    struct ring_rig *rig;
    struct aim *aim; /* shared with the process; it is a channel as well */
    pid_t child;
};

static void start(struct malice *m, struct ring_rig *rig)
{
    pid_t parent = getpid();
    *m = (struct malice){.rig = rig, .aim = (struct aim *)(void *)rig_channel_map()};
    assert_non_null(m->aim);
    m->child = fork();
    assert_true(m->child >= 0);
    if (m->child == 0)
        spoil(rig->channel, m->aim, parent);
}

static void stop(struct malice *m)
{
    int status;
    kill(m->child, SIGKILL);
    assert_int_equal(waitpid(m->child, &status, 0), m->child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it did not end before */
    rig_channel_unmap((uint8_t *)m->aim);
}

static void take_aim(struct malice *m, uint64_t units, uint64_t completions)
{
    vgpu_shared_release64(&m->aim->units, units);
    vgpu_shared_release64(&m->aim->completions, completions);
}

/* ---- The worker goes on ---- */

static void check_server(const struct vgpu_ring_server *s)
{
    assert_true(s->shown <= s->head && s->head <= s->tail);
    assert_true(s->tail - s->shown <= VGPU_RING_UNITS);
    assert_true(s->acknowledged <= s->completed);
    assert_true(s->completed - s->acknowledged <= VGPU_RING_COMPLETIONS);
}

/* As an engine does it, with all that it can do. True: something was answered. */
static bool serve_one(struct ring_rig *r, uint32_t *random, uint64_t *records)
{
    struct vgpu_ring_server *s = &r->server;
    static uint8_t bytes[70000];
    const struct vgpu_ring_record *header;
    if (!vgpu_ring_server_has_room(s, 1) || !(header = vgpu_ring_server_take(s, r->record))) {
        if (vgpu_ring_server_sleep(s))
            vgpu_ring_server_woke(s);
        sched_yield(); /* for the other's sake, should this be the only processor */
        return false;
    }
    ++*records;
    uint32_t length = header->length, sum = 0, room;
    assert_true(length <= VGPU_RING_RECORD_BYTES_MAX);
    for (uint32_t i = 0; i < length; i++)
        sum += r->record[sizeof(*header) + i];
    assert_int_equal(header->length, length);
    assert_false(header->flags & ~VGPU_RING_FLAGS_KNOWN);
    uint8_t *area = vgpu_ring_server_answer_area(s, header, &room);
    if (area) {
        assert_true(area >= r->channel + VGPU_CHANNEL_ANSWERS);
        assert_true(area + room <= r->channel + VGPU_CHANNEL_SUBMISSIONS);
    }
    *vgpu_ring_server_hint(s, header->token) = header->token;
    if (rig_random(random) % 32 == 0)
        vgpu_ring_server_show(s);
    if (!header->token)
        return false;
    struct vgpu_ring_answer answer = {.token = header->token,
                                      .status = sum,
                                      .length = rig_random(random) % sizeof(bytes),
                                      .bytes = bytes};
    uint64_t before = s->completed;
    vgpu_ring_server_complete(s, &answer, header->answer_unit, header->answer_units);
    return s->completed > before;
}

static void test_malicious_guest(void **state)
{
    struct ring_rig *r = *state;
    struct malice m;
    uint32_t fatal[VGPU_CHANNEL_HOST + 1] = {0}, random = 1;
    uint64_t records = 0, answers = 0;
    start(&m, r);
    for (uint32_t round = 0;
         round < ROUNDS || !fatal[VGPU_CHANNEL_BAD_TAIL] || !fatal[VGPU_CHANNEL_BAD_RECORD] ||
         !fatal[VGPU_CHANNEL_BAD_HEAD] || records < 10000 || answers < 2000;
         round++) {
        answers += serve_one(r, &random, &records);
        check_server(&r->server);
        take_aim(&m, r->server.head, r->server.completed);
        if (!r->server.error)
            continue;
        struct vgpu_ring_server before = r->server;
        assert_true(before.error <= VGPU_CHANNEL_BAD_HEAD);
        assert_false(serve_one(r, &random, &records));
        assert_memory_equal(&before, &r->server, sizeof(before)); /* fatal it stays */
        fatal[before.error]++;
        /* Anew, in the middle of its life; clearing it each time would leave no time for more. */
        if (fatal[before.error] % 64 == 0)
            vgpu_ring_server_init(&r->server, r->channel);
        else
            r->server = (struct vgpu_ring_server){.channel = r->channel};
        r->server.completed = rig_random(&random) % (VGPU_RING_COMPLETIONS + 1);
    }
    stop(&m);
    print_message("%llu records, %llu answers; fatal for a tail %u, a record %u, a head %u times\n",
                  (unsigned long long)records, (unsigned long long)answers,
                  fatal[VGPU_CHANNEL_BAD_TAIL], fatal[VGPU_CHANNEL_BAD_RECORD],
                  fatal[VGPU_CHANNEL_BAD_HEAD]);
    /* G19: a reset, and an honest guest. */
    rig_reset(r);
    for (uint32_t token = 1; token < 3000; token++) {
        struct vgpu_ring_completion c;
        rig_post(r, token, token % 500);
        rig_expect(r, token, token % 500);
        vgpu_ring_server_show(&r->server);
        assert_true(vgpu_ring_server_has_room(&r->server, 1));
        vgpu_ring_server_complete(&r->server, &(struct vgpu_ring_answer){.token = token}, 0, 0);
        assert_true(vgpu_ring_client_take(&r->client, &c));
        assert_int_equal(c.token, token);
    }
}

/* ---- The guest goes on ---- */

static void test_malicious_worker(void **state)
{
    struct ring_rig *r = *state;
    struct vgpu_ring_client *c = &r->client;
    struct malice m;
    uint32_t random = 5, broken = 0, taken = 0, written = 0;
    start(&m, r);
    for (uint32_t round = 0; round < ROUNDS || !broken || taken < 1000 || written < 10000;
         round++) {
        struct vgpu_ring_completion done;
        uint32_t error;
        if (rig_write(r, rig_random(&random), rig_random(&random) % 300))
            written++;
        assert_true(c->head <= c->tail && c->tail - c->head <= VGPU_RING_UNITS);
        vgpu_ring_client_publish(c);
        if (vgpu_ring_client_take(c, &done)) {
            uint16_t unit = (uint16_t)(rig_random(&random) % 768), units = 0;
            uint32_t length, sum = 0;
            if (rig_random(&random) % 2)
                units = (uint16_t)(rig_random(&random) % (769 - unit));
            const uint8_t *bytes = vgpu_ring_client_answer(c, &done, unit, units, &length);
            assert_true(length <= (units ? units * VGPU_RING_UNIT : VGPU_RING_INLINE_BYTES));
            for (uint32_t i = 0; i < length; i++)
                sum += bytes[i];
            taken += sum ? 1 : 2; /* is used */
        } else if (vgpu_ring_client_sleep(c)) {
            vgpu_ring_client_woke(c);
            sched_yield();
        }
        assert_non_null(vgpu_channel_error_text(vgpu_ring_client_state(c, &error) ? error : 0));
        take_aim(&m, c->tail, c->consumed);
        if (c->broken) {
            broken++;
            vgpu_ring_client_init(c, r->channel);
            c->consumed = round % VGPU_RING_COMPLETIONS;
        }
    }
    stop(&m);
    print_message("%u records written, %u entries taken, %u times broken\n", written, taken,
                  broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_malicious_guest),
        RING_TEST(test_malicious_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
