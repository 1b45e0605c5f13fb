/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What GPUs this host has, as `vgpu-worker --probe` says (docs/worker.md), and which of them the
 * configured pools get. Pure: lines in, decisions out.
 */
#ifndef VGPU_MEDIATOR_INVENTORY_H
#define VGPU_MEDIATOR_INVENTORY_H

#include <stddef.h>
#include <stdint.h>

#include "mediator/settings.h"

#define VGPU_INVENTORY_MAX 64u

struct vgpu_found_gpu {
    char backend[16];
    uint32_t ordinal;
    char name[64];
    uint8_t uuid[16];
    bool has_uuid;
    uint64_t memory_bytes;
    char unusable[160]; /* why no worker can use it; empty: it can be used */
};

struct vgpu_inventory {
    uint32_t count;
    struct vgpu_found_gpu gpus[VGPU_INVENTORY_MAX];
};

/*
 * Takes one line of the probe: an object of strings and numbers. What it does not know is passed
 * over. 0, -EINVAL, or -ENOSPC; strings hold printable ASCII only.
 */
int vgpu_inventory_add(struct vgpu_inventory *inventory, const char *line, size_t length);

/*
 * Gives each pool what it asked for, as far as it is there, can be used, and no other pool has it.
 * `say` gets a sentence for each thing that is not as it was asked for.
 */
void vgpu_inventory_resolve(const struct vgpu_inventory *inventory, struct vgpu_settings *settings,
                            void (*say)(void *context, const char *text), void *context);

#endif
