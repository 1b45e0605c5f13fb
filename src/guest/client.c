/* SPDX-License-Identifier: MIT */
/*
 * The handle, and requests as bytes: opening, registers, and the gate through which the threads of
 * this process go to the transport one after the other. Knows nothing of what a request says.
 */
#define _GNU_SOURCE /* secure_getenv */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/channel.h"
#include "guest/deadline.h"
#include "guest/guest.h"

int vgpu_random(void *bytes, size_t length)
{
#ifdef SYS_getrandom
    if (syscall(SYS_getrandom, bytes, length, 0) == (long)length)
        return 0;
#endif
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, bytes, length) : -1;
    if (fd >= 0)
        close(fd);
    if (n != (ssize_t)length)
        return vgpu_fail(-EIO, "the kernel gives no random numbers (getrandom, /dev/urandom)");
    return 0;
}

int vgpu_check_handle(const struct vgpu *gpu)
{
    if (!gpu)
        return vgpu_fail(-EINVAL, "the vgpu handle is NULL");
    if (gpu->pid != getpid())
        return vgpu_fail(-ECHILD,
                         "the vgpu handle was opened by process %ld, before a fork: a "
                         "child opens its own with vgpu_init",
                         (long)gpu->pid);
    return 0;
}

/* ---- Opening and closing ---- */

/* Options as the rest of the library sees them, whatever version of the struct the caller has. */
static int take_options(const struct vgpu_options *given, struct vgpu_options *options)
{
    *options = (struct vgpu_options)VGPU_OPTIONS_INIT;
    if (given) {
        if (given->struct_size < sizeof(given->struct_size) || given->struct_size > 4096)
            return vgpu_fail(-EINVAL,
                             "vgpu_options.struct_size is %zu; set it to sizeof, or use "
                             "VGPU_OPTIONS_INIT",
                             given->struct_size);
        size_t known =
            given->struct_size < sizeof(*options) ? given->struct_size : sizeof(*options);
        memcpy(options, given, known);
    }
    /* A program with raised rights must not be led to a device by who starts it. */
    if (!options->device && !options->resource0)
        options->device = secure_getenv("VGPU_DEVICE");
    if (options->device && !options->device[0])
        options->device = NULL;
    if (options->timeout_ms == 0)
        options->timeout_ms = VGPU_DEFAULT_TIMEOUT_MS;
    if (!options->run_dir)
        options->run_dir = "/run/vgpu";
    if (options->device && strncmp(options->device, "pci:", 4) != 0 &&
        strncmp(options->device, "local:", 6) != 0)
        return vgpu_fail(-EINVAL, "'%s' names no device: it is pci:ADDRESS or local:SOCKET",
                         options->device);
    return 0;
}

/* "auto", "mailbox", "channel". */
static int take_choice(struct vgpu *gpu, const struct vgpu_options *options)
{
    const char *word = options->transport;
    if (!word)
        word = secure_getenv("VGPU_TRANSPORT");
    if (!word || !word[0] || strcmp(word, "auto") == 0)
        gpu->way = VGPU_WAY_AUTO;
    else if (strcmp(word, "mailbox") == 0)
        gpu->way = VGPU_WAY_MAILBOX;
    else if (strcmp(word, "channel") == 0)
        gpu->way = VGPU_WAY_CHANNEL;
    else
        return vgpu_fail(
            -EINVAL, "'%s' is no transport (VGPU_TRANSPORT): it is auto, mailbox or channel", word);
    return 0;
}

/* The window that a local client asks for: bytes, with K, M or G behind them; 0: none. */
static int take_window(struct vgpu_options *options)
{
    const char *word = options->local_window_bytes ? NULL : secure_getenv("VGPU_WINDOW");
    if (!options->local_window_bytes)
        options->local_window_bytes = VGPU_WINDOW_BYTES_DEFAULT;
    if (word && word[0]) {
        char *end;
        errno = 0;
        uint64_t bytes = strtoull(word, &end, 10);
        unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        if (word[0] < '0' || word[0] > '9' || end[shift ? 1 : 0] || errno ||
            bytes > VGPU_WINDOW_BYTES_MAX >> shift)
            return vgpu_fail(-EINVAL,
                             "VGPU_WINDOW='%s' is no size of a window: it is a number of bytes "
                             "(or 64M, 1G), 0 for none",
                             word);
        options->local_window_bytes = bytes << shift;
        if (bytes == 0)
            return 0;
    }
    if (options->local_window_bytes < VGPU_WINDOW_BYTES_MIN ||
        options->local_window_bytes > VGPU_WINDOW_BYTES_MAX)
        return vgpu_fail(-EINVAL,
                         "a window has %" PRIu64 " to %" PRIu64 " bytes, not %" PRIu64
                         " (VGPU_WINDOW, local_window_bytes)",
                         VGPU_WINDOW_BYTES_MIN, VGPU_WINDOW_BYTES_MAX, options->local_window_bytes);
    options->local_window_bytes +=
        (VGPU_ARENA_GRANULE - options->local_window_bytes % VGPU_ARENA_GRANULE) %
        VGPU_ARENA_GRANULE;
    return 0;
}

