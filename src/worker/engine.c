/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queue, the channel and their thread; see engine.h. */
#define _GNU_SOURCE /* ppoll */
#include "worker/engine.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "ring/barrier.h"
#include "worker/channel.h"
#include "worker/reports.h"
#include "worker/spin.h"

#define INTERRUPT_EVERY_NS 20000000
#define TIMER_SLACK_NS     1000ul  /* of the thread's timeouts; 50 us by default */
#define GPU_SPIN_NS        50000u  /* a call that waits for the GPU is looked at all the time, */
#define GAP_SPIN_NS        100000u /* of a recalled lease that outlasts gaps: spin so long in one */
#define GPU_PAUSE_NS       20000u  /* then after pauses that grow */
#define GPU_PAUSE_MAX_NS   100000u
#define ROOM_PAUSE_NS      1000000u /* until a guest takes answers that it has let pile up */
#define CLOCK_EVERY        16u      /* looks between two looks at the clock */

/* What the control thread wants of the channel, in order. Bounded: one ATTACH or DETACH at a time,
 * and an EXTENT only for what was asked for. */
#define ORDERS_MAX (VGPU_CHANNEL_ASKED_MAX + 4u)
struct order {
    enum { ORDER_ATTACH, ORDER_DETACH, ORDER_EXTENT } kind;
    uint64_t seq;
    struct vgpu_attachment at;
    struct vgpu_worker_extent extent;
};

/* The channel's server is aligned to cache lines. */
struct vgpu_engine {                    // NOLINT(clang-analyzer-optin.performance.Padding)
    struct vgpu_channel_server channel; /* the thread's; first: it is aligned */
    struct vgpu_executor executor;      /* the thread's, but for its atomics */
    struct vgpu_reports reports;
    struct vgpu_lease *lease;
    pthread_t thread;
    uint32_t jobs_max;     /* the control thread's */
    int fd;                /* eventfd: to the control thread */
    int wake_fd;           /* eventfd: to the thread */
    struct vgpu_spin spin; /* the thread's */
    uint64_t gpu_since;    /* the thread's: since when nothing happened but on the GPU; 0: not so */
    uint64_t gap_since; /* the lease is recalled and there is nothing to do, since then; 0: else */
    bool began;         /* the thread's: something, under the lease it holds */
    bool rung;          /* the thread's: the doorbell's descriptor is readable */

    /* Whether the thread sleeps or is about to. Who has something for it writes that first and
     * looks here then; the thread writes here first and looks for something then. */
    _Atomic bool sleeping;
    _Atomic bool wants_lease; /* the channel has something to do; the thread writes it */
    _Atomic uint32_t queued;  /* of jobs; written under the lock */
    _Atomic uint32_t order_count;
    _Atomic bool stopping;

    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t ended_cond;
    struct vgpu_job_list queue, done;
    struct order orders[ORDERS_MAX];
    uint32_t admitted;       /* of the queue */
    uint64_t admitted_bytes; /* staged, in those */
    bool want_room;          /* an early job was refused admission */
    bool ended;
};

static void ring(int fd)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the descriptor is readable anyway. */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

static void notify(struct vgpu_engine *e)
{
    ring(e->fd);
}

/* After something was made ready for the thread. */
static void wake(struct vgpu_engine *e)
{
    if (atomic_exchange(&e->sleeping, false))
        ring(e->wake_fd);
}

/* Under the lock. */
static void count_queued(struct vgpu_engine *e, int change)
{
    uint32_t count = atomic_fetch_add(&e->queued, (uint32_t)change) + (uint32_t)change;
    __atomic_store_n(&e->executor.tally.at->jobs, count, __ATOMIC_RELAXED);
}

/* Under the lock. */
static void unqueue(struct vgpu_engine *e, struct vgpu_job *job)
{
    TAILQ_REMOVE(&e->queue, job, link);
    job->queued = false;
    count_queued(e, -1);
    if (job->admitted) {
        e->admitted--;
        e->admitted_bytes -= job->staged_bytes;
        if (e->want_room) {
            e->want_room = false;
            notify(e);
        }
    }
}

/* Whether it ends a context, whose pending calls have to be waited for first. */
static bool ends_context(const struct vgpu_job *job)
{
    return (job->kind == VGPU_JOB_CALL && job->info->opcode == VGPU_CALL_CONTEXT_DESTROY) ||
           (job->kind == VGPU_JOB_CALL_UNDO && job->made_kind == VGPU_KIND_CONTEXT);
}

