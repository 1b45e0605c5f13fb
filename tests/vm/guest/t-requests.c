/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-requests [--device D]
 *
 * Requests and responses through the real device: each rule of docs/protocol.md on a request's
 * shape with its malformed twins, sent past the library's own checks, and the error code of each.
 * Needs an attached mediator.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "guest_test.h"
#include "vgpu/curesult.h"

static struct vgpu *gpu;

/* P6: how a request that broke the rules may be answered. */
static void expect_error(const struct guest_request *request, const char *clause,
                         uint32_t error_code, const char *what)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    bool answered = guest_exchange(gpu, request, &response, &answer);
    guest_check(answered && response.error_code == error_code, clause,
                "%s: error %" PRIu32 ", want %" PRIu32, what,
                answered ? response.error_code : UINT32_MAX, error_code);
    guest_check(answered && (response.length == 0 || answer.status == CUDA_ERROR_INVALID_VALUE ||
                             answer.status == CUDA_ERROR_NOT_SUPPORTED),
                "P6", "%s: the response is none, or one with a text (status %" PRIu32 ")", what,
                answer.status);
}

static void expect_status(const struct guest_request *request, const char *clause, uint32_t status,
                          uint32_t error_code, const char *what)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    bool answered = guest_exchange(gpu, request, &response, &answer);
    guest_check(answered && response.error_code == error_code && answer.status == status, clause,
                "%s: status %" PRIu32 " error %" PRIu32 ", want %" PRIu32 " and %" PRIu32, what,
                answer.status, answered ? response.error_code : UINT32_MAX, status, error_code);
}

#define FIELD(name) ((uint32_t)offsetof(struct vgpu_request_header, name))

static void test_shape(void)
{
    struct guest_request request;
    guest_request_init(&request, VGPU_OP_NOP, 0);
    expect_status(&request, "P18", 0, 0, "NOP");
    guest_request_init(&request, VGPU_OP_NOP, VGPU_FLAG_HIGH_PRIORITY);
    expect_status(&request, "P10", 0, 0, "NOP with HIGH_PRIORITY");

    static const uint32_t lengths[] = {1, 31};
    for (int i = 0; i < 2; i++) {
        guest_request_init(&request, VGPU_OP_NOP, 0);
        request.length = lengths[i];
        expect_error(&request, "P1", VGPU_ERR_INVALID_LENGTH, "a request shorter than its header");
    }
    static const uint32_t versions[] = {0, 0x00020000, 0x00010001, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        guest_request_init(&request, VGPU_OP_NOP, 0);
        guest_request_poke(&request, FIELD(version), versions[i]);
        expect_error(&request, "P2", VGPU_ERR_UNSUPPORTED, "another version");
    }
    static const uint32_t opcodes[] = {7, 0xFFF, 0x10FF, 0x1FFF, 0x2004, 0x20FF, UINT32_MAX};
    for (int i = 0; i < 7; i++) {
        guest_request_init(&request, opcodes[i], 0);
        expect_error(&request, "P3", VGPU_ERR_UNSUPPORTED, "an opcode that does not exist");
    }
    static const struct {
        uint32_t at, value;
        const char *what;
    } pokes[] = {
        {FIELD(flags), 4, "an unknown flag"},
        {FIELD(flags), 0x80000000, "an unknown high flag"},
        {FIELD(flags), VGPU_FLAG_ASYNC, "ASYNC where it is not accepted"},
        {FIELD(reserved), 1, "reserved[0] set"},
        {FIELD(reserved) + 4, 1, "reserved[1] set"},
        {FIELD(param_count), 1, "a parameter too many"},
        {FIELD(param_count), UINT32_MAX, "2^32 - 1 parameters"},
        {FIELD(param_count), 0x40000000, "parameters that wrap around"},
        {FIELD(data_length), 8, "data where none belongs"},
        {FIELD(data_offset), 32, "an offset without data"},
        {FIELD(data_offset), 0xFFFFFFF8, "an offset far away without data"},
    };
    for (size_t i = 0; i < sizeof(pokes) / sizeof(pokes[0]); i++) {
        guest_request_init(&request, VGPU_OP_NOP, 0);
        request.length = 64;
        guest_request_poke(&request, pokes[i].at, pokes[i].value);
        expect_error(&request, "P4", VGPU_ERR_INVALID_REQUEST, pokes[i].what);
    }
    /* Order of checks: the first rule that is broken answers. */
    guest_request_init(&request, 0x7777, 0xFFFF);
    guest_request_poke(&request, FIELD(version), 9);
    expect_error(&request, "P5", VGPU_ERR_UNSUPPORTED, "everything wrong at once");
    guest_request_init(&request, VGPU_OP_NOP, 0);
    request.length = 1024;
    memset(request.bytes + 32, 0xEE, 1024 - 32);
    expect_status(&request, "P5", 0, 0, "bytes that belong to no part");
}

