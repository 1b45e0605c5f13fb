/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mediator's one root struct, and the tenants in it. Every other file of this folder gets at
 * the whole through here. One thread; everything is called from the loop.
 */
#ifndef VGPU_MEDIATOR_H
#define VGPU_MEDIATOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/lock.h"
#include "common/log.h"
#include "mediator/lease.h"
#include "mediator/ledger.h"
#include "mediator/list.h"
#include "mediator/loop.h"
#include "mediator/quota.h"
#include "mediator/settings.h"
#include "registry/model.h"

#define VGPU_MEDIATOR_MAX_GPUS 64u
#define VGPU_CONFIGURED        VGPU_SETTINGS_WATCH /* the place of sockets that [vm] sections name */
#define VGPU_ENDPOINT_HASH     512u
#define VGPU_GREETING_MAX      64u /* connections of one place that have not said HELLO */
#define VGPU_RECENT_REQUESTS   16u /* answered ones that a CANCEL may still undo (W3) */

struct vgpu_control;
struct vgpu_events;
struct vgpu_link;
struct vgpu_mark;
struct vgpu_policy;
struct vgpu_probe;
struct vgpu_stats;
struct vgpu_stats_vm;
struct vgpu_window;
struct vgpu_worker;

/* One GPU of one pool (0: of none); the scheduler knows it by its index. */
struct vgpu_gpu {
    char pool;
    struct vgpu_gpu_setting setting;
    uint32_t threads;
    uint64_t launch_instructions;
    uint32_t tenants; /* placed on it */
    uint32_t stuck;   /* workers on it that do not die */
    char model[64];
    char unusable[160]; /* why no worker can use it; empty: it can be used */
    bool has_uuid;
    uint8_t uuid[16];
    struct vgpu_registry_aside drain;
};

/* One guest process on the GPU (P14). */
struct vgpu_session {
    struct vgpu_list node;      /* in the tenant's sessions */
    uint64_t id;                /* 0: the VM's own */
    uint64_t open_seq;          /* of the SESSION_OPEN that made it */
    struct vgpu_worker *worker; /* NULL: not started, or gone */
    uint32_t sticky;            /* not 0: the CUresult that every request answers (P16) */
    char why[128];              /* the text that goes with it */
};

/* A request that was answered. */
struct vgpu_recent {
    uint64_t seq;       /* 0: none */
    uint64_t worker_id; /* that served it, 0: the mediator itself */
    bool opened;        /* it was a SESSION_OPEN that succeeded */
    bool bound;         /* ... a SESSION_CHANNEL */
    uint64_t session;
};

#define VGPU_SEATS 2u

/*
 * A tenant's place on one GPU: in the schedule there, and in the account of its memory. A worker
 * stays where it was started, so a tenant that moves has two for a time (seat.h).
 */
struct vgpu_seat {
    bool taken;
    uint32_t gpu;
    uint32_t number;          /* the scheduler's */
    struct vgpu_quota *quota; /* of its device memory, with what its workers hold */
    struct vgpu_lease_tenant lease;
    uint32_t worker_count; /* processes on it, also those that are ending */
};

/*
 * A VM, or a local client. Lives while it is attached and until the last of its workers has gone.
 */
struct vgpu_tenant {
    uint32_t slot; /* index in tenants, the scheduler's number of its first seat, and the worker's
                      uid above the base */
    uint32_t vm_id;
    uint64_t account; /* its key in the ledger */
    struct vgpu_mark *mark;
    char wish_pool;         /* the device's, which counts where nothing else is said */
    uint32_t wish_priority; /* the same */
    char pool;
    uint32_t priority;
    uint64_t features;
    struct vgpu_seat seats[VGPU_SEATS];
    struct vgpu_seat *seat; /* where workers are started; the other one is left when it can be */
    uint32_t max_sessions;  /* beside session 0 */
    uint32_t queue;         /* requests of a session that may wait */
    uint32_t uid;           /* of its workers, or VGPU_SETTINGS_NO_UID */
    struct vgpu_link *link; /* NULL: detached */
    struct vgpu_window *window; /* of this link; NULL: it has none */

