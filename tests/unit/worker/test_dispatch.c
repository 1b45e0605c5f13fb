/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What requests do to a session: P7 to P10, P14 to P16, P18 to P27 of docs/protocol.md, on the fake
 * backend. */
#include <poll.h>
#include <string.h>

#include "rig.h"
#include "vgpu_test.h"

static const uint32_t one[3] = {1, 1, 1};

/* arguments of the kernel "poke" */
struct poke {
    uint8_t bytes[12];
};

static struct poke poke_args(uint64_t address, uint32_t value)
{
    struct poke p;
    put32(p.bytes, (uint32_t)address);
    put32(p.bytes + 4, (uint32_t)(address >> 32));
    put32(p.bytes + 8, value);
    return p;
}

static void p18_nop(void **state)
{
    const struct response *r = rig_call(*state, req_nop());
    expect_ok(r);
    assert_int_equal(r->length, 32);
}

static void p18_device_info(void **state)
{
    struct rig *rig = *state;
    const struct response *r = rig_call(rig, req_info());
    expect_ok(r);
    assert_int_equal(r->data_length, 176);
    assert_string_equal((const char *)r->data, "fake GPU");
    assert_int_equal(r->data[64], 0xFA);
    assert_string_equal((const char *)r->data + 80, "fake");
    assert_int_equal(get64(r->data + 96), FAKE_MEMORY_BYTES);
    assert_int_equal(get64(r->data + 104), FAKE_MEMORY_BYTES);
    assert_int_equal(get32(r->data + 112), 7);
    assert_int_equal(get32(r->data + 116), 5);
    assert_int_equal(get32(r->data + 120), 3);
    assert_int_equal(get32(r->data + 124), 32);
    assert_int_equal(get32(r->data + 128), 1024);
    assert_int_equal(get32(r->data + 140), 64);
    assert_int_equal(get32(r->data + 144), 0x7fffffff);
    assert_int_equal(get32(r->data + 156), 49152);
    assert_int_equal(get32(r->data + 160), 65536);
    assert_int_equal(get32(r->data + 164), 1234567);
    assert_int_equal(get64(r->data + 168), 0);
    /* Free memory follows allocations. */
    uint64_t address = rig_alloc(rig, 1000);
    r = rig_call(rig, req_info());
    assert_int_equal(get64(r->data + 104), FAKE_MEMORY_BYTES - 1000);
    expect_ok(rig_call(rig, req_free(address)));
    r = rig_call(rig, req_info());
    assert_int_equal(get64(r->data + 104), FAKE_MEMORY_BYTES);
}

static void p20_alloc_and_free(void **state)
{
    struct rig *rig = *state;
    expect_cuda(rig_call(rig, req_alloc(0)), 1);
    expect_cuda(rig_call(rig, req_alloc(FAKE_MEMORY_BYTES + 1)), 2);
    expect_cuda(rig_call(rig, req_alloc(UINT64_MAX)), 2);
    uint64_t a = rig_alloc(rig, FAKE_MEMORY_BYTES);
    expect_cuda(rig_call(rig, req_alloc(1)), 2);
    expect_cuda(rig_call(rig, req_free(a + 1)), 1);
    expect_cuda(rig_call(rig, req_free(0)), 1);
    expect_cuda(rig_call(rig, req_free(UINT64_MAX)), 1);
    expect_ok(rig_call(rig, req_free(a)));
    expect_cuda(rig_call(rig, req_free(a)), 1);
    assert_int_equal(fake_free_bytes(rig->backend), FAKE_MEMORY_BYTES);
    expect_ok(rig_call(rig, req_sync())); /* P10: what was told is not told again */
}

