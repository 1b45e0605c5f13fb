/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each operation does; see control_ops.h. */
#include "mediator/control_ops.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "config.h"
#include "mediator/control_show.h"
#include "mediator/events.h"
#include "mediator/policy.h"
#include "mediator/pools.h"
#include "mediator/stats_json.h"
#include "registry/registry.h"
#include "registry/writer.h"

#define EVENTS_MAX 1000u

struct op {
    const char *name;
    /* Answers, or returns -EINVAL with an error. */
    int (*run)(struct vgpu_control_client *client, const struct vgpu_control_request *request,
               struct vgpu_change_error *error);
    const char *fields[4]; /* NULL behind the last */
};

/* --- status --- */

static void count_links(const struct vgpu_mediator *m, uint32_t *links, uint32_t *workers)
{
    *links = *workers = 0;
    vgpu_list_each(node, &m->links)
    {
        ++*links;
    }
    vgpu_list_each(worker, &m->workers)
    {
        ++*workers;
    }
}

static int run_status(struct vgpu_control_client *client,
                      const struct vgpu_control_request *request, struct vgpu_change_error *error)
{
    struct vgpu_mediator *m = vgpu_control_mediator(client);
    struct vgpu_text t = {0};
    uint32_t counts[4] = {0}, links, workers, gpus = 0;
    char pools[2 * VGPU_POOL_COUNT];
    double now_s = (double)vgpu_events_time_ms() / 1000;
    const struct vgpu_registry *registry = m->policy->registry;
    (void)request;
    if (vgpu_show_count(m, counts))
        return vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
    count_links(m, &links, &workers);
    for (uint32_t i = 0; i < m->gpu_count; i++)
        gpus += vgpu_pools_shown(&m->gpus[i]);
    vgpu_text_printf(&t,
                     "{\"version\": \"%s\", \"pid\": %d, \"uptime_s\": %.3f, \"started\": %.3f, "
                     "\"may_change\": %s, \"admit_unknown\": %s, \"vms\": {\"registered\": %u, "
                     "\"attached\": %u, \"quarantined\": %u, \"draining\": %u}, \"pools\": \"%s\", "
                     "\"gpus\": %u, \"workers\": %u, \"links\": %u, \"registry\": {\"path\": ",
                     VGPU_VERSION, (int)getpid(), now_s - m->start_time_s, m->start_time_s,
                     vgpu_control_may_change(client) ? "true" : "false",
                     m->settings->admit_unknown ? "true" : "false", counts[0], counts[1], counts[2],
                     counts[3], vgpu_settings_pools(m->settings, pools), gpus, workers, links);
    if (registry)
        vgpu_text_json(&t, m->settings->registry);
    else
        vgpu_text_printf(&t, "null");
    vgpu_text_printf(&t, ", \"state\": ");
    vgpu_text_json(&t, vgpu_policy_state(m));
    vgpu_text_printf(&t,
                     ", \"schema\": %u, \"changes\": %" PRIu64 ", \"starts\": %" PRIu64
                     "}, \"clients\": %u, \"log_dropped\": %" PRIu64 "}",
                     VGPU_REGISTRY_SCHEMA, m->policy->changes,
                     registry ? vgpu_registry_starts(registry) : 0, vgpu_control_count(client),
                     vgpu_log_dropped());
    vgpu_control_answer(client, &t);
    return 0;
}

/* --- lists --- */

static int run_list_vms(struct vgpu_control_client *client,
                        const struct vgpu_control_request *request, struct vgpu_change_error *error)
{
    struct vgpu_text t = {0};
    (void)request;
    (void)error;
    vgpu_text_printf(&t, "{\"vms\": [");
    vgpu_show_vms(vgpu_control_mediator(client), &t);
    vgpu_text_printf(&t, "]}");
    vgpu_control_answer(client, &t);
    return 0;
}

