/* SPDX-License-Identifier: MIT */
/*
 * Functions. A function's parameter layout and limits come with it once, so that a launch can be
 * laid out and checked here.
 */
#include <stdlib.h>

#include "guest/cuda/internal.h"

#define PARAMS_MAX       4096u /* of a kernel; more cannot fit its argument buffer */
#define PARAM_BYTES_MAX  32764u
#define LAYOUT_OF_GET    (768u / sizeof(struct vgpu_param_layout))
#define LAYOUT_OF_PARAMS (960u / sizeof(struct vgpu_param_layout))

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
    CUresult result = vgpu_module_find(hmod, &module);
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
