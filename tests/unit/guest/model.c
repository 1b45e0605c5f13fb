/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device model behind a socket, with a scripted host on its link. See model.h. */
#define _GNU_SOURCE /* accept4, pipe2 */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "guest/mmio.h"
#include "vgpu_test.h"

#define CLIENTS 64

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- The guest's side: register accesses over a socket of each process's own ---- */

struct access {
    uint64_t value;
    uint32_t offset;
    uint8_t size;
    uint8_t write;
    uint8_t pad[2];
};

static char served_path[108]; /* of the model that runs now */
static pthread_mutex_t access_lock = PTHREAD_MUTEX_INITIALIZER;
static int access_fd = -1;
static pid_t access_pid;

static void forget_connection(void)
{
    if (access_fd >= 0)
        close(access_fd);
    access_fd = -1;
}

static uint64_t do_access(uint32_t offset, uint8_t size, bool write, uint64_t value)
{
    struct access access = {.value = value, .offset = offset, .size = size, .write = write};
    pthread_mutex_lock(&access_lock);
    /* A forked child shares its parent's connection until it makes its own. */
    if (access_fd < 0 || access_pid != getpid()) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        forget_connection();
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", served_path);
        access_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        access_pid = getpid();
        if (access_fd < 0 || connect(access_fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
            perror("model: connect");
            _exit(70);
        }
    }
    if (send(access_fd, &access, sizeof(access), MSG_NOSIGNAL) != sizeof(access) ||
        recv(access_fd, &access, sizeof(access), 0) != sizeof(access)) {
        perror("model: access");
        _exit(70);
    }
    pthread_mutex_unlock(&access_lock);
    return access.value;
}

uint32_t vgpu_mmio_read32(const volatile uint8_t *bar, uint32_t offset)
{
    (void)bar;
    return (uint32_t)do_access(offset, 4, false, 0);
}

uint64_t vgpu_mmio_read64(const volatile uint8_t *bar, uint32_t offset)
{
    (void)bar;
    return do_access(offset, 8, false, 0);
}

void vgpu_mmio_write32(volatile uint8_t *bar, uint32_t offset, uint32_t value)
{
    (void)bar;
    do_access(offset, 4, true, value);
}

void vgpu_mmio_write64(volatile uint8_t *bar, uint32_t offset, uint64_t value)
{
    (void)bar;
    do_access(offset, 8, true, value);
}

uint32_t model_read32(uint32_t offset)
{
    return (uint32_t)do_access(offset, 4, false, 0);
}

void model_write32(uint32_t offset, uint32_t value)
{
    do_access(offset, 4, true, value);
}

/* ---- The host's side: what the device sends, and what it is sent ---- */

static void send_to_device(struct model *model, uint16_t type, uint64_t seq, const void *head,
                           size_t head_length, const void *body, size_t body_length);

/* ENABLE and RESET: the worker has it, or lets go of it, at once. */
static void take_channel(struct model *model, uint16_t type, const uint8_t *payload)
{
    struct vgpu_link_channel message;
    memcpy(&message, payload, sizeof(message));
    struct model_channel *channel = &model->channel[message.channel % MODEL_CHANNELS];
    bool enable = type == VGPU_LINK_CHANNEL_ENABLE;
    channel->enables += enable;
    channel->resets += !enable;
    if (model->keeps_silent)
        return;
    channel->active = enable;
    if (enable)
        vgpu_ring_server_init(&channel->ring,
                              model->window + (size_t)message.channel * VGPU_CHANNEL_BYTES);
    message.state = enable ? VGPU_CHANNEL_ACTIVE : VGPU_CHANNEL_FREE;
    send_to_device(model, VGPU_LINK_CHANNEL_STATE, 0, &message, sizeof(message), NULL, 0);
}

static void take_message(struct model *model, const struct vgpu_link_header *header,
                         const uint8_t *payload)
{
    if (header->type == VGPU_LINK_CHANNEL_ENABLE || header->type == VGPU_LINK_CHANNEL_RESET)
        take_channel(model, header->type, payload);
    if (header->type != VGPU_LINK_REQUEST)
        return; /* HELLO is answered by model_attach; CANCEL and RESET need nothing here */
    struct vgpu_link_request head;
    struct model_request *request = &model->log[model->log_count % MODEL_LOG];
    memcpy(&head, payload, sizeof(head));
    *request = (struct model_request){
        .seq = header->seq, .id = head.request_id, .length = head.request_length};
    memcpy(request->bytes, payload + sizeof(head), head.request_length);
    model->log_count++;
    pthread_cond_broadcast(&model->moved);
    struct model_request copy = *request;
    model->handler(model, &copy);
}

