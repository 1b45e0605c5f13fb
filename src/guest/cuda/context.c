/* SPDX-License-Identifier: MIT */
/*
 * Contexts: the primary one with its references, further ones, and each thread's stack of them.
 * Nothing here asks the host but making and ending one, and waiting for one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "guest/cuda/internal.h"

#define CONTEXT_VERSION 3020 /* what cuCtxGetApiVersion says of contexts that the v2 calls make */

/* Serializes what makes and ends primary contexts: the references must fit what the host has. */
static pthread_mutex_t primary_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- The stack ---- */

static CUresult push(struct vgpu_thread *thread, struct vgpu_context *context)
{
    if (thread->depth == thread->capacity) {
        unsigned capacity = thread->capacity ? thread->capacity * 2 : 8;
        if (capacity > 65536)
            return CUDA_ERROR_OUT_OF_MEMORY;
        struct vgpu_context **stack = realloc(thread->stack, capacity * sizeof(stack[0]));
        if (!stack)
            return CUDA_ERROR_OUT_OF_MEMORY;
        thread->stack = stack;
        thread->capacity = capacity;
    }
    thread->stack[thread->depth++] = context;
    return CUDA_SUCCESS;
}

static struct vgpu_context *top_of(const struct vgpu_thread *thread)
{
    return thread->depth ? thread->stack[thread->depth - 1] : NULL;
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
    struct vgpu_thread *thread;
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result == CUDA_SUCCESS)
        result = ctx ? vgpu_context_find(ctx, &context) : CUDA_ERROR_INVALID_VALUE;
    return result == CUDA_SUCCESS ? push(thread, context) : result;
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!top_of(thread))
        return CUDA_ERROR_INVALID_CONTEXT;
    struct vgpu_context *context = thread->stack[--thread->depth];
    if (pctx)
        *pctx = (CUcontext)context;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
    struct vgpu_thread *thread;
    struct vgpu_context *context = NULL;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result == CUDA_SUCCESS && ctx)
        result = vgpu_context_find(ctx, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!context) {
        if (thread->depth)
            thread->depth--;
        return CUDA_SUCCESS;
    }
    if (!thread->depth)
        return push(thread, context);
    thread->stack[thread->depth - 1] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *pctx)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pctx)
        return CUDA_ERROR_INVALID_VALUE;
    *pctx = (CUcontext)top_of(thread);
    return CUDA_SUCCESS;
}

/* The current context, dead or alive. */
static CUresult current(struct vgpu_context **context)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!top_of(thread))
        return CUDA_ERROR_INVALID_CONTEXT;
    result = vgpu_context_find((CUcontext)top_of(thread), context);
    return result == CUDA_SUCCESS ? result : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

/* ---- Making and ending ---- */

/* What a context that lives has besides its name. */
static CUresult furnish(struct vgpu_context *context, unsigned flags)
{
    struct vgpu_stream *legacy = vgpu_object_new(VGPU_KIND_STREAM, context);
    if (!legacy)
        return CUDA_ERROR_OUT_OF_MEMORY;
    legacy->base.name = 0; /* the host's stream NULL */
    legacy->legacy = true;
    context->legacy = legacy;
    context->flags = flags;
    atomic_store(&context->printing, 0);
    context->cache_config = CU_FUNC_CACHE_PREFER_NONE;
    return CUDA_SUCCESS;
}

/* Takes everything that was in it out of the tables. */
static void empty(struct vgpu_context *context)
{
    atomic_store(&context->alive, false);
    context->legacy = NULL;
    vgpu_memory_forget(context, NULL);
    vgpu_object_free_all(context);
}

CUresult vgpu_context_end(struct vgpu_context *context)
{
    (void)vgpu_order_wait_context(context);
    bool alive = true;
    if (!atomic_compare_exchange_strong(&context->alive, &alive, false))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    CUresult result = vgpu_call_context_destroy(0, context->base.name);
    empty(context);
    return result;
}

