/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a handler sees of a running warp, and the idiom all handlers are written in.
 *
 * The exec_*.c files are compiled once per instruction set level (VGPU_PTX_LEVEL: base, avx2,
 * avx512) so that one binary runs on any x86-64 and is fast on a new one; exec_table.c makes each
 * level's table and the launch picks one. A handler gets the lanes to work on as a mask that is
 * never 0 and must not touch the registers of other lanes.
 */
#ifndef VGPU_PTX_EXEC_H
#define VGPU_PTX_EXEC_H

#include <string.h>

#include "ptx.h"
#include "ptx_memory.h"
#include "ptx_ops.h"

struct ptx_block;

/* A fault's place and kind; the first of a launch is kept. */
struct ptx_fault {
    CUresult result;
    uint32_t line;
    uint64_t address;
    bool has_address, deadlock;
};

struct ptx_warp {
    uint8_t *regs;
    const uint8_t *consts;
    uint32_t *preds;
    const struct ptx_insn *code;
    uint32_t pc;        /* of the lanes in `active` */
    uint32_t stop_pc;   /* at or above it the scheduler must look again */
    uint32_t active;    /* lanes that run together now */
    uint32_t live;      /* lanes that have not exited */
    uint32_t bar_wait;  /* lanes waiting at a barrier */
    uint32_t sync_wait; /* lanes waiting for others of their warp at a .sync instruction */
    uint32_t sync_go;   /* lanes at a .sync instruction whose members are all there */
    bool sync_alone;    /* what sync_wait waits for cannot come: let some go on */
    uint32_t cc;        /* CC.CF, one bit per lane */
    uint32_t all;       /* lanes the warp began with */
    /* The allocation the last global access hit. */
    uint64_t hit_base, hit_bytes;
    uint8_t *hit_host;
    bool hit_read_only;
    uint8_t *shared;
    uint32_t shared_bytes;
    uint32_t local_bytes; /* per lane, one lane after the other */
    uint8_t *local;
    const uint8_t *params;
    uint32_t param_bytes;
    const struct ptx_memory *memory;
    struct ptx_fault fault;
    uint64_t lane_at[PTX_LANES]; /* ptx_place() of the lanes that do not run */
    uint8_t lane_bar[PTX_LANES];
    uint32_t bar_lanes[PTX_MAX_BARRIERS]; /* that have arrived since it last completed */
    uint32_t boost;                       /* cost left to a group that was let ahead of its turn */
    uint64_t boost_at;                    /* where the last one was left: the next is behind it */
    /*
     * The stack of called functions. Lanes share a frame only where they are in the same function,
     * called from the same frame: each has its own element of every row then. Frames of different
     * functions never overlap (call.c). regs, preds and consts are those of the running group.
     */
    const struct ptx_function *fn; /* the running group is in */
    uint32_t base;                 /* slot its frame begins at */
    uint32_t stack_slots;
    uint8_t *stack;                        /* frame 0 begins here */
    const uint8_t *specials;               /* rows of enum ptx_sreg; NULL when nothing is called */
    struct ptx_function *const *functions; /* of the module, by index */
    uint32_t sp[PTX_LANES];                /* of .local memory: bytes in use */
};

/*
 * Where a lane is: frame and program counter in one number, so ordered that who is deepest in calls
 * and then lowest in the text runs first and the others are waiting for it when it gets to them.
 */
static inline uint64_t ptx_place(uint32_t base, uint32_t pc)
{
    return (uint64_t)~base << 32 | pc;
}

static inline uint32_t ptx_place_base(uint64_t at)
{
    return ~(uint32_t)(at >> 32);
}

/* The first fault of a warp stops it after the current instruction. */
static inline void ptx_warp_fault(struct ptx_warp *w, const struct ptx_insn *in, CUresult result,
                                  uint64_t address, bool has_address)
{
    if (w->fault.result == CUDA_SUCCESS) {
        w->fault.result = result;
        w->fault.line = in->line;
        w->fault.address = address;
        w->fault.has_address = has_address;
    }
    w->stop_pc = 0;
}

/* Rows are looked at as whatever the instruction says, so these types may alias. */
#define PTX_ROW_TYPE(name, type) typedef type __attribute__((may_alias)) name
PTX_ROW_TYPE(row_u32, uint32_t);
PTX_ROW_TYPE(row_s32, int32_t);
PTX_ROW_TYPE(row_u64, uint64_t);
PTX_ROW_TYPE(row_s64, int64_t);
PTX_ROW_TYPE(row_f32, float);
PTX_ROW_TYPE(row_f64, double);

