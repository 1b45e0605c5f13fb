/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lanes of a warp tell each other: vote, shfl, match, activemask; and the clocks. The
 * scheduler has already waited for the lanes of the member mask. A lane that is asked for its value
 * without being there gives what its register holds, which the ISA calls undefined.
 */
#include <time.h>

#include "exec.h"

/* vote (PTX ISA, "vote.sync"): lanes that name the same members vote together. sub is enum
 * ptx_vote; c the predicate; e the member masks' row. d is a predicate, or a row for ballot. */
PTX_HANDLER(VOTE)
{
    const row_u32 *members = ptx_src(w, in->e);
    const uint32_t pred = ptx_pred(w, in->c);
    uint32_t out[PTX_LANES] = {0}, truth = 0;
    for (uint32_t left = mask; left;) {
        const uint32_t m = members[__builtin_ctz(left)];
        uint32_t group = 0;
        for (unsigned i = 0; i < PTX_LANES; i++)
            group |= (uint32_t)(members[i] == m) << i;
        group &= left;
        left &= ~group;
        uint32_t in_mask = group & m, yes = pred & in_mask;
        bool r = in->sub == PTX_VOTE_ALL   ? yes == in_mask
                 : in->sub == PTX_VOTE_ANY ? yes != 0
                                           : yes == 0 || yes == in_mask;
        truth |= r ? group : 0;
        for (unsigned i = 0; i < PTX_LANES; i++)
            out[i] = group >> i & 1 ? yes : out[i];
    }
    if (in->sub == PTX_VOTE_BALLOT) {
        row_u32 *d = ptx_dst(w, in->d);
        PTX_LANE_LOOP(uint32_t, out[i])
    } else {
        ptx_set_pred(w, in->d, truth, mask);
    }
}

/* shfl (PTX ISA, "shfl.sync"): a value, b lane, c clamp and segment mask; d result; imm the
 * predicate that says in range. */
PTX_HANDLER(SHFL)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    uint32_t out[PTX_LANES], ok = 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        int bval = (int)(b[i] & 0x1f), cval = (int)(c[i] & 0x1f), seg = (int)(c[i] >> 8 & 0x1f);
        int lane = (int)i, max = (lane & seg) | (cval & ~seg), min = lane & seg, j;
        bool p;
        switch (in->sub) {
        case PTX_SHFL_UP:
            j = lane - bval;
            p = j >= max;
            break;
        case PTX_SHFL_DOWN:
            j = lane + bval;
            p = j <= max;
            break;
        case PTX_SHFL_BFLY:
            j = lane ^ bval;
            p = j <= max;
            break;
        default:
            j = min | (bval & ~seg);
            p = j <= max;
        }
        out[i] = a[p ? j & 31 : lane];
        ok |= (uint32_t)p << i;
    }
    PTX_LANE_LOOP(uint32_t, out[i])
    ptx_set_pred(w, (int32_t)in->imm, ok, mask);
}

/* match: d the mask of lanes with the same value; all also sets predicate imm. */
#define MATCH(width, R)                                                                            \
    PTX_HANDLER(MATCH_##width)                                                                     \
    {                                                                                              \
        row_u32 *d = ptx_dst(w, in->d);                                                            \
        const R *a = ptx_src(w, in->a);                                                            \
        const row_u32 *members = ptx_src(w, in->e);                                                \
        uint32_t out[PTX_LANES] = {0}, same_all = 0;                                               \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            uint32_t m = mask & members[i], same = 0;                                              \
            for (unsigned j = 0; j < PTX_LANES; j++)                                               \
                same |= (uint32_t)(a[j] == a[i]) << j;                                             \
            same &= m;                                                                             \
            if (in->sub == PTX_MATCH_ANY) {                                                        \
                out[i] = same;                                                                     \
            } else if (same == m) {                                                                \
                out[i] = m;                                                                        \
                same_all |= 1u << i;                                                               \
            }                                                                                      \
        }                                                                                          \
        PTX_LANE_LOOP(uint32_t, out[i])                                                            \
        if (in->sub == PTX_MATCH_ALL)                                                              \
            ptx_set_pred(w, (int32_t)in->imm, same_all, mask);                                     \
    }
MATCH(32, row_u32)
MATCH(64, row_u64)

PTX_HANDLER(ACTIVEMASK)
{
    row_u32 *d = ptx_dst(w, in->d);
    PTX_LANE_LOOP(uint32_t, mask)
}

/* %clock, %clock64, %globaltimer: nanoseconds of the host's monotonic clock, so one "cycle" is one
 * nanosecond. */
PTX_HANDLER(CLOCK)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    if (in->flags & PTX_F_WIDE) {
        row_u64 *d = ptx_dst(w, in->d);
        PTX_LANE_LOOP(uint64_t, ns)
    } else {
        row_u32 *d = ptx_dst(w, in->d);
        uint32_t half = in->sub ? (uint32_t)(ns >> 32) : (uint32_t)ns;
        PTX_LANE_LOOP(uint32_t, half)
    }
}
