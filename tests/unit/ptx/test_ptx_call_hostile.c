/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls that no compiler writes: refused when loaded, with line and reason
 * (docs/software-backend.md, "Functions"); recursion without an end; stacks of any size.
 */
#include "ptx_call_text.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

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

static void refused(const char *module, const char *why)
{
    rig_open(&rig, 1);
    rig_load(&rig, module, CUDA_ERROR_INVALID_PTX);
    if (!strstr(rig.log, why)) {
        print_error("'%s' does not say '%s': %s\n", rig.log, why, module);
        fail();
    }
    rig_close(&rig);
}

/* What is wrong with a call is known when the module is loaded. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {".extern .func far(.param .b32 x);" KERNEL("", "call far, (%t);"), "'far'"},
        {".extern .func (.param .b32 r) cudaDeviceSynchronize();" KERNEL(
             "", "call (%v), cudaDeviceSynchronize;"),
         "'cudaDeviceSynchronize'"},
        {".func far(.param .b32 x);" KERNEL("", "mov.u64 %g, far;"), "'far'"},
        {".func far(); .global .u64 x = far;", "'far'"},
        {SQUARE KERNEL("", "call (%v), square, (%t, %t);"), "parameters"},
        {SQUARE KERNEL("", "call (%v), square;"), "parameters"},
        {SQUARE KERNEL("", "call square, (%t);"), "results"},
        {SQUARE KERNEL("", "call (%v, %w), square, (%t);"), "results"},
        {SQUARE KERNEL("", "call (%l), square, (%t);"), "size"},
        {SQUARE KERNEL("", "call (%v), square, (%l);"), "size"},
        {SQUARE KERNEL("", "{ .param .b8 a[5]; call (%v), square, (a); }"), "size"},
        {SQUARE KERNEL("", "{ .param .b16 a; call (%v), square, (a); }"), "size"},
        {SQUARE KERNEL("", "call (%v), square, (0d3ff0000000000000);"), "size"},
        {SQUARE KERNEL("", "call (%v), square, (_);"), "value"},
        {SQUARE KERNEL("", "call (1), square, (%t);"), "number"},
        {SQUARE KERNEL("", "call (%p), square, (%t);"), "call takes"},
        {SQUARE KERNEL("", "call (%v), square, (out);"), "call takes"},
        {SQUARE KERNEL("", "call (%v), square, (zzz);"), "not declared"},
        {SQUARE KERNEL("", "call (%v), cube, (%t);"), "'cube'"},
        {KERNEL("", "call k, (%o);"), "'k'"},
        {KERNEL("", "mov.u64 %g, k;"), "not declared"},
        {KERNEL("", "call (%v), %t, (%t), x;"), "'%t'"},
        {KERNEL("", "call (%v), %g, (%t);"), "prototype"},
        {KERNEL("", "x: .branchtargets y; y: call (%v), %g, (%t), x;"), "belongs behind"},
        {KERNEL("", "x: call (%v), %g, (%t), x;"), "belongs behind"},
        {KERNEL("", "x: .callprototype _ (.param .b32 _); call (%v), %g, (%t), x;"), "results"},
        {SQUARE KERNEL("", "x: .callprototype _ (.param .b64 _); call (%v), square, (%t), x;"),
         "prototype"},
        {SQUARE ".func f();" KERNEL("", "x: .calltargets square, f;"), "signature"},
        {KERNEL("", "x: .calltargets k;"), "declared before"},
        {SQUARE ".func (.param .b64 r) square(.param .b32 x);", "other parameters"},
        {".func f(.param .b32 x); .func f() { ret; }", "other parameters"},
        {SQUARE SQUARE, "twice"},
        {".func f() { ret; } .entry f() { ret; }", "already declared"},
        {".func f(.param .b8 x[]) { ret; }", "bytes"},
        {".func f(.param .b8 x[4097]) { ret; }", "bytes"},
        {".func f(.param .b32 x, .param .b32 x) { ret; }", "already declared"},
        {".func f(.reg .pred %p) { ret; }", "not supported"},
        {".func (.param .b32 r f() { ret; }", ""},
        {".func (.param .b32 r", "')'"},
        {".func f(); .alias g, f;", "declared before"},
        {".func f(); .func g(); .alias g, f;", "alias"},
        {".func f(.param .b32 x) { ret; } .func g(); .alias g, f;", "alias"},
        {".func f(.param .b32 x) { .reg .b32 %r; ld.param.u32 %r, [x+4]; ret; }", "beyond"},
        {".func f(.param .b32 x) { .reg .b32 %r; ld.param.u32 %r, [x+-4]; ret; }", "beyond"},
        {".func f(.param .b64 x) { .reg .b32 %r; ld.param.u32 %r, [x+2]; ret; }", "misaligned"},
        {KERNEL("", "{ .param .b64 x; mov.u64 %l, x; }"), "no address"},
        {KERNEL("", "st.param.b64 [out], %l;"), "cannot store"},
        {KERNEL("", "brx.idx %t, k;"), ".branchtargets"},
        {KERNEL("", "x: .branchtargets nowhere; brx.idx %t, x;"), "'nowhere'"},
        {KERNEL("", "brx.idx %t, x; x: .branchtargets y; y:"), ".branchtargets"},
        {KERNEL("", "alloca.u64 %l, 4, 3;"), "power of two"},
        {KERNEL("", "alloca.f32 %v, 4, 4;"), "not for this type"},
        {".extern .func (.param .b32 r) vprintf(.param .b64 a);" KERNEL(
             "", "call (%v), vprintf, (%l);"),
         "other parameters"},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i].text, bad[i].why);
    /* What is declared and not used may be missing. */
    rig_open(&rig, 1);
    rig_load(&rig, ".extern .func far(.param .b32 x);" SQUARE, CUDA_SUCCESS);
    rig_close(&rig);
}

