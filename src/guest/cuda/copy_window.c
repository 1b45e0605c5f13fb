/* SPDX-License-Identifier: MIT */
/*
 * Copies by the window (docs/ring.md, G13): of pinned memory, which lies there, and of other memory
 * through staging, a piece of it at a time, so that copying here and there goes on side by side.
 *
 * A piece of staging belongs to the host until a fence behind its copy was answered. To the device,
 * the copy is over for the program when the last piece was filled; who comes next waits for the
 * fences.
 */
#include "guest/cuda/copy.h"
#include "guest/cuda/copy_team.h"
#include "guest/staging.h"

/* Bytes of a piece. Where a processor does the host's half of the work, pieces should still be in
 * its cache when they get there; a GPU wants them large, but several for what is to overlap. */
#define PIECE_SOFTWARE 0x80000u
#define PIECE_GPU      0x200000u
#define PIECE_LEAST    0x20000u
#define PIECE_SPLIT    4u

/* From so many bytes on, what comes from the device is more than is looked at at once. */
#define BULK_BYTES 0x200000u

/* A part of a box: whole slices, or rows of one, or a part of a row. */
struct part {
    size_t x, y, z; /* from the box's corner: bytes, rows, slices */
    size_t width, rows, slices;
};

/* Which context's copies use which piece: guarded by having acquired that way. */
static uint64_t used_by[2][VGPU_STAGING_PIECES];

/* ---- Parts ---- */

static bool with_array(const struct vgpu_copy *copy)
{
    return copy->to.type == VGPU_PLACE_ARRAY || copy->from.type == VGPU_PLACE_ARRAY;
}

/* The part after `p` (all zero: the first one) that has at most `limit` bytes, which is a multiple
 * of 16 and so of any element. False: that was all. */
static bool next_part(const struct vgpu_copy *copy, size_t limit, struct part *p)
{
    if (p->slices) {
        p->x += p->width;
        if (p->x < copy->width)
            goto found;
        p->x = 0;
        p->y += p->rows;
        if (p->y < copy->height)
            goto found;
        p->y = 0;
        p->z += p->slices;
        if (p->z == copy->depth)
            return false;
    }
found:
    p->rows = p->slices = 1;
    p->width = copy->width - p->x < limit ? copy->width - p->x : limit;
    if (p->width < copy->width)
        return true;
    p->rows = limit / p->width < copy->height - p->y ? limit / p->width : copy->height - p->y;
    if (p->rows < copy->height || with_array(copy))
        return true;
    p->slices = limit / p->width / p->rows;
    if (p->slices > copy->depth - p->z)
        p->slices = copy->depth - p->z;
    return true;
}

/* Posts the copy of a part between its place and the window, where it begins at `offset`. */
static CUresult post_part(const struct vgpu_stream *stream, const struct vgpu_copy *copy,
                          const struct part *p, uint64_t offset, size_t pitch, size_t slice)
{
    bool up = copy->from.type == VGPU_PLACE_HOST;
    const struct vgpu_place *far = up ? &copy->to : &copy->from;
    uint64_t context = stream->base.context->base.name, on = stream->base.name;
    uint64_t bytes = (p->slices - 1) * slice + (p->rows - 1) * pitch + p->width;
    if (far->type == VGPU_PLACE_ARRAY) {
        uint64_t array = far->array->base.name;
        size_t x = far->x + p->x, y = far->y + p->y, z = far->z + p->z;
        return up ? vgpu_call_array_write_window(context, array, x, y, z, p->width, p->rows, offset,
                                                 bytes, pitch, on)
                  : vgpu_call_array_read_window(context, array, x, y, z, p->width, p->rows, offset,
                                                bytes, pitch, on);
    }
    uint64_t device = vgpu_device_row(far, p->y, p->z) + p->x;
    if (p->rows == 1 && p->slices == 1)
        return up ? vgpu_call_copy_window_to_device(context, device, bytes, offset, on)
                  : vgpu_call_copy_device_to_window(context, offset, device, bytes, on);
    return up ? vgpu_call_copy_rect_window_to_device(context, device, far->pitch, far->slice,
                                                     offset, bytes, pitch, slice, p->width, p->rows,
                                                     p->slices, on)
              : vgpu_call_copy_rect_device_to_window(context, offset, bytes, pitch, slice, device,
                                                     far->pitch, far->slice, p->width, p->rows,
                                                     p->slices, on);
}

