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

/* The number of a descriptor that is open in this process. Returns 0, or -EBADF for all else. */
int vgpu_parse_fd(const char *text, int *out);

/* A GPU's UUID as CUDA's tools write it, GPU-8-4-4-4-12 hexadecimal digits; "GPU-" may be missing.
 * Returns 0 or -EINVAL. */
#define VGPU_UUID_TEXT 41u
int vgpu_parse_uuid(const char *text, uint8_t out[16]);
/* The same the other way round, into VGPU_UUID_TEXT bytes. */
void vgpu_uuid_write(char *text, const uint8_t uuid[16]);

/* A share, "30%" or "12.5%" (at most one digit behind the point, the sign may be missing), 0 to
 * 100, in thousandths. Returns 0 or -EINVAL. */
int vgpu_parse_percent(const char *text, uint32_t *out);

/* low, medium, high, 0, 1, 2: enum vgpu_priority. Returns 0 or -EINVAL. */
int vgpu_parse_priority(const char *text, uint32_t *out);

#endif
