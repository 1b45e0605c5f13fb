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

/* --- plans --- */

struct planner {
    struct vgpu_mediator *m;
    struct vgpu_policy_change *c;
    const struct vgpu_plan_who *who;
    struct vgpu_registry_txn *out;
    struct vgpu_change_error *error;
};

static uint32_t count_of(const struct vgpu_mediator *m, char pool)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->gpu_count; i++)
        count += m->gpus[i].pool == pool;
    return count;
}

static uint32_t attached_in(const struct vgpu_mediator *m, char pool, uint32_t *first)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->slot_count; i++) {
        const struct vgpu_tenant *t = m->tenants[i];
        if (!t || !t->link || t->pool != pool)
            continue;
        if (!count++)
            *first = t->vm_id;
    }
    return count;
}

/* The pool's row as it would be with the GPUs that it has now. */
static void row_of(const struct vgpu_mediator *m, char pool, struct vgpu_registry_pool *row)
{
    *row = m->policy->state.pools[pool - 'A'];
    row->pool = pool;
    row->has_gpus = true;
    row->gpu_count = 0;
    for (uint32_t i = 0; i < m->gpu_count; i++)
        if (m->gpus[i].pool == pool && row->gpu_count < VGPU_REGISTRY_GPUS)
            vgpu_overlay_gpu_name(&m->gpus[i].setting, row->gpus[row->gpu_count++]);
}

static void list(const struct vgpu_registry_pool *row, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "gpus=");
    for (uint32_t i = 0; i < row->gpu_count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "," : "", row->gpus[i]);
    if (!row->gpu_count)
        snprintf(text, size, "gpus=none");
}

static int write_line(const struct planner *p, const char *target, const char *before,
                      const char *after)
{
    struct vgpu_registry_audit line = {
        .time_ms = p->who->time_ms, .uid = p->who->uid, .pid = p->who->pid};
    snprintf(line.op, sizeof(line.op), "%s", vgpu_change_op_name(p->c->change.op));
    snprintf(line.target, sizeof(line.target), "%s", target);
    snprintf(line.before, sizeof(line.before), "%s", before);
    snprintf(line.after, sizeof(line.after), "%s", after);
    if (vgpu_registry_txn_audit(p->out, &line))
        return vgpu_change_fail(p->error, VGPU_CODE_INTERNAL, "out of memory");
    return 0;
}

static int put_pool(const struct planner *p, const struct vgpu_registry_pool *row)
{
    char target[16], before[320], after[320];
    struct vgpu_registry_pool old;
    row_of(p->m, row->pool, &old);
    snprintf(target, sizeof(target), "pool %c", row->pool);
    list(&old, before, sizeof(before));
    list(row, after, sizeof(after));
    vgpu_registry_txn_pool(p->out, row);
    return write_line(p, target, before, after);
}

static bool is_free_entry(const struct vgpu_gpu *gpu)
{
    return !gpu->pool && gpu->setting.backend == VGPU_GPU_SOFTWARE && !gpu->tenants;
}

/* How many further GPUs there can be. */
static uint32_t room(const struct vgpu_mediator *m)
{
    uint32_t count = m->gpu_room - m->gpu_count;
    for (uint32_t i = 0; i < m->gpu_count; i++)
        count += is_free_entry(&m->gpus[i]);
    return count;
}

/* The number of a GPU that was named, or VGPU_POLICY_NEW_GPU. */
static int resolve(const struct planner *p, const struct vgpu_change_gpu *gpu, uint32_t *number)
{
    struct vgpu_mediator *m = p->m;
    if (!gpu->by_number && !strcmp(gpu->name, "software")) {
        *number = VGPU_POLICY_NEW_GPU;
        return 0;
    }
    *number = vgpu_pools_find_gpu(m, gpu);
    if (*number == UINT32_MAX && gpu->by_number)
        return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND,
                                "there is no GPU %u: list-gpus shows those that there are",
                                gpu->number);
    if (*number == UINT32_MAX)
        return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND,
                                "there is no GPU '%s': list-gpus shows those that there are",
                                gpu->name);
    if (m->gpus[*number].unusable[0])
        return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT, "GPU %u cannot be used: %s", *number,
                                m->gpus[*number].unusable);
    return 0;
}

