/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a change of VMs makes of the registry: checks it against how things are, and gives the
 * transaction. Pure. Changes of pools and GPUs are not here: what GPUs there are only a mediator
 * knows.
 */
#ifndef VGPU_REGISTRY_PLAN_H
#define VGPU_REGISTRY_PLAN_H

#include "registry/change.h"

/* What is known besides the registry. Each may be NULL: then nothing speaks against it. */
struct vgpu_plan_facts {
    void *context;
    /* It has a [vm N] section, in that line. */
    bool (*in_file)(void *context, uint32_t vm, uint32_t *line);
    /* It is a local client; of that user. */
    bool (*is_local)(void *context, uint32_t vm, uint32_t *uid);
    /* It is attached. */
    bool (*is_attached)(void *context, uint32_t vm);
    /* Whether the pool has a GPU; in text (52 bytes) those that have. */
    bool (*has_gpu)(void *context, char pool, char *pools);
    /* Bytes of the largest card of the pool, of all pools if it is 0; 0: no limit is known. */
    uint64_t (*largest_card)(void *context, char pool);
    /* Whether it is in quarantine, for VMs of which the registry has no row. */
    bool (*is_quarantined)(void *context, uint32_t vm);
};

struct vgpu_plan_who {
    int64_t time_ms;
    int64_t uid, pid;         /* -1: the mediator itself */
    uint32_t default_seconds; /* of a quarantine that does not say how long */
};

/*
 * The transaction of a change of VMs (everything up to VGPU_CHANGE_UNDRAIN, the last two only with
 * vms), with a line of the audit log for each VM. 0, or -EINVAL with an error. *out is zeroed
 * before, and the caller's to free in any case.
 */
int vgpu_plan(const struct vgpu_registry_state *state, const struct vgpu_change *change,
              const struct vgpu_plan_facts *facts, const struct vgpu_plan_who *who,
              struct vgpu_registry_txn *out, struct vgpu_change_error *error);

/* Until when something asked for now lasts; seconds 0: for ever. */
int64_t vgpu_plan_until(int64_t now_ms, uint32_t seconds);

#endif
