/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Framing and order of the link; see frame.h. */
#include "mediator/frame.h"

#include <errno.h>
#include <string.h>

#include "common/wire.h"

#define HEADER          sizeof(struct vgpu_link_header)
#define AT(type, field) offsetof(struct vgpu_link_##type, field)

static int violation(const char **reason, const char *text)
{
    *reason = text;
    return -EPROTO;
}

/* The length each type has; a REQUEST's depends on what is in it. */
static int check_length(uint16_t type, uint32_t length, const char **reason)
{
    uint32_t min, max;
    switch (type) {
    case VGPU_LINK_HELLO:
        min = max = sizeof(struct vgpu_link_hello);
        break;
    case VGPU_LINK_REQUEST:
        min = sizeof(struct vgpu_link_request) + 1;
        max = sizeof(struct vgpu_link_request) + VGPU_MAILBOX_BYTES;
        break;
    case VGPU_LINK_CANCEL:
        min = max = 0;
        break;
    case VGPU_LINK_RESET:
        min = max = sizeof(struct vgpu_link_reset);
        break;
    case VGPU_LINK_WINDOW:
        min = max = sizeof(struct vgpu_link_window);
        break;
    case VGPU_LINK_CHANNEL_ENABLE:
    case VGPU_LINK_CHANNEL_RESET:
        min = max = sizeof(struct vgpu_link_channel);
        break;
    case VGPU_LINK_WELCOME:
    case VGPU_LINK_REFUSE:
    case VGPU_LINK_RESPONSE:
    case VGPU_LINK_UPDATE:
    case VGPU_LINK_CHANNEL_STATE:
        return violation(reason, "a message that only a mediator sends");
    default:
        return violation(reason, "unknown message type");
    }
    if (length < min)
        return violation(reason, "length is too short for the message's type");
    if (length > max)
        return violation(reason, "length is too long for the message's type");
    return 0;
}

static int parse_hello(const uint8_t *p, struct vgpu_frame *frame, const char **reason)
{
    struct vgpu_link_hello *h = &frame->u.hello;
    *h = (struct vgpu_link_hello){
        .features = vgpu_load_le64(p + AT(hello, features)),
        .protocol = vgpu_load_le32(p + AT(hello, protocol)),
        .vm_id = vgpu_load_le32(p + AT(hello, vm_id)),
        .pool_id = vgpu_load_le32(p + AT(hello, pool_id)),
        .priority = vgpu_load_le32(p + AT(hello, priority)),
        .timeout_ms = vgpu_load_le32(p + AT(hello, timeout_ms)),
        .generation = vgpu_load_le32(p + AT(hello, generation)),
        .window_bytes = vgpu_load_le64(p + AT(hello, window_bytes)),
        .channel_count = vgpu_load_le32(p + AT(hello, channel_count)),
        .channel_bytes = vgpu_load_le32(p + AT(hello, channel_bytes)),
    };
    for (size_t i = AT(hello, reserved); i < sizeof(*h); i++)
        if (p[i])
            return violation(reason, "reserved field of HELLO is not 0");
    return 1;
}

static int parse_window(const uint8_t *p, struct vgpu_frame *frame)
{
    frame->u.window = (struct vgpu_link_window){
        .window_bytes = vgpu_load_le64(p + AT(window, window_bytes)),
        .channel_count = vgpu_load_le32(p + AT(window, channel_count)),
        .channel_bytes = vgpu_load_le32(p + AT(window, channel_bytes)),
        .first = vgpu_load_le32(p + AT(window, first)),
        .channels = vgpu_load_le32(p + AT(window, channels)),
    };
    return 1;
}

static int parse_channel(const uint8_t *p, struct vgpu_frame *frame, const char **reason)
{
    frame->u.channel = (struct vgpu_link_channel){
        .channel = vgpu_load_le32(p + AT(channel, channel)),
        .serial = vgpu_load_le32(p + AT(channel, serial)),
    };
    if (vgpu_load_le32(p + AT(channel, state)) || vgpu_load_le32(p + AT(channel, error)))
        return violation(reason, "state or error of a message to a mediator is not 0");
    return 1;
}

