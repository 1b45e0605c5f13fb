/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one session has, by name: modules, their functions, stages. Bounded. Knows nothing of
 * requests and calls no backend. The control thread's alone, so it has no locks; memory is not
 * here: the backend keeps it and checks addresses.
 */
#ifndef VGPU_WORKER_SESSION_H
#define VGPU_WORKER_SESSION_H

#include <stdint.h>
#include <sys/queue.h>

#include "worker/handles.h"
#include "worker/job.h"
#include "worker/stage.h"

#define VGPU_SESSION_MODULES   1024u
#define VGPU_SESSION_FUNCTIONS 65536u

struct vgpu_function {
    LIST_ENTRY(vgpu_function) link; /* in its module */
    uint64_t handle;
    struct vgpu_backend_kernel *kernel;
    struct vgpu_kernel_limits limits;
};

struct vgpu_module {
    uint64_t handle;
    struct vgpu_backend_module *backend;
    LIST_HEAD(vgpu_function_list, vgpu_function) functions;
};

struct vgpu_session {
    uint64_t id;
    struct vgpu_handles modules, functions;
    struct vgpu_stages stages;
};

void vgpu_session_init(struct vgpu_session *s, uint64_t id);
void vgpu_session_destroy(struct vgpu_session *s);

/* Returns the handle, or 0 when there are too many or no memory; then the module is the caller's
 * still. */
uint64_t vgpu_session_add_module(struct vgpu_session *s, struct vgpu_backend_module *backend);
struct vgpu_module *vgpu_session_module(const struct vgpu_session *s, uint64_t handle);
/* Forgets the module and its functions; returns the backend's, for the caller to unload, or NULL
 * when the handle names none. */
struct vgpu_backend_module *vgpu_session_remove_module(struct vgpu_session *s, uint64_t handle);

/* The function for a kernel of the module: the one there is, or a new one. NULL when there are too
 * many or no memory. */
struct vgpu_function *vgpu_session_add_function(struct vgpu_session *s, struct vgpu_module *m,
                                                struct vgpu_backend_kernel *kernel,
                                                const struct vgpu_kernel_limits *limits);
struct vgpu_function *vgpu_session_function(const struct vgpu_session *s, uint64_t handle);

#endif
