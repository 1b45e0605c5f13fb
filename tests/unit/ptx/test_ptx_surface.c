/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrays and surfaces: software.h's clauses on arrays and copies, and suld and sust (PTX ISA,
 * "Surface Instructions"): every size and vector, what happens outside, and that nothing outside an
 * array is ever touched.
 */
#include "ptx_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

static uint64_t make_array(struct rig *r, uint64_t w, uint64_t h, uint64_t d, unsigned format,
                           unsigned channels, bool layered)
{
    struct vgpu_array_desc desc = {w, h, d, format, channels, layered};
    uint64_t array;
    assert_int_equal(vgpu_software_array_create(r->b, &desc, &array), CUDA_SUCCESS);
    return array;
}

static struct vgpu_place host(void *p, uint64_t bytes)
{
    return (struct vgpu_place){.kind = VGPU_PLACE_HOST, .host = p, .host_bytes = bytes};
}
static struct vgpu_place of_array(uint64_t array)
{
    return (struct vgpu_place){.kind = VGPU_PLACE_ARRAY, .array = array};
}
static struct vgpu_place device(uint64_t address)
{
    return (struct vgpu_place){.kind = VGPU_PLACE_DEVICE, .address = address};
}

static CUresult copy(struct rig *r, struct vgpu_place dst, struct vgpu_place src, uint64_t width,
                     uint64_t height, uint64_t depth)
{
    struct vgpu_copy c = {src, dst, width, height, depth};
    return vgpu_software_copy(r->b, &c);
}

