/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From requests to jobs; see dispatch.h. What becomes of finished jobs is in finish.c. */
#include "worker/dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire.h"
#include "worker/call_job.h"
#include "worker/check.h"
#include "worker/decode.h"
#include "worker/finish.h"
#include "worker/reader.h"

void vgpu_dispatch_init(struct vgpu_dispatcher *d, struct vgpu_engine *engine,
                        const struct vgpu_device_info *info, uint64_t session_id)
{
    pthread_mutex_init(&d->lock, NULL);
    d->engine = engine;
    d->info = *info;
    vgpu_session_init(&d->session, session_id);
    TAILQ_INIT(&d->room);
    d->staged_images = 0;
    d->staged_bytes = 0;
    TAILQ_INIT(&d->spare);
    d->spare_count = 0;
}

void vgpu_dispatch_destroy(struct vgpu_dispatcher *d)
{
    struct vgpu_job *job;
    while ((job = TAILQ_FIRST(&d->spare))) {
        TAILQ_REMOVE(&d->spare, job, link);
        vgpu_job_free(job);
    }
    vgpu_session_destroy(&d->session);
    pthread_mutex_destroy(&d->lock);
}

struct vgpu_job *vgpu_dispatch_new_job(struct vgpu_dispatcher *d, enum vgpu_job_kind kind)
{
    struct vgpu_job *job = TAILQ_FIRST(&d->spare);
    if (job) {
        TAILQ_REMOVE(&d->spare, job, link);
        d->spare_count--;
    } else {
        job = malloc(sizeof(*job));
    }
    if (job)
        vgpu_job_init(job, kind);
    return job;
}

#define STAGE_PIECE (256u << 10) /* copied under the lock at a time */

/* One request on its way through submit. */
struct submission {
    struct vgpu_dispatcher *d;
    const struct vgpu_call *call; /* the one below */
    struct vgpu_call decoded;
    struct vgpu_answer *answer;
    struct vgpu_job *job; /* made for it; NULL: none (yet) */
    bool here;            /* from a channel: nothing of its waits behind others of its */
};

static void fail(struct submission *s, CUresult status, const char *why)
{
    vgpu_answer_fail(s->answer, s->call->named, status, "%s: %s", vgpu_opcode_name(s->call->opcode),
                     why);
}

/* A job of this kind, with its input from the data part. NULL: the answer says why. */
static struct vgpu_job *make_job(struct submission *s, enum vgpu_job_kind kind)
{
    struct vgpu_job *job = vgpu_dispatch_new_job(s->d, kind);
    if (!job) {
        fail(s, CUDA_ERROR_OUT_OF_MEMORY, "the host has no memory");
        return NULL;
    }
    job->named = s->call->named;
    job->async = job->early = s->call->async;
    /* The decoder bounded the data part by the request, the request is at most one mailbox; the
     * buffer is larger by a NUL. */
    uint32_t length = s->call->data_length;
    if (length > VGPU_MAILBOX_BYTES)
        length = VGPU_MAILBOX_BYTES;
    memcpy(job->data, s->call->data, length);
    job->data[length] = 0;
    job->data_length = length;
    s->job = job;
    return job;
}

static void submit_info(struct submission *s)
{
    const struct vgpu_device_info *info = &s->d->info;
    struct vgpu_device_info_wire w;
    memset(&w, 0, sizeof(w));
    snprintf(w.name, sizeof(w.name), "%s", info->name);
    memcpy(w.uuid, info->uuid, sizeof(w.uuid));
    snprintf(w.backend, sizeof(w.backend), "%s", vgpu_engine_backend_name(s->d->engine));
    w.total_memory_bytes = htole64(info->total_memory_bytes);
    w.free_memory_bytes = htole64(vgpu_engine_free_bytes(s->d->engine));
    w.compute_major = htole32(info->compute_major);
    w.compute_minor = htole32(info->compute_minor);
    w.multiprocessors = htole32(info->multiprocessors);
    w.warp_size = htole32(info->warp_size);
    w.max_threads_per_block = htole32(info->max_threads_per_block);
    for (int i = 0; i < 3; i++) {
        w.max_block_dim[i] = htole32(info->max_block_dim[i]);
        w.max_grid_dim[i] = htole32(info->max_grid_dim[i]);
    }
    w.max_shared_per_block_bytes = htole32(info->max_shared_per_block_bytes);
    w.max_registers_per_block = htole32(info->max_registers_per_block);
    w.clock_khz = htole32(info->clock_khz);
    memcpy(s->answer->data, &w, sizeof(w));
    s->answer->data_length = sizeof(w);
}

