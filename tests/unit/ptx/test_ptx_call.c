/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions (PTX ISA, "Kernel and Function Directives", "call", "ret", "brx.idx", "alloca"): how
 * parameters get there and back, recursion, calls through pointers, what a module must have and
 * what it may not do.
 */
#include "ptx_call_text.h"

#include <string.h>

#include "software.h"

static struct rig rig;
static uint32_t got[RIG_WORDS];

static CUresult run_on(const char *module, uint32_t threads)
{
    return rig_words(&rig, module, threads, got);
}

/* The same in a session of its own. */
static CUresult run(const char *module, uint32_t threads)
{
    rig_open(&rig, 1);
    CUresult rc = run_on(module, threads);
    rig_close(&rig);
    return rc;
}

static void check(const char *module, uint32_t threads, uint32_t (*want)(uint32_t t))
{
    assert_int_equal(run(module, threads), CUDA_SUCCESS);
    for (uint32_t t = 0; t < threads; t++) {
        if (got[t] != want(t))
            print_error("thread %u: %u, want %u\n", t, got[t], want(t));
        assert_int_equal(got[t], want(t));
    }
}

static uint32_t want_square(uint32_t t)
{
    return t * t + 1;
}

/* Direct calls: .param variables of a call's own scope, registers, numbers, a result not wanted. */
static void test_direct(void **state)
{
    (void)state;
    check(SQUARE KERNEL("", CALL1("%v", "square", "%t") "add.u32 %v, %v, 1;"), 70, want_square);
    check(SQUARE KERNEL("", "call (%v), square, (%t); call (_), square, (7); add.u32 %v, %v, 1;"),
          70, want_square);
    check(".func (.reg .b32 %r) f(.reg .b32 %x, .reg .b64 %y) { cvt.u32.u64 %r, %y;\n"
          "mad.lo.u32 %r, %x, %x, %r; ret; }\n" KERNEL("", "call (%v), f, (%t, 1);"),
          70, want_square);
    /* The body comes after the call, or before the prototype; `ret` may be left out. */
    check(".func (.param .b32 r) square(.param .b32 y);\n" KERNEL(
              "", CALL1("%v", "square", "%t") "add.u32 %v, %v, 1;") SQUARE ".func (.param .b32 r) "
                                                                           "square(.param .b32 _);",
          70, want_square);
    check(".func none { } .func () twice() { call none; call.uni none, (); }\n" SQUARE KERNEL(
              "", "call twice; call (%v), square, (%t); add.u32 %v, %v, 1;"),
          70, want_square);
}

static uint32_t want_struct(uint32_t t)
{
    return 3 * t + 200 + 77 + (uint8_t)(t + 1);
}

/* Aggregates go by value, in pieces of any width at offsets that fit them. */
static void test_aggregates(void **state)
{
    (void)state;
    check(".func (.param .align 8 .b8 r[24]) mix(.param .b32 n, .param .align 8 .b8 s[24]) {\n"
          ".reg .b32 %n, %a; .reg .b64 %b; .reg .b16 %h, %i, %j, %m;\n"
          "ld.param.u32 %n, [n]; ld.param.u32 %a, [s]; ld.param.u64 %b, [s+8];\n"
          "ld.param.v4.u8 {%h, %i, %j, %m}, [s+16]; add.u32 %a, %a, %n; add.u64 %b, %b, 100;\n"
          "add.u16 %h, %h, 1;\n"
          "st.param.b32 [r], %a; st.param.b64 [r+8], %b; st.param.v4.b8 [r+16], {%h, %i, %j, %m};\n"
          "ret; }\n" KERNEL(
              ".reg .b16 %h, %i, %j, %m;",
              "cvt.u16.u32 %h, %t; shl.b32 %w, %t, 1; cvt.u64.u32 %l, 100;\n"
              "{ .param .b32 a; st.param.b32 [a], %t; .param .align 8 .b8 s[24];\n"
              "st.param.b32 [s+0], %w; st.param.b64 [s+8], %l;\n"
              "st.param.v2.b8 [s+16], {%h, 77}; .param .align 8 .b8 r[24];\n"
              "call.uni (r), mix, (a, s);\n"
              "ld.param.b32 %w, [r+0]; ld.param.b64 %l, [r+8];\n"
              "ld.param.v2.u8 {%h, %i}, [r+16]; }\n"
              "cvt.u32.u64 %x, %l; add.u32 %v, %w, %x; cvt.u32.u16 %x, %h; add.u32 %v, %v, %x;\n"
              "cvt.u32.u16 %x, %i; add.u32 %v, %v, %x;"),
          300, want_struct);
}