/* Which arrays there can be, and what they cost. */
static void test_arrays(void **state)
{
    (void)state;
    static const struct {
        struct vgpu_array_desc desc;
        CUresult want;
    } cases[] = {
        {{1, 0, 0, VGPU_ARRAY_U8, 1, false}, CUDA_SUCCESS},
        {{131072, 0, 0, VGPU_ARRAY_U8, 1, false}, CUDA_SUCCESS},
        {{16, 16, 0, VGPU_ARRAY_FLOAT, 4, false}, CUDA_SUCCESS},
        {{16, 0, 5, VGPU_ARRAY_HALF, 2, true}, CUDA_SUCCESS},
        {{16, 3, 2048, VGPU_ARRAY_U8, 2, true}, CUDA_SUCCESS},
        {{0, 0, 0, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{131073, 0, 0, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{UINT64_MAX, 0, 0, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 65537, 0, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, UINT64_MAX, 0, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 16385, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 0, 2, VGPU_ARRAY_U8, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 2049, VGPU_ARRAY_U8, 1, true}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 0, VGPU_ARRAY_U8, 1, true}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 0, VGPU_ARRAY_U8, 0, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 0, VGPU_ARRAY_U8, 3, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 0, VGPU_ARRAY_U8, 8, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 0, 0, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{1, 1, 0, 0x101, 1, false}, CUDA_ERROR_INVALID_VALUE},
        {{131072, 65536, 16384, VGPU_ARRAY_FLOAT, 4, false}, CUDA_ERROR_OUT_OF_MEMORY},
    };
    struct rig r;
    uint64_t before, after, total, array;
    rig_open(&r, 1);
    r.o->mem_info(r.b, &before, &total);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgpu_array_desc got;
        array = 1;
        assert_int_equal(vgpu_software_array_create(r.b, &cases[i].desc, &array), cases[i].want);
        if (cases[i].want != CUDA_SUCCESS) {
            assert_int_equal(array, 0);
            continue;
        }
        assert_int_equal(vgpu_software_array_desc(r.b, array, &got), CUDA_SUCCESS);
        assert_true(got.width == cases[i].desc.width && got.height == cases[i].desc.height &&
                    got.depth == cases[i].desc.depth && got.format == cases[i].desc.format &&
                    got.channels == cases[i].desc.channels && got.layered == cases[i].desc.layered);
        r.o->mem_info(r.b, &after, &total);
        assert_true(after < before); /* counted against the quota */
        assert_int_equal(vgpu_software_array_destroy(r.b, array), CUDA_SUCCESS);
        assert_int_equal(vgpu_software_array_destroy(r.b, array), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(vgpu_software_array_desc(r.b, array, &got), CUDA_ERROR_INVALID_HANDLE);
        r.o->mem_info(r.b, &after, &total);
        assert_int_equal(after, before);
    }
    /* The quota holds over all of them together: 1 GiB of 16 MiB arrays, and not one more. */
    struct vgpu_array_desc big = {1024, 1024, 0, VGPU_ARRAY_FLOAT, 4, false};
    unsigned made = 0;
    while (vgpu_software_array_create(r.b, &big, &array) == CUDA_SUCCESS)
        made++;
    assert_int_equal(made, 64);
    rig_close(&r);
}

/* "All kinds together are at most 65536", and the places of those that are gone are used again. */
static void test_many(void **state)
{
    (void)state;
    struct rig r;
    uint64_t first = make_array((rig_open(&r, 1), &r), 4, 0, 0, VGPU_ARRAY_U8, 1, false), s = 0;
    uint64_t *all = calloc(65536, sizeof(*all));
    unsigned n = 0;
    assert_non_null(all);
    while (n < 65536 && vgpu_software_surface_create(r.b, first, &all[n]) == CUDA_SUCCESS)
        n++;
    assert_int_equal(n, 65535);
    assert_int_equal(vgpu_software_surface_create(r.b, first, &s), CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(s, 0);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(vgpu_software_surface_destroy(r.b, all[i]), CUDA_SUCCESS);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(vgpu_software_surface_create(r.b, first, &s), CUDA_SUCCESS);
        assert_int_equal(vgpu_software_surface_destroy(r.b, s), CUDA_SUCCESS);
        assert_true(s != all[i % n]);
    }
    free(all);
    rig_close(&r);
}

/* Boxes between host, device and array, with pitches and offsets, against loops over bytes. */
static void test_copies(void **state)
{
    (void)state;
    struct rig r;
    static uint8_t from[6][8][40], back[6][8][40], want[6][8][40];
    uint64_t at;
    rig_open(&r, 1);
    for (unsigned i = 0; i < sizeof(from); i++)
        (&from[0][0][0])[i] = (uint8_t)(i * 7 + (i >> 8) * 3 + 1);
    uint64_t a = make_array(&r, 9, 7, 5, VGPU_ARRAY_U16, 2, false);
    uint64_t b = make_array(&r, 10, 8, 6, VGPU_ARRAY_FLOAT, 1, false);
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(from), &at), CUDA_SUCCESS);
    /* host (1,2,1) -> a (2,1,3), 5 x 4 x 2 elements */
    struct vgpu_place src = host(from, sizeof(from)), dst = of_array(a);
    src.x_bytes = 4;
    src.y = 2;
    src.z = 1;
    src.pitch_bytes = 40;
    src.height = 8;
    dst.x_bytes = 8;
    dst.y = 1;
    dst.z = 3;
    assert_int_equal(copy(&r, dst, src, 20, 4, 2), CUDA_SUCCESS);
    /* a, all of it -> b (1,1,1) -> device -> host */
    struct vgpu_place to = of_array(b);
    to.x_bytes = 4;
    to.y = to.z = 1;
    assert_int_equal(copy(&r, to, of_array(a), 36, 7, 5), CUDA_SUCCESS);
    assert_int_equal(copy(&r, device(at), of_array(b), 40, 8, 6), CUDA_SUCCESS);
    assert_int_equal(copy(&r, host(back, sizeof(back)), device(at), 40, 8, 6), CUDA_SUCCESS);
    for (unsigned z = 0; z < 2; z++)
        for (unsigned y = 0; y < 4; y++)
            memcpy(&want[z + 3 + 1][y + 1 + 1][8 + 4], &from[z + 1][y + 2][4], 20);
    assert_memory_equal(back, want, sizeof(want));
    /* Nothing to copy is no error, whatever the rest says. */
    assert_int_equal(copy(&r, of_array(1), of_array(2), 0, 1, 1), CUDA_SUCCESS);
    rig_close(&r);
}

