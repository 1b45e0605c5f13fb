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

struct vgpu_admission {
    uint32_t refusal; /* enum vgpu_link_refusal, 0: admitted */
    char text[256];   /* why, when refused */
    uint64_t features;
    uint32_t pool_id;
    uint32_t priority;
    uint64_t memory; /* bytes of device memory, all sessions together */
    uint32_t sessions;
    uint32_t uid; /* of its workers, or VGPU_SETTINGS_NO_UID */
};

/*
 * vm is the section that holds for the device ([vm N], or [local UID]); NULL: a stranger. What the
 * section does not say is the device's wish. vm_id is for the text.
 */
void vgpu_admit(const struct vgpu_settings *settings, const struct vgpu_vm_setting *vm,
                uint32_t vm_id, bool stranger_is_welcome, const struct vgpu_link_hello *hello,
                struct vgpu_admission *out);

#endif