/* clang-format off */
#define EVEN_ODD                                                                                   \
    ".func (.param .b32 r) odd(.param .b32 n);\n"                                                  \
    ".func (.param .b32 r) even(.param .b32 n) { .reg .b32 %n; .reg .pred %p;\n"                   \
    "  ld.param.u32 %n, [n]; setp.eq.u32 %p, %n, 0; @%p bra yes; sub.u32 %n, %n, 1;\n"             \
    "  " CALL1("%n", "odd", "%n")                                                                  \
    "  st.param.b32 [r], %n; ret;\n"                                                               \
    "yes: st.param.b32 [r], 1; }\n"                                                                \
    ".func (.param .b32 r) odd(.param .b32 n) { .reg .b32 %n; .reg .pred %p;\n"                    \
    "  ld.param.u32 %n, [n]; setp.eq.u32 %p, %n, 0; @%p bra no; sub.u32 %n, %n, 1;\n"              \
    "  " CALL1("%n", "even", "%n")                                                                 \
    "  st.param.b32 [r], %n; ret;\n"                                                               \
    "no: st.param.b32 [r], 0; }\n"
/* clang-format on */

static uint32_t want_guarded(uint32_t t)
{
    return t % 2 == 0 ? 7 : t > 10 ? 5 : t + 1;
}

static uint32_t want_exited(uint32_t t)
{
    return t > 40 ? 0 : 3;
}

static uint32_t want_same(uint32_t t)
{
    return t;
}

