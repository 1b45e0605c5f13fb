/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vgpu-guestd's command line and signals. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/log.h"
#include "config.h"
#include "guestd/guestd.h"

static const char usage[] =
    "usage: vgpu-guestd [--run-dir DIR] [--timeout MS] [--log-level LEVEL]\n"
    "Ends the sessions of programs of this machine that died, and frees their channels, at once.\n"
    "  --run-dir DIR      where libvgpu records sessions (/run/vgpu)\n"
    "  --timeout MS       what the host has to answer in (5000)\n"
    "  --log-level LEVEL  error, warn, info, debug (info)\n"
    "Runs in the foreground; SIGTERM and SIGINT end it. Exit status: 0; 1 failed; 2 arguments.\n";

int main(int argc, char **argv)
{
    struct vgpu_guestd_options options = {.run_dir = "/run/vgpu", .timeout_ms = 5000};
    enum vgpu_log_level level = VGPU_LOG_INFO;
    const char *value;
    for (int i = 1; i < argc; i++) {
        uint64_t number;
        bool good = false;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return cli_finish("vgpu-guestd", 0);
        }
        if (strcmp(argv[i], "--version") == 0) {
            puts("vgpu-guestd " VGPU_VERSION);
            return cli_finish("vgpu-guestd", 0);
        }
        if (cli_text_option(argc, argv, &i, "--run-dir", &value)) {
            good = (options.run_dir = value) != NULL;
        } else if (cli_option(argc, argv, &i, "--timeout", &value)) {
            good = cli_number(value, 1, 600000, &number);
            options.timeout_ms = (uint32_t)number;
        } else if (cli_option(argc, argv, &i, "--log-level", &value)) {
            good = value && vgpu_log_level_parse(value, &level) == 0;
        }
        if (!good) {
            fputs(usage, stderr);
            return 2;
        }
    }
    vgpu_log_open("vgpu-guestd", level);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int stop = signalfd(-1, &signals, SFD_CLOEXEC);
    if (stop < 0) {
        vgpu_log(VGPU_LOG_ERROR, "failed", "what=signalfd reason=\"%s\"", strerror(errno));
        return 1;
    }
    int err = vgpu_guestd_run(&options, stop);
    close(stop);
    return err == 0 ? 0 : 1;
}
