/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md C9 to C11: device memory, host memory, copies and sets as the guest keeps and
 * checks them. */
#include "fake.h"

#include <stdlib.h>
#include <sys/mman.h>

/* ---- The tree of ranges, against a plain list ---- */

enum { RANGES = 400 };

static void test_ranges(void **state)
{
    (void)state;
    static struct vgpu_range all[RANGES];
    bool in[RANGES] = {false};
    struct vgpu_ranges tree = {NULL, 0};
    srandom(7);
    for (int step = 0; step < 20000; step++) {
        int i = (int)(random() % RANGES);
        if (in[i]) {
            vgpu_ranges_remove(&tree, &all[i]);
            in[i] = false;
        } else {
            all[i] = (struct vgpu_range){.start = (uint64_t)(random() % 4000) + 1,
                                         .size = (uint64_t)(random() % 12)};
            bool good = all[i].size != 0;
            for (int k = 0; k < RANGES; k++)
                if (in[k] && all[i].start < all[k].start + all[k].size &&
                    all[k].start < all[i].start + all[i].size)
                    good = false;
            assert_int_equal(vgpu_ranges_insert(&tree, &all[i]), good);
            in[i] = good;
        }
        uint64_t address = (uint64_t)(random() % 4100);
        const struct vgpu_range *want = NULL;
        for (int k = 0; k < RANGES; k++)
            if (in[k] && address >= all[k].start && address < all[k].start + all[k].size)
                want = &all[k];
        assert_ptr_equal(vgpu_ranges_find(&tree, address), want);
    }
    struct vgpu_range wraps = {.start = UINT64_MAX - 1, .size = 4};
    assert_false(vgpu_ranges_insert(&tree, &wraps));
}

/* ---- Allocations ---- */

/* C9: what is allocated is known; a bad free fails at once, and nothing is sent. */
static void test_alloc(void **state)
{
    (void)state;
    CUdeviceptr a, base;
    size_t size;
    assert_result(cuMemAlloc_v2(&a, 0), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemAlloc_v2(NULL, 1), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemAlloc_v2(&a, FAKE_BYTES + 1), CUDA_ERROR_OUT_OF_MEMORY);
    assert_ok(cuMemAlloc_v2(&a, 1000));
    assert_ok(cuMemGetAddressRange_v2(&base, &size, a + 999));
    assert_int_equal(base, a);
    assert_int_equal(size, 1000);
    assert_result(cuMemGetAddressRange_v2(&base, &size, a + 1000), CUDA_ERROR_NOT_FOUND);
    unsigned before = fake_count(0);
    assert_result(cuMemFree_v2(a + 1), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemFree_v2(a + 4096), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(0));
    assert_int_equal(fake_count(0), before);
    assert_ok(cuMemFree_v2(a));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_FREE).in[0], a);
    assert_result(cuMemFree_v2(a), CUDA_ERROR_INVALID_VALUE);
}

/* C9: a host that hands out what cannot be is not believed. */
static void test_impossible_address(void **state)
{
    (void)state;
    CUdeviceptr a, b;
    const uint64_t bad[] = {0, UINT64_MAX - 10};
    for (size_t i = 0; i < 2; i++) {
        fake_answer(VGPU_CALL_MEMORY_ALLOC, &bad[i], 8);
        assert_result(cuMemAlloc_v2(&a, 100), CUDA_ERROR_UNKNOWN);
    }
    assert_ok(cuMemAlloc_v2(&a, 100));
    uint64_t again = a + 50;
    fake_answer(VGPU_CALL_MEMORY_ALLOC, &again, 8);
    assert_result(cuMemAlloc_v2(&b, 100), CUDA_ERROR_UNKNOWN);
    assert_ok(cuMemFree_v2(a));
}

/* C9: the guest's own address space keeps away from device memory, as long as it is allocated. */
static void test_reserved(void **state)
{
    (void)state;
    /* An address that is free in this process: one that was just given back. */
    void *place = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(place, MAP_FAILED);
    munmap(place, 1 << 20);
    uint64_t address = (uintptr_t)place;
    CUdeviceptr a;
    fake_answer(VGPU_CALL_MEMORY_ALLOC, &address, 8);
    assert_ok(cuMemAlloc_v2(&a, 1 << 20));
    void *other = mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(other, place);
    munmap(other, 4096);
    assert_ok(cuMemFree_v2(a));
    other = mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_equal(other, place);
    munmap(other, 4096);
}

