/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is attached, and as what; see broker.h and tenant.h. */
#include "mediator/tenant.h"
#include "mediator/sched/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/names.h"
#include "mediator/admit.h"
#include "mediator/broker.h"
#include "mediator/endpoint.h"
#include "mediator/link.h"
#include "mediator/local.h"
#include "mediator/tenant_window.h"
#include "mediator/worker.h"

struct vgpu_tenant *vgpu_tenant_find(struct vgpu_mediator *m, uint32_t vm_id)
{
    for (uint32_t i = 0; i < m->slot_count; i++)
        if (m->tenants[i] && m->tenants[i]->vm_id == vm_id)
            return m->tenants[i];
    return NULL;
}

struct vgpu_session *vgpu_tenant_session(struct vgpu_tenant *t, uint64_t id)
{
    vgpu_list_each(node, &t->sessions)
    {
        struct vgpu_session *s = vgpu_list_entry(node, struct vgpu_session, node);
        if (s->id == id)
            return s;
    }
    return NULL;
}

struct vgpu_session *vgpu_tenant_session_open(struct vgpu_tenant *t, uint64_t id, uint64_t open_seq)
{
    struct vgpu_session *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->id = id;
    s->open_seq = open_seq;
    vgpu_list_append(&t->sessions, &s->node);
    t->session_count += id != 0;
    t->opened++;
    return s;
}

void vgpu_tenant_session_close(struct vgpu_tenant *t, struct vgpu_session *s)
{
    vgpu_tenant_channel_lost(t, s, true, VGPU_CHANNEL_SESSION_LOST);
    if (s->worker) {
        vgpu_tenant_worker_leaving(s->worker);
        vgpu_worker_end(s->worker);
    }
    vgpu_list_remove(&s->node);
    t->session_count -= s->id != 0;
    free(s);
}

void vgpu_tenant_end_sessions(struct vgpu_tenant *t)
{
    vgpu_list_each(node, &t->sessions)
    {
        vgpu_tenant_session_close(t, vgpu_list_entry(node, struct vgpu_session, node));
    }
    memset(t->recent, 0, sizeof(t->recent));
}

/* --- attaching --- */

/* What nobody holds of a card, contexts included; as much as there can be where that is not known.
 */
static uint64_t free_bytes(const struct vgpu_mediator *m, uint32_t gpu)
{
    uint64_t card = m->gpus[gpu].setting.memory_bytes, taken = 0;
    if (!card)
        return UINT64_MAX;
    vgpu_list_each(node, &m->quotas)
    {
        const struct vgpu_quota *q = vgpu_list_entry(node, struct vgpu_quota, node);
        if (q->gpu == gpu)
            taken += vgpu_quota_held(q) + vgpu_quota_contexts(q) * m->settings->context_memory;
    }
    return taken < card ? card - taken : 0;
}

/* The pool's GPU for a tenant with this quota (S12). VGPU_PLACE_NONE: the pool has none. */
static uint32_t place(const struct vgpu_mediator *m, char pool, uint64_t memory)
{
    struct vgpu_place_gpu gpus[VGPU_MEDIATOR_MAX_GPUS];
    for (uint32_t i = 0; i < m->gpu_count; i++)
        gpus[i] = (struct vgpu_place_gpu){.usable = m->gpus[i].pool == pool,
                                          .load = m->gpus[i].tenants,
                                          .free_bytes = free_bytes(m, i)};
    return vgpu_place(gpus, m->gpu_count, memory);
}

