/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tenant's places on GPUs; see seat.h. */
#include "mediator/seat.h"

#include <errno.h>
#include <string.h>

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

static uint32_t choose(const struct vgpu_mediator *m, char pool, uint64_t memory, bool any)
{
    struct vgpu_place_gpu gpus[VGPU_MEDIATOR_MAX_GPUS];
    for (uint32_t i = 0; i < m->gpu_count; i++) {
        const struct vgpu_gpu *gpu = &m->gpus[i];
        gpus[i] = (struct vgpu_place_gpu){.usable = gpu->pool == pool &&
                                                    (any || (!gpu->drain.until_ms && !gpu->stuck)),
                                          .load = gpu->tenants,
                                          .free_bytes = free_bytes(m, i)};
    }
    return vgpu_place(gpus, m->gpu_count, memory);
}

/* One that starts nothing now is better than none: who is attached there can wait. */
uint32_t vgpu_seat_choose(const struct vgpu_mediator *m, char pool, uint64_t memory)
{
    uint32_t gpu = choose(m, pool, memory, false);
    return gpu != VGPU_SEAT_NONE ? gpu : choose(m, pool, memory, true);
}

static struct vgpu_sched_tenant share_on(const struct vgpu_sched_tenant *share, uint32_t gpu)
{
    struct vgpu_sched_tenant what = *share;
    what.gpu = gpu;
    return what;
}

static int take(struct vgpu_mediator *m, struct vgpu_tenant *t, struct vgpu_seat *seat,
                uint32_t gpu, const struct vgpu_sched_tenant *share, uint64_t memory)
{
    struct vgpu_sched_tenant what = share_on(share, gpu);
    struct vgpu_quota *quota;
    int rc = vgpu_quota_join(&m->quotas, t->account, gpu, memory, &quota);
    if (rc)
        return rc;
    uint32_t number = t->slot + (uint32_t)(seat - t->seats) * m->slot_count;
    rc = vgpu_lease_tenant_add(m->leases, &seat->lease, number, &what, t->stats,
                               vgpu_loop_now(m->loop));
    if (rc) {
        vgpu_quota_leave(quota);
        return rc;
    }
    uint64_t now = vgpu_loop_now(m->loop);
    vgpu_lease_tenant_owe(m->leases, &seat->lease,
                          &vgpu_ledger_account(&m->ledger, t->account, now)->debt, now);
    seat->taken = true;
    seat->gpu = gpu;
    seat->number = number;
    seat->quota = quota;
    seat->worker_count = 0;
    m->gpus[gpu].tenants++;
    return 0;
}

static void leave(struct vgpu_mediator *m, struct vgpu_tenant *t, struct vgpu_seat *seat)
{
    uint64_t now = vgpu_loop_now(m->loop);
    t->left_ns += vgpu_lease_tenant_total_ns(&seat->lease, now);
    t->left_leases += seat->lease.leases;
    t->left_recalls += seat->lease.recalls;
    t->left_messages += seat->lease.messages;
    struct vgpu_sched_debt *kept = &vgpu_ledger_account(&m->ledger, t->account, now)->debt, debt;
    vgpu_lease_tenant_debt(m->leases, &seat->lease, &debt, now);
    /* Of a user with several clients the largest counts. */
    if (!kept->known || kept->gpu != debt.gpu || debt.v >= kept->v)
        *kept = debt;
    vgpu_lease_tenant_remove(m->leases, &seat->lease, now);
    vgpu_quota_leave(seat->quota);
    m->gpus[seat->gpu].tenants--;
    seat->taken = false;
}

int vgpu_seat_join(struct vgpu_mediator *m, struct vgpu_tenant *t, uint32_t gpu,
                   const struct vgpu_sched_tenant *share, uint64_t memory)
{
    int rc = take(m, t, &t->seats[0], gpu, share, memory);
    if (!rc)
        t->seat = &t->seats[0];
    return rc;
}

void vgpu_seat_change(struct vgpu_mediator *m, struct vgpu_tenant *t,
                      const struct vgpu_sched_tenant *share, uint64_t memory)
{
    for (uint32_t i = 0; i < VGPU_SEATS; i++) {
        struct vgpu_seat *seat = &t->seats[i];
        if (!seat->taken)
            continue;
        struct vgpu_sched_tenant what = share_on(share, seat->gpu);
        seat->quota->quota_bytes = memory;
        if (memcmp(&what, &seat->lease.is, sizeof(what)) != 0)
            (void)vgpu_lease_tenant_change(m->leases, &seat->lease, &what, vgpu_loop_now(m->loop));
    }
}

int vgpu_seat_move(struct vgpu_mediator *m, struct vgpu_tenant *t, uint32_t gpu,
                   const struct vgpu_sched_tenant *share, uint64_t memory)
{
    struct vgpu_seat *here = t->seat, *there = here == &t->seats[0] ? &t->seats[1] : &t->seats[0];
    int rc = 0;
    if (here->gpu != gpu) {
        if (there->taken && there->gpu != gpu)
            return -EBUSY; /* it has workers, or it would not be there */
        if (!there->taken)
            rc = take(m, t, there, gpu, share, memory);
        if (rc)
            return rc;
        t->seat = there;
        if (!here->worker_count)
            leave(m, t, here);
    }
    vgpu_seat_change(m, t, share, memory);
    return 0;
}

bool vgpu_seat_worker_gone(struct vgpu_mediator *m, struct vgpu_tenant *t, struct vgpu_seat *seat)
{
    if (--seat->worker_count || seat == t->seat)
        return false;
    leave(m, t, seat);
    return true;
}

void vgpu_seat_leave_all(struct vgpu_mediator *m, struct vgpu_tenant *t)
{
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        if (t->seats[i].taken)
            leave(m, t, &t->seats[i]);
}

bool vgpu_seat_moving(const struct vgpu_tenant *t)
{
    return t->seats[0].taken && t->seats[1].taken;
}

uint64_t vgpu_seat_lease_ns(const struct vgpu_tenant *t, uint64_t now_ns)
{
    uint64_t sum = t->left_ns;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        if (t->seats[i].taken)
            sum += vgpu_lease_tenant_total_ns(&t->seats[i].lease, now_ns);
    return sum;
}

uint64_t vgpu_seat_leases(const struct vgpu_tenant *t)
{
    uint64_t sum = t->left_leases;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        sum += t->seats[i].taken ? t->seats[i].lease.leases : 0;
    return sum;
}

uint64_t vgpu_seat_recalls(const struct vgpu_tenant *t)
{
    uint64_t sum = t->left_recalls;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        sum += t->seats[i].taken ? t->seats[i].lease.recalls : 0;
    return sum;
}

uint64_t vgpu_seat_messages(const struct vgpu_tenant *t)
{
    uint64_t sum = t->left_messages;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        sum += t->seats[i].taken ? t->seats[i].lease.messages : 0;
    return sum;
}

bool vgpu_seat_holding(const struct vgpu_tenant *t)
{
    bool holding = false;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        holding |= t->seats[i].taken && t->seats[i].lease.lease;
    return holding;
}

uint64_t vgpu_seat_memory(const struct vgpu_tenant *t)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        sum += t->seats[i].taken ? vgpu_quota_held(t->seats[i].quota) : 0;
    return sum;
}

void vgpu_seat_restart(struct vgpu_tenant *t, uint64_t now_ns)
{
    t->left_ns = t->left_leases = t->left_recalls = t->left_messages = 0;
    for (uint32_t i = 0; i < VGPU_SEATS; i++)
        if (t->seats[i].taken)
            vgpu_lease_tenant_restart(&t->seats[i].lease, now_ns);
}
