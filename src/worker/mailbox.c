/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mailbox transport; see mailbox.h. */
#include "worker/mailbox.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

/*
 * A request that is not settled:
 *   waiting, not parked: the first answer is still owed
 *   not waiting, parked: 600 was answered; either the job goes on, or its answer is kept here
 *   waiting, parked: asked for again while the job goes on
 */
struct vgpu_mailbox_entry {
    TAILQ_ENTRY(vgpu_mailbox_entry) link;
    uint64_t seq; /* of the last request that asked */
    uint32_t request_id;
    bool waiting, parked;
    uint64_t taken_ns;    /* when the work came: what exec_time counts from */
    uint64_t deadline_ns; /* waiting: for 600; a kept answer: for dropping it */
    struct vgpu_job *job; /* NULL: the answer is here */
    uint32_t error_code;
    uint32_t answer_length;
    struct vgpu_undo undo;
    uint32_t length;
    uint8_t request[VGPU_MAILBOX_BYTES];
    uint8_t answer[VGPU_MAILBOX_BYTES];
};

static uint64_t now_ns(const struct vgpu_mailbox *m)
{
    return m->config.now_ns(m->config.context);
}

static void forget(struct vgpu_mailbox *m, struct vgpu_mailbox_entry *e)
{
    TAILQ_REMOVE(&m->entries, e, link);
    if (e->parked)
        m->parked--;
    free(e);
}

/* Nobody wants it: undo what it made, or see to it that it is undone when it ends. */
static void abandon(struct vgpu_mailbox *m, struct vgpu_mailbox_entry *e)
{
    if (e->job)
        vgpu_dispatch_drop(m->config.dispatcher, e->job);
    else
        vgpu_dispatch_undo(m->config.dispatcher, &e->undo);
    forget(m, e);
}

static void remember(struct vgpu_mailbox *m, uint64_t seq, const struct vgpu_undo *undo)
{
    m->history[m->next] = (struct vgpu_mailbox_answered){true, seq, *undo};
    m->next = (m->next + 1) % VGPU_MAILBOX_HISTORY;
}

static void respond(struct vgpu_mailbox *m, uint64_t seq, const struct vgpu_answer *answer,
                    uint64_t taken_ns)
{
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    size_t length = vgpu_answer_encode(answer, (now_ns(m) - taken_ns) / VGPU_NS_PER_US, bytes);
    m->config.respond(m->config.context, seq, answer->error_code, bytes, (uint32_t)length);
}

static void respond_not_ready(struct vgpu_mailbox *m, uint64_t seq, uint64_t taken_ns)
{
    static const struct vgpu_undo nothing;
    struct vgpu_answer answer;
    vgpu_answer_not_ready(&answer);
    remember(m, seq, &nothing);
    respond(m, seq, &answer, taken_ns);
}

/* The dispatcher's answer to a job of ours. */
static void on_answer(struct vgpu_sink *sink, void *tag, const struct vgpu_answer *answer)
{
    struct vgpu_mailbox *m = (struct vgpu_mailbox *)sink;
    struct vgpu_mailbox_entry *e = tag;
    e->job = NULL;
    if (e->waiting) {
        remember(m, e->seq, &answer->undo);
        respond(m, e->seq, answer, e->taken_ns);
        forget(m, e);
        return;
    }
    uint64_t now = now_ns(m);
    e->error_code = answer->error_code;
    e->undo = answer->undo;
    e->answer_length =
        (uint32_t)vgpu_answer_encode(answer, (now - e->taken_ns) / VGPU_NS_PER_US, e->answer);
    e->deadline_ns = now + VGPU_MAILBOX_KEEP_NS;
}

void vgpu_mailbox_init(struct vgpu_mailbox *m, const struct vgpu_mailbox_config *config)
{
    *m = (struct vgpu_mailbox){.sink.answer = on_answer, .config = *config};
    TAILQ_INIT(&m->entries);
}

void vgpu_mailbox_destroy(struct vgpu_mailbox *m)
{
    struct vgpu_mailbox_entry *next;
    for (struct vgpu_mailbox_entry *e = TAILQ_FIRST(&m->entries); e; e = next) {
        next = TAILQ_NEXT(e, link);
        free(e);
    }
    TAILQ_INIT(&m->entries);
    m->parked = 0;
}

/* P11: the same REQUEST_ID and the same bytes ask for the answer that was put off. */
static struct vgpu_mailbox_entry *find_parked(struct vgpu_mailbox *m, uint32_t request_id,
                                              const uint8_t *bytes, uint32_t length)
{
    for (struct vgpu_mailbox_entry *e = TAILQ_FIRST(&m->entries); e; e = TAILQ_NEXT(e, link)) {
        if (e->parked && e->request_id == request_id && e->length == length &&
            !memcmp(e->request, bytes, length))
            return e;
    }
    return NULL;
}

