/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies as CUDA programs make them, against what plain memory says they are: every size class at
 * odd addresses, boxes, arrays, pinned pipelines, several threads and streams, more pinned memory
 * than there is room for, and ends with copies in flight. Runs on NVIDIA's driver, too.
 *
 *     copies KERNELS.ptx [ROUNDS [SEED]]
 *
 * Prints a line for each part; exit status 0: all was right. Contents are random, SEED repeats
 * them.
 */
#include <cuda.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static CUdevice device;
static CUcontext context;
static CUmodule module;
static char *ptx;
static unsigned rounds = 10;
static __thread uint64_t seed = 88172645463325252u;

static void check(CUresult r, const char *what, int line)
{
    const char *name = "?";
    if (r == CUDA_SUCCESS)
        return;
    cuGetErrorName(r, &name);
    fprintf(stderr, "copies: line %d: %s: %s\n", line, what, name);
    _exit(1);
}
#define CK(call) check(call, #call, __LINE__)
#define WANT(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "copies: line %d: not %s\n", __LINE__, #condition);                    \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static void scramble(void *bytes, size_t length)
{
    for (uint8_t *at = bytes, *end = at + length; at < end; at++)
        *at = (uint8_t)next_random();
}

static void *new_bytes(size_t length)
{
    void *bytes = malloc(length);
    WANT(bytes);
    scramble(bytes, length);
    return bytes;
}

static CUfunction function(const char *name)
{
    CUfunction f;
    CK(cuModuleGetFunction(&f, module, name));
    return f;
}

static void start(void)
{
    CK(cuDevicePrimaryCtxRetain(&context, device));
    CK(cuCtxSetCurrent(context));
    CK(cuModuleLoadData(&module, ptx));
}

/* ---- One row ---- */

static void rows(uint8_t *host, uint8_t *back, size_t room, const char *what)
{
    static const size_t sizes[] = {1,         3,           40,          960,      961,
                                   8 * KIB,   8 * KIB + 1, 31 * KIB,    40 * KIB, 128 * KIB,
                                   129 * KIB, MIB - 1,     5 * MIB + 7, 13 * MIB};
    CUdeviceptr p;
    CUstream stream;
    CK(cuMemAlloc(&p, room));
    CK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && sizes[i] + 256 <= room; i++) {
        size_t n = sizes[i], at = next_random() % 128, from = next_random() % 128;
        size_t to = next_random() % 128;
        scramble(host + from, n < 9000 ? n : 9000);
        host[from + n - 1] ^= 0x5a;
        memset(back, 0xee, n + 256);
        if (next_random() % 2) {
            CK(cuMemcpyHtoDAsync(p + at, host + from, n, stream));
            CK(cuMemcpyDtoHAsync(back + to, p + at, n, stream));
            CK(cuStreamSynchronize(stream));
        } else {
            CK(cuMemcpyHtoD(p + at, host + from, n));
            CK(cuMemcpyDtoH(back + to, p + at, n));
        }
        WANT(memcmp(back + to, host + from, n) == 0);
        WANT((to == 0 || back[to - 1] == 0xee) && back[to + n] == 0xee);
    }
    CK(cuStreamDestroy(stream));
    CK(cuMemFree(p));
    printf("rows, %s: right\n", what);
}

/* ---- Boxes ---- */