static bool join(struct vgpu_mediator *m, struct vgpu_tenant *t, const struct vgpu_admission *a)
{
    uint32_t gpu = place(m, (char)a->pool_id, a->memory);
    if (gpu == VGPU_PLACE_NONE)
        return false;
    int rc = vgpu_quota_join(&m->quotas, t->account, gpu, a->memory, &t->quota);
    if (rc) {
        vgpu_log(VGPU_LOG_ERROR, "no-account", "vm=%u reason=\"%s\"", t->vm_id, strerror(-rc));
        return false;
    }
    struct vgpu_sched_tenant what = a->share;
    what.gpu = gpu;
    if (vgpu_lease_tenant_add(m->leases, &t->lease, t->slot, &what, vgpu_loop_now(m->loop))) {
        vgpu_quota_leave(t->quota);
        return false;
    }
    uint64_t now = vgpu_loop_now(m->loop);
    vgpu_lease_tenant_owe(m->leases, &t->lease,
                          &vgpu_ledger_account(&m->ledger, t->account, now)->debt, now);
    t->gpu = gpu;
    t->pool = (char)a->pool_id;
    t->priority = a->share.priority;
    m->gpus[gpu].tenants++;
    return true;
}

static void leave(struct vgpu_mediator *m, struct vgpu_tenant *t)
{
    uint64_t now = vgpu_loop_now(m->loop);
    struct vgpu_sched_debt *kept = &vgpu_ledger_account(&m->ledger, t->account, now)->debt, debt;
    vgpu_lease_tenant_debt(m->leases, &t->lease, &debt, now);
    /* Of a user with several clients the largest counts. */
    if (!kept->known || kept->gpu != debt.gpu || debt.v >= kept->v)
        *kept = debt;
    vgpu_lease_tenant_remove(m->leases, &t->lease, now);
    vgpu_quota_leave(t->quota);
    m->gpus[t->gpu].tenants--;
}

/* Local clients have places of their own: they cannot take those of VMs. */
static struct vgpu_tenant *make_tenant(struct vgpu_mediator *m, uint32_t vm_id, bool local,
                                       uint64_t account, const struct vgpu_admission *a)
{
    uint32_t slot = local ? m->max_vms : 0, end = slot + m->max_vms;
    while (slot < end && m->tenants[slot])
        slot++;
    if (slot == end)
        return NULL;
    struct vgpu_tenant *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->slot = slot;
    t->vm_id = vm_id;
    t->account = account;
    vgpu_list_init(&t->sessions);
    if (!join(m, t, a)) {
        free(t);
        return NULL;
    }
    m->tenants[slot] = t;
    return t;
}

/* A tenant whose last workers are still ending comes back, as another maybe. */
static bool take_again(struct vgpu_mediator *m, struct vgpu_tenant *t, uint64_t account,
                       const struct vgpu_admission *a)
{
    /* Its workers hold a lease of the other pool, or somebody else's memory, until they are gone.
     */
    if (t->pool != (char)a->pool_id || t->account != account)
        return false;
    t->priority = a->share.priority;
    t->quota->quota_bytes = a->memory;
    struct vgpu_sched_tenant what = a->share;
    what.gpu = t->gpu;
    (void)vgpu_lease_tenant_change(m->leases, &t->lease, &what, vgpu_loop_now(m->loop));
    vgpu_lease_tenant_restart(&t->lease, vgpu_loop_now(m->loop));
    t->requests = t->errors = t->bytes_in = t->bytes_out = t->opened = t->late_answers = 0;
    return true;
}

/* Coming and going is cheap for who does it, so these lines are bounded beyond the connection. */
static bool may_log_link(struct vgpu_mediator *m, const struct vgpu_tenant *t, uint32_t *suppressed)
{
    uint64_t now = vgpu_loop_now(m->loop);
    return vgpu_log_limit_take(&vgpu_ledger_account(&m->ledger, t->account, now)->links, now,
                               suppressed);
}

static void log_attached(const struct vgpu_link *link, const struct vgpu_tenant *t,
                         const struct vgpu_link_hello *hello)
{
    char name[200];
    uint32_t suppressed;
    const struct vgpu_gpu *gpu = &link->mediator->gpus[t->gpu];
    if (!may_log_link(link->mediator, t, &suppressed))
        return;
    vgpu_log(VGPU_LOG_INFO, "attached",
             "vm=%u pool=%c priority=%s backend=%s gpu=%u socket=%s generation=%u suppressed=%u",
             t->vm_id, t->pool, vgpu_priority_name(t->priority),
             vgpu_backend_name(gpu->setting.backend), t->gpu,
             vgpu_log_quote(name, sizeof(name), link->name, strlen(link->name)), hello->generation,
             suppressed);
}

