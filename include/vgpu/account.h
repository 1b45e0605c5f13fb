/* SPDX-License-Identifier: MIT */
/*
 * A tenant's account of device memory on one GPU: pages that the mediator makes (a memory file,
 * sealed against resizing) and that all workers of the tenant map, shared. The prose is
 * docs/worker.md. Native endianness: all are one host's. Every field is read and written as a
 * whole, atomically, in the one order that all see (__ATOMIC_SEQ_CST).
 *
 * The slots are the whole truth: what the tenant holds is their sum, and there is no total beside
 * them that could disagree. A worker adds to its own slot first, then sums all of them, and takes
 * its part back if the sum is over the quota. So:
 * - The quota holds. Of any number of reservations that were granted and not released, one was
 *   added last; it saw all others, since each was added before its own sum was taken.
 * - A worker may be killed between any two instructions. Its slot says at least what it holds, the
 *   mediator sets it to 0 when the process is gone, and nothing else has to be mended.
 * - Two that ask at the same moment for the last of it may see each other and both be refused.
 *
 * A worker that was taken over may write anything here. That can only mislead workers of its own
 * tenant: the quota itself comes by the command line, each worker keeps its own count of what it
 * holds, and the mediator reads a slot once and takes it for no more than the quota.
 */
#ifndef VGPU_ACCOUNT_H
#define VGPU_ACCOUNT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/usage.h"

#define VGPU_ACCOUNT_MAGIC      0x74636361u /* "acct" */
#define VGPU_ACCOUNT_BYTES      65536u
#define VGPU_ACCOUNT_SLOTS      4092u
/* Of the memory file: the page, then a struct vgpu_usage for each slot. What nobody touched costs
 * nothing. */
#define VGPU_ACCOUNT_FILE_BYTES (VGPU_ACCOUNT_BYTES + VGPU_ACCOUNT_SLOTS * VGPU_USAGE_BYTES)

/* One worker's; written by that worker, and by the mediator while there is none. */
struct vgpu_account_slot {
    uint64_t held_bytes; /* device memory that the session holds or is just asking for */
    uint32_t contexts;   /* GPU contexts that the session has made, 0 to 5 */
    uint32_t reserved;   /* 0 */
};
static_assert(sizeof(struct vgpu_account_slot) == 16, "shared");

struct vgpu_account_page {
    uint32_t magic;       /* VGPU_ACCOUNT_MAGIC; the mediator's */
    uint32_t slot_count;  /* slots from the first that were ever in use, 1 to VGPU_ACCOUNT_SLOTS;
                             grows before a worker is told its slot; the mediator's */
    uint64_t reserved[7]; /* 0 */
    struct vgpu_account_slot slots[VGPU_ACCOUNT_SLOTS];
};
static_assert(sizeof(struct vgpu_account_page) == VGPU_ACCOUNT_BYTES, "shared");
static_assert(offsetof(struct vgpu_account_page, slots) == 64, "shared");

#endif
