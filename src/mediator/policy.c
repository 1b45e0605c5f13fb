/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes, one after the other; see policy.h. Who is attached feels them through enforce.c. */
#include "mediator/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "mediator/broker.h"
#include "mediator/enforce.h"
#include "mediator/events.h"
#include "mediator/link.h"
#include "mediator/mark.h"
#include "mediator/overlay.h"
#include "mediator/pools.h"
#include "mediator/seat.h"
#include "mediator/tenant.h"
#include "registry/writer.h"

#define LOCK_WAIT_MS 5000 /* for a mediator that is just ending */
#define READS_MAX    64

/* --- what is known of VMs, for plans --- */

static bool in_file(void *context, uint32_t vm, uint32_t *line)
{
    struct vgpu_mediator *m = context;
    const struct vgpu_vm_setting *setting = vgpu_settings_vm(m->settings, vm);
    *line = setting ? setting->line : 0;
    return setting && setting->in_file;
}

struct vgpu_tenant *vgpu_policy_local(const struct vgpu_mediator *m, uint32_t vm)
{
    for (uint32_t i = m->max_vms; i < m->slot_count; i++)
        if (m->tenants[i] && m->tenants[i]->vm_id == vm)
            return m->tenants[i];
    return NULL;
}

static bool is_local(void *context, uint32_t vm, uint32_t *uid)
{
    const struct vgpu_tenant *t = vgpu_policy_local(context, vm);
    *uid = t ? (uint32_t)t->account : 0;
    return t != NULL;
}

static struct vgpu_tenant *attached(struct vgpu_mediator *m, uint32_t vm)
{
    struct vgpu_tenant *t = vgpu_tenant_find(m, vm);
    return t && t->link ? t : NULL;
}

static bool is_attached(void *context, uint32_t vm)
{
    return attached(context, vm) != NULL;
}

static bool has_gpu(void *context, char pool, char *pools)
{
    struct vgpu_mediator *m = context;
    vgpu_settings_pools(m->settings, pools);
    if (!pools[0])
        strcpy(pools, "none");
    return m->settings->pools[pool - 'A'].gpu_count != 0;
}

static uint64_t largest_card(void *context, char pool)
{
    struct vgpu_mediator *m = context;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        if (!m->gpus[i].pool || (pool && m->gpus[i].pool != pool))
            continue;
        if (!m->gpus[i].setting.memory_bytes)
            return 0;
        if (m->gpus[i].setting.memory_bytes > largest)
            largest = m->gpus[i].setting.memory_bytes;
    }
    return largest;
}

static uint64_t key_of(const struct vgpu_mediator *m, uint32_t vm)
{
    const struct vgpu_tenant *local = vgpu_policy_local(m, vm);
    return local ? local->account : vgpu_ledger_key(false, vm);
}

static bool is_quarantined(void *context, uint32_t vm)
{
    struct vgpu_mediator *m = context;
    const struct vgpu_mark *mark = vgpu_mark_find(&m->marks, key_of(m, vm));
    return mark && vgpu_mark_quarantined(mark);
}

static bool yes(void *context, uint32_t vm)
{
    (void)context;
    (void)vm;
    return true;
}

/* --- changes --- */

struct vgpu_policy_change *vgpu_policy_change_new(void)
{
    struct vgpu_policy_change *c = calloc(1, sizeof(*c));
    struct vgpu_writer_job *job = calloc(1, sizeof(*job));
    if (!c || !job) {
        free(c);
        free(job);
        return NULL;
    }
    c->job = job;
    c->uid = c->pid = -1;
    return c;
}

static void free_job(struct vgpu_writer_job *job)
{
    vgpu_registry_txn_free(&job->txn);
    free(job->lines);
    free(job);
}

void vgpu_policy_change_free(struct vgpu_policy_change *c)
{
    if (!c)
        return;
    vgpu_change_free(&c->change);
    vgpu_registry_txn_free(&c->locals);
    if (c->job)
        free_job(c->job);
    free(c);
}

static bool is_own(const struct vgpu_policy_change *c)
{
    return c->uid < 0;
}

static bool is_of_vms(const struct vgpu_change *c)
{
    return c->op < VGPU_CHANGE_DRAIN || (c->op <= VGPU_CHANGE_UNDRAIN && c->vm_count);
}

static bool sets_aside(enum vgpu_change_op op)
{
    return op >= VGPU_CHANGE_QUARANTINE && op <= VGPU_CHANGE_UNDRAIN;
}