static uint32_t fib(uint32_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint32_t want_fib(uint32_t t)
{
    return fib(t % 11);
}

/* Recursion whose depth differs from lane to lane: each lane has a stack of its own. */
static void test_recursion(void **state)
{
    (void)state;
    check(FIB KERNEL("", "rem.u32 %w, %t, 11;\n" CALL1("%v", "fib", "%w")), 100, want_fib);
}

/* Lanes part inside a call and by calls, and meet again behind them: activemask sees them all. */
/* clang-format off */
static void test_divergence(void **state)
{
    (void)state;
    check(EVEN_ODD FIB KERNEL("",
          CALL1("%v", "even", "%t")
          "rem.u32 %w, %t, 11; setp.eq.u32 %p, %v, 1; @!%p bra other;\n"
          CALL1("%v", "fib", "%w")
          "bra join;\nother:\n"
          CALL1("%v", "fib", "%w")
          "join: activemask.b32 %x; setp.ne.u32 %p, %x, -1; @%p mov.u32 %v, 99999;"), 64, want_fib);
    /* A guarded call, a guarded return. */
    check(".func (.param .b32 r) f(.param .b32 x) { .reg .b32 %x; .reg .pred %p;\n"
          "ld.param.u32 %x, [x]; st.param.b32 [r], 5; setp.gt.u32 %p, %x, 10; @%p ret;\n"
          "add.u32 %x, %x, 1; st.param.b32 [r], %x; ret; }\n"
          KERNEL("", "mov.u32 %v, 7; and.b32 %w, %t, 1; setp.eq.u32 %p, %w, 1;\n"
                 "{ .param .b32 a, r; st.param.b32 [a], %t; @%p call (r), f, (a);\n"
                 "@%p ld.param.b32 %v, [r]; }"), 64, want_guarded);
    /* A lane that exits in a function is gone for good. */
    check(".func f(.param .b32 x) { .reg .b32 %x; .reg .pred %p; ld.param.u32 %x, [x];\n"
          "setp.gt.u32 %p, %x, 40; @%p exit; ret; }\n"
          KERNEL("", "call f, (%t); mov.u32 %v, 3; bar.sync 0;"), 64, want_exited);
}
/* clang-format on */

#define OPS                                                                                        \
    ".func (.param .b32 r) add3(.param .b32 x) { .reg .b32 %x; ld.param.u32 %x, [x];\n"            \
    "add.u32 %x, %x, 3; st.param.b32 [r], %x; ret; }\n"                                            \
    ".func (.param .b32 r) mul5(.param .b32 x) { .reg .b32 %x; ld.param.u32 %x, [x];\n"            \
    "mul.lo.u32 %x, %x, 5; st.param.b32 [r], %x; ret; }\n"                                         \
    ".func (.param .b32 r) same(.param .b32 x) { .reg .b32 %x; ld.param.u32 %x, [x];\n"            \
    "st.param.b32 [r], %x; ret; }\n"                                                               \
    ".func (.param .b64 r) wide(.param .b32 x) { st.param.b64 [r], 1; ret; }\n"                    \
    ".global .align 8 .u64 table[4] = {add3, mul5, same, wide};\n"

#define THROUGH(pointer)                                                                           \
    "{ .param .b32 a, r; st.param.b32 [a], %t;\n"                                                  \
    "proto: .callprototype (.param .b32 _) _ (.param .b32 _);\n"                                   \
    "call (r), " pointer ", (a), proto; ld.param.b32 %v, [r]; }\n"

static uint32_t want_table(uint32_t t)
{
    return t % 3 == 0 ? t + 3 : t % 3 == 1 ? t * 5 : t;
}

static uint32_t want_add3(uint32_t t)
{
    return t + 3;
}

/* Pointers from a table in memory and from mov; .calltargets says as much as .callprototype. */
/* clang-format off */
static void test_pointers(void **state)
{
    (void)state;
    check(OPS KERNEL("", "rem.u32 %w, %t, 3; mul.wide.u32 %l, %w, 8; mov.u64 %g, table;\n"
          "add.u64 %g, %g, %l; ld.global.u64 %g, [%g];\n" THROUGH("%g")), 100, want_table);
    check(OPS KERNEL("", "mov.u64 %g, add3;\n" THROUGH("%g")), 64, want_add3);
    check(OPS KERNEL("", "mov.u64 %g, add3; list: .calltargets same, add3;\n"
          "call (%v), %g, (%t), list;"), 64, want_add3);
    check(".func (.param .b32 r) name(.param .b32 x);\n" OPS ".alias name, add3;\n"
          KERNEL("", CALL1("%v", "name", "%t")), 64, want_add3);
    check(OPS ".func (.param .b32 r) name(.param .b32 x);\n.alias name, add3;\n"
          KERNEL("", "mov.u64 %g, name;" THROUGH("%g")), 64, want_add3);
}

/* A pointer to nothing, into a function, to one of another signature: INVALID_PC, not a way out. */
static void test_bad_pointers(void **state)
{
    (void)state;
#define BAD(setup) OPS KERNEL("", setup "\n" THROUGH("%g"))
    static const char *const bad[] = {
        BAD("mov.u64 %g, 0;"), BAD("mov.u64 %g, -1;"),
        BAD("mov.u64 %g, add3; add.u64 %g, %g, 1;"),
        BAD("mov.u64 %g, add3; add.u64 %g, %g, 80;"), /* behind four functions and the kernel */
        BAD("mov.u64 %g, add3; add.u64 %g, %g, 64;"), /* the kernel */
        BAD("mov.u64 %g, wide;"), BAD("mov.u64 %g, table;"),
        BAD("mov.u64 %g, 0x6300000000; sub.u64 %g, %g, 16;"), BAD("mov.u64 %g, 0x63fffffff0;"),
        BAD("mov.u64 %g, add3; setp.eq.u32 %p, %t, 17; @%p mov.u64 %g, 4096;"),
    };
#undef BAD
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rig_open(&rig, 1);
        assert_int_equal(run_on(bad[i], 32), CUDA_ERROR_INVALID_PC);
        assert_non_null(strstr(vgpu_software_last_error(rig.b), "no function"));
        rig_close(&rig);
    }
}
/* clang-format on */

