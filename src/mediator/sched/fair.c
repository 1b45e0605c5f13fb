/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shares by virtual time, and rates.
 *
 * Within a class (all of a GPU's tenants, or in strict mode those of one priority) this is earliest
 * eligible virtual deadline first (Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline
 * First", 1995): a tenant's virtual time is the lease time it had, divided by its weight; the
 * class's is the average of its active tenants', weighted. Who is not ahead of the average is
 * eligible, and of those the one goes first whose next quantum would be due first. That keeps
 * everybody's lag within one quantum and what a lease overruns it by.
 */
#include "mediator/sched/state.h"

#define V_SHIFT 16 /* virtual times are 1/65536 ns at weight 1 */

struct class *sched_class(struct vgpu_sched *s, const struct tenant *t)
{
    return &s->gpus[t->is.gpu].classes[s->config.mode == VGPU_SCHED_STRICT ? t->is.priority : 0];
}

__int128 sched_class_v(const struct class *c)
{
    return c->weight ? c->sum / (__int128)c->weight : c->v;
}

__int128 sched_to_v(const struct tenant *t, uint64_t ns)
{
    return ((__int128)ns << V_SHIFT) / (__int128)t->weight;
}

int64_t sched_to_ns(const struct tenant *t, __int128 v)
{
    __int128 ns = (v * (__int128)t->weight) / ((__int128)1 << V_SHIFT);
    return ns > INT64_MAX ? INT64_MAX : ns < -INT64_MAX ? -INT64_MAX : (int64_t)ns;
}

/*
 * The average without what holders took after they should long have been back. With it who comes
 * meanwhile would be put where the average is only as long as such a holder is there: its end, or
 * the watchdog, takes the average back, and they would have to wait as if they had had that time.
 */
static __int128 fair_v(struct vgpu_sched *s, const struct gpu *g, const struct class *c)
{
    __int128 sum = c->sum;
    for (uint32_t i = 0, seen = 0; seen < g->held && i < VGPU_SCHED_SLOTS_MAX; i++) {
        const struct holder *h = &g->holder[i];
        if (h->tenant == VGPU_SCHED_NOBODY)
            continue;
        seen++;
        const struct tenant *t = &s->tenants[h->tenant];
        if (sched_class(s, t) == c)
            sum -= h->over_v * (__int128)t->weight;
    }
    return sum / (__int128)c->weight;
}

/*
 * What it was ahead of its share when it left still counts; of what it was behind, one quantum:
 * measured against the average with itself in it. Only what is owed to one who was called back and
 * had more to do is more, less the time that it was away since. So a worker that returns a lease
 * and wants the next one in two messages loses nothing, and nobody saves up turns by staying away.
 */
void sched_join(struct vgpu_sched *s, struct tenant *t, uint64_t now_ns)
{
    struct class *c = sched_class(s, t);
    if (t->active)
        return;
    __int128 behind = t->owed - sched_to_v(t, now_ns - t->left_ns);
    __int128 quantum = sched_to_v(t, s->config.quantum_ns);
    if (behind < quantum)
        behind = quantum;
    if (c->weight)
        behind += behind * (__int128)t->weight / (__int128)c->weight;
    __int128 least = (c->weight ? fair_v(s, &s->gpus[t->is.gpu], c) : c->v) - behind;
    if (t->v < least)
        t->v = least;
    t->active = true;
    c->sum += t->v * (__int128)t->weight;
    c->weight += t->weight;
}

void sched_leave(struct vgpu_sched *s, struct tenant *t, uint64_t now_ns)
{
    struct class *c = sched_class(s, t);
    if (!t->active)
        return;
    t->owed = 0;
    t->left_ns = now_ns;
    t->active = false;
    if (c->weight == t->weight)
        c->v = t->v;
    c->sum -= t->v * (__int128)t->weight;
    c->weight -= t->weight;
}

void sched_move(struct vgpu_sched *s, struct tenant *t, __int128 step)
{
    t->v += step;
    if (t->active)
        sched_class(s, t)->sum += step * (__int128)t->weight;
}

/* To the last bit: a large weight's unit of virtual time is many ns, and events may be close. */
static void charge(struct vgpu_sched *s, struct tenant *t, uint64_t ns)
{
    unsigned __int128 due = ((unsigned __int128)ns << V_SHIFT) + t->rest;
    t->rest = (uint64_t)(due % t->weight);
    sched_move(s, t, (__int128)(due / t->weight));
}

void sched_refill(struct tenant *t, uint64_t now_ns)
{
    if (!t->is.rate || now_ns <= t->refilled_ns)
        return;
    uint64_t passed = now_ns - t->refilled_ns;
    /* What is earned in whole thousandths; the rest of the time is earned from later. */
    uint64_t most = (uint64_t)INT64_MAX / 4 / VGPU_SCHED_RATE;
    if (passed > most)
        passed = most;
    uint64_t earned = passed * t->is.rate / VGPU_SCHED_RATE;
    t->refilled_ns =
        passed == most ? now_ns : t->refilled_ns + earned * VGPU_SCHED_RATE / t->is.rate;
    t->tokens_ns += (int64_t)earned;
    if (t->tokens_ns >= (int64_t)t->is.burst_ns) {
        t->tokens_ns = (int64_t)t->is.burst_ns;
        t->refilled_ns = now_ns;
    }
}

/*
 * While nobody waits, several holders take nothing from anybody, whatever their weights are: then
 * the class's time goes on, for those who stay away, and all holders' with it. Who kept a lease
 * that nobody wanted is not ahead of the others when somebody does. Answers by how much.
 */
static __int128 free_step(struct vgpu_sched *s, const struct gpu *g, const struct class *c,
                          uint64_t now_ns)
{
    __int128 ns = 0, weight = 0;
    for (uint32_t i = 0; i < VGPU_SCHED_SLOTS_MAX; i++) {
        const struct holder *h = &g->holder[i];
        if (h->tenant == VGPU_SCHED_NOBODY || sched_class(s, &s->tenants[h->tenant]) != c)
            continue;
        ns += now_ns > h->charged_ns ? now_ns - h->charged_ns : 0;
        weight += (__int128)s->tenants[h->tenant].weight;
    }
    return weight ? ns * ((__int128)1 << V_SHIFT) / weight : 0;
}

void sched_settle(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns)
{
    bool free = !g->admissible && g->held > 1;
    __int128 step[VGPU_SCHED_PRIORITIES] = {0};
    for (uint32_t p = 0; free && p < VGPU_SCHED_PRIORITIES; p++)
        step[p] = free_step(s, g, &g->classes[p], now_ns);
    for (uint32_t i = 0, seen = 0; seen < g->held && i < VGPU_SCHED_SLOTS_MAX; i++) {
        struct holder *h = &g->holder[i];
        if (h->tenant == VGPU_SCHED_NOBODY)
            continue;
        seen++;
        if (now_ns <= h->charged_ns)
            continue;
        struct tenant *t = &s->tenants[h->tenant];
        if (free) {
            sched_move(s, t, step[sched_class(s, t) - g->classes]);
        } else {
            uint64_t late = sched_later(sched_late(s, h), h->charged_ns);
            charge(s, t, now_ns - h->charged_ns);
            if (now_ns > late)
                h->over_v += sched_to_v(t, now_ns - late);
        }
        if (t->is.rate)
            t->tokens_ns -= (int64_t)(now_ns - h->charged_ns);
        sched_refill(t, now_ns); /* after: what it earned meanwhile is not cut off at the burst */
        h->charged_ns = now_ns;
    }
}

/* Tokens with which one who had none goes on: enough for a lease worth switching for. */
static int64_t enough_tokens(const struct vgpu_sched *s, const struct tenant *t)
{
    uint64_t ns = t->is.burst_ns < s->config.quantum_ns ? t->is.burst_ns : s->config.quantum_ns;
    return (int64_t)ns;
}

uint64_t sched_throttled_until(const struct vgpu_sched *s, const struct tenant *t)
{
    uint64_t lack = (uint64_t)(enough_tokens(s, t) - t->tokens_ns);
    uint64_t wait = lack > VGPU_SCHED_NEVER / 2 / VGPU_SCHED_RATE
                        ? VGPU_SCHED_NEVER / 2
                        : lack * VGPU_SCHED_RATE / t->is.rate + 1;
    return sched_add_time(t->refilled_ns, wait);
}

uint64_t sched_rate_end(const struct tenant *t, uint64_t now_ns)
{
    if (!t->is.rate || t->is.rate == VGPU_SCHED_RATE)
        return VGPU_SCHED_NEVER;
    if (t->tokens_ns <= 0)
        return now_ns;
    uint64_t left = (uint64_t)t->tokens_ns;
    if (left > VGPU_SCHED_NEVER / 2 / VGPU_SCHED_RATE)
        return VGPU_SCHED_NEVER;
    return sched_add_time(now_ns, left * VGPU_SCHED_RATE / (VGPU_SCHED_RATE - t->is.rate) + 1);
}
