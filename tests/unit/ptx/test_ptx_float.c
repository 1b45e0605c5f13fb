/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PTX ISA, "Floating Point Instructions" and "cvt". The directed roundings are checked against
 * exact arithmetic (an error- free sum or product and its sign), not against another use of the
 * host's rounding modes.
 */
#include "ptx_rig.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define REF(name, expr)                                                                            \
    static uint64_t name(uint64_t a, uint64_t b, uint64_t c)                                       \
    {                                                                                              \
        float fa = f32_of(a), fb = f32_of(b), fc = f32_of(c);                                      \
        double da = f64_of(a), db = f64_of(b), dc = f64_of(c);                                     \
        (void)fa, (void)fb, (void)fc, (void)da, (void)db, (void)dc;                                \
        return (expr);                                                                             \
    }

/* "NaN results are the canonical NaN, 0x7fffffff" for single precision. */
static uint64_t f(float x)
{
    return isnan(x) ? 0x7fffffff : bits_of(x);
}
static float flush(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}
static uint64_t ftz(float x)
{
    return f(flush(x));
}
static uint64_t sat(float x)
{
    return isnan(x) ? 0 : x <= 0 ? 0 : x >= 1 ? bits_of(1.0f) : bits_of(x);
}

REF(add_f32, f(fa + fb))
REF(add_ftz, ftz(flush(fa) + flush(fb)))
REF(add_sat, sat(fa + fb))
REF(sub_f32, f(fa - fb))
REF(mul_f32, f(fa *fb))
REF(mul_ftz_sat, sat(flush(flush(fa) * flush(fb))))
REF(fma_f32, f(fmaf(fa, fb, fc)))
REF(fma_ftz, ftz(fmaf(flush(fa), flush(fb), flush(fc))))
REF(div_f32, f(fa / fb))
REF(sqrt_f32, f(sqrtf(fa)))
REF(rcp_f32, f(1.0f / fa))
REF(abs_f32, (uint32_t)a & 0x7fffffff)
REF(neg_f32, (uint32_t)a ^ 0x80000000)
REF(copysign_f32, ((uint32_t)b & 0x7fffffff) | ((uint32_t)a & 0x80000000))

static void test_f32(void **state)
{
    (void)state;
    rig_op("add.f32 %fx, %fa, %fb;", 'f', add_f32);
    rig_op("add.rn.f32 %fx, %fa, %fb;", 'f', add_f32);
    rig_op("add.ftz.f32 %fx, %fa, %fb;", 'f', add_ftz);
    rig_op("add.sat.f32 %fx, %fa, %fb;", 'f', add_sat);
    rig_op("sub.f32 %fx, %fa, %fb;", 'f', sub_f32);
    rig_op("mul.f32 %fx, %fa, %fb;", 'f', mul_f32);
    rig_op("mul.ftz.sat.f32 %fx, %fa, %fb;", 'f', mul_ftz_sat);
    rig_op("fma.rn.f32 %fx, %fa, %fb, %fc;", 'f', fma_f32);
    rig_op("fma.rn.ftz.f32 %fx, %fa, %fb, %fc;", 'f', fma_ftz);
    rig_op("div.rn.f32 %fx, %fa, %fb;", 'f', div_f32);
    rig_op("sqrt.rn.f32 %fx, %fa;", 'f', sqrt_f32);
    rig_op("rcp.rn.f32 %fx, %fa;", 'f', rcp_f32);
    rig_op("abs.f32 %fx, %fa;", 'f', abs_f32);
    rig_op("neg.f32 %fx, %fa;", 'f', neg_f32);
    rig_op("copysign.f32 %fx, %fa, %fb;", 'f', copysign_f32);
}

/* "If exactly one is NaN, the result is the other"; "-0.0 < +0.0" */
static float order(float x, float y, bool max)
{
    if (isnan(x))
        return y;
    if (isnan(y))
        return x;
    if (x == 0 && y == 0)
        return !!signbit(x) == !max ? x : y;
    return (x < y) == !max ? x : y;
}
REF(min_f32, f(order(fa, fb, false)))
REF(max_f32, f(order(fa, fb, true)))
REF(max_ftz, f(order(flush(fa), flush(fb), true)))

