/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole programs from real compilers (tests/fixtures/ptx: nvcc 13 and clang 14, optimised and not)
 * against plain C. Blocks run on several threads, so this is also what a thread sanitizer should
 * watch.
 */
#include "ptx_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

static const char *const flavours[] = {"nvcc", "nvcc-O0", "clang", "clang-O0"};
#define FLAVOURS (sizeof(flavours) / sizeof(flavours[0]))

static void load_fixture(struct rig *r, const char *name, const char *flavour)
{
    char path[256];
    size_t bytes;
    snprintf(path, sizeof(path), "tests/fixtures/ptx/%s.%s.ptx", name, flavour);
    char *text = rig_read(path, &bytes);
    CUresult rc = rig_load_raw(r, text, bytes);
    if (rc != CUDA_SUCCESS)
        print_error("%s: %s\n", path, r->log);
    free(text);
    assert_int_equal(rc, CUDA_SUCCESS);
}

static uint64_t upload(struct rig *r, const void *data, size_t bytes)
{
    uint64_t at;
    assert_int_equal(r->o->mem_alloc(r->b, bytes, &at), CUDA_SUCCESS);
    if (data)
        assert_int_equal(r->o->copy_htod(r->b, at, data, bytes), CUDA_SUCCESS);
    return at;
}

static float small(uint32_t i)
{
    return (float)((i * 2654435761u) >> 20) / 512.0f - 4.0f;
}

static void test_vector_add(void **state)
{
    (void)state;
    enum { N = 10007 };
    float *a = malloc(N * 4), *b = malloc(N * 4), *c = malloc(N * 4);
    for (unsigned i = 0; i < N; i++) {
        a[i] = small(i);
        b[i] = small(i + 12345);
    }
    for (unsigned f = 0; f < FLAVOURS; f++) {
        struct rig r;
        rig_open(&r, 3);
        load_fixture(&r, "vector_add", flavours[f]);
        uint64_t p[] = {upload(&r, a, N * 4), upload(&r, b, N * 4), upload(&r, NULL, N * 4), N};
        assert_int_equal(rig_launch(&r, "vector_add", (N + 255) / 256, 256, 0, 4, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, c, p[2], N * 4), CUDA_SUCCESS);
        for (unsigned i = 0; i < N; i++)
            assert_int_equal(bits_of(c[i]), bits_of(a[i] + b[i]));
        rig_close(&r);
    }
    free(a);
    free(b);
    free(c);
}

static void test_saxpy(void **state)
{
    (void)state;
    enum { N = 5000 };
    float *x = malloc(N * 4), *y = malloc(N * 4), *got = malloc(N * 4);
    for (unsigned i = 0; i < N; i++) {
        x[i] = small(i);
        y[i] = small(i * 7 + 3);
    }
    for (unsigned f = 0; f < FLAVOURS; f++) {
        struct rig r;
        rig_open(&r, 2);
        load_fixture(&r, "saxpy", flavours[f]);
        uint64_t p[] = {bits_of(2.7f), upload(&r, x, N * 4), upload(&r, y, N * 4), N};
        assert_int_equal(rig_launch(&r, "saxpy", (N + 127) / 128, 128, 0, 4, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, got, p[2], N * 4), CUDA_SUCCESS);
        /* One rounding where the compiler contracted, two where it did not; nothing else is right.
         */
        for (unsigned i = 0; i < N; i++) {
            volatile float product = 2.7f * x[i];
            uint32_t once = bits_of(fmaf(2.7f, x[i], y[i])), twice = bits_of(product + y[i]);
            assert_true(bits_of(got[i]) == once || bits_of(got[i]) == twice);
        }
        rig_close(&r);
    }
    free(x);
    free(y);
    free(got);
}

