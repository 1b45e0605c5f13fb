/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Directories in which devices' sockets come and go: vm-<id>.sock makes an endpoint. It connects to
 * nothing itself.
 */
#ifndef VGPU_MEDIATOR_WATCH_H
#define VGPU_MEDIATOR_WATCH_H

#include "mediator/mediator.h"

/* Watches a directory from now on, as place `place`. 0, or a negative errno when that cannot be
 * done at the start. */
int vgpu_watch_add(struct vgpu_mediator *m, uint32_t place, const char *directory);
void vgpu_watch_free_all(struct vgpu_mediator *m);

/* A directory that had more sockets than there was room for may have room now: looks again soon. */
void vgpu_watch_room(struct vgpu_mediator *m, uint32_t place);

/* The id in "vm-<id>.sock", written without leading zeros; false for any other name. */
bool vgpu_watch_parse_name(const char *name, uint32_t *vm_id);

#endif
