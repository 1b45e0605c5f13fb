/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that a guest made up: cut off, mutated, oversized, contradictory. Each must load or be
 * refused with a line and a reason, take bounded memory and time, and leave nothing behind (a
 * sanitizer watches). docs/software-backend.md.
 */
#include "ptx_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BAD CUDA_ERROR_INVALID_PTX

/* An exact-size copy, so that reading past it is seen. */
static CUresult load_exact(struct rig *r, const char *text, size_t bytes)
{
    char *copy = malloc(bytes ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    CUresult rc = rig_load_raw(r, copy, bytes);
    free(copy);
    if (rc == CUDA_SUCCESS) {
        rig_unload(r);
    } else {
        assert_null(r->m);
        assert_true(strlen(r->log) > 5 && strlen(r->log) < sizeof(r->log));
        for (const char *c = r->log; *c; c++)
            assert_true((unsigned char)*c >= ' ');
    }
    return rc;
}

static uint64_t memory_free(struct rig *r)
{
    uint64_t free_bytes, total;
    assert_int_equal(r->o->mem_info(r->b, &free_bytes, &total), CUDA_SUCCESS);
    return free_bytes;
}

/* Cut at every byte: no prefix of a module but one that ends between functions is a module. */
static void test_truncated(void **state)
{
    (void)state;
    static const char *const files[] = {"tests/fixtures/ptx/sgemm.nvcc.ptx",
                                        "tests/fixtures/ptx/reduce.clang.ptx"};
    struct rig r;
    rig_open(&r, 1);
    uint64_t before = memory_free(&r);
    for (unsigned f = 0; f < 2; f++) {
        size_t bytes;
        char *text = rig_read(files[f], &bytes);
        const char *first = strchr(text, '{');
        for (size_t n = 0; n <= bytes; n++) {
            CUresult rc = load_exact(&r, text, n);
            assert_true(rc == CUDA_SUCCESS || rc == BAD || rc == CUDA_ERROR_INVALID_IMAGE);
            /* Within the first kernel it cannot be whole. */
            if (n > (size_t)(first - text) && n < (size_t)(first - text) + 200)
                assert_int_equal(rc, BAD);
        }
        assert_int_equal(load_exact(&r, text, bytes), CUDA_SUCCESS);
        free(text);
    }
    assert_int_equal(memory_free(&r), before);
    rig_close(&r);
}

/* Random damage with a fixed seed; what still loads may also run without harm. */
static void test_mutated(void **state)
{
    (void)state;
    static const char *const files[] = {
        "tests/fixtures/ptx/sgemm.nvcc.ptx", "tests/fixtures/ptx/reduce.clang.ptx",
        "tests/fixtures/ptx/control.nvcc-O0.ptx", "tests/fixtures/ptx/vector_add.clang-O0.ptx"};
    static const char *const words[] = {"%r1",
                                        "{",
                                        "}",
                                        ";",
                                        "18446744073709551615",
                                        ".u64",
                                        "0f",
                                        "@",
                                        "%p1",
                                        "ret;",
                                        ".shared",
                                        "<",
                                        "[",
                                        "]",
                                        ".reg",
                                        "-",
                                        "v4",
                                        "\"",
                                        "/*",
                                        "%tid.",
                                        "::",
                                        "bra",
                                        ".param .b8 x[4294967295]"};
    uint64_t x = 0x123456789abcdefull;
    struct rig r;
    rig_open(&r, 1);
    uint64_t before = memory_free(&r);
    for (unsigned f = 0; f < 4; f++) {
        size_t bytes;
        char *text = rig_read(files[f], &bytes);
        char *copy = malloc(bytes + 64);
        for (unsigned k = 0; k < 1500; k++) {
            size_t n = bytes;
            memcpy(copy, text, bytes);
            for (unsigned hits = 0; hits < 1 + k % 4; hits++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                size_t at = (size_t)(x >> 20) % n;
                const char *w = words[(x >> 8) % (sizeof(words) / sizeof(words[0]))];
                switch (x & 3) {
                case 0:
                    copy[at] = (char)(x >> 56);
                    break;
                case 1: /* a word over what was there */
                    memcpy(copy + at, w, strlen(w) < n - at ? strlen(w) : n - at);
                    break;
                case 2: /* a piece moved */
                    memmove(copy + at, copy + (size_t)(x >> 30) % n,
                            n - (at > (size_t)(x >> 30) % n ? at : (size_t)(x >> 30) % n));
                    break;
                default: /* a piece lost */
                    memmove(copy + at, copy + at + (n - at) / 64, n - at - (n - at) / 64);
                    n -= (n - at) / 64;
                }
            }
            load_exact(&r, copy, n);
        }
        free(copy);
        free(text);
    }
    assert_int_equal(memory_free(&r), before);
    rig_close(&r);
}

static void refused(const char *text, CUresult want, const char *says)
{
    struct rig r;
    rig_open(&r, 1);
    CUresult rc = load_exact(&r, text, strlen(text));
    if (rc != want || !strstr(r.log, says))
        print_error("%s\n  gives %d '%s', want %d '%s'\n", text, (int)rc, r.log, (int)want, says);
    assert_int_equal(rc, want);
    assert_non_null(strstr(r.log, says));
    rig_close(&r);
}

#define IN_KERNEL(body)                                                                            \
    PTX_HEAD                                                                                       \
    ".visible .entry k(.param .u64 q) {\n.reg .b32 %r<9>; .reg .b64 %l<9>; .reg .pred %p<3>;"      \
    " .reg .b16 %h<3>; .reg .f32 %f<4>; .reg .f64 %d<4>;\n" body "\nret;\n}\n"

/* Header: .version, .target and .address_size as a compute capability 7.5 device takes them. */
static void test_header(void **state)
{
    (void)state;
    refused("", CUDA_ERROR_INVALID_IMAGE, "empty");
    refused("\x7f"
            "ELF\x02\x01\x01",
            CUDA_ERROR_INVALID_IMAGE, "malformed");
    refused("hello world", CUDA_ERROR_INVALID_IMAGE, "not a CUDA module");
    refused("// nothing\n", CUDA_ERROR_INVALID_IMAGE, ".version");
    refused(".target sm_75\n", CUDA_ERROR_INVALID_IMAGE, ".version");
    refused(".version 10.0\n.target sm_75\n", CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "10.0");
    refused(".version 7.0\n.version 7.0\n", BAD, "second");
    refused(".version 9.0\n.target sm_80\n", BAD, "sm_75");
    refused(".version 9.0\n.target sm_90a\n", BAD, "sm_90a");
    refused(".version 9.0\n.target sm_99999999999999\n", BAD, "sm_75");
    refused(".version 9.0\n.target compute_75\n", BAD, "sm_NN");
    refused(".version 9.0\n", BAD, ".target");
    refused(".version 9.0\n.target sm_75\n.address_size 32\n", BAD, "64");
    refused(".version 9.0\n.global .u32 x;\n", BAD, ".target");
}

static void test_statements(void **state)
{
    (void)state;
    refused(IN_KERNEL("frobnicate.u32 %r1, %r2;"), BAD, "line 6: 'frobnicate.u32 %r1, %r2'");
    refused(IN_KERNEL("add.u32 %r1, %r2;"), BAD, "operands");
    refused(IN_KERNEL("add.u32 %r1, %r2, %r3, %r4;"), BAD, "operands");
    refused(IN_KERNEL("add.zz.u32 %r1, %r2, %r3;"), BAD, "modifier");
    refused(IN_KERNEL("add %r1, %r2, %r3;"), BAD, "type");
    refused(IN_KERNEL("add.u32 %r1, %r2, %l3;"), BAD, "another width");
    refused(IN_KERNEL("add.u64 %l1, %l2, %r3;"), BAD, "narrower");
    refused(IN_KERNEL("add.u32 %h1, %r2, %r3;"), BAD, "narrower");
    refused(IN_KERNEL("add.u32 %r9, %r2, %r3;"), BAD, "%r9");
    refused(IN_KERNEL("add.u32 %r01, %r2, %r3;"), BAD, "%r01");
    refused(IN_KERNEL("add.u32 %p1, %r2, %r3;"), BAD, "destination");
    refused(IN_KERNEL("add.u32 5, %r2, %r3;"), BAD, "destination");
    refused(IN_KERNEL("add.u32 %r1, {%r2}, %r3;"), BAD, "operand");
    refused(IN_KERNEL("add.f32 %f1, %f2, 1;"), BAD, "floating-point");
    refused(IN_KERNEL("setp.eq.u32 %r1, %r2, %r3;"), BAD, "predicate");
    refused(IN_KERNEL("setp.ltu.u32 %p1, %r2, %r3;"), BAD, "comparison");
    refused(IN_KERNEL("@%r1 ret;"), BAD, "predicate");
    refused(IN_KERNEL("@%p3 ret;"), BAD, "%p3");
    refused(IN_KERNEL("bra nowhere;"), BAD, "nowhere");
    refused(IN_KERNEL("L: L: bra L;"), BAD, "already");
    refused(IN_KERNEL("{ L: add.u32 %r1, %r1, 1; } bra L;"), BAD, "L");
    refused(IN_KERNEL(".reg .b32 x; .reg .b32 x;"), BAD, "already");
    refused(IN_KERNEL("bar.sync 16;"), BAD, "0 to 15");
    refused(IN_KERNEL("ld.global.v4.f64 {%d0,%d1,%d2,%d3}, [%l1];"), BAD, "16 bytes");
    refused(IN_KERNEL("ld.global.v2.u32 {%r1,%r2,%r3}, [%l1];"), BAD, "registers");
    refused(IN_KERNEL("ld.global.u32 %r1, [%h1];"), BAD, "address");
    refused(IN_KERNEL("ld.global.u64 %r1, [%l1];"), BAD, "narrower");
    refused(IN_KERNEL("ld.param.u64 %l1, [q+4];"), BAD, "parameter");
    refused(IN_KERNEL("ld.param.u64 %l1, [q+8];"), BAD, "parameter");
    refused(IN_KERNEL("ld.param.u64 %l1, [q+18446744073709551608];"), BAD, "parameter");
    refused(IN_KERNEL("ld.param.u64 %l1, [q-8];"), BAD, "parameter");
    refused(IN_KERNEL("ld.shared.u64 %l1, [q];"), BAD, "state space");
    refused(IN_KERNEL("st.param.u64 [q], %l1;"), BAD, "store");
    refused(IN_KERNEL("atom.global.add.b32 %r1, [%l1], 1;"), BAD, "type");
    refused(IN_KERNEL("cvt.f32.s32 %f1, %r1;"), BAD, ".rn");
    refused(IN_KERNEL("cvt.s32.f32 %r1, %f1;"), BAD, ".rzi");
    refused(IN_KERNEL("wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1}, [%l1];"), BAD, "wmma");
    refused(IN_KERNEL("mov.u32 %r1, %nosuch;"), BAD, "%nosuch");
    refused(IN_KERNEL("mov.u32 %r1, 99999999999999999999;"), BAD, "line 6");
    refused(IN_KERNEL("mov.b64 %l1, {%r1,%r2,%r3};"), BAD, "elements");
    refused(IN_KERNEL("lop3.b32 %r1, %r2, %r3, %r4, 256;"), BAD, "255");
    refused(IN_KERNEL("/* no end"), BAD, "line");
    refused(IN_KERNEL("}"), BAD, "line");
    refused(PTX_HEAD ".visible .entry k() { ret; } .visible .entry k() { ret; }", BAD, "twice");
    refused(PTX_HEAD ".global .u32 k; .visible .entry k() { ret; }", BAD, "already");
    refused(
        PTX_HEAD
        ".extern .global .u32 x; .visible .entry k() { .reg .b32 %r; ld.global.u32 %r, [x]; ret; }",
        BAD, ".extern");
    refused(PTX_HEAD ".visible .entry k() .maxntid 2048 { ret; }", BAD, "threads");
    refused(PTX_HEAD ".frob x;", BAD, "frob");
    refused(PTX_HEAD ".tex .u64 t;", BAD, "tex");
}

/* Counts and sizes that a parser might believe. */
static void test_huge_counts(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    /* Registers that are only declared cost nothing. */
    rig_load(&r, ".visible .entry k() { .reg .b64 %r<18446744073709551615>; mov.b64 %r5, 1; ret; }",
             CUDA_SUCCESS);
    rig_unload(&r);
    rig_close(&r);
    refused(PTX_HEAD ".global .b64 x[18446744073709551615];", BAD, "memory");
    refused(PTX_HEAD ".global .b64 x[4294967296][4294967296];", BAD, "memory");
    refused(PTX_HEAD ".global .b8 x[1099511627776];", CUDA_ERROR_OUT_OF_MEMORY, "'x'");
    refused(PTX_HEAD ".global .b8 x[2] = {1,2,3};", BAD, "more initial values");
    refused(PTX_HEAD ".global .align 3 .b8 x[2];", BAD, "power of two");
    refused(PTX_HEAD ".global .align 1099511627776 .b8 x[2];", BAD, "power of two");
    refused(PTX_HEAD ".const .b8 x[65537];", BAD, "65536");
    refused(PTX_HEAD
            ".visible .entry k() { .shared .b8 x[49153]; .reg .b64 %a; mov.u64 %a, x; ret; }",
            BAD, "49152");
    refused(PTX_HEAD ".visible .entry k(.param .b8 x[4097]) { ret; }", BAD, "4096");
    refused(PTX_HEAD ".visible .entry k(.param .b64 x[18446744073709551615]) { ret; }", BAD,
            "memory");
}

/* `count` times `piece` between head and tail. */
static char *repeat(const char *head, const char *piece, size_t count, const char *tail,
                    size_t *bytes)
{
    size_t h = strlen(head), p = strlen(piece), t = strlen(tail);
    char *s = malloc(h + p * count + t + 1);
    assert_non_null(s);
    memcpy(s, head, h);
    for (size_t i = 0; i < count; i++)
        memcpy(s + h + i * p, piece, p);
    memcpy(s + h + p * count, tail, t + 1);
    *bytes = h + p * count + t;
    return s;
}

static void test_deep_and_long(void **state)
{
    (void)state;
    struct rig r;
    size_t n;
    char *s;
    rig_open(&r, 1);
    s = repeat(PTX_HEAD ".visible .entry k() {", "{", 100000, "", &n);
    assert_int_equal(load_exact(&r, s, n), BAD);
    assert_non_null(strstr(r.log, "nested"));
    free(s);
    s = repeat(PTX_HEAD ".visible .entry k() {", "{", 40, "", &n);
    assert_int_equal(load_exact(&r, s, n), BAD);
    free(s);
    s = repeat(PTX_HEAD ".section .x ", "{", 1000000, "", &n);
    assert_int_equal(load_exact(&r, s, n), BAD);
    free(s);
    s = repeat(PTX_HEAD ".global .u32 x[4] = ", "{", 1000000, "", &n);
    assert_int_equal(load_exact(&r, s, n), BAD);
    free(s);
    s = repeat(PTX_HEAD ".visible .entry k() { add.u32 ", "%r1,", 100000, "%r1; ret; }", &n);
    assert_int_equal(load_exact(&r, s, n), BAD);
    free(s);
    s = repeat(PTX_HEAD ".visible .entry k() { add", ".u32", 100000, " %r1; ret; }", &n);
    assert_int_equal(load_exact(&r, s, n), BAD);
    free(s);
    s = repeat(PTX_HEAD ".visible .entry k(.param .u32 a) { .reg .b32 ", "a", 1000000, "; ret; }",
               &n);
    assert_int_equal(load_exact(&r, s, n), CUDA_SUCCESS);
    free(s);
    s = repeat(PTX_HEAD, "\n", 15000000, "", &n);
    assert_int_equal(load_exact(&r, s, n), CUDA_SUCCESS);
    free(s);
    s = repeat(PTX_HEAD, " ", 17000000, "", &n);
    assert_int_equal(load_exact(&r, s, n), CUDA_ERROR_OUT_OF_MEMORY);
    free(s);
    rig_close(&r);
}

/* Decoded modules are charged to module_memory_bytes, refused beyond it, and their share comes
 * back. */
static void test_module_budget(void **state)
{
    (void)state;
    struct vgpu_backend_config config = {.threads = 1, .module_memory_bytes = 1 << 20};
    struct rig r;
    size_t n;
    rig_open_config(&r, &config);
    char *big = repeat(PTX_HEAD ".visible .entry k() { .reg .b32 %r<2>;", "add.u32 %r0, %r0, %r1;",
                       50000, "ret; }", &n);
    char *fits = repeat(PTX_HEAD ".visible .entry k() { .reg .b32 %r<2>;", "add.u32 %r0, %r0, %r1;",
                        2000, "ret; }", &n);
    size_t fits_n = n;
    assert_int_equal(load_exact(&r, big, strlen(big)), CUDA_ERROR_OUT_OF_MEMORY);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(load_exact(&r, fits, fits_n), CUDA_SUCCESS);
    /* Kept ones add up. */
    unsigned kept = 0;
    CUresult rc;
    while (kept < 100 && (rc = rig_load_raw(&r, fits, fits_n)) == CUDA_SUCCESS)
        kept++;
    assert_int_equal(rc, CUDA_ERROR_OUT_OF_MEMORY);
    assert_true(kept > 0 && kept < 20);
    free(big);
    free(fits);
    rig_close(&r);
}

/* Many kernels, labels, symbols and constants: time must grow with the text, not with its square
 * (the test has a limit). */
static void test_many(void **state)
{
    (void)state;
    struct vgpu_backend_config config = {.threads = 1, .module_memory_bytes = 1ull << 30};
    struct rig r;
    enum { N = 100000 };
    size_t cap = 16u << 20, n = 0;
    char *s = malloc(cap);
    assert_non_null(s);
    rig_open_config(&r, &config);
    n += (size_t)snprintf(s + n, cap - n, "%s.visible .entry k() { .reg .b32 %%r<%d>;\n", PTX_HEAD,
                          N);
    for (unsigned i = 0; i < N; i++)
        n += (size_t)snprintf(s + n, cap - n, "L%u: mov.u32 %%r%u, %u; bra L%u;\n", i, i, i,
                              N - 1 - i);
    n += (size_t)snprintf(s + n, cap - n, "ret; }\n");
    assert_int_equal(load_exact(&r, s, n), CUDA_SUCCESS);
    for (unsigned functions = 65535; functions <= N; functions += N - 65535) {
        n = (size_t)snprintf(s, cap, "%s", PTX_HEAD);
        for (unsigned i = 0; i < functions; i++)
            n += (size_t)snprintf(s + n, cap - n,
                                  ".func f%u() { .reg .b32 %%r; mov.u32 %%r, %u; ret; }\n", i, i);
        /* "65535 functions" is the limit */
        assert_int_equal(load_exact(&r, s, n),
                         functions < N ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
    }
    n = (size_t)snprintf(s, cap, "%s", PTX_HEAD);
    for (unsigned i = 0; i < N; i++)
        n += (size_t)snprintf(s + n, cap - n, ".global .u32 g%u = %u;\n", i, i);
    assert_int_equal(load_exact(&r, s, n), CUDA_ERROR_OUT_OF_MEMORY);
    free(s);
    rig_close(&r);
}

static double load_cpu_s(const uint64_t *values, unsigned n)
{
    struct vgpu_backend_config config = {.threads = 1, .module_memory_bytes = 1ull << 30};
    struct timespec from, to;
    struct rig r;
    size_t cap = 16u << 20, at = 0;
    char *s = malloc(cap);
    assert_non_null(s);
    rig_open_config(&r, &config);
    at += (size_t)snprintf(s, cap, "%s.visible .entry k() { .reg .b64 %%l;\n", PTX_HEAD);
    for (unsigned i = 0; i < n; i++)
        at += (size_t)snprintf(s + at, cap - at, "mov.b64 %%l,0x%llx;\n",
                               (unsigned long long)values[i]);
    at += (size_t)snprintf(s + at, cap - at, "ret; }\n");
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    assert_int_equal(load_exact(&r, s, at), CUDA_SUCCESS);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    rig_close(&r);
    free(s);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
}

/*
 * "in time linear in its text": constants that any unkeyed multiplicative hash of its usual
 * constants puts in one place cost what other constants cost. The bound is two orders of magnitude
 * above that and one below what a chain of them all would take.
 */
static void test_chosen_constants(void **state)
{
    (void)state;
    enum { N = 250000 };
    uint64_t golden = 0x9e3779b97f4a7c15ull, inverse = golden, x = 88172645463325252ull;
    for (unsigned i = 0; i < 6; i++)
        inverse *= 2 - golden * inverse;
    assert_true(golden * inverse == 1);
    uint64_t *plain = malloc(N * sizeof(*plain)), *chosen = malloc(N * sizeof(*chosen));
    assert_true(plain && chosen);
    for (unsigned i = 0; i < N; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        plain[i] = x;
        /* The product's upper half, of which the place is made, ends in zeros. */
        chosen[i] = (((uint64_t)(i >> 4) << 52 | (uint64_t)i << 8) * inverse) ^ 0x5555;
    }
    double usual = load_cpu_s(plain, N), flood = load_cpu_s(chosen, N);
    if (flood > 20 * usual + 2)
        print_error("%.2f s for chosen constants, %.2f s for random ones\n", flood, usual);
    assert_true(flood <= 20 * usual + 2);
    free(plain);
    free(chosen);
}

struct interrupter {
    struct rig *r;
    int done; /* atomic */
};

static void *interrupt_until_done(void *arg)
{
    struct interrupter *it = arg;
    while (!__atomic_load_n(&it->done, __ATOMIC_ACQUIRE)) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        it->r->o->interrupt(it->r->b);
    }
    return NULL;
}

/* "Ends running kernels as soon as possible with LAUNCH_TIMEOUT (sticky). Callable from any
 * thread": a load ends so, too, and leaves nothing behind. */
static void test_load_interrupted(void **state)
{
    (void)state;
    struct vgpu_backend_config config = {.threads = 1, .module_memory_bytes = 1ull << 30};
    struct rig r;
    struct interrupter it = {.r = &r};
    pthread_t thread;
    size_t n;
    uint64_t at;
    char *s = repeat(PTX_HEAD ".visible .entry k() { .reg .b32 %r<2>;", "add.u32 %r0, %r0, %r1;\n",
                     600000, "ret; }", &n);
    rig_open_config(&r, &config);
    /* Nothing is running: nothing is kept for the load. */
    r.o->interrupt(r.b);
    assert_int_equal(load_exact(&r, PTX_HEAD, strlen(PTX_HEAD)), CUDA_SUCCESS);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_until_done, &it), 0);
    CUresult rc = load_exact(&r, s, n);
    __atomic_store_n(&it.done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(rc, CUDA_ERROR_LAUNCH_TIMEOUT);
    assert_non_null(strstr(r.log, "interrupted"));
    assert_int_equal(r.o->mem_alloc(r.b, 4, &at), CUDA_ERROR_LAUNCH_TIMEOUT);
    rig_close(&r);
    free(s);
}

