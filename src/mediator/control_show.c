/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON of what there is; see control_show.h. */
#include "mediator/control_show.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/names.h"
#include "common/parse.h"
#include "mediator/admit.h"
#include "mediator/link.h"
#include "mediator/mark.h"
#include "mediator/policy.h"
#include "mediator/pools.h"
#include "mediator/seat.h"
#include "mediator/tenant.h"

/* All that is known of a VM, each NULL if there is none of it. */
struct known {
    uint32_t vm;
    const struct vgpu_vm_setting *setting; /* that holds for it */
    const struct vgpu_registry_vm *row;
    const struct vgpu_tenant *tenant;
    const struct vgpu_mark *mark;
};

static bool is_local(const struct vgpu_tenant *t)
{
    return t->account > UINT32_MAX; /* vgpu_ledger_key */
}

static bool quarantined(const struct known *k)
{
    return k->mark && vgpu_mark_quarantined(k->mark);
}

static bool drained(const struct known *k)
{
    return k->mark && vgpu_mark_drained(k->mark);
}

static bool attached(const struct known *k)
{
    return k->tenant && k->tenant->link;
}

static void know_tenant(const struct vgpu_mediator *m, struct known *k,
                        const struct vgpu_tenant *tenant)
{
    k->tenant = tenant;
    k->mark = tenant->mark;
    if (is_local(tenant))
        k->setting = vgpu_settings_local(m->settings, (uint32_t)tenant->account);
}

/* --- finding them --- */

static void know(const struct vgpu_mediator *m, uint32_t vm, struct known *k)
{
    struct vgpu_mediator *writable = (struct vgpu_mediator *)(uintptr_t)m; /* nothing is written */
    const struct vgpu_tenant *tenant = vgpu_tenant_find(writable, vm);
    *k = (struct known){.vm = vm,
                        .setting = vgpu_settings_vm(m->settings, vm),
                        .row = vgpu_registry_find_vm(&m->policy->state, vm),
                        .mark = vgpu_mark_find(&m->marks, vgpu_ledger_key(false, vm))};
    if (tenant)
        know_tenant(m, k, tenant);
}

/* Whether it belongs into the list. */
static bool counts(const struct known *k)
{
    return (k->setting && k->setting->registered) || k->tenant || quarantined(k) || drained(k);
}

static int compare(const void *a, const void *b)
{
    const struct known *x = a, *y = b;
    return x->vm < y->vm ? -1 : x->vm > y->vm;
}

/* The entries of one VM come to be one. */
static uint32_t join(struct known *list, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct known *last = kept ? &list[kept - 1] : NULL;
        if (!last || last->vm != list[i].vm) {
            list[kept++] = list[i];
            continue;
        }
        if (list[i].setting && !(last->tenant && is_local(last->tenant)))
            last->setting = list[i].setting;
        if (list[i].tenant) {
            last->tenant = list[i].tenant;
            if (is_local(last->tenant))
                last->setting = list[i].setting;
        }
        if (list[i].mark)
            last->mark = list[i].mark;
    }
    return kept;
}

/* All of them, by number. NULL: no memory. In n log n, since there may be thousands. */
static struct known *find_all(const struct vgpu_mediator *m, uint32_t *out)
{
    const struct vgpu_settings *s = m->settings;
    uint32_t count = 0, marks = 0;
    vgpu_list_each(node, &m->marks)
    {
        marks++;
    }
    struct known *list = malloc((s->vm_count + m->slot_count + marks + 1) * sizeof(*list));
    if (!list)
        return NULL;
    for (uint32_t i = 0; i < s->vm_count; i++)
        list[count++] = (struct known){.vm = s->vms[i].key, .setting = &s->vms[i]};
    for (uint32_t i = 0; i < m->slot_count; i++) {
        if (!m->tenants[i])
            continue;
        list[count] = (struct known){.vm = m->tenants[i]->vm_id};
        know_tenant(m, &list[count++], m->tenants[i]);
    }
    vgpu_list_each(node, &m->marks)
    {
        const struct vgpu_mark *mark = vgpu_list_entry(node, struct vgpu_mark, node);
        if (mark->key <= UINT32_MAX)
            list[count++] = (struct known){.vm = (uint32_t)mark->key, .mark = mark};
    }
    qsort(list, count, sizeof(*list), compare);
    *out = join(list, count);
    for (uint32_t i = 0; i < *out; i++)
        list[i].row = vgpu_registry_find_vm(&m->policy->state, list[i].vm);
    return list;
}

