/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shares by virtual time, priorities, rates, aging, watchdog; see sched.h.
 *
 * Within a class (all of a GPU's tenants, or in strict mode those of one priority) this is earliest
 * eligible virtual deadline first (Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline
 * First", 1995): a tenant's virtual time is the lease time it had, divided by its weight; the
 * class's is the average of its active tenants', weighted. Who is not ahead of the average is
 * eligible, and of those the one goes first whose next quantum would be due first. That keeps
 * everybody's lag within one quantum and what a lease overruns it by.
 */
#include "mediator/sched/sched.h"

#include <errno.h>
#include <stdlib.h>

#include "mediator/sched/heap.h"
#include "vgpu/registers.h"

#define NOBODY   UINT32_MAX
#define NEVER    UINT64_MAX
#define V_SHIFT  16 /* virtual times are 1/65536 ns at weight 1 */
#define PER_RATE 1000

enum place { PLACE_NONE, PLACE_BEHIND, PLACE_AHEAD, PLACE_THROTTLED };

struct tenant {
    bool present;
    bool waiting; /* for a lease, and holds none */
    bool holding;
    bool again; /* it holds one and wants the next */
    bool active;
    struct vgpu_sched_tenant is;
    uint64_t weight; /* with its priority's factor */
    __int128 v;
    enum place place;
    uint64_t since_ns;       /* waiting: since when */
    uint32_t older, younger; /* of those who wait and may be served */
    bool aging;              /* in that list */
    int64_t tokens_ns;
    uint64_t refilled_ns;
    uint64_t throttles;
};

/* Those who share by virtual time. */
struct class
{
    __int128 sum;    /* of weight * v, of the active ones */
    uint64_t weight; /* of the active ones */
    __int128 v;      /* as it was when the last one left */
};

struct holder {
    uint32_t tenant; /* NOBODY: free */
    uint64_t start_ns, charged_ns;
    bool recalled, killed;
    bool aged;          /* it waited too long: its turn is not cut short */
    uint64_t recall_ns; /* end of the grace; only ever moves to an earlier time */
};

struct gpu {
    struct class classes[VGPU_SCHED_PRIORITIES];
    struct vgpu_heap behind[VGPU_SCHED_PRIORITIES]; /* eligible, by virtual deadline */
    struct vgpu_heap ahead[VGPU_SCHED_PRIORITIES];  /* not yet, by virtual time */
    struct vgpu_heap throttled;                     /* by when they may go on */
    uint32_t oldest, youngest; /* who wait and may be served, in order of since_ns */
    uint32_t admissible;       /* how many */
    uint64_t awaited_ns;       /* since when there always was one; NEVER: there is none */
    struct holder holder[VGPU_SCHED_SLOTS_MAX];
    uint32_t held;
};

struct vgpu_sched {
    struct vgpu_sched_config config;
    struct gpu *gpus;
    struct tenant *tenants;
    uint32_t *places;                /* of all heaps */
    struct vgpu_heap_entry *entries; /* the same */
};

static uint64_t add_time(uint64_t a, uint64_t b)
{
    return a > NEVER - b ? NEVER : a + b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- Virtual time ---- */

static struct class *class_of(struct vgpu_sched *s, const struct tenant *t)
{
    return &s->gpus[t->is.gpu].classes[s->config.mode == VGPU_SCHED_STRICT ? t->is.priority : 0];
}

static __int128 class_v(const struct class *c)
{
    return c->weight ? c->sum / (__int128)c->weight : c->v;
}

static __int128 quantum_v(const struct vgpu_sched *s, const struct tenant *t)
{
    return ((__int128)s->config.quantum_ns << V_SHIFT) / (__int128)t->weight;
}

/*
 * What it was ahead of its share when it left still counts; of what it was behind, one quantum at
 * most, measured against the average with itself in it. So a worker that returns a lease and wants
 * the next one in two messages loses nothing, and nobody saves up turns by staying away.
 */
static void join(struct vgpu_sched *s, struct tenant *t)
{
    struct class *c = class_of(s, t);
    if (t->active)
        return;
    __int128 behind = quantum_v(s, t);
    if (c->weight)
        behind += behind * (__int128)t->weight / (__int128)c->weight;
    __int128 least = class_v(c) - behind;
    if (t->v < least)
        t->v = least;
    t->active = true;
    c->sum += t->v * (__int128)t->weight;
    c->weight += t->weight;
}

static void leave(struct vgpu_sched *s, struct tenant *t)
{
    struct class *c = class_of(s, t);
    if (!t->active)
        return;
    t->active = false;
    if (c->weight == t->weight)
        c->v = t->v;
    c->sum -= t->v * (__int128)t->weight;
    c->weight -= t->weight;
}

static void charge(struct vgpu_sched *s, struct tenant *t, uint64_t ns)
{
    __int128 step = ((__int128)ns << V_SHIFT) / (__int128)t->weight;
    t->v += step;
    class_of(s, t)->sum += step * (__int128)t->weight;
    if (t->is.rate)
        t->tokens_ns -= (int64_t)ns;
}

static void refill(struct tenant *t, uint64_t now_ns)
{
    if (!t->is.rate || now_ns <= t->refilled_ns)
        return;
    uint64_t passed = now_ns - t->refilled_ns;
    /* What is earned in whole thousandths; the rest of the time is earned from later. */
    uint64_t most = (uint64_t)INT64_MAX / 4 / PER_RATE;
    if (passed > most)
        passed = most;
    uint64_t earned = passed * t->is.rate / PER_RATE;
    t->refilled_ns = passed == most ? now_ns : t->refilled_ns + earned * PER_RATE / t->is.rate;
    t->tokens_ns += (int64_t)earned;
    if (t->tokens_ns >= (int64_t)t->is.burst_ns) {
        t->tokens_ns = (int64_t)t->is.burst_ns;
        t->refilled_ns = now_ns;
    }
}

/* Brings all holders' accounts up to now. */
static void settle(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns)
{
    for (uint32_t i = 0; g->held && i < VGPU_SCHED_SLOTS_MAX; i++) {
        struct holder *h = &g->holder[i];
        if (h->tenant == NOBODY || now_ns <= h->charged_ns)
            continue;
        struct tenant *t = &s->tenants[h->tenant];
        charge(s, t, now_ns - h->charged_ns);
        refill(t, now_ns); /* after: what it earned meanwhile is not cut off at the burst */
        h->charged_ns = now_ns;
    }
}

/* ---- Who waits ---- */

static void enter_age(struct vgpu_sched *s, struct gpu *g, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = &s->tenants[number];
    t->aging = true;
    t->since_ns = now_ns;
    t->younger = NOBODY;
    t->older = g->youngest;
    if (g->youngest == NOBODY)
        g->oldest = number;
    else
        s->tenants[g->youngest].younger = number;
    g->youngest = number;
    if (g->admissible++ == 0)
        g->awaited_ns = now_ns;
}

static void leave_age(struct vgpu_sched *s, struct gpu *g, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    t->aging = false;
    if (t->older == NOBODY)
        g->oldest = t->younger;
    else
        s->tenants[t->older].younger = t->younger;
    if (t->younger == NOBODY)
        g->youngest = t->older;
    else
        s->tenants[t->younger].older = t->older;
    if (--g->admissible == 0)
        g->awaited_ns = NEVER;
}

/* Tokens with which one who had none goes on: enough for a lease worth switching for. */
static int64_t enough_tokens(const struct vgpu_sched *s, const struct tenant *t)
{
    uint64_t ns = t->is.burst_ns < s->config.quantum_ns ? t->is.burst_ns : s->config.quantum_ns;
    return (int64_t)ns;
}

static uint64_t throttled_until(const struct vgpu_sched *s, const struct tenant *t)
{
    uint64_t lack = (uint64_t)(enough_tokens(s, t) - t->tokens_ns);
    uint64_t wait = lack > NEVER / 2 / PER_RATE ? NEVER / 2 : lack * PER_RATE / t->is.rate + 1;
    return add_time(t->refilled_ns, wait);
}

/* Puts one who waits where its virtual time says. */
static void place(struct vgpu_sched *s, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    if (t->v <= class_v(class_of(s, t))) {
        t->place = PLACE_BEHIND;
        vgpu_heap_add(&g->behind[t->is.priority], number, t->v + quantum_v(s, t));
    } else {
        t->place = PLACE_AHEAD;
        vgpu_heap_add(&g->ahead[t->is.priority], number, t->v);
    }
}

static void enqueue(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    refill(t, now_ns);
    t->waiting = true;
    if (t->is.rate && t->tokens_ns <= 0) {
        leave(s, t);
        t->place = PLACE_THROTTLED;
        t->since_ns = now_ns;
        t->throttles++;
        vgpu_heap_add(&g->throttled, number, (__int128)throttled_until(s, t));
        return;
    }
    join(s, t);
    place(s, number);
    enter_age(s, g, number, now_ns);
}

static void dequeue(struct vgpu_sched *s, uint32_t number)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    if (t->place == PLACE_BEHIND)
        vgpu_heap_remove(&g->behind[t->is.priority], number);
    else if (t->place == PLACE_AHEAD)
        vgpu_heap_remove(&g->ahead[t->is.priority], number);
    else
        vgpu_heap_remove(&g->throttled, number);
    if (t->aging)
        leave_age(s, g, number);
    t->place = PLACE_NONE;
    t->waiting = false;
}

/* Lets those whose rate allows it again wait in earnest. */
static void release_throttled(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns)
{
    while (g->throttled.count && g->throttled.entry[0].key <= (__int128)now_ns) {
        uint32_t number = g->throttled.entry[0].number;
        dequeue(s, number);
        enqueue(s, number, now_ns);
    }
}

/* Moves those over whom the class's virtual time has caught up with. */
static void release_eligible(struct vgpu_sched *s, struct gpu *g, uint32_t priority)
{
    struct vgpu_heap *ahead = &g->ahead[priority];
    const struct class *c = &g->classes[s->config.mode == VGPU_SCHED_STRICT ? priority : 0];
    while (ahead->count && ahead->entry[0].key <= class_v(c)) {
        uint32_t number = ahead->entry[0].number;
        struct tenant *t = &s->tenants[number];
        vgpu_heap_remove(ahead, number);
        t->place = PLACE_BEHIND;
        vgpu_heap_add(&g->behind[priority], number, t->v + quantum_v(s, t));
    }
}

static bool has_aged(const struct vgpu_sched *s, const struct tenant *t, uint64_t now_ns)
{
    return now_ns >= add_time(t->since_ns, s->config.aging_ns);
}

/*
 * Who is served next. *urgent: it has priority over any lower one that runs. In weighted mode only
 * who is eligible has: beyond its share a high priority is as good as any other.
 */
static uint32_t best_waiting(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns, bool *urgent)
{
    *urgent = false;
    if (g->oldest == NOBODY)
        return NOBODY;
    if (has_aged(s, &s->tenants[g->oldest], now_ns))
        return g->oldest;
    *urgent = true;
    for (uint32_t p = VGPU_SCHED_PRIORITIES; p-- > 0;) {
        release_eligible(s, g, p);
        if (g->behind[p].count)
            return g->behind[p].entry[0].number;
        /* In its own class nobody else may be waiting to be caught up with. */
        if (s->config.mode == VGPU_SCHED_STRICT && g->ahead[p].count)
            return g->ahead[p].entry[0].number;
    }
    /* Only holders are behind: no reason to let the GPU wait for them. */
    *urgent = false;
    uint32_t best = NOBODY;
    for (uint32_t p = VGPU_SCHED_PRIORITIES; p-- > 0;)
        if (g->ahead[p].count && (best == NOBODY || g->ahead[p].entry[0].key < s->tenants[best].v))
            best = g->ahead[p].entry[0].number;
    return best;
}

/* ---- Life ---- */

static bool valid(const struct vgpu_sched_config *c)
{
    bool factors = true;
    for (uint32_t p = 0; p < VGPU_SCHED_PRIORITIES; p++)
        factors = factors && c->factor[p] >= 1 && c->factor[p] <= VGPU_SCHED_FACTOR_MAX;
    return factors && c->slots >= 1 && c->slots <= VGPU_SCHED_SLOTS_MAX && c->quantum_ns >= 1 &&
           c->quantum_ns <= (uint64_t)1 << 40 && c->mode <= VGPU_SCHED_STRICT;
}

void vgpu_sched_destroy(struct vgpu_sched *s)
{
    if (!s)
        return;
    free(s->entries);
    free(s->places);
    free(s->tenants);
    free(s->gpus);
    free(s);
}

struct vgpu_sched *vgpu_sched_create(const struct vgpu_sched_config *config)
{
    enum { HEAPS = 2 * VGPU_SCHED_PRIORITIES + 1 };
    if (!valid(config))
        return NULL;
    struct vgpu_sched *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    size_t tenants = config->tenants ? config->tenants : 1, gpus = config->gpus ? config->gpus : 1;
    s->config = *config;
    s->gpus = calloc(gpus, sizeof(*s->gpus));
    s->tenants = calloc(tenants, sizeof(*s->tenants));
    s->places = calloc(tenants * gpus * HEAPS, sizeof(*s->places));
    s->entries = calloc(tenants * gpus * HEAPS, sizeof(*s->entries));
    if (!s->gpus || !s->tenants || !s->places || !s->entries) {
        vgpu_sched_destroy(s);
        return NULL;
    }
    for (size_t i = 0; i < tenants * gpus * HEAPS; i++)
        s->places[i] = VGPU_HEAP_NOWHERE;
    size_t used = 0;
    for (size_t i = 0; i < gpus; i++) {
        struct gpu *g = &s->gpus[i];
        struct vgpu_heap *heaps[HEAPS];
        for (uint32_t p = 0; p < VGPU_SCHED_PRIORITIES; p++) {
            heaps[2 * p] = &g->behind[p];
            heaps[2 * p + 1] = &g->ahead[p];
        }
        heaps[HEAPS - 1] = &g->throttled;
        for (unsigned h = 0; h < HEAPS; h++, used += tenants)
            *heaps[h] = (struct vgpu_heap){.entry = s->entries + used, .place = s->places + used};
        g->oldest = g->youngest = NOBODY;
        g->awaited_ns = NEVER;
        for (uint32_t k = 0; k < VGPU_SCHED_SLOTS_MAX; k++)
            g->holder[k].tenant = NOBODY;
    }
    return s;
}

static struct tenant *find_tenant(struct vgpu_sched *s, uint32_t number)
{
    return number < s->config.tenants && s->tenants[number].present ? &s->tenants[number] : NULL;
}

static bool valid_tenant(const struct vgpu_sched *s, const struct vgpu_sched_tenant *w)
{
    return w->gpu < s->config.gpus && w->priority < VGPU_SCHED_PRIORITIES && w->weight >= 1 &&
           w->weight <= VGPU_SCHED_WEIGHT_MAX && w->rate <= PER_RATE &&
           w->burst_ns <= (uint64_t)1 << 60 && (!w->rate || w->burst_ns >= 1);
}

static uint64_t full_weight(const struct vgpu_sched *s, const struct vgpu_sched_tenant *w)
{
    uint64_t factor = s->config.mode == VGPU_SCHED_WEIGHTED ? s->config.factor[w->priority] : 1;
    return w->weight * factor;
}

int vgpu_sched_tenant_add(struct vgpu_sched *s, uint32_t number,
                          const struct vgpu_sched_tenant *what, uint64_t now_ns)
{
    if (number >= s->config.tenants || s->tenants[number].present || !valid_tenant(s, what))
        return -EINVAL;
    s->tenants[number] = (struct tenant){.present = true,
                                         .is = *what,
                                         .weight = full_weight(s, what),
                                         .older = NOBODY,
                                         .younger = NOBODY,
                                         .tokens_ns = (int64_t)what->burst_ns,
                                         .refilled_ns = now_ns};
    return 0;
}

static struct holder *holder_of(struct gpu *g, uint32_t number)
{
    for (uint32_t i = 0; i < VGPU_SCHED_SLOTS_MAX; i++)
        if (g->holder[i].tenant == number)
            return &g->holder[i];
    return NULL;
}

void vgpu_sched_returned(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t || !t->holding)
        return;
    struct gpu *g = &s->gpus[t->is.gpu];
    settle(s, g, now_ns);
    *holder_of(g, number) = (struct holder){.tenant = NOBODY};
    g->held--;
    t->holding = false;
    if (t->again) {
        t->again = false;
        enqueue(s, number, now_ns);
    } else {
        leave(s, t);
    }
}

void vgpu_sched_want(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t || t->waiting)
        return;
    if (t->holding) {
        t->again = true;
        return;
    }
    settle(s, &s->gpus[t->is.gpu], now_ns);
    enqueue(s, number, now_ns);
}

