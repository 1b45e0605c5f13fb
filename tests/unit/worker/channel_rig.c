/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See channel_rig.h. */
#define _GNU_SOURCE /* F_ADD_SEALS */
#include "channel_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "common/sys.h"
#include "fake_backend.h"
#include "fake_gpu.h"
#include "software.h"
#include "vgpu_test.h"

/* ---- The mediator ---- */

void rig_send(struct channel_rig *r, uint32_t type, uint64_t seq, const void *body, uint32_t length,
              const int *fds, unsigned fd_count)
{
    uint8_t packet[2048];
    struct vgpu_worker_header h = {.type = type, .length = length, .seq = seq};
    memcpy(packet, &h, sizeof(h));
    if (length)
        memcpy(packet + sizeof(h), body, length);
    ssize_t sent;
    while ((sent = vgpu_net_send(r->fd, packet, sizeof(h) + length, fds, fd_count)) == -EAGAIN) {
        struct pollfd p = {.fd = r->fd, .events = POLLOUT};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    }
    assert_int_equal(sent, sizeof(h) + length);
}

/* Under the lock. */
static void grant(struct channel_rig *r)
{
    r->held = true;
    rig_send(r, VGPU_WORKER_GRANT, ++r->lease, NULL, 0, NULL, 0);
}

static void answer_extent(struct channel_rig *r, const struct rig_extent *asked)
{
    struct vgpu_worker_extent e = {.dirty = r->dirty, .free_bytes = r->arena_free};
    if (asked->bytes <= r->arena_free) {
        e.offset = r->arena_next;
        e.bytes = asked->bytes;
        r->arena_next += asked->bytes;
        r->arena_free -= asked->bytes;
        e.free_bytes = r->arena_free;
    }
    rig_send(r, VGPU_WORKER_EXTENT, asked->seq, &e, sizeof(e), NULL, 0);
}

static void handle(struct channel_rig *r, const struct vgpu_worker_header *h, const uint8_t *body)
{
    struct vgpu_worker_extent e;
    switch (h->type) {
    case VGPU_WORKER_WANT:
        r->wants++;
        assert_false(r->again);
        if (r->held)
            r->again = true; /* the next one, before it returns this one (W4) */
        else if (r->grants)
            grant(r);
        return;
    case VGPU_WORKER_RETURN:
        assert_true(r->held);
        assert_int_equal(h->seq, r->lease);
        r->held = false;
        r->returned_ns = vgpu_clock_ns();
        r->returns++;
        if (r->again && r->grants)
            grant(r);
        r->again = false;
        return;
    case VGPU_WORKER_CHANNEL:
        memcpy(&r->last, body, sizeof(r->last));
        assert_int_equal(r->last.channel, CHANNEL_NUMBER);
        r->channels++;
        return;
    case VGPU_WORKER_WANT_EXTENT:
        memcpy(&e, body, sizeof(e));
        assert_true(e.bytes && e.bytes % VGPU_ARENA_GRANULE == 0 && !e.offset);
        r->asked[r->asked_count % 64] = (struct rig_extent){h->seq, 0, e.bytes};
        if (r->answers_extents)
            answer_extent(r, &r->asked[r->asked_count % 64]);
        else
            r->asked_count++;
        return;
    case VGPU_WORKER_RETURN_EXTENT:
        memcpy(&e, body, sizeof(e));
        r->returned[r->returned_count % 4096] = (struct rig_extent){0, e.offset, e.bytes};
        r->returned_count++;
        return;
    default:
        return;
    }
}

