/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From doorbell to completion, time-outs and reset: R6 to R12, R15, R17, R18. */
#include "rig.h"

#include <string.h>

static void complete_with(struct rig *rig, uint32_t error_code, uint32_t length)
{
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = pattern(77, i);
    rig_respond(rig, rig_submit(rig, 16, 1), error_code, bytes, length);
}

static void r6_the_order_of_the_checks(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint32_t length, error;
    } cases[] = {
        {0, VGPU_ERR_INVALID_LENGTH},
        {1025, VGPU_ERR_REQUEST_TOO_LARGE},
        {0xFFFFFFFF, VGPU_ERR_REQUEST_TOO_LARGE},
        {1, VGPU_ERR_MEDIATOR_UNAVAILABLE},
        {1024, VGPU_ERR_MEDIATOR_UNAVAILABLE},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        wr32(rig, VGPU_REG_INTERRUPT_STATUS, 1);
        wr32(rig, VGPU_REG_REQUEST_LEN, cases[i].length);
        rig->now += 5;
        wr32(rig, VGPU_REG_DOORBELL, 1);
        assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_ERROR);
        assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), cases[i].error);
        assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
        assert_int_equal(rig_read(rig, VGPU_REG_TIMESTAMP_LO, 8), rig->now);
        assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), 0);
    }
    rig_attach(rig);
    wr32(rig, VGPU_REG_REQUEST_LEN, 1025); /* the length is judged before the link */
    wr32(rig, VGPU_REG_DOORBELL, 1);
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_REQUEST_TOO_LARGE);
    rig_expect_silence(rig);
    rig_submit(rig, 1, 3);
    assert_int_equal(rig->deadline, rig->now + 1000 * MS);
}

static void r6_lengths_1_and_1024_are_carried(void **state)
{
    struct rig *rig = *state;
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t bytes[VGPU_MAILBOX_BYTES];
        uint32_t length = i ? 1024 : 1;
        memset(bytes, 0xA5, sizeof(bytes));
        rig_respond(rig, rig_submit(rig, length, i), 0, bytes, length);
        assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
        assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), length);
        for (uint32_t at = 0; at < 1024; at++)
            assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF + at, 1), at < length ? 0xA5 : 0);
    }
}

static void r6_a_doorbell_forgets_the_request_before(void **state)
{
    struct rig *rig = *state;
    complete_with(rig, VGPU_ERR_CUDA, 1024);
    rd32(rig, VGPU_REG_TIMESTAMP_LO); /* latch HI */
    rig_doorbell(rig, 8, 2);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), 0);
    assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), 0);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_HI), 0);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_LO), 0);
    assert_true(response_is_zero(rig));
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    /* The same for one that is refused at once. */
    rig_expect(rig, VGPU_LINK_REQUEST);
    rig_respond(rig, 2, 0, "xyz", 3);
    assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), 3);
    wr32(rig, VGPU_REG_REQUEST_LEN, 0);
    wr32(rig, VGPU_REG_DOORBELL, 1);
    assert_true(response_is_zero(rig));
    assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_INVALID_LENGTH);
}

static void r6_only_a_word_write_rings(void **state)
{
    struct rig *rig = *state;
    wr32(rig, VGPU_REG_REQUEST_LEN, 4);
    rig_write(rig, VGPU_REG_DOORBELL, 1, 1);
    rig_write(rig, VGPU_REG_DOORBELL, 1, 2);
    rig_write(rig, VGPU_REG_DOORBELL, 1, 3);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    rig_expect_silence(rig);
    rig_write(rig, VGPU_REG_DOORBELL, 0xFFFFFFFF00000001ull, 8); /* covers the word */
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
}

static void r7_what_is_in_flight_does_not_change(void **state)
{
    struct rig *rig = *state;
    rig->room = 5; /* the REQUEST is stuck half way */
    rig_doorbell(rig, 900, 40);
    for (uint32_t i = 0; i < VGPU_MAILBOX_BYTES; i += 8)
        rig_write(rig, VGPU_REG_REQUEST_BUF + i, 0, 8);
    wr32(rig, VGPU_REG_REQUEST_LEN, 3);
    wr32(rig, VGPU_REG_REQUEST_ID, 41);
    assert_int_equal(rd32(rig, VGPU_REG_REQUEST_LEN), 3); /* written all the same */
    assert_int_equal(rd32(rig, VGPU_REG_REQUEST_ID), 41);
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    struct rig_message m;
    assert_true(rig_take(rig, &m));
    assert_int_equal(get_le(m.payload, 4), 40);
    assert_int_equal(get_le(m.payload + 4, 4), 900);
    for (uint32_t i = 0; i < 900; i++)
        assert_int_equal(m.payload[8 + i], pattern(40, i));
}

