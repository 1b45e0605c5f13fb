/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-images.md, "Fatbins" and "Which entry is taken". */
#include "image_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BOTH (1u << VGPU_FATBIN_PTX | 1u << VGPU_FATBIN_ELF)

/* Walks to the end; how many entries, or the error. Everything an entry points to is touched. */
static int walk(const void *image, size_t bytes)
{
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry e;
    int r, entries = 0;
    volatile uint8_t sum = 0;
    vgpu_fatbin_walk_start(&w, image, bytes);
    while ((r = vgpu_fatbin_walk_next(&w, &e)) > 0) {
        entries++;
        for (size_t i = 0; i < e.data_bytes; i++)
            sum = (uint8_t)(sum + e.data[i]);
        for (size_t i = 0; i < e.options_bytes; i++)
            sum = (uint8_t)(sum + e.options[i]);
        for (size_t i = 0; i < e.name_bytes; i++)
            sum = (uint8_t)(sum + e.name[i]);
    }
    if (r < 0) /* and it stays so */
        assert_int_equal(vgpu_fatbin_walk_next(&w, &e), -EINVAL);
    return r < 0 ? r : entries;
}

/* What nvcc writes, entry by entry. */
static void test_fixtures(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        unsigned kind;
        uint32_t sm;
        enum vgpu_fatbin_packing packing;
        uint64_t unpacked;
        uint64_t flags;
    } want[] = {
        {"tiny.plain.fatbin", 1, 75, VGPU_FATBIN_PLAIN, 264, 0x11},
        {"tiny.plain.fatbin", 2, 75, VGPU_FATBIN_PLAIN, 2856, 0x11},
        {"tiny.plain.fatbin", 2, 90, VGPU_FATBIN_PLAIN, 3440, 0x100011},
        {"tiny.plain.fatbin", 1, 100, VGPU_FATBIN_PLAIN, 280, 0x11},
        {"tiny.lz4.fatbin", 1, 75, VGPU_FATBIN_LZ4, 0x106, 0x2011},
        {"tiny.lz4.fatbin", 2, 75, VGPU_FATBIN_LZ4, 2856, 0x2011},
        {"tiny.lz4.fatbin", 2, 90, VGPU_FATBIN_LZ4, 3440, 0x102011},
        {"tiny.lz4.fatbin", 1, 100, VGPU_FATBIN_LZ4, 0x113, 0x2011},
        {"tiny.zstd.fatbin", 1, 75, VGPU_FATBIN_ZSTD, 0x106, 0x8011},
        {"tiny.zstd.fatbin", 2, 75, VGPU_FATBIN_ZSTD, 2856, 0x8011},
        {"tiny.zstd.fatbin", 2, 90, VGPU_FATBIN_ZSTD, 3440, 0x108011},
        {"tiny.zstd.fatbin", 1, 100, VGPU_FATBIN_ZSTD, 0x113, 0x8011},
        {"variants.fatbin", 1, 100, VGPU_FATBIN_ZSTD, 0x114, 0x208011},
        {"variants.fatbin", 1, 100, VGPU_FATBIN_ZSTD, 0x114, 0x108011},
        {"lto.fatbin", 1, 75, VGPU_FATBIN_ZSTD, 0x106, 0x8011},
        {"lto.fatbin", 8, 75, VGPU_FATBIN_OPAQUE, 1624, 0x18011},
    };
    const unsigned count = sizeof(want) / sizeof(want[0]);
    for (unsigned i = 0; i < count;) {
        size_t bytes;
        uint8_t *image = image_read(want[i].file, &bytes);
        struct vgpu_fatbin_walk w;
        struct vgpu_fatbin_entry e;
        const char *file = want[i].file;
        vgpu_fatbin_walk_start(&w, image, bytes);
        for (; i < count && strcmp(want[i].file, file) == 0; i++) {
            assert_int_equal(vgpu_fatbin_walk_next(&w, &e), 1);
            assert_int_equal(e.kind, want[i].kind);
            assert_int_equal(e.sm, want[i].sm);
            assert_int_equal(e.packing, want[i].packing);
            assert_int_equal(e.unpacked_bytes, want[i].unpacked);
            assert_int_equal(e.flags, want[i].flags);
            assert_int_equal(e.fatbin, 0);
            assert_true(e.data_bytes > 0 && e.data > image &&
                        (size_t)(e.data - image) <= bytes - e.data_bytes);
            if (e.kind == VGPU_FATBIN_PTX) {
                assert_int_equal(e.version_major, 9);
                assert_int_equal(e.version_minor, 0);
            }
        }
        assert_int_equal(vgpu_fatbin_walk_next(&w, &e), 0);
        free(image);
    }
}

