/* SPDX-License-Identifier: GPL-2.0-or-later */
/* setp and set (PTX ISA, "Comparison and Selection Instructions"). */
#include "exec_fp16.h"

#define LANES(EXPR)                                                                                \
    for (unsigned i = 0; i < PTX_LANES; i++)                                                       \
        r |= (uint32_t)(EXPR) << i;                                                                \
    break

#define COMPARE_INT(T, R, C)                                                                       \
    static uint32_t PTX_CAT(compare_, T, VGPU_PTX_LEVEL)(const struct ptx_warp *w,                 \
                                                         const struct ptx_insn *in)                \
    {                                                                                              \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);                                    \
        uint32_t r = 0;                                                                            \
        switch (in->sub) {                                                                         \
        case PTX_CMP_EQ:                                                                           \
            LANES((C)a[i] == (C)b[i]);                                                             \
        case PTX_CMP_NE:                                                                           \
            LANES((C)a[i] != (C)b[i]);                                                             \
        case PTX_CMP_LT:                                                                           \
            LANES((C)a[i] < (C)b[i]);                                                              \
        case PTX_CMP_LE:                                                                           \
            LANES((C)a[i] <= (C)b[i]);                                                             \
        case PTX_CMP_GT:                                                                           \
            LANES((C)a[i] > (C)b[i]);                                                              \
        default:                                                                                   \
            LANES((C)a[i] >= (C)b[i]);                                                             \
        }                                                                                          \
        return r;                                                                                  \
    }

COMPARE_INT(U16, row_u32, uint16_t)
COMPARE_INT(S16, row_u32, int16_t)
COMPARE_INT(U32, row_u32, uint32_t)
COMPARE_INT(S32, row_s32, int32_t)
COMPARE_INT(U64, row_u64, uint64_t)
COMPARE_INT(S64, row_s64, int64_t)

/* The unordered forms are true when either side is a NaN. */
#define COMPARE_FLOAT(T, R, LOAD)                                                                  \
    static uint32_t PTX_CAT(compare_, T, VGPU_PTX_LEVEL)(const struct ptx_warp *w,                 \
                                                         const struct ptx_insn *in)                \
    {                                                                                              \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);                                    \
        uint32_t r = 0;                                                                            \
        LOAD;                                                                                      \
        switch (in->sub) {                                                                         \
        case PTX_CMP_EQ:                                                                           \
            LANES(a[i] == b[i]);                                                                   \
        case PTX_CMP_NE: /* ordered: neither may be a NaN */                                       \
            LANES((a[i] < b[i]) | (a[i] > b[i]));                                                  \
        case PTX_CMP_LT:                                                                           \
            LANES(a[i] < b[i]);                                                                    \
        case PTX_CMP_LE:                                                                           \
            LANES(a[i] <= b[i]);                                                                   \
        case PTX_CMP_GT:                                                                           \
            LANES(a[i] > b[i]);                                                                    \
        case PTX_CMP_GE:                                                                           \
            LANES(a[i] >= b[i]);                                                                   \
        case PTX_CMP_EQU:                                                                          \
            LANES(!((a[i] < b[i]) | (a[i] > b[i])));                                               \
        case PTX_CMP_NEU:                                                                          \
            LANES(a[i] != b[i]);                                                                   \
        case PTX_CMP_LTU:                                                                          \
            LANES(!(a[i] >= b[i]));                                                                \
        case PTX_CMP_LEU:                                                                          \
            LANES(!(a[i] > b[i]));                                                                 \
        case PTX_CMP_GTU:                                                                          \
            LANES(!(a[i] <= b[i]));                                                                \
        case PTX_CMP_GEU:                                                                          \
            LANES(!(a[i] < b[i]));                                                                 \
        case PTX_CMP_NUM:                                                                          \
            LANES((a[i] == a[i]) & (b[i] == b[i]));                                                \
        default:                                                                                   \
            LANES((a[i] != a[i]) | (b[i] != b[i]));                                                \
        }                                                                                          \
        return r;                                                                                  \
    }

#define FLUSH_BOTH                                                                                 \
    float fa[PTX_LANES], fb[PTX_LANES];                                                            \
    if (in->flags & PTX_F_FTZ) {                                                                   \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            fa[i] = ptx_ftz32(a[i]);                                                               \
            fb[i] = ptx_ftz32(b[i]);                                                               \
        }                                                                                          \
        a = fa;                                                                                    \
        b = fb;                                                                                    \
    }
