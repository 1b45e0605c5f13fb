/* SPDX-License-Identifier: MIT */
/*
 * The process's one driver: cuInit, the session behind it, what each thread has, and whether a call
 * may be made now. Errors by name. Knows nothing of what the calls do.
 */
#define _GNU_SOURCE /* secure_getenv */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "guest/cuda/copy_team.h"
#include "guest/cuda/internal.h"
#include "guest/deadline.h"
#include "guest/guest.h"

struct vgpu_cuda vgpu_cuda = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* One at a time: cuInit, and what else first asks the host. */
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Threads ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static bool have_key;
_Thread_local struct vgpu_thread *vgpu_this_thread;

static void free_thread(void *pointer)
{
    struct vgpu_thread *thread = pointer;
    vgpu_thread_streams_free(thread);
    vgpu_this_thread = NULL; /* what another destructor may call makes a new one */
    free(thread->stack);
    free(thread);
}

/* Of a parent's session a child has nothing: not even the locks are sure to be free. What it
 * inherited of the way there is let go of, so that the parent's locks do not outlive the parent. */
static void after_fork(void)
{
    if (!vgpu_cuda.session)
        return;
    atomic_store(&vgpu_cuda.forked, true);
    vgpu_cleanup(vgpu_cuda.gpu);
    vgpu_cuda.gpu = NULL;
    vgpu_cuda.session = NULL;
    vgpu_cuda.channel = NULL;
}

static void set_up(void)
{
    have_key = pthread_key_create(&thread_key, free_thread) == 0;
    pthread_atfork(NULL, NULL, after_fork);
    vgpu_cuda.debug = secure_getenv("VGPU_CUDA_DEBUG") != NULL;
    vgpu_copy_team_set_up();
}

struct vgpu_thread *vgpu_cuda_new_thread(void)
{
    pthread_once(&once, set_up);
    struct vgpu_thread *thread = calloc(1, sizeof(*thread));
    if (!thread)
        return NULL;
    if (!have_key || pthread_setspecific(thread_key, thread) != 0) {
        free(thread); /* it could never be freed later */
        return NULL;
    }
    vgpu_this_thread = thread;
    return thread;
}

void vgpu_cuda_debug(const char *format, ...)
{
    if (!vgpu_cuda.debug)
        return;
    int keep = errno;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    fprintf(stderr, "libcuda (vgpu): %s\n", line);
    errno = keep;
}

/* ---- Beginning ---- */

