/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device's side of the link when both sides behave, and when the socket does not: L2 to L13,
 * R14, R17. */
#include "rig.h"

#include <errno.h>
#include <string.h>

static void l3_hello_at_once_and_nothing_else_before_welcome(void **state)
{
    struct rig *rig = *state;
    struct rig_message m;
    vgpu_device_reset(&rig->dev, rig->now);
    rig_expect_silence(rig);
    vgpu_device_link_opened(&rig->dev, rig->now);
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_HELLO);
    assert_int_equal(m.seq, 0);
    assert_int_equal(m.length, 64);
    assert_int_equal(get_le(m.payload, 8), 1);              /* features */
    assert_int_equal(get_le(m.payload + 8, 4), 0x00010000); /* protocol */
    assert_int_equal(get_le(m.payload + 12, 4), 7);         /* vm_id */
    assert_int_equal(get_le(m.payload + 16, 4), 'A');       /* pool_id */
    assert_int_equal(get_le(m.payload + 20, 4), 1);         /* priority */
    assert_int_equal(get_le(m.payload + 24, 4), 1000);      /* timeout_ms */
    assert_int_equal(get_le(m.payload + 28, 4), 1);         /* generation */
    for (unsigned i = 32; i < 64; i += 8)
        assert_int_equal(get_le(m.payload + i, 8), 0);
    vgpu_device_reset(&rig->dev, rig->now);
    rig_doorbell(rig, 4, 1);
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    vgpu_device_timer(&rig->dev, rig->now + 3600 * S);
    vgpu_device_link_writable(&rig->dev, rig->now);
    rig_expect_silence(rig);
    rig_welcome(rig, VGPU_LINK_WELCOME, 9, 'B', 0);
    rig_expect_silence(rig); /* the RESET before WELCOME is not made up for */
    assert_int_equal(rig->closes, 0);
}

static void l4_unknown_feature_bits_are_no_violation(void **state)
{
    struct rig *rig = *state;
    uint8_t p[24] = {0};
    vgpu_device_link_opened(&rig->dev, rig->now);
    put_le(p, 0xFFFFFFFFFFFFFFFFull, 8);
    put_le(p + 8, 0xFFFFFFFF, 4); /* any vm_id */
    put_le(p + 12, 'Z', 4);
    rig_say(rig, VGPU_LINK_WELCOME, 0, p, sizeof(p));
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 1);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 0xFFFFFFFF);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'Z');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 0);
}

static void refuse(struct rig *rig, uint32_t reason, const void *text, uint32_t length)
{
    uint8_t p[8 + 512];
    put_le(p, reason, 4);
    put_le(p + 4, length, 4);
    if (length)
        memcpy(p + 8, text, length);
    rig_say(rig, VGPU_LINK_REFUSE, 0, p, 8 + length);
}

static void l6_a_refused_device_says_why_and_stays_as_it_was(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *said, *logged;
    } texts[] = {
        {"pool 'C' has no GPU", "pool 'C' has no GPU"},
        {"", ""},
        {"a\nb\tc\x1b[31md\x7f", "a?b?c?[31md?"},
        {"gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80",
         "gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2\x85|\xc2\x9b|\xc2\xa0", "??|??|\xc2\xa0"}, /* C1 controls */
        {"\xff\xfe\xc3", "???"},                          /* not UTF-8, cut short */
        {"\xc0\xaf\xe0\x80\x80\xed\xa0\x80", "????????"}, /* overlong, a surrogate */
        {"\xe0\x82\xa0\xf0\x80\x82\xa0", "???????"},      /* overlong, and printable */
        {"\xf4\x90\x80\x80\xf8\x88", "??????"},           /* above U+10FFFF */
    };
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        vgpu_device_link_opened(&rig->dev, rig->now);
        rig_expect(rig, VGPU_LINK_HELLO);
        strcpy(rig->text, "");
        refuse(rig, 1 + i, texts[i].said, (uint32_t)strlen(texts[i].said));
        assert_string_equal(rig->text, texts[i].logged);
        assert_int_equal(rig->last[VGPU_DEVICE_LINK_REFUSED].code, 1 + i);
        assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
        assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'A');
        rig_doorbell(rig, 4, 1);
        assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
        vgpu_device_link_closed(&rig->dev, rig->now);
        assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 0);
    }
    assert_int_equal(rig->dev.stats.refused, 9);
    assert_int_equal(rig->dev.stats.violations, 0);
    uint8_t zeros[512] = {0}; /* the longest text, and NULs do not end it early */
    vgpu_device_link_opened(&rig->dev, rig->now);
    refuse(rig, 6, zeros, 512);
    assert_int_equal(strlen(rig->text), 512);
    assert_int_equal(rig->closes, 0);
    rig->tx_length = 0;
    vgpu_device_link_closed(&rig->dev, rig->now);
    rig_attach(rig); /* the mediator tries again */
}

