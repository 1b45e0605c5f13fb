/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vgpu-mediator's command line. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/net.h"
#include "common/parse.h"
#include "common/sys.h"
#include "config.h"
#include "mediator/daemon.h"

static const char help[] =
    "usage: vgpu-mediator [OPTION]...\n"
    "Shares the GPUs of this host among virtual machines.\n"
    "\n"
    "  --watch DIR        connect to the devices whose sockets DIR/vm-<id>.sock appear;\n"
    "                     may be given several times\n"
    "  --config FILE      configuration (docs/mediator.md); without it one software GPU\n"
    "                     in pool A serves every VM\n"
    "  --listen SOCKET    socket for local clients\n"
    "  --log-level LEVEL  error, warn, info or debug\n"
    "  --worker PATH      the vgpu-worker program\n"
    "  --ready-fd N       write \"ready\" to this descriptor when all is up\n"
    "  --version, --help\n"
    "\n"
    "SIGTERM and SIGINT end it, SIGHUP reads the configuration again, SIGUSR1 logs its state.\n";

struct arguments {
    const char *watch[VGPU_SETTINGS_WATCH];
    uint32_t watch_count;
    const char *config, *listen, *worker, *log_level;
    int ready_fd;
};

static int usage(const char *format, const char *value)
{
    fprintf(stderr, "vgpu-mediator: ");
    fprintf(stderr, format, value);
    fprintf(stderr, "\nTry vgpu-mediator --help.\n");
    return 2;
}

/* -1: go on; else the exit status. */
static int read_arguments(int argc, char **argv, struct arguments *a)
{
    enum { WATCH = 1, CONFIG, LISTEN, LOG_LEVEL, WORKER, READY_FD, VERSION, HELP };
    static const struct option options[] = {
        {"watch", required_argument, NULL, WATCH},
        {"config", required_argument, NULL, CONFIG},
        {"listen", required_argument, NULL, LISTEN},
        {"log-level", required_argument, NULL, LOG_LEVEL},
        {"worker", required_argument, NULL, WORKER},
        {"ready-fd", required_argument, NULL, READY_FD},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},
        {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case WATCH:
            if (a->watch_count == VGPU_SETTINGS_WATCH)
                return usage("--watch %s: too many directories", optarg);
            a->watch[a->watch_count++] = optarg;
            break;
        case CONFIG:
            a->config = optarg;
            break;
        case LISTEN:
            a->listen = optarg;
            break;
        case LOG_LEVEL:
            a->log_level = optarg;
            break;
        case WORKER:
            a->worker = optarg;
            break;
        case READY_FD:
            if (vgpu_parse_fd(optarg, &a->ready_fd))
                return usage("--ready-fd %s: no open descriptor", optarg);
            break;
        case VERSION:
            printf("vgpu-mediator %s\n", VGPU_VERSION);
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

static int replace(char **where, const char *text)
{
    if (!text)
        return 0;
    free(*where);
    *where = strdup(text);
    return *where ? 0 : -ENOMEM;
}

/* The command line over the file over the defaults. NULL after a message. */
static struct vgpu_settings *make_settings(const struct arguments *a)
{
    char error[VGPU_SETTINGS_ERROR] = "out of memory";
    struct vgpu_settings *s =
        a->config ? vgpu_settings_load(a->config, error) : vgpu_settings_default();
    if (!s) {
        fprintf(stderr, "vgpu-mediator: %s\n", error);
        return NULL;
    }
    if (a->log_level && vgpu_log_level_parse(a->log_level, &s->log_level)) {
        usage("--log-level %s: use error, warn, info or debug", a->log_level);
        vgpu_settings_free(s);
        return NULL;
    }
    int rc = replace(&s->listen, a->listen);
    if (!rc)
        rc = replace(&s->worker, a->worker);
    for (uint32_t i = 0; !rc && i < a->watch_count; i++)
        rc = vgpu_settings_add_watch(s, a->watch[i]);
    if (rc) {
        fprintf(stderr, "vgpu-mediator: %s\n",
                rc == -ENOSPC ? "too many directories to watch" : "out of memory");
        vgpu_settings_free(s);
        return NULL;
    }
    return s;
}

int main(int argc, char **argv)
{
    struct arguments a = {.ready_fd = -1};
    int status = read_arguments(argc, argv, &a);
    if (status >= 0)
        return status;
    /* 0 to 2 are open, so that no socket of ours is taken for stderr; and nothing that we were
     * given without knowing it goes on to a worker. */
    int null;
    do
        null = open("/dev/null", O_RDWR);
    while (null >= 0 && null <= STDERR_FILENO);
    vgpu_fd_close(&null);
    vgpu_cloexec_from(STDERR_FILENO + 1);
    struct vgpu_settings *settings = make_settings(&a);
    if (!settings)
        return 2;
    vgpu_log_open("vgpu-mediator", settings->log_level);
    vgpu_log_set_format(settings->log_format);
    struct vgpu_daemon_options options = {
        .config_path = a.config,
        .log_level_said = a.log_level != NULL,
        .ready_fd = a.ready_fd,
    };
    char why[512] = "";
    if (vgpu_daemon_run(settings, &options, why)) {
        fprintf(stderr, "vgpu-mediator: %s\n", why);
        return 1;
    }
    return 0;
}
