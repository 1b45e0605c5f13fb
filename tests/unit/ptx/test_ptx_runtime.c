/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the device does for kernels: vprintf, malloc and free, __assertfail (CUDA C++ Programming
 * Guide, "Formatted Output", "Dynamic Global Memory Allocation", "Assertion"), and what hostile
 * kernels get for their trouble.
 */
#include "ptx_rig.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

#define VPRINTF ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n"
#define HEAP                                                                                       \
    ".extern .func (.param .b64 r) malloc(.param .b64 n);\n.extern .func free(.param .b64 p);\n"

static struct rig rig;

static size_t take(char *text, size_t size, uint64_t *lost)
{
    size_t n = vgpu_software_take_printf(rig.b, text, size - 1, lost);
    text[n] = 0;
    return n;
}

/* printf of a format and a buffer, both of which the test uploads; returns what vprintf did. */
static const char print_kernel[] = VPRINTF
    ".visible .entry k(.param .u64 f, .param .u64 a, .param .u64 out) { .reg .b64 %f, %a, %o;\n"
    ".reg .b32 %r; ld.param.u64 %f, [f]; ld.param.u64 %a, [a]; ld.param.u64 %o, [out];\n"
    "call.uni (%r), vprintf, (%f, %a); st.global.u32 [%o], %r; ret; }\n";

static uint64_t upload(const void *data, size_t bytes, size_t room)
{
    uint64_t at;
    assert_int_equal(rig.o->mem_alloc(rig.b, room, &at), CUDA_SUCCESS);
    assert_int_equal(rig.o->copy_htod(rig.b, at, data, bytes), CUDA_SUCCESS);
    return at;
}

static int32_t print(const char *format, const void *args, size_t bytes, char *text, size_t size)
{
    uint64_t lost, p[3] = {upload(format, strlen(format) + 1, strlen(format) + 1),
                           upload(args, bytes, bytes), upload(&lost, 4, 4)};
    int32_t result;
    assert_int_equal(rig_launch(&rig, "k", 1, 1, 0, 3, p), CUDA_SUCCESS);
    assert_int_equal(rig.o->copy_dtoh(rig.b, &result, p[2], 4), CUDA_SUCCESS);
    take(text, size, &lost);
    assert_int_equal(lost, 0);
    for (unsigned i = 0; i < 3; i++)
        rig.o->mem_free(rig.b, p[i]);
    return result;
}

/* Each conversion alone, against the host's own printf. */
static void test_conversions(void **state)
{
    (void)state;
    static const char *const ints[] = {
        "%d",  "%i", "%5d", "%-5d|", "%05d", "%+d",  "% d", "%.3d", "%8.3d", "%u",  "%x",
        "%#x", "%X", "%o",  "%#o",   "%hd",  "%hhd", "%hu", "%hhx", "%c",    "%3c", "%-3c|"};
    static const char *const longs[] = {"%ld", "%lld", "%lu",    "%llx",
                                        "%zu", "%jd",  "%20lld", "%td"};
    static const char *const doubles[] = {"%f",  "%.0f",  "%.10f",   "%e",  "%G",        "%g",
                                          "%a",  "%E",    "%A",      "%F",  "%10.2f",    "%-10.2f|",
                                          "%+f", "%#.0f", "%010.3f", "%lf", "%1000.900f"};
    static const int32_t values[] = {0, 1, -1, 65, 300, -32769, INT32_MAX, INT32_MIN};
    static const double reals[] = {0, -1.5, 3.14159265358979, 1e300, 1e-300, 123456789};
    char got[4096], want[4096];
    rig_open(&rig, 1);
    rig_load(&rig, print_kernel, CUDA_SUCCESS);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    for (size_t f = 0; f < sizeof(ints) / sizeof(ints[0]); f++) {
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            if (strchr(ints[f], 'c') && (uint8_t)values[v] == 0)
                continue; /* a NUL in the text, for strcmp */
            assert_int_equal(print(ints[f], &values[v], 4, got, sizeof(got)), 1);
            snprintf(want, sizeof(want), ints[f], values[v]);
            assert_string_equal(got, want);
        }
    }
    for (size_t f = 0; f < sizeof(longs) / sizeof(longs[0]); f++) {
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            long long wide = values[v] * 4000000000ll;
            assert_int_equal(print(longs[f], &wide, 8, got, sizeof(got)), 1);
            snprintf(want, sizeof(want), longs[f], wide);
            assert_string_equal(got, want);
        }
    }
    for (size_t f = 0; f < sizeof(doubles) / sizeof(doubles[0]); f++) {
        for (size_t v = 0; v < sizeof(reals) / sizeof(reals[0]); v++) {
            assert_int_equal(print(doubles[f], &reals[v], 8, got, sizeof(got)), 1);
            snprintf(want, sizeof(want), doubles[f], reals[v]);
            assert_string_equal(got, want);
        }
    }