/* The priority that a local client asks for; the mediator's configuration has the last word. */
static int take_priority(struct vgpu_options *options)
{
    static const char *const words[VGPU_PRIORITY_COUNT] = {"low", "medium", "high"};
    const char *word = secure_getenv("VGPU_PRIORITY");
    if (!word || !word[0])
        return 0;
    for (uint32_t p = 0; p < VGPU_PRIORITY_COUNT; p++) {
        if (strcmp(word, words[p]) != 0)
            continue;
        if (options->local_priority == VGPU_PRIORITY_MEDIUM) /* a program that says one means it */
            options->local_priority = p;
        return 0;
    }
    return vgpu_fail(-EINVAL, "VGPU_PRIORITY='%s' is no priority: it is low, medium or high", word);
}

static int open_transport(struct vgpu *gpu, const struct vgpu_options *options)
{
    if (options->resource0) {
        snprintf(gpu->address, sizeof(gpu->address), "pci:test");
        gpu->run_dir = strdup(options->run_dir);
        if (!gpu->run_dir)
            return vgpu_fail(-ENOMEM, "out of memory");
        return vgpu_transport_mailbox_open(NULL, options, gpu->address + strlen("pci:"),
                                           &gpu->transport);
    }
    if (options->device && strncmp(options->device, "local:", 6) == 0) {
        snprintf(gpu->address, sizeof(gpu->address), "%s", options->device);
        return vgpu_transport_local_open(options->device + 6, options, &gpu->transport);
    }
    char device_dir[512];
    int err = vgpu_find_device(options, device_dir, sizeof(device_dir), gpu->address,
                               sizeof(gpu->address));
    if (err < 0)
        return err;
    gpu->run_dir = strdup(options->run_dir);
    if (!gpu->run_dir)
        return vgpu_fail(-ENOMEM, "out of memory");
    return vgpu_transport_mailbox_open(device_dir, options, gpu->address + strlen("pci:"),
                                       &gpu->transport);
}

static int init_locks(struct vgpu *gpu)
{
    pthread_condattr_t attributes;
    if (pthread_mutex_init(&gpu->lock, NULL))
        return -ENOMEM;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int err = pthread_cond_init(&gpu->gate_moved, &attributes);
    pthread_condattr_destroy(&attributes);
    if (err) {
        pthread_mutex_destroy(&gpu->lock);
        return -ENOMEM;
    }
    return 0;
}

int vgpu_init(const struct vgpu_options *given, struct vgpu **handle)
{
    struct vgpu_options options;
    if (!handle)
        return vgpu_fail(-EINVAL, "vgpu_init: handle is NULL");
    *handle = NULL;
    int err = take_options(given, &options);
    if (err < 0)
        return err;
    struct vgpu *gpu = calloc(1, sizeof(*gpu));
    if (!gpu)
        return vgpu_fail(-ENOMEM, "out of memory");
    gpu->pid = getpid();
    gpu->timeout_ms = options.timeout_ms;
    if ((err = vgpu_random(&gpu->next_request_id, sizeof(gpu->next_request_id))) < 0)
        goto fail;
    if (init_locks(gpu) < 0) {
        err = vgpu_fail(-ENOMEM, "out of memory");
        goto fail;
    }
    if ((err = take_choice(gpu, &options)) < 0 || (err = take_window(&options)) < 0 ||
        (err = take_priority(&options)) < 0) {
        pthread_cond_destroy(&gpu->gate_moved);
        pthread_mutex_destroy(&gpu->lock);
        goto fail;
    }
    if (gpu->way == VGPU_WAY_MAILBOX)
        options.local_window_bytes = 0;
    if ((err = open_transport(gpu, &options)) < 0) {
        pthread_cond_destroy(&gpu->gate_moved);
        pthread_mutex_destroy(&gpu->lock);
        goto fail;
    }
    *handle = gpu;
    return 0;
fail:
    free(gpu->run_dir);
    free(gpu);
    return err;
}

void vgpu_cleanup(struct vgpu *gpu)
{
    if (!gpu)
        return;
    bool forked = gpu->pid != getpid();
    while (gpu->sessions) {
        struct vgpu_session *session = gpu->sessions;
        if (!forked) {
            vgpu_session_close(session);
            continue;
        }
        gpu->sessions = session->next;
        vgpu_channel_close(session->channel, true);
        vgpu_record_release(&session->record);
        free(session);
    }
    gpu->transport->ops->close(gpu->transport, forked);
    /* In a child the locks may have been held by a thread that is not there. */
    if (!forked) {
        pthread_cond_destroy(&gpu->gate_moved);
        pthread_mutex_destroy(&gpu->lock);
    }
    free(gpu->run_dir);
    free(gpu);
}

