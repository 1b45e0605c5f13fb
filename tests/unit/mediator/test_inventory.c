/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the probe says and which pool gets what: docs/worker.md (--probe), docs/mediator.md. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mediator/inventory.h"
#include "vgpu_test.h"

#define U0 "00000000-0000-0000-0000-0000000000a0"
#define U1 "11111111-1111-1111-1111-1111111111a1"
#define U2 "22222222-2222-2222-2222-2222222222a2"
#define CUDA(n, u, more)                                                                           \
    "{\"backend\": \"cuda\", \"gpu\": " #n ", \"name\": \"NVIDIA X\", \"uuid\": \"" u              \
    "\", \"total_memory_bytes\": 80000000000" more "}"

static int add(struct vgpu_inventory *v, const char *line)
{
    return vgpu_inventory_add(v, line, strlen(line));
}

static void test_line(void **state)
{
    struct vgpu_inventory v = {.count = 0};
    (void)state;
    assert_int_equal(add(&v, CUDA(3, U1, ", \"compute\": \"9.0\", \"clock_khz\": 1, \"x\": true")),
                     0);
    assert_int_equal(
        add(&v, "{\"gpu\":0,\"backend\":\"software\",\"name\":\"a\\\"b\\u0041\\u00e9\"}"), 0);
    assert_int_equal(add(&v, CUDA(4, U2, ", \"unusable\": \"it can reach pageable memory\"")), 0);
    assert_int_equal(v.count, 3);
    assert_string_equal(v.gpus[0].backend, "cuda");
    assert_int_equal(v.gpus[0].ordinal, 3);
    assert_string_equal(v.gpus[0].name, "NVIDIA X");
    assert_true(v.gpus[0].memory_bytes == 80000000000ull);
    assert_true(v.gpus[0].has_uuid && v.gpus[0].uuid[15] == 0xa1);
    assert_string_equal(v.gpus[0].unusable, "");
    assert_string_equal(v.gpus[1].name, "a\"bA?");
    assert_false(v.gpus[1].has_uuid);
    assert_string_equal(v.gpus[2].unusable, "it can reach pageable memory");
}

/* Every shorter part of a right line is refused, and so is what is no line of the probe. */
static void test_malformed(void **state)
{
    static const char *const lines[] = {
        "",
        "x",
        "{}",
        "[]",
        "{\"backend\": \"cuda\"}",
        "{\"gpu\": 1}",
        "{\"backend\": \"cuda\", \"gpu\": -1}",
        "{\"backend\": \"cuda\", \"gpu\": 1} x",
        "{\"backend\": \"cuda\", \"gpu\": 1, \"a\": [1]}",
        "{\"backend\": \"cuda\", \"gpu\": 1, \"a\": {\"b\": 1}}",
        "{\"backend\": \"cuda\", \"gpu\": 1, \"uuid\": \"7\"}",
        "{\"backend\": \"cuda\", \"gpu\": 4294967295}",
        "{\"backend\": \"a name that is far too long\", \"gpu\": 1}",
        "{\"backend\": \"cuda\", \"gpu\": 1, \"total_memory_bytes\": 1e9}",
        "{\"backend\": \"cuda\", \"gpu\": 1, \"name\": \"\\u12\"}",
        "{\"backend\": \"cuda\", \"gpu\": 1,}",
    };
    static const char right[] = CUDA(0, U0, ", \"unusable\": \"a\\u0041\\\"b\"");
    struct vgpu_inventory v = {.count = 0};
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (add(&v, lines[i]) != -EINVAL)
            fail_msg("'%s' was taken", lines[i]);
    for (size_t n = 0; n < sizeof(right) - 1; n++)
        assert_int_equal(vgpu_inventory_add(&v, right, n), -EINVAL);
    assert_int_equal(v.count, 0);
    for (unsigned i = 0; i < VGPU_INVENTORY_MAX; i++)
        assert_int_equal(add(&v, right), 0);
    assert_int_equal(add(&v, right), -ENOSPC);
}

static char said[4096];

static void say(void *context, const char *text)
{
    size_t used = strlen(said);
    (void)context;
    snprintf(said + used, sizeof(said) - used, "%s\n", text);
}

