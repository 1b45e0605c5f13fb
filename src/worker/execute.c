/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs on the backend; see execute.h. */
#include "worker/execute.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/names.h"
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
    char text[VGPU_REQUEST_TEXT];
    if (atomic_load_explicit(&x->sticky, memory_order_relaxed))
        return;
    x->lost_request = x->request;
    atomic_store_explicit(&x->sticky, (uint32_t)status, memory_order_release);
    vgpu_log(VGPU_LOG_WARN, "fault", "request=%s status=%d reason=\"%s\"",
             vgpu_request_text(x->request, text), (int)status,
             vgpu_curesult_text((uint32_t)status));
}

/*
 * Publishes what is free, and brings the account to what the session really holds: sizes are
 * rounded, modules have variables, and some of it is only known afterwards. False when the tenant
 * has no room for what was made; then that has to go again, and settle to be called again.
 */
static bool settle(struct vgpu_executor *x)
{
    uint64_t free_bytes, total_bytes;
    if (x->ops->mem_info(x->backend, &free_bytes, &total_bytes) == CUDA_SUCCESS)
        atomic_store_explicit(&x->free_bytes, free_bytes, memory_order_relaxed);
    uint64_t holds = x->ops->held_bytes(x->backend);
    uint64_t charged = vgpu_account_held_bytes(x->account);
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
    x->contexts = 0;
    x->deferred = CUDA_SUCCESS;
    x->request = x->deferred_request = x->lost_request = VGPU_REQUEST_NONE;
    x->in_flight = 0;
    x->inflight = (struct vgpu_inflight){0};
    atomic_init(&x->sticky, CUDA_SUCCESS);
    atomic_init(&x->free_bytes, 0);
    vgpu_tally_init(&x->tally, vgpu_account_usage(account));
    vgpu_calls_init(&x->calls, ops->driver ? ops->driver(backend) : NULL);
    settle(x);
}

void vgpu_executor_destroy(struct vgpu_executor *x)
{
    if (x->calls.ops)
        vgpu_inflight_forget(&x->inflight, &x->calls, NULL);
    vgpu_calls_destroy(&x->calls);
}