static void test_min_max(void **state)
{
    (void)state;
    rig_op("min.f32 %fx, %fa, %fb;", 'f', min_f32);
    rig_op("max.f32 %fx, %fa, %fb;", 'f', max_f32);
    rig_op("max.ftz.f32 %fx, %fa, %fb;", 'f', max_ftz);
    static const uint64_t zeros[][3] = {{0, 0x80000000, 0}, {0x80000000, 0, 0}, {0, 0, 0}};
    rig_op_on("min.f32 %fx, %fa, %fb;", 'f', min_f32, zeros, 3);
    rig_op_on("max.f32 %fx, %fa, %fb;", 'f', max_f32, zeros, 3);
}

/* Double-precision NaN payloads are the host's affair: only that it is one counts, so those inputs
 * are left out. */
#define N_D 400
static void op_f64(const char *text, rig_ref ref)
{
    static uint64_t v[N_D][3];
    uint64_t x = 0x9e3779b97f4a7c15ull;
    for (unsigned i = 0; i < N_D; i++) {
        for (unsigned k = 0; k < 3; k++) {
            do {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                v[i][k] = i % 8 == 0   ? x >> 60 << 60 /* zeros, subnormal edges, large */
                          : i % 8 == 1 ? x & 0x800fffffffffffffull
                                       : (x & 0x803fffffffffffffull) | 0x3fc0000000000000ull;
            } while (!isfinite(f64_of(v[i][k])));
        }
        if (isnan(f64_of(ref(v[i][0], v[i][1], v[i][2]))))
            memset(v[i], 0, sizeof(v[i])), v[i][1] = bits64_of(3.0);
    }
    rig_op_on(text, 'd', ref, (const uint64_t(*)[3])v, N_D);
}
REF(add_f64, bits64_of(da + db))
REF(sub_f64, bits64_of(da - db))
REF(mul_f64, bits64_of(da *db))
REF(fma_f64, bits64_of(fma(da, db, dc)))
REF(div_f64, bits64_of(da / db))
REF(sqrt_f64, bits64_of(sqrt(fabs(da))))

static void test_f64(void **state)
{
    (void)state;
    op_f64("add.f64 %dx, %da, %db;", add_f64);
    op_f64("sub.rn.f64 %dx, %da, %db;", sub_f64);
    op_f64("mul.f64 %dx, %da, %db;", mul_f64);
    op_f64("fma.rn.f64 %dx, %da, %db, %dc;", fma_f64);
    op_f64("div.rn.f64 %dx, %da, %db;", div_f64);
    op_f64("abs.f64 %dx, %da; sqrt.rn.f64 %dx, %dx;", sqrt_f64);
}

enum mode { RZ, RM, RP };

/*
 * The float nearest to hi + lo in the direction of `mode`, where hi is the double nearest to the
 * exact value and lo what it lacks. Exact zeros are +0, but -0 toward minus infinity, unless `zero`
 * says what the operands make of it.
 */
static float toward(double hi, double lo, enum mode mode)
{
    float r = (float)hi;
    double over = (double)r - hi; /* exact: r is hi rounded to fewer bits */
    int high = over > lo ? 1 : over < lo ? -1 : 0;
    bool down = mode == RM || (mode == RZ && (hi > 0 || (hi == 0 && lo > 0)));
    if (down && high > 0)
        return nextafterf(r, -INFINITY);
    if (!down && high < 0)
        return nextafterf(r, INFINITY);
    return r;
}

