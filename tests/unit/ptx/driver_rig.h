/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The software driver with its primary context current, for tests that call it themselves. */
#ifndef VGPU_TEST_DRIVER_RIG_H
#define VGPU_TEST_DRIVER_RIG_H

#include "backend/driver.h"
#include "ptx_rig.h"
#include "software.h"

#define QUOTA (16u << 20)

struct driver_rig {
    struct vgpu_backend *b;
    struct vgpu_driver *d;
    const struct vgpu_driver_ops *o;
    struct vgpu_driver_context *context;
};

/* VGPU_TEST_F. */
int driver_setup(void **state);
int driver_teardown(void **state);

#define OK(call)            assert_int_equal((call), CUDA_SUCCESS)
#define FAILS(call, status) assert_int_equal((call), CUDA_ERROR_##status)
#define BAD(call)           FAILS(call, INVALID_VALUE)

/* Shortcuts that must work. */
CUdeviceptr alloc(struct driver_rig *r, size_t size);
void read_back(struct driver_rig *r, CUdeviceptr from, void *bytes, uint32_t size);
size_t free_bytes(struct driver_rig *r);

#endif