/* Every bound of a copy, and sums that wrap. */
static void test_bad_copies(void **state)
{
    (void)state;
    struct rig r;
    uint8_t buffer[256], before[256];
    uint64_t at;
    rig_open(&r, 1);
    uint64_t a = make_array(&r, 8, 4, 2, VGPU_ARRAY_U32, 1, false);
    assert_int_equal(r.o->mem_alloc(r.b, 256, &at), CUDA_SUCCESS);
    memset(buffer, 0x77, sizeof(buffer));
    memset(before, 0x77, sizeof(before));
#define BAD(side, change, w, h, d, rc)                                                             \
    do {                                                                                           \
        struct vgpu_place dst = host(buffer, sizeof(buffer)), src = side;                          \
        src.change;                                                                                \
        assert_int_equal(copy(&r, dst, src, w, h, d), rc);                                         \
        assert_int_equal(copy(&r, src, dst, w, h, d), rc);                                         \
    } while (0)
    const CUresult value = CUDA_ERROR_INVALID_VALUE;
    BAD(of_array(a), x_bytes = 0, 36, 1, 1, value);
    BAD(of_array(a), x_bytes = 4, 32, 1, 1, value);
    BAD(of_array(a), x_bytes = 2, 4, 1, 1, value);
    BAD(of_array(a), x_bytes = 4, 6, 1, 1, value);
    BAD(of_array(a), x_bytes = UINT64_MAX - 3, 4, 1, 1, value);
    BAD(of_array(a), y = 4, 4, 1, 1, value);
    BAD(of_array(a), y = 3, 4, 2, 1, value);
    BAD(of_array(a), y = UINT64_MAX, 4, 2, 1, value);
    BAD(of_array(a), z = 2, 4, 1, 1, value);
    BAD(of_array(a), z = UINT64_MAX, 4, 1, 2, value);
    BAD(of_array(a), z = 0, 4, 1, UINT64_MAX, value);
    BAD(of_array(a), z = 0, 4, UINT64_MAX, 1, value);
    BAD(of_array(a), z = 0, UINT64_MAX & ~3ull, 1, 1, value);
    BAD(of_array(a), array = 0, 4, 1, 1, CUDA_ERROR_INVALID_HANDLE);
    BAD(of_array(a), array = a + 1, 4, 1, 1, CUDA_ERROR_INVALID_HANDLE);
    BAD(of_array(a), kind = 3, 4, 1, 1, value);
    BAD(of_array(a), kind = UINT32_MAX, 4, 1, 1, value);
    BAD(device(at), address = at + 253, 4, 1, 1, value);
    BAD(device(at), address = at - 1, 4, 1, 1, value);
    BAD(device(at), address = 0, 4, 1, 1, value);
    BAD(device(at), address = UINT64_MAX, 4, 1, 1, value);
    BAD(device(at), x_bytes = 253, 4, 1, 1, value);
    BAD(device(at), pitch_bytes = 3, 4, 1, 1, value);
    BAD(device(at), pitch_bytes = UINT64_MAX, 4, 2, 1, value);
    BAD(device(at), pitch_bytes = 64, 4, 5, 1, value);
    BAD(device(at), height = UINT64_MAX, 4, 1, 2, value);
    BAD(device(at), z = UINT64_MAX, 4, 1, 1, value);
    BAD(device(at), y = UINT64_MAX / 4 + 1, 4, 1, 1, value);
    BAD(device(at), y = 64, 4, 1, 1, value);
    BAD(host(buffer, 255), x_bytes = 0, 16, 16, 1, value);
    BAD(host(NULL, 256), x_bytes = 0, 16, 1, 1, value);
    BAD(host(buffer, 256), pitch_bytes = 1ull << 62, 16, 5, 1, value);
#undef BAD
    assert_memory_equal(buffer, before, sizeof(buffer));
    rig_close(&r);
}