static uint64_t add_exact(float a, float b, enum mode mode)
{
    if (isnan(a + b) || isinf(a) || isinf(b))
        return f(a + b);
    double x = (double)a, y = (double)b, hi = x + y;
    double t = hi - x, lo = (x - (hi - t)) + (y - t);
    if (hi == 0 && lo == 0) {
        bool minus = a == 0 && signbit(a) && signbit(b)     ? true
                     : a == 0 && !signbit(a) && !signbit(b) ? false
                                                            : mode == RM;
        return minus ? 0x80000000 : 0;
    }
    return f(toward(hi, lo, mode));
}
REF(add_rz, add_exact(fa, fb, RZ))
REF(add_rm, add_exact(fa, fb, RM))
REF(add_rp, add_exact(fa, fb, RP))
REF(sub_rz, add_exact(fa, -fb, RZ))
/* A product of floats is exact in double unless it underflows there, which two floats' cannot. */
static uint64_t mul_exact(float a, float b, enum mode mode)
{
    double p = (double)a * (double)b;
    if (isnan(p) || isinf(p) || p == 0)
        return f((float)p);
    return f(toward(p, 0, mode));
}
REF(mul_rz, mul_exact(fa, fb, RZ))
REF(mul_rm, mul_exact(fa, fb, RM))
REF(mul_rp, mul_exact(fa, fb, RP))

REF(one, 0x3f800000)
REF(above_one, 0x3f800001)
REF(third_down, 0x3eaaaaaa)
REF(third_up, 0x3eaaaaab)
REF(third_down64, 0x3fd5555555555555)
REF(third_up64, 0x3fd5555555555556)

static void test_directed(void **state)
{
    (void)state;
    rig_op("add.rz.f32 %fx, %fa, %fb;", 'f', add_rz);
    rig_op("add.rm.f32 %fx, %fa, %fb;", 'f', add_rm);
    rig_op("add.rp.f32 %fx, %fa, %fb;", 'f', add_rp);
    rig_op("sub.rz.f32 %fx, %fa, %fb;", 'f', sub_rz);
    rig_op("mul.rz.f32 %fx, %fa, %fb;", 'f', mul_rz);
    rig_op("mul.rm.f32 %fx, %fa, %fb;", 'f', mul_rm);
    rig_op("mul.rp.f32 %fx, %fa, %fb;", 'f', mul_rp);
    /* 1 + 2^-30 by fma, and 1/3, at known places */
    static const uint64_t fma_known[][3] = {{0x3f800000, 0x3f800000, 0x30800000}};
    rig_op_on("fma.rz.f32 %fx, %fa, %fb, %fc;", 'f', one, fma_known, 1);
    rig_op_on("fma.rm.f32 %fx, %fa, %fb, %fc;", 'f', one, fma_known, 1);
    rig_op_on("fma.rp.f32 %fx, %fa, %fb, %fc;", 'f', above_one, fma_known, 1);
    static const uint64_t div_known[][3] = {{0x3f800000, 0x40400000, 0}};
    rig_op_on("div.rz.f32 %fx, %fa, %fb;", 'f', third_down, div_known, 1);
    rig_op_on("div.rp.f32 %fx, %fa, %fb;", 'f', third_up, div_known, 1);
    static const uint64_t div_known64[][3] = {{0x3ff0000000000000, 0x4008000000000000, 0}};
    rig_op_on("div.rm.f64 %dx, %da, %db;", 'd', third_down64, div_known64, 1);
    rig_op_on("div.rp.f64 %dx, %da, %db;", 'd', third_up64, div_known64, 1);
}

REF(eq_f32, fa == fb)
REF(ne_f32, !isnan(fa) && !isnan(fb) && fa != fb)
REF(lt_f32, fa < fb)
REF(geu_f32, isnan(fa) || isnan(fb) || fa >= fb)
REF(equ_f32, isnan(fa) || isnan(fb) || fa == fb)
REF(neu_f32, !(fa == fb))
REF(ltu_f32, !(fa >= fb))
REF(leu_f32, !(fa > fb))
REF(gtu_f32, !(fa <= fb))
REF(num_f32, !isnan(fa) && !isnan(fb))
REF(nan_f64, isnan(da) || isnan(db))
REF(le_f64, da <= db)
REF(lt_ftz, flush(fa) < flush(fb))
REF(lt_s16, (int16_t)a < (int16_t)b)
REF(hi_u64, a > b)
REF(ge_s64, (int64_t)a >= (int64_t)b)
REF(and_c, (uint32_t)a < (uint32_t)b && (uint32_t)a != 0)
REF(set_u32, (uint32_t)a <= (uint32_t)b ? 0xffffffff : 0)
REF(set_f32, (uint32_t)a <= (uint32_t)b ? 0x3f800000 : 0)
REF(subnormal, fpclassify(fa) == FP_SUBNORMAL)
REF(normal, fpclassify(fa) == FP_NORMAL || fa == 0)
REF(normal_f64, fpclassify(da) == FP_NORMAL || da == 0)