static void test_names(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *image = image_read("named.fatbin", &bytes);
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry e;
    vgpu_fatbin_walk_start(&w, image, bytes);
    assert_int_equal(vgpu_fatbin_walk_next(&w, &e), 1);
    assert_int_equal(e.name_bytes, 7);
    assert_memory_equal(e.name, "tiny.cu", 7);
    static const char options[] = "-maxrregcount=32";
    bool found = false;
    for (size_t i = 0; i + sizeof(options) - 1 <= e.options_bytes; i++)
        found |= memcmp(e.options + i, options, sizeof(options) - 1) == 0;
    assert_true(found);
    assert_int_equal(vgpu_fatbin_walk_next(&w, &e), 0);
    free(image);
}

/* No prefix of a fatbin is one. */
static void test_truncated(void **state)
{
    (void)state;
    static const char *const files[] = {"tiny.plain.fatbin", "tiny.lz4.fatbin", "tiny.zstd.fatbin",
                                        "named.fatbin", "lto.fatbin"};
    for (unsigned f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        size_t bytes;
        uint8_t *image = image_read(files[f], &bytes);
        for (size_t n = 0; n < bytes; n++) {
            uint8_t *cut = image_copy(image, n);
            struct vgpu_fatbin_entry e;
            assert_int_equal(walk(cut, n), -EINVAL);
            assert_int_equal(vgpu_fatbin_choose(cut, n, 75, BOTH, &e, NULL), -EINVAL);
            free(cut);
        }
        assert_true(walk(image, bytes) > 0);
        free(image);
    }
}

/*
 * Each field of both headers at its extremes. The image is alone in its memory; the walk ends with
 * an error or within it, after at most one entry per 64 bytes.
 */
static void test_extremes(void **state)
{
    (void)state;
    static const struct {
        unsigned at, bytes;
    } fields[] = {{0, 4},          {4, 2},          {6, 2},          {8, 8},
                  {FIRST, 2},      {FIRST + 2, 2},  {FIRST + 4, 4},  {FIRST + 8, 8},
                  {FIRST + 16, 4}, {FIRST + 20, 4}, {FIRST + 24, 4}, {FIRST + 28, 4},
                  {FIRST + 32, 4}, {FIRST + 36, 4}, {FIRST + 40, 8}, {FIRST + 48, 8},
                  {FIRST + 56, 8}, {FIRST + 64, 4}, {FIRST + 68, 4}};
    static const char *const files[] = {"kernels.plain.fatbin", "kernels.lz4.fatbin",
                                        "named.fatbin"};
    for (unsigned file = 0; file < 3; file++) {
        size_t bytes;
        uint8_t *image = image_read(files[file], &bytes), saved[96];
        memcpy(saved, image, sizeof(saved));
        uint64_t values[] = {0,
                             1,
                             15,
                             16,
                             63,
                             64,
                             65,
                             71,
                             72,
                             73,
                             79,
                             80,
                             81,
                             0x7fff,
                             0xffff,
                             0x7fffffff,
                             0x80000000,
                             0xffffffff,
                             0xfffffff8,
                             INT64_MAX,
                             UINT64_MAX,
                             UINT64_MAX - 7,
                             UINT64_MAX - 63,
                             UINT64_MAX - 79,
                             bytes,
                             bytes - 16,
                             bytes - 96,
                             bytes - 95};
        for (unsigned f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
            for (unsigned v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
                struct vgpu_fatbin_entry e;
                for (unsigned i = 0; i < fields[f].bytes; i++)
                    image[fields[f].at + i] = (uint8_t)(values[v] >> 8 * i);
                int r = walk(image, bytes);
                assert_true(r == -EINVAL || (r >= 0 && (size_t)r <= bytes / 64));
                int c = vgpu_fatbin_choose(image, bytes, 75, BOTH, &e, NULL);
                assert_true(c == 0 || c == -EINVAL || c == -ENOEXEC);
                if (c == 0)
                    assert_true(e.data >= image &&
                                e.data_bytes <= bytes - (size_t)(e.data - image));
                memcpy(image, saved, sizeof(saved));
            }
        }
        free(image);
    }
}

