/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In a build without SQLite: a registry that cannot be opened, so that nothing else is needed. */
#include <errno.h>
#include <stdio.h>

#include "registry/writer.h"

struct vgpu_registry *vgpu_registry_open(const char *path, unsigned wait_ms,
                                         struct vgpu_registry_state *state, int *rc, char *why)
{
    (void)wait_ms;
    (void)state;
    *rc = -ENOTSUP;
    snprintf(
        why, VGPU_REGISTRY_WHY,
        "registry = %.300s: this build has no registry; build it with SQLite, or take the line "
        "out: then the configuration file is all there is",
        path);
    return NULL;
}

void vgpu_registry_close(struct vgpu_registry *registry)
{
    (void)registry;
}

bool vgpu_registry_read_only(const struct vgpu_registry *registry)
{
    (void)registry;
    return true;
}

uint64_t vgpu_registry_starts(const struct vgpu_registry *registry)
{
    (void)registry;
    return 0;
}

struct vgpu_writer *vgpu_writer_start(struct vgpu_registry *registry)
{
    (void)registry;
    errno = ENOTSUP;
    return NULL;
}

void vgpu_writer_stop(struct vgpu_writer *writer, void (*left)(struct vgpu_writer_job *job))
{
    (void)writer;
    (void)left;
}

int vgpu_writer_fd(const struct vgpu_writer *writer)
{
    (void)writer;
    return -1;
}

int vgpu_writer_submit(struct vgpu_writer *writer, struct vgpu_writer_job *job)
{
    (void)writer;
    (void)job;
    return -EAGAIN;
}

struct vgpu_writer_job *vgpu_writer_done(struct vgpu_writer *writer)
{
    (void)writer;
    return NULL;
}
