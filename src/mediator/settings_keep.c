/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a reload leaves as it was; see settings.h. */
#include <string.h>

#include "mediator/settings.h"

static bool same_text(const char *a, const char *b)
{
    return !a == !b && (!a || !strcmp(a, b));
}

static void swap(char **a, char **b)
{
    char *text = *a;
    *a = *b;
    *b = text;
}

bool vgpu_settings_keep_fixed(struct vgpu_settings *fresh, struct vgpu_settings *old)
{
    bool same_listen =
        !fresh->listen == !old->listen && (!fresh->listen || !strcmp(fresh->listen, old->listen));
    bool same_watch = true;
    for (uint32_t i = 0; i < fresh->watch_count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < old->watch_count; j++)
            found |= !strcmp(fresh->watch[i], old->watch[j]);
        same_watch &= found;
    }
    bool same_worker = !fresh->worker || (old->worker && !strcmp(fresh->worker, old->worker));
    bool same_pools = true;
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        const struct vgpu_pool_setting *a = &fresh->pools[p], *b = &old->pools[p];
        same_pools &= vgpu_settings_same_pool(a, b);
    }
    bool same_control = same_text(fresh->control, old->control) &&
                        same_text(fresh->registry, old->registry) &&
                        same_text(fresh->admin_group, old->admin_group);
    bool differs = (fresh->listen && !same_listen) || !same_control || !same_watch || !same_pools ||
                   !same_worker || fresh->max_vms != old->max_vms ||
                   fresh->has_worker_uid_base != old->has_worker_uid_base ||
                   fresh->worker_uid_base != old->worker_uid_base || fresh->mode != old->mode;
    swap(&fresh->listen, &old->listen);
    swap(&fresh->worker, &old->worker);
    swap(&fresh->control, &old->control);
    swap(&fresh->registry, &old->registry);
    swap(&fresh->admin_group, &old->admin_group);
    memcpy(fresh->pools, old->pools, sizeof(fresh->pools));
    fresh->max_vms = old->max_vms;
    fresh->mode = old->mode;
    fresh->has_worker_uid_base = old->has_worker_uid_base;
    fresh->worker_uid_base = old->worker_uid_base;
    return differs;
}