static uint32_t want_brx(uint32_t t)
{
    static const uint32_t v[] = {10, 20, 30, 20};
    return v[t & 3];
}

static uint32_t want_loop(uint32_t t)
{
    return t + 1;
}

static void test_brx(void **state)
{
    (void)state;
    check(KERNEL("", "and.b32 %w, %t, 3; list: .branchtargets A, B, C, B;\n"
                     "brx.idx %w, list;\n"
                     "C: mov.u32 %v, 30; bra join; B: mov.u32 %v, 20; bra join;\n"
                     "A: mov.u32 %v, 10;\njoin: activemask.b32 %x;"
                     "setp.ne.u32 %p, %x, -1; @%p mov.u32 %v, 0;"),
          64, want_brx);
    /* Backwards, and guarded. */
    check(KERNEL("", "mov.u32 %v, 0; mov.u32 %w, 0; list: .branchtargets again, done;\n"
                     "again: add.u32 %v, %v, 1; setp.gt.u32 %p, %v, %t; selp.u32 %w, 1, 0, %p;\n"
                     "setp.lt.u32 %q, %v, 1000; @%q brx.idx.uni %w, list;\ndone:"),
          64, want_loop);
    /* Nothing is at an index beyond the list. */
    assert_int_equal(run(KERNEL("", "list: .branchtargets A, B; brx.idx %t, list; A: B: "), 3),
                     CUDA_ERROR_INVALID_PC);
    assert_int_equal(run(KERNEL("", "list: .branchtargets A, B; brx.idx -1, list; A: B: "), 1),
                     CUDA_ERROR_INVALID_PC);
}

#define LOCALS                                                                                     \
    ".func (.param .b32 r) sum(.param .b32 n) { .local .align 4 .b8 own[4]; .reg .b32 %n, %a;\n"   \
    ".reg .b64 %g; .reg .pred %p; ld.param.u32 %n, [n]; st.local.u32 [own], %n;\n"                 \
    "mov.u64 %g, own; cvta.local.u64 %g, %g; mov.u32 %a, 0;\n"                                     \
    "setp.eq.u32 %p, %n, 0; @%p bra done; sub.u32 %a, %n, 1;\n"

static uint32_t want_sum(uint32_t t)
{
    return t % 20 * (t % 20 + 1) / 2;
}

static uint32_t want_alloca(uint32_t t)
{
    return t * 16 + 3;
}

/* .local variables are of the frame: a recursive call does not touch its caller's. */
static uint32_t want_on_stack(uint32_t t)
{
    return t * 3 + 1 + (t & 0xff);
}

