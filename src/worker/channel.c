/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records of a channel; see channel.h. */
#include "worker/channel.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/net.h"
#include "common/wire.h"
#include "worker/channel_parts.h"
#include "worker/decode.h"
#include "worker/finish.h"

#define POOL (VGPU_RING_COMPLETIONS + VGPU_CHANNEL_ASKED_MAX)

static bool is_lost(const struct vgpu_channel_server *c)
{
    return atomic_load_explicit(&c->executor->sticky, memory_order_relaxed) != CUDA_SUCCESS;
}

/* ---- Answers ---- */

void vgpu_channel_answer(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                         uint32_t status, uint32_t error_code, const void *bytes, uint32_t length)
{
    const struct vgpu_ring_answer answer = {.token = record->token,
                                            .status = status,
                                            .error_code = error_code,
                                            .length = length,
                                            .bytes = bytes};
    if (!record->token || c->ring.error || !c->attached)
        return;
    if (vgpu_ring_server_complete(&c->ring, &answer, record->answer_unit, record->answer_units)) {
        uint64_t one = 1;
        /* Fails when the counter is full, and then the guest has been told already. */
        if (write(c->at.interrupt, &one, sizeof(one)) < 0)
            return;
    }
}

static const char *name_of(const struct vgpu_ring_record *record, char number[16])
{
    const struct vgpu_call_info *info = vgpu_call_info(record->opcode);
    if (info)
        return info->name;
    snprintf(number, 16, "0x%x", record->opcode);
    return number;
}

/* At debug level only: a guest can make as many as it likes. */
static void log_failure(const struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                        uint32_t status, const void *text, size_t length)
{
    char request[VGPU_REQUEST_TEXT], number[16], quoted[600];
    if (!c->traces || status == CUDA_ERROR_NOT_READY)
        return;
    vgpu_log(VGPU_LOG_DEBUG, "call-failed", "request=%s call=%s status=%u reason=%s",
             vgpu_request_text(c->executor->request, request), name_of(record, number), status,
             vgpu_log_quote(quoted, sizeof(quoted), text, length));
}

void vgpu_channel_answer_failure(struct vgpu_channel_server *c,
                                 const struct vgpu_ring_record *record, struct vgpu_answer *a,
                                 vgpu_request_name of)
{
    char request[VGPU_REQUEST_TEXT];
    log_failure(c, record, a->status, a->data, a->data_length);
    size_t room = sizeof(a->data) - a->data_length;
    if (of != VGPU_REQUEST_NONE && a->data_length) {
        int n = snprintf((char *)a->data + a->data_length, room, " (request %s)",
                         vgpu_request_text(of, request));
        if (n > 0 && (size_t)n < room)
            a->data_length += (uint32_t)n;
    }
    vgpu_channel_answer(c, record, a->status, a->error_code, a->data, a->data_length);
}

void vgpu_channel_fail(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                       CUresult status, const char *format, ...)
{
    struct vgpu_answer a;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    vgpu_answer_fail(&a, true, status, "%s", text);
    vgpu_channel_answer_failure(c, record, &a, c->executor->request);
}

/* An answer to a request by REQUEST, as bytes (P34). */
static void answer_request(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                           const struct vgpu_answer *a)
{
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    size_t length = vgpu_answer_encode(a, (vgpu_clock_ns() - c->taken_ns) / VGPU_NS_PER_US, bytes);
    vgpu_channel_answer(c, record, a->status, a->error_code, bytes, (uint32_t)length);
}

static void on_answer(struct vgpu_sink *sink, void *tag, const struct vgpu_answer *a)
{
    struct vgpu_channel_server *c =
        (struct vgpu_channel_server *)(void *)((uint8_t *)sink -
                                               offsetof(struct vgpu_channel_server, sink));
    if (!c->told)
        answer_request(c, tag, a);
    c->told = false;
    c->job = NULL;
    c->hold = VGPU_HOLD_NOTHING;
}

/* ---- Records ---- */

static enum vgpu_channel_hold bad_record(struct vgpu_channel_server *c)
{
    vgpu_ring_server_fail(&c->ring, VGPU_CHANNEL_BAD_RECORD);
    return VGPU_HOLD_NOTHING;
}

