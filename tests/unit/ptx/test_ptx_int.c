/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PTX ISA, "Integer Arithmetic", "Logic and Shift", "Extended-Precision" and bit instructions, one
 * by one. */
#include "ptx_rig.h"

typedef int8_t s8;
typedef uint16_t u16;
typedef int16_t s16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;
typedef unsigned __int128 u128;
typedef __int128 s128;

#define REF(name, expr)                                                                            \
    static uint64_t name(uint64_t a, uint64_t b, uint64_t c)                                       \
    {                                                                                              \
        (void)a;                                                                                   \
        (void)b;                                                                                   \
        (void)c;                                                                                   \
        return (expr);                                                                             \
    }

REF(add16, (u16)(a + b))
REF(add32, (u32)(a + b))
REF(add64, a + b)
REF(sub32, (u32)(a - b))
REF(sub64, a - b)
REF(addsat, (u32)((s64)(s32)a + (s32)b > INT32_MAX   ? INT32_MAX
                  : (s64)(s32)a + (s32)b < INT32_MIN ? INT32_MIN
                                                     : (s32)a + (s64)(s32)b))

/* add, sub: "d = a +- b", .sat clamps .s32 */
static void test_add_sub(void **state)
{
    (void)state;
    rig_op("add.u16 %hx, %ha, %hb;", 'h', add16);
    rig_op("add.s32 %rx, %ra, %rb;", 'r', add32);
    rig_op("add.u64 %lx, %la, %lb;", 'l', add64);
    rig_op("sub.u32 %rx, %ra, %rb;", 'r', sub32);
    rig_op("sub.s64 %lx, %la, %lb;", 'l', sub64);
    rig_op("add.sat.s32 %rx, %ra, %rb;", 'r', addsat);
}

REF(mullo32, (u32)(a *b))
REF(mullo64, a *b)
REF(mullo16, (u16)(a *b))
REF(mulhiu32, (u64)(u32)a *(u32)b >> 32)
REF(mulhis32, (u32)((s64)(s32)a *(s32)b >> 32))
REF(mulhiu64, (u64)((u128)a *b >> 64))
REF(mulhis64, (u64)((s128)(s64)a *(s64)b >> 64))
REF(mulhiu16, (u16)((u32)(u16)a *(u16)b >> 16))
REF(mulhis16, (u16)((s32)(s16)a *(s16)b >> 16))
REF(wideu16, (u32)(u16)a *(u16)b)
REF(wides16, (u32)((s32)(s16)a *(s16)b))
REF(wideu32, (u64)(u32)a *(u32)b)
REF(wides32, (u64)((s64)(s32)a *(s32)b))
REF(madlo32, (u32)(a *b + c))
REF(madlo64, a *b + c)
REF(madhi32, (u32)(((s64)(s32)a * (s32)b >> 32) + c))
REF(madwide, (u64)((s64)(s32)a *(s32)b) + c)
REF(mul24u, (u32)((a & 0xffffff) * (b & 0xffffff)))
REF(mul24s, (u32)((((s64)(a << 40) >> 40) * ((s64)(b << 40) >> 40)) >> 16))
REF(sad32, (u32)(c + (u64)((s32)a < (s32)b ? (s64)(s32)b - (s32)a : (s64)(s32)a - (s32)b)))

/* mul, mad: .lo the low half, .hi the high half, .wide the whole product */
static void test_mul_mad(void **state)
{
    (void)state;
    rig_op("mul.lo.s32 %rx, %ra, %rb;", 'r', mullo32);
    rig_op("mul.lo.u64 %lx, %la, %lb;", 'l', mullo64);
    rig_op("mul.lo.s16 %hx, %ha, %hb;", 'h', mullo16);
    rig_op("mul.hi.u32 %rx, %ra, %rb;", 'r', mulhiu32);
    rig_op("mul.hi.s32 %rx, %ra, %rb;", 'r', mulhis32);
    rig_op("mul.hi.u64 %lx, %la, %lb;", 'l', mulhiu64);
    rig_op("mul.hi.s64 %lx, %la, %lb;", 'l', mulhis64);
    rig_op("mul.hi.u16 %hx, %ha, %hb;", 'h', mulhiu16);
    rig_op("mul.hi.s16 %hx, %ha, %hb;", 'h', mulhis16);
    rig_op("mul.wide.u16 %rx, %ha, %hb;", 'r', wideu16);
    rig_op("mul.wide.s16 %rx, %ha, %hb;", 'r', wides16);
    rig_op("mul.wide.u32 %lx, %ra, %rb;", 'l', wideu32);
    rig_op("mul.wide.s32 %lx, %ra, %rb;", 'l', wides32);
    rig_op("mad.lo.s32 %rx, %ra, %rb, %rc;", 'r', madlo32);
    rig_op("mad.lo.u64 %lx, %la, %lb, %lc;", 'l', madlo64);
    rig_op("mad.hi.s32 %rx, %ra, %rb, %rc;", 'r', madhi32);
    rig_op("mad.wide.s32 %lx, %ra, %rb, %lc;", 'l', madwide);
    rig_op("mul24.lo.u32 %rx, %ra, %rb;", 'r', mul24u);
    rig_op("mul24.hi.s32 %rx, %ra, %rb;", 'r', mul24s);
    rig_op("sad.s32 %rx, %ra, %rb, %rc;", 'r', sad32);
}

