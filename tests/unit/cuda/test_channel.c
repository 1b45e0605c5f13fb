/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md with a channel (docs/ring.md): C5, C8, C10 to C13 and C18, against a host that
 * lags behind like a GPU. */
#include "fake_channel.h"

#include <stdlib.h>
#include <string.h>

#define KIB 1024u
#define MIB (1024u * KIB)

static uint64_t seed = 88172645463325252u;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static void scramble(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)next_random();
}

static uint8_t *new_bytes(size_t length)
{
    uint8_t *bytes = malloc(length);
    assert_non_null(bytes);
    return bytes;
}

/* ---- Calls ---- */

static CUfunction get_function(void)
{
    CUmodule module;
    CUfunction function;
    assert_ok(cuModuleLoadData(&module, ".version 7.0\n.target sm_70\n.address_size 64\n"));
    assert_ok(cuModuleGetFunction(&function, module, "f"));
    return function;
}

/* C8: a launch is one record that nobody waits for, the same as by the mailbox. */
static void test_launch(void **state)
{
    (void)state;
    struct vgpu_channel_statistics before, after;
    CUfunction f = get_function();
    uint64_t x = 0x1122334455667788u;
    uint32_t n = 77;
    void *params[] = {&x, &n};
    fake_channel_stop(true); /* so it cannot be waiting for anybody */
    vgpu_channel_read_statistics(vgpu_cuda.channel, &before);
    for (int i = 0; i < 100; i++)
        assert_ok(cuLaunchKernel(f, 3, 2, 1, 64, 1, 1, 128, NULL, params, NULL));
    vgpu_channel_read_statistics(vgpu_cuda.channel, &after);
    assert_int_equal(after.posts - before.posts, 100);
    assert_int_equal(after.calls, before.calls);
    fake_channel_stop(false);
    assert_ok(cuCtxSynchronize());
    assert_int_equal(fake_count(VGPU_CALL_LAUNCH), 100);
    struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
    const uint64_t want[] = {3, 2, 1, 64, 1, 1, 128, 0, 0};
    assert_memory_equal(r.in + 2, want, sizeof(want));
    assert_int_equal(r.length, 12);
    assert_memory_equal(r.data, &x, 8);
    assert_memory_equal(r.data + 8, &n, 4);
}

/* C8: gaps between parameters are zero, whatever was on the stack. */
static void test_argument_gaps(void **state)
{
    (void)state;
    const struct vgpu_param_layout layout[] = {{0, 1}, {16, 8}, {40, 3}};
    static const uint8_t zero[64];
    uint8_t a = 1, c[3] = {3, 3, 3};
    uint64_t b = 2;
    void *params[] = {&a, &b, c};
    fake_set_function(3, layout, 64, 1024, 49152);
    CUfunction f = get_function();
    uint8_t dirt[8192];
    memset(dirt, 0xff, sizeof(dirt));
    __asm__ volatile("" : : "r"(dirt) : "memory");
    assert_ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
    assert_ok(cuCtxSynchronize());
    struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
    assert_int_equal(r.length, 64);
    assert_memory_equal(r.data + 1, zero, 15);
    assert_memory_equal(r.data + 24, zero, 16);
    assert_memory_equal(r.data + 43, zero, 21);
    assert_int_equal(r.data[42], 3);
}

/* C8: arguments of more bytes than the stack has for them, and than a record holds. */
static void test_large_arguments(void **state)
{
    (void)state;
    const uint32_t sizes[] = {4096, 4097, 12000, 32764};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct vgpu_param_layout layout[] = {{0, sizes[i]}};
        uint8_t *argument = new_bytes(sizes[i]);
        void *params[] = {argument};
        scramble(argument, sizes[i]);
        fake_set_function(1, layout, sizes[i], 1024, 49152);
        CUmodule module;
        CUfunction f;
        assert_ok(cuModuleLoadData(&module, ".version 7.0\n.target sm_70\n.address_size 64\n"));
        assert_ok(cuModuleGetFunction(&f, module, "f"));
        assert_ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
        assert_ok(cuCtxSynchronize());
        struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
        bool staged = sizes[i] > 16000;
        assert_int_equal(r.length, staged ? 0 : sizes[i]);
        assert_int_equal(r.staged, 0);
        if (staged)
            assert_int_not_equal(r.in[10], 0);
        else
            assert_memory_equal(r.data, argument, sizeof(r.data));
        free(argument);
    }
}