static void test_data_part(void)
{
    struct guest_request request;
    uint8_t data[64] = {0};
    const uint32_t copy[VGPU_COPY_PARAM_COUNT] = {VGPU_COPY_HTOD, 0x1000, 0, 0, 0, 16, 0};
    static const struct {
        uint32_t offset, length;
        const char *what;
    } parts[] = {
        {64, 15, "data shorter than the copy"},
        {64, 17, "data longer than the copy"},
        {60, 16, "data over the parameters"},
        {32, 16, "data at the parameters"},
        {0, 16, "data in the header"},
        {68, 16, "data at an odd offset"},
        {128, 16, "data past the end"},
        {0xFFFFFFF8, 16, "an offset that wraps around"},
        {64, UINT32_MAX, "a length that wraps around"},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        guest_request_init(&request, VGPU_OP_MEMORY_COPY, 0);
        guest_request_params(&request, copy, VGPU_COPY_PARAM_COUNT);
        guest_request_data(&request, data, 64);
        guest_request_poke(&request, FIELD(data_offset), parts[i].offset);
        guest_request_poke(&request, FIELD(data_length), parts[i].length);
        expect_error(&request, "P4", VGPU_ERR_INVALID_REQUEST, parts[i].what);
    }
    for (uint32_t count = 0; count <= 9; count++) {
        static const uint32_t zeroes[16];
        if (count == VGPU_COPY_PARAM_COUNT)
            continue;
        guest_request_init(&request, VGPU_OP_MEMORY_COPY, 0);
        guest_request_params(&request, zeroes, count);
        expect_error(&request, "P4", VGPU_ERR_INVALID_REQUEST, "a copy with other parameters");
    }
    const uint32_t too_long[VGPU_COPY_PARAM_COUNT] = {VGPU_COPY_DTOH, 0, 0, 0x1000, 0, 993, 0};
    guest_request_init(&request, VGPU_OP_MEMORY_COPY, 0);
    guest_request_params(&request, too_long, VGPU_COPY_PARAM_COUNT);
    expect_error(&request, "P21", VGPU_ERR_INVALID_REQUEST, "a copy of 993 bytes back");
}

/* P7: under 0x1000 a CUDA failure is error 5, with the CUresult in the response. */
static void test_bare_failures(void)
{
    struct guest_request request;
    const uint32_t nothing[2] = {0, 0}, address[2] = {0x1234, 0};
    guest_request_init(&request, VGPU_OP_MEMORY_ALLOC, 0);
    guest_request_params(&request, nothing, 2);
    expect_status(&request, "P7", CUDA_ERROR_INVALID_VALUE, VGPU_ERR_CUDA, "bare ALLOC of 0 bytes");
    guest_request_init(&request, VGPU_OP_MEMORY_FREE, 0);
    guest_request_params(&request, address, 2);
    expect_status(&request, "P7", CUDA_ERROR_INVALID_VALUE, VGPU_ERR_CUDA,
                  "bare FREE of what was never allocated");
    guest_request_init(&request, VGPU_OP_SYNCHRONIZE, 0);
    expect_status(&request, "P22", 0, 0, "bare SYNCHRONIZE");
}

static void named(struct guest_request *request, uint32_t opcode, const void *data, uint32_t length)
{
    guest_request_init(request, opcode, 0);
    guest_request_data(request, data, length);
}

