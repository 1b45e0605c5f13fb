/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tex, tld4, txq, suld, sust, suq (PTX ISA, "Texture Instructions", "Surface Instructions"). in->a
 * is the row of handles, b, c and e those of the coordinates, sub the geometry; in->imm the row of
 * the layer. d is the first of the consecutive rows that data comes from or goes to.
 *
 * A handle is a number the guest may have made up: it is looked up for every lane whose handle is
 * not that of the lane before, and one that finds nothing ends the launch.
 */
#include "exec.h"
#include "ptx_image.h"

static void bad_handle(struct ptx_warp *w, const struct ptx_insn *in, uint64_t handle)
{
    ptx_warp_fault(w, in, CUDA_ERROR_ILLEGAL_ADDRESS, handle, true);
}

/* A geometry is for objects of its shape, and a layered one for layered ones. */
static bool fits(const struct ptx_insn *in, const struct ptx_view *v)
{
    bool layered = in->sub == PTX_GEOM_A1D || in->sub == PTX_GEOM_A2D;
    unsigned dimensions = in->sub == PTX_GEOM_3D                              ? 3
                          : in->sub == PTX_GEOM_2D || in->sub == PTX_GEOM_A2D ? 2
                                                                              : 1;
    return v->dimensions == dimensions && v->layered == layered;
}

#define TEXTURE(op, CALL)                                                                          \
    PTX_HANDLER(op)                                                                                \
    {                                                                                              \
        const row_u64 *handle = ptx_src(w, in->a);                                                 \
        const row_f32 *fx = ptx_src(w, in->b), *fy = ptx_src(w, in->c), *fz = ptx_src(w, in->e);   \
        const row_s32 *ix = ptx_src(w, in->b), *iy = ptx_src(w, in->c), *iz = ptx_src(w, in->e);   \
        const row_u32 *layer = ptx_src(w, (int32_t)in->imm);                                       \
        struct ptx_view v;                                                                         \
        struct ptx_sampler s;                                                                      \
        uint64_t known = 0; /* no handle is 0 */                                                   \
        for (unsigned i = 0; i < PTX_LANES; i++) {                                                 \
            if (!(mask >> i & 1))                                                                  \
                continue;                                                                          \
            if (handle[i] != known || known == 0) {                                                \
                if (!vgpu_ptx_image_texture(w->memory, handle[i], &v, &s) || !fits(in, &v)) {      \
                    bad_handle(w, in, handle[i]);                                                  \
                    return;                                                                        \
                }                                                                                  \
                known = handle[i];                                                                 \
            }                                                                                      \
            struct ptx_coordinates c = {.whole = !(in->flags & PTX_F_WIDE), .layer = layer[i]};    \
            c.at[0] = c.whole ? (double)ix[i] : (double)fx[i];                                     \
            c.at[1] = c.whole ? (double)iy[i] : (double)fy[i];                                     \
            c.at[2] = c.whole ? (double)iz[i] : (double)fz[i];                                     \
            uint32_t out[4];                                                                       \
            CALL;                                                                                  \
            for (unsigned k = 0; k < 4; k++) {                                                     \
                row_u32 *d = ptx_dst(w, in->d + (int32_t)k);                                       \
                d[i] = out[k];                                                                     \
            }                                                                                      \
        }                                                                                          \
    }
TEXTURE(TEX, vgpu_ptx_sample(&v, &s, &c, out))
/* vec is the component */
TEXTURE(TLD4, vgpu_ptx_gather(&v, &s, &c, in->vec, out))

/* "channel_data_type" and "channel_order" are numbered as in OpenCL. */
static uint32_t data_type(const struct ptx_view *v, bool normalized)
{
    switch (v->format) {
    case VGPU_ARRAY_S8:
        return normalized ? 0x10d0 : 0x10d7;
    case VGPU_ARRAY_S16:
        return normalized ? 0x10d1 : 0x10d8;
    case VGPU_ARRAY_U8:
        return normalized ? 0x10d2 : 0x10da;
    case VGPU_ARRAY_U16:
        return normalized ? 0x10d3 : 0x10db;
    case VGPU_ARRAY_S32:
        return 0x10d9;
    case VGPU_ARRAY_U32:
        return 0x10dc;
    case VGPU_ARRAY_HALF:
        return 0x10dd;
    default:
        return 0x10de;
    }
}

static uint32_t answer(const struct ptx_view *v, const struct ptx_sampler *s, unsigned what)
{
    switch (what) {
    case PTX_TXQ_WIDTH:
        return v->width;
    case PTX_TXQ_HEIGHT:
        return v->height;
    case PTX_TXQ_DEPTH:
        return v->layered ? 1 : v->depth;
    case PTX_TXQ_ARRAY_SIZE:
        return v->layered ? v->depth : 1;
    case PTX_TXQ_CHANNEL_DATA_TYPE:
        return data_type(v, s->to_float);
    case PTX_TXQ_CHANNEL_ORDER:
        return v->channels == 1 ? 0x10b0 : v->channels == 2 ? 0x10b2 : 0x10b5;
    case PTX_TXQ_NORMALIZED_COORDS:
        return s->normalized;
    default: /* mipmap levels, samples */
        return 1;
    }
}

/* txq, and suq (vec 1): sub is enum ptx_txq */
PTX_HANDLER(TXQ)
{
    const row_u64 *handle = ptx_src(w, in->a);
    row_u32 *d = ptx_dst(w, in->d);
    for (unsigned i = 0; i < PTX_LANES; i++) {
        struct ptx_view v;
        struct ptx_sampler s = {0};
        if (!(mask >> i & 1))
            continue;
        if (in->vec ? !vgpu_ptx_image_surface(w->memory, handle[i], &v)
                    : !vgpu_ptx_image_texture(w->memory, handle[i], &v, &s)) {
            bad_handle(w, in, handle[i]);
            return;
        }
        d[i] = answer(&v, &s, in->sub);
    }
}

