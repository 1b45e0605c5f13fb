/* SPDX-License-Identifier: MIT */
/*
 * One CUDA call as a request (docs/protocol.md, P28 to P32): slots, payload, stage, the answer
 * taken apart, and what an error of the library below means to a CUDA program. Knows nothing of
 * what the calls do.
 */
#include <errno.h>

#include "guest/carry.h"
#include "guest/channel.h"
#include "guest/cuda/internal.h"
#include "guest/guest.h"

/* Two headers' worth is gone: the request's own, the session's number, the context. */
#define ROOM_FOR_SLOTS                                                                             \
    (VGPU_MAILBOX_BYTES - (uint32_t)sizeof(struct vgpu_request_header) -                           \
     (uint32_t)sizeof(struct vgpu_session_prefix))

/* Of an answer: slots and bytes, or the text of a failure, as by the mailbox. */
#define ANSWER_BYTES VGPU_MAILBOX_BYTES

#define DRAIN_TRIES 64u /* each takes a failure that somebody else's posted call left */

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

CUresult vgpu_cuda_result_of(int err)
{
    if (err == -ESTALE && vgpu_cuda.channel) {
        /* A channel that is over says that the session is, and not what it died of. */
        err = vgpu_carry_lost(vgpu_cuda.session, "the session's channel");
        if (err > 0)
            remember_sticky((CUresult)err);
    }
    if (err >= 0) {
        if (is_sticky((CUresult)err))
            remember_sticky((CUresult)err);
        return (CUresult)err;
    }
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i].err != err)
            continue;
        if (results[i].ends)
            remember_sticky(results[i].result);
        return results[i].result;
    }
    return CUDA_ERROR_UNKNOWN;
}

void vgpu_cuda_tell_late(CUresult result)
{
    uint32_t none = CUDA_SUCCESS;
    if (result != CUDA_SUCCESS)
        atomic_compare_exchange_strong(&vgpu_cuda.late, &none, (uint32_t)result);
}

CUresult vgpu_cuda_take_late(void)
{
    return atomic_load(&vgpu_cuda.late) ? (CUresult)atomic_exchange(&vgpu_cuda.late, CUDA_SUCCESS)
                                        : CUDA_SUCCESS;
}

uint32_t vgpu_cuda_room(uint32_t opcode)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint32_t room = vgpu_cuda.channel ? VGPU_RING_RECORD_BYTES_MAX : ROOM_FOR_SLOTS;
    return info ? room - 8u * (1u + info->in_count) : 0;
}

/* Keeps what the host said about a failure, for logs. */
static void keep_text(struct vgpu_thread *thread, const struct vgpu_answer *answer)
{
    uint32_t length = answer ? answer->data_length : 0;
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
    if (slots && out)
        memcpy(out, answer->data, slots);
    if (fill_length)
        *fill_length = answer->data_length - slots;
    if (answer->data_length > slots && fill)
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

/* ---- By the channel ---- */

/* A call's record is put together in the ring, from where the caller has its parts. */
#define CALL_PARTS(context, in, info, payload, length)                                             \
    {                                                                                              \
        {&(context), 8u}, {(in), 8u * (info)->in_count},                                           \
        {                                                                                          \
            (payload), (length)                                                                    \
        }                                                                                          \
    }

int vgpu_cuda_start(uint32_t opcode, uint64_t context, const uint64_t *in,
                    struct vgpu_ticket *ticket)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    const struct vgpu_ring_part parts[] = CALL_PARTS(context, in, info, NULL, 0);
    const struct vgpu_channel_record record = {.opcode = info->opcode, .parts = parts, .count = 2};
    return vgpu_channel_start(vgpu_cuda.channel, &record, ticket);
}

static CUresult fail_answer(const struct vgpu_call_info *info, int err,
                            const struct vgpu_answer *answer)
{
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (err > 0 && thread) {
        keep_text(thread, answer);
        vgpu_cuda_debug("%s: %s (%d): %s", info->name, vgpu_result_name((uint32_t)err), err,
                        thread->text_length ? thread->text : vgpu_result_text((uint32_t)err));
    } else {
        vgpu_cuda_debug("%s", vgpu_last_error_text());
    }
    return vgpu_cuda_result_of(err);
}

/* Makes the call and waits for its answer. */
static CUresult ask_by_channel(const struct vgpu_call_info *info,
                               const struct vgpu_channel_record *record, uint64_t *out, void *fill,
                               uint32_t capacity, uint32_t *fill_length)
{
    uint8_t bytes[ANSWER_BYTES];
    struct vgpu_ticket ticket = {.bytes = bytes, .capacity = sizeof(bytes)};
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (thread) {
        thread->text_length = 0;
        thread->text[0] = 0;
    }
    int err = vgpu_channel_call(vgpu_cuda.channel, record, &ticket);
    if (err < 0)
        return fail_answer(info, err, NULL);
    const struct vgpu_answer answer = {.status = ticket.status,
                                       .data_length = ticket.length,
                                       .data = ticket.length ? bytes : NULL};
    if (ticket.error_code)
        return fail_answer(info, vgpu_fail_error_code(info->name, ticket.error_code, &answer),
                           NULL);
    if (ticket.status == CUDA_SUCCESS)
        return take_answer(info, &answer, out, fill, capacity, fill_length);
    return fail_answer(
        info, ticket.status <= INT32_MAX ? (int)ticket.status : (int)CUDA_ERROR_UNKNOWN, &answer);
}

