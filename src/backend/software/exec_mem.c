/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ld and st. Every lane's address is checked before any lane is read or written: alignment to the
 * whole access, then bounds of the space; the first lane that fails names the fault and nothing is
 * done.
 *
 * Lanes of different block threads may touch the same word by the guest's own doing, so memory is
 * read and written with relaxed atomics, which cost nothing here and keep a guest's data race from
 * being ours.
 */
#include "exec_mem.h"

#define LD_LOOP(M, R, C)                                                                           \
    for (unsigned k = 0; k < in->vec; k++) {                                                       \
        const int32_t to[4] = {in->d, in->b, in->c, in->e};                                        \
        R *d = ptx_dst(w, to[k]);                                                                  \
        size_t off = k * sizeof(M);                                                                \
        if (mask == UINT32_MAX) {                                                                  \
            for (unsigned i = 0; i < PTX_LANES; i++)                                               \
                d[i] = (R)(C)__atomic_load_n((M *)(void *)(at[i] + off), __ATOMIC_RELAXED);        \
        } else {                                                                                   \
            for (unsigned i = 0; i < PTX_LANES; i++)                                               \
                if (mask >> i & 1)                                                                 \
                    d[i] = (R)(C)__atomic_load_n((M *)(void *)(at[i] + off), __ATOMIC_RELAXED);    \
        }                                                                                          \
    }

#define LD(op, M, R, C)                                                                            \
    PTX_HANDLER(LD_##op)                                                                           \
    {                                                                                              \
        uint8_t *at[PTX_LANES];                                                                    \
        if (!ptx_resolve(w, in, mask, false, at))                                                  \
            return;                                                                                \
        LD_LOOP(M, R, C)                                                                           \
    }                                                                                              \
    /* Directly from the parameter buffer at a constant offset, checked when decoded. */           \
    PTX_HANDLER(LDP_##op)                                                                          \
    {                                                                                              \
        const int32_t to[4] = {in->d, in->b, in->c, in->e};                                        \
        for (unsigned k = 0; k < in->vec; k++) {                                                   \
            M m;                                                                                   \
            memcpy(&m, w->params + (size_t)in->imm + k * sizeof(M), sizeof(m));                    \
            R *d = ptx_dst(w, to[k]);                                                              \
            R value = (R)(C)m;                                                                     \
            PTX_LANE_LOOP(R, value)                                                                \
        }                                                                                          \
    }

typedef uint8_t __attribute__((may_alias)) mem_u8;
typedef uint16_t __attribute__((may_alias)) mem_u16;
typedef uint32_t __attribute__((may_alias)) mem_u32;
typedef uint64_t __attribute__((may_alias)) mem_u64;

LD(U8_32, mem_u8, row_u32, uint8_t)
LD(S8_32, mem_u8, row_u32, int8_t)
LD(U16_32, mem_u16, row_u32, uint16_t)
LD(S16_32, mem_u16, row_u32, int16_t)
LD(U32_32, mem_u32, row_u32, uint32_t)
LD(U8_64, mem_u8, row_u64, uint8_t)
LD(S8_64, mem_u8, row_u64, int8_t)
LD(U16_64, mem_u16, row_u64, uint16_t)
LD(S16_64, mem_u16, row_u64, int16_t)
LD(U32_64, mem_u32, row_u64, uint32_t)
LD(S32_64, mem_u32, row_u64, int32_t)
LD(U64_64, mem_u64, row_u64, uint64_t)

/* Sources: d, b, c, e; the address is a, as for loads. */
#define ST(op, M, R)                                                                               \
    PTX_HANDLER(ST_##op)                                                                           \
    {                                                                                              \
        uint8_t *at[PTX_LANES];                                                                    \
        if (!ptx_resolve(w, in, mask, true, at))                                                   \
            return;                                                                                \
        const int32_t from[4] = {in->d, in->b, in->c, in->e};                                      \
        for (unsigned k = 0; k < in->vec; k++) {                                                   \
            const R *s = ptx_src(w, from[k]);                                                      \
            size_t off = k * sizeof(M);                                                            \
            for (unsigned i = 0; i < PTX_LANES; i++)                                               \
                if (mask >> i & 1)                                                                 \
                    __atomic_store_n((M *)(void *)(at[i] + off), (M)s[i], __ATOMIC_RELAXED);       \
        }                                                                                          \
    }
ST(8_32, mem_u8, row_u32)
ST(16_32, mem_u16, row_u32)
ST(32_32, mem_u32, row_u32)
ST(8_64, mem_u8, row_u64)
ST(16_64, mem_u16, row_u64)
ST(32_64, mem_u32, row_u64)
ST(64_64, mem_u64, row_u64)

PTX_HANDLER(FENCE)
{
    (void)w;
    (void)in;
    (void)mask;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

PTX_HANDLER(NOP)
{
    (void)w;
    (void)in;
    (void)mask;
}

/* isspacep: in->space is asked about. Constant variables lie among the global ones. */
PTX_HANDLER(ISSPACEP)
{
    const row_u64 *a = ptx_src(w, in->a);
    uint32_t r = 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        unsigned space = ptx_window(a[i]);
        if (space == PTX_SPACE_GLOBAL) {
            const struct ptx_region *at = vgpu_ptx_memory_find(w->memory, a[i]);
            space = at && at->read_only ? PTX_SPACE_CONST : PTX_SPACE_GLOBAL;
        }
        r |= (uint32_t)(space == in->space) << i;
    }
    ptx_set_pred(w, in->d, r, mask);
}
