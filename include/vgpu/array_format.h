/* SPDX-License-Identifier: MIT */
/* What the guest's library and every backend have to know of an array's elements. */
#ifndef VGPU_ARRAY_FORMAT_H
#define VGPU_ARRAY_FORMAT_H

#include <stdint.h>

#include "vgpu/cuda.h"

/* Bytes of one channel of a CUarray_format; 0: there is no such format here. */
static inline uint32_t vgpu_array_format_bytes(uint32_t format)
{
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
        return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
        return 4;
    default:
        return 0;
    }
}

#endif
