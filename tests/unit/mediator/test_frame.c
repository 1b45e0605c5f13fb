/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Framing and order of the link: docs/link.md L1, L3, L8, L9, and the bytes of what we send. */
#include <errno.h>
#include <string.h>

#include "common/wire.h"
#include "mediator/frame.h"
#include "vgpu_test.h"

static uint8_t buffer[VGPU_FRAME_MAX + 64];

static size_t put(uint16_t type, uint32_t length, uint64_t seq)
{
    memset(buffer, 0, sizeof(buffer));
    vgpu_store_le32(buffer, VGPU_LINK_MAGIC);
    vgpu_store_le16(buffer + 4, type);
    vgpu_store_le32(buffer + 8, length);
    vgpu_store_le64(buffer + 16, seq);
    return 24 + (size_t)(length < VGPU_LINK_MAX_PAYLOAD ? length : VGPU_LINK_MAX_PAYLOAD);
}

static size_t put_request(uint32_t request_length, uint64_t seq)
{
    size_t size = put(VGPU_LINK_REQUEST, 8 + request_length, seq);
    vgpu_store_le32(buffer + 24, 0xabcd);
    vgpu_store_le32(buffer + 28, request_length);
    return size;
}

static int parse(size_t size, struct vgpu_frame *frame)
{
    const char *reason = NULL;
    int rc = vgpu_frame_parse(buffer, size, frame, &reason);
    if (rc < 0)
        assert_non_null(reason);
    return rc;
}

static void violates(size_t size)
{
    struct vgpu_frame frame;
    assert_int_equal(parse(size, &frame), -EPROTO);
}

/* L1: every right message, and each of its prefixes is waited for. */
static void test_right(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        uint32_t length;
    } messages[] = {{VGPU_LINK_HELLO, 64},          {VGPU_LINK_REQUEST, 9},
                    {VGPU_LINK_REQUEST, 1032},      {VGPU_LINK_CANCEL, 0},
                    {VGPU_LINK_RESET, 8},           {VGPU_LINK_WINDOW, 24},
                    {VGPU_LINK_CHANNEL_ENABLE, 16}, {VGPU_LINK_CHANNEL_RESET, 16}};
    for (unsigned i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        bool numbered =
            messages[i].type == VGPU_LINK_REQUEST || messages[i].type == VGPU_LINK_CANCEL;
        struct vgpu_frame frame;
        size_t size = put(messages[i].type, messages[i].length, numbered ? 77 : 0);
        if (messages[i].type == VGPU_LINK_REQUEST)
            vgpu_store_le32(buffer + 28, messages[i].length - 8);
        for (size_t n = 0; n < size; n++)
            assert_int_equal(parse(n, &frame), 0);
        assert_int_equal(parse(size, &frame), 1);
        assert_int_equal(frame.size, size);
        assert_int_equal(parse(size + 30, &frame), 1);
        assert_int_equal(frame.size, size);
        assert_int_equal(frame.seq, numbered ? 77 : 0);
    }
}

/* L1: wrong magic, type, side, length, fd_count, reserved. */
static void test_header(void **state)
{
    (void)state;
    size_t size = put(VGPU_LINK_CANCEL, 0, 1);
    buffer[0] ^= 1;
    violates(size);
    static const uint16_t types[] = {0, 2, 3, 5, 8, 12, 13, 0x104, 0xffff};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        violates(put(types[i], 0, 0));
    size = put(VGPU_LINK_CANCEL, 0, 1);
    vgpu_store_le16(buffer + 6, 1);
    violates(size);
    size = put(VGPU_LINK_CANCEL, 0, 1);
    vgpu_store_le32(buffer + 12, 0x80000000u);
    violates(size);
    violates(put(VGPU_LINK_RESET, 8, 1));
    violates(put(VGPU_LINK_HELLO, 64, 1));
}

/* L1: each type's length, too short, too long and far too long; said before the payload is there.
 */
static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        uint32_t min, max;
    } types[] = {{VGPU_LINK_HELLO, 64, 64},        {VGPU_LINK_REQUEST, 9, 1032},
                 {VGPU_LINK_CANCEL, 0, 0},         {VGPU_LINK_RESET, 8, 8},
                 {VGPU_LINK_WINDOW, 24, 24},       {VGPU_LINK_CHANNEL_ENABLE, 16, 16},
                 {VGPU_LINK_CHANNEL_RESET, 16, 16}};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        uint32_t wrong[] = {types[i].min - 1, types[i].max + 1, 2048,      2049,
                            0x7fffffff,       0xffffffff,       0xffffffe8};
        for (unsigned j = types[i].min ? 0 : 1; j < 7; j++) {
            put(types[i].type, wrong[j], 0);
            violates(24);
        }
    }
    for (uint32_t inner = 0; inner < 40; inner++) {
        size_t size = put_request(20, 1);
        struct vgpu_frame frame;
        vgpu_store_le32(buffer + 28, inner);
        assert_int_equal(parse(size, &frame), inner == 20 ? 1 : -EPROTO);
    }
    size_t size = put_request(20, 1);
    vgpu_store_le32(buffer + 28, 0xfffffff8);
    violates(size);
}