/* One clause each. */
static void test_clauses(void **state)
{
    (void)state;
    struct fatbin f;
    fatbin_begin(&f);
    assert_int_equal(walk(f.bytes, f.size), 0); /* empty, and nothing wrong */
    size_t at = fatbin_add_ptx(&f, 75, 0, "k");
    struct fatbin good = f;
    assert_int_equal(walk(f.bytes, f.size), 1);

#define SPOILED(statement, want)                                                                   \
    do {                                                                                           \
        uint8_t *p = f.bytes + at;                                                                 \
        f = good;                                                                                  \
        (void)p;                                                                                   \
        statement;                                                                                 \
        assert_int_equal(walk(f.bytes, f.size), want);                                             \
    } while (0)

    SPOILED(f.bytes[0] ^= 1, -EINVAL);
    SPOILED(put16(f.bytes + AT_FATBIN_VERSION, 2), -EINVAL);
    SPOILED(put16(f.bytes + AT_FATBIN_HEADER, 8), -EINVAL);
    SPOILED(put64(f.bytes + AT_FATBIN_BODY, f.size - 15), -EINVAL); /* beyond the image */
    SPOILED(put64(f.bytes + AT_FATBIN_BODY, 63), -EINVAL);          /* half an entry */
    SPOILED(put32(p + AT_HEADER, 56), -EINVAL);
    SPOILED(put32(p + AT_HEADER, 0xfffffff0), -EINVAL);
    SPOILED(put64(p + AT_STORED, UINT64_MAX - 79), -EINVAL); /* header + stored is 0 */
    SPOILED(put16(p + 2, 0x9999), 1); /* the entry's version: drivers do not look */
    SPOILED(put16(p + AT_KIND, 77), 1);
    SPOILED(put32(p + AT_OPTIONS, 0), -EINVAL); /* kills NVIDIA's driver */
    SPOILED(put32(p + AT_OPTIONS, 80), -EINVAL);
    SPOILED((put32(p + 64, 72), put32(p + 68, 9)), -EINVAL);
    SPOILED((put32(p + 64, 72), put32(p + 68, 8)), -EINVAL);
    SPOILED((put32(p + 64, 72), put32(p + 68, 7)), 1);
    SPOILED((put32(p + 64, 0xfffffffc), put32(p + 68, 8)), -EINVAL);
    SPOILED(put32(p + 64, 0xff000048), -EINVAL); /* of no bytes, and still followed */
    SPOILED(put32(p + 64, 79), 1);
    SPOILED(put32(p + 64, 80), -EINVAL); /* its NUL would be the data's first byte */
    SPOILED((put32(p + 64, 72), p[72] = 'x'), -EINVAL);
    SPOILED((put32(p + 68, 1), p[72] = 'x'), 1);
    SPOILED(put32(p + AT_NAME, 1), -EINVAL);
    SPOILED((put32(p + AT_NAME, 64), put32(p + AT_NAME_BYTES, 17)), -EINVAL);
    SPOILED((put32(p + AT_NAME, 0), put32(p + AT_NAME_BYTES, 4)), -EINVAL);
    SPOILED((put32(p + AT_NAME, 64), put32(p + AT_NAME_BYTES, 16)), -EINVAL);
    SPOILED((put32(p + AT_NAME, 64), put32(p + AT_NAME_BYTES, 0xffffffff)), -EINVAL);
    SPOILED((put32(p + AT_NAME, 64), put32(p + AT_NAME_BYTES, 15)), 1);
    /* Compressed: what is packed lies in what is stored, and unpacks to something. */
    SPOILED(put64(p + AT_FLAGS, 0x2000), -EINVAL);
    SPOILED(put64(p + AT_FLAGS, 0x12000), 1); /* opaque: its sizes say nothing */
    SPOILED((put64(p + AT_FLAGS, 0x2000), put32(p + AT_PACKED, 8)), -EINVAL);
    SPOILED((put64(p + AT_FLAGS, 0x2000), put32(p + AT_PACKED, 8), put64(p + AT_UNPACKED, 9)), 1);
    SPOILED((put64(p + AT_FLAGS, 0xa000), put32(p + AT_PACKED, 8), put64(p + AT_UNPACKED, 9)),
            -EINVAL);
    SPOILED(
        (put64(p + AT_FLAGS, 0x8000), put32(p + AT_PACKED, 0xffffffff), put64(p + AT_UNPACKED, 9)),
        -EINVAL);
#undef SPOILED
}

