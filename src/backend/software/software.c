/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software backend: struct vgpu_backend_ops over device memory, modules and launches. Owns the
 * session's state and its sticky error; how PTX is read or run is in the other files.
 *
 * A launch runs before `launch` returns, on the pool's threads and the caller's, so nothing else
 * ever finds a kernel running but `interrupt`, which only touches one atomic word. A load looks at
 * the same word.
 */
#include "software.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/unpack.h"
#include "ptx_image.h"
#include "session.h"

#define DEFAULT_MEMORY_BYTES ((uint64_t)1 << 30)
#define DEFAULT_MODULE_BYTES ((uint64_t)64 << 20)
#define DEFAULT_STACK_BYTES  (16u << 10)
#define MAX_POOL_THREADS     256u
#define DEVICE_NAME          "vgpu software GPU"
#define CLOCK_KHZ            1000000u /* %clock counts nanoseconds */
#define COMPUTE_MAJOR        7u
#define COMPUTE_MINOR        5u

extern const ptx_exec_fn vgpu_ptx_handlers_base[PTX_OP_COUNT];
#ifdef VGPU_PTX_HAVE_AVX2
extern const ptx_exec_fn vgpu_ptx_handlers_avx2[PTX_OP_COUNT];
#endif

/* NULL: no such level here. A NULL name asks for the best. */
static const ptx_exec_fn *find_level(const char *name)
{
#ifdef VGPU_PTX_HAVE_AVX2
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                __builtin_cpu_supports("popcnt");
    if (avx2 && (!name || strcmp(name, "avx2") == 0))
        return vgpu_ptx_handlers_avx2;
#endif
    if (!name || strcmp(name, "base") == 0)
        return vgpu_ptx_handlers_base;
    return NULL;
}

CUresult vgpu_software_memory(struct vgpu_backend *b, struct ptx_memory **memory)
{
    *memory = &b->memory;
    return b->sticky;
}

CUresult vgpu_software_set_level(struct vgpu_backend *b, const char *level)
{
    const ptx_exec_fn *handlers = find_level(level);
    if (!handlers)
        return CUDA_ERROR_INVALID_VALUE;
    b->handlers = handlers;
    return CUDA_SUCCESS;
}

const char *vgpu_software_last_error(struct vgpu_backend *b)
{
    return b->last_error;
}

size_t vgpu_software_take_printf(struct vgpu_backend *b, char *out, size_t out_bytes,
                                 uint64_t *lost)
{
    struct ptx_runtime *r = &b->runtime;
    pthread_mutex_lock(&r->lock);
    size_t n = r->text_used < out_bytes ? r->text_used : out_bytes;
    if (n)
        memcpy(out, r->text, n);
    r->text_used -= n;
    if (r->text_used)
        memmove(r->text, r->text + n, r->text_used);
    *lost = r->lost;
    r->lost = 0;
    pthread_mutex_unlock(&r->lock);
    return n;
}

