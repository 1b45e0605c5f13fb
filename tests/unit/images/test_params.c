/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-images.md, "Parameters of a kernel": from a cubin and from PTX text. */
#include "image_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kernel {
    const char *name;
    uint32_t count, total;
    struct vgpu_param_layout layout[8];
};

/* What cuFuncGetParamInfo of driver 580 says of the same kernels; `vectors` by the ABI. */
static const struct kernel kernels[] = {
    {"scale", 4, 24, {{0, 8}, {8, 8}, {16, 4}, {20, 4}}},
    {"none", 0, 0, {{0, 0}}},
    {"mixed", 6, 56, {{0, 1}, {2, 2}, {8, 8}, {16, 24}, {40, 1}, {48, 8}}},
    {"vectors", 3, 32, {{0, 16}, {16, 4}, {24, 8}}},
};

static void expect(const void *image, size_t bytes, const struct kernel *k)
{
    struct vgpu_param_layout layout[8];
    uint32_t count, total;
    memset(layout, 0xee, sizeof(layout));
    assert_int_equal(vgpu_image_kernel_params(image, bytes, k->name, layout, 8, &count, &total), 0);
    assert_int_equal(count, k->count);
    assert_int_equal(total, k->total);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(layout[i].offset, k->layout[i].offset);
        assert_int_equal(layout[i].size, k->layout[i].size);
    }
    for (uint32_t i = count; i < 8; i++)
        assert_int_equal(layout[i].offset, 0xeeeeeeee);
    /* Less room than there are: the first ones, and how many there are. */
    memset(layout, 0xee, sizeof(layout));
    assert_int_equal(vgpu_image_kernel_params(image, bytes, k->name, layout, 1, &count, &total), 0);
    assert_int_equal(count, k->count);
    assert_int_equal(layout[1].offset, 0xeeeeeeee);
    if (count)
        assert_int_equal(layout[0].size, k->layout[0].size);
    assert_int_equal(vgpu_image_kernel_params(image, bytes, k->name, NULL, 0, &count, &total), 0);
    assert_int_equal(count, k->count);
}

/* Cubins of nvcc 13 and of a ptxas of CUDA 12.2, and the PTX of the same source, agree. */
static void test_fixtures(void **state)
{
    (void)state;
    static const char *const files[] = {"kernels75.cubin", "old75.cubin", "kernels.ptx"};
    for (unsigned f = 0; f < 3; f++) {
        size_t bytes;
        uint32_t count, total;
        uint8_t *image = image_read(files[f], &bytes);
        for (unsigned k = 0; k < sizeof(kernels) / sizeof(kernels[0]); k++)
            expect(image, bytes, &kernels[k]);
        static const char *const others[] = {"",      "scal",     "scale2",       "table",
                                             "Scale", ".nv.info", "mixed_param_0"};
        for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            assert_int_equal(
                vgpu_image_kernel_params(image, bytes, others[i], NULL, 0, &count, &total),
                -ENOENT);
            assert_int_equal(count | total, 0);
        }
        free(image);
    }
}

static void test_architecture(void **state)
{
    (void)state;
    static const char *const files[] = {"kernels75.cubin", "old75.cubin"};
    for (unsigned f = 0; f < 2; f++) {
        size_t bytes;
        uint32_t sm = 0;
        uint8_t *image = image_read(files[f], &bytes);
        assert_int_equal(vgpu_cubin_check(image, bytes, &sm), 0);
        assert_int_equal(sm, 75);
        put16(image + 18, 62); /* for an x86 */
        assert_int_equal(vgpu_cubin_check(image, bytes, &sm), -EINVAL);
        free(image);
    }
}

static void test_other_forms(void **state)
{
    (void)state;
    uint32_t count, total;
    size_t bytes;
    uint8_t *image = image_read("kernels.plain.fatbin", &bytes);
    assert_int_equal(vgpu_image_kernel_params(image, bytes, "scale", NULL, 0, &count, &total),
                     -ENOTSUP);
    free(image);
    assert_int_equal(vgpu_image_kernel_params("hello", 5, "scale", NULL, 0, &count, &total),
                     -ENOTSUP);
}