static void p21_copies(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[900];
    uint64_t a = rig_alloc(rig, 1000), b = rig_alloc(rig, 1000);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    expect_ok(rig_call(rig, req_htod(a + 100, bytes, 900)));
    expect_ok(rig_call(rig, req_dtod(b, a + 100, 900)));
    const struct response *r = rig_call(rig, req_dtoh(b, 900));
    expect_ok(r);
    assert_int_equal(r->data_length, 900);
    assert_memory_equal(r->data, bytes, 900);
    r = rig_call(rig, req_dtoh(b, 992)); /* the most: a whole response buffer */
    expect_ok(r);
    assert_int_equal(r->length, 1024);

    expect_cuda(rig_call(rig, req_htod(a, NULL, 0)), 1);
    expect_cuda(rig_call(rig, req_dtoh(a, 0)), 1);
    expect_cuda(rig_call(rig, req_dtod(a, b, 0)), 1);
    expect_cuda(rig_call(rig, req_htod(a + 101, bytes, 900)), 1); /* one byte over */
    expect_cuda(rig_call(rig, req_dtoh(a + 999, 2)), 1);
    expect_cuda(rig_call(rig, req_dtod(b, a, 1001)), 1);
    expect_cuda(rig_call(rig, req_dtod(b, a, UINT64_MAX)), 1);
    expect_cuda(rig_call(rig, req_dtoh(UINT64_MAX, 2)), 1);
    expect_reject(rig_call(rig, req_dtoh(a, 993)), 1);

    struct request q = req_dtod(a, b, 1);
    put32(q.bytes + 32, 0); /* directions that do not exist */
    expect_cuda(rig_call(rig, q), 1);
    put32(q.bytes + 32, 4);
    expect_cuda(rig_call(rig, q), 1);
    put32(q.bytes + 32, 0xFFFFFFFF);
    expect_cuda(rig_call(rig, q), 1);
    q = req_dtoh(a, 4);
    put32(q.bytes + 36, 1); /* a destination where 0 is asked */
    expect_cuda(rig_call(rig, q), 1);
    q = req_htod(a, bytes, 4);
    put32(q.bytes + 48, 1); /* a source, in the high word */
    expect_cuda(rig_call(rig, q), 1);
}

static void p19_launch(void **state)
{
    struct rig *rig = *state;
    uint64_t function = rig_kernel(rig, rig_load(rig), "poke"), a = rig_alloc(rig, 64);
    struct poke args = poke_args(a + 8, 0xCAFEF00D);
    const struct response *r = rig_call(rig, req_launch(function, &args, 12));
    expect_ok(r);
    assert_int_equal(r->length, 32);
    expect_ok(rig_call(rig, req_sync()));
    r = rig_call(rig, req_dtoh(a + 8, 4));
    assert_int_equal(get32(r->data), 0xCAFEF00D);

    /* What can be known at once is reported at once, and nothing is launched. */
    unsigned launches = fake_calls(rig->backend, FAKE_LAUNCH);
    expect_cuda(rig_call(rig, req_launch(function ^ 1, &args, 12)), 400);
    expect_cuda(rig_call(rig, req_launch(0, &args, 12)), 400);
    expect_cuda(rig_call(rig, req_launch(UINT64_MAX, &args, 12)), 400);
    expect_cuda(rig_call(rig, req_launch(function, &args, 11)), 1);
    expect_cuda(rig_call(rig, req_launch(function, NULL, 0)), 1);
    uint8_t longer[13] = {0};
    expect_cuda(rig_call(rig, req_launch(function, longer, 13)), 1);
    uint32_t none[3] = {0, 1, 1};
    r = rig_call(rig, req_kernel(function, none, one, 0, 0, &args, 12));
    expect_cuda(r, 1);
    assert_string_equal(r->text, "CUDA_KERNEL: grid 0x1x1: each dimension must be at least 1");
    uint32_t huge[3] = {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF};
    expect_cuda(rig_call(rig, req_kernel(function, huge, one, 0, 0, &args, 12)), 1);
    expect_cuda(rig_call(rig, req_kernel(function, one, huge, 0, 0, &args, 12)), 1);
    expect_cuda(rig_call(rig, req_kernel(function, one, one, 0xFFFFFFFF, 0, &args, 12)), 1);
    uint64_t small = rig_kernel(rig, rig_load(rig), "small");
    uint32_t block[3] = {33, 1, 1};
    expect_cuda(rig_call(rig, req_kernel(small, one, block, 0, 0, NULL, 0)), 701);
    expect_cuda(rig_call(rig, req_kernel(small, one, one, 48129, 0, NULL, 0)), 1);
    assert_int_equal(fake_calls(rig->backend, FAKE_LAUNCH), launches);
    expect_ok(rig_call(rig, req_sync())); /* none of it was deferred */
    block[0] = 32;
    expect_ok(rig_call(rig, req_kernel(small, one, block, 48128, 0, NULL, 0)));
}

