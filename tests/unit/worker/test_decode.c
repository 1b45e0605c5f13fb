/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The request decoder: P1 to P5, P10, P18, P21, P23, P25 to P27 of docs/protocol.md as far as the
 * bytes alone decide; each with its malformed twins. */
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "vgpu_test.h"
#include "worker/decode.h"

/* Decodes from memory of exactly the request's size, so that a read past it is seen. Answers the
 * error code, 0 when understood. */
static uint32_t decode_into(const struct request *r, struct vgpu_call *call)
{
    struct vgpu_answer answer;
    uint8_t *bytes = malloc(r->length ? r->length : 1);
    assert_non_null(bytes);
    memcpy(bytes, r->bytes, r->length);
    int rc = vgpu_request_decode(bytes, r->length, call, &answer);
    uint32_t error = rc ? answer.error_code : 0;
    if (rc) {
        assert_true(error == 1 || error == 8 || error == 9);
        assert_int_equal(answer.status, error == 8 ? 801 : 1); /* P6 */
        assert_true(answer.data_length > 0);
        assert_null(memchr(answer.data, 0, answer.data_length));
    }
    /* Keep what `data` points at. */
    static uint8_t kept[2048];
    if (!rc && call->data_length) {
        memcpy(kept, call->data, call->data_length);
        call->data = kept;
    }
    free(bytes);
    return error;
}

static uint32_t decode(struct request r)
{
    struct vgpu_call call;
    return decode_into(&r, &call);
}

static const struct request *every_shape(size_t *count)
{
    static struct request all[16];
    static const uint32_t one[3] = {1, 1, 1};
    size_t n = 0;
    all[n++] = req_nop();
    all[n++] = req_kernel(1, one, one, 0, 0, "abcd", 4);
    all[n++] = req_alloc(1);
    all[n++] = req_free(1);
    all[n++] = req_htod(1, "abc", 3);
    all[n++] = req_info();
    all[n++] = req_sync();
    all[n++] = req_session(0x2000, 9, NULL, 0);
    all[n++] = req_session(0x2001, 9, NULL, 0);
    struct request inner = req_alloc(1);
    all[n++] = req_wrap(9, &inner);
    all[n++] = req_stage(9, 1, 5, 0, "abcde", 5);
    all[n++] = req_stage_drop(9, 1);
    all[n++] = req_load(9, 0, "image");
    all[n++] = req_unload(9, 1);
    all[n++] = req_module_kernel(9, 1, 0, "name");
    all[n++] = req_module_global(9, 1, "name");
    *count = n;
    return all;
}

#define FOR_EACH_SHAPE(r)                                                                          \
    size_t shape_count_;                                                                           \
    const struct request *shapes_ = every_shape(&shape_count_);                                    \
    for (const struct request *r = shapes_; r < shapes_ + shape_count_; r++)

static void p18_every_opcode_is_understood(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    assert_int_equal(decode(*r), 0);
}

static void p1_short(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        for (uint32_t length = 0; length < 32; length++)
            assert_int_equal(decode(with_length(*r, length)), 9);
    }
    /* P5: before the version, the opcode, the flags. */
    struct request bad = with_length(patched(req_nop(), W_VERSION, 7), 31);
    assert_int_equal(decode(bad), 9);
}

static void p2_version(void **state)
{
    static const uint32_t versions[] = {0,          1,          0x0000FFFF, 0x00010001,
                                        0x00020000, 0x01000100, 0xFFFFFFFF};
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
            assert_int_equal(decode(patched(*r, W_VERSION, versions[i])), 8);
    }
    /* P5: before the flags. */
    assert_int_equal(decode(patched(patched(req_nop(), W_VERSION, 2), W_FLAGS, 0xFFFFFFFF)), 8);
}

static void p3_opcode(void **state)
{
    static const uint32_t opcodes[] = {7,      8,       0x0FFF,     0x100A,     0x101F, 0x1FFF,
                                       0x2003, 0x200F,  0x2012,     0x2021 + 3, 0x20FF, 0x2100,
                                       0x3000, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF};
    (void)state;
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        assert_int_equal(decode(patched(req_nop(), W_OPCODE, opcodes[i])), 8);
        /* P5: before P4. */
        struct request r = patched(req_nop(), W_OPCODE, opcodes[i]);
        assert_int_equal(decode(patched(r, W_RES0, 1)), 8);
        assert_int_equal(decode(patched(r, W_PARAMS, 99)), 8);
    }
}

static void p4_flags(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        for (int bit = 2; bit < 32; bit++)
            assert_int_equal(decode(patched(*r, W_FLAGS, 1u << bit)), 1);
        assert_int_equal(decode(patched(*r, W_FLAGS, 0xFFFFFFFF)), 1);
    }
}

