/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The modes of vgpu-bench that measure the fast path. */
#ifndef VGPU_CLI_BENCH_CHANNEL_H
#define VGPU_CLI_BENCH_CHANNEL_H

#include <stdbool.h>

#include "cli/bench.h"
#include "cli/bench_report.h"
#include "cli/floors.h"
#include "guest/vgpu_mmio_client.h"

/* Rows for a channel of the device beside its mailbox: posts, calls, a worker asleep. With goals if
 * `local`: the ones of a VM depend on how it is run. */
bool bench_channel_measure(const struct bench_settings *settings, struct vgpu *gpu, bool local,
                           const struct vgpu_floors *floors, struct bench_report *report);

/*
 * Rows for programs of the CUDA driver API over the device at `address` (NULL: the environment's):
 * with settings->native, in turns with that library and with the goals of a GPU; else with those of
 * the software backend, where staged_bytes_per_s is the bare copy to be compared with (0: none),
 * which is measured once more behind ours, and the mean taken.
 */
bool bench_cuda_rows(const struct bench_settings *settings, const char *address, bool local,
                     double staged_bytes_per_s, struct bench_report *report);

#endif
