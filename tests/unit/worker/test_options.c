/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vgpu-worker's command line and --probe (docs/worker.md). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake_backend.h"
#include "vgpu_test.h"
#include "worker/options.h"
#include "worker/probe.h"

#define MUST "--fd", "3", "--vm", "7", "--session", "0x10", "--backend", "fake"

static int parse(struct vgpu_worker_options *o, char *why, const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    why[0] = 0;
    int rc = vgpu_worker_options_parse(argc, (char **)(uintptr_t)argv, o, why, 200);
    assert_true(rc == 0 || (rc == -EINVAL && why[0]));
    return rc;
}

#define PARSE(...) parse(&o, why, (const char *[]){"vgpu-worker", __VA_ARGS__, NULL})

static void everything(void **state)
{
    struct vgpu_worker_options o;
    char why[200];
    (void)state;
    assert_int_equal(PARSE(MUST), 0);
    assert_int_equal(o.fd, 3);
    assert_int_equal(o.vm, 7);
    assert_int_equal(o.session, 16);
    assert_string_equal(o.backend, "fake");
    assert_false(o.identity.given);
    assert_int_equal(PARSE(MUST, "--gpu", "2", "--memory", "64M", "--threads=4",
                           "--launch-instructions", "5000000000", "--uid", "1000", "--gid", "1001",
                           "--log-level", "debug"),
                     0);
    assert_int_equal(o.config.gpu, 2);
    assert_int_equal(o.config.memory_bytes, 64 << 20);
    assert_int_equal(o.config.threads, 4);
    assert_int_equal(o.config.launch_instructions, 5000000000ull);
    assert_true(o.identity.given);
    assert_int_equal(o.identity.uid, 1000);
    assert_int_equal(o.identity.gid, 1001);
    assert_int_equal(o.log_level, VGPU_LOG_DEBUG);
    assert_int_equal(o.account_fd, -1);
    assert_false(o.config.has_gpu_uuid);
    assert_int_equal(PARSE(MUST, "--memory", "1M", "--account-fd", "4", "--account-slot", "4091",
                           "--gpu", "GPU-01234567-89ab-cdef-0123-456789ABCDEF"),
                     0);
    assert_int_equal(o.account_fd, 4);
    assert_int_equal(o.account_slot, 4091);
    assert_true(o.config.has_gpu_uuid);
    assert_int_equal(o.config.gpu_uuid[0], 0x01);
    assert_int_equal(o.config.gpu_uuid[15], 0xef);
    assert_int_equal(PARSE("--probe"), 0);
    assert_true(o.probe);
    assert_int_equal(PARSE("--probe", "--backend", "x"), 0);
    assert_int_equal(PARSE("--help"), 0);
    assert_true(o.help);
    assert_int_equal(PARSE("--version"), 0);
    assert_true(o.version);
}

