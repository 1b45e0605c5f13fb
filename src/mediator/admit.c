/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Admission; see admit.h. */
#include "mediator/admit.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/clock.h"
#include "vgpu/protocol.h"

static void refuse(struct vgpu_admission *out, uint32_t reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void refuse(struct vgpu_admission *out, uint32_t reason, const char *format, ...)
{
    va_list args;
    out->refusal = reason;
    va_start(args, format);
    vsnprintf(out->text, sizeof(out->text), format, args);
    va_end(args);
}

struct vgpu_sched_tenant vgpu_admit_share(const struct vgpu_vm_setting *vm, uint32_t priority,
                                          uint32_t gpu)
{
    uint32_t burst_ms = vm && vm->burst_ms ? vm->burst_ms : VGPU_ADMIT_BURST_MS;
    return (struct vgpu_sched_tenant){
        .gpu = gpu,
        .priority = priority,
        .weight = vm && vm->weight ? vm->weight : VGPU_SCHED_WEIGHT_DEFAULT,
        .rate = vm ? vm->rate : 0,
        .burst_ns = burst_ms * VGPU_NS_PER_MS,
    };
}

void vgpu_admit(const struct vgpu_settings *s, const struct vgpu_vm_setting *vm, uint32_t vm_id,
                bool stranger_is_welcome, const struct vgpu_link_hello *hello,
                struct vgpu_admission *out)
{
    *out = (struct vgpu_admission){
        .features = hello->features & VGPU_LINK_FEATURES_KNOWN,
        .pool_id = vm && vm->pool ? (uint32_t)vm->pool : hello->pool_id,
        .share = vgpu_admit_share(
            vm, vm && vm->priority >= 0 ? (uint32_t)vm->priority : hello->priority, 0),
        .memory = vm && vm->memory ? vm->memory : s->default_memory,
        .sessions = vm && vm->sessions ? vm->sessions : s->default_sessions,
        .queue = vm && vm->queue ? vm->queue : s->default_queue,
        .uid = vm ? vm->uid : VGPU_SETTINGS_NO_UID,
    };
    char pools[2 * VGPU_POOL_COUNT];
    if (hello->protocol >> 16 != VGPU_PROTOCOL_VERSION >> 16)
        refuse(out, VGPU_REFUSE_PROTOCOL, "vm %u: speaks protocol %u.%u, this mediator %u.%u",
               vm_id, hello->protocol >> 16, hello->protocol & 0xffff, VGPU_PROTOCOL_VERSION >> 16,
               VGPU_PROTOCOL_VERSION & 0xffff);
    else if (!(out->features & VGPU_LINK_FEATURE_MAILBOX))
        refuse(out, VGPU_REFUSE_PROTOCOL,
               "vm %u: has no mailbox (feature bit 0), which is all this mediator serves", vm_id);
    else if (hello->pool_id < 'A' || hello->pool_id > 'Z')
        refuse(out, VGPU_REFUSE_INVALID, "vm %u: pool_id 0x%x is no letter from A to Z", vm_id,
               hello->pool_id);
    else if (hello->priority >= VGPU_PRIORITY_COUNT)
        refuse(out, VGPU_REFUSE_INVALID,
               "vm %u: priority %u is none of 0 (low), 1 (medium), 2 (high)", vm_id,
               hello->priority);
    else if (!vm && !stranger_is_welcome)
        refuse(out, VGPU_REFUSE_UNKNOWN_VM,
               "vm %u: is not in the configuration, and admit_unknown = no", vm_id);
    else if (!s->pools[out->pool_id - 'A'].gpu_count)
        refuse(out, VGPU_REFUSE_INVALID_POOL, "vm %u: pool '%c' has no GPU (pools: %s)", vm_id,
               (char)out->pool_id, vgpu_settings_pools(s, pools));
}
