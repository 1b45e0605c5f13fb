/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PTX ISA, rounding modifiers .rn .rz .rm .rp of add, sub, mul, fma, div, rcp and sqrt, with .ftz
 * and .sat, in both precisions, and of cvt from integers; and the bounds of the .approx forms.
 *
 * The expectation never changes the host's rounding mode: it takes the nearest result and the exact
 * sign of what that lacks (an error-free sum, or a residual computed with one rounding, whose sign
 * is therefore right), and steps to the neighbour where the direction says so.
 */
#include "ptx_rig.h"

#include <math.h>
#include <stdio.h>

enum mode { RN, RZ, RM, RP, MODES };
static const char *const mode_names[] = {"rn", "rz", "rm", "rp"};

/* The nearest number is r and the exact value lies `lack` beyond it, of which the sign counts. */
static double step64(double r, double lack, enum mode mode)
{
    if (isinf(r)) /* overflow: the exact value is finite and nearer to zero */
        lack = r > 0 ? -1 : 1;
    bool down = mode == RM || (mode == RZ && (r > 0 || (r == 0 && lack > 0)));
    if (mode != RN && down && lack < 0)
        return nextafter(r, -INFINITY);
    if (mode != RN && !down && lack > 0)
        return nextafter(r, INFINITY);
    return r;
}
/* hi + lo is exact: to single precision. */
static float step32(double hi, double lo, enum mode mode)
{
    float r = (float)hi;
    double left = hi - (double)r; /* exact, or infinite with the right sign */
    double lack = left != 0 ? left : lo;
    bool down = mode == RM || (mode == RZ && (hi > 0 || (hi == 0 && lo > 0)));
    if (mode != RN && down && lack < 0)
        return nextafterf(r, -INFINITY);
    if (mode != RN && !down && lack > 0)
        return nextafterf(r, INFINITY);
    if (mode == RN && left != 0 && lo != 0) {
        /* hi may be a tie between two singles that lo breaks */
        float other = nextafterf(r, left > 0 ? INFINITY : -INFINITY);
        if (fabs((double)other - hi) == fabs(left) && (left > 0) == (lo > 0))
            return other;
    }
    return r;
}

static double sum_error(double x, double y, double s)
{
    double t = s - x;
    return (x - (s - t)) + (y - t);
}

static float flush(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}
static float finish(float x, bool ftz, bool sat)
{
    x = ftz ? flush(x) : x;
    return sat ? (x > 0 ? (x < 1 ? x : 1) : 0) : x;
}

enum op { ADD, SUB, MUL, FMA, DIV, RCP, SQRT, OPS };
static const struct {
    const char *name, *f32, *f64;
} ops[OPS] = {
    {"add", "%fx, %fa, %fb", "%dx, %da, %db"}, {"sub", "%fx, %fa, %fb", "%dx, %da, %db"},
    {"mul", "%fx, %fa, %fb", "%dx, %da, %db"}, {"fma", "%fx, %fa, %fb, %fc", "%dx, %da, %db, %dc"},
    {"div", "%fx, %fa, %fb", "%dx, %da, %db"}, {"rcp", "%fx, %fa", "%dx, %da"},
    {"sqrt", "%fx, %fa", "%dx, %da"},
};

/* What the reference functions, which take operands only, are asked about. */
static struct {
    enum op op;
    enum mode mode;
    bool ftz, sat;
} now;

static uint64_t ref64(uint64_t ba, uint64_t bb, uint64_t bc)
{
    double a = f64_of(ba), b = f64_of(bb), c = f64_of(bc), r, lack, p;
    switch (now.op) {
    case ADD:
    case SUB:
        b = now.op == SUB ? -b : b;
        r = a + b;
        lack = sum_error(a, b, r);
        if (r == 0 && lack == 0)
            return bits64_of(now.mode == RM ? -0.0 : 0.0); /* operands are not zero */
        break;
    case MUL:
        r = a * b;
        lack = fma(a, b, -r);
        break;
    case FMA: /* a product that is exact: b has 20 bits, a 30 */
        p = a * b;
        r = p + c;
        lack = sum_error(p, c, r);
        if (r == 0 && lack == 0)
            return bits64_of(now.mode == RM ? -0.0 : 0.0);
        break;
    case DIV:
    case RCP:
        b = now.op == RCP ? a : b;
        a = now.op == RCP ? 1 : a;
        r = a / b;
        lack = fma(-r, b, a) * (b > 0 ? 1 : -1);
        break;
    default:
        r = sqrt(a);
        lack = fma(-r, r, a);
    }
    return bits64_of(step64(r, lack, now.mode));
}

