/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control flow: divergence and its end, progress of parted lanes, barriers (PTX ISA, "bar,
 * barrier"), what lanes of a warp tell each other ("shfl.sync", "vote.sync", "match.sync"), exits
 * and traps.
 */
#include "ptx_rig.h"

#include <string.h>

#define T                                                                                          \
    "mov.u32 %t, %tid.x; ld.param.u64 %o, [out]; mul.wide.u32 %l, %t, 4; add.u64 %o, %o, %l;\n"
#define REGS                                                                                       \
    ".reg .pred %p, %q, %s; .reg .b32 %t, %v, %w, %x, %y; .reg .b64 %o, %l, %g; .reg .f32 %f;\n"
#define KERNEL(body) ".visible .entry k(.param .u64 out) {\n" REGS T body "\n}\n"

static struct rig rig;
static uint32_t got[1024];

/* Runs kernel k over `threads` threads of one block and fetches a word per thread. */
static CUresult run(const char *module, uint32_t threads)
{
    uint64_t out;
    rig_open(&rig, 1);
    rig_load(&rig, module, CUDA_SUCCESS);
    assert_int_equal(rig.o->mem_alloc(rig.b, sizeof(got), &out), CUDA_SUCCESS);
    CUresult rc = rig_launch(&rig, "k", 1, threads, 0, 1, &out);
    if (rc == CUDA_SUCCESS)
        assert_int_equal(rig.o->copy_dtoh(rig.b, got, out, sizeof(got)), CUDA_SUCCESS);
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
    for (uint32_t t = threads; t < 1024; t++)
        assert_int_equal(got[t], 0);
}

static uint32_t want_collatz(uint32_t t)
{
    uint32_t n = t + 1, steps = 0;
    for (; n != 1; steps++)
        n = n & 1 ? 3 * n + 1 : n / 2;
    return steps;
}

/* Nested divergence in a loop whose trip count differs per lane. */
static void test_divergent_loop(void **state)
{
    (void)state;
    check(KERNEL("add.u32 %v, %t, 1; mov.u32 %w, 0;\n"
                 "loop: setp.eq.u32 %p, %v, 1; @%p bra done;\n"
                 "and.b32 %x, %v, 1; setp.eq.u32 %q, %x, 1; @%q bra odd;\n"
                 "shr.u32 %v, %v, 1; bra next;\n"
                 "odd: mad.lo.u32 %v, %v, 3, 1;\n"
                 "next: add.u32 %w, %w, 1; bra loop;\n"
                 "done: st.global.u32 [%o], %w; ret;"),
          200, want_collatz);
}

static uint32_t want_joined(uint32_t t)
{
    return t < 61 ? (t < 32 ? 32 : 29) : 0;
}

/* After an if/else the warp is together again: activemask sees all lanes. */
static void test_reconvergence(void **state)
{
    (void)state;
    check(KERNEL("and.b32 %v, %t, 3; setp.eq.u32 %p, %v, 2; @%p bra other;\n"
                 "mov.u32 %w, 1; bra join;\n"
                 "other: mov.u32 %w, 2;\n"
                 "join: activemask.b32 %x; popc.b32 %y, %x; st.global.u32 [%o], %y; ret;"),
          61, want_joined);
}

static uint32_t want_early(uint32_t t)
{
    return t % 3 ? t + 100 : 0;
}

/* Guarded exit ends some lanes, the others go on. */
static void test_guarded_exit(void **state)
{
    (void)state;
    check(KERNEL("rem.u32 %v, %t, 3; setp.eq.u32 %p, %v, 0; @%p exit;\n"
                 "add.u32 %w, %t, 100; st.global.u32 [%o], %w; ret;"),
          100, want_early);
}

static uint32_t want_lock(uint32_t t)
{
    return t == 0 ? 64 : 0;
}

/* A spin lock between lanes of one warp: sm_70 and later promise that the holder gets on. */
static void test_lock_within_warp(void **state)
{
    (void)state;
    check(
        ".shared .align 4 .u32 lock; .shared .align 4 .u32 count;\n" KERNEL(
            "setp.ne.u32 %s, %t, 0; @!%s st.shared.u32 [lock], 0; @!%s st.shared.u32 [count], 0;\n"
            "bar.sync 0;\n"
            "again: atom.shared.cas.b32 %v, [lock], 0, 1; setp.ne.u32 %p, %v, 0; @%p bra again;\n"
            "ld.volatile.shared.u32 %w, [count]; add.u32 %w, %w, 1;\n"
            "st.volatile.shared.u32 [count], %w; membar.cta; atom.shared.exch.b32 %v, [lock], 0;\n"
            "bar.sync 0; ld.shared.u32 %w, [count]; @!%s st.global.u32 [%o], %w; ret;"),
        64, want_lock);
}

static uint32_t want_flag(uint32_t t)
{
    return t < 64 ? 7 : 0;
}

/* One warp spins on what another warp of the block writes. */
static void test_spin_between_warps(void **state)
{
    (void)state;
    check(".shared .align 4 .u32 flag;\n" KERNEL(
              "setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [flag], 0; bar.sync 0;\n"
              "setp.ge.u32 %p, %t, 32; @%p bra write;\n"
              "wait: ld.volatile.shared.u32 %v, [flag]; setp.eq.u32 %q, %v, 0; @%q bra wait; bra "
              "done;\n"
              "write: mov.u32 %v, 7; st.volatile.shared.u32 [flag], %v;\n"
              "done: st.global.u32 [%o], %v; ret;"),
          64, want_flag);
}

static uint32_t want_reverse(uint32_t t)
{
    return 299 - t;
}

/* What is written before a barrier is read after it, over ten warps, the last one partial. */
static void test_barrier_exchange(void **state)
{
    (void)state;
    check(
        ".shared .align 4 .b8 buf[1200];\n" KERNEL(
            "mov.u32 %v, buf; shl.b32 %w, %t, 2; add.u32 %w, %w, %v; st.shared.u32 [%w], %t;\n"
            "bar.sync 0;\n"
            "sub.u32 %x, 299, %t; shl.b32 %x, %x, 2; add.u32 %x, %x, %v; ld.shared.u32 %y, [%x];\n"
            "st.global.u32 [%o], %y; ret;"),
        300, want_reverse);
}

static uint32_t want_one(uint32_t t)
{
    (void)t;
    return 1;
}

/* Arrivals from both sides of a branch count for the same barrier. */
static void test_barrier_diverged(void **state)
{
    (void)state;
    check(KERNEL("and.b32 %v, %t, 1; setp.eq.u32 %p, %v, 0; @%p bra even;\n"
                 "barrier.sync 3; bra done;\n"
                 "even: barrier.sync 3;\n"
                 "done: mov.u32 %w, 1; st.global.u32 [%o], %w; ret;"),
          96, want_one);
}

static uint32_t want_rest(uint32_t t)
{
    return t >= 40 ? 5 : 0;
}

/* Exited threads are not waited for, whether whole warps or part of one. */
static void test_barrier_exited(void **state)
{
    (void)state;
    check(KERNEL("setp.lt.u32 %p, %t, 40; @%p exit; bar.sync 0;\n"
                 "mov.u32 %w, 5; st.global.u32 [%o], %w; ret;"),
          128, want_rest);
    /* The last one to come exits instead: that completes it, too. */
    check(KERNEL("setp.ge.u32 %p, %t, 40; @%p bra wait; mov.u32 %w, 0;\n"
                 "spin: add.u32 %w, %w, 1; setp.lt.u32 %q, %w, 20000; @%q bra spin; ret;\n"
                 "wait: bar.sync 0; mov.u32 %w, 5; st.global.u32 [%o], %w; ret;"),
          128, want_rest);
}

static uint32_t want_two(uint32_t t)
{
    return t < 64 ? 2 : 1;
}

/* bar.sync a, b waits for b threads; bar.arrive counts without waiting. */
static void test_barrier_counts(void **state)
{
    (void)state;
    check(KERNEL("setp.ge.u32 %p, %t, 64; @%p bra other;\n"
                 "bar.sync 1, 64; bar.sync 2, 96; mov.u32 %w, 2; bra done;\n"
                 "other: bar.arrive 2, 96; mov.u32 %w, 1;\n"
                 "done: st.global.u32 [%o], %w; ret;"),
          96, want_two);
}

static uint32_t want_red(uint32_t t)
{
    (void)t;
    return 34 + 1000 + 0;
}

/* bar.red: popc, or, and over all threads of the block */
static void test_barrier_reduction(void **state)
{
    (void)state;
    check(KERNEL(
              "rem.u32 %v, %t, 3; setp.eq.u32 %p, %v, 0;\n"
              "bar.red.popc.u32 %w, 0, %p; bar.red.or.pred %q, 0, %p; bar.red.and.pred %s, 0, %p;\n"
              "@%q add.u32 %w, %w, 1000; @%s add.u32 %w, %w, 100000; st.global.u32 [%o], %w; ret;"),
          100, want_red);
}

/* Threads that wait at barriers that cannot complete end the launch instead of hanging it. */
static void test_barrier_deadlock(void **state)
{
    (void)state;
    assert_int_equal(run(KERNEL("setp.lt.u32 %p, %t, 32; @%p bra one; bar.sync 1; ret;\n"
                                "one: bar.sync 2; ret;"),
                         64),
                     CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(run(KERNEL("bar.sync 0, 128; ret;"), 64), CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(run(KERNEL("and.b32 %v, %t, 1; barrier.sync %v; ret;"), 64),
                     CUDA_ERROR_LAUNCH_FAILED);
}

/* A barrier number or count out of range, known only at run time. */
static void test_barrier_bad_operands(void **state)
{
    (void)state;
    assert_int_equal(run(KERNEL("add.u32 %v, %t, 16; barrier.sync %v; ret;"), 32),
                     CUDA_ERROR_ILLEGAL_INSTRUCTION);
    assert_int_equal(run(KERNEL("bar.sync 0, 33; ret;"), 32), CUDA_ERROR_ILLEGAL_INSTRUCTION);
}

static void test_trap(void **state)
{
    (void)state;
    assert_int_equal(run(KERNEL("setp.eq.u32 %p, %t, 5; @%p trap; ret;"), 32),
                     CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(run(KERNEL("setp.eq.u32 %p, %t, 32; @%p trap; ret;"), 32), CUDA_SUCCESS);
}

static uint32_t want_up(uint32_t t)
{
    return (t & 31) >= 3 ? t - 3 : t;
}
static uint32_t want_down8(uint32_t t)
{
    return (t & 7) + 2 <= 7 ? t + 2 : t + 1000;
}
static uint32_t want_bfly(uint32_t t)
{
    return t ^ 5;
}
static uint32_t want_idx(uint32_t t)
{
    return (t & ~7u) | 6;
}

/* shfl.sync: the ISA's pseudo-code for each mode; segments by c; the predicate says whether the
 * source was in range */
static void test_shfl(void **state)
{
    (void)state;
    check(KERNEL("shfl.sync.up.b32 %v, %t, 3, 0, -1; st.global.u32 [%o], %v; ret;"), 64, want_up);
    check(KERNEL("shfl.sync.down.b32 %v|%p, %t, 2, 0x1807, -1; @!%p add.u32 %v, %v, 1000;\n"
                 "st.global.u32 [%o], %v; ret;"),
          64, want_down8);
    check(KERNEL("shfl.sync.bfly.b32 %v, %t, 5, 31, -1; st.global.u32 [%o], %v; ret;"), 64,
          want_bfly);
    check(KERNEL("shfl.sync.idx.b32 %v, %t, 6, 0x181f, -1; st.global.u32 [%o], %v; ret;"), 64,
          want_idx);
}

static uint32_t want_late(uint32_t t)
{
    return t ^ 1;
}

/* Lanes that come to a shfl.sync from different ways wait for the members that are missing. */
static void test_shfl_waits(void **state)
{
    (void)state;
    check(KERNEL("and.b32 %v, %t, 1; setp.eq.u32 %p, %v, 0; @%p bra join; mov.u32 %w, 0;\n"
                 "spin: add.u32 %w, %w, 1; setp.lt.u32 %q, %w, 50; @%q bra spin;\n"
                 "join: shfl.sync.bfly.b32 %v, %t, 1, 31, -1; st.global.u32 [%o], %v; ret;"),
          32, want_late);
}

static uint32_t want_vote(uint32_t t)
{
    return (t < 32 ? 0x55555555u : 0x15555555u) + (t < 32 ? 0 : 2) + 4;
}

/* vote.sync: all, any, ballot; a partial warp's absent lanes do not count */
static void test_vote(void **state)
{
    (void)state;
    check(KERNEL(
              "and.b32 %v, %t, 1; setp.eq.u32 %p, %v, 0;\n"
              "vote.sync.ballot.b32 %w, %p, -1;\n"
              "setp.ge.u32 %q, %t, 32; vote.sync.all.pred %q, %q, -1; @%q add.u32 %w, %w, 2;\n"
              "vote.sync.any.pred %s, %p, -1; @%s add.u32 %w, %w, 4; st.global.u32 [%o], %w; ret;"),
          61, want_vote);
}

static uint32_t want_match(uint32_t t)
{
    return 0x01010101u << (t & 7);
}

static void test_match(void **state)
{
    (void)state;
    check(
        KERNEL("and.b32 %v, %t, 7; match.any.sync.b32 %w, %v, -1;\n"
               "mov.b64 %g, 5; match.all.sync.b64 %x|%p, %g, -1; @!%p mov.u32 %w, 0;\n"
               "match.all.sync.b32 %x|%q, %t, -1; @%q mov.u32 %w, 0; st.global.u32 [%o], %w; ret;"),
        32, want_match);
}

static uint32_t want_sregs(uint32_t t)
{
    return (t & 31) + (t / 32) * 100 + 70 * 10000;
}

/* %laneid, %warpid, %ntid, %nctaid, %lanemask_lt */
static void test_special_registers(void **state)
{
    (void)state;
    check(
        KERNEL(
            "mov.u32 %v, %lanemask_lt; popc.b32 %v, %v; mov.u32 %x, %laneid; min.u32 %v, %v, %x;\n"
            "mov.u32 %w, %warpid; mad.lo.u32 %v, %w, 100, %v; mov.u32 %w, %ntid.x;\n"
            "mov.u32 %x, %nctaid.x; mul.lo.u32 %w, %w, %x; mov.u32 %x, %ctaid.x; add.u32 %w, %w, "
            "%x;\n"
            "mad.lo.u32 %v, %w, 10000, %v; st.global.u32 [%o], %v; ret;"),
        70, want_sregs);
}

static uint32_t want_selects(uint32_t t)
{
    return (t > 5 && t < 9 ? 1u : 0u) + (t > 5 ? 0u : 2u) + (t >= 9 ? 4u : 8u);
}

/* setp p|q with a boolean operator, selp, slct, predicate logic, mov.pred */
static void test_predicates(void **state)
{
    (void)state;
    check(KERNEL(
              "setp.lt.u32 %s, %t, 9; setp.gt.and.u32 %p|%q, %t, 5, %s;\n"
              "selp.u32 %v, 1, 0, %p; not.pred %p, %s; setp.gt.u32 %q, %t, 5;\n"
              "xor.pred %q, %q, %p; xor.pred %q, %q, %p; mov.pred %s, %q; @!%s add.u32 %v, %v, 2;\n"
              "sub.s32 %w, %t, 9; slct.u32.s32 %x, 4, 8, %w; add.u32 %v, %v, %x;\n"
              "st.global.u32 [%o], %v; ret;"),
          32, want_selects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_divergent_loop),
        VGPU_TEST(test_reconvergence),
        VGPU_TEST(test_guarded_exit),
        VGPU_TEST(test_lock_within_warp),
        VGPU_TEST(test_spin_between_warps),
        VGPU_TEST(test_barrier_exchange),
        VGPU_TEST(test_barrier_diverged),
        VGPU_TEST(test_barrier_exited),
        VGPU_TEST(test_barrier_counts),
        VGPU_TEST(test_barrier_reduction),
        VGPU_TEST(test_barrier_deadlock),
        VGPU_TEST(test_barrier_bad_operands),
        VGPU_TEST(test_trap),
        VGPU_TEST(test_shfl),
        VGPU_TEST(test_shfl_waits),
        VGPU_TEST(test_vote),
        VGPU_TEST(test_match),
        VGPU_TEST(test_special_registers),
        VGPU_TEST(test_predicates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
