/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of a request and the responses of the mediator; see request.h. */
#include "mediator/request.h"

#include <string.h>

#include "common/wire.h"
#include "vgpu/curesult.h"
#include "vgpu_cuda_calls.h"

#define HEADER           sizeof(struct vgpu_request_header)
#define AT(field)        offsetof(struct vgpu_request_header, field)
#define ANSWER_AT(field) offsetof(struct vgpu_response_header, field)

static bool is_known(uint32_t opcode)
{
    switch (opcode) {
    case VGPU_OP_NOP:
    case VGPU_OP_CUDA_KERNEL:
    case VGPU_OP_MEMORY_ALLOC:
    case VGPU_OP_MEMORY_FREE:
    case VGPU_OP_MEMORY_COPY:
    case VGPU_OP_GET_DEVICE_INFO:
    case VGPU_OP_SYNCHRONIZE:
    case VGPU_OP_SESSION_OPEN:
    case VGPU_OP_SESSION_CLOSE:
    case VGPU_OP_SESSION_REQUEST:
    case VGPU_OP_SESSION_CHANNEL:
    case VGPU_OP_STAGE_WRITE:
    case VGPU_OP_STAGE_DROP:
    case VGPU_OP_MODULE_LOAD:
    case VGPU_OP_MODULE_UNLOAD:
    case VGPU_OP_MODULE_KERNEL:
    case VGPU_OP_MODULE_GLOBAL:
        return true;
    }
    return false;
}

/* A CUDA driver call: that it is there is all that is known of it here. */
static bool is_call(uint32_t opcode)
{
    return vgpu_call_info(opcode) != NULL;
}

static uint32_t invalid(const char **reason, const char *text)
{
    *reason = text;
    return VGPU_ERR_INVALID_REQUEST;
}

/* P4 and P23 for a request that names its session. */
static uint32_t read_session(const uint8_t *bytes, uint32_t length, struct vgpu_route *route,
                             const char **reason)
{
    uint32_t flags = vgpu_load_le32(bytes + AT(flags));
    uint32_t offset = vgpu_load_le32(bytes + AT(data_offset));
    uint32_t data_length = vgpu_load_le32(bytes + AT(data_length));
    if (flags & ~VGPU_FLAGS_KNOWN)
        return invalid(reason, "unknown flags");
    /* Which calls are posted is the worker's knowledge (P30). */
    if (flags & VGPU_FLAG_ASYNC && !is_call(route->opcode))
        return invalid(reason, "ASYNC does not go with this opcode");
    if (vgpu_load_le64(bytes + AT(reserved)))
        return invalid(reason, "reserved field of the request is not 0");
    if (vgpu_load_le32(bytes + AT(param_count)))
        return invalid(reason, "param_count is not 0");
    if (data_length < sizeof(struct vgpu_session_prefix))
        return invalid(reason, "the data part is too short for a session number");
    if (offset % 8 || offset < HEADER || !vgpu_range_inside(offset, data_length, length))
        return invalid(reason, "the data part does not lie inside the request");
    route->session = vgpu_load_le64(bytes + offset);
    bool exact = route->opcode == VGPU_OP_SESSION_OPEN || route->opcode == VGPU_OP_SESSION_CLOSE;
    if (exact && data_length != sizeof(struct vgpu_session_prefix))
        return invalid(reason, "the data part is longer than a session number");
    if (route->opcode == VGPU_OP_SESSION_CHANNEL) {
        if (data_length != sizeof(struct vgpu_session_channel))
            return invalid(reason, "the data part is not a session number and a channel");
        const uint8_t *p = bytes + offset;
        route->channel = vgpu_load_le32(p + offsetof(struct vgpu_session_channel, channel));
        if (vgpu_load_le32(p + offsetof(struct vgpu_session_channel, reserved)))
            return invalid(reason, "reserved field of SESSION_CHANNEL is not 0");
    }
    return VGPU_ERR_NONE;
}

uint32_t vgpu_request_route(const uint8_t *bytes, uint32_t length, struct vgpu_route *route,
                            const char **reason)
{
    *route = (struct vgpu_route){0};
    if (length < HEADER) {
        *reason = "the request is shorter than its header of 32 bytes";
        return VGPU_ERR_INVALID_LENGTH;
    }
    route->opcode = vgpu_load_le32(bytes + AT(opcode));
    route->typed = route->opcode < VGPU_OP_SESSION_FIRST;
    if (vgpu_load_le32(bytes + AT(version)) != VGPU_PROTOCOL_VERSION) {
        *reason = "the request's version is not 0x00010000";
        return VGPU_ERR_UNSUPPORTED;
    }
    if (!is_known(route->opcode) && !is_call(route->opcode)) {
        *reason = "this mediator does not have the opcode";
        return VGPU_ERR_UNSUPPORTED;
    }
    return route->typed ? VGPU_ERR_NONE : read_session(bytes, length, route, reason);
}

uint32_t vgpu_request_error_status(uint32_t error_code)
{
    switch (error_code) {
    case VGPU_ERR_INVALID_REQUEST:
    case VGPU_ERR_QUEUE_FULL:
    case VGPU_ERR_INVALID_LENGTH:
        return CUDA_ERROR_INVALID_VALUE;
    case VGPU_ERR_UNSUPPORTED:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    return 0;
}

uint32_t vgpu_request_answer(uint8_t *out, uint32_t status, const char *text)
{
    size_t room = VGPU_MAILBOX_BYTES - sizeof(struct vgpu_response_header);
    size_t length = text && status ? strnlen(text, room) : 0;
    memset(out, 0, sizeof(struct vgpu_response_header));
    vgpu_store_le32(out + ANSWER_AT(version), VGPU_PROTOCOL_VERSION);
    vgpu_store_le32(out + ANSWER_AT(status), status);
    if (length) {
        vgpu_store_le32(out + ANSWER_AT(data_offset), sizeof(struct vgpu_response_header));
        vgpu_store_le32(out + ANSWER_AT(data_length), (uint32_t)length);
        memcpy(out + sizeof(struct vgpu_response_header), text, length);
    }
    return (uint32_t)(sizeof(struct vgpu_response_header) + length);
}