static void *mediate(void *arg)
{
    struct channel_rig *r = arg;
    struct pollfd fds[] = {{.fd = r->fd, .events = POLLIN}, {.fd = r->stop_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) >= 0 && !fds[1].revents) {
        uint8_t packet[4096];
        ssize_t n = recv(r->fd, packet, sizeof(packet), MSG_DONTWAIT);
        if (n <= 0 && errno != EAGAIN)
            break;
        if (n <= 0)
            continue;
        struct vgpu_worker_header h;
        memcpy(&h, packet, sizeof(h));
        pthread_mutex_lock(&r->lock);
        handle(r, &h, packet + sizeof(h));
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

/* Waits under the lock until `what`; fails the test when it does not come. */
#define WAIT_UNTIL(r, what)                                                                        \
    do {                                                                                           \
        struct timespec until_;                                                                    \
        clock_gettime(CLOCK_REALTIME, &until_);                                                    \
        until_.tv_sec += PATIENCE_MS / 1000;                                                       \
        pthread_mutex_lock(&(r)->lock);                                                            \
        int rc_ = 0;                                                                               \
        while (!(what) && !rc_)                                                                    \
            rc_ = pthread_cond_timedwait(&(r)->changed, &(r)->lock, &until_);                      \
        pthread_mutex_unlock(&(r)->lock);                                                          \
        assert_int_equal(rc_, 0);                                                                  \
    } while (0)

void rig_attach_only(struct channel_rig *r)
{
    struct vgpu_worker_attach a = {.window_bytes = CHANNEL_WINDOW, .channel = CHANNEL_NUMBER};
    const int fds[] = {r->window_fd, r->doorbell, r->interrupt};
    rig_send(r, VGPU_WORKER_ATTACH, 0, &a, sizeof(a), fds, 3);
}

uint32_t rig_channel_state(struct channel_rig *r, unsigned seen, uint32_t *error)
{
    WAIT_UNTIL(r, r->channels > seen);
    pthread_mutex_lock(&r->lock);
    uint32_t state = r->last.state;
    if (error)
        *error = r->last.error;
    pthread_mutex_unlock(&r->lock);
    return state;
}

static unsigned channels_seen(struct channel_rig *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned seen = r->channels;
    pthread_mutex_unlock(&r->lock);
    return seen;
}

void rig_attach(struct channel_rig *r)
{
    unsigned seen = channels_seen(r);
    rig_attach_only(r);
    assert_int_equal(rig_channel_state(r, seen, NULL), VGPU_CHANNEL_ACTIVE);
    vgpu_ring_client_init(&r->client, r->channel);
}

void rig_detach(struct channel_rig *r)
{
    unsigned seen = channels_seen(r);
    struct vgpu_worker_channel c = {.channel = CHANNEL_NUMBER};
    rig_send(r, VGPU_WORKER_DETACH, 0, &c, sizeof(c), NULL, 0);
    while (rig_channel_state(r, seen, NULL) != VGPU_CHANNEL_FREE)
        seen++;
}

void rig_grants(struct channel_rig *r, bool grants)
{
    pthread_mutex_lock(&r->lock);
    if (grants && !r->grants && !r->held && r->wants > r->returns)
        grant(r);
    r->grants = grants;
    pthread_mutex_unlock(&r->lock);
}

void rig_recall_only(struct channel_rig *r, uint32_t grace_us, uint32_t linger_us)
{
    struct vgpu_worker_recall body = {.grace_us = grace_us, .linger_us = linger_us};
    rig_send(r, VGPU_WORKER_RECALL, r->lease, &body, sizeof(body), NULL, 0);
}

uint64_t rig_recall(struct channel_rig *r, uint32_t grace_us)
{
    pthread_mutex_lock(&r->lock);
    unsigned returns = r->returns;
    assert_true(r->held);
    pthread_mutex_unlock(&r->lock);
    uint64_t begin = vgpu_clock_ns();
    rig_recall_only(r, grace_us, 0);
    WAIT_UNTIL(r, r->returns > returns);
    return r->returned_ns - begin;
}

void rig_grant_and_recall(struct channel_rig *r, unsigned wants)
{
    WAIT_UNTIL(r, r->wants >= wants);
    pthread_mutex_lock(&r->lock);
    unsigned returns = r->returns;
    grant(r);
    pthread_mutex_unlock(&r->lock);
    rig_recall_only(r, 0, 0);
    WAIT_UNTIL(r, r->returns > returns);
}

void rig_wait_lease_back(struct channel_rig *r, unsigned returns)
{
    WAIT_UNTIL(r, r->returns > returns);
}

void rig_wait_asked(struct channel_rig *r, unsigned count)
{
    WAIT_UNTIL(r, r->asked_count >= count);
}

void rig_answer_extent(struct channel_rig *r, unsigned i, uint64_t offset, uint64_t bytes,
                       bool dirty)
{
    struct vgpu_worker_extent e = {
        .offset = offset, .bytes = bytes, .dirty = dirty, .free_bytes = bytes ? 0 : 4096};
    rig_send(r, VGPU_WORKER_EXTENT, r->asked[i].seq, &e, sizeof(e), NULL, 0);
}

void rig_wait_returned(struct channel_rig *r, unsigned count)
{
    WAIT_UNTIL(r, r->returned_count >= count);
}

/* ---- The guest ---- */

static uint64_t patience(void)
{
    return vgpu_clock_ns() + (uint64_t)PATIENCE_MS * VGPU_NS_PER_MS;
}

void guest_publish(struct channel_rig *r)
{
    uint64_t one = 1;
    if (vgpu_ring_client_publish(&r->client)) {
        r->doorbells++;
        assert_int_equal(write(r->doorbell, &one, sizeof(one)), sizeof(one));
    }
}

uint32_t guest_write(struct channel_rig *r, uint16_t opcode, bool wants, struct answer_place place,
                     const struct vgpu_ring_part *parts, unsigned count)
{
    struct vgpu_ring_record h = {.opcode = opcode,
                                 .token = wants ? ++r->token : 0,
                                 .answer_unit = place.unit,
                                 .answer_units = place.units};
    uint64_t until = patience();
    while (!vgpu_ring_client_write(&r->client, &h, parts, count)) {
        guest_publish(r);
        assert_true(vgpu_clock_ns() < until);
        sched_yield();
    }
    return h.token;
}

bool guest_take_now(struct channel_rig *r, struct vgpu_ring_completion *out)
{
    return vgpu_ring_client_take(&r->client, out);
}

struct vgpu_ring_completion guest_take(struct channel_rig *r)
{
    struct vgpu_ring_completion c;
    uint64_t until = patience();
    while (!vgpu_ring_client_take(&r->client, &c)) {
        assert_true(vgpu_clock_ns() < until);
        sched_yield();
    }
    return c;
}

void guest_expect_silence(struct channel_rig *r, unsigned ms)
{
    struct vgpu_ring_completion c;
    uint64_t until = vgpu_clock_ns() + ms * VGPU_NS_PER_MS;
    while (vgpu_clock_ns() < until) {
        assert_false(vgpu_ring_client_take(&r->client, &c));
        sched_yield();
    }
}

uint32_t guest_wait_fatal(struct channel_rig *r)
{
    uint32_t error;
    uint64_t until = patience();
    while (vgpu_ring_client_state(&r->client, &error) != VGPU_CHANNEL_FATAL) {
        assert_true(vgpu_clock_ns() < until);
        sched_yield();
    }
    return error;
}

/* All answers go to the beginning of the answer area: one at a time. */
#define WHOLE ((struct answer_place){0, 64})

static uint32_t write_call(struct channel_rig *r, uint32_t opcode, bool wants,
                           struct answer_place place, const uint64_t *slots, const void *rest,
                           uint32_t length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint64_t context = info->context_free ? 0 : CHANNEL_CONTEXT;
    const struct vgpu_ring_part parts[] = {
        {&context, 8}, {slots, info->in_count * 8u}, {rest, length}};
    uint32_t token = guest_write(r, (uint16_t)opcode, wants, place, parts, 3);
    guest_publish(r);
    return token;
}

uint32_t guest_call(struct channel_rig *r, uint32_t opcode, bool wants, const uint64_t *slots,
                    const void *rest, uint32_t length)
{
    return write_call(r, opcode, wants, (struct answer_place){0, 0}, slots, rest, length);
}

static struct guest_answer await(struct channel_rig *r, uint32_t token)
{
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, token);
    struct guest_answer a = {.status = c.status, .error_code = c.error_code, .length = c.length};
    assert_true(c.length <= sizeof(a.bytes));
    memcpy(a.bytes,
           c.length <= VGPU_RING_INLINE_BYTES ? c.bytes : r->channel + VGPU_CHANNEL_ANSWERS,
           c.length);
    return a;
}

struct guest_answer guest_do(struct channel_rig *r, uint32_t opcode, const uint64_t *slots,
                             const void *rest, uint32_t length)
{
    return await(r, write_call(r, opcode, true, WHOLE, slots, rest, length));
}

struct guest_answer guest_record(struct channel_rig *r, uint16_t opcode, const void *body,
                                 uint32_t length)
{
    const struct vgpu_ring_part part = {body, length};
    uint32_t token = guest_write(r, opcode, true, WHOLE, &part, 1);
    guest_publish(r);
    return await(r, token);
}

struct guest_answer guest_request(struct channel_rig *r, const struct request *request)
{
    return guest_record(r, VGPU_RING_REQUEST, request->bytes, request->length);
}

struct guest_answer guest_synchronize(struct channel_rig *r)
{
    return guest_do(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, NULL, NULL, 0);
}

void guest_expect(struct guest_answer answer, uint32_t status)
{
    if (answer.status != status)
        print_error("%.*s\n", (int)answer.length, (const char *)answer.bytes);
    assert_int_equal(answer.status, status);
    assert_int_equal(answer.error_code, 0);
    if (status)
        assert_true(answer.length > 0); /* a text */
}

uint64_t guest_out(struct guest_answer answer, unsigned slot)
{
    guest_expect(answer, 0);
    assert_true(8 * (slot + 1) <= answer.length);
    return get64(answer.bytes + 8 * slot);
}

struct guest_answer guest_alloc_extent(struct channel_rig *r, uint64_t bytes)
{
    return guest_record(r, VGPU_RING_ARENA_ALLOC, &bytes, 8);
}

struct guest_answer guest_free_extent(struct channel_rig *r, uint64_t offset)
{
    return guest_record(r, VGPU_RING_ARENA_FREE, &offset, 8);
}

void guest_load(struct channel_rig *r)
{
    static const char ptx[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
                              ".visible .entry add(.param .u64 p, .param .u32 n)\n"
                              "{ .reg .u64 %rd<2>; .reg .u32 %r<3>;\n"
                              "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n];\n"
                              "ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1;\n"
                              "st.global.u32 [%rd1], %r2; ret; }\n"
                              ".visible .entry wild()\n"
                              "{ .reg .u64 %rd<2>; mov.u64 %rd1, 64; st.global.u64 [%rd1], %rd1; "
                              "ret; }\n";
    guest_expect(guest_do(r, VGPU_CALL_MODULE_LOAD, SLOTS(1, 0), ptx, sizeof(ptx) - 1), 0);
    guest_expect(guest_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(1, 1), "add", 3), 0);
    guest_expect(guest_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(1, 2), "wild", 4), 0);
}

