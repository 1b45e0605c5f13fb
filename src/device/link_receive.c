/* SPDX-License-Identifier: MIT */
/*
 * What the mediator says: cutting a stream of bytes into messages, checking each against the rules
 * of its type (L1), and acting on it. Bytes are copied here before they are looked at. It refuses
 * to know how anything is sent.
 */
#include <string.h>

#include "internal.h"

#define HEADER_BYTES   sizeof(struct vgpu_link_header)
#define REFUSE_BYTES   sizeof(struct vgpu_link_refuse)
#define RESPONSE_BYTES sizeof(struct vgpu_link_response)

struct message {
    uint32_t type;
    uint32_t length;
    uint64_t seq;
    const uint8_t *payload;
};

/* A violation in the header, or NULL. *value: what was found. */
static const char *check_header(const struct vgpu_device *dev, const uint8_t *h, uint64_t *value)
{
    uint32_t type = vgpu_device_get16(h + offsetof(struct vgpu_link_header, type));
    uint32_t length = vgpu_device_get32(h + offsetof(struct vgpu_link_header, length));
    uint64_t seq = vgpu_device_get64(h + offsetof(struct vgpu_link_header, seq));
    uint32_t shortest = 0, longest = 0;

    *value = vgpu_device_get32(h + offsetof(struct vgpu_link_header, magic));
    if (*value != VGPU_LINK_MAGIC)
        return "wrong magic";
    *value = type;
    switch (type) {
    case VGPU_LINK_WELCOME:
    case VGPU_LINK_UPDATE:
        shortest = longest = sizeof(struct vgpu_link_welcome);
        break;
    case VGPU_LINK_REFUSE:
        shortest = REFUSE_BYTES;
        longest = REFUSE_BYTES + VGPU_LINK_REFUSE_TEXT_MAX;
        break;
    case VGPU_LINK_RESPONSE:
        shortest = RESPONSE_BYTES;
        longest = RESPONSE_BYTES + VGPU_MAILBOX_BYTES;
        break;
    case VGPU_LINK_CHANNEL_STATE:
        shortest = longest = sizeof(struct vgpu_link_channel);
        break;
    case VGPU_LINK_HELLO:
    case VGPU_LINK_REQUEST:
    case VGPU_LINK_CANCEL:
    case VGPU_LINK_RESET:
    case VGPU_LINK_WINDOW:
    case VGPU_LINK_CHANNEL_ENABLE:
    case VGPU_LINK_CHANNEL_RESET:
        return "a message that only a device sends";
    default:
        return "unknown message type";
    }
    if (!vgpu_device_link_hello_sent(dev) && dev->link.state == VGPU_DEVICE_LINK_HELLO)
        return "a message before HELLO";
    bool attached = dev->link.state == VGPU_DEVICE_LINK_UP;
    bool wants_attached = type != VGPU_LINK_WELCOME && type != VGPU_LINK_REFUSE;
    if (attached != wants_attached)
        return attached ? "an answer to HELLO while attached" : "a message before WELCOME";
    if (type == VGPU_LINK_CHANNEL_STATE && !dev->link.channels)
        return "CHANNEL_STATE, and channels were not agreed on";
    *value = vgpu_device_get16(h + offsetof(struct vgpu_link_header, fd_count));
    if (*value != 0)
        return "fd_count is not 0";
    *value = vgpu_device_get32(h + offsetof(struct vgpu_link_header, reserved));
    if (*value != 0)
        return "a reserved field of the header is not 0";
    *value = length;
    if (length < shortest)
        return "message too short";
    if (length > longest)
        return "message too long";
    *value = seq;
    if (seq != 0 && type != VGPU_LINK_RESPONSE)
        return "seq is not 0";
    return NULL;
}

/* WELCOME and UPDATE. */
static const char *check_welcome(const uint8_t *p, uint64_t *value)
{
    *value = vgpu_device_get64(p + offsetof(struct vgpu_link_welcome, features));
    if (!(*value & VGPU_LINK_FEATURE_MAILBOX))
        return "the mailbox feature is missing";
    *value = vgpu_device_get32(p + offsetof(struct vgpu_link_welcome, pool_id));
    if (*value < 'A' || *value > 'Z')
        return "pool_id is out of range";
    *value = vgpu_device_get32(p + offsetof(struct vgpu_link_welcome, priority));
    if (*value >= VGPU_PRIORITY_COUNT)
        return "priority is out of range";
    *value = vgpu_device_get32(p + offsetof(struct vgpu_link_welcome, reserved));
    if (*value != 0)
        return "a reserved field is not 0";
    return NULL;
}

