/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a channel needs of a backend, on the backend itself: copies between its device memory and
 * host memory in the window's place, compared with plain C; fences; pinned memory; printed text
 * after a fence. One line for what is wrong, and one with the sum.
 *
 *   window_check BACKEND
 *
 * Exit status: 0 when all is right, 1 when something is not, 2 when the backend cannot be used.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/driver.h"

static const struct vgpu_backend_ops *const backends[] = {
    &vgpu_backend_software,
    &vgpu_backend_cuda,
};

#define WINDOW_BYTES (8u << 20)
#define DEVICE_BYTES (8u << 20)

static const char ptx[] =
    ".version 6.0\n.target sm_50\n.address_size 64\n"
    ".global .align 1 .b8 words[7] = {104, 101, 108, 108, 111, 10, 0};\n"
    ".extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);\n"
    /* Stores n at p, after n turns. */
    ".visible .entry slow(.param .u64 p, .param .u32 n)\n"
    "{ .reg .pred %p; .reg .u32 %r<4>; .reg .u64 %rd<2>;\n"
    "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n]; mov.u32 %r2, 0;\n"
    "turn: add.u32 %r2, %r2, 1; st.volatile.global.u32 [%rd1+4], %r2;\n"
    "setp.lt.u32 %p, %r2, %r1; @%p bra turn;\n"
    "st.global.u32 [%rd1], %r2; ret; }\n"
    ".visible .entry say()\n"
    "{ .reg .u64 %rd<4>; .reg .u32 %r<2>;\n"
    "mov.u64 %rd1, words; cvta.global.u64 %rd2, %rd1; mov.u64 %rd3, 0;\n"
    "{ .param .b64 f; st.param.b64 [f], %rd2; .param .b64 a; st.param.b64 [a], %rd3;\n"
    ".param .b32 r; call.uni (r), vprintf, (f, a); ld.param.b32 %r1, [r]; }\n"
    "ret; }\n";

#define TURNS 100000u

static FILE *report;
static unsigned checks, wrong;

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition)) {                                                                        \
            wrong++;                                                                               \
            fprintf(report, "wrong, line %d: ", __LINE__);                                         \
            fprintf(report, __VA_ARGS__);                                                          \
            fprintf(report, "\n");                                                                 \
        }                                                                                          \
    } while (0)

struct rig {
    const struct vgpu_backend_ops *ops;
    struct vgpu_backend *b;
    struct vgpu_driver *d;
    const struct vgpu_driver_ops *o;
    struct vgpu_driver_context *context;
    struct vgpu_driver_module *module;
    struct vgpu_driver_function *slow, *say;
    CUdeviceptr device;
    uint8_t *window; /* of WINDOW_BYTES */
    uint8_t *image;  /* what the device's or the window's bytes have to be */
};

static void expect_ok(CUresult r, const char *what)
{
    EXPECT(r == CUDA_SUCCESS, "%s: CUresult %d", what, (int)r);
}
#define OK(call) expect_ok((call), #call)

static void expect_refused(CUresult r, const char *what)
{
    EXPECT(r == CUDA_ERROR_INVALID_VALUE, "%s: CUresult %d, wanted 1", what, (int)r);
}
#define REFUSED(call) expect_refused((call), #call)

static void fill(uint8_t *bytes, size_t count, unsigned seed)
{
    srand(seed);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(rand() >> 7);
}

/* ---- Fences, for backends that have them ---- */

/* Asks until it has passed; false: it does not within ten seconds, or fails. */
static bool pass(struct rig *r, struct vgpu_driver_fence *fence, unsigned *asked)
{
    struct timespec start, now;
    CUresult got = CUDA_SUCCESS;
    *asked = 0;
    if (!fence)
        return true;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        got = r->d->fences->query(r->d, fence);
        ++*asked;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (got == CUDA_ERROR_NOT_READY && now.tv_sec - start.tv_sec < 10);
    r->d->fences->end(r->d, fence);
    if (r->o->context_use(r->d, r->context) != CUDA_SUCCESS)
        return false;
    EXPECT(got == CUDA_SUCCESS, "a fence: CUresult %d", (int)got);
    return got == CUDA_SUCCESS;
}