#pragma GCC diagnostic pop
    rig_close(&rig);
}

/* Several arguments, each at a multiple of its size; strings; widths from arguments; what is no
 * conversion stays; the result is the number of arguments ("Formatted Output"). */
static void test_messages(void **state)
{
    (void)state;
    char got[4096];
    struct {
        int32_t a, width;
        double d;
        uint64_t s;
        int32_t c, precision;
        uint64_t t, null;
    } args = {.a = 7, .width = -4, .d = 2.5, .c = 'x', .precision = 3};
    rig_open(&rig, 1);
    rig_load(&rig, print_kernel, CUDA_SUCCESS);
    args.s = upload("hello", 6, 6);
    args.t = upload("world!", 6, 6); /* no NUL: the precision ends it */
    assert_int_equal(print("%*d|%.1f %8s %c %.*s %s %%\n", &args, sizeof(args), got, sizeof(got)),
                     8);
    /* the first argument is the width: 7 */
    assert_string_equal(got, "     -4|2.5    hello x wor (null) %\n");
    assert_int_equal(print("plain", &args, 4, got, sizeof(got)), 0);
    assert_string_equal(got, "plain");
    assert_int_equal(print("%n %k % % %", &args, 4, got, sizeof(got)), 0);
    assert_string_equal(got, "%n %k % %");
    uint64_t p[] = {0, 0, upload(&args, 4, 4)};
    int32_t result;
    assert_int_equal(rig_launch(&rig, "k", 1, 1, 0, 3, p), CUDA_SUCCESS);
    assert_int_equal(rig.o->copy_dtoh(rig.b, &result, p[2], 4), CUDA_SUCCESS);
    assert_int_equal(result, -1);
    rig_close(&rig);
}

/* Formats and pointers that lead out of memory are a kernel's illegal access. */
static void test_hostile_printf(void **state)
{
    (void)state;
    static const char *const formats[] = {
        "%d", "%s", "%ld", "%f", "%*d", "%.*f", "%c", "%d%d%d%d%d%d%d%d%d", "%s%n%s",
    };
    for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        rig_open(&rig, 1);
        rig_load(&rig, print_kernel, CUDA_SUCCESS);
        /* The arguments: 8 bytes, a pointer to nowhere; or none at all. */
        uint64_t wild = 0x1234567890, f = upload(formats[i], strlen(formats[i]) + 1, 64);
        uint64_t p[] = {f, i < 7 && strcmp(formats[i], "%s") ? wild * 8 : upload(&wild, 8, 8), f};
        assert_int_equal(rig_launch(&rig, "k", 1, 1, 0, 3, p), CUDA_ERROR_ILLEGAL_ADDRESS);
        rig_close(&rig);
    }
    /* A format without an end, at the end of its memory; one at an address of nothing. */
    for (unsigned i = 0; i < 2; i++) {
        rig_open(&rig, 1);
        rig_load(&rig, print_kernel, CUDA_SUCCESS);
        uint64_t p[] = {upload("aaaa", 4, 4), 0, 0};
        p[0] = i ? 8 : p[0];
        assert_int_equal(rig_launch(&rig, "k", 1, 1, 0, 3, p), CUDA_ERROR_ILLEGAL_ADDRESS);
        rig_close(&rig);
    }
    /* Enormous widths, and a format that is long and prints nothing: bounded, and no fault. */
    rig_open(&rig, 1);
    rig_load(&rig, print_kernel, CUDA_SUCCESS);
    size_t n = 4u << 20;
    char *big = malloc(n), *got = malloc(n);
    assert_true(big && got);
    uint64_t zero[64] = {0};
    print("%999999999d%99999999999999999999s%.999999999f", zero, sizeof(zero), got, n);
    assert_true(strlen(got) < 16384);
    memset(big, '-', n);
    big[0] = '%';
    big[n - 1] = 0;
    print(big, zero, 8, got, n);
    memset(big, 'x', n - 1);
    print(big, zero, 8, got, n);
    assert_int_equal(strlen(got), 16384);
    free(big);
    free(got);
    rig_close(&rig);
}