static bool run_job(struct vgpu_engine *e)
{
    if (!atomic_load_explicit(&e->queued, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&e->lock);
    struct vgpu_job *job = TAILQ_FIRST(&e->queue);
    if (job)
        unqueue(e, job);
    pthread_mutex_unlock(&e->lock);
    if (!job)
        return false;
    if (ends_context(job)) {
        vgpu_channel_settle(&e->channel);
        vgpu_inflight_forget(&e->executor.inflight, &e->executor.calls, NULL);
    }
    vgpu_execute(&e->executor, job);
    if (job->here) {
        vgpu_channel_job_done(&e->channel, job);
        return true;
    }
    pthread_mutex_lock(&e->lock);
    if (TAILQ_EMPTY(&e->done))
        notify(e);
    TAILQ_INSERT_TAIL(&e->done, job, link);
    pthread_mutex_unlock(&e->lock);
    return true;
}

static bool take_order(struct vgpu_engine *e)
{
    if (!atomic_load_explicit(&e->order_count, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&e->lock);
    struct order order = e->orders[0];
    uint32_t count = atomic_load(&e->order_count) - 1;
    for (uint32_t i = 0; i < count; i++)
        e->orders[i] = e->orders[i + 1];
    atomic_store(&e->order_count, count);
    pthread_mutex_unlock(&e->lock);
    switch (order.kind) {
    case ORDER_ATTACH:
        vgpu_channel_attach(&e->channel, &order.at);
        break;
    case ORDER_DETACH:
        vgpu_channel_detach(&e->channel);
        e->rung = false;
        break;
    case ORDER_EXTENT:
        vgpu_channel_extent(&e->channel, order.seq, &order.extent);
        break;
    }
    return true;
}

static bool holds_lease(enum vgpu_gate gate)
{
    return gate != VGPU_GATE_CLOSED && gate != VGPU_GATE_RETURNED;
}

/* The lease has to go back, and what is in flight is not known to be done. */
static void give_back(struct vgpu_engine *e)
{
    vgpu_execute_drain(&e->executor);
    e->began = false;
    /* Before the release: the control thread says that the next one is wanted, and then returns. */
    atomic_store(&e->wants_lease, vgpu_channel_wants_lease(&e->channel));
    vgpu_lease_release(e->lease);
    notify(e);
}

/* Whether a lease that was recalled outlasts this gap in the work (S4). */
static bool lingers(struct vgpu_engine *e)
{
    uint64_t linger = atomic_load_explicit(&e->lease->linger_ns, memory_order_relaxed);
    if (!linger)
        return false;
    uint64_t now = vgpu_clock_ns();
    if (!e->gap_since)
        e->gap_since = now;
    return now - e->gap_since < linger;
}

/* A lease whose grace ends before anything was begun is still good for one request: who is called
 * back each time must get on (W4). */
static bool run_one(struct vgpu_engine *e)
{
    if (run_job(e))
        return true;
    bool ran = vgpu_channel_turn(&e->channel, true);
    if (e->channel.hold == VGPU_HOLD_JOB) /* that is a request's own job */
        run_job(e);
    return ran;
}

/* One look at everything. Answers whether there was something to do. */
static bool turn(struct vgpu_engine *e, enum vgpu_gate gate)
{
    bool did = take_order(e), lease = holds_lease(gate);
    /* The gate cannot close meanwhile: only this thread releases. */
    if (gate == VGPU_GATE_OPEN || gate == VGPU_GATE_RECALLED) {
        bool ran = run_job(e);
        ran |= vgpu_channel_turn(&e->channel, false);
        /* A request that was only taken out of the ring has its job still to run. */
        e->began |= ran && e->channel.hold != VGPU_HOLD_JOB;
        did |= ran;
    } else if (gate == VGPU_GATE_STOPPING && !e->began) {
        did |= e->began = run_one(e);
    }
    did |= vgpu_channel_poll(&e->channel, lease);
    bool wants = !lease && vgpu_channel_wants_lease(&e->channel);
    if (wants != atomic_load_explicit(&e->wants_lease, memory_order_relaxed)) {
        atomic_store(&e->wants_lease, wants);
        if (wants)
            notify(e);
    }
    /* When the grace is over only what is in flight keeps the lease (W4): extents are cleared, and
     * answers written, without it just as well. */
    bool idle = (!did || gate == VGPU_GATE_STOPPING) && !vgpu_channel_in_flight(&e->channel);
    if (!idle || gate != VGPU_GATE_RECALLED)
        e->gap_since = 0;
    if (idle && (gate == VGPU_GATE_STOPPING ||
                 (gate == VGPU_GATE_RECALLED && e->channel.hold != VGPU_HOLD_GPU && !lingers(e)))) {
        give_back(e);
        return true;
    }
    return did;
}

/* ---- Waiting ---- */

/* Whether anything but the doorbell says that there is something to do. */
static bool called(struct vgpu_engine *e, enum vgpu_gate seen)
{
    return atomic_load(&e->stopping) || atomic_load(&e->lease->gate) != (uint32_t)seen ||
           atomic_load(&e->order_count) || (holds_lease(seen) && atomic_load(&e->queued));
}

/* Looks for a while. True: there is something. */
static bool look(struct vgpu_engine *e, enum vgpu_gate gate)
{
    uint32_t budget = vgpu_spin_budget(&e->spin);
    uint64_t begin = e->spin.idle_since, last = begin, longest = 0;
    bool found = false;
    while (budget && last - begin < budget && !found) {
        for (unsigned i = 0; i < CLOCK_EVERY && !found; i++) {
            found = called(e, gate) || vgpu_channel_has_record(&e->channel);
            if (!found)
                vgpu_shared_pause();
        }
        uint64_t now = vgpu_clock_ns();
        longest = now - last > longest ? now - last : longest;
        last = now;
    }
    if (budget)
        vgpu_spin_looked(&e->spin, longest);
    return found;
}

/* Sleeps until somebody wakes this thread, the doorbell, or the end of a pause (0: none). */
static void sleep_until(struct vgpu_engine *e, enum vgpu_gate gate, uint64_t pause_ns)
{
    int doorbell = vgpu_channel_doorbell(&e->channel);
    /* Without the lease a record that is there waits for the GRANT. One that came since turn()
     * looked has not had the lease asked for: nothing but its doorbell would wake us. */
    if (!holds_lease(gate) && vgpu_channel_has_record(&e->channel)) {
        if (vgpu_channel_wants_lease(&e->channel) && !atomic_load(&e->wants_lease))
            return;
        doorbell = -1;
    }
    uint64_t count;
    if (doorbell >= 0 && e->rung) {
        if (read(doorbell, &count, sizeof(count)) < 0)
            count = 0; /* somebody else has read it */
        e->rung = false;
    }
    struct pollfd fds[] = {{.fd = e->wake_fd, .events = POLLIN},
                           {.fd = doorbell, .events = POLLIN}};
    struct timespec pause = {.tv_nsec = (long)pause_ns};
    atomic_store(&e->sleeping, true);
    bool sleeps = !called(e, gate) && (doorbell < 0 || vgpu_channel_sleep(&e->channel));
    if (sleeps && ppoll(fds, 2, pause_ns ? &pause : NULL, NULL) > 0) {
        if (fds[0].revents && read(e->wake_fd, &count, sizeof(count)) < 0)
            count = 0;
        e->rung = fds[1].revents;
    }
    atomic_store(&e->sleeping, false);
    if (doorbell < 0)
        return;
    if (sleeps)
        vgpu_channel_woke(&e->channel);
    if (e->rung && (fds[1].revents & ~POLLIN))
        vgpu_channel_doorbell_broke(&e->channel);
}

/* There was nothing to do: since when, and what is waited for, says how to wait. */
static void wait_for_work(struct vgpu_engine *e, enum vgpu_gate gate)
{
    uint64_t now = vgpu_clock_ns();
    if (holds_lease(gate) && vgpu_channel_awaits_gpu(&e->channel)) {
        if (!e->gpu_since)
            e->gpu_since = now;
        uint64_t waited = now - e->gpu_since;
        if (waited < GPU_SPIN_NS) {
            vgpu_shared_pause();
            return;
        }
        uint64_t pause = GPU_PAUSE_NS + waited / 16;
        sleep_until(e, gate, pause < GPU_PAUSE_MAX_NS ? pause : GPU_PAUSE_MAX_NS);
        return;
    }
    vgpu_tally_idle(&e->executor.tally, now);
    if (e->gap_since) { /* a short one: sleeping would make it longer */
        if (now - e->gap_since < GAP_SPIN_NS)
            vgpu_shared_pause();
        else
            sleep_until(e, gate, GPU_PAUSE_NS);
        return;
    }
    vgpu_spin_idle(&e->spin, now);
    if (gate == VGPU_GATE_OPEN && vgpu_channel_doorbell(&e->channel) >= 0 && look(e, gate))
        return;
    sleep_until(e, gate, e->channel.hold == VGPU_HOLD_ROOM ? ROOM_PAUSE_NS : 0);
}

static void begin_work(struct vgpu_engine *e, uint64_t now)
{
    if (e->spin.idle_since)
        vgpu_spin_work(&e->spin, now);
    if (!e->executor.tally.busy_since_ns)
        vgpu_tally_busy(&e->executor.tally, now);
}

static void *engine_main(void *arg)
{
    struct vgpu_engine *e = arg;
    while (!atomic_load_explicit(&e->stopping, memory_order_relaxed)) {
        enum vgpu_gate gate = vgpu_lease_gate(e->lease);
        if (!turn(e, gate)) {
            wait_for_work(e, gate);
            continue;
        }
        e->gpu_since = 0;
        if (e->spin.idle_since || !e->executor.tally.busy_since_ns)
            begin_work(e, vgpu_clock_ns());
        __atomic_store_n(&e->executor.tally.at->pending, e->channel.outstanding, __ATOMIC_RELAXED);
    }
    pthread_mutex_lock(&e->lock);
    e->ended = true;
    pthread_cond_signal(&e->ended_cond);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* The thread's pauses are as long as they say: inherited from who starts it. */
static int start_thread(struct vgpu_engine *e)
{
    int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    if (slack > 0)
        (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
    int rc = pthread_create(&e->thread, NULL, engine_main, e);
    if (slack > 0)
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0, 0, 0);
    return -rc;
}

/* What create made, but for the thread. */
static void unmake(struct vgpu_engine *e)
{
    vgpu_channel_destroy(&e->channel);
    vgpu_reports_destroy(&e->reports);
    vgpu_executor_destroy(&e->executor);
    pthread_cond_destroy(&e->ended_cond);
    pthread_mutex_destroy(&e->lock);
    vgpu_fd_close(&e->wake_fd);
    vgpu_fd_close(&e->fd);
    free(e);
}

int vgpu_engine_create(const struct vgpu_backend_ops *ops, struct vgpu_backend *backend,
                       struct vgpu_account *account, struct vgpu_lease *lease,
                       struct vgpu_engine **out)
{
    struct vgpu_engine *e = NULL;
    if (posix_memalign((void **)&e, 64, sizeof(*e)))
        return -ENOMEM;
    memset(e, 0, sizeof(*e));
    vgpu_executor_init(&e->executor, ops, backend, account);
    e->lease = lease;
    e->jobs_max = VGPU_ENGINE_JOBS_MAX;
    TAILQ_INIT(&e->queue);
    TAILQ_INIT(&e->done);
    vgpu_spin_init(&e->spin);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->ended_cond, NULL);
    e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    vgpu_reports_init(&e->reports, e->fd);
    vgpu_channel_init(&e->channel, &e->executor, lease, &e->reports, &e->queued, &e->order_count);
    int rc = e->fd < 0 || e->wake_fd < 0 ? -errno : start_thread(e);
    if (rc) {
        unmake(e);
        return rc;
    }
    *out = e;
    return 0;
}

static void free_list(struct vgpu_job_list *list)
{
    struct vgpu_job *job;
    while ((job = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, job, link);
        vgpu_job_free(job);
    }
}

void vgpu_engine_destroy(struct vgpu_engine *e)
{
    atomic_store(&e->stopping, true);
    wake(e);
    pthread_mutex_lock(&e->lock);
    while (!e->ended) {
        /* Again and again: the thread may have been just about to launch. */
        e->executor.ops->interrupt(e->executor.backend);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += INTERRUPT_EVERY_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&e->ended_cond, &e->lock, &until);
    }
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    free_list(&e->queue);
    free_list(&e->done);
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (e->orders[i].kind == ORDER_ATTACH) {
            close(e->orders[i].at.doorbell);
            close(e->orders[i].at.interrupt);
        }
    }
    unmake(e);
}

