/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inotify on a directory and the scan beside it; see watch.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "mediator/endpoint.h"

#define RETRY_NS VGPU_NS_PER_S /* a directory that went away is looked for this often */
#define MASK                                                                                       \
    (IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF |         \
     IN_ONLYDIR)

struct vgpu_watch {
    struct vgpu_list node; /* in the mediator's watches */
    struct vgpu_mediator *mediator;
    char *directory;
    int dir_fd;                /* -1: it is not there */
    struct vgpu_source source; /* inotify */
    struct vgpu_timer timer;
    struct vgpu_log_limit limit;
};

static void note_entry(struct vgpu_watch *w, const char *name)
{
    uint32_t vm_id, suppressed;
    if (!vgpu_watch_parse_name(name, &vm_id))
        return;
    struct vgpu_endpoint *e = vgpu_endpoint_find(w->mediator, w, name);
    if (e) {
        vgpu_endpoint_appeared(e);
        return;
    }
    e = vgpu_endpoint_create(w->mediator, vm_id, w->directory, name, w->dir_fd, w);
    if (!e && vgpu_log_limit_take(&w->limit, vgpu_loop_now(w->mediator->loop), &suppressed))
        vgpu_log(VGPU_LOG_WARN, "socket-ignored",
                 "vm=%u reason=\"no room for another device\" suppressed=%u", vm_id, suppressed);
}

static void scan(struct vgpu_watch *w)
{
    /* A descriptor of its own: reading a directory moves the descriptor's position. */
    int fd = openat(w->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        vgpu_log(VGPU_LOG_WARN, "watch-unreadable", "reason=\"%s\"", strerror(errno));
        vgpu_fd_close(&fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(d));)
        note_entry(w, entry->d_name);
    closedir(d);
}

/* Opens the directory, watches it and looks at what is in it, in this order: nothing is missed. */
static int begin(struct vgpu_watch *w)
{
    struct vgpu_mediator *m = w->mediator;
    char path[32];
    int rc;
    w->dir_fd = open(w->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (w->dir_fd < 0)
        return -errno;
    w->source.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->source.fd < 0) {
        rc = -errno;
        goto fail;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", w->dir_fd);
    if (inotify_add_watch(w->source.fd, path, MASK) < 0) {
        rc = -errno;
        goto fail;
    }
    rc = vgpu_loop_add(m->loop, &w->source, EPOLLIN);
    if (rc)
        goto fail;
    scan(w);
    return 0;
fail:
    vgpu_fd_close(&w->source.fd);
    vgpu_fd_close(&w->dir_fd);
    return rc;
}

static void end(struct vgpu_watch *w)
{
    vgpu_loop_remove(w->mediator->loop, &w->source);
    vgpu_fd_close(&w->source.fd);
    vgpu_endpoint_vanish_all(w->mediator, w);
}

static void try_again(struct vgpu_watch *w)
{
    vgpu_loop_timer_set(w->mediator->loop, &w->timer, vgpu_loop_now(w->mediator->loop) + RETRY_NS);
}

static void on_timer(struct vgpu_timer *timer)
{
    struct vgpu_watch *w = vgpu_list_entry(timer, struct vgpu_watch, timer);
    /* Connected endpoints of the directory that went hold on to its descriptor. */
    if (vgpu_endpoint_any(w->mediator, w)) {
        try_again(w);
        return;
    }
    vgpu_fd_close(&w->dir_fd);
    if (begin(w))
        try_again(w);
    else
        vgpu_log(VGPU_LOG_INFO, "watch-back", "reason=\"a watched directory is there again\"");
}

static void on_event(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_watch *w = vgpu_list_entry(source, struct vgpu_watch, source);
    union {
        char bytes[4096];
        struct inotify_event align;
    } buffer;
    (void)events;
    ssize_t n = read(source->fd, buffer.bytes, sizeof(buffer.bytes));
    bool gone = false, overflow = false;
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buffer.bytes + at);
        at += (ssize_t)(sizeof(*e) + e->len);
        if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
            gone = true;
        else if (e->mask & IN_Q_OVERFLOW)
            overflow = true;
        else if (!e->len)
            continue;
        else if (e->mask & (IN_CREATE | IN_MOVED_TO))
            note_entry(w, e->name);
        else if (e->mask & (IN_DELETE | IN_MOVED_FROM)) {
            struct vgpu_endpoint *endpoint = vgpu_endpoint_find(w->mediator, w, e->name);
            if (endpoint)
                vgpu_endpoint_vanished(endpoint);
        }
    }
    if (gone) {
        char quoted[300];
        vgpu_log(VGPU_LOG_WARN, "watch-gone", "directory=%s",
                 vgpu_log_quote(quoted, sizeof(quoted), w->directory, strlen(w->directory)));
        end(w);
        try_again(w);
    } else if (overflow) {
        vgpu_endpoint_vanish_all(w->mediator, w);
        scan(w);
    }
}

int vgpu_watch_add(struct vgpu_mediator *m, const char *directory)
{
    struct vgpu_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->mediator = m;
    w->dir_fd = w->source.fd = -1;
    w->source.call = on_event;
    w->timer.call = on_timer;
    w->directory = strdup(directory);
    int rc = w->directory ? begin(w) : -ENOMEM;
    if (rc) {
        free(w->directory);
        free(w);
        return rc;
    }
    vgpu_list_append(&m->watches, &w->node);
    return 0;
}

void vgpu_watch_free_all(struct vgpu_mediator *m)
{
    vgpu_list_each(node, &m->watches)
    {
        struct vgpu_watch *w = vgpu_list_entry(node, struct vgpu_watch, node);
        end(w);
        vgpu_loop_timer_cancel(m->loop, &w->timer);
        vgpu_fd_close(&w->dir_fd);
        vgpu_list_remove(&w->node);
        free(w->directory);
        free(w);
    }
}