/* A further GPU would be the third that the VM has workers on (K24). */
static int check_moves(struct vgpu_mediator *m, const struct vgpu_change *c,
                       struct vgpu_change_error *error)
{
    for (uint32_t i = 0; c->op == VGPU_CHANGE_SET_POOL && i < c->vm_count; i++) {
        struct vgpu_tenant *t = attached(m, c->vms[i]);
        if (!t || !c->pool || t->pool == c->pool || !vgpu_seat_moving(t))
            continue;
        uint32_t gpu = vgpu_seat_choose(m, c->pool, t->seat->quota->quota_bytes);
        if (gpu != t->seats[0].gpu && gpu != t->seats[1].gpu)
            return vgpu_change_fail(error, VGPU_CODE_BUSY,
                                    "vm %u: has sessions on GPU %u and GPU %u from its last move: "
                                    "wait until those on one of them have ended",
                                    t->vm_id, t->seats[0].gpu, t->seats[1].gpu);
    }
    return 0;
}

/* Rows of local clients are not written: what is held against their users ends with the mediator.
 */
static int part_locals(struct vgpu_mediator *m, struct vgpu_policy_change *c)
{
    struct vgpu_registry_txn *txn = &c->job->txn;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < txn->vm_count; i++) {
        if (!vgpu_policy_local(m, txn->vms[i].row.vm))
            txn->vms[kept++] = txn->vms[i];
        else if (vgpu_registry_txn_vm(&c->locals, &txn->vms[i].row))
            return -ENOMEM;
    }
    txn->vm_count = kept;
    return 0;
}

static int plan_vms(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                    const struct vgpu_plan_who *who, struct vgpu_change_error *error)
{
    const struct vgpu_plan_facts facts = {.context = m,
                                          .in_file = in_file,
                                          .is_local = is_local,
                                          .is_attached = is_attached,
                                          .has_gpu = has_gpu,
                                          .largest_card = largest_card,
                                          .is_quarantined = is_own(c) ? yes : is_quarantined};
    struct vgpu_registry_txn *txn = &c->job->txn;
    int rc = vgpu_plan(&m->policy->state, &c->change, &facts, who, txn, error);
    if (!rc)
        rc = check_moves(m, &c->change, error);
    if (!rc && part_locals(m, c))
        rc = vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
    return rc;
}

static int plan(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                struct vgpu_change_error *error)
{
    struct vgpu_plan_who who = {.time_ms = vgpu_events_time_ms(),
                                .uid = c->uid,
                                .pid = c->pid,
                                .default_seconds = m->settings->quarantine_s};
    if (m->stopping)
        return vgpu_change_fail(error, VGPU_CODE_INTERNAL, "the mediator is ending");
    if (!m->policy->registry && !sets_aside(c->change.op))
        return vgpu_change_fail(error, VGPU_CODE_UNSUPPORTED,
                                "%s: there is no registry to keep it in: set registry = PATH in "
                                "[mediator]; or change the configuration file and reload",
                                vgpu_change_op_name(c->change.op));
    int rc = is_of_vms(&c->change) ? plan_vms(m, c, &who, error)
                                   : vgpu_pools_plan(m, c, &who, &c->job->txn, error);
    if (rc)
        return rc;
    rc = vgpu_registry_reserve(&m->policy->state, &c->job->txn);
    if (rc)
        return vgpu_change_fail(error, rc == -ENOMEM ? VGPU_CODE_INTERNAL : VGPU_CODE_CONFLICT,
                                rc == -ENOMEM ? "out of memory"
                                              : "the registry would have more than %u VMs or GPUs",
                                VGPU_REGISTRY_VMS_MAX);
    return 0;
}

static const char *how_of(const struct vgpu_policy_change *c)
{
    return is_own(c) ? "by the mediator" : "by hand";
}

static void apply_vm(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                     const struct vgpu_registry_vm *planned)
{
    uint32_t vm = planned->vm;
    const struct vgpu_registry_vm *row = vgpu_registry_find_vm(&m->policy->state, vm);
    struct vgpu_tenant *t = attached(m, vm);
    uint64_t key = key_of(m, vm);
    if (sets_aside(c->change.op)) {
        vgpu_enforce_quarantine(m, key, &planned->quarantine, how_of(c));
        vgpu_enforce_drain(m, key, &planned->drain, how_of(c));
        return;
    }
    vgpu_overlay_vm(m->settings, vm, row);
    if (!t)
        return;
    if (c->change.op == VGPU_CHANGE_REMOVE)
        vgpu_broker_expel(t, 0);
    if (!vgpu_settings_vm(m->settings, vm) && !m->settings->admit_unknown)
        vgpu_link_close(t->link, VGPU_LINK_REFUSED, "it is not registered any more");
    else
        vgpu_enforce_settings(m, t);
}

