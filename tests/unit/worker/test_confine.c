/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * W8 (docs/worker.md): inside a confined worker. Every attempt of attempts.h is made in a process
 * that has confined itself as vgpu-worker does, with both profiles, with and without Landlock, as
 * root and as another user, from the thread that confined and from one that was there before.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "attempts.h"
#include "vgpu_test.h"

#define NOBODY            65534
#define LANDLOCK_CREATE   444
#define LANDLOCK_VERSION  1u
#define PATIENCE_MS       60000
#define EXIT_NOT_CONFINED 100
#define EXIT_REFUSED      101
#define EXIT_OTHERWISE    102
#define EXIT_NO_BOUND     103

/* Not _exit: there TSan waits a second for what other threads may still do wrong. */
static void leave(int code)
{
    for (;;)
        syscall(SYS_exit_group, code);
}

struct variant {
    enum vgpu_profile profile;
    bool as_nobody; /* else whoever runs the test, root included */
    bool landlock;
};

/* A kernel without Landlock, or (abi > 0) with an older one: by a filter of our own, which answers
 * in its place. */
static int pretend_landlock(unsigned action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LANDLOCK_CREATE, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LANDLOCK_VERSION, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
        return -errno;
    return 0;
}

/* Filled by the thread that was there before. */
struct early {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    const struct attempt *todo;
    int result;
};

static void *early_main(void *arg)
{
    struct early *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->todo)
        pthread_cond_wait(&e->cond, &e->lock);
    pthread_mutex_unlock(&e->lock);
    e->result = e->todo->make();
    return NULL;
}

static int make_early(struct early *e, const struct attempt *a)
{
    pthread_mutex_lock(&e->lock);
    e->todo = a;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    return e->result;
}

static void stop(const char *what, int rc)
{
    fprintf(stderr, "%s: %s\n", what, strerror(-rc));
    leave(EXIT_NOT_CONFINED);
}

static void start_as(const struct variant *v, int socket, struct vgpu_confinement *c)
{
    const char *what = "pretending";
    *c = (struct vgpu_confinement){.profile = v->profile};
    if (v->as_nobody)
        c->identity = (struct vgpu_identity){true, NOBODY, NOBODY};
    int rc = v->landlock ? 0 : pretend_landlock(SECCOMP_RET_ERRNO | EOPNOTSUPP);
    if (!rc)
        rc = vgpu_confine_early(socket, c, &what);
    if (rc)
        stop(what, rc);
}

/* In the child. Does not return. */
static void attempt_confined(const struct attempt *a, const struct variant *v, bool early,
                             int socket)
{
    struct vgpu_confinement c;
    struct early e = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    const char *what = "starting a thread";
    start_as(v, socket, &c);
    int rc = -pthread_create(&e.thread, NULL, early_main, &e);
    if (!rc)
        rc = vgpu_confine(&c, &what);
    if (rc)
        stop(what, rc);
    if (!c.seccomp || (c.landlock_abi && !v->landlock))
        stop("confinement", -ENOSYS);
    errno = 0;
    rc = early ? make_early(&e, a) : a->make();
    if (rc && rc != EPERM && rc != EACCES && rc != ENOSYS)
        fprintf(stderr, "%s: %s\n", a->name, strerror(rc));
    leave(!rc ? 0 : rc == EPERM || rc == EACCES || rc == ENOSYS ? EXIT_REFUSED : EXIT_OTHERWISE);
}

static void attempt_free(const struct attempt *a, int socket)
{
    if (socket != VGPU_WORKER_FD)
        dup2(socket, VGPU_WORKER_FD);
    errno = 0;
    int rc = a->make();
    if (rc)
        fprintf(stderr, "%s, without confinement: %s\n", a->name, strerror(rc));
    leave(rc ? EXIT_OTHERWISE : 0);
}

/* Starts a process for the attempt, confined unless v is NULL; answers its wait status. */
static int run(const struct attempt *a, const struct variant *v, bool early)
{
    int pair[2], status = -1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(send(pair[0], "ping", 5, 0), 5);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (v)
            attempt_confined(a, v, early, pair[1]);
        attempt_free(a, pair[1]);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(pair[0]);
    close(pair[1]);
    return status;
}

static enum outcome outcome_of(int status, bool *known)
{
    *known = true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return WORKS;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED)
        return REFUSED;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return KILLED;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
        return ABORTED;
    *known = false;
    return WORKS;
}

