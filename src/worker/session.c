/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The session's tables; see session.h. */
#include "worker/session.h"

#include <stdlib.h>

enum { KIND_MODULE = 'M', KIND_FUNCTION = 'F' };

void vgpu_session_init(struct vgpu_session *s, uint64_t id)
{
    *s = (struct vgpu_session){.id = id};
    vgpu_handles_init(&s->modules, KIND_MODULE, VGPU_SESSION_MODULES);
    vgpu_handles_init(&s->functions, KIND_FUNCTION, VGPU_SESSION_FUNCTIONS);
}

static void free_module(struct vgpu_session *s, struct vgpu_module *m)
{
    struct vgpu_function *f;
    while ((f = LIST_FIRST(&m->functions))) {
        LIST_REMOVE(f, link);
        vgpu_handles_remove(&s->functions, f->handle);
        free(f);
    }
    free(m);
}

void vgpu_session_destroy(struct vgpu_session *s)
{
    for (uint32_t i = 0; i < s->modules.size; i++) {
        if (s->modules.slot[i].object)
            free_module(s, s->modules.slot[i].object);
    }
    vgpu_handles_destroy(&s->modules);
    vgpu_handles_destroy(&s->functions);
    vgpu_stages_clear(&s->stages);
}

uint64_t vgpu_session_add_module(struct vgpu_session *s, struct vgpu_backend_module *backend)
{
    struct vgpu_module *m = calloc(1, sizeof(*m));
    if (!m)
        return 0;
    m->backend = backend;
    LIST_INIT(&m->functions);
    m->handle = vgpu_handles_add(&s->modules, m);
    if (!m->handle) {
        free(m);
        return 0;
    }
    return m->handle;
}

struct vgpu_module *vgpu_session_module(const struct vgpu_session *s, uint64_t handle)
{
    return vgpu_handles_get(&s->modules, handle);
}

struct vgpu_backend_module *vgpu_session_remove_module(struct vgpu_session *s, uint64_t handle)
{
    struct vgpu_module *m = vgpu_handles_remove(&s->modules, handle);
    if (!m)
        return NULL;
    struct vgpu_backend_module *backend = m->backend;
    free_module(s, m);
    return backend;
}

struct vgpu_function *vgpu_session_add_function(struct vgpu_session *s, struct vgpu_module *m,
                                                struct vgpu_backend_kernel *kernel,
                                                const struct vgpu_kernel_limits *limits)
{
    struct vgpu_function *f;
    for (f = LIST_FIRST(&m->functions); f; f = LIST_NEXT(f, link)) {
        if (f->kernel == kernel)
            return f;
    }
    f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->kernel = kernel;
    f->limits = *limits;
    f->handle = vgpu_handles_add(&s->functions, f);
    if (!f->handle) {
        free(f);
        return NULL;
    }
    LIST_INSERT_HEAD(&m->functions, f, link);
    return f;
}

struct vgpu_function *vgpu_session_function(const struct vgpu_session *s, uint64_t handle)
{
    return vgpu_handles_get(&s->functions, handle);
}
