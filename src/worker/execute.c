/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs on the backend; see execute.h. */
#include "worker/execute.h"

#include <stdio.h>
#include <string.h>

#include "common/wire.h"
#include "worker/answer.h"

/* Errors that a CUDA context never recovers from. */
static bool is_sticky(CUresult status)
{
    switch ((int)status) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
        return true;
    default:
        return false;
    }
}

static void set_sticky(struct vgpu_executor *x, CUresult status)
{
    if (!atomic_load_explicit(&x->sticky, memory_order_relaxed))
        atomic_store_explicit(&x->sticky, (uint32_t)status, memory_order_release);
}

/*
 * Publishes what is free, and brings the account to what the session really holds: sizes are
 * rounded, modules have variables, and some of it is only known afterwards. False when the tenant
 * has no room for what was made; then that has to go again, and settle to be called again.
 */
static bool settle(struct vgpu_executor *x)
{
    uint64_t free_bytes, total_bytes;
    if (x->ops->mem_info(x->backend, &free_bytes, &total_bytes) != CUDA_SUCCESS)
        return true; /* the context is lost: what it holds is free when the process is gone */
    atomic_store_explicit(&x->free_bytes, free_bytes, memory_order_relaxed);
    uint64_t holds = total_bytes - free_bytes, charged = vgpu_account_held_bytes(x->account);
    if (holds > charged)
        return !vgpu_account_reserve(x->account, holds - charged);
    vgpu_account_release(x->account, charged - holds);
    return true;
}