static void sgemm(const char *kernel, unsigned tile, unsigned n)
{
    size_t bytes = (size_t)n * n * 4;
    float *a = malloc(bytes), *b = malloc(bytes), *c = malloc(bytes);
    for (unsigned i = 0; i < n * n; i++) {
        a[i] = small(i);
        b[i] = small(i + 99);
    }
    for (unsigned f = 0; f < FLAVOURS; f++) {
        struct rig r;
        rig_open(&r, 2);
        load_fixture(&r, "sgemm", flavours[f]);
        struct {
            uint64_t a, b, c;
            uint32_t n;
        } p = {upload(&r, a, bytes), upload(&r, b, bytes), upload(&r, NULL, bytes), n};
        struct vgpu_launch l = {.grid = {(n + tile - 1) / tile, (n + tile - 1) / tile, 1},
                                .block = {tile, tile, 1},
                                .params = &p,
                                .params_bytes = 28};
        const struct vgpu_kernel_info *info;
        assert_int_equal(r.o->module_kernel(r.b, r.m, kernel, &l.kernel, &info), CUDA_SUCCESS);
        assert_int_equal(info->param_bytes, 28);
        assert_int_equal(r.o->launch(r.b, &l), CUDA_SUCCESS);
        assert_int_equal(r.o->synchronize(r.b), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, c, p.c, bytes), CUDA_SUCCESS);
        for (unsigned y = 0; y < n; y++) {
            for (unsigned x = 0; x < n; x++) {
                float fused = 0, plain = 0;
                for (unsigned k = 0; k < n; k++) {
                    volatile float product = a[y * n + k] * b[k * n + x];
                    fused = fmaf(a[y * n + k], b[k * n + x], fused);
                    plain = plain + product;
                }
                uint32_t got = bits_of(c[y * n + x]);
                if (got != bits_of(fused) && got != bits_of(plain)) {
                    print_error("%s.%s: c[%u][%u] is %g, want %g\n", kernel, flavours[f], y, x,
                                (double)c[y * n + x], (double)fused);
                    fail();
                }
            }
        }
        rig_close(&r);
    }
    free(a);
    free(b);
    free(c);
}

static void test_sgemm_naive(void **state)
{
    (void)state;
    sgemm("sgemm_naive", 16, 50);
}

static void test_sgemm_tiled(void **state)
{
    (void)state;
    sgemm("sgemm_tiled_16", 16, 64);
    sgemm("sgemm_tiled_32", 32, 64);
}

/* Integer atomics give the exact sum; float ones do, too, for integers this small, in whatever
 * order they come. */
static void test_reduce(void **state)
{
    (void)state;
    enum { N = 100000 };
    float *x = malloc(N * 4);
    uint32_t *u = malloc(N * 4), want = 0;
    uint64_t sum = 0;
    for (unsigned i = 0; i < N; i++) {
        x[i] = (float)(i % 17);
        sum += i % 17;
        u[i] = i * 2654435761u;
        want += u[i];
    }
    for (unsigned f = 0; f < FLAVOURS; f++) {
        struct rig r;
        uint32_t got;
        rig_open(&r, 4);
        load_fixture(&r, "reduce", flavours[f]);
        uint64_t p[] = {upload(&r, x, N * 4), upload(&r, NULL, 4), N};
        assert_int_equal(rig_launch(&r, "reduce_sum", 20, 256, 0, 3, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, &got, p[1], 4), CUDA_SUCCESS);
        assert_int_equal(got, bits_of((float)sum));
        uint64_t q[] = {upload(&r, u, N * 4), upload(&r, NULL, 4), N};
        assert_int_equal(rig_launch(&r, "reduce_sum_u32", 20, 256, 0, 3, q), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, &got, q[1], 4), CUDA_SUCCESS);
        assert_int_equal(got, want);
        rig_close(&r);
    }
    free(x);
    free(u);
}

static void test_spin_and_fault(void **state)
{
    (void)state;
    for (unsigned f = 0; f < FLAVOURS; f++) {
        struct rig r;
        uint32_t got[64];
        rig_open(&r, 2);
        load_fixture(&r, "control", flavours[f]);
        uint64_t p[] = {upload(&r, NULL, 256), 1000};
        assert_int_equal(rig_launch(&r, "spin", 2, 32, 0, 2, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, got, p[0], 256), CUDA_SUCCESS);
        for (uint32_t t = 0; t < 64; t++) {
            uint32_t x = t;
            for (uint32_t i = 0; i < 1000; i++)
                x = (x * 1664525u + 1013904223u) ^ i;
            assert_int_equal(got[t], x);
        }
        assert_int_equal(rig_launch(&r, "fault", 1, 1, 0, 2, (uint64_t[]){p[0], 252}),
                         CUDA_SUCCESS);
        assert_int_equal(rig_launch(&r, "fault", 1, 1, 0, 2, (uint64_t[]){p[0], 256}),
                         CUDA_ERROR_ILLEGAL_ADDRESS);
        rig_close(&r);
    }
}