void guest_launch_add(struct channel_rig *r, uint64_t address, uint32_t n)
{
    struct {
        uint64_t p;
        uint32_t n;
    } arguments = {address, n};
    guest_call(r, VGPU_CALL_LAUNCH, false, SLOTS(1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0), &arguments, 12);
}

/* ---- Setting up ---- */

static void *run(void *arg)
{
    struct channel_rig *r = arg;
    atomic_store(&r->ended_with, vgpu_worker_run(r->worker));
    shutdown(r->theirs, SHUT_RDWR);
    return NULL;
}

static int make_window(struct channel_rig *r)
{
    r->window_fd = vgpu_memfd_create("window", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    if (r->window_fd < 0 || ftruncate(r->window_fd, (off_t)CHANNEL_WINDOW) ||
        fcntl(r->window_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return -1;
    r->window = mmap(NULL, CHANNEL_WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, r->window_fd, 0);
    if (r->window == MAP_FAILED)
        return -1;
    r->channel = r->window + CHANNEL_NUMBER * VGPU_CHANNEL_BYTES;
    r->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return r->doorbell < 0 || r->interrupt < 0 || r->stop_fd < 0 ? -1 : 0;
}

static int make(void **state, const struct vgpu_backend_ops *ops, uint32_t queue)
{
    struct channel_rig *r = calloc(1, sizeof(*r));
    char why[200];
    int fds[2];
    struct vgpu_backend_config config = {.memory_bytes = 64u << 20, .threads = 1};
    if (!r || ops->open(&config, &r->backend, why, sizeof(why)) || make_window(r) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return -1;
    r->ops = ops;
    r->fd = fds[0];
    r->theirs = fds[1];
    r->grants = r->answers_extents = true;
    r->arena_next = CHANNEL_COUNT * VGPU_CHANNEL_BYTES;
    r->arena_free = CHANNEL_WINDOW - r->arena_next;
    atomic_store(&r->ended_with, INT_MAX);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    struct vgpu_worker_config worker = {.fd = r->theirs,
                                        .session_id = CHANNEL_SESSION,
                                        .ops = ops,
                                        .backend = r->backend,
                                        .queue = queue};
    if (vgpu_worker_create(&worker, &r->worker) ||
        pthread_create(&r->worker_thread, NULL, run, r) ||
        pthread_create(&r->mediator_thread, NULL, mediate, r))
        return -1;
    *state = r;
    return 0;
}

int channel_setup_bare(void **state)
{
    return make(state, &vgpu_backend_software, 0);
}

static int setup_on(void **state, const struct vgpu_backend_ops *ops, bool context, uint32_t queue)
{
    if (make(state, ops, queue))
        return -1;
    rig_attach(*state);
    if (context)
        guest_expect(DO(*state, PRIMARY_RETAIN, CHANNEL_CONTEXT, 0), 0);
    return 0;
}

int channel_setup(void **state)
{
    return setup_on(state, &vgpu_backend_software, true, 0);
}

int channel_setup_gpu(void **state)
{
    return setup_on(state, fake_gpu_ops(), true, 0);
}

int channel_setup_gpu_queue(void **state)
{
    return setup_on(state, fake_gpu_ops(), true, CHANNEL_QUEUE);
}

int channel_setup_requests(void **state)
{
    return setup_on(state, &fake_ops, false, 0);
}

int channel_teardown(void **state)
{
    struct channel_rig *r = *state;
    uint64_t one = 1;
    if (write(r->stop_fd, &one, sizeof(one)) != sizeof(one))
        return -1;
    pthread_join(r->mediator_thread, NULL);
    close(r->fd); /* W6 */
    pthread_join(r->worker_thread, NULL);
    int ended = atomic_load(&r->ended_with);
    vgpu_worker_destroy(r->worker);
    close(r->theirs);
    int rc = r->ops == fake_gpu_ops() ? fake_gpu_check() : 0;
    r->ops->close(r->backend);
    munmap(r->window, CHANNEL_WINDOW);
    close(r->window_fd);
    close(r->doorbell);
    close(r->interrupt);
    close(r->stop_fd);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    free(r);
    return ended && ended != -EPROTO ? -1 : rc;
}
