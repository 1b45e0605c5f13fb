/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window of a local client against a scripted mediator: what it gives, in which order, and what
 * becomes of a link whose mediator breaks the rules (docs/link.md, docs/ring.md). The script runs
 * in a thread; the transport is used as channel.c uses it.
 */
#define _GNU_SOURCE /* memfd_create, seals */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "guest/guest.h"
#include "vgpu/link.h"
#include "vgpu_test.h"

#define CHANNELS 10u /* two batches */
#define WINDOW   (16u << 20)
#define SEALS    (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* What is wrong this time. */
enum fault {
    NONE,
    NOT_SEALED,
    OTHER_SIZE,
    NO_FILE,
    NOT_A_MEMORY_FILE,
    NO_CHANNELS,
    TOO_MANY_CHANNELS,
    TOO_SMALL,
    TOO_LARGE,
    OTHER_CHANNEL_BYTES,
    FIRST_NOT_0,
    TWO_FILES,
    FEWER_FDS_THAN_SAID,
    MORE_FDS_THAN_SAID,
    NO_EVENTFD,
    GAP,
    AGAIN,
    PAST_THE_LAST,
    ODD_FDS,
    OTHER_WINDOW,
    EMPTY_BATCH,
    BEFORE_WELCOME,
    SHORT_PAYLOAD,
    WITH_SEQ,
    STATE_OF_NO_CHANNEL,
    STATE_UNKNOWN,
    STATE_SHORT,
    FAULTS,
    /* These are no violations. */
    NOT_OFFERED,
    NEVER_SENT,
    ENABLE_FATAL,
    ENABLE_SILENT,
    STALE_SERIAL,
};

struct peer {
    pthread_t thread;
    int listen_fd, stop[2];
    char directory[96], path[108];
    _Atomic int fault;
    _Atomic unsigned connections, enables, resets;
    _Atomic int break_now; /* tells the client that channel 0 is fatal with this error */
    _Atomic bool hang_up;
    struct vgpu_link_hello hello;
    int doorbell; /* of channel 0, a copy */
    uint32_t serial[VGPU_CHANNELS_MAX];
    pthread_mutex_t lock;
};

/* ---- The mediator's side ---- */

static bool send_with(int fd, uint16_t type, uint64_t seq, const void *payload, uint32_t length,
                      const int *fds, unsigned count, unsigned said)
{
    uint8_t bytes[sizeof(struct vgpu_link_header) + 64];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(32 * sizeof(int))];
    } control;
    memset(&control, 0, sizeof(control));
    struct vgpu_link_header header = {.magic = VGPU_LINK_MAGIC,
                                      .type = type,
                                      .fd_count = (uint16_t)said,
                                      .length = length,
                                      .seq = seq};
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), payload, length);
    struct iovec piece = {bytes, sizeof(header) + length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)piece.iov_len;
}