static enum vgpu_channel_hold refuse_lost(struct vgpu_channel_server *c,
                                          const struct vgpu_ring_record *record)
{
    CUresult sticky = (CUresult)atomic_load_explicit(&c->executor->sticky, memory_order_relaxed);
    vgpu_tally_refused(&c->executor->tally, (uint32_t)sticky);
    vgpu_pending_fail(c, record, NULL, sticky, false, "");
    return VGPU_HOLD_NOTHING;
}

static enum vgpu_channel_hold run_request(struct vgpu_channel_server *c,
                                          const struct vgpu_ring_record *record,
                                          const uint8_t *body)
{
    struct vgpu_answer a;
    if (record->length < sizeof(struct vgpu_request_header) ||
        record->length > VGPU_MAILBOX_BYTES || !record->token)
        return bad_record(c);
    c->taken_ns = vgpu_clock_ns();
    c->sink.request = c->executor->request;
    c->job = vgpu_dispatch_submit_here(c->at.dispatcher, body, record->length, &c->sink,
                                       (void *)(uintptr_t)record, &a);
    if (c->job) {
        /* P10, P19: it is queued, and that is its answer. On a backend whose launches take their
         * time the guest must not wait for what it did not ask for. */
        if (c->job->early) {
            vgpu_answer_early(&a, c->job);
            answer_request(c, record, &a);
            c->told = true;
        }
        return VGPU_HOLD_JOB;
    }
    answer_request(c, record, &a);
    return VGPU_HOLD_NOTHING;
}

static enum vgpu_channel_hold run_stage_copy(struct vgpu_channel_server *c,
                                             const struct vgpu_ring_record *record,
                                             const uint8_t *body)
{
    struct vgpu_ring_stage_copy s;
    if (record->length != sizeof(s) || !record->token)
        return bad_record(c);
    memcpy(&s, body, sizeof(s));
    if (is_lost(c))
        return refuse_lost(c, record);
    const uint8_t *bytes =
        s.bytes ? vgpu_extents_find(&c->extents, s.window_offset, s.bytes, false) : NULL;
    const char *why = s.bytes ? "its bytes of the window are not the session's to read"
                              : "0 bytes, a piece has at least 1";
    CUresult status = CUDA_ERROR_INVALID_VALUE;
    if (bytes)
        status = vgpu_dispatch_write_stage(c->at.dispatcher, s.stage, s.total_bytes, s.offset,
                                           bytes, s.bytes, &why);
    if (status == CUDA_SUCCESS)
        vgpu_channel_answer(c, record, CUDA_SUCCESS, 0, NULL, 0);
    else
        vgpu_channel_fail(c, record, status, "STAGE_COPY: %s", why);
    return VGPU_HOLD_NOTHING;
}

static enum vgpu_channel_hold run_arena(struct vgpu_channel_server *c,
                                        const struct vgpu_ring_record *record, const uint8_t *body)
{
    if (record->length != 8 || !record->token)
        return bad_record(c);
    uint64_t value = vgpu_load_le64(body);
    return record->opcode == VGPU_RING_ARENA_ALLOC ? vgpu_arena_alloc(c, record, value)
                                                   : vgpu_arena_free(c, record, value);
}

/* A call that never got as far as the driver. */
static enum vgpu_channel_hold refuse_call(struct vgpu_channel_server *c,
                                          const struct vgpu_ring_record *record,
                                          struct vgpu_answer *a)
{
    vgpu_tally_refused(&c->executor->tally, a->status);
    if (!record->token) /* G11 */
        vgpu_execute_note(c->executor, (CUresult)a->status, true);
    vgpu_channel_answer_failure(c, record, a, c->executor->request);
    return VGPU_HOLD_NOTHING;
}

/* Whether something that was begun, or a mark, belongs to the context that is about to end: that
 * has to be waited for first. */
static bool is_awaited(struct vgpu_channel_server *c, const struct vgpu_driver_context *object)
{
    const struct vgpu_pending *p = TAILQ_FIRST(&c->calls);
    while (p && p->object != object)
        p = TAILQ_NEXT(p, link);
    return p || c->frees > 0;
}

