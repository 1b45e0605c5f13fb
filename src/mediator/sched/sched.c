/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tenants and events; see sched.h. What follows from them is decided in decide.c. */
#include "mediator/sched/state.h"

#include <errno.h>
#include <stdlib.h>

#include "vgpu/registers.h"

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
    enum { HEAPS = 2 * VGPU_SCHED_PRIORITIES + 2 };
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
        heaps[HEAPS - 2] = &g->aging;
        heaps[HEAPS - 1] = &g->throttled;
        for (unsigned h = 0; h < HEAPS; h++, used += tenants)
            *heaps[h] = (struct vgpu_heap){.entry = s->entries + used, .place = s->places + used};
        g->awaited_ns = g->wake_ns = VGPU_SCHED_NEVER;
        for (uint32_t k = 0; k < VGPU_SCHED_SLOTS_MAX; k++)
            g->holder[k].tenant = VGPU_SCHED_NOBODY;
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
           w->weight <= VGPU_SCHED_WEIGHT_MAX && w->rate <= VGPU_SCHED_RATE &&
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
    struct tenant *t = &s->tenants[number];
    *t = (struct tenant){.present = true,
                         .is = *what,
                         .weight = full_weight(s, what),
                         .tokens_ns = (int64_t)what->burst_ns,
                         .refilled_ns = now_ns};
    /* Neither ahead nor behind: who leaves and comes back wins nothing by it. */
    t->v = sched_class_v(sched_class(s, t));
    return 0;
}

void vgpu_sched_debt(struct vgpu_sched *s, uint32_t number, uint64_t now_ns,
                     struct vgpu_sched_debt *debt)
{
    struct tenant *t = find_tenant(s, number);
    *debt = (struct vgpu_sched_debt){.known = false};
    if (!t)
        return;
    sched_settle(s, &s->gpus[t->is.gpu], now_ns);
    sched_refill(t, now_ns);
    *debt = (struct vgpu_sched_debt){
        .known = true,
        .gpu = t->is.gpu,
        .priority = t->is.priority,
        .v = t->v,
        .ahead_ns = sched_to_ns(t, t->v - sched_class_v(sched_class(s, t))),
        .spent_ns = t->is.rate ? (int64_t)t->is.burst_ns - t->tokens_ns : 0,
        .at_ns = now_ns,
    };
}

void vgpu_sched_owe(struct vgpu_sched *s, uint32_t number, const struct vgpu_sched_debt *debt,
                    uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t || t->active || t->waiting || !debt->known)
        return;
    __int128 now_v = sched_class_v(sched_class(s, t)), v = debt->v;
    bool same = debt->gpu == t->is.gpu &&
                (s->config.mode != VGPU_SCHED_STRICT || debt->priority == t->is.priority);
    if (!same) /* another clock: what it had too much counts, not when */
        v = now_v + (debt->ahead_ns > 0 ? sched_to_v(t, (uint64_t)debt->ahead_ns) : 0);
    if (v > t->v)
        t->v = v;
    if (t->is.rate && debt->spent_ns > 0) {
        t->tokens_ns = (int64_t)t->is.burst_ns - debt->spent_ns;
        t->refilled_ns = debt->at_ns < now_ns ? debt->at_ns : now_ns;
        sched_refill(t, now_ns);
    }
}

struct holder *sched_holder(struct gpu *g, uint32_t number)
{
    for (uint32_t i = 0; i < VGPU_SCHED_SLOTS_MAX; i++)
        if (g->holder[i].tenant == number)
            return &g->holder[i];
    return NULL;
}

/* What a lease that was given for age took, up to a quantum, is not held against its holder; and
 * three quarters of the time, as long as somebody waits, stay with those whose turn it is by share.
 */
static void end_aged(struct vgpu_sched *s, struct gpu *g, struct tenant *t, const struct holder *h,
                     uint64_t now_ns)
{
    uint64_t length = now_ns - h->start_ns, quantum = s->config.quantum_ns;
    sched_move(s, t, -sched_to_v(t, length < quantum ? length : quantum));
    uint64_t from = sched_later(h->start_ns, g->awaited_ns);
    uint64_t taken = now_ns > from ? now_ns - from : 0;
    uint64_t most =
        sched_add_time(quantum, s->config.watchdog_ns); /* no more can be its own doing */
    taken = taken < most ? taken : most;
    g->aged_again_ns = sched_add_time(now_ns, taken > VGPU_SCHED_NEVER / 3 ? taken : 3 * taken);
}