static void tell_audit(struct vgpu_mediator *m, const struct vgpu_policy_change *c,
                       const struct vgpu_registry_txn *txn)
{
    for (uint32_t i = 0; i < txn->audit_count; i++) {
        const struct vgpu_registry_audit *a = &txn->audit[i];
        char quoted[400];
        vgpu_log(VGPU_LOG_INFO, "change", "op=%s target=\"%s\" uid=%lld pid=%lld new=%s", a->op,
                 a->target, (long long)a->uid, (long long)a->pid,
                 vgpu_log_quote(quoted, sizeof(quoted), a->after, strlen(a->after)));
        int64_t vm = VGPU_EVENT_NO_VM;
        if (i < c->change.vm_count)
            vm = c->change.vms[i];
        vgpu_events_add(m->events, "change", vm, VGPU_EVENT_NONE, "%s %s: %.64s -> %.64s", a->op,
                        a->target, a->before, a->after);
    }
}

static void apply(struct vgpu_mediator *m, struct vgpu_policy_change *c)
{
    struct vgpu_registry_txn *txn = &c->job->txn;
    vgpu_registry_apply(&m->policy->state, txn);
    if (is_of_vms(&c->change)) {
        for (uint32_t i = 0; i < txn->vm_count; i++)
            apply_vm(m, c, &txn->vms[i].row);
        for (uint32_t i = 0; i < c->locals.vm_count; i++)
            apply_vm(m, c, &c->locals.vms[i].row);
    } else {
        vgpu_pools_apply(m, c, txn);
    }
    tell_audit(m, c, txn);
    vgpu_mediator_schedule(m);
}

/* It is over with this one, and the next may come. */
static void finish(struct vgpu_policy *p, struct vgpu_policy_change *c,
                   const struct vgpu_change_error *error)
{
    if (c->done)
        c->done(p->m, c, error);
    vgpu_policy_change_free(c);
}

static void committed(struct vgpu_policy *p, struct vgpu_policy_change *c)
{
    struct vgpu_mediator *m = p->m;
    struct vgpu_change_error error;
    struct vgpu_writer_job *job = c->job;
    if (job->rc) {
        char quoted[600];
        vgpu_log(VGPU_LOG_ERROR, "registry", "op=%s reason=%s", vgpu_change_op_name(c->change.op),
                 vgpu_log_quote(quoted, sizeof(quoted), job->why, strlen(job->why)));
        vgpu_change_fail(&error, VGPU_CODE_STORAGE, "nothing was changed: %.270s", job->why);
    }
    p->changes += !job->rc;
    /* What the mediator decided itself holds all the same, until it ends. */
    if (!job->rc || is_own(c))
        apply(m, c);
    finish(p, c, job->rc ? &error : NULL);
}

void vgpu_policy_push(struct vgpu_policy *p, struct vgpu_policy_change *c)
{
    c->next = NULL;
    *p->waiting_end = c;
    p->waiting_end = &c->next;
    p->waiting_count++;
}

/* The first of those that wait; there is one. */
static struct vgpu_policy_change *take(struct vgpu_policy *p)
{
    struct vgpu_policy_change *c = p->waiting;
    p->waiting = c->next;
    if (!p->waiting)
        p->waiting_end = &p->waiting;
    p->waiting_count--;
    return c;
}

/* Starts the next change. Those that need no disk are done here. */
void vgpu_policy_pump(struct vgpu_policy *p)
{
    while (!p->running && p->waiting) {
        struct vgpu_policy_change *c = take(p);
        struct vgpu_change_error error;
        if (plan(p->m, c, &error)) {
            finish(p, c, &error);
            continue;
        }
        if (!p->registry || (c->locals.vm_count && !c->job->txn.vm_count)) {
            apply(p->m, c);
            finish(p, c, NULL);
            continue;
        }
        c->job->kind = VGPU_WRITER_COMMIT;
        if (vgpu_writer_submit(p->writer, c->job)) {
            vgpu_change_fail(&error, VGPU_CODE_BUSY,
                             "the registry has too much to write: try again");
            finish(p, c, &error);
            continue;
        }
        p->running = c;
    }
}

int vgpu_policy_change(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                       struct vgpu_change_error *error)
{
    struct vgpu_policy *p = m->policy;
    if (p->waiting_count >= VGPU_POLICY_WAITING)
        return vgpu_change_fail(error, VGPU_CODE_BUSY, "%u changes wait already: try again",
                                p->waiting_count);
    vgpu_policy_push(p, c);
    vgpu_policy_pump(p);
    return 0;
}

/* --- the writer --- */

static void on_done(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_policy *p = vgpu_list_entry(source, struct vgpu_policy, source);
    (void)events;
    for (struct vgpu_writer_job *job; (job = vgpu_writer_done(p->writer));) {
        struct vgpu_policy_change *c = p->running;
        if (c && c->job == job) {
            p->running = NULL;
            committed(p, c);
            continue;
        }
        struct vgpu_policy_read *read = job->asker;
        p->reads--;
        read->done(p->m, read);
        free_job(job);
        free(read);
    }
    vgpu_policy_pump(p);
}