static void l7_update_changes_the_registers_at_any_time(void **state)
{
    struct rig *rig = *state;
    rig_welcome(rig, VGPU_LINK_UPDATE, 12, 'C', 0);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 12);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'C');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 0);
    uint64_t seq = rig_submit(rig, 4, 1);
    rig_welcome(rig, VGPU_LINK_UPDATE, 13, 'D', 1);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 13);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    rig_respond(rig, seq, 0, NULL, 0);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
}

static void l8_numbers_are_never_used_twice(void **state)
{
    struct rig *rig = *state;
    uint64_t last = 0;
    for (unsigned i = 0; i < 30; i++) {
        uint64_t seq = rig_submit(rig, 4, 5); /* REQUEST_ID is always the same */
        assert_true(seq > last);
        if (i == 0)
            assert_int_equal(seq, 1);
        last = seq;
        if (i % 3 == 0) {
            rig_respond(rig, seq, 0, NULL, 0);
        } else if (i % 3 == 1) {
            vgpu_device_reset(&rig->dev, rig->now);
            rig_expect(rig, VGPU_LINK_RESET);
        } else {
            vgpu_device_link_closed(&rig->dev, rig->now);
            rig_attach(rig);
        }
    }
}

static void l9_one_request_outstanding(void **state)
{
    struct rig *rig = *state;
    struct rig_message m;
    rig->room = 100; /* the first REQUEST is begun, not finished */
    rig_doorbell(rig, 500, 1);
    rig->now = rig->deadline;
    vgpu_device_timer(&rig->dev, rig->now);
    rig_doorbell(rig, 600, 2);
    rig->now = rig->deadline;
    vgpu_device_timer(&rig->dev, rig->now);
    rig_doorbell(rig, 700, 3);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    assert_true(vgpu_device_link_wants_write(&rig->dev));
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    assert_false(vgpu_device_link_wants_write(&rig->dev));
    /* The first whole, its CANCEL, the third. The second nobody ever heard of. */
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_REQUEST);
    assert_int_equal(m.seq, 1);
    assert_int_equal(m.length, 508);
    assert_int_equal(m.payload[8 + 499], pattern(1, 499));
    assert_int_equal(rig_expect(rig, VGPU_LINK_CANCEL), 1);
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_REQUEST);
    assert_int_equal(m.seq, 3);
    assert_int_equal(m.payload[8 + 699], pattern(3, 699));
    rig_expect_silence(rig);
    rig_respond(rig, 3, 0, NULL, 0);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
}

static void l10_cancel_has_no_payload(void **state)
{
    struct rig *rig = *state;
    struct rig_message m;
    uint64_t seq = rig_submit(rig, 4, 1);
    rig->now = rig->deadline;
    vgpu_device_timer(&rig->dev, rig->now);
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_CANCEL);
    assert_int_equal(m.seq, seq);
    assert_int_equal(m.length, 0);
    rig_expect_silence(rig);
}

