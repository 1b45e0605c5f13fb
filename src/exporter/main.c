/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vgpu-exporter's command line, and its end. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/notify.h"
#include "common/parse.h"
#include "config.h"
#include "exporter/server.h"

static const char help[] =
    "usage: vgpu-exporter [OPTION]...\n"
    "Serves the figures of this host's vgpu-mediator to Prometheus (docs/metrics.md).\n"
    "\n"
    "  --control SOCKET   the mediator's control socket\n"
    "                     (default: /run/vgpu-mediator/control.sock)\n"
    "  --listen ADDR:PORT where to serve (default: 127.0.0.1:9860)\n"
    "  --cache-ms N       an answer holds so long, for all who ask (default: 1000)\n"
    "  --timeout-ms N     the mediator has so long to answer (default: 2000)\n"
    "  --nvml PATH        NVIDIA's management library, or none\n"
    "                     (default: libnvidia-ml.so.1, if it is there)\n"
    "  --log-level LEVEL  error, warn, info or debug\n"
    "  --log-format FORM  text (default) or json\n"
    "  --ready-fd N       write \"ready PORT\" to this descriptor when it serves\n"
    "  --version, --help\n"
    "\n"
    "SIGTERM and SIGINT end it.\n";

struct arguments {
    struct vgpu_server_config server;
    char host[64];
    const char *nvml;
    enum vgpu_log_level log_level;
    enum vgpu_log_format log_format;
    int ready_fd;
};

static int usage(const char *format, const char *value)
{
    fprintf(stderr, "vgpu-exporter: ");
    fprintf(stderr, format, value);
    fprintf(stderr, "\nTry vgpu-exporter --help.\n");
    return 2;
}

/* "127.0.0.1:9860" or "[::1]:9860". */
static int read_listen(const char *text, struct arguments *a)
{
    const char *colon = strrchr(text, ':');
    uint32_t port;
    size_t length = colon ? (size_t)(colon - text) : 0;
    if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (!length || length >= sizeof(a->host) || vgpu_parse_u32(colon + 1, 0, 65535, &port))
        return -EINVAL;
    memcpy(a->host, text, length);
    a->host[length] = 0;
    a->server.port = (uint16_t)port;
    return 0;
}

/* -1: go on; else the exit status. */
static int read_arguments(int argc, char **argv, struct arguments *a)
{
    enum {
        CONTROL = 1,
        LISTEN,
        CACHE,
        TIMEOUT,
        NVML,
        LOG_LEVEL,
        LOG_FORMAT,
        READY_FD,
        VERSION,
        HELP
    };
    static const struct option options[] = {
        {"control", required_argument, NULL, CONTROL},
        {"listen", required_argument, NULL, LISTEN},
        {"cache-ms", required_argument, NULL, CACHE},
        {"timeout-ms", required_argument, NULL, TIMEOUT},
        {"nvml", required_argument, NULL, NVML},
        {"log-level", required_argument, NULL, LOG_LEVEL},
        {"log-format", required_argument, NULL, LOG_FORMAT},
        {"ready-fd", required_argument, NULL, READY_FD},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},
        {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case CONTROL:
            a->server.control = optarg;
            break;
        case LISTEN:
            if (read_listen(optarg, a))
                return usage("--listen '%s': write ADDRESS:PORT, as in 127.0.0.1:9860", optarg);
            break;
        case CACHE:
            if (vgpu_parse_u32(optarg, 0, 3600000, &a->server.cache_ms))
                return usage("--cache-ms '%s': write a number from 0 to 3600000", optarg);
            break;
        case TIMEOUT:
            if (vgpu_parse_u32(optarg, 1, 60000, &a->server.timeout_ms))
                return usage("--timeout-ms '%s': write a number from 1 to 60000", optarg);
            break;
        case NVML:
            a->nvml = optarg;
            break;
        case LOG_LEVEL:
            if (vgpu_log_level_parse(optarg, &a->log_level))
                return usage("--log-level '%s': use error, warn, info or debug", optarg);
            break;
        case LOG_FORMAT:
            if (vgpu_log_format_parse(optarg, &a->log_format))
                return usage("--log-format '%s': use text or json", optarg);
            break;
        case READY_FD:
            if (vgpu_parse_fd(optarg, &a->ready_fd))
                return usage("--ready-fd %s: no open descriptor", optarg);
            break;
        case VERSION:
            printf("vgpu-exporter %s\n", VGPU_VERSION);
            return 0;
        case HELP:
            fputs(help, stdout);
            return 0;
        default:
            return usage("%s", "unknown option, or one without its value");
        }
    }
    if (optind < argc)
        return usage("'%s' is not an option", argv[optind]);
    return -1;
}

static struct vgpu_nvml *open_nvml(const char *library)
{
    char why[256] = "", quoted[300];
    bool asked = library != NULL;
    if (asked && !strcmp(library, "none"))
        return NULL;
    struct vgpu_nvml *nvml = vgpu_nvml_open(asked ? library : "libnvidia-ml.so.1", why);
    if (!nvml)
        vgpu_log(asked ? VGPU_LOG_WARN : VGPU_LOG_DEBUG, "nvml", "reason=%s",
                 vgpu_log_quote(quoted, sizeof(quoted), why, strlen(why)));
    return nvml;
}

static void tell_ready(const struct arguments *a, uint16_t port)
{
    char text[32];
    vgpu_log(VGPU_LOG_INFO, "ready", "version=%s listen=%s port=%u control=%s", VGPU_VERSION,
             a->host, port, a->server.control);
    vgpu_notify("READY=1");
    if (a->ready_fd < 0)
        return;
    int n = snprintf(text, sizeof(text), "ready %u\n", port);
    if (write(a->ready_fd, text, (size_t)n) != n)
        vgpu_log(VGPU_LOG_WARN, "ready-fd", "reason=\"%s\"", strerror(errno));
    close(a->ready_fd);
}

int main(int argc, char **argv)
{
    struct arguments a = {.server = {.control = "/run/vgpu-mediator/control.sock",
                                     .cache_ms = 1000,
                                     .timeout_ms = 2000},
                          .log_level = VGPU_LOG_INFO,
                          .ready_fd = -1};
    (void)read_listen("127.0.0.1:9860", &a);
    int status = read_arguments(argc, argv, &a), got;
    if (status >= 0)
        return status;
    vgpu_log_open("vgpu-exporter", a.log_level);
    vgpu_log_set_format(a.log_format);
    /* Before there are threads: all of them inherit it, and only the wait below gets signals. */
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    pthread_sigmask(SIG_BLOCK, &end, NULL);
    signal(SIGPIPE, SIG_IGN);
    char why[256];
    a.server.host = a.host;
    a.server.nvml = open_nvml(a.nvml);
    struct vgpu_server *server = vgpu_server_start(&a.server, why);
    if (!server) {
        fprintf(stderr, "vgpu-exporter: %s\n", why);
        vgpu_nvml_close(a.server.nvml);
        return 1;
    }
    tell_ready(&a, vgpu_server_port(server));
    while (sigwait(&end, &got))
        ;
    vgpu_notify("STOPPING=1");
    vgpu_server_stop(server);
    vgpu_nvml_close(a.server.nvml);
    return 0;
}