/* As a worker waits for a stream. */
static void settle(struct rig *r, struct vgpu_driver_stream *stream)
{
    struct vgpu_driver_fence *fence = NULL;
    unsigned asked;
    if (!r->d->fences) {
        OK(r->o->stream_synchronize(r->d, stream));
        return;
    }
    OK(r->d->fences->mark_stream(r->d, stream, &fence));
    (void)pass(r, fence, &asked);
}

static void start_slow(struct rig *r, struct vgpu_driver_stream *stream, uint32_t word)
{
    uint8_t arguments[12];
    uint64_t address = r->device + 8 * (uint64_t)word;
    uint32_t turns = TURNS;
    memcpy(arguments, &address, 8);
    memcpy(arguments + 8, &turns, 4);
    OK(r->o->launch(r->d, r->slow, stream, 1, 1, 1, 1, 1, 1, 0, 0, arguments, sizeof(arguments)));
}

/* Whether that many of them have stored what they had to: read by a copy behind nothing. */
static void expect_done(struct rig *r, uint32_t words)
{
    struct vgpu_driver_stream *other = NULL;
    OK(r->o->stream_create(r->d, &other, 1, 0));
    OK(r->o->copy_device_to_window(r->d, r->window, r->device, 8 * (size_t)words, other));
    settle(r, other);
    OK(r->o->stream_destroy(r->d, other));
    for (uint32_t i = 0; i < words; i++) {
        uint32_t got;
        memcpy(&got, r->window + 8 * (size_t)i, 4);
        EXPECT(got == TURNS, "kernel %u of %u was not done: %u", i, words, got);
    }
}

static void forget_results(struct rig *r)
{
    OK(r->o->memory_set(r->d, r->device, 0, 0, 1, 4096, 1, NULL));
    OK(r->o->context_synchronize(r->d));
}

static void check_fences(struct rig *r)
{
    enum { MANY = 5 };
    struct vgpu_driver_stream *s[MANY] = {NULL};
    struct vgpu_driver_event *event = NULL;
    struct vgpu_driver_fence *fence = NULL, *later = NULL;
    unsigned asked = 0;
    for (unsigned i = 0; i < MANY; i++)
        OK(r->o->stream_create(r->d, &s[i], i & 1, 0));
    OK(r->o->event_create(r->d, &event, 2));
    forget_results(r);
    /* One stream, with nothing behind the mark and with something. */
    start_slow(r, s[1], 0);
    OK(r->d->fences->mark_stream(r->d, s[1], &fence));
    if (pass(r, fence, &asked))
        expect_done(r, 1);
    forget_results(r);
    start_slow(r, s[1], 0);
    OK(r->d->fences->mark_stream(r->d, s[1], &fence));
    OK(r->o->event_record(r->d, event, s[1], 0));
    OK(r->d->fences->mark_event(r->d, event, &later));
    for (int i = 0; i < 20; i++)
        start_slow(r, s[1], 8);
    OK(r->o->event_record(r->d, event, s[1], 0));
    if (pass(r, fence, &asked))
        expect_done(r, 1);
    (void)pass(r, later, &asked);
    uint32_t state = 0;
    OK(r->o->stream_query(r->d, s[1], &state));
    OK(r->d->fences->mark_event(r->d, event, &fence));
    OK(r->o->event_destroy(r->d, event));
    if (pass(r, fence, &asked))
        EXPECT(r->o->stream_query(r->d, s[1], &state) == CUDA_SUCCESS && state == CUDA_SUCCESS,
               "the event passed before its stream was done");
    /* The default stream, blocking streams and others, one that is gone. */
    for (unsigned n = 1; n <= MANY; n++) {
        forget_results(r);
        for (unsigned i = 0; i < n; i++)
            start_slow(r, i == 4 ? NULL : s[i], i);
        if (n == 3) {
            OK(r->o->stream_destroy(r->d, s[2]));
            s[2] = NULL;
            OK(r->o->stream_create(r->d, &s[2], 0, 0));
        }
        OK(r->d->fences->mark_context(r->d, &fence));
        start_slow(r, s[0], 8); /* behind it */
        if (pass(r, fence, &asked))
            expect_done(r, n);
        OK(r->o->context_synchronize(r->d));
    }
    /* Waiting, and ending without. */
    forget_results(r);
    start_slow(r, s[3], 0);
    OK(r->d->fences->mark_context(r->d, &fence));
    if (fence) {
        OK(r->d->fences->wait(r->d, fence));
        r->d->fences->end(r->d, fence);
    }
    expect_done(r, 1);
    start_slow(r, s[3], 0);
    OK(r->d->fences->mark_stream(r->d, s[3], &fence));
    if (fence)
        r->d->fences->end(r->d, fence);
    OK(r->o->context_synchronize(r->d));
    for (unsigned i = 0; i < MANY; i++)
        OK(r->o->stream_destroy(r->d, s[i]));
}