COMPARE_FLOAT(F32, row_f32, FLUSH_BOTH)
COMPARE_FLOAT(F64, row_f64, (void)0)

/* Halves are compared as the singles they are; `shift` says which half of a lane. */
#define LOAD_HALVES(shift)                                                                         \
    float fa[PTX_LANES], fb[PTX_LANES];                                                            \
    const row_u32 *ha = ptx_src(w, in->a), *hb = ptx_src(w, in->b);                                \
    bool ftz = in->flags & PTX_F_FTZ;                                                              \
    for (unsigned i = 0; i < PTX_LANES; i++) {                                                     \
        uint32_t x = ha[i] >> shift, y = hb[i] >> shift;                                           \
        fa[i] = ptx_half_f32(ftz ? ptx_half_ftz(x) : x);                                           \
        fb[i] = ptx_half_f32(ftz ? ptx_half_ftz(y) : y);                                           \
    }                                                                                              \
    a = fa;                                                                                        \
    b = fb
COMPARE_FLOAT(F16, row_f32, LOAD_HALVES(0))
COMPARE_FLOAT(F16_HIGH, row_f32, LOAD_HALVES(16))

/* vec: enum ptx_bool, combining with predicate c */
static uint32_t combine(const struct ptx_warp *w, const struct ptx_insn *in, uint32_t r)
{
    switch (in->vec) {
    case PTX_BOOL_AND:
        return r & ptx_pred(w, in->c);
    case PTX_BOOL_OR:
        return r | ptx_pred(w, in->c);
    case PTX_BOOL_XOR:
        return r ^ ptx_pred(w, in->c);
    default:
        return r;
    }
}

/* setp p|q: q gets the combination of the inverse; both read c before either is written. */
static void set_predicates(struct ptx_warp *w, const struct ptx_insn *in, uint32_t r, uint32_t mask)
{
    uint32_t p = combine(w, in, r), q = combine(w, in, ~r);
    ptx_set_pred(w, in->d, p, mask);
    ptx_set_pred(w, in->e, q, mask);
}

/* set: imm is what true looks like in the destination's type */
static void set_row(struct ptx_warp *w, const struct ptx_insn *in, uint32_t r, uint32_t mask)
{
    r = combine(w, in, r);
    uint32_t one = (uint32_t)in->imm;
    row_u32 *d = ptx_dst(w, in->d);
    PTX_LANE_LOOP(uint32_t, r >> i & 1 ? one : 0)
}

#define SETP(T)                                                                                    \
    PTX_HANDLER(SETP_##T)                                                                          \
    {                                                                                              \
        set_predicates(w, in, PTX_CAT(compare_, T, VGPU_PTX_LEVEL)(w, in), mask);                  \
    }                                                                                              \
    PTX_HANDLER(SET_##T)                                                                           \
    {                                                                                              \
        set_row(w, in, PTX_CAT(compare_, T, VGPU_PTX_LEVEL)(w, in), mask);                         \
    }
SETP(U16)
SETP(S16)
SETP(U32)
SETP(S32)
SETP(U64)
SETP(S64)
SETP(F32)
SETP(F64)
SETP(F16)

/* .f16x2: p is the low halves' result and q the high ones', and c combines with either. */
PTX_HANDLER(SETP_F16X2)
{
    uint32_t low = PTX_CAT(compare_, F16, VGPU_PTX_LEVEL)(w, in);
    uint32_t high = PTX_CAT(compare_, F16_HIGH, VGPU_PTX_LEVEL)(w, in);
    low = combine(w, in, low);
    high = combine(w, in, high);
    ptx_set_pred(w, in->d, low, mask);
    ptx_set_pred(w, in->e, high, mask);
}
PTX_HANDLER(SET_F16X2)
{
    uint32_t low = combine(w, in, PTX_CAT(compare_, F16, VGPU_PTX_LEVEL)(w, in));
    uint32_t high = combine(w, in, PTX_CAT(compare_, F16_HIGH, VGPU_PTX_LEVEL)(w, in));
    uint32_t one = (uint32_t)in->imm;
    row_u32 *d = ptx_dst(w, in->d);
    PTX_LANE_LOOP(uint32_t, (low >> i & 1 ? one : 0) | (high >> i & 1 ? one << 16 : 0))
}
