/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The socket transport against a scripted mediator: docs/link.md from the client's side, and what
 * happens when the mediator breaks it. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "guest/vgpu_mmio_client.h"
#include "vgpu/link.h"
#include "vgpu_test.h"

struct peer;
/* What the mediator does with one connection, after HELLO and WELCOME. */
typedef void (*script)(struct peer *peer, int fd);

struct peer {
    pthread_t thread;
    int listen_fd, stop[2];
    int deaf[2]; /* of one that does not read until a byte comes here */
    char directory[96], path[108];
    script script;
    bool welcome; /* answer HELLO */
    struct vgpu_link_hello hello;
    atomic_int step;      /* of tests that go through a table */
    unsigned connections; /* so far */
    bool cancelled;       /* a CANCEL came for the request */
    pthread_mutex_t lock;
};

/* ---- The mediator's side ---- */

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

/* One whole message; payload has VGPU_LINK_MAX_PAYLOAD. */
static bool receive_message(int fd, struct vgpu_link_header *header, uint8_t *payload)
{
    return receive_exact(fd, header, sizeof(*header)) && header->length <= VGPU_LINK_MAX_PAYLOAD &&
           receive_exact(fd, payload, header->length);
}

static void send_raw(int fd, const struct vgpu_link_header *header, const void *payload,
                     size_t length)
{
    uint8_t bytes[sizeof(*header) + 4096];
    memcpy(bytes, header, sizeof(*header));
    if (length)
        memcpy(bytes + sizeof(*header), payload, length);
    send(fd, bytes, sizeof(*header) + length, MSG_NOSIGNAL);
}

static void send_message(int fd, uint16_t type, uint64_t seq, const void *payload, uint32_t length)
{
    struct vgpu_link_header header = {
        .magic = VGPU_LINK_MAGIC, .type = type, .length = length, .seq = seq};
    send_raw(fd, &header, payload, length);
}

static const struct vgpu_link_welcome good_welcome = {
    .features = 1, .vm_id = 12, .pool_id = 'D', .priority = VGPU_PRIORITY_LOW};

/* An answer of error 0 whose bytes are the request's. */
static uint32_t build_echo(uint8_t *payload, const uint8_t *request, uint32_t length)
{
    struct vgpu_link_response head = {.response_length = length};
    memcpy(payload, &head, sizeof(head));
    memcpy(payload + sizeof(head), request, length);
    return (uint32_t)sizeof(head) + length;
}

static void script_echo(struct peer *peer, int fd)
{
    struct vgpu_link_header header;
    uint8_t in[VGPU_LINK_MAX_PAYLOAD], out[VGPU_LINK_MAX_PAYLOAD];
    (void)peer;
    while (receive_message(fd, &header, in))
        if (header.type == VGPU_LINK_REQUEST)
            send_message(fd, VGPU_LINK_RESPONSE, header.seq, out,
                         build_echo(out, in + 8, header.length - 8));
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
        struct vgpu_link_header header;
        uint8_t payload[VGPU_LINK_MAX_PAYLOAD];
        if (fd < 0)
            continue;
        pthread_mutex_lock(&peer->lock);
        peer->connections++;
        pthread_mutex_unlock(&peer->lock);
        if (receive_message(fd, &header, payload) && header.type == VGPU_LINK_HELLO &&
            header.length == sizeof(peer->hello)) {
            memcpy(&peer->hello, payload, sizeof(peer->hello));
            if (peer->welcome)
                send_message(fd, VGPU_LINK_WELCOME, 0, &good_welcome, sizeof(good_welcome));
            peer->script(peer, fd);
        }
        close(fd);
    }
}

static int setup(void **state)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    const char *tmp = getenv("TMPDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(peer->directory, sizeof(peer->directory), "%.60s/local-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(peer->directory));
    snprintf(peer->path, sizeof(peer->path), "%s/s", peer->directory);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", peer->path);
    peer->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(peer->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(peer->listen_fd, 4), 0);
    assert_int_equal(pipe(peer->stop), 0);
    assert_int_equal(pipe(peer->deaf), 0);
    pthread_mutex_init(&peer->lock, NULL);
    peer->welcome = true;
    peer->script = script_echo;
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
    close(peer->deaf[0]);
    close(peer->deaf[1]);
    close(peer->listen_fd);
    unlink(peer->path);
    rmdir(peer->directory);
    pthread_mutex_destroy(&peer->lock);
    free(peer);
    return 0;
}

