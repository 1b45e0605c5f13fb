/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests and responses for tests, byte by byte from docs/protocol.md and not from the worker's
 * own code, so that both would have to be wrong in the same way.
 */
#ifndef VGPU_TEST_BUILD_H
#define VGPU_TEST_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "vgpu/curesult.h"
#include "vgpu/protocol.h"

struct request {
    uint32_t length;
    uint8_t bytes[2048]; /* larger than a mailbox, for what is too long */
};

/* Words of the header, for patching. */
enum header_word { W_VERSION, W_OPCODE, W_FLAGS, W_PARAMS, W_OFFSET, W_LENGTH, W_RES0, W_RES1 };

void put32(uint8_t *p, uint32_t v);
uint32_t get32(const uint8_t *p);
uint64_t get64(const uint8_t *p);

struct request make_request(uint32_t opcode, uint32_t flags, const uint32_t *params, uint32_t count,
                            const void *data, uint32_t data_length);
/* Sets a word of the header. */
struct request patched(struct request r, enum header_word word, uint32_t value);
struct request with_length(struct request r, uint32_t length);

struct request req_nop(void);
struct request req_info(void);
struct request req_sync(void);
struct request req_alloc(uint64_t size);
struct request req_free(uint64_t address);
struct request req_htod(uint64_t dst, const void *bytes, uint32_t size);
struct request req_dtoh(uint64_t src, uint64_t size);
struct request req_dtod(uint64_t dst, uint64_t src, uint64_t size);
struct request req_kernel(uint64_t function, const uint32_t grid[3], const uint32_t block[3],
                          uint32_t shared, uint32_t stage, const void *args, uint32_t args_length);
/* One thread. */
struct request req_launch(uint64_t function, const void *args, uint32_t args_length);

struct request req_session(uint32_t opcode, uint64_t session, const void *rest, uint32_t length);
struct request req_wrap(uint64_t session, const struct request *inner);
struct request req_stage(uint64_t session, uint32_t stage, uint32_t total, uint32_t offset,
                         const void *bytes, uint32_t length);
struct request req_stage_drop(uint64_t session, uint32_t stage);
struct request req_load(uint64_t session, uint32_t stage, const char *image);
struct request req_unload(uint64_t session, uint64_t module);
struct request req_module_kernel(uint64_t session, uint64_t module, uint32_t first,
                                 const char *name);
struct request req_module_global(uint64_t session, uint64_t module, const char *name);

/* A CUDA driver call (P28): the context's name, the slots, and what follows them. */
struct request req_call(uint64_t session, uint32_t opcode, uint64_t context, const uint64_t *slots,
                        uint32_t count, const void *rest, uint32_t length);

/* The same request with ASYNC set. */
struct request async(struct request r);

struct response {
    uint64_t seq;
    uint32_t error;
    uint32_t length; /* 0: nothing below is set */
    uint32_t status, result_count, exec_time_us;
    uint32_t results[8];
    uint32_t data_length;
    uint8_t data[1024];
    char text[1025]; /* data, with a NUL */
};

/* Takes a response apart; fails the test when it breaks a rule of the protocol. */
void parse_response(uint64_t seq, uint32_t error, const uint8_t *bytes, uint32_t length,
                    struct response *out);

uint64_t result64(const struct response *r, unsigned first);

/* Assertions. */
void expect_status(const struct response *r, uint32_t error, uint32_t status);
#define expect_ok(r)           expect_status((r), 0, 0)
#define expect_not_ready(r)    expect_status((r), 0, 600)
/* A CUDA failure of an opcode below 0x1000 (P7). */
#define expect_cuda(r, status) expect_status((r), 5, (status))
/* A rejection (P6): also that the status and the text are there. */
void expect_reject(const struct response *r, uint32_t error);

#endif