/* L1: reserved fields inside payloads, byte by byte. */
static void test_reserved(void **state)
{
    (void)state;
    for (size_t at = 48; at < 64; at++) {
        size_t size = put(VGPU_LINK_HELLO, 64, 0);
        buffer[24 + at] = 0x80;
        violates(size);
    }
    for (size_t at = 4; at < 8; at++) {
        size_t size = put(VGPU_LINK_RESET, 8, 0);
        buffer[24 + at] = 1;
        violates(size);
    }
}

static void test_fields(void **state)
{
    (void)state;
    struct vgpu_frame frame;
    size_t size = put(VGPU_LINK_HELLO, 64, 0);
    vgpu_store_le64(buffer + 24, 0x8000000000000001ull);
    for (uint32_t i = 0; i < 6; i++)
        vgpu_store_le32(buffer + 32 + 4 * i, 100 + i);
    vgpu_store_le64(buffer + 56, 1ull << 40);
    vgpu_store_le32(buffer + 64, 9);
    vgpu_store_le32(buffer + 68, 10);
    assert_int_equal(parse(size, &frame), 1);
    const struct vgpu_link_hello *h = &frame.u.hello;
    assert_true(h->features == 0x8000000000000001ull && h->window_bytes == 1ull << 40);
    assert_int_equal(h->protocol, 100);
    assert_int_equal(h->vm_id, 101);
    assert_int_equal(h->pool_id, 102);
    assert_int_equal(h->priority, 103);
    assert_int_equal(h->timeout_ms, 104);
    assert_int_equal(h->generation, 105);
    assert_int_equal(h->channel_count, 9);
    assert_int_equal(h->channel_bytes, 10);
    size = put_request(3, 5);
    assert_int_equal(parse(size, &frame), 1);
    assert_int_equal(frame.u.request.request_id, 0xabcd);
    assert_int_equal(frame.u.request.length, 3);
    assert_ptr_equal(frame.u.request.bytes, buffer + 32);
}

/* Descriptors come with WINDOW only, and at most 16. */
static void test_window(void **state)
{
    (void)state;
    struct vgpu_frame frame;
    size_t size = put(VGPU_LINK_WINDOW, 24, 0);
    vgpu_store_le16(buffer + 6, 16);
    vgpu_store_le64(buffer + 24, 1ull << 33);
    for (uint32_t i = 0; i < 4; i++)
        vgpu_store_le32(buffer + 32 + 4 * i, 100 + i);
    assert_int_equal(parse(size, &frame), 1);
    const struct vgpu_link_window *w = &frame.u.window;
    assert_true(frame.fd_count == 16 && w->window_bytes == 1ull << 33);
    assert_true(w->channel_count == 100 && w->channel_bytes == 101 && w->first == 102 &&
                w->channels == 103);
    vgpu_store_le16(buffer + 6, 17);
    violates(size);
    violates(put(VGPU_LINK_WINDOW, 24, 1));
    uint8_t out[VGPU_FRAME_MAX];
    struct vgpu_link_window sent = *w;
    put(VGPU_LINK_WINDOW, 24, 0);
    assert_int_equal(vgpu_frame_window(out, &sent, 2), 48);
    memcpy(buffer, out, 48);
    assert_int_equal(parse(48, &frame), 1);
    assert_int_equal(frame.fd_count, 2);
    assert_memory_equal(&frame.u.window, &sent, sizeof(sent));
}

static void test_channel(void **state)
{
    (void)state;
    static const uint16_t types[] = {VGPU_LINK_CHANNEL_ENABLE, VGPU_LINK_CHANNEL_RESET};
    for (unsigned i = 0; i < 2; i++) {
        struct vgpu_frame frame;
        size_t size = put(types[i], 16, 0);
        vgpu_store_le32(buffer + 24, 63);
        vgpu_store_le32(buffer + 28, 0xfffffffe);
        assert_int_equal(parse(size, &frame), 1);
        assert_true(frame.u.channel.channel == 63 && frame.u.channel.serial == 0xfffffffe);
        for (size_t at = 32; at < 40; at++) { /* state and error are the mediator's to say */
            put(types[i], 16, 0);
            buffer[at] = 1;
            violates(size);
        }
        put(types[i], 16, 0);
        vgpu_store_le16(buffer + 6, 1);
        violates(size);
    }
    static const uint8_t expected[40] = {0x56, 0x4c, 0x4e, 0x4b, 12, 0, 0, 0, 16, 0, 0, 0, 0, 0,
                                         0,    0,    0,    0,    0,  0, 0, 0, 0,  0, 3, 0, 0, 0,
                                         9,    0,    0,    0,    2,  0, 0, 0, 5,  0, 0, 0};
    uint8_t out[VGPU_FRAME_MAX];
    assert_int_equal(vgpu_frame_state(out, &(struct vgpu_link_channel){3, 9, 2, 5}), 40);
    assert_memory_equal(out, expected, 40);
}