static void p10_flags_that_are_known(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        uint32_t opcode = get32(r->bytes + 4);
        bool wraps = opcode == 0x2002;
        bool async = opcode == 1 || opcode == 3 || opcode == 4;
        assert_int_equal(decode(patched(*r, W_FLAGS, 2)), wraps ? 1 : 0);
        assert_int_equal(decode(patched(*r, W_FLAGS, 1)), async ? 0 : 1);
        assert_int_equal(decode(patched(*r, W_FLAGS, 3)), async ? 0 : 1);
    }
    assert_int_equal(decode(async(req_dtod(1, 2, 3))), 0);
    assert_int_equal(decode(async(req_dtoh(1, 3))), 1);
    struct vgpu_call call;
    struct request r = async(req_free(1));
    assert_int_equal(decode_into(&r, &call), 0);
    assert_true(call.async);
}

static void p4_reserved(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        assert_int_equal(decode(patched(*r, W_RES0, 1)), 1);
        assert_int_equal(decode(patched(*r, W_RES1, 0x80000000)), 1);
    }
}

static void p4_param_count(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        uint32_t n = get32(r->bytes + 12);
        const uint32_t wrong[] = {n + 1, n - 1, 0x3FFFFFFF, 0x40000000, 0x80000000, 0xFFFFFFFF};
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
            assert_int_equal(decode(patched(*r, W_PARAMS, wrong[i])), 1);
    }
}

/* A request that ends before its params do. */
static void p4_params_cut(void **state)
{
    (void)state;
    struct request alloc = req_alloc(1), kernel = req_launch(1, NULL, 0);
    for (uint32_t length = 32; length < 40; length++)
        assert_int_equal(decode(with_length(alloc, length)), 1);
    for (uint32_t length = 32; length < 72; length++)
        assert_int_equal(decode(with_length(kernel, length)), 1);
}

static void p4_data_part(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        uint32_t n = get32(r->bytes + 12), offset = get32(r->bytes + 16);
        uint32_t length = get32(r->bytes + 20);
        if (!length) {
            /* No data: the offset is 0. */
            assert_int_equal(decode(patched(*r, W_OFFSET, 32)), 1);
            assert_int_equal(decode(patched(*r, W_OFFSET, 1)), 1);
            /* Data where none is taken, even inside the request (CUDA_KERNEL takes some). */
            struct request more =
                patched(patched(*r, W_OFFSET, (32 + 4 * n + 7) & ~7u), W_LENGTH, 8);
            more.length += 64;
            assert_int_equal(decode(more), 1);
            continue;
        }
        const uint32_t offsets[] = {0,          1,          4,          24,
                                    offset + 4, offset - 8, offset - 1, 0x7FFFFFF8,
                                    0xFFFFFFF8, 0xFFFFFFFF, r->length,  r->length + 8};
        for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
            assert_int_equal(decode(patched(*r, W_OFFSET, offsets[i])), 1);
        const uint32_t lengths[] = {
            length + 1, r->length, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF - offset + 1, 0xFFFFFFF8};
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
            assert_int_equal(decode(patched(*r, W_LENGTH, lengths[i])), 1);
        /* Cut: the data goes past the end. */
        assert_int_equal(decode(with_length(*r, r->length - 1)), 1);
        /* 0 bytes with an offset. */
        assert_int_equal(decode(patched(*r, W_LENGTH, 0)), 1);
    }
}

/* P5: bytes that belong to no part are ignored. */
static void p5_gaps_and_tails(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        struct request longer = *r;
        memset(longer.bytes + longer.length, 0xEE, 40);
        longer.length += 40;
        assert_int_equal(decode(longer), 0);
        uint32_t offset = get32(r->bytes + 16), length = get32(r->bytes + 20);
        if (!length)
            continue;
        struct request gap = patched(*r, W_OFFSET, offset + 64);
        memmove(gap.bytes + offset + 64, r->bytes + offset, length);
        memset(gap.bytes + offset, 0xEE, 64);
        gap.length += 64;
        assert_int_equal(decode(gap), 0);
    }
}

static void p23_session(void **state)
{
    struct vgpu_call call;
    uint8_t data[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        if (get32(r->bytes + 4) < 0x1000)
            continue;
        assert_int_equal(decode_into(r, &call), 0);
        assert_true(call.named);
        assert_int_equal(call.session, 9);
        for (uint32_t n = 0; n < 8; n++)
            assert_int_equal(decode(make_request(get32(r->bytes + 4), 0, NULL, 0, data, n)), 1);
    }
    struct request open = make_request(0x2000, 0, NULL, 0, data, 8);
    assert_int_equal(decode_into(&open, &call), 0);
    assert_int_equal(call.session, 0x0102030405060708);
    /* Nothing after the session. */
    uint8_t longer[9] = {0};
    assert_int_equal(decode(make_request(0x2000, 0, NULL, 0, longer, 9)), 1);
    assert_int_equal(decode(make_request(0x2001, 0, NULL, 0, longer, 9)), 1);
}