static uint64_t ref32(uint64_t ba, uint64_t bb, uint64_t bc)
{
    float fa = f32_of(ba), fb = f32_of(bb), fc = f32_of(bc), r;
    if (now.ftz) {
        fa = flush(fa);
        fb = flush(fb);
        fc = flush(fc);
    }
    double a = (double)fa, b = (double)fb, c = (double)fc, hi, lack;
    switch (now.op) {
    case ADD:
    case SUB:
        b = now.op == SUB ? -b : b;
        hi = a + b;
        lack = sum_error(a, b, hi);
        break;
    case MUL:
        hi = a * b; /* exact */
        lack = 0;
        break;
    case FMA:
        b *= a;
        hi = b + c;
        lack = sum_error(b, c, hi);
        break;
    case DIV:
    case RCP:
        b = now.op == RCP ? a : b;
        a = now.op == RCP ? 1 : a;
        hi = a / b;
        lack = fma(-hi, b, a) * (b > 0 ? 1 : -1);
        break;
    default:
        hi = sqrt(a);
        lack = fma(-hi, hi, a);
    }
    if (now.op <= FMA && hi == 0 && lack == 0) {
        bool product = now.op == MUL;
        bool both = now.op == FMA ? signbit(b) && signbit(c) : signbit(a) && signbit(b);
        bool none = now.op == FMA ? !signbit(b) && !signbit(c) : !signbit(a) && !signbit(b);
        r = product ? (float)hi : both ? -0.0f : none ? 0.0f : now.mode == RM ? -0.0f : 0.0f;
    } else {
        r = step32(hi, lack, now.mode);
    }
    return bits_of(finish(r, now.ftz, now.sat));
}

#define COUNT 2048u
static uint64_t v[COUNT][3];

static uint64_t next(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15ull;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

/* Finite operands, no zeros: magnitudes that meet, few bits so that results are sometimes exact or
 * ties, and for .f32 also subnormals and what overflows. */
static void make_f64(void)
{
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned k = 0; k < 3; k++) {
            uint64_t x = (next() & 0x803fffffffffffffull) | 0x3fc0000000000000ull;
            if (now.op == FMA && k < 2)
                x &= k ? ~0xffffffffull : ~0x3fffffull;
            else if (i % 3 == 0)
                x &= ~0ull << 30;
            if (i % 16 == 0 && now.op <= SUB) /* close to the largest */
                x = (x & 0x800fffffffffffffull) | 0x7fe0000000000000ull;
            if (now.op == SQRT)
                x &= ~(1ull << 63);
            v[i][k] = x;
        }
}
static void make_f32(void)
{
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned k = 0; k < 3; k++) {
            uint32_t x = ((uint32_t)next() & 0x83ffffff) | 0x3c000000;
            if (i % 3 == 0)
                x &= ~0xfffu;
            if (i % 8 == 1) /* subnormal, or a result that is */
                x = (x & 0x807fffff) | (k && now.op != ADD && now.op != SUB ? 0x3f000000 : 1);
            if (i % 8 == 2) /* overflow */
                x = (x & 0x807fffff) | 0x7f000000;
            if (now.op == SQRT)
                x &= 0x7fffffff;
            v[i][k] = x;
        }
}

static void run(const char *modifiers, bool f64, rig_ref ref)
{
    char text[128];
    snprintf(text, sizeof(text), "%s.%s%s.%s %s;", ops[now.op].name, mode_names[now.mode],
             modifiers, f64 ? "f64" : "f32", f64 ? ops[now.op].f64 : ops[now.op].f32);
    rig_op_on(text, f64 ? 'd' : 'f', ref, (const uint64_t(*)[3])v, COUNT);
}

