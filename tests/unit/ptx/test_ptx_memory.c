/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory: backend.h's clauses on allocation and copies, and that no load, store or atomic of a
 * kernel reaches anything but live allocations and its own windows (PTX ISA, "State Spaces";
 * CUDA_ERROR_ILLEGAL_ADDRESS, _MISALIGNED_ADDRESS).
 */
#include "ptx_rig.h"

#include <stdio.h>
#include <string.h>

#include "ptx_memory.h"
#include "software.h"

static const char *const access_module =
    ".visible .entry ld(.param .u64 p, .param .u64 out) { .reg .b64 %a, %o; .reg .b32 %v;\n"
    "ld.param.u64 %a, [p]; ld.param.u64 %o, [out]; ld.global.u32 %v, [%a]; st.global.u32 [%o], %v; "
    "ret; }\n"
    ".visible .entry ldv4(.param .u64 p) { .reg .b64 %a; .reg .b32 %v<4>;\n"
    "ld.param.u64 %a, [p]; ld.global.v4.u32 {%v0,%v1,%v2,%v3}, [%a]; ret; }\n"
    ".visible .entry st(.param .u64 p) { .reg .b64 %a; ld.param.u64 %a, [p]; st.u64 [%a], %a; ret; "
    "}\n"
    ".visible .entry atom(.param .u64 p) { .reg .b64 %a; .reg .b32 %v; ld.param.u64 %a, [p];\n"
    "atom.global.add.u32 %v, [%a], 1; ret; }\n"
    ".visible .entry byte(.param .u64 p) { .reg .b64 %a; ld.param.u64 %a, [p]; st.global.u8 [%a], "
    "1; ret; }\n"
    ".visible .entry lane31(.param .u64 p) { .reg .b64 %a, %b; .reg .b32 %t; .reg .pred %q;\n"
    "ld.param.u64 %a, [p]; mov.u32 %t, %tid.x; mul.wide.u32 %b, %t, 4; add.u64 %a, %a, %b;\n"
    "st.global.u32 [%a], %t; ret; }\n"
    ".visible .entry guarded(.param .u64 p) { .reg .b64 %a; .reg .b32 %t; .reg .pred %q;\n"
    "ld.param.u64 %a, [p]; mov.u32 %t, %tid.x; setp.gt.u32 %q, %t, 1000; @%q st.global.u32 [%a], "
    "%t; ret; }\n"
    ".shared .align 8 .b8 sh[64];\n"
    ".visible .entry shared(.param .u64 p) { .reg .b64 %a, %b; ld.param.u64 %a, [p]; mov.u64 %b, "
    "sh;\n"
    "add.u64 %a, %a, %b; st.shared.u32 [%a], 1; ret; }\n"
    ".visible .entry shared32(.param .u32 p) { .reg .b32 %a, %b; ld.param.u32 %a, [p]; mov.u32 %b, "
    "sh;\n"
    "add.u32 %a, %a, %b; st.shared.u32 [%a], 1; ret; }\n"
    ".visible .entry sharedgen(.param .u64 p) { .reg .b64 %a, %b; ld.param.u64 %a, [p]; mov.u64 "
    "%b, sh;\n"
    "cvta.shared.u64 %b, %b; add.u64 %a, %a, %b; st.u32 [%a], 1; ret; }\n"
    ".visible .entry local(.param .u64 p) { .local .align 8 .b8 lo[16]; .reg .b64 %a, %b;\n"
    "ld.param.u64 %a, [p]; mov.u64 %b, lo; add.u64 %a, %a, %b; st.local.u32 [%a], 1; ret; }\n"
    ".visible .entry localgen(.param .u64 p) { .local .align 8 .b8 lo[16]; .reg .b64 %a, %b;\n"
    "ld.param.u64 %a, [p]; mov.u64 %b, lo; cvta.local.u64 %b, %b; add.u64 %a, %a, %b; st.u32 [%a], "
    "1; ret; }\n"
    ".visible .entry asglobal(.param .u64 p) { .reg .b64 %a, %b; ld.param.u64 %a, [p]; mov.u64 %b, "
    "sh;\n"
    "cvta.shared.u64 %b, %b; add.u64 %a, %a, %b; ld.global.u64 %a, [%a]; ret; }\n"
    ".const .align 4 .u32 konst[4] = {1,2,3,4};\n"
    ".visible .entry conststore(.param .u64 p) { .reg .b64 %a; mov.u64 %a, konst; st.u32 [%a], 9; "
    "ret; }\n"
    ".visible .entry paramread(.param .u64 p) { .reg .b64 %a, %b; .reg .b32 %t; ld.param.u64 %a, "
    "[p]; mov.b64 %b, p;\n"
    "add.u64 %a, %a, %b; ld.param.u32 %t, [%a]; ret; }\n";

