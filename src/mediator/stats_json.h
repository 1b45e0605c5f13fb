/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answer to the control operation `stats` (docs/control.md K13, docs/metrics.md). Pure. */
#ifndef VGPU_MEDIATOR_STATS_JSON_H
#define VGPU_MEDIATOR_STATS_JSON_H

#include "mediator/stats.h"

#define VGPU_STATS_PAGE 128u /* VMs in one answer at most */

/* How things are at this moment, besides what was counted. */
struct vgpu_stats_vm_now {
    bool attached, waiting, holding;
    uint32_t clients;                    /* attached: 1, or the local clients of that user */
    uint32_t sessions, workers, mailbox; /* requests in the mailbox that are not answered */
    uint64_t memory_used, memory_quota;  /* bytes */
    uint64_t jobs, pending;
    uint64_t throttles; /* to be added to those of the record */
};

struct vgpu_stats_gpu_now {
    const char *backend;                /* "cuda", "software" */
    char name[48];                      /* the UUID, or cuda:N, or software:N */
    char pool;                          /* 0: none */
    uint64_t memory_bytes, memory_used; /* 0: not known */
    uint64_t contexts;
    uint32_t vms, workers;
};

struct vgpu_stats_now {
    uint64_t now_ns;     /* of the clock of everything that is counted */
    double start_time_s; /* of the mediator, since 1970 */
    uint32_t pid;
    const char *version;
    uint32_t links, vms, workers; /* connected, attached, running */
    uint64_t log_dropped;
    uint32_t gpu_count;
    struct vgpu_stats_gpu_now gpus[VGPU_STATS_GPUS];
    struct vgpu_stats_vm_now vms_now[VGPU_STATS_PAGE]; /* of the records from `after` on */
};

/*
 * The records with places from `after` on, VGPU_STATS_PAGE of them; and the rest behind the last
 * ones. A JSON object on one line without newline, the caller's to free; NULL: no memory.
 */
char *vgpu_stats_json(const struct vgpu_stats *stats, const struct vgpu_stats_now *now,
                      uint32_t after);

/* The same of the running mediator, which it asks for what the records lack. */
struct vgpu_mediator;
char *vgpu_stats_answer(struct vgpu_mediator *m, uint32_t after);

#endif
