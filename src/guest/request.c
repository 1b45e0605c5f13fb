/* SPDX-License-Identifier: MIT */
/*
 * Requests and responses as bytes (docs/protocol.md): putting one together, taking an answer apart,
 * asking again while the host says "not yet", and what an error code means to a caller. Knows
 * nothing of how they are carried.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "guest/carry.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "vgpu/curesult.h"

/* An answer of "not yet" that came at once means that a queue is full, so asking again at once
 * would only load the host. */
#define RETRY_FIRST_NS 200000u

/* The host answers every request within 100 ms (P11), so the last one before the time is up gets
 * that long: its answer is worth more than leaving the mailbox BUSY behind us. */
#define LAST_ANSWER_MS 250u

int vgpu_response_parse(const void *bytes, uint32_t length, struct vgpu_answer *answer)
{
    struct vgpu_response_header header;
    if (!answer || (!bytes && length))
        return vgpu_fail(-EINVAL, "vgpu_response_parse: a pointer is NULL");
    *answer = (struct vgpu_answer){0};
    if (length == 0)
        return 0;
    if (length > VGPU_MAILBOX_BYTES)
        return vgpu_fail(-EBADMSG, "a response of %" PRIu32 " bytes, more than there can be",
                         length);
    if (length < sizeof(header))
        return vgpu_fail(-EBADMSG, "a response of %" PRIu32 " bytes is shorter than its header",
                         length);
    memcpy(&header, bytes, sizeof(header));
    if (header.version != VGPU_PROTOCOL_VERSION)
        return vgpu_fail(-EBADMSG, "a response of version 0x%08" PRIx32 ", want 0x%08x",
                         header.version, VGPU_PROTOCOL_VERSION);
    uint32_t room = length - (uint32_t)sizeof(header);
    if (header.result_count > room / 4)
        return vgpu_fail(-EBADMSG, "a response with %" PRIu32 " results in %" PRIu32 " bytes",
                         header.result_count, length);
    uint32_t results_end = (uint32_t)sizeof(header) + header.result_count * 4;
    if (header.data_length != 0 &&
        (header.data_offset % 8 != 0 || header.data_offset < results_end ||
         header.data_offset > length || header.data_length > length - header.data_offset))
        return vgpu_fail(-EBADMSG,
                         "a response whose data (%" PRIu32 " bytes at %" PRIu32
                         ") does not lie in its %" PRIu32 " bytes",
                         header.data_length, header.data_offset, length);
    answer->status = header.status;
    answer->result_count = header.result_count;
    answer->results = (const uint8_t *)bytes + sizeof(header);
    answer->data_length = header.data_length;
    answer->data = header.data_length ? (const uint8_t *)bytes + header.data_offset : NULL;
    answer->exec_time_us = header.exec_time_us;
    return 0;
}

uint32_t vgpu_answer_u32(const struct vgpu_answer *answer, uint32_t index)
{
    uint32_t word = 0;
    if (index < answer->result_count)
        memcpy(&word, answer->results + (size_t)index * 4, sizeof(word));
    return word;
}

uint64_t vgpu_answer_u64(const struct vgpu_answer *answer, uint32_t index)
{
    if (index == UINT32_MAX || index + 1 >= answer->result_count)
        return 0;
    return (uint64_t)vgpu_answer_u32(answer, index + 1) << 32 | vgpu_answer_u32(answer, index);
}

/* The text that came with an answer, made fit for a terminal: it is the host's, not ours. */
static void copy_host_text(const struct vgpu_answer *answer, char *text, size_t capacity)
{
    size_t n = 0;
    for (uint32_t i = 0; answer && i < answer->data_length && n + 1 < capacity; i++) {
        uint8_t c = answer->data[i];
        text[n++] = (char)(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7F) ? c : '?');
    }
    text[n] = 0;
}

static int errno_of_error_code(uint32_t error_code)
{
    switch (error_code) {
    case VGPU_ERR_INVALID_REQUEST:
    case VGPU_ERR_REQUEST_TOO_LARGE:
    case VGPU_ERR_INVALID_LENGTH:
        return -EPROTO;
    case VGPU_ERR_MEDIATOR_UNAVAILABLE:
        return -ENOLINK;
    case VGPU_ERR_TIMEOUT:
        return -ETIMEDOUT;
    case VGPU_ERR_INVALID_POOL:
        return -ENODEV;
    case VGPU_ERR_QUEUE_FULL:
    case VGPU_ERR_RATE_LIMITED:
        return -EAGAIN;
    case VGPU_ERR_UNSUPPORTED:
        return -EOPNOTSUPP;
    case VGPU_ERR_QUARANTINED:
        return -EACCES;
    default:
        return -EIO;
    }
}

