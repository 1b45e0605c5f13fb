/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dialling devices; see endpoint.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"
#include "common/sys.h"
#include "mediator/watch.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_LAST_MS  2000

struct vgpu_endpoint {
    struct vgpu_list node;      /* in the mediator's endpoints */
    struct vgpu_list hash_node; /* in one list of its endpoint_hash */
    struct vgpu_mediator *mediator;
    uint32_t vm_id;
    char *directory;
    char *name;
    int dir_fd; /* the owner's; -1: opened for each attempt */
    uint32_t place;
    struct vgpu_link *link; /* NULL: not connected */
    bool vanished;
    unsigned backoff_ms;
    char complaint[160]; /* the last one logged: it is said once, not every 2 s */
    struct vgpu_timer timer;
};

static void path_of(const struct vgpu_endpoint *e, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s/%s", strcmp(e->directory, "/") ? e->directory : "", e->name);
}

static void endpoint_free(struct vgpu_endpoint *e)
{
    vgpu_loop_timer_cancel(e->mediator->loop, &e->timer);
    if (!vgpu_list_empty(&e->node)) {
        struct vgpu_place *place = &e->mediator->places[e->place];
        place->endpoints--;
        if (place->overfull)
            vgpu_watch_room(e->mediator, e->place);
    }
    vgpu_list_remove(&e->node);
    vgpu_list_remove(&e->hash_node);
    free(e->directory);
    free(e->name);
    free(e);
}

static void complain(struct vgpu_endpoint *e, enum vgpu_log_level level, const char *text)
{
    char path[512], quoted[600], why[200];
    uint32_t suppressed;
    if (!strcmp(text, e->complaint))
        return;
    /* What is left out here is said at a later attempt. */
    if (!vgpu_log_limit_take(&e->mediator->places[e->place].limit, vgpu_loop_now(e->mediator->loop),
                             &suppressed))
        return;
    snprintf(e->complaint, sizeof(e->complaint), "%s", text);
    path_of(e, path, sizeof(path));
    vgpu_log(level, "not-connected", "vm=%u socket=%s reason=%s suppressed=%u", e->vm_id,
             vgpu_log_quote(quoted, sizeof(quoted), path, strlen(path)),
             vgpu_log_quote(why, sizeof(why), text, strlen(text)), suppressed);
}

/* Half to the whole of the delay, so that devices that went together do not come together. */
static void try_later(struct vgpu_endpoint *e)
{
    uint32_t random = 0;
    vgpu_random(&random, sizeof(random));
    uint64_t delay = e->backoff_ms * VGPU_NS_PER_MS;
    delay = delay / 2 + (delay / 2) * (random % 1024) / 1024;
    e->backoff_ms = e->backoff_ms * 2 > BACKOFF_LAST_MS ? BACKOFF_LAST_MS : e->backoff_ms * 2;
    vgpu_loop_timer_set(e->mediator->loop, &e->timer, vgpu_loop_now(e->mediator->loop) + delay);
}

/* L14: the directory is root's or the peer's, and others cannot put sockets of theirs in it. */
static bool directory_is_trusted(struct vgpu_endpoint *e, int dir_fd, uid_t peer)
{
    struct stat st;
    char text[160];
    if (fstat(dir_fd, &st)) {
        complain(e, VGPU_LOG_WARN, strerror(errno));
        return false;
    }
    if (st.st_uid != 0 && st.st_uid != peer) {
        snprintf(text, sizeof(text),
                 "its directory belongs to uid %u, neither root nor the device's uid %u",
                 (unsigned)st.st_uid, (unsigned)peer);
        complain(e, VGPU_LOG_WARN, text);
        return false;
    }
    if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX)) {
        complain(e, VGPU_LOG_WARN, "its directory is writable by everybody and not sticky");
        return false;
    }
    return true;
}

/* Connects and checks; the socket, or -1 after a complaint. */
static int dial(struct vgpu_endpoint *e, int dir_fd)
{
    int fd = vgpu_net_connect_at(dir_fd, e->name, e->place == VGPU_CONFIGURED);
    if (fd == -ENOTSOCK || fd == -ELOOP) {
        complain(e, VGPU_LOG_WARN, "it is not a socket");
        return -1;
    }
    if (fd < 0) {
        complain(e, VGPU_LOG_INFO, strerror(-fd));
        return -1;
    }
    uid_t uid;
    pid_t pid;
    int rc = vgpu_net_peer(fd, &uid, &pid);
    if (rc)
        complain(e, VGPU_LOG_WARN, strerror(-rc));
    if (rc || !directory_is_trusted(e, dir_fd, uid))
        vgpu_fd_close(&fd);
    return fd;
}