static int take_gpu(const struct planner *p, struct vgpu_registry_pool *row, uint32_t number)
{
    struct vgpu_policy_change *c = p->c;
    uint32_t fresh = number == VGPU_POLICY_NEW_GPU;
    for (uint32_t i = 0; i < c->gpu_count; i++) {
        fresh += c->gpus[i] == VGPU_POLICY_NEW_GPU;
        if (c->gpus[i] == number && number != VGPU_POLICY_NEW_GPU)
            return vgpu_change_fail(p->error, VGPU_CODE_INVALID, "GPU %u stands there twice",
                                    number);
    }
    if (row->gpu_count == VGPU_REGISTRY_GPUS)
        return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                "pool %c would have more than %u GPUs", row->pool,
                                VGPU_REGISTRY_GPUS);
    if (fresh > room(p->m))
        return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                "this mediator has room for %u GPUs until it is started again",
                                p->m->gpu_room);
    c->gpus[c->gpu_count++] = number;
    if (number == VGPU_POLICY_NEW_GPU)
        strcpy(row->gpus[row->gpu_count++], "software");
    else
        vgpu_overlay_gpu_name(&p->m->gpus[number].setting, row->gpus[row->gpu_count++]);
    return 0;
}

static int plan_add(const struct planner *p)
{
    struct vgpu_mediator *m = p->m;
    const struct vgpu_change *change = &p->c->change;
    struct vgpu_registry_pool row;
    int rc = 0;
    if (count_of(m, change->pool))
        return vgpu_change_fail(p->error, VGPU_CODE_EXISTS,
                                "pool %c is there and has %u GPUs: assign-gpu changes it",
                                change->pool, count_of(m, change->pool));
    row_of(m, change->pool, &row);
    for (uint32_t i = 0; !rc && i < change->gpu_count; i++) {
        uint32_t number;
        rc = resolve(p, &change->gpus[i], &number);
        if (!rc && number != VGPU_POLICY_NEW_GPU && m->gpus[number].pool)
            rc = vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                  "GPU %u is in pool %c: assign-gpu moves it", number,
                                  m->gpus[number].pool);
        if (!rc)
            rc = take_gpu(p, &row, number);
    }
    if (!rc && !change->gpu_count && !change->cuda)
        rc = take_gpu(p, &row, VGPU_POLICY_NEW_GPU);
    for (uint32_t i = 0; !rc && !change->gpu_count && change->cuda && i < m->gpu_count; i++)
        if (!m->gpus[i].pool && m->gpus[i].setting.backend == VGPU_GPU_CUDA &&
            !m->gpus[i].unusable[0])
            rc = take_gpu(p, &row, i);
    if (!rc && !row.gpu_count)
        rc = vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND,
                              "pool %c: there is no cuda GPU that can be used and is in no pool",
                              change->pool);
    return rc ? rc : put_pool(p, &row);
}

static int plan_remove(const struct planner *p)
{
    struct vgpu_mediator *m = p->m;
    char pool = p->c->change.pool, pools[2 * VGPU_POOL_COUNT];
    uint32_t first = 0, count = attached_in(m, pool, &first);
    struct vgpu_registry_pool row;
    if (!count_of(m, pool) && !m->policy->state.pools[pool - 'A'].has_gpus)
        return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND, "there is no pool %c (pools: %s)",
                                pool, vgpu_settings_pools(m->settings, pools));
    if (m->settings->pools[pool - 'A'].line)
        return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                "pool %c has a section in line %u of the configuration file: take "
                                "it out there",
                                pool, m->settings->pools[pool - 'A'].line);
    if (count)
        return vgpu_change_fail(p->error, VGPU_CODE_BUSY,
                                "pool %c: %u VMs are attached in it, the first is vm %u: set-pool "
                                "moves them",
                                pool, count, first);
    for (uint32_t i = 0; i < m->settings->vm_count; i++)
        if (m->settings->vms[i].pool == pool)
            return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                    "pool %c: vm %u is registered in it: set-pool moves it", pool,
                                    m->settings->vms[i].key);
    row_of(m, pool, &row);
    row = (struct vgpu_registry_pool){.pool = pool};
    return put_pool(p, &row);
}

/* Whoever sits on it would need a third GPU. */
static int check_leaving(const struct planner *p, uint32_t number)
{
    const struct vgpu_mediator *m = p->m;
    char from = m->gpus[number].pool;
    uint32_t vm = 0;
    if (count_of(m, from) == 1 && attached_in(m, from, &vm))
        return vgpu_change_fail(p->error, VGPU_CODE_BUSY,
                                "GPU %u is the last one of pool %c, in which VMs are attached (vm "
                                "%u): set-pool moves them",
                                number, from, vm);
    return 0;
}

