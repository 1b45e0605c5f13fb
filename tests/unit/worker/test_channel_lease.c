/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel beside what the mediator does: recalls while a guest posts without pause, attaching and
 * detaching under load (docs/ring.md, G3, G6, G19), packets that break the rules (docs/worker.md,
 * W4, W7), and a guest that writes anything anywhere.
 */
#define _GNU_SOURCE /* F_ADD_SEALS */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "channel_rig.h"
#include "common/clock.h"
#include "common/sys.h"
#include "fake_backend.h"
#include "vgpu_test.h"

static const struct answer_place nowhere = {0, 0};

/* ---- A guest that never stops ---- */

struct poster {
    struct channel_rig *r;
    pthread_t thread;
    _Atomic bool stop;
    uint64_t posted;
};

static void *post_for_ever(void *arg)
{
    struct poster *p = arg;
    struct vgpu_ring_record h = {.opcode = VGPU_CALL_STREAM_CREATE};
    uint64_t body[] = {CHANNEL_CONTEXT, 99, 0, 0};
    const struct vgpu_ring_part part = PART(body, sizeof(body));
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        if (vgpu_ring_client_write(&p->r->client, &h, &part, 1))
            p->posted++;
        guest_publish(p->r);
    }
    return NULL;
}

static void start_posting(struct poster *p, struct channel_rig *r)
{
    *p = (struct poster){.r = r};
    assert_int_equal(pthread_create(&p->thread, NULL, post_for_ever, p), 0);
}

static void stop_posting(struct poster *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
}

/* W4, however fast the guest is. Times are not asserted but for a bound that only a worker that
 * does not look misses. */
static void w4_a_lease_goes_back_while_the_guest_posts_without_pause(void **state)
{
    struct channel_rig *r = *state;
    struct poster p;
    guest_expect(DO(r, EVENT_QUERY, 1), CUDA_ERROR_INVALID_HANDLE);
    start_posting(&p, r);
    for (unsigned i = 0; i < 40; i++) {
        usleep(2000);
        for (unsigned k = 0; k < 20000; k++) { /* until it holds one */
            pthread_mutex_lock(&r->lock);
            bool held = r->held;
            pthread_mutex_unlock(&r->lock);
            if (held)
                break;
            usleep(100);
        }
        assert_true(rig_recall(r, i % 2 ? 3000 : 0) < 2 * VGPU_NS_PER_S);
    }
    stop_posting(&p);
    assert_true(p.posted > 1000);
    assert_int_equal(guest_synchronize(r).status, CUDA_ERROR_INVALID_VALUE); /* the name is taken */
}

static void w4_nothing_runs_without_the_lease(void **state)
{
    struct channel_rig *r = *state;
    struct request alloc = req_alloc(256);
    alloc = req_wrap(CHANNEL_SESSION, &alloc);
    struct vgpu_ring_part part = PART(alloc.bytes, alloc.length);
    guest_request(r, &alloc);
    rig_grants(r, false);
    (void)rig_recall(r, 1000000); /* nothing is queued: at once */
    unsigned wants = r->wants;
    uint32_t token =
        guest_write(r, VGPU_RING_REQUEST, true, (struct answer_place){0, 16}, &part, 1);
    guest_publish(r);
    guest_expect_silence(r, 20);
    assert_int_equal(fake_calls(r->backend, FAKE_ALLOC), 1);
    pthread_mutex_lock(&r->lock);
    assert_int_equal(r->wants, wants + 1); /* and it asks once */
    pthread_mutex_unlock(&r->lock);
    rig_grants(r, true);
    assert_int_equal(guest_take(r).token, token);
    assert_int_equal(fake_violations(r->backend), 0);
}

/* The same with leases that end before they have begun: each covers a record, or its request. */
static void w4_every_lease_runs_a_record(void **state)
{
    struct channel_rig *r = *state;
    struct request alloc = req_alloc(256);
    alloc = req_wrap(CHANNEL_SESSION, &alloc);
    struct vgpu_ring_part part = PART(alloc.bytes, alloc.length);
    guest_request(r, &alloc);
    rig_grants(r, false);
    (void)rig_recall(r, 0);
    for (unsigned i = 0; i < 40; i++) {
        pthread_mutex_lock(&r->lock);
        unsigned wants = r->wants;
        pthread_mutex_unlock(&r->lock);
        uint32_t token =
            guest_write(r, VGPU_RING_REQUEST, true, (struct answer_place){0, 16}, &part, 1);
        guest_publish(r);
        guest_expect_silence(r, 2);
        rig_grant_and_recall(r, wants + 1);
        assert_int_equal(guest_take(r).token, token);
        pthread_mutex_lock(&r->lock);
        assert_int_equal(r->wants, wants + 1);
        pthread_mutex_unlock(&r->lock);
    }
    assert_int_equal(fake_calls(r->backend, FAKE_ALLOC), 41);
    rig_grants(r, true);
}

