/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tenant's lease and its workers; see lease.h. */
#include "mediator/lease.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "mediator/stats.h"

struct vgpu_leases {
    struct vgpu_sched *sched;
    const struct vgpu_lease_ops *ops;
    uint32_t tenant_count;
    struct vgpu_lease_tenant **tenants; /* by number */
    uint64_t last_lease;                /* numbers are never used twice */
    struct vgpu_stats *stats;
};

struct vgpu_leases *vgpu_leases_create(const struct vgpu_sched_config *config,
                                       const struct vgpu_lease_ops *ops)
{
    struct vgpu_leases *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->ops = ops;
    l->tenant_count = config->tenants;
    l->tenants = calloc(config->tenants ? config->tenants : 1, sizeof(*l->tenants));
    l->sched = vgpu_sched_create(config);
    if (!l->tenants || !l->sched) {
        vgpu_leases_destroy(l);
        return NULL;
    }
    return l;
}

void vgpu_leases_destroy(struct vgpu_leases *l)
{
    if (!l)
        return;
    vgpu_sched_destroy(l->sched);
    free(l->tenants);
    free(l);
}

void vgpu_leases_count(struct vgpu_leases *l, struct vgpu_stats *stats)
{
    l->stats = stats;
}

int vgpu_leases_configure(struct vgpu_leases *l, const struct vgpu_sched_config *config,
                          uint64_t now_ns)
{
    return vgpu_sched_configure(l->sched, config, now_ns);
}

uint64_t vgpu_leases_deadline(struct vgpu_leases *l, uint64_t now_ns)
{
    return vgpu_sched_deadline(l->sched, now_ns);
}

int vgpu_lease_tenant_add(struct vgpu_leases *l, struct vgpu_lease_tenant *t, uint32_t number,
                          const struct vgpu_sched_tenant *what, struct vgpu_stats_vm *stats,
                          uint64_t now_ns)
{
    int rc = vgpu_sched_tenant_add(l->sched, number, what, now_ns);
    if (rc)
        return rc;
    *t = (struct vgpu_lease_tenant){.number = number, .is = *what, .stats = stats};
    vgpu_list_init(&t->members);
    l->tenants[number] = t;
    return 0;
}

void vgpu_lease_tenant_debt(struct vgpu_leases *l, const struct vgpu_lease_tenant *t,
                            struct vgpu_sched_debt *debt, uint64_t now_ns)
{
    vgpu_sched_debt(l->sched, t->number, now_ns, debt);
}

void vgpu_lease_tenant_owe(struct vgpu_leases *l, const struct vgpu_lease_tenant *t,
                           const struct vgpu_sched_debt *debt, uint64_t now_ns)
{
    vgpu_sched_owe(l->sched, t->number, debt, now_ns);
}

uint64_t vgpu_lease_tenant_throttles(struct vgpu_leases *l, const struct vgpu_lease_tenant *t,
                                     uint64_t now_ns)
{
    struct vgpu_sched_view view;
    vgpu_sched_look(l->sched, t->number, now_ns, &view);
    return view.present ? view.throttles : 0;
}

void vgpu_lease_tenant_remove(struct vgpu_leases *l, struct vgpu_lease_tenant *t, uint64_t now_ns)
{
    if (t->stats)
        t->stats->throttles += vgpu_lease_tenant_throttles(l, t, now_ns);
    if (t->lease)
        vgpu_stats_returned(l->stats, t->stats, t->is.gpu, t->granted_ns, now_ns);
    vgpu_sched_tenant_remove(l->sched, t->number, now_ns);
    l->tenants[t->number] = NULL;
}

int vgpu_lease_tenant_change(struct vgpu_leases *l, struct vgpu_lease_tenant *t,
                             const struct vgpu_sched_tenant *what, uint64_t now_ns)
{
    int rc = vgpu_sched_tenant_change(l->sched, t->number, what, now_ns);
    if (!rc)
        t->is = *what;
    return rc;
}

uint64_t vgpu_lease_tenant_total_ns(const struct vgpu_lease_tenant *t, uint64_t now_ns)
{
    return t->total_ns + (t->lease ? now_ns - t->start_ns : 0);
}

void vgpu_lease_tenant_restart(struct vgpu_lease_tenant *t, uint64_t now_ns)
{
    t->total_ns = 0;
    t->leases = 0;
    t->recalls = 0;
    t->messages = 0;
    t->start_ns = now_ns;
}

static bool somebody_wants(struct vgpu_lease_tenant *t)
{
    vgpu_list_each(node, &t->members)
    {
        if (vgpu_list_entry(node, struct vgpu_lease_member, node)->wants)
            return true;
    }
    return false;
}

static bool somebody_holds(struct vgpu_lease_tenant *t)
{
    vgpu_list_each(node, &t->members)
    {
        if (vgpu_list_entry(node, struct vgpu_lease_member, node)->lease)
            return true;
    }
    return false;
}

