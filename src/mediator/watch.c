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
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "mediator/endpoint.h"

#define RETRY_NS    VGPU_NS_PER_S  /* a directory that went away is looked for this often */
#define SCAN_BUDGET 256            /* entries of a directory in one round of the loop */
#define SCAN_NS     VGPU_NS_PER_MS /* between two such rounds */
#define MASK                                                                                       \
    (IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF |         \
     IN_ONLYDIR)

#define PARENT_MASK (IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR | IN_MASK_ADD)

struct vgpu_watch {
    struct vgpu_list node; /* in the mediator's watches */
    struct vgpu_mediator *mediator;
    uint32_t place;
    char *directory;
    int dir_fd;                /* -1: it is not there */
    struct vgpu_source source; /* inotify; fd -1: it is not there, or was not when we looked */
    int own_wd, parent_wd;
    DIR *scanned; /* being read, a part in each round; NULL: not */
    bool again;   /* room was made meanwhile, perhaps for what was passed over already */
    struct vgpu_timer timer;
};

static void log_entry(struct vgpu_watch *w, struct vgpu_log_limit *limit, const char *event,
                      uint32_t vm_id, const char *name, const char *reason)
{
    uint32_t suppressed;
    char path[512], quoted[600];
    if (!vgpu_log_limit_take(limit, vgpu_loop_now(w->mediator->loop), &suppressed))
        return;
    snprintf(path, sizeof(path), "%s/%s", w->directory, name);
    vgpu_log(VGPU_LOG_WARN, event, "vm=%u socket=%s reason=\"%s\" suppressed=%u", vm_id,
             vgpu_log_quote(quoted, sizeof(quoted), path, strlen(path)), reason, suppressed);
}

static void note_entry(struct vgpu_watch *w, const char *name)
{
    uint32_t vm_id;
    struct stat st;
    struct vgpu_mediator *m = w->mediator;
    if (!vgpu_watch_parse_name(name, &vm_id))
        return;
    struct vgpu_endpoint *e = vgpu_endpoint_find(m, w->place, vm_id);
    if (e) {
        vgpu_endpoint_appeared(e, w->dir_fd);
        return;
    }
    if (fstatat(w->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return; /* gone already */
    /* Nothing else takes up a place; whether it still is one is asked again before each dialling.
     */
    if (!S_ISSOCK(st.st_mode)) {
        log_entry(w, &m->places[w->place].limit, "not-connected", vm_id, name,
                  "it is not a socket");
        return;
    }
    if (!vgpu_endpoint_create(m, vm_id, w->directory, name, w->dir_fd, w->place)) {
        m->places[w->place].overfull = true;
        log_entry(w, &m->places[w->place].room_limit, "socket-ignored", vm_id, name,
                  "no room for another device");
    }
}

static void end_scan(struct vgpu_watch *w)
{
    if (w->scanned)
        closedir(w->scanned);
    w->scanned = NULL;
}

static void go_on(struct vgpu_watch *w, uint64_t after_ns)
{
    vgpu_loop_timer_set(w->mediator->loop, &w->timer, vgpu_loop_now(w->mediator->loop) + after_ns);
}

static void scan_part(struct vgpu_watch *w)
{
    for (unsigned i = 0; i < SCAN_BUDGET; i++) {
        struct dirent *entry = readdir(w->scanned);
        if (!entry) {
            end_scan(w);
            if (w->again)
                go_on(w, RETRY_NS);
            return;
        }
        note_entry(w, entry->d_name);
    }
    go_on(w, SCAN_NS);
}

static void scan(struct vgpu_watch *w)
{
    /* A descriptor of its own: reading a directory moves the descriptor's position. */
    int fd = openat(w->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    end_scan(w);
    w->scanned = fd < 0 ? NULL : fdopendir(fd);
    if (!w->scanned) {
        vgpu_log(VGPU_LOG_WARN, "watch-unreadable", "reason=\"%s\"", strerror(errno));
        vgpu_fd_close(&fd);
        return;
    }
    w->mediator->places[w->place].overfull = w->again = false;
    scan_part(w);
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
    w->own_wd = inotify_add_watch(w->source.fd, path, MASK);
    if (w->own_wd < 0) {
        rc = -errno;
        goto fail;
    }
    /* Our descriptor keeps the kernel from saying that the directory was removed; the one that it
     * is in says so. That one may be closed to us: then only renames are noticed. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d/..", w->dir_fd);
    w->parent_wd = inotify_add_watch(w->source.fd, path, PARENT_MASK);
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
    end_scan(w);
    vgpu_endpoint_vanish_all(w->mediator, w->place);
    vgpu_fd_close(&w->dir_fd);
}

static void on_timer(struct vgpu_timer *timer)
{
    struct vgpu_watch *w = vgpu_list_entry(timer, struct vgpu_watch, timer);
    if (w->scanned)
        scan_part(w);
    else if (w->source.fd >= 0)
        scan(w); /* there may be room */
    else if (begin(w))
        go_on(w, RETRY_NS);
    else
        vgpu_log(VGPU_LOG_INFO, "watch-back", "reason=\"a watched directory is there again\"");
}

/* Whether the directory is no longer what its name means. */
static bool is_removed(const struct vgpu_watch *w)
{
    struct stat ours, there;
    return fstat(w->dir_fd, &ours) || !ours.st_nlink || stat(w->directory, &there) ||
           ours.st_ino != there.st_ino || ours.st_dev != there.st_dev;
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
    bool gone = false, overflow = false, maybe_gone = false;
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buffer.bytes + at);
        uint32_t vm_id;
        at += (ssize_t)(sizeof(*e) + e->len);
        if (e->mask & IN_Q_OVERFLOW)
            overflow = maybe_gone = true;
        else if (e->wd != w->own_wd)
            maybe_gone |= (e->mask & IN_ISDIR) != 0;
        else if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
            gone = true;
        else if (!e->len)
            continue;
        else if (e->mask & (IN_CREATE | IN_MOVED_TO))
            note_entry(w, e->name);
        else if (e->mask & (IN_DELETE | IN_MOVED_FROM)) {
            struct vgpu_endpoint *endpoint = NULL;
            if (vgpu_watch_parse_name(e->name, &vm_id))
                endpoint = vgpu_endpoint_find(w->mediator, w->place, vm_id);
            if (endpoint)
                vgpu_endpoint_vanished(endpoint);
        }
    }
    if (gone || (maybe_gone && is_removed(w))) {
        char quoted[300];
        vgpu_log(VGPU_LOG_WARN, "watch-gone", "directory=%s",
                 vgpu_log_quote(quoted, sizeof(quoted), w->directory, strlen(w->directory)));
        end(w);
        go_on(w, RETRY_NS);
    } else if (overflow) {
        vgpu_endpoint_vanish_all(w->mediator, w->place);
        scan(w);
    }
}

void vgpu_watch_room(struct vgpu_mediator *m, uint32_t place)
{
    vgpu_list_each(node, &m->watches)
    {
        struct vgpu_watch *w = vgpu_list_entry(node, struct vgpu_watch, node);
        if (w->place != place)
            continue;
        if (w->scanned)
            w->again = true;
        else if (!w->timer.place)
            go_on(w, RETRY_NS);
    }
}

int vgpu_watch_add(struct vgpu_mediator *m, uint32_t place, const char *directory)
{
    struct vgpu_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->mediator = m;
    w->place = place;
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
        vgpu_list_remove(&w->node);
        end(w);
        vgpu_loop_timer_cancel(m->loop, &w->timer);
        free(w->directory);
        free(w);
    }
}
