/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every kernel of tests/fixtures, as nvcc and clang compiled it, on the software backend against
 * plain C: what docs/software-backend.md says, "everything a compiler emits". Blocks run on two
 * threads, at each instruction set level.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "software.h"
#include "vgpu_test.h"

static const struct vgpu_backend_ops *const ops = &vgpu_backend_software;

static struct vgpu_backend *open_session(const char *level)
{
    struct vgpu_backend_config config = {.threads = 2};
    struct vgpu_backend *b;
    char why[128];
    assert_int_equal(ops->open(&config, &b, why, sizeof(why)), CUDA_SUCCESS);
    if (vgpu_software_set_level(b, level) != CUDA_SUCCESS) {
        ops->close(b);
        return NULL;
    }
    return b;
}

static uint64_t free_memory(struct vgpu_backend *b)
{
    uint64_t free_bytes = 0, total_bytes;
    return ops->mem_info(b, &free_bytes, &total_bytes) == CUDA_SUCCESS ? free_bytes : 0;
}

/* Answers whether all is as it has to be. */
static bool run_one(struct vgpu_backend *b, const struct vgpu_fixture *f, unsigned compiler,
                    const char *level)
{
    const char *root = getenv("VGPU_SOURCE");
    struct vgpu_fixture_result result;
    size_t bytes;
    char *text = vgpu_fixture_read(root ? root : ".", f, compiler, &bytes);
    if (!text) {
        print_error("%s.%s.ptx: %s\n", f->file, vgpu_fixture_compilers[compiler], strerror(errno));
        return false;
    }
    uint64_t before = free_memory(b);
    bool ok = vgpu_fixture_run(ops, b, f, text, bytes, &result);
    /* The heap of device malloc stays when a kernel has used it, but no second run takes more. */
    if (ok && free_memory(b) != before) {
        before = free_memory(b);
        ok = vgpu_fixture_run(ops, b, f, text, bytes, &result) && free_memory(b) == before;
    }
    if (!ok)
        print_error("%s (%s, %s): %s (%s)\n", f->kernel, vgpu_fixture_compilers[compiler], level,
                    result.ok ? "memory is not given back" : result.message,
                    vgpu_software_last_error(b));
    free(text);
    return ok;
}

static void run_all(const char *level)
{
    size_t count;
    unsigned wrong = 0;
    const struct vgpu_fixture *const *all = vgpu_fixtures(&count);
    struct vgpu_backend *b = open_session(level);
    if (!b)
        skip(); /* not on this host */
    for (size_t i = 0; i < count; i++) {
        for (unsigned c = 0; c < VGPU_FIXTURE_COMPILERS; c++) {
            if (!(all[i]->compilers >> c & 1))
                continue;
            wrong += !run_one(b, all[i], c, level);
            if (ops->synchronize(b) != CUDA_SUCCESS) { /* sticky: the next one starts afresh */
                ops->close(b);
                b = open_session(level);
                assert_non_null(b);
            }
        }
    }
    ops->close(b);
    assert_int_equal(wrong, 0);
}

static void test_best_level(void **state)
{
    (void)state;
    run_all("avx2");
}

static void test_base_level(void **state)
{
    (void)state;
    run_all("base");
}

/* 25 kinds at least, from both compilers. */
static void test_breadth(void **state)
{
    (void)state;
    size_t count, both = 0;
    const struct vgpu_fixture *const *all = vgpu_fixtures(&count);
    for (size_t i = 0; i < count; i++)
        both += (all[i]->compilers & FIXTURE_BOTH) == FIXTURE_BOTH;
    assert_true(both >= 25);
}

/* The comparison itself: results that are off are called wrong. */
static void ref_wrong(void *const *data)
{
    ((uint32_t *)data[0])[63] = 1;
}
static void ref_wrong_input(void *const *data)
{
    (void)data;
}
static void test_wrong_is_found(void **state)
{
    (void)state;
    struct vgpu_backend *b = open_session("base");
    struct vgpu_fixture_result result;
    static const char text[] =
        ".version 7.0\n.target sm_75\n.address_size 64\n"
        ".visible .entry k(.param .u64 p) { .reg .b64 %p; ld.param.u64 %p, [p];\n"
        "cvta.to.global.u64 %p, %p; st.global.u32 [%p+8], 3; ret; }";
    struct vgpu_fixture f = {.kernel = "k",
                             .block = {1},
                             .args = {{.role = FIXTURE_OUT, .type = FIXTURE_U32, .count = 64}},
                             .reference = ref_wrong};
    assert_non_null(b);
    assert_false(vgpu_fixture_run(ops, b, &f, text, sizeof(text), &result));
    assert_string_equal(result.step, "compare");
    assert_true(result.max_error == 3.0);
    assert_string_equal(result.message, "parameter 0, element 2: 3, want 0");
    f.args[0].role = FIXTURE_IN; /* and an input that the kernel has changed */
    f.reference = ref_wrong_input;
    assert_false(vgpu_fixture_run(ops, b, &f, text, sizeof(text), &result));
    f.args[0].type = FIXTURE_F32; /* too far off for the tolerance */
    f.tolerance = 1e-50;
    assert_false(vgpu_fixture_run(ops, b, &f, text, sizeof(text), &result));
    f.args[0].count = 2; /* out of bounds */
    assert_false(vgpu_fixture_run(ops, b, &f, text, sizeof(text), &result));
    assert_int_equal(result.rc, CUDA_ERROR_ILLEGAL_ADDRESS);
    ops->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_breadth),
        VGPU_TEST(test_wrong_is_found),
        VGPU_TEST(test_best_level),
        VGPU_TEST(test_base_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
