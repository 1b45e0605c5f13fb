/* SPDX-License-Identifier: MIT */
/*
 * Libraries and kernels: code that belongs to no context. A library keeps its image and is loaded
 * as a module into each context where something of it is first used.
 */
#include <stdlib.h>

#include "guest/cuda/internal.h"

struct vgpu_library {
    struct vgpu_object base;
    uint8_t *image; /* a copy: the program's may be gone when a context needs it */
    size_t length;
    struct vgpu_kernel *kernels;
    struct vgpu_module *modules; /* one for each context; guarded by the driver's lock */
};

struct vgpu_kernel {
    struct vgpu_object base;
    struct vgpu_library *library;
    struct vgpu_kernel *next;
    char *symbol;
};
_Static_assert(sizeof(struct vgpu_library) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_kernel) <= VGPU_OBJECT_BYTES, "place");

/* One at a time loads a library into a context, so that it is loaded once. */
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

static void free_library(struct vgpu_object *object)
{
    free(((struct vgpu_library *)object)->image);
}

static void free_kernel(struct vgpu_object *object)
{
    free(((struct vgpu_kernel *)object)->symbol);
}

void vgpu_library_forget(struct vgpu_library *library, struct vgpu_module *module)
{
    vgpu_cuda_lock();
    for (struct vgpu_module **at = &library->modules; *at; at = &(*at)->next_of_library) {
        if (*at == module) {
            *at = module->next_of_library;
            break;
        }
    }
    vgpu_cuda_unlock();
}

static struct vgpu_module *module_in(struct vgpu_library *library,
                                     const struct vgpu_context *context)
{
    vgpu_cuda_lock();
    struct vgpu_module *module = library->modules;
    while (module && module->base.context != context)
        module = module->next_of_library;
    vgpu_cuda_unlock();
    return module;
}

static CUresult load_into(struct vgpu_library *library, struct vgpu_context *context,
                          unsigned count, CUjit_option *options, void **values,
                          struct vgpu_module **result)
{
    pthread_mutex_lock(&load_lock);
    CUresult err = CUDA_SUCCESS;
    struct vgpu_module *module = module_in(library, context);
    if (!module) {
        err = vgpu_module_load_image(context, library->image, library->length, count, options,
                                     values, &module);
        if (err == CUDA_SUCCESS) {
            vgpu_cuda_lock();
            module->library = library;
            module->next_of_library = library->modules;
            library->modules = module;
            vgpu_cuda_unlock();
        }
    }
    pthread_mutex_unlock(&load_lock);
    if (err == CUDA_SUCCESS)
        *result = module;
    return err;
}

CUresult vgpu_kernel_function(void *handle, struct vgpu_context *context,
                              struct vgpu_function_object **function)
{
    struct vgpu_kernel *kernel = handle;
    struct vgpu_module *module;
    CUresult result = load_into(kernel->library, context, 0, NULL, NULL, &module);
    return result == CUDA_SUCCESS ? vgpu_module_function_of(module, kernel->symbol, function)
                                  : result;
}

/* `limit` as for vgpu_module_load_image. */
static CUresult load_library(CUlibrary *result, const void *code, size_t limit, unsigned jit_count,
                             CUjit_option *jit_options, void **jit_values, unsigned option_count,
                             const CUlibraryOption *options)
{
    struct vgpu_thread *thread;
    struct vgpu_context *context;
    const void *start;
    CUresult err = vgpu_cuda_enter_process(&thread);
    if (err != CUDA_SUCCESS)
        return err;
    if (!result || !code || (option_count && !options))
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < option_count; i++)
        if (options[i] != CU_LIBRARY_BINARY_IS_PRESERVED)
            return vgpu_cuda_not_supported("a library option");
    struct vgpu_library *library = vgpu_object_new(VGPU_KIND_LIBRARY, NULL);
    if (!library)
        return CUDA_ERROR_OUT_OF_MEMORY;
    library->base.finish = free_library;
    if (!vgpu_image_measure(code, limit, &start, &library->length)) {
        err = CUDA_ERROR_INVALID_IMAGE;
    } else if (!(library->image = malloc(library->length + 1))) {
        err = CUDA_ERROR_OUT_OF_MEMORY;
    } else {
        memcpy(library->image, start, library->length);
        library->image[library->length] = 0;
    }
    /* Where there is a context, its compiler is asked now, so that a bad image is told at once. */
    struct vgpu_module *module;
    if (err == CUDA_SUCCESS && vgpu_cuda_enter_context(&context) == CUDA_SUCCESS)
        err = load_into(library, context, jit_count, jit_options, jit_values, &module);
    if (err != CUDA_SUCCESS) {
        vgpu_object_free(&library->base);
        return err;
    }
    *result = (CUlibrary)library;
    return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions,
                           void **jitOptionsValues, unsigned int numJitOptions,
                           CUlibraryOption *libraryOptions, void **libraryOptionValues,
                           unsigned int numLibraryOptions)
{
    (void)libraryOptionValues;
    return load_library(library, code, SIZE_MAX, numJitOptions, jitOptions, jitOptionsValues,
                        numLibraryOptions, libraryOptions);
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *fileName, CUjit_option *jitOptions,
                               void **jitOptionsValues, unsigned int numJitOptions,
                               CUlibraryOption *libraryOptions, void **libraryOptionValues,
                               unsigned int numLibraryOptions)
{
    struct vgpu_thread *thread;
    void *image;
    size_t length;
    (void)libraryOptionValues;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result == CUDA_SUCCESS)
        result = vgpu_image_read(fileName, &image, &length);
    if (result != CUDA_SUCCESS)
        return result;
    result = load_library(library, image, length, numJitOptions, jitOptions, jitOptionsValues,
                          numLibraryOptions, libraryOptions);
    free(image);
    return result;
}

