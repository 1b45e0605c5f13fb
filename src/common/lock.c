/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two locks on a file that comes and goes; see lock.h. A mediator has the open file description's
 * own (F_OFD_SETLK), which keeps other mediators away; each worker has a flock, through a
 * description of its own. Who begins needs both.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/net.h"

#define STEP_MS 20

#ifndef F_OFD_SETLK /* Linux 3.15; old headers lack it */
#define F_OFD_SETLK 37
#endif

/* The same file by another description; nobody can write through it. */
static int open_again(int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    return again < 0 ? -errno : again;
}

/* Its holder may remove the file: what was locked has to be what is there. */
static int is_there(int fd, const char *path)
{
    struct stat held, there;
    return !fstat(fd, &held) && !lstat(path, &there) && held.st_ino == there.st_ino &&
           held.st_dev == there.st_dev;
}

static void write_pid(int fd)
{
    if (ftruncate(fd, 0) || dprintf(fd, "%d\n", (int)getpid()) < 0)
        vgpu_log(VGPU_LOG_WARN, "lock-write", "reason=\"%s\"", strerror(errno));
}

/* 0, -EBUSY (holder is set), -EAGAIN (the file changed meanwhile) or another negative errno. */
static int try_once(struct vgpu_lock *lock, char *holder, size_t size)
{
    struct stat st;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc, fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st)) {
        rc = -errno;
    } else if (!S_ISREG(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0) ||
               st.st_nlink > 1) {
        /* A stranger's, who could hold it for ever; or a file of ours that a stranger linked here,
         * to have us write into it. */
        rc = -EPERM;
    } else if (fcntl(fd, F_OFD_SETLK, &whole) || flock(fd, LOCK_EX | LOCK_NB)) {
        rc = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
        ssize_t n = pread(fd, holder, size - 1, 0);
        holder[n > 0 ? strspn(holder, "0123456789") : 0] = 0;
    } else if (!is_there(fd, lock->path)) {
        rc = -EAGAIN;
    } else {
        /* No worker of another is left. From now on the first lock keeps other mediators out, and
         * the second is for our workers. */
        flock(fd, LOCK_UN);
        write_pid(fd);
        lock->fd = fd;
        return 0;
    }
    vgpu_fd_close(&fd);
    return rc;
}

int vgpu_lock_take(struct vgpu_lock *lock, const char *path, const char *held, unsigned wait_ms,
                   char *why)
{
    char holder[16] = "";
    int rc;
    lock->fd = -1;
    lock->path = strdup(path);
    if (!lock->path) {
        snprintf(why, 512, "out of memory");
        return -ENOMEM;
    }
    for (unsigned waited = 0;; waited += STEP_MS) {
        rc = try_once(lock, holder, sizeof(holder));
        if ((rc != -EBUSY && rc != -EAGAIN) || waited >= wait_ms)
            break;
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000l}, NULL);
    }
    if (!rc)
        return 0;
    if (rc == -EAGAIN)
        rc = -EBUSY;
    if (rc == -EBUSY)
        snprintf(why, 512,
                 "another vgpu-mediator (pid %s), or a worker that it left, has %.180s: it holds "
                 "the lock %.180s; end it first",
                 holder[0] ? holder : "unknown", held, path);
    else
        snprintf(why, 512, "cannot make the lock %.300s: %s", path,
                 rc == -EPERM ? "the file is somebody else's, or has other names" : strerror(-rc));
    free(lock->path);
    lock->path = NULL;
    return rc;
}

int vgpu_lock_share(const struct vgpu_lock *lock, int *fd)
{
    *fd = -1;
    if (lock->fd < 0)
        return 0;
    int own = open_again(lock->fd);
    if (own < 0)
        return own;
    if (flock(own, LOCK_SH | LOCK_NB)) {
        int rc = -errno;
        vgpu_fd_close(&own);
        return rc;
    }
    *fd = own;
    return 0;
}

void vgpu_lock_drop(struct vgpu_lock *lock)
{
    if (lock->fd >= 0 && !flock(lock->fd, LOCK_EX | LOCK_NB) && is_there(lock->fd, lock->path))
        unlink(lock->path);
    vgpu_fd_close(&lock->fd);
    free(lock->path);
    lock->path = NULL;
}