/* S4: with gaps of up to linger_us allowed a recalled lease is kept through them, and goes back
 * when a gap is longer, long before the end of the grace. */
static void s4_a_recalled_lease_outlasts_gaps(void **state)
{
    struct channel_rig *r = *state;
    guest_expect(DO(r, EVENT_QUERY, 1), CUDA_ERROR_INVALID_HANDLE);
    pthread_mutex_lock(&r->lock);
    unsigned returns = r->returns;
    pthread_mutex_unlock(&r->lock);
    rig_grants(r, false);
    rig_recall_only(r, 60000000, 2000000);
    for (unsigned i = 0; i < 20; i++) {
        guest_expect(DO(r, EVENT_QUERY, 1), CUDA_ERROR_INVALID_HANDLE);
        usleep(1000);
    }
    pthread_mutex_lock(&r->lock);
    assert_int_equal(r->returns, returns);
    pthread_mutex_unlock(&r->lock);
    uint64_t begin = vgpu_clock_ns();
    rig_wait_lease_back(r, returns);
    assert_true(vgpu_clock_ns() - begin < 40 * VGPU_NS_PER_S);
    rig_grants(r, true);
}

static void w4_a_request_in_the_queue_survives_a_recall(void **state)
{
    struct channel_rig *r = *state;
    struct request alloc = req_alloc(256);
    alloc = req_wrap(CHANNEL_SESSION, &alloc);
    uint8_t body[8 + sizeof(alloc.bytes)];
    put32(body, 1);
    put32(body + 4, alloc.length);
    memcpy(body + 8, alloc.bytes, alloc.length);
    guest_request(r, &alloc);
    /* One by the mailbox runs and is held; behind it one by the ring. */
    fake_hold(r->backend, FAKE_ALLOC);
    rig_send(r, VGPU_WORKER_REQUEST, 1000, body, 8 + alloc.length, NULL, 0);
    assert_true(fake_wait_held(r->backend));
    struct vgpu_ring_part part = PART(alloc.bytes, alloc.length);
    uint32_t token =
        guest_write(r, VGPU_RING_REQUEST, true, (struct answer_place){0, 16}, &part, 1);
    guest_publish(r);
    rig_grants(r, false);
    rig_recall_only(r, 0, 0);
    usleep(5000);
    unsigned returns = r->returns;
    fake_release(r->backend);
    for (unsigned i = 0; r->returns == returns && i < 100000; i++)
        usleep(100);
    assert_int_equal(fake_calls(r->backend, FAKE_ALLOC), 2);
    guest_expect_silence(r, 10);
    rig_grants(r, true);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, token);
    assert_int_equal(c.status, 0);
}

/* ---- Attaching and detaching ---- */

static void g3_detaching_works_while_the_guest_posts(void **state)
{
    struct channel_rig *r = *state;
    for (unsigned i = 0; i < 30; i++) {
        struct poster p;
        start_posting(&p, r);
        usleep(i * 50);
        rig_detach(r);
        /* Nobody looks at it any more, whatever the guest writes: which stops, then it is new. */
        stop_posting(&p);
        rig_attach(r);
        struct vgpu_ring_worker *page = (void *)(r->channel + VGPU_CHANNEL_WORKER_PAGE);
        assert_int_equal(page->submit_head, 0);
        (void)guest_synchronize(r); /* the deferred error */
        guest_expect(guest_synchronize(r), 0);
    }
}

static void g3_a_request_that_waits_is_forgotten(void **state)
{
    struct channel_rig *r = *state;
    struct request alloc = req_alloc(256);
    alloc = req_wrap(CHANNEL_SESSION, &alloc);
    guest_request(r, &alloc);
    rig_grants(r, false);
    (void)rig_recall(r, 0);
    struct vgpu_ring_part part = PART(alloc.bytes, alloc.length);
    guest_write(r, VGPU_RING_REQUEST, true, nowhere, &part, 1);
    guest_publish(r);
    usleep(5000);
    rig_detach(r);
    rig_attach(r);
    rig_grants(r, true);
    guest_request(r, &alloc);
    assert_int_equal(fake_calls(r->backend, FAKE_ALLOC), 2);
}

