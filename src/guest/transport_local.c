/* SPDX-License-Identifier: MIT */
/*
 * A mediator's own socket on this host, spoken to as a device would (docs/link.md): for benchmarks,
 * sanitizers and development, where there is no VM. Owns the link's states as a client sees them;
 * knows nothing of what a request says. Framing is local_link.c's, channels are local_channel.c's.
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
#include "guest/local.h"
#include "vgpu/link.h"

#define ATTACH_TIMEOUT_MS 10000u
#define CANCEL_TIMEOUT_MS 250u /* a link that takes no CANCEL for that long is given up */

static struct vgpu_local *to_local(struct vgpu_transport *transport)
{
    return (struct vgpu_local *)transport;
}

static void complete(struct vgpu_local *local, uint32_t error_code)
{
    local->outstanding = 0;
    local->status = error_code ? VGPU_STATUS_ERROR : VGPU_STATUS_DONE;
    local->response.status = local->status;
    local->response.error_code = error_code;
}

/*
 * In the order of R14: what a waiter learns with the failed request is already true. `connection`
 * is the one that failed, which may be another's than today's. Threads that sleep on the socket
 * wake, and the last of them closes it: its number must not become another file's before.
 */
static void lose_link(struct vgpu_local *local, uint64_t connection)
{
    if (!local->link || local->connection != connection)
        return;
    local->link->lost = true;
    shutdown(local->link->fd, SHUT_RDWR);
    vgpu_local_link_put(local->link);
    local->link = NULL;
    vgpu_local_window_put(local->window, false); /* ports that are left keep it */
    local->window = NULL;
    if (local->attached)
        local->generation++;
    local->attached = false;
    if (local->outstanding) {
        local->response.length = 0;
        complete(local, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    }
    pthread_cond_broadcast(&local->moved);
}

/* ---- Messages in ---- */

static bool take_welcome(struct vgpu_local *local, const uint8_t *payload)
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

static bool take_response(struct vgpu_local *local, uint64_t seq, const uint8_t *payload,
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

/* With descriptors. The first one is the memory, the others are channels. */
static bool take_window(struct vgpu_local *local, const struct vgpu_local_message *message)
{
    struct vgpu_link_window window;
    if (!(local->shown.features & VGPU_LINK_FEATURE_CHANNELS) || local->hello.window_bytes == 0 ||
        message->header.length != sizeof(window))
        return false;
    memcpy(&window, message->payload, sizeof(window));
    if (local->window)
        return vgpu_local_window_add(local->window, &window, message->fds,
                                     message->header.fd_count);
    if (message->header.fd_count != 1)
        return false;
    local->window = vgpu_local_window_create(&window, message->fds[0]);
    return local->window != NULL;
}

static bool take_state(struct vgpu_local *local, const struct vgpu_local_message *message)
{
    struct vgpu_link_channel state;
    if (!local->window || message->header.length != sizeof(state))
        return false;
    memcpy(&state, message->payload, sizeof(state));
    return vgpu_local_window_state(local->window, &state);
}

/* One whole message. 0, or a negative errno after which the link is to be lost. */
static int take_message(struct vgpu_local *local, const struct vgpu_local_message *message)
{
    const struct vgpu_link_header *header = &message->header;
    const uint8_t *payload = message->payload;
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
    case VGPU_LINK_WINDOW:
        good = good && local->attached && take_window(local, message);
        break;
    case VGPU_LINK_CHANNEL_STATE:
        good = good && local->attached && take_state(local, message);
        break;
    default:
        good = false;
    }
    return good ? 0
                : vgpu_fail(-EBADMSG,
                            "the mediator broke the link's rules with a message of type %u",
                            header->type);
}

/* A window is sent once, after WELCOME, and may come in with it. */
static bool wants_fds(const struct vgpu_local *local)
{
    if (local->hello.window_bytes == 0)
        return false;
    return !local->attached || ((local->shown.features & VGPU_LINK_FEATURE_CHANNELS) &&
                                !(local->window && vgpu_local_window_complete(local->window)));
}

/* Takes what is there, without waiting. Any error means that the link is to be lost. */
static int receive(struct vgpu_local *local)
{
    struct vgpu_local_link *link = local->link;
    struct vgpu_local_message message;
    for (;;) {
        link->wants_fds = wants_fds(local);
        int n = vgpu_local_link_fill(link);
        if (n <= 0)
            return n;
        while ((n = vgpu_local_link_next(link, &message)) > 0) {
            int err = take_message(local, &message);
            vgpu_local_link_drop(link, &message);
            if (err < 0)
                return err;
        }
        if (n < 0)
            return n;
    }
}

/* Sleeps until the socket is ready, without the lock, so that other threads may read registers.
 * The link stays allocated. False: the deadline has passed. */
static bool wait_ready(struct vgpu_local *local, struct vgpu_local_link *link, short events,
                       uint64_t deadline_ns)
{
    uint32_t remaining_ms = vgpu_remaining_ms(deadline_ns);
    struct pollfd ready = {.fd = link->fd, .events = events};
    pthread_mutex_unlock(&local->lock);
    int n = poll(&ready, 1, remaining_ms > INT32_MAX ? INT32_MAX : (int)remaining_ms);
    pthread_mutex_lock(&local->lock);
    return n != 0 || remaining_ms != 0;
}

/* Until another thread moved something. False: the deadline has passed. */
static bool wait_moved(struct vgpu_local *local, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
    return pthread_cond_timedwait(&local->moved, &local->lock, &until) != ETIMEDOUT;
}

void vgpu_local_refresh(struct vgpu_local *local)
{
    /* Who sleeps on the link sees what comes by itself, and at once. */
    if (!local->attached || local->link->reading)
        return;
    if (receive(local) < 0)
        lose_link(local, local->connection);
}

int vgpu_local_wait_input(struct vgpu_local *local, uint64_t deadline_ns)
{
    struct vgpu_local_link *link = local->link;
    uint64_t connection = local->connection;
    if (!link)
        return vgpu_fail(-ENOLINK, "the link to the mediator is gone");
    if (link->reading)
        return wait_moved(local, deadline_ns)
                   ? 0
                   : vgpu_fail(-ETIMEDOUT, "the mediator has not answered yet");
    link->users++;
    link->reading = true;
    int err = 0;
    if (!wait_ready(local, link, POLLIN, deadline_ns))
        err = -ETIMEDOUT;
    link->reading = false;
    if (link->lost)
        err = vgpu_fail(-ENOLINK, "the link to the mediator is gone");
    else if (err == 0 && (err = receive(local)) < 0)
        lose_link(local, connection);
    vgpu_local_link_put(link);
    pthread_cond_broadcast(&local->moved);
    return err;
}

/* ---- Messages out ---- */

/* Bytes to a link that is this thread's to write. A message fits into the socket's buffer in all
 * but strange cases, so this hardly ever waits. */
static int send_bytes(struct vgpu_local *local, struct vgpu_local_link *link, const uint8_t *bytes,
                      size_t length, uint64_t deadline_ns)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(link->fd, bytes + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return vgpu_fail(-errno, "the link to the mediator failed: %s", strerror(errno));
        bool again = wait_ready(local, link, POLLOUT, deadline_ns);
        if (link->lost)
            return vgpu_fail(-ENOLINK, "the link to the mediator is gone");
        if (!again)
            return vgpu_fail(sent ? -ENOLINK : -ETIMEDOUT,
                             "the mediator takes nothing from the link: is it stopped?");
    }
    return 0;
}

