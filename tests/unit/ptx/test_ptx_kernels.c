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

/*
 * What the backend may not have yet: while the probe is refused, a fixture whose text has the word
 * must be refused, too; nothing else may be. A row goes when its feature is there.
 */
static const struct pending {
    const char *word, *probe;
} pending[] = {
    {"\tcall", ".func f() { ret; } .visible .entry k() { call f; ret; }"},
    {"_ZL3mix4pairj_param_0;", ".func f(.param .b32 p) { .reg .b64 %a; mov.b64 %a, p; ret; }"
                               " .visible .entry k() { ret; }"},
    {"fma.rn.f16x2", ".visible .entry k() { .reg .b32 %r; mov.b32 %r, 0;"
                     " fma.rn.f16x2 %r, %r, %r, %r; ret; }"},
};
#define PENDING (sizeof(pending) / sizeof(pending[0]))

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

static bool loads(struct vgpu_backend *b, const char *probe)
{
    char text[512], log[128];
    struct vgpu_backend_module *m;
    int n =
        snprintf(text, sizeof(text), ".version 7.0\n.target sm_75\n.address_size 64\n%s", probe);
    if (ops->module_load(b, text, (size_t)n, &m, log, sizeof(log)) != CUDA_SUCCESS)
        return false;
    assert_int_equal(ops->module_unload(b, m), CUDA_SUCCESS);
    return true;
}

/* Fixtures that call the device's own functions wait for those to do something, too. */
static bool lacks_functions(struct vgpu_backend *b, const char *text)
{
    static const char probe[] =
        ".version 7.0\n.target sm_75\n.address_size 64\n"
        ".extern .func (.param .b64 r) malloc (.param .b64 n);\n"
        ".visible .entry k(.param .u64 out) { .reg .b64 %a, %p; ld.param.u64 %a, [out];\n"
        "mov.b64 %p, 8; { .param .b64 n; .param .b64 r; st.param.b64 [n], %p;\n"
        "call.uni (r), malloc, (n); ld.param.b64 %p, [r]; } st.global.b64 [%a], %p; ret; }";
    struct vgpu_backend_module *m;
    const struct vgpu_kernel_info *info;
    struct vgpu_launch l = {.grid = {1, 1, 1}, .block = {1, 1, 1}, .params_bytes = 8};
    uint64_t out, left, total;
    char log[128];
    if (!strstr(text, ".extern .func"))
        return false;
    if (ops->module_load(b, probe, sizeof(probe) - 1, &m, log, sizeof(log)) != CUDA_SUCCESS)
        return true;
    assert_int_equal(ops->mem_alloc(b, 8, &out), CUDA_SUCCESS);
    assert_int_equal(ops->module_kernel(b, m, "k", &l.kernel, &info), CUDA_SUCCESS);
    l.params = &out;
    assert_int_equal(ops->launch(b, &l), CUDA_SUCCESS);
    assert_int_equal(ops->synchronize(b), CUDA_SUCCESS);
    assert_int_equal(ops->mem_free(b, out), CUDA_SUCCESS);
    assert_int_equal(ops->module_unload(b, m), CUDA_SUCCESS);
    /* Where malloc does something the session has a heap now, for good. */
    assert_int_equal(ops->mem_info(b, &left, &total), CUDA_SUCCESS);
    return left == total;
}

static bool is_pending(struct vgpu_backend *b, const char *text)
{
    for (size_t i = 0; i < PENDING; i++)
        if (strstr(text, pending[i].word) && !loads(b, pending[i].probe))
            return true;
    return false;
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
    bool refused = is_pending(b, text);
    if (!refused && lacks_functions(b, text)) {
        free(text);
        return true;
    }
    uint64_t before = free_memory(b);
    bool ok = vgpu_fixture_run(ops, b, f, text, bytes, &result);
    /* The heap of device malloc stays when a kernel has used it, but no second run takes more. */
    if (ok && free_memory(b) != before) {
        before = free_memory(b);
        ok = vgpu_fixture_run(ops, b, f, text, bytes, &result) && free_memory(b) == before;
    }
    if (refused)
        ok = !ok && strcmp(result.step, "load") == 0 && result.rc == CUDA_ERROR_INVALID_PTX;
    if (!ok)
        print_error("%s (%s, %s): %s (%s)\n", f->kernel, vgpu_fixture_compilers[compiler], level,
                    !result.ok ? result.message
                    : refused  ? "not refused"
                               : "memory is not given back",
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
