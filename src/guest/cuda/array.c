/* SPDX-License-Identifier: MIT */
/* Arrays, and the texture and surface objects that kernels see them through. */
#include <stdlib.h>

#include "guest/cuda/internal.h"
#include "vgpu/array_format.h"

static bool channels_are_good(unsigned channels)
{
    return channels == 1 || channels == 2 || channels == 4;
}

/* ---- Arrays ---- */

CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray)
{
    struct vgpu_context *context;
    const size_t most = (size_t)1 << 31;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    const CUDA_ARRAY3D_DESCRIPTOR *d = pAllocateArray;
    if (!pHandle || !d || d->Width == 0 || d->Width > most || d->Height > most || d->Depth > most ||
        !channels_are_good(d->NumChannels) || (d->Depth && !d->Height))
        return CUDA_ERROR_INVALID_VALUE;
    unsigned element_bytes = vgpu_array_format_bytes(d->Format) * d->NumChannels;
    if (element_bytes == 0 || (d->Flags & ~CUDA_ARRAY3D_SURFACE_LDST))
        return vgpu_cuda_not_supported("an array of that format or with those flags");
    struct vgpu_array *array = vgpu_object_new(VGPU_KIND_ARRAY, context);
    if (!array)
        return CUDA_ERROR_OUT_OF_MEMORY;
    array->descriptor = *d;
    array->element_bytes = element_bytes;
    result = vgpu_call_array_create(context->base.name, array->base.name, d->Width, d->Height,
                                    d->Depth, (uint32_t)d->Format, d->NumChannels, d->Flags);
    if (result != CUDA_SUCCESS) {
        vgpu_object_free(&array->base);
        return result;
    }
    *pHandle = (CUarray)array;
    return CUDA_SUCCESS;
}

CUresult cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray)
{
    if (!pAllocateArray)
        return CUDA_ERROR_INVALID_VALUE;
    const CUDA_ARRAY3D_DESCRIPTOR d = {.Width = pAllocateArray->Width,
                                       .Height = pAllocateArray->Height,
                                       .Format = pAllocateArray->Format,
                                       .NumChannels = pAllocateArray->NumChannels};
    return cuArray3DCreate_v2(pHandle, &d);
}

static CUresult find_array(CUarray handle, struct vgpu_array **array)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    *array = vgpu_object_find(handle, VGPU_KIND_ARRAY);
    return *array ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *pArrayDescriptor, CUarray hArray)
{
    struct vgpu_array *array;
    CUresult result = find_array(hArray, &array);
    if (result == CUDA_SUCCESS && !pArrayDescriptor)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *pArrayDescriptor = array->descriptor;
    return result;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *pArrayDescriptor, CUarray hArray)
{
    struct vgpu_array *array;
    CUresult result = find_array(hArray, &array);
    if (result == CUDA_SUCCESS && !pArrayDescriptor)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *pArrayDescriptor =
            (CUDA_ARRAY_DESCRIPTOR){array->descriptor.Width, array->descriptor.Height,
                                    array->descriptor.Format, array->descriptor.NumChannels};
    return result;
}

CUresult cuArrayDestroy(CUarray hArray)
{
    struct vgpu_array *array;
    CUresult result = find_array(hArray, &array);
    if (result == CUDA_SUCCESS)
        result = vgpu_order_wait_context(NULL);
    if (result != CUDA_SUCCESS)
        return result;
    result = vgpu_call_array_destroy(array->base.context->base.name, array->base.name);
    vgpu_object_free(&array->base);
    return result;
}

/* ---- Texture and surface objects ---- */

/* What one was made of, for those who ask. The host chooses the numbers, which kernels use. */
struct view {
    struct view *next;
    unsigned long long object;
    bool surface;
    struct vgpu_context *context;
    uint64_t context_name;
    CUDA_RESOURCE_DESC resource;
    CUDA_TEXTURE_DESC texture;
};

static struct view *views; /* guarded by the driver's lock */