int vgpu_local_send(struct vgpu_local *local, uint16_t type, uint64_t seq, const void *head,
                    size_t head_length, const void *body, size_t body_length, uint64_t deadline_ns)
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
    struct vgpu_local_link *link = local->link;
    uint64_t connection = local->connection;
    if (!link)
        return vgpu_fail(-ENOLINK, "the link to the mediator is gone");
    link->users++;
    int err = 0;
    while (err == 0 && link->writing && !link->lost)
        if (!wait_moved(local, deadline_ns))
            err = vgpu_fail(-ETIMEDOUT, "the mediator takes nothing from the link: is it stopped?");
    if (err == 0 && link->lost)
        err = vgpu_fail(-ENOLINK, "the link to the mediator is gone");
    if (err == 0) {
        link->writing = true;
        err = send_bytes(local, link, bytes, length, deadline_ns);
        link->writing = false;
        pthread_cond_broadcast(&local->moved);
        if (err < 0 && err != -ETIMEDOUT)
            lose_link(local, connection);
    }
    vgpu_local_link_put(link);
    return err;
}

/* ---- States ---- */

/* A Unix socket cannot be waited for until its queue of connections has room: asks again and again,
 * without the lock in between. */
static int connect_peer(struct vgpu_local *local, int fd, uint64_t deadline_ns)
{
    struct vgpu_backoff backoff = {.start_ns = 1};
    for (;;) {
        if (connect(fd, (struct sockaddr *)&local->peer, sizeof(local->peer)) == 0)
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

/* Connects and attaches. The lock is held; only the thread that owns the request gets here. */
static int attach(struct vgpu_local *local, uint64_t deadline_ns)
{
    uint64_t limit_ns = vgpu_deadline_ns(ATTACH_TIMEOUT_MS);
    if (deadline_ns < limit_ns)
        limit_ns = deadline_ns;
    struct vgpu_local_link *link = vgpu_local_link_create();
    if (!link)
        return -EMFILE;
    local->hello.generation = local->generation;
    int err = connect_peer(local, link->fd, limit_ns);
    if (err < 0) {
        vgpu_local_link_put(link);
        return err;
    }
    local->link = link;
    uint64_t connection = ++local->connection;
    err = vgpu_local_send(local, VGPU_LINK_HELLO, 0, &local->hello, sizeof(local->hello), NULL, 0,
                          limit_ns);
    while (err == 0 && !local->attached) {
        err = vgpu_local_wait_input(local, limit_ns);
        if (err == -ETIMEDOUT)
            vgpu_fail(err, "the mediator at %s does not answer our hello", local->peer.sun_path);
    }
    if (err < 0)
        lose_link(local, connection);
    return err;
}

static int local_send(struct vgpu_transport *transport, const void *request, uint32_t length,
                      uint32_t request_id, uint64_t deadline_ns)
{
    struct vgpu_local *local = to_local(transport);
    int err = 0;
    pthread_mutex_lock(&local->lock);
    /* What has come in meanwhile, the end of the link above all, comes first. */
    vgpu_local_refresh(local);
    local->response.length = 0;
    local->status = VGPU_STATUS_BUSY;
    if (!local->attached && attach(local, deadline_ns) < 0) {
        complete(local, VGPU_ERR_MEDIATOR_UNAVAILABLE); /* as a device without a link does (R6) */
    } else {
        struct vgpu_link_request head = {.request_id = request_id, .request_length = length};
        local->outstanding = ++local->last_seq;
        err = vgpu_local_send(local, VGPU_LINK_REQUEST, local->outstanding, &head, sizeof(head),
                              request, length, deadline_ns);
        if (err == -ETIMEDOUT)
            local->outstanding = 0; /* nothing of it has left */
    }
    pthread_mutex_unlock(&local->lock);
    return err == -ETIMEDOUT ? err : 0; /* a lost link has completed the request */
}

static int local_wait(struct vgpu_transport *transport, uint64_t deadline_ns, uint32_t *status)
{
    struct vgpu_local *local = to_local(transport);
    int err = 0;
    pthread_mutex_lock(&local->lock);
    while (local->outstanding && err != -ETIMEDOUT)
        err = vgpu_local_wait_input(local, deadline_ns); /* a lost link completes the request */
    err = local->outstanding ? vgpu_fail(-ETIMEDOUT, "the mediator has not answered yet") : 0;
    if (status)
        *status = local->status;
    pthread_mutex_unlock(&local->lock);
    return err;
}

static int local_read(struct vgpu_transport *transport, struct vgpu_response *response)
{
    struct vgpu_local *local = to_local(transport);
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
    struct vgpu_local *local = to_local(transport);
    pthread_mutex_lock(&local->lock);
    if (local->outstanding) {
        uint64_t seq = local->outstanding;
        local->outstanding = 0;
        uint64_t connection = local->connection;
        if (vgpu_local_send(local, VGPU_LINK_CANCEL, seq, NULL, 0, NULL, 0,
                            vgpu_deadline_ns(CANCEL_TIMEOUT_MS)) < 0)
            lose_link(local, connection);
    }
    pthread_mutex_unlock(&local->lock);
}

static int local_read_register(struct vgpu_transport *transport, uint32_t offset, uint32_t *value)
{
    struct vgpu_local *local = to_local(transport);
    pthread_mutex_lock(&local->lock);
    vgpu_local_refresh(local);
    const struct vgpu_local_window *window = local->window;
    if (window && (!window->memory || !vgpu_local_window_complete(window)))
        window = NULL;
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
        *value = VGPU_CAP_MAILBOX | (window ? VGPU_CAP_WINDOW : 0);
        break;
    case VGPU_REG_GENERATION:
        *value = local->generation;
        break;
    case VGPU_REG_LINK_STATE:
        *value = local->attached ? VGPU_LINK_ATTACHED : 0;
        break;
    case VGPU_REG_WINDOW_SIZE_LO:
        *value = window ? (uint32_t)window->bytes : 0;
        break;
    case VGPU_REG_WINDOW_SIZE_HI:
        *value = window ? (uint32_t)(window->bytes >> 32) : 0;
        break;
    case VGPU_REG_CHANNEL_COUNT:
        *value = window ? window->channel_count : 0;
        break;
    case VGPU_REG_CHANNEL_SIZE:
        *value = window ? VGPU_CHANNEL_BYTES : 0;
        break;
    default:
        *value = 0;
    }
    pthread_mutex_unlock(&local->lock);
    return 0;
}

static void local_close(struct vgpu_transport *transport, bool forked)
{
    struct vgpu_local *local = to_local(transport);
    /* In a child this closes its copies; the parent's link lives on. */
    if (local->link) {
        local->link->users = 1;
        vgpu_local_link_put(local->link);
    }
    vgpu_local_window_put(local->window, forked);
    if (!forked) {
        pthread_cond_destroy(&local->moved);
        pthread_mutex_destroy(&local->lock);
    }
    free(local);
}

static const struct vgpu_transport_ops local_ops = {
    .send = local_send,
    .wait = local_wait,
    .read = local_read,
    .abandon = local_abandon,
    .read_register = local_read_register,
    .claim = vgpu_local_claim,
    .enable = vgpu_local_enable,
    .ring = vgpu_local_ring,
    .state = vgpu_local_state,
    .release = vgpu_local_release,
    .close = local_close,
};

/* Deadlines are on the monotonic clock. */
static int init_locks(struct vgpu_local *local)
{
    pthread_condattr_t attributes;
    if (pthread_mutex_init(&local->lock, NULL))
        return -ENOMEM;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int err = pthread_cond_init(&local->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    if (err)
        pthread_mutex_destroy(&local->lock);
    return err ? -ENOMEM : 0;
}

int vgpu_transport_local_open(const char *path, const struct vgpu_options *options,
                              struct vgpu_transport **transport)
{
    struct vgpu_local *local = calloc(1, sizeof(*local));
    if (!local || init_locks(local) < 0) {
        free(local);
        return vgpu_fail(-ENOMEM, "out of memory");
    }
    local->base.ops = &local_ops;
    local->peer.sun_family = AF_UNIX;
    local->hello = (struct vgpu_link_hello){
        .features = VGPU_LINK_FEATURE_MAILBOX,
        .protocol = VGPU_PROTOCOL_VERSION,
        .vm_id = options->local_vm_id,
        .pool_id = options->local_pool_id ? options->local_pool_id : 'A',
        .priority = options->local_priority,
        .timeout_ms = options->timeout_ms,
    };
    if (options->local_window_bytes) {
        local->hello.features |= VGPU_LINK_FEATURE_CHANNELS;
        local->hello.window_bytes = options->local_window_bytes;
        local->hello.channel_count = VGPU_CHANNELS_DEFAULT;
        local->hello.channel_bytes = VGPU_CHANNEL_BYTES;
        /* A window must have room for its channels. */
        uint64_t most = options->local_window_bytes / VGPU_CHANNEL_BYTES;
        if (most < local->hello.channel_count)
            local->hello.channel_count = (uint32_t)most;
    }
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
