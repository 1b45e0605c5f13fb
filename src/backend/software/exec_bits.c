/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Logic, shifts, bit fields, extended-precision arithmetic, moves and predicate logic. */
#include "exec.h"

#define ALL2(op, R, C, EXPR) PTX_OP2(op, R, R, C, R, C, EXPR)
#define ALL3(op, R, C, EXPR) PTX_OP3(op, R, R, C, R, C, R, C, EXPR)
#define ALL1(op, R, C, EXPR) PTX_OP1(op, R, R, C, EXPR)

ALL2(AND_32, row_u32, uint32_t, x &y)
ALL2(AND_64, row_u64, uint64_t, x &y)
ALL2(OR_32, row_u32, uint32_t, x | y)
ALL2(OR_64, row_u64, uint64_t, x | y)
ALL2(XOR_32, row_u32, uint32_t, x ^ y)
ALL2(XOR_64, row_u64, uint64_t, x ^ y)
ALL1(NOT_32, row_u32, uint32_t, ~x)
ALL1(NOT_64, row_u64, uint64_t, ~x)
ALL1(CNOT_16, row_u32, uint16_t, x == 0)
ALL1(CNOT_32, row_u32, uint32_t, x == 0)
ALL1(CNOT_64, row_u64, uint64_t, x == 0)
ALL1(MOV_32, row_u32, uint32_t, x)
ALL1(MOV_64, row_u64, uint64_t, x)

/* Shift amounts are unsigned 32-bit and clamp at the width. */
PTX_OP2(SHL_32, row_u32, row_u32, uint32_t, row_u32, uint32_t, y > 31 ? 0 : x << (y & 31))
PTX_OP2(SHL_64, row_u64, row_u64, uint64_t, row_u32, uint32_t, y > 63 ? 0 : x << (y & 63))
PTX_OP2(SHR_U16, row_u32, row_u32, uint16_t, row_u32, uint32_t, (y > 15 ? 0 : x >> (y & 15)))
PTX_OP2(SHR_S16, row_u32, row_u32, int16_t, row_u32, uint32_t, x >> (y > 15 ? 15 : y))
PTX_OP2(SHR_U32, row_u32, row_u32, uint32_t, row_u32, uint32_t, y > 31 ? 0 : x >> (y & 31))
PTX_OP2(SHR_S32, row_u32, row_s32, int32_t, row_u32, uint32_t, x >> (y > 31 ? 31 : y))
PTX_OP2(SHR_U64, row_u64, row_u64, uint64_t, row_u32, uint32_t, y > 63 ? 0 : x >> (y & 63))
PTX_OP2(SHR_S64, row_u64, row_s64, int64_t, row_u32, uint32_t, x >> (y > 63 ? 63 : y))

static inline uint32_t funnel_left(uint32_t lo, uint32_t hi, uint32_t n)
{
    return (uint32_t)((((uint64_t)hi << 32 | lo) << n) >> 32);
}
static inline uint32_t funnel_right(uint32_t lo, uint32_t hi, uint32_t n)
{
    return (uint32_t)(((uint64_t)hi << 32 | lo) >> n);
}
ALL3(SHF_L_WRAP, row_u32, uint32_t, funnel_left(x, y, z & 31))
ALL3(SHF_L_CLAMP, row_u32, uint32_t, funnel_left(x, y, z > 32 ? 32 : z))
ALL3(SHF_R_WRAP, row_u32, uint32_t, funnel_right(x, y, z & 31))
ALL3(SHF_R_CLAMP, row_u32, uint32_t, funnel_right(x, y, z > 32 ? 32 : z))

/* bfe: position and length are the low bytes of b and c; beyond the top the sign (or 0) fills in.
 */
static inline uint64_t extract(uint64_t x, uint32_t pos, uint32_t len, unsigned width,
                               bool is_signed)
{
    pos &= 0xff;
    len &= 0xff;
    uint64_t sign = 0;
    if (is_signed && len) {
        uint32_t top = pos + len - 1;
        if (top > width - 1)
            top = width - 1;
        sign = x >> top & 1 ? UINT64_MAX : 0;
    }
    uint64_t v = pos > width - 1 ? 0 : x >> pos;
    unsigned have = pos > width - 1 ? 0 : width - pos;
    if (len < have)
        have = len;
    uint64_t keep = have > 63 ? UINT64_MAX : ((uint64_t)1 << have) - 1;
    return (v & keep) | (sign & ~keep);
}
PTX_OP3(BFE_U32, row_u32, row_u32, uint32_t, row_u32, uint32_t, row_u32, uint32_t,
        extract(x, y, z, 32, false))
