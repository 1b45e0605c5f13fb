/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arrays, textures and surfaces of the software driver (src/backend/driver.h). */
#include <string.h>

#include "driver_rig.h"

enum { FLOAT = 0x20, U8 = 0x01, LAYERED = 1, SURFACES = 2, CUBEMAP = 4 };
enum { ARRAY = 0, LINEAR = 2, PITCH2D = 3 }; /* resource types */

static struct vgpu_driver_array *make(struct driver_rig *r, size_t width, size_t height,
                                      size_t depth, uint32_t flags)
{
    struct vgpu_driver_array *a = NULL;
    OK(r->o->array_create(r->d, &a, width, height, depth, FLOAT, 1, flags));
    return a;
}

/* Bytes through an array and back, whole and in part. */
static void bytes_through_an_array(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_array *a = make(r, 8, 4, 0, 0);
    uint8_t in[128], out[128];
    uint32_t length = 0;
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 7 + 1);
    OK(r->o->array_write(r->d, a, 0, 0, 0, 32, 4, NULL, in, 128));
    OK(r->o->array_read(r->d, a, 0, 0, 0, 32, 4, 128, NULL, out, 128, &length));
    assert_int_equal(length, 128);
    assert_memory_equal(in, out, 128);
    OK(r->o->array_read(r->d, a, 8, 1, 0, 12, 2, 24, NULL, out, 128, &length));
    assert_int_equal(length, 24);
    assert_memory_equal(out, in + 32 + 8, 12);
    assert_memory_equal(out + 12, in + 64 + 8, 12);
    OK(r->o->array_write(r->d, a, 4, 3, 0, 4, 1, NULL, "abcd", 4));
    OK(r->o->array_read(r->d, a, 0, 3, 0, 12, 1, 12, NULL, out, 12, &length));
    assert_memory_equal(out, in + 96, 4);
    assert_memory_equal(out + 4, "abcd", 4);
    assert_memory_equal(out + 8, in + 104, 4);
    /* Counts that do not fit together, boxes that go over the edge, parts of elements. */
    BAD(r->o->array_write(r->d, a, 0, 0, 0, 32, 4, NULL, in, 127));
    BAD(r->o->array_write(r->d, a, 0, 0, 0, SIZE_MAX, 2, NULL, in, 126));
    BAD(r->o->array_write(r->d, a, 0, 1, 0, 32, 4, NULL, in, 128));
    BAD(r->o->array_write(r->d, a, 4, 0, 0, 32, 1, NULL, in, 32));
    BAD(r->o->array_write(r->d, a, 1, 0, 0, 4, 1, NULL, in, 4));
    BAD(r->o->array_write(r->d, a, SIZE_MAX - 3, 0, 0, 4, 1, NULL, in, 4));
    BAD(r->o->array_write(r->d, a, 0, SIZE_MAX, 0, 4, 1, NULL, in, 4));
    BAD(r->o->array_write(r->d, a, 0, 0, SIZE_MAX, 4, 1, NULL, in, 4));
    BAD(r->o->array_read(r->d, a, 0, 0, 0, 32, 4, 128, NULL, out, 127, &length));
    BAD(r->o->array_read(r->d, a, 0, 0, 0, 32, 4, 64, NULL, out, 128, &length));
    OK(r->o->array_read(r->d, a, 0, 0, 0, 0, SIZE_MAX, 0, NULL, out, 128, &length));
    OK(r->o->array_destroy(r->d, a));
}

