/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of one session of the software backend, for the files that are its calls. */
#ifndef VGPU_SOFTWARE_SESSION_H
#define VGPU_SOFTWARE_SESSION_H

#include "run.h"
#include "runtime.h"

struct vgpu_backend {
    struct ptx_memory memory;
    struct ptx_budget budget;
    struct ptx_module *modules;
    struct ptx_pool *pool;
    struct vgpu_driver *driver; /* NULL: nobody asked yet */
    struct ptx_runtime runtime;
    const ptx_exec_fn *handlers;
    unsigned threads;
    uint64_t launches;
    uint64_t workspace; /* of cooperative launches; 0: there was none yet */
    uint32_t loads;
    uint64_t launch_insns; /* what a launch may cost; 0: no limit */
    uint32_t stack_bytes;  /* per thread, of kernels that call to unknown depth */
    CUresult sticky;
    uint32_t stop; /* enum ptx_stop; atomic */
    char last_error[256];
};

/* software_launch.c: `launch` of the backend's calls. */
CUresult vgpu_software_launch(struct vgpu_backend *b, const struct vgpu_launch *launch);

#endif