/* The caller holds primary_lock. */
static CUresult activate_primary(void)
{
    struct vgpu_context *context = vgpu_cuda.primary;
    if (!context) {
        context = vgpu_object_new(VGPU_KIND_CONTEXT, NULL);
        if (!context)
            return CUDA_ERROR_OUT_OF_MEMORY;
        context->primary = true;
        context->version = CONTEXT_VERSION;
        vgpu_cuda.primary = context;
    }
    uint64_t name = vgpu_object_next_name(); /* the object stays, on the host it is a new one */
    CUresult result = vgpu_call_primary_retain(0, name, vgpu_cuda.primary_flags);
    if (result != CUDA_SUCCESS)
        return result;
    context->base.name = name;
    result = furnish(context, vgpu_cuda.primary_flags);
    if (result != CUDA_SUCCESS) {
        (void)vgpu_call_context_destroy(0, name);
        return result;
    }
    atomic_store(&context->alive, true);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pctx)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&primary_lock);
    if (!vgpu_cuda.primary || !atomic_load(&vgpu_cuda.primary->alive))
        result = activate_primary();
    if (result == CUDA_SUCCESS) {
        vgpu_cuda.primary->references++;
        *pctx = (CUcontext)vgpu_cuda.primary;
    }
    pthread_mutex_unlock(&primary_lock);
    return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&primary_lock);
    struct vgpu_context *context = vgpu_cuda.primary;
    if (!context || !atomic_load(&context->alive) || context->references == 0)
        result = CUDA_ERROR_INVALID_CONTEXT;
    else if (--context->references == 0)
        result = vgpu_context_end(context);
    pthread_mutex_unlock(&primary_lock);
    return result;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&primary_lock);
    struct vgpu_context *context = vgpu_cuda.primary;
    if (context && atomic_load(&context->alive)) {
        context->references = 0;
        result = vgpu_context_end(context);
    }
    pthread_mutex_unlock(&primary_lock);
    return result;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!flags || !active)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&primary_lock);
    bool alive = vgpu_cuda.primary && atomic_load(&vgpu_cuda.primary->alive);
    *active = alive;
    *flags = alive ? vgpu_cuda.primary->flags : vgpu_cuda.primary_flags;
    pthread_mutex_unlock(&primary_lock);
    return CUDA_SUCCESS;
}

/* MAP_HOST is what the others imply since CUDA 3.2, and says nothing about what works here. */
static bool valid_flags(unsigned flags)
{
    unsigned schedule = flags & CU_CTX_SCHED_MASK;
    return !(flags & ~(unsigned)CU_CTX_FLAGS_MASK) &&
           (schedule <= CU_CTX_SCHED_YIELD || schedule == CU_CTX_SCHED_BLOCKING_SYNC);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
    CUresult result = vgpu_cuda_check_device(dev);
    if (result != CUDA_SUCCESS)
        return result;
    if (!valid_flags(flags))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&primary_lock);
    bool alive = vgpu_cuda.primary && atomic_load(&vgpu_cuda.primary->alive);
    if (alive && vgpu_cuda.primary->flags != flags)
        result = CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
    else
        vgpu_cuda.primary_flags = flags;
    pthread_mutex_unlock(&primary_lock);
    return result;
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_check_device(dev);
    if (result == CUDA_SUCCESS)
        result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pctx || !valid_flags(flags))
        return CUDA_ERROR_INVALID_VALUE;
    struct vgpu_context *context = vgpu_object_new(VGPU_KIND_CONTEXT, NULL);
    if (!context)
        return CUDA_ERROR_OUT_OF_MEMORY;
    context->version = CONTEXT_VERSION;
    result = vgpu_call_context_create(0, context->base.name, flags);
    if (result == CUDA_SUCCESS) {
        result = furnish(context, flags);
        atomic_store(&context->alive, true);
        if (result == CUDA_SUCCESS)
            result = push(thread, context);
        if (result != CUDA_SUCCESS)
            (void)vgpu_context_end(context);
    }
    if (result != CUDA_SUCCESS) {
        vgpu_object_free(&context->base);
        return result;
    }
    *pctx = (CUcontext)context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams,
                        unsigned int flags, CUdevice dev)
{
    if (numParams)
        return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    (void)paramsArray;
    return cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *params, unsigned int flags,
                        CUdevice dev)
{
    if (params && (params->numExecAffinityParams || params->cigParams))
        return CUDA_ERROR_NOT_SUPPORTED;
    return cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
    struct vgpu_thread *thread;
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result == CUDA_SUCCESS)
        result = vgpu_context_find(ctx, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (context->primary)
        return CUDA_ERROR_INVALID_CONTEXT; /* that is released */
    if (top_of(thread) == context)
        thread->depth--;
    result = vgpu_context_end(context);
    if (result != CUDA_ERROR_CONTEXT_IS_DESTROYED)
        vgpu_object_free(&context->base);
    return result;
}