static void l11_an_answer_to_nothing_is_dropped_and_counted(void **state)
{
    struct rig *rig = *state;
    rig_respond(rig, 1, 0, "x", 1); /* none was ever sent */
    rig_respond(rig, 0, 0, "x", 1);
    rig_respond(rig, UINT64_MAX, 0, "x", 1);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    uint64_t seq = rig_submit(rig, 4, 1);
    rig_respond(rig, seq + 1, 0, "x", 1);
    rig_respond(rig, seq - 1, 0, "x", 1);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    rig_respond(rig, seq, 0, "y", 1);
    rig_respond(rig, seq, 0, "z", 1); /* twice */
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF, 1), 'y');
    assert_int_equal(rig->dev.stats.responses_dropped, 6);
    assert_int_equal(rig->events[VGPU_DEVICE_RESPONSE_DROPPED], 6);
    assert_int_equal(rig->closes, 0);
    /* A request that is not wholly sent is not outstanding. */
    rig->room = 10;
    rig_doorbell(rig, 100, 2);
    rig_respond(rig, seq + 1, 0, "x", 1);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    assert_int_equal(rig->dev.stats.responses_dropped, 7);
}

static void l12_reset_replaces_all_that_waits(void **state)
{
    struct rig *rig = *state;
    struct rig_message m;
    rig->room = 30; /* a REQUEST is begun */
    rig_doorbell(rig, 500, 1);
    rig->now = rig->deadline;
    vgpu_device_timer(&rig->dev, rig->now); /* a CANCEL waits */
    rig_doorbell(rig, 500, 2);              /* a REQUEST waits */
    for (unsigned i = 0; i < 10000; i++)    /* a guest that resets its device for ever */
        vgpu_device_reset(&rig->dev, rig->now);
    rig_doorbell(rig, 20, 3); /* requests may follow at once */
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    assert_int_equal(rig_expect(rig, VGPU_LINK_REQUEST), 1);
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_RESET);
    assert_int_equal(get_le(m.payload, 4), 10000);
    assert_int_equal(rig_expect(rig, VGPU_LINK_REQUEST), 3);
    rig_expect_silence(rig);
}

static void a_request_withdrawn_before_its_first_byte(void **state)
{
    struct rig *rig = *state;
    rig->room = 0;
    rig_doorbell(rig, 500, 1);
    vgpu_device_reset(&rig->dev, rig->now);
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_RESET);
    rig_expect_silence(rig);
}

static void l2_one_byte_at_a_time_in_both_directions(void **state)
{
    struct rig *rig = *state;
    rig->piece = 1;
    vgpu_device_link_opened(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_HELLO);
    uint8_t bytes[24 + 24];
    uint8_t welcome[24] = {1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 'B', 0, 0, 0, 2};
    size_t n = build(bytes, VGPU_LINK_WELCOME, 0, welcome, 24);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
        rig_receive(rig, bytes + i, 1);
    }
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 1);
    uint64_t seq = rig_submit(rig, 1024, 3);
    uint8_t response[24 + 8 + 1024];
    uint8_t payload[8 + 1024] = {0, 0, 0, 0, 0, 4};
    for (uint32_t i = 0; i < 1024; i++)
        payload[8 + i] = pattern(9, i);
    n = build(response, VGPU_LINK_RESPONSE, seq, payload, sizeof(payload));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
        rig_receive(rig, response + i, 1);
    }
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
    for (uint32_t i = 0; i < 1024; i++)
        assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF + i, 1), pattern(9, i));
}

