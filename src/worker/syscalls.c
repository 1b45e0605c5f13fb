/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter; see syscalls.h. A call is allowed only if it is named here. What is not gets an
 * error, because libraries try out what a kernel has and must not die of it: EPERM, or ENOSYS where
 * the call is newer than what they can do without, so that they go the older way. What no library
 * asks for by chance, and where the kernel has most to lose, ends the process.
 */
#include "worker/syscalls.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "config.h"

#ifdef VGPU_HAVE_SECCOMP

#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define OTHERWISE SCMP_ACT_ERRNO(EPERM)

#define UNNAMED_FILE     020000000 /* O_TMPFILE but for its O_DIRECTORY; glibc 2.17 lacks it */
#define VGPU_F_GET_SEALS 1034      /* of a window; glibc 2.17 lacks the name */
#ifndef CLONE_NEWCGROUP            /* Linux 4.6 */
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef SCMP_ACT_KILL_PROCESS /* libseccomp before 2.4 */
#define SCMP_ACT_KILL_PROCESS OTHERWISE
#endif

/* Newer than Linux 5.1, and of the same number on every architecture. */
#define FIRST_NEW_CALL 424
#define LAST_NEW_CALL  511 /* x86-64 has others from 512 on */

/* By name: an older library does not know all, and need not. */
static const char *const both[] = {
    /* The socket, stderr, the eventfd; most often first. */
    "recvmsg",
    "sendmsg",
    "ppoll",
    "futex",
    "read",
    "write",
    "poll",
    "writev",
    "close",
    "fstat",
    "lseek",
    "eventfd2",
    /* Memory, but for mmap and mprotect. */
    "munmap",
    "mremap",
    "madvise",
    "brk",
    /* Time and scheduling of oneself. */
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "sched_yield",
    "sched_getaffinity",
    "getcpu",
    "membarrier",
    /* Threads, but for clone, and the end. */
    "set_robust_list",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "restart_syscall",
    "exit",
    "exit_group",
    /* Who and where one is. */
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getrlimit",
    "getrusage",
    "sysinfo",
    "uname",
    "getrandom",
};

/* What a driver needs on top: files (Landlock's and the uid's business; none can be made) and ways
 * to wait. */
static const char *const cuda_too[] = {
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "pread64",
    "readv",
    "dup",
    "pipe2",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "select",
    "pselect6",
    "mlock",
    "munlock",
    "mincore",
    "msync",
    "get_mempolicy",
    "set_mempolicy",
    "mbind",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_min",
    "sched_get_priority_max",
};

static const char *const deadly[] = {
    /* Other programs, other processes. */
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_getfd",
    "kcmp",
    /* Another view of the system. */
    "unshare",
    "setns",
    "mount",
    "umount2",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "pivot_root",
    "chroot",
    "open_by_handle_at",
    /* Large parts of the kernel that have often been a way into it. */
    "bpf",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    "perf_event_open",
    "keyctl",
    "add_key",
    "request_key",
    "modify_ldt",
    "vmsplice",
    "fanotify_init",
    /* The machine. */
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "iopl",
    "ioperm",
    "reboot",
    "swapon",
    "swapoff",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The filter in the making. */
struct filter {
    scmp_filter_ctx ctx;
    bool named[LAST_NEW_CALL + 1];
    int error; /* of the first rule that failed */
};

/* Another way to be allowed (or whatever the action) for the call; up to two conditions, which must
 * both hold. */
static void rule(struct filter *f, uint32_t action, const char *name, unsigned count,
                 struct scmp_arg_cmp a, struct scmp_arg_cmp b)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number < 0)
        return; /* this library or this architecture has none: the default is a refusal */
    if (number <= LAST_NEW_CALL)
        f->named[number] = true;
    struct scmp_arg_cmp conditions[] = {a, b};
    int rc = seccomp_rule_add_array(f->ctx, action, number, count, conditions);
    if (rc && !f->error)
        f->error = rc;
}

static const struct scmp_arg_cmp none = {0};

static void list(struct filter *f, uint32_t action, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        rule(f, action, names[i], 0, none, none);
}

/* The kernel takes 32 bits of an int argument: so must every condition on one. */
static struct scmp_arg_cmp is(unsigned arg, uint32_t value)
{
    return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, 0xffffffff, value);
}

static struct scmp_arg_cmp bits(unsigned arg, uint64_t mask, uint64_t value)
{
    return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, mask, value);
}

/* Threads of this process and nothing else; in clone3 the flags are out of a filter's sight, and
 * the C library falls back. */