/* ---- Questions ---- */

CUresult cuCtxGetDevice(CUdevice *device)
{
    struct vgpu_context *context;
    CUresult result = current(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
    struct vgpu_context *context;
    CUresult result = current(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!flags)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
}

/* The context a call names, NULL being the current one. */
static CUresult named_or_current(CUcontext ctx, struct vgpu_context **context)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    return ctx ? vgpu_context_find(ctx, context) : current(context);
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *ctxId)
{
    struct vgpu_context *context;
    CUresult result = named_or_current(ctx, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!ctxId)
        return CUDA_ERROR_INVALID_VALUE;
    *ctxId = context->base.name;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
    struct vgpu_context *context;
    CUresult result = named_or_current(ctx, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = context->version;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *pconfig)
{
    struct vgpu_context *context;
    CUresult result = current(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pconfig)
        return CUDA_ERROR_INVALID_VALUE;
    *pconfig = context->cache_config;
    return CUDA_SUCCESS;
}

/* A preference, which CUDA itself may ignore. */
CUresult cuCtxSetCacheConfig(CUfunc_cache config)
{
    struct vgpu_context *context;
    CUresult result = current(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if ((unsigned)config > CU_FUNC_CACHE_PREFER_EQUAL)
        return CUDA_ERROR_INVALID_VALUE;
    context->cache_config = config;
    return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags)
{
    struct vgpu_context *context, *peer;
    CUresult result = current(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_context_find(peerContext, &peer);
    if (result != CUDA_SUCCESS)
        return result;
    if (Flags || peer == context)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED; /* there is one device */
}

CUresult cuCtxDisablePeerAccess(CUcontext peerContext)
{
    struct vgpu_context *context, *peer;
    CUresult result = current(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_context_find(peerContext, &peer);
    return result == CUDA_SUCCESS ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED : result;
}

CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    int32_t least = 0, greatest = 0;
    result = vgpu_call_stream_priority_range(context->base.name, &least, &greatest);
    if (result != CUDA_SUCCESS)
        return result;
    if (leastPriority)
        *leastPriority = least;
    if (greatestPriority)
        *greatestPriority = greatest;
    return CUDA_SUCCESS;
}

/* ---- Waiting ---- */

/* The host gives at most FILL_LIMIT bytes less the slot that says how much was lost. */
#define PRINT_PIECE      (VGPU_CALL_FILL_MAX - 8u)
#define PRINT_PIECES_MAX 1048576u /* more than a GPU's buffer holds: a host that never ends */

void vgpu_print_read(struct vgpu_context *context)
{
    if (atomic_load(&context->printing) == 0)
        return;
    char text[PRINT_PIECE];
    for (unsigned i = 0; i < PRINT_PIECES_MAX; i++) {
        uint32_t length = 0;
        uint64_t lost = 0;
        CUresult result = vgpu_call_printf_read(context->base.name, PRINT_PIECE, &lost, text,
                                                PRINT_PIECE, &length);
        if (result == CUDA_ERROR_NOT_SUPPORTED)
            atomic_store(&context->printing, 0); /* not asked again with each synchronization */
        if (result != CUDA_SUCCESS)
            return;
        if (length)
            fwrite(text, 1, length, stdout);
        if (lost)
            vgpu_cuda_debug("%llu bytes that kernels printed did not fit and are lost",
                            (unsigned long long)lost);
        if (length < PRINT_PIECE)
            return;
    }
}

CUresult cuCtxSynchronize(void)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_order_wait_context(context);
    if (result == CUDA_SUCCESS)
        result = vgpu_call_context_synchronize(context->base.name);
    if (result == CUDA_SUCCESS)
        vgpu_print_read(context);
    return result;
}
