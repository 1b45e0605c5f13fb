/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pinned host memory; see host.h. */
#include "host.h"

#include <stdlib.h>

#include "common/log.h"
#include "stream.h"

#define REGISTER_PORTABLE 1u /* CU_MEMHOSTREGISTER_PORTABLE: for all contexts */

struct cuda_host_region {
    struct cuda_host_region *next;
    void *base;
    size_t bytes;
    const struct vgpu_driver_context *through; /* NULL: not pinned */
};

static CUresult pin(struct vgpu_backend *b, struct cuda_host_region *region,
                    const struct vgpu_driver_context *c)
{
    CUresult r = b->api.cuMemHostRegister_v2(region->base, region->bytes, REGISTER_PORTABLE);
    if (r == CUDA_SUCCESS) {
        region->through = c;
    } else if (!b->host_refused) {
        b->host_refused = true; /* said once */
        vgpu_log(VGPU_LOG_WARN, "host-not-pinned",
                 "bytes=%zu curesult=%d reason=\"the GPU's driver does not take it: copies go "
                 "through memory of the driver's own, slower; is there room to lock memory?\"",
                 region->bytes, (int)r);
    }
    return r;
}

/* The GPU may be at it: nothing is taken away under a copy. */
static void settle(struct vgpu_backend *b)
{
    for (struct vgpu_driver_context *c = b->contexts; c; c = c->next) {
        if (LIST_EMPTY(&c->streams.busy) || cuda_select(b, c->cuda) != CUDA_SUCCESS)
            continue;
        if (b->api.cuCtxSynchronize() == CUDA_SUCCESS)
            cuda_streams_idle(c);
    }
}

CUresult cuda_host_register(struct vgpu_backend *b, void *base, size_t size_bytes)
{
    if (!base || !size_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    struct cuda_host_region *region = calloc(1, sizeof(*region));
    if (!region)
        return CUDA_ERROR_OUT_OF_MEMORY;
    region->base = base;
    region->bytes = size_bytes;
    region->next = b->host_regions;
    b->host_regions = region;
    struct vgpu_driver_context *c = b->primary ? b->primary : b->contexts;
    if (!c)
        return CUDA_SUCCESS;
    CUresult r = cuda_select(b, c->cuda);
    return r == CUDA_SUCCESS ? pin(b, region, c) : r;
}

void cuda_host_forget(struct vgpu_backend *b, void *base)
{
    struct cuda_host_region **at = &b->host_regions;
    while (*at && (*at)->base != base)
        at = &(*at)->next;
    struct cuda_host_region *region = *at;
    if (!region)
        return;
    settle(b); /* pinned or not: a copy may be on its way */
    if (region->through && cuda_select(b, region->through->cuda) == CUDA_SUCCESS)
        (void)b->api.cuMemHostUnregister(region->base);
    *at = region->next;
    free(region);
}

void cuda_host_pin(struct vgpu_backend *b, const struct vgpu_driver_context *c)
{
    for (struct cuda_host_region *region = b->host_regions; region; region = region->next) {
        if (!region->through)
            (void)pin(b, region, c);
    }
}

void cuda_host_unpin(struct vgpu_backend *b, const struct vgpu_driver_context *c)
{
    bool settled = false;
    for (struct cuda_host_region *region = b->host_regions; region; region = region->next) {
        if (region->through != c)
            continue;
        if (!settled)
            settle(b);
        settled = true;
        if (cuda_select(b, c->cuda) == CUDA_SUCCESS)
            (void)b->api.cuMemHostUnregister(region->base);
        region->through = NULL;
    }
}

void cuda_host_free(struct vgpu_backend *b)
{
    while (b->host_regions) {
        struct cuda_host_region *region = b->host_regions;
        b->host_regions = region->next;
        free(region);
    }
}
