/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two queues under one mutex; see writer.h. */
#include "registry/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
    struct vgpu_writer_job *first, **last;
};

struct vgpu_writer {
    struct vgpu_registry *registry;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct queue waiting, done;
    uint32_t count; /* in waiting */
    bool stop;
    int fd;
};

static void append(struct queue *q, struct vgpu_writer_job *job)
{
    job->next = NULL;
    *q->last = job;
    q->last = &job->next;
}

static struct vgpu_writer_job *take(struct queue *q)
{
    struct vgpu_writer_job *job = q->first;
    if (!job)
        return NULL;
    q->first = job->next;
    if (!q->first)
        q->last = &q->first;
    job->next = NULL;
    return job;
}

static void work(struct vgpu_registry *registry, struct vgpu_writer_job *job)
{
    switch (job->kind) {
    case VGPU_WRITER_COMMIT:
        job->rc = vgpu_registry_commit(registry, &job->txn, job->why);
        break;
    case VGPU_WRITER_AUDIT:
        job->rc = vgpu_registry_audit(registry, job->before, job->limit, &job->lines,
                                      &job->line_count, job->why);
        break;
    }
}

static void *run(void *argument)
{
    struct vgpu_writer *w = argument;
    const uint64_t one = 1;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (!w->waiting.first && !w->stop)
            pthread_cond_wait(&w->wake, &w->mutex);
        struct vgpu_writer_job *job = take(&w->waiting);
        if (!job)
            break; /* to stop, and nothing is left */
        w->count--;
        pthread_mutex_unlock(&w->mutex);
        work(w->registry, job);
        pthread_mutex_lock(&w->mutex);
        append(&w->done, job);
        /* Only a counter at its very end could refuse it, and then it is readable. */
        if (write(w->fd, &one, sizeof(one)) < 0)
            continue;
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

struct vgpu_writer *vgpu_writer_start(struct vgpu_registry *registry)
{
    sigset_t all, before;
    struct vgpu_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->registry = registry;
    w->waiting.last = &w->waiting.first;
    w->done.last = &w->done.first;
    w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->fd < 0) {
        int saved_errno = errno;
        free(w);
        errno = saved_errno;
        return NULL;
    }
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->mutex);
        close(w->fd);
        free(w);
        errno = rc;
        return NULL;
    }
    return w;
}

void vgpu_writer_stop(struct vgpu_writer *w, void (*left)(struct vgpu_writer_job *job))
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    for (struct vgpu_writer_job *job; (job = take(&w->done));)
        left(job);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    close(w->fd);
    free(w);
}

int vgpu_writer_fd(const struct vgpu_writer *w)
{
    return w->fd;
}

int vgpu_writer_submit(struct vgpu_writer *w, struct vgpu_writer_job *job)
{
    pthread_mutex_lock(&w->mutex);
    int rc = w->count < VGPU_WRITER_QUEUE ? 0 : -EAGAIN;
    if (!rc) {
        append(&w->waiting, job);
        w->count++;
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

struct vgpu_writer_job *vgpu_writer_done(struct vgpu_writer *w)
{
    pthread_mutex_lock(&w->mutex);
    struct vgpu_writer_job *job = take(&w->done);
    uint64_t count;
    /* Empty: what comes next makes it readable again. */
    if (!job && read(w->fd, &count, sizeof(count)) < 0)
        job = NULL;
    pthread_mutex_unlock(&w->mutex);
    return job;
}