/* Only keeps the bytes: the device has sent a request when this has returned, not before. */
static ssize_t on_send(void *opaque, const void *bytes, size_t length)
{
    struct model *model = opaque;
    if (length > sizeof(model->sent) - model->sent_length)
        length = sizeof(model->sent) - model->sent_length;
    memcpy(model->sent + model->sent_length, bytes, length);
    model->sent_length += length;
    return (ssize_t)length;
}

/* Takes what the device sent. Due after every call into it. */
static void take_messages(struct model *model)
{
    for (;;) {
        struct vgpu_link_header header;
        if (model->sent_length < sizeof(header))
            break;
        memcpy(&header, model->sent, sizeof(header));
        size_t whole = sizeof(header) + header.length;
        if (model->sent_length < whole)
            break;
        uint8_t message[VGPU_DEVICE_TX_BYTES];
        memcpy(message, model->sent, whole);
        model->sent_length -= whole;
        memmove(model->sent, model->sent + whole, model->sent_length);
        take_message(model, &header, message + sizeof(header));
    }
    vgpu_device_link_writable(&model->device, now_ns());
}

static void on_close(void *opaque)
{
    struct model *model = opaque;
    vgpu_device_link_closed(&model->device, now_ns());
}

static void on_timer(void *opaque, uint64_t deadline_ns)
{
    struct model *model = opaque;
    model->deadline_ns = deadline_ns;
    if (write(model->wake[1], "", 1) < 0 && errno != EAGAIN)
        perror("model: wake");
}

static ssize_t on_send_fds(void *opaque, const void *bytes, size_t length, const int *fds,
                           unsigned fd_count)
{
    (void)fds;
    (void)fd_count;
    return on_send(opaque, bytes, length);
}

static int on_window_open(void *opaque, struct vgpu_device_window *window)
{
    struct model *model = opaque;
    window->memory = model->window_fd;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        window->doorbell[i] = model->eventfds[2 * i];
        window->interrupt[i] = model->eventfds[2 * i + 1];
    }
    return 0;
}

static void on_window_close(void *opaque)
{
    struct model *model = opaque;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        model->channel[i].active = false;
}

static const struct vgpu_device_ops device_ops = {
    .link_send = on_send,
    .link_send_fds = on_send_fds,
    .window_open = on_window_open,
    .window_close = on_window_close,
    .link_close = on_close,
    .set_timer = on_timer,
};

static void send_to_device(struct model *model, uint16_t type, uint64_t seq, const void *head,
                           size_t head_length, const void *body, size_t body_length)
{
    uint8_t bytes[sizeof(struct vgpu_link_header) + VGPU_LINK_MAX_PAYLOAD];
    struct vgpu_link_header header = {.magic = VGPU_LINK_MAGIC,
                                      .type = type,
                                      .length = (uint32_t)(head_length + body_length),
                                      .seq = seq};
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), head, head_length);
    if (body_length)
        memcpy(bytes + sizeof(header) + head_length, body, body_length);
    vgpu_device_link_received(&model->device, bytes, sizeof(header) + head_length + body_length, 0,
                              now_ns());
}

/* ---- The worker's side: channels ---- */

#define BY_CHANNEL (1ull << 63) /* in a request's seq: channel and place of what was asked */

static void answer_by_channel(struct model *model, uint64_t seq, uint32_t error_code,
                              const void *bytes, uint32_t length)
{
    struct model_channel *channel = &model->channel[seq >> 32 & 0x7F];
    const struct vgpu_ring_record *asked = &channel->asked[seq % VGPU_RING_COMPLETIONS];
    struct vgpu_ring_answer answer = {
        .token = asked->token, .error_code = error_code, .length = length, .bytes = bytes};
    if (channel->active && vgpu_ring_server_has_room(&channel->ring, 1))
        vgpu_ring_server_complete(&channel->ring, &answer, asked->answer_unit, asked->answer_units);
}