/* setp, set, testp: "unordered comparisons are true if either operand is NaN" */
static void test_compare(void **state)
{
    (void)state;
    rig_op("setp.eq.f32 %px, %fa, %fb;", 'p', eq_f32);
    rig_op("setp.ne.f32 %px, %fa, %fb;", 'p', ne_f32);
    rig_op("setp.lt.f32 %px, %fa, %fb;", 'p', lt_f32);
    rig_op("setp.geu.f32 %px, %fa, %fb;", 'p', geu_f32);
    rig_op("setp.equ.f32 %px, %fa, %fb;", 'p', equ_f32);
    rig_op("setp.neu.f32 %px, %fa, %fb;", 'p', neu_f32);
    rig_op("setp.ltu.f32 %px, %fa, %fb;", 'p', ltu_f32);
    rig_op("setp.leu.f32 %px, %fa, %fb;", 'p', leu_f32);
    rig_op("setp.gtu.f32 %px, %fa, %fb;", 'p', gtu_f32);
    rig_op("setp.num.f32 %px, %fa, %fb;", 'p', num_f32);
    rig_op("setp.nan.f64 %px, %da, %db;", 'p', nan_f64);
    rig_op("setp.le.f64 %px, %da, %db;", 'p', le_f64);
    rig_op("setp.lt.ftz.f32 %px, %fa, %fb;", 'p', lt_ftz);
    rig_op("setp.lt.s16 %px, %ha, %hb;", 'p', lt_s16);
    rig_op("setp.hi.u64 %px, %la, %lb;", 'p', hi_u64);
    rig_op("setp.ge.s64 %px, %la, %lb;", 'p', ge_s64);
    rig_op("setp.lo.and.u32 %px, %ra, %rb, %pa;", 'p', and_c);
    rig_op("set.le.u32.u32 %rx, %ra, %rb;", 'r', set_u32);
    rig_op("set.le.f32.u32 %fx, %ra, %rb;", 'f', set_f32);
    rig_op("testp.subnormal.f32 %px, %fa;", 'p', subnormal);
    /* "As a special case, positive and negative zero are considered normal numbers." */
    rig_op("testp.normal.f32 %px, %fa;", 'p', normal);
    rig_op("testp.normal.f64 %px, %da;", 'p', normal_f64);
}

/*
 * cvt to integers: round, clamp to the range. PTX ISA, "cvt", integer notes: NaN gives 0 when the
 * source is not .f64 and the destination neither .s64 nor .u64, otherwise 1 << (BitWidth(dst) - 1).
 */
static uint64_t clamp(double x, double low, double high)
{
    if (isnan(x))
        return 0;
    return x <= low    ? (uint64_t)(int64_t)low
           : x >= high ? (uint64_t)(int64_t)high
                       : (uint64_t)(int64_t)x;
}
REF(rzi_s32, (uint32_t)clamp(trunc((double)fa), -2147483648.0, 2147483647.0))
REF(rni_s32, (uint32_t)clamp(nearbyint((double)fa), -2147483648.0, 2147483647.0))
REF(rmi_s32, isnan(da) ? 0x80000000u : (uint32_t)clamp(floor(da), -2147483648.0, 2147483647.0))
REF(rpi_s32, (uint32_t)clamp(ceil((double)fa), -2147483648.0, 2147483647.0))
REF(rzi_u32, (uint32_t)clamp(trunc((double)fa), 0.0, 4294967295.0))
REF(rzi_u32_f64, isnan(da) ? 0x80000000u : (uint32_t)clamp(trunc(da), 0.0, 4294967295.0))
REF(rzi_s16_f64, isnan(da) ? 0xffff8000u : (uint32_t)(int16_t)clamp(trunc(da), -32768.0, 32767.0))
REF(rzi_u16_f64, isnan(da) ? 0x8000u : (uint16_t)clamp(trunc(da), 0.0, 65535.0))
REF(rzi_s64_f64, isnan(da)      ? (uint64_t)1 << 63
                 : da >= 0x1p63 ? (uint64_t)INT64_MAX
                 : da < -0x1p63 ? (uint64_t)INT64_MIN
                                : (uint64_t)(int64_t)da)