static int parse_payload(const uint8_t *p, uint32_t length, struct vgpu_frame *frame,
                         const char **reason)
{
    switch (frame->type) {
    case VGPU_LINK_HELLO:
        return parse_hello(p, frame, reason);
    case VGPU_LINK_REQUEST:
        frame->u.request.request_id = vgpu_load_le32(p + AT(request, request_id));
        frame->u.request.length = vgpu_load_le32(p + AT(request, request_length));
        frame->u.request.bytes = p + sizeof(struct vgpu_link_request);
        if (frame->u.request.length != length - sizeof(struct vgpu_link_request))
            return violation(reason, "request_length is not what is left of the message");
        return 1;
    case VGPU_LINK_RESET:
        frame->u.reset.generation = vgpu_load_le32(p + AT(reset, generation));
        frame->u.reset.reserved = vgpu_load_le32(p + AT(reset, reserved));
        if (frame->u.reset.reserved)
            return violation(reason, "reserved field of RESET is not 0");
        return 1;
    case VGPU_LINK_WINDOW:
        return parse_window(p, frame);
    case VGPU_LINK_CHANNEL_ENABLE:
    case VGPU_LINK_CHANNEL_RESET:
        return parse_channel(p, frame, reason);
    }
    return 1; /* CANCEL has none */
}

int vgpu_frame_parse(const uint8_t *data, size_t size, struct vgpu_frame *frame,
                     const char **reason)
{
    if (size < HEADER)
        return 0;
    uint32_t length = vgpu_load_le32(data + AT(header, length));
    *frame = (struct vgpu_frame){
        .type = vgpu_load_le16(data + AT(header, type)),
        .fd_count = vgpu_load_le16(data + AT(header, fd_count)),
        .seq = vgpu_load_le64(data + AT(header, seq)),
    };
    if (vgpu_load_le32(data + AT(header, magic)) != VGPU_LINK_MAGIC)
        return violation(reason, "wrong magic");
    int rc = check_length(frame->type, length, reason);
    if (rc)
        return rc;
    if (frame->type != VGPU_LINK_WINDOW && frame->fd_count)
        return violation(reason, "fd_count is not 0");
    if (frame->fd_count > VGPU_LINK_MAX_FDS)
        return violation(reason, "fd_count is over 16");
    if (vgpu_load_le32(data + AT(header, reserved)))
        return violation(reason, "reserved field of the header is not 0");
    bool numbered = frame->type == VGPU_LINK_REQUEST || frame->type == VGPU_LINK_CANCEL;
    if (!numbered && frame->seq)
        return violation(reason, "seq is not 0 in a message that is about no request");
    if (size - HEADER < length)
        return 0;
    frame->size = HEADER + length;
    return parse_payload(data + HEADER, length, frame, reason);
}

const char *vgpu_frame_order_check(struct vgpu_frame_order *order, const struct vgpu_frame *frame)
{
    if (frame->type == VGPU_LINK_HELLO) {
        if (order->greeted)
            return "a second HELLO";
        order->greeted = true;
        return NULL;
    }
    if (!order->greeted)
        return "a message before HELLO";
    if (!order->welcomed)
        return "a message before WELCOME";
    if (order->brings && !order->window && frame->type != VGPU_LINK_WINDOW)
        return "a message before the window is complete"; /* L16 */
    switch (frame->type) {
    case VGPU_LINK_REQUEST:
        if (frame->seq <= order->last_seq)
            return "seq of a request is not greater than every one before";
        if (order->outstanding)
            return "a second request while one is outstanding";
        order->last_seq = frame->seq;
        order->outstanding_seq = frame->seq;
        order->outstanding = true;
        break;
    case VGPU_LINK_CANCEL:
        if (order->outstanding && frame->seq == order->outstanding_seq)
            order->outstanding = false;
        break;
    case VGPU_LINK_RESET:
        order->outstanding = false;
        break;
    case VGPU_LINK_WINDOW:
        if (!order->channels || !order->brings)
            return order->channels ? "WINDOW from a local client" : "WINDOW without channels";
        break;
    case VGPU_LINK_CHANNEL_ENABLE:
    case VGPU_LINK_CHANNEL_RESET:
        if (!order->window)
            return "a message about a channel without a window";
        break;
    }
    return NULL;
}