int vgpu_engine_fd(const struct vgpu_engine *e)
{
    return e->fd;
}

void vgpu_engine_clear(struct vgpu_engine *e)
{
    uint64_t count;
    if (read(e->fd, &count, sizeof(count)) < 0)
        return; /* nothing to clear */
}

void vgpu_engine_set_queue(struct vgpu_engine *e, uint32_t queue)
{
    e->jobs_max = queue && queue < VGPU_ENGINE_JOBS_MAX ? queue : VGPU_ENGINE_JOBS_MAX;
    /* The thread looks at it once it has been given something, under the lock. */
    e->executor.inflight.limit = queue;
}

uint32_t vgpu_engine_queue(const struct vgpu_engine *e)
{
    return e->jobs_max;
}

bool vgpu_engine_full(struct vgpu_engine *e)
{
    return atomic_load_explicit(&e->queued, memory_order_relaxed) >= e->jobs_max;
}

void vgpu_engine_push(struct vgpu_engine *e, struct vgpu_job *job)
{
    pthread_mutex_lock(&e->lock);
    TAILQ_INSERT_TAIL(&e->queue, job, link);
    job->queued = true;
    count_queued(e, 1);
    pthread_mutex_unlock(&e->lock);
    /* Without the lease the thread could only go back to sleep; the GRANT wakes it. */
    if (holds_lease(vgpu_lease_gate(e->lease)))
        wake(e);
}

