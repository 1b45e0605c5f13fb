/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the mediator reads of a request: docs/protocol.md P1 to P6, P23, and its own answers. */
#include <stdlib.h>
#include <string.h>

#include "common/wire.h"
#include "mediator/request.h"
#include "vgpu/curesult.h"
#include "vgpu_cuda_calls.h"
#include "vgpu_test.h"

static uint8_t request[1024];

/* A request that names session 0x1122334455667788. */
static uint32_t put(uint32_t opcode, uint32_t data_length)
{
    memset(request, 0, sizeof(request));
    vgpu_store_le32(request, VGPU_PROTOCOL_VERSION);
    vgpu_store_le32(request + 4, opcode);
    vgpu_store_le32(request + 16, data_length ? 32 : 0);
    vgpu_store_le32(request + 20, data_length);
    vgpu_store_le64(request + 32, 0x1122334455667788ull);
    return 32 + data_length;
}

static uint32_t route(uint32_t length, struct vgpu_route *r)
{
    const char *reason = NULL;
    /* An exact copy, so that the sanitizer sees a byte too far. */
    uint8_t *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    memcpy(copy, request, length);
    uint32_t error = vgpu_request_route(copy, length, r, &reason);
    free(copy);
    if (error)
        assert_non_null(reason);
    return error;
}

static void fails(uint32_t length, uint32_t error)
{
    struct vgpu_route r;
    assert_int_equal(route(length, &r), error);
}

static void test_p1_short(void **state)
{
    (void)state;
    put(VGPU_OP_NOP, 0);
    for (uint32_t length = 0; length < 32; length++)
        fails(length, VGPU_ERR_INVALID_LENGTH);
    struct vgpu_route r;
    assert_int_equal(route(32, &r), 0);
    assert_true(r.typed && r.session == 0);
}

static void test_p2_version(void **state)
{
    (void)state;
    uint32_t length = put(VGPU_OP_SESSION_OPEN, 8);
    vgpu_store_le32(request, 0x00010001);
    fails(length, VGPU_ERR_UNSUPPORTED);
    vgpu_store_le32(request + 4, 0x7777); /* P5: the version comes before the opcode */
    vgpu_store_le32(request, 0);
    fails(length, VGPU_ERR_UNSUPPORTED);
}

static void test_p3_opcode(void **state)
{
    (void)state;
    static const uint32_t known[] = {0,      1,      2,      3,      4,      5,
                                     6,      0x2000, 0x2001, 0x2002, 0x2010, 0x2011,
                                     0x2020, 0x2021, 0x2022, 0x2023};
    for (uint32_t opcode = 0; opcode < 0x3000; opcode++) {
        if (opcode == VGPU_OP_SESSION_CHANNEL) /* longer: test_p33_channel */
            continue;
        bool is_known = vgpu_call_info(opcode) != NULL; /* a CUDA driver call */
        for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            is_known |= known[i] == opcode;
        fails(put(opcode, 8), is_known ? VGPU_ERR_NONE : VGPU_ERR_UNSUPPORTED);
    }
    fails(put(0xffffffff, 8), VGPU_ERR_UNSUPPORTED);
    put(0x2fff, 8); /* P5: an opcode that is not there wins over flags that are not */
    vgpu_store_le32(request + 8, 0xffffffff);
    fails(40, VGPU_ERR_UNSUPPORTED);
}

static void test_p4_header(void **state)
{
    (void)state;
    for (uint32_t bit = 0; bit < 32; bit++) {
        put(VGPU_OP_STAGE_DROP, 16);
        vgpu_store_le32(request + 8, 1u << bit);
        /* HIGH_PRIORITY goes with everything (P10), ASYNC with none of these. */
        fails(48, bit == 1 ? VGPU_ERR_NONE : VGPU_ERR_INVALID_REQUEST);
    }
    /* P30: posted calls are ASYNC. Of which calls, the worker knows. */
    put(VGPU_CALL_LAUNCH, 16);
    vgpu_store_le32(request + 8, VGPU_FLAG_ASYNC);
    fails(48, VGPU_ERR_NONE);
    for (uint32_t at = 24; at < 32; at++) {
        put(VGPU_OP_STAGE_DROP, 16);
        request[at] = 1;
        fails(48, VGPU_ERR_INVALID_REQUEST);
    }
    put(VGPU_OP_STAGE_DROP, 16);
    vgpu_store_le32(request + 12, 1);
    fails(48, VGPU_ERR_INVALID_REQUEST);
}