/* C5: a status and its text, and an answer's slots. */
static void test_answers(void **state)
{
    (void)state;
    size_t free_bytes, total;
    CUmodule module;
    char log[64] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof(log)};
    assert_ok(cuMemGetInfo_v2(&free_bytes, &total));
    fake_fail(VGPU_CALL_MODULE_LOAD, CUDA_ERROR_INVALID_PTX, "line 3: no", 1);
    assert_result(cuModuleLoadDataEx(&module, ".version 7.0\n.target sm_70\n", 2, options, values),
                  CUDA_ERROR_INVALID_PTX);
    assert_string_equal(log, "line 3: no");
    /* C5: a posted call's failure is told once, by a call that reports. */
    fake_fail(VGPU_CALL_MEMORY_SET, CUDA_ERROR_INVALID_VALUE, "", 1);
    CUdeviceptr a;
    assert_ok(cuMemAlloc_v2(&a, 4096));
    assert_ok(cuMemsetD8_v2(a, 1, 100));
    assert_result(cuCtxSynchronize(), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuCtxSynchronize());
    assert_ok(cuMemFree_v2(a));
}

/* ---- Copies ---- */

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

/* ---- Pinned memory ---- */

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
    assert_ok(cuMemFreeHost(pinned));
}

/* ---- Order ---- */

static _Atomic int gate;

static void wait_for_gate(void *data)
{
    while (!atomic_load(&gate))
        ;
    *(volatile uint8_t *)data = 0x42;
}

/* C12: behind a callback, pinned memory is read when its turn comes, other memory at once; also
 * when the copy goes through staging. */
static void test_held(void **state)
{
    (void)state;
    CUdeviceptr device;
    CUstream stream;
    uint8_t *pinned, *back, *ordinary = new_bytes(MIB);
    assert_ok(cuMemAllocHost_v2((void **)&pinned, MIB));
    assert_ok(cuMemAllocHost_v2((void **)&back, MIB));
    assert_ok(cuMemAlloc_v2(&device, 2 * MIB));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    atomic_store(&gate, 0);
    memset(pinned, 1, MIB);
    memset(ordinary, 2, MIB);
    assert_ok(cuLaunchHostFunc(stream, wait_for_gate, pinned));
    assert_ok(cuMemcpyHtoDAsync_v2(device, pinned, MIB, stream));
    assert_ok(cuMemcpyHtoDAsync_v2(device + MIB, ordinary, MIB, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back, device, MIB, stream));
    memset(ordinary, 3, MIB);
    assert_result(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    atomic_store(&gate, 1);
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(back[0], 0x42);
    assert_int_equal(back[MIB - 1], 1);
    assert_int_equal(*fake_memory(device + MIB), 2);
    assert_int_equal(*fake_memory(device + 2 * MIB - 1), 2);
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuMemFreeHost(back));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_ok(cuMemFree_v2(device));
    free(ordinary);
}

/* C16: a captured copy of pinned memory is a node that reads it when it is launched. */
static void test_captured(void **state)
{
    (void)state;
    CUdeviceptr device;
    CUstream stream;
    CUgraph graph;
    CUgraphExec exec;
    uint8_t *pinned, *back;
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 20000));
    assert_ok(cuMemAllocHost_v2((void **)&back, 20000));
    assert_ok(cuMemAlloc_v2(&device, 20000));
    assert_ok(cuStreamCreate(&stream, 0));
    assert_ok(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    assert_ok(cuMemcpyHtoDAsync_v2(device, pinned, 20000, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back, device, 20000, stream));
    assert_ok(cuStreamEndCapture(stream, &graph));
    assert_ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int i = 1; i < 5; i++) {
        memset(pinned, i, 20000);
        assert_ok(cuGraphLaunch(exec, stream));
        assert_ok(cuStreamSynchronize(stream));
        assert_int_equal(back[0], i);
        assert_int_equal(back[19999], i);
    }
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuGraphDestroy(graph));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_ok(cuMemFreeHost(pinned));
    assert_ok(cuMemFreeHost(back));
    assert_ok(cuMemFree_v2(device));
}

/* ---- Threads ---- */

struct worker {
    CUcontext context;
    CUfunction function;
    CUdeviceptr device;
    unsigned number;
    unsigned bad;
};

enum { THREADS = 4, ROUNDS = 40, THREAD_BYTES = 700 * 1024 };

static void *copy_and_launch(void *data)
{
    struct worker *w = data;
    CUstream stream;
    uint8_t *ordinary = malloc(THREAD_BYTES), *back = malloc(THREAD_BYTES), *pinned = NULL;
    uint64_t x = 1;
    uint32_t n = 2;
    void *params[] = {&x, &n};
    w->bad += !ordinary || !back || cuCtxSetCurrent(w->context) != CUDA_SUCCESS ||
              cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
              cuMemAllocHost_v2((void **)&pinned, THREAD_BYTES) != CUDA_SUCCESS;
    for (unsigned i = 0; i < ROUNDS && !w->bad; i++) {
        size_t bytes = i % 4 == 0 ? 900 : i % 4 == 1 ? 9000 : i % 4 == 2 ? 60000 : THREAD_BYTES;
        uint8_t *from = i % 3 ? ordinary : pinned;
        memset(from, (int)(w->number * 50 + i), bytes);
        w->bad += cuMemcpyHtoDAsync_v2(w->device, from, bytes, stream) != CUDA_SUCCESS;
        w->bad +=
            cuLaunchKernel(w->function, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL) != CUDA_SUCCESS;
        w->bad += cuMemcpyDtoHAsync_v2(back, w->device, bytes, stream) != CUDA_SUCCESS;
        w->bad += cuStreamSynchronize(stream) != CUDA_SUCCESS;
        memset(ordinary, (int)(w->number * 50 + i), bytes);
        w->bad += memcmp(back, ordinary, bytes) != 0;
    }
    if (!w->bad)
        w->bad +=
            cuMemFreeHost(pinned) != CUDA_SUCCESS || cuStreamDestroy_v2(stream) != CUDA_SUCCESS;
    free(ordinary);
    free(back);
    return NULL;
}

