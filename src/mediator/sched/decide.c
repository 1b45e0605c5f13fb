/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows from what happened: who is granted a lease, and whose is recalled; see sched.h. */
#include "mediator/sched/state.h"

#include <stddef.h>

/* When the holder has to be done, given whose turn is next. */
static uint64_t grace_end(const struct vgpu_sched *s, const struct gpu *g, const struct holder *h,
                          const struct sched_turn *next, uint64_t now_ns)
{
    const struct tenant *w = &s->tenants[next->tenant], *t = &s->tenants[h->tenant];
    if (next->urgent && w->is.priority > t->is.priority && !h->aged)
        return now_ns;
    uint64_t end = sched_add_time(h->start_ns, s->config.quantum_ns);
    if (s->config.mode == VGPU_SCHED_STRICT && w->is.priority < t->is.priority)
        end = sched_later(end, sched_aging_end(s, g));
    return sched_later(end, now_ns);
}

/*
 * Whether anybody wants the slot of a holder that was recalled. Where there are several slots the
 * queue is empty now and then, since others take turns on the rest; who keeps a slot for ever would
 * be spared each time. So it is wanted until nobody waits and another slot is free, or nobody else
 * holds one.
 */
static void note_wanted(struct gpu *g, bool full)
{
    for (uint32_t i = 0; i < VGPU_SCHED_SLOTS_MAX; i++) {
        struct holder *h = &g->holder[i];
        if (!g->admissible && (g->held < 2 || !full))
            h->wanted_ns = VGPU_SCHED_NEVER;
        else if (g->admissible && full && h->recalled && h->wanted_ns == VGPU_SCHED_NEVER)
            h->wanted_ns = g->awaited_ns;
    }
}

/* NEVER while nobody wants its slot. */
static uint64_t kill_time(const struct vgpu_sched *s, const struct holder *h)
{
    return sched_add_time(sched_later(h->wanted_ns, h->recall_ns), s->config.watchdog_ns);
}

static bool recall(struct vgpu_sched *s, struct holder *h, uint64_t end, bool below,
                   uint64_t now_ns, struct vgpu_sched_decision *out)
{
    bool lingers = below && end > now_ns && s->config.linger_ns;
    /* A grace that has ended cannot be made shorter; one that runs only by a nearer end, or by an
     * equal for whom no gap is waited out. */
    if (h->recalled && (h->recall_ns <= now_ns || end > h->recall_ns ||
                        (end == h->recall_ns && (lingers || !h->lingers))))
        return false;
    h->recalled = true;
    h->recall_ns = end;
    h->lingers = lingers;
    out->action = VGPU_SCHED_RECALL;
    out->tenant = h->tenant;
    out->grace_ns = end - now_ns;
    out->linger_ns = lingers ? s->config.linger_ns : 0;
    return true;
}

/* Whether a is to go before b, of two holders that could be recalled: who has to be done first,
 * and of two of those the lower priority. */
static bool goes_first(const struct vgpu_sched *s, const struct holder *a, uint64_t a_end,
                       const struct holder *b, uint64_t b_end)
{
    if (a_end != b_end)
        return a_end < b_end;
    return s->tenants[a->tenant].is.priority < s->tenants[b->tenant].is.priority;
}

/* Somebody waits and every slot is taken, or a holder's rate is used up. */
static bool decide_held(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns,
                        struct vgpu_sched_decision *out)
{
    struct sched_turn next = sched_best(s, g, now_ns);
    bool waits = next.tenant != VGPU_SCHED_NOBODY, full = g->held >= s->config.slots;
    uint32_t recalled = 0;
    struct holder *first = NULL;
    uint64_t first_end = VGPU_SCHED_NEVER;
    note_wanted(g, full);
    for (uint32_t i = 0; i < VGPU_SCHED_SLOTS_MAX; i++) {
        struct holder *h = &g->holder[i];
        if (h->tenant == VGPU_SCHED_NOBODY)
            continue;
        if (h->recalled && !h->killed && now_ns >= kill_time(s, h)) {
            h->killed = true;
            out->action = VGPU_SCHED_KILL;
            out->tenant = h->tenant;
            return true;
        }
        if (sched_rate_end(&s->tenants[h->tenant], now_ns) <= now_ns &&
            recall(s, h, now_ns, false, now_ns, out))
            return true;
        recalled += h->recalled && now_ns < sched_late(s, h);
        if (!waits || !full)
            continue;
        uint64_t end = grace_end(s, g, h, &next, now_ns);
        bool below = s->tenants[next.tenant].is.priority < s->tenants[h->tenant].is.priority;
        if (h->recalled && recall(s, h, end, below, now_ns, out))
            return true;
        if (!h->recalled && (!first || goes_first(s, h, end, first, first_end))) {
            first = h;
            first_end = end;
        }
    }
    if (!first || recalled >= g->admissible)
        return false;
    bool below = s->tenants[next.tenant].is.priority < s->tenants[first->tenant].is.priority;
    return recall(s, first, first_end, below, now_ns, out);
}

