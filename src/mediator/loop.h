/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: descriptors through epoll, timers in a heap. One thread. A callback may add,
 * change and remove any source or timer, its own included; what was removed is never called again.
 * It knows nothing of what the descriptors are.
 */
#ifndef VGPU_MEDIATOR_LOOP_H
#define VGPU_MEDIATOR_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct vgpu_loop;

/* Zero it, set fd and call, then add. Lives in its owner; fd is the owner's to close. */
struct vgpu_source {
    int fd;
    void (*call)(struct vgpu_source *source, uint32_t events); /* EPOLL* */
    uint32_t events;
    bool added;
};

/* Zero it and set call, then set a time. */
struct vgpu_timer {
    void (*call)(struct vgpu_timer *timer);
    uint64_t at_ns;
    uint32_t place; /* 1 + index in the heap, 0: not set */
};

struct vgpu_loop *vgpu_loop_create(void); /* NULL: no memory or no descriptors; errno says which */
void vgpu_loop_destroy(struct vgpu_loop *loop);

int vgpu_loop_add(struct vgpu_loop *loop, struct vgpu_source *source, uint32_t events);
int vgpu_loop_change(struct vgpu_loop *loop, struct vgpu_source *source, uint32_t events);
/* Before its descriptor is closed. Does nothing when it was not added. */
void vgpu_loop_remove(struct vgpu_loop *loop, struct vgpu_source *source);

/* Sets or moves a timer; VGPU_NS_NEVER cancels it. 0 or -ENOMEM. */
int vgpu_loop_timer_set(struct vgpu_loop *loop, struct vgpu_timer *timer, uint64_t at_ns);
void vgpu_loop_timer_cancel(struct vgpu_loop *loop, struct vgpu_timer *timer);

/* CLOCK_MONOTONIC at the start of this round of callbacks. */
uint64_t vgpu_loop_now(const struct vgpu_loop *loop);

/* Runs until vgpu_loop_stop. 0 or a negative errno. */
int vgpu_loop_run(struct vgpu_loop *loop);
void vgpu_loop_stop(struct vgpu_loop *loop);

#endif
