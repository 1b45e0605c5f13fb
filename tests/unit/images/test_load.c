/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-images.md, "What the software backend loads": all forms through module_load, and that
 * what comes out of a compressed fatbin is the program that went in. */
#include "image_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"

static const struct vgpu_backend_ops *const ops = &vgpu_backend_software;

static struct vgpu_backend *open_backend(uint64_t module_bytes)
{
    struct vgpu_backend_config config = {
        .threads = 1, .memory_bytes = 1 << 20, .module_memory_bytes = module_bytes};
    struct vgpu_backend *b;
    char why[256];
    assert_int_equal(ops->open(&config, &b, why, sizeof(why)), CUDA_SUCCESS);
    return b;
}

static CUresult load(struct vgpu_backend *b, const char *file, struct vgpu_backend_module **m,
                     char *log, size_t log_size)
{
    size_t bytes;
    uint8_t *image = image_read(file, &bytes);
    CUresult r = ops->module_load(b, image, bytes, m, log, log_size);
    free(image);
    if (r != CUDA_SUCCESS)
        assert_null(*m);
    return r;
}

/* scale: out[i] = in[i] * factor + table[i & 3], the table being zero. */
static void run_scale(struct vgpu_backend *b, struct vgpu_backend_module *m)
{
    struct vgpu_launch l = {.grid = {1, 1, 1}, .block = {64, 1, 1}};
    const struct vgpu_kernel_info *info;
    uint64_t in, out;
    float values[64], answers[64];
    uint8_t params[24];
    const float factor = 2.5f;
    const int n = 60;
    assert_int_equal(ops->mem_alloc(b, sizeof(values), &in), CUDA_SUCCESS);
    assert_int_equal(ops->mem_alloc(b, sizeof(values), &out), CUDA_SUCCESS);
    for (int i = 0; i < 64; i++)
        values[i] = (float)i;
    assert_int_equal(ops->copy_htod(b, in, values, sizeof(values)), CUDA_SUCCESS);
    assert_int_equal(ops->module_kernel(b, m, "scale", &l.kernel, &info), CUDA_SUCCESS);
    assert_int_equal(info->param_bytes, sizeof(params));
    memcpy(params, &out, 8);
    memcpy(params + 8, &in, 8);
    memcpy(params + 16, &factor, 4);
    memcpy(params + 20, &n, 4);
    l.params = params;
    l.params_bytes = sizeof(params);
    assert_int_equal(ops->launch(b, &l), CUDA_SUCCESS);
    assert_int_equal(ops->synchronize(b), CUDA_SUCCESS);
    assert_int_equal(ops->copy_dtoh(b, answers, out, sizeof(answers)), CUDA_SUCCESS);
    for (int i = 0; i < 64; i++)
        assert_true(answers[i] == (i < n ? (float)i * factor : 0.0f));
    assert_int_equal(ops->mem_free(b, in), CUDA_SUCCESS);
    assert_int_equal(ops->mem_free(b, out), CUDA_SUCCESS);
}

/* A build without the library says so instead. */
static bool refused_for_lack_of_library(CUresult r, const char *log)
{
    return r == CUDA_ERROR_NOT_SUPPORTED && strstr(log, "--compress-mode=none");
}

static void test_forms_run(void **state)
{
    (void)state;
    static const char *const files[] = {"kernels.ptx", "kernels.plain.fatbin", "kernels.lz4.fatbin",
                                        "kernels.zstd.fatbin"};
    struct vgpu_backend *b = open_backend(0);
    for (unsigned f = 0; f < 4; f++) {
        struct vgpu_backend_module *m;
        char log[512];
        CUresult r = load(b, files[f], &m, log, sizeof(log));
        if (f >= 2 && refused_for_lack_of_library(r, log))
            continue;
        if (r != CUDA_SUCCESS)
            print_error("%s: %s\n", files[f], log);
        assert_int_equal(r, CUDA_SUCCESS);
        run_scale(b, m);
        /* Its signatures by both readers of PTX: the same. */
        static const char *const names[] = {"scale", "none", "mixed", "vectors"};
        size_t bytes;
        uint8_t *text = image_read("kernels.ptx", &bytes);
        for (unsigned k = 0; k < 4; k++) {
            const struct vgpu_kernel_info *info;
            struct vgpu_backend_kernel *kernel;
            struct vgpu_param_layout layout[8];
            uint32_t count, total;
            assert_int_equal(ops->module_kernel(b, m, names[k], &kernel, &info), CUDA_SUCCESS);
            assert_int_equal(
                vgpu_image_kernel_params(text, bytes, names[k], layout, 8, &count, &total), 0);
            assert_int_equal(info->param_count, count);
            assert_int_equal(info->param_bytes, total);
            for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(info->params[i].offset, layout[i].offset);
                assert_int_equal(info->params[i].size, layout[i].size);
            }
        }
        free(text);
        assert_int_equal(ops->module_unload(b, m), CUDA_SUCCESS);
    }
    ops->close(b);
}

