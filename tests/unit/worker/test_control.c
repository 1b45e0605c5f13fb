/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The worker over its socket, the test being the mediator: clauses W1 to W7 of docs/worker.md. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "build.h"
#include "common/clock.h"
#include "common/net.h"
#include "fake_backend.h"
#include "vgpu/worker.h"
#include "vgpu_test.h"
#include "worker/control.h"
#include "worker/packet.h"

#define PATIENCE_MS 20000

struct mediator {
    int fd;
    int theirs;
    struct vgpu_backend *backend;
    struct vgpu_worker *worker;
    pthread_t thread;
    int ended_with;
    _Atomic bool ended;
    _Atomic bool held; /* from before the GRANT is sent until the RETURN is read (W4) */
    bool by_hand;      /* the test answers WANT itself */
    bool again;        /* it wants the next lease, and holds one */
    uint64_t lease, seq;
    uint32_t request_id;
    unsigned wants;
};

struct packet {
    struct vgpu_worker_header header;
    uint8_t body[2048];
};

static bool lease_held(void *context)
{
    return atomic_load(&((struct mediator *)context)->held);
}

static void *run(void *arg)
{
    struct mediator *m = arg;
    m->ended_with = vgpu_worker_run(m->worker);
    atomic_store(&m->ended, true);
    /* A program would exit here; its end of the socket closes. */
    shutdown(m->theirs, SHUT_RDWR);
    return NULL;
}