/* A kernel of one instruction on surface %s at byte %x, row %y, slice or layer %z. */
static void load(struct rig *r, const char *insn)
{
    char text[1024];
    snprintf(text, sizeof(text),
             ".visible .entry k(.param .u64 s, .param .u64 in, .param .u64 out) {\n"
             ".reg .b64 %%s, %%in, %%out, %%l<2>; .reg .b32 %%x, %%y, %%z, %%r<4>; .reg .b16 "
             "%%h<4>;\n"
             "ld.param.u64 %%s, [s]; ld.param.u64 %%in, [in]; ld.param.u64 %%out, [out];\n"
             "ld.global.u32 %%x, [%%in]; ld.global.u32 %%y, [%%in+4]; ld.global.u32 %%z, "
             "[%%in+8];\n%s\nret; }",
             insn);
    rig_load(r, text, CUDA_SUCCESS);
}

static CUresult run(struct rig *r, uint64_t s, int32_t x, int32_t y, int32_t z, uint8_t out[16])
{
    uint64_t at;
    const int32_t in[4] = {x, y, z, 0};
    assert_int_equal(r->o->mem_alloc(r->b, 64, &at), CUDA_SUCCESS);
    assert_int_equal(r->o->copy_htod(r->b, at, in, sizeof(in)), CUDA_SUCCESS);
    assert_int_equal(r->o->copy_htod(r->b, at + 16, out, 16), CUDA_SUCCESS);
    uint64_t params[] = {s, at, at + 16};
    CUresult rc = rig_launch(r, "k", 1, 1, 0, 3, params);
    if (rc == CUDA_SUCCESS) {
        assert_int_equal(r->o->copy_dtoh(r->b, out, at + 16, 16), CUDA_SUCCESS);
        assert_int_equal(r->o->mem_free(r->b, at), CUDA_SUCCESS);
    }
    return rc;
}

#define WIDTH  48 /* bytes of a row */
#define HEIGHT 5

struct form {
    const char *name, *load, *store;
    unsigned bytes;
};
#define R4 "{%r0,%r1,%r2,%r3}"
#define H4 "{%h0,%h1,%h2,%h3}"
static const struct form forms[] = {
    {"b8", "%h0", "%h0", 1},      {"v2.b8", "{%h0,%h1}", "{%h0,%h1}", 2},   {"v4.b8", H4, H4, 4},
    {"b16", "%h0", "%h0", 2},     {"v2.b16", "{%h0,%h1}", "{%h0,%h1}", 4},  {"v4.b16", H4, H4, 8},
    {"b32", "{%r0}", "{%r0}", 4}, {"v2.b32", "{%r0,%r1}", "{%r0,%r1}", 8},  {"v4.b32", R4, R4, 16},
    {"b64", "{%l0}", "{%l0}", 8}, {"v2.b64", "{%l0,%l1}", "{%l0,%l1}", 16},
};

/* The kernel's loads from or stores to `out` in the shape of the surface access. */
static void plain(char *text, size_t size, const struct form *f, bool store)
{
    if (store)
        snprintf(text, size, "st.global.%s [%%out], %s;", f->name, f->load);
    else
        snprintf(text, size, "ld.global.%s %s, [%%out];", f->name, f->store);
}

static int clamped(int v, int max)
{
    return v < 0 ? 0 : v > max ? max : v;
}

/* Loads and stores of every size in and around an array, for each way of treating what is outside.
 */
