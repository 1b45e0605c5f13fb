/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test backend; see fake_backend.h. */
#include "fake_backend.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_ALLOCATIONS 1100
#define FIRST_ADDRESS   0x7000000000ull
#define TABLE_BYTES     256u
#define MAX_PENDING     512

struct vgpu_backend_kernel {
    struct vgpu_kernel_info info;
    enum { EMPTY, POKE, MANY, SPIN, FAULT, REFUSE, SMALL, KERNELS } what;
};

struct vgpu_backend_module {
    struct vgpu_backend_kernel kernels[KERNELS];
    uint64_t table;
    struct vgpu_backend_module *next;
};

struct allocation {
    uint64_t address, size;
    uint8_t *bytes;
};

struct pending {
    struct vgpu_backend_kernel *kernel;
    uint8_t params[16];
};

struct vgpu_backend {
    bool (*may_enter)(void *);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    bool inside, holding, interrupted, async, is_held;
    enum fake_op hold;
    unsigned violations, releases, modules;
    unsigned calls[FAKE_OPS];
    CUresult fail[FAKE_OPS], sticky;
    struct allocation allocations[MAX_ALLOCATIONS];
    struct pending pending[MAX_PENDING];
    unsigned pending_count;
    uint64_t next, used;
    struct vgpu_backend_module *first;
};

/* Under the lock: sleeps until released or interrupted. */
static void wait_here(struct vgpu_backend *b)
{
    unsigned releases = b->releases;
    b->is_held = true;
    pthread_cond_broadcast(&b->changed);
    while (b->releases == releases && !b->interrupted)
        pthread_cond_wait(&b->changed, &b->lock);
    b->is_held = false;
}

/* Takes the lock. Answers the injected or sticky failure. */
static CUresult enter(struct vgpu_backend *b, enum fake_op op)
{
    bool may = !b->may_enter || b->may_enter(b->context);
    pthread_mutex_lock(&b->lock);
    if (b->inside || !may)
        b->violations++;
    b->inside = true;
    b->calls[op]++;
    if (b->holding && b->hold == op)
        wait_here(b);
    CUresult status = b->fail[op];
    b->fail[op] = CUDA_SUCCESS;
    return status != CUDA_SUCCESS ? status : b->sticky;
}

static CUresult leave(struct vgpu_backend *b, CUresult status)
{
    b->inside = false;
    pthread_mutex_unlock(&b->lock);
    return status;
}

static struct allocation *find(struct vgpu_backend *b, uint64_t address, uint64_t size)
{
    for (unsigned i = 0; i < MAX_ALLOCATIONS; i++) {
        struct allocation *a = &b->allocations[i];
        if (a->bytes && address >= a->address && address - a->address <= a->size &&
            size <= a->size - (address - a->address))
            return a;
    }
    return NULL;
}