static inline void *ptx_dst(const struct ptx_warp *w, int32_t r)
{
    return w->regs + (size_t)(uint32_t)r * PTX_SLOT_BYTES;
}

static inline const void *ptx_src(const struct ptx_warp *w, int32_t r)
{
    const uint8_t *base = r >= 0 ? w->regs : w->consts;
    return base + (size_t)((uint32_t)r & 0x7fffffffu) * PTX_SLOT_BYTES;
}

static inline uint32_t ptx_pred(const struct ptx_warp *w, int32_t ref)
{
    uint32_t v = w->preds[ref & 0x7fff];
    return ref & (int32_t)PTX_PRED_NOT ? ~v : v;
}

static inline void ptx_set_pred(struct ptx_warp *w, int32_t p, uint32_t value, uint32_t mask)
{
    w->preds[p] = (w->preds[p] & ~mask) | (value & mask);
}

/* A source and a destination are the same row or disjoint ones: lane by lane there is no
 * dependence. */
#if defined(__clang__)
#define PTX_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define PTX_IVDEP _Pragma("GCC ivdep")
#endif

#define PTX_CAT2(a, b, c) a##b##_##c
#define PTX_CAT(a, b, c)  PTX_CAT2(a, b, c)
#define PTX_X(op)         PTX_CAT(vgpu_ptx_x_, op, VGPU_PTX_LEVEL)

#define PTX_HANDLER(op)                                                                            \
    void PTX_X(op)(struct ptx_warp * w, const struct ptx_insn *in, uint32_t mask)

/* d = EXPR for each lane of the mask; EXPR may use i and must be safe to evaluate for lanes outside
 * the mask. */
#define PTX_LANE_LOOP(D, EXPR)                                                                     \
    if (mask == UINT32_MAX) {                                                                      \
        PTX_IVDEP                                                                                  \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            d[i] = (D)(EXPR);                                                                      \
    } else {                                                                                       \
        PTX_IVDEP                                                                                  \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            D v = (D)(EXPR);                                                                       \
            d[i] = mask >> i & 1 ? v : d[i];                                                       \
        }                                                                                          \
    }

/*
 * Handlers of one, two and three sources. RD, RA.. are the row types; CA.. what a lane is converted
 * to before EXPR sees it as x, y, z.
 */
#define PTX_OP1(op, RD, RA, CA, EXPR)                                                              \
    static inline RD PTX_CAT(f_, op, VGPU_PTX_LEVEL)(CA x)                                         \
    {                                                                                              \
        return (RD)(EXPR);                                                                         \
    }                                                                                              \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        RD *d = ptx_dst(w, in->d);                                                                 \
        const RA *a = ptx_src(w, in->a);                                                           \
        PTX_LANE_LOOP(RD, (PTX_CAT(f_, op, VGPU_PTX_LEVEL)((CA)a[i])))                             \
    }
#define PTX_OP2(op, RD, RA, CA, RB, CB, EXPR)                                                      \
    static inline RD PTX_CAT(f_, op, VGPU_PTX_LEVEL)(CA x, CB y)                                   \
    {                                                                                              \
        return (RD)(EXPR);                                                                         \
    }                                                                                              \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        RD *d = ptx_dst(w, in->d);                                                                 \
        const RA *a = ptx_src(w, in->a);                                                           \
        const RB *b = ptx_src(w, in->b);                                                           \
        PTX_LANE_LOOP(RD, (PTX_CAT(f_, op, VGPU_PTX_LEVEL)((CA)a[i], (CB)b[i])))                   \
    }
#define PTX_OP3(op, RD, RA, CA, RB, CB, RC, CC, EXPR)                                              \
    static inline RD PTX_CAT(f_, op, VGPU_PTX_LEVEL)(CA x, CB y, CC z)                             \
    {                                                                                              \
        return (RD)(EXPR);                                                                         \
    }                                                                                              \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        RD *d = ptx_dst(w, in->d);                                                                 \
        const RA *a = ptx_src(w, in->a);                                                           \
        const RB *b = ptx_src(w, in->b);                                                           \
        const RC *c = ptx_src(w, in->c);                                                           \
        PTX_LANE_LOOP(RD, (PTX_CAT(f_, op, VGPU_PTX_LEVEL)((CA)a[i], (CB)b[i], (CC)c[i])))         \
    }

#ifdef VGPU_PTX_LEVEL
/* All handlers of this level. */
#define PTX_DECLARE(op) PTX_HANDLER(op);
PTX_OPS(PTX_DECLARE)
#undef PTX_DECLARE

extern const ptx_exec_fn PTX_CAT(vgpu_ptx_handlers, , VGPU_PTX_LEVEL)[PTX_OP_COUNT];
#endif

#endif
