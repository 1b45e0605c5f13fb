/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Textures (PTX ISA, "Texture Instructions"; CUDA C++ Programming Guide, "Texture Fetching"):
 * addressing, filtering, formats and what a texture may look at. Filtered values are compared with
 * sums of whole numbers: coordinates are multiples of 1/1024 of a texel, texels are integers, so
 * that every result is a fraction that a float holds.
 */
#include "ptx_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

#define N 256u /* fetches at a time */

struct fetch {
    float f[3];
    int32_t i[3];
    uint32_t layer, pad;
};

/* One kernel per instruction: coordinates from `in`, four words to `out`. */
static void load(struct rig *r, const char *insn)
{
    char text[2048];
    snprintf(
        text, sizeof(text),
        ".visible .entry k(.param .u64 t, .param .u64 in, .param .u64 out) {\n"
        ".reg .b64 %%t, %%in, %%out, %%o; .reg .b32 %%i, %%x, %%y, %%z, %%l, %%r<4>; .reg .f32 "
        "%%fx, %%fy, %%fz, %%f<4>;\n"
        "ld.param.u64 %%t, [t]; ld.param.u64 %%in, [in]; ld.param.u64 %%out, [out];\n"
        "mov.u32 %%i, %%tid.x; mul.wide.u32 %%o, %%i, 32; add.u64 %%in, %%in, %%o;\n"
        "mul.wide.u32 %%o, %%i, 16; add.u64 %%out, %%out, %%o;\n"
        "ld.global.f32 %%fx, [%%in]; ld.global.f32 %%fy, [%%in+4]; ld.global.f32 %%fz, "
        "[%%in+8];\n"
        "ld.global.u32 %%x, [%%in+12]; ld.global.u32 %%y, [%%in+16]; ld.global.u32 %%z, "
        "[%%in+20]; ld.global.u32 %%l, [%%in+24];\n"
        "%s\nst.global.v4.u32 [%%out], {%%r0, %%r1, %%r2, %%r3}; ret; }",
        insn);
    rig_load(r, text, CUDA_SUCCESS);
}

/* With the module `load` made; CUDA_SUCCESS or the launch's error. */
static CUresult fetch(struct rig *r, uint64_t texture, const struct fetch *in, uint32_t (*out)[4],
                      unsigned n)
{
    uint64_t di, at;
    assert_true(n <= N);
    assert_int_equal(r->o->mem_alloc(r->b, N * sizeof(*in), &di), CUDA_SUCCESS);
    assert_int_equal(r->o->mem_alloc(r->b, N * 16, &at), CUDA_SUCCESS);
    assert_int_equal(r->o->copy_htod(r->b, di, in, n * sizeof(*in)), CUDA_SUCCESS);
    uint64_t params[] = {texture, di, at};
    CUresult rc = rig_launch(r, "k", 1, n, 0, 3, params);
    if (rc != CUDA_SUCCESS)
        return rc;
    assert_int_equal(r->o->copy_dtoh(r->b, out, at, n * 16), CUDA_SUCCESS);
    assert_int_equal(r->o->mem_free(r->b, di), CUDA_SUCCESS);
    assert_int_equal(r->o->mem_free(r->b, at), CUDA_SUCCESS);
    return rc;
}

static uint64_t make_array(struct rig *r, uint64_t w, uint64_t h, uint64_t d, unsigned format,
                           unsigned channels, bool layered)
{
    struct vgpu_array_desc desc = {w, h, d, format, channels, layered};
    uint64_t array;
    assert_int_equal(vgpu_software_array_create(r->b, &desc, &array), CUDA_SUCCESS);
    assert_true(array != 0);
    return array;
}

static void fill_array(struct rig *r, uint64_t array, const void *data, uint64_t row_bytes,
                       uint64_t rows, uint64_t slices)
{
    struct vgpu_copy c = {.src = {.kind = VGPU_PLACE_HOST,
                                  .host = (void *)(uintptr_t)data,
                                  .host_bytes = row_bytes * rows * slices},
                          .dst = {.kind = VGPU_PLACE_ARRAY, .array = array},
                          .width_bytes = row_bytes,
                          .height = rows,
                          .depth = slices};
    assert_int_equal(vgpu_software_copy(r->b, &c), CUDA_SUCCESS);
}

static uint64_t make_texture(struct rig *r, const struct vgpu_texture_desc *desc)
{
    uint64_t texture;
    assert_int_equal(vgpu_software_texture_create(r->b, desc, &texture), CUDA_SUCCESS);
    assert_true(texture != 0);
    return texture;
}

/* --- the expectation, in whole numbers --- */

#define W 13
#define H 7
#define D 5

static int32_t value_at(int x, int y, int z)
{
    return (x * 37 + y * 101 + z * 11) % 509;
}

/* Texel index i of n by address mode; -1 for the border. */
static int address(int i, int n, unsigned mode)
{
    if (mode == VGPU_ADDRESS_BORDER)
        return i < 0 || i >= n ? -1 : i;
    if (mode == VGPU_ADDRESS_CLAMP)
        return i < 0 ? 0 : i >= n ? n - 1 : i;
    int period = mode == VGPU_ADDRESS_WRAP ? n : 2 * n;
    while (i < 0)
        i += period;
    while (i >= period)
        i -= period;
    return i < n ? i : period - 1 - i;
}

#define BORDER 250

static int32_t texel_at(const int at[3], unsigned dims, const unsigned mode[3])
{
    static const int size[3] = {W, H, D};
    int to[3] = {0, 0, 0};
    for (unsigned k = 0; k < dims; k++) {
        to[k] = address(at[k], size[k], mode[k]);
        if (to[k] < 0)
            return BORDER;
    }
    return value_at(to[0], to[1], to[2]);
}

