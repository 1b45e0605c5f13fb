/* SPDX-License-Identifier: MIT */
/* Modules: images of any form, the compiler's options and log, global variables. */
#include <stdlib.h>

#include "guest/cuda/internal.h"

/* ---- Options of the compiler ---- */

struct jit_log {
    char *buffer;
    size_t bytes;
    void **size_value; /* where the program wants to read how much was written */
};

struct jit_options {
    struct jit_log info, error;
};

/* Options that only tune are hints and taken as such; those that would change what the code does
 * cannot be passed on and are refused. */
static CUresult read_options(unsigned count, CUjit_option *options, void **values,
                             struct jit_options *result)
{
    *result = (struct jit_options){{NULL, 0, NULL}, {NULL, 0, NULL}};
    if (count && (!options || !values))
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) {
        switch ((int)options[i]) {
        case CU_JIT_INFO_LOG_BUFFER:
            result->info.buffer = values[i];
            break;
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
            result->info.bytes = (uint32_t)(uintptr_t)values[i];
            result->info.size_value = &values[i];
            break;
        case CU_JIT_ERROR_LOG_BUFFER:
            result->error.buffer = values[i];
            break;
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
            result->error.bytes = (uint32_t)(uintptr_t)values[i];
            result->error.size_value = &values[i];
            break;
        case CU_JIT_WALL_TIME: {
            float none = 0;
            values[i] = NULL;
            memcpy(&values[i], &none, sizeof(none));
            break;
        }
        case CU_JIT_THREADS_PER_BLOCK: /* also says how many it was compiled for: as asked */
        case CU_JIT_MAX_REGISTERS:
        case CU_JIT_OPTIMIZATION_LEVEL:
        case CU_JIT_TARGET_FROM_CUCONTEXT:
        case CU_JIT_FALLBACK_STRATEGY:
        case CU_JIT_GENERATE_DEBUG_INFO:
        case CU_JIT_LOG_VERBOSE:
        case CU_JIT_GENERATE_LINE_INFO:
        case CU_JIT_CACHE_MODE:
        case 15: /* internal */
        case CU_JIT_FAST_COMPILE:
        case 20: /* deprecated hints of link-time optimization */
        case 21:
        case 22:
        case 23:
        case 24:
        case 29: /* unused variables */
        case 31: /* blocks per multiprocessor */
        case 32:
        case 34: /* threads of the compiler */
            break;
        case CU_JIT_TARGET:
        case CU_JIT_GLOBAL_SYMBOL_NAMES:
        default:
            return vgpu_cuda_not_supported("a compiler option");
        }
    }
    return CUDA_SUCCESS;
}

static void write_log(struct jit_log *log, const char *text, size_t length)
{
    size_t n = 0;
    if (log->buffer && log->bytes) {
        n = length < log->bytes - 1 ? length : log->bytes - 1;
        memcpy(log->buffer, text, n);
        log->buffer[n] = 0;
    }
    if (log->size_value)
        *log->size_value = (void *)(uintptr_t)n;
}

/* ---- Modules ---- */

static void free_module(struct vgpu_object *object)
{
    struct vgpu_module *module = (struct vgpu_module *)object;
    unsigned printing = atomic_load(&module->base.context->printing);
    while (module->may_print && printing > 0 && /* 0: the host cannot say what is printed */
           !atomic_compare_exchange_weak(&module->base.context->printing, &printing, printing - 1))
        ;
    if (module->library)
        vgpu_library_forget(module->library, module);
}

CUresult vgpu_module_load_image(struct vgpu_context *context, const void *image, size_t limit,
                                unsigned option_count, CUjit_option *options, void **option_values,
                                struct vgpu_module **result)
{
    struct jit_options jit;
    const void *start;
    size_t length;
    CUresult err = read_options(option_count, options, option_values, &jit);
    if (err != CUDA_SUCCESS)
        return err;
    if (!image)
        return CUDA_ERROR_INVALID_VALUE;
    if (!vgpu_image_measure(image, limit, &start, &length))
        return CUDA_ERROR_INVALID_IMAGE;
    struct vgpu_module *module = vgpu_object_new(VGPU_KIND_MODULE, context);
    if (!module)
        return CUDA_ERROR_OUT_OF_MEMORY;
    err = vgpu_call_module_load(context->base.name, module->base.name, 0, start, (uint32_t)length);
    const struct vgpu_thread *thread = vgpu_cuda_thread();
    bool failed = err != CUDA_SUCCESS;
    write_log(&jit.error, failed && thread ? thread->text : "",
              failed && thread ? thread->text_length : 0);
    write_log(&jit.info, "", 0);
    if (failed) {
        vgpu_object_free(&module->base);
        return err;
    }
    module->may_print = vgpu_image_may_print(start, length);
    module->base.finish = free_module;
    if (module->may_print)
        atomic_fetch_add(&context->printing, 1);
    *result = module;
    return CUDA_SUCCESS;
}

