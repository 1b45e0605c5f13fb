/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queue and its thread; see engine.h. */
#include "worker/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define INTERRUPT_EVERY_NS 20000000

struct vgpu_engine {
    struct vgpu_executor executor; /* the thread's, but for its atomics */
    struct vgpu_lease *lease;
    pthread_t thread;
    int fd; /* eventfd */

    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t wake;  /* to the thread: a job, the lease, the end */
    pthread_cond_t ended_cond;
    struct vgpu_job_list queue, done;
    uint32_t queued;
    uint32_t admitted;       /* of the queue */
    uint64_t admitted_bytes; /* staged, in those */
    bool want_room;          /* an early job was refused admission */
    bool stopping, ended;
};

static void notify(struct vgpu_engine *e)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the descriptor is readable anyway. */
    if (write(e->fd, &one, sizeof(one)) < 0)
        return;
}

/* Under the lock. */
static void unqueue(struct vgpu_engine *e, struct vgpu_job *job)
{
    TAILQ_REMOVE(&e->queue, job, link);
    job->queued = false;
    e->queued--;
    if (job->admitted) {
        e->admitted--;
        e->admitted_bytes -= job->staged_bytes;
        if (e->want_room) {
            e->want_room = false;
            notify(e);
        }
    }
}

static void *engine_main(void *arg)
{
    struct vgpu_engine *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->stopping) {
        enum vgpu_gate gate = vgpu_lease_gate(e->lease);
        struct vgpu_job *job = TAILQ_FIRST(&e->queue);
        if (gate == VGPU_GATE_STOPPING || (gate == VGPU_GATE_RECALLED && !job)) {
            pthread_mutex_unlock(&e->lock);
            vgpu_execute_drain(&e->executor);
            vgpu_lease_release(e->lease);
            notify(e);
            pthread_mutex_lock(&e->lock);
        } else if (job && (gate == VGPU_GATE_OPEN || gate == VGPU_GATE_RECALLED)) {
            /* The gate cannot close while the job runs: only this thread releases. */
            unqueue(e, job);
            pthread_mutex_unlock(&e->lock);
            vgpu_execute(&e->executor, job);
            pthread_mutex_lock(&e->lock);
            if (TAILQ_EMPTY(&e->done))
                notify(e);
            TAILQ_INSERT_TAIL(&e->done, job, link);
        } else {
            /* Who moves the gate calls vgpu_engine_wake afterwards, under the lock: no move that
             * was missed above goes by unseen. */
            pthread_cond_wait(&e->wake, &e->lock);
        }
    }
    e->ended = true;
    pthread_cond_signal(&e->ended_cond);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

int vgpu_engine_create(const struct vgpu_backend_ops *ops, struct vgpu_backend *backend,
                       struct vgpu_account *account, struct vgpu_lease *lease,
                       struct vgpu_engine **out)
{
    struct vgpu_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    vgpu_executor_init(&e->executor, ops, backend, account);
    e->lease = lease;
    TAILQ_INIT(&e->queue);
    TAILQ_INIT(&e->done);
    e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->fd < 0) {
        int rc = -errno;
        vgpu_executor_destroy(&e->executor);
        free(e);
        return rc;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    pthread_cond_init(&e->ended_cond, NULL);
    int rc = pthread_create(&e->thread, NULL, engine_main, e);
    if (rc) {
        pthread_cond_destroy(&e->ended_cond);
        pthread_cond_destroy(&e->wake);
        pthread_mutex_destroy(&e->lock);
        close(e->fd);
        vgpu_executor_destroy(&e->executor);
        free(e);
        return -rc;
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
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_signal(&e->wake);
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
    vgpu_executor_destroy(&e->executor);
    pthread_cond_destroy(&e->ended_cond);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    close(e->fd);
    free(e);
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

bool vgpu_engine_full(struct vgpu_engine *e)
{
    pthread_mutex_lock(&e->lock);
    bool full = e->queued >= VGPU_ENGINE_JOBS_MAX;
    pthread_mutex_unlock(&e->lock);
    return full;
}

void vgpu_engine_push(struct vgpu_engine *e, struct vgpu_job *job)
{
    pthread_mutex_lock(&e->lock);
    TAILQ_INSERT_TAIL(&e->queue, job, link);
    job->queued = true;
    e->queued++;
    /* Without the lease the thread could only go back to sleep; the GRANT wakes it. */
    enum vgpu_gate gate = vgpu_lease_gate(e->lease);
    if (gate != VGPU_GATE_CLOSED && gate != VGPU_GATE_RETURNED)
        pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
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
    pthread_mutex_lock(&e->lock);
    bool work = e->queued > 0;
    pthread_mutex_unlock(&e->lock);
    return work;
}

void vgpu_engine_wake(struct vgpu_engine *e)
{
    pthread_mutex_lock(&e->lock);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
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