static void p25_inner_request(void **state)
{
    struct vgpu_call call;
    struct request inner = async(req_free(0x123456789)), r = req_wrap(77, &inner);
    (void)state;
    assert_int_equal(decode_into(&r, &call), 0);
    assert_int_equal(call.opcode, 3);
    assert_int_equal(call.session, 77);
    assert_true(call.named);
    assert_true(call.async); /* the inner flags count */
    assert_int_equal(call.params[0], 0x23456789);
    assert_int_equal(call.params[1], 1);

    /* P1 to P5 by itself. */
    for (uint32_t n = 0; n < 32; n++) {
        struct request cut = with_length(inner, n);
        assert_int_equal(decode(req_wrap(77, &cut)), 9);
    }
    struct request bad = patched(inner, W_VERSION, 5);
    assert_int_equal(decode(req_wrap(77, &bad)), 8);
    bad = patched(inner, W_OPCODE, 7);
    assert_int_equal(decode(req_wrap(77, &bad)), 8);
    bad = patched(inner, W_FLAGS, 4);
    assert_int_equal(decode(req_wrap(77, &bad)), 1);
    bad = patched(inner, W_RES1, 4);
    assert_int_equal(decode(req_wrap(77, &bad)), 1);
    bad = patched(inner, W_PARAMS, 3);
    assert_int_equal(decode(req_wrap(77, &bad)), 1);
    bad = with_length(inner, 39);
    assert_int_equal(decode(req_wrap(77, &bad)), 1);
    /* Its data is bounded by what is left of the outer data, not by the request. */
    struct request htod = req_htod(1, "abcdefgh", 8);
    r = req_wrap(77, &htod);
    assert_int_equal(decode(r), 0);
    assert_int_equal(decode(patched(r, W_LENGTH, get32(r.bytes + 20) - 1)), 1);

    /* From 0x1000 on: error 1, known or not. */
    static const uint32_t opcodes[] = {0x1000, 0x1FFF, 0x2000, 0x2001, 0x2002, 0x2010, 0x9999};
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        bad = patched(req_nop(), W_OPCODE, opcodes[i]);
        assert_int_equal(decode(req_wrap(77, &bad)), 1);
    }
    struct request nested = req_wrap(77, &inner);
    assert_int_equal(decode(req_wrap(77, &nested)), 1);
}

static void p18_data_of_typed_requests(void **state)
{
    static const uint32_t one[3] = {1, 1, 1};
    (void)state;
    assert_int_equal(decode(req_launch(1, NULL, 0)), 0);
    assert_int_equal(decode(req_kernel(1, one, one, 0, 3, NULL, 0)), 0);
    assert_int_equal(decode(req_kernel(1, one, one, 0, 3, "x", 1)), 1); /* stage and data */
}

static void p21_copies(void **state)
{
    uint8_t bytes[1000] = {0};
    struct request r = req_htod(1, bytes, 900);
    (void)state;
    assert_int_equal(decode(r), 0);
    put32(r.bytes + 32 + 4 * 5, 899); /* size against data */
    assert_int_equal(decode(r), 1);
    put32(r.bytes + 32 + 4 * 5, 901);
    assert_int_equal(decode(r), 1);
    put32(r.bytes + 32 + 4 * 5, 900);
    put32(r.bytes + 32 + 4 * 6, 1); /* the high word counts */
    assert_int_equal(decode(r), 1);
    assert_int_equal(decode(req_dtoh(1, 992)), 0);
    assert_int_equal(decode(req_dtoh(1, 993)), 1);
    assert_int_equal(decode(req_dtoh(1, UINT64_MAX)), 1);
    assert_int_equal(decode(req_dtoh(1, 1ull << 32)), 1);
    assert_int_equal(decode(req_dtod(1, 2, UINT64_MAX)), 0); /* the backend's to refuse */
    assert_int_equal(decode(req_htod(1, NULL, 0)), 0);       /* P21: status 1, not error 1 */
    struct request with_data = req_htod(1, bytes, 8);
    put32(with_data.bytes + 32, 3); /* DTOD takes none */
    assert_int_equal(decode(with_data), 1);
    put32(with_data.bytes + 32, 2);
    assert_int_equal(decode(with_data), 1);
    put32(with_data.bytes + 32, 4); /* nor does a direction that does not exist */
    assert_int_equal(decode(with_data), 1);
    struct request direction = req_dtod(1, 2, 3);
    put32(direction.bytes + 32, 4);
    assert_int_equal(decode(direction), 0); /* understood: P21 says status 1 */
    assert_int_equal(decode(async(direction)), 1);
}

