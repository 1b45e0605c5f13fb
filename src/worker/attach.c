/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Channels and the mediator; see attach.h. */
#define _GNU_SOURCE /* F_GET_SEALS */
#include "worker/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/net.h"
#include "common/wire.h"

/* Reports stay with the engine while so many packets wait for the mediator to read. */
#define PACKETS_MAX (VGPU_PACKET_QUEUE_MAX / 2)

#ifndef F_GET_SEALS /* glibc 2.17 */
#define F_GET_SEALS   1034
#define F_SEAL_SHRINK 0x0002
#define F_SEAL_GROW   0x0004
#endif

void vgpu_attach_init(struct vgpu_attach *a, struct vgpu_engine *engine,
                      struct vgpu_dispatcher *dispatcher, struct vgpu_packet_queue *out)
{
    *a = (struct vgpu_attach){.engine = engine, .dispatcher = dispatcher, .out = out};
}

void vgpu_attach_destroy(struct vgpu_attach *a)
{
    if (a->window)
        munmap(a->window, a->window_bytes);
}

/* The call itself: newer C libraries go by newfstatat, which also looks up names, and no name can
 * be looked up in a confined worker. */
static int stat_file(int fd, struct stat *st)
{
    static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "the kernel's struct stat is the C one");
    return (int)syscall(SYS_fstat, fd, st);
}

/* Maps the window, once; NULL: *why says why it cannot be used. A file that could shrink would end
 * this process with SIGBUS. */
static uint8_t *map_window(struct vgpu_attach *a, int fd, uint64_t bytes, const char **why)
{
    const int must = F_SEAL_SHRINK | F_SEAL_GROW;
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    *why = "the window is not a memory file sealed against resizing";
    if (seals < 0 || (seals & must) != must)
        return NULL;
    *why = "the window has another size than was said";
    if (stat_file(fd, &st) || st.st_size < 0 || (uint64_t)st.st_size != bytes)
        return NULL;
    *why = "the window is another one than before";
    if (a->window)
        return st.st_dev == a->device && st.st_ino == a->inode && bytes == a->window_bytes
                   ? a->window
                   : NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *why = "the window cannot be mapped";
    if (p == MAP_FAILED)
        return NULL;
    a->window = p;
    a->window_bytes = bytes;
    a->device = st.st_dev;
    a->inode = st.st_ino;
    return p;
}

static void say(struct vgpu_attach *a, uint32_t state, uint32_t error)
{
    struct vgpu_worker_channel c = {.channel = a->channel, .state = state, .error = error};
    vgpu_packet_send_body(a->out, VGPU_WORKER_CHANNEL, 0, &c, sizeof(c));
}

int vgpu_attach_channel(struct vgpu_attach *a, const struct vgpu_worker_attach *attach, int fds[3],
                        const char **why)
{
    const char *unusable = "its doorbell or interrupt cannot be used";
    if (a->attached) {
        *why = "ATTACH while there is a channel";
        return -EPROTO;
    }
    a->attached = true;
    a->detaching = false;
    a->channel = attach->channel;
    uint8_t *window = NULL;
    if (!vgpu_fd_set_nonblock(fds[1]) && !vgpu_fd_set_nonblock(fds[2]))
        window = map_window(a, fds[0], attach->window_bytes, &unusable);
    a->served = window != NULL;
    if (!window) {
        vgpu_log(VGPU_LOG_ERROR, "attach", "channel=%u reason=\"%s\"", attach->channel, unusable);
        say(a, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_HOST);
        return 0;
    }
    vgpu_engine_attach(a->engine, &(struct vgpu_attachment){.window = window,
                                                            .window_bytes = a->window_bytes,
                                                            .number = attach->channel,
                                                            .doorbell = fds[1],
                                                            .interrupt = fds[2],
                                                            .dispatcher = a->dispatcher});
    fds[1] = fds[2] = -1;
    return 0;
}

int vgpu_attach_detach(struct vgpu_attach *a, const struct vgpu_worker_channel *channel,
                       const char **why)
{
    if (!a->attached || a->detaching || channel->channel != a->channel) {
        *why = "DETACH of a channel that is not attached";
        return -EPROTO;
    }
    if (a->served) {
        a->detaching = true;
        vgpu_engine_detach(a->engine);
        return 0;
    }
    a->attached = false;
    say(a, VGPU_CHANNEL_FREE, VGPU_CHANNEL_OK);
    return 0;
}

int vgpu_attach_extent(struct vgpu_attach *a, uint64_t seq, const struct vgpu_worker_extent *extent,
                       const char **why)
{
    for (unsigned i = 0; i < a->wanted_count; i++) {
        if (a->wanted[i].seq != seq)
            continue;
        if ((extent->bytes && extent->bytes != a->wanted[i].bytes) ||
            !vgpu_range_inside(extent->offset, extent->bytes, a->window_bytes)) {
            *why = "EXTENT of another size than was asked for, or outside the window";
            return -EPROTO;
        }
        a->wanted[i] = a->wanted[--a->wanted_count];
        vgpu_engine_extent(a->engine, seq, extent);
        return 0;
    }
    *why = "EXTENT that nobody asked for";
    return -EPROTO;
}

static void report_channel(struct vgpu_attach *a, const struct vgpu_report *r)
{
    if (r->state == VGPU_CHANNEL_FATAL)
        vgpu_log(VGPU_LOG_WARN, "channel-fatal", "channel=%u reason=\"%s\"", a->channel,
                 vgpu_channel_error_text(r->error));
    if (r->state == VGPU_CHANNEL_FREE)
        a->attached = a->served = a->detaching = false;
    say(a, r->state, r->error);
}

void vgpu_attach_report(struct vgpu_attach *a)
{
    struct vgpu_report r;
    while (a->out->count < PACKETS_MAX && vgpu_engine_report(a->engine, &r)) {
        struct vgpu_worker_extent e = {.offset = r.offset, .bytes = r.bytes};
        switch (r.kind) {
        case VGPU_REPORT_CHANNEL:
            report_channel(a, &r);
            break;
        case VGPU_REPORT_WANT_EXTENT:
            if (a->wanted_count < VGPU_CHANNEL_ASKED_MAX) /* the engine asks for no more */
                a->wanted[a->wanted_count++] = (struct vgpu_attach_wanted){r.seq, r.bytes};
            vgpu_packet_send_body(a->out, VGPU_WORKER_WANT_EXTENT, r.seq, &e, sizeof(e));
            break;
        case VGPU_REPORT_RETURN_EXTENT:
            vgpu_packet_send_body(a->out, VGPU_WORKER_RETURN_EXTENT, 0, &e, sizeof(e));
            break;
        }
    }
}