/* The length that is inside must be the length that is outside. */
static const char *check_inner_length(const struct message *m, uint64_t *value)
{
    size_t fixed = m->type == VGPU_LINK_REFUSE ? REFUSE_BYTES : RESPONSE_BYTES;
    size_t at = m->type == VGPU_LINK_REFUSE ? offsetof(struct vgpu_link_refuse, text_length)
                                            : offsetof(struct vgpu_link_response, response_length);
    *value = vgpu_device_get32(m->payload + at);
    return *value == m->length - fixed ? NULL : "the length inside does not match the message's";
}

/* Bytes of the UTF-8 character at p, 0 when there is none. */
static unsigned utf8_length(const uint8_t *p, size_t left)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned length;
    uint32_t c;
    if (p[0] < 0x80) {
        return 1;
    } else if ((p[0] & 0xE0) == 0xC0) {
        length = 2;
        c = p[0] & 0x1Fu;
    } else if ((p[0] & 0xF0) == 0xE0) {
        length = 3;
        c = p[0] & 0x0Fu;
    } else if ((p[0] & 0xF8) == 0xF0) {
        length = 4;
        c = p[0] & 0x07u;
    } else {
        return 0;
    }
    if (length > left)
        return 0;
    for (unsigned i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3Fu);
    }
    if (c < smallest[length] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return 0;
    return c < 0xA0 ? 0 : length; /* U+0080 to U+009F are control characters */
}

/* The mediator's words, fit for a terminal: '?' for control characters and what is not UTF-8. */
static void copy_text(char *to, const uint8_t *from, size_t length)
{
    size_t at = 0;
    while (at < length) {
        unsigned n = utf8_length(from + at, length - at);
        if (n == 0 || (n == 1 && (from[at] < 0x20 || from[at] == 0x7F))) {
            to[at++] = '?';
            continue;
        }
        memcpy(to + at, from + at, n);
        at += n;
    }
    to[at] = 0;
}

static void take_welcome(struct vgpu_device *dev, const struct message *m, uint64_t now_ns)
{
    const uint8_t *p = m->payload;
    dev->vm_id = vgpu_device_get32(p + offsetof(struct vgpu_link_welcome, vm_id));
    dev->pool_id = vgpu_device_get32(p + offsetof(struct vgpu_link_welcome, pool_id));
    dev->priority = vgpu_device_get32(p + offsetof(struct vgpu_link_welcome, priority));
    if (m->type == VGPU_LINK_WELCOME) {
        dev->link.state = VGPU_DEVICE_LINK_UP;
        dev->stats.attached++;
    }
    vgpu_device_emit(dev, (struct vgpu_device_event){.kind = m->type == VGPU_LINK_WELCOME
                                                                 ? VGPU_DEVICE_LINK_ATTACHED
                                                                 : VGPU_DEVICE_LINK_UPDATED});
    uint64_t features = vgpu_device_get64(p + offsetof(struct vgpu_link_welcome, features));
    if (m->type == VGPU_LINK_WELCOME && vgpu_device_link_open_window(dev, features, now_ns))
        vgpu_device_link_flush(dev, now_ns);
}

static void take_channel_state(struct vgpu_device *dev, const struct message *m, uint64_t now_ns)
{
    const uint8_t *p = m->payload;
    struct vgpu_link_channel said = {
        .channel = vgpu_device_get32(p + offsetof(struct vgpu_link_channel, channel)),
        .serial = vgpu_device_get32(p + offsetof(struct vgpu_link_channel, serial)),
        .state = vgpu_device_get32(p + offsetof(struct vgpu_link_channel, state)),
        .error = vgpu_device_get32(p + offsetof(struct vgpu_link_channel, error)),
    };
    uint64_t value;
    const char *violation = vgpu_device_channel_state(dev, &said, &value);
    if (violation)
        vgpu_device_link_violation(dev, violation, value, now_ns);
}