static void attempt(struct vgpu_endpoint *e)
{
    int own = -1, dir_fd = e->dir_fd, fd = -1;
    struct vgpu_place *place = &e->mediator->places[e->place];
    if (e->mediator->stopping)
        return;
    if (place->greeting >= VGPU_GREETING_MAX) {
        try_later(e);
        return;
    }
    if (dir_fd < 0)
        dir_fd = own = open(e->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        complain(e, VGPU_LOG_WARN, strerror(errno));
    else
        fd = dial(e, dir_fd);
    vgpu_fd_close(&own);
    if (fd >= 0) {
        char path[512];
        path_of(e, path, sizeof(path));
        e->link = vgpu_link_create(e->mediator, fd, path);
        if (e->link) {
            e->link->endpoint = e;
            vgpu_link_greets(e->link, &place->greeting);
            e->complaint[0] = 0;
            return;
        }
        complain(e, VGPU_LOG_ERROR, "no memory or no descriptors for another link");
    }
    try_later(e);
}

static void on_timer(struct vgpu_timer *timer)
{
    attempt(vgpu_list_entry(timer, struct vgpu_endpoint, timer));
}

/* Twice what can be attached, so that a name or two without a device do no harm. */
static uint32_t endpoints_max(const struct vgpu_mediator *m, uint32_t place)
{
    return place == VGPU_CONFIGURED ? VGPU_SETTINGS_VMS : 2 * m->max_vms + 64;
}

struct vgpu_endpoint *vgpu_endpoint_create(struct vgpu_mediator *m, uint32_t vm_id,
                                           const char *directory, const char *name, int dir_fd,
                                           uint32_t place)
{
    if (m->places[place].endpoints >= endpoints_max(m, place))
        return NULL;
    struct vgpu_endpoint *e = calloc(1, sizeof(*e));
    if (!e)
        return NULL;
    vgpu_list_init(&e->node);
    vgpu_list_init(&e->hash_node);
    e->mediator = m;
    e->vm_id = vm_id;
    e->directory = strdup(directory);
    e->name = strdup(name);
    e->dir_fd = dir_fd;
    e->place = place;
    e->backoff_ms = BACKOFF_FIRST_MS;
    e->timer.call = on_timer;
    if (!e->directory || !e->name ||
        vgpu_loop_timer_set(m->loop, &e->timer, vgpu_loop_now(m->loop))) {
        endpoint_free(e);
        return NULL;
    }
    vgpu_list_append(&m->endpoints, &e->node);
    vgpu_list_append(&m->endpoint_hash[vm_id % VGPU_ENDPOINT_HASH], &e->hash_node);
    m->places[place].endpoints++;
    return e;
}

struct vgpu_endpoint *vgpu_endpoint_find(struct vgpu_mediator *m, uint32_t place, uint32_t vm_id)
{
    vgpu_list_each(node, &m->endpoint_hash[vm_id % VGPU_ENDPOINT_HASH])
    {
        struct vgpu_endpoint *e = vgpu_list_entry(node, struct vgpu_endpoint, hash_node);
        if (e->place == place && e->vm_id == vm_id)
            return e;
    }
    return NULL;
}

void vgpu_endpoint_appeared(struct vgpu_endpoint *e, int dir_fd)
{
    e->dir_fd = dir_fd;
    e->vanished = false;
    e->backoff_ms = BACKOFF_FIRST_MS;
    if (!e->link)
        vgpu_loop_timer_set(e->mediator->loop, &e->timer, vgpu_loop_now(e->mediator->loop));
}

void vgpu_endpoint_vanished(struct vgpu_endpoint *e)
{
    e->vanished = true;
    if (!e->link)
        endpoint_free(e);
}

void vgpu_endpoint_vanish_all(struct vgpu_mediator *m, uint32_t place)
{
    vgpu_list_each(node, &m->endpoints)
    {
        struct vgpu_endpoint *e = vgpu_list_entry(node, struct vgpu_endpoint, node);
        if (e->place == place)
            vgpu_endpoint_vanished(e);
    }
}

uint32_t vgpu_endpoint_vm(const struct vgpu_endpoint *e)
{
    return e->vm_id;
}

void vgpu_endpoint_link_gone(struct vgpu_endpoint *e, bool good)
{
    e->link = NULL;
    if (e->vanished) {
        endpoint_free(e);
        return;
    }
    if (e->mediator->stopping)
        return;
    /* Who breaks the rules again and again is asked less and less often. */
    if (good)
        e->backoff_ms = BACKOFF_FIRST_MS;
    try_later(e);
}

void vgpu_endpoint_free_all(struct vgpu_mediator *m)
{
    vgpu_list_each(node, &m->endpoints)
    {
        endpoint_free(vgpu_list_entry(node, struct vgpu_endpoint, node));
    }
}
