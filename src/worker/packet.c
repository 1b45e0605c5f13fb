/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets; see packet.h. */
#include "worker/packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/net.h"

struct vgpu_packet_out {
    STAILQ_ENTRY(vgpu_packet_out) link;
    size_t size;
    uint8_t bytes[];
};

static int parse_request(const uint8_t *body, size_t length, struct vgpu_packet *out,
                         const char **why)
{
    struct vgpu_worker_request r;
    if (length < sizeof(r)) {
        *why = "REQUEST is too short";
        return -EPROTO;
    }
    memcpy(&r, body, sizeof(r));
    if (r.length != length - sizeof(r) || r.length > VGPU_MAILBOX_BYTES) {
        *why = "REQUEST's length is not what came";
        return -EPROTO;
    }
    out->request_id = r.request_id;
    out->bytes = body + sizeof(r);
    out->length = r.length;
    return 0;
}

static int parse_recall(const uint8_t *body, size_t length, struct vgpu_packet *out,
                        const char **why)
{
    struct vgpu_worker_recall r;
    if (length != sizeof(r)) {
        *why = "RECALL has another length";
        return -EPROTO;
    }
    memcpy(&r, body, sizeof(r));
    out->grace_us = r.grace_us;
    out->linger_us = r.linger_us;
    return 0;
}

/* A body of exactly this size. */
static int parse_fixed(const uint8_t *body, size_t length, void *out, size_t size, const char *what,
                       const char **why)
{
    if (length != size) {
        *why = what;
        return -EPROTO;
    }
    memcpy(out, body, size);
    return 0;
}

static int parse_attach(const uint8_t *body, size_t length, struct vgpu_packet *out,
                        const char **why)
{
    struct vgpu_worker_attach *a = &out->attach;
    if (parse_fixed(body, length, a, sizeof(*a), "ATTACH has another length", why))
        return -EPROTO;
    if (!a->reserved && a->channel < VGPU_CHANNELS_MAX &&
        a->window_bytes >= VGPU_WINDOW_BYTES_MIN && a->window_bytes <= VGPU_WINDOW_BYTES_MAX &&
        (uint64_t)(a->channel + 1) * VGPU_CHANNEL_BYTES <= a->window_bytes)
        return 0;
    *why = "ATTACH of a channel that cannot be there";
    return -EPROTO;
}

static int parse_detach(const uint8_t *body, size_t length, struct vgpu_packet *out,
                        const char **why)
{
    struct vgpu_worker_channel *c = &out->channel;
    if (parse_fixed(body, length, c, sizeof(*c), "DETACH has another length", why))
        return -EPROTO;
    if (!c->state && !c->error && !c->reserved)
        return 0;
    *why = "DETACH's state, error or reserved field is not 0";
    return -EPROTO;
}

static int parse_extent(const uint8_t *body, size_t length, struct vgpu_packet *out,
                        const char **why)
{
    struct vgpu_worker_extent *e = &out->extent;
    if (parse_fixed(body, length, e, sizeof(*e), "EXTENT has another length", why))
        return -EPROTO;
    if (!e->reserved && e->dirty <= 1 && e->offset % VGPU_ARENA_GRANULE == 0 &&
        e->bytes % VGPU_ARENA_GRANULE == 0)
        return 0;
    *why = "EXTENT's fields make no sense";
    return -EPROTO;
}

int vgpu_packet_parse(const uint8_t *buffer, size_t size, unsigned fds, struct vgpu_packet *out,
                      const char **why)
{
    memset(out, 0, sizeof(*out));
    if (size < sizeof(out->header)) {
        *why = "shorter than a header";
        return -EPROTO;
    }
    memcpy(&out->header, buffer, sizeof(out->header));
    const uint8_t *body = buffer + sizeof(out->header);
    size_t length = size - sizeof(out->header);
    if (out->header.length != length) {
        *why = "the header's length is not what came";
        return -EPROTO;
    }
    if (fds != (out->header.type == VGPU_WORKER_ATTACH ? VGPU_PACKET_ATTACH_FDS : 0)) {
        *why = "three descriptors come with ATTACH, none with anything else";
        return -EPROTO;
    }
    switch (out->header.type) {
    case VGPU_WORKER_REQUEST:
        return parse_request(body, length, out, why);
    case VGPU_WORKER_RECALL:
        return parse_recall(body, length, out, why);
    case VGPU_WORKER_ATTACH:
        return parse_attach(body, length, out, why);
    case VGPU_WORKER_DETACH:
        return parse_detach(body, length, out, why);
    case VGPU_WORKER_EXTENT:
        return parse_extent(body, length, out, why);
    case VGPU_WORKER_CANCEL:
    case VGPU_WORKER_GRANT:
        if (!length)
            return 0;
        *why = "CANCEL or GRANT with a body";
        return -EPROTO;
    default:
        *why =
            out->header.type >= VGPU_WORKER_READY && out->header.type <= VGPU_WORKER_RETURN_EXTENT
                ? "a type that only a worker sends"
                : "an unknown type";
        return -EPROTO;
    }
}