static CUresult find_library(CUlibrary handle, struct vgpu_library **library)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    *library = vgpu_object_find(handle, VGPU_KIND_LIBRARY);
    return *library ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuLibraryUnload(CUlibrary handle)
{
    struct vgpu_library *library;
    CUresult result = find_library(handle, &library);
    if (result != CUDA_SUCCESS)
        return result;
    for (;;) {
        vgpu_cuda_lock();
        struct vgpu_module *module = library->modules;
        if (module)
            library->modules = module->next_of_library;
        vgpu_cuda_unlock();
        if (!module)
            break;
        module->library = NULL;
        CUresult one = vgpu_module_unload_object(module);
        if (result == CUDA_SUCCESS)
            result = one;
    }
    while (library->kernels) {
        struct vgpu_kernel *kernel = library->kernels;
        library->kernels = kernel->next;
        vgpu_object_free(&kernel->base);
    }
    vgpu_object_free(&library->base);
    return result;
}

CUresult cuLibraryGetKernel(CUkernel *pKernel, CUlibrary handle, const char *name)
{
    struct vgpu_library *library;
    struct vgpu_context *context;
    struct vgpu_function_object *function;
    CUresult result = find_library(handle, &library);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pKernel || !name)
        return CUDA_ERROR_INVALID_VALUE;
    vgpu_cuda_lock();
    struct vgpu_kernel *kernel = library->kernels;
    while (kernel && strcmp(kernel->symbol, name) != 0)
        kernel = kernel->next;
    vgpu_cuda_unlock();
    if (kernel) {
        *pKernel = (CUkernel)kernel;
        return CUDA_SUCCESS;
    }
    kernel = vgpu_object_new(VGPU_KIND_KERNEL, NULL);
    if (!kernel)
        return CUDA_ERROR_OUT_OF_MEMORY;
    kernel->base.finish = free_kernel;
    kernel->library = library;
    kernel->symbol = strdup(name);
    if (!kernel->symbol)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    else if (vgpu_cuda_enter_context(&context) == CUDA_SUCCESS)
        result = vgpu_kernel_function(kernel, context, &function); /* is there one? */
    if (result != CUDA_SUCCESS) {
        vgpu_object_free(&kernel->base);
        return result;
    }
    vgpu_cuda_lock();
    kernel->next = library->kernels;
    library->kernels = kernel;
    vgpu_cuda_unlock();
    *pKernel = (CUkernel)kernel;
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *pMod, CUlibrary handle)
{
    struct vgpu_library *library;
    struct vgpu_context *context;
    struct vgpu_module *module;
    CUresult result = find_library(handle, &library);
    if (result == CUDA_SUCCESS)
        result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pMod)
        return CUDA_ERROR_INVALID_VALUE;
    result = load_into(library, context, 0, NULL, NULL, &module);
    if (result == CUDA_SUCCESS)
        *pMod = (CUmodule)module;
    return result;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary handle, const char *name)
{
    struct vgpu_library *library;
    struct vgpu_context *context;
    struct vgpu_module *module;
    CUresult result = find_library(handle, &library);
    if (result == CUDA_SUCCESS)
        result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = load_into(library, context, 0, NULL, NULL, &module);
    return result == CUDA_SUCCESS ? vgpu_module_global_of(module, name, dptr, bytes) : result;
}

/* ---- Kernels ---- */

static CUresult find_kernel(CUkernel handle, struct vgpu_kernel **kernel)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    *kernel = vgpu_object_find(handle, VGPU_KIND_KERNEL);
    return *kernel ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* The kernel in the current context. */
static CUresult current_function(CUkernel handle, struct vgpu_function_object **function)
{
    struct vgpu_kernel *kernel;
    struct vgpu_context *context;
    CUresult result = find_kernel(handle, &kernel);
    if (result == CUDA_SUCCESS)
        result = vgpu_cuda_enter_context(&context);
    return result == CUDA_SUCCESS ? vgpu_kernel_function(kernel, context, function) : result;
}

CUresult cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel)
{
    struct vgpu_function_object *function;
    if (!pFunc)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = current_function(kernel, &function);
    if (result == CUDA_SUCCESS)
        *pFunc = (CUfunction)function;
    return result;
}

CUresult cuKernelGetLibrary(CUlibrary *pLib, CUkernel handle)
{
    struct vgpu_kernel *kernel;
    CUresult result = find_kernel(handle, &kernel);
    if (result == CUDA_SUCCESS && !pLib)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *pLib = (CUlibrary)kernel->library;
    return result;
}

CUresult cuKernelGetName(const char **name, CUkernel handle)
{
    struct vgpu_kernel *kernel;
    CUresult result = find_kernel(handle, &kernel);
    if (result == CUDA_SUCCESS && !name)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *name = kernel->symbol;
    return result;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t *paramOffset,
                              size_t *paramSize)
{
    struct vgpu_function_object *function;
    CUresult result = current_function(kernel, &function);
    return result == CUDA_SUCCESS
               ? vgpu_function_param(function, paramIndex, paramOffset, paramSize)
               : result;
}

CUresult cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_cuda_check_device(dev);
    if (result == CUDA_SUCCESS)
        result = current_function(kernel, &function);
    return result == CUDA_SUCCESS ? vgpu_function_attribute(function, (int)attrib, pi) : result;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_cuda_check_device(dev);
    if (result == CUDA_SUCCESS)
        result = current_function(kernel, &function);
    return result == CUDA_SUCCESS ? vgpu_function_set_attribute(function, (int)attrib, val)
                                  : result;
}