/* Tells the scheduler what the members' wishes come to. */
static void update_wish(struct vgpu_leases *l, struct vgpu_lease_tenant *t, uint64_t now_ns)
{
    bool wants = somebody_wants(t);
    if (wants == t->waiting)
        return;
    t->waiting = wants;
    t->wish_ns = now_ns;
    if (wants)
        vgpu_sched_want(l->sched, t->number, now_ns);
    else
        vgpu_sched_unwant(l->sched, t->number, now_ns);
}

static void return_if_free(struct vgpu_leases *l, struct vgpu_lease_tenant *t, uint64_t now_ns)
{
    if (!t->lease || somebody_holds(t))
        return;
    t->total_ns += now_ns - t->start_ns;
    vgpu_stats_returned(l->stats, t->stats, t->is.gpu, t->granted_ns, now_ns);
    t->lease = 0;
    t->recalled = false;
    vgpu_sched_returned(l->sched, t->number, now_ns);
}

static void give(struct vgpu_leases *l, struct vgpu_lease_member *member)
{
    member->wants = false;
    member->lease = member->tenant->lease;
    member->tenant->messages++;
    l->ops->grant(member, member->lease);
}

static void do_grant(struct vgpu_leases *l, struct vgpu_lease_tenant *t, uint64_t now_ns)
{
    t->waiting = false;
    t->lease = ++l->last_lease;
    t->recalled = false;
    t->start_ns = t->granted_ns = now_ns;
    t->leases++;
    vgpu_stats_granted(l->stats, t->stats, t->is.gpu, now_ns - t->wish_ns, now_ns);
    vgpu_list_each(node, &t->members)
    {
        struct vgpu_lease_member *member = vgpu_list_entry(node, struct vgpu_lease_member, node);
        if (member->wants)
            give(l, member);
    }
    return_if_free(l, t, now_ns);
}

static uint32_t to_us(uint64_t ns)
{
    uint64_t us = ns / VGPU_NS_PER_US + (ns % VGPU_NS_PER_US != 0);
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static void do_recall(struct vgpu_leases *l, struct vgpu_lease_tenant *t, uint64_t grace_ns,
                      uint64_t linger_ns)
{
    if (!t->recalled) {
        t->recalls++;
        if (t->stats)
            t->stats->recalls++;
    }
    t->recalled = true;
    vgpu_list_each(node, &t->members)
    {
        struct vgpu_lease_member *member = vgpu_list_entry(node, struct vgpu_lease_member, node);
        if (!member->lease)
            continue;
        t->messages++;
        l->ops->recall(member, member->lease, to_us(grace_ns), to_us(linger_ns));
    }
}

static void do_kill(struct vgpu_leases *l, struct vgpu_lease_tenant *t)
{
    vgpu_list_each(node, &t->members)
    {
        struct vgpu_lease_member *member = vgpu_list_entry(node, struct vgpu_lease_member, node);
        if (member->lease)
            l->ops->kill(member);
    }
}

void vgpu_leases_run(struct vgpu_leases *l, uint64_t now_ns)
{
    struct vgpu_sched_decision d;
    while (vgpu_sched_next(l->sched, now_ns, &d)) {
        struct vgpu_lease_tenant *t = l->tenants[d.tenant];
        switch (d.action) {
        case VGPU_SCHED_GRANT:
            do_grant(l, t, now_ns);
            break;
        case VGPU_SCHED_RECALL:
            do_recall(l, t, d.grace_ns, d.linger_ns);
            break;
        case VGPU_SCHED_KILL:
            do_kill(l, t);
            break;
        }
    }
}

void vgpu_lease_member_add(struct vgpu_lease_tenant *t, struct vgpu_lease_member *member)
{
    *member = (struct vgpu_lease_member){.tenant = t};
    vgpu_list_append(&t->members, &member->node);
}

void vgpu_lease_member_remove(struct vgpu_leases *l, struct vgpu_lease_member *member,
                              uint64_t now_ns)
{
    vgpu_list_remove(&member->node);
    member->wants = false;
    member->lease = 0;
    return_if_free(l, member->tenant, now_ns);
    update_wish(l, member->tenant, now_ns);
}

void vgpu_lease_member_end(struct vgpu_leases *l, struct vgpu_lease_member *member, uint64_t now_ns)
{
    member->wants = false;
    update_wish(l, member->tenant, now_ns);
}

int vgpu_lease_member_want(struct vgpu_leases *l, struct vgpu_lease_member *member, uint64_t now_ns)
{
    struct vgpu_lease_tenant *t = member->tenant;
    /* While it holds a lease it may ask for the next one only when this one was recalled. */
    if (member->wants || (member->lease && !t->recalled))
        return -EPROTO;
    member->wants = true;
    t->messages++;
    if (t->lease && !t->recalled)
        give(l, member);
    else
        update_wish(l, t, now_ns);
    return 0;
}

int vgpu_lease_member_return(struct vgpu_leases *l, struct vgpu_lease_member *member,
                             uint64_t lease, uint64_t now_ns)
{
    if (!lease || member->lease != lease)
        return -EPROTO;
    member->lease = 0;
    member->tenant->messages++;
    return_if_free(l, member->tenant, now_ns);
    return 0;
}
