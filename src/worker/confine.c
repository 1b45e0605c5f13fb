/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up privileges; see confine.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/net.h"
#include "common/sys.h"
#include "worker/landlock.h"
#include "worker/syscalls.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* The socket, an eventfd, and what a backend opened: a driver has a hundred with five contexts. */
static const rlim_t max_descriptors[] = {
    [VGPU_PROFILE_SOFTWARE] = 64,
    [VGPU_PROFILE_CUDA] = 1024,
};

/* A descriptor 2 that is missing would become the next one that is opened, and get the log. */
static int fill_standard(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        int null = open("/dev/null", O_RDWR);
        if (null < 0)
            return -errno;
        if (null != fd) {
            /* open takes the lowest free number, so this does not happen; be sure anyway. */
            close(null);
            return -EBADF;
        }
    }
    return 0;
}

static int take_socket(int socket)
{
    if (socket != VGPU_WORKER_FD) {
        if (dup2(socket, VGPU_WORKER_FD) < 0)
            return -errno;
        if (socket > 2)
            close(socket);
    }
    int rc = vgpu_fd_set_cloexec(VGPU_WORKER_FD);
    return rc ? rc : vgpu_close_from(VGPU_WORKER_FD + 1);
}

static int forbid_dumps(void)
{
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none))
        return -errno;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? -errno : 0;
}

int vgpu_confine_early(int socket, struct vgpu_confinement *c, const char **what)
{
    int rc;
    *what = "taking the mediator's socket";
    if ((rc = take_socket(socket)))
        return rc;
    *what = "opening /dev/null";
    if ((rc = fill_standard()))
        return rc;
    *what = "forbidding core dumps";
    if ((rc = forbid_dumps()))
        return rc;
    /* Belongs to each thread and is inherited: so before a backend starts any. */
    *what = "forbidding new privileges";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -errno;
    *what = "leaving the working directory";
    if (chdir("/"))
        return -errno;
    umask(077);
    /* What the driver compiles would be kept in files, for other sessions of this uid to find. */
    *what = "switching the driver's cache off";
    if (c->profile == VGPU_PROFILE_CUDA && setenv("CUDA_CACHE_DISABLE", "1", 1))
        return -errno;
    /* Belongs to each thread too, so a backend opens and starts what it needs inside the fence. */
    *what = "restricting files (Landlock)";
    if ((c->landlock_abi = vgpu_landlock_restrict(c->profile)) < 0)
        return c->landlock_abi;
    /* The terminal's keys are for the mediator, which ends its workers itself. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

static int change_identity(const struct vgpu_identity *identity, const char **what)
{
    if (geteuid() != 0) {
        *what = "keeping another uid or gid than one's own without being root";
        return identity->uid == getuid() && identity->gid == getgid() ? 0 : -EPERM;
    }
    *what = "dropping supplementary groups";
    if (setgroups(0, NULL))
        return -errno;
    /* The C library changes every thread. */
    *what = "taking the gid";
    if (setresgid(identity->gid, identity->gid, identity->gid))
        return -errno;
    *what = "taking the uid";
    if (setresuid(identity->uid, identity->uid, identity->uid))
        return -errno;
    *what = "making sure that root is gone for good";
    if (identity->uid && (setuid(0) == 0 || geteuid() != identity->uid))
        return -EPERM;
    return 0;
}

static int limit(struct vgpu_confinement *c, const char **what)
{
    /* RLIMIT_NPROC is left alone: it counts all of the tenant's workers together, and a backend may
     * start threads later. */
    const rlim_t most = max_descriptors[c->profile];
    struct rlimit few = {most, most};
    *what = "limiting descriptors";
    if (setrlimit(RLIMIT_NOFILE, &few))
        return -errno;
#ifdef SANITIZED
    c->host_memory_bytes = 0;
#endif
    /* Not RLIMIT_AS: that counts address space the C library reserves for each thread. */
    struct rlimit data = {c->host_memory_bytes, c->host_memory_bytes};
    *what = "limiting memory";
    return c->host_memory_bytes && setrlimit(RLIMIT_DATA, &data) ? -errno : 0;
}

int vgpu_confine(struct vgpu_confinement *c, const char **what)
{
    int rc;
    if (c->identity.given && (rc = change_identity(&c->identity, what)))
        return rc;
    *what = "forbidding core dumps";
    if ((rc = forbid_dumps())) /* again: a change of uid resets it */
        return rc;
    if ((rc = limit(c, what)))
        return rc;
    /* A worker that has been taken over need not mind that its socket closes. After the change of
     * uid, which resets this too; a parent that is gone by now has closed the socket. */
    *what = "asking to end with the mediator";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        return -errno;
    *what = "filtering system calls (seccomp)";
    if ((rc = vgpu_syscalls_restrict(c->profile)) < 0)
        return rc;
    c->seccomp = rc > 0;
    return 0;
}