/* Any cut of a stream of messages means the same. */
static void any_cut_of_the_stream_means_the_same(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[1024];
    uint8_t update[24] = {1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 'C', 0, 0, 0, 2};
    uint8_t payload[8 + 5] = {0, 0, 0, 0, 5, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'};
    for (size_t cut = 0; cut <= 24 + 24 + 24 + 13; cut++) {
        uint64_t seq = rig_submit(rig, 4, 1);
        update[8] = (uint8_t)cut;
        size_t n = build(bytes, VGPU_LINK_UPDATE, 0, update, sizeof(update));
        n += build(bytes + n, VGPU_LINK_RESPONSE, seq, payload, sizeof(payload));
        rig_receive(rig, bytes, cut);
        rig_receive(rig, bytes + cut, n - cut);
        assert_int_equal(rd32(rig, VGPU_REG_VM_ID), cut);
        assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
        assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF, 8),
                         get_le((const uint8_t *)"hello\0\0\0", 8));
    }
    assert_int_equal(rig->dev.stats.violations, 0);
}

static void look_at_loss(struct rig *rig)
{
    /* R14: when the completion is seen, the rest has happened. */
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 1);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'A');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 1);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 7);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_ERROR);
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

static void r14_the_order_of_a_loss(void **state)
{
    struct rig *rig = *state;
    rig_submit(rig, 4, 1);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig->on_interrupt = look_at_loss;
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_int_equal(rig->interrupts, 1);
    assert_int_equal(rig->deadline, 0);
    assert_int_equal(rig->closes, 0); /* it is closed: nothing to ask for */
}

static void r14_without_a_request_in_flight(void **state)
{
    struct rig *rig = *state;
    rig_respond(rig, rig_submit(rig, 4, 1), 0, "keep", 4);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_int_equal(rig->interrupts, 0);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE); /* the answer stays */
    assert_int_equal(peek(rig, VGPU_REG_RESPONSE_LEN), 4);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 1);
}

static void l13_nothing_of_the_old_connection_reaches_the_new_one(void **state)
{
    struct rig *rig = *state;
    rig->room = 50;
    rig_doorbell(rig, 500, 1);               /* half a REQUEST is out */
    rig_receive(rig, "VLNK\5\0\0\0\x10", 9); /* half a header is in */
    vgpu_device_link_closed(&rig->dev, rig->now);
    rig->room = SIZE_MAX;
    rig->tx_length = 0;
    rig_attach(rig); /* starts with a whole HELLO, and a whole WELCOME is understood */
    rig_expect_silence(rig);
    assert_int_equal(rig_submit(rig, 4, 2), 2);
}

static void a_second_connection_ends_the_first(void **state)
{
    struct rig *rig = *state;
    rig_submit(rig, 4, 1);
    vgpu_device_link_opened(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 1);
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome(rig, VGPU_LINK_WELCOME, 1, 'A', 0);
    rig_submit(rig, 4, 1);
}

static void a_send_that_fails_loses_the_link(void **state)
{
    struct rig *rig = *state;
    static const ssize_t errors[] = {-EPIPE, -EIO, -ECONNRESET, 100000 /* more than was asked */};
    for (unsigned i = 0; i < 4; i++) {
        rig->send_error = errors[i];
        rig_doorbell(rig, 4, 1);
        assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_ERROR);
        assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
        assert_int_equal(rig->closes, i + 1);
        assert_int_equal(rd32(rig, VGPU_REG_GENERATION), i + 1);
        assert_int_equal(rig->events[VGPU_DEVICE_LINK_FAILED], i + 1);
        rig->send_error = 0;
        rig_receive(rig, "whatever the peer still says", 28); /* nobody listens */
        vgpu_device_link_writable(&rig->dev, rig->now);
        rig_expect_silence(rig);
        vgpu_device_link_closed(&rig->dev, rig->now);
        assert_int_equal(rd32(rig, VGPU_REG_GENERATION), i + 1);
        rig_attach(rig);
    }
}

