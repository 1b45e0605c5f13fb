/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In a build without json-c: no control socket. */
#include <errno.h>
#include <stdio.h>

#include "mediator/control.h"

int vgpu_control_listen(struct vgpu_mediator *m, char *why)
{
    snprintf(
        why, 512,
        "control = %.300s: this build has no control socket; build it with json-c, or take the "
        "line out",
        m->settings->control);
    return -ENOTSUP;
}

void vgpu_control_close(struct vgpu_mediator *m)
{
    (void)m;
}