void vgpu_sched_unwant(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t)
        return;
    t->again = false;
    if (!t->waiting)
        return;
    settle(s, &s->gpus[t->is.gpu], now_ns);
    dequeue(s, number);
    leave(s, t);
}

void vgpu_sched_tenant_remove(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t)
        return;
    vgpu_sched_unwant(s, number, now_ns);
    vgpu_sched_returned(s, number, now_ns);
    t->present = false;
}

/* Takes a tenant out of its class and puts it back under what it is from now on. */
static void become(struct vgpu_sched *s, uint32_t number, const struct vgpu_sched_tenant *what,
                   uint64_t now_ns)
{
    struct tenant *t = &s->tenants[number];
    settle(s, &s->gpus[t->is.gpu], now_ns);
    bool waiting = t->waiting, moves = what->gpu != t->is.gpu;
    if (waiting)
        dequeue(s, number);
    struct class *old = class_of(s, t);
    __int128 ahead = t->v - class_v(old);
    bool active = t->active;
    leave(s, t);
    refill(t, now_ns);
    bool rated = t->is.rate != 0;
    t->is = *what;
    t->weight = full_weight(s, what);
    if (!rated || t->tokens_ns > (int64_t)what->burst_ns) {
        t->tokens_ns = (int64_t)what->burst_ns;
        t->refilled_ns = now_ns;
    }
    /* Virtual times of two classes have nothing to do with each other. */
    if (moves || class_of(s, t) != old)
        t->v = class_v(class_of(s, t)) + (ahead > 0 ? ahead : 0);
    if (active && t->holding)
        join(s, t);
    if (waiting)
        enqueue(s, number, now_ns);
}