/* clang-format off */
static void test_local_frames(void **state)
{
    (void)state;
    check(LOCALS CALL1("%a", "sum", "%a")
          "done: ld.u32 %n, [%g]; add.u32 %a, %a, %n; st.param.b32 [r], %a; ret; }\n"
          KERNEL("", "rem.u32 %w, %t, 20;\n" CALL1("%v", "sum", "%w")), 100, want_sum);
    /* A parameter whose address is taken lies in the frame, too. */
    check(".func (.param .b32 r) get(.param .b8 x, .param .align 8 .b8 s[20], .param .b32 i) {\n"
          ".reg .b64 %a, %i; .reg .b32 %v, %w; mov.u64 %a, s; ld.param.u32 %v, [i];\n"
          "cvt.u64.u32 %i, %v; add.u64 %a, %a, %i; ld.local.u32 %v, [%a]; mov.b64 %a, x;\n"
          "cvta.local.u64 %a, %a; ld.u8 %w, [%a]; add.u32 %v, %v, %w; st.param.b32 [r], %v; ret; }\n"
          KERNEL("", "mad.lo.u32 %w, %t, 3, 1; { .param .b8 x; st.param.b8 [x], %t;\n"
                 ".param .align 8 .b8 s[20]; st.param.b32 [s+12], %w; st.param.b32 [s+16], 5;\n"
                 ".param .b32 r; call (r), get, (x, s, 12); ld.param.b32 %v, [r]; }"),
          300, want_on_stack);
    /* alloca: as much as each lane wants, aligned; it goes with the frame or with stackrestore. */
    check(".func (.param .b32 r) take(.param .b32 n) { .reg .b32 %n, %a; .reg .b64 %g, %s;\n"
          "ld.param.u32 %n, [n]; cvt.u64.u32 %s, %n; stacksave.u64 %g; alloca.u64 %g, %s, 16;\n"
          "st.local.u32 [%g], 1; alloca.u64 %g, 4, 64; cvt.u32.u64 %a, %g; and.b32 %a, %a, 63;\n"
          "st.local.u32 [%g], 5; ld.local.u32 %n, [%g]; add.u32 %n, %n, %a;\n"
          "st.param.b32 [r], %n; ret; }\n"
          KERNEL(".reg .b64 %s, %u;",
                 "add.u32 %w, %t, 4; shl.b32 %w, %w, 2; mov.u32 %v, 0; stacksave.u64 %s;\n"
                 "again: " CALL1("%y", "take", "%w")
                 "setp.ne.u32 %p, %y, 5; @%p trap; add.u32 %v, %v, 1; setp.lt.u32 %p, %v, 500;\n"
                 "@%p bra again;\n"
                 "cvt.u64.u32 %g, %t; shl.b64 %g, %g, 4; alloca.u64 %u, %g, 16;\n"
                 "stacksave.u64 %u; sub.u64 %u, %u, %s; cvt.u32.u64 %v, %u; add.u32 %v, %v, 3;\n"
                 "stackrestore.u64 %s; stacksave.u64 %u; setp.ne.u64 %p, %u, %s; @%p trap;"),
          64, want_alloca);
}

static uint32_t want_ids(uint32_t t)
{
    return t * 3 + 128 + 1000 + t / 32;
}

static uint32_t want_shared(uint32_t t)
{
    return (127 - t) + 500;
}