static void refuse(struct vgpu_link *link, uint32_t vm_id, uint32_t reason, const char *text)
{
    uint32_t suppressed;
    struct vgpu_mediator *m = link->mediator;
    if (vgpu_log_limit_take(&m->stranger_limit, vgpu_loop_now(m->loop), &suppressed)) {
        char name[200], quoted[300];
        vgpu_log(VGPU_LOG_WARN, "refused", "vm=%u refusal=%u socket=%s reason=%s suppressed=%u",
                 vm_id, reason, vgpu_log_quote(name, sizeof(name), link->name, strlen(link->name)),
                 vgpu_log_quote(quoted, sizeof(quoted), text, strlen(text)), suppressed);
    }
    vgpu_link_refuse(link, reason, text);
}

void vgpu_broker_hello(struct vgpu_link *link, const struct vgpu_link_hello *hello)
{
    struct vgpu_mediator *m = link->mediator;
    struct vgpu_admission a;
    uint32_t vm_id;
    char text[128];
    if (link->endpoint) {
        vm_id = vgpu_endpoint_vm(link->endpoint);
        vgpu_admit(m->settings, vgpu_settings_vm(m->settings, vm_id), vm_id,
                   m->settings->admit_unknown, hello, &a);
    } else {
        vm_id = vgpu_local_vm(m, link->local_uid);
        vgpu_admit(m->settings, vgpu_settings_local(m->settings, link->local_uid), vm_id, true,
                   hello, &a);
    }
    if (a.refusal) {
        refuse(link, vm_id, a.refusal, a.text);
        return;
    }
    bool local = !link->endpoint, channels = a.features & VGPU_LINK_FEATURE_CHANNELS;
    const char *wrong = channels && !local ? vgpu_tenant_window_refusal(hello) : NULL;
    if (wrong) {
        snprintf(text, sizeof(text), "vm %u: %s", vm_id, wrong);
        refuse(link, vm_id, VGPU_REFUSE_INVALID, text);
        return;
    }
    struct vgpu_tenant *t = vgpu_tenant_find(m, vm_id);
    if (t && t->link) {
        snprintf(text, sizeof(text), "vm %u: another device with this number is attached", vm_id);
        refuse(link, vm_id, VGPU_REFUSE_DUPLICATE, text);
        return;
    }
    uint64_t account = vgpu_ledger_key(local, local ? link->local_uid : vm_id);
    if (t ? !take_again(m, t, account, &a) : !(t = make_tenant(m, vm_id, local, account, &a))) {
        snprintf(text, sizeof(text), "vm %u: no room now (max_vms = %u)", vm_id, m->max_vms);
        refuse(link, vm_id, VGPU_REFUSE_FULL, text);
        return;
    }
    if (channels)
        vgpu_tenant_window_open(t, link, hello);
    t->features = a.features & ~(t->window ? 0 : VGPU_LINK_FEATURE_CHANNELS);
    t->max_sessions = a.sessions;
    t->uid = a.uid;
    t->link = link;
    link->tenant = t;
    link->attached_ns = vgpu_loop_now(m->loop);
    link->order.welcomed = true;
    link->order.channels = t->window;
    link->order.brings = t->window && !local;
    link->order.window = t->window && local;
    log_attached(link, t, hello);
    uint8_t message[VGPU_FRAME_MAX];
    vgpu_link_send(link, message,
                   vgpu_frame_welcome(message, VGPU_LINK_WELCOME, t->features, t->vm_id,
                                      (uint32_t)t->pool, t->priority));
    if (t->window && local)
        vgpu_tenant_window_send(t);
}

