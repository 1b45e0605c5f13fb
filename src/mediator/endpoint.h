/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device's socket that we dial: when to try, when to try again, whose directory it is in (L14).
 * Whoever names it (configuration or watch.c) decides which VM it is. It speaks no protocol.
 */
#ifndef VGPU_MEDIATOR_ENDPOINT_H
#define VGPU_MEDIATOR_ENDPOINT_H

#include "mediator/link.h"
#include "mediator/mediator.h"

struct vgpu_endpoint;

/*
 * A socket `name` in the directory `directory`. With dir_fd the directory is that one, open as long
 * as the endpoint lives; with -1 it is opened for each attempt. The first attempt is made at once.
 * place: the number of the watched directory, or VGPU_CONFIGURED. NULL: no room.
 */
struct vgpu_endpoint *vgpu_endpoint_create(struct vgpu_mediator *m, uint32_t vm_id,
                                           const char *directory, const char *name, int dir_fd,
                                           uint32_t place);
struct vgpu_endpoint *vgpu_endpoint_find(struct vgpu_mediator *m, uint32_t place, uint32_t vm_id);

/* The socket is there (again), in dir_fd: tries at once unless it is connected. */
void vgpu_endpoint_appeared(struct vgpu_endpoint *e, int dir_fd);
/* The socket is gone: no more attempts; freed as soon as it is not connected. */
void vgpu_endpoint_vanished(struct vgpu_endpoint *e);
/* The same for all of a place; nothing of it uses its directory's descriptor from then on. */
void vgpu_endpoint_vanish_all(struct vgpu_mediator *m, uint32_t place);

uint32_t vgpu_endpoint_vm(const struct vgpu_endpoint *e);
/* The link that it dialled has ended; good: so that a quick retry is in order. */
void vgpu_endpoint_link_gone(struct vgpu_endpoint *e, bool good);

/* At the end, when no link is left. */
void vgpu_endpoint_free_all(struct vgpu_mediator *m);

#endif