/* Runs `kernel` with p, counted from an allocation of 1024 bytes or from 0, in a session of its
 * own. */
static CUresult run_one(const char *kernel, int64_t offset, bool from_base, char *why,
                        size_t why_size)
{
    struct rig r;
    uint64_t base, out;
    rig_open(&r, 1);
    assert_int_equal(r.o->mem_alloc(r.b, 1024, &base), CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 1024, &out), CUDA_SUCCESS);
    rig_load(&r, access_module, CUDA_SUCCESS);
    uint64_t v[2] = {(from_base ? base : 0) + (uint64_t)offset, out};
    CUresult rc = rig_launch(&r, kernel, 1, 32, 0, strcmp(kernel, "ld") == 0 ? 2 : 1, v);
    snprintf(why, why_size, "%s", vgpu_software_last_error(r.b));
    /* Sticky: everything but close says the same from now on. */
    if (rc != CUDA_SUCCESS) {
        uint64_t x, y;
        assert_int_equal(r.o->mem_alloc(r.b, 4, &x), rc);
        assert_int_equal(r.o->mem_free(r.b, base), rc);
        assert_int_equal(r.o->mem_info(r.b, &x, &y), rc);
        assert_int_equal(r.o->synchronize(r.b), rc);
        assert_int_equal(r.o->copy_dtoh(r.b, &x, base, 4), rc);
    }
    rig_close(&r);
    return rc;
}

static void expect(const char *kernel, int64_t offset, bool from_base, CUresult want)
{
    char why[256];
    CUresult got = run_one(kernel, offset, from_base, why, sizeof(why));
    if (got != want)
        print_error("%s at %+lld: %d, want %d (%s)\n", kernel, (long long)offset, (int)got,
                    (int)want, why);
    assert_int_equal(got, want);
    if (want != CUDA_SUCCESS) {
        assert_non_null(strstr(why, kernel));
        assert_non_null(strstr(why, "line "));
    }
}

#define OK  CUDA_SUCCESS
#define BAD CUDA_ERROR_ILLEGAL_ADDRESS
#define ODD CUDA_ERROR_MISALIGNED_ADDRESS

static void test_global_bounds(void **state)
{
    (void)state;
    expect("ld", 0, true, OK);
    expect("ld", 1020, true, OK);
    expect("ld", 1024, true, BAD);
    expect("ld", -4, true, BAD);
    expect("ldv4", 1008, true, OK);
    expect("ldv4", 1016, true, ODD);
    expect("ldv4", 1024, true, BAD);
    expect("st", 1016, true, OK);
    expect("st", 1024, true, BAD);
    expect("byte", 1023, true, OK);
    expect("byte", 1024, true, BAD);
    expect("byte", -1, true, BAD);
    expect("atom", 1020, true, OK);
    expect("atom", 1024, true, BAD);
    expect("lane31", 1024 - 128, true, OK);
    expect("lane31", 1024 - 124, true, BAD);
    /* The gap between two allocations. */
    expect("byte", 0x8000, true, BAD);
}

static void test_global_wild(void **state)
{
    (void)state;
    expect("ld", 0, false, BAD);
    expect("ld", 8, false, BAD);
    expect("ld", -4, false, BAD); /* 2^64 - 4: nothing may wrap */
    expect("ldv4", -16, false, BAD);
    expect("st", INT64_MIN, false, BAD);
    expect("st", 0x7fffffffffff8, false, BAD);
    expect("ld", 0x400000, false, BAD);
    expect("atom", 0x555555554000, false, BAD);
    expect("ld", (int64_t)(uintptr_t)access_module & ~3ll, false, BAD); /* a host address */
}

/* "addresses must be naturally aligned" */
static void test_alignment(void **state)
{
    (void)state;
    expect("ld", 2, true, ODD);
    expect("st", 4, true, ODD);
    expect("atom", 1, true, ODD);
    expect("shared", 2, false, ODD);
    expect("ldv4", 8, true, ODD);
}

/* A lane that its guard turns off touches nothing. */
static void test_guarded(void **state)
{
    (void)state;
    expect("guarded", 1, false, OK);
}