static int floor_div(int a, int b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* Coordinates are q[k] / 1024 texels; the answer is over 256 to the power of dims. */
static int64_t filtered(const int q[3], unsigned dims, const unsigned mode[3])
{
    int64_t sum = 0;
    for (unsigned corner = 0; corner < 1u << dims; corner++) {
        int at[3] = {0, 0, 0};
        int64_t weight = 1;
        for (unsigned k = 0; k < dims; k++) {
            int fixed = floor_div(q[k] - 512 + 2, 4); /* to the nearest 256th */
            int whole = floor_div(fixed, 256), part = fixed - whole * 256;
            at[k] = whole + (int)(corner >> k & 1);
            weight *= corner >> k & 1 ? part : 256 - part;
        }
        sum += weight ? weight * texel_at(at, dims, mode) : 0;
    }
    return sum;
}

static int32_t nearest(const int q[3], unsigned dims, const unsigned mode[3])
{
    int at[3] = {0, 0, 0};
    for (unsigned k = 0; k < dims; k++)
        at[k] = floor_div(q[k], 1024);
    return texel_at(at, dims, mode);
}

static float cells[D][H][W];

static const char *const tex_of[] = {
    "", "tex.1d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx}];",
    "tex.2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx,%fy}];",
    "tex.3d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx,%fy,%fz,%fz}];"};

/* Clamp and border, mixed by axis, both filters, in one to three dimensions. */
static void test_addressing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    for (int z = 0; z < D; z++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                cells[z][y][x] = (float)value_at(x, y, z);
    for (unsigned dims = 1; dims <= 3; dims++) {
        uint64_t array =
            make_array(&r, W, dims > 1 ? H : 0, dims > 2 ? D : 0, VGPU_ARRAY_FLOAT, 1, false);
        fill_array(&r, array, cells, sizeof(cells[0][0]), dims > 1 ? H : 1, dims > 2 ? D : 1);
        load(&r, tex_of[dims]);
        for (unsigned variant = 0; variant < 8; variant++) {
            unsigned mode[3];
            struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY, .array = array};
            desc.linear_filter = variant & 1;
            for (unsigned k = 0; k < 3; k++)
                mode[k] = ((variant >> 1) + k) & 1 ? VGPU_ADDRESS_CLAMP : VGPU_ADDRESS_BORDER;
            /* "wrap and mirror are not supported for unnormalized coordinates": they clamp */
            for (unsigned k = 0; k < 3; k++)
                desc.address_mode[k] = mode[k] == VGPU_ADDRESS_CLAMP && variant & 4
                                           ? (k ? VGPU_ADDRESS_MIRROR : VGPU_ADDRESS_WRAP)
                                           : mode[k];
            desc.border[0] = bits_of(BORDER);
            uint64_t t = make_texture(&r, &desc);
            static const int size[3] = {W, H, D};
            struct fetch in[N];
            int q[N][3];
            uint32_t out[N][4];
            memset(in, 0, sizeof(in));
            for (unsigned i = 0; i < N; i++)
                for (unsigned k = 0; k < 3; k++) {
                    q[i][k] =
                        (int)((i * (2654435761u + 977u * k) >> 3) % (unsigned)(size[k] * 2048)) -
                        size[k] * 512;
                    in[i].f[k] = (float)q[i][k] / 1024;
                }
            assert_int_equal(fetch(&r, t, in, out, N), CUDA_SUCCESS);
            for (unsigned i = 0; i < N; i++) {
                float want = desc.linear_filter
                                 ? (float)ldexp((double)filtered(q[i], dims, mode), -8 * (int)dims)
                                 : (float)nearest(q[i], dims, mode);
                if (out[i][0] != bits_of(want))
                    print_error("%uD variant %u at %f %f %f: %f, want %f\n", dims, variant,
                                (double)in[i].f[0], (double)in[i].f[1], (double)in[i].f[2],
                                (double)f32_of(out[i][0]), (double)want);
                assert_int_equal(out[i][0], bits_of(want));
            }
            assert_int_equal(vgpu_software_texture_destroy(r.b, t), CUDA_SUCCESS);
        }
        rig_unload(&r);
        assert_int_equal(vgpu_software_array_destroy(r.b, array), CUDA_SUCCESS);
    }
    rig_close(&r);
}

/* "wrap: x is replaced by frac(x); mirror: by frac(x) if floor(x) is even and 1-frac(x) if it is
 * odd", and neighbours wrap and mirror, too */