/* P19, P26: arguments from a stage. */
static void p19_staged_arguments(void **state)
{
    struct rig *rig = *state;
    uint64_t function = rig_kernel(rig, rig_load(rig), "poke"), a = rig_alloc(rig, 64);
    struct poke args = poke_args(a, 77);
    expect_ok(rig_call(rig, req_stage(0, 5, 12, 0, args.bytes, 6)));
    expect_ok(rig_call(rig, req_stage(0, 5, 12, 6, args.bytes + 6, 6)));
    expect_ok(rig_call(rig, req_kernel(function, one, one, 0, 5, NULL, 0)));
    const struct response *r = rig_call(rig, req_dtoh(a, 4));
    assert_int_equal(get32(r->data), 77);
    expect_cuda(rig_call(rig, req_kernel(function, one, one, 0, 5, NULL, 0)), 400); /* used up */
    /* Used up by what failed, too: a bad function, a wrong length, a stage that is not complete. */
    expect_ok(rig_call(rig, req_stage(0, 5, 12, 0, args.bytes, 12)));
    expect_cuda(rig_call(rig, req_kernel(1234, one, one, 0, 5, NULL, 0)), 400);
    expect_status(rig_call(rig, req_stage_drop(0, 5)), 0, 400);
    uint8_t longer[13] = {0};
    expect_ok(rig_call(rig, req_stage(0, 5, 13, 0, longer, 13)));
    expect_cuda(rig_call(rig, req_kernel(function, one, one, 0, 5, NULL, 0)), 1);
    expect_status(rig_call(rig, req_stage_drop(0, 5)), 0, 400);
    expect_ok(rig_call(rig, req_stage(0, 5, 12, 0, args.bytes, 11)));
    expect_cuda(rig_call(rig, req_kernel(function, one, one, 0, 5, NULL, 0)), 1);
    expect_status(rig_call(rig, req_stage_drop(0, 5)), 0, 400);
    /* One that was not understood uses nothing up. */
    expect_ok(rig_call(rig, req_stage(0, 5, 12, 0, args.bytes, 12)));
    expect_reject(rig_call(rig, req_kernel(function, one, one, 0, 5, "x", 1)), 1);
    expect_ok(rig_call(rig, req_stage_drop(0, 5)));
}

/* P19: 256 wait; the next is answered 600 until there is room, and they run in order. */
static void p19_queue_of_launches(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), poke = rig_kernel(rig, module, "poke");
    uint64_t spin = rig_kernel(rig, module, "spin"), a = rig_alloc(rig, 64);
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    assert_true(fake_wait_held(rig->backend));
    for (uint32_t i = 0; i < 256; i++) {
        struct poke args = poke_args(a, i);
        struct request r = req_launch(poke, &args, 12);
        const struct response *response = rig_response(rig, rig_submit(rig, &r));
        assert_non_null(response); /* at once */
        expect_ok(response);
    }
    struct poke args = poke_args(a, 256);
    struct request r = req_launch(poke, &args, 12);
    uint64_t put_off = rig_submit_as(rig, &r, 5555);
    args = poke_args(a, 257);
    struct request last = async(req_launch(poke, &args, 12));
    uint64_t put_off_too = rig_submit_as(rig, &last, 5556);
    assert_null(rig_response(rig, put_off));
    rig_advance(rig, 80000000);
    expect_not_ready(rig_response(rig, put_off));
    expect_not_ready(rig_response(rig, put_off_too));
    uint64_t again = rig_submit_as(rig, &r, 5555), again_too = rig_submit_as(rig, &last, 5556);
    assert_null(rig_response(rig, again));
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, again));
    assert_int_equal(rig_wait(rig, again_too)->length, 0); /* ASYNC: bare */
    const struct response *value = rig_call(rig, req_dtoh(a, 4));
    assert_int_equal(get32(value->data), 257);
    assert_int_equal(fake_calls(rig->backend, FAKE_LAUNCH), 259);
}

/* P19, W19: with a tenant's own limit the next one fails with error 7, and there is room again when
 * one has run. */
static void w19_a_tenants_own_queue(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), poke = rig_kernel(rig, module, "poke");
    uint64_t spin = rig_kernel(rig, module, "spin"), a = rig_alloc(rig, 64);
    vgpu_engine_set_queue(rig->engine, 4);
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    assert_true(fake_wait_held(rig->backend));
    struct poke args = poke_args(a, 1);
    struct request r = req_launch(poke, &args, 12);
    for (uint32_t i = 0; i < 4; i++)
        expect_ok(rig_response(rig, rig_submit(rig, &r)));
    const struct response *full = rig_response(rig, rig_submit(rig, &r));
    assert_non_null(full);
    expect_reject(full, VGPU_ERR_QUEUE_FULL);
    assert_non_null(strstr((const char *)full->data, "4 requests of this session wait already"));
    /* What needs no GPU does not wait either. */
    expect_ok(rig_call(rig, req_nop()));
    fake_release(rig->backend);
    rig_settle(rig);
    expect_ok(rig_call(rig, r));
    const struct response *value = rig_call(rig, req_dtoh(a, 4));
    assert_int_equal(get32(value->data), 1);
    vgpu_engine_set_queue(rig->engine, 100000); /* no more than there can be */
    assert_int_equal(vgpu_engine_queue(rig->engine), VGPU_ENGINE_JOBS_MAX);
}