/* "OUT_OF_MEMORY beyond module_memory_bytes": modules without anything in them count, too. */
static void test_empty_modules(void **state)
{
    (void)state;
    struct vgpu_backend_config config = {.threads = 1, .module_memory_bytes = 1 << 20};
    struct rig r;
    unsigned kept = 0;
    CUresult rc = CUDA_SUCCESS;
    rig_open_config(&r, &config);
    while (kept < 20000 && (rc = rig_load_raw(&r, PTX_HEAD, strlen(PTX_HEAD))) == CUDA_SUCCESS)
        kept++;
    assert_int_equal(rc, CUDA_ERROR_OUT_OF_MEMORY);
    rig_close(&r);
}

/* What a toolchain writes around code is read over; a final NUL and what follows it are not text.
 */
static void test_tolerated(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    static const char text[] =
        ".version 7.0\n.target sm_75, debug\n.address_size 64\n"
        "// a comment\n/* another\n */\n.file 1 \"x.cu\", 1, 2\n.section .debug { .b8 1, 2 .b32 "
        "label }\n"
        ".pragma \"nounroll\";\n.visible .entry k() .minnctapersm 2 .maxnreg 32 {\n.loc 1 2 3\n"
        ".loc 1 2 3, function_name $L__info, inlined_at 1 2 3\n.pragma \"nounroll\"; "
        "ret;\n}\n\0garbage {{{";
    assert_int_equal(load_exact(&r, text, sizeof(text) - 1), CUDA_SUCCESS);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_truncated),        VGPU_TEST(test_mutated),
        VGPU_TEST(test_header),           VGPU_TEST(test_statements),
        VGPU_TEST(test_huge_counts),      VGPU_TEST(test_deep_and_long),
        VGPU_TEST(test_module_budget),    VGPU_TEST(test_many),
        VGPU_TEST(test_tolerated),        VGPU_TEST(test_chosen_constants),
        VGPU_TEST(test_load_interrupted), VGPU_TEST(test_empty_modules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