/* --- writing them --- */

static const char *yes_no(bool value)
{
    return value ? "true" : "false";
}

void vgpu_show_until(struct vgpu_text *text, const struct vgpu_registry_aside *aside)
{
    if (!aside || !aside->until_ms || aside->until_ms == VGPU_REGISTRY_FOREVER)
        vgpu_text_printf(text, "\"until\": null");
    else
        vgpu_text_printf(text, "\"until\": %" PRId64 ".%03d", aside->until_ms / 1000,
                         (int)(aside->until_ms % 1000));
}

static const char *state_of(const struct known *k)
{
    if (quarantined(k))
        return "quarantined";
    if (drained(k))
        return "draining";
    return attached(k) ? "attached" : "detached";
}

static void show_policy(const struct vgpu_mediator *m, const struct known *k,
                        struct vgpu_text *text)
{
    const struct vgpu_vm_setting *s = k->setting;
    const struct vgpu_tenant *t = k->tenant;
    char pool = t ? t->pool : s ? s->pool : 0, rate[8];
    int priority = t ? (int)t->priority : s ? s->priority : -1;
    struct vgpu_sched_tenant share = vgpu_admit_share(s, 0, 0);
    if (pool)
        vgpu_text_printf(text, ", \"pool\": \"%c\"", pool);
    else
        vgpu_text_printf(text, ", \"pool\": null");
    if (priority >= 0)
        vgpu_text_printf(text, ", \"priority\": \"%s\"", vgpu_priority_name((uint32_t)priority));
    else
        vgpu_text_printf(text, ", \"priority\": null");
    vgpu_registry_rate_write(rate, share.rate);
    vgpu_text_printf(text, ", \"weight\": %u, \"rate\": ", share.weight);
    vgpu_text_printf(text, share.rate ? "\"%s\"" : "null", rate);
    vgpu_text_printf(text,
                     ", \"burst_ms\": %" PRIu64 ", \"memory\": %" PRIu64
                     ", \"sessions\": %u, \"queue\": %u",
                     (uint64_t)(share.burst_ns / VGPU_NS_PER_MS),
                     s && s->memory ? s->memory : m->settings->default_memory,
                     s && s->sessions ? s->sessions : m->settings->default_sessions,
                     s && s->queue ? s->queue : m->settings->default_queue);
}

static void show_life(const struct vgpu_mediator *m, const struct known *k, struct vgpu_text *text)
{
    static const struct vgpu_tenant nobody = {0};
    const struct vgpu_tenant *t = k->tenant ? k->tenant : &nobody;
    bool waiting = false;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        waiting |= t->seats[i].taken && t->seats[i].lease.waiting;
    if (attached(k))
        vgpu_text_printf(text, ", \"gpu\": %u", t->seat->gpu);
    else
        vgpu_text_printf(text, ", \"gpu\": null");
    vgpu_text_printf(
        text,
        ", \"moving\": %s, \"open_sessions\": %u, \"workers\": %u, \"memory_used\": %" PRIu64
        ", \"lease_ms\": %" PRIu64 ", \"leases\": %" PRIu64 ", \"recalls\": %" PRIu64
        ", \"waiting\": %s, \"holding\": %s, \"faults\": %" PRIu64 ", \"requests\": %" PRIu64
        ", \"errors\": %" PRIu64,
        yes_no(vgpu_seat_moving(t)), t->session_count, t->worker_count, vgpu_seat_memory(t),
        (uint64_t)(vgpu_seat_lease_ns(t, vgpu_loop_now(m->loop)) / VGPU_NS_PER_MS),
        vgpu_seat_leases(t), vgpu_seat_recalls(t), yes_no(waiting), yes_no(vgpu_seat_holding(t)),
        k->mark ? k->mark->faults : 0, t->requests, t->errors);
}