static int run_show_vm(struct vgpu_control_client *client,
                       const struct vgpu_control_request *request, struct vgpu_change_error *error)
{
    struct vgpu_text t = {0};
    uint64_t vm = UINT64_MAX;
    if (vgpu_control_request_number(request, "vm", 0, UINT32_MAX, &vm, error))
        return -EINVAL;
    if (vm == UINT64_MAX)
        return vgpu_change_fail(error, VGPU_CODE_INVALID, "show-vm: vm is missing");
    vgpu_text_printf(&t, "{\"vm\": ");
    if (!vgpu_show_vm(vgpu_control_mediator(client), (uint32_t)vm, &t)) {
        vgpu_text_free(&t);
        return vgpu_change_fail(error, VGPU_CODE_NOT_FOUND,
                                "vm %u is neither registered nor attached: list-vms shows those "
                                "that are",
                                (uint32_t)vm);
    }
    vgpu_text_printf(&t, "}");
    vgpu_control_answer(client, &t);
    return 0;
}

static int run_list_pools(struct vgpu_control_client *client,
                          const struct vgpu_control_request *request,
                          struct vgpu_change_error *error)
{
    struct vgpu_text t = {0};
    (void)request;
    (void)error;
    vgpu_text_printf(&t, "{\"pools\": [");
    vgpu_show_pools(vgpu_control_mediator(client), &t);
    vgpu_text_printf(&t, "]}");
    vgpu_control_answer(client, &t);
    return 0;
}

static int run_list_gpus(struct vgpu_control_client *client,
                         const struct vgpu_control_request *request,
                         struct vgpu_change_error *error)
{
    struct vgpu_text t = {0};
    (void)request;
    (void)error;
    vgpu_text_printf(&t, "{\"gpus\": [");
    vgpu_show_gpus(vgpu_control_mediator(client), &t);
    vgpu_text_printf(&t, "]}");
    vgpu_control_answer(client, &t);
    return 0;
}

/* A page of what is counted (docs/metrics.md). */
static int run_stats(struct vgpu_control_client *client, const struct vgpu_control_request *request,
                     struct vgpu_change_error *error)
{
    uint64_t after = 0;
    struct vgpu_text t = {0};
    if (vgpu_control_request_number(request, "after", 0, UINT32_MAX, &after, error))
        return -EINVAL;
    t.bytes = vgpu_stats_answer(vgpu_control_mediator(client), (uint32_t)after);
    t.length = t.bytes ? strlen(t.bytes) : 0;
    vgpu_control_answer(client, &t);
    return 0;
}

/* --- events --- */

void vgpu_control_event(struct vgpu_text *t, const struct vgpu_event *e)
{
    vgpu_text_printf(t, "{\"seq\": %" PRIu64 ", \"time\": %" PRId64 ".%03d, \"event\": \"%s\", ",
                     e->seq, e->time_ms / 1000, (int)(e->time_ms % 1000), e->name);
    if (e->vm == VGPU_EVENT_NO_VM)
        vgpu_text_printf(t, "\"vm\": null, ");
    else
        vgpu_text_printf(t, "\"vm\": %" PRId64 ", ", e->vm);
    if (e->gpu == VGPU_EVENT_NONE)
        vgpu_text_printf(t, "\"gpu\": null, \"text\": ");
    else
        vgpu_text_printf(t, "\"gpu\": %u, \"text\": ", e->gpu);
    vgpu_text_json(t, e->text);
    vgpu_text_printf(t, "}");
}

static int run_events(struct vgpu_control_client *client,
                      const struct vgpu_control_request *request, struct vgpu_change_error *error)
{
    const struct vgpu_events *events = vgpu_control_mediator(client)->events;
    struct vgpu_text t = {0};
    uint64_t since = 0, limit = 100, lost, next;
    bool follow = false, any = false;
    if (vgpu_control_request_number(request, "since", 0, INT64_MAX, &since, error) ||
        vgpu_control_request_number(request, "limit", 1, EVENTS_MAX, &limit, error) ||
        vgpu_control_request_bool(request, "follow", &follow, error))
        return -EINVAL;
    (void)vgpu_events_after(events, since, &lost);
    /* Of the newest: what is older than those is passed over. */
    uint64_t from = events->last > limit ? events->last - limit : 0;
    next = from > since ? from : since;
    if (follow && !vgpu_control_follow(client, events->last))
        return vgpu_change_fail(error, VGPU_CODE_INVALID,
                                "events: this connection follows already: use another one");
    vgpu_text_printf(&t, "{\"events\": [");
    for (const struct vgpu_event *e; (e = vgpu_events_after(events, next, &(uint64_t){0}));) {
        vgpu_text_printf(&t, "%s", any ? ", " : "");
        vgpu_control_event(&t, e);
        next = e->seq;
        any = true;
    }
    /* A number from before a restart would wait for ever. */
    vgpu_text_printf(&t, "], \"next\": %" PRIu64 ", \"lost\": %" PRIu64 "}",
                     next < events->last ? next : events->last, lost);
    vgpu_control_answer(client, &t);
    return 0;
}

