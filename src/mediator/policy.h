/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mediator's side of the registry: reads it at the start, and carries changes one after the
 * other through check, commit and apply (docs/control.md K7), whoever asks for them: a client of
 * the control socket, or the mediator itself. Without a registry what would be remembered is
 * remembered until the end, and other changes are refused. The loop's thread.
 */
#ifndef VGPU_MEDIATOR_POLICY_H
#define VGPU_MEDIATOR_POLICY_H

#include "mediator/mediator.h"
#include "registry/change.h"
#include "registry/plan.h"

struct vgpu_inventory;

/* A change on its way. malloced; the policy's from vgpu_policy_change until done was called. */
struct vgpu_policy_change {
    struct vgpu_policy_change *next;
    struct vgpu_change change;
    int64_t uid, pid; /* of who asked; -1: the mediator itself */
    /* Called once, with NULL when it was made; then it is freed. NULL: nobody wants to know. */
    void (*done)(struct vgpu_mediator *m, struct vgpu_policy_change *change,
                 const struct vgpu_change_error *error);
    void *owner; /* the asker's, for done */
    struct vgpu_writer_job *job;
    struct vgpu_registry_txn locals; /* rows of local clients, which are not written */
    /* Of pools and GPUs: what was planned (pools.c). */
    uint32_t gpus[VGPU_POOL_MAX_GPUS]; /* numbers; VGPU_POLICY_NEW_GPU: a further software GPU */
    uint32_t gpu_count;
    char from; /* ASSIGN_GPU: the pool that it leaves, 0: none */
};
#define VGPU_POLICY_NEW_GPU UINT32_MAX
#define VGPU_POLICY_WAITING                                                                        \
    1024u /* changes that wait, at most; clients alone cannot have so many */

struct vgpu_policy {
    struct vgpu_mediator *m;
    struct vgpu_registry_state state;
    struct vgpu_registry *registry; /* NULL: none */
    struct vgpu_writer *writer;
    struct vgpu_source source; /* the writer's */
    struct vgpu_timer timer;   /* the end of the next quarantine or drain */
    struct vgpu_policy_change *waiting, **waiting_end;
    struct vgpu_policy_change *running;
    uint32_t waiting_count;
    uint64_t changes; /* committed */
    uint32_t reads;   /* of the audit log, on their way */
};

/* Opens the registry that the settings name, and lays it over them. 0, or a negative errno with a
 * text in why (512 bytes). Makes m->policy. */
int vgpu_policy_open(struct vgpu_mediator *m, char *why);
/* When GPUs and leases are there. 0 or a negative errno. */
int vgpu_policy_serve(struct vgpu_mediator *m, char *why);
/* Lays what it knows over settings that were just read. 0 or -ENOMEM. */
int vgpu_policy_overlay(const struct vgpu_mediator *m, struct vgpu_settings *settings);
/* Waits for what was submitted, and closes the registry. */
void vgpu_policy_close(struct vgpu_mediator *m);

/* "none", "ok", or what is wrong with the registry. */
const char *vgpu_policy_state(const struct vgpu_mediator *m);

/* Takes the change, or refuses it with an error: then it is still the caller's. 0 or -EINVAL. */
int vgpu_policy_change(struct vgpu_mediator *m, struct vgpu_policy_change *change,
                       struct vgpu_change_error *error);
struct vgpu_policy_change *vgpu_policy_change_new(void); /* NULL: no memory */
void vgpu_policy_change_free(struct vgpu_policy_change *change);

/* Somebody who asks for lines of the audit log; malloced, and freed after done. */
struct vgpu_policy_read {
    struct vgpu_writer_job *job; /* with the lines, in done */
    void (*done)(struct vgpu_mediator *m, struct vgpu_policy_read *read);
    void *owner;
};
/* 0, or -EINVAL with an error: then it is still the caller's. */
int vgpu_policy_audit(struct vgpu_mediator *m, struct vgpu_policy_read *read, uint64_t before,
                      uint32_t limit, struct vgpu_change_error *error);

/* Something was set aside for a time, or somebody had too many faults: sees to it soon. */
void vgpu_policy_look(struct vgpu_mediator *m);

/* Puts it behind those that wait, for the next pump. There is room (VGPU_POLICY_WAITING). */
void vgpu_policy_push(struct vgpu_policy *policy, struct vgpu_policy_change *change);
/* Starts the next change, if none is running. */
void vgpu_policy_pump(struct vgpu_policy *policy);
/* policy_time.c: the time has come to look. */
void vgpu_policy_on_timer(struct vgpu_timer *timer);

/* The tenant whose number that is, if it is a local client; else NULL. */
struct vgpu_tenant *vgpu_policy_local(const struct vgpu_mediator *m, uint32_t vm);

#endif
