/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests and sessions of a tenant; see broker.h. Who is attached is in tenant.c. */
#include "mediator/broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/names.h"
#include "mediator/enforce.h"
#include "mediator/events.h"
#include "mediator/link.h"
#include "mediator/mark.h"
#include "mediator/request.h"
#include "mediator/stats.h"
#include "mediator/tenant.h"
#include "mediator/tenant_window.h"
#include "mediator/worker.h"
#include "vgpu/curesult.h"

#define ENDING_WORKERS_MAX 16 /* processes of a tenant beside one for each session */
#define RETRY_FIRST_NS     (100 * VGPU_NS_PER_MS)
#define RETRY_LAST_NS      (5 * VGPU_NS_PER_S)

/* --- answers --- */

static void count_answer(struct vgpu_tenant *t, uint32_t error_code, uint32_t length)
{
    vgpu_stats_add(&t->stats->response_bytes, length);
    t->stats->request_errors += error_code != 0;
    if (!t->link)
        return;
    uint64_t took = vgpu_loop_now(t->link->mediator->loop) - t->asked_ns;
    vgpu_histogram_add(&t->stats->mailbox, took);
    vgpu_log(VGPU_LOG_DEBUG, "answer", "vm=%u request=%u seq=%llu error=%u took_us=%llu bytes=%u",
             t->vm_id, t->request_id, (unsigned long long)t->seq, error_code,
             (unsigned long long)(took / VGPU_NS_PER_US), length);
}

/* The end of the outstanding request, whoever answers it. */
static void answer(struct vgpu_tenant *t, uint32_t error_code, const void *response,
                   uint32_t length)
{
    if (!t->outstanding)
        return;
    t->outstanding = false;
    t->serving = NULL;
    t->bytes_out += length;
    if (error_code)
        t->errors++;
    count_answer(t, error_code, length);
    if (t->link)
        vgpu_link_respond(t->link, t->seq, error_code, response, length);
}

/* A CUresult of the mediator's own (P7, P8). */
static void answer_status(struct vgpu_tenant *t, uint32_t status, const char *text)
{
    uint8_t response[VGPU_MAILBOX_BYTES];
    uint32_t length = vgpu_request_answer(response, status, text);
    answer(t, t->typed && status ? VGPU_ERR_CUDA : VGPU_ERR_NONE, response, length);
}

/* Of an attached tenant. The bucket is its VM's: coming back does not fill it. */
static bool may_log_guest(const struct vgpu_tenant *t, uint32_t *suppressed)
{
    struct vgpu_mediator *m = t->link->mediator;
    uint64_t now = vgpu_loop_now(m->loop);
    return vgpu_log_limit_take(&vgpu_ledger_account(&m->ledger, t->account, now)->guests, now,
                               suppressed);
}

/* A request that could not be carried or understood (P6). */
static void answer_error(struct vgpu_tenant *t, uint32_t error_code, uint32_t request_id,
                         const char *reason)
{
    uint8_t response[VGPU_MAILBOX_BYTES];
    uint32_t status = vgpu_request_error_status(error_code);
    uint32_t length = status ? vgpu_request_answer(response, status, reason) : 0;
    uint32_t suppressed;
    if (t->link && may_log_guest(t, &suppressed)) {
        char quoted[256];
        vgpu_log(VGPU_LOG_INFO, "request-refused",
                 "vm=%u request=%u error=%u reason=%s suppressed=%u", t->vm_id, request_id,
                 error_code, vgpu_log_quote(quoted, sizeof(quoted), reason, strlen(reason)),
                 suppressed);
    }
    answer(t, error_code, response, length);
}

/* Remembers what answered the outstanding request, for a CANCEL that crosses with the answer. */
static void remember(struct vgpu_tenant *t, struct vgpu_recent recent)
{
    recent.seq = t->seq;
    t->recent[t->recent_next] = recent;
    t->recent_next = (t->recent_next + 1) % VGPU_RECENT_REQUESTS;
}

/* --- workers --- */

static void note_start_failure(struct vgpu_tenant *t, uint64_t now_ns)
{
    uint64_t wait = RETRY_LAST_NS;
    if (t->start_failures < 6)
        wait = RETRY_FIRST_NS << t->start_failures;
    t->start_failures++;
    t->start_again_ns = now_ns + (wait < RETRY_LAST_NS ? wait : RETRY_LAST_NS);
}