static void test_pitch(void **state)
{
    (void)state;
    CUdeviceptr a;
    size_t pitch;
    assert_result(cuMemAllocPitch_v2(&a, &pitch, 10, 10, 3), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemAllocPitch_v2(&a, &pitch, SIZE_MAX - 3, 10, 4), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemAllocPitch_v2(&a, &pitch, 1024, SIZE_MAX / 1024 + 1, 4),
                  CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemAllocPitch_v2(&a, &pitch, 1025, 10, 4));
    assert_int_equal(pitch, 2048);
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_ALLOC).in[0], 20480);
    assert_ok(cuMemFree_v2(a));
}

/* ---- Copies ---- */

static uint8_t source[5000], target[5000];

static void fill_source(void)
{
    for (size_t i = 0; i < sizeof(source); i++)
        source[i] = (uint8_t)(i * 31 + i / 256);
    memset(target, 0, sizeof(target));
}

/* C10: large copies in pieces, those to the device posted. */
static void test_linear(void **state)
{
    (void)state;
    CUdeviceptr a;
    fill_source();
    assert_ok(cuMemAlloc_v2(&a, 5000));
    assert_ok(cuMemcpyHtoD_v2(a, source, 5000));
    assert_int_equal(fake_count(VGPU_CALL_COPY_TO_DEVICE), 6); /* of 952 bytes */
    assert_int_equal(fake_last(VGPU_CALL_COPY_TO_DEVICE).flags, VGPU_FLAG_ASYNC);
    assert_memory_equal(fake_memory(a), source, 5000);
    assert_ok(cuMemcpyDtoH_v2(target, a, 5000));
    assert_int_equal(fake_count(VGPU_CALL_COPY_FROM_DEVICE), 6); /* of 960 bytes */
    assert_memory_equal(target, source, 5000);
    assert_ok(cuMemcpyDtoD_v2(a, a + 1000, 100));
    assert_memory_equal(fake_memory(a), source + 1000, 100);
    /* By address alone. */
    memset(target, 0, sizeof(target));
    assert_ok(cuMemcpy((CUdeviceptr)(uintptr_t)target, a, 100));
    assert_memory_equal(target, source + 1000, 100);
    assert_ok(cuMemcpy(a, (CUdeviceptr)(uintptr_t)source, 100));
    assert_memory_equal(fake_memory(a), source, 100);
    assert_ok(cuMemcpy((CUdeviceptr)(uintptr_t)target, (CUdeviceptr)(uintptr_t)source, 100));
    assert_memory_equal(target, source, 100);
    assert_ok(cuMemcpyHtoD_v2(a, source, 0));
    assert_ok(cuMemFree_v2(a));
}