/* ---- Copies ---- */

static void check_linear(struct rig *r)
{
    static const size_t sizes[] = {0, 1, 4, 63, 4096, 65537, 1048579, 4194304};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i], at = 1000 + i, back = (4u << 20) - 64 - i;
        fill(r->window, WINDOW_BYTES, (unsigned)i);
        memcpy(r->image, r->window, WINDOW_BYTES);
        OK(r->o->copy_window_to_device(r->d, r->device + 3, size, r->window + at, NULL));
        OK(r->o->copy_device_to_window(r->d, r->window + back, r->device + 3, size, NULL));
        settle(r, NULL);
        memmove(r->image + back, r->image + at, size);
        EXPECT(!memcmp(r->window, r->image, WINDOW_BYTES), "%zu bytes there and back", size);
    }
    REFUSED(r->o->copy_window_to_device(r->d, r->device + DEVICE_BYTES - 1, 2, r->window, NULL));
    REFUSED(r->o->copy_device_to_window(r->d, r->window, r->device, (size_t)-1, NULL));
    REFUSED(r->o->copy_device_to_window(r->d, r->window, 64, 8, NULL));
}

struct box {
    size_t width, height, depth, window_pitch, window_slice, device_pitch, device_slice;
};

static size_t extent(size_t width, size_t pitch, size_t height, size_t slice, size_t depth)
{
    return slice * (depth - 1) + pitch * (height - 1) + width;
}

static void check_box(struct rig *r, const struct box *b)
{
    size_t bytes = extent(b->width, b->window_pitch, b->height, b->window_slice, b->depth);
    size_t back = WINDOW_BYTES / 2 + 17, at = 5;
    fill(r->window, WINDOW_BYTES, (unsigned)bytes);
    memcpy(r->image, r->window, WINDOW_BYTES);
    OK(r->o->copy_rect_window_to_device(r->d, r->device + 7, b->device_pitch, b->device_slice,
                                        r->window + at, bytes, b->window_pitch, b->window_slice,
                                        b->width, b->height, b->depth, NULL));
    OK(r->o->copy_rect_device_to_window(r->d, r->window + back, bytes, b->window_pitch,
                                        b->window_slice, r->device + 7, b->device_pitch,
                                        b->device_slice, b->width, b->height, b->depth, NULL));
    settle(r, NULL);
    for (size_t z = 0; z < b->depth; z++) {
        for (size_t y = 0; y < b->height; y++)
            memcpy(r->image + back + z * b->window_slice + y * b->window_pitch,
                   r->image + at + z * b->window_slice + y * b->window_pitch, b->width);
    }
    EXPECT(!memcmp(r->window, r->image, WINDOW_BYTES), "a box of %zu x %zu x %zu", b->width,
           b->height, b->depth);
    /* As a row of all it is on the device. */
    size_t there = extent(b->width, b->device_pitch, b->height, b->device_slice, b->depth);
    OK(r->o->copy_device_to_window(r->d, r->window, r->device + 7, there, NULL));
    settle(r, NULL);
    for (size_t z = 0; z < b->depth; z++) {
        for (size_t y = 0; y < b->height; y++)
            EXPECT(!memcmp(r->window + z * b->device_slice + y * b->device_pitch,
                           r->image + at + z * b->window_slice + y * b->window_pitch, b->width),
                   "row %zu of slice %zu of a box of %zu x %zu x %zu", y, z, b->width, b->height,
                   b->depth);
    }
    if (bytes)
        REFUSED(r->o->copy_rect_window_to_device(
            r->d, r->device, b->device_pitch, b->device_slice, r->window, bytes - 1,
            b->window_pitch, b->window_slice, b->width, b->height, b->depth, NULL));
}