static void start(struct peer *peer, script what)
{
    peer->script = what;
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

static int open_device(struct peer *peer, struct vgpu **gpu)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    char device[128];
    snprintf(device, sizeof(device), "local:%s", peer->path);
    options.device = device;
    options.timeout_ms = 20000;
    options.local_vm_id = 3;
    options.local_pool_id = 'Q';
    options.local_priority = VGPU_PRIORITY_HIGH;
    return vgpu_init(&options, gpu);
}

/* ---- Tests ---- */

static void test_attach(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    uint32_t value;
    start(peer, script_echo);
    assert_int_equal(open_device(peer, &gpu), 0);
    assert_int_equal(peer->hello.protocol, VGPU_PROTOCOL_VERSION);
    assert_true(peer->hello.features & VGPU_LINK_FEATURE_MAILBOX);
    assert_int_equal(peer->hello.vm_id, 3);
    assert_int_equal(peer->hello.pool_id, 'Q');
    assert_int_equal(peer->hello.priority, VGPU_PRIORITY_HIGH);
    assert_int_equal(vgpu_pool(gpu, &value), 0);
    assert_int_equal(value, 'D');
    vgpu_priority(gpu, &value);
    assert_int_equal(value, VGPU_PRIORITY_LOW);
    vgpu_vm_id(gpu, &value);
    assert_int_equal(value, 12);
    vgpu_link_state(gpu, &value);
    assert_int_equal(value, VGPU_LINK_ATTACHED);
    vgpu_cleanup(gpu);
}

static void test_echo(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    struct vgpu_response response;
    uint8_t request[VGPU_MAILBOX_BYTES];
    start(peer, script_echo);
    assert_int_equal(open_device(peer, &gpu), 0);
    for (uint32_t length = 1; length <= VGPU_MAILBOX_BYTES; length = length * 2 + length % 3) {
        memset(request, (int)length, length);
        assert_int_equal(vgpu_execute_request(gpu, request, length, 0, 0, &response), 0);
        assert_int_equal(response.length, length);
        assert_memory_equal(response.bytes, request, length);
        assert_int_equal(response.generation, 0);
    }
    vgpu_cleanup(gpu);
}

static void script_refuse(struct peer *peer, int fd)
{
    struct {
        struct vgpu_link_refuse head;
        char text[24];
    } refusal = {{VGPU_REFUSE_INVALID_POOL, 24}, {0}};
    (void)peer;
    memcpy(refusal.text, "pool 'Q' has\nno GPU\x1b[31m", 24);
    send_message(fd, VGPU_LINK_REFUSE, 0, &refusal, sizeof(refusal));
}

/* L5, L6: the reason reaches a person, harmless for a terminal. */
static void test_refused(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    peer->welcome = false;
    start(peer, script_refuse);
    assert_int_equal(open_device(peer, &gpu), -EPERM);
    assert_non_null(strstr(vgpu_last_error_text(), "pool 'Q' has?no GPU?[31m"));
}

/* A table of first answers to HELLO that break the rules. */
static void script_bad_welcome(struct peer *peer, int fd)
{
    struct vgpu_link_welcome welcome = good_welcome;
    struct vgpu_link_header header = {
        .magic = VGPU_LINK_MAGIC, .type = VGPU_LINK_WELCOME, .length = sizeof(welcome)};
    uint8_t payload[4096] = {0};
    switch (atomic_load(&peer->step)) {
    case 0:
        header.magic++;
        break;
    case 1:
        header.type = 77;
        break;
    case 2:
        header.fd_count = 1;
        break;
    case 3:
        header.reserved = 1;
        break;
    case 4:
        header.seq = 1;
        break;
    case 5:
        header.length = VGPU_LINK_MAX_PAYLOAD + 1;
        break;
    case 6:
        header.length = sizeof(welcome) - 1;
        break;
    case 7:
        welcome.features = 2;
        break;
    case 8:
        welcome.pool_id = '[';
        break;
    case 9:
        welcome.priority = 3;
        break;
    case 10:
        welcome.reserved = 1;
        break;
    case 11:
        header.type = VGPU_LINK_UPDATE; /* before WELCOME */
        break;
    case 12:
        header.type = VGPU_LINK_HELLO; /* from the wrong side */
        break;
    case 13: { /* a refusal that lies about its text */
        struct vgpu_link_refuse refuse = {1, 17};
        header.type = VGPU_LINK_REFUSE;
        memcpy(&welcome, &refuse, sizeof(refuse));
        break;
    }
    case 14: { /* or is too short for one */
        header.type = VGPU_LINK_REFUSE;
        header.length = 4;
        break;
    }
    case 15: /* or is about a request */
        header.type = VGPU_LINK_REFUSE;
        header.seq = 1;
        break;
    }
    memcpy(payload, &welcome, sizeof(welcome));
    send_raw(fd, &header, payload, header.length);
}

