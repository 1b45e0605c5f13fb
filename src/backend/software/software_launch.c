/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A launch of the software backend: its checks, what it takes of the host, how it ends. Running it
 * is the pool's.
 */
#include "software.h"

#include <inttypes.h>
#include <stdio.h>

#include "session.h"

#define LEAST_BLOCK_BYTES ((uint64_t)64 << 20)

/* The checks of cuLaunchKernel, and what they lead to. */
static CUresult fill_grid(struct ptx_grid *g, const struct vgpu_launch *l,
                          const struct vgpu_backend *b)
{
    static const uint32_t max_block[3] = {1024, 1024, 64};
    static const uint32_t max_grid[3] = {INT32_MAX, 65535, 65535};
    const struct ptx_function *fn = (const struct ptx_function *)(const void *)l->kernel;
    const struct vgpu_kernel_info *info = fn->info;
    if (l->params_bytes != info->param_bytes || (l->params_bytes && !l->params))
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < 3; i++) {
        if (l->grid[i] == 0 || l->grid[i] > max_grid[i] || l->block[i] == 0 ||
            l->block[i] > max_block[i])
            return CUDA_ERROR_INVALID_VALUE;
        if (fn->reqntid[i] && l->block[i] != fn->reqntid[i])
            return CUDA_ERROR_INVALID_VALUE;
        g->grid[i] = l->grid[i];
        g->block[i] = l->block[i];
    }
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (threads > info->max_threads_per_block)
        return CUDA_ERROR_INVALID_VALUE;
    uint32_t align = fn->shared_align_bytes > 16 ? fn->shared_align_bytes : 16;
    uint32_t base = (fn->shared_bytes + align - 1) & ~(align - 1);
    uint32_t fixed = l->shared_bytes ? base : fn->shared_bytes;
    if (fixed > PTX_MAX_SHARED_BYTES || l->shared_bytes > PTX_MAX_SHARED_BYTES - fixed)
        return CUDA_ERROR_INVALID_VALUE;
    g->fn = fn;
    g->code = fn->module->code.data;
    g->module = fn->module;
    g->threads = (uint32_t)threads;
    g->warps = (g->threads + PTX_LANES - 1) / PTX_LANES;
    g->dynamic_base = base;
    g->dynamic_bytes = l->shared_bytes;
    g->shared_bytes = fixed + l->shared_bytes;
    /* A kernel whose depth of calls is known gets what that takes, any other the session's stack on
     * top of it. */
    uint32_t stack_bytes = l->stack_bytes > b->stack_bytes ? l->stack_bytes : b->stack_bytes;
    stack_bytes = (stack_bytes + 15) & ~15u; /* lanes' memory begins at multiples of 16 */
    uint32_t rows = stack_bytes / 2, more = fn->module->deep_slots;
    g->stack_slots = fn->need_slots + (fn->deep ? (rows > more ? rows : more) : 0);
    /* Lanes that have parted may wait in different functions, each with frames of its own. */
    if (g->stack_slots < PTX_MAX_STACK_SLOTS)
        g->stack_slots += (PTX_PARTED_STACKS - 1) * fn->callee_slots;
    if (g->stack_slots > PTX_MAX_STACK_SLOTS)
        g->stack_slots = PTX_MAX_STACK_SLOTS;
    more = fn->deep ? fn->module->deep_local_bytes : 0;
    g->local_bytes = fn->need_local_bytes;
    if (fn->deep || fn->has_alloca)
        g->local_bytes += stack_bytes > more ? stack_bytes : more;
    if (g->local_bytes > PTX_MAX_LOCAL_BYTES)
        g->local_bytes = PTX_MAX_LOCAL_BYTES;
    g->blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    return CUDA_SUCCESS;
}

/* What all blocks that run at a time may take of the host. */
static uint64_t host_bytes(const struct vgpu_backend *b)
{
    return b->memory.quota_bytes > LEAST_BLOCK_BYTES ? b->memory.quota_bytes : LEAST_BLOCK_BYTES;
}