/* ---- Registers ---- */

const char *vgpu_address(const struct vgpu *gpu)
{
    return gpu ? gpu->address : "";
}

static int read_register(struct vgpu *gpu, uint32_t offset, uint32_t *value)
{
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err;
    if (!value)
        return vgpu_fail(-EINVAL, "the pointer for the register's value is NULL");
    return gpu->transport->ops->read_register(gpu->transport, offset, value);
}

int vgpu_pool(struct vgpu *gpu, uint32_t *letter)
{
    return read_register(gpu, VGPU_REG_POOL_ID, letter);
}

int vgpu_priority(struct vgpu *gpu, uint32_t *priority)
{
    return read_register(gpu, VGPU_REG_PRIORITY, priority);
}

int vgpu_vm_id(struct vgpu *gpu, uint32_t *vm_id)
{
    return read_register(gpu, VGPU_REG_VM_ID, vm_id);
}

int vgpu_protocol_version(struct vgpu *gpu, uint32_t *version)
{
    return read_register(gpu, VGPU_REG_PROTOCOL_VER, version);
}

int vgpu_capabilities(struct vgpu *gpu, uint32_t *bits)
{
    return read_register(gpu, VGPU_REG_CAPABILITIES, bits);
}

int vgpu_generation(struct vgpu *gpu, uint32_t *generation)
{
    return read_register(gpu, VGPU_REG_GENERATION, generation);
}

int vgpu_link_state(struct vgpu *gpu, uint32_t *bits)
{
    return read_register(gpu, VGPU_REG_LINK_STATE, bits);
}

int vgpu_window(struct vgpu *gpu, uint64_t *window_bytes, uint32_t *channels,
                uint32_t *channel_bytes)
{
    uint32_t low, high;
    if (!window_bytes)
        return vgpu_fail(-EINVAL, "the pointer for the window's size is NULL");
    int err = read_register(gpu, VGPU_REG_WINDOW_SIZE_LO, &low);
    if (err == 0)
        err = read_register(gpu, VGPU_REG_WINDOW_SIZE_HI, &high);
    if (err == 0)
        err = read_register(gpu, VGPU_REG_CHANNEL_COUNT, channels);
    if (err == 0)
        err = read_register(gpu, VGPU_REG_CHANNEL_SIZE, channel_bytes);
    if (err == 0)
        *window_bytes = (uint64_t)high << 32 | low;
    return err;
}

int vgpu_read_statistics(struct vgpu *gpu, struct vgpu_statistics *statistics)
{
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err;
    if (!statistics)
        return vgpu_fail(-EINVAL, "vgpu_read_statistics: statistics is NULL");
    pthread_mutex_lock(&gpu->lock);
    *statistics = gpu->statistics;
    pthread_mutex_unlock(&gpu->lock);
    return 0;
}

/* ---- One request ---- */

static uint32_t take_request_id(struct vgpu *gpu)
{
    if (++gpu->next_request_id == 0)
        gpu->next_request_id = 1;
    return gpu->next_request_id;
}

uint32_t vgpu_next_request_id(struct vgpu *gpu)
{
    if (vgpu_check_handle(gpu) < 0)
        return 0;
    pthread_mutex_lock(&gpu->lock);
    uint32_t id = take_request_id(gpu);
    pthread_mutex_unlock(&gpu->lock);
    return id;
}

static uint64_t deadline_of(const struct vgpu *gpu, uint32_t timeout_ms)
{
    return vgpu_deadline_ns(timeout_ms ? timeout_ms : gpu->timeout_ms);
}

static bool owns_gate(const struct vgpu *gpu)
{
    return gpu->gate == VGPU_GATE_SENT && pthread_equal(gpu->owner, pthread_self());
}

static void free_gate(struct vgpu *gpu)
{
    pthread_mutex_lock(&gpu->lock);
    gpu->gate = VGPU_GATE_FREE;
    pthread_cond_broadcast(&gpu->gate_moved);
    pthread_mutex_unlock(&gpu->lock);
}

/* The gate is this thread's when this returns 0. */
static int enter_gate(struct vgpu *gpu, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
    int err = 0;
    pthread_mutex_lock(&gpu->lock);
    if (owns_gate(gpu))
        err = vgpu_fail(-EBUSY, "this thread has a request in flight already: read its response "
                                "or abandon it first");
    while (err == 0 && gpu->gate != VGPU_GATE_FREE)
        if (pthread_cond_timedwait(&gpu->gate_moved, &gpu->lock, &until) == ETIMEDOUT)
            err = vgpu_fail(-ETIMEDOUT, "another thread kept the mailbox for the whole time-out");
    if (err == 0) {
        gpu->gate = VGPU_GATE_SENDING;
        gpu->owner = pthread_self();
    }
    pthread_mutex_unlock(&gpu->lock);
    return err;
}