    struct vgpu_list sessions;
    uint32_t session_count; /* without session 0 */
    uint32_t worker_count;  /* processes, also those that are ending */

    bool outstanding;            /* a request is, and has no answer yet */
    uint64_t seq;                /* its number on the link */
    bool typed;                  /* its opcode is below 0x1000 */
    struct vgpu_worker *serving; /* the worker that has it, NULL: none */
    struct vgpu_recent recent[VGPU_RECENT_REQUESTS];
    uint32_t recent_next;

    uint32_t start_failures; /* in a row */
    uint64_t start_again_ns; /* no worker is started before */

    uint64_t requests, errors, bytes_in, bytes_out, opened, late_answers;
    struct vgpu_stats_vm *stats; /* the same and more, of all its connections */
    uint64_t asked_ns;           /* outstanding: since when, */
    uint32_t request_id;         /* and the guest's name for it */
    uint64_t left_ns, left_leases, left_recalls, left_messages; /* of seats that it has left */
};

/* What one watched directory has us do, so that it cannot have us do anything without bound. */
struct vgpu_place {
    uint32_t endpoints;
    uint32_t greeting;                       /* connected, no HELLO yet */
    bool overfull;                           /* some socket there was left out */
    struct vgpu_log_limit limit, room_limit; /* for lines about its sockets, and about room */
};

struct vgpu_mediator {
    struct vgpu_loop *loop;
    struct vgpu_settings *settings;
    char *worker_path;
    bool root;    /* workers are told a uid */
    bool one_uid; /* ... all the same one: this user namespace has no room for the range */
    uint32_t uid_base;
    struct vgpu_gpu gpus[VGPU_MEDIATOR_MAX_GPUS];
    uint32_t gpu_count;
    uint32_t gpu_room; /* how many there can be: the scheduler's */
    struct vgpu_leases *leases;
    struct vgpu_timer lease_timer;
    struct vgpu_tenant **tenants; /* max_vms places for VMs, then as many for local clients */
    uint32_t max_vms;             /* as it was at the start */
    uint32_t slot_count;          /* 2 * max_vms */
    struct vgpu_ledger ledger;
    struct vgpu_policy *policy;
    struct vgpu_control *control; /* NULL: no control socket */
    struct vgpu_events *events;   /* NULL: nobody can ask */
    struct vgpu_list marks;
    struct vgpu_stats *stats;
    double start_time_s; /* since 1970 */
    struct vgpu_list links, workers, endpoints, watches, quotas;
    struct vgpu_probe *probe; /* asks what GPUs there are; NULL: it has been said */
    struct vgpu_list endpoint_hash[VGPU_ENDPOINT_HASH]; /* by VM number */
    struct vgpu_place places[VGPU_SETTINGS_WATCH + 1u]; /* the directories, VGPU_CONFIGURED */
    uint64_t last_worker_id;
    uint32_t local_count;    /* local clients connected */
    uint32_t local_greeting; /* ... that have not said HELLO */
    struct vgpu_source listener;
    struct vgpu_timer accept_timer;       /* the listener rests until then */
    struct vgpu_lock watch_lock;          /* in the first watched directory */
    struct vgpu_lock listen_lock;         /* beside the listening socket */
    struct vgpu_lock control_lock;        /* beside the control socket */
    uint64_t files_soft;                  /* RLIMIT_NOFILE as it was: workers get it back */
    uint64_t files_limit;                 /* ... and as it is */
    uint32_t window_files;                /* descriptors of windows, those to come included */
    struct vgpu_log_limit stranger_limit; /* for lines that whoever connects can cause */
    struct vgpu_timer stop_timer;
    bool stopping;
};

/* After anything that the scheduler was told: acts on what it decides. */
void vgpu_mediator_schedule(struct vgpu_mediator *m);
/* Begins the end: closes links, ends workers; the loop stops when the last worker is gone. */
void vgpu_mediator_stop(struct vgpu_mediator *m, const char *why);
/* Stops the loop if it is to end and nothing is left to wait for. */
void vgpu_mediator_stop_if_done(struct vgpu_mediator *m);

#endif