/* Special registers, barriers, warp exchange and shared memory are the block's in a function, too. */
static void test_block_state(void **state)
{
    (void)state;
    check(".func (.param .b32 r) ids() { .reg .b32 %a, %b; mov.u32 %a, %tid.x; mul.lo.u32 %a, %a, 3;\n"
          "mov.u32 %b, %ntid.x; add.u32 %a, %a, %b; mov.u32 %b, %ctaid.x; mad.lo.u32 %a, %b, 7, %a;\n"
          "mov.u32 %b, %warpid; add.u32 %a, %a, %b; st.param.b32 [r], %a; ret; }\n"
          KERNEL("", "call (%v), ids; add.u32 %v, %v, 1000;"), 128, want_ids);
    /* `mine` is the kernel's own, `both` the kernel's and the function's, `theirs` the function's. */
    check(".shared .align 4 .b8 both[512];\n"
          ".func (.param .b32 r) swap(.param .b32 x) { .shared .align 4 .b8 theirs[512];\n"
          ".reg .b32 %x, %t, %a, %b; ld.param.u32 %x, [x]; mov.u32 %t, %tid.x; shl.b32 %t, %t, 2;\n"
          "mov.u32 %a, theirs; add.u32 %a, %a, %t; st.shared.u32 [%a], %x; bar.sync 0;\n"
          "mov.u32 %a, both; add.u32 %a, %a, %t; ld.shared.u32 %b, [%a];\n"
          "mov.u32 %a, theirs; sub.u32 %t, 508, %t; add.u32 %a, %a, %t; ld.shared.u32 %x, [%a];\n"
          "add.u32 %x, %x, %b; st.param.b32 [r], %x; ret; }\n"
          KERNEL(".shared .align 4 .b8 mine[64];",
                 "mov.u32 %w, mine; st.shared.u32 [%w], 77777; mov.u32 %w, both; shl.b32 %x, %t, 2;\n"
                 "add.u32 %w, %w, %x; st.shared.u32 [%w], 500; st.shared.u32 [mine+60], 77777;\n"
                 "bar.sync 0;" CALL1("%v", "swap", "%t")), 128, want_shared);
    /* Two kernels with their own: the function's variable is at one place in both. */
    check(".func (.param .b32 r) count() { .shared .align 4 .b32 n; .reg .b32 %a, %b;\n"
          "mov.u32 %a, n; atom.shared.add.u32 %b, [%a], 1; bar.sync 0; ld.shared.u32 %b, [%a];\n"
          "st.param.b32 [r], %b; ret; }\n"
          ".entry first() { .shared .align 4 .b8 x[1024]; .reg .b32 %a; mov.u32 %a, x;\n"
          "st.shared.u32 [%a], 9; call (%a), count; ret; }\n"
          KERNEL(".shared .align 4 .b8 y[2048];",
                 "mov.u32 %w, y; st.shared.u32 [%w], 9; call (%v), count; sub.u32 %v, %v, 96;\n"
                 "add.u32 %v, %v, %t;"), 96, want_same);
    /* Exchange between lanes in a function that half of them came to by another way. */
    check(".func (.param .b32 r) all(.param .b32 x) { .reg .b32 %x, %y; ld.param.u32 %x, [x];\n"
          "shfl.sync.bfly.b32 %y, %x, 1, 31, -1; bar.red.popc.u32 %y, 0, 1;\n"
          "add.u32 %y, %y, %x; st.param.b32 [r], %y; ret; }\n"
          KERNEL("", CALL1("%v", "all", "%t") "sub.u32 %v, %v, 96;"), 96, want_same);
}
/* clang-format on */

static uint32_t want_parted(uint32_t t)
{
    return t & 1 ? 8 * t + 28 + t : 16 * t + 28 + t;
}

static uint32_t want_neighbour(uint32_t t)
{
    return t ^ 1;
}

/* Lanes wait in different functions, whose rows and predicates lie otherwise: none of them loses
 * what it holds, nor the way back. Those that come to one function from two places are together. */