static void put_header(uint8_t *out, uint16_t type, uint32_t length, uint64_t seq)
{
    memset(out, 0, HEADER);
    vgpu_store_le32(out + AT(header, magic), VGPU_LINK_MAGIC);
    vgpu_store_le16(out + AT(header, type), type);
    vgpu_store_le32(out + AT(header, length), length);
    vgpu_store_le64(out + AT(header, seq), seq);
}

size_t vgpu_frame_welcome(uint8_t *out, uint16_t type, uint64_t features, uint32_t vm_id,
                          uint32_t pool_id, uint32_t priority)
{
    uint8_t *p = out + HEADER;
    put_header(out, type, sizeof(struct vgpu_link_welcome), 0);
    vgpu_store_le64(p + AT(welcome, features), features);
    vgpu_store_le32(p + AT(welcome, vm_id), vm_id);
    vgpu_store_le32(p + AT(welcome, pool_id), pool_id);
    vgpu_store_le32(p + AT(welcome, priority), priority);
    vgpu_store_le32(p + AT(welcome, reserved), 0);
    return HEADER + sizeof(struct vgpu_link_welcome);
}

size_t vgpu_frame_refuse(uint8_t *out, uint32_t reason, const char *text)
{
    uint8_t *p = out + HEADER;
    size_t length = strnlen(text, VGPU_LINK_REFUSE_TEXT_MAX);
    put_header(out, VGPU_LINK_REFUSE, (uint32_t)(sizeof(struct vgpu_link_refuse) + length), 0);
    vgpu_store_le32(p + AT(refuse, reason), reason);
    vgpu_store_le32(p + AT(refuse, text_length), (uint32_t)length);
    memcpy(p + sizeof(struct vgpu_link_refuse), text, length);
    return HEADER + sizeof(struct vgpu_link_refuse) + length;
}

size_t vgpu_frame_window(uint8_t *out, const struct vgpu_link_window *window, uint16_t fd_count)
{
    uint8_t *p = out + HEADER;
    put_header(out, VGPU_LINK_WINDOW, sizeof(*window), 0);
    vgpu_store_le16(out + AT(header, fd_count), fd_count);
    vgpu_store_le64(p + AT(window, window_bytes), window->window_bytes);
    vgpu_store_le32(p + AT(window, channel_count), window->channel_count);
    vgpu_store_le32(p + AT(window, channel_bytes), window->channel_bytes);
    vgpu_store_le32(p + AT(window, first), window->first);
    vgpu_store_le32(p + AT(window, channels), window->channels);
    return HEADER + sizeof(*window);
}

size_t vgpu_frame_state(uint8_t *out, const struct vgpu_link_channel *channel)
{
    uint8_t *p = out + HEADER;
    put_header(out, VGPU_LINK_CHANNEL_STATE, sizeof(*channel), 0);
    vgpu_store_le32(p + AT(channel, channel), channel->channel);
    vgpu_store_le32(p + AT(channel, serial), channel->serial);
    vgpu_store_le32(p + AT(channel, state), channel->state);
    vgpu_store_le32(p + AT(channel, error), channel->error);
    return HEADER + sizeof(*channel);
}

size_t vgpu_frame_response(uint8_t *out, uint64_t seq, uint32_t error_code, const void *response,
                           uint32_t length)
{
    uint8_t *p = out + HEADER;
    put_header(out, VGPU_LINK_RESPONSE, (uint32_t)sizeof(struct vgpu_link_response) + length, seq);
    vgpu_store_le32(p + AT(response, error_code), error_code);
    vgpu_store_le32(p + AT(response, response_length), length);
    if (length)
        memcpy(p + sizeof(struct vgpu_link_response), response, length);
    return HEADER + sizeof(struct vgpu_link_response) + length;
}
