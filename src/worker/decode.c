/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoding and the checks that need nothing but the bytes; see decode.h. */
#include "worker/decode.h"

#include <errno.h>
#include <string.h>

#include "worker/reader.h"

/* What the data part of an opcode must be. */
enum data_rule {
    DATA_NONE,
    DATA_KERNEL,  /* the argument buffer, unless a stage holds it */
    DATA_COPY,    /* depends on the direction */
    DATA_SESSION, /* the session and nothing else */
    DATA_REQUEST, /* the session and a whole request */
    DATA_STAGE_WRITE,
    DATA_STAGE_DROP,
    DATA_MODULE_LOAD,
    DATA_MODULE_UNLOAD,
    DATA_MODULE_NAME,
    DATA_CALL, /* as the table of the CUDA calls says */
};

struct shape {
    const char *name;
    uint32_t opcode;
    uint32_t param_count;
    enum data_rule rule;
    bool async; /* accepts ASYNC */
};

static const struct shape shapes[] = {
    {"NOP", VGPU_OP_NOP, 0, DATA_NONE, false},
    {"CUDA_KERNEL", VGPU_OP_CUDA_KERNEL, VGPU_KERNEL_PARAM_COUNT, DATA_KERNEL, true},
    {"MEMORY_ALLOC", VGPU_OP_MEMORY_ALLOC, VGPU_ALLOC_PARAM_COUNT, DATA_NONE, false},
    {"MEMORY_FREE", VGPU_OP_MEMORY_FREE, VGPU_FREE_PARAM_COUNT, DATA_NONE, true},
    {"MEMORY_COPY", VGPU_OP_MEMORY_COPY, VGPU_COPY_PARAM_COUNT, DATA_COPY, true},
    {"GET_DEVICE_INFO", VGPU_OP_GET_DEVICE_INFO, 0, DATA_NONE, false},
    {"SYNCHRONIZE", VGPU_OP_SYNCHRONIZE, 0, DATA_NONE, false},
    {"SESSION_OPEN", VGPU_OP_SESSION_OPEN, 0, DATA_SESSION, false},
    {"SESSION_CLOSE", VGPU_OP_SESSION_CLOSE, 0, DATA_SESSION, false},
    {"SESSION_REQUEST", VGPU_OP_SESSION_REQUEST, 0, DATA_REQUEST, false},
    {"STAGE_WRITE", VGPU_OP_STAGE_WRITE, 0, DATA_STAGE_WRITE, false},
    {"STAGE_DROP", VGPU_OP_STAGE_DROP, 0, DATA_STAGE_DROP, false},
    {"MODULE_LOAD", VGPU_OP_MODULE_LOAD, 0, DATA_MODULE_LOAD, false},
    {"MODULE_UNLOAD", VGPU_OP_MODULE_UNLOAD, 0, DATA_MODULE_UNLOAD, false},
    {"MODULE_KERNEL", VGPU_OP_MODULE_KERNEL, 0, DATA_MODULE_NAME, false},
    {"MODULE_GLOBAL", VGPU_OP_MODULE_GLOBAL, 0, DATA_MODULE_NAME, false},
};

/* Fills *call and answers it for an opcode of the CUDA calls' table. */
static const struct shape *shape_of_call(uint32_t opcode, struct shape *call)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    if (!info)
        return NULL;
    *call = (struct shape){info->name, opcode, 0, DATA_CALL, info->posted};
    return call;
}

static const struct shape *shape_of(uint32_t opcode)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (shapes[i].opcode == opcode)
            return &shapes[i];
    }
    return NULL;
}

const char *vgpu_opcode_name(uint32_t opcode)
{
    struct shape call;
    const struct shape *shape = shape_of(opcode);
    if (!shape)
        shape = shape_of_call(opcode, &call);
    return shape ? shape->name : "opcode";
}

#define REJECT(answer, code, ...) (vgpu_answer_reject(answer, code, __VA_ARGS__), -EBADMSG)
#define INVALID(answer, ...)      REJECT(answer, VGPU_ERR_INVALID_REQUEST, __VA_ARGS__)

/* P4, the data part against the header's own rules. Also: the params lie inside the request. */
static int check_layout(const struct vgpu_request_header *h, size_t length,
                        const struct shape *shape, struct vgpu_answer *answer)
{
    size_t head = sizeof(*h) + (size_t)h->param_count * 4;
    if (head > length)
        return INVALID(answer, "%s: %zu bytes are too few for %u params", shape->name, length,
                       h->param_count);
    if (!h->data_length) {
        if (h->data_offset)
            return INVALID(answer, "%s: data_offset is %u but data_length is 0", shape->name,
                           h->data_offset);
        return 0;
    }
    if (h->data_offset % 8 || h->data_offset < head)
        return INVALID(answer, "%s: data_offset %u must be a multiple of 8 and at least %zu",
                       shape->name, h->data_offset, head);
    if (h->data_offset > length || h->data_length > length - h->data_offset)
        return INVALID(answer, "%s: data at %u, %u bytes, is not inside the request's %zu bytes",
                       shape->name, h->data_offset, h->data_length, length);
    return 0;
}

