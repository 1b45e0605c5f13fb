/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler in virtual time: made-up VMs, GPUs and kernels, and the very code that the mediator
 * runs (mediator/sched/). Two runs of one scenario give the same result to the last digit.
 *
 * A VM asks for work in requests of some kernels each. It behaves as a worker does (docs/worker.md,
 * W4): wants a lease when it has something to do, keeps it until it is recalled, then starts
 * nothing after the grace and returns it when the kernel that runs is done, or after linger without
 * work.
 */
#ifndef VGPU_SIM_SIM_H
#define VGPU_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "mediator/sched/sched.h"

#define VGPU_SIM_NAME       32u
#define VGPU_SIM_VMS_MAX    4096u
#define VGPU_SIM_GPUS_MAX   64u
#define VGPU_SIM_EVENTS_MAX 64u
#define VGPU_SIM_TRACE_MAX  200000u /* segments kept for the picture */

enum vgpu_sim_arrival {
    VGPU_SIM_BUSY,     /* always one more */
    VGPU_SIM_PERIODIC, /* every `period` */
    VGPU_SIM_POISSON,  /* on average every `period` */
    VGPU_SIM_CLOSED,   /* `period` after the one before was answered */
};

enum vgpu_sim_length {
    VGPU_SIM_CONSTANT,
    VGPU_SIM_UNIFORM,
    VGPU_SIM_EXPONENTIAL,
};

struct vgpu_sim_vm {
    char name[VGPU_SIM_NAME];
    char section[VGPU_SIM_NAME];
    uint32_t group; /* the section's number */
    struct vgpu_sched_tenant share;
    enum vgpu_sim_arrival arrival;
    uint64_t period_ns;
    uint32_t kernels; /* of a request */
    enum vgpu_sim_length length;
    uint64_t kernel_ns, kernel_max_ns; /* UNIFORM: from, to; else the (mean) length */
    uint64_t memory_bytes;             /* what it holds on its GPU, for the placement */
    uint64_t start_ns, stop_ns;        /* 0: all the time */
    uint64_t fault_ns;                 /* its first kernel from then on never ends; 0: none */
    uint64_t restart_ns; /* so long after its worker was killed it is back; 0: never */
};

/* A GPU that goes, or comes back. */
struct vgpu_sim_event {
    uint64_t at_ns;
    uint32_t gpu;
    bool up;
};

struct vgpu_sim_scenario {
    char title[128];
    struct vgpu_sched_config sched;
    uint64_t duration_ns, handover_ns; /* from a grant to the first kernel */
    uint64_t gpu_memory_bytes;
    uint64_t seed;
    struct vgpu_sim_vm *vms;
    uint32_t vm_count, group_count;
    struct vgpu_sim_event events[VGPU_SIM_EVENTS_MAX];
    uint32_t event_count;
};

/* Times of one kind, in ns; sorted at the end. */
struct vgpu_sim_samples {
    uint64_t *value;
    size_t count, room;
};

struct vgpu_sim_result {
    uint64_t gpu_ns; /* of kernels */
    uint64_t lease_ns;
    uint64_t requests, kernels, leases, kills, moves, throttles;
    uint64_t backlog;                /* requests not answered at the end */
    struct vgpu_sim_samples wait;    /* from wanting a lease to having it */
    struct vgpu_sim_samples latency; /* of a request, from its arrival to its answer */
    int64_t lag_max_ns, lag_min_ns;
};

struct vgpu_sim_segment {
    uint64_t from_ns, to_ns;
    uint32_t gpu, vm;
};

/* So many wait for a lease of that GPU, from then on. */
struct vgpu_sim_queue {
    uint64_t at_ns;
    uint32_t gpu, waiting;
};

struct vgpu_sim_run {
    const struct vgpu_sim_scenario *scenario;
    struct vgpu_sim_result *vms; /* by VM */
    uint64_t busy_ns[VGPU_SIM_GPUS_MAX];
    uint64_t queue_max[VGPU_SIM_GPUS_MAX];
    uint64_t decisions, events;
    uint64_t digest; /* of every decision and its time */
    struct vgpu_sim_segment *trace;
    size_t trace_count;
    struct vgpu_sim_queue *queue;
    size_t queue_count;
    struct vgpu_sim_samples decision; /* ns of the real clock, for each event; when `timed` */
    char broken[160];                 /* an invariant that did not hold; empty: all did */
};

/*
 * Runs it. `timed`: measures what the scheduler costs, which alone differs from run to run. Returns
 * NULL when there is no memory or the scenario cannot be run.
 */
struct vgpu_sim_run *vgpu_sim(const struct vgpu_sim_scenario *scenario, bool timed);
void vgpu_sim_free(struct vgpu_sim_run *run);

/* The value that a share of the samples is not above; 0 without samples. `share`: 0 to 1. */
uint64_t vgpu_sim_quantile(const struct vgpu_sim_samples *samples, double share);

/* ---- scenario.c ---- */

#define VGPU_SIM_ERROR 256u
/* NULL: `error` says file, line, what was wrong and what would be right. */
struct vgpu_sim_scenario *vgpu_sim_load(const char *path, char error[VGPU_SIM_ERROR]);
void vgpu_sim_scenario_free(struct vgpu_sim_scenario *scenario);

/* ---- report.c, picture.c ---- */

void vgpu_sim_table(const struct vgpu_sim_run *run, FILE *out);
void vgpu_sim_csv(const struct vgpu_sim_run *run, FILE *out);
/* Who held which GPU when, how many waited, and how long: SVG. */
void vgpu_sim_picture(const struct vgpu_sim_run *run, FILE *out);

#endif