/* P19: a launch that starts makes room for one more, and only for the one that waited longest. */
static void p19_room_when_a_launch_starts(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), spin = rig_kernel(rig, module, "spin"), number;
    struct request q = req_launch(spin, NULL, 0);
    vgpu_lease_recall(&rig->lease, 1, 0, 0, 0);
    vgpu_engine_wake(rig->engine);
    while (!vgpu_lease_take_return(&rig->lease, &number))
        poll(NULL, 0, 1);
    vgpu_engine_clear(rig->engine); /* so that only the start can wake us */
    for (int i = 0; i < 256; i++)
        expect_ok(rig_response(rig, rig_submit(rig, &q)));
    uint64_t first = rig_submit(rig, &q);
    assert_null(rig_response(rig, first));
    vgpu_lease_grant(&rig->lease, 2);
    vgpu_engine_wake(rig->engine);
    assert_true(fake_wait_held(rig->backend)); /* runs for ever, so nothing ends */
    uint64_t second = rig_submit(rig, &q);
    assert_null(rig_response(rig, second)); /* not past the one before it */
    expect_ok(rig_wait(rig, first));
    assert_null(rig_response(rig, second));
}

/* P10: answered at once and bare; what fails is reported once, by SYNCHRONIZE or a copy back. */
static void p10_async(void **state)
{
    struct rig *rig = *state;
    uint64_t a = rig_alloc(rig, 64), b = rig_alloc(rig, 64);
    fake_hold(rig->backend, FAKE_HTOD);
    struct request q = async(req_htod(a, "async!", 6));
    const struct response *r = rig_response(rig, rig_submit(rig, &q));
    assert_non_null(r);
    assert_int_equal(r->error, 0);
    assert_int_equal(r->length, 0);
    assert_true(fake_wait_held(rig->backend));
    assert_int_equal(rig_call(rig, async(req_dtod(b, a, 6)))->length, 0);
    assert_int_equal(rig_call(rig, async(req_free(a)))->length, 0);
    fake_release(rig->backend);
    r = rig_call(rig, req_dtoh(b, 6));
    expect_ok(r);
    assert_memory_equal(r->data, "async!", 6);
    assert_int_equal(fake_free_bytes(rig->backend), FAKE_MEMORY_BYTES - 64);

    /* The first error, once, by SYNCHRONIZE. */
    assert_int_equal(rig_call(rig, async(req_free(a)))->length, 0);
    fake_fail(rig->backend, FAKE_DTOD, CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(rig_call(rig, async(req_dtod(b, b, 1)))->length, 0);
    expect_ok(rig_call(rig, req_nop()));
    expect_ok(rig_call(rig, req_htod(b, "x", 1))); /* not by this */
    expect_cuda(rig_call(rig, req_sync()), 1);
    expect_ok(rig_call(rig, req_sync()));
    /* By a copy to the host. */
    assert_int_equal(rig_call(rig, async(req_free(a)))->length, 0);
    r = rig_call(rig, req_dtoh(b, 1));
    expect_cuda(r, 1);
    r = rig_call(rig, req_dtoh(b, 1));
    expect_ok(r);
    assert_int_equal(r->data[0], 'x');
    expect_ok(rig_call(rig, req_sync()));

    /* A launch that the backend refuses late. */
    uint64_t refuse = rig_kernel(rig, rig_load(rig), "refuse");
    expect_ok(rig_call(rig, req_launch(refuse, NULL, 0)));
    expect_cuda(rig_call(rig, req_sync()), 701);
    expect_ok(rig_call(rig, req_sync()));

    /* What can be known at once fails at once also when ASYNC. */
    expect_cuda(rig_call(rig, async(req_launch(1, NULL, 0))), 400);
    expect_cuda(rig_call(rig, async(req_htod(b, NULL, 0))), 1);
    expect_ok(rig_call(rig, req_sync()));
}

static void p10_async_where_it_is_not_accepted(void **state)
{
    struct rig *rig = *state;
    expect_reject(rig_call(rig, async(req_nop())), 1);
    expect_reject(rig_call(rig, async(req_alloc(1))), 1);
    expect_reject(rig_call(rig, async(req_info())), 1);
    expect_reject(rig_call(rig, async(req_sync())), 1);
    expect_reject(rig_call(rig, async(req_dtoh(1, 1))), 1);
    expect_reject(rig_call(rig, async(req_load(0, 0, "ok"))), 1);
}

/* P16: a sticky error answers everything, and the backend is left alone. */
static void sticky_everywhere(struct rig *rig, uint64_t module, uint64_t function, uint64_t a,
                              uint32_t status)
{
    unsigned calls = 0, calls_after = 0;
    for (int i = 0; i < 20000 && !fake_calls(rig->backend, FAKE_LAUNCH); i++)
        poll(NULL, 0, 1); /* the launch was answered before it was made */
    for (int op = 0; op < FAKE_OPS; op++)
        calls += fake_calls(rig->backend, op);
    expect_cuda(rig_call(rig, req_sync()), status);
    expect_cuda(rig_call(rig, req_sync()), status);
    expect_cuda(rig_call(rig, req_nop()), status);
    expect_cuda(rig_call(rig, req_info()), status);
    expect_cuda(rig_call(rig, req_alloc(1)), status);
    expect_cuda(rig_call(rig, req_free(a)), status);
    expect_cuda(rig_call(rig, async(req_free(a))), status);
    expect_cuda(rig_call(rig, req_dtoh(a, 1)), status);
    expect_cuda(rig_call(rig, req_htod(a, "x", 1)), status);
    expect_cuda(rig_call(rig, req_launch(function, NULL, 0)), status);
    expect_cuda(rig_call(rig, req_launch(12345, NULL, 0)), status);
    expect_status(rig_call(rig, req_load(0, 0, "ok")), 0, status);
    expect_status(rig_call(rig, req_unload(0, module)), 0, status);
    expect_status(rig_call(rig, req_module_kernel(0, module, 0, "empty")), 0, status);
    expect_status(rig_call(rig, req_module_global(0, module, "table")), 0, status);
    expect_status(rig_call(rig, req_stage(0, 1, 1, 0, "x", 1)), 0, status);
    expect_status(rig_call(rig, req_stage_drop(0, 1)), 0, status);
    struct request nop = req_nop();
    expect_status(rig_call(rig, req_wrap(0, &nop)), 0, status);
    /* P5: what is malformed is malformed first. */
    expect_reject(rig_call(rig, patched(req_nop(), W_FLAGS, 4)), 1);
    for (int op = 0; op < FAKE_OPS; op++)
        calls_after += fake_calls(rig->backend, op);
    assert_true(calls_after <= calls + 1); /* the first SYNCHRONIZE, which learns of it */
}

static void p16_sticky_from_a_kernel(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), fault = rig_kernel(rig, module, "fault");
    uint64_t a = rig_alloc(rig, 64);
    expect_ok(rig_call(rig, req_launch(fault, NULL, 0)));
    sticky_everywhere(rig, module, fault, a, 700);
}

