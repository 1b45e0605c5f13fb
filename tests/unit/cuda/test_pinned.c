/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md C11 with a channel (docs/ring.md, G14): pinned memory, against a host that
 * lags behind like a GPU. */
#include <string.h>

#include "bytes.h"
#include "fake_channel.h"

/* C11: asynchronous copies of pinned memory are posted, and in order with everything else. */
static void test_pinned_async(void **state)
{
    (void)state;
    struct vgpu_channel_statistics before, after;
    CUdeviceptr device;
    CUstream stream;
    uint8_t *a, *b;
    unsigned flags;
    assert_ok(cuMemHostAlloc((void **)&a, MIB, CU_MEMHOSTALLOC_PORTABLE));
    assert_ok(cuMemAllocHost_v2((void **)&b, 300));
    assert_ok(cuMemHostGetFlags(&flags, a));
    assert_int_equal(flags, CU_MEMHOSTALLOC_PORTABLE);
    assert_ok(cuMemAlloc_v2(&device, MIB));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuCtxSynchronize());
    scramble(a, MIB);
    memset(b, 0, 300);
    fake_channel_stop(true);
    vgpu_channel_read_statistics(vgpu_cuda.channel, &before);
    assert_ok(cuMemcpyHtoDAsync_v2(device, a, MIB, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(b, device + 1000, 300, stream));
    assert_ok(cuMemcpyHtoDAsync_v2(device, b, 4, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(a + 16, device, 4, stream));
    vgpu_channel_read_statistics(vgpu_cuda.channel, &after);
    assert_int_equal(after.posts - before.posts, 4);
    assert_int_equal(after.calls, before.calls);
    fake_channel_stop(false);
    assert_ok(cuStreamSynchronize(stream));
    assert_memory_equal(b, a + 1000, 300);
    assert_memory_equal(a + 16, b, 4);
    assert_ok(cuMemFreeHost(a));
    assert_ok(cuMemFreeHost(b));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_ok(cuMemFree_v2(device));
    assert_int_equal(fake_channel_strays(), 0);
}

/* C11: freeing waits for what still uses the memory, which then may be somebody else's. */
static void test_free_waits(void **state)
{
    (void)state;
    CUdeviceptr device;
    uint8_t *host = new_bytes(300 * KIB);
    assert_ok(cuMemAlloc_v2(&device, 600 * KIB));
    fake_channel_set_lag(30);
    for (int i = 0; i < 40; i++) {
        size_t bytes = i % 2 ? 600 * KIB : 100 * KIB; /* shared and not */
        uint8_t *pinned;
        assert_ok(cuMemAllocHost_v2((void **)&pinned, bytes));
        memset(pinned, i + 1, bytes);
        assert_ok(cuMemcpyHtoDAsync_v2(device, pinned, bytes, NULL));
        assert_ok(cuMemFreeHost(pinned));
        assert_ok(cuMemAllocHost_v2((void **)&pinned, bytes));
        memset(pinned, 0xaa, bytes);
        assert_ok(cuMemcpyDtoH_v2(host, device, 100 * KIB));
        for (size_t at = 0; at < 100 * KIB; at += 997)
            assert_int_equal(host[at], i + 1);
        assert_ok(cuMemFreeHost(pinned));
    }
    assert_ok(cuMemFree_v2(device));
    free(host);
}

/* C11: what there is of the arena is used, then memory is ordinary; it all comes back. */
static void test_exhaustion(void **state)
{
    (void)state;
    enum { BLOCKS = 100 };
    uint8_t *block[BLOCKS], *back = new_bytes(MIB);
    CUdeviceptr device;
    unsigned in_window = 0;
    uint64_t before = fake_channel_arena_used();
    assert_ok(cuMemAlloc_v2(&device, MIB));
    for (int i = 0; i < BLOCKS; i++) {
        assert_ok(cuMemAllocHost_v2((void **)&block[i], MIB));
        memset(block[i], i, MIB);
        in_window += fake_channel_offset(block[i]) != UINT64_MAX;
    }
    assert_in_range(in_window, 20, 40);
    for (int i = 0; i < BLOCKS; i++) {
        assert_ok(cuMemcpyHtoDAsync_v2(device, block[i], MIB, NULL));
        assert_ok(cuMemcpyDtoH_v2(back, device, MIB));
        assert_memory_equal(back, block[i], MIB);
    }
    for (int i = 0; i < BLOCKS; i++)
        assert_ok(cuMemFreeHost(block[(i * 37) % BLOCKS]));
    assert_result(cuMemFreeHost(block[0]), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(fake_channel_arena_used(), before); /* staging had no room to ask for */
    assert_ok(cuMemFree_v2(device));
    free(back);
}

/* C11: small ones share extents; none overlap, and the extents go back. */
static void test_small(void **state)
{
    (void)state;
    enum { SMALL = 3000 };
    static uint8_t *small[SMALL];
    static size_t size[SMALL];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SMALL; i++) {
            if (small[i] && next_random() % 2) {
                for (size_t at = 0; at < size[i]; at += 511)
                    assert_int_equal(small[i][at], (uint8_t)i);
                assert_ok(cuMemFreeHost(small[i]));
                small[i] = NULL;
            }
            if (!small[i]) {
                size[i] = 1 + next_random() % (next_random() % 8 ? 9000 : 60000);
                assert_ok(cuMemAllocHost_v2((void **)&small[i], size[i]));
                assert_int_equal((uintptr_t)small[i] % 4096, 0);
                memset(small[i], i, size[i]);
            }
        }
    }
    assert_in_range(fake_channel_arena_extents(), 1, 64);
    for (int i = 0; i < SMALL; i++) {
        assert_int_equal(small[i][size[i] - 1], (uint8_t)i);
        assert_ok(cuMemFreeHost(small[i]));
        small[i] = NULL;
    }
    assert_in_range(fake_channel_arena_used(), 0, 2 * MIB); /* one is kept */
}