static CUresult allocate(struct vgpu_executor *x, struct vgpu_job *job)
{
    if (vgpu_account_reserve(x->account, job->size))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult status = x->ops->mem_alloc(x->backend, job->size, &job->address);
    if (settle(x))
        return status;
    (void)x->ops->mem_free(x->backend, job->address);
    settle(x);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

void vgpu_executor_init(struct vgpu_executor *x, const struct vgpu_backend_ops *ops,
                        struct vgpu_backend *backend, struct vgpu_account *account)
{
    x->ops = ops;
    x->backend = backend;
    x->account = account;
    x->deferred = CUDA_SUCCESS;
    x->in_flight = false;
    atomic_init(&x->sticky, CUDA_SUCCESS);
    atomic_init(&x->free_bytes, 0);
    vgpu_calls_init(&x->calls, ops->driver ? ops->driver(backend) : NULL);
    settle(x);
}

void vgpu_executor_destroy(struct vgpu_executor *x)
{
    vgpu_calls_destroy(&x->calls);
}

static CUresult synchronize(struct vgpu_executor *x)
{
    CUresult status = x->ops->synchronize(x->backend);
    x->in_flight = false;
    if (status != CUDA_SUCCESS)
        set_sticky(x, status);
    return status;
}

/* SYNCHRONIZE and copies to the host hand out the deferred error, once. */
static CUresult report_deferred(struct vgpu_executor *x, struct vgpu_job *job)
{
    CUresult status = x->deferred;
    x->deferred = CUDA_SUCCESS;
    job->deferred_reported = status;
    return status;
}

static CUresult load_module(struct vgpu_executor *x, struct vgpu_job *job)
{
    char log[VGPU_ANSWER_DATA_BYTES + 1] = "";
    const void *image = job->blob.bytes ? job->blob.bytes : job->data;
    size_t size = job->blob.bytes ? job->blob.size : job->data_length;
    CUresult status = x->ops->module_load(x->backend, image, size, &job->module, log, sizeof(log));
    /* The image can be 64 MiB: it goes now, not when somebody fetches the answer. */
    vgpu_blob_free(&job->blob);
    job->data_length = 0;
    if (!settle(x)) {
        (void)x->ops->module_unload(x->backend, job->module);
        settle(x);
        status = CUDA_ERROR_OUT_OF_MEMORY;
        snprintf(log, sizeof(log), "its variables are more than the %llu bytes that are free",
                 (unsigned long long)vgpu_account_free_bytes(x->account));
    }
    if (status != CUDA_SUCCESS) {
        job->data_length = (uint32_t)strnlen(log, sizeof(log) - 1);
        memcpy(job->data, log, job->data_length);
    }
    return status;
}

static CUresult find_kernel(struct vgpu_executor *x, struct vgpu_job *job)
{
    const struct vgpu_kernel_info *info = NULL;
    CUresult status = x->ops->module_kernel(x->backend, job->module, (const char *)job->data,
                                            &job->kernel, &info);
    if (status != CUDA_SUCCESS) {
        char text[VGPU_NAME_MAX + 64];
        int n = snprintf(text, sizeof(text), "the module has no kernel '%s'", job->data);
        job->data_length = (uint32_t)n;
        memcpy(job->data, text, job->data_length);
        return status;
    }
    /* Copied here: `info` lives only until a job behind this one unloads the module. */
    job->limits = (struct vgpu_kernel_limits){
        .param_count = info->param_count,
        .param_bytes = info->param_bytes,
        .max_threads_per_block = info->max_threads_per_block,
        .static_shared_bytes = info->static_shared_bytes,
        .local_bytes = info->local_bytes,
    };
    uint32_t fit = VGPU_MAILBOX_BYTES - 64; /* header and 7 results, rounded up to 8 */
    job->data_length = 0;
    for (uint32_t i = job->first_param;
         i < info->param_count && job->data_length + sizeof(struct vgpu_param_layout) <= fit; i++) {
        vgpu_store_le32(job->data + job->data_length, info->params[i].offset);
        vgpu_store_le32(job->data + job->data_length + 4, info->params[i].size);
        job->data_length += (uint32_t)sizeof(struct vgpu_param_layout);
    }
    return CUDA_SUCCESS;
}

static CUresult find_global(struct vgpu_executor *x, struct vgpu_job *job)
{
    CUresult status = x->ops->module_global(x->backend, job->module, (const char *)job->data,
                                            &job->address, &job->size);
    job->data_length = 0;
    if (status != CUDA_SUCCESS) {
        char text[VGPU_NAME_MAX + 64];
        int n = snprintf(text, sizeof(text), "the module has no variable '%s'", job->data);
        job->data_length = (uint32_t)n;
        memcpy(job->data, text, job->data_length);
    }
    return status;
}

/* Whether a call may have changed what device memory is free. */
static bool moves_memory(const struct vgpu_call_info *info)
{
    switch (info->opcode) {
    case VGPU_CALL_CONTEXT_DESTROY:
    case VGPU_CALL_MODULE_LOAD:
    case VGPU_CALL_MODULE_UNLOAD:
    case VGPU_CALL_MEMORY_ALLOC:
    case VGPU_CALL_MEMORY_FREE:
    case VGPU_CALL_MEMORY_ALLOC_ASYNC:
    case VGPU_CALL_MEMORY_FREE_ASYNC:
    case VGPU_CALL_POOL_DESTROY:
    case VGPU_CALL_POOL_TRIM:
    case VGPU_CALL_ARRAY_CREATE:
    case VGPU_CALL_ARRAY_DESTROY:
        return true;
    default:
        return false;
    }
}

/* What a call is about to take, as far as it says so. */
static uint64_t asked_bytes(const struct vgpu_call_frame *frame)
{
    switch (frame->info->opcode) {
    case VGPU_CALL_MEMORY_ALLOC:
    case VGPU_CALL_MEMORY_ALLOC_ASYNC:
        return frame->in[0];
    default:
        return 0;
    }
}

static CUresult over_quota(struct vgpu_executor *x, struct vgpu_job *job)
{
    int n = snprintf((char *)job->answer, VGPU_ANSWER_DATA_BYTES,
                     "more than the %llu bytes that are free",
                     (unsigned long long)vgpu_account_free_bytes(x->account));
    job->answer_length = (uint32_t)n;
    job->made_kind = VGPU_KIND_NONE;
    return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Ends what a call has made; its answer is not wanted any more. */
static void take_back(struct vgpu_executor *x, const struct vgpu_job *job,
                      const struct vgpu_call_frame *made)
{
    uint64_t value = made->info->out_count ? made->out[0] : 0;
    char text[64];
    struct vgpu_call_frame undo = {.info = vgpu_call_info(made->info->undo),
                                   .in = &value,
                                   .payload = "",
                                   .text = text,
                                   .text_size = sizeof(text)};
    if (made->made_kind != VGPU_KIND_NONE)
        vgpu_calls_undo(&x->calls, made->made_kind, made->made_name, made->made_serial);
    else if (undo.info)
        (void)vgpu_calls_run(&x->calls, job->context, &undo);
}

/* The VM sees its tenant's share as its card. */
static void show_quota(struct vgpu_executor *x, struct vgpu_call_frame *frame)
{
    uint64_t free_bytes = vgpu_account_free_bytes(x->account);
    uint64_t total_bytes = vgpu_account_quota_bytes(x->account);
    if (free_bytes < frame->out[0])
        frame->out[0] = free_bytes;
    if (total_bytes < frame->out[1])
        frame->out[1] = total_bytes;
}

static CUresult run_call(struct vgpu_executor *x, struct vgpu_job *job)
{
    const struct vgpu_call_info *info = job->info;
    if (info->reports && x->deferred != CUDA_SUCCESS)
        return report_deferred(x, job);
    size_t in_bytes = (size_t)info->in_count * 8, out_bytes = (size_t)info->out_count * 8;
    struct vgpu_call_frame frame = {
        .info = info,
        .in = (const uint64_t *)(const void *)job->data,
        .payload = job->blob.bytes ? job->blob.bytes : job->data + in_bytes,
        .payload_length = job->blob.bytes ? job->blob.size : job->data_length - in_bytes,
        .out = (uint64_t *)(void *)job->answer,
        .fill = job->answer + out_bytes,
        .text = (char *)job->answer,
        .text_size = VGPU_ANSWER_DATA_BYTES,
    };
    uint64_t asked = asked_bytes(&frame);
    if (asked && vgpu_account_reserve(x->account, asked))
        return over_quota(x, job);
    CUresult status = vgpu_calls_run(&x->calls, job->context, &frame);
    /* A stage can be 64 MiB: it goes now, not when somebody fetches the answer. */
    vgpu_blob_free(&job->blob);
    if (status == CUDA_SUCCESS) {
        if (info->opcode == VGPU_CALL_CUMEMGETINFO_V2)
            show_quota(x, &frame);
        job->answer_length = (uint32_t)out_bytes + frame.fill_length;
        job->made_kind = frame.made_kind;
        job->made_name = frame.made_name;
        job->made_serial = frame.made_serial;
    } else {
        job->answer_length = (uint32_t)strnlen(frame.text, frame.text_size);
    }
    if (info->context_free)
        vgpu_account_set_contexts(x->account, vgpu_calls_contexts(&x->calls));
    if (moves_memory(info) && !settle(x)) {
        take_back(x, job, &frame);
        settle(x);
        return over_quota(x, job);
    }
    return status;
}

static CUresult run(struct vgpu_executor *x, struct vgpu_job *job)
{
    const struct vgpu_backend_ops *ops = x->ops;
    struct vgpu_backend *b = x->backend;
    CUresult status = CUDA_ERROR_UNKNOWN;
    switch (job->kind) {
    case VGPU_JOB_LAUNCH:
        x->in_flight = true;
        return ops->launch(b, &job->launch);
    case VGPU_JOB_ALLOC:
        return allocate(x, job);
    case VGPU_JOB_FREE:
        status = ops->mem_free(b, job->address);
        break;
    case VGPU_JOB_HTOD:
        return ops->copy_htod(b, job->address, job->data, job->data_length);
    case VGPU_JOB_DTOH:
        status = report_deferred(x, job);
        if (status == CUDA_SUCCESS)
            status = ops->copy_dtoh(b, job->data, job->source, (size_t)job->size);
        if (status == CUDA_SUCCESS)
            job->data_length = (uint32_t)job->size;
        return status;
    case VGPU_JOB_DTOD:
        return ops->copy_dtod(b, job->address, job->source, job->size);
    case VGPU_JOB_SYNCHRONIZE:
        status = synchronize(x);
        return status == CUDA_SUCCESS ? report_deferred(x, job) : status;
    case VGPU_JOB_MODULE_LOAD:
        return load_module(x, job);
    case VGPU_JOB_MODULE_UNLOAD:
        status = ops->module_unload(b, job->module);
        break;
    case VGPU_JOB_MODULE_KERNEL:
        return find_kernel(x, job);
    case VGPU_JOB_MODULE_GLOBAL:
        return find_global(x, job);
    case VGPU_JOB_RESTORE_ERROR:
        if (x->deferred == CUDA_SUCCESS)
            x->deferred = job->deferred_reported;
        return CUDA_SUCCESS;
    case VGPU_JOB_CALL:
        return run_call(x, job);
    case VGPU_JOB_CALL_UNDO:
        vgpu_calls_undo(&x->calls, job->made_kind, job->made_name, job->made_serial);
        vgpu_account_set_contexts(x->account, vgpu_calls_contexts(&x->calls));
        status = CUDA_SUCCESS;
        break;
    }
    settle(x); /* of less than before: there is room */
    return status;
}

void vgpu_execute(struct vgpu_executor *x, struct vgpu_job *job)
{
    CUresult status = (CUresult)atomic_load_explicit(&x->sticky, memory_order_relaxed);
    if (status != CUDA_SUCCESS) {
        job->status = status; /* P16: nothing reaches a context that is lost */
        job->data_length = 0;
        return;
    }
    job->status = run(x, job);
    if (job->status == CUDA_SUCCESS || job->deferred_reported != CUDA_SUCCESS)
        return;
    if (is_sticky(job->status))
        set_sticky(x, job->status);
    else if (job->early && x->deferred == CUDA_SUCCESS)
        x->deferred = job->status;
}

void vgpu_execute_drain(struct vgpu_executor *x)
{
    if (x->in_flight)
        (void)synchronize(x);
    if (!x->calls.ops || atomic_load_explicit(&x->sticky, memory_order_relaxed))
        return;
    CUresult status = vgpu_calls_drain(&x->calls);
    if (is_sticky(status))
        set_sticky(x, status);
    else if (status != CUDA_SUCCESS && x->deferred == CUDA_SUCCESS)
        x->deferred = status;
}