static void check_boxes(struct rig *r)
{
    static const struct box boxes[] = {
        {64, 1, 1, 0, 0, 0, 0},
        {64, 7, 1, 64, 0, 512, 0},
        {33, 7, 1, 100, 0, 61, 0},
        {16, 4, 3, 16, 64, 32, 128},
        {16, 4, 3, 20, 90, 33, 132},
        {16, 4, 3, 20, 90, 33, 150}, /* slices are no rows */
        {5, 1, 9, 0, 11, 0, 5},
        {1, 1, 1, 0, 0, 0, 0},
        {4096, 64, 4, 4096, 262144, 8192, 524288},
    };
    struct rig *const q = r;
    for (size_t i = 0; i < sizeof(boxes) / sizeof(boxes[0]); i++)
        check_box(q, &boxes[i]);
    const size_t huge = (size_t)1 << 63;
    REFUSED(q->o->copy_rect_window_to_device(q->d, q->device, 64, 0, q->window, 4096, 63, 0, 64, 2,
                                             1, NULL));
    REFUSED(q->o->copy_rect_window_to_device(q->d, q->device, 63, 0, q->window, 4096, 64, 0, 64, 2,
                                             1, NULL));
    REFUSED(q->o->copy_rect_device_to_window(q->d, q->window, 4096, huge, huge, q->device, huge,
                                             huge, 64, 3, 3, NULL));
    REFUSED(q->o->copy_rect_device_to_window(q->d, q->window, 4096, 64, 0, q->device, 64, 0, 64,
                                             huge, 1, NULL));
    REFUSED(
        q->o->copy_rect_device_to_window(q->d, NULL, 0, 64, 0, q->device, 64, 0, 1, 1, 1, NULL));
    OK(q->o->copy_rect_device_to_window(q->d, NULL, 0, 64, 0, q->device, 64, 0, 0, 1, 1, NULL));
}

static void check_arrays(struct rig *r)
{
    enum { WIDTH = 24, HEIGHT = 10, PITCH = 130 };
    struct vgpu_driver_array *array = NULL;
    OK(r->o->array_create(r->d, &array, WIDTH, HEIGHT, 0, CU_AD_FORMAT_FLOAT, 1, 0));
    if (!array)
        return;
    fill(r->window, WINDOW_BYTES, 99);
    memcpy(r->image, r->window, WINDOW_BYTES);
    size_t bytes = extent(4 * WIDTH, PITCH, HEIGHT, 0, 1), back = 65536;
    OK(r->o->array_write_window(r->d, array, 0, 0, 0, 4 * WIDTH, HEIGHT, r->window + 4, bytes,
                                PITCH, NULL));
    OK(r->o->array_read_window(r->d, array, 8, 2, 0, 40, 5, r->window + back,
                               extent(40, 50, 5, 0, 1), 50, NULL));
    settle(r, NULL);
    for (size_t y = 0; y < 5; y++)
        memcpy(r->image + back + 50 * y, r->image + 4 + PITCH * (y + 2) + 8, 40);
    EXPECT(!memcmp(r->window, r->image, WINDOW_BYTES), "rows of an array");
    REFUSED(r->o->array_write_window(r->d, array, 0, 0, 0, 4 * WIDTH, HEIGHT, r->window, bytes - 1,
                                     PITCH, NULL));
    REFUSED(r->o->array_write_window(r->d, array, 0, 0, 0, 4 * WIDTH, 2, r->window, 4096,
                                     4 * WIDTH - 1, NULL));
    REFUSED(r->o->array_read_window(r->d, array, 4, 0, 0, 4 * WIDTH, 1, r->window, 4096, 0, NULL));
    REFUSED(r->o->array_read_window(r->d, array, 0, 0, 0, (size_t)1 << 62, 8, r->window, 4096,
                                    (size_t)1 << 62, NULL));
    OK(r->o->array_read_window(r->d, array, 0, 0, 0, 0, 1, NULL, 0, 0, NULL));
    OK(r->o->array_destroy(r->d, array));
}

/* ---- Printed text: asking whether something is done does not have it written by itself ---- */