static void test_windows(void **state)
{
    (void)state;
    expect("shared", 0, false, OK);
    expect("shared", 60, false, OK);
    expect("shared", 64, false, BAD);
    expect("shared", -4, false, BAD);
    expect("shared", 1ll << 32, false, BAD);
    expect("shared32", 60, false, OK);
    expect("shared32", 64, false, BAD);
    expect("shared32", -4, false, BAD);
    expect("sharedgen", 60, false, OK);
    expect("sharedgen", 64, false, BAD);
    expect("sharedgen", -4, false, BAD);
    expect("local", 12, false, OK);
    expect("local", 16, false, BAD);
    expect("local", -4, false, BAD);
    expect("localgen", 12, false, OK);
    expect("localgen", 16, false, BAD);
    expect("localgen", -4, false, BAD);
    /* A shared address is none of .global: "the address must lie in that state space". */
    expect("asglobal", 0, false, BAD);
    expect("conststore", 0, false, BAD);
    expect("paramread", 4, false, OK);
    expect("paramread", 8, false, BAD);
    expect("paramread", -4, false, BAD);
}

/* Freed memory is gone for kernels and copies, and its address does not come back at once. */
static void test_use_after_free(void **state)
{
    (void)state;
    struct rig r;
    uint64_t a, b, out;
    uint32_t word = 0;
    rig_open(&r, 1);
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &a), OK);
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &out), OK);
    assert_int_equal(r.o->mem_free(r.b, a), OK);
    assert_int_equal(r.o->mem_free(r.b, a), CUDA_ERROR_INVALID_VALUE); /* twice */
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &b), OK);
    assert_int_not_equal(a, b);
    assert_int_equal(r.o->copy_dtoh(r.b, &word, a, 4), CUDA_ERROR_INVALID_VALUE);
    rig_load(&r, access_module, OK);
    assert_int_equal(rig_launch(&r, "ld", 1, 1, 0, 2, (uint64_t[]){a, out}), BAD);
    rig_close(&r);
}