/* The attributes of the device, as many as the host knows. */
static CUresult fetch_attributes(void)
{
    uint32_t have = 0;
    memset(vgpu_cuda.attributes, 0, sizeof(vgpu_cuda.attributes));
    while (have < VGPU_CUDA_DEVICE_ATTRIBUTE_END) {
        int32_t values[240];
        uint32_t length = 0;
        CUresult result = vgpu_call_device_attributes(0, have, values, sizeof(values), &length);
        if (result != CUDA_SUCCESS)
            return result;
        uint32_t count = length / (uint32_t)sizeof(values[0]);
        if (count > VGPU_CUDA_DEVICE_ATTRIBUTE_END - have)
            count = VGPU_CUDA_DEVICE_ATTRIBUTE_END - have;
        memcpy(vgpu_cuda.attributes + have, values, count * sizeof(values[0]));
        have += count;
        if (count < sizeof(values) / sizeof(values[0]))
            break;
    }
    vgpu_cuda.attributes[0] = 0; /* of no attribute */
    vgpu_cuda_settle_attributes();
    return have > CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

static CUresult ask_host(void)
{
    int32_t version = 0;
    CUresult result = vgpu_call_driver_version(0, &version);
    if (result != CUDA_SUCCESS)
        return result;
    vgpu_cuda.version = version < VGPU_CUDA_VERSION ? version : VGPU_CUDA_VERSION;
    int err = vgpu_device_info(vgpu_cuda.session, &vgpu_cuda.info);
    if (err != 0)
        return vgpu_cuda_result_of(err);
    return fetch_attributes();
}

/* The caller holds init_lock. */
static CUresult begin(void)
{
    if (vgpu_cuda.session)
        return CUDA_SUCCESS;
    struct vgpu *gpu = NULL;
    struct vgpu_session *session = NULL;
    int err = vgpu_init(NULL, &gpu);
    if (err == 0)
        err = vgpu_session_open(gpu, &session);
    CUresult result = CUDA_SUCCESS;
    if (err == 0) {
        vgpu_cuda.gpu = gpu;
        vgpu_cuda.session = session;
        vgpu_cuda.channel = session->channel;
        vgpu_cuda_debug("the session goes by the %s", vgpu_session_transport(session));
        result = ask_host();
    } else {
        vgpu_cuda_debug("%s", vgpu_last_error_text());
        /* Without a device, or without anybody behind it, there is none for CUDA. */
        result = err == -ENODEV || err == -ENOLINK || err == -ENOENT || err == -ECONNREFUSED
                     ? CUDA_ERROR_NO_DEVICE
                     : vgpu_cuda_result_of(err);
    }
    if (result != CUDA_SUCCESS) {
        vgpu_cuda.session = NULL;
        vgpu_cuda.channel = NULL;
        vgpu_cuda.gpu = NULL;
        vgpu_cleanup(gpu);
        atomic_store(&vgpu_cuda.sticky, CUDA_SUCCESS); /* the next attempt is another session */
    }
    return result;
}

static CUresult begin_once(void)
{
    if (!vgpu_cuda_thread())
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (atomic_load(&vgpu_cuda.forked))
        return CUDA_ERROR_NOT_INITIALIZED;
    pthread_mutex_lock(&init_lock);
    CUresult result = begin();
    pthread_mutex_unlock(&init_lock);
    return result;
}

CUresult cuInit(unsigned int Flags)
{
    if (Flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (atomic_load(&vgpu_cuda.ended))
        return CUDA_ERROR_DEINITIALIZED;
    CUresult result = begin_once();
    if (result == CUDA_SUCCESS)
        atomic_store(&vgpu_cuda.ready, true);
    return result;
}

CUresult cuDriverGetVersion(int *driverVersion)
{
    if (!driverVersion)
        return CUDA_ERROR_INVALID_VALUE;
    /* May be asked before cuInit, and where there is no device: then it is the library's own. */
    bool known = begin_once() == CUDA_SUCCESS;
    *driverVersion = known ? vgpu_cuda.version : VGPU_CUDA_VERSION;
    return CUDA_SUCCESS;
}

/*
 * The session is ended when the process is, so that its memory is free at once. Nothing here is
 * freed: other threads may still be inside.
 */
__attribute__((destructor)) static void end_driver(void)
{
    if (!vgpu_cuda.session)
        return;
    atomic_store(&vgpu_cuda.ended, true);
    vgpu_session_farewell(vgpu_cuda.session, 2000);
}

/* ---- Whether a call may be made ---- */

CUresult vgpu_cuda_enter_process(struct vgpu_thread **thread)
{
    if (atomic_load(&vgpu_cuda.ended))
        return CUDA_ERROR_DEINITIALIZED;
    if (!atomic_load(&vgpu_cuda.ready) || atomic_load(&vgpu_cuda.forked))
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!(*thread = vgpu_cuda_thread()))
        return CUDA_ERROR_OUT_OF_MEMORY;
    return (*thread)->in_callback ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
}

CUresult vgpu_context_find(CUcontext handle, struct vgpu_context **context)
{
    struct vgpu_context *found = vgpu_object_find(handle, VGPU_KIND_CONTEXT);
    if (!found)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!atomic_load(&found->alive))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *context = found;
    return CUDA_SUCCESS;
}