void model_answer(struct model *model, uint32_t channel, const struct vgpu_ring_record *record,
                  uint32_t status, const void *bytes, uint32_t length)
{
    struct vgpu_ring_server *ring = &model->channel[channel].ring;
    struct vgpu_ring_answer answer = {
        .token = record->token, .status = status, .length = length, .bytes = bytes};
    if (record->token && vgpu_ring_server_has_room(ring, 1))
        vgpu_ring_server_complete(ring, &answer, record->answer_unit, record->answer_units);
}

void model_break_channel(struct model *model, uint32_t number, uint32_t error)
{
    pthread_mutex_lock(&model->lock);
    struct vgpu_link_channel message = {.channel = number,
                                        .serial = model->device.channels[number].serial,
                                        .state = VGPU_CHANNEL_FATAL,
                                        .error = error};
    model->channel[number].active = false;
    send_to_device(model, VGPU_LINK_CHANNEL_STATE, 0, &message, sizeof(message), NULL, 0);
    pthread_mutex_unlock(&model->lock);
}

static void serve_record(struct model *model, uint32_t number,
                         const struct vgpu_ring_record *record, const uint8_t *body)
{
    struct model_channel *channel = &model->channel[number];
    if (record->opcode == VGPU_RING_NOP) {
        model_answer(model, number, record, 0, NULL, 0);
    } else if (record->opcode != VGPU_RING_REQUEST) {
        model->record_handler(model, number, record, body);
    } else {
        uint32_t place = record->token % VGPU_RING_COMPLETIONS;
        struct model_request request = {.seq = BY_CHANNEL | (uint64_t)number << 32 | place,
                                        .length = record->length};
        channel->asked[place] = *record;
        memcpy(request.bytes, body, record->length);
        model->log[model->log_count++ % MODEL_LOG] = request;
        pthread_cond_broadcast(&model->moved);
        model->handler(model, &request);
    }
}

static void *worker_main(void *opaque)
{
    struct model *model = opaque;
    static uint8_t bytes[VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT];
    for (bool stop = false; !stop;) {
        bool did = false;
        pthread_mutex_lock(&model->lock);
        stop = model->stop;
        for (uint32_t i = 0; i < MODEL_CHANNELS; i++) {
            struct model_channel *channel = &model->channel[i];
            const struct vgpu_ring_record *record =
                channel->active ? vgpu_ring_server_take(&channel->ring, bytes) : NULL;
            if (record) {
                serve_record(model, i, record, bytes + sizeof(*record));
                vgpu_ring_server_show(&channel->ring);
                did = true;
            }
        }
        pthread_mutex_unlock(&model->lock);
        if (!did)
            usleep(20);
    }
    return NULL;
}

void model_respond(struct model *model, uint64_t seq, uint32_t error_code, const void *bytes,
                   uint32_t length)
{
    if (seq & BY_CHANNEL) {
        answer_by_channel(model, seq, error_code, bytes, length);
        return;
    }
    struct vgpu_link_response head = {.error_code = error_code, .response_length = length};
    send_to_device(model, VGPU_LINK_RESPONSE, seq, &head, sizeof(head), bytes, length);
}

uint32_t model_build_response(uint8_t bytes[VGPU_MAILBOX_BYTES], uint32_t status,
                              const uint32_t *results, uint32_t result_count, const void *data,
                              uint32_t data_length)
{
    uint32_t offset = ((uint32_t)sizeof(struct vgpu_response_header) + result_count * 4 + 7) & ~7u;
    struct vgpu_response_header header = {.version = VGPU_PROTOCOL_VERSION,
                                          .status = status,
                                          .result_count = result_count,
                                          .data_offset = data_length ? offset : 0,
                                          .data_length = data_length};
    memset(bytes, 0, offset);
    memcpy(bytes, &header, sizeof(header));
    if (result_count)
        memcpy(bytes + sizeof(header), results, (size_t)result_count * 4);
    if (data_length)
        memcpy(bytes + offset, data, data_length);
    return data_length ? offset + data_length : (uint32_t)sizeof(header) + result_count * 4;
}

/* ---- The model's thread ---- */

