/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GPUs and pools; see pools.h. */
#include "mediator/pools.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"
#include "mediator/enforce.h"
#include "mediator/events.h"
#include "mediator/inventory.h"
#include "mediator/overlay.h"
#include "registry/writer.h"

#define SPARE_GPUS 16u /* that a running mediator can have besides those of its start (K25) */

/* --- the table --- */

bool vgpu_pools_shown(const struct vgpu_gpu *gpu)
{
    return gpu->pool || gpu->setting.backend == VGPU_GPU_CUDA;
}

void vgpu_pools_gpu_name(const struct vgpu_mediator *m, uint32_t gpu, char *name)
{
    const struct vgpu_gpu *g = &m->gpus[gpu];
    if (g->setting.backend == VGPU_GPU_SOFTWARE)
        snprintf(name, VGPU_REGISTRY_GPU_NAME, "software:%u", gpu);
    else if (g->has_uuid)
        vgpu_uuid_write(name, g->uuid);
    else
        vgpu_overlay_gpu_name(&g->setting, name);
}

uint32_t vgpu_pools_find_gpu(const struct vgpu_mediator *m, const struct vgpu_change_gpu *gpu)
{
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        char name[VGPU_REGISTRY_GPU_NAME];
        vgpu_pools_gpu_name(m, i, name);
        if (vgpu_pools_shown(&m->gpus[i]) &&
            (gpu->by_number ? gpu->number == i : !strcmp(gpu->name, name)))
            return i;
    }
    return UINT32_MAX;
}

bool vgpu_pools_gpu_drained(const struct vgpu_mediator *m, uint32_t gpu)
{
    return m->gpus[gpu].drain.until_ms != 0;
}

bool vgpu_pools_drained(const struct vgpu_mediator *m, char pool)
{
    return m->policy->state.pools[pool - 'A'].drain.until_ms != 0;
}

bool vgpu_pools_is_free(const struct vgpu_gpu *gpu)
{
    return !gpu->pool && gpu->setting.backend == VGPU_GPU_SOFTWARE && !gpu->tenants;
}

/* What the probe said of it. */
static void describe(struct vgpu_gpu *gpu, const struct vgpu_inventory *inventory)
{
    for (uint32_t i = 0; inventory && i < inventory->count; i++) {
        const struct vgpu_found_gpu *f = &inventory->gpus[i];
        if (strcmp(f->backend, "cuda") != 0 || gpu->setting.backend != VGPU_GPU_CUDA ||
            f->ordinal != gpu->setting.ordinal)
            continue;
        gpu->has_uuid = f->has_uuid;
        memcpy(gpu->uuid, f->uuid, sizeof(gpu->uuid));
        snprintf(gpu->model, sizeof(gpu->model), "%s", f->name);
        snprintf(gpu->unusable, sizeof(gpu->unusable), "%s", f->unusable);
    }
}

static bool is_in_table(const struct vgpu_mediator *m, uint32_t ordinal)
{
    for (uint32_t i = 0; i < m->gpu_count; i++)
        if (m->gpus[i].setting.backend == VGPU_GPU_CUDA && m->gpus[i].setting.ordinal == ordinal)
            return true;
    return false;
}

/* Those of the host that are in no pool. */
static void add_rest(struct vgpu_mediator *m, const struct vgpu_inventory *inventory)
{
    for (uint32_t i = 0; inventory && i < inventory->count; i++) {
        const struct vgpu_found_gpu *f = &inventory->gpus[i];
        if (strcmp(f->backend, "cuda") != 0 || is_in_table(m, f->ordinal) ||
            m->gpu_count == VGPU_MEDIATOR_MAX_GPUS)
            continue;
        struct vgpu_gpu *gpu = &m->gpus[m->gpu_count++];
        *gpu = (struct vgpu_gpu){.setting = {.backend = VGPU_GPU_CUDA,
                                             .by_uuid = f->has_uuid,
                                             .ordinal = f->ordinal,
                                             .memory_bytes = f->memory_bytes}};
        memcpy(gpu->setting.uuid, f->uuid, sizeof(gpu->setting.uuid));
        describe(gpu, inventory);
    }
}

static void restore_drains(struct vgpu_mediator *m)
{
    struct vgpu_registry_state *s = &m->policy->state;
    int64_t now_ms = vgpu_events_time_ms();
    for (uint32_t p = 0; p < VGPU_REGISTRY_POOLS; p++)
        if (s->pools[p].drain.until_ms <= now_ms)
            s->pools[p].drain = (struct vgpu_registry_aside){0};
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        char name[VGPU_REGISTRY_GPU_NAME];
        vgpu_pools_gpu_name(m, i, name);
        const struct vgpu_registry_gpu *row = vgpu_registry_find_gpu(s, name);
        if (row && row->drain.until_ms > now_ms)
            m->gpus[i].drain = row->drain;
    }
}

