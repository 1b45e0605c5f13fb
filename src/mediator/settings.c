/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Defaults and look-ups of the configuration; the reader is settings_file.c. See settings.h. */
#include "mediator/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu/ring.h"

struct vgpu_settings *vgpu_settings_default(void)
{
    struct vgpu_settings *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->log_level = VGPU_LOG_INFO;
    s->admit_unknown = true;
    s->max_vms = 256;
    s->local_vm_base = 1000000;
    s->local_clients = 64;
    s->local_window = VGPU_WINDOW_BYTES_DEFAULT;
    s->default_sessions = 16;
    s->default_queue = 512;
    s->default_memory = 1ull << 30;
    s->context_memory = 526ull << 20; /* as measured on an H200 */
    s->quarantine_faults = 30;
    s->quarantine_window_s = 60;
    s->quarantine_s = 300;
    s->mode = VGPU_SCHED_WEIGHTED;
    s->quantum_ms = 5;
    s->aging_ms = 2000;
    s->linger_us = 50;
    s->leases = 1;
    for (uint32_t p = 0, factor = 1; p < VGPU_SCHED_PRIORITIES; p++, factor *= 4)
        s->factor[p] = factor;
    s->watchdog_ms = 10000;
    s->answer_ms = 15000;
    s->start_ms = 30000;
    s->pools[0].present = true;
    s->pools[0].gpu_count = s->pools[0].asked_count = 1;
    return s;
}

void vgpu_settings_free(struct vgpu_settings *s)
{
    if (!s)
        return;
    free(s->listen);
    free(s->control);
    free(s->registry);
    free(s->admin_group);
    free(s->worker);
    for (uint32_t i = 0; i < s->watch_count; i++)
        free(s->watch[i]);
    for (uint32_t i = 0; i < s->vm_count; i++)
        free(s->vms[i].socket);
    free(s->vms);
    free(s->file_vms);
    free(s->locals);
    free(s);
}

bool vgpu_settings_need_gpus(const struct vgpu_settings *s)
{
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        const struct vgpu_pool_setting *pool = &s->pools[p];
        if (pool->all || pool->or_software)
            return true;
        for (uint32_t i = 0; i < pool->asked_count; i++)
            if (pool->asked[i].backend == VGPU_GPU_CUDA)
                return true;
    }
    return false;
}

bool vgpu_settings_same_pool(const struct vgpu_pool_setting *a, const struct vgpu_pool_setting *b)
{
    bool same = a->asked_count == b->asked_count && a->threads == b->threads &&
                a->launch_instructions == b->launch_instructions && a->all == b->all &&
                a->or_software == b->or_software && a->card_memory == b->card_memory;
    for (uint32_t i = 0; same && i < a->asked_count; i++) {
        const struct vgpu_gpu_setting *x = &a->asked[i], *y = &b->asked[i];
        same = x->backend == y->backend && x->by_uuid == y->by_uuid && x->ordinal == y->ordinal &&
               !memcmp(x->uuid, y->uuid, sizeof(x->uuid));
    }
    return same;
}

int vgpu_settings_add_watch(struct vgpu_settings *s, const char *path)
{
    if (s->watch_count == VGPU_SETTINGS_WATCH)
        return -ENOSPC;
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    s->watch[s->watch_count++] = copy;
    return 0;
}

static const struct vgpu_vm_setting *find(const struct vgpu_vm_setting *list, uint32_t count,
                                          uint32_t key)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i].key == key)
            return &list[i];
    return NULL;
}

const struct vgpu_vm_setting *vgpu_settings_vm(const struct vgpu_settings *s, uint32_t vm_id)
{
    return find(s->vms, s->vm_count, vm_id);
}

const struct vgpu_vm_setting *vgpu_settings_local(const struct vgpu_settings *s, uint32_t uid)
{
    return find(s->locals, s->local_count, uid);
}

const char *vgpu_settings_pools(const struct vgpu_settings *s, char *buffer)
{
    size_t used = 0;
    for (uint32_t i = 0; i < VGPU_POOL_COUNT; i++) {
        if (!s->pools[i].gpu_count)
            continue;
        if (used)
            buffer[used++] = ' ';
        buffer[used++] = (char)('A' + i);
    }
    buffer[used] = 0;
    return used ? buffer : "none";
}

const char *vgpu_backend_name(enum vgpu_backend_kind backend)
{
    return backend == VGPU_GPU_CUDA ? "cuda" : "software";
}
