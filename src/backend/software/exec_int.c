/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer arithmetic (PTX ISA, "Integer Arithmetic Instructions"). Results wrap; division by zero
 * gives all ones. */
#include "exec.h"

#define ALL2(op, R, C, EXPR) PTX_OP2(op, R, R, C, R, C, EXPR)
#define ALL3(op, R, C, EXPR) PTX_OP3(op, R, R, C, R, C, R, C, EXPR)

ALL2(ADD_32, row_u32, uint32_t, x + y)
ALL2(ADD_64, row_u64, uint64_t, x + y)
ALL2(SUB_32, row_u32, uint32_t, x - y)
ALL2(SUB_64, row_u64, uint64_t, x - y)
ALL2(MULLO_32, row_u32, uint32_t, x *y)
ALL2(MULLO_64, row_u64, uint64_t, x *y)
ALL3(MADLO_32, row_u32, uint32_t, x *y + z)
ALL3(MADLO_64, row_u64, uint64_t, x *y + z)
PTX_OP1(NEG_32, row_u32, row_u32, uint32_t, 0u - x)
PTX_OP1(NEG_64, row_u64, row_u64, uint64_t, 0u - x)

static inline uint32_t hi_u16(uint16_t x, uint16_t y)
{
    return ((uint32_t)x * y) >> 16;
}
static inline uint32_t hi_s16(int16_t x, int16_t y)
{
    return (uint32_t)((int32_t)x * y) >> 16;
}
static inline uint32_t hi_u32(uint32_t x, uint32_t y)
{
    return (uint32_t)(((uint64_t)x * y) >> 32);
}
static inline uint32_t hi_s32(int32_t x, int32_t y)
{
    return (uint32_t)((uint64_t)((int64_t)x * y) >> 32);
}
static inline uint64_t hi_u64(uint64_t x, uint64_t y)
{
    return (uint64_t)(((unsigned __int128)x * y) >> 64);
}
static inline uint64_t hi_s64(int64_t x, int64_t y)
{
    return (uint64_t)((unsigned __int128)((__int128)x * y) >> 64);
}

ALL2(MULHI_U16, row_u32, uint16_t, hi_u16(x, y))
ALL2(MULHI_S16, row_u32, int16_t, hi_s16(x, y))
ALL2(MULHI_U32, row_u32, uint32_t, hi_u32(x, y))
ALL2(MULHI_S32, row_u32, int32_t, hi_s32(x, y))
ALL2(MULHI_U64, row_u64, uint64_t, hi_u64(x, y))
ALL2(MULHI_S64, row_u64, int64_t, hi_s64(x, y))
ALL3(MADHI_U16, row_u32, uint16_t, hi_u16(x, y) + z)
ALL3(MADHI_S16, row_u32, int16_t, hi_s16(x, y) + (uint32_t)z)
ALL3(MADHI_U32, row_u32, uint32_t, hi_u32(x, y) + z)
ALL3(MADHI_S32, row_u32, int32_t, hi_s32(x, y) + (uint32_t)z)
ALL3(MADHI_U64, row_u64, uint64_t, hi_u64(x, y) + z)
ALL3(MADHI_S64, row_u64, int64_t, hi_s64(x, y) + (uint64_t)z)

PTX_OP2(MULWIDE_U16, row_u32, row_u32, uint16_t, row_u32, uint16_t, (uint32_t)x *y)
PTX_OP2(MULWIDE_S16, row_u32, row_u32, int16_t, row_u32, int16_t, (int32_t)x *y)
PTX_OP2(MULWIDE_U32, row_u64, row_u32, uint32_t, row_u32, uint32_t, (uint64_t)x *y)
PTX_OP2(MULWIDE_S32, row_s64, row_s32, int32_t, row_s32, int32_t, (int64_t)x *y)
PTX_OP3(MADWIDE_U16, row_u32, row_u32, uint16_t, row_u32, uint16_t, row_u32, uint32_t,
        (uint32_t)x *y + z)
PTX_OP3(MADWIDE_S16, row_u32, row_u32, int16_t, row_u32, int16_t, row_u32, uint32_t,
        (uint32_t)((int32_t)x *y) + z)
PTX_OP3(MADWIDE_U32, row_u64, row_u32, uint32_t, row_u32, uint32_t, row_u64, uint64_t,
        (uint64_t)x *y + z)
PTX_OP3(MADWIDE_S32, row_u64, row_s32, int32_t, row_s32, int32_t, row_u64, uint64_t,
        (uint64_t)((int64_t)x *y) + z)