/* Text waits, up to the limit; whole messages are lost beyond it, and counted; what is taken makes
 * room. Threads of many blocks do not mix their lines. */
static void test_fifo(void **state)
{
    (void)state;
    static const char text[] = VPRINTF
        ".global .align 1 .b8 line[16] = {116, 104, 114, 101, 97, 100, 32, 37, 48, 52, 100, 10};\n"
        ".visible .entry k() { .local .align 8 .b8 args[8]; .reg .b64 %f, %a; .reg .b32 %t, %c;\n"
        "mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mad.lo.u32 %t, %c, 64, %t;\n"
        "st.local.u32 [args], %t; mov.u64 %a, args; cvta.local.u64 %a, %a; mov.u64 %f, line;\n"
        "call (_), vprintf, (%f, %a); ret; }\n";
    struct vgpu_backend_config config = {.threads = 3, .printf_bytes = 100 * 12 + 5};
    char got[4096];
    uint64_t lost;
    bool seen[128] = {false};
    rig_open_config(&rig, &config);
    rig_load(&rig, text, CUDA_SUCCESS);
    assert_int_equal(rig_launch(&rig, "k", 2, 64, 0, 0, NULL), CUDA_SUCCESS);
    assert_int_equal(take(got, 13, &lost), 12);
    assert_int_equal(lost, 28);
    assert_int_equal(take(got + 12, sizeof(got) - 12, &lost), 99 * 12);
    assert_int_equal(lost, 0);
    for (unsigned i = 0; i < 100; i++) {
        unsigned t = 0;
        assert_int_equal(sscanf(got + 12 * i, "thread %4u\n", &t), 1);
        assert_true(t < 128 && !seen[t]);
        seen[t] = true;
    }
    assert_int_equal(rig_launch(&rig, "k", 1, 64, 0, 0, NULL), CUDA_SUCCESS);
    assert_int_equal(take(got, sizeof(got), &lost), 64 * 12);
    assert_memory_equal(got, "thread 0000\nthread 0001\n", 24); /* lanes in order */
    assert_int_equal(take(got, sizeof(got), &lost), 0);
    rig_close(&rig);
}

/* Every thread gets memory of its own, 16-byte aligned, that stays its own. */
static void test_heap(void **state)
{
    (void)state;
    static const char text[] = HEAP
        ".visible .entry k(.param .u64 out) { .reg .b64 %o, %l, %p, %n; .reg .b32 %t, %c, %v;\n"
        ".reg .pred %q; mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mad.lo.u32 %t, %c, 64, %t;\n"
        "ld.param.u64 %o, [out]; mul.wide.u32 %l, %t, 8; add.u64 %o, %o, %l;\n"
        "and.b32 %v, %t, 7; mad.lo.u32 %v, %v, 24, 8; cvt.u64.u32 %n, %v;\n"
        "call (%p), malloc, (%n); setp.eq.u64 %q, %p, 0; @%q trap;\n"
        "st.u32 [%p], %t; add.u64 %l, %p, %n; st.u32 [%l+-4], %t; st.global.u64 [%o], %p; ret; }\n"
        ".visible .entry check(.param .u64 in) { .reg .b64 %o, %l, %p; .reg .b32 %t, %c, %v;\n"
        ".reg .pred %q; mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mad.lo.u32 %t, %c, 64, %t;\n"
        "ld.param.u64 %o, [in]; mul.wide.u32 %l, %t, 8; add.u64 %o, %o, %l;\n"
        "ld.global.u64 %p, [%o]; ld.u32 %v, [%p]; setp.ne.u32 %q, %v, %t; @%q trap;\n"
        "and.b32 %v, %t, 7; mad.lo.u32 %v, %v, 24, 4; cvt.u64.u32 %l, %v; add.u64 %l, %l, %p;\n"
        "ld.u32 %v, [%l]; setp.ne.u32 %q, %v, %t; @%q trap;\n"
        "call free, (%p); ret; }\n";
    enum { N = 1024 };
    uint64_t out, got[N], before, after, total;
    rig_open(&rig, 3);
    assert_int_equal(rig.o->mem_info(rig.b, &before, &total), CUDA_SUCCESS);
    rig_load(&rig, text, CUDA_SUCCESS);
    /* The heap is part of the quota: 8 MiB by default. */
    assert_int_equal(rig.o->mem_info(rig.b, &after, &total), CUDA_SUCCESS);
    assert_int_equal(before - after, 8 << 20);
    assert_int_equal(rig.o->mem_alloc(rig.b, sizeof(got), &out), CUDA_SUCCESS);
    for (unsigned round = 0; round < 20; round++) {
        /* What a launch allocates is there for the next one. */
        assert_int_equal(rig_launch(&rig, "k", N / 64, 64, 0, 1, &out), CUDA_SUCCESS);
        assert_int_equal(rig.o->copy_dtoh(rig.b, got, out, sizeof(got)), CUDA_SUCCESS);
        for (unsigned i = 0; i < N; i++)
            assert_int_equal(got[i] % 16, 0);
        assert_int_equal(rig_launch(&rig, "check", N / 64, 64, 0, 1, &out), CUDA_SUCCESS);
    }
    /* It is not the host's to free. */
    assert_int_equal(rig.o->mem_free(rig.b, got[0] & ~0xffffull), CUDA_ERROR_INVALID_VALUE);
    rig_close(&rig);
}