PTX_OP3(BFE_S32, row_u32, row_u32, uint32_t, row_u32, uint32_t, row_u32, uint32_t,
        extract(x, y, z, 32, true))
PTX_OP3(BFE_U64, row_u64, row_u64, uint64_t, row_u32, uint32_t, row_u32, uint32_t,
        extract(x, y, z, 64, false))
PTX_OP3(BFE_S64, row_u64, row_u64, uint64_t, row_u32, uint32_t, row_u32, uint32_t,
        extract(x, y, z, 64, true))

static inline uint64_t insert(uint64_t x, uint64_t into, uint32_t pos, uint32_t len, unsigned width)
{
    pos &= 0xff;
    len &= 0xff;
    if (pos > width - 1 || len == 0)
        return into;
    if (len > width - pos)
        len = width - pos;
    uint64_t field = (len > 63 ? UINT64_MAX : ((uint64_t)1 << len) - 1) << pos;
    return (into & ~field) | (x << pos & field);
}

#define INSERT(op, R, width)                                                                       \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        R *d = ptx_dst(w, in->d);                                                                  \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);                                    \
        const row_u32 *c = ptx_src(w, in->c), *e = ptx_src(w, in->e);                              \
        PTX_LANE_LOOP(R, insert(a[i], b[i], c[i], e[i], width))                                    \
    }
INSERT(BFI_32, row_u32, 32)
INSERT(BFI_64, row_u64, 64)

/* bfind: position of the highest bit that differs from the sign, or all ones; shiftamt counts from
 * the top. */
static inline uint32_t find_high(uint64_t x, unsigned width, bool shiftamt)
{
    if (x == 0)
        return UINT32_MAX;
    uint32_t pos = 63u - (uint32_t)__builtin_clzll(x);
    return shiftamt ? width - 1 - pos : pos;
}
#define BFIND(op, R, width, EXPR)                                                                  \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        row_u32 *d = ptx_dst(w, in->d);                                                            \
        const R *a = ptx_src(w, in->a);                                                            \
        bool amount = in->sub != 0;                                                                \
        PTX_LANE_LOOP(uint32_t, find_high(EXPR, width, amount))                                    \
    }
BFIND(BFIND_U32, row_u32, 32, a[i])
BFIND(BFIND_S32, row_s32, 32, (uint32_t)(a[i] < 0 ? ~a[i] : a[i]))
BFIND(BFIND_U64, row_u64, 64, a[i])
BFIND(BFIND_S64, row_s64, 64, (uint64_t)(a[i] < 0 ? ~a[i] : a[i]))

static inline uint32_t reverse_32(uint32_t x)
{
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(x);
}
static inline uint64_t reverse_64(uint64_t x)
{
    return (uint64_t)reverse_32((uint32_t)x) << 32 | reverse_32((uint32_t)(x >> 32));
}
ALL1(BREV_32, row_u32, uint32_t, reverse_32(x))
ALL1(BREV_64, row_u64, uint64_t, reverse_64(x))
PTX_OP1(POPC_32, row_u32, row_u32, uint32_t, __builtin_popcount(x))
PTX_OP1(POPC_64, row_u32, row_u64, uint64_t, __builtin_popcountll(x))
PTX_OP1(CLZ_32, row_u32, row_u32, uint32_t, x ? __builtin_clz(x) : 32)
PTX_OP1(CLZ_64, row_u32, row_u64, uint64_t, x ? __builtin_clzll(x) : 64)

