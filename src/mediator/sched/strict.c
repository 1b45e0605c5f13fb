/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first policy: strict priority, FIFO within a priority; see sched.h. */
#include "mediator/sched/sched.h"

#include <errno.h>
#include <stdlib.h>

#include "vgpu/registers.h"

#define NOBODY UINT32_MAX

struct tenant {
    bool present;
    bool waiting;
    uint32_t gpu;
    uint32_t priority;
    uint32_t previous, next; /* in the queue it waits in */
};

struct queue {
    uint32_t head, tail;
};

struct gpu {
    uint32_t holder;
    uint64_t start_ns; /* of the lease */
    bool recalled;
    uint64_t recall_ns; /* end of the grace; only ever moves to an earlier time */
    bool awaited;       /* somebody waits for what was recalled ... */
    uint64_t await_ns;  /* ... since then: who comes later has not waited longer */
    bool killed;
    struct queue waiting[VGPU_PRIORITY_COUNT];
};

struct vgpu_sched {
    struct vgpu_sched_config config;
    struct gpu *gpus;
    struct tenant *tenants;
};

static uint64_t add_time(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void enqueue(struct vgpu_sched *s, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    struct queue *q = &s->gpus[t->gpu].waiting[t->priority];
    t->waiting = true;
    t->next = NOBODY;
    t->previous = q->tail;
    if (q->tail == NOBODY)
        q->head = number;
    else
        s->tenants[q->tail].next = number;
    q->tail = number;
}

static void dequeue(struct vgpu_sched *s, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    struct queue *q = &s->gpus[t->gpu].waiting[t->priority];
    t->waiting = false;
    if (t->previous == NOBODY)
        q->head = t->next;
    else
        s->tenants[t->previous].next = t->next;
    if (t->next == NOBODY)
        q->tail = t->previous;
    else
        s->tenants[t->next].previous = t->previous;
}

/* The first in line, leaving out one tenant (the holder, who may wait for its next lease). */
static uint32_t first_waiting(const struct vgpu_sched *s, const struct gpu *g, uint32_t except)
{
    for (uint32_t p = VGPU_PRIORITY_COUNT; p-- > 0;) {
        uint32_t number = g->waiting[p].head;
        if (number != NOBODY && number == except)
            number = s->tenants[number].next;
        if (number != NOBODY)
            return number;
    }
    return NOBODY;
}

static void strict_destroy(struct vgpu_sched *s)
{
    if (!s)
        return;
    free(s->gpus);
    free(s->tenants);
    free(s);
}

static struct vgpu_sched *strict_create(const struct vgpu_sched_config *config)
{
    struct vgpu_sched *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->config = *config;
    s->gpus = calloc(config->gpus ? config->gpus : 1, sizeof(*s->gpus));
    s->tenants = calloc(config->tenants ? config->tenants : 1, sizeof(*s->tenants));
    if (!s->gpus || !s->tenants) {
        strict_destroy(s);
        return NULL;
    }
    for (uint32_t g = 0; g < config->gpus; g++) {
        s->gpus[g].holder = NOBODY;
        for (uint32_t p = 0; p < VGPU_PRIORITY_COUNT; p++)
            s->gpus[g].waiting[p] = (struct queue){NOBODY, NOBODY};
    }
    return s;
}

static void strict_configure(struct vgpu_sched *s, const struct vgpu_sched_config *config)
{
    s->config.quantum_ns = config->quantum_ns;
    s->config.yield_ns = config->yield_ns;
    s->config.watchdog_ns = config->watchdog_ns;
}

static struct tenant *find_tenant(struct vgpu_sched *s, uint32_t number)
{
    return number < s->config.tenants && s->tenants[number].present ? &s->tenants[number] : NULL;
}

static int strict_tenant_add(struct vgpu_sched *s, uint32_t number, uint32_t gpu, uint32_t priority)
{
    if (number >= s->config.tenants || s->tenants[number].present || gpu >= s->config.gpus ||
        priority >= VGPU_PRIORITY_COUNT)
        return -EINVAL;
    s->tenants[number] = (struct tenant){.present = true, .gpu = gpu, .priority = priority};
    return 0;
}

static void strict_returned(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    (void)now_ns;
    struct tenant *t = find_tenant(s, number);
    if (!t || s->gpus[t->gpu].holder != number)
        return;
    s->gpus[t->gpu].holder = NOBODY;
    s->gpus[t->gpu].recalled = false;
    s->gpus[t->gpu].killed = false;
}

static void strict_want(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    (void)now_ns;
    struct tenant *t = find_tenant(s, number);
    if (t && !t->waiting)
        enqueue(s, number);
}

static void strict_unwant(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    (void)now_ns;
    struct tenant *t = find_tenant(s, number);
    if (t && t->waiting)
        dequeue(s, number);
}

static void strict_tenant_remove(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t)
        return;
    strict_unwant(s, number, now_ns);
    strict_returned(s, number, now_ns);
    t->present = false;
}

