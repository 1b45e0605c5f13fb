/* SPDX-License-Identifier: GPL-2.0-or-later */
/* epoll and a binary heap of timers; see loop.h. */
#include "mediator/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"

#define BATCH 64

struct vgpu_loop {
    int epoll_fd;
    bool stop;
    uint64_t now_ns;
    struct vgpu_timer **heap; /* earliest first */
    uint32_t timer_count, timer_room;
    struct epoll_event batch[BATCH];
    int batch_next, batch_count; /* events still to be delivered in this round */
};

struct vgpu_loop *vgpu_loop_create(void)
{
    struct vgpu_loop *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd < 0) {
        int saved_errno = errno;
        free(l);
        errno = saved_errno;
        return NULL;
    }
    l->now_ns = vgpu_clock_ns();
    return l;
}

void vgpu_loop_destroy(struct vgpu_loop *l)
{
    if (!l)
        return;
    close(l->epoll_fd);
    free(l->heap);
    free(l);
}

int vgpu_loop_add(struct vgpu_loop *l, struct vgpu_source *source, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = source};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, source->fd, &e))
        return -errno;
    source->events = events;
    source->added = true;
    return 0;
}

int vgpu_loop_change(struct vgpu_loop *l, struct vgpu_source *source, uint32_t events)
{
    if (!source->added || source->events == events)
        return 0;
    struct epoll_event e = {.events = events, .data.ptr = source};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, source->fd, &e))
        return -errno;
    source->events = events;
    return 0;
}

void vgpu_loop_remove(struct vgpu_loop *l, struct vgpu_source *source)
{
    if (!source->added)
        return;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->added = false;
    /* It may stand further on in the round that is being delivered. */
    for (int i = l->batch_next; i < l->batch_count; i++)
        if (l->batch[i].data.ptr == source)
            l->batch[i].data.ptr = NULL;
}

static void place(struct vgpu_loop *l, uint32_t index, struct vgpu_timer *timer)
{
    l->heap[index] = timer;
    timer->place = index + 1;
}

static void sift_up(struct vgpu_loop *l, uint32_t index)
{
    struct vgpu_timer *timer = l->heap[index];
    while (index && l->heap[(index - 1) / 2]->at_ns > timer->at_ns) {
        place(l, index, l->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(l, index, timer);
}

static void sift_down(struct vgpu_loop *l, uint32_t index)
{
    struct vgpu_timer *timer = l->heap[index];
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child + 1 < l->timer_count && l->heap[child + 1]->at_ns < l->heap[child]->at_ns)
            child++;
        if (child >= l->timer_count || l->heap[child]->at_ns >= timer->at_ns)
            break;
        place(l, index, l->heap[child]);
        index = child;
    }
    place(l, index, timer);
}

void vgpu_loop_timer_cancel(struct vgpu_loop *l, struct vgpu_timer *timer)
{
    if (!timer->place)
        return;
    uint32_t index = timer->place - 1;
    timer->place = 0;
    struct vgpu_timer *last = l->heap[--l->timer_count];
    if (last == timer)
        return;
    place(l, index, last);
    sift_up(l, index);
    sift_down(l, last->place - 1);
}

int vgpu_loop_timer_set(struct vgpu_loop *l, struct vgpu_timer *timer, uint64_t at_ns)
{
    vgpu_loop_timer_cancel(l, timer);
    if (at_ns == VGPU_NS_NEVER)
        return 0;
    if (l->timer_count == l->timer_room) {
        uint32_t room = l->timer_room ? 2 * l->timer_room : 64;
        struct vgpu_timer **heap = realloc(l->heap, room * sizeof(*heap));
        if (!heap)
            return -ENOMEM;
        l->heap = heap;
        l->timer_room = room;
    }
    timer->at_ns = at_ns;
    place(l, l->timer_count++, timer);
    sift_up(l, l->timer_count - 1);
    return 0;
}

uint64_t vgpu_loop_now(const struct vgpu_loop *l)
{
    return l->now_ns;
}

static int wait_ms(const struct vgpu_loop *l)
{
    if (!l->timer_count)
        return -1;
    uint64_t now = vgpu_clock_ns();
    if (l->heap[0]->at_ns <= now)
        return 0;
    uint64_t ms = (l->heap[0]->at_ns - now + VGPU_NS_PER_MS - 1) / VGPU_NS_PER_MS;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* Timers that are set while these run wait for the next round, so that none can starve the rest. */
static void run_timers(struct vgpu_loop *l)
{
    uint64_t until = l->now_ns;
    for (uint32_t budget = l->timer_count; budget && !l->stop; budget--) {
        if (!l->timer_count || l->heap[0]->at_ns > until)
            break;
        struct vgpu_timer *timer = l->heap[0];
        vgpu_loop_timer_cancel(l, timer);
        timer->call(timer);
    }
}

int vgpu_loop_run(struct vgpu_loop *l)
{
    l->stop = false;
    while (!l->stop) {
        int n = epoll_wait(l->epoll_fd, l->batch, BATCH, wait_ms(l));
        if (n < 0 && errno != EINTR)
            return -errno;
        l->now_ns = vgpu_clock_ns();
        l->batch_count = n > 0 ? n : 0;
        for (l->batch_next = 0; l->batch_next < l->batch_count && !l->stop;) {
            struct epoll_event *e = &l->batch[l->batch_next++];
            struct vgpu_source *source = e->data.ptr;
            if (source)
                source->call(source, e->events);
        }
        l->batch_count = 0;
        if (!l->stop)
            run_timers(l);
    }
    return 0;
}

void vgpu_loop_stop(struct vgpu_loop *l)
{
    l->stop = true;
}