static void boxes(uint8_t *host, size_t room, const char *what)
{
    CUdeviceptr p;
    uint8_t *mirror = new_bytes(room), *got = new_bytes(room);
    CK(cuMemAlloc(&p, room));
    for (unsigned i = 0; i < rounds; i++) {
        CUDA_MEMCPY3D c = {.WidthInBytes = 1 + next_random() % (i % 4 ? 300 : 90000),
                           .Height = 1 + next_random() % (i % 4 ? 40 : 4),
                           .Depth = 1 + next_random() % 4};
        size_t pitch = c.WidthInBytes + next_random() % 40, height = c.Height + next_random() % 3;
        size_t host_pitch = c.WidthInBytes + (next_random() % 2) * 33, x = next_random() % 30;
        c.srcMemoryType = CU_MEMORYTYPE_HOST, c.srcHost = host + x;
        c.srcPitch = host_pitch, c.srcHeight = height;
        c.dstMemoryType = CU_MEMORYTYPE_DEVICE, c.dstDevice = p + x;
        c.dstPitch = pitch, c.dstHeight = c.Height;
        scramble(host, 4000);
        memset(mirror, 7, room);
        CK(cuMemsetD8(p, 7, room));
        CK(cuMemcpy3D(&c));
        for (size_t z = 0; z < c.Depth; z++)
            for (size_t y = 0; y < c.Height; y++)
                memcpy(mirror + x + (z * c.Height + y) * pitch,
                       host + x + (z * height + y) * host_pitch, c.WidthInBytes);
        CK(cuMemcpyDtoH(got, p, room));
        WANT(memcmp(got, mirror, room) == 0);
        /* And back, to where it came from. */
        CUDA_MEMCPY3D b = {.WidthInBytes = c.WidthInBytes, .Height = c.Height, .Depth = c.Depth};
        b.srcMemoryType = CU_MEMORYTYPE_DEVICE, b.srcDevice = p + x;
        b.srcPitch = pitch, b.srcHeight = c.Height;
        b.dstMemoryType = CU_MEMORYTYPE_HOST, b.dstHost = host + x;
        b.dstPitch = host_pitch, b.dstHeight = height;
        memcpy(mirror, host, room);
        for (size_t z = 0; z < c.Depth; z++)
            for (size_t y = 0; y < c.Height; y++)
                memset(host + x + (z * height + y) * host_pitch, 0, c.WidthInBytes);
        CK(cuMemcpy3D(&b));
        WANT(memcmp(host, mirror, room) == 0);
    }
    CK(cuMemFree(p));
    free(mirror);
    free(got);
    printf("boxes, %s: right\n", what);
}

/* ---- Arrays ---- */

static void arrays(uint8_t *host, uint8_t *back, const char *what)
{
    const size_t widths[] = {16, 400, 4096, 8000};
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        const size_t w = widths[i], h = 50, pitch = w + 16;
        const CUDA_ARRAY_DESCRIPTOR d = {w / 4 + 8, h + 2, CU_AD_FORMAT_UNSIGNED_INT32, 1};
        CUarray array;
        CK(cuArrayCreate(&array, &d));
        CUDA_MEMCPY2D c = {.WidthInBytes = w, .Height = h};
        c.srcMemoryType = CU_MEMORYTYPE_HOST, c.srcHost = host, c.srcPitch = pitch;
        c.dstMemoryType = CU_MEMORYTYPE_ARRAY, c.dstArray = array, c.dstXInBytes = 4, c.dstY = 1;
        CUDA_MEMCPY2D b = {.WidthInBytes = w, .Height = h};
        b.srcMemoryType = CU_MEMORYTYPE_ARRAY, b.srcArray = array, b.srcXInBytes = 4, b.srcY = 1;
        b.dstMemoryType = CU_MEMORYTYPE_HOST, b.dstHost = back, b.dstPitch = pitch;
        scramble(host, pitch * h);
        memset(back, 0xee, pitch * h);
        CK(cuMemcpy2D(&c));
        CK(cuMemcpy2D(&b));
        for (size_t y = 0; y < h; y++) {
            WANT(memcmp(back + y * pitch, host + y * pitch, w) == 0);
            WANT(y + 1 == h || back[y * pitch + w] == 0xee);
        }
        CK(cuArrayDestroy(array));
    }
    printf("arrays, %s: right\n", what);
}

/* ---- A pipeline of pinned memory ---- */

/* Chunks go there, are added to, and come back, on three streams at once; nobody waits meanwhile.
 */