CUresult vgpu_module_unload_object(struct vgpu_module *module)
{
    struct vgpu_context *context = module->base.context;
    (void)vgpu_order_wait_context(context);
    vgpu_print_read(context);
    CUresult result = vgpu_call_module_unload(context->base.name, module->base.name);
    vgpu_cuda_lock();
    struct vgpu_function_object *function = module->functions;
    module->functions = NULL;
    vgpu_cuda_unlock();
    while (function) {
        struct vgpu_function_object *next = function->next_of_module;
        vgpu_object_free(&function->base);
        function = next;
    }
    vgpu_memory_forget(NULL, module);
    vgpu_object_free(&module->base);
    return result;
}

static CUresult load(CUmodule *result, const void *image, size_t limit, unsigned count,
                     CUjit_option *options, void **values)
{
    struct vgpu_context *context;
    struct vgpu_module *module;
    CUresult err = vgpu_cuda_enter_context(&context);
    if (err != CUDA_SUCCESS)
        return err;
    if (!result)
        return CUDA_ERROR_INVALID_VALUE;
    err = vgpu_module_load_image(context, image, limit, count, options, values, &module);
    if (err == CUDA_SUCCESS)
        *result = (CUmodule)module;
    return err;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
                            CUjit_option *options, void **optionValues)
{
    return load(module, image, SIZE_MAX, numOptions, options, optionValues);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    return load(module, image, SIZE_MAX, 0, NULL, NULL);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin)
{
    return load(module, fatCubin, SIZE_MAX, 0, NULL, NULL);
}

CUresult cuModuleLoad(CUmodule *module, const char *fname)
{
    struct vgpu_context *context;
    void *image;
    size_t length;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_image_read(fname, &image, &length);
    if (result != CUDA_SUCCESS)
        return result;
    result = load(module, image, length, 0, NULL, NULL);
    free(image);
    return result;
}

CUresult vgpu_module_find(CUmodule handle, struct vgpu_module **module)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    *module = vgpu_object_find(handle, VGPU_KIND_MODULE);
    return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuModuleUnload(CUmodule hmod)
{
    struct vgpu_module *module;
    CUresult result = vgpu_module_find(hmod, &module);
    if (result != CUDA_SUCCESS)
        return result;
    if (module->library)
        return CUDA_ERROR_NOT_PERMITTED; /* it goes with its library */
    return vgpu_module_unload_object(module);
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!mode)
        return CUDA_ERROR_INVALID_VALUE;
    *mode = CU_MODULE_EAGER_LOADING;
    return CUDA_SUCCESS;
}

CUresult vgpu_module_global_of(struct vgpu_module *module, const char *name, CUdeviceptr *address,
                               size_t *bytes)
{
    size_t length = name ? strnlen(name, VGPU_CALL_TEXT_MAX + 1) : 0;
    if (length == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (length > VGPU_CALL_TEXT_MAX)
        return CUDA_ERROR_NOT_FOUND;
    struct vgpu_context *context = module->base.context;
    CUdeviceptr found = 0;
    size_t size = 0;
    CUresult result = vgpu_call_module_global(context->base.name, module->base.name, name,
                                              (uint32_t)length, &found, &size);
    if (result != CUDA_SUCCESS)
        return result;
    if (size && !vgpu_memory_enter(context, found, size, VGPU_RANGE_GLOBAL, module))
        return CUDA_ERROR_UNKNOWN;
    if (address)
        *address = found;
    if (bytes)
        *bytes = size;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name)
{
    struct vgpu_module *module;
    CUresult result = vgpu_module_find(hmod, &module);
    return result == CUDA_SUCCESS ? vgpu_module_global_of(module, name, dptr, bytes) : result;
}