static int check_owner(struct vgpu *gpu)
{
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err;
    pthread_mutex_lock(&gpu->lock);
    bool ours = owns_gate(gpu);
    pthread_mutex_unlock(&gpu->lock);
    return ours ? 0 : vgpu_fail(-EPERM, "this thread has no request in flight");
}

int vgpu_send_request(struct vgpu *gpu, const void *request, uint32_t length, uint32_t request_id,
                      uint32_t timeout_ms)
{
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err;
    if (!request || length == 0 || length > VGPU_MAILBOX_BYTES)
        return vgpu_fail(-EINVAL, "a request has 1 to %u bytes, this one %" PRIu32,
                         VGPU_MAILBOX_BYTES, request ? length : 0);
    uint64_t deadline_ns = deadline_of(gpu, timeout_ms);
    if ((err = enter_gate(gpu, deadline_ns)) < 0)
        return err;
    if (request_id == 0)
        request_id = vgpu_next_request_id(gpu);
    err = gpu->transport->ops->send(gpu->transport, request, length, request_id, deadline_ns);
    if (err < 0) {
        free_gate(gpu);
        return err;
    }
    pthread_mutex_lock(&gpu->lock);
    gpu->gate = VGPU_GATE_SENT;
    gpu->statistics.requests++;
    gpu->statistics.request_bytes += length;
    pthread_mutex_unlock(&gpu->lock);
    return 0;
}

int vgpu_poll_status(struct vgpu *gpu, uint32_t timeout_ms, uint32_t *status)
{
    int err = check_owner(gpu);
    if (err < 0)
        return err;
    err = gpu->transport->ops->wait(gpu->transport, timeout_ms ? vgpu_deadline_ns(timeout_ms) : 0,
                                    status);
    if (err < 0 && err != -ETIMEDOUT)
        free_gate(gpu);
    return err;
}

int vgpu_read_response(struct vgpu *gpu, struct vgpu_response *response)
{
    int err = check_owner(gpu);
    if (err < 0)
        return err;
    if (!response)
        return vgpu_fail(-EINVAL, "vgpu_read_response: response is NULL");
    uint32_t status;
    err = gpu->transport->ops->wait(gpu->transport, 0, &status);
    if (err == -ETIMEDOUT)
        return vgpu_fail(-EINPROGRESS, "the request has not completed: wait with vgpu_poll_status");
    if (err == 0) {
        *response = (struct vgpu_response){.status = status};
        err = gpu->transport->ops->read(gpu->transport, response);
    }
    pthread_mutex_lock(&gpu->lock);
    if (err == 0)
        gpu->statistics.response_bytes += response->length;
    pthread_mutex_unlock(&gpu->lock);
    free_gate(gpu);
    return err;
}

int vgpu_abandon_request(struct vgpu *gpu)
{
    int err = check_owner(gpu);
    if (err < 0)
        return err;
    gpu->transport->ops->abandon(gpu->transport);
    free_gate(gpu);
    return 0;
}

int vgpu_execute_request(struct vgpu *gpu, const void *request, uint32_t length,
                         uint32_t request_id, uint32_t timeout_ms, struct vgpu_response *response)
{
    if (!response)
        return vgpu_fail(-EINVAL, "vgpu_execute_request: response is NULL");
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err;
    uint64_t deadline_ns = deadline_of(gpu, timeout_ms);
    if ((err = vgpu_send_request(gpu, request, length, request_id, timeout_ms)) < 0)
        return err;
    /* Straight to the transport: a STATUS that was seen here needs no second look. */
    uint32_t status;
    err = gpu->transport->ops->wait(gpu->transport, deadline_ns, &status);
    if (err == 0) {
        /* Not cleared as a whole: it is 1 KiB, and only `length` bytes of it mean anything. */
        response->status = status;
        response->error_code = 0;
        response->generation = 0;
        response->length = 0;
        err = gpu->transport->ops->read(gpu->transport, response);
    } else if (err == -ETIMEDOUT) {
        gpu->transport->ops->abandon(gpu->transport);
    }
    pthread_mutex_lock(&gpu->lock);
    if (err == 0)
        gpu->statistics.response_bytes += response->length;
    gpu->gate = VGPU_GATE_FREE;
    pthread_cond_broadcast(&gpu->gate_moved);
    pthread_mutex_unlock(&gpu->lock);
    return err;
}
