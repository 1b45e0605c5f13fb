/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The software backend as a driver (src/backend/driver.h), call by call and without a worker. */
#include <stdlib.h>
#include <string.h>

#include "driver_rig.h"
#include "vgpu/protocol.h"

/* Each call of the description has a function. */
static void no_member_is_missing(void **state)
{
    struct driver_rig *r = *state;
    const unsigned char *at = (const unsigned char *)r->o;
    assert_int_equal(sizeof(*r->o) % sizeof(void (*)(void)), 0);
    for (size_t i = 0; i < sizeof(*r->o); i += sizeof(void (*)(void))) {
        void (*f)(void);
        memcpy(&f, at + i, sizeof(f));
        if (!f)
            fail_msg("member %zu of struct vgpu_driver_ops is NULL", i / sizeof(f));
    }
    assert_ptr_equal(vgpu_backend_software.driver(r->b), r->d); /* the same each time */
}

/* Without a current context, every call that needs one says so. */
static void a_context_is_needed(void **state)
{
    struct driver_rig *r = *state;
    CUdeviceptr address;
    struct vgpu_driver_stream *stream;
    size_t value;
    OK(r->o->context_use(r->d, NULL));
    FAILS(r->o->memory_alloc(r->d, &address, 1), INVALID_CONTEXT);
    FAILS(r->o->stream_create(r->d, &stream, 0, 0), INVALID_CONTEXT);
    FAILS(r->o->context_synchronize(r->d), INVALID_CONTEXT);
    FAILS(r->o->cuCtxGetLimit(r->d, &value, 0), INVALID_CONTEXT);
    /* The one that is current ends. */
    struct vgpu_driver_context *other;
    OK(r->o->context_create(r->d, &other, 0));
    OK(r->o->context_use(r->d, other));
    OK(r->o->context_destroy(r->d, other));
    FAILS(r->o->memory_alloc(r->d, &address, 1), INVALID_CONTEXT);
}

static void contexts_are_bounded(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_context *c[5], *again;
    for (int i = 0; i < 4; i++)
        OK(r->o->context_create(r->d, &c[i], (uint32_t)(i == 3 ? 4 : i)));
    FAILS(r->o->context_create(r->d, &c[4], 0), OUT_OF_MEMORY);
    OK(r->o->context_destroy(r->d, c[2]));
    OK(r->o->context_create(r->d, &c[2], 0x8));
    BAD(r->o->context_create(r->d, &c[4], 3)); /* two ways to wait */
    BAD(r->o->context_create(r->d, &c[4], 0x100));
    BAD(r->o->primary_retain(r->d, &c[4], 0x100));
    OK(r->o->primary_retain(r->d, &again, 0));
    assert_ptr_equal(again, r->context);
    OK(r->o->context_destroy(r->d, again)); /* lives by the first */
    OK(r->o->context_synchronize(r->d));
}

/* Memory belongs to the context it was made in, and ends with it. */
static void memory_ends_with_its_context(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_context *other;
    struct vgpu_driver_pool *pool;
    size_t before = free_bytes(r);
    CUdeviceptr kept = alloc(r, 1000), in_other, in_pool;
    OK(r->o->context_create(r->d, &other, 0));
    OK(r->o->context_use(r->d, other));
    OK(r->o->pool_create(r->d, &pool, 0));
    for (int i = 0; i < 300; i++) {
        in_other = alloc(r, 256);
        OK(r->o->memory_alloc_async(r->d, &in_pool, 256, i & 1 ? pool : NULL, NULL));
    }
    OK(r->o->context_use(r->d, r->context));
    OK(r->o->memory_free(r->d, in_other)); /* one address space */
    BAD(r->o->memory_free(r->d, in_other));
    assert_int_equal(free_bytes(r), before - 1024 - 599 * 256);
    OK(r->o->context_destroy(r->d, other));
    assert_int_equal(free_bytes(r), before - 1024);
    BAD(r->o->memory_free(r->d, in_pool));
    OK(r->o->memory_free(r->d, kept));
    assert_int_equal(free_bytes(r), before);
}

