/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libmicrohttpd's callbacks and the cache; see server.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "exporter/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "config.h"
#include "exporter/client.h"
#include "exporter/metrics.h"

#define CONNECTIONS_MAX 512u
#define IDLE_S          5u     /* for a connection on which nothing comes */
#define REQUEST_BYTES   16384u /* of memory for each connection: headers are what comes */

struct vgpu_server {
    struct vgpu_server_config config;
    struct MHD_Daemon *daemon;
    /* All of what follows is the daemon's thread's. */
    struct MHD_Response *metrics; /* the answer that holds until then; NULL: none was made */
    uint64_t until_ns;
    double start_time; /* of the mediator that answered last, 0: none has */
    bool up, said;     /* what the log says of it */
    struct vgpu_exporter_state state;
};

static const char home[] = "<!DOCTYPE html>\n<title>vgpu-exporter</title>\n"
                           "<p>Figures of this host's vgpu-mediator, for Prometheus: "
                           "<a href=\"/metrics\">/metrics</a></p>\n";
static const char not_found[] = "There is only /metrics here.\n";
static const char not_allowed[] = "Use GET.\n";

/* Once each time that it changes. */
static void say(struct vgpu_server *s, bool up, const char *why)
{
    char quoted[300];
    if (s->said && s->up == up)
        return;
    s->said = true;
    s->up = up;
    if (up)
        vgpu_log(VGPU_LOG_INFO, "mediator", "up=yes restarts=%llu",
                 (unsigned long long)s->state.restarts);
    else
        vgpu_log(VGPU_LOG_WARN, "mediator", "up=no reason=%s",
                 vgpu_log_quote(quoted, sizeof(quoted), why, strlen(why)));
}

static struct json_object *ask(struct vgpu_server *s)
{
    char why[VGPU_CLIENT_WHY] = "";
    uint64_t begin = vgpu_clock_ns();
    struct json_object *stats = vgpu_client_stats(s->config.control, s->config.timeout_ms, why);
    s->state.queries++;
    s->state.query_errors += !stats;
    s->state.query_seconds = (double)(vgpu_clock_ns() - begin) / 1e9;
    if (stats) {
        double started = vgpu_metrics_start_time(stats);
        if (s->start_time != 0 && started != s->start_time)
            s->state.restarts++;
        s->start_time = started;
    }
    say(s, stats, why);
    return stats;
}

/* Asks everybody and makes the answer; it stays the old one when there is no memory. */
static void refresh(struct vgpu_server *s)
{
    struct vgpu_nvml_sample *nvml = NULL;
    struct json_object *stats = ask(s);
    if (s->config.nvml && (nvml = malloc(sizeof(*nvml))))
        vgpu_nvml_look(s->config.nvml, nvml);
    struct vgpu_text text = {0};
    vgpu_metrics_write(&text, stats, &s->state, nvml);
    json_object_put(stats);
    free(nvml);
    size_t length = text.length;
    char *bytes = vgpu_text_take(&text);
    struct MHD_Response *made =
        bytes ? MHD_create_response_from_buffer(length, bytes, MHD_RESPMEM_MUST_FREE) : NULL;
    s->until_ns = vgpu_clock_ns() + s->config.cache_ms * VGPU_NS_PER_MS;
    if (!made) {
        free(bytes);
        return;
    }
    MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE,
                            "text/plain; version=0.0.4; charset=utf-8");
    if (s->metrics)
        MHD_destroy_response(s->metrics); /* those who still get it keep it */
    s->metrics = made;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status,
                                   const char *text, const char *type)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                             MHD_RESPMEM_PERSISTENT);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request)
{
    struct vgpu_server *s = context;
    (void)version;
    (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, not_allowed, "text/plain");
    /* The first call of a request comes before its body, which is passed over. */
    if (!*request) {
        *request = s;
        return MHD_YES;
    }
    if (*upload_size) {
        *upload_size = 0;
        return MHD_YES;
    }
    if (!strcmp(url, "/"))
        return answer_text(connection, MHD_HTTP_OK, home, "text/html; charset=utf-8");
    if (strcmp(url, "/metrics") != 0)
        return answer_text(connection, MHD_HTTP_NOT_FOUND, not_found, "text/plain");
    s->state.scrapes++;
    if (!s->metrics || vgpu_clock_ns() >= s->until_ns)
        refresh(s);
    return s->metrics ? MHD_queue_response(connection, MHD_HTTP_OK, s->metrics) : MHD_NO;
}

/* An address and a port as the sockets have them. */
static bool make_address(const struct vgpu_server_config *config, struct sockaddr_storage *out,
                         unsigned *flags)
{
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)out;
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, config->host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(config->port);
        return true;
    }
    if (inet_pton(AF_INET6, config->host, &six->sin6_addr) != 1)
        return false;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(config->port);
    *flags |= MHD_USE_IPv6;
    return true;
}

struct vgpu_server *vgpu_server_start(const struct vgpu_server_config *config, char *why)
{
    struct sockaddr_storage address;
    unsigned flags = MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD;
    if (!make_address(config, &address, &flags)) {
        snprintf(why, 256, "'%.100s' is no IPv4 or IPv6 address", config->host);
        return NULL;
    }
    struct vgpu_server *s = calloc(1, sizeof(*s));
    if (!s) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    s->config = *config;
    s->state.version = VGPU_VERSION;
    errno = 0;
    s->daemon = MHD_start_daemon(
        flags, config->port, NULL, NULL, on_request, s, MHD_OPTION_SOCK_ADDR, &address,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES, MHD_OPTION_END);
    if (!s->daemon) {
        snprintf(why, 256, "cannot listen on %.100s port %u: %s", config->host, config->port,
                 errno ? strerror(errno) : "libmicrohttpd does not say why");
        free(s);
        return NULL;
    }
    return s;
}

uint16_t vgpu_server_port(const struct vgpu_server *s)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : s->config.port;
}

void vgpu_server_stop(struct vgpu_server *s)
{
    if (!s)
        return;
    MHD_stop_daemon(s->daemon);
    if (s->metrics)
        MHD_destroy_response(s->metrics);
    free(s);
}