static void pipeline(size_t ints, unsigned chunks)
{
    enum { STREAMS = 3 };
    CUstream stream[STREAMS];
    CUdeviceptr x[STREAMS], z[STREAMS];
    CUfunction add = function("add");
    int *in, *out;
    size_t bytes = ints * sizeof(int);
    unsigned n = (unsigned)ints;
    CK(cuMemAllocHost((void **)&in, bytes * chunks));
    CK(cuMemHostAlloc((void **)&out, bytes * chunks, CU_MEMHOSTALLOC_PORTABLE));
    scramble(in, bytes * chunks);
    memset(out, 0, bytes * chunks);
    for (int s = 0; s < STREAMS; s++) {
        CK(cuStreamCreate(&stream[s], CU_STREAM_NON_BLOCKING));
        CK(cuMemAlloc(&x[s], bytes));
        CK(cuMemAlloc(&z[s], bytes));
    }
    for (unsigned i = 0; i < chunks; i++) {
        int s = (int)(i % STREAMS);
        void *arguments[] = {&x[s], &x[s], &z[s], &n};
        CK(cuMemcpyHtoDAsync(x[s], in + i * ints, bytes, stream[s]));
        CK(cuLaunchKernel(add, (n + 127) / 128, 1, 1, 128, 1, 1, 0, stream[s], arguments, NULL));
        CK(cuMemcpyDtoHAsync(out + i * ints, z[s], bytes, stream[s]));
    }
    CK(cuCtxSynchronize());
    for (size_t i = 0; i < ints * chunks; i++)
        WANT(out[i] == (int)(2u * (unsigned)in[i]));
    for (int s = 0; s < STREAMS; s++) {
        CK(cuStreamDestroy(stream[s]));
        CK(cuMemFree(x[s]));
        CK(cuMemFree(z[s]));
    }
    CK(cuMemFreeHost(in));
    CK(cuMemFreeHost(out));
    printf("pinned pipeline: right\n");
}

/* ---- Threads ---- */

static void *thread(void *number)
{
    const size_t ints = 150 * KIB, bytes = ints * sizeof(int);
    unsigned n = (unsigned)ints;
    seed += 7919u * (uint64_t)(uintptr_t)number;
    CK(cuCtxSetCurrent(context));
    CUstream stream;
    CUdeviceptr x, z;
    CUfunction add = function("add");
    int *ordinary = new_bytes(bytes), *pinned, *back = new_bytes(bytes);
    CK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CK(cuMemAllocHost((void **)&pinned, bytes));
    CK(cuMemAlloc(&x, bytes));
    CK(cuMemAlloc(&z, bytes));
    void *arguments[] = {&x, &x, &z, &n};
    for (unsigned i = 0; i < rounds; i++) {
        int *from = i % 2 ? pinned : ordinary, *to = i % 3 ? back : pinned;
        size_t part = i % 5 ? bytes : 4 * (1 + next_random() % 3000);
        n = (unsigned)(part / 4);
        scramble(from, part);
        int first = from[0], last = from[n - 1];
        CK(cuMemcpyHtoDAsync(x, from, part, stream));
        CK(cuLaunchKernel(add, (n + 127) / 128, 1, 1, 128, 1, 1, 0, stream, arguments, NULL));
        CK(cuMemcpyDtoHAsync(to, z, part, stream));
        CK(cuStreamSynchronize(stream));
        WANT(to[0] == (int)(2u * (unsigned)first) && to[n - 1] == (int)(2u * (unsigned)last));
        for (size_t k = 0; k < n && from != to; k++)
            WANT(to[k] == (int)(2u * (unsigned)from[k]));
    }
    CK(cuMemFree(x));
    CK(cuMemFree(z));
    CK(cuMemFreeHost(pinned));
    CK(cuStreamDestroy(stream));
    free(ordinary);
    free(back);
    return NULL;
}