/* The same for one that has become a job, which the end of the lease catches now and then. */
static void g3_a_job_that_waits_is_forgotten(void **state)
{
    struct channel_rig *r = *state;
    /* Every other one is answered before it runs. */
    struct request wrong = req_free(99), early = async(wrong);
    wrong = req_wrap(CHANNEL_SESSION, &wrong);
    early = req_wrap(CHANNEL_SESSION, &early);
    const struct vgpu_ring_part parts[] = {PART(wrong.bytes, wrong.length),
                                           PART(early.bytes, early.length)};
    for (unsigned i = 0; i < 60; i++) {
        guest_request(r, &wrong);
        for (unsigned k = 0; k < 200; k++)
            guest_write(r, VGPU_RING_REQUEST, true, nowhere, &parts[(i + k) % 2], 1);
        rig_grants(r, false);
        guest_publish(r);
        (void)rig_recall(r, 0);
        rig_detach(r);
        rig_attach(r);
        rig_grants(r, true);
        guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0); /* and nobody else's answer */
        guest_request(r, &wrong);                                 /* nor is its own missing */
    }
    guest_expect_silence(r, 3);
}

static void g6_a_channel_is_cleared_before_it_is_active(void **state)
{
    struct channel_rig *r = *state;
    memset(r->window, 0xee, CHANNEL_WINDOW);
    rig_attach(r);
    const struct vgpu_ring_worker *page = (void *)(r->channel + VGPU_CHANNEL_WORKER_PAGE);
    for (uint32_t i = 0; i < VGPU_CHANNEL_BYTES; i++) {
        const uint8_t *at = r->channel + i;
        if (at < (const uint8_t *)page || at >= (const uint8_t *)(page + 1))
            assert_int_equal(*at, 0);
    }
    assert_int_equal(page->state, VGPU_CHANNEL_ACTIVE);
    assert_int_equal(r->channel[-1], 0xee);
    assert_int_equal(r->channel[VGPU_CHANNEL_BYTES], 0xee);
}

