/* SPDX-License-Identifier: MIT */
/*
 * Requests and responses: what stands in REQUEST_BUF and RESPONSE_BUF, and what every other
 * transport carries too. The prose is docs/protocol.md. Little-endian, no padding that is not
 * named. No code here.
 */
#ifndef VGPU_PROTOCOL_H
#define VGPU_PROTOCOL_H

#include <assert.h>
#include <stdint.h>

#include "vgpu/registers.h"

#define VGPU_PROTOCOL_VERSION 0x00010000u /* major << 16 | minor */

/* A request: header, then u32 params[param_count], then data at data_offset. */
struct vgpu_request_header {
    uint32_t version;     /* VGPU_PROTOCOL_VERSION */
    uint32_t opcode;      /* enum vgpu_opcode */
    uint32_t flags;       /* VGPU_FLAG_* */
    uint32_t param_count; /* u32 words after the header; a u64 takes two, low word first */
    uint32_t
        data_offset; /* bytes from the header's start, multiple of 8; 0 when data_length is 0 */
    uint32_t data_length; /* bytes */
    uint32_t reserved[2]; /* 0 */
};
static_assert(sizeof(struct vgpu_request_header) == 32, "frozen");

/* A response: header, then u32 results[result_count], then data at data_offset. */
struct vgpu_response_header {
    uint32_t version; /* VGPU_PROTOCOL_VERSION */
    uint32_t status;  /* CUresult; with data when it is not 0: a text for a person, UTF-8, no NUL */
    uint32_t result_count; /* u32 words after the header */
    uint32_t
        data_offset; /* bytes from the header's start, multiple of 8; 0 when data_length is 0 */
    uint32_t data_length;  /* bytes */
    uint32_t exec_time_us; /* from the worker taking the request to its answer */
    uint32_t reserved[2];  /* 0 */
};
static_assert(sizeof(struct vgpu_response_header) == 32, "frozen");

#define VGPU_FLAG_ASYNC         (1u << 0) /* answered as soon as accepted, with RESPONSE_LEN 0 */
#define VGPU_FLAG_HIGH_PRIORITY (1u << 1) /* a hint inside the VM's own share */
#define VGPU_FLAGS_KNOWN        (VGPU_FLAG_ASYNC | VGPU_FLAG_HIGH_PRIORITY)

enum vgpu_opcode {
    /* Typed requests. They act on session 0, or on another inside SESSION_REQUEST. Numbers frozen.
     */
    VGPU_OP_NOP = 0x0000,
    VGPU_OP_CUDA_KERNEL = 0x0001,
    VGPU_OP_MEMORY_ALLOC = 0x0002,
    VGPU_OP_MEMORY_FREE = 0x0003,
    VGPU_OP_MEMORY_COPY = 0x0004,
    VGPU_OP_GET_DEVICE_INFO = 0x0005,
    VGPU_OP_SYNCHRONIZE = 0x0006,
    /* 0x1000-0x1FFF: the CUDA driver calls, generated. */
    VGPU_OP_CALL_FIRST = 0x1000,
    VGPU_OP_CALL_LAST = 0x1FFF,
    /* Sessions and staging. The data part starts with struct vgpu_session_prefix. */
    VGPU_OP_SESSION_OPEN = 0x2000,
    VGPU_OP_SESSION_CLOSE = 0x2001,
    VGPU_OP_SESSION_REQUEST = 0x2002,
    VGPU_OP_SESSION_CHANNEL = 0x2003,
    VGPU_OP_STAGE_WRITE = 0x2010,
    VGPU_OP_STAGE_DROP = 0x2011,
    VGPU_OP_MODULE_LOAD = 0x2020,
    VGPU_OP_MODULE_UNLOAD = 0x2021,
    VGPU_OP_MODULE_KERNEL = 0x2022,
    VGPU_OP_MODULE_GLOBAL = 0x2023,
    VGPU_OP_SESSION_LAST = 0x20FF,
};
#define VGPU_OP_SESSION_FIRST 0x1000u /* from here on the data part names its session */

/* Positions in params[] and results[]. A name that ends in _LO is followed by its high word. */
enum { /* CUDA_KERNEL: the argument buffer is the data part, or the stage named by ARGS_STAGE */
       VGPU_KERNEL_FUNCTION_LO = 0,
       VGPU_KERNEL_GRID_X = 2,  /* x, y, z */
       VGPU_KERNEL_BLOCK_X = 5, /* x, y, z */
       VGPU_KERNEL_SHARED_BYTES = 8,
       VGPU_KERNEL_ARGS_STAGE = 9, /* 0: inline */
       VGPU_KERNEL_PARAM_COUNT = 10,
};
enum { /* MEMORY_ALLOC */
       VGPU_ALLOC_SIZE_LO = 0,
       VGPU_ALLOC_PARAM_COUNT = 2,
       VGPU_ALLOC_RESULT_ADDRESS_LO = 0,
       VGPU_ALLOC_RESULT_COUNT = 2,
};
enum { /* MEMORY_FREE */
       VGPU_FREE_ADDRESS_LO = 0,
       VGPU_FREE_PARAM_COUNT = 2,
};
enum {                          /* MEMORY_COPY */
       VGPU_COPY_DIRECTION = 0, /* enum vgpu_copy_direction */
       VGPU_COPY_DST_LO = 1,    /* device address; 0 for DTOH */
       VGPU_COPY_SRC_LO = 3,    /* device address; 0 for HTOD */
       VGPU_COPY_SIZE_LO = 5,   /* bytes, at least 1 */
       VGPU_COPY_PARAM_COUNT = 7,
};
enum vgpu_copy_direction {
    VGPU_COPY_HTOD = 1, /* the data part, exactly size bytes, to dst */
    VGPU_COPY_DTOH = 2, /* src to the response's data part, at most VGPU_COPY_DTOH_MAX bytes */
    VGPU_COPY_DTOD = 3,
};
#define VGPU_COPY_DTOH_MAX (VGPU_MAILBOX_BYTES - 32u)