static void memory_is_checked(void **state)
{
    struct driver_rig *r = *state;
    CUdeviceptr address;
    uint8_t byte = 1;
    uint32_t length = 77;
    BAD(r->o->memory_alloc(r->d, &address, 0));
    FAILS(r->o->memory_alloc(r->d, &address, QUOTA + 1), OUT_OF_MEMORY);
    FAILS(r->o->memory_alloc(r->d, &address, SIZE_MAX), OUT_OF_MEMORY);
    address = alloc(r, 100);
    OK(r->o->memory_free(r->d, 0));
    BAD(r->o->memory_free(r->d, address + 1));
    BAD(r->o->memory_free_async(r->d, 0, NULL));
    BAD(r->o->copy_to_device(r->d, address + 100, NULL, &byte, 1));
    BAD(r->o->copy_to_device(r->d, 0, NULL, &byte, 1));
    OK(r->o->copy_to_device(r->d, 0, NULL, NULL, 0));
    OK(r->o->copy_to_device(r->d, address + 99, NULL, &byte, 1));
    BAD(r->o->copy_from_device(r->d, address, 2, NULL, &byte, 1, &length)); /* no room */
    BAD(r->o->copy_from_device(r->d, address + 100, 1, NULL, &byte, 1, &length));
    BAD(r->o->copy_on_device(r->d, address, address + 50, 51, NULL));
    BAD(r->o->copy_on_device(r->d, address + 50, address, 51, NULL));
    BAD(r->o->copy_on_device(r->d, address, address, SIZE_MAX, NULL));
    OK(r->o->copy_on_device(r->d, address + 1, address, 99, NULL)); /* overlapping */
    read_back(r, address + 99, &byte, 1);
    assert_int_equal(byte, 0);
}

/* Against a plain C fill; what is around it stays. */
static void memory_set_fills(void **state)
{
    struct driver_rig *r = *state;
    uint8_t want[900], got[900];
    CUdeviceptr at = alloc(r, sizeof(want));
    static const uint32_t sizes[] = {1, 2, 4};
    for (unsigned s = 0; s < 3; s++) {
        uint32_t size = sizes[s], value = 0xA1B2C3D4;
        OK(r->o->memory_set(r->d, at, 0, 0x55, 1, sizeof(want), 1, NULL));
        memset(want, 0x55, sizeof(want));
        OK(r->o->memory_set(r->d, at + 16, 64, value, size, 9, 7, NULL));
        for (unsigned y = 0; y < 7; y++) {
            for (unsigned x = 0; x < 9 * size; x++)
                want[16 + y * 64 + x] = (uint8_t)(value >> (8 * (x % size)));
        }
        read_back(r, at, got, sizeof(got));
        assert_memory_equal(got, want, sizeof(want));
        if (size > 1) {
            BAD(r->o->memory_set(r->d, at + 1, 64, 0, size, 1, 1, NULL));
            BAD(r->o->memory_set(r->d, at, 65, 0, size, 1, 2, NULL));
        }
        BAD(r->o->memory_set(r->d, at, 8, 0, size, 9, 2, NULL)); /* rows that overlap */
        BAD(r->o->memory_set(r->d, at, 0, 0, size, 900 / size + 1, 1, NULL));
        BAD(r->o->memory_set(r->d, at, SIZE_MAX & ~(size_t)3, 0, size, 1, 3, NULL));
        BAD(r->o->memory_set(r->d, at, 64, 0, size, SIZE_MAX, 1, NULL));
        BAD(r->o->memory_set(r->d, at, 64, 0, size, 1, SIZE_MAX, NULL));
        OK(r->o->memory_set(r->d, 0, 0, 0, size, 0, SIZE_MAX, NULL));
        OK(r->o->memory_set(r->d, 0, 0, 0, size, SIZE_MAX, 0, NULL));
    }
    static const uint32_t no_sizes[] = {0, 3, 8, 0xFFFFFFFF};
    for (unsigned i = 0; i < 4; i++)
        BAD(r->o->memory_set(r->d, at, 0, 0, no_sizes[i], 1, 1, NULL));
}