/* prmt modes, in sub: 0 default, then f4e b4e rc8 ecl ecr rc16 */
static inline uint32_t permute(uint32_t a, uint32_t b, uint32_t c, unsigned mode)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t sel, n = c & 3, r = 0;
    switch (mode) {
    case 1: /* forward 4 extract */
        sel = 0x3210 + 0x1111 * n;
        break;
    case 2: /* backward 4 extract */
        sel = (n & 7) | ((n - 1) & 7) << 4 | ((n - 2) & 7) << 8 | ((n - 3) & 7) << 12;
        break;
    case 3: /* replicate 8 */
        sel = 0x1111 * n;
        break;
    case 4: /* edge clamp left */
        sel = 0x3210;
        for (unsigned k = 0; k < n; k++)
            sel = (sel & ~(0xfu << 4 * k)) | n << 4 * k;
        break;
    case 5: /* edge clamp right */
        sel = 0x3210;
        for (unsigned k = n + 1; k < 4; k++)
            sel = (sel & ~(0xfu << 4 * k)) | n << 4 * k;
        break;
    case 6: /* replicate 16 */
        sel = n & 1 ? 0x3232 : 0x1010;
        break;
    default:
        sel = c;
    }
    for (unsigned k = 0; k < 4; k++) {
        uint32_t s = sel >> 4 * k & 0xf;
        uint32_t byte = bytes >> 8 * (s & 7) & 0xff;
        if (s & 8) /* only the default mode can ask for the sign */
            byte = byte & 0x80 ? 0xff : 0;
        r |= byte << 8 * k;
    }
    return r;
}
PTX_HANDLER(PRMT)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    unsigned mode = in->sub;
    PTX_LANE_LOOP(uint32_t, permute(a[i], b[i], c[i], mode))
}

static inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, unsigned lut)
{
    uint32_t r = 0;
    for (unsigned k = 0; k < 8; k++) {
        uint32_t term = (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
        r |= lut >> k & 1 ? term : 0;
    }
    return r;
}
PTX_HANDLER(LOP3)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    unsigned lut = in->sub;
    PTX_LANE_LOOP(uint32_t, lop3(a[i], b[i], c[i], lut))
}

/* dp4a, dp2a: bit 0 of sub says a is signed, bit 1 that b is; vec of dp2a chooses the upper half of
 * b. */
static inline uint32_t dot(uint32_t a, uint32_t b, uint32_t acc, unsigned sub, unsigned a_bits,
                           unsigned n, unsigned b_shift)
{
    b >>= b_shift;
    for (unsigned k = 0; k < n; k++) {
        uint32_t x = a << (32 - a_bits - a_bits * k), y = b << (24 - 8 * k);
        uint32_t p = sub & 1 ? (uint32_t)((int32_t)x >> (32 - a_bits)) : x >> (32 - a_bits);
        uint32_t q = sub & 2 ? (uint32_t)((int32_t)y >> 24) : y >> 24;
        acc += p * q;
    }
    return acc;
}
PTX_HANDLER(DP4A)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    unsigned sub = in->sub;
    PTX_LANE_LOOP(uint32_t, dot(a[i], b[i], c[i], sub, 8, 4, 0))
}
PTX_HANDLER(DP2A)
{
    row_u32 *d = ptx_dst(w, in->d);
    const row_u32 *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);
    unsigned sub = in->sub, shift = in->vec ? 16 : 0;
    PTX_LANE_LOOP(uint32_t, dot(a[i], b[i], c[i], sub, 16, 2, shift))
}

/*
 * add.cc, addc, sub.cc, subc, mad.cc, madc: CC.CF is a bit per lane. flags say whether it is read
 * and written. For subtraction it holds the borrow.
 */
#define CARRY(op, R, SUMS)                                                                         \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        R *d = ptx_dst(w, in->d);                                                                  \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b), *c = ptx_src(w, in->c);            \
        uint32_t cin = in->flags & PTX_F_CCIN ? w->cc : 0, cout = 0;                               \
        (void)c;                                                                                   \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            R x, y, r, k = cin >> i & 1, o;                                                        \
            SUMS;                                                                                  \
            cout |= (uint32_t)(o != 0) << i;                                                       \
            if (mask >> i & 1)                                                                     \
                d[i] = r;                                                                          \
        }                                                                                          \
        if (in->flags & PTX_F_CCOUT)                                                               \
            w->cc = (w->cc & ~mask) | (cout & mask);                                               \
    }
#define SUM  (r = x + y, o = r < x, r += k, o |= r < k)
#define DIFF (r = x - y, o = x < y, o |= r < k, r -= k)
CARRY(ADDC_32, row_u32, (x = a[i], y = b[i], SUM))
CARRY(ADDC_64, row_u64, (x = a[i], y = b[i], SUM))
CARRY(SUBC_32, row_u32, (x = a[i], y = b[i], DIFF))
CARRY(SUBC_64, row_u64, (x = a[i], y = b[i], DIFF))
CARRY(MADCLO_32, row_u32, (x = a[i] * b[i], y = c[i], SUM))
CARRY(MADCLO_64, row_u64, (x = a[i] * b[i], y = c[i], SUM))
CARRY(MADCHI_U32, row_u32, (x = (uint32_t)((uint64_t)a[i] * b[i] >> 32), y = c[i], SUM))
CARRY(MADCHI_S32, row_u32,
      (x = (uint32_t)((int64_t)(int32_t)a[i] * (int32_t)b[i] >> 32), y = c[i], SUM))
