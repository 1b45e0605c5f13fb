/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who waits for whom: member masks of .sync instructions (PTX ISA, "bar.warp.sync", "shfl.sync",
 * "vote.sync", "match.sync"), progress of every group of a parted warp, barriers with thread counts
 * whose warps arrive in parts, and what atomics make of subnormals. A kernel that should end and
 * does not is interrupted, so that it fails instead of hanging.
 */
#include "ptx_rig.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#define T                                                                                          \
    "mov.u32 %t, %tid.x; ld.param.u64 %g, [out]; mul.wide.u32 %l, %t, 4; add.u64 %o, %g, %l;\n"
#define REGS                                                                                       \
    ".reg .pred %p, %q, %s; .reg .b32 %t, %v, %w, %x, %y; .reg .b64 %o, %l, %g; .reg .f32 %f, "    \
    "%e;\n"
#define KERNEL(body) ".visible .entry k(.param .u64 out) {\n" REGS T body "\n}\n"
#define HANG_S       30

struct watch {
    struct rig *r;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool over;
};

static void *watch_main(void *arg)
{
    struct watch *w = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += HANG_S;
    pthread_mutex_lock(&w->lock);
    while (!w->over)
        if (pthread_cond_timedwait(&w->done, &w->lock, &until) != 0)
            break;
    while (!w->over) {
        w->r->o->interrupt(w->r->b);
        until.tv_sec++;
        pthread_cond_timedwait(&w->done, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static uint32_t got[1024];

/* Runs kernel k over `threads` threads of one block and fetches what it wrote to its buffer of 1024
 * words, which begins as zeros. */
static CUresult run(const char *module, uint32_t threads)
{
    struct rig rig;
    struct watch w = {.r = &rig};
    pthread_t thread;
    uint64_t out;
    rig_open(&rig, 1);
    rig_load(&rig, module, CUDA_SUCCESS);
    assert_int_equal(rig.o->mem_alloc(rig.b, sizeof(got), &out), CUDA_SUCCESS);
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.done, NULL);
    assert_int_equal(pthread_create(&thread, NULL, watch_main, &w), 0);
    CUresult rc = rig_launch(&rig, "k", 1, threads, 0, 1, &out);
    pthread_mutex_lock(&w.lock);
    w.over = true;
    pthread_cond_signal(&w.done);
    pthread_mutex_unlock(&w.lock);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&w.done);
    pthread_mutex_destroy(&w.lock);
    if (rc == CUDA_SUCCESS)
        assert_int_equal(rig.o->copy_dtoh(rig.b, got, out, sizeof(got)), CUDA_SUCCESS);
    rig_close(&rig);
    return rc;
}

#define HALVES                                                                                     \
    "setp.lt.u32 %p, %t, 16; selp.b32 %x, 0x0000ffff, 0xffff0000, %p;\n" /* each half its mask */

/* "vote.sync": a vote is among the threads of the lane's own membermask. */
static void test_vote_masks(void **state)
{
    (void)state;
    assert_int_equal(run(KERNEL(HALVES "and.b32 %v, %t, 1; setp.eq.u32 %q, %v, 0;\n"
                                       "vote.sync.ballot.b32 %w, %q, %x; st.global.u32 [%o], %w;\n"
                                       "vote.sync.all.pred %q, %p, %x; selp.u32 %v, 1, 0, %q;\n"
                                       "vote.sync.any.pred %q, %p, %x; @%q add.u32 %v, %v, 2;\n"
                                       "vote.sync.uni.pred %q, %p, %x; @%q add.u32 %v, %v, 4;\n"
                                       "st.global.u32 [%o+128], %v; ret;"),
                         32),
                     CUDA_SUCCESS);
    for (unsigned t = 0; t < 32; t++) {
        assert_int_equal(got[t], t < 16 ? 0x00005555 : 0x55550000);
        assert_int_equal(got[32 + t], t < 16 ? 7 : 4);
    }
}

/* "shfl.sync", "match.sync": each lane waits for the threads of its own membermask, though the
 * first lane's are all there. Lane 17 comes late. */
static void test_masks_wait(void **state)
{
    (void)state;
    assert_int_equal(run(KERNEL(HALVES "mov.u32 %v, 7; setp.ne.u32 %q, %t, 17; @%q bra join; bra "
                                       "late;\n"
                                       "join: shfl.sync.idx.b32 %w, %v, 17, 31, %x;\n"
                                       "st.global.u32 [%o], %w; ret;\n"
                                       "late: mov.u32 %v, 99; bra join;"),
                         32),
                     CUDA_SUCCESS);
    for (unsigned t = 16; t < 32; t++)
        assert_int_equal(got[t], 99);
    assert_int_equal(run(KERNEL(HALVES "mov.u32 %v, 7; setp.ne.u32 %q, %t, 17; @%q bra join; bra "
                                       "late;\n"
                                       "join: match.any.sync.b32 %w, %v, %x;\n"
                                       "st.global.u32 [%o], %w; ret;\n"
                                       "late: bra join;"),
                         32),
                     CUDA_SUCCESS);
    for (unsigned t = 0; t < 32; t++)
        assert_int_equal(got[t], t < 16 ? 0x0000ffff : 0xffff0000);
    /* Lanes 0 and 1 go on, though lanes 2 and 3 do only once they have. */
    assert_int_equal(
        run(KERNEL("setp.lt.u32 %p, %t, 2; selp.b32 %x, 3, 12, %p; setp.eq.u32 %q, %t, 3;\n"
                   "@%q bra last; bar.warp.sync %x; @!%p bra end;\n"
                   "st.volatile.global.u32 [%g], 1; bra end;\n"
                   "last: ld.volatile.global.u32 %v, [%g]; setp.eq.u32 %q, %v, 0; @%q bra last;\n"
                   "bar.warp.sync %x;\n"
                   "end: mov.u32 %v, 1; st.global.u32 [%o+64], %v; ret;"),
            4),
        CUDA_SUCCESS);
    for (unsigned t = 0; t < 4; t++)
        assert_int_equal(got[16 + t], 1);
}

/* "bar.warp.sync": it waits for the member threads to have executed bar.warp.sync, not for them to
 * be at the same one; then all go on. */
static void test_warp_barrier_parted(void **state)
{
    (void)state;
    assert_int_equal(run(KERNEL("setp.ne.u32 %p, %t, 0; @%p bra else; bar.warp.sync -1;\n"
                                "spin: ld.volatile.global.u32 %v, [%g+4]; setp.eq.u32 %q, %v, 0;\n"
                                "@%q bra spin; st.global.u32 [%o], 5; bra end;\n"
                                "else: bar.warp.sync -1; st.volatile.global.u32 [%o], 1;\n"
                                "end: ret;"),
                         32),
                     CUDA_SUCCESS);
    for (unsigned t = 0; t < 32; t++)
        assert_int_equal(got[t], t ? 1 : 5);
    /* What was written before it is read after it. */
    assert_int_equal(
        run(KERNEL("and.b32 %v, %t, 1; setp.eq.u32 %p, %v, 0; add.u32 %w, %t, 1; @%p bra even;\n"
                   "st.global.u32 [%o], %w; bar.warp.sync -1; ld.global.u32 %x, [%o+-4]; bra fin;\n"
                   "even: st.global.u32 [%o], %w; bar.warp.sync -1; ld.global.u32 %x, [%o+4];\n"
                   "fin: st.global.u32 [%o+128], %x; ret;"),
            32),
        CUDA_SUCCESS);
    for (unsigned t = 0; t < 32; t++)
        assert_int_equal(got[32 + t], (t ^ 1) + 1);
}

/* "bar.warp.sync": threads that exit are not waited for, though another group spins meanwhile on
 * what those who wait will write. */
static void test_warp_barrier_exit(void **state)
{
    (void)state;
    assert_int_equal(
        run(KERNEL(
                "setp.eq.u32 %p, %t, 2; @%p bra spin; setp.eq.u32 %p, %t, 1; @%p bra leave;\n"
                "bar.warp.sync 3; st.volatile.global.u32 [%g+12], 1; ret;\n"
                "spin: ld.volatile.global.u32 %v, [%g+12]; setp.eq.u32 %q, %v, 0; @%q bra spin;\n"
                "st.global.u32 [%o], 9; ret;\n"
                "leave: ret;"),
            3),
        CUDA_SUCCESS);
    assert_int_equal(got[2], 9);
}

/* A lane that waits at a barrier which another warp completes has not exited: its warp's .sync
 * instruction waits for it. */
static void test_sync_behind_barrier(void **state)
{
    (void)state;
    assert_int_equal(
        run(KERNEL("mov.u32 %v, 1; setp.ge.u32 %p, %t, 32; @%p bra other;\n"
                   "setp.lt.u32 %p, %t, 16; @%p bra first; bra meet;\n"
                   "first: barrier.sync 1, 64; mov.u32 %v, 2;\n"
                   "meet: shfl.sync.idx.b32 %w, %v, 3, 31, -1; st.global.u32 [%o], %w; ret;\n"
                   "other: setp.ge.u32 %p, %t, 80; @%p bra end;\n"
                   "mov.u32 %w, 0; L: add.u32 %w, %w, 1; setp.lt.u32 %q, %w, 20000; @%q bra L;\n"
                   "barrier.sync 1, 64; end: ret;"),
            80),
        CUDA_SUCCESS);
    for (unsigned t = 0; t < 32; t++)
        assert_int_equal(got[t], 2);
}

/* sm_70 and later: every lane of a parted warp gets on, however many groups there are. Here all
 * but the last spin on what the next one writes. */
static void test_many_groups(void **state)
{
    (void)state;
    assert_int_equal(
        run(KERNEL(
                "setp.eq.u32 %p, %t, 4; @%p bra e; setp.eq.u32 %p, %t, 3; @%p bra d;\n"
                "setp.eq.u32 %p, %t, 2; @%p bra c; setp.eq.u32 %p, %t, 1; @%p bra b;\n"
                "a: ld.volatile.global.u32 %v, [%g+4]; setp.eq.u32 %q, %v, 0; @%q bra a; bra w;\n"
                "b: ld.volatile.global.u32 %v, [%g+8]; setp.eq.u32 %q, %v, 0; @%q bra b; bra w;\n"
                "c: ld.volatile.global.u32 %v, [%g+12]; setp.eq.u32 %q, %v, 0; @%q bra c; bra w;\n"
                "d: ld.volatile.global.u32 %v, [%g+16]; setp.eq.u32 %q, %v, 0; @%q bra d; bra w;\n"
                "e: bra w;\n"
                "w: st.volatile.global.u32 [%o], 1; ret;"),
            5),
        CUDA_SUCCESS);
    for (unsigned t = 0; t < 5; t++)
        assert_int_equal(got[t], 1);
}

/*
 * "barrier", thread counts are in whole warps: a warp counts once, whether its lanes come together
 * or in parts, and whether those that came before have exited. Warp 1 arrives in two halves that
 * exit; half of warp 0 takes long and the other half must wait for it.
 */
static void test_count_in_parts(void **state)
{
    (void)state;
    assert_int_equal(
        run(KERNEL("setp.ge.u32 %p, %t, 32; @%p bra warp1; setp.ge.u32 %p, %t, 16; @%p bra slow;\n"
                   "barrier.sync 1, 64; ld.volatile.global.u32 %v, [%g+2048];\n"
                   "st.global.u32 [%o], %v; ret;\n"
                   "slow: mov.u32 %w, 0; L: add.u32 %w, %w, 1; setp.lt.u32 %q, %w, 100000;\n"
                   "@%q bra L; mov.u32 %v, 1; st.volatile.global.u32 [%g+2048], %v;\n"
                   "barrier.sync 1, 64; ret;\n"
                   "warp1: setp.ge.u32 %p, %t, 48; @%p bra part; barrier.arrive 1, 64; ret;\n"
                   "part: add.u32 %v, %v, 1; barrier.arrive 1, 64; ret;"),
            64),
        CUDA_SUCCESS);
    for (unsigned t = 0; t < 16; t++)
        assert_int_equal(got[t], 1);
}

/* "barrier": a short warp whose lanes arrive in parts counts as full once they all have, and one
 * whose other lanes exit does, too. */
static void test_count_exit(void **state)
{
    (void)state;
    assert_int_equal(
        run(KERNEL("setp.lt.u32 %p, %t, 32; @%p bra wait; setp.lt.u32 %p, %t, 36; @%p bra part;\n"
                   "add.u32 %v, %v, 1; barrier.arrive 1, 64; ret;\n"
                   "part: barrier.arrive 1, 64; ret;\n"
                   "wait: barrier.sync 1, 64; st.global.u32 [%o], 1; ret;"),
            40),
        CUDA_SUCCESS);
    assert_int_equal(got[31], 1);
    assert_int_equal(run(KERNEL("setp.ge.u32 %p, %t, 48; @%p bra leave; barrier.sync 1, 64;\n"
                                "st.global.u32 [%o], 1; ret;\n"
                                "leave: mov.u32 %w, 0; add.u32 %w, %w, 1; ret;"),
                         64),
                     CUDA_SUCCESS);
    for (unsigned t = 0; t < 48; t++)
        assert_int_equal(got[t], 1);
}

/* "atom", "red": atom.add.f32 on global memory flushes subnormal inputs and results to
 * sign-preserving zero, on shared memory it does not, whichever way the address is given. */
static void test_atomic_subnormals(void **state)
{
    (void)state;
    assert_int_equal(
        run(".shared .align 8 .f32 sh[2];\n" KERNEL(
                "mov.f32 %f, 0f80000001; mov.f32 %e, 0f00800001;\n"
                "st.global.f32 [%g], %f; st.global.f32 [%g+4], %f; st.global.f32 [%g+8], %e;\n"
                "atom.global.add.f32 %f, [%g], %f; st.global.f32 [%g+16], %f;\n"
                "mov.f32 %f, 0f80000001; atom.add.f32 %f, [%g+4], %f;\n"
                "mov.f32 %f, 0f80800000; red.global.add.f32 [%g+8], %f;\n"
                "mov.f32 %f, 0f80000001; st.shared.f32 [sh], %f; st.shared.f32 [sh+4], %f;\n"
                "atom.shared.add.f32 %e, [sh], %f; mov.u64 %l, sh; cvta.shared.u64 %l, %l;\n"
                "atom.add.f32 %e, [%l+4], %f; ld.shared.f32 %f, [sh]; st.global.f32 [%g+20], %f;\n"
                "ld.shared.f32 %f, [sh+4]; st.global.f32 [%g+24], %f; ret;"),
            1),
        CUDA_SUCCESS);
    assert_int_equal(got[0], 0x80000000);
    assert_int_equal(got[1], 0x80000000);
    assert_int_equal(got[2], 0);
    assert_int_equal(got[4], 0x80000001); /* the old value is what was there */
    assert_int_equal(got[5], 0x80000002);
    assert_int_equal(got[6], 0x80000002);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_vote_masks),          VGPU_TEST(test_masks_wait),
        VGPU_TEST(test_warp_barrier_parted), VGPU_TEST(test_warp_barrier_exit),
        VGPU_TEST(test_sync_behind_barrier), VGPU_TEST(test_many_groups),
        VGPU_TEST(test_count_in_parts),      VGPU_TEST(test_count_exit),
        VGPU_TEST(test_atomic_subnormals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