static void test_normalized(void **state)
{
    (void)state;
    struct rig r;
    float row[16];
    rig_open(&r, 1);
    for (int x = 0; x < 16; x++)
        row[x] = (float)(x * x);
    uint64_t array = make_array(&r, 16, 0, 0, VGPU_ARRAY_FLOAT, 1, false);
    fill_array(&r, array, row, sizeof(row), 1, 1);
    load(&r, tex_of[1]);
    for (unsigned mode = 0; mode < 4; mode++)
        for (unsigned linear = 0; linear < 2; linear++) {
            struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY,
                                             .array = array,
                                             .address_mode = {mode, mode, mode},
                                             .linear_filter = linear,
                                             .normalized = true,
                                             .border = {bits_of(-5)}};
            uint64_t t = make_texture(&r, &desc);
            struct fetch in[N];
            int q[N];
            uint32_t out[N][4];
            memset(in, 0, sizeof(in));
            for (unsigned i = 0; i < N; i++) {
                /* 1024ths of a texel, -48.8 to 50 texels, never just between two answers */
                q[i] = (int)(i * 396) - 50000 + !linear;
                in[i].f[0] = (float)q[i] / (1024 * 16);
            }
            assert_int_equal(fetch(&r, t, in, out, N), CUDA_SUCCESS);
            for (unsigned i = 0; i < N; i++) {
                int fixed = linear ? floor_div(q[i] - 512 + 2, 4) : floor_div(q[i], 1024) * 256;
                int whole = floor_div(fixed, 256), part = fixed - whole * 256;
                int lo = address(whole, 16, mode), hi = address(whole + 1, 16, mode);
                int64_t a = lo < 0 ? -5 : lo * lo, b = hi < 0 ? -5 : hi * hi;
                float want = (float)(a * (256 - part) + b * part) / 256;
                if (out[i][0] != bits_of(want))
                    print_error("mode %u linear %u at %d/1024: %f, want %f\n", mode, linear, q[i],
                                (double)f32_of(out[i][0]), (double)want);
                assert_int_equal(out[i][0], bits_of(want));
            }
        }
    rig_close(&r);
}

/* Coordinates that are no places at all still lead to a texel or the border. */
static void test_wild_coordinates(void **state)
{
    (void)state;
    static const uint32_t wild[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f7fffff,
                                    0xff7fffff, 0x4f000000, 0xcf000000, 0x00000001};
    struct rig r;
    float row[16];
    rig_open(&r, 1);
    for (int x = 0; x < 16; x++)
        row[x] = (float)(x + 1);
    uint64_t array = make_array(&r, 4, 4, 0, VGPU_ARRAY_FLOAT, 1, false);
    fill_array(&r, array, row, 16, 4, 1);
    load(&r, tex_of[2]);
    for (unsigned v = 0; v < 16; v++) {
        struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY, .array = array};
        desc.address_mode[0] = desc.address_mode[1] = v & 3;
        desc.normalized = v & 4;
        desc.linear_filter = v & 8;
        uint64_t t = make_texture(&r, &desc);
        struct fetch in[64];
        uint32_t out[64][4];
        memset(in, 0, sizeof(in));
        for (unsigned i = 0; i < 64; i++) {
            in[i].f[0] = f32_of(wild[i % 8]);
            in[i].f[1] = f32_of(wild[i / 8]);
        }
        assert_int_equal(fetch(&r, t, in, out, 64), CUDA_SUCCESS);
        for (unsigned i = 0; i < 64; i++)
            assert_true(f32_of(out[i][0]) >= 0 && f32_of(out[i][0]) <= 16);
    }
    rig_unload(&r);
    load(&r, "tex.2d.v4.u32.s32 {%r0,%r1,%r2,%r3}, [%t, {%x,%y}];");
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY, .array = array};
    desc.address_mode[0] = VGPU_ADDRESS_CLAMP;
    desc.address_mode[1] = VGPU_ADDRESS_BORDER;
    struct fetch in[4] = {
        {.i = {INT32_MAX, 1}}, {.i = {INT32_MIN, 1}}, {.i = {1, INT32_MAX}}, {.i = {1, INT32_MIN}}};
    uint32_t out[4][4];
    assert_int_equal(fetch(&r, make_texture(&r, &desc), in, out, 4), CUDA_SUCCESS);
    const float want[4] = {8, 5, 0, 0};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(out[i][0], bits_of(want[i]));
    rig_close(&r);
}

/* Every format and number of channels, as it is and as a normalized float; what is missing reads as
 * 0, 0, 1. */
static void test_formats(void **state)
{
    (void)state;
    static const struct {
        unsigned format, bytes, is_signed;
    } formats[] = {{VGPU_ARRAY_U8, 1, 0},   {VGPU_ARRAY_U16, 2, 0},  {VGPU_ARRAY_U32, 4, 0},
                   {VGPU_ARRAY_S8, 1, 1},   {VGPU_ARRAY_S16, 2, 1},  {VGPU_ARRAY_S32, 4, 1},
                   {VGPU_ARRAY_HALF, 2, 0}, {VGPU_ARRAY_FLOAT, 4, 0}};
    struct rig r;
    uint8_t data[8 * 16];
    rig_open(&r, 1);
    load(&r, "tex.1d.v4.s32.s32 {%r0,%r1,%r2,%r3}, [%t, {%x}];");
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 89 + 0x70 + (i >> 3) * 5);
    data[0] = 0x80; /* the lowest of each signed type once */
    data[1] = 0x80;
    for (unsigned f = 0; f < 8; f++)
        for (unsigned channels = 1; channels <= 4; channels *= 2)
            for (unsigned element = 0; element < 2; element++) {
                unsigned size = formats[f].bytes;
                uint64_t array = make_array(&r, 8, 0, 0, formats[f].format, channels, false);
                fill_array(&r, array, data, 8 * size * channels, 1, 1);
                struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY,
                                                 .array = array,
                                                 .address_mode = {VGPU_ADDRESS_CLAMP},
                                                 .element_type = element};
                uint64_t t = make_texture(&r, &desc);
                struct fetch in[8];
                uint32_t out[8][4];
                memset(in, 0, sizeof(in));
                for (int i = 0; i < 8; i++)
                    in[i].i[0] = i;
                assert_int_equal(fetch(&r, t, in, out, 8), CUDA_SUCCESS);
                bool is_float = formats[f].format >= VGPU_ARRAY_HALF;
                bool to_float = !element && size < 4 && !is_float;
                for (unsigned i = 0; i < 8; i++)
                    for (unsigned k = 0; k < 4; k++) {
                        uint32_t raw = 0, want;
                        memcpy(&raw, data + (i * channels + k) * size, k < channels ? size : 0);
                        int64_t v = raw;
                        if (formats[f].is_signed)
                            v = size == 1 ? (int8_t)raw : size == 2 ? (int16_t)raw : (int32_t)raw;
                        double top = (double)((1ull << (8 * size - formats[f].is_signed)) - 1);
                        double scaled = (double)v / top < -1 ? -1 : (double)v / top;
                        if (k >= channels)
                            want = k < 3 ? 0 : is_float || to_float ? bits_of(1) : 1;
                        else if (to_float)
                            want = bits_of((float)scaled);
                        else if (formats[f].format == VGPU_ARRAY_HALF)
                            want =
                                bits_of(
                                    (raw & 0x7c00) == 0x7c00
                                        ? (raw & 0x3ff ? NAN : INFINITY)
                                        : (float)ldexp(
                                              (raw & 0x7c00 ? 1024 : 0) + (double)(raw & 0x3ff),
                                              (raw >> 10 & 31 ? (int)(raw >> 10 & 31) : 1) - 25)) |
                                (raw & 0x8000) << 16;
                        else
                            want = (uint32_t)v;
                        if (out[i][k] != want && !(isnan(f32_of(want)) && isnan(f32_of(out[i][k]))))
                            print_error("format %#x x %u element %u texel %u.%u: %#x, want %#x\n",
                                        formats[f].format, channels, element, i, k, out[i][k],
                                        want);
                        assert_true(out[i][k] == want ||
                                    (isnan(f32_of(want)) && isnan(f32_of(out[i][k]))));
                    }
                vgpu_software_texture_destroy(r.b, t);
                vgpu_software_array_destroy(r.b, array);
            }
    rig_close(&r);
}

