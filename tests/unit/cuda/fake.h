/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host for the guest's libcuda.so.1, in place of libvgpu: it sees every call as vgpu_session_call
 * is given it, keeps a record, and answers as a driver would, or as the test says. Device memory is
 * a piece of its own.
 */
#ifndef VGPU_TEST_CUDA_FAKE_H
#define VGPU_TEST_CUDA_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest/cuda/internal.h"

#define FAKE_BASE  0x700000000000u /* first device address */
#define FAKE_BYTES (48u << 20)

struct fake_request {
    uint32_t opcode;
    uint32_t flags;
    uint64_t context;
    uint64_t in[VGPU_CALL_SLOTS_MAX];
    uint32_t length; /* of the payload; a staged one has 0 */
    uint32_t staged; /* bytes in the stage it names */
    uint8_t data[1024];
};

/* A fresh process: nothing initialised, nothing recorded. A cmocka setup function. */
int fake_setup(void **state);
/* The same, with cuInit and the primary context current. */
int fake_setup_current(void **state);

/* Requests so far of an opcode (0: of all). */
unsigned fake_count(uint32_t opcode);
/* The last request of an opcode; fails the test when there is none. A copy. */
struct fake_request fake_last(uint32_t opcode);
/* The opcodes so far, joined by names and spaces, from the nth on. */
const char *fake_story(unsigned from);

/* The next `times` answers to an opcode: a negative errno, or a status with a text. */
void fake_fail(uint32_t opcode, int err, const char *text, unsigned times);
/* The next answer to an opcode has exactly these bytes, status 0. */
void fake_answer(uint32_t opcode, const void *bytes, uint32_t length);
/* stream_query says "not ready" until this is 0. */
void fake_set_busy(unsigned busy);
/* What function_get says of every function. */
void fake_set_function(uint32_t count, const struct vgpu_param_layout *layout, uint32_t bytes,
                       uint32_t max_threads, uint32_t max_dynamic);
/* What printf_read gives once. */
void fake_set_printed(const char *text);
/* vgpu_init or vgpu_session_open fails with it. */
void fake_set_init_error(int err);
uint8_t *fake_memory(uint64_t address);
/* STAGE_DROPs. */
unsigned fake_dropped(void);

/* ---- For fake_channel.c ---- */

/* Records a call and executes it: its CUresult, and slots and bytes, or a text, for an answer. */
int fake_execute(uint32_t opcode, uint64_t context, const uint64_t *in, const uint8_t *data,
                 uint32_t length, uint8_t *answer, uint32_t *answer_length);
/* How calls find bytes of the window; NULL: there is none. */
void fake_set_window(uint8_t *(*find)(uint64_t offset, uint64_t bytes, bool write));
/* What the session has from the next cuInit on. */
struct vgpu_channel;
void fake_set_channel(struct vgpu_channel *channel);
struct vgpu *fake_gpu(void);
/* What the host says a lost session died of. */
void fake_set_lost(int status);
/* Where arrays have this byte: all of them in the same memory. */
#define FAKE_ARRAY_PITCH 8192u
#define FAKE_ARRAY_ROWS  64u
uint64_t fake_array_at(uint64_t x, uint64_t y, uint64_t z);

#define assert_ok(call)             assert_int_equal(call, CUDA_SUCCESS)
#define assert_result(call, result) assert_int_equal(call, result)

#endif
