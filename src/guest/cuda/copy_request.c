/* SPDX-License-Identifier: MIT */
/*
 * Copies whose bytes travel inside of requests: small ones, and all of them where there is no
 * window. To the device the pieces are posted, so the source has been read when the copy returns;
 * from the device each piece is waited for.
 */
#include "guest/cuda/copy.h"

/* With arrays, rows are put together here; on a channel a record holds more than is worth it. */
#define BUFFER_BYTES 8192u

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
    uint8_t buffer[BUFFER_BYTES];
    if (room > sizeof(buffer))
        room = sizeof(buffer);
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
                    memcpy(buffer + r * bytes, vgpu_host_row(host, y + r, z) + x, bytes);
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
                    memcpy(vgpu_host_row(host, y + r, z) + x, buffer + r * bytes, bytes);
            }
        }
    }
    return CUDA_SUCCESS;
}

CUresult vgpu_copy_by_request(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    const struct vgpu_place *to = &copy->to, *from = &copy->from;
    if (to->type == VGPU_PLACE_ARRAY)
        return array_and_host(stream, copy, vgpu_cuda_room(VGPU_CALL_ARRAY_WRITE), true);
    if (from->type == VGPU_PLACE_ARRAY)
        return array_and_host(stream, copy, VGPU_CALL_FILL_MAX, false);
    CUresult result = CUDA_SUCCESS;
    for (size_t z = 0; z < copy->depth && result == CUDA_SUCCESS; z++)
        for (size_t y = 0; y < copy->height && result == CUDA_SUCCESS; y++)
            result = from->type == VGPU_PLACE_HOST
                         ? row_to_device(stream, vgpu_device_row(to, y, z),
                                         vgpu_host_row(from, y, z), copy->width)
                         : row_from_device(stream, vgpu_host_row(to, y, z),
                                           vgpu_device_row(from, y, z), copy->width);
    return result;
}
