/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What kernels print. The driver writes it to the process's standard output whenever it waits for
 * kernels; a worker's standard output is the mediator's log, where a guest has no business. So a
 * pipe takes its place before the driver starts, from which the guest's program is answered. The
 * pipe never blocks the driver: what does not fit is lost, as it is in CUDA when the buffer on the
 * card is full.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cuda.h"

#define OUTPUT_BYTES (1 << 20)

void cuda_output_take(struct vgpu_backend *b)
{
    b->output[0] = b->output[1] = -1;
    int ends[2], saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (saved < 0)
        return;
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
        close(saved);
        return;
    }
    /* A smaller pipe will do where the system gives no larger one. */
    (void)fcntl(ends[1], F_SETPIPE_SZ, OUTPUT_BYTES);
    if (dup2(ends[1], STDOUT_FILENO) < 0) {
        close(saved);
        close(ends[0]);
    } else {
        b->output[0] = ends[0];
        b->output[1] = saved;
    }
    close(ends[1]);
}

void cuda_output_give_back(struct vgpu_backend *b)
{
    if (b->output[0] < 0)
        return;
    fflush(stdout);
    (void)dup2(b->output[1], STDOUT_FILENO);
    close(b->output[1]);
    close(b->output[0]);
    b->output[0] = b->output[1] = -1;
}

uint32_t cuda_output_read(struct vgpu_backend *b, void *text, uint32_t capacity)
{
    if (b->output[0] < 0 || !capacity)
        return 0;
    fflush(stdout);
    ssize_t n = read(b->output[0], text, capacity);
    return n > 0 ? (uint32_t)n : 0;
}
