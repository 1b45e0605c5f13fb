/* SPDX-License-Identifier: MIT */
/* See local_window.h. */
#define _GNU_SOURCE /* seals */
#include "guest/local_window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/guest.h"

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* A file that could shrink would kill us with SIGBUS. */
static bool check_memory(const struct vgpu_link_window *message, int fd)
{
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS);
    if (message->channels || message->first || message->channel_bytes != VGPU_CHANNEL_BYTES ||
        message->channel_count == 0 || message->channel_count > VGPU_CHANNELS_MAX ||
        message->window_bytes > VGPU_WINDOW_BYTES_MAX ||
        message->window_bytes < (uint64_t)message->channel_count * VGPU_CHANNEL_BYTES) {
        vgpu_set_error_text("the mediator described a window that cannot be");
        return false;
    }
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &info) < 0 ||
        (uint64_t)info.st_size != message->window_bytes) {
        vgpu_set_error_text("the mediator sent a window that is not sealed, or not of %" PRIu64
                            " bytes",
                            message->window_bytes);
        return false;
    }
    return true;
}

struct vgpu_local_window *vgpu_local_window_create(const struct vgpu_link_window *message, int fd)
{
    if (!check_memory(message, fd))
        return NULL;
    struct vgpu_local_window *window = calloc(1, sizeof(*window));
    if (!window) {
        vgpu_set_error_text("out of memory");
        return NULL;
    }
    window->users = 1;
    window->bytes = message->window_bytes;
    window->channel_count = message->channel_count;
    for (uint32_t i = 0; i < VGPU_CHANNELS_MAX; i++)
        window->channel[i].doorbell = window->channel[i].interrupt = -1;
    void *memory = mmap(NULL, window->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) {
        window->memory = memory;
        /* A child that wrote there by mistake would disturb its parent's calls. */
        window->kept_from_child = madvise(memory, window->bytes, MADV_DONTFORK) == 0;
    }
    return window;
}

/* Where /proc can tell, that it is one; and that neither reading nor writing it ever waits. */
static bool check_eventfd(int fd)
{
    char path[40], target[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n > 0) {
        target[n] = 0;
        if (strncmp(target, "anon_inode:[eventfd]", 20) != 0)
            return false;
    }
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && ((flags & O_NONBLOCK) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
}

bool vgpu_local_window_add(struct vgpu_local_window *window, const struct vgpu_link_window *message,
                           int *fds, uint32_t count)
{
    if (message->window_bytes != window->bytes || message->channel_count != window->channel_count ||
        message->channel_bytes != VGPU_CHANNEL_BYTES || message->first != window->known ||
        message->channels == 0 || message->channels > VGPU_LINK_WINDOW_CHANNELS ||
        message->channels > window->channel_count - window->known ||
        count != 2 * message->channels) {
        vgpu_set_error_text("the mediator sent channels out of order");
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!check_eventfd(fds[i])) {
            vgpu_set_error_text("the mediator sent a channel with something that is no eventfd");
            return false;
        }
    }
    for (uint32_t i = 0; i < message->channels; i++) {
        struct vgpu_local_channel *channel = &window->channel[window->known++];
        channel->doorbell = fds[2 * i];
        channel->interrupt = fds[2 * i + 1];
        fds[2 * i] = fds[2 * i + 1] = -1;
    }
    return true;
}

bool vgpu_local_window_state(struct vgpu_local_window *window,
                             const struct vgpu_link_channel *message)
{
    if (message->channel >= window->known || message->state > VGPU_CHANNEL_FATAL) {
        vgpu_set_error_text("the mediator said the state of a channel that is not there");
        return false;
    }
    struct vgpu_local_channel *channel = &window->channel[message->channel];
    if (message->serial != channel->serial)
        return true; /* it crossed with what we sent */
    channel->state = message->state;
    channel->error = message->error;
    channel->answered = true;
    return true;
}

void vgpu_local_window_put(struct vgpu_local_window *window, bool forked)
{
    if (!window || --window->users)
        return;
    for (uint32_t i = 0; i < window->known; i++) {
        close(window->channel[i].doorbell);
        close(window->channel[i].interrupt);
    }
    /* In a child what stands at that address may be something else by now. */
    if (window->memory && !(forked && window->kept_from_child))
        munmap(window->memory, window->bytes);
    free(window);
}
