/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes of VMs; see plan.h. */
#include "registry/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct planner {
    const struct vgpu_registry_state *state;
    const struct vgpu_change *change;
    const struct vgpu_plan_facts *facts;
    const struct vgpu_plan_who *who;
    struct vgpu_change_error *error;
};

int64_t vgpu_plan_until(int64_t now_ms, uint32_t seconds)
{
    return seconds ? now_ms + (int64_t)seconds * 1000 : VGPU_REGISTRY_FOREVER;
}

static bool is_registered(const struct planner *p, const struct vgpu_registry_vm *row)
{
    uint32_t line;
    return row->registered ||
           (p->facts->in_file && p->facts->in_file(p->facts->context, row->vm, &line));
}

static bool is_policy(enum vgpu_change_op op)
{
    return op <= VGPU_CHANGE_SET_NAME;
}

/* Quotas that no card could ever fill are a slip of the unit, most likely. */
static int check_quota(const struct planner *p, const struct vgpu_registry_vm *row)
{
    const unsigned long long mib = 1ull << 20;
    uint64_t card =
        p->facts->largest_card ? p->facts->largest_card(p->facts->context, row->pool) : 0;
    if (!card || row->memory <= card)
        return 0;
    return vgpu_change_fail(p->error, VGPU_CODE_INVALID,
                            "vm %u: memory = %" PRIu64 " (%llu MiB) is more than the largest GPU "
                            "of %s%c has: %" PRIu64 " (%llu MiB)",
                            row->vm, row->memory, row->memory / mib,
                            row->pool ? "pool " : "all pool", row->pool ? row->pool : 's', card,
                            card / mib);
}

static int check_pool(const struct planner *p, uint32_t vm)
{
    char pools[64] = "";
    char pool = p->change->pool;
    if (!pool || !p->facts->has_gpu || p->facts->has_gpu(p->facts->context, pool, pools))
        return 0;
    return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND,
                            "vm %u: pool '%c' has no GPU (pools: %s)", vm, pool, pools);
}

/* What stands in the way of the operation as such. */
static int check(const struct planner *p, const struct vgpu_registry_vm *row)
{
    const struct vgpu_plan_facts *f = p->facts;
    enum vgpu_change_op op = p->change->op;
    uint32_t uid, line;
    if (is_policy(op) && f->is_local && f->is_local(f->context, row->vm, &uid))
        return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                "vm %u is a local client of uid %u: the section [local %u] of the "
                                "configuration file is for it",
                                row->vm, uid, uid);
    if (op == VGPU_CHANGE_REGISTER && row->registered)
        return vgpu_change_fail(
            p->error, VGPU_CODE_EXISTS,
            "vm %u is registered: set-pool, set-priority and the like change it", row->vm);
    if (op == VGPU_CHANGE_REGISTER && is_registered(p, row))
        return vgpu_change_fail(
            p->error, VGPU_CODE_EXISTS,
            "vm %u has a section in the configuration file, which registers it: "
            "set-pool, set-priority and the like win over that",
            row->vm);
    if (is_policy(op) && op != VGPU_CHANGE_REGISTER && !is_registered(p, row))
        return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND,
                                "vm %u is not registered: register-vm does that", row->vm);
    if (op == VGPU_CHANGE_REMOVE && f->in_file && f->in_file(f->context, row->vm, &line))
        return vgpu_change_fail(p->error, VGPU_CODE_CONFLICT,
                                "vm %u has the section [vm %u] in line %u of the configuration "
                                "file: take it out there",
                                row->vm, row->vm, line);
    if (op == VGPU_CHANGE_REMOVE && !p->change->force && f->is_attached &&
        f->is_attached(f->context, row->vm))
        return vgpu_change_fail(p->error, VGPU_CODE_BUSY,
                                "vm %u is attached: stop the VM first, or force it", row->vm);
    if (op == VGPU_CHANGE_RELEASE && row->quarantine.until_ms <= p->who->time_ms &&
        !(f->is_quarantined && f->is_quarantined(f->context, row->vm)))
        return vgpu_change_fail(p->error, VGPU_CODE_NOT_FOUND, "vm %u is not in quarantine",
                                row->vm);
    return 0;
}