/* Fatbins one behind the other, as a linker leaves them. */
static void test_concatenated(void **state)
{
    (void)state;
    struct fatbin a, b;
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry e;
    uint8_t both[512];
    fatbin_begin(&a);
    fatbin_add_ptx(&a, 100, 0, "a");
    fatbin_begin(&b);
    fatbin_add_ptx(&b, 75, 0, "b");
    fatbin_add_ptx(&b, 80, 0, "c");
    memcpy(both, a.bytes, a.size);
    memcpy(both + a.size, b.bytes, b.size);
    size_t size = a.size + b.size;
    vgpu_fatbin_walk_start(&w, both, size);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(vgpu_fatbin_walk_next(&w, &e), 1);
        assert_int_equal(e.sm, i == 0 ? 100 : i == 1 ? 75 : 80);
        assert_int_equal(e.fatbin, i > 0);
    }
    assert_int_equal(vgpu_fatbin_walk_next(&w, &e), 0);
    /* A driver stops at the end of the first, and so do we when we choose. */
    assert_int_equal(vgpu_fatbin_choose(both, size, 75, BOTH, &e, NULL), -ENOEXEC);
    assert_int_equal(vgpu_fatbin_choose(both, size, 100, BOTH, &e, NULL), 0);
    /* Something else behind it is not looked at; a broken second one is seen by the walk only. */
    put32(both + a.size, 0x12345678);
    assert_int_equal(walk(both, size), 1);
    memcpy(both + a.size, b.bytes, 4);
    put16(both + a.size + AT_FATBIN_VERSION, 9);
    assert_int_equal(walk(both, size), -EINVAL);
    assert_int_equal(vgpu_fatbin_choose(both, size, 100, BOTH, &e, NULL), 0);
}