static bool decide_free(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns,
                        struct vgpu_sched_decision *out)
{
    struct sched_turn next = sched_best(s, g, now_ns);
    if (next.tenant == VGPU_SCHED_NOBODY)
        return false;
    sched_dequeue(s, next.tenant);
    *sched_holder(g, VGPU_SCHED_NOBODY) = (struct holder){.tenant = next.tenant,
                                                          .start_ns = now_ns,
                                                          .charged_ns = now_ns,
                                                          .wanted_ns = VGPU_SCHED_NEVER,
                                                          .aged = next.aged,
                                                          .gift = next.gift};
    g->held++;
    s->tenants[next.tenant].holding = true;
    out->action = VGPU_SCHED_GRANT;
    out->tenant = next.tenant;
    return true;
}

/* When this GPU has something to say although nothing happens. */
static uint64_t wake_time(const struct vgpu_sched *s, const struct gpu *g, uint64_t now_ns)
{
    uint64_t first = VGPU_SCHED_NEVER;
    if (g->throttled.count)
        first = (uint64_t)g->throttled.entry[0].key;
    /* Who comes of age may be worth an earlier end than the one that was said. */
    uint64_t aged = g->held ? sched_aging_end(s, g) : VGPU_SCHED_NEVER;
    if (aged > now_ns && aged < first)
        first = aged;
    for (uint32_t i = 0; g->held && i < VGPU_SCHED_SLOTS_MAX; i++) {
        const struct holder *h = &g->holder[i];
        if (h->tenant == VGPU_SCHED_NOBODY)
            continue;
        uint64_t at = VGPU_SCHED_NEVER;
        if (!h->recalled || h->recall_ns > now_ns)
            at = sched_rate_end(&s->tenants[h->tenant], now_ns);
        if (h->recalled && !h->killed) {
            uint64_t kill = kill_time(s, h), late = sched_late(s, h);
            at = kill < at ? kill : at;
            at = g->held > 1 && late > now_ns && late < at ? late : at;
        }
        first = at < first ? at : first;
    }
    return first;
}

bool vgpu_sched_next(struct vgpu_sched *s, uint64_t now_ns, struct vgpu_sched_decision *out)
{
    for (uint32_t number = 0; number < s->config.gpus; number++) {
        struct gpu *g = &s->gpus[number];
        if (!g->touched && now_ns < g->wake_ns)
            continue;
        *out = (struct vgpu_sched_decision){.gpu = number};
        sched_settle(s, g, now_ns);
        sched_release_throttled(s, g, now_ns);
        g->touched = true;
        if (g->held < s->config.slots && decide_free(s, g, now_ns, out))
            return true;
        if (g->held && decide_held(s, g, now_ns, out))
            return true;
        g->touched = false;
        g->wake_ns = wake_time(s, g, now_ns);
    }
    return false;
}

uint64_t vgpu_sched_deadline(struct vgpu_sched *s, uint64_t now_ns)
{
    uint64_t first = VGPU_SCHED_NEVER;
    for (uint32_t number = 0; number < s->config.gpus; number++) {
        const struct gpu *g = &s->gpus[number];
        uint64_t at = g->touched ? now_ns : g->wake_ns;
        first = at < first ? at : first;
    }
    return first;
}