static CUresult synchronize(struct vgpu_executor *x)
{
    CUresult status = x->ops->synchronize(x->backend);
    x->in_flight = 0;
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

/* What a call is known to need before it runs. The rest is seen afterwards. */
static uint64_t asks_for(const struct vgpu_call_frame *frame)
{
    bool allocates = frame->info->opcode == VGPU_CALL_MEMORY_ALLOC ||
                     frame->info->opcode == VGPU_CALL_MEMORY_ALLOC_ASYNC;
    return allocates ? frame->in[0] : 0;
}

/* Takes back what a call made that succeeded. */
static void undo_call(struct vgpu_executor *x, uint64_t context,
                      const struct vgpu_call_frame *frame)
{
    if (frame->made_kind != VGPU_KIND_NONE) {
        vgpu_calls_undo(&x->calls, frame->made_kind, frame->made_name, frame->made_serial);
    } else if (frame->info->undo) {
        char text[VGPU_CALL_TEXT_MAX];
        struct vgpu_call_frame undo = {.info = vgpu_call_info(frame->info->undo),
                                       .in = frame->out,
                                       .payload = "",
                                       .text = text,
                                       .text_size = sizeof(text)};
        (void)vgpu_calls_run(&x->calls, context, &undo);
    }
}

static CUresult refuse_memory(const struct vgpu_executor *x, struct vgpu_call_frame *frame)
{
    snprintf(frame->text, frame->text_size,
             "the VM's sessions may hold %llu bytes together, of which %llu are free",
             (unsigned long long)vgpu_account_quota_bytes(x->account),
             (unsigned long long)vgpu_account_free_bytes(x->account));
    return CUDA_ERROR_OUT_OF_MEMORY;
}

/* A launch by the driver. A channel has seen to it that nothing is waited for here. */
static CUresult run_launch(struct vgpu_executor *x, uint64_t context, struct vgpu_call_frame *frame)
{
    CUresult status = vgpu_inflight_admit(&x->inflight, &x->calls, true);
    if (status == CUDA_SUCCESS)
        status = vgpu_calls_run(&x->calls, context, frame);
    if (status == CUDA_SUCCESS)
        vgpu_inflight_count(&x->inflight, &x->calls);
    return status;
}

/* A call under the tenant's quota. */
static CUresult run_charged(struct vgpu_executor *x, uint64_t context,
                            struct vgpu_call_frame *frame)
{
    if (frame->info->opcode == VGPU_CALL_LAUNCH)
        return run_launch(x, context, frame);
    uint64_t bytes = asks_for(frame);
    if (bytes && vgpu_account_reserve(x->account, bytes))
        return refuse_memory(x, frame);
    CUresult status = vgpu_calls_run(&x->calls, context, frame);
    if (moves_memory(frame->info) && !settle(x)) {
        if (status == CUDA_SUCCESS) {
            undo_call(x, context, frame);
            status = refuse_memory(x, frame);
        }
        settle(x);
    }
    if (status == CUDA_SUCCESS && frame->info->opcode == VGPU_CALL_CUMEMGETINFO_V2) {
        uint64_t tenant = vgpu_account_free_bytes(x->account);
        if (tenant < frame->out[0])
            frame->out[0] = tenant;
    }
    return status;
}

/* Contexts are no tenant's memory: they count against the card. */
static void count_contexts(struct vgpu_executor *x)
{
    uint32_t count = x->calls.table[VGPU_KIND_CONTEXT].count;
    if (count != x->contexts)
        vgpu_account_set_contexts(x->account, count);
    x->contexts = count;
}

/* What the failure of something means for what comes after it. `early`: nobody is told now. */
CUresult vgpu_execute_note(struct vgpu_executor *x, CUresult status, bool early)
{
    if (status == CUDA_SUCCESS)
        return status;
    if (is_sticky(status)) {
        set_sticky(x, status);
    } else if (early && x->deferred == CUDA_SUCCESS) {
        x->deferred = status;
        x->deferred_request = x->request;
    }
    return status;
}

/* What comes before a call of a channel: true when *status is its answer already. */
static bool answered_before(struct vgpu_executor *x, const struct vgpu_call_info *info,
                            CUresult *status, bool *earlier)
{
    *earlier = false;
    *status = (CUresult)atomic_load_explicit(&x->sticky, memory_order_relaxed);
    if (*status != CUDA_SUCCESS) {
        vgpu_tally_refused(&x->tally, (uint32_t)*status);
        return true;
    }
    if (!info->reports || x->deferred == CUDA_SUCCESS)
        return false;
    *earlier = true;
    *status = x->deferred;
    x->deferred = CUDA_SUCCESS;
    vgpu_tally_add(&x->tally.at->calls, 1); /* the error was counted with the call that made it */
    return true;
}

CUresult vgpu_execute_call(struct vgpu_executor *x, uint64_t context, struct vgpu_call_frame *frame,
                           bool *earlier)
{
    CUresult status;
    if (answered_before(x, frame->info, &status, earlier))
        return status;
    uint64_t begin_ns = vgpu_tally_begin(&x->tally);
    status = run_charged(x, context, frame);
    vgpu_tally_end(&x->tally, begin_ns);
    vgpu_tally_call(&x->tally, frame, status);
    count_contexts(x);
    return vgpu_execute_note(x, status, frame->info->posted);
}

CUresult vgpu_execute_begin(struct vgpu_executor *x, uint64_t context,
                            struct vgpu_call_frame *frame, struct vgpu_driver_fence **fence,
                            uint64_t *begin_ns, bool *earlier)
{
    CUresult status;
    *fence = NULL;
    *begin_ns = 0;
    if (answered_before(x, frame->info, &status, earlier))
        return status;
    *begin_ns = vgpu_tally_begin(&x->tally);
    status = vgpu_calls_begin(&x->calls, context, frame, fence);
    vgpu_tally_call(&x->tally, frame, status);
    return vgpu_execute_note(x, status, false);
}

static CUresult run_call(struct vgpu_executor *x, struct vgpu_job *job)
{
    const struct vgpu_call_info *info = job->info;
    if (info->reports && x->deferred != CUDA_SUCCESS) {
        vgpu_tally_add(&x->tally.at->calls, 1);
        return report_deferred(x, job);
    }
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
    CUresult status = run_charged(x, job->context, &frame);
    vgpu_tally_call(&x->tally, &frame, status);
    count_contexts(x);
    /* A stage can be 64 MiB: it goes now, not when somebody fetches the answer. */
    vgpu_blob_free(&job->blob);
    if (status == CUDA_SUCCESS) {
        job->answer_length = (uint32_t)out_bytes + frame.fill_length;
        job->made_kind = frame.made_kind;
        job->made_name = frame.made_name;
        job->made_serial = frame.made_serial;
    } else {
        job->answer_length = (uint32_t)strnlen(frame.text, frame.text_size);
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
        if (x->in_flight >= vgpu_inflight_window(&x->inflight)) {
            uint32_t launches = x->in_flight;
            if ((status = synchronize(x)) != CUDA_SUCCESS)
                return status;
            vgpu_inflight_learn(&x->inflight, launches, vgpu_clock_ns() - x->begin_ns, true);
        }
        if (!x->in_flight++)
            x->begin_ns = vgpu_clock_ns();
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
        count_contexts(x);
        status = CUDA_SUCCESS;
        break;
    }
    settle(x); /* of less than before: there is room */
    return status;
}

/* Of the opcodes that are not CUDA calls by themselves; run_call has counted those. */
static void count_job(struct vgpu_executor *x, const struct vgpu_job *job)
{
    struct vgpu_usage *u = x->tally.at;
    if (job->kind == VGPU_JOB_CALL || job->kind == VGPU_JOB_CALL_UNDO ||
        job->kind == VGPU_JOB_RESTORE_ERROR)
        return;
    vgpu_tally_add(&u->calls, 1);
    if (job->early)
        vgpu_tally_add(&u->posts, 1);
    if (job->status != CUDA_SUCCESS && job->deferred_reported == CUDA_SUCCESS)
        vgpu_tally_error(&x->tally, (uint32_t)job->status);
    if (job->status != CUDA_SUCCESS)
        return;
    if (job->kind == VGPU_JOB_LAUNCH)
        vgpu_tally_add(&u->launches, 1);
    else if (job->kind == VGPU_JOB_HTOD)
        vgpu_tally_add(&u->bytes_to_device, job->data_length);
    else if (job->kind == VGPU_JOB_DTOH)
        vgpu_tally_add(&u->bytes_from_device, job->size);
}

void vgpu_execute(struct vgpu_executor *x, struct vgpu_job *job)
{
    CUresult status = (CUresult)atomic_load_explicit(&x->sticky, memory_order_relaxed);
    if (status != CUDA_SUCCESS) {
        job->status = status; /* P16: nothing reaches a context that is lost */
        job->data_length = 0;
        vgpu_tally_refused(&x->tally, (uint32_t)status);
        return;
    }
    x->request = job->request;
    uint64_t begin_ns = vgpu_tally_begin(&x->tally);
    job->status = run(x, job);
    vgpu_tally_end(&x->tally, begin_ns);
    count_job(x, job);
    if (job->deferred_reported == CUDA_SUCCESS)
        vgpu_execute_note(x, job->status, job->early);
}

void vgpu_execute_drain(struct vgpu_executor *x)
{
    x->request = VGPU_REQUEST_NONE; /* whose error it was is not known */
    if (x->in_flight)
        (void)synchronize(x);
    if (!x->calls.ops)
        return;
    if (!atomic_load_explicit(&x->sticky, memory_order_relaxed))
        vgpu_execute_note(x, vgpu_calls_drain(&x->calls), true);
    vgpu_inflight_forget(&x->inflight, &x->calls, NULL);
}
