/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-images.md, "Compression" and "Before a driver sees it". */
#include "image_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef VGPU_HAVE_LZ4
#include <lz4.h>
#endif
#ifdef VGPU_HAVE_ZSTD
#include <zstd.h>
#endif

#include "backend/unpack.h"

#define MOST VGPU_UNPACK_MAX_BYTES

static char why[256];

static CUresult find(const void *image, size_t bytes, size_t most, struct vgpu_unpacked *u)
{
    memset(why, 'x', sizeof(why));
    CUresult r = vgpu_image_find_ptx(image, bytes, 75, most, u, why, sizeof(why));
    if (r != CUDA_SUCCESS) {
        assert_non_null(memchr(why, 0, sizeof(why)));
        assert_true(strlen(why) > 20);
        assert_null(u->bytes);
        assert_null(u->owned);
        /* Nobody has to want the text. */
        assert_int_equal(vgpu_image_find_ptx(image, bytes, 75, most, u, NULL, 0), r);
    }
    return r;
}

static bool can(const char *packing)
{
#ifndef VGPU_HAVE_LZ4
    if (strcmp(packing, "lz4") == 0)
        return false;
#endif
#ifndef VGPU_HAVE_ZSTD
    if (strcmp(packing, "zstd") == 0)
        return false;
#endif
    return true;
}

/* The same text out of all three, and why not where a library is missing. */
static void test_fixtures(void **state)
{
    (void)state;
    static const char *const packings[] = {"plain", "lz4", "zstd"};
    size_t plain_bytes;
    uint8_t *plain = image_read("kernels.plain.fatbin", &plain_bytes);
    const char *text = (const char *)plain + 16 + 80;
    for (unsigned i = 0; i < 3; i++) {
        char name[64];
        size_t bytes;
        struct vgpu_unpacked u;
        snprintf(name, sizeof(name), "kernels.%s.fatbin", packings[i]);
        uint8_t *image = image_read(name, &bytes);
        CUresult r = find(image, bytes, MOST, &u);
        if (can(packings[i])) {
            assert_int_equal(r, CUDA_SUCCESS);
            assert_int_equal(u.size, strlen(text));
            assert_memory_equal(u.bytes, text, u.size);
            assert_int_equal(u.owned != NULL, i > 0);
            assert_int_equal(vgpu_image_check(image, bytes, why, sizeof(why)), CUDA_SUCCESS);
        } else {
            assert_int_equal(r, CUDA_ERROR_NOT_SUPPORTED);
            assert_non_null(strstr(why, "--compress-mode=none"));
        }
        vgpu_unpacked_free(&u);
        vgpu_unpacked_free(&u); /* empty by now */
        free(image);
    }
    free(plain);
}