static void test_f64(void **state)
{
    (void)state;
    for (unsigned op = 0; op < OPS; op++)
        for (unsigned mode = 0; mode < MODES; mode++) {
            now.op = (enum op)op;
            now.mode = (enum mode)mode;
            now.ftz = now.sat = false;
            make_f64();
            run("", true, ref64);
        }
}

static void test_f32(void **state)
{
    (void)state;
    static const char *const modifiers[] = {"", ".ftz", ".sat", ".ftz.sat"};
    for (unsigned op = 0; op < OPS; op++)
        for (unsigned mode = 0; mode < MODES; mode++)
            for (unsigned m = 0; m < (op <= FMA ? 4u : 2u); m++) {
                now.op = (enum op)op;
                now.mode = (enum mode)mode;
                now.ftz = m & 1;
                now.sat = m & 2;
                make_f32();
                run(modifiers[m], false, ref32);
            }
}

#define REF(name, expr)                                                                            \
    static uint64_t name(uint64_t ba, uint64_t bb, uint64_t bc)                                    \
    {                                                                                              \
        double a = f64_of(ba), b = f64_of(bb);                                                     \
        (void)bc, (void)a, (void)b;                                                                \
        return bits64_of(expr);                                                                    \
    }
REF(min_f64, a < b ? a : b)
REF(max_f64, a > b ? a : b)
REF(copysign_f64, copysign(b, a))

/* min and max: "if exactly one is NaN, the result is the other" */
static void test_min_max_f64(void **state)
{
    (void)state;
    now.op = ADD;
    make_f64();
    rig_op_on("min.f64 %dx, %da, %db;", 'd', min_f64, (const uint64_t(*)[3])v, COUNT);
    rig_op_on("max.f64 %dx, %da, %db;", 'd', max_f64, (const uint64_t(*)[3])v, COUNT);
    rig_op_on("copysign.f64 %dx, %da, %db;", 'd', copysign_f64, (const uint64_t(*)[3])v, COUNT);
    static const struct {
        const char *text;
        uint64_t abc[3], want;
    } cases[] = {
        {"min.f64 %dx, %da, %db;", {0x7ff8000000000000, 0x3ff0000000000000, 0}, 0x3ff0000000000000},
        {"max.f64 %dx, %da, %db;", {0x3ff0000000000000, 0x7ff8000000000000, 0}, 0x3ff0000000000000},
        {"min.f64 %dx, %da, %db;", {0, 0x8000000000000000, 0}, 0x8000000000000000},
        {"max.f64 %dx, %da, %db;", {0x8000000000000000, 0, 0}, 0},
    };
    struct rig r;
    rig_open(&r, 1);
    for (unsigned i = 0; i < 4; i++) {
        char module[512];
        uint64_t at, got;
        snprintf(module, sizeof(module),
                 ".visible .entry k(.param .u64 p, .param .f64 a, .param .f64 b) { .reg .b64 %%p; "
                 ".reg .f64 %%da, %%db, %%dx; ld.param.u64 %%p, [p]; ld.param.f64 %%da, [a]; "
                 "ld.param.f64 %%db, [b]; %s st.global.f64 [%%p], %%dx; ret; }",
                 cases[i].text);
        rig_load(&r, module, CUDA_SUCCESS);
        assert_int_equal(r.o->mem_alloc(r.b, 8, &at), CUDA_SUCCESS);
        uint64_t params[] = {at, cases[i].abc[0], cases[i].abc[1]};
        assert_int_equal(rig_launch(&r, "k", 1, 1, 0, 3, params), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, &got, at, 8), CUDA_SUCCESS);
        assert_int_equal(got, cases[i].want);
        rig_unload(&r);
    }
    rig_close(&r);
}

/*
 * The .approx forms within the ISA's bounds: the text works on %fa and %fb (or %da) and the result
 * is compared with the exact value in double.
 */