static void strict_tenant_priority(struct vgpu_sched *s, uint32_t number, uint32_t priority,
                                   uint64_t now_ns)
{
    (void)now_ns;
    struct tenant *t = find_tenant(s, number);
    if (!t || priority >= VGPU_PRIORITY_COUNT || t->priority == priority)
        return;
    bool waiting = t->waiting;
    if (waiting)
        dequeue(s, number);
    t->priority = priority;
    if (waiting)
        enqueue(s, number);
}

/* When the holder has to be done, given who waits. */
static uint64_t grace_end(const struct vgpu_sched *s, const struct gpu *g, uint32_t waiter,
                          uint64_t now_ns)
{
    uint32_t theirs = s->tenants[waiter].priority, own = s->tenants[g->holder].priority;
    if (theirs > own)
        return now_ns;
    if (theirs < own)
        return add_time(now_ns, s->config.yield_ns);
    uint64_t end = add_time(g->start_ns, s->config.quantum_ns);
    return end > now_ns ? end : now_ns;
}

/* Of a lease that was recalled and that somebody waits for. */
static uint64_t kill_time(const struct vgpu_sched *s, const struct gpu *g)
{
    uint64_t from = g->await_ns > g->recall_ns ? g->await_ns : g->recall_ns;
    return add_time(from, s->config.watchdog_ns);
}

static bool decide_held(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns,
                        struct vgpu_sched_decision *out)
{
    if (g->killed)
        return false;
    out->tenant = g->holder;
    uint32_t waiter = first_waiting(s, g, g->holder);
    if (waiter == NOBODY) {
        g->awaited = false;
        return false;
    }
    if (!g->awaited) {
        g->awaited = true;
        g->await_ns = now_ns;
    }
    if (g->recalled && now_ns >= kill_time(s, g)) {
        g->killed = true;
        out->action = VGPU_SCHED_KILL;
        return true;
    }
    uint64_t end = grace_end(s, g, waiter, now_ns);
    /* A grace that has ended cannot be made shorter; one that runs only by a nearer end. */
    if (g->recalled && (g->recall_ns <= now_ns || end >= g->recall_ns))
        return false;
    g->recalled = true;
    g->recall_ns = end;
    out->action = VGPU_SCHED_RECALL;
    out->grace_ns = end - now_ns;
    return true;
}

static bool strict_next(struct vgpu_sched *s, uint64_t now_ns, struct vgpu_sched_decision *out)
{
    for (uint32_t number = 0; number < s->config.gpus; number++) {
        struct gpu *g = &s->gpus[number];
        *out = (struct vgpu_sched_decision){.gpu = number};
        if (g->holder != NOBODY) {
            if (decide_held(s, g, now_ns, out))
                return true;
            continue;
        }
        uint32_t waiter = first_waiting(s, g, NOBODY);
        if (waiter == NOBODY)
            continue;
        dequeue(s, waiter);
        g->holder = waiter;
        g->start_ns = now_ns;
        g->recalled = false;
        g->awaited = false;
        g->killed = false;
        out->action = VGPU_SCHED_GRANT;
        out->tenant = waiter;
        return true;
    }
    return false;
}

static uint64_t strict_deadline(const struct vgpu_sched *s)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t number = 0; number < s->config.gpus; number++) {
        const struct gpu *g = &s->gpus[number];
        if (g->holder == NOBODY || !g->recalled || g->killed || !g->awaited ||
            first_waiting(s, g, g->holder) == NOBODY)
            continue;
        uint64_t at = kill_time(s, g);
        if (at < first)
            first = at;
    }
    return first;
}

const struct vgpu_sched_policy vgpu_sched_strict = {
    .name = "strict",
    .create = strict_create,
    .destroy = strict_destroy,
    .configure = strict_configure,
    .tenant_add = strict_tenant_add,
    .tenant_remove = strict_tenant_remove,
    .tenant_priority = strict_tenant_priority,
    .want = strict_want,
    .unwant = strict_unwant,
    .returned = strict_returned,
    .next = strict_next,
    .deadline = strict_deadline,
};