static void test_sessions(void)
{
    struct guest_request request;
    const uint64_t number = 0x5e551001, other = 0x5e551002, zero = 0;
    struct {
        uint64_t session;
        uint8_t inner[128];
    } wrapped = {.session = number};
    struct guest_request inner;
    named(&request, VGPU_OP_SESSION_OPEN, &zero, 8);
    expect_status(&request, "P24", CUDA_ERROR_INVALID_VALUE, 0, "SESSION_OPEN of 0");
    named(&request, VGPU_OP_SESSION_OPEN, &number, 8);
    expect_status(&request, "P24", 0, 0, "SESSION_OPEN");
    expect_status(&request, "P24", CUDA_ERROR_ILLEGAL_STATE, 0, "SESSION_OPEN once more");
    named(&request, VGPU_OP_SESSION_CLOSE, &other, 8);
    expect_status(&request, "P15", CUDA_ERROR_INVALID_CONTEXT, 0,
                  "SESSION_CLOSE of one that is not open");
    named(&request, VGPU_OP_SESSION_OPEN, &number, 4);
    expect_error(&request, "P23", VGPU_ERR_INVALID_REQUEST, "half a session number");
    guest_request_init(&request, VGPU_OP_SESSION_OPEN, 0);
    expect_error(&request, "P23", VGPU_ERR_INVALID_REQUEST, "no session number");

    guest_request_init(&inner, VGPU_OP_NOP, 0);
    memcpy(wrapped.inner, inner.bytes, 32);
    named(&request, VGPU_OP_SESSION_REQUEST, &wrapped, 8 + 32);
    expect_status(&request, "P25", 0, 0, "NOP inside SESSION_REQUEST");
    named(&request, VGPU_OP_SESSION_REQUEST, &wrapped, 8 + 31);
    expect_error(&request, "P25", VGPU_ERR_INVALID_LENGTH,
                 "an inner request shorter than a header");
    named(&request, VGPU_OP_SESSION_REQUEST, &wrapped, 8 + 32);
    guest_request_poke(&request, FIELD(flags), VGPU_FLAG_HIGH_PRIORITY);
    expect_error(&request, "P25", VGPU_ERR_INVALID_REQUEST, "outer flags");
    guest_request_init(&inner, VGPU_OP_SESSION_OPEN, 0);
    memcpy(wrapped.inner, inner.bytes, 32);
    named(&request, VGPU_OP_SESSION_REQUEST, &wrapped, 8 + 32);
    expect_error(&request, "P25", VGPU_ERR_INVALID_REQUEST, "an inner opcode of 0x1000 or more");
    guest_request_init(&inner, VGPU_OP_MEMORY_ALLOC, 0);
    guest_request_params(&inner, (const uint32_t[]){0, 0}, 2);
    memcpy(wrapped.inner, inner.bytes, inner.length);
    named(&request, VGPU_OP_SESSION_REQUEST, &wrapped, 8 + inner.length);
    expect_status(&request, "P8", CUDA_ERROR_INVALID_VALUE, 0, "ALLOC of 0 bytes in a session");
    wrapped.session = other;
    named(&request, VGPU_OP_SESSION_REQUEST, &wrapped, 8 + inner.length);
    expect_status(&request, "P15", CUDA_ERROR_INVALID_CONTEXT, 0, "a session that is not open");

    struct vgpu_stage_drop drop = {.session = number, .stage = 5};
    named(&request, VGPU_OP_STAGE_DROP, &drop, sizeof(drop));
    expect_status(&request, "P26", CUDA_ERROR_INVALID_HANDLE, 0, "STAGE_DROP of one not there");
    struct {
        struct vgpu_stage_write head;
        uint8_t bytes[8];
    } piece = {.head = {.session = number, .stage = 1, .total_bytes = 16}};
    named(&request, VGPU_OP_STAGE_WRITE, &piece, sizeof(piece));
    expect_status(&request, "P26", 0, 0, "STAGE_WRITE of a first half");
    piece.head.offset = 4;
    named(&request, VGPU_OP_STAGE_WRITE, &piece, sizeof(piece));
    expect_status(&request, "P26", CUDA_ERROR_INVALID_VALUE, 0, "a piece out of order");
    struct vgpu_module_load load = {.session = number, .stage = 1};
    named(&request, VGPU_OP_MODULE_LOAD, &load, sizeof(load));
    expect_status(&request, "P26", CUDA_ERROR_INVALID_VALUE, 0,
                  "MODULE_LOAD of a stage that is not complete");
    struct vgpu_module_unload unload = {.session = number, .module = 0x4711};
    named(&request, VGPU_OP_MODULE_UNLOAD, &unload, sizeof(unload));
    expect_status(&request, "P27", CUDA_ERROR_INVALID_HANDLE, 0, "MODULE_UNLOAD of no module");
    named(&request, VGPU_OP_SESSION_CLOSE, &number, 8);
    expect_status(&request, "P24", 0, 0, "SESSION_CLOSE");
    expect_status(&request, "P24", CUDA_ERROR_INVALID_CONTEXT, 0, "SESSION_CLOSE once more");
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    const char *value;
    for (int i = 1; i < argc; i++) {
        if (cli_option(argc, argv, &i, "--device", &value) && value) {
            options.device = value;
        } else {
            fprintf(stderr, "t-requests: wrong arguments; see the top of t-requests.c\n");
            return 2;
        }
    }
    gpu = guest_open("t-requests", &options);
    uint32_t link = 0;
    if (vgpu_link_state(gpu, &link) < 0 || !(link & VGPU_LINK_ATTACHED)) {
        fprintf(stderr, "t-requests: no mediator is attached\n");
        vgpu_cleanup(gpu);
        return GUEST_SKIP;
    }
    test_shape();
    test_data_part();
    test_bare_failures();
    test_sessions();
    vgpu_cleanup(gpu);
    return guest_finish("t-requests", NULL);
}