/* Of several entries the one for this device; refused whole where there is none. */
static void test_choice(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        CUresult want;
        const char *says;
    } cases[] = {
        {"tiny.plain.fatbin", CUDA_SUCCESS, NULL},
        {"tiny.lz4.fatbin", CUDA_SUCCESS, NULL},
        {"tiny.zstd.fatbin", CUDA_SUCCESS, NULL},
        {"named.fatbin", CUDA_SUCCESS, NULL},
        {"lto.fatbin", CUDA_SUCCESS, NULL},
        {"machine-code.fatbin", CUDA_ERROR_NO_BINARY_FOR_GPU, "compute_75"},
        {"kernels75.cubin", CUDA_ERROR_NO_BINARY_FOR_GPU, "compute_75"},
        {"old75.cubin", CUDA_ERROR_NO_BINARY_FOR_GPU, "compute_75"},
        {"newer.fatbin", CUDA_ERROR_NO_BINARY_FOR_GPU, "sm_100"},
    };
    struct vgpu_backend *b = open_backend(0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgpu_backend_module *m;
        char log[512];
        CUresult r = load(b, cases[i].file, &m, log, sizeof(log));
        if (refused_for_lack_of_library(r, log))
            continue;
        if (r != cases[i].want)
            print_error("%s: %s\n", cases[i].file, log);
        assert_int_equal(r, cases[i].want);
        if (cases[i].says)
            assert_non_null(strstr(log, cases[i].says));
        if (r == CUDA_SUCCESS) {
            const struct vgpu_kernel_info *info;
            struct vgpu_backend_kernel *kernel;
            assert_int_equal(ops->module_kernel(b, m, "tiny", &kernel, &info), CUDA_SUCCESS);
            assert_int_equal(info->param_bytes, 8);
        }
    }
    ops->close(b); /* with modules loaded */
}

/* As a driver was seen to tell them apart: text for a later card, a fatbin for later cards, no
 * image at all, PTX that is broken. */
static void test_errors(void **state)
{
    (void)state;
    struct vgpu_backend *b = open_backend(0);
    struct vgpu_backend_module *m;
    char log[256];
    struct fatbin f;
    fatbin_begin(&f);
    static const char wrong[] = ".version 7.0\n.target sm_90\n";
    fatbin_add(&f, VGPU_FATBIN_PTX, 75, 0, wrong, sizeof(wrong), 0); /* not what the entry says */
    assert_int_equal(ops->module_load(b, f.bytes, f.size, &m, log, sizeof(log)),
                     CUDA_ERROR_INVALID_PTX);
    assert_int_equal(ops->module_load(b, wrong, strlen(wrong), &m, log, sizeof(log)),
                     CUDA_ERROR_INVALID_PTX);
    assert_int_equal(ops->module_load(b, "nonsense", 8, &m, log, sizeof(log)),
                     CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(ops->module_load(b, ".version", 8, &m, log, sizeof(log)),
                     CUDA_ERROR_INVALID_PTX);
    fatbin_begin(&f);
    assert_int_equal(ops->module_load(b, f.bytes, f.size, &m, log, sizeof(log)),
                     CUDA_ERROR_NO_BINARY_FOR_GPU);
    fatbin_add(&f, VGPU_FATBIN_PTX, 75, 0, "\0\0\0\0\0\0\0", 8, 0); /* text of no bytes */
    assert_int_equal(ops->module_load(b, f.bytes, f.size, &m, log, sizeof(log)),
                     CUDA_ERROR_INVALID_PTX);
    ops->close(b);
}

/* Unpacked text counts as host memory of modules while it is read, and no longer. */
static void test_budget(void **state)
{
    (void)state;
    struct vgpu_backend_module *m;
    char log[512];
    struct vgpu_backend *b = open_backend(1000); /* the text has 2749 bytes */
    CUresult r = load(b, "kernels.zstd.fatbin", &m, log, sizeof(log));
    if (!refused_for_lack_of_library(r, log)) {
        assert_int_equal(r, CUDA_ERROR_OUT_OF_MEMORY);
        assert_non_null(strstr(log, "room is left for"));
    }
    ops->close(b);
    b = open_backend(1 << 20);
    for (unsigned i = 0; i < 2000; i++) { /* 5 MiB in all, were it not given back */
        r = load(b, "kernels.zstd.fatbin", &m, log, sizeof(log));
        if (refused_for_lack_of_library(r, log))
            break;
        assert_int_equal(r, CUDA_SUCCESS);
        assert_int_equal(ops->module_unload(b, m), CUDA_SUCCESS);
    }
    ops->close(b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        VGPU_TEST(test_forms_run),
        VGPU_TEST(test_choice),
        VGPU_TEST(test_errors),
        VGPU_TEST(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