static CUresult sw_open(const struct vgpu_backend_config *config, struct vgpu_backend **out,
                        char *why, size_t why_size)
{
    *out = NULL;
    if (config->gpu) {
        snprintf(why, why_size, "there is no software GPU %u: it is one, number 0", config->gpu);
        return CUDA_ERROR_INVALID_DEVICE;
    }
    struct vgpu_backend *b = calloc(1, sizeof(*b));
    if (!b) {
        if (why_size)
            snprintf(why, why_size, "software backend: the host has no memory for a session");
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    b->threads = config->threads ? config->threads : online > 0 ? (unsigned)online : 1;
    if (b->threads > MAX_POOL_THREADS)
        b->threads = MAX_POOL_THREADS;
    b->pool = vgpu_ptx_pool_create(b->threads);
    if (!b->pool) {
        if (why_size)
            snprintf(why, why_size, "software backend: the host has no memory for %u threads",
                     b->threads);
        free(b);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    vgpu_ptx_memory_init(&b->memory,
                         config->memory_bytes ? config->memory_bytes : DEFAULT_MEMORY_BYTES);
    b->budget.limit_bytes =
        config->module_memory_bytes ? config->module_memory_bytes : DEFAULT_MODULE_BYTES;
    b->stack_bytes = config->stack_bytes ? config->stack_bytes : DEFAULT_STACK_BYTES;
    if (b->stack_bytes > PTX_MAX_LOCAL_BYTES)
        b->stack_bytes = PTX_MAX_LOCAL_BYTES;
    b->stack_bytes = (b->stack_bytes + 15) & ~15u;
    vgpu_ptx_runtime_init(&b->runtime, config->printf_bytes, config->heap_bytes);
    b->launch_insns = config->launch_instructions;
    b->handlers = find_level(NULL);
    b->stop = PTX_STOP_IDLE;
    *out = b;
    return CUDA_SUCCESS;
}

static void sw_close(struct vgpu_backend *b)
{
    if (!b)
        return;
    vgpu_software_driver_destroy(b->driver);
    vgpu_ptx_pool_destroy(b->pool);
    while (b->modules) {
        struct ptx_module *m = b->modules;
        b->modules = m->next;
        vgpu_ptx_module_free(m);
    }
    vgpu_ptx_memory_free_all(&b->memory);
    vgpu_ptx_runtime_free(&b->runtime);
    free(b);
}

/* Two FNV-1a hashes of the device's name, marked as a version 8 (custom) UUID: the same everywhere,
 * for ever. */
static void make_uuid(uint8_t uuid[16])
{
    for (unsigned half = 0; half < 2; half++) {
        uint64_t h = 14695981039346656037ull + half;
        for (const char *c = DEVICE_NAME; *c; c++)
            h = (h ^ (unsigned char)*c) * 1099511628211ull;
        for (unsigned i = 0; i < 8; i++)
            uuid[half * 8 + i] = (uint8_t)(h >> (56 - 8 * i));
    }
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void sw_device_info(struct vgpu_backend *b, struct vgpu_device_info *out)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "%s", DEVICE_NAME);
    make_uuid(out->uuid);
    out->total_memory_bytes = b->memory.quota_bytes;
    out->compute_major = COMPUTE_MAJOR;
    out->compute_minor = COMPUTE_MINOR;
    out->multiprocessors = b->threads;
    out->warp_size = PTX_LANES;
    out->max_threads_per_block = PTX_MAX_THREADS;
    out->max_block_dim[0] = out->max_block_dim[1] = 1024;
    out->max_block_dim[2] = 64;
    out->max_grid_dim[0] = INT32_MAX;
    out->max_grid_dim[1] = out->max_grid_dim[2] = 65535;
    out->max_shared_per_block_bytes = PTX_MAX_SHARED_BYTES;
    out->max_registers_per_block = 65536;
    out->clock_khz = CLOCK_KHZ;
}

static CUresult sw_mem_alloc(struct vgpu_backend *b, uint64_t size_bytes, uint64_t *address)
{
    *address = 0;
    return b->sticky ? b->sticky : vgpu_ptx_memory_alloc(&b->memory, size_bytes, false, address);
}

static CUresult sw_mem_free(struct vgpu_backend *b, uint64_t address)
{
    if (b->sticky)
        return b->sticky;
    const struct ptx_region *r = vgpu_ptx_memory_find(&b->memory, address);
    if (r && r->owner)
        return CUDA_ERROR_INVALID_VALUE; /* the driver's */
    return vgpu_ptx_memory_release(&b->memory, address, false);
}

static CUresult sw_mem_info(struct vgpu_backend *b, uint64_t *free_bytes, uint64_t *total_bytes)
{
    *free_bytes = b->memory.quota_bytes - b->memory.used_bytes;
    *total_bytes = b->memory.quota_bytes;
    return b->sticky;
}

static uint64_t sw_held_bytes(struct vgpu_backend *b)
{
    return b->memory.used_bytes;
}

static CUresult sw_copy_htod(struct vgpu_backend *b, uint64_t dst, const void *src,
                             size_t size_bytes)
{
    if (b->sticky || size_bytes == 0)
        return b->sticky;
    uint8_t *d = vgpu_ptx_memory_range(&b->memory, dst, size_bytes);
    if (!d)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(d, src, size_bytes);
    return CUDA_SUCCESS;
}

static CUresult sw_copy_dtoh(struct vgpu_backend *b, void *dst, uint64_t src, size_t size_bytes)
{
    if (b->sticky || size_bytes == 0)
        return b->sticky;
    const uint8_t *s = vgpu_ptx_memory_range(&b->memory, src, size_bytes);
    if (!s)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(dst, s, size_bytes);
    return CUDA_SUCCESS;
}

static CUresult sw_copy_dtod(struct vgpu_backend *b, uint64_t dst, uint64_t src,
                             uint64_t size_bytes)
{
    if (b->sticky || size_bytes == 0)
        return b->sticky;
    uint8_t *d = vgpu_ptx_memory_range(&b->memory, dst, size_bytes);
    const uint8_t *s = vgpu_ptx_memory_range(&b->memory, src, size_bytes);
    if (!d || !s)
        return CUDA_ERROR_INVALID_VALUE;
    memmove(d, s, (size_t)size_bytes);
    return CUDA_SUCCESS;
}

static CUresult sw_mem_set(struct vgpu_backend *b, uint64_t dst, uint8_t value, uint64_t size_bytes)
{
    if (b->sticky || size_bytes == 0)
        return b->sticky;
    uint8_t *d = vgpu_ptx_memory_range(&b->memory, dst, size_bytes);
    if (!d)
        return CUDA_ERROR_INVALID_VALUE;
    memset(d, value, (size_t)size_bytes);
    return CUDA_SUCCESS;
}

/* The opaque types of backend.h are the decoder's own. */
static struct ptx_module *module_of(struct vgpu_backend_module *m)
{
    return (struct ptx_module *)(void *)m;
}

static CUresult sw_module_load(struct vgpu_backend *b, const void *image, size_t image_bytes,
                               struct vgpu_backend_module **out, char *log, size_t log_size)
{
    *out = NULL;
    if (log_size)
        log[0] = 0;
    if (b->sticky)
        return b->sticky;
    if (!image || image_bytes == 0) {
        if (log_size)
            snprintf(log, log_size, "an empty image");
        return CUDA_ERROR_INVALID_IMAGE;
    }
    /* What is unpacked counts as host memory of modules while it is read. */
    uint64_t room = b->budget.limit_bytes - b->budget.used_bytes;
    size_t most = room < PTX_MAX_IMAGE_BYTES ? (size_t)room : PTX_MAX_IMAGE_BYTES;
    struct vgpu_unpacked text;
    CUresult r = vgpu_image_find_ptx(image, image_bytes, COMPUTE_MAJOR * 10 + COMPUTE_MINOR, most,
                                     &text, log, log_size);
    if (r != CUDA_SUCCESS)
        return r;
    uint64_t unpacked_bytes = text.owned ? text.size : 0;
    b->budget.used_bytes += unpacked_bytes;
    struct ptx_module *m;
    __atomic_store_n(&b->stop, PTX_GO, __ATOMIC_RELEASE);
    r = vgpu_ptx_module_load((const char *)text.bytes, text.size, &b->budget, &b->memory,
                             b->handlers, &b->stop, b->loads++, &m, log, log_size);
    __atomic_store_n(&b->stop, PTX_STOP_IDLE, __ATOMIC_RELEASE);
    b->budget.used_bytes -= unpacked_bytes;
    vgpu_unpacked_free(&text);
    if (r == CUDA_ERROR_LAUNCH_TIMEOUT) {
        /* Whoever interrupts wants this session's work to end, not its next request to begin. */
        b->sticky = r;
        snprintf(b->last_error, sizeof(b->last_error), "a module's load was interrupted");
    }
    if (r != CUDA_SUCCESS)
        return r;
    if (m->uses_heap && (r = vgpu_ptx_heap_create(&b->runtime, &b->memory)) != CUDA_SUCCESS) {
        if (log_size)
            snprintf(log, log_size,
                     "the module calls malloc: no device memory for a heap of %" PRIu64 " bytes",
                     b->runtime.heap_limit);
        vgpu_ptx_module_free(m);
        return r;
    }
    m->next = b->modules;
    b->modules = m;
    *out = (struct vgpu_backend_module *)(void *)m;
    return CUDA_SUCCESS;
}

static struct ptx_module **find_module(struct vgpu_backend *b, struct vgpu_backend_module *m)
{
    struct ptx_module **at = &b->modules;
    while (*at && *at != module_of(m))
        at = &(*at)->next;
    return at;
}

const struct ptx_module *vgpu_software_module(struct vgpu_backend *b, struct vgpu_backend_module *m)
{
    return *find_module(b, m);
}

static CUresult sw_module_unload(struct vgpu_backend *b, struct vgpu_backend_module *m)
{
    if (b->sticky)
        return b->sticky;
    struct ptx_module **at = find_module(b, m);
    if (!*at)
        return CUDA_ERROR_INVALID_HANDLE;
    struct ptx_module *gone = *at;
    *at = gone->next;
    vgpu_ptx_module_free(gone);
    return CUDA_SUCCESS;
}

static CUresult sw_module_kernel(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                 const char *name, struct vgpu_backend_kernel **out,
                                 const struct vgpu_kernel_info **info)
{
    *out = NULL;
    if (b->sticky)
        return b->sticky;
    const struct ptx_module *mod = *find_module(b, m);
    if (!mod)
        return CUDA_ERROR_INVALID_HANDLE;
    for (struct ptx_function *f = mod->functions; f; f = f->next) {
        if (f->is_entry && f->has_body && strcmp(f->name, name) == 0) {
            *out = (struct vgpu_backend_kernel *)(void *)f;
            *info = f->info;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_NOT_FOUND;
}

static CUresult sw_module_global(struct vgpu_backend *b, struct vgpu_backend_module *m,
                                 const char *name, uint64_t *address, uint64_t *size_bytes)
{
    if (b->sticky)
        return b->sticky;
    const struct ptx_module *mod = *find_module(b, m);
    if (!mod)
        return CUDA_ERROR_INVALID_HANDLE;
    for (const struct ptx_global *g = mod->globals; g; g = g->next) {
        if (strcmp(g->name, name) == 0) {
            *address = g->address;
            *size_bytes = g->size_bytes;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_NOT_FOUND;
}

static CUresult sw_synchronize(struct vgpu_backend *b)
{
    return b->sticky;
}

static void sw_interrupt(struct vgpu_backend *b)
{
    uint32_t go = PTX_GO;
    __atomic_compare_exchange_n(&b->stop, &go, PTX_STOP_INTERRUPT, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_RELAXED);
}

struct vgpu_driver *vgpu_software_driver(struct vgpu_backend *b)
{
    if (!b->driver)
        b->driver = vgpu_software_driver_create(b, &b->memory);
    return b->driver;
}

const struct vgpu_backend_ops vgpu_backend_software = {
    .name = "software",
    .open = sw_open,
    .close = sw_close,
    .device_info = sw_device_info,
    .mem_alloc = sw_mem_alloc,
    .mem_free = sw_mem_free,
    .mem_info = sw_mem_info,
    .held_bytes = sw_held_bytes,
    .copy_htod = sw_copy_htod,
    .copy_dtoh = sw_copy_dtoh,
    .copy_dtod = sw_copy_dtod,
    .mem_set = sw_mem_set,
    .module_load = sw_module_load,
    .module_unload = sw_module_unload,
    .module_kernel = sw_module_kernel,
    .module_global = sw_module_global,
    .launch = vgpu_software_launch,
    .synchronize = sw_synchronize,
    .interrupt = sw_interrupt,
    .driver = vgpu_software_driver,
};