static void show(const struct vgpu_mediator *m, const struct known *k, struct vgpu_text *text)
{
    const struct vgpu_registry_aside *aside = NULL;
    bool local = k->tenant && is_local(k->tenant);
    if (quarantined(k))
        aside = &k->mark->quarantine;
    else if (drained(k))
        aside = &k->mark->drain;
    vgpu_text_printf(text, "{\"vm\": %u, \"name\": ", k->vm);
    vgpu_text_json(text, k->row && !local ? k->row->name : "");
    vgpu_text_printf(text, ", \"registered\": %s, \"local\": %s, \"uid\": ",
                     yes_no(k->setting && (local || k->setting->registered)), yes_no(local));
    vgpu_text_printf(text, local ? "%u" : "null", local ? (uint32_t)k->tenant->account : 0);
    show_policy(m, k, text);
    vgpu_text_printf(text, ", \"state\": \"%s\", \"attached\": %s, \"reason\": ", state_of(k),
                     yes_no(attached(k)));
    vgpu_text_json(text, aside ? aside->reason : "");
    vgpu_text_printf(text, ", ");
    vgpu_show_until(text, aside);
    show_life(m, k, text);
    vgpu_text_printf(text, "}");
}

bool vgpu_show_vm(const struct vgpu_mediator *m, uint32_t vm, struct vgpu_text *text)
{
    struct known k;
    know(m, vm, &k);
    if (!counts(&k))
        return false;
    show(m, &k, text);
    return true;
}

void vgpu_show_vms(const struct vgpu_mediator *m, struct vgpu_text *text)
{
    uint32_t count;
    bool any = false;
    struct known *list = find_all(m, &count);
    if (!list) {
        text->failed = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!counts(&list[i]))
            continue;
        if (any)
            vgpu_text_printf(text, ", ");
        any = true;
        show(m, &list[i], text);
    }
    free(list);
}

int vgpu_show_count(const struct vgpu_mediator *m, uint32_t counted[4])
{
    uint32_t count;
    struct known *list = find_all(m, &count);
    if (!list)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        counted[0] += list[i].setting && list[i].setting->registered;
        counted[1] += attached(&list[i]);
        counted[2] += quarantined(&list[i]);
        counted[3] += drained(&list[i]);
    }
    free(list);
    return 0;
}

/* --- pools and GPUs --- */

static bool is_pool(const struct vgpu_mediator *m, char pool)
{
    const struct vgpu_registry_pool *row = &m->policy->state.pools[pool - 'A'];
    return m->settings->pools[pool - 'A'].present || (row->pool && row->has_gpus);
}

static const char *backend_of(const struct vgpu_mediator *m, char pool)
{
    const char *backend = "none";
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        if (m->gpus[i].pool != pool)
            continue;
        const char *own = vgpu_backend_name(m->gpus[i].setting.backend);
        if (*backend != 'n' && own != backend)
            return "mixed";
        backend = own;
    }
    return backend;
}

void vgpu_show_pool(const struct vgpu_mediator *m, char pool, struct vgpu_text *text)
{
    const struct vgpu_registry_pool *row = &m->policy->state.pools[pool - 'A'];
    bool any = false;
    uint32_t vms = 0;
    vgpu_text_printf(text, "{\"pool\": \"%c\", \"backend\": \"%s\", \"gpus\": [", pool,
                     backend_of(m, pool));
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        if (m->gpus[i].pool != pool)
            continue;
        vgpu_text_printf(text, "%s%u", any ? ", " : "", i);
        any = true;
    }
    for (uint32_t i = 0; i < m->slot_count; i++)
        vms += m->tenants[i] && m->tenants[i]->link && m->tenants[i]->pool == pool;
    vgpu_text_printf(text, "], \"source\": \"%s\", \"vms\": %u, \"draining\": %s, \"reason\": ",
                     row->pool && row->has_gpus ? "registry" : "file", vms,
                     yes_no(row->drain.until_ms));
    vgpu_text_json(text, row->drain.reason);
    vgpu_text_printf(text, ", ");
    vgpu_show_until(text, &row->drain);
    vgpu_text_printf(text, "}");
}