/* GET_DEVICE_INFO: the response's data part. */
struct vgpu_device_info_wire {
    char name[64];               /* NUL-padded, always ends in NUL */
    uint8_t uuid[16];            /* of the GPU */
    char backend[16];            /* "software", "cuda"; NUL-padded */
    uint64_t total_memory_bytes; /* what the VM's sessions may hold together */
    uint64_t free_memory_bytes;  /* of that, held by none of them */
    uint32_t compute_major;      /* compute capability */
    uint32_t compute_minor;
    uint32_t multiprocessors;
    uint32_t warp_size; /* lanes */
    uint32_t max_threads_per_block;
    uint32_t max_block_dim[3];
    uint32_t max_grid_dim[3];
    uint32_t max_shared_per_block_bytes;
    uint32_t max_registers_per_block;
    uint32_t clock_khz;   /* 0: not known */
    uint32_t reserved[2]; /* 0 */
};
static_assert(sizeof(struct vgpu_device_info_wire) == 176, "wire");

/* Starts the data part of every request from VGPU_OP_SESSION_FIRST on. */
struct vgpu_session_prefix {
    uint64_t session; /* chosen by the guest at SESSION_OPEN, never 0 there; elsewhere 0 is the VM's
                         own session */
};
static_assert(sizeof(struct vgpu_session_prefix) == 8, "wire");

/* SESSION_OPEN and SESSION_CLOSE: nothing after the prefix. SESSION_REQUEST: a whole typed request
 * after it. */

/* SESSION_CHANNEL: from now on the channel is that session's (docs/ring.md, G2). */
struct vgpu_session_channel {
    uint64_t session;
    uint32_t channel;
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_session_channel) == 16, "wire");

#define VGPU_STAGE_MAX_BYTES (64u << 20) /* one stage */
#define VGPU_STAGE_COUNT     4u          /* stages a session may have at once */

/* STAGE_WRITE: bytes follow. Pieces come in order; offset 0 makes the stage, or starts it again. */
struct vgpu_stage_write {
    uint64_t session;
    uint32_t stage; /* chosen by the guest, never 0 */
    uint32_t
        total_bytes;   /* of the whole stage, 1 to VGPU_STAGE_MAX_BYTES, the same in each piece */
    uint32_t offset;   /* of this piece */
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_stage_write) == 24, "wire");

/* STAGE_DROP */
struct vgpu_stage_drop {
    uint64_t session;
    uint32_t stage;
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_stage_drop) == 16, "wire");

/* MODULE_LOAD: the image follows when stage is 0; else the stage must be complete, and is gone
 * afterwards. */
struct vgpu_module_load {
    uint64_t session;
    uint32_t stage;
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_module_load) == 16, "wire");
enum {
    VGPU_MODULE_LOAD_RESULT_MODULE_LO = 0,
    VGPU_MODULE_LOAD_RESULT_COUNT = 2,
};

/* MODULE_UNLOAD */
struct vgpu_module_unload {
    uint64_t session;
    uint64_t module;
};
static_assert(sizeof(struct vgpu_module_unload) == 16, "wire");

#define VGPU_NAME_MAX 512u /* bytes of a kernel's or variable's name */

/* MODULE_KERNEL and MODULE_GLOBAL: the name follows, 1 to VGPU_NAME_MAX bytes, no NUL. */
struct vgpu_module_name {
    uint64_t session;
    uint64_t module;
    uint32_t first_param; /* MODULE_KERNEL: the first parameter whose layout is wanted;
                             MODULE_GLOBAL: 0 */
    uint32_t reserved;    /* 0 */
};
static_assert(sizeof(struct vgpu_module_name) == 24, "wire");
enum { /* MODULE_KERNEL; the data part is struct vgpu_param_layout[], from first_param on, as many
          as fit */
       VGPU_MODULE_KERNEL_RESULT_FUNCTION_LO = 0,
       VGPU_MODULE_KERNEL_RESULT_PARAM_COUNT = 2,
       VGPU_MODULE_KERNEL_RESULT_PARAM_BYTES = 3,  /* size of the argument buffer */
       VGPU_MODULE_KERNEL_RESULT_MAX_THREADS = 4,  /* per block */
       VGPU_MODULE_KERNEL_RESULT_SHARED_BYTES = 5, /* static */
       VGPU_MODULE_KERNEL_RESULT_LOCAL_BYTES = 6,  /* per thread */
       VGPU_MODULE_KERNEL_RESULT_COUNT = 7,
};
struct vgpu_param_layout {
    uint32_t offset; /* bytes, in the argument buffer */
    uint32_t size;   /* bytes */
};
static_assert(sizeof(struct vgpu_param_layout) == 8, "wire");
enum { /* MODULE_GLOBAL */
       VGPU_MODULE_GLOBAL_RESULT_ADDRESS_LO = 0,
       VGPU_MODULE_GLOBAL_RESULT_SIZE_LO = 2,
       VGPU_MODULE_GLOBAL_RESULT_COUNT = 4,
};

#define VGPU_PARAM_BUFFER_MAX 4096u /* bytes of a kernel's argument buffer */

#endif