REF(divu32, (u32)b ? (u32)a / (u32)b : UINT32_MAX)
REF(divs32, (s32)b == 0 ? UINT32_MAX : (s32)b == -1 ? (u32)(0 - (u32)a) : (u32)((s32)a / (s32)b))
REF(divu64, b ? a / b : UINT64_MAX)
REF(divs64, b == 0 ? UINT64_MAX : b == UINT64_MAX ? 0 - a : (u64)((s64)a / (s64)b))
REF(divu16, (u16)b ? (u16)a / (u16)b : 0xffff)
REF(divs16, (u16)((s16)b ? (s16)a / (s16)b : -1))
REF(remu32, (u32)b ? (u32)a % (u32)b : ~0u)
REF(rems32, (s32)b == 0 ? ~0u : (s32)b == -1 ? 0 : (u32)((s32)a % (s32)b))
REF(rems64, b == 0 ? UINT64_MAX : b == UINT64_MAX ? 0 : (u64)((s64)a % (s64)b))

/* div, rem: truncation toward zero; by zero "yields an unspecified, machine-specific value", here
 * all ones for both, as an H100 gives */
static void test_div_rem(void **state)
{
    (void)state;
    rig_op("div.u32 %rx, %ra, %rb;", 'r', divu32);
    rig_op("div.s32 %rx, %ra, %rb;", 'r', divs32);
    rig_op("div.u64 %lx, %la, %lb;", 'l', divu64);
    rig_op("div.s64 %lx, %la, %lb;", 'l', divs64);
    rig_op("div.u16 %hx, %ha, %hb;", 'h', divu16);
    rig_op("div.s16 %hx, %ha, %hb;", 'h', divs16);
    rig_op("rem.u32 %rx, %ra, %rb;", 'r', remu32);
    rig_op("rem.s32 %rx, %ra, %rb;", 'r', rems32);
    rig_op("rem.s64 %lx, %la, %lb;", 'l', rems64);
}

REF(mins32, (u32)((s32)a < (s32)b ? a : b))
REF(minu32, (u32)a < (u32)b ? (u32)a : (u32)b)
REF(maxs64, (s64)a > (s64)b ? a : b)
REF(maxu16, (u16)a > (u16)b ? (u16)a : (u16)b)
REF(mins16, (u16)((s16)a < (s16)b ? a : b))
REF(abs32, (u32)((s32)a < 0 ? 0 - a : a))
REF(abs64, (s64)a < 0 ? 0 - a : a)
REF(abs16, (u16)((s16)a < 0 ? 0 - a : a))
REF(neg32, (u32)(0 - a))
REF(neg64, 0 - a)

static void test_min_max_abs_neg(void **state)
{
    (void)state;
    rig_op("min.s32 %rx, %ra, %rb;", 'r', mins32);
    rig_op("min.u32 %rx, %ra, %rb;", 'r', minu32);
    rig_op("max.s64 %lx, %la, %lb;", 'l', maxs64);
    rig_op("max.u16 %hx, %ha, %hb;", 'h', maxu16);
    rig_op("min.s16 %hx, %ha, %hb;", 'h', mins16);
    rig_op("abs.s32 %rx, %ra;", 'r', abs32);
    rig_op("abs.s64 %lx, %la;", 'l', abs64);
    rig_op("abs.s16 %hx, %ha;", 'h', abs16);
    rig_op("neg.s32 %rx, %ra;", 'r', neg32);
    rig_op("neg.s64 %lx, %la;", 'l', neg64);
}

