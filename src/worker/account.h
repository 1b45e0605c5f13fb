/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker's side of its tenant's account of device memory (vgpu/account.h): a quota that all
 * sessions of the tenant share. Ask before anything is allocated, give back after it was freed. It
 * knows nothing of what is allocated.
 *
 * Every function takes NULL for "no account": then nothing is refused here.
 * Any thread of the worker may call; none waits for another process.
 */
#ifndef VGPU_WORKER_ACCOUNT_H
#define VGPU_WORKER_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

struct vgpu_account;

/*
 * Maps the account open as fd (which stays the caller's and may be closed) with the worker's slot
 * of it and the tenant's quota. 0 or a negative errno; -EBADMSG: it is no account.
 */
int vgpu_account_open(int fd, uint32_t slot, uint64_t quota_bytes, struct vgpu_account **out);
/* Unmaps it; what the slot says stays until the mediator sets it to 0. */
void vgpu_account_close(struct vgpu_account *account);

/* 0, or -ENOMEM when the tenant would hold more than its quota; then nothing has changed. */
int vgpu_account_reserve(struct vgpu_account *account, uint64_t bytes);
/* Gives back; of more than this session holds, all that it holds. */
void vgpu_account_release(struct vgpu_account *account, uint64_t bytes);

/* What a reservation could get now, over all sessions of the tenant; UINT64_MAX without an
 * account. */
uint64_t vgpu_account_free_bytes(const struct vgpu_account *account);
/* The tenant's quota; UINT64_MAX without an account. */
uint64_t vgpu_account_quota_bytes(const struct vgpu_account *account);
/* What this session holds. */
uint64_t vgpu_account_held_bytes(const struct vgpu_account *account);

/* How many GPU contexts this session has now: they count against the card. */
void vgpu_account_set_contexts(struct vgpu_account *account, uint32_t contexts);

/* Where this session counts what it does (vgpu/usage.h); NULL without an account. Valid as long as
 * the account is; the engine thread's to write. */
struct vgpu_usage;
struct vgpu_usage *vgpu_account_usage(struct vgpu_account *account);

#endif
