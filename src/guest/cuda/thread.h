/* SPDX-License-Identifier: MIT */
/* The library's own threads. */
#ifndef VGPU_GUEST_CUDA_THREAD_H
#define VGPU_GUEST_CUDA_THREAD_H

#include <stdbool.h>

/*
 * Starts a thread that nobody joins and that runs until the process ends. No signal is handled in
 * it: a handler of the program's would run where the program does not expect one of its own. False:
 * there is none.
 */
bool vgpu_cuda_thread_start(void *(*run)(void *), void *argument);

#endif