static void look_at_completion(struct rig *rig)
{
    /* Inside the interrupt everything is there already. */
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    assert_int_equal(rig_read(rig, VGPU_REG_TIMESTAMP_LO, 8), rig->now);
    assert_int_equal(peek(rig, VGPU_REG_RESPONSE_LEN), 3);
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF, 2), 'a' | 'b' << 8);
}

static void r8_the_interrupt_comes_last(void **state)
{
    struct rig *rig = *state;
    rig->on_interrupt = look_at_completion;
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig_respond(rig, rig_submit(rig, 1, 1), 0, "abc", 3);
    assert_int_equal(rig->interrupts, 1);
    rig->on_interrupt = NULL;
    /* INTERRUPT_CTRL counts at the completion, not at the doorbell. */
    uint64_t seq = rig_submit(rig, 1, 1);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 0);
    rig_respond(rig, seq, 0, "abc", 3);
    assert_int_equal(rig->interrupts, 1);
    seq = rig_submit(rig, 1, 1);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig_respond(rig, seq, 0, "abc", 3);
    assert_int_equal(rig->interrupts, 2);
    wr32(rig, VGPU_REG_REQUEST_LEN, 0); /* the device's own completions raise it as well */
    wr32(rig, VGPU_REG_DOORBELL, 1);
    assert_int_equal(rig->interrupts, 3);
}

static void r8_error_code_decides_status_and_the_bytes_come_anyway(void **state)
{
    struct rig *rig = *state;
    static const uint32_t codes[] = {0, 1, 5, 0xB, 0xF0, 0xFF, 0x12345678, 0xFFFFFFFF};
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        complete_with(rig, codes[i], 9);
        assert_int_equal(rd32(rig, VGPU_REG_ERROR_CODE), codes[i]);
        assert_int_equal(rd32(rig, VGPU_REG_STATUS),
                         codes[i] ? VGPU_STATUS_ERROR : VGPU_STATUS_DONE);
        assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), 9);
        assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF + 8, 8), pattern(77, 8));
    }
}

static void r8_a_shorter_response_leaves_nothing_of_a_longer_one(void **state)
{
    struct rig *rig = *state;
    complete_with(rig, 0, 1024);
    complete_with(rig, 0, 2);
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF + 2, 8), 0);
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF + 1016, 8), 0);
}

static void r9_a_doorbell_while_busy_is_ignored_and_counted(void **state)
{
    struct rig *rig = *state;
    uint64_t seq = rig_submit(rig, 4, 1);
    uint64_t deadline = rig->deadline;
    for (unsigned i = 0; i < 1000; i++) {
        rig->now += 1000;
        wr32(rig, VGPU_REG_REQUEST_LEN, i); /* even one that would fail at once */
        wr32(rig, VGPU_REG_DOORBELL, 1);
    }
    assert_int_equal(rig->dev.stats.doorbells_ignored, 1000);
    assert_int_equal(rig->deadline, deadline);
    assert_true(rig->events[VGPU_DEVICE_GUEST_ERROR] <= 10);
    rig_expect_silence(rig);
    wr32(rig, VGPU_REG_DOORBELL, 0); /* and so is an acknowledgement */
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    assert_int_equal(rig->dev.stats.doorbells_ignored, 1000);
    rig_respond(rig, seq, 0, "ok", 2);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
}