static void send_bytes(struct mediator *m, const void *bytes, size_t length)
{
    assert_int_equal(send(m->fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void send_packet(struct mediator *m, uint32_t type, uint64_t seq, const void *body,
                        uint32_t length)
{
    struct packet p = {.header = {.type = type, .length = length, .seq = seq}};
    if (length)
        memcpy(p.body, body, length);
    send_bytes(m, &p, sizeof(p.header) + length);
}

static void grant(struct mediator *m)
{
    atomic_store(&m->held, true);
    send_packet(m, VGPU_WORKER_GRANT, ++m->lease, NULL, 0);
}

static void recall(struct mediator *m, uint64_t lease, uint32_t grace_us)
{
    struct vgpu_worker_recall r = {.grace_us = grace_us};
    send_packet(m, VGPU_WORKER_RECALL, lease, &r, sizeof(r));
}

static void send_request(struct mediator *m, uint64_t seq, uint32_t id, const struct request *r)
{
    uint8_t body[8 + sizeof(r->bytes)];
    struct vgpu_worker_request head = {.request_id = id, .length = r->length};
    memcpy(body, &head, sizeof(head));
    memcpy(body + 8, r->bytes, r->length);
    send_packet(m, VGPU_WORKER_REQUEST, seq, body, 8 + r->length);
}

/* The next packet from the worker; false when none comes in time or the worker is gone. */
static bool receive(struct mediator *m, struct packet *p, int timeout_ms)
{
    struct pollfd fds = {.fd = m->fd, .events = POLLIN};
    if (poll(&fds, 1, timeout_ms) != 1)
        return false;
    ssize_t n = recv(m->fd, p, sizeof(*p), 0);
    if (n <= 0)
        return false;
    assert_true((size_t)n >= sizeof(p->header));
    assert_int_equal(p->header.length, n - (ssize_t)sizeof(p->header));
    if (p->header.type == VGPU_WORKER_RETURN) {
        assert_int_equal(p->header.seq, m->lease);
        assert_true(atomic_exchange(&m->held, false));
        if (m->again && !m->by_hand)
            grant(m);
        m->again = false;
    }
    if (p->header.type == VGPU_WORKER_WANT) {
        m->wants++;
        assert_int_equal(p->header.seq, 0);
        assert_false(m->again);
        if (atomic_load(&m->held))
            m->again = true; /* the next one, before it returns this one */
        else if (!m->by_hand)
            grant(m);
    }
    return true;
}

/* Takes packets until one of this type. */
static void expect_packet(struct mediator *m, uint32_t type, struct packet *p)
{
    do {
        assert_true(receive(m, p, PATIENCE_MS));
    } while (p->header.type != type);
}

static void expect_silence(struct mediator *m, int ms)
{
    struct packet p;
    assert_false(receive(m, &p, ms));
    assert_false(atomic_load(&m->ended));
}

/* Nothing of this type for a while. */
static void expect_silence_of(struct mediator *m, uint32_t type, int ms)
{
    struct packet p;
    uint64_t end = vgpu_clock_ns() + (uint64_t)ms * VGPU_NS_PER_MS;
    while (vgpu_clock_ns() < end) {
        if (receive(m, &p, 10))
            assert_int_not_equal(p.header.type, type);
    }
}

static struct response response_to(struct mediator *m, uint64_t seq)
{
    struct packet p;
    struct vgpu_worker_response head;
    struct response out;
    do {
        expect_packet(m, VGPU_WORKER_RESPONSE, &p);
    } while (p.header.seq != seq);
    assert_true(p.header.length >= sizeof(head));
    memcpy(&head, p.body, sizeof(head));
    assert_int_equal(head.length, p.header.length - sizeof(head));
    parse_response(seq, head.error_code, p.body + sizeof(head), head.length, &out);
    return out;
}

static uint64_t submit(struct mediator *m, struct request r)
{
    send_request(m, ++m->seq, ++m->request_id, &r);
    return m->seq;
}

/* Asks until the answer is not 600. */
static struct response call(struct mediator *m, struct request r)
{
    uint32_t id = ++m->request_id;
    for (;;) {
        send_request(m, ++m->seq, id, &r);
        struct response out = response_to(m, m->seq);
        if (out.status != 600)
            return out;
    }
}

static int setup(void **state)
{
    struct mediator *m = calloc(1, sizeof(*m));
    char why[100];
    int fds[2];
    if (!m || fake_ops.open(&(struct vgpu_backend_config){0}, &m->backend, why, sizeof(why)) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return -1;
    m->fd = fds[0];
    m->theirs = fds[1];
    m->seq = 100;
    fake_set_hook(m->backend, lease_held, m);
    struct vgpu_worker_config config = {
        .fd = m->theirs, .session_id = 0, .ops = &fake_ops, .backend = m->backend};
    if (vgpu_worker_create(&config, &m->worker) || pthread_create(&m->thread, NULL, run, m))
        return -1;
    struct packet p;
    if (!receive(m, &p, PATIENCE_MS) || p.header.type != VGPU_WORKER_READY || p.header.length ||
        p.header.seq)
        return -1;
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct mediator *m = *state;
    if (m->fd >= 0)
        close(m->fd);
    pthread_join(m->thread, NULL);
    vgpu_worker_destroy(m->worker);
    close(m->theirs);
    int rc = fake_violations(m->backend) ? -1 : 0;
    if (rc)
        print_error("W4: the backend was entered without the lease\n");
    fake_ops.close(m->backend);
    free(m);
    return rc;
}

/* Waits for the worker's end; what run answered. */
static int end_of(struct mediator *m)
{
    for (int i = 0; i < PATIENCE_MS && !atomic_load(&m->ended); i++)
        poll(NULL, 0, 1);
    assert_true(atomic_load(&m->ended));
    return m->ended_with;
}

static uint64_t kernel(struct mediator *m, const char *name)
{
    struct response r = call(m, req_load(0, 0, "ok"));
    expect_ok(&r);
    r = call(m, req_module_kernel(0, result64(&r, 0), 0, name));
    expect_ok(&r);
    return result64(&r, 0);
}

/* W1, W2: READY first (see setup), then a response for each request, with its seq. */
static void w2_requests_are_answered(void **state)
{
    struct mediator *m = *state;
    struct response r = response_to(m, submit(m, req_nop()));
    expect_ok(&r);
    assert_int_equal(r.length, 32);
    uint64_t a = submit(m, req_nop()), b = submit(m, req_info());
    r = response_to(m, a);
    expect_ok(&r);
    r = response_to(m, b);
    expect_ok(&r);
    assert_int_equal(r.data_length, 176);
    assert_int_equal(m->wants, 0); /* W4: neither touches the GPU */
}

static void w2_memory_round_trip(void **state)
{
    struct mediator *m = *state;
    struct response r = call(m, req_alloc(4096));
    expect_ok(&r);
    uint64_t address = result64(&r, 0);
    r = call(m, req_htod(address + 8, "hello", 5));
    expect_ok(&r);
    r = call(m, req_dtoh(address + 8, 5));
    expect_ok(&r);
    assert_memory_equal(r.data, "hello", 5);
    r = call(m, req_free(address));
    expect_ok(&r);
    assert_int_equal(m->wants, 1);
}

/* W2: a request of any length up to a mailbox is carried; what it says is the protocol's matter. */
static void w2_short_requests_are_answered(void **state)
{
    struct mediator *m = *state;
    struct request r = req_nop();
    for (uint32_t length = 0; length < 32; length++) {
        struct response out = response_to(m, submit(m, with_length(r, length)));
        expect_reject(&out, VGPU_ERR_INVALID_LENGTH);
    }
}

/* W2: 100 ms, while nobody grants the lease. */
static void w2_not_yet_while_no_lease(void **state)
{
    struct mediator *m = *state;
    m->by_hand = true;
    uint64_t before = vgpu_clock_ns();
    struct response r = response_to(m, submit(m, req_alloc(64)));
    expect_not_ready(&r);
    assert_true(vgpu_clock_ns() - before >= 50 * VGPU_NS_PER_MS);
    assert_int_equal(m->wants, 1);
    assert_int_equal(fake_calls(m->backend, FAKE_ALLOC), 0);
    /* W4: at most one WANT until the GRANT. */
    submit(m, req_alloc(128));
    expect_not_ready((r = response_to(m, m->seq), &r));
    assert_int_equal(m->wants, 1);
    grant(m);
    m->request_id--;
    r = call(m, req_alloc(128));
    expect_ok(&r);
}

/* W3: a CANCEL after the response. */
static void w3_cancel_undoes(void **state)
{
    struct mediator *m = *state;
    uint64_t before = fake_free_bytes(m->backend);
    struct response r = call(m, req_alloc(4096));
    expect_ok(&r);
    assert_int_equal(fake_free_bytes(m->backend), before - 4096);
    send_packet(m, VGPU_WORKER_CANCEL, m->seq, NULL, 0);
    r = call(m, req_free(result64(&r, 0))); /* in order: it is gone by then */
    expect_cuda(&r, CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(fake_free_bytes(m->backend), before);
    send_packet(m, VGPU_WORKER_CANCEL, 999999, NULL, 0); /* never used: ignored */
    r = call(m, req_nop());
    expect_ok(&r);
}

/* W4: the lease stays while it is not recalled, and goes back at once when idle. */
static void w4_idle_recall_returns(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    struct response r = call(m, req_alloc(64));
    expect_ok(&r);
    expect_silence(m, 50);
    recall(m, m->lease, 60000000);
    expect_packet(m, VGPU_WORKER_RETURN, &p);
    assert_int_equal(p.header.seq, m->lease);
    expect_silence(m, 50); /* nothing to do: no WANT */
    r = call(m, req_alloc(64));
    expect_ok(&r);
    assert_int_equal(m->wants, 2);
}

/* W4: within the grace what is queued is done, then the lease goes back. */
static void w4_grace_empties_the_queue(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    m->by_hand = true;
    uint64_t first = submit(m, req_alloc(64)), second = submit(m, req_alloc(64));
    expect_packet(m, VGPU_WORKER_WANT, &p);
    fake_hold(m->backend, FAKE_ALLOC);
    grant(m);
    assert_true(fake_wait_held(m->backend));
    recall(m, m->lease, 600000000);
    fake_release(m->backend);
    struct response r = response_to(m, first);
    assert_true(r.status == 0 || r.status == 600);
    r = response_to(m, second);
    assert_true(r.status == 0 || r.status == 600);
    if (atomic_load(&m->held))
        expect_packet(m, VGPU_WORKER_RETURN, &p);
    assert_int_equal(fake_calls(m->backend, FAKE_ALLOC), 2);
    assert_int_equal(m->wants, 1);
}

/* W4: after the grace nothing new starts; WANT for what is left, then RETURN. */
static void w4_no_new_work_after_the_grace(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    m->by_hand = true;
    fake_hold(m->backend, FAKE_ALLOC);
    submit(m, req_alloc(64));
    submit(m, req_alloc(64));
    expect_packet(m, VGPU_WORKER_WANT, &p);
    grant(m);
    assert_true(fake_wait_held(m->backend));
    recall(m, m->lease, 0);
    expect_packet(m, VGPU_WORKER_RESPONSE, &p); /* so the RECALL has been read */
    fake_release(m->backend);
    assert_int_equal(m->wants, 1);
    expect_packet(m, VGPU_WORKER_RETURN, &p);
    assert_int_equal(m->wants, 2);
    assert_int_equal(fake_calls(m->backend, FAKE_ALLOC), 1);
    grant(m);
    struct response r = call(m, req_nop());
    expect_ok(&r);
    r = call(m, req_free(1));
    expect_cuda(&r, 1);
    assert_int_equal(fake_calls(m->backend, FAKE_ALLOC), 2);
}

/* W4: a lease that is called back before anything was begun covers one request, no more. */
static void w4_every_lease_gets_something_done(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    m->by_hand = true;
    for (unsigned i = 0; i < 50; i++)
        submit(m, req_alloc(64));
    expect_packet(m, VGPU_WORKER_WANT, &p);
    for (unsigned done = 0, leases = 0; done < 50; leases++) {
        assert_true(leases <= done);
        grant(m);
        recall(m, m->lease, 0);
        expect_packet(m, VGPU_WORKER_RETURN, &p);
        done = fake_calls(m->backend, FAKE_ALLOC);
        assert_int_equal(m->wants, leases + (done < 50 ? 2 : 1));
    }
}

/* W4: the same when the grace ends by the clock. */
static void w4_grace_that_runs_out(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    m->by_hand = true;
    fake_hold(m->backend, FAKE_ALLOC);
    submit(m, req_alloc(64));
    submit(m, req_alloc(64));
    expect_packet(m, VGPU_WORKER_WANT, &p);
    grant(m);
    assert_true(fake_wait_held(m->backend));
    recall(m, m->lease, 20000);
    expect_silence_of(m, VGPU_WORKER_RETURN, 400);
    fake_release(m->backend); /* long after the grace */
    expect_packet(m, VGPU_WORKER_RETURN, &p);
    assert_int_equal(fake_calls(m->backend, FAKE_ALLOC), 1);
}

/* W4: what an asynchronous backend still runs is drained before the RETURN. */
static void w4_drains_before_return(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    uint64_t empty = kernel(m, "empty");
    fake_set_async(m->backend, true);
    struct response r = call(m, req_launch(empty, NULL, 0));
    expect_ok(&r);
    r = call(m, req_alloc(64)); /* the launch has been started by now */
    expect_ok(&r);
    assert_int_equal(fake_calls(m->backend, FAKE_SYNC), 0);
    recall(m, m->lease, 0);
    expect_packet(m, VGPU_WORKER_RETURN, &p);
    assert_int_equal(fake_calls(m->backend, FAKE_SYNC), 1);
}

/* W4: a RECALL that crossed with the RETURN, of another number, or twice. */
static void w4_stale_recalls_are_ignored(void **state)
{
    struct mediator *m = *state;
    struct packet p;
    struct response r = call(m, req_alloc(64));
    expect_ok(&r);
    recall(m, m->lease + 7, 0);
    expect_silence(m, 50);
    recall(m, m->lease, 0);
    recall(m, m->lease, 0);
    expect_packet(m, VGPU_WORKER_RETURN, &p);
    recall(m, m->lease, 0);
    expect_silence(m, 50);
}

/* W4: a GRANT on top of another breaks the rules. */
static void w4_second_grant_is_a_violation(void **state)
{
    struct mediator *m = *state;
    grant(m);
    grant(m);
    assert_int_equal(end_of(m), -EPROTO);
}

/* W4, W5, W6: an endless kernel keeps the lease; the worker stays responsive and ends at once when
 * the socket closes. */
static void w6_ends_at_once_with_an_endless_kernel(void **state)
{
    struct mediator *m = *state;
    struct response r = call(m, req_launch(kernel(m, "spin"), NULL, 0));
    expect_ok(&r);
    assert_true(fake_wait_held(m->backend));
    recall(m, m->lease, 0);
    expect_silence(m, 300); /* no RETURN: the kernel runs */
    r = response_to(m, submit(m, req_nop()));
    expect_ok(&r);
    r = response_to(m, submit(m, req_sync()));
    expect_not_ready(&r);
    close(m->fd);
    m->fd = -1;
    assert_int_equal(end_of(m), 0);
}

/* W6: also with requests that wait. */
static void w6_ends_with_requests_waiting(void **state)
{
    struct mediator *m = *state;
    m->by_hand = true;
    for (int i = 0; i < 20; i++)
        submit(m, req_alloc(64));
    close(m->fd);
    m->fd = -1;
    assert_int_equal(end_of(m), 0);
    assert_int_equal(fake_calls(m->backend, FAKE_ALLOC), 0);
}

/* W7: each malformed packet ends the worker with the same error. */
static void violate(void **state, const void *bytes, size_t length)
{
    struct mediator *m = *state;
    send_bytes(m, bytes, length);
    assert_int_equal(end_of(m), -EPROTO);
}

#define W7(name, ...)                                                                              \
    static void w7_##name(void **state)                                                            \
    {                                                                                              \
        struct packet p = {0};                                                                     \
        size_t length = sizeof(p.header);                                                          \
        __VA_ARGS__;                                                                               \
        violate(state, &p, length);                                                                \
    }

static void header(struct packet *p, uint32_t type, uint32_t length)
{
    p->header = (struct vgpu_worker_header){.type = type, .length = length, .seq = 1};
}

W7(one_byte, length = 1)
W7(header_cut_short, length = 15)
W7(type_0, header(&p, 0, 0))
W7(type_unknown, header(&p, 5, 0))
W7(type_huge, header(&p, 0xFFFFFFFF, 0))
W7(type_ready, header(&p, VGPU_WORKER_READY, 0))
W7(type_response, header(&p, VGPU_WORKER_RESPONSE, 8); length += 8)
W7(type_want, header(&p, VGPU_WORKER_WANT, 0))
W7(type_return, header(&p, VGPU_WORKER_RETURN, 0))
W7(length_over, header(&p, VGPU_WORKER_CANCEL, 1))
W7(length_under, header(&p, VGPU_WORKER_CANCEL, 0); length += 1)
W7(length_huge, header(&p, VGPU_WORKER_CANCEL, 0xFFFFFFFF))
W7(cancel_with_body, header(&p, VGPU_WORKER_CANCEL, 8); length += 8)
W7(grant_with_body, header(&p, VGPU_WORKER_GRANT, 4); length += 4)
W7(recall_short, header(&p, VGPU_WORKER_RECALL, 4); length += 4)
W7(recall_long, header(&p, VGPU_WORKER_RECALL, 12); length += 12)
W7(request_short, header(&p, VGPU_WORKER_REQUEST, 7); length += 7)
W7(request_inner_over, header(&p, VGPU_WORKER_REQUEST, 8); length += 8; p.body[4] = 1)
W7(request_inner_under, header(&p, VGPU_WORKER_REQUEST, 40); length += 40; p.body[4] = 31)
W7(request_inner_huge, header(&p, VGPU_WORKER_REQUEST, 8); length += 8; memset(p.body + 4, 0xFF, 4))
W7(request_over_a_mailbox, header(&p, VGPU_WORKER_REQUEST, 8 + 1025); length += 8 + 1025;
   put32(p.body + 4, 1025))

/* W7: the parser by itself, with more bytes than the control thread's buffer lets through. */
static void w7_parser_bounds_a_request(void **state)
{
    struct vgpu_packet out;
    struct packet p = {0};
    const char *why = NULL;
    (void)state;
    for (uint32_t n = 0; n <= 1030; n++) {
        header(&p, VGPU_WORKER_REQUEST, 8 + n);
        put32(p.body + 4, n);
        assert_int_equal(vgpu_packet_parse((const uint8_t *)&p, 16 + 8 + n, 0, &out, &why),
                         n <= 1024 ? 0 : -EPROTO);
        assert_int_equal(vgpu_packet_parse((const uint8_t *)&p, 16 + 8 + n + 1, 0, &out, &why),
                         -EPROTO);
    }
}

/* W7: descriptors that come along. */
static void w7_descriptors(void **state)
{
    struct mediator *m = *state;
    struct vgpu_worker_header h = {.type = VGPU_WORKER_CANCEL, .seq = 1};
    int fd = 0;
    assert_int_equal(vgpu_net_send(m->fd, &h, sizeof(h), &fd, 1), sizeof(h));
    assert_int_equal(end_of(m), -EPROTO);
}

/* A mediator that stops reading ends its worker, which does not pile up answers for ever. */
static void w2_a_mediator_that_does_not_read(void **state)
{
    struct mediator *m = *state;
    struct request r = req_info();
    uint8_t packet[sizeof(struct packet)];
    struct vgpu_worker_header h = {.type = VGPU_WORKER_REQUEST, .length = 8 + r.length, .seq = 1};
    struct vgpu_worker_request head = {.request_id = 1, .length = r.length};
    memcpy(packet, &h, sizeof(h));
    memcpy(packet + 16, &head, sizeof(head));
    memcpy(packet + 24, r.bytes, r.length);
    for (int i = 0; i < 1000000 && !atomic_load(&m->ended); i++) {
        struct pollfd fds = {.fd = m->fd, .events = POLLOUT};
        (void)poll(&fds, 1, 1000);
        if (send(m->fd, packet, 24 + r.length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EPIPE)
            break;
    }
    assert_int_equal(end_of(m), -ENOBUFS);
}

#define T(f) VGPU_TEST_F(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(w2_requests_are_answered),
        T(w2_memory_round_trip),
        T(w2_short_requests_are_answered),
        T(w2_not_yet_while_no_lease),
        T(w2_a_mediator_that_does_not_read),
        T(w3_cancel_undoes),
        T(w4_idle_recall_returns),
        T(w4_grace_empties_the_queue),
        T(w4_no_new_work_after_the_grace),
        T(w4_every_lease_gets_something_done),
        T(w4_grace_that_runs_out),
        T(w4_drains_before_return),
        T(w4_stale_recalls_are_ignored),
        T(w4_second_grant_is_a_violation),
        T(w6_ends_at_once_with_an_endless_kernel),
        T(w6_ends_with_requests_waiting),
        T(w7_one_byte),
        T(w7_header_cut_short),
        T(w7_type_0),
        T(w7_type_unknown),
        T(w7_type_huge),
        T(w7_type_ready),
        T(w7_type_response),
        T(w7_type_want),
        T(w7_type_return),
        T(w7_length_over),
        T(w7_length_under),
        T(w7_length_huge),
        T(w7_cancel_with_body),
        T(w7_grant_with_body),
        T(w7_recall_short),
        T(w7_recall_long),
        T(w7_request_short),
        T(w7_request_inner_over),
        T(w7_request_inner_under),
        T(w7_request_inner_huge),
        T(w7_request_over_a_mailbox),
        VGPU_TEST(w7_parser_bounds_a_request),
        T(w7_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