static CUresult fake_open(const struct vgpu_backend_config *config, struct vgpu_backend **out,
                          char *why, size_t why_size)
{
    (void)config;
    struct vgpu_backend *b = calloc(1, sizeof(*b));
    if (!b) {
        snprintf(why, why_size, "no memory");
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->next = FIRST_ADDRESS;
    *out = b;
    return CUDA_SUCCESS;
}

static void fake_close(struct vgpu_backend *b)
{
    for (unsigned i = 0; i < MAX_ALLOCATIONS; i++)
        free(b->allocations[i].bytes);
    while (b->first) {
        struct vgpu_backend_module *m = b->first;
        b->first = m->next;
        free(m);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void fake_device_info(struct vgpu_backend *b, struct vgpu_device_info *out)
{
    (void)b;
    *out = (struct vgpu_device_info){
        .name = "fake GPU",
        .uuid = {0xFA, 0xCE},
        .total_memory_bytes = FAKE_MEMORY_BYTES,
        .compute_major = 7,
        .compute_minor = 5,
        .multiprocessors = 3,
        .warp_size = 32,
        .max_threads_per_block = 1024,
        .max_block_dim = {1024, 1024, 64},
        .max_grid_dim = {0x7fffffff, 65535, 65535},
        .max_shared_per_block_bytes = 49152,
        .max_registers_per_block = 65536,
        .clock_khz = 1234567,
    };
}

static CUresult allocate(struct vgpu_backend *b, uint64_t size, uint64_t *address)
{
    if (!size)
        return CUDA_ERROR_INVALID_VALUE;
    if (size > FAKE_MEMORY_BYTES - b->used)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (unsigned i = 0; i < MAX_ALLOCATIONS; i++) {
        struct allocation *a = &b->allocations[i];
        if (a->bytes)
            continue;
        a->bytes = calloc(1, size);
        a->size = size;
        *address = a->address = b->next;
        b->next += (size + 511) & ~255ull;
        b->used += size;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult release(struct vgpu_backend *b, uint64_t address)
{
    struct allocation *a = find(b, address, 0);
    if (!a || a->address != address)
        return CUDA_ERROR_INVALID_VALUE;
    b->used -= a->size;
    free(a->bytes);
    a->bytes = NULL;
    return CUDA_SUCCESS;
}

static void poke(struct vgpu_backend *b, const uint8_t *params)
{
    uint64_t address;
    memcpy(&address, params, 8);
    struct allocation *a = find(b, address, 4);
    if (a)
        memcpy(a->bytes + (address - a->address), params + 8, 4);
    else
        b->sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
}

/* What a kernel does when it runs. */
static void run_kernel(struct vgpu_backend *b, const struct pending *p)
{
    switch (p->kernel->what) {
    case POKE:
        poke(b, p->params);
        return;
    case SPIN:
        wait_here(b);
        if (b->interrupted)
            b->sticky = CUDA_ERROR_LAUNCH_TIMEOUT;
        return;
    case FAULT:
        b->sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
        return;
    default:
        return;
    }
}

static CUresult run_pending(struct vgpu_backend *b)
{
    for (unsigned i = 0; i < b->pending_count && b->sticky == CUDA_SUCCESS; i++)
        run_kernel(b, &b->pending[i]);
    b->pending_count = 0;
    return b->sticky;
}

static CUresult fake_mem_alloc(struct vgpu_backend *b, uint64_t size, uint64_t *address)
{
    CUresult status = enter(b, FAKE_ALLOC);
    return leave(b, status == CUDA_SUCCESS ? allocate(b, size, address) : status);
}

static CUresult fake_mem_free(struct vgpu_backend *b, uint64_t address)
{
    CUresult status = enter(b, FAKE_FREE);
    return leave(b, status == CUDA_SUCCESS ? release(b, address) : status);
}

static CUresult fake_mem_info(struct vgpu_backend *b, uint64_t *free_bytes, uint64_t *total_bytes)
{
    *free_bytes = fake_free_bytes(b);
    *total_bytes = FAKE_MEMORY_BYTES;
    return CUDA_SUCCESS;
}

static uint64_t fake_held_bytes(struct vgpu_backend *b)
{
    return FAKE_MEMORY_BYTES - fake_free_bytes(b);
}

static CUresult copy_htod(struct vgpu_backend *b, uint64_t dst, const void *src, size_t size)
{
    CUresult status = run_pending(b);
    struct allocation *a = find(b, dst, size);
    if (status != CUDA_SUCCESS)
        return status;
    if (!size || !a)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(a->bytes + (dst - a->address), src, size);
    return CUDA_SUCCESS;
}

static CUresult fake_copy_htod(struct vgpu_backend *b, uint64_t dst, const void *src, size_t size)
{
    CUresult status = enter(b, FAKE_HTOD);
    return leave(b, status == CUDA_SUCCESS ? copy_htod(b, dst, src, size) : status);
}

static CUresult copy_dtoh(struct vgpu_backend *b, void *dst, uint64_t src, size_t size)
{
    CUresult status = run_pending(b);
    struct allocation *a = find(b, src, size);
    if (status != CUDA_SUCCESS)
        return status;
    if (!size || !a)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(dst, a->bytes + (src - a->address), size);
    return CUDA_SUCCESS;
}

static CUresult fake_copy_dtoh(struct vgpu_backend *b, void *dst, uint64_t src, size_t size)
{
    CUresult status = enter(b, FAKE_DTOH);
    return leave(b, status == CUDA_SUCCESS ? copy_dtoh(b, dst, src, size) : status);
}

static CUresult fake_copy_dtod(struct vgpu_backend *b, uint64_t dst, uint64_t src, uint64_t size)
{
    CUresult status = enter(b, FAKE_DTOD);
    struct allocation *from = find(b, src, size), *to = find(b, dst, size);
    if (status == CUDA_SUCCESS)
        status = run_pending(b);
    if (status == CUDA_SUCCESS && (!size || !from || !to))
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        memmove(to->bytes + (dst - to->address), from->bytes + (src - from->address), size);
    return leave(b, status);
}

static CUresult fake_mem_set(struct vgpu_backend *b, uint64_t dst, uint8_t value, uint64_t size)
{
    (void)b, (void)dst, (void)value, (void)size;
    return CUDA_ERROR_NOT_SUPPORTED;
}

static void make_kernel(struct vgpu_backend_kernel *k, const char *name, int what, uint32_t count,
                        const uint32_t *sizes)
{
    memset(k, 0, sizeof(*k));
    k->what = what;
    k->info.name = name;
    k->info.param_count = count;
    k->info.max_threads_per_block = 1024;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = sizes ? sizes[i] : 4;
        k->info.params[i].offset = k->info.param_bytes;
        k->info.params[i].size = size;
        k->info.param_bytes += size;
    }
}

static CUresult load(struct vgpu_backend *b, const char *image, size_t size,
                     struct vgpu_backend_module **out, char *log, size_t log_size)
{
    if (size < 2 || memcmp(image, "ok", 2) != 0) {
        snprintf(log, log_size, "line 1: '%.*s' is no module", size < 16 ? (int)size : 16, image);
        return CUDA_ERROR_INVALID_PTX;
    }
    uint64_t table = 0;
    CUresult status = allocate(b, TABLE_BYTES, &table);
    if (status != CUDA_SUCCESS)
        return status;
    struct vgpu_backend_module *m = calloc(1, sizeof(*m));
    m->table = table;
    static const uint32_t poke_sizes[] = {8, 4};
    make_kernel(&m->kernels[EMPTY], "empty", EMPTY, 0, NULL);
    make_kernel(&m->kernels[POKE], "poke", POKE, 2, poke_sizes);
    make_kernel(&m->kernels[MANY], "many", MANY, 200, NULL);
    make_kernel(&m->kernels[SPIN], "spin", SPIN, 0, NULL);
    make_kernel(&m->kernels[FAULT], "fault", FAULT, 0, NULL);
    make_kernel(&m->kernels[REFUSE], "refuse", REFUSE, 0, NULL);
    make_kernel(&m->kernels[SMALL], "small", SMALL, 0, NULL);
    m->kernels[SMALL].info.max_threads_per_block = 32;
    m->kernels[SMALL].info.static_shared_bytes = 1024;
    m->kernels[SMALL].info.local_bytes = 16;
    b->modules++;
    m->next = b->first;
    b->first = m;
    *out = m;
    return CUDA_SUCCESS;
}

static CUresult fake_module_load(struct vgpu_backend *b, const void *image, size_t size,
                                 struct vgpu_backend_module **out, char *log, size_t log_size)
{
    CUresult status = enter(b, FAKE_LOAD);
    return leave(b, status == CUDA_SUCCESS ? load(b, image, size, out, log, log_size) : status);
}

static CUresult fake_module_unload(struct vgpu_backend *b, struct vgpu_backend_module *m)
{
    (void)enter(b, FAKE_UNLOAD);
    release(b, m->table);
    b->modules--;
    struct vgpu_backend_module **at = &b->first;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    free(m);
    return leave(b, CUDA_SUCCESS);
}

static CUresult fake_module_kernel(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                   const char *name, struct vgpu_backend_kernel **out,
                                   const struct vgpu_kernel_info **info)
{
    CUresult status = enter(b, FAKE_KERNEL);
    if (status != CUDA_SUCCESS)
        return leave(b, status);
    for (int i = 0; i < KERNELS; i++) {
        if (!strcmp(m->kernels[i].info.name, name)) {
            *out = &m->kernels[i];
            *info = &m->kernels[i].info;
            return leave(b, CUDA_SUCCESS);
        }
    }
    return leave(b, CUDA_ERROR_NOT_FOUND);
}

static CUresult fake_module_global(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                   const char *name, uint64_t *address, uint64_t *size)
{
    CUresult status = enter(b, FAKE_GLOBAL);
    if (status == CUDA_SUCCESS && strcmp(name, "table") != 0)
        status = CUDA_ERROR_NOT_FOUND;
    *address = m->table;
    *size = TABLE_BYTES;
    return leave(b, status);
}

static CUresult fake_launch(struct vgpu_backend *b, const struct vgpu_launch *l)
{
    CUresult status = enter(b, FAKE_LAUNCH);
    if (status != CUDA_SUCCESS)
        return leave(b, status);
    struct pending p = {.kernel = l->kernel};
    memcpy(p.params, l->params, l->params_bytes < 16 ? l->params_bytes : 16);
    if (l->kernel->what == REFUSE)
        return leave(b, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    if (b->async && b->pending_count < MAX_PENDING)
        b->pending[b->pending_count++] = p;
    else
        run_kernel(b, &p);
    return leave(b, CUDA_SUCCESS);
}

static CUresult fake_synchronize(struct vgpu_backend *b)
{
    CUresult status = enter(b, FAKE_SYNC);
    return leave(b, status == CUDA_SUCCESS ? run_pending(b) : status);
}

static void fake_interrupt(struct vgpu_backend *b)
{
    pthread_mutex_lock(&b->lock);
    b->interrupted = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

const struct vgpu_backend_ops fake_ops = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .device_info = fake_device_info,
    .mem_alloc = fake_mem_alloc,
    .mem_free = fake_mem_free,
    .mem_info = fake_mem_info,
    .held_bytes = fake_held_bytes,
    .copy_htod = fake_copy_htod,
    .copy_dtoh = fake_copy_dtoh,
    .copy_dtod = fake_copy_dtod,
    .mem_set = fake_mem_set,
    .module_load = fake_module_load,
    .module_unload = fake_module_unload,
    .module_kernel = fake_module_kernel,
    .module_global = fake_module_global,
    .launch = fake_launch,
    .synchronize = fake_synchronize,
    .interrupt = fake_interrupt,
};

void fake_set_hook(struct vgpu_backend *b, bool (*may_enter)(void *context), void *context)
{
    b->may_enter = may_enter;
    b->context = context;
}

void fake_hold(struct vgpu_backend *b, enum fake_op op)
{
    pthread_mutex_lock(&b->lock);
    b->holding = true;
    b->hold = op;
    pthread_mutex_unlock(&b->lock);
}

void fake_release(struct vgpu_backend *b)
{
    pthread_mutex_lock(&b->lock);
    b->holding = false;
    b->is_held = false; /* so that fake_wait_held waits for the next one */
    b->releases++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

bool fake_wait_held(struct vgpu_backend *b)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&b->lock);
    while (!b->is_held && !pthread_cond_timedwait(&b->changed, &b->lock, &until)) {
    }
    bool is_held = b->is_held;
    pthread_mutex_unlock(&b->lock);
    return is_held;
}

void fake_fail(struct vgpu_backend *b, enum fake_op op, CUresult status)
{
    pthread_mutex_lock(&b->lock);
    b->fail[op] = status;
    pthread_mutex_unlock(&b->lock);
}

void fake_set_async(struct vgpu_backend *b, bool async)
{
    pthread_mutex_lock(&b->lock);
    b->async = async;
    pthread_mutex_unlock(&b->lock);
}

unsigned fake_calls(struct vgpu_backend *b, enum fake_op op)
{
    pthread_mutex_lock(&b->lock);
    unsigned calls = b->calls[op];
    pthread_mutex_unlock(&b->lock);
    return calls;
}

uint64_t fake_free_bytes(struct vgpu_backend *b)
{
    pthread_mutex_lock(&b->lock);
    uint64_t bytes = FAKE_MEMORY_BYTES - b->used;
    pthread_mutex_unlock(&b->lock);
    return bytes;
}

unsigned fake_modules(struct vgpu_backend *b)
{
    pthread_mutex_lock(&b->lock);
    unsigned modules = b->modules;
    pthread_mutex_unlock(&b->lock);
    return modules;
}

unsigned fake_violations(struct vgpu_backend *b)
{
    pthread_mutex_lock(&b->lock);
    unsigned violations = b->violations;
    pthread_mutex_unlock(&b->lock);
    return violations;
}