REF(rzi_s64, isnan(fa)       ? (uint64_t)1 << 63
             : fa >= 0x1p63f ? (uint64_t)INT64_MAX
             : fa < -0x1p63f ? (uint64_t)INT64_MIN
                             : (uint64_t)(int64_t)fa)
REF(rzi_u64, isnan(fa)       ? (uint64_t)1 << 63
             : !(fa > 0)     ? 0
             : fa >= 0x1p64f ? UINT64_MAX
                             : (uint64_t)fa)
REF(rzi_s16, (uint32_t)(int16_t)clamp(trunc((double)fa), -32768.0, 32767.0))
REF(s32_f32, bits_of((float)(int32_t)a))
REF(u32_f32, bits_of((float)(uint32_t)a))
REF(u64_f32, bits_of((float)a))
REF(s64_f64, bits64_of((double)(int64_t)a))
REF(u16_f32, bits_of((float)(uint16_t)a))
REF(s32_f64, bits64_of((double)(int32_t)a))
REF(f64_f32, f((float)da))
REF(f64_f32_rz, isnan(da)   ? 0x7fffffff
                : isinf(da) ? bits_of((float)da)
                : da == 0   ? bits_of((float)da)
                            : f(toward(da, 0, RZ)))
REF(u32_f32_rz, (uint32_t)a ? f(toward((double)(uint32_t)a, 0, RZ)) : 0)
REF(s32_f32_rp, (uint32_t)a ? f(toward((double)(int32_t)a, 0, RP)) : 0)
REF(f32_rni, f(rintf(fa)))
REF(f32_rmi, f(floorf(fa)))
REF(f32_sat, sat(fa))
REF(s8_s32, (uint32_t)(int8_t)a)
REF(u8_u32, (uint8_t)a)
REF(s16_s64, (uint64_t)(int16_t)a)
REF(s32_s64, (uint64_t)(int32_t)a)
REF(u32_u64, (uint32_t)a)
REF(s64_s8, (uint32_t)(int8_t)a)
REF(sat_u8, (int32_t)a<0 ? 0 : (int32_t)a> 255 ? 255 : (uint32_t)a)
REF(sat_s32_u64, a > INT32_MAX ? INT32_MAX : a)
REF(sat_s16, (uint32_t)((int64_t)a > 32767 ? 32767 : (int64_t)a < -32768 ? -32768 : (int32_t)a))