static int check_copy(struct vgpu_call *call, struct vgpu_answer *answer)
{
    uint32_t direction = call->params[VGPU_COPY_DIRECTION];
    uint64_t size = vgpu_words_get_u64(&call->params[VGPU_COPY_SIZE_LO]);
    uint64_t data = direction == VGPU_COPY_HTOD ? size : 0;
    if (call->data_length != data)
        return INVALID(answer, "MEMORY_COPY: %u data bytes, want %llu", call->data_length,
                       (unsigned long long)data);
    if (direction == VGPU_COPY_DTOH && size > VGPU_COPY_DTOH_MAX)
        return INVALID(answer, "MEMORY_COPY: %llu bytes to the host at once, at most %u",
                       (unsigned long long)size, VGPU_COPY_DTOH_MAX);
    if (call->async && direction != VGPU_COPY_HTOD && direction != VGPU_COPY_DTOD)
        return INVALID(answer, "MEMORY_COPY: ASYNC is for copies to the device only");
    return 0;
}

int vgpu_call_body_decode(const struct vgpu_call_info *info, const uint8_t *bytes, uint32_t length,
                          struct vgpu_call_body *body, struct vgpu_answer *answer)
{
    uint32_t head = 8 + (uint32_t)info->in_count * 8;
    uint32_t rest = length - head;
    if (length < head) {
        vgpu_answer_reject(answer, VGPU_ERR_INVALID_REQUEST,
                           "%s: %u bytes of context and slots, takes %u", info->name, length, head);
        return -EMSGSIZE;
    }
    body->context = vgpu_load_le64(bytes);
    body->slots = bytes + 8;
    body->data = bytes + head;
    body->data_length = rest;
    if (!rest)
        return info->payload == VGPU_PAYLOAD_TEXT
                   ? INVALID(answer, "%s: a text has 1 to %u bytes and no NUL", info->name,
                             VGPU_CALL_TEXT_MAX)
                   : 0;
    if (info->payload == VGPU_PAYLOAD_NONE) {
        vgpu_answer_reject(answer, VGPU_ERR_INVALID_REQUEST,
                           "%s: %u bytes after its slots, takes none", info->name, rest);
        return -EMSGSIZE;
    }
    if (info->payload == VGPU_PAYLOAD_TEXT &&
        (rest > VGPU_CALL_TEXT_MAX || memchr(body->data, 0, rest)))
        return INVALID(answer, "%s: a text has 1 to %u bytes and no NUL", info->name,
                       VGPU_CALL_TEXT_MAX);
    if (info->stage_slot >= 0 && vgpu_load_le64(body->slots + 8 * (size_t)info->stage_slot))
        return INVALID(answer, "%s: bytes both in a stage and in the data part", info->name);
    return 0;
}

/* P28, P31: a CUDA call, behind its session. */
static int check_call(const struct shape *shape, struct vgpu_call *call, struct vgpu_answer *answer)
{
    struct vgpu_call_body body;
    const struct vgpu_call_info *info = vgpu_call_info(shape->opcode);
    if (vgpu_call_body_decode(info, call->data, call->data_length, &body, answer))
        return -EBADMSG;
    call->info = info;
    call->context = body.context;
    call->slots = body.slots;
    call->data = body.data;
    call->data_length = body.data_length;
    return 0;
}

/* The fixed fields after the session, and what the rest may be. */
static int check_fields(const struct shape *shape, struct vgpu_call *call,
                        struct vgpu_answer *answer)
{
    struct vgpu_reader r = {call->data, call->data_length};
    uint32_t reserved = 0;
    bool whole = true;
    switch (shape->rule) {
    case DATA_STAGE_WRITE:
        whole = vgpu_read_u32(&r, &call->stage) && vgpu_read_u32(&r, &call->total_bytes) &&
                vgpu_read_u32(&r, &call->offset) && vgpu_read_u32(&r, &reserved) && r.left;
        break;
    case DATA_STAGE_DROP:
        whole = vgpu_read_u32(&r, &call->stage) && vgpu_read_u32(&r, &reserved) && !r.left;
        break;
    case DATA_MODULE_LOAD:
        whole = vgpu_read_u32(&r, &call->stage) && vgpu_read_u32(&r, &reserved) &&
                (call->stage ? !r.left : r.left > 0);
        break;
    case DATA_MODULE_UNLOAD:
        whole = vgpu_read_u64(&r, &call->module) && !r.left;
        break;
    case DATA_MODULE_NAME:
        whole = vgpu_read_u64(&r, &call->module) && vgpu_read_u32(&r, &call->first_param) &&
                vgpu_read_u32(&r, &reserved) && r.left && r.left <= VGPU_NAME_MAX &&
                !memchr(r.at, 0, r.left);
        if (whole && shape->opcode == VGPU_OP_MODULE_GLOBAL && call->first_param)
            return INVALID(answer, "MODULE_GLOBAL: the word before the last must be 0");
        break;
    case DATA_SESSION:
        whole = !r.left;
        break;
    case DATA_CALL:
        return check_call(shape, call, answer);
    default:
        return 0;
    }
    if (!whole)
        return INVALID(answer,
                       "%s: the data part (%u bytes after the session) is not what it takes",
                       shape->name, call->data_length);
    if (reserved)
        return INVALID(answer, "%s: a reserved field is not 0", shape->name);
    call->data = r.at;
    call->data_length = (uint32_t)r.left;
    return 0;
}