static void set_aside(const struct planner *p, struct vgpu_registry_aside *aside, uint32_t seconds,
                      const char *otherwise)
{
    aside->until_ms = vgpu_plan_until(p->who->time_ms, seconds);
    snprintf(aside->reason, sizeof(aside->reason), "%s",
             p->change->reason[0] ? p->change->reason : otherwise);
}

static void edit(const struct planner *p, struct vgpu_registry_vm *row)
{
    const struct vgpu_change *c = p->change;
    uint32_t said = c->said;
    switch (c->op) {
    case VGPU_CHANGE_REMOVE: {
        /* It is set aside whether it is registered or not. */
        struct vgpu_registry_vm old = *row;
        vgpu_registry_vm_init(row, old.vm);
        row->quarantine = old.quarantine;
        row->drain = old.drain;
        return;
    }
    case VGPU_CHANGE_QUARANTINE:
        set_aside(p, &row->quarantine,
                  said & VGPU_FIELD_SECONDS ? c->seconds : p->who->default_seconds, "by hand");
        return;
    case VGPU_CHANGE_RELEASE:
        row->quarantine = (struct vgpu_registry_aside){0};
        return;
    case VGPU_CHANGE_DRAIN:
        set_aside(p, &row->drain, c->seconds, "by hand");
        return;
    case VGPU_CHANGE_UNDRAIN:
        row->drain = (struct vgpu_registry_aside){0};
        return;
    case VGPU_CHANGE_REGISTER:
        row->registered = true;
        break;
    default:
        break;
    }
    if (said & VGPU_FIELD_NAME)
        memcpy(row->name, c->name, sizeof(row->name));
    if (said & VGPU_FIELD_POOL)
        row->pool = c->pool;
    if (said & VGPU_FIELD_PRIORITY)
        row->priority = c->priority;
    if (said & VGPU_FIELD_WEIGHT)
        row->weight = c->weight;
    if (said & VGPU_FIELD_RATE)
        row->rate = c->rate;
    if (said & VGPU_FIELD_BURST)
        row->burst_ms = c->burst_ms;
    if (said & VGPU_FIELD_MEMORY)
        row->memory = c->memory;
    if (said & VGPU_FIELD_SESSIONS)
        row->sessions = c->sessions;
    if (said & VGPU_FIELD_QUEUE)
        row->queue = c->queue;
}

static int plan_one(const struct planner *p, uint32_t vm, struct vgpu_registry_txn *out)
{
    struct vgpu_registry_vm before, after;
    const struct vgpu_registry_vm *found = vgpu_registry_find_vm(p->state, vm);
    if (found)
        before = *found;
    else
        vgpu_registry_vm_init(&before, vm);
    after = before;
    if (check(p, &before) || (p->change->said & VGPU_FIELD_POOL && check_pool(p, vm)))
        return -EINVAL;
    edit(p, &after);
    if (after.memory && (after.memory != before.memory || after.pool != before.pool) &&
        check_quota(p, &after))
        return -EINVAL;
    struct vgpu_registry_audit line = {
        .time_ms = p->who->time_ms, .uid = p->who->uid, .pid = p->who->pid};
    snprintf(line.op, sizeof(line.op), "%s", vgpu_change_op_name(p->change->op));
    snprintf(line.target, sizeof(line.target), "vm %u", vm);
    vgpu_registry_vm_differ(&before, &after, line.before, line.after, sizeof(line.before));
    if (vgpu_registry_txn_vm(out, &after) || vgpu_registry_txn_audit(out, &line))
        return vgpu_change_fail(p->error, VGPU_CODE_INTERNAL, "out of memory");
    return 0;
}

int vgpu_plan(const struct vgpu_registry_state *state, const struct vgpu_change *change,
              const struct vgpu_plan_facts *facts, const struct vgpu_plan_who *who,
              struct vgpu_registry_txn *out, struct vgpu_change_error *error)
{
    struct planner p = {
        .state = state, .change = change, .facts = facts, .who = who, .error = error};
    if (change->op > VGPU_CHANGE_UNDRAIN || !change->vm_count)
        return vgpu_change_fail(error, VGPU_CODE_UNSUPPORTED,
                                "%s of pools and GPUs needs a running mediator",
                                vgpu_change_op_name(change->op));
    for (uint32_t i = 0; i < change->vm_count; i++)
        if (plan_one(&p, change->vms[i], out))
            return -EINVAL;
    return 0;
}
