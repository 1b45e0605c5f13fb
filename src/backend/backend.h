/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker runs on. A backend owns one GPU's worth of execution for one session: one context,
 * its memory, its modules. It knows nothing of requests, transports, leases or tenants; the worker
 * above it knows nothing of PTX.
 *
 * The calls are shaped like the CUDA driver API so that `cuda` is a thin layer and `software` can
 * be compared with it call by call. Every call answers a CUresult.
 *
 * Threads: one thread at a time calls into a backend (the worker's engine thread), except
 * `interrupt`, which any thread may call at any time between open and close.
 *
 * Trust: device addresses, images, names and launch parameters come from a guest and may be
 * anything. A backend checks them, and never reads or writes host memory that it did not make
 * itself or was not handed by pointer+length.
 */
#ifndef VGPU_BACKEND_H
#define VGPU_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/curesult.h"

/* What GET_DEVICE_INFO reports. Limits are in the units of the CUdevice_attribute of the same name.
 */
struct vgpu_device_info {
    char name[64]; /* NUL-terminated, e.g. "vgpu software GPU" */
    uint8_t uuid[16];
    uint64_t total_memory_bytes; /* what this session may allocate at most */
    uint32_t compute_major, compute_minor;
    uint32_t multiprocessors;
    uint32_t warp_size;
    uint32_t max_threads_per_block;
    uint32_t max_block_dim[3];
    uint32_t max_grid_dim[3];
    uint32_t max_shared_per_block_bytes;
    uint32_t max_registers_per_block;
    uint32_t clock_khz;
};

/* Limits on what one session may take from the host; 0 means the backend's default. */
struct vgpu_backend_config {
    uint64_t memory_bytes; /* device memory quota, the sum of live allocations and module globals */
    uint64_t module_memory_bytes; /* host memory for decoded modules (software) */
    uint64_t launch_instructions; /* what one launch may take at most, in instructions of a warp; 0:
                                     no limit; beyond: LAUNCH_TIMEOUT, sticky (software) */
    uint64_t printf_bytes;        /* text of kernels that waits to be taken (software) */
    uint64_t heap_bytes;  /* malloc of kernels; part of memory_bytes as soon as a module of the
                             session calls it (software) */
    uint32_t stack_bytes; /* .local memory per thread of kernels that call to unknown depth, at most
                             512 KiB, and twice as much for their registers (software) */
    unsigned threads;     /* CPU threads to run blocks on (software); 0: online CPUs */
    unsigned gpu;         /* ordinal on this host (cuda) */
    bool allow_pageable_access; /* use a GPU that can reach pageable host memory (cuda) */
    bool has_gpu_uuid;          /* the GPU is named by gpu_uuid, not by its ordinal (cuda) */
    uint8_t gpu_uuid[16];
};

/* One kernel of a loaded module, as a launch needs it. Owned by the module; valid until it is
 * unloaded. */
#define VGPU_KERNEL_MAX_PARAMS 256
struct vgpu_kernel_info {
    const char *name;
    uint32_t param_count;
    uint32_t param_bytes; /* size of the whole parameter buffer, at most 4096 */
    struct {
        uint32_t offset, size; /* bytes, in the parameter buffer */
    } params[VGPU_KERNEL_MAX_PARAMS];
    uint32_t max_threads_per_block;
    uint32_t static_shared_bytes;
    uint32_t local_bytes; /* per thread */
};

struct vgpu_backend_module; /* opaque */
struct vgpu_backend_kernel; /* opaque */

struct vgpu_launch {
    struct vgpu_backend_kernel *kernel;
    uint32_t grid[3],
        block[3]; /* each at least 1; checked by the backend against device and kernel limits */
    uint32_t shared_bytes; /* dynamic shared memory */
    const void
        *params; /* param_bytes bytes, laid out as vgpu_kernel_info says; copied before return */
    size_t params_bytes;  /* must equal vgpu_kernel_info.param_bytes */
    uint32_t stack_bytes; /* if more than vgpu_backend_config's, in its place (software) */
    bool cooperative;     /* all blocks run at a time and may wait for each other; more than fit are
                             COOPERATIVE_LAUNCH_TOO_LARGE */
};

struct vgpu_backend;
struct vgpu_driver;

struct vgpu_backend_ops {
    const char *name; /* "software", "cuda" */

    /* Makes a session's context. On failure *out is NULL and `why` (why_size bytes) holds a
     * sentence for a person. */
    CUresult (*open)(const struct vgpu_backend_config *config, struct vgpu_backend **out, char *why,
                     size_t why_size);
    /* Frees everything the session made. Running kernels must have been interrupted or finished. */
    void (*close)(struct vgpu_backend *b);

    void (*device_info)(struct vgpu_backend *b, struct vgpu_device_info *out);

    /* size_bytes 0 is INVALID_VALUE. Addresses are at least 256-byte aligned, never 0. New memory
     * reads as zero. */
    CUresult (*mem_alloc)(struct vgpu_backend *b, uint64_t size_bytes, uint64_t *address);
    CUresult (*mem_free)(struct vgpu_backend *b,
                         uint64_t address); /* exact start of an allocation */
    /* Of memory_bytes; a card that others fill may have less free. */
    CUresult (*mem_info)(struct vgpu_backend *b, uint64_t *free_bytes, uint64_t *total_bytes);
    /* Device memory that this session holds: allocations, arrays and module globals, with what is
     * lost to rounding. */
    uint64_t (*held_bytes)(struct vgpu_backend *b);

    /* Copies wait for launches before them. A range that is not wholly inside one allocation is
     * INVALID_VALUE. */
    CUresult (*copy_htod)(struct vgpu_backend *b, uint64_t dst, const void *src, size_t size_bytes);
    CUresult (*copy_dtoh)(struct vgpu_backend *b, void *dst, uint64_t src, size_t size_bytes);
    CUresult (*copy_dtod)(struct vgpu_backend *b, uint64_t dst, uint64_t src, uint64_t size_bytes);
    CUresult (*mem_set)(struct vgpu_backend *b, uint64_t dst, uint8_t value, uint64_t size_bytes);

    /*
     * Loads an image of `image_bytes` bytes: PTX text, with or without a final NUL, a fatbin or a
     * cubin (docs/cuda-images.md). `log` (log_size bytes, always NUL-terminated) gets what a person
     * needs to mend it: line, instruction, reason.
     */
    CUresult (*module_load)(struct vgpu_backend *b, const void *image, size_t image_bytes,
                            struct vgpu_backend_module **out, char *log, size_t log_size);
    CUresult (*module_unload)(struct vgpu_backend *b, struct vgpu_backend_module *m);
    /* Kernel `name` (NUL-terminated) of `m`; *info stays valid until the module is unloaded.
     * NOT_FOUND if absent. */
    CUresult (*module_kernel)(struct vgpu_backend *b, struct vgpu_backend_module *m,
                              const char *name, struct vgpu_backend_kernel **out,
                              const struct vgpu_kernel_info **info);
    /* Address and size of global variable `name`. */
    CUresult (*module_global)(struct vgpu_backend *b, struct vgpu_backend_module *m,
                              const char *name, uint64_t *address, uint64_t *size_bytes);

    /*
     * Checks and starts a launch; may return before or after the kernel has run. A refusal
     * (INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES ...) is answered here and changes nothing. What goes
     * wrong while it runs is sticky: `synchronize` reports it, and so does every later call on this
     * context but close.
     */
    CUresult (*launch)(struct vgpu_backend *b, const struct vgpu_launch *launch);
    /* Waits for everything started. */
    CUresult (*synchronize)(struct vgpu_backend *b);

    /* Ends running kernels as soon as possible with LAUNCH_TIMEOUT (sticky). Callable from any
     * thread. */
    void (*interrupt)(struct vgpu_backend *b);

    /*
     * Host memory that copies are going to name often: pinned for the GPU, through every context
     * that there is or will be, until host_forget (which waits for what uses it). Failure costs
     * speed, not correctness; it is remembered all the same, and forgotten by host_forget. The
     * session's kernels may reach what is pinned. Both NULL: there is nothing to pin.
     */
    CUresult (*host_register)(struct vgpu_backend *b, void *base, size_t size_bytes);
    void (*host_forget)(struct vgpu_backend *b, void *base);

    /* The driver of this session (backend/driver.h), for the CUDA driver calls: on the same GPU and
     * the same quota, beside what the functions above made. It belongs to the backend and ends with
     * it. The member or the answer NULL: this backend has none. */
    struct vgpu_driver *(*driver)(struct vgpu_backend *b);
};

extern const struct vgpu_backend_ops vgpu_backend_software;
extern const struct vgpu_backend_ops vgpu_backend_cuda;

#endif