/* What to do about an error code; empty where the host's own text has to say it. */
static const char *advice(uint32_t error_code)
{
    switch (error_code) {
    case VGPU_ERR_MEDIATOR_UNAVAILABLE:
        return "; no mediator is attached: start vgpu-mediator on the host, or wait until it is "
               "back, then open a new session";
    case VGPU_ERR_TIMEOUT:
        return "; the host was silent for the device's whole time-out and the request was given "
               "up: look at the mediator on the host, then try again";
    case VGPU_ERR_QUEUE_FULL:
        return "; too much is in flight, or every session the VM may have is open: wait for what "
               "was queued, or close a session, then try again";
    case VGPU_ERR_UNSUPPORTED:
        return "; the host does not know this operation: it needs a newer mediator";
    case VGPU_ERR_RATE_LIMITED:
        return "; the VM asks for more a second than it may: ask less often";
    case VGPU_ERR_QUARANTINED:
        return "; the host took this VM off the GPU: its administrator has to let it back in";
    default:
        return "";
    }
}

int vgpu_fail_error_code(const char *what, uint32_t error_code, const struct vgpu_answer *answer)
{
    char text[512];
    copy_host_text(answer, text, sizeof(text));
    return vgpu_fail(errno_of_error_code(error_code),
                     "%s: the device says error %" PRIu32 ", %s%s%s%s", what, error_code,
                     vgpu_error_code_text(error_code), text[0] ? ": " : "", text,
                     advice(error_code));
}

int vgpu_fail_status(const char *what, const struct vgpu_answer *answer)
{
    char text[512];
    copy_host_text(answer, text, sizeof(text));
    /* A status is a CUresult and positive; one that an int cannot hold is still a failure. */
    int result = answer->status <= INT32_MAX ? (int)answer->status : (int)CUDA_ERROR_UNKNOWN;
    return vgpu_fail(result, "%s: %s (%" PRIu32 "): %s", what, vgpu_result_name(answer->status),
                     answer->status, text[0] ? text : vgpu_result_text(answer->status));
}

/* ---- Building ---- */

static uint32_t round_up_8(uint32_t value)
{
    return (value + 7u) & ~7u;
}

/* A request of the typed table at `bytes`, which has `room`. Returns its length, 0 when it does not
 * fit. */
static uint32_t build_typed(uint8_t *bytes, uint32_t room, const struct vgpu_call *call)
{
    uint32_t params_end = (uint32_t)sizeof(struct vgpu_request_header) + call->param_count * 4;
    uint32_t data_offset = call->data_length ? round_up_8(params_end) : 0;
    uint32_t head = data_offset ? data_offset : params_end;
    if (head > room || call->data_length > room - head)
        return 0;
    struct vgpu_request_header header = {
        .version = VGPU_PROTOCOL_VERSION,
        .opcode = call->opcode,
        .flags = call->flags,
        .param_count = call->param_count,
        .data_offset = data_offset,
        .data_length = call->data_length,
    };
    memset(bytes, 0, head);
    memcpy(bytes, &header, sizeof(header));
    if (call->param_count)
        memcpy(bytes + sizeof(header), call->params, (size_t)call->param_count * 4);
    if (call->data_length)
        memcpy(bytes + data_offset, call->data, call->data_length);
    return head + call->data_length;
}

/* The whole request, naming its session. Returns its length, 0 when it does not fit. */
static uint32_t build_request(uint8_t bytes[VGPU_MAILBOX_BYTES], uint64_t session,
                              const struct vgpu_call *call)
{
    struct vgpu_request_header header = {
        .version = VGPU_PROTOCOL_VERSION,
        .opcode = call->opcode,
        .data_offset = sizeof(header),
    };
    uint32_t at = (uint32_t)sizeof(header);
    memcpy(bytes + at, &session, sizeof(session));
    at += (uint32_t)sizeof(session);
    if (call->opcode < VGPU_OP_SESSION_FIRST) {
        header.opcode = VGPU_OP_SESSION_REQUEST;
        uint32_t inner = build_typed(bytes + at, VGPU_MAILBOX_BYTES - at, call);
        if (inner == 0)
            return 0;
        at += inner;
    } else {
        if (call->prefix_length > VGPU_MAILBOX_BYTES - at ||
            call->data_length > VGPU_MAILBOX_BYTES - at - call->prefix_length)
            return 0;
        if (call->prefix_length)
            memcpy(bytes + at, call->prefix, call->prefix_length);
        at += call->prefix_length;
        if (call->data_length)
            memcpy(bytes + at, call->data, call->data_length);
        at += call->data_length;
    }
    header.data_length = at - (uint32_t)sizeof(header);
    memcpy(bytes, &header, sizeof(header));
    return at;
}

