/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Privileges, namespaces and odd corners of the kernel; see attempts.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "attempts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some headers; the same on every architecture. */
#define CALL_IO_URING_SETUP 425
#define CALL_IO_URING_ENTER 426
#define CALL_OPEN_TREE      428

#define PAGE 4096

static int become_root(void)
{
    return attempt_answer(syscall(SYS_setresuid, 0, 0, 0));
}

static int take_own_uid(void)
{
    return attempt_answer(syscall(SYS_setresuid, getuid(), getuid(), getuid()));
}

static int take_groups(void)
{
    return attempt_answer(syscall(SYS_setgroups, 0, NULL));
}

static int take_capabilities(void)
{
    const uint32_t header[2] = {0x20080522, 0}, data[6] = {0};
    return attempt_answer(syscall(SYS_capset, header, data));
}

static int allow_dumps(void)
{
    return attempt_answer(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int outlive_parent(void)
{
    return attempt_answer(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0));
}

static int change_limits(void)
{
    struct rlimit own = {16, 16};
    return attempt_answer(setrlimit(RLIMIT_NOFILE, &own));
}

static int change_personality(void)
{
    return attempt_answer(syscall(SYS_personality, 0xffffffff));
}

static int call_unshare(void)
{
    return attempt_answer(unshare(CLONE_NEWUSER));
}

static int call_setns(void)
{
    return attempt_answer(setns(-1, 0));
}

static int call_mount(void)
{
    return attempt_answer(mount("none", "/nowhere", "tmpfs", 0, NULL));
}

static int call_umount(void)
{
    return attempt_answer(umount2("/nowhere", 0));
}

static int call_open_tree(void)
{
    return attempt_answer(syscall(CALL_OPEN_TREE, AT_FDCWD, "/", 1));
}

static int call_pivot_root(void)
{
    return attempt_answer(syscall(SYS_pivot_root, "/nowhere", "/nowhere"));
}

static int call_chroot(void)
{
    return attempt_answer(chroot("/nowhere"));
}

static int call_io_uring_setup(void)
{
    return attempt_answer(syscall(CALL_IO_URING_SETUP, 0, NULL));
}

static int call_io_uring_enter(void)
{
    return attempt_answer(syscall(CALL_IO_URING_ENTER, -1, 0, 0, 0, NULL, 0));
}

static int call_bpf(void)
{
    return attempt_answer(syscall(SYS_bpf, 0, NULL, 0));
}

static int call_userfaultfd(void)
{
    return attempt_answer(syscall(SYS_userfaultfd, 0));
}

static int call_perf(void)
{
    return attempt_answer(syscall(SYS_perf_event_open, NULL, 0, 0, -1, 0));
}

static int call_keyctl(void)
{
    return attempt_answer(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
}

static int call_add_key(void)
{
    return attempt_answer(syscall(SYS_add_key, NULL, NULL, NULL, 0, 0));
}

static int load_module(void)
{
    return attempt_answer(syscall(SYS_init_module, NULL, 0, NULL));
}

static int make_shared_segment(void)
{
    return attempt_answer(syscall(SYS_shmget, 0 /* IPC_PRIVATE */, PAGE, 0600));
}

static int type_into_the_terminal(void)
{
    char c = '\n';
    int rc = attempt_answer(ioctl(STDERR_FILENO, TIOCSTI, &c));
    return rc == ENOTTY || rc == EIO ? 0 : rc;
}

static int how_much_to_read(void)
{
    int n;
    return attempt_answer(ioctl(VGPU_WORKER_FD, FIONREAD, &n));
}

#ifdef __x86_64__
static int call_32_bit(void)
{
    long rc = 20; /* getpid */
    __asm__ volatile("int $0x80" : "+a"(rc) : : "memory", "r8", "r9", "r10", "r11");
    return rc > 0 ? 0 : (int)-rc;
}

static int call_x32(void)
{
    return attempt_answer(syscall(0x40000000 + SYS_getpid));
}

static int call_iopl(void)
{
    return attempt_answer(syscall(SYS_iopl, 0));
}

static int call_modify_ldt(void)
{
    return attempt_answer(syscall(SYS_modify_ldt, 0, NULL, 0));
}
#endif

/* ENOTTY from a socket: the request got there. */
static int ioctl_of_the_driver(void)
{
    int rc = attempt_answer(ioctl(VGPU_WORKER_FD, 'F' << 8 | 1, NULL));
    return rc == ENOTTY ? 0 : rc;
}

const struct attempt kernel_attempts[] = {
    {"setresuid(0)", become_root, REFUSED, REFUSED, false, true},
    {"setresuid(own)", take_own_uid, REFUSED, REFUSED, false, false},
    {"setgroups", take_groups, REFUSED, REFUSED, false, true},
    {"capset", take_capabilities, REFUSED, REFUSED, false, false},
    {"PR_SET_DUMPABLE", allow_dumps, REFUSED, REFUSED, false, false},
    {"PR_SET_PDEATHSIG", outlive_parent, REFUSED, REFUSED, false, false},
    {"setrlimit", change_limits, REFUSED, REFUSED, false, false},
    {"personality", change_personality, REFUSED, REFUSED, false, false},
    {"unshare", call_unshare, KILLED, KILLED, false, true},
    {"setns", call_setns, KILLED, KILLED, false, true},
    {"mount", call_mount, KILLED, KILLED, false, true},
    {"umount2", call_umount, KILLED, KILLED, false, true},
    {"open_tree", call_open_tree, KILLED, KILLED, false, true},
    {"pivot_root", call_pivot_root, KILLED, KILLED, false, true},
    {"chroot", call_chroot, KILLED, KILLED, false, true},
    {"io_uring_setup", call_io_uring_setup, KILLED, KILLED, false, true},
    {"io_uring_enter", call_io_uring_enter, KILLED, KILLED, false, true},
    {"bpf", call_bpf, KILLED, KILLED, false, true},
    {"userfaultfd", call_userfaultfd, KILLED, KILLED, false, true},
    {"perf_event_open", call_perf, KILLED, KILLED, false, true},
    {"keyctl", call_keyctl, KILLED, KILLED, false, true},
    {"add_key", call_add_key, KILLED, KILLED, false, true},
    {"init_module", load_module, KILLED, KILLED, false, true},
    {"shmget", make_shared_segment, REFUSED, REFUSED, false, true},
    {"TIOCSTI", type_into_the_terminal, REFUSED, REFUSED, false, true},
    {"FIONREAD", how_much_to_read, REFUSED, REFUSED, false, false},
    {"an ioctl of type F", ioctl_of_the_driver, REFUSED, WORKS, false, false},
#ifdef __x86_64__
    {"a 32-bit call", call_32_bit, KILLED, KILLED, false, true},
    {"an x32 call", call_x32, KILLED, KILLED, false, true},
    {"iopl", call_iopl, KILLED, KILLED, false, true},
    {"modify_ldt", call_modify_ldt, KILLED, KILLED, false, true},
#endif
    {NULL, NULL, WORKS, WORKS, false, false},
};