/* A cubin cut at any byte is refused: its tables stand at its end. */
static void test_cubin_truncated(void **state)
{
    (void)state;
    static const char *const files[] = {"kernels75.cubin", "old75.cubin"};
    for (unsigned f = 0; f < 2; f++) {
        size_t bytes;
        uint32_t count, total;
        uint8_t *image = image_read(files[f], &bytes);
        for (size_t n = 0; n < bytes; n++) {
            uint8_t *cut = image_copy(image, n);
            assert_int_equal(vgpu_cubin_kernel_params(cut, n, "mixed", NULL, 0, &count, &total),
                             -EINVAL);
            assert_int_equal(vgpu_cubin_check(cut, n, NULL), -EINVAL);
            free(cut);
        }
        free(image);
    }
}

/* Whatever the answer, parameters lie in the buffer. */
static void try_params(const void *image, size_t bytes)
{
    struct vgpu_param_layout layout[16];
    uint32_t count, total;
    memset(layout, 0, sizeof(layout));
    int err = vgpu_cubin_kernel_params(image, bytes, "mixed", layout, 16, &count, &total);
    assert_true(err == 0 || err == -EINVAL || err == -ENOENT);
    if (err < 0)
        assert_int_equal(count | total, 0);
    assert_true(total <= VGPU_KERNEL_PARAM_BYTES_MAX);
    for (uint32_t i = 0; i < count && i < 16; i++)
        assert_true(layout[i].offset <= total && layout[i].size <= total - layout[i].offset);
}

/* Every byte of the ELF header, of the section headers and of the kernel's attributes, at its
 * extremes, alone and with its neighbour. */
static void test_cubin_damaged(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *image = image_read("kernels75.cubin", &bytes);
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at + 1 < bytes; at++) {
        uint8_t was[2] = {image[at], image[at + 1]};
        for (unsigned v = 0; v < sizeof(values); v++) {
            image[at] = values[v];
            try_params(image, bytes);
            image[at + 1] = values[v];
            try_params(image, bytes);
            memcpy(image + at, was, 2);
        }
    }
    free(image);
}

/* A cubin of three sections by hand: names, .nv.info.k, and nothing else. */
struct cubin {
    uint8_t bytes[1024];
    size_t size;
};

static void make_cubin(struct cubin *c, const uint8_t *attributes, size_t attribute_bytes)
{
    static const char names[] = "\0.nv.info.k\0.shstrtab";
    memset(c, 0, sizeof(*c));
    uint8_t *p = c->bytes;
    memcpy(p,
           "\x7f"
           "ELF\x02\x01\x01\x41\x08",
           9);
    put16(p + 18, 190);
    put64(p + 40, 64);
    put16(p + 58, 64);
    put16(p + 60, 3);
    put16(p + 62, 1);
    size_t data = 64 + 3 * 64;
    put32(p + 128, 12);
    put32(p + 132, 3);
    put64(p + 128 + 24, data);
    put64(p + 128 + 32, sizeof(names));
    put32(p + 192, 1);
    put32(p + 196, 0x70000000);
    put64(p + 192 + 24, data + sizeof(names));
    put64(p + 192 + 32, attribute_bytes);
    memcpy(p + data, names, sizeof(names));
    memcpy(p + data + sizeof(names), attributes, attribute_bytes);
    c->size = data + sizeof(names) + attribute_bytes;
}

static int cubin_params(const uint8_t *attributes, size_t bytes, struct vgpu_param_layout *layout,
                        uint32_t *count, uint32_t *total)
{
    struct cubin c;
    make_cubin(&c, attributes, bytes);
    uint8_t *image = image_copy(c.bytes, c.size);
    int err = vgpu_image_kernel_params(image, c.size, "k", layout, 2, count, total);
    free(image);
    return err;
}