static void mistakes(void **state)
{
    struct vgpu_worker_options o;
    char why[200];
    (void)state;
    assert_int_equal(parse(&o, why, (const char *[]){"vgpu-worker", NULL}), -EINVAL);
    assert_int_equal(PARSE("--fd", "3", "--vm", "7", "--session", "1"), -EINVAL);
    assert_int_equal(PARSE("--vm", "7", "--session", "1", "--backend", "x"), -EINVAL);
    assert_int_equal(PARSE(MUST, "extra"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--nonsense"), -EINVAL);
    assert_int_equal(PARSE(MUST, "-x"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--uid", "5"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--gid", "5"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--gid"), -EINVAL);
    /* -1 would mean "leave it" to setresuid: root would stay root. */
    assert_int_equal(PARSE(MUST, "--uid", "4294967295", "--gid", "5"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--uid", "-1", "--gid", "5"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--uid", "5", "--gid", "4294967295"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--fd", "2"), -EINVAL); /* the log goes there */
    assert_int_equal(PARSE(MUST, "--fd", "-1"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--fd", "99999999999"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--fd", "3x"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--vm", "4294967296"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--session", "18446744073709551616"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--memory", "0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--memory", "1", "--account-fd", "4"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--memory", "1", "--account-slot", "0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--account-fd", "4", "--account-slot", "0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--memory", "1", "--account-fd", "3", "--account-slot", "0"),
                     -EINVAL); /* the socket's */
    assert_int_equal(PARSE(MUST, "--memory", "1", "--account-fd", "4", "--account-slot", "4092"),
                     -EINVAL);
    assert_int_equal(PARSE(MUST, "--gpu", "GPU-0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--threads", "0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--queue", "0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--queue", "65537"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--launch-instructions", "0"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--launch-instructions", "many"), -EINVAL);
    assert_int_equal(PARSE(MUST, "--threads", ""), -EINVAL);
    assert_int_equal(PARSE(MUST, "--log-level", "loud"), -EINVAL);
    assert_non_null(strstr(vgpu_worker_usage(), "--probe"));
}

static struct vgpu_device_info probed;

static void odd_device_info(struct vgpu_backend *b, struct vgpu_device_info *out)
{
    (void)b;
    *out = probed;
}

/* A host with two GPUs, of which the second may not be used. */
static CUresult open_of_two(const struct vgpu_backend_config *config, struct vgpu_backend **out,
                            char *why, size_t why_size)
{
    *out = NULL;
    snprintf(why, why_size, "GPU %u: \"no\"", config->gpu);
    if (config->gpu == 1)
        return CUDA_ERROR_NOT_SUPPORTED;
    return config->gpu ? CUDA_ERROR_INVALID_DEVICE : fake_ops.open(config, out, why, why_size);
}

static char *probe_line(const char *name)
{
    struct vgpu_backend_ops ops = fake_ops;
    ops.device_info = odd_device_info;
    ops.open = open_of_two;
    probed = (struct vgpu_device_info){.uuid = {0xAB, [15] = 0x01},
                                       .total_memory_bytes = 1ull << 40,
                                       .compute_major = 9,
                                       .multiprocessors = 132};
    strcpy(probed.name, name);
    char *text = NULL, why[100];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    assert_int_equal(
        vgpu_probe(&ops, &(struct vgpu_backend_config){.gpu = 3}, out, why, sizeof(why)), 1);
    fclose(out);
    return text;
}

static void probe_is_json(void **state)
{
    (void)state;
    char *text = probe_line("plain");
    assert_string_equal(text, "{\"backend\": \"fake\", \"gpu\": 0, \"name\": \"plain\", "
                              "\"uuid\": \"ab000000-0000-0000-0000-000000000001\", "
                              "\"total_memory_bytes\": 1099511627776, \"compute\": \"9.0\", "
                              "\"multiprocessors\": 132, \"clock_khz\": 0}\n"
                              "{\"backend\": \"fake\", \"gpu\": 1, \"unusable\": "
                              "\"GPU 1: \\\"no\\\"\"}\n");
    free(text);
    text = probe_line("a\"b\\c\nd\x80");
    assert_non_null(strstr(text, "\"name\": \"a\\\"b\\\\c\\u000ad\\u0080\""));
    free(text);
}

static CUresult cannot_open(const struct vgpu_backend_config *config, struct vgpu_backend **out,
                            char *why, size_t why_size)
{
    (void)config;
    *out = NULL;
    snprintf(why, why_size, "no such GPU");
    return CUDA_ERROR_NO_DEVICE;
}

static void probe_without_a_gpu(void **state)
{
    struct vgpu_backend_ops ops = fake_ops;
    char why[100] = "";
    (void)state;
    ops.open = cannot_open;
    assert_int_equal(vgpu_probe(&ops, &(struct vgpu_backend_config){0}, stderr, why, sizeof(why)),
                     -ENODEV);
    assert_string_equal(why, "no such GPU");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(everything),
        VGPU_TEST(mistakes),
        VGPU_TEST(probe_is_json),
        VGPU_TEST(probe_without_a_gpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