static void copy_rect_copies(void **state)
{
    struct driver_rig *r = *state;
    uint8_t from[4 * 5 * 8], want[3 * 100], got[sizeof(want)];
    CUdeviceptr a = alloc(r, sizeof(from)), b = alloc(r, sizeof(want));
    for (unsigned i = 0; i < sizeof(from); i++)
        from[i] = (uint8_t)(i + 1);
    OK(r->o->copy_to_device(r->d, a, NULL, from, sizeof(from)));
    /* 3 x 4 x 3 of 8 x 5 x 4 bytes, to pitch 10, slices of 100. */
    memset(want, 0, sizeof(want));
    for (unsigned z = 0; z < 3; z++) {
        for (unsigned y = 0; y < 4; y++)
            memcpy(want + z * 100 + y * 10, from + z * 40 + y * 8, 3);
    }
    OK(r->o->copy_rect(r->d, b, 10, 100, a, 8, 40, 3, 4, 3, NULL));
    read_back(r, b, got, sizeof(got));
    assert_memory_equal(got, want, sizeof(want));
    /* Exactly to the end, and one byte over it. */
    OK(r->o->copy_rect(r->d, b, 8, 40, a, 8, 40, 8, 5, 4, NULL));
    BAD(r->o->copy_rect(r->d, b, 8, 40, a + 1, 8, 40, 8, 5, 4, NULL));
    BAD(r->o->copy_rect(r->d, b, 8, 100, a, 8, 40, 8, 5, 4, NULL));
    /* Rows and slices that overlap; one of them needs no distance. */
    BAD(r->o->copy_rect(r->d, b, 7, 40, a, 8, 40, 8, 2, 1, NULL));
    BAD(r->o->copy_rect(r->d, b, 8, 39, a, 8, 40, 8, 5, 2, NULL));
    OK(r->o->copy_rect(r->d, b, 0, 0, a, 0, 0, 8, 1, 1, NULL));
    OK(r->o->copy_rect(r->d, 0, 0, 0, 0, 0, 0, 0, SIZE_MAX, SIZE_MAX, NULL));
    BAD(r->o->copy_rect(r->d, b, SIZE_MAX, 0, a, 8, 0, 1, 3, 1, NULL));
    BAD(r->o->copy_rect(r->d, b, 1, SIZE_MAX, a, 1, SIZE_MAX, 1, 1, 3, NULL));
    BAD(r->o->copy_rect(r->d, b, 1, 1, a, 1, 1, 1, 1, SIZE_MAX, NULL));
}

static uint64_t pool_value(struct driver_rig *r, struct vgpu_driver_pool *pool, int attribute)
{
    uint64_t value = UINT64_MAX;
    OK(r->o->pool_get_attribute(r->d, pool, attribute, &value));
    return value;
}

static void pools_count(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_pool *pool;
    CUdeviceptr a, b;
    uint64_t value;
    OK(r->o->pool_create(r->d, &pool, 1 << 20));
    OK(r->o->memory_alloc_async(r->d, &a, 600 << 10, pool, NULL));
    FAILS(r->o->memory_alloc_async(r->d, &b, 600 << 10, pool, NULL), OUT_OF_MEMORY);
    OK(r->o->memory_alloc_async(r->d, &b, 400 << 10, pool, NULL));
    assert_int_equal(pool_value(r, pool, 7), 1000 << 10);
    OK(r->o->memory_free_async(r->d, a, NULL));
    assert_int_equal(pool_value(r, pool, 7), 400 << 10);
    assert_int_equal(pool_value(r, pool, 8), 1000 << 10);
    assert_int_equal(pool_value(r, pool, 5), 400 << 10);
    assert_int_equal(pool_value(r, pool, 6), 1000 << 10);
    OK(r->o->pool_set_attribute(r->d, pool, 8, 0));
    assert_int_equal(pool_value(r, pool, 8), 400 << 10);
    assert_int_equal(pool_value(r, pool, 6), 1000 << 10);
    OK(r->o->pool_set_attribute(r->d, pool, 4, 12345));
    assert_int_equal(pool_value(r, pool, 4), 12345);
    OK(r->o->pool_set_attribute(r->d, pool, 2, 0));
    assert_int_equal(pool_value(r, pool, 2), 0);
    assert_int_equal(pool_value(r, pool, 1), 1);
    BAD(r->o->pool_set_attribute(r->d, pool, 8, 1));
    BAD(r->o->pool_set_attribute(r->d, pool, 7, 0));
    BAD(r->o->pool_set_attribute(r->d, pool, 5, 0));
    BAD(r->o->pool_set_attribute(r->d, pool, 1, 2));
    static const int none[] = {0, 9, -1, INT32_MAX};
    for (int i = 0; i < 4; i++) {
        BAD(r->o->pool_get_attribute(r->d, pool, none[i], &value));
        BAD(r->o->pool_set_attribute(r->d, pool, none[i], 0));
    }
    OK(r->o->pool_trim(r->d, pool, 0));
    assert_int_equal(pool_value(r, NULL, 7), 0); /* the context's own */
    /* What is allocated outlives its pool. */
    OK(r->o->pool_destroy(r->d, pool));
    uint8_t byte = 3;
    OK(r->o->copy_to_device(r->d, b, NULL, &byte, 1));
    OK(r->o->memory_free(r->d, b));
    BAD(r->o->memory_free(r->d, b));
}