#define HEAP_KERNEL(body)                                                                          \
    HEAP ".visible .entry k(.param .u64 out) { .reg .b64 %o, %p, %q, %n; .reg .b32 %v; .reg "      \
         ".pred %c;\nld.param.u64 %o, [out]; mov.u64 %n, 0;\n" body                                \
         "\nst.global.u64 [%o], %n; ret; }\n"

/* Too much, nothing, until it is full, all of it again: malloc answers 0 or memory. */
static void test_heap_limits(void **state)
{
    (void)state;
    struct vgpu_backend_config config = {.threads = 1, .heap_bytes = 100000};
    uint64_t out, got;
    static const char text[] = HEAP_KERNEL(
        "call (%p), malloc, (-1); setp.ne.u64 %c, %p, 0; @%c trap;\n"
        "call (%p), malloc, (100001); setp.ne.u64 %c, %p, 0; @%c trap;\n"
        "call (%p), malloc, (0); setp.ne.u64 %c, %p, 0; @%c trap; call free, (0);\n"
        "call (%p), malloc, (100000); setp.eq.u64 %c, %p, 0; @%c trap;\n"
        "call (%q), malloc, (1); setp.ne.u64 %c, %q, 0; @%c trap; call free, (%p);\n"
        "mov.u64 %o, 0;\n"
        "more: call (%p), malloc, (16); setp.eq.u64 %c, %p, 0; @%c bra full; st.u64 [%p], %o;\n"
        "mov.u64 %o, %p; add.u64 %n, %n, 1; bra more;\n"
        "full: setp.eq.u64 %c, %o, 0; @%c bra empty; ld.u64 %q, [%o]; call free, (%o);\n"
        "mov.u64 %o, %q; bra full;\n"
        "empty: call (%p), malloc, (100000); setp.eq.u64 %c, %p, 0; @%c trap; call free, (%p);\n"
        "ld.param.u64 %o, [out];");
    rig_open_config(&rig, &config);
    rig_load(&rig, text, CUDA_SUCCESS);
    assert_int_equal(rig.o->mem_alloc(rig.b, 8, &out), CUDA_SUCCESS);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig_launch(&rig, "k", 1, 1, 0, 1, &out), CUDA_SUCCESS);
        assert_int_equal(rig.o->copy_dtoh(rig.b, &got, out, 8), CUDA_SUCCESS);
        assert_int_equal(got, 100000 / 16);
    }
    rig_close(&rig);
    /* A heap beyond the quota is refused when the module is loaded, which leaves nothing behind. */
    config = (struct vgpu_backend_config){.threads = 1, .memory_bytes = 1 << 20};
    rig_open_config(&rig, &config);
    char all[4096];
    int n = snprintf(all, sizeof(all), "%s%s", PTX_HEAD, text);
    assert_int_equal(rig_load_raw(&rig, all, (size_t)n), CUDA_ERROR_OUT_OF_MEMORY);
    assert_non_null(strstr(rig.log, "heap"));
    assert_int_equal(rig.o->mem_info(rig.b, &got, &out), CUDA_SUCCESS);
    assert_int_equal(got, 1 << 20);
    rig_close(&rig);
}

/* free of what malloc did not give, twice, in the middle: an illegal address, and the bookkeeping
 * is out of a kernel's reach. */