static void test_access(void **state)
{
    (void)state;
    static const char *const modes[] = {"trap", "clamp", "zero"};
    static const int ys[] = {0, HEIGHT - 1, HEIGHT, -1, INT32_MAX, INT32_MIN};
    static uint8_t cells[HEIGHT][WIDTH], after[HEIGHT][WIDTH], want[HEIGHT][WIDTH];
    for (unsigned i = 0; i < sizeof(cells); i++)
        (&cells[0][0])[i] = (uint8_t)(i * 13 + 5);
    for (unsigned f = 0; f < sizeof(forms) / sizeof(forms[0]); f++)
        for (unsigned mode = 0; mode < 3; mode++)
            for (unsigned store = 0; store < 2; store++) {
                struct rig r;
                uint64_t s, array;
                char insn[256], move[96];
                int n = (int)forms[f].bytes;
                const int xs[] = {0, n, WIDTH - n, WIDTH, -n, INT32_MAX / n * n, INT32_MIN, 1};
                plain(move, sizeof(move), &forms[f], !store);
                if (store)
                    snprintf(insn, sizeof(insn), "%s sust.b.2d.%s.%s [%%s, {%%x,%%y}], %s;", move,
                             forms[f].name, modes[mode], forms[f].store);
                else
                    snprintf(insn, sizeof(insn), "suld.b.2d.%s.%s %s, [%%s, {%%x,%%y}]; %s",
                             forms[f].name, modes[mode], forms[f].load, move);
                rig_open(&r, 1);
                array = make_array(&r, WIDTH, HEIGHT, 0, VGPU_ARRAY_U8, 1, false);
                assert_int_equal(vgpu_software_surface_create(r.b, array, &s), CUDA_SUCCESS);
                load(&r, insn);
                for (unsigned i = 0; i < 8 * 6; i++) {
                    int x = xs[i % 8], y = ys[i / 8];
                    uint8_t data[16];
                    bool in = x >= 0 && x <= WIDTH - n && y >= 0 && y < HEIGHT;
                    if (n == 1 && i % 8 == 7)
                        continue;
                    CUresult rc = CUDA_SUCCESS;
                    if (!in && mode == 0)
                        rc = CUDA_ERROR_LAUNCH_FAILED;
                    else if (x % n && (in || mode == 1))
                        rc = CUDA_ERROR_MISALIGNED_ADDRESS;
                    memset(data, 0xa5, sizeof(data));
                    memcpy(want, cells, sizeof(cells));
                    assert_int_equal(
                        copy(&r, of_array(array), host(cells, sizeof(cells)), WIDTH, HEIGHT, 1),
                        CUDA_SUCCESS);
                    CUresult got = run(&r, s, x, y, 0, data);
                    if (got != rc)
                        print_error("%s at %d %d: %d, want %d\n", insn, x, y, (int)got, (int)rc);
                    assert_int_equal(got, rc);
                    if (rc != CUDA_SUCCESS) { /* the session is dead: the next case needs another */
                        rig_close(&r);
                        rig_open(&r, 1);
                        array = make_array(&r, WIDTH, HEIGHT, 0, VGPU_ARRAY_U8, 1, false);
                        assert_int_equal(vgpu_software_surface_create(r.b, array, &s),
                                         CUDA_SUCCESS);
                        load(&r, insn);
                        continue;
                    }
                    int cx = clamped(x, WIDTH - n), cy = clamped(y, HEIGHT - 1);
                    if (store && (in || mode == 1))
                        memset(&want[cy][cx], 0xa5, (size_t)n);
                    for (int k = 0; !store && k < n; k++)
                        assert_int_equal(data[k], in || mode == 1 ? cells[cy][cx + k] : 0);
                    assert_int_equal(
                        copy(&r, host(after, sizeof(after)), of_array(array), WIDTH, HEIGHT, 1),
                        CUDA_SUCCESS);
                    assert_memory_equal(after, want, sizeof(want));
                }
                rig_close(&r);
            }
}