/* ---- Pinned ---- */

CUresult vgpu_copy_pinned(struct vgpu_stream *stream, const struct vgpu_copy *copy, uint64_t offset)
{
    const struct vgpu_place *host = copy->to.type == VGPU_PLACE_HOST ? &copy->to : &copy->from;
    if (!with_array(copy)) {
        const struct part all = {0, 0, 0, copy->width, copy->height, copy->depth};
        return post_part(stream, copy, &all, offset, host->pitch, host->slice);
    }
    CUresult result = CUDA_SUCCESS;
    for (size_t z = 0; z < copy->depth && result == CUDA_SUCCESS; z++) {
        const struct part slice = {0, 0, z, copy->width, copy->height, 1};
        result = post_part(stream, copy, &slice, offset + z * host->slice, host->pitch, 0);
    }
    return result;
}

/* ---- Staged ---- */

static uint32_t piece_bytes(const struct vgpu_staging *staging, uint64_t total)
{
    bool software = strcmp(vgpu_cuda.info.backend, "software") == 0;
    uint64_t most = software ? PIECE_SOFTWARE : PIECE_GPU;
    uint64_t bytes = (total / PIECE_SPLIT + 4095) & ~(uint64_t)4095;
    if (bytes < PIECE_LEAST)
        bytes = PIECE_LEAST;
    if (bytes > most)
        bytes = most;
    return bytes < staging->piece_bytes ? (uint32_t)bytes : staging->piece_bytes;
}

/* A part's rows into a piece, where they have no gaps. The host reads it next, so it is to be in
 * the cache. */
static void pack(const struct vgpu_place *host, const struct part *p, uint8_t *piece)
{
    for (size_t z = 0; z < p->slices; z++)
        for (size_t y = 0; y < p->rows; y++, piece += p->width)
            vgpu_copy_team_copy(piece, vgpu_host_row(host, p->y + y, p->z + z) + p->x, p->width,
                                false);
}

/* And out of it. That the host's bytes are there was seen by acquiring the fence's answer. */
static void unpack(const struct vgpu_place *host, const struct part *p, const uint8_t *piece,
                   bool bulk)
{
    for (size_t z = 0; z < p->slices; z++)
        for (size_t y = 0; y < p->rows; y++, piece += p->width)
            vgpu_copy_team_copy(vgpu_host_row(host, p->y + y, p->z + z) + p->x, piece, p->width,
                                bulk);
}

/* Makes sure that nothing uses the piece. What it says is the failure of what used it. */
static CUresult claim_piece(struct vgpu_staging *staging, enum vgpu_staging_way way, unsigned i)
{
    int err = vgpu_staging_wait(vgpu_cuda.channel, staging, i);
    if (err == 0)
        return CUDA_SUCCESS;
    /* A fence that failed has not waited: its stream may be gone, or its context. */
    CUresult result = vgpu_cuda_result_of(err);
    if (err > 0 && used_by[way][i] && !atomic_load(&vgpu_cuda.sticky))
        vgpu_cuda_tell_late(vgpu_cuda_drain(used_by[way][i]));
    return result;
}

/* Posts the part's copy by the piece, and what tells when it is done. */
static CUresult use_piece(const struct vgpu_stream *stream, const struct vgpu_copy *copy,
                          const struct part *p, struct vgpu_staging *staging,
                          enum vgpu_staging_way way, unsigned i, uint32_t fence)
{
    const uint64_t on[] = {stream->base.name};
    uint64_t offset = staging->offset + (uint64_t)i * staging->piece_bytes;
    CUresult result = post_part(stream, copy, p, offset, p->width, p->width * p->rows);
    if (result != CUDA_SUCCESS)
        return result;
    struct vgpu_staging_piece *piece = &staging->piece[i];
    used_by[way][i] = stream->base.context->base.name;
    piece->ticket.bytes = &piece->answer;
    piece->ticket.capacity = sizeof(piece->answer);
    int err = vgpu_cuda_start(fence, stream->base.context->base.name, on, &piece->ticket);
    piece->busy = err == 0;
    return vgpu_cuda_result_of(err);
}

