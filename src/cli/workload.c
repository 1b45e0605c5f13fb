/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two computations whose results are checked here against plain C. See workload.h. */
#include "cli/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/deadline.h"

#define MAX_PARAMS  16
#define BLOCK       256u /* threads of a vector kernel's block */
#define TILE        16u  /* a matrix kernel's block is TILE x TILE, unless its name says 32 */
#define FILE_MAX    (64u << 20)
#define RUN_TIME_MS 120000u /* a busy machine without a GPU, emulated: patience costs nothing */

static bool explain(char *why, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool explain(char *why, size_t capacity, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, capacity, format, arguments);
    va_end(arguments);
    return false;
}

static void say_nothing(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say_nothing(const char *format, ...)
{
    (void)format;
}

char *workload_read_file(const char *path, size_t *length, char *why, size_t why_capacity)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        explain(why, why_capacity, "%s cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    size_t capacity = 64u << 10, used = 0;
    char *bytes = malloc(capacity);
    while (bytes) {
        used += fread(bytes + used, 1, capacity - used, file);
        if (used < capacity || capacity >= FILE_MAX)
            break;
        capacity *= 2;
        char *larger = realloc(bytes, capacity);
        if (!larger)
            free(bytes);
        bytes = larger;
    }
    bool good = bytes && !ferror(file) && used > 0 && used < FILE_MAX;
    fclose(file);
    if (!good) {
        explain(why, why_capacity, "%s cannot be read, is empty, or is over 64 MiB", path);
        free(bytes);
        return NULL;
    }
    *length = used;
    return bytes;
}

/* ---- A kernel, ready to run ---- */

struct kernel {
    struct vgpu_session *session;
    uint64_t module;
    bool loaded;
    const char *name;
    struct vgpu_function function;
    struct vgpu_param_layout layout[MAX_PARAMS];
    char *why;
    size_t why_capacity;
};

/* Says what the library said. */
static bool library_failed(struct kernel *kernel)
{
    return explain(kernel->why, kernel->why_capacity, "%s", vgpu_last_error_text());
}

static bool load_kernel(struct kernel *kernel, const char *path, const char *name)
{
    size_t length;
    char *image = workload_read_file(path, &length, kernel->why, kernel->why_capacity);
    if (!image)
        return false;
    kernel->name = name;
    int err = vgpu_module_load(kernel->session, image, length, &kernel->module);
    free(image);
    if (err != 0)
        return library_failed(kernel);
    kernel->loaded = true;
    if (vgpu_module_function(kernel->session, kernel->module, name, &kernel->function,
                             kernel->layout, MAX_PARAMS) != 0)
        return library_failed(kernel);
    return true;
}

static void unload_kernel(struct kernel *kernel)
{
    if (kernel->loaded)
        (void)vgpu_module_unload(kernel->session, kernel->module);
}

/* Launches with the values in order and waits. Their sizes are the kernel's. */
static bool run_kernel(struct kernel *kernel, const uint32_t grid[2], const uint32_t block[2],
                       const void *const *values, const uint32_t *sizes, uint32_t count)
{
    uint8_t arguments[256];
    bool fits =
        kernel->function.param_count == count && kernel->function.param_bytes <= sizeof(arguments);
    for (uint32_t i = 0; fits && i < count; i++)
        fits = kernel->layout[i].size == sizes[i];
    if (!fits)
        return explain(kernel->why, kernel->why_capacity,
                       "kernel %s has other parameters than this program knows", kernel->name);
    if (vgpu_pack_arguments(&kernel->function, kernel->layout, count, values, arguments,
                            sizeof(arguments)) != 0)
        return library_failed(kernel);
    struct vgpu_launch launch = {
        .function = kernel->function.handle,
        .grid = {grid[0], grid[1], 1},
        .block = {block[0], block[1], 1},
        .arguments = arguments,
        .argument_bytes = kernel->function.param_bytes,
    };
    if (vgpu_launch(kernel->session, &launch) != 0 ||
        vgpu_synchronize(kernel->session, RUN_TIME_MS) != 0)
        return library_failed(kernel);
    return true;
}

/* ---- Inputs and device memory ---- */

/* Floats between -1 and 1, the same for the same seed everywhere. */
static void fill(float *values, size_t count, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 12345u;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        if (state == 0)
            state = 1;
        values[i] = (float)((double)state / 2147483648.0 - 1.0);
    }
}

/* Two inputs and one output of `count` floats each, here and on the device. */
struct arrays {
    size_t bytes;
    float *host[3];
    uint64_t device[3];
    bool allocated[3];
};

static bool make_arrays(struct kernel *kernel, struct arrays *arrays, size_t count, uint32_t seed)
{
    arrays->bytes = count * sizeof(float);
    for (int i = 0; i < 3; i++) {
        arrays->host[i] = calloc(count, sizeof(float));
        if (!arrays->host[i])
            return explain(kernel->why, kernel->why_capacity, "out of memory");
        if (vgpu_memory_alloc(kernel->session, arrays->bytes, &arrays->device[i]) != 0)
            return library_failed(kernel);
        arrays->allocated[i] = true;
    }
    fill(arrays->host[0], count, seed * 2 + 1);
    fill(arrays->host[1], count, seed * 2 + 2);
    return true;
}