int vgpu_policy_audit(struct vgpu_mediator *m, struct vgpu_policy_read *read, uint64_t before,
                      uint32_t limit, struct vgpu_change_error *error)
{
    struct vgpu_policy *p = m->policy;
    if (!p->registry)
        return vgpu_change_fail(error, VGPU_CODE_UNSUPPORTED,
                                "audit: there is no registry: set registry = PATH in [mediator]");
    struct vgpu_writer_job *job = calloc(1, sizeof(*job));
    if (!job)
        return vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
    job->kind = VGPU_WRITER_AUDIT;
    job->before = before;
    job->limit = limit;
    job->asker = read;
    read->job = job;
    if (p->reads >= READS_MAX || vgpu_writer_submit(p->writer, job)) {
        free_job(job);
        return vgpu_change_fail(error, VGPU_CODE_BUSY,
                                "audit: the registry has too much to do: try again");
    }
    p->reads++;
    return 0;
}

/* --- life --- */

static void set_marks(struct vgpu_mediator *m)
{
    const struct vgpu_registry_state *s = &m->policy->state;
    int64_t now_ms = vgpu_events_time_ms();
    for (uint32_t i = 0; i < s->vm_count; i++) {
        const struct vgpu_registry_vm *row = &s->vms[i];
        uint64_t key = vgpu_ledger_key(false, row->vm);
        if (row->quarantine.until_ms > now_ms)
            vgpu_enforce_quarantine(m, key, &row->quarantine, "as it was before");
        if (row->drain.until_ms > now_ms)
            vgpu_enforce_drain(m, key, &row->drain, "as it was before");
    }
}

int vgpu_policy_overlay(const struct vgpu_mediator *m, struct vgpu_settings *settings)
{
    return vgpu_overlay_all(settings, &m->policy->state);
}

int vgpu_policy_open(struct vgpu_mediator *m, char *why)
{
    const char *path = m->settings->registry;
    struct vgpu_policy *p = calloc(1, sizeof(*p));
    int rc = 0;
    if (!p) {
        snprintf(why, 512, "out of memory");
        return -ENOMEM;
    }
    m->policy = p;
    p->m = m;
    p->source.fd = -1;
    p->timer.call = vgpu_policy_on_timer;
    p->waiting_end = &p->waiting;
    if (path) {
        p->registry = vgpu_registry_open(path, LOCK_WAIT_MS, &p->state, &rc, why);
        if (!p->registry)
            return rc;
    }
    rc = vgpu_policy_overlay(m, m->settings);
    if (rc)
        snprintf(why, 512, "out of memory");
    return rc;
}

int vgpu_policy_serve(struct vgpu_mediator *m, char *why)
{
    struct vgpu_policy *p = m->policy;
    set_marks(m);
    vgpu_policy_look(m);
    if (!p->registry)
        return 0;
    p->writer = vgpu_writer_start(p->registry);
    if (!p->writer) {
        int rc = -errno;
        snprintf(why, 512, "cannot start the registry's thread: %s", strerror(-rc));
        return rc;
    }
    p->source.fd = vgpu_writer_fd(p->writer);
    p->source.call = on_done;
    int rc = vgpu_loop_add(m->loop, &p->source, EPOLLIN);
    if (rc)
        snprintf(why, 512, "cannot wait for the registry: %s", strerror(-rc));
    vgpu_log(VGPU_LOG_INFO, "registry-open", "vms=%u starts=%llu writable=%s", p->state.vm_count,
             (unsigned long long)vgpu_registry_starts(p->registry),
             vgpu_registry_read_only(p->registry) ? "no" : "yes");
    return rc;
}

/* Nobody waits for it any more: what was committed holds from the next start on. */
static void drop_left(struct vgpu_writer_job *job)
{
    if (job->kind != VGPU_WRITER_AUDIT)
        return; /* its change has it */
    free(job->asker);
    free_job(job);
}

void vgpu_policy_close(struct vgpu_mediator *m)
{
    struct vgpu_policy *p = m->policy;
    if (!p)
        return;
    if (m->loop) {
        vgpu_loop_timer_cancel(m->loop, &p->timer);
        vgpu_loop_remove(m->loop, &p->source);
    }
    vgpu_writer_stop(p->writer, drop_left);
    if (p->running)
        vgpu_policy_change_free(p->running);
    while (p->waiting)
        vgpu_policy_change_free(take(p));
    vgpu_registry_close(p->registry);
    vgpu_registry_state_free(&p->state);
    vgpu_mark_free_all(&m->marks);
    free(p);
    m->policy = NULL;
}

const char *vgpu_policy_state(const struct vgpu_mediator *m)
{
    const struct vgpu_policy *p = m->policy;
    if (!p->registry)
        return "none";
    return vgpu_registry_read_only(p->registry) ? "it can only be read: changes are refused" : "ok";
}
