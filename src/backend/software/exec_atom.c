/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * atom and red: lane after lane, each a real atomic operation on host memory, so that blocks on
 * other threads see them whole. Ordering is sequentially consistent, which is at least what any
 * .sem asks for.
 */
#include "exec_fp16.h"
#include "exec_mem.h"

typedef uint32_t __attribute__((may_alias)) mem_u32;
typedef uint64_t __attribute__((may_alias)) mem_u64;

static float add_f32(float x, float y, bool ftz)
{
    if (ftz) {
        x = ptx_ftz32(x);
        y = ptx_ftz32(y);
    }
    return ptx_finish32(x + y, ftz, false);
}

/* What the operation makes of the old value. */
static uint32_t apply_32(unsigned op, uint32_t old, uint32_t b, uint32_t c)
{
    switch (op) {
    case PTX_ATOM_ADD_F:
    case PTX_ATOM_ADD_FTZ:
        return ptx_f32_bits(add_f32(ptx_bits_f32(old), ptx_bits_f32(b), op == PTX_ATOM_ADD_FTZ));
    case PTX_ATOM_ADD_F16X2:
        return ptx_half_add(old, b) | ptx_half_add(old >> 16, b >> 16) << 16;
    case PTX_ATOM_MIN_U:
        return old < b ? old : b;
    case PTX_ATOM_MIN_S:
        return (int32_t)old < (int32_t)b ? old : b;
    case PTX_ATOM_MAX_U:
        return old > b ? old : b;
    case PTX_ATOM_MAX_S:
        return (int32_t)old > (int32_t)b ? old : b;
    case PTX_ATOM_CAS:
        return old == b ? c : old;
    case PTX_ATOM_INC:
        return old >= b ? 0 : old + 1;
    default: /* PTX_ATOM_DEC */
        return old == 0 || old > b ? b : old - 1;
    }
}

static uint64_t apply_64(unsigned op, uint64_t old, uint64_t b, uint64_t c)
{
    switch (op) {
    case PTX_ATOM_ADD_F:
        return ptx_f64_bits(ptx_bits_f64(old) + ptx_bits_f64(b));
    case PTX_ATOM_MIN_U:
        return old < b ? old : b;
    case PTX_ATOM_MIN_S:
        return (int64_t)old < (int64_t)b ? old : b;
    case PTX_ATOM_MAX_U:
        return old > b ? old : b;
    case PTX_ATOM_MAX_S:
        return (int64_t)old > (int64_t)b ? old : b;
    case PTX_ATOM_CAS:
        return old == b ? c : old;
    case PTX_ATOM_INC:
        return old >= b ? 0 : old + 1;
    default:
        return old == 0 || old > b ? b : old - 1;
    }
}

/*
 * The operation for one lane. PTX ISA, "atom": atom.add.f32 on global memory flushes subnormal
 * inputs and results to sign-preserving zero, on shared memory it does not. Which of them a generic
 * address is only the lane knows.
 */
static unsigned op_at(const struct ptx_warp *w, const struct ptx_insn *in, unsigned lane)
{
    if (in->sub != PTX_ATOM_ADD_F || in->size != 4)
        return in->sub;
    unsigned space = in->space;
    if (space == PTX_SPACE_GENERIC) {
        const row_u64 *a = ptx_src(w, in->a);
        space = ptx_window(a[lane] + (uint64_t)in->imm);
    }
    return space == PTX_SPACE_GLOBAL ? PTX_ATOM_ADD_FTZ : PTX_ATOM_ADD_F;
}

#define ATOM(width, M, R)                                                                          \
    static R atomic_##width(M *p, unsigned op, R b, R c)                                           \
    {                                                                                              \
        switch (op) {                                                                              \
        case PTX_ATOM_ADD:                                                                         \
            return __atomic_fetch_add(p, b, __ATOMIC_SEQ_CST);                                     \
        case PTX_ATOM_AND:                                                                         \
            return __atomic_fetch_and(p, b, __ATOMIC_SEQ_CST);                                     \
        case PTX_ATOM_OR:                                                                          \
            return __atomic_fetch_or(p, b, __ATOMIC_SEQ_CST);                                      \
        case PTX_ATOM_XOR:                                                                         \
            return __atomic_fetch_xor(p, b, __ATOMIC_SEQ_CST);                                     \
        case PTX_ATOM_EXCH:                                                                        \
            return __atomic_exchange_n(p, b, __ATOMIC_SEQ_CST);                                    \
        default: {                                                                                 \
            R old = __atomic_load_n(p, __ATOMIC_SEQ_CST);                                          \
            while (!__atomic_compare_exchange_n(p, &old, apply_##width(op, old, b, c), true,       \
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))               \
                ;                                                                                  \
            return old;                                                                            \
        }                                                                                          \
        }                                                                                          \
    }                                                                                              \
    PTX_HANDLER(ATOM_##width)                                                                      \
    {                                                                                              \
        uint8_t *at[PTX_LANES];                                                                    \
        if (!ptx_resolve(w, in, mask, true, at))                                                   \
            return;                                                                                \
        R *d = ptx_dst(w, in->d);                                                                  \
        const R *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);                                    \
        for (unsigned i = 0; i < PTX_LANES; i++)                                                   \
            if (mask >> i & 1)                                                                     \
                d[i] = atomic_##width((M *)(void *)at[i], op_at(w, in, i), b[i], c[i]);            \
    }

ATOM(32, mem_u32, row_u32)
ATOM(64, mem_u64, row_u64)
