/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backend on an NVIDIA GPU: what its files share. cuda.c opens the GPU and serves the typed
 * requests (struct vgpu_backend_ops), module.c loads images, driver*.c and stream.c serve the CUDA
 * calls (struct vgpu_driver_ops), fence.c tells when they are done. Both sides share the GPU, its
 * primary context and the quota.
 */
#ifndef VGPU_BACKEND_CUDA_H
#define VGPU_BACKEND_CUDA_H

#include <stdbool.h>

#include "api.h"
#include "backend/backend.h"
#include "backend/driver.h"
#include "ranges.h"

#define CUDA_CONTEXTS_MAX 4u /* besides the primary one */

/* A kernel of a module; both sides' handle of one. It ends with the module. */
struct vgpu_backend_kernel {
    struct vgpu_backend_kernel *next;
    CUfunction cuda;
    struct vgpu_kernel_info info;
    char name[];
};

/* A module of either side. Its address is the owner of its variables' ranges. */
struct cuda_module {
    struct cuda_module *next;
    CUmodule cuda;
    const struct vgpu_driver_context *context;
    struct vgpu_backend_kernel *kernels; /* those that were looked up */
    void *image; /* kept for its parameter layouts where the driver cannot tell them, else NULL */
    size_t image_bytes;
};

/* An array. It ends with its context. */
struct vgpu_driver_array {
    struct vgpu_driver_array *next;
    const struct vgpu_driver_context *context;
    CUarray cuda;
    uint64_t bytes; /* as counted */
};

struct vgpu_backend {
    struct vgpu_driver driver; /* first: the calls' side hands it in */
    struct cuda_api api;
    CUdevice device;
    struct vgpu_device_info info;
    uint64_t quota_bytes;
    struct cuda_ranges ranges;
    struct vgpu_driver_context *contexts; /* all there are */
    struct vgpu_driver_context *primary;  /* of them; NULL until something needs it */
    struct vgpu_driver_context *current;  /* of the calls' side */
    CUcontext selected;                   /* current in the CUDA driver */
    bool typed;                           /* typed requests hold the primary one */
    struct cuda_module *modules;
    struct vgpu_driver_array *arrays;
    uint64_t array_bytes; /* of all of them, under the quota */
    CUmemoryPool default_pool;
    struct cuda_host_region *host_regions; /* host.c */
    bool host_refused;                     /* said so */
    int output[2]; /* device printf: what the driver writes to standard output; -1: not taken */
};

static inline struct vgpu_backend *cuda_of_driver(struct vgpu_driver *driver)
{
    return (struct vgpu_backend *)(void *)driver;
}

/* Makes a context current in the driver; cheap when it is already. */
CUresult cuda_select(struct vgpu_backend *b, CUcontext context);
/* Makes the primary context if there is none, and selects it. */
CUresult cuda_need_primary(struct vgpu_backend *b);
/* A context that CUDA has just made and made current, as one of the session's; NULL: no memory. */
struct vgpu_driver_context *cuda_context_add(struct vgpu_backend *b, CUcontext made, bool primary);
/* Ends it and all that is in it. */
CUresult cuda_context_end(struct vgpu_backend *b, struct vgpu_driver_context *c);

/* Memory under the quota, cleared, in the ranges as `owner`'s. */
CUresult cuda_memory_alloc(struct vgpu_backend *b, uint64_t bytes,
                           struct vgpu_driver_context *owner, uint64_t *address);
CUresult cuda_memory_free(struct vgpu_backend *b, uint64_t address);
/* Under the quota: memory and arrays. */
uint64_t cuda_used_bytes(const struct vgpu_backend *b);
/* What of the quota is left. */
uint64_t cuda_left_bytes(const struct vgpu_backend *b);
/* Whether the quota has room for so many more. */
bool cuda_quota_allows(const struct vgpu_backend *b, uint64_t bytes);

/*
 * Loads an image (PTX text, fat binary or ELF, checked to be whole) into the selected context.
 * `log` gets the compiler's words, or ours. The module is in b->modules until cuda_module_unload.
 */
CUresult cuda_module_load(struct vgpu_backend *b, const struct vgpu_driver_context *context,
                          const void *image, size_t bytes, struct cuda_module **out, char *log,
                          size_t log_size);
CUresult cuda_module_unload(struct vgpu_backend *b, struct cuda_module *m);
/* The same without telling CUDA: it has ended the module already, with its context. */
void cuda_module_forget(struct vgpu_backend *b, struct cuda_module *m);
/* The kernel of that name, with what a launch needs to know of it. */
CUresult cuda_kernel_find(struct vgpu_backend *b, struct cuda_module *m, const char *name,
                          struct vgpu_backend_kernel **out);
/* A variable, which copies may name from now on. */
CUresult cuda_module_variable(struct vgpu_backend *b, struct cuda_module *m, const char *name,
                              uint64_t *address, uint64_t *bytes);

/* CUDA has ended it. */
void cuda_array_forget(struct vgpu_backend *b, struct vgpu_driver_array *array);

/* driver.c */
extern const struct vgpu_driver_ops vgpu_cuda_driver_ops;

/* output.c: what kernels print. Before the driver library is loaded. */
void cuda_output_take(struct vgpu_backend *b);
void cuda_output_give_back(struct vgpu_backend *b);
/* Reads up to `capacity` bytes; 0: nothing there. */
uint32_t cuda_output_read(struct vgpu_backend *b, void *text, uint32_t capacity);

#endif
