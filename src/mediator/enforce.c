/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decisions, done to who is attached; see enforce.h. */
#include "mediator/enforce.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/names.h"
#include "mediator/admit.h"
#include "mediator/broker.h"
#include "mediator/events.h"
#include "mediator/link.h"
#include "mediator/mark.h"
#include "mediator/policy.h"
#include "mediator/pools.h"
#include "mediator/seat.h"
#include "mediator/tenant.h"
#include "vgpu/curesult.h"

/* --- where it is --- */

static bool is_good(const struct vgpu_mediator *m, const struct vgpu_tenant *t, uint32_t gpu)
{
    return m->gpus[gpu].pool == t->pool && !vgpu_pools_gpu_drained(m, gpu) && !m->gpus[gpu].stuck;
}

static struct vgpu_sched_tenant share_of(const struct vgpu_tenant *t)
{
    return t->seat->lease.is;
}

void vgpu_enforce_seat(struct vgpu_mediator *m, struct vgpu_tenant *t)
{
    uint32_t from = t->seat->gpu;
    if (is_good(m, t, from))
        return;
    uint64_t memory = t->seat->quota->quota_bytes;
    uint32_t gpu = vgpu_seat_choose(m, t->pool, memory);
    struct vgpu_sched_tenant share = share_of(t);
    /* Of two that are no good, that of its pool is the better one. */
    if (gpu == VGPU_SEAT_NONE || (!is_good(m, t, gpu) && m->gpus[from].pool == t->pool) ||
        vgpu_seat_move(m, t, gpu, &share, memory) || gpu == from)
        return;
    vgpu_log(VGPU_LOG_INFO, "moved", "vm=%u pool=%c gpu=%u from=%u", t->vm_id, t->pool, gpu, from);
    vgpu_events_add(m->events, "moved", t->vm_id, gpu, "from GPU %u, pool %c", from, t->pool);
}

void vgpu_enforce_seats(struct vgpu_mediator *m, uint32_t gpu, char pool)
{
    for (uint32_t i = 0; i < m->slot_count; i++) {
        struct vgpu_tenant *t = m->tenants[i];
        if (t && t->link && (!pool || t->pool == pool) && t->seat->gpu == gpu)
            vgpu_enforce_seat(m, t);
    }
}

bool vgpu_enforce_start(struct vgpu_tenant *t, char *why)
{
    struct vgpu_mediator *m = t->link->mediator;
    const char *reason;
    if (vgpu_mark_drained(t->mark)) {
        snprintf(why, 128, "vm %u is being drained: no new sessions (%.60s)", t->vm_id,
                 t->mark->drain.reason);
        return false;
    }
    if (vgpu_pools_drained(m, t->pool)) {
        snprintf(why, 128, "pool %c is being drained: no new sessions", t->pool);
        return false;
    }
    vgpu_enforce_seat(m, t);
    uint32_t gpu = t->seat->gpu;
    if (m->gpus[gpu].pool != t->pool)
        reason = "is of another pool now, and sessions on yet another one have not ended";
    else if (vgpu_pools_gpu_drained(m, gpu))
        reason = "is being drained, and its pool has no other: no new sessions";
    else
        return true; /* a worker that does not die may die yet */
    snprintf(why, 128, "GPU %u %s", gpu, reason);
    return false;
}

/* --- what it is --- */

static void show(struct vgpu_tenant *t)
{
    uint8_t message[VGPU_FRAME_MAX];
    vgpu_link_send(t->link, message,
                   vgpu_frame_welcome(message, VGPU_LINK_UPDATE, t->features, t->vm_id,
                                      (uint32_t)t->pool, t->priority));
}

void vgpu_enforce_settings(struct vgpu_mediator *m, struct vgpu_tenant *t)
{
    const struct vgpu_vm_setting *vm = t->link->endpoint
                                           ? vgpu_settings_vm(m->settings, t->vm_id)
                                           : vgpu_settings_local(m->settings, t->link->local_uid);
    char pool = vm && vm->pool ? vm->pool : t->wish_pool, before = t->pool;
    uint32_t priority = vm && vm->priority >= 0 ? (uint32_t)vm->priority : t->wish_priority;
    uint64_t memory = vm && vm->memory ? vm->memory : m->settings->default_memory;
    struct vgpu_sched_tenant share = vgpu_admit_share(vm, priority, t->seat->gpu);
    bool shown = priority != t->priority;
    t->max_sessions = vm && vm->sessions ? vm->sessions : m->settings->default_sessions;
    t->queue = vm && vm->queue ? vm->queue : m->settings->default_queue;
    t->priority = priority;
    vgpu_seat_change(m, t, &share, memory);
    /* A pool that lost its GPUs meanwhile is none to go to. */
    if (pool != before && vgpu_seat_choose(m, pool, memory) != VGPU_SEAT_NONE) {
        t->pool = pool;
        shown = true;
        vgpu_enforce_seat(m, t);
    }
    if (!shown)
        return;
    vgpu_log(VGPU_LOG_INFO, "updated", "vm=%u pool=%c priority=%s", t->vm_id, t->pool,
             vgpu_priority_name(t->priority));
    show(t);
}