/* --- audit --- */

static void show_line(struct vgpu_text *t, const struct vgpu_registry_audit *a)
{
    vgpu_text_printf(t, "{\"seq\": %" PRIu64 ", \"time\": %" PRId64 ".%03d, \"uid\": ", a->seq,
                     a->time_ms / 1000, (int)(a->time_ms % 1000));
    if (a->uid < 0)
        vgpu_text_printf(t, "null, \"pid\": null, \"op\": ");
    else
        vgpu_text_printf(t, "%" PRId64 ", \"pid\": %" PRId64 ", \"op\": ", a->uid, a->pid);
    vgpu_text_json(t, a->op);
    vgpu_text_printf(t, ", \"target\": ");
    vgpu_text_json(t, a->target);
    vgpu_text_printf(t, ", \"old\": ");
    vgpu_text_json(t, a->before);
    vgpu_text_printf(t, ", \"new\": ");
    vgpu_text_json(t, a->after);
    vgpu_text_printf(t, "}");
}

static void on_audit(struct vgpu_mediator *m, struct vgpu_policy_read *read)
{
    struct vgpu_control_ticket *ticket = read->owner;
    struct vgpu_control_client *client = vgpu_control_find(ticket);
    const struct vgpu_writer_job *job = read->job;
    struct vgpu_text t = {0};
    (void)m;
    free(ticket);
    if (!client)
        return;
    if (job->rc) {
        struct vgpu_change_error error;
        vgpu_change_fail(&error, VGPU_CODE_STORAGE, "%.300s", job->why);
        vgpu_control_fail(client, &error);
        return;
    }
    vgpu_text_printf(&t, "{\"audit\": [");
    for (uint32_t i = 0; i < job->line_count; i++) {
        vgpu_text_printf(&t, "%s", i ? ", " : "");
        show_line(&t, &job->lines[i]);
    }
    vgpu_text_printf(&t, "]}");
    vgpu_control_answer(client, &t);
}

/* What a client that waits is known by, on the heap. */
static struct vgpu_control_ticket *take_ticket(const struct vgpu_control_client *client)
{
    struct vgpu_control_ticket *ticket = malloc(sizeof(*ticket));
    if (ticket)
        *ticket = vgpu_control_ticket(client);
    return ticket;
}

static int run_audit(struct vgpu_control_client *client, const struct vgpu_control_request *request,
                     struct vgpu_change_error *error)
{
    uint64_t limit = 100, before = INT64_MAX;
    if (vgpu_control_request_number(request, "limit", 1, EVENTS_MAX, &limit, error) ||
        vgpu_control_request_number(request, "before", 1, INT64_MAX, &before, error))
        return -EINVAL;
    struct vgpu_policy_read *read = calloc(1, sizeof(*read));
    struct vgpu_control_ticket *ticket = take_ticket(client);
    int rc = -EINVAL;
    if (!read || !ticket) {
        vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
    } else {
        read->done = on_audit;
        read->owner = ticket;
        rc = vgpu_policy_audit(vgpu_control_mediator(client), read, before, (uint32_t)limit, error);
    }
    if (rc) {
        free(read);
        free(ticket);
        return rc;
    }
    vgpu_control_wait(client);
    return 0;
}

/* --- changes --- */