/* ---- Asking ---- */

static int fail_stale(const char *what)
{
    return vgpu_fail(-ESTALE,
                     "%s: everything this session had is gone (the mediator was restarted, or the "
                     "device was reset): close the session and open another",
                     what);
}

/* Whether the session's generation is over; remembers that it is. */
static bool is_stale(struct vgpu_session *session, bool moved)
{
    pthread_mutex_lock(&session->lock);
    if (moved)
        session->dead = true;
    bool dead = session->dead;
    pthread_mutex_unlock(&session->lock);
    return dead;
}

uint32_t vgpu_session_timeout_ms(struct vgpu_session *session)
{
    pthread_mutex_lock(&session->lock);
    uint32_t timeout_ms = session->timeout_ms;
    pthread_mutex_unlock(&session->lock);
    return timeout_ms ? timeout_ms : session->gpu->timeout_ms;
}

static void sleep_ns(uint32_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

/* By the mailbox. Asks again while the host says "not yet". */
static int call_by_mailbox(struct vgpu_session *session, const struct vgpu_call *call,
                           const uint8_t *bytes, uint32_t length, uint32_t request_id,
                           uint32_t timeout_ms, struct vgpu_response *response,
                           struct vgpu_answer *answer)
{
    struct vgpu *gpu = session->gpu;
    uint64_t deadline_ns = vgpu_deadline_ns(timeout_ms);
    uint32_t pause_ns = RETRY_FIRST_NS;
    for (;;) {
        uint32_t remaining_ms = vgpu_remaining_ms(deadline_ns);
        uint64_t asked_ns = vgpu_now_ns();
        int err = vgpu_execute_request(
            gpu, bytes, length, request_id,
            remaining_ms > LAST_ANSWER_MS ? remaining_ms : LAST_ANSWER_MS, response);
        if (err == -ECONNRESET) {
            is_stale(session, true);
            return fail_stale(call->what);
        }
        if (err < 0)
            return err;
        err = vgpu_response_parse(response->bytes, response->length, answer);
        /* First: after a reset in the midst of the response nothing in it counts. */
        if (is_stale(session, response->generation != session->generation))
            return fail_stale(call->what);
        if (err < 0 && response->error_code == 0)
            return err;
        bool full = response->error_code == VGPU_ERR_QUEUE_FULL ||
                    response->error_code == VGPU_ERR_RATE_LIMITED;
        if (response->error_code == VGPU_ERR_QUEUE_FULL && call->full_is_final)
            full = false;
        if (response->error_code != 0 && !full)
            return vgpu_fail_error_code(call->what, response->error_code, err < 0 ? NULL : answer);
        if (!full && answer->status == CUDA_SUCCESS)
            return 0;
        if (!full && answer->status != CUDA_ERROR_NOT_READY)
            return vgpu_fail_status(call->what, answer);
        /* "Not yet", or refused without any effect because too much is in flight: once more, with
         * the same bytes and the same number (P11). */
        pthread_mutex_lock(&gpu->lock);
        gpu->statistics.not_yet++;
        pthread_mutex_unlock(&gpu->lock);
        if (vgpu_now_ns() >= deadline_ns) {
            if (full)
                return vgpu_fail_error_code(call->what, response->error_code, NULL);
            return vgpu_fail(-ETIMEDOUT, "%s: the GPU was not done within %" PRIu32 " ms",
                             call->what, timeout_ms);
        }
        if (vgpu_now_ns() - asked_ns < 50000000u) {
            sleep_ns(pause_ns);
            pause_ns = pause_ns < 5000000u ? pause_ns * 2 : pause_ns;
        }
    }
}

/* What came of a request by the channel, where an answer is never "not yet". `err` is the
 * carrier's. */
static int take_carried(struct vgpu_session *session, const char *what, int err, uint32_t status,
                        uint32_t timeout_ms, const struct vgpu_response *response,
                        struct vgpu_answer *answer)
{
    if (err == -ESTALE)
        return vgpu_carry_lost(session, what);
    if (err == -ETIMEDOUT)
        return vgpu_fail(-ETIMEDOUT, "%s: the GPU was not done within %" PRIu32 " ms", what,
                         timeout_ms);
    if (err < 0)
        return err;
    err = vgpu_response_parse(response->bytes, response->length, answer);
    if (err < 0 && response->error_code == 0)
        return err;
    if (response->error_code != 0)
        return vgpu_fail_error_code(what, response->error_code, err < 0 ? NULL : answer);
    if (response->length == 0)
        answer->status = status;
    return answer->status == CUDA_SUCCESS ? 0 : vgpu_fail_status(what, answer);
}

static int fail_too_long(const char *what)
{
    return vgpu_fail(-EINVAL, "%s: the request does not fit into %u bytes", what,
                     VGPU_MAILBOX_BYTES);
}

int vgpu_session_start(struct vgpu_session *session, const struct vgpu_call *call,
                       struct vgpu_response *response, struct vgpu_ticket *ticket)
{
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    uint32_t length = build_request(bytes, session->number, call);
    if (length == 0)
        return fail_too_long(call->what);
    if (is_stale(session, false))
        return fail_stale(call->what);
    int err = vgpu_carry_start(session, bytes, length, response, ticket);
    return err == -ESTALE ? vgpu_carry_lost(session, call->what) : err;
}

int vgpu_session_finish(struct vgpu_session *session, const char *what, uint32_t timeout_ms,
                        struct vgpu_response *response, struct vgpu_ticket *ticket,
                        struct vgpu_answer *answer)
{
    uint32_t status = 0;
    if (timeout_ms == 0)
        timeout_ms = vgpu_session_timeout_ms(session);
    int err = vgpu_carry_finish(session, vgpu_deadline_ns(timeout_ms), response, ticket, &status);
    return take_carried(session, what, err, status, timeout_ms, response, answer);
}

int vgpu_session_call(struct vgpu_session *session, const struct vgpu_call *call,
                      uint32_t timeout_ms, struct vgpu_response *response,
                      struct vgpu_answer *answer, uint32_t *asked_id)
{
    if (asked_id)
        *asked_id = 0;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    uint32_t length = build_request(bytes, session->number, call);
    if (length == 0)
        return fail_too_long(call->what);
    if (is_stale(session, false))
        return fail_stale(call->what);
    if (timeout_ms == 0)
        timeout_ms = vgpu_session_timeout_ms(session);
    if (session->channel) {
        /* A number is only for those who may come back for the answer. */
        uint32_t kept_as = !asked_id          ? 0
                           : call->request_id ? call->request_id
                                              : vgpu_next_request_id(session->gpu);
        if (asked_id)
            *asked_id = kept_as;
        uint32_t status = 0;
        int err = vgpu_carry_request(session, bytes, length, kept_as, vgpu_deadline_ns(timeout_ms),
                                     response, &status);
        return take_carried(session, call->what, err, status, timeout_ms, response, answer);
    }
    uint32_t request_id = call->request_id ? call->request_id : vgpu_next_request_id(session->gpu);
    if (asked_id)
        *asked_id = request_id;
    return call_by_mailbox(session, call, bytes, length, request_id, timeout_ms, response, answer);
}

int vgpu_mailbox_call(struct vgpu *gpu, uint64_t session, const struct vgpu_call *call,
                      uint64_t deadline_ns, struct vgpu_response *response,
                      struct vgpu_answer *answer)
{
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    uint32_t length = build_request(bytes, session, call);
    uint32_t request_id = vgpu_next_request_id(gpu);
    for (;;) {
        uint32_t remaining_ms = vgpu_remaining_ms(deadline_ns);
        int err = vgpu_execute_request(
            gpu, bytes, length, request_id,
            remaining_ms > LAST_ANSWER_MS ? remaining_ms : LAST_ANSWER_MS, response);
        if (err < 0)
            return err;
        *answer = (struct vgpu_answer){0};
        err = vgpu_response_parse(response->bytes, response->length, answer);
        if (err < 0 && response->error_code == 0)
            return err;
        if (response->error_code)
            return vgpu_fail_error_code(call->what, response->error_code, err < 0 ? NULL : answer);
        if (answer->status == CUDA_SUCCESS)
            return 0;
        if (answer->status != CUDA_ERROR_NOT_READY)
            return vgpu_fail_status(call->what, answer);
        if (vgpu_now_ns() >= deadline_ns)
            return vgpu_fail(-ETIMEDOUT, "%s: the host was not done in time", call->what);
        sleep_ns(RETRY_FIRST_NS);
    }
}

int vgpu_session_end(struct vgpu *gpu, uint64_t number, uint64_t deadline_ns)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_call call = {.what = "SESSION_CLOSE", .opcode = VGPU_OP_SESSION_CLOSE};
    int err = vgpu_mailbox_call(gpu, number, &call, deadline_ns, &response, &answer);
    /* Not open any more is what was wanted. */
    return err == CUDA_ERROR_INVALID_CONTEXT ? 0 : err;
}
