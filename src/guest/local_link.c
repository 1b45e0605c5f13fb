/* SPDX-License-Identifier: MIT */
/* See local_link.h. */
#include "guest/local_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/guest.h"

struct vgpu_local_link *vgpu_local_link_create(void)
{
    struct vgpu_local_link *link = calloc(1, sizeof(*link));
    if (!link) {
        vgpu_set_error_text("out of memory");
        return NULL;
    }
    link->users = 1;
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0) {
        vgpu_set_error_text("no socket can be made: %s", strerror(errno));
        free(link);
        return NULL;
    }
    return link;
}

void vgpu_local_link_put(struct vgpu_local_link *link)
{
    if (--link->users)
        return;
    for (unsigned i = 0; i < link->fd_count; i++)
        close(link->fds[i]);
    close(link->fd);
    free(link);
}

/* Descriptors come before, or with, the last byte of their message. */
static int take_fds(struct vgpu_local_link *link, struct msghdr *message)
{
    int err = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            if (link->wants_fds && link->fd_count < sizeof(link->fds) / sizeof(link->fds[0])) {
                link->fds[link->fd_count++] = fd;
            } else {
                close(fd);
                err = -EBADMSG;
            }
        }
    }
    if (err < 0 || (message->msg_flags & MSG_CTRUNC))
        return vgpu_fail(-EBADMSG, "the mediator sent descriptors where none belong");
    return 0;
}

int vgpu_local_link_fill(struct vgpu_local_link *link)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(VGPU_LINK_MAX_FDS * sizeof(int))];
    } control;
    for (;;) {
        struct iovec piece = {link->input + link->length, sizeof(link->input) - link->length};
        struct msghdr message = {.msg_iov = &piece,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n < 0)
            return vgpu_fail(-errno, "the link to the mediator failed: %s", strerror(errno));
        if (n == 0)
            return vgpu_fail(-ENOLINK, "the mediator closed the link");
        link->length += (size_t)n;
        int err = take_fds(link, &message);
        return err < 0 ? err : 1;
    }
}

int vgpu_local_link_next(struct vgpu_local_link *link, struct vgpu_local_message *message)
{
    struct vgpu_link_header *header = &message->header;
    if (link->length < sizeof(*header)) {
        if (link->length == 0 && link->fd_count)
            return vgpu_fail(-EBADMSG, "the mediator sent descriptors where none belong");
        return 0;
    }
    memcpy(header, link->input, sizeof(*header));
    if (header->magic != VGPU_LINK_MAGIC || header->reserved ||
        header->length > VGPU_LINK_MAX_PAYLOAD || header->fd_count > VGPU_LINK_MAX_FDS ||
        (header->fd_count && header->type != VGPU_LINK_WINDOW))
        return vgpu_fail(-EBADMSG, "the mediator broke the link's framing");
    if (link->length - sizeof(*header) < header->length)
        return 0;
    if (link->fd_count < header->fd_count)
        return vgpu_fail(-EBADMSG, "the mediator sent a message without its descriptors");
    message->payload = link->input + sizeof(*header);
    message->fds = link->fds;
    return 1;
}

void vgpu_local_link_drop(struct vgpu_local_link *link, struct vgpu_local_message *message)
{
    size_t bytes = sizeof(message->header) + message->header.length;
    unsigned count = message->header.fd_count;
    for (unsigned i = 0; i < count; i++)
        if (link->fds[i] >= 0)
            close(link->fds[i]);
    link->fd_count -= count;
    memmove(link->fds, link->fds + count, link->fd_count * sizeof(link->fds[0]));
    link->length -= bytes;
    memmove(link->input, link->input + bytes, link->length);
}