static void remember(unsigned long long object, bool surface, struct vgpu_context *context,
                     const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *texture,
                     struct view *view)
{
    view->object = object;
    view->surface = surface;
    view->context = context;
    view->context_name = context->base.name;
    view->resource = *resource;
    if (texture)
        view->texture = *texture;
    vgpu_cuda_lock();
    view->next = views;
    views = view;
    vgpu_cuda_unlock();
}

/* The one of that number in a context that lives; those of dead ones are dropped on the way. With
 * `take` it is out of the list and the caller's to free; else a copy is in *found. */
static struct view *find_view(unsigned long long object, bool surface, bool take,
                              struct view *found)
{
    struct view *result = NULL;
    vgpu_cuda_lock();
    for (struct view **at = &views; *at;) {
        struct view *view = *at;
        const struct vgpu_context *context = vgpu_object_find(view->context, VGPU_KIND_CONTEXT);
        if (!context || context->base.name != view->context_name) {
            *at = view->next;
            free(view);
            continue;
        }
        if (view->object == object && view->surface == surface) {
            result = view;
            if (take)
                *at = view->next;
            else
                *found = *view;
            break;
        }
        at = &view->next;
    }
    vgpu_cuda_unlock();
    return result;
}

/* The slots that say what a texture reads. */
struct source {
    uint64_t array;
    CUdeviceptr address;
    uint32_t format, channels;
    size_t width, height, pitch;
};

static CUresult read_resource(struct vgpu_context *context, const CUDA_RESOURCE_DESC *d,
                              struct source *s)
{
    *s = (struct source){0};
    uint64_t bytes = 0;
    switch ((int)d->resType) {
    case CU_RESOURCE_TYPE_ARRAY: {
        const struct vgpu_array *array = vgpu_object_find(d->res.array.hArray, VGPU_KIND_ARRAY);
        if (!array)
            return CUDA_ERROR_INVALID_HANDLE;
        s->array = array->base.name;
        s->format = (uint32_t)array->descriptor.Format;
        s->channels = array->descriptor.NumChannels;
        return CUDA_SUCCESS;
    }
    case CU_RESOURCE_TYPE_LINEAR:
        s->address = d->res.linear.devPtr;
        s->format = (uint32_t)d->res.linear.format;
        s->channels = d->res.linear.numChannels;
        bytes = s->width = d->res.linear.sizeInBytes; /* in bytes, here only */
        break;
    case CU_RESOURCE_TYPE_PITCH2D:
        s->address = d->res.pitch2D.devPtr;
        s->format = (uint32_t)d->res.pitch2D.format;
        s->channels = d->res.pitch2D.numChannels;
        s->width = d->res.pitch2D.width;
        s->height = d->res.pitch2D.height;
        s->pitch = d->res.pitch2D.pitchInBytes;
        if (s->width == 0 || s->height == 0 || s->width > UINT32_MAX || s->height > UINT32_MAX ||
            s->pitch > UINT32_MAX ||
            s->pitch < s->width * vgpu_array_format_bytes((CUarray_format)s->format) * s->channels)
            return CUDA_ERROR_INVALID_VALUE;
        bytes = (uint64_t)(s->height - 1) * s->pitch +
                s->width * vgpu_array_format_bytes((CUarray_format)s->format) * s->channels;
        break;
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
        return vgpu_cuda_not_supported("a mipmapped texture");
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!channels_are_good(s->channels) || bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (!vgpu_array_format_bytes((CUarray_format)s->format))
        return vgpu_cuda_not_supported("a texture of that format");
    return vgpu_memory_check(context, s->address, bytes);
}

CUresult cuTexObjectCreate(CUtexObject *pTexObject, const CUDA_RESOURCE_DESC *pResDesc,
                           const CUDA_TEXTURE_DESC *pTexDesc,
                           const CUDA_RESOURCE_VIEW_DESC *pResViewDesc)
{
    struct vgpu_context *context;
    struct source s;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    const CUDA_TEXTURE_DESC *t = pTexDesc;
    if (!pTexObject || !pResDesc || !t || pResDesc->flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (pResViewDesc)
        return vgpu_cuda_not_supported("a texture through another format");
    for (int i = 0; i < 3; i++)
        if ((unsigned)t->addressMode[i] > CU_TR_ADDRESS_MODE_BORDER)
            return CUDA_ERROR_INVALID_VALUE;
    if ((unsigned)t->filterMode > CU_TR_FILTER_MODE_LINEAR)
        return CUDA_ERROR_INVALID_VALUE;
    if (t->flags & ~(CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES |
                     CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION))
        return vgpu_cuda_not_supported("a texture with those flags");
    result = read_resource(context, pResDesc, &s);
    if (result != CUDA_SUCCESS)
        return result;
    struct view *view = calloc(1, sizeof(*view));
    if (!view)
        return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t texture = 0;
    result = vgpu_call_texture_create(
        context->base.name, &texture, (uint32_t)pResDesc->resType, s.array, s.address, s.format,
        s.channels, s.width, s.height, s.pitch, (uint32_t)t->addressMode[0],
        (uint32_t)t->addressMode[1], (uint32_t)t->addressMode[2], (uint32_t)t->filterMode, t->flags,
        t->borderColor[0], t->borderColor[1], t->borderColor[2], t->borderColor[3]);
    if (result != CUDA_SUCCESS) {
        free(view);
        return result;
    }
    remember(texture, false, context, pResDesc, t, view);
    *pTexObject = texture;
    return CUDA_SUCCESS;
}

CUresult cuSurfObjectCreate(CUsurfObject *pSurfObject, const CUDA_RESOURCE_DESC *pResDesc)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!pSurfObject || !pResDesc || pResDesc->flags || pResDesc->resType != CU_RESOURCE_TYPE_ARRAY)
        return CUDA_ERROR_INVALID_VALUE;
    const struct vgpu_array *array = vgpu_object_find(pResDesc->res.array.hArray, VGPU_KIND_ARRAY);
    if (!array)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!(array->descriptor.Flags & CUDA_ARRAY3D_SURFACE_LDST))
        return CUDA_ERROR_INVALID_VALUE;
    struct view *view = calloc(1, sizeof(*view));
    if (!view)
        return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t surface = 0;
    result = vgpu_call_surface_create(context->base.name, &surface, array->base.name);
    if (result != CUDA_SUCCESS) {
        free(view);
        return result;
    }
    remember(surface, true, context, pResDesc, NULL, view);
    *pSurfObject = surface;
    return CUDA_SUCCESS;
}