static void attach(struct vgpu_mailbox *m, struct vgpu_mailbox_entry *e, uint64_t seq)
{
    if (!e->job) {
        remember(m, seq, &e->undo);
        m->config.respond(m->config.context, seq, e->error_code, e->answer, e->answer_length);
        forget(m, e);
        return;
    }
    /* Whoever asked before and still waits is owed an answer of its own (W2). */
    if (e->waiting)
        respond_not_ready(m, e->seq, e->taken_ns);
    e->seq = seq;
    e->waiting = true;
    e->deadline_ns = now_ns(m) + VGPU_MAILBOX_WAIT_NS;
}

void vgpu_mailbox_request(struct vgpu_mailbox *m, uint64_t seq, uint32_t request_id,
                          const uint8_t *bytes, uint32_t length)
{
    struct vgpu_mailbox_entry *e = find_parked(m, request_id, bytes, length);
    if (e) {
        attach(m, e, seq);
        return;
    }
    uint64_t now = now_ns(m);
    struct vgpu_answer answer;
    e = malloc(sizeof(*e));
    if (!e) {
        vgpu_answer_reject(&answer, VGPU_ERR_QUEUE_FULL, "the host has no memory");
        respond(m, seq, &answer, now);
        return;
    }
    memset(e, 0,
           offsetof(struct vgpu_mailbox_entry, request)); /* the buffers are filled before use */
    e->seq = seq;
    e->request_id = request_id;
    e->waiting = true;
    e->taken_ns = now;
    e->deadline_ns = now + VGPU_MAILBOX_WAIT_NS;
    e->length = length;
    memcpy(e->request, bytes, length);
    TAILQ_INSERT_TAIL(&m->entries, e, link);
    m->sink.request = request_id;
    e->job = vgpu_dispatch_submit(m->config.dispatcher, bytes, length, &m->sink, e, &answer);
    if (!e->job)
        on_answer(&m->sink, e, &answer);
}

void vgpu_mailbox_cancel(struct vgpu_mailbox *m, uint64_t seq)
{
    for (struct vgpu_mailbox_entry *e = TAILQ_FIRST(&m->entries); e; e = TAILQ_NEXT(e, link)) {
        if (e->seq == seq) {
            abandon(m, e);
            return;
        }
    }
    for (unsigned i = 0; i < VGPU_MAILBOX_HISTORY; i++) {
        if (m->history[i].used && m->history[i].seq == seq) {
            m->history[i].used = false;
            vgpu_dispatch_undo(m->config.dispatcher, &m->history[i].undo);
            return;
        }
    }
}

/* An answer is owed and it is time: not yet. */
static void put_off(struct vgpu_mailbox *m, struct vgpu_mailbox_entry *e)
{
    if (!e->parked && m->parked >= VGPU_MAILBOX_PARKED_MAX) {
        struct vgpu_answer answer;
        vgpu_answer_reject(&answer, VGPU_ERR_QUEUE_FULL,
                           "%u requests wait to be asked for again already",
                           VGPU_MAILBOX_PARKED_MAX);
        respond(m, e->seq, &answer, e->taken_ns);
        abandon(m, e);
        return;
    }
    if (!e->parked) {
        e->parked = true;
        m->parked++;
    }
    e->waiting = false;
    respond_not_ready(m, e->seq, e->taken_ns);
}

void vgpu_mailbox_tick(struct vgpu_mailbox *m)
{
    uint64_t now = now_ns(m);
    struct vgpu_mailbox_entry *next;
    for (struct vgpu_mailbox_entry *e = TAILQ_FIRST(&m->entries); e; e = next) {
        next = TAILQ_NEXT(e, link);
        if (e->waiting && now >= e->deadline_ns)
            put_off(m, e);
        else if (!e->waiting && !e->job && now >= e->deadline_ns)
            abandon(m, e); /* P12 */
    }
}

uint64_t vgpu_mailbox_deadline(const struct vgpu_mailbox *m)
{
    uint64_t deadline = VGPU_NS_NEVER;
    for (const struct vgpu_mailbox_entry *e = TAILQ_FIRST(&m->entries); e;
         e = TAILQ_NEXT(e, link)) {
        if ((e->waiting || !e->job) && e->deadline_ns < deadline)
            deadline = e->deadline_ns;
    }
    return deadline;
}
