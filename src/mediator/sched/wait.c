/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who waits, in what order, and whose turn is next. */
#include "mediator/sched/state.h"

/* Beyond its share by no more than this, who waits is helped by his age; so much beyond it only
 * kernels longer than a quantum can bring anybody. */
static uint64_t tolerance_ns(const struct vgpu_sched *s)
{
    return sched_later(2 * s->config.quantum_ns, s->config.aging_ns / 4);
}

/* Puts one who waits where its virtual time says. */
static void place(struct vgpu_sched *s, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    __int128 now_v = sched_class_v(sched_class(s, t));
    if (t->v <= now_v) {
        t->place = PLACE_BEHIND;
        vgpu_heap_add(&g->behind[t->is.priority], number,
                      t->v + sched_to_v(t, s->config.quantum_ns));
    } else {
        t->place = PLACE_AHEAD;
        vgpu_heap_add(&g->ahead[t->is.priority], number, t->v);
    }
    if (t->v <= now_v + sched_to_v(t, tolerance_ns(s)))
        vgpu_heap_add(&g->aging, number, (__int128)t->since_ns);
}

void sched_enqueue(struct vgpu_sched *s, uint32_t number, uint64_t since_ns, uint64_t now_ns)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    sched_refill(t, now_ns);
    t->waiting = true;
    t->since_ns = since_ns;
    if (t->is.rate && t->tokens_ns <= 0) {
        sched_leave(s, t, now_ns);
        t->place = PLACE_THROTTLED;
        t->throttles++;
        vgpu_heap_add(&g->throttled, number, (__int128)sched_throttled_until(s, t));
        return;
    }
    sched_join(s, t, now_ns);
    place(s, number);
    if (g->admissible++ == 0)
        g->awaited_ns = now_ns;
}

void sched_dequeue(struct vgpu_sched *s, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    if (t->place == PLACE_BEHIND)
        vgpu_heap_remove(&g->behind[t->is.priority], number);
    else if (t->place == PLACE_AHEAD)
        vgpu_heap_remove(&g->ahead[t->is.priority], number);
    else
        vgpu_heap_remove(&g->throttled, number);
    if (vgpu_heap_has(&g->aging, number))
        vgpu_heap_remove(&g->aging, number);
    if (t->place != PLACE_THROTTLED && --g->admissible == 0)
        g->awaited_ns = VGPU_SCHED_NEVER;
    t->place = PLACE_NONE;
    t->waiting = false;
}

void sched_release_throttled(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns)
{
    while (g->throttled.count && g->throttled.entry[0].key <= (__int128)now_ns) {
        uint32_t number = g->throttled.entry[0].number;
        sched_dequeue(s, number);
        sched_enqueue(s, number, now_ns, now_ns);
    }
}

/* Moves those over whom the class's virtual time has caught up with. */
static void release_eligible(struct vgpu_sched *s, struct gpu *g)
{
    for (uint32_t p = 0; p < VGPU_SCHED_PRIORITIES; p++) {
        struct vgpu_heap *ahead = &g->ahead[p];
        if (!ahead->count)
            continue;
        __int128 now_v = sched_class_v(&g->classes[s->config.mode == VGPU_SCHED_STRICT ? p : 0]);
        while (ahead->count && ahead->entry[0].key <= now_v) {
            uint32_t number = ahead->entry[0].number;
            struct tenant *t = &s->tenants[number];
            vgpu_heap_remove(ahead, number);
            t->place = PLACE_BEHIND;
            vgpu_heap_add(&g->behind[p], number, t->v + sched_to_v(t, s->config.quantum_ns));
            if (!vgpu_heap_has(&g->aging, number))
                vgpu_heap_add(&g->aging, number, (__int128)t->since_ns);
        }
    }
}

uint64_t sched_aging_end(const struct vgpu_sched *s, const struct gpu *g)
{
    if (!g->aging.count)
        return VGPU_SCHED_NEVER;
    uint64_t since = (uint64_t)g->aging.entry[0].key;
    return sched_later(sched_add_time(since, s->config.aging_ns), g->aged_again_ns);
}

/* By priority and share. In weighted mode only who is eligible is urgent: beyond its share a high
 * priority is as good as any other. */
static struct sched_turn best_by_share(const struct vgpu_sched *s, const struct gpu *g)
{
    for (uint32_t p = VGPU_SCHED_PRIORITIES; p-- > 0;) {
        if (g->behind[p].count)
            return (struct sched_turn){.tenant = g->behind[p].entry[0].number, .urgent = true};
        /* In its own class nobody else may be waiting to be caught up with. */
        if (s->config.mode == VGPU_SCHED_STRICT && g->ahead[p].count)
            return (struct sched_turn){.tenant = g->ahead[p].entry[0].number, .urgent = true};
    }
    /* Only holders are behind: no reason to let the GPU wait for them. */
    struct sched_turn best = {.tenant = VGPU_SCHED_NOBODY};
    for (uint32_t p = VGPU_SCHED_PRIORITIES; p-- > 0;)
        if (g->ahead[p].count && (best.tenant == VGPU_SCHED_NOBODY ||
                                  g->ahead[p].entry[0].key < s->tenants[best.tenant].v))
            best.tenant = g->ahead[p].entry[0].number;
    return best;
}

struct sched_turn sched_best(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns)
{
    if (!g->admissible)
        return (struct sched_turn){.tenant = VGPU_SCHED_NOBODY};
    release_eligible(s, g);
    struct sched_turn best = best_by_share(s, g);
    if (now_ns < sched_aging_end(s, g))
        return best;
    uint32_t oldest = g->aging.entry[0].number;
    return (struct sched_turn){.tenant = oldest, .aged = true, .gift = oldest != best.tenant};
}
