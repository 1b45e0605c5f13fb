/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parameters of functions, which are rows, and the stack of .local memory. A parameter that is not
 * accessed as a whole is seen as memory: in->sub bytes for each lane, the access in->imm bytes into
 * them, as ptx_param.c has checked.
 */
#include "exec.h"

typedef uint8_t __attribute__((may_alias)) arg_u8;
typedef uint16_t __attribute__((may_alias)) arg_u16;
typedef uint32_t __attribute__((may_alias)) arg_u32;
typedef uint64_t __attribute__((may_alias)) arg_u64;

/* a: the parameter's row, d: a register */
#define LDA(op, M, R, C)                                                                           \
    PTX_HANDLER(LDA_##op)                                                                          \
    {                                                                                              \
        R *d = ptx_dst(w, in->d);                                                                  \
        const uint8_t *a = (const uint8_t *)ptx_src(w, in->a) + in->imm;                           \
        const size_t step = in->sub;                                                               \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            if (mask >> i & 1)                                                                     \
                d[i] = (R)(C) * (const M *)(const void *)(a + i * step);                           \
    }

LDA(U8_32, arg_u8, row_u32, uint8_t)
LDA(S8_32, arg_u8, row_u32, int8_t)
LDA(U16_32, arg_u16, row_u32, uint16_t)
LDA(S16_32, arg_u16, row_u32, int16_t)
LDA(U32_32, arg_u32, row_u32, uint32_t)
LDA(U8_64, arg_u8, row_u64, uint8_t)
LDA(S8_64, arg_u8, row_u64, int8_t)
LDA(U16_64, arg_u16, row_u64, uint16_t)
LDA(S16_64, arg_u16, row_u64, int16_t)
LDA(U32_64, arg_u32, row_u64, uint32_t)
LDA(S32_64, arg_u32, row_u64, int32_t)
LDA(U64_64, arg_u64, row_u64, uint64_t)

/* d: the parameter's row, a: a register */
#define STA(op, M, R)                                                                              \
    PTX_HANDLER(STA_##op)                                                                          \
    {                                                                                              \
        uint8_t *d = (uint8_t *)ptx_dst(w, in->d) + in->imm;                                       \
        const R *a = ptx_src(w, in->a);                                                            \
        const size_t step = in->sub;                                                               \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            if (mask >> i & 1)                                                                     \
                *(M *)(void *)(d + i * step) = (M)a[i];                                            \
    }

STA(8_32, arg_u8, row_u32)
STA(16_32, arg_u16, row_u32)
STA(32_32, arg_u32, row_u32)
STA(8_64, arg_u8, row_u64)
STA(16_64, arg_u16, row_u64)
STA(32_64, arg_u32, row_u64)
STA(64_64, arg_u64, row_u64)

static inline uint64_t lane_value(const void *row, bool wide, unsigned i)
{
    return wide ? ((const row_u64 *)row)[i] : ((const row_u32 *)row)[i];
}

static inline void set_lane(void *row, bool wide, unsigned i, uint32_t v)
{
    if (wide)
        ((row_u64 *)row)[i] = v;
    else
        ((row_u32 *)row)[i] = v;
}

/* d = where a bytes begin, at a multiple of imm; sizes count in units of 16 bytes. */
PTX_HANDLER(ALLOCA)
{
    const bool wide = in->flags & PTX_F_WIDE;
    const void *sizes = ptx_src(w, in->a);
    const uint32_t align = (uint32_t)in->imm;
    void *d = ptx_dst(w, in->d);
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        /* sp <= local_bytes <= PTX_MAX_LOCAL_BYTES: neither sum overflows */
        uint32_t at = (w->sp[i] + align - 1) & ~(align - 1);
        uint64_t size = lane_value(sizes, wide, i);
        if (size > PTX_MAX_LOCAL_BYTES || at > w->local_bytes ||
            ((size + 15) & ~(uint64_t)15) > w->local_bytes - at) {
            ptx_warp_fault(w, in, CUDA_ERROR_HARDWARE_STACK_ERROR, 0, false);
            return;
        }
        w->sp[i] = at + (((uint32_t)size + 15) & ~15u);
        set_lane(d, wide, i, at);
    }
}

PTX_HANDLER(STACKSAVE)
{
    void *d = ptx_dst(w, in->d);
    for (unsigned i = 0; i < PTX_LANES; i++)
        if (mask >> i & 1)
            set_lane(d, in->flags & PTX_F_WIDE, i, w->sp[i]);
}

PTX_HANDLER(STACKRESTORE)
{
    const void *a = ptx_src(w, in->a);
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        uint64_t sp = lane_value(a, in->flags & PTX_F_WIDE, i);
        if (sp > w->local_bytes) {
            ptx_warp_fault(w, in, CUDA_ERROR_HARDWARE_STACK_ERROR, 0, false);
            return;
        }
        w->sp[i] = (uint32_t)sp;
    }
}
