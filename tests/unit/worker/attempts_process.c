/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets, signals, other processes and programs; see attempts.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "attempts.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Newer than some headers; the same on every architecture. */
#define CALL_PIDFD_SEND_SIGNAL 424
#define CALL_PIDFD_OPEN        434
#define CALL_CLONE3            435
#define CALL_PIDFD_GETFD       438

static int socket_inet(void)
{
    return attempt_answer(socket(AF_INET, SOCK_STREAM, 0));
}

static int socket_unix(void)
{
    return attempt_answer(socket(AF_UNIX, SOCK_DGRAM, 0));
}

static int socket_netlink(void)
{
    return attempt_answer(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int socket_pair(void)
{
    int fds[2];
    return attempt_answer(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
}

/* Errors other than a refusal mean that the call was made: on this socket it cannot succeed. */
static int connect_the_socket(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
    int rc = attempt_answer(connect(VGPU_WORKER_FD, (void *)&name, sizeof(name)));
    return rc == ECONNREFUSED || rc == EISCONN || rc == ENOENT ? 0 : rc;
}

static int bind_the_socket(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0vgpu-test"};
    return attempt_answer(bind(VGPU_WORKER_FD, (void *)&name, sizeof(sa_family_t)));
}

static int listen_on_the_socket(void)
{
    int rc = attempt_answer(listen(VGPU_WORKER_FD, 1));
    return rc == EINVAL ? 0 : rc;
}

static int accept_from_the_socket(void)
{
    int rc = attempt_answer(accept(VGPU_WORKER_FD, NULL, NULL));
    return rc == EINVAL ? 0 : rc;
}

static int signal_parent(void)
{
    return attempt_answer(kill(attempt_parent, 0));
}

static int signal_init(void)
{
    return attempt_answer(kill(1, 0));
}

static int signal_everybody(void)
{
    return attempt_answer(kill(-1, 0));
}

static int signal_parents_thread(void)
{
    return attempt_answer(syscall(SYS_tgkill, attempt_parent, attempt_parent, 0));
}

static int signal_by_tkill(void)
{
    return attempt_answer(syscall(SYS_tkill, attempt_parent, 0));
}

static int signal_by_queue(void)
{
    siginfo_t info = {.si_code = SI_QUEUE};
    return attempt_answer(syscall(SYS_rt_sigqueueinfo, attempt_parent, 0, &info));
}

static int open_process(void)
{
    return attempt_answer(syscall(CALL_PIDFD_OPEN, attempt_parent, 0));
}

/* A wrong descriptor, so that EBADF shows that the call exists. */
static int signal_by_pidfd(void)
{
    int rc = attempt_answer(syscall(CALL_PIDFD_SEND_SIGNAL, -1, 0, NULL, 0));
    return rc == EBADF ? 0 : rc;
}

static int signal_by_io(void)
{
    return attempt_answer(fcntl(VGPU_WORKER_FD, F_SETOWN, attempt_parent));
}

static int limit_parent(void)
{
    struct rlimit same;
    return attempt_answer(syscall(SYS_prlimit64, attempt_parent, RLIMIT_CORE, NULL, &same));
}

static int pin_parent(void)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof(all));
    return attempt_answer(sched_setaffinity(attempt_parent, sizeof(all), &all));
}

static int slow_parent_down(void)
{
    return attempt_answer(setpriority(PRIO_PROCESS, (id_t)attempt_parent, 1));
}

static int call_ptrace(void)
{
    return attempt_answer(syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, attempt_parent, 0, 0));
}

static int read_parents_memory(void)
{
    return attempt_answer(syscall(SYS_process_vm_readv, attempt_parent, NULL, 0, NULL, 0, 0));
}

static int write_parents_memory(void)
{
    return attempt_answer(syscall(SYS_process_vm_writev, attempt_parent, NULL, 0, NULL, 0, 0));
}

static int take_descriptor(void)
{
    return attempt_answer(syscall(CALL_PIDFD_GETFD, -1, 0, 0));
}