/* backend.h: size 0, alignment, zeroed memory, exact start for free, ranges of copies */
static void test_allocation(void **state)
{
    (void)state;
    struct rig r;
    uint64_t a, b;
    uint8_t buf[64];
    rig_open(&r, 1);
    assert_int_equal(r.o->mem_alloc(r.b, 0, &a), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->mem_alloc(r.b, 100, &a), OK);
    assert_int_equal(r.o->mem_alloc(r.b, 100000, &b), OK);
    assert_true(a != 0 && a % 256 == 0 && b % 256 == 0);
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(r.o->copy_dtoh(r.b, buf, a, 64), OK);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(buf[i], 0);
    assert_int_equal(r.o->mem_free(r.b, a + 1), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->mem_free(r.b, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->copy_htod(r.b, a + 90, buf, 11), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->copy_htod(r.b, a + 90, buf, 10), OK);
    assert_int_equal(r.o->copy_htod(r.b, a - 1, buf, 2), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->copy_htod(r.b, a, buf, SIZE_MAX), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->mem_set(r.b, b, 7, 100001), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->mem_set(r.b, b, 7, 100000), OK);
    assert_int_equal(r.o->copy_dtod(r.b, a, b + 99950, 51), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->copy_dtod(r.b, a, b + 99950, 50), OK);
    assert_int_equal(r.o->copy_dtoh(r.b, buf, a + 49, 2), OK);
    assert_int_equal(buf[0], 7);
    assert_int_equal(buf[1], 0);
    assert_int_equal(r.o->copy_dtoh(r.b, buf, 12345, 0), OK);
    rig_close(&r);
}

/* The quota counts live allocations and module variables, and gives back what is freed. */
static void test_quota(void **state)
{
    (void)state;
    struct rig r;
    struct vgpu_backend_config config = {.threads = 1, .memory_bytes = 1 << 20};
    uint64_t a, b, free_bytes, total;
    rig_open_config(&r, &config);
    assert_int_equal(r.o->mem_alloc(r.b, (1 << 20) + 1, &a), CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(r.o->mem_alloc(r.b, UINT64_MAX, &a), CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(r.o->mem_alloc(r.b, 1 << 19, &a), OK);
    assert_int_equal(r.o->mem_info(r.b, &free_bytes, &total), OK);
    assert_int_equal(total, 1 << 20);
    assert_int_equal(free_bytes, 1 << 19);
    rig_load(&r, ".global .align 4 .b8 big[524289];", CUDA_ERROR_OUT_OF_MEMORY);
    rig_load(&r, ".global .align 4 .b8 big[262144]; .visible .entry k() { ret; }", OK);
    assert_int_equal(r.o->mem_alloc(r.b, (1 << 18) + 1, &b), CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(r.o->mem_alloc(r.b, 1 << 18, &b), OK);
    rig_unload(&r);
    assert_int_equal(r.o->mem_free(r.b, a), OK);
    assert_int_equal(r.o->mem_free(r.b, b), OK);
    assert_int_equal(r.o->mem_info(r.b, &free_bytes, &total), OK);
    assert_int_equal(free_bytes, 1 << 20);
    rig_close(&r);
}

/* Many allocations and frees in a fixed random order: addresses never overlap, nothing is lost. */
static void test_churn(void **state)
{
    (void)state;
    enum { SLOTS = 64 };
    struct rig r;
    uint64_t at[SLOTS] = {0}, size[SLOTS] = {0}, free_bytes, total;
    uint32_t x = 1;
    rig_open(&r, 1);
    for (unsigned i = 0; i < 5000; i++) {
        x = x * 1664525u + 1013904223u;
        unsigned s = x >> 26;
        if (at[s]) {
            uint64_t back = 0;
            assert_int_equal(r.o->copy_dtoh(r.b, &back, at[s], 8), OK);
            assert_int_equal(back, at[s]);
            assert_int_equal(r.o->mem_free(r.b, at[s]), OK);
            at[s] = 0;
        } else {
            size[s] = 8 + (x >> 8 & 0x1ffff);
            assert_int_equal(r.o->mem_alloc(r.b, size[s], &at[s]), OK);
            for (unsigned k = 0; k < SLOTS; k++)
                assert_true(k == s || !at[k] || at[k] + size[k] <= at[s] ||
                            at[s] + size[s] <= at[k]);
            assert_int_equal(r.o->copy_htod(r.b, at[s], &at[s], 8), OK);
        }
    }
    for (unsigned s = 0; s < SLOTS; s++)
        if (at[s])
            assert_int_equal(r.o->mem_free(r.b, at[s]), OK);
    assert_int_equal(r.o->mem_info(r.b, &free_bytes, &total), OK);
    assert_int_equal(free_bytes, total);
    rig_close(&r);
}

/*
 * Address space strewn with allocations: a search that has come to its end begins again at the
 * base, takes the first gap that is large enough, and what is dropped and made in between stays
 * apart and is found.
 */
static void test_strewn(void **state)
{
    (void)state;
    enum { N = 6000 };
    struct ptx_memory m;
    static uint64_t at[N];
    uint64_t got, more[2];
    uint32_t x = 7;
    vgpu_ptx_memory_init(&m, 1u << 30);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(vgpu_ptx_memory_alloc(&m, 256, false, &at[i]), OK);
        assert_true(at[i] == PTX_MEMORY_BASE + i * 2ull * PTX_MEMORY_STEP);
    }
    for (unsigned i = 1; i < N; i += 3)
        assert_int_equal(vgpu_ptx_memory_release(&m, at[i], false), OK);
    /* Two neighbours near the end: room for what needs three steps more. */
    assert_int_equal(vgpu_ptx_memory_release(&m, at[N - 4], false), OK);
    m.next = PTX_MEMORY_END - PTX_MEMORY_STEP;
    assert_int_equal(vgpu_ptx_memory_alloc(&m, 3 * PTX_MEMORY_STEP, false, &more[0]), OK);
    assert_true(more[0] == at[N - 5]);
    m.next = PTX_MEMORY_END - PTX_MEMORY_STEP;
    for (unsigned i = 1; i < N - 5; i += 3) {
        assert_int_equal(vgpu_ptx_memory_alloc(&m, 8, false, &got), OK);
        assert_true(got == at[i]);
    }
    assert_int_equal(vgpu_ptx_memory_alloc(&m, 8, false, &more[1]), OK);
    assert_true(more[1] == at[N - 2]);
    for (unsigned i = 0; i < N; i++) {
        assert_non_null(vgpu_ptx_memory_find(&m, at[i] + 7));
        if (i != N - 4) /* which is now within more[0] */
            assert_null(vgpu_ptx_memory_find(&m, at[i] - 1));
    }
    /* In any order, every second one; then the rest. */
    for (unsigned i = 0; i < N - 6; i++) {
        x = x * 1664525u + 1013904223u;
        unsigned k = x % (N - 6);
        uint64_t a = at[k];
        if (a && k % 2 == 0) {
            assert_int_equal(vgpu_ptx_memory_release(&m, a, false), OK);
            assert_null(vgpu_ptx_memory_find(&m, a));
            at[k] = 0;
        }
        if (k + 1 < N - 6 && at[k + 1])
            assert_true(vgpu_ptx_memory_find(&m, at[k + 1])->base == at[k + 1]);
    }
    for (unsigned i = 0; i < N; i++)
        if (at[i] && i != N - 5 && i != N - 4)
            assert_int_equal(vgpu_ptx_memory_release(&m, at[i], false), OK);
    assert_int_equal(vgpu_ptx_memory_release(&m, more[0], false), OK);
    assert_int_equal(m.count, 0);
    assert_int_equal(m.used_bytes, 0);
    assert_int_equal(m.piece_count, 0);
    vgpu_ptx_memory_free_all(&m);
}

static unsigned long address_space_pages(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages;
}

/* Large memory is made of huge pages: it is zero to its last byte, and goes back wholly. */
static void test_large(void **state)
{
    static const uint64_t sizes[] = {(4 << 20) - 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 123};
    struct ptx_memory m;
    (void)state;
    vgpu_ptx_memory_init(&m, 64 << 20);
    unsigned long before = 0;
    for (unsigned round = 0; round < 200; round++) {
        uint64_t size = sizes[round % 4], at;
        assert_int_equal(vgpu_ptx_memory_alloc(&m, size, false, &at), OK);
        uint8_t *host = vgpu_ptx_memory_range(&m, at, size);
        assert_non_null(host);
        assert_int_equal((uintptr_t)host % 4096, 0);
        for (uint64_t k = 0; k < size; k += 65521)
            assert_int_equal(host[k], 0);
        assert_int_equal(host[size - 1], 0);
        memset(host, 0xff, (size_t)size);
        assert_int_equal(vgpu_ptx_memory_release(&m, at, false), OK);
        if (round == 8)
            before = address_space_pages();
    }
    assert_true(address_space_pages() < before + 1024);
    vgpu_ptx_memory_free_all(&m);
}

/* Variables: initial values, addresses in initial values, module_global, .const readable, not to be
 * freed by mem_free */
static void test_variables(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at, size, target;
    rig_open(&r, 1);
    rig_load(&r,
             ".visible .global .align 4 .u32 table[2][2] = {{1, 2}, {3, -4}};\n"
             ".visible .global .f32 pi = 0f40490FDB;\n"
             ".visible .global .align 8 .u64 pointer = generic(table) + 8;\n"
             ".visible .const .align 2 .u16 words[] = {7, 8, 9};\n"
             ".visible .entry k(.param .u64 out) { .reg .b64 %o, %a; .reg .b32 %v; .reg .b16 %h;\n"
             "ld.param.u64 %o, [out]; ld.global.u64 %a, [pointer]; ld.u32 %v, [%a+4];\n"
             "st.global.u32 [%o], %v; ld.const.u16 %h, [words+4]; cvt.u32.u16 %v, %h;\n"
             "st.global.u32 [%o+4], %v; ret; }\n",
             OK);
    uint32_t table[4];
    assert_int_equal(r.o->module_global(r.b, r.m, "table", &at, &size), OK);
    assert_int_equal(size, 16);
    assert_int_equal(r.o->copy_dtoh(r.b, table, at, 16), OK);
    assert_int_equal(table[0], 1);
    assert_int_equal(table[3], (uint32_t)-4);
    assert_int_equal(r.o->mem_free(r.b, at), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(r.o->module_global(r.b, r.m, "pointer", &target, &size), OK);
    assert_int_equal(r.o->copy_dtoh(r.b, &target, target, 8), OK);
    assert_int_equal(target, at + 8);
    assert_int_equal(r.o->module_global(r.b, r.m, "absent", &at, &size), CUDA_ERROR_NOT_FOUND);
    uint64_t out;
    uint32_t got[2];
    assert_int_equal(r.o->mem_alloc(r.b, 8, &out), OK);
    assert_int_equal(rig_launch(&r, "k", 1, 1, 0, 1, &out), OK);
    assert_int_equal(r.o->copy_dtoh(r.b, got, out, 8), OK);
    assert_int_equal(got[0], (uint32_t)-4);
    assert_int_equal(got[1], 9);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_global_bounds), VGPU_TEST(test_global_wild), VGPU_TEST(test_alignment),
        VGPU_TEST(test_guarded),       VGPU_TEST(test_windows),     VGPU_TEST(test_use_after_free),
        VGPU_TEST(test_allocation),    VGPU_TEST(test_quota),       VGPU_TEST(test_churn),
        VGPU_TEST(test_strewn),        VGPU_TEST(test_large),       VGPU_TEST(test_strewn),
        VGPU_TEST(test_variables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
