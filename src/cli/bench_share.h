/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `vgpu-bench share`: what a program that needs the GPU now and then gets beside some that always
 * do. */
#ifndef VGPU_CLI_BENCH_SHARE_H
#define VGPU_CLI_BENCH_SHARE_H

#include "cli/bench.h"
#include "cli/bench_report.h"

#define BENCH_SHARE_HOGS_MAX 60u

/*
 * Measures at a mediator's socket ("local:PATH") with settings->library, and adds rows. Every
 * program is a child with a connection, so a place in the schedule, of its own. False with a text
 * on stderr; no child is left either way.
 */
bool bench_share_measure(const struct bench_settings *settings, const char *address,
                         struct bench_report *report);

#endif
