/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small honest host for the library's tests. See host.h. */
#include "host.h"

#include <stdlib.h>
#include <string.h>

#include "vgpu/curesult.h"

struct reply {
    uint32_t error_code, status;
    uint32_t results[8], result_count;
    uint8_t data[VGPU_MAILBOX_BYTES];
    uint32_t data_length;
    bool empty;
    bool hold;
};

static uint64_t pair(const uint32_t *words)
{
    return (uint64_t)words[1] << 32 | words[0];
}

static void set_pair(struct reply *reply, uint32_t at, uint64_t value)
{
    reply->results[at] = (uint32_t)value;
    reply->results[at + 1] = (uint32_t)(value >> 32);
    if (reply->result_count < at + 2)
        reply->result_count = at + 2;
}

void host_init(struct host *host)
{
    memset(host, 0, sizeof(*host));
    host->session_limit = HOST_SESSIONS;
    host->param_count = 3;
}

void host_free(struct host *host)
{
    free(host->stage);
    free(host->image);
}

bool host_has_session(const struct host *host, uint64_t number)
{
    for (int i = 0; i < HOST_SESSIONS; i++)
        if (host->sessions[i] == number)
            return true;
    return false;
}

static uint32_t open_session(struct host *host, uint64_t number, struct reply *reply)
{
    if (number == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (host_has_session(host, number))
        return CUDA_ERROR_ILLEGAL_STATE;
    for (unsigned i = 0; i < host->session_limit; i++) {
        if (host->sessions[i] == 0) {
            host->sessions[i] = number;
            return 0;
        }
    }
    reply->error_code = VGPU_ERR_QUEUE_FULL;
    return 0;
}

static uint32_t close_session(struct host *host, uint64_t number)
{
    for (int i = 0; i < HOST_SESSIONS; i++) {
        if (number && host->sessions[i] == number) {
            host->sessions[i] = 0;
            host->closed[host->closed_count++ % 64] = number;
            return 0;
        }
    }
    return CUDA_ERROR_INVALID_CONTEXT;
}

/* Where a device range lies in our memory, NULL when outside. */
static uint8_t *range(struct host *host, uint64_t address, uint64_t size)
{
    if (!host->allocated || address < HOST_MEMORY_BASE || size == 0 || size > HOST_MEMORY_BYTES ||
        address - HOST_MEMORY_BASE > HOST_MEMORY_BYTES - size)
        return NULL;
    return host->memory + (address - HOST_MEMORY_BASE);
}

static uint32_t copy(struct host *host, const uint32_t *params, const uint8_t *data,
                     uint32_t data_length, struct reply *reply)
{
    uint64_t to = pair(params + VGPU_COPY_DST_LO), from = pair(params + VGPU_COPY_SRC_LO);
    uint64_t size = pair(params + VGPU_COPY_SIZE_LO);
    uint8_t *target, *source;
    if (host->full) {
        host->full--;
        reply->error_code = VGPU_ERR_QUEUE_FULL;
        return 0;
    }
    switch (params[VGPU_COPY_DIRECTION]) {
    case VGPU_COPY_HTOD:
        if (size != data_length || from != 0)
            host->violations++;
        if (!(target = range(host, to, size)))
            return CUDA_ERROR_INVALID_VALUE;
        memcpy(target, data, data_length);
        return 0;
    case VGPU_COPY_DTOH:
        if (size > VGPU_COPY_DTOH_MAX || to != 0 || data_length)
            host->violations++;
        if (!(source = range(host, from, size)))
            return CUDA_ERROR_INVALID_VALUE;
        memcpy(reply->data, source, size);
        reply->data_length = (uint32_t)size;
        return 0;
    case VGPU_COPY_DTOD:
        target = range(host, to, size);
        source = range(host, from, size);
        if (!target || !source)
            return CUDA_ERROR_INVALID_VALUE;
        memmove(target, source, size);
        return 0;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static uint32_t launch(struct host *host, const uint32_t *params, const uint8_t *data,
                       uint32_t data_length)
{
    memcpy(host->launch, params, sizeof(host->launch));
    if (params[VGPU_KERNEL_ARGS_STAGE]) {
        if (params[VGPU_KERNEL_ARGS_STAGE] != host->stage_number || data_length)
            return CUDA_ERROR_INVALID_HANDLE;
        data = host->stage;
        data_length = host->stage_used;
        host->stage_number = 0;
    }
    if (data_length != host->param_count * 8)
        return CUDA_ERROR_INVALID_VALUE;
    if (data_length)
        memcpy(host->arguments, data, data_length);
    host->argument_bytes = data_length;
    return pair(params) == HOST_FUNCTION ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static uint32_t device_info(struct reply *reply)
{
    struct vgpu_device_info_wire info = {
        .name = "a GPU of the tests", .backend = "test", .total_memory_bytes = HOST_MEMORY_BYTES};
    memcpy(reply->data, &info, sizeof(info));
    reply->data_length = sizeof(info);
    return 0;
}

static uint32_t typed(struct host *host, const uint8_t *bytes, uint32_t length, struct reply *reply)
{
    struct vgpu_request_header header;
    uint32_t params[16] = {0};
    if (length < sizeof(header)) {
        host->violations++;
        reply->error_code = VGPU_ERR_INVALID_LENGTH;
        return 0;
    }
    memcpy(&header, bytes, sizeof(header));
    uint32_t params_end = (uint32_t)sizeof(header) + header.param_count * 4;
    if (header.version != VGPU_PROTOCOL_VERSION || (header.flags & ~VGPU_FLAGS_KNOWN) ||
        header.param_count > 16 || header.reserved[0] || header.reserved[1] ||
        (header.data_length
             ? header.data_offset % 8 || header.data_offset < params_end ||
                   header.data_offset > length || header.data_length > length - header.data_offset
             : header.data_offset)) {
        host->violations++;
        reply->error_code = VGPU_ERR_INVALID_REQUEST;
        return 0;
    }
    memcpy(params, bytes + sizeof(header), (size_t)header.param_count * 4);
    const uint8_t *data = bytes + header.data_offset;
    if (header.flags & VGPU_FLAG_ASYNC) {
        host->posted++;
        reply->empty = true;
    }
    switch (header.opcode) {
    case VGPU_OP_NOP:
        return 0;
    case VGPU_OP_GET_DEVICE_INFO:
        return device_info(reply);
    case VGPU_OP_MEMORY_ALLOC:
        if (pair(params) == 0)
            return CUDA_ERROR_INVALID_VALUE;
        if (host->allocated || pair(params) > HOST_MEMORY_BYTES)
            return CUDA_ERROR_OUT_OF_MEMORY;
        host->allocated = true;
        set_pair(reply, 0, HOST_MEMORY_BASE);
        return 0;
    case VGPU_OP_MEMORY_FREE:
        if (!host->allocated || pair(params) != HOST_MEMORY_BASE)
            return CUDA_ERROR_INVALID_VALUE;
        host->allocated = false;
        return 0;
    case VGPU_OP_MEMORY_COPY:
        return copy(host, params, data, header.data_length, reply);
    case VGPU_OP_CUDA_KERNEL:
        return launch(host, params, data, header.data_length);
    case VGPU_OP_SYNCHRONIZE:
        reply->hold = host->hold_sync;
        if (host->not_yet) {
            host->not_yet--;
            return CUDA_ERROR_NOT_READY;
        }
        return host->sync_status;
    default:
        reply->error_code = VGPU_ERR_UNSUPPORTED;
        return 0;
    }
}

static uint32_t add_to_stage(struct host *host, struct vgpu_stage_write piece, const uint8_t *from,
                             uint32_t bytes)
{
    if (piece.offset == 0) {
        free(host->stage);
        host->stage = malloc(piece.total_bytes);
        host->stage_number = piece.stage;
        host->stage_total = piece.total_bytes;
        host->stage_used = 0;
    }
    if (!host->stage || piece.stage == 0 || piece.reserved || piece.stage != host->stage_number ||
        piece.total_bytes != host->stage_total || piece.offset != host->stage_used ||
        bytes > host->stage_total - host->stage_used) {
        host->violations++;
        return CUDA_ERROR_INVALID_VALUE;
    }
    memcpy(host->stage + host->stage_used, from, bytes);
    host->stage_used += bytes;
    return 0;
}

static uint32_t write_stage(struct host *host, const uint8_t *data, uint32_t length)
{
    struct vgpu_stage_write piece;
    if (length <= sizeof(piece)) {
        host->violations++;
        return CUDA_ERROR_INVALID_VALUE;
    }
    memcpy(&piece, data, sizeof(piece));
    return add_to_stage(host, piece, data + sizeof(piece), length - (uint32_t)sizeof(piece));
}

void host_handle_record(struct model *model, uint32_t channel,
                        const struct vgpu_ring_record *record, const uint8_t *body)
{
    struct host *host = model->context;
    struct vgpu_ring_stage_copy copy;
    uint64_t offset = 0;
    switch (record->opcode) {
    case VGPU_RING_STAGE_COPY:
        memcpy(&copy, body, sizeof(copy));
        host->stage_copies++;
        if (record->length != sizeof(copy) || copy.window_offset > MODEL_WINDOW_BYTES ||
            copy.bytes > MODEL_WINDOW_BYTES - copy.window_offset) {
            host->violations++;
            break;
        }
        model_answer(model, channel, record,
                     add_to_stage(host,
                                  (struct vgpu_stage_write){.stage = copy.stage,
                                                            .total_bytes = copy.total_bytes,
                                                            .offset = copy.offset},
                                  model->window + copy.window_offset, copy.bytes),
                     NULL, 0);
        return;
    case VGPU_RING_ARENA_ALLOC:
        if (host->arena_next == 0) {
            model_answer(model, channel, record, CUDA_ERROR_OUT_OF_MEMORY, "no room", 7);
            return;
        }
        offset = host->arena_next;
        host->extents++;
        model_answer(model, channel, record, 0, &offset, sizeof(offset));
        return;
    default:
        host->violations++;
    }
    model_answer(model, channel, record, CUDA_ERROR_INVALID_VALUE, NULL, 0);
}

void host_let_go(struct model *model, uint32_t status)
{
    struct host *host = model->context;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    model_lock(model);
    if (host->held_seq)
        model_respond(model, host->held_seq, 0, bytes,
                      model_build_response(bytes, status, NULL, 0, NULL, 0));
    host->held_seq = 0;
    model_unlock(model);
}

static uint32_t load_module(struct host *host, const uint8_t *data, uint32_t length,
                            struct reply *reply)
{
    struct vgpu_module_load load;
    memcpy(&load, data, sizeof(load));
    const uint8_t *image = data + sizeof(load);
    uint32_t bytes = length - (uint32_t)sizeof(load);
    if (load.stage) {
        if (bytes || load.stage != host->stage_number || host->stage_used != host->stage_total)
            return CUDA_ERROR_INVALID_HANDLE;
        image = host->stage;
        bytes = host->stage_used;
        host->stage_number = 0;
    }
    free(host->image);
    host->image = malloc(bytes ? bytes : 1);
    if (host->image && bytes)
        memcpy(host->image, image, bytes);
    host->image_bytes = bytes;
    if (bytes >= 3 && memcmp(image, "bad", 3) == 0) {
        static const char log[] = "line 1: no \x1b[31mversion";
        memcpy(reply->data, log, sizeof(log) - 1);
        reply->data_length = sizeof(log) - 1;
        return CUDA_ERROR_INVALID_PTX;
    }
    set_pair(reply, 0, HOST_MODULE);
    return 0;
}

static uint32_t look_up(struct host *host, const uint8_t *data, uint32_t length,
                        struct reply *reply)
{
    struct vgpu_module_name wanted;
    memcpy(&wanted, data, sizeof(wanted));
    const char *name = (const char *)data + sizeof(wanted);
    uint32_t name_length = length - (uint32_t)sizeof(wanted);
    if (wanted.module != HOST_MODULE)
        return CUDA_ERROR_INVALID_HANDLE;
    if (name_length != 6 || memcmp(name, "kernel", 6) != 0)
        return CUDA_ERROR_NOT_FOUND;
    set_pair(reply, 0, HOST_FUNCTION);
    reply->results[2] = host->param_count;
    reply->results[3] = host->param_count * 8;
    reply->results[4] = 1024;
    reply->result_count = VGPU_MODULE_KERNEL_RESULT_COUNT;
    for (uint32_t i = wanted.first_param; i < host->param_count && reply->data_length + 8 <= 920;
         i++) {
        struct vgpu_param_layout layout = {.offset = i * 8, .size = 8};
        memcpy(reply->data + reply->data_length, &layout, sizeof(layout));
        reply->data_length += (uint32_t)sizeof(layout);
    }
    return 0;
}

void host_handle(struct model *model, const struct model_request *request)
{
    struct host *host = model->context;
    struct vgpu_request_header header;
    struct reply reply = {0};
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    uint64_t session;
    memcpy(&header, request->bytes, sizeof(header));
    const uint8_t *data = request->bytes + header.data_offset;
    if (header.opcode < VGPU_OP_SESSION_FIRST) {
        reply.status = typed(host, request->bytes, request->length, &reply);
    } else if (header.data_length < sizeof(session)) {
        host->violations++;
        reply.error_code = VGPU_ERR_INVALID_REQUEST;
    } else {
        memcpy(&session, data, sizeof(session));
        if (header.flags)
            host->violations++;
        if (header.opcode == VGPU_OP_SESSION_OPEN)
            reply.status = open_session(host, session, &reply);
        else if (header.opcode == VGPU_OP_SESSION_CLOSE)
            reply.status = close_session(host, session);
        else if (!host_has_session(host, session))
            reply.status = CUDA_ERROR_INVALID_CONTEXT;
        else if (header.opcode == VGPU_OP_SESSION_REQUEST)
            reply.status = typed(host, data + sizeof(session), header.data_length - 8, &reply);
        else if (header.opcode == VGPU_OP_SESSION_CHANNEL)
            host->bound++;
        else if (header.opcode == VGPU_OP_STAGE_WRITE)
            reply.status = write_stage(host, data, header.data_length);
        else if (header.opcode == VGPU_OP_MODULE_LOAD)
            reply.status = load_module(host, data, header.data_length, &reply);
        else if (header.opcode == VGPU_OP_MODULE_UNLOAD || header.opcode == VGPU_OP_STAGE_DROP)
            reply.status = 0;
        else if (header.opcode == VGPU_OP_MODULE_KERNEL)
            reply.status = look_up(host, data, header.data_length, &reply);
        else
            reply.error_code = VGPU_ERR_UNSUPPORTED;
    }
    if (reply.hold) {
        host->held_seq = request->seq;
        return;
    }
    uint32_t length = 0;
    if (!reply.error_code && !(reply.empty && reply.status == 0))
        length = model_build_response(bytes, reply.status, reply.results,
                                      reply.status ? 0 : reply.result_count, reply.data,
                                      reply.data_length);
    model_respond(model, request->seq, reply.error_code, bytes, length);
}
