/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and texts of the contracts' numbers, for logs and messages. Never for decisions. */
#ifndef VGPU_COMMON_NAMES_H
#define VGPU_COMMON_NAMES_H

#include <stdbool.h>
#include <stdint.h>

/* "CUDA_ERROR_INVALID_VALUE" and "invalid argument"; a number without a name gets a generic one. */
const char *vgpu_curesult_name(uint32_t status);
const char *vgpu_curesult_text(uint32_t status);

/* Whether it has one of its own. */
bool vgpu_curesult_is_known(uint32_t status);

/* "invalid request" for enum vgpu_error; "unknown error" for the rest. */
const char *vgpu_error_text(uint32_t error_code);

/* "low", "medium", "high"; "?" for the rest. */
const char *vgpu_priority_name(uint32_t priority);

#endif
