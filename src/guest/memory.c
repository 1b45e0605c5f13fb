/* SPDX-License-Identifier: MIT */
/* Device memory: allocations, and copies of any size in pieces that fit a request. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/channel.h"
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
struct piece {
    const char *what;
    uint32_t direction, flags;
    uint64_t destination, source, size_bytes;
    const void *data;
};

static struct vgpu_call call_of(const struct piece *piece, uint32_t params[VGPU_COPY_PARAM_COUNT])
{
    const uint32_t filled[VGPU_COPY_PARAM_COUNT] = {
        piece->direction,    low(piece->destination), high(piece->destination), low(piece->source),
        high(piece->source), low(piece->size_bytes),  high(piece->size_bytes),
    };
    memcpy(params, filled, sizeof(filled));
    return (struct vgpu_call){
        .what = piece->what,
        .opcode = VGPU_OP_MEMORY_COPY,
        .flags = piece->flags,
        .params = params,
        .param_count = VGPU_COPY_PARAM_COUNT,
        .data = piece->data,
        .data_length = piece->data ? (uint32_t)piece->size_bytes : 0,
    };
}

static int copy_piece(struct vgpu_session *session, const struct piece *piece,
                      struct vgpu_response *response, struct vgpu_answer *answer)
{
    uint32_t params[VGPU_COPY_PARAM_COUNT];
    struct vgpu_call call = call_of(piece, params);
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

static int take_bytes(const char *what, const struct vgpu_answer *answer, uint8_t *to, size_t bytes)
{
    if (answer->data_length != bytes)
        return vgpu_fail(-EBADMSG, "%s: an answer of %" PRIu32 " bytes, want %zu", what,
                         answer->data_length, bytes);
    memcpy(to, answer->data, bytes);
    return 0;
}

/* ---- By a channel: many pieces in flight ---- */

#define DEPTH 32u /* requests that wait for their answers, of the 48 that there is room for */

struct flight {
    struct vgpu_ticket ticket;
    struct vgpu_response response;
    size_t at, bytes;
};

/* Both ways: `host` is read or written. The first failure counts; after one nothing more is asked
 * for, and what is in flight is waited for. */
static int copy_in_flight(struct vgpu_session *session, const char *what, bool to_device,
                          uint64_t device_address, uint8_t *host, size_t size_bytes)
{
    const size_t most = to_device ? VGPU_PIECE_TO_DEVICE : VGPU_PIECE_FROM_DEVICE;
    struct vgpu_statistics *statistics = &session->gpu->statistics;
    uint64_t *counter = to_device ? &statistics->bytes_to_device : &statistics->bytes_from_device;
    struct flight *flights = calloc(DEPTH, sizeof(*flights));
    int err = 0;
    if (!flights)
        return vgpu_fail(-ENOMEM, "out of memory");
    char why[512] = "";
    unsigned first = 0, count = 0;
    for (size_t done = 0; count || (err == 0 && done < size_bytes);) {
        int failed = 0;
        if (err == 0 && done < size_bytes && count < DEPTH) {
            struct flight *f = &flights[(first + count) % DEPTH];
            uint32_t params[VGPU_COPY_PARAM_COUNT];
            f->at = done;
            f->bytes = size_bytes - done < most ? size_bytes - done : most;
            struct piece piece = {.what = what,
                                  .direction = to_device ? VGPU_COPY_HTOD : VGPU_COPY_DTOH,
                                  .destination = to_device ? device_address + done : 0,
                                  .source = to_device ? 0 : device_address + done,
                                  .size_bytes = f->bytes,
                                  .data = to_device ? host + done : NULL};
            struct vgpu_call call = call_of(&piece, params);
            failed = vgpu_session_start(session, &call, &f->response, &f->ticket);
            count += failed == 0;
            done += f->bytes;
        } else {
            struct flight *f = &flights[first];
            struct vgpu_answer answer;
            /* What is behind one that took too long gets no time of its own. */
            failed = vgpu_session_finish(session, what, err == -ETIMEDOUT ? 1 : 0, &f->response,
                                         &f->ticket, &answer);
            if (failed == 0 && !to_device)
                failed = take_bytes(what, &answer, host + f->at, f->bytes);
            if (failed == 0)
                count_bytes(session->gpu, counter, f->bytes);
            first = (first + 1) % DEPTH;
            count--;
        }
        if (failed != 0 && err == 0) {
            err = failed;
            snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
        }
    }
    free(flights);
    return err == 0 ? 0 : vgpu_fail(err, "%s", why);
}

/* ---- Copies ---- */

/*
 * Of several pieces by the mailbox all but the first and the last are posted (ASYNC): their answer
 * is empty, and does not wait for the copy. The first is not, so that a wrong address is reported
 * here and at once; nor is the last, and since pieces are carried out in order its answer means
 * that all of them were.
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
    if (session->channel && size_bytes > VGPU_PIECE_TO_DEVICE)
        return copy_in_flight(session, what, true, device_address, (uint8_t *)(uintptr_t)source,
                              size_bytes);
    for (size_t done = 0; done < size_bytes;) {
        size_t left = size_bytes - done;
        size_t bytes = left < VGPU_PIECE_TO_DEVICE ? left : VGPU_PIECE_TO_DEVICE;
        bool posted = done != 0 && bytes != left;
        struct piece piece = {.what = what,
                              .direction = VGPU_COPY_HTOD,
                              .flags = posted ? VGPU_FLAG_ASYNC : 0,
                              .destination = device_address + done,
                              .size_bytes = bytes,
                              .data = (const uint8_t *)source + done};
        err = copy_piece(session, &piece, &response, &answer);
        if (err != 0)
            return err;
        done += bytes;
        count_bytes(session->gpu, &session->gpu->statistics.bytes_to_device, bytes);
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
    if (session->channel && size_bytes > VGPU_PIECE_FROM_DEVICE)
        return copy_in_flight(session, what, false, device_address, destination, size_bytes);
    for (size_t done = 0; done < size_bytes;) {
        size_t left = size_bytes - done;
        size_t bytes = left < VGPU_PIECE_FROM_DEVICE ? left : VGPU_PIECE_FROM_DEVICE;
        struct piece piece = {.what = what,
                              .direction = VGPU_COPY_DTOH,
                              .source = device_address + done,
                              .size_bytes = bytes};
        err = copy_piece(session, &piece, &response, &answer);
        if (err == 0)
            err = take_bytes(what, &answer, (uint8_t *)destination + done, bytes);
        if (err != 0)
            return err;
        done += bytes;
        count_bytes(session->gpu, &session->gpu->statistics.bytes_from_device, bytes);
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
    struct piece piece = {.what = what,
                          .direction = VGPU_COPY_DTOD,
                          .destination = destination,
                          .source = source,
                          .size_bytes = size_bytes};
    return copy_piece(session, &piece, &response, &answer);
}
