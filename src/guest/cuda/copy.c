/* SPDX-License-Identifier: MIT */
/*
 * Copies: every one is a box of bytes between two places, each in host memory, in device memory or
 * in an array. What is checked, how the bytes travel, and when: at once, in a stream's order behind
 * what is held back, or waited for.
 */
#include <stdlib.h>

#include "guest/cuda/copy.h"

/* On a channel: what is no larger goes inside of a record, the copying there and back being cheaper
 * than a fence. */
#define INLINE_BYTES 8192u

/* ---- Checks ---- */

bool vgpu_copy_extent(const struct vgpu_place *place, const struct vgpu_copy *copy, uint64_t *bytes)
{
    uint64_t rows = copy->height - 1, slices = copy->depth - 1;
    if (rows && place->pitch > UINT64_MAX / 2 / rows)
        return false;
    if (slices && place->slice > UINT64_MAX / 2 / slices)
        return false;
    uint64_t steps = rows * place->pitch + slices * place->slice;
    *bytes = steps + copy->width;
    return *bytes >= steps;
}

static CUresult check_place(struct vgpu_context *context, const struct vgpu_place *place,
                            const struct vgpu_copy *copy)
{
    uint64_t bytes;
    if (place->type == VGPU_PLACE_ARRAY) {
        const CUDA_ARRAY3D_DESCRIPTOR *d = &place->array->descriptor;
        size_t row = d->Width * place->array->element_bytes;
        size_t height = d->Height ? d->Height : 1, depth = d->Depth ? d->Depth : 1;
        bool inside = place->x <= row && copy->width <= row - place->x && place->y <= height &&
                      copy->height <= height - place->y && place->z <= depth &&
                      copy->depth <= depth - place->z;
        return inside ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    if ((copy->height > 1 && place->pitch < copy->width) || !vgpu_copy_extent(place, copy, &bytes))
        return CUDA_ERROR_INVALID_VALUE;
    if (place->type == VGPU_PLACE_DEVICE)
        return vgpu_memory_check(context, place->device, bytes);
    uint64_t address = (uintptr_t)place->host;
    return address && address + bytes >= address ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool is_empty(const struct vgpu_copy *copy)
{
    return copy->width == 0 || copy->height == 0 || copy->depth == 0;
}

CUresult vgpu_copy_check(struct vgpu_context *context, const struct vgpu_copy *copy)
{
    if (is_empty(copy))
        return CUDA_SUCCESS;
    CUresult result = check_place(context, &copy->from, copy);
    return result == CUDA_SUCCESS ? check_place(context, &copy->to, copy) : result;
}

/* ---- How bytes travel ---- */

static CUresult array_on_device(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    const struct vgpu_place *to = &copy->to, *from = &copy->from;
    bool to_array = to->type == VGPU_PLACE_ARRAY, from_array = from->type == VGPU_PLACE_ARRAY;
    return vgpu_call_array_copy(
        stream->base.context->base.name, to_array ? to->array->base.name : 0,
        to_array ? 0 : to->device, to_array ? 0 : to->pitch, to_array ? 0 : to->slice,
        to_array ? to->x : 0, to_array ? to->y : 0, to_array ? to->z : 0,
        from_array ? from->array->base.name : 0, from_array ? 0 : from->device,
        from_array ? 0 : from->pitch, from_array ? 0 : from->slice, from_array ? from->x : 0,
        from_array ? from->y : 0, from_array ? from->z : 0, copy->width, copy->height, copy->depth,
        stream->base.name);
}

static CUresult on_device(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    const struct vgpu_place *to = &copy->to, *from = &copy->from;
    uint64_t context = stream->base.context->base.name;
    if (to->type == VGPU_PLACE_ARRAY || from->type == VGPU_PLACE_ARRAY)
        return array_on_device(stream, copy);
    if (copy->height == 1 && copy->depth == 1)
        return vgpu_call_copy_on_device(context, to->device, from->device, copy->width,
                                        stream->base.name);
    return vgpu_call_copy_rect(context, to->device, to->pitch, to->slice, from->device, from->pitch,
                               from->slice, copy->width, copy->height, copy->depth,
                               stream->base.name);
}

/* Between host memory and the GPU. */
static CUresult with_host(struct vgpu_stream *stream, const struct vgpu_copy *copy, bool async)
{
    bool up = copy->from.type == VGPU_PLACE_HOST;
    const struct vgpu_place *host = up ? &copy->from : &copy->to;
    const struct vgpu_place *far = up ? &copy->to : &copy->from;
    uint64_t extent, offset, total;
    if (!vgpu_cuda.channel)
        return vgpu_copy_by_request(stream, copy);
    if (__builtin_mul_overflow(copy->width, copy->height, &total) ||
        __builtin_mul_overflow(total, copy->depth, &total) ||
        !vgpu_copy_extent(host, copy, &extent))
        return CUDA_ERROR_INVALID_VALUE;
    bool one = far->type == VGPU_PLACE_ARRAY || (copy->height == 1 && copy->depth == 1);
    bool pinned = vgpu_host_in_window(host->host, extent, stream->base.context, &offset);
    /* A call that answers with the bytes: with pinned memory only if they are waited for. */
    if (!up && one && total <= VGPU_CALL_FILL_MAX && !(pinned && async))
        return vgpu_copy_by_request(stream, copy);
    if (!pinned)
        return up && one && total <= INLINE_BYTES ? vgpu_copy_by_request(stream, copy)
                                                  : vgpu_copy_staged(stream, copy);
    CUresult result = vgpu_copy_pinned(stream, copy, offset);
    if (result == CUDA_SUCCESS && !async)
        result = vgpu_call_stream_synchronize(stream->base.context->base.name, stream->base.name);
    return result;
}

static CUresult in_host(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    /* In the stream's order all the same. */
    CUresult result =
        vgpu_call_stream_synchronize(stream->base.context->base.name, stream->base.name);
    for (size_t z = 0; z < copy->depth && result == CUDA_SUCCESS; z++)
        for (size_t y = 0; y < copy->height; y++)
            memmove(vgpu_host_row(&copy->to, y, z), vgpu_host_row(&copy->from, y, z), copy->width);
    return result;
}

/* Rows, or slices, without a gap on either side are one row. */
static void flatten(struct vgpu_copy *copy)
{
    if (copy->to.type == VGPU_PLACE_ARRAY || copy->from.type == VGPU_PLACE_ARRAY)
        return;
    if (copy->depth > 1 && copy->to.slice == copy->height * copy->to.pitch &&
        copy->from.slice == copy->height * copy->from.pitch) {
        copy->height *= copy->depth;
        copy->depth = 1;
    }
    if (copy->height > 1 && copy->to.pitch == copy->width && copy->from.pitch == copy->width) {
        copy->width *= copy->height;
        copy->height = 1;
        copy->to.pitch = copy->from.pitch = copy->width;
    }
}

CUresult vgpu_copy_send(struct vgpu_stream *stream, const struct vgpu_copy *given, bool async)
{
    struct vgpu_copy copy = *given;
    if (is_empty(&copy))
        return CUDA_SUCCESS;
    flatten(&copy);
    bool to_host = copy.to.type == VGPU_PLACE_HOST, from_host = copy.from.type == VGPU_PLACE_HOST;
    if (to_host && from_host)
        return in_host(stream, &copy);
    return to_host || from_host ? with_host(stream, &copy, async) : on_device(stream, &copy);
}

/* ---- In a stream's order ---- */

struct later {
    struct vgpu_copy copy;
    uint8_t bytes[]; /* of the source, when it may change */
};

static CUresult run_later(struct vgpu_stream *stream, void *data)
{
    struct later *later = data;
    return vgpu_copy_send(stream, &later->copy, true);
}

/* A copy that host memory takes part in, when something before it is held back. */
static CUresult keep_copy(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    bool keep_bytes = copy->from.type == VGPU_PLACE_HOST && !vgpu_host_is_pinned(copy->from.host);
    size_t bytes = 0;
    if (keep_bytes) {
        if (copy->height > SIZE_MAX / 2 / copy->width ||
            copy->depth > SIZE_MAX / 2 / (copy->width * copy->height))
            return CUDA_ERROR_INVALID_VALUE;
        bytes = copy->width * copy->height * copy->depth;
    }
    struct later *later = malloc(sizeof(*later) + bytes);
    if (!later)
        return CUDA_ERROR_OUT_OF_MEMORY;
    later->copy = *copy;
    if (keep_bytes) {
        uint8_t *at = later->bytes;
        for (size_t z = 0; z < copy->depth; z++)
            for (size_t y = 0; y < copy->height; y++, at += copy->width)
                memcpy(at, vgpu_host_row(&copy->from, y, z), copy->width);
        later->copy.from.host = later->bytes;
        later->copy.from.pitch = copy->width;
        later->copy.from.slice = copy->width * copy->height;
    }
    return vgpu_order_later(stream, run_later, later);
}

CUresult vgpu_copy_run(struct vgpu_stream *stream, const struct vgpu_copy *copy, bool async)
{
    bool host = copy->to.type == VGPU_PLACE_HOST || copy->from.type == VGPU_PLACE_HOST;
    CUresult result = vgpu_copy_check(stream->base.context, copy);
    if (result == CUDA_SUCCESS && !async)
        result = vgpu_capture_refuse(stream); /* who waits for a copy cannot mean "later" */
    if (result != CUDA_SUCCESS || is_empty(copy))
        return result;
    if (vgpu_capture_copy(stream, copy, &result))
        return result;
    if (!host) {
        result = vgpu_order_begin(stream);
        if (result == CUDA_SUCCESS)
            result = vgpu_copy_send(stream, copy, async);
        vgpu_order_end();
        return result;
    }
    if (async && vgpu_order_holds(stream))
        return keep_copy(stream, copy);
    result = vgpu_order_wait(stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_copy_send(stream, copy, async);
    if (result == CUDA_SUCCESS && copy->to.type == VGPU_PLACE_HOST)
        vgpu_print_read(stream->base.context);
    return result;
}