static int kernel_landlock(void)
{
    long abi = syscall(LANDLOCK_CREATE, NULL, 0, LANDLOCK_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static bool as_expected(const struct attempt *a, const struct variant *v, bool early)
{
    static const char *const names[] = {"works", "is refused", "ends it", "aborts"};
    enum outcome wanted = v->profile == VGPU_PROFILE_CUDA ? a->cuda : a->software;
    if (v->profile == VGPU_PROFILE_CUDA && a->by_landlock && !v->landlock)
        wanted = WORKS;
    bool known;
    int status = run(a, v, early);
    enum outcome got = outcome_of(status, &known);
    if (known && got == wanted)
        return true;
    print_error("%s: should be that it %s, but it %s (status 0x%x; profile %d, nobody %d, Landlock "
                "%d, early thread %d)\n",
                a->name, names[wanted], known ? names[got] : "fails", (unsigned)status,
                (int)v->profile, v->as_nobody, v->landlock, early);
    return false;
}

static const struct attempt *const tables[] = {file_attempts, process_attempts, kernel_attempts,
                                               needs};

static void all_attempts(const struct variant *v, bool from_both)
{
    unsigned failed = 0, index = 0;
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct attempt *a = tables[t]; a->name; a++, index++) {
            for (unsigned early = 0; early < 2; early++) {
                if (from_both || early == (index & 1))
                    failed += !as_expected(a, v, early);
            }
        }
    }
    assert_int_equal(failed, 0);
}

/* Without Landlock a user is kept from files of others by its uid alone; so this is about what
 * seccomp promises, as whoever runs the test: as root, if root does. */
static void seccomp_alone(enum vgpu_profile profile)
{
    all_attempts(&(struct variant){.profile = profile, .landlock = false}, true);
}

static void w8_software_without_landlock(void **state)
{
    (void)state;
    seccomp_alone(VGPU_PROFILE_SOFTWARE);
}

static void w8_cuda_without_landlock(void **state)
{
    (void)state;
    seccomp_alone(VGPU_PROFILE_CUDA);
}

static void with_landlock(enum vgpu_profile profile)
{
    if (!kernel_landlock())
        skip();
    all_attempts(&(struct variant){profile, geteuid() == 0, true}, false);
}

static void w8_software_with_landlock(void **state)
{
    (void)state;
    with_landlock(VGPU_PROFILE_SOFTWARE);
}

static void w8_cuda_with_landlock(void **state)
{
    (void)state;
    with_landlock(VGPU_PROFILE_CUDA);
}

/* An attempt that fails for everybody would show nothing. */
static void unconfined_the_attempts_work(void **state)
{
    unsigned failed = 0;
    (void)state;
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct attempt *a = tables[t]; a->name; a++) {
            if (a->not_for_all || a->software == ABORTED)
                continue;
            int status = run(a, NULL, false);
            failed += status != 0;
            char file[4096];
            snprintf(file, sizeof(file), "%s/file", attempt_folder);
            close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0666)); /* again */
        }
    }
    assert_int_equal(failed, 0);
}

#if defined(__x86_64__)

static int pretended_abi;

static void answer_abi(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)signal;
    (void)info;
    u->uc_mcontext.gregs[REG_RAX] = pretended_abi;
}

/* Landlock by itself, before seccomp: what it can refuse depends on the ABI. */
static void check_abi(enum vgpu_profile profile, int abi, int socket)
{
    struct vgpu_confinement c = {.profile = profile};
    const char *what = "pretending";
    struct sigaction action = {.sa_sigaction = answer_abi, .sa_flags = SA_SIGINFO};
    char file[4096];
    pretended_abi = abi;
    sigaction(SIGSYS, &action, NULL);
    int rc = pretend_landlock(SECCOMP_RET_TRAP);
    if (!rc)
        rc = vgpu_confine_early(socket, &c, &what);
    if (rc)
        stop(what, rc);
    snprintf(file, sizeof(file), "%s/file", attempt_folder);
    bool cuda = profile == VGPU_PROFILE_CUDA;
    char *const nothing[] = {NULL};
    struct stat st;
    int wrong = c.landlock_abi != abi;
    wrong |= (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES) << 1;
    wrong |= (open(file, O_WRONLY) >= 0 || errno != EACCES) << 2;
    wrong |= (unlink(file) == 0 || errno != EACCES) << 3;
    wrong |= ((open("/usr/lib", O_RDONLY | O_DIRECTORY) >= 0) != cuda) << 4;
    wrong |= ((open("/dev/null", O_WRONLY) >= 0) != cuda) << 5;
    if (!stat("/bin/true", &st)) {
        execve("/bin/true", nothing, nothing);
        wrong |= (errno != EACCES) << 6;
    }
    if (abi >= 3) /* truncating is known from there on */
        wrong |= (truncate(file, 0) == 0 || errno != EACCES) << 6;
    if (abi >= 6)
        wrong |= (kill(attempt_parent, 0) == 0 || errno != EPERM) << 7;
    if (wrong)
        fprintf(stderr, "ABI %d, profile %d: wrong 0x%x\n", abi, (int)profile, (unsigned)wrong);
    leave(wrong ? EXIT_OTHERWISE : 0);
}