/* P19: everything that can be known now is reported now. */
static void submit_kernel(struct submission *s)
{
    const uint32_t *p = s->call->params;
    const char *why = NULL;
    /* P26: understood, so the stage is used up whatever comes next. */
    struct vgpu_blob staged = {0};
    if (p[VGPU_KERNEL_ARGS_STAGE]) {
        CUresult status =
            vgpu_stage_take(&s->d->session.stages, p[VGPU_KERNEL_ARGS_STAGE], &staged, &why);
        if (status != CUDA_SUCCESS) {
            fail(s, status, why);
            return;
        }
    }
    const struct vgpu_function *f =
        vgpu_session_function(&s->d->session, vgpu_words_get_u64(&p[VGPU_KERNEL_FUNCTION_LO]));
    if (!f) {
        fail(s, CUDA_ERROR_INVALID_HANDLE, "there is no such function");
        goto out;
    }
    size_t bytes = staged.bytes ? staged.size : s->call->data_length;
    char text[160];
    CUresult status =
        vgpu_check_launch(&s->d->info, &f->limits, &p[VGPU_KERNEL_GRID_X], &p[VGPU_KERNEL_BLOCK_X],
                          p[VGPU_KERNEL_SHARED_BYTES], bytes, text, sizeof(text));
    if (status != CUDA_SUCCESS) {
        fail(s, status, text);
        goto out;
    }
    struct vgpu_job *job = make_job(s, VGPU_JOB_LAUNCH);
    if (!job)
        goto out;
    job->early = true;
    job->blob = staged;
    staged = (struct vgpu_blob){0};
    job->launch = (struct vgpu_launch){
        .kernel = f->kernel,
        .shared_bytes = p[VGPU_KERNEL_SHARED_BYTES],
        .params = job->blob.bytes ? job->blob.bytes : job->data,
        .params_bytes = bytes,
    };
    memcpy(job->launch.grid, &p[VGPU_KERNEL_GRID_X], sizeof(job->launch.grid));
    memcpy(job->launch.block, &p[VGPU_KERNEL_BLOCK_X], sizeof(job->launch.block));
out:
    vgpu_blob_free(&staged);
}

static void submit_alloc(struct submission *s)
{
    uint64_t size = vgpu_words_get_u64(&s->call->params[VGPU_ALLOC_SIZE_LO]);
    if (!size) {
        fail(s, CUDA_ERROR_INVALID_VALUE, "0 bytes, ask for at least 1");
        return;
    }
    struct vgpu_job *job = make_job(s, VGPU_JOB_ALLOC);
    if (job)
        job->size = size;
}

static void submit_free(struct submission *s)
{
    struct vgpu_job *job = make_job(s, VGPU_JOB_FREE);
    if (job)
        job->address = vgpu_words_get_u64(&s->call->params[VGPU_FREE_ADDRESS_LO]);
}

static void submit_copy(struct submission *s)
{
    const uint32_t *p = s->call->params;
    uint32_t direction = p[VGPU_COPY_DIRECTION];
    uint64_t dst = vgpu_words_get_u64(&p[VGPU_COPY_DST_LO]);
    uint64_t src = vgpu_words_get_u64(&p[VGPU_COPY_SRC_LO]);
    uint64_t size = vgpu_words_get_u64(&p[VGPU_COPY_SIZE_LO]);
    static const enum vgpu_job_kind kinds[] = {
        [VGPU_COPY_HTOD] = VGPU_JOB_HTOD,
        [VGPU_COPY_DTOH] = VGPU_JOB_DTOH,
        [VGPU_COPY_DTOD] = VGPU_JOB_DTOD,
    };
    if (direction < VGPU_COPY_HTOD || direction > VGPU_COPY_DTOD) {
        fail(s, CUDA_ERROR_INVALID_VALUE,
             "the direction is 1 (to the device), 2 (to the host) or 3 (on the device)");
        return;
    }
    if (!size) {
        fail(s, CUDA_ERROR_INVALID_VALUE, "0 bytes, ask for at least 1");
        return;
    }
    if ((direction == VGPU_COPY_HTOD && src) || (direction == VGPU_COPY_DTOH && dst)) {
        fail(s, CUDA_ERROR_INVALID_VALUE, "the host's side of a copy has no address: must be 0");
        return;
    }
    struct vgpu_job *job = make_job(s, kinds[direction]);
    if (!job)
        return;
    job->address = dst;
    job->source = src;
    job->size = size;
}