REF(and32, (u32)(a &b))
REF(or64, a | b)
REF(xor16, (u16)(a ^ b))
REF(not32, (u32)~a)
REF(cnot64, a == 0)
REF(shl32, (u32)b > 31 ? 0 : (u32)(a << (u32)b))
REF(shl64, (u32)b > 63 ? 0 : a << (u32)b)
REF(shl16, (u32)b > 15 ? 0 : (u16)(a << (u32)b))
REF(shru32, (u32)b > 31 ? 0 : (u32)a >> (u32)b)
REF(shrs32, (u32)((s32)a >> ((u32)b > 31 ? 31 : (u32)b)))
REF(shrs64, (u64)((s64)a >> ((u32)b > 63 ? 63 : (u32)b)))
REF(shrs16, (u16)((s16)a >> ((u32)b > 15 ? 15 : (u32)b)))
REF(shru16, (u32)b > 15 ? 0 : (u16)a >> (u32)b)

/* and, or, xor, not, cnot; shl, shr: "shift amounts greater than the register width N are clamped
 * to N" */
static void test_logic_shift(void **state)
{
    (void)state;
    rig_op("and.b32 %rx, %ra, %rb;", 'r', and32);
    rig_op("or.b64 %lx, %la, %lb;", 'l', or64);
    rig_op("xor.b16 %hx, %ha, %hb;", 'h', xor16);
    rig_op("not.b32 %rx, %ra;", 'r', not32);
    rig_op("cnot.b64 %lx, %la;", 'l', cnot64);
    rig_op("shl.b32 %rx, %ra, %rb;", 'r', shl32);
    rig_op("shl.b64 %lx, %la, %rb;", 'l', shl64);
    rig_op("shl.b16 %hx, %ha, %rb;", 'h', shl16);
    rig_op("shr.u32 %rx, %ra, %rb;", 'r', shru32);
    rig_op("shr.s32 %rx, %ra, %rb;", 'r', shrs32);
    rig_op("shr.s64 %lx, %la, %rb;", 'l', shrs64);
    rig_op("shr.s16 %hx, %ha, %rb;", 'h', shrs16);
    rig_op("shr.u16 %hx, %ha, %rb;", 'h', shru16);
}

REF(shfl_wrap, (u32)(((b << 32 | (u32)a) << (c & 31)) >> 32))
REF(shfr_clamp, (u32)((b << 32 | (u32)a) >> ((u32)c > 32 ? 32 : (u32)c)))
static uint64_t bfe_bit_by_bit(uint64_t a, uint64_t b, uint64_t c, unsigned msb, bool is_signed)
{
    unsigned pos = b & 0xff, len = c & 0xff;
    unsigned sign_at = pos + len - 1 < msb ? pos + len - 1 : msb;
    uint64_t sign = !is_signed || len == 0 ? 0 : a >> sign_at & 1, d = 0;
    for (unsigned i = 0; i <= msb; i++)
        d |= (i < len && pos + i <= msb ? a >> (pos + i) & 1 : sign) << i;
    return d;
}
REF(bfeu32, bfe_bit_by_bit((u32)a, b, c, 31, false))
REF(bfes32, bfe_bit_by_bit((u32)a, b, c, 31, true))
REF(bfeu64, bfe_bit_by_bit(a, b, c, 63, false))
REF(bfes64, bfe_bit_by_bit(a, b, c, 63, true))
static uint64_t bfi_bit_by_bit(uint64_t a, uint64_t b, uint64_t c, unsigned msb)
{
    unsigned pos = c & 0xff, len = c >> 8 & 0xff;
    for (unsigned i = 0; i < len && pos + i <= msb; i++)
        b = (b & ~(1ull << (pos + i))) | (a >> i & 1) << (pos + i);
    return b;
}
REF(bfi32, bfi_bit_by_bit((u32)a, (u32)b, c, 31))
REF(bfi64, bfi_bit_by_bit(a, b, c, 63))
static uint64_t bfind_slow(uint64_t a, int msb)
{
    for (int i = msb; i >= 0; i--)
        if (a >> i & 1)
            return (u64)i;
    return UINT32_MAX;
}
REF(bfindu32, bfind_slow((u32)a, 31))
REF(bfinds32, bfind_slow((u32)((s32)a < 0 ? ~a : a), 31))
REF(bfindamt, (u32)a ? 31 - bfind_slow((u32)a, 31) : UINT32_MAX)
REF(bfinds64, bfind_slow((s64)a < 0 ? ~a : a, 63))
REF(popc64, (u64)__builtin_popcountll(a))
REF(clz32, (u32)a ? 31 - bfind_slow((u32)a, 31) : 32)
REF(clz64, a ? 63 - bfind_slow(a, 63) : 64)
static uint64_t brev_slow(uint64_t a, int bits)
{
    uint64_t r = 0;
    for (int i = 0; i < bits; i++)
        r |= (a >> i & 1) << (bits - 1 - i);
    return r;
}
REF(brev32, brev_slow(a, 32))
REF(brev64, brev_slow(a, 64))

