/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one clock that time-outs and accounting use: CLOCK_MONOTONIC in ns. It knows no calendar. */
#ifndef VGPU_COMMON_CLOCK_H
#define VGPU_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define VGPU_NS_PER_US 1000ull
#define VGPU_NS_PER_MS 1000000ull
#define VGPU_NS_PER_S  1000000000ull
#define VGPU_NS_NEVER  UINT64_MAX /* a deadline that never comes */

/* Nanoseconds since some start that is the same for every process of this host. Any thread. */
static inline uint64_t vgpu_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * VGPU_NS_PER_S + (uint64_t)ts.tv_nsec;
}

#endif
