/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Windows and their descriptors; see window.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/net.h"
#include "common/sys.h"

#ifndef F_ADD_SEALS /* Linux 3.17; old headers lack it */
#define F_ADD_SEALS   1033
#define F_GET_SEALS   1034
#define F_SEAL_SEAL   0x1
#define F_SEAL_SHRINK 0x2
#define F_SEAL_GROW   0x4
#define F_SEAL_WRITE  0x8
#endif
#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x10
#endif

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* --- shapes --- */

const char *vgpu_window_shape(uint64_t bytes, uint32_t channels, uint32_t channel_bytes)
{
    if (bytes < VGPU_WINDOW_BYTES_MIN || bytes > VGPU_WINDOW_BYTES_MAX || bytes & (bytes - 1))
        return "window_bytes is no power of two from 1 MiB to 1 TiB";
    if (channel_bytes != VGPU_CHANNEL_BYTES)
        return "channel_bytes is not 0x80000";
    if (!channels || channels > VGPU_CHANNELS_MAX)
        return "channel_count is not from 1 to 64";
    if ((uint64_t)channels * VGPU_CHANNEL_BYTES >= bytes)
        return "the window has no room for more than its channels";
    return NULL;
}

void vgpu_window_choose(uint64_t wish_bytes, uint32_t wish_channels, uint64_t most, uint64_t *bytes,
                        uint32_t *channels)
{
    *channels = wish_channels ? wish_channels : VGPU_WINDOW_LOCAL_CHANNELS;
    if (*channels > VGPU_WINDOW_LOCAL_CHANNELS_MAX)
        *channels = VGPU_WINDOW_LOCAL_CHANNELS_MAX;
    if (!wish_bytes || wish_bytes > most)
        wish_bytes = most;
    *bytes = VGPU_WINDOW_BYTES_MIN;
    while (*bytes < wish_bytes || (*bytes < most && *bytes / VGPU_CHANNEL_BYTES <= *channels))
        *bytes *= 2;
    if (*channels >= *bytes / VGPU_CHANNEL_BYTES)
        *channels = (uint32_t)(*bytes / VGPU_CHANNEL_BYTES) - 1;
}

uint32_t vgpu_window_descriptors(uint32_t channels)
{
    return 1 + 2 * channels;
}

/* --- a window --- */

struct vgpu_window *vgpu_window_create(uint64_t bytes, uint32_t channels)
{
    struct vgpu_window *w = calloc(1, sizeof(*w) + channels * sizeof(w->channels[0]));
    if (!w)
        return NULL;
    w->users = 1;
    w->bytes = bytes;
    w->channel_count = channels;
    w->memory = -1;
    for (uint32_t i = 0; i < channels; i++)
        w->channels[i].doorbell = w->channels[i].interrupt = -1;
    return w;
}

struct vgpu_window *vgpu_window_use(struct vgpu_window *w)
{
    w->users++;
    return w;
}

void vgpu_window_drop(struct vgpu_window *w)
{
    if (!w || --w->users)
        return;
    vgpu_fd_close(&w->memory);
    for (uint32_t i = 0; i < w->channel_count; i++) {
        vgpu_fd_close(&w->channels[i].doorbell);
        vgpu_fd_close(&w->channels[i].interrupt);
    }
    vgpu_arena_destroy(w->arena);
    if (w->counted)
        *w->counted -= vgpu_window_descriptors(w->channel_count);
    free(w);
}

bool vgpu_window_complete(const struct vgpu_window *w)
{
    return w->memory >= 0 && w->arrived == w->channel_count;
}

bool vgpu_window_same_memory(const struct vgpu_window *a, const struct vgpu_window *b)
{
    return a->memory >= 0 && b->memory >= 0 && a->device == b->device && a->inode == b->inode;
}

static int open_arena(struct vgpu_window *w)
{
    struct stat st;
    if (fstat(w->memory, &st))
        return -errno;
    w->device = st.st_dev;
    w->inode = st.st_ino;
    w->arena =
        vgpu_arena_create((uint64_t)w->channel_count * VGPU_CHANNEL_BYTES, w->bytes, w->clean);
    return w->arena ? 0 : -ENOMEM;
}