/*
 * Whether another session's GPU context has room on the card: contexts are not the tenants', so
 * they count beside what the tenants hold. A session that has a process may make its context at any
 * time, so it counts from then on.
 */
static bool card_has_room(const struct vgpu_mediator *m, uint32_t gpu, char why[128])
{
    const uint64_t mib = 1ull << 20;
    uint64_t card = m->gpus[gpu].setting.memory_bytes, context = m->settings->context_memory;
    uint64_t held = 0, contexts = 0;
    if (m->gpus[gpu].setting.backend != VGPU_GPU_CUDA || !card)
        return true;
    vgpu_list_each(node, &m->quotas)
    {
        const struct vgpu_quota *q = vgpu_list_entry(node, struct vgpu_quota, node);
        if (q->gpu != gpu)
            continue;
        held += vgpu_quota_held(q);
        contexts += vgpu_quota_contexts(q);
    }
    /* None of these can overflow: a few thousand tenants of 2^46 bytes, and contexts of 2^40. */
    uint64_t taken = held + contexts * context;
    if (taken <= card && context <= card - taken)
        return true;
    snprintf(why, 128,
             "the GPU's %llu MiB are taken: %llu held, %llu contexts of %llu; a session needs one",
             (unsigned long long)(card / mib), (unsigned long long)(held / mib),
             (unsigned long long)contexts, (unsigned long long)(context / mib));
    return false;
}

static bool refuse_worker(struct vgpu_broker_refusal *refusal, uint32_t status, const char *text)
{
    *refusal = (struct vgpu_broker_refusal){.status = status};
    snprintf(refusal->text, sizeof(refusal->text), "%s", text);
    return false;
}

bool vgpu_broker_start_worker(struct vgpu_tenant *t, struct vgpu_session *s,
                              struct vgpu_broker_refusal *refusal)
{
    struct vgpu_mediator *m = t->link->mediator;
    uint64_t now = vgpu_loop_now(m->loop);
    char why[128];
    if (s->worker)
        return true;
    if (vgpu_mark_quarantined(t->mark)) {
        refuse_worker(refusal, 0, "the VM is in quarantine");
        refusal->error_code = VGPU_ERR_QUARANTINED;
        return false;
    }
    if (!vgpu_enforce_start(t, why)) {
        refuse_worker(refusal, 0, why);
        refusal->error_code = VGPU_ERR_QUEUE_FULL;
        return false;
    }
    if (now < t->start_again_ns)
        return refuse_worker(refusal, CUDA_ERROR_OPERATING_SYSTEM,
                             "no worker could be started lately; the host's log says why");
    if (!card_has_room(m, t->seat->gpu, why)) {
        uint32_t suppressed;
        if (may_log_guest(t, &suppressed)) {
            vgpu_events_add(m->events, "gpu-full", t->vm_id, t->seat->gpu, "%s", why);
            vgpu_log(VGPU_LOG_WARN, "gpu-full", "vm=%u gpu=%u reason=\"%s\" suppressed=%u",
                     t->vm_id, t->seat->gpu, why, suppressed);
        }
        return refuse_worker(refusal, CUDA_ERROR_OUT_OF_MEMORY, why);
    }
    if (t->worker_count > t->max_sessions + ENDING_WORKERS_MAX ||
        !vgpu_ledger_start(&m->ledger, t->account, now)) {
        refuse_worker(refusal, 0, "too many workers of this VM start or end at once");
        refusal->error_code = VGPU_ERR_QUEUE_FULL;
        return false;
    }
    if (vgpu_worker_start(m, t, s->id, &s->worker, why)) {
        note_start_failure(t, now);
        vgpu_log(VGPU_LOG_ERROR, "worker-start-failed",
                 "vm=%u session=0x%llx worker=%s reason=\"%s\"", t->vm_id,
                 (unsigned long long)s->id, m->worker_path, why);
        return refuse_worker(refusal, CUDA_ERROR_OPERATING_SYSTEM, why);
    }
    s->worker->session = s;
    return true;
}

void vgpu_broker_expel(struct vgpu_tenant *t, uint32_t error_code)
{
    if (t->outstanding && error_code)
        answer_error(t, error_code, 0, "the VM is in quarantine");
    else if (t->outstanding)
        answer_status(t, CUDA_ERROR_LAUNCH_FAILED, "the host has ended this session");
    vgpu_tenant_end_sessions(t);
}

void vgpu_broker_worker_ready(struct vgpu_worker *w)
{
    w->tenant->start_failures = 0;
    w->tenant->start_again_ns = 0;
}