static void p16_sticky_from_an_asynchronous_kernel(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), fault = rig_kernel(rig, module, "fault");
    uint64_t a = rig_alloc(rig, 64);
    fake_set_async(rig->backend, true);
    expect_ok(rig_call(rig, req_launch(fault, NULL, 0)));
    expect_ok(rig_call(rig, req_nop()));
    sticky_everywhere(rig, module, fault, a, 700);
}

/* P16: what was queued behind the fault is answered, and does not reach the backend. */
static void p16_queued_behind_the_fault(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), spin = rig_kernel(rig, module, "spin");
    uint64_t fault = rig_kernel(rig, module, "fault");
    unsigned loads = fake_calls(rig->backend, FAKE_LOAD);
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    expect_ok(rig_call(rig, req_launch(fault, NULL, 0)));
    assert_true(fake_wait_held(rig->backend));
    struct request alloc = req_alloc(64), load = req_load(0, 0, "ok");
    uint64_t learns = rig_submit(rig, &alloc), behind = rig_submit(rig, &load);
    fake_release(rig->backend);
    expect_cuda(rig_wait(rig, learns), 700);
    expect_status(rig_wait(rig, behind), 0, 700);
    assert_int_equal(fake_calls(rig->backend, FAKE_LOAD), loads);
}

/* P16 before P10: the sticky error wins over a deferred one. */
static void p16_sticky_over_deferred(void **state)
{
    struct rig *rig = *state;
    uint64_t module = rig_load(rig), fault = rig_kernel(rig, module, "fault");
    assert_int_equal(rig_call(rig, async(req_free(1)))->length, 0);
    expect_ok(rig_call(rig, req_launch(fault, NULL, 0)));
    expect_cuda(rig_call(rig, req_sync()), 700);
    expect_cuda(rig_call(rig, req_sync()), 700);
}

/* P16: any failure of a synchronize is sticky, also one with a number nobody knows. */
static void p16_unknown_sticky(void **state)
{
    struct rig *rig = *state;
    fake_fail(rig->backend, FAKE_SYNC, (CUresult)12345);
    expect_cuda(rig_call(rig, req_sync()), 12345);
    expect_cuda(rig_call(rig, req_nop()), 12345);
}

static void p16_lost_by_a_copy(void **state)
{
    struct rig *rig = *state;
    uint64_t a = rig_alloc(rig, 64);
    fake_fail(rig->backend, FAKE_HTOD, CUDA_ERROR_MISALIGNED_ADDRESS);
    expect_cuda(rig_call(rig, req_htod(a, "x", 1)), 716);
    expect_cuda(rig_call(rig, req_nop()), 716);
}