static int plan_assign(const struct planner *p)
{
    struct vgpu_mediator *m = p->m;
    const struct vgpu_change *change = &p->c->change;
    struct vgpu_registry_pool to, from;
    uint32_t number;
    int rc = resolve(p, &change->gpu, &number);
    if (rc)
        return rc;
    bool leaves = number != VGPU_POLICY_NEW_GPU && m->gpus[number].pool;
    if (leaves && m->gpus[number].pool == change->pool)
        return vgpu_change_fail(p->error, VGPU_CODE_EXISTS, "GPU %u is in pool %c already", number,
                                change->pool);
    if (leaves)
        rc = check_leaving(p, number);
    row_of(m, change->pool, &to);
    if (!rc)
        rc = take_gpu(p, &to, number);
    if (!rc)
        rc = put_pool(p, &to);
    if (rc || !leaves)
        return rc;
    p->c->from = m->gpus[number].pool;
    m->gpus[number].pool = 0; /* as if it had gone, for a moment */
    row_of(m, p->c->from, &from);
    m->gpus[number].pool = p->c->from;
    return put_pool(p, &from);
}

static int plan_drain(const struct planner *p)
{
    struct vgpu_mediator *m = p->m;
    const struct vgpu_change *change = &p->c->change;
    struct vgpu_registry_aside aside = {0};
    char target[64], after[320] = "drain=-", before[320] = "drain=-";
    if (change->op == VGPU_CHANGE_DRAIN) {
        aside.until_ms = vgpu_plan_until(p->who->time_ms, change->seconds);
        snprintf(aside.reason, sizeof(aside.reason), "%s",
                 change->reason[0] ? change->reason : "by hand");
        snprintf(after, sizeof(after), "drain=%s", aside.reason);
    }
    if (change->said & VGPU_FIELD_POOL) {
        struct vgpu_registry_pool row = m->policy->state.pools[change->pool - 'A'];
        char pools[2 * VGPU_POOL_COUNT];
        if (!count_of(m, change->pool) && p->who->uid >= 0)
            return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND,
                                    "there is no pool %c (pools: %s)", change->pool,
                                    vgpu_settings_pools(m->settings, pools));
        if (row.drain.until_ms)
            snprintf(before, sizeof(before), "drain=%s", row.drain.reason);
        row.pool = change->pool;
        row.drain = aside;
        vgpu_registry_txn_pool(p->out, &row);
        snprintf(target, sizeof(target), "pool %c", change->pool);
        return write_line(p, target, before, after);
    }
    uint32_t number;
    if (resolve(p, &change->gpu, &number))
        return -EINVAL;
    if (number == VGPU_POLICY_NEW_GPU)
        return vgpu_change_fail(p->error, VGPU_CODE_INVALID,
                                "which of the software GPUs? Give its number");
    struct vgpu_gpu *gpu = &m->gpus[number];
    if (gpu->drain.until_ms)
        snprintf(before, sizeof(before), "drain=%s", gpu->drain.reason);
    p->c->gpus[p->c->gpu_count++] = number;
    p->out->gpu.drain = aside;
    vgpu_pools_gpu_name(m, number, p->out->gpu.name);
    /* A software GPU has no name that lasts (K33). */
    p->out->put_gpu = gpu->setting.backend == VGPU_GPU_CUDA;
    snprintf(target, sizeof(target), "gpu %s", p->out->gpu.name);
    return write_line(p, target, before, after);
}

int vgpu_pools_plan(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                    const struct vgpu_plan_who *who, struct vgpu_registry_txn *out,
                    struct vgpu_change_error *error)
{
    struct planner p = {.m = m, .c = c, .who = who, .out = out, .error = error};
    switch (c->change.op) {
    case VGPU_CHANGE_ADD_POOL:
        return plan_add(&p);
    case VGPU_CHANGE_REMOVE_POOL:
        return plan_remove(&p);
    case VGPU_CHANGE_ASSIGN_GPU:
        return plan_assign(&p);
    case VGPU_CHANGE_DRAIN:
    case VGPU_CHANGE_UNDRAIN:
        return plan_drain(&p);
    default:
        return vgpu_change_fail(error, VGPU_CODE_INTERNAL, "%s is not of pools",
                                vgpu_change_op_name(c->change.op));
    }
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
    while (i < m->gpu_count && !is_free_entry(&m->gpus[i]))
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