/* shf, bfe, bfi, bfind, popc, clz, brev: the loops of the ISA's own pseudo-code */
static void test_bits(void **state)
{
    (void)state;
    rig_op("shf.l.wrap.b32 %rx, %ra, %rb, %rc;", 'r', shfl_wrap);
    rig_op("shf.r.clamp.b32 %rx, %ra, %rb, %rc;", 'r', shfr_clamp);
    rig_op("bfe.u32 %rx, %ra, %rb, %rc;", 'r', bfeu32);
    rig_op("bfe.s32 %rx, %ra, %rb, %rc;", 'r', bfes32);
    rig_op("bfe.u64 %lx, %la, %rb, %rc;", 'l', bfeu64);
    rig_op("bfe.s64 %lx, %la, %rb, %rc;", 'l', bfes64);
    rig_op("shr.u32 %ry, %rc, 8; bfi.b32 %rx, %ra, %rb, %rc, %ry;", 'r', bfi32);
    rig_op("shr.u32 %ry, %rc, 8; bfi.b64 %lx, %la, %lb, %rc, %ry;", 'l', bfi64);
    rig_op("bfind.u32 %rx, %ra;", 'r', bfindu32);
    rig_op("bfind.s32 %rx, %ra;", 'r', bfinds32);
    rig_op("bfind.shiftamt.u32 %rx, %ra;", 'r', bfindamt);
    rig_op("bfind.s64 %rx, %la;", 'r', bfinds64);
    rig_op("popc.b64 %rx, %la;", 'r', popc64);
    rig_op("clz.b32 %rx, %ra;", 'r', clz32);
    rig_op("clz.b64 %rx, %la;", 'r', clz64);
    rig_op("brev.b32 %rx, %ra;", 'r', brev32);
    rig_op("brev.b64 %lx, %la;", 'l', brev64);
}

static uint64_t prmt_slow(uint64_t a, uint64_t b, uint64_t c)
{
    u32 r = 0;
    for (int k = 0; k < 4; k++) {
        unsigned s = c >> 4 * k & 15, from = s & 7;
        u32 byte = (from < 4 ? a >> 8 * from : b >> 8 * (from - 4)) & 0xff;
        if (s & 8)
            byte = byte & 0x80 ? 0xff : 0;
        r |= byte << 8 * k;
    }
    return r;
}
/* prmt's table: the selectors of each mode by the low two bits of c */
static uint64_t prmt_mode(uint64_t a, uint64_t b, uint64_t c, const u16 table[4])
{
    return prmt_slow(a, b, table[c & 3]);
}
static const u16 f4e[] = {0x3210, 0x4321, 0x5432, 0x6543}, b4e[] = {0x5670, 0x6701, 0x7012, 0x0123},
                 rc8[] = {0x0000, 0x1111, 0x2222, 0x3333}, ecl[] = {0x3210, 0x3211, 0x3222, 0x3333},
                 ecr[] = {0x0000, 0x1110, 0x2210, 0x3210},
                 rc16[] = {0x1010, 0x3232, 0x1010, 0x3232};
REF(prmt_f4e, prmt_mode(a, b, c, f4e))
REF(prmt_b4e, prmt_mode(a, b, c, b4e))
REF(prmt_rc8, prmt_mode(a, b, c, rc8))
REF(prmt_ecl, prmt_mode(a, b, c, ecl))
REF(prmt_ecr, prmt_mode(a, b, c, ecr))
REF(prmt_rc16, prmt_mode(a, b, c, rc16))
REF(lop_mux, (u32)((a & b) | (~a & c)))
REF(lop_xor3, (u32)(a ^ b ^ c))
static uint64_t dp4a_ss(uint64_t a, uint64_t b, uint64_t c)
{
    for (int k = 0; k < 32; k += 8)
        c += (u64)((s8)(a >> k) * (s8)(b >> k));
    return (u32)c;
}
REF(dp2a_us,
    (u32)((u32)c + (u32)((s32)(u16)a * (s8)(b >> 16)) + (u32)((s32)(u16)(a >> 16) * (s8)(b >> 24))))