bool vgpu_engine_remove(struct vgpu_engine *e, struct vgpu_job *job)
{
    pthread_mutex_lock(&e->lock);
    bool queued = job->queued;
    if (queued)
        unqueue(e, job);
    pthread_mutex_unlock(&e->lock);
    return queued;
}

bool vgpu_engine_admit(struct vgpu_engine *e, struct vgpu_job *job)
{
    pthread_mutex_lock(&e->lock);
    bool yes = !job->queued;
    bool fits =
        !e->admitted_bytes || e->admitted_bytes + job->staged_bytes <= VGPU_ENGINE_EARLY_BYTES;
    if (!yes && e->admitted < VGPU_ENGINE_EARLY_MAX && fits) {
        job->admitted = true;
        e->admitted++;
        e->admitted_bytes += job->staged_bytes;
        yes = true;
    }
    if (!yes)
        e->want_room = true;
    pthread_mutex_unlock(&e->lock);
    return yes;
}

void vgpu_engine_collect(struct vgpu_engine *e, struct vgpu_job_list *done)
{
    pthread_mutex_lock(&e->lock);
    TAILQ_CONCAT(done, &e->done, link);
    pthread_mutex_unlock(&e->lock);
}

bool vgpu_engine_has_work(struct vgpu_engine *e)
{
    return atomic_load(&e->queued) || atomic_load(&e->wants_lease);
}