static void describe(struct vgpu_backend *b, const struct ptx_grid *g, CUresult r, uint32_t how)
{
    const struct ptx_fault *f = &g->fault;
    int n = snprintf(b->last_error, sizeof(b->last_error), "kernel '%.100s'", g->fn->name);
    char *at = b->last_error + n;
    size_t left = sizeof(b->last_error) - (size_t)n;
    if (r == CUDA_ERROR_LAUNCH_TIMEOUT && f->result == CUDA_SUCCESS)
        snprintf(at, left,
                 how == PTX_STOP_BUDGET ? ": its budget of instructions is used up"
                                        : ": interrupted");
    else if (f->deadlock)
        snprintf(at, left,
                 ", line %u: all threads that are left wait at barriers that cannot "
                 "complete",
                 f->line);
    else if (r == CUDA_ERROR_HARDWARE_STACK_ERROR)
        snprintf(at, left, ", line %u: calls go deeper than a thread's stack", f->line);
    else if (r == CUDA_ERROR_ASSERT)
        snprintf(at, left, ", line %u: an assertion failed", f->line);
    else if (r == CUDA_ERROR_INVALID_PC)
        snprintf(at, left, ", line %u: no function or label at 0x%" PRIx64, f->line, f->address);
    else if (f->has_address)
        snprintf(at, left, ", line %u: %s at address 0x%" PRIx64, f->line,
                 r == CUDA_ERROR_MISALIGNED_ADDRESS ? "misaligned access" : "illegal access",
                 f->address);
    else if (f->line)
        snprintf(at, left, ", line %u: trap or illegal instruction", f->line);
    else
        snprintf(at, left, ": failed");
}

/* What a grid's blocks need to meet: cooperative groups keep their barrier at offset 4. */
#define WORKSPACE_BYTES 256u

static CUresult prepare_cooperative(struct vgpu_backend *b, struct ptx_grid *g)
{
    if (g->blocks > vgpu_ptx_max_resident(g))
        return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    if (!b->workspace) {
        CUresult r = vgpu_ptx_memory_alloc(&b->memory, WORKSPACE_BYTES, true, &b->workspace);
        if (r != CUDA_SUCCESS)
            return r;
    }
    memset(vgpu_ptx_memory_range(&b->memory, b->workspace, WORKSPACE_BYTES), 0, WORKSPACE_BYTES);
    g->workspace = b->workspace;
    /* A block may spin until the others of its thread have come: their turns must not be long. */
    if (g->blocks > b->threads)
        g->slice_cost /= 16;
    return CUDA_SUCCESS;
}

CUresult vgpu_software_max_blocks(struct vgpu_backend *b, struct vgpu_backend_kernel *kernel,
                                  uint32_t block_threads, uint32_t shared_bytes, uint64_t *blocks)
{
    const struct ptx_function *fn = (const struct ptx_function *)(const void *)kernel;
    struct vgpu_launch l = {.kernel = kernel,
                            .grid = {1, 1, 1},
                            .block = {block_threads, 1, 1},
                            .shared_bytes = shared_bytes,
                            .params = fn,
                            .params_bytes = fn->info->param_bytes};
    const uint64_t wanted = (uint64_t)fn->reqntid[0] * fn->reqntid[1] * fn->reqntid[2];
    if (wanted == block_threads) /* a kernel of that very shape: which is asked for in one number */
        memcpy(l.block, fn->reqntid, sizeof(l.block));
    struct ptx_grid g = {.sm_count = b->threads, .host_bytes = host_bytes(b)};
    CUresult r = fill_grid(&g, &l, b);
    if (r == CUDA_SUCCESS)
        *blocks = vgpu_ptx_max_resident(&g);
    return r;
}

CUresult vgpu_software_launch(struct vgpu_backend *b, const struct vgpu_launch *launch)
{
    if (b->sticky)
        return b->sticky;
    struct ptx_grid g = {
        .memory = &b->memory, .runtime = &b->runtime, .stop = &b->stop, .sm_count = b->threads};
    g.host_bytes = host_bytes(b);
    g.slice_cost = PTX_SLICE_COST;
    CUresult r = fill_grid(&g, launch, b);
    if (r == CUDA_SUCCESS && launch->cooperative)
        r = prepare_cooperative(b, &g);
    if (r != CUDA_SUCCESS)
        return r;
    _Alignas(16) uint8_t params[PTX_MAX_PARAM_BYTES];
    if (launch->params_bytes)
        memcpy(params, launch->params, launch->params_bytes);
    g.params = params;
    g.budget = b->launch_insns;
    g.grid_id = ++b->launches;

    __atomic_store_n(&b->stop, PTX_GO, __ATOMIC_RELEASE);
    r = vgpu_ptx_pool_run(b->pool, &g);
    uint32_t how = __atomic_exchange_n(&b->stop, PTX_STOP_IDLE, __ATOMIC_ACQ_REL);
    if (r == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
        return r; /* nothing has run */
    if (r == CUDA_SUCCESS && (how == PTX_STOP_INTERRUPT || how == PTX_STOP_BUDGET))
        r = CUDA_ERROR_LAUNCH_TIMEOUT;
    if (r != CUDA_SUCCESS) {
        b->sticky = r;
        describe(b, &g, r, how);
    }
    /* Accepted: what went wrong while it ran is for synchronize and everything after it to tell. */
    return CUDA_SUCCESS;
}