static const char *check(struct vgpu_frame_order *order, uint16_t type, uint64_t seq)
{
    struct vgpu_frame frame = {.type = type, .seq = seq};
    return vgpu_frame_order_check(order, &frame);
}

/* L3: HELLO first and once, nothing before WELCOME. */
static void test_order_hello(void **state)
{
    (void)state;
    struct vgpu_frame_order order = {0};
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 1));
    assert_non_null(check(&order, VGPU_LINK_RESET, 0));
    assert_non_null(check(&order, VGPU_LINK_CANCEL, 1));
    assert_null(check(&order, VGPU_LINK_HELLO, 0));
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 1));
    assert_non_null(check(&order, VGPU_LINK_HELLO, 0));
    order.welcomed = true;
    assert_null(check(&order, VGPU_LINK_REQUEST, 1));
    assert_non_null(check(&order, VGPU_LINK_HELLO, 0));
}

/* L8, L9, L10, L12. */
static void test_order_requests(void **state)
{
    (void)state;
    struct vgpu_frame_order order = {.greeted = true, .welcomed = true};
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 0)); /* numbers start at 1 */
    assert_null(check(&order, VGPU_LINK_REQUEST, 5));
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 6)); /* L9 */
    order.outstanding = false;                            /* answered */
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 5)); /* L8 */
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 4));
    assert_null(check(&order, VGPU_LINK_REQUEST, 6));
    assert_null(check(&order, VGPU_LINK_CANCEL, 5)); /* answered: no violation, and 6 stays */
    assert_null(check(&order, VGPU_LINK_CANCEL, 1000));
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 7));
    assert_null(check(&order, VGPU_LINK_CANCEL, 6));
    assert_null(check(&order, VGPU_LINK_REQUEST, 7));
    assert_null(check(&order, VGPU_LINK_RESET, 0)); /* cancels it */
    assert_null(check(&order, VGPU_LINK_REQUEST, UINT64_MAX));
}

/* Windows and channels: only where they were agreed on, and a window only from a device. */
static void test_order_channels(void **state)
{
    (void)state;
    static const uint16_t types[] = {VGPU_LINK_WINDOW, VGPU_LINK_CHANNEL_ENABLE,
                                     VGPU_LINK_CHANNEL_RESET};
    struct vgpu_frame_order order = {.greeted = true};
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(check(&order, types[i], 0)); /* before WELCOME */
    order.welcomed = true;
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(check(&order, types[i], 0)); /* no channels */
    order.channels = order.brings = true;
    assert_null(check(&order, VGPU_LINK_WINDOW, 0));
    assert_non_null(check(&order, VGPU_LINK_CHANNEL_ENABLE, 0)); /* not before the window */
    assert_non_null(check(&order, VGPU_LINK_CHANNEL_RESET, 0));
    assert_non_null(check(&order, VGPU_LINK_REQUEST, 1)); /* L16 */
    assert_non_null(check(&order, VGPU_LINK_RESET, 0));
    order.window = true;
    for (unsigned i = 0; i < 3; i++)
        assert_null(check(&order, types[i], 0));
    order.brings = false; /* a local client, which has one from us */
    assert_non_null(check(&order, VGPU_LINK_WINDOW, 0));
    assert_null(check(&order, VGPU_LINK_CHANNEL_ENABLE, 0));
}

static void test_encode(void **state)
{
    (void)state;
    uint8_t out[VGPU_FRAME_MAX];
    assert_int_equal(vgpu_frame_welcome(out, VGPU_LINK_WELCOME, 1, 7, 'B', 2), 48);
    static const uint8_t welcome[48] = {
        0x56, 0x4c, 0x4e, 0x4b, 2, 0, 0, 0, 24, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1,    0,    0,    0,    0, 0, 0, 0, 7,  0, 0, 0, 66, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
    assert_memory_equal(out, welcome, sizeof(welcome));
    char text[2000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    assert_int_equal(vgpu_frame_refuse(out, 2, text), 24 + 8 + 512);
    assert_int_equal(vgpu_load_le32(out + 8), 8 + 512);
    assert_int_equal(vgpu_load_le32(out + 28), 512);
    uint8_t response[1024] = {1, 2, 3};
    assert_int_equal(vgpu_frame_response(out, 9, 5, response, 1024), 24 + 8 + 1024);
    assert_int_equal(vgpu_load_le64(out + 16), 9);
    assert_int_equal(vgpu_load_le32(out + 24), 5);
    assert_memory_equal(out + 32, response, 1024);
    assert_int_equal(vgpu_frame_response(out, 9, 3, NULL, 0), 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_right),          VGPU_TEST(test_header),         VGPU_TEST(test_lengths),
        VGPU_TEST(test_reserved),       VGPU_TEST(test_fields),         VGPU_TEST(test_order_hello),
        VGPU_TEST(test_order_requests), VGPU_TEST(test_encode),         VGPU_TEST(test_window),
        VGPU_TEST(test_channel),        VGPU_TEST(test_order_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