int vgpu_sched_tenant_change(struct vgpu_sched *s, uint32_t number,
                             const struct vgpu_sched_tenant *what, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t || !valid_tenant(s, what))
        return -EINVAL;
    if (t->holding && what->gpu != t->is.gpu)
        return -EBUSY;
    become(s, number, what, now_ns);
    return 0;
}

int vgpu_sched_configure(struct vgpu_sched *s, const struct vgpu_sched_config *config,
                         uint64_t now_ns)
{
    struct vgpu_sched_config c = *config;
    c.tenants = s->config.tenants;
    c.gpus = s->config.gpus;
    c.mode = s->config.mode;
    if (!valid(&c))
        return -EINVAL;
    for (uint32_t i = 0; i < c.gpus; i++)
        settle(s, &s->gpus[i], now_ns);
    s->config = c;
    for (uint32_t number = 0; number < c.tenants; number++)
        if (s->tenants[number].present) {
            struct vgpu_sched_tenant same = s->tenants[number].is;
            become(s, number, &same, now_ns);
        }
    return 0;
}

/* ---- Decisions ---- */

/* When a holder's rate is used up; NEVER: it has none. */
static uint64_t rate_end(const struct tenant *t, uint64_t now_ns)
{
    if (!t->is.rate || t->is.rate == PER_RATE)
        return NEVER;
    if (t->tokens_ns <= 0)
        return now_ns;
    uint64_t left = (uint64_t)t->tokens_ns;
    if (left > NEVER / 2 / PER_RATE)
        return NEVER;
    return add_time(now_ns, left * PER_RATE / (PER_RATE - t->is.rate) + 1);
}