static void p15_another_session(void **state)
{
    struct rig *rig = *state;
    struct request nop = req_nop();
    expect_status(rig_call(rig, req_wrap(0, &nop)), 0, 0); /* 0 may be named */
    expect_status(rig_call(rig, req_wrap(1, &nop)), 0, 201);
    expect_status(rig_call(rig, req_load(1, 0, "ok")), 0, 201);
    expect_status(rig_call(rig, req_stage(1, 1, 1, 0, "x", 1)), 0, 201);
    assert_int_equal(fake_calls(rig->backend, FAKE_LOAD), 0);
}

/* P14, P15: a worker of another session than 0 answers no bare request. */
static void p14_a_named_session(void **state)
{
    struct rig *rig = *state;
    struct request nop = req_nop(), alloc = req_alloc(10);
    expect_cuda(rig_call(rig, req_nop()), 201);
    expect_cuda(rig_call(rig, req_alloc(10)), 201);
    expect_ok(rig_call(rig, req_wrap(RIG_SESSION, &nop)));
    expect_status(rig_call(rig, req_wrap(RIG_SESSION + 1, &nop)), 0, 201);
    expect_status(rig_call(rig, req_wrap(0, &nop)), 0, 201);
    const struct response *r = rig_call(rig, req_wrap(RIG_SESSION, &alloc));
    expect_ok(r);
    uint64_t a = result64(r, 0);
    struct request release = req_free(a + 1);
    expect_status(rig_call(rig, req_wrap(RIG_SESSION, &release)), 0, 1); /* P8 */
    release = async(req_free(a));
    assert_int_equal(rig_call(rig, req_wrap(RIG_SESSION, &release))->length, 0);
    uint64_t function = rig_kernel(rig, rig_load(rig), "empty");
    struct request launch = req_launch(function, NULL, 0);
    expect_ok(rig_call(rig, req_wrap(RIG_SESSION, &launch)));
    launch = req_launch(1, NULL, 0);
    expect_status(rig_call(rig, req_wrap(RIG_SESSION, &launch)), 0, 400);
}

/* P24 is the mediator's; a worker that gets one says so. */
static void p24_open_and_close_are_not_the_workers(void **state)
{
    struct rig *rig = *state;
    expect_reject(rig_call(rig, req_session(0x2000, 0, NULL, 0)), 8);
    expect_reject(rig_call(rig, req_session(0x2001, 0, NULL, 0)), 8);
}

static void p26_stages(void **state)
{
    struct rig *rig = *state;
    expect_status(rig_call(rig, req_stage(0, 0, 1, 0, "x", 1)), 0, 1);
    for (uint32_t i = 1; i <= 4; i++)
        expect_ok(rig_call(rig, req_stage(0, i, 2, 0, "o", 1)));
    expect_status(rig_call(rig, req_stage(0, 5, 2, 0, "o", 1)), 0, 2);
    expect_status(rig_call(rig, req_stage(0, 1, 2, 2, "x", 1)), 0, 1);
    expect_status(rig_call(rig, req_stage(0, 1, 3, 1, "x", 1)), 0, 1);
    expect_ok(rig_call(rig, req_stage(0, 1, 2, 1, "k", 1)));
    expect_status(rig_call(rig, req_stage_drop(0, 9)), 0, 400);
    expect_status(rig_call(rig, req_load(0, 9, NULL)), 0, 400);
    expect_status(rig_call(rig, req_load(0, 2, NULL)), 0, 1);   /* not complete ... */
    expect_status(rig_call(rig, req_load(0, 2, NULL)), 0, 400); /* ... and used up */
    const struct response *r = rig_call(rig, req_load(0, 1, NULL));
    expect_ok(r);
    expect_ok(rig_call(rig, req_unload(0, result64(r, 0))));
    expect_status(rig_call(rig, req_load(0, 1, NULL)), 0, 400);
    expect_ok(rig_call(rig, req_stage(0, 5, 3, 0, "bad", 3)));
    r = rig_call(rig, req_load(0, 5, NULL));
    expect_status(r, 0, 218);
    assert_string_equal(r->text, "line 1: 'bad' is no module");
    expect_status(rig_call(rig, req_load(0, 5, NULL)), 0, 400); /* used up by a failure */
}

