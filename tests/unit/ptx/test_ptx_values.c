/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results of instruction forms beside those of test_ptx_int.c and test_ptx_float.c: the other
 * widths and signs, every comparison of every type, selections, conversions, and the rare integer
 * instructions, each against the ISA's own description in plain C.
 */
#include "ptx_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define REF(name, expr)                                                                            \
    static uint64_t name(uint64_t a, uint64_t b, uint64_t c)                                       \
    {                                                                                              \
        uint16_t ua = (uint16_t)a, ub = (uint16_t)b, uc = (uint16_t)c;                             \
        uint32_t wa = (uint32_t)a, wb = (uint32_t)b, wc = (uint32_t)c;                             \
        float fa = f32_of(a), fb = f32_of(b);                                                      \
        double da = f64_of(a), db = f64_of(b);                                                     \
        (void)ua, (void)ub, (void)uc, (void)wa, (void)wb, (void)wc, (void)c;                       \
        (void)fa, (void)fb, (void)da, (void)db;                                                    \
        return (expr);                                                                             \
    }

REF(add_16, (uint16_t)(ua + ub))
REF(add_64, a + b)
REF(sub_16, (uint16_t)(ua - ub))
REF(mullo_64, a *b)
REF(madlo_16, (uint16_t)((uint32_t)ua *ub + uc))
REF(madwide_u32, (uint64_t)wa *wb + c)
REF(madwide_u16, (uint32_t)ua *ub + wc)
REF(madwide_s16, (uint32_t)((int16_t)ua *(int16_t)ub) + wc)
REF(madhi_u32, (uint32_t)(((uint64_t)wa * wb >> 32) + wc))
REF(madhi_u64, (uint64_t)((unsigned __int128)a *b >> 64) + c)
REF(rem_u64, b ? a % b : UINT64_MAX)
REF(rem_u16, ub ? ua % ub : 0xffff)
REF(max_s32, (int32_t)wa > (int32_t)wb ? wa : wb)
REF(max_u32, wa > wb ? wa : wb)
REF(max_u64, a > b ? a : b)
REF(min_u16, ua < ub ? ua : ub)
REF(min_u64, a < b ? a : b)
REF(min_s64, (int64_t)a < (int64_t)b ? a : b)
REF(max_s16, (uint16_t)((int16_t)ua > (int16_t)ub ? ua : ub))
REF(neg_16, (uint16_t)(0 - ua))
REF(sad_u16, (uint16_t)(uc + (ua > ub ? ua - ub : ub - ua)))
REF(sad_s16, (uint16_t)(uc + ((int16_t)ua > (int16_t)ub ? ua - ub : ub - ua)))
REF(sad_u32, wc + (wa > wb ? wa - wb : wb - wa))
REF(sad_u64, c + (a > b ? a - b : b - a))
REF(sad_s64, c + ((int64_t)a > (int64_t)b ? a - b : b - a))
REF(and_16, ua &ub)
REF(and_64, a &b)
REF(or_16, ua | ub)
REF(or_32, wa | wb)
REF(xor_32, wa ^ wb)
REF(xor_64, a ^ b)
REF(not_16, (uint16_t)~ua)
REF(not_64, ~a)
REF(cnot_16, ua == 0)
REF(cnot_32, wa == 0)
REF(shr_u64, wb > 63 ? 0 : a >> wb)
REF(shr_b32, wb > 31 ? 0 : wa >> wb)
REF(shf_r_wrap, (uint32_t)(((uint64_t)wb << 32 | wa) >> (wc & 31)))
REF(shf_l_clamp, (uint32_t)(((uint64_t)wb << 32 | wa) >> (32 - (wc > 32 ? 32 : wc))))
REF(popc_32, (uint32_t)__builtin_popcount(wa))
REF(mov_16, ua)