static void test_heap_abuse(void **state)
{
    (void)state;
    static const char *const bad[] = {
        HEAP_KERNEL("call free, (1);"),
        HEAP_KERNEL("call free, (-16);"),
        HEAP_KERNEL("call free, (%o);"),
        HEAP_KERNEL("call (%p), malloc, (64); call free, (%p); call free, (%p);"),
        HEAP_KERNEL("call (%p), malloc, (64); add.u64 %p, %p, 16; call free, (%p);"),
        HEAP_KERNEL("call (%p), malloc, (64); add.u64 %p, %p, 1; call free, (%p);"),
        HEAP_KERNEL("call (%p), malloc, (64); add.u64 %p, %p, 64; call free, (%p);"),
        HEAP_KERNEL("call (%p), malloc, (64); sub.u64 %p, %p, 16; call free, (%p);"),
        HEAP_KERNEL("call (%p), malloc, (64); st.u8 [%p+8388608], 1;"),
        HEAP_KERNEL("call (%p), malloc, (64); st.u8 [%p+-1], 1;"),
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t out;
        rig_open(&rig, 1);
        rig_load(&rig, bad[i], CUDA_SUCCESS);
        assert_int_equal(rig.o->mem_alloc(rig.b, 8, &out), CUDA_SUCCESS);
        CUresult rc = rig_launch(&rig, "k", 1, 1, 0, 1, &out);
        if (rc != CUDA_ERROR_ILLEGAL_ADDRESS)
            print_error("%s: %d\n", bad[i], (int)rc);
        assert_int_equal(rc, CUDA_ERROR_ILLEGAL_ADDRESS);
        rig_close(&rig);
    }
}

/* A failed assertion says where and who, and is CUDA_ERROR_ASSERT for ever; its text can still be
 * taken. Pointers to nowhere are an illegal access as anywhere. */
static void test_assert(void **state)
{
    (void)state;
    static const char text[] =
        ".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d,\n"
        ".param .b64 e);\n"
        ".visible .entry k(.param .u64 what) { .reg .b64 %a; .reg .b32 %t; .reg .pred %p;\n"
        "ld.param.u64 %a, [what]; mov.u32 %t, %tid.x; setp.ne.u32 %p, %t, 35; @%p ret;\n"
        "add.u64 %a, %a, 0; call __assertfail, (%a, %a, 42, %a, 1); ret; }\n";
    char got[512];
    uint64_t lost, at;
    rig_open(&rig, 1);
    rig_load(&rig, text, CUDA_SUCCESS);
    at = upload("n<%s", 5, 5);
    assert_int_equal(rig_launch(&rig, "k", 1, 64, 0, 1, &at), CUDA_ERROR_ASSERT);
    assert_int_equal(rig.o->synchronize(rig.b), CUDA_ERROR_ASSERT);
    take(got, sizeof(got), &lost);
    assert_string_equal(
        got, "n<%s:42: n<%s: block: [0,0,0], thread: [35,0,0] Assertion `n<%s` failed.\n");
    assert_non_null(strstr(vgpu_software_last_error(rig.b), "assertion"));
    rig_close(&rig);
    rig_open(&rig, 1);
    rig_load(&rig, text, CUDA_SUCCESS);
    at = 12345;
    assert_int_equal(rig_launch(&rig, "k", 1, 64, 0, 1, &at), CUDA_ERROR_ILLEGAL_ADDRESS);
    rig_close(&rig);
}

/* Through a pointer they are functions like any other. */
static void test_pointers(void **state)
{
    (void)state;
    static const char text[] =
        HEAP ".visible .entry k(.param .u64 out) { .reg .b64 %o, %p, %f; ld.param.u64 %o, [out];\n"
             "x: .callprototype (.param .b64 _) _ (.param .b64 _); mov.u64 %f, malloc;\n"
             "y: .callprototype _ (.param .b64 _);\n"
             "call (%p), %f, (64), x; st.u32 [%p+60], 1; mov.u64 %f, free; call %f, (%p), y;\n"
             "st.global.u64 [%o], 5; ret; }\n";
    uint64_t out, got = 0;
    rig_open(&rig, 1);
    rig_load(&rig, text, CUDA_SUCCESS);
    assert_int_equal(rig.o->mem_alloc(rig.b, 8, &out), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&rig, "k", 1, 1, 0, 1, &out), CUDA_SUCCESS);
    assert_int_equal(rig.o->copy_dtoh(rig.b, &got, out, 8), CUDA_SUCCESS);
    assert_int_equal(got, 5);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_conversions), VGPU_TEST(test_messages), VGPU_TEST(test_hostile_printf),
        VGPU_TEST(test_fifo),        VGPU_TEST(test_heap),     VGPU_TEST(test_heap_limits),
        VGPU_TEST(test_heap_abuse),  VGPU_TEST(test_assert),   VGPU_TEST(test_pointers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