/* The four forms, and what is none of them. */
static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        CUresult want;
        const char *says;
    } cases[] = {
        {"kernels.ptx", CUDA_SUCCESS, NULL},
        {"tiny.plain.fatbin", CUDA_SUCCESS, NULL},
        {"kernels75.cubin", CUDA_ERROR_NO_BINARY_FOR_GPU, "sm_75"},
        {"machine-code.fatbin", CUDA_ERROR_NO_BINARY_FOR_GPU, "machine code: 2"},
        {"newer.fatbin", CUDA_ERROR_NO_BINARY_FOR_GPU, "sm_100"},
        {"variants.fatbin", CUDA_ERROR_NO_BINARY_FOR_GPU, "sm_100"},
    };
    struct vgpu_unpacked u;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t bytes;
        uint8_t *image = image_read(cases[i].file, &bytes);
        assert_int_equal(find(image, bytes, MOST, &u), cases[i].want);
        if (cases[i].says)
            assert_non_null(strstr(why, cases[i].says));
        vgpu_unpacked_free(&u);
        free(image);
    }
    uint8_t wrapper[24] = {0xb1, 0x43, 0x62, 0x46, 1};
    assert_int_equal(find(wrapper, sizeof(wrapper), MOST, &u), CUDA_ERROR_INVALID_IMAGE);
    assert_non_null(strstr(why, "wrapper"));
    assert_int_equal(vgpu_image_check(wrapper, sizeof(wrapper), NULL, 0), CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(find("hello", 5, MOST, &u), CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(vgpu_image_check("hello", 5, NULL, 0), CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(find("\x7f"
                          "ELF",
                          4, MOST, &u),
                     CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(vgpu_image_check("\x7f"
                                      "ELF",
                                      4, NULL, 0),
                     CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(find("P\xedU\xba", 4, MOST, &u), CUDA_ERROR_INVALID_IMAGE);
}

/* Every byte of a compressed image spoiled, and every prefix of it: memory stays in bounds, nothing
 * leaks, and what is accepted is as long as was declared. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const files[] = {"tiny.lz4.fatbin", "tiny.zstd.fatbin"};
    for (unsigned f = 0; f < 2; f++) {
        size_t bytes;
        uint8_t *image = image_read(files[f], &bytes);
        for (size_t at = 0; at < 400; at++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                struct vgpu_unpacked u;
                image[at] ^= (uint8_t)(1u << bit);
                CUresult r = find(image, bytes, 4096, &u);
                assert_true(r == CUDA_SUCCESS || r == CUDA_ERROR_INVALID_IMAGE ||
                            r == CUDA_ERROR_NO_BINARY_FOR_GPU || r == CUDA_ERROR_OUT_OF_MEMORY ||
                            r == CUDA_ERROR_NOT_SUPPORTED);
                assert_true(u.size <= bytes || u.owned);
                vgpu_unpacked_free(&u);
                (void)vgpu_image_check(image, bytes, why, sizeof(why));
                image[at] ^= (uint8_t)(1u << bit);
            }
        }
        for (size_t n = 0; n < bytes; n++) {
            struct vgpu_unpacked u;
            uint8_t *cut = image_copy(image, n);
            assert_int_equal(find(cut, n, MOST, &u), CUDA_ERROR_INVALID_IMAGE);
            assert_int_equal(vgpu_image_check(cut, n, NULL, 0), CUDA_ERROR_INVALID_IMAGE);
            free(cut);
        }
        free(image);
    }
}

/* The declared lengths must be right to the byte: wrong ones kill NVIDIA's driver. */
static void test_lengths(void **state)
{
    (void)state;
    static const char *const packings[] = {"lz4", "zstd"};
    for (unsigned f = 0; f < 2; f++) {
        char name[64];
        size_t bytes;
        if (!can(packings[f]))
            continue;
        snprintf(name, sizeof(name), "kernels.%s.fatbin", packings[f]);
        uint8_t *image = image_read(name, &bytes);
        uint64_t unpacked = get64(image + FIRST + AT_UNPACKED);
        uint64_t packed = get64(image + FIRST + AT_PACKED) & 0xffffffff;
        for (int d = -9; d <= 9; d++) {
            struct vgpu_unpacked u;
            CUresult want = d ? CUDA_ERROR_INVALID_IMAGE : CUDA_SUCCESS;
            put64(image + FIRST + AT_UNPACKED, unpacked + (uint64_t)(int64_t)d);
            assert_int_equal(find(image, bytes, MOST, &u), want);
            vgpu_unpacked_free(&u);
            assert_int_equal(vgpu_image_check(image, bytes, NULL, 0), want);
            put64(image + FIRST + AT_UNPACKED, unpacked);
            put32(image + FIRST + AT_PACKED, (uint32_t)((int64_t)packed + d));
            assert_int_equal(find(image, bytes, MOST, &u), want);
            vgpu_unpacked_free(&u);
            assert_int_equal(vgpu_image_check(image, bytes, NULL, 0), want);
            put32(image + FIRST + AT_PACKED, (uint32_t)packed);
        }
        /* Packed with the one, marked as the other; or as neither, which is no PTX then. */
        uint64_t flags = get64(image + FIRST + AT_FLAGS);
        struct vgpu_unpacked u;
        put64(image + FIRST + AT_FLAGS, flags ^ (VGPU_FATBIN_F_LZ4 | VGPU_FATBIN_F_ZSTD));
        assert_int_not_equal(find(image, bytes, MOST, &u), CUDA_SUCCESS);
        free(image);
    }
}

/* What is declared is limited before anything is allocated; the entry has 8 bytes. */
static void test_bombs(void **state)
{
    (void)state;
    static const struct {
        uint64_t unpacked;
        CUresult want;
        const char *says;
    } cases[] = {
        {UINT64_MAX, CUDA_ERROR_INVALID_IMAGE, "the most is"},
        {(uint64_t)1 << 63, CUDA_ERROR_INVALID_IMAGE, "the most is"},
        {((uint64_t)1 << 32) + 8, CUDA_ERROR_INVALID_IMAGE, "the most is"},
        {VGPU_UNPACK_MAX_BYTES + 1, CUDA_ERROR_INVALID_IMAGE, "the most is"},
        {VGPU_UNPACK_MAX_BYTES, CUDA_ERROR_INVALID_IMAGE, "times as much"},
        {((uint64_t)1 << 20) + 1, CUDA_ERROR_INVALID_IMAGE, "times as much"},
        {100001, CUDA_ERROR_OUT_OF_MEMORY, "room is left for 100000"},
        {100000, CUDA_ERROR_INVALID_IMAGE, "damaged"},
    };
    static const struct {
        uint64_t flag;
        const char *packing;
    } kinds[] = {{VGPU_FATBIN_F_LZ4, "lz4"}, {VGPU_FATBIN_F_ZSTD, "zstd"}};
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            struct fatbin f;
            struct vgpu_unpacked u;
            if (!can(kinds[k].packing))
                continue;
            fatbin_begin(&f);
            fatbin_add(&f, VGPU_FATBIN_PTX, 75, kinds[k].flag,
                       "\x1f"
                       "1234567",
                       8, cases[i].unpacked);
            assert_int_equal(find(f.bytes, f.size, 100000, &u), cases[i].want);
            assert_non_null(strstr(why, cases[i].says));
        }
    }
}

/* Real bombs: text that shrinks by more than the ratio is refused though it would unpack; one that
 * hides behind a small declared size unpacks no further than that. */
static void test_real_bombs(void **state)
{
    (void)state;
#ifdef VGPU_HAVE_ZSTD
    size_t big = 8u << 20;
    char *zeros = calloc(1, big);
    static uint8_t packed[8000];
    assert_non_null(zeros);
    size_t n = ZSTD_compress(packed, sizeof(packed), zeros, big, 19);
    assert_false(ZSTD_isError(n));
    assert_true(n < big / VGPU_UNPACK_RATIO);
    static const uint64_t declared[] = {8u << 20, 1u << 20, 4096, 1};
    for (unsigned i = 0; i < 4; i++) {
        struct fatbin f;
        struct vgpu_unpacked u;
        fatbin_begin(&f);
        fatbin_add(&f, VGPU_FATBIN_PTX, 75, VGPU_FATBIN_F_ZSTD, packed, n, declared[i]);
        assert_int_equal(find(f.bytes, f.size, MOST, &u), CUDA_ERROR_INVALID_IMAGE);
    }
    free(zeros);
#endif
#ifdef VGPU_HAVE_LZ4
    char spaces[4096], small[4096];
    memset(spaces, ' ', sizeof(spaces));
    int z = LZ4_compress_default(spaces, small, sizeof(spaces), sizeof(small));
    assert_in_range(z, 1, 100);
    struct fatbin f;
    struct vgpu_unpacked u;
    fatbin_begin(&f);
    fatbin_add(&f, VGPU_FATBIN_PTX, 75, VGPU_FATBIN_F_LZ4, small, (size_t)z, 4096);
    assert_int_equal(find(f.bytes, f.size, MOST, &u), CUDA_SUCCESS);
    assert_int_equal(u.size, 4096);
    vgpu_unpacked_free(&u);
    fatbin_begin(&f);
    fatbin_add(&f, VGPU_FATBIN_PTX, 75, VGPU_FATBIN_F_LZ4, small, (size_t)z, 4095);
    assert_int_equal(find(f.bytes, f.size, MOST, &u), CUDA_ERROR_INVALID_IMAGE);
#endif
}

/* What an image unpacks to in all is limited, too: many entries, each within its own limits, as a
 * frame of zeros with a frame to skip behind it. */
static void test_total(void **state)
{
    (void)state;
#ifdef VGPU_HAVE_ZSTD
    const size_t one = VGPU_UNPACK_MAX_BYTES, stored = one / VGPU_UNPACK_RATIO;
    const size_t most = (size_t)(VGPU_UNPACK_TOTAL_BYTES / one), entry = 80 + stored;
    uint8_t *zeros = calloc(1, one), *image = calloc(1, 16 + (most + 1) * entry);
    assert_non_null(zeros);
    assert_non_null(image);
    size_t n = ZSTD_compress(image + 16 + 80, stored - 8, zeros, one, 1);
    free(zeros);
    assert_false(ZSTD_isError(n));
    put32(image + 16 + 80 + n, 0x184d2a50);
    put32(image + 16 + 80 + n + 4, (uint32_t)(stored - n - 8));
    struct fatbin f;
    fatbin_begin(&f);
    size_t at = fatbin_add(&f, VGPU_FATBIN_PTX, 75, VGPU_FATBIN_F_ZSTD, "", 0, one);
    memcpy(image + 16, f.bytes + at, 80);
    put64(image + 16 + AT_STORED, stored);
    put32(image + 16 + AT_PACKED, (uint32_t)stored);
    memcpy(image, f.bytes, 16);
    for (size_t i = 1; i <= most; i++)
        memcpy(image + 16 + i * entry, image + 16, entry);
    put64(image + AT_FATBIN_BODY, most * entry);
    assert_int_equal(vgpu_image_check(image, 16 + most * entry, why, sizeof(why)), CUDA_SUCCESS);
    put64(image + AT_FATBIN_BODY, (most + 1) * entry);
    assert_int_equal(vgpu_image_check(image, 16 + (most + 1) * entry, why, sizeof(why)),
                     CUDA_ERROR_INVALID_IMAGE);
    assert_non_null(strstr(why, "in all"));
    free(image);
#endif
}

/* Layouts through a fatbin: the entry for the device, unpacked. A parameter of 20000 bytes. */
static void test_params(void **state)
{
    (void)state;
    struct vgpu_param_layout l[4];
    uint32_t count, total;
    size_t bytes;
    static const char *const packings[] = {"plain", "lz4", "zstd"};
    for (unsigned i = 0; i < 3; i++) {
        char name[64];
        if (!can(packings[i]))
            continue;
        snprintf(name, sizeof(name), "kernels.%s.fatbin", packings[i]);
        uint8_t *image = image_read(name, &bytes);
        assert_int_equal(vgpu_image_find_params(image, bytes, 90, "vectors", l, 4, &count, &total,
                                                why, sizeof(why)),
                         CUDA_SUCCESS);
        assert_int_equal(count, 3);
        assert_int_equal(total, 32);
        assert_int_equal(vgpu_image_find_params(image, bytes, 90, "absent", l, 4, &count, &total,
                                                why, sizeof(why)),
                         CUDA_ERROR_NOT_FOUND);
        assert_non_null(strstr(why, "absent"));
        assert_int_equal(vgpu_image_find_params(image, bytes, 60, "vectors", l, 4, &count, &total,
                                                why, sizeof(why)),
                         CUDA_ERROR_NO_BINARY_FOR_GPU);
        free(image);
    }
    if (can("zstd")) {
        uint8_t *image = image_read("large.fatbin", &bytes);
        assert_int_equal(vgpu_image_find_params(image, bytes, 90, "large", l, 4, &count, &total,
                                                why, sizeof(why)),
                         CUDA_SUCCESS);
        assert_int_equal(count, 3);
        assert_int_equal(total, 20010);
        assert_int_equal(l[0].size, 20000);
        assert_int_equal(l[1].offset, 20000);
        assert_int_equal(l[2].offset, 20008);
        assert_int_equal(l[2].size, 2);
        free(image);
    }
    uint8_t *image = image_read("kernels75.cubin", &bytes);
    assert_int_equal(
        vgpu_image_find_params(image, bytes, 75, "mixed", l, 4, &count, &total, why, sizeof(why)),
        CUDA_SUCCESS);
    assert_int_equal(count, 6);
    assert_int_equal(
        vgpu_image_find_params("hello", 5, 75, "mixed", l, 4, &count, &total, why, sizeof(why)),
        CUDA_ERROR_INVALID_IMAGE);
    free(image);
}

/* What vgpu_image_check promises a driver beyond lengths. */
static void test_check(void **state)
{
    (void)state;
    static const char *const files[] = {"kernels.ptx",         "kernels75.cubin", "old75.cubin",
                                        "tiny.plain.fatbin",   "newer.fatbin",    "lto.fatbin",
                                        "machine-code.fatbin", "variants.fatbin"};
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        size_t bytes;
        if (i > 3 && !can("zstd"))
            continue;
        uint8_t *image = image_read(files[i], &bytes);
        assert_int_equal(vgpu_image_check(image, bytes, why, sizeof(why)), CUDA_SUCCESS);
        free(image);
    }
    /* What nobody can check: kinds that are not known, and flags by which the data is something
     * else. */
    static const unsigned kinds[] = {0, 3, 4, 8, 16, 32, 64, 0xffff};
    struct fatbin f;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        fatbin_begin(&f);
        fatbin_add(&f, kinds[i], 75, 0, "1234567", 8, 0);
        assert_int_equal(vgpu_image_check(f.bytes, f.size, why, sizeof(why)),
                         CUDA_ERROR_NOT_SUPPORTED);
    }
    static const uint64_t flags[] = {0x1000, 0x4000, 0x10000, 0x12000, 0x18000};
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct vgpu_unpacked u;
        fatbin_begin(&f);
        fatbin_add_ptx(&f, 75, 0, "k");
        assert_int_equal(vgpu_image_check(f.bytes, f.size, why, sizeof(why)), CUDA_SUCCESS);
        put64(f.bytes + FIRST + AT_FLAGS, flags[i]);
        assert_int_equal(vgpu_image_check(f.bytes, f.size, why, sizeof(why)),
                         CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(find(f.bytes, f.size, MOST, &u), CUDA_ERROR_NOT_SUPPORTED);
        assert_non_null(strstr(why, "flags 0x"));
    }
    fatbin_begin(&f);
    fatbin_add(&f, VGPU_FATBIN_PTX, 75, 0, "no NUL..", 8, 0);
    assert_int_equal(vgpu_image_check(f.bytes, f.size, why, sizeof(why)), CUDA_ERROR_INVALID_IMAGE);
    fatbin_begin(&f);
    fatbin_add(&f, VGPU_FATBIN_ELF, 75, 0,
               "\x7f"
               "ELF....",
               8, 0);
    assert_int_equal(vgpu_image_check(f.bytes, f.size, why, sizeof(why)), CUDA_ERROR_INVALID_IMAGE);
    size_t bytes;
    uint8_t *image = image_read("tiny.plain.fatbin", &bytes);
    put64(image + 360 + 64 + 40, 0xffffffffff); /* where the cubin's sections are */
    assert_int_equal(vgpu_image_check(image, bytes, why, sizeof(why)), CUDA_ERROR_INVALID_IMAGE);
    free(image);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        VGPU_TEST(test_fixtures), VGPU_TEST(test_forms),  VGPU_TEST(test_damaged),
        VGPU_TEST(test_lengths),  VGPU_TEST(test_bombs),  VGPU_TEST(test_real_bombs),
        VGPU_TEST(test_total),    VGPU_TEST(test_params), VGPU_TEST(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
