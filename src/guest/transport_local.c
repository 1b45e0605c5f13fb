/* SPDX-License-Identifier: MIT */
/*
 * A mediator's own socket on this host, spoken to as a device would (docs/link.md): for benchmarks,
 * sanitizers and development, where there is no VM. Owns the link's framing and states as a client
 * sees them; knows nothing of what a request says.
 *
 * The registers are what the welcome said; losing the connection moves GENERATION and fails the
 * request in flight with error 3, as the device does (R14). Each send tries to connect anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "guest/guest.h"
#include "guest/transport.h"
#include "vgpu/link.h"

#define ATTACH_TIMEOUT_MS 10000u
#define CANCEL_TIMEOUT_MS 250u /* a link that takes no CANCEL for that long is given up */

struct local {
    struct vgpu_transport base;
    struct sockaddr_un peer;
    struct vgpu_link_hello hello;

    pthread_mutex_t lock; /* guards what follows: registers may be read by any thread */
    int fd;               /* -1: not connected */
    bool attached;
    bool waiting; /* a thread sleeps on fd, without the lock: nobody else may read from it, which
                     could take what it is waiting for, nor close it */
    uint32_t generation;
    struct vgpu_link_welcome shown; /* what the registers show while attached */
    uint64_t last_seq;
    uint64_t outstanding; /* seq of the request in flight, 0: none, or it has completed */
    uint32_t status;      /* STATUS of that request */
    struct vgpu_response response;
    /* What has come in and is not a whole message yet. */
    uint8_t input[sizeof(struct vgpu_link_header) + VGPU_LINK_MAX_PAYLOAD];
    size_t input_length;
};

static struct local *to_local(struct vgpu_transport *transport)
{
    return (struct local *)transport;
}

static void complete(struct local *local, uint32_t error_code)
{
    local->outstanding = 0;
    local->status = error_code ? VGPU_STATUS_ERROR : VGPU_STATUS_DONE;
    local->response.status = local->status;
    local->response.error_code = error_code;
}

