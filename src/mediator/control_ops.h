/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operations of the control socket (docs/control.md K10 to K32). */
#ifndef VGPU_MEDIATOR_CONTROL_OPS_H
#define VGPU_MEDIATOR_CONTROL_OPS_H

#include "mediator/control.h"
#include "mediator/events.h"

/* Does what the request asks for, and answers, now or later. */
void vgpu_control_do(struct vgpu_control_client *client,
                     const struct vgpu_control_request *request);

/* An event as JSON. */
void vgpu_control_event(struct vgpu_text *text, const struct vgpu_event *event);

#endif
