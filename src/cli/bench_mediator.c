/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mediator of the benchmark's own: found, started, waited for, ended, cleaned up after. */
#define _GNU_SOURCE /* pipe2 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/bench.h"

#define START_TIMEOUT_MS 60000

/*
 * Where programs of ours are: named by the environment, beside us in the build folder
 * (src/cli/../mediator), or installed beside us.
 */
static bool find_program(const char *variable, const char *name, const char *folder, char *path,
                         size_t capacity)
{
    char self[512];
    const char *named = getenv(variable);
    if (named && *named) {
        snprintf(path, capacity, "%s", named);
        return access(path, X_OK) == 0;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = 0;
    snprintf(path, capacity, "%.400s/../%s/%s", self, folder, name);
    if (access(path, X_OK) == 0)
        return true;
    snprintf(path, capacity, "%.400s/%s", self, name);
    return access(path, X_OK) == 0;
}

/* ---- A mediator ---- */

/* Waits for the line that the mediator writes when it is up. */
static bool wait_ready(int fd)
{
    char said[16];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, START_TIMEOUT_MS) == 1 && read(fd, said, sizeof(said)) > 0;
}

/* Local clients may have windows with room for large pinned copies. NULL: not written. */
static const char *write_config(const struct bench_mediator *mediator, char *path, size_t capacity)
{
    snprintf(path, capacity, "%s/mediator.conf", mediator->directory);
    FILE *out = fopen(path, "w");
    if (!out)
        return NULL;
    fputs("[mediator]\nlocal_window = 1G\n", out);
    return fclose(out) == 0 ? path : NULL;
}

bool bench_mediator_start(struct bench_mediator *mediator, const char *config)
{
    char program[600], worker[600], ready_text[16], config_path[96];
    int ready[2];
    *mediator = (struct bench_mediator){.pid = -1};
    if (!find_program("VGPU_MEDIATOR", "vgpu-mediator", "mediator", program, sizeof(program))) {
        fprintf(stderr, "vgpu-bench: no vgpu-mediator: set VGPU_MEDIATOR to it, or name the "
                        "directory that a running one watches with --mediator-dir\n");
        return false;
    }
    bool has_worker = find_program("VGPU_WORKER", "vgpu-worker", "worker", worker, sizeof(worker));
    if (pipe2(ready, O_CLOEXEC) < 0) {
        fprintf(stderr, "vgpu-bench: no pipe: %s\n", strerror(errno));
        return false;
    }
    const char *base = getenv("TMPDIR");
    snprintf(mediator->directory, sizeof(mediator->directory), "%.40s/vgpu-bench-XXXXXX",
             base && *base && strlen(base) <= 40 ? base : "/tmp"); /* a socket's path is short */
    if (!mkdtemp(mediator->directory)) {
        fprintf(stderr, "vgpu-bench: no temporary directory: %s\n", strerror(errno));
        mediator->directory[0] = 0;
        close(ready[0]);
        close(ready[1]);
        return false;
    }
    snprintf(mediator->socket_path, sizeof(mediator->socket_path), "%s/mediator.socket",
             mediator->directory);
    if (!config)
        config = write_config(mediator, config_path, sizeof(config_path));
    mediator->pid = fork();
    if (mediator->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        snprintf(ready_text, sizeof(ready_text), "%d", ready[1]);
        fcntl(ready[1], F_SETFD, 0);
        const char *arguments[16] = {
            program,      "--watch",  mediator->directory, "--listen", mediator->socket_path,
            "--ready-fd", ready_text, "--log-level",       "warn"};
        unsigned count = 9;
        if (has_worker) {
            arguments[count++] = "--worker";
            arguments[count++] = worker;
        }
        if (config) {
            arguments[count++] = "--config";
            arguments[count++] = config;
        }
        execv(program, (char *const *)(uintptr_t)arguments);
        fprintf(stderr, "vgpu-bench: %s cannot be started: %s\n", program, strerror(errno));
        _exit(127);
    }
    close(ready[1]);
    bool up = mediator->pid > 0 && wait_ready(ready[0]);
    close(ready[0]);
    if (!up) {
        fprintf(stderr, "vgpu-bench: %s did not get ready\n", program);
        bench_mediator_stop(mediator);
    }
    return up;
}

void bench_mediator_stop(struct bench_mediator *mediator)
{
    if (mediator->pid > 0) {
        /* It may have had our Ctrl-C as well. */
        kill(mediator->pid, SIGTERM);
        for (int i = 0; i < 200 && waitpid(mediator->pid, NULL, WNOHANG) == 0; i++) {
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
            if (i == 198)
                kill(mediator->pid, SIGKILL);
        }
    }
    mediator->pid = -1;
    DIR *list = mediator->directory[0] ? opendir(mediator->directory) : NULL;
    for (struct dirent *e; list && (e = readdir(list));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(list), e->d_name, 0);
    if (list) {
        closedir(list);
        rmdir(mediator->directory);
    }
    mediator->directory[0] = 0;
}
