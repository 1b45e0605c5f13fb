/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mediator as a whole, for main. */
#ifndef VGPU_MEDIATOR_DAEMON_H
#define VGPU_MEDIATOR_DAEMON_H

#include <stdbool.h>

#include "mediator/settings.h"

struct vgpu_daemon_options {
    const char *config_path; /* read again on SIGHUP; NULL: none */
    bool log_level_said;     /* on the command line, which wins over the file */
    int ready_fd;            /* gets "ready\n" and is closed; -1: none */
};

/*
 * Runs until SIGTERM or SIGINT. Takes settings over. 0, or a negative errno with a text in why (512
 * bytes).
 */
int vgpu_daemon_run(struct vgpu_settings *settings, const struct vgpu_daemon_options *options,
                    char *why);

#endif