static void bounded(const char *text, bool f64, double (*exact)(double, double), double relative,
                    double absolute)
{
    struct rig r;
    uint64_t at;
    static double in[COUNT][2], out[COUNT];
    char module[1024];
    rig_open(&r, 1);
    snprintf(
        module, sizeof(module),
        ".visible .entry k(.param .u64 in, .param .u64 out) { .reg .b64 %%in, %%out, %%o; .reg "
        ".b32 %%i, %%j; .reg .f32 %%fa, %%fb, %%fx; .reg .f64 %%da, %%db, %%dx;\n"
        "ld.param.u64 %%in, [in]; ld.param.u64 %%out, [out]; mov.u32 %%i, %%ctaid.x; mov.u32 "
        "%%j, %%tid.x; mad.lo.u32 %%i, %%i, 256, %%j;\n"
        "mul.wide.u32 %%o, %%i, 16; add.u64 %%in, %%in, %%o; mul.wide.u32 %%o, %%i, 8; add.u64 "
        "%%out, %%out, %%o;\n"
        "ld.global.f64 %%da, [%%in]; ld.global.f64 %%db, [%%in+8]; cvt.rn.f32.f64 %%fa, %%da; "
        "cvt.rn.f32.f64 %%fb, %%db;\n%s\n%s st.global.f64 [%%out], %%dx; ret; }",
        text, f64 ? "" : "cvt.f64.f32 %dx, %fx;");
    rig_load(&r, module, CUDA_SUCCESS);
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned k = 0; k < 2; k++) /* singles, so that the conversion above is exact */
            in[i][k] = (double)f32_of(((uint32_t)next() & 0x03ffffff) | 0x3e000000);
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(in) + sizeof(out), &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_htod(r.b, at, in, sizeof(in)), CUDA_SUCCESS);
    uint64_t params[] = {at, at + sizeof(in)};
    assert_int_equal(rig_launch(&r, "k", COUNT / 256, 256, 0, 2, params), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, out, at + sizeof(in), sizeof(out)), CUDA_SUCCESS);
    for (unsigned i = 0; i < COUNT; i++) {
        double want = exact(in[i][0], in[i][1]);
        if (!(fabs(out[i] - want) <= relative * fabs(want) + absolute))
            print_error("%s: %a %a gives %a, want %a\n", text, in[i][0], in[i][1], out[i], want);
        assert_true(fabs(out[i] - want) <= relative * fabs(want) + absolute);
    }
    rig_close(&r);
}
static double quotient(double a, double b)
{
    return a / b;
}
static double reciprocal(double a, double b)
{
    (void)b;
    return 1 / a;
}
static double root(double a, double b)
{
    (void)b;
    return sqrt(a);
}
static double reciprocal_root(double a, double b)
{
    (void)b;
    return 1 / sqrt(a);
}
static double power(double a, double b)
{
    (void)b;
    return exp2(a);
}
static double logarithm(double a, double b)
{
    (void)b;
    return log2(a);
}

static void test_approx(void **state)
{
    (void)state;
    bounded("div.approx.f32 %fx, %fa, %fb;", false, quotient, 0x1p-22, 0); /* 2 ulp */
    bounded("div.approx.ftz.f32 %fx, %fa, %fb;", false, quotient, 0x1p-22, 0);
    bounded("div.full.f32 %fx, %fa, %fb;", false, quotient, 0x1p-22, 0); /* 2 ulp */
    bounded("rcp.approx.f32 %fx, %fa;", false, reciprocal, 0x1p-23, 0);  /* 1 ulp */
    bounded("rcp.approx.ftz.f32 %fx, %fa;", false, reciprocal, 0x1p-23, 0);
    bounded("sqrt.approx.f32 %fx, %fa;", false, root, 0x1p-23, 0);
    bounded("sqrt.approx.ftz.f32 %fx, %fa;", false, root, 0x1p-23, 0);
    bounded("rsqrt.approx.f32 %fx, %fa;", false, reciprocal_root, 0x1p-22, 0); /* 2^-22.9 */
    bounded("rsqrt.approx.ftz.f32 %fx, %fa;", false, reciprocal_root, 0x1p-22, 0);
    bounded("ex2.approx.f32 %fx, %fa;", false, power, 0x1p-22, 0); /* 2^-22.5 */
    bounded("lg2.approx.f32 %fx, %fa;", false, logarithm, 0x1p-22, 0x1p-22);
    bounded("rcp.approx.ftz.f64 %dx, %da;", true, reciprocal, 0x1p-20, 0); /* 20 bits */
    bounded("rsqrt.approx.f64 %dx, %da;", true, reciprocal_root, 0x1p-20, 0);
    bounded("rsqrt.approx.ftz.f64 %dx, %da;", true, reciprocal_root, 0x1p-20, 0);
}

