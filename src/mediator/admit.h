/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is let in, and as what: a HELLO's wishes against the configuration (docs/link.md L4, L5,
 * L14). Pure. It knows nothing of who is attached already.
 */
#ifndef VGPU_MEDIATOR_ADMIT_H
#define VGPU_MEDIATOR_ADMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "mediator/settings.h"
#include "vgpu/link.h"

/* What a limited rate may save up: two turns at the default quantum, so that a program that
 * computes now and then gets a whole one at once, and a tenth of a second is never over its rate by
 * much. */
#define VGPU_ADMIT_BURST_MS 10u

struct vgpu_admission {
    uint32_t refusal; /* enum vgpu_link_refusal, 0: admitted */
    char text[256];   /* why, when refused */
    uint64_t features;
    uint32_t pool_id;
    struct vgpu_sched_tenant share; /* without its GPU */
    uint64_t memory;                /* bytes of device memory, all sessions together */
    uint32_t sessions;
    uint32_t queue; /* requests of a session that may wait */
    uint32_t uid;   /* of its workers, or VGPU_SETTINGS_NO_UID */
};

/* What the scheduler is told of a tenant with this section (NULL: none). */
struct vgpu_sched_tenant vgpu_admit_share(const struct vgpu_vm_setting *vm, uint32_t priority,
                                          uint32_t gpu);

/*
 * vm is the section that holds for the device ([vm N], or [local UID]); NULL: a stranger. What the
 * section does not say is the device's wish. vm_id is for the text.
 */
void vgpu_admit(const struct vgpu_settings *settings, const struct vgpu_vm_setting *vm,
                uint32_t vm_id, bool stranger_is_welcome, const struct vgpu_link_hello *hello,
                struct vgpu_admission *out);

#endif