static void p26_stage_shapes(void **state)
{
    struct vgpu_call call;
    struct request r = req_stage(9, 3, 100, 40, "abc", 3);
    (void)state;
    assert_int_equal(decode_into(&r, &call), 0);
    assert_int_equal(call.stage, 3);
    assert_int_equal(call.total_bytes, 100);
    assert_int_equal(call.offset, 40);
    assert_int_equal(call.data_length, 3);
    assert_memory_equal(call.data, "abc", 3);
    uint32_t at = get32(r.bytes + 16);
    put32(r.bytes + at + 20, 1); /* reserved */
    assert_int_equal(decode(r), 1);
    assert_int_equal(decode(req_stage(9, 3, 100, 40, NULL, 0)), 1); /* a piece has 1 byte */
    for (uint32_t n = 0; n < 16; n++) {
        uint8_t rest[16] = {0};
        assert_int_equal(decode(req_session(0x2010, 9, rest, n)), 1);
    }
    struct request drop = req_stage_drop(9, 3);
    put32(drop.bytes + get32(drop.bytes + 16) + 12, 1);
    assert_int_equal(decode(drop), 1);
    uint8_t rest[12] = {0};
    assert_int_equal(decode(req_session(0x2011, 9, rest, 4)), 1);
    assert_int_equal(decode(req_session(0x2011, 9, rest, 12)), 1);
}

static void p27_module_shapes(void **state)
{
    struct vgpu_call call;
    uint8_t rest[600] = {0};
    char name[600];
    (void)state;
    struct request r = req_load(9, 0, "x");
    assert_int_equal(decode_into(&r, &call), 0);
    assert_int_equal(call.data_length, 1);
    put32(r.bytes + get32(r.bytes + 16) + 12, 5); /* reserved */
    assert_int_equal(decode(r), 1);
    assert_int_equal(decode(req_load(9, 0, NULL)), 1); /* no image */
    assert_int_equal(decode(req_load(9, 4, NULL)), 0); /* staged */
    assert_int_equal(decode(req_load(9, 4, "x")), 1);  /* both */
    assert_int_equal(decode(req_session(0x2020, 9, rest, 4)), 1);
    assert_int_equal(decode(req_session(0x2021, 9, rest, 4)), 1);
    assert_int_equal(decode(req_session(0x2021, 9, rest, 12)), 1);

    memset(name, 'n', sizeof(name));
    for (uint32_t opcode = 0x2022; opcode <= 0x2023; opcode++) {
        memset(rest, 0, sizeof(rest));
        memset(rest + 16, 'n', 513);
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 512)), 0);
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 513)), 1);
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 1)), 0);
        assert_int_equal(decode(req_session(opcode, 9, rest, 16)), 1);
        assert_int_equal(decode(req_session(opcode, 9, rest, 15)), 1);
        rest[16 + 5] = 0; /* a NUL inside, and one at the end */
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 10)), 1);
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 6)), 1);
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 5)), 0);
        put32(rest + 12, 1); /* reserved */
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 5)), 1);
        put32(rest + 12, 0);
        put32(rest + 8, 7); /* first_param: MODULE_KERNEL's only */
        assert_int_equal(decode(req_session(opcode, 9, rest, 16 + 5)), opcode == 0x2022 ? 0 : 1);
    }
}

/* Nothing that is decoded reads outside the request, whatever the bytes: every single-byte change
 * of every shape, under the sanitizers. */
static void p4_every_byte_changed(void **state)
{
    static const uint8_t values[] = {0x00, 0x01, 0x04, 0x08, 0x20, 0x7F, 0x80, 0xF8, 0xFF};
    (void)state;
    FOR_EACH_SHAPE(r)
    {
        for (uint32_t i = 0; i < r->length; i++) {
            for (size_t v = 0; v < sizeof(values); v++) {
                struct request changed = *r;
                changed.bytes[i] = values[v];
                (void)decode(changed);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(p18_every_opcode_is_understood),
        VGPU_TEST(p1_short),
        VGPU_TEST(p2_version),
        VGPU_TEST(p3_opcode),
        VGPU_TEST(p4_flags),
        VGPU_TEST(p10_flags_that_are_known),
        VGPU_TEST(p4_reserved),
        VGPU_TEST(p4_param_count),
        VGPU_TEST(p4_params_cut),
        VGPU_TEST(p4_data_part),
        VGPU_TEST(p5_gaps_and_tails),
        VGPU_TEST(p23_session),
        VGPU_TEST(p25_inner_request),
        VGPU_TEST(p18_data_of_typed_requests),
        VGPU_TEST(p21_copies),
        VGPU_TEST(p26_stage_shapes),
        VGPU_TEST(p27_module_shapes),
        VGPU_TEST(p4_every_byte_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