static void test_cvt(void **state)
{
    (void)state;
    rig_op("cvt.rzi.s32.f32 %rx, %fa;", 'r', rzi_s32);
    rig_op("cvt.rni.s32.f32 %rx, %fa;", 'r', rni_s32);
    rig_op("cvt.rmi.s32.f64 %rx, %da;", 'r', rmi_s32);
    rig_op("cvt.rpi.s32.f32 %rx, %fa;", 'r', rpi_s32);
    rig_op("cvt.rzi.u32.f32 %rx, %fa;", 'r', rzi_u32);
    rig_op("cvt.rzi.s64.f32 %lx, %fa;", 'l', rzi_s64);
    rig_op("cvt.rzi.u64.f32 %lx, %fa;", 'l', rzi_u64);
    rig_op("cvt.rzi.s16.f32 %rx, %fa;", 'r', rzi_s16);
    rig_op("cvt.rzi.u32.f64 %rx, %da;", 'r', rzi_u32_f64);
    rig_op("cvt.rzi.s16.f64 %rx, %da;", 'r', rzi_s16_f64);
    rig_op("cvt.rzi.u16.f64 %rx, %da;", 'r', rzi_u16_f64);
    rig_op("cvt.rzi.s64.f64 %lx, %da;", 'l', rzi_s64_f64);
    rig_op("cvt.rn.f32.s32 %fx, %ra;", 'f', s32_f32);
    rig_op("cvt.rn.f32.u32 %fx, %ra;", 'f', u32_f32);
    rig_op("cvt.rn.f32.u64 %fx, %la;", 'f', u64_f32);
    rig_op("cvt.rn.f64.s64 %dx, %la;", 'd', s64_f64);
    rig_op("cvt.rn.f32.u16 %fx, %ha;", 'f', u16_f32);
    rig_op("cvt.rn.f64.s32 %dx, %ra;", 'd', s32_f64);
    rig_op("cvt.rn.f32.f64 %fx, %da;", 'f', f64_f32);
    rig_op("cvt.rz.f32.f64 %fx, %da;", 'f', f64_f32_rz);
    rig_op("cvt.rz.f32.u32 %fx, %ra;", 'f', u32_f32_rz);
    rig_op("cvt.rp.f32.s32 %fx, %ra;", 'f', s32_f32_rp);
    rig_op("cvt.rni.f32.f32 %fx, %fa;", 'f', f32_rni);
    rig_op("cvt.rmi.f32.f32 %fx, %fa;", 'f', f32_rmi);
    rig_op("cvt.sat.f32.f32 %fx, %fa;", 'f', f32_sat);
    rig_op("cvt.s32.s8 %rx, %ra;", 'r', s8_s32);
    rig_op("cvt.u32.u8 %rx, %ra;", 'r', u8_u32);
    rig_op("cvt.s64.s16 %lx, %ha;", 'l', s16_s64);
    rig_op("cvt.s64.s32 %lx, %ra;", 'l', s32_s64);
    rig_op("cvt.u64.u32 %lx, %ra;", 'l', u32_u64);
    rig_op("cvt.s8.s64 %rx, %la;", 'r', s64_s8);
    rig_op("cvt.sat.u8.s32 %rx, %ra;", 'r', sat_u8);
    rig_op("cvt.sat.s32.u64 %rx, %la;", 'r', sat_s32_u64);
    rig_op("cvt.sat.s16.s64 %rx, %la;", 'r', sat_s16);
}

/* Every half, there and back: cvt.f32.f16 is exact, cvt.rn.f16.f32 undoes it; NaN becomes 0x7fff */
static uint64_t half_back(uint64_t a, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    uint16_t h = (uint16_t)a;
    return (h & 0x7c00) == 0x7c00 && (h & 0x3ff) ? 0x7fff : h;
}
static uint64_t half_value(uint64_t a, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    uint32_t h = (uint16_t)a, e = h >> 10 & 31, m = h & 0x3ff, s = (h & 0x8000) << 16;
    if (e == 31)
        return m ? 0x7fffffff : s | 0x7f800000;
    return bits_of((float)ldexp(e ? m + 1024 : m, (e ? (int)e : 1) - 25)) | s;
}
/* Halfway between two halves goes to the even one, a little more goes up; beyond the largest is
 * infinite. */
static uint64_t half_of(uint64_t a, uint64_t b, uint64_t c)
{
    (void)b;
    (void)a;
    return c;
}

static void test_half(void **state)
{
    (void)state;
    static uint64_t all[65536][3];
    for (uint32_t i = 0; i < 65536; i++)
        all[i][0] = i;
    rig_op_on("cvt.f32.f16 %fx, %ha;", 'f', half_value, (const uint64_t(*)[3])all, 65536);
    rig_op_on("cvt.f32.f16 %fx, %ha; cvt.rn.f16.f32 %hx, %fx;", 'h', half_back,
              (const uint64_t(*)[3])all, 65536);
    const uint64_t known[][3] = {
        {0x3f801000, 0, 0x3c00}, {0x3f801001, 0, 0x3c01}, {0x3f803000, 0, 0x3c02},
        {0x477fefff, 0, 0x7bff}, {0x477ff000, 0, 0x7c00}, {0xc77ff000, 0, 0xfc00},
        {0x33000000, 0, 0x0000}, {0x33000001, 0, 0x0001}, {0x387fffff, 0, 0x0400},
        {0x7f800000, 0, 0x7c00}, {0x80000000, 0, 0x8000},
    };
    rig_op_on("cvt.rn.f16.f32 %hx, %fa;", 'h', half_of, known, sizeof(known) / sizeof(known[0]));
}

