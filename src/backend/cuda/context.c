/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Contexts of a session, of both sides' requests: making, selecting and ending them; see cuda.h and
 * stream.h. */
#include <stdlib.h>

#include "host.h"
#include "stream.h"

CUresult cuda_select(struct vgpu_backend *b, CUcontext context)
{
    if (b->selected == context)
        return CUDA_SUCCESS;
    CUresult r = b->api.cuCtxSetCurrent(context);
    if (r == CUDA_SUCCESS)
        b->selected = context;
    return r;
}

struct vgpu_driver_context *cuda_context_add(struct vgpu_backend *b, CUcontext made, bool primary)
{
    struct vgpu_driver_context *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->cuda = made;
    c->primary = primary;
    cuda_streams_begin(c);
    c->next = b->contexts;
    b->contexts = c;
    if (primary)
        b->primary = c;
    if (cuda_select(b, made) == CUDA_SUCCESS)
        cuda_host_pin(b, c);
    return c;
}

CUresult cuda_need_primary(struct vgpu_backend *b)
{
    if (b->primary)
        return cuda_select(b, b->primary->cuda);
    CUcontext made = NULL;
    CUresult r = b->api.cuDevicePrimaryCtxRetain(&made, b->device);
    if (r != CUDA_SUCCESS)
        return r;
    if (!cuda_context_add(b, made, true)) {
        (void)b->api.cuDevicePrimaryCtxRelease_v2(b->device);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    return cuda_select(b, made);
}

/* Forgets what CUDA has ended with it. */
static void forget_context(struct vgpu_backend *b, struct vgpu_driver_context *c)
{
    for (struct cuda_module *m = b->modules, *next; m; m = next) {
        next = m->next;
        if (m->context == c)
            cuda_module_forget(b, m);
    }
    for (struct vgpu_driver_array *a = b->arrays, *next; a; a = next) {
        next = a->next;
        if (a->context == c)
            cuda_array_forget(b, a);
    }
    cuda_ranges_remove_owner(&b->ranges, c);
    struct vgpu_driver_context **at = &b->contexts;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (b->current == c)
        b->current = NULL;
    if (b->primary == c)
        b->primary = NULL;
    free(c);
}

CUresult cuda_context_end(struct vgpu_backend *b, struct vgpu_driver_context *c)
{
    CUresult r = cuda_select(b, c->cuda);
    bool usable = r == CUDA_SUCCESS;
    cuda_host_unpin(b, c);
    if (usable)
        (void)cuda_select(b, c->cuda);
    cuda_streams_end(b, c);
    if (c->primary) {
        /* Memory goes by hand: this process may still hold the context elsewhere. */
        for (size_t i = 0; usable && i < b->ranges.count; i++) {
            if (b->ranges.at[i].owner == c)
                (void)b->api.cuMemFree_v2(b->ranges.at[i].base);
        }
        r = b->api.cuDevicePrimaryCtxRelease_v2(b->device);
    } else {
        r = b->api.cuCtxDestroy_v2(c->cuda);
    }
    b->selected = NULL;
    forget_context(b, c);
    if (b->contexts && b->host_regions && cuda_select(b, b->contexts->cuda) == CUDA_SUCCESS)
        cuda_host_pin(b, b->contexts);
    return r;
}
