/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker cannot do without; see attempts.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "attempts.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static int use_memory(void)
{
    static const size_t sizes[] = {24, 4000, 300000, 64u << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *p = malloc(sizes[i]);
        if (!p)
            return ENOMEM;
        memset(p, 1, sizes[i]);
        char *q = realloc(p, 2 * sizes[i]);
        if (!q) {
            free(p);
            return ENOMEM;
        }
        q[2 * sizes[i] - 1] = 1;
        free(q);
    }
    char *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (m == MAP_FAILED)
        return errno;
    m[0] = 1;
    if (madvise(m, PAGE, MADV_DONTNEED) || m[0] || mprotect(m, PAGE, PROT_READ))
        return errno ? errno : EIO;
    return attempt_answer(munmap(m, PAGE));
}

struct handover {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool there;
};

static void *hand_over(void *arg)
{
    struct handover *h = arg;
    void *own = malloc(100000); /* an arena of this thread's own */
    pthread_mutex_lock(&h->lock);
    h->there = own != NULL;
    pthread_cond_broadcast(&h->cond);
    pthread_mutex_unlock(&h->lock);
    free(own);
    return arg;
}

static int use_threads(void)
{
    struct handover h = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    pthread_t thread;
    void *result = NULL;
    int rc = pthread_create(&thread, NULL, hand_over, &h);
    if (rc)
        return rc;
    pthread_mutex_lock(&h.lock);
    while (!h.there)
        pthread_cond_wait(&h.cond, &h.lock);
    pthread_mutex_unlock(&h.lock);
    rc = pthread_join(thread, &result);
    return rc ? rc : result == &h ? 0 : EIO;
}

static int use_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t n = 1;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec now = {0, 0};
    if (fd < 0 || write(fd, &n, sizeof(n)) != sizeof(n) || poll(&p, 1, 0) != 1 ||
        ppoll(&p, 1, &now, NULL) != 1 || read(fd, &n, sizeof(n)) != sizeof(n))
        return errno ? errno : EIO;
    return attempt_answer(close(fd));
}

/* The test has put a packet there. */
static int use_the_socket(void)
{
    char in[16] = "", out[] = "pong";
    struct iovec to = {.iov_base = in, .iov_len = sizeof(in)};
    struct iovec from = {.iov_base = out, .iov_len = sizeof(out)};
    struct msghdr message = {.msg_iov = &to, .msg_iovlen = 1};
    if (recvmsg(VGPU_WORKER_FD, &message, MSG_DONTWAIT) != 5 || strcmp(in, "ping") != 0)
        return errno ? errno : EIO;
    message = (struct msghdr){.msg_iov = &from, .msg_iovlen = 1};
    return attempt_answer(sendmsg(VGPU_WORKER_FD, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

static int use_clocks(void)
{
    struct timespec t, little = {.tv_nsec = 1000};
    if (clock_gettime(CLOCK_MONOTONIC, &t) || clock_gettime(CLOCK_REALTIME, &t))
        return errno;
    return attempt_answer(nanosleep(&little, NULL));
}

static int write_a_line(void)
{
    return attempt_answer(write(STDERR_FILENO, "", 0));
}

static int read_limits(void)
{
    struct rlimit l;
    return attempt_answer(getrlimit(RLIMIT_NOFILE, &l));
}

static int end_by_abort(void)
{
    abort();
}

const struct attempt needs[] = {
    {"memory", use_memory, WORKS, WORKS, false, false},
    {"threads", use_threads, WORKS, WORKS, false, false},
    {"eventfd and poll", use_eventfd, WORKS, WORKS, false, false},
    {"the socket", use_the_socket, WORKS, WORKS, false, false},
    {"clocks", use_clocks, WORKS, WORKS, false, false},
    {"stderr", write_a_line, WORKS, WORKS, false, false},
    {"getrlimit", read_limits, WORKS, WORKS, false, false},
    {"abort", end_by_abort, ABORTED, ABORTED, false, false},
    {NULL, NULL, WORKS, WORKS, false, false},
};