static void test_prmt_lop3_dp(void **state)
{
    (void)state;
    rig_op("prmt.b32 %rx, %ra, %rb, %rc;", 'r', prmt_slow);
    rig_op("prmt.b32.f4e %rx, %ra, %rb, %rc;", 'r', prmt_f4e);
    rig_op("prmt.b32.b4e %rx, %ra, %rb, %rc;", 'r', prmt_b4e);
    rig_op("prmt.b32.rc8 %rx, %ra, %rb, %rc;", 'r', prmt_rc8);
    rig_op("prmt.b32.ecl %rx, %ra, %rb, %rc;", 'r', prmt_ecl);
    rig_op("prmt.b32.ecr %rx, %ra, %rb, %rc;", 'r', prmt_ecr);
    rig_op("prmt.b32.rc16 %rx, %ra, %rb, %rc;", 'r', prmt_rc16);
    rig_op("lop3.b32 %rx, %ra, %rb, %rc, 0xca;", 'r', lop_mux);
    rig_op("lop3.b32 %rx, %ra, %rb, %rc, 0x96;", 'r', lop_xor3);
    rig_op("dp4a.s32.s32 %rx, %ra, %rb, %rc;", 'r', dp4a_ss);
    rig_op("dp2a.hi.u32.s32 %rx, %ra, %rb, %rc;", 'r', dp2a_us);
}

REF(add96, (u64)((((u128)(u32)c << 64 | a) + ((u128)7 << 64 | b)) >> 64) & UINT32_MAX)
REF(sub96, (u64)((((u128)(u32)c << 64 | a) - ((u128)7 << 64 | b)) >> 64) & UINT32_MAX)
REF(mul_hi_by_parts, (u64)(((u128)a * b) >> 64))

/* add.cc, addc, sub.cc, subc, mad.cc, madc: carry and borrow through CC.CF, lane by lane */
static void test_carry(void **state)
{
    (void)state;
    rig_op("{ .reg .b32 %lo, %hi, %lo2, %hi2, %s; .reg .b64 %n;"
           "mov.b64 {%lo, %hi}, %la; mov.b64 {%lo2, %hi2}, %lb;"
           "add.cc.u32 %s, %lo, %lo2; addc.cc.u32 %s, %hi, %hi2; @%odd addc.u32 %rx, %rc, 7;"
           "@!%odd addc.u32 %rx, %rc, 7; }",
           'r', add96);
    rig_op("{ .reg .b32 %lo, %hi, %lo2, %hi2, %s;"
           "mov.b64 {%lo, %hi}, %la; mov.b64 {%lo2, %hi2}, %lb;"
           "sub.cc.u32 %s, %lo, %lo2; subc.cc.u32 %s, %hi, %hi2; subc.u32 %rx, %rc, 7; }",
           'r', sub96);
    rig_op(
        "{ .reg .b32 %a0, %a1, %b0, %b1, %r0, %r1, %r2, %r3;"
        "mov.b64 {%a0, %a1}, %la; mov.b64 {%b0, %b1}, %lb;"
        "mul.lo.u32 %r0, %a0, %b0; mul.hi.u32 %r1, %a0, %b0;"
        "mad.lo.cc.u32 %r1, %a0, %b1, %r1; madc.hi.u32 %r2, %a0, %b1, 0;"
        "mad.lo.cc.u32 %r1, %a1, %b0, %r1; madc.hi.cc.u32 %r2, %a1, %b0, %r2; addc.u32 %r3, 0, 0;"
        "mad.lo.cc.u32 %r2, %a1, %b1, %r2; madc.hi.u32 %r3, %a1, %b1, %r3;"
        "mov.b64 %lx, {%r2, %r3}; }",
        'l', mul_hi_by_parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_add_sub),         VGPU_TEST(test_mul_mad),     VGPU_TEST(test_div_rem),
        VGPU_TEST(test_min_max_abs_neg), VGPU_TEST(test_logic_shift), VGPU_TEST(test_bits),
        VGPU_TEST(test_prmt_lop3_dp),    VGPU_TEST(test_carry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
