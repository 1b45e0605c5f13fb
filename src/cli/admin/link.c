/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection to the mediator's control socket: lines of JSON each way (docs/control.md K1 to K6).
 * It knows no operation. Bounds what it takes from the other side, which need not be a mediator.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/admin/admin.h"
#include "common/clock.h"

#define DEPTH 24 /* of an answer; docs/control.md needs 5 */

struct admin_link {
    int fd;
    bool ended; /* the mediator said all it has to say */
    int64_t id; /* of the last request */
    struct json_tokener *tokener;
    char *bytes; /* what came: from `begin` on `used` bytes, of which `searched` hold no newline */
    size_t begin, used, searched, capacity;
};

enum admin_status admin_fail(struct admin_error *e, enum admin_status status, const char *code,
                             const char *format, ...)
{
    va_list arguments;
    e->status = status;
    snprintf(e->code, sizeof(e->code), "%s", code);
    va_start(arguments, format);
    vsnprintf(e->text, sizeof(e->text), format, arguments);
    va_end(arguments);
    return status;
}

static void fail_connect(const char *path, int err, struct admin_error *e)
{
    if (err == ENOENT || err == ECONNREFUSED)
        admin_fail(
            e, ADMIN_NO_MEDIATOR, "no-mediator",
            "no mediator at %s (%s): start vgpu-mediator with control = %s under [mediator], "
            "or say --control PATH; 'vgpu-admin doctor' looks for what is wrong",
            path, err == ENOENT ? "there is no such socket" : "nobody listens there", path);
    else if (err == EACCES || err == EPERM)
        admin_fail(e, ADMIN_DENIED, "denied",
                   "%s: this user may not connect to it: become root, or have an administrator let "
                   "you into the folder that it is in",
                   path);
    else
        admin_fail(e, ADMIN_NO_MEDIATOR, "no-mediator", "%s: cannot connect: %s", path,
                   strerror(err));
}

struct admin_link *admin_link_open(const char *path, struct admin_error *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof(address.sun_path)) {
        admin_fail(e, ADMIN_USAGE, "usage",
                   "--control '%s' is no path of 1 to %zu bytes, which is what a socket can have",
                   path, sizeof(address.sun_path) - 1);
        return NULL;
    }
    memcpy(address.sun_path, path, strlen(path));
    struct admin_link *link = calloc(1, sizeof(*link));
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH);
    if (!link || !tokener) {
        admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
        goto fail;
    }
    link->tokener = tokener;
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd < 0) {
        admin_fail(e, ADMIN_FAILED, "failed", "cannot make a socket: %s", strerror(errno));
        goto fail;
    }
    /* Blocks while the mediator's queue of connections is full; it may be stopped in a debugger. */
    struct timeval patience = {.tv_sec = ADMIN_PATIENCE_MS / 1000};
    setsockopt(link->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    int rc;
    do
        rc = connect(link->fd, (struct sockaddr *)&address, sizeof(address));
    while (rc && errno == EINTR);
    if (rc) {
        fail_connect(path, errno, e);
        close(link->fd);
        goto fail;
    }
    return link;
fail:
    if (tokener)
        json_tokener_free(tokener);
    free(link);
    return NULL;
}

void admin_link_close(struct admin_link *link)
{
    if (!link)
        return;
    close(link->fd);
    json_tokener_free(link->tokener);
    free(link->bytes);
    free(link);
}

int admin_link_fd(const struct admin_link *link)
{
    return link->fd;
}

/* Waits until the socket has `events`, or the deadline. 1, 0, or -1 with errno: EINTR too. */
static int wait_until(const struct admin_link *link, short events, uint64_t deadline_ns)
{
    uint64_t now = vgpu_clock_ns();
    int wait_ms = now < deadline_ns ? (int)((deadline_ns - now + 999999) / 1000000) : 0;
    struct pollfd p = {.fd = link->fd, .events = events};
    return poll(&p, 1, wait_ms);
}

static uint64_t deadline(int wait_ms)
{
    return vgpu_clock_ns() + (uint64_t)wait_ms * 1000000;
}