static int call_execve(void)
{
    char *const argv[] = {NULL}, *const envp[] = {NULL};
    return attempt_answer(syscall(SYS_execve, "/bin/true", argv, envp));
}

static int call_execveat(void)
{
    char *const argv[] = {NULL}, *const envp[] = {NULL};
    return attempt_answer(syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, envp, 0));
}

static int wait_for(long pid)
{
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    return attempt_answer(pid);
}

static int fork_and_exec(void)
{
    long pid = syscall(SYS_fork);
    if (pid == 0)
        execl("/bin/true", "true", (char *)NULL);
    return wait_for(pid);
}

static int fork_by_clone(void)
{
    return wait_for(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
}

static int fork_by_clone3(void)
{
    const uint64_t args[8] = {[4] = SIGCHLD};
    return wait_for(syscall(CALL_CLONE3, args, sizeof(args)));
}

/* Refused by the kernel too, but with EINVAL. */
static int thread_in_new_namespace(void)
{
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_NEWNS;
    int rc = attempt_answer(syscall(SYS_clone, flags, NULL, NULL, NULL, 0));
    return rc == EINVAL ? 0 : rc;
}

const struct attempt process_attempts[] = {
    {"socket AF_INET", socket_inet, REFUSED, REFUSED, false, true},
    {"socket AF_UNIX", socket_unix, REFUSED, REFUSED, false, false},
    {"socket AF_NETLINK", socket_netlink, REFUSED, REFUSED, false, true},
    {"socketpair", socket_pair, REFUSED, REFUSED, false, false},
    {"connect", connect_the_socket, REFUSED, REFUSED, false, true},
    {"bind", bind_the_socket, REFUSED, REFUSED, false, true},
    {"listen", listen_on_the_socket, REFUSED, REFUSED, false, true},
    {"accept", accept_from_the_socket, REFUSED, REFUSED, false, true},
    {"kill(parent)", signal_parent, REFUSED, REFUSED, false, false},
    {"kill(1)", signal_init, REFUSED, REFUSED, false, true},
    {"kill(-1)", signal_everybody, REFUSED, REFUSED, false, true},
    {"tgkill(parent)", signal_parents_thread, REFUSED, REFUSED, false, false},
    {"tkill(parent)", signal_by_tkill, REFUSED, REFUSED, false, false},
    {"rt_sigqueueinfo(parent)", signal_by_queue, REFUSED, REFUSED, false, false},
    {"pidfd_open(parent)", open_process, REFUSED, REFUSED, false, true},
    {"pidfd_send_signal", signal_by_pidfd, REFUSED, REFUSED, false, true},
    {"F_SETOWN", signal_by_io, REFUSED, REFUSED, false, false},
    {"prlimit(parent)", limit_parent, REFUSED, REFUSED, false, false},
    {"sched_setaffinity(parent)", pin_parent, REFUSED, REFUSED, false, false},
    {"setpriority(parent)", slow_parent_down, REFUSED, REFUSED, false, true},
    {"ptrace", call_ptrace, KILLED, KILLED, false, true},
    {"process_vm_readv", read_parents_memory, KILLED, KILLED, false, true},
    {"process_vm_writev", write_parents_memory, KILLED, KILLED, false, true},
    {"pidfd_getfd", take_descriptor, KILLED, KILLED, false, true},
    {"execve", call_execve, KILLED, KILLED, false, true},
    {"execveat", call_execveat, KILLED, KILLED, false, true},
    {"fork and execve", fork_and_exec, REFUSED, REFUSED, false, false},
    {"fork by clone", fork_by_clone, REFUSED, REFUSED, false, false},
    {"fork by clone3", fork_by_clone3, REFUSED, REFUSED, false, true},
    {"a thread in a namespace", thread_in_new_namespace, REFUSED, REFUSED, false, false},
    {NULL, NULL, WORKS, WORKS, false, false},
};