static CUresult destroy_view(unsigned long long object, bool surface)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_order_wait_context(NULL);
    if (result != CUDA_SUCCESS)
        return result;
    struct view *view = find_view(object, surface, true, NULL);
    if (!view)
        return CUDA_ERROR_INVALID_VALUE;
    result = surface ? vgpu_call_surface_destroy(view->context_name, object)
                     : vgpu_call_texture_destroy(view->context_name, object);
    free(view);
    return result;
}

CUresult cuTexObjectDestroy(CUtexObject texObject)
{
    return destroy_view(texObject, false);
}

CUresult cuSurfObjectDestroy(CUsurfObject surfObject)
{
    return destroy_view(surfObject, true);
}

static CUresult describe_view(unsigned long long object, bool surface, CUDA_RESOURCE_DESC *resource,
                              CUDA_TEXTURE_DESC *texture)
{
    struct vgpu_context *context;
    struct view view;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if ((!resource && !texture) || !find_view(object, surface, false, &view))
        return CUDA_ERROR_INVALID_VALUE;
    if (resource)
        *resource = view.resource;
    if (texture)
        *texture = view.texture;
    return CUDA_SUCCESS;
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUtexObject texObject)
{
    return describe_view(texObject, false, pResDesc, NULL);
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *pTexDesc, CUtexObject texObject)
{
    return describe_view(texObject, false, NULL, pTexDesc);
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUsurfObject surfObject)
{
    return describe_view(surfObject, true, pResDesc, NULL);
}