static void test_bad_welcome(void **state)
{
    struct peer *peer = *state;
    peer->welcome = false;
    start(peer, script_bad_welcome);
    for (peer->step = 0; peer->step < 16; peer->step++) {
        struct vgpu *gpu;
        assert_int_equal(vgpu_init(NULL, NULL), -EINVAL); /* another text */
        int err = open_device(peer, &gpu);
        if (err != -EBADMSG || !strstr(vgpu_last_error_text(), "the mediator "))
            fail_msg("step %d: %d (%s)", peer->step, err, vgpu_last_error_text());
    }
}

/* A table of answers to the first request that break the rules; later requests are echoed. */
static void script_bad_response(struct peer *peer, int fd)
{
    struct vgpu_link_header in_header, header = {.magic = VGPU_LINK_MAGIC};
    uint8_t in[VGPU_LINK_MAX_PAYLOAD], out[4096] = {0};
    if (peer->step < 0) {
        script_echo(peer, fd);
        return;
    }
    if (!receive_message(fd, &in_header, in))
        return;
    header.type = VGPU_LINK_RESPONSE;
    header.seq = in_header.seq;
    header.length = build_echo(out, in + 8, in_header.length - 8);
    struct vgpu_link_response head = {0};
    memcpy(&head, out, sizeof(head));
    switch (atomic_load(&peer->step)) {
    case 0:
        head.response_length++;
        break;
    case 1:
        head.response_length = 1025;
        header.length = 1025 + 8;
        break;
    case 2:
        head.response_length = UINT32_MAX;
        break;
    case 3:
        header.length = 7;
        break;
    case 4:
        header.magic = 0;
        break;
    case 5:
        header.type = VGPU_LINK_WELCOME; /* a second one */
        header.seq = 0;
        header.length = sizeof(good_welcome);
        memcpy(out, &good_welcome, sizeof(good_welcome));
        memcpy(&head, &good_welcome, sizeof(head));
        break;
    case 6:
        header.type = VGPU_LINK_REFUSE; /* too late */
        header.seq = 0;
        break;
    case 7:
        header.type = VGPU_LINK_REQUEST;
        break;
    case 8: /* closes without a word */
        return;
    case 9: { /* descriptors that do not belong */
        uint8_t byte = 0x56;
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control = {{0}};
        struct iovec piece = {&byte, 1};
        struct msghdr message = {.msg_iov = &piece,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control.bytes)};
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
        sendmsg(fd, &message, MSG_NOSIGNAL);
        receive_message(fd, &in_header, in); /* until the client closes */
        return;
    }
    }
    memcpy(out, &head, sizeof(head));
    send_raw(fd, &header, out, header.length);
    receive_message(fd, &in_header, in);
}

/* L1, R14: a violation ends the link: GENERATION moves, the request fails with error 3; and the
 * next request finds a new link. */
static void test_bad_response(void **state)
{
    struct peer *peer = *state;
    start(peer, script_bad_response);
    for (int step = 0; step < 10; step++) {
        struct vgpu *gpu;
        struct vgpu_response response;
        uint32_t value;
        peer->step = step;
        assert_int_equal(open_device(peer, &gpu), 0);
        assert_int_equal(vgpu_execute_request(gpu, "abcdefgh", 8, 0, 0, &response), 0);
        if (response.error_code != VGPU_ERR_MEDIATOR_UNAVAILABLE || response.generation != 1)
            fail_msg("step %d: error %u, generation %u", step, response.error_code,
                     response.generation);
        assert_int_equal(response.length, 0);
        assert_int_equal(vgpu_link_state(gpu, &value), 0);
        assert_int_equal(value, 0);
        assert_int_equal(vgpu_pool(gpu, &value), 0);
        assert_int_equal(value, 'Q'); /* R16: the wish again */
        peer->step = -1;
        assert_int_equal(vgpu_execute_request(gpu, "abcdefgh", 8, 0, 0, &response), 0);
        assert_int_equal(response.error_code, 0);
        assert_int_equal(response.generation, 1);
        assert_memory_equal(response.bytes, "abcdefgh", 8);
        assert_int_equal(vgpu_link_state(gpu, &value), 0);
        assert_int_equal(value, VGPU_LINK_ATTACHED);
        vgpu_cleanup(gpu);
    }
}

