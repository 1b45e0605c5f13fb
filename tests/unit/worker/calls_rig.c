/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rig for CUDA driver calls; see calls_rig.h. */
#include "calls_rig.h"

#include <string.h>

#include "software.h"
#include "vgpu_test.h"

const struct vgpu_driver_ops *calls_real;
struct vgpu_driver_ops calls_ops;

const char calls_ptx[] = ".version 6.4\n"
                         ".target sm_70\n"
                         ".address_size 64\n"
                         ".visible .global .align 8 .b8 table[64];\n"
                         ".visible .entry add(.param .u64 p, .param .u32 n)\n"
                         "{ .reg .u64 %rd<2>; .reg .u32 %r<3>;\n"
                         "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n];\n"
                         "ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1;\n"
                         "st.global.u32 [%rd1], %r2; ret; }\n"
                         ".visible .entry wild()\n"
                         "{ .reg .u64 %rd<2>; mov.u64 %rd1, 64; st.global.u64 [%rd1], %rd1; ret; "
                         "}\n";

/* The backend as the worker sees it, with the test's own table. */
static struct vgpu_driver *spied_driver(struct vgpu_backend *b)
{
    struct vgpu_driver *driver = vgpu_software_driver(b);
    assert_non_null(driver);
    calls_real = driver->ops;
    calls_ops = *driver->ops;
    driver->ops = &calls_ops;
    return driver;
}

static int set_up(void **state, uint64_t quota)
{
    static struct vgpu_backend_ops ops;
    struct vgpu_backend *backend;
    struct vgpu_backend_config config = {.memory_bytes = 64u << 20, .threads = 1};
    char why[200];
    if (vgpu_backend_software.open(&config, &backend, why, sizeof(why)))
        return -1;
    ops = vgpu_backend_software;
    ops.driver = spied_driver;
    return rig_setup_on(state, &ops, backend, RIG_SESSION, quota);
}

int calls_setup_bare(void **state)
{
    return set_up(state, 0);
}

int calls_setup_account(void **state)
{
    if (set_up(state, CALLS_QUOTA))
        return -1;
    expect_done(CALL((struct rig *)*state, PRIMARY_RETAIN, CALLS_CONTEXT, 0));
    return 0;
}

int calls_setup(void **state)
{
    if (calls_setup_bare(state))
        return -1;
    expect_done(CALL(*state, PRIMARY_RETAIN, CALLS_CONTEXT, 0));
    return 0;
}

struct request calls_request(uint32_t opcode, const uint64_t *slots, const void *rest,
                             uint32_t length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint64_t context = info->context_free ? 0 : CALLS_CONTEXT;
    struct request r = req_call(RIG_SESSION, opcode, context, slots, info->in_count, rest, length);
    return info->posted ? async(r) : r;
}

const struct response *calls_do(struct rig *r, uint32_t opcode, const uint64_t *slots,
                                const void *rest, uint32_t length)
{
    return rig_call(r, calls_request(opcode, slots, rest, length));
}

void expect_done(const struct response *response)
{
    if (!response->length) {
        assert_int_equal(response->error, 0);
        return;
    }
    expect_ok(response);
}

uint32_t calls_deferred(struct rig *r)
{
    const struct response *response = calls_do(r, VGPU_CALL_CONTEXT_SYNCHRONIZE, NULL, NULL, 0);
    assert_int_equal(response->error, 0);
    return response->status;
}

uint64_t calls_out(const struct response *response, unsigned i)
{
    expect_ok(response);
    assert_int_equal(response->result_count, 0);
    assert_true(8 * (i + 1) <= response->data_length);
    return get64(response->data + 8 * i);
}

uint64_t calls_alloc(struct rig *r, uint64_t size)
{
    return calls_out(CALL(r, MEMORY_ALLOC, size), 0);
}

/* More than a mailbox holds goes through a stage. */
void calls_load(struct rig *r, uint64_t module, const char *ptx)
{
    uint32_t length = (uint32_t)strlen(ptx), piece = 800;
    for (uint32_t at = 0; at < length; at += piece) {
        uint32_t n = length - at < piece ? length - at : piece;
        expect_ok(rig_call(r, req_stage(RIG_SESSION, 77, length, at, ptx + at, n)));
    }
    expect_done(CALL(r, MODULE_LOAD, module, 77));
}

void calls_function(struct rig *r, uint64_t module, uint64_t function, const char *name)
{
    expect_done(
        calls_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(module, function), name, (uint32_t)strlen(name)));
}
