/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is remembered of a VM or a local user beyond its connection, so that coming back does not
 * fill its buckets again: workers started, lines logged, what its workers say, GPU time beyond its
 * share. A fixed table; who
 * was not heard of for longest makes room. Pure; it knows no more of who they are than a number.
 */
#ifndef VGPU_MEDIATOR_LEDGER_H
#define VGPU_MEDIATOR_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/log.h"
#include "mediator/sched/sched.h"

#define VGPU_LEDGER_SETS 256u
#define VGPU_LEDGER_WAYS 8u

struct vgpu_account {
    bool used;
    uint64_t key;
    uint64_t heard_ns;
    uint64_t start_credit_ns; /* when the bucket of workers started is full again */
    uint64_t say_credit_ns;   /* ... and that of its workers' lines */
    struct vgpu_log_limit links, ends, guests; /* lines of coming and going, of its violations, of
                                                  its requests */
    struct vgpu_sched_debt debt;               /* what it had too much of when it left */
};

struct vgpu_ledger {
    uint64_t start_credit_ns; /* the bucket of all together */
    struct vgpu_account accounts[VGPU_LEDGER_SETS][VGPU_LEDGER_WAYS];
};

/* A VM's number, or a local user's uid. */
uint64_t vgpu_ledger_key(bool local, uint32_t number);

/* Its account, new if need be; valid until the next call. */
struct vgpu_account *vgpu_ledger_account(struct vgpu_ledger *ledger, uint64_t key, uint64_t now_ns);

/* Whether it may start a worker now: 100 at once, then 50 a second; and all together four times
 * as many. */
bool vgpu_ledger_start(struct vgpu_ledger *ledger, uint64_t key, uint64_t now_ns);

/* Whether its workers may log a line now: 60 at once, which a report of a crash may need, then 10 a
 * second. */
bool vgpu_ledger_say(struct vgpu_ledger *ledger, uint64_t key, uint64_t now_ns);

#endif