CUresult vgpu_cuda_enter_context(struct vgpu_context **context)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    uint32_t sticky = atomic_load(&vgpu_cuda.sticky);
    if (sticky)
        return (CUresult)sticky;
    struct vgpu_context *top = thread->depth ? thread->stack[thread->depth - 1] : NULL;
    if (!top)
        return CUDA_ERROR_INVALID_CONTEXT;
    result = vgpu_context_find((CUcontext)top, context);
    return result == CUDA_SUCCESS ? result : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult vgpu_cuda_enter(uint64_t *context_name)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        *context_name = context->base.name;
    return result;
}

CUresult vgpu_cuda_exchange(uint32_t opcode, uint64_t context, const uint64_t *in,
                            const void *payload, uint32_t length, uint64_t *out, void *fill,
                            uint32_t capacity, uint32_t *fill_length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    if (!info)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!vgpu_cuda.session || atomic_load(&vgpu_cuda.forked))
        return CUDA_ERROR_NOT_INITIALIZED;
    uint32_t sticky = atomic_load(&vgpu_cuda.sticky);
    if (sticky)
        return (CUresult)sticky;
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (thread->defer && info->posted)
        return vgpu_order_keep(thread->defer, info, context, in, payload, length);
    if (info->reports) {
        CUresult late = vgpu_cuda_take_late();
        if (late != CUDA_SUCCESS)
            return late;
    }
    return vgpu_cuda_send(info, context, in, payload, length, out, fill, capacity, fill_length);
}

CUresult vgpu_cuda_name_of(enum vgpu_kind kind, const void *handle, bool allow_null, uint64_t *name)
{
    *name = 0;
    if (!handle && allow_null)
        return CUDA_SUCCESS;
    if (kind == VGPU_KIND_FUNCTION) {
        struct vgpu_function_object *function;
        CUresult result = vgpu_function_find((CUfunction)(uintptr_t)handle, &function);
        if (result == CUDA_SUCCESS)
            *name = function->base.name;
        return result;
    }
    if (kind == VGPU_KIND_STREAM) {
        struct vgpu_stream *stream;
        CUresult result = vgpu_stream_find((CUstream)(uintptr_t)handle, &stream);
        if (result == CUDA_SUCCESS)
            *name = stream->base.name;
        return result;
    }
    const struct vgpu_object *object = vgpu_object_find(handle, kind);
    if (!object)
        return CUDA_ERROR_INVALID_HANDLE;
    *name = object->name;
    return CUDA_SUCCESS;
}

CUstream vgpu_cuda_thread_stream(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

void vgpu_cuda_use_thread_stream(bool own)
{
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (thread)
        thread->own_default = own;
}

CUresult vgpu_cuda_not_supported(const char *name)
{
    vgpu_cuda_debug("%s is not supported", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* ---- Errors by name ---- */

#define KNOWN_CASE(value, name, text) case value:

static bool is_known(CUresult error)
{
    switch ((unsigned)error) {
        VGPU_CURESULT_LIST(KNOWN_CASE)
        return true;
    default:
        return false;
    }
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{
    if (!pStr)
        return CUDA_ERROR_INVALID_VALUE;
    *pStr = is_known(error) ? vgpu_result_name((uint32_t)error) : NULL;
    return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **pStr)
{
    if (!pStr)
        return CUDA_ERROR_INVALID_VALUE;
    *pStr = is_known(error) ? vgpu_result_text((uint32_t)error) : NULL;
    return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId)
{
    if (!ppExportTable || !pExportTableId)
        return CUDA_ERROR_INVALID_VALUE;
    *ppExportTable = NULL; /* what they hold is not documented */
    return vgpu_cuda_not_supported("cuGetExportTable");
}

CUresult cuProfilerStart(void)
{
    return vgpu_cuda_not_supported("cuProfilerStart");
}

CUresult cuProfilerStop(void)
{
    return vgpu_cuda_not_supported("cuProfilerStop");
}