static inline int32_t clamp_s32(int64_t v)
{
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v;
}
ALL2(ADDSAT_S32, row_s32, int32_t, clamp_s32((int64_t)x + y))
ALL2(SUBSAT_S32, row_s32, int32_t, clamp_s32((int64_t)x - y))

/* mul24: the 48-bit product of the low 24 bits; lo is its bits 31..0, hi its bits 47..16. */
static inline uint64_t product_u24(uint32_t x, uint32_t y)
{
    return (uint64_t)(x & 0xffffff) * (y & 0xffffff);
}
static inline uint64_t product_s24(uint32_t x, uint32_t y)
{
    int64_t a = (int32_t)(x << 8) >> 8, b = (int32_t)(y << 8) >> 8;
    return (uint64_t)(a * b);
}
ALL2(MUL24LO_U32, row_u32, uint32_t, product_u24(x, y))
ALL2(MUL24LO_S32, row_u32, uint32_t, product_s24(x, y))
ALL2(MUL24HI_U32, row_u32, uint32_t, product_u24(x, y) >> 16)
ALL2(MUL24HI_S32, row_u32, uint32_t, product_s24(x, y) >> 16)
ALL3(MAD24LO_U32, row_u32, uint32_t, (uint32_t)product_u24(x, y) + z)
ALL3(MAD24LO_S32, row_u32, uint32_t, (uint32_t)product_s24(x, y) + z)
ALL3(MAD24HI_U32, row_u32, uint32_t, (uint32_t)(product_u24(x, y) >> 16) + z)
ALL3(MAD24HI_S32, row_u32, uint32_t, (uint32_t)(product_s24(x, y) >> 16) + z)

/*
 * Division: the ISA leaves x / 0 and x % 0 unspecified; like the hardware (seen on an H100), both
 * give all ones. MIN / -1 wraps.
 */
#define SIGNED(C) ((C)-1 < (C)1)
#define DIVIDE(suffix, R, C, U)                                                                    \
    static inline C quotient_##suffix(C x, C y)                                                    \
    {                                                                                              \
        if (y == 0)                                                                                \
            return (C) ~(C)0;                                                                      \
        return SIGNED(C) && y == (C) ~(C)0 ? (C)(0 - (U)x) : (C)(x / y);                           \
    }                                                                                              \
    static inline C remainder_##suffix(C x, C y)                                                   \
    {                                                                                              \
        if (y == 0)                                                                                \
            return (C) ~(C)0;                                                                      \
        return SIGNED(C) && y == (C) ~(C)0 ? (C)0 : (C)(x % y);                                    \
    }                                                                                              \
    ALL2(DIV_##suffix, R, C, quotient_##suffix(x, y))                                              \
    ALL2(REM_##suffix, R, C, remainder_##suffix(x, y))

DIVIDE(U16, row_u32, uint16_t, uint32_t)
DIVIDE(S16, row_u32, int16_t, uint32_t)
DIVIDE(U32, row_u32, uint32_t, uint32_t)
DIVIDE(S32, row_s32, int32_t, uint32_t)
DIVIDE(U64, row_u64, uint64_t, uint64_t)
DIVIDE(S64, row_s64, int64_t, uint64_t)

#define ORDER(suffix, R, C)                                                                        \
    ALL2(MIN_##suffix, R, C, x < y ? x : y)                                                        \
    ALL2(MAX_##suffix, R, C, x > y ? x : y)

ORDER(U16, row_u32, uint16_t)
ORDER(S16, row_u32, int16_t)
ORDER(U32, row_u32, uint32_t)
ORDER(S32, row_s32, int32_t)
ORDER(U64, row_u64, uint64_t)
ORDER(S64, row_s64, int64_t)

PTX_OP1(ABS_S16, row_u32, row_u32, int16_t, x < 0 ? 0u - (uint32_t)x : (uint32_t)x)
PTX_OP1(ABS_S32, row_u32, row_s32, int32_t, x < 0 ? 0u - (uint32_t)x : (uint32_t)x)
PTX_OP1(ABS_S64, row_u64, row_s64, int64_t, x < 0 ? 0u - (uint64_t)x : (uint64_t)x)

#define SAD(suffix, R, C, U) ALL3(SAD_##suffix, R, C, (U)z + (x < y ? (U)y - (U)x : (U)x - (U)y))
SAD(U16, row_u32, uint16_t, uint32_t)
SAD(S16, row_u32, int16_t, uint32_t)
SAD(U32, row_u32, uint32_t, uint32_t)
SAD(S32, row_u32, int32_t, uint32_t)
SAD(U64, row_u64, uint64_t, uint64_t)
SAD(S64, row_u64, int64_t, uint64_t)
