/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests and responses for tests; see build.h. */
#include "build.h"

#include <stdio.h>
#include <string.h>

#include "vgpu_test.h"

void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

struct request make_request(uint32_t opcode, uint32_t flags, const uint32_t *params, uint32_t count,
                            const void *data, uint32_t data_length)
{
    struct request r = {.length = 32 + 4 * count};
    uint32_t offset = (r.length + 7) & ~7u;
    put32(r.bytes + 0, 0x00010000);
    put32(r.bytes + 4, opcode);
    put32(r.bytes + 8, flags);
    put32(r.bytes + 12, count);
    put32(r.bytes + 16, data_length ? offset : 0);
    put32(r.bytes + 20, data_length);
    for (uint32_t i = 0; i < count; i++)
        put32(r.bytes + 32 + 4 * i, params[i]);
    if (data_length) {
        assert_true(offset + data_length <= sizeof(r.bytes));
        memcpy(r.bytes + offset, data, data_length);
        r.length = offset + data_length;
    }
    return r;
}

struct request patched(struct request r, enum header_word word, uint32_t value)
{
    put32(r.bytes + 4 * word, value);
    return r;
}

struct request with_length(struct request r, uint32_t length)
{
    r.length = length;
    return r;
}

struct request async(struct request r)
{
    return patched(r, W_FLAGS, get32(r.bytes + 8) | 1);
}

struct request req_nop(void)
{
    return make_request(0, 0, NULL, 0, NULL, 0);
}

struct request req_info(void)
{
    return make_request(5, 0, NULL, 0, NULL, 0);
}

struct request req_sync(void)
{
    return make_request(6, 0, NULL, 0, NULL, 0);
}

struct request req_alloc(uint64_t size)
{
    uint32_t p[] = {(uint32_t)size, (uint32_t)(size >> 32)};
    return make_request(2, 0, p, 2, NULL, 0);
}

struct request req_free(uint64_t address)
{
    uint32_t p[] = {(uint32_t)address, (uint32_t)(address >> 32)};
    return make_request(3, 0, p, 2, NULL, 0);
}

static struct request copy(uint32_t direction, uint64_t dst, uint64_t src, uint64_t size,
                           const void *data, uint32_t data_length)
{
    uint32_t p[] = {direction,
                    (uint32_t)dst,
                    (uint32_t)(dst >> 32),
                    (uint32_t)src,
                    (uint32_t)(src >> 32),
                    (uint32_t)size,
                    (uint32_t)(size >> 32)};
    return make_request(4, 0, p, 7, data, data_length);
}

struct request req_htod(uint64_t dst, const void *bytes, uint32_t size)
{
    return copy(1, dst, 0, size, bytes, size);
}

struct request req_dtoh(uint64_t src, uint64_t size)
{
    return copy(2, 0, src, size, NULL, 0);
}

struct request req_dtod(uint64_t dst, uint64_t src, uint64_t size)
{
    return copy(3, dst, src, size, NULL, 0);
}

struct request req_kernel(uint64_t function, const uint32_t grid[3], const uint32_t block[3],
                          uint32_t shared, uint32_t stage, const void *args, uint32_t args_length)
{
    uint32_t p[] = {(uint32_t)function,
                    (uint32_t)(function >> 32),
                    grid[0],
                    grid[1],
                    grid[2],
                    block[0],
                    block[1],
                    block[2],
                    shared,
                    stage};
    return make_request(1, 0, p, 10, args, args_length);
}

struct request req_launch(uint64_t function, const void *args, uint32_t args_length)
{
    static const uint32_t one[3] = {1, 1, 1};
    return req_kernel(function, one, one, 0, 0, args, args_length);
}

struct request req_session(uint32_t opcode, uint64_t session, const void *rest, uint32_t length)
{
    uint8_t data[2000];
    assert_true(length <= sizeof(data) - 8);
    put64(data, session);
    if (length)
        memcpy(data + 8, rest, length);
    return make_request(opcode, 0, NULL, 0, data, 8 + length);
}

struct request req_wrap(uint64_t session, const struct request *inner)
{
    return req_session(0x2002, session, inner->bytes, inner->length);
}

struct request req_stage(uint64_t session, uint32_t stage, uint32_t total, uint32_t offset,
                         const void *bytes, uint32_t length)
{
    uint8_t rest[1900] = {0};
    put32(rest, stage);
    put32(rest + 4, total);
    put32(rest + 8, offset);
    if (length)
        memcpy(rest + 16, bytes, length);
    return req_session(0x2010, session, rest, 16 + length);
}

