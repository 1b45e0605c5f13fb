/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of vgpu-worker (docs/worker.md). */
#ifndef VGPU_WORKER_OPTIONS_H
#define VGPU_WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/log.h"
#include "worker/confine.h"

struct vgpu_worker_options {
    bool probe, help, version;
    int fd;         /* -1: not given */
    int account_fd; /* -1: not given */
    uint32_t account_slot;
    bool has_vm, has_session;
    uint32_t vm;
    uint64_t session;
    const char *backend; /* NULL: not given */
    struct vgpu_backend_config config;
    uint32_t queue; /* 0: not given */
    struct vgpu_identity identity;
    enum vgpu_log_level log_level;
};

/* Returns 0, or -EINVAL with a sentence in why. The strings are argv's. */
int vgpu_worker_options_parse(int argc, char **argv, struct vgpu_worker_options *out, char *why,
                              unsigned long why_size);

const char *vgpu_worker_usage(void);

#endif
