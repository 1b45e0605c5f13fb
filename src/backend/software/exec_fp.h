/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the floating-point handlers share: bits, canonical NaN, flushing, saturation, fused
 * multiply-add. */
#ifndef VGPU_PTX_EXEC_FP_H
#define VGPU_PTX_EXEC_FP_H

#include "exec.h"

static inline uint32_t ptx_f32_bits(float x)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = x};
    return v.u;
}
static inline float ptx_bits_f32(uint32_t x)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = x};
    return v.f;
}
static inline uint64_t ptx_f64_bits(double x)
{
    union {
        double f;
        uint64_t u;
    } v = {.f = x};
    return v.u;
}
static inline double ptx_bits_f64(uint64_t x)
{
    union {
        uint64_t u;
        double f;
    } v = {.u = x};
    return v.f;
}

static inline float ptx_nan32(float x)
{
    return x != x ? ptx_bits_f32(0x7fffffffu) : x;
}

/* Subnormal to zero of the same sign. */
static inline float ptx_ftz32(float x)
{
    uint32_t u = ptx_f32_bits(x);
    return ptx_bits_f32(u & 0x7f800000u ? u : u & 0x80000000u);
}

/* .sat: to [0, 1], NaN to +0. */
static inline float ptx_sat32(float x)
{
    x = x > 0.0f ? x : 0.0f;
    return x < 1.0f ? x : 1.0f;
}

static inline float ptx_finish32(float r, bool ftz, bool sat)
{
    r = ptx_nan32(r);
    r = ftz ? ptx_ftz32(r) : r;
    return sat ? ptx_sat32(r) : r;
}

/* One rounding, on every host: an instruction where there is one, else the C library's exact
 * emulation. */
static inline float ptx_fma32(float x, float y, float z)
{
    return __builtin_fmaf(x, y, z);
}
static inline double ptx_fma64(double x, double y, double z)
{
    return __builtin_fma(x, y, z);
}

#endif
