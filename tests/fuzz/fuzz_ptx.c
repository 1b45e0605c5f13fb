/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: an image that a guest sends, loaded, and when it loads its first kernels run
 * for a moment. Whatever the bytes are, the answer is a CUresult. Seeds: the .ptx files of
 * tests/fixtures/ptx.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "software.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stopper {
    struct vgpu_backend *b;
    int done;
};

/* Kernels may be endless: they get a few milliseconds. */
static void *stop_soon(void *arg)
{
    struct stopper *s = arg;
    while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        vgpu_backend_software.interrupt(s->b);
    }
    return NULL;
}

static void run_kernel(struct vgpu_backend *b, struct vgpu_backend_module *m, const char *name)
{
    const struct vgpu_backend_ops *o = &vgpu_backend_software;
    const struct vgpu_kernel_info *info;
    static uint8_t params[4096];
    char text[256];
    uint64_t lost;
    struct vgpu_launch l = {.grid = {2, 1, 1},
                            .block = {40, 1, 1},
                            .params = params,
                            .cooperative = strcmp(name, "coop") == 0};
    struct stopper s = {.b = b};
    uint64_t memory;
    pthread_t thread;
    if (o->module_kernel(b, m, name, &l.kernel, &info) != CUDA_SUCCESS ||
        o->mem_alloc(b, 4096, &memory) != CUDA_SUCCESS)
        return;
    memset(params, 3, sizeof(params)); /* rounds, sizes: some, and the same each time */
    for (uint32_t i = 0; i < info->param_count; i++)
        if (info->params[i].size == 8)
            memcpy(params + info->params[i].offset, &memory, 8);
    l.params_bytes = info->param_bytes;
    if (pthread_create(&thread, NULL, stop_soon, &s) != 0)
        return;
    o->launch(b, &l);
    vgpu_software_take_printf(b, text, sizeof(text), &lost);
    __atomic_store_n(&s.done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"k",          "vector_add", "saxpy", "sgemm_naive",
                                        "reduce_sum", "spin",       "calls", "shapes",
                                        "memory",     "text",       "coop"};
    const struct vgpu_backend_ops *o = &vgpu_backend_software;
    struct vgpu_backend_config config = {.threads = 1,
                                         .memory_bytes = 1 << 24,
                                         .module_memory_bytes = 1 << 24,
                                         .launch_instructions = 1 << 20,
                                         .printf_bytes = 1 << 12,
                                         .heap_bytes = 1 << 16};
    struct vgpu_backend *b;
    struct vgpu_backend_module *m;
    char log[256];
    if (o->open(&config, &b, log, sizeof(log)) != CUDA_SUCCESS)
        return 0;
    if (o->module_load(b, data, size, &m, log, sizeof(log)) == CUDA_SUCCESS)
        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            run_kernel(b, m, names[i]);
    o->close(b);
    return 0;
}