/* Between an array of two slices and pitched memory, and between arrays. */
static void copies_with_memory(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_array *a = make(r, 4, 2, 2, 0), *b = make(r, 4, 2, 2, 0);
    CUdeviceptr m = alloc(r, 400);
    uint8_t in[400], out[400];
    uint32_t length;
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)i;
    OK(r->o->copy_to_device(r->d, m, NULL, in, sizeof(in)));
    /* Rows 40 apart, slices 200. */
    OK(r->o->array_copy(r->d, a, 0, 0, 0, 0, 0, 0, NULL, m, 40, 200, 0, 0, 0, 16, 2, 2, NULL));
    OK(r->o->array_copy(r->d, b, 0, 0, 0, 0, 0, 0, a, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    for (unsigned z = 0; z < 2; z++) {
        OK(r->o->array_read(r->d, b, 0, 0, z, 16, 2, 32, NULL, out, 32, &length));
        assert_memory_equal(out, in + z * 200, 16);
        assert_memory_equal(out + 16, in + z * 200 + 40, 16);
    }
    OK(r->o->memory_set(r->d, m, 0, 0, 1, 400, 1, NULL));
    OK(r->o->array_copy(r->d, NULL, m, 16, 32, 0, 0, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    read_back(r, m, out, 64);
    assert_memory_equal(out + 32, in + 200, 16);
    /* One row a slice: the slice may be any distance. */
    OK(r->o->array_copy(r->d, NULL, m, 0, 100, 0, 0, 0, b, 0, 0, 0, 0, 1, 0, 16, 1, 2, NULL));
    read_back(r, m, out, 116);
    assert_memory_equal(out, in + 40, 16);
    assert_memory_equal(out + 100, in + 240, 16);
    BAD(r->o->array_copy(r->d, NULL, m, 16, 32, 0, 0, 0, NULL, m, 16, 32, 0, 0, 0, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, NULL, m, 15, 32, 0, 0, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, NULL, m, 16, 16, 0, 0, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, NULL, m, 16, 33, 0, 0, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, NULL, m + 352, 16, 32, 0, 0, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2,
                         NULL));
    BAD(r->o->array_copy(r->d, NULL, m, 16, 32, 4, 0, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, a, 0, 0, 0, 0, 1, 0, b, 0, 0, 0, 0, 0, 0, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, a, 0, 0, 0, 0, 0, 0, b, 0, 0, 0, 0, 0, 1, 16, 2, 2, NULL));
    BAD(r->o->array_copy(r->d, a, 0, 0, 0, 0, 0, 0, NULL, m, SIZE_MAX, SIZE_MAX, 0, 0, 0, 16, 2, 2,
                         NULL));
    OK(r->o->array_copy(r->d, NULL, 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0, 0, SIZE_MAX, 1,
                        NULL));
}

static void arrays_that_cannot_be(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_array *a = NULL;
    size_t before = free_bytes(r);
    BAD(r->o->array_create(r->d, &a, 0, 0, 0, FLOAT, 1, 0));
    BAD(r->o->array_create(r->d, &a, 4, 0, 4, FLOAT, 1, 0));
    BAD(r->o->array_create(r->d, &a, 4, 4, 0, 0x7, 1, 0));
    BAD(r->o->array_create(r->d, &a, 4, 4, 0, FLOAT, 3, 0));
    BAD(r->o->array_create(r->d, &a, SIZE_MAX, 4, 0, FLOAT, 4, 0));
    BAD(r->o->array_create(r->d, &a, 4, SIZE_MAX, 0, FLOAT, 4, 0));
    FAILS(r->o->array_create(r->d, &a, 131072, 65536, 0, FLOAT, 4, 0), OUT_OF_MEMORY);
    FAILS(r->o->array_create(r->d, &a, 4, 4, 6, FLOAT, 1, CUBEMAP), NOT_SUPPORTED);
    OK(r->o->array_create(r->d, &a, 4, 0, 3, FLOAT, 1, LAYERED));
    OK(r->o->array_destroy(r->d, a));
    assert_int_equal(free_bytes(r), before);
}

static CUresult texture(struct driver_rig *r, uint64_t *t, uint32_t type,
                        struct vgpu_driver_array *a, CUdeviceptr at, size_t width, size_t height,
                        size_t pitch, uint32_t mode, uint32_t filter, uint32_t flags)
{
    return r->o->texture_create(r->d, t, type, a, at, FLOAT, 1, width, height, pitch, mode, mode,
                                mode, filter, flags, 5, 0, 0, 0);
}

/* Arrays, textures and surfaces end with their context, and their memory comes back. */
static void all_ends_with_its_context(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_context *other;
    size_t before = free_bytes(r);
    uint64_t t, s;
    OK(r->o->context_create(r->d, &other, 0));
    for (int round = 0; round < 3; round++) {
        OK(r->o->context_use(r->d, other));
        struct vgpu_driver_array *a = make(r, 64, 64, 0, SURFACES), *plain = make(r, 4, 0, 0, 0);
        OK(texture(r, &t, ARRAY, a, 0, 0, 0, 0, 1, 0, 0));
        OK(r->o->surface_create(r->d, &s, a));
        BAD(r->o->surface_create(r->d, &s, plain));
        FAILS(r->o->texture_destroy(r->d, s), INVALID_HANDLE);
        if (round == 0) {
            OK(r->o->texture_destroy(r->d, t));
            OK(r->o->surface_destroy(r->d, s));
            FAILS(r->o->texture_destroy(r->d, t), INVALID_HANDLE);
        }
        assert_true(free_bytes(r) < before);
        OK(r->o->context_use(r->d, r->context));
        OK(r->o->context_destroy(r->d, other));
        FAILS(r->o->texture_destroy(r->d, t), INVALID_HANDLE);
        assert_int_equal(free_bytes(r), before);
        OK(r->o->context_create(r->d, &other, 0));
    }
}

static void textures_that_cannot_be(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_array *a = make(r, 4, 4, 0, 0);
    CUdeviceptr at = alloc(r, 4096);
    uint64_t t = 0;
    FAILS(texture(r, &t, ARRAY, NULL, 0, 0, 0, 0, 1, 0, 0), INVALID_HANDLE);
    FAILS(texture(r, &t, 1, a, 0, 0, 0, 0, 1, 0, 0), NOT_SUPPORTED); /* mipmapped */
    BAD(texture(r, &t, ARRAY, a, 0, 0, 0, 0, 4, 0, 0));
    BAD(texture(r, &t, ARRAY, a, 0, 0, 0, 0, 1, 2, 0));
    FAILS(texture(r, &t, ARRAY, a, 0, 0, 0, 0, 1, 0, 0x10), NOT_SUPPORTED); /* sRGB */
    BAD(texture(r, &t, LINEAR, NULL, at, 0, 0, 0, 1, 0, 0));
    BAD(texture(r, &t, LINEAR, NULL, at + 1, 64, 0, 0, 1, 0, 0));
    BAD(texture(r, &t, LINEAR, NULL, 0, 64, 0, 0, 1, 0, 0));
    BAD(texture(r, &t, LINEAR, NULL, at, SIZE_MAX, 0, 0, 1, 0, 0));
    BAD(texture(r, &t, PITCH2D, NULL, at, 16, 4, 63, 1, 0, 0));
    BAD(texture(r, &t, PITCH2D, NULL, at, 16, SIZE_MAX, 64, 1, 0, 0));
    BAD(r->o->texture_create(r->d, &t, LINEAR, NULL, at, 0x7, 1, 64, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0,
                             0));
    BAD(r->o->texture_create(r->d, &t, LINEAR, NULL, at, FLOAT, UINT32_MAX, 64, 0, 0, 1, 1, 1, 0, 0,
                             0, 0, 0, 0));
    OK(texture(r, &t, PITCH2D, NULL, at, 16, 4, 64, 1, 1, 2));
    OK(r->o->texture_destroy(r->d, t));
}

/* A kernel reads through textures what the calls wrote: on an array, with the border's colour
 * outside; and on linear memory, whose width the call gives in bytes. */
static void a_kernel_reads_textures(void **state)
{
    struct driver_rig *r = *state;
    static const char ptx[] =
        PTX_HEAD ".visible .entry fetch(.param .u64 t, .param .u64 l, .param .u64 p)\n"
                 "{ .reg .u64 %rd<4>; .reg .f32 %f<9>; .reg .s32 %r<3>;\n"
                 "ld.param.u64 %rd1, [t]; ld.param.u64 %rd2, [l]; ld.param.u64 %rd3, [p];\n"
                 "mov.s32 %r1, 2; mov.s32 %r2, 1;\n"
                 "tex.2d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%rd1, {%r1, %r2}];\n"
                 "st.global.f32 [%rd3], %f1;\n"
                 "mov.s32 %r1, 9;\n"
                 "tex.2d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%rd1, {%r1, %r2}];\n"
                 "st.global.f32 [%rd3+4], %f1;\n"
                 "mov.s32 %r1, 3;\n"
                 "tex.1d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%rd2, {%r1}];\n"
                 "st.global.f32 [%rd3+8], %f1;\n"
                 "mov.s32 %r1, 4;\n"
                 "tex.1d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%rd2, {%r1}];\n"
                 "st.global.f32 [%rd3+12], %f1; ret; }\n";
    struct vgpu_driver_array *a = make(r, 4, 2, 0, 0);
    CUdeviceptr linear = alloc(r, 64), out = alloc(r, 64);
    float values[8] = {0, 1, 2, 3, 10, 11, 12, 13}, got[4];
    uint64_t t, l;
    OK(r->o->array_write(r->d, a, 0, 0, 0, 16, 2, NULL, values, 32));
    OK(r->o->copy_to_device(r->d, linear, NULL, values, 32));
    OK(texture(r, &t, ARRAY, a, 0, 0, 0, 0, 3, 0, 0));
    OK(texture(r, &l, LINEAR, NULL, linear, 16, 0, 0, 1, 0, 0)); /* 4 elements */
    struct vgpu_driver_module *m;
    struct vgpu_driver_function *f;
    uint32_t u;
    int32_t i;
    OK(r->o->module_load(r->d, &m, ptx, sizeof(ptx) - 1));
    OK(r->o->function_get(r->d, m, &f, "fetch", &u, &u, &u, &u, &u, &u, &u, &i, &i, &u, got,
                          sizeof(got), &u));
    uint64_t arguments[3] = {t, l, out};
    OK(r->o->launch(r->d, f, NULL, 1, 1, 1, 1, 1, 1, 0, 0, arguments, sizeof(arguments)));
    OK(r->o->context_synchronize(r->d));
    read_back(r, out, got, sizeof(got));
    assert_true(got[0] == 12);
    assert_true(got[1] == 5);
    assert_true(got[2] == 3);
    assert_true(got[3] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(bytes_through_an_array, driver_setup, driver_teardown),
        VGPU_TEST_F(copies_with_memory, driver_setup, driver_teardown),
        VGPU_TEST_F(arrays_that_cannot_be, driver_setup, driver_teardown),
        VGPU_TEST_F(all_ends_with_its_context, driver_setup, driver_teardown),
        VGPU_TEST_F(textures_that_cannot_be, driver_setup, driver_teardown),
        VGPU_TEST_F(a_kernel_reads_textures, driver_setup, driver_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
