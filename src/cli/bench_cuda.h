/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What calls of the CUDA driver API cost a program, on any library that has NVIDIA's names: ours or
 * NVIDIA's own. Each measurement runs in a child, so that two libraries can take turns and a fault
 * of one ends nothing but its child.
 */
#ifndef VGPU_CLI_BENCH_CUDA_H
#define VGPU_CLI_BENCH_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_CUDA_ROUNDS  3u    /* of each library, in turns */
#define BENCH_CUDA_SAMPLES 4096u /* of a figure, all rounds together */

/* X(enumerator, key, title) */
#define BENCH_CUDA_LIST(X)                                                                         \
    X(BENCH_LAUNCH_ENQUEUE, "launch_enqueue", "launch, enqueue only")                              \
    X(BENCH_LAUNCHES, "launches", "launches a second")                                             \
    X(BENCH_LAUNCH_SYNC, "launch_sync", "launch + synchronize")                                    \
    X(BENCH_COPY4_TO, "copy4_to", "4-byte copy to the device")                                     \
    X(BENCH_COPY4_FROM, "copy4_from", "4-byte copy back")                                          \
    X(BENCH_COPY64K_TO, "copy64k_to", "64 KiB copy to the device")                                 \
    X(BENCH_COPY64K_FROM, "copy64k_from", "64 KiB copy back")                                      \
    X(BENCH_PAGEABLE_TO, "pageable_to", "pageable copy to the device")                             \
    X(BENCH_PAGEABLE_FROM, "pageable_from", "pageable copy back")                                  \
    X(BENCH_PINNED_TO, "pinned_to", "pinned copy to the device")                                   \
    X(BENCH_PINNED_FROM, "pinned_from", "pinned copy back")

enum bench_cuda_figure {
#define BENCH_CUDA_ENUM(name, key, title) name,
    BENCH_CUDA_LIST(BENCH_CUDA_ENUM)
#undef BENCH_CUDA_ENUM
        BENCH_CUDA_FIGURES,
};

/* What a pinned copy did while the program's own access to that memory was taken away. */
enum bench_pinned_proof {
    BENCH_PINNED_UNTRIED = 0,
    BENCH_PINNED_TRYING,
    BENCH_PINNED_COPIED, /* it touched the memory, and died */
    BENCH_PINNED_NO_COPY,
};

struct bench_cuda_series {
    uint64_t ns[BENCH_CUDA_SAMPLES];
    uint32_t count;
    /* What one sample stands for: bytes of a copy, launches; 0: the sample is a time. */
    uint64_t amount;
};

struct bench_cuda_result {
    struct bench_cuda_series series[BENCH_CUDA_FIGURES];
    char device[256];
    uint64_t pinned_bytes, pageable_bytes;
    uint32_t pinned_proof; /* enum bench_pinned_proof */
    bool loaded;           /* the library is there */
    bool done;
};

struct bench_cuda_settings {
    const char *library;                   /* to be loaded */
    const char *device;                    /* for VGPU_DEVICE; NULL: as it is */
    uint64_t pageable_bytes, pinned_bytes; /* pinned: halved until there is as much */
    uint64_t seconds;                      /* about so long for each figure */
    uint32_t count;                        /* not 0: at most so many samples of each */
    bool prove; /* instead: copy pinned memory that the program may not touch */
    bool brief; /* instead: one sample of launches a second and of a pageable copy each way */
    uint32_t launches;     /* of a sample of launches a second; 0: 20000 */
    const char *transport; /* for VGPU_TRANSPORT; NULL: as it is */
};

/* Adds samples to *result, which is zeroed before the first call and was made by
 * bench_cuda_result_new. False with a text on stderr. */
bool bench_cuda_measure(const struct bench_cuda_settings *settings,
                        struct bench_cuda_result *result);

/* Memory that children share; NULL with a text on stderr. */
struct bench_cuda_result *bench_cuda_result_new(void);
void bench_cuda_result_free(struct bench_cuda_result *result);

/* Where our libcuda.so.1 is: $VGPU_LIBCUDA_GUEST, in the build folder beside this program, else its
 * bare name, as the loader finds it. */
void bench_cuda_find(char *path, size_t capacity);

const char *bench_cuda_key(enum bench_cuda_figure figure);
const char *bench_cuda_title(enum bench_cuda_figure figure);

#endif
