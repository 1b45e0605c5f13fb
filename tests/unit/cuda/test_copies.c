/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md C10 with a channel (docs/ring.md, G13): how the bytes of copies travel,
 * against a host that lags behind like a GPU. */
#include <string.h>

#include "bytes.h"
#include "fake_channel.h"

/* Copies there and back, at places that are not aligned to anything. */
static void there_and_back(CUdeviceptr device, size_t room, size_t bytes, uint8_t *host,
                           uint8_t *back, CUstream stream)
{
    size_t at = next_random() % 64, from = next_random() % 64, to = next_random() % 64;
    assert_true(at + bytes <= room);
    scramble(host + from, bytes < 4096 ? bytes : 4096);
    host[from + bytes - 1] = (uint8_t)next_random();
    host[from + next_random() % bytes] ^= 0x55;
    memset(back, 0xee, bytes + 128);
    if (next_random() % 2)
        assert_ok(cuMemcpyHtoD_v2(device + at, host + from, bytes));
    else
        assert_ok(cuMemcpyHtoDAsync_v2(device + at, host + from, bytes, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back + to, device + at, bytes, stream));
    assert_memory_equal(back + to, host + from, bytes);
    for (size_t i = 0; i < to; i++)
        assert_int_equal(back[i], 0xee);
    assert_int_equal(back[to + bytes], 0xee);
}

/* C10: every class of size both ways, with pieces that wrap round the staging. */
static void test_sizes(void **state)
{
    (void)state;
    const size_t sizes[] = {
        1,       4,       40,          959,          960,       961,           8191,
        8192,    8193,    32 * KIB,    32 * KIB + 1, 128 * KIB, 128 * KIB + 1, 300 * KIB,
        MIB + 3, 3 * MIB, 9 * MIB + 17};
    const size_t room = 12 * MIB;
    CUdeviceptr device;
    uint8_t *host = new_bytes(room), *back = new_bytes(room);
    scramble(host, room);
    assert_ok(cuMemAlloc_v2(&device, room));
    for (unsigned lag = 0; lag < 48; lag += 23) {
        fake_channel_set_lag(lag);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            there_and_back(device, room, sizes[i], host, back, CU_STREAM_LEGACY);
        strcpy(vgpu_cuda.info.backend, "software"); /* which has smaller pieces */
    }
    assert_int_equal(fake_channel_strays(), 0);
    assert_ok(cuMemFree_v2(device));
    free(host);
    free(back);
}

/* C10: to the device, the source may be changed as soon as the call has returned. */
static void test_source_is_read(void **state)
{
    (void)state;
    enum { PIECES = 300, BYTES = 40 * 1024 };
    CUdeviceptr device;
    uint8_t *host = new_bytes(BYTES), *back = new_bytes(BYTES);
    assert_ok(cuMemAlloc_v2(&device, (size_t)PIECES * BYTES));
    fake_channel_set_lag(40);
    for (int i = 0; i < PIECES; i++) {
        memset(host, i, BYTES);
        assert_ok(cuMemcpyHtoDAsync_v2(device + (CUdeviceptr)i * BYTES, host, BYTES, NULL));
    }
    for (int i = 0; i < PIECES; i++) {
        memset(host, i, BYTES);
        assert_ok(cuMemcpyDtoH_v2(back, device + (CUdeviceptr)i * BYTES, BYTES));
        assert_memory_equal(back, host, BYTES);
    }
    assert_ok(cuMemFree_v2(device));
    free(host);
    free(back);
}

/* A small copy is one record, and none waits for an answer that it does not need. */
static void test_records(void **state)
{
    (void)state;
    struct vgpu_channel_statistics before, after;
    CUdeviceptr device;
    uint8_t bytes[8192] = {1};
    assert_ok(cuMemAlloc_v2(&device, sizeof(bytes)));
    vgpu_channel_read_statistics(vgpu_cuda.channel, &before);
    assert_ok(cuMemcpyHtoD_v2(device, bytes, 4));
    assert_ok(cuMemcpyHtoD_v2(device, bytes, 8192));
    vgpu_channel_read_statistics(vgpu_cuda.channel, &after);
    assert_int_equal(after.posts - before.posts, 2);
    assert_int_equal(after.calls, before.calls);
    assert_ok(cuMemcpyDtoH_v2(bytes, device, 4));
    vgpu_channel_read_statistics(vgpu_cuda.channel, &before);
    assert_int_equal(before.calls - after.calls, 1);
    assert_ok(cuMemFree_v2(device));
}