/* What pools of a configuration get, as "A:0,1 B:sw". */
static const char *resolve(const struct vgpu_inventory *v, const char *config)
{
    static char text[512];
    char error[VGPU_SETTINGS_ERROR] = "";
    struct vgpu_settings *s = vgpu_settings_parse("test.conf", config, strlen(config), error);
    if (!s)
        fail_msg("%s", error);
    said[0] = 0;
    vgpu_inventory_resolve(v, s, say, NULL);
    size_t used = 0;
    text[0] = 0;
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        const struct vgpu_pool_setting *pool = &s->pools[p];
        for (uint32_t i = 0; i < pool->gpu_count; i++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%c",
                                     i      ? ""
                                     : used ? " "
                                            : "",
                                     i ? ',' : (int)('A' + p));
            if (pool->gpus[i].backend == VGPU_GPU_SOFTWARE)
                used += (size_t)snprintf(text + used, sizeof(text) - used, "sw");
            else
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%u%s/%llu",
                                         pool->gpus[i].ordinal, pool->gpus[i].by_uuid ? "u" : "",
                                         (unsigned long long)(pool->gpus[i].memory_bytes >> 30));
        }
    }
    vgpu_settings_free(s);
    return text;
}

static void test_pools(void **state)
{
    struct vgpu_inventory v = {.count = 0}, none = {.count = 0};
    (void)state;
    assert_int_equal(add(&v, "{\"backend\": \"software\", \"gpu\": 0}"), 0);
    assert_int_equal(add(&none, "{\"backend\": \"software\", \"gpu\": 0}"), 0);
    assert_int_equal(add(&v, CUDA(0, U0, "")), 0);
    assert_int_equal(add(&v, CUDA(1, U1, "")), 0);
    assert_int_equal(add(&v, CUDA(2, U2, ", \"unusable\": \"it is too old\"")), 0);

    /* What is there is given as it was named; a card's size is what it has, or what was said. */
    assert_string_equal(
        resolve(&v, "[pool A]\ngpus = 1\n[pool B]\ngpus = GPU-" U0 "\ncard_memory = 8G\n"),
        "A1/74 B0u/8");
    assert_string_equal(said, "");
    /* The rest goes to who takes what there is, named ones first. */
    assert_string_equal(resolve(&v, "[pool A]\nbackend = cuda\n[pool B]\ngpus = 0\n"),
                        "A1u/74 B0/74");
    assert_string_equal(said, "");
    assert_string_equal(resolve(&v, "[pool A]\nbackend = auto\n[pool B]\nbackend = auto\n"),
                        "A0u/74,1u/74 Bsw");
    assert_non_null(strstr(said, "pool B found no GPU"));
    assert_string_equal(resolve(&v, "[pool A]\ngpus = software, 0\n"), "Asw,0/74");

    /* What is not: what was asked, what there is, what to do. */
    assert_string_equal(resolve(&v, "[pool A]\ngpus = 5, 0\n"), "A0/74");
    assert_string_equal(said, "pool A asks for GPU 5, and this host has 0 (GPU-" U0 "), 1 (GPU-" U1
                              "), 2 (GPU-" U2 "): mend gpus = in [pool A], or the driver\n");
    assert_string_equal(resolve(&v, "[pool A]\ngpus = 2\n"), "");
    assert_non_null(strstr(said, "GPU 2 (NVIDIA X), which cannot be used: it is too old"));
    assert_string_equal(resolve(&v, "[pool A]\ngpus = 0\n[pool B]\ngpus = GPU-" U0 ", 1\n"),
                        "A0/74 B1/74");
    assert_string_equal(said, "pool B asks for GPU-" U0
                              ", which pool A has as well: a GPU is in one pool\n");
    assert_string_equal(resolve(&v, "[pool A]\nbackend = auto\ngpus = 7\n"), "Asw");
    assert_string_equal(resolve(&none, "[pool A]\ngpus = 0\n[pool B]\nbackend = cuda\n"), "");
    assert_non_null(strstr(said, "this host has no GPU that a driver shows"));
    assert_non_null(strstr(said, "pool B found no GPU"));
    assert_string_equal(resolve(&none, "[pool A]\nbackend = auto\n"), "Asw");
    assert_string_equal(resolve(&v, "[pool A]\nbackend = auto\ngpus = none\n"), "");
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_line),
        VGPU_TEST(test_malformed),
        VGPU_TEST(test_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
