/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lease gate; see lease.h. */
#include "worker/lease.h"

#include <errno.h>

/* The control thread's moves. They fail when the engine has released meanwhile. Sequentially
 * consistent: whoever moves the gate looks afterwards whether the engine sleeps, and the engine,
 * before it sleeps, looks at the gate. */
static bool move_gate(struct vgpu_lease *l, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong(&l->gate, &from, to);
}

void vgpu_lease_init(struct vgpu_lease *l)
{
    atomic_init(&l->gate, VGPU_GATE_CLOSED);
    atomic_init(&l->linger_ns, 0);
    l->number = 0;
    l->wanted = false;
    l->deadline_ns = UINT64_MAX;
}

int vgpu_lease_grant(struct vgpu_lease *l, uint64_t number)
{
    if (vgpu_lease_gate(l) != VGPU_GATE_CLOSED)
        return -EPROTO;
    l->number = number;
    l->wanted = false;
    l->deadline_ns = UINT64_MAX;
    atomic_store(&l->gate, VGPU_GATE_OPEN);
    return 0;
}

bool vgpu_lease_recall(struct vgpu_lease *l, uint64_t number, uint64_t now_ns, uint32_t grace_us,
                       uint32_t linger_us)
{
    if (vgpu_lease_gate(l) == VGPU_GATE_CLOSED || number != l->number)
        return false;
    uint64_t grace_ns = (uint64_t)grace_us * 1000;
    uint64_t deadline = grace_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + grace_ns;
    if (deadline < l->deadline_ns)
        l->deadline_ns = deadline;
    atomic_store_explicit(&l->linger_ns, (uint64_t)linger_us * 1000, memory_order_relaxed);
    bool moved = move_gate(l, VGPU_GATE_OPEN, VGPU_GATE_RECALLED);
    return vgpu_lease_tick(l, now_ns) || moved;
}

bool vgpu_lease_tick(struct vgpu_lease *l, uint64_t now_ns)
{
    if (now_ns < l->deadline_ns)
        return false;
    return move_gate(l, VGPU_GATE_RECALLED, VGPU_GATE_STOPPING);
}

uint64_t vgpu_lease_deadline(const struct vgpu_lease *l)
{
    uint32_t gate = atomic_load_explicit(&l->gate, memory_order_acquire);
    return gate == VGPU_GATE_RECALLED ? l->deadline_ns : UINT64_MAX;
}

bool vgpu_lease_want(struct vgpu_lease *l)
{
    if (l->wanted || vgpu_lease_gate(l) != VGPU_GATE_CLOSED)
        return false;
    l->wanted = true;
    return true;
}

bool vgpu_lease_take_return(struct vgpu_lease *l, uint64_t *number)
{
    if (vgpu_lease_gate(l) != VGPU_GATE_RETURNED)
        return false;
    *number = l->number;
    l->deadline_ns = UINT64_MAX;
    atomic_store_explicit(&l->gate, VGPU_GATE_CLOSED, memory_order_release);
    return true;
}

void vgpu_lease_release(struct vgpu_lease *l)
{
    /* Only the engine leaves RECALLED and STOPPING for RETURNED, and the control thread moves
     * nothing out of RETURNED but by take_return, so a plain store cannot undo anyone's move. */
    atomic_store_explicit(&l->gate, VGPU_GATE_RETURNED, memory_order_release);
}