/* When the holder has to be done, given who waits. */
static uint64_t grace_end(const struct vgpu_sched *s, const struct holder *h, uint32_t waiter,
                          bool urgent, uint64_t now_ns)
{
    const struct tenant *w = &s->tenants[waiter], *t = &s->tenants[h->tenant];
    if (urgent && w->is.priority > t->is.priority && !h->aged)
        return now_ns;
    uint64_t end = add_time(h->start_ns, s->config.quantum_ns);
    if (s->config.mode == VGPU_SCHED_STRICT && w->is.priority < t->is.priority)
        end = later(end, add_time(w->since_ns, s->config.aging_ns));
    return later(end, now_ns);
}

static uint64_t kill_time(const struct vgpu_sched *s, const struct gpu *g, const struct holder *h)
{
    return add_time(later(g->awaited_ns, h->recall_ns), s->config.watchdog_ns);
}

static bool recall(struct vgpu_sched *s, struct holder *h, uint64_t end, bool below,
                   uint64_t now_ns, struct vgpu_sched_decision *out)
{
    /* A grace that has ended cannot be made shorter; one that runs only by a nearer end. */
    if (h->recalled && (h->recall_ns <= now_ns || end >= h->recall_ns))
        return false;
    h->recalled = true;
    h->recall_ns = end;
    out->action = VGPU_SCHED_RECALL;
    out->tenant = h->tenant;
    out->grace_ns = end - now_ns;
    out->linger_ns = below && end > now_ns ? s->config.linger_ns : 0;
    return true;
}