/* clang-format off */
static void test_parted(void **state)
{
    (void)state;
    check(".func (.param .b32 r) wait(.param .b32 x) { .reg .b64 %a<5>; .reg .b32 %x; .reg .pred %p<3>;\n"
          "ld.param.u32 %x, [x]; cvt.u64.u32 %a0, %x; not.b64 %a1, %a0; not.b64 %a2, %a1; setp.ne.u64 %p0, %a0, %a2;\n"
          "setp.eq.u64 %p1, %a0, %a2; setp.ne.u32 %p2, %x, %x; barrier.sync 0; cvt.u32.u64 %x, %a2; @%p0 mov.u32 %x, 1;\n"
          "@!%p1 mov.u32 %x, 2; @%p2 mov.u32 %x, 3; st.param.b32 [r], %x; ret; }\n"
          ".func (.param .b32 r) narrow(.param .b32 x) { .reg .b32 %a<9>; .reg .pred %p;\n"
          "ld.param.u32 %a0, [x]; setp.ne.u32 %p, %a0, %a0; add.u32 %a1, %a0, 1; add.u32 %a2, %a0, 2; add.u32 %a3, %a0, 3;\n"
          "add.u32 %a4, %a0, 4; add.u32 %a5, %a0, 5; add.u32 %a6, %a0, 6; add.u32 %a7, %a0, 7; barrier.sync 0;\n"
          CALL1("%a8", "wait", "%a0")
          "add.u32 %a0, %a0, %a8; add.u32 %a0, %a0, %a1; add.u32 %a0, %a0, %a2; add.u32 %a0, %a0, %a3; add.u32 %a0, %a0, %a4;\n"
          "add.u32 %a0, %a0, %a5; add.u32 %a0, %a0, %a6; add.u32 %a0, %a0, %a7; @%p mov.u32 %a0, 7;\n"
          "st.param.b32 [r], %a0; ret; }\n"
          ".func (.param .b32 r) wide(.param .b32 x) { .reg .b64 %a<9>, %h; .reg .b32 %x, %y; .reg .pred %p<4>;\n"
          "ld.param.u32 %x, [x]; cvt.u64.u32 %a0, %x; shl.b64 %h, %a0, 33; add.u64 %a0, %a0, %h; add.u64 %a1, %a0, 1;\n"
          "add.u64 %a2, %a0, 2; add.u64 %a3, %a0, 3; add.u64 %a4, %a0, 4; add.u64 %a5, %a0, 5; add.u64 %a6, %a0, 6;\n"
          "add.u64 %a7, %a0, 7; setp.eq.u64 %p0, %a0, %a0; setp.ne.u64 %p1, %a0, %a0; setp.ne.u32 %p2, %x, %x; setp.ne.u32 %p3, %x, %x;\n"
          "barrier.sync 0;\n"
          CALL1("%y", "wait", "%x")
          "add.u64 %a0, %a0, %a1; add.u64 %a0, %a0, %a2; add.u64 %a0, %a0, %a3; add.u64 %a0, %a0, %a4; add.u64 %a0, %a0, %a5;\n"
          "add.u64 %a0, %a0, %a6; add.u64 %a0, %a0, %a7; shr.u64 %h, %a0, 33; add.u64 %a0, %a0, %h; cvt.u32.u64 %x, %a0;\n"
          "add.u32 %x, %x, %y; @!%p0 mov.u32 %x, 4; @%p1 mov.u32 %x, 5; @%p2 mov.u32 %x, 6; @%p3 mov.u32 %x, 8;\n"
          "st.param.b32 [r], %x; ret; }\n"
          KERNEL("", "and.b32 %w, %t, 1; setp.eq.u32 %p, %w, 1; @%p bra odd;\n"
                 CALL1("%v", "wide", "%t")
                 "bra join;\nodd:\n"
                 CALL1("%v", "narrow", "%t")
                 "join:"), 96, want_parted);
    check(".func (.param .b32 r) swap(.param .b32 x) { .reg .b32 %x; ld.param.u32 %x, [x];\n"
          "shfl.sync.bfly.b32 %x, %x, 1, 31, -1; st.param.b32 [r], %x; ret; }\n"
          KERNEL("", "and.b32 %w, %t, 1; setp.eq.u32 %p, %w, 1; @%p bra odd;\n"
                 CALL1("%v", "swap", "%t")
                 "bra join;\nodd:\n"
                 CALL1("%v", "swap", "%t")
                 "join:"), 64, want_neighbour);
}
/* clang-format on */

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_direct),     VGPU_TEST(test_aggregates),   VGPU_TEST(test_recursion),
        VGPU_TEST(test_divergence), VGPU_TEST(test_pointers),     VGPU_TEST(test_bad_pointers),
        VGPU_TEST(test_brx),        VGPU_TEST(test_local_frames), VGPU_TEST(test_block_state),
        VGPU_TEST(test_parted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