/* What has to be so before a call may run. */
static enum vgpu_channel_hold hold_call(struct vgpu_channel_server *c,
                                        const struct vgpu_call_info *info, const uint64_t *slots)
{
    struct vgpu_executor *x = c->executor;
    if (!x->calls.driver->fences)
        return VGPU_HOLD_NOTHING;
    if (info->opcode == VGPU_CALL_LAUNCH) {
        CUresult status = vgpu_inflight_admit(&x->inflight, &x->calls, false);
        if (status == CUDA_ERROR_NOT_READY)
            return VGPU_HOLD_GPU;
        vgpu_execute_note(x, status, true);
    } else if (info->opcode == VGPU_CALL_CONTEXT_DESTROY) {
        const struct vgpu_driver_context *object =
            vgpu_calls_find(&x->calls, VGPU_KIND_CONTEXT, slots[0]);
        if (object && is_awaited(c, object))
            return VGPU_HOLD_GPU;
        if (object)
            vgpu_inflight_forget(&x->inflight, &x->calls, object);
    }
    return VGPU_HOLD_NOTHING;
}

static void run_frame(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                      uint64_t context, struct vgpu_call_frame *frame)
{
    struct vgpu_executor *x = c->executor;
    const struct vgpu_call_info *info = frame->info;
    bool earlier;
    /* G11: it is queued, its failure will be deferred, and a backend may take its time. */
    if (info->posted)
        vgpu_channel_answer(c, record, CUDA_SUCCESS, 0, NULL, 0);
    CUresult status = vgpu_execute_call(x, context, frame, &earlier);
    if (info->posted && status != CUDA_SUCCESS)
        log_failure(c, record, (uint32_t)status, frame->text, strlen(frame->text));
    if (info->posted)
        return;
    if (status == CUDA_SUCCESS)
        vgpu_channel_answer(c, record, CUDA_SUCCESS, 0, frame->out,
                            info->out_count * 8u + frame->fill_length);
    else
        vgpu_pending_fail(c, record, info, status, earlier, frame->text);
}

/* P31: what a stage holds in place of the bytes. */
static enum vgpu_channel_hold run_staged(struct vgpu_channel_server *c,
                                         const struct vgpu_ring_record *record, uint64_t context,
                                         struct vgpu_call_frame *frame, uint64_t stage)
{
    struct vgpu_blob staged = {0};
    const char *why = "stage is outside its type's range";
    CUresult status = CUDA_ERROR_INVALID_VALUE;
    if (stage <= UINT32_MAX)
        status = vgpu_dispatch_take_stage(c->at.dispatcher, (uint32_t)stage, &staged, &why);
    if (status != CUDA_SUCCESS) {
        struct vgpu_answer a;
        vgpu_answer_fail(&a, true, status, "%s: %s", frame->info->name, why);
        return refuse_call(c, record, &a);
    }
    frame->payload = staged.bytes;
    frame->payload_length = staged.size;
    run_frame(c, record, context, frame);
    vgpu_blob_free(&staged);
    return VGPU_HOLD_NOTHING;
}

static enum vgpu_channel_hold run_call(struct vgpu_channel_server *c,
                                       const struct vgpu_ring_record *record, uint8_t *body)
{
    struct vgpu_executor *x = c->executor;
    const struct vgpu_call_info *info = vgpu_call_info(record->opcode);
    struct vgpu_call_body call;
    struct vgpu_answer a;
    if (!info || !x->calls.ops) {
        vgpu_answer_fail(&a, true, CUDA_ERROR_NOT_SUPPORTED, "opcode 0x%x is not known here",
                         record->opcode);
        return refuse_call(c, record, &a);
    }
    if (!record->token && !info->posted)
        return bad_record(c);
    switch (vgpu_call_body_decode(info, body, record->length, &call, &a)) {
    case 0:
        break;
    case -EBADMSG:
        return refuse_call(c, record, &a);
    default:
        return bad_record(c);
    }
    if (is_lost(c))
        return refuse_lost(c, record);
    /* The record begins at a multiple of 64, its slots at 24 bytes from there: they can be used
     * where they are. A text needs a NUL behind it, for which the buffer has room. */
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "slots are used as they come");
    const uint64_t *slots = (const uint64_t *)(const void *)(body + 8);
    body[record->length] = 0;
    struct vgpu_call_frame frame = {.info = info,
                                    .in = slots,
                                    .payload = call.data,
                                    .payload_length = call.data_length,
                                    .out = (uint64_t *)(void *)c->answer,
                                    .fill = c->answer + (size_t)info->out_count * 8,
                                    .text = (char *)c->text,
                                    .text_size = sizeof(c->text)};
    enum vgpu_channel_hold hold = hold_call(c, info, slots);
    if (hold != VGPU_HOLD_NOTHING)
        return hold;
    if (vgpu_calls_can_begin(&x->calls, info))
        return vgpu_pending_begin(c, record, call.context, &frame);
    if (info->stage_slot >= 0 && slots[(unsigned char)info->stage_slot])
        return run_staged(c, record, call.context, &frame, slots[(unsigned char)info->stage_slot]);
    run_frame(c, record, call.context, &frame);
    return VGPU_HOLD_NOTHING;
}