void vgpu_engine_wake(struct vgpu_engine *e)
{
    wake(e);
}

static void give_order(struct vgpu_engine *e, const struct order *order)
{
    pthread_mutex_lock(&e->lock);
    uint32_t count = atomic_load(&e->order_count);
    if (count < ORDERS_MAX) { /* the bounds above say that it is */
        e->orders[count] = *order;
        atomic_store(&e->order_count, count + 1);
    }
    pthread_mutex_unlock(&e->lock);
    wake(e);
}

void vgpu_engine_attach(struct vgpu_engine *e, const struct vgpu_attachment *at)
{
    give_order(e, &(struct order){.kind = ORDER_ATTACH, .at = *at});
}

void vgpu_engine_detach(struct vgpu_engine *e)
{
    give_order(e, &(struct order){.kind = ORDER_DETACH});
}

void vgpu_engine_extent(struct vgpu_engine *e, uint64_t seq,
                        const struct vgpu_worker_extent *extent)
{
    give_order(e, &(struct order){.kind = ORDER_EXTENT, .seq = seq, .extent = *extent});
}

bool vgpu_engine_report(struct vgpu_engine *e, struct vgpu_report *report)
{
    return vgpu_reports_take(&e->reports, report);
}

CUresult vgpu_engine_sticky(const struct vgpu_engine *e)
{
    return (CUresult)atomic_load_explicit(&e->executor.sticky, memory_order_acquire);
}

uint64_t vgpu_engine_free_bytes(const struct vgpu_engine *e)
{
    uint64_t own = atomic_load_explicit(&e->executor.free_bytes, memory_order_relaxed);
    uint64_t tenant = vgpu_account_free_bytes(e->executor.account);
    return tenant < own ? tenant : own;
}

bool vgpu_engine_has_driver(const struct vgpu_engine *e)
{
    return e->executor.calls.ops != NULL; /* never changes */
}

const char *vgpu_engine_backend_name(const struct vgpu_engine *e)
{
    return e->executor.ops->name;
}

void vgpu_job_free(struct vgpu_job *job)
{
    vgpu_blob_free(&job->blob);
    free(job);
}
