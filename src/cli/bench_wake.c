/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another process that sleeps on an eventfd and answers by one: what a wake-up there and back costs
 * after a pause. Back to back it costs a fraction, as neither side's processor has gone to rest.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/bench.h"
#include "guest/deadline.h"

struct bench_wake {
    int there, back; /* eventfds */
    pid_t child;
};

static void run_echo(int there, int back)
{
    uint64_t count;
    while (read(there, &count, sizeof(count)) == (ssize_t)sizeof(count) && count < 1000)
        if (write(back, &(uint64_t){1}, sizeof(count)) < 0)
            break;
    _exit(0);
}

struct bench_wake *bench_wake_open(void)
{
    struct bench_wake *wake = calloc(1, sizeof(*wake));
    if (!wake)
        return NULL;
    wake->there = eventfd(0, EFD_CLOEXEC);
    wake->back = eventfd(0, EFD_CLOEXEC);
    wake->child = wake->there >= 0 && wake->back >= 0 ? fork() : -1;
    if (wake->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_echo(wake->there, wake->back);
    }
    if (wake->child > 0)
        return wake;
    fprintf(stderr, "vgpu-bench: no process that sleeps: %s\n", strerror(errno));
    bench_wake_close(wake);
    return NULL;
}

bool bench_wake_round(struct bench_wake *wake, uint64_t *ns)
{
    uint64_t count = 1, start = vgpu_now_ns();
    if (write(wake->there, &count, sizeof(count)) < 0 ||
        read(wake->back, &count, sizeof(count)) < 0)
        return false; /* a signal: whoever measures ends early */
    *ns = vgpu_now_ns() - start;
    return true;
}

void bench_wake_close(struct bench_wake *wake)
{
    const uint64_t end = 1000;
    if (!wake)
        return;
    if (wake->child > 0) {
        if (write(wake->there, &end, sizeof(end)) < 0)
            kill(wake->child, SIGKILL);
        waitpid(wake->child, NULL, 0);
    }
    if (wake->there >= 0)
        close(wake->there);
    if (wake->back >= 0)
        close(wake->back);
    free(wake);
}