static int make_file(uint64_t size, int seals)
{
    int fd = vgpu_memfd_create("window", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    if (seals)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

/* A window that cannot be used makes the channel fatal, and nothing else. */
static void g19_a_window_that_cannot_be_used_is_fatal(void **state)
{
    struct channel_rig *r = *state;
    const int both = F_SEAL_SHRINK | F_SEAL_GROW;
    const int files[] = {
        make_file(CHANNEL_WINDOW, 0),
        make_file(CHANNEL_WINDOW, F_SEAL_GROW),
        make_file(CHANNEL_WINDOW, F_SEAL_SHRINK),
        make_file(CHANNEL_WINDOW / 2, both),
        make_file(CHANNEL_WINDOW * 2, both),
        eventfd(0, EFD_CLOEXEC),
    };
    int real = r->window_fd;
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        uint32_t error;
        unsigned seen = r->channels;
        r->window_fd = files[i];
        rig_attach_only(r);
        assert_int_equal(rig_channel_state(r, seen, &error), VGPU_CHANNEL_FATAL);
        assert_int_equal(error, VGPU_CHANNEL_HOST);
        rig_detach(r);
        close(files[i]);
    }
    r->window_fd = real;
    rig_attach(r);
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    rig_detach(r);
    /* One window for life. */
    unsigned seen = r->channels;
    r->window_fd = make_file(CHANNEL_WINDOW, both);
    rig_attach_only(r);
    assert_int_equal(rig_channel_state(r, seen, NULL), VGPU_CHANNEL_FATAL);
    close(r->window_fd);
    r->window_fd = real;
}

/* ---- W7 ---- */

static void expect_end(struct channel_rig *r)
{
    for (unsigned i = 0; atomic_load(&r->ended_with) == INT_MAX; i++) {
        assert_true(i < 100000);
        usleep(100);
    }
    assert_int_equal(atomic_load(&r->ended_with), -EPROTO);
}

static void attach_with(struct channel_rig *r, uint64_t bytes, uint32_t channel, uint32_t reserved,
                        unsigned fds)
{
    struct vgpu_worker_attach a = {bytes, channel, reserved};
    const int own[] = {r->window_fd, r->doorbell, r->interrupt, r->interrupt};
    rig_send(r, VGPU_WORKER_ATTACH, 0, &a, sizeof(a), own, fds);
}

#define BREAKS(name, what)                                                                         \
    static void name(void **state)                                                                 \
    {                                                                                              \
        struct channel_rig *r = *state;                                                            \
        what;                                                                                      \
        expect_end(r);                                                                             \
    }

static const struct vgpu_worker_channel ours = {.channel = CHANNEL_NUMBER};
static const struct vgpu_worker_channel other = {.channel = CHANNEL_NUMBER + 1};
static const struct vgpu_worker_channel with_state = {.channel = CHANNEL_NUMBER, .state = 1};
static const struct vgpu_worker_extent extent = {.offset = 1 << 21, .bytes = 65536};

BREAKS(w7_attach_without_descriptors, attach_with(r, CHANNEL_WINDOW, 2, 0, 0))
BREAKS(w7_attach_with_two, attach_with(r, CHANNEL_WINDOW, 2, 0, 2))
BREAKS(w7_attach_with_four, attach_with(r, CHANNEL_WINDOW, 2, 0, 4))
BREAKS(w7_attach_of_a_channel_outside, attach_with(r, CHANNEL_WINDOW, 32, 0, 3))
BREAKS(w7_attach_of_a_channel_beyond_all, attach_with(r, CHANNEL_WINDOW, UINT32_MAX, 0, 3))
BREAKS(w7_attach_of_a_window_too_small, attach_with(r, 4096, 0, 0, 3))
BREAKS(w7_attach_of_a_window_too_large, attach_with(r, UINT64_MAX, 0, 0, 3))
BREAKS(w7_attach_with_something_reserved, attach_with(r, CHANNEL_WINDOW, 2, 1, 3))
BREAKS(w7_attach_twice, (rig_attach(r), rig_attach_only(r)))
BREAKS(w7_detach_of_nothing, rig_send(r, VGPU_WORKER_DETACH, 0, &ours, sizeof(ours), NULL, 0))
BREAKS(w7_detach_of_another,
       (rig_attach(r), rig_send(r, VGPU_WORKER_DETACH, 0, &other, sizeof(other), NULL, 0)))
BREAKS(w7_detach_with_a_state,
       (rig_attach(r), rig_send(r, VGPU_WORKER_DETACH, 0, &with_state, sizeof(ours), NULL, 0)))
BREAKS(w7_detach_too_short,
       (rig_attach(r), rig_send(r, VGPU_WORKER_DETACH, 0, &ours, sizeof(ours) - 1, NULL, 0)))
BREAKS(w7_extent_that_nobody_asked_for,
       rig_send(r, VGPU_WORKER_EXTENT, 1, &extent, sizeof(extent), NULL, 0))
BREAKS(w7_descriptors_with_a_grant, rig_send(r, VGPU_WORKER_GRANT, 1, NULL, 0, &r->doorbell, 1))
BREAKS(w7_a_report_from_the_wrong_side,
       rig_send(r, VGPU_WORKER_RETURN_EXTENT, 0, &extent, sizeof(extent), NULL, 0))

/* An extent that is not what was asked for. */
static void answer_wrongly(struct channel_rig *r, uint64_t offset, uint64_t bytes)
{
    uint64_t want = 65536;
    struct vgpu_ring_part part = PART(&want, 8);
    rig_attach(r);
    r->answers_extents = false;
    guest_write(r, VGPU_RING_ARENA_ALLOC, true, nowhere, &part, 1);
    guest_publish(r);
    rig_wait_asked(r, 1);
    rig_answer_extent(r, 0, offset, bytes, false);
}
BREAKS(w7_extent_of_another_size, answer_wrongly(r, 1 << 21, 131072))
BREAKS(w7_extent_outside, answer_wrongly(r, CHANNEL_WINDOW, 65536))
BREAKS(w7_extent_at_an_odd_place, answer_wrongly(r, 4096, 65536))

/* ---- Anything, anywhere ---- */

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

struct vandal {
    struct channel_rig *r;
    pthread_t thread;
    _Atomic bool stop;
    uint64_t seed;
};

/* Not for ThreadSanitizer: it races, that is the point. Stores are volatile so that none is lost.
 */
__attribute__((no_sanitize("thread"))) static void *write_anything(void *arg)
{
    struct vandal *v = arg;
    uint64_t x = v->seed, one = 1;
    volatile uint8_t *window = v->r->window;
    while (!atomic_load_explicit(&v->stop, memory_order_relaxed)) {
        uint64_t n = next_random(&x);
        uint32_t base = CHANNEL_NUMBER * VGPU_CHANNEL_BYTES;
        uint32_t at;
        if (n % 4 == 0)
            at = (uint32_t)(next_random(&x) % CHANNEL_WINDOW);
        else if (n % 4 == 1)
            at = base + (uint32_t)(next_random(&x) % 192); /* counters */
        else
            at = base + VGPU_CHANNEL_SUBMISSIONS +
                 (uint32_t)(next_random(&x) % (VGPU_RING_UNITS * VGPU_RING_UNIT));
        window[at] = (uint8_t)next_random(&x);
        /* Often something that gets as far as a call. */
        if (n % 8 == 2) {
            volatile uint16_t *opcode = (volatile uint16_t *)(window + (at & ~63u));
            *opcode = (uint16_t)(0x1000 + next_random(&x) % 0x90);
        }
        if (n % 64 == 0) {
            struct vgpu_ring_guest *page = (void *)v->r->channel;
            __atomic_store_n(&page->submit_tail,
                             __atomic_load_n(&page->submit_tail, __ATOMIC_RELAXED) +
                                 next_random(&x) % 64,
                             __ATOMIC_RELEASE);
            if (write(v->r->doorbell, &one, 8) < 0)
                continue;
        }
    }
    return NULL;
}

static void a_guest_that_writes_anything_anywhere_harms_only_itself(void **state)
{
    struct channel_rig *r = *state;
    unsigned fatal = 0;
    for (unsigned i = 0; i < 120; i++) {
        struct vandal v = {.r = r, .seed = 88172645463325252ull + i};
        assert_int_equal(pthread_create(&v.thread, NULL, write_anything, &v), 0);
        usleep(1000 + i * 50);
        atomic_store(&v.stop, true);
        pthread_join(v.thread, NULL);
        assert_int_equal(atomic_load(&r->ended_with), INT_MAX);
        fatal += vgpu_ring_client_state(&r->client, NULL) == VGPU_CHANNEL_FATAL;
        rig_detach(r);
        rig_attach(r);
        guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    }
    assert_true(fatal > 10);
    rig_grants(r, true);
    if (r->held)
        assert_true(rig_recall(r, 0) < 5 * VGPU_NS_PER_S);
}

int main(void)
{
#define ON(setup, f) VGPU_TEST_F(f, setup, channel_teardown)
    const struct CMUnitTest tests[] = {
        ON(channel_setup, w4_a_lease_goes_back_while_the_guest_posts_without_pause),
        ON(channel_setup_requests, w4_nothing_runs_without_the_lease),
        ON(channel_setup_requests, w4_every_lease_runs_a_record),
        ON(channel_setup, s4_a_recalled_lease_outlasts_gaps),
        ON(channel_setup_requests, w4_a_request_in_the_queue_survives_a_recall),
        ON(channel_setup, g3_detaching_works_while_the_guest_posts),
        ON(channel_setup_requests, g3_a_request_that_waits_is_forgotten),
        ON(channel_setup_requests, g3_a_job_that_waits_is_forgotten),
        ON(channel_setup_bare, g6_a_channel_is_cleared_before_it_is_active),
        ON(channel_setup_bare, g19_a_window_that_cannot_be_used_is_fatal),
        ON(channel_setup_bare, w7_attach_without_descriptors),
        ON(channel_setup_bare, w7_attach_with_two),
        ON(channel_setup_bare, w7_attach_with_four),
        ON(channel_setup_bare, w7_attach_of_a_channel_outside),
        ON(channel_setup_bare, w7_attach_of_a_channel_beyond_all),
        ON(channel_setup_bare, w7_attach_of_a_window_too_small),
        ON(channel_setup_bare, w7_attach_of_a_window_too_large),
        ON(channel_setup_bare, w7_attach_with_something_reserved),
        ON(channel_setup_bare, w7_attach_twice),
        ON(channel_setup_bare, w7_detach_of_nothing),
        ON(channel_setup_bare, w7_detach_of_another),
        ON(channel_setup_bare, w7_detach_with_a_state),
        ON(channel_setup_bare, w7_detach_too_short),
        ON(channel_setup_bare, w7_extent_that_nobody_asked_for),
        ON(channel_setup_bare, w7_descriptors_with_a_grant),
        ON(channel_setup_bare, w7_a_report_from_the_wrong_side),
        ON(channel_setup_bare, w7_extent_of_another_size),
        ON(channel_setup_bare, w7_extent_outside),
        ON(channel_setup_bare, w7_extent_at_an_odd_place),
        ON(channel_setup, a_guest_that_writes_anything_anywhere_harms_only_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
