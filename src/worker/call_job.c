/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUDA driver calls as jobs; see call_job.h. */
#include "worker/call_job.h"

#include "common/names.h"
#include "common/wire.h"

static uint64_t slot_of(const struct vgpu_call *call, unsigned i)
{
    return vgpu_load_le64(call->slots + 8 * (size_t)i);
}

/* P31. True: *staged is what the call's stage held, if it names one. */
static bool take_stage(struct vgpu_dispatcher *d, const struct vgpu_call *call,
                       struct vgpu_blob *staged, struct vgpu_answer *answer)
{
    uint64_t stage =
        call->info->stage_slot >= 0 ? slot_of(call, (unsigned char)call->info->stage_slot) : 0;
    const char *why = NULL;
    if (!stage)
        return true;
    if (stage > UINT32_MAX) {
        vgpu_answer_fail(answer, true, CUDA_ERROR_INVALID_VALUE,
                         "%s: stage is outside its type's range", call->info->name);
        return false;
    }
    /* The stage stays: the call was not carried. */
    if (d->staged_bytes >= VGPU_DISPATCH_STAGED_BYTES) {
        vgpu_answer_reject(answer, VGPU_ERR_QUEUE_FULL,
                           "%s: %llu staged bytes wait in calls already", call->info->name,
                           (unsigned long long)d->staged_bytes);
        return false;
    }
    CUresult status = vgpu_stage_take(&d->session.stages, (uint32_t)stage, staged, &why);
    if (status == CUDA_SUCCESS)
        return true;
    vgpu_answer_fail(answer, true, status, "%s: %s", call->info->name, why);
    return false;
}

struct vgpu_job *vgpu_call_job_make(struct vgpu_dispatcher *d, const struct vgpu_call *call,
                                    struct vgpu_answer *answer)
{
    const struct vgpu_call_info *info = call->info;
    struct vgpu_blob staged = {0};
    if (!take_stage(d, call, &staged, answer))
        return NULL;
    struct vgpu_job *job = vgpu_dispatch_new_job(d, VGPU_JOB_CALL);
    if (!job) {
        vgpu_blob_free(&staged);
        vgpu_answer_fail(answer, true, CUDA_ERROR_OUT_OF_MEMORY, "%s: the host has no memory",
                         info->name);
        return NULL;
    }
    job->named = true;
    job->async = call->async;
    job->early = info->posted; /* P30 */
    job->info = info;
    job->context = call->context;
    job->blob = staged;
    job->staged_bytes = staged.size;
    d->staged_bytes += staged.size;
    /* The decoder saw to it that slots and the rest are inside a request of at most one mailbox;
     * the buffer is larger by a NUL. */
    uint64_t *slots = (uint64_t *)(void *)job->data;
    for (unsigned i = 0; i < info->in_count; i++)
        slots[i] = slot_of(call, i);
    size_t head = (size_t)info->in_count * 8;
    size_t rest = call->data_length;
    if (rest > VGPU_MAILBOX_BYTES - head)
        rest = VGPU_MAILBOX_BYTES - head;
    memcpy(job->data + head, call->data, rest);
    job->data[head + rest] = 0;
    job->data_length = (uint32_t)(head + rest);
    return job;
}

void vgpu_call_job_answer(const struct vgpu_job *job, struct vgpu_answer *answer)
{
    const struct vgpu_call_info *info = job->info;
    const uint64_t *out = (const uint64_t *)(const void *)job->answer;
    size_t slots = (size_t)info->out_count * 8;
    for (unsigned i = 0; i < info->out_count; i++)
        vgpu_store_le64(answer->data + 8 * (size_t)i, out[i]);
    memcpy(answer->data + slots, job->answer + slots, job->answer_length - slots);
    answer->data_length = job->answer_length;
    if (job->made_kind != VGPU_KIND_NONE)
        answer->undo =
            (struct vgpu_undo){VGPU_UNDO_NAME, job->made_name, job->made_kind, job->made_serial};
    else if (info->undo)
        answer->undo = (struct vgpu_undo){VGPU_UNDO_CALL, out[0], info->undo, job->context};
}

void vgpu_call_job_answer_failure(const struct vgpu_job *job, struct vgpu_answer *answer)
{
    if (job->answer_length)
        vgpu_answer_fail(answer, true, job->status, "%s: %.*s", job->info->name,
                         (int)job->answer_length, (const char *)job->answer);
    else
        vgpu_answer_fail(answer, true, job->status, "%s: %s", job->info->name,
                         vgpu_curesult_text((uint32_t)job->status));
}

struct vgpu_job *vgpu_call_job_undo(struct vgpu_dispatcher *d, const struct vgpu_undo *undo)
{
    bool call = undo->kind == VGPU_UNDO_CALL;
    struct vgpu_job *job = vgpu_dispatch_new_job(d, call ? VGPU_JOB_CALL : VGPU_JOB_CALL_UNDO);
    if (!job)
        return NULL;
    if (call) {
        job->info = vgpu_call_info(undo->what);
        job->context = undo->other;
        memcpy(job->data, &undo->value, 8);
        job->data_length = 8;
    } else {
        job->made_kind = (enum vgpu_kind)undo->what;
        job->made_name = undo->value;
        job->made_serial = undo->other;
    }
    return job;
}
