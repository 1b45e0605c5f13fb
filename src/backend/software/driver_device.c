/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the software driver says about its device: the CUdevice_attributes of a card of compute
 * capability 7.5, as far as this backend is one. An attribute that is not here is 0: a feature that
 * is absent.
 *
 * Source: CUDA Driver API reference, enum CUdevice_attribute; CUDA C++ programming guide, technical
 * specifications per compute capability.
 */
#include "common/wire.h"
#include "sw_driver.h"

#define FIRST_MAX 4096u /* no attribute is so far out */

/* Those that do not depend on the session. */
static const struct {
    uint16_t number;
    int32_t value;
} attributes[] = {
    {1, 1024},       /* MAX_THREADS_PER_BLOCK */
    {2, 1024},       /* MAX_BLOCK_DIM_X */
    {3, 1024},       /* MAX_BLOCK_DIM_Y */
    {4, 64},         /* MAX_BLOCK_DIM_Z */
    {5, INT32_MAX},  /* MAX_GRID_DIM_X */
    {6, 65535},      /* MAX_GRID_DIM_Y */
    {7, 65535},      /* MAX_GRID_DIM_Z */
    {8, 49152},      /* MAX_SHARED_MEMORY_PER_BLOCK */
    {9, 65536},      /* TOTAL_CONSTANT_MEMORY */
    {10, 32},        /* WARP_SIZE */
    {11, INT32_MAX}, /* MAX_PITCH */
    {12, 65536},     /* MAX_REGISTERS_PER_BLOCK */
    {14, 512},       /* TEXTURE_ALIGNMENT */
    /* What textures and surfaces may be: width, height, depth or layers. */
    {21, 131072},
    {22, 131072},
    {23, 65536},
    {24, 16384},
    {25, 16384},
    {26, 16384}, /* 1D to 3D */
    {27, 32768},
    {28, 32768},
    {29, 2048},
    {42, 32768},
    {43, 2048}, /* layered */
    {55, 32768},
    {56, 131072},
    {57, 65536},
    {58, 16384},
    {59, 16384},
    {60, 16384}, /* surfaces */
    {61, 32768},
    {62, 2048},
    {63, 32768},
    {64, 32768},
    {65, 2048}, /* layered */
    {69, 1 << 28},
    {70, 131072},
    {71, 65000},
    {72, 2097120}, /* on linear memory; the pitch */
    {30, 512},     /* SURFACE_ALIGNMENT */
    {36, 1000000}, /* MEMORY_CLOCK_RATE: kHz; it is the host's memory, nobody knows */
    {37, 64},      /* GLOBAL_MEMORY_BUS_WIDTH: bits, the same */
    {39, 1024},    /* MAX_THREADS_PER_MULTIPROCESSOR */
    {41, 1},       /* UNIFIED_ADDRESSING */
    {51, 32},      /* TEXTURE_PITCH_ALIGNMENT */
    {75, 7},       /* COMPUTE_CAPABILITY_MAJOR */
    {76, 5},       /* COMPUTE_CAPABILITY_MINOR */
    {79, 1},       /* GLOBAL_L1_CACHE_SUPPORTED */
    {80, 1},       /* LOCAL_L1_CACHE_SUPPORTED */
    {81, 65536},   /* MAX_SHARED_MEMORY_PER_MULTIPROCESSOR */
    {82, 65536},   /* MAX_REGISTERS_PER_MULTIPROCESSOR */
    {87, 32},      /* SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO */
    {95, 1},       /* COOPERATIVE_LAUNCH */
    {97, 49152},   /* MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
    {106, 16},     /* MAX_BLOCKS_PER_MULTIPROCESSOR */
    {115, 1},      /* MEMORY_POOLS_SUPPORTED */
};

static int32_t attribute(const struct sw_driver *d, uint32_t number)
{
    switch (number) {
    case 13: /* CLOCK_RATE, kHz */
        return (int32_t)d->info.clock_khz;
    case 16: /* MULTIPROCESSOR_COUNT */
        return (int32_t)d->info.multiprocessors;
    default:
        break;
    }
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        if (attributes[i].number == number)
            return attributes[i].value;
    }
    return 0;
}

CUresult sw_device_attributes(struct vgpu_driver *driver, uint32_t first, void *values,
                              uint32_t values_capacity, uint32_t *values_length)
{
    struct sw_driver *d = sw_of(driver);
    if (first > FIRST_MAX)
        return sw_refuse(d, CUDA_ERROR_INVALID_VALUE, "there is no attribute %u", first);
    uint32_t count = values_capacity / 4;
    for (uint32_t i = 0; i < count; i++)
        vgpu_store_le32((uint8_t *)values + 4 * (size_t)i, (uint32_t)attribute(d, first + i));
    *values_length = count * 4;
    return CUDA_SUCCESS;
}
