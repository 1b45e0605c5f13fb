/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happened lately, in memory, for the operation `events` (docs/control.md K14): a ring of the
 * newest, each with a number that is never used twice. Pure but for the time of day. One thread.
 */
#ifndef VGPU_MEDIATOR_EVENTS_H
#define VGPU_MEDIATOR_EVENTS_H

#include <stdint.h>

#define VGPU_EVENTS_KEPT 4096u
#define VGPU_EVENT_NONE  UINT32_MAX /* no GPU */
#define VGPU_EVENT_NO_VM INT64_C(-1)

struct vgpu_event {
    uint64_t seq;
    int64_t time_ms;  /* since 1970 */
    const char *name; /* a literal */
    int64_t vm;       /* or VGPU_EVENT_NO_VM */
    uint32_t gpu;     /* or VGPU_EVENT_NONE */
    char text[192];
};

struct vgpu_events {
    uint64_t last;               /* seq of the newest; 0: there was none */
    void (*told)(void *context); /* there is a new one; NULL: nobody listens */
    void *context;
    struct vgpu_event ring[VGPU_EVENTS_KEPT];
};

/* ms since 1970. */
int64_t vgpu_events_time_ms(void);

/* events may be NULL: nobody can ask. */
void vgpu_events_add(struct vgpu_events *events, const char *name, int64_t vm, uint32_t gpu,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The oldest that is kept with a number above since; NULL: there is none. *lost counts those above
 * since that are not kept. */
const struct vgpu_event *vgpu_events_after(const struct vgpu_events *events, uint64_t since,
                                           uint64_t *lost);

#endif