/* Somebody waits and every slot is taken, or a holder's rate is used up. */
static bool decide_held(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns,
                        struct vgpu_sched_decision *out)
{
    bool urgent;
    uint32_t waiter = best_waiting(s, g, now_ns, &urgent), recalled = 0;
    bool full = g->held >= s->config.slots;
    struct holder *first = NULL;
    uint64_t first_end = NEVER;
    for (uint32_t i = 0; i < VGPU_SCHED_SLOTS_MAX; i++) {
        struct holder *h = &g->holder[i];
        if (h->tenant == NOBODY)
            continue;
        if (h->recalled && !h->killed && waiter != NOBODY && now_ns >= kill_time(s, g, h)) {
            h->killed = true;
            out->action = VGPU_SCHED_KILL;
            out->tenant = h->tenant;
            return true;
        }
        if (rate_end(&s->tenants[h->tenant], now_ns) <= now_ns &&
            recall(s, h, now_ns, false, now_ns, out))
            return true;
        recalled += h->recalled;
        if (waiter == NOBODY || !full)
            continue;
        uint64_t end = grace_end(s, h, waiter, urgent, now_ns);
        bool below = s->tenants[waiter].is.priority < s->tenants[h->tenant].is.priority;
        if (h->recalled && recall(s, h, end, below, now_ns, out))
            return true;
        if (!h->recalled && (!first || end < first_end)) {
            first = h;
            first_end = end;
        }
    }
    if (!first || recalled >= g->admissible)
        return false;
    bool below = s->tenants[waiter].is.priority < s->tenants[first->tenant].is.priority;
    return recall(s, first, first_end, below, now_ns, out);
}

