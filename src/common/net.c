/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix sockets; see net.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int vgpu_fd_set_cloexec(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0 ? -errno : 0;
}

int vgpu_fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

void vgpu_fd_close(int *fd)
{
    int saved_errno = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved_errno;
}

int vgpu_net_pair(int type, int fds[2])
{
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) ? -errno : 0;
}

static int make_address(struct sockaddr_un *address, const char *path)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    size_t length = strlen(path);
    if (!length)
        return -EINVAL;
    if (length >= sizeof(address->sun_path))
        return -ENAMETOOLONG;
    memcpy(address->sun_path, path, length);
    return 0;
}

static int make_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int vgpu_net_connect_at(int dir_fd, const char *name, bool follow)
{
    /* What is checked is what is connected to, whatever the name means by then. */
    int place = openat(dir_fd, name, O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
    if (place < 0)
        return -errno;
    struct stat st;
    struct sockaddr_un address;
    char path[32];
    int rc = fstat(place, &st) ? -errno : S_ISSOCK(st.st_mode) ? 0 : -ENOTSOCK;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
    if (!rc)
        rc = make_address(&address, path);
    int fd = rc ? rc : make_socket();
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        rc = -errno;
        close(fd);
        fd = rc;
    }
    close(place);
    return fd;
}

int vgpu_net_listen(const char *path, int backlog)
{
    struct sockaddr_un address;
    int rc = make_address(&address, path);
    if (rc)
        return rc;
    int fd = make_socket();
    if (fd < 0)
        return fd;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, backlog)) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int vgpu_net_accept(int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int vgpu_net_peer(int fd, uid_t *uid, pid_t *pid)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
        return -errno;
    *uid = peer.uid;
    *pid = peer.pid;
    return 0;
}

/* Takes the descriptors out of one control message; what does not fit is closed. */
static void take_fds(const struct cmsghdr *c, unsigned max_fds, struct vgpu_net_ancillary *out)
{
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        if (out->fd_count < max_fds) {
            out->fds[out->fd_count++] = fd;
        } else {
            out->excess = true;
            close(fd);
        }
    }
}

ssize_t vgpu_net_recv(int fd, void *buffer, size_t size, unsigned max_fds,
                      struct vgpu_net_ancillary *ancillary)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * VGPU_NET_MAX_FDS)];
        struct cmsghdr align;
    } control;
    memset(ancillary, 0, sizeof(*ancillary));
    if (max_fds > VGPU_NET_MAX_FDS)
        max_fds = VGPU_NET_MAX_FDS;
    struct iovec iov = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (max_fds) {
        /* Without room for control messages the kernel drops descriptors and sets MSG_CTRUNC. */
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
    }
    ssize_t n;
    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    ancillary->truncated = message.msg_flags & MSG_TRUNC;
    ancillary->excess = message.msg_flags & MSG_CTRUNC;
    for (struct cmsghdr *c = max_fds ? CMSG_FIRSTHDR(&message) : NULL; c;
         c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            take_fds(c, max_fds, ancillary);
    return n;
}

ssize_t vgpu_net_send(int fd, const void *buffer, size_t length, const int *fds, unsigned fd_count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * VGPU_NET_MAX_FDS)];
        struct cmsghdr align;
    } control;
    if (fd_count > VGPU_NET_MAX_FDS)
        return -EINVAL;
    /* sendmsg does not write through iov_base; the member lacks the const. */
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

void vgpu_net_close_fds(struct vgpu_net_ancillary *ancillary)
{
    for (unsigned i = 0; i < ancillary->fd_count; i++)
        close(ancillary->fds[i]);
    ancillary->fd_count = 0;
}
