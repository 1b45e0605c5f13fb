/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the mediator counts, and what it takes over from workers (vgpu/usage.h): for each VM or
 * local user, each GPU, and as a whole. docs/metrics.md says what the numbers mean. Pure: no clock,
 * no I/O, no knowledge of tenants; who has something to count says so. One thread.
 *
 * A VM's record outlives its connection and its workers, so that counters never go back while this
 * mediator runs. There is a bound on records: when it is reached, the one that was left longest ago
 * makes room.
 *
 * A worker's word is believed for its own tenant alone, and only as far as it goes up: whatever it
 * writes, what is reported here never goes back and never overflows.
 */
#ifndef VGPU_MEDIATOR_STATS_H
#define VGPU_MEDIATOR_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/histogram.h"

#define VGPU_STATS_GPUS 64u
#define VGPU_STATS_MAX  ((uint64_t)INT64_MAX) /* where a counter stops */

/* Time that leases were out, of one holder or of several at once. */
struct vgpu_stats_meter {
    uint64_t leases;    /* begun */
    uint64_t ended_ns;  /* of those that have ended */
    uint64_t starts_ns; /* the sum of when those that are out began */
    uint32_t out;
};

/* What a worker said last, each counter's highest. */
struct vgpu_stats_seen {
    struct vgpu_usage usage;
};

/* A VM or a local user. */
struct vgpu_stats_vm {
    uint64_t key;     /* the ledger's */
    uint32_t index;   /* its place, as long as it has the record */
    uint32_t users;   /* tenants that count here now */
    uint64_t left_ns; /* users 0: since when */

    /* As it was attached last. */
    bool local;
    uint32_t number; /* the VM's, or the user's uid */
    char pool;
    uint32_t gpu, priority;

    /* The mediator's own. */
    struct vgpu_stats_meter lease;
    struct vgpu_histogram wait;    /* for a lease */
    struct vgpu_histogram mailbox; /* from a request to its answer */
    uint64_t recalls, throttles, watchdog_kills, faults;
    uint64_t attaches, sessions, workers; /* begun */
    uint64_t requests, request_errors, cancels, request_bytes, response_bytes;

    /* What its workers say. */
    uint64_t records, calls, launches, posts, bytes_to_device, bytes_from_device;
    uint64_t said_busy_ns; /* as they say; */
    uint64_t busy_ns;      /* as far as there were leases for it */
    struct vgpu_histogram call;
    struct vgpu_stats_error {
        uint32_t status; /* CUresult */
        uint64_t count;
    } errors[VGPU_USAGE_ERRORS];
    uint32_t error_count;
    uint64_t errors_other;
};

struct vgpu_stats_gpu {
    struct vgpu_stats_meter lease;
    uint64_t leased_ns;       /* while at least one was out, and */
    uint64_t leased_since_ns; /* since then; 0: none is */
    uint64_t busy_ns;         /* as far as workers say, and leases were out */
    uint64_t watchdog_kills;
};

struct vgpu_stats {
    struct vgpu_stats_vm **vms;  /* vm_max places */
    uint32_t vm_max, vm_count;   /* places from the first that were ever used */
    struct vgpu_stats_vm nobody; /* counts for whom there is no memory; never reported */
    struct vgpu_stats_gpu gpus[VGPU_STATS_GPUS];
    uint64_t links, refusals, violations; /* so far */
    uint64_t workers, faults, watchdog_kills, forgotten;
};

/* For so many records at most. NULL: no memory. */
struct vgpu_stats *vgpu_stats_create(uint32_t vm_max);
void vgpu_stats_destroy(struct vgpu_stats *stats);

/*
 * The record of that VM or user, new if need be; it stays until as many leaves. Never NULL, but
 * with no memory, or all records in use, it is one that nobody gets to see.
 */
struct vgpu_stats_vm *vgpu_stats_join(struct vgpu_stats *stats, uint64_t key);
void vgpu_stats_leave(struct vgpu_stats_vm *vm, uint64_t now_ns);

/* A lease of the GPU was granted after a wait, or given back. Any of the first two may be NULL. */
void vgpu_stats_granted(struct vgpu_stats *stats, struct vgpu_stats_vm *vm, uint32_t gpu,
                        uint64_t waited_ns, uint64_t now_ns);
void vgpu_stats_returned(struct vgpu_stats *stats, struct vgpu_stats_vm *vm, uint32_t gpu,
                         uint64_t start_ns, uint64_t now_ns);

/* Lease time so far, of all that ended or are out. */
uint64_t vgpu_stats_meter_ns(const struct vgpu_stats_meter *meter, uint64_t now_ns);
/* Time in which the GPU was leased to anybody. */
uint64_t vgpu_stats_leased_ns(const struct vgpu_stats_gpu *gpu, uint64_t now_ns);

/*
 * Takes over what is new in a worker's usage, which may change meanwhile and say anything. *seen
 * starts as zeros and belongs to this worker. gpu: where it runs.
 */
void vgpu_stats_take(struct vgpu_stats *stats, struct vgpu_stats_vm *vm, uint32_t gpu,
                     struct vgpu_stats_seen *seen, const struct vgpu_usage *usage, uint64_t now_ns);

/* Adds, and stops at VGPU_STATS_MAX. */
void vgpu_stats_add(uint64_t *counter, uint64_t n);

#endif
