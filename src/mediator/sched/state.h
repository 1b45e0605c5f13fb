/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The scheduler's insides, for the files of this folder; sched.h is what others see. */
#ifndef VGPU_SCHED_STATE_H
#define VGPU_SCHED_STATE_H

#include "mediator/sched/heap.h"
#include "mediator/sched/sched.h"

#define VGPU_SCHED_NOBODY UINT32_MAX
#define VGPU_SCHED_NEVER  UINT64_MAX
#define VGPU_SCHED_RATE   1000 /* a rate is in thousandths */

enum vgpu_sched_place { PLACE_NONE, PLACE_BEHIND, PLACE_AHEAD, PLACE_THROTTLED };

struct tenant {
    bool present;
    bool waiting; /* for a lease, and holds none */
    bool holding;
    bool again; /* it holds one and wants the next */
    bool active;
    struct vgpu_sched_tenant is;
    uint64_t weight; /* with its priority's factor */
    __int128 v;
    __int128 owed;    /* by how much it was behind when it was made to leave, */
    uint64_t left_ns; /* when it left */
    uint64_t rest;    /* of what was charged, less than a unit of v: in 1/65536 ns */
    enum vgpu_sched_place place;
    uint64_t since_ns; /* waiting: since when */
    int64_t tokens_ns;
    uint64_t refilled_ns;
    uint64_t throttles;
};

/* Those who share by virtual time. */
struct class
{
    __int128 sum;    /* of weight * v, of the active ones */
    uint64_t weight; /* of the active ones */
    __int128 v;      /* as it was when the last one left */
};

struct holder {
    uint32_t tenant; /* NOBODY: free */
    uint64_t start_ns, charged_ns;
    bool recalled, killed, lingers;
    bool aged;          /* it waited too long: its turn is not cut short, */
    bool gift;          /* and it would not have been its turn otherwise */
    uint64_t recall_ns; /* end of the grace; only ever moves to an earlier time */
    uint64_t wanted_ns; /* since when its slot is, by who waits; NEVER: it is not */
    __int128 over_v;    /* by how much it was charged since it is late */
};

struct gpu {
    bool touched;     /* something happened since next() had nothing more to say */
    uint64_t wake_ns; /* when it will have something to say if nothing happens; unless touched */
    uint32_t held;
    uint32_t admissible;        /* who wait and may be served */
    uint64_t awaited_ns;        /* since when there always was one; NEVER: there is none */
    uint64_t aged_again_ns;     /* no turn is given for age before */
    struct vgpu_heap aging;     /* admissible, and not far ahead of their share: by since_ns */
    struct vgpu_heap throttled; /* by when they may go on */
    struct vgpu_heap behind[VGPU_SCHED_PRIORITIES]; /* eligible, by virtual deadline */
    struct vgpu_heap ahead[VGPU_SCHED_PRIORITIES];  /* not yet, by virtual time */
    struct class classes[VGPU_SCHED_PRIORITIES];
    struct holder holder[VGPU_SCHED_SLOTS_MAX];
};

struct vgpu_sched {
    struct vgpu_sched_config config;
    struct gpu *gpus;
    struct tenant *tenants;
    uint32_t *places;                /* of all heaps */
    struct vgpu_heap_entry *entries; /* the same */
};

static inline uint64_t sched_add_time(uint64_t a, uint64_t b)
{
    return a > VGPU_SCHED_NEVER - b ? VGPU_SCHED_NEVER : a + b;
}

static inline uint64_t sched_later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* From when on nobody counts on a holder to be back soon: its kernel may never end. */
static inline uint64_t sched_late(const struct vgpu_sched *s, const struct holder *h)
{
    return h->recalled ? sched_add_time(h->recall_ns, s->config.quantum_ns) : VGPU_SCHED_NEVER;
}

/* ---- fair.c: shares by virtual time, and rates ---- */

struct class *sched_class(struct vgpu_sched *s, const struct tenant *t);
/* Where everybody in it should be. */
__int128 sched_class_v(const struct class *c);
/* A lease time as virtual time of this tenant, and back. */
__int128 sched_to_v(const struct tenant *t, uint64_t ns);
int64_t sched_to_ns(const struct tenant *t, __int128 v);
/* From now on it counts among those who want the GPU, or does not. */
void sched_join(struct vgpu_sched *s, struct tenant *t, uint64_t now_ns);
void sched_leave(struct vgpu_sched *s, struct tenant *t, uint64_t now_ns);
/* Moves it by so much. */
void sched_move(struct vgpu_sched *s, struct tenant *t, __int128 step);
/* Brings all holders' accounts up to now. */
void sched_settle(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns);
void sched_refill(struct tenant *t, uint64_t now_ns);
/* When one who has no tokens may go on. */
uint64_t sched_throttled_until(const struct vgpu_sched *s, const struct tenant *t);
/* When a holder's rate is used up; NEVER: it has none. */
uint64_t sched_rate_end(const struct tenant *t, uint64_t now_ns);

/* ---- wait.c: who waits, and whose turn it is ---- */

void sched_enqueue(struct vgpu_sched *s, uint32_t number, uint64_t since_ns, uint64_t now_ns);
void sched_dequeue(struct vgpu_sched *s, uint32_t number);
/* Lets those whose rate allows it again wait in earnest. */
void sched_release_throttled(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns);
/* When somebody's age gives him a turn; NEVER: nobody waits. */
uint64_t sched_aging_end(const struct vgpu_sched *s, const struct gpu *g);

struct sched_turn {
    uint32_t tenant; /* NOBODY: nobody waits */
    bool urgent;     /* it has priority over any lower one that runs */
    bool aged, gift; /* as of a holder */
};
struct sched_turn sched_best(struct vgpu_sched *s, struct gpu *g, uint64_t now_ns);

/* ---- sched.c ---- */

struct holder *sched_holder(struct gpu *g, uint32_t number);

#endif
