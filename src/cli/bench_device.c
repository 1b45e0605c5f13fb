/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device model in this process, with a poll loop where a hypervisor would be. What it adds to a
 * request is what any hypervisor adds at least; what it leaves out is the exit from the guest.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/bench.h"
#include "device/device.h"
#include "guest/deadline.h"
#include "guest/vgpu_mmio_client.h"
#include "vgpu/curesult.h"

#define ATTACH_TIMEOUT_MS 20000u

struct bench_device {
    struct vgpu_device model;
    int listen_fd, fd;
    char path[108];
    uint32_t next_id;
    char why[256]; /* the link's last word, for messages */
};

static ssize_t on_send(void *opaque, const void *bytes, size_t length)
{
    struct bench_device *device = opaque;
    ssize_t n = send(device->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n >= 0 ? n : -errno;
}

static void on_close(void *opaque)
{
    struct bench_device *device = opaque;
    if (device->fd >= 0)
        close(device->fd);
    device->fd = -1;
}

static void on_event(void *opaque, const struct vgpu_device_event *event)
{
    struct bench_device *device = opaque;
    if (event->kind == VGPU_DEVICE_LINK_REFUSED || event->kind == VGPU_DEVICE_LINK_VIOLATION)
        snprintf(device->why, sizeof(device->why), "%s", event->text);
}

static const struct vgpu_device_ops ops = {
    .link_send = on_send, .link_close = on_close, .event = on_event};

/* Waits for the link, or for whoever connects, and hands over what came. */
static void serve(struct bench_device *device, uint64_t deadline_ns)
{
    uint8_t bytes[4096];
    bool linked = device->fd >= 0;
    bool wants_write = linked && vgpu_device_link_wants_write(&device->model);
    struct pollfd ready = {.fd = linked ? device->fd : device->listen_fd,
                           .events = (short)(POLLIN | (wants_write ? POLLOUT : 0))};
    if (poll(&ready, 1, (int)vgpu_remaining_ms(deadline_ns)) <= 0)
        return;
    if (!linked) {
        device->fd = accept(device->listen_fd, NULL, NULL);
        if (device->fd >= 0)
            vgpu_device_link_opened(&device->model, vgpu_now_ns());
        return;
    }
    if (ready.revents & POLLOUT)
        vgpu_device_link_writable(&device->model, vgpu_now_ns());
    if (!(ready.revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    ssize_t n = recv(device->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0) {
        vgpu_device_link_received(&device->model, bytes, (size_t)n, 0, vgpu_now_ns());
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        on_close(device);
        vgpu_device_link_closed(&device->model, vgpu_now_ns());
    }
}

void bench_device_close(struct bench_device *device)
{
    if (!device)
        return;
    on_close(device);
    if (device->listen_fd >= 0) {
        close(device->listen_fd);
        unlink(device->path);
    }
    free(device);
}

struct bench_device *bench_device_open(const char *directory, uint32_t vm_id)
{
    struct vgpu_device_config config = {.pool_id = 'A',
                                        .priority = VGPU_PRIORITY_MEDIUM,
                                        .vm_id = vm_id,
                                        .timeout_ms = VGPU_DEVICE_TIMEOUT_MS_DEFAULT};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct bench_device *device = calloc(1, sizeof(*device));
    if (!device) {
        fprintf(stderr, "vgpu-bench: out of memory\n");
        return NULL;
    }
    device->fd = -1;
    device->next_id = (uint32_t)vgpu_now_ns();
    snprintf(device->why, sizeof(device->why), "nobody connected");
    vgpu_device_init(&device->model, &config, &ops, device);
    device->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int length = snprintf(device->path, sizeof(device->path), "%s/vm-%u.sock", directory, vm_id);
    if (length < 0 || (size_t)length >= sizeof(address.sun_path)) {
        fprintf(stderr, "vgpu-bench: %s is too long for the path of a socket\n", directory);
        goto fail;
    }
    memcpy(address.sun_path, device->path, (size_t)length + 1);
    if (device->listen_fd < 0 ||
        bind(device->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(device->listen_fd, 1) < 0) {
        fprintf(stderr, "vgpu-bench: no socket can be made at %s: %s\n", device->path,
                strerror(errno));
        goto fail;
    }
    uint64_t deadline_ns = vgpu_deadline_ns(ATTACH_TIMEOUT_MS);
    while (!vgpu_device_attached(&device->model)) {
        if (bench_stopped() || vgpu_now_ns() >= deadline_ns) {
            fprintf(stderr, "vgpu-bench: no mediator attached to %s: %s\n", device->path,
                    device->why);
            goto fail;
        }
        serve(device, deadline_ns);
    }
    return device;
fail:
    bench_device_close(device);
    return NULL;
}

/* One ring of the doorbell; the request has this number. */
static void ring_once(struct bench_device *device, uint32_t id, const void *request,
                      uint32_t length, uint8_t *response, uint32_t *response_length,
                      uint32_t *error_code, uint64_t *ns)
{
    struct vgpu_device *model = &device->model;
    for (uint32_t at = 0; at < length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, (const uint8_t *)request + at, length - at < 8 ? length - at : 8);
        vgpu_device_write(model, VGPU_REG_REQUEST_BUF + at, word, 8, vgpu_now_ns());
    }
    vgpu_device_write(model, VGPU_REG_REQUEST_LEN, length, 4, vgpu_now_ns());
    vgpu_device_write(model, VGPU_REG_REQUEST_ID, id, 4, vgpu_now_ns());
    uint64_t start = vgpu_now_ns();
    uint64_t deadline_ns = start + (uint64_t)VGPU_DEVICE_TIMEOUT_MS_DEFAULT * 1000000u;
    vgpu_device_write(model, VGPU_REG_DOORBELL, 1, 4, start);
    while (vgpu_device_read(model, VGPU_REG_STATUS, 4, start) == VGPU_STATUS_BUSY) {
        serve(device, deadline_ns);
        if (vgpu_now_ns() >= deadline_ns)
            vgpu_device_timer(model, vgpu_now_ns());
    }
    uint64_t now = vgpu_now_ns();
    *ns += now - start;
    *error_code = (uint32_t)vgpu_device_read(model, VGPU_REG_ERROR_CODE, 4, now);
    *response_length = (uint32_t)vgpu_device_read(model, VGPU_REG_RESPONSE_LEN, 4, now);
    for (uint32_t at = 0; at < *response_length; at += 8) {
        uint64_t word = vgpu_device_read(model, VGPU_REG_RESPONSE_BUF + at, 8, now);
        memcpy(response + at, &word, 8);
    }
}

static bool exchange(void *state, const void *request, uint32_t length, uint8_t *response,
                     uint32_t *response_length, uint32_t *error_code, uint64_t *ns)
{
    struct bench_device *device = state;
    const uint32_t id = ++device->next_id;
    struct vgpu_answer parts;
    do /* under the same number while the host says "not yet" (P11): others may have the GPU */
        ring_once(device, id, request, length, response, response_length, error_code, ns);
    while (!*error_code && vgpu_response_parse(response, *response_length, &parts) == 0 &&
           parts.status == CUDA_ERROR_NOT_READY);
    return true;
}

struct bench_path bench_device_path(struct bench_device *device)
{
    return (struct bench_path){.name = "device", .state = device, .exchange = exchange};
}