/* The approximations: within the bounds the ISA gives (2^-22 relative for ex2, rcp, rsqrt, lg2 near
 * 1 absolute). */
static void close_to(const char *text, double (*exact)(double), double relative, double absolute)
{
    struct rig r;
    uint64_t at;
    char module[512];
    float x[256], got[256];
    rig_open(&r, 1);
    snprintf(module, sizeof(module),
             ".visible .entry k(.param .u64 p) { .reg .b64 %%p, %%l; .reg .b32 %%t; .reg .f32 "
             "%%fa, %%fx;\n"
             "ld.param.u64 %%p, [p]; mov.u32 %%t, %%tid.x; mul.wide.u32 %%l, %%t, 4; add.u64 %%p, "
             "%%p, %%l;\n"
             "ld.global.f32 %%fa, [%%p]; %s st.global.f32 [%%p], %%fx; ret; }",
             text);
    rig_load(&r, module, CUDA_SUCCESS);
    for (unsigned i = 0; i < 256; i++)
        x[i] = 0.01f + (float)i * 0.0123f;
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(x), &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_htod(r.b, at, x, sizeof(x)), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 256, 0, 1, &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, at, sizeof(x)), CUDA_SUCCESS);
    for (unsigned i = 0; i < 256; i++) {
        double want = exact((double)x[i]), error = fabs((double)got[i] - want);
        assert_true(error <= absolute + relative * fabs(want));
    }
    rig_close(&r);
}
static double exact_rsqrt(double x)
{
    return 1 / sqrt(x);
}

static void test_approx(void **state)
{
    (void)state;
    close_to("sin.approx.f32 %fx, %fa;", sin, 0, 0x1p-20);
    close_to("cos.approx.ftz.f32 %fx, %fa;", cos, 0, 0x1p-20);
    close_to("lg2.approx.f32 %fx, %fa;", log2, 0x1p-22, 0x1p-22);
    close_to("ex2.approx.ftz.f32 %fx, %fa;", exp2, 0x1p-22, 0);
    close_to("rsqrt.approx.f32 %fx, %fa;", exact_rsqrt, 0x1p-22, 0);
    close_to("tanh.approx.f32 %fx, %fa;", tanh, 0x1p-11, 0);
}

REF(slct_u32, f32_of(c) >= 0 ? (uint32_t)a : (uint32_t)b)
REF(slct_ftz_u32, fabsf(f32_of(c)) < 0x1p-126f || f32_of(c) >= 0 ? (uint32_t)a : (uint32_t)b)

/* PTX ISA, "slct": .ftz flushes a subnormal c to sign-preserving zero, and -0 is zero: it selects
 * a. */
static void test_slct(void **state)
{
    (void)state;
    static const uint64_t abc[][3] = {{1, 2, 0},          {1, 2, 0x80000000}, {1, 2, 1},
                                      {1, 2, 0x80000001}, {1, 2, 0x807fffff}, {1, 2, 0x80800000},
                                      {1, 2, 0x00800000}, {1, 2, 0x3f800000}, {1, 2, 0xbf800000},
                                      {1, 2, 0x7f800000}, {1, 2, 0xff800000}, {1, 2, 0x7fc00000},
                                      {1, 2, 0xffc00000}};
    size_t n = sizeof(abc) / sizeof(abc[0]);
    rig_op_on("slct.u32.f32 %rx, %ra, %rb, %fc;", 'r', slct_u32, abc, n);
    rig_op_on("slct.ftz.u32.f32 %rx, %ra, %rb, %fc;", 'r', slct_ftz_u32, abc, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_f32),      VGPU_TEST(test_min_max), VGPU_TEST(test_f64),
        VGPU_TEST(test_directed), VGPU_TEST(test_compare), VGPU_TEST(test_slct),
        VGPU_TEST(test_cvt),      VGPU_TEST(test_half),    VGPU_TEST(test_approx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
