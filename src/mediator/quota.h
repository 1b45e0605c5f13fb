/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mediator's side of tenants' accounts of device memory (vgpu/account.h): one for each VM or
 * local user and GPU, shared by all that it has running there. Makes the memory file, hands out
 * slots, and takes back what a slot says when its process is gone. It believes nothing that it
 * reads there; one thread.
 */
#ifndef VGPU_MEDIATOR_QUOTA_H
#define VGPU_MEDIATOR_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "mediator/list.h"
#include "vgpu/account.h"

#define VGPU_QUOTA_CONTEXTS_MAX 5u /* of one session: the primary one and four more */

struct vgpu_quota {
    struct vgpu_list node;
    uint64_t key; /* a VM's or a local user's: the ledger's */
    uint32_t gpu;
    uint32_t users;       /* tenants that it is shared by */
    uint64_t quota_bytes; /* what workers are told from now on */
    int fd;               /* the memory file, close-on-exec */
    struct vgpu_account_page *page;
    bool counted;        /* while somebody sums: it is in the sum */
    uint32_t slot_count; /* as in the page, which others can write */
    uint64_t taken[(VGPU_ACCOUNT_SLOTS + 63) / 64];
};

/*
 * The account of `key` on that GPU, from the list or new in it, with this quota from now on.
 * 0 or a negative errno. Each join needs a leave; with the last the account is gone.
 */
int vgpu_quota_join(struct vgpu_list *list, uint64_t key, uint32_t gpu, uint64_t quota_bytes,
                    struct vgpu_quota **out);
void vgpu_quota_leave(struct vgpu_quota *quota);

/* A slot for a process, before it starts. 0, or -ENOSPC. */
int vgpu_quota_take(struct vgpu_quota *quota, uint32_t *slot);
/* That process is gone: what it held is free. */
void vgpu_quota_give_back(struct vgpu_quota *quota, uint32_t slot);

/* What the process with that slot says that it has done; of no use once another has the slot. Read
 * each field once: it may change at any time, and to anything. */
const struct vgpu_usage *vgpu_quota_usage(const struct vgpu_quota *quota, uint32_t slot);

/* What all its processes hold: at most the quota, whatever they say. */
uint64_t vgpu_quota_held(const struct vgpu_quota *quota);
/* Their GPU contexts: at least one for each process, which may make it at any time, and at most
 * VGPU_QUOTA_CONTEXTS_MAX. */
uint64_t vgpu_quota_contexts(const struct vgpu_quota *quota);

#endif