static void free_arrays(struct kernel *kernel, struct arrays *arrays)
{
    for (int i = 0; i < 3; i++) {
        if (arrays->allocated[i])
            (void)vgpu_memory_free(kernel->session, arrays->device[i]);
        free(arrays->host[i]);
    }
}

static bool upload(struct kernel *kernel, const struct arrays *arrays)
{
    for (int i = 0; i < 2; i++)
        if (vgpu_copy_to_device(kernel->session, arrays->device[i], arrays->host[i],
                                arrays->bytes) != 0)
            return library_failed(kernel);
    return true;
}

static bool fetch(struct kernel *kernel, const struct arrays *arrays)
{
    if (vgpu_copy_from_device(kernel->session, arrays->host[2], arrays->device[2], arrays->bytes) !=
        0)
        return library_failed(kernel);
    return true;
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* Nanoseconds since *mark, which moves to now. */
static uint64_t lap(uint64_t *mark)
{
    uint64_t now = vgpu_now_ns();
    uint64_t spent = now - *mark;
    *mark = now;
    return spent;
}

/* ---- The two computations ---- */

bool workload_vector_add(struct vgpu_session *session, const char *ptx_path, uint32_t count,
                         uint32_t seed, workload_say say, struct workload_time *time, char *why,
                         size_t why_capacity)
{
    struct kernel kernel = {.session = session, .why = why, .why_capacity = why_capacity};
    struct arrays arrays = {0};
    uint64_t mark = vgpu_now_ns(), start = mark;
    bool good = false;
    if (!say)
        say = say_nothing;
    *time = (struct workload_time){0};
    if (!load_kernel(&kernel, ptx_path, "vector_add") ||
        !make_arrays(&kernel, &arrays, count, seed))
        goto out;
    time->load_ns = lap(&mark);
    say("vector_add: %s loaded, %.1f ms", ptx_path, ms(time->load_ns));
    if (!upload(&kernel, &arrays))
        goto out;
    time->upload_ns = lap(&mark);
    say("vector_add: %zu bytes to the device, %.0f ms", arrays.bytes * 2, ms(time->upload_ns));
    const void *values[] = {&arrays.device[0], &arrays.device[1], &arrays.device[2], &count};
    const uint32_t sizes[] = {8, 8, 8, 4};
    if (!run_kernel(&kernel, (const uint32_t[]){(count + BLOCK - 1) / BLOCK, 1},
                    (const uint32_t[]){BLOCK, 1}, values, sizes, 4))
        goto out;
    time->run_ns = lap(&mark);
    say("vector_add: %" PRIu32 " additions, %.1f ms", count, ms(time->run_ns));
    if (!fetch(&kernel, &arrays))
        goto out;
    time->fetch_ns = lap(&mark);
    say("vector_add: %zu bytes back, %.0f ms", arrays.bytes, ms(time->fetch_ns));
    for (uint32_t i = 0; i < count; i++) {
        /* One rounding, the same everywhere: exact. volatile keeps x87 from holding more bits. */
        volatile float want = arrays.host[0][i] + arrays.host[1][i];
        if (arrays.host[2][i] != want) {
            explain(why, why_capacity, "vector_add: element %" PRIu32 " is %.9g, not %.9g", i,
                    (double)arrays.host[2][i], (double)want);
            goto out;
        }
    }
    good = true;
    say("vector_add: all %" PRIu32 " elements are right", count);
out:
    free_arrays(&kernel, &arrays);
    unload_kernel(&kernel);
    time->total_ns = vgpu_now_ns() - start;
    return good;
}

/* Compares C with A * B in double precision. The bound is the textbook one for a float dot product
 * in any order: size * epsilon * sum of |a| |b|. */
static bool check_product(const struct arrays *arrays, uint32_t size, char *why, size_t capacity)
{
    const float *a = arrays->host[0], *b = arrays->host[1], *c = arrays->host[2];
    double *sum = calloc((size_t)size * 2, sizeof(double));
    if (!sum)
        return explain(why, capacity, "out of memory");
    double *bound = sum + size;
    bool good = true;
    for (uint32_t row = 0; good && row < size; row++) {
        memset(sum, 0, (size_t)size * 2 * sizeof(double));
        /* Row of B by row of B: along memory, which an emulated processor's cache likes too. */
        for (uint32_t k = 0; k < size; k++) {
            double factor = (double)a[(size_t)row * size + k];
            for (uint32_t column = 0; column < size; column++) {
                double product = factor * (double)b[(size_t)k * size + column];
                sum[column] += product;
                bound[column] += fabs(product);
            }
        }
        for (uint32_t column = 0; good && column < size; column++) {
            double got = (double)c[(size_t)row * size + column];
            if (!(fabs(got - sum[column]) <= 1.2e-7 * (double)size * bound[column]))
                good = explain(why, capacity,
                               "sgemm: element (%" PRIu32 ", %" PRIu32 ") is %.9g, not %.9g", row,
                               column, got, sum[column]);
        }
    }
    free(sum);
    return good;
}

bool workload_sgemm(struct vgpu_session *session, const char *ptx_path, const char *kernel_name,
                    uint32_t size, uint32_t seed, workload_say say, struct workload_time *time,
                    char *why, size_t why_capacity)
{
    struct kernel kernel = {.session = session, .why = why, .why_capacity = why_capacity};
    struct arrays arrays = {0};
    uint64_t mark = vgpu_now_ns(), start = mark;
    bool good = false;
    if (!say)
        say = say_nothing;
    *time = (struct workload_time){0};
    if (strstr(kernel_name, "_tiled") && size % 32 != 0) {
        explain(why, why_capacity, "%s wants a multiple of 32 rows", kernel_name);
        goto out;
    }
    if (!load_kernel(&kernel, ptx_path, kernel_name) ||
        !make_arrays(&kernel, &arrays, (size_t)size * size, seed))
        goto out;
    time->load_ns = lap(&mark);
    say("sgemm: %s loaded, %.1f ms", ptx_path, ms(time->load_ns));
    if (!upload(&kernel, &arrays))
        goto out;
    time->upload_ns = lap(&mark);
    say("sgemm: %zu bytes to the device, %.0f ms", arrays.bytes * 2, ms(time->upload_ns));
    const void *values[] = {&arrays.device[0], &arrays.device[1], &arrays.device[2], &size};
    const uint32_t sizes[] = {8, 8, 8, 4};
    uint32_t tile = strstr(kernel_name, "_32") ? 32 : TILE;
    uint32_t blocks = (size + tile - 1) / tile;
    if (!run_kernel(&kernel, (const uint32_t[]){blocks, blocks}, (const uint32_t[]){tile, tile},
                    values, sizes, 4))
        goto out;
    time->run_ns = lap(&mark);
    say("sgemm: %" PRIu32 " x %" PRIu32 " by %s, %.0f ms", size, size, kernel_name,
        ms(time->run_ns));
    if (!fetch(&kernel, &arrays))
        goto out;
    time->fetch_ns = lap(&mark);
    say("sgemm: %zu bytes back, %.0f ms", arrays.bytes, ms(time->fetch_ns));
    good = check_product(&arrays, size, why, why_capacity);
    if (good)
        say("sgemm: all %" PRIu32 " elements are right, %.0f ms to check", size * size,
            ms(lap(&mark)));
out:
    free_arrays(&kernel, &arrays);
    unload_kernel(&kernel);
    time->total_ns = vgpu_now_ns() - start;
    return good;
}

/* ---- How fast requests and bytes travel ---- */

static double per_second(double amount, uint64_t start_ns)
{
    uint64_t spent = vgpu_now_ns() - start_ns;
    return amount * 1e9 / (double)(spent ? spent : 1);
}

static bool measure_copies(struct vgpu_session *session, uint64_t address, uint8_t *bytes,
                           size_t length, struct workload_speed *speed)
{
    uint8_t *there = bytes, *back = bytes + length;
    uint64_t start = vgpu_now_ns();
    if (vgpu_copy_to_device(session, address, there, length) != 0 ||
        vgpu_synchronize(session, RUN_TIME_MS) != 0)
        return false;
    speed->to_bytes_per_s = per_second((double)length, start);
    start = vgpu_now_ns();
    if (vgpu_copy_from_device(session, back, address, length) != 0)
        return false;
    speed->from_bytes_per_s = per_second((double)length, start);
    return true;
}

bool workload_measure(struct vgpu_session *session, uint32_t calls_ms, size_t copy_bytes,
                      struct workload_speed *speed, char *why, size_t why_capacity)
{
    uint64_t address = 0, calls = 0;
    uint8_t *bytes = malloc(copy_bytes * 2);
    *speed = (struct workload_speed){0};
    if (!bytes)
        return explain(why, why_capacity, "out of memory");
    for (size_t i = 0; i < copy_bytes; i++)
        bytes[i] = (uint8_t)(i * 31 >> 3);
    memset(bytes + copy_bytes, 0, copy_bytes); /* its pages are there when the copy begins */
    bool good = true;
    uint64_t start = vgpu_now_ns();
    for (; good && vgpu_now_ns() - start < (uint64_t)calls_ms * 1000000; calls++)
        good = vgpu_nop(session) == 0;
    speed->calls_per_s = per_second((double)calls, start);
    good = good && vgpu_memory_alloc(session, copy_bytes, &address) == 0;
    if (good) {
        good = measure_copies(session, address, bytes, copy_bytes, speed);
        good = vgpu_memory_free(session, address) == 0 && good;
    }
    if (!good)
        explain(why, why_capacity, "%s", vgpu_last_error_text());
    else if (memcmp(bytes, bytes + copy_bytes, copy_bytes) != 0)
        good = explain(why, why_capacity, "a copy came back changed");
    free(bytes);
    return good;
}
