/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and waking (docs/ring.md G10, G17) of the ring's own code, in every order of its shared
 * accesses: nobody sleeps while there is something to do. And that the same is not true when either
 * side's store is a plain one, or when the last look is left out: the test can fail.
 *
 * tests/model/ring.pml says more about rings (full ones, hostile guests), but of a model.
 */
#include "interleave.h"

/* The code under test, with the accesses above. Both files have helpers of the same names. */
#define own_page   client_own_page
#define their_page client_their_page
#include "ring/client.c" // NOLINT
#undef own_page
#undef their_page
#define own_page   server_own_page
#define their_page server_their_page
#include "ring/server.c" // NOLINT
#undef own_page
#undef their_page

#include "vgpu_test.h"

static _Alignas(4096) uint8_t channel[VGPU_CHANNEL_BYTES];
static const char doorbell, interrupt; /* words of their own */

static uint32_t records;  /* that the guest posts */
static bool no_last_look; /* leave out what sleep looks at */
static bool batch;        /* publish once, at the end */
static bool both_ways;    /* the guest sleeps, too */

/* The client and the server as they are without the look before they sleep. */
static bool careless_client_sleep(struct vgpu_ring_client *c)
{
    vgpu_shared_publish32(&client_own_page(c)->interrupt_wanted, 1);
    return true;
}

static bool careless_server_sleep(struct vgpu_ring_server *s)
{
    vgpu_shared_publish32(&server_own_page(s)->doorbell_wanted, 1);
    return true;
}

static void post(struct vgpu_ring_client *c, uint32_t token, bool publish)
{
    struct vgpu_ring_part part = {&token, sizeof(token)};
    struct vgpu_ring_record header = {.opcode = VGPU_RING_CALL_FIRST, .token = token};
    if (!vgpu_ring_client_write(c, &header, &part, 1))
        interleave_wrong();
    if (publish && vgpu_ring_client_publish(c))
        interleave_access(ACCESS_SIGNAL, &doorbell, 1);
}

static void collect(struct vgpu_ring_client *c, uint32_t first, uint32_t last)
{
    for (uint32_t token = first; token <= last;) {
        struct vgpu_ring_completion done;
        if (vgpu_ring_client_take(c, &done)) {
            if (done.token != token)
                interleave_wrong();
            token++;
        } else if (no_last_look ? careless_client_sleep(c) : vgpu_ring_client_sleep(c)) {
            interleave_access(ACCESS_WAIT, &interrupt, 0);
            vgpu_ring_client_woke(c);
        }
    }
}

/* Posts all, then waits for all answers, if it wants any. */
static void guest(void)
{
    struct vgpu_ring_client c;
    vgpu_ring_client_init(&c, channel);
    for (uint32_t token = 1; token <= records; token++)
        post(&c, token, !batch || token == records);
    if (both_ways)
        collect(&c, 1, records);
}

/* Waits for each answer before the next. */
static void guest_in_step(void)
{
    struct vgpu_ring_client c;
    vgpu_ring_client_init(&c, channel);
    for (uint32_t token = 1; token <= records; token++) {
        post(&c, token, true);
        collect(&c, token, token);
    }
}

static void worker(void)
{
    static _Alignas(8) uint8_t record[VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT];
    /* As after vgpu_ring_server_init, which would clear what the guest has written by now. */
    struct vgpu_ring_server s = {.channel = channel};
    for (uint32_t token = 1; token <= records;) {
        const struct vgpu_ring_record *header = vgpu_ring_server_take(&s, record);
        if (header) {
            if (header->token != token || memcmp(header + 1, &token, sizeof(token)) != 0)
                interleave_wrong();
            struct vgpu_ring_answer answer = {.token = token++};
            if (both_ways && vgpu_ring_server_has_room(&s, 1) &&
                vgpu_ring_server_complete(&s, &answer, 0, 0))
                interleave_access(ACCESS_SIGNAL, &interrupt, 1);
        } else if (no_last_look ? careless_server_sleep(&s) : vgpu_ring_server_sleep(&s)) {
            interleave_access(ACCESS_WAIT, &doorbell, 0);
            vgpu_ring_server_woke(&s);
        }
        if (s.error)
            interleave_wrong();
    }
}

struct scene {
    const char *name;
    interleave_program guest;
    uint32_t records;
    bool batch, both_ways;
};

static const struct scene scenes[] = {
    {"one record", guest, 1, false, false},
    {"three records", guest, 3, false, false},
    {"three records at once", guest, 3, true, false},
    {"a record and its answer", guest, 1, false, true},
    {"two records, then their answers", guest, 2, false, true},
    {"two records, each answered before the next", guest_in_step, 2, false, true},
};

static struct interleave_result run_scene(const struct scene *scene, enum machine machine,
                                          bool tell)
{
    records = scene->records;
    batch = scene->batch;
    both_ways = scene->both_ways;
    struct interleave_result r = interleave_explore(machine, scene->guest, worker, tell);
    print_message("%-46s %-20s %8lu states, %lu stuck, %lu wrong\n", scene->name,
                  machine == SEQUENTIAL ? "sequential" : "total store order", r.states, r.stuck,
                  r.wrong);
    return r;
}

static void test_no_wake_is_lost(void **state)
{
    for (unsigned i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        for (enum machine m = SEQUENTIAL; m <= TOTAL_STORE_ORDER; m++) {
            struct interleave_result r = run_scene(&scenes[i], m, true);
            assert_true(r.states > 10);
            assert_int_equal(r.stuck, 0);
            assert_int_equal(r.wrong, 0);
        }
    }
}

/* Whichever side's store is plain: with store buffers both may miss each other. */
static void test_plain_stores_lose_wakes(void **state)
{
    static const struct interleave_weakness weak[] = {{true, false}, {false, true}, {true, true}};
    for (unsigned w = 0; w < 3; w++) {
        interleave_weak = weak[w];
        for (unsigned i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
            assert_int_equal(run_scene(&scenes[i], SEQUENTIAL, false).stuck, 0);
            assert_true(run_scene(&scenes[i], TOTAL_STORE_ORDER, i == 0).stuck > 0);
        }
    }
    interleave_weak = (struct interleave_weakness){false, false};
}

static void test_no_last_look_loses_wakes(void **state)
{
    no_last_look = true;
    for (unsigned i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
        assert_true(run_scene(&scenes[i], SEQUENTIAL, false).stuck > 0);
    no_last_look = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_no_wake_is_lost),
        VGPU_TEST(test_plain_stores_lose_wakes),
        VGPU_TEST(test_no_last_look_loses_wakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