/* Linear memory: whole coordinates only, zero outside; pitched memory: as an array. */
static void test_device_memory(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at;
    uint16_t data[8][32];
    rig_open(&r, 1);
    for (unsigned y = 0; y < 8; y++)
        for (unsigned x = 0; x < 32; x++)
            data[y][x] = (uint16_t)(y * 1000 + x);
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(data), &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_htod(r.b, at, data, sizeof(data)), CUDA_SUCCESS);
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_LINEAR,
                                     .address = at,
                                     .format = VGPU_ARRAY_U16,
                                     .channels = 2,
                                     .width = 100,
                                     .element_type = true};
    uint64_t t = make_texture(&r, &desc);
    load(&r, "tex.1d.v4.u32.s32 {%r0,%r1,%r2,%r3}, [%t, {%x}];");
    struct fetch in[5] = {{.i = {0}}, {.i = {17}}, {.i = {99}}, {.i = {100}}, {.i = {-1}}};
    uint32_t out[5][4];
    assert_int_equal(fetch(&r, t, in, out, 5), CUDA_SUCCESS);
    const uint16_t *flat = &data[0][0];
    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < 2; k++)
            assert_int_equal(out[i][k], i < 3 ? flat[in[i].i[0] * 2 + (int)k] : 0);
    rig_unload(&r);
    desc.source = VGPU_TEXTURE_PITCH2D;
    desc.channels = 1;
    desc.width = 20;
    desc.height = 8;
    desc.pitch_bytes = 64;
    desc.address_mode[0] = desc.address_mode[1] = VGPU_ADDRESS_CLAMP;
    t = make_texture(&r, &desc);
    load(&r, "tex.2d.v4.u32.f32 {%r0,_,_,_}, [%t, {%fx,%fy}]; mov.u32 %r1, 0; mov.u32 %r2, 0; "
             "mov.u32 %r3, 0;");
    struct fetch in2[3] = {{.f = {3.5f, 2.5f}}, {.f = {50, 7}}, {.f = {-3, 100}}};
    assert_int_equal(fetch(&r, t, in2, out, 3), CUDA_SUCCESS);
    assert_int_equal(out[0][0], 2003);
    assert_int_equal(out[1][0], 7019);
    assert_int_equal(out[2][0], 7000);
    /* The memory is looked up at each use: the same texture after a free is an error. */
    assert_int_equal(r.o->mem_free(r.b, at), CUDA_SUCCESS);
    assert_int_equal(fetch(&r, t, in2, out, 3), CUDA_ERROR_ILLEGAL_ADDRESS);
    rig_close(&r);
}

/* Layers are picked by number, clamped, and never filtered between; tld4 gives the four texels of
 * the filter's footprint, {(0,1), (1,1), (1,0), (0,0)}. */
