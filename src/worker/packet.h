/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets between mediator and worker as the worker reads and writes them: exact lengths, known
 * types, the right side (W7), and a bounded queue for what the socket does not take at once. Knows
 * nothing of what the packets do.
 */
#ifndef VGPU_WORKER_PACKET_H
#define VGPU_WORKER_PACKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vgpu/worker.h"

struct vgpu_packet {
    struct vgpu_worker_header header;
    uint32_t request_id;          /* REQUEST */
    uint32_t grace_us, linger_us; /* RECALL */
    const uint8_t *bytes;         /* REQUEST: into the buffer it was parsed from */
    uint32_t length;
    struct vgpu_worker_attach attach;   /* ATTACH */
    struct vgpu_worker_channel channel; /* DETACH */
    struct vgpu_worker_extent extent;   /* EXTENT */
};

#define VGPU_PACKET_ATTACH_FDS 3u /* window, doorbell, interrupt */

/* Checks a packet from the mediator, with which so many descriptors came. Returns 0 or -EPROTO,
 * with *why a sentence for the log. */
int vgpu_packet_parse(const uint8_t *buffer, size_t size, unsigned fds, struct vgpu_packet *out,
                      const char **why);

#define VGPU_PACKET_QUEUE_MAX 1024u /* unsent packets; more means nobody reads */

struct vgpu_packet_out;
struct vgpu_packet_queue {
    int fd;
    unsigned count;
    int error; /* the first that happened; nothing is sent after it */
    STAILQ_HEAD(vgpu_packet_list, vgpu_packet_out) packets;
};

void vgpu_packet_queue_init(struct vgpu_packet_queue *q, int fd);
void vgpu_packet_queue_destroy(struct vgpu_packet_queue *q);

/*
 * Sends, or queues behind what waits. A failure (-EPIPE: the mediator is gone, -ENOBUFS: it does
 * not read, -ENOMEM) stays in q->error.
 */
void vgpu_packet_send(struct vgpu_packet_queue *q, enum vgpu_worker_type type, uint64_t seq);
void vgpu_packet_send_response(struct vgpu_packet_queue *q, uint64_t seq, uint32_t error_code,
                               const uint8_t *bytes, uint32_t length);

/* One with a body of `length` bytes, at most VGPU_MAILBOX_BYTES. */
void vgpu_packet_send_body(struct vgpu_packet_queue *q, enum vgpu_worker_type type, uint64_t seq,
                           const void *body, uint32_t length);

/* Sends what the socket takes now. */
void vgpu_packet_flush(struct vgpu_packet_queue *q);

#endif
