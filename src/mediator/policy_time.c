/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the mediator changes by itself: it ends quarantines and drains when their time is over, and
 * puts into quarantine who had too many faults; see policy.h.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "mediator/enforce.h"
#include "mediator/events.h"
#include "mediator/mark.h"
#include "mediator/policy.h"

#define CHECK_NS (60 * VGPU_NS_PER_S) /* the time of day may be set meanwhile */

/* Its own changes wait behind those of clients. One that finds no memory does not outlast the
 * mediator, and holds all the same. */
static struct vgpu_policy_change *own_change(struct vgpu_policy *p, enum vgpu_change_op op)
{
    struct vgpu_policy_change *c =
        p->waiting_count < VGPU_POLICY_WAITING ? vgpu_policy_change_new() : NULL;
    if (!c)
        return NULL;
    c->change.op = op;
    vgpu_policy_push(p, c);
    return c;
}

static struct vgpu_policy_change *own_change_of_vm(struct vgpu_policy *p, enum vgpu_change_op op,
                                                   uint64_t key)
{
    uint32_t *vm = key > UINT32_MAX ? NULL : malloc(sizeof(*vm)); /* users have no rows */
    struct vgpu_policy_change *c = vm ? own_change(p, op) : NULL;
    if (!c) {
        free(vm);
        return NULL;
    }
    *vm = (uint32_t)key;
    c->change.said = VGPU_FIELD_VMS;
    c->change.vms = vm;
    c->change.vm_count = 1;
    return c;
}

static void quarantine(struct vgpu_policy *p, struct vgpu_mark *mark)
{
    struct vgpu_registry_aside aside = {
        .until_ms = vgpu_plan_until(vgpu_events_time_ms(), p->m->settings->quarantine_s)};
    memcpy(aside.reason, mark->due_reason, sizeof(aside.reason));
    mark->due = false;
    vgpu_enforce_quarantine(p->m, mark->key, &aside, "by the mediator");
    struct vgpu_policy_change *c = own_change_of_vm(p, VGPU_CHANGE_QUARANTINE, mark->key);
    if (c)
        memcpy(c->change.reason, aside.reason, sizeof(c->change.reason));
}

static void see_to_marks(struct vgpu_policy *p, int64_t now_ms, int64_t *next_ms)
{
    static const struct vgpu_registry_aside none = {0};
    struct vgpu_mediator *m = p->m;
    vgpu_list_each(node, &m->marks)
    {
        struct vgpu_mark *mark = vgpu_list_entry(node, struct vgpu_mark, node);
        mark->users++; /* it stays until all is done */
        if (vgpu_aside_over(&mark->quarantine, now_ms, next_ms)) {
            vgpu_enforce_quarantine(m, mark->key, &none, "by time");
            own_change_of_vm(p, VGPU_CHANGE_RELEASE, mark->key);
        }
        if (vgpu_aside_over(&mark->drain, now_ms, next_ms)) {
            vgpu_enforce_drain(m, mark->key, &none, "by time");
            own_change_of_vm(p, VGPU_CHANGE_UNDRAIN, mark->key);
        }
        if (mark->due)
            quarantine(p, mark);
        vgpu_mark_put(mark);
    }
}

static void see_to_places(struct vgpu_policy *p, int64_t now_ms, int64_t *next_ms)
{
    struct vgpu_mediator *m = p->m;
    for (uint32_t i = 0; i < VGPU_REGISTRY_POOLS; i++) {
        struct vgpu_registry_pool *pool = &p->state.pools[i];
        if (!pool->pool || !vgpu_aside_over(&pool->drain, now_ms, next_ms))
            continue;
        pool->drain = (struct vgpu_registry_aside){0};
        struct vgpu_policy_change *c = own_change(p, VGPU_CHANGE_UNDRAIN);
        if (c) {
            c->change.said = VGPU_FIELD_POOL;
            c->change.pool = (char)('A' + i);
        }
    }
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        if (!vgpu_aside_over(&m->gpus[i].drain, now_ms, next_ms))
            continue;
        m->gpus[i].drain = (struct vgpu_registry_aside){0};
        struct vgpu_policy_change *c = own_change(p, VGPU_CHANGE_UNDRAIN);
        if (c) {
            c->change.said = VGPU_FIELD_GPU;
            c->change.gpu = (struct vgpu_change_gpu){.by_number = true, .number = i};
        }
    }
}

void vgpu_policy_on_timer(struct vgpu_timer *timer)
{
    struct vgpu_policy *p = vgpu_list_entry(timer, struct vgpu_policy, timer);
    int64_t now_ms = vgpu_events_time_ms(), next_ms = INT64_MAX;
    see_to_marks(p, now_ms, &next_ms);
    see_to_places(p, now_ms, &next_ms);
    if (next_ms != INT64_MAX) {
        uint64_t now = vgpu_loop_now(p->m->loop);
        uint64_t after = (uint64_t)(next_ms - now_ms) * VGPU_NS_PER_MS;
        vgpu_loop_timer_set(p->m->loop, &p->timer, now + (after < CHECK_NS ? after : CHECK_NS));
    }
    vgpu_policy_pump(p); /* what it applies may look again sooner */
    vgpu_mediator_schedule(p->m);
}

void vgpu_policy_look(struct vgpu_mediator *m)
{
    vgpu_loop_timer_set(m->loop, &m->policy->timer, vgpu_loop_now(m->loop));
}
