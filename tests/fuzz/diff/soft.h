/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Floating point by integer arithmetic, slowly and plainly: what the IEEE 754 operations give in
 * any of the three formats and four rounding modes. Shares nothing with the host's own floating
 * point, so it can judge an interpreter that uses it.
 */
#ifndef VGPU_DIFF_SOFT_H
#define VGPU_DIFF_SOFT_H

#include <stdbool.h>
#include <stdint.h>

struct soft_format {
    unsigned bits; /* of the whole number */
    int precision; /* of the significand, with the hidden bit */
    int emin;      /* exponent of the smallest normal number */
    uint64_t nan;  /* the one that results are */
};
extern const struct soft_format soft_f16, soft_f32, soft_f64;

enum soft_mode { SOFT_RN, SOFT_RZ, SOFT_RM, SOFT_RP };

/* A value, not yet in any format: m * 2^e, and if `more`, something between that and (m+1) * 2^e.
 */
struct soft {
    enum { SOFT_ZERO, SOFT_NUMBER, SOFT_INFINITE, SOFT_NAN } kind;
    bool negative;
    unsigned __int128 m; /* not 0 when SOFT_NUMBER */
    int e;
    bool more;
};

struct soft soft_unpack(const struct soft_format *f, uint64_t bits);
uint64_t soft_pack(const struct soft_format *f, struct soft x, enum soft_mode mode);

/* Operands are unpacked numbers; mode decides only the sign of a zero that is an exact sum. */
struct soft soft_add(struct soft a, struct soft b, enum soft_mode mode);
struct soft soft_mul(struct soft a, struct soft b);
struct soft soft_div(struct soft a, struct soft b);
struct soft soft_sqrt(struct soft a);
struct soft soft_negate(struct soft a);

/* -1, 0 or 1; neither operand may be a NaN. */
int soft_compare(struct soft a, struct soft b);

struct soft soft_from_integer(__int128 v);
struct soft soft_to_integral(struct soft x, enum soft_mode mode);
/* Of an integral value or infinity: the nearest integer in [low, high]. */
__int128 soft_to_integer(struct soft x, __int128 low, __int128 high);

#endif