static void test_layers_and_gather(void **state)
{
    (void)state;
    struct rig r;
    float data[3][4][4][4];
    rig_open(&r, 1);
    for (unsigned l = 0; l < 3; l++)
        for (unsigned y = 0; y < 4; y++)
            for (unsigned x = 0; x < 4; x++)
                for (unsigned c = 0; c < 4; c++)
                    data[l][y][x][c] = (float)(l * 1000 + y * 100 + x * 10 + c);
    uint64_t array = make_array(&r, 4, 4, 3, VGPU_ARRAY_FLOAT, 4, true);
    fill_array(&r, array, data, 64, 4, 3);
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY,
                                     .array = array,
                                     .address_mode = {VGPU_ADDRESS_CLAMP, VGPU_ADDRESS_CLAMP},
                                     .linear_filter = true};
    uint64_t t = make_texture(&r, &desc);
    load(&r, "tex.a2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%l,%fx,%fy,%fy}];");
    struct fetch in[3] = {{.f = {1.5f, 2.5f}, .layer = 0},
                          {.f = {2, 2.5f}, .layer = 1},
                          {.f = {1.5f, 3}, .layer = 77}};
    uint32_t out[3][4];
    assert_int_equal(fetch(&r, t, in, out, 3), CUDA_SUCCESS);
    for (unsigned c = 0; c < 4; c++) {
        assert_int_equal(out[0][c], bits_of((float)(210 + c)));
        assert_int_equal(out[1][c], bits_of((float)(1215 + c)));
        assert_int_equal(out[2][c], bits_of((float)(2260 + c)));
    }
    rig_unload(&r);
    load(&r, "tld4.g.a2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%l,%fx,%fy,%fy}];");
    in[0].f[0] = 1.75f;
    in[0].f[1] = 2.75f;
    assert_int_equal(fetch(&r, t, in, out, 1), CUDA_SUCCESS);
    const float want[4] = {311, 321, 221, 211};
    for (unsigned k = 0; k < 4; k++)
        assert_int_equal(out[0][k], bits_of(want[k]));
    rig_unload(&r);
    /* A level of detail and gradients change nothing where there is one level. */
    uint64_t plain = make_array(&r, 4, 4, 0, VGPU_ARRAY_FLOAT, 4, false);
    fill_array(&r, plain, data, 64, 4, 1);
    desc.array = plain;
    t = make_texture(&r, &desc);
    static const char *const same[] = {
        "tex.base.2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx,%fy}];",
        "tex.level.2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx,%fy}], 0f40000000;",
        "tex.grad.2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx,%fy}], {%fx,%fx}, {%fy,%fy};"};
    for (unsigned i = 0; i < 3; i++) {
        load(&r, same[i]);
        assert_int_equal(fetch(&r, t, in, out, 1), CUDA_SUCCESS);
        assert_int_equal(out[0][0], bits_of(237.5f));
        rig_unload(&r);
    }
    rig_close(&r);
}

/* txq and suq: sizes in elements, types and orders numbered as the ISA lists them. */
static void test_queries(void **state)
{
    (void)state;
    struct rig r;
    uint32_t out[1][4];
    struct fetch in[1] = {{{0}, {0}, 0, 0}};
    rig_open(&r, 1);
    uint64_t array = make_array(&r, 20, 10, 6, VGPU_ARRAY_U8, 2, false);
    struct vgpu_texture_desc desc = {
        .source = VGPU_TEXTURE_ARRAY, .array = array, .normalized = true};
    uint64_t t = make_texture(&r, &desc), s;
    assert_int_equal(vgpu_software_surface_create(r.b, array, &s), CUDA_SUCCESS);
    load(&r, "txq.width.b32 %r0, [%t]; txq.height.b32 %r1, [%t]; txq.depth.b32 %r2, [%t]; "
             "txq.channel_data_type.b32 %r3, [%t];");
    assert_int_equal(fetch(&r, t, in, out, 1), CUDA_SUCCESS);
    const uint32_t want1[4] = {20, 10, 6, 0x10d2};
    assert_memory_equal(out, want1, 16);
    rig_unload(&r);
    load(&r, "txq.channel_order.b32 %r0, [%t]; txq.normalized_coords.b32 %r1, [%t]; "
             "txq.num_mipmap_levels.b32 %r2, [%t]; txq.array_size.b32 %r3, [%t];");
    assert_int_equal(fetch(&r, t, in, out, 1), CUDA_SUCCESS);
    const uint32_t want2[4] = {0x10b2, 1, 1, 1};
    assert_memory_equal(out, want2, 16);
    rig_unload(&r);
    load(&r, "suq.width.b32 %r0, [%t]; suq.height.b32 %r1, [%t]; suq.channel_data_type.b32 %r2, "
             "[%t]; suq.channel_order.b32 %r3, [%t];");
    assert_int_equal(fetch(&r, s, in, out, 1), CUDA_SUCCESS);
    const uint32_t want3[4] = {20, 10, 0x10da, 0x10b2};
    assert_memory_equal(out, want3, 16);
    /* A texture is no surface. */
    assert_int_equal(fetch(&r, t, in, out, 1), CUDA_ERROR_ILLEGAL_ADDRESS);
    rig_close(&r);
}

static CUresult with_handle(const char *insn, uint64_t (*make)(struct rig *r))
{
    struct rig r;
    struct fetch in[1] = {{{0}, {0}, 0, 0}};
    uint32_t out[1][4];
    rig_open(&r, 1);
    load(&r, insn);
    uint64_t handle = make(&r), x;
    CUresult rc = fetch(&r, handle, in, out, 1);
    if (rc != CUDA_SUCCESS) { /* sticky, for these calls too */
        struct vgpu_array_desc desc = {.width = 1, .format = VGPU_ARRAY_U8, .channels = 1};
        struct vgpu_copy copy = {.width_bytes = 1, .height = 1, .depth = 1};
        struct vgpu_texture_desc td = {.array = 1};
        assert_int_equal(vgpu_software_array_create(r.b, &desc, &x), rc);
        assert_int_equal(vgpu_software_array_desc(r.b, 1, &desc), rc);
        assert_int_equal(vgpu_software_array_destroy(r.b, 1), rc);
        assert_int_equal(vgpu_software_copy(r.b, &copy), rc);
        assert_int_equal(vgpu_software_texture_create(r.b, &td, &x), rc);
        assert_int_equal(vgpu_software_texture_destroy(r.b, 1), rc);
        assert_int_equal(vgpu_software_surface_create(r.b, 1, &x), rc);
        assert_int_equal(vgpu_software_surface_destroy(r.b, 1), rc);
        assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "t", 0), rc);
    }
    rig_close(&r);
    return rc;
}