/* KPARAM_INFO, KPARAM_INFO_V2, CBANK_PARAM_SIZE, PARAM_CBANK: clause by clause. */
#define TOTAL(n) 0x03, 0x19, (n)&0xff, (n) >> 8
#define BANK(n)  0x04, 0x0a, 8, 0, 6, 0, 0, 0, 0x60, 1, (n)&0xff, (n) >> 8
#define PARAM(i, offset, n)                                                                        \
    0x04, 0x17, 12, 0, 0, 0, 0, 0, i, 0, (offset)&0xff, (offset) >> 8, 0, 0xf0,                    \
        ((n) << 2 & 0xff) | 1, (n) >> 6
#define PARAM2(i, offset, n)                                                                       \
    0x04, 0x45, 12, 0, 0, 0, 0, 0, i, 0, (offset)&0xff, (offset) >> 8, (n)&0xff, (n) >> 8, 0, 0
#define TRY(want, ...)                                                                             \
    do {                                                                                           \
        static const uint8_t attributes[] = {__VA_ARGS__};                                         \
        assert_int_equal(cubin_params(attributes, sizeof(attributes), l, &count, &total), want);   \
        assert_true((want) == 0 || (count | total) == 0);                                          \
    } while (0)

static void test_attributes(void **state)
{
    (void)state;
    struct vgpu_param_layout l[2];
    uint32_t count, total;
    TRY(0, TOTAL(0));
    TRY(0, 0x01, 0x04, 0, 0, 0x02, 0x4c, 1, 0, 0x03, 0x1b, 0xff, 0, 0x04, 0x99, 0, 0);
    assert_int_equal(count | total, 0);
    TRY(0, TOTAL(12), PARAM(1, 8, 4), PARAM(0, 0, 8));
    assert_int_equal(count, 2);
    assert_int_equal(total, 12);
    assert_int_equal(l[0].size, 8);
    assert_int_equal(l[1].offset, 8);
    TRY(0, PARAM(0, 0, 16383), BANK(16383));
    assert_int_equal(total, 16383);
    assert_int_equal(l[0].size, 16383);
    TRY(0, PARAM2(0, 0, 32764), TOTAL(32764));
    assert_int_equal(l[0].size, 32764);
    TRY(0, BANK(8), TOTAL(4), PARAM(0, 0, 4)); /* the size proper is believed */
    assert_int_equal(total, 4);
    /* Refused: beyond the buffer, twice, a gap, no buffer, formats, sizes. */
    TRY(-EINVAL, TOTAL(11), PARAM(0, 8, 4));
    TRY(-EINVAL, TOTAL(12), PARAM(0, 8, 4), PARAM(0, 0, 8));
    TRY(-EINVAL, TOTAL(12), PARAM(1, 8, 4));
    TRY(-EINVAL, PARAM(0, 0, 4));
    TRY(-EINVAL, PARAM2(0, 1, 32764), TOTAL(32765));
    TRY(-EINVAL, TOTAL(32765));
    TRY(-EINVAL, TOTAL(65535));
    TRY(-EINVAL, PARAM2(0, 65535, 65535), TOTAL(65535));
    TRY(-EINVAL, TOTAL(8), 0x04, 0x45, 12, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0xf8, 0xff, 0xff, 0xff);
    TRY(-EINVAL, TOTAL(8), 0x04, 0x17, 12, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0xf0, 0x11, 0);
    TRY(-EINVAL, 0x04, 0x19, 2, 0, 8, 0);
    TRY(-EINVAL, 0x03, 0x17, 8, 0);
    TRY(-EINVAL, 0x04, 0x17, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    TRY(-EINVAL, 0x04, 0x0a, 4, 0, 6, 0, 0, 0);
    TRY(-EINVAL, 0x00, 0x00, 0, 0);
    TRY(-EINVAL, 0x05, 0x00, 0, 0);
    TRY(-EINVAL, TOTAL(0), 0x03);
    TRY(-EINVAL, TOTAL(0), 0x03, 0x19, 8);
    TRY(-EINVAL, TOTAL(0), 0x04, 0x99, 1, 0);
    TRY(-EINVAL, TOTAL(0), 0x04, 0x99, 0xff, 0xff, 0, 0, 0, 0);
}

/* The section's name must end in its table, and be the whole name. */
static void test_section_names(void **state)
{
    (void)state;
    static const uint8_t attributes[] = {TOTAL(0)};
    static const uint32_t offsets[] = {0, 2, 11, 12, 20, 21, 22, 0x7fffffff, 0xffffffff};
    uint32_t count, total;
    struct cubin c;
    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        make_cubin(&c, attributes, sizeof(attributes));
        put32(c.bytes + 192, offsets[i]);
        assert_int_equal(vgpu_image_kernel_params(c.bytes, c.size, "k", NULL, 0, &count, &total),
                         -ENOENT);
    }
    make_cubin(&c, attributes, sizeof(attributes));
    put64(c.bytes + 128 + 32, 11); /* the table ends before the NUL of the name */
    assert_int_equal(vgpu_image_kernel_params(c.bytes, c.size, "k", NULL, 0, &count, &total),
                     -ENOENT);
    put16(c.bytes + 62, 3); /* no such section of names */
    assert_int_equal(vgpu_image_kernel_params(c.bytes, c.size, "k", NULL, 0, &count, &total),
                     -EINVAL);
}