/* The result: what was changed, as it is now. */
static void show_changed(struct vgpu_mediator *m, const struct vgpu_policy_change *c,
                         struct vgpu_text *t)
{
    const struct vgpu_change *change = &c->change;
    if (change->op == VGPU_CHANGE_REMOVE) {
        vgpu_text_printf(t, "{\"removed\": [");
        for (uint32_t i = 0; i < change->vm_count; i++)
            vgpu_text_printf(t, "%s%u", i ? ", " : "", change->vms[i]);
        vgpu_text_printf(t, "]}");
    } else if (change->op == VGPU_CHANGE_REMOVE_POOL) {
        vgpu_text_printf(t, "{\"removed\": \"%c\"}", change->pool);
    } else if (change->vm_count) {
        vgpu_text_printf(t, "{\"vms\": [");
        for (uint32_t i = 0; i < change->vm_count; i++) {
            vgpu_text_printf(t, "%s", i ? ", " : "");
            /* A stranger that was released and is gone: nothing is left to say. */
            if (!vgpu_show_vm(m, change->vms[i], t))
                vgpu_text_printf(t, "{\"vm\": %u, \"registered\": false, \"state\": \"detached\"}",
                                 change->vms[i]);
        }
        vgpu_text_printf(t, "]}");
    } else {
        bool gpu = change->said & VGPU_FIELD_GPU && c->gpu_count && c->gpus[0] < m->gpu_count;
        vgpu_text_printf(t, "{");
        if (change->said & VGPU_FIELD_POOL) {
            vgpu_text_printf(t, "\"pool\": ");
            vgpu_show_pool(m, change->pool, t);
            vgpu_text_printf(t, "%s", gpu ? ", " : "");
        }
        if (gpu) {
            vgpu_text_printf(t, "\"gpu\": ");
            vgpu_show_gpu(m, c->gpus[0], t);
        }
        vgpu_text_printf(t, "}");
    }
}

static void on_changed(struct vgpu_mediator *m, struct vgpu_policy_change *c,
                       const struct vgpu_change_error *error)
{
    struct vgpu_control_ticket *ticket = c->owner;
    struct vgpu_control_client *client = vgpu_control_find(ticket);
    struct vgpu_text t = {0};
    free(ticket);
    if (!client)
        return;
    if (error) {
        vgpu_control_fail(client, error);
        return;
    }
    show_changed(m, c, &t);
    vgpu_control_answer(client, &t);
}

static int run_change(struct vgpu_control_client *client,
                      const struct vgpu_control_request *request, enum vgpu_change_op op,
                      struct vgpu_change_error *error)
{
    if (!vgpu_control_may_change(client))
        return vgpu_change_fail(error, VGPU_CODE_DENIED,
                                "%s changes something: that takes root, the mediator's own user, "
                                "or a member of its admin_group",
                                request->op);
    struct vgpu_policy_change *c = vgpu_policy_change_new();
    if (!c)
        return vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
    int rc = vgpu_change_read(&c->change, op, request->json, error);
    if (!rc) {
        c->owner = take_ticket(client);
        c->done = on_changed;
        vgpu_control_peer(client, &c->uid, &c->pid);
        rc = c->owner ? 0 : vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
    }
    if (!rc) {
        vgpu_control_wait(client);
        rc = vgpu_policy_change(vgpu_control_mediator(client), c, error);
    }
    if (!rc)
        return 0; /* c may be gone, and the client be answered */
    free(c->owner);
    vgpu_policy_change_free(c);
    return rc;
}

/* --- all of them --- */

static const struct op ops[] = {
    {"status", run_status, {NULL}},
    {"list-vms", run_list_vms, {NULL}},
    {"show-vm", run_show_vm, {"vm", NULL}},
    {"list-pools", run_list_pools, {NULL}},
    {"list-gpus", run_list_gpus, {NULL}},
    {"stats", run_stats, {"after", NULL}},
    {"events", run_events, {"since", "limit", "follow", NULL}},
    {"audit", run_audit, {"limit", "before", NULL}},
};

void vgpu_control_do(struct vgpu_control_client *client, const struct vgpu_control_request *request)
{
    struct vgpu_change_error error;
    enum vgpu_change_op change;
    int rc = -EINVAL;
    if (vgpu_change_find(request->op, &change)) {
        rc = run_change(client, request, change, &error);
    } else {
        size_t i = 0, count = sizeof(ops) / sizeof(ops[0]);
        while (i < count && strcmp(ops[i].name, request->op) != 0)
            i++;
        if (i == count)
            vgpu_change_fail(&error, VGPU_CODE_UNSUPPORTED,
                             "there is no operation '%.40s': docs/control.md has them",
                             request->op);
        else if (!vgpu_control_request_only(request, ops[i].fields, &error))
            rc = ops[i].run(client, request, &error);
    }
    if (rc)
        vgpu_control_fail(client, &error);
}