/* C13 */
static void test_threads(void **state)
{
    (void)state;
    struct worker worker[THREADS] = {0};
    pthread_t thread[THREADS];
    CUcontext context;
    assert_ok(cuCtxGetCurrent(&context));
    CUfunction function = get_function();
    fake_channel_set_lag(10);
    for (unsigned i = 0; i < THREADS; i++) {
        worker[i].context = context;
        worker[i].function = function;
        worker[i].number = i;
        assert_ok(cuMemAlloc_v2(&worker[i].device, THREAD_BYTES));
        assert_int_equal(pthread_create(&thread[i], NULL, copy_and_launch, &worker[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(worker[i].bad, 0);
    }
    assert_int_equal(fake_count(VGPU_CALL_LAUNCH), THREADS * ROUNDS);
    assert_int_equal(fake_channel_strays(), 0);
}

/* ---- The end ---- */

static void *kill_soon(void *unused)
{
    (void)unused;
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    fake_channel_kill();
    return NULL;
}

/* C5, G20: a channel that dies under copies ends them, and every later call says so at once. */
static void test_death(void **state)
{
    (void)state;
    pthread_t killer;
    CUdeviceptr device;
    void *pinned;
    uint8_t *host = new_bytes(4 * MIB);
    scramble(host, 4 * MIB);
    assert_ok(cuMemAlloc_v2(&device, 4 * MIB));
    assert_ok(cuMemAllocHost_v2(&pinned, MIB));
    assert_int_equal(pthread_create(&killer, NULL, kill_soon, NULL), 0);
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < 1000000 && result == CUDA_SUCCESS; i++) {
        result = cuMemcpyHtoD_v2(device, host, 4 * MIB);
        if (result == CUDA_SUCCESS)
            result = cuMemcpyDtoH_v2(host, device, 4 * MIB);
    }
    assert_int_equal(pthread_join(killer, NULL), 0);
    assert_result(result, CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_result(cuMemcpyHtoD_v2(device, host, 4), CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_result(cuMemcpyDtoH_v2(host, device, 4 * MIB), CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_result(cuCtxSynchronize(), CUDA_ERROR_DEVICE_UNAVAILABLE);
    ((uint8_t *)pinned)[5] = 1; /* still the program's to touch */
    free(host);
}

/* C5: a session whose worker died says what of, in every call from then on. */
static void test_cause_of_death(void **state)
{
    (void)state;
    CUdeviceptr device;
    assert_ok(cuMemAlloc_v2(&device, 4096));
    fake_set_lost(CUDA_ERROR_LAUNCH_FAILED);
    fake_channel_kill();
    assert_result(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
    assert_result(cuMemcpyHtoD_v2(device, &device, 8), CUDA_ERROR_LAUNCH_FAILED);
}

int main(void)
{
#define CHANNEL_TEST(f)                                                                            \
    cmocka_unit_test_setup_teardown(f, fake_channel_setup, fake_channel_teardown)
    const struct CMUnitTest tests[] = {
        CHANNEL_TEST(test_launch),          CHANNEL_TEST(test_argument_gaps),
        CHANNEL_TEST(test_large_arguments), CHANNEL_TEST(test_answers),
        CHANNEL_TEST(test_sizes),           CHANNEL_TEST(test_source_is_read),
        CHANNEL_TEST(test_records),         CHANNEL_TEST(test_boxes),
        CHANNEL_TEST(test_pinned_boxes),    CHANNEL_TEST(test_arrays),
        CHANNEL_TEST(test_failures),        CHANNEL_TEST(test_pinned_async),
        CHANNEL_TEST(test_free_waits),      CHANNEL_TEST(test_exhaustion),
        CHANNEL_TEST(test_small),           CHANNEL_TEST(test_beyond),
        CHANNEL_TEST(test_contexts),        CHANNEL_TEST(test_held),
        CHANNEL_TEST(test_captured),        CHANNEL_TEST(test_threads),
        CHANNEL_TEST(test_cause_of_death),  CHANNEL_TEST(test_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