/* One side of a box in host memory or on the device, and where its bytes are. */
static void fill_box(CUDA_MEMCPY3D *c, uint8_t *host, CUdeviceptr device, bool to_device)
{
    c->WidthInBytes = 1 + next_random() % (next_random() % 3 ? 300 : 200000);
    c->Height = 1 + next_random() % (c->WidthInBytes > 3000 ? 3 : 40);
    c->Depth = 1 + next_random() % 5;
    size_t host_x = next_random() % 20, host_y = next_random() % 3, host_z = next_random() % 2;
    size_t device_x = next_random() % 20, device_y = next_random() % 3,
           device_z = next_random() % 2;
    bool tight = next_random() % 3 == 0; /* no gaps: boxes that are one row */
    size_t host_pitch = tight ? 0 : c->WidthInBytes + host_x + next_random() % 50;
    size_t device_pitch = tight ? 0 : c->WidthInBytes + device_x + next_random() % 50;
    size_t host_rows = tight ? 0 : c->Height + host_y + next_random() % 3;
    size_t device_rows = tight ? 0 : c->Height + device_y + next_random() % 3;
    if (tight)
        host_x = host_y = host_z = device_x = device_y = device_z = 0;
    if (to_device) {
        c->srcMemoryType = CU_MEMORYTYPE_HOST, c->srcHost = host;
        c->srcXInBytes = host_x, c->srcY = host_y, c->srcZ = host_z;
        c->srcPitch = host_pitch, c->srcHeight = host_rows;
        c->dstMemoryType = CU_MEMORYTYPE_DEVICE, c->dstDevice = device;
        c->dstXInBytes = device_x, c->dstY = device_y, c->dstZ = device_z;
        c->dstPitch = device_pitch, c->dstHeight = device_rows;
    } else {
        c->dstMemoryType = CU_MEMORYTYPE_HOST, c->dstHost = host;
        c->dstXInBytes = host_x, c->dstY = host_y, c->dstZ = host_z;
        c->dstPitch = host_pitch, c->dstHeight = host_rows;
        c->srcMemoryType = CU_MEMORYTYPE_DEVICE, c->srcDevice = device;
        c->srcXInBytes = device_x, c->srcY = device_y, c->srcZ = device_z;
        c->srcPitch = device_pitch, c->srcHeight = device_rows;
    }
}

/* What the copy does, on plain memory. */
static void box_by_hand(const CUDA_MEMCPY3D *c, uint8_t *to, const uint8_t *from)
{
    size_t to_pitch = c->dstPitch ? c->dstPitch : c->dstXInBytes + c->WidthInBytes;
    size_t from_pitch = c->srcPitch ? c->srcPitch : c->srcXInBytes + c->WidthInBytes;
    size_t to_rows = c->dstHeight ? c->dstHeight : c->dstY + c->Height;
    size_t from_rows = c->srcHeight ? c->srcHeight : c->srcY + c->Height;
    for (size_t z = 0; z < c->Depth; z++)
        for (size_t y = 0; y < c->Height; y++)
            memcpy(to + ((c->dstZ + z) * to_rows + c->dstY + y) * to_pitch + c->dstXInBytes,
                   from + ((c->srcZ + z) * from_rows + c->srcY + y) * from_pitch + c->srcXInBytes,
                   c->WidthInBytes);
}

static void run_boxes(uint8_t *host, size_t room, unsigned times)
{
    CUdeviceptr device;
    uint8_t *mirror = new_bytes(room);
    assert_ok(cuMemAlloc_v2(&device, room));
    fake_channel_set_lag(20);
    for (unsigned i = 0; i < times; i++) {
        CUDA_MEMCPY3D c = {0};
        bool to_device = i % 2 == 0;
        fill_box(&c, host, device, to_device);
        /* What is not copied stays as it was. */
        assert_ok(cuCtxSynchronize());
        scramble(host, 3000);
        memcpy(mirror, to_device ? fake_memory(device) : host, room);
        if (i % 3) {
            assert_ok(cuMemcpy3D_v2(&c));
        } else {
            assert_ok(cuMemcpy3DAsync_v2(&c, CU_STREAM_PER_THREAD));
            assert_ok(cuStreamSynchronize(CU_STREAM_PER_THREAD));
        }
        if (to_device)
            assert_ok(cuCtxSynchronize());
        box_by_hand(&c, mirror, to_device ? host : fake_memory(device));
        assert_memory_equal(to_device ? fake_memory(device) : host, mirror, room);
    }
    assert_int_equal(fake_channel_strays(), 0);
    assert_ok(cuMemFree_v2(device));
    free(mirror);
}

/* C10: boxes through staging: rows and slices packed, and wide rows in parts. */
static void test_boxes(void **state)
{
    (void)state;
    const size_t room = 8 * MIB;
    uint8_t *host = new_bytes(room);
    scramble(host, room);
    run_boxes(host, room, 60);
    free(host);
}

/* C11: the same from and to pinned memory: one call each, and nothing is copied here. */
static void test_pinned_boxes(void **state)
{
    (void)state;
    const size_t room = 8 * MIB;
    void *host;
    assert_ok(cuMemAllocHost_v2(&host, room));
    assert_int_not_equal(fake_channel_offset(host), UINT64_MAX);
    scramble(host, room);
    run_boxes(host, room, 60);
    assert_ok(cuMemFreeHost(host));
}

