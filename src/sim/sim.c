/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtual time; see sim.h. */
#include "sim/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mediator/sched/heap.h"
#include "mediator/sched/place.h"

#define NEVER UINT64_MAX

enum activity { IDLE, STARTING, COMPUTING, LINGERING, STUCK, AWAY };

/* One VM's worker. */
struct actor {
    enum activity activity;
    bool wants, holds, recalled;
    bool begun; /* something under this lease: one that is over before still covers a kernel (W4) */
    uint64_t grace_end_ns, linger_ns;
    uint64_t wanted_ns, granted_ns, started_ns;
    uint64_t next_arrival_ns;
    uint64_t next_ns;      /* when its activity ends; NEVER */
    uint32_t kernels_left; /* of the request at work; 0: none is */
    uint64_t at_work_arrived_ns;
    uint64_t *queue; /* arrival times, a ring */
    uint32_t queue_head, queue_count, queue_room;
    bool faulted;
};

struct sim {
    const struct vgpu_sim_scenario *sc;
    struct vgpu_sim_run *run;
    struct vgpu_sched *sched;
    struct actor *actors;
    struct vgpu_heap timers; /* of actors: the next thing that happens to each */
    bool gpu_up[VGPU_SIM_GPUS_MAX];
    uint32_t waiting[VGPU_SIM_GPUS_MAX]; /* as noted last */
    uint32_t on_gpu[VGPU_SIM_GPUS_MAX];  /* VMs placed there */
    uint64_t now_ns;
    uint32_t next_event;
    uint64_t random;
    bool timed, out_of_memory;
};

/* xorshift64*: the same numbers on every machine. */
static double draw(struct sim *m)
{
    m->random ^= m->random >> 12;
    m->random ^= m->random << 25;
    m->random ^= m->random >> 27;
    return ((double)((m->random * 0x2545F4914F6CDD1Dull) >> 11) + 0.5) / 9007199254740992.0;
}

static uint64_t exponential(struct sim *m, uint64_t mean)
{
    return (uint64_t)(-log(draw(m)) * (double)mean) + 1;
}

static uint64_t kernel_length(struct sim *m, const struct vgpu_sim_vm *vm)
{
    switch (vm->length) {
    case VGPU_SIM_UNIFORM:
        return vm->kernel_ns +
               (uint64_t)(draw(m) * (double)(vm->kernel_max_ns - vm->kernel_ns + 1));
    case VGPU_SIM_EXPONENTIAL:
        return exponential(m, vm->kernel_ns);
    default:
        return vm->kernel_ns;
    }
}

static void sample(struct sim *m, struct vgpu_sim_samples *s, uint64_t value)
{
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 256;
        uint64_t *value_new = realloc(s->value, room * sizeof(*value_new));
        if (!value_new) {
            m->out_of_memory = true;
            return;
        }
        s->value = value_new;
        s->room = room;
    }
    s->value[s->count++] = value;
}

static void broken(struct sim *m, const char *what, uint32_t vm)
{
    if (!m->run->broken[0])
        snprintf(m->run->broken, sizeof(m->run->broken), "at %.6f s: %s (%s)",
                 (double)m->now_ns / 1e9, what, m->sc->vms[vm].name);
}

/* ---- A VM's timers ---- */

