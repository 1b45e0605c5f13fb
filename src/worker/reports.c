/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the engine to the mediator; see reports.h. */
#include "worker/reports.h"

#include <unistd.h>

void vgpu_reports_init(struct vgpu_reports *r, int fd)
{
    pthread_mutex_init(&r->lock, NULL);
    r->fd = fd;
    r->first = r->count = 0;
}

void vgpu_reports_destroy(struct vgpu_reports *r)
{
    pthread_mutex_destroy(&r->lock);
}

bool vgpu_reports_put(struct vgpu_reports *r, const struct vgpu_report *report)
{
    pthread_mutex_lock(&r->lock);
    bool room = r->count < VGPU_REPORTS_MAX;
    if (room)
        r->report[(r->first + r->count++) % VGPU_REPORTS_MAX] = *report;
    pthread_mutex_unlock(&r->lock);
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the descriptor is readable anyway. */
    if (write(r->fd, &one, sizeof(one)) < 0)
        return room;
    return room;
}

bool vgpu_reports_take(struct vgpu_reports *r, struct vgpu_report *report)
{
    pthread_mutex_lock(&r->lock);
    bool some = r->count > 0;
    if (some) {
        *report = r->report[r->first];
        r->first = (r->first + 1) % VGPU_REPORTS_MAX;
        r->count--;
    }
    pthread_mutex_unlock(&r->lock);
    return some;
}