static void log_call(const struct vgpu_channel_server *c, const struct vgpu_ring_record *record)
{
    char request[VGPU_REQUEST_TEXT], number[16];
    vgpu_log(VGPU_LOG_DEBUG, "call", "request=%s call=%s bytes=%u",
             vgpu_request_text(c->executor->request, request), name_of(record, number),
             record->length);
}

static enum vgpu_channel_hold run_record(struct vgpu_channel_server *c,
                                         const struct vgpu_ring_record *record)
{
    uint8_t *body = c->record + sizeof(*record);
    c->executor->request = vgpu_request_of_record(c->at.number, c->ring.taken);
    if (c->traces && c->hold == VGPU_HOLD_NOTHING)
        log_call(c, record);
    /* G16. One that wants no answer needs no room. */
    if (record->token && !vgpu_ring_server_has_room(&c->ring, c->outstanding + 1))
        return VGPU_HOLD_ROOM;
    if (record->opcode >= VGPU_OP_CALL_FIRST && record->opcode <= VGPU_OP_CALL_LAST)
        return run_call(c, record, body);
    switch (record->opcode) {
    case VGPU_RING_NOP:
        if (record->length)
            return bad_record(c);
        vgpu_channel_answer(c, record, CUDA_SUCCESS, 0, NULL, 0);
        return VGPU_HOLD_NOTHING;
    case VGPU_RING_REQUEST:
        return run_request(c, record, body);
    case VGPU_RING_STAGE_COPY:
        return run_stage_copy(c, record, body);
    case VGPU_RING_ARENA_ALLOC:
    case VGPU_RING_ARENA_FREE:
        return run_arena(c, record, body);
    default:
        return bad_record(c);
    }
}

static void report_state(struct vgpu_channel_server *c, uint32_t state, uint32_t error)
{
    struct vgpu_report r = {.kind = VGPU_REPORT_CHANNEL, .state = state, .error = error};
    (void)vgpu_reports_put(c->reports, &r);
}

/* G19: the mediator is told once, whatever noticed, and nothing any more after FREE (W12). */
static void check_ring(struct vgpu_channel_server *c)
{
    if (!c->attached || !c->ring.error || c->fatal)
        return;
    c->fatal = true;
    report_state(c, VGPU_CHANNEL_FATAL, c->ring.error);
}

static bool is_served(const struct vgpu_channel_server *c)
{
    return c->attached && !c->fatal;
}

static bool may_run(const struct vgpu_channel_server *c)
{
    enum vgpu_gate gate = vgpu_lease_gate(c->lease);
    return gate == VGPU_GATE_OPEN || gate == VGPU_GATE_RECALLED;
}

/* The first time under the lease: the GPU's copies go straight to and from the staging. */
static void register_staging(struct vgpu_channel_server *c)
{
    const struct vgpu_backend_ops *ops = c->executor->ops;
    c->registered = true;
    if (!ops->host_register)
        return;
    (void)ops->host_register(c->executor->backend, c->ring.channel + VGPU_CHANNEL_UPLOAD,
                             VGPU_CHANNEL_UPLOAD_BYTES + VGPU_CHANNEL_DOWNLOAD_BYTES);
    (void)ops->host_register(c->executor->backend, c->bounce,
                             (size_t)VGPU_CHANNEL_BOUNCES * VGPU_CHANNEL_BOUNCE_BYTES);
}