static void streams_and_events(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_context *other;
    struct vgpu_driver_stream *s, *far;
    struct vgpu_driver_event *a, *b, *untimed;
    uint32_t result = 99;
    float ms;
    int32_t least = 9, greatest = 9;
    OK(r->o->stream_priority_range(r->d, &least, &greatest));
    assert_int_equal(least, 0);
    assert_int_equal(greatest, 0);
    OK(r->o->stream_create(r->d, &s, 1, -5));
    BAD(r->o->stream_create(r->d, &far, 2, 0));
    OK(r->o->event_create(r->d, &a, 0));
    OK(r->o->event_create(r->d, &b, 1));
    OK(r->o->event_create(r->d, &untimed, 2));
    BAD(r->o->event_create(r->d, &b, 8));
    BAD(r->o->event_create(r->d, &b, 4)); /* shared, and timed */
    FAILS(r->o->event_create(r->d, &b, 6), NOT_SUPPORTED);
    OK(r->o->event_query(r->d, a, &result)); /* never recorded: nothing to wait for */
    assert_int_equal(result, CUDA_SUCCESS);
    OK(r->o->event_synchronize(r->d, a));
    FAILS(r->o->event_elapsed(r->d, &ms, a, b), INVALID_HANDLE);
    OK(r->o->event_record(r->d, a, s, 0));
    FAILS(r->o->event_elapsed(r->d, &ms, a, b), INVALID_HANDLE);
    OK(r->o->event_record(r->d, b, NULL, 0));
    OK(r->o->event_record(r->d, untimed, s, 0));
    BAD(r->o->event_record(r->d, b, s, 2));
    OK(r->o->event_elapsed(r->d, &ms, a, b));
    assert_true(ms >= 0);
    float back;
    OK(r->o->event_elapsed(r->d, &back, b, a));
    assert_true(back == -ms);
    FAILS(r->o->event_elapsed(r->d, &ms, a, untimed), INVALID_HANDLE);
    OK(r->o->stream_wait_event(r->d, s, a, 0));
    BAD(r->o->stream_wait_event(r->d, s, a, 4));
    OK(r->o->stream_query(r->d, s, &result));
    assert_int_equal(result, CUDA_SUCCESS);
    /* An event is recorded in its own context. */
    OK(r->o->context_create(r->d, &other, 0));
    OK(r->o->context_use(r->d, other));
    OK(r->o->stream_create(r->d, &far, 0, 0));
    FAILS(r->o->event_record(r->d, a, far, 0), INVALID_HANDLE);
    FAILS(r->o->event_record(r->d, a, NULL, 0), INVALID_HANDLE);
    OK(r->o->event_record(r->d, a, s, 0));
    OK(r->o->event_destroy(r->d, a));
    OK(r->o->stream_destroy(r->d, s));
}

static const char kernels[] =
    PTX_HEAD ".visible .const .align 4 .b8 numbers[12];\n"
             ".visible .entry store(.param .u64 p, .param .u32 v)\n"
             "{ .reg .u64 %rd<2>; .reg .u32 %r<3>; .shared .align 4 .b8 own[1024];\n"
             "mov.u32 %r2, own; st.shared.u32 [%r2], %r2;\n"
             "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [v]; st.global.u32 [%rd1], %r1; ret; }\n"
             ".visible .entry few() .maxntid 64, 1, 1 { ret; }\n"
             ".visible .entry big() { .reg .u32 %r<2>; .shared .align 4 .b8 own[40960];\n"
             "mov.u32 %r1, own; st.shared.u32 [%r1], %r1; ret; }\n"
             ".visible .entry wild()\n"
             "{ .reg .u64 %rd<2>; mov.u64 %rd1, 64; st.global.u64 [%rd1], %rd1; ret; }\n";

static struct vgpu_driver_module *load(struct driver_rig *r)
{
    struct vgpu_driver_module *m = NULL;
    OK(r->o->module_load(r->d, &m, kernels, sizeof(kernels) - 1));
    return m;
}

struct function {
    struct vgpu_driver_function *f;
    uint32_t params, param_bytes, max_threads, shared, constant, local, registers, dynamic;
    int32_t ptx, binary;
    uint32_t layout[8], layout_length;
};