/* C10: a copy that leaves its range fails at once, and nothing of it is done. */
static void test_bad_copies(void **state)
{
    (void)state;
    CUdeviceptr a;
    fill_source();
    assert_ok(cuMemAlloc_v2(&a, 1000));
    unsigned before = fake_count(0);
    assert_result(cuMemcpyHtoD_v2(a + 1, source, 1000), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemcpyDtoH_v2(target, a + 999, 2), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemcpyDtoH_v2(target, a, SIZE_MAX), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemcpyHtoD_v2(a, NULL, 10), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemcpyDtoH_v2((void *)(UINTPTR_MAX - 4), a, 10), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemsetD8_v2(a, 1, 1001), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemsetD32_v2(a, 1, SIZE_MAX / 4 + 1), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemsetD32_v2(a + 2, 1, 1), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemsetD2D8_v2(a, 10, 1, 20, 2), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemsetD2D8_v2(a, 999, 1, 2, 2), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(fake_count(0), before);
    /* An address nobody here knows: a global, perhaps. The host is asked. */
    CUdeviceptr unknown = FAKE_BASE + FAKE_BYTES - 2048;
    assert_ok(cuMemcpyHtoD_v2(unknown, source, 16));
    assert_int_equal(fake_count(VGPU_CALL_COPY_FROM_DEVICE), 2);
    assert_memory_equal(fake_memory(unknown), source, 16);
    assert_result(cuMemcpyHtoD_v2(12345, source, 16), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(a));
}

/* C10: a host that answers a copy with fewer bytes than asked for. */
static void test_short_answer(void **state)
{
    (void)state;
    CUdeviceptr a;
    assert_ok(cuMemAlloc_v2(&a, 1000));
    fake_answer(VGPU_CALL_COPY_FROM_DEVICE, "abc", 3);
    assert_result(cuMemcpyDtoH_v2(target, a, 100), CUDA_ERROR_UNKNOWN);
    assert_ok(cuMemFree_v2(a));
}

static CUDA_MEMCPY2D plane(CUdeviceptr device, size_t pitch)
{
    return (CUDA_MEMCPY2D){.srcMemoryType = CU_MEMORYTYPE_HOST,
                           .srcHost = source,
                           .srcPitch = 100,
                           .srcXInBytes = 4,
                           .srcY = 2,
                           .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                           .dstDevice = device,
                           .dstPitch = pitch,
                           .dstXInBytes = 8,
                           .dstY = 1,
                           .WidthInBytes = 50,
                           .Height = 10};
}

/* C10: planes and boxes row by row; without gaps they are one row. */
static void test_boxes(void **state)
{
    (void)state;
    CUdeviceptr a;
    fill_source();
    assert_ok(cuMemAlloc_v2(&a, 64 * 1024));
    CUDA_MEMCPY2D p = plane(a, 128);
    assert_ok(cuMemcpy2D_v2(&p));
    assert_int_equal(fake_count(VGPU_CALL_COPY_TO_DEVICE), 10);
    for (int y = 0; y < 10; y++)
        assert_memory_equal(fake_memory(a + 8 + (size_t)(y + 1) * 128), source + 4 + (y + 2) * 100,
                            50);
    p = plane(a, 57); /* less than 8 + 50 */
    assert_result(cuMemcpy2D_v2(&p), CUDA_ERROR_INVALID_VALUE);
    p = plane(a, SIZE_MAX / 4);
    assert_result(cuMemcpy2D_v2(&p), CUDA_ERROR_INVALID_VALUE);
    p = plane(a, 128);
    p.dstMemoryType = (CUmemorytype)9;
    assert_result(cuMemcpy2D_v2(&p), CUDA_ERROR_INVALID_VALUE);
    p.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    assert_result(cuMemcpy2D_v2(&p), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuMemcpy2D_v2(NULL), CUDA_ERROR_INVALID_VALUE);
    CUDA_MEMCPY3D box = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                         .srcDevice = a,
                         .srcPitch = 64,
                         .srcHeight = 4,
                         .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                         .dstDevice = a + 32768,
                         .dstPitch = 32,
                         .dstHeight = 8,
                         .WidthInBytes = 32,
                         .Height = 4,
                         .Depth = 3};
    assert_ok(cuMemcpy3D_v2(&box));
    struct fake_request r = fake_last(VGPU_CALL_COPY_RECT);
    const uint64_t want[] = {a + 32768, 32, 256, a, 64, 256, 32, 4, 3, 0};
    assert_memory_equal(r.in, want, sizeof(want));
    box.srcPitch = box.dstPitch = 32;
    box.srcHeight = box.dstHeight = 4;
    assert_ok(cuMemcpy3D_v2(&box));
    assert_int_equal(fake_last(VGPU_CALL_COPY_ON_DEVICE).in[2], 32 * 4 * 3);
    box.dstPitch = box.dstHeight = (size_t)1 << 40; /* their product wraps to 0 */
    box.Height = 1;
    assert_result(cuMemcpy3D_v2(&box), CUDA_ERROR_INVALID_VALUE);
    box.dstPitch = 32;
    box.dstHeight = box.Height = 4;
    box.srcZ = SIZE_MAX / 100;
    assert_result(cuMemcpy3D_v2(&box), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(a));
}