int vgpu_window_make(struct vgpu_window *w)
{
    /* No page of it exists until somebody writes there: then it is that process's to account for.
     */
    w->memory = vgpu_memfd_create("vgpu-window", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    if (w->memory < 0)
        return w->memory;
    if (ftruncate(w->memory, (off_t)w->bytes) || fcntl(w->memory, F_ADD_SEALS, SEALS))
        return -errno;
    w->clean = true;
    for (; w->arrived < w->channel_count; w->arrived++) {
        struct vgpu_window_channel *c = &w->channels[w->arrived];
        c->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (c->doorbell < 0)
            return -errno;
        c->interrupt = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (c->interrupt < 0)
            return -errno;
    }
    return open_arena(w);
}

/* --- what a device sends --- */

/* Memory that can shrink kills who maps it, with SIGBUS, at any time. */
static const char *check_memory(int fd, uint64_t bytes)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (fstat(fd, &st) || flags < 0)
        return "the window's descriptor cannot be asked what it is";
    if (!S_ISREG(st.st_mode))
        return "the window is no memory file";
    if ((flags & O_ACCMODE) != O_RDWR || flags & O_PATH)
        return "the window is not open for reading and writing";
    if (st.st_size < 0 || (uint64_t)st.st_size != bytes)
        return "the window's memory file is not window_bytes long";
    int seals = fcntl(fd, F_GET_SEALS); /* no other files than those in memory know seals */
    if (seals < 0)
        return "the window is no memory file";
    if ((seals & SEALS) != SEALS)
        return "the window is not sealed against growing, shrinking and further seals";
    if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        return "the window is sealed against writing";
    return NULL;
}

/*
 * That it does not block is a property that the device shares, and may change back at any time: a
 * worker that this holds up is ended by the watchdog, as one is that computes too long.
 */
static const char *check_event(int fd)
{
    char link[64], what[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, what, sizeof(what) - 1);
    what[n > 0 ? n : 0] = 0;
    if (strcmp(what, "anon_inode:[eventfd]"))
        return "a doorbell or an interrupt is no eventfd";
    return vgpu_fd_set_nonblock(fd) ? "a doorbell or an interrupt can block" : NULL;
}

static const char *take_memory(struct vgpu_window *w, const int *fds, uint32_t fd_count)
{
    const char *reason = fd_count == 1 ? NULL : "the first WINDOW has not one descriptor";
    if (!reason)
        reason = check_memory(fds[0], w->bytes);
    for (uint32_t i = reason ? 0 : 1; i < fd_count; i++)
        close(fds[i]);
    if (reason)
        return reason;
    w->memory = fds[0];
    return open_arena(w) ? "there is no memory for the window" : NULL;
}

static const char *take_channels(struct vgpu_window *w, const struct vgpu_link_window *m,
                                 const int *fds, uint32_t fd_count)
{
    const char *reason = NULL;
    if (m->first != w->arrived)
        reason = "WINDOW with channels out of order";
    else if (!m->channels || m->channels > VGPU_LINK_WINDOW_CHANNELS ||
             m->channels > w->channel_count - w->arrived)
        reason = "WINDOW with no channels or too many";
    else if (fd_count != 2 * m->channels)
        reason = "WINDOW has not two descriptors for each channel";
    for (uint32_t i = 0; !reason && i < fd_count; i++)
        reason = check_event(fds[i]);
    for (uint32_t i = 0; reason && i < fd_count; i++)
        close(fds[i]);
    for (uint32_t i = 0; !reason && i < m->channels; i++) {
        w->channels[w->arrived].doorbell = fds[2 * i];
        w->channels[w->arrived].interrupt = fds[2 * i + 1];
        w->arrived++;
    }
    return reason;
}

const char *vgpu_window_take(struct vgpu_window *w, const struct vgpu_link_window *m,
                             const int *fds, uint32_t fd_count)
{
    const char *reason = NULL;
    if (m->window_bytes != w->bytes || m->channel_count != w->channel_count ||
        m->channel_bytes != VGPU_CHANNEL_BYTES)
        reason = "WINDOW differs from HELLO";
    else if (vgpu_window_complete(w))
        reason = "a second WINDOW";
    else if (w->memory < 0 && (m->first || m->channels))
        reason = "WINDOW with channels before the one with the memory";
    if (!reason)
        return w->memory < 0 ? take_memory(w, fds, fd_count) : take_channels(w, m, fds, fd_count);
    for (uint32_t i = 0; i < fd_count; i++)
        close(fds[i]);
    return reason;
}

/* --- what a local client gets --- */

uint32_t vgpu_window_message(const struct vgpu_window *w, bool memory, uint32_t first,
                             struct vgpu_link_window *m, int *fds)
{
    uint32_t count = 0;
    *m = (struct vgpu_link_window){
        .window_bytes = w->bytes,
        .channel_count = w->channel_count,
        .channel_bytes = VGPU_CHANNEL_BYTES,
        .first = memory ? 0 : first,
    };
    if (memory) {
        fds[0] = w->memory;
        return 1;
    }
    while (m->channels < VGPU_LINK_WINDOW_CHANNELS && first + m->channels < w->channel_count) {
        fds[count++] = w->channels[first + m->channels].doorbell;
        fds[count++] = w->channels[first + m->channels].interrupt;
        m->channels++;
    }
    return count;
}