static void threads(void)
{
    enum { THREADS = 5 };
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        WANT(pthread_create(&t[i], NULL, thread, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        WANT(pthread_join(t[i], NULL) == 0);
    printf("threads: right\n");
}

/* ---- More pinned memory than there is room for ---- */

static void exhaust(void)
{
    enum { BLOCKS = 48 };
    const size_t bytes = 8 * MIB;
    uint8_t *block[BLOCKS], *back = new_bytes(bytes);
    CUdeviceptr p;
    CK(cuMemAlloc(&p, bytes));
    for (int i = 0; i < BLOCKS; i++) {
        CK(cuMemAllocHost((void **)&block[i], bytes));
        memset(block[i], i, bytes);
    }
    for (int i = 0; i < BLOCKS; i += 7) {
        CK(cuMemcpyHtoDAsync(p, block[i], bytes, NULL));
        CK(cuMemcpyDtoHAsync(back, p, bytes, NULL));
        CK(cuStreamSynchronize(NULL));
        WANT(memcmp(back, block[i], bytes) == 0);
    }
    for (int i = 0; i < BLOCKS; i++)
        CK(cuMemFreeHost(block[(i * 5) % BLOCKS]));
    CK(cuMemFree(p));
    free(back);
    printf("more pinned memory than there is: right\n");
}

/* ---- Ends ---- */

static void in_flight(uint8_t *pinned, uint8_t *ordinary, size_t bytes)
{
    CUdeviceptr p;
    CUstream stream;
    CK(cuMemAlloc(&p, bytes));
    CK(cuStreamCreate(&stream, 0));
    for (int i = 0; i < 6; i++) {
        CK(cuMemcpyHtoDAsync(p, i % 2 ? pinned : ordinary, bytes, stream));
        CK(cuMemcpyDtoHAsync(pinned, p, bytes, stream));
    }
}

static void reset(void)
{
    const size_t bytes = 3 * MIB;
    uint8_t *ordinary = new_bytes(bytes), *back = new_bytes(bytes);
    CUdeviceptr p;
    for (int i = 0; i < 3; i++) {
        void *pinned;
        CK(cuMemAllocHost(&pinned, bytes));
        in_flight(pinned, ordinary, bytes);
        CK(cuDevicePrimaryCtxReset(device));
        start();
        CK(cuMemAlloc(&p, bytes));
        CK(cuMemcpyHtoD(p, ordinary, bytes));
        CK(cuMemcpyDtoH(back, p, bytes));
        WANT(memcmp(back, ordinary, bytes) == 0);
        CK(cuMemFree(p));
    }
    free(ordinary);
    free(back);
    printf("a reset with copies in flight: right\n");
}

static void child(void)
{
    uint8_t *pinned, byte;
    CUdeviceptr p;
    CK(cuMemAlloc(&p, 64 * KIB));
    CK(cuMemAllocHost((void **)&pinned, 64 * KIB));
    memset(pinned, 5, 64 * KIB);
    CK(cuMemcpyHtoDAsync(p, pinned, 64 * KIB, NULL));
    fflush(stdout);
    pid_t pid = fork();
    WANT(pid >= 0);
    if (pid == 0)
        _exit(cuMemcpyDtoH(&byte, p, 1) == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1);
    int status = -1;
    WANT(waitpid(pid, &status, 0) == pid && status == 0);
    CK(cuMemcpyDtoH(&byte, p + 64 * KIB - 1, 1));
    WANT(byte == 5 && pinned[77] == 5);
    CK(cuMemFreeHost(pinned));
    CK(cuMemFree(p));
    printf("a child: right\n");
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (!f || !text || fread(text, 1, (1 << 20) - 1, f) == 0) {
        fprintf(stderr, "copies: cannot read %s\n", path);
        exit(2);
    }
    fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    const size_t room = 14 * MIB;
    if (argc < 2) {
        fprintf(stderr, "usage: copies KERNELS.ptx [ROUNDS [SEED]]\n");
        return 2;
    }
    ptx = read_file(argv[1]);
    if (argc > 2)
        rounds = (unsigned)strtoul(argv[2], NULL, 0);
    if (argc > 3)
        seed = strtoull(argv[3], NULL, 0) | 1;
    CK(cuInit(0));
    CK(cuDeviceGet(&device, 0));
    start();
    uint8_t *a = new_bytes(room), *b = new_bytes(room), *p, *q;
    CK(cuMemAllocHost((void **)&p, room));
    CK(cuMemAllocHost((void **)&q, room));
    size_t small = rounds < 5 ? 200 * KIB : room; /* few rounds: a slow way there */
    rows(a, b, small, "ordinary memory");
    rows(p, q, small, "pinned memory");
    CK(cuMemHostRegister(a, room, 0));
    rows(a, q, small, "registered memory");
    CK(cuMemHostUnregister(a));
    boxes(a, small < MIB ? small : 2 * MIB, "ordinary memory");
    boxes(p, small < MIB ? small : 2 * MIB, "pinned memory");
    arrays(a, b, "ordinary memory");
    arrays(p, q, "pinned memory");
    CK(cuMemFreeHost(p));
    CK(cuMemFreeHost(q));
    pipeline(small / 64, 12);
    if (rounds >= 5) {
        threads();
        exhaust();
    }
    child();
    if (rounds >= 5)
        reset();
    free(b);
    free(ptx);
    /* The last: what is still going on when a program ends is nobody's. */
    void *pinned;
    CK(cuMemAllocHost(&pinned, MIB));
    if (rounds >= 5)
        in_flight(pinned, a, MIB);
    free(a);
    printf("the end\n");
    return 0;
}
