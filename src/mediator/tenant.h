/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tenants and their tables of sessions: making, finding, freeing. Part of the broker. */
#ifndef VGPU_MEDIATOR_TENANT_H
#define VGPU_MEDIATOR_TENANT_H

#include "mediator/mediator.h"

/* NULL when there is none. */
struct vgpu_tenant *vgpu_tenant_find(struct vgpu_mediator *m, uint32_t vm_id);
struct vgpu_session *vgpu_tenant_session(struct vgpu_tenant *t, uint64_t id);

/* The number must not be open. NULL: no memory. */
struct vgpu_session *vgpu_tenant_session_open(struct vgpu_tenant *t, uint64_t id,
                                              uint64_t open_seq);
/* Ends its worker too, and frees it. */
void vgpu_tenant_session_close(struct vgpu_tenant *t, struct vgpu_session *s);
/* All of them, and nothing before can be cancelled any more. */
void vgpu_tenant_end_sessions(struct vgpu_tenant *t);

#endif