void vgpu_broker_worker_lost(struct vgpu_worker *w, uint32_t status, const char *why)
{
    struct vgpu_tenant *t = w->tenant;
    struct vgpu_session *s = w->session;
    bool serving = t->outstanding && t->serving == w;
    vgpu_tenant_channel_lost(t, s, false, status ? VGPU_CHANNEL_SESSION_LOST : VGPU_CHANNEL_HOST);
    vgpu_tenant_worker_leaving(w);
    w->session = NULL;
    s->worker = NULL;
    s->sticky = status;
    if (status) {
        t->stats->faults++;
        w->mediator->stats->faults++;
        w->fault = true;
        vgpu_enforce_fault(w->mediator, t, status == CUDA_ERROR_LAUNCH_TIMEOUT, why);
    }
    snprintf(s->why, sizeof(s->why), "%s", why);
    if (!w->ready)
        note_start_failure(t, vgpu_loop_now(w->mediator->loop));
    if (serving)
        answer_status(t, status ? status : CUDA_ERROR_OPERATING_SYSTEM, why);
}

void vgpu_broker_answer(struct vgpu_worker *w, uint64_t seq, uint32_t error_code,
                        const uint8_t *response, uint32_t length)
{
    struct vgpu_tenant *t = w->tenant;
    if (!t->outstanding || t->serving != w || t->seq != seq) {
        t->late_answers++;
        return;
    }
    remember(t, (struct vgpu_recent){.worker_id = w->id, .session = w->session_id});
    answer(t, error_code, response, length);
}

/* --- requests --- */

static void open_session(struct vgpu_tenant *t, uint64_t id, uint32_t request_id)
{
    char text[128];
    if (id == 0) {
        answer_status(t, CUDA_ERROR_INVALID_VALUE, "session 0 is the VM's own and always open");
    } else if (vgpu_tenant_session(t, id)) {
        answer_status(t, CUDA_ERROR_ILLEGAL_STATE, "a session with this number is open");
    } else if (t->session_count >= t->max_sessions) {
        snprintf(text, sizeof(text), "vm %u: has %u sessions open, the most it may have", t->vm_id,
                 t->session_count);
        answer_error(t, VGPU_ERR_QUEUE_FULL, request_id, text);
    } else if (!vgpu_enforce_start(t, text)) {
        answer_error(t, VGPU_ERR_QUEUE_FULL, request_id, text);
    } else if (!vgpu_tenant_session_open(t, id, t->seq)) {
        answer_status(t, CUDA_ERROR_OPERATING_SYSTEM, "out of memory");
    } else {
        vgpu_log(VGPU_LOG_DEBUG, "session-open", "vm=%u session=0x%llx", t->vm_id,
                 (unsigned long long)id);
        remember(t, (struct vgpu_recent){.session = id, .opened = true});
        answer_status(t, CUDA_SUCCESS, NULL);
    }
}

static void close_session(struct vgpu_tenant *t, uint64_t id)
{
    struct vgpu_session *s = vgpu_tenant_session(t, id);
    if (!s && id) {
        answer_status(t, CUDA_ERROR_INVALID_CONTEXT, "no session with this number is open");
        return;
    }
    if (s)
        vgpu_tenant_session_close(t, s);
    vgpu_log(VGPU_LOG_DEBUG, "session-close", "vm=%u session=0x%llx", t->vm_id,
             (unsigned long long)id);
    answer_status(t, CUDA_SUCCESS, NULL);
}

/* P33, G2. */
static void bind_channel(struct vgpu_tenant *t, uint64_t id, uint32_t channel, uint32_t request_id)
{
    struct vgpu_session *s = vgpu_tenant_session(t, id);
    char why[128];
    if (!t->window || !vgpu_window_complete(t->window)) {
        answer_error(t, VGPU_ERR_UNSUPPORTED, request_id, "there is no window and no channel here");
    } else if (!id) {
        answer_status(t, CUDA_ERROR_INVALID_VALUE, "session 0 has no channel");
    } else if (!s) {
        answer_status(t, CUDA_ERROR_INVALID_CONTEXT, "no session with this number is open");
    } else if (s->sticky) {
        answer_status(t, s->sticky, s->why);
    } else {
        uint32_t status = vgpu_tenant_channel_bind(t, s, channel, why);
        if (!status)
            remember(t, (struct vgpu_recent){.session = id, .bound = true});
        answer_status(t, status, why);
    }
}

