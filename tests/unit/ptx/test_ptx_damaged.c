/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Modules that call, damaged at random with a fixed seed, and run when they still load: whatever
 * they do, the answer is a CUresult, and what the sanitizers watch stays whole.
 */
#include "ptx_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

static const char *const kernels[] = {"k", "calls", "shapes", "memory", "text", "coop"};

static uint64_t random_bits(void)
{
    static uint64_t x = 88172645463325252ull;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '%' || c == '$';
}

/* A word of the text, and how long it is. */
static size_t pick_word(const char *text, size_t n, size_t *len)
{
    size_t at = (size_t)(random_bits() >> 8) % n;
    while (at < n && !is_word(text[at]))
        at++;
    while (at > 0 && is_word(text[at - 1]))
        at--;
    *len = 0;
    while (at + *len < n && is_word(text[at + *len]))
        ++*len;
    return at;
}

/* One word in another's place: more of that still loads than of random bytes. */
static size_t swap_words(char *text, size_t n, size_t cap)
{
    char word[64];
    size_t len, with;
    size_t from = pick_word(text, n, &len), to;
    len = len < sizeof(word) ? len : sizeof(word);
    memcpy(word, text + from, len);
    to = pick_word(text, n, &with);
    if (n - with + len > cap)
        return n;
    memmove(text + to + len, text + to + with, n - to - with);
    memcpy(text + to, word, len);
    return n - with + len;
}

/* Loads and runs what is there; how many kernels ran to their end. */
static unsigned try_module(const char *text, size_t n)
{
    struct vgpu_backend_config config = {.threads = 1,
                                         .memory_bytes = 1 << 22,
                                         .launch_instructions = 100000,
                                         .printf_bytes = 4096,
                                         .heap_bytes = 1 << 16};
    struct rig r;
    unsigned ran = 0;
    rig_open_config(&r, &config);
    if (rig_load_raw(&r, text, n) != CUDA_SUCCESS) {
        rig_close(&r);
        return 0;
    }
    for (unsigned i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        const struct vgpu_kernel_info *info;
        uint8_t params[4096] = {0};
        uint64_t memory, lost;
        char out[512];
        struct vgpu_launch l = {.grid = {2, 1, 1},
                                .block = {40, 1, 1},
                                .params = params,
                                .cooperative = strcmp(kernels[i], "coop") == 0};
        if (r.o->module_kernel(r.b, r.m, kernels[i], &l.kernel, &info) != CUDA_SUCCESS ||
            r.o->mem_alloc(r.b, 4096, &memory) != CUDA_SUCCESS)
            continue;
        for (uint32_t k = 0; k < info->param_count; k++)
            memcpy(params + info->params[k].offset, &memory,
                   info->params[k].size < 8 ? 1 : sizeof(memory));
        l.params_bytes = info->param_bytes;
        ran += r.o->launch(r.b, &l) == CUDA_SUCCESS && r.o->synchronize(r.b) == CUDA_SUCCESS;
        vgpu_software_take_printf(r.b, out, sizeof(out), &lost);
    }
    rig_close(&r);
    return ran;
}

static void damage(const char *path, unsigned rounds)
{
    size_t bytes;
    unsigned ran = 0;
    char *text = rig_read(path, &bytes), *copy = malloc(bytes * 2);
    assert_non_null(copy);
    assert_true(try_module(text, bytes) > 0);
    for (unsigned k = 0; k < rounds; k++) {
        size_t n = bytes;
        memcpy(copy, text, bytes);
        for (unsigned hits = 0; hits < 1 + k % 3; hits++)
            n = swap_words(copy, n, bytes * 2);
        ran += try_module(copy, n);
    }
    assert_true(ran > 0);
    free(copy);
    free(text);
}

static void test_hand_written(void **state)
{
    (void)state;
    damage("tests/fixtures/ptx/flow.hand.ptx", 1500);
}

static void test_compiled(void **state)
{
    (void)state;
    damage("tests/fixtures/ptx/calls.nvcc-O0.ptx", 400);
    damage("tests/fixtures/ptx/calls.clang.ptx", 400);
    damage("tests/fixtures/ptx/coop.nvcc.ptx", 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_hand_written),
        VGPU_TEST(test_compiled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