static void take_refuse(struct vgpu_device *dev, const struct message *m)
{
    char text[VGPU_LINK_REFUSE_TEXT_MAX + 1];
    copy_text(text, m->payload + REFUSE_BYTES, m->length - REFUSE_BYTES);
    dev->link.state = VGPU_DEVICE_LINK_REFUSAL;
    dev->stats.refused++;
    uint32_t reason = vgpu_device_get32(m->payload + offsetof(struct vgpu_link_refuse, reason));
    vgpu_device_emit(dev, (struct vgpu_device_event){
                              .kind = VGPU_DEVICE_LINK_REFUSED, .code = reason, .text = text});
}

static void take_response(struct vgpu_device *dev, const struct message *m, uint64_t now_ns)
{
    /* A request of which the last byte has not gone out yet is not outstanding (L9). */
    if (dev->status != VGPU_STATUS_BUSY || m->seq != dev->inflight_seq || !dev->inflight_sent) {
        dev->stats.responses_dropped++;
        vgpu_device_emit(
            dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_RESPONSE_DROPPED, .seq = m->seq});
        return;
    }
    uint32_t error_code =
        vgpu_device_get32(m->payload + offsetof(struct vgpu_link_response, error_code));
    vgpu_device_complete(dev, error_code, m->payload + RESPONSE_BYTES,
                         m->length - (uint32_t)RESPONSE_BYTES, now_ns);
}

/* A whole message, its header checked, stands in rx. */
static void take_message(struct vgpu_device *dev, const struct message *m, uint64_t now_ns)
{
    uint64_t value = 0;
    if (m->type == VGPU_LINK_CHANNEL_STATE) {
        take_channel_state(dev, m, now_ns);
        return;
    }
    const char *violation = m->type == VGPU_LINK_WELCOME || m->type == VGPU_LINK_UPDATE
                                ? check_welcome(m->payload, &value)
                                : check_inner_length(m, &value);
    if (violation)
        vgpu_device_link_violation(dev, violation, value, now_ns);
    else if (m->type == VGPU_LINK_REFUSE)
        take_refuse(dev, m);
    else if (m->type == VGPU_LINK_RESPONSE)
        take_response(dev, m, now_ns);
    else
        take_welcome(dev, m, now_ns);
}

static bool listening(const struct vgpu_device *dev)
{
    return dev->link.state != VGPU_DEVICE_LINK_DOWN && dev->link.state != VGPU_DEVICE_LINK_CLOSING;
}

void vgpu_device_link_received(struct vgpu_device *dev, const void *bytes, size_t length,
                               unsigned fd_count, uint64_t now_ns)
{
    struct vgpu_device_link *link = &dev->link;
    const uint8_t *from = bytes;
    uint32_t epoch = link->epoch;

    if (!listening(dev))
        return;
    if (fd_count) {
        vgpu_device_link_violation(dev, "descriptors came that no message speaks of", fd_count,
                                   now_ns);
        return;
    }
    while (length) {
        if (link->state == VGPU_DEVICE_LINK_REFUSAL) {
            vgpu_device_link_violation(dev, "a message after REFUSE", length, now_ns);
            return;
        }
        size_t want = HEADER_BYTES;
        if (link->rx_length >= HEADER_BYTES)
            want += vgpu_device_get32(link->rx + offsetof(struct vgpu_link_header, length));
        size_t n = want - link->rx_length;
        if (n > length)
            n = length;
        memcpy(link->rx + link->rx_length, from, n);
        link->rx_length += (uint32_t)n;
        from += n;
        length -= n;
        if (link->rx_length < want)
            return;

        struct message m = {
            .type = vgpu_device_get16(link->rx + offsetof(struct vgpu_link_header, type)),
            .length = vgpu_device_get32(link->rx + offsetof(struct vgpu_link_header, length)),
            .seq = vgpu_device_get64(link->rx + offsetof(struct vgpu_link_header, seq)),
            .payload = link->rx + HEADER_BYTES,
        };
        if (want == HEADER_BYTES) {
            /* Before a byte of payload is taken: this bounds the length by the size of rx. */
            uint64_t value;
            const char *violation = check_header(dev, link->rx, &value);
            if (violation) {
                vgpu_device_link_violation(dev, violation, value, now_ns);
                return;
            }
            continue; /* no message to the device is without payload */
        }
        link->rx_length = 0;
        take_message(dev, &m, now_ns);
        if (link->epoch != epoch)
            return; /* these bytes belong to a connection that is gone */
    }
}
