/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From finished jobs to answers, and back from answers that nobody wants to the state before: the
 * other half of the dispatcher (dispatch.h).
 */
#include "worker/finish.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/names.h"
#include "worker/call_job.h"
#include "worker/dispatch.h"
#include "worker/reader.h"

void vgpu_answer_sticky(struct vgpu_answer *a, bool named, CUresult sticky)
{
    vgpu_answer_fail(a, named, sticky,
                     "%s: the session is lost to this error; close it and open another",
                     vgpu_curesult_text((uint32_t)sticky));
}

void vgpu_answer_early(struct vgpu_answer *a, const struct vgpu_job *job)
{
    vgpu_answer_init(a);
    a->bare = job->async;
}

/* Has the engine take something back; the job is the dispatcher's own, nobody waits for it. */
static void push_undo(struct vgpu_dispatcher *d, struct vgpu_job *job)
{
    if (job)
        vgpu_engine_push(d->engine, job);
    else
        vgpu_log(VGPU_LOG_WARN, "undo-lost", "reason=\"no memory\"");
}

static void unload(struct vgpu_dispatcher *d, struct vgpu_backend_module *module)
{
    struct vgpu_job *job = vgpu_dispatch_new_job(d, VGPU_JOB_MODULE_UNLOAD);
    if (job)
        job->module = module;
    push_undo(d, job);
}

/* Under the lock, like everything above and below that does not take it. */
static void take_back(struct vgpu_dispatcher *d, const struct vgpu_undo *undo)
{
    struct vgpu_job *job;
    switch (undo->kind) {
    case VGPU_UNDO_NOTHING:
        return;
    case VGPU_UNDO_ALLOC:
        job = vgpu_dispatch_new_job(d, VGPU_JOB_FREE);
        if (job)
            job->address = undo->value;
        push_undo(d, job);
        return;
    case VGPU_UNDO_MODULE: {
        struct vgpu_backend_module *module = vgpu_session_remove_module(&d->session, undo->value);
        if (module)
            unload(d, module);
        return;
    }
    case VGPU_UNDO_DEFERRED:
        job = vgpu_dispatch_new_job(d, VGPU_JOB_RESTORE_ERROR);
        if (job)
            job->deferred_reported = (CUresult)undo->value;
        push_undo(d, job);
        return;
    case VGPU_UNDO_NAME:
    case VGPU_UNDO_CALL:
        push_undo(d, vgpu_call_job_undo(d, undo));
        return;
    }
}

void vgpu_dispatch_undo(struct vgpu_dispatcher *d, const struct vgpu_undo *undo)
{
    pthread_mutex_lock(&d->lock);
    take_back(d, undo);
    pthread_mutex_unlock(&d->lock);
}

/* The sentence that goes with a failure; empty: the CUresult's own words will do. */
static void answer_failure(struct vgpu_dispatcher *d, const struct vgpu_job *job,
                           struct vgpu_answer *a)
{
    if (job->deferred_reported != CUDA_SUCCESS) {
        vgpu_answer_fail(a, job->named, job->status, "an earlier request failed: %s",
                         vgpu_curesult_text((uint32_t)job->status));
        a->undo = (struct vgpu_undo){.kind = VGPU_UNDO_DEFERRED, .value = (uint64_t)job->status};
        return;
    }
    if (vgpu_engine_sticky(d->engine) == job->status) {
        vgpu_answer_sticky(a, job->named, job->status);
        return;
    }
    const char *text = vgpu_curesult_text((uint32_t)job->status);
    bool refused = job->status == CUDA_ERROR_INVALID_VALUE;
    switch (job->kind) {
    case VGPU_JOB_ALLOC:
        vgpu_answer_fail(a, job->named, job->status,
                         "MEMORY_ALLOC of %llu bytes: %s; %llu are free",
                         (unsigned long long)job->size, text,
                         (unsigned long long)vgpu_engine_free_bytes(d->engine));
        return;
    case VGPU_JOB_FREE:
        vgpu_answer_fail(a, job->named, job->status, "MEMORY_FREE of 0x%llx: %s",
                         (unsigned long long)job->address,
                         refused ? "not the address of an allocation" : text);
        return;
    case VGPU_JOB_HTOD:
    case VGPU_JOB_DTOH:
    case VGPU_JOB_DTOD:
        vgpu_answer_fail(
            a, job->named, job->status, "MEMORY_COPY of %llu bytes from 0x%llx to 0x%llx: %s",
            (unsigned long long)job->size, (unsigned long long)job->source,
            (unsigned long long)job->address, refused ? "not inside one allocation" : text);
        return;
    case VGPU_JOB_CALL:
        vgpu_call_job_answer_failure(job, a);
        return;
    default:
        vgpu_answer_fail(a, job->named, job->status, "%.*s", (int)job->data_length,
                         (const char *)job->data);
        return;
    }
}