static void set_timer(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    uint64_t at = a->next_ns < a->next_arrival_ns ? a->next_ns : a->next_arrival_ns;
    if (vgpu_heap_has(&m->timers, i))
        vgpu_heap_remove(&m->timers, i);
    if (at != NEVER)
        vgpu_heap_add(&m->timers, i, (__int128)at);
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- What a VM does ---- */

static void push_request(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    if (a->queue_count == a->queue_room) {
        uint32_t room = a->queue_room ? 2 * a->queue_room : 16;
        uint64_t *queue = malloc(room * sizeof(*queue));
        if (!queue) {
            m->out_of_memory = true;
            return;
        }
        for (uint32_t k = 0; k < a->queue_count; k++)
            queue[k] = a->queue[(a->queue_head + k) % a->queue_room];
        free(a->queue);
        a->queue = queue;
        a->queue_head = 0;
        a->queue_room = room;
    }
    a->queue[(a->queue_head + a->queue_count++) % a->queue_room] = m->now_ns;
}

static bool has_work(const struct sim *m, uint32_t i)
{
    const struct actor *a = &m->actors[i];
    return a->kernels_left || a->queue_count;
}

static void want(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    if (a->wants || (a->holds && !a->recalled) || a->activity == AWAY)
        return;
    a->wants = true;
    a->wanted_ns = m->now_ns;
    vgpu_sched_want(m->sched, i, m->now_ns);
}

static void trace(struct sim *m, uint32_t i)
{
    struct vgpu_sim_run *r = m->run;
    if (r->trace_count < VGPU_SIM_TRACE_MAX)
        r->trace[r->trace_count++] = (struct vgpu_sim_segment){.from_ns = m->actors[i].granted_ns,
                                                               .to_ns = m->now_ns,
                                                               .gpu = m->sc->vms[i].share.gpu,
                                                               .vm = i};
}

static void give_back(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    trace(m, i);
    m->run->vms[i].lease_ns += m->now_ns - a->granted_ns;
    a->holds = a->recalled = false;
    if (a->activity != AWAY)
        a->activity = IDLE;
    a->next_ns = NEVER;
    vgpu_sched_returned(m->sched, i, m->now_ns);
    if (has_work(m, i))
        want(m, i);
}

/* Under its lease, with nothing running: the next kernel, or the end of the lease. */
static void go_on(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    const struct vgpu_sim_vm *vm = &m->sc->vms[i];
    if (a->recalled && m->now_ns >= a->grace_end_ns && (a->begun || !has_work(m, i))) {
        give_back(m, i);
        return;
    }
    if (!a->kernels_left && a->queue_count) {
        a->at_work_arrived_ns = a->queue[a->queue_head];
        a->queue_head = (a->queue_head + 1) % a->queue_room;
        a->queue_count--;
        a->kernels_left = vm->kernels;
    }
    if (a->kernels_left) {
        a->begun = true;
        a->activity = COMPUTING;
        a->started_ns = m->now_ns;
        a->next_ns = m->now_ns + kernel_length(m, vm);
        if (vm->fault_ns && m->now_ns >= vm->fault_ns && !a->faulted) {
            a->faulted = true;
            a->activity = STUCK;
            a->next_ns = NEVER;
        }
        return;
    }
    a->activity = IDLE;
    a->next_ns = NEVER;
    if (!a->recalled)
        return;
    if (!a->linger_ns) {
        give_back(m, i);
        return;
    }
    a->activity = LINGERING;
    a->next_ns = m->now_ns + a->linger_ns;
    if (a->next_ns > a->grace_end_ns)
        a->next_ns = a->grace_end_ns;
}

static void finish_kernel(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    const struct vgpu_sim_vm *vm = &m->sc->vms[i];
    struct vgpu_sim_result *r = &m->run->vms[i];
    r->gpu_ns += m->now_ns - a->started_ns;
    m->run->busy_ns[vm->share.gpu] += m->now_ns - a->started_ns;
    r->kernels++;
    if (--a->kernels_left == 0) {
        r->requests++;
        sample(m, &r->latency, m->now_ns - a->at_work_arrived_ns);
        if (vm->arrival == VGPU_SIM_BUSY)
            push_request(m, i);
        else if (vm->arrival == VGPU_SIM_CLOSED)
            a->next_arrival_ns = m->now_ns + vm->period_ns;
    }
    go_on(m, i);
}

static void arrive(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    const struct vgpu_sim_vm *vm = &m->sc->vms[i];
    a->next_arrival_ns = NEVER;
    if (a->activity == AWAY) {
        /* Back, as a new worker: what it had to do is gone. */
        a->activity = IDLE;
        a->kernels_left = a->queue_count = 0;
        (void)vgpu_sched_tenant_add(m->sched, i, &vm->share, m->now_ns);
    }
    if (vm->stop_ns && m->now_ns >= vm->stop_ns)
        return;
    push_request(m, i);
    if (vm->arrival == VGPU_SIM_PERIODIC)
        a->next_arrival_ns = m->now_ns + vm->period_ns;
    else if (vm->arrival == VGPU_SIM_POISSON)
        a->next_arrival_ns = m->now_ns + exponential(m, vm->period_ns);
    if (!a->holds)
        want(m, i);
    else if (a->activity == IDLE || a->activity == LINGERING)
        go_on(m, i);
}

/* Its worker is killed: what it held is free, and it is gone for a while. */
static void die(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    const struct vgpu_sim_vm *vm = &m->sc->vms[i];
    m->run->vms[i].kills++;
    if (a->holds) {
        trace(m, i);
        m->run->vms[i].lease_ns += m->now_ns - a->granted_ns;
    }
    a->holds = a->recalled = a->wants = false;
    a->activity = AWAY;
    a->next_ns = NEVER;
    a->next_arrival_ns = vm->restart_ns ? m->now_ns + vm->restart_ns : NEVER;
    struct vgpu_sched_view view;
    vgpu_sched_look(m->sched, i, m->now_ns, &view);
    m->run->vms[i].throttles += view.throttles;
    vgpu_sched_tenant_remove(m->sched, i, m->now_ns);
}

/* ---- Decisions ---- */

/* FNV-1a, by whole numbers. */
static void note(struct vgpu_sim_run *run, uint64_t value)
{
    run->digest = (run->digest ^ value) * 1099511628211ull;
}

static void obey(struct sim *m, const struct vgpu_sched_decision *d)
{
    struct actor *a = &m->actors[d->tenant];
    m->run->decisions++;
    note(m->run, m->now_ns);
    note(m->run, d->action | d->tenant << 2);
    note(m->run, d->gpu);
    note(m->run, d->grace_ns);
    note(m->run, d->linger_ns);
    switch (d->action) {
    case VGPU_SCHED_GRANT:
        if (!a->wants || a->holds)
            broken(m, "a lease for one who does not wait", d->tenant);
        a->wants = false;
        a->holds = true;
        a->recalled = a->begun = false;
        a->granted_ns = m->now_ns;
        m->run->vms[d->tenant].leases++;
        sample(m, &m->run->vms[d->tenant].wait, m->now_ns - a->wanted_ns);
        a->activity = STARTING;
        a->next_ns = m->now_ns + m->sc->handover_ns;
        break;
    case VGPU_SCHED_RECALL:
        if (!a->holds)
            broken(m, "a recall of what is not held", d->tenant);
        a->recalled = true;
        a->grace_end_ns = m->now_ns + d->grace_ns;
        a->linger_ns = d->linger_ns;
        if (a->activity == IDLE)
            go_on(m, d->tenant);
        else if (a->activity == LINGERING && a->next_ns > a->grace_end_ns)
            a->next_ns = a->grace_end_ns;
        break;
    case VGPU_SCHED_KILL:
        if (!a->holds || !a->recalled)
            broken(m, "a kill of one who was not asked", d->tenant);
        die(m, d->tenant);
        break;
    }
    set_timer(m, d->tenant);
}

static void schedule(struct sim *m)
{
    struct vgpu_sched_decision d;
    uint64_t before = m->timed ? clock_ns() : 0;
    unsigned said = 0;
    while (vgpu_sched_next(m->sched, m->now_ns, &d)) {
        obey(m, &d);
        if (++said > 4 * m->sc->vm_count + 64) {
            broken(m, "decisions without end", d.tenant);
            break;
        }
    }
    if (m->timed)
        sample(m, &m->run->decision, (clock_ns() - before) / (said + 1));
}

/* Every lag, and whether a GPU stood still that had somebody to serve. */
static void watch(struct sim *m, uint32_t i)
{
    struct vgpu_sched_view view;
    struct vgpu_sim_result *r = &m->run->vms[i];
    vgpu_sched_look(m->sched, i, m->now_ns, &view);
    if (view.lag_ns > r->lag_max_ns)
        r->lag_max_ns = view.lag_ns;
    if (view.lag_ns < r->lag_min_ns)
        r->lag_min_ns = view.lag_ns;
}

static void watch_gpus(struct sim *m)
{
    for (uint32_t g = 0; g < m->sc->sched.gpus; g++) {
        uint32_t held, admissible;
        vgpu_sched_look_gpu(m->sched, g, m->now_ns, &held, &admissible);
        if (admissible != m->waiting[g] && m->run->queue_count < VGPU_SIM_TRACE_MAX) {
            m->waiting[g] = admissible;
            m->run->queue[m->run->queue_count++] =
                (struct vgpu_sim_queue){.at_ns = m->now_ns, .gpu = g, .waiting = admissible};
        }
        if (admissible > m->run->queue_max[g])
            m->run->queue_max[g] = admissible;
        if (m->gpu_up[g] && admissible && held < m->sc->sched.slots)
            broken(m, "a GPU has a free lease and somebody waits for it", 0);
    }
}

/* ---- GPUs that come and go ---- */

static void place_vm(struct sim *m, uint32_t i)
{
    struct vgpu_place_gpu gpus[VGPU_SIM_GPUS_MAX];
    struct vgpu_sim_vm *vm = &m->sc->vms[i];
    for (uint32_t g = 0; g < m->sc->sched.gpus; g++)
        gpus[g] = (struct vgpu_place_gpu){
            .usable = m->gpu_up[g], .load = m->on_gpu[g], .free_bytes = m->sc->gpu_memory_bytes};
    for (uint32_t k = 0; k < m->sc->vm_count; k++)
        if (k != i && m->actors[k].activity != AWAY && m->sc->vms[k].memory_bytes) {
            struct vgpu_place_gpu *g = &gpus[m->sc->vms[k].share.gpu];
            uint64_t bytes = m->sc->vms[k].memory_bytes;
            g->free_bytes -= bytes < g->free_bytes ? bytes : g->free_bytes;
        }
    uint32_t best = vgpu_place(gpus, m->sc->sched.gpus, vm->memory_bytes);
    if (best != VGPU_PLACE_NONE)
        vm->share.gpu = best;
}

static void gpu_event(struct sim *m, const struct vgpu_sim_event *e)
{
    m->gpu_up[e->gpu] = e->up;
    if (e->up)
        return;
    /* All that were there start again elsewhere, as after any loss of a worker. */
    for (uint32_t i = 0; i < m->sc->vm_count; i++) {
        struct actor *a = &m->actors[i];
        if (m->sc->vms[i].share.gpu != e->gpu || a->activity == AWAY)
            continue;
        die(m, i);
        m->run->vms[i].moves++;
        m->on_gpu[e->gpu]--;
        place_vm(m, i);
        m->on_gpu[m->sc->vms[i].share.gpu]++;
        if (a->next_arrival_ns == NEVER)
            a->next_arrival_ns = m->now_ns + 1;
        set_timer(m, i);
    }
}

/* ---- The run ---- */

static bool start(struct sim *m)
{
    const struct vgpu_sim_scenario *sc = m->sc;
    size_t vms = sc->vm_count ? sc->vm_count : 1;
    struct vgpu_sched_config config = sc->sched;
    config.tenants = sc->vm_count;
    m->sched = vgpu_sched_create(&config);
    m->actors = calloc(vms, sizeof(*m->actors));
    m->timers.entry = calloc(vms, sizeof(*m->timers.entry));
    m->timers.place = malloc(vms * sizeof(*m->timers.place));
    m->run->vms = calloc(vms, sizeof(*m->run->vms));
    m->run->trace = calloc(VGPU_SIM_TRACE_MAX, sizeof(*m->run->trace));
    m->run->queue = calloc(VGPU_SIM_TRACE_MAX, sizeof(*m->run->queue));
    if (!m->sched || !m->actors || !m->timers.entry || !m->timers.place || !m->run->vms ||
        !m->run->trace || !m->run->queue)
        return false;
    for (uint32_t g = 0; g < sc->sched.gpus; g++)
        m->gpu_up[g] = true;
    for (uint32_t i = 0; i < sc->vm_count; i++) {
        m->timers.place[i] = VGPU_HEAP_NOWHERE;
        m->actors[i].next_ns = NEVER;
        m->actors[i].activity = AWAY; /* not counted while the others are placed */
    }
    for (uint32_t i = 0; i < sc->vm_count; i++) {
        struct vgpu_sim_vm *vm = &sc->vms[i];
        if (vm->share.gpu == VGPU_PLACE_NONE)
            place_vm(m, i);
        if (vm->share.gpu == VGPU_PLACE_NONE)
            vm->share.gpu = 0;
        m->on_gpu[vm->share.gpu]++;
        m->actors[i].activity = IDLE;
        m->actors[i].next_arrival_ns = vm->arrival == VGPU_SIM_POISSON
                                           ? vm->start_ns + exponential(m, vm->period_ns)
                                           : vm->start_ns;
        if (vgpu_sched_tenant_add(m->sched, i, &vm->share, 0))
            return false;
        set_timer(m, i);
    }
    return true;
}

static uint64_t next_time(struct sim *m)
{
    uint64_t at = vgpu_sched_deadline(m->sched, m->now_ns);
    if (m->timers.count && m->timers.entry[0].key < (__int128)at)
        at = (uint64_t)m->timers.entry[0].key;
    if (m->next_event < m->sc->event_count && m->sc->events[m->next_event].at_ns < at)
        at = m->sc->events[m->next_event].at_ns;
    return at > m->now_ns ? at : m->now_ns;
}

static void step(struct sim *m, uint32_t i)
{
    struct actor *a = &m->actors[i];
    if (a->next_ns <= m->now_ns) {
        if (a->activity == COMPUTING)
            finish_kernel(m, i);
        else if (a->activity == LINGERING)
            give_back(m, i);
        else
            go_on(m, i);
    }
    if (a->next_arrival_ns <= m->now_ns)
        arrive(m, i);
    set_timer(m, i);
    m->run->events++;
}

static void go(struct sim *m)
{
    while (m->now_ns < m->sc->duration_ns && !m->out_of_memory && !m->run->broken[0]) {
        schedule(m);
        watch_gpus(m);
        uint64_t at = next_time(m);
        if (at >= m->sc->duration_ns)
            break;
        m->now_ns = at;
        while (m->next_event < m->sc->event_count &&
               m->sc->events[m->next_event].at_ns <= m->now_ns)
            gpu_event(m, &m->sc->events[m->next_event++]);
        while (m->timers.count && m->timers.entry[0].key <= (__int128)m->now_ns) {
            uint32_t i = m->timers.entry[0].number;
            watch(m, i);
            step(m, i);
        }
    }
    m->now_ns = m->sc->duration_ns;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sort(struct vgpu_sim_samples *s)
{
    if (s->count)
        qsort(s->value, s->count, sizeof(*s->value), compare);
}

static void finish(struct sim *m)
{
    for (uint32_t i = 0; m->run->vms && m->actors && i < m->sc->vm_count; i++) {
        struct vgpu_sim_result *r = &m->run->vms[i];
        struct actor *a = &m->actors[i];
        struct vgpu_sched_view view;
        if (m->sched) {
            vgpu_sched_look(m->sched, i, m->now_ns, &view);
            r->throttles += view.throttles;
        }
        if (a->holds) {
            trace(m, i);
            r->lease_ns += m->now_ns - a->granted_ns;
            if (a->activity == COMPUTING) {
                r->gpu_ns += m->now_ns - a->started_ns;
                m->run->busy_ns[m->sc->vms[i].share.gpu] += m->now_ns - a->started_ns;
            }
        }
        r->backlog = a->queue_count + (a->kernels_left != 0);
        sort(&r->wait);
        sort(&r->latency);
        free(a->queue);
    }
    sort(&m->run->decision);
    vgpu_sched_destroy(m->sched);
    free(m->actors);
    free(m->timers.entry);
    free(m->timers.place);
}

struct vgpu_sim_run *vgpu_sim(const struct vgpu_sim_scenario *scenario, bool timed)
{
    struct sim m = {.sc = scenario, .timed = timed, .random = scenario->seed | 1};
    m.run = calloc(1, sizeof(*m.run));
    if (!m.run)
        return NULL;
    m.run->scenario = scenario;
    m.run->digest = 14695981039346656037ull;
    bool started = start(&m);
    if (started)
        go(&m);
    finish(&m);
    if (started && !m.out_of_memory)
        return m.run;
    vgpu_sim_free(m.run);
    return NULL;
}

void vgpu_sim_free(struct vgpu_sim_run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; run->vms && i < run->scenario->vm_count; i++) {
        free(run->vms[i].wait.value);
        free(run->vms[i].latency.value);
    }
    free(run->decision.value);
    free(run->vms);
    free(run->queue);
    free(run->trace);
    free(run);
}

uint64_t vgpu_sim_quantile(const struct vgpu_sim_samples *s, double share)
{
    if (!s->count)
        return 0;
    size_t index = (size_t)ceil(share * (double)s->count);
    return s->value[index ? index - 1 : 0];
}