static struct function get(struct driver_rig *r, struct vgpu_driver_module *m, const char *name)
{
    struct function x;
    memset(&x, 0xA5, sizeof(x));
    OK(r->o->function_get(r->d, m, &x.f, name, &x.params, &x.param_bytes, &x.max_threads, &x.shared,
                          &x.constant, &x.local, &x.registers, &x.ptx, &x.binary, &x.dynamic,
                          x.layout, sizeof(x.layout), &x.layout_length));
    return x;
}

static CUresult launch(struct driver_rig *r, struct vgpu_driver_function *f, uint32_t grid,
                       uint32_t block, uint32_t shared, uint32_t flags, const void *arguments,
                       size_t length)
{
    return r->o->launch(r->d, f, NULL, grid, 1, 1, block, 1, 1, shared, flags, arguments, length);
}

static void modules_and_functions(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_module *m = load(r), *bad;
    struct function x = get(r, m, "store");
    assert_int_equal(x.params, 2);
    assert_int_equal(x.param_bytes, 12);
    assert_int_equal(x.max_threads, 1024);
    assert_int_equal(x.shared, 1024);
    assert_int_equal(x.constant, 12);
    assert_int_equal(x.local, 0);
    assert_in_range(x.registers, 16, 64);
    assert_int_equal(x.ptx, 75);
    assert_int_equal(x.binary, 75);
    assert_int_equal(x.dynamic, 49152 - 1024);
    assert_int_equal(x.layout_length, 16);
    assert_int_equal(x.layout[0], 0);
    assert_int_equal(x.layout[1], 8);
    assert_int_equal(x.layout[2], 8);
    assert_int_equal(x.layout[3], 4);
    assert_ptr_equal(get(r, m, "store").f, x.f); /* one function, however often it is asked for */
    uint32_t rest[4], length = 99;
    OK(r->o->function_params(r->d, x.f, 1, rest, 8, &length));
    assert_int_equal(length, 8);
    assert_int_equal(rest[0], 8);
    OK(r->o->function_params(r->d, x.f, 0, rest, 15, &length)); /* as many as fit */
    assert_int_equal(length, 8);
    OK(r->o->function_params(r->d, x.f, 0xFFFFFFFF, rest, 16, &length));
    assert_int_equal(length, 0);
    struct vgpu_driver_function *f;
    uint32_t u;
    int32_t i;
    r->d->text[0] = 0;
    FAILS(r->o->function_get(r->d, m, &f, "absent", &u, &u, &u, &u, &u, &u, &u, &i, &i, &u, rest,
                             sizeof(rest), &u),
          NOT_FOUND);
    assert_non_null(strstr(r->d->text, "'absent'"));
    CUdeviceptr address;
    size_t bytes;
    OK(r->o->module_global(r->d, m, "numbers", &address, &bytes));
    assert_int_equal(bytes, 12);
    FAILS(r->o->module_global(r->d, m, "store", &address, &bytes), NOT_FOUND);
    BAD(r->o->memory_free(r->d, address)); /* the module's */
    FAILS(r->o->module_load(r->d, &bad, PTX_HEAD "oops", strlen(PTX_HEAD "oops")), INVALID_PTX);
    assert_non_null(strstr(r->d->text, "oops"));
    FAILS(r->o->module_load(r->d, &bad, "", 0), INVALID_IMAGE);
    size_t before = free_bytes(r);
    OK(r->o->module_unload(r->d, m));
    assert_true(free_bytes(r) > before);
}

static void attributes_of_functions(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_module *m = load(r);
    struct vgpu_driver_function *f = get(r, m, "store").f;
    int32_t value = 0;
    static const int32_t want[] = {1024, 1024, 12, 0, -1, 75, 75, 0, 48128, -1, 0, 0, 0, 0, 0, 0};
    for (int a = 0; a < 16; a++) {
        OK(r->o->function_get_attribute(r->d, &value, a, f));
        if (a != 4)
            assert_int_equal(value, want[a]);
    }
    BAD(r->o->function_get_attribute(r->d, &value, 16, f));
    BAD(r->o->function_get_attribute(r->d, &value, -1, f));
    OK(r->o->function_set_attribute(r->d, f, 8, 100));
    BAD(launch(r, f, 1, 1, 101, 0, "123456789012", 12));
    BAD(r->o->function_set_attribute(r->d, f, 8, 48129));
    BAD(r->o->function_set_attribute(r->d, f, 8, -1));
    OK(r->o->function_set_attribute(r->d, f, 9, 50));
    OK(r->o->function_get_attribute(r->d, &value, 9, f));
    assert_int_equal(value, 50);
    BAD(r->o->function_set_attribute(r->d, f, 9, 101));
    BAD(r->o->function_set_attribute(r->d, f, 0, 1));
    FAILS(r->o->function_set_attribute(r->d, f, 10, 1), NOT_SUPPORTED);
}

