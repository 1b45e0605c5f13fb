/* SPDX-License-Identifier: MIT */
/*
 * One CUDA call as a request (docs/protocol.md, P28 to P32): slots, payload, stage, the answer
 * taken apart, and what an error of the library below means to a CUDA program. Knows nothing of
 * what the calls do.
 */
#include <errno.h>

#include "guest/cuda/internal.h"
#include "guest/guest.h"

/* Two headers' worth is gone: the request's own, the session's number, the context. */
#define ROOM_FOR_SLOTS                                                                             \
    (VGPU_MAILBOX_BYTES - (uint32_t)sizeof(struct vgpu_request_header) -                           \
     (uint32_t)sizeof(struct vgpu_session_prefix))

/*
 * What a failure below means. `ends` is for those after which nobody knows what the session still
 * has: it is over, and every call says so from then on.
 */
static const struct {
    int err;
    CUresult result;
    bool ends;
} results[] = {
    {-ENOMEM, CUDA_ERROR_OUT_OF_MEMORY, false},
    {-EOPNOTSUPP, CUDA_ERROR_NOT_SUPPORTED, false},
    {-EPROTO, CUDA_ERROR_UNKNOWN, false}, /* the host found our request malformed: no effect */
    {-EINVAL, CUDA_ERROR_INVALID_VALUE, false},
    {-E2BIG, CUDA_ERROR_INVALID_VALUE, false},
    {-EBADMSG, CUDA_ERROR_UNKNOWN, false}, /* we found the host's answer malformed */
    {-ENODEV, CUDA_ERROR_NO_DEVICE, true},
    {-ECHILD, CUDA_ERROR_NOT_INITIALIZED, false},
    {-EACCES, CUDA_ERROR_NOT_PERMITTED, true}, /* taken off the GPU */
    {-EPERM, CUDA_ERROR_NOT_PERMITTED, true},
    {-ESTALE, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
    {-ENOLINK, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
    {-ECONNRESET, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
    {-ECONNREFUSED, CUDA_ERROR_NO_DEVICE, true},
    {-ENOENT, CUDA_ERROR_NO_DEVICE, true},
    {-ETIMEDOUT, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
    {-EAGAIN, CUDA_ERROR_DEVICE_UNAVAILABLE, false},
    {-EIO, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
};

static void remember_sticky(CUresult result)
{
    uint32_t none = CUDA_SUCCESS;
    atomic_compare_exchange_strong(&vgpu_cuda.sticky, &none, (uint32_t)result);
}

CUresult vgpu_cuda_result_of(int err)
{
    if (err >= 0)
        return (CUresult)err;
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i].err != err)
            continue;
        if (results[i].ends)
            remember_sticky(results[i].result);
        return results[i].result;
    }
    return CUDA_ERROR_UNKNOWN;
}

/* What a session does not survive (P16). */
static bool is_sticky(CUresult result)
{
    switch ((unsigned)result) {
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTAINED:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
        return true;
    default:
        return false;
    }
}

uint32_t vgpu_cuda_room(uint32_t opcode)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    return info ? ROOM_FOR_SLOTS - 8u * (1u + info->in_count) : 0;
}

/* Keeps what the host said about a failure, for logs. */
static void keep_text(struct vgpu_thread *thread, const struct vgpu_answer *answer)
{
    uint32_t length = answer->data_length;
    if (length > VGPU_MAILBOX_BYTES)
        length = VGPU_MAILBOX_BYTES;
    if (length)
        memcpy(thread->text, answer->data, length);
    thread->text[length] = 0;
    thread->text_length = (uint32_t)strlen(thread->text);
}

/* The slots and bytes of an answer that says success. */
static CUresult take_answer(const struct vgpu_call_info *info, const struct vgpu_answer *answer,
                            uint64_t *out, void *fill, uint32_t capacity, uint32_t *fill_length)
{
    uint32_t slots = 8u * info->out_count;
    uint32_t most = info->fill_bytes < capacity ? info->fill_bytes : capacity;
    if (answer->data_length < slots || answer->data_length - slots > most) {
        vgpu_cuda_debug("%s: an answer of %u bytes, want %u and up to %u more", info->name,
                        answer->data_length, slots, most);
        return CUDA_ERROR_UNKNOWN;
    }
    if (slots)
        memcpy(out, answer->data, slots);
    if (fill_length)
        *fill_length = answer->data_length - slots;
    if (answer->data_length > slots)
        memcpy(fill, answer->data + slots, answer->data_length - slots);
    return CUDA_SUCCESS;
}

/* Asks until there is an answer, as CUDA waits. Only a device that gave the request up ends that.
 */
static int ask(struct vgpu_call *call, struct vgpu_response *response, struct vgpu_answer *answer)
{
    for (;;) {
        uint32_t asked_id = 0;
        response->error_code = 0;
        int err = vgpu_session_call(vgpu_cuda.session, call, 0, response, answer, &asked_id);
        bool again = err == -EAGAIN || (err == -ETIMEDOUT && asked_id != 0 &&
                                        response->error_code != VGPU_ERR_TIMEOUT);
        if (!again || atomic_load(&vgpu_cuda.ended))
            return err;
        call->request_id = asked_id;
    }
}

CUresult vgpu_cuda_send(const struct vgpu_call_info *info, uint64_t context, const uint64_t *in,
                        const void *payload, uint32_t length, uint64_t *out, void *fill,
                        uint32_t capacity, uint32_t *fill_length)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    uint64_t slots[1 + VGPU_CALL_SLOTS_MAX];
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    slots[0] = context;
    if (info->in_count)
        memcpy(slots + 1, in, 8u * info->in_count);
    struct vgpu_call call = {.what = info->name,
                             .opcode = info->opcode,
                             .flags = info->posted ? VGPU_FLAG_ASYNC : 0,
                             .prefix = slots,
                             .prefix_length = 8u * (1u + info->in_count),
                             .data = payload,
                             .data_length = length};
    bool staged = length > ROOM_FOR_SLOTS - call.prefix_length;
    uint32_t stage = 0;
    int err = 0;
    if (staged) {
        if (info->stage_slot < 0 || length > VGPU_STAGE_MAX_BYTES)
            return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&vgpu_cuda.session->stage_lock);
        err = vgpu_stage_fill(vgpu_cuda.session, info->name, payload, length, &stage);
        slots[1 + info->stage_slot] = stage;
        call.data = NULL;
        call.data_length = 0;
    }
    thread->text_length = 0;
    thread->text[0] = 0;
    bool asked = err == 0;
    if (asked)
        err = ask(&call, &response, &answer);
    if (asked && err > 0)
        keep_text(thread, &answer);
    if (staged) {
        if (asked && err < 0)
            err = vgpu_stage_drop_after(vgpu_cuda.session, stage, err);
        pthread_mutex_unlock(&vgpu_cuda.session->stage_lock);
    }
    if (err == 0)
        return take_answer(info, &answer, out, fill, capacity, fill_length);
    vgpu_cuda_debug("%s", vgpu_last_error_text());
    CUresult result = vgpu_cuda_result_of(err);
    if (is_sticky(result))
        remember_sticky(result);
    return result;
}