static void copy_array(CUarray array, uint8_t *host, size_t pitch, size_t width, size_t height,
                       size_t x, size_t y, bool write)
{
    CUDA_MEMCPY2D p = {.WidthInBytes = width, .Height = height};
    if (write) {
        p.srcMemoryType = CU_MEMORYTYPE_HOST, p.srcHost = host, p.srcPitch = pitch;
        p.dstMemoryType = CU_MEMORYTYPE_ARRAY, p.dstArray = array;
        p.dstXInBytes = x, p.dstY = y;
    } else {
        p.dstMemoryType = CU_MEMORYTYPE_HOST, p.dstHost = host, p.dstPitch = pitch;
        p.srcMemoryType = CU_MEMORYTYPE_ARRAY, p.srcArray = array;
        p.srcXInBytes = x, p.srcY = y;
    }
    assert_ok(cuMemcpy2D_v2(&p));
}

/* C10: arrays, from both kinds of memory, by the window when they are more than a record holds. */
static void test_arrays(void **state)
{
    (void)state;
    const CUDA_ARRAY_DESCRIPTOR d = {2000, 60, CU_AD_FORMAT_FLOAT, 1};
    const size_t pitch = 8100, width = 7996, height = 59;
    CUarray array;
    void *pinned;
    uint8_t *ordinary = new_bytes(pitch * height);
    assert_ok(cuMemAllocHost_v2(&pinned, pitch * height));
    assert_ok(cuArrayCreate_v2(&array, &d));
    for (int i = 0; i < 2; i++) {
        uint8_t *host = i ? pinned : ordinary;
        uint8_t *other = i ? ordinary : pinned;
        scramble(host, pitch * height);
        memset(other, 0, pitch * height);
        copy_array(array, host, pitch, width, height, 4, 1, true);
        assert_ok(cuCtxSynchronize());
        for (size_t y = 0; y < height; y++)
            assert_memory_equal(fake_memory(fake_array_at(4, y + 1, 0)), host + y * pitch, width);
        copy_array(array, other, pitch, width, height, 4, 1, false);
        for (size_t y = 0; y < height; y++)
            assert_memory_equal(other + y * pitch, host + y * pitch, width);
    }
    assert_int_equal(fake_count(VGPU_CALL_ARRAY_WRITE) + fake_count(VGPU_CALL_ARRAY_READ), 0);
    assert_int_equal(fake_channel_strays(), 0);
    /* A small one goes inside of a record. */
    copy_array(array, ordinary, 100, 100, 8, 0, 0, true);
    assert_ok(cuCtxSynchronize());
    assert_int_equal(fake_count(VGPU_CALL_ARRAY_WRITE), 1);
    assert_ok(cuArrayDestroy(array));
    assert_ok(cuMemFreeHost(pinned));
    free(ordinary);
}

/* C10: what failed on the way is told by a copy to the host, and a copy through staging takes no
 * failure from the program's own calls. */
static void test_failures(void **state)
{
    (void)state;
    CUdeviceptr device;
    uint8_t *host = new_bytes(MIB);
    scramble(host, MIB);
    assert_ok(cuMemAlloc_v2(&device, MIB));
    fake_fail(VGPU_CALL_MEMORY_SET, CUDA_ERROR_INVALID_VALUE, "", 1);
    assert_ok(cuMemsetD8_v2(device, 1, 100));
    for (int i = 0; i < 20; i++)
        assert_ok(cuMemcpyHtoD_v2(device, host, MIB));
    assert_result(cuStreamSynchronize(NULL), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuStreamSynchronize(NULL));
    fake_fail(VGPU_CALL_COPY_DEVICE_TO_WINDOW, CUDA_ERROR_INVALID_VALUE, "", 1);
    assert_result(cuMemcpyDtoH_v2(host, device, MIB), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemcpyDtoH_v2(host, device, MIB));
    fake_fail(VGPU_CALL_COPY_WINDOW_TO_DEVICE, CUDA_ERROR_INVALID_VALUE, "", 1);
    assert_ok(cuMemcpyHtoD_v2(device, host, MIB));
    assert_result(cuMemcpyDtoH_v2(host, device, MIB), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemcpyDtoH_v2(host, device, MIB));
    assert_ok(cuMemFree_v2(device));
    free(host);
}

int main(void)
{
    setenv("VGPU_COPY_THREADS", "3", 1); /* also where there are few processors */
#define CHANNEL_TEST(f)                                                                            \
    cmocka_unit_test_setup_teardown(f, fake_channel_setup, fake_channel_teardown)
    const struct CMUnitTest tests[] = {
        CHANNEL_TEST(test_sizes),    CHANNEL_TEST(test_source_is_read), CHANNEL_TEST(test_records),
        CHANNEL_TEST(test_boxes),    CHANNEL_TEST(test_pinned_boxes),   CHANNEL_TEST(test_arrays),
        CHANNEL_TEST(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