static void read_header(const uint8_t *bytes, struct vgpu_request_header *h)
{
    h->version = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, version));
    h->opcode = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, opcode));
    h->flags = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, flags));
    h->param_count = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, param_count));
    h->data_offset = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, data_offset));
    h->data_length = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, data_length));
    h->reserved[0] = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, reserved));
    h->reserved[1] = vgpu_load_le32(bytes + offsetof(struct vgpu_request_header, reserved) + 4);
}

/* P1 to P4 of one request; `inner` is the one inside a SESSION_REQUEST (P25). */
static int decode_one(const uint8_t *bytes, size_t length, bool inner, struct vgpu_call *call,
                      struct vgpu_answer *answer)
{
    struct vgpu_request_header h;
    if (length < sizeof(h))
        return REJECT(answer, VGPU_ERR_INVALID_LENGTH, "a request of %zu bytes, at least %zu",
                      length, sizeof(h));
    read_header(bytes, &h);
    if (h.version != VGPU_PROTOCOL_VERSION)
        return REJECT(answer, VGPU_ERR_UNSUPPORTED, "version 0x%08x, only 0x%08x is spoken here",
                      h.version, VGPU_PROTOCOL_VERSION);
    if (inner && h.opcode >= VGPU_OP_SESSION_FIRST)
        return INVALID(answer, "SESSION_REQUEST: opcode 0x%x names a session itself", h.opcode);
    struct shape of_call;
    bool is_call = h.opcode >= VGPU_OP_CALL_FIRST && h.opcode <= VGPU_OP_CALL_LAST;
    const struct shape *shape = is_call ? shape_of_call(h.opcode, &of_call) : shape_of(h.opcode);
    if (!shape)
        return REJECT(answer, VGPU_ERR_UNSUPPORTED, "opcode 0x%x is not known here", h.opcode);

    call->opcode = h.opcode;
    call->async = h.flags & VGPU_FLAG_ASYNC;
    if (h.flags & ~VGPU_FLAGS_KNOWN)
        return INVALID(answer, "%s: unknown flags 0x%x", shape->name, h.flags & ~VGPU_FLAGS_KNOWN);
    if (call->async && !shape->async)
        return INVALID(answer, "%s: does not accept ASYNC", shape->name);
    if (shape->rule == DATA_REQUEST && h.flags)
        return INVALID(answer, "SESSION_REQUEST: flags belong to the request inside");
    if (h.reserved[0] || h.reserved[1])
        return INVALID(answer, "%s: a reserved field of the header is not 0", shape->name);
    if (h.param_count != shape->param_count)
        return INVALID(answer, "%s: %u params, takes %u", shape->name, h.param_count,
                       shape->param_count);
    int rc = check_layout(&h, length, shape, answer);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < h.param_count; i++)
        call->params[i] = vgpu_load_le32(bytes + sizeof(h) + (size_t)i * 4);
    call->data = h.data_length ? bytes + h.data_offset : bytes + length;
    call->data_length = h.data_length;

    if (h.opcode >= VGPU_OP_SESSION_FIRST) {
        struct vgpu_reader r = {call->data, call->data_length};
        if (!vgpu_read_u64(&r, &call->session))
            return INVALID(answer, "%s: the data part must start with the session", shape->name);
        call->named = true;
        call->data = r.at;
        call->data_length = (uint32_t)r.left;
        return check_fields(shape, call, answer);
    }
    switch (shape->rule) {
    case DATA_COPY:
        return check_copy(call, answer);
    case DATA_KERNEL:
        if (call->params[VGPU_KERNEL_ARGS_STAGE] && call->data_length)
            return INVALID(answer, "CUDA_KERNEL: arguments both in a stage and in the data part");
        return 0;
    default:
        if (call->data_length)
            return INVALID(answer, "%s: takes no data", shape->name);
        return 0;
    }
}

int vgpu_request_decode(const uint8_t *bytes, size_t length, struct vgpu_call *call,
                        struct vgpu_answer *answer)
{
    memset(call, 0, sizeof(*call));
    int rc = decode_one(bytes, length, false, call, answer);
    if (rc || call->opcode != VGPU_OP_SESSION_REQUEST)
        return rc;
    struct vgpu_call inner = {.session = call->session, .named = true};
    rc = decode_one(call->data, call->data_length, true, &inner, answer);
    *call = inner;
    return rc;
}
