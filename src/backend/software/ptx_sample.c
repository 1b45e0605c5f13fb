/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading textures (CUDA C++ Programming Guide, "Texture Fetching"): addressing, formats, and
 * filtering between texels with weights of eight fractional bits. Pure functions of a view, a
 * sampler and coordinates; whatever the coordinates are, they lead to a texel or to the border.
 *
 * Texels are read with relaxed atomics: a kernel that writes the same array through a surface at
 * the time must not make the race ours.
 */
#include <math.h>
#include <string.h>

#include "ptx_image.h"

/* Far beyond any texel, and exact in every type it passes through. */
#define FAR 1073741824.0

static float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}
static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

/* Exact: every half is a single. */
static float half_to_float(uint32_t h)
{
    int exp = (int)(h >> 10 & 31);
    float m = (float)(h & 0x3ff);
    float v = exp == 0    ? ldexpf(m, -24)
              : exp == 31 ? (m != 0 ? NAN : INFINITY)
                          : ldexpf(m + 1024, exp - 25);
    return h & 0x8000 ? -v : v;
}

/* One channel as 32 bits: an integer extended by its sign or by zeros, or a float. */
static uint32_t load(const uint8_t *at, unsigned format, bool to_float)
{
    float scale;
    int32_t v;
    switch (format) {
    case VGPU_ARRAY_U8:
        v = __atomic_load_n(at, __ATOMIC_RELAXED);
        scale = 255;
        break;
    case VGPU_ARRAY_S8:
        v = __atomic_load_n(at, __ATOMIC_RELAXED);
        v -= v < 128 ? 0 : 256;
        scale = 127;
        break;
    case VGPU_ARRAY_U16:
        v = __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED);
        scale = 65535;
        break;
    case VGPU_ARRAY_S16:
        v = (int16_t)__atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED);
        scale = 32767;
        break;
    case VGPU_ARRAY_HALF:
        return float_bits(
            half_to_float(__atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED)));
    default:
        return __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED);
    }
    if (!to_float)
        return (uint32_t)v;
    float f = (float)v / scale;
    return float_bits(f < -1 ? -1 : f);
}

/* Texel number i along an axis of n, by the address mode; -1: the border. */
static int64_t place(int64_t i, int64_t n, unsigned mode)
{
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case VGPU_ADDRESS_WRAP:
        i %= n;
        return i < 0 ? i + n : i;
    case VGPU_ADDRESS_MIRROR:
        i %= 2 * n;
        i = i < 0 ? i + 2 * n : i;
        return i < n ? i : 2 * n - 1 - i;
    case VGPU_ADDRESS_BORDER:
        return -1;
    default:
        return i < 0 ? 0 : n - 1;
    }
}

static void texel(const struct ptx_view *v, const struct ptx_sampler *s, const int64_t at[3],
                  int64_t layer, uint32_t out[4])
{
    const uint32_t size[3] = {v->width, v->height, v->depth};
    int64_t to[3] = {0, 0, layer};
    for (unsigned k = 0; k < 3 && k < v->dimensions; k++) {
        to[k] = place(at[k], size[k], s->address[k]);
        if (to[k] < 0) {
            memcpy(out, s->border, 4 * sizeof(*out));
            return;
        }
    }
    const uint8_t *p = v->host + (uint64_t)to[2] * v->slice_bytes +
                       (uint64_t)to[1] * v->pitch_bytes +
                       (uint64_t)to[0] * v->channels * v->channel_bytes;
    bool is_float = s->to_float || v->format == VGPU_ARRAY_FLOAT || v->format == VGPU_ARRAY_HALF;
    out[0] = out[1] = out[2] = 0;
    out[3] = is_float ? float_bits(1) : 1;
    for (unsigned k = 0; k < v->channels; k++)
        out[k] = load(p + k * v->channel_bytes, v->format, s->to_float);
}

/* A coordinate in texels: normalized ones are folded before they are stretched, so that what wraps
 * keeps its precision. */
