/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Newer system calls by number, with what an older kernel has instead; see sys.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/parse.h"

/* Numbers that old headers lack. From 424 on they are the same on every architecture. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#if !defined(SYS_memfd_create) && defined(__x86_64__)
#define SYS_memfd_create 319
#endif
#if !defined(SYS_getrandom) && defined(__x86_64__)
#define SYS_getrandom 318
#endif

#define RANGE_CLOEXEC (1u << 2) /* CLOSE_RANGE_CLOEXEC */

int vgpu_memfd_create(const char *name, unsigned flags)
{
#ifdef SYS_memfd_create
    long fd = syscall(SYS_memfd_create, name, flags);
    return fd < 0 ? -errno : (int)fd;
#else
    (void)name;
    (void)flags;
    return -ENOSYS;
#endif
}

int vgpu_pidfd_open(pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0u);
    return fd < 0 ? -errno : (int)fd;
}

int vgpu_pidfd_send_signal(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0u) < 0 ? -errno : 0;
}

static int read_urandom(unsigned char *buffer, size_t length)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = 0;
    while (length && !rc) {
        ssize_t n = read(fd, buffer, length);
        if (n > 0) {
            buffer += n;
            length -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            rc = n ? -errno : -EIO;
        }
    }
    close(fd);
    return rc;
}

int vgpu_random(void *buffer, size_t length)
{
    unsigned char *p = buffer;
#ifdef SYS_getrandom
    while (length) {
        long n = syscall(SYS_getrandom, p, length, 0u);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        p += n;
        length -= (size_t)n;
    }
#endif
    return length ? read_urandom(p, length) : 0;
}

static void end_one(int fd, bool cloexec)
{
    if (cloexec)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    else
        close(fd);
}

/* Closing while reading the directory is safe here: the kernel walks descriptors by number. */
static int walk_proc(int first, bool cloexec)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -errno;
    for (struct dirent *e; (e = readdir(d));) {
        uint32_t fd;
        if (!vgpu_parse_u32(e->d_name, (uint32_t)first, INT_MAX, &fd) && (int)fd != dirfd(d))
            end_one((int)fd, cloexec);
    }
    closedir(d);
    return 0;
}

static int walk_numbers(int first, bool cloexec)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return -errno;
    rlim_t end = limit.rlim_cur > 65536 ? 65536 : limit.rlim_cur;
    for (rlim_t fd = (rlim_t)first; fd < end; fd++)
        end_one((int)fd, cloexec);
    return 0;
}

static int end_from(int first, bool cloexec)
{
    if (first < 0)
        return -EINVAL;
    if (!syscall(SYS_close_range, (unsigned)first, ~0u, cloexec ? RANGE_CLOEXEC : 0u))
        return 0;
    if (!walk_proc(first, cloexec))
        return 0;
    return walk_numbers(first, cloexec);
}

int vgpu_close_from(int first)
{
    return end_from(first, false);
}

int vgpu_cloexec_from(int first)
{
    return end_from(first, true);
}