static void allow_threads(struct filter *f)
{
    const uint64_t must = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    const uint64_t must_not = CLONE_VFORK | CLONE_PTRACE | CLONE_PARENT | CLONE_NEWNS |
                              CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                              CLONE_NEWPID | CLONE_NEWNET | CLONE_IO;
    rule(f, SCMP_ACT_ALLOW, "clone", 1, bits(0, must | must_not, must), none);
    rule(f, SCMP_ACT_ALLOW, "prctl", 1, is(0, PR_SET_NAME), none);
    rule(f, SCMP_ACT_ALLOW, "prctl", 1, is(0, PR_GET_NAME), none);
    /* abort() signals its own thread. */
    rule(f, SCMP_ACT_ALLOW, "tgkill", 1, is(0, (uint32_t)getpid()), none);
    /* One's own limits, and only to read them. */
    rule(f, SCMP_ACT_ALLOW, "prlimit64", 2, is(0, 0), bits(2, UINT64_MAX, 0));
}

/* F_SETOWN would be a way to send signals, and the locks on descriptor 0 are the mediator's. */
static void allow_fcntl(struct filter *f)
{
    static const uint32_t commands[] = {F_GETFD, F_SETFD,         F_GETFL,
                                        F_SETFL, F_DUPFD_CLOEXEC, VGPU_F_GET_SEALS};
    for (size_t i = 0; i < COUNT(commands); i++)
        rule(f, SCMP_ACT_ALLOW, "fcntl", 1, is(1, commands[i]), none);
}

/* Code that was there from the start is all that runs. Memory that is shared and has no file counts
 * against no limit of this process. */
static void allow_memory(struct filter *f)
{
    rule(f, SCMP_ACT_ALLOW, "mprotect", 1, bits(2, PROT_EXEC, 0), none);
    rule(f, SCMP_ACT_ALLOW, "mmap", 2, bits(2, PROT_EXEC, 0), bits(3, MAP_SHARED, 0));
    rule(f, SCMP_ACT_ALLOW, "mmap", 2, bits(2, PROT_EXEC, 0), bits(3, MAP_ANONYMOUS, 0));
}

/* A driver loads libraries late. Its ioctls are of type 'F' (the cards) or 0 (unified memory); what
 * a terminal takes ('T'), which descriptor 2 may be, is not among them. */
static void allow_driver(struct filter *f)
{
    const uint64_t make = O_CREAT | O_TRUNC | UNNAMED_FILE;
    list(f, SCMP_ACT_ALLOW, cuda_too, COUNT(cuda_too));
    rule(f, SCMP_ACT_ALLOW, "mprotect", 0, none, none);
    rule(f, SCMP_ACT_ALLOW, "mmap", 0, none, none);
    rule(f, SCMP_ACT_ALLOW, "open", 1, bits(1, make, 0), none);
    rule(f, SCMP_ACT_ALLOW, "openat", 1, bits(2, make, 0), none);
    rule(f, SCMP_ACT_ALLOW, "ioctl", 1, bits(1, 0xff00, 'F' << 8), none);
    rule(f, SCMP_ACT_ALLOW, "ioctl", 1, bits(1, 0xff00, 0), none);
}

static int set_up(struct filter *f, enum vgpu_profile profile)
{
    uint32_t kill = SCMP_ACT_KILL_PROCESS;
    int rc = seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc)
        return rc;
#if defined(SCMP_VER_MAJOR) && (SCMP_VER_MAJOR > 2 || (SCMP_VER_MAJOR == 2 && SCMP_VER_MINOR >= 4))
    /* Before Linux 4.14 only a thread can be killed, and the others would wait for it for ever. */
    if (seccomp_api_get() < 3)
        kill = OTHERWISE;
#endif
    /* 32-bit system calls: no program of ours makes any. */
    if ((rc = seccomp_attr_set(f->ctx, SCMP_FLTATR_ACT_BADARCH, kill)))
        return rc;
    list(f, SCMP_ACT_ALLOW, both, COUNT(both));
    allow_threads(f);
    allow_fcntl(f);
    if (profile == VGPU_PROFILE_CUDA)
        allow_driver(f);
    else
        allow_memory(f);
    if (kill != OTHERWISE) /* the library refuses a rule that says what the default says */
        list(f, kill, deadly, COUNT(deadly));
    for (int number = FIRST_NEW_CALL; number <= LAST_NEW_CALL && !f->error; number++) {
        if (!f->named[number])
            f->error = seccomp_rule_add_array(f->ctx, SCMP_ACT_ERRNO(ENOSYS), number, 0, NULL);
    }
    return f->error;
}

int vgpu_syscalls_restrict(enum vgpu_profile profile)
{
    struct filter f = {.ctx = seccomp_init(OTHERWISE)};
    if (!f.ctx)
        return -ENOMEM;
    int rc = set_up(&f, profile);
    if (!rc)
        rc = seccomp_load(f.ctx);
    seccomp_release(f.ctx);
    return rc ? rc : 1;
}

#else

int vgpu_syscalls_restrict(enum vgpu_profile profile)
{
    (void)profile;
    return 0;
}

#endif
