/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registry over file; see overlay.h. */
#include "mediator/overlay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"

/* --- VMs --- */

static void lay(struct vgpu_vm_setting *vm, const struct vgpu_registry_vm *row)
{
    vm->registered |= row->registered;
    if (row->pool)
        vm->pool = row->pool;
    if (row->priority >= 0)
        vm->priority = row->priority;
    if (row->memory)
        vm->memory = row->memory;
    if (row->sessions)
        vm->sessions = row->sessions;
    if (row->weight)
        vm->weight = row->weight;
    if (row->rate)
        vm->rate = row->rate;
    if (row->burst_ms)
        vm->burst_ms = row->burst_ms;
    if (row->queue)
        vm->queue = row->queue;
}

static uint32_t find(const struct vgpu_settings *s, uint32_t vm)
{
    uint32_t i = 0;
    while (i < s->vm_count && s->vms[i].key != vm)
        i++;
    return i;
}

void vgpu_overlay_vm(struct vgpu_settings *s, uint32_t vm, const struct vgpu_registry_vm *row)
{
    uint32_t i = find(s, vm);
    if (i < s->file_vm_count) {
        s->vms[i] = s->file_vms[i];
        if (row)
            lay(&s->vms[i], row);
    } else if (row && row->registered) {
        /* vgpu_overlay_all made room for as many as the registry can have. */
        s->vms[i] =
            (struct vgpu_vm_setting){.key = vm, .priority = -1, .uid = VGPU_SETTINGS_NO_UID};
        lay(&s->vms[i], row);
        s->vm_count += i == s->vm_count;
    } else if (i < s->vm_count) {
        s->vms[i] = s->vms[--s->vm_count];
    }
}

static int make_room(struct vgpu_settings *s)
{
    size_t room = s->vm_count + VGPU_REGISTRY_VMS_MAX;
    struct vgpu_vm_setting *vms = realloc(s->vms, room * sizeof(*vms));
    if (!vms)
        return -ENOMEM;
    s->vms = vms;
    s->file_vms = malloc((s->vm_count ? s->vm_count : 1) * sizeof(*vms));
    if (!s->file_vms)
        return -ENOMEM;
    memcpy(s->file_vms, s->vms, s->vm_count * sizeof(*vms));
    s->file_vm_count = s->vm_count;
    return 0;
}

/* Rows and the file's sections are both by no means sorted against each other: this is quadratic
 * at worst only in what has both. */
static void lay_vms(struct vgpu_settings *s, const struct vgpu_registry_state *state)
{
    for (uint32_t i = 0; i < s->file_vm_count; i++) {
        const struct vgpu_registry_vm *row = vgpu_registry_find_vm(state, s->vms[i].key);
        if (row)
            lay(&s->vms[i], row);
    }
    for (uint32_t i = 0; i < state->vm_count; i++) {
        const struct vgpu_registry_vm *row = &state->vms[i];
        bool in_file = false;
        for (uint32_t k = 0; k < s->file_vm_count && !in_file; k++)
            in_file = s->file_vms[k].key == row->vm;
        if (in_file || !row->registered)
            continue;
        struct vgpu_vm_setting *vm = &s->vms[s->vm_count++];
        *vm = (struct vgpu_vm_setting){.key = row->vm, .priority = -1, .uid = VGPU_SETTINGS_NO_UID};
        lay(vm, row);
    }
}

/* --- pools --- */

int vgpu_overlay_gpu_read(const char *name, struct vgpu_gpu_setting *gpu)
{
    *gpu = (struct vgpu_gpu_setting){.backend = VGPU_GPU_SOFTWARE};
    if (!strcmp(name, "software"))
        return 0;
    gpu->backend = VGPU_GPU_CUDA;
    if (!strncmp(name, "cuda:", 5))
        return vgpu_parse_u32(name + 5, 0, 63, &gpu->ordinal) ? -EINVAL : 0;
    gpu->by_uuid = true;
    return strncmp(name, "GPU-", 4) || vgpu_parse_uuid(name, gpu->uuid) ? -EINVAL : 0;
}

void vgpu_overlay_gpu_name(const struct vgpu_gpu_setting *gpu, char name[VGPU_REGISTRY_GPU_NAME])
{
    if (gpu->backend == VGPU_GPU_SOFTWARE)
        snprintf(name, VGPU_REGISTRY_GPU_NAME, "software");
    else if (gpu->by_uuid)
        vgpu_uuid_write(name, gpu->uuid);
    else
        snprintf(name, VGPU_REGISTRY_GPU_NAME, "cuda:%u", gpu->ordinal);
}

static void lay_pool(struct vgpu_pool_setting *pool, const struct vgpu_registry_pool *row)
{
    pool->present = true;
    pool->all = pool->or_software = false;
    pool->asked_count = 0;
    for (uint32_t i = 0; i < row->gpu_count; i++)
        /* A name that makes no sense is that of no GPU. */
        if (!vgpu_overlay_gpu_read(row->gpus[i], &pool->asked[pool->asked_count]))
            pool->asked_count++;
    memcpy(pool->gpus, pool->asked, sizeof(pool->gpus));
    pool->gpu_count = pool->asked_count;
}

int vgpu_overlay_all(struct vgpu_settings *s, const struct vgpu_registry_state *state)
{
    int rc = make_room(s);
    if (rc)
        return rc;
    lay_vms(s, state);
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++)
        if (state->pools[p].pool && state->pools[p].has_gpus)
            lay_pool(&s->pools[p], &state->pools[p]);
    return 0;
}
