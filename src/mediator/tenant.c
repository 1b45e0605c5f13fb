/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is attached, and as what; see broker.h and tenant.h. */
#include "mediator/tenant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/names.h"
#include "mediator/admit.h"
#include "mediator/broker.h"
#include "mediator/endpoint.h"
#include "mediator/events.h"
#include "mediator/link.h"
#include "mediator/local.h"
#include "mediator/mark.h"
#include "mediator/seat.h"
#include "mediator/stats.h"
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
    t->stats->sessions++;
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

/* Puts it on a GPU of its pool, which has at least one. */
static bool join(struct vgpu_mediator *m, struct vgpu_tenant *t, const struct vgpu_admission *a)
{
    uint32_t gpu = vgpu_seat_choose(m, (char)a->pool_id, a->memory);
    if (gpu == VGPU_SEAT_NONE)
        return false;
    int rc = vgpu_seat_join(m, t, gpu, &a->share, a->memory);
    if (rc) {
        vgpu_log(VGPU_LOG_ERROR, "no-account", "vm=%u reason=\"%s\"", t->vm_id, strerror(-rc));
        return false;
    }
    t->pool = (char)a->pool_id;
    t->priority = a->share.priority;
    return true;
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
    t->mark = vgpu_mark_get(&m->marks, account);
    if (!t->mark) {
        free(t);
        return NULL;
    }
    t->stats = vgpu_stats_join(m->stats, account);
    if (!join(m, t, a)) {
        vgpu_stats_leave(t->stats, vgpu_loop_now(m->loop));
        vgpu_mark_put(t->mark);
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
    /* Its workers hold somebody else's memory until they are gone. */
    uint32_t gpu = t->seat->gpu;
    if (t->account != account)
        return false;
    if (t->pool != (char)a->pool_id)
        gpu = vgpu_seat_choose(m, (char)a->pool_id, a->memory);
    if (gpu == VGPU_SEAT_NONE || vgpu_seat_move(m, t, gpu, &a->share, a->memory))
        return false;
    t->pool = (char)a->pool_id;
    t->priority = a->share.priority;
    vgpu_seat_restart(t, vgpu_loop_now(m->loop));
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
    const struct vgpu_gpu *gpu = &link->mediator->gpus[t->seat->gpu];
    if (!may_log_link(link->mediator, t, &suppressed))
        return;
    vgpu_log(VGPU_LOG_INFO, "attached",
             "vm=%u pool=%c priority=%s backend=%s gpu=%u socket=%s generation=%u suppressed=%u",
             t->vm_id, t->pool, vgpu_priority_name(t->priority),
             vgpu_backend_name(gpu->setting.backend), t->seat->gpu,
             vgpu_log_quote(name, sizeof(name), link->name, strlen(link->name)), hello->generation,
             suppressed);
    vgpu_events_add(link->mediator->events, "attached", t->vm_id, t->seat->gpu, "pool %c, %s",
                    t->pool, link->name);
}

static void count_attached(const struct vgpu_link *link, const struct vgpu_tenant *t)
{
    struct vgpu_stats_vm *s = t->stats;
    link->mediator->stats->links++;
    s->attaches++;
    s->local = !link->endpoint;
    s->number = s->local ? link->local_uid : t->vm_id;
    s->pool = t->pool;
    s->gpu = t->seat->gpu;
    s->priority = t->priority;
}

static void refuse(struct vgpu_link *link, uint32_t vm_id, uint32_t reason, const char *text)
{
    uint32_t suppressed;
    struct vgpu_mediator *m = link->mediator;
    m->stats->refusals++;
    if (vgpu_log_limit_take(&m->stranger_limit, vgpu_loop_now(m->loop), &suppressed)) {
        char name[200], quoted[300];
        vgpu_log(VGPU_LOG_WARN, "refused", "vm=%u refusal=%u socket=%s reason=%s suppressed=%u",
                 vm_id, reason, vgpu_log_quote(name, sizeof(name), link->name, strlen(link->name)),
                 vgpu_log_quote(quoted, sizeof(quoted), text, strlen(text)), suppressed);
        vgpu_events_add(m->events, "refused", vm_id, VGPU_EVENT_NONE, "%s", text);
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
    t->queue = a.queue;
    t->uid = a.uid;
    t->wish_pool = (char)hello->pool_id;
    t->wish_priority = hello->priority;
    t->link = link;
    link->tenant = t;
    link->attached_ns = vgpu_loop_now(m->loop);
    link->order.welcomed = true;
    link->order.channels = t->window;
    link->order.brings = t->window && !local;
    link->order.window = t->window && local;
    count_attached(link, t);
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
    uint64_t lease = vgpu_seat_lease_ns(t, vgpu_loop_now(m->loop));
    vgpu_log(VGPU_LOG_INFO, event,
             "vm=%u pool=%c priority=%s backend=%s %s requests=%llu errors=%llu bytes_in=%llu "
             "bytes_out=%llu sessions=%llu lease_ms=%llu leases=%llu recalls=%llu late=%llu "
             "lease_messages=%llu",
             t->vm_id, t->pool, vgpu_priority_name(t->priority),
             vgpu_backend_name(m->gpus[t->seat->gpu].setting.backend), state,
             (unsigned long long)t->requests, (unsigned long long)t->errors,
             (unsigned long long)t->bytes_in, (unsigned long long)t->bytes_out,
             (unsigned long long)t->opened, (unsigned long long)(lease / VGPU_NS_PER_MS),
             (unsigned long long)vgpu_seat_leases(t), (unsigned long long)vgpu_seat_recalls(t),
             (unsigned long long)t->late_answers, (unsigned long long)vgpu_seat_messages(t));
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
        vgpu_events_add(m->events, "detached", t->vm_id, t->seat->gpu, "%llu requests",
                        (unsigned long long)t->requests);
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
    vgpu_mark_put(t->mark);
    vgpu_seat_leave_all(m, t);
    vgpu_stats_leave(t->stats, vgpu_loop_now(m->loop));
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
                 vgpu_seat_holding(t) ? "yes" : "no", (unsigned long long)vgpu_seat_memory(t),
                 (unsigned long long)t->seat->quota->quota_bytes, window);
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
        struct vgpu_sched_tenant what = vgpu_admit_share(
            vm, vm->priority < 0 ? t->priority : (uint32_t)vm->priority, t->seat->gpu);
        vgpu_seat_change(m, t, &what, t->seat->quota->quota_bytes);
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