static void p27_modules(void **state)
{
    struct rig *rig = *state;
    const struct response *r = rig_call(rig, req_load(0, 0, "nonsense"));
    expect_status(r, 0, 218);
    assert_string_equal(r->text, "line 1: 'nonsense' is no module"); /* the backend's log */
    uint64_t m = rig_load(rig);
    uint64_t function = rig_kernel(rig, m, "small");
    assert_int_equal(rig_kernel(rig, m, "small"), function); /* the same one */
    r = rig_call(rig, req_module_kernel(0, m, 0, "small"));
    assert_int_equal(r->results[2], 0);
    assert_int_equal(r->results[3], 0);
    assert_int_equal(r->results[4], 32);
    assert_int_equal(r->results[5], 1024);
    assert_int_equal(r->results[6], 16);
    r = rig_call(rig, req_module_global(0, m, "table"));
    expect_ok(r);
    assert_int_equal(r->result_count, 4);
    assert_int_equal(result64(r, 2), 256);
    expect_ok(rig_call(rig, req_htod(result64(r, 0), "x", 1)));
    r = rig_call(rig, req_module_kernel(0, m, 0, "nothing"));
    expect_status(r, 0, 500);
    assert_string_equal(r->text, "the module has no kernel 'nothing'");
    expect_status(rig_call(rig, req_module_global(0, m, "small")), 0, 500);

    expect_status(rig_call(rig, req_module_kernel(0, m ^ 2, 0, "small")), 0, 400);
    expect_status(rig_call(rig, req_module_kernel(0, function, 0, "small")), 0, 400);
    expect_status(rig_call(rig, req_module_global(0, function, "table")), 0, 400);
    expect_status(rig_call(rig, req_unload(0, function)), 0, 400);
    expect_status(rig_call(rig, req_unload(0, 0)), 0, 400);
    expect_cuda(rig_call(rig, req_launch(m, NULL, 0)), 400);

    expect_ok(rig_call(rig, req_unload(0, m)));
    expect_status(rig_call(rig, req_unload(0, m)), 0, 400);
    expect_status(rig_call(rig, req_module_kernel(0, m, 0, "small")), 0, 400);
    expect_cuda(rig_call(rig, req_launch(function, NULL, 0)), 400); /* gone with it */
    assert_int_equal(fake_free_bytes(rig->backend), FAKE_MEMORY_BYTES);
    assert_int_equal(fake_modules(rig->backend), 0);
}

/* P27: names of the greatest length, which the texts must survive. */
static void p27_long_names(void **state)
{
    struct rig *rig = *state;
    char name[513];
    memset(name, '\xC3', sizeof(name));
    name[512] = 0;
    uint64_t m = rig_load(rig);
    expect_status(rig_call(rig, req_module_kernel(0, m, 0, name)), 0, 500);
    expect_status(rig_call(rig, req_module_global(0, m, name)), 0, 500);
    memset(name, 'n', 512);
    expect_status(rig_call(rig, req_module_kernel(0, m, 0, name)), 0, 500);
}

static void p23_parameter_layouts(void **state)
{
    struct rig *rig = *state;
    uint64_t m = rig_load(rig);
    const struct response *r = rig_call(rig, req_module_kernel(0, m, 0, "many"));
    expect_ok(r);
    assert_int_equal(r->results[2], 200);
    assert_int_equal(r->results[3], 800);
    assert_int_equal(r->data_length, 120 * 8); /* as many as fit */
    for (uint32_t i = 0; i < 120; i++) {
        assert_int_equal(get32(r->data + 8 * i), 4 * i);
        assert_int_equal(get32(r->data + 8 * i + 4), 4);
    }
    uint64_t function = result64(r, 0);
    r = rig_call(rig, req_module_kernel(0, m, 120, "many"));
    assert_int_equal(result64(r, 0), function);
    assert_int_equal(r->data_length, 80 * 8);
    assert_int_equal(get32(r->data), 480);
    r = rig_call(rig, req_module_kernel(0, m, 200, "many"));
    expect_ok(r);
    assert_int_equal(r->data_length, 0);
    r = rig_call(rig, req_module_kernel(0, m, 0xFFFFFFFF, "many"));
    expect_ok(r);
    assert_int_equal(r->data_length, 0);
}

/* P27: an unload waits for the launches before it, and what comes after does not see the module. */
static void p27_unload_behind_a_kernel(void **state)
{
    struct rig *rig = *state;
    uint64_t m = rig_load(rig), spin = rig_kernel(rig, m, "spin");
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    expect_ok(rig_call(rig, req_launch(spin, NULL, 0)));
    assert_true(fake_wait_held(rig->backend));
    struct request lookup = req_module_kernel(0, m, 0, "empty"), unload = req_unload(0, m);
    uint64_t looked_up = rig_submit(rig, &lookup), unloaded = rig_submit(rig, &unload);
    assert_null(rig_response(rig, unloaded));
    expect_cuda(rig_call(rig, req_launch(spin, NULL, 0)), 400);
    expect_status(rig_call(rig, req_module_kernel(0, m, 0, "empty")), 0, 400);
    assert_int_equal(fake_modules(rig->backend), 1);
    fake_release(rig->backend);
    assert_true(fake_wait_held(rig->backend)); /* the second launch still ran */
    fake_release(rig->backend);
    expect_ok(rig_wait(rig, unloaded));
    expect_status(rig_wait(rig, looked_up), 0, 400); /* of a module that is gone by now */
    assert_int_equal(fake_modules(rig->backend), 0);
}

