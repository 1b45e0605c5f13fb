/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions and answers, line by line, up to a deadline; see client.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "exporter/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/clock.h"
#include "common/net.h"

#define LINE_MAX_BYTES (8u << 20) /* of an answer: far more than a page of 128 VMs takes */
#define PAGES_MAX      256u

struct client {
    int fd;
    uint64_t deadline_ns;
    char *line;
    size_t used, room;
    size_t taken; /* bytes at the beginning that were the line before */
    char *why;
};

static int fail(struct client *c, const char *what, const char *reason)
{
    snprintf(c->why, VGPU_CLIENT_WHY, "%s: %.150s", what, reason);
    return -1;
}

/* Waits for the socket; -1 at the deadline. */
static int wait_for(struct client *c, short events)
{
    for (;;) {
        uint64_t now = vgpu_clock_ns();
        struct pollfd p = {.fd = c->fd, .events = events};
        if (now >= c->deadline_ns)
            return fail(c, "the mediator", "no answer in time");
        int n = poll(&p, 1, (int)((c->deadline_ns - now) / VGPU_NS_PER_MS) + 1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return fail(c, "poll", strerror(errno));
    }
}

static int dial(struct client *c, const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof(address.sun_path))
        return fail(c, socket_path, "the path is too long for a socket");
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return fail(c, "socket", strerror(errno));
    /* A full backlog says EAGAIN: then the mediator does not accept. */
    while (connect(c->fd, (struct sockaddr *)&address, sizeof(address))) {
        if (errno == EAGAIN && vgpu_clock_ns() < c->deadline_ns)
            poll(NULL, 0, 20);
        else if (errno != EINTR)
            return fail(c, socket_path, strerror(errno));
    }
    return 0;
}

static int send_all(struct client *c, const char *bytes, size_t length)
{
    while (length) {
        ssize_t n = send(c->fd, bytes, length, MSG_NOSIGNAL);
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            if (wait_for(c, POLLOUT))
                return -1;
        } else if (n < 0 && errno != EINTR) {
            return fail(c, "the mediator", strerror(errno));
        }
    }
    return 0;
}

static int make_room(struct client *c)
{
    if (c->used < c->room)
        return 0;
    size_t room = c->room ? 2 * c->room : 65536;
    char *line = room > LINE_MAX_BYTES ? NULL : realloc(c->line, room);
    if (!line)
        return fail(c, "the mediator", "its answer is too long");
    c->line = line;
    c->room = room;
    return 0;
}

/* The next line, without its end; NULL: there is none. It is ours until the next call. */
static char *read_line(struct client *c, size_t *length)
{
    memmove(c->line, c->line + c->taken, c->used - c->taken);
    c->used -= c->taken;
    c->taken = 0;
    for (size_t looked = 0;;) {
        char *end = c->used > looked ? memchr(c->line + looked, '\n', c->used - looked) : NULL;
        if (end) {
            *end = 0;
            *length = (size_t)(end - c->line);
            c->taken = *length + 1;
            return c->line;
        }
        looked = c->used;
        if (make_room(c))
            return NULL;
        ssize_t n = recv(c->fd, c->line + c->used, c->room - c->used, 0);
        if (n > 0) {
            c->used += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            if (wait_for(c, POLLIN))
                return NULL;
        } else if (n == 0) {
            fail(c, "the mediator", "it closed the connection");
            return NULL;
        } else if (errno != EINTR) {
            fail(c, "the mediator", strerror(errno));
            return NULL;
        }
    }
}

/* The result of an answer that is a good one; NULL: it is not. Belongs to the answer. */
static struct json_object *result_of(struct client *c, struct json_object *answer)
{
    struct json_object *ok, *result, *error, *message;
    if (json_object_object_get_ex(answer, "ok", &ok) && json_object_get_boolean(ok) &&
        json_object_object_get_ex(answer, "result", &result) &&
        json_object_is_type(result, json_type_object))
        return result;
    if (json_object_object_get_ex(answer, "error", &error) &&
        json_object_object_get_ex(error, "message", &message))
        fail(c, "the mediator says", json_object_get_string(message));
    else
        fail(c, "the mediator", "its answer is none");
    return NULL;
}

/* One page into all. Sets *next; 0: that was the last one. */
static int add_page(struct client *c, struct json_object *all, struct json_object *page,
                    unsigned *next)
{
    struct json_object *from, *to, *field;
    if (!json_object_object_get_ex(page, "vms", &from) ||
        !json_object_is_type(from, json_type_array))
        return fail(c, "the mediator", "its figures have no \"vms\"");
    if (!json_object_object_get_ex(all, "vms", &to)) {
        to = json_object_new_array();
        json_object_object_add(all, "vms", to);
    }
    for (size_t i = 0; i < json_object_array_length(from); i++)
        json_object_array_add(to, json_object_get(json_object_array_get_idx(from, i)));
    if (json_object_object_get_ex(page, "gpus", &field))
        json_object_object_add(all, "gpus", json_object_get(field));
    if (json_object_object_get_ex(page, "mediator", &field))
        json_object_object_add(all, "mediator", json_object_get(field));
    int64_t number = 0;
    if (json_object_object_get_ex(page, "next", &field))
        number = json_object_get_int64(field); /* null is 0 */
    *next = number > 0 && number <= UINT32_MAX ? (unsigned)number : 0;
    return 0;
}

static int ask_page(struct client *c, struct json_object *all, unsigned after, unsigned *next)
{
    char request[80];
    size_t length;
    snprintf(request, sizeof(request), "{\"id\":1,\"op\":\"stats\",\"after\":%u}\n", after);
    char *line = send_all(c, request, strlen(request)) ? NULL : read_line(c, &length);
    if (!line)
        return -1;
    struct json_object *answer = json_tokener_parse(line);
    if (!json_object_is_type(answer, json_type_object)) {
        json_object_put(answer);
        return fail(c, "the mediator", "its answer is no JSON object");
    }
    struct json_object *page = result_of(c, answer);
    int rc = page ? add_page(c, all, page, next) : -1;
    json_object_put(answer);
    return rc;
}

struct json_object *vgpu_client_stats(const char *socket_path, unsigned timeout_ms, char *why)
{
    struct client c = {
        .fd = -1, .deadline_ns = vgpu_clock_ns() + timeout_ms * VGPU_NS_PER_MS, .why = why};
    struct json_object *all = json_object_new_object();
    unsigned after = 0, pages = 0;
    int rc = make_room(&c);
    if (!rc)
        rc = dial(&c, socket_path);
    do {
        unsigned next = 0;
        if (!rc)
            rc = ask_page(&c, all, after, &next);
        /* A mediator that goes round in circles would keep us here for ever. */
        if (!rc && next && (next <= after || ++pages == PAGES_MAX))
            rc = fail(&c, "the mediator", "its pages have no end");
        after = next;
    } while (!rc && after);
    vgpu_fd_close(&c.fd);
    free(c.line);
    if (!rc)
        return all;
    json_object_put(all);
    return NULL;
}