static void serve_access(struct model *model, struct access *access)
{
    pthread_mutex_lock(&model->lock);
    model->accesses++;
    if (access->write) {
        model->writes++;
        vgpu_device_write(&model->device, access->offset, access->value, access->size, now_ns());
        take_messages(model);
    } else {
        model->reads++;
        access->value = vgpu_device_read(&model->device, access->offset, access->size, now_ns());
        if (model->fake_offset >= 0 && access->offset == (uint32_t)model->fake_offset)
            access->value = model->fake_value;
    }
    pthread_mutex_unlock(&model->lock);
}

static void *model_main(void *opaque)
{
    struct model *model = opaque;
    struct pollfd fds[CLIENTS + 2];
    nfds_t count = 2;
    fds[0] = (struct pollfd){.fd = model->listen_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = model->wake[0], .events = POLLIN};
    for (;;) {
        int wait_ms = -1;
        pthread_mutex_lock(&model->lock);
        bool stop = model->stop;
        if (model->deadline_ns) {
            uint64_t now = now_ns();
            wait_ms =
                model->deadline_ns <= now ? 0 : (int)((model->deadline_ns - now) / 1000000 + 1);
            if (wait_ms == 0)
                vgpu_device_timer(&model->device, now);
            take_messages(model);
        }
        pthread_mutex_unlock(&model->lock);
        if (stop)
            break;
        if (poll(fds, count, wait_ms) < 0)
            continue;
        char drain[64];
        if (fds[1].revents && read(model->wake[0], drain, sizeof(drain)) < 0 && errno != EAGAIN)
            perror("model: drain");
        if (fds[0].revents && count < CLIENTS + 2) {
            int fd = accept4(model->listen_fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0)
                fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
            continue;
        }
        for (nfds_t i = 2; i < count; i++) {
            struct access access;
            if (!fds[i].revents)
                continue;
            if (recv(fds[i].fd, &access, sizeof(access), 0) == sizeof(access)) {
                serve_access(model, &access);
                send(fds[i].fd, &access, sizeof(access), MSG_NOSIGNAL);
            } else {
                close(fds[i].fd);
                fds[i--] = fds[--count];
            }
        }
    }
    for (nfds_t i = 2; i < count; i++)
        close(fds[i].fd);
    return NULL;
}

/* ---- The test's side ---- */

void model_lock(struct model *model)
{
    pthread_mutex_lock(&model->lock);
}

void model_unlock(struct model *model)
{
    pthread_mutex_unlock(&model->lock);
}

void model_attach(struct model *model)
{
    struct vgpu_link_welcome welcome = {.features = VGPU_LINK_FEATURES_KNOWN,
                                        .vm_id = 77,
                                        .pool_id = 'C',
                                        .priority = VGPU_PRIORITY_HIGH};
    pthread_mutex_lock(&model->lock);
    model->sent_length = 0;
    vgpu_device_link_opened(&model->device, now_ns());
    take_messages(model); /* the HELLO */
    send_to_device(model, VGPU_LINK_WELCOME, 0, &welcome, sizeof(welcome), NULL, 0);
    bool attached = vgpu_device_attached(&model->device);
    pthread_mutex_unlock(&model->lock);
    assert_true(attached);
}

void model_lose_link(struct model *model)
{
    pthread_mutex_lock(&model->lock);
    vgpu_device_link_closed(&model->device, now_ns());
    pthread_mutex_unlock(&model->lock);
}

void model_reset(struct model *model)
{
    pthread_mutex_lock(&model->lock);
    vgpu_device_reset(&model->device, now_ns());
    take_messages(model);
    pthread_mutex_unlock(&model->lock);
}

void model_fake_register(struct model *model, int offset, uint32_t value)
{
    pthread_mutex_lock(&model->lock);
    model->fake_offset = offset;
    model->fake_value = value;
    pthread_mutex_unlock(&model->lock);
}

bool model_wait_requests(struct model *model, unsigned count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&model->lock);
    while (model->log_count < count &&
           pthread_cond_timedwait(&model->moved, &model->lock, &until) != ETIMEDOUT)
        ;
    bool enough = model->log_count >= count;
    pthread_mutex_unlock(&model->lock);
    return enough;
}

unsigned model_request_count(struct model *model)
{
    pthread_mutex_lock(&model->lock);
    unsigned count = model->log_count;
    pthread_mutex_unlock(&model->lock);
    return count;
}