static void r10_every_read_of_the_last_byte_acknowledges_and_no_other(void **state)
{
    struct rig *rig = *state;
    static const uint32_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 64, 1021, 1023, 1024};
    for (unsigned l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
        uint32_t last = VGPU_REG_RESPONSE_BUF + lengths[l] - 1;
        for (unsigned size = 1; size <= 8; size++) {
            for (uint32_t at = last - 10; at <= last + 3 && at + size <= 0x1000; at++) {
                complete_with(rig, l % 2 ? VGPU_ERR_CUDA : 0, lengths[l]);
                uint32_t before = peek(rig, VGPU_REG_STATUS);
                uint64_t want = 0;
                for (unsigned i = 0; i < size; i++) {
                    uint64_t byte = 0;
                    if (at + i >= VGPU_REG_RESPONSE_BUF && at + i <= last)
                        byte = pattern(77, at + i - VGPU_REG_RESPONSE_BUF);
                    else if (at + i < VGPU_REG_RESPONSE_BUF)
                        byte = rig_read(rig, at + i, 1);
                    want |= byte << (8 * i);
                }
                assert_int_equal(rig_read(rig, at, size), want);
                bool covers = at <= last && last < at + size;
                assert_int_equal(peek(rig, VGPU_REG_STATUS), covers ? VGPU_STATUS_IDLE : before);
                /* Nothing but STATUS changed. */
                assert_int_equal(peek(rig, VGPU_REG_RESPONSE_LEN), lengths[l]);
                assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
                assert_int_equal(rig_read(rig, at, size), want);
            }
        }
    }
}

static void r10_response_len_acknowledges_when_it_is_0(void **state)
{
    struct rig *rig = *state;
    complete_with(rig, VGPU_ERR_CUDA, 0);
    for (unsigned i = 0; i < 4; i++)
        rig_read(rig, VGPU_REG_RESPONSE_LEN + i, 1);
    rig_read(rig, VGPU_REG_RESPONSE_LEN, 2);
    rig_read(rig, VGPU_REG_RESPONSE_BUF, 8);
    rig_read(rig, VGPU_REG_RESPONSE_BUF - 1, 1);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_ERROR);
    assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), 0);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    assert_int_equal(peek(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_CUDA); /* kept */
    /* In an 8-byte read from 0x018 it is a word access as well. */
    complete_with(rig, 0, 0);
    rig_read(rig, VGPU_REG_REQUEST_LEN, 8);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    /* When it is not 0 reading it means nothing. */
    complete_with(rig, 0, 4);
    rd32(rig, VGPU_REG_RESPONSE_LEN);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
}

static void r10_doorbell_0_acknowledges(void **state)
{
    struct rig *rig = *state;
    complete_with(rig, 0, 4);
    rig_write(rig, VGPU_REG_DOORBELL, 0, 2);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
    wr32(rig, VGPU_REG_DOORBELL, 0);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    wr32(rig, VGPU_REG_DOORBELL, 0); /* once more means nothing */
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    assert_int_equal(peek(rig, VGPU_REG_RESPONSE_LEN), 4);
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF, 1), pattern(77, 0));
}

static void r10_reads_while_busy_acknowledge_nothing(void **state)
{
    struct rig *rig = *state;
    uint64_t seq = rig_submit(rig, 4, 1);
    rd32(rig, VGPU_REG_RESPONSE_LEN);
    assert_true(response_is_zero(rig));
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    rig_respond(rig, seq, 0, "x", 1);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
}

static void r12_a_time_out_completes_cancels_and_drops_the_late_answer(void **state)
{
    struct rig *rig = *state;
    uint64_t seq = rig_submit(rig, 4, 1);
    rig->now = rig->deadline - 1;
    vgpu_device_timer(&rig->dev, rig->now); /* early: armed again */
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    assert_int_equal(rig->deadline, rig->now + 1);
    rig->now++;
    vgpu_device_timer(&rig->dev, rig->now);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_ERROR);
    assert_int_equal(peek(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_TIMEOUT);
    assert_int_equal(peek(rig, VGPU_REG_RESPONSE_LEN), 0);
    assert_int_equal(rig->deadline, 0);
    assert_int_equal(rig_expect(rig, VGPU_LINK_CANCEL), seq);
    rig_respond(rig, seq, 0, "late", 4);
    assert_int_equal(peek(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_TIMEOUT);
    assert_true(response_is_zero(rig));
    assert_int_equal(rig->dev.stats.responses_dropped, 1);
    /* The late answer of the first is not the answer of the second. */
    uint64_t second = rig_submit(rig, 4, 1);
    assert_true(second > seq);
    rig_respond(rig, seq, 0, "late", 4);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    rig_respond(rig, second, 0, "good", 4);
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF, 4), get_le((const uint8_t *)"good", 4));
    vgpu_device_timer(&rig->dev, rig->now + 3600 * S); /* nothing in flight */
    assert_int_equal(rig->dev.stats.timeouts, 1);
    assert_int_equal(rig->dev.stats.responses_dropped, 2);
}