static void check_printing(struct rig *r)
{
    struct vgpu_driver_stream *s = NULL;
    char text[64] = "";
    uint64_t lost = 0;
    uint32_t length = 0;
    OK(r->o->stream_create(r->d, &s, 1, 0));
    OK(r->o->launch(r->d, r->say, s, 1, 1, 1, 1, 1, 1, 0, 0, NULL, 0));
    settle(r, s);
    OK(r->o->printf_read(r->d, sizeof(text) - 1, &lost, text, sizeof(text) - 1, &length));
    EXPECT(length == 6 && !memcmp(text, "hello\n", 6), "'%.*s' was printed", (int)length, text);
    OK(r->o->stream_destroy(r->d, s));
}

/* Memory that was pinned for one context is for the next, and stays when one goes. */
static void check_contexts(struct rig *r)
{
    struct vgpu_driver_context *second = NULL;
    CUdeviceptr p = 0;
    uint32_t word = 77;
    OK(r->o->context_create(r->d, &second, 0));
    if (!second)
        return;
    OK(r->o->context_use(r->d, second));
    OK(r->o->memory_alloc(r->d, &p, 4096));
    memcpy(r->window, &word, 4);
    OK(r->o->copy_window_to_device(r->d, p, 4, r->window, NULL));
    OK(r->o->copy_device_to_window(r->d, r->window + 4, p, 8, NULL));
    settle(r, NULL);
    OK(r->o->context_use(r->d, second));
    memcpy(&word, r->window + 4, 4);
    EXPECT(word == 77, "a copy in a second context: %u", word);
    memcpy(&word, r->window + 8, 4);
    EXPECT(word == 0, "new memory holds %u", word);
    OK(r->o->context_destroy(r->d, second));
    OK(r->o->context_use(r->d, r->context));
}

static int run(struct rig *r)
{
    struct vgpu_backend_config config = {.memory_bytes = 256u << 20};
    char why[256];
    CUresult opened = r->ops->open(&config, &r->b, why, sizeof(why));
    if (opened != CUDA_SUCCESS) {
        fprintf(report, "window_check: %s\n", why);
        return 2;
    }
    r->window = mmap(NULL, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    r->image = malloc(WINDOW_BYTES);
    r->d = r->ops->driver(r->b);
    if (r->window == MAP_FAILED || !r->image || !r->d)
        return 2;
    r->o = r->d->ops;
    if (r->ops->host_register)
        OK(r->ops->host_register(r->b, r->window, WINDOW_BYTES));
    OK(r->o->primary_retain(r->d, &r->context, 0));
    OK(r->o->context_use(r->d, r->context));
    OK(r->o->memory_alloc(r->d, &r->device, DEVICE_BYTES));
    OK(r->o->module_load(r->d, &r->module, ptx, sizeof(ptx) - 1));
    uint32_t n[8];
    int32_t v[2];
    if (!wrong) {
        uint8_t layout[64];
        OK(r->o->function_get(r->d, r->module, &r->slow, "slow", &n[0], &n[1], &n[2], &n[3], &n[4],
                              &n[5], &n[6], &v[0], &v[1], &n[7], layout, sizeof(layout), &n[0]));
        OK(r->o->function_get(r->d, r->module, &r->say, "say", &n[0], &n[1], &n[2], &n[3], &n[4],
                              &n[5], &n[6], &v[0], &v[1], &n[7], layout, sizeof(layout), &n[0]));
    }
    if (!wrong) {
        check_linear(r);
        check_boxes(r);
        check_arrays(r);
        if (r->d->fences)
            check_fences(r);
        check_printing(r);
        check_contexts(r);
    } else {
        fprintf(report, "window_check: cannot begin: %s\n", r->d->text);
    }
    if (r->ops->host_forget)
        r->ops->host_forget(r->b, r->window);
    r->ops->close(r->b);
    munmap(r->window, WINDOW_BYTES);
    free(r->image);
    fprintf(report, "%s: %u checks, %u wrong\n", r->ops->name, checks, wrong);
    return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct rig r = {NULL};
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (argc == 2 && !strcmp(argv[1], backends[i]->name))
            r.ops = backends[i];
    }
    if (!r.ops) {
        fprintf(stderr, "usage: window_check software|cuda\n");
        return 2;
    }
    /* While a session is open, a backend may keep standard output for what kernels print. */
    int fd = dup(STDOUT_FILENO);
    report = fd < 0 ? NULL : fdopen(fd, "w");
    if (!report)
        return 2;
    int status = run(&r);
    fclose(report);
    return status;
}