/* L11: answers to other requests are dropped; and messages may come in any pieces. */
static void script_late_and_slow(struct peer *peer, int fd)
{
    struct vgpu_link_header header, late = {.magic = VGPU_LINK_MAGIC, .type = VGPU_LINK_RESPONSE};
    uint8_t in[VGPU_LINK_MAX_PAYLOAD], out[VGPU_LINK_MAX_PAYLOAD + 64];
    (void)peer;
    while (receive_message(fd, &header, in)) {
        uint32_t length = build_echo(out + sizeof(late), (const uint8_t *)"late", 4);
        late.length = length;
        late.seq = header.seq + 100;
        memcpy(out, &late, sizeof(late));
        send(fd, out, sizeof(late) + length, MSG_NOSIGNAL);
        late.seq = 0;
        memcpy(out, &late, sizeof(late));
        send(fd, out, sizeof(late) + length, MSG_NOSIGNAL);
        length = build_echo(out + sizeof(late), in + 8, header.length - 8);
        late.length = length;
        late.seq = header.seq;
        memcpy(out, &late, sizeof(late));
        for (size_t i = 0; i < sizeof(late) + length; i++)
            send(fd, out + i, 1, MSG_NOSIGNAL);
    }
}

static void test_late_and_slow(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    struct vgpu_response response;
    start(peer, script_late_and_slow);
    assert_int_equal(open_device(peer, &gpu), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(vgpu_execute_request(gpu, "right", 5, 0, 0, &response), 0);
        assert_int_equal(response.error_code, 0);
        assert_int_equal(response.length, 5);
        assert_memory_equal(response.bytes, "right", 5);
    }
    vgpu_cleanup(gpu);
}

/* L9, L10: a request that is given up is cancelled before the next one is sent. */
static void script_silent_once(struct peer *peer, int fd)
{
    struct vgpu_link_header first, header;
    uint8_t in[VGPU_LINK_MAX_PAYLOAD];
    if (!receive_message(fd, &first, in) || !receive_message(fd, &header, in))
        return;
    pthread_mutex_lock(&peer->lock);
    peer->cancelled =
        header.type == VGPU_LINK_CANCEL && header.seq == first.seq && header.length == 0;
    pthread_mutex_unlock(&peer->lock);
    script_echo(peer, fd);
}

static void test_cancel(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    struct vgpu_response response;
    start(peer, script_silent_once);
    assert_int_equal(open_device(peer, &gpu), 0);
    assert_int_equal(vgpu_execute_request(gpu, "x", 1, 0, 50, &response), -ETIMEDOUT);
    assert_int_equal(vgpu_execute_request(gpu, "yy", 2, 0, 0, &response), 0);
    assert_memory_equal(response.bytes, "yy", 2);
    pthread_mutex_lock(&peer->lock);
    assert_true(peer->cancelled);
    assert_int_equal(peer->connections, 1);
    pthread_mutex_unlock(&peer->lock);
    vgpu_cleanup(gpu);
}

/* L7: UPDATE changes what the registers show. */
static void script_update(struct peer *peer, int fd)
{
    struct vgpu_link_header header;
    uint8_t in[VGPU_LINK_MAX_PAYLOAD], out[VGPU_LINK_MAX_PAYLOAD];
    struct vgpu_link_welcome update = good_welcome;
    update.priority = VGPU_PRIORITY_HIGH;
    (void)peer;
    if (!receive_message(fd, &header, in))
        return;
    send_message(fd, VGPU_LINK_UPDATE, 0, &update, sizeof(update));
    send_message(fd, VGPU_LINK_RESPONSE, header.seq, out,
                 build_echo(out, in + 8, header.length - 8));
    receive_message(fd, &header, in);
}

static void test_update(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    struct vgpu_response response;
    uint32_t value;
    start(peer, script_update);
    assert_int_equal(open_device(peer, &gpu), 0);
    assert_int_equal(vgpu_execute_request(gpu, "x", 1, 0, 0, &response), 0);
    assert_int_equal(response.error_code, 0);
    assert_int_equal(vgpu_priority(gpu, &value), 0);
    assert_int_equal(value, VGPU_PRIORITY_HIGH);
    vgpu_cleanup(gpu);
}