static void r15_reset_in_every_state(void **state)
{
    struct rig *rig = *state;
    for (unsigned s = 0; s < 4; s++) {
        uint64_t seq = 0;
        if (s == VGPU_STATUS_BUSY)
            seq = rig_submit(rig, 4, 1);
        else if (s != VGPU_STATUS_IDLE)
            complete_with(rig, s == VGPU_STATUS_ERROR ? VGPU_ERR_CUDA : 0, 100);
        rd32(rig, VGPU_REG_TIMESTAMP_LO);
        assert_int_equal(peek(rig, VGPU_REG_STATUS), s);
        wr32(rig, VGPU_REG_REQUEST_LEN, 5);
        wr32(rig, VGPU_REG_REQUEST_ID, 6);
        wr32(rig, VGPU_REG_SCRATCH, 7);
        wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
        wr32(rig, VGPU_REG_REQUEST_BUF + 1020, 8);
        uint32_t generation = rd32(rig, VGPU_REG_GENERATION);
        uint64_t completions = rig->dev.stats.completions;
        vgpu_device_reset(&rig->dev, rig->now);
        for (uint32_t at = 0; at < 0x840; at += 4) {
            static const uint32_t shown[][2] = {
                {VGPU_REG_POOL_ID, 'B'},    {VGPU_REG_PRIORITY, 2},           {VGPU_REG_VM_ID, 9},
                {VGPU_REG_CAPABILITIES, 3}, {VGPU_REG_PROTOCOL_VER, 0x10000},
            };
            uint32_t want = 0;
            for (unsigned i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
                if (shown[i][0] == at)
                    want = shown[i][1];
            assert_int_equal(peek(rig, at), want);
        }
        assert_int_equal(rd32(rig, VGPU_REG_GENERATION), generation + 1);
        assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 1);
        assert_int_equal(rig->dev.stats.completions, completions); /* no completion */
        assert_int_equal(rig->interrupts, 0);
        assert_int_equal(rig->deadline, 0);
        struct rig_message m;
        assert_true(rig_take(rig, &m));
        assert_int_equal(m.type, VGPU_LINK_RESET);
        assert_int_equal(m.seq, 0);
        assert_int_equal(m.length, 8);
        assert_int_equal(get_le(m.payload, 4), generation + 1);
        assert_int_equal(get_le(m.payload + 4, 4), 0);
        rig_expect_silence(rig); /* no CANCEL: the RESET is one */
        if (seq) {
            rig_respond(rig, seq, 0, "late", 4);
            assert_int_equal(rig->dev.stats.responses_dropped, 1);
            assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
        }
    }
}

static void r17_generation_moves_and_wraps(void **state)
{
    struct rig *rig = *state;
    uint32_t generation = rd32(rig, VGPU_REG_GENERATION);
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), generation + 1);
    vgpu_device_link_closed(&rig->dev, rig->now); /* lost already */
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), generation + 1);
    vgpu_device_link_opened(&rig->dev, rig->now); /* never attached: nothing to lose */
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), generation + 1);
    rig->dev.generation = UINT32_MAX;
    vgpu_device_reset(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), 0);
}

static void ring_again(struct rig *rig)
{
    wr32(rig, VGPU_REG_DOORBELL, 1);
    rig_write(rig, VGPU_REG_SCRATCH, 0xBAD, 4);
}

static void r18_an_interrupt_aimed_at_the_doorbell_does_not_recurse(void **state)
{
    struct rig *rig = *state;
    rig->on_interrupt = ring_again;
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    wr32(rig, VGPU_REG_DOORBELL, 1); /* REQUEST_LEN 0: would complete, raise, ring, ... */
    assert_int_equal(rig->interrupts, 1);
    assert_int_equal(rig->dev.stats.completions, 1);
    assert_int_equal(rd32(rig, VGPU_REG_SCRATCH), 0);
    assert_int_equal(rig->dev.stats.guest_errors, 2);
    rig_respond(rig, rig_submit(rig, 4, 1), 0, "abcd", 4);
    assert_int_equal(rig->interrupts, 2);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
    /* Afterwards the device listens again. */
    rig->on_interrupt = NULL;
    wr32(rig, VGPU_REG_SCRATCH, 3);
    assert_int_equal(rd32(rig, VGPU_REG_SCRATCH), 3);
}