static void forward(struct vgpu_tenant *t, uint64_t id, uint32_t request_id, const uint8_t *bytes,
                    uint32_t length)
{
    struct vgpu_session *s = vgpu_tenant_session(t, id);
    if (!s && id == 0)
        s = vgpu_tenant_session_open(t, 0, 0); /* begins with its first use */
    if (!s) {
        if (id)
            answer_status(t, CUDA_ERROR_INVALID_CONTEXT, "no session with this number is open");
        else
            answer_status(t, CUDA_ERROR_OPERATING_SYSTEM, "out of memory");
        return;
    }
    if (s->sticky) {
        answer_status(t, s->sticky, s->why);
        return;
    }
    struct vgpu_broker_refusal refusal;
    if (!vgpu_broker_start_worker(t, s, &refusal)) {
        if (refusal.error_code)
            answer_error(t, refusal.error_code, request_id, refusal.text);
        else
            answer_status(t, refusal.status, refusal.text);
        return;
    }
    t->serving = s->worker;
    if (vgpu_worker_request(s->worker, t->seq, request_id, bytes, length))
        answer_error(t, VGPU_ERR_QUEUE_FULL, request_id,
                     "the worker of this session does not take requests now");
}

void vgpu_broker_request(struct vgpu_tenant *t, uint64_t seq, uint32_t request_id,
                         const uint8_t *bytes, uint32_t length)
{
    struct vgpu_route route;
    const char *reason;
    uint32_t error = vgpu_request_route(bytes, length, &route, &reason);
    t->requests++;
    t->bytes_in += length;
    t->asked_ns = vgpu_loop_now(t->link->mediator->loop);
    t->request_id = request_id;
    vgpu_log(VGPU_LOG_DEBUG, "request",
             "vm=%u request=%u seq=%llu opcode=%u session=0x%llx bytes=%u", t->vm_id, request_id,
             (unsigned long long)seq, error ? 0 : route.opcode,
             error ? 0 : (unsigned long long)route.session, length);
    vgpu_stats_add(&t->stats->requests, 1);
    vgpu_stats_add(&t->stats->request_bytes, length);
    t->outstanding = true;
    t->seq = seq;
    t->typed = route.typed;
    t->serving = NULL;
    if (vgpu_mark_quarantined(t->mark))
        answer_error(t, VGPU_ERR_QUARANTINED, request_id, t->mark->quarantine.reason);
    else if (error)
        answer_error(t, error, request_id, reason);
    else if (route.opcode == VGPU_OP_SESSION_OPEN)
        open_session(t, route.session, request_id);
    else if (route.opcode == VGPU_OP_SESSION_CLOSE)
        close_session(t, route.session);
    else if (route.opcode == VGPU_OP_SESSION_CHANNEL)
        bind_channel(t, route.session, route.channel, request_id);
    else
        forward(t, route.session, request_id, bytes, length);
}

void vgpu_broker_cancel(struct vgpu_tenant *t, uint64_t seq)
{
    if (t->outstanding && t->seq == seq) {
        struct vgpu_worker *w = t->serving;
        t->outstanding = false;
        t->serving = NULL;
        t->stats->cancels++;
        if (w)
            vgpu_worker_cancel(w, seq);
        return;
    }
    for (unsigned i = 0; i < VGPU_RECENT_REQUESTS; i++) {
        struct vgpu_recent *recent = &t->recent[i];
        if (!seq || recent->seq != seq)
            continue;
        struct vgpu_session *s = vgpu_tenant_session(t, recent->session);
        if (recent->opened && s && s->open_seq == seq)
            vgpu_tenant_session_close(t, s);
        else if (recent->bound && s)
            vgpu_tenant_channel_unbind(t, s);
        else if (recent->worker_id && s && s->worker && s->worker->id == recent->worker_id)
            vgpu_worker_cancel(s->worker, seq);
        recent->seq = 0;
        return;
    }
}

void vgpu_broker_reset(struct vgpu_tenant *t, uint32_t generation)
{
    uint32_t suppressed;
    if (may_log_guest(t, &suppressed))
        vgpu_log(VGPU_LOG_INFO, "reset", "vm=%u generation=%u suppressed=%u", t->vm_id, generation,
                 suppressed);
    t->outstanding = false;
    t->serving = NULL;
    vgpu_tenant_window_renew(t);
    vgpu_tenant_end_sessions(t);
}