/* C10: arrays: short rows several at a time, long ones in whole elements; outside is refused. */
static void test_arrays(void **state)
{
    (void)state;
    CUarray array;
    CUDA_ARRAY_DESCRIPTOR back;
    fill_source();
    const CUDA_ARRAY_DESCRIPTOR d = {100, 20, CU_AD_FORMAT_FLOAT, 4};
    assert_ok(cuArrayCreate_v2(&array, &d));
    assert_ok(cuArrayGetDescriptor_v2(&back, array));
    assert_int_equal(back.Height, 20);
    CUDA_MEMCPY2D p = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                       .srcHost = source,
                       .srcPitch = 250,
                       .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                       .dstArray = array,
                       .WidthInBytes = 240,
                       .Height = 20};
    assert_ok(cuMemcpy2D_v2(&p));
    assert_int_equal(fake_count(VGPU_CALL_ARRAY_WRITE), 7); /* three rows at a time */
    struct fake_request r = fake_last(VGPU_CALL_ARRAY_WRITE);
    assert_int_equal(r.in[2], 18);
    assert_int_equal(r.in[5], 2);
    assert_memory_equal(r.data, source + 18 * 250, 240);
    assert_memory_equal(r.data + 240, source + 19 * 250, 240);
    p.WidthInBytes = 1600;
    p.srcPitch = 1600;
    p.Height = 2;
    assert_ok(cuMemcpy2D_v2(&p));
    r = fake_last(VGPU_CALL_ARRAY_WRITE);
    assert_int_equal(r.in[1] % 16, 0);
    assert_int_equal(r.in[1] + r.in[4], 1600);
    p.dstXInBytes = 16;
    assert_result(cuMemcpy2D_v2(&p), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemcpyAtoH_v2(target, array, 32, 100));
    assert_int_equal(target[99], 0x5a);
    assert_result(cuMemcpyAtoH_v2(target, array, 1500, 101), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuArrayDestroy(array));
    assert_result(cuMemcpyAtoH_v2(target, array, 0, 1), CUDA_ERROR_INVALID_HANDLE);
    const CUDA_ARRAY_DESCRIPTOR bad = {100, 20, CU_AD_FORMAT_FLOAT, 3};
    assert_result(cuArrayCreate_v2(&array, &bad), CUDA_ERROR_INVALID_VALUE);
}

static void test_textures(void **state)
{
    (void)state;
    CUdeviceptr a;
    CUtexObject texture;
    CUDA_RESOURCE_DESC described;
    assert_ok(cuMemAlloc_v2(&a, 4096));
    CUDA_RESOURCE_DESC d = {.resType = CU_RESOURCE_TYPE_LINEAR,
                            .res.linear = {a, CU_AD_FORMAT_FLOAT, 1, 4096}};
    CUDA_TEXTURE_DESC t = {.addressMode = {CU_TR_ADDRESS_MODE_CLAMP}, .borderColor = {0.5f}};
    assert_ok(cuTexObjectCreate(&texture, &d, &t, NULL));
    assert_int_equal(texture, 77);
    assert_int_equal(fake_last(VGPU_CALL_TEXTURE_CREATE).in[13], 0x3f000000);
    assert_ok(cuTexObjectGetResourceDesc(&described, texture));
    assert_int_equal(described.res.linear.devPtr, a);
    assert_ok(cuTexObjectDestroy(texture));
    assert_result(cuTexObjectDestroy(texture), CUDA_ERROR_INVALID_VALUE);
    d.res.linear.sizeInBytes = 4097;
    assert_result(cuTexObjectCreate(&texture, &d, &t, NULL), CUDA_ERROR_INVALID_VALUE);
    d.resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
    assert_result(cuTexObjectCreate(&texture, &d, &t, NULL), CUDA_ERROR_NOT_SUPPORTED);
    assert_ok(cuMemFree_v2(a));
}

/* ---- Host memory and what an address is ---- */