/* Row, column or slice `i` of `n`, for the clamp mode in flags; false: outside. */
static bool inside(int64_t *i, int64_t n, bool clamp)
{
    if (clamp)
        *i = *i < 0 ? 0 : *i >= n ? n - 1 : *i;
    return *i >= 0 && *i < n;
}

/*
 * Where each lane's access of size * vec bytes lies, NULL for one that .zero ignores; false when
 * one faults. x counts bytes. All lanes are looked at before any acts.
 */
static bool surface_places(struct ptx_warp *w, const struct ptx_insn *in, uint32_t mask,
                           uint8_t *at[PTX_LANES])
{
    const row_u64 *handle = ptx_src(w, in->a);
    const row_s32 *x = ptx_src(w, in->b), *y = ptx_src(w, in->c), *z = ptx_src(w, in->e);
    const row_s32 *layer = ptx_src(w, (int32_t)in->imm);
    const int64_t bytes = (int64_t)in->size * in->vec;
    const bool clamp = in->flags & PTX_F_SAT, zero = in->flags & PTX_F_FTZ;
    struct ptx_view v;
    uint64_t known = 0;
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        if (handle[i] != known || known == 0) {
            if (!vgpu_ptx_image_surface(w->memory, handle[i], &v) || !fits(in, &v)) {
                bad_handle(w, in, handle[i]);
                return false;
            }
            known = handle[i];
        }
        const int64_t row = (int64_t)v.width * v.channels * v.channel_bytes;
        int64_t to[3] = {x[i], 0, 0};
        if (v.dimensions > 1)
            to[1] = y[i];
        to[2] = v.layered ? layer[i] : v.dimensions > 2 ? z[i] : 0;
        /* The last place of a row from which the whole access fits, in steps of its size. */
        const int64_t room = row < bytes ? 0 : (row - bytes) / bytes * bytes + 1;
        bool in_row = inside(&to[0], room, clamp), in_rows = inside(&to[1], v.height, clamp);
        at[i] = NULL;
        if (!in_row || !in_rows || !inside(&to[2], v.depth, clamp)) {
            if (zero)
                continue;
            ptx_warp_fault(w, in, CUDA_ERROR_LAUNCH_FAILED, 0, false);
            return false;
        }
        if (to[0] % bytes) {
            ptx_warp_fault(w, in, CUDA_ERROR_MISALIGNED_ADDRESS, (uint64_t)to[0], true);
            return false;
        }
        at[i] = v.host + (uint64_t)to[2] * v.slice_bytes + (uint64_t)to[1] * v.pitch_bytes +
                (uint64_t)to[0];
    }
    return true;
}

typedef uint8_t __attribute__((may_alias)) mem_u8;
typedef uint16_t __attribute__((may_alias)) mem_u16;
typedef uint32_t __attribute__((may_alias)) mem_u32;
typedef uint64_t __attribute__((may_alias)) mem_u64;

static uint64_t load_element(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1:
        return __atomic_load_n((const mem_u8 *)p, __ATOMIC_RELAXED);
    case 2:
        return __atomic_load_n((const mem_u16 *)(const void *)p, __ATOMIC_RELAXED);
    case 4:
        return __atomic_load_n((const mem_u32 *)(const void *)p, __ATOMIC_RELAXED);
    default:
        return __atomic_load_n((const mem_u64 *)(const void *)p, __ATOMIC_RELAXED);
    }
}

static void store_element(uint8_t *p, unsigned size, uint64_t v)
{
    switch (size) {
    case 1:
        __atomic_store_n((mem_u8 *)p, (uint8_t)v, __ATOMIC_RELAXED);
        break;
    case 2:
        __atomic_store_n((mem_u16 *)(void *)p, (uint16_t)v, __ATOMIC_RELAXED);
        break;
    case 4:
        __atomic_store_n((mem_u32 *)(void *)p, (uint32_t)v, __ATOMIC_RELAXED);
        break;
    default:
        __atomic_store_n((mem_u64 *)(void *)p, v, __ATOMIC_RELAXED);
    }
}

/* Rows of data are as wide as the element: two slots for 64 bits. */
static int32_t data_row(const struct ptx_insn *in, unsigned k)
{
    return in->d + (int32_t)(in->size == 8 ? 2 * k : k);
}

PTX_HANDLER(SULD)
{
    uint8_t *at[PTX_LANES];
    if (!surface_places(w, in, mask, at))
        return;
    for (unsigned k = 0; k < in->vec; k++) {
        row_u32 *d32 = ptx_dst(w, data_row(in, k));
        row_u64 *d64 = ptx_dst(w, data_row(in, k));
        for (unsigned i = 0; i < PTX_LANES; i++) {
            if (!(mask >> i & 1))
                continue;
            uint64_t v = at[i] ? load_element(at[i] + (size_t)k * in->size, in->size) : 0;
            if (in->size == 8)
                d64[i] = v;
            else
                d32[i] = (uint32_t)v;
        }
    }
}

PTX_HANDLER(SUST)
{
    uint8_t *at[PTX_LANES];
    if (!surface_places(w, in, mask, at))
        return;
    for (unsigned k = 0; k < in->vec; k++) {
        const row_u32 *s32 = ptx_src(w, data_row(in, k));
        const row_u64 *s64 = ptx_src(w, data_row(in, k));
        for (unsigned i = 0; i < PTX_LANES; i++)
            if (mask >> i & 1 && at[i])
                store_element(at[i] + (size_t)k * in->size, in->size,
                              in->size == 8 ? s64[i] : s32[i]);
    }
}