/* Reads of registers go on while a request is waited for, and never take its answer away from the
 * thread that sleeps until it comes. (It would sleep on until its time-out, a minute.) */
struct reader {
    struct vgpu *gpu;
    atomic_bool stop;
};

static void *read_registers(void *opaque)
{
    struct reader *reader = opaque;
    uint32_t value;
    while (!atomic_load(&reader->stop))
        vgpu_link_state(reader->gpu, &value);
    return NULL;
}

static void test_readers_take_no_answer(void **state)
{
    struct peer *peer = *state;
    struct reader reader = {0};
    struct vgpu_response response;
    pthread_t threads[2];
    start(peer, script_echo);
    assert_int_equal(open_device(peer, &reader.gpu), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_registers, &reader), 0);
    uint64_t start_ns = vgpu_now_ns();
    for (int i = 0; i < 4000 && vgpu_now_ns() - start_ns < 50000000000u; i++)
        assert_int_equal(vgpu_execute_request(reader.gpu, "abcd", 4, 0, 60000, &response), 0);
    uint64_t took_ns = vgpu_now_ns() - start_ns;
    atomic_store(&reader.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    vgpu_cleanup(reader.gpu);
    assert_true(took_ns < 50000000000u);
}

/* A mediator that accepts nobody: the queue of connections is full, and the call ends in time. */
static void test_nobody_accepts(void **state)
{
    struct peer *peer = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu *gpu;
    char device[128], path[108];
    int fds[16], count = 0;
    start(peer, script_echo);
    snprintf(path, sizeof(path), "%s/full", peer->directory);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int deaf = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(deaf, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(deaf, 0), 0);
    for (bool full = false; !full && count < 16; count++) {
        fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        full = connect(fds[count], (struct sockaddr *)&address, sizeof(address)) < 0;
    }
    snprintf(device, sizeof(device), "local:%s", path);
    options.device = device;
    options.timeout_ms = 50;
    alarm(200); /* it would never end */
    assert_int_equal(vgpu_init(&options, &gpu), -ETIMEDOUT);
    alarm(0);
    assert_non_null(strstr(vgpu_last_error_text(), "takes no connection"));
    while (count > 0)
        close(fds[--count]);
    close(deaf);
    unlink(path);
}

/* A mediator that stopped reading: once the socket is full, sending too ends in the caller's time.
 */
static void script_deaf(struct peer *peer, int fd)
{
    char byte;
    (void)fd;
    while (read(peer->deaf[0], &byte, 1) < 0 && errno == EINTR)
        ;
}

static void test_deaf_mediator(void **state)
{
    struct peer *peer = *state;
    struct vgpu *gpu;
    struct vgpu_response response;
    uint8_t request[VGPU_MAILBOX_BYTES] = {0};
    uint64_t worst_ns = 0;
    bool full = false;
    start(peer, script_deaf);
    assert_int_equal(open_device(peer, &gpu), 0);
    for (int i = 0; i < 2000 && !full; i++) {
        uint64_t start_ns = vgpu_now_ns();
        int err = vgpu_execute_request(gpu, request, sizeof(request), 0, 2, &response);
        uint64_t took_ns = vgpu_now_ns() - start_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
        full = err == 0 || strstr(vgpu_last_error_text(), "takes nothing");
    }
    assert_int_equal(write(peer->deaf[1], "", 1), 1);
    vgpu_cleanup(gpu);
    assert_true(full);
    assert_true(worst_ns < 8000000000u); /* not the ten seconds that attaching may take */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_attach, setup, teardown),
        VGPU_TEST_F(test_echo, setup, teardown),
        VGPU_TEST_F(test_refused, setup, teardown),
        VGPU_TEST_F(test_bad_welcome, setup, teardown),
        VGPU_TEST_F(test_bad_response, setup, teardown),
        VGPU_TEST_F(test_late_and_slow, setup, teardown),
        VGPU_TEST_F(test_cancel, setup, teardown),
        VGPU_TEST_F(test_update, setup, teardown),
        VGPU_TEST_F(test_readers_take_no_answer, setup, teardown),
        VGPU_TEST_F(test_nobody_accepts, setup, teardown),
        VGPU_TEST_F(test_deaf_mediator, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