/* What goes with a record: nothing is copied but into the ring. */
static CUresult send_record(const struct vgpu_call_info *info, const struct vgpu_ring_part *parts,
                            unsigned count, uint64_t *out, void *fill, uint32_t capacity,
                            uint32_t *fill_length)
{
    const struct vgpu_channel_record record = {
        .opcode = info->opcode, .parts = parts, .count = count};
    if (!info->posted)
        return ask_by_channel(info, &record, out, fill, capacity, fill_length);
    int err = vgpu_channel_post(vgpu_cuda.channel, &record);
    return err == 0 ? CUDA_SUCCESS : fail_answer(info, err, NULL);
}

/* A call whose bytes are in a stage. */
static CUresult send_staged(const struct vgpu_call_info *info, uint64_t context, const uint64_t *in,
                            const void *payload, uint32_t length, uint64_t *out, void *fill,
                            uint32_t capacity, uint32_t *fill_length)
{
    struct vgpu_session *session = vgpu_cuda.session;
    const struct vgpu_answer nothing = {0};
    uint64_t slots[VGPU_CALL_SLOTS_MAX];
    uint32_t stage = 0;
    CUresult result;
    if (info->stage_slot < 0 || length > VGPU_STAGE_MAX_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(slots, in, 8u * info->in_count);
    pthread_mutex_lock(&session->stage_lock);
    int err = vgpu_stage_fill(session, info->name, payload, length, &stage);
    if (err == 0) {
        slots[info->stage_slot] = stage;
        const struct vgpu_ring_part parts[] = CALL_PARTS(context, slots, info, NULL, 0);
        result = send_record(info, parts, 2, out, fill, capacity, fill_length);
    } else {
        result = fail_answer(info, err, &nothing);
    }
    pthread_mutex_unlock(&session->stage_lock);
    return result;
}

static CUresult send_by_channel(const struct vgpu_call_info *info, uint64_t context,
                                const uint64_t *in, const void *payload, uint32_t length,
                                uint64_t *out, void *fill, uint32_t capacity, uint32_t *fill_length)
{
    if (length > VGPU_RING_RECORD_BYTES_MAX - 8u * (1u + info->in_count))
        return send_staged(info, context, in, payload, length, out, fill, capacity, fill_length);
    const struct vgpu_ring_part parts[] = CALL_PARTS(context, in, info, payload, length);
    return send_record(info, parts, length ? 3 : 2, out, fill, capacity, fill_length);
}

/* ---- By the mailbox ---- */

static CUresult send_by_mailbox(const struct vgpu_call_info *info, uint64_t context,
                                const uint64_t *in, const void *payload, uint32_t length,
                                uint64_t *out, void *fill, uint32_t capacity, uint32_t *fill_length)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    uint64_t slots[1 + VGPU_CALL_SLOTS_MAX];
    struct vgpu_thread *thread = vgpu_cuda_thread();
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    slots[0] = context;
    if (info->in_count && in)
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
    return vgpu_cuda_result_of(err);
}

/* ---- Either ---- */

CUresult vgpu_cuda_send(const struct vgpu_call_info *info, uint64_t context, const uint64_t *in,
                        const void *payload, uint32_t length, uint64_t *out, void *fill,
                        uint32_t capacity, uint32_t *fill_length)
{
    return vgpu_cuda.channel ? send_by_channel(info, context, in, payload, length, out, fill,
                                               capacity, fill_length)
                             : send_by_mailbox(info, context, in, payload, length, out, fill,
                                               capacity, fill_length);
}

CUresult vgpu_cuda_drain(uint64_t context)
{
    const struct vgpu_call_info *info = vgpu_call_info(VGPU_CALL_CONTEXT_SYNCHRONIZE);
    CUresult first = CUDA_SUCCESS;
    /* A failure that was waiting to be told is told instead of waiting (P30). */
    for (unsigned i = 0; i < DRAIN_TRIES; i++) {
        CUresult result = (CUresult)atomic_load(&vgpu_cuda.sticky);
        if (result == CUDA_SUCCESS)
            result = vgpu_cuda_send(info, context, NULL, NULL, 0, NULL, NULL, 0, NULL);
        /* Nothing runs any more for a context or a session that is over. */
        if (result == CUDA_SUCCESS || result == CUDA_ERROR_INVALID_CONTEXT)
            break;
        if (first == CUDA_SUCCESS)
            first = result;
        if (atomic_load(&vgpu_cuda.sticky))
            break;
    }
    return first;
}