static bool decide_free(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns,
                        struct vgpu_sched_decision *out)
{
    bool urgent;
    uint32_t number = best_waiting(s, g, now_ns, &urgent);
    if (number == NOBODY)
        return false;
    bool aged = has_aged(s, &s->tenants[number], now_ns);
    dequeue(s, number);
    struct holder *h = holder_of(g, NOBODY);
    *h = (struct holder){.tenant = number, .start_ns = now_ns, .charged_ns = now_ns, .aged = aged};
    g->held++;
    s->tenants[number].holding = true;
    out->action = VGPU_SCHED_GRANT;
    out->tenant = number;
    return true;
}

bool vgpu_sched_next(struct vgpu_sched *s, uint64_t now_ns, struct vgpu_sched_decision *out)
{
    for (uint32_t number = 0; number < s->config.gpus; number++) {
        struct gpu *g = &s->gpus[number];
        if (!g->held && !g->admissible && !g->throttled.count)
            continue;
        *out = (struct vgpu_sched_decision){.gpu = number};
        settle(s, g, now_ns);
        release_throttled(s, g, now_ns);
        if (g->held < s->config.slots && decide_free(s, g, now_ns, out))
            return true;
        if (g->held && decide_held(s, g, now_ns, out))
            return true;
    }
    return false;
}