/* 1D, 3D and layered surfaces; the fourth coordinate of .3d and .a2d means nothing. */
static void test_geometries(void **state)
{
    (void)state;
    static const struct {
        const char *geometry, *at;
        uint64_t h, d;
        bool layered;
    } shapes[] = {
        {"1d", "{%x}", 0, 0, false},
        {"3d", "{%x,%y,%z,%z}", 4, 3, false},
        {"a1d", "{%z,%x}", 0, 3, true},
        {"a2d", "{%z,%x,%y,%x}", 4, 3, true},
    };
    for (unsigned i = 0; i < 4; i++) {
        struct rig r;
        char insn[256];
        uint64_t s;
        uint8_t data[16];
        uint32_t cells[3][4][8];
        rig_open(&r, 1);
        uint64_t array =
            make_array(&r, 8, shapes[i].h, shapes[i].d, VGPU_ARRAY_U32, 1, shapes[i].layered);
        assert_int_equal(vgpu_software_surface_create(r.b, array, &s), CUDA_SUCCESS);
        snprintf(
            insn, sizeof(insn),
            "ld.global.u32 %%r0, [%%out]; sust.b.%s.b32.trap [%%s, %s], %%r0; suld.b.%s.b32.trap "
            "%%r1, [%%s, %s]; st.global.u32 [%%out+4], %%r1;",
            shapes[i].geometry, shapes[i].at, shapes[i].geometry, shapes[i].at);
        load(&r, insn);
        unsigned h = shapes[i].h ? 4 : 1, d = shapes[i].d ? 3 : 1;
        for (unsigned k = 0; k < 8 * h * d; k++) {
            uint32_t v = k * 0x01010101u + 1, got;
            memcpy(data, &v, 4);
            assert_int_equal(run(&r, s, (int)(k % 8) * 4, (int)(k / 8 % h), (int)(k / 8 / h), data),
                             CUDA_SUCCESS);
            memcpy(&got, data + 4, 4);
            assert_int_equal(got, v);
        }
        assert_int_equal(copy(&r, host(cells, sizeof(cells)), of_array(array), 32, h, d),
                         CUDA_SUCCESS);
        for (unsigned k = 0; k < 8 * h * d; k++)
            assert_int_equal((&cells[0][0][0])[k], k * 0x01010101u + 1);
        /* Beyond the last slice or layer. */
        if (d > 1)
            assert_int_equal(run(&r, s, 0, 0, 3, data), CUDA_ERROR_LAUNCH_FAILED);
        rig_close(&r);
    }
}

/* An instruction of another geometry than the surface's is an error, not another place. */
static void test_wrong_geometry(void **state)
{
    (void)state;
    static const char *const insns[] = {
        "suld.b.1d.b32.zero %r0, [%s, {%x}];", "suld.b.2d.b32.zero %r0, [%s, {%x,%y}];",
        "suld.b.3d.b32.zero %r0, [%s, {%x,%y,%z,%z}];", "suld.b.a1d.b32.zero %r0, [%s, {%z,%x}];",
        "suld.b.a2d.b32.zero %r0, [%s, {%z,%x,%y,%z}];"};
    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < 5; k++) {
            struct rig r;
            uint64_t s;
            uint8_t data[16] = {0};
            rig_open(&r, 1);
            uint64_t array = make_array(&r, 8, k == 0 || k == 3 ? 0 : 8, k < 2 ? 0 : 8,
                                        VGPU_ARRAY_U32, 1, k > 2);
            assert_int_equal(vgpu_software_surface_create(r.b, array, &s), CUDA_SUCCESS);
            load(&r, insns[i]);
            assert_int_equal(run(&r, s, 0, 0, 0, data),
                             i == k ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS);
            rig_close(&r);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_arrays),         VGPU_TEST(test_many),   VGPU_TEST(test_copies),
        VGPU_TEST(test_bad_copies),     VGPU_TEST(test_access), VGPU_TEST(test_geometries),
        VGPU_TEST(test_wrong_geometry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
