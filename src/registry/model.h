/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the registry says, in memory: VMs, pools, and what of GPUs outlasts a restart; and a
 * transaction, which is what a change makes of it. Pure: no file, no socket, no clock. A row is
 * put as a whole, so that the file and this cannot come to differ in how they understand a change.
 *
 * Times are ms since 1970, UTC. One thread at a time for each state.
 */
#ifndef VGPU_REGISTRY_MODEL_H
#define VGPU_REGISTRY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VGPU_REGISTRY_VMS_MAX  4096u /* rows, and VMs of one change */
#define VGPU_REGISTRY_NAME     65u   /* bytes with the NUL */
#define VGPU_REGISTRY_REASON   160u
#define VGPU_REGISTRY_GPU_NAME 48u /* "GPU-...", "cuda:0" or "software" */
#define VGPU_REGISTRY_POOLS    26u
#define VGPU_REGISTRY_GPUS     16u /* of a pool */
#define VGPU_REGISTRY_CARDS    64u /* rows about GPUs */
#define VGPU_REGISTRY_FOREVER  INT64_MAX

/* A time in which something is set aside: quarantined, or drained. */
struct vgpu_registry_aside {
    int64_t until_ms; /* 0: not; VGPU_REGISTRY_FOREVER: until somebody ends it */
    char reason[VGPU_REGISTRY_REASON];
};

/* 0 (priority: -1) means that the registry does not say. */
struct vgpu_registry_vm {
    uint32_t vm;
    bool registered; /* false: there is only something to be remembered of it */
    char name[VGPU_REGISTRY_NAME];
    char pool;
    int32_t priority; /* enum vgpu_priority */
    uint32_t weight;
    uint32_t rate; /* thousandths of a GPU's time */
    uint32_t burst_ms;
    uint64_t memory; /* bytes */
    uint32_t sessions;
    uint32_t queue;
    struct vgpu_registry_aside quarantine, drain;
};

struct vgpu_registry_pool {
    char pool;
    bool has_gpus; /* its GPUs are the registry's to say, also if there are none */
    uint32_t gpu_count;
    char gpus[VGPU_REGISTRY_GPUS][VGPU_REGISTRY_GPU_NAME];
    struct vgpu_registry_aside drain;
};

/* Of a GPU that has a name that lasts. */
struct vgpu_registry_gpu {
    char name[VGPU_REGISTRY_GPU_NAME];
    struct vgpu_registry_aside drain;
};

struct vgpu_registry_state {
    struct vgpu_registry_vm *vms; /* by number */
    uint32_t vm_count, vm_room;
    struct vgpu_registry_pool pools[VGPU_REGISTRY_POOLS]; /* by letter; pool 0: none */
    struct vgpu_registry_gpu gpus[VGPU_REGISTRY_CARDS];
    uint32_t gpu_count;
};

/* A line of the audit log. */
struct vgpu_registry_audit {
    uint64_t seq; /* the file gives it */
    int64_t time_ms;
    int64_t uid, pid; /* of who asked; -1: the mediator itself */
    char op[24];
    char target[64];
    char before[320], after[320];
};

/* A row: put, or dropped. */
struct vgpu_registry_put_vm {
    bool drop;
    struct vgpu_registry_vm row;
};

struct vgpu_registry_txn {
    struct vgpu_registry_put_vm *vms;
    uint32_t vm_count, vm_room;
    struct vgpu_registry_audit *audit;
    uint32_t audit_count, audit_room;
    bool put_pool[VGPU_REGISTRY_POOLS]; /* pool 0 in the row: dropped */
    struct vgpu_registry_pool pools[VGPU_REGISTRY_POOLS];
    bool put_gpu;
    struct vgpu_registry_gpu gpu; /* without a drain: dropped */
};

/* NULL when the registry has no row of it. */
const struct vgpu_registry_vm *vgpu_registry_find_vm(const struct vgpu_registry_state *state,
                                                     uint32_t vm);
const struct vgpu_registry_gpu *vgpu_registry_find_gpu(const struct vgpu_registry_state *state,
                                                       const char *name);

/* A row that says nothing. */
void vgpu_registry_vm_init(struct vgpu_registry_vm *row, uint32_t vm);
/* Whether there is anything in it that is worth a row. */
bool vgpu_registry_vm_says(const struct vgpu_registry_vm *row);

/* Whether the transaction fits in, with room made for it: apply cannot fail then. 0, -ENOSPC
 * (over VGPU_REGISTRY_VMS_MAX rows, or VGPU_REGISTRY_CARDS) or -ENOMEM. */
int vgpu_registry_reserve(struct vgpu_registry_state *state, const struct vgpu_registry_txn *txn);
void vgpu_registry_apply(struct vgpu_registry_state *state, const struct vgpu_registry_txn *txn);
/* Puts a row, without room made before. 0, -ENOSPC or -ENOMEM. */
int vgpu_registry_add_vm(struct vgpu_registry_state *state, const struct vgpu_registry_vm *row);
void vgpu_registry_state_free(struct vgpu_registry_state *state);

/* Adds to a transaction; a row that says nothing is dropped. 0 or -ENOMEM. */
int vgpu_registry_txn_vm(struct vgpu_registry_txn *txn, const struct vgpu_registry_vm *row);
void vgpu_registry_txn_pool(struct vgpu_registry_txn *txn, const struct vgpu_registry_pool *row);
int vgpu_registry_txn_audit(struct vgpu_registry_txn *txn, const struct vgpu_registry_audit *line);
void vgpu_registry_txn_free(struct vgpu_registry_txn *txn);

/* "priority=low pool=A" of what differs, as it was and as it is; each of size bytes. */
void vgpu_registry_vm_differ(const struct vgpu_registry_vm *before,
                             const struct vgpu_registry_vm *after, char *old_text, char *new_text,
                             size_t size);
/* "30%" or "12.5%", of thousandths, into 8 bytes. */
void vgpu_registry_rate_write(char *text, uint32_t rate);

#endif