/* In the order of R14: what a waiter learns with the failed request is already true. */
static void lose_link(struct local *local)
{
    if (local->fd >= 0)
        close(local->fd);
    local->fd = -1;
    local->input_length = 0;
    if (local->attached)
        local->generation++;
    local->attached = false;
    if (local->outstanding) {
        local->response.length = 0;
        complete(local, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    }
}

/* ---- Messages in ---- */

static bool take_welcome(struct local *local, const uint8_t *payload)
{
    struct vgpu_link_welcome welcome;
    memcpy(&welcome, payload, sizeof(welcome));
    if (!(welcome.features & VGPU_LINK_FEATURE_MAILBOX) || welcome.reserved ||
        welcome.pool_id < 'A' || welcome.pool_id > 'Z' || welcome.priority >= VGPU_PRIORITY_COUNT)
        return false;
    local->shown = welcome;
    local->attached = true;
    return true;
}

static bool take_response(struct local *local, uint64_t seq, const uint8_t *payload,
                          uint32_t length)
{
    struct vgpu_link_response response;
    if (length < sizeof(response))
        return false;
    memcpy(&response, payload, sizeof(response));
    if (response.response_length > VGPU_MAILBOX_BYTES ||
        response.response_length != length - sizeof(response))
        return false;
    if (seq == 0 || seq != local->outstanding)
        return true; /* crossed with our CANCEL (L11) */
    local->response.length = response.response_length;
    memcpy(local->response.bytes, payload + sizeof(response), response.response_length);
    complete(local, response.error_code);
    return true;
}

/* The mediator's reason, as the error text. */
static int fail_refused(const uint8_t *payload, uint32_t length)
{
    struct vgpu_link_refuse refuse;
    char text[VGPU_LINK_REFUSE_TEXT_MAX + 1];
    if (length < sizeof(refuse))
        return vgpu_fail(-EBADMSG, "the mediator sent a refusal that is too short");
    memcpy(&refuse, payload, sizeof(refuse));
    if (refuse.text_length > VGPU_LINK_REFUSE_TEXT_MAX ||
        refuse.text_length != length - sizeof(refuse))
        return vgpu_fail(-EBADMSG, "the mediator sent a refusal of a wrong length");
    for (uint32_t i = 0; i < refuse.text_length; i++) {
        uint8_t c = payload[sizeof(refuse) + i];
        text[i] = (char)(c >= 0x20 && c != 0x7F ? c : '?');
    }
    text[refuse.text_length] = 0;
    return vgpu_fail(-EPERM, "the mediator refused us (reason %" PRIu32 "): %s", refuse.reason,
                     text);
}

/* One whole message. 0, or a negative errno after which the link is to be lost. */
static int take_message(struct local *local, const struct vgpu_link_header *header,
                        const uint8_t *payload)
{
    bool about_request = header->type == VGPU_LINK_RESPONSE;
    bool good = about_request || header->seq == 0;
    switch (header->type) {
    case VGPU_LINK_WELCOME:
        good = good && !local->attached && header->length == sizeof(struct vgpu_link_welcome) &&
               take_welcome(local, payload);
        break;
    case VGPU_LINK_UPDATE:
        good = good && local->attached && header->length == sizeof(struct vgpu_link_welcome) &&
               take_welcome(local, payload);
        break;
    case VGPU_LINK_REFUSE:
        if (good && !local->attached)
            return fail_refused(payload, header->length);
        good = false;
        break;
    case VGPU_LINK_RESPONSE:
        good = local->attached && take_response(local, header->seq, payload, header->length);
        break;
    default:
        good = false;
    }
    return good ? 0
                : vgpu_fail(-EBADMSG,
                            "the mediator broke the link's rules with a message of type %u",
                            header->type);
}

/* Takes whole messages out of what came in. */
static int take_messages(struct local *local)
{
    size_t at = 0;
    int err = 0;
    while (err == 0 && local->input_length - at >= sizeof(struct vgpu_link_header)) {
        struct vgpu_link_header header;
        memcpy(&header, local->input + at, sizeof(header));
        if (header.magic != VGPU_LINK_MAGIC || header.fd_count || header.reserved ||
            header.length > VGPU_LINK_MAX_PAYLOAD)
            return vgpu_fail(-EBADMSG, "the mediator broke the link's framing");
        if (local->input_length - at - sizeof(header) < header.length)
            break;
        err = take_message(local, &header, local->input + at + sizeof(header));
        at += sizeof(header) + header.length;
    }
    local->input_length -= at;
    memmove(local->input, local->input + at, local->input_length);
    return err;
}

/* Reads what is there, without waiting. Any error means that the link is to be lost. */
static int receive(struct local *local)
{
    for (;;) {
        struct iovec piece = {local->input + local->input_length,
                              sizeof(local->input) - local->input_length};
        /* No room for descriptors: the kernel closes those that come, and says so. */
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
        ssize_t n = recvmsg(local->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n < 0)
            return vgpu_fail(-errno, "the link to the mediator failed: %s", strerror(errno));
        if (n == 0)
            return vgpu_fail(-ENOLINK, "the mediator closed the link");
        if (message.msg_flags & MSG_CTRUNC)
            return vgpu_fail(-EBADMSG, "the mediator sent descriptors where none belong");
        local->input_length += (size_t)n;
        int err = take_messages(local);
        if (err < 0)
            return err;
    }
}

/* Sleeps until the socket is ready, without the lock, so that other threads may read registers.
 * False: the deadline has passed. */
static bool wait_ready(struct local *local, short events, uint64_t deadline_ns)
{
    uint32_t remaining_ms = vgpu_remaining_ms(deadline_ns);
    struct pollfd ready = {.fd = local->fd, .events = events};
    local->waiting = true;
    pthread_mutex_unlock(&local->lock);
    int n = poll(&ready, 1, remaining_ms > INT32_MAX ? INT32_MAX : (int)remaining_ms);
    pthread_mutex_lock(&local->lock);
    local->waiting = false;
    return n != 0 || remaining_ms != 0;
}

/* ---- Messages out ---- */

/*
 * All of it. -ETIMEDOUT: the peer took none of it, and the link is as good as before. Any other
 * error, also a peer that takes one half, means that the link is to be lost. A message fits into
 * the socket's buffer in all but strange cases, so this hardly ever waits.
 */
static int send_message(struct local *local, uint16_t type, uint64_t seq, const void *head,
                        size_t head_length, const void *body, size_t body_length,
                        uint64_t deadline_ns)
{
    uint8_t bytes[sizeof(struct vgpu_link_header) + VGPU_LINK_MAX_PAYLOAD];
    struct vgpu_link_header header = {
        .magic = VGPU_LINK_MAGIC,
        .type = type,
        .length = (uint32_t)(head_length + body_length),
        .seq = seq,
    };
    size_t length = sizeof(header);
    memcpy(bytes, &header, sizeof(header));
    if (head_length)
        memcpy(bytes + length, head, head_length);
    length += head_length;
    if (body_length)
        memcpy(bytes + length, body, body_length);
    length += body_length;
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(local->fd, bytes + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return vgpu_fail(-errno, "the link to the mediator failed: %s", strerror(errno));
        if (!wait_ready(local, POLLOUT, deadline_ns))
            return vgpu_fail(sent ? -ENOLINK : -ETIMEDOUT,
                             "the mediator takes nothing from the link: is it stopped?");
    }
    return 0;
}

/* ---- States ---- */

/* Waits until something comes in, and takes it. Only the thread that owns the request gets here. */
static int wait_input(struct local *local, uint64_t deadline_ns)
{
    if (!wait_ready(local, POLLIN, deadline_ns))
        return -ETIMEDOUT;
    int err = receive(local);
    if (err < 0)
        lose_link(local);
    return err;
}

/* A Unix socket cannot be waited for until its queue of connections has room: asks again and again,
 * without the lock in between. */
static int connect_peer(struct local *local, uint64_t deadline_ns)
{
    struct vgpu_backoff backoff = {.start_ns = 1};
    for (;;) {
        if (connect(local->fd, (struct sockaddr *)&local->peer, sizeof(local->peer)) == 0)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return vgpu_fail(-errno, "no mediator at %s: %s", local->peer.sun_path,
                             strerror(errno));
        pthread_mutex_unlock(&local->lock);
        bool again = vgpu_backoff_wait(&backoff, deadline_ns);
        pthread_mutex_lock(&local->lock);
        if (!again)
            return vgpu_fail(-ETIMEDOUT, "the mediator at %s takes no connection: is it stopped?",
                             local->peer.sun_path);
    }
}

/* Connects and attaches. The lock is held. */
static int attach(struct local *local, uint64_t deadline_ns)
{
    uint64_t limit_ns = vgpu_deadline_ns(ATTACH_TIMEOUT_MS);
    if (deadline_ns < limit_ns)
        limit_ns = deadline_ns;
    local->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (local->fd < 0)
        return vgpu_fail(-errno, "no socket can be made: %s", strerror(errno));
    local->hello.generation = local->generation;
    int err = connect_peer(local, limit_ns);
    if (err == 0)
        err = send_message(local, VGPU_LINK_HELLO, 0, &local->hello, sizeof(local->hello), NULL, 0,
                           limit_ns);
    while (err == 0 && !local->attached) {
        err = wait_input(local, limit_ns);
        if (err == -ETIMEDOUT)
            vgpu_fail(err, "the mediator at %s does not answer our hello", local->peer.sun_path);
    }
    if (err < 0)
        lose_link(local);
    return err;
}

static int local_send(struct vgpu_transport *transport, const void *request, uint32_t length,
                      uint32_t request_id, uint64_t deadline_ns)
{
    struct local *local = to_local(transport);
    int err = 0;
    pthread_mutex_lock(&local->lock);
    /* What has come in meanwhile, the end of the link above all, comes first. */
    if (local->attached && receive(local) < 0)
        lose_link(local);
    local->response.length = 0;
    local->status = VGPU_STATUS_BUSY;
    if (!local->attached && attach(local, deadline_ns) < 0) {
        complete(local, VGPU_ERR_MEDIATOR_UNAVAILABLE); /* as a device without a link does (R6) */
    } else {
        struct vgpu_link_request head = {.request_id = request_id, .request_length = length};
        local->outstanding = ++local->last_seq;
        err = send_message(local, VGPU_LINK_REQUEST, local->outstanding, &head, sizeof(head),
                           request, length, deadline_ns);
        if (err == -ETIMEDOUT)
            local->outstanding = 0; /* nothing of it has left */
        else if (err < 0)
            lose_link(local);
    }
    pthread_mutex_unlock(&local->lock);
    return err == -ETIMEDOUT ? err : 0; /* a lost link has completed the request */
}

static int local_wait(struct vgpu_transport *transport, uint64_t deadline_ns, uint32_t *status)
{
    struct local *local = to_local(transport);
    int err = 0;
    pthread_mutex_lock(&local->lock);
    while (local->outstanding && err != -ETIMEDOUT)
        err = wait_input(local, deadline_ns); /* a lost link completes the request */
    err = local->outstanding ? vgpu_fail(-ETIMEDOUT, "the mediator has not answered yet") : 0;
    if (status)
        *status = local->status;
    pthread_mutex_unlock(&local->lock);
    return err;
}

static int local_read(struct vgpu_transport *transport, struct vgpu_response *response)
{
    struct local *local = to_local(transport);
    pthread_mutex_lock(&local->lock);
    response->status = local->status;
    response->error_code = local->response.error_code;
    response->length = local->response.length;
    memcpy(response->bytes, local->response.bytes, local->response.length);
    response->generation = local->generation;
    pthread_mutex_unlock(&local->lock);
    return 0;
}

static void local_abandon(struct vgpu_transport *transport)
{
    struct local *local = to_local(transport);
    pthread_mutex_lock(&local->lock);
    if (local->outstanding) {
        uint64_t seq = local->outstanding;
        local->outstanding = 0;
        if (send_message(local, VGPU_LINK_CANCEL, seq, NULL, 0, NULL, 0,
                         vgpu_deadline_ns(CANCEL_TIMEOUT_MS)) < 0)
            lose_link(local);
    }
    pthread_mutex_unlock(&local->lock);
}

static int local_read_register(struct vgpu_transport *transport, uint32_t offset, uint32_t *value)
{
    struct local *local = to_local(transport);
    pthread_mutex_lock(&local->lock);
    /* Who sleeps on the link sees its end by itself, and at once. */
    if (local->attached && !local->waiting && receive(local) < 0)
        lose_link(local);
    switch (offset) {
    case VGPU_REG_POOL_ID:
        *value = local->attached ? local->shown.pool_id : local->hello.pool_id;
        break;
    case VGPU_REG_PRIORITY:
        *value = local->attached ? local->shown.priority : local->hello.priority;
        break;
    case VGPU_REG_VM_ID:
        *value = local->attached ? local->shown.vm_id : local->hello.vm_id;
        break;
    case VGPU_REG_PROTOCOL_VER:
        *value = VGPU_PROTOCOL_VERSION;
        break;
    case VGPU_REG_CAPABILITIES:
        *value = VGPU_CAP_MAILBOX;
        break;
    case VGPU_REG_GENERATION:
        *value = local->generation;
        break;
    case VGPU_REG_LINK_STATE:
        *value = local->attached ? VGPU_LINK_ATTACHED : 0;
        break;
    default:
        *value = 0;
    }
    pthread_mutex_unlock(&local->lock);
    return 0;
}

static void local_close(struct vgpu_transport *transport, bool forked)
{
    struct local *local = to_local(transport);
    if (local->fd >= 0)
        close(local->fd); /* in a child this closes its copy; the parent's link lives on */
    if (!forked)
        pthread_mutex_destroy(&local->lock);
    free(local);
}

static const struct vgpu_transport_ops local_ops = {
    .send = local_send,
    .wait = local_wait,
    .read = local_read,
    .abandon = local_abandon,
    .read_register = local_read_register,
    .close = local_close,
};

int vgpu_transport_local_open(const char *path, const struct vgpu_options *options,
                              struct vgpu_transport **transport)
{
    struct local *local = calloc(1, sizeof(*local));
    if (!local || pthread_mutex_init(&local->lock, NULL)) {
        free(local);
        return vgpu_fail(-ENOMEM, "out of memory");
    }
    local->base.ops = &local_ops;
    local->fd = -1;
    local->peer.sun_family = AF_UNIX;
    local->hello = (struct vgpu_link_hello){
        .features = VGPU_LINK_FEATURES_KNOWN,
        .protocol = VGPU_PROTOCOL_VERSION,
        .vm_id = options->local_vm_id,
        .pool_id = options->local_pool_id ? options->local_pool_id : 'A',
        .priority = options->local_priority,
        .timeout_ms = options->timeout_ms,
    };
    int err;
    if (path[0] == 0 || strlen(path) >= sizeof(local->peer.sun_path)) {
        err = vgpu_fail(-EINVAL, "'%s' is no path of a socket: it has 1 to %zu bytes", path,
                        sizeof(local->peer.sun_path) - 1);
    } else {
        memcpy(local->peer.sun_path, path, strlen(path) + 1);
        pthread_mutex_lock(&local->lock);
        err = attach(local, vgpu_deadline_ns(options->timeout_ms));
        pthread_mutex_unlock(&local->lock);
    }
    if (err < 0) {
        local_close(&local->base, false);
        return err;
    }
    *transport = &local->base;
    return 0;
}
