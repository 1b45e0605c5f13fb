/* SPDX-License-Identifier: MIT */
/*
 * Waiting: deadlines on the monotonic clock, and the back-off between two looks at something that
 * cannot wake us. Knows nothing of what is waited for.
 */
#ifndef VGPU_GUEST_DEADLINE_H
#define VGPU_GUEST_DEADLINE_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t vgpu_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t vgpu_deadline_ns(uint32_t timeout_ms)
{
    return vgpu_now_ns() + (uint64_t)timeout_ms * 1000000u;
}

/* Milliseconds until a deadline, rounded up, 0 when it has passed. */
static inline uint32_t vgpu_remaining_ms(uint64_t deadline_ns)
{
    uint64_t now = vgpu_now_ns();
    uint64_t ms = deadline_ns > now ? (deadline_ns - now + 999999u) / 1000000u : 0;
    return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

#define VGPU_BACKOFF_SPIN_NS  60000u   /* looks without a sleep: a fast host answers meanwhile */
#define VGPU_BACKOFF_FIRST_NS 20000u   /* then sleeps, growing by half each time */
#define VGPU_BACKOFF_LAST_NS  1000000u /* up to this */

struct vgpu_backoff {
    uint64_t start_ns; /* of the first look; 1: no spinning */
    uint32_t sleep_ns;
};

/*
 * To be called after each look that found nothing. False: the deadline has passed. The spin is
 * bounded by time, not by looks: one costs microseconds under KVM, a tenth of one under emulation.
 * It yields, since who we wait for, or for whom the device is busy, may be on this processor; and
 * it ends in sleep, since under emulation the processor that polls is one that the host needs.
 */
static inline bool vgpu_backoff_wait(struct vgpu_backoff *backoff, uint64_t deadline_ns)
{
    uint64_t now = vgpu_now_ns();
    if (now >= deadline_ns)
        return false;
    if (backoff->start_ns == 0)
        backoff->start_ns = now;
    if (now - backoff->start_ns < VGPU_BACKOFF_SPIN_NS) {
        sched_yield();
        return true;
    }
    if (backoff->sleep_ns == 0)
        backoff->sleep_ns = VGPU_BACKOFF_FIRST_NS;
    uint64_t sleep_ns = backoff->sleep_ns;
    if (sleep_ns > deadline_ns - now)
        sleep_ns = deadline_ns - now;
    /* A signal ends the sleep early, which only means another look. */
    nanosleep(&(struct timespec){.tv_nsec = (long)sleep_ns}, NULL);
    backoff->sleep_ns += backoff->sleep_ns / 2;
    if (backoff->sleep_ns > VGPU_BACKOFF_LAST_NS)
        backoff->sleep_ns = VGPU_BACKOFF_LAST_NS;
    return true;
}

#endif