static double in_texels(double x, uint32_t n, unsigned mode, bool normalized)
{
    if (isnan(x))
        return 0;
    if (normalized) {
        double whole = floor(x);
        if (mode == VGPU_ADDRESS_WRAP && isfinite(x))
            x -= whole;
        else if (mode == VGPU_ADDRESS_MIRROR && isfinite(x))
            x = fmod(whole, 2) != 0 ? 1 - (x - whole) : x - whole;
        x *= n;
    }
    return x < -FAR ? -FAR : x > FAR ? FAR : x;
}

/* The layer, and in whole[] and fraction[] (256ths) the texels: the nearest, or the lower ones of
 * those around. */
static int64_t locate(const struct ptx_view *v, const struct ptx_sampler *s,
                      const struct ptx_coordinates *c, bool between, int64_t whole[3],
                      unsigned fraction[3])
{
    const uint32_t size[3] = {v->width, v->height, v->depth};
    for (unsigned k = 0; k < 3; k++) {
        whole[k] = 0;
        fraction[k] = 0;
        if (k >= v->dimensions)
            continue;
        if (c->whole) {
            whole[k] = (int64_t)c->at[k];
            continue;
        }
        double x = in_texels(c->at[k], size[k], s->address[k], s->normalized);
        if (!between) {
            whole[k] = (int64_t)floor(x);
            continue;
        }
        /* "alpha, beta and gamma are stored in 9-bit fixed point format with 8 bits of fractional
         * value" */
        int64_t fixed = (int64_t)floor((x - 0.5) * 256 + 0.5);
        whole[k] = fixed >> 8;
        fraction[k] = (unsigned)(fixed & 255);
    }
    if (!v->layered)
        return 0;
    int64_t last = (int64_t)v->depth - 1;
    return c->layer < 0 ? 0 : c->layer > last ? last : c->layer;
}

/*
 * "tex(x,y) = (1-a)(1-b)T[i,j] + a(1-b)T[i+1,j] + (1-a)b T[i,j+1] + ab T[i+1,j+1]", and so on for
 * one and three dimensions. The weights and their products with texels are exact in double; the sum
 * is rounded to single once.
 */
void vgpu_ptx_sample(const struct ptx_view *v, const struct ptx_sampler *s,
                     const struct ptx_coordinates *c, uint32_t out[4])
{
    int64_t whole[3], layer;
    unsigned fraction[3];
    bool between = s->linear && !c->whole;
    layer = locate(v, s, c, between, whole, fraction);
    if (!between) {
        texel(v, s, whole, layer, out);
        return;
    }
    double sum[4] = {0};
    for (unsigned corner = 0; corner < 1u << v->dimensions; corner++) {
        int64_t at[3];
        double weight = 1;
        uint32_t t[4];
        for (unsigned k = 0; k < 3; k++) {
            unsigned far = corner >> k & 1;
            at[k] = whole[k] + far;
            if (k < v->dimensions)
                weight *= (far ? fraction[k] : 256 - fraction[k]) / 256.0;
        }
        if (weight == 0)
            continue; /* what has no part in it may be infinite */
        texel(v, s, at, layer, t);
        for (unsigned k = 0; k < 4; k++)
            sum[k] += weight * (double)bits_float(t[k]);
    }
    for (unsigned k = 0; k < 4; k++)
        out[k] = float_bits((float)sum[k]);
}

/* PTX ISA, "tld4": the texels that filtering would use, from the lower left one against the clock.
 */
void vgpu_ptx_gather(const struct ptx_view *v, const struct ptx_sampler *s,
                     const struct ptx_coordinates *c, unsigned channel, uint32_t out[4])
{
    static const uint8_t from[4][2] = {{0, 1}, {1, 1}, {1, 0}, {0, 0}};
    int64_t whole[3];
    unsigned fraction[3];
    int64_t layer = locate(v, s, c, true, whole, fraction);
    for (unsigned k = 0; k < 4; k++) {
        const int64_t at[3] = {whole[0] + from[k][0], whole[1] + from[k][1], whole[2]};
        uint32_t t[4];
        texel(v, s, at, layer, t);
        out[k] = t[channel];
    }
}
