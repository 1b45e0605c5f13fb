/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the mediator's own structs to the answer of `stats`; see stats_json.h. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/parse.h"
#include "config.h"
#include "mediator/seat.h"
#include "mediator/stats_json.h"
#include "mediator/worker.h"

/* Of a gauge that a worker says: no more than makes sense, whatever it says. */
#define GAUGE_MAX 1000000u

static uint64_t gauge(const uint64_t *field)
{
    uint64_t value = __atomic_load_n(field, __ATOMIC_RELAXED);
    return value < GAUGE_MAX ? value : GAUGE_MAX;
}

/* NULL: it is on another page. */
static struct vgpu_stats_vm_now *now_of(struct vgpu_stats_now *now, const struct vgpu_tenant *t,
                                        uint32_t after)
{
    uint32_t index = t->stats->index;
    return index >= after && index - after < VGPU_STATS_PAGE ? &now->vms_now[index - after] : NULL;
}

/* A user's clients share accounts: each counts once. */
static void look_at_account(struct vgpu_quota *q, struct vgpu_stats_vm_now *vm)
{
    if (q->counted)
        return;
    q->counted = true;
    vm->memory_used += vgpu_quota_held(q);
    vm->memory_quota += q->quota_bytes;
}

static void look_at_tenant(struct vgpu_mediator *m, const struct vgpu_tenant *t,
                           struct vgpu_stats_vm_now *vm)
{
    uint64_t at = vgpu_loop_now(m->loop);
    t->stats->pool = t->pool;
    t->stats->gpu = t->seat->gpu;
    t->stats->priority = t->priority;
    if (t->link) {
        vm->attached = true;
        vm->clients++;
    }
    vm->sessions += t->session_count;
    vm->workers += t->worker_count;
    vm->mailbox += t->outstanding;
    for (uint32_t i = 0; i < VGPU_SEATS; i++) {
        const struct vgpu_seat *seat = &t->seats[i];
        if (!seat->taken)
            continue;
        vm->waiting |= seat->lease.waiting;
        vm->holding |= seat->lease.lease != 0;
        look_at_account(seat->quota, vm);
        vm->throttles += vgpu_lease_tenant_throttles(m->leases, &seat->lease, at);
    }
}

static void look_at_worker(struct vgpu_mediator *m, struct vgpu_worker *w,
                           struct vgpu_stats_vm_now *vm)
{
    const struct vgpu_usage *usage = vgpu_quota_usage(w->seat->quota, w->slot);
    vgpu_stats_take(m->stats, w->tenant->stats, w->seat->gpu, &w->seen, usage,
                    vgpu_loop_now(m->loop));
    vm->jobs += gauge(&usage->jobs);
    vm->pending += gauge(&usage->pending);
}

static void look_at_memory(struct vgpu_mediator *m, struct vgpu_stats_now *now)
{
    vgpu_list_each(node, &m->quotas)
    {
        struct vgpu_quota *q = vgpu_list_entry(node, struct vgpu_quota, node);
        uint64_t held = vgpu_quota_held(q);
        q->counted = false;
        if (q->gpu < VGPU_STATS_GPUS) {
            now->gpus[q->gpu].memory_used += held;
            now->gpus[q->gpu].contexts += vgpu_quota_contexts(q);
        }
    }
}

static void look_at_gpus(struct vgpu_mediator *m, struct vgpu_stats_now *now)
{
    static_assert(VGPU_MEDIATOR_MAX_GPUS == VGPU_STATS_GPUS, "one each");
    now->gpu_count = m->gpu_count;
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        const struct vgpu_gpu *gpu = &m->gpus[i];
        struct vgpu_stats_gpu_now *g = &now->gpus[i];
        g->backend = vgpu_backend_name(gpu->setting.backend);
        g->pool = gpu->pool;
        g->memory_bytes = gpu->setting.memory_bytes;
        g->vms = gpu->tenants;
        if (gpu->setting.by_uuid)
            vgpu_uuid_write(g->name, gpu->setting.uuid);
        else
            snprintf(g->name, sizeof(g->name), "%s:%u", g->backend,
                     gpu->setting.backend == VGPU_GPU_CUDA ? gpu->setting.ordinal : i);
    }
}

static void look(struct vgpu_mediator *m, struct vgpu_stats_now *now, uint32_t after)
{
    look_at_gpus(m, now);
    for (uint32_t i = 0; i < m->slot_count; i++) {
        const struct vgpu_tenant *t = m->tenants[i];
        struct vgpu_stats_vm_now *vm = t ? now_of(now, t, after) : NULL;
        if (vm)
            look_at_tenant(m, t, vm);
        now->vms += t && t->link;
    }
    vgpu_list_each(node, &m->workers)
    {
        struct vgpu_worker *w = vgpu_list_entry(node, struct vgpu_worker, node);
        struct vgpu_stats_vm_now *vm = now_of(now, w->tenant, after);
        if (vm)
            look_at_worker(m, w, vm);
        now->gpus[w->seat->gpu].workers++;
        now->workers++;
    }
    look_at_memory(m, now);
    vgpu_list_each(node, &m->links)
    {
        now->links++;
    }
}

char *vgpu_stats_answer(struct vgpu_mediator *m, uint32_t after)
{
    struct vgpu_stats_now *now = calloc(1, sizeof(*now));
    if (!now)
        return NULL;
    now->now_ns = vgpu_loop_now(m->loop);
    now->start_time_s = m->start_time_s;
    now->pid = (uint32_t)getpid();
    now->version = VGPU_VERSION;
    now->log_dropped = vgpu_log_dropped();
    look(m, now, after);
    char *text = vgpu_stats_json(m->stats, now, after);
    free(now);
    return text;
}