static void finish_module_load(struct vgpu_dispatcher *d, const struct vgpu_job *job,
                               struct vgpu_answer *a)
{
    uint64_t handle = vgpu_session_add_module(&d->session, job->module);
    if (!handle) {
        unload(d, job->module);
        vgpu_answer_fail(a, job->named, CUDA_ERROR_OUT_OF_MEMORY,
                         "MODULE_LOAD: a session has at most %u modules", VGPU_SESSION_MODULES);
        return;
    }
    vgpu_words_put_u64(&a->results[VGPU_MODULE_LOAD_RESULT_MODULE_LO], handle);
    a->result_count = VGPU_MODULE_LOAD_RESULT_COUNT;
    a->undo = (struct vgpu_undo){.kind = VGPU_UNDO_MODULE, .value = handle};
}

static void finish_module_kernel(struct vgpu_dispatcher *d, const struct vgpu_job *job,
                                 struct vgpu_answer *a)
{
    /* The module may have been unloaded while the job waited for its turn to be answered. */
    struct vgpu_module *m = vgpu_session_module(&d->session, job->module_handle);
    if (!m) {
        vgpu_answer_fail(a, job->named, CUDA_ERROR_INVALID_HANDLE,
                         "MODULE_KERNEL: the module was unloaded meanwhile");
        return;
    }
    const struct vgpu_function *f =
        vgpu_session_add_function(&d->session, m, job->kernel, &job->limits);
    if (!f) {
        vgpu_answer_fail(a, job->named, CUDA_ERROR_OUT_OF_MEMORY,
                         "MODULE_KERNEL: a session has at most %u functions",
                         VGPU_SESSION_FUNCTIONS);
        return;
    }
    vgpu_words_put_u64(&a->results[VGPU_MODULE_KERNEL_RESULT_FUNCTION_LO], f->handle);
    a->results[VGPU_MODULE_KERNEL_RESULT_PARAM_COUNT] = job->limits.param_count;
    a->results[VGPU_MODULE_KERNEL_RESULT_PARAM_BYTES] = job->limits.param_bytes;
    a->results[VGPU_MODULE_KERNEL_RESULT_MAX_THREADS] = job->limits.max_threads_per_block;
    a->results[VGPU_MODULE_KERNEL_RESULT_SHARED_BYTES] = job->limits.static_shared_bytes;
    a->results[VGPU_MODULE_KERNEL_RESULT_LOCAL_BYTES] = job->limits.local_bytes;
    a->result_count = VGPU_MODULE_KERNEL_RESULT_COUNT;
    memcpy(a->data, job->data, job->data_length);
    a->data_length = job->data_length;
}