static void a_send_that_reports_the_end_itself(void **state)
{
    struct rig *rig = *state;
    rig->close_in_send = true;
    rig_doorbell(rig, 4, 1);
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    assert_int_equal(rig->closes, 0);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 1);
    assert_false(vgpu_device_link_wants_write(&rig->dev));
    rig_attach(rig);
    rig->close_in_send = true;
    rig->reopen_in_send = true;
    rig_doorbell(rig, 4, 1);
    assert_int_equal(rig_expect(rig, VGPU_LINK_HELLO), 0); /* of the new connection, whole */
    rig_expect_silence(rig);
    rig_welcome(rig, VGPU_LINK_WELCOME, 1, 'A', 0);
    rig_submit(rig, 4, 1);
    /* And from a RESET that finds the link gone. */
    rig->close_in_send = true;
    vgpu_device_reset(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
}

static void reset_in_send(struct rig *rig)
{
    rig->on_send = NULL;
    vgpu_device_reset(&rig->dev, rig->now);
}

/* Bytes that link_send has taken are out, even when it leads back into the device first. */
static void a_send_that_resets_the_device(void **state)
{
    struct rig *rig = *state;
    rig->on_send = reset_in_send;
    rig_doorbell(rig, 100, 1);
    assert_int_equal(rig_expect(rig, VGPU_LINK_REQUEST), 1);
    rig_expect(rig, VGPU_LINK_RESET);
    rig_expect_silence(rig);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    rig_respond(rig, 1, 0, NULL, 0);
    assert_int_equal(rig->dev.stats.responses_dropped, 1);
    assert_int_equal(rig_submit(rig, 4, 2), 2);
}

static void link_close_may_report_the_end_at_once(void **state)
{
    struct rig *rig = *state;
    rig->close_at_once = true;
    rig_submit(rig, 4, 1);
    rig_receive(rig, "garbage garbage garbage garbage", 31);
    assert_int_equal(rig->closes, 1);
    assert_int_equal(rig->events[VGPU_DEVICE_LINK_CLOSED], 1);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 1);
    assert_int_equal(vgpu_device_link_state(&rig->dev), VGPU_DEVICE_LINK_DOWN);
    rig_attach(rig);
}

static void events_without_a_link(void **state)
{
    struct rig *rig = *state;
    vgpu_device_link_closed(&rig->dev, rig->now);
    vgpu_device_link_writable(&rig->dev, rig->now);
    rig_receive(rig, "hello?", 6);
    vgpu_device_link_received(&rig->dev, NULL, 0, 3, rig->now);
    vgpu_device_timer(&rig->dev, rig->now);
    assert_int_equal(rig->dev.stats.violations, 0);
    assert_int_equal(rig->closes, 0);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 0);
}

#define T(f) VGPU_TEST_F(f, rig_setup, rig_teardown)
#define A(f) VGPU_TEST_F(f, rig_setup_attached, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(l3_hello_at_once_and_nothing_else_before_welcome),
        T(l4_unknown_feature_bits_are_no_violation),
        T(l6_a_refused_device_says_why_and_stays_as_it_was),
        A(l7_update_changes_the_registers_at_any_time),
        A(l8_numbers_are_never_used_twice),
        A(l9_one_request_outstanding),
        A(l10_cancel_has_no_payload),
        A(l11_an_answer_to_nothing_is_dropped_and_counted),
        A(l12_reset_replaces_all_that_waits),
        A(a_request_withdrawn_before_its_first_byte),
        T(l2_one_byte_at_a_time_in_both_directions),
        A(any_cut_of_the_stream_means_the_same),
        A(r14_the_order_of_a_loss),
        A(r14_without_a_request_in_flight),
        A(l13_nothing_of_the_old_connection_reaches_the_new_one),
        A(a_second_connection_ends_the_first),
        A(a_send_that_fails_loses_the_link),
        A(a_send_that_reports_the_end_itself),
        A(a_send_that_resets_the_device),
        A(link_close_may_report_the_end_at_once),
        T(events_without_a_link),
    };
    return cmocka_run_group_tests_name("device link", tests, NULL, NULL);
}