struct model_request model_request_at(struct model *model, unsigned index)
{
    pthread_mutex_lock(&model->lock);
    struct model_request request = model->log[index % MODEL_LOG];
    pthread_mutex_unlock(&model->lock);
    return request;
}

struct vgpu_options model_options(const struct model *model)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    options.resource0 = model->resource0;
    options.resource2 = model->resource2[0] ? model->resource2 : NULL;
    options.run_dir = model->run_dir;
    options.timeout_ms = 20000;
    return options;
}

static void make_window(struct model *model)
{
    snprintf(model->resource2, sizeof(model->resource2), "%s/w", model->directory);
    model->window_fd = open(model->resource2, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(model->window_fd >= 0);
    assert_int_equal(ftruncate(model->window_fd, MODEL_WINDOW_BYTES), 0);
    model->window =
        mmap(NULL, MODEL_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, model->window_fd, 0);
    assert_true(model->window != MAP_FAILED);
    for (unsigned i = 0; i < 2 * MODEL_CHANNELS; i++)
        model->eventfds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static struct model *start(model_handler handler, model_record_handler record_handler,
                           void *context, bool windowed)
{
    struct model *model = calloc(1, sizeof(*model));
    const char *tmp = getenv("TMPDIR");
    struct vgpu_device_config config = {
        .pool_id = 'B', .priority = VGPU_PRIORITY_LOW, .vm_id = 5, .timeout_ms = 30000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_non_null(model);
    model->handler = handler;
    model->record_handler = record_handler;
    if (windowed) {
        config.window_bytes = MODEL_WINDOW_BYTES;
        config.channel_count = MODEL_CHANNELS;
    }
    model->context = context;
    model->fake_offset = -1;
    pthread_mutex_init(&model->lock, NULL);
    pthread_cond_init(&model->moved, NULL);
    snprintf(model->directory, sizeof(model->directory), "%.60s/model-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(model->directory));
    snprintf(model->socket_path, sizeof(model->socket_path), "%s/s", model->directory);
    snprintf(model->resource0, sizeof(model->resource0), "%s/r", model->directory);
    snprintf(model->run_dir, sizeof(model->run_dir), "%s/run", model->directory);
    int fd = open(model->resource0, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, VGPU_BAR0_SIZE), 0);
    close(fd);
    assert_int_equal(pipe2(model->wake, O_CLOEXEC | O_NONBLOCK), 0);
    model->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", model->socket_path);
    assert_int_equal(bind(model->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(model->listen_fd, CLIENTS), 0);
    assert_int_equal(vgpu_device_init(&model->device, &config, &device_ops, model), 0);
    if (windowed)
        make_window(model);
    snprintf(served_path, sizeof(served_path), "%s", model->socket_path);
    assert_int_equal(pthread_create(&model->thread, NULL, model_main, model), 0);
    if (windowed)
        assert_int_equal(pthread_create(&model->worker, NULL, worker_main, model), 0);
    model_attach(model);
    return model;
}

struct model *model_start(model_handler handler, void *context)
{
    return start(handler, NULL, context, false);
}

struct model *model_start_windowed(model_handler handler, model_record_handler record_handler,
                                   void *context)
{
    return start(handler, record_handler, context, true);
}

static void remove_tree(const char *path)
{
    char command[256];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command) != 0)
        print_error("model: %s failed\n", command);
}

void model_stop(struct model *model)
{
    pthread_mutex_lock(&model->lock);
    model->stop = true;
    pthread_mutex_unlock(&model->lock);
    if (write(model->wake[1], "", 1) < 0 && errno != EAGAIN)
        perror("model: wake");
    pthread_join(model->thread, NULL);
    if (model->window) {
        pthread_join(model->worker, NULL);
        munmap(model->window, MODEL_WINDOW_BYTES);
        close(model->window_fd);
        for (unsigned i = 0; i < 2 * MODEL_CHANNELS; i++)
            close(model->eventfds[i]);
    }
    forget_connection();
    close(model->listen_fd);
    close(model->wake[0]);
    close(model->wake[1]);
    remove_tree(model->directory);
    pthread_cond_destroy(&model->moved);
    pthread_mutex_destroy(&model->lock);
    free(model);
}
