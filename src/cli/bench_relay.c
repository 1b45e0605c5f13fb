/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The least that a way through the same sockets can cost: this process sends a message over a Unix
 * stream to a relay process, which hands it on over a sequenced-packet socket to an echo process,
 * and the answer comes back the same way. Same number of processes, sockets, wake-ups and bytes as
 * device, mediator and worker; nothing is parsed, checked or decided.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/bench.h"
#include "guest/deadline.h"
#include "vgpu/link.h"
#include "vgpu/worker.h"

#define LINK_OVERHEAD   (sizeof(struct vgpu_link_header) + sizeof(struct vgpu_link_request))
#define WORKER_OVERHEAD (sizeof(struct vgpu_worker_header) + sizeof(struct vgpu_worker_request))
#define MESSAGE_MAX     2048u

struct bench_relay {
    int fd;
    pid_t relay, echo;
    uint32_t request_bytes, response_bytes;
};

static bool receive_all(int fd, uint8_t *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = recv(fd, bytes + done, length - done, 0);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* The worker's place: waits for a packet, answers one. */
static void run_echo(int fd, uint32_t response_bytes)
{
    uint8_t bytes[MESSAGE_MAX] = {0};
    while (recv(fd, bytes, sizeof(bytes), 0) > 0)
        if (send(fd, bytes, response_bytes + WORKER_OVERHEAD, MSG_NOSIGNAL) < 0)
            break;
    _exit(0);
}

/* The mediator's place: one event loop over both sockets. */
static void run_relay(int stream, int packet, uint32_t request_bytes, uint32_t response_bytes)
{
    uint8_t bytes[MESSAGE_MAX] = {0};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = stream};
    epoll_ctl(loop, EPOLL_CTL_ADD, stream, &event);
    event.data.fd = packet;
    epoll_ctl(loop, EPOLL_CTL_ADD, packet, &event);
    for (;;) {
        if (epoll_wait(loop, &event, 1, -1) != 1)
            continue;
        if (event.data.fd == stream) {
            if (!receive_all(stream, bytes, request_bytes + LINK_OVERHEAD) ||
                send(packet, bytes, request_bytes + WORKER_OVERHEAD, MSG_NOSIGNAL) < 0)
                _exit(0);
        } else {
            if (recv(packet, bytes, sizeof(bytes), 0) <= 0 ||
                send(stream, bytes, response_bytes + LINK_OVERHEAD, MSG_NOSIGNAL) < 0)
                _exit(0);
        }
    }
}

struct bench_relay *bench_relay_open(uint32_t request_bytes, uint32_t response_bytes)
{
    int stream[2] = {-1, -1}, packet[2] = {-1, -1};
    struct bench_relay *relay = calloc(1, sizeof(*relay));
    if (!relay || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packet) < 0) {
        fprintf(stderr, "vgpu-bench: no sockets for the relay: %s\n", strerror(errno));
        free(relay);
        if (stream[0] >= 0) {
            close(stream[0]);
            close(stream[1]);
        }
        return NULL;
    }
    relay->request_bytes = request_bytes;
    relay->response_bytes = response_bytes;
    relay->echo = fork();
    if (relay->echo == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(stream[0]);
        close(stream[1]);
        close(packet[0]);
        run_echo(packet[1], response_bytes);
    }
    relay->relay = fork();
    if (relay->relay == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(stream[0]);
        close(packet[1]);
        run_relay(stream[1], packet[0], request_bytes, response_bytes);
    }
    close(stream[1]);
    close(packet[0]);
    close(packet[1]);
    relay->fd = stream[0];
    return relay;
}

bool bench_relay_round(struct bench_relay *relay, uint64_t *ns)
{
    uint8_t bytes[MESSAGE_MAX] = {0};
    uint64_t start = vgpu_now_ns();
    if (send(relay->fd, bytes, relay->request_bytes + LINK_OVERHEAD, MSG_NOSIGNAL) < 0)
        return false;
    /* As a hypervisor does: its event loop says when there is something to read. */
    if (poll(&(struct pollfd){.fd = relay->fd, .events = POLLIN}, 1, 30000) != 1 ||
        !receive_all(relay->fd, bytes, relay->response_bytes + LINK_OVERHEAD))
        return false;
    *ns += vgpu_now_ns() - start;
    return true;
}

void bench_relay_close(struct bench_relay *relay)
{
    if (!relay)
        return;
    close(relay->fd); /* ends the relay, and that ends the echo */
    if (relay->relay > 0)
        waitpid(relay->relay, NULL, 0);
    if (relay->echo > 0)
        waitpid(relay->echo, NULL, 0);
    free(relay);
}
