/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring; see events.h. */
#include "mediator/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

int64_t vgpu_events_time_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void vgpu_events_add(struct vgpu_events *events, const char *name, int64_t vm, uint32_t gpu,
                     const char *format, ...)
{
    va_list args;
    if (!events)
        return;
    uint64_t seq = ++events->last;
    struct vgpu_event *e = &events->ring[seq % VGPU_EVENTS_KEPT];
    e->seq = seq;
    e->time_ms = vgpu_events_time_ms();
    e->name = name;
    e->vm = vm;
    e->gpu = gpu;
    va_start(args, format);
    vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    if (events->told)
        events->told(events->context);
}

const struct vgpu_event *vgpu_events_after(const struct vgpu_events *events, uint64_t since,
                                           uint64_t *lost)
{
    uint64_t oldest = events->last >= VGPU_EVENTS_KEPT ? events->last - VGPU_EVENTS_KEPT + 1 : 1;
    *lost = 0;
    if (since >= events->last)
        return NULL;
    if (since + 1 < oldest) {
        *lost = oldest - since - 1;
        since = oldest - 1;
    }
    return &events->ring[(since + 1) % VGPU_EVENTS_KEPT];
}
