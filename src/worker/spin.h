/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long to look for work before sleeping. Waking up costs a dozen microseconds, looking costs a
 * processor: so a thread looks about as long as work has taken to come lately, and not at all when
 * that is longer than waking up is bad. Pure: times are handed in. The engine thread's.
 */
#ifndef VGPU_WORKER_SPIN_H
#define VGPU_WORKER_SPIN_H

#include <stdint.h>

#define VGPU_SPIN_MAX_NS       50000u  /* at most so long, */
#define VGPU_SPIN_MIN_NS       2000u   /* at least so long if at all */
#define VGPU_SPIN_CAP_MIN_NS   10000u  /* at most so long where others want the processor */
#define VGPU_SPIN_PREEMPTED_NS 20000u  /* between two looks: somebody else ran here */
#define VGPU_SPIN_GAP_MAX_NS   200000u /* a longer gap counts as this much */

struct vgpu_spin {
    uint32_t gap_ns;     /* from idle to work: a moving average over about 8 */
    uint32_t cap_ns;     /* less than MAX when others want this processor */
    uint64_t idle_since; /* 0: not idle */
};

static inline void vgpu_spin_init(struct vgpu_spin *s)
{
    *s = (struct vgpu_spin){.gap_ns = VGPU_SPIN_MAX_NS / 4, .cap_ns = VGPU_SPIN_MAX_NS};
}

/* There is nothing to do. */
static inline void vgpu_spin_idle(struct vgpu_spin *s, uint64_t now_ns)
{
    if (!s->idle_since)
        s->idle_since = now_ns;
}

/* There is again. */
static inline void vgpu_spin_work(struct vgpu_spin *s, uint64_t now_ns)
{
    if (!s->idle_since)
        return;
    uint64_t gap = now_ns - s->idle_since;
    if (gap > VGPU_SPIN_GAP_MAX_NS)
        gap = VGPU_SPIN_GAP_MAX_NS;
    s->gap_ns = (uint32_t)((7ull * s->gap_ns + gap) / 8);
    s->idle_since = 0;
}

/* For how long to look from now on; 0: sleep at once. */
static inline uint32_t vgpu_spin_budget(const struct vgpu_spin *s)
{
    if (s->gap_ns > s->cap_ns)
        return 0;
    uint64_t budget = 3ull * s->gap_ns + VGPU_SPIN_MIN_NS;
    return budget < s->cap_ns ? (uint32_t)budget : s->cap_ns;
}

/* It looked; `longest_ns` was between two looks. */
static inline void vgpu_spin_looked(struct vgpu_spin *s, uint64_t longest_ns)
{
    if (longest_ns >= VGPU_SPIN_PREEMPTED_NS)
        s->cap_ns = s->cap_ns / 2 > VGPU_SPIN_CAP_MIN_NS ? s->cap_ns / 2 : VGPU_SPIN_CAP_MIN_NS;
    else if (s->cap_ns < VGPU_SPIN_MAX_NS)
        s->cap_ns += VGPU_SPIN_MAX_NS / 50;
}

#endif