static bool send_all(struct admin_link *link, const char *bytes, size_t length,
                     struct admin_error *e)
{
    uint64_t until = deadline(ADMIN_PATIENCE_MS);
    while (length) {
        ssize_t n = send(link->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            bytes += n;
            length -= (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        /* Closed: the mediator may have said why before it did, which is for who reads next. */
        if (errno == EPIPE || errno == ECONNRESET)
            return true;
        if (errno != EAGAIN) {
            admin_fail(e, ADMIN_FAILED, "failed", "cannot send to the mediator: %s",
                       strerror(errno));
            return false;
        }
        if (wait_until(link, POLLOUT, until) == 0) {
            admin_fail(e, ADMIN_FAILED, "failed",
                       "the mediator has not taken the request for %d s: is it stopped?",
                       ADMIN_PATIENCE_MS / 1000);
            return false;
        }
    }
    return true;
}

bool admin_link_send(struct admin_link *link, const char *op, struct json_object *arguments,
                     struct admin_error *e)
{
    struct json_object *request = json_object_new_object();
    if (!request) {
        admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
        return false;
    }
    json_object_object_add(request, "id", json_object_new_int64(++link->id));
    json_object_object_add(request, "op", json_object_new_string(op));
    if (arguments) {
        json_object_object_foreach(arguments, name, value)
        {
            json_object_object_add(request, name, json_object_get(value));
        }
    }
    size_t length;
    const char *text = json_object_to_json_string_length(request, JSON_C_TO_STRING_PLAIN, &length);
    bool good = false;
    if (!text)
        admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
    else if (length + 1 > ADMIN_REQUEST_BYTES)
        admin_fail(e, ADMIN_USAGE, "usage",
                   "%s: that is a request of %zu bytes, and the mediator takes %u: name fewer VMs",
                   op, length + 1, ADMIN_REQUEST_BYTES);
    else
        good = send_all(link, text, length, e) && send_all(link, "\n", 1, e);
    json_object_put(request);
    return good;
}

/* Takes what has come. 1: bytes; 0: none yet; -1 and *e. Sets `ended` at the end. */
static int take_bytes(struct admin_link *link, struct admin_error *e)
{
    if (link->begin) {
        memmove(link->bytes, link->bytes + link->begin, link->used);
        link->begin = 0;
    }
    if (link->used == link->capacity) {
        if (link->capacity >= ADMIN_ANSWER_BYTES) {
            admin_fail(e, ADMIN_FAILED, "failed",
                       "an answer of more than %u MiB: that is no mediator's",
                       ADMIN_ANSWER_BYTES >> 20);
            return -1;
        }
        size_t capacity = link->capacity ? 2 * link->capacity : 16384;
        char *bytes = realloc(link->bytes, capacity);
        if (!bytes) {
            admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
            return -1;
        }
        link->bytes = bytes;
        link->capacity = capacity;
    }
    ssize_t n = recv(link->fd, link->bytes + link->used, link->capacity - link->used, MSG_DONTWAIT);
    if (n > 0) {
        link->used += (size_t)n;
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    link->ended = true;
    return 0;
}

/* A whole line of those that came, without its newline; NULL when there is none. */
static const char *take_line(struct admin_link *link, size_t *length)
{
    char *line = link->bytes + link->begin;
    char *end = link->used > link->searched
                    ? memchr(line + link->searched, '\n', link->used - link->searched)
                    : NULL;
    if (!end) {
        link->searched = link->used;
        return NULL;
    }
    *length = (size_t)(end - line);
    link->begin += *length + 1;
    link->used -= *length + 1;
    link->searched = 0;
    return line;
}

static struct json_object *parse_line(struct admin_link *link, const char *line, size_t length,
                                      struct admin_error *e)
{
    json_tokener_reset(link->tokener);
    struct json_object *value = json_tokener_parse_ex(link->tokener, line, (int)length);
    if (value && json_object_is_type(value, json_type_object))
        return value;
    json_object_put(value);
    char start[64], clean[64];
    snprintf(start, sizeof(start), "%.*s", (int)(length < 40 ? length : 40), line);
    admin_fail(e, ADMIN_FAILED, "failed",
               "what answers on the control socket is no mediator: it said '%s'",
               admin_clean(clean, sizeof(clean), start));
    return NULL;
}

struct json_object *admin_link_line(struct admin_link *link, int wait_ms, struct admin_error *e)
{
    uint64_t until = deadline(wait_ms);
    e->status = ADMIN_OK;
    for (;;) {
        size_t length = 0;
        const char *line = link->used ? take_line(link, &length) : NULL;
        if (line)
            return parse_line(link, line, length, e);
        if (link->ended) {
            admin_fail(e, ADMIN_NO_MEDIATOR, "no-mediator",
                       "the mediator closed the connection; a change that was not answered may "
                       "have been made: look with list-vms");
            return NULL;
        }
        int rc = take_bytes(link, e);
        if (rc < 0)
            return NULL;
        if (rc > 0 || link->ended)
            continue;
        rc = wait_until(link, POLLIN, until);
        if (rc == 0 || (rc < 0 && wait_ms == 0))
            return NULL;
        /* A signal may be there to end a program that waits; without a handler there is none. */
        if (rc < 0 && errno == EINTR && vgpu_clock_ns() >= until)
            return NULL;
    }
}

/* K6; a code that we do not know is a failure like another. */
static enum admin_status status_of(const char *code)
{
    static const struct {
        const char *code;
        enum admin_status status;
    } known[] = {
        {"invalid", ADMIN_USAGE},   {"not-found", ADMIN_NOT_FOUND},
        {"exists", ADMIN_CONFLICT}, {"denied", ADMIN_DENIED},
        {"busy", ADMIN_BUSY},       {"conflict", ADMIN_CONFLICT},
        {"storage", ADMIN_STORAGE}, {"unsupported", ADMIN_UNSUPPORTED},
        {"internal", ADMIN_FAILED},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!strcmp(code, known[i].code))
            return known[i].status;
    return ADMIN_FAILED;
}

struct json_object *admin_link_result(struct json_object *line, struct admin_error *e)
{
    struct json_object *result = admin_object(line, "result");
    if (admin_flag(line, "ok") && result)
        return json_object_get(result);
    struct json_object *error = admin_object(line, "error");
    const char *code = admin_text(error, "code", "failed");
    char clean[ADMIN_TEXT];
    admin_clean(clean, sizeof(clean),
                admin_text(error, "message", "the mediator answered with no result and no reason"));
    char word[24];
    admin_fail(e, status_of(code), admin_clean(word, sizeof(word), code), "%s", clean);
    return NULL;
}

struct json_object *admin_link_call(struct admin_link *link, const char *op,
                                    struct json_object *arguments, struct admin_error *e)
{
    if (!admin_link_send(link, op, arguments, e))
        return NULL;
    struct json_object *line = admin_link_line(link, ADMIN_PATIENCE_MS, e);
    if (!line) {
        if (e->status == ADMIN_OK)
            admin_fail(e, ADMIN_FAILED, "failed",
                       "%s: no answer from the mediator for %d s: it may be stopped; a change may "
                       "still be made: look with list-vms",
                       op, ADMIN_PATIENCE_MS / 1000);
        return NULL;
    }
    struct json_object *result = admin_link_result(line, e);
    json_object_put(line);
    return result;
}