uint64_t vgpu_sched_deadline(struct vgpu_sched *s, uint64_t now_ns)
{
    uint64_t first = NEVER;
    for (uint32_t number = 0; number < s->config.gpus; number++) {
        struct gpu *g = &s->gpus[number];
        settle(s, g, now_ns);
        if (g->throttled.count && g->throttled.entry[0].key < (__int128)first)
            first = (uint64_t)g->throttled.entry[0].key;
        /* Who comes of age may be worth an earlier end than the one that was said. */
        if (g->held && g->oldest != NOBODY && !has_aged(s, &s->tenants[g->oldest], now_ns)) {
            uint64_t aged = add_time(s->tenants[g->oldest].since_ns, s->config.aging_ns);
            first = aged < first ? aged : first;
        }
        for (uint32_t i = 0; g->held && i < VGPU_SCHED_SLOTS_MAX; i++) {
            const struct holder *h = &g->holder[i];
            if (h->tenant == NOBODY)
                continue;
            uint64_t at = NEVER;
            if (!h->recalled)
                at = rate_end(&s->tenants[h->tenant], now_ns);
            else if (!h->killed && g->admissible)
                at = kill_time(s, g, h);
            if (h->recalled && h->recall_ns > now_ns) {
                uint64_t rate = rate_end(&s->tenants[h->tenant], now_ns);
                at = rate < at ? rate : at;
            }
            first = at < first ? at : first;
        }
    }
    return first;
}

/* ---- To look inside ---- */

void vgpu_sched_look(struct vgpu_sched *s, uint32_t number, uint64_t now_ns,
                     struct vgpu_sched_view *view)
{
    *view = (struct vgpu_sched_view){.present = false};
    struct tenant *t = find_tenant(s, number);
    if (!t)
        return;
    struct gpu *g = &s->gpus[t->is.gpu];
    settle(s, g, now_ns);
    refill(t, now_ns);
    view->present = true;
    view->waiting = t->waiting || t->again;
    view->holding = t->holding;
    view->recalled = t->holding && holder_of(g, number)->recalled;
    view->throttled = t->place == PLACE_THROTTLED;
    view->since_ns = t->since_ns;
    view->throttles = t->throttles;
    view->tokens_ns = t->tokens_ns;
    if (t->active)
        view->lag_ns =
            (int64_t)(((class_v(class_of(s, t)) - t->v) * (__int128)t->weight) >> V_SHIFT);
}

void vgpu_sched_look_gpu(struct vgpu_sched *s, uint32_t gpu, uint64_t now_ns, uint32_t *held,
                         uint32_t *admissible)
{
    *held = *admissible = 0;
    if (gpu >= s->config.gpus)
        return;
    settle(s, &s->gpus[gpu], now_ns);
    *held = s->gpus[gpu].held;
    *admissible = s->gpus[gpu].admissible;
}