static void launches(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_module *m = load(r);
    struct vgpu_driver_function *f = get(r, m, "store").f, *few = get(r, m, "few").f;
    CUdeviceptr at = alloc(r, 16);
    uint8_t arguments[12];
    uint32_t value = 0xCAFE, got = 0;
    memcpy(arguments, &at, 8);
    memcpy(arguments + 8, &value, 4);
    OK(launch(r, f, 3, 32, 0, 0, arguments, 12));
    read_back(r, at, &got, 4); /* a launch is done when it returns */
    assert_int_equal(got, 0xCAFE);
    BAD(launch(r, f, 0, 32, 0, 0, arguments, 12));
    BAD(launch(r, f, 1, 0, 0, 0, arguments, 12));
    BAD(launch(r, f, 1, 1025, 0, 0, arguments, 12));
    BAD(launch(r, f, 0xFFFFFFFF, 1, 0, 0, arguments, 12));
    BAD(launch(r, f, 1, 1, 0, 0, arguments, 11));
    BAD(launch(r, f, 1, 1, 0, 0, NULL, 0));
    BAD(launch(r, f, 1, 1, 48129, 0, arguments, 12));
    BAD(launch(r, f, 1, 1, 0, 2, arguments, 12));
    BAD(r->o->launch(r->d, few, NULL, 1, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, NULL, 0));
    OK(launch(r, few, 1, 64, 0, 0, NULL, 0));
    FAILS(launch(r, few, 1, 65, 0, 0, NULL, 0), LAUNCH_OUT_OF_RESOURCES);
    struct vgpu_driver_context *other;
    struct vgpu_driver_stream *far;
    OK(r->o->context_create(r->d, &other, 0));
    OK(r->o->context_use(r->d, other));
    OK(r->o->stream_create(r->d, &far, 0, 0));
    FAILS(launch(r, few, 1, 1, 0, 0, NULL, 0), INVALID_HANDLE); /* of another context */
    OK(r->o->context_use(r->d, r->context));
    FAILS(r->o->launch(r->d, few, far, 1, 1, 1, 1, 1, 1, 0, 0, NULL, 0), INVALID_HANDLE);
    OK(r->o->context_synchronize(r->d));
}

/* A fault is what every later call answers, and all of it still goes away. */
static void a_fault_is_sticky(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_module *m = load(r);
    struct vgpu_driver_stream *s;
    CUdeviceptr at = alloc(r, 16), other;
    uint32_t result;
    OK(r->o->stream_create(r->d, &s, 0, 0));
    OK(launch(r, get(r, m, "wild").f, 1, 1, 0, 0, NULL, 0));
    FAILS(r->o->context_synchronize(r->d), ILLEGAL_ADDRESS);
    assert_non_null(strstr(r->d->text, "wild"));
    FAILS(r->o->stream_query(r->d, s, &result), ILLEGAL_ADDRESS);
    FAILS(r->o->memory_alloc(r->d, &other, 1), ILLEGAL_ADDRESS);
    FAILS(r->o->memory_free(r->d, at), ILLEGAL_ADDRESS);
    FAILS(r->o->stream_destroy(r->d, s), ILLEGAL_ADDRESS);
    FAILS(r->o->module_unload(r->d, m), ILLEGAL_ADDRESS);
    FAILS(r->o->context_destroy(r->d, r->context), ILLEGAL_ADDRESS);
}

/* CUDA C++ programming guide, compute capability 7.5: 1024 threads, 16 blocks, 64 KiB a
 * multiprocessor. */