CARRY(MADCHI_U64, row_u64, (x = (uint64_t)((unsigned __int128)a[i] * b[i] >> 64), y = c[i], SUM))
CARRY(MADCHI_S64, row_u64,
      (x = (uint64_t)((__int128)(int64_t)a[i] * (int64_t)b[i] >> 64), y = c[i], SUM))

/* mov d, {a,b,..}: size is the bytes of one element, vec how many; a 64-bit element never occurs.
 */
PTX_HANDLER(PACK)
{
    const int32_t from[4] = {in->a, in->b, in->c, in->e};
    unsigned bits = in->size * 8u;
    uint32_t keep = bits == 32 ? UINT32_MAX : (1u << bits) - 1;
    uint64_t out[PTX_LANES] = {0};
    for (unsigned k = 0; k < in->vec; k++) {
        const row_u32 *a = ptx_src(w, from[k]);
        for (unsigned i = 0; i < PTX_LANES; i++)
            out[i] |= (uint64_t)(a[i] & keep) << bits * k;
    }
    if (in->flags & PTX_F_WIDE) {
        row_u64 *d = ptx_dst(w, in->d);
        PTX_LANE_LOOP(uint64_t, out[i])
    } else {
        row_u32 *d = ptx_dst(w, in->d);
        PTX_LANE_LOOP(uint32_t, out[i])
    }
}

PTX_HANDLER(UNPACK)
{
    const int32_t to[4] = {in->d, in->b, in->c, in->e};
    unsigned bits = in->size * 8u;
    uint32_t keep = bits == 32 ? UINT32_MAX : (1u << bits) - 1;
    uint64_t from[PTX_LANES];
    const row_u64 *a64 = ptx_src(w, in->a);
    const row_u32 *a32 = ptx_src(w, in->a);
    for (unsigned i = 0; i < PTX_LANES; i++)
        from[i] = in->flags & PTX_F_WIDE ? a64[i] : a32[i];
    for (unsigned k = 0; k < in->vec; k++) {
        row_u32 *d = ptx_dst(w, to[k]);
        PTX_LANE_LOOP(uint32_t, (uint32_t)(from[i] >> bits * k) & keep)
    }
}

#define SELECT(op, R)                                                                              \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        R *d = ptx_dst(w, in->d);                                                                  \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);                                    \
        uint32_t p = ptx_pred(w, in->c);                                                           \
        PTX_LANE_LOOP(R, p >> i & 1 ? a[i] : b[i])                                                 \
    }
SELECT(SELP_32, row_u32)
SELECT(SELP_64, row_u64)

/* slct: sub says c is .f32 (a NaN selects b); otherwise .s32. A selector is at least zero, -0 and
 * with .ftz any subnormal included, when it is above the next number below that. */
#define SLCT(op, R)                                                                                \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        R *d = ptx_dst(w, in->d);                                                                  \
        const R *a = ptx_src(w, in->a), *b = ptx_src(w, in->b);                                    \
        const row_s32 *c = ptx_src(w, in->c);                                                      \
        const row_f32 *f = ptx_src(w, in->c);                                                      \
        bool is_float = in->sub != 0;                                                              \
        float below = in->flags & PTX_F_FTZ ? -0x1p-126f : -0x1p-149f;                             \
        PTX_LANE_LOOP(R, (is_float ? f[i] > below : c[i] >= 0) ? a[i] : b[i])                      \
    }
SLCT(SLCT_32, row_u32)
SLCT(SLCT_64, row_u64)

PTX_HANDLER(PMOV)
{
    ptx_set_pred(w, in->d, ptx_pred(w, in->a), mask);
}
PTX_HANDLER(PNOT)
{
    ptx_set_pred(w, in->d, ~ptx_pred(w, in->a), mask);
}
PTX_HANDLER(PAND)
{
    ptx_set_pred(w, in->d, ptx_pred(w, in->a) & ptx_pred(w, in->b), mask);
}
PTX_HANDLER(POR)
{
    ptx_set_pred(w, in->d, ptx_pred(w, in->a) | ptx_pred(w, in->b), mask);
}
PTX_HANDLER(PXOR)
{
    ptx_set_pred(w, in->d, ptx_pred(w, in->a) ^ ptx_pred(w, in->b), mask);
}