static void test_p4_data(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset, length;
    } wrong[] = {{0, 0},           {0, 8},           {31, 8},
                 {33, 8},          {36, 8},          {24, 8},
                 {32, 7},          {32, 17},         {40, 16},
                 {48, 8},          {0xfffffff8, 8},  {0xfffffff8, 0x10},
                 {32, 0xffffffff}, {32, 0xfffffff8}, {0x80000000, 0x80000008}};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        put(VGPU_OP_STAGE_DROP, 16);
        vgpu_store_le32(request + 16, wrong[i].offset);
        vgpu_store_le32(request + 20, wrong[i].length);
        fails(48, VGPU_ERR_INVALID_REQUEST);
    }
    /* Bytes that belong to no part are ignored (P5): the session may stand further back. */
    put(VGPU_OP_STAGE_DROP, 16);
    vgpu_store_le32(request + 16, 40);
    vgpu_store_le64(request + 40, 99);
    struct vgpu_route r;
    assert_int_equal(route(60, &r), 0);
    assert_int_equal(r.session, 99);
}

/* P24: SESSION_OPEN and SESSION_CLOSE have nothing but the number. */
static void test_p24_exact(void **state)
{
    (void)state;
    for (uint32_t opcode = VGPU_OP_SESSION_OPEN; opcode <= VGPU_OP_SESSION_CLOSE; opcode++) {
        struct vgpu_route r;
        assert_int_equal(route(put(opcode, 8), &r), 0);
        assert_true(r.session == 0x1122334455667788ull && !r.typed);
        fails(put(opcode, 9), VGPU_ERR_INVALID_REQUEST);
        fails(put(opcode, 16), VGPU_ERR_INVALID_REQUEST);
    }
    assert_int_equal(route(put(VGPU_OP_MODULE_LOAD, 900), &(struct vgpu_route){0}), 0);
}

/* P33: a session, a channel, and nothing else. */
static void test_p33_channel(void **state)
{
    (void)state;
    struct vgpu_route r;
    uint32_t length = put(VGPU_OP_SESSION_CHANNEL, 16);
    vgpu_store_le32(request + 40, 0xabcdef01);
    assert_int_equal(route(length, &r), 0);
    assert_true(r.session == 0x1122334455667788ull && r.channel == 0xabcdef01 && !r.typed);
    vgpu_store_le32(request + 44, 1); /* reserved */
    fails(length, VGPU_ERR_INVALID_REQUEST);
    for (uint32_t wrong = 8; wrong < 24; wrong++)
        if (wrong != 16)
            fails(put(VGPU_OP_SESSION_CHANNEL, wrong), VGPU_ERR_INVALID_REQUEST);
}

/* P6, P7, and the shape of a response. */
static void test_answers(void **state)
{
    (void)state;
    uint8_t out[VGPU_MAILBOX_BYTES];
    char text[3000];
    memset(text, 'y', sizeof(text));
    text[sizeof(text) - 1] = 0;
    assert_int_equal(vgpu_request_answer(out, 201, "why"), 35);
    assert_int_equal(vgpu_load_le32(out), VGPU_PROTOCOL_VERSION);
    assert_int_equal(vgpu_load_le32(out + 4), 201);
    assert_int_equal(vgpu_load_le32(out + 12), 32);
    assert_int_equal(vgpu_load_le32(out + 16), 3);
    assert_memory_equal(out + 32, "why", 3);
    assert_int_equal(vgpu_request_answer(out, 201, text), VGPU_MAILBOX_BYTES);
    assert_int_equal(vgpu_request_answer(out, 0, "no text with success"), 32);
    assert_int_equal(vgpu_load_le32(out + 12), 0);
    assert_int_equal(vgpu_request_error_status(VGPU_ERR_UNSUPPORTED), CUDA_ERROR_NOT_SUPPORTED);
    assert_int_equal(vgpu_request_error_status(VGPU_ERR_INVALID_LENGTH), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(vgpu_request_error_status(VGPU_ERR_MEDIATOR_UNAVAILABLE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_p1_short),    VGPU_TEST(test_p2_version), VGPU_TEST(test_p3_opcode),
        VGPU_TEST(test_p4_header),   VGPU_TEST(test_p4_data),    VGPU_TEST(test_p24_exact),
        VGPU_TEST(test_p33_channel), VGPU_TEST(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
