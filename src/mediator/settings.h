/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mediator's configuration: what the file says, with defaults for the rest. The prose is
 * docs/mediator.md. Pure data; who uses it decides nothing here.
 */
#ifndef VGPU_MEDIATOR_SETTINGS_H
#define VGPU_MEDIATOR_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/log.h"
#include "mediator/sched/sched.h"

#define VGPU_POOL_COUNT      26u /* A to Z */
#define VGPU_POOL_MAX_GPUS   16u
#define VGPU_SETTINGS_WATCH  16u    /* directories */
#define VGPU_SETTINGS_VMS    4096u  /* [vm] and [local] sections, each */
#define VGPU_SETTINGS_FAULTS 64u    /* that are counted before a quarantine, at most */
#define VGPU_SETTINGS_ERROR  512u   /* bytes for a message */
#define VGPU_SETTINGS_QUEUE  65536u /* at most */
#define VGPU_SETTINGS_NO_UID UINT32_MAX

enum vgpu_backend_kind { VGPU_GPU_SOFTWARE, VGPU_GPU_CUDA };

struct vgpu_gpu_setting {
    enum vgpu_backend_kind backend;
    bool by_uuid;          /* cuda: named by its uuid, not by its ordinal */
    uint32_t ordinal;      /* cuda: on this host */
    uint8_t uuid[16];      /* cuda */
    uint64_t memory_bytes; /* cuda: of the card, 0: not known (yet) */
};

struct vgpu_pool_setting {
    bool present;
    unsigned line;
    uint32_t gpu_count; /* that it has: what was asked for, until it is known what there is */
    uint32_t threads;   /* of a software worker, 0: its default */
    uint64_t launch_instructions; /* of a software worker: what a launch may take, 0: any */
    struct vgpu_gpu_setting gpus[VGPU_POOL_MAX_GPUS];
    /* What was asked for, as it stays when the host has something else. */
    uint32_t asked_count;
    bool all;             /* every GPU of the host that can be used and no pool names */
    bool or_software;     /* a software GPU when there is none */
    uint64_t card_memory; /* bytes to share out of each card, 0: what the card has */
    struct vgpu_gpu_setting asked[VGPU_POOL_MAX_GPUS];
};

/* [vm N] or [local UID]; a zero or -1 below means "not said". */
struct vgpu_vm_setting {
    uint32_t key; /* the VM's id, or the uid */
    unsigned line;
    char *socket; /* [vm] */
    bool deny;    /* [local] allow = no */
    bool has_vm;  /* [local] vm */
    uint32_t vm_id;
    char pool;         /* 0: the device's wish */
    int priority;      /* -1: the device's wish */
    uint64_t memory;   /* 0: the default */
    uint32_t sessions; /* 0: the default */
    uint32_t queue;    /* 0: the default */
    uint32_t weight;   /* 0: the default */
    uint32_t rate;     /* thousandths of a GPU's time, 0: no limit */
    uint32_t burst_ms; /* 0: the default */
    bool in_file;      /* it has a section; false: only the registry speaks of it */
    bool registered;   /* it has a section, or is in the registry */
    uint32_t uid;      /* of its workers; VGPU_SETTINGS_NO_UID: base + index */
};

struct vgpu_settings {
    char *listen;      /* NULL: no socket for local clients */
    char *control;     /* NULL: no control socket */
    char *registry;    /* NULL: this file is all there is */
    char *admin_group; /* whose members may change things; NULL: none */
    bool readers;      /* others may ask how things are */
    char *watch[VGPU_SETTINGS_WATCH];
    uint32_t watch_count;
    enum vgpu_log_level log_level;
    enum vgpu_log_format log_format;
    char *worker; /* NULL: looked for */
    bool has_worker_uid_base;
    uint32_t worker_uid_base;
    bool admit_unknown;
    bool allow_pageable_access; /* use GPUs that can reach pageable host memory */
    uint32_t max_vms;
    uint32_t local_vm_base;
    uint32_t local_clients;    /* of one user */
    uint64_t local_window;     /* bytes of a local client's window at most, 0: it gets none */
    uint32_t default_sessions; /* beside session 0 */
    uint32_t default_queue;    /* requests of a session that may wait */
    uint64_t default_memory;   /* bytes a tenant and GPU */
    uint64_t context_memory;   /* bytes that a GPU context takes from the card */
    uint32_t
        quarantine_faults; /* of a VM in the window, then it is put into quarantine; 0: never */
    uint32_t quarantine_window_s, quarantine_s;
    enum vgpu_sched_mode mode;
    uint32_t quantum_ms, aging_ms, linger_us, watchdog_ms, answer_ms, start_ms;
    uint32_t leases;                        /* of a GPU at a time */
    uint32_t factor[VGPU_SCHED_PRIORITIES]; /* by priority */
    struct vgpu_pool_setting pools[VGPU_POOL_COUNT];
    struct vgpu_vm_setting *vms; /* with an overlay: file_vm_count sections, then others */
    uint32_t vm_count;
    struct vgpu_vm_setting *file_vms; /* with an overlay (overlay.h): as the file has them */
    uint32_t file_vm_count;
    struct vgpu_vm_setting *locals;
    uint32_t local_count;
};

/* What holds without a file. 0 or -ENOMEM. */
struct vgpu_settings *vgpu_settings_default(void);
void vgpu_settings_free(struct vgpu_settings *settings);

/*
 * Reads a file, or text that was read from `name`. NULL with a message in error ("NAME:LINE: what
 * was wrong and what would be right"; VGPU_SETTINGS_ERROR bytes).
 */
struct vgpu_settings *vgpu_settings_load(const char *path, char *error);
struct vgpu_settings *vgpu_settings_parse(const char *name, const char *text, size_t length,
                                          char *error);

/* Whether it depends on the host's GPUs who is in which pool. */
bool vgpu_settings_need_gpus(const struct vgpu_settings *s);

/*
 * Gives settings that were just read what cannot change while the mediator runs, from those that
 * hold; old may only be freed then. Whether they wanted something else there.
 */
bool vgpu_settings_keep_fixed(struct vgpu_settings *fresh, struct vgpu_settings *old);

/* Whether two pools were asked to be the same. */
bool vgpu_settings_same_pool(const struct vgpu_pool_setting *a, const struct vgpu_pool_setting *b);

/* Adds a directory as the file would. 0, -ENOSPC or -ENOMEM. */
int vgpu_settings_add_watch(struct vgpu_settings *settings, const char *path);

const struct vgpu_vm_setting *vgpu_settings_vm(const struct vgpu_settings *s, uint32_t vm_id);
const struct vgpu_vm_setting *vgpu_settings_local(const struct vgpu_settings *s, uint32_t uid);

/* The letters of the pools that have a GPU, "A B", into 52 bytes; "none" when there is none. */
const char *vgpu_settings_pools(const struct vgpu_settings *s, char *buffer);

const char *vgpu_backend_name(enum vgpu_backend_kind backend);

#endif
