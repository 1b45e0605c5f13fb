/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-images.md, "Four forms" and "How long an image is". */
#include "image_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST ((size_t)1 << 20)

/* Every fixture, alone in memory of its size: its length is found, and nothing is read behind it.
 */
static void test_fixtures(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum vgpu_image_form form;
    } files[] = {
        {"kernels75.cubin", VGPU_IMAGE_ELF},         {"old75.cubin", VGPU_IMAGE_ELF},
        {"kernels.plain.fatbin", VGPU_IMAGE_FATBIN}, {"kernels.lz4.fatbin", VGPU_IMAGE_FATBIN},
        {"kernels.zstd.fatbin", VGPU_IMAGE_FATBIN},  {"tiny.plain.fatbin", VGPU_IMAGE_FATBIN},
        {"lto.fatbin", VGPU_IMAGE_FATBIN},           {"named.fatbin", VGPU_IMAGE_FATBIN},
        {"large.fatbin", VGPU_IMAGE_FATBIN},
    };
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        size_t bytes;
        struct vgpu_image_span s;
        uint8_t *image = image_read(files[i].name, &bytes);
        assert_int_equal(vgpu_image_form_of(image, bytes), files[i].form);
        assert_int_equal(vgpu_image_extent(image, MOST, &s), 0);
        assert_int_equal(s.form, files[i].form);
        assert_int_equal(s.size_bytes, bytes);
        assert_ptr_equal(s.bytes, image);
        assert_false(s.wrapped);
        /* Exactly enough room, and one byte too little. */
        assert_int_equal(vgpu_image_extent(image, bytes, &s), 0);
        for (size_t most = 0; most < bytes; most++) {
            int err = vgpu_image_extent(image, most, &s);
            assert_int_equal(err, most < 4 ? -EINVAL : -E2BIG);
            assert_int_equal(s.form, VGPU_IMAGE_NONE);
        }
        free(image);
    }
}

/* PTX ends at its NUL; the NUL is the last byte of the copy. */
static void test_text(void **state)
{
    (void)state;
    static const char *const good[] = {
        ".version 7.0\n.target sm_75\n",
        "\n\t \v\f\r.version",
        "// comment\n//\n/* another\n */ .version 7.0",
        "/**/.version8",
    };
    static const char *const bad[] = {
        "",
        "   ",
        "hello",
        ".target sm_75",
        ".versio",
        ".VERSION 7.0",
        "// only a comment",
        "/*",
        "/* .version 7.0",
        "/* *",
        "\x01.version 7.0",
        "\xef\xbb\xbf.version 7.0",
        "/ .version",
        "; .version 7.0",
        "\x7f"
        "EL",
        "P\xedU",
        "\xb1"
        "Cb",
    };
    struct vgpu_image_span s;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        size_t n = strlen(good[i]);
        uint8_t *image = image_copy(good[i], n + 1);
        assert_int_equal(vgpu_image_extent(image, MOST, &s), 0);
        assert_int_equal(s.form, VGPU_IMAGE_PTX);
        assert_int_equal(s.size_bytes, n);
        assert_int_equal(vgpu_image_extent(image, n + 1, &s), 0);
        assert_int_equal(vgpu_image_extent(image, n, &s), -E2BIG); /* its NUL is out of reach */
        free(image);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t *image = image_copy(bad[i], strlen(bad[i]) + 1);
        assert_int_equal(vgpu_image_extent(image, MOST, &s), -EINVAL);
        free(image);
        /* Without the NUL, but with a length. */
        image = image_copy(bad[i], strlen(bad[i]));
        assert_int_equal(vgpu_image_form_of(image, strlen(bad[i])), VGPU_IMAGE_NONE);
        free(image);
    }
    assert_int_equal(vgpu_image_extent(NULL, MOST, &s), -EINVAL);
    assert_int_equal(vgpu_image_form_of(NULL, 0), VGPU_IMAGE_NONE);
}

/* A wrapper of 24 bytes and the fatbin that it points to. */
static void test_wrapper(void **state)
{
    (void)state;
    struct fatbin f;
    struct vgpu_image_span s;
    uint8_t w[24] = {0xb1, 0x43, 0x62, 0x46};
    fatbin_begin(&f);
    fatbin_add_ptx(&f, 75, 0, "k");
    uint8_t *inner = image_copy(f.bytes, f.size);
    for (uint32_t version = 0; version < 5; version++) {
        put32(w + 4, version);
        put64(w + 8, (uintptr_t)inner);
        uint8_t *image = image_copy(w, sizeof(w));
        assert_int_equal(vgpu_image_form_of(image, sizeof(w)), VGPU_IMAGE_WRAPPER);
        int err = vgpu_image_extent(image, MOST, &s);
        assert_int_equal(err, version == 1 || version == 2 ? 0 : -EINVAL);
        if (err == 0) {
            assert_true(s.wrapped);
            assert_int_equal(s.form, VGPU_IMAGE_FATBIN);
            assert_ptr_equal(s.bytes, inner);
            assert_int_equal(s.size_bytes, f.size);
        }
        free(image);
    }
    put32(w + 4, 1);
    inner[0] ^= 1; /* what it points to is no fatbin */
    assert_int_equal(vgpu_image_extent(w, MOST, &s), -EINVAL);
    memcpy(inner, w, 4); /* a wrapper in a wrapper */
    assert_int_equal(vgpu_image_extent(w, MOST, &s), -EINVAL);
    put64(w + 8, 0);
    assert_int_equal(vgpu_image_extent(w, MOST, &s), -EINVAL);
    free(inner);
}