static void submit_module_load(struct submission *s)
{
    struct vgpu_blob staged = {0};
    const char *why = NULL;
    if (s->call->stage) {
        if (s->d->staged_images >= VGPU_DISPATCH_STAGED_IMAGES) {
            vgpu_answer_reject(s->answer, VGPU_ERR_QUEUE_FULL,
                               "MODULE_LOAD: %u staged images wait to be loaded already",
                               s->d->staged_images);
            return;
        }
        CUresult status = vgpu_stage_take(&s->d->session.stages, s->call->stage, &staged, &why);
        if (status != CUDA_SUCCESS) {
            fail(s, status, why);
            return;
        }
    }
    struct vgpu_job *job = make_job(s, VGPU_JOB_MODULE_LOAD);
    if (!job) {
        vgpu_blob_free(&staged);
        return;
    }
    job->blob = staged;
    job->staged = staged.bytes != NULL;
    s->d->staged_images += job->staged;
}

/* MODULE_UNLOAD, MODULE_KERNEL, MODULE_GLOBAL. */
static void submit_module(struct submission *s, enum vgpu_job_kind kind)
{
    const struct vgpu_module *m = vgpu_session_module(&s->d->session, s->call->module);
    if (!m) {
        fail(s, CUDA_ERROR_INVALID_HANDLE, "there is no such module");
        return;
    }
    struct vgpu_job *job = make_job(s, kind);
    if (!job)
        return;
    job->module = m->backend;
    job->module_handle = s->call->module;
    job->first_param = s->call->first_param;
    /* The handles go now, the module once the jobs before are done: what is asked after this
     * request must not find it. */
    if (kind == VGPU_JOB_MODULE_UNLOAD)
        (void)vgpu_session_remove_module(&s->d->session, s->call->module);
}

static void submit_stage_write(struct submission *s)
{
    const char *why = NULL;
    CUresult status = vgpu_stage_write(&s->d->session.stages, s->call->stage, s->call->total_bytes,
                                       s->call->offset, s->call->data, s->call->data_length, &why);
    if (status != CUDA_SUCCESS)
        fail(s, status, why);
}

static void submit_stage_drop(struct submission *s)
{
    const char *why = NULL;
    CUresult status = vgpu_stage_drop(&s->d->session.stages, s->call->stage, &why);
    if (status != CUDA_SUCCESS)
        fail(s, status, why);
}

static bool needs_engine(uint32_t opcode)
{
    return opcode != VGPU_OP_NOP && opcode != VGPU_OP_GET_DEVICE_INFO &&
           opcode != VGPU_OP_STAGE_WRITE && opcode != VGPU_OP_STAGE_DROP;
}

/* Fills the answer, or s->job. The call has the right shape (P1 to P5). */
static void submit_call(struct submission *s)
{
    uint32_t opcode = s->call->opcode;
    if (s->call->info && !vgpu_engine_has_driver(s->d->engine)) {
        vgpu_answer_reject(s->answer, VGPU_ERR_UNSUPPORTED,
                           "%s: this backend has no CUDA driver calls", s->call->info->name);
        return;
    }
    if (opcode == VGPU_OP_SESSION_OPEN || opcode == VGPU_OP_SESSION_CLOSE) {
        vgpu_answer_reject(s->answer, VGPU_ERR_UNSUPPORTED,
                           "%s: sessions begin and end with their worker, not in it",
                           vgpu_opcode_name(opcode));
        return;
    }
    if (s->call->session != s->d->session.id) {
        fail(s, CUDA_ERROR_INVALID_CONTEXT, "the session is not open here");
        return;
    }
    CUresult sticky = vgpu_engine_sticky(s->d->engine);
    if (sticky != CUDA_SUCCESS) {
        vgpu_answer_sticky(s->answer, s->call->named, sticky);
        return;
    }
    if (!s->here && needs_engine(opcode) && vgpu_engine_full(s->d->engine)) {
        vgpu_answer_reject(s->answer, VGPU_ERR_QUEUE_FULL,
                           "%s: %u requests of this session wait already, no more may",
                           vgpu_opcode_name(opcode), vgpu_engine_queue(s->d->engine));
        return;
    }
    if (s->call->info) {
        s->job = vgpu_call_job_make(s->d, s->call, s->answer);
        return;
    }
    switch (opcode) {
    case VGPU_OP_NOP:
        return;
    case VGPU_OP_GET_DEVICE_INFO:
        submit_info(s);
        return;
    case VGPU_OP_CUDA_KERNEL:
        submit_kernel(s);
        return;
    case VGPU_OP_MEMORY_ALLOC:
        submit_alloc(s);
        return;
    case VGPU_OP_MEMORY_FREE:
        submit_free(s);
        return;
    case VGPU_OP_MEMORY_COPY:
        submit_copy(s);
        return;
    case VGPU_OP_SYNCHRONIZE:
        (void)make_job(s, VGPU_JOB_SYNCHRONIZE);
        return;
    case VGPU_OP_STAGE_WRITE:
        submit_stage_write(s);
        return;
    case VGPU_OP_STAGE_DROP:
        submit_stage_drop(s);
        return;
    case VGPU_OP_MODULE_LOAD:
        submit_module_load(s);
        return;
    case VGPU_OP_MODULE_UNLOAD:
        submit_module(s, VGPU_JOB_MODULE_UNLOAD);
        return;
    case VGPU_OP_MODULE_KERNEL:
        submit_module(s, VGPU_JOB_MODULE_KERNEL);
        return;
    case VGPU_OP_MODULE_GLOBAL:
        submit_module(s, VGPU_JOB_MODULE_GLOBAL);
        return;
    default: /* the decoder knows an opcode that is not handled here: a part that is missing */
        vgpu_answer_reject(s->answer, VGPU_ERR_UNSUPPORTED, "opcode 0x%x is not known here",
                           opcode);
    }
}

