/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backend for tests: it runs nothing but counts, blocks and fails on demand, and watches that it
 * is entered by one thread at a time and only when it may be.
 *
 * Images: "ok..." is a module with the kernels below and a variable "table" of 256 bytes that
 * counts as memory; anything else is CUDA_ERROR_INVALID_PTX with a log. empty   no parameters poke
 * u64 address, u32 value (12 bytes): writes the value there many    200 parameters of 4 bytes spin
 * runs until it is interrupted or fake_release fault   illegal address: sticky, seen by what comes
 * next refuse  launch answers CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES small   at most 32 threads, 1024
 * bytes of shared memory of its own
 */
#ifndef VGPU_TEST_FAKE_BACKEND_H
#define VGPU_TEST_FAKE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"

enum fake_op {
    FAKE_ALLOC,
    FAKE_FREE,
    FAKE_HTOD,
    FAKE_DTOH,
    FAKE_DTOD,
    FAKE_LOAD,
    FAKE_UNLOAD,
    FAKE_KERNEL,
    FAKE_GLOBAL,
    FAKE_LAUNCH,
    FAKE_SYNC,
    FAKE_OPS,
};

#define FAKE_MEMORY_BYTES (1u << 20)

extern const struct vgpu_backend_ops fake_ops;

/* May it be entered now? Set once, before the engine starts. Any thread. */
void fake_set_hook(struct vgpu_backend *b, bool (*may_enter)(void *context), void *context);

/* While on, every entry of `op` waits until fake_release, or an interrupt. */
void fake_hold(struct vgpu_backend *b, enum fake_op op);
void fake_release(struct vgpu_backend *b);
/* Waits (10 s at most) until somebody is held or spins; false when nobody came. */
bool fake_wait_held(struct vgpu_backend *b);

/* The next entry of `op` answers status instead. */
void fake_fail(struct vgpu_backend *b, enum fake_op op, CUresult status);

/* A launch only queues; what it does happens in the next synchronize or copy. */
void fake_set_async(struct vgpu_backend *b, bool async);

unsigned fake_calls(struct vgpu_backend *b, enum fake_op op);
uint64_t fake_free_bytes(struct vgpu_backend *b);
unsigned fake_modules(struct vgpu_backend *b);
/* Entries that broke a rule: two at once, or when they might not. */
unsigned fake_violations(struct vgpu_backend *b);

#endif