static CUresult stage_up(struct vgpu_stream *stream, const struct vgpu_copy *copy,
                         struct vgpu_staging *staging, size_t limit)
{
    struct part p = {0};
    while (next_part(copy, limit, &p)) {
        unsigned i = staging->next;
        /* Whose copy it was has heard of it, or hears of it from the next call that reports. */
        (void)claim_piece(staging, VGPU_STAGING_UP, i);
        CUresult result = (CUresult)atomic_load(&vgpu_cuda.sticky);
        if (result != CUDA_SUCCESS)
            return result;
        pack(&copy->from, &p, staging->base + (size_t)i * staging->piece_bytes);
        result = use_piece(stream, copy, &p, staging, VGPU_STAGING_UP, i, VGPU_CALL_STREAM_FENCE);
        staging->next = (i + 1) % staging->pieces;
        if (result != CUDA_SUCCESS)
            return result;
    }
    return CUDA_SUCCESS;
}

static bool is_last(const struct vgpu_copy *copy, const struct part *p)
{
    return p->x + p->width == copy->width && p->y + p->rows == copy->height &&
           p->z + p->slices == copy->depth;
}

static CUresult stage_down(struct vgpu_stream *stream, const struct vgpu_copy *copy,
                           struct vgpu_staging *staging, size_t limit, bool bulk)
{
    struct part asked = {0}, parts[VGPU_STAGING_PIECES];
    unsigned first = staging->next, outstanding = 0;
    bool more = next_part(copy, limit, &asked);
    CUresult result = CUDA_SUCCESS;
    while ((more && result == CUDA_SUCCESS) || outstanding) {
        while (more && result == CUDA_SUCCESS && outstanding < staging->pieces) {
            unsigned i = (first + outstanding) % staging->pieces;
            (void)claim_piece(staging, VGPU_STAGING_DOWN, i);
            /* The last one also says what of the copy, or before it, failed. */
            result = use_piece(stream, copy, &asked, staging, VGPU_STAGING_DOWN, i,
                               is_last(copy, &asked) ? VGPU_CALL_STREAM_SYNCHRONIZE
                                                     : VGPU_CALL_STREAM_FENCE);
            if (result != CUDA_SUCCESS)
                break;
            parts[i] = asked;
            outstanding++;
            more = next_part(copy, limit, &asked);
        }
        if (!outstanding)
            break;
        CUresult came = claim_piece(staging, VGPU_STAGING_DOWN, first);
        if (came == CUDA_SUCCESS)
            unpack(&copy->to, &parts[first], staging->base + (size_t)first * staging->piece_bytes,
                   bulk);
        else if (result == CUDA_SUCCESS)
            result = came;
        first = (first + 1) % staging->pieces;
        outstanding--;
    }
    staging->next = first;
    return result;
}

CUresult vgpu_copy_staged(struct vgpu_stream *stream, const struct vgpu_copy *copy)
{
    bool up = copy->from.type == VGPU_PLACE_HOST;
    enum vgpu_staging_way way = up ? VGPU_STAGING_UP : VGPU_STAGING_DOWN;
    uint64_t total = (uint64_t)copy->width * copy->height * copy->depth;
    struct vgpu_staging *staging;
    CUresult result = up ? CUDA_SUCCESS : vgpu_cuda_take_late();
    if (result != CUDA_SUCCESS)
        return result;
    int err = vgpu_staging_acquire(vgpu_cuda.channel, way, total, &staging);
    if (err != 0)
        return vgpu_cuda_result_of(err);
    size_t limit = piece_bytes(staging, total);
    result = up ? stage_up(stream, copy, staging, limit)
                : stage_down(stream, copy, staging, limit, total >= BULK_BYTES);
    vgpu_staging_release(vgpu_cuda.channel, way);
    return result;
}