static void test_integer(void **state)
{
    (void)state;
    rig_op("add.s16 %hx, %ha, %hb;", 'h', add_16);
    rig_op("add.s64 %lx, %la, %lb;", 'l', add_64);
    rig_op("sub.u16 %hx, %ha, %hb;", 'h', sub_16);
    rig_op("mul.lo.s64 %lx, %la, %lb;", 'l', mullo_64);
    rig_op("mad.lo.u16 %hx, %ha, %hb, %hc;", 'h', madlo_16);
    rig_op("mad.wide.u32 %lx, %ra, %rb, %lc;", 'l', madwide_u32);
    rig_op("mad.wide.u16 %rx, %ha, %hb, %rc;", 'r', madwide_u16);
    rig_op("mad.wide.s16 %rx, %ha, %hb, %rc;", 'r', madwide_s16);
    rig_op("mad.hi.u32 %rx, %ra, %rb, %rc;", 'r', madhi_u32);
    rig_op("mad.hi.u64 %lx, %la, %lb, %lc;", 'l', madhi_u64);
    rig_op("rem.u64 %lx, %la, %lb;", 'l', rem_u64);
    rig_op("rem.u16 %hx, %ha, %hb;", 'h', rem_u16);
    rig_op("max.s32 %rx, %ra, %rb;", 'r', max_s32);
    rig_op("max.u32 %rx, %ra, %rb;", 'r', max_u32);
    rig_op("max.u64 %lx, %la, %lb;", 'l', max_u64);
    rig_op("min.u16 %hx, %ha, %hb;", 'h', min_u16);
    rig_op("min.u64 %lx, %la, %lb;", 'l', min_u64);
    rig_op("min.s64 %lx, %la, %lb;", 'l', min_s64);
    rig_op("max.s16 %hx, %ha, %hb;", 'h', max_s16);
    rig_op("neg.s16 %hx, %ha;", 'h', neg_16);
    rig_op("sad.u16 %hx, %ha, %hb, %hc;", 'h', sad_u16);
    rig_op("sad.s16 %hx, %ha, %hb, %hc;", 'h', sad_s16);
    rig_op("sad.u32 %rx, %ra, %rb, %rc;", 'r', sad_u32);
    rig_op("sad.u64 %lx, %la, %lb, %lc;", 'l', sad_u64);
    rig_op("sad.s64 %lx, %la, %lb, %lc;", 'l', sad_s64);
    rig_op("and.b16 %hx, %ha, %hb;", 'h', and_16);
    rig_op("and.b64 %lx, %la, %lb;", 'l', and_64);
    rig_op("or.b16 %hx, %ha, %hb;", 'h', or_16);
    rig_op("or.b32 %rx, %ra, %rb;", 'r', or_32);
    rig_op("xor.b32 %rx, %ra, %rb;", 'r', xor_32);
    rig_op("xor.b64 %lx, %la, %lb;", 'l', xor_64);
    rig_op("not.b16 %hx, %ha;", 'h', not_16);
    rig_op("not.b64 %lx, %la;", 'l', not_64);
    rig_op("cnot.b16 %hx, %ha;", 'h', cnot_16);
    rig_op("cnot.b32 %rx, %ra;", 'r', cnot_32);
    rig_op("shr.u64 %lx, %la, %rb;", 'l', shr_u64);
    rig_op("shr.b32 %rx, %ra, %rb;", 'r', shr_b32);
    rig_op("shf.r.wrap.b32 %rx, %ra, %rb, %rc;", 'r', shf_r_wrap);
    rig_op("shf.l.clamp.b32 %rx, %ra, %rb, %rc;", 'r', shf_l_clamp);
    rig_op("popc.b32 %rx, %ra;", 'r', popc_32);
    rig_op("mov.u16 %hx, %ha;", 'h', mov_16);
}

/* The chains that 128-bit multiplication is made of: every link is checked with its carry. */
REF(mul_128_low, a *b + c)
static uint64_t mul_128_high(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 p = (unsigned __int128)a * b + c;
    return (uint64_t)(p >> 64);
}
REF(cc_64, (uint64_t)((unsigned __int128)a + b > UINT64_MAX))
REF(borrow_64, a < b)
REF(madc_lo_32, (uint32_t)(wa *wb + wc < wc ? 1 : 0))

static void test_carry(void **state)
{
    (void)state;
    rig_op("{ .reg .b64 %h; mad.lo.cc.u64 %lx, %la, %lb, %lc; madc.hi.u64 %h, %la, %lb, 0; }", 'l',
           mul_128_low);
    rig_op("{ .reg .b64 %h; mad.lo.cc.u64 %h, %la, %lb, %lc; madc.hi.u64 %lx, %la, %lb, 0; }", 'l',
           mul_128_high);
    rig_op("{ .reg .b64 %h; add.cc.u64 %h, %la, %lb; addc.u64 %lx, 0, 0; }", 'l', cc_64);
    rig_op("{ .reg .b64 %h, %z; sub.cc.u64 %h, %la, %lb; subc.u64 %h, 0, 0; sub.u64 %lx, 0, %h; }",
           'l', borrow_64);
    rig_op("{ .reg .b32 %h; mad.lo.cc.u32 %h, %ra, %rb, %rc; madc.lo.cc.u32 %rx, 0, 0, 0; }", 'r',
           madc_lo_32);
}