void vgpu_show_pools(const struct vgpu_mediator *m, struct vgpu_text *text)
{
    bool any = false;
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        char pool = (char)('A' + p);
        if (!is_pool(m, pool))
            continue;
        if (any)
            vgpu_text_printf(text, ", ");
        any = true;
        vgpu_show_pool(m, pool, text);
    }
}

static void show_holders(const struct vgpu_mediator *m, uint32_t gpu, struct vgpu_text *text)
{
    bool any = false;
    vgpu_text_printf(text, ", \"holders\": [");
    for (uint32_t i = 0; i < m->slot_count; i++) {
        const struct vgpu_tenant *t = m->tenants[i];
        for (uint32_t k = 0; t && k < VGPU_SEATS; k++) {
            const struct vgpu_seat *seat = &t->seats[k];
            if (!seat->taken || seat->gpu != gpu || !seat->lease.lease)
                continue;
            vgpu_text_printf(text, "%s%u", any ? ", " : "", t->vm_id);
            any = true;
        }
    }
    vgpu_text_printf(text, "]");
}

void vgpu_show_gpu(const struct vgpu_mediator *m, uint32_t gpu, struct vgpu_text *text)
{
    const struct vgpu_gpu *g = &m->gpus[gpu];
    char name[VGPU_REGISTRY_GPU_NAME], uuid[VGPU_UUID_TEXT] = "";
    bool cuda = g->setting.backend == VGPU_GPU_CUDA;
    uint32_t vms = 0, workers = 0;
    for (uint32_t i = 0; i < m->slot_count; i++) {
        const struct vgpu_tenant *t = m->tenants[i];
        for (uint32_t k = 0; t && k < VGPU_SEATS; k++)
            if (t->seats[k].taken && t->seats[k].gpu == gpu) {
                vms += t->link && t->seat == &t->seats[k];
                workers += t->seats[k].worker_count;
            }
    }
    vgpu_pools_gpu_name(m, gpu, name);
    vgpu_text_printf(text, "{\"gpu\": %u, \"name\": ", gpu);
    vgpu_text_json(text, name);
    vgpu_text_printf(text, g->pool ? ", \"pool\": \"%c\"" : ", \"pool\": null", g->pool);
    vgpu_text_printf(text,
                     ", \"backend\": \"%s\", \"uuid\": ", vgpu_backend_name(g->setting.backend));
    if (g->has_uuid) {
        vgpu_uuid_write(uuid, g->uuid);
        vgpu_text_json(text, uuid);
    } else {
        vgpu_text_printf(text, "null");
    }
    vgpu_text_printf(text, cuda ? ", \"ordinal\": %u" : ", \"ordinal\": null", g->setting.ordinal);
    vgpu_text_printf(text, ", \"model\": ");
    vgpu_text_json(text, cuda ? g->model : "software");
    vgpu_text_printf(text, ", \"memory\": %" PRIu64 ", \"usable\": %s, \"reason\": ",
                     g->setting.memory_bytes, yes_no(!g->unusable[0]));
    vgpu_text_json(text, g->unusable[0] ? g->unusable : g->drain.reason);
    vgpu_text_printf(text, ", \"state\": \"%s\", ",
                     g->stuck            ? "unhealthy"
                     : g->drain.until_ms ? "draining"
                                         : "ok");
    vgpu_show_until(text, &g->drain);
    vgpu_text_printf(text, ", \"vms\": %u, \"workers\": %u", vms, workers);
    show_holders(m, gpu, text);
    vgpu_text_printf(text, "}");
}

void vgpu_show_gpus(const struct vgpu_mediator *m, struct vgpu_text *text)
{
    bool any = false;
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        if (!vgpu_pools_shown(&m->gpus[i]))
            continue;
        if (any)
            vgpu_text_printf(text, ", ");
        any = true;
        vgpu_show_gpu(m, i, text);
    }
}