void vgpu_packet_queue_init(struct vgpu_packet_queue *q, int fd)
{
    q->fd = fd;
    q->count = 0;
    q->error = 0;
    STAILQ_INIT(&q->packets);
}

static void drop_first(struct vgpu_packet_queue *q)
{
    struct vgpu_packet_out *p = STAILQ_FIRST(&q->packets);
    STAILQ_REMOVE_HEAD(&q->packets, link);
    q->count--;
    free(p);
}

void vgpu_packet_queue_destroy(struct vgpu_packet_queue *q)
{
    while (q->count)
        drop_first(q);
}

/* Whether the packet went out; not, with q->error 0, when the socket is full. */
static int try_send(struct vgpu_packet_queue *q, const uint8_t *bytes, size_t size)
{
    ssize_t n = vgpu_net_send(q->fd, bytes, size, NULL, 0);
    if (n >= 0)
        return 1;
    if (n != -EAGAIN && n != -EWOULDBLOCK && n != -ENOBUFS)
        q->error = n == -ECONNRESET ? -EPIPE : (int)n;
    return 0;
}

static void send_bytes(struct vgpu_packet_queue *q, const uint8_t *bytes, size_t size)
{
    if (q->error || (!q->count && try_send(q, bytes, size)) || q->error)
        return;
    if (q->count >= VGPU_PACKET_QUEUE_MAX) {
        q->error = -ENOBUFS;
        return;
    }
    struct vgpu_packet_out *p = malloc(sizeof(*p) + size);
    if (!p) {
        q->error = -ENOMEM;
        return;
    }
    p->size = size;
    memcpy(p->bytes, bytes, size);
    STAILQ_INSERT_TAIL(&q->packets, p, link);
    q->count++;
}

void vgpu_packet_send(struct vgpu_packet_queue *q, enum vgpu_worker_type type, uint64_t seq)
{
    struct vgpu_worker_header h = {.type = (uint32_t)type, .length = 0, .seq = seq};
    send_bytes(q, (const uint8_t *)&h, sizeof(h));
}

void vgpu_packet_send_body(struct vgpu_packet_queue *q, enum vgpu_worker_type type, uint64_t seq,
                           const void *body, uint32_t length)
{
    uint8_t packet[VGPU_WORKER_MAX_MESSAGE];
    struct vgpu_worker_header h = {.type = (uint32_t)type, .length = length, .seq = seq};
    memcpy(packet, &h, sizeof(h));
    memcpy(packet + sizeof(h), body, length);
    send_bytes(q, packet, sizeof(h) + length);
}

void vgpu_packet_send_response(struct vgpu_packet_queue *q, uint64_t seq, uint32_t error_code,
                               const uint8_t *bytes, uint32_t length)
{
    uint8_t packet[VGPU_WORKER_MAX_MESSAGE];
    struct vgpu_worker_response r = {.error_code = error_code, .length = length};
    struct vgpu_worker_header h = {
        .type = VGPU_WORKER_RESPONSE, .length = (uint32_t)sizeof(r) + length, .seq = seq};
    memcpy(packet, &h, sizeof(h));
    memcpy(packet + sizeof(h), &r, sizeof(r));
    memcpy(packet + sizeof(h) + sizeof(r), bytes, length);
    send_bytes(q, packet, sizeof(h) + sizeof(r) + length);
}

void vgpu_packet_flush(struct vgpu_packet_queue *q)
{
    while (q->count && !q->error) {
        struct vgpu_packet_out *p = STAILQ_FIRST(&q->packets);
        if (!try_send(q, p->bytes, p->size))
            return;
        drop_first(q);
    }
}
