/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mailbox rig on the software backend, for the CUDA driver calls (P28 to P32). Its driver is a
 * copy of the software driver's table, in which a test puts functions of its own.
 */
#ifndef VGPU_TEST_CALLS_RIG_H
#define VGPU_TEST_CALLS_RIG_H

#include "backend/driver.h"
#include "rig.h"
#include "vgpu_cuda_calls.h"

#define CALLS_CONTEXT 0xC0117E87u /* the primary context that calls_setup retains */

/* VGPU_TEST_F setups, with rig_teardown. */
int calls_setup(void **state);         /* with a context */
int calls_setup_bare(void **state);    /* without */
int calls_setup_account(void **state); /* with one, in an account of CALLS_QUOTA bytes */
#define CALLS_QUOTA (1u << 20)

/* The table of this rig's driver, before the first call: what it is by itself, and the copy. */
extern const struct vgpu_driver_ops *calls_real;
extern struct vgpu_driver_ops calls_ops;

#define SLOTS(...) ((const uint64_t[]){__VA_ARGS__})

/* A call in CALLS_CONTEXT; posted ones are sent with ASYNC. */
struct request calls_request(uint32_t opcode, const uint64_t *slots, const void *rest,
                             uint32_t length);
/* Submits it and waits. A posted call that was accepted answers bare. */
const struct response *calls_do(struct rig *r, uint32_t opcode, const uint64_t *slots,
                                const void *rest, uint32_t length);
#define CALL(r, NAME, ...) calls_do((r), VGPU_CALL_##NAME, SLOTS(__VA_ARGS__), NULL, 0)
/* Must succeed: bare for a posted one, status 0 for another. */
void expect_done(const struct response *response);
/* Status of the deferred error that context_synchronize hands out, 0: none. */
uint32_t calls_deferred(struct rig *r);
/* Output slot i of a response. */
uint64_t calls_out(const struct response *response, unsigned i);

/* Shortcuts that must work. */
uint64_t calls_alloc(struct rig *r, uint64_t size);
void calls_load(struct rig *r, uint64_t module, const char *ptx);
void calls_function(struct rig *r, uint64_t module, uint64_t function, const char *name);

/* Kernels: add(u64 p, u32 n) adds n to the word at p; wild() stores to an unmapped address. A
 * variable `table` of 64 bytes. */
extern const char calls_ptx[];

#endif
