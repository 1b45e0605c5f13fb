/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be said of a launch before it runs (P19), from cached limits alone. Pure. */
#ifndef VGPU_WORKER_CHECK_H
#define VGPU_WORKER_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "worker/job.h"

/* Answers a CUresult; when it is not 0, why (why_size bytes) says what was asked and what holds. */
CUresult vgpu_check_launch(const struct vgpu_device_info *info,
                           const struct vgpu_kernel_limits *kernel, const uint32_t grid[3],
                           const uint32_t block[3], uint32_t shared_bytes, size_t params_bytes,
                           char *why, size_t why_size);

#endif