static void reset_it(struct rig *rig)
{
    vgpu_device_reset(&rig->dev, rig->now);
}

static void unplug_it(struct rig *rig)
{
    vgpu_device_link_closed(&rig->dev, rig->now);
}

static void r18_an_interrupt_that_resets_or_unplugs_the_device(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[2 * (24 + 12)];
    uint8_t payload[12] = {0, 0, 0, 0, 4, 0, 0, 0, 'a', 'b', 'c', 'd'};
    /* Two answers in one piece: the second belongs to a guest that is gone. */
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig->on_interrupt = reset_it;
    uint64_t seq = rig_submit(rig, 4, 1);
    size_t n = build(bytes, VGPU_LINK_RESPONSE, seq, payload, 12);
    n += build(bytes + n, VGPU_LINK_RESPONSE, seq + 1, payload, 12);
    rig_receive(rig, bytes, n);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    rig_expect(rig, VGPU_LINK_RESET);
    assert_int_equal(rig->dev.stats.responses_dropped, 1);

    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig->on_interrupt = unplug_it;
    seq = rig_submit(rig, 4, 1);
    n = build(bytes, VGPU_LINK_RESPONSE, seq, payload, 12);
    n += build(bytes + n, VGPU_LINK_RESPONSE, seq + 1, payload, 12);
    rig_receive(rig, bytes, n);
    assert_int_equal(rig->dev.stats.responses_dropped, 1); /* the rest was not looked at */
    assert_false(vgpu_device_attached(&rig->dev));

    rig->on_interrupt = reset_it; /* and from inside a time-out: CANCEL is not needed then */
    rig_attach(rig);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig_submit(rig, 4, 1);
    rig->now = rig->deadline;
    vgpu_device_timer(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_RESET);
    rig_expect_silence(rig);
}

static void r18_status_is_never_stuck(void **state)
{
    struct rig *rig = *state;
    rig->room = 0; /* the mediator reads nothing at all */
    for (unsigned i = 0; i < 50; i++) {
        rig_doorbell(rig, 1024, i);
        assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
        assert_true(rig->deadline > rig->now);
        rig->now = rig->deadline;
        vgpu_device_timer(&rig->dev, rig->now);
        assert_int_equal(peek(rig, VGPU_REG_ERROR_CODE), VGPU_ERR_TIMEOUT);
    }
    assert_int_equal(rig->closes, 0);
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    rig_expect_silence(rig); /* what nobody waits for is not said */
    rig_submit(rig, 4, 99);
}

#define T(f) VGPU_TEST_F(f, rig_setup_attached, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(r6_the_order_of_the_checks, rig_setup, rig_teardown),
        T(r6_lengths_1_and_1024_are_carried),
        T(r6_a_doorbell_forgets_the_request_before),
        T(r6_only_a_word_write_rings),
        T(r7_what_is_in_flight_does_not_change),
        T(r8_the_interrupt_comes_last),
        T(r8_error_code_decides_status_and_the_bytes_come_anyway),
        T(r8_a_shorter_response_leaves_nothing_of_a_longer_one),
        T(r9_a_doorbell_while_busy_is_ignored_and_counted),
        T(r10_every_read_of_the_last_byte_acknowledges_and_no_other),
        T(r10_response_len_acknowledges_when_it_is_0),
        T(r10_doorbell_0_acknowledges),
        T(r10_reads_while_busy_acknowledge_nothing),
        T(r12_a_time_out_completes_cancels_and_drops_the_late_answer),
        T(r15_reset_in_every_state),
        T(r17_generation_moves_and_wraps),
        T(r18_an_interrupt_aimed_at_the_doorbell_does_not_recurse),
        T(r18_an_interrupt_that_resets_or_unplugs_the_device),
        T(r18_status_is_never_stuck),
    };
    return cmocka_run_group_tests_name("device mailbox", tests, NULL, NULL);
}