/* An integer, of which the magnitude is given, as a float of `fraction` bits, with integers only.
 */
static uint64_t from_integer(bool negative, uint64_t m, unsigned fraction, unsigned bias)
{
    uint64_t sign = (uint64_t)negative << (fraction == 52 ? 63 : 31);
    if (m == 0)
        return 0; /* +0 in every rounding: nothing was rounded */
    unsigned top = 63 - (unsigned)__builtin_clzll(m);
    if (top > fraction) {
        unsigned drop = top - fraction;
        uint64_t left = m & (((uint64_t)1 << drop) - 1), half = (uint64_t)1 << (drop - 1);
        m >>= drop;
        bool up = now.mode == RN   ? left > half || (left == half && (m & 1))
                  : now.mode == RM ? negative && left != 0
                  : now.mode == RP ? !negative && left != 0
                                   : false;
        m += up;
        if (m >> (fraction + 1)) {
            m >>= 1;
            top++;
        }
    } else {
        m <<= fraction - top;
    }
    return sign | (uint64_t)(top + bias) << fraction | (m & (((uint64_t)1 << fraction) - 1));
}
static unsigned fraction; /* 23 or 52 */
static uint64_t from_unsigned(uint64_t m)
{
    return from_integer(false, m, fraction, fraction == 52 ? 1023 : 127);
}
static uint64_t from_signed(int64_t x)
{
    uint64_t m = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    return from_integer(x < 0, m, fraction, fraction == 52 ? 1023 : 127);
}
#define FROM(name, expr)                                                                           \
    static uint64_t name(uint64_t a, uint64_t b, uint64_t c)                                       \
    {                                                                                              \
        (void)b, (void)c;                                                                          \
        return expr;                                                                               \
    }
FROM(from_u16, from_unsigned((uint16_t)a))
FROM(from_s16, from_signed((int16_t)a))
FROM(from_u32, from_unsigned((uint32_t)a))
FROM(from_s32, from_signed((int32_t)a))
FROM(from_u64, from_unsigned(a))
FROM(from_s64, from_signed((int64_t)a))

/* cvt from integers: rounded once, and zero is +0, also towards minus infinity */
static void test_from_integers(void **state)
{
    (void)state;
    static const struct {
        const char *type, *source;
        rig_ref ref;
    } from[] = {{"u16", "%ha", from_u16}, {"s16", "%ha", from_s16}, {"u32", "%ra", from_u32},
                {"s32", "%ra", from_s32}, {"u64", "%la", from_u64}, {"s64", "%la", from_s64}};
    for (unsigned i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        for (unsigned mode = 0; mode < MODES; mode++)
            for (unsigned wide = 0; wide < 2; wide++) {
                char text[64];
                now.mode = (enum mode)mode;
                fraction = wide ? 52 : 23;
                snprintf(text, sizeof(text), "cvt.%s.%s.%s %s, %s;", mode_names[mode],
                         wide ? "f64" : "f32", from[i].type, wide ? "%dx" : "%fx", from[i].source);
                rig_op(text, wide ? 'd' : 'f', from[i].ref);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_f64), VGPU_TEST(test_f32),
                                       VGPU_TEST(test_from_integers), VGPU_TEST(test_min_max_f64),
                                       VGPU_TEST(test_approx)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
