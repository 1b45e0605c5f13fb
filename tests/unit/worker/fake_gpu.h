/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software backend with a driver that has fences: launches only queue, and are done when the
 * test says so. It counts what a worker must not do: wait inside a call, use a fence after its end,
 * or be entered by two at once. One at a time in a process.
 */
#ifndef VGPU_TEST_FAKE_GPU_H
#define VGPU_TEST_FAKE_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "vgpu/curesult.h"

const struct vgpu_backend_ops *fake_gpu_ops(void);

/* While on, nothing that is queued gets done. Off: everything is. */
void fake_gpu_hold(bool on);
/* While on: so many more get done. */
void fake_gpu_finish(uint64_t launches);
/* While on, launches do not even return. */
void fake_gpu_block(bool on);
/* Marks that pass from now on answer this. */
void fake_gpu_fail(CUresult status);
/* host_register answers this from now on. */
void fake_gpu_refuse_register(CUresult status);

uint64_t fake_gpu_launched(void);
uint64_t fake_gpu_most_in_flight(void);
uint64_t fake_gpu_waits(void);  /* context_synchronize with something in flight, and fences' wait */
unsigned fake_gpu_fences(void); /* not ended */
unsigned fake_gpu_registered(void); /* ranges of host memory */

/* 0, or -1 with a word on what was wrong. After the worker is gone. */
int fake_gpu_check(void);

#endif
