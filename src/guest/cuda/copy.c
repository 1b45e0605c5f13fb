/* SPDX-License-Identifier: MIT */
/*
 * Copies: every one is a box of bytes between two places, each in host memory, in device memory or
 * in an array. Boxes are cut into what one request holds. To the device the pieces are posted, so
 * the source has been read when the copy returns; from the device each piece is waited for.
 */
#include <stdlib.h>

#include "guest/cuda/internal.h"

/* ---- Checks ---- */

/* Bytes from a box's first to its last; false: more than there are addresses. */
static bool extent(const struct vgpu_place *place, const struct vgpu_copy *copy, uint64_t *bytes)
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
    if ((copy->height > 1 && place->pitch < copy->width) || !extent(place, copy, &bytes))
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

/* ---- Pieces ---- */

static uint8_t *host_row(const struct vgpu_place *place, size_t y, size_t z)
{
    return place->host + z * place->slice + y * place->pitch;
}

static uint64_t device_row(const struct vgpu_place *place, size_t y, size_t z)
{
    return place->device + z * place->slice + y * place->pitch;
}

static CUresult row_to_device(struct vgpu_stream *stream, uint64_t to, const uint8_t *from,
                              size_t bytes)
{
    const uint32_t room = vgpu_cuda_room(VGPU_CALL_COPY_TO_DEVICE);
    uint64_t context = stream->base.context->base.name;
    for (size_t done = 0; done < bytes;) {
        uint32_t piece = bytes - done < room ? (uint32_t)(bytes - done) : room;
        CUresult result =
            vgpu_call_copy_to_device(context, to + done, stream->base.name, 0, from + done, piece);
        if (result != CUDA_SUCCESS)
            return result;
        done += piece;
    }
    return CUDA_SUCCESS;
}

static CUresult row_from_device(struct vgpu_stream *stream, uint8_t *to, uint64_t from,
                                size_t bytes)
{
    uint64_t context = stream->base.context->base.name;
    for (size_t done = 0; done < bytes;) {
        uint32_t length = 0;
        uint32_t piece =
            bytes - done < VGPU_CALL_FILL_MAX ? (uint32_t)(bytes - done) : VGPU_CALL_FILL_MAX;
        CUresult result = vgpu_call_copy_from_device(context, from + done, piece, stream->base.name,
                                                     to + done, piece, &length);
        if (result != CUDA_SUCCESS)
            return result;
        if (length != piece)
            return CUDA_ERROR_UNKNOWN;
        done += piece;
    }
    return CUDA_SUCCESS;
}

/*
 * Between an array and host memory. `room` is what one request holds; rows that are short travel
 * several at a time, long ones in parts of whole elements.
 */
static CUresult array_and_host(struct vgpu_stream *stream, const struct vgpu_copy *copy,
                               uint32_t room, bool write)
{
    const struct vgpu_place *array = write ? &copy->to : &copy->from;
    const struct vgpu_place *host = write ? &copy->from : &copy->to;
    uint64_t context = stream->base.context->base.name, name = array->array->base.name;
    uint8_t buffer[VGPU_MAILBOX_BYTES];
    size_t part = room - room % array->array->element_bytes;
    if (copy->width < part)
        part = copy->width;
    size_t rows_most = room / part;
    for (size_t z = 0; z < copy->depth; z++) {
        for (size_t y = 0, rows; y < copy->height; y += rows) {
            rows = copy->height - y < rows_most ? copy->height - y : rows_most;
            for (size_t x = 0, bytes; x < copy->width; x += bytes) {
                bytes = copy->width - x < part ? copy->width - x : part;
                uint32_t size = (uint32_t)(bytes * rows), length = size;
                for (size_t r = 0; write && r < rows; r++)
                    memcpy(buffer + r * bytes, host_row(host, y + r, z) + x, bytes);
                CUresult result =
                    write ? vgpu_call_array_write(context, name, array->x + x, array->y + y,
                                                  array->z + z, bytes, rows, stream->base.name,
                                                  buffer, size)
                          : vgpu_call_array_read(context, name, array->x + x, array->y + y,
                                                 array->z + z, bytes, rows, size, stream->base.name,
                                                 buffer, size, &length);
                if (result != CUDA_SUCCESS)
                    return result;
                if (length != size)
                    return CUDA_ERROR_UNKNOWN;
                for (size_t r = 0; !write && r < rows; r++)
                    memcpy(host_row(host, y + r, z) + x, buffer + r * bytes, bytes);
            }
        }
    }
    return CUDA_SUCCESS;
}

static CUresult with_array(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    const struct vgpu_place *to = &copy->to, *from = &copy->from;
    if (from->type == VGPU_PLACE_HOST)
        return array_and_host(stream, copy, vgpu_cuda_room(VGPU_CALL_ARRAY_WRITE), true);
    if (to->type == VGPU_PLACE_HOST)
        return array_and_host(stream, copy, VGPU_CALL_FILL_MAX, false);
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

CUresult vgpu_copy_send(struct vgpu_stream *stream, const struct vgpu_copy *given)
{
    struct vgpu_copy copy = *given;
    uint64_t context = stream->base.context->base.name;
    CUresult result = CUDA_SUCCESS;
    if (is_empty(&copy))
        return result;
    flatten(&copy);
    bool to_host = copy.to.type == VGPU_PLACE_HOST, from_host = copy.from.type == VGPU_PLACE_HOST;
    if (copy.to.type == VGPU_PLACE_ARRAY || copy.from.type == VGPU_PLACE_ARRAY)
        return with_array(stream, &copy);
    if (!to_host && !from_host) {
        if (copy.height == 1 && copy.depth == 1)
            return vgpu_call_copy_on_device(context, copy.to.device, copy.from.device, copy.width,
                                            stream->base.name);
        return vgpu_call_copy_rect(context, copy.to.device, copy.to.pitch, copy.to.slice,
                                   copy.from.device, copy.from.pitch, copy.from.slice, copy.width,
                                   copy.height, copy.depth, stream->base.name);
    }
    if (to_host && from_host) /* in the stream's order all the same */
        result = vgpu_call_stream_synchronize(context, stream->base.name);
    for (size_t z = 0; z < copy.depth && result == CUDA_SUCCESS; z++) {
        for (size_t y = 0; y < copy.height && result == CUDA_SUCCESS; y++) {
            if (to_host && from_host)
                memmove(host_row(&copy.to, y, z), host_row(&copy.from, y, z), copy.width);
            else if (from_host)
                result = row_to_device(stream, device_row(&copy.to, y, z),
                                       host_row(&copy.from, y, z), copy.width);
            else
                result = row_from_device(stream, host_row(&copy.to, y, z),
                                         device_row(&copy.from, y, z), copy.width);
        }
    }
    return result;
}

/* ---- In a stream's order ---- */

struct later {
    struct vgpu_copy copy;
    uint8_t bytes[]; /* of the source, when it may change */
};

static CUresult run_later(struct vgpu_stream *stream, void *data)
{
    struct later *later = data;
    return vgpu_copy_send(stream, &later->copy);
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
                memcpy(at, host_row(&copy->from, y, z), copy->width);
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
            result = vgpu_copy_send(stream, copy);
        vgpu_order_end();
        return result;
    }
    if (async && vgpu_order_holds(stream))
        return keep_copy(stream, copy);
    result = vgpu_order_wait(stream);
    if (result == CUDA_SUCCESS)
        result = vgpu_copy_send(stream, copy);
    if (result == CUDA_SUCCESS && copy->to.type == VGPU_PLACE_HOST)
        vgpu_print_read(stream->base.context);
    return result;
}