/* Recursion without an end, on every kind of stack: a sticky error, soon, whatever it takes. */
static void test_runaway(void **state)
{
    (void)state;
    static const char *const bad[] = {
        ".func f() { call f; ret; }\n" KERNEL("", "call f;"),
        ".func g(); .func f() { call g; ret; } .func g() { call f; }\n" KERNEL("", "call f;"),
        ".func f(.param .b64 p) { .reg .b64 %p; ld.param.u64 %p, [p];\n"
        "x: .callprototype _ (.param .b64 _); call %p, (%p), x; ret; }\n" KERNEL(
            "", "mov.u64 %g, f; call f, (%g);"),
        ".func f() { .local .b8 x[1000]; .reg .b64 %a; mov.u64 %a, x; call f; ret; }\n" KERNEL(
            "", "call f;"),
        ".func f() { .reg .b64 %a; alloca.u64 %a, 1000, 16; call f; ret; }\n" KERNEL("", "call f;"),
        KERNEL("", "x: alloca.u64 %l, 1000, 16; bra x;"),
        KERNEL("", "alloca.u64 %l, -1, 16;"),
        KERNEL("", "alloca.u64 %l, 0xfffffffffffffff1, 4096;"),
        KERNEL("", "stackrestore.u64 -1;"),
        ".func f() { .local .align 4096 .b8 x[16]; .reg .b64 %a; mov.u64 %a, x; call f; }\n" KERNEL(
            "", "call f;"),
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rig_open(&rig, 1);
        CUresult rc = run_on(bad[i], 64);
        if (rc != CUDA_ERROR_HARDWARE_STACK_ERROR)
            print_error("%s: %d\n", bad[i], (int)rc);
        assert_int_equal(rc, CUDA_ERROR_HARDWARE_STACK_ERROR);
        assert_non_null(strstr(vgpu_software_last_error(rig.b), "stack"));
        uint64_t at;
        assert_int_equal(rig.o->mem_alloc(rig.b, 256, &at), CUDA_ERROR_HARDWARE_STACK_ERROR);
        rig_close(&rig);
    }
}

static int done;

static void *interrupt_soon(void *arg)
{
    struct rig *r = arg;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        r->o->interrupt(r->b);
    }
    return NULL;
}

/* Calls that branch out without a loop are as endless as one: `interrupt` ends them. */
static void test_interrupted_calls(void **state)
{
    (void)state;
    pthread_t thread;
    rig_open(&rig, 1);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, &rig), 0);
    CUresult rc = run_on(FIB KERNEL("", CALL1("%v", "fib", "60")), 32);
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(rc, CUDA_ERROR_LAUNCH_TIMEOUT);
    rig_close(&rig);
}

/* The stack is as deep as the session's configuration says. */
static void test_stack_size(void **state)
{
    (void)state;
    static const char text[] =
        ".func (.param .b32 r) down(.param .b32 n) { .reg .b32 %n; .reg .pred %p;\n"
        "ld.param.u32 %n, [n]; setp.eq.u32 %p, %n, 0; @%p bra done; sub.u32 %n, %n, 1;\n" CALL1(
            "%n", "down",
            "%n") "add.u32 %n, %n, 1;\n"
                  "done: st.param.b32 [r], %n; ret; }\n" KERNEL("", CALL1("%v", "down", "2000"));
    assert_int_equal(run(text, 32), CUDA_ERROR_HARDWARE_STACK_ERROR);
    struct vgpu_backend_config config = {.threads = 1, .stack_bytes = 128 << 10};
    rig_open_config(&rig, &config);
    assert_int_equal(run_on(text, 32), CUDA_SUCCESS);
    assert_int_equal(got[31], 2000);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_refused),
        VGPU_TEST(test_runaway),
        VGPU_TEST(test_interrupted_calls),
        VGPU_TEST(test_stack_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
