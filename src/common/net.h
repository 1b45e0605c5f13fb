/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unix sockets and descriptors. Every socket made here is close-on-exec and does not block; no call
 * here waits. It knows no message format.
 */
#ifndef VGPU_COMMON_NET_H
#define VGPU_COMMON_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define VGPU_NET_MAX_FDS 16u /* descriptors in one receive or send */

/* Return 0 or a negative errno. */
int vgpu_fd_set_cloexec(int fd);
int vgpu_fd_set_nonblock(int fd);

/* Closes *fd unless it is negative, and makes it -1. Keeps errno. */
void vgpu_fd_close(int *fd);

/* A connected pair; type is SOCK_STREAM or SOCK_SEQPACKET. Returns 0 or a negative errno. */
int vgpu_net_pair(int type, int fds[2]);

/*
 * Connects a stream socket to `name` in the directory open as dir_fd, through /proc, so that
 * neither the length of the directory's path nor a rename of it matters; follow: the name may be a
 * symbolic link. Returns the socket, or a negative errno: -ENOTSOCK when it is none, -EAGAIN when
 * the listener's queue is full.
 */
int vgpu_net_connect_at(int dir_fd, const char *name, bool follow);

/* Listens on path, which must not exist. Returns the socket or a negative errno. */
int vgpu_net_listen(const char *path, int backlog);

/* Accepts; returns the socket or a negative errno (-EAGAIN: nobody there). */
int vgpu_net_accept(int listen_fd);

/* Who connected or listens. Returns 0 or a negative errno. */
int vgpu_net_peer(int fd, uid_t *uid, pid_t *pid);

/* What vgpu_net_recv found beside the bytes. */
struct vgpu_net_ancillary {
    int fds[VGPU_NET_MAX_FDS]; /* yours to close; close-on-exec */
    unsigned fd_count;
    bool excess;    /* more descriptors came than were wanted; the surplus is closed */
    bool truncated; /* a packet was longer than the buffer; its rest is gone */
};

/*
 * Receives at most size bytes, and at most max_fds (up to VGPU_NET_MAX_FDS) descriptors; with 0
 * none is ever installed in this process, and excess says that some came. Returns the bytes, 0 at
 * the end, or a negative errno; *ancillary is always set.
 */
ssize_t vgpu_net_recv(int fd, void *buffer, size_t size, unsigned max_fds,
                      struct vgpu_net_ancillary *ancillary);

/* Sends without SIGPIPE, with fd_count descriptors (not closed). Bytes sent or a negative errno. */
ssize_t vgpu_net_send(int fd, const void *buffer, size_t length, const int *fds, unsigned fd_count);

/* Closes what a receive brought. */
void vgpu_net_close_fds(struct vgpu_net_ancillary *ancillary);

#endif