/* --- what is held against it --- */

static bool same(const struct vgpu_registry_aside *a, const struct vgpu_registry_aside *b)
{
    return a->until_ms == b->until_ms && !strcmp(a->reason, b->reason);
}

static void name_of(uint64_t key, char *name, size_t size)
{
    snprintf(name, size, "%s=%u", key > UINT32_MAX ? "uid" : "vm", (uint32_t)key);
}

static int64_t vm_of(uint64_t key)
{
    return key > UINT32_MAX ? VGPU_EVENT_NO_VM : (int64_t)key;
}

/* Sets it; whether that began or ended something. */
static bool set(struct vgpu_mediator *m, struct vgpu_registry_aside *is,
                const struct vgpu_registry_aside *to, const char *what[2], uint64_t key,
                const char *how)
{
    char name[32], quoted[200];
    bool on = to->until_ms != 0, was = is->until_ms != 0;
    if (same(is, to))
        return false;
    *is = *to;
    name_of(key, name, sizeof(name));
    vgpu_log(on ? VGPU_LOG_WARN : VGPU_LOG_INFO, what[on], "%s how=\"%s\" reason=%s", name, how,
             vgpu_log_quote(quoted, sizeof(quoted), to->reason, strlen(to->reason)));
    vgpu_events_add(m->events, what[on], vm_of(key), VGPU_EVENT_NONE, "%s%s%s", how,
                    to->reason[0] ? ": " : "", to->reason);
    vgpu_policy_look(m);
    return on != was;
}

void vgpu_enforce_quarantine(struct vgpu_mediator *m, uint64_t key,
                             const struct vgpu_registry_aside *aside, const char *how)
{
    static const char *what[2] = {"release", "quarantine"};
    if (!aside->until_ms && !vgpu_mark_find(&m->marks, key))
        return;
    struct vgpu_mark *mark = vgpu_mark_get(&m->marks, key);
    if (!mark)
        return;
    bool changed = set(m, &mark->quarantine, aside, what, key, how);
    if (changed && !aside->until_ms)
        vgpu_mark_forgive(mark);
    for (uint32_t i = 0; changed && aside->until_ms && i < m->slot_count; i++)
        if (m->tenants[i] && m->tenants[i]->account == key && m->tenants[i]->link)
            vgpu_broker_expel(m->tenants[i], VGPU_ERR_QUARANTINED);
    vgpu_mark_put(mark);
}

void vgpu_enforce_drain(struct vgpu_mediator *m, uint64_t key,
                        const struct vgpu_registry_aside *aside, const char *how)
{
    static const char *what[2] = {"undrain", "drain"};
    if (!aside->until_ms && !vgpu_mark_find(&m->marks, key))
        return;
    struct vgpu_mark *mark = vgpu_mark_get(&m->marks, key);
    if (!mark)
        return;
    set(m, &mark->drain, aside, what, key, how);
    vgpu_mark_put(mark);
}

/* --- faults --- */

bool vgpu_enforce_is_fault(uint32_t status)
{
    switch (status) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
        return true;
    }
    return false;
}

void vgpu_enforce_fault(struct vgpu_mediator *m, struct vgpu_tenant *t, bool watchdog,
                        const char *reason)
{
    const struct vgpu_settings *s = m->settings;
    struct vgpu_mark *mark = t->mark;
    vgpu_events_add(m->events, watchdog ? "watchdog" : "fault", t->vm_id, t->seat->gpu, "%s",
                    reason);
    bool many = vgpu_mark_fault(mark, watchdog ? VGPU_MARK_WATCHDOG : 1, s->quarantine_faults,
                                s->quarantine_window_s * VGPU_NS_PER_S, vgpu_loop_now(m->loop));
    if (!many || mark->due || vgpu_mark_quarantined(mark))
        return;
    /* Not now: this may be in the middle of a decision about leases. */
    mark->due = true;
    mark->due_vm = t->vm_id;
    snprintf(mark->due_reason, sizeof(mark->due_reason), "%u faults in %u s, the last: %.100s",
             s->quarantine_faults, s->quarantine_window_s, reason);
    vgpu_policy_look(m);
}