static uint64_t an_array(struct rig *r)
{
    return make_array(r, 8, 8, 0, VGPU_ARRAY_FLOAT, 1, false);
}
static uint64_t good(struct rig *r)
{
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY, .array = an_array(r)};
    return make_texture(r, &desc);
}
static uint64_t none(struct rig *r)
{
    good(r);
    return 0;
}
static uint64_t next_one(struct rig *r)
{
    return good(r) + 1;
}
static uint64_t other_stamp(struct rig *r)
{
    return good(r) + 0x10000;
}
static uint64_t all_ones(struct rig *r)
{
    good(r);
    return UINT64_MAX;
}
static uint64_t host_pointer(struct rig *r)
{
    good(r);
    return (uint64_t)(uintptr_t)r;
}
static uint64_t device_pointer(struct rig *r)
{
    uint64_t at;
    good(r);
    assert_int_equal(r->o->mem_alloc(r->b, 4096, &at), CUDA_SUCCESS);
    return at;
}
static uint64_t destroyed(struct rig *r)
{
    uint64_t t = good(r);
    assert_int_equal(vgpu_software_texture_destroy(r->b, t), CUDA_SUCCESS);
    assert_int_equal(vgpu_software_texture_destroy(r->b, t), CUDA_ERROR_INVALID_HANDLE);
    return t;
}
/* Its slot has an owner again, but another one. */
static uint64_t replaced(struct rig *r)
{
    uint64_t t = destroyed(r);
    good(r);
    return t;
}
static uint64_t on_destroyed_array(struct rig *r)
{
    uint64_t array = an_array(r);
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY, .array = array};
    uint64_t t = make_texture(r, &desc);
    assert_int_equal(vgpu_software_array_destroy(r->b, array), CUDA_SUCCESS);
    an_array(r);
    return t;
}
static uint64_t three_dimensional(struct rig *r)
{
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY,
                                     .array = make_array(r, 8, 8, 8, VGPU_ARRAY_U8, 1, false)};
    return make_texture(r, &desc);
}
static uint64_t layered(struct rig *r)
{
    struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY,
                                     .array = make_array(r, 8, 8, 8, VGPU_ARRAY_U8, 1, true)};
    return make_texture(r, &desc);
}

/* Whatever number a kernel presents as a handle, the worst is the sticky error. */
static void test_forged_handles(void **state)
{
    (void)state;
    static uint64_t (*const bad[])(struct rig *) = {
        none,      next_one, other_stamp,        all_ones,          host_pointer, device_pointer,
        destroyed, replaced, on_destroyed_array, three_dimensional, layered,      an_array};
    assert_int_equal(with_handle(tex_of[2], good), CUDA_SUCCESS);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(with_handle(tex_of[2], bad[i]), CUDA_ERROR_ILLEGAL_ADDRESS);
    static const char *const others[] = {
        "tld4.r.2d.v4.u32.f32 {%r0,%r1,%r2,%r3}, [%t, {%fx,%fy}];", "txq.width.b32 %r0, [%t];",
        "suld.b.2d.b32.zero %r0, [%t, {%x,%y}];", "sust.b.2d.b32.zero [%t, {%x,%y}], %r0;",
        "suq.width.b32 %r0, [%t];"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        for (size_t k = 0; k < 8; k++)
            assert_int_equal(with_handle(others[i], bad[k]), CUDA_ERROR_ILLEGAL_ADDRESS);
    /* A guarded instruction looks at no handle. */
    assert_int_equal(with_handle("{ .reg .pred %p; setp.ne.u32 %p, %i, 0; @%p tex.2d.v4.u32.f32 "
                                 "{%r0,%r1,%r2,%r3}, [%t, {%fx,%fy}]; }",
                                 all_ones),
                     CUDA_SUCCESS);
}

/* Lanes may carry different handles. */
static void test_divergent_handles(void **state)
{
    (void)state;
    struct rig r;
    uint64_t t[3], at, in, out;
    uint32_t got[64];
    rig_open(&r, 1);
    for (unsigned i = 0; i < 3; i++) {
        float v = (float)(i + 1) * 10;
        uint64_t array = make_array(&r, 1, 0, 0, VGPU_ARRAY_FLOAT, 1, false);
        fill_array(&r, array, &v, 4, 1, 1);
        struct vgpu_texture_desc desc = {
            .source = VGPU_TEXTURE_ARRAY, .array = array, .address_mode = {VGPU_ADDRESS_CLAMP}};
        t[i] = make_texture(&r, &desc);
    }
    rig_load(&r,
             ".visible .entry k(.param .u64 t, .param .u64 out) { .reg .b64 %t, %o, %h; .reg .b32 "
             "%i, %m; .reg .f32 %f<4>;\n"
             "ld.param.u64 %t, [t]; ld.param.u64 %o, [out]; mov.u32 %i, %tid.x; rem.u32 %m, %i, 3; "
             "mul.wide.u32 %h, %m, 8; add.u64 %t, %t, %h;\n"
             "ld.global.u64 %h, [%t]; tex.1d.v4.f32.s32 {%f0,%f1,%f2,%f3}, [%h, {%i}]; "
             "mul.wide.u32 %t, %i, 4; add.u64 %o, %o, %t; st.global.f32 [%o], %f0; ret; }",
             CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 4096, &at), CUDA_SUCCESS);
    in = at;
    out = at + 1024;
    assert_int_equal(r.o->copy_htod(r.b, in, t, sizeof(t)), CUDA_SUCCESS);
    uint64_t params[] = {in, out};
    assert_int_equal(rig_launch(&r, "k", 1, 64, 0, 2, params), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, out, sizeof(got)), CUDA_SUCCESS);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(got[i], bits_of((float)(i % 3 + 1) * 10));
    rig_close(&r);
}

