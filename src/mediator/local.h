/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mediator's own socket: local clients connect to it and speak the link protocol as a device
 * would. SO_PEERCRED decides who may and which VM number it gets.
 */
#ifndef VGPU_MEDIATOR_LOCAL_H
#define VGPU_MEDIATOR_LOCAL_H

#include "mediator/mediator.h"

/* Listens on settings->listen, whose lock is held. 0, or a negative errno with a text in why (512
 * bytes). */
int vgpu_local_listen(struct vgpu_mediator *m, char *why);
/* Stops listening and removes the socket. */
void vgpu_local_close(struct vgpu_mediator *m);

/* A local client has gone. */
void vgpu_local_gone(struct vgpu_mediator *m);
/* The VM number for a client of this user: the configured one, or the lowest that is free. */
uint32_t vgpu_local_vm(struct vgpu_mediator *m, uint32_t uid);

#endif