/* All but what the decoder fills. */
static void begin(struct submission *s, struct vgpu_dispatcher *d, struct vgpu_answer *answer,
                  bool here)
{
    s->d = d;
    s->call = NULL;
    s->answer = answer;
    s->job = NULL;
    s->here = here;
    vgpu_answer_init(answer);
}

/* Under the lock. */
static struct vgpu_job *submit(struct submission *s, const uint8_t *bytes, size_t length,
                               struct vgpu_sink *sink, void *tag)
{
    struct vgpu_dispatcher *d = s->d;
    s->call = &s->decoded;
    if (vgpu_request_decode(bytes, length, &s->decoded, s->answer))
        return NULL;
    submit_call(s);
    struct vgpu_job *job = s->job;
    if (!job)
        return NULL;
    job->sink = sink;
    job->request = sink->request;
    job->tag = tag;
    job->here = s->here;
    vgpu_engine_push(d->engine, job);
    if (!job->early || s->here)
        return job;
    /* In order: nobody is admitted past one who waits. */
    if (TAILQ_EMPTY(&d->room) && vgpu_engine_admit(d->engine, job)) {
        job->sink = NULL;
        vgpu_answer_early(s->answer, job);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&d->room, job, room);
    job->waits_for_room = true;
    return job;
}

struct vgpu_job *vgpu_dispatch_submit(struct vgpu_dispatcher *d, const uint8_t *bytes,
                                      size_t length, struct vgpu_sink *sink, void *tag,
                                      struct vgpu_answer *answer)
{
    struct submission s;
    begin(&s, d, answer, false);
    pthread_mutex_lock(&d->lock);
    struct vgpu_job *job = submit(&s, bytes, length, sink, tag);
    pthread_mutex_unlock(&d->lock);
    return job;
}

struct vgpu_job *vgpu_dispatch_submit_here(struct vgpu_dispatcher *d, const uint8_t *bytes,
                                           size_t length, struct vgpu_sink *sink, void *tag,
                                           struct vgpu_answer *answer)
{
    struct submission s;
    begin(&s, d, answer, true);
    pthread_mutex_lock(&d->lock);
    struct vgpu_job *job = submit(&s, bytes, length, sink, tag);
    pthread_mutex_unlock(&d->lock);
    return job;
}

CUresult vgpu_dispatch_write_stage(struct vgpu_dispatcher *d, uint32_t stage, uint32_t total_bytes,
                                   uint32_t offset, const uint8_t *bytes, uint32_t length,
                                   const char **why)
{
    CUresult status = CUDA_SUCCESS;
    if (!vgpu_range_inside(offset, length, total_bytes)) {
        *why = "the piece goes past the total of its stage";
        return CUDA_ERROR_INVALID_VALUE;
    }
    /* In pieces: the control thread answers recalls and must not wait for 64 MiB to be copied. */
    for (uint32_t done = 0, piece; done < length && status == CUDA_SUCCESS; done += piece) {
        piece = length - done < STAGE_PIECE ? length - done : STAGE_PIECE;
        pthread_mutex_lock(&d->lock);
        status = vgpu_stage_write(&d->session.stages, stage, total_bytes, offset + done,
                                  bytes + done, piece, why);
        pthread_mutex_unlock(&d->lock);
    }
    return status;
}

CUresult vgpu_dispatch_take_stage(struct vgpu_dispatcher *d, uint32_t stage, struct vgpu_blob *out,
                                  const char **why)
{
    pthread_mutex_lock(&d->lock);
    CUresult status = vgpu_stage_take(&d->session.stages, stage, out, why);
    pthread_mutex_unlock(&d->lock);
    return status;
}