bool vgpu_channel_turn(struct vgpu_channel_server *c, bool one)
{
    unsigned n = 0;
    if (!is_served(c) || c->hold == VGPU_HOLD_JOB)
        return false;
    const struct vgpu_ring_record *record = (const struct vgpu_ring_record *)(void *)c->record;
    while (n < VGPU_CHANNEL_TURN_RECORDS && ((one && n == 0) || may_run(c))) {
        if (c->hold == VGPU_HOLD_NOTHING && !vgpu_ring_server_take(&c->ring, c->record))
            break;
        if (!c->registered)
            register_staging(c);
        c->hold = run_record(c, record);
        if (c->hold != VGPU_HOLD_NOTHING)
            break;
        n++;
        if (atomic_load_explicit(c->jobs, memory_order_relaxed) ||
            atomic_load_explicit(c->orders, memory_order_relaxed))
            break;
    }
    if (!c->ring.error)
        vgpu_ring_server_show(&c->ring);
    check_ring(c);
    vgpu_tally_add(&c->executor->tally.at->records, n + (c->hold == VGPU_HOLD_JOB));
    /* A job of its own is work that was done, too: the queue has to be looked at. */
    return n > 0 || c->hold == VGPU_HOLD_JOB;
}

void vgpu_channel_job_done(struct vgpu_channel_server *c, struct vgpu_job *job)
{
    vgpu_dispatch_finish(c->at.dispatcher, job); /* which calls on_answer */
}

bool vgpu_channel_poll(struct vgpu_channel_server *c, bool lease)
{
    bool did = false;
    if (!c->outstanding)
        return false;
    if (lease && !TAILQ_EMPTY(&c->calls))
        did = vgpu_pending_poll(c, false);
    if (!TAILQ_EMPTY(&c->extents_under))
        did |= vgpu_arena_poll(c, lease, false);
    check_ring(c);
    return did;
}

void vgpu_channel_settle(struct vgpu_channel_server *c)
{
    (void)vgpu_pending_poll(c, true);
    while (c->frees)
        (void)vgpu_arena_poll(c, true, true);
}

/* ---- Beginning and end ---- */

void vgpu_channel_init(struct vgpu_channel_server *c, struct vgpu_executor *executor,
                       struct vgpu_lease *lease, struct vgpu_reports *reports,
                       const _Atomic uint32_t *jobs, const _Atomic uint32_t *orders)
{
    memset(&c->sink, 0,
           offsetof(struct vgpu_channel_server, extents) -
               offsetof(struct vgpu_channel_server, sink));
    c->sink.answer = on_answer;
    c->executor = executor;
    c->lease = lease;
    c->reports = reports;
    c->jobs = jobs;
    c->orders = orders;
    c->at.doorbell = c->at.interrupt = -1;
    TAILQ_INIT(&c->spare);
    TAILQ_INIT(&c->calls);
    TAILQ_INIT(&c->waiting);
    TAILQ_INIT(&c->asked);
    TAILQ_INIT(&c->extents_under);
    vgpu_extents_init(&c->extents);
}

static void close_ends(struct vgpu_channel_server *c)
{
    vgpu_fd_close(&c->at.doorbell);
    vgpu_fd_close(&c->at.interrupt);
}

void vgpu_channel_destroy(struct vgpu_channel_server *c)
{
    close_ends(c);
    free(c->pool);
    if (c->bounce)
        munmap(c->bounce, (size_t)VGPU_CHANNEL_BOUNCES * VGPU_CHANNEL_BOUNCE_BYTES);
}