/* What a texture may not be is refused when it is made. */
static void test_bad_textures(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at, t;
    rig_open(&r, 1);
    assert_int_equal(r.o->mem_alloc(r.b, 1 << 20, &at), CUDA_SUCCESS);
    const struct vgpu_texture_desc ok = {.source = VGPU_TEXTURE_PITCH2D,
                                         .address = at,
                                         .format = VGPU_ARRAY_U8,
                                         .channels = 4,
                                         .width = 16,
                                         .height = 16,
                                         .pitch_bytes = 64};
    assert_int_equal(vgpu_software_texture_create(r.b, &ok, &t), CUDA_SUCCESS);
#define BAD(change)                                                                                \
    do {                                                                                           \
        struct vgpu_texture_desc d = ok;                                                           \
        d.change;                                                                                  \
        t = 1;                                                                                     \
        assert_int_equal(vgpu_software_texture_create(r.b, &d, &t), CUDA_ERROR_INVALID_VALUE);     \
        assert_int_equal(t, 0);                                                                    \
    } while (0)
    BAD(source = 3);
    BAD(source = UINT32_MAX);
    BAD(address = at + 1);
    BAD(address = 0);
    BAD(address = UINT64_MAX - 31);
    BAD(format = 0);
    BAD(format = 4);
    BAD(format = UINT32_MAX);
    BAD(channels = 0);
    BAD(channels = 3);
    BAD(channels = UINT32_MAX);
    BAD(width = 0);
    BAD(width = 17);
    BAD(width = UINT64_MAX);
    BAD(height = 0);
    BAD(height = UINT64_MAX);
    BAD(pitch_bytes = 63);
    BAD(pitch_bytes = 32);
    BAD(pitch_bytes = UINT64_MAX - 31);
    BAD(address_mode[0] = 4);
    BAD(address_mode[2] = UINT32_MAX);
    BAD(format = VGPU_ARRAY_U32; d.pitch_bytes = 256; d.linear_filter = true);
    BAD(linear_filter = true; d.element_type = true);
#undef BAD
    struct vgpu_texture_desc no_array = {.source = VGPU_TEXTURE_ARRAY, .array = 12345};
    assert_int_equal(vgpu_software_texture_create(r.b, &no_array, &t), CUDA_ERROR_INVALID_HANDLE);
    /* One that reaches beyond its memory is found when it is used. */
    struct vgpu_texture_desc beyond = ok;
    beyond.height = (1 << 20) / 64 + 1;
    assert_int_equal(vgpu_software_texture_create(r.b, &beyond, &t), CUDA_SUCCESS);
    load(&r, tex_of[2]);
    struct fetch in[1] = {{{0}, {0}, 0, 0}};
    uint32_t out[1][4];
    assert_int_equal(fetch(&r, t, in, out, 1), CUDA_ERROR_ILLEGAL_ADDRESS);
    rig_close(&r);
}

/* .texref and .surfref: nothing until bound, then what they are bound to; a 64-bit register may
 * hold one. */
static void test_references(void **state)
{
    (void)state;
    static const char *const module =
        ".global .texref t; .visible .global .surfref s;\n"
        ".visible .entry k(.param .u64 p) { .reg .b64 %p, %h; .reg .f32 %f<4>; .reg .b32 %r;\n"
        "ld.param.u64 %p, [p]; tex.1d.v4.f32.s32 {%f0,%f1,%f2,%f3}, [t, {1}]; st.global.f32 [%p], "
        "%f0;\n"
        "mov.u64 %h, t; tex.1d.v4.f32.s32 {%f0,%f1,%f2,%f3}, [%h, {2}]; st.global.f32 [%p+4], "
        "%f0;\n"
        "suld.b.1d.b32.trap %r, [s, 0]; st.global.u32 [%p+8], %r; ret; }\n"
        ".visible .entry load() { .reg .b64 %h; mov.u64 %h, t; ld.global.u64 %h, [%h]; ret; }";
    for (unsigned bound = 0; bound < 3; bound++) {
        struct rig r;
        uint64_t at, array, t, s;
        const float data[4] = {3, 5, 7, 9};
        float got[3];
        rig_open(&r, 1);
        rig_load(&r, module, CUDA_SUCCESS);
        assert_int_equal(r.o->mem_alloc(r.b, 64, &at), CUDA_SUCCESS);
        array = make_array(&r, 4, 0, 0, VGPU_ARRAY_FLOAT, 1, false);
        fill_array(&r, array, data, 16, 1, 1);
        struct vgpu_texture_desc desc = {.source = VGPU_TEXTURE_ARRAY, .array = array};
        t = make_texture(&r, &desc);
        assert_int_equal(vgpu_software_surface_create(r.b, array, &s), CUDA_SUCCESS);
        assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "t", s), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "s", t), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "u", t), CUDA_ERROR_NOT_FOUND);
        assert_int_equal(vgpu_software_reference_bind(r.b, NULL, "t", t),
                         CUDA_ERROR_INVALID_HANDLE);
        if (bound) {
            assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "t", t), CUDA_SUCCESS);
            assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "s", s), CUDA_SUCCESS);
        }
        if (bound == 2)
            assert_int_equal(vgpu_software_reference_bind(r.b, r.m, "t", 0), CUDA_SUCCESS);
        assert_int_equal(rig_launch(&r, "k", 1, 32, 0, 1, &at),
                         bound == 1 ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS);
        if (bound == 1) {
            assert_int_equal(r.o->copy_dtoh(r.b, got, at, sizeof(got)), CUDA_SUCCESS);
            assert_true(got[0] == 5 && got[1] == 7 && got[2] == 3);
            /* No address of anything. */
            assert_int_equal(rig_launch(&r, "load", 1, 1, 0, 0, NULL), CUDA_ERROR_ILLEGAL_ADDRESS);
        }
        rig_close(&r);
    }
    struct rig r;
    rig_open(&r, 1);
    rig_load(&r, ".global .texref t; .global .texref t;", CUDA_ERROR_INVALID_PTX);
    rig_load(&r, ".extern .global .texref t;", CUDA_ERROR_INVALID_PTX);
    rig_load(&r, ".global .texref t = {1};", CUDA_ERROR_INVALID_PTX);
    rig_load(&r, ".global .texref t[4];", CUDA_ERROR_INVALID_PTX);
    rig_load(&r, ".global .samplerref t;", CUDA_ERROR_INVALID_PTX);
    rig_load(&r, ".const .texref t;", CUDA_ERROR_INVALID_PTX);
    /* References count as objects and go with their module: 100 times 16000 are not too many. */
    size_t cap = 16000 * 32, len = 0;
    char *many = malloc(cap);
    assert_non_null(many);
    for (unsigned i = 0; i < 16000; i++)
        len += (size_t)snprintf(many + len, cap - len, ".global .texref t%u;\n", i);
    for (unsigned i = 0; i < 8; i++) {
        rig_load(&r, many, CUDA_SUCCESS);
        rig_unload(&r);
    }
    free(many);
    rig_close(&r);
}