static int fib(int n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

/* Structures by value, recursion, pointers: calls.cu in plain C. */
static int want_calls(int i, int n)
{
    char c[5] = {0, 1, 2, 3, 4};
    c[n & 3] = (char)n;
    return i + n + (int)(i * 0.5 * n) + c[1] + fib(i & 7) + (i & 1 ? i * 3 : i + 3);
}

static void test_calls(void **state)
{
    (void)state;
    for (unsigned f = 0; f < FLAVOURS; f++) {
        enum { N = 200 };
        struct rig r;
        int got[N];
        char text[8192], want[8192] = "";
        uint64_t lost;
        rig_open(&r, 1);
        load_fixture(&r, "calls", flavours[f]);
        uint64_t p[] = {upload(&r, NULL, sizeof(got)), 5};
        assert_int_equal(rig_launch(&r, "calls", 1, N, 0, 2, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, got, p[0], sizeof(got)), CUDA_SUCCESS);
        for (int i = 0; i < N; i++)
            assert_int_equal(got[i], want_calls(i, 5));
        assert_int_equal(rig_launch(&r, "shapes", 1, N, 0, 1, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, got, p[0], sizeof(got)), CUDA_SUCCESS);
        for (int i = 0; i < N; i++)
            assert_int_equal(got[i], i & 1 ? i * i : i + 1);
        assert_int_equal(rig_launch(&r, "memory", 1, N, 0, 1, p), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, got, p[0], sizeof(got)), CUDA_SUCCESS);
        for (int i = 0; i < N; i++)
            assert_int_equal(got[i], i * (i + 1) / 2);
        assert_int_equal(rig_launch(&r, "text", 1, N, 0, 1, (uint64_t[]){100}), CUDA_SUCCESS);
        size_t n = vgpu_software_take_printf(r.b, text, sizeof(text) - 1, &lost), at = 0;
        text[n] = 0;
        for (int i = 0; i < 100; i++)
            at += (size_t)snprintf(want + at, sizeof(want) - at,
                                   "thread %d of many: %.2f 1099511627776\n", i, i * 1.5);
        assert_string_equal(text, want);
        rig_close(&r);
    }
}

/* A grid whose blocks wait for each other, more of them than threads: cooperative groups as nvcc
 * has them. */
static void test_grid_sync(void **state)
{
    (void)state;
    for (unsigned f = 0; f < FLAVOURS; f++) {
        enum { BLOCKS = 24, ROUNDS = 5 };
        struct rig r;
        uint32_t got[BLOCKS * 64];
        const struct vgpu_kernel_info *info;
        rig_open(&r, 2);
        load_fixture(&r, "coop", flavours[f]);
        struct {
            uint64_t sums, out;
            uint32_t rounds;
        } p = {upload(&r, NULL, ROUNDS * 4), upload(&r, NULL, sizeof(got)), ROUNDS};
        struct vgpu_launch l = {.grid = {BLOCKS, 1, 1},
                                .block = {64, 1, 1},
                                .params = &p,
                                .params_bytes = 20,
                                .cooperative = true};
        assert_int_equal(r.o->module_kernel(r.b, r.m, "coop", &l.kernel, &info), CUDA_SUCCESS);
        assert_int_equal(r.o->mem_set(r.b, p.out, 0xff, sizeof(got)), CUDA_SUCCESS);
        assert_int_equal(r.o->launch(r.b, &l), CUDA_SUCCESS);
        assert_int_equal(r.o->synchronize(r.b), CUDA_SUCCESS);
        assert_int_equal(r.o->copy_dtoh(r.b, got, p.out, sizeof(got)), CUDA_SUCCESS);
        for (unsigned i = 0; i < BLOCKS * 64; i++)
            assert_int_equal(got[i], 0);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_vector_add),  VGPU_TEST(test_saxpy),     VGPU_TEST(test_sgemm_naive),
        VGPU_TEST(test_sgemm_tiled), VGPU_TEST(test_reduce),    VGPU_TEST(test_spin_and_fault),
        VGPU_TEST(test_calls),       VGPU_TEST(test_grid_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