static void occupancy(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_module *m = load(r);
    struct vgpu_driver_function *f = get(r, m, "few").f, *store = get(r, m, "store").f,
                                *big = get(r, m, "big").f;
    static const struct {
        int block;
        size_t dynamic;
        int blocks;
    } cases[] = {
        {32, 0, 16},   {1, 0, 16},     {64, 0, 16},    {128, 0, 8},    {256, 0, 4},
        {1024, 0, 1},  {1023, 0, 1},   {513, 0, 1},    {512, 0, 2},    {32, 7168, 8},
        {32, 7169, 7}, {32, 48128, 1}, {32, 48129, 0}, {32, 3072, 16}, {32, 3073, 15},
    };
    int blocks;
    size_t dynamic;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        OK(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
            r->d, &blocks, store, cases[i].block, cases[i].dynamic, 0));
        if (blocks != cases[i].blocks)
            fail_msg("block %d, %zu bytes: %d blocks, want %d", cases[i].block, cases[i].dynamic,
                     blocks, cases[i].blocks);
    }
    OK(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(r->d, &blocks, f, 65, 0, 1));
    assert_int_equal(blocks, 0); /* more than the kernel runs */
    OK(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(r->d, &blocks, big, 32, 0, 0));
    assert_int_equal(blocks, 1);
    BAD(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(r->d, &blocks, f, 0, 0, 0));
    BAD(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(r->d, &blocks, f, -1, 0, 0));
    BAD(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(r->d, &blocks, f, 1025, 0, 0));
    BAD(r->o->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(r->d, &blocks, f, 1, 0, 2));
    OK(r->o->cuOccupancyAvailableDynamicSMemPerBlock(r->d, &dynamic, store, 4, 128));
    assert_int_equal(dynamic, 16384 - 1024);
    OK(r->o->cuOccupancyAvailableDynamicSMemPerBlock(r->d, &dynamic, store, 1, 128));
    assert_int_equal(dynamic, 48128);
    BAD(r->o->cuOccupancyAvailableDynamicSMemPerBlock(r->d, &dynamic, store, 9, 128));
    BAD(r->o->cuOccupancyAvailableDynamicSMemPerBlock(r->d, &dynamic, store, 0, 128));
}

static int32_t attribute(struct driver_rig *r, uint32_t number)
{
    int32_t value = 12345;
    uint32_t length = 0;
    OK(r->o->device_attributes(r->d, number, &value, 4, &length));
    assert_int_equal(length, 4);
    return value;
}

/* The attributes say what GET_DEVICE_INFO says, and nothing that is not there. */
static void attributes_of_the_device(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_device_info info;
    vgpu_backend_software.device_info(r->b, &info);
    const struct {
        uint32_t number;
        int64_t value;
    } want[] = {
        {1, info.max_threads_per_block},
        {2, info.max_block_dim[0]},
        {3, info.max_block_dim[1]},
        {4, info.max_block_dim[2]},
        {5, info.max_grid_dim[0]},
        {6, info.max_grid_dim[1]},
        {7, info.max_grid_dim[2]},
        {8, info.max_shared_per_block_bytes},
        {10, info.warp_size},
        {12, info.max_registers_per_block},
        {13, info.clock_khz},
        {16, info.multiprocessors},
        {75, info.compute_major},
        {76, info.compute_minor},
        {41, 1} /* unified addressing */,
        {83, 0} /* managed memory */,
        {88, 0} /* pageable memory */,
        {78, 0} /* priorities */,
        {115, 1} /* pools */,
        {0, 0},
        {4096, 0},
    };
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        assert_int_equal(attribute(r, want[i].number), want[i].value);
    uint8_t many[961];
    uint32_t length = 0;
    memset(many, 0xEE, sizeof(many));
    OK(r->o->device_attributes(r->d, 1, many, 959, &length));
    assert_int_equal(length, 956);
    assert_int_equal(many[956], 0xEE);
    BAD(r->o->device_attributes(r->d, 4097, many, 960, &length));
    BAD(r->o->device_attributes(r->d, UINT32_MAX, many, 960, &length));
    int32_t version = 0;
    OK(r->o->driver_version(r->d, &version));
    assert_int_equal(version, 12040);
}

static void limits(void **state)
{
    struct driver_rig *r = *state;
    struct vgpu_driver_context *other;
    size_t value;
    OK(r->o->cuCtxGetLimit(r->d, &value, 0));
    assert_int_equal(value, 1024);
    OK(r->o->cuCtxSetLimit(r->d, 0, 4096));
    OK(r->o->cuCtxGetLimit(r->d, &value, 0));
    assert_int_equal(value, 4096);
    BAD(r->o->cuCtxSetLimit(r->d, 0, SIZE_MAX));
    OK(r->o->cuCtxSetLimit(r->d, 1, 1 << 16));
    FAILS(r->o->cuCtxSetLimit(r->d, 2, 1), NOT_SUPPORTED);
    FAILS(r->o->cuCtxGetLimit(r->d, &value, 6), NOT_SUPPORTED);
    BAD(r->o->cuCtxGetLimit(r->d, &value, 7));
    BAD(r->o->cuCtxGetLimit(r->d, &value, -1));
    /* Each context has its own. */
    OK(r->o->context_create(r->d, &other, 0));
    OK(r->o->context_use(r->d, other));
    OK(r->o->cuCtxGetLimit(r->d, &value, 0));
    assert_int_equal(value, 1024);
}