/* More modules than a session may have: refused, and nothing stays behind. */
static void modules_over_the_limit(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < VGPU_SESSION_MODULES; i++)
        rig_load(rig);
    expect_status(rig_call(rig, req_load(0, 0, "ok")), 0, 2);
    rig_settle(rig);
    assert_int_equal(fake_modules(rig->backend), VGPU_SESSION_MODULES);
}

/* HIGH_PRIORITY is a hint: accepted, without effect here. */
static void p10_high_priority(void **state)
{
    struct rig *rig = *state;
    expect_ok(rig_call(rig, patched(req_nop(), W_FLAGS, 2)));
    expect_ok(rig_call(rig, patched(req_sync(), W_FLAGS, 2)));
}

static void exec_time_is_measured(void **state)
{
    struct rig *rig = *state;
    fake_hold(rig->backend, FAKE_ALLOC);
    struct request q = req_alloc(10);
    uint64_t seq = rig_submit(rig, &q);
    assert_true(fake_wait_held(rig->backend));
    rig_advance(rig, 12345000);
    fake_release(rig->backend);
    assert_int_equal(rig_wait(rig, seq)->exec_time_us, 12345);
}

static uint64_t free_memory(struct rig *rig)
{
    const struct response *r = rig_call(rig, req_info());
    expect_ok(r);
    return get64(r->data + 104);
}

/* Another session of the tenant counts, a failed allocation does not. */
static void w9_account(void **state)
{
    struct rig *rig = *state;
    assert_true(free_memory(rig) == RIG_QUOTA);
    uint64_t a = rig_alloc(rig, 3000);
    assert_true(vgpu_account_free_bytes(rig->neighbour) == RIG_QUOTA - 3000);
    unsigned calls = fake_calls(rig->backend, FAKE_ALLOC);
    expect_cuda(rig_call(rig, req_alloc(RIG_QUOTA - 3000 + 1)), 2);
    assert_int_equal(fake_calls(rig->backend, FAKE_ALLOC), calls); /* nobody was asked */
    assert_int_equal(vgpu_account_reserve(rig->neighbour, 1000), 0);
    assert_true(free_memory(rig) == RIG_QUOTA - 4000);
    expect_cuda(rig_call(rig, req_alloc(97)), 2);
    fake_fail(rig->backend, FAKE_ALLOC, CUDA_ERROR_OUT_OF_MEMORY);
    expect_cuda(rig_call(rig, req_alloc(50)), 2);
    assert_true(vgpu_account_held_bytes(rig->account) == 3000);
    uint64_t b = rig_alloc(rig, 96);
    assert_true(free_memory(rig) == 0);
    expect_ok(rig_call(rig, req_free(a)));
    expect_ok(rig_call(rig, req_free(b)));
    assert_true(free_memory(rig) == RIG_QUOTA - 1000);
    vgpu_account_release(rig->neighbour, 1000);
    assert_true(free_memory(rig) == RIG_QUOTA);
}

#define T(f) VGPU_TEST_F(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(p18_nop),
        T(p18_device_info),
        T(p20_alloc_and_free),
        T(p21_copies),
        T(p19_launch),
        T(p19_staged_arguments),
        T(p19_queue_of_launches),
        T(w19_a_tenants_own_queue),
        T(p19_room_when_a_launch_starts),
        T(p10_async),
        T(p10_async_where_it_is_not_accepted),
        T(p10_high_priority),
        T(p16_sticky_from_a_kernel),
        T(p16_sticky_from_an_asynchronous_kernel),
        T(p16_queued_behind_the_fault),
        T(p16_sticky_over_deferred),
        T(p16_unknown_sticky),
        T(p16_lost_by_a_copy),
        T(p15_another_session),
        VGPU_TEST_F(w9_account, rig_setup_account, rig_teardown),
        VGPU_TEST_F(p14_a_named_session, rig_setup_session, rig_teardown),
        T(p24_open_and_close_are_not_the_workers),
        T(p26_stages),
        T(p27_modules),
        T(p27_long_names),
        T(p23_parameter_layouts),
        T(p27_unload_behind_a_kernel),
        T(modules_over_the_limit),
        T(exec_time_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
