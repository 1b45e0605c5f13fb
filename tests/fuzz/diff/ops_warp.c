/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between lanes (PTX ISA 9.7.9, 9.7.13): all 32 lanes take part. */
#include "diff.h"

static uint64_t source(const struct insn *in, const struct lane *lanes, unsigned lane, unsigned i)
{
    const struct operand *o = &in->s[i];
    uint64_t v = o->immediate ? o->value : lanes[lane].reg[o->kind][o->index];
    return o->negated ? !v : v;
}

static void shfl(const struct insn *in, struct lane *lanes) /* up, down, bfly, idx */
{
    uint64_t value[DIFF_LANES];
    bool inside[DIFF_LANES];
    for (int lane = 0; lane < (int)DIFF_LANES; lane++) {
        int b = source(in, lanes, (unsigned)lane, 1) & 31,
            c = (int)source(in, lanes, (unsigned)lane, 2);
        int segment = c >> 8 & 31, clamp = c & 31;
        int last = (lane & segment) | (clamp & ~segment), first = lane & segment, from;
        if (in->sub == 0) {
            from = lane - b;
            inside[lane] = from >= last;
        } else {
            from = in->sub == 1 ? lane + b : in->sub == 2 ? lane ^ b : first | (b & ~segment);
            inside[lane] = from <= last;
        }
        value[lane] = source(in, lanes, (unsigned)(inside[lane] ? from : lane), 0);
    }
    for (unsigned lane = 0; lane < DIFF_LANES; lane++) {
        lanes[lane].reg[in->d.kind][in->d.index] = value[lane];
        if (in->two)
            lanes[lane].reg[in->d2.kind][in->d2.index] = inside[lane];
    }
}

static void vote(const struct insn *in, struct lane *lanes) /* all, any, uni */
{
    unsigned yes = 0;
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        yes += source(in, lanes, lane, 0) != 0;
    bool all = yes == DIFF_LANES, any = yes != 0;
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        lanes[lane].reg[in->d.kind][in->d.index] = in->sub == 0   ? all
                                                   : in->sub == 1 ? any
                                                                  : all || !any;
}

static void ballot(const struct insn *in, struct lane *lanes)
{
    uint64_t votes = 0;
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        votes |= (uint64_t)(source(in, lanes, lane, 0) != 0) << lane;
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        lanes[lane].reg[in->d.kind][in->d.index] = votes;
}

static void match_any(const struct insn *in, struct lane *lanes)
{
    uint64_t same[DIFF_LANES] = {0};
    for (unsigned a = 0; a < DIFF_LANES; a++)
        for (unsigned b = 0; b < DIFF_LANES; b++)
            same[a] |= (uint64_t)(source(in, lanes, a, 0) == source(in, lanes, b, 0)) << b;
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        lanes[lane].reg[in->d.kind][in->d.index] = same[lane];
}

static void match_all(const struct insn *in, struct lane *lanes)
{
    bool equal = true;
    for (unsigned lane = 1; lane < DIFF_LANES; lane++)
        equal = equal && source(in, lanes, lane, 0) == source(in, lanes, 0, 0);
    for (unsigned lane = 0; lane < DIFF_LANES; lane++) {
        lanes[lane].reg[in->d.kind][in->d.index] = equal ? UINT32_MAX : 0;
        if (in->two)
            lanes[lane].reg[in->d2.kind][in->d2.index] = equal;
    }
}

static void activemask(const struct insn *in, struct lane *lanes)
{
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        lanes[lane].reg[in->d.kind][in->d.index] = UINT32_MAX;
}

/* "|": a predicate as second result may be there; "m": the member mask. */
const struct family diff_warp[] = {
    {.text = "shfl.sync%v.b32",
     .types = T(B32),
     .operands = "t|trrm",
     .across = shfl,
     .variants = {".up", ".down", ".bfly", ".idx"}},
    {.text = "vote.sync%v.pred",
     .types = T(PRED),
     .operands = "ppm",
     .across = vote,
     .variants = {".all", ".any", ".uni"}},
    {.text = "vote.sync.ballot.b32", .types = T(B32), .operands = "rpm", .across = ballot},
    {.text = "match.any.sync.%t", .types = T(B32) | T(B64), .operands = "rtm", .across = match_any},
    {.text = "match.all.sync.%t",
     .types = T(B32) | T(B64),
     .operands = "r|tm",
     .across = match_all},
    {.text = "activemask.b32", .types = T(B32), .operands = "r", .across = activemask},
};
const size_t diff_warp_count = sizeof(diff_warp) / sizeof(diff_warp[0]);