/* ---- PTX ---- */

static int ptx_params(const char *signature, struct vgpu_param_layout *layout, uint32_t *count,
                      uint32_t *total)
{
    char text[1024];
    int n = snprintf(text, sizeof(text), ".version 8.0\n.target sm_75\n%s", signature);
    uint8_t *copy = image_copy(text, (size_t)n);
    int err = vgpu_image_kernel_params(copy, (size_t)n, "k", layout, 4, count, total);
    free(copy);
    return err;
}

static void test_signatures(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t count, total;
        struct vgpu_param_layout layout[4];
    } good[] = {
        {".entry k{}", 0, 0, {{0, 0}}},
        {".entry k()", 0, 0, {{0, 0}}},
        {".visible .entry k(.param.u8 a,.param .u64 b,.param .b16 c)",
         3,
         18,
         {{0, 1}, {8, 8}, {16, 2}}},
        {".weak .entry k ( .param .align 4 .b8 a[20] , .param .f64 b )", 2, 32, {{0, 20}, {24, 8}}},
        {".entry k(.param .align 16 .b8 a[3], .param .u8 b, .param .align 1 .b8 c[2][3])",
         3,
         10,
         {{0, 3}, {3, 1}, {4, 6}}},
        {".entry k(.param .u8 z, .param .u64 .ptr .global .align 1024 p)", 2, 16, {{0, 1}, {8, 8}}},
        {".entry k(.param .u8 z, .param .v4 .f32 v, .param .v2 .f16 w)",
         3,
         36,
         {{0, 1}, {16, 16}, {32, 4}}},
        {".entry k(.param .texref t, .param .surfref s, .param .samplerref r)",
         3,
         24,
         {{0, 8}, {8, 8}, {16, 8}}},
        {".entry k(.param .b32 a[0x4], .param .b8 b[010], .param .b8 c[0b11], .param .b8 d[2U])",
         4,
         29,
         {{0, 16}, {16, 8}, {24, 3}, {27, 2}}},
        {".entry k(.param .b8 %a[32764])", 1, 32764, {{0, 32764}}},
        {".entry /* a ( */ k // b )\n( .param /**/ .u32 a )", 1, 4, {{0, 4}}},
        {".entry kk(.param .u8 a) { } .entry k(.param .u16 a) { }", 1, 2, {{0, 2}}},
        {".func k(.param .u64 a) { } .entry k(.param .u16 a) { }", 1, 2, {{0, 2}}},
        {".entry x() { { .entry k(.param .u64 a) } } .entry k(.param .u16 a)", 1, 2, {{0, 2}}},
        {".file 1 \"a.entry k(.param .u64 \\\" x)\"\n.entry k(.param .u16 a)", 1, 2, {{0, 2}}},
        {"} .entry k(.param .u16 a)", 1, 2, {{0, 2}}},
    };
    static const char *const bad[] = {
        ".entry k",
        ".entry k(",
        ".entry k(.param",
        ".entry k(.param .u32",
        ".entry k(.param .u32 a",
        ".entry k(.param .u32 a,",
        ".entry k(.param .u32 a .param .u32 b)",
        ".entry k(.param a)",
        ".entry k(.param .u32 .u32 a)",
        ".entry k(.param .pred a)",
        ".entry k(.reg .u32 a)",
        ".entry k(.param .b8 a[])",
        ".entry k(.param .b8 a[0])",
        ".entry k(.param .b8 a[-1])",
        ".entry k(.param .b8 a[32765])",
        ".entry k(.param .b8 a[18446744073709551615])",
        ".entry k(.param .b8 a[18446744073709551617])",
        ".entry k(.param .b8 a[256][256])",
        ".entry k(.param .b8 a[32764][32764][32764][32764][32764])",
        ".entry k(.param .b64 a[32764])",
        ".entry k(.param .b8 a[32764], .param .b8 b)",
        ".entry k(.param .b8 a[08])",
        ".entry k(.param .b8 a[0x])",
        ".entry k(.param .align 3 .b8 a[4])",
        ".entry k(.param .align 0 .b8 a[4])",
        ".entry k(.param .align .b8 a[4])",
        ".entry k(.param .u32 a; )",
    };
    struct vgpu_param_layout l[4];
    uint32_t count, total;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int err = ptx_params(good[i].text, l, &count, &total);
        if (err != 0 || count != good[i].count || total != good[i].total)
            print_error("%s: %d, %u in %u bytes\n", good[i].text, err, count, total);
        assert_int_equal(err, 0);
        assert_int_equal(count, good[i].count);
        assert_int_equal(total, good[i].total);
        assert_memory_equal(l, good[i].layout, count * sizeof(l[0]));
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int err = ptx_params(bad[i], l, &count, &total);
        if (err != -EINVAL)
            print_error("%s: %d\n", bad[i], err);
        assert_int_equal(err, -EINVAL);
        assert_int_equal(count | total, 0);
    }
}

/* Cut at every byte: no such kernel yet, or malformed, or whole. */
static void test_ptx_truncated(void **state)
{
    (void)state;
    size_t bytes;
    uint32_t count, total;
    uint8_t *image = image_read("kernels.ptx", &bytes);
    const char *name = "mixed(";
    size_t begins = 0, ends;
    while (memcmp(image + begins, name, strlen(name)) != 0)
        begins++;
    for (ends = begins; image[ends] != ')'; ends++)
        ;
    for (size_t n = 0; n <= bytes; n++) {
        uint8_t *cut = image_copy(image, n);
        int err = vgpu_ptx_kernel_params(cut, n, "mixed", NULL, 0, &count, &total);
        assert_int_equal(err, n < begins + 5 ? -ENOENT : n <= ends ? -EINVAL : 0);
        free(cut);
    }
    free(image);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        VGPU_TEST(test_fixtures),      VGPU_TEST(test_architecture),
        VGPU_TEST(test_other_forms),   VGPU_TEST(test_cubin_truncated),
        VGPU_TEST(test_cubin_damaged), VGPU_TEST(test_attributes),
        VGPU_TEST(test_section_names), VGPU_TEST(test_signatures),
        VGPU_TEST(test_ptx_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
