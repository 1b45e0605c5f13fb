/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict readers for what people write on command lines and in configuration files. They accept the
 * whole text or nothing: no leading blanks, no sign, no trailing bytes. They print nothing.
 */
#ifndef VGPU_COMMON_PARSE_H
#define VGPU_COMMON_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A decimal number, or a hexadecimal one after 0x, from min to max.
 * Returns 0, -EINVAL (not a number) or -ERANGE (outside min to max); *out changes only with 0.
 */
int vgpu_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);
int vgpu_parse_u32(const char *text, uint32_t min, uint32_t max, uint32_t *out);

/* As vgpu_parse_u64, in bytes, with an optional suffix K, M, G or T (powers of 1024). */
int vgpu_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* yes, no, true, false, on, off, 1, 0. Returns 0 or -EINVAL. */
int vgpu_parse_bool(const char *text, bool *out);

/* low, medium, high, 0, 1, 2: enum vgpu_priority. Returns 0 or -EINVAL. */
int vgpu_parse_priority(const char *text, uint32_t *out);

#endif