/* printf_read, cooperative launches and the stack limit reach what runs the kernels. */
static void kernels_call(void **state)
{
    static const char text[] = PTX_HEAD
        ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n"
        ".global .align 1 .b8 hello[7] = {104, 101, 108, 108, 111, 10};\n"
        ".visible .entry say() { .reg .b64 %f; mov.u64 %f, hello; call (_), vprintf, (%f, 0); }\n"
        ".visible .entry together() { .reg .b32 %r; .reg .pred %p; mov.u32 %r, %envreg1;\n"
        "setp.eq.u32 %p, %r, 0; @%p trap; ret; }\n"
        ".func down(.param .b32 n) { .reg .b32 %n; .reg .pred %p; ld.param.u32 %n, [n];\n"
        "setp.eq.u32 %p, %n, 0; @%p ret; sub.u32 %n, %n, 1; call down, (%n); ret; }\n"
        ".visible .entry deep() { call down, (4000); ret; }\n";
    struct driver_rig *r = *state;
    struct vgpu_driver_module *m = NULL;
    char got[16];
    uint64_t lost = 1;
    uint32_t length = 0;
    OK(r->o->module_load(r->d, &m, text, sizeof(text) - 1));
    struct function say = get(r, m, "say"), together = get(r, m, "together");
    OK(launch(r, say.f, 1, 2, 0, 0, NULL, 0));
    OK(r->o->printf_read(r->d, 9, &lost, got, sizeof(got), &length));
    assert_int_equal(length, 9);
    assert_int_equal(lost, 0);
    assert_memory_equal(got, "hello\nhel", 9);
    OK(r->o->printf_read(r->d, 100, &lost, got, sizeof(got), &length));
    assert_int_equal(length, 3);
    OK(launch(r, together.f, 4, 32, 0, VGPU_LAUNCH_COOPERATIVE, NULL, 0));
    FAILS(launch(r, together.f, 33, 32, 0, VGPU_LAUNCH_COOPERATIVE, NULL, 0),
          COOPERATIVE_LAUNCH_TOO_LARGE);
    OK(r->o->cuCtxSetLimit(r->d, 0, (128 << 10) + 1));
    OK(launch(r, get(r, m, "deep").f, 1, 32, 0, 0, NULL, 0));
    OK(r->o->context_synchronize(r->d));
    OK(r->o->cuCtxSetLimit(r->d, 0, 1024));
    OK(launch(r, get(r, m, "deep").f, 1, 32, 0, 0, NULL, 0));
    FAILS(r->o->context_synchronize(r->d), HARDWARE_STACK_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(no_member_is_missing, driver_setup, driver_teardown),
        VGPU_TEST_F(a_context_is_needed, driver_setup, driver_teardown),
        VGPU_TEST_F(contexts_are_bounded, driver_setup, driver_teardown),
        VGPU_TEST_F(memory_ends_with_its_context, driver_setup, driver_teardown),
        VGPU_TEST_F(memory_is_checked, driver_setup, driver_teardown),
        VGPU_TEST_F(memory_set_fills, driver_setup, driver_teardown),
        VGPU_TEST_F(copy_rect_copies, driver_setup, driver_teardown),
        VGPU_TEST_F(pools_count, driver_setup, driver_teardown),
        VGPU_TEST_F(streams_and_events, driver_setup, driver_teardown),
        VGPU_TEST_F(modules_and_functions, driver_setup, driver_teardown),
        VGPU_TEST_F(attributes_of_functions, driver_setup, driver_teardown),
        VGPU_TEST_F(launches, driver_setup, driver_teardown),
        VGPU_TEST_F(a_fault_is_sticky, driver_setup, driver_teardown),
        VGPU_TEST_F(occupancy, driver_setup, driver_teardown),
        VGPU_TEST_F(attributes_of_the_device, driver_setup, driver_teardown),
        VGPU_TEST_F(limits, driver_setup, driver_teardown),
        VGPU_TEST_F(kernels_call, driver_setup, driver_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
