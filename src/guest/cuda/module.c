/* SPDX-License-Identifier: MIT */
/*
 * Modules and functions. A function's parameter layout and limits come with it once, so that a
 * launch can be laid out and checked here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "guest/cuda/internal.h"

#define PARAMS_MAX       4096u /* of a kernel; more cannot fit its argument buffer */
#define PARAM_BYTES_MAX  32764u
#define LAYOUT_OF_GET    (768u / sizeof(struct vgpu_param_layout))
#define LAYOUT_OF_PARAMS (960u / sizeof(struct vgpu_param_layout))

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
    if (module->may_print && module->base.context)
        atomic_fetch_sub(&module->base.context->printing, 1);
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

static CUresult find_module(CUmodule handle, struct vgpu_module **module)
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
    CUresult result = find_module(hmod, &module);
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
    CUresult result = find_module(hmod, &module);
    return result == CUDA_SUCCESS ? vgpu_module_global_of(module, name, dptr, bytes) : result;
}

/* ---- Functions ---- */

static void free_function(struct vgpu_object *object)
{
    struct vgpu_function_object *function = (struct vgpu_function_object *)object;
    free(function->symbol);
    free(function->layout);
}

/* A parameter that lies outside its buffer would have the launch read outside it. */
static bool layout_is_sound(const struct vgpu_function_object *function)
{
    for (uint32_t i = 0; i < function->param_count; i++) {
        const struct vgpu_param_layout *p = &function->layout[i];
        if (p->size > function->param_bytes || p->offset > function->param_bytes - p->size)
            return false;
    }
    return true;
}

/* What the answer of function_get left out of the layout. */
static CUresult fetch_layout(struct vgpu_function_object *function, uint32_t have)
{
    while (have < function->param_count) {
        struct vgpu_param_layout piece[LAYOUT_OF_PARAMS];
        uint32_t length = 0;
        CUresult result =
            vgpu_call_function_params(function->base.context->base.name, function->base.name, have,
                                      piece, sizeof(piece), &length);
        if (result != CUDA_SUCCESS)
            return result;
        uint32_t count = length / (uint32_t)sizeof(piece[0]);
        if (count == 0)
            return CUDA_ERROR_UNKNOWN;
        if (count > function->param_count - have)
            count = function->param_count - have;
        memcpy(function->layout + have, piece, count * sizeof(piece[0]));
        have += count;
    }
    return CUDA_SUCCESS;
}

static CUresult ask_for_function(struct vgpu_function_object *function, const char *name,
                                 uint32_t name_length)
{
    struct vgpu_param_layout first[LAYOUT_OF_GET];
    uint32_t length = 0, max_dynamic = 0;
    CUresult result = vgpu_call_function_get(
        function->base.context->base.name, function->module->base.name, function->base.name, name,
        name_length, &function->param_count, &function->param_bytes, &function->max_threads,
        &function->static_shared_bytes, &function->const_bytes, &function->local_bytes,
        &function->registers, &function->ptx_version, &function->binary_version, &max_dynamic,
        first, sizeof(first), &length);
    if (result != CUDA_SUCCESS)
        return result;
    atomic_store(&function->max_dynamic_shared_bytes, max_dynamic);
    if (function->param_count > PARAMS_MAX || function->param_bytes > PARAM_BYTES_MAX)
        return CUDA_ERROR_UNKNOWN;
    function->layout = calloc(function->param_count + 1, sizeof(first[0]));
    if (!function->layout)
        return CUDA_ERROR_OUT_OF_MEMORY;
    uint32_t count = length / (uint32_t)sizeof(first[0]);
    if (count > function->param_count)
        count = function->param_count;
    memcpy(function->layout, first, count * sizeof(first[0]));
    result = fetch_layout(function, count);
    if (result == CUDA_SUCCESS && !layout_is_sound(function)) {
        vgpu_cuda_debug("the host says that %s has a parameter outside its argument buffer", name);
        result = CUDA_ERROR_UNKNOWN;
    }
    return result;
}