struct request req_stage_drop(uint64_t session, uint32_t stage)
{
    uint8_t rest[8] = {0};
    put32(rest, stage);
    return req_session(0x2011, session, rest, 8);
}

struct request req_load(uint64_t session, uint32_t stage, const char *image)
{
    uint8_t rest[1900] = {0};
    uint32_t length = image ? (uint32_t)strlen(image) : 0;
    put32(rest, stage);
    if (length)
        memcpy(rest + 8, image, length);
    return req_session(0x2020, session, rest, 8 + length);
}

struct request req_unload(uint64_t session, uint64_t module)
{
    uint8_t rest[8];
    put64(rest, module);
    return req_session(0x2021, session, rest, 8);
}

static struct request module_name(uint32_t opcode, uint64_t session, uint64_t module,
                                  uint32_t first, const char *name)
{
    uint8_t rest[1900] = {0};
    uint32_t length = (uint32_t)strlen(name);
    put64(rest, module);
    put32(rest + 8, first);
    memcpy(rest + 16, name, length);
    return req_session(opcode, session, rest, 16 + length);
}

struct request req_module_kernel(uint64_t session, uint64_t module, uint32_t first,
                                 const char *name)
{
    return module_name(0x2022, session, module, first, name);
}

struct request req_module_global(uint64_t session, uint64_t module, const char *name)
{
    return module_name(0x2023, session, module, 0, name);
}

struct request req_call(uint64_t session, uint32_t opcode, uint64_t context, const uint64_t *slots,
                        uint32_t count, const void *rest, uint32_t length)
{
    uint8_t data[1900];
    uint32_t head = 8 + 8 * count;
    assert_true(head + length <= sizeof(data));
    put64(data, context);
    for (uint32_t i = 0; i < count; i++)
        put64(data + 8 + 8 * i, slots[i]);
    if (length)
        memcpy(data + head, rest, length);
    return req_session(opcode, session, data, head + length);
}

void parse_response(uint64_t seq, uint32_t error, const uint8_t *bytes, uint32_t length,
                    struct response *out)
{
    *out = (struct response){.seq = seq, .error = error, .length = length};
    assert_true(length <= 1024);
    assert_true(error <= 0x0B);
    if (!length)
        return;
    assert_true(length >= 32);
    assert_int_equal(get32(bytes), 0x00010000);
    out->status = get32(bytes + 4);
    out->result_count = get32(bytes + 8);
    uint32_t offset = get32(bytes + 12);
    out->data_length = get32(bytes + 16);
    out->exec_time_us = get32(bytes + 20);
    assert_int_equal(get32(bytes + 24), 0);
    assert_int_equal(get32(bytes + 28), 0);
    assert_true(out->result_count <= 8);
    uint32_t head = 32 + 4 * out->result_count;
    assert_true(head <= length);
    if (out->status)
        assert_int_equal(out->result_count, 0);
    for (uint32_t i = 0; i < out->result_count; i++)
        out->results[i] = get32(bytes + 32 + 4 * i);
    if (!out->data_length) {
        assert_int_equal(offset, 0);
        assert_int_equal(length, head);
        return;
    }
    assert_int_equal(offset % 8, 0);
    assert_true(offset >= head);
    assert_int_equal(offset + out->data_length, length);
    memcpy(out->data, bytes + offset, out->data_length);
    memcpy(out->text, out->data, out->data_length);
    if (out->status && out->status != 600)
        assert_null(memchr(out->data, 0, out->data_length));
}

uint64_t result64(const struct response *r, unsigned first)
{
    assert_true(first + 2 <= r->result_count);
    return r->results[first] | (uint64_t)r->results[first + 1] << 32;
}

void expect_status(const struct response *r, uint32_t error, uint32_t status)
{
    if (r->error != error || !r->length || r->status != status)
        print_error("error %u status %u length %u: %s\n", r->error, r->status, r->length, r->text);
    assert_int_equal(r->error, error);
    assert_true(r->length >= 32);
    assert_int_equal(r->status, status);
    /* A failure says why in words. */
    if (status && status != 600)
        assert_true(r->data_length > 0);
}

void expect_reject(const struct response *r, uint32_t error)
{
    expect_status(r, error, error == 8 ? 801 : 1);
}