/* C11: bytes beyond an allocation's end are no pinned memory. */
static void test_beyond(void **state)
{
    (void)state;
    CUdeviceptr device;
    uint8_t *pinned;
    CUdeviceptr start;
    unsigned type;
    assert_ok(cuMemAlloc_v2(&device, 2 * MIB));
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 5000));
    assert_ok(cuMemcpyHtoD_v2(device, pinned, 5000));
    assert_int_equal(fake_count(VGPU_CALL_COPY_WINDOW_TO_DEVICE), 1);
    assert_ok(cuMemcpyHtoD_v2(device, pinned, 5001));
    assert_int_equal(fake_count(VGPU_CALL_COPY_WINDOW_TO_DEVICE), 1);
    assert_ok(
        cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)pinned + 4999));
    assert_int_equal(type, CU_MEMORYTYPE_HOST);
    assert_ok(cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                    (uintptr_t)pinned + 4999));
    assert_int_equal(start, (uintptr_t)pinned);
    assert_result(
        cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)pinned + 5000),
        CUDA_ERROR_INVALID_VALUE);
    assert_result(cuMemHostRegister_v2(pinned + 100, 100, 0),
                  CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuMemFree_v2(device));
}

/* C3, C11: memory that copies of several contexts use is free when all of them are done. */
static void test_contexts(void **state)
{
    (void)state;
    enum { CONTEXTS = 4 };
    CUcontext context[CONTEXTS], primary;
    CUdeviceptr device[CONTEXTS];
    uint8_t *pinned;
    assert_ok(cuCtxGetCurrent(&primary));
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 64 * KIB));
    memset(pinned, 0x77, 64 * KIB);
    fake_channel_set_lag(40);
    for (int i = 0; i < CONTEXTS; i++) {
        assert_ok(cuCtxCreate_v2(&context[i], 0, 0));
        assert_ok(cuMemAlloc_v2(&device[i], 64 * KIB));
        assert_ok(cuMemcpyHtoDAsync_v2(device[i], pinned, 64 * KIB, NULL));
    }
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 64 * KIB));
    memset(pinned, 0, 64 * KIB);
    assert_ok(cuCtxSynchronize());
    for (int i = 0; i < CONTEXTS; i++)
        for (size_t at = 0; at < 64 * KIB; at++)
            assert_int_equal(*fake_memory(device[i] + at), 0x77);
    /* Copies in flight when a context goes leave nothing behind. */
    assert_ok(cuMemcpyHtoDAsync_v2(device[CONTEXTS - 1], pinned, 64 * KIB, NULL));
    for (int i = CONTEXTS; i-- > 0;)
        assert_ok(cuCtxDestroy_v2(context[i]));
    assert_ok(cuCtxSetCurrent(primary));
    fake_fail(VGPU_CALL_CONTEXT_SYNCHRONIZE, CUDA_ERROR_INVALID_CONTEXT, "", 1); /* it is gone */
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuCtxSynchronize());
    /* A failure that was told to the wait is told to the program, and was waited for all the same.
     */
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 64 * KIB));
    assert_ok(cuMemAlloc_v2(&device[0], 64 * KIB));
    fake_fail(VGPU_CALL_MEMORY_SET, CUDA_ERROR_INVALID_VALUE, "", 1);
    assert_ok(cuMemsetD8_v2(device[0], 1, 10));
    assert_ok(cuMemcpyHtoDAsync_v2(device[0], pinned, 64 * KIB, NULL));
    unsigned before = fake_count(VGPU_CALL_CONTEXT_SYNCHRONIZE);
    assert_ok(cuMemFreeHost(pinned));
    assert_int_equal(fake_count(VGPU_CALL_CONTEXT_SYNCHRONIZE), before + 1);
    assert_int_equal(fake_count(VGPU_CALL_COPY_WINDOW_TO_DEVICE), 6);
    assert_result(cuCtxSynchronize(), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuCtxSynchronize());
    assert_ok(cuMemFree_v2(device[0]));
}

int main(void)
{
#define CHANNEL_TEST(f)                                                                            \
    cmocka_unit_test_setup_teardown(f, fake_channel_setup, fake_channel_teardown)
    const struct CMUnitTest tests[] = {
        CHANNEL_TEST(test_pinned_async), CHANNEL_TEST(test_free_waits),
        CHANNEL_TEST(test_exhaustion),   CHANNEL_TEST(test_small),
        CHANNEL_TEST(test_beyond),       CHANNEL_TEST(test_contexts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
