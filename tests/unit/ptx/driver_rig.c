/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The software driver for tests; see driver_rig.h. */
#include "driver_rig.h"

#include <stdlib.h>

int driver_setup(void **state)
{
    struct driver_rig *r = calloc(1, sizeof(*r));
    struct vgpu_backend_config config = {.memory_bytes = QUOTA, .threads = 2};
    char why[200];
    if (!r || vgpu_backend_software.open(&config, &r->b, why, sizeof(why)))
        return -1;
    r->d = vgpu_software_driver(r->b);
    r->o = r->d->ops;
    if (r->o->primary_retain(r->d, &r->context, 0) || r->o->context_use(r->d, r->context))
        return -1;
    *state = r;
    return 0;
}

int driver_teardown(void **state)
{
    struct driver_rig *r = *state;
    vgpu_backend_software.close(r->b);
    free(r);
    return 0;
}

CUdeviceptr alloc(struct driver_rig *r, size_t size)
{
    CUdeviceptr address = 0;
    OK(r->o->memory_alloc(r->d, &address, size));
    assert_true(address && address % 256 == 0);
    return address;
}

void read_back(struct driver_rig *r, CUdeviceptr from, void *bytes, uint32_t size)
{
    uint32_t length = 0;
    OK(r->o->copy_from_device(r->d, from, size, NULL, bytes, size, &length));
    assert_int_equal(length, size);
}

size_t free_bytes(struct driver_rig *r)
{
    size_t left, total;
    OK(r->o->cuMemGetInfo_v2(r->d, &left, &total));
    assert_int_equal(total, QUOTA);
    return left;
}