#define CMP_INT(T, s, u)                                                                           \
    REF(eq_##s, (T)a == (T)b)                                                                      \
    REF(ne_##s, (T)a != (T)b)                                                                      \
    REF(lt_##s, (T)a < (T)b)                                                                       \
    REF(le_##s, (T)a <= (T)b)                                                                      \
    REF(gt_##s, (T)a > (T)b)                                                                       \
    REF(ge_##s, (T)a >= (T)b)
CMP_INT(uint16_t, u16, h)
CMP_INT(int16_t, s16, h)
CMP_INT(uint32_t, u32, r)
CMP_INT(int32_t, s32, r)
CMP_INT(uint64_t, u64, l)
CMP_INT(int64_t, s64, l)
#define CMP_FLOAT(s, x, y)                                                                         \
    REF(eq_##s, x == y)                                                                            \
    REF(ne_##s, x<y || x> y)                                                                       \
    REF(lt_##s, x < y)                                                                             \
    REF(le_##s, x <= y)                                                                            \
    REF(gt_##s, x > y)                                                                             \
    REF(ge_##s, x >= y)                                                                            \
    REF(equ_##s, isunordered(x, y) || x == y)                                                      \
    REF(neu_##s, isunordered(x, y) || x != y)                                                      \
    REF(ltu_##s, isunordered(x, y) || x < y)                                                       \
    REF(leu_##s, isunordered(x, y) || x <= y)                                                      \
    REF(gtu_##s, isunordered(x, y) || x > y)                                                       \
    REF(geu_##s, isunordered(x, y) || x >= y)                                                      \
    REF(num_##s, !isunordered(x, y))                                                               \
    REF(nan_##s, isunordered(x, y))
CMP_FLOAT(f32, fa, fb)
CMP_FLOAT(f64, da, db)

struct comparison {
    const char *name;
    char reg;
    rig_ref ref;
};
#define ROW6(t, r)                                                                                 \
    {"eq." #t, r, eq_##t}, {"ne." #t, r, ne_##t}, {"lt." #t, r, lt_##t}, {"le." #t, r, le_##t},    \
        {"gt." #t, r, gt_##t},                                                                     \
    {                                                                                              \
        "ge." #t, r, ge_##t                                                                        \
    }
#define ROW14(t, r)                                                                                \
    ROW6(t, r), {"equ." #t, r, equ_##t}, {"neu." #t, r, neu_##t}, {"ltu." #t, r, ltu_##t},         \
        {"leu." #t, r, leu_##t}, {"gtu." #t, r, gtu_##t}, {"geu." #t, r, geu_##t},                 \
        {"num." #t, r, num_##t},                                                                   \
    {                                                                                              \
        "nan." #t, r, nan_##t                                                                      \
    }

/* setp in all its forms; .b types compare as equal or not, .lo .ls .hi .hs are for unsigned ones */
static void test_compare(void **state)
{
    (void)state;
    static const struct comparison all[] = {
        ROW6(u16, 'h'),          ROW6(s16, 'h'),          ROW6(u32, 'r'),
        ROW6(s32, 'r'),          ROW6(u64, 'l'),          ROW6(s64, 'l'),
        ROW14(f32, 'f'),         ROW14(f64, 'd'),         {"eq.b16", 'h', eq_u16},
        {"ne.b16", 'h', ne_u16}, {"eq.b32", 'r', eq_u32}, {"ne.b32", 'r', ne_u32},
        {"eq.b64", 'l', eq_u64}, {"ne.b64", 'l', ne_u64}, {"lo.u32", 'r', lt_u32},
        {"ls.u64", 'l', le_u64}, {"hi.u16", 'h', gt_u16}, {"hs.u32", 'r', ge_u32},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char text[96];
        snprintf(text, sizeof(text), "setp.%s %%px, %%%ca, %%%cb;", all[i].name, all[i].reg,
                 all[i].reg);
        rig_op(text, 'p', all[i].ref);
    }
}

REF(sel_16, wa ? ub : uc)
REF(sel_32, wa ? wb : wc)
REF(sel_64, wa ? b : c)
REF(slct_16, (int32_t)wc >= 0 ? ua : ub)
REF(slct_64, (int32_t)wc >= 0 ? a : b)

static void test_select(void **state)
{
    (void)state;
    rig_op("selp.u16 %hx, %hb, %hc, %pa;", 'h', sel_16);
    rig_op("selp.u32 %rx, %rb, %rc, %pa;", 'r', sel_32);
    rig_op("selp.f32 %fx, %fb, %fc, %pa;", 'f', sel_32);
    rig_op("selp.u64 %lx, %lb, %lc, %pa;", 'l', sel_64);
    rig_op("selp.f64 %dx, %db, %dc, %pa;", 'd', sel_64);
    rig_op("slct.b16.s32 %hx, %ha, %hb, %rc;", 'h', slct_16);
    rig_op("slct.f64.s32 %dx, %da, %db, %rc;", 'd', slct_64);
}

/* cvt to integers by hand: round by integers of 128 bits or by the library's exact functions */
static uint64_t to_signed(double x, double (*round_to)(double), unsigned bits, bool from_f64)
{
    if (isnan(x))
        return from_f64 || bits == 64 ? 1ull << (bits - 1) : 0;
    x = round_to(x);
    double top = ldexp(1, (int)bits - 1);
    if (x >= top)
        return (1ull << (bits - 1)) - 1;
    return x < -top ? 1ull << (bits - 1) : (uint64_t)(int64_t)x;
}
REF(f64_s32_n, (uint32_t)to_signed(da, nearbyint, 32, true))
REF(f64_s32_z, (uint32_t)to_signed(da, trunc, 32, true))
REF(f32_s32_p, (uint32_t)to_signed((double)fa, ceil, 32, false))
REF(f32_s32_m, (uint32_t)to_signed((double)fa, floor, 32, false))
static uint64_t same32(float v)
{
    return isnan(v) ? 0x7fffffff : bits_of(v);
}
static uint64_t same64(double v)
{
    return isnan(v) ? 0x7ff8000000000000 : bits64_of(v);
}
REF(f32_p, same32(ceilf(fa)))
REF(f32_z, same32(truncf(fa)))
REF(f64_m, same64(floor(da)))
REF(f64_z, same64(trunc(da)))
REF(f64_f32, same64((double)fa))
REF(s16_f32, bits_of((float)(int16_t)ua))
REF(s16_s32, (uint32_t)(int16_t)ua)
REF(neg_f64, a ^ 1ull << 63)
/* The nearest single to a 64-bit integer, by hand: cut at 24 bits, then look at the rest. */
static float nearest_single(uint64_t mag)
{
    int drop = 0;
    while (mag >> drop >= 1u << 24)
        drop++;
    uint64_t kept = mag >> drop, rest = drop ? mag - (kept << drop) : 0;
    uint64_t half = drop ? 1ull << (drop - 1) : 1;
    kept += rest > half || (rest == half && drop && (kept & 1));
    return ldexpf((float)kept, drop);
}
REF(s64_f32, bits_of((int64_t)a < 0 ? -nearest_single(0 - a) : nearest_single(a)))
REF(u64_f32, bits_of(nearest_single(a)))

/* A NaN of .f64 keeps the host's bits: they are told apart from numbers and compared as one. */
#define ONE_NAN " setp.nan.f64 %py, %dx, %dx; @%py mov.f64 %dx, 0d7FF8000000000000;"

static void test_convert(void **state)
{
    (void)state;
    rig_op("cvt.rni.s32.f64 %rx, %da;", 'r', f64_s32_n);
    rig_op("cvt.rzi.s32.f64 %rx, %da;", 'r', f64_s32_z);
    rig_op("cvt.rpi.s32.f32 %rx, %fa;", 'r', f32_s32_p);
    rig_op("cvt.rmi.s32.f32 %rx, %fa;", 'r', f32_s32_m);
    rig_op("cvt.rpi.f32.f32 %fx, %fa;", 'f', f32_p);
    rig_op("cvt.rzi.f32.f32 %fx, %fa;", 'f', f32_z);
    rig_op("cvt.rmi.f64.f64 %dx, %da;" ONE_NAN, 'd', f64_m);
    rig_op("cvt.rzi.f64.f64 %dx, %da;" ONE_NAN, 'd', f64_z);
    rig_op("cvt.f64.f32 %dx, %fa;" ONE_NAN, 'd', f64_f32);
    rig_op("cvt.rn.f32.s16 %fx, %ha;", 'f', s16_f32);
    rig_op("cvt.rn.f32.s64 %fx, %la;", 'f', s64_f32);
    rig_op("cvt.rn.f32.u64 %fx, %la;", 'f', u64_f32);
    rig_op("cvt.s32.s16 %rx, %ha;", 'r', s16_s32);
    rig_op("neg.f64 %dx, %da;", 'd', neg_f64);
}

/* bmsk, szext, fns: the ISA's own pseudocode */
static uint32_t bmsk(uint32_t a, uint32_t b, bool clamp)
{
    uint32_t a1 = a & 31, b1 = b & 31, sum = a1 + b1;
    uint32_t mask0 = ~0u << a1, mask1 = sum < 32 ? ~0u << sum : 0;
    if (clamp && a >= 32)
        mask0 = 0;
    if (clamp && b >= 32)
        mask1 = 0;
    return mask0 & ~mask1;
}
static uint32_t szext(uint32_t a, uint32_t b, bool clamp, bool is_signed)
{
    uint32_t n = b & 31, r = 0;
    if (clamp && b >= 32)
        return a;
    for (uint32_t i = 0; i < 32; i++)
        r |= (i < n ? a >> i & 1 : is_signed && n ? a >> (n - 1) & 1 : 0) << i;
    return r;
}
static uint32_t fns(uint32_t mask, uint32_t base, int32_t offset)
{
    if (base > 31)
        return ~0u;
    if (offset == 0)
        return mask >> base & 1 ? base : ~0u;
    int64_t pos = base, count = offset < 0 ? -(int64_t)offset - 1 : offset - 1;
    for (; pos >= 0 && pos<32; pos += offset> 0 ? 1 : -1)
        if (mask >> pos & 1) {
            if (count == 0)
                return (uint32_t)pos;
            count--;
        }
    return ~0u;
}
static int64_t narrowed(uint32_t v, unsigned bits, bool is_signed)
{
    int64_t max = (1ll << (bits - is_signed)) - 1, min = is_signed ? -max - 1 : 0, x = (int32_t)v;
    return x > max ? max : x < min ? min : x;
}
static uint32_t pack(uint32_t a, uint32_t b, uint32_t c, unsigned bits, bool is_signed)
{
    uint32_t keep = (1u << bits) - 1;
    uint32_t r = ((uint32_t)narrowed(a, bits, is_signed) & keep) << bits |
                 ((uint32_t)narrowed(b, bits, is_signed) & keep);
    return bits == 16 ? r : r | c << 2 * bits;
}
REF(bmsk_clamp, bmsk(wa, wb, true))
REF(bmsk_wrap, bmsk(wa, wb, false))
REF(szext_clamp_u32, szext(wa, wb, true, false))
REF(szext_wrap_s32, szext(wa, wb, false, true))
REF(szext_clamp_s32, szext(wa, wb, true, true))
REF(fns_b32, fns(wa, wb & 63, (int32_t)wc % 40))
REF(pack_u16, pack(wa, wb, 0, 16, false))
REF(pack_s16, pack(wa, wb, 0, 16, true))
REF(pack_u8, pack(wa, wb, wc, 8, false))
REF(pack_s8, pack(wa, wb, wc, 8, true))
REF(pack_u4, pack(wa, wb, wc, 4, false))
REF(pack_s2, pack(wa, wb, wc, 2, true))
REF(lop_maj_and, ((wa & wb) | (wa & wc) | (wb & wc)) != 0 && wa != 0)
REF(lop_maj_or, ((wa & wb) | (wa & wc) | (wb & wc)) != 0 || wa != 0)
REF(lop_maj, (wa & wb) | (wa & wc) | (wb & wc))
static uint32_t sat_s32(int64_t v)
{
    return (uint32_t)(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v);
}
REF(madhi_sat, sat_s32(((int64_t)(int32_t)wa * (int32_t)wb >> 32) + (int32_t)wc))
static int64_t s24(uint32_t v)
{
    v &= 0xffffff;
    return v & 0x800000 ? (int64_t)v - 0x1000000 : v;
}
REF(mad24hi_sat, sat_s32((s24(wa) * s24(wb) >> 16) + (int32_t)wc))

static void test_rare(void **state)
{
    (void)state;
    /* Positions and widths that matter are small. */
    static uint64_t small[4096][3];
    uint64_t x = 88172645463325252ull;
    for (unsigned i = 0; i < 4096; i++) {
        for (unsigned k = 0; k < 3; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            small[i][k] = x;
        }
        small[i][1] &= i % 16 ? 63 : UINT32_MAX;
        if (i % 2)
            small[i][0] &= 63;
    }
#define ON(text, kind, ref)                                                                        \
    rig_op(text, kind, ref);                                                                       \
    rig_op_on(text, kind, ref, (const uint64_t(*)[3])small, 4096)
    ON("bmsk.clamp.b32 %rx, %ra, %rb;", 'r', bmsk_clamp);
    ON("bmsk.wrap.b32 %rx, %ra, %rb;", 'r', bmsk_wrap);
    ON("szext.clamp.u32 %rx, %ra, %rb;", 'r', szext_clamp_u32);
    ON("szext.wrap.s32 %rx, %ra, %rb;", 'r', szext_wrap_s32);
    ON("szext.clamp.s32 %rx, %ra, %rb;", 'r', szext_clamp_s32);
    ON("and.b32 %rb, %rb, 63; rem.s32 %rc, %rc, 40; fns.b32 %rx, %ra, %rb, %rc;", 'r', fns_b32);
#undef ON
    rig_op("cvt.pack.sat.u16.s32 %rx, %ra, %rb;", 'r', pack_u16);
    rig_op("cvt.pack.sat.s16.s32 %rx, %ra, %rb;", 'r', pack_s16);
    rig_op("cvt.pack.sat.u8.s32.b32 %rx, %ra, %rb, %rc;", 'r', pack_u8);
    rig_op("cvt.pack.sat.s8.s32.b32 %rx, %ra, %rb, %rc;", 'r', pack_s8);
    rig_op("cvt.pack.sat.u4.s32.b32 %rx, %ra, %rb, %rc;", 'r', pack_u4);
    rig_op("cvt.pack.sat.s2.s32.b32 %rx, %ra, %rb, %rc;", 'r', pack_s2);
    rig_op("lop3.and.b32 _|%px, %ra, %rb, %rc, 0xe8, %pa;", 'p', lop_maj_and);
    rig_op("lop3.or.b32 %rx|%px, %ra, %rb, %rc, 0xe8, %pa;", 'p', lop_maj_or);
    rig_op("lop3.or.b32 %rx|%px, %ra, %rb, %rc, 0xe8, %pa;", 'r', lop_maj);
    rig_op("mad.hi.sat.s32 %rx, %ra, %rb, %rc;", 'r', madhi_sat);
    rig_op("mad24.hi.sat.s32 %rx, %ra, %rb, %rc;", 'r', mad24hi_sat);
}

/* Video instructions by parts of `bits` bits: `op` as the names say, signs of d, a and b. */
static uint64_t video(const char *op, unsigned bits, const char *signs, bool sat, const char *then,
                      uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t result = 0, sum = (uint32_t)c;
    for (unsigned at = 0; at < 32; at += bits) {
        uint64_t ra = (uint32_t)a >> at, rb = (uint32_t)b >> at;
        int64_t x = (int64_t)(ra << (64 - bits)) >> (64 - bits), v;
        int64_t y = (int64_t)(rb << (64 - bits)) >> (64 - bits);
        if (signs[1] == 'u')
            x &= (1ll << bits) - 1;
        if (signs[2] == 'u')
            y &= (1ll << bits) - 1;
        v = *op == '+'   ? x + y
            : *op == '-' ? x - y
            : *op == '|' ? llabs(x - y)
            : *op == 'a' ? (x + y >= 0 ? (x + y + 1) / 2 : -((-x - y + 1) / 2))
            : *op == '<' ? (x < y ? x : y)
            : *op == '>' ? (x > y ? x : y)
                         : x > y; /* set.gt */
        int64_t top = signs[0] == 's' ? (1ll << (bits - 1)) - 1 : (1ll << bits) - 1;
        int64_t bottom = signs[0] == 's' ? -top - 1 : 0;
        if (sat)
            v = v > top ? top : v < bottom ? bottom : v;
        sum += (uint64_t)v;
        result |= ((uint64_t)v & ((1ull << bits) - 1)) << at;
    }
    uint32_t r = (uint32_t)result, wc = (uint32_t)c;
    bool less = signs[0] == 's' ? (int32_t)r < (int32_t)wc : r < wc;
    if (*then == '<')
        return less ? r : wc;
    if (*then == '>')
        return less ? wc : r;
    return *then == '+' ? (uint32_t)sum : r;
}
#define VIDEO(name, op, bits, signs, sat, then)                                                    \
    REF(name, video(op, bits, signs, sat, then, a, b, c))
VIDEO(vabsdiff4_uuu, "|", 8, "uuu", false, "")
VIDEO(vabsdiff4_uuu_add, "|", 8, "uuu", false, "+")
VIDEO(vabsdiff4_sss_add, "|", 8, "sss", false, "+")
VIDEO(vabsdiff2_sss_sat, "|", 16, "sss", true, "")
VIDEO(vadd4_usu_sat, "+", 8, "usu", true, "")
VIDEO(vadd2_sss_add, "+", 16, "sss", false, "+")
VIDEO(vsub4_suu, "-", 8, "suu", false, "")
VIDEO(vavrg4_uuu, "a", 8, "uuu", false, "")
VIDEO(vavrg2_sss, "a", 16, "sss", false, "")
VIDEO(vmin4_sss, "<", 8, "sss", false, "")
VIDEO(vmax2_uuu, ">", 16, "uuu", false, "")
VIDEO(vset4_gt, "s", 8, "uss", false, "")
VIDEO(vset2_gt_add, "s", 16, "uuu", false, "+")
VIDEO(vadd_sat, "+", 32, "ssu", true, "")
VIDEO(vsub_sat_min, "-", 32, "uss", true, "<")
VIDEO(vabsdiff_max, "|", 32, "sss", false, ">")
VIDEO(vmin_add, "<", 32, "uus", false, "+")
VIDEO(vset_add, "s", 32, "uuu", false, "+")

static void test_video(void **state)
{
    (void)state;
    rig_op("vabsdiff4.u32.u32.u32 %rx, %ra, %rb, %rc;", 'r', vabsdiff4_uuu);
    rig_op("vabsdiff4.u32.u32.u32.add %rx, %ra, %rb, %rc;", 'r', vabsdiff4_uuu_add);
    rig_op("vabsdiff4.s32.s32.s32.add %rx, %ra, %rb, %rc;", 'r', vabsdiff4_sss_add);
    rig_op("vabsdiff2.s32.s32.s32.sat %rx, %ra, %rb, %rc;", 'r', vabsdiff2_sss_sat);
    rig_op("vadd4.u32.s32.u32.sat %rx, %ra, %rb, %rc;", 'r', vadd4_usu_sat);
    rig_op("vadd2.s32.s32.s32.add %rx, %ra, %rb, %rc;", 'r', vadd2_sss_add);
    rig_op("vsub4.s32.u32.u32 %rx, %ra, %rb, %rc;", 'r', vsub4_suu);
    rig_op("vavrg4.u32.u32.u32 %rx, %ra, %rb, %rc;", 'r', vavrg4_uuu);
    rig_op("vavrg2.s32.s32.s32 %rx, %ra, %rb, %rc;", 'r', vavrg2_sss);
    rig_op("vmin4.s32.s32.s32 %rx, %ra, %rb, %rc;", 'r', vmin4_sss);
    rig_op("vmax2.u32.u32.u32 %rx, %ra, %rb, %rc;", 'r', vmax2_uuu);
    rig_op("vset4.s32.s32.gt %rx, %ra, %rb, %rc;", 'r', vset4_gt);
    rig_op("vset2.u32.u32.gt.add %rx, %ra, %rb, %rc;", 'r', vset2_gt_add);
    rig_op("vadd.s32.s32.u32.sat %rx, %ra, %rb;", 'r', vadd_sat);
    rig_op("vsub.u32.s32.s32.sat.min %rx, %ra, %rb, %rc;", 'r', vsub_sat_min);
    rig_op("vabsdiff.s32.s32.s32.max %rx, %ra, %rb, %rc;", 'r', vabsdiff_max);
    rig_op("vmin.u32.u32.s32.add %rx, %ra, %rb, %rc;", 'r', vmin_add);
    rig_op("vset.u32.u32.gt.add %rx, %ra, %rb, %rc;", 'r', vset_add);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_integer), VGPU_TEST(test_carry),   VGPU_TEST(test_compare),
        VGPU_TEST(test_select),  VGPU_TEST(test_convert), VGPU_TEST(test_rare),
        VGPU_TEST(test_video),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