static void test_fatbin_header(void **state)
{
    (void)state;
    static const struct {
        uint16_t version, header;
        uint64_t body;
        int want;
    } cases[] = {
        {1, 16, 0, 0},
        {1, 24, 8, 0},
        {1, 65535, MOST - 65535, 0},
        {0, 16, 0, -EINVAL},
        {2, 16, 0, -EINVAL},
        {1, 15, 0, -EINVAL},
        {1, 0, 0, -EINVAL},
        {1, 16, MOST, -E2BIG},
        {1, 16, UINT64_MAX, -E2BIG},
        {1, 16, UINT64_MAX - 15, -E2BIG},
        {1, 16, (uint64_t)1 << 63, -E2BIG},
        {1, 16, MOST - 15, -E2BIG},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t head[16] = {0x50, 0xed, 0x55, 0xba};
        struct vgpu_image_span s;
        put16(head + AT_FATBIN_VERSION, cases[i].version);
        put16(head + AT_FATBIN_HEADER, cases[i].header);
        put64(head + AT_FATBIN_BODY, cases[i].body);
        assert_int_equal(vgpu_image_extent(head, MOST, &s), cases[i].want);
        if (cases[i].want == 0)
            assert_int_equal(s.size_bytes, cases[i].header + cases[i].body);
    }
}

/*
 * An ELF header is believed only as far as `most`: each field at its extremes gives a length up to
 * it or an error. The memory is as large as `most`, so a read beyond is seen.
 */
static void test_elf_fields(void **state)
{
    (void)state;
    static const struct {
        unsigned at, bytes;
    } fields[] = {{4, 1},  {5, 1},  {18, 2}, {32, 8}, {40, 8},
                  {54, 2}, {56, 2}, {58, 2}, {60, 2}, {62, 2}};
    static const uint64_t values[] = {
        0,      1,      2,          63,         64,        65,         255,
        0x7fff, 0xffff, 0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX, UINT64_MAX - 63,
        7000,   7720};
    size_t bytes;
    uint8_t *image = image_read("kernels75.cubin", &bytes), saved[64];
    struct vgpu_image_span s;
    memcpy(saved, image, sizeof(saved));
    for (unsigned f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
        for (unsigned v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            for (unsigned i = 0; i < fields[f].bytes; i++)
                image[fields[f].at + i] = (uint8_t)(values[v] >> 8 * i);
            int err = vgpu_image_extent(image, bytes, &s);
            assert_true(err == 0 || err == -EINVAL || err == -E2BIG);
            if (err == 0)
                assert_in_range(s.size_bytes, 64, bytes);
            memcpy(image, saved, sizeof(saved));
        }
    }
    /* Each section's and segment's place. */
    uint64_t sections = get64(image + 40), segments = get64(image + 32);
    for (uint64_t at = sections + 64; at < segments; at += 64) {
        for (unsigned v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            for (unsigned which = 24; which <= 32; which += 8) {
                uint64_t was = get64(image + at + which);
                put64(image + at + which, values[v]);
                int err = vgpu_image_extent(image, bytes, &s);
                assert_true(err == 0 || err == -E2BIG);
                put64(image + at + which, was);
            }
        }
    }
    assert_int_equal(vgpu_image_extent(image, bytes, &s), 0);
    assert_int_equal(s.size_bytes, bytes);
    free(image);
}

/* More than 65279 sections: their number is in section 0. */
static void test_elf_many_sections(void **state)
{
    (void)state;
    size_t count = 70000, bytes = 64 + count * 64;
    uint8_t *image = calloc(1, bytes);
    struct vgpu_image_span s;
    assert_non_null(image);
    memcpy(image,
           "\x7f"
           "ELF\x02\x01\x01",
           7);
    put16(image + 18, 190);
    put64(image + 40, 64); /* sections_at */
    put16(image + 58, 64);
    put16(image + 62, 0xffff);
    put64(image + 64 + 32, count);
    put32(image + 64 + 40, 1);
    assert_int_equal(vgpu_image_extent(image, 2 * bytes, &s), 0);
    assert_int_equal(s.size_bytes, bytes);
    assert_int_equal(vgpu_cubin_check(image, bytes, NULL), 0);
    assert_int_equal(vgpu_image_extent(image, bytes - 1, &s), -E2BIG);
    assert_int_equal(vgpu_cubin_check(image, bytes - 1, NULL), -EINVAL);
    put64(image + 64 + 32, UINT64_MAX / 64 + 2); /* times 64 it overflows to little */
    assert_int_equal(vgpu_image_extent(image, bytes, &s), -E2BIG);
    assert_int_equal(vgpu_cubin_check(image, bytes, NULL), -EINVAL);
    free(image);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        VGPU_TEST(test_fixtures),   VGPU_TEST(test_text),
        VGPU_TEST(test_wrapper),    VGPU_TEST(test_fatbin_header),
        VGPU_TEST(test_elf_fields), VGPU_TEST(test_elf_many_sections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
