/* SPDX-License-Identifier: MIT */
/* Device memory: allocations, and copies of any size in pieces that fit the mailbox. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "guest/guest.h"

static uint32_t low(uint64_t value)
{
    return (uint32_t)value;
}

static uint32_t high(uint64_t value)
{
    return (uint32_t)(value >> 32);
}

int vgpu_memory_alloc(struct vgpu_session *session, uint64_t size_bytes, uint64_t *device_address)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!device_address)
        return vgpu_fail(-EINVAL, "vgpu_memory_alloc: device_address is NULL");
    const uint32_t params[VGPU_ALLOC_PARAM_COUNT] = {low(size_bytes), high(size_bytes)};
    struct vgpu_call call = {.what = "vgpu_memory_alloc",
                             .opcode = VGPU_OP_MEMORY_ALLOC,
                             .params = params,
                             .param_count = VGPU_ALLOC_PARAM_COUNT};
    err = vgpu_session_call(session, &call, 0, &response, &answer, NULL);
    if (err != 0)
        return err;
    if (answer.result_count != VGPU_ALLOC_RESULT_COUNT)
        return vgpu_fail(-EBADMSG, "vgpu_memory_alloc: an answer of %" PRIu32 " results, want %u",
                         answer.result_count, VGPU_ALLOC_RESULT_COUNT);
    *device_address = vgpu_answer_u64(&answer, VGPU_ALLOC_RESULT_ADDRESS_LO);
    return 0;
}

int vgpu_memory_free(struct vgpu_session *session, uint64_t device_address)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    const uint32_t params[VGPU_FREE_PARAM_COUNT] = {low(device_address), high(device_address)};
    struct vgpu_call call = {.what = "vgpu_memory_free",
                             .opcode = VGPU_OP_MEMORY_FREE,
                             .params = params,
                             .param_count = VGPU_FREE_PARAM_COUNT};
    return vgpu_session_call(session, &call, 0, &response, &answer, NULL);
}

/* One MEMORY_COPY. `flags` and `data` are for pieces to the device. */
static int copy_piece(struct vgpu_session *session, const char *what, uint32_t direction,
                      uint64_t destination, uint64_t source, uint64_t size_bytes, uint32_t flags,
                      const void *data, struct vgpu_response *response, struct vgpu_answer *answer)
{
    const uint32_t params[VGPU_COPY_PARAM_COUNT] = {
        direction,    low(destination), high(destination), low(source),
        high(source), low(size_bytes),  high(size_bytes),
    };
    struct vgpu_call call = {
        .what = what,
        .opcode = VGPU_OP_MEMORY_COPY,
        .flags = flags,
        .params = params,
        .param_count = VGPU_COPY_PARAM_COUNT,
        .data = data,
        .data_length = data ? (uint32_t)size_bytes : 0,
    };
    return vgpu_session_call(session, &call, 0, response, answer, NULL);
}

/* Whether the range can be one: addresses do not wrap. The host checks the rest. */
static int check_range(const char *what, uint64_t address, uint64_t size_bytes)
{
    if (address + size_bytes < address)
        return vgpu_fail(-EINVAL, "%s: %" PRIu64 " bytes from 0x%" PRIx64 " wrap around", what,
                         size_bytes, address);
    return 0;
}

static void count_bytes(struct vgpu *gpu, uint64_t *counter, uint64_t bytes)
{
    pthread_mutex_lock(&gpu->lock);
    *counter += bytes;
    pthread_mutex_unlock(&gpu->lock);
}

/*
 * Of several pieces all but the first and the last are posted (ASYNC): their answer is empty, and
 * does not wait for the copy. The first is not, so that a wrong address is reported here and at
 * once; nor is the last, and since pieces are carried out in order its answer means that all of
 * them were.
 */
int vgpu_copy_to_device(struct vgpu_session *session, uint64_t device_address, const void *source,
                        size_t size_bytes)
{
    const char *const what = "vgpu_copy_to_device";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!source && size_bytes)
        return vgpu_fail(-EINVAL, "%s: source is NULL", what);
    if ((err = check_range(what, device_address, size_bytes)) < 0)
        return err;
    vgpu_session_queued(session);
    for (size_t done = 0; done < size_bytes;) {
        size_t left = size_bytes - done;
        size_t piece = left < VGPU_PIECE_TO_DEVICE ? left : VGPU_PIECE_TO_DEVICE;
        bool posted = done != 0 && piece != left;
        err = copy_piece(session, what, VGPU_COPY_HTOD, device_address + done, 0, piece,
                         posted ? VGPU_FLAG_ASYNC : 0, (const uint8_t *)source + done, &response,
                         &answer);
        if (err != 0)
            return err;
        done += piece;
        count_bytes(session->gpu, &session->gpu->statistics.bytes_to_device, piece);
    }
    return 0;
}

int vgpu_copy_from_device(struct vgpu_session *session, void *destination, uint64_t device_address,
                          size_t size_bytes)
{
    const char *const what = "vgpu_copy_from_device";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!destination && size_bytes)
        return vgpu_fail(-EINVAL, "%s: destination is NULL", what);
    if ((err = check_range(what, device_address, size_bytes)) < 0)
        return err;
    for (size_t done = 0; done < size_bytes;) {
        size_t left = size_bytes - done;
        size_t piece = left < VGPU_PIECE_FROM_DEVICE ? left : VGPU_PIECE_FROM_DEVICE;
        err = copy_piece(session, what, VGPU_COPY_DTOH, 0, device_address + done, piece, 0, NULL,
                         &response, &answer);
        if (err != 0)
            return err;
        if (answer.data_length != piece)
            return vgpu_fail(-EBADMSG, "%s: an answer of %" PRIu32 " bytes, want %zu", what,
                             answer.data_length, piece);
        memcpy((uint8_t *)destination + done, answer.data, piece);
        done += piece;
        count_bytes(session->gpu, &session->gpu->statistics.bytes_from_device, piece);
    }
    return 0;
}

int vgpu_copy_on_device(struct vgpu_session *session, uint64_t destination, uint64_t source,
                        uint64_t size_bytes)
{
    const char *const what = "vgpu_copy_on_device";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (size_bytes == 0)
        return 0;
    if ((err = check_range(what, destination, size_bytes)) < 0 ||
        (err = check_range(what, source, size_bytes)) < 0)
        return err;
    return copy_piece(session, what, VGPU_COPY_DTOD, destination, source, size_bytes, 0, NULL,
                      &response, &answer);
}