/* C11 */
static void test_host_memory(void **state)
{
    (void)state;
    void *p, *q;
    unsigned flags, type;
    CUdeviceptr device;
    static char own[4096];
    assert_result(cuMemHostAlloc(&p, 100, CU_MEMHOSTALLOC_DEVICEMAP), CUDA_ERROR_NOT_SUPPORTED);
    assert_ok(cuMemHostAlloc(&p, 100, CU_MEMHOSTALLOC_PORTABLE));
    memset(p, 1, 100);
    assert_ok(cuMemHostGetFlags(&flags, p));
    assert_int_equal(flags, CU_MEMHOSTALLOC_PORTABLE);
    assert_result(cuMemHostGetDevicePointer_v2(&device, p, 0), CUDA_ERROR_NOT_SUPPORTED);
    assert_ok(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)p + 50));
    assert_int_equal(type, CU_MEMORYTYPE_HOST);
    assert_ok(cuMemHostRegister_v2(own, sizeof(own), 0));
    assert_result(cuMemHostRegister_v2(own + 8, 8, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    assert_result(cuMemFreeHost(own), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemHostUnregister(p), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    assert_ok(cuMemHostUnregister(own));
    assert_ok(cuMemFreeHost(p));
    assert_result(cuMemFreeHost(p), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemHostRegister_v2(own, SIZE_MAX, 0), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemAllocHost_v2(&q, (size_t)1 << 62), CUDA_ERROR_OUT_OF_MEMORY);
    assert_result(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)own),
                  CUDA_ERROR_INVALID_VALUE);
    CUcontext context, current;
    size_t size;
    int ordinal = 0;
    CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_CONTEXT, CU_POINTER_ATTRIBUTE_RANGE_SIZE,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void *data[] = {&context, &size, &ordinal};
    assert_ok(cuPointerGetAttributes(3, asked, data, (uintptr_t)own));
    assert_null(context);
    assert_int_equal(ordinal, -2);
    assert_ok(cuMemAlloc_v2(&device, 300));
    assert_ok(cuPointerGetAttributes(3, asked, data, device + 7));
    assert_ok(cuCtxGetCurrent(&current));
    assert_ptr_equal(context, current);
    assert_int_equal(size, 300);
    assert_int_equal(ordinal, 0);
    assert_ok(cuMemFree_v2(device));
}

/* C9: pools. */
static void test_pools(void **state)
{
    (void)state;
    CUmemoryPool standard, own, now;
    CUdeviceptr a;
    cuuint64_t wide = 0;
    int narrow = 1;
    assert_ok(cuDeviceGetDefaultMemPool(&standard, 0));
    assert_ok(cuDeviceGetMemPool(&now, 0));
    assert_ptr_equal(now, standard);
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    assert_ok(cuMemPoolCreate(&own, &props));
    assert_ok(cuDeviceSetMemPool(0, own));
    assert_ok(cuMemAllocAsync(&a, 100, NULL));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_ALLOC_ASYNC).in[1],
                     fake_last(VGPU_CALL_POOL_CREATE).in[0]);
    assert_ok(cuMemFreeAsync(a, NULL));
    assert_result(cuMemFreeAsync(a, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemAllocFromPoolAsync(&a, 100, standard, CU_STREAM_LEGACY));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_ALLOC_ASYNC).in[1], 0);
    assert_ok(cuMemFree_v2(a));
    assert_ok(cuMemPoolSetAttribute(own, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &narrow));
    assert_int_equal(fake_last(VGPU_CALL_POOL_SET_ATTRIBUTE).in[2], 1);
    assert_ok(cuMemPoolGetAttribute(own, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &wide));
    assert_result(cuMemPoolGetAttribute(own, (CUmemPool_attribute)99, &wide),
                  CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemPoolDestroy(standard), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemPoolDestroy(own));
    assert_ok(cuDeviceGetMemPool(&now, 0)); /* the one that was set is gone */
    assert_ptr_equal(now, standard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test_setup(test_alloc, fake_setup_current),
        cmocka_unit_test_setup(test_impossible_address, fake_setup_current),
        cmocka_unit_test_setup(test_reserved, fake_setup_current),
        cmocka_unit_test_setup(test_pitch, fake_setup_current),
        cmocka_unit_test_setup(test_linear, fake_setup_current),
        cmocka_unit_test_setup(test_bad_copies, fake_setup_current),
        cmocka_unit_test_setup(test_short_answer, fake_setup_current),
        cmocka_unit_test_setup(test_boxes, fake_setup_current),
        cmocka_unit_test_setup(test_arrays, fake_setup_current),
        cmocka_unit_test_setup(test_textures, fake_setup_current),
        cmocka_unit_test_setup(test_host_memory, fake_setup_current),
        cmocka_unit_test_setup(test_pools, fake_setup_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