/* Once for the life of the worker. */
static bool make_pool(struct vgpu_channel_server *c)
{
    if (!c->bounce) {
        void *p = mmap(NULL, (size_t)VGPU_CHANNEL_BOUNCES * VGPU_CHANNEL_BOUNCE_BYTES,
                       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        c->bounce = p == MAP_FAILED ? NULL : p;
    }
    if (c->bounce && !c->pool && (c->pool = calloc(POOL, sizeof(*c->pool)))) {
        for (unsigned i = 0; i < POOL; i++)
            TAILQ_INSERT_TAIL(&c->spare, &c->pool[i], link);
    }
    return c->bounce && c->pool;
}

void vgpu_channel_attach(struct vgpu_channel_server *c, const struct vgpu_attachment *at)
{
    c->at = *at;
    c->attached = true;
    c->fatal = c->registered = false;
    c->traces = vgpu_log_enabled(VGPU_LOG_DEBUG);
    c->hold = VGPU_HOLD_NOTHING;
    c->extents.window = at->window;
    c->extents.window_bytes = at->window_bytes;
    c->extents.channel = (uint64_t)at->number * VGPU_CHANNEL_BYTES;
    c->executor->calls.window = &c->extents.view;
    if (!make_pool(c)) {
        c->ring = (struct vgpu_ring_server){.error = VGPU_CHANNEL_HOST};
        check_ring(c);
        return;
    }
    vgpu_ring_server_init(&c->ring, at->window + c->extents.channel);
    c->extents.has_channel = true;
    report_state(c, VGPU_CHANNEL_ACTIVE, VGPU_CHANNEL_OK);
}

void vgpu_channel_detach(struct vgpu_channel_server *c)
{
    const struct vgpu_backend_ops *ops = c->executor->ops;
    enum vgpu_gate gate = vgpu_lease_gate(c->lease);
    if (!c->attached)
        return;
    c->attached = false;
    c->extents.has_channel = false;
    if (c->job)
        vgpu_dispatch_drop(c->at.dispatcher, c->job);
    c->job = NULL;
    c->told = false;
    c->hold = VGPU_HOLD_NOTHING;
    /* Without the lease nothing is in flight: it was waited for before that went back. */
    if (gate != VGPU_GATE_CLOSED && gate != VGPU_GATE_RETURNED)
        vgpu_execute_drain(c->executor);
    vgpu_pending_forget(c);
    vgpu_arena_detach(c);
    if (c->registered && ops->host_forget) {
        ops->host_forget(c->executor->backend, c->ring.channel + VGPU_CHANNEL_UPLOAD);
        ops->host_forget(c->executor->backend, c->bounce);
    }
    close_ends(c);
    report_state(c, VGPU_CHANNEL_FREE, VGPU_CHANNEL_OK);
}

/* ---- Waiting ---- */

bool vgpu_channel_in_flight(const struct vgpu_channel_server *c)
{
    return !TAILQ_EMPTY(&c->calls) || c->frees;
}

bool vgpu_channel_awaits_gpu(const struct vgpu_channel_server *c)
{
    return vgpu_channel_in_flight(c) || c->hold == VGPU_HOLD_GPU;
}

bool vgpu_channel_has_record(struct vgpu_channel_server *c)
{
    if (!is_served(c))
        return false;
    switch (c->hold) {
    case VGPU_HOLD_NOTHING:
        return vgpu_ring_server_pending(&c->ring) || c->ring.error;
    case VGPU_HOLD_ROOM:
        return vgpu_ring_server_has_room(&c->ring, c->outstanding + 1) || c->ring.error;
    default:
        return false; /* the job, or the GPU, says when */
    }
}

bool vgpu_channel_wants_lease(struct vgpu_channel_server *c)
{
    bool record = is_served(c) && (c->hold == VGPU_HOLD_GPU || vgpu_channel_has_record(c));
    check_ring(c);
    return (record && is_served(c)) || vgpu_arena_wants_lease(c);
}

bool vgpu_channel_sleep(struct vgpu_channel_server *c)
{
    if (!is_served(c) || c->hold != VGPU_HOLD_NOTHING)
        return true;
    bool sleeps = vgpu_ring_server_sleep(&c->ring);
    check_ring(c);
    return sleeps;
}

void vgpu_channel_woke(struct vgpu_channel_server *c)
{
    if (is_served(c) && c->hold == VGPU_HOLD_NOTHING)
        vgpu_ring_server_woke(&c->ring);
}

int vgpu_channel_doorbell(const struct vgpu_channel_server *c)
{
    return is_served(c) && c->hold == VGPU_HOLD_NOTHING ? c->at.doorbell : -1;
}

void vgpu_channel_doorbell_broke(struct vgpu_channel_server *c)
{
    vgpu_ring_server_fail(&c->ring, VGPU_CHANNEL_HOST);
    check_ring(c);
}