static void w8_landlock_of_every_age(void **state)
{
    static const enum vgpu_profile profiles[] = {VGPU_PROFILE_SOFTWARE, VGPU_PROFILE_CUDA};
    (void)state;
    if (!kernel_landlock())
        skip();
    for (int abi = 1; abi <= kernel_landlock(); abi++) {
        for (size_t i = 0; i < 2; i++) {
            int status, socket = open("/dev/null", O_RDWR | O_CLOEXEC);
            fflush(NULL);
            pid_t pid = fork();
            assert_true(pid >= 0);
            if (pid == 0)
                check_abi(profiles[i], abi, socket);
            assert_int_equal(waitpid(pid, &status, 0), pid);
            close(socket);
            assert_int_equal(status, 0);
        }
    }
}

#endif

/* One that does not look at its socket ends all the same. */
static void w8_ends_with_its_parent(void **state)
{
    int pair[2], gate[2];
    char c;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        if (fork() == 0) {
            struct vgpu_confinement confinement;
            const char *what = "";
            start_as(&(struct variant){VGPU_PROFILE_SOFTWARE, geteuid() == 0, true}, pair[1],
                     &confinement);
            int rc = vgpu_confine(&confinement, &what);
            if (rc)
                stop(what, rc);
            if (write(VGPU_WORKER_FD, "", 1) == 1)
                poll(NULL, 0, 2 * PATIENCE_MS);
            leave(EXIT_OTHERWISE);
        }
        close(pair[1]);
        leave(read(gate[0], &c, 1) == 1 ? 0 : EXIT_OTHERWISE);
    }
    close(pair[1]);
    struct pollfd p = {.fd = pair[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(recv(pair[0], &c, 1, 0), 1); /* confined; 0 if it could not */
    assert_int_equal(write(gate[1], "", 1), 1);
    int status;
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_int_equal(status, 0);
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(recv(pair[0], &c, 1, 0), 0);
    close(pair[0]);
    close(gate[0]);
    close(gate[1]);
}

static int take_too_much(void)
{
    void *some = mmap(NULL, 64u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *more = mmap(NULL, 512u << 20, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return some != MAP_FAILED && more == MAP_FAILED && errno == ENOMEM ? 0 : EXIT_OTHERWISE;
}

static void w8_host_memory_has_a_bound(void **state)
{
    (void)state;
    int status, socket = open("/dev/null", O_RDWR | O_CLOEXEC);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct vgpu_confinement c = {.profile = VGPU_PROFILE_SOFTWARE,
                                     .host_memory_bytes = 256u << 20};
        const char *what = "";
        int rc = vgpu_confine_early(socket, &c, &what);
        if (!rc)
            rc = vgpu_confine(&c, &what);
        if (rc)
            stop(what, rc);
        leave(c.host_memory_bytes ? take_too_much() : EXIT_NO_BOUND);
    }
    close(socket);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_BOUND)
        skip(); /* built with a sanitizer that reserves more than any bound: confine.h */
    assert_int_equal(status, 0);
}

static char folder[] = "/tmp/vgpu-confine-XXXXXX";

static int make_folder(void **state)
{
    char file[4096];
    (void)state;
    attempt_parent = getpid();
    attempt_folder = mkdtemp(folder);
    if (!attempt_folder || chmod(folder, 0777))
        return -1;
    snprintf(file, sizeof(file), "%s/file", folder);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0 || fchmod(fd, 0666))
        return -1;
    return close(fd);
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"file", "new", "here", "link"};
    char path[4096];
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/directory", folder);
    rmdir(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(unconfined_the_attempts_work),
        VGPU_TEST(w8_software_without_landlock),
        VGPU_TEST(w8_cuda_without_landlock),
        VGPU_TEST(w8_software_with_landlock),
        VGPU_TEST(w8_cuda_with_landlock),
#if defined(__x86_64__)
        VGPU_TEST(w8_landlock_of_every_age),
#endif
        VGPU_TEST(w8_ends_with_its_parent),
        VGPU_TEST(w8_host_memory_has_a_bound),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