static int make_memory(enum fault fault)
{
    if (fault == NOT_A_MEMORY_FILE)
        return open("/dev/zero", O_RDWR | O_CLOEXEC);
    int fd = memfd_create("window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, fault == OTHER_SIZE ? WINDOW / 2 : WINDOW) < 0)
        return fd;
    (void)fcntl(fd, F_ADD_SEALS, fault == NOT_SEALED ? F_SEAL_GROW : SEALS);
    return fd;
}

static void send_window(struct peer *peer, int fd, enum fault fault)
{
    struct vgpu_link_window window = {
        .window_bytes = WINDOW, .channel_count = CHANNELS, .channel_bytes = VGPU_CHANNEL_BYTES};
    int fds[40], memory = make_memory(fault);
    switch (fault) {
    case NO_CHANNELS:
        window.channel_count = 0;
        break;
    case TOO_MANY_CHANNELS:
        window.channel_count = VGPU_CHANNELS_MAX + 1;
        break;
    case TOO_SMALL:
        window.window_bytes = CHANNELS * VGPU_CHANNEL_BYTES - 65536;
        break;
    case TOO_LARGE:
        window.window_bytes = VGPU_WINDOW_BYTES_MAX + 65536;
        break;
    case OTHER_CHANNEL_BYTES:
        window.channel_bytes /= 2;
        break;
    case FIRST_NOT_0:
        window.first = 1;
        break;
    default:
        break;
    }
    fds[0] = fds[1] = memory;
    unsigned count = fault == NO_FILE ? 0 : fault == TWO_FILES ? 2 : 1;
    send_with(fd, VGPU_LINK_WINDOW, fault == WITH_SEQ, &window,
              sizeof(window) - (fault == SHORT_PAYLOAD ? 4 : 0), fds, count, count);
    close(memory);
    for (uint32_t first = 0; first < CHANNELS && !(fault == NEVER_SENT && first);) {
        uint32_t n = CHANNELS - first < VGPU_LINK_WINDOW_CHANNELS ? CHANNELS - first
                                                                  : VGPU_LINK_WINDOW_CHANNELS;
        window.first = first;
        window.channels = n;
        for (uint32_t i = 0; i < 2 * n; i++)
            fds[i] = eventfd(0, EFD_CLOEXEC); /* not even non-blocking */
        unsigned sent = 2 * n, said = 2 * n;
        if (first == 0 && peer->doorbell < 0)
            peer->doorbell = dup(fds[0]);
        if (first != 0 && fault == FEWER_FDS_THAN_SAID)
            sent--;
        if (first != 0 && fault == MORE_FDS_THAN_SAID)
            said--;
        if (first != 0 && fault == ODD_FDS)
            sent = --said;
        if (first != 0 && fault == NO_EVENTFD) {
            close(fds[1]);
            fds[1] = dup(peer->listen_fd);
        }
        if (first != 0 && fault == GAP)
            window.first++;
        if (first != 0 && fault == AGAIN)
            window.first = 0;
        if (first != 0 && fault == PAST_THE_LAST)
            window.channels = said = 2 * (n + 1), window.channels = n + 1;
        if (first != 0 && fault == OTHER_WINDOW)
            window.window_bytes *= 2;
        if (first != 0 && fault == EMPTY_BATCH)
            window.channels = said = sent = 0;
        send_with(fd, VGPU_LINK_WINDOW, 0, &window, sizeof(window), fds, sent, said);
        for (uint32_t i = 0; i < 2 * n; i++)
            close(fds[i]);
        first += n;
    }
    struct vgpu_link_channel state = {0};
    if (fault == STATE_OF_NO_CHANNEL)
        state.channel = CHANNELS;
    if (fault == STATE_UNKNOWN)
        state.state = 3;
    if (fault == STATE_OF_NO_CHANNEL || fault == STATE_UNKNOWN || fault == STATE_SHORT)
        send_with(fd, VGPU_LINK_CHANNEL_STATE, 0, &state,
                  sizeof(state) - (fault == STATE_SHORT ? 4 : 0), NULL, 0, 0);
}

static void say_state(int fd, uint32_t channel, uint32_t serial, uint32_t state, uint32_t error)
{
    struct vgpu_link_channel message = {
        .channel = channel, .serial = serial, .state = state, .error = error};
    send_with(fd, VGPU_LINK_CHANNEL_STATE, 0, &message, sizeof(message), NULL, 0, 0);
}

static void take_channel(struct peer *peer, int fd, uint16_t type,
                         const struct vgpu_link_channel *message)
{
    int fault = atomic_load(&peer->fault);
    bool enable = type == VGPU_LINK_CHANNEL_ENABLE;
    peer->serial[message->channel % VGPU_CHANNELS_MAX] = message->serial;
    if (enable && fault == ENABLE_SILENT)
        say_state(fd, message->channel, message->serial - 1, VGPU_CHANNEL_ACTIVE, 0);
    else if (enable && fault == ENABLE_FATAL)
        say_state(fd, message->channel, message->serial, VGPU_CHANNEL_FATAL,
                  VGPU_CHANNEL_NOT_BOUND);
    else
        say_state(fd, message->channel, message->serial,
                  enable ? VGPU_CHANNEL_ACTIVE : VGPU_CHANNEL_FREE, 0);
    if (fault == STALE_SERIAL)
        say_state(fd, message->channel, message->serial - 1, VGPU_CHANNEL_FATAL, 1);
    atomic_fetch_add(enable ? &peer->enables : &peer->resets, 1);
}

static bool receive_exact(int fd, void *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = recv(fd, (char *)bytes + done, length - done, 0);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void serve(struct peer *peer, int fd)
{
    struct vgpu_link_header header;
    uint8_t payload[VGPU_LINK_MAX_PAYLOAD];
    struct vgpu_link_welcome welcome = {
        .features = VGPU_LINK_FEATURES_KNOWN, .pool_id = 'A', .priority = 1};
    enum fault fault = (enum fault)atomic_load(&peer->fault);
    if (!receive_exact(fd, &header, sizeof(header)) ||
        !receive_exact(fd, &peer->hello, sizeof(peer->hello)))
        return;
    if (fault == NOT_OFFERED)
        welcome.features = VGPU_LINK_FEATURE_MAILBOX;
    if (fault == BEFORE_WELCOME)
        send_window(peer, fd, fault);
    send_with(fd, VGPU_LINK_WELCOME, 0, &welcome, sizeof(welcome), NULL, 0, 0);
    if (fault != NOT_OFFERED)
        send_window(peer, fd, fault);
    for (;;) {
        struct pollfd in = {.fd = fd, .events = POLLIN};
        if (atomic_load(&peer->hang_up))
            return;
        int error = atomic_exchange(&peer->break_now, 0);
        if (error)
            say_state(fd, 0, peer->serial[0], VGPU_CHANNEL_FATAL, (uint32_t)error);
        if (poll(&in, 1, 5) == 0)
            continue;
        if (!receive_exact(fd, &header, sizeof(header)) || header.length > VGPU_LINK_MAX_PAYLOAD ||
            !receive_exact(fd, payload, header.length))
            return;
        if (header.type == VGPU_LINK_CHANNEL_ENABLE || header.type == VGPU_LINK_CHANNEL_RESET) {
            struct vgpu_link_channel message;
            memcpy(&message, payload, sizeof(message));
            take_channel(peer, fd, header.type, &message);
        } else if (header.type == VGPU_LINK_REQUEST) {
            struct vgpu_link_response none = {0};
            send_with(fd, VGPU_LINK_RESPONSE, header.seq, &none, sizeof(none), NULL, 0, 0);
        }
    }
}

static void *peer_main(void *opaque)
{
    struct peer *peer = opaque;
    for (;;) {
        struct pollfd fds[2] = {{.fd = peer->listen_fd, .events = POLLIN},
                                {.fd = peer->stop[0], .events = POLLIN}};
        poll(fds, 2, -1);
        if (fds[1].revents)
            return NULL;
        int fd = accept(peer->listen_fd, NULL, NULL);
        if (fd < 0)
            continue;
        atomic_fetch_add(&peer->connections, 1);
        memset(peer->serial, 0, sizeof(peer->serial));
        serve(peer, fd);
        close(fd);
        if (peer->doorbell >= 0)
            close(peer->doorbell);
        peer->doorbell = -1;
    }
}

static int setup(void **state)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    const char *tmp = getenv("TMPDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(peer->directory, sizeof(peer->directory), "%.60s/window-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(peer->directory));
    snprintf(peer->path, sizeof(peer->path), "%s/s", peer->directory);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", peer->path);
    peer->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    peer->doorbell = -1;
    assert_int_equal(bind(peer->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(peer->listen_fd, 4), 0);
    assert_int_equal(pipe(peer->stop), 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
    *state = peer;
    return 0;
}

static int teardown(void **state)
{
    struct peer *peer = *state;
    assert_int_equal(write(peer->stop[1], "", 1), 1);
    pthread_join(peer->thread, NULL);
    close(peer->stop[0]);
    close(peer->stop[1]);
    close(peer->listen_fd);
    unlink(peer->path);
    rmdir(peer->directory);
    free(peer);
    return 0;
}

static struct vgpu *open_device(struct peer *peer)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu *gpu = NULL;
    char device[128];
    snprintf(device, sizeof(device), "local:%s", peer->path);
    options.device = device;
    options.timeout_ms = 20000;
    options.local_window_bytes = WINDOW;
    if (vgpu_init(&options, &gpu) != 0 && atomic_load(&peer->fault) == NONE)
        fail_msg("%s", vgpu_last_error_text());
    return gpu;
}

static int claim(struct vgpu *gpu, struct vgpu_channel_port *port)
{
    return gpu->transport->ops->claim(gpu->transport, port);
}

static int enable(struct vgpu *gpu, struct vgpu_channel_port *port)
{
    return gpu->transport->ops->enable(port, vgpu_deadline_ns(20000));
}

static void release(struct vgpu *gpu, struct vgpu_channel_port *port)
{
    gpu->transport->ops->release(port, false);
}

/* ---- Tests ---- */

static void test_window(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu = open_device(peer);
    struct vgpu_channel_port ports[CHANNELS + 1];
    uint64_t bytes, count;
    uint32_t channels, channel_bytes, value, error, generation;
    assert_true(peer->hello.features & VGPU_LINK_FEATURE_CHANNELS);
    assert_int_equal(peer->hello.window_bytes, WINDOW);
    assert_int_equal(peer->hello.channel_bytes, VGPU_CHANNEL_BYTES);
    for (uint32_t i = 0; i < CHANNELS; i++) {
        assert_int_equal(claim(gpu, &ports[i]), 0);
        assert_int_equal(ports[i].number, i);
        assert_int_equal(ports[i].channel_count, CHANNELS);
        assert_int_equal(ports[i].window_bytes, WINDOW);
        memset(ports[i].window + (size_t)i * VGPU_CHANNEL_BYTES, 1, VGPU_CHANNEL_BYTES);
    }
    assert_int_equal(claim(gpu, &ports[CHANNELS]), -EBUSY);
    assert_int_equal(vgpu_window(gpu, &bytes, &channels, &channel_bytes), 0);
    assert_int_equal(bytes, WINDOW);
    assert_int_equal(channels, CHANNELS);
    assert_int_equal(vgpu_capabilities(gpu, &value), 0);
    assert_true(value & VGPU_CAP_WINDOW);
    assert_int_equal(enable(gpu, &ports[0]), 0);
    assert_int_equal(gpu->transport->ops->state(&ports[0], &value, &error, &generation), 0);
    assert_int_equal(value, VGPU_CHANNEL_ACTIVE);
    /* The doorbell is the peer's eventfd; it never waits, however often. */
    gpu->transport->ops->ring(&ports[0]);
    assert_int_equal(read(peer->doorbell, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1);
    count = UINT64_MAX - 1;
    assert_int_equal(write(peer->doorbell, &count, sizeof(count)), sizeof(count));
    gpu->transport->ops->ring(&ports[0]);
    for (uint32_t i = 0; i < CHANNELS; i++)
        release(gpu, &ports[i]);
    /* Given back, and to be had again when the mediator says that it is free. */
    assert_int_equal(claim(gpu, &ports[0]), 0);
    release(gpu, &ports[0]);
    vgpu_cleanup(gpu);
}

/* L1: each of them ends the link: GENERATION moves, and no descriptor is left. */
static void test_faults(void **state)
{
    struct peer *peer = *state;
    for (int fault = NONE + 1; fault < FAULTS; fault++) {
        atomic_store(&peer->fault, fault);
        unsigned connections = atomic_load(&peer->connections);
        struct vgpu *gpu = open_device(peer);
        struct vgpu_channel_port port;
        uint32_t generation = 0;
        if (gpu) {
            uint64_t deadline_ns = vgpu_deadline_ns(20000);
            while (vgpu_generation(gpu, &generation) == 0 && generation == 0 &&
                   vgpu_now_ns() < deadline_ns)
                usleep(100);
            if (generation == 0)
                fail_msg("fault %d: the link lives", fault);
            assert_true(claim(gpu, &port) < 0);
            vgpu_cleanup(gpu);
        } else if (fault != BEFORE_WELCOME && generation == 0) {
            /* It came in together with WELCOME. */
            assert_non_null(strstr(vgpu_last_error_text(), "the mediator "));
        }
        assert_int_equal(atomic_load(&peer->connections), connections + 1);
    }
}

/* No window, and why; the mailbox goes on. */
static void test_none(void **state)
{
    struct peer *peer = *state;
    static const struct {
        int fault;
        const char *why;
    } cases[] = {{NOT_OFFERED, "gives no windows"}, {NEVER_SENT, "gave none"}};
    for (int i = 0; i < 2; i++) {
        struct vgpu_channel_port port;
        struct vgpu_response response;
        atomic_store(&peer->fault, cases[i].fault);
        struct vgpu *gpu = open_device(peer);
        assert_non_null(gpu);
        assert_int_equal(claim(gpu, &port), -EOPNOTSUPP);
        assert_non_null(strstr(vgpu_last_error_text(), cases[i].why));
        assert_int_equal(vgpu_execute_request(gpu, "12345678", 8, 0, 0, &response), 0);
        assert_int_equal(response.error_code, 0);
        vgpu_cleanup(gpu);
    }
}

static void test_enable_fails(void **state)
{
    struct peer *peer = *state;
    struct vgpu_channel_port port;
    atomic_store(&peer->fault, ENABLE_FATAL);
    struct vgpu *gpu = open_device(peer);
    assert_int_equal(claim(gpu, &port), 0);
    assert_int_equal(enable(gpu, &port), -EIO);
    assert_non_null(strstr(vgpu_last_error_text(), "no session was bound"));
    release(gpu, &port);
    /* A state with an older serial is no answer. */
    atomic_store(&peer->fault, ENABLE_SILENT);
    assert_int_equal(claim(gpu, &port), 0);
    assert_int_equal(gpu->transport->ops->enable(&port, vgpu_deadline_ns(50)), -ETIMEDOUT);
    release(gpu, &port);
    atomic_store(&peer->fault, STALE_SERIAL);
    assert_int_equal(claim(gpu, &port), 0);
    assert_int_equal(enable(gpu, &port), 0);
    uint32_t value, error, generation;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(gpu->transport->ops->state(&port, &value, &error, &generation), 0);
        assert_int_equal(value, VGPU_CHANNEL_ACTIVE);
        usleep(1000);
    }
    release(gpu, &port);
    vgpu_cleanup(gpu);
}

static void wait_state(struct vgpu *gpu, struct vgpu_channel_port *port, uint32_t want,
                       uint32_t *error, uint32_t *generation)
{
    uint64_t deadline_ns = vgpu_deadline_ns(20000);
    uint32_t value;
    do {
        assert_int_equal(gpu->transport->ops->state(port, &value, error, generation), 0);
        usleep(200);
    } while (value != want && vgpu_now_ns() < deadline_ns);
    assert_int_equal(value, want);
}

/* Who only asks for the state learns of CHANNEL_STATE and of the link's end; ports of a window that
 * is gone stay usable memory, and belong to nothing. */
static void test_states(void **state)
{
    struct peer *peer = *state;
    struct vgpu_channel_port port, other;
    struct vgpu_response response;
    uint32_t error, generation;
    struct vgpu *gpu = open_device(peer);
    assert_int_equal(claim(gpu, &port), 0);
    assert_int_equal(enable(gpu, &port), 0);
    atomic_store(&peer->break_now, VGPU_CHANNEL_BAD_TAIL);
    wait_state(gpu, &port, VGPU_CHANNEL_FATAL, &error, &generation);
    assert_int_equal(error, VGPU_CHANNEL_BAD_TAIL);
    assert_int_equal(generation, 0);
    atomic_store(&peer->hang_up, true);
    wait_state(gpu, &port, VGPU_CHANNEL_FREE, &error, &generation);
    assert_int_equal(generation, 1);
    atomic_store(&peer->hang_up, false);
    assert_int_equal(vgpu_execute_request(gpu, "12345678", 8, 0, 0, &response), 0); /* reconnects */
    assert_int_equal(claim(gpu, &other), 0);
    assert_int_equal(other.number, 0);
    assert_ptr_not_equal(other.window, port.window);
    assert_int_equal(enable(gpu, &other), 0);
    memset(port.window, 5, VGPU_CHANNEL_BYTES);
    gpu->transport->ops->ring(&port);
    unsigned resets = atomic_load(&peer->resets);
    release(gpu, &port); /* nobody is told: the number is another's now */
    assert_int_equal(gpu->transport->ops->state(&other, &error, &error, &generation), 0);
    assert_int_equal(vgpu_execute_request(gpu, "12345678", 8, 0, 0, &response), 0);
    assert_int_equal(atomic_load(&peer->resets), resets);
    release(gpu, &other);
    vgpu_cleanup(gpu);
}

struct asker {
    pthread_t thread;
    struct vgpu *gpu;
    struct vgpu_channel_port *port;
    _Atomic bool stop;
    unsigned failures;
};

static void *ask_states(void *opaque)
{
    struct asker *asker = opaque;
    while (!atomic_load(&asker->stop)) {
        uint32_t value, error, generation;
        asker->gpu->transport->ops->state(asker->port, &value, &error, &generation);
        asker->failures += generation != 0;
    }
    return NULL;
}

static void *claim_and_release(void *opaque)
{
    struct asker *asker = opaque;
    while (!atomic_load(&asker->stop)) {
        struct vgpu_channel_port port;
        if (claim(asker->gpu, &port) != 0 || enable(asker->gpu, &port) != 0)
            asker->failures++;
        else
            release(asker->gpu, &port);
    }
    return NULL;
}

/* Requests, states and channels at once over one link: nobody takes another's answer. */
static void test_threads(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu = open_device(peer);
    struct vgpu_channel_port port;
    struct asker askers[4];
    assert_int_equal(claim(gpu, &port), 0);
    assert_int_equal(enable(gpu, &port), 0);
    for (int i = 0; i < 4; i++) {
        askers[i] = (struct asker){.gpu = gpu, .port = &port};
        assert_int_equal(pthread_create(&askers[i].thread, NULL,
                                        i % 2 ? ask_states : claim_and_release, &askers[i]),
                         0);
    }
    for (int i = 0; i < 2000; i++) {
        struct vgpu_response response;
        assert_int_equal(vgpu_execute_request(gpu, "12345678", 8, 0, 0, &response), 0);
        assert_int_equal(response.error_code, 0);
        assert_int_equal(response.generation, 0);
    }
    for (int i = 0; i < 4; i++) {
        atomic_store(&askers[i].stop, true);
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].failures, 0);
    }
    release(gpu, &port);
    vgpu_cleanup(gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_window, setup, teardown), VGPU_TEST_F(test_faults, setup, teardown),
        VGPU_TEST_F(test_none, setup, teardown),   VGPU_TEST_F(test_enable_fails, setup, teardown),
        VGPU_TEST_F(test_states, setup, teardown), VGPU_TEST_F(test_threads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