/* Instructions that are not there are refused by name when loaded. */
static void test_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "tex.cube.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l, {%f0,%f1,%f2,%f3}];",
        "tex.2d.v2.f16x2.f32 {%r0,%r1}, [%l, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}|%p, [%l, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l, {%f1,%f2}], {%r0,%r1};",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l, {%f1}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2}, [%l, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 %f0, [%l, {%f1,%f2}];",
        "tex.2d.v4.f64.f32 {%f0,%f1,%f2,%f3}, [%l, {%f1,%f2}];",
        "tex.2d.v4.f32.u32 {%f0,%f1,%f2,%f3}, [%l, {%r1,%r0}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%r0, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l+8, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [s, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [g, {%f1,%f2}];",
        "tex.2d.v4.f32.f32 [%l, {%f1,%f2}];",
        "tld4.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l, {%f1,%f2}];",
        "tld4.r.3d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%l, {%f1,%f2,%f3,%f3}];",
        "tld4.r.2d.v4.f32.s32 {%f0,%f1,%f2,%f3}, [%l, {%r1,%r0}];",
        "txq.filter_mode.b32 %r0, [%l];",
        "txq.width.b32 %r0, [%l, {%r1}];",
        "txq.width.u32 %r0, [%l];",
        "suq.normalized_coords.b32 %r0, [%l];",
        "suld.p.2d.b32.trap %r0, [%l, {%r1,%r0}];",
        "suld.b.2d.b32 %r0, [%l, {%r1,%r0}];",
        "suld.b.2d.u32.trap %r0, [%l, {%r1,%r0}];",
        "suld.b.2d.v4.b64.trap {%l,%l,%l,%l}, [%l, {%r1,%r0}];",
        "suld.b.2d.v2.b32.trap %r0, [%l, {%r1,%r0}];",
        "suld.b.2d.b32.trap %r0, [t, {%r1,%r0}];",
        "sust.p.2d.b32.trap [%l, {%r1,%r0}], %r0;",
        "sust.b.2d.b32.trap [%l, {%r1,%r0}];",
        "sust.b.2d.b32.trap [%l, {%r1,%r0}], {%r0,%r1};",
        "sured.b.add.2d.u32.trap [%l, {%r1,%r0}], %r0;",
        "ld.global.u32 %r0, [%l, {%r1}];",
        "st.global.u32 [%l, %r1];",
        "atom.global.cas.b32 %r0, [%l, %r1], %r0;",
        "ld.global.u32 %r0, [t];",
    };
    struct rig r;
    rig_open(&r, 1);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char module[1024], name[64];
        snprintf(module, sizeof(module),
                 ".global .texref t; .global .surfref s; .global .u64 g;\n"
                 ".visible .entry k() { .reg .pred %%p; .reg .b32 %%r<2>; .reg .b64 %%l; .reg .f32 "
                 "%%f<4>;\n%s\nret; }",
                 texts[i]);
        rig_load(&r, module, CUDA_ERROR_INVALID_PTX);
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(texts[i], " "), texts[i]);
        assert_non_null(strstr(r.log, name));
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_addressing),        VGPU_TEST(test_normalized),
        VGPU_TEST(test_wild_coordinates),  VGPU_TEST(test_formats),
        VGPU_TEST(test_device_memory),     VGPU_TEST(test_layers_and_gather),
        VGPU_TEST(test_queries),           VGPU_TEST(test_forged_handles),
        VGPU_TEST(test_divergent_handles), VGPU_TEST(test_bad_textures),
        VGPU_TEST(test_references),        VGPU_TEST(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