/* As driver 580 chose on a card of compute capability 9.0, and what follows for other ones. */
static void test_choice(void **state)
{
    (void)state;
#define P(sm, flags)                                                                               \
    {                                                                                              \
        VGPU_FATBIN_PTX, sm, flags                                                                 \
    }
#define E(sm, flags)                                                                               \
    {                                                                                              \
        VGPU_FATBIN_ELF, sm, flags                                                                 \
    }
    enum { A = VGPU_FATBIN_F_ARCH, F = VGPU_FATBIN_F_FAMILY };
    static const struct {
        uint32_t sm;
        unsigned kinds;
        int want; /* index of the entry, or -1 */
        struct {
            unsigned kind;
            uint32_t sm;
            uint64_t flags;
        } entries[4];
    } cases[] = {
        {90, BOTH, 0, {P(75, 0)}},
        {90, BOTH, 2, {P(75, 0), P(80, 0), P(90, 0)}},
        {90, BOTH, 0, {P(90, 0), P(80, 0), P(75, 0)}},
        {90, BOTH, -1, {P(100, 0)}},
        {90, BOTH, 1, {P(100, 0), P(75, 0)}},
        {90, BOTH, -1, {E(75, 0)}},
        {90, BOTH, -1, {E(75, 0), E(80, 0)}},
        {90, BOTH, 1, {P(90, 0), E(90, 0)}},
        {90, BOTH, 1, {E(75, 0), P(75, 0)}},
        /* Between equals: the first, but the last plain PTX of the device's own number. */
        {90, BOTH, 0, {P(75, 0), P(75, 0)}},
        {90, BOTH, 1, {P(80, 0), P(89, 0), P(89, 0)}},
        {90, BOTH, 2, {P(90, 0), P(90, 0), P(90, 0)}},
        {90, BOTH, 2, {P(90, 0), P(75, 0), P(90, 0), P(75, 0)}},
        {90, BOTH, 0, {P(90, A), P(90, A)}},
        {90, BOTH, 0, {P(90, A), P(90, 0), P(90, A), P(90, 0)}},
        {90, BOTH, 0, {E(90, 0), E(90, 0)}},
        {90, BOTH, 1, {E(90, 0), E(90, A)}},
        {90, BOTH, 0, {E(90, A), E(90, 0)}},
        {90, BOTH, 0, {P(90, A)}},
        {90, BOTH, -1, {P(80, F)}},
        {90, BOTH, 0, {P(90, A), P(90, 0)}},
        {90, BOTH, 1, {P(90, 0), P(90, A)}},
        {90, BOTH, 1, {{99, 90, 0}, P(75, 0)}},
        {90, BOTH, -1, {{99, 90, 0}}},
        {90, BOTH, -1, {P(0, 0)}},
        /* Machine code of an earlier minor number, not of a later one. */
        {86, BOTH, 1, {P(86, 0), E(80, 0)}},
        {86, BOTH, 1, {E(80, 0), E(86, 0)}},
        {80, BOTH, -1, {E(86, 0)}},
        {103, BOTH, 0, {P(100, F)}},
        {103, BOTH, -1, {P(100, A)}},
        {120, BOTH, -1, {P(100, F), E(100, 0)}},
        /* A device that runs PTX only. */
        {75, 1u << VGPU_FATBIN_PTX, 1, {E(75, 0), P(70, 0), P(80, 0)}},
        {75, 1u << VGPU_FATBIN_PTX, -1, {E(75, 0), P(80, 0)}},
        {75, 1u << VGPU_FATBIN_PTX, 2, {P(52, 0), P(61, 0), P(75, 0), P(70, 0)}},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fatbin f;
        struct vgpu_fatbin_entry e;
        size_t at[4] = {0};
        fatbin_begin(&f);
        for (unsigned k = 0; k < 4 && cases[i].entries[k].kind; k++)
            at[k] = fatbin_add(&f, cases[i].entries[k].kind, cases[i].entries[k].sm,
                               cases[i].entries[k].flags, "12345678", 8, 0);
        int r = vgpu_fatbin_choose(f.bytes, f.size, cases[i].sm, cases[i].kinds, &e, NULL);
        if (r != (cases[i].want < 0 ? -ENOEXEC : 0))
            print_error("case %u\n", i);
        assert_int_equal(r, cases[i].want < 0 ? -ENOEXEC : 0);
        if (r == 0) {
            size_t header = cases[i].entries[cases[i].want].kind == VGPU_FATBIN_PTX ? 80 : 64;
            if ((size_t)(e.data - f.bytes) != at[cases[i].want] + header)
                print_error("case %u\n", i);
            assert_int_equal(e.data - f.bytes, at[cases[i].want] + header);
        }
    }
#undef P
#undef E
}

static void test_census(void **state)
{
    (void)state;
    size_t bytes;
    struct vgpu_fatbin_entry e;
    struct vgpu_fatbin_census c;
    uint8_t *image = image_read("tiny.zstd.fatbin", &bytes);
    assert_int_equal(vgpu_fatbin_choose(image, bytes, 52, BOTH, &e, &c), -ENOEXEC);
    assert_int_equal(c.ptx, 2);
    assert_int_equal(c.elf, 2);
    assert_int_equal(c.other, 0);
    assert_int_equal(c.lowest_ptx_sm, 75);
    free(image);
    image = image_read("lto.fatbin", &bytes);
    assert_int_equal(vgpu_fatbin_choose(image, bytes, 75, BOTH, &e, &c), 0);
    assert_int_equal(c.other, 1);
    free(image);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        VGPU_TEST(test_fixtures), VGPU_TEST(test_names),   VGPU_TEST(test_truncated),
        VGPU_TEST(test_extremes), VGPU_TEST(test_clauses), VGPU_TEST(test_concatenated),
        VGPU_TEST(test_choice),   VGPU_TEST(test_census),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