/* The keys of these two lines are read by tools: keep them. */
static void log_counters(struct vgpu_mediator *m, struct vgpu_tenant *t, const char *event,
                         const char *state)
{
    uint64_t lease = vgpu_lease_tenant_total_ns(&t->lease, vgpu_loop_now(m->loop));
    vgpu_log(VGPU_LOG_INFO, event,
             "vm=%u pool=%c priority=%s backend=%s %s requests=%llu errors=%llu bytes_in=%llu "
             "bytes_out=%llu sessions=%llu lease_ms=%llu leases=%llu recalls=%llu late=%llu",
             t->vm_id, t->pool, vgpu_priority_name(t->priority),
             vgpu_backend_name(m->gpus[t->gpu].setting.backend), state,
             (unsigned long long)t->requests, (unsigned long long)t->errors,
             (unsigned long long)t->bytes_in, (unsigned long long)t->bytes_out,
             (unsigned long long)t->opened, (unsigned long long)(lease / VGPU_NS_PER_MS),
             (unsigned long long)t->lease.leases, (unsigned long long)t->lease.recalls,
             (unsigned long long)t->late_answers);
}

void vgpu_broker_detach(struct vgpu_link *link)
{
    struct vgpu_mediator *m = link->mediator;
    struct vgpu_tenant *t = link->tenant;
    uint32_t suppressed;
    char state[64];
    link->tenant = NULL;
    t->link = NULL;
    t->outstanding = false;
    t->serving = NULL;
    if (may_log_link(m, t, &suppressed)) {
        snprintf(state, sizeof(state), "link=down suppressed=%u", suppressed);
        log_counters(m, t, "detached", state);
    }
    vgpu_tenant_end_sessions(t);
    vgpu_tenant_window_close(t);
    vgpu_broker_release(m, t);
    vgpu_mediator_schedule(m);
}

void vgpu_broker_release(struct vgpu_mediator *m, struct vgpu_tenant *t)
{
    if (t->link || t->worker_count)
        return;
    m->tenants[t->slot] = NULL;
    leave(m, t);
    free(t);
}

void vgpu_broker_log_status(struct vgpu_mediator *m)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->slot_count; i++) {
        struct vgpu_tenant *t = m->tenants[i];
        if (!t)
            continue;
        char state[320], window[128];
        vgpu_tenant_window_status(t, window, sizeof(window));
        snprintf(state, sizeof(state),
                 "link=%s open=%u workers=%u leased=%s memory=%llu quota=%llu%s",
                 t->link ? "up" : "down", t->session_count, t->worker_count,
                 t->lease.lease ? "yes" : "no", (unsigned long long)vgpu_quota_held(t->quota),
                 (unsigned long long)t->quota->quota_bytes, window);
        log_counters(m, t, "status", state);
        count++;
    }
    vgpu_log(VGPU_LOG_INFO, "status-end", "vms=%u log_dropped=%llu", count,
             (unsigned long long)vgpu_log_dropped());
}

void vgpu_broker_apply_settings(struct vgpu_mediator *m)
{
    for (uint32_t i = 0; i < m->slot_count; i++) {
        struct vgpu_tenant *t = m->tenants[i];
        if (!t || !t->link)
            continue;
        const struct vgpu_vm_setting *vm =
            t->link->endpoint ? vgpu_settings_vm(m->settings, t->vm_id)
                              : vgpu_settings_local(m->settings, t->link->local_uid);
        if (!vm)
            continue;
        struct vgpu_sched_tenant what =
            vgpu_admit_share(vm, vm->priority < 0 ? t->priority : (uint32_t)vm->priority, t->gpu);
        if (!memcmp(&what, &t->lease.is, sizeof(what)) ||
            vgpu_lease_tenant_change(m->leases, &t->lease, &what, vgpu_loop_now(m->loop)))
            continue;
        bool shown = t->priority != what.priority;
        t->priority = what.priority;
        if (!shown)
            continue;
        vgpu_log(VGPU_LOG_INFO, "updated", "vm=%u priority=%s", t->vm_id,
                 vgpu_priority_name(t->priority));
        uint8_t message[VGPU_FRAME_MAX];
        vgpu_link_send(t->link, message,
                       vgpu_frame_welcome(message, VGPU_LINK_UPDATE, t->features, t->vm_id,
                                          (uint32_t)t->pool, t->priority));
    }
    vgpu_mediator_schedule(m);
}