void vgpu_sched_returned(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t || !t->holding)
        return;
    struct gpu *g = &s->gpus[t->is.gpu];
    struct holder *h = sched_holder(g, number);
    sched_settle(s, g, now_ns);
    if (h->gift)
        end_aged(s, g, t, h, now_ns);
    bool made_to = h->recalled && now_ns >= h->recall_ns;
    __int128 owed = sched_class_v(sched_class(s, t)) - t->v;
    *h = (struct holder){.tenant = VGPU_SCHED_NOBODY};
    g->held--;
    g->touched = true;
    t->holding = false;
    if (t->again) {
        t->again = false;
        sched_enqueue(s, number, now_ns, now_ns);
    } else {
        sched_leave(s, t, now_ns);
        t->owed = made_to ? owed : 0;
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
    struct gpu *g = &s->gpus[t->is.gpu];
    sched_settle(s, g, now_ns);
    sched_enqueue(s, number, now_ns, now_ns);
    g->touched = true;
}

void vgpu_sched_unwant(struct vgpu_sched *s, uint32_t number, uint64_t now_ns)
{
    struct tenant *t = find_tenant(s, number);
    if (!t)
        return;
    t->again = false;
    if (!t->waiting)
        return;
    struct gpu *g = &s->gpus[t->is.gpu];
    sched_settle(s, g, now_ns);
    sched_dequeue(s, number);
    sched_leave(s, t, now_ns);
    g->touched = true;
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

/* Takes a tenant out of its class and puts it back under what it is from now on. What it had too
 * much or lacks, in lease time, and how long it has waited stay as they are. */
static void become(struct vgpu_sched *s, uint32_t number, const struct vgpu_sched_tenant *what,
                   uint64_t now_ns)
{
    struct tenant *t = &s->tenants[number];
    struct gpu *g = &s->gpus[t->is.gpu];
    sched_settle(s, g, now_ns);
    g->touched = true;
    bool waiting = t->waiting, moves = what->gpu != t->is.gpu;
    uint64_t since_ns = t->since_ns, throttles = t->throttles;
    enum vgpu_sched_place place = t->place;
    if (waiting)
        sched_dequeue(s, number);
    struct class *old = sched_class(s, t);
    __int128 ahead = (t->v - sched_class_v(old)) * (__int128)t->weight;
    bool active = t->active;
    sched_leave(s, t, now_ns);
    if (active)
        t->owed = -ahead / (__int128)t->weight;
    sched_refill(t, now_ns);
    bool rated = t->is.rate != 0;
    uint64_t weight = full_weight(s, what);
    bool reweighed = weight != t->weight;
    t->is = *what;
    t->weight = weight;
    if (!rated || t->tokens_ns > (int64_t)what->burst_ns) {
        t->tokens_ns = (int64_t)what->burst_ns;
        t->refilled_ns = now_ns;
    }
    /* Virtual times of two classes, or of two weights, have nothing to do with each other. */
    if (moves || reweighed || sched_class(s, t) != old) {
        t->v = sched_class_v(sched_class(s, t)) + ahead / (__int128)weight;
        t->owed = active ? -ahead / (__int128)weight : 0;
        t->rest = 0;
    }
    if (active && t->holding)
        sched_join(s, t, now_ns);
    if (waiting) {
        sched_enqueue(s, number, since_ns, now_ns);
        if (place == PLACE_THROTTLED)
            t->throttles = throttles;
        s->gpus[t->is.gpu].touched = true;
    }
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
        sched_settle(s, &s->gpus[i], now_ns);
    s->config = c;
    for (uint32_t number = 0; number < c.tenants; number++)
        if (s->tenants[number].present) {
            struct vgpu_sched_tenant same = s->tenants[number].is;
            become(s, number, &same, now_ns);
        }
    for (uint32_t i = 0; i < c.gpus; i++)
        s->gpus[i].touched = true;
    return 0;
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
    sched_settle(s, g, now_ns);
    sched_refill(t, now_ns);
    view->present = true;
    view->waiting = t->waiting || t->again;
    view->holding = t->holding;
    view->recalled = t->holding && sched_holder(g, number)->recalled;
    view->throttled = t->place == PLACE_THROTTLED;
    view->since_ns = t->since_ns;
    view->throttles = t->throttles;
    view->tokens_ns = t->tokens_ns;
    if (t->active)
        view->lag_ns = sched_to_ns(t, sched_class_v(sched_class(s, t)) - t->v);
}

void vgpu_sched_look_gpu(struct vgpu_sched *s, uint32_t gpu, uint64_t now_ns, uint32_t *held,
                         uint32_t *admissible)
{
    *held = *admissible = 0;
    if (gpu >= s->config.gpus)
        return;
    sched_settle(s, &s->gpus[gpu], now_ns);
    *held = s->gpus[gpu].held;
    *admissible = s->gpus[gpu].admissible;
}