CUresult vgpu_module_function_of(struct vgpu_module *module, const char *name,
                                 struct vgpu_function_object **result)
{
    size_t length = name ? strnlen(name, VGPU_CALL_TEXT_MAX + 1) : 0;
    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    if (length == 0 || length > VGPU_CALL_TEXT_MAX)
        return CUDA_ERROR_NOT_FOUND;
    vgpu_cuda_lock();
    struct vgpu_function_object *known = module->functions;
    while (known && strcmp(known->symbol, name) != 0)
        known = known->next_of_module;
    vgpu_cuda_unlock();
    if (known) {
        *result = known;
        return CUDA_SUCCESS;
    }
    struct vgpu_function_object *function =
        vgpu_object_new(VGPU_KIND_FUNCTION, module->base.context);
    if (!function)
        return CUDA_ERROR_OUT_OF_MEMORY;
    function->base.finish = free_function;
    function->module = module;
    function->fit_block_size = -1;
    function->symbol = strdup(name);
    CUresult err = function->symbol ? ask_for_function(function, name, (uint32_t)length)
                                    : CUDA_ERROR_OUT_OF_MEMORY;
    if (err != CUDA_SUCCESS) {
        vgpu_object_free(&function->base);
        return err;
    }
    vgpu_cuda_lock();
    function->next_of_module = module->functions;
    module->functions = function;
    vgpu_cuda_unlock();
    *result = function;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
    struct vgpu_module *module;
    struct vgpu_function_object *function;
    CUresult result = find_module(hmod, &module);
    if (result != CUDA_SUCCESS)
        return result;
    if (!hfunc)
        return CUDA_ERROR_INVALID_VALUE;
    result = vgpu_module_function_of(module, name, &function);
    if (result == CUDA_SUCCESS)
        *hfunc = (CUfunction)function;
    return result;
}

CUresult vgpu_function_find(CUfunction handle, struct vgpu_function_object **function)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    *function = vgpu_object_find(handle, VGPU_KIND_FUNCTION);
    if (*function)
        return CUDA_SUCCESS;
    void *kernel = vgpu_object_find(handle, VGPU_KIND_KERNEL);
    return kernel ? vgpu_kernel_function(kernel, context, function) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult vgpu_function_attribute(struct vgpu_function_object *function, int attribute, int *value)
{
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = (int)function->max_threads;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
        *value = (int)function->static_shared_bytes;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
        *value = (int)function->const_bytes;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *value = (int)function->local_bytes;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = (int)function->registers;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        *value = function->ptx_version;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
        *value = function->binary_version;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = (int)atomic_load(&function->max_dynamic_shared_bytes);
        return CUDA_SUCCESS;
    default:
        break;
    }
    if (attribute < 0 || attribute >= CU_FUNC_ATTRIBUTE_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    int32_t found = 0;
    CUresult result = vgpu_call_function_get_attribute(function->base.context->base.name, &found,
                                                       attribute, function->base.name);
    if (result == CUDA_SUCCESS)
        *value = found;
    return result;
}

CUresult vgpu_function_set_attribute(struct vgpu_function_object *function, int attribute,
                                     int value)
{
    CUresult result = vgpu_call_function_set_attribute(function->base.context->base.name, attribute,
                                                       function->base.name, value);
    if (result != CUDA_SUCCESS)
        return result;
    if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        atomic_store(&function->max_dynamic_shared_bytes, (uint32_t)value);
    vgpu_cuda_lock();
    function->fit_block_size = -1; /* what fits may be another number now */
    vgpu_cuda_unlock();
    return CUDA_SUCCESS;
}

CUresult vgpu_function_param(struct vgpu_function_object *function, size_t index, size_t *offset,
                             size_t *size)
{
    if (!offset || index >= function->param_count)
        return CUDA_ERROR_INVALID_VALUE;
    *offset = function->layout[index].offset;
    if (size)
        *size = function->layout[index].size;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(hfunc, &function);
    return result == CUDA_SUCCESS ? vgpu_function_attribute(function, (int)attrib, pi) : result;
}

CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(hfunc, &function);
    return result == CUDA_SUCCESS ? vgpu_function_set_attribute(function, (int)attrib, value)
                                  : result;
}

/* A preference, which CUDA itself may ignore. */
CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(hfunc, &function);
    if (result == CUDA_SUCCESS && (unsigned)config > CU_FUNC_CACHE_PREFER_EQUAL)
        result = CUDA_ERROR_INVALID_VALUE;
    return result;
}

CUresult cuFuncGetModule(CUmodule *hmod, CUfunction hfunc)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(hfunc, &function);
    if (result == CUDA_SUCCESS && !hmod)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *hmod = (CUmodule)function->module;
    return result;
}

CUresult cuFuncGetName(const char **name, CUfunction hfunc)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(hfunc, &function);
    if (result == CUDA_SUCCESS && !name)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *name = function->symbol;
    return result;
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset,
                            size_t *paramSize)
{
    struct vgpu_function_object *function;
    CUresult result = vgpu_function_find(func, &function);
    return result == CUDA_SUCCESS
               ? vgpu_function_param(function, paramIndex, paramOffset, paramSize)
               : result;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function)
{
    struct vgpu_function_object *found;
    CUresult result = vgpu_function_find(function, &found);
    if (result == CUDA_SUCCESS && !state)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return result;
}

CUresult cuFuncLoad(CUfunction function)
{
    struct vgpu_function_object *found;
    return vgpu_function_find(function, &found); /* a function that there is, is loaded */
}