static void answer_success(struct vgpu_dispatcher *d, const struct vgpu_job *job,
                           struct vgpu_answer *a)
{
    switch (job->kind) {
    case VGPU_JOB_ALLOC:
        vgpu_words_put_u64(&a->results[VGPU_ALLOC_RESULT_ADDRESS_LO], job->address);
        a->result_count = VGPU_ALLOC_RESULT_COUNT;
        a->undo = (struct vgpu_undo){.kind = VGPU_UNDO_ALLOC, .value = job->address};
        return;
    case VGPU_JOB_DTOH:
        memcpy(a->data, job->data, job->data_length);
        a->data_length = job->data_length;
        return;
    case VGPU_JOB_MODULE_LOAD:
        finish_module_load(d, job, a);
        return;
    case VGPU_JOB_MODULE_KERNEL:
        finish_module_kernel(d, job, a);
        return;
    case VGPU_JOB_MODULE_GLOBAL:
        vgpu_words_put_u64(&a->results[VGPU_MODULE_GLOBAL_RESULT_ADDRESS_LO], job->address);
        vgpu_words_put_u64(&a->results[VGPU_MODULE_GLOBAL_RESULT_SIZE_LO], job->size);
        a->result_count = VGPU_MODULE_GLOBAL_RESULT_COUNT;
        return;
    case VGPU_JOB_CALL:
        vgpu_call_job_answer(job, a);
        return;
    default:
        return;
    }
}

/* A job has come back from the engine. */
static void finish(struct vgpu_dispatcher *d, struct vgpu_job *job)
{
    struct vgpu_answer a;
    vgpu_answer_init(&a);
    if (!job->sink && !job->dropped)
        return; /* answered before it ran, or an undo of our own */
    if (job->early)
        vgpu_answer_early(&a, job); /* it failed or not: that was deferred */
    else if (job->status == CUDA_SUCCESS)
        answer_success(d, job, &a);
    else
        answer_failure(d, job, &a);
    if (job->dropped)
        take_back(d, &a.undo);
    else
        job->sink->answer(job->sink, job->tag, &a);
}

/* The job is the dispatcher's again, and done with. */
static void release_job(struct vgpu_dispatcher *d, struct vgpu_job *job)
{
    d->staged_images -= job->staged;
    d->staged_bytes -= job->staged_bytes;
    vgpu_blob_free(&job->blob);
    if (d->spare_count >= VGPU_DISPATCH_SPARE_JOBS) {
        vgpu_job_free(job);
        return;
    }
    TAILQ_INSERT_HEAD(&d->spare, job, link);
    d->spare_count++;
}

static void leave_room(struct vgpu_dispatcher *d, struct vgpu_job *job)
{
    TAILQ_REMOVE(&d->room, job, room);
    job->waits_for_room = false;
}

void vgpu_dispatch_collect(struct vgpu_dispatcher *d)
{
    vgpu_engine_clear(d->engine);
    struct vgpu_job *job;
    pthread_mutex_lock(&d->lock);
    while ((job = TAILQ_FIRST(&d->room)) && vgpu_engine_admit(d->engine, job)) {
        leave_room(d, job);
        struct vgpu_sink *sink = job->sink;
        struct vgpu_answer a;
        vgpu_answer_early(&a, job);
        job->sink = NULL;
        sink->answer(sink, job->tag, &a);
    }
    struct vgpu_job_list done = TAILQ_HEAD_INITIALIZER(done);
    vgpu_engine_collect(d->engine, &done);
    while ((job = TAILQ_FIRST(&done))) {
        TAILQ_REMOVE(&done, job, link);
        if (job->waits_for_room)
            leave_room(d, job);
        finish(d, job);
        release_job(d, job);
    }
    pthread_mutex_unlock(&d->lock);
}

void vgpu_dispatch_finish(struct vgpu_dispatcher *d, struct vgpu_job *job)
{
    pthread_mutex_lock(&d->lock);
    finish(d, job);
    release_job(d, job);
    pthread_mutex_unlock(&d->lock);
}

void vgpu_dispatch_drop(struct vgpu_dispatcher *d, struct vgpu_job *job)
{
    pthread_mutex_lock(&d->lock);
    job->sink = NULL;
    job->dropped = true;
    if (job->waits_for_room)
        leave_room(d, job);
    /* An unload has taken the handle away already, and there is no way back: it goes on. */
    if (job->kind != VGPU_JOB_MODULE_UNLOAD && vgpu_engine_remove(d->engine, job))
        release_job(d, job);
    pthread_mutex_unlock(&d->lock);
}