void vgpu_pools_make(struct vgpu_mediator *m, const struct vgpu_inventory *inventory)
{
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        const struct vgpu_pool_setting *pool = &m->settings->pools[p];
        for (uint32_t i = 0; i < pool->gpu_count && m->gpu_count < VGPU_MEDIATOR_MAX_GPUS; i++) {
            m->gpus[m->gpu_count] =
                (struct vgpu_gpu){.pool = (char)('A' + p),
                                  .setting = pool->gpus[i],
                                  .threads = pool->threads,
                                  .launch_instructions = pool->launch_instructions};
            describe(&m->gpus[m->gpu_count++], inventory);
        }
    }
    if (m->settings->control)
        add_rest(m, inventory);
    m->gpu_room = m->gpu_count + (m->settings->control ? SPARE_GPUS : 0);
    if (m->gpu_room > VGPU_MEDIATOR_MAX_GPUS)
        m->gpu_room = VGPU_MEDIATOR_MAX_GPUS;
    restore_drains(m);
}

/* --- what was committed --- */

/* The settings of a pool follow the table: who is admitted, and what a reload compares with. */
static void settle_pool(struct vgpu_mediator *m, char pool)
{
    struct vgpu_pool_setting *s = &m->settings->pools[pool - 'A'];
    s->gpu_count = 0;
    for (uint32_t i = 0; i < m->gpu_count; i++)
        if (m->gpus[i].pool == pool && s->gpu_count < VGPU_POOL_MAX_GPUS)
            s->gpus[s->gpu_count++] = m->gpus[i].setting;
    memcpy(s->asked, s->gpus, sizeof(s->asked));
    s->asked_count = s->gpu_count;
    s->present = s->gpu_count != 0;
    s->all = s->or_software = false;
}

/* There is room: the plan saw to it, and only changes take it. */
static uint32_t new_gpu(struct vgpu_mediator *m)
{
    uint32_t i = 0;
    while (i < m->gpu_count && !vgpu_pools_is_free(&m->gpus[i]))
        i++;
    if (i == m->gpu_count) {
        if (m->gpu_count == m->gpu_room)
            return UINT32_MAX;
        m->gpu_count++;
    }
    m->gpus[i] = (struct vgpu_gpu){.setting = {.backend = VGPU_GPU_SOFTWARE}};
    return i;
}

static void give(struct vgpu_mediator *m, struct vgpu_policy_change *c)
{
    const struct vgpu_pool_setting *s = &m->settings->pools[c->change.pool - 'A'];
    for (uint32_t i = 0; i < c->gpu_count; i++) {
        if (c->gpus[i] == VGPU_POLICY_NEW_GPU)
            c->gpus[i] = new_gpu(m);
        if (c->gpus[i] == UINT32_MAX)
            continue;
        struct vgpu_gpu *gpu = &m->gpus[c->gpus[i]];
        gpu->pool = c->change.pool;
        gpu->threads = s->threads;
        gpu->launch_instructions = s->launch_instructions;
    }
    settle_pool(m, c->change.pool);
    if (!c->from)
        return;
    settle_pool(m, c->from);
    vgpu_enforce_seats(m, c->gpus[0], c->from);
}

static void drain(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                  const struct vgpu_registry_txn *txn)
{
    const struct vgpu_registry_aside *aside;
    char target[VGPU_REGISTRY_GPU_NAME + 8];
    uint32_t number = VGPU_EVENT_NONE;
    if (c->change.said & VGPU_FIELD_POOL) {
        aside = &m->policy->state.pools[c->change.pool - 'A'].drain;
        snprintf(target, sizeof(target), "pool %c", c->change.pool);
    } else {
        number = c->gpus[0];
        m->gpus[number].drain = txn->gpu.drain;
        aside = &m->gpus[number].drain;
        snprintf(target, sizeof(target), "GPU %u", number);
    }
    vgpu_events_add(m->events, aside->until_ms ? "drain" : "undrain", VGPU_EVENT_NO_VM, number,
                    "%s%s%s", target, aside->reason[0] ? ": " : "", aside->reason);
    vgpu_log(VGPU_LOG_INFO, aside->until_ms ? "drain" : "undrain", "target=\"%s\"", target);
    if (number != VGPU_EVENT_NONE && aside->until_ms)
        vgpu_enforce_seats(m, number, 0);
    vgpu_policy_look(m);
}

void vgpu_pools_apply(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                      const struct vgpu_registry_txn *txn)
{
    char pool = c->change.pool;
    switch (c->change.op) {
    case VGPU_CHANGE_ADD_POOL:
    case VGPU_CHANGE_ASSIGN_GPU:
        give(m, c);
        break;
    case VGPU_CHANGE_REMOVE_POOL:
        for (uint32_t i = 0; i < m->gpu_count; i++)
            if (m->gpus[i].pool == pool)
                m->gpus[i].pool = 0;
        settle_pool(m, pool);
        break;
    default:
        drain(m, c, txn);
    }
}
